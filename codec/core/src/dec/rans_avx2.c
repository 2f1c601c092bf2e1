/* rANS decoding from expanded tables, eight states at a time. */
#include "common/deps_simd.h"
#include "dec/rans.h"

#if NNB_X86_DISPATCH

#define LANES 8u
#define GROUPS (NNB_RANS_MAX_STATES / LANES)

/* For each set of lanes, which of the next words each of them takes. */
typedef struct word_orders {
  uint8_t of[256][LANES];
} word_orders;

static void fill_orders(word_orders *orders) {
  for (uint32_t set = 0; set < 256; set++) {
    uint8_t next = 0;
    for (uint32_t lane = 0; lane < LANES; lane++) {
      orders->of[set][lane] = next;
      next = (uint8_t)(next + (set >> lane & 1u));
    }
  }
}

/* One by one, which is faster than a gather. */
NNB_AVX2_INLINE __m256i load_entries(const uint32_t *entries, __m256i index) {
  uint32_t at[LANES];
  _mm256_storeu_si256((__m256i *)(void *)at, index);
  return _mm256_setr_epi32((int)entries[at[0]], (int)entries[at[1]], (int)entries[at[2]], (int)entries[at[3]],
                           (int)entries[at[4]], (int)entries[at[5]], (int)entries[at[6]], (int)entries[at[7]]);
}

/* How the tables of eight contexts are found. */
typedef enum map_kind { MAP_ANY, MAP_REPEATS, MAP_STAYS } map_kind;

/* Whether a map has 16 values again and again, or its first 16 and then the last of these: one shuffle. */
static map_kind find_map_kind(const uint8_t *map) {
  int repeats = 1, stays = 1;
  for (uint32_t i = 16; i < 256; i++) {
    repeats &= map[i] == map[i & 15u];
    stays &= map[i] == map[15];
  }
  return repeats ? MAP_REPEATS : stays ? MAP_STAYS : MAP_ANY;
}

/* Offsets of the tables of eight contexts. `kind` is a constant. */
NNB_AVX2_INLINE __m256i find_tables(const uint8_t *map, map_kind kind, const uint8_t *contexts) {
  __m128i tables;
  if (kind == MAP_ANY) {
    uint64_t eight = 0;
    for (uint32_t j = 0; j < LANES; j++) eight |= (uint64_t)map[contexts[j]] << (8 * j);
    tables = _mm_cvtsi64_si128((long long)eight);
  } else {
    const __m128i all = _mm_loadl_epi64((const __m128i *)(const void *)contexts), last = _mm_set1_epi8(15);
    tables = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)map),
                              kind == MAP_REPEATS ? _mm_and_si128(all, last) : _mm_min_epu8(all, last));
  }
  return _mm256_slli_epi32(_mm256_cvtepu8_epi32(tables), NNB_RANS_BITS);
}

NNB_AVX2_INLINE void decode_rounds(nnb_rans_job *job, const uint32_t *entries, const uint8_t *contexts, map_kind kind) {
  word_orders orders;
  __m256i x[GROUPS];
  const __m256i slot_mask = _mm256_set1_epi32((int)(NNB_RANS_SLOTS - 1));
  const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  const uint8_t *const end = job->end;
  const uint8_t *next = job->next;
  const size_t count = job->count;
  uint8_t *const symbols = job->symbols;
  size_t i = job->done;
  fill_orders(&orders);
  for (uint32_t g = 0; g < GROUPS; g++)
    x[g] = _mm256_loadu_si256((const __m256i *)(const void *)(job->states + LANES * g));
  while (count - i >= NNB_RANS_MAX_STATES && (size_t)(end - next) >= 2 * NNB_RANS_MAX_STATES) {
    for (uint32_t g = 0; g < GROUPS; g += 4) {
      __m256i entry[4];
      for (uint32_t k = 0; k < 4; k++) {
        __m256i index = _mm256_and_si256(x[g + k], slot_mask);
        if (contexts != NULL)
          index = _mm256_add_epi32(index, find_tables(job->context_map, kind, contexts + i + LANES * (g + k)));
        entry[k] = load_entries(entries, index);
      }
      for (uint32_t k = 0; k < 4; k++) {
        const __m256i frequency =
            _mm256_add_epi32(_mm256_and_si256(_mm256_srli_epi32(entry[k], 8), slot_mask), _mm256_set1_epi32(1));
        const __m256i rank = _mm256_srli_epi32(entry[k], 20);
        const __m256i y =
            _mm256_add_epi32(_mm256_mullo_epi32(frequency, _mm256_srli_epi32(x[g + k], NNB_RANS_BITS)), rank);
        const __m256i low = _mm256_cmpeq_epi32(_mm256_srli_epi32(y, 16), _mm256_setzero_si256());
        const uint32_t set = (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(low));
        const __m256i order = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)orders.of[set]));
        const __m256i words = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)next));
        const __m256i filled = _mm256_or_si256(_mm256_slli_epi32(y, 16), _mm256_permutevar8x32_epi32(words, order));
        x[g + k] = _mm256_blendv_epi8(y, filled, low);
        next += 2 * (size_t)_mm_popcnt_u32(set);
        entry[k] = _mm256_and_si256(entry[k], _mm256_set1_epi32(255));
      }
      const __m256i bytes =
          _mm256_packus_epi16(_mm256_packus_epi32(entry[0], entry[1]), _mm256_packus_epi32(entry[2], entry[3]));
      _mm256_storeu_si256((__m256i *)(void *)(symbols + i + LANES * g), _mm256_permutevar8x32_epi32(bytes, in_order));
    }
    i += NNB_RANS_MAX_STATES;
  }
  job->next = next;
  job->done = i;
  for (uint32_t g = 0; g < GROUPS; g++) _mm256_storeu_si256((__m256i *)(void *)(job->states + LANES * g), x[g]);
}

#define NNB_RANS_DECODER(name, contexts, kind)                                         \
  NNB_AVX2 NNB_NOINLINE static void name(nnb_rans_job *job, const uint32_t *entries) { \
    decode_rounds(job, entries, contexts, kind);                                       \
  }
NNB_RANS_DECODER(decode, NULL, MAP_ANY)
NNB_RANS_DECODER(decode_any, job->contexts, MAP_ANY)
NNB_RANS_DECODER(decode_repeats, job->contexts, MAP_REPEATS)
NNB_RANS_DECODER(decode_stays, job->contexts, MAP_STAYS)
#undef NNB_RANS_DECODER

void nnb_rans_decode_avx2(nnb_rans_job *job, const uint32_t *entries) {
  static void (*const decoders[3])(nnb_rans_job *, const uint32_t *) = {decode_any, decode_repeats, decode_stays};
  (job->contexts == NULL ? decode : decoders[find_map_kind(job->context_map)])(job, entries);
}

/*
 * Without expanded tables: rows are found by shuffles of bytes, and the 64 states are kept as upper and lower halves of
 * 16 bits, 16 states to a register. Of each 32 states, A has numbers 0..7 and 16..23, B the others: packing A and B to
 * bytes gives them in order, unpacking gives A and B again.
 */

/* A byte of each row. Part 0 has rows 0..15; part j > 0 has by what rows 16 j .. 16 j + 15 differ from those before. */
typedef struct row_bytes {
  uint8_t part[NNB_RANS_AVX2_ROWS / 16][32];
} row_bytes;

/* [2]: lower and upper byte. `alias` is by what the numbers of the two rows differ, `frequency` 16 times as large. */
typedef struct row_fields {
  row_bytes split, alias, alias_rank[2], frequency[2], symbol;
} row_fields;

/* For each set of eight lanes, the bytes of the next words that each of them takes. */
typedef struct lane_orders {
  uint8_t of[256][16];
} lane_orders;

static void fill_lane_orders(lane_orders *orders) {
  for (uint32_t set = 0; set < 256; set++) {
    uint8_t next = 0;
    for (uint32_t lane = 0; lane < 8; lane++) {
      const int takes = set >> lane & 1u;
      orders->of[set][2 * lane] = takes ? next : 128; /* 128 gives zero */
      orders->of[set][2 * lane + 1] = takes ? (uint8_t)(next + 1) : 128;
      next = (uint8_t)(next + 2 * takes);
    }
  }
}

static void fill_bytes(row_bytes *bytes, const uint8_t *of) {
  for (uint32_t i = 0; i < NNB_RANS_AVX2_ROWS; i++) {
    const uint8_t byte = (uint8_t)(of[i] ^ (i < 16 ? 0 : of[i - 16]));
    bytes->part[i / 16][i % 16] = byte;
    bytes->part[i / 16][i % 16 + 16] = byte;
  }
}

/* Offsets in a bucket have to fit in a byte: buckets of more than 256 slots are divided into rows of 256. */
static void fill_fields(row_fields *fields, const nnb_rans_model *model) {
  const uint32_t bits = model->bucket_bits < 4 ? 4 : model->bucket_bits, finer = bits - model->bucket_bits;
  const uint32_t width = NNB_RANS_SLOTS >> bits;
  uint8_t of[7][NNB_RANS_AVX2_ROWS] = {{0}};
  for (uint32_t i = 0; i < 1u << bits; i++) {
    const uint32_t bucket = i >> finer, start = (i - (bucket << finer)) * width;
    const nnb_rans_row *const row = model->rows + bucket;
    const int own = start + width <= row->split; /* all of it, for which it is its own alias */
    const uint32_t alias_rank = own ? 0 : row->alias_rank;
    of[0][i] = (uint8_t)(own || row->split < start ? 0 : row->split - start);
    of[1][i] = (uint8_t)(own ? 0 : i ^ (uint32_t)row->alias << finer);
    of[2][i] = (uint8_t)alias_rank;
    of[3][i] = (uint8_t)(alias_rank >> 8);
    of[4][i] = (uint8_t)(row->frequency << 4);
    of[5][i] = (uint8_t)(row->frequency >> 4);
    of[6][i] = row->symbol;
  }
  row_bytes *const all[7] = {&fields->split,         &fields->alias,        &fields->alias_rank[0],
                             &fields->alias_rank[1], &fields->frequency[0], &fields->frequency[1],
                             &fields->symbol};
  for (uint32_t k = 0; k < 7; k++) fill_bytes(all[k], of[k]);
}

/* Row numbers, and these less 16, 32 and 48: shuffles make 0 of what is negative. */
typedef struct row_numbers {
  __m256i less[NNB_RANS_AVX2_ROWS / 16];
} row_numbers;

NNB_AVX2_INLINE row_numbers number_rows(__m256i row, int parts) {
  row_numbers numbers;
  numbers.less[0] = row;
  for (int j = 1; j < parts; j++) numbers.less[j] = _mm256_sub_epi8(row, _mm256_set1_epi8((char)(16 * j)));
  return numbers;
}

NNB_AVX2_INLINE __m256i find_bytes(const row_bytes *bytes, const row_numbers *numbers, int parts) {
  __m256i found = _mm256_setzero_si256();
  for (int j = 0; j < parts; j++) {
    const __m256i part = _mm256_loadu_si256((const __m256i *)(const void *)bytes->part[j]);
    found = _mm256_xor_si256(found, _mm256_shuffle_epi8(part, numbers->less[j]));
  }
  return found;
}

/* Upper and lower halves of 16 states. */
typedef struct half_lanes {
  __m256i low, high;
} half_lanes;

/* States 0..7 and 16..23 from `states` on. */
NNB_AVX2_INLINE half_lanes load_half(const uint32_t *states) {
  uint16_t low[16], high[16];
  for (uint32_t lane = 0; lane < 16; lane++) {
    low[lane] = (uint16_t)states[lane + (lane & 8u)];
    high[lane] = (uint16_t)(states[lane + (lane & 8u)] >> 16);
  }
  return (half_lanes){_mm256_loadu_si256((const __m256i *)(const void *)low),
                      _mm256_loadu_si256((const __m256i *)(const void *)high)};
}

NNB_AVX2_INLINE void store_half(uint32_t *states, half_lanes x) {
  uint16_t low[16], high[16];
  _mm256_storeu_si256((__m256i *)(void *)low, x.low);
  _mm256_storeu_si256((__m256i *)(void *)high, x.high);
  for (uint32_t lane = 0; lane < 16; lane++) states[lane + (lane & 8u)] = (uint32_t)high[lane] << 16 | low[lane];
}

/*
 * New states but for the words that come in; returns which states want one. With 16 times the frequency,
 * frequency * (x >> 12) is 16 * frequency * high + frequency * (low >> 12), and the latter with the rank fits in 16
 * bits.
 */
NNB_AVX2_INLINE __m256i advance(half_lanes *x, __m256i frequency, __m256i rank) {
  const __m256i rest = _mm256_and_si256(x->low, _mm256_set1_epi16((short)0xF000));
  const __m256i above = _mm256_add_epi16(_mm256_mulhi_epu16(frequency, rest), rank);
  const __m256i low = _mm256_add_epi16(_mm256_mullo_epi16(frequency, x->high), above);
  const __m256i carry = _mm256_min_epu16(_mm256_subs_epu16(above, low), _mm256_set1_epi16(1));
  const __m256i high = _mm256_add_epi16(_mm256_mulhi_epu16(frequency, x->high), carry);
  const __m256i empty = _mm256_cmpeq_epi16(high, _mm256_setzero_si256());
  x->low = _mm256_andnot_si256(empty, low);
  x->high = _mm256_or_si256(high, _mm256_and_si256(empty, low));
  return empty;
}

/* 16 bytes from each. */
NNB_AVX2_INLINE __m256i load_two(const uint8_t *lower, const uint8_t *upper) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)lower)),
                                 _mm_loadu_si128((const __m128i *)(const void *)upper), 1);
}

/* 32 symbols. `bits` of a slot say its row; they and `wide`, buckets of more than 256 slots, are constants. */
NNB_AVX2_INLINE const uint8_t *decode_half(half_lanes *a, half_lanes *b, const row_fields *fields,
                                           const lane_orders *orders, __m256i offset_mask, int bits, int wide,
                                           uint8_t *symbols, const uint8_t *next) {
  const int parts = 1 << bits >> 4;
  const __m256i row_mask = _mm256_set1_epi16((short)((1 << bits) - 1));
  const __m256i offset_a = _mm256_and_si256(a->low, offset_mask);
  const __m256i offset_b = _mm256_and_si256(b->low, offset_mask);
  const __m256i row = _mm256_packus_epi16(_mm256_and_si256(_mm256_srli_epi16(a->low, NNB_RANS_BITS - bits), row_mask),
                                          _mm256_and_si256(_mm256_srli_epi16(b->low, NNB_RANS_BITS - bits), row_mask));
  const __m256i in_row = wide ? _mm256_packus_epi16(_mm256_and_si256(a->low, _mm256_set1_epi16(255)),
                                                    _mm256_and_si256(b->low, _mm256_set1_epi16(255)))
                              : _mm256_packus_epi16(offset_a, offset_b);
  const row_numbers rows = number_rows(row, parts);
  const __m256i split = find_bytes(&fields->split, &rows, parts);
  const __m256i other = _mm256_cmpeq_epi8(_mm256_max_epu8(in_row, split), in_row);
  const __m256i owner = _mm256_xor_si256(row, _mm256_and_si256(other, find_bytes(&fields->alias, &rows, parts)));
  const __m256i rank0 = _mm256_and_si256(other, find_bytes(&fields->alias_rank[0], &rows, parts));
  const __m256i rank1 = _mm256_and_si256(other, find_bytes(&fields->alias_rank[1], &rows, parts));
  const row_numbers owners = number_rows(owner, parts);
  const __m256i frequency0 = find_bytes(&fields->frequency[0], &owners, parts);
  const __m256i frequency1 = find_bytes(&fields->frequency[1], &owners, parts);
  const __m256i want_a = advance(a, _mm256_unpacklo_epi8(frequency0, frequency1),
                                 _mm256_add_epi16(offset_a, _mm256_unpacklo_epi8(rank0, rank1)));
  const __m256i want_b = advance(b, _mm256_unpackhi_epi8(frequency0, frequency1),
                                 _mm256_add_epi16(offset_b, _mm256_unpackhi_epi8(rank0, rank1)));
  const uint32_t set = (uint32_t)_mm256_movemask_epi8(_mm256_packs_epi16(want_a, want_b));
  const uint8_t *const next1 = next + 2 * (size_t)_mm_popcnt_u32(set & 0xFFu);
  const uint8_t *const next2 = next + 2 * (size_t)_mm_popcnt_u32(set & 0xFFFFu);
  const uint8_t *const next3 = next + 2 * (size_t)_mm_popcnt_u32(set & 0xFFFFFFu);
  a->low = _mm256_or_si256(a->low, _mm256_shuffle_epi8(load_two(next, next2), load_two(orders->of[set & 0xFFu],
                                                                                       orders->of[set >> 16 & 0xFFu])));
  b->low = _mm256_or_si256(b->low, _mm256_shuffle_epi8(load_two(next1, next3),
                                                       load_two(orders->of[set >> 8 & 0xFFu], orders->of[set >> 24])));
  _mm256_storeu_si256((__m256i *)(void *)symbols, find_bytes(&fields->symbol, &owners, parts));
  return next + 2 * (size_t)_mm_popcnt_u32(set);
}

NNB_AVX2_INLINE void decode_rows(nnb_rans_job *job, int bits, int wide) {
  lane_orders orders;
  row_fields fields;
  const __m256i offset_mask = _mm256_set1_epi16((short)((NNB_RANS_SLOTS >> job->model->bucket_bits) - 1));
  const uint8_t *const end = job->end;
  const uint8_t *next = job->next;
  const size_t count = job->count;
  uint8_t *const symbols = job->symbols;
  size_t i = job->done;
  half_lanes x0 = load_half(job->states), x1 = load_half(job->states + 8);
  half_lanes x2 = load_half(job->states + 32), x3 = load_half(job->states + 40);
  fill_lane_orders(&orders);
  fill_fields(&fields, job->model);
  while (count - i >= NNB_RANS_MAX_STATES && (size_t)(end - next) >= 2 * NNB_RANS_MAX_STATES) {
    next = decode_half(&x0, &x1, &fields, &orders, offset_mask, bits, wide, symbols + i, next);
    next = decode_half(&x2, &x3, &fields, &orders, offset_mask, bits, wide, symbols + i + 32, next);
    i += NNB_RANS_MAX_STATES;
  }
  job->next = next;
  job->done = i;
  store_half(job->states, x0), store_half(job->states + 8, x1);
  store_half(job->states + 32, x2), store_half(job->states + 40, x3);
}

#define NNB_RANS_DECODER(name, bits, wide) \
  NNB_AVX2 NNB_NOINLINE static void name(nnb_rans_job *job) { decode_rows(job, bits, wide); }
NNB_RANS_DECODER(decode_16_wide, 4, 1)
NNB_RANS_DECODER(decode_16, 4, 0)
NNB_RANS_DECODER(decode_32, 5, 0)
NNB_RANS_DECODER(decode_64, 6, 0)

void nnb_rans_decode_avx2_rows(nnb_rans_job *job) {
  static void (*const decoders[7])(nnb_rans_job *) = {decode_16_wide, decode_16_wide, decode_16_wide, decode_16_wide,
                                                      decode_16,      decode_32,      decode_64};
  decoders[job->model->bucket_bits](job);
}

#else
typedef int nnb_rans_no_avx2; /* a translation unit is never empty */
#endif

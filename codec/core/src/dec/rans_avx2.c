/*
 * rANS decoding with AVX2. The 64 states are kept as upper and lower halves of 16 bits, 16 states to a register. Of
 * each 32 states, A has numbers 0..7 and 16..23, B the others: packing A and B to bytes gives them in order, unpacking
 * gives A and B again. Fewer states are the first ones; of 16, the upper lanes of A and B take no words.
 */
#include "common/deps_simd.h"
#include "dec/rans.h"

#if NNB_X86_DISPATCH

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

/* A and B of all states, or of the first 32, whatever lies behind the first 16. */
NNB_AVX2_INLINE void load_states(const uint32_t *from, uint32_t states, half_lanes *x) {
  for (uint32_t i = 0; i < (states == 64 ? 2 : 1); i++) {
    x[2 * i] = load_half(from + 32 * i);
    x[2 * i + 1] = load_half(from + 32 * i + 8);
  }
}

NNB_AVX2_INLINE void store_states(uint32_t *to, uint32_t states, const half_lanes *x) {
  for (uint32_t i = 0; i < (states == 64 ? 2 : 1); i++) {
    store_half(to + 32 * i, x[2 * i]);
    store_half(to + 32 * i + 8, x[2 * i + 1]);
  }
}

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

/* 16 bytes from each. */
NNB_AVX2_INLINE __m256i load_two(const uint8_t *lower, const uint8_t *upper) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)lower)),
                                 _mm_loadu_si128((const __m128i *)(const void *)upper), 1);
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

/* The words that come in; returns where the next ones are. */
NNB_AVX2_INLINE const uint8_t *take_words(const lane_orders *orders, uint32_t states, half_lanes *a, half_lanes *b,
                                          __m256i want_a, __m256i want_b, const uint8_t *next) {
  uint32_t set = (uint32_t)_mm256_movemask_epi8(_mm256_packs_epi16(want_a, want_b));
  if (states == 16) set &= 0xFFFFu;
  const uint8_t *const next1 = next + 2 * (size_t)_mm_popcnt_u32(set & 0xFFu);
  const uint8_t *const next2 = next + 2 * (size_t)_mm_popcnt_u32(set & 0xFFFFu);
  const uint8_t *const next3 = next + 2 * (size_t)_mm_popcnt_u32(set & 0xFFFFFFu);
  const __m256i order_a = load_two(orders->of[set & 0xFFu], orders->of[set >> 16 & 0xFFu]);
  const __m256i order_b = load_two(orders->of[set >> 8 & 0xFFu], orders->of[set >> 24]);
  a->low = _mm256_or_si256(a->low, _mm256_shuffle_epi8(load_two(next, next2), order_a));
  b->low = _mm256_or_si256(b->low, _mm256_shuffle_epi8(load_two(next1, next3), order_b));
  return next + 2 * (size_t)_mm_popcnt_u32(set);
}

/* Place of 64, 32 and 16 states in lists of decoders. */
static unsigned index_of(uint32_t states) { return states == 64 ? 0 : states == 32 ? 1 : 2; }

/* ---- from expanded tables ---- */

/* How the tables of contexts are found. */
typedef enum map_kind { MAP_ANY, MAP_REPEATS, MAP_STAYS, MAP_NONE } map_kind;

/* Whether a map has 16 values again and again, or its first 16 and then the last of these: one shuffle. */
static map_kind find_map_kind(const uint8_t *map) {
  int repeats = 1, stays = 1;
  for (uint32_t i = 16; i < 256; i++) {
    repeats &= map[i] == map[i & 15u];
    stays &= map[i] == map[15];
  }
  return repeats ? MAP_REPEATS : stays ? MAP_STAYS : MAP_ANY;
}

/* Where the tables of 32 contexts begin, of A and of B. `kind` is a constant; contexts of MAP_ANY are tables. */
NNB_AVX2_INLINE void find_tables(const uint8_t *map, map_kind kind, const uint8_t *contexts, __m256i *a, __m256i *b) {
  __m256i tables = _mm256_loadu_si256((const __m256i *)(const void *)contexts);
  if (kind != MAP_ANY) {
    const __m256i first = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)map));
    const __m256i last = _mm256_set1_epi8(15);
    tables = _mm256_shuffle_epi8(first,
                                 kind == MAP_REPEATS ? _mm256_and_si256(tables, last) : _mm256_min_epu8(tables, last));
  }
  *a = _mm256_slli_epi16(_mm256_unpacklo_epi8(tables, tables), NNB_RANS_BITS);
  *b = _mm256_slli_epi16(_mm256_unpackhi_epi8(tables, tables), NNB_RANS_BITS);
}

/* Four entries, one by one, which is faster than a gather. */
NNB_AVX2_INLINE __m128i load_entries(const uint32_t *entries, uint64_t index) {
  return _mm_setr_epi32((int)entries[index & 0xFFFFu], (int)entries[index >> 16 & 0xFFFFu],
                        (int)entries[index >> 32 & 0xFFFFu], (int)entries[index >> 48]);
}

NNB_AVX2_INLINE __m256i join(__m128i lower, __m128i upper) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(lower), upper, 1);
}

/* Upper and lower halves of the entries of 16 states. */
NNB_AVX2_INLINE half_lanes find_entries(const uint32_t *entries, __m256i index) {
  const __m128i lower = _mm256_castsi256_si128(index), upper = _mm256_extracti128_si256(index, 1);
  const __m256i first = join(load_entries(entries, (uint64_t)_mm_cvtsi128_si64(lower)),
                             load_entries(entries, (uint64_t)_mm_cvtsi128_si64(upper)));
  const __m256i second = join(load_entries(entries, (uint64_t)_mm_extract_epi64(lower, 1)),
                              load_entries(entries, (uint64_t)_mm_extract_epi64(upper, 1)));
  const __m256i low = _mm256_set1_epi32(0xFFFF);
  return (half_lanes){_mm256_packus_epi32(_mm256_and_si256(first, low), _mm256_and_si256(second, low)),
                      _mm256_packus_epi32(_mm256_srli_epi32(first, 16), _mm256_srli_epi32(second, 16))};
}

NNB_AVX2_INLINE __m256i advance_by(half_lanes *x, half_lanes entry) {
  const __m256i below = _mm256_and_si256(_mm256_srli_epi16(entry.low, 4), _mm256_set1_epi16(0xFF0));
  const __m256i frequency = _mm256_or_si256(below, _mm256_slli_epi16(entry.high, 12)); /* 16 times, less 16 */
  return advance(x, _mm256_add_epi16(frequency, _mm256_set1_epi16(16)), _mm256_srli_epi16(entry.high, 4));
}

/* Entries of 32 states; `contexts` may be the constant NULL. */
NNB_AVX2_INLINE void find_both(const half_lanes *a, const half_lanes *b, const uint32_t *entries, const uint8_t *map,
                               map_kind kind, const uint8_t *contexts, half_lanes *entry_a, half_lanes *entry_b) {
  const __m256i slot_mask = _mm256_set1_epi16(NNB_RANS_SLOTS - 1);
  __m256i at_a = _mm256_and_si256(a->low, slot_mask), at_b = _mm256_and_si256(b->low, slot_mask);
  if (contexts != NULL) {
    __m256i table_a, table_b;
    find_tables(map, kind, contexts, &table_a, &table_b);
    at_a = _mm256_or_si256(at_a, table_a);
    at_b = _mm256_or_si256(at_b, table_b);
  }
  *entry_a = find_entries(entries, at_a);
  *entry_b = find_entries(entries, at_b);
}

/* 32 symbols, or 16 and 16 more that mean nothing. */
NNB_AVX2_INLINE const uint8_t *decode_half(half_lanes *a, half_lanes *b, half_lanes entry_a, half_lanes entry_b,
                                           const lane_orders *orders, uint32_t states, uint8_t *symbols,
                                           const uint8_t *next) {
  const __m256i byte_mask = _mm256_set1_epi16(255);
  const __m256i want_a = advance_by(a, entry_a), want_b = advance_by(b, entry_b);
  const __m256i found =
      _mm256_packus_epi16(_mm256_and_si256(entry_a.low, byte_mask), _mm256_and_si256(entry_b.low, byte_mask));
  _mm256_storeu_si256((__m256i *)(void *)symbols, found);
  return take_words(orders, states, a, b, want_a, want_b, next);
}

/* Whether a round can be decoded: of 16 states, 32 symbols are stored and contexts read, and 64 bytes of words. */
NNB_AVX2_INLINE int round_fits(const nnb_rans_job *job, uint32_t states, size_t done, const uint8_t *next) {
  const uint32_t room = states < 32 ? 32 : states;
  return job->count - done >= room && (size_t)(job->end - next) >= 2 * room;
}

/* `states` is 64, 32 or 16, and a constant. */
NNB_AVX2_INLINE void decode_rounds(nnb_rans_job *job, const uint32_t *entries, uint32_t states, const uint8_t *contexts,
                                   map_kind kind) {
  lane_orders orders;
  const uint8_t *next = job->next;
  const size_t count = job->count;
  uint8_t *const symbols = job->symbols;
  const uint8_t *const map = job->context_map;
  uint8_t tables[1024 + 16]; /* of contexts, which are translated well before vectors of them are wanted */
  size_t i = job->done;
  half_lanes x[4];
  load_states(job->states, states, x);
  fill_lane_orders(&orders);
  while (round_fits(job, states, i, next)) {
    const uint8_t *some = contexts == NULL ? NULL : contexts + i;
    if (contexts != NULL && kind == MAP_ANY) {
      const size_t at = (i - job->done) % 1024;
      for (size_t j = 0; at == 0 && j < sizeof tables && j < count - i; j++) tables[j] = map[contexts[i + j]];
      some = tables + at;
    }
    const uint8_t *const more = contexts == NULL ? NULL : some + 32;
    half_lanes entry[4];
    find_both(&x[0], &x[1], entries, map, kind, some, &entry[0], &entry[1]);
    if (states == 64) find_both(&x[2], &x[3], entries, map, kind, more, &entry[2], &entry[3]);
    next = decode_half(&x[0], &x[1], entry[0], entry[1], &orders, states, symbols + i, next);
    if (states == 64) next = decode_half(&x[2], &x[3], entry[2], entry[3], &orders, states, symbols + i + 32, next);
    i += states;
  }
  job->next = next;
  job->done = i;
  store_states(job->states, states, x);
}

#define NNB_RANS_DECODER(name, states, contexts, kind)                                 \
  NNB_AVX2 NNB_NOINLINE static void name(nnb_rans_job *job, const uint32_t *entries) { \
    decode_rounds(job, entries, states, contexts, kind);                               \
  }
#define NNB_RANS_DECODERS(states)                                                \
  NNB_RANS_DECODER(decode##states, states, NULL, MAP_ANY)                        \
  NNB_RANS_DECODER(decode##states##_any, states, job->contexts, MAP_ANY)         \
  NNB_RANS_DECODER(decode##states##_repeats, states, job->contexts, MAP_REPEATS) \
  NNB_RANS_DECODER(decode##states##_stays, states, job->contexts, MAP_STAYS)
NNB_RANS_DECODERS(64)
NNB_RANS_DECODERS(32)
NNB_RANS_DECODERS(16)
#undef NNB_RANS_DECODERS
#undef NNB_RANS_DECODER

void nnb_rans_decode_avx2(nnb_rans_job *job, const uint32_t *entries) {
  static void (*const decoders[3][4])(nnb_rans_job *, const uint32_t *) = {
      {decode64_any, decode64_repeats, decode64_stays, decode64},
      {decode32_any, decode32_repeats, decode32_stays, decode32},
      {decode16_any, decode16_repeats, decode16_stays, decode16}};
  const map_kind kind = job->contexts == NULL ? MAP_NONE : find_map_kind(job->context_map);
  decoders[index_of(job->state_count)][kind](job, entries);
}

/* ---- without: rows are found by shuffles of bytes ---- */

/* A byte of each row. Part 0 has rows 0..15; part j > 0 has by what rows 16 j .. 16 j + 15 differ from those before. */
typedef struct row_bytes {
  uint8_t part[NNB_RANS_AVX2_ROWS / 16][32];
} row_bytes;

/* [2]: lower and upper byte. `alias` is by what the numbers of the two rows differ, `frequency` 16 times as large. */
typedef struct row_fields {
  row_bytes split, alias, alias_rank[2], frequency[2], symbol;
} row_fields;

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

/* 32 symbols, as decode_half(). `bits` of a slot say its row; they and `wide`, buckets of more than 256 slots, are
 * constants. */
NNB_AVX2_INLINE const uint8_t *decode_rows_half(half_lanes *a, half_lanes *b, const row_fields *fields,
                                                const lane_orders *orders, uint32_t states, __m256i offset_mask,
                                                int bits, int wide, uint8_t *symbols, const uint8_t *next) {
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
  _mm256_storeu_si256((__m256i *)(void *)symbols, find_bytes(&fields->symbol, &owners, parts));
  return take_words(orders, states, a, b, want_a, want_b, next);
}

NNB_AVX2_INLINE void decode_rows(nnb_rans_job *job, uint32_t states, int bits, int wide) {
  lane_orders orders;
  row_fields fields;
  const __m256i offset_mask = _mm256_set1_epi16((short)((NNB_RANS_SLOTS >> job->model->bucket_bits) - 1));
  const uint8_t *next = job->next;
  uint8_t *const symbols = job->symbols;
  size_t i = job->done;
  half_lanes x[4];
  load_states(job->states, states, x);
  fill_lane_orders(&orders);
  fill_fields(&fields, job->model);
  while (round_fits(job, states, i, next)) {
    next = decode_rows_half(&x[0], &x[1], &fields, &orders, states, offset_mask, bits, wide, symbols + i, next);
    if (states == 64)
      next = decode_rows_half(&x[2], &x[3], &fields, &orders, states, offset_mask, bits, wide, symbols + i + 32, next);
    i += states;
  }
  job->next = next;
  job->done = i;
  store_states(job->states, states, x);
}

#define NNB_RANS_DECODER(states, rows, bits, wide)                                      \
  NNB_AVX2 NNB_NOINLINE static void decode##states##_##rows##_rows(nnb_rans_job *job) { \
    decode_rows(job, states, bits, wide);                                               \
  }
#define NNB_RANS_DECODERS(states)     \
  NNB_RANS_DECODER(states, few, 4, 1) \
  NNB_RANS_DECODER(states, 16, 4, 0)  \
  NNB_RANS_DECODER(states, 32, 5, 0)  \
  NNB_RANS_DECODER(states, 64, 6, 0)
NNB_RANS_DECODERS(64)
NNB_RANS_DECODERS(32)
NNB_RANS_DECODERS(16)
#undef NNB_RANS_DECODERS
#undef NNB_RANS_DECODER

void nnb_rans_decode_avx2_rows(nnb_rans_job *job) {
  static void (*const decoders[3][4])(nnb_rans_job *) = {
      {decode64_few_rows, decode64_16_rows, decode64_32_rows, decode64_64_rows},
      {decode32_few_rows, decode32_16_rows, decode32_32_rows, decode32_64_rows},
      {decode16_few_rows, decode16_16_rows, decode16_32_rows, decode16_64_rows}};
  const uint32_t bits = job->model->bucket_bits;
  decoders[index_of(job->state_count)][bits < 4 ? 0 : bits - 3](job);
}

#else
typedef int nnb_rans_no_avx2; /* a translation unit is never empty */
#endif

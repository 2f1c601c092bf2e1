/*
 * rANS encoding, 64 symbols a round, states in halves of 16 bits.
 *
 * Some rounds at a time: first what the tables say of all their symbols, by shuffles where few rows are in use, then
 * the code. The quotient comes from a product in binary32 with a reciprocal that is a little too small, and is then at
 * most one too small.
 */
#include "common/deps_simd.h"
#include "enc/rans.h"

#if NNB_X86_DISPATCH

#define LANES 16u
#define ROUND NNB_RANS_MAX_STATES
#define BATCH (16u * ROUND)
#define MAX_WINDOWS 6u /* more take longer than loads one by one */
#define MAX_TABLES 16u /* places have 16 bits */
#define PAIR_MARGIN 3u /* which vectors around a pair reach into */

/* What the tables say of some symbols. */
typedef struct shares {
  _Alignas(32) uint16_t frequency[BATCH];
  _Alignas(32) uint16_t first[BATCH]; /* place of the slot of rank 0 in the list of all slots */
  _Alignas(32) float reciprocal[BATCH];
} shares;

/* Bytes by bytes: the lower four bits of an index find a byte in each part; from `start` on, a part counts. */
typedef struct byte_map {
  uint32_t parts;
  uint8_t before[16]; /* start - 1 */
  uint8_t part[16][16];
} byte_map;

/* Frequency and first of 16 rows from `start` on, in bytes. */
typedef struct window {
  uint8_t start;
  uint8_t bytes[4][16];
} window;

/* Rows are those of the symbols least .. least + last, table by table. */
typedef struct finder {
  uint32_t windows; /* 0: there are too many rows */
  uint8_t least;
  uint8_t last;
  uint8_t large; /* some frequency is 2048 or more */
  window window[MAX_WINDOWS];
  byte_map map; /* by context its first row less `least`; its table if there are no windows */
  /* Without windows: frequency and first, by table and symbol. */
  uint32_t pairs[256 * MAX_TABLES + 2 * PAIR_MARGIN];
} finder;

static void fill_map(byte_map *map, const uint8_t *values) {
  uint8_t sum[16] = {0};
  map->parts = 0;
  for (uint32_t start = 0; start < 256; start += 16) {
    uint8_t *const part = map->part[map->parts];
    uint32_t any = start == 0;
    for (uint32_t i = 0; i < 16; i++) {
      part[i] = values[start + i] ^ sum[i];
      sum[i] = values[start + i];
      any |= part[i];
    }
    map->before[map->parts] = (uint8_t)(start - 1);
    map->parts += any != 0;
  }
}

static uint32_t pair_of(const nnb_rans_enc_job *job, uint32_t table, uint32_t symbol) {
  const nnb_rans_symbol *const s = job->table_symbols + 256 * table + symbol;
  return s->frequency | (s->first + (table << NNB_RANS_BITS)) << 16;
}

/* Returns 0 if there are too many. */
static uint32_t fill_windows(window *windows, const nnb_rans_enc_job *job, uint32_t least, uint32_t span) {
  uint32_t count = 0;
  uint32_t end = 0; /* of the last one */
  if (span * job->table_count > 256) return 0;
  for (uint32_t row = 0; row < span * job->table_count; row++) {
    const uint32_t pair = pair_of(job, row / span, least + row % span);
    if ((pair & 0xFFFF) == 0) continue;
    if (row >= end) {
      if (count == MAX_WINDOWS) return 0;
      nnb_memset(windows + count, 0, sizeof *windows);
      windows[count++].start = (uint8_t)(job->contexts == NULL ? least + row : row);
      end = row + 16;
    }
    for (uint32_t k = 0; k < 4; k++) windows[count - 1].bytes[k][row + 16 - end] = (uint8_t)(pair >> 8 * k);
  }
  return count;
}

static void fill_finder(finder *f, const nnb_rans_enc_job *job) {
  uint16_t any[256] = {0};
  uint32_t bits = 0;
  uint32_t least = 0;
  uint32_t most = 255;
  for (uint32_t t = 0; t < job->table_count; t++) {
    for (uint32_t s = 0; s < 256; s++) any[s] |= job->frequencies[256 * t + s];
  }
  for (uint32_t s = 0; s < 256; s++) bits |= any[s];
  while (any[least] == 0) least++;
  while (any[most] == 0) most--;
  const uint32_t span = most - least + 1;
  f->least = (uint8_t)least;
  f->last = (uint8_t)(most - least);
  f->large = bits >= 2048;
  f->windows = fill_windows(f->window, job, least, span);
  for (uint32_t t = 0; t < job->table_count && f->windows == 0; t++) {
    for (uint32_t s = 0; s < 256; s++) f->pairs[PAIR_MARGIN + 256 * t + s] = pair_of(job, t, s);
  }
  if (job->contexts != NULL) {
    uint8_t values[256];
    for (uint32_t i = 0; i < 256; i++) {
      values[i] = (uint8_t)(f->windows == 0 ? job->context_map[i] : job->context_map[i] * span - least);
    }
    fill_map(&f->map, values);
  }
}

NNB_AVX2_INLINE __m128i load16(const void *bytes) { return _mm_loadu_si128((const __m128i *)bytes); }

NNB_AVX2_INLINE __m256i load32(const void *bytes) { return _mm256_loadu_si256((const __m256i *)bytes); }

NNB_AVX2_INLINE __m256i load_twice(const void *bytes) { return _mm256_broadcastsi128_si256(load16(bytes)); }

NNB_AVX2_INLINE void store16(void *bytes, __m128i vector) { _mm_storeu_si128((__m128i *)bytes, vector); }

NNB_AVX2_INLINE void store32(void *bytes, __m256i vector) { _mm256_storeu_si256((__m256i *)bytes, vector); }

NNB_AVX2_INLINE __m256i two_halves(__m128i lower, __m128i upper) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(lower), upper, 1);
}

/* Bytes in the order that unpacking them undoes. */
NNB_AVX2_INLINE __m256i load_to_unpack(const uint8_t *bytes) { return _mm256_permute4x64_epi64(load32(bytes), 0xD8); }

NNB_AVX2_INLINE __m256i find_bytes(const byte_map *map, __m256i index) {
  const __m256i low = _mm256_and_si256(index, _mm256_set1_epi8(15));
  __m256i found = _mm256_shuffle_epi8(load_twice(map->part[0]), low);
  for (uint32_t k = 1; k < map->parts; k++) {
    const __m256i before = _mm256_set1_epi8((char)map->before[k]);
    const __m256i none = _mm256_cmpeq_epi8(_mm256_min_epu8(index, before), index);
    found = _mm256_xor_si256(found, _mm256_shuffle_epi8(load_twice(map->part[k]), _mm256_or_si256(low, none)));
  }
  return found;
}

NNB_AVX2_INLINE void keep(shares *known, size_t i, __m256i frequency, __m256i first) {
  const __m256i zero = _mm256_setzero_si256();
  const __m256 below_one = _mm256_set1_ps(1.0f - 0x1p-21f);
  const __m256 lower = _mm256_cvtepi32_ps(_mm256_unpacklo_epi16(frequency, zero));
  const __m256 upper = _mm256_cvtepi32_ps(_mm256_unpackhi_epi16(frequency, zero));
  store32(known->frequency + i, frequency);
  store32(known->first + i, first);
  _mm256_store_ps(known->reciprocal + i, _mm256_div_ps(below_one, lower)); /* in the order of unpacking */
  _mm256_store_ps(known->reciprocal + i + 8, _mm256_div_ps(below_one, upper));
}

NNB_AVX2_INLINE int has_zero(__m256i words) {
  return _mm256_movemask_epi8(_mm256_cmpeq_epi16(words, _mm256_setzero_si256())) != 0;
}

/* Of a multiple of 64 symbols. `contexts` may be the constant NULL. Returns whether every symbol has a frequency. */
NNB_AVX2_INLINE int find_in_windows(shares *known, const finder *f, const uint8_t *symbols, const uint8_t *contexts,
                                    size_t count) {
  const __m256i least = _mm256_set1_epi8((char)f->least);
  const __m256i last = _mm256_set1_epi8((char)f->last);
  __m256i furthest = last;
  __m256i rarest = _mm256_set1_epi16(-1);
  for (size_t i = 0; i < count; i += 64) {
    __m256i row[2];
    __m256i bytes[2][4];
    for (uint32_t h = 0; h < 2; h++) {
      row[h] = load_to_unpack(symbols + i + 32 * h);
      if (contexts != NULL) {
        furthest = _mm256_max_epu8(furthest, _mm256_sub_epi8(row[h], least));
        row[h] = _mm256_add_epi8(row[h], find_bytes(&f->map, load_to_unpack(contexts + i + 32 * h)));
      }
      for (uint32_t k = 0; k < 4; k++) bytes[h][k] = _mm256_setzero_si256();
    }
    for (const window *w = f->window; w != f->window + f->windows; w++) {
      const __m256i start = _mm256_set1_epi8((char)w->start);
      __m256i at[2]; /* rows outside of the window have the upper bit, with which a shuffle gives 0 */
      for (uint32_t h = 0; h < 2; h++) at[h] = _mm256_adds_epu8(_mm256_sub_epi8(row[h], start), _mm256_set1_epi8(112));
      for (uint32_t k = 0; k < 4; k++) {
        const __m256i values = load_twice(w->bytes[k]);
        for (uint32_t h = 0; h < 2; h++) {
          bytes[h][k] = _mm256_or_si256(bytes[h][k], _mm256_shuffle_epi8(values, at[h]));
        }
      }
    }
    for (uint32_t h = 0; h < 2; h++) {
      const __m256i lower = _mm256_unpacklo_epi8(bytes[h][0], bytes[h][1]);
      const __m256i upper = _mm256_unpackhi_epi8(bytes[h][0], bytes[h][1]);
      rarest = _mm256_min_epu16(rarest, _mm256_min_epu16(lower, upper));
      keep(known, i + 32 * h, lower, _mm256_unpacklo_epi8(bytes[h][2], bytes[h][3]));
      keep(known, i + 32 * h + 16, upper, _mm256_unpackhi_epi8(bytes[h][2], bytes[h][3]));
    }
  }
  const __m256i outside = _mm256_xor_si256(furthest, last);
  return _mm256_testz_si256(outside, outside) && !has_zero(rarest);
}

/* A load that blends takes half of what an insertion does, and reads beside what it is about. */
NNB_AVX2_INLINE __m128i four_pairs(const uint32_t *pairs, size_t a, size_t b, size_t c, size_t d) {
  const __m128i lower = _mm_blend_epi32(load16(pairs + a), load16(pairs + b - 1), 2);
  return _mm_blend_epi32(_mm_blend_epi32(lower, load16(pairs + c - 2), 4), load16(pairs + d - 3), 8);
}

NNB_AVX2_INLINE int find_by_loads(shares *known, const finder *f, const uint8_t *symbols, const uint8_t *contexts,
                                  size_t count) {
  const __m256i fields_apart = load_twice((const uint8_t[]){0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15});
  __m256i rarest = _mm256_set1_epi16(-1);
  const uint32_t *const pairs = f->pairs + PAIR_MARGIN;
  uint16_t at[BATCH];
  for (size_t i = 0; i < count && contexts != NULL; i += 32) {
    const __m256i symbol = load_to_unpack(symbols + i);
    const __m256i table = find_bytes(&f->map, load_to_unpack(contexts + i));
    store32(at + i, _mm256_unpacklo_epi8(symbol, table));
    store32(at + i + 16, _mm256_unpackhi_epi8(symbol, table));
  }
  for (size_t i = 0; i < count; i += 16) {
    __m128i four[4];
    for (uint32_t k = 0; k < 4; k++) {
      const uint32_t s = *(const nnb_any32 *)(const void *)(symbols + i + 4 * k);
      const uint16_t *const a = at + i + 4 * k;
      four[k] = contexts == NULL ? four_pairs(pairs, s & 255, s >> 8 & 255, s >> 16 & 255, s >> 24)
                                 : four_pairs(pairs, a[0], a[1], a[2], a[3]);
    }
    const __m256i even = _mm256_shuffle_epi8(two_halves(four[0], four[2]), fields_apart);
    const __m256i odd = _mm256_shuffle_epi8(two_halves(four[1], four[3]), fields_apart);
    const __m256i frequency = _mm256_unpacklo_epi64(even, odd);
    rarest = _mm256_min_epu16(rarest, frequency);
    keep(known, i, frequency, _mm256_unpackhi_epi64(even, odd));
  }
  return !has_zero(rarest);
}

/* For each set of words that stay, the order that moves the others, still in order, to the upper end. */
typedef struct word_orders {
  __m128i of[256];
} word_orders;

NNB_AVX2 static void fill_orders(word_orders *orders) {
  orders->of[255] = _mm_setzero_si128();
  for (uint32_t word = 0; word < 8; word++) {
    const __m128i last = _mm_set1_epi16((short)(0x0202 * word + 0x0100));
    for (uint32_t set = 0; set < 1u << word; set++) {
      orders->of[255 - (1u << word) - set] = _mm_alignr_epi8(last, orders->of[255 - set], 2);
    }
  }
}

/* The states in halves. While states are coded, `low` here lacks the slots. */
typedef struct halves {
  _Alignas(32) uint16_t low[ROUND];
  _Alignas(32) uint16_t high[ROUND];
} halves;

/* Sixteen divisions that have begun. */
typedef struct division {
  __m256i low; /* of the dividend */
  __m256i quotient[2];
} division;

/*
 * Quotients, or one less, of the lower or upper four of each eight states. `large`, a constant: whether there may be
 * states of 2^31 or more, as with frequencies above 2048.
 */
NNB_AVX2_INLINE __m256i divide(__m256i low, __m256i high, int half, const float *reciprocals, int large) {
  __m256 dividend;
  if (large) {
    /* Below the upper halves of floats, these are 2^23 + low and 2^39 + high * 2^16. */
    const __m256i of_low = _mm256_set1_epi16(0x4B00);
    const __m256i of_high = _mm256_set1_epi16(0x5300);
    low = half ? _mm256_unpackhi_epi16(low, of_low) : _mm256_unpacklo_epi16(low, of_low);
    high = half ? _mm256_unpackhi_epi16(high, of_high) : _mm256_unpacklo_epi16(high, of_high);
    dividend = _mm256_sub_ps(_mm256_castsi256_ps(high), _mm256_set1_ps(0x1p39f + 0x1p23f));
    dividend = _mm256_add_ps(dividend, _mm256_castsi256_ps(low));
  } else {
    dividend = _mm256_cvtepi32_ps(half ? _mm256_unpackhi_epi16(low, high) : _mm256_unpacklo_epi16(low, high));
  }
  return _mm256_cvttps_epi32(_mm256_mul_ps(dividend, _mm256_load_ps(reciprocals + 8 * half)));
}

NNB_AVX2_INLINE uint8_t *move_words(const word_orders *orders, __m256i words, __m256i kept, uint8_t *next) {
  const uint8_t *const bytes = (const uint8_t *)orders;
  /* 16 times each set */
  const uint32_t sets = (uint32_t)_mm256_movemask_epi8(_mm256_packs_epi16(_mm256_setzero_si256(), kept));
  const uint64_t lower = _bextr_u64(sets, 4, 12);
  const uint64_t upper = _bextr_u64(sets, 20, 12);
  next -= 2 * LANES;
  store16(next + 16, _mm_shuffle_epi8(_mm256_extracti128_si256(words, 1), load16(bytes + upper)));
  store16(next + 2 * _mm_popcnt_u64(upper), _mm_shuffle_epi8(_mm256_castsi256_si128(words), load16(bytes + lower)));
  return next + 2 * (size_t)_mm_popcnt_u32(sets);
}

/* Of the states with these halves and the symbols from number i on. */
NNB_AVX2_INLINE division begin(__m256i x_low, __m256i x_high, const word_orders *orders, const shares *known, size_t i,
                               int large, uint8_t **next) {
  const __m256i kept = _mm256_cmpgt_epi16(load32(known->frequency + i), _mm256_srli_epi16(x_high, 4));
  const __m256i low = _mm256_blendv_epi8(x_high, x_low, kept);
  const __m256i high = _mm256_and_si256(x_high, kept);
  division d;
  d.low = low;
  for (int half = 0; half < 2; half++) d.quotient[half] = divide(low, high, half, known->reciprocal + i, large);
  *next = move_words(orders, x_low, kept, *next);
  return d;
}

/* Sets the states from number `at` on but for their slots, and returns the places of these. */
NNB_AVX2_INLINE __m256i finish(halves *x, size_t at, division d, const shares *known, size_t i) {
  const __m256i zero = _mm256_setzero_si256();
  const __m256i frequency = load32(known->frequency + i);
  const __m256i quotient =
      _mm256_packus_epi32(_mm256_blend_epi16(d.quotient[0], zero, 0xAA), _mm256_blend_epi16(d.quotient[1], zero, 0xAA));
  const __m256i high = _mm256_packus_epi32(_mm256_srli_epi32(d.quotient[0], 16 - NNB_RANS_BITS),
                                           _mm256_srli_epi32(d.quotient[1], 16 - NNB_RANS_BITS));
  const __m256i rest = _mm256_sub_epi16(d.low, _mm256_mullo_epi16(quotient, frequency));
  const __m256i less = _mm256_sub_epi16(rest, frequency);
  const __m256i rank = _mm256_min_epu16(rest, less);
  const __m256i small = _mm256_cmpeq_epi16(rank, less);
  const __m256i low = _mm256_slli_epi16(_mm256_sub_epi16(quotient, small), NNB_RANS_BITS);
  const __m256i carry = _mm256_and_si256(small, _mm256_cmpeq_epi16(low, zero));
  store32(x->low + at, low);
  store32(x->high + at, _mm256_sub_epi16(high, carry));
  return _mm256_add_epi16(rank, load32(known->first + i));
}

/* Places that went through memory would be waited for longer. */
NNB_AVX2_INLINE __m128i eight_slots(const uint16_t *slots, __m128i places) {
  const uint64_t a = (uint64_t)_mm_cvtsi128_si64(places);
  const uint64_t b = (uint64_t)_mm_extract_epi64(places, 1);
  __m128i found = load16(slots + (a & 0xFFFF));
  found = _mm_blend_epi16(found, load16(slots + _bextr_u64(a, 16, 16) - 1), 1 << 1);
  found = _mm_blend_epi16(found, load16(slots + _bextr_u64(a, 32, 16) - 2), 1 << 2);
  found = _mm_blend_epi16(found, load16(slots + (a >> 48) - 3), 1 << 3);
  found = _mm_blend_epi16(found, load16(slots + (b & 0xFFFF) - 4), 1 << 4);
  found = _mm_blend_epi16(found, load16(slots + _bextr_u64(b, 16, 16) - 5), 1 << 5);
  found = _mm_blend_epi16(found, load16(slots + _bextr_u64(b, 32, 16) - 6), 1 << 6);
  return _mm_blend_epi16(found, load16(slots + (b >> 48) - 7), 1 << 7);
}

NNB_AVX2_INLINE __m256i find_slots(const uint16_t *slots, __m256i places) {
  return two_halves(eight_slots(slots, _mm256_castsi256_si128(places)),
                    eight_slots(slots, _mm256_extracti128_si256(places, 1)));
}

/* Codes the first `count` of the known symbols. */
NNB_AVX2_INLINE uint8_t *code_rounds(halves *x, const uint16_t *slots, const word_orders *orders, const shares *known,
                                     size_t count, int large, uint8_t *next) {
  division d[4];
  __m256i places[4];
  __m256i low[4];
  size_t i = count - ROUND;
  for (uint32_t g = 0; g < 4; g++) low[g] = load32(x->low + LANES * g);
/* What is done to 16 states takes long, so three times 16 are on their way at a time. */
#define BEGIN(g) d[g] = begin(low[g], load32(x->high + LANES * (g)), orders, known, i + LANES * (g), large, &next)
#define FINISH(g) places[g] = finish(x, LANES * (g), d[g], known, i + LANES * (g))
#define FIND(g) low[g] = _mm256_or_si256(load32(x->low + LANES * (g)), find_slots(slots, places[g]))
  BEGIN(3);
  BEGIN(2), FINISH(3);
  for (;;) {
    BEGIN(1), FINISH(2), FIND(3);
    BEGIN(0), FINISH(1), FIND(2);
    FINISH(0);
    if (i == 0) break;
    i -= ROUND;
    BEGIN(3), FIND(1);
    BEGIN(2), FINISH(3), FIND(0);
  }
  FIND(1), FIND(0);
#undef BEGIN
#undef FINISH
#undef FIND
  for (uint32_t g = 0; g < 4; g++) store32(x->low + LANES * g, low[g]);
  return next;
}

#define NNB_RANS_ENCODER(name, large)                                                                     \
  NNB_AVX2 NNB_NOINLINE static uint8_t *name(halves *x, const uint16_t *slots, const word_orders *orders, \
                                             const shares *known, size_t count, uint8_t *next) {          \
    return code_rounds(x, slots, orders, known, count, large, next);                                      \
  }
NNB_RANS_ENCODER(code_small, 0)
NNB_RANS_ENCODER(code_large, 1)

/* Symbols are found by halves: the lower one says in which byte of a table the upper one has its bit. */
NNB_AVX2 size_t nnb_rans_find_unmarked_avx2(const uint8_t *symbols, size_t count, const uint8_t *marks) {
  uint8_t bits[2][16] = {{0}};
  for (uint32_t s = 0; s < 256; s++) bits[s >> 7][s & 15] |= (uint8_t)((marks[s] & 1u) << (s >> 4 & 7));
  const __m256i lower = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)bits[0]));
  const __m256i upper = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)bits[1]));
  const __m256i powers = _mm256_set1_epi64x((long long)0x8040201008040201u);
  const __m256i half = _mm256_set1_epi8(15);
  size_t i = 0;
  while (count - i >= 32) {
    const __m256i s = _mm256_loadu_si256((const __m256i *)(const void *)(symbols + i));
    const __m256i low = _mm256_and_si256(s, half);
    const __m256i row = _mm256_blendv_epi8(_mm256_shuffle_epi8(lower, low), _mm256_shuffle_epi8(upper, low), s);
    const __m256i bit = _mm256_shuffle_epi8(powers, _mm256_and_si256(_mm256_srli_epi16(s, 4), half));
    if (!_mm256_testc_si256(row, bit)) break;
    i += 32;
  }
  return i;
}

NNB_AVX2 nnb_status nnb_rans_encode_avx2(nnb_rans_enc_job *job) {
  finder f;
  word_orders orders;
  halves x;
  shares known;
  if (job->table_count > MAX_TABLES) return NNB_OK;
  fill_finder(&f, job);
  fill_orders(&orders);
  for (uint32_t s = 0; s < ROUND; s++) {
    x.low[s] = (uint16_t)job->states[s];
    x.high[s] = (uint16_t)(job->states[s] >> 16);
  }
  while (job->left > 0) {
    const size_t count = (job->left - 1) % BATCH + 1;
    const uint8_t *const symbols = job->symbols + (job->left -= count);
    const uint8_t *const contexts = job->contexts == NULL ? NULL : job->contexts + job->left;
    int all;
    if (f.windows == 0) {
      all = contexts == NULL ? find_by_loads(&known, &f, symbols, NULL, count)
                             : find_by_loads(&known, &f, symbols, contexts, count);
    } else {
      all = contexts == NULL ? find_in_windows(&known, &f, symbols, NULL, count)
                             : find_in_windows(&known, &f, symbols, contexts, count);
    }
    if (!all) return NNB_BAD_TENSOR;
    job->next = (f.large ? code_large : code_small)(&x, job->slots, &orders, &known, count, job->next);
  }
  for (uint32_t s = 0; s < ROUND; s++) job->states[s] = (uint32_t)x.high[s] << 16 | x.low[s];
  return NNB_OK;
}

#else
typedef int nnb_rans_no_avx2; /* a translation unit is never empty */
#endif

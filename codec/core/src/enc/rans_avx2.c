/* rANS encoding, eight states at a time. Most loads are one by one, which is faster than gathers are. */
#include "common/deps_simd.h"
#include "enc/rans.h"

#if NNB_X86_DISPATCH

#define LANES 8u
#define GROUPS (NNB_RANS_MAX_STATES / LANES)

_Static_assert(sizeof(nnb_rans_symbol) == 16 && offsetof(nnb_rans_symbol, frequency) == 8 &&
                   offsetof(nnb_rans_symbol, first) == 10,
               "frequency and place are read as one word");

/* For each set of lanes, the order that moves them, still in order, to the upper end. */
typedef struct word_orders {
  uint8_t of[256][LANES];
} word_orders;

static void fill_orders(word_orders *orders) {
  nnb_memset(orders, 0, sizeof *orders);
  for (uint32_t set = 0; set < 256; set++) {
    uint32_t to = LANES;
    for (uint32_t lane = LANES; lane-- > 0;) {
      if (set >> lane & 1u) orders->of[set][--to] = (uint8_t)lane;
    }
  }
}

NNB_AVX2_INLINE __m256i load_bytes(const uint8_t *bytes) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)bytes));
}

/* x / frequency, or one less; the quotient is below 2^20. */
NNB_AVX2_INLINE __m256i divide(__m256i x, __m256i frequency) {
  const __m256 upper_half = _mm256_and_ps(_mm256_castsi256_ps(_mm256_srai_epi32(x, 31)), _mm256_set1_ps(0x1p32f));
  const __m256 dividend = _mm256_add_ps(_mm256_cvtepi32_ps(x), upper_half);
  const __m256 reciprocal = _mm256_div_ps(_mm256_set1_ps(1.0f - 0x1p-21f), _mm256_cvtepi32_ps(frequency));
  return _mm256_cvttps_epi32(_mm256_mul_ps(dividend, reciprocal));
}

/* Frequencies and places of eight symbols of one table. */
NNB_AVX2_INLINE __m256i load_pairs(const int32_t *of, const uint8_t *s) {
  __m128i low = _mm_cvtsi32_si128(of[s[0]]), high = _mm_cvtsi32_si128(of[s[4]]);
  low = _mm_insert_epi32(_mm_insert_epi32(_mm_insert_epi32(low, of[s[1]], 1), of[s[2]], 2), of[s[3]], 3);
  high = _mm_insert_epi32(_mm_insert_epi32(_mm_insert_epi32(high, of[s[5]], 1), of[s[6]], 2), of[s[7]], 3);
  return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

NNB_AVX2_INLINE __m256i load_slots(const uint16_t *slots, __m256i index) {
  uint32_t at[LANES];
  _mm256_storeu_si256((__m256i *)(void *)at, index);
  __m128i found = _mm_cvtsi32_si128(slots[at[0]]);
  found = _mm_insert_epi16(found, slots[at[1]], 1);
  found = _mm_insert_epi16(found, slots[at[2]], 2);
  found = _mm_insert_epi16(found, slots[at[3]], 3);
  found = _mm_insert_epi16(found, slots[at[4]], 4);
  found = _mm_insert_epi16(found, slots[at[5]], 5);
  found = _mm_insert_epi16(found, slots[at[6]], 6);
  return _mm256_cvtepu16_epi32(_mm_insert_epi16(found, slots[at[7]], 7));
}

/* `contexts` is job->contexts, or the constant NULL. Returns whether every symbol has a frequency. */
NNB_AVX2_INLINE int encode_rounds(nnb_rans_enc_job *job, const uint8_t *contexts) {
  word_orders orders;
  __m256i x[GROUPS];
  const int *const pairs = (const int *)(const void *)&job->table_symbols->frequency;
  const uint8_t *const symbols = job->symbols;
  const __m256i low_half = _mm256_set1_epi32(0xFFFF);
  const __m256i slot_mask = _mm256_set1_epi32((int)(NNB_RANS_SLOTS - 1));
  __m256i missing = _mm256_setzero_si256();
  uint8_t *next = job->next;
  fill_orders(&orders);
  int32_t first_table[256]; /* what contexts do not need */
  for (uint32_t s = 0; s < 256; s++) nnb_memcpy(&first_table[s], &job->table_symbols[s].frequency, sizeof *first_table);
  for (uint32_t g = 0; g < GROUPS; g++) {
    x[g] = _mm256_loadu_si256((const __m256i *)(const void *)(job->states + LANES * g));
  }
  for (size_t i = job->left; i > 0;) {
    i -= NNB_RANS_MAX_STATES;
    /* Four groups at a time, so that the loads of all do not wait for the divisions of one. */
    for (uint32_t g = GROUPS; g > 0;) {
      __m256i pair[4];
      __m256i first_slot[4];
      __m256i quotient[4];
      __m256i slot[4];
      g -= 4;
      for (uint32_t k = 0; k < 4; k++) {
        const size_t at = i + LANES * (g + k);
        if (contexts == NULL) {
          pair[k] = load_pairs(first_table, symbols + at);
          first_slot[k] = _mm256_setzero_si256();
        } else {
          uint8_t table[LANES];
          for (uint32_t j = 0; j < LANES; j++) table[j] = job->context_map[contexts[at + j]];
          const __m256i first = _mm256_slli_epi32(load_bytes(table), 8);
          const __m256i index = _mm256_add_epi32(load_bytes(symbols + at), first);
          pair[k] = _mm256_i32gather_epi32(pairs, _mm256_slli_epi32(index, 1), 8);
          first_slot[k] = _mm256_slli_epi32(first, NNB_RANS_BITS - 8);
        }
      }
      for (uint32_t k = 4; k-- > 0;) {
        const __m256i frequency = _mm256_and_si256(pair[k], low_half);
        const __m256i largest = _mm256_sub_epi32(frequency, _mm256_set1_epi32(1)); /* rank */
        const __m256i full = _mm256_cmpgt_epi32(_mm256_srli_epi32(x[g + k], 20), largest);
        const uint32_t set = (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(full));
        const __m256i moved =
            _mm256_permutevar8x32_epi32(_mm256_and_si256(x[g + k], low_half), load_bytes(orders.of[set]));
        const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(moved, moved), 8);
        _mm_storeu_si128((__m128i *)(void *)(next - 2 * LANES), _mm256_castsi256_si128(words));
        next -= 2 * (size_t)_mm_popcnt_u32(set);
        missing = _mm256_or_si256(missing, _mm256_cmpeq_epi32(frequency, _mm256_setzero_si256()));

        const __m256i y = _mm256_blendv_epi8(x[g + k], _mm256_srli_epi32(x[g + k], 16), full);
        const __m256i rough = divide(y, frequency);
        const __m256i rest = _mm256_sub_epi32(y, _mm256_mullo_epi32(rough, frequency));
        const __m256i small = _mm256_cmpgt_epi32(rest, largest);
        const __m256i rank = _mm256_sub_epi32(rest, _mm256_and_si256(small, frequency));
        const __m256i place = _mm256_and_si256(_mm256_add_epi32(rank, _mm256_srli_epi32(pair[k], 16)), slot_mask);
        quotient[k] = _mm256_sub_epi32(rough, small);
        slot[k] = _mm256_add_epi32(place, first_slot[k]);
      }
      for (uint32_t k = 0; k < 4; k++) {
        slot[k] = load_slots(job->slots, slot[k]);
        x[g + k] = _mm256_or_si256(_mm256_slli_epi32(quotient[k], NNB_RANS_BITS), slot[k]);
      }
    }
  }
  job->next = next;
  job->left = 0;
  for (uint32_t g = 0; g < GROUPS; g++) {
    _mm256_storeu_si256((__m256i *)(void *)(job->states + LANES * g), x[g]);
  }
  return _mm256_testz_si256(missing, missing);
}

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
  const int all = job->contexts == NULL ? encode_rounds(job, NULL) : encode_rounds(job, job->contexts);
  return all ? NNB_OK : NNB_BAD_TENSOR;
}

#else
typedef int nnb_rans_no_avx2; /* a translation unit is never empty */
#endif

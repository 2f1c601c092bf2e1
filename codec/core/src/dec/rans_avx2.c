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

NNB_AVX2_INLINE void decode_rounds(nnb_rans_job *job, const uint32_t *entries, const uint8_t *contexts) {
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
        if (contexts != NULL) {
          uint64_t tables = 0;
          for (uint32_t j = 0; j < LANES; j++)
            tables |= (uint64_t)job->context_map[contexts[i + LANES * (g + k) + j]] << (8 * j);
          const __m256i table = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)tables));
          index = _mm256_add_epi32(index, _mm256_slli_epi32(table, NNB_RANS_BITS));
        }
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

NNB_AVX2 void nnb_rans_decode_avx2(nnb_rans_job *job, const uint32_t *entries) {
  if (job->contexts == NULL) {
    decode_rounds(job, entries, NULL);
  } else {
    decode_rounds(job, entries, job->contexts);
  }
}

#else
typedef int nnb_rans_no_avx2; /* a translation unit is never empty */
#endif

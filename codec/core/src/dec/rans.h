/* Parts of the rANS decoder. */
#ifndef NNB_DEC_RANS_H
#define NNB_DEC_RANS_H

#include "common/rans.h"

/* A code being decoded. Round: one symbol of each state. */
typedef struct nnb_rans_job {
  const nnb_rans_model *model;
  const uint8_t *contexts;
  const uint8_t *context_map;
  const uint8_t *next; /* word to read next */
  const uint8_t *end;
  uint8_t *symbols;
  size_t count;
  size_t done; /* symbols decoded, whole rounds until the last */
  uint32_t state_count;
  uint32_t states[NNB_RANS_MAX_STATES];
} nnb_rans_job;

/* A slot in one word: symbol, frequency - 1 and rank from bit 0, 8 and 20. */
void nnb_rans_expand(const nnb_rans_model *model, uint32_t *entries);

/* Rows of all tables that are found by shuffles; by AVX2 those of one table only, which has more than one symbol. */
#define NNB_RANS_AVX2_ROWS 64u
#define NNB_RANS_AVX512_ROWS 256u
#define NNB_RANS_NEON_ROWS 64u

/* These decode as many rounds of 64 states as they safely can, the first two of 32 and 16 as well. */
#if NNB_X86_DISPATCH
#define NNB_RANS_AVX2_STATES 16u
void nnb_rans_decode_avx2(nnb_rans_job *job, const uint32_t *entries); /* at most 16 tables, no frequency of 4096 */
void nnb_rans_decode_avx2_rows(nnb_rans_job *job);
void nnb_rans_decode_avx512(nnb_rans_job *job);
#endif
#if NNB_NEON
void nnb_rans_decode_neon(nnb_rans_job *job, const uint32_t *entries); /* NULL for rows that fit into registers */
#endif

#endif

/* What the rANS coder's two halves share (docs/rans.md). */
#ifndef NNB_COMMON_RANS_H
#define NNB_COMMON_RANS_H

#include "common/deps.h"
#include "nnb/nnb_rans.h"

#define NNB_RANS_BITS 12
#define NNB_RANS_SLOTS (1u << NNB_RANS_BITS)
#define NNB_RANS_LOW (UINT32_C(1) << 16) /* least value of a state, and where the encoder starts */

/* ceil(log2(n)) for n in 1..256. */
NNB_INLINE uint32_t nnb_rans_bucket_bits(uint32_t n) {
  uint32_t bits = 0;
  while ((1u << bits) < n) bits++;
  return bits;
}

/* Fills in split, alias and alias_rank from the frequencies of a table, whose sum is NNB_RANS_SLOTS. */
void nnb_rans_build_rows(nnb_rans_row *rows, uint32_t bucket_bits);

/* Whether every context has its table. */
int nnb_rans_map_is_good(const uint8_t *contexts, const uint8_t *context_map, uint32_t table_count);

NNB_INLINE uint32_t nnb_rans_load16(const uint8_t *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8; }

NNB_INLINE uint32_t nnb_rans_load32(const uint8_t *p) { return nnb_rans_load16(p) | nnb_rans_load16(p + 2) << 16; }

NNB_INLINE void nnb_rans_store16(uint8_t *p, uint32_t word) {
  p[0] = (uint8_t)word;
  p[1] = (uint8_t)(word >> 8);
}

#endif

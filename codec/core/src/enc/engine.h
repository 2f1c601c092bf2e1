/*
 * Arithmetic encoding engine (nnc-entropy sections 2.2 and 2.3).
 *
 * `low` holds the 9 + pending bits that are not in the buffer yet, and one more for a carry. A carry runs back through
 * the bytes in the buffer, which all stay there until the end.
 */
#ifndef NNB_ENC_ENGINE_H
#define NNB_ENC_ENGINE_H

#include "common/model.h"
#include "nnb/nnb_enc.h"

/* Most bytes that one call of put_settled() can take, and the bytes that finishing needs. */
enum { NNB_ENC_SLACK = 16 };

static NNB_NOINLINE void nnb_propagate_carry(uint8_t *buffer, size_t size) {
  while (size > 0 && ++buffer[--size] == 0) {
  }
}

/* Moves 32 bits to the buffer, which must have room. */
NNB_INLINE void nnb_put_settled(nnb_encoder *e) {
  const uint32_t below = (uint32_t)e->pending - 32 + 9;
  const uint64_t lead = e->low >> below;
  if (NNB_UNLIKELY(lead >> 32)) nnb_propagate_carry(e->buffer, e->size);
  nnb_store_be32(e->buffer + e->size, (uint32_t)lead);
  e->size += 4;
  e->low &= ((uint64_t)1 << below) - 1;
  e->pending -= 32;
}

/* The range R is kept in the top nine bits of its word, as in the decoder. */
enum { NNB_R_SHIFT = 23 };

#define NNB_SCALED(rl) (uint32_t)(rl) << NNB_R_SHIFT
static const uint32_t nnb_rlps[512] = {NNB_RLPS_VALUES(NNB_SCALED)};

NNB_INLINE void nnb_encode_bin(nnb_encoder *e, nnb_context *c, uint32_t bin) {
  const uint64_t state = c->state;
  const uint32_t rl = nnb_rlps[nnb_state_row(state) + (e->range >> 28) - 8];
  const uint32_t rm = e->range - rl;
  const uint32_t lps = nnb_state_probable_bin(state) ^ bin;
  const uint32_t range = nnb_choose(lps, rl, rm);
  e->low += rm >> NNB_R_SHIFT & (0u - lps);
#if defined(__GNUC__) || defined(__clang__)
  const uint32_t n = (uint32_t)__builtin_clz(range);
#else
  uint32_t n = 0;
  while (!(range << n >> 31)) n++;
#endif
  e->range = range << n;
  e->low <<= n;
  e->pending += (int32_t)n;
  if (NNB_UNLIKELY(e->pending >= 32)) nnb_put_settled(e);
  c->state = nnb_state_after(state, bin);
}

/* bp(count), count <= 31. */
NNB_INLINE void nnb_encode_bypass(nnb_encoder *e, uint32_t value, uint32_t count) {
  while (count > 0) {
    const uint32_t n = count < 16 ? count : 16;
    count -= n;
    const uint32_t part = value >> count & ((1u << n) - 1);
    e->low = (e->low << n) + (uint64_t)(e->range >> NNB_R_SHIFT) * part;
    e->pending += (int32_t)n;
    if (e->pending >= 32) nnb_put_settled(e);
  }
}

/* n of nnc-entropy 2.2, which is T of 7.3. */
NNB_INLINE uint64_t nnb_encoder_position(const nnb_encoder *e) {
  return 8 * (uint64_t)e->size + (uint64_t)(int64_t)e->pending;
}

#endif

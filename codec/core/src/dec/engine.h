/*
 * Arithmetic decoding engine (nnc-entropy section 2.1).
 *
 * The offset V sits in the top nine bits of `window`, the bits that follow it in the payload below, and the range R in
 * the top nine bits of `range`: V < R is window < range, and reading bits is a shift. `spare` counts the valid bits
 * below V. Past the end the window fills with zeros while `next` goes on counting, so that nothing fails here;
 * nnb_cabac_overrun() tells.
 */
#ifndef NNB_ENGINE_H
#define NNB_ENGINE_H

#include "common/model.h"

enum { NNB_V_SHIFT = NNB_WINDOW_BITS - 9 };

/* The bytes from data + next as one big-endian window, zeros past the end. */
static NNB_NOINLINE nnb_window nnb_window_tail(const uint8_t *data, size_t size, size_t next) {
  nnb_window word = 0;
  for (size_t i = 0; i < NNB_WINDOW_BITS / 8; i++) {
    const uint8_t byte = next < size && i < size - next ? data[next + i] : 0;
    word = (nnb_window)(word << 8) | byte;
  }
  return word;
}

/* Fills the window; needs -9 <= spare <= NNB_V_SHIFT. Bits below the last whole byte are filled in again next time. */
NNB_INLINE void nnb_refill(nnb_cabac *e) {
  nnb_window word;
  if (NNB_LIKELY(e->next < e->size && e->size - e->next >= NNB_WINDOW_BITS / 8)) {
#if NNB_WINDOW_BITS == 64
    word = nnb_load_be64(e->data + e->next);
#else
    word = nnb_load_be32(e->data + e->next);
#endif
  } else {
    word = nnb_window_tail(e->data, e->size, e->next);
  }
  e->window |= word >> (9 + e->spare);
  const int32_t bytes = (NNB_V_SHIFT - e->spare) >> 3;
  e->next += (size_t)bytes;
  e->spare += 8 * bytes;
}

NNB_INLINE uint64_t nnb_bits_read(const nnb_cabac *e) { return 8 * (uint64_t)e->next - (uint64_t)(int64_t)e->spare; }

/* Whether more bits were used than the payload has. */
NNB_INLINE int nnb_cabac_overrun(const nnb_cabac *e) { return nnb_bits_read(e) > 8 * (uint64_t)e->size; }

#define NNB_SCALED(rl) (nnb_window)(rl) << NNB_V_SHIFT
static const nnb_window nnb_rlps[512] = {NNB_RLPS_VALUES(NNB_SCALED)};

/* Number of doublings that bring a range to 256 or more. */
NNB_INLINE uint32_t nnb_renorm_shift(nnb_window range) {
#if (defined(__GNUC__) || defined(__clang__)) && NNB_WINDOW_BITS == 64
  return (uint32_t)__builtin_clzll(range);
#elif defined(__GNUC__) || defined(__clang__)
  return (uint32_t)__builtin_clz(range);
#else
  uint32_t n = 0;
  while (!(range << n >> (NNB_WINDOW_BITS - 1))) n++;
  return n;
#endif
}

/* Where RLPS of a context is found: the top bit of the range is 1, the next three are the place in the row. */
NNB_INLINE const nnb_window *nnb_rlps_row(uint64_t state) { return nnb_rlps + nnb_state_row(state); }

NNB_INLINE nnb_window nnb_range_lps(const nnb_window *row, nnb_window range) {
  return row[(size_t)(range >> (NNB_WINDOW_BITS - 4)) - 8];
}

NNB_INLINE void nnb_renormalize(nnb_cabac *e, nnb_window range) {
  const uint32_t n = nnb_renorm_shift(range);
  e->range = range << n;
  e->window <<= n;
  e->spare -= (int32_t)n;
  if (NNB_UNLIKELY(e->spare < 0)) nnb_refill(e);
}

/* decode_context_bin() without the update, which is cheaper where the bin is known. */
NNB_INLINE uint32_t nnb_read_bin(nnb_cabac *e, const nnb_context *c) {
  const uint64_t state = c->state;
  const nnb_window rl = nnb_range_lps(nnb_rlps_row(state), e->range);
  const nnb_window rm = e->range - rl;
  const uint32_t lps = e->window >= rm;
  e->window -= lps ? rm : 0;
  nnb_renormalize(e, lps ? rl : rm);
  return nnb_state_probable_bin(state) ^ lps;
}

NNB_INLINE uint32_t nnb_decode_bin(nnb_cabac *e, nnb_context *c) {
  const uint32_t bin = nnb_read_bin(e, c);
  nnb_context_update(c, bin);
  return bin;
}

/*
 * bp(count), count <= 31. n bins are the quotient of V, n bits longer, by R, and leave the remainder: a division costs
 * less than a loop, and does not have to guess n.
 */
NNB_INLINE uint32_t nnb_decode_bypass(nnb_cabac *e, uint32_t count) {
  const uint32_t range = (uint32_t)(e->range >> NNB_V_SHIFT);
  uint32_t value = 0;
  do {
    const uint32_t n = count < 16 ? count : 16;
    if (e->spare < (int32_t)n) nnb_refill(e);
    const uint32_t below = (uint32_t)NNB_V_SHIFT - n;
    const uint32_t part = (uint32_t)(e->window >> below) / range;
    e->window -= (nnb_window)(part * range) << below;
    e->window <<= n;
    e->spare -= (int32_t)n;
    value = value << n | part;
    count -= n;
  } while (NNB_UNLIKELY(count > 0));
  return value;
}

#endif

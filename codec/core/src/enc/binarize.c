/* level() in encoder direction (nnc-entropy section 5). */
#include "enc/walk.h"

nnb_status nnb_flush_bins(nnb_walk *walk) {
  const size_t count = walk->count;
  walk->count = 0;
  return count > 0 ? walk->take_bins(walk->sink, walk->bins, count) : NNB_OK;
}

NNB_INLINE uint16_t entry(size_t index, uint32_t bin) { return (uint16_t)(2 * index + bin); }

/* The remainder of a magnitude v > U, which is at most max. */
static uint16_t *put_remainder(uint16_t *out, uint32_t unary_length, uint32_t v, uint64_t max) {
  const size_t rem = nnb_ctx_rem(unary_length);
  uint64_t first = 1 + (uint64_t)unary_length; /* smallest magnitude of the group of 2^r */
  uint32_t r = 0;
  while (r < 31 && v >= first + ((uint64_t)1 << r) && max >= first + ((uint64_t)1 << r)) {
    *out++ = entry(rem + r, 1);
    first += (uint64_t)1 << r;
    r++;
  }
  if (r < 31 && max >= first + ((uint64_t)1 << r)) *out++ = entry(rem + r, 0);
  if (r > 0) {
    const uint32_t suffix = (uint32_t)(v - first);
    *out++ = (uint16_t)(NNB_BYPASS + r);
    *out++ = (uint16_t)(suffix >> 16);
    *out++ = (uint16_t)suffix;
  }
  return out;
}

void nnb_make_flag_lists(nnb_walk *walk) {
  for (uint32_t v = 0; v <= NNB_FLAGS_TOGETHER + 1; v++) {
    for (uint32_t negative = 0; negative < 2; negative++) {
      uint16_t *const flags = walk->flags[2 * v + negative];
      for (uint32_t j = 0; j < NNB_FLAGS_TOGETHER; j++)
        flags[j] = entry(NNB_CTX_GTX + 2 * (size_t)j + negative, v > j + 1);
    }
  }
}

/* Without a branch but for the rare remainder: too many flags are written, and the last ones overwritten. */
NNB_INLINE uint16_t *put_plain(uint16_t *out, const nnb_walk *walk, uint32_t u, uint32_t v, uint32_t negative,
                               size_t sig, uint32_t prev) {
  out[0] = entry(sig, v != 0);
  out[1] = entry(NNB_CTX_SGN + prev, negative);
  const uint32_t shown = v <= NNB_FLAGS_TOGETHER ? v : NNB_FLAGS_TOGETHER + 1;
  nnb_memcpy(out + 2, walk->flags[2 * shown + negative], sizeof walk->flags[0]);
  const uint32_t flags = v < u ? v : u;
  out += v != 0 ? 2 + flags : 1;
  return NNB_UNLIKELY(v > u) ? put_remainder(out, u, v, UINT64_MAX) : out;
}

/* Everything that can occur; NULL if v is not in the codebook. */
static uint16_t *put_general(uint16_t *out, const nnb_walk *walk, size_t i, uint32_t v, uint32_t negative, size_t sig,
                             uint32_t prev, uint32_t state) {
  const uint32_t u = walk->unary_length;
  const uint32_t cs = walk->peer ? 0 : walk->codebook_size;
  const uint32_t cz = walk->codebook_zero_offset;
  const int32_t base = walk->base != NULL ? walk->base[i] : 0;
  const uint32_t abs_base = base < 0 ? 0u - (uint32_t)base : (uint32_t)base;
  if (walk->history != NULL && walk->history[i]) {
    sig = NNB_CTX_SIG_H + state;
  } else if (base != 0) {
    sig = NNB_CTX_SIG_T + 2 * state + (abs_base > 1);
  }
  *out++ = entry(sig, v != 0);
  if (v == 0) return out;

  const uint64_t max = cs == 0 ? UINT64_MAX : negative ? cz : cs - 1 - cz;
  if (v > max) return NULL;
  if (cs == 0 || (cz != 0 && cz != cs - 1)) {
    *out++ = entry(base != 0 ? NNB_CTX_SGN_T + (size_t)(base > 0) : NNB_CTX_SGN + prev, negative);
  }
  for (uint32_t j = 0; j < u && 1 + (uint64_t)j < max; j++) {
    size_t index = NNB_CTX_GTX + 2 * (size_t)j + negative;
    if (base != 0) index = nnb_ctx_gtx_t(u) + 2 * (size_t)j + (abs_base >= j ? 0 : 1);
    *out++ = entry(index, v > j + 1);
    if (v == j + 1) return out;
  }
  return v > u ? put_remainder(out, u, v, max) : out;
}

NNB_INLINE nnb_status binarize(nnb_walk *walk, size_t at, size_t count, const int dq, const int plain, const int peer) {
  const uint32_t u = walk->unary_length;
  uint32_t prev = walk->prev;
  uint32_t state = walk->state;
  uint16_t *out = walk->bins + walk->count;
  const uint16_t *const full = walk->bins + NNB_BINS;
  for (size_t i = at; i < at + count; i++) {
    const int32_t level = walk->levels[i];
    const uint32_t negative = (uint32_t)level >> 31;
    const uint32_t magnitude = ((uint32_t)level ^ (0u - negative)) + negative;
    const size_t sig = NNB_CTX_SIG + 3 * state + prev;
    const uint32_t old_state = state;
    uint32_t v = magnitude;
    if (dq) {
      const uint32_t k = (magnitude + (state & 1)) >> 1;
      if (NNB_UNLIKELY(magnitude != 0 && ((magnitude ^ state) & 1) != 0)) return NNB_BAD_TENSOR;
      state = (uint32_t)(NNB_NEXT_STATES >> (8 * state + 4 * (k & 1))) & 7;
      if (!peer) v = k;
    }
    if (plain) {
      out = put_plain(out, walk, u, v, negative, sig, prev);
    } else {
      out = put_general(out, walk, i, v, negative, sig, prev, old_state);
      if (out == NULL) return NNB_BAD_TENSOR;
    }
    prev = (2 - negative) & (0u - (uint32_t)(v != 0));
    if (NNB_UNLIKELY(out >= full)) {
      walk->count = (size_t)(out - walk->bins);
      const nnb_status status = nnb_flush_bins(walk);
      if (status != NNB_OK) return status;
      out = walk->bins;
    }
  }
  walk->count = (size_t)(out - walk->bins);
  walk->prev = prev;
  walk->state = state;
  return NNB_OK;
}

/* State times 8 after a level, in byte `state`, by the magnitude modulo 4, which gives the parity of K. */
static void make_moves(uint64_t moves[4]) {
  for (uint32_t magnitude = 0; magnitude < 4; magnitude++) {
    moves[magnitude] = 0;
    for (uint32_t state = 0; state < 8; state++) {
      const uint32_t odd = (magnitude + (state & 1)) >> 1 & 1;
      const uint64_t next = NNB_NEXT_STATES >> (8 * state + 4 * odd) & 7;
      moves[magnitude] |= next * 8 << (8 * state);
    }
  }
}

void nnb_pass_over(nnb_walk *walk, size_t at, size_t count) {
  if (count == 0) return;
  const int32_t *const levels = walk->levels + at;
  const int32_t last = levels[count - 1];
  walk->prev = last == 0 ? 0 : last < 0 ? 1 : 2;
  if (!walk->dq) return;
  uint64_t moves[4];
  make_moves(moves);
  uint64_t state = (uint64_t)walk->state * 8;
  for (size_t i = 0; i < count; i++) {
    const uint32_t negative = (uint32_t)levels[i] >> 31;
    const uint32_t magnitude = ((uint32_t)levels[i] ^ (0u - negative)) + negative;
    state = moves[magnitude & 3] >> state & 0x38;
  }
  walk->state = (uint32_t)state / 8;
}

nnb_status nnb_binarize(nnb_walk *walk, size_t at, size_t count) {
  const int plain = !walk->general && walk->unary_length <= NNB_FLAGS_TOGETHER;
  if (!walk->dq) return plain ? binarize(walk, at, count, 0, 1, 0) : binarize(walk, at, count, 0, 0, 0);
  if (walk->peer) return plain ? binarize(walk, at, count, 1, 1, 1) : binarize(walk, at, count, 1, 0, 1);
  return plain ? binarize(walk, at, count, 1, 1, 0) : binarize(walk, at, count, 1, 0, 0);
}

/* What the rANS coder's NEON paths share: look-ups in registers, and masks. */
#ifndef NNB_COMMON_RANS_NEON_H
#define NNB_COMMON_RANS_NEON_H

#include "common/deps_simd.h"
#include "common/rans.h"

#if NNB_NEON

/* All states, in halves, eight to a register. */
typedef struct nnb_rans_lanes {
  uint16x8_t low[8];
  uint16x8_t high[8];
} nnb_rans_lanes;

/* For each set of eight lanes, which of 16 bytes go where. */
typedef struct nnb_rans_orders {
  uint16_t of[256][8];
} nnb_rans_orders;

/* Bytes k: which lanes of group k, and twice the lanes in groups 0..k. */
typedef struct nnb_rans_sets {
  uint64_t lanes;
  uint64_t ends;
} nnb_rans_sets;

NNB_INLINE void nnb_rans_load_lanes(nnb_rans_lanes *lanes, const uint32_t *states) {
  for (int g = 0; g < 8; g++) {
    const uint16x8x2_t halves = vuzpq_u16(vreinterpretq_u16_u32(vld1q_u32(states + 8 * g)),
                                          vreinterpretq_u16_u32(vld1q_u32(states + 8 * g + 4)));
    lanes->low[g] = halves.val[0];
    lanes->high[g] = halves.val[1];
  }
}

NNB_INLINE void nnb_rans_store_lanes(uint32_t *states, const nnb_rans_lanes *lanes) {
  for (int g = 0; g < 8; g++) {
    const uint16x8x2_t whole = vzipq_u16(lanes->low[g], lanes->high[g]);
    vst1q_u32(states + 8 * g, vreinterpretq_u32_u16(whole.val[0]));
    vst1q_u32(states + 8 * g + 4, vreinterpretq_u32_u16(whole.val[1]));
  }
}

NNB_INLINE uint8x16x4_t nnb_load_64(const uint8_t *bytes) {
#if defined(__clang__) || __GNUC__ > 10
  return vld1q_u8_x4(bytes); /* which older compilers do not have */
#else
  return (uint8x16x4_t){{vld1q_u8(bytes), vld1q_u8(bytes + 16), vld1q_u8(bytes + 32), vld1q_u8(bytes + 48)}};
#endif
}

/* `rows` is a constant, 32 or 64; 0 for rows beyond. */
NNB_INLINE uint8x16_t nnb_find_bytes(const uint8_t *table, uint8x16_t row, int rows) {
  return rows <= 32 ? vqtbl2q_u8(vld1q_u8_x2(table), row) : vqtbl4q_u8(nnb_load_64(table), row);
}

/* 64 bytes out of a table of 256. */
NNB_INLINE void nnb_find_any_bytes(const uint8_t *table, const uint8_t *at, uint8x16_t *found) {
  uint8x16_t rest[4];
  for (int k = 0; k < 4; k++) {
    rest[k] = vld1q_u8(at + 16 * k);
    found[k] = vqtbl4q_u8(nnb_load_64(table), rest[k]);
  }
  for (int part = 1; part < 4; part++) {
    const uint8x16x4_t quarter = nnb_load_64(table + 64 * part);
    for (int k = 0; k < 4; k++) {
      rest[k] = vsubq_u8(rest[k], vdupq_n_u8(64));
      found[k] = vqtbx4q_u8(found[k], quarter, rest[k]);
    }
  }
}

/* 16-bit values whose halves lie in two tables. */
NNB_INLINE uint8x16x2_t nnb_find_words(const uint8_t (*halves)[64], uint8x16_t row, int rows) {
  return vzipq_u8(nnb_find_bytes(halves[0], row, rows), nnb_find_bytes(halves[1], row, rows));
}

/* One byte for each lane, 0 or 255, 16 lanes to a register. */
NNB_INLINE nnb_rans_sets nnb_rans_sets_of(const uint8x16_t *masks) {
  const uint8x16_t bits = vreinterpretq_u8_u64(vdupq_n_u64(UINT64_C(0x8040201008040201)));
  const uint8x16_t lower = vpaddq_u8(vandq_u8(masks[0], bits), vandq_u8(masks[1], bits));
  const uint8x16_t upper = vpaddq_u8(vandq_u8(masks[2], bits), vandq_u8(masks[3], bits));
  const uint8x16_t both = vpaddq_u8(lower, upper);
  const uint8x8_t sets = vget_low_u8(vpaddq_u8(both, both));
  nnb_rans_sets result;
  result.lanes = vget_lane_u64(vreinterpret_u64_u8(sets), 0);
  result.ends = vget_lane_u64(vreinterpret_u64_u8(vcnt_u8(sets)), 0) * UINT64_C(0x0202020202020202);
  return result;
}

NNB_INLINE uint8x16_t nnb_narrow(uint16x8_t lower, uint16x8_t upper) {
  return vuzp1q_u8(vreinterpretq_u8_u16(lower), vreinterpretq_u8_u16(upper));
}

#endif

#endif

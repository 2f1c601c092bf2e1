/* rANS decoding from expanded tables, four states to a register. */
#include "common/deps_simd.h"
#include "dec/rans.h"

#if NNB_NEON

#define LANES 4u
#define GROUPS (NNB_RANS_MAX_STATES / LANES)

/* For each set of lanes, the bytes of the next words that each of them takes, and how many bytes these are. */
typedef struct word_orders {
  uint8_t of[16][16];
  uint8_t sizes[16];
} word_orders;

static void fill_orders(word_orders *orders) {
  for (uint32_t set = 0; set < 16; set++) {
    uint8_t next = 0;
    for (uint32_t lane = 0; lane < LANES; lane++) {
      const int takes = set >> lane & 1u;
      for (uint32_t byte = 0; byte < 4; byte++) {
        orders->of[set][4 * lane + byte] = takes && byte < 2 ? next++ : 255; /* 255 gives zero */
      }
    }
    orders->sizes[set] = next;
  }
}

NNB_INLINE void decode_rounds(nnb_rans_job *job, const uint32_t *entries, const uint8_t *contexts) {
  static const uint32_t lane_bits[4] = {1, 2, 4, 8};
  word_orders orders;
  uint32_t first_entry[256];
  uint32x4_t x[GROUPS];
  const uint32x4_t bits = vld1q_u32(lane_bits);
  const uint32x4_t slot_mask = vdupq_n_u32(NNB_RANS_SLOTS - 1);
  const uint8_t *const end = job->end;
  const uint8_t *next = job->next;
  const size_t count = job->count;
  uint8_t *const symbols = job->symbols;
  size_t i = job->done;
  fill_orders(&orders);
  for (uint32_t c = 0; c < 256 && contexts != NULL; c++) {
    first_entry[c] = (uint32_t)job->context_map[c] << NNB_RANS_BITS;
  }
  for (uint32_t g = 0; g < GROUPS; g++) x[g] = vld1q_u32(job->states + LANES * g);
  while (count - i >= NNB_RANS_MAX_STATES && (size_t)(end - next) >= 2 * NNB_RANS_MAX_STATES) {
    for (uint32_t g = 0; g < GROUPS; g += 4) {
      uint32x4_t entry[4];
      uint16x4_t lower[4]; /* halves of the entries */
      for (uint32_t k = 0; k < 4; k++) {
        uint32_t index[LANES];
        vst1q_u32(index, vandq_u32(x[g + k], slot_mask));
        for (uint32_t j = 0; j < LANES && contexts != NULL; j++) {
          index[j] += first_entry[contexts[i + LANES * (g + k) + j]];
        }
        entry[k] = vdupq_n_u32(entries[index[0]]);
        entry[k] = vld1q_lane_u32(entries + index[1], entry[k], 1);
        entry[k] = vld1q_lane_u32(entries + index[2], entry[k], 2);
        entry[k] = vld1q_lane_u32(entries + index[3], entry[k], 3);
      }
      for (uint32_t k = 0; k < 4; k++) {
        const uint32x4_t frequency = vaddq_u32(vandq_u32(vshrq_n_u32(entry[k], 8), slot_mask), vdupq_n_u32(1));
        const uint32x4_t rank = vshrq_n_u32(entry[k], 20);
        const uint32x4_t y = vmlaq_u32(rank, frequency, vshrq_n_u32(x[g + k], NNB_RANS_BITS));
        const uint32x4_t low = vcltq_u32(y, vdupq_n_u32(NNB_RANS_LOW));
        const uint32_t set = vaddvq_u32(vandq_u32(low, bits));
        const uint8x16_t words = vcombine_u8(vld1_u8(next), vdup_n_u8(0));
        const uint32x4_t filling = vreinterpretq_u32_u8(vqtbl1q_u8(words, vld1q_u8(orders.of[set])));
        x[g + k] = vorrq_u32(vbslq_u32(low, vshlq_n_u32(y, 16), y), filling);
        next += orders.sizes[set];
        lower[k] = vmovn_u32(entry[k]);
      }
      const uint8x8_t first = vmovn_u16(vcombine_u16(lower[0], lower[1]));
      const uint8x8_t second = vmovn_u16(vcombine_u16(lower[2], lower[3]));
      vst1q_u8(symbols + i + LANES * g, vcombine_u8(first, second));
    }
    i += NNB_RANS_MAX_STATES;
  }
  job->next = next;
  job->done = i;
  for (uint32_t g = 0; g < GROUPS; g++) vst1q_u32(job->states + LANES * g, x[g]);
}

void nnb_rans_decode_neon(nnb_rans_job *job, const uint32_t *entries) {
  if (job->contexts == NULL) {
    decode_rounds(job, entries, NULL);
  } else {
    decode_rounds(job, entries, job->contexts);
  }
}

#else
typedef int nnb_rans_no_neon; /* a translation unit is never empty */
#endif

/*
 * The lowest bytes of floats in halves. Weights that were added up keep the last places that they had when they were
 * larger: the smaller they are now, the more of their last bits are zero.
 */
#include "enc/lossless_encoder.h"
#include "enc/rans.h"

enum { FEWEST = 4096, HALF = 16 };

/* How often lower halves come with symbols below one; [HALF]: all of them. */
typedef uint32_t counts[HALF + 1];

static void count_halves(const uint8_t *symbols, const uint8_t *bytes, size_t count, counts *below) {
  nnb_memset(below, 0, 257 * sizeof *below);
  for (size_t i = 0; i < count; i++) below[symbols[i] + 1][bytes[i] % HALF]++;
  for (unsigned s = 1; s <= 256; s++) {
    for (unsigned i = 0; i < HALF; i++) {
      below[s][HALF] += below[s][i];
      below[s][i] += below[s - 1][i];
    }
    below[s][HALF] += below[s - 1][HALF];
  }
}

/* The limit, where an exponent begins or behind all symbols, that makes the bytes shortest, or 0; *least becomes about
 * their size. */
static unsigned find_limit(const counts *below, unsigned upper, uint32_t base, size_t *least) {
  const size_t count = below[256][HALF];
  size_t last = 0;
  unsigned best = 0;
  *least = count;
  for (unsigned limit = 1; limit < 256 && last < count; limit++) {
    const size_t halved = below[limit][HALF];
    const int begins = ((limit + base) & ((1u << upper) - 1u)) == 0;
    if (halved == last || (!begins && halved < count)) continue;
    last = halved;
    const size_t size = count - halved / 2 + (size_t)(nnb_rans_entropy(below[limit], HALF) >> 19);
    if (size >= *least) continue;
    *least = size;
    best = limit;
  }
  return best;
}

static void part(const uint8_t *symbols, const uint8_t *bytes, size_t count, unsigned limit, uint8_t *below,
                 uint8_t *others) {
  size_t i = 0;
#if NNB_X86_DISPATCH
  if (nnb_cpu_has_bmi2()) i = nnb_part_avx2(symbols, bytes, count, limit, &below, &others);
#endif
  for (; i < count; i++) {
    const int is_below = symbols[i] < limit;
    *(is_below ? below : others) = bytes[i];
    below += is_below;
    others += !is_below;
  }
}

static void write(nnb_encoder *e, size_t count, size_t halved, unsigned limit) {
  uint8_t *const below = (uint8_t *)e->measures, *const others = (uint8_t *)e->highs;
  uint8_t *const upper = others + count + 8, *const lower = (uint8_t *)e->sums;
  part(e->symbols, e->bytes[0], count, limit, below, others);
  for (size_t i = 0; i < halved; i++) lower[i] = below[i] % HALF;
  below[halved] = 0;
  for (size_t i = 0; i < halved; i += 2) upper[i / 2] = (uint8_t)(below[i] / HALF | (below[i + 1] & 0xf0u));
  nnb_put_u8(e, limit);
  nnb_write_plane(e, upper, (halved + 1) / 2);
  nnb_write_plane(e, lower, halved);
  if (halved == count) return;
  nnb_put_u8(e, NNB_PLANE_RAW); /* what little there is to gain would cost as much time as all else */
  nnb_put_bytes(e, others, count - halved);
}

int nnb_write_halves(nnb_encoder *e, size_t count, unsigned upper, uint32_t base) {
  enum { TABLES = 64 };
  const size_t start = e->used, gain = e->choice->speed == NNB_LOSSLESS_SMALL ? count / 512 : count / 100;
  const uint8_t *const bytes = e->bytes[0];
  counts *const below = (counts *)(void *)e->sums;
  if (count < FEWEST || e->choice->planes_raw || nnb_looks_random(bytes, count)) return 0;
  count_halves(e->symbols, bytes, count, below);
  size_t size;
  const unsigned limit = find_limit(below, upper, base, &size);
  const size_t halved = below[limit][HALF];
  size += 4 * (size_t)nnb_rans_state_count(halved) + TABLES;
  if (limit == 0 || nnb_all_equal(e->symbols, count) || size + gain >= count ||
      size >= nnb_estimate_plane(e, bytes, count, NULL, NULL, 1))
    return 0;
  write(e, count, halved, limit);
  if (e->used - start < count) return 1;
  e->used = start;
  return 0;
}

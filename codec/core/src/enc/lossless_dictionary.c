/* Finds the different items of coding DICTIONARY. */
#include "enc/lossless.h"

#define SAMPLES 512u
#define SAMPLE_PLACES 2048u
#define REPEATED 6u /* in a sample; of 8192 equally frequent items 16 are to be expected, of weights none */

static uint32_t hash(uint64_t item, unsigned bits) {
  return (uint32_t)(item * UINT64_C(0x9E3779B97F4A7C15) >> (64 - bits));
}

int nnb_probe_dictionary(const nnb_items *items, const void *values, size_t count) {
  if (items->bytes < 4 || count < 2 * SAMPLES) return 0;
  uint16_t places[SAMPLE_PLACES] = {0};
  const size_t stride = count / SAMPLES;
  const unsigned half = items->bytes == 4 ? 13 : 29; /* mantissa bits that numbers of half the width have not */
  uint64_t low = 0;
  unsigned repeated = 0;
  for (unsigned i = 0; i < SAMPLES; i++) {
    const uint64_t item = nnb_item(items, values, i * stride);
    if (item == 0) continue;
    low |= item & ((UINT64_C(1) << half) - 1);
    uint32_t place = hash(item, 11);
    while (places[place] && nnb_item(items, values, (places[place] - 1u) * stride) != item)
      place = (place + 1) % SAMPLE_PLACES;
    repeated += places[place] != 0;
    places[place] = (uint16_t)(i + 1);
  }
  return repeated >= REPEATED && (items->mantissa_bits == 0 || low != 0);
}

int nnb_lossless_may_repeat(const nnb_items *items, const void *values, size_t count) {
  enum { RUNS = 4, RUN = 256, BITS = 12 };
  if (items->bytes < 4 || items->mantissa_bits == 0) return 1;
  uint32_t places[1 << BITS] = {0};
  const size_t stride = count / RUNS > RUN ? count / RUNS : RUN;
  size_t seen = 0, repeated = 0;
  for (size_t first = 0; first < count; first += stride) {
    for (size_t i = first; i < count && i < first + RUN; i++, seen++) {
      const uint64_t item = nnb_item(items, values, i);
      uint32_t *const place = places + hash(item, BITS);
      repeated += *place != 0 && nnb_item(items, values, *place - 1u) == item;
      *place = (uint32_t)i + 1;
    }
  }
  return repeated > seen / 32;
}

/* Magnitudes first, that those of both signs are near each other. */
static uint64_t order_of(const nnb_items *items, uint64_t item) {
  const unsigned bits = 8u * items->bytes;
  if (items->mantissa_bits == 0) return item;
  return item << 1 << (64 - bits) >> (64 - bits) | item >> (bits - 1);
}

/* Heap sort of places in the list of items found. */
static void sift(const nnb_items *items, const void *values, uint32_t *list, size_t root, size_t count) {
  const uint32_t moved = list[root];
  const uint64_t key = order_of(items, nnb_item(items, values, moved));
  for (size_t child; (child = 2 * root + 1) < count; root = child) {
    uint64_t order = order_of(items, nnb_item(items, values, list[child]));
    if (child + 1 < count) {
      const uint64_t other = order_of(items, nnb_item(items, values, list[child + 1]));
      if (other > order) {
        order = other;
        child++;
      }
    }
    if (order <= key) break;
    list[root] = list[child];
  }
  list[root] = moved;
}

size_t nnb_find_dictionary(const nnb_items *items, const void *values, size_t count, size_t most, void *entries,
                           nnb_any16 *indices, uint32_t *work) {
  unsigned bits = 1;
  while (bits < 17 && ((size_t)1 << bits) < 2 * most) bits++;
  const uint32_t mask = ((uint32_t)1 << bits) - 1;
  uint32_t *const places = work, *const list = work + mask + 1; /* numbers in the list plus 1; where items are first */
  size_t found = 0;
  nnb_memset(places, 0, ((size_t)mask + 1) * sizeof *places);
  for (size_t i = 0; i < count; i++) {
    const uint64_t item = nnb_item(items, values, i);
    uint32_t place = hash(item, bits);
    while (places[place] && nnb_item(items, values, list[places[place] - 1]) != item) place = (place + 1) & mask;
    if (places[place] == 0) {
      if (found == most) return 0;
      list[found] = (uint32_t)i;
      places[place] = (uint32_t)++found;
    }
  }
  for (size_t i = found / 2; i-- > 0;) sift(items, values, list, i, found);
  for (size_t left = found; left-- > 1;) {
    const uint32_t last = list[0];
    list[0] = list[left];
    list[left] = last;
    sift(items, values, list, 0, left);
  }
  for (size_t k = 0; k < found; k++) {
    const uint64_t item = nnb_item(items, values, list[k]);
    if (items->bytes == 4)
      ((nnb_any32 *)entries)[k] = (uint32_t)item;
    else
      ((nnb_any64 *)entries)[k] = item;
  }
  nnb_memset(places, 0, ((size_t)mask + 1) * sizeof *places);
  for (size_t k = 0; k < found; k++) {
    uint32_t place = hash(nnb_item(items, entries, k), bits);
    while (places[place]) place = (place + 1) & mask;
    places[place] = (uint32_t)k + 1;
  }
  for (size_t i = 0; i < count; i++) {
    const uint64_t item = nnb_item(items, values, i);
    uint32_t place = hash(item, bits);
    while (nnb_item(items, entries, places[place] - 1) != item) place = (place + 1) & mask;
    indices[i] = (uint16_t)(places[place] - 1);
  }
  return found;
}

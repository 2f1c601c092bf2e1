/* Finds the different items of coding DICTIONARY. */
#include "enc/lossless.h"

#define SAMPLE_PLACES 2048u
#define REPEATED 6u /* in a sample; of 8192 equally frequent items 16 are to be expected, of weights none */
#define CLASS 256u  /* entries whose places have the same upper byte */

static uint32_t hash(uint64_t item, unsigned bits) {
  return (uint32_t)(item * UINT64_C(0x9E3779B97F4A7C15) >> (64 - bits));
}

static uint64_t pairs_of(const uint16_t *histogram) {
  uint64_t pairs = 0;
  for (unsigned i = 0; i < 256; i++) pairs += (uint64_t)histogram[i] * (histogram[i] - 1u) / 2 * (histogram[i] != 0);
  return pairs;
}

/* Items of 2 bytes come back in all weights: whether more pairs of a sample are equal than exponents alone, or bytes of
 * integers alone, explain. */
static int short_items_come_back(const nnb_items *items, const void *values, size_t count) {
  uint16_t seen[SAMPLE_PLACES], times[SAMPLE_PLACES] = {0}, upper[256] = {0}, lower[256] = {0};
  uint64_t samples[NNB_SAMPLES], pairs = 0, all = 0;
  nnb_sample_items(items, values, count, samples);
  for (size_t i = 0; i < NNB_SAMPLES; i++) {
    const uint32_t item = (uint32_t)samples[i];
    if (item == 0) continue;
    upper[items->mantissa_bits ? (item & 0x7fffu) >> items->mantissa_bits : item >> 8]++;
    lower[item & 255u]++;
    uint32_t place = hash(item, 11);
    while (times[place] && seen[place] != item) place = (place + 1) % SAMPLE_PLACES;
    seen[place] = (uint16_t)item;
    pairs += times[place]++;
    all++;
  }
  if (all < 2) return 0;
  const uint64_t expected = items->mantissa_bits ? pairs_of(upper) >> (items->mantissa_bits + 1)
                                                 : pairs_of(upper) * pairs_of(lower) / (all * (all - 1) / 2);
  return pairs > expected + expected / 4 + 20;
}

int nnb_probe_dictionary(const nnb_items *items, const void *values, size_t count) {
  if (items->bytes < 2 || count < 2 * NNB_SAMPLES) return 0;
  if (items->bytes == 2) return short_items_come_back(items, values, count);
  uint16_t places[SAMPLE_PLACES] = {0};
  const unsigned half = items->bytes == 4 ? 13 : 29; /* mantissa bits that numbers of half the width have not */
  uint64_t samples[NNB_SAMPLES], low = 0;
  unsigned repeated = 0;
  nnb_sample_items(items, values, count, samples);
  for (unsigned i = 0; i < NNB_SAMPLES; i++) {
    const uint64_t item = samples[i];
    if (item == 0) continue;
    low |= item & ((UINT64_C(1) << half) - 1);
    uint32_t place = hash(item, 11);
    while (places[place] && samples[places[place] - 1u] != item) place = (place + 1) % SAMPLE_PLACES;
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
static uint64_t key_of(const nnb_items *items, uint64_t item) {
  const unsigned bits = 8u * items->bytes;
  if (items->mantissa_bits == 0) return item;
  return item << 1 << (64 - bits) >> (64 - bits) | item >> (bits - 1);
}

static void put_entry(const nnb_items *items, void *entries, size_t at, uint64_t key) {
  const uint64_t item = items->mantissa_bits == 0 ? key : key >> 1 | (key & 1u) << (8u * items->bytes - 1);
  if (items->bytes == 2)
    ((nnb_any16 *)entries)[at] = (uint16_t)item;
  else if (items->bytes == 4)
    ((nnb_any32 *)entries)[at] = (uint32_t)item;
  else
    ((nnb_any64 *)entries)[at] = item;
}

static void sift(uint64_t *keys, size_t root, size_t count) {
  const uint64_t moved = keys[root];
  for (size_t child; (child = 2 * root + 1) < count; root = child) {
    child += child + 1 < count && keys[child + 1] > keys[child];
    if (keys[child] <= moved) break;
    keys[root] = keys[child];
  }
  keys[root] = moved;
}

static void sort(uint64_t *keys, size_t count) {
  for (size_t i = count / 2; i-- > 0;) sift(keys, i, count);
  for (size_t left = count; left-- > 1;) {
    const uint64_t last = keys[0];
    keys[0] = keys[left];
    keys[left] = last;
    sift(keys, 0, left);
  }
}

/* Bits of the code of the places, whose numbers of times are the lower halves of `times`, byte by byte. */
static uint64_t cost_of_places(const uint64_t *times, size_t count) {
  uint32_t lower[256] = {0}, upper[256] = {0};
  uint16_t frequencies[256];
  for (size_t k = 0; k < count; k++) {
    lower[k % 256] += (uint32_t)times[k];
    upper[k / 256] += (uint32_t)times[k];
  }
  nnb_rans_normalize(lower, frequencies);
  uint64_t cost = nnb_rans_cost(lower, frequencies);
  nnb_rans_normalize(upper, frequencies);
  cost += nnb_rans_cost(upper, frequencies);
  return cost >> 16;
}

/*
 * Whether it is better that the most frequent entries have the first places, so that the upper bytes of most places are
 * the same. `times` of each entry become, for each place, the former place (upper half) of the entry and its times.
 */
static int order_by_frequency(uint64_t *times, size_t count) {
  if (count <= CLASS) return 0;
  uint64_t cost = cost_of_places(times, count);
  for (size_t k = 0; k < count; k++) times[k] = (0xffffffffu - times[k]) << 16 | k;
  sort(times, count);
  for (size_t k = 0; k < count; k++) times[k] = (times[k] & 0xffffu) << 32 | (0xffffffffu - (times[k] >> 16));
  for (size_t k = 0; k < count; k += CLASS) sort(times + k, count - k < CLASS ? count - k : CLASS);
  for (size_t classes = 1; classes * CLASS < count; classes *= 2) cost -= count < cost ? count : cost;
  return cost_of_places(times, count) < cost; /* neighbours are farther apart by a factor, the number of classes */
}

size_t nnb_find_dictionary(const nnb_items *items, const void *values, size_t count, size_t most, void *entries,
                           nnb_any16 *indices, void *work) {
  unsigned bits = 1;
  while (bits < 17 && ((size_t)1 << bits) < 2 * most) bits++;
  const uint32_t mask = ((uint32_t)1 << bits) - 1;
  uint32_t *const places = work; /* numbers of keys plus 1 */
  uint64_t *const keys = (uint64_t *)(void *)(places + mask + 1), *const times = work;
  size_t found = 0;
  nnb_memset(places, 0, ((size_t)mask + 1) * sizeof *places);
  for (size_t i = 0; i < count; i++) {
    const uint64_t key = key_of(items, nnb_item(items, values, i));
    uint32_t place = hash(key, bits);
    while (places[place] && keys[places[place] - 1] != key) place = (place + 1) & mask;
    if (places[place] == 0) {
      if (found == most) return 0;
      keys[found] = key;
      places[place] = (uint32_t)++found;
    }
  }
  sort(keys, found);
  nnb_memset(places, 0, ((size_t)mask + 1) * sizeof *places);
  for (size_t k = 0; k < found; k++) {
    uint32_t place = hash(keys[k], bits);
    while (places[place]) place = (place + 1) & mask;
    places[place] = (uint32_t)k + 1;
  }
  for (size_t i = 0; i < count; i++) {
    const uint64_t key = key_of(items, nnb_item(items, values, i));
    uint32_t place = hash(key, bits);
    while (keys[places[place] - 1] != key) place = (place + 1) & mask;
    indices[i] = (uint16_t)(places[place] - 1);
  }
  nnb_memset(times, 0, found * sizeof *times);
  for (size_t i = 0; i < count; i++) times[indices[i]]++;
  const int frequent_first = order_by_frequency(times, found);
  for (size_t k = 0; k < found; k++) put_entry(items, entries, k, keys[frequent_first ? times[k] >> 32 : k]);
  if (frequent_first) {
    for (size_t k = 0; k < found; k++) keys[times[k] >> 32] = k;
    for (size_t i = 0; i < count; i++) indices[i] = (uint16_t)keys[indices[i]];
  }
  return found;
}

/* Finds the scales of coding MULTIPLES: weights that were integers times a scale of their row or group. */
#include "enc/lossless.h"

#define MOST_DIVISOR 16u /* of the least magnitude of a run: what multiple of the scale it is */
#define ENOUGH 8u        /* items other than zero that make a run worth looking at */
#define PROBES 8u
#define SLACK 0x1p-23 /* of bounds: products are rounded to binary32 before they become items */

/* Items that are next to each other in a row, or under each other in a column. */
typedef struct run {
  const nnb_items *items;
  const uint8_t *values;
  size_t stride, count;
} run;

NNB_INLINE uint32_t item_of(const run *r, size_t i) {
  const uint8_t *const at = r->values + i * r->stride * r->items->bytes;
  return r->items->bytes == 4 ? *(const nnb_any32 *)at : *(const nnb_any16 *)at;
}

/* Of a magnitude, which is finite or the least that is not. */
NNB_INLINE double value_of(const nnb_items *items, uint32_t magnitude) {
  if (items->bytes == 2)
    magnitude = items->mantissa_bits == 7 ? magnitude << 16
                : magnitude >= 0x7c00u    ? 0x47800000u
                                          : nnb_widen16(magnitude);
  return magnitude >= 0x7f800000u ? 0x1p128 : (double)nnb_float_of(magnitude);
}

/* Whether the greatest magnitude is an integer of 8 bits if the least is the multiple `divisor` of the scale. */
static int in_range(const nnb_items *items, uint32_t least, uint32_t greatest, unsigned divisor) {
  return value_of(items, greatest) * divisor <= 255.5 * value_of(items, least);
}

static int has_enough(const run *r) {
  const uint32_t sign = (uint32_t)1 << (8u * r->items->bytes - 1u);
  size_t present = 0;
  for (size_t i = 0; i < r->count && present < ENOUGH; i++) present += (item_of(r, i) & (sign - 1u)) != 0;
  return present >= ENOUGH;
}

/* Magnitudes other than zero; the least is the greatest, 0, where there are none. */
typedef struct extremes {
  uint32_t least, greatest;
} extremes;

/* Returns 0 if the run surely holds no multiples; stops as soon as that shows. */
static int look_at(const run *r, extremes *e) {
  enum { STEP = 64 };
  const uint32_t sign = (uint32_t)1 << (8u * r->items->bytes - 1u);
  const uint32_t infinity = (sign - 1u) >> r->items->mantissa_bits << r->items->mantissa_bits;
  uint32_t least = infinity, greatest = 0, negative_zeros = 0;
  for (size_t i = 0; i < r->count;) {
    for (const size_t end = r->count - i < STEP ? r->count : i + STEP; i < end; i++) {
      const uint32_t item = item_of(r, i), magnitude = item & (sign - 1u);
      const uint32_t reduced = magnitude ? magnitude : infinity;
      least = reduced < least ? reduced : least;
      greatest = magnitude > greatest ? magnitude : greatest;
      negative_zeros |= (uint32_t)(item == sign);
    }
    if (negative_zeros || greatest >= infinity || !in_range(r->items, least, greatest, 1)) return 0;
  }
  *e = (extremes){greatest ? least : 0, greatest};
  return 1;
}

/* Narrows the bounds of the scale by the items up to `most` times it; 0 if there is none. */
static int narrow_bounds(const run *r, double most, double *low, double *high) {
  const uint32_t sign = (uint32_t)1 << (8u * r->items->bytes - 1u);
  double reciprocal = 2 / (*low + *high);
  for (size_t i = 0; i < r->count; i++) {
    const uint32_t magnitude = item_of(r, i) & (sign - 1u);
    if (magnitude == 0) continue;
    const double value = value_of(r->items, magnitude), multiple = value * reciprocal;
    if (multiple > most) continue;
    const double q = (double)(int)(multiple + 0.5);
    if (q < 1) return 0;
    const double below = (value_of(r->items, magnitude - 1) + value) / (2 * q);
    const double above = (value_of(r->items, magnitude + 1) + value) / (2 * q);
    if (below > *low || above < *high) {
      *low = below > *low ? below : *low;
      *high = above < *high ? above : *high;
      if (*low > *high * (1 + SLACK)) return 0;
      reciprocal = 2 / (*low + *high);
    }
  }
  return 1;
}

/* Integers and offset of a run with a scale; 0 if they do not give the items. */
static int divide_by(const run *r, uint32_t scale, uint8_t *integers, uint8_t *offset) {
  const unsigned top = 8u * r->items->bytes - 1u;
  const uint32_t sign = (uint32_t)1 << top;
  if (!nnb_scales_valid(r->items, &scale, 1)) return 0;
  const double reciprocal = 1 / (double)nnb_float_of(scale);
  int least = 0, greatest = 0;
  for (size_t i = 0; i < r->count; i++) {
    const uint32_t item = item_of(r, i), magnitude = item & (sign - 1u);
    const double multiple = value_of(r->items, magnitude) * reciprocal;
    if (multiple > 255.5) return 0;
    const int size = (int)(multiple + 0.5), q = item & sign ? -size : size;
    least = q < least ? q : least;
    greatest = q > greatest ? q : greatest;
    integers[i * r->stride] = (uint8_t)q;
  }
  if (least < -255 || greatest > 255 || greatest - least > 255) return 0;
  *offset = (uint8_t)(least < -128 ? -least : greatest > 127 ? 255 - greatest : 128);
  for (size_t i = 0; i < r->count; i++) {
    const uint32_t product = nnb_product(nnb_float_of(scale), nnb_integer(integers[i * r->stride], *offset));
    if (nnb_round_product(r->items, product) != item_of(r, i)) return 0;
  }
  return 1;
}

/* The number between the bounds with most zeros at the end; that of the run before, if it fits. */
static int choose_scale(const run *r, double low, double high, uint32_t before, uint8_t *integers, uint8_t *offset,
                        uint32_t *scale) {
  low -= low * SLACK;
  high += high * SLACK;
  if (before && (double)nnb_float_of(before) >= low && (double)nnb_float_of(before) <= high &&
      divide_by(r, before, integers, offset)) {
    *scale = before;
    return 1;
  }
  if (high > 0x1p127 || low < 0x1p-126) return 0;
  uint32_t first = nnb_bits_of((float)low), last = nnb_bits_of((float)high);
  if ((double)nnb_float_of(first) < low) first++;
  if ((double)nnb_float_of(last) > high) last--;
  for (unsigned zeros = 24; zeros-- > 0;) {
    const uint32_t rounded = ((first - 1u) >> zeros << zeros) + ((uint32_t)1 << zeros);
    if (rounded < first || rounded > last) continue;
    if (divide_by(r, rounded, integers, offset)) {
      *scale = rounded;
      return 1;
    }
    if (zeros == 0) break;
  }
  for (uint32_t s = first; s <= last && s - first < 16; s++) {
    if (divide_by(r, s, integers, offset)) {
      *scale = s;
      return 1;
    }
  }
  return 0;
}

static int solve(const run *r, uint32_t before, uint8_t *integers, uint8_t *offset, uint32_t *scale) {
  extremes e;
  if (!look_at(r, &e)) return 0;
  if (e.greatest == 0) {
    *scale = before ? before : 127u << 23;
    return divide_by(r, *scale, integers, offset);
  }
  const double least = value_of(r->items, e.least);
  for (unsigned divisor = 1; divisor <= MOST_DIVISOR && in_range(r->items, e.least, e.greatest, divisor); divisor++) {
    double low = (value_of(r->items, e.least - 1) + least) / (2 * divisor);
    double high = (value_of(r->items, e.least + 1) + least) / (2 * divisor);
    if (r->items->bytes == 2 && (!narrow_bounds(r, 24, &low, &high) || !narrow_bounds(r, 80, &low, &high))) continue;
    if (!narrow_bounds(r, 300, &low, &high)) continue;
    if (choose_scale(r, low, high, before, integers, offset, scale)) return 1;
  }
  return 0;
}

static run row_run(const nnb_items *items, const void *values, size_t first, size_t count) {
  return (run){items, (const uint8_t *)values + first * items->bytes, 1, count};
}

/* Whether all rows that were chosen begin with a run of so many items; coarse types allow a scale here and there. */
static int probe_runs(const nnb_items *items, const void *values, const size_t *starts, size_t probes, size_t length,
                      uint8_t *integers) {
  uint8_t offset;
  uint32_t scale;
  for (size_t i = 0; i < probes; i++) {
    const run r = row_run(items, values, starts[i], length);
    if (!solve(&r, 0, integers, &offset, &scale)) return 0;
  }
  return 1;
}

int nnb_probe_multiples(const nnb_items *items, const void *values, size_t count, size_t row_items, uint8_t *integers,
                        size_t *length) {
  const size_t rows = count / row_items;
  if (!nnb_may_be_multiples(items) || rows == 0) return 0;
  size_t starts[PROBES], probes = 0;
  for (size_t i = 0; i < 4 * PROBES && i < rows && probes < PROBES; i++) {
    const size_t first = (rows / 2 + i * (rows / (4 * PROBES) + 1)) % rows * row_items;
    const run r = row_run(items, values, first, row_items);
    if (has_enough(&r)) starts[probes++] = first;
  }
  if (probes == 0) return 0;
  for (size_t divisor = 1; divisor <= 256 && row_items / divisor >= NNB_LEAST_RUN; divisor++) {
    if (row_items % divisor != 0) continue;
    *length = row_items / divisor;
    if (probe_runs(items, values, starts, probes, *length, integers)) return 1;
  }
  *length = 0;
  const run column = {items, (const uint8_t *)values + row_items / 2 * items->bytes, row_items, rows};
  uint8_t offset;
  uint32_t scale;
  return nnb_run_valid(0, row_items, count) && has_enough(&column) && solve(&column, 0, integers, &offset, &scale);
}

int nnb_find_multiples(const nnb_items *items, const void *values, size_t count, size_t row_items, size_t length,
                       nnb_any32 *scales, uint8_t *offsets, uint8_t *integers, size_t *scale_count) {
  uint32_t scale = 0;
  *scale_count = length ? (count + length - 1) / length : row_items;
  for (size_t k = 0; k < *scale_count; k++) {
    const size_t first = length ? k * length : k;
    run r = row_run(items, values, first, count - first < length ? count - first : length);
    if (length == 0) r = (run){items, r.values, row_items, (count - k + row_items - 1) / row_items};
    if (!solve(&r, scale, integers + first, &offsets[k], &scale)) return 0;
    scales[k] = scale;
  }
  return 1;
}

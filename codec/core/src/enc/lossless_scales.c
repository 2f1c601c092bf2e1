#include "common/sparse.h"
#include "enc/lossless.h"

#define FINE 16 /* steps of a mean to one of a measure */

static int64_t divide_rounding(int64_t a, int64_t b) { return a >= 0 ? (a + b / 2) / b : -((-a + b / 2) / b); }

/* Sums of all rows and columns where every item is present; rows are below 2^15 items of below 2^16. */
NNB_INLINE int64_t sum_all(const uint16_t *restrict measures, size_t positions, size_t columns,
                           int64_t *restrict row_means, int64_t *restrict column_sums) {
  int64_t total = 0;
  int32_t part[2048];
  for (size_t at = 0, row = 0; at < positions; at += columns, row++) {
    const size_t n = positions - at < columns ? positions - at : columns;
    uint32_t sum = 0;
    for (size_t j = 0; j < n; j++) sum += measures[at + j];
    total += sum;
    row_means[row] = divide_rounding((int64_t)sum * FINE, (int64_t)n);
  }
  for (size_t first = 0; first < columns; first += 2048) {
    const size_t n = columns - first < 2048 ? columns - first : 2048;
    for (size_t j = 0; j < n; j++) part[j] = 0;
    size_t pending = 0;
    for (size_t row = 0, at = first; at < positions; row++, at += columns) {
      const size_t m = positions - at < n ? positions - at : n;
      const int32_t mean = (int32_t)row_means[row];
      for (size_t j = 0; j < m; j++) part[j] += measures[at + j] * FINE - mean;
      if (++pending == 1024) { /* below 2^20 each */
        for (size_t j = 0; j < n; j++) column_sums[first + j] += part[j];
        for (size_t j = 0; j < n; j++) part[j] = 0;
        pending = 0;
      }
    }
    for (size_t j = 0; j < n; j++) column_sums[first + j] += part[j];
  }
  return total;
}

#if NNB_X86_DISPATCH
NNB_TARGET("avx2,bmi2")
static int64_t sum_all_avx2(const uint16_t *measures, size_t positions, size_t columns, int64_t *row_means,
                            int64_t *column_sums) {
  return sum_all(measures, positions, columns, row_means, column_sums);
}
#endif

/* For each j below n whose bit `first` + j of the mask is set. */
#define EACH_PRESENT(mask, first, n)                                                                            \
  for (size_t base_ = 0, j = 0; base_ < (n); base_ += 64)                                                       \
    for (uint64_t bits_ = nnb_get_bits(mask, (first) + base_, (n) - base_ < 64 ? (unsigned)((n) - base_) : 64); \
         bits_ != 0 && (j = base_ + nnb_lowest_bit(bits_), 1); bits_ &= bits_ - 1)

/* The same of the items that are present; returns their number, `members` that by column. */
static int64_t sum_present(const uint16_t *measures, const uint8_t *mask, size_t positions, size_t columns,
                           int64_t *row_means, int64_t *column_sums, int64_t *members, int64_t *total) {
  size_t next = 0;
  *total = 0;
  for (size_t at = 0, row = 0; at < positions; at += columns, row++) {
    const size_t n = positions - at < columns ? positions - at : columns, first = next;
    int64_t sum = 0;
    for (size_t j = 0; j < n; j += 64)
      next += nnb_popcount(nnb_get_bits(mask, at + j, n - j < 64 ? (unsigned)(n - j) : 64));
    for (size_t i = first; i < next; i++) sum += measures[i];
    *total += sum;
    const int64_t mean = next > first ? divide_rounding(sum * FINE, (int64_t)(next - first)) : -1;
    row_means[row] = mean;
    size_t i = first;
    EACH_PRESENT(mask, at, n) {
      column_sums[j] += (int64_t)measures[i++] * FINE - mean;
      members[j]++;
    }
  }
  return (int64_t)next;
}

int nnb_find_scales(const uint16_t *measures, const uint8_t *mask, size_t positions, size_t row_items, unsigned step,
                    unsigned most, int64_t *sums, nnb_scales *scales) {
  const size_t columns = positions < row_items ? positions : row_items;
  const size_t rows = (positions + row_items - 1) / row_items;
  int64_t *const row_means = sums, *const column_means = sums + rows, *const members = column_means + columns;
  int64_t total, present = (int64_t)positions;
  for (size_t j = 0; j < columns; j++) column_means[j] = members[j] = 0;
  if (mask != NULL) {
    present = sum_present(measures, mask, positions, columns, row_means, column_means, members, &total);
  } else {
    const size_t last = positions - (rows - 1) * columns;
    for (size_t j = 0; j < columns; j++) members[j] = (int64_t)(rows - (j >= last));
#if NNB_X86_DISPATCH
    total = nnb_cpu_has_bmi2() ? sum_all_avx2(measures, positions, columns, row_means, column_means)
                               : sum_all(measures, positions, columns, row_means, column_means);
#else
    total = sum_all(measures, positions, columns, row_means, column_means);
#endif
  }
  if (present == 0) return 0;
  const int64_t mean = divide_rounding(total * FINE, present);
  int64_t least_row = INT64_MAX, greatest_row = INT64_MIN, least_column = INT64_MAX, greatest_column = INT64_MIN;
  for (size_t i = 0; i < rows; i++) {
    const int64_t scale = divide_rounding(row_means[i] < 0 ? mean : row_means[i], step);
    row_means[i] = scale;
    least_row = scale < least_row ? scale : least_row;
    greatest_row = scale > greatest_row ? scale : greatest_row;
  }
  for (size_t j = 0; j < columns; j++) {
    const int64_t scale = members[j] ? divide_rounding(column_means[j], members[j] * (int64_t)step) : 0;
    column_means[j] = scale;
    least_column = scale < least_column ? scale : least_column;
    greatest_column = scale > greatest_column ? scale : greatest_column;
  }
  const int64_t spread = greatest_row - least_row + greatest_column - least_column;
  if (spread == 0 || greatest_column - least_column > (int64_t)most) return 0;
  const int64_t surplus = spread > (int64_t)most ? spread - (int64_t)most : 0; /* the least rows are taken together */
  for (size_t i = 0; i < rows; i++) {
    const int64_t scale = row_means[i] - least_row - surplus;
    scales->rows[i] = (uint8_t)(scale < 0 ? 0 : scale);
  }
  for (size_t j = 0; j < columns; j++) scales->columns[j] = (uint8_t)(column_means[j] - least_column);
  scales->row_count = rows;
  scales->column_count = columns;
  for (size_t row = 0, at = 0, next = 0; row < rows; row++, at += columns) {
    const size_t n = positions - at < columns ? positions - at : columns;
    const uint8_t scale = scales->rows[row];
    const uint8_t *restrict const column = scales->columns;
    if (mask == NULL) {
      uint8_t *restrict const contexts = scales->contexts + at;
      for (size_t j = 0; j < n; j++) contexts[j] = (uint8_t)(scale + column[j]);
    } else {
      EACH_PRESENT(mask, at, n) scales->contexts[next++] = (uint8_t)(scale + column[j]);
    }
  }
  return 1;
}

/* ---- symbols under scales ---- */

NNB_INLINE void clamp_all(const uint16_t *restrict highs, size_t count, unsigned range, uint16_t *restrict measures) {
  uint16_t greatest = 0;
  for (size_t i = 0; i < count; i++) greatest = highs[i] > greatest ? highs[i] : greatest;
  const uint16_t floor = (uint16_t)(greatest > range ? greatest - range : 0);
  for (size_t i = 0; i < count; i++) measures[i] = highs[i] < floor ? floor : highs[i];
}

NNB_INLINE size_t scale_all(const uint16_t *restrict highs, const uint8_t *restrict contexts, size_t count,
                            unsigned upper, unsigned widest, int16_t *restrict scaled, uint8_t *restrict symbols,
                            int32_t *base) {
  int16_t least = INT16_MAX, most = INT16_MIN;
  for (size_t i = 0; i < count; i++) {
    const int16_t high = (int16_t)(highs[i] - ((contexts[i] >> 2) << upper));
    scaled[i] = high;
    least = high < least ? high : least;
    most = high > most ? high : most;
  }
  const int32_t range = (int32_t)widest - 1, first = most - least <= range ? least : most - range;
  size_t escaped = 0;
  for (size_t i = 0; i < count; i++) {
    const int16_t symbol = (int16_t)(scaled[i] - (int16_t)first);
    symbols[i] = (uint8_t)(symbol < 0 ? 0 : symbol);
  }
  if (most - least > range)
    for (size_t i = 0; i < count; i++) escaped += symbols[i] == 0;
  *base = first;
  return escaped;
}

#if NNB_X86_DISPATCH
NNB_TARGET("avx2,bmi2")
static void clamp_avx2(const uint16_t *highs, size_t count, unsigned range, uint16_t *measures) {
  clamp_all(highs, count, range, measures);
}

NNB_TARGET("avx2,bmi2")
static size_t scale_avx2(const uint16_t *highs, const uint8_t *contexts, size_t count, unsigned upper, unsigned widest,
                         int16_t *scaled, uint8_t *symbols, int32_t *base) {
  return scale_all(highs, contexts, count, upper, widest, scaled, symbols, base);
}
#endif

void nnb_clamp_measures(const uint16_t *highs, size_t count, unsigned range, uint16_t *measures) {
#if NNB_X86_DISPATCH
  if (nnb_cpu_has_bmi2()) {
    clamp_avx2(highs, count, range, measures);
    return;
  }
#endif
  clamp_all(highs, count, range, measures);
}

size_t nnb_scale_symbols(const uint16_t *highs, const uint8_t *contexts, size_t count, unsigned upper, unsigned widest,
                         int16_t *scaled, uint8_t *symbols, int32_t *base) {
#if NNB_X86_DISPATCH
  if (nnb_cpu_has_bmi2()) return scale_avx2(highs, contexts, count, upper, widest, scaled, symbols, base);
#endif
  return scale_all(highs, contexts, count, upper, widest, scaled, symbols, base);
}

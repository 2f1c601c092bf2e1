#include "common/sparse.h"
#include "enc/lossless_encoder.h"
#include "enc/rans.h"

enum { ROUNDS = 12 }; /* of k-means, at most */

/* Which share of each row is there, in 1/256, but not 0; `items[c]` receives how many have chance c. */
NNB_INLINE void find_chances(const uint8_t *mask, size_t count, size_t row_items, uint8_t *chances, uint32_t *items) {
  for (size_t c = 0; c < 256; c++) items[c] = 0;
  for (size_t at = 0; at < count; at += row_items, mask += row_items / 8) {
    const size_t n = count - at < row_items ? count - at : row_items, bytes = (n + 7) / 8;
    size_t ones = 0, i = 0;
    for (; bytes - i >= 8; i += 8) {
      uint64_t eight;
      nnb_memcpy(&eight, mask + i, 8);
      ones += nnb_popcount(eight);
    }
    for (; i < bytes; i++) ones += nnb_popcount(mask[i]);
    const size_t chance = (ones * 256 + n / 2) / n;
    *chances = (uint8_t)(chance < 1 ? 1 : chance > 255 ? 255 : chance);
    items[*chances++] += (uint32_t)n;
  }
}

#if NNB_X86_DISPATCH
NNB_TARGET("avx2,bmi2,popcnt")
static void find_chances_avx2(const uint8_t *mask, size_t count, size_t row_items, uint8_t *chances, uint32_t *items) {
  find_chances(mask, count, row_items, chances, items);
}
#endif

/* Classes of chances by k-means; those that stay empty are like the one before. */
static void find_classes(const uint32_t *items, unsigned classes, uint8_t *class_of, uint8_t *chances) {
  uint32_t counts[257] = {0}, sums[257] = {0}; /* of all below a chance */
  unsigned first[(1u << NNB_MASK_CLASS_BITS) + 1];
  for (unsigned c = 0; c < 256; c++) {
    counts[c + 1] = counts[c] + items[c];
    sums[c + 1] = sums[c] + items[c] * c;
  }
  for (unsigned k = 0, c = 0; k < classes; k++) {
    while (counts[c + 1] <= (uint64_t)counts[256] * k / classes) c++;
    first[k] = c;
    chances[k] = (uint8_t)c;
  }
  first[classes] = 256;
  for (unsigned round = 0, changed = 1; changed && round < ROUNDS; round++) {
    changed = 0;
    for (unsigned k = 0; k < classes; k++) {
      const uint32_t n = counts[first[k + 1]] - counts[first[k]];
      if (n) chances[k] = (uint8_t)((sums[first[k + 1]] - sums[first[k]] + n / 2) / n);
    }
    for (unsigned k = 1; k < classes; k++) {
      const unsigned limit = (chances[k - 1] + chances[k] + 1u) / 2;
      changed |= limit != first[k];
      first[k] = limit;
    }
  }
  for (unsigned k = 0; k < classes; k++)
    for (unsigned c = first[k]; c < first[k + 1]; c++) class_of[c] = (uint8_t)k;
}

/* Bits that classes save: half the variance of chances that they explain, over that of an item. */
static uint64_t bits_saved(const uint32_t *items, const uint8_t *class_of, const uint8_t *chances, unsigned mean) {
  uint64_t sum = 0;
  for (unsigned c = 0; c < 256; c++) {
    const int32_t apart = (int32_t)chances[class_of[c]] - (int32_t)mean;
    sum += (uint64_t)items[c] * (uint32_t)(apart * apart);
  }
  return sum * 3 / 4 / (mean * (256 - mean)); /* 1 / (2 ln 2) */
}

/* Classes of rows, or one for all, where that is shorter than any other method. */
static int write_by_rows(nnb_encoder *e, size_t count) {
  const size_t bytes = (count + 7) / 8, row_bytes = e->row_items / 8, rows = (bytes + row_bytes - 1) / row_bytes;
  uint8_t class_of[256] = {0}, map[256], chances[1u << NNB_MASK_CLASS_BITS];
  uint32_t items[256];
  uint8_t *const of_row = e->row_scales, *const classes = e->column_scales;
  uint16_t *const frequencies = e->frequencies;
#if NNB_X86_DISPATCH
  if (nnb_cpu_has_bmi2())
    find_chances_avx2(e->mask, count, e->row_items, of_row, items);
  else
#endif
    find_chances(e->mask, count, e->row_items, of_row, items);
  uint64_t sum = 0;
  for (unsigned c = 0; c < 256; c++) sum += (uint64_t)items[c] * c;
  const uint8_t mean = (uint8_t)((sum + count / 2) / count);
  unsigned bits = NNB_MASK_CLASS_BITS;
  find_classes(items, 1u << bits, class_of, chances);
  if (bits_saved(items, class_of, chances, mean) < rows * bits) {
    bits = 0;
    chances[0] = mean;
  }
  const unsigned tables = 1u << bits;
  const size_t map_size = (rows * bits + 7) / 8;
  nnb_memset(classes, 0, map_size);
  for (size_t row = 0, at = 0; row < rows && bits; row++, at += row_bytes) {
    const uint8_t class = class_of[of_row[row]];
    classes[row * bits / 8] |= (uint8_t)(class << row * bits % 8);
    nnb_memset(e->contexts + at, class, bytes - at < row_bytes ? bytes - at : row_bytes);
  }
  const uint8_t *const contexts = bits ? e->contexts : NULL, *const context_map = bits ? map : NULL;
  nnb_make_map(map, tables, 0);
  if (nnb_rans_count_quarter(e->mask, contexts, context_map, bytes, tables, e->histograms) != NNB_OK) {
    e->failed = 1;
    return 1;
  }
  uint64_t cost = 0, counted = 0, symbols = 0;
  for (unsigned t = 0; t < tables; t++) {
    nnb_mask_frequencies(chances[t], (nnb_any16 *)frequencies + t * 256);
    cost += nnb_rans_cost(e->histograms + t * 256, frequencies + t * 256);
    for (unsigned s = 0; s < 256 && t; s++) e->histograms[s] += e->histograms[t * 256 + s];
  }
  for (unsigned s = 0; s < 256; s++) {
    counted += e->histograms[s];
    symbols += e->histograms[s] != 0;
  }
  const size_t size = (size_t)((cost >> 19) * bytes / counted) + tables + map_size;
  const size_t other = (size_t)((nnb_rans_entropy(e->histograms, 256) >> 19) * bytes / counted + symbols * 11 / 16);
  if (size >= other || size + 4 * (size_t)nnb_rans_state_count(bytes) + bytes / 512 + 5 >= bytes) return 0;
  nnb_put_u8(e, NNB_PLANE_ROWS);
  nnb_put_u8(e, bits);
  nnb_put_bytes(e, chances, tables);
  nnb_put_bytes(e, classes, map_size);
  nnb_write_code(e, e->mask, bytes, frequencies, contexts, context_map, tables, 0);
  return 1;
}

void nnb_write_mask(nnb_encoder *e, size_t count) {
  const size_t bytes = (count + 7) / 8;
  const int whole = e->choice->speed == NNB_LOSSLESS_SMALL && e->row_items % 8 == 0; /* rows begin with bytes */
  if (whole && !nnb_all_equal(e->mask, bytes) && write_by_rows(e, count)) return;
  nnb_write_plane(e, e->mask, bytes);
}

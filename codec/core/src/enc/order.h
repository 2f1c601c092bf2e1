/* The coding order of a scan, for quantizers. */
#ifndef NNB_ORDER_H
#define NNB_ORDER_H

#include "common/model.h"

/* A run of positions. */
typedef struct nnb_segment {
  size_t at;
  size_t count;
  size_t before; /* positions that come before it in coding order */
  int starts_block_row;
} nnb_segment;

typedef void nnb_segment_fn(void *user, const nnb_segment *segment);

/* Segment `y` of the block at (y0, x0). */
NNB_INLINE nnb_segment nnb_segment_of(const nnb_scan *scan, size_t y0, size_t x0, size_t y) {
  const size_t rows = scan->height - y0 < scan->block ? scan->height - y0 : scan->block;
  const size_t columns = scan->width - x0 < scan->block ? scan->width - x0 : scan->block;
  const nnb_segment s = {y * scan->width + x0, columns, y0 * scan->width + rows * x0 + (y - y0) * columns,
                         x0 == 0 && y == y0};
  return s;
}

/* The whole of a plain scan. */
NNB_INLINE nnb_segment nnb_whole_segment(const nnb_scan *scan) {
  const nnb_segment all = {0, scan->height * scan->width, 0, 1};
  return all;
}

NNB_INLINE void nnb_each_segment(const nnb_scan *scan, nnb_segment_fn *take, void *user) {
  if (scan->block == 0) {
    const nnb_segment all = nnb_whole_segment(scan);
    take(user, &all);
    return;
  }
  for (size_t y0 = 0; y0 < scan->height; y0 += scan->block) {
    for (size_t x0 = 0; x0 < scan->width; x0 += scan->block) {
      for (size_t y = y0; y < scan->height && y < y0 + scan->block; y++) {
        const nnb_segment s = nnb_segment_of(scan, y0, x0, y);
        take(user, &s);
      }
    }
  }
}

/* From the last segment to the first. */
NNB_INLINE void nnb_each_segment_backwards(const nnb_scan *scan, nnb_segment_fn *take, void *user) {
  if (scan->block == 0) {
    const nnb_segment all = nnb_whole_segment(scan);
    take(user, &all);
    return;
  }
  for (size_t j = scan->block_rows; j-- > 0;) {
    const size_t y0 = j * scan->block;
    const size_t y1 = scan->height - y0 < scan->block ? scan->height : y0 + scan->block;
    for (size_t i = (scan->width - 1) / scan->block + 1; i-- > 0;) {
      for (size_t y = y1; y-- > y0;) {
        const nnb_segment s = nnb_segment_of(scan, y0, i * scan->block, y);
        take(user, &s);
      }
    }
  }
}

#endif

/*
 * Whatever a block of exactly coded values holds, decoding stays inside it and its buffers; and all paths of the rANS
 * decoder that this processor has agree. The first three bytes of the input choose what the items are and how many.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "nnb/nnb_lossless.h"
#include "nnb/nnb_rans.h"

enum { MAX_ITEMS = 4096, MAX_TABLES = 8 };

static void require(int condition) {
  if (!condition) abort();
}

static void decode_block(const uint8_t *data, size_t size, uint8_t kind, size_t count) {
  static const nnb_items kinds[] = {{1, 0, 0}, {2, 0, 0},  {2, 7, 0}, {2, 10, 0}, {4, 0, 0}, {4, 23, 0},
                                    {8, 0, 0}, {8, 52, 0}, {1, 0, 3}, {1, 0, 5},  {1, 0, 6}, {1, 0, 7}};
  const nnb_items *const items = &kinds[kind % (sizeof kinds / sizeof *kinds)];
  const size_t work_size = nnb_lossless_work_size(items, count);
  require(work_size > 0);
  uint8_t *const work = malloc(work_size);
  uint8_t *const out = malloc(count * items->bytes);
  if (work == NULL || out == NULL) abort();
  const size_t rows = kind & 0x40 ? 16 : kind & 0x80 ? count : 0;
  (void)nnb_lossless_decode_block(items, data, size, rows, out, count, work, work_size);
  free(work);
  free(out);
}

static void decode_paths(const uint8_t *data, size_t size, uint32_t tables, size_t count) {
  static nnb_rans_row rows[256 * MAX_TABLES];
  static uint8_t first[MAX_ITEMS], other[MAX_ITEMS], contexts[MAX_ITEMS], map[256], scratch[1 << 16];
  nnb_rans_model model;
  size_t used;
  if (nnb_rans_read_tables(data, size, &used, rows, sizeof rows / sizeof *rows, tables, &model) != NNB_OK) return;
  require(used <= size);
  for (size_t i = 0; i < count; i++) contexts[i] = data[i % size];
  for (size_t i = 0; i < 256; i++) map[i] = (uint8_t)(i % tables);
  const int with_contexts = tables > 1;
  const uint8_t *const c = with_contexts ? contexts : NULL;
  const uint8_t *const m = with_contexts ? map : NULL;
  const nnb_status status =
      nnb_rans_decode(NNB_RANS_SCALAR, &model, c, m, data + used, size - used, first, count, NULL, 0);
  for (int path = NNB_RANS_AUTO; path <= NNB_RANS_NEON; path++) {
    if (path == NNB_RANS_SCALAR || !nnb_rans_has_path((nnb_rans_path)path)) continue;
    const nnb_status found = nnb_rans_decode((nnb_rans_path)path, &model, c, m, data + used, size - used, other, count,
                                             scratch, sizeof scratch);
    require(found == status);
    require(status != NNB_OK || memcmp(first, other, count) == 0);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 4) return 0;
  const size_t count = 1 + (data[1] | (size_t)data[2] << 8) % MAX_ITEMS;
  decode_block(data + 3, size - 3, data[0], count);
  decode_paths(data + 3, size - 3, 1 + data[0] % MAX_TABLES, count);
  return 0;
}

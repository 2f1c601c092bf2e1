/*
 * Whatever a block of exactly coded values holds, decoding stays inside it and its buffers, and what comes out depends
 * on nothing else. Input: what the items are, two bytes each of how many and of the length of rows, then the block.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "nnb/nnb_lossless.h"

enum { MAX_ITEMS = 8192, HEAD = 5 };

static void require(int condition) {
  if (!condition) abort();
}

static nnb_status decode(const nnb_items *items, const uint8_t *code, size_t size, size_t row_items, uint8_t *out,
                         size_t count, int garbage) {
  const size_t work_size = nnb_lossless_work_size(items, count);
  require(work_size > 0);
  uint8_t *const work = malloc(work_size);
  if (work == NULL) abort();
  memset(work, garbage, work_size);
  memset(out, garbage, count * items->bytes);
  const nnb_status status = nnb_lossless_decode_block(items, code, size, row_items, out, count, work, work_size);
  free(work);
  return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const nnb_items kinds[] = {{1, 0, 0}, {2, 0, 0},  {2, 7, 0}, {2, 10, 0}, {4, 0, 0}, {4, 23, 0},
                                    {8, 0, 0}, {8, 52, 0}, {1, 0, 3}, {1, 0, 5},  {1, 0, 6}, {1, 0, 7}};
  if (size < HEAD) return 0;
  const nnb_items *const items = &kinds[data[0] % (sizeof kinds / sizeof *kinds)];
  const size_t count = 1 + (data[1] | (size_t)data[2] << 8) % MAX_ITEMS;
  const size_t row_items = 1 + (data[3] | (size_t)data[4] << 8);
  uint8_t *const first = malloc(count * items->bytes);
  uint8_t *const second = malloc(count * items->bytes);
  if (first == NULL || second == NULL) abort();
  const nnb_status status = decode(items, data + HEAD, size - HEAD, row_items, first, count, 0x55);
  require(status == NNB_OK || status == NNB_LOSSLESS_BLOCK || status == NNB_UNSUPPORTED_FEATURE);
  require(decode(items, data + HEAD, size - HEAD, row_items, second, count, 0xAA) == status);
  require(status != NNB_OK || memcmp(first, second, count * items->bytes) == 0);
  free(first);
  free(second);
  return 0;
}

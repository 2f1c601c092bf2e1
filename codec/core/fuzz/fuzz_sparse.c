/*
 * Whatever a section of a sparse map holds, reading stays inside it and its buffers, and an accepted map is one: no
 * bits behind the last element, as many as there are values, compressed rows that say the same. Input: kind, number of
 * dimensions, item size, two bytes a dimension, two bytes of value_count, then the section.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "nnb/nnb_sparse.h"

enum { MAX_DIMENSIONS = 4, MAX_ELEMENTS = 1 << 16, HEAD = 3 };

static void require(int condition) {
  if (!condition) abort();
}

static void *memory(size_t size) { /* exactly, so that a byte too many is seen */
  void *const found = malloc(size > 0 ? size : 1);
  if (found == NULL) abort();
  return found;
}

static int bit_of(const uint8_t *words, uint64_t i) { return words[i / 8] >> (i % 8) & 1; }

static void check_words(const uint8_t *words, size_t words_size, uint64_t elements, uint64_t value_count) {
  require(words_size == (elements + 63) / 64 * 8);
  for (uint64_t i = elements; i < 8 * (uint64_t)words_size; i++) require(!bit_of(words, i));
  require(nnb_sparse_count(words, elements) == value_count);
}

static void check_expand(const uint8_t *words, uint64_t elements, uint64_t value_count, size_t item_size) {
  uint8_t *const values = memory((size_t)value_count * item_size);
  uint8_t *const dense = memory((size_t)elements * item_size);
  static const uint8_t zero[16];
  for (size_t i = 0; i < value_count * item_size; i++) values[i] = (uint8_t)(i * 167 + 1);
  require(nnb_sparse_expand(words, elements, item_size, values, value_count, dense) == NNB_OK);
  for (uint64_t i = 0, next = 0; i < elements; i++) {
    const uint8_t *const wanted = bit_of(words, i) ? values + item_size * next++ : zero;
    require(memcmp(dense + i * item_size, wanted, item_size) == 0);
  }
  require(value_count == 0 ||
          nnb_sparse_expand(words, elements, item_size, values, value_count - 1, dense) == NNB_SPARSE_MAP);
  free(values);
  free(dense);
}

static void check_rows(const uint8_t *words, uint64_t rows, uint64_t columns, uint64_t value_count) {
  uint32_t *const starts = memory((size_t)(rows + 1) * sizeof *starts);
  uint32_t *const indices = memory((size_t)value_count * sizeof *indices);
  nnb_sparse_csr(words, rows, columns, sizeof *starts, starts, indices);
  uint64_t at = 0;
  for (uint64_t row = 0; row < rows; row++) {
    require(starts[row] == at);
    for (uint64_t column = 0; column < columns; column++) {
      if (bit_of(words, row * columns + column)) require(indices[at++] == column);
    }
  }
  require(starts[rows] == at && at == value_count);
  free(starts);
  free(indices);
}

static void read_map(uint32_t kind, const uint64_t *dimensions, size_t count, uint64_t elements, uint64_t value_count,
                     size_t item_size, const uint8_t *section, size_t size) {
  size_t words_size, work_size;
  const nnb_status sized = nnb_sparse_sizes(kind, dimensions, count, &words_size, &work_size);
  if (sized != NNB_OK) return;
  uint8_t *const words = memory(words_size);
  void *const work = memory(work_size);
  const nnb_status status =
      nnb_sparse_decode(kind, section, size, dimensions, count, value_count, words, words_size, work, work_size);
  require(status == NNB_OK || status == NNB_SPARSE_MAP);
  if (status == NNB_OK) {
    check_words(words, words_size, elements, value_count);
    check_expand(words, elements, value_count, item_size);
    const uint64_t columns = count > 0 ? dimensions[count - 1] : 1;
    if (columns > 0) check_rows(words, elements / columns, columns, value_count);
  }
  if (kind == NNB_SPARSE_STRUCTURED) {
    size_t keeps_size = 0;
    for (size_t i = 0; i < count; i++) keeps_size += (size_t)((dimensions[i] + 63) / 64 * 8);
    uint8_t *const keeps = memory(keeps_size);
    const nnb_status kept = nnb_sparse_keeps(section, size, dimensions, count, keeps, keeps_size, work, work_size);
    require(kept == NNB_OK || kept == NNB_SPARSE_MAP);
    require(kept == NNB_OK || status != NNB_OK);
    free(keeps);
  }
  free(words);
  free(work);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  uint64_t dimensions[MAX_DIMENSIONS];
  if (size < HEAD) return 0;
  const uint32_t kind = data[0] & 7;
  const size_t count = data[1] % (MAX_DIMENSIONS + 1);
  const size_t item_size = (size_t)1 << data[2] % 5;
  if (size < HEAD + 2 * count + 2) return 0;
  uint64_t elements = 1;
  for (size_t i = 0; i < count; i++) {
    dimensions[i] = data[HEAD + 2 * i] | (uint64_t)data[HEAD + 2 * i + 1] << 8;
    elements *= dimensions[i];
    if (elements > MAX_ELEMENTS) return 0;
  }
  const uint8_t *const rest = data + HEAD + 2 * count;
  const uint64_t value_count = rest[0] | (uint64_t)rest[1] << 8;
  read_map(kind, dimensions, count, elements, value_count, item_size, rest + 2, size - (size_t)(rest + 2 - data));
  return 0;
}

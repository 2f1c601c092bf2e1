/*
 * Whatever the payload is, decoding stays inside it and inside its buffers, and all ways of decoding a tensor agree: at
 * once, block row by block row, and entering each block row where it begins. Earlier levels and history are made up
 * where a unit wants them.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "nnb/nnb.h"
#include "nnb/nnb_unit.h"

enum {
  MAX_VALUES = 1 << 15,
  MAX_CONTEXTS = 90 + 4 * NNB_MAX_UNARY_LENGTH,
  MAX_POINTS = 1 << 13,
  MAX_CODEBOOK = 1 << 12
};

static void require(int condition) {
  if (!condition) abort();
}

typedef struct way {
  int32_t levels[MAX_VALUES];
  uint8_t rows[MAX_VALUES];
  nnb_context contexts[MAX_CONTEXTS];
  nnb_entry_point found[MAX_POINTS];
  nnb_cabac cabac;
  nnb_tensor_info info;
  nnb_status status;
  uint8_t state;
} way;

static way ways[3];
static int32_t base[MAX_VALUES];
static uint8_t history[MAX_VALUES];

static nnb_tensor memory_of(way *w) {
  memset(w->levels, 0x55, sizeof w->levels);
  w->state = 0;
  const nnb_tensor tensor = {
      .levels = w->levels, .contexts = w->contexts, .row_skip_list = w->rows, .base = base, .history = history};
  return tensor;
}

static void decode_whole(way *w, const nnb_level_coding *coding) {
  nnb_tensor tensor = memory_of(w);
  if (nnb_block_row_count(coding) <= MAX_POINTS) tensor.entry_points = w->found;
  w->status = nnb_decode_tensor(&w->cabac, coding, &tensor, &w->info);
}

static void decode_rows(way *w, const nnb_level_coding *coding) {
  const nnb_tensor tensor = memory_of(w);
  w->status = nnb_decode_head(&w->cabac, coding, &tensor, &w->info);
  const uint64_t rows = nnb_block_row_count(coding);
  for (uint64_t row = 0; row < rows && w->status == NNB_OK; row++) {
    w->status = nnb_decode_block_rows(&w->cabac, coding, &tensor, &w->info, row, row + 1, &w->state);
  }
}

static void compare(const way *a, const way *b, size_t count) {
  require(a->status == b->status);
  if (a->status != NNB_OK) return;
  require(memcmp(a->levels, b->levels, count * sizeof *a->levels) == 0);
  require(nnb_cabac_position(&a->cabac) == nnb_cabac_position(&b->cabac));
  require(nnb_cabac_offset(&a->cabac) == nnb_cabac_offset(&b->cabac));
}

static void dequantize(const nnb_part *part, way *w, size_t count) {
  static int32_t entries[MAX_CODEBOOK];
  float step;
  if (part->integer || nnb_step_size(part->qp + w->info.qp_value, part->qp_density, &step) != NNB_OK) return;
  if (part->codebook == NULL) {
    nnb_dequantize_in_place(w->levels, count, step);
  } else if (part->codebook->codebook_size <= MAX_CODEBOOK) {
    require(nnb_codebook_entries(part->codebook, entries, MAX_CODEBOOK) == NNB_OK);
    (void)nnb_dequantize_codebook_in_place(w->levels, count, step, entries, part->codebook->codebook_size,
                                           part->codebook->zero_offset);
  }
}

/* Each block row on its own, entered where decoding in order found that it begins. */
static void enter_rows(way *w, const nnb_level_coding *coding, const way *in_order, const nnb_cabac *start,
                       size_t count) {
  const nnb_tensor tensor = memory_of(w);
  w->cabac = *start;
  require(nnb_decode_head(&w->cabac, coding, &tensor, &w->info) == NNB_OK);
  uint64_t position = nnb_cabac_position(&w->cabac);
  const uint64_t rows = nnb_block_row_count(coding);
  for (uint64_t row = 0; row < rows; row++) {
    if (row > 0) {
      const nnb_entry_point *const entry = &in_order->found[row - 1];
      position += entry->bit_offset;
      require(nnb_cabac_enter(&w->cabac, start->data, start->size, position, entry->cabac_offset) == NNB_OK);
      w->state = entry->dq_state;
    }
    require(nnb_decode_block_rows(&w->cabac, coding, &tensor, &w->info, row, row + 1, &w->state) == NNB_OK);
  }
  w->status = NNB_OK;
  compare(in_order, w, count);
}

/* One tensor in all ways; they start from the same engine. Returns whether another can follow. */
static int decode_part(const nnb_part *part, nnb_cabac *cabac) {
  const nnb_level_coding *const coding = &part->coding;
  if (nnb_check_coding(coding) != NNB_OK || coding->height > MAX_VALUES) return 0;
  if (coding->height > 0 && coding->width > MAX_VALUES / coding->height) return 0;
  const size_t count = (size_t)(coding->height * coding->width);
  for (int i = 0; i < 3; i++) ways[i].cabac = *cabac;
  decode_whole(&ways[0], coding);
  decode_rows(&ways[1], coding);
  compare(&ways[0], &ways[1], count);
  const uint64_t rows = nnb_block_row_count(coding);
  if (ways[0].status == NNB_OK && rows > 1 && rows <= MAX_POINTS) enter_rows(&ways[2], coding, &ways[0], cabac, count);
  *cabac = ways[0].cabac;
  dequantize(part, &ways[0], count);
  return ways[0].status == NNB_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  nnb_stream stream;
  nnb_unit unit;
  for (size_t i = 0; i < MAX_VALUES; i++) {
    const uint8_t byte = size > 0 ? data[(i * 7) % size] : 0;
    base[i] = (int8_t)byte >> (byte & 7);
    history[i] = byte >> 3 & 1;
  }
  nnb_status status = nnb_stream_open(&stream, data, size);
  while (status == NNB_OK && (status = nnb_stream_next(&stream, &unit)) == NNB_OK && unit.size > 0) {
    if (unit.nnr_unit_type != NNB_NNR_NDU) continue;
    nnb_cabac cabac;
    if (nnb_cabac_open(&cabac, unit.data + unit.payload_offset, unit.size - unit.payload_offset) != NNB_OK) continue;
    int goes_on = 1;
    for (uint32_t k = 0; goes_on && k < nnb_part_count(&unit); k++) {
      nnb_part part;
      if (nnb_part_get(&unit, &stream.parameters, k, &part) != NNB_OK || !part.arithmetic) break;
      goes_on = decode_part(&part, &cabac);
    }
    if (goes_on) (void)nnb_cabac_finish(&cabac);
  }
  return 0;
}

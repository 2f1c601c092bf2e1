/*
 * Whatever the bytes are, the parser stays inside them, comes to an end, and everything that a parsed unit offers can
 * be asked for. The first byte of the input decides whether values are supplied from outside.
 */
#include <stdint.h>
#include <stdlib.h>

#include "nnb/nnb_unit.h"

static void require(int condition) {
  if (!condition) abort();
}

static uint64_t checksum;

static void on_element(void *user, const nnb_trace_record *record) {
  const nnb_stream *const stream = user;
  require(record->position + record->width <= 8 * (uint64_t)stream->size);
  checksum += record->position + record->value + (uint64_t)record->name[0];
}

static void walk_names(nnb_list list, int indexed) {
  nnb_string name;
  uint64_t index;
  uint32_t count = list.count;
  while (indexed ? nnb_list_index(&list, &index) : nnb_list_name(&list, &name)) {
    count--;
    if (!indexed && name.size > 0) checksum += name.data[name.size - 1];
  }
  require(count == 0);
}

static void walk_topology(const nnb_topology *tpl) {
  const nnb_pruning_container *const container = &tpl->nnr_pruning_topology_container;
  uint64_t dims[4];
  size_t count;
  walk_names(tpl->topology_elem_id_list, 0);
  walk_names(container->element_ids, container->indexed);
  nnb_list list = container->dims;
  while (nnb_list_dims(&list, dims, 4, &count)) require(count <= 255);
  if (container->bit_mask.bits != NULL && container->bit_mask.count_bits > 0) {
    checksum += container->bit_mask.bits[(container->bit_mask.count_bits - 1) >> 3];
  }
}

static void walk_codebook(const nnb_codebook *codebook) {
  if (codebook->codebook_size == 0) return;
  int32_t *const entries = malloc(codebook->codebook_size * sizeof *entries);
  if (entries == NULL) return;
  require(nnb_codebook_entries(codebook, entries, codebook->codebook_size) == NNB_OK);
  for (uint32_t i = 1; i < codebook->codebook_size; i++) require(entries[i - 1] < entries[i]);
  require(entries[codebook->zero_offset] == codebook->codebook_zero_value);
  free(entries);
}

static void walk_data_unit(const nnb_unit *unit, const nnb_parameters *parameters) {
  const nnb_data_unit *const ndu = &unit->body.ndu;
  uint64_t dimensions[255];
  require(nnb_unit_dimensions(unit, dimensions, 255) == NNB_OK);
  uint64_t product = 1;
  for (uint32_t i = 0; i < ndu->count_tensor_dimensions; i++) product *= dimensions[i];
  require(product == ndu->height * ndu->width);
  walk_codebook(&ndu->CbA);
  walk_codebook(&ndu->CbB);
  nnb_entry_point *const points = malloc((ndu->entry_points.count + 1) * sizeof *points);
  if (points == NULL) return;
  const nnb_status status = nnb_unit_entry_points(unit, points, ndu->entry_points.count);
  require(status == NNB_OK || status == NNB_ENTRY_POINT);
  free(points);
  for (uint32_t k = 0; k < nnb_part_count(unit); k++) {
    nnb_part part;
    nnb_string name;
    if (nnb_part_get(unit, parameters, k, &part) != NNB_OK) continue;
    require(nnb_unit_name(unit, parameters, part.name, &name) == NNB_OK);
    require(part.first_entry_point + part.entry_point_count <= ndu->entry_points.count);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const uint64_t shape[] = {3, 5};
  static const nnb_supplied supplied = {
      .name = {(const uint8_t *)"t", 1},
      .tensor_dimensions = shape,
      .count_tensor_dimensions = 2,
      .decomposition_rank = 2,
      .g_number_of_rows = 3,
      .given = NNB_SUPPLIED_TENSOR_DIMENSIONS | NNB_SUPPLIED_DECOMPOSITION_RANK | NNB_SUPPLIED_G_NUMBER_OF_ROWS,
  };
  nnb_stream stream;
  nnb_unit unit;
  nnb_status status = nnb_stream_open(&stream, data, size);
  if (size > 0 && (data[size - 1] & 1)) {
    stream.parameters.supplied = &supplied;
    stream.parameters.supplied_count = 1;
  }
  stream.trace.function = on_element;
  stream.trace.user = &stream;
  size_t units = 0;
  while (status == NNB_OK && (status = nnb_stream_next(&stream, &unit)) == NNB_OK && unit.size > 0) {
    require(++units <= size);
    require(unit.offset + unit.size <= size && unit.payload_offset <= unit.size);
    if (unit.nnr_unit_type == NNB_NNR_TPL) walk_topology(&unit.body.tpl);
    if (unit.nnr_unit_type == NNB_NNR_NDU) walk_data_unit(&unit, &stream.parameters);
  }
  if (status != NNB_OK) require(nnb_stream_next(&stream, &unit) == status);
  return 0;
}

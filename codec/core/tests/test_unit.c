/* The parser: pinned streams with every kind of unit, cut everywhere, and damaged at random. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nnb/nnb_unit.h"

#if !defined(NNB_TRACE)
#define NNB_TRACE 1
#endif

#define CHECK(condition)                                              \
  do {                                                                \
    if (!(condition)) {                                               \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      exit(1);                                                        \
    }                                                                 \
  } while (0)

/* Made with nnbits.codec.syntax.build_unit; tests/parity/test_trace.py compares streams like these with Python. */
static const uint8_t profile_1[] = {
    0x00, 0x04, 0x02, 0x01, 0x00, 0x68, 0x06, 0xf9, 0x7c, 0x62, 0x00, 0x74, 0x6f, 0x70, 0x2d, 0x31, 0x00, 0x5f, 0xfb,
    0x02, 0x00, 0x00, 0x00, 0x3f, 0x00, 0x00, 0x80, 0x3e, 0x00, 0x00, 0x40, 0x3f, 0x02, 0x83, 0xcd, 0xcc, 0xcc, 0x3d,
    0xcd, 0xcc, 0x4c, 0x3e, 0x02, 0x00, 0x00, 0x00, 0x3f, 0x00, 0x00, 0x80, 0x3e, 0x01, 0x52, 0x33, 0x73, 0x33, 0x0f,
    0x40, 0x96, 0x16, 0x1a, 0x02, 0x04, 0x03, 0x01, 0x02, 0x00, 0x00, 0x00, 0x3f, 0x9a, 0x99, 0x19, 0x3f, 0x02, 0x82,
    0xcd, 0xcc, 0xcc, 0x3d, 0x66, 0x66, 0x66, 0x3f, 0x02, 0x00, 0x00, 0x00, 0x3f, 0xcd, 0xcc, 0x4c, 0x3e, 0x33, 0x33,
    0x33, 0x3f, 0x00, 0x01, 0x00, 0x00, 0xc0, 0x3f, 0x00, 0x00, 0x00, 0x3f, 0x80, 0x00, 0x09, 0x0e, 0x00, 0x00, 0x68,
    0xc3, 0xa9, 0x00, 0x00, 0x16, 0x0e, 0x05, 0x00, 0x78, 0x02, 0x78, 0x00, 0x79, 0x79, 0x00, 0x48, 0x38, 0x48, 0xa0,
    0x00, 0x00, 0x00, 0x0b, 0xa5, 0xf0, 0x00, 0x0b, 0x0e, 0x05, 0x00, 0x20, 0x00, 0x00, 0x00, 0x03, 0xb0, 0x00, 0x14,
    0x0e, 0x06, 0x00, 0x81, 0x80, 0x6e, 0x30, 0x00, 0x6e, 0x31, 0x5f, 0x47, 0x00, 0x6e, 0x32, 0x5f, 0x48, 0x00, 0x00,
    0x06, 0x0e, 0x00, 0x01, 0x01, 0x00, 0x07, 0x12, 0x01, 0x00, 0x71, 0x00, 0x00, 0x07, 0x12, 0x01, 0x01, 0x00, 0x71,
    0x00, 0x37, 0x16, 0x0b, 0xc3, 0xa9, 0x00, 0x50, 0x00, 0x08, 0x10, 0x18, 0x20, 0x28, 0x30, 0x38, 0x40, 0x48, 0x50,
    0x58, 0x60, 0x68, 0x70, 0x78, 0x80, 0x88, 0x90, 0x98, 0xa0, 0xa8, 0xb0, 0xb8, 0xc0, 0xc8, 0xd0, 0xd8, 0xe0, 0xe8,
    0xf0, 0xfa, 0x23, 0x04, 0x94, 0x89, 0x0a, 0x84, 0x1d, 0xc3, 0x26, 0x45, 0x94, 0x80, 0x70, 0x61, 0x79, 0x00, 0x2d,
    0x16, 0x1d, 0x82, 0x80, 0x77, 0x5f, 0x47, 0x00, 0x77, 0x5f, 0x48, 0x00, 0x73, 0x00, 0x62, 0x00, 0xf1, 0x4e, 0x5a,
    0x29, 0x90, 0x13, 0xa3, 0xbb, 0xc7, 0x12, 0x52, 0x24, 0x28, 0x53, 0x20, 0x27, 0x47, 0xc4, 0x1e, 0x19, 0x32, 0x25,
    0x20, 0x6c, 0x6f, 0x61, 0x64, 0x00, 0x4b, 0x16, 0x01, 0x69, 0x00, 0x60, 0x00, 0x08, 0x10, 0x18, 0x20, 0x28, 0x30,
    0x38, 0x40, 0x48, 0x50, 0x58, 0x60, 0x68, 0x70, 0x78, 0x80, 0x88, 0x90, 0x98, 0xa0, 0xa8, 0xb0, 0xb8, 0xc0, 0xc8,
    0xd0, 0xd8, 0xe0, 0xe8, 0xf0, 0xf9, 0x01, 0x09, 0x11, 0x19, 0x21, 0x29, 0x31, 0x39, 0x41, 0x49, 0x51, 0x59, 0x61,
    0x69, 0x71, 0x79, 0x81, 0x89, 0x91, 0x99, 0xa1, 0xa9, 0xb1, 0xb9, 0xc1, 0xc9, 0xd1, 0xd9, 0xe1, 0xe9, 0xf1, 0xfb,
    0x0e, 0x0c, 0x2a, 0x80, 0x00, 0x49, 0x0a, 0x80, 0x72, 0x7f, 0xf9, 0x02, 0x00, 0x00, 0x00, 0x3f, 0x00, 0x00, 0x80,
    0x3e, 0x00, 0x00, 0x40, 0x3f, 0x02, 0x83, 0xcd, 0xcc, 0xcc, 0x3d, 0xcd, 0xcc, 0x4c, 0x3e, 0x02, 0x00, 0x00, 0x00,
    0x3f, 0x00, 0x00, 0x80, 0x3e, 0x01, 0x52, 0x33, 0x73, 0x33, 0x0f, 0x40, 0x96, 0x16, 0x1a, 0x02, 0x04, 0x03, 0x01,
    0x02, 0x00, 0x00, 0x00, 0x3f, 0x9a, 0x99, 0x19, 0x3f, 0x02, 0x82, 0xcd, 0xcc, 0xcc, 0x3d, 0x66, 0x66, 0x66, 0x3f,
    0x80, 0x00, 0x2c, 0x1a, 0x03, 0x80, 0x00, 0x00, 0x0c, 0x00, 0x00, 0x00, 0x13, 0x14, 0x00, 0x00, 0x00, 0x1a, 0x08,
    0x14, 0x00, 0x07, 0x0e, 0x03, 0x00, 0x74, 0x00, 0x00, 0x12, 0x16, 0x11, 0x73, 0x00, 0x30, 0xe0, 0x82, 0xa0, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x05, 0xa2, 0x3f, 0x3f};
static const uint8_t profile_0[] = {
    0x00, 0x04, 0x02, 0x00, 0x00, 0x08, 0x06, 0x81, 0x80, 0x40, 0x00, 0x80, 0x80, 0x00, 0x00, 0x17, 0x0f, 0x00, 0x06,
    0x00, 0x81, 0x80, 0x6e, 0x30, 0x00, 0x6e, 0x31, 0x5f, 0x47, 0x00, 0x6e, 0x32, 0x5f, 0x48, 0x00, 0x80, 0x00, 0x00,
    0x17, 0x0f, 0x00, 0x05, 0x00, 0x78, 0x02, 0x81, 0x82, 0x80, 0x48, 0x38, 0x48, 0xa0, 0x00, 0x00, 0x00, 0x0b, 0xa5,
    0xf0, 0x80, 0x00, 0x00, 0x13, 0x17, 0x00, 0x1d, 0x80, 0x81, 0x82, 0x80, 0x31, 0xab, 0x48, 0x38, 0x40, 0xa0, 0x80,
    0x78, 0x80, 0x00, 0x00, 0x0f, 0x17, 0x00, 0x09, 0x80, 0x30, 0x48, 0x38, 0x40, 0xa0, 0x80, 0x79};

static int is(nnb_string string, const char *text) {
  return string.size == strlen(text) && memcmp(string.data, text, string.size) == 0;
}

typedef struct elements {
  uint64_t position; /* behind the last one */
  size_t count;
  size_t gaps; /* payloads */
} elements;

static void on_element(void *user, const nnb_trace_record *record) {
  elements *const seen = user;
  CHECK(record->position >= seen->position && record->depth <= 2 && record->name[0] != 0);
  if (record->position > seen->position) {
    seen->gaps++;
    CHECK(strcmp(record->name, "nnr_unit_size_flag") == 0);
  }
  seen->position = record->position + record->width;
  seen->count++;
}

/* Reads everything that can be read of a unit; what comes out must be in bounds, whatever it is. */
static void visit(const nnb_unit *unit, const nnb_parameters *parameters) {
  static nnb_entry_point points[64];
  static int32_t entries[64];
  static uint64_t dims[255];
  nnb_string name;
  size_t count;
  if (unit->nnr_unit_type == NNB_NNR_TPL) {
    const nnb_topology *const tpl = &unit->body.tpl;
    nnb_list list = tpl->topology_elem_id_list;
    while (nnb_list_name(&list, &name)) CHECK(name.data[name.size] == 0);
    list = tpl->nnr_pruning_topology_container.dims;
    while (nnb_list_dims(&list, dims, 255, &count)) CHECK(count <= 255);
    list = tpl->nnr_pruning_topology_container.element_ids;
    while (tpl->nnr_pruning_topology_container.indexed ? nnb_list_index(&list, dims) : nnb_list_name(&list, &name)) {
    }
  }
  if (unit->nnr_unit_type != NNB_NNR_NDU) return;
  const nnb_data_unit *const ndu = &unit->body.ndu;
  CHECK(nnb_unit_dimensions(unit, dims, 255) == NNB_OK);
  nnb_unit_entry_points(unit, points, 64);
  nnb_codebook_entries(&ndu->CbA, entries, 64);
  nnb_codebook_entries(&ndu->CbB, entries, 64);
  for (uint32_t k = 0; k < nnb_part_count(unit); k++) {
    nnb_part part;
    if (nnb_part_get(unit, parameters, k, &part) != NNB_OK) continue;
    CHECK(nnb_unit_name(unit, parameters, part.name, &name) == NNB_OK);
    CHECK(part.first_entry_point + part.entry_point_count <= ndu->entry_points.count);
  }
}

/* All of a stream, from memory of exactly its size. */
static nnb_status walk(const uint8_t *data, size_t size, elements *seen) {
  uint8_t *const copy = malloc(size + (size == 0));
  nnb_stream stream;
  nnb_unit unit;
  CHECK(copy != NULL);
  memcpy(copy, data, size);
  nnb_status status = nnb_stream_open(&stream, copy, size);
  if (seen != NULL) {
    memset(seen, 0, sizeof *seen);
    stream.trace.function = on_element;
    stream.trace.user = seen;
  }
  while (status == NNB_OK && (status = nnb_stream_next(&stream, &unit)) == NNB_OK && unit.size > 0) {
    visit(&unit, &stream.parameters);
  }
  CHECK(nnb_stream_next(&stream, &unit) == status);
  free(copy);
  return status;
}

static void test_traces(void) {
  elements seen;
  CHECK(walk(profile_1, sizeof profile_1, &seen) == NNB_OK);
  CHECK(!NNB_TRACE || (seen.count == 360 && seen.gaps == 4));
  CHECK(walk(profile_0, sizeof profile_0, &seen) == NNB_OK);
  CHECK(!NNB_TRACE || (seen.count == 110 && seen.gaps == 1));
}

static void next(nnb_stream *stream, nnb_unit *unit, uint32_t type) {
  CHECK(nnb_stream_next(stream, unit) == NNB_OK);
  CHECK(unit->size > 0 && unit->nnr_unit_type == type);
}

static void test_topology(nnb_stream *stream, nnb_unit *unit) {
  const nnb_topology *const tpl = &unit->body.tpl;
  const nnb_pruning_container *const container = &tpl->nnr_pruning_topology_container;
  nnb_string name;
  uint64_t dims[2];
  size_t count;
  next(stream, unit, NNB_NNR_TPL);
  CHECK(is(tpl->topology_data, "h\xc3\xa9"));
  next(stream, unit, NNB_NNR_TPL);
  nnb_list list = container->element_ids;
  CHECK(nnb_list_name(&list, &name) && is(name, "x"));
  CHECK(nnb_list_name(&list, &name) && is(name, "yy") && !nnb_list_name(&list, &name));
  list = container->dims;
  CHECK(nnb_list_dims(&list, dims, 2, &count) && count == 2 && dims[0] == 3 && dims[1] == 4);
  CHECK(nnb_list_dims(&list, dims, 2, &count) && count == 0 && !nnb_list_dims(&list, dims, 2, &count));
  CHECK(container->sparse_bit_mask.count_bits == 11 && container->sparse_bit_mask.bits[0] == 0xA5);
  next(stream, unit, NNB_NNR_TPL);
  CHECK(container->bit_mask.count_bits == 3 && container->bit_mask.bits[0] >> 5 == 5);
  next(stream, unit, NNB_NNR_TPL);
  CHECK(stream->parameters.reference_list.count == 3);
  next(stream, unit, NNB_NNR_TPL);
  CHECK(tpl->topology_compression_format == 1 && tpl->topology_data.size == 1 && tpl->topology_data.data[0] == 1);
}

static void test_data_units(nnb_stream *stream, nnb_unit *unit) {
  static const int32_t codebook[] = {-7, -1, 0, 3, 9};
  static const nnb_role roles[] = {NNB_ROLE_LOCAL_SCALING, NNB_ROLE_BIAS, NNB_ROLE_G, NNB_ROLE_H};
  static const uint32_t heights[] = {20, 20, 20, 4};
  static const uint32_t widths[] = {1, 1, 4, 9};
  static const uint32_t names[] = {2, 3, 0, 1};
  const nnb_data_unit *const ndu = &unit->body.ndu;
  nnb_entry_point points[2];
  int32_t entries[5];
  uint64_t dims[2];
  nnb_part part;
  next(stream, unit, NNB_NNR_NDU);
  CHECK(ndu->parent_node_id_type == NNB_PARENT_NODE_ID_TYPE_SHA256 && ndu->parent_node_payload_position % 8 == 5);
  CHECK(nnb_unit_dimensions(unit, dims, 2) == NNB_OK && dims[0] == 20 && dims[1] == 9);
  CHECK(nnb_unit_entry_points(unit, points, 2) == NNB_OK);
  CHECK(points[0].bit_offset == 100 && points[0].cabac_offset == 7 && points[0].dq_state == 3);
  CHECK(points[1].bit_offset == 90 && points[1].cabac_offset == 200 && points[1].dq_state == 5);
  CHECK(nnb_unit_entry_points(unit, points, 1) == NNB_BUFFER_SIZE);
  next(stream, unit, NNB_NNR_NDU);
  CHECK(nnb_codebook_entries(&ndu->CbB, entries, 5) == NNB_OK && memcmp(entries, codebook, sizeof codebook) == 0);
  CHECK(nnb_codebook_entries(&ndu->CbB, entries, 4) == NNB_BUFFER_SIZE);
  CHECK(ndu->device_id == 1 && ndu->parameter_id == 2 && ndu->put_node_depth == 3 && ndu->parent_device_id == 4);
  CHECK(nnb_part_count(unit) == 4);
  for (uint32_t k = 0; k < 4; k++) {
    CHECK(nnb_part_get(unit, &stream->parameters, k, &part) == NNB_OK);
    CHECK(part.role == roles[k] && part.name == names[k] && part.qp == -5 && part.coding.qp_bits == 8);
    CHECK(part.coding.height == heights[k] && part.coding.width == widths[k] && part.coding.unary_length == 11);
    CHECK((part.codebook != NULL) == (k >= 2) && part.entry_point_count == (k == 2 ? 2 : 0));
  }
  CHECK(nnb_part_get(unit, &stream->parameters, 4, &part) == NNB_BAD_OPTION);
  next(stream, unit, NNB_NNR_NDU);
  CHECK(ndu->nnr_compressed_data_unit_payload_type == NNB_NNR_PT_INT && unit->size - unit->payload_offset == 1);
}

static void test_profile_1(void) {
  nnb_stream stream;
  nnb_unit unit;
  CHECK(nnb_stream_open(&stream, profile_1, sizeof profile_1) == NNB_OK);
  next(&stream, &unit, NNB_NNR_STR);
  CHECK(unit.body.str.general_profile_idc == 1);
  next(&stream, &unit, NNB_NNR_MPS);
  CHECK(is(unit.body.mps.base_model_id, "b") && is(unit.body.mps.performance_metric_type, "top-1"));
  CHECK(unit.body.mps.validation_set_performance == 0x3F000000 && unit.body.mps.nnr_pre_flag);
  test_topology(&stream, &unit);
  next(&stream, &unit, NNB_NNR_QNT);
  CHECK(is(unit.body.qnt.quantization_data, "q"));
  next(&stream, &unit, NNB_NNR_QNT);
  CHECK(unit.body.qnt.quantization_data.size == 2);
  test_data_units(&stream, &unit);
  next(&stream, &unit, NNB_NNR_LPS);
  CHECK(unit.body.lps.quantization.qp_density == 3 && unit.body.lps.quantization.quantization_parameter == -7);
  next(&stream, &unit, NNB_NNR_AGG);
  CHECK(unit.body.agg.unit_count == 2 && unit.body.agg.unification);
  next(&stream, &unit, NNB_NNR_TPL);
  next(&stream, &unit, NNB_NNR_NDU);
  CHECK(unit.size - unit.payload_offset == 8);
  next(&stream, &unit, 40);
  CHECK(nnb_stream_next(&stream, &unit) == NNB_OK && unit.size == 0);
}

static void test_indexed_names(void) {
  nnb_stream stream;
  nnb_unit unit;
  nnb_part part;
  nnb_string name;
  CHECK(nnb_stream_open(&stream, profile_0, sizeof profile_0) == NNB_OK);
  for (uint32_t i = 0; i < 5; i++) CHECK(nnb_stream_next(&stream, &unit) == NNB_OK);
  CHECK(unit.partial_data_counter_present_flag && unit.nnr_unit_size_flag && nnb_part_count(&unit) == 2);
  CHECK(nnb_part_get(&unit, &stream.parameters, 1, &part) == NNB_OK && part.role == NNB_ROLE_H);
  CHECK(nnb_unit_name(&unit, &stream.parameters, part.name, &name) == NNB_OK && is(name, "n2_H"));
  stream.parameters.reference_list.count = 2;
  CHECK(nnb_unit_name(&unit, &stream.parameters, part.name, &name) == NNB_VALUE_RANGE);
  CHECK(nnb_part_get(&unit, &stream.parameters, 0, &part) == NNB_VALUE_RANGE);
}

/* Only where a unit ends, outside the aggregate, the rest can be missing. */
static void test_truncated(const uint8_t *data, size_t size, size_t complete) {
  size_t good = 0;
  for (size_t cut = 0; cut < size; cut++) good += walk(data, cut, NULL) == NNB_OK;
  CHECK(good == complete);
}

static uint32_t seed = 1;

static uint32_t dice(uint32_t sides) {
  seed = seed * 1664525u + 1013904223u;
  return (seed >> 8) % sides;
}

static void test_damaged(const uint8_t *data, size_t size) {
  static uint8_t changed[sizeof profile_1];
  for (int round = 0; round < 20000; round++) {
    memcpy(changed, data, size);
    for (uint32_t n = 1 + dice(4); n > 0; n--) {
      uint8_t *const byte = &changed[dice((uint32_t)size)];
      const uint32_t value = dice(2) ? *byte ^ 1u << dice(8) : dice(256);
      *byte = (uint8_t)value;
    }
    walk(changed, size, NULL);
  }
}

static void test_pruning_expand(void) {
  static const uint8_t bits[2] = {0x4A, 0x80}; /* 0 1 0 0 1 0 1 0 1 */
  const nnb_bit_mask mask = {bits, 9};
  const uint8_t kept[] = {1, 2, 3, 4, 5, 6};
  uint8_t out[10];
  CHECK(nnb_pruning_expand(&mask, 3, 5, 2, kept, 3, out) == NNB_OK);
  CHECK(memcmp(out, (const uint8_t[]){1, 2, 0, 0, 3, 4, 0, 0, 5, 6}, 10) == 0);
  CHECK(nnb_pruning_expand(&mask, 0, 9, 0, kept, 5, out) == NNB_OK);
  CHECK(nnb_pruning_expand(&mask, 9, 0, 2, kept, 0, out) == NNB_OK);
  CHECK(nnb_pruning_expand(&mask, 3, 5, 2, kept, 2, out) == NNB_SPARSE_MAP);
  CHECK(nnb_pruning_expand(&mask, 3, 5, 2, kept, 4, out) == NNB_SPARSE_MAP);
  CHECK(nnb_pruning_expand(&mask, 3, 7, 2, kept, 3, out) == NNB_SPARSE_MAP);
  CHECK(nnb_pruning_expand(&mask, 10, 0, 2, kept, 0, out) == NNB_SPARSE_MAP);
  CHECK(nnb_pruning_expand(&mask, UINT64_MAX, 2, 2, kept, 0, out) == NNB_SPARSE_MAP);
}

int main(void) {
  test_pruning_expand();
  test_traces();
  test_profile_1();
  test_indexed_names();
  test_truncated(profile_1, sizeof profile_1, 13);
  test_truncated(profile_0, sizeof profile_0, 4);
  test_damaged(profile_1, sizeof profile_1);
  test_damaged(profile_0, sizeof profile_0);
  return 0;
}

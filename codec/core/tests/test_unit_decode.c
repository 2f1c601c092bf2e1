/* A device's whole program: pinned streams to floats with fixed memory, through public headers alone. */
#include <stdio.h>
#include <string.h>

#include "nnb/nnb_unit.h"

enum { MAX_PARTS = 4, MAX_VALUES = 128, MAX_CONTEXTS = 90 + 4 * 16, MAX_ROWS = 16, MAX_CODEBOOK = 32 };

typedef struct decoded_tensor {
  char name[8];
  size_t count;
  union {
    int32_t levels[MAX_VALUES];
    float values[MAX_VALUES];
  } data;
} decoded_tensor;

/* nnc-bitstream section 8. */
static const uint8_t worked_example[] = {0x00, 0x04, 0x02, 0x01, 0x00, 0x08, 0x06, 0x81, 0x00, 0x40, 0x00, 0x80, 0x00,
                                         0x06, 0x0e, 0x00, 0x00, 0x00, 0x00, 0x15, 0x16, 0x09, 0x78, 0x00, 0xd0, 0x40,
                                         0xc1, 0x20, 0xa0, 0x80, 0x20, 0x80, 0x00, 0xd7, 0xa0, 0x11, 0x8c, 0x45, 0x60};

static const float worked_example_x[] = {1, -2, 0, 5};

/* Vector 133_p1_block_codebook: a weight of 12 x 9 with a codebook, and a bias. */
static const uint8_t block[] = {
    0x00, 0x04, 0x02, 0x01, 0x00, 0x08, 0x06, 0x81, 0x00, 0x40, 0x00, 0x80, 0x00, 0x06, 0x0e, 0x00, 0x00, 0x00, 0x00,
    0x83, 0x16, 0x1d, 0x80, 0x80, 0x63, 0x2e, 0x77, 0x00, 0x63, 0x2e, 0x62, 0x00, 0xd0, 0x42, 0x06, 0x95, 0x09, 0xfd,
    0x7f, 0xfa, 0x70, 0x91, 0x91, 0x21, 0x50, 0x40, 0xd7, 0xfe, 0xd6, 0x68, 0xac, 0x09, 0xc3, 0xac, 0xfc, 0xfc, 0xc1,
    0x53, 0x4c, 0x7a, 0x07, 0x5b, 0x71, 0xff, 0xe0, 0x13, 0x2c, 0x1d, 0x1d, 0x29, 0x3a, 0xa5, 0xac, 0x79, 0x3b, 0x01,
    0x56, 0xa4, 0x3f, 0x5d, 0x43, 0xb8, 0xee, 0xef, 0xf4, 0xd5, 0x65, 0x7e, 0x00, 0x48, 0x01, 0x33, 0x56, 0x59, 0xbc,
    0xe1, 0xdb, 0x99, 0x4f, 0x5d, 0xb7, 0x44, 0x9d, 0x92, 0xf7, 0x95, 0x7c, 0xe4, 0x33, 0x83, 0xd2, 0x56, 0x51, 0x39,
    0x59, 0x1d, 0x14, 0x88, 0x0f, 0xf9, 0x7d, 0xe5, 0x9c, 0xd6, 0x1b, 0xc3, 0x90, 0x83, 0xe4, 0x77, 0xf6, 0x61, 0x95,
    0x67, 0x98, 0xc9, 0xd2, 0x78, 0xa9, 0x3b, 0xb0, 0x89, 0x5b, 0x8d, 0x35, 0x80, 0xe0, 0x26, 0xd8};

static const float block_bias[] = {1.4140625f,     1.2978515625f, 1.4326171875f,  1.392578125f,
                                   -0.3701171875f, 1.0107421875f, -0.2021484375f, -0.0087890625f,
                                   -2.0341796875f, -1.294921875f, 0.07421875f,    0.8486328125f};

static const float block_weight[] = {
    1.0f,   0.5f,   -0.75f, -0.25f, -2.0f,  0.25f,  -1.0f,  2.25f,  0.25f,  -0.75f, 0.0f,   0.5f,   -1.0f,  -1.25f,
    0.5f,   3.0f,   0.0f,   0.25f,  0.75f,  0.5f,   -0.75f, 0.5f,   -0.75f, -0.25f, -0.25f, -0.25f, 0.75f,  0.0f,
    0.75f,  0.5f,   0.0f,   -0.75f, 2.5f,   1.5f,   0.0f,   -2.75f, 0.75f,  1.25f,  -1.75f, 1.0f,   1.25f,  -2.0f,
    0.25f,  0.25f,  -1.25f, 1.75f,  -0.75f, 0.5f,   -0.5f,  1.75f,  -1.25f, 1.0f,   0.0f,   -0.75f, -0.25f, 0.25f,
    -0.75f, -0.75f, -0.75f, 0.75f,  0.0f,   -2.25f, -1.0f,  -1.0f,  0.25f,  1.0f,   0.5f,   -0.5f,  -1.0f,  0.5f,
    -0.75f, 2.0f,   1.5f,   1.0f,   -0.75f, 1.75f,  0.0f,   1.0f,   1.0f,   -1.5f,  0.0f,   0.75f,  -0.75f, -2.0f,
    -0.75f, 0.25f,  -0.25f, 0.5f,   0.25f,  1.0f,   -1.5f,  0.25f,  0.25f,  -1.25f, -1.0f,  0.75f,  1.0f,   0.25f,
    -1.0f,  0.25f,  1.5f,   -0.25f, -1.25f, -0.5f,  1.0f,   0.0f,   -1.0f,  -1.25f};

static nnb_status dequantize(const nnb_part *part, int32_t qp_value, decoded_tensor *out) {
  static int32_t entries[MAX_CODEBOOK];
  float step;
  if (part->integer) return NNB_OK;
  nnb_status status = nnb_step_size(part->qp + qp_value, part->qp_density, &step);
  if (status != NNB_OK) return status;
  if (part->codebook == NULL) {
    nnb_dequantize_in_place(&out->data, out->count, step);
    return NNB_OK;
  }
  status = nnb_codebook_entries(part->codebook, entries, MAX_CODEBOOK);
  if (status != NNB_OK) return status;
  return nnb_dequantize_codebook_in_place(&out->data, out->count, step, entries, part->codebook->codebook_size,
                                          part->codebook->zero_offset);
}

static nnb_status decode_part(nnb_cabac *cabac, const nnb_part *part, decoded_tensor *out) {
  static nnb_context contexts[MAX_CONTEXTS];
  static uint8_t row_skip_list[MAX_ROWS];
  nnb_tensor tensor = {0};
  nnb_tensor_info info;
  const nnb_status status = nnb_check_coding(&part->coding);
  if (status != NNB_OK) return status;
  if (part->coding.width > MAX_VALUES / part->coding.height || part->coding.height > MAX_ROWS) return NNB_MEMORY_BUDGET;
  if (nnb_context_count(part->coding.unary_length) > MAX_CONTEXTS) return NNB_MEMORY_BUDGET;
  out->count = (size_t)(part->coding.height * part->coding.width);
  tensor.levels = out->data.levels;
  tensor.contexts = contexts;
  tensor.row_skip_list = row_skip_list;
  const nnb_status decoded = nnb_decode_tensor(cabac, &part->coding, &tensor, &info);
  return decoded == NNB_OK ? dequantize(part, info.qp_value, out) : decoded;
}

static nnb_status decode_unit(const nnb_unit *unit, const nnb_parameters *parameters, decoded_tensor *out,
                              size_t *parts) {
  nnb_cabac cabac;
  nnb_status status = nnb_cabac_open(&cabac, unit->data + unit->payload_offset, unit->size - unit->payload_offset);
  for (uint32_t k = 0; status == NNB_OK && k < nnb_part_count(unit); k++) {
    nnb_part part;
    nnb_string name;
    decoded_tensor *const tensor = &out[*parts];
    if (*parts == MAX_PARTS) return NNB_MEMORY_BUDGET;
    status = nnb_part_get(unit, parameters, k, &part);
    if (status == NNB_OK) status = nnb_unit_name(unit, parameters, part.name, &name);
    if (status != NNB_OK) return status;
    memset(tensor->name, 0, sizeof tensor->name);
    if (name.size >= sizeof tensor->name || !part.arithmetic) return NNB_UNSUPPORTED_FEATURE;
    memcpy(tensor->name, name.data, name.size);
    status = decode_part(&cabac, &part, tensor);
    ++*parts;
  }
  return status == NNB_OK ? nnb_cabac_finish(&cabac) : status;
}

static nnb_status decode_stream(const uint8_t *data, size_t size, decoded_tensor *out, size_t *parts) {
  nnb_stream stream;
  nnb_unit unit;
  nnb_status status = nnb_stream_open(&stream, data, size);
  *parts = 0;
  while (status == NNB_OK && (status = nnb_stream_next(&stream, &unit)) == NNB_OK && unit.size > 0) {
    if (unit.nnr_unit_type == NNB_NNR_NDU) status = decode_unit(&unit, &stream.parameters, out, parts);
  }
  return status;
}

static int equals(const decoded_tensor *tensor, const char *name, const float *values, size_t count) {
  return strcmp(tensor->name, name) == 0 && tensor->count == count &&
         memcmp(tensor->data.values, values, count * sizeof *values) == 0;
}

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define CHECK(condition)                                              \
  do {                                                                \
    if (!(condition)) {                                               \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      return 1;                                                       \
    }                                                                 \
  } while (0)

int main(void) {
  static decoded_tensor out[MAX_PARTS];
  size_t parts;
  CHECK(decode_stream(worked_example, sizeof worked_example, out, &parts) == NNB_OK);
  CHECK(parts == 1);
  CHECK(equals(&out[0], "x", worked_example_x, COUNT(worked_example_x)));

  CHECK(decode_stream(block, sizeof block, out, &parts) == NNB_OK);
  CHECK(parts == 2);
  CHECK(equals(&out[0], "c.b", block_bias, COUNT(block_bias)));
  CHECK(equals(&out[1], "c.w", block_weight, COUNT(block_weight)));

  for (size_t size = 0; size < sizeof block; size++) {
    const nnb_status status = decode_stream(block, size, out, &parts);
    /* Cut between units, the start is a stream without tensors. */
    CHECK(size == 12 || size == 18 ? status == NNB_OK && parts == 0 : status != NNB_OK);
  }
  return 0;
}

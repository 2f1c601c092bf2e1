/* The encoder with its buffers, and what has two implementations against each other. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "enc/trellis.h"
#include "nnb/nnb_enc.h"

static uint64_t seed = 11;

static uint32_t random_bits(void) {
  seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)(seed >> 32);
}

static int32_t random_level(uint32_t spread) {
  uint32_t magnitude = 0;
  while (magnitude < 60 && random_bits() % spread != 0) magnitude++;
  return (random_bits() & 1) ? (int32_t)magnitude : -(int32_t)magnitude;
}

static uint8_t *grow(void *user, uint8_t *buffer, size_t used, size_t needed, size_t *capacity) {
  int *const calls = user;
  ++*calls;
  CHECK(used < needed);
  uint8_t *const larger = malloc(needed); /* as little as possible, at another place */
  if (used > 0) memcpy(larger, buffer, used);
  free(buffer);
  *capacity = needed;
  return larger;
}

static void test_buffers(void) {
  enum { HEIGHT = 37, WIDTH = 29, COUNT = HEIGHT * WIDTH };
  const nnb_level_coding coding = {
      .height = HEIGHT, .width = WIDTH, .unary_length = 4, .profile = 1, .qp_bits = 8, .scan_order = 1};
  static int32_t levels[COUNT];
  static int32_t again[COUNT];
  static uint8_t rows[HEIGHT];
  static nnb_context contexts[106];
  static uint8_t sets[106];
  nnb_entry_point entries[4];
  nnb_entry_point found[4];
  for (int i = 0; i < COUNT; i++) levels[i] = i % 7 < 3 ? random_level(5) : 0;
  memset(levels + 3 * WIDTH, 0, 4 * WIDTH);
  levels[5] = INT32_MIN;
  levels[6] = INT32_MAX;
  CHECK(nnb_mark_zero_rows(levels, HEIGHT, WIDTH, rows) >= 1 && rows[3] == 1);

  nnb_source source = {
      .levels = levels, .row_skip_list = rows, .initial_sets = sets, .contexts = contexts, .qp_value = -128};
  source.entry_points = entries;
  const size_t work_size = nnb_choose_work_size(&coding);
  uint8_t *const work = malloc(work_size + 1);
  CHECK(nnb_choose_initial_sets(&coding, &source, NNB_SETS_COST, work + 1, work_size - 1, sets) == NNB_BUFFER_SIZE);
  CHECK(nnb_choose_initial_sets(&coding, &source, NNB_SETS_COST, work + 1, work_size, sets) == NNB_OK);
  free(work);

  int calls = 0;
  uint64_t first = 0;
  nnb_encoder encoder;
  nnb_encoder_open(&encoder, NULL, 0, grow, &calls);
  CHECK(nnb_encode_tensor(&encoder, &coding, &source, &first) == NNB_OK);
  CHECK(nnb_encoder_finish(&encoder) == NNB_OK);
  CHECK(calls > 1);
  CHECK(encoder.size <= nnb_encode_bound(&coding, 1));
  CHECK(nnb_resolve_entry_points(encoder.buffer, encoder.size, first, entries, 4) == NNB_OK);

  nnb_cabac cabac;
  nnb_tensor_info info;
  nnb_tensor tensor = {.levels = again, .contexts = contexts, .row_skip_list = rows, .entry_points = found};
  CHECK(nnb_cabac_open(&cabac, encoder.buffer, encoder.size) == NNB_OK);
  CHECK(nnb_decode_tensor(&cabac, &coding, &tensor, &info) == NNB_OK);
  CHECK(nnb_cabac_finish(&cabac) == NNB_OK);
  CHECK(info.qp_value == -128 && info.row_skip_enabled_flag == 1);
  CHECK(memcmp(levels, again, sizeof levels) == 0);
  for (int i = 0; i < 4; i++) {
    CHECK(entries[i].bit_offset == found[i].bit_offset || i == 0);
    CHECK(entries[i].cabac_offset == found[i].cabac_offset);
  }

  /* From the last entry point on, as another thread would. */
  uint64_t position = first;
  for (int i = 0; i < 4; i++) position += entries[i].bit_offset;
  uint8_t state = 0;
  memset(again, 1, sizeof again);
  tensor.entry_points = NULL;
  CHECK(nnb_cabac_enter(&cabac, encoder.buffer, encoder.size, position, entries[3].cabac_offset) == NNB_OK);
  CHECK(nnb_decode_block_rows(&cabac, &coding, &tensor, &info, 4, 5, &state) == NNB_OK);
  CHECK(nnb_cabac_finish(&cabac) == NNB_OK);
  CHECK(memcmp(levels + 32 * WIDTH, again + 32 * WIDTH, 4 * 5 * WIDTH) == 0);
  CHECK(again[32 * WIDTH - 1] == 0x01010101);

  /* A buffer that does not grow: the same bytes or NNB_BUFFER_SIZE, and never a byte behind its end. */
  for (size_t capacity = 0; capacity < encoder.size + 64; capacity += 7) {
    uint8_t *const fixed = malloc(capacity + 1);
    nnb_encoder other;
    nnb_encoder_open(&other, fixed, capacity, NULL, NULL);
    nnb_status status = nnb_encode_tensor(&other, &coding, &source, NULL);
    if (status == NNB_OK) status = nnb_encoder_finish(&other);
    CHECK(status == NNB_OK || status == NNB_BUFFER_SIZE);
    CHECK(status == NNB_BUFFER_SIZE || memcmp(fixed, encoder.buffer, encoder.size) == 0);
    CHECK(status == NNB_OK || capacity < encoder.size + 40);
    free(fixed);
  }
  free(encoder.buffer);
}

static void test_refusals(void) {
  const nnb_level_coding coding = {.height = 2, .width = 2, .unary_length = 1, .profile = 1, .dq = 1, .qp_bits = 8};
  const int32_t levels[4] = {1, 0, 0, 0};
  uint8_t buffer[1024];
  uint8_t skip[2] = {1, 0};
  nnb_context contexts[94];
  nnb_source source = {.levels = levels, .contexts = contexts};
  nnb_encoder encoder;
  nnb_encoder_open(&encoder, buffer, sizeof buffer, NULL, NULL);
  CHECK(nnb_encode_tensor(&encoder, &coding, &source, NULL) == NNB_BAD_TENSOR); /* parity */
  nnb_level_coding uniform = coding;
  uniform.dq = 0;
  source.row_skip_list = skip;
  CHECK(nnb_encode_tensor(&encoder, &uniform, &source, NULL) == NNB_BAD_TENSOR); /* a skipped row that is not zero */
  source.row_skip_list = NULL;
  source.qp_value = 128;
  CHECK(nnb_encode_tensor(&encoder, &uniform, &source, NULL) == NNB_VALUE_RANGE);
  source.qp_value = 0;
  uniform.codebook_size = 2;
  uniform.codebook_zero_offset = 1;
  CHECK(nnb_encode_tensor(&encoder, &uniform, &source, NULL) == NNB_BAD_TENSOR); /* not in the codebook */
  uniform.codebook_size = 1;
  uniform.codebook_zero_offset = 0;
  CHECK(nnb_encode_tensor(&encoder, &uniform, &source, NULL) == NNB_BAD_TENSOR);
  uniform.codebook_size = 0;
  uniform.temporal = 1;
  CHECK(nnb_encode_tensor(&encoder, &uniform, &source, NULL) == NNB_BASE_MISSING);
}

static void test_trellis(void) {
  enum { COUNT = 1000 };
  float values[COUNT];
  uint8_t decisions[2][2 * COUNT];
  for (int i = 0; i < COUNT; i++) values[i] = (float)((double)(int32_t)random_bits() / 3e8); /* with ties below */
  for (int i = 0; i < COUNT; i += 3) values[i] = (float)(int32_t)values[i] * 0.5f;
  double costs[2][8];
  for (int s = 0; s < 8; s++) costs[0][s] = costs[1][s] = s == 0 ? 0 : 1e300;
  nnb_trellis_portable(values, COUNT, 1.0, costs[0], decisions[0]);
  nnb_select_trellis()(values, COUNT, 1.0, costs[1], decisions[1]);
  CHECK(memcmp(costs[0], costs[1], sizeof costs[0]) == 0);
  CHECK(memcmp(decisions[0], decisions[1], sizeof decisions[0]) == 0);
}

static void test_weighed(void) {
  enum { HEIGHT = 19, WIDTH = 23, COUNT = HEIGHT * WIDTH };
  static float values[COUNT];
  static int32_t levels[COUNT];
  static uint8_t sets[90 + 4 * 256];
  for (int i = 0; i < COUNT; i++) values[i] = (float)random_level(3) * 0.37f;
  values[7] = 3.0e38f;
  values[8] = -3.0e38f;
  for (size_t i = 0; i < sizeof sets; i++) sets[i] = (uint8_t)(i % 9);
  for (uint8_t dq = 0; dq < 2; dq++) {
    for (uint8_t scan_order = 0; scan_order < 3; scan_order++) {
      for (uint16_t unary_length = 1; unary_length <= 256; unary_length = (uint16_t)(unary_length * 16)) {
        const nnb_level_coding coding = {
            .height = HEIGHT, .width = WIDTH, .unary_length = unary_length, .dq = dq, .scan_order = scan_order};
        const size_t size = nnb_weighed_work_size(&coding);
        uint8_t *const work = malloc(size + 1);
        for (int huge = 0; huge < 2; huge++) { /* the overflow guard and long remainders, then ordinary levels */
          int32_t qp = -4;
          const float *const from = huge ? values : values + WIDTH;
          nnb_level_coding part = coding;
          part.height -= huge ? 0u : 1u;
          CHECK(nnb_quantize_weighed(from, &part, 1.0, sets, &qp, 2, levels, work + 1, size - 1) ==
                (nnb_weighed_work_size(&part) > size - 1 ? NNB_BUFFER_SIZE : NNB_OK));
          CHECK(nnb_quantize_weighed(from, &part, 1.0, sets, &qp, 2, levels, work + 1, size) == NNB_OK);
          CHECK(huge ? qp > 300 && levels[7] > 1000000000 : qp == -4);
          CHECK(nnb_quantize_weighed(from, &part, 1e-300, NULL, &qp, 2, levels, work, size) == NNB_OK);
        }
        int32_t qp = 0;
        CHECK(nnb_quantize_weighed(values, &coding, 0.0, NULL, &qp, 2, levels, work, size) == NNB_BAD_OPTION);
        CHECK(nnb_quantize_weighed(values, &coding, 2e30, NULL, &qp, 2, levels, work, size) == NNB_BAD_OPTION);
        free(work);
      }
    }
  }
}

int main(void) {
  test_buffers();
  test_weighed();
  test_refusals();
  test_trellis();
  return failures != 0;
}

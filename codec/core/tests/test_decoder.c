/* The decoder on the worked example, on damaged and on random payloads. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "nnb/nnb.h"

static const uint8_t example[7] = {0x00, 0xD7, 0xA0, 0x11, 0x8C, 0x45, 0x60};
static const int32_t example_levels[4] = {1, -2, 0, 5};
static const nnb_level_coding example_coding = {.height = 2, .width = 2, .unary_length = 1, .profile = 1, .qp_bits = 8};

static nnb_status decode_example(const uint8_t *payload, size_t size, int32_t *levels) {
  nnb_context contexts[94];
  uint8_t rows[2];
  const nnb_tensor tensor = {.levels = levels, .contexts = contexts, .row_skip_list = rows};
  nnb_tensor_info info;
  nnb_cabac cabac;
  nnb_status status = nnb_cabac_open(&cabac, payload, size);
  if (status == NNB_OK) status = nnb_decode_tensor(&cabac, &example_coding, &tensor, &info);
  return status == NNB_OK ? nnb_cabac_finish(&cabac) : status;
}

static void test_example(void) {
  int32_t levels[4];
  CHECK(decode_example(example, sizeof example, levels) == NNB_OK);
  CHECK(memcmp(levels, example_levels, sizeof levels) == 0);
}

static void test_damage(void) {
  int32_t levels[4];
  uint8_t bytes[8] = {0};
  for (size_t size = 0; size < sizeof example; size++) {
    uint8_t *const cut = malloc(size + 1); /* so that a sanitizer sees reads behind the end */
    memcpy(cut, example, size);
    CHECK(decode_example(cut, size, levels) == NNB_TRUNCATED);
    free(cut);
  }
  memcpy(bytes, example, sizeof example);
  CHECK(decode_example(bytes, 8, levels) == NNB_CABAC_END); /* a byte too many */
  bytes[6] |= 1;
  CHECK(decode_example(bytes, 7, levels) == NNB_CABAC_END); /* the end is not zero */
  bytes[6] = 0x40;
  CHECK(decode_example(bytes, 7, levels) == NNB_CABAC_END); /* no stop bit */
  bytes[0] = bytes[1] = 0xFF;
  CHECK(decode_example(bytes, 7, levels) == NNB_CABAC_END); /* V is not below R */
}

static void test_arguments(void) {
  nnb_level_coding c = example_coding;
  CHECK(nnb_check_coding(&c) == NNB_OK);
  c.unary_length = 257;
  CHECK(nnb_check_coding(&c) == NNB_BAD_OPTION);
  c = example_coding;
  c.scan_order = 5;
  CHECK(nnb_check_coding(&c) == NNB_UNSUPPORTED_FEATURE);
  c = example_coding;
  c.height = UINT64_C(1) << 40;
  c.width = UINT64_C(1) << 40;
  CHECK(nnb_check_coding(&c) == NNB_LIMIT);
  c = example_coding;
  c.codebook_size = 3;
  c.codebook_zero_offset = 3;
  CHECK(nnb_check_coding(&c) == NNB_BAD_OPTION);
  c.height = 0;
  CHECK(nnb_check_coding(&c) == NNB_BAD_OPTION);
  CHECK(nnb_context_count(0) == 0 && nnb_context_count(256) == 1114 && nnb_context_count(257) == 0);

  nnb_cabac cabac;
  CHECK(nnb_cabac_enter(&cabac, example, sizeof example, 48, 0) == NNB_ENTRY_POINT);
  CHECK(nnb_cabac_enter(&cabac, example, sizeof example, UINT64_MAX, 0) == NNB_ENTRY_POINT);
  CHECK(nnb_cabac_enter(&cabac, example, sizeof example, 3, 256) == NNB_ENTRY_POINT);
  CHECK(nnb_cabac_enter(&cabac, example, sizeof example, 47, 255) == NNB_OK);
  CHECK(nnb_cabac_position(&cabac) == 47);
}

static void test_steps(void) {
  float step;
  CHECK(nnb_step_size(-38, 2, &step) == NNB_OK && step == 0.00146484375f);
  CHECK(nnb_step_size(1, 2, &step) == NNB_OK && step == 1.25f);
  CHECK(nnb_step_size(-2024, 5, &step) == NNB_OK);
  CHECK(nnb_step_size(-127, 0, &step) == NNB_VALUE_RANGE);
  CHECK(nnb_step_size(128, 0, &step) == NNB_VALUE_RANGE);
  CHECK(nnb_step_size(0, 8, &step) == NNB_BAD_OPTION);
}

static uint32_t random_bits(void) {
  static uint64_t seed = 7;
  seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)(seed >> 32);
}

/* Whatever the bytes and the parameters say, the decoder stays within its memory and ends. */
static void test_random_payloads(void) {
  enum { MOST = 24000 };
  nnb_context *const contexts = malloc(1114 * sizeof *contexts);
  int32_t *const base = malloc(4 * MOST);
  uint8_t *const history = malloc(MOST);
  for (int i = 0; i < MOST; i++) {
    base[i] = (int32_t)(random_bits() % 5) - 2;
    history[i] = random_bits() & 1;
  }
  base[0] = INT32_MIN;
  for (int round = 0; round < 4000; round++) {
    static const uint16_t lengths[] = {1, 2, 11, 16, 17, 256};
    nnb_level_coding c = {.height = 1 + random_bits() % 40, .width = 1 + random_bits() % 40};
    if (round % 8 == 0) c.width = 1 + random_bits() % 600;
    c.unary_length = lengths[random_bits() % 6];
    c.profile = random_bits() & 1;
    c.dq = random_bits() & 1;
    c.scan_order = (uint8_t)(random_bits() % 5);
    c.qp_bits = (uint8_t)(random_bits() % 14);
    c.parent = random_bits() & 1;
    c.temporal = c.profile & random_bits() & 1;
    if (c.profile && random_bits() % 3 == 0) {
      c.codebook_size = 1 + random_bits() % 50;
      c.codebook_zero_offset = random_bits() % c.codebook_size;
    }
    const size_t count = (size_t)(c.height * c.width);
    const size_t size = 1 + random_bits() % (round % 8 == 0 ? 9000 : 300);
    uint8_t *const payload = malloc(size);
    int32_t *const levels = malloc(4 * count);
    uint8_t *const rows = malloc((size_t)c.height);
    const uint32_t kind = random_bits() % 4;
    for (size_t i = 0; i < size; i++) {
      payload[i] = (uint8_t)(kind == 0 ? 0 : kind == 1 ? random_bits() & random_bits() : random_bits());
    }
    const nnb_tensor tensor = {levels, contexts, rows, base, random_bits() & 1 ? history : NULL, NULL};
    nnb_tensor_info info;
    nnb_cabac cabac;
    nnb_status status = nnb_cabac_open(&cabac, payload, size);
    for (int i = 0; i < 4 && status == NNB_OK; i++) status = nnb_decode_tensor(&cabac, &c, &tensor, &info);
    CHECK(status == NNB_OK || status == NNB_TRUNCATED || status == NNB_CABAC_END || status == NNB_LEVEL_RANGE);
    if (status == NNB_OK) status = nnb_cabac_finish(&cabac);
    free(rows);
    free(levels);
    free(payload);
  }
  free(history);
  free(base);
  free(contexts);
}

int main(void) {
  test_example();
  test_damage();
  test_arguments();
  test_steps();
  test_random_payloads();
  return failures != 0;
}

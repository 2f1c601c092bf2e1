/* Exactly coded values: every item type forth and back, then cut and damaged, all in memory of exact size. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "nnb/nnb_lossless_enc.h"

static uint64_t state = 88172645463325252u;

static uint64_t next(void) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

/* Sums of a few random bits look like weights; `kind` makes some zero, few different, or noise. */
static void fill(const nnb_items *items, unsigned kind, uint8_t *values, size_t count) {
  for (size_t i = 0; i < count; i++) {
    uint64_t v = next();
    if (kind == 1 && v % 10 < 7) v = 0;
    if (kind == 2) v = (v % 9 + 1) * UINT64_C(0x123456789abcdef1);
    if (kind == 3) v = (v & UINT64_C(0x81ff81ff81ff81ff)) | UINT64_C(0x3c003c003c003c00);
    if (kind == 4 && i / 50 % 2) v = (v & UINT64_C(0x8fffe0008fffe000)) | UINT64_C(0x3800000038000000);
    if (kind == 5) { /* integers times scales of 50 items each */
      const float product = (float)((int)(v % 31) - 15) * (0.37f + (float)(i / 50));
      uint32_t bits;
      memcpy(&bits, &product, sizeof bits);
      v = items->bytes == 2 ? bits >> 16 : bits;
    }
    if (kind == 7 && v % 11 > i / 64 % 5 * 2) v = 0; /* rows of 64 items, with densities of their own */
    if (kind == 8) { /* sums: the smaller they are, the more of their last bits are zero */
      const float single = (float)((int64_t)(v >> 36) >> v % 16);
      const double two = (double)((int64_t)(v >> 8) >> v % 16);
      uint32_t bits;
      memcpy(&bits, &single, sizeof bits);
      if (items->bytes == 8)
        memcpy(&v, &two, sizeof two);
      else
        v = items->bytes == 2 ? bits >> 16 : bits;
    }
    if (kind == 6) v = (v % 301 + 1) * UINT64_C(0x9E3779B97F4A7C15);
    memcpy(values + i * items->bytes, &v, items->bytes);
  }
}

static void *exact(size_t size) {
  void *const memory = malloc(size ? size : 1);
  if (memory == NULL) abort();
  return memory;
}

static size_t row_items = 50;

static nnb_status decode(const nnb_items *items, const uint8_t *code, size_t size, void *out, size_t count) {
  const size_t work_size = nnb_lossless_work_size(items, count);
  void *const work = exact(work_size);
  uint8_t *const copy = exact(size);
  memcpy(copy, code, size);
  const nnb_status status = nnb_lossless_decode_block(items, copy, size, row_items, out, count, work, work_size);
  free(copy);
  free(work);
  return status;
}

static void test_items(const nnb_items *items, unsigned kind, unsigned speed, unsigned force, size_t count) {
  uint8_t *const values = exact(count * items->bytes), *const out = exact(count * items->bytes);
  const size_t work_size = nnb_lossless_encode_work_size(items, count), capacity = nnb_lossless_bound(items, count);
  void *const work = exact(work_size);
  uint8_t *const code = exact(capacity);
  const nnb_lossless_choice choice = {(uint8_t)speed, (uint8_t)force, 0};
  size_t size = 0;
  row_items = kind == 7 ? 64 : 50;
  fill(items, kind, values, count);
  CHECK(nnb_lossless_encode_block(items, &choice, values, row_items, count, work, work_size, code, capacity, &size) ==
        NNB_OK);
  CHECK(decode(items, code, size, out, count) == NNB_OK);
  CHECK(memcmp(values, out, count * items->bytes) == 0);
  CHECK(decode(items, code, size - 1, out, count) == NNB_LOSSLESS_BLOCK);
  for (unsigned i = 0; i < 20; i++) CHECK(decode(items, code, next() % size, out, count) == NNB_LOSSLESS_BLOCK);
  for (unsigned i = 0; i < 60; i++) {
    const size_t place = i < 30 && i < size ? i : next() % size;
    const uint8_t kept = code[place];
    code[place] = (uint8_t)(kept ^ 1u << next() % 8);
    const nnb_status status = decode(items, code, size, out, count);
    CHECK(status == NNB_OK || status == NNB_LOSSLESS_BLOCK || status == NNB_UNSUPPORTED_FEATURE);
    code[place] = kept;
  }
  free(code);
  free(work);
  free(out);
  free(values);
}

int main(void) {
  static const nnb_items types[] = {{1, 0, 0},  {2, 0, 0},  {4, 0, 0}, {8, 0, 0}, {2, 7, 0}, {2, 10, 0},
                                    {4, 23, 0}, {8, 52, 0}, {1, 0, 3}, {1, 0, 5}, {1, 0, 6}, {1, 0, 7}};
  static const size_t counts[] = {1, 7, 50, 1000, 4999};
  for (size_t t = 0; t < sizeof types / sizeof *types; t++)
    for (unsigned kind = 0; kind < 9; kind++)
      for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
        for (unsigned speed = 0; speed < 3; speed++)
          for (unsigned force = 0; force <= 12; force += speed == 1 ? 1 : 13)
            test_items(&types[t], kind, speed, force, counts[c]);
  test_items(&types[4], 3, 2, 0, 150000); /* wide paths of the rANS coder */
  test_items(&types[6], 1, 1, 0, 150000);
  test_items(&types[4], 5, 1, 0, 150000);
  test_items(&types[6], 5, 2, 0, 150000);
  test_items(&types[6], 6, 1, 0, 150000);
  for (unsigned speed = 0; speed < 3; speed++) {
    test_items(&types[6], 7, speed, 0, 150016);
    for (unsigned t = 4; t < 8; t++) test_items(&types[t], 8, speed, 0, 20011);
  }
  const nnb_items wrong[] = {{3, 0, 0}, {4, 7, 0}, {2, 0, 3}, {1, 0, 4}};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) CHECK(nnb_lossless_work_size(&wrong[i], 10) == 0);
  CHECK(nnb_lossless_work_size(&types[0], 0) == 0);
  CHECK(nnb_lossless_work_size(&types[0], NNB_LOSSLESS_MAX_BLOCK + 1) == 0);
  return failures != 0;
}

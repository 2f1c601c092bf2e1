/* CRC-32C: every way of computing it that this processor has, against one bit at a time. */
#include "check.h"
#include "common/crc32c.c"

enum { SIZE = 9000 };

static uint8_t data[SIZE];

static uint32_t bit_by_bit(uint32_t crc, const uint8_t *bytes, size_t size) {
  for (size_t i = 0; i < size; i++) {
    crc ^= bytes[i];
    for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ UINT32_C(0x82F63B78) : crc >> 1;
  }
  return crc;
}

static void check_piece(uint32_t crc, size_t start, size_t size) {
  const uint32_t expected = bit_by_bit(crc, data + start, size);
  CHECK(nnb_crc32c(~crc, data + start, size) == (uint32_t)~expected);
#if defined(NNB_CRC32C_X86)
  if (size >= 256 && can_fold()) CHECK(with_folding(crc, data + start, size) == expected);
  if (__builtin_cpu_supports("sse4.2")) CHECK(with_instruction(crc, data + start, size) == expected);
#endif
#if !defined(NNB_CRC32C_ARM)
  CHECK(with_tables(crc, data + start, size) == expected);
#endif
}

int main(void) {
  uint32_t state = 1;
  for (size_t i = 0; i < SIZE; i++) {
    state = state * 1664525u + 1013904223u;
    data[i] = (uint8_t)(state >> 24);
  }
  for (size_t size = 0; size < 700; size++) check_piece(state, size % 65, size);
  for (size_t size = 700; size + 64 <= SIZE; size += 311) check_piece(size % 2 ? 0xFFFFFFFFu : 0, size % 64, size);
  return failures;
}

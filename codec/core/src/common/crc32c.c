/* CRC-32C: table driven on devices, with the processor's instruction where there is one. */
#include "nnb/nnb.h"

#if !defined(NNB_PORTABLE) && defined(__GNUC__) && __STDC_HOSTED__
#if defined(__x86_64__)
#define NNB_CRC32C_X86
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
#define NNB_CRC32C_ARM
#endif
#endif
#if defined(__STDC_HOSTED__) && __STDC_HOSTED__
#define NNB_CRC32C_WIDE
#endif

#include "common/crc32c_gen.h"

#if defined(NNB_CRC32C_X86)
#include <nmmintrin.h>
#define NNB_CRC32C_TARGET __attribute__((target("sse4.2")))
#define NNB_CRC32C_8(crc, value) ((uint32_t)_mm_crc32_u64((crc), (value)))
#define NNB_CRC32C_1(crc, value) _mm_crc32_u8((crc), (value))
#elif defined(NNB_CRC32C_ARM)
#include <arm_acle.h>
#define NNB_CRC32C_TARGET
#define NNB_CRC32C_8(crc, value) __crc32cd((crc), (value))
#define NNB_CRC32C_1(crc, value) __crc32cb((crc), (value))
#endif

#if defined(NNB_CRC32C_WIDE)
static uint64_t load64(const uint8_t *p) {
  uint64_t value = 0;
#if defined(__GNUC__) && defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  __builtin_memcpy(&value, p, sizeof value);
#else
  for (int i = 0; i < 8; i++) value |= (uint64_t)p[i] << (8 * i);
#endif
  return value;
}
#endif

#if defined(NNB_CRC32C_TARGET)
static uint32_t shifted(uint32_t crc) {
  return nnb_crc32c_shift[0][crc & 255] ^ nnb_crc32c_shift[1][crc >> 8 & 255] ^ nnb_crc32c_shift[2][crc >> 16 & 255] ^
         nnb_crc32c_shift[3][crc >> 24];
}

/* Three lanes hide the latency of the instruction; their registers are put together as if one had run through. */
NNB_CRC32C_TARGET static uint32_t with_instruction(uint32_t crc, const uint8_t *data, size_t size) {
  const size_t lane = NNB_CRC32C_SHIFT_BYTES;
  while (size >= 3 * lane) {
    uint32_t second = 0;
    uint32_t third = 0;
    for (size_t i = 0; i < lane; i += 8) {
      crc = NNB_CRC32C_8(crc, load64(data + i));
      second = NNB_CRC32C_8(second, load64(data + lane + i));
      third = NNB_CRC32C_8(third, load64(data + 2 * lane + i));
    }
    crc = shifted(shifted(crc) ^ second) ^ third;
    data += 3 * lane;
    size -= 3 * lane;
  }
  for (; size >= 8; size -= 8, data += 8) crc = NNB_CRC32C_8(crc, load64(data));
  for (; size > 0; size--, data++) crc = NNB_CRC32C_1(crc, *data);
  return crc;
}
#endif

static uint32_t with_tables(uint32_t crc, const uint8_t *data, size_t size) {
#if defined(NNB_CRC32C_WIDE)
  for (; size >= 8; size -= 8, data += 8) {
    const uint64_t value = load64(data) ^ crc;
    crc = nnb_crc32c_table[0][value >> 56];
    for (int i = 0; i < 7; i++) crc ^= nnb_crc32c_slices[6 - i][value >> (8 * i) & 255];
  }
#endif
  for (; size > 0; size--, data++) crc = nnb_crc32c_table[0][(crc ^ *data) & 255] ^ crc >> 8;
  return crc;
}

uint32_t nnb_crc32c(uint32_t crc, const uint8_t *data, size_t size) {
  crc = ~crc;
#if defined(NNB_CRC32C_X86)
  crc = __builtin_cpu_supports("sse4.2") ? with_instruction(crc, data, size) : with_tables(crc, data, size);
#elif defined(NNB_CRC32C_ARM)
  crc = with_instruction(crc, data, size);
#else
  crc = with_tables(crc, data, size);
#endif
  return ~crc;
}

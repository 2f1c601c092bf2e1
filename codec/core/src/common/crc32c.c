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
#include <immintrin.h>
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
#if defined(__GNUC__)
      if (i % 64 == 0 && size >= 6 * lane) { /* this processor reads ahead in a single row only */
        for (size_t k = 3; k < 6; k++) __builtin_prefetch(data + k * lane + i);
      }
#endif
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

#if defined(NNB_CRC32C_X86)
#define NNB_CRC32C_FOLD __attribute__((target("avx512f,avx512dq,avx512vl,vpclmulqdq,pclmul,sse4.2")))

NNB_CRC32C_FOLD static __m512i fold_factor(int distance) {
  return _mm512_broadcast_i64x2(_mm_loadu_si128((const __m128i *)(const void *)nnb_crc32c_fold[distance]));
}

NNB_CRC32C_FOLD static __m512i fold(__m512i x, __m512i factor, __m512i next) {
  return _mm512_ternarylogic_epi64(_mm512_clmulepi64_epi128(x, factor, 0x00), _mm512_clmulepi64_epi128(x, factor, 0x11),
                                   next, 0x96);
}

/* What remains of 512 bits. */
__attribute__((target("pclmul,sse4.2"))) static uint32_t crc_of_parts(const __m128i *parts) {
  const __m128i by_128 = _mm_loadu_si128((const __m128i *)(const void *)nnb_crc32c_fold[2]);
  __m128i last = parts[0];
  for (int i = 1; i < 4; i++)
    last = _mm_xor_si128(
        parts[i], _mm_xor_si128(_mm_clmulepi64_si128(last, by_128, 0x00), _mm_clmulepi64_si128(last, by_128, 0x11)));
  const uint32_t crc = NNB_CRC32C_8(0, (uint64_t)_mm_cvtsi128_si64(last));
  return NNB_CRC32C_8(crc, (uint64_t)_mm_extract_epi64(last, 1));
}

/* Carry-less multiplication moves 256 bytes at a time to the next ones, as in Gopal et al., "Fast CRC Computation Using
 * PCLMULQDQ Instruction"; size is at least 256. Unlike the lanes above, it reads memory in order. */
NNB_CRC32C_FOLD static uint32_t with_folding(uint32_t crc, const uint8_t *data, size_t size) {
  const __m512i by_2048 = fold_factor(0), by_512 = fold_factor(1);
  __m512i x[4];
  for (int i = 0; i < 4; i++) x[i] = _mm512_loadu_si512(data + 64 * i);
  x[0] = _mm512_xor_si512(x[0], _mm512_zextsi128_si512(_mm_cvtsi32_si128((int)crc)));
  for (data += 256, size -= 256; size >= 256; data += 256, size -= 256) {
    for (int i = 0; i < 4; i++) x[i] = fold(x[i], by_2048, _mm512_loadu_si512(data + 64 * i));
  }
  __m512i all = x[0];
  for (int i = 1; i < 4; i++) all = fold(all, by_512, x[i]);
  for (; size >= 64; data += 64, size -= 64) all = fold(all, by_512, _mm512_loadu_si512(data));
  __m128i parts[4];
  _mm512_storeu_si512(parts, all);
  return with_instruction(crc_of_parts(parts), data, size);
}

#define NNB_CRC32C_FOLD2 __attribute__((target("avx2,vpclmulqdq,pclmul,sse4.2")))

NNB_CRC32C_FOLD2 static __m256i fold_factor2(int distance) {
  return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)nnb_crc32c_fold[distance]));
}

NNB_CRC32C_FOLD2 static __m256i fold2(__m256i x, __m256i factor, __m256i next) {
  const __m256i low = _mm256_clmulepi64_epi128(x, factor, 0x00), high = _mm256_clmulepi64_epi128(x, factor, 0x11);
  return _mm256_xor_si256(_mm256_xor_si256(low, high), next);
}

NNB_CRC32C_FOLD2 static __m256i load256(const uint8_t *p) {
  return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

/* The same by halves. */
NNB_CRC32C_FOLD2 static uint32_t with_folding2(uint32_t crc, const uint8_t *data, size_t size) {
  const __m256i by_2048 = fold_factor2(0), by_512 = fold_factor2(1);
  __m256i x[8];
  for (int i = 0; i < 8; i++) x[i] = load256(data + 32 * i);
  x[0] = _mm256_xor_si256(x[0], _mm256_zextsi128_si256(_mm_cvtsi32_si128((int)crc)));
  for (data += 256, size -= 256; size >= 256; data += 256, size -= 256) {
    for (int i = 0; i < 8; i++) x[i] = fold2(x[i], by_2048, load256(data + 32 * i));
  }
  __m256i all[2] = {x[0], x[1]};
  for (int i = 2; i < 8; i++) all[i & 1] = fold2(all[i & 1], by_512, x[i]);
  for (; size >= 64; data += 64, size -= 64) {
    for (int i = 0; i < 2; i++) all[i] = fold2(all[i], by_512, load256(data + 32 * i));
  }
  return with_instruction(crc_of_parts((const __m128i *)(const void *)all), data, size);
}

static int can_fold2(void) {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("vpclmulqdq") && __builtin_cpu_supports("sse4.2");
}

static int can_fold(void) {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("vpclmulqdq");
}
#endif

#if !defined(NNB_CRC32C_ARM)
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
#endif

uint32_t nnb_crc32c(uint32_t crc, const uint8_t *data, size_t size) {
  crc = ~crc;
#if defined(NNB_CRC32C_X86)
  if (size >= 256 && can_fold())
    crc = with_folding(crc, data, size);
  else if (size >= 256 && can_fold2())
    crc = with_folding2(crc, data, size);
  else
    crc = __builtin_cpu_supports("sse4.2") ? with_instruction(crc, data, size) : with_tables(crc, data, size);
#elif defined(NNB_CRC32C_ARM)
  crc = with_instruction(crc, data, size);
#else
  crc = with_tables(crc, data, size);
#endif
  return ~crc;
}

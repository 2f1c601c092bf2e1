/* The only door to the C library and to compiler extensions. */
#ifndef NNB_DEPS_H
#define NNB_DEPS_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__) || defined(__clang__)
#define NNB_INLINE static inline __attribute__((always_inline))
#define NNB_NOINLINE __attribute__((noinline))
#define NNB_LIKELY(x) __builtin_expect(!!(x), 1)
#define NNB_UNLIKELY(x) __builtin_expect(!!(x), 0)
#else
#define NNB_INLINE static inline
#define NNB_NOINLINE
#define NNB_LIKELY(x) (x)
#define NNB_UNLIKELY(x) (x)
#endif

#if defined(__GNUC__) && defined(__x86_64__) && __STDC_HOSTED__ && !defined(NNB_PORTABLE)
#define NNB_X86_DISPATCH 1
#define NNB_TARGET(features) __attribute__((target(features)))
#else
#define NNB_X86_DISPATCH 0
#define NNB_TARGET(features)
#endif

/* All 64-bit ARM processors have it. */
#if defined(__GNUC__) && defined(__aarch64__) && defined(__ARM_NEON) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ && \
    __STDC_HOSTED__ && !defined(NNB_PORTABLE)
#define NNB_NEON 1
#else
#define NNB_NEON 0
#endif

#if NNB_X86_DISPATCH
/* Every processor with BMI2 and AVX2 has LZCNT and F16C too, which not every compiler can ask for. */
NNB_INLINE int nnb_cpu_has_bmi2(void) { return __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("avx2"); }
NNB_INLINE int nnb_cpu_has_avx512_vbmi2(void) {
#if defined(NNB_NO_AVX512) /* as on older processors, for tests */
  return 0;
#else
  return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vbmi") &&
         __builtin_cpu_supports("avx512vbmi2");
#endif
}
#endif

/* Items at any address. */
#if defined(__GNUC__) || defined(__clang__)
typedef uint16_t __attribute__((aligned(1), may_alias)) nnb_any16;
typedef uint32_t __attribute__((aligned(1), may_alias)) nnb_any32;
typedef uint64_t __attribute__((aligned(1), may_alias)) nnb_any64;
#else
typedef uint16_t nnb_any16;
typedef uint32_t nnb_any32;
typedef uint64_t nnb_any64;
#endif

/* Keeps a compiler from turning the branch around it into a conditional move, and with it a rare wait into a constant
 * one. */
#if defined(__GNUC__) || defined(__clang__)
#define NNB_KEEP_BRANCH(x) __asm__("" : "+r"(x))
#else
#define NNB_KEEP_BRANCH(x) (void)(x)
#endif

/* Conditional moves by hand, since compilers tend to make branches of them. */
#if defined(__GNUC__) && defined(__x86_64__) && !defined(NNB_PORTABLE)
#define NNB_X86_ASM 1
#else
#define NNB_X86_ASM 0
#endif

/* flag ? yes : no, never a branch. */
NNB_INLINE uint32_t nnb_choose(uint32_t flag, uint32_t yes, uint32_t no) {
#if NNB_X86_ASM
  __asm__("test %[flag], %[flag]\n\tcmovne %[yes], %[no]" : [no] "+r"(no) : [flag] "r"(flag), [yes] "r"(yes) : "cc");
  return no;
#else
  const uint32_t mask = 0u - (uint32_t)(flag != 0);
  return (yes & mask) | (no & ~mask);
#endif
}

_Static_assert((-1 >> 1) == -1 && (-9 >> 2) == -3, "right shifts of negative numbers must be arithmetic");
_Static_assert(sizeof(float) == 4 && sizeof(int32_t) == 4, "binary32 and int32 have the same size");

/* Compilers turn these into single instructions or calls of memset and memcpy, as suits the machine. */
#if defined(__GNUC__) || defined(__clang__)
#define nnb_memset(target, value, size) __builtin_memset((target), (value), (size))
#define nnb_memcpy(target, source, size) __builtin_memcpy((target), (source), (size))
#define nnb_memmove(target, source, size) __builtin_memmove((target), (source), (size))
#else
#include <string.h>
#define nnb_memset(target, value, size) memset((target), (value), (size))
#define nnb_memcpy(target, source, size) memcpy((target), (source), (size))
#define nnb_memmove(target, source, size) memmove((target), (source), (size))
#endif

NNB_INLINE uint64_t nnb_load_be64(const uint8_t *p) {
#if (defined(__GNUC__) || defined(__clang__)) && defined(__BYTE_ORDER__)
  uint64_t word;
  nnb_memcpy(&word, p, sizeof word);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  word = __builtin_bswap64(word);
#endif
  return word;
#else
  uint64_t word = 0;
  for (int i = 0; i < 8; i++) word = word << 8 | p[i];
  return word;
#endif
}

NNB_INLINE uint32_t nnb_load_be32(const uint8_t *p) {
  return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

NNB_INLINE void nnb_store_be32(uint8_t *p, uint32_t word) {
  p[0] = (uint8_t)(word >> 24);
  p[1] = (uint8_t)(word >> 16);
  p[2] = (uint8_t)(word >> 8);
  p[3] = (uint8_t)word;
}

#endif

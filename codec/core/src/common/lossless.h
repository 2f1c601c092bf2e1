/* What the encoder and the decoder of exactly coded values share (docs/lossless.md). */
#ifndef NNB_COMMON_LOSSLESS_H
#define NNB_COMMON_LOSSLESS_H

#include "common/deps.h"
#include "nnb/nnb_lossless.h"

/* Codings of items; a coding contains only codings that stand further down. */
enum {
  NNB_CODING_SPLIT = 0,    /* rows of several kinds */
  NNB_CODING_MASK = 1,     /* a bit for every item that is not zero, and these */
  NNB_CODING_NARROW = 2,   /* floating point numbers of half the width */
  NNB_CODING_TABLE = 3,    /* up to 256 different items */
  NNB_CODING_FLOAT = 4,    /* exponent with upper mantissa bits, sign with lower ones */
  NNB_CODING_BYTES = 5,    /* bytes of equal weight together */
  NNB_CODING_UNPACKED = 6, /* elements of 3, 5, 6 or 7 bits, one a byte */
  NNB_CODING_CONSTANT = 7,
  NNB_CODING_RAW = 8,
  NNB_CODING_ZSTD = 9,        /* outermost only: a zstd frame of another coding */
  NNB_CODING_MULTIPLES = 10,  /* integers times scales; where MASK may stand */
  NNB_CODING_DICTIONARY = 11, /* up to 65536 different items; where MASK may stand */
};

enum { NNB_PLANE_CONSTANT = 0, NNB_PLANE_RAW = 1, NNB_PLANE_RANS = 2, NNB_PLANE_ROWS = 3 };

enum { NNB_FLOAT_ESCAPES = 1, NNB_FLOAT_SCALED = 2, NNB_FLOAT_HALVED = 4 };
enum { NNB_BYTES_DELTA = 1, NNB_BYTES_SCALED = 2 };

#define NNB_SPLIT_CLASSES 16u
#define NNB_SCALE_TABLES 4u    /* of coding FLOAT: quarters of an octave */
#define NNB_BYTES_TABLES 8u    /* of coding BYTES */
#define NNB_MASK_CLASS_BITS 2u /* of rows of a mask */
#define NNB_MAX_UPPER 5u       /* mantissa bits coded with the exponent */

#define NNB_TARGET_AVX512 NNB_TARGET("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx2,bmi2,popcnt")

/* Items of the narrower type that coding NARROW contains; mantissa_bits is 0 if there is none. */
NNB_INLINE nnb_items nnb_narrow_items(const nnb_items *items) {
  nnb_items narrow = {(uint8_t)(items->bytes / 2), 0, 0};
  if (items->bytes == 4 && items->mantissa_bits == 23) narrow.mantissa_bits = 10;
  if (items->bytes == 8 && items->mantissa_bits == 52) narrow.mantissa_bits = 23;
  return narrow;
}

NNB_INLINE int nnb_items_valid(const nnb_items *items) {
  const unsigned b = items->bytes, m = items->mantissa_bits, p = items->packed_bits;
  if (b != 1 && b != 2 && b != 4 && b != 8) return 0;
  if (p != 0 && (b != 1 || m != 0 || !(p == 3 || p == 5 || p == 6 || p == 7))) return 0;
  return m == 0 || (b == 2 && (m == 7 || m == 10)) || (b == 4 && m == 23) || (b == 8 && m == 52);
}

/* Coding MULTIPLES: items of a run have one scale. */
typedef struct nnb_multiples {
  size_t run; /* items; 0: scales go by position in a row */
  size_t scale_count;
  const nnb_any32 *scales; /* bits of binary32 numbers */
  const uint8_t *offsets;  /* of each scale: integers are from -offset to 255 - offset */
  const uint8_t *integers; /* modulo 256 */
} nnb_multiples;

#define NNB_LEAST_RUN 8u

/* Whether `run` divides rows, and there are not more scales than memory for them. */
NNB_INLINE int nnb_run_valid(size_t run, size_t row_items, size_t count) {
  return run ? run >= NNB_LEAST_RUN && row_items % run == 0 : count >= 2 * row_items;
}

#define NNB_MAX_ENTRIES 65536u

NNB_INLINE int nnb_may_be_multiples(const nnb_items *items) { return items->mantissa_bits != 0 && items->bytes <= 4; }

NNB_INLINE uint32_t nnb_bits_of(float value) {
  uint32_t bits;
  nnb_memcpy(&bits, &value, sizeof bits);
  return bits;
}

NNB_INLINE float nnb_float_of(uint32_t bits) {
  float value;
  nnb_memcpy(&value, &bits, sizeof value);
  return value;
}

/* Rounding to even. Magnitudes are below 65520. */
NNB_INLINE uint16_t nnb_to_binary16(uint32_t bits) {
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t normal = (magnitude + 0xfffu + (magnitude >> 13 & 1u) - (112u << 23)) >> 13;
  /* One unit of 0.5f is the least binary16 number. */
  const uint32_t subnormal = nnb_bits_of(nnb_float_of(magnitude) + 0.5f) - nnb_bits_of(0.5f);
  return (uint16_t)((magnitude < 113u << 23 ? subnormal : normal) | (bits >> 16 & 0x8000u));
}

NNB_INLINE uint16_t nnb_to_bfloat16(uint32_t bits) { return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16); }

NNB_INLINE int nnb_integer(uint8_t byte, uint8_t offset) { return (int)(uint8_t)(byte + offset) - (int)offset; }

NNB_INLINE uint32_t nnb_product(float scale, int integer) { return nnb_bits_of(scale * (float)integer); }

NNB_INLINE uint32_t nnb_round_product(const nnb_items *items, uint32_t product) {
  if (items->bytes == 4) return product;
  return items->mantissa_bits == 7 ? nnb_to_bfloat16(product) : nnb_to_binary16(product);
}

/* All products with integers of 8 bits and a sign are normal binary32 numbers, and finite items. */
int nnb_scales_valid(const nnb_items *items, const nnb_any32 *scales, size_t count);
void nnb_multiply(const nnb_items *items, const nnb_multiples *multiples, void *out, size_t count);

/* How coding FLOAT divides an item: `low` bits with the sign on top of the lower mantissa bits, in whole bytes and a
 * field of less than 8 bits. */
typedef struct nnb_division {
  unsigned shift; /* mantissa bits that are not coded with the exponent */
  unsigned bytes;
  unsigned field;
} nnb_division;

NNB_INLINE nnb_division nnb_divide(const nnb_items *items, unsigned upper) {
  nnb_division division;
  division.shift = items->mantissa_bits - upper;
  division.bytes = (division.shift + 1) / 8;
  division.field = (division.shift + 1) % 8;
  return division;
}

NNB_INLINE uint32_t nnb_load_le32(const uint8_t *p) {
  return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

NNB_INLINE void nnb_store_le32(uint8_t *p, uint32_t v) {
  p[0] = (uint8_t)v;
  p[1] = (uint8_t)(v >> 8);
  p[2] = (uint8_t)(v >> 16);
  p[3] = (uint8_t)(v >> 24);
}

/* binary16 to binary32, NaN payloads and all. */
NNB_INLINE uint32_t nnb_widen16(uint32_t h) {
  const uint32_t sign = (h & 0x8000u) << 16, magnitude = h & 0x7fffu;
  if (magnitude >= 0x7c00u) return sign | 0x7f800000u | (magnitude & 0x3ffu) << 13;
  if (magnitude >= 0x400u) return sign | ((magnitude << 13) + (112u << 23));
  if (magnitude == 0) return sign;
  uint32_t exponent = 113, fraction = magnitude;
  while (fraction < 0x400u) {
    fraction <<= 1;
    exponent--;
  }
  return sign | exponent << 23 | (fraction & 0x3ffu) << 13;
}

/* binary32 to binary64, NaN payloads and all. */
NNB_INLINE uint64_t nnb_widen32(uint32_t f) {
  const uint64_t sign = (uint64_t)(f & 0x80000000u) << 32, magnitude = f & 0x7fffffffu;
  if (magnitude >= 0x7f800000u) return sign | (uint64_t)0x7ff << 52 | (magnitude & 0x7fffffu) << 29;
  if (magnitude >= 0x800000u) return sign | ((magnitude << 29) + ((uint64_t)896 << 52));
  if (magnitude == 0) return sign;
  uint64_t exponent = 897, fraction = magnitude;
  while (fraction < 0x800000u) {
    fraction <<= 1;
    exponent--;
  }
  return sign | exponent << 52 | (fraction & 0x7fffffu) << 29;
}

/* Whether a binary32 number is a binary16 number, bit for bit; *h receives it. */
NNB_INLINE int nnb_narrow32(uint32_t f, uint16_t *h) {
  const uint32_t sign = f >> 16 & 0x8000u, magnitude = f & 0x7fffffffu;
  if (magnitude == 0) {
    *h = (uint16_t)sign;
    return 1;
  }
  const uint32_t exponent = magnitude >> 23, fraction = magnitude & 0x7fffffu;
  if (exponent == 255 || (exponent >= 113 && exponent <= 142)) {
    if (fraction & 0x1fffu) return 0;
    *h = (uint16_t)(sign | (exponent == 255 ? 31u : exponent - 112u) << 10 | fraction >> 13);
    return 1;
  }
  if (exponent < 103 || exponent > 142) return 0;
  const uint32_t whole = fraction | 0x800000u, shift = 126 - exponent;
  if (whole & ((1u << shift) - 1u)) return 0;
  *h = (uint16_t)(sign | whole >> shift);
  return 1;
}

NNB_INLINE int nnb_narrow64(uint64_t d, uint32_t *f) {
  const uint32_t sign = (uint32_t)(d >> 32) & 0x80000000u;
  const uint64_t magnitude = d & ~((uint64_t)1 << 63);
  if (magnitude == 0) {
    *f = sign;
    return 1;
  }
  const uint64_t exponent = magnitude >> 52, fraction = magnitude & (((uint64_t)1 << 52) - 1);
  if (exponent == 2047 || (exponent >= 897 && exponent <= 1150)) {
    if (fraction & 0x1fffffffu) return 0;
    *f = sign | (uint32_t)(exponent == 2047 ? 255 : exponent - 896) << 23 | (uint32_t)(fraction >> 29);
    return 1;
  }
  if (exponent < 874 || exponent > 1150) return 0;
  const uint64_t whole = fraction | (uint64_t)1 << 52;
  const unsigned shift = (unsigned)(926 - exponent);
  if (whole & (((uint64_t)1 << shift) - 1)) return 0;
  *f = sign | (uint32_t)(whole >> shift);
  return 1;
}

/* Frequencies of the 256 bytes of a mask whose items are there with a chance of chance / 256, from 1 to 255, each. */
void nnb_mask_frequencies(unsigned chance, nnb_any16 *frequencies);

/* The first byte that is 0, from `at` on, or `count`. */
size_t nnb_find_zero(const uint8_t *data, size_t at, size_t count);

#endif

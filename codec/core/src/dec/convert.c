/* From the carriers of the standard profile to element types, in integer arithmetic: the same bits on every machine. */
#include "dec/piece.h"

enum { QUIET_16 = 0x200, QUIET_BFLOAT = 0x40 };

/* The upper bits of a NaN's payload are kept, as in the next two. */
static uint16_t to_float16(uint32_t bits) {
  const uint32_t sign = bits >> 16 & 0x8000;
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  if (magnitude > 0x7F800000) {
    const uint32_t payload = magnitude >> 13 & 0x3FF;
    return (uint16_t)(sign | 0x7C00 | (payload ? payload : QUIET_16));
  }
  if (magnitude >= 0x477FF000) return (uint16_t)(sign | 0x7C00);
  const int32_t exponent = (int32_t)(magnitude >> 23) - 112;
  if (exponent < -10) return (uint16_t)sign;
  const uint32_t mantissa = (magnitude & 0x7FFFFF) | 0x800000;
  const uint32_t shift = exponent > 0 ? 13 : (uint32_t)(14 - exponent);
  uint32_t value = mantissa >> shift;
  const uint32_t rest = mantissa & ((1u << shift) - 1);
  const uint32_t tie = 1u << (shift - 1);
  if (exponent > 0) value += (uint32_t)(exponent - 1) << 10; /* the mantissa's leading one adds the last */
  if (rest > tie || (rest == tie && (value & 1))) value++;
  return (uint16_t)(sign | value);
}

static uint16_t to_bfloat16(uint32_t bits) {
  if ((bits & 0x7FFFFFFF) > 0x7F800000) return (uint16_t)(bits >> 16 | (bits & 0x7F0000 ? 0 : QUIET_BFLOAT));
  return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

/* NaNs become quiet, as hardware does. */
static uint64_t to_float64(uint32_t bits) {
  const uint64_t sign = (uint64_t)(bits >> 31) << 63;
  uint64_t mantissa = bits & 0x7FFFFF;
  uint32_t exponent = bits >> 23 & 0xFF;
  if (exponent == 0xFF) {
    return sign | UINT64_C(0x7FF) << 52 | mantissa << 29 | (mantissa ? UINT64_C(1) << 51 : 0);
  }
  if (exponent == 0) {
    if (mantissa == 0) return sign;
    exponent = 1;
    for (; !(mantissa & 0x800000); mantissa <<= 1) exponent--; /* wraps, and is right again below */
    mantissa &= 0x7FFFFF;
  }
  return sign | (uint64_t)(exponent + 896u) << 52 | mantissa << 29;
}

NNB_INLINE void store(uint64_t value, uint32_t bytes, uint8_t *out) {
  for (uint32_t i = 0; i < bytes; i++) out[i] = (uint8_t)(value >> (8 * i));
}

void nnb_store_floats(uint32_t element_type, const uint8_t *from, uint64_t count, uint8_t *out) {
  for (uint64_t i = 0; i < count; i++) {
    uint32_t bits;
    nnb_memcpy(&bits, from + 4 * i, 4);
    switch (element_type) {
      case NNB_ELEMENT_TYPE_FLOAT16:
        store(to_float16(bits), 2, out + 2 * i);
        break;
      case NNB_ELEMENT_TYPE_BFLOAT16:
        store(to_bfloat16(bits), 2, out + 2 * i);
        break;
      case NNB_ELEMENT_TYPE_FLOAT32:
        store(bits, 4, out + 4 * i);
        break;
      default:
        store(to_float64(bits), 8, out + 8 * i);
    }
  }
}

static void range_of(uint32_t element_type, int64_t *low, int64_t *high) {
  const uint32_t bits = nnb_element_bits(element_type);
  const int is_signed = element_type == NNB_ELEMENT_TYPE_INT8 || element_type == NNB_ELEMENT_TYPE_INT16 ||
                        element_type == NNB_ELEMENT_TYPE_INT32 || element_type == NNB_ELEMENT_TYPE_INT64;
  *low = is_signed ? INT32_MIN : 0;
  *high = INT32_MAX;
  if (bits < 32) {
    *high = element_type == NNB_ELEMENT_TYPE_BOOL ? 1 : ((int64_t)1 << (bits - (is_signed ? 1u : 0u))) - 1;
    if (is_signed) *low = -*high - 1;
  }
}

nnb_status nnb_store_integers(uint32_t element_type, const int32_t *from, uint64_t count, uint8_t *out) {
  const uint32_t bytes = nnb_element_bits(element_type) / 8;
  int64_t low, high;
  range_of(element_type, &low, &high);
  for (uint64_t i = 0; i < count; i++) {
    if (from[i] < low || from[i] > high) return NNB_LEVEL_RANGE;
    store((uint64_t)(int64_t)from[i], bytes, out + bytes * i);
  }
  return NNB_OK;
}

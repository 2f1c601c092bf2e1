/*
 * Reader of syntax elements (nnc-bitstream section 2).
 *
 * It cannot leave its unit and never fails loudly: the first error is remembered, and from then on every element reads
 * as zero and every list is empty. Callers look at `status` once, at the end. All functions trace the element that they
 * read, under the name given last; without NNB_TRACE neither names nor the argument exist.
 */
#ifndef NNB_BITS_H
#define NNB_BITS_H

#include "common/deps.h"
#include "nnb/nnb_unit.h"

#if !defined(NNB_TRACE)
#define NNB_TRACE __STDC_HOSTED__
#endif

typedef struct nnb_bits {
  const uint8_t *data;
  uint64_t end;      /* in bits */
  uint64_t position; /* in bits */
  nnb_status status;
#if NNB_TRACE
  const nnb_trace *trace;
  uint64_t origin; /* of the unit in the stream, in bits */
  nnb_trace_record record;
#endif
} nnb_bits;

#if NNB_TRACE
#define NNB_NAME_PARAMETER , const char *name
#define NNB_NAMED(text) , text
#define NNB_SAME_NAME , name
/* Where the elements that follow lie. */
#define NNB_GROUP(s, text) ((s)->record.group = (text))
/* The elements that follow have `level` indices, the last of them `value`. */
#define NNB_AT(s, level, value) ((s)->record.depth = (level), (s)->record.index[(level) - 1] = (value))
/* The elements that follow have `level` indices. */
#define NNB_LEVEL(s, level) ((s)->record.depth = (level))
#else
#define NNB_NAME_PARAMETER
#define NNB_NAMED(text)
#define NNB_SAME_NAME
#define NNB_GROUP(s, text) ((void)(s))
#define NNB_AT(s, level, value) ((void)(s), (void)(level), (void)(value))
#define NNB_LEVEL(s, level) ((void)(s), (void)(level))
#endif

NNB_INLINE nnb_bits nnb_bits_at(const uint8_t *data, size_t size, uint64_t position) {
  nnb_bits s;
  nnb_memset(&s, 0, sizeof s);
  s.data = data;
  s.end = 8 * (uint64_t)size;
  s.position = position;
  return s;
}

NNB_INLINE int nnb_ok(const nnb_bits *s) { return s->status == NNB_OK; }

NNB_INLINE void nnb_fail(nnb_bits *s, nnb_status status) {
  if (s->status == NNB_OK) s->status = status;
}

/* `count`, if it is at most `limit` and that many elements of `bits` bits can follow; else an error and 0. */
uint32_t nnb_bounded(nnb_bits *s, uint64_t count, uint32_t limit, uint32_t bits);

/* The rest as a list of `count` elements; the reader does not move. */
nnb_list nnb_list_here(const nnb_bits *s, size_t size, uint32_t count);

uint64_t nnb_read_u(nnb_bits *s, uint32_t width NNB_NAME_PARAMETER);
/* NNB_VALUE_RANGE below the minimum, `above` above the maximum. */
uint32_t nnb_read_u_range(nnb_bits *s, uint32_t width, uint32_t minimum, uint32_t maximum,
                          nnb_status above NNB_NAME_PARAMETER);
/* The next `width` bits, 0 if they are not there; no error, and the reader does not move. */
uint64_t nnb_peek_u(const nnb_bits *s, uint32_t width);
/* 64 bits; NNB_LIMIT above the maximum. */
uint64_t nnb_read_u64(nnb_bits *s, uint64_t maximum NNB_NAME_PARAMETER);
int32_t nnb_read_i(nnb_bits *s, uint32_t width NNB_NAME_PARAMETER);
uint64_t nnb_read_ue(nnb_bits *s, uint32_t order NNB_NAME_PARAMETER);
uint64_t nnb_read_ue_range(nnb_bits *s, uint32_t order, uint32_t minimum, uint64_t maximum,
                           nnb_status above NNB_NAME_PARAMETER);
int64_t nnb_read_ie(nnb_bits *s, uint32_t order NNB_NAME_PARAMETER);
/* NNB_VALUE_RANGE outside int32. */
int32_t nnb_read_ie32(nnb_bits *s, uint32_t order NNB_NAME_PARAMETER);
/* The bit pattern. */
uint32_t nnb_read_flt(nnb_bits *s NNB_NAME_PARAMETER);
/* `count` of them, with the index of that level. */
void nnb_read_flts(nnb_bits *s, uint32_t count, uint32_t level NNB_NAME_PARAMETER);
nnb_string nnb_read_st(nnb_bits *s, uint32_t limit NNB_NAME_PARAMETER);
/* The bytes up to the end of the unit. */
nnb_string nnb_read_rest(nnb_bits *s, uint32_t limit NNB_NAME_PARAMETER);
/* Too many bits for a value. */
void nnb_read_raw(nnb_bits *s, uint64_t width NNB_NAME_PARAMETER);
void nnb_read_reserved(nnb_bits *s, uint32_t width NNB_NAME_PARAMETER);
void nnb_read_alignment(nnb_bits *s);

#define NNB_FLAG(s, name) ((uint8_t)nnb_read_u(s, 1 NNB_NAMED(name)))
#define NNB_U8(s, width, name) ((uint8_t)nnb_read_u(s, width NNB_NAMED(name)))
#define NNB_U(s, width, name) nnb_read_u(s, width NNB_NAMED(name))
#define NNB_ENUM(s, width, last, name) ((uint8_t)nnb_read_u_range(s, width, 0, last, NNB_UNKNOWN_VALUE NNB_NAMED(name)))
#define NNB_I(s, width, name) nnb_read_i(s, width NNB_NAMED(name))
#define NNB_UE(s, order, name) nnb_read_ue(s, order NNB_NAMED(name))
#define NNB_UE_LIMIT(s, order, limit, name) nnb_read_ue_range(s, order, 0, limit, NNB_LIMIT NNB_NAMED(name))
#define NNB_FLT(s, name) nnb_read_flt(s NNB_NAMED(name))
#define NNB_FLTS(s, count, level, name) nnb_read_flts(s, count, level NNB_NAMED(name))
#define NNB_ST(s, limit, name) nnb_read_st(s, limit NNB_NAMED(name))
#define NNB_REST(s, limit, name) nnb_read_rest(s, limit NNB_NAMED(name))
#define NNB_RESERVED(s, width, name) nnb_read_reserved(s, width NNB_NAMED(name))

#endif

#include "dec/bits.h"

static void note(nnb_bits *s, uint64_t start, nnb_trace_kind kind, uint64_t value NNB_NAME_PARAMETER) {
#if NNB_TRACE
  if (s->trace == NULL) return;
  s->record.name = name;
  s->record.kind = kind;
  s->record.position = s->origin + start;
  s->record.width = s->position - start;
  s->record.value = value;
  s->trace->function(s->trace->user, &s->record);
#else
  (void)s, (void)start, (void)kind, (void)value;
#endif
}

/* Whether there is no error yet and `bits` are left. */
static int require(nnb_bits *s, uint64_t bits) {
  if (!nnb_ok(s)) return 0;
  if (bits > s->end - s->position) s->status = NNB_TRUNCATED;
  return nnb_ok(s);
}

/* The next `width` bits, at most 64, which are there. */
static uint64_t take(nnb_bits *s, uint32_t width) {
  uint64_t value = 0;
  while (width > 0) {
    const uint32_t left = 8 - (uint32_t)(s->position & 7);
    const uint32_t n = width < left ? width : left;
    const uint32_t byte = s->data[(size_t)(s->position >> 3)];
    value = value << n | (byte >> (left - n) & ((1u << n) - 1));
    s->position += n;
    width -= n;
  }
  return value;
}

static uint64_t take_u(nnb_bits *s, uint32_t width) { return require(s, width) ? take(s, width) : 0; }

static uint64_t take_ue(nnb_bits *s, uint32_t order) {
  uint64_t left = s->end - s->position;
  uint32_t suffix = order;
  if (!nnb_ok(s)) return 0;
  while (left > 0 && take(s, 1) == 0) {
    left--;
    if (++suffix >= NNB_MAX_UE_BITS) {
      s->status = NNB_OVERLONG_CODE;
      return 0;
    }
  }
  if (left == 0) s->status = NNB_TRUNCATED;
  if (!require(s, suffix)) return 0;
  const uint64_t base = ((UINT64_C(1) << (suffix - order)) - 1) << order;
  return base + take(s, suffix);
}

static int in_range(nnb_bits *s, uint64_t value, uint32_t minimum, uint64_t maximum, nnb_status above) {
  if (value > maximum) nnb_fail(s, above);
  if (value < minimum) nnb_fail(s, NNB_VALUE_RANGE);
  return nnb_ok(s);
}

uint32_t nnb_bounded(nnb_bits *s, uint64_t count, uint32_t limit, uint32_t bits) {
  if (count > limit) nnb_fail(s, NNB_LIMIT);
  return nnb_ok(s) && require(s, count * bits) ? (uint32_t)count : 0;
}

nnb_list nnb_list_here(const nnb_bits *s, size_t size, uint32_t count) {
  const nnb_list list = {s->data, size, s->position, count};
  return list;
}

uint64_t nnb_read_u(nnb_bits *s, uint32_t width NNB_NAME_PARAMETER) {
  const uint64_t start = s->position;
  const uint64_t value = take_u(s, width);
  if (nnb_ok(s)) note(s, start, NNB_TRACE_UNSIGNED, value NNB_SAME_NAME);
  return value;
}

uint32_t nnb_read_u_range(nnb_bits *s, uint32_t width, uint32_t minimum, uint32_t maximum,
                          nnb_status above NNB_NAME_PARAMETER) {
  const uint64_t start = s->position;
  const uint32_t value = (uint32_t)take_u(s, width);
  if (!in_range(s, value, minimum, maximum, above)) return 0;
  note(s, start, NNB_TRACE_UNSIGNED, value NNB_SAME_NAME);
  return value;
}

uint64_t nnb_peek_u(const nnb_bits *s, uint32_t width) {
  nnb_bits ahead = *s;
  return take_u(&ahead, width);
}

uint64_t nnb_read_u64(nnb_bits *s, uint64_t maximum NNB_NAME_PARAMETER) {
  const uint64_t start = s->position;
  const uint64_t value = take_u(s, 64);
  if (!in_range(s, value, 0, maximum, NNB_LIMIT)) return 0;
  note(s, start, NNB_TRACE_UNSIGNED, value NNB_SAME_NAME);
  return value;
}

int32_t nnb_read_i(nnb_bits *s, uint32_t width NNB_NAME_PARAMETER) {
  const uint64_t start = s->position;
  const uint32_t bits = (uint32_t)take_u(s, width);
  const uint32_t half = 1u << (width - 1);
  const int32_t value = (int32_t)(bits ^ half) - (int32_t)half;
  if (!nnb_ok(s)) return 0;
  note(s, start, NNB_TRACE_SIGNED, (uint64_t)(int64_t)value NNB_SAME_NAME);
  return value;
}

uint64_t nnb_read_ue_range(nnb_bits *s, uint32_t order, uint32_t minimum, uint64_t maximum,
                           nnb_status above NNB_NAME_PARAMETER) {
  const uint64_t start = s->position;
  const uint64_t value = take_ue(s, order);
  if (!in_range(s, value, minimum, maximum, above)) return 0;
  note(s, start, NNB_TRACE_UNSIGNED, value NNB_SAME_NAME);
  return value;
}

uint64_t nnb_read_ue(nnb_bits *s, uint32_t order NNB_NAME_PARAMETER) {
  return nnb_read_ue_range(s, order, 0, UINT64_MAX, NNB_LIMIT NNB_SAME_NAME);
}

/* ie(k) with |value| <= limit, but limit + 1 is allowed below 0. */
static int64_t read_ie(nnb_bits *s, uint32_t order, uint64_t limit NNB_NAME_PARAMETER) {
  const uint64_t start = s->position;
  const uint64_t code = take_ue(s, order);
  const uint64_t magnitude = (code >> 1) + (code & 1);
  const int64_t value = code & 1 ? (int64_t)magnitude : -(int64_t)magnitude;
  if (magnitude > limit + !(code & 1)) nnb_fail(s, NNB_VALUE_RANGE);
  if (!nnb_ok(s)) return 0;
  note(s, start, NNB_TRACE_SIGNED, (uint64_t)value NNB_SAME_NAME);
  return value;
}

int64_t nnb_read_ie(nnb_bits *s, uint32_t order NNB_NAME_PARAMETER) {
  return read_ie(s, order, INT64_MAX NNB_SAME_NAME);
}

int32_t nnb_read_ie32(nnb_bits *s, uint32_t order NNB_NAME_PARAMETER) {
  return (int32_t)read_ie(s, order, NNB_MAX_LEVEL NNB_SAME_NAME);
}

uint32_t nnb_read_flt(nnb_bits *s NNB_NAME_PARAMETER) {
  const uint64_t start = s->position;
  const uint32_t b = (uint32_t)take_u(s, 32);
  const uint32_t value = b << 24 | (b & 0xFF00) << 8 | (b >> 8 & 0xFF00) | b >> 24;
  if (nnb_ok(s)) note(s, start, NNB_TRACE_FLOAT, value NNB_SAME_NAME);
  return value;
}

void nnb_read_flts(nnb_bits *s, uint32_t count, uint32_t level NNB_NAME_PARAMETER) {
  count = nnb_bounded(s, count, UINT32_MAX, 32);
  for (uint32_t j = 0; j < count; j++) {
    NNB_AT(s, level, j);
    nnb_read_flt(s NNB_SAME_NAME);
  }
  NNB_LEVEL(s, level - 1);
}

/* Length of the UTF-8 character at p, 0 if it is none; `left` bytes are there. */
static size_t utf8_length(const uint8_t *p, size_t left) {
  if (p[0] < 0x80) return 1;
  if (p[0] < 0xC2 || p[0] > 0xF4) return 0;
  const size_t length = p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
  if (left < length) return 0;
  for (size_t i = 1; i < length; i++)
    if ((p[i] & 0xC0) != 0x80) return 0;
  const uint32_t head = (uint32_t)p[0] << 8 | p[1]; /* longer than needed, surrogates, above 0x10FFFF */
  if (length == 3) return head < 0xE0A0 || (head >= 0xEDA0 && head < 0xEE00) ? 0 : 3;
  if (length == 4) return head < 0xF090 || head >= 0xF490 ? 0 : 4;
  return 2;
}

static int is_utf8(const uint8_t *p, size_t size) {
  size_t at = 0;
  while (at < size) {
    const size_t length = utf8_length(p + at, size - at);
    if (length == 0) return 0;
    at += length;
  }
  return 1;
}

nnb_string nnb_read_st(nnb_bits *s, uint32_t limit NNB_NAME_PARAMETER) {
  const nnb_string none = {NULL, 0};
  if (!nnb_ok(s)) return none;
  const uint64_t start = s->position;
  const uint8_t *const text = s->data + (size_t)(start >> 3);
  const size_t left = (size_t)((s->end - start) >> 3);
  size_t size = 0;
  while (size < left && size <= limit && text[size] != 0) size++;
  if (size > limit) {
    s->status = NNB_LIMIT;
  } else if (size == left || !is_utf8(text, size)) {
    s->status = NNB_BAD_STRING;
  }
  if (!nnb_ok(s)) return none;
  const nnb_string string = {text, size};
  s->position += 8 * ((uint64_t)size + 1);
  note(s, start, NNB_TRACE_STRING, 0 NNB_SAME_NAME);
  return string;
}

nnb_string nnb_read_rest(nnb_bits *s, uint32_t limit NNB_NAME_PARAMETER) {
  const nnb_string none = {NULL, 0};
  const uint64_t start = s->position;
  const uint64_t bits = s->end - start;
  if (bits > 8 * (uint64_t)limit) nnb_fail(s, NNB_LIMIT);
  if (!nnb_ok(s)) return none;
  const nnb_string rest = {s->data + (size_t)(start >> 3), (size_t)(bits >> 3)};
  s->position = s->end;
  note(s, start, NNB_TRACE_BITS, 0 NNB_SAME_NAME);
  return rest;
}

void nnb_read_raw(nnb_bits *s, uint64_t width NNB_NAME_PARAMETER) {
  const uint64_t start = s->position;
  if (!require(s, width)) return;
  s->position += width;
  note(s, start, NNB_TRACE_BITS, 0 NNB_SAME_NAME);
}

void nnb_read_reserved(nnb_bits *s, uint32_t width NNB_NAME_PARAMETER) {
  const uint64_t start = s->position;
  if (take_u(s, width) != 0) nnb_fail(s, NNB_RESERVED_BITS);
  if (nnb_ok(s)) note(s, start, NNB_TRACE_UNSIGNED, 0 NNB_SAME_NAME);
}

void nnb_read_alignment(nnb_bits *s) {
  const uint64_t start = s->position;
  const uint32_t width = 8 - (uint32_t)(start & 7);
  const uint64_t value = take_u(s, width);
  if (value != UINT64_C(1) << (width - 1)) nnb_fail(s, NNB_BAD_ALIGNMENT);
  if (nnb_ok(s)) note(s, start, NNB_TRACE_UNSIGNED, value NNB_NAMED("byte_alignment"));
}

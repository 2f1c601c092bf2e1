#include "dec/sparse.h"

/* Takes an element `gap` places behind the last; 0 if there is none. */
static int take(uint64_t gap, uint64_t elements, uint64_t *next, uint8_t *words) {
  if (gap >= elements - *next) return 0;
  *next += gap;
  words[*next / 8] |= (uint8_t)(1u << (*next % 8));
  ++*next;
  return 1;
}

static nnb_status read_raw(const uint8_t *data, size_t size, uint64_t elements, uint64_t value_count, uint8_t *words) {
  const uint8_t *const end = data + size;
  uint64_t next = 0;
  for (uint64_t i = 0; i < value_count; i++) {
    if (data == end) return NNB_SPARSE_MAP;
    uint64_t gap = *data & 127;
    for (unsigned shift = 7; *data++ > 127; shift += 7) {
      if (data == end || shift > 42 || *data == 0) return NNB_SPARSE_MAP;
      gap |= (uint64_t)(*data & 127) << shift;
    }
    if (!take(gap, elements, &next, words)) return NNB_SPARSE_MAP;
  }
  return data == end ? NNB_OK : NNB_SPARSE_MAP;
}

/* Bits, least significant first; behind the end zeros. */
typedef struct {
  const uint8_t *data;
  size_t size;
  uint64_t position;
} bit_reader;

/* At least 57 bits. */
static uint64_t peek(const bit_reader *reader) {
  const uint64_t byte = reader->position / 8;
  const unsigned shift = (unsigned)(reader->position % 8);
  if (byte + 8 <= reader->size) return nnb_load_le64(reader->data + byte) >> shift;
  uint64_t word = 0;
  for (uint64_t i = byte; i < reader->size; i++) word |= (uint64_t)reader->data[i] << 8 * (i - byte);
  return word >> shift;
}

static nnb_status read_rice(const uint8_t *data, size_t size, uint64_t elements, uint64_t value_count, uint8_t *words) {
  bit_reader reader = {data, size, 0};
  nnb_rice rice = {4, 1};
  uint64_t next = 0;
  for (uint64_t i = 0; i < value_count; i++) {
    const unsigned k = nnb_rice_k(&rice);
    const unsigned ones = nnb_lowest_bit(~peek(&reader) | UINT64_C(1) << NNB_GAP_ESCAPE);
    uint64_t gap;
    if (ones < NNB_GAP_ESCAPE) {
      reader.position += ones + 1;
      gap = (uint64_t)ones << k | (peek(&reader) & nnb_low_mask(k));
      reader.position += k;
    } else {
      reader.position += NNB_GAP_ESCAPE;
      gap = peek(&reader) & nnb_low_mask(48);
      reader.position += 48;
      if (gap >> k < NNB_GAP_ESCAPE) return NNB_SPARSE_MAP;
    }
    if (reader.position > 8 * (uint64_t)size || !take(gap, elements, &next, words)) return NNB_SPARSE_MAP;
    nnb_rice_update(&rice, gap);
  }
  if ((reader.position + 7) / 8 != size) return NNB_SPARSE_MAP;
  /* Ones are left, so that nothing there could be a gap. */
  const unsigned left = (unsigned)(8 * (uint64_t)size - reader.position);
  return peek(&reader) == nnb_low_mask(left) ? NNB_OK : NNB_SPARSE_MAP;
}

nnb_status nnb_sparse_read_gaps(const uint8_t *data, size_t size, int coded, uint64_t elements, uint64_t value_count,
                                uint8_t *words) {
  return (coded ? read_rice : read_raw)(data, size, elements, value_count, words);
}

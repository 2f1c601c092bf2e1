#include "dec/rans.h"

/* Most significant bit first. Beyond the end come zeros; the caller compares position with size at the end. */
typedef struct bit_reader {
  const uint8_t *data;
  size_t size;
  size_t position; /* in bits */
} bit_reader;

/* The next bits, at least 57, from the top. */
NNB_INLINE uint64_t peek_bits(const bit_reader *reader) {
  const size_t byte = reader->position >> 3;
  uint64_t word = 0;
  if (byte < reader->size && reader->size - byte >= 8) {
    word = nnb_load_be64(reader->data + byte);
  } else {
    for (size_t i = byte; i < byte + 8; i++) word = word << 8 | (i < reader->size ? reader->data[i] : 0u);
  }
  return word << (reader->position & 7);
}

/* `count` is at most 32. */
NNB_INLINE uint32_t read_bits(bit_reader *reader, uint32_t count) {
  const uint64_t bits = peek_bits(reader);
  reader->position += count;
  return (uint32_t)(bits >> 32 >> (32 - count));
}

/* Exp-Golomb code of order 0; values of more than 8 bits are none that a table has. */
NNB_INLINE uint32_t read_golomb(bit_reader *reader) {
  const uint64_t bits = peek_bits(reader);
  uint32_t zeros = 0;
  while (zeros < 9 && (bits << zeros >> 63) == 0) zeros++;
  if (zeros == 9) return UINT32_MAX;
  reader->position += 2 * zeros + 1;
  return (uint32_t)(bits >> (63 - 2 * zeros)) - 1;
}

static nnb_status read_table(bit_reader *reader, nnb_rans_row *rows, uint32_t bucket_bits, uint32_t *symbol_count) {
  const uint32_t count = read_bits(reader, 8) + 1;
  uint32_t symbol = 0;
  uint32_t length = 6;
  uint32_t left = NNB_RANS_SLOTS;
  *symbol_count = count;
  if (count > 1u << bucket_bits) return NNB_LOSSLESS_BLOCK;
  nnb_memset(rows, 0, sizeof *rows << bucket_bits);
  for (uint32_t i = 0; i < count; i++) {
    if (count == 256) {
      symbol = i;
    } else {
      const uint32_t step = i == 0 ? read_bits(reader, 8) : read_golomb(reader);
      if (step > 255) return NNB_LOSSLESS_BLOCK;
      symbol = i == 0 ? step : symbol + 1 + step;
      if (symbol > 255) return NNB_LOSSLESS_BLOCK;
    }
    rows[i].symbol = (uint8_t)symbol;
  }
  for (uint32_t i = 0; i + 1 < count; i++) {
    const uint32_t change = read_golomb(reader); /* of the length: 0, 1, -1, 2, -2, ... */
    if (change > 22) return NNB_LOSSLESS_BLOCK;
    length += change & 1u ? (change + 1) / 2 : 0u - change / 2;
    if (length < 1 || length > NNB_RANS_BITS) return NNB_LOSSLESS_BLOCK;
    const uint32_t frequency = 1u << (length - 1) | read_bits(reader, length - 1);
    if (frequency >= left) return NNB_LOSSLESS_BLOCK;
    left -= frequency;
    rows[i].frequency = (uint16_t)frequency;
  }
  rows[count - 1].frequency = (uint16_t)left;
  nnb_rans_build_rows(rows, bucket_bits);
  return NNB_OK;
}

nnb_status nnb_rans_read_tables(const uint8_t *data, size_t size, size_t *used, nnb_rans_row *rows, size_t row_count,
                                uint32_t table_count, nnb_rans_model *model) {
  bit_reader reader = {data, size, 0};
  uint32_t largest = 1;
  if (table_count < 1 || table_count > NNB_RANS_MAX_TABLES) return NNB_BAD_OPTION;
  const uint32_t bucket_bits = read_bits(&reader, 4);
  if (bucket_bits > 8) return NNB_LOSSLESS_BLOCK;
  if (row_count >> bucket_bits < table_count) return NNB_BUFFER_SIZE;
  for (uint32_t i = 0; i < table_count; i++) {
    uint32_t count;
    const nnb_status status = read_table(&reader, rows + ((size_t)i << bucket_bits), bucket_bits, &count);
    if (status != NNB_OK) return status;
    largest = count > largest ? count : largest;
  }
  if (bucket_bits != nnb_rans_bucket_bits(largest)) return NNB_LOSSLESS_BLOCK;
  if (read_bits(&reader, (uint32_t)(0 - reader.position) & 7u) != 0) return NNB_LOSSLESS_BLOCK;
  if (reader.position / 8 > size) return NNB_LOSSLESS_BLOCK;
  *used = reader.position / 8;
  *model = (nnb_rans_model){rows, table_count, bucket_bits};
  return NNB_OK;
}

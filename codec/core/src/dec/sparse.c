#include "dec/sparse.h"

#include "dec/sparse_coded.h"

enum { WORD = 64, RAW = 0, CODED = 1 };

/* Bits in bytes to words; the rest of the last byte is zero. */
static nnb_status read_bits(const uint8_t *data, size_t size, uint64_t bits, uint8_t *words) {
  if (size != nnb_bytes_size(bits)) return NNB_SPARSE_MAP;
  if (bits % 8 != 0 && data[size - 1] >> (bits % 8) != 0) return NNB_SPARSE_MAP;
  if (size != 0) nnb_memcpy(words, data, size);
  return NNB_OK;
}

static nnb_status spread_raw(const uint8_t *data, size_t size, uint64_t flags, uint8_t *words) {
  const size_t flags_size = nnb_bytes_size(flags);
  if (size < flags_size) return NNB_SPARSE_MAP;
  if (flags % 8 != 0 && data[flags_size - 1] >> (flags % 8) != 0) return NNB_SPARSE_MAP;
  const uint8_t *next = data + flags_size;
  size_t left = size - flags_size;
  uint64_t empty = 0;
  for (size_t i = 0; i < flags_size; i++) {
    for (unsigned byte = data[i]; byte != 0; byte &= byte - 1) {
      if (left < 8) return NNB_SPARSE_MAP;
      const uint64_t word = nnb_load_le64(next);
      empty |= word == 0;
      nnb_store_le64(words + (8 * i + nnb_lowest_bit(byte)) * 8, word);
      next += 8;
      left -= 8;
    }
  }
  return left != 0 || empty ? NNB_SPARSE_MAP : NNB_OK;
}

static nnb_status spread_coded(const uint8_t *data, size_t size, uint64_t flags, uint64_t value_count, uint8_t *words,
                               uint8_t *work) {
  nnb_bit_decoder decoder;
  uint8_t *const flag_words = work;
  void *const rest = work + nnb_words_size(flags);
  uint64_t present, ones;
  nnb_memset(flag_words, 0, nnb_words_size(flags));
  nnb_status status = nnb_bit_decoder_open(&decoder, data, size);
  if (status != NNB_OK) return status;
  status = nnb_decode_mask(&decoder, flags, flags, value_count, flag_words, &present, rest);
  if (status != NNB_OK) return status;
  status = nnb_decode_mask(&decoder, present * WORD, present * WORD, value_count, words, &ones, rest);
  if (status != NNB_OK) return status;
  status = nnb_bit_decoder_finish(&decoder);
  if (status != NNB_OK) return status;
  for (uint64_t i = 0; i < present; i++) {
    if (nnb_load_le64(words + i * 8) == 0) return NNB_SPARSE_MAP;
  }
  /* The present words lie together at the beginning; the last is moved first. */
  for (uint64_t i = flags; i-- > 0;) {
    const int flag = flag_words[i / 8] >> (i % 8) & 1;
    nnb_store_le64(words + i * 8, flag ? nnb_load_le64(words + --present * 8) : 0);
    if (present == i) break; /* all words before this one are present, where they belong */
  }
  return NNB_OK;
}

static nnb_status read_two_level(const uint8_t *section, size_t size, const nnb_sparse_piece *piece,
                                 uint64_t value_count, uint8_t *words, size_t words_size, void *work) {
  if (size == 0 || section[0] > CODED) return NNB_SPARSE_MAP;
  const uint64_t flags = words_size / 8;
  const nnb_status status = section[0] == CODED ? spread_coded(section + 1, size - 1, flags, value_count, words, work)
                                                : spread_raw(section + 1, size - 1, flags, words);
  if (status != NNB_OK) return status;
  const unsigned last = (unsigned)(piece->elements % WORD);
  return last != 0 && nnb_load_le64(words + words_size - 8) >> last != 0 ? NNB_SPARSE_MAP : NNB_OK;
}

static nnb_status read_coded(const uint8_t *section, size_t size, const nnb_sparse_piece *piece, uint64_t value_count,
                             uint8_t *words, void *work) {
  nnb_bit_decoder decoder;
  uint64_t ones;
  nnb_status status = nnb_bit_decoder_open(&decoder, section, size);
  if (status == NNB_OK) {
    status = nnb_decode_mask(&decoder, piece->elements, piece->columns, value_count, words, &ones, work);
  }
  return status == NNB_OK ? nnb_bit_decoder_finish(&decoder) : status;
}

nnb_status nnb_sparse_decode(uint32_t kind, const uint8_t *section, size_t size, const uint64_t *dimensions,
                             size_t count_dimensions, uint64_t value_count, uint8_t *words, size_t words_size,
                             void *work, size_t work_size) {
  size_t words_needed, work_needed;
  nnb_sparse_piece piece;
  nnb_status status = nnb_sparse_sizes(kind, dimensions, count_dimensions, &words_needed, &work_needed);
  if (status == NNB_OK) status = nnb_sparse_measure(dimensions, count_dimensions, &piece);
  if (status != NNB_OK) return status;
  if (words_size < words_needed || work_size < work_needed) return NNB_BUFFER_SIZE;
  if (value_count > piece.elements) return NNB_SPARSE_MAP;
  if (words_needed != 0) nnb_memset(words, 0, words_needed);
  switch (kind) {
    case NNB_SPARSE_BITMASK:
      status = read_bits(section, size, piece.elements, words);
      break;
    case NNB_SPARSE_TWO_LEVEL:
      status = read_two_level(section, size, &piece, value_count, words, words_needed, work);
      break;
    case NNB_SPARSE_GAPS:
      if (size == 0 || section[0] > CODED) return NNB_SPARSE_MAP;
      status = nnb_sparse_read_gaps(section + 1, size - 1, section[0] == CODED, piece.elements, value_count, words);
      break;
    case NNB_SPARSE_PATTERN:
      status = nnb_sparse_read_pattern(section, size, &piece, words, work);
      break;
    case NNB_SPARSE_STRUCTURED:
      status = nnb_sparse_read_structured(section, size, &piece, words, work);
      break;
    default:
      status = read_coded(section, size, &piece, value_count, words, work);
  }
  if (status != NNB_OK) return status;
  return nnb_sparse_count(words, piece.elements) == value_count ? NNB_OK : NNB_SPARSE_MAP;
}

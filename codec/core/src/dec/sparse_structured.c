#include "dec/sparse.h"
#include "dec/sparse_coded.h"

enum { RAW = 0, CODED = 1 };

static nnb_status read_keeps(const uint8_t *section, size_t size, const nnb_sparse_piece *piece, uint8_t *keeps,
                             void *model) {
  const size_t flags_size = nnb_bytes_size(piece->count_dimensions);
  if (size < 1 + flags_size || section[0] > CODED) return NNB_SPARSE_MAP;
  const uint8_t *const flags = section + 1;
  const unsigned rest = piece->count_dimensions % 8;
  if (rest != 0 && flags[flags_size - 1] >> rest != 0) return NNB_SPARSE_MAP;
  const uint8_t *data = section + 1 + flags_size;
  size_t left = size - 1 - flags_size;
  const int coded = section[0] == CODED;
  nnb_bit_decoder decoder;
  if (coded) {
    const nnb_status status = nnb_bit_decoder_open(&decoder, data, left);
    if (status != NNB_OK) return status;
  }
  for (size_t i = 0; i < piece->count_dimensions; i++) {
    const uint64_t d = piece->dimensions[i];
    const size_t words_size = nnb_words_size(d);
    if (words_size != 0) nnb_memset(keeps, 0, words_size);
    if (!(flags[i / 8] >> (i % 8) & 1)) {
      nnb_put_ones(keeps, 0, d);
    } else if (coded) {
      uint64_t ones;
      const nnb_status status = nnb_decode_mask(&decoder, d, d, d, keeps, &ones, model);
      if (status != NNB_OK) return status;
    } else {
      const size_t bytes = nnb_bytes_size(d);
      if (left < bytes) return NNB_SPARSE_MAP;
      if (d % 8 != 0 && data[bytes - 1] >> (d % 8) != 0) return NNB_SPARSE_MAP;
      if (bytes != 0) nnb_memcpy(keeps, data, bytes);
      data += bytes;
      left -= bytes;
    }
    keeps += words_size;
  }
  if (coded) return nnb_bit_decoder_finish(&decoder);
  return left == 0 ? NNB_OK : NNB_SPARSE_MAP;
}

nnb_status nnb_sparse_keeps(const uint8_t *section, size_t size, const uint64_t *dimensions, size_t count_dimensions,
                            uint8_t *keeps, size_t keeps_size, void *work, size_t work_size) {
  nnb_sparse_piece piece;
  size_t keeps_needed, work_needed;
  nnb_status status = nnb_sparse_measure(dimensions, count_dimensions, &piece);
  if (status == NNB_OK) status = nnb_sparse_keeps_size(&piece, &keeps_needed, &work_needed);
  if (status != NNB_OK) return status;
  if (keeps_size < keeps_needed || work_size < work_needed) return NNB_BUFFER_SIZE;
  return read_keeps(section, size, &piece, keeps, (nnb_odometer *)work + 1);
}

/* Copies a mask of bits to any position. */
static void put_mask(uint8_t *words, uint64_t position, const uint8_t *mask, uint64_t bits) {
  for (uint64_t i = 0; i < bits; i += 64) {
    const unsigned n = bits - i < 64 ? (unsigned)(bits - i) : 64;
    const uint64_t word = nnb_load_le64(mask + (size_t)(i / 8));
    if (word != 0) nnb_put_bits(words, position + i, word, n);
  }
}

nnb_status nnb_sparse_read_structured(const uint8_t *section, size_t size, const nnb_sparse_piece *piece,
                                      uint8_t *words, void *work) {
  nnb_odometer *const o = work;
  const size_t count = piece->count_dimensions;
  size_t keeps_size, work_size;
  nnb_status status = nnb_sparse_keeps_size(piece, &keeps_size, &work_size);
  if (status != NNB_OK) return status;
  uint8_t *const keeps = (uint8_t *)work + work_size;
  status = read_keeps(section, size, piece, keeps, o + 1);
  if (status != NNB_OK || piece->elements == 0) return status;
  /* Dimensions behind the last that has a mask are runs of ones. */
  size_t masked = 0, at = 0;
  for (size_t i = 0; i < count; i++) {
    o->index[i] = 0;
    o->keeps[i] = at;
    at += nnb_words_size(piece->dimensions[i]);
    if (section[1 + i / 8] >> (i % 8) & 1) masked = i + 1;
  }
  if (masked == 0) {
    nnb_put_ones(words, 0, piece->elements);
    return NNB_OK;
  }
  uint64_t stride = 1;
  for (size_t i = count; i-- > 0; stride *= piece->dimensions[i]) o->stride[i] = stride;
  const size_t last = masked - 1;
  const uint64_t run = o->stride[last];
  const uint64_t size_last = piece->dimensions[last];
  const uint8_t *const mask = keeps + o->keeps[last];
  uint64_t position = 0;
  size_t level = 0;
  for (;;) {
    /* Down to the last masked dimension, past indices that are not kept. */
    while (level < last && o->index[level] < piece->dimensions[level]) {
      const uint8_t *const keep = keeps + o->keeps[level];
      if (keep[o->index[level] / 8] >> (o->index[level] % 8) & 1) {
        level++;
        o->index[level] = 0;
      } else {
        o->index[level]++;
        position += o->stride[level];
      }
    }
    if (level == last) {
      if (run == 1) {
        put_mask(words, position, mask, size_last);
      } else {
        for (uint64_t i = 0; i < size_last; i++) {
          if (mask[i / 8] >> (i % 8) & 1) nnb_put_ones(words, position + i * run, run);
        }
      }
      position += size_last * run;
    }
    /* Up to the next index. */
    if (level == 0) return NNB_OK;
    o->index[--level]++;
  }
}

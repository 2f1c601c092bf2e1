/* Arithmetic encoding of bits. */
#ifndef NNB_ENC_SPARSE_CODED_H
#define NNB_ENC_SPARSE_CODED_H

#include "common/sparse.h"

/* Remembers if the capacity was too small. */
typedef struct nnb_bit_encoder {
  uint8_t *data;
  size_t size;
  size_t capacity;
  uint32_t low;
  uint32_t range;
  int full;
} nnb_bit_encoder;

void nnb_bit_encoder_open(nnb_bit_encoder *encoder, uint8_t *data, size_t capacity);

/* NNB_BUFFER_SIZE if there was no room. */
nnb_status nnb_bit_encoder_finish(nnb_bit_encoder *encoder);

NNB_INLINE void nnb_bit_encoder_byte(nnb_bit_encoder *encoder, uint32_t byte) {
  if (NNB_LIKELY(encoder->size != encoder->capacity)) {
    encoder->data[encoder->size++] = (uint8_t)byte;
  } else {
    encoder->full = 1;
  }
}

NNB_INLINE void nnb_encode_with(nnb_bit_encoder *encoder, uint32_t bit, uint32_t probability) {
  const uint32_t bound = (encoder->range >> 16) * probability;
  if (bit) {
    encoder->range = bound;
  } else {
    const uint32_t low = encoder->low + bound;
    if (low < bound) { /* the carry, which never gets past the first byte */
      size_t i = encoder->size;
      while (i > 0 && ++encoder->data[--i] == 0) {
      }
    }
    encoder->low = low;
    encoder->range -= bound;
  }
  while (encoder->range < UINT32_C(1) << 24) {
    nnb_bit_encoder_byte(encoder, encoder->low >> 24);
    encoder->low <<= 8;
    encoder->range <<= 8;
  }
}

NNB_INLINE void nnb_encode_adaptive(nnb_bit_encoder *encoder, uint32_t bit, nnb_adaptive *state) {
  nnb_encode_with(encoder, bit, nnb_adaptive_probability(*state));
  *state = nnb_adaptive_update(*state, bit);
}

/* Encodes a mask; with `present` the words that are not zero, as if there were no others. `work` of
 * nnb_bit_model_size(). */
void nnb_encode_mask(nnb_bit_encoder *encoder, const uint8_t *words, uint64_t elements, uint64_t columns, int present,
                     void *work);

#endif

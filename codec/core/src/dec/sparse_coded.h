/* Arithmetic decoding of bits. */
#ifndef NNB_DEC_SPARSE_CODED_H
#define NNB_DEC_SPARSE_CODED_H

#include "common/sparse.h"

/* Behind the end it reads zeros and remembers that. */
typedef struct nnb_bit_decoder {
  const uint8_t *next;
  const uint8_t *end;
  uint32_t value;
  uint32_t range;
  int cut;
} nnb_bit_decoder;

nnb_status nnb_bit_decoder_open(nnb_bit_decoder *decoder, const uint8_t *data, size_t size);

/* NNB_SPARSE_MAP unless the string ends here, in the state that an encoder leaves. */
nnb_status nnb_bit_decoder_finish(const nnb_bit_decoder *decoder);

NNB_INLINE void nnb_bit_decoder_fill(nnb_bit_decoder *decoder) {
  while (decoder->range < UINT32_C(1) << 24) {
    uint32_t byte = 0;
    if (NNB_LIKELY(decoder->next != decoder->end)) {
      byte = *decoder->next++;
    } else {
      decoder->cut = 1;
    }
    decoder->value = decoder->value << 8 | byte;
    decoder->range <<= 8;
  }
}

NNB_INLINE uint32_t nnb_decode_with(nnb_bit_decoder *decoder, uint32_t probability) {
  const uint32_t bound = (decoder->range >> 16) * probability;
  const uint32_t bit = decoder->value < bound;
  if (bit) {
    decoder->range = bound;
  } else {
    decoder->value -= bound;
    decoder->range -= bound;
  }
  nnb_bit_decoder_fill(decoder);
  return bit;
}

NNB_INLINE uint32_t nnb_decode_adaptive(nnb_bit_decoder *decoder, nnb_adaptive *state) {
  const uint32_t bit = nnb_decode_with(decoder, nnb_adaptive_probability(*state));
  *state = nnb_adaptive_update(*state, bit);
  return bit;
}

/* Sets the bits of a mask in words that are all zero; not more than `limit` of them. `work` of nnb_bit_model_size(). */
nnb_status nnb_decode_mask(nnb_bit_decoder *decoder, uint64_t elements, uint64_t columns, uint64_t limit,
                           uint8_t *words, uint64_t *ones, void *work);

#endif

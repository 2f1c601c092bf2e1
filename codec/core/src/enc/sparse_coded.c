#include "enc/sparse_coded.h"

void nnb_bit_encoder_open(nnb_bit_encoder *encoder, uint8_t *data, size_t capacity) {
  encoder->data = data;
  encoder->size = 0;
  encoder->capacity = capacity;
  encoder->low = 0;
  encoder->range = UINT32_C(0xFFFFFFFF);
  encoder->full = 0;
}

nnb_status nnb_bit_encoder_finish(nnb_bit_encoder *encoder) {
  for (int i = 0; i < 4; i++, encoder->low <<= 8) nnb_bit_encoder_byte(encoder, encoder->low >> 24);
  return encoder->full ? NNB_BUFFER_SIZE : NNB_OK;
}

static void encode_count(nnb_bit_encoder *encoder, nnb_bit_model *model, uint32_t width, uint32_t count) {
  const unsigned largest = nnb_highest_bit(width + 1);
  const unsigned exponent = nnb_highest_bit(count + 1);
  for (unsigned i = 0; i < exponent; i++) nnb_encode_adaptive(encoder, 1, &model->exponents[i]);
  if (exponent < largest) nnb_encode_adaptive(encoder, 0, &model->exponents[exponent]);
  for (unsigned place = exponent; place-- > 0;) {
    const uint32_t value = (count + 1) >> (place + 1);
    const uint32_t bit = (count + 1) >> place & 1;
    if (value < NNB_COUNT_MANTISSAS) {
      nnb_encode_adaptive(encoder, bit, &model->mantissas[exponent][value]);
    } else {
      nnb_encode_with(encoder, bit, UINT32_C(1) << 15);
    }
  }
}

static void encode_segment(nnb_bit_encoder *encoder, nnb_bit_model *model, uint32_t ones, uint32_t width) {
  uint32_t zeros = width - ones;
  uint32_t near = 0;
  int ones_octave = nnb_half_octave(ones);
  int zeros_octave = nnb_half_octave(zeros);
  for (uint32_t j = 0; ones != 0 && zeros != 0; j++) {
    const uint32_t bit = model->row[j];
    nnb_adaptive *const contexts = model->bits[nnb_density(ones_octave, zeros_octave)];
    nnb_encode_adaptive(encoder, bit, &contexts[model->place[j] + near]);
    near = (near << 1 | bit) & 3;
    if (bit) {
      if (--ones != 0) ones_octave = nnb_half_octave(ones);
    } else {
      if (--zeros != 0) zeros_octave = nnb_half_octave(zeros);
    }
  }
}

/* Bits in order. */
typedef struct {
  const uint8_t *words;
  uint64_t position;
  int present; /* zero words are left out; all segments are then whole words */
} source;

/* Bits of a segment to bytes 0 or 1; returns how many ones there are. */
static uint32_t get_row(source *from, uint8_t *row, uint32_t width) {
  uint32_t ones = 0;
  for (uint32_t j = 0; j < width; j += 64) {
    const unsigned n = width - j < 64 ? (unsigned)(width - j) : 64;
    uint64_t word = nnb_get_bits(from->words, from->position, n);
    from->position += n;
    while (from->present && word == 0) {
      word = nnb_get_bits(from->words, from->position, 64);
      from->position += 64;
    }
    ones += nnb_popcount(word);
    for (unsigned i = 0; i < n; i++, word >>= 1) row[j + i] = (uint8_t)(word & 1);
  }
  return ones;
}

void nnb_encode_mask(nnb_bit_encoder *encoder, const uint8_t *words, uint64_t elements, uint64_t columns, int present,
                     void *work) {
  nnb_bit_model *const model = nnb_bit_model_open(work, elements, columns);
  source from = {words, 0, present};
  for (uint64_t start = 0; start < elements && !encoder->full; start += model->width) {
    const uint32_t width = elements - start < model->width ? (uint32_t)(elements - start) : model->width;
    const uint32_t ones = get_row(&from, model->row, width);
    const int mixed = ones != 0 && ones != width;
    encode_count(encoder, model, width, ones);
    if (mixed) {
      nnb_bit_model_begin(model, ones, width);
      encode_segment(encoder, model, ones, width);
    }
    nnb_bit_model_end(model, width, mixed);
  }
}

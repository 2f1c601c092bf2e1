#include "dec/sparse_coded.h"

nnb_status nnb_bit_decoder_open(nnb_bit_decoder *decoder, const uint8_t *data, size_t size) {
  if (size < 4) return NNB_SPARSE_MAP;
  decoder->next = data + 4;
  decoder->end = data + size;
  decoder->value = nnb_load_be32(data);
  decoder->range = UINT32_C(0xFFFFFFFF);
  decoder->cut = 0;
  return NNB_OK;
}

nnb_status nnb_bit_decoder_finish(const nnb_bit_decoder *decoder) {
  return decoder->cut || decoder->value != 0 || decoder->next != decoder->end ? NNB_SPARSE_MAP : NNB_OK;
}

static nnb_status decode_count(nnb_bit_decoder *decoder, nnb_bit_model *model, uint32_t width, uint32_t *count) {
  const unsigned largest = nnb_highest_bit(width + 1);
  unsigned exponent = 0;
  while (exponent < largest && nnb_decode_adaptive(decoder, &model->exponents[exponent])) exponent++;
  uint32_t value = 1;
  for (unsigned place = exponent; place-- > 0;) {
    uint32_t bit;
    if (value < NNB_COUNT_MANTISSAS) {
      bit = nnb_decode_adaptive(decoder, &model->mantissas[exponent][value]);
    } else {
      bit = nnb_decode_with(decoder, UINT32_C(1) << 15);
    }
    value = value << 1 | bit;
  }
  *count = value - 1;
  return value - 1 <= width ? NNB_OK : NNB_SPARSE_MAP;
}

/* The bits of a segment that has ones and zeros, to model->row. */
static void decode_segment(nnb_bit_decoder *shared, nnb_bit_model *model, uint32_t ones, uint32_t width) {
  nnb_bit_decoder decoder = *shared;
  uint32_t zeros = width - ones;
  int ones_octave = nnb_half_octave(ones);
  int zeros_octave = nnb_half_octave(zeros);
  nnb_adaptive *contexts = model->bits[nnb_density(ones_octave, zeros_octave)];
  uint32_t near = 0;
  for (uint32_t j = 0; j < width; j++) {
    const uint32_t bit = nnb_decode_adaptive(&decoder, &contexts[model->place[j] + near]);
    model->row[j] = (uint8_t)bit;
    near = (near << 1 | bit) & 3;
    if (bit) {
      if (--ones == 0) {
        nnb_memset(model->row + j + 1, 0, width - j - 1);
        break;
      }
      ones_octave = nnb_half_octave(ones);
    } else {
      if (--zeros == 0) {
        nnb_memset(model->row + j + 1, 1, width - j - 1);
        break;
      }
      zeros_octave = nnb_half_octave(zeros);
    }
    contexts = model->bits[nnb_density(ones_octave, zeros_octave)];
  }
  *shared = decoder;
}

static void put_row(uint8_t *words, uint64_t position, const uint8_t *row, uint32_t width) {
  for (uint32_t j = 0; j < width; j += 64) {
    const unsigned n = width - j < 64 ? (unsigned)(width - j) : 64;
    uint64_t word = 0;
    for (unsigned i = 0; i < n; i += 8) {
      /* Eight bytes 0 or 1 to eight bits; the row has room for them. */
      const uint64_t byte = (nnb_load_le64(row + j + i) * UINT64_C(0x0102040810204080)) >> 56;
      word |= byte << i;
    }
    nnb_put_bits(words, position + j, word & nnb_low_mask(n), n);
  }
}

nnb_status nnb_decode_mask(nnb_bit_decoder *decoder, uint64_t elements, uint64_t columns, uint64_t limit,
                           uint8_t *words, uint64_t *ones, void *work) {
  nnb_bit_model *const model = nnb_bit_model_open(work, elements, columns);
  *ones = 0;
  for (uint64_t start = 0; start < elements; start += model->width) {
    const uint32_t width = elements - start < model->width ? (uint32_t)(elements - start) : model->width;
    uint32_t count;
    const nnb_status status = decode_count(decoder, model, width, &count);
    if (status != NNB_OK) return status;
    *ones += count;
    if (*ones > limit || decoder->cut) return NNB_SPARSE_MAP;
    const int mixed = count != 0 && count != width;
    if (mixed) {
      nnb_bit_model_begin(model, count, width);
      decode_segment(decoder, model, count, width);
      put_row(words, start, model->row, width);
    } else {
      nnb_memset(model->row, count != 0, width);
      if (count != 0) nnb_put_ones(words, start, width);
    }
    nnb_bit_model_end(model, width, mixed);
  }
  return decoder->cut ? NNB_SPARSE_MAP : NNB_OK;
}

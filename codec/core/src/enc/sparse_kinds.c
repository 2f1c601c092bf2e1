#include "enc/sparse_coded.h"
#include "nnb/nnb_sparse_enc.h"

enum { WORD = 64 };

/* Bytes and bits in the order of a section; remembers if the capacity was too small. */
typedef struct {
  uint8_t *data;
  size_t size;
  size_t capacity;
  uint64_t bits; /* not yet written, least significant first */
  unsigned count;
  int full;
} writer;

static void put_byte(writer *w, unsigned byte) {
  if (w->size == w->capacity) {
    w->full = 1;
  } else {
    w->data[w->size++] = (uint8_t)byte;
  }
}

/* At most 56 bits. */
static void put(writer *w, uint64_t value, unsigned bits) {
  w->bits |= value << w->count;
  for (w->count += bits; w->count >= 8; w->count -= 8, w->bits >>= 8) put_byte(w, (unsigned)(w->bits & 255));
}

static void flush(writer *w) {
  if (w->count != 0) put_byte(w, (unsigned)(w->bits & 255));
  w->bits = 0;
  w->count = 0;
}

static void put_bytes(writer *w, const uint8_t *data, size_t size) {
  if (size > w->capacity - w->size) {
    w->full = 1;
  } else if (size != 0) {
    nnb_memcpy(w->data + w->size, data, size);
    w->size += size;
  }
}

static void open_coder(const writer *w, nnb_bit_encoder *encoder) {
  nnb_bit_encoder_open(encoder, w->data + w->size, w->capacity - w->size);
}

static void close_coder(writer *w, nnb_bit_encoder *encoder) {
  if (nnb_bit_encoder_finish(encoder) != NNB_OK) w->full = 1;
  w->size += encoder->size;
}

static void write_two_level(writer *w, int coded, const uint8_t *words, const nnb_sparse_piece *piece, uint8_t *work) {
  const uint64_t flags = (piece->elements + WORD - 1) / WORD;
  put_byte(w, coded != 0);
  if (coded) {
    nnb_bit_encoder encoder;
    uint8_t *const flag_words = work;
    void *const model = work + nnb_words_size(flags);
    nnb_memset(flag_words, 0, nnb_words_size(flags));
    uint64_t present = 0;
    for (uint64_t i = 0; i < flags; i++) {
      if (nnb_load_le64(words + i * 8) == 0) continue;
      nnb_put_bits(flag_words, i, 1, 1);
      present++;
    }
    open_coder(w, &encoder);
    nnb_encode_mask(&encoder, flag_words, flags, flags, 0, model);
    nnb_encode_mask(&encoder, words, present * WORD, present * WORD, 1, model);
    close_coder(w, &encoder);
    return;
  }
  for (uint64_t i = 0; i < flags; i++) put(w, nnb_load_le64(words + i * 8) != 0, 1);
  flush(w);
  for (uint64_t i = 0; i < flags; i++) {
    if (nnb_load_le64(words + i * 8) != 0) put_bytes(w, words + i * 8, 8);
  }
}

static void write_gaps(writer *w, int coded, const uint8_t *words, const nnb_sparse_piece *piece) {
  nnb_rice rice = {4, 1};
  uint64_t next = 0;
  put_byte(w, coded != 0);
  for (uint64_t start = 0; start < piece->elements && !w->full; start += WORD) {
    for (uint64_t word = nnb_load_le64(words + start / 8); word != 0; word &= word - 1) {
      const uint64_t place = start + nnb_lowest_bit(word);
      uint64_t gap = place - next;
      next = place + 1;
      if (coded) {
        const unsigned k = nnb_rice_k(&rice);
        const uint64_t quotient = gap >> k;
        if (quotient < NNB_GAP_ESCAPE) {
          put(w, nnb_low_mask((unsigned)quotient), (unsigned)quotient + 1);
          put(w, gap & nnb_low_mask(k), k);
        } else {
          put(w, nnb_low_mask(NNB_GAP_ESCAPE), NNB_GAP_ESCAPE);
          put(w, gap, 48);
        }
        nnb_rice_update(&rice, gap);
      } else {
        for (; gap > 127; gap >>= 7) put_byte(w, (unsigned)(gap & 127) | 128);
        put_byte(w, (unsigned)gap);
      }
    }
  }
  if (coded && w->count != 0) put(w, nnb_low_mask(8 - w->count), 8 - w->count);
}

static uint32_t get_group(const uint8_t *words, uint64_t position, uint64_t step, unsigned m) {
  if (step == 1) return (uint32_t)nnb_get_bits(words, position, m);
  uint32_t group = 0;
  for (unsigned i = 0; i < m; i++, position += step) {
    group |= (uint32_t)(words[position / 8] >> (position % 8) & 1) << i;
  }
  return group;
}

static uint32_t rank(const nnb_pattern_tables *tables, const nnb_sparse_pattern *p, uint32_t group) {
  uint32_t index = 0;
  unsigned k = 0;
  for (unsigned i = 0; !p->exact && i < nnb_popcount(group); i++) index += tables->choose[p->m][i];
  for (; group != 0; group &= group - 1) index += tables->choose[nnb_lowest_bit(group)][++k];
  return index;
}

static void encode_group(nnb_bit_encoder *encoder, nnb_pattern_tables *tables, const nnb_sparse_pattern *p,
                         uint32_t group) {
  unsigned ones = 0;
  for (unsigned place = 0; place < p->m && ones < p->n; place++) {
    const uint32_t bit = group >> place & 1;
    if (!p->exact || (unsigned)(p->n - ones) != (unsigned)(p->m - place)) {
      nnb_encode_adaptive(encoder, bit, &tables->contexts[place][ones]);
    }
    ones += bit;
  }
}

static int suits(const nnb_sparse_piece *piece, unsigned n, unsigned m, size_t axis) {
  return n >= 1 && n < m && m <= NNB_SPARSE_MAX_PATTERN && axis < piece->count_dimensions &&
         piece->dimensions[axis] % m == 0;
}

static nnb_status write_pattern(writer *w, int coded, const uint8_t *words, const nnb_sparse_piece *piece,
                                const nnb_sparse_pattern *p, void *work) {
  nnb_pattern_tables *const tables = work;
  nnb_bit_encoder encoder;
  uint64_t outer, inner;
  if (!suits(piece, p->n, p->m, p->axis) || p->exact > 1) return NNB_BAD_OPTION;
  nnb_sparse_strides(piece, p->axis, &outer, &inner);
  const uint8_t head[5] = {coded != 0, p->n, p->m, p->axis, p->exact};
  put_bytes(w, head, sizeof head);
  nnb_pattern_open(tables);
  const uint64_t patterns = nnb_pattern_count(tables, p->n, p->m, p->exact);
  unsigned width = 0;
  while (width < 32 && patterns > UINT64_C(1) << width) width++;
  open_coder(w, &encoder);
  const uint64_t size = piece->dimensions[p->axis];
  for (uint64_t a = 0; a < outer; a++) {
    for (uint64_t b = 0; b < inner; b++) {
      for (uint64_t i = 0; i < size; i += p->m) {
        const uint32_t group = get_group(words, (a * size + i) * inner + b, inner, p->m);
        const unsigned ones = nnb_popcount(group);
        if (ones > p->n || (p->exact && ones != p->n)) return NNB_BAD_OPTION;
        if (coded) {
          encode_group(&encoder, tables, p, group);
        } else {
          put(w, rank(tables, p, group), width);
        }
      }
    }
  }
  if (coded) {
    close_coder(w, &encoder);
  } else {
    flush(w);
  }
  return NNB_OK;
}

static void write_structured(writer *w, int coded, const nnb_sparse_piece *piece, const uint8_t *keeps, void *work) {
  nnb_bit_encoder encoder;
  put_byte(w, coded != 0);
  const uint8_t *keep = keeps;
  for (size_t i = 0; i < piece->count_dimensions; i++) {
    const uint64_t d = piece->dimensions[i];
    put(w, nnb_sparse_count(keep, d) != d, 1);
    keep += nnb_words_size(d);
  }
  flush(w);
  open_coder(w, &encoder);
  for (size_t i = 0; i < piece->count_dimensions; i++) {
    const uint64_t d = piece->dimensions[i];
    if (nnb_sparse_count(keeps, d) != d) {
      if (coded) {
        nnb_encode_mask(&encoder, keeps, d, d, 0, work);
      } else {
        put_bytes(w, keeps, nnb_bytes_size(d));
      }
    }
    keeps += nnb_words_size(d);
  }
  if (coded) close_coder(w, &encoder);
}

nnb_status nnb_sparse_encode(uint32_t kind, int coded, const uint8_t *words, const uint64_t *dimensions,
                             size_t count_dimensions, const nnb_sparse_pattern *pattern, const uint8_t *keeps,
                             uint8_t *section, size_t capacity, size_t *size, void *work, size_t work_size) {
  nnb_sparse_piece piece;
  size_t words_size, needed;
  nnb_status status = nnb_sparse_sizes(kind, dimensions, count_dimensions, &words_size, &needed);
  if (status == NNB_OK) status = nnb_sparse_measure(dimensions, count_dimensions, &piece);
  if (status != NNB_OK) return status;
  if (work_size < needed) return NNB_BUFFER_SIZE;
  if ((kind == NNB_SPARSE_PATTERN) != (pattern != NULL)) return NNB_BAD_OPTION;
  if ((kind == NNB_SPARSE_STRUCTURED) != (keeps != NULL)) return NNB_BAD_OPTION;
  writer w = {.data = section, .capacity = capacity};
  nnb_bit_encoder encoder;
  switch (kind) {
    case NNB_SPARSE_BITMASK:
      if (coded) return NNB_BAD_OPTION;
      put_bytes(&w, words, nnb_bytes_size(piece.elements));
      break;
    case NNB_SPARSE_TWO_LEVEL:
      write_two_level(&w, coded, words, &piece, work);
      break;
    case NNB_SPARSE_GAPS:
      write_gaps(&w, coded, words, &piece);
      break;
    case NNB_SPARSE_PATTERN:
      status = write_pattern(&w, coded, words, &piece, pattern, work);
      break;
    case NNB_SPARSE_STRUCTURED:
      write_structured(&w, coded, &piece, keeps, work);
      break;
    default:
      if (!coded) return NNB_BAD_OPTION;
      open_coder(&w, &encoder);
      nnb_encode_mask(&encoder, words, piece.elements, piece.columns, 0, work);
      close_coder(&w, &encoder);
  }
  if (status == NNB_OK && w.full) status = NNB_BUFFER_SIZE;
  *size = w.size;
  return status;
}

nnb_status nnb_sparse_group_range(const uint8_t *words, const uint64_t *dimensions, size_t count_dimensions, uint32_t m,
                                  uint32_t axis, uint32_t limit, uint32_t *most, uint32_t *fewest) {
  nnb_sparse_piece piece;
  uint64_t outer, inner;
  const nnb_status status = nnb_sparse_measure(dimensions, count_dimensions, &piece);
  if (status != NNB_OK) return status;
  if (!suits(&piece, 1, m, axis)) return NNB_BAD_OPTION;
  nnb_sparse_strides(&piece, axis, &outer, &inner);
  const uint64_t size = piece.dimensions[axis];
  *most = 0;
  *fewest = m;
  for (uint64_t a = 0; a < outer; a++) {
    for (uint64_t b = 0; b < inner; b++) {
      for (uint64_t i = 0; i < size; i += m) {
        const uint32_t ones = nnb_popcount(get_group(words, (a * size + i) * inner + b, inner, m));
        if (ones > *most) *most = ones;
        if (ones < *fewest) *fewest = ones;
        if (ones > limit) {
          *most = limit + 1;
          return NNB_OK;
        }
      }
    }
  }
  return NNB_OK;
}

nnb_status nnb_sparse_fill_pattern(uint8_t *words, const uint64_t *dimensions, size_t count_dimensions,
                                   const nnb_sparse_pattern *p) {
  nnb_sparse_piece piece;
  uint64_t outer, inner;
  const nnb_status status = nnb_sparse_measure(dimensions, count_dimensions, &piece);
  if (status != NNB_OK) return status;
  if (!suits(&piece, p->n, p->m, p->axis)) return NNB_BAD_OPTION;
  nnb_sparse_strides(&piece, p->axis, &outer, &inner);
  const uint64_t size = piece.dimensions[p->axis];
  for (uint64_t a = 0; a < outer; a++) {
    for (uint64_t b = 0; b < inner; b++) {
      for (uint64_t i = 0; i < size; i += p->m) {
        const uint64_t position = (a * size + i) * inner + b;
        const uint32_t group = get_group(words, position, inner, p->m);
        unsigned ones = nnb_popcount(group);
        if (ones > p->n) return NNB_BAD_OPTION;
        for (unsigned place = 0; p->exact && ones < p->n; place++) {
          if (!(group >> place & 1)) {
            nnb_put_bits(words, position + place * inner, 1, 1);
            ones++;
          }
        }
      }
    }
  }
  return NNB_OK;
}

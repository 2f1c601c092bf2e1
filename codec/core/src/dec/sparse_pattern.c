#include "dec/sparse.h"
#include "dec/sparse_coded.h"

enum { RAW = 0, CODED = 1, HEAD = 5, TABLE = sizeof(((nnb_pattern_tables *)0)->contexts) / sizeof(uint32_t) };

/* Where the groups lie. */
typedef struct {
  uint64_t outer, size, inner;
  unsigned n, m;
  int exact;
} grid;

/* The group of an index, or 0 with *valid cleared; n > 0, so that only one index is that of an empty group. */
static uint32_t unrank(const nnb_pattern_tables *tables, const grid *g, uint32_t index, int *valid) {
  unsigned k = g->exact ? g->n : 0;
  while (!g->exact && k <= g->n && index >= tables->choose[g->m][k]) index -= tables->choose[g->m][k++];
  if (k > g->n || index >= tables->choose[g->m][k]) {
    *valid = 0;
    return 0;
  }
  uint32_t group = 0;
  for (unsigned place = g->m; place-- > 0 && k > 0;) {
    if (index >= tables->choose[place][k]) {
      index -= tables->choose[place][k--];
      group |= UINT32_C(1) << place;
    }
  }
  return group;
}

static uint32_t decode_group(nnb_bit_decoder *decoder, nnb_pattern_tables *tables, const grid *g) {
  uint32_t group = 0;
  unsigned ones = 0;
  for (unsigned place = 0; place < g->m && ones < g->n; place++) {
    uint32_t bit = 1;
    if (!g->exact || g->n - ones != g->m - place) {
      bit = nnb_decode_adaptive(decoder, &tables->contexts[place][ones]);
    }
    group |= bit << place;
    ones += bit;
  }
  return group;
}

static void put_group(uint8_t *words, uint64_t position, uint64_t step, uint32_t group, unsigned m) {
  if (step == 1) {
    nnb_put_bits(words, position, group, m);
    return;
  }
  for (; group != 0; group &= group - 1) {
    const uint64_t place = position + nnb_lowest_bit(group) * step;
    words[place / 8] |= (uint8_t)(1u << (place % 8));
  }
}

/* Indices of fixed width, least significant bits first. */
typedef struct {
  const uint8_t *data;
  size_t size;
  uint64_t position;
  unsigned width;
} index_reader;

static uint32_t next_index(index_reader *reader) {
  const uint64_t byte = reader->position / 8;
  const unsigned shift = (unsigned)(reader->position % 8);
  uint64_t word = 0;
  if (byte + 8 <= reader->size) {
    word = nnb_load_le64(reader->data + byte);
  } else {
    for (uint64_t i = byte; i < reader->size; i++) word |= (uint64_t)reader->data[i] << 8 * (i - byte);
  }
  reader->position += reader->width;
  return (uint32_t)(word >> shift & nnb_low_mask(reader->width));
}

static nnb_status read_grid(const uint8_t *section, size_t size, const nnb_sparse_piece *piece, grid *g) {
  if (size < HEAD || section[0] > CODED || section[4] > 1) return NNB_SPARSE_MAP;
  g->n = section[1];
  g->m = section[2];
  g->exact = section[4];
  const size_t axis = section[3];
  if (g->n < 1 || g->n >= g->m || g->m > NNB_SPARSE_MAX_PATTERN || axis >= piece->count_dimensions) {
    return NNB_SPARSE_MAP;
  }
  g->size = piece->dimensions[axis];
  if (g->size % g->m != 0) return NNB_SPARSE_MAP;
  nnb_sparse_strides(piece, axis, &g->outer, &g->inner);
  return NNB_OK;
}

nnb_status nnb_sparse_read_pattern(const uint8_t *section, size_t size, const nnb_sparse_piece *piece, uint8_t *words,
                                   void *work) {
  nnb_pattern_tables *const tables = work;
  grid g;
  nnb_status status = read_grid(section, size, piece, &g);
  if (status != NNB_OK) return status;
  const int coded = section[0] == CODED;
  nnb_pattern_open(tables);
  nnb_bit_decoder decoder = {0};
  index_reader reader = {section + HEAD, size - HEAD, 0, 0};
  uint32_t *const table = &tables->contexts[0][0];
  const uint64_t patterns = nnb_pattern_count(tables, g.n, g.m, g.exact);
  const uint64_t groups = piece->elements / g.m;
  const int use_table = !coded && patterns <= TABLE;
  int valid = 1;
  if (coded) {
    status = nnb_bit_decoder_open(&decoder, section + HEAD, size - HEAD);
    if (status != NNB_OK) return status;
  } else {
    while (reader.width < 32 && patterns > UINT64_C(1) << reader.width) reader.width++;
    const uint64_t bits = groups * reader.width;
    if (reader.size != nnb_bytes_size(bits)) return NNB_SPARSE_MAP;
    if (bits % 8 != 0 && reader.data[reader.size - 1] >> (bits % 8) != 0) return NNB_SPARSE_MAP;
    for (uint32_t i = 0; use_table && i < patterns; i++) table[i] = unrank(tables, &g, i, &valid);
  }
  const uint64_t along = g.size / g.m;
  for (uint64_t a = 0; a < g.outer; a++) {
    for (uint64_t b = 0; b < g.inner; b++) {
      for (uint64_t i = 0; i < along; i++) {
        uint32_t group;
        if (coded) {
          group = decode_group(&decoder, tables, &g);
        } else {
          const uint32_t index = next_index(&reader);
          if (!use_table) {
            group = unrank(tables, &g, index, &valid);
          } else if (index < patterns) {
            group = table[index];
          } else {
            return NNB_SPARSE_MAP;
          }
        }
        put_group(words, (a * g.size + i * g.m) * g.inner + b, g.inner, group, g.m);
      }
      if (!valid || decoder.cut) return NNB_SPARSE_MAP;
    }
  }
  return coded ? nnb_bit_decoder_finish(&decoder) : NNB_OK;
}

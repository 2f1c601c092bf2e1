/*
 * The rANS coder on memory of exact sizes, which the sanitizers watch: every path against the scalar one, codes that
 * are cut, lengthened, damaged or noise, and the example of docs/rans.md.
 */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "nnb/nnb_rans_enc.h"

static const char sentence[] = "to be or not to be, that is the question";
static const uint8_t pinned[] = {0x40, 0xd2, 0x01, 0x80, 0xd6, 0xdc, 0xb5, 0xe2, 0x33, 0x47, 0x9b, 0x32, 0x9a, 0xa6,
                                 0x9c, 0xdc, 0xdc, 0xd2, 0x00, 0x0f, 0x36, 0x65, 0x34, 0x8c, 0xd0, 0xc6, 0xdc, 0xdd,
                                 0x2c, 0xcf, 0x8b, 0x3c, 0x00, 0x6f, 0xd2, 0x0d, 0x00, 0x7a, 0x63, 0x90, 0xef, 0xa8,
                                 0x6d, 0xff, 0xec, 0x57, 0x0c, 0x85, 0x7c, 0xc6, 0xab, 0x2b, 0xe5};

static uint64_t seed = 1;

static uint32_t below(uint32_t bound) {
  seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)((seed >> 32) * bound >> 32);
}

static void *exactly(const void *data, size_t size) {
  void *const copy = malloc(size > 0 ? size : 1);
  if (size > 0) memcpy(copy, data, size);
  return copy;
}

typedef struct text {
  uint8_t *symbols;
  uint8_t *contexts;
  uint8_t map[256];
  size_t count;
  uint32_t table_count;
} text;

static nnb_status decode(nnb_rans_path path, const text *t, const uint8_t *tables, size_t table_size,
                         const uint8_t *code, size_t size, int with_scratch, uint8_t *symbols) {
  nnb_rans_row *const rows = malloc(256 * sizeof *rows * t->table_count);
  nnb_rans_model model;
  size_t used;
  nnb_status status =
      nnb_rans_read_tables(tables, table_size, &used, rows, 256 * (size_t)t->table_count, t->table_count, &model);
  if (status == NNB_OK) {
    const size_t scratch_size = with_scratch ? nnb_rans_scratch_size(path, &model) : 0;
    uint8_t *const scratch = malloc(scratch_size + 1);
    status = nnb_rans_decode(path, &model, t->contexts, t->contexts == NULL ? NULL : t->map, code, size, symbols,
                             t->count, scratch + (scratch_size != 0), scratch_size);
    free(scratch);
  }
  free(rows);
  return status;
}

static void check_text(const text *t) {
  const uint8_t *const map = t->contexts == NULL ? NULL : t->map;
  uint32_t *const histograms = malloc(1024 * (size_t)t->table_count);
  uint16_t *const frequencies = malloc(512 * (size_t)t->table_count);
  const size_t work_size = nnb_rans_work_size(t->table_count);
  uint8_t *const work = malloc(work_size + 1);
  const size_t bound = nnb_rans_bound(t->count);
  uint8_t *const out = malloc(bound);
  uint8_t *code = NULL;
  uint8_t *const symbols = malloc(t->count + 1);
  size_t code_size = 0;
  CHECK(nnb_rans_histogram(t->symbols, t->contexts, map, t->count, t->table_count, histograms) == NNB_OK);
  for (uint32_t i = 0; i < t->table_count; i++) nnb_rans_normalize(histograms + 256 * i, frequencies + 256 * i);
  const size_t table_size = nnb_rans_write_tables(frequencies, t->table_count, NULL, SIZE_MAX);
  uint8_t *const tables = malloc(table_size);
  CHECK(table_size > 0 && table_size <= NNB_RANS_TABLES_BOUND * (size_t)t->table_count);
  CHECK(nnb_rans_write_tables(frequencies, t->table_count, tables, table_size - 1) == 0);
  CHECK(nnb_rans_write_tables(frequencies, t->table_count, tables, table_size) == table_size);
  for (int path = NNB_RANS_SCALAR; path <= NNB_RANS_NEON; path++) {
    size_t size = 0;
    if (!nnb_rans_has_path((nnb_rans_path)path)) continue;
    CHECK(nnb_rans_encode((nnb_rans_path)path, frequencies, t->table_count, t->contexts, map, t->symbols, t->count,
                          work + 1, work_size, out, bound, &size) == NNB_OK);
    CHECK(nnb_rans_encode((nnb_rans_path)path, frequencies, t->table_count, t->contexts, map, t->symbols, t->count,
                          work + 1, work_size - 1, out, bound, &size) == NNB_BUFFER_SIZE);
    CHECK(nnb_rans_encode((nnb_rans_path)path, frequencies, t->table_count, t->contexts, map, t->symbols, t->count,
                          work + 1, work_size, out, bound - 1, &size) == NNB_BUFFER_SIZE);
    if (code == NULL) {
      code = exactly(out, size);
      code_size = size;
    }
    CHECK(size == code_size && memcmp(out, code, size) == 0);
    for (int scratch = 0; scratch < 2; scratch++) {
      memset(symbols, 1, t->count);
      CHECK(decode((nnb_rans_path)path, t, tables, table_size, code, code_size, scratch, symbols) == NNB_OK);
      CHECK(memcmp(symbols, t->symbols, t->count) == 0);
      for (int i = 0; i < 12; i++) {
        const size_t cut = below((uint32_t)code_size + 1);
        const size_t length = i == 0 ? cut : i < 6 ? cut / 2 * 2 : code_size + 2 * (size_t)i;
        uint8_t *const other = calloc(length + 1, 1);
        memcpy(other, code, length < code_size ? length : code_size);
        if (length != code_size) {
          uint8_t *const exact = exactly(other, length);
          CHECK(decode((nnb_rans_path)path, t, tables, table_size, exact, length, scratch, symbols) ==
                NNB_LOSSLESS_BLOCK);
          free(exact);
        }
        free(other);
      }
      for (int i = 0; i < 8; i++) {
        uint8_t *const other = exactly(code, code_size);
        uint8_t *const other_tables = exactly(tables, table_size);
        /* Noise has states too, if they are large enough. */
        for (size_t k = 0; k < code_size && i == 0; k++) other[k] = (uint8_t)(below(255) + 1);
        if (i > 0 && code_size > 0) other[below((uint32_t)code_size)] ^= (uint8_t)(1u << below(8));
        if (i > 4) other_tables[below((uint32_t)table_size)] ^= (uint8_t)(1u << below(8));
        const nnb_status status =
            decode((nnb_rans_path)path, t, other_tables, table_size, other, code_size, scratch, symbols);
        CHECK(status == NNB_OK || status == NNB_LOSSLESS_BLOCK);
        free(other);
        free(other_tables);
      }
    }
  }
  for (size_t length = 0; length < table_size; length++) {
    uint8_t *const exact = exactly(tables, length);
    CHECK(decode(NNB_RANS_AUTO, t, exact, length, code, code_size, 0, symbols) == NNB_LOSSLESS_BLOCK);
    free(exact);
  }
  free(histograms), free(frequencies), free(work), free(out), free(code), free(symbols), free(tables);
}

static void check_all(void) {
  static const size_t counts[] = {0, 1, 31, 32, 33, 1000, 4096, 5137, 8192, 9007, 20000, 65600};
  static const uint32_t alphabets[] = {1, 2, 32, 64, 65, 128, 256};
  for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
    for (size_t a = 0; a < sizeof alphabets / sizeof alphabets[0]; a++) {
      for (uint32_t tables = 1; tables <= 20; tables += tables == 1 ? 2 : 17) { /* 1, 3, 20 */
        text t = {malloc(counts[c] + 1), tables > 1 ? malloc(counts[c] + 1) : NULL, {0}, counts[c], tables};
        for (size_t i = 0; i < counts[c]; i++) {
          const uint32_t largest = below(below(alphabets[a]) + 1);
          t.symbols[i] = (uint8_t)(largest + (256 - alphabets[a]) / 2);
          if (tables > 1) t.contexts[i] = (uint8_t)below(below(256) + 1);
        }
        for (uint32_t i = 0; i < 256; i++) t.map[i] = (uint8_t)(i % tables);
        t.symbols = realloc(t.symbols, counts[c] > 0 ? counts[c] : 1);
        check_text(&t);
        free(t.symbols);
        free(t.contexts);
      }
    }
  }
}

/* All paths write the same, no more than they may, and read it again; or all find a symbol that has no frequency. */
static void check_frequencies(const text *t, const uint16_t *frequencies, nnb_status expected) {
  enum { GUARD = 64 };
  const uint8_t *const map = t->contexts == NULL ? NULL : t->map;
  const size_t work_size = nnb_rans_work_size(t->table_count), bound = nnb_rans_bound(t->count);
  uint8_t *const work = malloc(work_size), *const out = malloc(bound + 2 * GUARD), *const tables = malloc(1 << 16);
  uint8_t *const symbols = malloc(t->count), *code = NULL;
  uint8_t guard[GUARD];
  size_t code_size = 0;
  memset(guard, 0xA5, sizeof guard);
  const size_t table_size = nnb_rans_write_tables(frequencies, t->table_count, tables, 1 << 16);
  CHECK(table_size > 0);
  for (int path = NNB_RANS_SCALAR; path <= NNB_RANS_NEON; path++) {
    size_t size = 0;
    if (!nnb_rans_has_path((nnb_rans_path)path)) continue;
    memset(out, 0xA5, bound + 2 * GUARD);
    CHECK(nnb_rans_encode((nnb_rans_path)path, frequencies, t->table_count, t->contexts, map, t->symbols, t->count,
                          work, work_size, out + GUARD, bound, &size) == expected);
    CHECK(memcmp(out, guard, GUARD) == 0 && memcmp(out + GUARD + bound, guard, GUARD) == 0);
    if (expected != NNB_OK) continue;
    if (code == NULL) {
      code = exactly(out + GUARD, size);
      code_size = size;
    }
    CHECK(size == code_size && memcmp(out + GUARD, code, size) == 0);
    for (int scratch = 0; scratch < 2; scratch++) {
      memset(symbols, 1, t->count);
      CHECK(decode((nnb_rans_path)path, t, tables, table_size, code, code_size, scratch, symbols) == NNB_OK);
      CHECK(memcmp(symbols, t->symbols, t->count) == 0);
    }
  }
  free(work), free(out), free(tables), free(symbols), free(code);
}

/* `symbols` frequencies of all sizes, of every `stride`-th symbol from `first` on. */
static void fill_frequencies(uint16_t *frequencies, uint32_t symbols, uint32_t first, uint32_t stride) {
  uint32_t left = 4096 - symbols;
  memset(frequencies, 0, 256 * sizeof *frequencies);
  for (uint32_t i = 0; i < symbols; i++) {
    const uint32_t more = i + 1 == symbols ? left : below(1 + left / (1 + below(symbols)));
    frequencies[(first + i * stride) & 255] = (uint16_t)(1 + more);
    left -= more;
  }
}

static uint8_t any_symbol(const uint16_t *frequencies, int rare) {
  uint32_t slot = below(4096), s = below(256);
  if (rare) {
    while (frequencies[s] == 0) s = (s + 1) & 255;
    return (uint8_t)s;
  }
  for (s = 0; slot >= frequencies[s]; s++) slot -= frequencies[s];
  return (uint8_t)s;
}

/* Whatever alphabets and frequencies are, in whole rounds and some symbols more. */
static void check_alphabets(uint32_t table_count, uint32_t states) {
  enum { MOST = 16384 + 64 + 5 };
  const uint32_t count = 256 * states + states + 5;
  static uint8_t symbols[MOST], contexts[MOST];
  static uint16_t frequencies[20 * 256];
  text t = {symbols, table_count > 1 ? contexts : NULL, {0}, count, table_count};
  for (uint32_t i = 0; i < 256; i++) t.map[i] = (uint8_t)(i * table_count >> 8);
  for (uint32_t alphabet = 1; alphabet <= 256; alphabet += table_count == 1 || alphabet < 9 ? 1 : alphabet / 4) {
    const uint32_t stride = alphabet <= 64 ? 1 + 2 * below(2) + below(2) : 1, first = below(256);
    for (uint32_t i = 0; i < table_count; i++) {
      fill_frequencies(frequencies + 256 * i, i > 0 ? 1 + below(alphabet) : alphabet, first + i, stride);
    }
    for (size_t i = 0; i < count; i++) {
      contexts[i] = (uint8_t)below(256);
      symbols[i] = any_symbol(frequencies + 256 * (table_count > 1 ? t.map[contexts[i]] : 0), alphabet % 2 != 0);
    }
    check_frequencies(&t, frequencies, NNB_OK);
    for (int tries = 0; tries < 40; tries++) {
      const size_t at = below(count);
      const uint8_t before = symbols[at];
      symbols[at] = (uint8_t)below(256);
      const uint32_t table = table_count > 1 ? t.map[contexts[at]] : 0;
      if (frequencies[256 * table + symbols[at]] == 0) {
        check_frequencies(&t, frequencies, NNB_BAD_TENSOR);
        tries = 40;
      }
      symbols[at] = before;
    }
  }
}

/* A sample, of every fourth run here, counts every symbol that there is. */
static void check_sample(void) {
  enum { COUNT = 70000, RUN = 256 };
  static uint8_t symbols[COUNT];
  uint32_t histogram[256];
  for (int tries = 0; tries < 20; tries++) {
    uint32_t expected[256] = {0}, first = 0;
    for (size_t i = 0; i < COUNT; i++) {
      if (i % RUN == 0) first = below(256);
      symbols[i] = (uint8_t)(first + below(3));
      expected[symbols[i]] += i / RUN % 4 == 0;
    }
    for (size_t i = 0; i < COUNT; i++) expected[symbols[i]] += expected[symbols[i]] == 0;
    CHECK(nnb_rans_sample_histogram(symbols, NULL, NULL, COUNT, 1, histogram) == NNB_OK);
    CHECK(memcmp(histogram, expected, sizeof expected) == 0);
  }
}

/* Every symbol in turn amid others: those without a frequency are refused, with the others all paths agree. */
static void check_missing(void) {
  static const struct {
    uint32_t first, step, symbols, table_count;
  } shapes[] = {{100, 1, 21, 1}, {0, 50, 6, 1}, {250, 1, 6, 1}, {9, 9, 27, 1},  {30, 1, 200, 1}, {7, 0, 1, 1},
                {100, 1, 5, 3},  {1, 17, 4, 3}, {3, 1, 100, 4}, {80, 2, 3, 16}, {80, 2, 3, 17}};
  enum { COUNT = 16384 + 64 };
  static uint8_t symbols[COUNT], contexts[COUNT], code[2][2 * COUNT + 1024];
  for (size_t n = 0; n < sizeof shapes / sizeof shapes[0]; n++) {
    const uint32_t tables = shapes[n].table_count;
    const size_t work_size = nnb_rans_work_size(tables);
    uint32_t *const histograms = calloc(tables, 1024);
    uint16_t *const frequencies = malloc(512 * (size_t)tables);
    void *const work = malloc(work_size);
    uint8_t map[256];
    const uint8_t *const with = tables > 1 ? contexts : NULL;
    for (uint32_t i = 0; i < 256; i++) map[i] = (uint8_t)(i % tables);
    for (size_t i = 0; i < COUNT; i++) {
      contexts[i] = (uint8_t)below(256);
      symbols[i] = (uint8_t)(shapes[n].first + shapes[n].step * below(shapes[n].symbols));
    }
    CHECK(nnb_rans_histogram(symbols, with, with ? map : NULL, COUNT, tables, histograms) == NNB_OK);
    if (tables > 1) histograms[256 + shapes[n].first] = 0; /* which other tables have */
    for (uint32_t t = 0; t < tables; t++) nnb_rans_normalize(histograms + 256 * t, frequencies + 256 * t);
    for (size_t i = 0; i < COUNT; i++) {
      if (with && map[contexts[i]] == 1 && symbols[i] == shapes[n].first) contexts[i] = 0;
    }
    for (uint32_t s = 0; s < 256; s++) {
      const size_t at = below(COUNT);
      const uint8_t symbol = symbols[at];
      const uint32_t table = with ? map[contexts[at]] : 0u;
      const uint16_t frequency = frequencies[256 * table + s];
      size_t size[2] = {0};
      symbols[at] = (uint8_t)s;
      for (int path = NNB_RANS_SCALAR; path <= NNB_RANS_NEON; path++) {
        if (!nnb_rans_has_path((nnb_rans_path)path)) continue;
        const int k = path != NNB_RANS_SCALAR;
        CHECK(nnb_rans_encode((nnb_rans_path)path, frequencies, tables, with, with ? map : NULL, symbols, COUNT, work,
                              work_size, code[k], sizeof code[k],
                              size + k) == (frequency == 0 ? NNB_BAD_TENSOR : NNB_OK));
        CHECK(frequency == 0 || (size[k] == size[0] && memcmp(code[k], code[0], size[0]) == 0));
      }
      symbols[at] = symbol;
    }
    free(histograms), free(frequencies), free(work);
  }
}

static void check_pinned(void) {
  nnb_rans_row rows[16];
  nnb_rans_model model;
  uint8_t symbols[sizeof sentence - 1];
  size_t used = 0;
  CHECK(nnb_rans_read_tables(pinned, sizeof pinned, &used, rows, 15, 1, &model) == NNB_BUFFER_SIZE);
  CHECK(nnb_rans_read_tables(pinned, sizeof pinned, &used, rows, 16, 1, &model) == NNB_OK);
  CHECK(nnb_rans_decode(NNB_RANS_AUTO, &model, NULL, NULL, pinned + used, sizeof pinned - used, symbols, sizeof symbols,
                        NULL, 0) == NNB_OK);
  CHECK(memcmp(symbols, sentence, sizeof symbols) == 0);
}

static void check_costs(void) {
  uint32_t histogram[256] = {0};
  uint16_t frequencies[256] = {0};
  histogram['a'] = 3;
  histogram['b'] = 1;
  nnb_rans_normalize(histogram, frequencies);
  CHECK(frequencies['a'] == 3072 && frequencies['b'] == 1024);
  /* 3 log2(4 / 3) + 2 = 3.24511 bits. */
  CHECK(nnb_rans_cost(histogram, frequencies) / 66 == UINT64_C(212672) / 66);
  CHECK(nnb_rans_state_count(0) == 4 && nnb_rans_state_count(2047) == 4 && nnb_rans_state_count(2048) == 8);
  CHECK(nnb_rans_state_count(16383) == 32 && nnb_rans_state_count(16384) == 64 && nnb_rans_state_count(SIZE_MAX) == 64);
  CHECK(nnb_rans_bound(SIZE_MAX) == SIZE_MAX);
}

int main(void) {
  check_pinned();
  check_costs();
  check_all();
  check_sample();
  for (uint32_t states = 16; states <= 64; states *= 2) {
    static const uint32_t tables[] = {1, 2, 5, 16, 17};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) check_alphabets(tables[i], states);
  }
  check_missing();
  return failures != 0;
}

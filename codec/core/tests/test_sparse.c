/* Sparse maps: the examples of docs/sparse-maps.md, expansion by every level of SIMD, damaged and random sections.
 * Buffers have exactly the sizes asked for, for the sanitizers. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "dec/sparse_expand.h"
#if !defined(NNB_DECODER_ONLY)
#include "nnb/nnb_sparse_enc.h"
#endif

static uint32_t random_bits(void) {
  static uint64_t seed = 29;
  seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)(seed >> 32);
}

/* Never NULL, which memcpy() does not take. */
static void *allocate(size_t size) {
  void *const memory = malloc(size != 0 ? size : 1);
  if (memory == NULL) abort();
  return memory;
}

static void *copy(const void *data, size_t size) {
  void *const memory = allocate(size);
  memcpy(memory, data, size);
  return memory;
}

typedef struct {
  uint32_t kind;
  uint64_t dimensions[4];
  size_t count_dimensions;
  uint64_t value_count;
} piece;

/* Decodes into buffers of exactly the right size; *words is to be freed. */
static nnb_status decode(const piece *p, const uint8_t *section, size_t size, uint8_t **words) {
  size_t words_size, work_size;
  CHECK(nnb_sparse_sizes(p->kind, p->dimensions, p->count_dimensions, &words_size, &work_size) == NNB_OK);
  uint8_t *const exact = copy(section, size);
  void *const work = allocate(work_size);
  *words = allocate(words_size);
  const nnb_status status = nnb_sparse_decode(p->kind, exact, size, p->dimensions, p->count_dimensions, p->value_count,
                                              *words, words_size, work, work_size);
  if (status == NNB_OK) CHECK(nnb_sparse_count(*words, 8 * words_size) == p->value_count);
  free(exact);
  free(work);
  return status;
}

static void test_examples(void) {
  static const struct {
    piece p;
    size_t size;
    uint8_t section[16];
    uint8_t mask[2];
  } examples[] = {
      {{1, {2, 8}, 2, 4}, 2, {0x09, 0x60}, {0x09, 0x60}},
      {{2, {2, 8}, 2, 4}, 10, {0x00, 0x01, 0x09, 0x60, 0, 0, 0, 0, 0, 0}, {0x09, 0x60}},
      {{2, {2, 8}, 2, 4}, 8, {0x01, 0x4C, 0x05, 0x74, 0xE6, 0xE1, 0x00, 0x00}, {0x09, 0x60}},
      {{3, {2, 8}, 2, 4}, 5, {0x00, 0x00, 0x02, 0x09, 0x00}, {0x09, 0x60}},
      {{3, {2, 8}, 2, 4}, 4, {0x01, 0xEC, 0x3F, 0xFE}, {0x09, 0x60}},
      {{4, {2, 8}, 2, 4}, 7, {0x00, 0x02, 0x04, 0x01, 0x00, 0x08, 0x70}, {0x09, 0x60}},
      {{4, {2, 8}, 2, 4}, 11, {0x01, 0x02, 0x04, 0x01, 0x00, 0x6F, 0xF0, 0x71, 0xA4, 0x68, 0x00}, {0x09, 0x60}},
      {{4, {2, 8}, 2, 8}, 7, {0x00, 0x02, 0x04, 0x01, 0x01, 0x93, 0x00}, {0x69, 0x36}},
      {{4, {2, 8}, 2, 8}, 10, {0x01, 0x02, 0x04, 0x01, 0x01, 0x7A, 0xE3, 0xB5, 0xF0, 0xAB}, {0x69, 0x36}},
      {{5, {2, 8}, 2, 8}, 3, {0x00, 0x02, 0x69}, {0x69, 0x69}},
      {{5, {2, 8}, 2, 8}, 7, {0x01, 0x02, 0x33, 0x2B, 0xE5, 0x86, 0xBD}, {0x69, 0x69}},
      {{6, {2, 8}, 2, 4}, 6, {0x31, 0x3B, 0xD9, 0x84, 0xA7, 0x00}, {0x09, 0x60}},
  };
  for (size_t i = 0; i < sizeof examples / sizeof examples[0]; i++) {
    uint8_t *words;
    piece p = examples[i].p;
    const size_t size = examples[i].size;
    CHECK(decode(&p, examples[i].section, size, &words) == NNB_OK);
    CHECK(memcmp(words, examples[i].mask, 2) == 0);
    free(words);
    for (size_t cut = 0; cut < size; cut++) {
      CHECK(decode(&p, examples[i].section, cut, &words) == NNB_SPARSE_MAP);
      free(words);
    }
    for (size_t bit = 0; bit < 8 * size; bit++) {
      uint8_t damaged[16];
      memcpy(damaged, examples[i].section, size);
      damaged[bit / 8] ^= (uint8_t)(1u << bit % 8);
      const nnb_status status = decode(&p, damaged, size, &words);
      CHECK(status == NNB_OK || status == NNB_SPARSE_MAP);
      free(words);
    }
    for (int wrong = -1; wrong <= 1; wrong += 2) {
      p.value_count = examples[i].p.value_count + (uint64_t)wrong;
      CHECK(decode(&p, examples[i].section, size, &words) == NNB_SPARSE_MAP);
      free(words);
    }
  }
}

static void test_arguments(void) {
  static const uint64_t huge[3] = {UINT64_C(1) << 40, UINT64_C(1) << 40, 0};
  static const uint64_t small[2] = {2, 8};
  size_t words_size, work_size;
  uint8_t words[8];
  uint8_t work[8];
  CHECK(nnb_sparse_sizes(1, huge, 2, &words_size, &work_size) == NNB_LIMIT);
  CHECK(nnb_sparse_sizes(1, huge, 3, &words_size, &work_size) == NNB_OK && words_size == 0);
  CHECK(nnb_sparse_sizes(7, small, 2, &words_size, &work_size) == NNB_UNSUPPORTED_FEATURE);
  CHECK(nnb_sparse_decode(1, words, 2, small, 2, 4, words, 7, work, 8) == NNB_BUFFER_SIZE);
  CHECK(nnb_sparse_decode(6, words, 2, small, 2, 4, words, 8, work, 8) == NNB_BUFFER_SIZE);
  CHECK(nnb_sparse_expand(words, 2, 3, work, 0, work) == NNB_BAD_TENSOR);
}

static void test_random_sections(void) {
  static const uint64_t shapes[][4] = {{300, 1, 1, 1}, {4, 64, 1, 1}, {12, 8, 3, 3}, {0, 5, 1, 1}, {1, 1, 1, 1}};
  for (int round = 0; round < 20000; round++) {
    uint8_t section[40];
    piece p = {.kind = 1 + random_bits() % 6, .count_dimensions = 4};
    memcpy(p.dimensions, shapes[random_bits() % 5], sizeof p.dimensions);
    const uint64_t elements = p.dimensions[0] * p.dimensions[1] * p.dimensions[2] * p.dimensions[3];
    p.value_count = random_bits() % (elements + 1);
    for (size_t i = 0; i < sizeof section; i++) section[i] = (uint8_t)random_bits();
    section[0] &= round & 1 ? 1 : 255;
    if (p.kind == 4) {
      section[2] = (uint8_t)(1u << random_bits() % 7);
      section[1] = (uint8_t)(random_bits() % 34);
      section[3] = (uint8_t)(random_bits() % 5);
      section[4] &= 1;
    }
    uint8_t *words;
    const nnb_status status = decode(&p, section, random_bits() % sizeof section, &words);
    CHECK(status == NNB_OK || status == NNB_SPARSE_MAP);
    free(words);
  }
}

static void test_expansion(void) {
  for (int round = 0; round < 400; round++) {
    const uint64_t elements = random_bits() % 700;
    const uint32_t density = random_bits() % 5;
    const size_t size = nnb_words_size(elements);
    uint8_t *const words = allocate(size);
    memset(words, 0, size);
    for (uint64_t i = 0; i < elements; i++) {
      const int zero_word = round % 3 == 0 && i / 64 % 2 == 0;
      if (!zero_word && (density == 4 || random_bits() % 4 < density)) words[i / 8] |= (uint8_t)(1u << i % 8);
    }
    const uint64_t count = nnb_sparse_count(words, elements);
    for (size_t item = 1; item <= 16; item *= 2) {
      const size_t values_size = (size_t)count * item;
      const size_t dense_size = (size_t)elements * item;
      uint8_t *const values = allocate(values_size);
      uint8_t *const expected = allocate(dense_size);
      uint8_t *const dense = allocate(dense_size);
      for (size_t i = 0; i < values_size; i++) values[i] = (uint8_t)(1 + random_bits() % 255);
      memset(expected, 0, dense_size);
      for (uint64_t i = 0, k = 0; i < elements; i++) {
        if (words[i / 8] >> i % 8 & 1) memcpy(expected + i * item, values + k++ * item, item);
      }
      for (int simd = NNB_SIMD_NONE; simd <= (int)nnb_sparse_simd(); simd++) {
        memset(dense, 0xAA, dense_size);
        nnb_sparse_expand_with((nnb_simd)simd, words, elements, item, values, count, dense);
        CHECK(memcmp(dense, expected, dense_size) == 0);
      }
      memset(dense, 0xAA, dense_size);
      CHECK(nnb_sparse_expand(words, elements, item, values, count, dense) == NNB_OK);
      CHECK(memcmp(dense, expected, dense_size) == 0);
      CHECK(nnb_sparse_expand(words, elements, item, values, count + 1, dense) == NNB_SPARSE_MAP);
#if !defined(NNB_DECODER_ONLY)
      uint8_t *const words2 = allocate(size);
      uint8_t *const values2 = allocate(values_size);
      CHECK(nnb_sparse_nonzero(expected, elements, item, words2) == count);
      CHECK(memcmp(words2, words, size) == 0);
      nnb_sparse_pack(words, elements, item, expected, values2);
      CHECK(memcmp(values2, values, values_size) == 0);
      free(words2);
      free(values2);
#endif
      free(values);
      free(expected);
      free(dense);
    }
    const uint64_t columns = 1 + random_bits() % 100;
    const uint64_t rows = elements / columns;
    if (rows * columns != 0) {
      uint8_t *const part = copy(words, nnb_words_size(rows * columns));
      for (uint64_t i = rows * columns; i < nnb_words_size(rows * columns) * 8; i++) {
        part[i / 8] &= (uint8_t)~(1u << i % 8);
      }
      const uint64_t ones = nnb_sparse_count(part, rows * columns);
      uint32_t *const starts = allocate((size_t)(rows + 1) * 4);
      uint32_t *const places = allocate((size_t)ones * 4);
      for (int simd = NNB_SIMD_NONE; simd <= (int)nnb_sparse_simd(); simd++) {
        nnb_sparse_csr(part, rows, columns, 4, starts, NULL);
        nnb_sparse_columns_with((nnb_simd)simd, part, rows, columns, 4, places, ones);
        uint32_t k = 0;
        for (uint64_t row = 0; row < rows; row++) {
          CHECK(starts[row] == k);
          for (uint64_t column = 0; column < columns; column++) {
            const uint64_t i = row * columns + column;
            if (part[i / 8] >> i % 8 & 1) CHECK(places[k++] == column);
          }
        }
        CHECK(starts[rows] == k && k == ones);
      }
      free(part);
      free(starts);
      free(places);
    }
    free(words);
  }
}

#if !defined(NNB_DECODER_ONLY)
static void test_round_trips(void) {
  static const uint64_t shapes[][4] = {{5000, 1, 1, 1}, {40, 130, 1, 1}, {64, 3, 3, 3}, {1, 70000, 1, 1}};
  for (int round = 0; round < 200; round++) {
    piece p = {.count_dimensions = 4};
    memcpy(p.dimensions, shapes[round % 4], sizeof p.dimensions);
    const uint64_t elements = p.dimensions[0] * p.dimensions[1] * p.dimensions[2] * p.dimensions[3];
    const size_t words_size = nnb_words_size(elements);
    uint8_t *const words = allocate(words_size);
    memset(words, 0, words_size);
    const uint32_t period = 2 + random_bits() % 60;
    for (uint64_t i = 0; i < elements; i++) {
      if (random_bits() % period == 0) words[i / 8] |= (uint8_t)(1u << i % 8);
    }
    p.value_count = nnb_sparse_count(words, elements);
    static const struct {
      uint32_t kind;
      int coded;
    } forms[] = {{1, 0}, {2, 0}, {2, 1}, {3, 0}, {3, 1}, {6, 1}};
    for (size_t f = 0; f < 6; f++) {
      size_t size, needed, work_size;
      p.kind = forms[f].kind;
      CHECK(nnb_sparse_sizes(p.kind, p.dimensions, 4, &needed, &work_size) == NNB_OK);
      const size_t capacity = (size_t)elements + 100;
      uint8_t *const section = allocate(capacity);
      void *const work = allocate(work_size);
      CHECK(nnb_sparse_encode(p.kind, forms[f].coded, words, p.dimensions, 4, NULL, NULL, section, capacity, &size,
                              work, work_size) == NNB_OK);
      uint8_t *const exact = allocate(size);
      size_t exact_size;
      CHECK(nnb_sparse_encode(p.kind, forms[f].coded, words, p.dimensions, 4, NULL, NULL, exact, size, &exact_size,
                              work, work_size) == NNB_OK);
      CHECK(exact_size == size && memcmp(section, exact, size) == 0);
      CHECK(nnb_sparse_encode(p.kind, forms[f].coded, words, p.dimensions, 4, NULL, NULL, exact, size - 1, &exact_size,
                              work, work_size) == NNB_BUFFER_SIZE);
      uint8_t *decoded;
      CHECK(decode(&p, section, size, &decoded) == NNB_OK);
      CHECK(memcmp(decoded, words, words_size) == 0);
      free(decoded);
      section[random_bits() % size] ^= (uint8_t)(1u << random_bits() % 8);
      const nnb_status status = decode(&p, section, size, &decoded);
      CHECK(status == NNB_OK || status == NNB_SPARSE_MAP);
      free(decoded);
      free(section);
      free(exact);
      free(work);
    }
    free(words);
  }
}
#endif

int main(void) {
  test_examples();
  test_arguments();
  test_random_sections();
  test_expansion();
#if !defined(NNB_DECODER_ONLY)
  test_round_trips();
#endif
  return failures != 0;
}

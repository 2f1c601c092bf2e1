/*
 * Whatever tables and code are, reading stays inside them, accepted tables are tables, and all paths of the rANS
 * decoder that this processor has agree, with scratch memory and without. Input: tables and how contexts are made, two
 * bytes of the number of symbols, then tables and code.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "nnb/nnb_rans.h"

enum { MAX_SYMBOLS = 20480, MAX_TABLES = 16, SLOTS = 4096, HEAD = 4, ROWS = 256 };

static void require(int condition) {
  if (!condition) abort();
}

/* The first bucket of each symbol is its own; all slots belong to symbols that have as many. */
static void check_model(const nnb_rans_model *model, uint32_t tables) {
  require(model->table_count == tables && model->bucket_bits <= 8);
  const uint32_t buckets = 1u << model->bucket_bits;
  for (uint32_t t = 0; t < tables; t++) {
    const nnb_rans_row *const rows = model->rows + (size_t)t * buckets;
    uint32_t slots[ROWS] = {0}, sum = 0;
    for (uint32_t b = 0; b < buckets; b++) {
      require(rows[b].split <= SLOTS / buckets && rows[b].alias < buckets);
      slots[b] += rows[b].split;
      slots[rows[b].alias] += SLOTS / buckets - rows[b].split;
      sum += rows[b].frequency;
    }
    require(sum == SLOTS);
    for (uint32_t b = 0; b < buckets; b++) require(slots[b] == rows[b].frequency);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static nnb_rans_row rows[ROWS * MAX_TABLES];
  static uint8_t contexts[MAX_SYMBOLS], map[256], scratch[1 << 16];
  if (size < HEAD) return 0;
  const uint32_t tables = 1 + data[0] % MAX_TABLES;
  const size_t count = (data[2] | (size_t)data[3] << 8) % (MAX_SYMBOLS + 1);
  const uint8_t *const tables_at = data + HEAD;
  const size_t rest = size - HEAD;
  nnb_rans_model model;
  size_t used;
  const nnb_status read =
      nnb_rans_read_tables(tables_at, rest, &used, rows, sizeof rows / sizeof *rows, tables, &model);
  require(read == NNB_OK || read == NNB_LOSSLESS_BLOCK);
  if (read != NNB_OK) return 0;
  require(used <= rest);
  check_model(&model, tables);
  for (size_t i = 0; i < sizeof map; i++) map[i] = (uint8_t)(i % tables);
  for (size_t i = 0; i < count; i++) contexts[i] = (uint8_t)(i * data[1] >> 3);
  const int mixed = tables > 1 || (data[1] & 1);
  uint8_t *const first = malloc(count > 0 ? count : 1);
  uint8_t *const other = malloc(count > 0 ? count : 1);
  if (first == NULL || other == NULL) abort();
  const uint8_t *const c = mixed ? contexts : NULL;
  const uint8_t *const m = mixed ? map : NULL;
  const nnb_status status =
      nnb_rans_decode(NNB_RANS_SCALAR, &model, c, m, tables_at + used, rest - used, first, count, NULL, 0);
  require(status == NNB_OK || status == NNB_LOSSLESS_BLOCK);
  for (int path = NNB_RANS_AUTO; path <= NNB_RANS_NEON; path++) {
    if (!nnb_rans_has_path((nnb_rans_path)path)) continue;
    for (int with = 0; with < 2; with++) {
      const nnb_status found = nnb_rans_decode((nnb_rans_path)path, &model, c, m, tables_at + used, rest - used, other,
                                               count, with ? scratch : NULL, with ? sizeof scratch : 0);
      require(found == status);
      require(status != NNB_OK || memcmp(first, other, count) == 0);
    }
  }
  free(first);
  free(other);
  return 0;
}

/*
 * nnbits rANS decoder: bytes coded with up to 256 probability tables by 4 to 64 interleaved states (docs/rans.md).
 *
 * The caller owns all memory; nothing here allocates, keeps state or calls a C library.
 *
 *   nnb_rans_read_tables(data, size, &used, rows, row_count, table_count, &model);
 *   nnb_rans_decode(NNB_RANS_AUTO, &model, contexts, map, code, code_size, symbols, count, scratch, scratch_size);
 */
#ifndef NNB_RANS_H
#define NNB_RANS_H

#include <stddef.h>
#include <stdint.h>

#include "nnb/nnb_status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define NNB_RANS_MAX_TABLES 256
#define NNB_RANS_MAX_STATES 64

/* Which code runs. All of them read and write the same bytes. */
typedef enum nnb_rans_path {
  NNB_RANS_AUTO = 0, /* the fastest that this processor has */
  NNB_RANS_SCALAR = 1,
  NNB_RANS_AVX2 = 2,
  NNB_RANS_AVX512 = 3, /* with BW, VBMI and VBMI2 */
  NNB_RANS_NEON = 4
} nnb_rans_path;

/*
 * One bucket of a table: 4096 >> bucket_bits slots, of which the first `split` belong to the symbol of the bucket's
 * number, the others to that of the row `alias`. A slot's rank among those of its symbol is its offset in the bucket,
 * plus alias_rank modulo 2^16 where it belongs to the alias. 8 bytes.
 */
typedef struct nnb_rans_row {
  uint16_t frequency; /* slots of the bucket's own symbol, in all buckets; 0 where there is no such symbol */
  uint16_t split;
  uint16_t alias_rank;
  uint8_t alias;
  uint8_t symbol;
} nnb_rans_row;

/* Probability tables, each of 1 << bucket_bits rows. */
typedef struct nnb_rans_model {
  const nnb_rans_row *rows;
  uint32_t table_count;
  uint32_t bucket_bits;
} nnb_rans_model;

/*
 * Reads `table_count` (1..256) serialized tables from the beginning of `data` and builds their rows in `rows`, which
 * the model points to. `used` receives the bytes read. `row_count` is the number of rows that there is room for;
 * 256 * table_count always do, table_count * (number of symbols of the largest alphabet, rounded up to a power of two)
 * are needed. NNB_LOSSLESS_BLOCK: not what an encoder writes; NNB_BUFFER_SIZE: too few rows; NNB_BAD_OPTION:
 * table_count.
 */
nnb_status nnb_rans_read_tables(const uint8_t *data, size_t size, size_t *used, nnb_rans_row *rows, size_t row_count,
                                uint32_t table_count, nnb_rans_model *model);

/*
 * Bytes of scratch memory with which nnb_rans_decode() is faster on this machine than without; 0 if it has no use for
 * any. `path` as there.
 */
size_t nnb_rans_scratch_size(nnb_rans_path path, const nnb_rans_model *model);

/*
 * Decodes `count` symbols. Table of symbol i: context_map[contexts[i]]; contexts NULL (and context_map NULL) means
 * table 0. context_map has 256 entries below table_count. scratch may be NULL, and needs no alignment; its size decides
 * about speed only. symbols and contexts may not overlap. NNB_LOSSLESS_BLOCK: the code is not what an encoder writes
 * for `count` symbols; `symbols` is then undefined. NNB_BAD_OPTION: context_map; NNB_UNSUPPORTED_FEATURE: this
 * processor or build does not have `path`.
 */
nnb_status nnb_rans_decode(nnb_rans_path path, const nnb_rans_model *model, const uint8_t *contexts,
                           const uint8_t *context_map, const uint8_t *code, size_t size, uint8_t *symbols, size_t count,
                           void *scratch, size_t scratch_size);

/* Number of interleaved states for so many symbols: a power of two, 4..64. */
uint32_t nnb_rans_state_count(size_t count);

/* The path that NNB_RANS_AUTO stands for on this processor. */
nnb_rans_path nnb_rans_best_path(void);

/* Whether this processor and this build have a path. */
int nnb_rans_has_path(nnb_rans_path path);

#ifdef __cplusplus
}
#endif

#endif

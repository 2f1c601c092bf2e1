/* Parts of the rANS encoder. */
#ifndef NNB_ENC_RANS_H
#define NNB_ENC_RANS_H

#include "common/rans.h"
#include "nnb/nnb_rans_enc.h"

#define NNB_RANS_MARGIN 7 /* slots that may be read in front of all and behind */

/* How one symbol of one table is coded. Quotient of x < frequency << 20: x * reciprocal >> 44, exactly. */
typedef struct nnb_rans_symbol {
  uint64_t reciprocal;
  uint16_t frequency;
  uint16_t first; /* of its slots in the table's list of slots */
  float inverse;  /* of the frequency, or of 1 for 0, a little too small; for NEON only */
} nnb_rans_symbol;

#define NNB_RANS_INVERSE(frequency) ((1.0f - 0x1p-21f) / (float)(frequency))

/* A code being made, from the last symbol to the first. */
typedef struct nnb_rans_enc_job {
  const nnb_rans_symbol *table_symbols; /* 256 of each table */
  const uint16_t *slots;                /* NNB_RANS_SLOTS of each table, by symbol, then rank; and margins */
  const uint16_t *frequencies;
  uint32_t table_count;
  uint32_t bucket_bits;
  const uint8_t *contexts;
  const uint8_t *context_map;
  const uint8_t *symbols;
  uint8_t *next; /* the word written last; in front of it there are at least 64 bytes more than the rest can take */
  size_t left;   /* symbols still to be coded */
  uint32_t state_count;
  uint32_t states[NNB_RANS_MAX_STATES];
} nnb_rans_enc_job;

/* The rows of a table's buckets, 1 << bucket_bits; returns 0 if the frequencies do not add up to NNB_RANS_SLOTS. */
int nnb_rans_rows_of(const uint16_t *frequencies, uint32_t bucket_bits, nnb_rans_row *rows);

/* Adds the symbols to the counts, which are the sums of four. */
void nnb_rans_count_symbols(const uint8_t *symbols, size_t count, uint32_t parts[4][256]);

/* As nnb_rans_histogram(), of the first 256 of each 1024 symbols. */
nnb_status nnb_rans_count_quarter(const uint8_t *symbols, const uint8_t *contexts, const uint8_t *context_map,
                                  size_t count, uint32_t table_count, uint32_t *histograms);

/* As nnb_rans_cost() with the frequencies that suit best, whole or not; of the first `symbols`. */
uint64_t nnb_rans_entropy(const uint32_t *histogram, size_t symbols);

/* A lower bound of the bytes of one table and the code of its symbols, of which there are below 65536; states apart. */
size_t nnb_rans_least_size(const uint32_t *histogram);

/*
 * As nnb_rans_encode(), but the code ends at `end`, in front of which there are nnb_rans_bound(count) bytes; `*start`
 * receives where it begins.
 */
nnb_status nnb_rans_encode_before(nnb_rans_path path, const uint16_t *frequencies, uint32_t table_count,
                                  const uint8_t *contexts, const uint8_t *context_map, const uint8_t *symbols,
                                  size_t count, void *work, size_t work_size, uint8_t *end, uint8_t **start);

#if NNB_X86_DISPATCH
/*
 * How many of the first symbols are all marked, in whole vectors: a symbol without a mark, if there is one at all, is
 * not before. marks: 256 bytes, 0 or 255.
 */
size_t nnb_rans_find_unmarked_avx2(const uint8_t *symbols, size_t count, const uint8_t *marks);
size_t nnb_rans_find_unmarked_avx512(const uint8_t *symbols, size_t count, const uint8_t *marks);

/* Codes the rounds, or leaves them to another path; `left` is a multiple of 64. */
nnb_status nnb_rans_encode_avx2(nnb_rans_enc_job *job);
nnb_status nnb_rans_encode_avx512(nnb_rans_enc_job *job);
#endif
#if NNB_NEON
size_t nnb_rans_find_unmarked_neon(const uint8_t *symbols, size_t count, const uint8_t *marks);
nnb_status nnb_rans_encode_neon(nnb_rans_enc_job *job); /* or leaves it to another path */
#endif

#endif

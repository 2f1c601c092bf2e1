/* Parts of the rANS encoder. */
#ifndef NNB_ENC_RANS_H
#define NNB_ENC_RANS_H

#include "common/rans.h"
#include "nnb/nnb_rans_enc.h"

/* How one symbol of one table is coded. Quotient of x < frequency << 20: x * reciprocal >> 44, exactly. */
typedef struct nnb_rans_symbol {
  uint64_t reciprocal;
  uint16_t frequency;
  uint16_t first; /* of its slots in the table's list of slots */
} nnb_rans_symbol;

typedef struct nnb_rans_enc_table {
  nnb_rans_symbol symbols[256];
  uint16_t slots[NNB_RANS_SLOTS]; /* by symbol, then rank */
} nnb_rans_enc_table;

/* A code being made, from the last symbol to the first. */
typedef struct nnb_rans_enc_job {
  const nnb_rans_enc_table *tables;
  const uint16_t *frequencies;
  uint32_t table_count;
  const uint8_t *contexts;
  const uint8_t *context_map;
  const uint8_t *symbols;
  uint8_t *out;  /* there are at least 64 bytes more than the words can take between out and next */
  uint8_t *next; /* the word written last */
  size_t left;   /* symbols still to be coded */
  uint32_t state_count;
  uint32_t states[NNB_RANS_MAX_STATES];
} nnb_rans_enc_job;

#endif

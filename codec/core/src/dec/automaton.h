/*
 * The plain cases of level() as a finite automaton: a node for each bin that can come next.
 *
 * Dense levels are hard to predict, and every mispredicted branch costs as much as two bins. Here the next node is chosen
 * with conditional moves, and what both successors need is loaded while the current bin is decoded.
 */
#ifndef NNB_AUTOMATON_H
#define NNB_AUTOMATON_H

#include "dec/levels.h"

/* Pays only where there are registers and instructions per cycle to spare. */
#if NNB_WINDOW_BITS == 64 && !defined(__wasm__) && __STDC_HOSTED__
#define NNB_WITH_AUTOMATON 1
#else
#define NNB_WITH_AUTOMATON 0
#endif

enum { NNB_AUTOMATON_MAX_UNARY = 16, NNB_AUTOMATON_NODES = 24 + 24 + 16 * NNB_AUTOMATON_MAX_UNARY + 16 };

/* The first entry of the two lists stands again behind the second, so that bin + 1 is the place of the other bin. */
typedef struct nnb_node {
  const struct nnb_node *next[3]; /* by bin */
  nnb_context *context[3];        /* of the next nodes */
  int32_t level;                  /* that ends here with bin 0 */
  uint32_t ends;                  /* 1 if one does */
} nnb_node;

typedef struct nnb_automaton {
  nnb_node nodes[NNB_AUTOMATON_NODES];
  nnb_context stop; /* stands for the context of a remainder */
} nnb_automaton;

/* Needs unary_length <= NNB_AUTOMATON_MAX_UNARY; the nodes point to the contexts. */
void nnb_automaton_build(nnb_automaton *automaton, nnb_context *contexts, uint32_t unary_length, int dq);

/* As nnb_decode_run_fn. */
typedef nnb_status nnb_automaton_run_fn(const nnb_automaton *automaton, nnb_cabac *cabac, nnb_run *run, int32_t *levels,
                                        size_t count);

nnb_automaton_run_fn *nnb_select_automaton_run(int dq);

#endif

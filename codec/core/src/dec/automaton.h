/*
 * The plain cases of level() as a finite automaton: a node for each bin that can come next.
 *
 * Dense levels are hard to predict, and every mispredicted branch costs as much as two bins. Here the next node is
 * chosen with conditional moves, and what both successors need is loaded while the current bin is decoded. Even so a
 * bin waits for the one before it most of the time, so that two code strings at once, which have nothing to do with
 * each other, take little longer than one.
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

enum { NNB_AUTOMATON_MAX_UNARY = 32, NNB_AUTOMATON_NODES = 24 + 24 + 16 * NNB_AUTOMATON_MAX_UNARY + 16 };

/*
 * Nodes and contexts are numbers of bytes from the first one. The first entry of the two lists stands again behind the
 * second, so that bin + 1 is the place of the other bin.
 */
typedef struct nnb_node {
  uint16_t next[3];    /* by bin */
  uint16_t context[3]; /* of the next nodes */
  int16_t level;       /* that ends here with bin 0 */
  uint16_t ends;       /* 1 if one does */
} nnb_node;

typedef struct nnb_automaton {
  nnb_node nodes[NNB_AUTOMATON_NODES];
} nnb_automaton;

/* Needs unary_length <= NNB_AUTOMATON_MAX_UNARY. */
void nnb_automaton_build(nnb_automaton *automaton, uint32_t unary_length, int dq);

/* Contexts must be prepared for the automaton whenever they were reset. */
void nnb_automaton_prepare(nnb_context *contexts, uint32_t unary_length);

/* A code string in the middle of its levels, maybe of one level. */
typedef struct nnb_lane {
  nnb_cabac cabac;
  size_t node;
  size_t context;
  size_t p7; /* of the context */
  nnb_context *contexts;
  uint32_t unary_length;
  int32_t *levels; /* where the next one goes */
  int32_t *enough; /* a pair may stop from here on */
  int32_t *end;
} nnb_lane;

/* At the start of a level. The engine and the places of levels are the caller's to set. */
void nnb_lane_start(nnb_lane *lane, const nnb_run *run);

/* At the end of a level: state and prev of the run. */
void nnb_lane_leave(const nnb_lane *lane, nnb_run *run);

/* Decodes up to the end of a lane. */
typedef nnb_status nnb_lane_fn(const nnb_automaton *automaton, nnb_lane *lane);

nnb_lane_fn *nnb_select_lane(int dq);

/* Decodes two lanes until one of them has enough; both must have less than that. */
typedef nnb_status nnb_lane_pair_fn(const nnb_automaton *automaton, nnb_lane lanes[2]);

nnb_lane_pair_fn *nnb_select_lane_pair(int dq);

#endif

/*
 * Choice of the initial sets (nnc-encoder-notes section 4).
 *
 * For every context and each of the nine sets an own copy of the estimates follows the bins, and its estimated costs are
 * summed. Bins are collected per context first, so that the copies of a context run through many bins in a tight loop.
 * Copies with the same rates soon arrive at the same estimates; from then on their costs grow by the same amounts, and
 * one of them does the work for all ("leader"). Thus the result is exact at a fraction of the work.
 */
#define NNB_WITH_EST_BITS
#include "common/model.h"
#include "nnb/nnb_enc.h"

#define NNB_SINK chooser
#define NNB_SINK_BIN(sink, index, bin) add_bin((sink), (index), (bin))
#define NNB_SINK_BYPASS(sink, value, count) (void)(value)

enum {
  BUFFER = 1024, /* bins collected per context */
  SETS = NNB_INITIAL_SET_COUNT,
  EST_ONE_BIT = 32768
};

/* One copy of the estimates of a context. */
typedef struct copy {
  int64_t cost; /* in 1/32768 bit; while following: to be added to the leader's */
  uint16_t b;
  uint8_t a;
  uint8_t rate;
  uint8_t leader; /* index of the copy that does the work, itself if not following */
  uint8_t reserved[3];
} copy;

typedef struct tracker {
  copy copies[SETS];
  uint32_t count; /* bins collected */
  uint32_t reserved;
} tracker;

typedef struct chooser {
  tracker *trackers;
  uint8_t *bins; /* BUFFER of each context */
  size_t count; /* of contexts */
} chooser;

/* Lets n copies, n a constant, follow the bins. They do not depend on each other, so that their latencies overlap. */
NNB_INLINE void follow(copy *const *copies, const int n, const uint8_t *bins, size_t count) {
  uint32_t a[4];
  int32_t b[4];
  int64_t cost[4];
  const struct nnb_rate *rate[4];
  for (int i = 0; i < n; i++) {
    a[i] = copies[i]->a;
    b[i] = copies[i]->b;
    cost[i] = copies[i]->cost;
    rate[i] = &nnb_rates[copies[i]->rate];
  }
  for (size_t k = 0; k < count; k++) {
    const uint32_t bin = bins[k];
    for (int i = 0; i < n; i++) {
      const uint32_t now = (uint32_t)b[i];
      cost[i] += nnb_est_bits[2 * ((16 * a[i] + now) >> 3) + bin];
      a[i] = rate[i]->a_next[2 * a[i] + bin];
      b[i] += rate[i]->b_step[2 * ((now + bin - 1) >> 7) + bin];
    }
  }
  for (int i = 0; i < n; i++) {
    copies[i]->a = (uint8_t)a[i];
    copies[i]->b = (uint16_t)b[i];
    copies[i]->cost = cost[i];
  }
}

/* Makes copies with equal rates and estimates follow one of them. */
static void merge_copies(tracker *t) {
  for (uint8_t i = 1; i < SETS; i++) {
    copy *const c = &t->copies[i];
    if (c->leader != i) continue;
    for (uint8_t j = 0; j < i; j++) {
      const copy *const leader = &t->copies[j];
      if (leader->leader != j || leader->rate != c->rate || leader->a != c->a || leader->b != c->b) continue;
      c->leader = j;
      c->cost -= leader->cost;
      break;
    }
  }
}

/* The other way round: gives each copy its own cost again. Leaders have lower indices than their followers. */
static void part_copies(tracker *t) {
  for (uint8_t i = SETS - 1; i > 0; i--) {
    copy *const c = &t->copies[i];
    for (uint8_t j = c->leader; c->leader != i;) {
      c->cost += t->copies[j].cost;
      if (t->copies[j].leader == j) {
        c->leader = i;
      } else {
        j = t->copies[j].leader;
      }
    }
  }
}

static NNB_NOINLINE void follow_bins(chooser *s, size_t index) {
  tracker *const t = &s->trackers[index];
  const uint8_t *const bins = s->bins + BUFFER * index;
  copy *leaders[SETS];
  int n = 0;
  for (uint8_t i = 0; i < SETS; i++) {
    if (t->copies[i].leader == i) leaders[n++] = &t->copies[i];
  }
  int at = 0;
  for (; n - at >= 4; at += 4) follow(leaders + at, 4, bins, t->count);
  if (n - at == 3) follow(leaders + at, 3, bins, t->count);
  if (n - at == 2) follow(leaders + at, 2, bins, t->count);
  if (n - at == 1) follow(leaders + at, 1, bins, t->count);
  t->count = 0;
  if (n > NNB_RATE_COUNT) merge_copies(t);
}

NNB_INLINE void add_bin(chooser *s, size_t index, uint32_t bin) {
  uint32_t *const count = &s->trackers[index].count;
  s->bins[BUFFER * index + *count] = (uint8_t)bin;
  if (NNB_UNLIKELY(++*count == BUFFER)) follow_bins(s, index);
}

#include "enc/walk_levels.h"

static nnb_status run(void *sink, nnb_walk *walk, size_t at, size_t count) {
  chooser *const s = sink;
  if (walk->peer) {
    if (walk->general) {
      return walk->dq ? nnb_walk_levels(s, walk, at, count, 1, 1, 1) : nnb_walk_levels(s, walk, at, count, 0, 1, 1);
    }
    return walk->dq ? nnb_walk_levels(s, walk, at, count, 1, 0, 1) : nnb_walk_levels(s, walk, at, count, 0, 0, 1);
  }
  if (walk->general) {
    return walk->dq ? nnb_walk_levels(s, walk, at, count, 1, 1, 0) : nnb_walk_levels(s, walk, at, count, 0, 1, 0);
  }
  return walk->dq ? nnb_walk_levels(s, walk, at, count, 1, 0, 0) : nnb_walk_levels(s, walk, at, count, 0, 0, 0);
}

static void start_copies(tracker *t) {
  for (uint8_t i = 0; i < SETS; i++) {
    t->copies[i].a = nnb_set_a[i];
    t->copies[i].b = nnb_set_b[i];
    t->copies[i].leader = i;
  }
}

static void finish_bins(chooser *s) {
  for (size_t i = 0; i < s->count; i++) {
    if (s->trackers[i].count > 0) follow_bins(s, i);
    part_copies(&s->trackers[i]);
  }
}

static nnb_status block_row(void *sink, nnb_walk *walk, size_t row) {
  chooser *const s = sink;
  if (row == 0) return NNB_OK;
  finish_bins(s);
  for (size_t i = 0; i < s->count; i++) start_copies(&s->trackers[i]);
  if (!walk->peer) walk->prev = 0;
  return NNB_OK;
}

static unsigned best_set(const tracker *t) {
  unsigned best = 0;
  int64_t least = t->copies[0].cost;
  for (unsigned i = 1; i < SETS; i++) {
    const int64_t cost = t->copies[i].cost + 3 * EST_ONE_BIT;
    if (cost < least) {
      best = i;
      least = cost;
    }
  }
  return best;
}

size_t nnb_choose_work_size(const nnb_level_coding *coding) {
  const size_t count = nnb_context_count(coding->unary_length);
  return _Alignof(tracker) + count * (sizeof(tracker) + BUFFER);
}

nnb_status nnb_choose_initial_sets(const nnb_level_coding *coding, const nnb_source *source, nnb_set_rule rule,
                                   void *work, size_t work_size, uint8_t *initial_sets) {
  nnb_walk walk;
  nnb_status status = nnb_walk_init(&walk, coding, source);
  if (status != NNB_OK) return status;
  if (work_size < nnb_choose_work_size(coding)) return NNB_BUFFER_SIZE;
  walk.peer = rule == NNB_SETS_PEER;

  const size_t misaligned = (size_t)((uintptr_t)work % _Alignof(tracker));
  chooser s = {.count = nnb_ctx_count(coding->unary_length)};
  s.trackers = (tracker *)(void *)((uint8_t *)work + (misaligned ? _Alignof(tracker) - misaligned : 0));
  s.bins = (uint8_t *)(s.trackers + s.count);
  for (size_t i = 0; i < s.count; i++) {
    tracker *const t = &s.trackers[i];
    start_copies(t);
    for (int k = 0; k < SETS; k++) {
      t->copies[k].cost = 0;
      t->copies[k].rate = nnb_set_rate[k];
    }
    t->count = 0;
  }

  status = nnb_walk_tensor(&walk, &s, run, block_row);
  if (status != NNB_OK) return status;
  finish_bins(&s);

  nnb_memset(initial_sets, 0, s.count);
  nnb_set_run runs[NNB_SET_RUNS];
  nnb_set_runs(coding, source->hist_dep_sig_prob_enabled_flag, runs);
  for (int i = 0; i < NNB_SET_RUNS; i++) {
    for (size_t c = runs[i].first; c < runs[i].first + runs[i].present; c++) {
      initial_sets[c] = (uint8_t)best_set(&s.trackers[c]);
    }
  }
  return NNB_OK;
}

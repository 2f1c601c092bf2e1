/*
 * Choice of the initial sets (nnc-encoder-notes section 4).
 *
 * For every context and each of the nine sets an own copy of the estimates follows the bins, and its estimated costs
 * are summed. Bins are collected per context first, so that the copies of a context run through many bins in a tight
 * loop. Copies with the same rates soon arrive at the same estimates; from then on their costs grow by the same
 * amounts, and one of them does the work for all ("leader"). Thus the result is exact at a fraction of the work.
 * The rule by cost looks at the first levels of a tensor and then at every SAMPLING-th block of levels, which counts
 * for all of them; the rest is not even made into bins.
 */
#define NNB_WITH_EST_BITS
#include "common/model.h"
#include "enc/walk.h"

enum {
  BUFFER = 1024, /* bins collected per context */
  SETS = NNB_INITIAL_SET_COUNT,
  MOST_TOGETHER = 5,
  FULL_LEVELS = 1 << 17, /* looked at before sampling */
  BLOCK_LEVELS = 1 << 12,
  SAMPLING = 8,
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

/* update() of nnc-entropy 3.3 for one pair of rates: a and b after the bins 0 and 1. */
typedef struct steps {
  uint16_t next_b[2][4096];
  uint16_t next_a[512];
} steps;

static void make_steps(steps table[NNB_RATE_COUNT]) {
  for (uint32_t rate = 0; rate < NNB_RATE_COUNT; rate++) {
    for (uint32_t bin = 0; bin < 2; bin++) {
      /* The smallest estimates do not occur, and have nothing below them. */
      table[rate].next_a[bin] = 0;
      table[rate].next_b[bin][0] = 0;
      for (uint32_t a = 1; a < 256; a++) {
        table[rate].next_a[2 * a + bin] = (uint16_t)nnb_state_a(nnb_state_after(nnb_state_of(rate, a, 1, 0), bin));
      }
      for (uint32_t b = 1; b < 4096; b++) {
        table[rate].next_b[bin][b] = (uint16_t)nnb_state_b(nnb_state_after(nnb_state_of(rate, 1, b, 0), bin));
      }
    }
  }
}

typedef struct chooser {
  tracker *trackers;
  uint8_t *bins; /* BUFFER of each context */
  const steps *table;
  size_t count; /* of contexts */
  int64_t weight;
} chooser;

/* Lets n copies, n a constant, follow the bins. They do not depend on each other, so that their latencies overlap. */
NNB_INLINE void follow(copy *const *copies, const int n, const uint8_t *bins, size_t count, const steps *table,
                       int64_t weight) {
  size_t a[MOST_TOGETHER];
  size_t b[MOST_TOGETHER];
  uint64_t cost[MOST_TOGETHER];
  const steps *step[MOST_TOGETHER];
  for (int i = 0; i < n; i++) {
    a[i] = copies[i]->a;
    b[i] = copies[i]->b;
    cost[i] = 0;
    step[i] = &table[copies[i]->rate];
  }
  for (const uint8_t *const end = bins + count; bins < end; bins++) {
    const size_t bin = *bins;
    for (int i = 0; i < n; i++) {
      cost[i] += nnb_est_bits[2 * (2 * a[i] + (b[i] >> 3)) + bin]; /* (16 a + b) >> 3 */
      a[i] = step[i]->next_a[2 * a[i] + bin];
      b[i] = step[i]->next_b[bin][b[i]];
    }
  }
  for (int i = 0; i < n; i++) {
    copies[i]->a = (uint8_t)a[i];
    copies[i]->b = (uint16_t)b[i];
    copies[i]->cost += weight * (int64_t)cost[i];
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

static void follow_together(copy *const *copies, int n, const uint8_t *bins, size_t count, const steps *table,
                            int64_t weight) {
  switch (n) {
    case 5:
      follow(copies, 5, bins, count, table, weight);
      break;
    case 4:
      follow(copies, 4, bins, count, table, weight);
      break;
    case 3:
      follow(copies, 3, bins, count, table, weight);
      break;
    case 2:
      follow(copies, 2, bins, count, table, weight);
      break;
    default:
      follow(copies, 1, bins, count, table, weight);
      break;
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
  for (int at = 0, together; at < n; at += together) {
    const int groups = (n - at + MOST_TOGETHER - 1) / MOST_TOGETHER;
    together = (n - at + groups - 1) / groups;
    follow_together(leaders + at, together, bins, t->count, s->table, s->weight);
  }
  t->count = 0;
  if (n > NNB_RATE_COUNT) merge_copies(t);
}

static nnb_status take_bins(void *sink, const uint16_t *bins, size_t count) {
  chooser *const s = sink;
  for (size_t i = 0; i < count; i++) {
    const uint32_t entry = bins[i];
    if (NNB_UNLIKELY(entry >= NNB_BYPASS)) {
      i += 2; /* costs the same under every set */
      continue;
    }
    const size_t index = entry >> 1;
    uint32_t *const collected = &s->trackers[index].count;
    s->bins[BUFFER * index + *collected] = (uint8_t)(entry & 1);
    if (NNB_UNLIKELY(++*collected == BUFFER)) follow_bins(s, index);
  }
  return NNB_OK;
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

/* What one level stands for changes, and all bins before it are there. */
static void start_sampling(void *sink) {
  chooser *const s = sink;
  for (size_t i = 0; i < s->count; i++) {
    if (s->trackers[i].count > 0) follow_bins(s, i);
  }
  s->weight = SAMPLING;
}

static nnb_status start_row(void *sink, nnb_walk *walk, size_t row) {
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
  return _Alignof(tracker) + NNB_RATE_COUNT * sizeof(steps) + count * (sizeof(tracker) + BUFFER);
}

nnb_status nnb_choose_initial_sets(const nnb_level_coding *coding, const nnb_source *source, nnb_set_rule rule,
                                   void *work, size_t work_size, uint8_t *initial_sets) {
  nnb_walk walk;
  nnb_status status = nnb_walk_init(&walk, coding, source);
  if (status != NNB_OK) return status;
  if (work_size < nnb_choose_work_size(coding)) return NNB_BUFFER_SIZE;
  walk.peer = rule == NNB_SETS_PEER;

  const size_t misaligned = (size_t)((uintptr_t)work % _Alignof(tracker));
  chooser s = {.count = nnb_ctx_count(coding->unary_length), .weight = 1};
  s.trackers = (tracker *)(void *)((uint8_t *)work + (misaligned ? _Alignof(tracker) - misaligned : 0));
  steps *const table = (steps *)(void *)(s.trackers + s.count);
  make_steps(table);
  s.table = table;
  s.bins = (uint8_t *)(table + NNB_RATE_COUNT);
  for (size_t i = 0; i < s.count; i++) {
    tracker *const t = &s.trackers[i];
    start_copies(t);
    for (int k = 0; k < SETS; k++) {
      t->copies[k].cost = 0;
      t->copies[k].rate = nnb_set_rate[k];
    }
    t->count = 0;
  }

  walk.sink = &s;
  walk.take_bins = take_bins;
  walk.start_row = start_row;
  if (!walk.peer) {
    walk.full_levels = FULL_LEVELS;
    walk.block_levels = BLOCK_LEVELS;
    walk.sampling = SAMPLING;
    walk.start_sampling = start_sampling;
  }
  status = nnb_walk_tensor(&walk);
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

#include "dec/rans.h"

void nnb_rans_expand(const nnb_rans_model *model, uint32_t *entries) {
  const uint32_t width = NNB_RANS_SLOTS >> model->bucket_bits;
  const uint32_t rows = 1u << model->bucket_bits;
  for (uint32_t t = 0; t < model->table_count; t++) {
    const nnb_rans_row *const table = model->rows + ((size_t)t << model->bucket_bits);
    for (uint32_t b = 0; b < rows; b++) {
      const nnb_rans_row *const own = table + b;
      const nnb_rans_row *const other = table + own->alias;
      const uint32_t own_entry = own->symbol | ((own->frequency - 1u) & 0xFFFu) << 8;
      const uint32_t other_entry = other->symbol | ((other->frequency - 1u) & 0xFFFu) << 8;
      for (uint32_t r = 0; r < own->split; r++) entries[r] = own_entry | r << 20;
      for (uint32_t r = own->split; r < width; r++) entries[r] = other_entry | (own->alias_rank + r) << 20;
      entries += width;
    }
  }
}

/* The state after a symbol, before renormalization. */
NNB_INLINE uint32_t step(const nnb_rans_row *table, uint32_t bucket_bits, uint32_t x, uint8_t *symbol) {
  const uint32_t slot = x & (NNB_RANS_SLOTS - 1);
  const uint32_t offset = slot & ((NNB_RANS_SLOTS >> bucket_bits) - 1);
  const nnb_rans_row *row = table + (slot >> (NNB_RANS_BITS - bucket_bits));
  uint32_t rank = offset;
  if (offset >= row->split) {
    rank = (offset + row->alias_rank) & 0xFFFFu;
    row = table + row->alias;
  }
  *symbol = row->symbol;
  return row->frequency * (x >> NNB_RANS_BITS) + rank;
}

/* Any number of symbols; the words may end. `contexts` is job->contexts, or the constant NULL. */
NNB_INLINE nnb_status decode_rest(nnb_rans_job *job, const uint8_t *contexts) {
  const nnb_rans_row *const rows = job->model->rows;
  const uint32_t bucket_bits = job->model->bucket_bits;
  const size_t last_state = job->state_count - 1;
  const size_t count = job->count;
  const uint8_t *const end = job->end;
  const uint8_t *next = job->next;
  uint8_t *const symbols = job->symbols;
  uint32_t *const states = job->states;
  for (size_t i = job->done; i < count; i++) {
    const nnb_rans_row *const table =
        contexts == NULL ? rows : rows + ((size_t)job->context_map[contexts[i]] << bucket_bits);
    uint32_t x = step(table, bucket_bits, states[i & last_state], &symbols[i]);
    if (x < NNB_RANS_LOW) {
      if (next == end) return NNB_LOSSLESS_BLOCK;
      x = x << 16 | nnb_rans_load16(next);
      next += 2;
    }
    states[i & last_state] = x;
  }
  job->next = next;
  job->done = count;
  return NNB_OK;
}

/* Whole rounds from the rows, without branches. `states` is job->state_count, as a constant where there are few. */
NNB_INLINE void decode_whole(nnb_rans_job *job, uint32_t states, const uint8_t *contexts) {
  const nnb_rans_row *const rows = job->model->rows;
  const uint32_t bucket_bits = job->model->bucket_bits, shift = NNB_RANS_BITS - bucket_bits;
  const uint32_t offset_mask = (1u << shift) - 1;
  const uint8_t *const end = job->end;
  const size_t count = job->count;
  uint8_t *const symbols = job->symbols;
  const uint8_t *next = job->next;
  size_t i = job->done;
  uint32_t x[NNB_RANS_MAX_STATES];
  nnb_memcpy(x, job->states, states * sizeof *x);
  while (count - i >= states && (size_t)(end - next) >= 2 * states) {
    for (uint32_t j = 0; j < states; j++) {
      const nnb_rans_row *const table =
          contexts == NULL ? rows : rows + ((size_t)job->context_map[contexts[i + j]] << bucket_bits);
      const uint32_t bucket = (x[j] & (NNB_RANS_SLOTS - 1)) >> shift, offset = x[j] & offset_mask;
      const nnb_rans_row own = table[bucket];
      const uint32_t other = offset >= own.split;
      const nnb_rans_row row = table[nnb_choose(other, own.alias, bucket)];
      const uint32_t rank = (offset + nnb_choose(other, own.alias_rank, 0)) & 0xFFFFu;
      const uint32_t y = row.frequency * (x[j] >> NNB_RANS_BITS) + rank;
      const uint32_t low = y < NNB_RANS_LOW;
      x[j] = nnb_choose(low, y << 16 | nnb_rans_load16(next), y);
      next += 2 * low;
      symbols[i + j] = row.symbol;
    }
    i += states;
  }
  nnb_memcpy(job->states, x, states * sizeof *x);
  job->next = next;
  job->done = i;
}

static void decode_without_tables(nnb_rans_job *job) {
  if (job->contexts != NULL)
    decode_whole(job, job->state_count, job->contexts);
  else if (job->state_count == 4)
    decode_whole(job, 4, NULL);
  else if (job->state_count == 8)
    decode_whole(job, 8, NULL);
  else
    decode_whole(job, job->state_count, NULL);
}

/* Whole rounds through expanded tables, without branches. */
NNB_INLINE void decode_expanded(nnb_rans_job *job, const uint32_t *entries, const uint8_t *contexts) {
  const uint8_t *const map = job->context_map;
  const uint8_t *const end = job->end;
  const uint32_t states = job->state_count;
  const size_t count = job->count;
  uint8_t *const symbols = job->symbols;
  const uint8_t *next = job->next;
  size_t i = job->done;
  uint32_t x[NNB_RANS_MAX_STATES];
  nnb_memcpy(x, job->states, sizeof x);
  while (count - i >= states && (size_t)(end - next) >= 2 * states) {
    for (uint32_t j = 0; j < states; j++) {
      const uint32_t *const table =
          contexts == NULL ? entries : entries + ((size_t)map[contexts[i + j]] << NNB_RANS_BITS);
      const uint32_t entry = table[x[j] & (NNB_RANS_SLOTS - 1)];
      const uint32_t y = ((entry >> 8 & 0xFFFu) + 1) * (x[j] >> NNB_RANS_BITS) + (entry >> 20);
      const uint32_t low = y < NNB_RANS_LOW;
      x[j] = nnb_choose(low, y << 16 | nnb_rans_load16(next), y);
      next += 2 * low;
      symbols[i + j] = (uint8_t)entry;
    }
    i += states;
  }
  nnb_memcpy(job->states, x, sizeof x);
  job->next = next;
  job->done = i;
}

int nnb_rans_has_path(nnb_rans_path path) {
  switch (path) {
    case NNB_RANS_AUTO:
    case NNB_RANS_SCALAR:
      return 1;
#if NNB_X86_DISPATCH
    case NNB_RANS_AVX2:
      return nnb_cpu_has_bmi2();
    case NNB_RANS_AVX512:
      return nnb_cpu_has_avx512_vbmi2();
#endif
#if NNB_NEON
    case NNB_RANS_NEON:
      return 1;
#endif
    default:
      return 0;
  }
}

nnb_rans_path nnb_rans_best_path(void) {
  static const nnb_rans_path paths[] = {NNB_RANS_AVX512, NNB_RANS_AVX2, NNB_RANS_NEON};
  for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
    if (nnb_rans_has_path(paths[i])) return paths[i];
  }
  return NNB_RANS_SCALAR;
}

/* Whether the path holds all rows in registers and needs no expanded tables. */
static int is_without_tables(nnb_rans_path path, const nnb_rans_model *model) {
  const uint32_t rows = model->table_count << model->bucket_bits;
  if (path == NNB_RANS_AUTO) path = nnb_rans_best_path();
  if (path == NNB_RANS_AVX512) return rows <= NNB_RANS_AVX512_ROWS;
  if (path == NNB_RANS_NEON) return rows <= NNB_RANS_NEON_ROWS;
  return path == NNB_RANS_AVX2 && model->table_count == 1 && rows > 1 && rows <= NNB_RANS_AVX2_ROWS;
}

#if NNB_X86_DISPATCH
static int is_for_avx2(const nnb_rans_model *model) {
  int certain = 0; /* a table of one symbol */
  for (uint32_t i = 0; i < model->table_count; i++)
    certain |= model->rows[(size_t)i << model->bucket_bits].frequency == NNB_RANS_SLOTS;
  return !certain && model->table_count <= 16;
}
#endif

static size_t tables_size(const nnb_rans_model *model) {
  return (size_t)model->table_count * NNB_RANS_SLOTS * sizeof(uint32_t) + (sizeof(uint32_t) - 1);
}

size_t nnb_rans_scratch_size(nnb_rans_path path, const nnb_rans_model *model) {
  return is_without_tables(path, model) ? 0 : tables_size(model);
}

static void decode_rounds(nnb_rans_path path, nnb_rans_job *job, void *scratch, size_t scratch_size) {
#if NNB_X86_DISPATCH
  const int avx2 =
      path != NNB_RANS_SCALAR && nnb_rans_has_path(NNB_RANS_AVX2) && job->state_count >= NNB_RANS_AVX2_STATES;
  if (path == NNB_RANS_AUTO) path = nnb_rans_best_path();
  if (path == NNB_RANS_AVX512 && is_without_tables(path, job->model) && job->state_count == NNB_RANS_MAX_STATES) {
    nnb_rans_decode_avx512(job);
    return;
  }
  if (avx2 && is_without_tables(NNB_RANS_AVX2, job->model)) {
    nnb_rans_decode_avx2_rows(job);
    return;
  }
#endif
#if NNB_NEON
  if (is_without_tables(path, job->model) && job->state_count == NNB_RANS_MAX_STATES) {
    nnb_rans_decode_neon(job, NULL);
    return;
  }
#endif
  (void)path;
  /* Tables are not worth while for few symbols. */
  if (scratch == NULL || scratch_size < tables_size(job->model) || job->count < 512 * (job->model->table_count + 3)) {
    decode_without_tables(job);
    return;
  }
  uint8_t *const bytes = scratch;
  uint32_t *const entries = (uint32_t *)(void *)(bytes + ((uintptr_t)0 - (uintptr_t)bytes) % sizeof(uint32_t));
  nnb_rans_expand(job->model, entries);
#if NNB_X86_DISPATCH
  if (avx2 && is_for_avx2(job->model)) {
    nnb_rans_decode_avx2(job, entries);
    return;
  }
#endif
#if NNB_NEON
  if (path != NNB_RANS_SCALAR && job->state_count == NNB_RANS_MAX_STATES) {
    nnb_rans_decode_neon(job, entries);
    return;
  }
#endif
  if (job->contexts == NULL) {
    decode_expanded(job, entries, NULL);
  } else {
    decode_expanded(job, entries, job->contexts);
  }
}

nnb_status nnb_rans_decode(nnb_rans_path path, const nnb_rans_model *model, const uint8_t *contexts,
                           const uint8_t *context_map, const uint8_t *code, size_t size, uint8_t *symbols, size_t count,
                           void *scratch, size_t scratch_size) {
  nnb_rans_job job;
  if (!nnb_rans_has_path(path)) return NNB_UNSUPPORTED_FEATURE;
  if (!nnb_rans_map_is_good(contexts, context_map, model->table_count)) return NNB_BAD_OPTION;
  if (count == 0) return size == 0 ? NNB_OK : NNB_LOSSLESS_BLOCK;
  job.model = model;
  job.contexts = contexts;
  job.context_map = context_map;
  job.symbols = symbols;
  job.count = count;
  job.done = 0;
  job.state_count = nnb_rans_state_count(count);
  nnb_memset(job.states, 0, sizeof job.states);
  if (size < 4 * (size_t)job.state_count || size % 2 != 0) return NNB_LOSSLESS_BLOCK;
  for (uint32_t i = 0; i < job.state_count; i++) {
    job.states[i] = nnb_rans_load32(code + 4 * (size_t)i);
    if (job.states[i] < NNB_RANS_LOW) return NNB_LOSSLESS_BLOCK;
  }
  job.next = code + 4 * (size_t)job.state_count;
  job.end = code + size;
  decode_rounds(path, &job, scratch, scratch_size);
  const nnb_status status = contexts == NULL ? decode_rest(&job, NULL) : decode_rest(&job, contexts);
  if (status != NNB_OK) return status;
  if (job.next != job.end) return NNB_LOSSLESS_BLOCK;
  for (uint32_t i = 0; i < job.state_count; i++) {
    if (job.states[i] != NNB_RANS_LOW) return NNB_LOSSLESS_BLOCK;
  }
  return NNB_OK;
}

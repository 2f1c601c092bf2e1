#include "enc/rans.h"

static nnb_status build_table(nnb_rans_enc_table *table, const uint16_t *frequencies, uint32_t bucket_bits) {
  nnb_rans_row rows[256];
  uint16_t first[256];
  uint32_t count = 0;
  uint32_t sum = 0;
  nnb_memset(rows, 0, sizeof rows);
  for (uint32_t s = 0; s < 256; s++) {
    const uint32_t frequency = frequencies[s];
    table->symbols[s] = (nnb_rans_symbol){0, (uint16_t)frequency, (uint16_t)sum};
    if (frequency == 0) continue;
    table->symbols[s].reciprocal = (UINT64_C(1) << 44) / frequency + 1;
    first[count] = (uint16_t)sum;
    rows[count++].frequency = (uint16_t)frequency;
    sum += frequency;
  }
  if (sum != NNB_RANS_SLOTS) return NNB_BAD_OPTION;
  nnb_rans_build_rows(rows, bucket_bits);
  uint32_t slot = 0;
  for (uint32_t b = 0; b < 1u << bucket_bits; b++) {
    for (uint32_t r = 0; r < NNB_RANS_SLOTS >> bucket_bits; r++, slot++) {
      const int own = r < rows[b].split;
      const uint32_t rank = own ? r : (r + rows[b].alias_rank) & 0xFFFFu;
      table->slots[first[own ? b : rows[b].alias] + rank] = (uint16_t)slot;
    }
  }
  return NNB_OK;
}

/* Codes symbols until `left` is a multiple of `until`. */
static nnb_status encode_scalar(nnb_rans_enc_job *job, size_t until) {
  const uint32_t last_state = job->state_count - 1;
  while (job->left % until != 0) {
    const size_t i = --job->left;
    const uint32_t t = job->contexts == NULL ? 0 : job->context_map[job->contexts[i]];
    const nnb_rans_enc_table *const table = job->tables + t;
    const nnb_rans_symbol *const symbol = &table->symbols[job->symbols[i]];
    uint32_t x = job->states[i & last_state];
    if (symbol->frequency == 0) return NNB_BAD_TENSOR;
    if (x >> 20 >= symbol->frequency) {
      job->next -= 2;
      nnb_rans_store16(job->next, x);
      x >>= 16;
    }
    const uint32_t quotient = (uint32_t)(x * symbol->reciprocal >> 44);
    const uint32_t rank = x - quotient * symbol->frequency;
    job->states[i & last_state] = quotient << NNB_RANS_BITS | table->slots[symbol->first + rank];
  }
  return NNB_OK;
}

size_t nnb_rans_work_size(uint32_t table_count) {
  return table_count * sizeof(nnb_rans_enc_table) + (_Alignof(nnb_rans_enc_table) - 1);
}

size_t nnb_rans_bound(size_t count) {
  return count > (SIZE_MAX - 1024) / 2 ? SIZE_MAX : 2 * count + 1024; /* at most one word for each symbol */
}

static nnb_status encode_job(nnb_rans_path path, nnb_rans_enc_job *job) {
  (void)path;
  if (job->left == 0) return NNB_OK;
  return encode_scalar(job, SIZE_MAX);
}

nnb_status nnb_rans_encode(nnb_rans_path path, const uint16_t *frequencies, uint32_t table_count,
                           const uint8_t *contexts, const uint8_t *context_map, const uint8_t *symbols, size_t count,
                           void *work, size_t work_size, uint8_t *out, size_t capacity, size_t *size) {
  if (!nnb_rans_has_path(path)) return NNB_UNSUPPORTED_FEATURE;
  if (table_count < 1 || table_count > NNB_RANS_MAX_TABLES) return NNB_BAD_OPTION;
  if (!nnb_rans_map_is_good(contexts, context_map, table_count)) return NNB_BAD_OPTION;
  if (work == NULL || work_size < nnb_rans_work_size(table_count)) return NNB_BUFFER_SIZE;
  const size_t bound = nnb_rans_bound(count);
  if (bound == SIZE_MAX || capacity < bound) return NNB_BUFFER_SIZE;

  uint8_t *const bytes = work;
  nnb_rans_enc_table *const tables =
      (nnb_rans_enc_table *)(void *)(bytes + ((uintptr_t)0 - (uintptr_t)bytes) % _Alignof(nnb_rans_enc_table));
  uint32_t largest = 1;
  for (uint32_t t = 0; t < table_count; t++) {
    uint32_t symbol_count = 0;
    for (size_t s = 0; s < 256; s++) symbol_count += frequencies[(size_t)t * 256 + s] != 0;
    largest = symbol_count > largest ? symbol_count : largest;
  }
  for (uint32_t t = 0; t < table_count; t++) {
    const nnb_status status = build_table(tables + t, frequencies + (size_t)t * 256, nnb_rans_bucket_bits(largest));
    if (status != NNB_OK) return status;
  }

  *size = 0;
  if (count == 0) return NNB_OK;
  nnb_rans_enc_job job = {.tables = tables,
                          .frequencies = frequencies,
                          .table_count = table_count,
                          .contexts = contexts,
                          .context_map = context_map,
                          .symbols = symbols,
                          .out = out,
                          .next = out + bound,
                          .left = count,
                          .state_count = nnb_rans_state_count(count)};
  for (uint32_t i = 0; i < job.state_count; i++) job.states[i] = NNB_RANS_LOW;
  const nnb_status status = encode_job(path, &job);
  if (status != NNB_OK) return status;
  const size_t word_size = (size_t)(out + bound - job.next);
  for (uint32_t i = 0; i < job.state_count; i++) {
    nnb_rans_store16(out + 4 * (size_t)i, job.states[i]);
    nnb_rans_store16(out + 4 * (size_t)i + 2, job.states[i] >> 16);
  }
  *size = 4 * (size_t)job.state_count + word_size;
  /* Never overlapping: the bound is more than twice what there can be. */
  nnb_memmove(out + 4 * (size_t)job.state_count, job.next, word_size);
  return NNB_OK;
}

#include "enc/rans.h"

int nnb_rans_rows_of(const uint16_t *frequencies, uint32_t bucket_bits, nnb_rans_row *rows) {
  uint32_t count = 0;
  uint32_t sum = 0;
  nnb_memset(rows, 0, sizeof *rows << bucket_bits);
  for (uint32_t s = 0; s < 256; s++) {
    if (frequencies[s] == 0) continue;
    rows[count].symbol = (uint8_t)s;
    rows[count++].frequency = frequencies[s];
    sum += frequencies[s];
  }
  if (sum != NNB_RANS_SLOTS) return 0;
  nnb_rans_build_rows(rows, bucket_bits);
  return 1;
}

static void list_slots(uint16_t *slots, uint32_t first, uint32_t count) {
  uint16_t slot = (uint16_t)first;
  for (uint32_t i = 0; i < count; i++) slots[i] = slot++;
}

static nnb_status build_table(nnb_rans_symbol *symbols, uint16_t *slots, const uint16_t *frequencies,
                              uint32_t bucket_bits) {
  const uint32_t width = NNB_RANS_SLOTS >> bucket_bits;
  nnb_rans_row rows[256];
  uint32_t sum = 0;
  if (!nnb_rans_rows_of(frequencies, bucket_bits, rows)) return NNB_BAD_OPTION;
  for (uint32_t s = 0; s < 256; s++) {
    const uint32_t frequency = frequencies[s];
    const uint64_t reciprocal = frequency == 0 ? 0 : (UINT64_C(1) << 44) / frequency + 1;
    const float inverse = NNB_NEON ? NNB_RANS_INVERSE(frequency + (frequency == 0)) : 0;
    symbols[s] = (nnb_rans_symbol){reciprocal, (uint16_t)frequency, (uint16_t)sum, inverse};
    sum += frequency;
  }
  for (uint32_t b = 0; b < 1u << bucket_bits; b++) {
    uint16_t *const own = slots + symbols[rows[b].symbol].first;
    uint16_t *const other =
        slots + symbols[rows[rows[b].alias].symbol].first + ((rows[b].alias_rank + rows[b].split) & 0xFFFFu);
    const uint32_t split = rows[b].split;
    list_slots(own, b * width, split);
    list_slots(other, b * width + split, width - split);
  }
  return NNB_OK;
}

/* Codes symbols until `left` is a multiple of `until`. `contexts` is job->contexts, or the constant NULL. */
NNB_INLINE nnb_status encode_until(nnb_rans_enc_job *job, size_t until, const uint8_t *contexts) {
  const nnb_rans_symbol *const table_symbols = job->table_symbols;
  const uint16_t *const slots = job->slots;
  const uint8_t *const symbols = job->symbols;
  const size_t last_state = job->state_count - 1;
  const size_t end = job->left - job->left % until;
  uint8_t *next = job->next;
  uint32_t missing = 0;
  uint32_t states[NNB_RANS_MAX_STATES];
  nnb_memcpy(states, job->states, sizeof states);
  for (size_t i = job->left; i > end;) {
    i--;
    const size_t t = contexts == NULL ? 0 : job->context_map[contexts[i]];
    const nnb_rans_symbol *const symbol = table_symbols + (t << 8) + symbols[i];
    const uint32_t x = states[i & last_state];
    const uint32_t high = x >> 20 >= symbol->frequency;
    const uint32_t y = nnb_choose(high, x >> 16, x);
    const uint32_t quotient = (uint32_t)(y * symbol->reciprocal >> 44);
    const uint32_t rank = y - quotient * symbol->frequency;
    missing |= symbol->frequency == 0;
    nnb_rans_store16(next - 2, x);
    next -= 2 * high;
    states[i & last_state] =
        quotient << NNB_RANS_BITS | slots[(t << NNB_RANS_BITS) + ((symbol->first + rank) & (NNB_RANS_SLOTS - 1))];
  }
  nnb_memcpy(job->states, states, sizeof states);
  job->next = next;
  job->left = end;
  return missing ? NNB_BAD_TENSOR : NNB_OK;
}

static nnb_status encode_scalar(nnb_rans_enc_job *job, size_t until) {
  return job->contexts == NULL ? encode_until(job, until, NULL) : encode_until(job, until, job->contexts);
}

/* Slots of all tables, with the margins that vectors around a slot reach into. */
static size_t slot_count(uint32_t table_count) { return ((size_t)table_count << NNB_RANS_BITS) + 2 * NNB_RANS_MARGIN; }

size_t nnb_rans_work_size(uint32_t table_count) {
  return table_count * 256 * sizeof(nnb_rans_symbol) + slot_count(table_count) * sizeof(uint16_t) +
         (_Alignof(nnb_rans_symbol) - 1);
}

size_t nnb_rans_bound(size_t count) {
  return count > (SIZE_MAX - 1024) / 2 ? SIZE_MAX : 2 * count + 1024; /* at most one word for each symbol */
}

static nnb_status encode_job(nnb_rans_path path, nnb_rans_enc_job *job) {
#if NNB_X86_DISPATCH
  if (path == NNB_RANS_AUTO) path = nnb_rans_best_path();
  if (path != NNB_RANS_SCALAR && job->state_count == NNB_RANS_MAX_STATES) {
    nnb_status status = encode_scalar(job, NNB_RANS_MAX_STATES);
    if (status == NNB_OK && path == NNB_RANS_AVX512) status = nnb_rans_encode_avx512(job);
    if (status == NNB_OK && job->left > 0 && nnb_rans_has_path(NNB_RANS_AVX2)) status = nnb_rans_encode_avx2(job);
    if (status != NNB_OK) return status;
  }
#endif
#if NNB_NEON
  if (path != NNB_RANS_SCALAR && job->state_count == NNB_RANS_MAX_STATES) {
    nnb_status status = encode_scalar(job, NNB_RANS_MAX_STATES);
    if (status == NNB_OK) status = nnb_rans_encode_neon(job);
    if (status != NNB_OK) return status;
  }
#endif
  (void)path;
  return encode_scalar(job, SIZE_MAX);
}

nnb_status nnb_rans_encode_before(nnb_rans_path path, const uint16_t *frequencies, uint32_t table_count,
                                  const uint8_t *contexts, const uint8_t *context_map, const uint8_t *symbols,
                                  size_t count, void *work, size_t work_size, uint8_t *end, uint8_t **start) {
  if (!nnb_rans_has_path(path)) return NNB_UNSUPPORTED_FEATURE;
  if (table_count < 1 || table_count > NNB_RANS_MAX_TABLES) return NNB_BAD_OPTION;
  if (!nnb_rans_map_is_good(contexts, context_map, table_count)) return NNB_BAD_OPTION;
  if (work == NULL || work_size < nnb_rans_work_size(table_count)) return NNB_BUFFER_SIZE;
  *start = end;
  if (count == 0) return NNB_OK;

  uint8_t *const bytes = work;
  nnb_rans_symbol *const table_symbols =
      (nnb_rans_symbol *)(void *)(bytes + ((uintptr_t)0 - (uintptr_t)bytes) % _Alignof(nnb_rans_symbol));
  uint16_t *const slots = (uint16_t *)(void *)(table_symbols + (size_t)table_count * 256) + NNB_RANS_MARGIN;
  uint32_t largest = 1;
  for (uint32_t t = 0; t < table_count; t++) {
    uint32_t symbol_count = 0;
    for (size_t s = 0; s < 256; s++) symbol_count += frequencies[(size_t)t * 256 + s] != 0;
    largest = symbol_count > largest ? symbol_count : largest;
  }
  for (size_t t = 0; t < table_count; t++) {
    const nnb_status status = build_table(table_symbols + 256 * t, slots + (t << NNB_RANS_BITS), frequencies + 256 * t,
                                          nnb_rans_bucket_bits(largest));
    if (status != NNB_OK) return status;
  }
  nnb_memset(slots - NNB_RANS_MARGIN, 0, NNB_RANS_MARGIN * sizeof *slots);
  nnb_memset(slots + ((size_t)table_count << NNB_RANS_BITS), 0, NNB_RANS_MARGIN * sizeof *slots);

  nnb_rans_enc_job job = {.table_symbols = table_symbols,
                          .slots = slots,
                          .frequencies = frequencies,
                          .table_count = table_count,
                          .bucket_bits = nnb_rans_bucket_bits(largest),
                          .contexts = contexts,
                          .context_map = context_map,
                          .symbols = symbols,
                          .next = end,
                          .left = count,
                          .state_count = nnb_rans_state_count(count)};
  for (uint32_t i = 0; i < job.state_count; i++) job.states[i] = NNB_RANS_LOW;
  const nnb_status status = encode_job(path, &job);
  if (status != NNB_OK) return status;
  job.next -= 4 * (size_t)job.state_count;
  for (uint32_t i = 0; i < job.state_count; i++) {
    nnb_rans_store16(job.next + 4 * (size_t)i, job.states[i]);
    nnb_rans_store16(job.next + 4 * (size_t)i + 2, job.states[i] >> 16);
  }
  *start = job.next;
  return NNB_OK;
}

nnb_status nnb_rans_encode(nnb_rans_path path, const uint16_t *frequencies, uint32_t table_count,
                           const uint8_t *contexts, const uint8_t *context_map, const uint8_t *symbols, size_t count,
                           void *work, size_t work_size, uint8_t *out, size_t capacity, size_t *size) {
  const size_t bound = nnb_rans_bound(count);
  if (bound == SIZE_MAX || capacity < bound) return NNB_BUFFER_SIZE;
  uint8_t *start = out;
  const nnb_status status = nnb_rans_encode_before(path, frequencies, table_count, contexts, context_map, symbols,
                                                   count, work, work_size, out + bound, &start);
  if (status != NNB_OK) return status;
  *size = (size_t)(out + bound - start);
  nnb_memmove(out, start, *size);
  return NNB_OK;
}

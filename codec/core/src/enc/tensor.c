/* Arithmetic encoding of tensors (nnc-entropy sections 1, 2.2, 3.4 and 7.3). */
#include "enc/engine.h"
#include "enc/walk.h"

/*
 * Bytes that the bins of one level can settle at most: every context bin shifts by at most 7. The remainder has up to
 * 31 prefix bins and 31 bypass bins.
 */
static size_t level_bytes(uint32_t unary_length) { return (7 * (2 + (size_t)unary_length + 31) + 31 + 7) / 8; }

static nnb_status make_room(nnb_encoder *e, size_t bytes) {
  const size_t needed = e->size + bytes + NNB_ENC_SLACK;
  if (needed < bytes) return NNB_LIMIT;
  if (needed <= e->capacity) return NNB_OK;
  if (e->grow == NULL) return NNB_BUFFER_SIZE;
  size_t capacity = 0;
  uint8_t *const buffer = e->grow(e->user, e->buffer, e->size, needed, &capacity);
  if (buffer == NULL) return NNB_BUFFER_SIZE;
  e->buffer = buffer;
  e->capacity = capacity;
  return capacity >= needed ? NNB_OK : NNB_BUFFER_SIZE;
}

size_t nnb_encode_bound(const nnb_level_coding *codings, size_t count) {
  size_t bytes = 2 * NNB_ENC_SLACK;
  for (size_t i = 0; i < count; i++) {
    const nnb_level_coding *const c = &codings[i];
    if (nnb_check_coding(c) != NNB_OK) return SIZE_MAX;
    const size_t sets = (7 + 3) * nnb_ctx_count(c->unary_length) / 8 + 1;
    const size_t levels = (size_t)(c->height * c->width);
    const size_t each = level_bytes(c->unary_length);
    const size_t fixed = sets + (size_t)c->height + 4 + NNB_ENC_SLACK;
    if (levels > (SIZE_MAX - fixed) / each || levels * each + fixed > SIZE_MAX - bytes) return SIZE_MAX;
    bytes += levels * each + fixed;
  }
  return bytes;
}

/* The bins at bins[0 .. count - 1], with room for them in the buffer. */
NNB_INLINE void encode_bins(nnb_encoder *encoder, nnb_context *contexts, const uint16_t *bins, size_t count) {
  nnb_encoder e = *encoder;
  const uint16_t *const end = bins + count;
  while (bins < end) {
    const uint32_t entry = *bins++;
    if (NNB_UNLIKELY(entry >= NNB_BYPASS)) {
      nnb_encode_bypass(&e, (uint32_t)bins[0] << 16 | bins[1], entry - NNB_BYPASS);
      bins += 2;
    } else {
      nnb_encode_bin(&e, contexts + (entry >> 1), entry & 1);
    }
  }
  *encoder = e;
}

static void encode_bins_portable(nnb_encoder *encoder, nnb_context *contexts, const uint16_t *bins, size_t count) {
  encode_bins(encoder, contexts, bins, count);
}

#if NNB_X86_DISPATCH
NNB_TARGET("bmi,bmi2,lzcnt")
static void encode_bins_bmi2(nnb_encoder *encoder, nnb_context *contexts, const uint16_t *bins, size_t count) {
  encode_bins(encoder, contexts, bins, count);
}
#endif

typedef void encode_bins_fn(nnb_encoder *encoder, nnb_context *contexts, const uint16_t *bins, size_t count);

static encode_bins_fn *select_encode_bins(void) {
#if NNB_X86_DISPATCH
  if (nnb_cpu_has_bmi2()) return encode_bins_bmi2;
#endif
  return encode_bins_portable;
}

/* What the walk carries along. */
typedef struct job {
  nnb_encoder *encoder;
  nnb_context *contexts;
  nnb_entry_point *entry_points;
  size_t context_count;
  encode_bins_fn *encode;
  uint64_t position; /* of the last block row */
  uint64_t first_position;
} job;

/* Bytes for so many list entries: 7 bits each, 31 for the three of bypass bins. */
static size_t bytes_of_bins(size_t count) { return (11 * count + 7) / 8; }

static nnb_status take_bins(void *sink, const uint16_t *bins, size_t count) {
  job *const j = sink;
  nnb_status status = make_room(j->encoder, bytes_of_bins(count));
  if (status == NNB_OK) {
    j->encode(j->encoder, j->contexts, bins, count);
    return NNB_OK;
  }
  /* The bound is a wide one: go on in small steps as long as a buffer that does not grow lasts. */
  for (size_t at = 0, n; at < count; at += n) {
    n = bins[at] >= NNB_BYPASS ? 3 : 1;
    status = make_room(j->encoder, bytes_of_bins(n));
    if (status != NNB_OK) return status;
    j->encode(j->encoder, j->contexts, bins + at, n);
  }
  return NNB_OK;
}

static nnb_status start_row(void *sink, nnb_walk *walk, size_t row) {
  job *const j = sink;
  nnb_contexts_reset(j->contexts, j->context_count);
  walk->prev = 0;
  j->encoder->range = NNB_SCALED(256);
  const uint64_t position = nnb_encoder_position(j->encoder);
  if (row == 0) {
    j->first_position = position;
  } else if (j->entry_points != NULL) {
    nnb_entry_point *const entry = &j->entry_points[row - 1];
    entry->bit_offset = position - j->position;
    entry->cabac_offset = (uint16_t)(j->encoder->low & 511); /* V = bits of the payload - low, when they are known */
    entry->dq_state = (uint8_t)walk->state;
  }
  j->position = position;
  return NNB_OK;
}

void nnb_encoder_open(nnb_encoder *encoder, uint8_t *buffer, size_t capacity, nnb_grow_fn *grow, void *user) {
  encoder->buffer = buffer;
  encoder->size = 0;
  encoder->capacity = capacity;
  encoder->grow = grow;
  encoder->user = user;
  encoder->low = 0;
  encoder->range = NNB_SCALED(510);
  encoder->pending = 0;
}

static nnb_status encode_rows(nnb_encoder *encoder, nnb_context *row, const uint8_t *list, size_t height) {
  enum { TOGETHER = 64 };
  for (size_t at = 0; at < height; at += TOGETHER) {
    const size_t end = height - at < TOGETHER ? height : at + TOGETHER;
    const nnb_status status = make_room(encoder, end - at); /* 7 bits each at most */
    if (status != NNB_OK) return status;
    for (size_t r = at; r < end; r++) {
      if (list[r] > 1) return NNB_BAD_OPTION;
      nnb_encode_bin(encoder, row, list[r]);
    }
  }
  return NNB_OK;
}

static nnb_status encode_initial_sets(nnb_encoder *encoder, const nnb_level_coding *coding, nnb_context *contexts,
                                      const uint8_t *sets, int hist) {
  nnb_set_run runs[NNB_SET_RUNS];
  nnb_set_runs(coding, hist, runs);
  nnb_context *const par = contexts + nnb_ctx_par(coding->unary_length);
  const nnb_status status = make_room(encoder, (7 + 3) * nnb_ctx_count(coding->unary_length) / 8 + 1);
  if (status != NNB_OK) return status;
  for (int i = 0; i < NNB_SET_RUNS; i++) {
    for (size_t c = runs[i].first; c < runs[i].first + runs[i].present; c++) {
      const unsigned set = sets != NULL ? sets[c] : 0;
      if (set >= NNB_INITIAL_SET_COUNT) return NNB_BAD_OPTION;
      nnb_encode_bin(encoder, par, set != 0);
      if (set != 0) {
        nnb_encode_bypass(encoder, set - 1, 3);
        nnb_context_init(&contexts[c], set);
      }
    }
  }
  return NNB_OK;
}

static nnb_status encode_head(nnb_encoder *encoder, const nnb_level_coding *coding, const nnb_source *source) {
  nnb_status status = make_room(encoder, 8);
  if (status != NNB_OK) return status;
  if (coding->qp_bits > 0) {
    const int32_t half = (int32_t)1 << (coding->qp_bits - 1);
    if (source->qp_value < -half || source->qp_value >= half) return NNB_VALUE_RANGE;
    nnb_encode_bypass(encoder, (uint32_t)source->qp_value & (2 * (uint32_t)half - 1), coding->qp_bits);
  }
  nnb_contexts_start(source->contexts, nnb_ctx_count(coding->unary_length));
  const int hist = source->hist_dep_sig_prob_enabled_flag;
  if (nnb_has_row_flags(coding)) {
    if (coding->parent) nnb_encode_bypass(encoder, hist != 0, 1);
    nnb_encode_bypass(encoder, source->row_skip_list != NULL, 1);
    if (source->row_skip_list != NULL) {
      nnb_context *const row = source->contexts + nnb_ctx_row(coding->unary_length);
      status = encode_rows(encoder, row, source->row_skip_list, (size_t)coding->height);
      if (status != NNB_OK) return status;
    }
  }
  return encode_initial_sets(encoder, coding, source->contexts, source->initial_sets, hist);
}

nnb_status nnb_encode_tensor(nnb_encoder *encoder, const nnb_level_coding *coding, const nnb_source *source,
                             uint64_t *first_position) {
  nnb_walk walk;
  nnb_status status = nnb_walk_init(&walk, coding, source);
  if (status != NNB_OK) return status;
  status = encode_head(encoder, coding, source);
  if (status != NNB_OK) return status;
  job j = {
      .encoder = encoder,
      .contexts = source->contexts,
      .entry_points = source->entry_points,
      .context_count = nnb_ctx_count(coding->unary_length),
      .encode = select_encode_bins(),
  };
  j.position = j.first_position = nnb_encoder_position(encoder);
  walk.sink = &j;
  walk.take_bins = take_bins;
  walk.start_row = start_row;
  status = nnb_walk_tensor(&walk);
  if (first_position != NULL) *first_position = j.first_position;
  return status;
}

nnb_status nnb_encoder_finish(nnb_encoder *encoder) {
  nnb_status status = make_room(encoder, 16);
  if (status != NNB_OK) return status;
  encoder->low = (encoder->low + (encoder->range >> NNB_R_SHIFT) - 2) | 1;
  const uint32_t bits = 9 + (uint32_t)encoder->pending; /* 9 .. 40 */
  if (encoder->low >> bits) nnb_propagate_carry(encoder->buffer, encoder->size);
  const uint64_t left = encoder->low << (64 - bits);
  for (uint32_t done = 0; done < bits; done += 8) encoder->buffer[encoder->size++] = (uint8_t)(left >> (56 - done));
  return NNB_OK;
}

nnb_status nnb_resolve_entry_points(const uint8_t *payload, size_t size, uint64_t first_position,
                                    nnb_entry_point *entry_points, size_t count) {
  uint64_t position = first_position;
  for (size_t i = 0; i < count; i++) {
    position += entry_points[i].bit_offset;
    if (position + 9 > 8 * (uint64_t)size) return NNB_ENTRY_POINT;
    const size_t byte = (size_t)(position >> 3);
    const uint32_t two = (uint32_t)payload[byte] << 8 | payload[byte + 1]; /* nine bits never fit in one byte */
    const uint32_t nine = two >> (7 - (uint32_t)(position & 7)) & 511;
    entry_points[i].cabac_offset = (uint16_t)((nine - entry_points[i].cabac_offset) & 511);
  }
  return NNB_OK;
}

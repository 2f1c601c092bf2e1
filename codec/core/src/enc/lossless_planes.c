#include "enc/lossless_encoder.h"
#include "enc/rans.h"

enum { FEW = 65536 }; /* fewer bytes than these are not sampled */

static uint32_t sum_squares(uint32_t parts[4][256]) {
  uint32_t squares = 0;
  for (unsigned i = 0; i < 256; i++) {
    const uint32_t all = parts[0][i] + parts[1][i] + parts[2][i] + parts[3][i];
    squares += all * all;
  }
  return squares;
}

int nnb_is_even(const uint8_t *data, size_t runs, size_t run, size_t stride) {
  uint32_t parts[4][256] = {{0}};
  const uint32_t count = (uint32_t)(runs * run);
  const uint32_t most = count * count / 256 / 100 * 105 + count; /* of equally frequent ones it is less */
  for (size_t at = 0; at < runs; at++, data += stride) {
    if (at == runs / 4 && sum_squares(parts) >= most) return 0;
    nnb_rans_count_symbols(data, run, parts);
  }
  return sum_squares(parts) < most;
}

int nnb_looks_random(const uint8_t *data, size_t count) {
  enum { RUN = 64, RUNS = 64 };
  return count >= 4 * RUN * RUNS && nnb_is_even(data, RUNS, RUN, (count - RUN) / RUNS);
}

void nnb_make_map(uint8_t *map, unsigned tables, int modulo) {
  for (unsigned i = 0; i < 256; i++) map[i] = (uint8_t)(modulo ? i % tables : i < tables ? i : tables - 1);
}

/* As nnb_estimate_plane(), which leaves no frequencies behind where it sees early that the size is not below `most`. */
static size_t estimate(nnb_encoder *e, const uint8_t *data, size_t count, const uint8_t *contexts, const uint8_t *map,
                       unsigned tables, size_t most) {
  const int sampled = e->choice->speed != NNB_LOSSLESS_SMALL || (data != e->symbols && contexts == NULL);
  if ((sampled ? nnb_rans_sample_histogram(data, contexts, map, count, tables, e->histograms)
               : nnb_rans_histogram(data, contexts, map, count, tables, e->histograms)) != NNB_OK) {
    e->failed = 1;
    return SIZE_MAX;
  }
  const size_t states = 4 * (size_t)nnb_rans_state_count(count);
  if (tables == 1 && count < FEW) {
    const size_t least = nnb_rans_least_size(e->histograms) + states;
    if (least >= most) return least;
  }
  uint64_t cost = 0, counted = 0;
  for (size_t i = 0; i < (size_t)tables * 256; i++) counted += e->histograms[i];
  for (unsigned t = 0; t < tables; t++) {
    nnb_rans_normalize(e->histograms + t * 256, e->frequencies + t * 256);
    cost += nnb_rans_cost(e->histograms + t * 256, e->frequencies + t * 256);
  }
  const size_t bytes = (size_t)(cost >> 19) + 1;
  return (counted < count ? (size_t)((uint64_t)bytes * count / counted) : bytes) +
         nnb_rans_write_tables(e->frequencies, tables, NULL, SIZE_MAX) + states;
}

size_t nnb_estimate_plane(nnb_encoder *e, const uint8_t *data, size_t count, const uint8_t *contexts,
                          const uint8_t *map, unsigned tables) {
  return estimate(e, data, count, contexts, map, tables, SIZE_MAX);
}

void nnb_write_code(nnb_encoder *e, const uint8_t *data, size_t count, const uint16_t *frequencies,
                    const uint8_t *contexts, const uint8_t *map, unsigned tables, int with_tables) {
  nnb_put_u32(e, 0);
  const size_t start = e->used;
  if (e->failed) return;
  if (with_tables) e->used += nnb_rans_write_tables(frequencies, tables, e->out + e->used, e->capacity - e->used);
  uint8_t *const end = e->code + e->code_size, *code = end;
  if (nnb_rans_encode_before(NNB_RANS_AUTO, frequencies, tables, contexts, map, data, count, e->rans_work,
                             nnb_rans_work_size(NNB_ENC_TABLES), end, &code) != NNB_OK) {
    e->failed = 1;
    return;
  }
  nnb_put_bytes(e, code, (size_t)(end - code));
  nnb_store_le32(e->out + start - 4, (uint32_t)(e->used - start));
}

static void write_rans(nnb_encoder *e, const uint8_t *data, size_t count, const uint16_t *frequencies,
                       const uint8_t *contexts, const uint8_t *map, unsigned tables) {
  nnb_put_u8(e, NNB_PLANE_RANS);
  nnb_write_code(e, data, count, frequencies, contexts, map, tables, 1);
}

int nnb_all_equal(const uint8_t *data, size_t count) {
  for (size_t i = 1; i < count; i++)
    if (data[i] != data[0]) return 0;
  return 1;
}

void nnb_write_plane(nnb_encoder *e, const uint8_t *data, size_t count) {
  if (count && nnb_all_equal(data, count)) {
    nnb_put_u8(e, NNB_PLANE_CONSTANT);
    nnb_put_u8(e, data[0]);
    return;
  }
  if (!e->choice->planes_raw && count > 16 && !nnb_looks_random(data, count)) {
    const size_t gain = e->choice->speed == NNB_LOSSLESS_SMALL ? count / 512 : count / 100;
    const size_t start = e->used;
    const size_t most = count > gain + 5 ? count - gain - 5 : 0;
    if (estimate(e, data, count, NULL, NULL, 1, most) < most) {
      write_rans(e, data, count, e->frequencies, NULL, NULL, 1);
      if (e->used - start < count) return;
      e->used = start;
    }
  }
  nnb_put_u8(e, NNB_PLANE_RAW);
  nnb_put_bytes(e, data, count);
}

void nnb_write_scaled_plane(nnb_encoder *e, const uint8_t *data, size_t count, unsigned tables, int modulo) {
  uint8_t map[256];
  nnb_make_map(map, tables, modulo);
  write_rans(e, data, count, e->scaled_frequencies, e->contexts, map, tables);
}

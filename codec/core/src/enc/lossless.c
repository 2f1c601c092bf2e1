#include "enc/lossless.h"

#include "enc/rans.h"

#define MAX_TABLES NNB_BYTES_TABLES
#define FEW_SYMBOLS 64u /* alphabets up to here are decoded fastest */

typedef struct encoder {
  const nnb_lossless_choice *choice;
  size_t row_items;
  uint8_t *out;
  size_t capacity, used;
  int failed; /* out is too small, or a part of the core refused what it should not */
  uint32_t *histograms;
  uint16_t *frequencies, *scaled_frequencies;
  uint8_t *rans_work;
  uint16_t *highs, *measures;
  uint8_t *symbols, *contexts, *field, *bytes[8];
  uint8_t *code; /* of rANS */
  size_t code_size;
  uint8_t *map, *mask, *classes, *dense, *narrow, *delta;
  uint8_t *row_scales, *column_scales;
  int64_t *sums;
  const uint8_t *present;
  size_t present_count;
} encoder;

static size_t lay_out(const nnb_items *items, size_t capacity, uint8_t *work, encoder *e) {
  size_t size = 0;
#define PART(name, bytes)                              \
  do {                                                 \
    if (work != NULL) e->name = (void *)(work + size); \
    size += ((bytes) + (size_t)127) & ~(size_t)63;     \
  } while (0)
  PART(histograms, MAX_TABLES * 256 * sizeof(uint32_t));
  PART(frequencies, MAX_TABLES * 256 * sizeof(uint16_t));
  PART(scaled_frequencies, MAX_TABLES * 256 * sizeof(uint16_t));
  PART(rans_work, nnb_rans_work_size(MAX_TABLES));
  PART(highs, capacity * 2);
  PART(measures, capacity * 2 + 1024 * 10); /* a hash table, too */
  PART(symbols, items->packed_bits ? capacity * 3 : capacity);
  PART(code, nnb_rans_bound(items->packed_bits ? capacity * 3 : capacity));
  PART(contexts, capacity);
  PART(field, capacity);
  for (unsigned i = 0; i < items->bytes || i < 4; i++) PART(bytes[i], capacity); /* scales have 4 bytes */
  PART(map, capacity);
  PART(mask, capacity / 8 + 1);
  PART(classes, capacity * items->bytes);
  PART(dense, capacity * items->bytes);
  PART(narrow, capacity * items->bytes / 2);
  PART(delta, capacity * items->bytes);
  PART(row_scales, capacity);
  PART(column_scales, capacity);
  PART(sums, capacity * 3 * sizeof(int64_t));
#undef PART
  if (work != NULL) e->code_size = nnb_rans_bound(items->packed_bits ? capacity * 3 : capacity);
  return size;
}

/* ---- writing ---- */

static uint8_t *claim(encoder *e, size_t size) {
  if (e->failed || e->capacity - e->used < size) {
    e->failed = 1;
    return NULL;
  }
  e->used += size;
  return e->out + e->used - size;
}

static void put_u8(encoder *e, unsigned value) {
  uint8_t *const p = claim(e, 1);
  if (p != NULL) *p = (uint8_t)value;
}

static void put_u32(encoder *e, size_t value) {
  uint8_t *const p = claim(e, 4);
  if (p != NULL) nnb_store_le32(p, (uint32_t)value);
}

static void put_bytes(encoder *e, const uint8_t *data, size_t size) {
  uint8_t *const p = claim(e, size);
  if (p != NULL) nnb_memcpy(p, data, size);
}

/* Whether bytes are about equally frequent; the first `run` of each `stride`. */
static int is_even(const uint8_t *data, size_t runs, size_t run, size_t stride) {
  uint16_t histogram[2][256] = {{0}};
  for (size_t at = 0; at < runs; at++, data += stride) {
    for (size_t i = 0; i + 1 < run; i += 2) {
      histogram[0][data[i]]++;
      histogram[1][data[i + 1]]++;
    }
  }
  const uint32_t count = (uint32_t)(runs * (run & ~(size_t)1));
  uint32_t squares = 0;
  for (unsigned i = 0; i < 256; i++) {
    const uint32_t both = (uint32_t)histogram[0][i] + histogram[1][i];
    squares += both * both;
  }
  return squares < count * count / 256 / 100 * 105 + count;
}

/* Whether a sample says that there is nothing to gain. */
static int looks_random(const uint8_t *data, size_t count) {
  enum { RUN = 64, RUNS = 64 };
  return count >= 4 * RUN * RUNS && is_even(data, RUNS, RUN, (count - RUN) / RUNS);
}

static void make_map(uint8_t *map, unsigned tables, int modulo) {
  for (unsigned i = 0; i < 256; i++) map[i] = (uint8_t)(modulo ? i % tables : i < tables ? i : tables - 1);
}

/* Size of the plane's code, if it is worth it, else SIZE_MAX; leaves histograms and frequencies behind. */
static size_t estimate(encoder *e, const uint8_t *data, size_t count, const uint8_t *contexts, const uint8_t *map,
                       unsigned tables) {
  const int sampled = e->choice->speed != NNB_LOSSLESS_SMALL;
  if ((sampled ? nnb_rans_sample_histogram(data, contexts, map, count, tables, e->histograms)
               : nnb_rans_histogram(data, contexts, map, count, tables, e->histograms)) != NNB_OK) {
    e->failed = 1;
    return SIZE_MAX;
  }
  uint64_t cost = 0, counted = 0;
  for (size_t i = 0; i < (size_t)tables * 256; i++) counted += e->histograms[i];
  for (unsigned t = 0; t < tables; t++) {
    nnb_rans_normalize(e->histograms + t * 256, e->frequencies + t * 256);
    cost += nnb_rans_cost(e->histograms + t * 256, e->frequencies + t * 256);
  }
  const size_t bytes = (size_t)(cost >> 19) + 1;
  return (counted < count ? (size_t)((uint64_t)bytes * count / counted) : bytes) +
         nnb_rans_write_tables(e->frequencies, tables, NULL, SIZE_MAX) + 4 * (size_t)nnb_rans_state_count(count);
}

static void write_rans(encoder *e, const uint8_t *data, size_t count, const uint16_t *frequencies,
                       const uint8_t *contexts, const uint8_t *map, unsigned tables) {
  put_u8(e, NNB_PLANE_RANS);
  put_u32(e, 0);
  const size_t start = e->used;
  if (e->failed) return;
  e->used += nnb_rans_write_tables(frequencies, tables, e->out + e->used, e->capacity - e->used);
  uint8_t *const end = e->code + e->code_size, *code = end;
  if (nnb_rans_encode_before(NNB_RANS_AUTO, frequencies, tables, contexts, map, data, count, e->rans_work,
                             nnb_rans_work_size(MAX_TABLES), end, &code) != NNB_OK) {
    e->failed = 1;
    return;
  }
  put_bytes(e, code, (size_t)(end - code));
  nnb_store_le32(e->out + start - 4, (uint32_t)(e->used - start));
}

static int all_equal(const uint8_t *data, size_t count) {
  for (size_t i = 1; i < count; i++)
    if (data[i] != data[0]) return 0;
  return 1;
}

static void write_plane(encoder *e, const uint8_t *data, size_t count) {
  if (count && all_equal(data, count)) {
    put_u8(e, NNB_PLANE_CONSTANT);
    put_u8(e, data[0]);
    return;
  }
  if (!e->choice->planes_raw && count > 16 && !looks_random(data, count)) {
    const size_t gain = e->choice->speed == NNB_LOSSLESS_SMALL ? count / 512 : count / 100;
    const size_t start = e->used;
    if (estimate(e, data, count, NULL, NULL, 1) + gain + 5 < count) {
      write_rans(e, data, count, e->frequencies, NULL, NULL, 1);
      if (e->used - start < count) return;
      e->used = start;
    }
  }
  put_u8(e, NNB_PLANE_RAW);
  put_bytes(e, data, count);
}

/* With scaled_frequencies. */
static void write_scaled_plane(encoder *e, const uint8_t *data, size_t count, unsigned tables, int modulo) {
  uint8_t map[256];
  make_map(map, tables, modulo);
  write_rans(e, data, count, e->scaled_frequencies, e->contexts, map, tables);
}

/* ---- codings ---- */

static void write_raw(encoder *e, const nnb_items *items, const void *values, size_t count) {
  put_u8(e, NNB_CODING_RAW);
  uint8_t *const out = claim(e, count * items->bytes);
  if (out == NULL) return;
  uint8_t *planes[8];
  for (unsigned i = 0; i < items->bytes; i++) planes[i] = out + i * count;
  nnb_divide_bytes(items, values, count, planes);
}

static void write_constant(encoder *e, const nnb_items *items, const void *values) {
  put_u8(e, NNB_CODING_CONSTANT);
  const uint64_t item = nnb_item(items, values, 0);
  for (unsigned i = 0; i < items->bytes; i++) put_u8(e, (unsigned)(item >> (8 * i)) & 255u);
}

/* Mantissa bits for coding FLOAT: more where magnitudes are so close together that few symbols hold them. */
static unsigned choose_upper(const encoder *e, const nnb_items *items, const nnb_survey *survey, size_t count) {
  enum { ENOUGH = 16384 }; /* items for larger tables */
  if (items->bytes == 1 || e->choice->planes_raw || e->choice->speed == NNB_LOSSLESS_FAST) return 0;
  unsigned upper = e->choice->speed == NNB_LOSSLESS_BALANCED && e->present == NULL ? 1 : 2;
  while (count >= ENOUGH && upper < NNB_MAX_UPPER) {
    const unsigned shift = items->mantissa_bits - upper - 1u;
    if ((survey->greatest >> shift) - (survey->least >> shift) >= FEW_SYMBOLS) break;
    upper++;
  }
  return upper;
}

/* Symbols and contexts under scales of rows and columns; returns whether that is smaller than `plain` bytes. */
static int scale_symbols(encoder *e, size_t count, unsigned upper, unsigned widest, size_t plain, uint32_t *base,
                         size_t *escapes) {
  const size_t positions = e->present != NULL ? e->present_count : count;
  if (e->row_items >= positions && e->row_items > 4096) return 0;
  nnb_clamp_measures(e->highs, count, 16u << upper, e->measures);
  nnb_scales scales = {.rows = e->row_scales, .columns = e->column_scales, .contexts = e->contexts};
  if (!nnb_find_scales(e->measures, e->present, positions, e->row_items, 4u << upper, 255, e->sums, &scales)) return 0;
  int32_t first;
  const size_t escaped =
      nnb_scale_symbols(e->highs, e->contexts, count, upper, widest, (int16_t *)e->measures, e->symbols, &first);
  uint8_t map[256];
  make_map(map, NNB_SCALE_TABLES, 1);
  size_t size = estimate(e, e->symbols, count, e->contexts, map, NNB_SCALE_TABLES) + 2 * escaped;
  size += scales.row_count * 5 / 8 + scales.column_count * 5 / 8;
  nnb_memcpy(e->scaled_frequencies, e->frequencies, NNB_SCALE_TABLES * 256 * sizeof *e->frequencies);
  *base = (uint32_t)first & 0xffffu;
  *escapes = escaped;
  return size < plain;
}

static size_t count_up_to(const uint16_t *highs, size_t count, unsigned last) {
  size_t found = 0;
  for (size_t i = 0; i < count; i++) found += highs[i] <= last;
  return found;
}

static void make_symbols(const uint16_t *highs, size_t count, uint32_t base, uint8_t *symbols) {
  for (size_t i = 0; i < count; i++) symbols[i] = (uint8_t)(highs[i] < base ? 0 : highs[i] - base);
}

/* Whether a sample of what remains of the items says that there is nothing to gain. */
static int lows_look_random(const encoder *e, const nnb_items *items, const void *values, size_t count,
                            nnb_division division) {
  enum { RUN = 128, RUNS = 64 };
  if (e->choice->planes_raw) return 1;
  if (count < 2 * RUN * RUNS) return 0;
  const size_t stride = (count - RUN) / RUNS * items->bytes, run = (size_t)RUN * items->bytes;
  for (size_t i = 0; i < RUNS; i++) nnb_memcpy(e->delta + i * run, (const uint8_t *)values + i * stride, run);
  nnb_float_lows(items, e->delta, RUN * RUNS, division, e->field, e->bytes);
  if (division.field && !is_even(e->field, 1, (size_t)RUN * RUNS / 8 * division.field, 0)) return 0;
  for (unsigned i = 0; i < division.bytes; i++)
    if (!is_even(e->bytes[i], 1, (size_t)RUN * RUNS, 0)) return 0;
  return 1;
}

static void write_raw_lows(encoder *e, const nnb_items *items, const void *values, size_t count,
                           nnb_division division) {
  const size_t sizes[2] = {count, (count * division.field + 7) / 8};
  uint8_t *planes[8] = {0};
  for (unsigned i = division.field ? 0 : 1; i <= division.bytes; i++) { /* the field is the first */
    put_u8(e, NNB_PLANE_RAW);
    planes[i] = claim(e, sizes[i == 0]);
  }
  if (!e->failed) nnb_float_lows(items, values, count, division, planes[0], planes + 1);
}

static void write_lows(encoder *e, const nnb_items *items, const void *values, size_t count, nnb_division division) {
  if (lows_look_random(e, items, values, count, division)) {
    write_raw_lows(e, items, values, count, division);
    return;
  }
  nnb_float_lows(items, values, count, division, e->field, e->bytes);
  if (division.field) {
    const size_t size = (count * division.field + 7) / 8;
    if (e->field[0] != 0 && all_equal(e->field, size)) {
      put_u8(e, NNB_PLANE_RAW);
      put_bytes(e, e->field, size);
    } else {
      write_plane(e, e->field, size);
    }
  }
  for (unsigned i = 0; i < division.bytes; i++) write_plane(e, e->bytes[i], count);
}

static void write_float(encoder *e, const nnb_items *items, const void *values, size_t count,
                        const nnb_survey *survey) {
  const unsigned upper = choose_upper(e, items, survey, count);
  const nnb_division division = nnb_divide(items, upper);
  const uint64_t greatest = survey->greatest >> division.shift, least = survey->least >> division.shift;
  const int small = e->choice->speed == NNB_LOSSLESS_SMALL && !e->choice->planes_raw && count >= 1024;
  unsigned widest = FEW_SYMBOLS;
  uint32_t base = (uint32_t)least;
  size_t escapes = 0;
  if (small || greatest - least >= widest) {
    nnb_float_highs(items, values, count, division.shift, e->highs);
    if (greatest - least >= widest) {
      escapes = count_up_to(e->highs, count, (unsigned)greatest - widest + 1);
      if (escapes > count / 1024) widest = 256;
      escapes = greatest - least < widest ? 0 : count_up_to(e->highs, count, (unsigned)greatest - widest + 1);
      if (greatest - least >= widest) base = (uint32_t)greatest - widest + 1;
    }
    make_symbols(e->highs, count, base, e->symbols);
  } else {
    nnb_float_symbols(items, values, count, division.shift, base, e->symbols);
  }
  int scaled = 0;
  if (small) {
    const size_t plain = estimate(e, e->symbols, count, NULL, NULL, 1) + 2 * escapes, plain_escapes = escapes;
    uint32_t scaled_base = base;
    scaled = scale_symbols(e, count, upper, widest, plain, &scaled_base, &escapes);
    if (scaled) {
      base = scaled_base;
    } else {
      escapes = plain_escapes;
      make_symbols(e->highs, count, base, e->symbols);
    }
  }
  put_u8(e, NNB_CODING_FLOAT);
  put_u8(e, upper);
  put_u8(e, (escapes ? NNB_FLOAT_ESCAPES : 0u) | (scaled ? NNB_FLOAT_SCALED : 0u));
  put_u8(e, base & 255u);
  put_u8(e, base >> 8 & 255u);
  if (scaled) {
    const size_t positions = e->present != NULL ? e->present_count : count;
    write_plane(e, e->row_scales, (positions + e->row_items - 1) / e->row_items);
    write_plane(e, e->column_scales, positions < e->row_items ? positions : e->row_items);
    write_scaled_plane(e, e->symbols, count, NNB_SCALE_TABLES, 1);
  } else {
    write_plane(e, e->symbols, count);
  }
  write_lows(e, items, values, count, division);
  if (escapes) {
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
      if (e->symbols[i] != 0) continue;
      e->bytes[0][found] = (uint8_t)e->highs[i];
      e->bytes[1][found++] = (uint8_t)(e->highs[i] >> 8);
    }
    put_u32(e, found);
    write_plane(e, e->bytes[0], found);
    write_plane(e, e->bytes[1], found);
  }
}

static void write_table(encoder *e, const nnb_items *items, const uint8_t *table, size_t entries, size_t count) {
  put_u8(e, NNB_CODING_TABLE);
  put_u8(e, (unsigned)entries - 1);
  put_bytes(e, table, entries * items->bytes);
  write_plane(e, e->symbols, count);
}

static void write_bytes(encoder *e, const nnb_items *items, const void *values, size_t count, int delta) {
  if (delta) {
    nnb_delta(items, values, count, e->delta);
    values = e->delta;
  }
  put_u8(e, NNB_CODING_BYTES);
  put_u8(e, delta ? NNB_BYTES_DELTA : 0);
  if (items->bytes == 1) {
    write_plane(e, values, count);
    return;
  }
  nnb_divide_bytes(items, values, count, e->bytes);
  for (unsigned i = 0; i < items->bytes; i++) write_plane(e, e->bytes[i], count);
}

/* Sixteenfold logarithms of 1 + the absolute value of a signed byte; of the byte itself where `plain`. */
static void measure_bytes(const uint8_t *values, size_t count, uint16_t *measures) {
  uint16_t table[256];
  for (unsigned v = 0; v < 256; v++) {
    unsigned magnitude = (v < 128 ? v : 256 - v) + 1, octave = 0;
    while (magnitude >> (octave + 1)) octave++;
    table[v] = (uint16_t)(16 * octave + ((magnitude << 4 >> octave) & 15u));
  }
  for (size_t i = 0; i < count; i++) measures[i] = table[values[i]];
}

static void write_scaled_bytes(encoder *e, const void *values, size_t count) {
  uint8_t map[256];
  make_map(map, NNB_BYTES_TABLES, 0);
  (void)estimate(e, values, count, e->contexts, map, NNB_BYTES_TABLES);
  nnb_memcpy(e->scaled_frequencies, e->frequencies, NNB_BYTES_TABLES * 256 * sizeof *e->frequencies);
  put_u8(e, NNB_CODING_BYTES);
  put_u8(e, NNB_BYTES_SCALED);
  const size_t positions = e->present != NULL ? e->present_count : count;
  write_plane(e, e->row_scales, (positions + e->row_items - 1) / e->row_items);
  write_plane(e, e->column_scales, positions < e->row_items ? positions : e->row_items);
  write_scaled_plane(e, values, count, NNB_BYTES_TABLES, 0);
}

static void write_unpacked(encoder *e, const nnb_items *items, const void *values, size_t count) {
  const size_t elements = nnb_unpack(items->packed_bits, values, count, e->symbols);
  put_u8(e, NNB_CODING_UNPACKED);
  write_plane(e, e->symbols, elements);
}

/* Keeps the shorter of what was written from `start` to `middle` and from there to the end. */
static void keep_shorter(encoder *e, size_t start, size_t middle) {
  if (e->failed) return;
  const size_t first = middle - start, second = e->used - middle;
  if (second < first) {
    for (size_t i = 0; i < second; i++) e->out[start + i] = e->out[middle + i];
    e->used = start + second;
  } else {
    e->used = middle;
  }
}

static int forced(const encoder *e, unsigned coding) { return e->choice->force == coding + 1; }

static int few_different(const encoder *e, const nnb_items *items, const void *values, size_t count) {
  enum { SAMPLES = 512 };
  (void)e;
  if (items->bytes == 1) return 0;
  if (count <= SAMPLES) return 1;
  uint16_t seen[1024] = {0};
  unsigned different = 0;
  const size_t stride = count / SAMPLES;
  for (size_t i = 0; i < SAMPLES; i++) {
    const uint32_t hash = (uint32_t)(nnb_item(items, values, i * stride) * UINT64_C(0x9E3779B97F4A7C15) >> 54);
    different += seen[hash] == 0;
    seen[hash] = 1;
  }
  return different <= 256; /* that many from 512 of 256 equally frequent ones are not to be expected */
}

static void write_leaf(encoder *e, const nnb_items *items, const void *values, size_t count) {
  const size_t start = e->used;
  if (forced(e, NNB_CODING_RAW)) {
    write_raw(e, items, values, count);
    return;
  }
  nnb_survey survey;
  nnb_survey_items(items, values, count, &survey);
  if (survey.equal && (e->choice->force == 0 || forced(e, NNB_CODING_CONSTANT))) {
    write_constant(e, items, values);
    return;
  }
  if (items->packed_bits && e->present == NULL && (e->choice->force == 0 || forced(e, NNB_CODING_UNPACKED))) {
    write_unpacked(e, items, values, count);
  } else if (items->bytes > 1 &&
             (forced(e, NNB_CODING_TABLE) || (e->choice->force == 0 && few_different(e, items, values, count)))) {
    uint8_t table[256 * 8];
    const size_t entries = nnb_find_table(items, values, count, table, e->symbols, e->measures);
    if (entries) write_table(e, items, table, entries, count);
  }
  const size_t after_table = e->used;
  if (after_table == start || (e->choice->force == 0 && count < 4096)) {
    if (items->mantissa_bits && (e->choice->force == 0 || !forced(e, NNB_CODING_BYTES))) {
      write_float(e, items, values, count, &survey);
    } else {
      write_bytes(e, items, values, count, 0);
      const size_t plain = e->used - after_table;
      if (items->bytes > 1 && count > 1 && !e->choice->planes_raw) {
        const size_t middle = e->used;
        write_bytes(e, items, values, count, 1);
        keep_shorter(e, after_table, middle);
      } else if (items->bytes == 1 && count >= 1024 && e->choice->speed == NNB_LOSSLESS_SMALL &&
                 !e->choice->planes_raw) {
        const size_t positions = e->present != NULL ? e->present_count : count;
        nnb_scales scales = {.rows = e->row_scales, .columns = e->column_scales, .contexts = e->contexts};
        measure_bytes(values, count, e->measures);
        if (plain > 64 && nnb_find_scales(e->measures, e->present, positions, e->row_items, 5 * 16,
                                          NNB_BYTES_TABLES - 1, e->sums, &scales)) {
          const size_t middle = e->used;
          write_scaled_bytes(e, values, count);
          keep_shorter(e, after_table, middle);
        }
      }
    }
    if (after_table != start) keep_shorter(e, start, after_table);
  }
  if (e->choice->force == 0 && !e->failed && e->used - start > count * items->bytes) {
    e->used = start;
    write_raw(e, items, values, count);
  }
}

static void write_narrow(encoder *e, const nnb_items *items, const void *values, size_t count) {
  const nnb_items narrow = nnb_narrow_items(items);
  if (narrow.mantissa_bits && (e->choice->force == 0 || forced(e, NNB_CODING_NARROW)) &&
      nnb_narrow(items, values, count, e->narrow)) {
    nnb_survey survey;
    nnb_survey_items(items, values, count, &survey);
    if (!survey.equal || forced(e, NNB_CODING_NARROW)) {
      put_u8(e, NNB_CODING_NARROW);
      write_leaf(e, &narrow, e->narrow, count);
      return;
    }
  }
  write_leaf(e, items, values, count);
}

/* Returns whether the items are multiples, and are written. */
static int write_multiples(encoder *e, const nnb_items *items, const void *values, size_t count) {
  static const nnb_items scale_items = {4, 23, 0}, integer_items = {1, 0, 0};
  size_t length, scales;
  uint8_t *const integers = e->delta, *const offsets = e->delta + count;
  if (!nnb_probe_multiples(items, values, count, e->row_items, integers, &length) ||
      !nnb_find_multiples(items, values, count, e->row_items, length, (nnb_any32 *)e->dense, offsets, integers,
                          &scales))
    return 0;
  put_u8(e, NNB_CODING_MULTIPLES);
  put_u32(e, length);
  write_narrow(e, &scale_items, e->dense, scales);
  write_leaf(e, &integer_items, integers, count);
  write_plane(e, offsets, scales);
  return 1;
}

/* Whether no other coding can be shorter: of numbers of which many are different, none takes less than 9 bits. */
static int surely_shorter(const encoder *e, const nnb_items *items, const void *values, size_t count, size_t size) {
  nnb_survey survey;
  nnb_survey_items(items, values, count, &survey);
  return size < (count - survey.zeros) * 9 / 8 && !few_different(e, items, values, count);
}

/* Returns whether so few items are different, and they are written. */
static int write_dictionary(encoder *e, const nnb_items *items, const void *values, size_t count) {
  static const nnb_items index_items = {2, 0, 0};
  const int always = forced(e, NNB_CODING_DICTIONARY);
  if (items->bytes < 4 || !(always || nnb_probe_dictionary(items, values, count))) return 0;
  const size_t limit = always ? count : count / 4, most = limit < NNB_MAX_ENTRIES ? limit : NNB_MAX_ENTRIES;
  nnb_any16 *const indices = (nnb_any16 *)(void *)e->narrow;
  const size_t entries =
      nnb_find_dictionary(items, values, count, most, e->dense, indices, (uint32_t *)(void *)e->sums);
  if (entries == 0) return 0;
  put_u8(e, NNB_CODING_DICTIONARY);
  put_u8(e, (unsigned)(entries - 1) & 255u);
  put_u8(e, (unsigned)(entries - 1) >> 8);
  write_leaf(e, items, e->dense, entries);
  write_leaf(e, &index_items, indices, count);
  return 1;
}

static void write_any(encoder *e, const nnb_items *items, const void *values, size_t count);

static void write_group(encoder *e, const nnb_items *items, const void *values, size_t count) {
  const size_t start = e->used;
  e->present = NULL;
  const int any = e->choice->force == 0;
  const int multiples = (any || forced(e, NNB_CODING_MULTIPLES)) && write_multiples(e, items, values, count);
  const int dictionary =
      !multiples && (any || forced(e, NNB_CODING_DICTIONARY)) && write_dictionary(e, items, values, count);
  const size_t middle = e->used;
  if ((multiples || dictionary) && !any) return;
  if (multiples && surely_shorter(e, items, values, count, middle - start)) return;
  write_any(e, items, values, count);
  if (multiples || dictionary) keep_shorter(e, start, middle);
}

static void write_any(encoder *e, const nnb_items *items, const void *values, size_t count) {
  if (!items->packed_bits && (e->choice->force == 0 || forced(e, NNB_CODING_MASK)) && !e->choice->planes_raw) {
    nnb_survey survey;
    nnb_survey_items(items, values, count, &survey);
    const size_t share = items->bytes == 1 ? 3 : 16;
    if (survey.zeros && survey.zeros < count && (survey.zeros > count / share || forced(e, NNB_CODING_MASK))) {
      const size_t kept = nnb_compact(items, values, count, e->mask, e->dense);
      put_u8(e, NNB_CODING_MASK);
      write_plane(e, e->mask, (count + 7) / 8);
      e->present = e->mask;
      e->present_count = count;
      write_narrow(e, items, e->dense, kept);
      e->present = NULL;
      return;
    }
  }
  write_narrow(e, items, values, count);
}

enum { ROW_ORDINARY = 0, ROW_NARROW = 1, ROW_BRAIN = 2, ROW_EITHER = 3, ROW_ZERO = 4 };

/* What a row is: numbers of half the width, bfloat16 numbers, both, nothing. */
static unsigned kind_of_row(encoder *e, const nnb_items *items, const void *row, size_t count) {
  nnb_survey survey;
  const int narrow = nnb_narrow(items, row, count, e->narrow);
  if (narrow) {
    nnb_survey_items(items, row, count, &survey);
    if (survey.zeros == count) return ROW_ZERO;
  }
  int brain = items->bytes == 4;
  for (size_t i = 0; i < count && brain; i++) brain = (((const nnb_any32 *)row)[i] & 0xffffu) == 0;
  return (narrow ? ROW_NARROW : 0u) | (brain ? ROW_BRAIN : 0u);
}

/* Kinds of rows, from 0, in the map; returns their number. What fits several goes where other rows are. */
static unsigned find_kinds(encoder *e, const nnb_items *items, const void *values, size_t count) {
  const size_t rows = (count + e->row_items - 1) / e->row_items;
  if (items->bytes == 1 || items->packed_bits || rows < 2 || e->row_items < 16 || e->choice->speed == NNB_LOSSLESS_FAST)
    return 1;
  if (nnb_narrow_items(items).mantissa_bits == 0) return 1;
  size_t members[5] = {0};
  for (size_t row = 0, at = 0; row < rows; row++, at += e->row_items) {
    const size_t n = count - at < e->row_items ? count - at : e->row_items;
    e->map[row] = (uint8_t)kind_of_row(e, items, (const uint8_t *)values + at * items->bytes, n);
    members[e->map[row]]++;
  }
  uint8_t kinds[5];
  const unsigned either = members[ROW_BRAIN] > members[ROW_NARROW] ? ROW_BRAIN : ROW_NARROW;
  members[either] += members[ROW_EITHER];
  unsigned found = 0;
  for (unsigned kind = ROW_ORDINARY; kind <= ROW_BRAIN; kind++) kinds[kind] = (uint8_t)(members[kind] ? found++ : 0);
  kinds[ROW_EITHER] = kinds[either];
  kinds[ROW_ZERO] = 0;
  if (found < 2) return 1;
  for (size_t row = 0; row < rows; row++) e->map[row] = kinds[e->map[row]];
  return found;
}

static void write_split(encoder *e, const nnb_items *items, const void *values, size_t count, unsigned kinds) {
  const size_t rows = (count + e->row_items - 1) / e->row_items;
  put_u8(e, NNB_CODING_SPLIT);
  put_u8(e, kinds - 1);
  write_plane(e, e->map, rows);
  for (unsigned kind = 0; kind < kinds; kind++) {
    size_t gathered = 0;
    for (size_t row = 0, at = 0; row < rows; row++, at += e->row_items) {
      if (e->map[row] != kind) continue;
      const size_t n = count - at < e->row_items ? count - at : e->row_items;
      nnb_memcpy(e->classes + gathered * items->bytes, (const uint8_t *)values + at * items->bytes, n * items->bytes);
      gathered += n;
    }
    write_group(e, items, e->classes, gathered);
  }
}

size_t nnb_lossless_bound(const nnb_items *items, size_t count) {
  /* Two codings one after the other, of which each is as long as the raw items or little more. */
  return 2 * (count + 1024) * ((size_t)items->bytes + 4) + 65536;
}

size_t nnb_lossless_encode_work_size(const nnb_items *items, size_t block_items) {
  if (!nnb_items_valid(items) || block_items == 0 || block_items > NNB_LOSSLESS_MAX_BLOCK) return 0;
  return lay_out(items, block_items, NULL, NULL) + 64;
}

nnb_status nnb_lossless_encode_block(const nnb_items *items, const nnb_lossless_choice *choice, const void *values,
                                     size_t row_items, size_t count, void *work, size_t work_size, uint8_t *out,
                                     size_t capacity, size_t *size) {
  const size_t needed = nnb_lossless_encode_work_size(items, count);
  if (needed == 0 || row_items == 0 || choice->speed > NNB_LOSSLESS_SMALL || choice->force > NNB_CODING_DICTIONARY + 1)
    return NNB_BAD_OPTION;
  if (work_size < needed || capacity < nnb_lossless_bound(items, count)) return NNB_BUFFER_SIZE;
  encoder e;
  nnb_memset(&e, 0, sizeof e);
  lay_out(items, count, (uint8_t *)work + ((uintptr_t)0 - (uintptr_t)work) % 64, &e);
  e.choice = choice;
  e.row_items = row_items;
  e.out = out;
  e.capacity = capacity;
  const unsigned kinds = choice->force == 0 || forced(&e, NNB_CODING_SPLIT) ? find_kinds(&e, items, values, count) : 1;
  if (kinds > 1)
    write_split(&e, items, values, count, kinds);
  else
    write_group(&e, items, values, count);
  if (e.failed) return NNB_BUFFER_SIZE;
  *size = e.used;
  return NNB_OK;
}

nnb_status nnb_lossless_encode_blocks(const nnb_items *items, const nnb_lossless_choice *choice, const void *values,
                                      size_t row_items, size_t block_items, size_t count, void *work, size_t work_size,
                                      uint8_t *out, size_t capacity, uint32_t *sizes, size_t *encoded) {
  const uint8_t *from = values;
  *encoded = 0;
  if (block_items == 0) return NNB_BAD_OPTION;
  while (count > 0) {
    const size_t n = count < block_items ? count : block_items;
    size_t size = 0;
    if (capacity < nnb_lossless_bound(items, n)) break;
    const nnb_status status =
        nnb_lossless_encode_block(items, choice, from, row_items, n, work, work_size, out, capacity, &size);
    if (status != NNB_OK) return status;
    sizes[(*encoded)++] = (uint32_t)size;
    out += size;
    capacity -= size;
    from += n * items->bytes;
    count -= n;
  }
  return NNB_OK;
}

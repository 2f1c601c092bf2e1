#include "common/sparse.h"
#include "enc/lossless_encoder.h"

static size_t lay_out(const nnb_items *items, size_t capacity, uint8_t *work, nnb_encoder *e) {
  /* A dictionary needs three for each item; scales a few for each row and column. */
  const size_t sum_count = items->bytes == 1 && capacity > 65536 ? 65536 + capacity / 16 : capacity * 3;
  size_t size = 0;
#define PART(name, bytes)                              \
  do {                                                 \
    if (work != NULL) e->name = (void *)(work + size); \
    size += ((bytes) + (size_t)127) & ~(size_t)63;     \
  } while (0)
  PART(histograms, NNB_ENC_TABLES * 256 * sizeof(uint32_t));
  PART(frequencies, NNB_ENC_TABLES * 256 * sizeof(uint16_t));
  PART(scaled_frequencies, NNB_ENC_TABLES * 256 * sizeof(uint16_t));
  PART(rans_work, nnb_rans_work_size(NNB_ENC_TABLES));
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
  PART(narrow, capacity * (items->bytes == 2 ? 2u : items->bytes / 2u)); /* places in a dictionary, too */
  PART(delta, capacity * items->bytes);
  PART(row_scales, capacity);
  PART(column_scales, capacity);
  PART(sums, sum_count * sizeof(int64_t));
#undef PART
  if (work != NULL) e->sum_count = sum_count;
  if (work != NULL) e->code_size = nnb_rans_bound(items->packed_bits ? capacity * 3 : capacity);
  return size;
}

static void write_raw(nnb_encoder *e, const nnb_items *items, const void *values, size_t count) {
  nnb_put_u8(e, NNB_CODING_RAW);
  uint8_t *const out = nnb_claim(e, count * items->bytes);
  if (out == NULL) return;
  uint8_t *planes[8];
  for (unsigned i = 0; i < items->bytes; i++) planes[i] = out + i * count;
  nnb_divide_bytes(items, values, count, planes);
}

static void write_constant(nnb_encoder *e, const nnb_items *items, const void *values) {
  nnb_put_u8(e, NNB_CODING_CONSTANT);
  const uint64_t item = nnb_item(items, values, 0);
  for (unsigned i = 0; i < items->bytes; i++) nnb_put_u8(e, (unsigned)(item >> (8 * i)) & 255u);
}

static void write_table(nnb_encoder *e, const nnb_items *items, const uint8_t *table, size_t entries, size_t count) {
  nnb_put_u8(e, NNB_CODING_TABLE);
  nnb_put_u8(e, (unsigned)entries - 1);
  nnb_put_bytes(e, table, entries * items->bytes);
  nnb_write_plane(e, e->symbols, count);
}

static void write_bytes(nnb_encoder *e, const nnb_items *items, const void *values, size_t count, int delta) {
  if (delta) {
    nnb_delta(items, values, count, e->delta);
    values = e->delta;
  }
  nnb_put_u8(e, NNB_CODING_BYTES);
  nnb_put_u8(e, delta ? NNB_BYTES_DELTA : 0);
  if (items->bytes == 1) {
    nnb_write_plane(e, values, count);
    return;
  }
  nnb_divide_bytes(items, values, count, e->bytes);
  for (unsigned i = 0; i < items->bytes; i++) nnb_write_plane(e, e->bytes[i], count);
}

/* Sixteenfold logarithms of 1 + the absolute value of a signed byte; of 128 the same as of 127. */
static void measure_bytes(const uint8_t *values, size_t count, uint16_t *measures) {
  uint8_t table[129];
  for (unsigned magnitude = 1, octave = 0; magnitude <= 129; magnitude++) {
    octave += magnitude >> (octave + 1) != 0;
    table[magnitude - 1] = (uint8_t)(16 * octave + ((magnitude << 4 >> octave) & 15u));
  }
  size_t i = 0;
#if NNB_X86_DISPATCH
  if (nnb_cpu_has_bmi2()) i = nnb_measure_bytes_avx2(values, count, table, measures);
#endif
  for (; i < count; i++) measures[i] = table[values[i] < 128 ? values[i] : 256 - values[i]];
}

/* Scales of signed bytes with their tables; returns whether they make the bytes smaller. */
static int scale_bytes(nnb_encoder *e, const void *values, size_t count) {
  const size_t positions = e->present != NULL ? e->present_count : count;
  nnb_scales scales = {.rows = e->row_scales, .columns = e->column_scales, .contexts = e->contexts};
  if (e->choice->speed != NNB_LOSSLESS_SMALL || e->choice->planes_raw || count < 1024) return 0;
  if ((positions + e->row_items - 1) / e->row_items + 2 * (positions < e->row_items ? positions : e->row_items) >
      e->sum_count)
    return 0;
  measure_bytes(values, count, e->measures);
  if (!nnb_find_scales(e->measures, e->present, positions, e->row_items, 10 * 16, NNB_BYTES_TABLES - 1, e->sums,
                       &scales))
    return 0;
  const size_t plain = nnb_estimate_plane(e, values, count, NULL, NULL, 1);
  uint8_t map[256];
  nnb_make_map(map, NNB_BYTES_TABLES, 0);
  const size_t scaled = nnb_estimate_plane(e, values, count, e->contexts, map, NNB_BYTES_TABLES);
  nnb_memcpy(e->scaled_frequencies, e->frequencies, NNB_BYTES_TABLES * 256 * sizeof *e->frequencies);
  return scaled + (scales.row_count + scales.column_count) * 5 / 8 < (plain < count ? plain : count);
}

static void write_scaled_bytes(nnb_encoder *e, const void *values, size_t count) {
  const size_t positions = e->present != NULL ? e->present_count : count;
  nnb_put_u8(e, NNB_CODING_BYTES);
  nnb_put_u8(e, NNB_BYTES_SCALED);
  nnb_write_plane(e, e->row_scales, (positions + e->row_items - 1) / e->row_items);
  nnb_write_plane(e, e->column_scales, positions < e->row_items ? positions : e->row_items);
  nnb_write_scaled_plane(e, values, count, NNB_BYTES_TABLES, 0);
}

static void write_unpacked(nnb_encoder *e, const nnb_items *items, const void *values, size_t count) {
  const size_t elements = nnb_unpack(items->packed_bits, values, count, e->symbols);
  nnb_put_u8(e, NNB_CODING_UNPACKED);
  nnb_write_plane(e, e->symbols, elements);
}

/* Keeps the shorter of what was written from `start` to `middle` and from there to the end. */
static void keep_shorter(nnb_encoder *e, size_t start, size_t middle) {
  if (e->failed) return;
  const size_t first = middle - start, second = e->used - middle;
  if (second < first) {
    for (size_t i = 0; i < second; i++) e->out[start + i] = e->out[middle + i];
    e->used = start + second;
  } else {
    e->used = middle;
  }
}

static int forced(const nnb_encoder *e, unsigned coding) { return e->choice->force == coding + 1; }

static int few_different(const nnb_items *items, const void *values, size_t count) {
  if (items->bytes == 1) return 0;
  if (count <= NNB_SAMPLES) return 1;
  uint64_t samples[NNB_SAMPLES];
  uint8_t seen[1024] = {0};
  unsigned different = 0;
  nnb_sample_items(items, values, count, samples);
  for (size_t i = 0; i < NNB_SAMPLES; i++) {
    uint8_t *const place = seen + (samples[i] * UINT64_C(0x9E3779B97F4A7C15) >> 54);
    different += *place == 0;
    *place = 1;
  }
  return different <= 256; /* that many from 512 of 256 equally frequent ones are not to be expected */
}

/* Entries of a table beyond which it is longer than the items. All but one stand at one place at least. */
static size_t most_entries(const nnb_items *items, size_t count) {
  const size_t log = nnb_highest_bit((uint32_t)count);
  const size_t raw = count - count / items->bytes, coded = (8 * count * items->bytes + log) / (8u * items->bytes + log);
  const size_t most = raw > coded ? raw : coded;
  return most < 256 ? most : 256;
}

/* `known`: the survey of these items, if it was made already. */
static void write_leaf(nnb_encoder *e, const nnb_items *items, const void *values, size_t count,
                       const nnb_survey *known) {
  const size_t start = e->used;
  if (forced(e, NNB_CODING_RAW)) {
    write_raw(e, items, values, count);
    return;
  }
  nnb_survey survey;
  if (known != NULL)
    survey = *known;
  else
    nnb_survey_items(items, values, count, &survey);
  if (survey.equal && (e->choice->force == 0 || forced(e, NNB_CODING_CONSTANT))) {
    write_constant(e, items, values);
    return;
  }
  const int few = e->choice->force == 0 && few_different(items, values, count);
  if (items->packed_bits && e->present == NULL && (e->choice->force == 0 || forced(e, NNB_CODING_UNPACKED))) {
    write_unpacked(e, items, values, count);
  } else if (items->bytes > 1 && (few || forced(e, NNB_CODING_TABLE))) {
    uint8_t table[256 * 8];
    const size_t most = forced(e, NNB_CODING_TABLE) ? 256 : most_entries(items, count);
    const size_t entries = nnb_find_table(items, values, count, most, table, e->symbols, e->measures);
    if (entries) write_table(e, items, table, entries, count);
  }
  const size_t after_table = e->used;
  if (after_table == start || (e->choice->force == 0 && count < 4096)) {
    if (items->mantissa_bits && (e->choice->force == 0 || !forced(e, NNB_CODING_BYTES))) {
      nnb_write_float(e, items, values, count, &survey);
      if (few) { /* scales that were made from few bits, for instance: their last bits are not random */
        const size_t middle = e->used;
        write_bytes(e, items, values, count, 0);
        keep_shorter(e, after_table, middle);
      }
    } else if (items->bytes == 1 && scale_bytes(e, values, count)) {
      write_scaled_bytes(e, values, count);
    } else {
      write_bytes(e, items, values, count, 0);
      if (items->bytes > 1 && count > 1 && !e->choice->planes_raw) {
        const size_t middle = e->used;
        write_bytes(e, items, values, count, 1);
        keep_shorter(e, after_table, middle);
      }
    }
    if (after_table != start) keep_shorter(e, start, after_table);
  }
  if (e->choice->force == 0 && !e->failed && e->used - start > count * items->bytes) {
    e->used = start;
    write_raw(e, items, values, count);
  }
}

static void write_narrow(nnb_encoder *e, const nnb_items *items, const void *values, size_t count,
                         const nnb_survey *known) {
  const nnb_items narrow = nnb_narrow_items(items);
  if (narrow.mantissa_bits && (e->choice->force == 0 || forced(e, NNB_CODING_NARROW)) &&
      nnb_narrow(items, values, count, e->narrow)) {
    nnb_survey survey;
    nnb_survey_items(&narrow, e->narrow, count, &survey);
    if (!survey.equal || forced(e, NNB_CODING_NARROW)) {
      nnb_put_u8(e, NNB_CODING_NARROW);
      write_leaf(e, &narrow, e->narrow, count, &survey);
      return;
    }
  }
  write_leaf(e, items, values, count, known);
}

/* Returns whether the items are multiples, and are written. */
static int write_multiples(nnb_encoder *e, const nnb_items *items, const void *values, size_t count) {
  static const nnb_items scale_items = {4, 23, 0}, integer_items = {1, 0, 0};
  size_t length, scales;
  uint8_t *const integers = e->delta, *const offsets = e->delta + count;
  if (!nnb_probe_multiples(items, values, count, e->row_items, integers, &length) ||
      !nnb_find_multiples(items, values, count, e->row_items, length, (nnb_any32 *)e->dense, offsets, integers,
                          &scales))
    return 0;
  nnb_put_u8(e, NNB_CODING_MULTIPLES);
  nnb_put_u32(e, length);
  write_narrow(e, &scale_items, e->dense, scales, NULL);
  write_leaf(e, &integer_items, integers, count, NULL);
  nnb_write_plane(e, offsets, scales);
  return 1;
}

/* Whether no other coding can be shorter: of numbers of which many are different, none takes less than 9 bits. */
static int surely_shorter(const nnb_items *items, const void *values, size_t count, size_t size) {
  nnb_survey survey;
  nnb_survey_items(items, values, count, &survey);
  return size < (count - survey.zeros) * 9 / 8 && !few_different(items, values, count);
}

/* Returns whether so few items are different, and they are written. */
static int write_dictionary(nnb_encoder *e, const nnb_items *items, const void *values, size_t count) {
  static const nnb_items index_items = {2, 0, 0};
  const int always = forced(e, NNB_CODING_DICTIONARY);
  if (items->bytes < 2 || !(always || nnb_probe_dictionary(items, values, count))) return 0;
  const size_t limit = always ? count : count / 4, most = limit < NNB_MAX_ENTRIES ? limit : NNB_MAX_ENTRIES;
  nnb_any16 *const indices = (nnb_any16 *)(void *)e->narrow;
  const size_t entries = nnb_find_dictionary(items, values, count, most, e->dense, indices, e->sums);
  if (entries == 0 || (items->bytes == 2 && entries <= 256 && !always)) return 0; /* TABLE is as good */
  nnb_put_u8(e, NNB_CODING_DICTIONARY);
  nnb_put_u8(e, (unsigned)(entries - 1) & 255u);
  nnb_put_u8(e, (unsigned)(entries - 1) >> 8);
  const size_t start = e->used;
  write_leaf(e, items, e->dense, entries, NULL);
  if (!always) {
    const size_t middle = e->used;
    write_bytes(e, items, e->dense, entries, 1);
    keep_shorter(e, start, middle);
  }
  write_leaf(e, &index_items, indices, count, NULL);
  return 1;
}

static void write_any(nnb_encoder *e, const nnb_items *items, const void *values, size_t count);

static void write_group(nnb_encoder *e, const nnb_items *items, const void *values, size_t count) {
  const size_t start = e->used;
  e->present = NULL;
  const int any = e->choice->force == 0;
  const int multiples = (any || forced(e, NNB_CODING_MULTIPLES)) && write_multiples(e, items, values, count);
  const int dictionary =
      !multiples && (any || forced(e, NNB_CODING_DICTIONARY)) && write_dictionary(e, items, values, count);
  const size_t middle = e->used;
  if ((multiples || dictionary) && !any) return;
  if (multiples && surely_shorter(items, values, count, middle - start)) return;
  write_any(e, items, values, count);
  if (multiples || dictionary) keep_shorter(e, start, middle);
}

static void write_any(nnb_encoder *e, const nnb_items *items, const void *values, size_t count) {
  nnb_survey survey;
  nnb_survey_items(items, values, count, &survey);
  if (!items->packed_bits && (e->choice->force == 0 || forced(e, NNB_CODING_MASK)) && !e->choice->planes_raw) {
    const size_t share = items->bytes == 1 ? 3 : 16;
    if (survey.zeros && survey.zeros < count && (survey.zeros > count / share || forced(e, NNB_CODING_MASK))) {
      const size_t kept = nnb_compact(items, values, count, e->mask, e->dense);
      nnb_put_u8(e, NNB_CODING_MASK);
      nnb_write_mask(e, count);
      e->present = e->mask;
      e->present_count = count;
      write_narrow(e, items, e->dense, kept, NULL);
      e->present = NULL;
      return;
    }
  }
  write_narrow(e, items, values, count, &survey);
}

enum { ROW_ORDINARY = 0, ROW_NARROW = 1, ROW_BRAIN = 2, ROW_EITHER = 3, ROW_ZERO = 4 };

/* What a row is: numbers of half the width, bfloat16 numbers, both, nothing. */
static unsigned kind_of_row(nnb_encoder *e, const nnb_items *items, const void *row, size_t count) {
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
static unsigned find_kinds(nnb_encoder *e, const nnb_items *items, const void *values, size_t count) {
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

static void write_split(nnb_encoder *e, const nnb_items *items, const void *values, size_t count, unsigned kinds) {
  const size_t rows = (count + e->row_items - 1) / e->row_items;
  nnb_put_u8(e, NNB_CODING_SPLIT);
  nnb_put_u8(e, kinds - 1);
  nnb_write_plane(e, e->map, rows);
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
  nnb_encoder e;
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

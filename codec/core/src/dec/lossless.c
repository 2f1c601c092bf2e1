#include "dec/lossless.h"

#include "common/rans.h"

/* Expanded tables of rANS are of use where there are large caches. */
#if NNB_X86_DISPATCH || NNB_NEON || UINTPTR_MAX > 0xFFFFFFFF
#define TABLE_SCRATCH (4096u * 4u)
#else
#define TABLE_SCRATCH 0u
#endif

/* Everything that reading one block needs. */
typedef struct block {
  const uint8_t *at; /* not read yet */
  size_t left;
  size_t row_items;
  size_t most_tables; /* of rANS */
  uint8_t *rows;      /* nnb_rans_row */
  uint8_t *scratch;
  uint8_t *map, *mask, *contexts;
  uint8_t *classes, *dense, *narrow; /* items on their way to where they belong */
  uint8_t *planes;
  size_t planes_used;
  const uint8_t *present; /* mask of the items being read, or NULL */
  size_t present_count;   /* bits of it */
} block;

static const nnb_status bad = NNB_LOSSLESS_BLOCK;

/* Lays the parts of the work out; with `work` NULL, returns the size alone. */
static size_t lay_out(const nnb_items *items, size_t capacity, uint8_t *work, block *b) {
  const size_t tables = items->bytes == 1 || nnb_may_be_multiples(items) ? NNB_BYTES_TABLES : NNB_SCALE_TABLES;
  size_t size = 0;
  if (work != NULL) b->most_tables = tables;
#define PART(name, bytes)                         \
  do {                                            \
    if (work != NULL) b->name = work + size;      \
    size += ((bytes) + (size_t)64) & ~(size_t)63; \
  } while (0)
  PART(rows, tables * 256 * sizeof(nnb_rans_row) + 64);
  PART(scratch, tables * TABLE_SCRATCH + 64);
  PART(contexts, capacity);
  PART(map, capacity);
  PART(mask, capacity / 8 + 1);
  PART(classes, capacity * items->bytes);
  PART(dense, capacity * items->bytes + 64); /* the loops read beyond the last item */
  PART(narrow, capacity * items->bytes / 2);
  PART(planes, (capacity + 64) * (items->bytes + 4u) + 12 * NNB_CHUNK);
#undef PART
  return size;
}

static int take(block *b, size_t size, const uint8_t **data) {
  if (b->left < size) return 0;
  *data = b->at;
  b->at += size;
  b->left -= size;
  return 1;
}

static int take_u8(block *b, unsigned *value) {
  const uint8_t *data;
  if (!take(b, 1, &data)) return 0;
  *value = *data;
  return 1;
}

static int take_u32(block *b, size_t *value) {
  const uint8_t *data;
  if (!take(b, 4, &data)) return 0;
  *value = nnb_load_le32(data);
  return 1;
}

static uint8_t *plane_memory(block *b, size_t size) {
  uint8_t *const memory = b->planes + b->planes_used;
  b->planes_used += (size + 63) & ~(size_t)63;
  return memory;
}

static nnb_rans_row *rans_rows(const block *b) {
  return (nnb_rans_row *)(void *)(((uintptr_t)b->rows + 63) & ~(uintptr_t)63);
}

/*
 * A plane of `count` bytes. With contexts, table of byte i is number contexts[i] modulo `tables` (or the last one, for
 * greater contexts). `target`: where bytes that have to be decoded go; NULL: memory of the block.
 */
static nnb_status read_plane(block *b, size_t count, const uint8_t *contexts, unsigned tables, int modulo,
                             uint8_t *target, nnb_plane *plane) {
  unsigned method;
  plane->constant = 0;
  if (!take_u8(b, &method)) return bad;
  if (method == NNB_PLANE_CONSTANT) {
    unsigned value;
    if (!take_u8(b, &value)) return bad;
    plane->constant = 1;
    uint8_t *const memory = plane_memory(b, NNB_CHUNK);
    nnb_memset(memory, (int)value, NNB_CHUNK);
    plane->data = memory;
    return NNB_OK;
  }
  if (method == NNB_PLANE_RAW) return take(b, count, &plane->data) ? NNB_OK : bad;
  if (method != NNB_PLANE_RANS) return bad;
  const uint8_t *data;
  size_t size, used;
  nnb_rans_model model;
  if (!take_u32(b, &size) || !take(b, size, &data)) return bad;
  nnb_status status = nnb_rans_read_tables(data, size, &used, rans_rows(b), b->most_tables * 256,
                                           contexts == NULL ? 1 : tables, &model);
  if (status != NNB_OK) return bad;
  uint8_t *const map = contexts == NULL ? NULL : plane_memory(b, 256);
  for (unsigned i = 0; i < 256 && contexts != NULL; i++)
    map[i] = (uint8_t)(modulo ? i % tables : i < tables ? i : tables - 1);
  if (target == NULL) target = plane_memory(b, count);
  plane->data = target;
  status = nnb_rans_decode(NNB_RANS_AUTO, &model, contexts, map, data + used, size - used, target, count, b->scratch,
                           b->most_tables * TABLE_SCRATCH + 64);
  return status == NNB_OK ? NNB_OK : bad;
}

/* The same where every byte is wanted in one place. */
static nnb_status read_whole_plane(block *b, size_t count, uint8_t *target, const uint8_t **data) {
  nnb_plane plane;
  const nnb_status status = read_plane(b, count, NULL, 1, 0, target, &plane);
  if (status != NNB_OK) return status;
  *data = plane.data;
  if (plane.constant) {
    nnb_memset(target, plane.data[0], count);
    *data = target;
  }
  return NNB_OK;
}

/* The mask of `count` items by classes of rows, which begin with whole bytes. */
static nnb_status read_mask_by_rows(block *b, size_t count, uint8_t *mask) {
  const size_t bytes = (count + 7) / 8, row_bytes = b->row_items / 8, rows = (bytes + row_bytes - 1) / row_bytes;
  const uint8_t *chances, *classes, *code;
  unsigned bits;
  size_t size;
  if (!take_u8(b, &bits) || bits > NNB_MASK_CLASS_BITS || !take(b, (size_t)1 << bits, &chances) ||
      !take(b, (rows * bits + 7) / 8, &classes) || !take_u32(b, &size) || !take(b, size, &code))
    return bad;
  for (size_t row = 0, at = 0; row < rows && bits; row++, at += row_bytes) {
    const int class = classes[row * bits / 8] >> row * bits % 8 & ((1 << bits) - 1);
    nnb_memset(b->contexts + at, class, bytes - at < row_bytes ? bytes - at : row_bytes);
  }
  uint8_t *const map = plane_memory(b, 256);
  nnb_any16 *const frequencies = (nnb_any16 *)(void *)plane_memory(b, 256 * sizeof *frequencies);
  nnb_memset(map, 0, 256);
  for (unsigned t = 0; t < 1u << bits; t++) {
    nnb_rans_row *const table = rans_rows(b) + 256 * t;
    if (chances[t] == 0) return bad;
    nnb_mask_frequencies(chances[t], frequencies);
    for (unsigned s = 0; s < 256; s++) table[s] = (nnb_rans_row){.frequency = frequencies[s], .symbol = (uint8_t)s};
    nnb_rans_build_rows(table, 8);
    map[t] = (uint8_t)t;
  }
  const nnb_rans_model model = {rans_rows(b), 1u << bits, 8};
  const nnb_status status = nnb_rans_decode(NNB_RANS_AUTO, &model, bits ? b->contexts : NULL, bits ? map : NULL, code,
                                            size, mask, bytes, b->scratch, b->most_tables * TABLE_SCRATCH + 64);
  return status == NNB_OK ? NNB_OK : bad;
}

static nnb_status read_mask(block *b, size_t count, const uint8_t **mask) {
  b->planes_used = 0;
  if (b->left == 0 || *b->at != NNB_PLANE_ROWS || b->row_items % 8)
    return read_whole_plane(b, (count + 7) / 8, b->mask, mask);
  b->at++;
  b->left--;
  *mask = b->mask;
  return read_mask_by_rows(b, count, b->mask);
}

/* Contexts of `count` items: those of the rows plus those of the columns, at the items that are present. */
static nnb_status read_scales(block *b, size_t count) {
  const size_t positions = b->present != NULL ? b->present_count : count;
  const size_t rows = (positions + b->row_items - 1) / b->row_items;
  const size_t columns = positions < b->row_items ? positions : b->row_items;
  const size_t used = b->planes_used;
  const uint8_t *row_scales, *column_scales;
  nnb_status status = read_whole_plane(b, rows, plane_memory(b, rows), &row_scales);
  if (status != NNB_OK) return status;
  status = read_whole_plane(b, columns, plane_memory(b, columns), &column_scales);
  if (status != NNB_OK) return status;
  nnb_add_scales(row_scales, column_scales, b->row_items, b->contexts, positions);
  if (b->present != NULL) nnb_compress_contexts(b->present, b->contexts, positions);
  b->planes_used = used;
  return NNB_OK;
}

/* The lowest bytes of items: those whose symbol is below a limit in halves. */
static nnb_status read_halves(block *b, const uint8_t *symbols, size_t count, nnb_plane *plane) {
  unsigned limit;
  const uint8_t *upper, *lower, *others;
  if (!take_u8(b, &limit)) return bad;
  const size_t halved = limit ? nnb_count_below(symbols, count, limit) : 0, left = count - halved;
  if (halved == 0) return bad;
  uint8_t *const out = plane_memory(b, count);
  const size_t used = b->planes_used;
  uint8_t *const below = plane_memory(b, count + 8), *const above = below + halved;
  nnb_status status = read_whole_plane(b, (halved + 1) / 2, plane_memory(b, halved), &upper);
  if (status == NNB_OK) status = read_whole_plane(b, halved, below, &lower);
  if (status != NNB_OK || !nnb_join_halves(upper, lower, halved, below)) return bad;
  others = above;
  if (left && read_whole_plane(b, left, above, &others) != NNB_OK) return bad;
  if (others != above && b->left < 8) { /* there some more can be read */
    nnb_memcpy(above, others, left);
    others = above;
  }
  nnb_spread(symbols, count, limit, below, others, out);
  b->planes_used = used;
  *plane = (nnb_plane){out, 0};
  return NNB_OK;
}

static void patch(const nnb_items *items, void *out, size_t at, uint64_t high, unsigned shift) {
  const uint64_t keep = (uint64_t)1 << (8u * items->bytes - 1u) | (((uint64_t)1 << shift) - 1u);
  if (items->bytes == 2) {
    nnb_any16 *const p = (nnb_any16 *)out + at;
    *p = (uint16_t)((*p & keep) | high << shift);
  } else if (items->bytes == 4) {
    nnb_any32 *const p = (nnb_any32 *)out + at;
    *p = (uint32_t)((*p & keep) | high << shift);
  } else {
    nnb_any64 *const p = (nnb_any64 *)out + at;
    *p = (*p & keep) | high << shift;
  }
}

static nnb_status read_escapes(block *b, const nnb_items *items, const nnb_float_planes *planes, void *out,
                               size_t count) {
  size_t escapes, next = 0;
  const uint8_t *low, *high;
  if (!take_u32(b, &escapes) || escapes == 0 || escapes > count) return bad;
  nnb_status status = read_whole_plane(b, escapes, plane_memory(b, escapes), &low);
  if (status != NNB_OK) return status;
  status = read_whole_plane(b, escapes, plane_memory(b, escapes), &high);
  if (status != NNB_OK) return status;
  const unsigned bits = 8u * items->bytes - 1u - planes->division.shift;
  const uint8_t *const symbols = planes->symbols.data;
  for (size_t at = 0; at < count; at++) {
    at = planes->symbols.constant ? (symbols[0] ? count : at) : nnb_find_zero(symbols, at, count);
    if (at == count) break;
    if (next == escapes) return bad;
    const unsigned value = low[next] | (unsigned)high[next] << 8;
    if (value >> bits) return bad;
    patch(items, out, at, value, planes->division.shift);
    next++;
  }
  return next == escapes ? NNB_OK : bad;
}

static nnb_status read_float(block *b, const nnb_items *items, void *out, size_t count) {
  nnb_float_planes planes;
  unsigned flags, low, high;
  if (!take_u8(b, &planes.upper) || !take_u8(b, &flags) || !take_u8(b, &low) || !take_u8(b, &high)) return bad;
  if (planes.upper > NNB_MAX_UPPER || planes.upper > items->mantissa_bits ||
      (flags & ~(unsigned)(NNB_FLOAT_ESCAPES | NNB_FLOAT_SCALED | NNB_FLOAT_HALVED)))
    return bad;
  planes.base = low | high << 8;
  planes.division = nnb_divide(items, planes.upper);
  planes.contexts = NULL;
  nnb_status status;
  if (flags & NNB_FLOAT_SCALED) {
    status = read_scales(b, count);
    if (status != NNB_OK) return status;
    planes.contexts = b->contexts;
  }
  status = read_plane(b, count, planes.contexts, NNB_SCALE_TABLES, 1, NULL, &planes.symbols);
  if (status != NNB_OK) return status;
  if (planes.division.field) {
    nnb_plane field;
    status = read_plane(b, (count * planes.division.field + 7) / 8, NULL, 1, 0, NULL, &field);
    if (status != NNB_OK) return status;
    planes.field = field.constant ? NULL : field.data;
    planes.field_constant = field.data[0];
    if (field.constant && planes.field_constant != 0) return bad;
  }
  const int halved = (flags & NNB_FLOAT_HALVED) != 0;
  if (halved && (planes.division.bytes == 0 || planes.symbols.constant)) return bad;
  for (unsigned i = 0; i < planes.division.bytes; i++) {
    if (halved && i == 0)
      status = read_halves(b, planes.symbols.data, count, &planes.bytes[0]);
    else
      status = read_plane(b, count, NULL, 1, 0, NULL, &planes.bytes[i]);
    if (status != NNB_OK) return status;
  }
  nnb_merge_float(items, &planes, out, count);
  return flags & NNB_FLOAT_ESCAPES ? read_escapes(b, items, &planes, out, count) : NNB_OK;
}

static nnb_status read_bytes(block *b, const nnb_items *items, void *out, size_t count) {
  unsigned flags;
  if (!take_u8(b, &flags) || (flags & ~(unsigned)(NNB_BYTES_DELTA | NNB_BYTES_SCALED))) return bad;
  const uint8_t *contexts = NULL;
  if (flags & NNB_BYTES_SCALED) {
    if (items->bytes != 1) return bad;
    const nnb_status status = read_scales(b, count);
    if (status != NNB_OK) return status;
    contexts = b->contexts;
  }
  nnb_plane planes[8];
  for (unsigned i = 0; i < items->bytes; i++) {
    uint8_t *const target = items->bytes == 1 ? out : NULL;
    const nnb_status status = read_plane(b, count, contexts, NNB_BYTES_TABLES, 0, target, &planes[i]);
    if (status != NNB_OK) return status;
  }
  if (items->bytes > 1 || planes[0].data != out) nnb_merge_bytes(items, planes, out, count);
  if (flags & NNB_BYTES_DELTA) nnb_undo_delta(items, out, count);
  return NNB_OK;
}

static nnb_status read_table(block *b, const nnb_items *items, void *out, size_t count) {
  unsigned last;
  const uint8_t *values, *indices;
  if (items->bytes == 1 || !take_u8(b, &last) || !take(b, ((size_t)last + 1) * items->bytes, &values)) return bad;
  uint8_t *const table = plane_memory(b, 256 * 8);
  nnb_memset(table, 0, 256 * 8);
  for (unsigned i = 0; i <= last; i++) nnb_fill(items, values + i * items->bytes, table + i * items->bytes, 1);
  const nnb_status status = read_whole_plane(b, count, plane_memory(b, count), &indices);
  if (status != NNB_OK) return status;
  unsigned greatest = 0;
  for (size_t i = 0; i < count; i++) greatest = indices[i] > greatest ? indices[i] : greatest;
  if (greatest > last) return bad;
  nnb_apply_table(items, table, indices, out, count);
  return NNB_OK;
}

static nnb_status read_unpacked(block *b, const nnb_items *items, void *out, size_t count) {
  if (items->packed_bits == 0) return bad;
  const size_t elements = (count * 8 + items->packed_bits - 1) / items->packed_bits;
  const uint8_t *data;
  const nnb_status status = read_whole_plane(b, elements, plane_memory(b, elements), &data);
  if (status != NNB_OK) return status;
  unsigned all = 0;
  for (size_t i = 0; i < elements; i++) all |= data[i];
  if (all >> items->packed_bits) return bad;
  nnb_pack(items->packed_bits, data, out, count);
  return NNB_OK;
}

/* The codings that contain no others. */
static nnb_status read_leaf(block *b, const nnb_items *items, unsigned coding, void *out, size_t count) {
  const uint8_t *data;
  b->planes_used = 0;
  switch (coding) {
    case NNB_CODING_TABLE:
      return read_table(b, items, out, count);
    case NNB_CODING_FLOAT:
      return items->mantissa_bits ? read_float(b, items, out, count) : bad;
    case NNB_CODING_BYTES:
      return read_bytes(b, items, out, count);
    case NNB_CODING_UNPACKED:
      return b->present == NULL ? read_unpacked(b, items, out, count) : bad;
    case NNB_CODING_CONSTANT:
      if (!take(b, items->bytes, &data)) return bad;
      nnb_fill(items, data, out, count);
      return NNB_OK;
    case NNB_CODING_RAW: {
      if (!take(b, count * items->bytes, &data)) return bad;
      nnb_plane planes[8];
      for (unsigned i = 0; i < items->bytes; i++) planes[i] = (nnb_plane){data + i * count, 0};
      nnb_merge_bytes(items, planes, out, count);
      return NNB_OK;
    }
    default:
      return bad;
  }
}

static nnb_status read_narrow(block *b, const nnb_items *items, unsigned coding, void *out, size_t count) {
  const nnb_items narrow = nnb_narrow_items(items);
  if (coding != NNB_CODING_NARROW) return read_leaf(b, items, coding, out, count);
  if (narrow.mantissa_bits == 0 || !take_u8(b, &coding)) return bad;
  const nnb_status status = read_leaf(b, &narrow, coding, b->narrow, count);
  if (status == NNB_OK) nnb_widen(items, b->narrow, out, count);
  return status;
}

static nnb_status read_multiples(block *b, const nnb_items *items, void *out, size_t count) {
  static const nnb_items scale_items = {4, 23, 0}, integer_items = {1, 0, 0};
  nnb_multiples m;
  unsigned coding;
  if (!nnb_may_be_multiples(items) || !take_u32(b, &m.run) || !nnb_run_valid(m.run, b->row_items, count) ||
      !take_u8(b, &coding))
    return bad;
  m.scale_count = m.run ? (count + m.run - 1) / m.run : b->row_items;
  nnb_status status = read_narrow(b, &scale_items, coding, b->dense, m.scale_count);
  if (status != NNB_OK) return status;
  m.scales = (const nnb_any32 *)b->dense;
  if (!nnb_scales_valid(items, m.scales, m.scale_count) || !take_u8(b, &coding)) return bad;
  status = read_leaf(b, &integer_items, coding, b->narrow, count);
  if (status != NNB_OK) return status;
  b->planes_used = 0;
  status = read_whole_plane(b, m.scale_count, plane_memory(b, m.scale_count), &m.offsets);
  if (status != NNB_OK) return status;
  m.integers = b->narrow;
  nnb_multiply(items, &m, out, count);
  return NNB_OK;
}

static nnb_status read_dictionary(block *b, const nnb_items *items, void *out, size_t count) {
  static const nnb_items index_items = {2, 0, 0};
  unsigned low, high, coding;
  if (items->bytes < 2 || !take_u8(b, &low) || !take_u8(b, &high)) return bad;
  const size_t entries = (low | high << 8) + (size_t)1;
  if (entries > count || !take_u8(b, &coding)) return bad;
  nnb_status status = read_leaf(b, items, coding, b->dense, entries);
  if (status != NNB_OK) return status;
  if (!take_u8(b, &coding)) return bad;
  void *const places = items->bytes == 2 ? out : b->narrow;
  status = read_leaf(b, &index_items, coding, places, count);
  if (status != NNB_OK) return status;
  return nnb_look_up(items, b->dense, entries, places, out, count) ? NNB_OK : bad;
}

static nnb_status read_group(block *b, const nnb_items *items, unsigned coding, void *out, size_t count) {
  b->present = NULL;
  if (coding == NNB_CODING_MULTIPLES) return read_multiples(b, items, out, count);
  if (coding == NNB_CODING_DICTIONARY) return read_dictionary(b, items, out, count);
  if (coding != NNB_CODING_MASK) return read_narrow(b, items, coding, out, count);
  if (items->packed_bits) return bad;
  const uint8_t *mask;
  nnb_status status = read_mask(b, count, &mask);
  if (status != NNB_OK) return status;
  if (count % 8 && mask[count / 8] >> count % 8) return bad;
  const size_t ones = nnb_count_bits(mask, count);
  if (ones == 0 || ones == count) return bad;
  if (!take_u8(b, &coding)) return bad;
  b->present = mask;
  b->present_count = count;
  status = read_narrow(b, items, coding, b->dense, ones);
  if (status != NNB_OK) return status;
  nnb_memset(b->dense + ones * items->bytes, 0, 64);
  nnb_expand(items, mask, b->dense, out, count);
  return NNB_OK;
}

static nnb_status read_split(block *b, const nnb_items *items, void *out, size_t count) {
  const size_t rows = (count + b->row_items - 1) / b->row_items;
  const uint8_t *map;
  unsigned last;
  if (items->packed_bits || !take_u8(b, &last) || last == 0 || last >= NNB_SPLIT_CLASSES) return bad;
  b->planes_used = 0;
  const nnb_status status = read_whole_plane(b, rows, b->map, &map);
  if (status != NNB_OK) return status;
  for (size_t i = 0; i < rows; i++)
    if (map[i] > last) return bad;
  for (unsigned kind = 0; kind <= last; kind++) {
    size_t items_of_kind = 0;
    for (size_t row = 0, at = 0; row < rows; row++, at += b->row_items)
      if (map[row] == kind) items_of_kind += count - at < b->row_items ? count - at : b->row_items;
    unsigned coding;
    if (items_of_kind == 0 || !take_u8(b, &coding)) return bad;
    const nnb_status read = read_group(b, items, coding, b->classes, items_of_kind);
    if (read != NNB_OK) return read;
    const uint8_t *from = b->classes;
    for (size_t row = 0, at = 0; row < rows; row++, at += b->row_items) {
      if (map[row] != kind) continue;
      const size_t bytes = (count - at < b->row_items ? count - at : b->row_items) * items->bytes;
      nnb_memcpy((uint8_t *)out + at * items->bytes, from, bytes);
      from += bytes;
    }
  }
  return NNB_OK;
}

size_t nnb_lossless_work_size(const nnb_items *items, size_t block_items) {
  if (!nnb_items_valid(items) || block_items == 0 || block_items > NNB_LOSSLESS_MAX_BLOCK) return 0;
  return lay_out(items, block_items, NULL, NULL);
}

nnb_status nnb_lossless_decode_block(const nnb_items *items, const uint8_t *code, size_t size, size_t row_items,
                                     void *out, size_t count, void *work, size_t work_size) {
  block b;
  const size_t needed = nnb_lossless_work_size(items, count);
  if (needed == 0 || row_items == 0) return NNB_BAD_OPTION;
  if (work_size < needed) return NNB_BUFFER_SIZE;
  lay_out(items, count, work, &b);
  b.at = code;
  b.left = size;
  b.row_items = row_items;
  unsigned coding;
  if (!take_u8(&b, &coding)) return bad;
  if (coding == NNB_CODING_ZSTD) return NNB_UNSUPPORTED_FEATURE;
  const nnb_status status =
      coding == NNB_CODING_SPLIT ? read_split(&b, items, out, count) : read_group(&b, items, coding, out, count);
  return status == NNB_OK && b.left != 0 ? bad : status;
}

nnb_status nnb_lossless_decode_blocks(const nnb_items *items, const uint8_t *code, size_t size, const uint8_t *sizes,
                                      size_t row_items, size_t block_items, void *out, size_t count, void *work,
                                      size_t work_size, size_t *decoded) {
  uint8_t *to = out;
  *decoded = 0;
  if (block_items == 0) return NNB_BAD_OPTION;
  while (count > 0) {
    const size_t n = count < block_items ? count : block_items;
    const size_t block = sizes != NULL ? nnb_load_le32(sizes) : size;
    if (block > size) return bad;
    const nnb_status status = nnb_lossless_decode_block(items, code, block, row_items, to, n, work, work_size);
    if (status != NNB_OK) return status;
    code += block;
    size -= block;
    sizes = sizes != NULL ? sizes + 4 : NULL;
    to += n * items->bytes;
    count -= n;
    ++*decoded;
  }
  return size == 0 ? NNB_OK : bad;
}

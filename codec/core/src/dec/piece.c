/* The elements of pieces: raw, exactly coded or in data units, with and without a sparse map (docs/format.md). */
#include "dec/piece.h"

#include "nnb/nnb_lossless.h"
#include "nnb/nnb_sparse.h"

enum { HEAD = 1 + 4 + 4, FLAG_ZSTD = 1, ALIGNMENT = 64 };

/* A payload of docs/lossless.md. */
typedef struct payload {
  nnb_items items;
  uint64_t count;       /* items */
  const uint8_t *table; /* sizes of the blocks, or NULL if there is one */
  const uint8_t *blocks;
  size_t size; /* of all blocks */
  uint32_t block_items;
  uint32_t row_items;
} payload;

/* Where things lie in the work: values that wait for their map, then what each of the two steps needs. */
typedef struct layout {
  uint64_t values; /* sizes in bytes */
  uint64_t coding;
  size_t words;
  size_t map;
  uint64_t all;
} layout;

static uint32_t load_le32(const uint8_t *p) {
  return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}

static uint8_t mantissa_bits(uint32_t type) {
  switch (type) {
    case NNB_ELEMENT_TYPE_FLOAT16:
    case NNB_ELEMENT_TYPE_COMPLEX32:
      return 10;
    case NNB_ELEMENT_TYPE_BFLOAT16:
      return 7;
    case NNB_ELEMENT_TYPE_FLOAT32:
    case NNB_ELEMENT_TYPE_COMPLEX64:
      return 23;
    case NNB_ELEMENT_TYPE_FLOAT64:
    case NNB_ELEMENT_TYPE_COMPLEX128:
      return 52;
    default:
      return 0;
  }
}

static void set_items(uint32_t type, uint64_t count, payload *p) {
  const uint32_t bits = nnb_element_bits(type);
  const int is_complex = type >= NNB_ELEMENT_TYPE_COMPLEX32 && type <= NNB_ELEMENT_TYPE_COMPLEX128;
  p->items.bytes = (uint8_t)(bits < 8 ? 1 : is_complex ? bits / 16 : bits / 8);
  p->items.mantissa_bits = mantissa_bits(type);
  p->items.packed_bits = bits == 3 || (bits >= 5 && bits < 8) ? (uint8_t)bits : 0;
  p->count = nnb_stored_bytes(type, count) / p->items.bytes;
}

/* Header and block table. */
static nnb_status read_payload(const nnb_piece *piece, nnb_string values, payload *p) {
  set_items(piece->element_type, piece->value_count, p);
  if (p->count == 0) return values.size == 0 ? NNB_OK : NNB_LOSSLESS_BLOCK;
  if (values.size < HEAD || (values.data[0] & ~(unsigned)FLAG_ZSTD) != 0) return NNB_LOSSLESS_BLOCK;
  p->block_items = load_le32(values.data + 1);
  p->row_items = load_le32(values.data + 5);
  p->table = NULL;
  p->blocks = values.data + HEAD;
  p->size = values.size - HEAD;
  if (p->block_items == 0 || p->block_items > NNB_LOSSLESS_MAX_BLOCK) return NNB_LOSSLESS_BLOCK;
  if (p->row_items == 0 || p->block_items % p->row_items != 0) return NNB_LOSSLESS_BLOCK;
  const uint64_t blocks = (p->count + p->block_items - 1) / p->block_items;
  if (blocks == 1) return NNB_OK;
  if (p->size / 4 < blocks) return NNB_LOSSLESS_BLOCK;
  p->table = p->blocks;
  p->blocks += 4 * (size_t)blocks;
  p->size -= 4 * (size_t)blocks;
  uint64_t sum = 0;
  for (size_t i = 0; i < blocks; i++) sum += load_le32(p->table + 4 * i);
  return sum == p->size ? NNB_OK : NNB_LOSSLESS_BLOCK;
}

static size_t longest_block(const payload *p) { return p->count < p->block_items ? (size_t)p->count : p->block_items; }

/* Items come in the machine's byte order. */
static void make_little_endian(uint8_t *items, size_t bytes, size_t count) {
  const uint16_t probe = 1;
  if (*(const uint8_t *)&probe == 1) return;
  for (size_t i = 0; i < count; i++, items += bytes) {
    for (size_t k = 0; k < bytes / 2; k++) {
      const uint8_t first = items[k];
      items[k] = items[bytes - 1 - k];
      items[bytes - 1 - k] = first;
    }
  }
}

static nnb_status read_blocks(const payload *p, int zstd, uint8_t *out, uint8_t *work, size_t work_size) {
  const size_t count = (size_t)p->count;
  size_t decoded;
  const nnb_status status = nnb_lossless_decode_blocks(&p->items, p->blocks, p->size, p->table, p->row_items,
                                                       p->block_items, out, count, work, work_size, &decoded);
  if (status == NNB_UNSUPPORTED_FEATURE && !zstd) return NNB_LOSSLESS_BLOCK;
  if (status == NNB_OK) make_little_endian(out, p->items.bytes, count);
  return status;
}

static nnb_status check_elements(const nnb_piece *piece, const uint8_t *values, size_t size) {
  if (piece->element_type == NNB_ELEMENT_TYPE_BOOL) {
    for (size_t i = 0; i < size; i++)
      if (values[i] > 1) return NNB_VALUE_RANGE;
  }
  const uint32_t bits = nnb_element_bits(piece->element_type);
  const uint32_t used = (uint32_t)(piece->value_count * bits % 8);
  return bits < 8 && used > 0 && values[size - 1] >> used != 0 ? NNB_RESERVED_BITS : NNB_OK;
}

static nnb_status lay_out(const nnb_access_piece *found, layout *l) {
  const nnb_piece *const piece = &found->piece;
  nnb_status status = found->status;
  l->values = l->coding = 0;
  l->words = l->map = 0;
  if (status == NNB_OK && piece->value_coding == NNB_VALUE_CODING_LOSSLESS) {
    payload p;
    status = read_payload(piece, found->values, &p);
    if (status == NNB_OK && p.count > 0) l->coding = nnb_lossless_work_size(&p.items, longest_block(&p));
  } else if (status == NNB_OK && piece->value_coding == NNB_VALUE_CODING_NDU) {
    status = nnb_coded_work_size(found, &l->coding);
  }
  if (status == NNB_OK && piece->map_kind > 0) {
    const uint64_t bytes = nnb_stored_bytes(piece->element_type, piece->value_count);
    l->values = (bytes + ALIGNMENT - 1) & ~(uint64_t)(ALIGNMENT - 1);
    status = nnb_sparse_sizes(piece->map_kind, found->shape, found->count_shape, &l->words, &l->map);
  }
  if (status != NNB_OK) return status;
  const uint64_t map = ((uint64_t)l->words + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT + l->map;
  l->all = l->values + (l->coding > map ? l->coding : map);
  return l->all <= SIZE_MAX ? NNB_OK : NNB_LIMIT;
}

nnb_status nnb_piece_work_size(const nnb_access_piece *found, size_t *work_size) {
  layout l;
  const nnb_status status = lay_out(found, &l);
  *work_size = status == NNB_OK ? (size_t)l.all : 0;
  return status;
}

/* The value_count elements that are stored. */
static nnb_status read_values(const nnb_access_piece *found, const layout *l, uint8_t *out, uint8_t *work) {
  const nnb_piece *const piece = &found->piece;
  const size_t size = (size_t)nnb_stored_bytes(piece->element_type, piece->value_count);
  payload p;
  nnb_status status;
  switch (piece->value_coding) {
    case NNB_VALUE_CODING_RAW:
      if (size > 0) nnb_memcpy(out, found->values.data, size);
      return check_elements(piece, out, size);
    case NNB_VALUE_CODING_LOSSLESS:
      status = read_payload(piece, found->values, &p);
      if (status != NNB_OK || p.count == 0) return status;
      status = read_blocks(&p, found->values.data[0] & FLAG_ZSTD, out, work, (size_t)l->coding);
      return status == NNB_OK ? check_elements(piece, out, size) : status;
    case NNB_VALUE_CODING_NDU:
      return nnb_coded_values(found, out, work);
    default:
      if (size > 0) nnb_memset(out, 0, size);
      return NNB_OK;
  }
}

/* Packed elements to where the bits of the map are; what is between is zero. */
static void expand_packed(uint32_t bits, const uint8_t *words, uint64_t elements, const uint8_t *values, uint8_t *out) {
  uint64_t from = 0;
  for (uint64_t i = 0; i < elements; i++) {
    if (words[i / 8] == 0) {
      i |= 7;
      continue;
    }
    if (!(words[i / 8] >> (i % 8) & 1)) continue;
    for (uint64_t bit = i * bits; bit < (i + 1) * bits; bit++, from++) {
      out[bit / 8] = (uint8_t)(out[bit / 8] | (values[from / 8] >> (from % 8) & 1) << (bit % 8));
    }
  }
}

static nnb_status expand(const nnb_access_piece *found, const layout *l, const uint8_t *values, uint8_t *out,
                         size_t out_size, uint8_t *work) {
  const nnb_piece *const piece = &found->piece;
  uint8_t *const rest = work + (l->words + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  const nnb_status status = nnb_sparse_decode(piece->map_kind, found->map.data, found->map.size, found->shape,
                                              found->count_shape, piece->value_count, work, l->words, rest, l->map);
  if (status != NNB_OK) return status;
  const uint32_t bits = nnb_element_bits(piece->element_type);
  if (bits >= 8) return nnb_sparse_expand(work, piece->element_count, bits / 8, values, piece->value_count, out);
  if (out_size > 0) nnb_memset(out, 0, out_size);
  expand_packed(bits, work, piece->element_count, values, out);
  return NNB_OK;
}

static nnb_status piece_values(const nnb_access_piece *found, const uint8_t *base, uint8_t *out, size_t out_size,
                               void *work, size_t work_size) {
  layout l;
  uint8_t *const memory = work;
  if (out_size != nnb_piece_bytes(&found->piece)) return NNB_BUFFER_SIZE;
  nnb_status status = lay_out(found, &l);
  if (status != NNB_OK) return status;
  if (work_size < l.all) return NNB_BUFFER_SIZE;
  if (found->changes && base == NULL) return NNB_BASE_MISSING;
  if (found->piece.map_kind == 0) return read_values(found, &l, out, memory);
  uint8_t *const rest = memory + l.values;
  status = read_values(found, &l, memory, rest);
  return status == NNB_OK ? expand(found, &l, memory, out, out_size, rest) : status;
}

nnb_status nnb_piece_values(const nnb_access_piece *found, uint8_t *out, size_t out_size, void *work,
                            size_t work_size) {
  return piece_values(found, NULL, out, out_size, work, work_size);
}

nnb_status nnb_piece_values_on(const nnb_access_piece *found, const uint8_t *base, uint8_t *out, size_t out_size,
                               void *work, size_t work_size) {
  const nnb_status status = piece_values(found, base, out, out_size, work, work_size);
  if (status != NNB_OK || !found->changes) return status;
  for (size_t i = 0; i < out_size; i++) out[i] = out[i] ^ base[i];
  return NNB_OK;
}

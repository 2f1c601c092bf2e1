/* Access units (docs/format.md). */
#include "common/deps.h"
#include "nnb/nnb_access.h"

enum {
  NNB_AU_CRC_END = 1 + 4 + 1 + 1 + 4, /* unit header, signature, kind, version and au_crc32c behind the size */
};

uint64_t nnb_stored_bytes(uint32_t element_type, uint64_t count) {
  const uint32_t bits = nnb_element_bits(element_type);
  return bits < 8 ? (count * bits + 7) / 8 : count * (bits / 8);
}

uint64_t nnb_piece_bytes(const nnb_piece *piece) { return nnb_stored_bytes(piece->element_type, piece->element_count); }

/* Whether the standard profile has a carrier for the type: at least 8 bits, not complex, no float of 8 bits. */
static int in_standard_profile(uint32_t type) {
  return nnb_element_bits(type) >= 8 && !(type >= NNB_ELEMENT_TYPE_COMPLEX32 && type <= NNB_ELEMENT_TYPE_COMPLEX128) &&
         !(type >= NNB_ELEMENT_TYPE_FLOAT8_E4M3FN && type <= NNB_ELEMENT_TYPE_FLOAT8_E4M3B11FNUZ);
}

static nnb_status check_piece(const nnb_piece *piece, uint64_t max_tensor_bytes) {
  const uint32_t bits = nnb_element_bits(piece->element_type);
  if (piece->size > NNB_MAX_ELEMENTS) return NNB_LIMIT;
  if (nnb_stored_bytes(piece->element_type, piece->size) > max_tensor_bytes) return NNB_MEMORY_BUDGET;
  if (piece->part_flag) {
    const uint64_t end = piece->first_element + piece->element_count;
    if (piece->element_count == 0 || end > piece->size) return NNB_ACCESS_UNIT;
    const int cut = piece->first_element * bits % 8 != 0 || (end < piece->size && end * bits % 8 != 0);
    if (bits < 8 && cut) return NNB_ACCESS_UNIT;
  }
  if (piece->value_count > piece->element_count) return NNB_SPARSE_MAP;
  if (piece->value_coding == NNB_VALUE_CODING_RAW &&
      piece->value_bytes != nnb_stored_bytes(piece->element_type, piece->value_count)) {
    return NNB_SHAPE_MISMATCH;
  }
  if (piece->value_coding == NNB_VALUE_CODING_NDU && !in_standard_profile(piece->element_type)) return NNB_ACCESS_UNIT;
  return NNB_OK;
}

/* Checks all pieces; *sections becomes the sum of their sections. */
static nnb_status check_pieces(const nnb_access_unit *au, uint64_t max_tensor_bytes, uint64_t *sections) {
  nnb_list pieces = au->pieces;
  nnb_piece piece;
  uint8_t name[NNB_MAX_SHARED_NAME_BYTES];
  uint64_t sum = 0;
  while (nnb_next_piece(&pieces, &piece, name, sizeof name)) {
    const nnb_status status = check_piece(&piece, max_tensor_bytes);
    if (status != NNB_OK) return status;
    sum += piece.map_bytes + piece.value_bytes; /* at most 2^16 times 2^53 */
    if (sum > UINT64_MAX / 2) sum = UINT64_MAX / 2;
  }
  *sections = sum;
  return NNB_OK;
}

/* The unit at unit_at, which must lie in the access unit. */
static nnb_status read_unit(nnb_access_unit *au, nnb_unit *unit) {
  const uint8_t *const data = au->data + au->unit_at;
  const size_t left = au->size - au->unit_at;
  size_t size_bytes;
  size_t size;
  nnb_status status = nnb_peek_unit_size(data, left, &size_bytes, &size);
  if (status != NNB_OK) return status;
  if (size > left) return NNB_TRUNCATED;
  status = nnb_parse_unit(data, size, au->unit_index, au->offset + au->unit_at, au->parameters, NULL, unit);
  if (status != NNB_OK) return status;
  au->unit_at += size;
  au->unit_index++;
  return NNB_OK;
}

static int is_extension(const nnb_unit *unit, uint32_t kind) {
  return unit->nnr_unit_type == NNB_NNR_EXT && unit->body.ext.ext_kind == kind;
}

static nnb_status open_sections(nnb_access_unit *au, uint64_t sections) {
  nnb_unit unit;
  if (!au->header.body.ext.data_flag) return sections == 0 ? NNB_OK : NNB_ACCESS_UNIT;
  const nnb_status status = read_unit(au, &unit);
  if (status != NNB_OK) return status;
  if (!is_extension(&unit, NNB_EXTENSION_KIND_ACCESS_UNIT_DATA)) return NNB_ACCESS_UNIT;
  au->sections = unit.data + unit.payload_offset;
  au->sections_left = unit.size - unit.payload_offset;
  return sections == au->sections_left ? NNB_OK : NNB_ACCESS_UNIT;
}

nnb_status nnb_access_unit_open(nnb_access_unit *au, const uint8_t *data, size_t size, size_t offset,
                                const nnb_parameters *parameters, uint64_t max_tensor_bytes) {
  nnb_memset(au, 0, sizeof *au);
  au->data = data;
  au->size = size;
  au->offset = offset;
  au->parameters = parameters;
  nnb_status status = read_unit(au, &au->header);
  if (status != NNB_OK) return status;
  const nnb_extension *const ext = &au->header.body.ext;
  if (!is_extension(&au->header, NNB_EXTENSION_KIND_ACCESS_UNIT_HEADER)) return NNB_ACCESS_UNIT;
  if (ext->au_bytes != size) return NNB_ACCESS_UNIT;
  const size_t covered = (au->header.nnr_unit_size_flag ? 4 : 2) + NNB_AU_CRC_END;
  if (nnb_crc32c(0, data + covered, size - covered) != ext->crc32c) return NNB_CHECKSUM;

  au->pieces = ext->pieces;
  uint64_t sections = 0;
  status = check_pieces(au, max_tensor_bytes, &sections);
  if (status != NNB_OK) return status;
  status = open_sections(au, sections);
  if (status != NNB_OK) return status;
  nnb_access_unit ahead = *au;
  for (uint32_t i = 0; i < ext->ndu_count; i++) {
    nnb_unit unit;
    status = read_unit(&ahead, &unit);
    if (status != NNB_OK) return status;
    if (unit.nnr_unit_type != NNB_NNR_NDU) return NNB_ACCESS_UNIT;
  }
  return ahead.unit_at == size ? NNB_OK : NNB_ACCESS_UNIT;
}

static nnb_string section(nnb_access_unit *au, uint64_t bytes) {
  nnb_string found = {NULL, 0};
  if (bytes == 0 || bytes > au->sections_left) return found;
  found.data = au->sections;
  found.size = (size_t)bytes;
  au->sections += found.size;
  au->sections_left -= found.size;
  return found;
}

int nnb_access_unit_next_piece(nnb_access_unit *au, nnb_access_piece *found, uint8_t *name, size_t capacity) {
  if (!nnb_next_piece(&au->pieces, &found->piece, name, capacity)) return 0;
  found->map = section(au, found->piece.map_bytes);
  found->values = section(au, found->piece.value_bytes);
  return 1;
}

nnb_status nnb_access_unit_next_unit(nnb_access_unit *au, nnb_unit *unit) {
  if (au->unit_at == au->size) {
    unit->size = 0;
    return NNB_OK;
  }
  return read_unit(au, unit);
}

static nnb_status check_raw(const nnb_piece *piece, const uint8_t *values, size_t size) {
  if (piece->element_type == NNB_ELEMENT_TYPE_BOOL) {
    for (size_t i = 0; i < size; i++)
      if (values[i] > 1) return NNB_VALUE_RANGE;
  }
  const uint32_t bits = nnb_element_bits(piece->element_type);
  const uint32_t used = (uint32_t)(piece->value_count * bits % 8);
  return bits < 8 && used > 0 && values[size - 1] >> used != 0 ? NNB_RESERVED_BITS : NNB_OK;
}

nnb_status nnb_piece_values(const nnb_access_piece *found, uint8_t *out, size_t out_size) {
  const nnb_piece *const piece = &found->piece;
  if (out_size != nnb_piece_bytes(piece)) return NNB_BUFFER_SIZE;
  if (piece->map_kind > 0) return NNB_UNSUPPORTED_FEATURE;
  if (piece->value_coding == NNB_VALUE_CODING_NOTHING) {
    nnb_memset(out, 0, out_size);
    return NNB_OK;
  }
  if (piece->value_coding != NNB_VALUE_CODING_RAW) return NNB_UNSUPPORTED_FEATURE;
  if (out_size == 0) return NNB_OK;
  nnb_memcpy(out, found->values.data, out_size);
  return check_raw(piece, out, out_size);
}

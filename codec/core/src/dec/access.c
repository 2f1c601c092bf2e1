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
static nnb_status check_pieces(nnb_access_unit *au, uint64_t max_tensor_bytes, uint64_t *sections) {
  nnb_list pieces = au->pieces;
  nnb_piece piece;
  uint8_t name[NNB_MAX_SHARED_NAME_BYTES];
  uint64_t sum = 0;
  while (nnb_next_piece(&pieces, &piece, name, sizeof name)) {
    const nnb_status status = check_piece(&piece, max_tensor_bytes);
    if (status != NNB_OK) return status;
    sum += piece.map_bytes + piece.value_bytes; /* at most 2^16 times 2^53 */
    if (sum > UINT64_MAX / 2) sum = UINT64_MAX / 2;
    au->coded_left += piece.value_coding == NNB_VALUE_CODING_NDU;
  }
  *sections = sum;
  return NNB_OK;
}

/* The unit at *at, which must lie in the access unit. */
static nnb_status read_unit(const nnb_access_unit *au, size_t *at, uint32_t *index, nnb_unit *unit) {
  const uint8_t *const data = au->data + *at;
  const size_t left = au->size - *at;
  size_t size_bytes;
  size_t size;
  nnb_status status = nnb_peek_unit_size(data, left, &size_bytes, &size);
  if (status != NNB_OK) return status;
  if (size > left) return NNB_TRUNCATED;
  status = nnb_parse_unit(data, size, *index, au->offset + *at, au->parameters, NULL, unit);
  if (status != NNB_OK) return status;
  *at += size;
  ++*index;
  return NNB_OK;
}

static int is_extension(const nnb_unit *unit, uint32_t kind) {
  return unit->nnr_unit_type == NNB_NNR_EXT && unit->body.ext.ext_kind == kind;
}

/* The units behind the header. */
static nnb_status check_units(nnb_access_unit *au, uint64_t sections) {
  nnb_unit unit;
  nnb_status status;
  if (au->header.body.ext.data_flag) {
    status = read_unit(au, &au->unit_at, &au->unit_index, &unit);
    if (status != NNB_OK) return status;
    if (!is_extension(&unit, NNB_EXTENSION_KIND_ACCESS_UNIT_DATA)) return NNB_ACCESS_UNIT;
    au->sections = unit.data + unit.payload_offset;
    au->sections_left = unit.size - unit.payload_offset;
  }
  if (sections != au->sections_left) return NNB_ACCESS_UNIT;
  size_t at = au->coded_at = au->unit_at;
  uint32_t index = au->coded_index = au->unit_index;
  for (uint32_t i = 0; i < au->header.body.ext.ndu_count; i++) {
    status = read_unit(au, &at, &index, &unit);
    if (status != NNB_OK) return status;
    if (unit.nnr_unit_type != NNB_NNR_NDU) return NNB_ACCESS_UNIT;
  }
  return at == au->size ? NNB_OK : NNB_ACCESS_UNIT;
}

nnb_status nnb_access_unit_open(nnb_access_unit *au, const uint8_t *data, size_t size, size_t offset,
                                const nnb_parameters *parameters, uint64_t max_tensor_bytes) {
  nnb_memset(au, 0, sizeof *au);
  au->data = data;
  au->size = size;
  au->offset = offset;
  au->parameters = parameters;
  au->max_tensor_bytes = max_tensor_bytes;
  nnb_status status = read_unit(au, &au->unit_at, &au->unit_index, &au->header);
  if (status != NNB_OK) return status;
  const nnb_extension *const ext = &au->header.body.ext;
  if (!is_extension(&au->header, NNB_EXTENSION_KIND_ACCESS_UNIT_HEADER)) return NNB_ACCESS_UNIT;
  if (ext->au_bytes != size) return NNB_ACCESS_UNIT;
  const size_t covered = (au->header.nnr_unit_size_flag ? 4 : 2) + NNB_AU_CRC_END;
  if (nnb_crc32c(0, data + covered, size - covered) != ext->crc32c) return NNB_CHECKSUM;

  au->pieces = ext->pieces;
  uint64_t sections = 0;
  status = check_pieces(au, max_tensor_bytes, &sections);
  return status == NNB_OK ? check_units(au, sections) : status;
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

static void set_shape(nnb_access_piece *found) {
  const nnb_piece *const piece = &found->piece;
  nnb_list dimensions = piece->dimensions;
  uint64_t row = 1; /* no overflow: the number of elements of the tensor was checked; 0 is met only if it is 0 */
  found->count_shape = 0;
  while (found->count_shape < NNB_MAX_DIMENSIONS &&
         nnb_list_dimension(&dimensions, &found->shape[found->count_shape])) {
    found->count_shape++;
  }
  if (!piece->part_flag) return;
  for (uint32_t k = 1; k < found->count_shape; k++) row *= found->shape[k];
  if (piece->first_element % row == 0 && piece->element_count % row == 0) {
    found->shape[0] = piece->element_count / row;
    if (found->count_shape > 0) return;
  }
  found->shape[0] = piece->element_count;
  found->count_shape = 1;
}

/* Whether a data unit's name is that of the piece, for parts followed by @ and first_element. */
static int has_name(const nnb_piece *piece, const uint8_t *name, nnb_string of_unit) {
  size_t left = of_unit.size;
  if (piece->part_flag) {
    uint64_t number = piece->first_element;
    do {
      if (left == 0 || of_unit.data[--left] != '0' + number % 10) return 0;
      number /= 10;
    } while (number > 0);
    if (left == 0 || of_unit.data[--left] != '@') return 0;
  }
  if (left != piece->name_length) return 0;
  for (size_t i = 0; i < left; i++)
    if (name[i] != of_unit.data[i]) return 0;
  return 1;
}

/* The data units have the order of the pieces. */
static nnb_status next_coded(nnb_access_unit *au, const nnb_piece *piece, const uint8_t *name, size_t capacity,
                             nnb_unit *unit) {
  nnb_string of_unit;
  if (au->coded_at == au->size) return NNB_ACCESS_UNIT;
  nnb_status status = read_unit(au, &au->coded_at, &au->coded_index, unit);
  if (status != NNB_OK) return status;
  if (nnb_part_count(unit) > 1 || unit->partial_data_counter > 0) return NNB_UNSUPPORTED_FEATURE;
  status = nnb_unit_name(unit, au->parameters, 0, &of_unit);
  if (status != NNB_OK) return status;
  if (piece->name_length > capacity) return NNB_BUFFER_SIZE;
  if (!has_name(piece, name, of_unit)) return NNB_ACCESS_UNIT;
  return --au->coded_left == 0 && au->coded_at != au->size ? NNB_ACCESS_UNIT : NNB_OK;
}

int nnb_access_unit_next_piece(nnb_access_unit *au, nnb_access_piece *found, uint8_t *name, size_t capacity) {
  if (!nnb_next_piece(&au->pieces, &found->piece, name, capacity)) return 0;
  found->map = section(au, found->piece.map_bytes);
  found->values = section(au, found->piece.value_bytes);
  found->parameters = au->parameters;
  found->max_tensor_bytes = au->max_tensor_bytes;
  set_shape(found);
  found->unit.size = 0;
  found->status = NNB_OK;
  if (found->piece.value_coding == NNB_VALUE_CODING_NDU) {
    if (au->coded_status == NNB_OK) au->coded_status = next_coded(au, &found->piece, name, capacity, &found->unit);
    found->status = au->coded_status;
  }
  found->changes = au->header.body.ext.au_relation == NNB_ACCESS_UNIT_RELATION_XOR;
  return 1;
}

nnb_status nnb_access_unit_next_unit(nnb_access_unit *au, nnb_unit *unit) {
  if (au->unit_at == au->size) {
    unit->size = 0;
    return NNB_OK;
  }
  return read_unit(au, &au->unit_at, &au->unit_index, unit);
}

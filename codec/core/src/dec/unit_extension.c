/* Extension units (docs/format.md). */
#include "dec/unit.h"

#define NNB_MAX_VALUE_BYTES (16 * NNB_MAX_ELEMENTS)

/* The start of a name, as far as the next one can share it. */
typedef struct shared_name {
  uint8_t start[NNB_MAX_SHARED_NAME_BYTES];
  uint32_t length; /* of the whole name */
} shared_name;

uint32_t nnb_element_bits(uint32_t element_type) {
  switch (element_type) {
    case NNB_ELEMENT_TYPE_BOOL:
    case NNB_ELEMENT_TYPE_UINT8:
    case NNB_ELEMENT_TYPE_INT8:
      return 8;
    case NNB_ELEMENT_TYPE_UINT16:
    case NNB_ELEMENT_TYPE_INT16:
    case NNB_ELEMENT_TYPE_FLOAT16:
    case NNB_ELEMENT_TYPE_BFLOAT16:
      return 16;
    case NNB_ELEMENT_TYPE_UINT32:
    case NNB_ELEMENT_TYPE_INT32:
    case NNB_ELEMENT_TYPE_FLOAT32:
    case NNB_ELEMENT_TYPE_COMPLEX32:
      return 32;
    case NNB_ELEMENT_TYPE_UINT64:
    case NNB_ELEMENT_TYPE_INT64:
    case NNB_ELEMENT_TYPE_FLOAT64:
    case NNB_ELEMENT_TYPE_COMPLEX64:
      return 64;
    case NNB_ELEMENT_TYPE_COMPLEX128:
      return 128;
    case NNB_ELEMENT_TYPE_FLOAT4_E2M1FN:
      return 4;
    case NNB_ELEMENT_TYPE_FLOAT6_E2M3FN:
    case NNB_ELEMENT_TYPE_FLOAT6_E3M2FN:
      return 6;
    default:
      break;
  }
  if (element_type >= NNB_ELEMENT_TYPE_FLOAT8_E4M3FN && element_type <= NNB_ELEMENT_TYPE_FLOAT8_E4M3B11FNUZ) return 8;
  if (element_type >= NNB_ELEMENT_TYPE_UINT1 && element_type <= NNB_ELEMENT_TYPE_UINT7) {
    return element_type - NNB_ELEMENT_TYPE_UINT1 + 1;
  }
  if (element_type >= NNB_ELEMENT_TYPE_INT1 && element_type <= NNB_ELEMENT_TYPE_INT7) {
    return element_type - NNB_ELEMENT_TYPE_INT1 + 1;
  }
  return 0;
}

/* Byte `i` of a string that need not begin at a byte. */
static uint8_t byte_at(const nnb_bits *s, uint64_t position, uint32_t i) {
  const uint64_t bit = position + 8 * (uint64_t)i;
  const uint8_t *const p = s->data + (size_t)(bit >> 3);
  const uint32_t shift = (uint32_t)(bit & 7);
  return (uint8_t)(shift == 0 ? p[0] : p[0] << shift | p[1] >> (8 - shift));
}

/* What may follow within a character of UTF-8. */
typedef struct utf8 {
  uint8_t left; /* bytes */
  uint8_t low;  /* bounds of the next */
  uint8_t high;
} utf8;

/* 0 if `byte` cannot follow: not UTF-8, longer than needed, a surrogate or above 0x10FFFF. */
static int utf8_next(utf8 *state, uint8_t byte) {
  if (state->left > 0) {
    if (byte < state->low || byte > state->high) return 0;
    *state = (utf8){(uint8_t)(state->left - 1), 0x80, 0xBF};
    return 1;
  }
  if (byte < 0x80) return 1;
  if (byte < 0xC2 || byte > 0xF4) return 0;
  state->left = byte < 0xE0 ? 1 : byte < 0xF0 ? 2 : 3;
  state->low = byte == 0xE0 ? 0xA0 : byte == 0xF0 ? 0x90 : 0x80;
  state->high = byte == 0xED ? 0x9F : byte == 0xF4 ? 0x8F : 0xBF;
  return 1;
}

/* The rule about names: what is shared and the rest are UTF-8 of bounded length. */
static void complete_name(nnb_bits *s, uint64_t position, uint32_t shared, uint32_t length, shared_name *name) {
  if (!nnb_ok(s)) return;
  if (shared > name->length) nnb_fail(s, NNB_VALUE_RANGE);
  if (shared + length > NNB_MAX_NAME_BYTES) nnb_fail(s, NNB_LIMIT);
  if (!nnb_ok(s)) return;
  utf8 state = {0, 0, 0};
  name->length = shared + length;
  for (uint32_t i = 0; i < name->length; i++) {
    const uint8_t byte = i < shared ? name->start[i] : byte_at(s, position, i - shared);
    if (!utf8_next(&state, byte)) nnb_fail(s, NNB_BAD_STRING);
    if (i < sizeof name->start) name->start[i] = byte;
  }
  if (state.left > 0) nnb_fail(s, NNB_BAD_STRING);
}

/* Elements of a tensor; more than NNB_MAX_ELEMENTS is no error of a header, but none that can be in a stream. */
static uint64_t multiplied(uint64_t size, uint64_t dimension) {
  if (dimension != 0 && size > NNB_MAX_ELEMENTS / dimension) return NNB_MAX_ELEMENTS + 1;
  return size * dimension;
}

static uint8_t element_type(nnb_bits *s) {
  if (s->end - s->position >= 8 && nnb_element_bits((uint32_t)nnb_peek_u(s, 8)) == 0) nnb_fail(s, NNB_UNKNOWN_VALUE);
  return NNB_U8(s, 8, "element_type");
}

static void read_piece(nnb_bits *s, shared_name *before, nnb_piece *found) {
  nnb_memset(found, 0, sizeof *found);
  const uint32_t shared =
      (uint32_t)nnb_read_ue_range(s, 3, 0, NNB_MAX_SHARED_NAME_BYTES, NNB_VALUE_RANGE NNB_NAMED("name_shared"));
  const uint32_t length = (uint32_t)NNB_UE_LIMIT(s, 4, NNB_MAX_NAME_BYTES, "name_length");
  const uint64_t position = s->position;
  nnb_read_raw(s, 8 * (uint64_t)length NNB_NAMED("name"));
  complete_name(s, position, shared, length, before);
  found->name_length = before->length;
  found->element_type = element_type(s);
  found->count_dimensions = (uint8_t)NNB_UE_LIMIT(s, 1, NNB_MAX_DIMENSIONS, "count_dimensions");
  const uint32_t count = nnb_bounded(s, found->count_dimensions, NNB_MAX_DIMENSIONS, 8);
  found->dimensions = nnb_list_here(s, (size_t)(s->end >> 3), count);
  found->size = 1;
  for (uint32_t k = 0; k < count; k++) {
    NNB_AT(s, 2, k);
    found->size = multiplied(found->size, NNB_UE_LIMIT(s, 7, NNB_MAX_DIMENSION, "dimensions"));
  }
  NNB_LEVEL(s, 1);
  found->part_flag = NNB_FLAG(s, "part_flag");
  if (found->part_flag) {
    found->first_element = NNB_UE_LIMIT(s, 15, NNB_MAX_ELEMENTS, "first_element");
    found->element_count = NNB_UE_LIMIT(s, 15, NNB_MAX_ELEMENTS, "element_count");
  } else {
    found->element_count = found->size;
  }
  found->map_kind = NNB_U8(s, 4, "map_kind");
  found->value_count = found->element_count;
  if (found->map_kind > 0) {
    found->map_bytes = NNB_UE_LIMIT(s, 7, NNB_MAX_ELEMENTS, "map_bytes");
    found->value_count = NNB_UE_LIMIT(s, 15, NNB_MAX_ELEMENTS, "value_count");
  }
  found->value_coding = NNB_ENUM(s, 4, NNB_VALUE_CODING_NDU, "value_coding");
  if (found->value_coding == NNB_VALUE_CODING_RAW || found->value_coding == NNB_VALUE_CODING_LOSSLESS) {
    found->value_bytes = NNB_UE_LIMIT(s, 15, NNB_MAX_VALUE_BYTES, "value_bytes");
  }
}

static void access_unit_header(nnb_bits *s, nnb_extension *ext) {
  ext->crc32c = (uint32_t)NNB_U(s, 32, "au_crc32c");
  ext->covered_position = s->position;
  ext->au_bytes = NNB_U(s, 40, "au_bytes");
  ext->au_number = NNB_UE_LIMIT(s, 7, NNB_MAX_ACCESS_UNITS, "au_number");
  ext->au_relation = NNB_ENUM(s, 2, NNB_ACCESS_UNIT_RELATION_XOR, "au_relation");
  if (ext->au_relation > 0) {
    ext->digest_position = s->position;
    nnb_read_raw(s, 8 * NNB_DIGEST_BYTES NNB_NAMED("base_digest"));
  }
  ext->data_flag = NNB_FLAG(s, "data_flag");
  ext->ndu_count = (uint32_t)NNB_UE_LIMIT(s, 2, NNB_MAX_PIECES, "ndu_count");
  const uint64_t pieces = 1 + NNB_UE_LIMIT(s, 2, NNB_MAX_PIECES - 1, "piece_count_minus1");
  const uint32_t count = nnb_bounded(s, pieces, NNB_MAX_PIECES, 28);
  ext->pieces = nnb_list_here(s, (size_t)(s->end >> 3), count);
  shared_name name;
  nnb_piece found;
  name.length = 0;
  for (uint32_t j = 0; j < count && nnb_ok(s); j++) {
    NNB_AT(s, 1, j);
    read_piece(s, &name, &found);
  }
  NNB_LEVEL(s, 0);
  nnb_read_alignment(s);
}

static void attachment(nnb_bits *s, nnb_extension *ext) {
  ext->crc32c = (uint32_t)NNB_U(s, 32, "attachment_crc32c");
  ext->covered_position = s->position;
  const uint32_t length = (uint32_t)NNB_U(s, 16, "name_length");
  ext->name = (nnb_string){s->data + (size_t)(s->position >> 3), length};
  nnb_read_raw(s, 8 * (uint64_t)length NNB_NAMED("name"));
  ext->attachment_size = nnb_read_u64(s, NNB_MAX_ATTACHMENT_BYTES NNB_NAMED("attachment_size"));
  ext->part_offset = nnb_read_u64(s, NNB_MAX_ATTACHMENT_BYTES NNB_NAMED("part_offset"));
  ext->content_size = nnb_read_u_range(s, 32, 0, NNB_MAX_ATTACHMENT_PART_BYTES, NNB_LIMIT NNB_NAMED("part_size"));
}

static void end_unit(nnb_bits *s, nnb_extension *ext) {
  ext->index_offset = NNB_U(s, 64, "index_offset");
  ext->index_bytes = NNB_U(s, 64, "index_bytes");
  ext->previous_end = NNB_U(s, 64, "previous_end");
  ext->digest_position = s->position;
  nnb_read_raw(s, 8 * NNB_DIGEST_BYTES NNB_NAMED("model_digest"));
  ext->au_count = nnb_read_u64(s, NNB_MAX_ACCESS_UNITS NNB_NAMED("au_count"));
  nnb_read_raw(s, 136 NNB_NAMED("reserved_zero"));
  ext->crc32c = (uint32_t)NNB_U(s, 32, "end_crc32c");
}

void nnb_extension_unit_payload(nnb_bits *s, nnb_extension *ext) {
  NNB_U(s, 32, "ext_signature");
  ext->ext_kind = NNB_U8(s, 8, "ext_kind");
  if (nnb_ok(s) && (ext->ext_kind < NNB_EXTENSION_KIND_METADATA || ext->ext_kind > NNB_EXTENSION_KIND_ATTACHMENT)) {
    nnb_fail(s, NNB_UNSUPPORTED_UNIT);
  }
  const uint32_t version = NNB_U8(s, 8, "ext_version");
  if (nnb_ok(s) && version != NNB_EXT_VERSION) nnb_fail(s, NNB_UNSUPPORTED_UNIT);
  if (!nnb_ok(s)) return;
  switch (ext->ext_kind) {
    case NNB_EXTENSION_KIND_METADATA:
      ext->head_crc32c = (uint32_t)NNB_U(s, 32, "head_crc32c");
      ext->crc32c = (uint32_t)NNB_U(s, 32, "metadata_crc32c");
      ext->covered_position = s->position;
      ext->content_size = nnb_read_u_range(s, 32, 0, NNB_MAX_METADATA_BYTES, NNB_LIMIT NNB_NAMED("metadata_size"));
      break;
    case NNB_EXTENSION_KIND_ACCESS_UNIT_HEADER:
      access_unit_header(s, ext);
      break;
    case NNB_EXTENSION_KIND_INDEX:
      ext->crc32c = (uint32_t)NNB_U(s, 32, "index_crc32c");
      ext->covered_position = s->position;
      ext->content_size = nnb_read_u64(s, NNB_MAX_INDEX_BYTES NNB_NAMED("index_size"));
      break;
    case NNB_EXTENSION_KIND_END:
      end_unit(s, ext);
      break;
    case NNB_EXTENSION_KIND_ATTACHMENT:
      attachment(s, ext);
      break;
    default: /* the data of an access unit have no elements */
      break;
  }
}

int nnb_next_piece(nnb_list *pieces, nnb_piece *found, uint8_t *name, size_t capacity) {
  if (pieces->count == 0) return 0;
  nnb_bits s = nnb_bits_at(pieces->data, pieces->size, pieces->position);
  nnb_memset(found, 0, sizeof *found);
  const uint32_t shared = (uint32_t)NNB_UE(&s, 3, "");
  const uint32_t length = (uint32_t)NNB_UE(&s, 4, "");
  for (uint32_t i = 0; i < length && shared + i < capacity; i++) name[shared + i] = byte_at(&s, s.position, i);
  s.position = pieces->position;
  shared_name whole;
  whole.length = NNB_MAX_NAME_BYTES; /* it was checked before */
  nnb_memcpy(whole.start, name, capacity < sizeof whole.start ? capacity : sizeof whole.start);
  read_piece(&s, &whole, found);
  pieces->position = s.position;
  pieces->count--;
  return 1;
}

int nnb_list_dimension(nnb_list *list, uint64_t *dimension) {
  if (list->count == 0) return 0;
  nnb_bits s = nnb_bits_at(list->data, list->size, list->position);
  *dimension = NNB_UE(&s, 7, "");
  list->position = s.position;
  list->count--;
  return 1;
}

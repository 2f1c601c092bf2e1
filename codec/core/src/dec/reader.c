/* Extended streams from front to back (docs/format.md). */
#include "common/deps.h"
#include "nnb/nnb_access.h"

static nnb_status check_crc32c(uint32_t expected, const uint8_t *data, size_t size) {
  return nnb_crc32c(0, data, size) == expected ? NNB_OK : NNB_CHECKSUM;
}

/* The bytes of a unit from covered_position on. */
static nnb_status check_covered(const nnb_unit *unit) {
  const size_t start = (size_t)(unit->body.ext.covered_position >> 3);
  return check_crc32c(unit->body.ext.crc32c, unit->data + start, unit->size - start);
}

static nnb_status check_end(const nnb_unit *unit) {
  enum { RESERVED = 17, CRC = 4 };
  if (check_crc32c(unit->body.ext.crc32c, unit->data, unit->size - CRC) != NNB_OK) return NNB_CHECKSUM;
  for (size_t i = unit->size - CRC - RESERVED; i < unit->size - CRC; i++)
    if (unit->data[i] != 0) return NNB_RESERVED_BITS;
  return NNB_OK;
}

nnb_status nnb_reader_open(nnb_reader *reader, const uint8_t *data, size_t size, uint64_t max_tensor_bytes) {
  nnb_stream stream;
  nnb_unit unit;
  nnb_memset(reader, 0, sizeof *reader);
  reader->data = data;
  reader->size = size;
  reader->max_tensor_bytes = max_tensor_bytes;
  reader->status = nnb_stream_open(&stream, data, size);
  while (reader->status == NNB_OK) {
    reader->status = nnb_stream_next(&stream, &unit);
    if (reader->status != NNB_OK) {
      reader->offset = stream.offset;
      break;
    }
    const uint32_t kind = unit.size > 0 && unit.nnr_unit_type == NNB_NNR_EXT ? unit.body.ext.ext_kind : 0;
    reader->offset = unit.offset;
    if (kind == NNB_EXTENSION_KIND_METADATA) {
      if (!stream.parameters.mps_present) return reader->status = NNB_UNIT_ORDER;
      reader->status = check_covered(&unit);
      if (check_crc32c(unit.body.ext.head_crc32c, data, unit.offset) != NNB_OK) {
        reader->offset = 0;
        reader->status = NNB_CHECKSUM;
      }
      if (reader->status != NNB_OK) break;
      reader->parameters = stream.parameters;
      reader->offset = unit.offset + unit.size;
      reader->index = unit.index + 1;
      break;
    }
    if (kind > 0) return reader->status = NNB_UNIT_ORDER; /* extension units follow the metadata unit */
    if (unit.size == 0 || unit.nnr_unit_type == NNB_NNR_NDU) reader->status = NNB_UNSUPPORTED_FEATURE;
  }
  return reader->status;
}

/* Reads the unit at the reader's place; what is no access unit is checked and passed. */
static nnb_status step(nnb_reader *reader, nnb_access_unit *au) {
  const uint8_t *const data = reader->data + reader->offset;
  const size_t left = reader->size - reader->offset;
  size_t size_bytes;
  size_t size;
  nnb_unit unit;
  nnb_status status = nnb_peek_unit_size(data, left, &size_bytes, &size);
  if (status != NNB_OK) return status;
  if (size > left) return NNB_TRUNCATED;
  status = nnb_parse_unit(data, size, reader->index, reader->offset, &reader->parameters, NULL, &unit);
  if (status != NNB_OK) return status;
  if (unit.nnr_unit_type <= NNB_NNR_AGG) return NNB_UNIT_ORDER;
  const nnb_extension *const ext = &unit.body.ext;
  const uint32_t kind = unit.nnr_unit_type == NNB_NNR_EXT ? ext->ext_kind : 0;
  if (reader->indexed && kind != NNB_EXTENSION_KIND_END) return NNB_UNIT_ORDER;
  reader->ended = kind == NNB_EXTENSION_KIND_END;
  reader->index++;
  switch (kind) {
    case NNB_EXTENSION_KIND_ACCESS_UNIT_HEADER:
      if (ext->au_bytes < size) return NNB_ACCESS_UNIT;
      if (ext->au_bytes > left) return NNB_TRUNCATED;
      if (ext->au_number != reader->au_count) return NNB_ACCESS_UNIT;
      reader->au_count++;
      size = (size_t)ext->au_bytes;
      status = nnb_access_unit_open(au, data, size, reader->offset, &reader->parameters, reader->max_tensor_bytes);
      reader->index += 0u + ext->data_flag + ext->ndu_count;
      break;
    case NNB_EXTENSION_KIND_INDEX:
      reader->indexed = 1;
      reader->index_offset = reader->offset;
      reader->index_bytes = size;
      status = check_covered(&unit);
      break;
    case NNB_EXTENSION_KIND_ATTACHMENT:
      status = check_covered(&unit);
      break;
    case NNB_EXTENSION_KIND_END:
      status = check_end(&unit);
      if (status != NNB_OK) return status;
      if (!reader->indexed) return NNB_UNIT_ORDER;
      if (ext->au_count != reader->au_count) return NNB_INDEX;
      if (ext->index_offset != reader->index_offset || ext->index_bytes != reader->index_bytes) return NNB_INDEX;
      if (ext->previous_end != reader->end_offset) return NNB_INDEX;
      reader->indexed = 0;
      reader->end_offset = reader->offset;
      break;
    case 0: /* somebody else's unit */
      break;
    default:
      return NNB_UNIT_ORDER;
  }
  reader->offset += size;
  return status;
}

nnb_status nnb_reader_next(nnb_reader *reader, nnb_access_unit *au) {
  au->size = 0;
  while (reader->status == NNB_OK && au->size == 0) {
    if (reader->offset == reader->size) {
      if (!reader->ended) reader->status = NNB_TRUNCATED;
      return reader->status;
    }
    const size_t start = reader->offset;
    reader->status = step(reader, au);
    if (reader->status != NNB_OK) reader->offset = start;
  }
  if (reader->status != NNB_OK) au->size = 0;
  return reader->status;
}

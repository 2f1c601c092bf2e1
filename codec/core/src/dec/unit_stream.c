/* A stream as a sequence of units: framing, order, and the parameter sets in force (nnc-bitstream sections 1 and 3). */
#include "dec/unit.h"

/* NNC has no magic number; a start unit is nevertheless easy to tell from anything else. */
static int begins_with_start_unit(const uint8_t *data, size_t size) {
  if (size == 1 && data[0] == 0) return 1; /* cut inside the first unit, which is reported as such */
  if (size == 2 && data[0] == 0 && data[1] == 4) return 1;
  size_t size_bytes;
  size_t unit_size;
  if (size < 3) return 0;
  const nnb_status status = nnb_peek_unit_size(data, size, &size_bytes, &unit_size);
  if (status == NNB_TRUNCATED || size <= size_bytes) return 0;
  return unit_size >= 4 && unit_size <= 7 && data[size_bytes] >> 2 == NNB_NNR_STR;
}

nnb_status nnb_stream_open(nnb_stream *stream, const uint8_t *data, size_t size) {
  nnb_memset(stream, 0, sizeof *stream);
  nnb_parameters_start(&stream->parameters);
  stream->data = data;
  stream->size = size;
  stream->max_units = NNB_DEFAULT_MAX_UNITS;
  if (!begins_with_start_unit(data, size)) stream->status = NNB_NOT_NNC;
  return stream->status;
}

static int out_of_order(const nnb_stream *stream, const nnb_unit *unit) {
  const int mps_present = stream->parameters.mps_present;
  switch (unit->nnr_unit_type) {
    case NNB_NNR_STR:
      return unit->index > 0;
    case NNB_NNR_MPS:
      return mps_present;
    case NNB_NNR_AGG:
      return stream->aggregate_end > 0;
    case NNB_NNR_LPS:
    case NNB_NNR_TPL:
    case NNB_NNR_QNT:
    case NNB_NNR_NDU:
      return !mps_present;
    default:
      return 0;
  }
}

static nnb_status enter_aggregate(nnb_stream *stream, const nnb_unit *unit) {
  const nnb_aggregate *const agg = &unit->body.agg;
  stream->aggregate_left = agg->unit_count;
  stream->aggregate_listed = agg->entry_points_present_flag ? agg->unit_count : 0;
  stream->aggregate_entry_points = agg->entry_points;
  stream->aggregate_offset = unit->offset;
  stream->aggregate_end = unit->offset + unit->size;
  return NNB_OK;
}

/* A unit inside an aggregate must be the one that is listed there, and there must not be more than announced. */
static nnb_status check_listed(nnb_stream *stream, const nnb_unit *unit) {
  nnb_list *const list = &stream->aggregate_entry_points;
  if (stream->aggregate_listed > 0) {
    nnb_bits s = nnb_bits_at(list->data, list->size, list->position);
    const uint64_t type = NNB_U(&s, 6, "");
    const uint64_t position = NNB_U(&s, 34, "");
    list->position = s.position;
    stream->aggregate_listed--;
    if (type != unit->nnr_unit_type || position != unit->offset - stream->aggregate_offset) return NNB_ENTRY_POINT;
  }
  stream->aggregate_left--;
  return NNB_OK;
}

static nnb_status read_unit(nnb_stream *stream, nnb_unit *unit) {
  const size_t end = stream->aggregate_end > 0 ? stream->aggregate_end : stream->size;
  const uint8_t *const data = stream->data + stream->offset;
  size_t size_bytes;
  size_t size;
  if (stream->index >= stream->max_units) return NNB_LIMIT;
  nnb_status status = nnb_peek_unit_size(data, end - stream->offset, &size_bytes, &size);
  if (status != NNB_OK) return status;
  if (size > end - stream->offset) return NNB_TRUNCATED;
  status = nnb_parse_unit(data, size, stream->index, stream->offset, &stream->parameters, &stream->trace, unit);
  if (status != NNB_OK) return status;
  if (out_of_order(stream, unit)) return NNB_UNIT_ORDER;
  stream->index++;
  nnb_parameters_update(&stream->parameters, unit);
  stream->offset += size;
  if (unit->nnr_unit_type != NNB_NNR_AGG) return stream->aggregate_end > 0 ? check_listed(stream, unit) : NNB_OK;
  stream->offset = unit->offset + unit->payload_offset;
  return enter_aggregate(stream, unit);
}

nnb_status nnb_stream_next(nnb_stream *stream, nnb_unit *unit) {
  if (stream->status != NNB_OK) return stream->status;
  if (stream->aggregate_end > 0 && stream->offset == stream->aggregate_end) {
    stream->aggregate_end = 0;
    if (stream->aggregate_left != 0) stream->status = NNB_UNIT_SIZE;
  }
  if (stream->status == NNB_OK && stream->offset == stream->size) {
    unit->size = 0;
    if (!stream->parameters.mps_present) stream->status = NNB_TRUNCATED;
  } else if (stream->status == NNB_OK) {
    stream->status = read_unit(stream, unit);
  }
  return stream->status;
}

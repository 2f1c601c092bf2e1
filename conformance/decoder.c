/*
 * A decoder program around the C core, for the conformance suite: streams in, raw tensors out.
 *
 *   decoder [-m BYTES] STREAM... DIRECTORY
 *
 * Several streams are a sequence of updates; the tensors are those of the last one, and of exact updates those of the
 * model that it leads to; what only their metadata say (removed tensors, the digest of the result) is not known.
 * DIRECTORY, which exists, receives tensors.txt (a line a tensor: name in hexadecimal, element type, shape joined by
 * "x", file) and the little-endian bytes of each tensor, or verdict.txt (number of the reason code, byte offset of the
 * unit). -m is the memory that a decoded tensor may take.
 *
 * Streams of the extended profile are read from front to back: index, attachments and metadata, which are compressed,
 * are passed, so that what only they say is not noticed. Packed elements are written as they are stored.
 *
 * Exit status: 0 decoded, 1 refused, 2 wrong usage or a file that cannot be read or written.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model_digest.h"
#include "nnb/nnb.h"
#include "nnb/nnb_access.h"
#include "nnb/nnb_unit.h"
#include "pruned.h"
#include "tensor_files.h"

/* What updates leave behind: the levels of the last one, and where any had a level other than zero. */
typedef struct kept {
  char *name;
  size_t name_size;
  int32_t *levels;
  uint8_t *history;
  uint64_t elements;
  uint64_t depth;
  uint64_t parameter_id;
  uint8_t has_id;
} kept;

/* The payloads of data that is split over several units. */
typedef struct joined {
  uint8_t *data;
  size_t size;
  const uint8_t *header; /* of the first part, behind the common elements */
  size_t header_size;
  uint8_t counter;
  uint8_t pending;
} joined;

typedef struct decoder {
  tensor *tensors;
  size_t count;
  tensor *base; /* of an exact update; NULL without one */
  size_t base_count;
  uint8_t base_digest[NNB_DIGEST_BYTES];
  int extended; /* the last stream was of that profile */
  kept *store;
  size_t store_count;
  uint64_t device_id;
  uint64_t budget;
  int sequence;
  joined parts;
  pruning pruned;
} decoder;

static kept *find_kept(const decoder *d, nnb_string name) {
  for (size_t i = 0; i < d->store_count; i++) {
    if (d->store[i].name_size == name.size && memcmp(d->store[i].name, name.data, name.size) == 0) return &d->store[i];
  }
  return NULL;
}

/* Temporal reference: only of the update that came before. */
static nnb_status check_base(const decoder *d, const nnb_data_unit *ndu, const nnb_part *part, const kept *base) {
  if (base == NULL) return NNB_BASE_MISSING;
  if (ndu->parent_node_id_type != NNB_PARENT_NODE_ID_TYPE_NODE_ID) return NNB_UNSUPPORTED_FEATURE;
  if (!ndu->node_id_present_flag || ndu->device_id != d->device_id || ndu->put_node_depth != base->depth + 1) {
    return NNB_BASE_MISMATCH;
  }
  if (!base->has_id || base->parameter_id != ndu->parameter_id) return NNB_BASE_MISMATCH;
  return base->elements == part->coding.height * part->coding.width ? NNB_OK : NNB_SHAPE_MISMATCH;
}

static nnb_status decode_rows(const decoder *d, nnb_cabac *cabac, const nnb_part *part, const nnb_tensor *memory,
                              nnb_tensor_info *info) {
  nnb_status status = nnb_decode_head(cabac, &part->coding, memory, info);
  if (status != NNB_OK) return status;
  if (info->hist_dep_sig_prob_enabled_flag && !d->sequence) return NNB_BASE_MISSING;
  uint8_t state = 0;
  return nnb_decode_block_rows(cabac, &part->coding, memory, info, 0, nnb_block_row_count(&part->coding), &state);
}

static nnb_status dequantize(const nnb_part *part, int32_t qp_value, void *values, size_t count) {
  float step;
  if (part->integer) return NNB_OK;
  nnb_status status = nnb_step_size(part->qp + qp_value, part->qp_density, &step);
  if (status != NNB_OK) return status;
  if (part->codebook == NULL) {
    nnb_dequantize_in_place(values, count, step);
    return NNB_OK;
  }
  const size_t size = part->codebook->codebook_size;
  int32_t *const entries = allocate(size, sizeof *entries);
  status = nnb_codebook_entries(part->codebook, entries, size);
  if (status == NNB_OK) {
    status = nnb_dequantize_codebook_in_place(values, count, step, entries, size, part->codebook->zero_offset);
  }
  free(entries);
  return status;
}

static nnb_status keep_levels(decoder *d, const nnb_parameters *parameters, const nnb_data_unit *ndu, nnb_string name,
                              const int32_t *levels, uint64_t elements) {
  kept *entry = find_kept(d, name);
  if (entry == NULL) {
    d->store = grown(d->store, d->store_count, sizeof *d->store);
    entry = &d->store[d->store_count++];
    entry->name = copy_of(name.data, name.size, 1);
    entry->name_size = name.size;
  }
  if (entry->has_id && ndu->node_id_present_flag && entry->parameter_id != ndu->parameter_id) return NNB_BASE_MISMATCH;
  if (entry->elements != elements) {
    free(entry->history);
    entry->history = NULL;
  }
  free(entry->levels);
  entry->levels = copy_of(levels, (size_t)elements * 4, 0);
  entry->elements = elements;
  entry->depth++;
  entry->parameter_id = ndu->parameter_id;
  entry->has_id = ndu->node_id_present_flag;
  if (!parameters->mps_parent_signalling_enabled_flag) return NNB_OK;
  if (entry->history == NULL) entry->history = allocate((size_t)elements, 1);
  for (uint64_t i = 0; i < elements; i++) entry->history[i] |= levels[i] != 0;
  return NNB_OK;
}

/* One arithmetic-coded tensor: levels, then values in their place. */
static nnb_status decode_part(decoder *d, nnb_cabac *cabac, const nnb_unit *unit, const nnb_parameters *parameters,
                              const nnb_part *part, nnb_string name, tensor *out) {
  const nnb_data_unit *const ndu = &unit->body.ndu;
  nnb_tensor memory = {0};
  nnb_tensor_info info;
  nnb_status status = nnb_check_coding(&part->coding);
  if (status != NNB_OK) return status;
  const kept *const base = find_kept(d, name);
  if (part->coding.temporal && !d->sequence) return NNB_BASE_MISSING;
  if (part->coding.temporal) {
    status = check_base(d, ndu, part, base);
    if (status != NNB_OK) return status;
    memory.base = base->levels;
  }
  const size_t count = (size_t)out->elements;
  int32_t *const levels = out->values;
  memory.levels = levels;
  memory.contexts = allocate(nnb_context_count(part->coding.unary_length), sizeof(nnb_context));
  memory.row_skip_list = nnb_has_row_flags(&part->coding) ? allocate((size_t)part->coding.height, 1) : NULL;
  if (base != NULL && base->elements == out->elements) memory.history = base->history;
  status = decode_rows(d, cabac, part, &memory, &info);
  free(memory.contexts);
  free(memory.row_skip_list);
  if (status != NNB_OK) return status;
  if (d->sequence) status = keep_levels(d, parameters, ndu, name, levels, out->elements);
  if (status != NNB_OK) return status;
  return dequantize(part, info.qp_value, out->values, count);
}

static int is_integer_format(uint32_t format) { return format != 1 && format < 8; }

static nnb_status check_integers(const tensor *t) {
  static const uint8_t bits[] = {32, 0, 8, 8, 8, 8, 16, 64};
  const uint32_t width = bits[t->format];
  const int32_t *const levels = t->values;
  if (width >= 32) return NNB_OK;
  const int32_t half = (int32_t)1 << (width - 1);
  for (uint64_t i = 0; i < t->elements; i++) {
    if (levels[i] < -half || levels[i] >= half) return NNB_LEVEL_RANGE;
  }
  return NNB_OK;
}

static nnb_status open_tensor(decoder *d, const nnb_unit *unit, const nnb_part *part, nnb_string name, tensor **out) {
  const nnb_data_unit *const ndu = &unit->body.ndu;
  const uint64_t height = part->coding.height;
  if (find_tensor(d->tensors, d->count, name) != NULL) return NNB_DUPLICATE_NAME;
  if (height > 0 && part->coding.width > d->budget / 4 / height) return NNB_MEMORY_BUDGET;
  d->tensors = grown(d->tensors, d->count, sizeof *d->tensors);
  tensor *const t = &d->tensors[d->count++];
  t->name = copy_of(name.data, name.size, 1);
  t->name_size = name.size;
  t->integer = part->integer;
  t->format = ndu->nnr_decompressed_data_format_present_flag ? ndu->nnr_decompressed_data_format
              : part->integer                                ? 0
                                                             : 1;
  if (is_integer_format(t->format) != part->integer) return NNB_METADATA;
  t->count_dimensions = part->role == NNB_ROLE_TENSOR ? ndu->count_tensor_dimensions : part->role <= NNB_ROLE_H ? 2 : 1;
  if (part->role > NNB_ROLE_H && ndu->count_tensor_dimensions == 0) t->count_dimensions = 0;
  t->dimensions = allocate(t->count_dimensions, sizeof *t->dimensions);
  if (part->role == NNB_ROLE_TENSOR) {
    const nnb_status status = nnb_unit_dimensions(unit, t->dimensions, t->count_dimensions);
    if (status != NNB_OK) return status;
  } else if (t->count_dimensions > 0) {
    t->dimensions[0] = height;
    if (part->role <= NNB_ROLE_H) t->dimensions[1] = part->coding.width;
  }
  t->elements = height * part->coding.width;
  t->values = allocate((size_t)t->elements, 4);
  *out = t;
  return NNB_OK;
}

static nnb_status decode_unit(decoder *d, const nnb_unit *unit, const nnb_parameters *parameters,
                              const uint8_t *payload, size_t size) {
  const uint32_t count = nnb_part_count(unit);
  nnb_part parts[8];
  nnb_string names[8];
  tensor *out[8];
  const size_t first = d->count;
  for (uint32_t k = 0; k < count; k++) {
    nnb_status status = nnb_part_get(unit, parameters, k, &parts[k]);
    if (status == NNB_OK) status = nnb_unit_name(unit, parameters, parts[k].name, &names[k]);
    if (status != NNB_OK) return status;
  }
  for (uint32_t k = 0; k < count; k++) {
    const nnb_status status = open_tensor(d, unit, &parts[k], names[k], &out[k]);
    if (status != NNB_OK) return status;
  }
  for (uint32_t k = 0; k < count; k++) {
    out[k] = &d->tensors[first + k]; /* the array may have moved */
    out[k]->unit_offset = unit->offset;
    out[k]->alone = count == 1;
  }
  if (!parts[0].arithmetic) {
    if (size != 4 * out[0]->elements) return NNB_SHAPE_MISMATCH; /* the parser has compared the size of each unit */
    for (size_t i = 0; i < out[0]->elements; i++) {
      const uint8_t *const p = payload + 4 * i;
      const uint32_t bits = (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
      memcpy((char *)out[0]->values + 4 * i, &bits, 4);
    }
    return NNB_OK;
  }
  if (d->sequence && unit->body.ndu.device_id != 0) {
    if (d->device_id != 0 && d->device_id != unit->body.ndu.device_id) return NNB_BASE_MISMATCH;
    d->device_id = unit->body.ndu.device_id;
  }
  nnb_cabac cabac;
  nnb_status status = nnb_cabac_open(&cabac, payload, size);
  for (uint32_t k = 0; status == NNB_OK && k < count; k++) {
    status = decode_part(d, &cabac, unit, parameters, &parts[k], names[k], out[k]);
    if (status == NNB_OK && parts[k].integer) status = check_integers(out[k]);
  }
  return status == NNB_OK ? nnb_cabac_finish(&cabac) : status;
}

/* Data split over several units: the counter goes down to 0, the header stays the same. */
static nnb_status take_data(decoder *d, const nnb_unit *unit, const nnb_parameters *parameters) {
  joined *const j = &d->parts;
  const uint8_t *const payload = unit->data + unit->payload_offset;
  const size_t size = unit->size - unit->payload_offset;
  const uint8_t *const header =
      unit->data + (unit->nnr_unit_size_flag ? 4 : 2) + 1 + (unit->partial_data_counter_present_flag ? 1 : 0);
  const size_t header_size = (size_t)(payload - header);
  if (j->pending) {
    const int continues = unit->partial_data_counter_present_flag && unit->partial_data_counter + 1 == j->counter;
    const int same = header_size == j->header_size && memcmp(header, j->header, header_size) == 0;
    if (!continues || !same) return NNB_UNIT_ORDER;
  } else if (!unit->partial_data_counter) {
    return decode_unit(d, unit, parameters, payload, size);
  }
  j->data = realloc(j->data, j->size + size + 1);
  if (j->data == NULL) exit(2);
  memcpy(j->data + j->size, payload, size);
  j->size += size;
  j->header = header;
  j->header_size = header_size;
  j->counter = unit->partial_data_counter;
  j->pending = unit->partial_data_counter > 0;
  if (j->pending) return NNB_OK;
  const nnb_status status = decode_unit(d, unit, parameters, j->data, j->size);
  j->size = 0;
  return status;
}

static void forget_tensors(tensor *tensors, size_t *count) {
  for (size_t i = 0; i < *count; i++) {
    free(tensors[i].name);
    free(tensors[i].dimensions);
    free(tensors[i].values);
    free(tensors[i].parts);
  }
  *count = 0;
}

/* base_digest, which is all zeros where there is none; it does not begin at a whole byte. */
static void read_base(const nnb_unit *header, uint8_t *base) {
  const uint64_t position = header->body.ext.digest_position;
  memset(base, 0, NNB_DIGEST_BYTES);
  for (uint64_t i = 0; position > 0 && i < 8 * NNB_DIGEST_BYTES; i++) {
    const uint64_t at = position + i;
    base[i / 8] = (uint8_t)(base[i / 8] << 1 | (header->data[at / 8] >> (7 - at % 8) & 1));
  }
}

/* The tensor that a piece belongs to, made with its first part, or again with the first one of another state. */
static nnb_status tensor_of(decoder *d, const nnb_access_piece *found, const nnb_unit *header, nnb_string name,
                            tensor **out) {
  const nnb_piece *const piece = &found->piece;
  const uint64_t bytes = nnb_stored_bytes(piece->element_type, piece->size);
  uint8_t base[NNB_DIGEST_BYTES];
  tensor *t = find_tensor(d->tensors, d->count, name);
  read_base(header, base);
  if (t == NULL) {
    d->tensors = grown(d->tensors, d->count, sizeof *d->tensors);
    t = &d->tensors[d->count++];
    t->name = copy_of(name.data, name.size, 1);
    t->name_size = name.size;
  } else if (header->body.ext.au_relation == NNB_ACCESS_UNIT_RELATION_REPLACES &&
             memcmp(t->base, base, sizeof base) != 0) {
    free(t->dimensions);
    free(t->values);
    free(t->parts);
    t->parts = NULL;
    t->count_parts = 0;
  }
  *out = t;
  nnb_list list = piece->dimensions;
  uint64_t dimensions[NNB_MAX_DIMENSIONS];
  for (uint32_t k = 0; k < piece->count_dimensions; k++) nnb_list_dimension(&list, &dimensions[k]);
  const size_t dimension_bytes = piece->count_dimensions * sizeof *dimensions;
  if (t->count_parts > 0) {
    const int same = t->element_type == piece->element_type && t->count_dimensions == piece->count_dimensions &&
                     memcmp(t->dimensions, dimensions, dimension_bytes) == 0;
    return same ? NNB_OK : NNB_ACCESS_UNIT;
  }
  t->extended = 1;
  t->element_type = piece->element_type;
  memcpy(t->base, base, sizeof base);
  t->count_dimensions = piece->count_dimensions;
  t->dimensions = copy_of(dimensions, dimension_bytes, 1);
  t->elements = piece->size;
  t->values = allocate((size_t)bytes, 1);
  return NNB_OK;
}

/* Parts may come in any order, but no element twice. */
static nnb_status add_part(tensor *t, const nnb_piece *piece) {
  const uint64_t end = piece->first_element + piece->element_count;
  if (t->count_parts > 0 && piece->element_count == 0) return NNB_DUPLICATE_NAME;
  for (size_t i = 0; i < t->count_parts; i++) {
    const uint64_t *const part = t->parts + 2 * i;
    if (part[0] < end && piece->first_element < part[0] + part[1]) return NNB_DUPLICATE_NAME;
  }
  t->parts = grown(t->parts, t->count_parts, 2 * sizeof *t->parts);
  t->parts[2 * t->count_parts] = piece->first_element;
  t->parts[2 * t->count_parts + 1] = piece->element_count;
  t->count_parts++;
  return NNB_OK;
}

/* What the elements of a piece are to be XORed to; NULL where nothing is. */
static nnb_status base_of(const decoder *d, const nnb_access_piece *found, const tensor *t, nnb_string name,
                          const uint8_t **base) {
  *base = NULL;
  if (!found->changes || d->base == NULL) return NNB_OK; /* without a base the core refuses it */
  const tensor *const before = find_tensor(d->base, d->base_count, name);
  if (before == NULL) return NNB_BASE_MISSING;
  if (before->element_type != t->element_type || before->count_dimensions != t->count_dimensions ||
      memcmp(before->dimensions, t->dimensions, t->count_dimensions * sizeof *t->dimensions) != 0) {
    return NNB_SHAPE_MISMATCH;
  }
  *base = (const uint8_t *)before->values + nnb_stored_bytes(t->element_type, found->piece.first_element);
  return NNB_OK;
}

/* base_digest is that of the base of an update, else of the state before; the first state has none. */
static nnb_status check_digest(const decoder *d, const nnb_reader *reader, const nnb_access_unit *au) {
  enum { DIGEST = 1 + 4 + 1 + 1 + 3 * 8 }; /* in an end unit, behind its size */
  uint8_t found[NNB_DIGEST_BYTES];
  size_t size_bytes = 0;
  size_t size;
  read_base(&au->header, found);
  if (d->base != NULL) return memcmp(found, d->base_digest, sizeof found) == 0 ? NNB_OK : NNB_BASE_MISMATCH;
  if (au->header.body.ext.au_relation != NNB_ACCESS_UNIT_RELATION_REPLACES) return NNB_OK;
  if (reader->end_offset == 0) return NNB_BASE_MISMATCH;
  const uint8_t *const end = reader->data + reader->end_offset;
  const nnb_status status = nnb_peek_unit_size(end, reader->size - reader->end_offset, &size_bytes, &size);
  if (status != NNB_OK) return status;
  return memcmp(found, end + size_bytes + DIGEST, sizeof found) == 0 ? NNB_OK : NNB_BASE_MISMATCH;
}

static nnb_status decode_piece(decoder *d, const nnb_access_unit *au, const nnb_access_piece *found, nnb_string name) {
  tensor *t;
  const uint8_t *base;
  size_t work_size;
  nnb_status status = tensor_of(d, found, &au->header, name, &t);
  if (status == NNB_OK) status = add_part(t, &found->piece);
  if (status == NNB_OK) status = base_of(d, found, t, name, &base);
  if (status == NNB_OK) status = nnb_piece_work_size(found, &work_size);
  if (status != NNB_OK) return status;
  const size_t first = (size_t)nnb_stored_bytes(found->piece.element_type, found->piece.first_element);
  void *const work = allocate(work_size, 1);
  status = nnb_piece_values_on(found, base, (uint8_t *)t->values + first, (size_t)nnb_piece_bytes(&found->piece), work,
                               work_size);
  free(work);
  return status;
}

static nnb_status check_complete(const decoder *d) {
  for (size_t i = 0; i < d->count; i++) {
    uint64_t covered = 0;
    for (size_t k = 0; k < d->tensors[i].count_parts; k++) covered += d->tensors[i].parts[2 * k + 1];
    if (covered != d->tensors[i].elements) return NNB_INDEX;
  }
  return NNB_OK;
}

/* An update changes the model that was decoded before it. */
static void start_update(decoder *d) {
  tensor *const before = d->base;
  forget_tensors(before, &d->base_count);
  d->base = grown(d->tensors, d->count, sizeof *d->tensors); /* not NULL, if there is no tensor */
  d->base_count = d->count;
  d->tensors = before;
  d->count = 0;
  model_digest(d->base, d->base_count, d->base_digest);
}

/* The tensors of the base that an update does not name are the result's. */
static void keep_others(decoder *d) {
  const size_t changed = d->count;
  for (size_t i = 0; i < d->base_count; i++) {
    tensor *const t = &d->base[i];
    const nnb_string name = {(const uint8_t *)t->name, t->name_size};
    if (find_tensor(d->tensors, changed, name) != NULL) continue;
    d->tensors = grown(d->tensors, d->count, sizeof *d->tensors);
    d->tensors[d->count++] = *t;
    memset(t, 0, sizeof *t);
  }
}

static nnb_status decode_extended(decoder *d, nnb_reader *reader, size_t *offset) {
  static nnb_access_piece found;
  static uint8_t name[NNB_MAX_NAME_BYTES + NNB_MAX_SHARED_NAME_BYTES];
  nnb_access_unit au;
  nnb_status status;
  *offset = reader->offset;
  while ((status = nnb_reader_next(reader, &au)) == NNB_OK && au.size > 0) {
    *offset = au.offset;
    status = check_digest(d, reader, &au);
    if (status != NNB_OK) return status;
    while (nnb_access_unit_next_piece(&au, &found, name, sizeof name)) {
      const nnb_string text = {name, found.piece.name_length};
      status = decode_piece(d, &au, &found, text);
      if (status != NNB_OK) return status;
    }
  }
  *offset = reader->offset;
  if (status == NNB_OK) status = check_complete(d);
  if (status == NNB_OK) keep_others(d);
  return status;
}

static nnb_status decode_stream(decoder *d, int number, const uint8_t *data, size_t size, size_t *offset) {
  nnb_stream stream;
  nnb_reader reader;
  nnb_unit unit;
  d->parts.pending = 0;
  d->parts.size = 0;
  *offset = 0;
  nnb_status status = nnb_reader_open(&reader, data, size, d->budget);
  if (status == NNB_OK) {
    if (number > 0 && !d->extended) return NNB_UNSUPPORTED_FEATURE; /* an update of a model of the standard profile */
    if (number > 0) start_update(d);
    d->extended = 1;
    return decode_extended(d, &reader, offset);
  }
  forget_tensors(d->tensors, &d->count);
  forget_pruned(&d->pruned);
  d->extended = 0;
  if (status != NNB_UNSUPPORTED_FEATURE) {
    *offset = reader.offset;
    return status;
  }
  status = nnb_stream_open(&stream, data, size);
  while (status == NNB_OK && (status = nnb_stream_next(&stream, &unit)) == NNB_OK && unit.size > 0) {
    *offset = unit.offset;
    if (unit.nnr_unit_type == NNB_NNR_NDU) {
      status = take_data(d, &unit, &stream.parameters);
    } else if (d->parts.pending) {
      status = NNB_UNIT_ORDER;
    }
    if (unit.nnr_unit_type == NNB_NNR_TPL) take_topology(&d->pruned, &unit.body.tpl);
    if (status != NNB_OK) return status;
  }
  if (status != NNB_OK) *offset = stream.offset;
  if (status == NNB_OK && d->parts.pending) status = NNB_TRUNCATED;
  if (status == NNB_OK) status = expand_pruned(&d->pruned, d->tensors, d->count, d->budget, offset);
  return status;
}

static uint8_t *read_file(const char *path, size_t *size) {
  FILE *const file = fopen(path, "rb");
  if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
    perror(path);
    exit(2);
  }
  const long length = ftell(file);
  rewind(file);
  *size = (size_t)length;
  uint8_t *const data = malloc(*size > 0 ? *size : 1); /* exactly, so that sanitizers see every byte too many */
  if (data == NULL || length < 0 || fread(data, 1, *size, file) != *size) {
    perror(path);
    exit(2);
  }
  fclose(file);
  return data;
}

int main(int argc, char **argv) {
  decoder d = {.budget = UINT64_C(1) << 28};
  int at = 1;
  for (; at < argc && argv[at][0] == '-'; at++) {
    if (strcmp(argv[at], "-m") == 0 && at + 1 < argc) {
      d.budget = strtoull(argv[++at], NULL, 10);
    } else {
      break;
    }
  }
  if (argc - at < 2) {
    fprintf(stderr, "usage: decoder [-m BYTES] STREAM... DIRECTORY\n");
    return 2;
  }
  const char *const directory = argv[argc - 1];
  d.sequence = argc - at > 2;
  nnb_status status = NNB_OK;
  size_t offset = 0;
  for (int i = at; i < argc - 1 && status == NNB_OK; i++) {
    size_t size;
    uint8_t *const data = read_file(argv[i], &size);
    status = decode_stream(&d, i - at, data, size, &offset);
    free(data);
  }
  if (status == NNB_OK) {
    write_tensors(d.tensors, d.count, directory);
  } else {
    FILE *const verdict = create_file(directory, "verdict.txt");
    fprintf(verdict, "%d %zu\n", (int)status, offset);
    close_file(verdict);
  }
  forget_tensors(d.tensors, &d.count);
  forget_pruned(&d.pruned);
  forget_tensors(d.base, &d.base_count);
  for (size_t i = 0; i < d.store_count; i++) {
    free(d.store[i].name);
    free(d.store[i].levels);
    free(d.store[i].history);
  }
  free(d.tensors);
  free(d.base);
  free(d.store);
  free(d.parts.data);
  return status == NNB_OK ? 0 : 1;
}

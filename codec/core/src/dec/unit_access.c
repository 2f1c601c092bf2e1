/* What lies in the lists of a parsed unit. */
#include "dec/unit.h"

static nnb_bits reader_of(const nnb_list *list) { return nnb_bits_at(list->data, list->size, list->position); }

/* One element further. */
static void advance(nnb_list *list, const nnb_bits *s) {
  list->position = s->position;
  list->count--;
}

int nnb_list_name(nnb_list *list, nnb_string *name) {
  if (list->count == 0) return 0;
  /* Parsed before, so that it ends. */
  const uint8_t *const text = list->data + (size_t)(list->position >> 3);
  size_t size = 0;
  for (; text[size] != 0; size++) NNB_KEEP_BRANCH(size); /* or it becomes a call of strlen() */
  name->data = text;
  name->size = size;
  list->position += 8 * ((uint64_t)size + 1);
  list->count--;
  return 1;
}

int nnb_list_index(nnb_list *list, uint64_t *index) {
  if (list->count == 0) return 0;
  nnb_bits s = reader_of(list);
  *index = NNB_UE(&s, 7, "");
  advance(list, &s);
  return 1;
}

int nnb_list_dims(nnb_list *list, uint64_t *dims, size_t capacity, size_t *count) {
  if (list->count == 0) return 0;
  nnb_bits s = reader_of(list);
  const size_t count_dims = (size_t)NNB_UE(&s, 1, "");
  for (size_t k = 0; k < count_dims; k++) {
    const uint64_t dim = NNB_UE(&s, 7, "");
    if (k < capacity) dims[k] = dim;
  }
  nnb_read_alignment(&s);
  *count = count_dims;
  advance(list, &s);
  return 1;
}

nnb_status nnb_unit_name(const nnb_unit *unit, const nnb_parameters *parameters, uint32_t number, nnb_string *name) {
  nnb_list list = unit->body.ndu.names;
  uint64_t skip = number;
  if (number >= list.count) return NNB_BAD_OPTION;
  if (unit->body.ndu.indexed) {
    for (uint32_t i = 0; i <= number; i++) nnb_list_index(&list, &skip);
    list = parameters->reference_list;
    if (skip >= list.count) return NNB_VALUE_RANGE;
  }
  for (uint64_t i = 0; i <= skip; i++) nnb_list_name(&list, name);
  return NNB_OK;
}

nnb_status nnb_unit_dimensions(const nnb_unit *unit, uint64_t *dimensions, size_t capacity) {
  const nnb_data_unit *const ndu = &unit->body.ndu;
  nnb_bits s = reader_of(&ndu->tensor_dimensions);
  if (capacity < ndu->count_tensor_dimensions) return NNB_BUFFER_SIZE;
  for (uint32_t j = 0; j < ndu->count_tensor_dimensions; j++) {
    dimensions[j] = ndu->supplied_dimensions != NULL ? ndu->supplied_dimensions[j] : NNB_UE(&s, 7, "");
  }
  return NNB_OK;
}

nnb_status nnb_unit_entry_points(const nnb_unit *unit, nnb_entry_point *points, size_t capacity) {
  const nnb_data_unit *const ndu = &unit->body.ndu;
  nnb_bits s = reader_of(&ndu->entry_points);
  int64_t bit_offset = 0;
  if (capacity < ndu->entry_points.count) return NNB_BUFFER_SIZE;
  for (uint32_t j = 0; j < ndu->entry_points.count; j++) {
    points[j].cabac_offset = (uint16_t)NNB_U(&s, 8, "");
    points[j].dq_state = ndu->dq_flag ? NNB_U8(&s, 3, "") : 0;
    const int64_t delta = j == 0 ? (int64_t)NNB_UE(&s, 11, "") : nnb_read_ie(&s, 7 NNB_NAMED(""));
    /* No payload has 2^62 bits; below that nothing overflows. */
    if (delta < -(INT64_C(1) << 62) || delta > INT64_C(1) << 62) return NNB_ENTRY_POINT;
    bit_offset += delta;
    if (bit_offset < 0 || bit_offset > INT64_C(1) << 62) return NNB_ENTRY_POINT;
    points[j].bit_offset = (uint64_t)bit_offset;
  }
  return NNB_OK;
}

nnb_status nnb_codebook_entries(const nnb_codebook *codebook, int32_t *entries, size_t capacity) {
  nnb_bits s = reader_of(&codebook->deltas);
  const uint32_t size = codebook->codebook_size;
  const uint32_t order = codebook->codebook_egk;
  if (capacity < size) return NNB_BUFFER_SIZE;
  if (size == 0) return NNB_OK;
  int64_t value = codebook->codebook_zero_value;
  entries[codebook->zero_offset] = (int32_t)value;
  for (uint32_t j = codebook->zero_offset; j > 0; j--) {
    value -= (int64_t)NNB_UE(&s, order, "") + 1;
    entries[j - 1] = (int32_t)value;
  }
  value = codebook->codebook_zero_value;
  for (uint32_t j = codebook->zero_offset + 1; j < size; j++) {
    value += (int64_t)NNB_UE(&s, order, "") + 1;
    entries[j] = (int32_t)value;
  }
  return NNB_OK;
}

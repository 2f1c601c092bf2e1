/* The elements of pieces that are in data units of the standard. */
#include "dec/piece.h"

/* Where things lie in the work. */
typedef struct layout {
  uint64_t contexts;
  uint64_t codebook;
  uint64_t row_skip_list;
  uint64_t size;
} layout;

static int is_float(uint32_t type) { return type >= NNB_ELEMENT_TYPE_FLOAT16 && type <= NNB_ELEMENT_TYPE_FLOAT64; }

static nnb_status get_part(const nnb_access_piece *found, nnb_part *part) {
  nnb_status status = nnb_part_get(&found->unit, found->parameters, 0, part);
  if (status != NNB_OK) return status;
  const uint64_t count = part->coding.height * part->coding.width;
  if (count * 4 > found->max_tensor_bytes) return NNB_MEMORY_BUDGET;
  if (is_float(found->piece.element_type) == (int)part->integer || count != found->piece.value_count) {
    return NNB_METADATA;
  }
  if (part->role != NNB_ROLE_TENSOR) return NNB_UNSUPPORTED_FEATURE;
  if (!part->arithmetic) return NNB_OK;
  if (part->coding.temporal) return NNB_BASE_MISSING;
  return nnb_check_coding(&part->coding);
}

static layout lay_out(const nnb_part *part) {
  layout l;
  const nnb_level_coding *const coding = &part->coding;
  l.contexts = (4 * coding->height * coding->width + 7) & ~UINT64_C(7);
  l.codebook = l.contexts + nnb_context_count(coding->unary_length) * sizeof(nnb_context);
  l.row_skip_list = l.codebook + (part->codebook != NULL ? UINT64_C(4) * part->codebook->codebook_size : 0);
  l.size = l.row_skip_list + (nnb_has_row_flags(coding) ? coding->height : 0);
  return l;
}

nnb_status nnb_coded_work_size(const nnb_access_piece *found, uint64_t *size) {
  nnb_part part;
  const nnb_status status = get_part(found, &part);
  *size = status == NNB_OK && part.arithmetic ? lay_out(&part).size : 0;
  return status;
}

static nnb_status dequantize(const nnb_part *part, int32_t qp, uint8_t *work, const layout *l) {
  const size_t count = (size_t)(part->coding.height * part->coding.width);
  float step;
  nnb_status status = nnb_step_size(part->qp + qp, part->qp_density, &step);
  if (status != NNB_OK) return status;
  if (part->codebook == NULL) {
    nnb_dequantize_in_place(work, count, step);
    return NNB_OK;
  }
  int32_t *const entries = (int32_t *)(void *)(work + l->codebook);
  const size_t size = part->codebook->codebook_size;
  status = nnb_codebook_entries(part->codebook, entries, size);
  if (status != NNB_OK) return status;
  return nnb_dequantize_codebook_in_place(work, count, step, entries, size, part->codebook->zero_offset);
}

/* Binary32 numbers, little endian. */
static void store_raw(uint32_t element_type, const uint8_t *from, uint64_t count, uint8_t *out) {
  const uint32_t bytes = nnb_element_bits(element_type) / 8;
  for (uint64_t i = 0; i < count; i++, from += 4) {
    const uint32_t bits = (uint32_t)from[3] << 24 | (uint32_t)from[2] << 16 | (uint32_t)from[1] << 8 | from[0];
    uint8_t item[4];
    nnb_memcpy(item, &bits, 4);
    nnb_store_floats(element_type, item, 1, out + bytes * i);
  }
}

nnb_status nnb_coded_values(const nnb_access_piece *found, uint8_t *out, uint8_t *work) {
  const uint32_t type = found->piece.element_type;
  const uint8_t *const payload = found->unit.data + found->unit.payload_offset;
  nnb_part part;
  nnb_cabac cabac;
  nnb_tensor_info info;
  nnb_status status = get_part(found, &part);
  if (status != NNB_OK) return status;
  if (!part.arithmetic) {
    store_raw(type, payload, found->piece.value_count, out); /* the parser has compared the size */
    return NNB_OK;
  }
  const layout l = lay_out(&part);
  int32_t *const levels = (int32_t *)(void *)work;
  const nnb_tensor memory = {
      .levels = levels,
      .contexts = (nnb_context *)(void *)(work + l.contexts),
      .row_skip_list = nnb_has_row_flags(&part.coding) ? work + l.row_skip_list : NULL,
  };
  status = nnb_cabac_open(&cabac, payload, found->unit.size - found->unit.payload_offset);
  if (status == NNB_OK) status = nnb_decode_tensor(&cabac, &part.coding, &memory, &info);
  if (status == NNB_OK) status = nnb_cabac_finish(&cabac);
  if (status != NNB_OK) return status;
  if (info.hist_dep_sig_prob_enabled_flag) return NNB_BASE_MISSING;
  if (part.integer) return nnb_store_integers(type, levels, found->piece.value_count, out);
  status = dequantize(&part, info.qp_value, work, &l);
  if (status == NNB_OK) nnb_store_floats(type, work, found->piece.value_count, out);
  return status;
}

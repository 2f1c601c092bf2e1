"""Writes the C source of nnbits.codec._core; run by CMake, never imported.

The declarations repeat the headers. A difference in a name, type or number of arguments is a compile error or a warning
made an error, since cffi's API mode compiles calls of the real functions.
"""

import sys
from pathlib import Path

import cffi

CDEF = """
typedef int... nnb_status;

typedef struct {
  uint64_t height;
  uint64_t width;
  uint32_t codebook_size;
  uint32_t codebook_zero_offset;
  uint16_t unary_length;
  uint8_t profile;
  uint8_t dq;
  uint8_t scan_order;
  uint8_t qp_bits;
  uint8_t parent;
  uint8_t temporal;
} nnb_level_coding;

typedef struct {
  ...;
} nnb_context;

typedef struct {
  uint64_t bit_offset;
  uint16_t cabac_offset;
  uint8_t dq_state;
} nnb_entry_point;

typedef struct {
  int32_t *levels;
  nnb_context *contexts;
  uint8_t *row_skip_list;
  const int32_t *base;
  const uint8_t *history;
  nnb_entry_point *entry_points;
} nnb_tensor;

typedef struct {
  int32_t qp_value;
  uint8_t hist_dep_sig_prob_enabled_flag;
  uint8_t row_skip_enabled_flag;
} nnb_tensor_info;

typedef struct { ...; } nnb_cabac;

uint32_t nnb_crc32c(uint32_t crc, const uint8_t *data, size_t size);
size_t nnb_context_count(uint32_t unary_length);
nnb_status nnb_check_coding(const nnb_level_coding *coding);
int nnb_has_row_flags(const nnb_level_coding *coding);
uint64_t nnb_block_row_count(const nnb_level_coding *coding);
nnb_status nnb_cabac_open(nnb_cabac *cabac, const uint8_t *payload, size_t size);
nnb_status nnb_cabac_enter(nnb_cabac *cabac, const uint8_t *payload, size_t size, uint64_t bit_position,
                           uint32_t cabac_offset);
uint64_t nnb_cabac_position(const nnb_cabac *cabac);
uint32_t nnb_cabac_offset(const nnb_cabac *cabac);
nnb_status nnb_cabac_finish(nnb_cabac *cabac);
nnb_status nnb_decode_tensor(nnb_cabac *cabac, const nnb_level_coding *coding, const nnb_tensor *tensor,
                             nnb_tensor_info *info);
nnb_status nnb_decode_head(nnb_cabac *cabac, const nnb_level_coding *coding, const nnb_tensor *tensor,
                           nnb_tensor_info *info);
nnb_status nnb_decode_block_rows(nnb_cabac *cabac, const nnb_level_coding *coding, const nnb_tensor *tensor,
                                 const nnb_tensor_info *info, uint64_t first, uint64_t last, uint8_t *dq_state);
void nnb_initial_sets(const nnb_context *contexts, size_t count, uint8_t *sets);
nnb_status nnb_step_size(int32_t qp, uint32_t qp_density, float *step);
void nnb_dequantize(const int32_t *levels, float *values, size_t count, float step);
void nnb_dequantize_in_place(void *buffer, size_t count, float step);
nnb_status nnb_dequantize_codebook(const int32_t *levels, float *values, size_t count, float step,
                                   const int32_t *codebook, size_t codebook_size, size_t zero_offset);
nnb_status nnb_dequantize_codebook_in_place(void *buffer, size_t count, float step, const int32_t *codebook,
                                            size_t codebook_size, size_t zero_offset);

typedef struct {
  uint8_t *buffer;
  size_t size;
  ...;
} nnb_encoder;

typedef struct {
  const int32_t *levels;
  const int32_t *base;
  const uint8_t *history;
  const uint8_t *row_skip_list;
  const uint8_t *initial_sets;
  nnb_context *contexts;
  nnb_entry_point *entry_points;
  int32_t qp_value;
  uint8_t hist_dep_sig_prob_enabled_flag;
} nnb_source;

typedef enum { NNB_SETS_COST, NNB_SETS_PEER, ... } nnb_set_rule;

nnb_status nnb_encode_tensor(nnb_encoder *encoder, const nnb_level_coding *coding, const nnb_source *source,
                             uint64_t *first_position);
nnb_status nnb_encoder_finish(nnb_encoder *encoder);
nnb_status nnb_resolve_entry_points(const uint8_t *payload, size_t size, uint64_t first_position,
                                    nnb_entry_point *entry_points, size_t count);
size_t nnb_encode_bound(const nnb_level_coding *codings, size_t count);
size_t nnb_mark_zero_rows(const int32_t *levels, size_t height, size_t width, uint8_t *list);
size_t nnb_choose_work_size(const nnb_level_coding *coding);
nnb_status nnb_choose_initial_sets(const nnb_level_coding *coding, const nnb_source *source, nnb_set_rule rule,
                                   void *work, size_t work_size, uint8_t *initial_sets);
nnb_status nnb_quantize_uniform(const float *values, size_t count, int32_t *qp, uint32_t qp_density, int32_t *levels);
size_t nnb_quantize_work_size(size_t height, size_t width);
nnb_status nnb_quantize_dependent(const float *values, size_t height, size_t width, uint32_t scan_order, int32_t *qp,
                                  uint32_t qp_density, int32_t *levels, void *work, size_t work_size);
size_t nnb_weighed_work_size(const nnb_level_coding *coding);
nnb_status nnb_quantize_weighed(const float *values, const nnb_level_coding *coding, double lambda_scale,
                                const uint8_t *initial_sets, int32_t *qp, uint32_t qp_density, int32_t *levels,
                                void *work, size_t work_size);

void nnb_encoder_open_growing(nnb_encoder *encoder);
void nnb_encoder_close(nnb_encoder *encoder);
"""

SOURCE = """
#include <stdlib.h>

#include "nnb/nnb.h"
#include "nnb/nnb_enc.h"

/* The core has no heap; an encoder's buffer that grows is the binding's. */
static uint8_t *grow(void *user, uint8_t *buffer, size_t used, size_t needed, size_t *capacity) {
  size_t size = used + used / 2 + 65536;
  (void)user;
  if (size < needed) size = needed;
  uint8_t *const larger = realloc(buffer, size);
  if (larger != NULL) *capacity = size;
  return larger;
}

static void nnb_encoder_open_growing(nnb_encoder *encoder) {
  nnb_encoder_open(encoder, NULL, 0, grow, NULL);
}

static void nnb_encoder_close(nnb_encoder *encoder) {
  free(encoder->buffer);
  encoder->buffer = NULL;
}
"""

#: In cffi's subset of C but for the preprocessor's lines.
HEADERS = (
    "nnb_syntax_gen.h",
    "nnb_unit.h",
    "nnb_access.h",
    "nnb_rans.h",
    "nnb_rans_enc.h",
    "nnb_lossless.h",
    "nnb_lossless_enc.h",
    "nnb_sparse.h",
    "nnb_sparse_enc.h",
)

UNIT_CDEF = """
extern "Python" void nnb_on_element(void *user, const nnb_trace_record *record);
"""


def declarations(header: str) -> str:
    """A header without its preprocessor directives and its C++ brackets."""
    lines = (Path(__file__).parents[1] / "core" / "include" / "nnb" / header).read_text(encoding="utf-8").splitlines()
    brackets = [i for i, line in enumerate(lines) if line.startswith("#ifdef __cplusplus")]
    skipped = {i + 1 for i in brackets}
    return "".join(f"{line}\n" for i, line in enumerate(lines) if i not in skipped and not line.startswith("#"))


def main(target: str) -> None:
    ffi = cffi.FFI()
    ffi.cdef(CDEF)
    for header in HEADERS:
        ffi.cdef(declarations(header))
    ffi.cdef(UNIT_CDEF)
    includes = "".join(f'#include "nnb/{header}"\n' for header in HEADERS)
    ffi.set_source("nnbits.codec._core", includes + SOURCE)
    ffi.emit_c_code(str(Path(target)))


main(sys.argv[1])

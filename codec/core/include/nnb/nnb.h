/*
 * nnbits decoder: arithmetic decoding of NNC tensors and their reconstruction.
 *
 * Names and order follow nnc-entropy. The caller owns all memory; nothing here allocates, keeps global state or
 * calls a C library, and all functions may run on any number of threads with different objects.
 *
 *   nnb_cabac cabac;
 *   nnb_cabac_open(&cabac, payload, size);
 *   for each tensor of the unit:
 *     nnb_decode_tensor(&cabac, &coding, &tensor, &info);
 *   nnb_cabac_finish(&cabac);
 */
#ifndef NNB_H
#define NNB_H

#include <stddef.h>
#include <stdint.h>

#include "nnb/nnb_status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define NNB_MAX_UNARY_LENGTH 256
#define NNB_MAX_SCAN_ORDER 4
#define NNB_MAX_QP_BITS 13
#define NNB_MAX_CODEBOOK_SIZE 1048576u

/* Header values that steer tensor_data() (nnc-entropy section 1). */
typedef struct nnb_level_coding {
  uint64_t height;               /* first dimension */
  uint64_t width;                /* product of the others, 1 for one dimension */
  uint32_t codebook_size;        /* cs; 0 without a codebook and in profile 0 */
  uint32_t codebook_zero_offset; /* cz */
  uint16_t unary_length;         /* U = cabac_unary_length_minus1 + 1 */
  uint8_t profile;               /* general_profile_idc */
  uint8_t dq;                    /* dependent quantization; 0 for payload INT */
  uint8_t scan_order;            /* 0..4; height or width 1 means a plain scan whatever stands here */
  uint8_t qp_bits;               /* 6 + qp_density, 0 without qp_value (payload INT) */
  uint8_t parent;                /* parent_node_id_present_flag */
  uint8_t temporal;              /* temporal_context_modeling_flag of a profile 1 stream */
} nnb_level_coding;

/* One context variable (nnc-entropy section 3). Private; may be copied. */
typedef struct nnb_context {
  uint64_t state;
} nnb_context;

/* State of the engine at the start of a block row (nnc-entropy section 7.3). */
typedef struct nnb_entry_point {
  uint64_t bit_offset;
  uint16_t cabac_offset;
  uint8_t dq_state;
} nnb_entry_point;

/* Memory of one tensor. */
typedef struct nnb_tensor {
  int32_t *levels;               /* out: height * width, row-major, the array L */
  nnb_context *contexts;         /* work: nnb_context_count() of them; nnb_initial_sets() reads them afterwards */
  uint8_t *row_skip_list;        /* out: height bytes; may be NULL where nnb_has_row_flags() is 0 */
  const int32_t *base;           /* temporal reference, height * width; needed if temporal */
  const uint8_t *history;        /* history mask, height * width bytes 0 or 1; NULL is all 0 */
  nnb_entry_point *entry_points; /* out: nnb_block_row_count() - 1 of them; NULL if not wanted */
} nnb_tensor;

/* Elements in front of level_data(). */
typedef struct nnb_tensor_info {
  int32_t qp_value;
  uint8_t hist_dep_sig_prob_enabled_flag;
  uint8_t row_skip_enabled_flag;
} nnb_tensor_info;

#if !defined(NNB_WINDOW_BITS)
#if UINTPTR_MAX > 0xFFFFFFFFu || defined(__wasm__)
#define NNB_WINDOW_BITS 64
#else
#define NNB_WINDOW_BITS 32
#endif
#endif
#if NNB_WINDOW_BITS == 64
typedef uint64_t nnb_window;
#else
typedef uint32_t nnb_window;
#endif

/* Arithmetic decoder. Private; may be copied. */
typedef struct nnb_cabac {
  const uint8_t *data;
  size_t size;
  size_t next;
  nnb_window window;
  nnb_window range;
  int32_t spare;
} nnb_cabac;

/* CRC-32C (Castagnoli) of bytes that follow others with the checksum `crc`; 0 for the first. */
uint32_t nnb_crc32c(uint32_t crc, const uint8_t *data, size_t size);

/* 90 + 4U, or 0 if unary_length is out of range. */
size_t nnb_context_count(uint32_t unary_length);

/* The initial sets that were decoded, one number 0..8 for each context. */
void nnb_initial_sets(const nnb_context *contexts, size_t count, uint8_t *sets);

/* NNB_OK if the values are consistent, in range, and the number of levels fits this machine. */
nnb_status nnb_check_coding(const nnb_level_coding *coding);

/* Whether the row skipping flags are present. */
int nnb_has_row_flags(const nnb_level_coding *coding);

/* Number of block rows (nnc-entropy 7); 1 for a plain scan. */
uint64_t nnb_block_row_count(const nnb_level_coding *coding);

/* Starts at the first byte of cabac_data(). */
nnb_status nnb_cabac_open(nnb_cabac *cabac, const uint8_t *payload, size_t size);

/* Starts at a block row: bit_position is T_j, the bits consumed after the first nine; cabac_offset is V. */
nnb_status nnb_cabac_enter(nnb_cabac *cabac, const uint8_t *payload, size_t size, uint64_t bit_position,
                           uint32_t cabac_offset);

/* T: bits consumed after the first nine. */
uint64_t nnb_cabac_position(const nnb_cabac *cabac);

/* V. An engine that comes to a block row agrees with an entry point if T, V and the state of the quantizer do. */
uint32_t nnb_cabac_offset(const nnb_cabac *cabac);

/* Reads the terminating bin and checks that the payload ends exactly there. */
nnb_status nnb_cabac_finish(nnb_cabac *cabac);

/* tensor_data(): head and all block rows. */
nnb_status nnb_decode_tensor(nnb_cabac *cabac, const nnb_level_coding *coding, const nnb_tensor *tensor,
                             nnb_tensor_info *info);

/* Everything before level_data(). `levels` may be NULL here. */
nnb_status nnb_decode_head(nnb_cabac *cabac, const nnb_level_coding *coding, const nnb_tensor *tensor,
                           nnb_tensor_info *info);

/*
 * Block rows first .. last - 1 of level_data(). The engine stands at block row `first` (after nnb_decode_head, after
 * the call for the row before, or after nnb_cabac_enter); `contexts` and `row_skip_list` come from nnb_decode_head,
 * each thread with its own copy of the contexts, which are reset here. dq_state is read and written. After the last
 * block row the engine continues with the next tensor of the unit. Levels of other block rows are not touched.
 */
nnb_status nnb_decode_block_rows(nnb_cabac *cabac, const nnb_level_coding *coding, const nnb_tensor *tensor,
                                 const nnb_tensor_info *info, uint64_t first, uint64_t last, uint8_t *dq_state);

/* Step size of a QP (nnc-entropy 9.2); NNB_VALUE_RANGE unless it is a normal binary32 number. */
nnb_status nnb_step_size(int32_t qp, uint32_t qp_density, float *step);

/* value = fl32(step * fl32(L)). The buffers must not overlap. */
void nnb_dequantize(const int32_t *levels, float *values, size_t count, float step);

/* The same in place: a buffer of int32 becomes one of binary32. */
void nnb_dequantize_in_place(void *buffer, size_t count, float step);

/* value = step * codebook[L + zero_offset], rounded once; NNB_LEVEL_RANGE if there is no such entry. */
nnb_status nnb_dequantize_codebook(const int32_t *levels, float *values, size_t count, float step,
                                   const int32_t *codebook, size_t codebook_size, size_t zero_offset);

/* The same in place. */
nnb_status nnb_dequantize_codebook_in_place(void *buffer, size_t count, float step, const int32_t *codebook,
                                            size_t codebook_size, size_t zero_offset);

#ifdef __cplusplus
}
#endif

#endif

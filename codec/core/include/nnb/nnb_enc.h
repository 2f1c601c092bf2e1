/*
 * nnbits encoder: quantizers, choice of initial sets, arithmetic encoding of NNC tensors.
 *
 * The caller owns all memory; only the output may grow, through a function of the caller's.
 *
 *   nnb_encoder encoder;
 *   nnb_encoder_open(&encoder, buffer, capacity, grow, user);
 *   for each tensor of the unit:
 *     nnb_encode_tensor(&encoder, &coding, &source, &first_position);
 *   nnb_encoder_finish(&encoder);           payload: encoder.buffer[0 .. encoder.size - 1]
 *   for each tensor with entry points:
 *     nnb_resolve_entry_points(...);
 */
#ifndef NNB_ENC_H
#define NNB_ENC_H

#include "nnb/nnb.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Returns a buffer of at least `needed` bytes that starts with the `used` first bytes of `buffer`, which is no longer
 * used, and sets *capacity; or NULL, and leaves `buffer` alone.
 */
typedef uint8_t *nnb_grow_fn(void *user, uint8_t *buffer, size_t used, size_t needed, size_t *capacity);

/* Arithmetic encoder. buffer and size may be read; the rest is private. */
typedef struct nnb_encoder {
  uint8_t *buffer;
  size_t size;
  size_t capacity;
  nnb_grow_fn *grow;
  void *user;
  uint64_t low;
  uint32_t range;
  int32_t pending;
} nnb_encoder;

/* One tensor to code. */
typedef struct nnb_source {
  const int32_t *levels;         /* height * width, row-major, the array L */
  const int32_t *base;           /* temporal reference; needed if temporal */
  const uint8_t *history;        /* history mask, bytes 0 or 1; NULL is all 0 */
  const uint8_t *row_skip_list;  /* height bytes 0 or 1, 1 for all-zero rows only; NULL sends row_skip_enabled_flag 0 */
  const uint8_t *initial_sets;   /* set of each context, nnb_context_count() bytes; NULL is set 0 */
  nnb_context *contexts;         /* work: nnb_context_count() of them */
  nnb_entry_point *entry_points; /* out: nnb_block_row_count() - 1 of them; NULL if not wanted */
  int32_t qp_value;
  uint8_t hist_dep_sig_prob_enabled_flag;
} nnb_source;

typedef enum nnb_set_rule {
  NNB_SETS_COST = 0, /* least estimated cost of the bins that will be coded */
  NNB_SETS_PEER = 1  /* the choice of NNCodec (nnc-encoder-notes section 4) */
} nnb_set_rule;

/* grow may be NULL: the buffer has to do. */
void nnb_encoder_open(nnb_encoder *encoder, uint8_t *buffer, size_t capacity, nnb_grow_fn *grow, void *user);

/*
 * Codes tensor_data(). Entry points are complete only after nnb_resolve_entry_points(), which needs first_position, the
 * bit position of the first block row (may be NULL). NNB_BAD_TENSOR: a level of the wrong parity (dq), outside the
 * codebook, or not zero in a skipped row.
 */
nnb_status nnb_encode_tensor(nnb_encoder *encoder, const nnb_level_coding *coding, const nnb_source *source,
                             uint64_t *first_position);

/* Codes the terminating bin and completes the payload. */
nnb_status nnb_encoder_finish(nnb_encoder *encoder);

/* Completes the entry points of a tensor from the finished payload. */
nnb_status nnb_resolve_entry_points(const uint8_t *payload, size_t size, uint64_t first_position,
                                    nnb_entry_point *entry_points, size_t count);

/* Most bytes that a payload of these tensors can have, or SIZE_MAX; far more than it will have. */
size_t nnb_encode_bound(const nnb_level_coding *codings, size_t count);

/* list[r] = 1 for all-zero rows, else 0; returns how many there are. */
size_t nnb_mark_zero_rows(const int32_t *levels, size_t height, size_t width, uint8_t *list);

/* Bytes of work memory that nnb_choose_initial_sets() needs; any alignment will do. */
size_t nnb_choose_work_size(const nnb_level_coding *coding);

/* Chooses an initial set for each context; the source's own initial_sets, contexts and entry_points are not looked at.
 */
nnb_status nnb_choose_initial_sets(const nnb_level_coding *coding, const nnb_source *source, nnb_set_rule rule,
                                   void *work, size_t work_size, uint8_t *initial_sets);

/*
 * Uniform quantization. *qp is raised if a level would not fit (nnc-encoder-notes section 2). NNB_BAD_TENSOR: a value
 * is not finite.
 */
nnb_status nnb_quantize_uniform(const float *values, size_t count, int32_t *qp, uint32_t qp_density, int32_t *levels);

/* Bytes of work memory of nnb_quantize_dependent(), or SIZE_MAX. */
size_t nnb_quantize_work_size(size_t height, size_t width);

/* Trellis quantization in the coding order of the scan; delivers L. */
nnb_status nnb_quantize_dependent(const float *values, size_t height, size_t width, uint32_t scan_order, int32_t *qp,
                                  uint32_t qp_density, int32_t *levels, void *work, size_t work_size);

/* Bytes of work memory of nnb_quantize_weighed(), any alignment will do; or SIZE_MAX. */
size_t nnb_weighed_work_size(const nnb_level_coding *coding);

/*
 * Quantization that weighs estimated bits against the squared error (nnc-encoder-notes section 3): the trellis if
 * coding->dq, else one level after the other. Contexts are those of plain coding, whatever else coding says; they start
 * on initial_sets, nnb_context_count() bytes 0..8, or on set 0 if that is NULL. NNB_BAD_OPTION: lambda_scale is not
 * positive, or above 1e30.
 */
nnb_status nnb_quantize_weighed(const float *values, const nnb_level_coding *coding, double lambda_scale,
                                const uint8_t *initial_sets, int32_t *qp, uint32_t qp_density, int32_t *levels,
                                void *work, size_t work_size);

#ifdef __cplusplus
}
#endif

#endif

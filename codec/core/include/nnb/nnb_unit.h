/*
 * NNC units: framing, headers, parameter sets, and what the decoder of nnb.h has to know of each tensor.
 *
 * Names and order follow nnc-bitstream. Nothing is copied and nothing is allocated: strings and lists stay where they
 * are in the stream, which must outlive the results. Verdicts and status codes are those of the Python reader.
 *
 *   nnb_stream stream;
 *   nnb_unit unit;
 *   nnb_stream_open(&stream, data, size);
 *   while (nnb_stream_next(&stream, &unit) == NNB_OK && unit.size > 0) {
 *     if (unit.nnr_unit_type != NNB_NNR_NDU) continue;
 *     for (uint32_t k = 0; k < nnb_part_count(&unit); k++) {
 *       nnb_part part;
 *       nnb_part_get(&unit, &stream.parameters, k, &part);
 *       ... nnb_decode_tensor(&cabac, &part.coding, ...)
 *     }
 *   }
 */
#ifndef NNB_UNIT_H
#define NNB_UNIT_H

#include "nnb/nnb.h"
#include "nnb/nnb_syntax_gen.h"

#ifdef __cplusplus
extern "C" {
#endif

/* st(v): UTF-8 without the terminating zero byte, or other bytes of a unit. data is NULL where there is none. */
typedef struct nnb_string {
  const uint8_t *data;
  size_t size;
} nnb_string;

/* A list of elements in the stream; walking along it makes it shorter. */
typedef struct nnb_list {
  const uint8_t *data; /* of the unit */
  size_t size;         /* of the unit */
  uint64_t position;   /* of the next element, bits from the start of the unit */
  uint32_t count;      /* elements left */
} nnb_list;

/* ---- Trace: every element in stream order. Libraries for devices are built without (NNB_TRACE, src/dec/bits.h). */

typedef enum nnb_trace_kind {
  NNB_TRACE_UNSIGNED = 0,
  NNB_TRACE_SIGNED = 1, /* value is in two's complement */
  NNB_TRACE_FLOAT = 2,  /* value is the bit pattern of a binary32 */
  NNB_TRACE_STRING = 3, /* stands in the stream at position, width counts its terminator; value is 0 */
  NNB_TRACE_BITS = 4    /* bits too many for a value; they stand in the stream at position; value is 0 */
} nnb_trace_kind;

/* An element: "unit[<unit>].<group><name>", then "[<index>]" depth times. */
typedef struct nnb_trace_record {
  const char *group; /* where it lies, empty or ending in a dot */
  const char *name;  /* nnc-bitstream's */
  uint32_t unit;
  uint32_t depth;
  uint32_t index[2];
  nnb_trace_kind kind;
  uint64_t position; /* bits from the start of the stream */
  uint64_t width;    /* bits */
  uint64_t value;
} nnb_trace_record;

typedef void nnb_trace_fn(void *user, const nnb_trace_record *record);

typedef struct nnb_trace {
  nnb_trace_fn *function; /* NULL for no trace */
  void *user;
} nnb_trace;

/* ---- What is in force when a unit is read */

/* Flags of nnb_supplied.given. */
typedef enum nnb_supplied_flags {
  NNB_SUPPLIED_TENSOR_DIMENSIONS = 1,
  NNB_SUPPLIED_CABAC_UNARY_LENGTH_MINUS1 = 2,
  NNB_SUPPLIED_COMPRESSED_PARAMETER_TYPES = 4,
  NNB_SUPPLIED_DECOMPOSITION_RANK = 8,
  NNB_SUPPLIED_G_NUMBER_OF_ROWS = 16
} nnb_supplied_flags;

/* Values for one tensor or block from outside the bitstream (6.3). They replace transmitted ones. */
typedef struct nnb_supplied {
  nnb_string name; /* of the tensor, for a BLOCK the first name of its list */
  const uint64_t *tensor_dimensions;
  uint64_t decomposition_rank;
  uint64_t g_number_of_rows;
  uint32_t count_tensor_dimensions;
  uint8_t cabac_unary_length_minus1;
  uint8_t compressed_parameter_types;
  uint8_t given; /* nnb_supplied_flags of the values that are given */
} nnb_supplied;

typedef struct nnb_quantization_parameters {
  uint8_t present;
  uint8_t qp_density;
  int16_t quantization_parameter;
} nnb_quantization_parameters;

/* The parameter sets in force, as far as units depend on them. */
typedef struct nnb_parameters {
  uint8_t general_profile_idc; /* everything but 1 means the syntax of profile 0 */
  uint8_t mps_present;
  uint8_t mps_unification_flag;
  uint8_t mps_topology_indexed_reference_flag;
  uint8_t mps_parent_signalling_enabled_flag;
  uint8_t lps_unification_flag;
  nnb_quantization_parameters mps_quantization;
  nnb_quantization_parameters lps_quantization; /* takes the place of that of the MPS where it is present */
  nnb_list reference_list;                      /* names that indices refer to */
  const nnb_supplied *supplied;                 /* may be NULL */
  size_t supplied_count;
} nnb_parameters;

/* ---- Units. Elements have nnc-bitstream's names; absent ones have the value inferred there, else 0. */

typedef struct nnb_start_unit {
  uint8_t general_profile_idc;
} nnb_start_unit;

/* Performance maps (5.3) are informative: they are checked, and their values are delivered to the trace only. */

typedef struct nnb_model_parameter_set {
  uint8_t topology_carriage_flag;
  uint8_t mps_sparsification_flag;
  uint8_t mps_pruning_flag;
  uint8_t mps_unification_flag;
  uint8_t mps_decomposition_performance_map_flag;
  uint8_t mps_quantization_method_flags;
  uint8_t mps_topology_indexed_reference_flag;
  uint8_t validation_set_performance_present_flag;
  uint8_t metric_type_performance_map_valid_flag;
  uint8_t mps_parent_signalling_enabled_flag;
  uint8_t nnr_pre_flag;
  nnb_quantization_parameters quantization;
  uint32_t validation_set_performance; /* bit pattern of a binary32 */
  nnb_string base_model_id;
  nnb_string performance_metric_type;
} nnb_model_parameter_set;

typedef struct nnb_layer_parameter_set {
  uint8_t lps_self_contained_flag;
  uint8_t lps_sparsification_flag;
  uint8_t lps_pruning_flag;
  uint8_t lps_unification_flag;
  uint8_t lps_quantization_method_flags;
  nnb_quantization_parameters quantization;
} nnb_layer_parameter_set;

/* bit_mask(): first bit most significant. bits is NULL where there is none. */
typedef struct nnb_bit_mask {
  const uint8_t *bits;
  uint32_t count_bits;
} nnb_bit_mask;

typedef struct nnb_pruning_container {
  uint8_t nnr_rep_type;
  uint8_t prune_flag;
  uint8_t order_flag;
  uint8_t sparse_flag;
  uint8_t indexed; /* element_ids are indices, not names */
  nnb_bit_mask bit_mask;
  nnb_bit_mask sparse_bit_mask;
  nnb_list element_ids; /* for nnb_list_name, or for nnb_list_index if indexed */
  nnb_list dims;        /* for nnb_list_dims */
} nnb_pruning_container;

typedef struct nnb_topology {
  uint8_t topology_storage_format;
  uint8_t topology_compression_format;
  nnb_string topology_data;                             /* formats other than the next two */
  nnb_list topology_elem_id_list;                       /* NNR_TPL_REFLIST; for nnb_list_name */
  nnb_pruning_container nnr_pruning_topology_container; /* NNR_TPL_PRUN */
} nnb_topology;

typedef struct nnb_quantization {
  uint8_t quantization_storage_format;
  uint8_t quantization_compression_format;
  nnb_string quantization_data;
} nnb_quantization;

/* integer_codebook(); nnb_codebook_entries() delivers the array C. */
typedef struct nnb_codebook {
  nnb_list deltas;
  int32_t codebook_zero_value;
  uint32_t codebook_size; /* 0 for no codebook */
  uint32_t zero_offset;   /* CbZeroOffset */
  uint8_t codebook_egk;
} nnb_codebook;

/* Values that can be supplied from outside are those in force. */
typedef struct nnb_data_unit {
  uint8_t nnr_compressed_data_unit_payload_type;
  uint8_t nnr_multiple_topology_elements_present_flag;
  uint8_t nnr_decompressed_data_format_present_flag;
  uint8_t input_parameters_present_flag;
  uint8_t indexed; /* names are indices into the reference list */
  uint8_t node_id_present_flag;
  uint8_t parent_node_id_present_flag;
  uint8_t parent_node_id_type;
  uint8_t temporal_context_modeling_flag;
  uint8_t dq_flag;
  uint8_t nnr_decompressed_data_format;
  uint8_t tensor_dimensions_flag;
  uint8_t cabac_unary_length_flag;
  uint8_t compressed_parameter_types;
  uint8_t cabac_unary_length_minus1;
  uint8_t scan_order;
  nnb_list names; /* topology_elem_id, _id_index, _id_list or _id_index_list; for nnb_unit_name */
  uint64_t device_id;
  uint64_t parameter_id;
  uint64_t put_node_depth;
  uint64_t parent_device_id;
  uint64_t parent_node_payload_position; /* of the SHA digest, bits from the start of the unit */
  uint64_t decomposition_rank;
  uint64_t g_number_of_rows;
  uint64_t first_tensor_dimension_shift;
  nnb_list tensor_dimensions;          /* in the stream; for nnb_unit_dimensions */
  const uint64_t *supplied_dimensions; /* else, if not NULL */
  uint32_t count_tensor_dimensions;
  uint64_t height; /* first dimension, 1 without dimensions */
  uint64_t width;  /* product of the others; height * width is at most NNB_MAX_ELEMENTS */
  nnb_codebook CbA;
  nnb_codebook CbB;
  nnb_list entry_points; /* cabac_entry_point_list(); for nnb_unit_entry_points */
} nnb_data_unit;

typedef struct nnb_aggregate {
  uint8_t nnr_aggregate_unit_type;
  uint8_t entry_points_present_flag;
  uint8_t unification;   /* each unit has ctu_scan_order */
  uint32_t unit_count;   /* num_of_nnr_units_minus2 + 2 */
  nnb_list entry_points; /* 40 bits each: nnr_unit_type, nnr_unit_entry_point */
  nnb_list units;        /* 8 bits each: quant_bitdepth, ctu_scan_order or reserved bits */
} nnb_aggregate;

/* ---- Extension units (docs/format.md): type 32 with the signature; ext_kind 0 for units of type 32 without it */

#define NNB_EXT_SIGNATURE 0x6E6E6258u
#define NNB_EXT_VERSION 1u
#define NNB_DIGEST_BYTES 32

typedef struct nnb_extension {
  uint8_t ext_kind;      /* nnb_extension_kind */
  uint8_t au_relation;   /* nnb_access_unit_relation */
  uint8_t data_flag;     /* an access unit data unit follows */
  uint32_t crc32c;       /* au_crc32c, metadata_crc32c, index_crc32c, end_crc32c or attachment_crc32c */
  uint32_t head_crc32c;  /* of the metadata unit */
  uint32_t ndu_count;    /* NDU units that follow */
  uint64_t content_size; /* metadata_size, index_size or part_size: of the payload after decompression */
  uint64_t au_bytes;
  uint64_t au_number;
  uint64_t index_offset;
  uint64_t index_bytes;
  uint64_t previous_end;
  uint64_t au_count;
  uint64_t attachment_size;
  uint64_t part_offset;
  uint64_t covered_position; /* where the bytes of crc32c begin, bits from the start of the unit; 0 for the end unit */
  uint64_t digest_position;  /* of base_digest or model_digest, likewise; 0 where there is none */
  nnb_string name;           /* of an attachment */
  nnb_list pieces;           /* for nnb_next_piece */
} nnb_extension;

typedef struct nnb_unit {
  const uint8_t *data;
  size_t size;   /* nnr_unit_size */
  size_t offset; /* in the stream, bytes */
  size_t
      payload_offset; /* of bytes that are not elements, in the unit: of NDU, AGG, EXT and unknown types, else size */
  uint32_t index;     /* in the stream */
  uint8_t nnr_unit_size_flag;
  uint8_t nnr_unit_type; /* types above NNR_AGG have no body */
  uint8_t independently_decodable_flag;
  uint8_t partial_data_counter_present_flag;
  uint8_t partial_data_counter;
  union {
    nnb_start_unit str;
    nnb_model_parameter_set mps;
    nnb_layer_parameter_set lps;
    nnb_topology tpl;
    nnb_quantization qnt;
    nnb_data_unit ndu;
    nnb_aggregate agg;
    nnb_extension ext;
  } body;
} nnb_unit;

/* The size of the size field and nnr_unit_size; 4 bytes of data are always enough. NNB_TRUNCATED, NNB_UNIT_SIZE. */
nnb_status nnb_peek_unit_size(const uint8_t *data, size_t size, size_t *size_bytes, size_t *unit_size);

/*
 * Reads everything of one unit that is made of elements; `size` must be nnr_unit_size. `trace` may be NULL. After an
 * error the unit is not to be used. nnb_parameters_start() makes the parameters in force before the start unit;
 * nnb_parameters_update() brings those of a unit into force.
 */
nnb_status nnb_parse_unit(const uint8_t *data, size_t size, uint32_t index, size_t offset,
                          const nnb_parameters *parameters, const nnb_trace *trace, nnb_unit *unit);
void nnb_parameters_start(nnb_parameters *parameters);
void nnb_parameters_update(nnb_parameters *parameters, const nnb_unit *unit);

/* ---- Streams */

/* A stream and the place in it. What is not private may be set between nnb_stream_open() and the first unit. */
typedef struct nnb_stream {
  const uint8_t *data;
  size_t size;
  nnb_parameters parameters; /* in force after the last unit, and for it if it is an NDU; set only what is supplied */
  nnb_trace trace;
  uint32_t max_units; /* NNB_DEFAULT_MAX_UNITS */
  /* private */
  uint32_t index;
  size_t offset;
  nnb_status status;
  uint32_t aggregate_left;
  uint32_t aggregate_listed;
  size_t aggregate_offset;
  size_t aggregate_end;
  nnb_list aggregate_entry_points;
} nnb_stream;

/* NNB_NOT_NNC unless the data begin with a start unit. */
nnb_status nnb_stream_open(nnb_stream *stream, const uint8_t *data, size_t size);

/*
 * The next unit; units inside an aggregate unit follow it. At the end unit->size is 0. Checks the order of units. An
 * error is final: every later call returns it again. Names that occur twice are not looked for.
 */
nnb_status nnb_stream_next(nnb_stream *stream, nnb_unit *unit);

/* ---- What lies in the lists. All return NNB_OK for units that were parsed without error, unless stated. */

/* The next name, index or list of dimensions; 0 at the end of the list. */
int nnb_list_name(nnb_list *list, nnb_string *name);
int nnb_list_index(nnb_list *list, uint64_t *index);
/* *count becomes count_dims; the first `capacity` of them are delivered. */
int nnb_list_dims(nnb_list *list, uint64_t *dims, size_t capacity, size_t *count);

/*
 * Name `number` of a data unit. An index is looked up in the reference list, in time linear in its length;
 * NNB_VALUE_RANGE if it lies outside.
 */
nnb_status nnb_unit_name(const nnb_unit *unit, const nnb_parameters *parameters, uint32_t number, nnb_string *name);

/* body.ndu.count_tensor_dimensions dimensions; NNB_BUFFER_SIZE if the capacity is less. */
nnb_status nnb_unit_dimensions(const nnb_unit *unit, uint64_t *dimensions, size_t capacity);

/* body.ndu.entry_points.count entry points. NNB_ENTRY_POINT if a bit_offset is negative or absurd. */
nnb_status nnb_unit_entry_points(const nnb_unit *unit, nnb_entry_point *points, size_t capacity);

/* The array C: codebook->codebook_size strictly increasing integers. */
nnb_status nnb_codebook_entries(const nnb_codebook *codebook, int32_t *entries, size_t capacity);

/* ---- The pieces of an access unit (docs/format.md) */

/* A tensor or a part of one. Numbers that are absent have the value that follows from the others. */
typedef struct nnb_piece {
  uint32_t name_length; /* of the whole name; its first bytes are in the caller's buffer */
  uint8_t element_type; /* nnb_element_type */
  uint8_t count_dimensions;
  uint8_t part_flag;
  uint8_t map_kind;
  uint8_t value_coding; /* nnb_value_coding */
  uint64_t size;        /* elements of the tensor */
  uint64_t first_element;
  uint64_t element_count;
  uint64_t map_bytes;
  uint64_t value_count; /* elements that follow: element_count without a map */
  uint64_t value_bytes; /* in the data unit; 0 for other codings */
  nnb_list dimensions;  /* for nnb_list_dimension */
} nnb_piece;

/*
 * The next piece; 0 at the end of the list. The caller's buffer keeps the name from call to call, as a name may begin
 * like the one before it: of a longer name the first `capacity` bytes, at least 255, are there.
 */
int nnb_next_piece(nnb_list *pieces, nnb_piece *piece, uint8_t *name, size_t capacity);

/* The next of `dimensions`; 0 at the end of the list. */
int nnb_list_dimension(nnb_list *list, uint64_t *dimension);

/* Width of an element in bits, 8 for bool; 0 for numbers that are no element type. */
uint32_t nnb_element_bits(uint32_t element_type);

/*
 * Puts what a data unit holds of a pruned tensor where it belongs: `count` weights or neurons (rows) of item_bytes
 * each, whose bits in the mask begin at `first`; the pruned ones, bits of 1, become zero bytes. NNB_SPARSE_MAP if the
 * mask has fewer bits or leaves another number than kept_count, which is then what the data unit should hold.
 */
nnb_status nnb_pruning_expand(const nnb_bit_mask *mask, uint64_t first, uint64_t count, size_t item_bytes,
                              const uint8_t *kept, uint64_t kept_count, uint8_t *out);

/* ---- The tensors of a data unit (6.4) */

typedef enum nnb_role {
  NNB_ROLE_TENSOR = 0,
  NNB_ROLE_G = 1,
  NNB_ROLE_H = 2,
  NNB_ROLE_LOCAL_SCALING = 3,
  NNB_ROLE_BIAS = 4,
  NNB_ROLE_BN_BETA = 5,
  NNB_ROLE_BN_GAMMA = 6,
  NNB_ROLE_BN_MEAN = 7,
  NNB_ROLE_BN_VARIANCE = 8
} nnb_role;

/* One tensor. Its shape is the unit's for NNB_ROLE_TENSOR, (height, width) for factors, else (height). */
typedef struct nnb_part {
  nnb_role role;
  uint32_t name;                /* number in the list of names, for nnb_unit_name */
  uint8_t arithmetic;           /* 0 for raw values: height * width binary32, little endian, are the payload */
  uint8_t integer;              /* the levels are the values */
  uint8_t qp_density;           /* for nnb_step_size */
  int16_t qp;                   /* to be added to qp_value */
  const nnb_codebook *codebook; /* NULL for uniform quantization */
  nnb_level_coding coding;      /* height and width count for raw values, too */
  uint32_t first_entry_point;   /* its block rows but the first, in the unit's entry points */
  uint32_t entry_point_count;   /* 0 where the scan has no blocks */
} nnb_part;

/* How many tensors a data unit has: 1, or up to 8 in a BLOCK. */
uint32_t nnb_part_count(const nnb_unit *unit);

/*
 * Tensor `number` in coding order. NNB_VALUE_RANGE if names do not fit the parameter types or dq_flag is 1 with a
 * codebook, NNB_SHAPE_MISMATCH for impossible factors, NNB_QP_MISSING. Limits to memory are the caller's.
 */
nnb_status nnb_part_get(const nnb_unit *unit, const nnb_parameters *parameters, uint32_t number, nnb_part *part);

#ifdef __cplusplus
}
#endif

#endif

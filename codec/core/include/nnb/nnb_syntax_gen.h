/* Generated from codec/limits.py and codec/syntax/enums.py; do not edit. */
#ifndef NNB_SYNTAX_GEN_H
#define NNB_SYNTAX_GEN_H

#include <stdint.h>

#define NNB_MAX_UNIT_BYTES 2147483647u
#define NNB_MAX_NAME_BYTES 65535u
#define NNB_MAX_TOPOLOGY_BYTES 268435456u
#define NNB_MAX_DIMENSIONS 255u
#define NNB_MAX_DIMENSION UINT64_C(281474976710656)
#define NNB_MAX_ELEMENTS UINT64_C(281474976710656)
#define NNB_MAX_TOPOLOGY_ELEMENTS 65536u
#define NNB_MAX_CODEBOOK_SIZE 1048576u
#define NNB_MAX_ENTRY_POINTS 67108864u
#define NNB_MAX_UE_BITS 64u
#define NNB_MIN_LEVEL INT64_C(-2147483648)
#define NNB_MAX_LEVEL 2147483647u
#define NNB_DEFAULT_MAX_UNITS 16777216u

/* Bits of compressed_parameter_types (section 6.2) */
typedef enum nnb_compressed_parameter_types {
  NNB_NNR_CPT_DC = 1,
  NNB_NNR_CPT_LS = 2,
  NNB_NNR_CPT_BN = 4,
  NNB_NNR_CPT_BI = 8,
} nnb_compressed_parameter_types;

/* nnr_decompressed_data_format (section 6.2) */
typedef enum nnb_decompressed_data_format {
  NNB_DECOMPRESSED_DATA_FORMAT_INT32 = 0,
  NNB_DECOMPRESSED_DATA_FORMAT_FLOAT32 = 1,
  NNB_DECOMPRESSED_DATA_FORMAT_INT2 = 2,
  NNB_DECOMPRESSED_DATA_FORMAT_INT3 = 3,
  NNB_DECOMPRESSED_DATA_FORMAT_INT4 = 4,
  NNB_DECOMPRESSED_DATA_FORMAT_INT8 = 5,
  NNB_DECOMPRESSED_DATA_FORMAT_INT16 = 6,
  NNB_DECOMPRESSED_DATA_FORMAT_INT64 = 7,
  NNB_DECOMPRESSED_DATA_FORMAT_FLOAT16 = 8,
  NNB_DECOMPRESSED_DATA_FORMAT_FLOAT64 = 9,
} nnb_decompressed_data_format;

/* parent_node_id_type (section 7) */
typedef enum nnb_parent_node_id_type {
  NNB_PARENT_NODE_ID_TYPE_NODE_ID = 0,
  NNB_PARENT_NODE_ID_TYPE_SHA256 = 1,
  NNB_PARENT_NODE_ID_TYPE_SHA512 = 2,
} nnb_parent_node_id_type;

/* nnr_compressed_data_unit_payload_type (section 6.2) */
typedef enum nnb_payload_type {
  NNB_NNR_PT_INT = 0,
  NNB_NNR_PT_FLOAT = 1,
  NNB_NNR_PT_RAW_FLOAT = 2,
  NNB_NNR_PT_BLOCK = 3,
} nnb_payload_type;

/* nnr_rep_type (section 10.2) */
typedef enum nnb_representation_type {
  NNB_NNR_TPL_BMSK = 0,
  NNB_NNR_TPL_DICT = 1,
} nnb_representation_type;

/* topology_storage_format (section 4); other values are read like NNR_TPL_UNREC */
typedef enum nnb_topology_storage_format {
  NNB_NNR_TPL_UNREC = 0,
  NNB_NNR_TPL_NNEF = 1,
  NNB_NNR_TPL_ONNX = 2,
  NNB_NNR_TPL_PYT = 3,
  NNB_NNR_TPL_TEF = 4,
  NNB_NNR_TPL_PRUN = 5,
  NNB_NNR_TPL_REFLIST = 6,
} nnb_topology_storage_format;

/* nnr_unit_type (section 1); 7..31 are reserved, 32..63 unspecified */
typedef enum nnb_unit_type {
  NNB_NNR_STR = 0,
  NNB_NNR_MPS = 1,
  NNB_NNR_LPS = 2,
  NNB_NNR_TPL = 3,
  NNB_NNR_QNT = 4,
  NNB_NNR_NDU = 5,
  NNB_NNR_AGG = 6,
} nnb_unit_type;

#endif

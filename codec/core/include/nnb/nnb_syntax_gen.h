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
#define NNB_MAX_SHARED_NAME_BYTES 255u
#define NNB_MAX_PIECES 65536u
#define NNB_MAX_ACCESS_UNITS UINT64_C(1099511627776)
#define NNB_MAX_METADATA_BYTES 268435456u
#define NNB_MAX_INDEX_BYTES UINT64_C(4294967296)
#define NNB_MAX_ATTACHMENT_BYTES UINT64_C(281474976710656)
#define NNB_MAX_ATTACHMENT_PART_BYTES 16777216u
#define NNB_MAX_UE_BITS 64u
#define NNB_MIN_LEVEL INT64_C(-2147483648)
#define NNB_MAX_LEVEL 2147483647u
#define NNB_DEFAULT_MAX_UNITS 16777216u

/* au_relation (docs/format.md) */
typedef enum nnb_access_unit_relation {
  NNB_ACCESS_UNIT_RELATION_ALONE = 0,
  NNB_ACCESS_UNIT_RELATION_REPLACES = 1,
  NNB_ACCESS_UNIT_RELATION_XOR = 2,
} nnb_access_unit_relation;

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

/* Numbers of element types in extension units. Never reused */
typedef enum nnb_element_type {
  NNB_ELEMENT_TYPE_BOOL = 0,
  NNB_ELEMENT_TYPE_UINT8 = 1,
  NNB_ELEMENT_TYPE_INT8 = 2,
  NNB_ELEMENT_TYPE_UINT16 = 3,
  NNB_ELEMENT_TYPE_INT16 = 4,
  NNB_ELEMENT_TYPE_UINT32 = 5,
  NNB_ELEMENT_TYPE_INT32 = 6,
  NNB_ELEMENT_TYPE_UINT64 = 7,
  NNB_ELEMENT_TYPE_INT64 = 8,
  NNB_ELEMENT_TYPE_FLOAT16 = 16,
  NNB_ELEMENT_TYPE_BFLOAT16 = 17,
  NNB_ELEMENT_TYPE_FLOAT32 = 18,
  NNB_ELEMENT_TYPE_FLOAT64 = 19,
  NNB_ELEMENT_TYPE_FLOAT8_E4M3FN = 24,
  NNB_ELEMENT_TYPE_FLOAT8_E5M2 = 25,
  NNB_ELEMENT_TYPE_FLOAT8_E4M3FNUZ = 26,
  NNB_ELEMENT_TYPE_FLOAT8_E5M2FNUZ = 27,
  NNB_ELEMENT_TYPE_FLOAT8_E8M0FNU = 28,
  NNB_ELEMENT_TYPE_FLOAT8_E4M3 = 29,
  NNB_ELEMENT_TYPE_FLOAT8_E3M4 = 30,
  NNB_ELEMENT_TYPE_FLOAT8_E4M3B11FNUZ = 31,
  NNB_ELEMENT_TYPE_COMPLEX32 = 32,
  NNB_ELEMENT_TYPE_COMPLEX64 = 33,
  NNB_ELEMENT_TYPE_COMPLEX128 = 34,
  NNB_ELEMENT_TYPE_UINT1 = 41,
  NNB_ELEMENT_TYPE_UINT2 = 42,
  NNB_ELEMENT_TYPE_UINT3 = 43,
  NNB_ELEMENT_TYPE_UINT4 = 44,
  NNB_ELEMENT_TYPE_UINT5 = 45,
  NNB_ELEMENT_TYPE_UINT6 = 46,
  NNB_ELEMENT_TYPE_UINT7 = 47,
  NNB_ELEMENT_TYPE_INT1 = 49,
  NNB_ELEMENT_TYPE_INT2 = 50,
  NNB_ELEMENT_TYPE_INT3 = 51,
  NNB_ELEMENT_TYPE_INT4 = 52,
  NNB_ELEMENT_TYPE_INT5 = 53,
  NNB_ELEMENT_TYPE_INT6 = 54,
  NNB_ELEMENT_TYPE_INT7 = 55,
  NNB_ELEMENT_TYPE_FLOAT4_E2M1FN = 56,
  NNB_ELEMENT_TYPE_FLOAT6_E2M3FN = 57,
  NNB_ELEMENT_TYPE_FLOAT6_E3M2FN = 58,
} nnb_element_type;

/* ext_kind (docs/format.md) */
typedef enum nnb_extension_kind {
  NNB_EXTENSION_KIND_METADATA = 1,
  NNB_EXTENSION_KIND_ACCESS_UNIT_HEADER = 2,
  NNB_EXTENSION_KIND_ACCESS_UNIT_DATA = 3,
  NNB_EXTENSION_KIND_INDEX = 4,
  NNB_EXTENSION_KIND_END = 5,
  NNB_EXTENSION_KIND_ATTACHMENT = 6,
} nnb_extension_kind;

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

/* nnr_unit_type (section 1); 7..31 are reserved, 32..63 unspecified: 32 with our signature is an extension unit */
typedef enum nnb_unit_type {
  NNB_NNR_STR = 0,
  NNB_NNR_MPS = 1,
  NNB_NNR_LPS = 2,
  NNB_NNR_TPL = 3,
  NNB_NNR_QNT = 4,
  NNB_NNR_NDU = 5,
  NNB_NNR_AGG = 6,
  NNB_NNR_EXT = 32,
} nnb_unit_type;

/* value_coding (docs/format.md) */
typedef enum nnb_value_coding {
  NNB_VALUE_CODING_NOTHING = 0,
  NNB_VALUE_CODING_RAW = 1,
  NNB_VALUE_CODING_LOSSLESS = 2,
  NNB_VALUE_CODING_NDU = 3,
} nnb_value_coding;

#endif

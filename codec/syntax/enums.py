"""Enumerated values, with the names of the specification."""

from __future__ import annotations

from enum import IntEnum, IntFlag

from ..types import ElementType

__all__ = [
    "AccessUnitRelation",
    "CompressedParameterTypes",
    "DecompressedDataFormat",
    "ElementType",
    "ExtensionKind",
    "ParentNodeIdType",
    "PayloadType",
    "RepresentationType",
    "TopologyStorageFormat",
    "UnitType",
    "ValueCoding",
]


class UnitType(IntEnum):
    """nnr_unit_type (section 1); 7..31 are reserved, 32..63 unspecified: 32 with our signature is an extension unit."""

    NNR_STR = 0
    NNR_MPS = 1
    NNR_LPS = 2
    NNR_TPL = 3
    NNR_QNT = 4
    NNR_NDU = 5
    NNR_AGG = 6
    NNR_EXT = 32


class TopologyStorageFormat(IntEnum):
    """topology_storage_format (section 4); other values are read like NNR_TPL_UNREC."""

    NNR_TPL_UNREC = 0
    NNR_TPL_NNEF = 1
    NNR_TPL_ONNX = 2
    NNR_TPL_PYT = 3
    NNR_TPL_TEF = 4
    NNR_TPL_PRUN = 5
    NNR_TPL_REFLIST = 6


class PayloadType(IntEnum):
    """nnr_compressed_data_unit_payload_type (section 6.2)."""

    NNR_PT_INT = 0
    NNR_PT_FLOAT = 1
    NNR_PT_RAW_FLOAT = 2
    NNR_PT_BLOCK = 3


class CompressedParameterTypes(IntFlag):
    """Bits of compressed_parameter_types (section 6.2)."""

    NNR_CPT_DC = 1
    NNR_CPT_LS = 2
    NNR_CPT_BN = 4
    NNR_CPT_BI = 8


class DecompressedDataFormat(IntEnum):
    """nnr_decompressed_data_format (section 6.2)."""

    INT32 = 0
    FLOAT32 = 1
    INT2 = 2
    INT3 = 3
    INT4 = 4
    INT8 = 5
    INT16 = 6
    INT64 = 7
    FLOAT16 = 8
    FLOAT64 = 9


class ParentNodeIdType(IntEnum):
    """parent_node_id_type (section 7)."""

    NODE_ID = 0
    SHA256 = 1
    SHA512 = 2


class RepresentationType(IntEnum):
    """nnr_rep_type (section 10.2)."""

    NNR_TPL_BMSK = 0
    NNR_TPL_DICT = 1


class ExtensionKind(IntEnum):
    """ext_kind (docs/format.md)."""

    METADATA = 1
    ACCESS_UNIT_HEADER = 2
    ACCESS_UNIT_DATA = 3
    INDEX = 4
    END = 5
    ATTACHMENT = 6


class AccessUnitRelation(IntEnum):
    """au_relation (docs/format.md)."""

    ALONE = 0
    REPLACES = 1
    XOR = 2


class ValueCoding(IntEnum):
    """value_coding (docs/format.md)."""

    NOTHING = 0
    RAW = 1
    LOSSLESS = 2
    NDU = 3

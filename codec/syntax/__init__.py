"""The syntax of NNC: the only place that knows the order and the widths of its fields.

``units``, ``compressed_data`` and ``payload`` declare every table of the specification once; reading, writing, sizes,
traces and ``docs/fields.md`` follow from the declaration. Units come and go as the frozen dataclasses of ``views``.
"""

from .enums import (
    CompressedParameterTypes,
    DecompressedDataFormat,
    ParentNodeIdType,
    PayloadType,
    RepresentationType,
    TopologyStorageFormat,
    UnitType,
)
from .trace import Trace, TraceRecord
from .unit_io import ParameterSets, ParsedUnit, build_unit, build_unit_prefix, parse_unit, peek_unit_size
from .views import (
    AggregateUnit,
    BitMask,
    Body,
    CompressedDataUnit,
    DecompositionPerformanceMap,
    IntegerCodebook,
    LayerParameterSet,
    ModelParameterSet,
    PruningPerformanceMap,
    PruningTopologyContainer,
    Quantization,
    SparsificationPerformanceMap,
    StartUnit,
    SuppliedParameters,
    Topology,
    UnificationPerformanceMap,
    UnitHeader,
    UnknownUnit,
)

__all__ = [
    "AggregateUnit",
    "BitMask",
    "Body",
    "CompressedDataUnit",
    "CompressedParameterTypes",
    "DecompositionPerformanceMap",
    "DecompressedDataFormat",
    "IntegerCodebook",
    "LayerParameterSet",
    "ModelParameterSet",
    "ParameterSets",
    "ParentNodeIdType",
    "ParsedUnit",
    "PayloadType",
    "PruningPerformanceMap",
    "PruningTopologyContainer",
    "Quantization",
    "RepresentationType",
    "SparsificationPerformanceMap",
    "StartUnit",
    "SuppliedParameters",
    "Topology",
    "TopologyStorageFormat",
    "Trace",
    "TraceRecord",
    "UnificationPerformanceMap",
    "UnitHeader",
    "UnitType",
    "UnknownUnit",
    "build_unit",
    "build_unit_prefix",
    "parse_unit",
    "peek_unit_size",
]

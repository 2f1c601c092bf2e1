"""Units as frozen dataclasses with the specification's names, and their conversion from and to construct's containers.

Elements that follow from others (counts of lists, flags that announce other elements) are properties, everything else
is a field. An element that is absent has the value that the specification infers, or None (an empty tuple for lists).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from itertools import accumulate, pairwise, repeat
from typing import Any, ClassVar, Final, NamedTuple, Protocol, TypeVar, cast, get_args, get_type_hints

from .enums import (
    DecompressedDataFormat,
    ParentNodeIdType,
    PayloadType,
    RepresentationType,
    UnitType,
)
from .extension_views import Extension

__all__ = [
    "SUPPLIED_NAMES",
    "AggregateUnit",
    "BitMask",
    "Body",
    "CabacEntryPoint",
    "CompressedDataUnit",
    "DecompositionPerformanceMap",
    "IntegerCodebook",
    "LayerParameterSet",
    "ModelParameterSet",
    "PruningPerformanceMap",
    "PruningTopologyContainer",
    "Quantization",
    "SparsificationPerformanceMap",
    "StartUnit",
    "SuppliedParameters",
    "Topology",
    "UnificationPerformanceMap",
    "UnitHeader",
    "UnknownUnit",
    "from_container",
    "to_container",
]

Floats = tuple[float, ...]
Ints = tuple[int, ...]


@dataclass(frozen=True)
class UnitHeader:
    """The common part of nnr_unit_header() (section 3)."""

    nnr_unit_type: int
    independently_decodable_flag: int = 1
    partial_data_counter: int | None = None

    @property
    def partial_data_counter_present_flag(self) -> int:
        """1 if there is a counter."""
        return int(self.partial_data_counter is not None)


@dataclass(frozen=True)
class StartUnit:
    """NNR_STR (section 4)."""

    nnr_unit_type: ClassVar[int] = UnitType.NNR_STR

    general_profile_idc: int


@dataclass(frozen=True)
class SparsificationPerformanceMap:
    """sparsification_performance_map() (section 5.3), one value an entry."""

    sparsification_threshold: Floats = ()
    non_zero_ratio: Floats = ()
    spm_nn_accuracy: Floats = ()
    spm_count_classes: Ints = ()
    spm_class_bitmask: Ints = ()
    spm_nn_class_accuracy: tuple[Floats, ...] = ()

    @property
    def spm_count_thresholds(self) -> int:
        """Entries + 1."""
        return len(self.sparsification_threshold) + 1


@dataclass(frozen=True)
class PruningPerformanceMap:
    """pruning_performance_map() (section 5.3), one value an entry."""

    pruning_ratio: Floats = ()
    ppm_nn_accuracy: Floats = ()
    ppm_count_classes: Ints = ()
    ppm_class_bitmask: Ints = ()
    ppm_nn_class_accuracy: tuple[Floats, ...] = ()

    @property
    def ppm_count_pruning_ratios(self) -> int:
        """Entries + 1."""
        return len(self.pruning_ratio) + 1


@dataclass(frozen=True)
class UnificationPerformanceMap:
    """unification_performance_map() (section 5.3), one value an entry.

    The three counts of dimensions are one more than the dimensions; 0 is read as no dimensions, too.
    """

    count_reshaped_tensor_dimension: Ints = ()
    reshaped_tensor_dimensions: tuple[Ints, ...] = ()
    count_super_block_dimension: Ints = ()
    super_block_dimensions: tuple[Ints, ...] = ()
    count_block_dimension: Ints = ()
    block_dimensions: tuple[Ints, ...] = ()
    unification_threshold: Floats = ()
    upm_nn_accuracy: Floats = ()
    upm_count_classes: Ints = ()
    upm_class_bitmask: Ints = ()
    upm_nn_class_accuracy: tuple[Floats, ...] = ()

    @property
    def upm_count_thresholds(self) -> int:
        """Entries + 1."""
        return len(self.unification_threshold) + 1


@dataclass(frozen=True)
class DecompositionPerformanceMap:
    """decomposition_performance_map() (section 5.3), one value an entry."""

    mse_threshold: Floats = ()
    dpm_nn_accuracy: Floats = ()
    nn_reduction_ratio: Floats = ()
    dpm_count_classes: Ints = ()
    dpm_nn_class_accuracy: tuple[Floats, ...] = ()

    @property
    def dpm_count_thresholds(self) -> int:
        """Entries + 1."""
        return len(self.mse_threshold) + 1


@dataclass(frozen=True)
class ModelParameterSet:
    """NNR_MPS (section 5.1). The defaults are what NNCodec writes."""

    nnr_unit_type: ClassVar[int] = UnitType.NNR_MPS

    topology_carriage_flag: int = 1
    mps_quantization_method_flags: int = 1
    mps_topology_indexed_reference_flag: int = 0
    metric_type_performance_map_valid_flag: int = 0
    mps_parent_signalling_enabled_flag: int = 0
    nnr_pre_flag: int = 0
    base_model_id: str | None = None
    performance_metric_type: str | None = None
    mps_qp_density: int | None = 2
    mps_quantization_parameter: int | None = 0
    sparsification_performance_map: SparsificationPerformanceMap | None = None
    pruning_performance_map: PruningPerformanceMap | None = None
    unification_performance_map: UnificationPerformanceMap | None = None
    decomposition_performance_map: DecompositionPerformanceMap | None = None
    validation_set_performance: float | None = None

    @property
    def mps_sparsification_flag(self) -> int:
        """1 if there is a map."""
        return int(self.sparsification_performance_map is not None)

    @property
    def mps_pruning_flag(self) -> int:
        """1 if there is a map."""
        return int(self.pruning_performance_map is not None)

    @property
    def mps_unification_flag(self) -> int:
        """1 if there is a map."""
        return int(self.unification_performance_map is not None)

    @property
    def mps_decomposition_performance_map_flag(self) -> int:
        """1 if there is a map."""
        return int(self.decomposition_performance_map is not None)

    @property
    def base_model_id_present_flag(self) -> int:
        """1 if there is an id."""
        return int(self.base_model_id is not None)

    @property
    def validation_set_performance_present_flag(self) -> int:
        """1 if there is a value."""
        return int(self.validation_set_performance is not None)


@dataclass(frozen=True)
class LayerParameterSet:
    """NNR_LPS (sections 4 and 5.2). From the standard, no peer."""

    nnr_unit_type: ClassVar[int] = UnitType.NNR_LPS

    lps_self_contained_flag: int = 0
    lps_quantization_method_flags: int = 1
    lps_qp_density: int | None = 2
    lps_quantization_parameter: int | None = 0
    sparsification_performance_map: SparsificationPerformanceMap | None = None
    pruning_performance_map: PruningPerformanceMap | None = None
    unification_performance_map: UnificationPerformanceMap | None = None

    @property
    def lps_sparsification_flag(self) -> int:
        """1 if there is a map."""
        return int(self.sparsification_performance_map is not None)

    @property
    def lps_pruning_flag(self) -> int:
        """1 if there is a map."""
        return int(self.pruning_performance_map is not None)

    @property
    def lps_unification_flag(self) -> int:
        """1 if there is a map."""
        return int(self.unification_performance_map is not None)


@dataclass(frozen=True)
class BitMask:
    """bit_mask() (section 10.2).

    Attributes:
        count_bits: number of bits.
        bit_mask_value: the bits, first bit most significant; unused bits of the last byte zero.
    """

    count_bits: int
    bit_mask_value: bytes


@dataclass(frozen=True)
class PruningTopologyContainer:
    """nnr_pruning_topology_container() (section 10.2). From the standard, no peer.

    Attributes:
        bit_mask: the mask of pruned neurons (prune_flag with NNR_TPL_BMSK).
        element_id_index, element_id: which tensors get new dimensions (prune_flag with NNR_TPL_DICT).
        count_dims, dim: the new dimensions, an entry for each of them.
        sparse_bit_mask: the mask of zeroed weights (sparse_flag).
    """

    nnr_rep_type: RepresentationType = RepresentationType.NNR_TPL_BMSK
    prune_flag: int = 0
    order_flag: int = 0
    sparse_flag: int = 0
    bit_mask: BitMask | None = None
    element_id_index: Ints = ()
    element_id: tuple[str, ...] = ()
    count_dims: Ints = ()
    dim: tuple[Ints, ...] = ()
    sparse_bit_mask: BitMask | None = None

    @property
    def count_ids(self) -> int:
        """Entries of the dictionary."""
        return len(self.count_dims)


@dataclass(frozen=True)
class Topology:
    """NNR_TPL (sections 4 and 5.4).

    Attributes:
        topology_data: a string for raw data (topology_compression_format 0), else bytes.
        nnr_pruning_topology_container: storage format NNR_TPL_PRUN. From the standard, no peer.
        topology_elem_id_list: storage format NNR_TPL_REFLIST. From the standard, no peer.
    """

    nnr_unit_type: ClassVar[int] = UnitType.NNR_TPL

    topology_storage_format: int = 0
    topology_compression_format: int = 0
    nnr_pruning_topology_container: PruningTopologyContainer | None = None
    topology_elem_id_index_list: Ints = ()
    topology_elem_id_list: tuple[str, ...] = ()
    topology_data: str | bytes | None = None

    @property
    def count_topology_elements_minus2(self) -> int | None:
        """Number of names - 2, None without a list."""
        return len(self.topology_elem_id_list) - 2 if self.topology_elem_id_list else None


@dataclass(frozen=True)
class Quantization:
    """NNR_QNT (sections 4 and 5.5). From the standard, no peer."""

    nnr_unit_type: ClassVar[int] = UnitType.NNR_QNT

    quantization_storage_format: int = 0
    quantization_compression_format: int = 0
    quantization_data: str | bytes = ""


@dataclass(frozen=True)
class IntegerCodebook:
    """integer_codebook() (section 6.1)."""

    codebook_egk: int
    codebook_zero_value: int
    codebook_delta_left: Ints = ()
    codebook_delta_right: Ints = ()

    @property
    def codebook_size(self) -> int:
        """Number of entries."""
        return len(self.codebook_delta_left) + len(self.codebook_delta_right) + 1

    @property
    def CbZeroOffset(self) -> int:
        """Index of the entry that coded index 0 selects."""
        return len(self.codebook_delta_left)

    @property
    def codebook_centre_offset(self) -> int:
        """CbZeroOffset relative to the middle."""
        return self.CbZeroOffset - (self.codebook_size >> 1)

    @property
    def entries(self) -> Ints:
        """The array C: strictly increasing integers."""
        zero = self.codebook_zero_value
        left = accumulate(self.codebook_delta_left, lambda value, delta: value - delta - 1, initial=zero)
        right = accumulate(self.codebook_delta_right, lambda value, delta: value + delta + 1, initial=zero)
        return tuple(left)[:0:-1] + tuple(right)

    @classmethod
    def from_entries(cls, entries: Ints, zero_offset: int, codebook_egk: int) -> IntegerCodebook:
        """The codebook with these strictly increasing entries."""
        gaps = tuple(high - low - 1 for low, high in pairwise(entries))
        return cls(codebook_egk, entries[zero_offset], gaps[:zero_offset][::-1], gaps[zero_offset:])


@dataclass(frozen=True)
class SuppliedParameters:
    """Values for one tensor or block from outside the bitstream (section 6.3); None supplies nothing."""

    tensor_dimensions: Ints | None = None
    cabac_unary_length_minus1: int | None = None
    compressed_parameter_types: int | None = None
    decomposition_rank: int | None = None
    g_number_of_rows: int | None = None


SUPPLIED_NAMES: Final = tuple(field.name for field in fields(SuppliedParameters))


class CabacEntryPoint(NamedTuple):
    """One entry of cabac_entry_point_list() (section 6.1).

    Attributes:
        bit_offset: bits between this entry point and the one before.
        cabac_offset: cabac_offset_list[j].
        dq_state: dq_state_list[j], 0 if dq_flag is 0.
    """

    bit_offset: int
    cabac_offset: int
    dq_state: int


class AnyEntryPoint(Protocol):
    """Anything with the values of a :class:`CabacEntryPoint`."""

    @property
    def bit_offset(self) -> int: ...
    @property
    def cabac_offset(self) -> int: ...
    @property
    def dq_state(self) -> int: ...


@dataclass(frozen=True)
class CompressedDataUnit:
    """The header of NNR_NDU (section 6.1).

    ``tensor_dimensions``, ``cabac_unary_length_minus1``, ``compressed_parameter_types``, ``decomposition_rank`` and
    ``g_number_of_rows`` are the values in force: a value supplied from outside replaces the one in the stream.

    Attributes:
        cabac_offset_list, dq_state_list: an entry for each block row but the first of each tensor.
        bit_offset_delta1: of the first entry point: one value or none.
        bit_offset_delta2: of the others.
        transmitted: values in the stream that supplied ones replaced, for writing the unit again.
    """

    nnr_unit_type: ClassVar[int] = UnitType.NNR_NDU

    nnr_compressed_data_unit_payload_type: PayloadType
    input_parameters_present_flag: int = 1
    topology_elem_id_index_list: Ints = ()
    topology_elem_id_list: tuple[str, ...] = ()
    topology_elem_id: str | None = None
    topology_elem_id_index: int | None = None
    device_id: int | None = None
    parameter_id: int | None = None
    put_node_depth: int | None = None
    parent_node_id_type: ParentNodeIdType | None = None
    temporal_context_modeling_flag: int = 0
    parent_device_id: int | None = None
    parent_node_payload_sha256: bytes | None = None
    parent_node_payload_sha512: bytes | None = None
    CbA: IntegerCodebook | None = None
    dq_flag: int = 0
    nnr_decompressed_data_format: DecompressedDataFormat | None = None
    tensor_dimensions_flag: int = 1
    cabac_unary_length_flag: int = 1
    compressed_parameter_types: int = 0
    decomposition_rank: int | None = None
    g_number_of_rows: int | None = None
    tensor_dimensions: Ints = ()
    cabac_unary_length_minus1: int = 10
    CbB: IntegerCodebook | None = None
    first_tensor_dimension_shift: int = 0
    scan_order: int = 0
    cabac_offset_list: Ints = ()
    dq_state_list: Ints = ()
    bit_offset_delta1: Ints = ()
    bit_offset_delta2: Ints = ()
    transmitted: SuppliedParameters | None = None

    @property
    def nnr_multiple_topology_elements_present_flag(self) -> int:
        """1 if there is a list of names."""
        return int(bool(self.topology_elem_id_list or self.topology_elem_id_index_list))

    @property
    def nnr_decompressed_data_format_present_flag(self) -> int:
        """1 if there is a format."""
        return int(self.nnr_decompressed_data_format is not None)

    @property
    def node_id_present_flag(self) -> int:
        """1 if there is a node id part."""
        return int(self.device_id is not None)

    @property
    def parent_node_id_present_flag(self) -> int:
        """1 if there is a parent part."""
        return int(self.parent_node_id_type is not None)

    @property
    def codebook_present_flag(self) -> int:
        """1 if there is a codebook."""
        return int(self.CbA is not None)

    @property
    def count_tensor_dimensions(self) -> int:
        """Number of dimensions in force."""
        return len(self.tensor_dimensions)

    @property
    def count_topology_elements_minus2(self) -> int | None:
        """Number of names - 2, None without a list."""
        count = len(self.topology_elem_id_list) or len(self.topology_elem_id_index_list)
        return count - 2 if count else None

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors' names, in the order of the list; empty if they are named by index."""
        return self.topology_elem_id_list if self.topology_elem_id is None else (self.topology_elem_id,)

    @property
    def cabac_entry_points(self) -> tuple[CabacEntryPoint, ...]:
        """cabac_entry_point_list() with the array bit_offset instead of its deltas."""
        bit_offset = accumulate(self.bit_offset_delta1 + self.bit_offset_delta2)
        states = self.dq_state_list or repeat(0)
        return tuple(map(CabacEntryPoint, bit_offset, self.cabac_offset_list, states))

    def with_cabac_entry_points(self, points: Sequence[AnyEntryPoint]) -> CompressedDataUnit:
        """The same unit with these entry points."""
        bit_offset = tuple(point.bit_offset for point in points)
        return replace(
            self,
            cabac_offset_list=tuple(point.cabac_offset for point in points),
            dq_state_list=tuple(point.dq_state for point in points) if self.dq_flag else (),
            bit_offset_delta1=bit_offset[:1],
            bit_offset_delta2=tuple(b - a for a, b in pairwise(bit_offset)),
        )


@dataclass(frozen=True)
class AggregateUnit:
    """The header of NNR_AGG (section 10.1). From the standard, no peer.

    Attributes:
        nnr_unit_type_list: nnr_unit_type[i] of the contained units.
    """

    nnr_unit_type: ClassVar[int] = UnitType.NNR_AGG

    nnr_aggregate_unit_type: int = 0
    nnr_unit_type_list: Ints = ()
    nnr_unit_entry_point: Ints = ()
    quant_bitdepth: Ints = ()
    ctu_scan_order: Ints = ()

    @property
    def entry_points_present_flag(self) -> int:
        """1 if there are entry points."""
        return int(bool(self.nnr_unit_entry_point))

    @property
    def num_of_nnr_units_minus2(self) -> int:
        """Contained units - 2."""
        return len(self.quant_bitdepth) - 2


@dataclass(frozen=True)
class UnknownUnit:
    """A unit of a reserved or unspecified type; everything after the common header is payload."""

    nnr_unit_type: int


Body = (
    StartUnit
    | ModelParameterSet
    | LayerParameterSet
    | Topology
    | Quantization
    | CompressedDataUnit
    | AggregateUnit
    | UnknownUnit
    | Extension
)

View = TypeVar("View")


@cache
def _fields(cls: Any) -> tuple[tuple[str, type[Any] | None], ...]:
    """Names of the fields, with the dataclass that a field may hold."""
    hints = get_type_hints(cls)
    result = []
    for field in fields(cls):
        hint = hints[field.name]
        nested = [kind for kind in (hint, *get_args(hint)) if isinstance(kind, type) and is_dataclass(kind)]
        result.append((field.name, nested[0] if nested else None))
    return tuple(result)


def from_container(cls: type[View], container: Mapping[str, Any]) -> View:
    """The dataclass ``cls`` with the values of a parsed container."""
    values: dict[str, Any] = {}
    for name, nested in _fields(cast(Hashable, cls)):
        value = container[name]
        if nested is not None and isinstance(value, Mapping):
            value = from_container(nested, value)
        values[name] = _tuples(value)
    return cls(**values)


def to_container(view: Any) -> dict[str, Any]:
    """The values of a dataclass for building."""
    result = {}
    for name, nested in _fields(cast(Hashable, type(view))):
        value = getattr(view, name)
        keep = nested is None or value is None or nested is SuppliedParameters
        result[name] = value if keep else to_container(value)
    return result


def _tuples(value: Any) -> Any:
    """Lists, also nested ones, as tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value

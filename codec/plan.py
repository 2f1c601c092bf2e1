"""The encode plan: what methods propose and the encoder executes. Frozen data, JSON both ways."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from typing import Any, Final, Literal, NoReturn, get_args

from .errors import NnbitsError, ReasonCode

__all__ = [
    "QUANTIZED",
    "BlockPlan",
    "Coding",
    "Compat",
    "EncodePlan",
    "MapChoice",
    "Profile",
    "SetChoice",
    "Speed",
    "TensorPlan",
]

#: How values travel: ``raw`` (float32 bits in the standard profile, the elements as they are in the extended one),
#: ``lossless`` (bit by bit, compressed; extended profile), exact ``integer``, or quantized: ``uniform``, ``dependent``
#: (trellis), or ``codebook`` (uniform, with the distinct integers listed once and indices into the list coded).
Coding = Literal["raw", "lossless", "integer", "uniform", "dependent", "codebook"]

#: What lossless coding looks for.
Speed = Literal["fast", "balanced", "small"]

#: Which sparse map tensors of exactly coded values get (docs/sparse-maps.md): what makes them smallest, if it does;
#: ``none``; the smallest one that is not entropy coded; or one kind, wherever a tensor has zeros of that structure.
MapChoice = Literal["size", "none", "raw", "bitmask", "two_level", "gaps", "pattern", "structured", "coded"]

#: Kind of stream (docs/format.md).
Profile = Literal["standard", "extended"]

#: The codings that have a quantization parameter.
QUANTIZED: Final[tuple[Coding, ...]] = ("uniform", "dependent", "codebook")

#: How the initial probability sets are chosen: all ``zero``, by ``cost`` of the real binarization, or as the
#: ``peer`` NNCodec does (nnc-encoder-notes section 4), which differs under dependent quantization.
SetChoice = Literal["zero", "cost", "peer"]

#: Whose limits a stream has to respect.
Compat = Literal["nncodec"]


@dataclass(frozen=True)
class TensorPlan:
    """How one tensor is coded.

    Attributes:
        coding: see :data:`Coding`.
        qp: quantization parameter; step size about 2^(qp / 2^qp_density); only for quantized codings.
        cabac_unary_length_minus1: number of abs_level_greater flags minus 1, 0..255.
        scan_order: 0..4, block scan of 2^(2 + scan_order) (0: row by row).
        row_skipping: True, False, or None for whichever is smaller.
        bitdepth: clip levels to this many bits (signed, or unsigned if no value is negative), 2..32. Not with
            dependent coding, where a clipped level can have the wrong parity (nnc-encoder-notes section 6).
        threshold: values of smaller magnitude become 0 before they are quantized. Dependent quantization may make one
            step of a zero here and there, where its error is then smaller elsewhere.
        zero_rows: indices along the first dimension, increasing; these rows become 0 before they are quantized.
        lambda_scale: weight of the rate in the quantizer's decisions (nnc-encoder-notes section 3); 0 is least
            squared error.
    """

    coding: Coding
    qp: int | None = None
    cabac_unary_length_minus1: int = 10
    scan_order: int = 0
    row_skipping: bool | None = None
    bitdepth: int | None = None
    threshold: float | None = None
    zero_rows: tuple[int, ...] = ()
    lambda_scale: float = 0.0

    def __post_init__(self) -> None:
        quantized = self.coding in QUANTIZED
        if self.coding not in get_args(Coding):
            _refuse(f"coding {self.coding!r} is not one of {get_args(Coding)}", "coding")
        if quantized != (self.qp is not None):
            _refuse(f"coding {self.coding!r} {'needs' if quantized else 'takes no'} qp", "qp")
        if self.qp is not None:
            _check_int(self.qp, -(2**15), 2**15, "qp")
        _check_int(self.cabac_unary_length_minus1, 0, 255, "cabac_unary_length_minus1")
        _check_int(self.scan_order, 0, 4, "scan_order")
        if self.row_skipping is not None and not isinstance(self.row_skipping, bool):
            _refuse(f"row_skipping must be true, false or null, not {self.row_skipping!r}", "row_skipping")
        if self.bitdepth is not None:
            _check_int(self.bitdepth, 2, 32, "bitdepth")
            if self.coding not in ("uniform", "codebook"):
                _refuse("bitdepth needs uniform or codebook coding", "bitdepth")
        self._check_modifications(quantized)

    def _check_modifications(self, quantized: bool) -> None:
        if self.threshold is not None:
            _check_number(self.threshold, "threshold")
            if self.threshold <= 0:
                _refuse("threshold must be positive", "threshold")
        if not isinstance(self.zero_rows, tuple):
            _refuse("zero_rows must be a list of integers", "zero_rows")
        for row in self.zero_rows:
            _check_int(row, 0, 2**48, "zero_rows")
        if any(b <= a for a, b in pairwise(self.zero_rows)):
            _refuse("zero_rows must increase", "zero_rows")
        _check_number(self.lambda_scale, "lambda_scale")
        if not 0 <= self.lambda_scale < 1e30:
            _refuse("lambda_scale must lie in 0..1e30", "lambda_scale")
        for name, given in (
            ("threshold", self.threshold is not None),
            ("zero_rows", bool(self.zero_rows)),
            ("lambda_scale", bool(self.lambda_scale)),
        ):
            if given and not quantized:
                _refuse(f"{name} needs a quantized coding", name)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], path: str = "tensor plan") -> TensorPlan:
        """Inverse of ``dataclasses.asdict``.

        Raises:
            NnbitsError: BAD_OPTION.
        """
        _check_keys(cls, data, path)
        if "coding" not in data:
            _refuse("coding is missing", path)
        return cls(**{**data, "zero_rows": _tuple(data.get("zero_rows", ()))})


@dataclass(frozen=True)
class BlockPlan:
    """Tensors that travel together in one BLOCK unit (nnc-bitstream 6.4), each named as in the model.

    All share the weight's coding (``dependent`` or not), unary length, row skipping and scan order; each has its own
    QP. The vectors beside a weight with codebook are coded ``uniform``. Entries of ``EncodePlan.tensors`` under the
    names of :attr:`created` say how those are coded; without one a scaling vector made by folding is coded as gamma,
    a bias as beta, and factors as the weight.

    Attributes:
        weight: its first dimension is the number of rows n.
        bias: of n elements.
        batch_norm: beta, gamma, mean and variance, of n elements each.
        local_scaling: factors of the rows, n elements.
        fold_epsilon: fold the batch norm with this epsilon into scaling and bias (nnc-encoder-notes section 8); they
            are made where the block has none. The decoder gives back all tensors, with a norm that does less.
        rank: send the weight as factors of this rank (a truncated singular value decomposition).
    """

    weight: str
    bias: str | None = None
    batch_norm: tuple[str, str, str, str] | None = None
    local_scaling: str | None = None
    fold_epsilon: float | None = None
    rank: int | None = None

    def __post_init__(self) -> None:
        norm = self.batch_norm
        if norm is not None and (not isinstance(norm, tuple) or len(norm) != 4):
            _refuse("batch_norm must be the names of beta, gamma, mean and variance", "batch_norm")
        if not all(isinstance(name, str) for name in self.members):
            _refuse("names of a block must be strings", "blocks")
        if len(set(self.members)) != len(self.members):
            _refuse(f"the block of {self.weight!r} names a tensor twice", "blocks")
        if self.fold_epsilon is not None:
            _check_number(self.fold_epsilon, "fold_epsilon")
            if norm is None or not 0 <= self.fold_epsilon < 1:
                _refuse("fold_epsilon needs batch_norm and lies in 0..1", "fold_epsilon")
        if self.rank is not None:
            _check_int(self.rank, 1, 2**31 - 1, "rank")
        if len(self.members) == 1 and self.rank is None:
            _refuse(f"a block of {self.weight!r} alone", "blocks")

    @property
    def members(self) -> tuple[str, ...]:
        """The model's tensors in the block, the weight first."""
        others = (self.bias, *(self.batch_norm or ()), self.local_scaling)
        return (self.weight, *(name for name in others if name is not None))

    @property
    def folds(self) -> bool:
        """Whether the batch norm is folded."""
        return self.fold_epsilon is not None

    @property
    def weight_names(self) -> tuple[str, ...]:
        """The weight or its factors G and H, as coded."""
        return (self.weight,) if self.rank is None else (self.weight + "_G", self.weight + "_H")

    @property
    def scaling_name(self) -> str | None:
        """The scaling vector that is coded, None without one."""
        return self.local_scaling or (self.weight + "_scaling" if self.folds else None)

    @property
    def bias_name(self) -> str | None:
        """The bias that is coded, None without one."""
        return self.bias or (self.weight + ".bias" if self.folds else None)

    @property
    def coded(self) -> tuple[str, ...]:
        """Names of the unit, in the order of topology_elem_id_list."""
        scaling = () if self.scaling_name is None else (self.scaling_name,)
        norm = () if self.folds else self.batch_norm or ()
        bias = () if self.bias_name is None else (self.bias_name,)
        return (*self.weight_names, *scaling, *norm, *bias)

    @property
    def created(self) -> tuple[str, ...]:
        """Names of the unit that the model does not have."""
        return tuple(name for name in self.coded if name not in self.members)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], path: str = "block plan") -> BlockPlan:
        """Inverse of ``dataclasses.asdict``.

        Raises:
            NnbitsError: BAD_OPTION.
        """
        _check_keys(cls, data, path)
        if "weight" not in data:
            _refuse("weight is missing", path)
        return cls(**{**data, "batch_norm": _tuple(data.get("batch_norm"))})


@dataclass(frozen=True)
class EncodePlan:
    """How a model is coded.

    Attributes:
        tensors: one plan for each tensor name.
        profile: ``standard`` for units of the standard only, ``extended`` for access units with an index.
        general_profile_idc: 0 for edition 1 syntax, 1 for edition 2.
        qp_density: 0..7; QP steps per doubling of the step size are 2^qp_density.
        set_choice: see :data:`SetChoice`.
        blocks: tensors that travel together; all others have units of their own.
        compat: refuse what this decoder cannot read; None for no such limits.
        speed: what lossless coding looks for: ``fast`` decoding, ``small`` streams, or ``balanced``.
        pruning_container: in the standard profile: say in pruning containers which rows and elements are zero, and
            leave these out of the data units; for decoders that know these units.
        sparse_map: in the extended profile, see :data:`MapChoice`.
    """

    tensors: Mapping[str, TensorPlan] = field(default_factory=dict)
    profile: Profile = "standard"
    general_profile_idc: Literal[0, 1] = 1
    qp_density: int = 2
    set_choice: SetChoice = "cost"
    blocks: tuple[BlockPlan, ...] = ()
    compat: Compat | None = None
    speed: Speed = "balanced"
    pruning_container: bool = False
    sparse_map: MapChoice = "size"

    def __post_init__(self) -> None:
        if self.profile not in get_args(Profile):
            _refuse(f"profile {self.profile!r} is not known", "profile")
        if self.general_profile_idc not in (0, 1):
            _refuse("general_profile_idc must be 0 or 1", "general_profile_idc")
        _check_int(self.qp_density, 0, 7, "qp_density")
        if self.set_choice not in get_args(SetChoice):
            _refuse(f"set_choice {self.set_choice!r} is not one of {get_args(SetChoice)}", "set_choice")
        if self.speed not in get_args(Speed):
            _refuse(f"speed {self.speed!r} is not one of {get_args(Speed)}", "speed")
        if self.sparse_map not in get_args(MapChoice):
            _refuse(f"sparse_map {self.sparse_map!r} is not one of {get_args(MapChoice)}", "sparse_map")
        if not isinstance(self.pruning_container, bool):
            _refuse("pruning_container must be true or false", "pruning_container")
        if self.pruning_container and self.profile != "standard":
            _refuse(
                "pruning_container needs the standard profile; the extended one has sparse maps", "pruning_container"
            )
        if self.compat not in (None, *get_args(Compat)):
            _refuse(f"compat {self.compat!r} is not one of {get_args(Compat)}", "compat")
        if not isinstance(self.blocks, tuple) or not all(isinstance(block, BlockPlan) for block in self.blocks):
            _refuse("blocks must be a list of blocks", "blocks")
        seen: set[str] = set()
        for block in self.blocks:
            for name in (*block.members, *block.created):
                if name in seen:
                    _refuse(f"tensor {name!r} is in two blocks", "blocks")
                seen.add(name)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> EncodePlan:
        """Inverse of :meth:`to_dict`.

        Raises:
            NnbitsError: BAD_OPTION if a key is unknown or a value out of range.
        """
        _check_keys(cls, data, "plan")
        items = data.get("tensors", {})
        if not isinstance(items, Mapping):
            _refuse("tensors must be an object", "plan.tensors")
        tensors = {name: TensorPlan.from_dict(item, f"plan.tensors[{name!r}]") for name, item in items.items()}
        listed = data.get("blocks", ())
        if not isinstance(listed, list | tuple):
            _refuse("blocks must be a list", "plan.blocks")
        blocks = tuple(BlockPlan.from_dict(item, f"plan.blocks[{index}]") for index, item in enumerate(listed))
        return cls(**{**data, "tensors": tensors, "blocks": blocks})


def _check_keys(cls: type[EncodePlan | TensorPlan | BlockPlan], data: object, path: str) -> None:
    if not isinstance(data, Mapping):
        _refuse("not an object", path)
    unknown = set(data) - {f.name for f in fields(cls)}
    if unknown:
        _refuse(f"unknown keys {sorted(map(str, unknown))}", path)


def _tuple(value: Any) -> Any:
    """JSON has lists where plans have tuples; anything else is checked later."""
    return tuple(value) if isinstance(value, list) else value


def _check_int(value: object, low: int, high: int, name: str) -> None:
    if type(value) is not int or not low <= value <= high:
        _refuse(f"{name} must be an integer in {low}..{high}, not {value!r}", name)


def _check_number(value: object, name: str) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= sys.float_info.max:
        _refuse(f"{name} must be a finite number, not {value!r}", name)


def _refuse(message: str, path: str) -> NoReturn:
    raise NnbitsError(ReasonCode.BAD_OPTION, message, path=path)

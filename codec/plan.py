"""The encode plan: what methods propose and the encoder executes. Frozen data, JSON both ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, NoReturn, get_args

from .errors import NnbitsError, ReasonCode

__all__ = ["Coding", "EncodePlan", "SetChoice", "TensorPlan"]

#: How values travel: ``raw`` float32 bits, exact ``integer``, ``uniform`` or ``dependent`` (trellis) quantization.
Coding = Literal["raw", "integer", "uniform", "dependent"]

#: How the initial probability sets are chosen: all ``zero``, by ``cost`` of the real binarization, or as the
#: ``peer`` NNCodec does (nnc-encoder-notes section 4), which differs under dependent quantization.
SetChoice = Literal["zero", "cost", "peer"]


@dataclass(frozen=True)
class TensorPlan:
    """How one tensor is coded.

    Attributes:
        coding: see :data:`Coding`.
        qp: quantization parameter; step size about 2^(qp / 2^qp_density); only for quantized codings.
        cabac_unary_length_minus1: number of abs_level_greater flags minus 1, 0..255.
        scan_order: 0..4, block scan of 2^(2 + scan_order) (0: row by row).
        row_skipping: True, False, or None for whichever is smaller.
        bitdepth: clip uniform levels to this many bits (signed, or unsigned if no value is negative), 2..32.
    """

    coding: Coding
    qp: int | None = None
    cabac_unary_length_minus1: int = 10
    scan_order: int = 0
    row_skipping: bool | None = None
    bitdepth: int | None = None

    def __post_init__(self) -> None:
        quantized = self.coding in ("uniform", "dependent")
        if self.coding not in get_args(Coding):
            _refuse(f"coding {self.coding!r} is not one of {get_args(Coding)}", "coding")
        if quantized != (self.qp is not None):
            _refuse(f"coding {self.coding!r} {'needs' if quantized else 'takes no'} qp", "qp")
        if self.qp is not None:
            _check_int(self.qp, -(2**15), 2**15, "qp")
        _check_int(self.cabac_unary_length_minus1, 0, 255, "cabac_unary_length_minus1")
        _check_int(self.scan_order, 0, 4, "scan_order")
        if self.bitdepth is not None:
            _check_int(self.bitdepth, 2, 32, "bitdepth")
            if self.coding != "uniform":
                _refuse("bitdepth needs uniform coding", "bitdepth")


@dataclass(frozen=True)
class EncodePlan:
    """How a model is coded.

    Attributes:
        tensors: one plan for each tensor name.
        profile: stream profile.
        general_profile_idc: 0 for edition 1 syntax, 1 for edition 2.
        qp_density: 0..7; QP steps per doubling of the step size are 2^qp_density.
        set_choice: see :data:`SetChoice`.
    """

    tensors: Mapping[str, TensorPlan] = field(default_factory=dict)
    profile: Literal["standard"] = "standard"
    general_profile_idc: Literal[0, 1] = 1
    qp_density: int = 2
    set_choice: SetChoice = "cost"

    def __post_init__(self) -> None:
        if self.profile != "standard":
            _refuse(f"profile {self.profile!r} is not known", "profile")
        if self.general_profile_idc not in (0, 1):
            _refuse("general_profile_idc must be 0 or 1", "general_profile_idc")
        _check_int(self.qp_density, 0, 7, "qp_density")
        if self.set_choice not in get_args(SetChoice):
            _refuse(f"set_choice {self.set_choice!r} is not one of {get_args(SetChoice)}", "set_choice")

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
        tensors = {}
        for name, item in items.items():
            path = f"plan.tensors[{name!r}]"
            _check_keys(TensorPlan, item, path)
            if "coding" not in item:
                _refuse("coding is missing", path)
            tensors[name] = TensorPlan(**item)
        return cls(**{**data, "tensors": tensors})


def _check_keys(cls: type[EncodePlan] | type[TensorPlan], data: object, path: str) -> None:
    if not isinstance(data, Mapping):
        _refuse("not an object", path)
    unknown = set(data) - {f.name for f in fields(cls)}
    if unknown:
        _refuse(f"unknown keys {sorted(map(str, unknown))}", path)


def _check_int(value: object, low: int, high: int, name: str) -> None:
    if type(value) is not int or not low <= value <= high:
        _refuse(f"{name} must be an integer in {low}..{high}, not {value!r}", name)


def _refuse(message: str, path: str) -> NoReturn:
    raise NnbitsError(ReasonCode.BAD_OPTION, message, path=path)

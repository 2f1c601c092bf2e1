"""The block types of GGML: fields of a block, apart as planes or together as bytes, and the values they stand for.

A tensor of such a type is a sequence of blocks along its last dimension, each a structure of scales, minima and codes.
Coded apart, the fields shrink; together they give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.types import DTYPES, Array, LazyTensor, TensorInfo

from ._input import Bytes
from ._joined import JOINED, join, part

__all__ = ["BLOCKS", "Block", "dequantize", "merge", "plain", "plane_count", "planes", "split"]

_Float = NDArray[np.float32]


@dataclass(frozen=True)
class Block:
    """A block type.

    Attributes:
        elements: of the tensor, in one block.
        fields: in the order of the structure: name of the plane, element type, elements in one block.
    """

    elements: int
    fields: tuple[tuple[str, str, int], ...]

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each field begins, and the size of the block, bytes."""
        ends = [0]
        for _, dtype, count in self.fields:
            ends.append(ends[-1] + DTYPES[dtype].bits * count // 8)
        return tuple(ends)

    @property
    def size(self) -> int:
        """Bytes of a block."""
        return self.offsets[-1]


def _block(elements: int, *fields: tuple[str, str, int]) -> Block:
    return Block(elements, fields)


_D: Final = ("scales", "float16", 1)
_M: Final = ("mins", "float16", 1)
_HALF: Final = ("codes", "uint4", 32)

#: By the name of the type.
BLOCKS: Final[Mapping[str, Block]] = {
    "Q4_0": _block(32, _D, _HALF),
    "Q4_1": _block(32, _D, _M, _HALF),
    "Q5_0": _block(32, _D, ("high", "uint1", 32), _HALF),
    "Q5_1": _block(32, _D, _M, ("high", "uint1", 32), _HALF),
    "Q8_0": _block(32, _D, ("codes", "int8", 32)),
    "Q2_K": _block(256, ("scale_codes", "uint4", 32), ("codes", "uint2", 256), _D, _M),
    "Q3_K": _block(256, ("high", "uint1", 256), ("codes", "uint2", 256), ("scale_codes", "uint8", 12), _D),
    "Q4_K": _block(256, _D, _M, ("scale_codes", "uint8", 12), ("codes", "uint4", 256)),
    "Q5_K": _block(256, _D, _M, ("scale_codes", "uint8", 12), ("high", "uint1", 256), ("codes", "uint4", 256)),
    "Q6_K": _block(256, ("codes", "uint4", 256), ("high", "uint2", 256), ("scale_codes", "int8", 16), _D),
    "Q8_K": _block(256, ("scales", "float32", 1), ("codes", "int8", 256), ("sums", "int16", 16)),
    "IQ2_XXS": _block(256, _D, ("codes", "uint16", 32)),
    "IQ2_XS": _block(256, _D, ("codes", "uint16", 32), ("scale_codes", "uint4", 16)),
    "IQ2_S": _block(256, _D, ("codes", "uint8", 64), ("high", "uint2", 32), ("scale_codes", "uint4", 16)),
    "IQ3_XXS": _block(256, _D, ("codes", "uint8", 64), ("signs", "uint32", 8)),
    "IQ3_S": _block(
        256,
        _D,
        ("codes", "uint8", 64),
        ("high", "uint1", 64),
        ("signs", "uint1", 256),
        ("scale_codes", "uint4", 8),
    ),
    "IQ1_S": _block(256, _D, ("codes", "uint8", 32), ("high", "uint16", 8)),
    "IQ1_M": _block(256, ("codes", "uint8", 32), ("high", "uint4", 32), ("scale_codes", "uint16", 4)),
    "IQ4_NL": _block(32, _D, _HALF),
    "IQ4_XS": _block(256, _D, ("scale_high", "uint2", 8), ("scale_codes", "uint4", 8), ("codes", "uint4", 256)),
    "TQ1_0": _block(256, ("codes", "uint8", 48), ("high", "uint8", 4), _D),
    "TQ2_0": _block(256, ("codes", "uint2", 256), _D),
    "MXFP4": _block(32, ("scales", "float8_e8m0fnu", 1), ("codes", "float4_e2m1fn", 32)),
    "Q1_0": _block(128, _D, ("codes", "uint1", 128)),
    "NVFP4": _block(64, ("scales", "uint8", 4), ("codes", "float4_e2m1fn", 64)),
}


def _planes(kind: str) -> list[tuple[str, str, int]]:
    """Fields of a block as they are coded: codes in two fields are one plane."""
    fields, joined = BLOCKS[kind].fields, JOINED.get(kind)
    if joined is None:
        return list(fields)
    return [
        (name, f"uint{joined.bits}" if name == "codes" else dtype, count)
        for name, dtype, count in fields
        if name != "high"
    ]


def plane_count(kind: str) -> int:
    """Number of planes of a block type."""
    return len(_planes(kind))


def planes(kind: str, name: str, shape: tuple[int, ...]) -> tuple[TensorInfo, ...]:
    """The planes of a tensor: ``name#scales`` and so on, in the order of the structure.

    Args:
        kind: key of :data:`BLOCKS`.
        shape: of the tensor; the last dimension is a multiple of the elements of a block.
    """
    block = BLOCKS[kind]
    blocks = shape[-1] // block.elements
    return tuple(
        TensorInfo(f"{name}#{plane}", DTYPES[dtype], (*shape[:-1], blocks * count))
        for plane, dtype, count in _planes(kind)
    )


def split(kind: str, raw: Bytes, infos: Sequence[TensorInfo], index: int) -> Array:
    """Plane ``index`` of the blocks in ``raw``.

    Raises:
        NnbitsError: BAD_TENSOR if the sizes do not fit.
    """
    block, info = BLOCKS[kind], infos[index]
    if raw.size % block.size or raw.size != sum(i.nbytes for i in infos):
        raise NnbitsError(ReasonCode.BAD_TENSOR, f"{raw.size} bytes are not blocks of {kind}", path=info.name)
    fields = _fields(block, raw)
    name = _planes(kind)[index][0]
    found = join(kind, fields["codes"], fields["high"]) if name == "codes" and kind in JOINED else fields[name]
    return np.ascontiguousarray(found).reshape(-1).view(info.dtype.storage).reshape(info.stored_shape)


def _fields(block: Block, raw: Bytes) -> dict[str, Bytes]:
    """Each field of all blocks, shape (blocks, bytes)."""
    table = raw.reshape(-1, block.size)
    return {
        name: table[:, start:stop]
        for (name, _, _), start, stop in zip(block.fields, block.offsets, block.offsets[1:], strict=False)
    }


def merge(kind: str, arrays: Sequence[Array], infos: Sequence[TensorInfo]) -> Bytes:
    """The blocks of all planes: :func:`split` undone.

    Raises:
        NnbitsError: BAD_TENSOR if the planes do not have the same number of blocks.
    """
    block = BLOCKS[kind]
    parts = [np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in arrays]
    widths = [DTYPES[dtype].bits * count // 8 for _, dtype, count in _planes(kind)]
    count = parts[0].size // widths[0]
    if len(parts) != len(widths) or any(p.size != count * w for p, w in zip(parts, widths, strict=True)):
        raise NnbitsError(ReasonCode.BAD_TENSOR, f"the planes do not make blocks of {kind}", path=infos[0].name)
    raw = np.empty(count * block.size, np.uint8)
    fields = _fields(block, raw)
    for (name, _, _), found in zip(_planes(kind), parts, strict=True):
        if name == "codes" and kind in JOINED:
            fields["codes"][:], fields["high"][:] = part(kind, found)
        else:
            fields[name][:] = found.reshape(fields[name].shape)
    return raw


def plain(kind: str, tensors: Sequence[LazyTensor]) -> Sequence[LazyTensor]:
    """The tensor that the planes stand for, dequantized to float32; of other types its bytes, a row a block.

    Raises:
        NnbitsError: what the ``read`` of a plane raises.
    """
    block = BLOCKS[kind]
    infos = [tensor.info for tensor in tensors]
    first, (_, _, count) = infos[0], _planes(kind)[0]
    name = first.name.rpartition("#")[0]
    blocks = first.shape[-1] // count

    def raw() -> Bytes:
        return merge(kind, [tensor.read() for tensor in tensors], infos)

    if kind in _VALUES:
        info = TensorInfo(name, DTYPES["float32"], (*first.shape[:-1], blocks * block.elements))
        return (LazyTensor(info, lambda: dequantize(kind, raw()).reshape(info.shape)),)
    info = TensorInfo(name, DTYPES["uint8"], (*first.shape[:-1], blocks, block.size))
    return (LazyTensor(info, lambda: raw().reshape(info.shape)),)


def dequantize(kind: str, raw: Bytes) -> _Float:
    """Values of blocks, float32, one dimension.

    Raises:
        NnbitsError: UNSUPPORTED_FEATURE for types whose values need tables that are not here; BAD_TENSOR if ``raw`` is
            not whole blocks.
    """
    if kind not in _VALUES:
        raise NnbitsError(ReasonCode.UNSUPPORTED_FEATURE, f"values of type {kind} are not known", path=kind)
    block = BLOCKS[kind]
    if raw.size % block.size:
        raise NnbitsError(ReasonCode.BAD_TENSOR, f"{raw.size} bytes are not blocks of {kind}", path=kind)
    fields = {name: np.ascontiguousarray(field) for name, field in _fields(block, raw).items()}
    with np.errstate(all="ignore"):
        values: _Float = _VALUES[kind](fields).astype(np.float32).reshape(-1)
    return values


_Fields = dict[str, Bytes]


def _f16(field: Bytes) -> _Float:
    return field.view("<f2").astype(np.float32)


def _nibbles(codes: Bytes) -> NDArray[np.int32]:
    """Low halves, then high halves: shape (blocks, 2 * bytes)."""
    return np.concatenate([codes & 15, codes >> 4], axis=1).astype(np.int32)


def _bits(field: Bytes) -> NDArray[np.int32]:
    return np.unpackbits(field, axis=1, bitorder="little").astype(np.int32)


def _scale_mins(codes: Bytes) -> tuple[_Float, _Float]:
    """Eight 6-bit scales and minima of Q4_K and Q5_K."""
    low, high = codes[:, :8] & 63, codes[:, 8:]
    top = codes[:, :8] >> 6
    scales = np.concatenate([low[:, :4], (high & 15) | (top[:, :4] << 4)], axis=1)
    mins = np.concatenate([low[:, 4:], (high >> 4) | (top[:, 4:] << 4)], axis=1)
    return scales.astype(np.float32), mins.astype(np.float32)


def _q2_k(f: _Fields) -> Any:
    scales = _f16(f["scales"]) * (f["scale_codes"] & 15)
    mins = _f16(f["mins"]) * (f["scale_codes"] >> 4)
    shifts = np.array([0, 2, 4, 6], np.uint8)[None, None, :, None]
    codes = (f["codes"].reshape(-1, 2, 1, 32) >> shifts & 3).reshape(-1, 16, 16)
    return scales[:, :, None] * codes - mins[:, :, None]


def _q3_k(f: _Fields) -> Any:
    low, high = f["scale_codes"][:, :8], f["scale_codes"][:, 8:]
    low = np.concatenate([low & 15, low >> 4], axis=1)
    top = np.concatenate([high >> shift & 3 for shift in (0, 2, 4, 6)], axis=1)
    scales = _f16(f["scales"]) * ((low | top << 4).astype(np.int32) - 32)
    shifts = np.array([0, 2, 4, 6], np.uint8)[None, None, :, None]
    codes = (f["codes"].reshape(-1, 2, 1, 32) >> shifts & 3).astype(np.int32)
    planes_ = np.arange(8, dtype=np.uint8)[None, :, None]
    missing = (f["high"][:, None, :] >> planes_ & 1).astype(np.int32) ^ 1
    codes = codes.reshape(-1, 16, 16) - 4 * missing.reshape(-1, 16, 16)
    return scales[:, :, None] * codes


def _q4_k(f: _Fields) -> Any:
    scales, mins = _scale_mins(f["scale_codes"])
    shifts = np.array([0, 4], np.uint8)[None, None, :, None]
    codes = (f["codes"].reshape(-1, 4, 1, 32) >> shifts & 15).reshape(-1, 8, 32)
    return (_f16(f["scales"]) * scales)[:, :, None] * codes - (_f16(f["mins"]) * mins)[:, :, None]


def _q5_k(f: _Fields) -> Any:
    scales, mins = _scale_mins(f["scale_codes"])
    shifts = np.array([0, 4], np.uint8)[None, None, :, None]
    codes = (f["codes"].reshape(-1, 4, 1, 32) >> shifts & 15).reshape(-1, 8, 32)
    codes = codes | (f["high"][:, None, :] >> np.arange(8, dtype=np.uint8)[None, :, None] & 1) << 4
    return (_f16(f["scales"]) * scales)[:, :, None] * codes - (_f16(f["mins"]) * mins)[:, :, None]


def _q6_k(f: _Fields) -> Any:
    scales = _f16(f["scales"]) * f["scale_codes"].view(np.int8)
    low = f["codes"].reshape(-1, 2, 1, 64) >> np.array([0, 4], np.uint8)[None, None, :, None] & 15
    high = f["high"].reshape(-1, 2, 1, 32) >> np.array([0, 2, 4, 6], np.uint8)[None, None, :, None] & 3
    codes = (low.reshape(-1, 16, 16) | high.reshape(-1, 16, 16) << 4).astype(np.int32) - 32
    return scales[:, :, None] * codes


_NL: Final = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32
)  # the code book of IQ4_NL and IQ4_XS


def _iq4_xs(f: _Fields) -> Any:
    codes = f["scale_codes"]
    low = np.stack([codes & 15, codes >> 4], axis=2).reshape(-1, 8)
    tops = f["scale_high"].view("<u2") >> (2 * np.arange(8, dtype=np.uint16)) & 3
    scales = _f16(f["scales"]) * ((low | tops << 4).astype(np.int32) - 32)
    halves = f["codes"].reshape(-1, 8, 1, 16) >> np.array([0, 4], np.uint8)[None, None, :, None] & 15
    return scales[:, :, None] * _NL[halves.reshape(-1, 8, 32)]


def _tq2_0(f: _Fields) -> Any:
    shifts = np.array([0, 2, 4, 6], np.uint8)[None, None, :, None]
    codes = (f["codes"].reshape(-1, 2, 1, 32) >> shifts & 3).reshape(-1, 256).astype(np.int32) - 1
    return _f16(f["scales"]) * codes


def _mxfp4(f: _Fields) -> Any:
    book = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
    values = np.concatenate([book, -book])
    return np.ldexp(np.float32(1), f["scales"].astype(np.int32) - 127) * values[_nibbles(f["codes"])]


_VALUES: Final[Mapping[str, Callable[[_Fields], Any]]] = {
    "Q4_0": lambda f: _f16(f["scales"]) * (_nibbles(f["codes"]) - 8),
    "Q4_1": lambda f: _f16(f["scales"]) * _nibbles(f["codes"]) + _f16(f["mins"]),
    "Q5_0": lambda f: _f16(f["scales"]) * ((_nibbles(f["codes"]) | _bits(f["high"]) << 4) - 16),
    "Q5_1": lambda f: _f16(f["scales"]) * (_nibbles(f["codes"]) | _bits(f["high"]) << 4) + _f16(f["mins"]),
    "Q8_0": lambda f: _f16(f["scales"]) * f["codes"].view(np.int8),
    "Q2_K": _q2_k,
    "Q3_K": _q3_k,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
    "Q8_K": lambda f: f["scales"].view("<f4") * f["codes"].view(np.int8),
    "IQ4_NL": lambda f: _f16(f["scales"]) * _NL[_nibbles(f["codes"])],
    "IQ4_XS": _iq4_xs,
    "TQ2_0": _tq2_0,
    "MXFP4": _mxfp4,
}

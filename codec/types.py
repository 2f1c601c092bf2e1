"""Frozen data types shared by all layers: element types, tensors and models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from math import prod
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from .errors import NnbitsError, ReasonCode

__all__ = [
    "DTYPES",
    "Array",
    "Attachment",
    "DType",
    "ElementType",
    "LazyTensor",
    "Model",
    "TensorInfo",
    "from_numpy",
    "shaped",
    "to_numpy",
]

Array = NDArray[Any]


Kind = Literal["float", "int", "uint", "bool", "complex"]


class ElementType(IntEnum):
    """Numbers of element types in extension units. Never reused."""

    BOOL = 0
    UINT8 = 1
    INT8 = 2
    UINT16 = 3
    INT16 = 4
    UINT32 = 5
    INT32 = 6
    UINT64 = 7
    INT64 = 8
    FLOAT16 = 16
    BFLOAT16 = 17
    FLOAT32 = 18
    FLOAT64 = 19
    FLOAT8_E4M3FN = 24
    FLOAT8_E5M2 = 25
    FLOAT8_E4M3FNUZ = 26
    FLOAT8_E5M2FNUZ = 27
    FLOAT8_E8M0FNU = 28
    FLOAT8_E4M3 = 29
    FLOAT8_E3M4 = 30
    FLOAT8_E4M3B11FNUZ = 31
    COMPLEX32 = 32
    COMPLEX64 = 33
    COMPLEX128 = 34
    UINT1 = 41
    UINT2 = 42
    UINT3 = 43
    UINT4 = 44
    UINT5 = 45
    UINT6 = 46
    UINT7 = 47
    INT1 = 49
    INT2 = 50
    INT3 = 51
    INT4 = 52
    INT5 = 53
    INT6 = 54
    INT7 = 55
    FLOAT4_E2M1FN = 56
    FLOAT6_E2M3FN = 57
    FLOAT6_E3M2FN = 58


@dataclass(frozen=True)
class DType:
    """An element type of model files.

    Attributes:
        name: NumPy's name where NumPy has the type, else that of ml_dtypes / PyTorch (``bfloat16``).
        kind: how values are coded: ``float``, ``int`` (signed), ``uint``, ``bool`` or ``complex``.
        bits: width of one element.
        storage: little-endian NumPy dtype whose elements hold the bits of one element each. Elements of fewer than 8
            bits (all but bool) are packed: the stored array is one-dimensional uint8, and element k has the bits
            k * bits and up of the bytes, least significant bit first.
        number: in extension units.
    """

    name: str
    kind: Kind
    bits: int
    storage: np.dtype[Any]
    number: ElementType

    @property
    def itemsize(self) -> int:
        """Bytes of one element, or of one stored byte if the type is packed."""
        return self.storage.itemsize

    @property
    def is_numpy(self) -> bool:
        """Whether NumPy itself has the type, so that the stored array holds its values."""
        return self.storage.name == self.name

    @property
    def is_packed(self) -> bool:
        """Whether several elements share a byte."""
        return self.bits < 8 and self.kind != "bool"


def _dtype(name: str, kind: Kind, storage: str, bits: int | None = None) -> DType:
    dtype = np.dtype(storage)
    return DType(name, kind, bits or dtype.itemsize * 8, dtype, ElementType[name.upper()])


DTYPES: Final[Mapping[str, DType]] = {
    d.name: d
    for d in (
        _dtype("float64", "float", "<f8"),
        _dtype("float32", "float", "<f4"),
        _dtype("float16", "float", "<f2"),
        _dtype("bfloat16", "float", "<u2"),
        _dtype("int64", "int", "<i8"),
        _dtype("int32", "int", "<i4"),
        _dtype("int16", "int", "<i2"),
        _dtype("int8", "int", "i1"),
        _dtype("uint64", "uint", "<u8"),
        _dtype("uint32", "uint", "<u4"),
        _dtype("uint16", "uint", "<u2"),
        _dtype("uint8", "uint", "u1"),
        _dtype("bool", "bool", "?"),
        *(
            _dtype(f"float8_{name}", "float", "u1")
            for name in ("e4m3fn", "e5m2", "e4m3fnuz", "e5m2fnuz", "e8m0fnu", "e4m3", "e3m4", "e4m3b11fnuz")
        ),
        _dtype("complex32", "complex", "<u4"),
        _dtype("complex64", "complex", "<c8"),
        _dtype("complex128", "complex", "<c16"),
        *(_dtype(f"uint{bits}", "uint", "u1", bits) for bits in range(1, 8)),
        *(_dtype(f"int{bits}", "int", "u1", bits) for bits in range(1, 8)),
        _dtype("float4_e2m1fn", "float", "u1", 4),
        _dtype("float6_e2m3fn", "float", "u1", 6),
        _dtype("float6_e3m2fn", "float", "u1", 6),
    )
}


@dataclass(frozen=True)
class TensorInfo:
    """Name, element type and shape of a tensor."""

    name: str
    dtype: DType
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Size of the raw elements, bytes; the last byte of a packed type may be partly used."""
        return (self.size * self.dtype.bits + 7) // 8 if self.dtype.is_packed else self.size * self.dtype.itemsize

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape of the array that holds the elements: ``shape``, or the number of bytes of a packed type."""
        return (self.nbytes,) if self.dtype.is_packed else self.shape


@dataclass(frozen=True)
class LazyTensor:
    """A tensor that is fetched when asked for.

    Attributes:
        info: what it is.
        read: returns the elements as an array of ``info.dtype.storage`` with ``info.stored_shape``; callable from any
            thread.
        read_range: likewise a part, where that needs less memory than the whole: takes the first element and the
            number of elements in row-major order, returns them as a one-dimensional array of the storage dtype. For
            packed types both lie on whole bytes, but for the end of the tensor. None: only ``read`` is there.
    """

    info: TensorInfo
    read: Callable[[], Array]
    read_range: Callable[[int, int], Array] | None = None


@dataclass(frozen=True)
class Attachment:
    """Bytes that travel with a model: files beside the tensors, or what its adapter needs to write the file again.

    Attributes:
        name: path relative to the model's folder with ``/``; names that begin with ``nnbits:`` are an adapter's own
            (``nnbits:template``) and are no files.
        size: bytes.
        read: returns them; callable from any thread.
    """

    name: str
    size: int
    read: Callable[[], bytes]


@dataclass(frozen=True)
class Model:
    """A model file: tensors in file order and what else belongs to it.

    Attributes:
        tensors: in the order of the file.
        metadata: the file's own string metadata (safetensors ``__metadata__``).
        source_format: name of the adapter that read it, or None.
        attachments: what travels along as bytes.
        source: what the adapter needs to know to write the same file again; JSON values. Small: large things are
            attachments.
    """

    tensors: Sequence[LazyTensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    source_format: str | None = None
    attachments: Sequence[Attachment] = ()
    source: Mapping[str, Any] = field(default_factory=dict)

    def __iter__(self) -> Iterator[LazyTensor]:
        return iter(self.tensors)


def from_numpy(name: str, array: Array) -> LazyTensor:
    """Wrap an array.

    Args:
        array: any dtype of :data:`DTYPES`, any byte order; types of ml_dtypes are recognised by their names. The
            sub-byte types of ml_dtypes hold one element a byte and are packed.

    Raises:
        NnbitsError: BAD_TENSOR if the dtype is not one of :data:`DTYPES`.
    """
    array = np.asarray(array)
    dtype = DTYPES.get(array.dtype.name)
    if dtype is None:
        raise NnbitsError(
            ReasonCode.BAD_TENSOR,
            f"tensor {name!r} has dtype {array.dtype}, which is not a model element type",
            path=name,
            hint=f"Convert it to one of: {', '.join(DTYPES)}",
        )
    if dtype.is_packed:
        stored = _pack(array.view(np.uint8).reshape(-1), dtype.bits)
    elif dtype.is_numpy:
        stored = array.astype(dtype.storage, copy=False)
    else:
        stored = array.view(dtype.storage)
    return LazyTensor(TensorInfo(name, dtype, array.shape), lambda: stored)


def _pack(elements: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    planes = np.unpackbits(elements[:, None], axis=1, count=bits, bitorder="little")
    return np.packbits(planes.reshape(-1), bitorder="little")


def _unpack(stored: NDArray[np.uint8], size: int, dtype: DType) -> NDArray[np.uint8]:
    planes = np.unpackbits(stored, count=size * dtype.bits, bitorder="little").reshape(size, dtype.bits)
    if dtype.kind == "int":  # ml_dtypes extends the sign
        planes = np.concatenate([planes, np.repeat(planes[:, -1:], 8 - dtype.bits, axis=1)], axis=1)
    return np.packbits(planes, axis=1, bitorder="little").reshape(-1)


def shaped(name: str, shape: tuple[int, ...], array: Array) -> Array:
    """All elements of a tensor in its shape.

    Args:
        array: as many elements as the shape has.

    Raises:
        NnbitsError: UNSUPPORTED_FEATURE for a shape that streams may have and NumPy arrays not: of more than 64
            dimensions, or without elements and with dimensions whose product has more than 63 bits.
    """
    try:
        return array.reshape(shape)
    except ValueError as error:
        raise NnbitsError(
            ReasonCode.UNSUPPORTED_FEATURE,
            f"no NumPy array has the shape of tensor {name!r}, which has {len(shape)} dimensions: {error}",
            path=name,
            hint="Its elements can be read in order: nnbits.codec.reader.ExtendedStream.read_range",
        ) from None


def to_numpy(info: TensorInfo, stored: Array) -> Array:
    """The array a NumPy user expects: ``stored`` itself, or its ml_dtypes view for types NumPy lacks.

    Types that ml_dtypes lacks too (complex32, sub-byte types of uncommon width) are returned as they are stored.

    Raises:
        NnbitsError: MISSING_PACKAGE if ``info.dtype`` needs ml_dtypes and it is not installed.
    """
    dtype = info.dtype
    if dtype.is_numpy or dtype.name == "complex32":
        return stored
    try:
        import ml_dtypes
    except ImportError:
        raise NnbitsError(
            ReasonCode.MISSING_PACKAGE,
            f"tensor {info.name!r} is {dtype.name}, which NumPy alone cannot represent",
            path=info.name,
            hint="Install the extra: pip install 'nnbits[dtypes]'",
        ) from None
    view = getattr(ml_dtypes, dtype.name, None)
    if view is None:
        return stored
    if dtype.is_packed:
        unpacked = shaped(info.name, info.shape, _unpack(stored, info.size, dtype).view(view))
        return unpacked
    return stored.view(view)

"""Frozen data types shared by all layers: element types, tensors and models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from .errors import NnbitsError, ReasonCode

__all__ = ["DTYPES", "Array", "DType", "LazyTensor", "Model", "TensorInfo", "from_numpy", "to_numpy"]

Array = NDArray[Any]


@dataclass(frozen=True)
class DType:
    """An element type of model files.

    Attributes:
        name: NumPy's name where NumPy has the type, else that of ml_dtypes / PyTorch (``bfloat16``).
        kind: how values are coded: ``float``, ``int`` (signed), ``uint`` or ``bool``.
        bits: width of one element.
        storage: little-endian NumPy dtype whose elements hold the bits of one element each.
    """

    name: str
    kind: Literal["float", "int", "uint", "bool"]
    bits: int
    storage: np.dtype[Any]

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.storage.itemsize


def _dtype(name: str, kind: Literal["float", "int", "uint", "bool"], storage: str) -> DType:
    dtype = np.dtype(storage)
    return DType(name, kind, dtype.itemsize * 8, dtype)


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
        """Size of the raw elements, bytes."""
        return self.size * self.dtype.itemsize


@dataclass(frozen=True)
class LazyTensor:
    """A tensor that is fetched when asked for.

    Attributes:
        info: what it is.
        read: returns the elements as an array of ``info.dtype.storage`` with ``info.shape``; callable from any thread.
    """

    info: TensorInfo
    read: Callable[[], Array]


@dataclass(frozen=True)
class Model:
    """A model file: tensors in file order and the metadata that belongs to it.

    Attributes:
        tensors: in the order of the file.
        metadata: the file's own string metadata (safetensors ``__metadata__``).
        source_format: name of the adapter that read it, or None.
    """

    tensors: Sequence[LazyTensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    source_format: str | None = None

    def __iter__(self) -> Iterator[LazyTensor]:
        return iter(self.tensors)


def from_numpy(name: str, array: Array) -> LazyTensor:
    """Wrap an array.

    Args:
        array: any dtype of :data:`DTYPES`, any byte order; ``ml_dtypes.bfloat16`` is recognised by its name.

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
    stored = array.view(np.uint16) if dtype.name == "bfloat16" else array.astype(dtype.storage, copy=False)
    return LazyTensor(TensorInfo(name, dtype, array.shape), lambda: stored)


def to_numpy(info: TensorInfo, stored: Array) -> Array:
    """The array a NumPy user expects: ``stored`` itself, or its ml_dtypes view for types NumPy lacks.

    Raises:
        NnbitsError: MISSING_PACKAGE if ``info.dtype`` needs ml_dtypes and it is not installed.
    """
    if info.dtype.name != "bfloat16":
        return stored
    try:
        import ml_dtypes
    except ImportError:
        raise NnbitsError(
            ReasonCode.MISSING_PACKAGE,
            f"tensor {info.name!r} is bfloat16, which NumPy alone cannot represent",
            path=info.name,
            hint="Install the extra: pip install 'nnbits[dtypes]'",
        ) from None
    return stored.view(ml_dtypes.bfloat16)

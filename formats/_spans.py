"""What adapters say of a file: where tensors' bytes are, and how they are the tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, NamedTuple

import numpy as np

from nnbits.codec.types import DTYPES, DType, TensorInfo

from ._fills import Fill
from ._input import InputFile

__all__ = [
    "MAX_SIZE",
    "Check",
    "FilePart",
    "Names",
    "Span",
    "View",
    "are_booleans",
    "c_strides",
    "is_representable",
    "span",
]

MAX_SIZE: Final = 2**63

_NAME_BYTES: Final = 2**15


@dataclass(frozen=True)
class Span:
    """Bytes of a file that tensors fill.

    Attributes:
        offset, size: in the file.
        tensors: what the bytes hold, at least one.
        fill: how; see :mod:`._fills`.
    """

    offset: int
    size: int
    tensors: tuple[TensorInfo, ...]
    fill: Fill = None


@dataclass(frozen=True)
class View:
    """A tensor that shares bytes of the file with another: tied weights, transposed or partial views.

    Attributes:
        name: of the view.
        dtype: its element type.
        file: index of the file.
        offset: of its first element, in the file.
        shape, strides: strides count elements.
    """

    name: str
    dtype: DType
    file: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Check(NamedTuple):
    """A CRC-32 (four bytes, little endian) of a range of the file, and where it stands; for files with other values."""

    offset: int
    size: int
    places: tuple[int, ...]


@dataclass(frozen=True)
class FilePart:
    """A file with its spans; ``path`` is relative to the model file's folder, None for the model file itself."""

    file: InputFile
    spans: Sequence[Span]
    path: str | None = None
    checks: Sequence[Check] = ()


class Names:
    """Names that files give tensors, made usable: proper Unicode, not too long, each only once."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def take(self, name: str) -> str:
        """``name``, or one like it that was not taken before."""
        name = name.replace("\0", "\ufffd").encode("utf-8", "replace")[:_NAME_BYTES].decode("utf-8", "ignore")
        while name in self._counts:
            self._counts[name] += 1
            name = f"{name}~{self._counts[name]}"
        self._counts[name] = 1
        return name


def span(name: str, dtype: DType, shape: Sequence[int], offset: int, size: int, fill: Fill = None) -> Span:
    """The span of one tensor; of ``size`` plain bytes if these are not the elements of such a tensor."""
    info = TensorInfo(name, dtype, tuple(int(n) for n in shape))
    fits = all(0 <= n < MAX_SIZE for n in info.shape) and (
        (fill is not None and fill[0] in ("varint", "deflate")) or info.nbytes == size
    )
    if not fits or (dtype.is_packed and info.size * dtype.bits % 8) or not is_representable(info):
        info, fill = TensorInfo(name, DTYPES["uint8"], (size,)), None
    return Span(offset, size, (info,), fill)


def is_representable(info: TensorInfo) -> bool:
    """Whether NumPy can have such an array."""
    try:
        np.ndarray(info.shape, info.dtype.storage, np.empty(1, info.dtype.storage), strides=(0,) * len(info.shape))
    except (ValueError, OverflowError):
        return False
    return True


def are_booleans(file: InputFile, offset: int, size: int) -> bool:
    """Whether all bytes of a range are 0 or 1."""
    return bool(file.read(offset, size).max(initial=0) <= 1)


def c_strides(shape: Sequence[int]) -> list[int]:
    """Strides of a tensor whose last dimension is the fastest, in elements."""
    return list(accumulate((shape[:0:-1]), lambda a, b: a * max(b, 1), initial=1))[::-1] if shape else []

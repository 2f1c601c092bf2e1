"""Headers of NumPy's .npy format."""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from nnbits.codec.types import DTYPES, DType

from ._fills import Fill

__all__ = ["MAGIC", "MAX_HEADER_BYTES", "Header", "parse", "write_header"]

MAGIC: Final = b"\x93NUMPY"
MAX_HEADER_BYTES: Final = 2**16 + 12  #: of headers that are read: longer ones describe structures

_ALIGNMENT: Final = 64


@dataclass(frozen=True)
class Header:
    """What a header says.

    Attributes:
        size: bytes of the header.
        dtype, shape: of the tensor; plain bytes in one dimension if the elements are none of :data:`DTYPES`.
        nbytes: of the data.
        fill: how the data become the tensor.
    """

    size: int
    dtype: DType
    shape: tuple[int, ...]
    nbytes: int
    fill: Fill


def parse(head: bytes) -> Header:
    """Read the header at the beginning of ``head``.

    Raises:
        ValueError: if it is damaged, or the elements are Python objects.
    """
    if len(head) < 12 or not head.startswith(MAGIC) or head[6] not in (1, 2, 3):
        raise ValueError("it has no header of version 1 to 3")
    width = 2 if head[6] == 1 else 4
    begin = 8 + width
    length = int.from_bytes(head[8:begin], "little")
    if begin + length > len(head):
        raise ValueError(f"a header of {length} bytes is cut or too long")
    text = head[begin : begin + length].decode("latin1" if head[6] < 3 else "utf-8")
    with warnings.catch_warnings():  # of what is out of date in a file, its reader knows nothing
        warnings.simplefilter("ignore")
        return _parsed(begin + length, text)


def _parsed(size: int, text: str) -> Header:
    try:
        fields = ast.literal_eval(text.strip())
    except (SyntaxError, RecursionError, MemoryError, TypeError) as error:
        raise ValueError(f"the header is unusable: {type(error).__name__}") from error
    if not isinstance(fields, dict) or set(fields) != {"descr", "fortran_order", "shape"}:
        raise ValueError("the header does not have its three fields")
    shape, fortran, description = fields["shape"], fields["fortran_order"], fields["descr"]
    if not (isinstance(shape, tuple) and all(type(n) is int and 0 <= n < 2**63 for n in shape) and len(shape) <= 64):
        raise ValueError("the shape is unusable")
    if not isinstance(fortran, bool):
        raise ValueError("fortran_order is no truth value")
    return _described(size, description, shape, fortran)


def _described(size: int, description: Any, shape: tuple[int, ...], fortran: bool) -> Header:
    try:
        dtype = np.lib.format.descr_to_dtype(description)
    except (TypeError, ValueError, IndexError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"the element type is unusable: {error}") from error
    if dtype.hasobject:
        raise ValueError("the elements are Python objects")
    elements = 1
    for n in shape:
        elements *= n
    nbytes = elements * dtype.itemsize
    found = DTYPES.get(dtype.name)
    swapped = dtype.byteorder == ">" or (dtype.byteorder == "=" and not np.little_endian)
    turned = fortran and len(shape) > 1 and nbytes > 0
    if found is None or dtype.shape or (swapped and turned):
        return Header(size, DTYPES["uint8"], (nbytes,), nbytes, None)
    if swapped and dtype.itemsize > 1:
        width = dtype.itemsize // (2 if found.kind == "complex" else 1)
        return Header(size, found, shape, nbytes, ["swap", width])
    return Header(size, found, shape, nbytes, ["fortran"] if turned else None)


def write_header(dtype: DType, shape: tuple[int, ...]) -> bytes:
    """A header of version 1, as NumPy writes it; types that NumPy lacks are described as their storage.

    Raises:
        ValueError: if it would be longer than version 1 allows.
    """
    text = repr({"descr": np.lib.format.dtype_to_descr(dtype.storage), "fortran_order": False, "shape": shape})
    padding = -(len(MAGIC) + 4 + len(text) + 1) % _ALIGNMENT
    data = (text + " " * padding + "\n").encode("latin1")
    if len(data) >= 2**16:
        raise ValueError("the header is too long")
    return MAGIC + b"\x01\x00" + len(data).to_bytes(2, "little") + data

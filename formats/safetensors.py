"""The safetensors format: header length (8 bytes, little endian), JSON header, then the tensors without gaps.

The reader accepts what the safetensors library accepts, except headers that begin with a blank or name a key twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from io import FileIO
from math import prod
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np

from nnbits.codec.atomic import atomic_output
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.types import DTYPES, Array, DType, LazyTensor, Model, TensorInfo
from nnbits.codec.values import stored_bytes

from ._layout import is_restorable
from ._pieces import fetched
from ._plain import plain
from ._restoring import restore
from ._safetensors import described
from .base import Adapter, open_input, quote

__all__ = ["ADAPTER", "MAX_HEADER_BYTES", "probe", "read", "write"]

MAX_HEADER_BYTES: Final = 100_000_000  #: the safetensors library refuses more

_LENGTH_BYTES: Final = 8
_ALIGNMENT: Final = 8  # of the data in files that are written
_METADATA_KEY: Final = "__metadata__"
_MAX_UNSIGNED: Final = 2**64 - 1
_READ_BYTES: Final = 2**30  # one system call; some systems refuse more than 2**31 - 1

_DTYPES: Final[Mapping[str, DType]] = {
    "F64": DTYPES["float64"],
    "F32": DTYPES["float32"],
    "F16": DTYPES["float16"],
    "BF16": DTYPES["bfloat16"],
    "I64": DTYPES["int64"],
    "I32": DTYPES["int32"],
    "I16": DTYPES["int16"],
    "I8": DTYPES["int8"],
    "U64": DTYPES["uint64"],
    "U32": DTYPES["uint32"],
    "U16": DTYPES["uint16"],
    "U8": DTYPES["uint8"],
    "BOOL": DTYPES["bool"],
    "C64": DTYPES["complex64"],
    "F8_E5M2": DTYPES["float8_e5m2"],
    "F8_E4M3": DTYPES["float8_e4m3fn"],
    "F8_E8M0": DTYPES["float8_e8m0fnu"],
    "F8_E4M3FNUZ": DTYPES["float8_e4m3fnuz"],
    "F8_E5M2FNUZ": DTYPES["float8_e5m2fnuz"],
    "F6_E2M3": DTYPES["float6_e2m3fn"],
    "F6_E3M2": DTYPES["float6_e3m2fn"],
    "F4": DTYPES["float4_e2m1fn"],
}
_NAMES: Final = {dtype.name: name for name, dtype in _DTYPES.items()}
_BITS: Final[Mapping[str, int]] = {name: dtype.bits if dtype.kind != "bool" else 8 for name, dtype in _DTYPES.items()}


def probe(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is meant as a safetensors file."""
    length = int.from_bytes(head[:_LENGTH_BYTES], "little")
    return 2 <= length <= MAX_HEADER_BYTES and head[_LENGTH_BYTES : _LENGTH_BYTES + 1] == b"{"


def read(path: Path, /) -> Model:
    """Open a safetensors file: reads and checks the header, no tensor.

    Each tensor's ``read`` opens the file anew, so that no handle stays open, and returns an array of its own.

    Returns:
        The tensors in the order of their data; metadata in the order of the header, empty if there is none. Codes that
        are packed in int32 or uint8 tensors appear as tensors of these codes. A template comes with such files and with
        those whose header is not as the library writes it.

    Raises:
        NnbitsError: FILE_NOT_FOUND; FILE_IO; FILE_FORMAT if the file is damaged; UNSUPPORTED_FEATURE if a tensor has an
            element type that nnbits lacks, or a shape that NumPy cannot represent. The ``read`` of a tensor: FILE_IO,
            also if the file was changed; MEMORY_BUDGET; BAD_TENSOR if a boolean is neither 0 nor 1.
    """
    path = Path(path)
    with open_input(path) as file:
        source = _Source(Path(os.path.abspath(path)), str(path), _identity(file))
        size = os.fstat(file.fileno()).st_size
        header, begin = _read_header(file, source, size)
    metadata = _check_metadata(source, header.pop(_METADATA_KEY, None))
    entries = sorted(
        (_check_entry(source, name, entry) for name, entry in header.items()),
        key=lambda entry: (entry.start, entry.stop),
    )
    _check_layout(source, entries, size - begin)
    tensors = []
    for entry in entries:
        info = TensorInfo(entry.name, _supported_dtype(source, entry), entry.shape)
        place = source, info, begin + entry.start
        tensors.append(LazyTensor(info, partial(_read_tensor, *place), partial(_read_range, *place)))
    model = Model(tuple(tensors), metadata, ADAPTER.name)
    return described(path, model, begin, _header_bytes([tensor.info for tensor in tensors], metadata))


def write(
    path: Path,
    model: Model,
    /,
    *,
    force: bool = False,
    threads: int = 1,
    on_tensor: Callable[[TensorInfo], None] | None = None,
) -> None:
    """Write a safetensors file, tensor by tensor, in the order of the model.

    A model read from a file of the safetensors library gives the same bytes again. Memory: about ``threads`` times the
    largest tensor that cannot be read in parts, or 64 MiB if that is more. ``path`` appears complete or not at all.

    Args:
        force: replace an existing file.
        threads: tensors that are fetched at the same time.
        on_tensor: called in this thread after each tensor.

    Raises:
        NnbitsError: FILE_EXISTS; FILE_IO; BAD_TENSOR if a name occurs twice or cannot be written, or if a tensor's
            ``read`` returns another shape or dtype than announced; BAD_OPTION if the metadata are not strings; LIMIT if
            the header would be longer than readers accept; and what a tensor's ``read`` raises.
    """
    if is_restorable(model, ADAPTER.name):
        restore(path, model, force=force, threads=threads, on_tensor=on_tensor)
        return
    model = plain(model)
    header = _header_bytes([tensor.info for tensor in model.tensors], model.metadata)
    with atomic_output(Path(path), force=force) as file, closing(fetched(model.tensors, threads)) as pieces:
        file.write(header)
        for piece, array in pieces:
            file.write(array.data)
            del array
            if on_tensor is not None and piece.is_last:
                on_tensor(piece.tensor.info)


@dataclass(frozen=True)
class _Source:
    """The file behind a model: absolute path, the path as given for messages, and what tells it from a changed one."""

    path: Path
    shown: str
    identity: tuple[int, int, int, int]

    def refuse(self, message: str, place: str | None = None, *, hint: str | None = None) -> NoReturn:
        raise NnbitsError(
            ReasonCode.FILE_FORMAT, f"{self.shown} is not a valid safetensors file: {message}", path=place, hint=hint
        )


@dataclass(frozen=True)
class _Entry:
    """One tensor of the header, its own fields checked; ``start`` and ``stop`` count from the end of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def _identity(file: FileIO) -> tuple[int, int, int, int]:
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _read_header(file: FileIO, source: _Source, size: int) -> tuple[dict[str, Any], int]:
    """The JSON object and the offset of the data."""
    if size < _LENGTH_BYTES:
        source.refuse(f"it has {size} bytes, fewer than the length of the header takes", "header length")
    length = int.from_bytes(_read_bytes(file, source, _LENGTH_BYTES), "little")
    if length > MAX_HEADER_BYTES:
        source.refuse(f"the header would have {length} bytes, more than {MAX_HEADER_BYTES}", "header length")
    if length > size - _LENGTH_BYTES:
        source.refuse(
            f"the header ends at byte {length + _LENGTH_BYTES}, the file at byte {size}",
            "header length",
            hint="Probably the file was not copied completely",
        )
    raw = _read_bytes(file, source, length)
    if not raw.startswith(b"{"):
        source.refuse("the header does not begin with '{'", "header")
    try:
        header = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique_keys,
            parse_int=_parse_int,
            parse_constant=_refuse_constant,
        )
    except UnicodeDecodeError as error:
        source.refuse(f"the header is not UTF-8 at its byte {error.start}", "header")
    except ValueError as error:
        source.refuse(f"the header is not usable JSON: {error}", "header")
    except RecursionError:
        source.refuse("the header is nested too deeply", "header")
    if not isinstance(header, dict):
        source.refuse("the header is not a JSON object", "header")
    return header, _LENGTH_BYTES + length


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"key {quote(key)} occurs twice")
            seen.add(key)
    return result


def _parse_int(text: str) -> int | float:
    return -0.0 if text == "-0" else int(text)


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _is_text(text: object) -> bool:
    """Whether it is a string that UTF-8 can carry: JSON escapes can also make half characters."""
    if not isinstance(text, str):
        return False
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _check_metadata(source: _Source, metadata: object) -> dict[str, str]:
    if metadata is None:
        return {}
    if not isinstance(metadata, dict):
        source.refuse("the metadata are not a JSON object", _METADATA_KEY)
    for key, value in metadata.items():
        if not (_is_text(key) and _is_text(value)):
            source.refuse(f"the value of {quote(key)} is not a string", _METADATA_KEY)
    return metadata


def _check_entry(source: _Source, name: str, entry: object) -> _Entry:
    place = f"header[{quote(name)}]"
    if not _is_text(name):
        source.refuse("the name of a tensor is not valid Unicode", place)
    if not isinstance(entry, dict):
        source.refuse("the entry of a tensor is not a JSON object", place)
    for key in ("dtype", "shape", "data_offsets"):
        if key not in entry:
            source.refuse(f"{key} is missing", place)
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str):
        source.refuse("dtype is not a string", f"{place}.dtype")
    if dtype not in _BITS:
        source.refuse(f"the element type {quote(dtype)} is not known", f"{place}.dtype")
    if not _are_counts(shape):
        source.refuse("shape is not a list of numbers from 0", f"{place}.shape")
    if not _are_counts(offsets) or len(offsets) != 2:
        source.refuse("data_offsets are not two numbers from 0", f"{place}.data_offsets")
    start, stop = offsets
    bits = _checked_product((*shape, _BITS[dtype]))
    if bits is None:
        source.refuse("the size of the tensor overflows 64 bits", f"{place}.shape")
    if bits % 8:
        source.refuse(f"{prod(shape)} elements of {dtype} do not fill whole bytes", f"{place}.shape")
    if stop - start != bits // 8:
        source.refuse(
            f"shape {shape!s:.100} of {dtype} takes {bits // 8} bytes, data_offsets span {stop - start}",
            f"{place}.data_offsets",
        )
    return _Entry(name, dtype, tuple(shape), start, stop)


def _are_counts(value: object) -> bool:
    """Whether it is a list of integers that fit unsigned 64 bits; ``true`` is none."""
    return isinstance(value, list) and all(type(item) is int and 0 <= item <= _MAX_UNSIGNED for item in value)


def _checked_product(factors: Iterable[int]) -> int | None:
    """The product, or None if it overflows unsigned 64 bits on the way, even if a later factor is 0."""
    product = 1
    for factor in factors:
        product *= factor
        if product > _MAX_UNSIGNED:
            return None
    return product


def _check_layout(source: _Source, entries: Iterable[_Entry], data_bytes: int) -> None:
    """Data neither overlap nor leave holes, and end where the file ends."""
    end = 0
    for entry in entries:
        if entry.start != end:
            problem = "overlap" if entry.start < end else "leave a hole after"
            source.refuse(
                f"data begin at {entry.start} and {problem} those before, which end at {end}",
                f"header[{quote(entry.name)}].data_offsets",
            )
        end = entry.stop
    if end > data_bytes:
        source.refuse(
            f"the tensors need {end} bytes, the file has {data_bytes}",
            "data",
            hint="Probably the file was not copied completely",
        )
    if end < data_bytes:
        source.refuse(f"{data_bytes - end} bytes after the last tensor belong to nothing", "data")


def _supported_dtype(source: _Source, entry: _Entry) -> DType:
    dtype = _DTYPES.get(entry.dtype)
    if dtype is None:
        raise NnbitsError(
            ReasonCode.UNSUPPORTED_FEATURE,
            f"tensor {quote(entry.name)} of {source.shown} has element type {entry.dtype}, which is not supported",
            path=f"header[{quote(entry.name)}].dtype",
            hint=f"Supported are: {', '.join(_DTYPES)}",
        )
    try:
        # An array without memory, of the shape to come: NumPy's own limits on the number and size of dimensions.
        np.ndarray(entry.shape, dtype.storage, np.empty(1, dtype.storage), strides=(0,) * len(entry.shape))
    except (ValueError, OverflowError) as error:
        raise NnbitsError(
            ReasonCode.UNSUPPORTED_FEATURE,
            f"tensor {quote(entry.name)} of {source.shown} has a shape that NumPy cannot represent: {error}",
            path=f"header[{quote(entry.name)}].shape",
        ) from error
    return dtype


def _read_bytes(file: FileIO, source: _Source, count: int) -> bytes:
    buffer = bytearray(count)
    _read_into(file, source, memoryview(buffer))
    return bytes(buffer)


def _read_into(file: FileIO, source: _Source, buffer: memoryview) -> None:
    filled = 0
    while filled < len(buffer):
        count = file.readinto(buffer[filled : filled + _READ_BYTES])
        if not count:
            raise _changed(source)
        filled += count


def _read_tensor(source: _Source, info: TensorInfo, position: int) -> Array:
    return _read_range(source, info, position, 0, info.size).reshape(info.stored_shape)


def _read_range(source: _Source, info: TensorInfo, position: int, first: int, count: int) -> Array:
    size = stored_bytes(info.dtype, count)
    start = first * info.dtype.bits // 8 if info.dtype.is_packed else first * info.dtype.itemsize
    try:
        array = np.empty(size // info.dtype.itemsize, info.dtype.storage)
    except MemoryError as error:
        raise NnbitsError(
            ReasonCode.MEMORY_BUDGET,
            f"tensor {quote(info.name)} needs {size} bytes of memory, more than there is",
            path=quote(info.name),
        ) from error
    raw = array.view(np.uint8)
    with open_input(source.path) as file:
        if _identity(file) != source.identity:
            raise _changed(source)
        file.seek(position + start)
        _read_into(file, source, raw.data)
    if info.dtype.kind == "bool" and raw.max(initial=0) > 1:
        raise NnbitsError(
            ReasonCode.BAD_TENSOR,
            f"boolean tensor {quote(info.name)} of {source.shown} holds a byte that is neither 0 nor 1",
            path=quote(info.name),
            hint="Store the tensor as U8",
        )
    return array


def _changed(source: _Source) -> NnbitsError:
    return NnbitsError(
        ReasonCode.FILE_IO,
        f"{source.shown} was changed while it was in use",
        path=source.shown,
        hint="Open it again",
    )


def _header_bytes(infos: Iterable[TensorInfo], metadata: Mapping[str, str]) -> bytes:
    """Header length and header, as the safetensors library writes them."""
    header: dict[str, Any] = {}
    if metadata:
        for key, value in metadata.items():
            if not (_is_text(key) and _is_text(value)):
                raise NnbitsError(
                    ReasonCode.BAD_OPTION,
                    f"metadata {quote(str(key))} is not a Unicode string with a Unicode string as value",
                    path=_METADATA_KEY,
                )
        header[_METADATA_KEY] = dict(metadata)
    offset = 0
    for info in infos:
        if not _is_text(info.name) or info.name == _METADATA_KEY:
            _refuse_tensor(info, "cannot have this name")
        if info.name in header:
            _refuse_tensor(info, "occurs twice")
        if info.dtype.name not in _NAMES:
            _refuse_tensor(info, f"has element type {info.dtype.name}")
        if info.dtype.is_packed and info.size * info.dtype.bits % 8:
            _refuse_tensor(info, f"has {info.size} elements of {info.dtype.name}, which do not fill whole bytes")
        header[info.name] = {
            "dtype": _NAMES[info.dtype.name],
            "shape": [int(size) for size in info.shape],
            "data_offsets": [offset, offset + info.nbytes],
        }
        offset += info.nbytes
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % _ALIGNMENT)
    if len(text) > MAX_HEADER_BYTES:
        raise NnbitsError(
            ReasonCode.LIMIT,
            f"the safetensors header would have {len(text)} bytes; readers accept up to {MAX_HEADER_BYTES}",
            path="header",
        )
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


def _refuse_tensor(info: TensorInfo, message: str) -> NoReturn:
    raise NnbitsError(
        ReasonCode.BAD_TENSOR,
        f"tensor {quote(info.name)} {message}: not possible in a safetensors file",
        path=quote(info.name),
    )


ADAPTER: Final = Adapter("safetensors", (".safetensors",), probe, read, write)

"""NumPy's formats: .npy, one array, and .npz, a zip file of them.

Compressed members are decompressed to tensors if zlib makes the same bytes of them again, and stay as they are if not.
"""

from __future__ import annotations

import base64
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import numpy as np

from nnbits.codec.atomic import atomic_output
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.types import Model, TensorInfo

from . import _zip
from ._fills import inflate, raw_deflate
from ._input import Bytes, InputFile
from ._layout import is_restorable
from ._numpy_header import MAGIC, MAX_HEADER_BYTES, Header, parse, write_header
from ._pieces import fetched
from ._plain import plain
from ._restoring import restore
from ._spans import Check, FilePart, Names, Span, span
from ._template import model_of
from .base import Adapter, quote

__all__ = ["NPY_ADAPTER", "NPZ_ADAPTER", "probe_npy", "probe_npz", "read_npy", "read_npz", "write_npy", "write_npz"]

_SUFFIX: Final = ".npy"
_WINDOW_BYTES: Final = 2**26
_MAX_RATIO: Final = 1100  # of deflate; a member that claims more is damaged
_LEVELS: Final = ((6, 8), (9, 8), (1, 8), (6, 9), (9, 9))  # level and memory level of zlib, the usual first


def probe_npy(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is an .npy file."""
    return head.startswith(MAGIC)


def probe_npz(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is an .npz file: its first member is an array."""
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    return head.startswith(b"PK\x03\x04") and name.endswith(_SUFFIX.encode())


def read_npy(path: Path, /) -> Model:
    """Open an .npy file; the tensor has the name of the file.

    Elements of types that models do not have (structures, texts) appear as bytes.

    Raises:
        NnbitsError: FILE_NOT_FOUND; FILE_IO; FILE_FORMAT if it is damaged, or holds Python objects.
    """
    file = InputFile.of(path, "an .npy file")
    header = _header(file, file.read(0, min(file.size, MAX_HEADER_BYTES)).tobytes())
    if header.size + header.nbytes > file.size:
        file.refuse(f"the array needs {header.nbytes} bytes", header.size)
    name = Names().take(file.path.stem or "array")
    return model_of("npy", [FilePart(file, [_span(name, header, 0)])])


def read_npz(path: Path, /) -> Model:
    """Open an .npz file; the tensors have the names of the members.

    Members that are no arrays, hold Python objects, or are compressed in a way that zlib does not repeat stay in the
    template.

    Raises:
        NnbitsError: FILE_NOT_FOUND; FILE_IO; FILE_FORMAT if the file is damaged.
    """
    file = InputFile.of(path, "an .npz file")
    names, spans, checks, kept = Names(), [], [], []
    for member in _zip.members(file):
        if not member.name.endswith(_SUFFIX) or member.method not in (_zip.STORED, _zip.DEFLATED):
            continue
        try:
            header = parse(_zip.inflated_head(file, member, MAX_HEADER_BYTES))
        except ValueError:
            kept.append(member.name)
            continue
        if header.size + header.nbytes != member.size:
            file.refuse(f"the array {quote(member.name)} has another size than its header says", member.offset)
        found = _stored_span(member, header) if member.method == _zip.STORED else _deflated_span(file, member, header)
        if found is None:
            kept.append(member.name)
            continue
        if member.method == _zip.STORED:
            checks.append(Check(member.offset, member.size, member.checks))
        info = found.tensors[0]
        renamed = TensorInfo(names.take(member.name[: -len(_SUFFIX)] or "array"), info.dtype, info.shape)
        spans.append(Span(found.offset, found.size, (renamed,), found.fill))
    source = {"kept": kept[:100]} if kept else {}
    return model_of("npz", [FilePart(file, spans, checks=checks)], source=source)


def _header(file: InputFile, head: bytes) -> Header:
    try:
        return parse(head)
    except ValueError as error:
        file.refuse(str(error), 0)


def _span(name: str, header: Header, offset: int) -> Span:
    return span(name, header.dtype, header.shape, offset + header.size, header.nbytes, header.fill)


def _stored_span(member: _zip.Member, header: Header) -> Span:
    return _span(member.name, header, member.offset)


def _deflated_span(file: InputFile, member: _zip.Member, header: Header) -> Span | None:
    if member.size > _MAX_RATIO * (member.packed_size + 1):
        file.refuse(f"member {quote(member.name)} cannot have {member.size} bytes", member.offset)
    packed = file.read(member.offset, member.packed_size)
    try:
        data = inflate(packed, member.size)
    except NnbitsError:
        file.refuse(f"member {quote(member.name)} is damaged", member.offset)
    for level, memory in _LEVELS:
        if _same(raw_deflate(data, level, memory), packed):
            prefix = base64.b64encode(data[: header.size].tobytes()).decode("ascii")
            inner = _span(member.name, header, member.offset)
            return Span(
                member.offset,
                member.packed_size,
                inner.tensors,
                ["deflate", level, memory, prefix, inner.fill],
            )
    return None


def _same(left: Bytes, right: Bytes) -> bool:
    return left.size == right.size and bool(np.array_equal(left, right))


# --- writing ---------------------------------------------------------------------------------------------------------


def write_npy(
    path: Path,
    model: Model,
    /,
    *,
    force: bool = False,
    threads: int = 1,
    on_tensor: Callable[[TensorInfo], None] | None = None,
) -> None:
    """Write the .npy file that the model was read from, byte for byte; of other models with one tensor a new file.

    Raises:
        NnbitsError: BAD_TENSOR if the model has more or fewer tensors than one; FILE_EXISTS; FILE_IO; those of
            :func:`restore`.
    """
    if is_restorable(model, "npy"):
        restore(path, model, force=force, threads=threads, on_tensor=on_tensor)
        return
    tensors = plain(model).tensors
    if len(tensors) != 1:
        raise NnbitsError(
            ReasonCode.BAD_TENSOR,
            f"an .npy file holds one tensor, the model has {len(tensors)}",
            path=str(path),
            hint="Choose --to npz",
        )
    with atomic_output(Path(path), force=force) as file:
        file.write(_header_of(tensors[0].info))
        for _, array in fetched(tensors, threads):
            file.write(array.data)
    if on_tensor is not None:
        on_tensor(tensors[0].info)


def write_npz(
    path: Path,
    model: Model,
    /,
    *,
    force: bool = False,
    threads: int = 1,
    on_tensor: Callable[[TensorInfo], None] | None = None,
) -> None:
    """Write the .npz file that the model was read from, byte for byte; of other models one with stored members.

    Types that NumPy lacks are written as unsigned integers of their bits.

    Raises:
        NnbitsError: FILE_EXISTS; FILE_IO; BAD_TENSOR if a header would be too long; those of :func:`restore`.
    """
    if is_restorable(model, "npz"):
        restore(path, model, force=force, threads=threads, on_tensor=on_tensor)
        return
    tensors = plain(model).tensors
    with (
        atomic_output(Path(path), force=force) as file,
        zipfile.ZipFile(file, "w") as archive,
        closing(fetched(tensors, threads)) as pieces,
    ):
        for tensor in tensors:
            name = zipfile.ZipInfo(tensor.info.name + _SUFFIX)
            with archive.open(name, "w", force_zip64=tensor.info.nbytes >= 2**31) as member:
                member.write(_header_of(tensor.info))
                for piece, array in pieces:
                    member.write(array.data)
                    if piece.is_last:
                        break
            if on_tensor is not None:
                on_tensor(tensor.info)


def _header_of(info: TensorInfo) -> bytes:
    try:
        return write_header(info.dtype, info.stored_shape)
    except ValueError as error:
        raise NnbitsError(
            ReasonCode.BAD_TENSOR, f"{quote(info.name)} cannot be written: {error}", path=quote(info.name)
        ) from error


NPY_ADAPTER: Final = Adapter("npy", (".npy",), probe_npy, read_npy, write_npy)
NPZ_ADAPTER: Final = Adapter("npz", (".npz",), probe_npz, read_npz, write_npz)

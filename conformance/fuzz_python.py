"""What must hold for any bytes in our Python code: readers, the index, adapters. Each check is one property; it returns
what is wrong, or None. Fuzzed with atheris, replayed as ordinary tests."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.index import Index, IndexBuilder
from nnbits.codec.integrity import crc32c, sha256
from nnbits.codec.limits import Limits
from nnbits.codec.ranges import BytesSource
from nnbits.codec.reader import ExtendedStream
from nnbits.codec.stream import read_units
from nnbits.codec.types import Attachment, LazyTensor, Model
from nnbits.conformance.adapters import core
from nnbits.conformance.manifest import DEFAULT_FOLDER
from nnbits.formats import ADAPTERS, Adapter

__all__ = [
    "CHECKS",
    "affordable",
    "check_format",
    "check_index",
    "check_reader",
    "file_adapters",
    "mended",
    "with_index",
]

#: The reference takes a microsecond a level; larger tensors would leave no time for other inputs.
_MOST_LEVELS: Final = 4000
_MOST_BYTES: Final = 1 << 20
_LIMITS: Final = Limits(max_tensor_bytes=1 << 20, max_access_unit_bytes=1 << 22, max_index_bytes=1 << 22)
_SIGNATURE: Final = b"nnbX"
_REFUSALS: Final = frozenset(
    (ReasonCode.FILE_FORMAT, ReasonCode.UNSUPPORTED_FEATURE, ReasonCode.FILE_NOT_FOUND, ReasonCode.LIMIT)
)


def affordable(data: bytes) -> bool:
    """Whether decoding with the reference takes at most some milliseconds."""
    total = 0
    try:
        for unit, _ in read_units(memoryview(data)):
            total += int(np.prod([float(n) for n in getattr(unit.body, "tensor_dimensions", ())]))
            if total > _MOST_LEVELS:
                return False
    except NnbitsError:
        pass
    return True


def mended(data: bytes) -> bytes:
    """The stream with right checksums in its extension units, or nothing would come through."""
    out = bytearray(data)
    at = 0
    while at + 2 <= len(out):
        long = bool(out[at] & 0x80)
        size = int.from_bytes(out[at : at + 4], "big") & 0x7FFFFFFF if long else int.from_bytes(out[at : at + 2], "big")
        body = at + (4 if long else 2) + 1
        if size < 3 or at + size > len(out):
            break
        if out[body - 1] >> 2 == 32 and out[body : body + 4] == _SIGNATURE and at + size >= body + 14:
            _mend(out, at, at + size, body)
        at += size
    return bytes(out)


def _mend(out: bytearray, start: int, stop: int, body: int) -> None:
    kind, check = out[body + 4], body + 6

    def store(at: int, first: int, last: int) -> None:
        out[at : at + 4] = crc32c(bytes(out[first:last])).to_bytes(4, "big")

    if kind == 1:
        store(check, 0, start)
        store(check + 4, check + 8, stop)
    elif kind == 2:
        store(check, check + 4, start + int.from_bytes(out[check + 4 : check + 9], "big"))
    elif kind == 5:
        store(stop - 4, start, stop - 4)
    elif kind in (4, 6):
        store(check, check + 4, stop)


def check_reader(data: bytes) -> str | None:
    """The Python reader gives tensors or refuses with a reason, as the stream is and with right checksums."""
    if not affordable(data):
        return None
    for stream in {data, mended(data)} if _SIGNATURE in data else {data}:
        try:
            core([stream], {})
        except NnbitsError as error:
            if error.code == ReasonCode.INTERNAL or error.code >= ReasonCode.NOT_EXACT:
                return str(error)
    return None


# ---- index


@cache
def _parts() -> tuple[bytes, bytes]:
    """What stands before the index of a stream, and its end unit."""
    data = (DEFAULT_FOLDER / "streams" / "valid" / "extended-attachments.nnc").read_bytes()
    stream = ExtendedStream.open(BytesSource(data))
    if stream is None:
        raise NnbitsError(ReasonCode.INTERNAL, "the stream has no index")
    return data[: stream.state.end.index_offset], data[stream.state.end_offset :]


def with_index(content: bytes) -> bytes:
    """A stream of the suite with another index, everything else being right."""
    import zstandard

    before, end = _parts()
    body = len(content).to_bytes(8, "big") + zstandard.ZstdCompressor(level=1).compress(content)
    inner = bytes([32 << 2]) + _SIGNATURE + b"\4\1" + crc32c(body).to_bytes(4, "big") + body
    unit = (len(inner) + 4 | 1 << 31).to_bytes(4, "big") + inner
    place = (4 if end[0] & 0x80 else 2) + 7
    last = bytearray(end)
    last[place : place + 16] = len(before).to_bytes(8, "big") + len(unit).to_bytes(8, "big")
    last[place + 24 : place + 56] = sha256(content)
    last[-4:] = crc32c(bytes(last[:-4])).to_bytes(4, "big")
    return before + unit + bytes(last)


def check_index(data: bytes) -> str | None:
    """An index is refused with a reason, or means what it says: written again it is the same bytes. In a stream whose
    units it does not describe it is refused, or gives the tensors that are there."""
    end = len(_parts()[0])
    try:
        index = Index.from_bytes(data, end=end)
    except NnbitsError as error:
        return str(error) if error.code == ReasonCode.INTERNAL or error.code >= ReasonCode.NOT_EXACT else None
    if _written_again(index) != data:
        return "an accepted index is not what a writer makes of it"
    pieces = [piece for tensor in range(len(index.tensors)) for piece in index.pieces_of(tensor)]
    if pieces != list(range(len(index.piece_tensor))):
        return "pieces of no tensor"
    if sorted(piece for unit in range(len(index.au_offset)) for piece in index.pieces_in(unit)) != pieces:
        return "pieces of no access unit"
    try:
        stream = ExtendedStream.open(BytesSource(with_index(data)), limits=_LIMITS)
        if stream is not None:
            for tensor in stream.model():
                tensor.read()
            for attachment in stream.attachments:
                attachment.read()
    except NnbitsError as error:
        return str(error) if error.code == ReasonCode.INTERNAL or error.code >= ReasonCode.NOT_EXACT else None
    return None


def _written_again(index: Index) -> bytes:
    builder = IndexBuilder(index.head, index.tensors)
    columns = zip(index.au_offset, index.au_bytes, index.au_number, index.au_sha256, strict=True)
    builder.units = [(int(o), int(n), int(k), d.tobytes()) for o, n, k, d in columns]
    pieces = (index.piece_tensor, index.piece_first, index.piece_au, index.piece_elements)
    builder.pieces = [tuple(map(int, piece)) for piece in zip(*pieces, strict=True)]  # type: ignore[misc]
    parts = zip(index.part_offset, index.part_bytes, index.part_sha256, strict=True)
    builder.parts = [(int(o), int(n), d.tobytes()) for o, n, d in parts]
    return builder.to_bytes()


# ---- adapters


@cache
def _folder() -> Path:
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="nnbits-fuzz-", dir=memory if memory.is_dir() else None))


def file_adapters() -> tuple[Adapter, ...]:
    """The adapters of single files."""
    return tuple(adapter for adapter in ADAPTERS if adapter.name != "folder")


def check_format(data: bytes) -> str | None:
    """A model file is refused with a reason, or comes back byte for byte from what a stream carries of it.

    The first byte chooses the adapter, so that files of one format get to the others too.
    """
    if not data:
        return None
    adapters = file_adapters()
    adapter = adapters[data[0] % len(adapters)]
    source, target = _folder() / "a", _folder() / "b"
    source.write_bytes(data[1:])
    adapter.probe(data[1:4097])
    try:
        model = adapter.read(source)
        if sum(tensor.info.nbytes for tensor in model) + sum(a.size for a in model.attachments) > _MOST_BYTES:
            return None
        model = _carried(model)
    except NnbitsError as error:
        return None if error.code in _REFUSALS else f"{adapter.name}: {error.code.name}: {error}"
    try:
        adapter.write(target, model, force=True)
    except NnbitsError as error:
        return f"{adapter.name}: what it read it cannot write: {error.code.name}: {error}"
    return None if target.read_bytes() == data[1:] else f"{adapter.name}: other bytes come back"


def _carried(model: Model) -> Model:
    """The model as a stream gives it back."""

    def tensor(lazy: LazyTensor) -> LazyTensor:
        array = lazy.read().copy()
        return LazyTensor(lazy.info, lambda: array)

    def attachment(found: Attachment) -> Attachment:
        content = found.read()
        return replace(found, size=len(content), read=lambda: content)

    return Model(
        [tensor(lazy) for lazy in model],
        dict(model.metadata),
        model.source_format,
        [attachment(found) for found in model.attachments],
        json.loads(json.dumps(dict(model.source))),
    )


CHECKS: Final[Mapping[str, Callable[[bytes], str | None]]] = {
    "reader": check_reader,
    "index": check_index,
    "formats": check_format,
}
"""By target."""

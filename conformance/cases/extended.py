"""Streams of the extended profile: access units, index, end, attachments, sparse maps, exactly coded values."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

from nnbits.codec.head import compress, parse_head
from nnbits.codec.integrity import crc32c, sha256
from nnbits.codec.plan import EncodePlan, TensorPlan
from nnbits.codec.syntax import UnitType
from nnbits.codec.types import DTYPES, Attachment, LazyTensor, Model, TensorInfo
from nnbits.codec.values import stored_bytes
from nnbits.codec.writer import write_extended
from nnbits.conformance.cases.building import Case, unit_bytes

__all__ = ["cases"]

_FEATURES: Final = ("extended",)
_SIGNATURE: Final = b"nnbX"
#: Faults that only a decoder sees that reads index and metadata, which are compressed.
_WITH_INDEX: Final = frozenset(
    ("no-attachment", "digest", "end-places", "metadata-size", "index-overlap", "index-count", "index-tensors",
     "index-rest", "index-head")
)  # fmt: skip
_METADATA, _HEADER, _DATA, _INDEX, _END, _ATTACHMENT = 1, 2, 3, 4, 5, 6


def _write(model: Model, plans: dict[str, TensorPlan] | None = None) -> bytes:
    plan = EncodePlan(plans or {t.info.name: TensorPlan("lossless") for t in model}, profile="extended")
    chunks: list[bytes] = []
    write_extended(model, plan, lambda data: chunks.append(bytes(data)), threads=1)
    return b"".join(chunks)


def _tensor(name: str, dtype: str, shape: tuple[int, ...], rng: random.Random) -> LazyTensor:
    info = TensorInfo(name, DTYPES[dtype], shape)
    raw = bytearray(rng.randbytes(stored_bytes(info.dtype, info.size)))
    if dtype == "bool":
        raw = bytearray(b & 1 for b in raw)
    unused = -info.size * info.dtype.bits % 8
    if info.dtype.is_packed and raw and unused:
        raw[-1] &= 0xFF >> unused
    stored = np.frombuffer(bytes(raw), info.dtype.storage)
    if not info.dtype.is_packed:
        stored = stored.reshape(shape)
    return LazyTensor(info, lambda: stored)


def _array(name: str, array: Any) -> LazyTensor:
    info = TensorInfo(name, DTYPES[array.dtype.name], array.shape)
    return LazyTensor(info, lambda: array)


def _dequantized() -> Iterator[tuple[str, Any]]:
    rng = np.random.default_rng(2)

    def product(integers: Any, scales: Any) -> Any:
        return integers.astype(np.float32) * scales.astype(np.float32) + np.float32(0)

    integers = rng.integers(-8, 8, (32, 6, 16)) - rng.integers(0, 2, (32, 6, 16))
    groups = product(integers, np.exp2(rng.uniform(-9, -3, (32, 6, 1))))
    yield "groups", groups.reshape(32, 96)
    yield "half.groups", product(integers, np.exp2(rng.uniform(-24, -1, (32, 6, 1)))).astype(np.float16).reshape(32, 96)
    yield "columns", product(rng.integers(-127, 128, (80, 64)), np.exp2(rng.uniform(-3, 3, (1, 64))))
    yield "unsigned", product(rng.integers(-255, 1, (16, 96)), rng.uniform(1, 2, (16, 1)))
    yield "dictionary", rng.standard_normal(300).astype(np.float32)[rng.integers(0, 300, 3000)]
    yield "dictionary.int64", rng.integers(-(2**62), 2**62, 300)[rng.integers(0, 300, 3000)]
    rows = rng.standard_normal((30, 64)).astype(np.float32)
    rows[::3] = rows[::3].astype(np.float16)
    rows[1::3] = (rows[1::3].view(np.uint32) & 0xFFFF0000).view(np.float32)
    rows[5] = 0
    yield "rows", rows


def _valid(rng: random.Random) -> Iterator[Case]:
    for size, text in ((37, "packed with bits to spare"), (0, "without elements")):
        model = Model([_tensor(f"t.{name}", name, (size,), rng) for name in DTYPES])
        yield Case(f"extended-types-{size}", _write(model), f"every element type, {text}", _FEATURES)
    scalars = [_tensor(f"s.{name}", name, (), rng) for name in ("float32", "int64", "bool", "uint4")]
    yield Case("extended-scalars", _write(Model(scalars)), "scalars", _FEATURES)
    grid = np.round(np.random.default_rng(1).normal(size=(64, 96)) * 8).astype(np.float32) / 8
    arrays: dict[str, Any] = {
        "smooth": np.cumsum(grid, axis=1).astype(np.float32),
        "half": grid.astype(np.float16),
        "constant": np.full((50, 50), 1.5, np.float32),
        "counted": np.arange(4000, dtype=np.int64),
        "zero": np.zeros((33, 17), np.float64),
        "noise": np.frombuffer(rng.randbytes(5000), np.uint8),
    }
    data = _write(Model([_array(name, array) for name, array in arrays.items()]))
    yield Case("extended-lossless", data, "exactly coded values of several kinds", _FEATURES)
    data = _write(Model([_array(name, array) for name, array in _dequantized()]))
    yield Case("extended-multiples", data, "integers times scales, and values that come back", _FEATURES)
    sparse = dict(_sparse(rng))
    data = _write(Model([_array(name, array) for name, array in sparse.items()]))
    yield Case("extended-sparse", data, "tensors with sparse maps", _FEATURES)
    quantized = [
        _array("w", grid),
        _array("x", grid * 3),
        _array("b", grid[0]),
        _array("i", np.arange(30, dtype=np.int32)),
    ]
    plans = {
        "w": TensorPlan("dependent", -16),
        "x": TensorPlan("uniform", -8, scan_order=1),
        "b": TensorPlan("lossless"),
        "i": TensorPlan("integer"),
    }
    yield Case("extended-quantized", _write(Model(quantized), plans), "data units in access units", _FEATURES)
    parts = [Attachment("a/b.txt", 5, lambda: b"hello"), Attachment("empty", 0, lambda: b"")]
    model = Model([_array("t", grid)], {"key": "é"}, "safetensors", attachments=parts)
    yield Case("extended-attachments", _write(model), "metadata and attachments", _FEATURES)
    yield Case("extended-empty", _write(Model([])), "no tensors at all", _FEATURES)


def _sparse(rng: random.Random) -> Iterator[tuple[str, Any]]:
    generator = np.random.default_rng(rng.randrange(1000))

    def values(shape: tuple[int, ...]) -> Any:
        return (generator.integers(1, 100, shape) / 8).astype(np.float32)

    for share in (0.01, 0.1, 0.5):
        yield f"random.{share}", values((60, 40)) * (generator.random((60, 40)) < share)
    rows = values((60, 40))
    rows[generator.random(60) < 0.5] = 0
    yield "rows", rows
    columns = values((60, 40))
    columns[:, generator.random(40) < 0.6] = 0
    yield "columns", columns
    pattern = values((60, 40))
    pattern.reshape(-1, 4)[:, :2] = 0
    yield "two of four", pattern
    blocks = values((64, 64)) * np.kron(generator.random((8, 8)) < 0.3, np.ones((8, 8)))
    yield "blocks", blocks.astype(np.float32)


# ---- streams that are wrong: taken apart, changed, and put together with right checksums


class _Stream:
    """The units of an extended stream."""

    def __init__(self, data: bytes) -> None:
        self.units: list[bytes] = []
        at = 0
        while at < len(data):
            size = int.from_bytes(data[at : at + 2], "big")
            if size & 0x8000:
                size = int.from_bytes(data[at : at + 4], "big") & 0x7FFFFFFF
            self.units.append(data[at : at + size])
            at += size

    @staticmethod
    def kind(unit: bytes | bytearray) -> int:
        """ext_kind, 0 for units of the standard."""
        start = 4 if unit[0] & 0x80 else 2
        return unit[start + 5] if unit[start] >> 2 == UnitType.NNR_EXT else 0

    def find(self, kind: int) -> int:
        return next(i for i, unit in enumerate(self.units) if self.kind(unit) == kind)

    @property
    def data(self) -> bytes:
        return b"".join(self.units)


def _body(unit: bytes | bytearray) -> int:
    """Where the body begins, behind ext_version."""
    return (4 if unit[0] & 0x80 else 2) + 7


def _changed(data: bytes, kind: int, place: int, value: bytes, *, mend: bool) -> bytes:
    """Bytes of the body of the first unit of a kind replaced; with ``mend`` its own checksum is made right."""
    stream = _Stream(data)
    at = stream.find(kind)
    unit = bytearray(stream.units[at])
    start = _body(unit) + place
    unit[start : start + len(value)] = value
    stream.units[at] = bytes(unit)
    if mend:
        _mend(stream, at)
    return stream.data


def _mend(stream: _Stream, at: int) -> None:
    unit = bytearray(stream.units[at])
    kind, start = _Stream.kind(unit), _body(unit)
    if kind == _END:
        unit[-4:] = crc32c(bytes(unit[:-4])).to_bytes(4, "big")
    elif kind == _METADATA:
        unit[start + 4 : start + 8] = crc32c(bytes(unit[start + 8 :])).to_bytes(4, "big")
    elif kind == _HEADER:
        size = int.from_bytes(unit[start + 4 : start + 9], "big")
        rest = b"".join([bytes(unit), *stream.units[at + 1 :]])[:size]
        unit[start : start + 4] = crc32c(rest[start + 4 :]).to_bytes(4, "big")
    else:
        unit[start : start + 4] = crc32c(bytes(unit[start + 4 :])).to_bytes(4, "big")
    stream.units[at] = bytes(unit)


def _with_index(data: bytes, change: Callable[[bytearray], None], *, digest: bool = True) -> bytes:
    """The content of the index changed, and put together again."""
    import zstandard

    stream = _Stream(data)
    at, end = stream.find(_INDEX), stream.find(_END)
    unit = stream.units[at]
    start = _body(unit)
    content = bytearray(zstandard.ZstdDecompressor().decompress(unit[start + 12 :]))
    change(content)
    body = len(content).to_bytes(8, "big") + compress(bytes(content))
    inner = _SIGNATURE + bytes([_INDEX, 1]) + crc32c(body).to_bytes(4, "big") + body
    stream.units[at] = unit_bytes(UnitType.NNR_EXT, inner)
    last = bytearray(stream.units[end])
    place = _body(last)
    last[place + 8 : place + 16] = len(stream.units[at]).to_bytes(8, "big")
    if digest:
        last[place + 24 : place + 56] = sha256(bytes(content))
    stream.units[end] = bytes(last)
    _mend(stream, end)
    return stream.data


def _u64(place: int, value: int) -> Callable[[bytearray], None]:
    def change(content: bytearray) -> None:
        content[place : place + 8] = value.to_bytes(8, "little")

    return change


def _invalid() -> Iterator[Case]:
    grid = np.arange(600, dtype=np.float32).reshape(20, 30)
    parts = [Attachment("a.txt", 5, lambda: b"hello")]
    model = Model([_array("one", grid), _array("two", (grid[0] > 3))], {"k": "v"}, attachments=parts)
    good = _write(model)
    stream = _Stream(good)
    head = parse_head(memoryview(good))
    assert head is not None  # noqa: S101 - it was just written
    size = len(head.data)
    au, attachment, end = stream.find(_HEADER), stream.find(_ATTACHMENT), stream.find(_END)
    offsets = [sum(map(len, stream.units[:i])) for i in range(len(stream.units) + 1)]
    counts = 48 + 8 + size  # of the index: where au_offset begins

    def flip(place: int) -> bytes:
        out = bytearray(good)
        out[place] ^= 0x10
        return bytes(out)

    def without(*numbers: int) -> bytes:
        return b"".join(unit for i, unit in enumerate(stream.units) if i not in numbers)

    tests: list[tuple[str, bytes, str, tuple[str, ...], str]] = [
        ("head-bit", flip(8), "CHECKSUM", ("RESERVED_BITS", "BAD_ALIGNMENT", "TRUNCATED"),
         "a bit of the parameter set is wrong"),
        ("au-bit", flip(offsets[au] + len(stream.units[au]) + 12), "CHECKSUM", (), "a bit of an access unit is wrong"),
        ("index-bit", flip(offsets[end] - 3), "CHECKSUM", (), "a bit of the index is wrong"),
        ("attachment-bit", flip(offsets[attachment + 1] - 2), "CHECKSUM", (), "a bit of an attachment is wrong"),
        ("end-bit", flip(len(good) - 40), "CHECKSUM", ("TRUNCATED", "RESERVED_BITS"), "a bit of the end unit is wrong"),
        ("cut-end", good[:-1], "TRUNCATED", (), "the last byte is missing"),
        ("cut-index", good[: offsets[end]], "TRUNCATED", (), "the end unit is missing"),
        ("cut-au", good[: offsets[au] + 30], "TRUNCATED", (), "cut inside an access unit"),
        ("no-units", without(*range(au, stream.find(_INDEX))), "INDEX", ("DIGEST", "TRUNCATED"),
         "all access units are missing"),
        ("no-attachment", without(attachment), "INDEX", (), "an attachment is missing"),
        ("digest", _changed(good, _END, 24, bytes(32), mend=True),
         "DIGEST", (), "another model digest in the end unit"),
        ("end-places", _changed(good, _END, 0, bytes(8), mend=True), "INDEX", (), "the end unit points elsewhere"),
        ("end-reserved", _changed(good, _END, 70, b"\1", mend=True), "RESERVED_BITS", ("CHECKSUM",),
         "reserved bytes of the end unit are not zero"),
        ("metadata-size", _changed(good, _METADATA, 8, (9).to_bytes(4, "big"), mend=True), "COMPRESSED_DATA", (),
         "metadata of another size than announced"),
        ("metadata-bomb", _changed(good, _METADATA, 8, (2**31).to_bytes(4, "big"), mend=True), "LIMIT", (),
         "metadata of two gigabytes"),
        ("kind", _changed(good, _HEADER, -2, b"\x09", mend=False), "UNSUPPORTED_UNIT", (),
         "an extension unit of unknown kind"),
        ("version", _changed(good, _HEADER, -1, b"\x02", mend=False), "UNSUPPORTED_UNIT", (),
         "an extension unit of version 2"),
        ("au-bytes", _changed(good, _HEADER, 4, (2**30).to_bytes(5, "big"), mend=False), "TRUNCATED", ("ACCESS_UNIT",),
         "an access unit that goes on behind the stream"),
        ("au-short", _changed(good, _HEADER, 4, (20).to_bytes(5, "big"), mend=False), "ACCESS_UNIT",
         ("CHECKSUM", "TRUNCATED"),
         "au_bytes is smaller than its header"),
        ("index-overlap", _with_index(good, _u64(counts, size + 1)), "INDEX", (),
         "an access unit that is not where the index says"),
        ("index-count", _with_index(good, _u64(0, 2**60)), "INDEX", (), "2^60 access units in the index"),
        ("index-tensors", _with_index(good, _u64(8, 1)), "INDEX", (), "another number of tensors in the index"),
        ("index-rest", _with_index(good, lambda c: c.extend(b"\0")), "INDEX", (),
         "a byte behind the columns of the index"),
        ("index-head", _with_index(good, _u64(48 + 8 + 4, 0)), "INDEX",
         ("RESERVED_BITS", "UNIT_SIZE", "CHECKSUM", "BAD_ALIGNMENT",
         "NOT_NNC", "UNIT_ORDER", "TRUNCATED"), "another head in the index"),
    ]  # fmt: skip
    for label, data, code, also, text in tests:
        features = (*_FEATURES, "index") if label in _WITH_INDEX else _FEATURES
        begins = offsets[au] if label == "au-bytes" else None
        yield Case(f"extended-{label}", data, text, features, code=code, also=also, begins=begins)
    foreign = unit_bytes(40, b"somebody else's")
    data = b"".join([*stream.units[:au], foreign, *stream.units[au:]])
    yield Case("extended-foreign", data, "a unit of another application that the index knows nothing of",
               (*_FEATURES, "index"), code="INDEX")  # fmt: skip


def cases(seed: int) -> Iterator[Case]:
    """See the module."""
    rng = random.Random(f"extended {seed}")
    yield from _valid(rng)
    yield from _invalid()

"""What fuzzing starts from, made by our encoders, so that mutations begin behind the first checks.

The layouts are those of the C targets: fuzz_lossless.c, fuzz_rans.c, fuzz_sparse.c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from itertools import product
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from nnbits.codec.access import dtype_of
from nnbits.codec.entropy import ans
from nnbits.codec.errors import NnbitsError
from nnbits.codec.forward import ForwardStream
from nnbits.codec.lossless.native import encode_values
from nnbits.codec.lossless.payload import Coding, items_of, read_frame
from nnbits.codec.ranges import BytesSource
from nnbits.codec.reader import ExtendedStream
from nnbits.codec.sparse.encode import encode_map
from nnbits.codec.syntax import ValueCoding
from nnbits.codec.types import DTYPES, DType, Model, from_numpy
from nnbits.conformance.fuzz_python import file_adapters
from nnbits.conformance.manifest import Manifest

__all__ = ["SEEDS", "format_seeds", "index_seeds", "lossless_seeds", "rans_seeds", "sparse_seeds"]

#: As in fuzz_lossless.c.
_LOSSLESS_TYPES: Final = ("uint8", "int16", "bfloat16", "float16", "int32", "float32", "int64", "float64",
                          "uint3", "uint5", "uint6", "uint7")  # fmt: skip
_MOST_ITEMS: Final = 8192


def _values(count: int, rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    """Elements of several kinds: what tables, masks, planes, scales and constants are for."""
    yield rng.normal(size=count)
    yield np.where(rng.random(count) < 0.2, rng.normal(size=count), 0)
    yield np.round(rng.normal(size=count) * 4)
    yield np.repeat(rng.normal(size=-(-count // 64)), 64)[:count] * 7
    yield np.full(count, 3.0)
    yield rng.normal(size=count) * np.exp(np.arange(count) // 64)


def lossless_seeds() -> Iterator[bytes]:
    """Inputs of the target ``lossless``: a block of each coding for every kind of item."""
    rng = np.random.default_rng(7)
    for (number, name), count, force in product(enumerate(_LOSSLESS_TYPES), (64, 960), (None, *Coding)):
        if force is Coding.ZSTD:
            continue
        dtype = DTYPES[name]
        for values in _values(count, rng):
            if dtype.is_packed:
                stored: NDArray[Any] = (values.astype(np.int64) & 0x3F).astype(np.uint8)
            elif dtype.kind == "float":
                stored = _rounded(values, name)
            else:
                stored = (values * 100).clip(-127, 127).astype(np.int64).astype(dtype.storage)
            payload = encode_values(np.ascontiguousarray(stored), dtype, row_length=64, force=force)
            yield from _block(number, dtype, 8 * stored.size // dtype.bits if dtype.is_packed else stored.size, payload)
    yield from _suite_blocks()


def _block(number: int, dtype: DType, count: int, payload: memoryview) -> Iterator[bytes]:
    """What fuzz_lossless.c takes: the block of a payload that has one block."""
    items = items_of(dtype, count).count
    layout, start = read_frame(payload, items)
    if len(layout.sizes) == 1 and items <= _MOST_ITEMS and layout.row_items <= 1 << 16:
        head = bytes([number]) + (items - 1).to_bytes(2, "little")
        yield head + (layout.row_items - 1).to_bytes(2, "little") + payload[start:]


def _suite_blocks() -> Iterator[bytes]:
    """The blocks of the suite, right and wrong ones: every flag of every coding."""
    manifest = Manifest.load()
    for entry in manifest:
        if not entry.id.startswith("exact-"):
            continue
        try:
            stream = ForwardStream(BytesIO(manifest.path(entry).read_bytes()))
            stream.read_head()
            units = list(stream.read_access_units()) if stream.head else []
        except NnbitsError:
            continue
        for unit in units:
            for piece, values in zip(unit.pieces, unit.values, strict=True):
                dtype = dtype_of(piece)
                if piece.value_coding != ValueCoding.LOSSLESS or dtype.name not in _LOSSLESS_TYPES:
                    continue
                count = piece.count if piece.value_count is None else piece.value_count
                try:
                    yield from _block(_LOSSLESS_TYPES.index(dtype.name), dtype, count, values)
                except NnbitsError:
                    continue  # its frame is wrong


def _rounded(values: NDArray[np.float64], name: str) -> NDArray[Any]:
    if name == "bfloat16":
        return np.ascontiguousarray(values, "<f4").view("<u4").__rshift__(16).astype("<u2").view(DTYPES[name].storage)
    with np.errstate(over="ignore"):
        return values.astype(DTYPES[name].storage)


def rans_seeds() -> Iterator[bytes]:
    """Inputs of the target ``rans``: one and several tables, alphabets of one to 256 symbols, all numbers of states."""
    rng = np.random.default_rng(8)
    for tables, alphabet, count in product((1, 2, 5, 16), (1, 2, 17, 256), (0, 1, 60, 700, 8000, 17000)):
        step = 9
        symbols = np.minimum(rng.geometric(2 / (alphabet + 1), count) - 1, alphabet - 1).astype(np.uint8)
        contexts = None
        if tables > 1:
            values = ((np.arange(count) * step >> 3) & 0xFF).astype(np.uint8)
            contexts = ans.Contexts(values, (np.arange(256) % tables).astype(np.uint8))
        histograms = ans.histogram(symbols, contexts, tables) + (np.arange(256) < alphabet)
        frequencies = ans.normalize(histograms.astype(np.uint32))
        code = ans.encode(symbols, frequencies, contexts)
        head = bytes([tables - 1, step & 0xFE if tables == 1 else step]) + count.to_bytes(2, "little")
        yield head + ans.write_tables(frequencies) + code


def sparse_seeds() -> Iterator[bytes]:
    """Inputs of the target ``sparse``: every kind of map, raw and coded, in shapes at word boundaries and between."""
    rng = np.random.default_rng(9)
    for shape in ((), (0,), (1,), (64,), (65,), (3, 70), (16, 64), (8, 3, 4), (2, 4, 4, 8), (60, 40)):
        count = prod(shape)
        masks = [rng.random(count) < share for share in (0.02, 0.3, 0.9)]
        masks += [np.ones(count, np.bool_), np.zeros(count, np.bool_), np.arange(count) % 4 < 2]
        if shape:
            masks.append((np.arange(count) // shape[-1]) % 3 > 0)
            masks.append(np.arange(count) % shape[-1] % 3 > 0)
        for mask, kind, coded in product(masks, range(1, 7), (False, True)):
            try:
                encoded = encode_map(mask.astype(np.uint8), shape, kind=kind, coded=coded)
            except NnbitsError:
                continue  # kinds that have no such form
            if encoded is not None:
                sizes = b"".join(n.to_bytes(2, "little") for n in (*shape, encoded.value_count))
                yield bytes([kind, len(shape), kind]) + sizes + encoded.payload


def index_seeds() -> Iterator[bytes]:
    """Inputs of the target ``index``: what the indexes of the suite hold."""
    manifest = Manifest.load()
    for entry in manifest:
        if entry.profile != "extended" or entry.size > _LARGEST:
            continue
        try:
            stream = ExtendedStream.open(BytesSource(manifest.path(entry).read_bytes()))
        except NnbitsError:
            continue
        if stream is not None and len(stream.index.content) <= _LARGEST:
            yield stream.index.content


def format_seeds() -> Iterator[bytes]:
    """Inputs of the target ``formats``: a small model in each format that we can write without a file to start from."""
    arrays: dict[str, Any] = {"a.b": np.arange(6, dtype=np.float32).reshape(2, 3), "c": np.arange(3, dtype=np.int8)}
    model = Model([from_numpy(name, array) for name, array in arrays.items()], {"key": "value"})
    with TemporaryDirectory(prefix="nnbits-fuzz-") as folder:
        for number, adapter in enumerate(file_adapters()):
            path = Path(folder) / "model"
            try:
                adapter.write(path, model, force=True)
            except NnbitsError:
                continue
            yield bytes([number]) + path.read_bytes()


_LARGEST: Final = 10_000

SEEDS: Final[Mapping[str, Callable[[], Iterator[bytes]]]] = {
    "lossless": lossless_seeds,
    "rans": rans_seeds,
    "sparse": sparse_seeds,
    "index": index_seeds,
    "formats": format_seeds,
}
"""By target; the others start from the streams of the suite."""

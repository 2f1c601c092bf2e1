"""rANS coding of bytes (docs/rans.md): the C core behind typed functions, and a slow reference in Python."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._core import ffi, lib
from ..errors import NnbitsError, ReasonCode
from .native import check, pointer

__all__ = [
    "Contexts",
    "Path",
    "best_path",
    "cost",
    "decode",
    "encode",
    "has_path",
    "histogram",
    "normalize",
    "read_tables",
    "state_count",
    "write_tables",
]

Bytes = NDArray[np.uint8]
Frequencies = NDArray[np.uint16]

SLOTS = 4096


class Path(IntEnum):
    """Which code of the core runs; all give the same bytes."""

    AUTO = 0
    SCALAR = 1
    AVX2 = 2
    AVX512 = 3
    NEON = 4


@dataclass(frozen=True)
class Contexts:
    """Which table codes each symbol: ``table_of[values[i]]``.

    values: uint8, as many as symbols. table_of: uint8, 256 table numbers.
    """

    values: Bytes
    table_of: Bytes


def _bytes(array: Bytes, what: str, count: int | None = None) -> Bytes:
    if array.dtype != np.uint8:
        raise NnbitsError(ReasonCode.BAD_TENSOR, f"{what}: dtype {array.dtype}, not uint8")
    if count is not None and array.size != count:
        raise NnbitsError(ReasonCode.SHAPE_MISMATCH, f"{what}: {array.size} elements, not {count}")
    return np.ascontiguousarray(array).reshape(-1)


def _contexts(contexts: Contexts | None, count: int) -> tuple[Bytes | None, Bytes | None]:
    if contexts is None:
        return None, None
    return _bytes(contexts.values, "contexts", count), _bytes(contexts.table_of, "table_of", 256)


def _tables(frequencies: Frequencies) -> Frequencies:
    if frequencies.dtype != np.uint16 or frequencies.ndim != 2 or frequencies.shape[1] != 256:
        raise NnbitsError(
            ReasonCode.BAD_OPTION, f"frequencies: {frequencies.dtype} {frequencies.shape}, not uint16 (tables, 256)"
        )
    return np.ascontiguousarray(frequencies)


def has_path(path: Path) -> bool:
    """Whether this processor and this build can force a path."""
    return bool(lib.nnb_rans_has_path(path))


def best_path() -> Path:
    """The path that Path.AUTO stands for on this processor."""
    return Path(lib.nnb_rans_best_path())


def state_count(count: int) -> int:
    """Number of interleaved states for so many symbols."""
    return int(lib.nnb_rans_state_count(count))


def histogram(
    symbols: Bytes, contexts: Contexts | None = None, table_count: int = 1, *, sample: bool = False
) -> NDArray[np.uint32]:
    """How often each symbol occurs under each table: uint32, shape (table_count, 256).

    With sample, a quarter of 65536 and more symbols is counted; every table then counts each symbol that occurs
    anywhere at least once, so that it can code all of them.

    Raises:
        NnbitsError: BAD_OPTION if a context has no table.
    """
    data = _bytes(symbols, "symbols")
    values, table_of = _contexts(contexts, data.size)
    result = np.zeros((table_count, 256), np.uint32)
    function = lib.nnb_rans_sample_histogram if sample else lib.nnb_rans_histogram
    status = function(
        pointer("uint8_t *", data),
        pointer("uint8_t *", values),
        pointer("uint8_t *", table_of),
        data.size,
        table_count,
        pointer("uint32_t *", result),
    )
    check(status, f"rANS histogram with {table_count} tables")
    return result


def normalize(histograms: NDArray[np.uint32]) -> Frequencies:
    """Frequencies of sum 4096 for each histogram, at least 1 where a symbol occurs: uint16, shape (tables, 256)."""
    source = np.ascontiguousarray(histograms, np.uint32).reshape(-1, 256)
    result = np.empty(source.shape, np.uint16)
    for row, out in zip(source, result, strict=True):
        lib.nnb_rans_normalize(pointer("uint32_t *", row), pointer("uint16_t *", out))
    return result


def cost(histograms: NDArray[np.uint32], frequencies: Frequencies) -> float:
    """Expected size of the code in bits, without states and tables; infinite if a symbol has no frequency."""
    source = np.ascontiguousarray(histograms, np.uint32).reshape(-1, 256)
    tables = _tables(frequencies)
    if len(source) != len(tables):
        raise NnbitsError(ReasonCode.SHAPE_MISMATCH, f"{len(source)} histograms for {len(tables)} tables")
    total = 0.0
    for row, table in zip(source, tables, strict=True):
        bits = lib.nnb_rans_cost(pointer("uint32_t *", row), pointer("uint16_t *", table))
        total += float("inf") if bits == 2**64 - 1 else bits / 65536
    return total


def write_tables(frequencies: Frequencies) -> bytes:
    """Serialized tables.

    Raises:
        NnbitsError: BAD_OPTION if a table's frequencies do not add up to 4096, or there are not 1..256 tables.
    """
    tables = _tables(frequencies)
    size = lib.nnb_rans_write_tables(pointer("uint16_t *", tables), len(tables), ffi.NULL, 2**64 - 1)
    if size == 0:
        raise NnbitsError(ReasonCode.BAD_OPTION, "frequencies: not 1..256 tables whose sum is 4096 each")
    out = np.empty(size, np.uint8)
    lib.nnb_rans_write_tables(pointer("uint16_t *", tables), len(tables), pointer("uint8_t *", out), out.size)
    return out.tobytes()


class _Model:
    """An nnb_rans_model and its rows."""

    def __init__(self, data: bytes | memoryview | Bytes, table_count: int) -> None:
        source = np.frombuffer(data, np.uint8)
        used = ffi.new("size_t *")
        self.c = ffi.new("nnb_rans_model *")
        self.rows = ffi.new("nnb_rans_row[]", 256 * max(1, min(table_count, 256)))
        status = lib.nnb_rans_read_tables(
            pointer("uint8_t *", source), source.size, used, self.rows, len(self.rows), table_count, self.c
        )
        check(status, f"{table_count} rANS tables")
        self.used = int(used[0])


def read_tables(data: bytes | memoryview | Bytes, table_count: int) -> tuple[Frequencies, int]:
    """Frequencies (uint16, shape (table_count, 256)) from the beginning of the bytes, and how many bytes they took.

    Raises:
        NnbitsError: LOSSLESS_BLOCK if the bytes are not what an encoder writes.
    """
    model = _Model(data, table_count)
    result = np.zeros((table_count, 256), np.uint16)
    rows = 1 << model.c.bucket_bits
    for t in range(table_count):
        for b in range(rows):
            row = model.rows[t * rows + b]
            if row.frequency:
                result[t, row.symbol] = row.frequency
    return result, model.used


def encode(
    symbols: Bytes, frequencies: Frequencies, contexts: Contexts | None = None, *, path: Path = Path.AUTO
) -> bytes:
    """The code of the symbols, without the tables.

    Raises:
        NnbitsError: BAD_TENSOR if a symbol has frequency 0 in its table; UNSUPPORTED_FEATURE if there is no such path.
    """
    data = _bytes(symbols, "symbols")
    tables = _tables(frequencies)
    values, table_of = _contexts(contexts, data.size)
    out = np.empty(lib.nnb_rans_bound(data.size), np.uint8)
    work = np.empty(lib.nnb_rans_work_size(len(tables)), np.uint8)
    size = ffi.new("size_t *")
    status = lib.nnb_rans_encode(
        path,
        pointer("uint16_t *", tables),
        len(tables),
        pointer("uint8_t *", values),
        pointer("uint8_t *", table_of),
        pointer("uint8_t *", data),
        data.size,
        pointer("uint8_t *", work),
        work.size,
        pointer("uint8_t *", out),
        out.size,
        size,
    )
    check(status, f"rANS encoding of {data.size} symbols with {len(tables)} tables")
    return out[: size[0]].tobytes()


def decode(
    tables: bytes | memoryview | Bytes,
    table_count: int,
    code: bytes | memoryview | Bytes,
    count: int,
    contexts: Contexts | None = None,
    *,
    out: Bytes | None = None,
    path: Path = Path.AUTO,
    scratch: bool = True,
) -> Bytes:
    """The symbols, uint8, shape (count,).

    Args:
        tables: what write_tables() returned, or bytes that begin with it.
        table_count: number of tables.
        code: what encode() returned.
        count: number of symbols.
        contexts: as given to encode().
        out: uint8 memory for the symbols; None allocates it.
        path: the code to run.
        scratch: whether paths that can use it get memory for larger tables.

    Raises:
        NnbitsError: LOSSLESS_BLOCK if tables or code are not what an encoder writes; UNSUPPORTED_FEATURE if there is no
            such path; BUFFER_SIZE if out does not fit.
    """
    model = _Model(tables, table_count)
    source = np.frombuffer(code, np.uint8)
    values, table_of = _contexts(contexts, count)
    if out is None:
        out = np.empty(count, np.uint8)
    elif out.dtype != np.uint8 or out.shape != (count,) or not out.flags.c_contiguous or not out.flags.writeable:
        raise NnbitsError(ReasonCode.BUFFER_SIZE, f"out: not a writable contiguous uint8 array of {count} elements")
    work: NDArray[Any] | None = None
    if scratch:
        work = np.empty(lib.nnb_rans_scratch_size(path, model.c), np.uint8)
    status = lib.nnb_rans_decode(
        path,
        model.c,
        pointer("uint8_t *", values),
        pointer("uint8_t *", table_of),
        pointer("uint8_t *", source),
        source.size,
        pointer("uint8_t *", out),
        count,
        pointer("uint8_t *", work),
        0 if work is None else work.size,
    )
    check(status, f"rANS code of {count} symbols")
    return out

"""Exact coding of values by the C core, blocks in parallel."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import zstandard
from numpy.typing import NDArray

from .._core import ffi, lib
from ..entropy.native import check, pointer
from ..errors import NnbitsError, ReasonCode
from ..parallel import ordered_map
from ..types import Array, DType
from .payload import BlockLayout, Coding, Items, Speed, choose_layout, items_of, read_frame, write_frame

__all__ = ["decode_range", "decode_values", "encode_values"]

_SPEEDS: Final[dict[Speed, int]] = {"fast": 0, "balanced": 1, "small": 2}

Bytes = NDArray[np.uint8]


def _items(items: Items) -> Any:
    return ffi.new("nnb_items *", (items.itemsize, items.mantissa_bits, items.packed_bits))


class _Workers:
    """Memory that the threads of one call take and give back."""

    def __init__(self, *sizes: int) -> None:
        self._sizes = sizes
        self._free: list[tuple[Bytes, ...]] = []

    def take(self) -> tuple[Bytes, ...]:
        return self._free.pop() if self._free else tuple(np.empty(size, np.uint8) for size in self._sizes)

    def give(self, memory: tuple[Bytes, ...]) -> None:
        self._free.append(memory)


def _stored(stored: Array, dtype: DType) -> Bytes:
    if stored.dtype != dtype.storage or stored.ndim != 1:
        raise NnbitsError(
            ReasonCode.BAD_TENSOR, f"values: {stored.ndim}-dimensional {stored.dtype}, not one row of {dtype.storage}"
        )
    return np.ascontiguousarray(stored).view(np.uint8)


def encode_values(
    stored: Array,
    dtype: DType,
    *,
    row_length: int,
    speed: Speed = "balanced",
    threads: int = 1,
    force: Coding | None = None,
) -> bytes:
    """Codes elements exactly.

    Args:
        stored: one-dimensional, of ``dtype.storage``; bytes of packed elements.
        row_length: elements of a row: the product of all dimensions but the first. Only size depends on it.
        speed: ``fast`` and ``balanced`` need no zstd to decode, ``small`` may.
        threads: at most so many blocks at a time; the bytes do not depend on it.
        force: a coding that is used wherever it can represent the elements; for tests.

    Returns:
        a payload of docs/lossless.md; nothing for no elements.

    Raises:
        NnbitsError: BAD_TENSOR for another dtype or number of dimensions, BAD_OPTION for an unknown speed.
    """
    if speed not in _SPEEDS:
        raise NnbitsError(ReasonCode.BAD_OPTION, f"speed {speed!r} is not one of {', '.join(_SPEEDS)}", path="speed")
    data = _stored(stored, dtype)
    itemsize = items_of(dtype, 8).itemsize
    per_byte = items_of(dtype, 8)
    items = Items(data.size // itemsize, itemsize, per_byte.mantissa_bits, per_byte.packed_bits, per_byte.per_element)
    if items.count == 0:
        return b""
    block_items, row_items = choose_layout(items, row_length)
    block_items = min(block_items, -(-items.count // row_items) * row_items)
    block_bytes = block_items * itemsize
    longest = min(block_items, items.count)
    c_items = _items(items)
    workers = _Workers(lib.nnb_lossless_encode_work_size(c_items, longest), lib.nnb_lossless_bound(c_items, longest))

    def code(block: Bytes, memory: tuple[Bytes, ...], planes_raw: bool) -> Bytes:
        work, out = memory
        choice = ffi.new(
            "nnb_lossless_choice *", (_SPEEDS[speed], 0 if force in (None, Coding.ZSTD) else force + 1, int(planes_raw))
        )
        size = ffi.new("size_t *")
        status = lib.nnb_lossless_encode_block(
            c_items,
            choice,
            pointer("void *", block),
            row_items,
            block.size // itemsize,
            pointer("void *", work),
            work.size,
            pointer("uint8_t *", out),
            out.size,
            size,
        )
        check(status, "lossless block")
        return out[: size[0]]

    # One large piece of memory costs the system less than many that it has to make ready page by page.
    slot = longest * itemsize + 256
    slots = np.empty((-(-data.size // block_bytes), slot), np.uint8)

    def encode_block(start: int) -> bytes | memoryview:
        block = data[start : start + block_bytes]
        memory = workers.take()
        try:
            result = code(block, memory, False)
            if result.size <= slot:
                kept = slots[start // block_bytes, : result.size]
                kept[:] = result
            else:
                kept = result.copy()
            if force is Coding.ZSTD or (force is None and speed == "small" and _may_repeat(block, kept.size)):
                packed = _ZSTD_MARK + zstandard.ZstdCompressor(level=9).compress(code(block, memory, True))
                if force is Coding.ZSTD or len(packed) < kept.size - kept.size // 100:
                    return packed
        finally:
            workers.give(memory)
        return kept.data

    blocks = list(ordered_map(encode_block, range(0, data.size, block_bytes), threads=threads))
    zstd = any(block[0] == Coding.ZSTD for block in blocks)
    return b"".join([write_frame(BlockLayout(block_items, row_items, tuple(map(len, blocks)), zstd)), *blocks])


_ZSTD_MARK: Final = bytes([Coding.ZSTD])


def _may_repeat(block: Bytes, size: int) -> bool:
    """Whether zstd makes the beginning of a block much smaller than the block as it was coded."""
    if size < 256:
        return False
    sample = block[: 2**15]
    return len(zstandard.ZstdCompressor(level=1).compress(sample.tobytes())) * block.size < 0.9 * size * sample.size


def _output(out: Array | None, count: int, storage: np.dtype[Any]) -> Array:
    if out is None:
        return np.empty(count, storage)
    if out.dtype != storage or out.size != count or not out.flags.c_contiguous or not out.flags.writeable:
        raise NnbitsError(
            ReasonCode.BUFFER_SIZE, f"out: not a writable contiguous array of {count} x {storage}", path="out"
        )
    return out.reshape(-1)


class _Decoder:
    def __init__(self, payload: memoryview | bytes, dtype: DType, count: int) -> None:
        if count < 0:
            raise NnbitsError(ReasonCode.BAD_OPTION, f"count {count}", path="count")
        self.items = items_of(dtype, count)
        self.payload = memoryview(payload).cast("B")
        self.c_items = _items(self.items)
        if count == 0:
            if self.payload.nbytes:
                raise NnbitsError(ReasonCode.LOSSLESS_BLOCK, "lossless payload: bytes for no element")
            return
        self.layout, start = read_frame(self.payload, self.items)
        self.starts = np.concatenate([[0], np.cumsum(self.layout.sizes, dtype=np.int64)]) + start
        self.code = np.frombuffer(self.payload, np.uint8)
        self.longest = min(self.layout.block_items, self.items.count)
        self.workers = _Workers(lib.nnb_lossless_work_size(self.c_items, self.longest))

    def length(self, block: int) -> int:
        return min(self.layout.block_items, self.items.count - block * self.layout.block_items)

    def decode_block(self, block: int, out: Bytes) -> None:
        code = self.code[self.starts[block] : self.starts[block + 1]]
        if self.layout.zstd and code.size and code[0] == Coding.ZSTD:
            code = self._undo_zstd(code, block)
        memory = self.workers.take()
        try:
            status = lib.nnb_lossless_decode_block(
                self.c_items,
                pointer("uint8_t *", code),
                code.size,
                self.layout.row_items,
                pointer("void *", out),
                out.size // self.items.itemsize,
                pointer("void *", memory[0]),
                memory[0].size,
            )
        finally:
            self.workers.give(memory)
        if status == int(ReasonCode.UNSUPPORTED_FEATURE):
            status = int(ReasonCode.LOSSLESS_BLOCK)  # zstd in zstd, or without the flag
        if status != 0:
            raise NnbitsError(
                ReasonCode(status), f"block {block} is damaged", offset=int(self.starts[block]), hint="Fetch it again"
            )

    def _undo_zstd(self, code: Bytes, block: int) -> Bytes:
        most = lib.nnb_lossless_bound(self.c_items, self.length(block))
        try:
            size = zstandard.frame_content_size(code[1:].tobytes())
            if not 0 <= size <= most:
                raise zstandard.ZstdError(f"frame of {size} bytes")
            inner = zstandard.ZstdDecompressor().decompress(code[1:].tobytes(), allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise NnbitsError(
                ReasonCode.LOSSLESS_BLOCK, f"block {block}: {error}", offset=int(self.starts[block])
            ) from error
        return np.frombuffer(inner, np.uint8)


def decode_values(
    payload: memoryview | bytes, dtype: DType, count: int, *, out: Array | None = None, threads: int = 1
) -> Array:
    """Elements of a payload.

    Args:
        count: number of elements; the payload does not state it.
        out: contiguous memory for the stored elements, of ``dtype.storage``; any shape.
        threads: at most so many blocks at a time.

    Returns:
        one-dimensional, of ``dtype.storage``: elements, or bytes of packed elements. The memory of ``out``, if given;
        after an error its contents are undefined.

    Raises:
        NnbitsError: LOSSLESS_BLOCK if the payload is not what an encoder writes for ``count`` elements, BUFFER_SIZE if
            ``out`` does not fit.
    """
    decoder = _Decoder(payload, dtype, count)
    items = decoder.items
    result = _output(out, items.nbytes // dtype.itemsize, dtype.storage)
    if count == 0:
        return result
    target = result.view(np.uint8)
    step = decoder.layout.block_items * items.itemsize

    def decode(block: int) -> None:
        decoder.decode_block(block, target[block * step : (block + 1) * step])

    for _ in ordered_map(decode, range(len(decoder.layout.sizes)), threads=threads):
        pass
    return result


def decode_range(
    payload: memoryview | bytes, dtype: DType, count: int, first: int, n: int, *, threads: int = 1
) -> Array:
    """Elements ``first`` .. ``first + n - 1`` of a payload, of which only the blocks with such elements are decoded.

    Args:
        count: number of elements of the whole payload.
        first: for packed elements at the beginning of a byte.
        n: for packed elements whole bytes, but for the end of the payload.

    Returns:
        as :func:`decode_values`.

    Raises:
        NnbitsError: as :func:`decode_values`; BAD_OPTION for a range outside, or within bytes.
    """
    if first < 0 or n < 0 or first + n > count:
        raise NnbitsError(ReasonCode.BAD_OPTION, f"range {first} + {n} of {count} elements", path="first")
    if dtype.is_packed and (first * dtype.bits % 8 or (n * dtype.bits % 8 and first + n != count)):
        raise NnbitsError(ReasonCode.BAD_OPTION, f"range {first} + {n} of {dtype.name} is not whole bytes", path="first")
    decoder = _Decoder(payload, dtype, count)
    itemsize = decoder.items.itemsize
    before, wanted = items_of(dtype, first).count, items_of(dtype, n).count
    result = np.empty(wanted * itemsize // dtype.itemsize, dtype.storage)
    if wanted == 0:
        return result
    target = result.view(np.uint8)
    step = decoder.layout.block_items

    def decode(block: int) -> None:
        start, length = block * step, decoder.length(block)
        low, high = max(before, start), min(before + wanted, start + length)
        part = target[(low - before) * itemsize : (high - before) * itemsize]
        if high - low == length:
            decoder.decode_block(block, part)
            return
        whole = np.empty(length * itemsize, np.uint8)
        decoder.decode_block(block, whole)
        part[:] = whole[(low - start) * itemsize : (high - start) * itemsize]

    for _ in ordered_map(decode, range(before // step, (before + wanted - 1) // step + 1), threads=threads):
        pass
    return result

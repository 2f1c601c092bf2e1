"""Exact coding of values by the C core, blocks in parallel."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate, chain
from typing import Any, Final, NamedTuple

import numpy as np
import zstandard
from numpy.typing import NDArray

from .._core import ffi, lib
from ..entropy.native import check
from ..errors import NnbitsError, ReasonCode
from ..parallel import ordered_map
from ..types import DTYPES, Array, DType
from .payload import HEAD_SIZE, Coding, Items, Speed, choose_layout, items_of, read_frame, read_head, write_frame

__all__ = ["decode_range", "decode_values", "encode_values"]

_SPEEDS: Final[dict[Speed, int]] = {"fast": 0, "balanced": 1, "small": 2}
_RUN_BYTES: Final = 2**22  # of items that a thread takes at a time, at most
_KEPT_PIECES: Final = 16  # of memory, between calls
_KEPT_BYTES: Final = 2**25  # of each
_SAMPLES: Final = 4  # of a block, for zstd
_SAMPLE_BYTES: Final = 2**13  # of each
_LARGE: Final = 2**18  # bytes that cost more to copy than a piece of memory of their own

Bytes = NDArray[np.uint8]


class _Piece(NamedTuple):
    size: int
    address: Any
    bytes: Any  # the memory as a buffer
    done: Any  # a size_t: what a call has coded, blocks or bytes


class _Memory:
    """Memory that calls and their threads take and give back: fresh pages cost as much as decoding."""

    def __init__(self) -> None:
        self._free: list[_Piece] = []

    def take(self, size: int) -> _Piece:
        try:
            piece = self._free.pop()
            if piece.size >= size:
                return piece
        except IndexError:
            pass
        address = _address(np.empty(1 << max(16, (size - 1).bit_length()), np.uint8))
        return _Piece(len(address), address, ffi.buffer(address), ffi.new("size_t *"))

    def give(self, piece: _Piece) -> None:
        if len(self._free) < _KEPT_PIECES and piece.size <= _KEPT_BYTES:
            self._free.append(piece)


_BYTES: Final = ffi.typeof("uint8_t[]")
_WORK: Final = _Memory()
_CODE: Final = _Memory()


def _address(array: Any) -> Any:
    """Of the bytes of contiguous memory; what is computed from it does not keep the memory alive."""
    return ffi.from_buffer(_BYTES, array)


@lru_cache(1024)
def _model(dtype: str) -> tuple[Items, Any]:
    """Items of eight elements, and what the C core wants to know of them. By name, since a DType takes long to hash."""
    items = items_of(DTYPES[dtype], 8)
    return items, ffi.new("nnb_items *", (items.itemsize, items.mantissa_bits, items.packed_bits))


@lru_cache(1024)
def _layout(dtype: str, row_length: int) -> tuple[int, int]:
    """Items of a block and of a row."""
    return choose_layout(_model(dtype)[0], row_length)


@lru_cache(64)
def _choice(speed: Speed, force: Coding | None, planes_raw: bool) -> Any:
    coding = 0 if force in (None, Coding.ZSTD) else force + 1
    return ffi.new("nnb_lossless_choice *", (_SPEEDS[speed], coding, int(planes_raw)))


@lru_cache(1024)
def _sizes(dtype: str, longest: int) -> tuple[int, int, int]:
    """Work of decoding and of encoding a block, and what its code needs."""
    model = _model(dtype)[1]
    return (
        lib.nnb_lossless_work_size(model, longest),
        lib.nnb_lossless_encode_work_size(model, longest),
        lib.nnb_lossless_bound(model, longest),
    )


def _stored(stored: Array, dtype: DType) -> Bytes:
    if stored.dtype != dtype.storage or stored.ndim != 1:
        raise NnbitsError(
            ReasonCode.BAD_TENSOR, f"values: {stored.ndim}-dimensional {stored.dtype}, not one row of {dtype.storage}"
        )
    return np.ascontiguousarray(stored).view(np.uint8)


class _Encoder:
    """Codes blocks of one call of :func:`encode_values`."""

    def __init__(self, data: Bytes, dtype: DType, row_length: int, speed: Speed, force: Coding | None) -> None:
        name = dtype.name
        items, self.c_items = _model(name)
        self.itemsize = itemsize = items.itemsize
        self.count = count = data.size // itemsize
        block_items, self.row_items = _layout(name, row_length)
        if count < block_items:
            block_items = -(-count // self.row_items) * self.row_items
        self.block_items, self.block_bytes = block_items, block_items * itemsize
        self.blocks = blocks = -(-count // block_items)
        self.frame_size = HEAD_SIZE + (4 * blocks if blocks > 1 else 0)
        self.data, self.address = data, _address(data)
        self.tries_zstd = speed == "small" or force is Coding.ZSTD
        self.speed, self.force = speed, force
        self.choice = _choice(speed, force, False)
        _, self.work_size, self.bound = _sizes(name, min(block_items, count))

    def encode(self, first: int, blocks: int, out: Any, capacity: int) -> list[int]:
        """Codes blocks one after the other, as far as there is room for the next; returns the sizes."""
        start = first * self.block_items
        sizes = ffi.new("uint32_t[]", blocks)
        work = _WORK.take(self.work_size)
        try:
            status = lib.nnb_lossless_encode_blocks(
                self.c_items,
                self.choice,
                self.address + start * self.itemsize,
                self.row_items,
                self.block_items,
                min(blocks * self.block_items, self.count - start),
                work.address,
                work.size,
                out,
                capacity,
                sizes,
                work.done,
            )
            encoded = work.done[0]
        finally:
            _WORK.give(work)
        if status:
            check(status, "lossless block")
        found: list[int] = ffi.unpack(sizes, encoded)
        return found

    def encode_block(self, block: int, out: Any, choice: Any = None) -> int:
        """Codes one block where there is room for it; returns its size."""
        start = block * self.block_items
        work = _WORK.take(self.work_size)
        try:
            status = lib.nnb_lossless_encode_block(
                self.c_items,
                choice or self.choice,
                self.address + start * self.itemsize,
                self.row_items,
                min(self.block_items, self.count - start),
                work.address,
                work.size,
                out,
                self.bound,
                work.done,
            )
            size: int = work.done[0]
        finally:
            _WORK.give(work)
        if status:
            check(status, "lossless block")
        return size

    def zstd_block(self, block: int, size: int) -> bytes | None:
        """A block that was coded in ``size`` bytes, compressed with zstd if that makes it smaller."""
        if self.force is not Coding.ZSTD and (self.force is not None or not self.may_repeat(block, size)):
            return None
        code = _CODE.take(self.bound)
        try:
            raw = self.encode_block(block, code.address, _choice(self.speed, self.force, True))
            packed = _ZSTD_MARK + _compressor(9).compress(memoryview(code.bytes)[:raw])
        finally:
            _CODE.give(code)
        return packed if self.force is Coding.ZSTD or len(packed) < size - size // 100 else None

    def encode_run(self, first: int, blocks: int, code: _Piece) -> tuple[list[int], memoryview | bytes]:
        """Sizes of blocks, and these one after the other."""
        if self.tries_zstd:
            size = self.encode_block(first, code.address)
            block = self.zstd_block(first, size) or memoryview(code.bytes)[:size]
            return [len(block)], block
        sizes = self.encode(first, blocks, code.address, code.size)
        return sizes, memoryview(code.bytes)[: sum(sizes)]

    def may_repeat(self, block: int, size: int) -> bool:
        """Whether zstd makes samples of a block much smaller than the block as it was coded."""
        if size < 256:
            return False
        start = block * self.block_bytes
        items = self.data[start : start + self.block_bytes]
        if not lib.nnb_lossless_may_repeat(self.c_items, self.address + start, items.size // self.itemsize):
            return False
        step = max(items.size // _SAMPLES, _SAMPLE_BYTES)
        sample = b"".join(items[at : at + _SAMPLE_BYTES].data for at in range(0, items.size, step))
        return len(_compressor(1).compress(sample)) * items.size < 0.9 * size * len(sample)

    def frame(self, sizes: Sequence[int], zstd: bool = False) -> bytes:
        return write_frame(self.block_items, self.row_items, sizes, zstd)


class _Turns:
    """Places for what threads make, in the order of numbers, whoever is ready first."""

    def __init__(self, start: int) -> None:
        self._changed = threading.Condition()
        self._next = 0
        self._end = start
        self._failed = False

    def place(self, number: int, size: int) -> int:
        """Where ``size`` bytes of ``number`` begin; waits for those of all lower numbers to have a place."""
        with self._changed:
            self._changed.wait_for(lambda: self._next == number or self._failed)
            start = self._end
            self._end += size
            self._next += 1
            self._changed.notify_all()
            return start

    def fail(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._failed = True
            self._changed.notify_all()


def encode_values(
    stored: Array,
    dtype: DType,
    *,
    row_length: int,
    speed: Speed = "balanced",
    threads: int = 1,
    force: Coding | None = None,
) -> memoryview:
    """Codes elements exactly.

    Args:
        stored: one-dimensional, of ``dtype.storage``; bytes of packed elements.
        row_length: elements of a row: the product of all dimensions but the first. Only size depends on it.
        speed: ``fast`` and ``balanced`` need no zstd to decode, ``small`` may.
        threads: at most so many blocks at a time; the bytes do not depend on it.
        force: a coding that is used wherever it can represent the elements; for tests.

    Returns:
        a payload of docs/lossless.md, as bytes; nothing for no elements.

    Raises:
        NnbitsError: BAD_TENSOR for another dtype or number of dimensions, BAD_OPTION for an unknown speed.
    """
    if speed not in _SPEEDS:
        raise NnbitsError(ReasonCode.BAD_OPTION, f"speed {speed!r} is not one of {', '.join(_SPEEDS)}", path="speed")
    data = _stored(stored, dtype)
    if data.size == 0:
        return memoryview(b"")
    encoder = _Encoder(data, dtype, row_length, speed, force)
    if encoder.blocks == 1:
        return _encode_whole(encoder)
    if threads > 1 or encoder.tries_zstd:
        return _encode_in_parallel(encoder, threads)
    return _encode_in_line(encoder)


def _encode_whole(encoder: _Encoder) -> memoryview:
    """One block."""
    start, bound = encoder.frame_size, encoder.bound
    if bound > _LARGE and not encoder.tries_zstd:
        out = np.empty(start + bound, np.uint8)
        return _finish(encoder, out, [encoder.encode_block(0, _address(out) + start)])
    code = _CODE.take(start + bound)
    try:
        size = encoder.encode_block(0, code.address + start)
        packed = encoder.zstd_block(0, size) if encoder.tries_zstd else None
        if packed is not None:
            return memoryview(encoder.frame([len(packed)], zstd=True) + packed)
        code.bytes[0:start] = encoder.frame([size])
        return memoryview(code.bytes[: start + size])
    finally:
        _CODE.give(code)


def _encode_in_line(encoder: _Encoder) -> memoryview:
    """All blocks into one piece of memory."""
    end = encoder.frame_size
    out = np.empty(end + encoder.data.size + encoder.bound, np.uint8)
    sizes: list[int] = []
    while (left := encoder.blocks - len(sizes)) > 0:
        found = encoder.encode(len(sizes), left, _address(out) + end, out.size - end)
        sizes += found
        end += sum(found)
        if len(found) < left:  # forced codings may be longer than the elements
            out.resize(end + (left - len(found)) * encoder.bound, refcheck=False)
    return _finish(encoder, out, sizes)


def _finish(encoder: _Encoder, out: Bytes, sizes: Sequence[int]) -> memoryview:
    start = encoder.frame_size
    zstd = encoder.tries_zstd and any(out[at] == Coding.ZSTD for at in accumulate(sizes[:-1], initial=start))
    memory = out.data
    memory[:start] = encoder.frame(sizes, zstd)
    end = start + sum(sizes)
    if out.size - end > end // 16:
        del memory
        out.resize(end, refcheck=False)
    return out[:end].data


def _run_length(blocks: int, block_bytes: int, threads: int) -> int:
    return max(1, min(_RUN_BYTES // block_bytes, blocks // (4 * threads)))


def _share(work: Callable[[int], None], count: int, threads: int) -> None:
    """Calls ``work`` with 0 .. count - 1, each thread with the next number as soon as it is free."""
    numbers = iter(range(count))
    lock = threading.Lock()
    failed = False

    def loop(_: int) -> None:
        nonlocal failed
        while not failed:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            try:
                work(number)
            except BaseException:
                failed = True
                raise

    for _ in ordered_map(loop, range(min(threads, count)), threads=threads):
        pass


def _encode_in_parallel(encoder: _Encoder, threads: int) -> memoryview:
    blocks = 1 if encoder.tries_zstd else _run_length(encoder.blocks, encoder.block_bytes, threads)
    out = np.empty(encoder.frame_size + encoder.blocks * encoder.bound, np.uint8)
    turns = _Turns(encoder.frame_size)
    sizes: list[list[int]] = [[] for _ in range(-(-encoder.blocks // blocks))]

    def encode(run: int) -> None:
        code = _CODE.take(blocks * encoder.bound)
        try:
            first = run * blocks
            sizes[run], run_code = encoder.encode_run(first, min(blocks, encoder.blocks - first), code)
            start = turns.place(run, len(run_code))
            out[start : start + len(run_code)] = np.frombuffer(run_code, np.uint8)
        except BaseException:
            turns.fail()
            raise
        finally:
            _CODE.give(code)

    _share(encode, len(sizes), threads)
    return _finish(encoder, out, list(chain.from_iterable(sizes)))


class _Compressors(threading.local):
    """Those of a thread: making one takes as long as compressing some thousand bytes."""

    def __init__(self) -> None:
        self.by_level: dict[int, zstandard.ZstdCompressor] = {}


_LOCAL: Final = _Compressors()


def _compressor(level: int) -> zstandard.ZstdCompressor:
    kept = _LOCAL.by_level
    if level not in kept:
        kept[level] = zstandard.ZstdCompressor(level=level)
    return kept[level]


_ZSTD_MARK: Final = bytes([Coding.ZSTD])


def _output(out: Array | None, count: int, storage: np.dtype[Any]) -> Array:
    if out is None:
        return np.empty(count, storage)
    flags = out.flags
    if out.dtype != storage or out.size != count or not flags.c_contiguous or not flags.writeable:
        raise NnbitsError(
            ReasonCode.BUFFER_SIZE, f"out: not a writable contiguous array of {count} x {storage}", path="out"
        )
    return out if out.ndim == 1 else out.reshape(-1)


class _Decoder:
    def __init__(self, payload: memoryview | bytes, dtype: DType, count: int) -> None:
        if count < 0:
            raise NnbitsError(ReasonCode.BAD_OPTION, f"count {count}", path="count")
        name = dtype.name
        model, self.c_items = _model(name)
        numerator, denominator = model.per_element
        self.count = -(-count * numerator // denominator)
        self.itemsize = model.itemsize
        self.payload = payload if type(payload) is bytes else memoryview(payload).cast("B")
        if count == 0:
            if len(self.payload):
                raise NnbitsError(ReasonCode.LOSSLESS_BLOCK, "lossless payload: bytes for no element")
            return
        layout, start = read_frame(self.payload, self.count)
        # Through an array: Python 3.11 crashes if it collects a memoryview whose buffer is still in use, as in the
        # frames of a caught error.
        self.address = _address(np.frombuffer(self.payload, np.uint8))
        self.block_items, self.row_items, sizes, self.zstd = layout
        self.starts = list(accumulate(sizes, initial=start))
        self.blocks = len(sizes)
        self.work_size, _, self.bound = _sizes(name, min(self.block_items, self.count))

    def length(self, block: int) -> int:
        """Items of a block."""
        return min(self.block_items, self.count - block * self.block_items)

    def decode(self, first: int, blocks: int, out: Any) -> None:
        """Decodes blocks that follow each other into their items, at an address."""
        if self.zstd and blocks > 1:
            for block in range(first, first + blocks):
                self.decode(block, 1, out + (block - first) * self.block_items * self.itemsize)
            return
        start, end = self.starts[first], self.starts[first + blocks]
        if self.zstd and self.payload[start:end][:1] == _ZSTD_MARK:
            self._decode_zstd(first, out)
            return
        work = _WORK.take(self.work_size)
        try:
            status = lib.nnb_lossless_decode_blocks(
                self.c_items,
                self.address + start,
                end - start,
                self.address + (self.starts[0] - 4 * (self.blocks - first)) if self.blocks > 1 else ffi.NULL,
                self.row_items,
                self.block_items,
                out,
                min(self.count - first * self.block_items, blocks * self.block_items),
                work.address,
                work.size,
                work.done,
            )
            decoded = work.done[0]
        finally:
            _WORK.give(work)
        if status == 0:
            return
        if status == int(ReasonCode.UNSUPPORTED_FEATURE):
            status = int(ReasonCode.LOSSLESS_BLOCK)  # zstd without the flag
        raise self._error(ReasonCode(status), first + decoded, "it is damaged")

    def _error(self, code: ReasonCode, block: int, what: str) -> NnbitsError:
        return NnbitsError(code, f"block {block}: {what}", offset=self.starts[block], hint="Fetch it again")

    def _decode_zstd(self, block: int, out: Any) -> None:
        frame = bytes(self.payload[self.starts[block] + 1 : self.starts[block + 1]])
        try:
            size = zstandard.frame_content_size(frame)
            if not 0 <= size <= self.bound:
                raise zstandard.ZstdError(f"frame of {size} bytes")
            inner = zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise self._error(ReasonCode.LOSSLESS_BLOCK, block, str(error)) from error
        work = _WORK.take(self.work_size)
        try:
            status = lib.nnb_lossless_decode_block(
                self.c_items,
                _address(inner),
                len(inner),
                self.row_items,
                out,
                self.length(block),
                work.address,
                work.size,
            )
        finally:
            _WORK.give(work)
        if status == int(ReasonCode.UNSUPPORTED_FEATURE):
            status = int(ReasonCode.LOSSLESS_BLOCK)  # zstd in zstd
        if status != 0:
            raise self._error(ReasonCode(status), block, "it is damaged")


def _decode_plain(payload: memoryview | bytes, dtype: DType, count: int, out: Array | None) -> Array | None:
    """Elements of a payload of one block without zstd, in as few steps as possible, since most tensors are small.

    None for others and for those that are refused.
    """
    name = dtype.name
    if count <= 0 or dtype.bits < 8 or (type(payload) is memoryview and payload.itemsize != 1):
        return None
    model, c_items = _model(name)
    items = count * model.per_element[0]
    zstd, block_items, row_items = read_head(payload)
    if zstd or items > block_items:
        return None
    result = _output(out, count, dtype.storage)
    code = _address(payload)
    work = _WORK.take(_sizes(name, items)[0])
    status = lib.nnb_lossless_decode_block(
        c_items,
        code + HEAD_SIZE,
        len(code) - HEAD_SIZE,
        row_items,
        _address(result),
        items,
        work.address,
        work.size,
    )
    _WORK.give(work)
    return None if status else result


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
    result = _decode_plain(payload, dtype, count, out)
    if result is not None:
        return result
    decoder = _Decoder(payload, dtype, count)
    result = _output(out, decoder.count * decoder.itemsize // dtype.itemsize, dtype.storage)
    if count == 0:
        return result
    target = _address(result)
    if threads == 1 or decoder.blocks == 1:
        decoder.decode(0, decoder.blocks, target)
        return result
    step = decoder.block_items * decoder.itemsize
    blocks = _run_length(decoder.blocks, step, threads)

    def decode(run: int) -> None:
        first = run * blocks
        length = min(blocks, decoder.blocks - first)
        decoder.decode(first, length, target + first * step)

    _share(decode, -(-decoder.blocks // blocks), threads)
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
        raise NnbitsError(
            ReasonCode.BAD_OPTION, f"range {first} + {n} of {dtype.name} is not whole bytes", path="first"
        )
    decoder = _Decoder(payload, dtype, count)
    itemsize = decoder.itemsize
    before, wanted = items_of(dtype, first).count, items_of(dtype, n).count
    result = np.empty(wanted * itemsize // dtype.itemsize, dtype.storage)
    if wanted == 0:
        return result
    target = result.view(np.uint8)
    step = decoder.block_items

    def decode(block: int) -> None:
        start, length = block * step, decoder.length(block)
        low, high = max(before, start), min(before + wanted, start + length)
        part = target[(low - before) * itemsize : (high - before) * itemsize]
        if high - low == length:
            decoder.decode(block, 1, _address(part))
            return
        whole = np.empty(length * itemsize, np.uint8)
        decoder.decode(block, 1, _address(whole))
        part[:] = whole[(low - start) * itemsize : (high - start) * itemsize]

    for _ in ordered_map(decode, range(before // step, (before + wanted - 1) // step + 1), threads=threads):
        pass
    return result

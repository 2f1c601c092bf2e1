"""Checksums: CRC-32C (Castagnoli) of access units and extension units, SHA-256 of what has to be named."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any, Final

from .errors import NnbitsError, ReasonCode
from .parallel import ordered_map

__all__ = ["c_header", "check_crc32c", "crc32c", "crc32c_reference", "sha256"]

_POLYNOMIAL: Final = 0x82F63B78  # bits reversed
_MIN_PART: Final = 2**21  # bytes for a thread
_SHIFT_BYTES: Final = 1024  # of one of the lanes of the C core
_FOLD_BITS: Final = (2048, 512, 128)  # by which the C core folds with carry-less multiplication


@cache
def _core() -> tuple[Any, Any, Any]:
    """The C core, which is not there yet where :func:`c_header` is wanted, and its type of bytes."""
    from ._core import ffi, lib

    return ffi, lib, ffi.typeof("uint8_t[]")


def crc32c(data: bytes | bytearray | memoryview, crc: int = 0, *, threads: int = 1) -> int:
    """CRC-32C of bytes; ``crc`` is that of what precedes them. Releases the GIL.

    Args:
        threads: of which each takes a part, if there are enough bytes.
    """
    ffi, lib, kind = _core()
    view = ffi.from_buffer(kind, data)
    size = len(view)
    if threads == 1 or size < _MIN_PART * threads:
        result: int = lib.nnb_crc32c(crc, view, size)
        return result
    starts = [size * part // threads for part in range(threads + 1)]

    def part(number: int) -> int:
        start, end = starts[number], starts[number + 1]
        of_part: int = lib.nnb_crc32c(crc if number == 0 else 0, view + start, end - start)
        return of_part

    for number, of_part in enumerate(ordered_map(part, range(threads), threads=threads)):
        crc = of_part if number == 0 else _joined(crc, of_part, starts[number + 1] - starts[number])
    return crc


def _joined(first: int, second: int, size: int) -> int:
    """CRC of two strings one after the other, the second of which has ``size`` bytes: the first times x^(8 size)."""
    power, square = 1 << 31, 1 << 30  # 1 and x, bits reversed
    bits = 8 * size
    while bits:
        if bits & 1:
            power = _times(power, square)
        square = _times(square, square)
        bits >>= 1
    return _times(first, power) ^ second


def _times(a: int, b: int) -> int:
    """Product of two polynomials, bits reversed, modulo that of the CRC."""
    product = 0
    for bit in range(31, -1, -1):
        if a >> bit & 1:
            product ^= b
        b = b >> 1 ^ (_POLYNOMIAL if b & 1 else 0)
    return product


def sha256(data: bytes | bytearray | memoryview) -> bytes:
    """SHA-256, 32 bytes."""
    return hashlib.sha256(data).digest()


def check_crc32c(expected: int, found: int, path: str, offset: int) -> None:
    """Refuse bytes whose checksum is another.

    Raises:
        NnbitsError: CHECKSUM.
    """
    if expected != found:
        raise NnbitsError(
            ReasonCode.CHECKSUM,
            f"the CRC-32C is {found:08x}, not {expected:08x}",
            path=path,
            offset=offset,
            hint="The data is damaged: fetch it again",
        )


def _table() -> list[int]:
    result = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (_POLYNOMIAL if crc & 1 else 0)
        result.append(crc)
    return result


def _next_table(table: list[int], before: list[int]) -> list[int]:
    return [table[crc & 255] ^ crc >> 8 for crc in before]


def crc32c_reference(data: bytes, crc: int = 0) -> int:
    """The twin of :func:`crc32c`, byte by byte."""
    table = _table()
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _shifts(table: list[int]) -> list[list[int]]:
    """For each byte of a register: what ``_SHIFT_BYTES`` zero bytes make of it."""
    bits = []
    for bit in range(32):
        crc = 1 << bit
        for _ in range(_SHIFT_BYTES):
            crc = table[crc & 255] ^ crc >> 8
        bits.append(crc)
    rows = []
    for byte in range(4):
        row = [0] * 256
        for value in range(256):
            for bit in range(8):
                if value >> bit & 1:
                    row[value] ^= bits[8 * byte + bit]
        rows.append(row)
    return rows


def _folds() -> list[tuple[int, int]]:
    """For each distance of folding: what moves the lower and the upper half of 128 bits so much further."""

    def power(exponent: int) -> int:
        crc = 1 << 31  # x^0 with its bits reversed
        for _ in range(exponent):
            crc = crc >> 1 ^ (_POLYNOMIAL if crc & 1 else 0)
        return crc << 1

    return [(power(bits + 32), power(bits - 32)) for bits in _FOLD_BITS]


def c_header() -> str:
    """``crc32c_gen.h``: tables of the C core."""
    table = _table()
    slices = [table]
    while len(slices) < 8:
        slices.append(_next_table(table, slices[-1]))
    return (
        "/* Generated from codec/integrity.py; do not edit. */\n"
        "#ifndef NNB_CRC32C_GEN_H\n#define NNB_CRC32C_GEN_H\n\n#include <stdint.h>\n\n"
        + _c_table("nnb_crc32c_table", slices[:1], "one byte at a time")
        + "\n#if defined(NNB_CRC32C_WIDE)\n"
        + _c_table("nnb_crc32c_slices", slices[1:], "with the table above, eight bytes at a time")
        + f"\n#define NNB_CRC32C_SHIFT_BYTES {_SHIFT_BYTES}u\n"
        + _c_table("nnb_crc32c_shift", _shifts(table), f"what {_SHIFT_BYTES} zero bytes make of a register")
        + f"\n/* what moves 128 bits by {', '.join(map(str, _FOLD_BITS))} bits: lower half, upper half */\n"
        + f"static const uint64_t nnb_crc32c_fold[{len(_FOLD_BITS)}][2] = {{\n"
        + "".join(f"    {{0x{low:09x}u, 0x{high:09x}u}},\n" for low, high in _folds())
        + "};\n"
        + "#endif\n\n#endif\n"
    )


def _c_table(name: str, rows: list[list[int]], comment: str) -> str:
    lines = [f"/* {comment} */\n", f"static const uint32_t {name}[{len(rows)}][256] = {{\n"]
    for row in rows:
        lines.append("    {\n")
        for at in range(0, 256, 8):
            lines.append("        " + " ".join(f"0x{value:08x}u," for value in row[at : at + 8]) + "\n")
        lines.append("    },\n")
    return "".join(lines) + "};\n"

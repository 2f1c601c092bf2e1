"""Sparse maps as docs/sparse-maps.md describes them, step by step; the C core's twin, and slow where bits are coded.

Every function works on the flat boolean mask of a piece in row-major order: True where the element exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .kinds import (
    CODED,
    MAX_PATTERN,
    RAW,
    WORD,
    MapKind,
    Pattern,
    element_count,
    matrix_shape,
    refuse,
    segment_width,
)

__all__ = ["decode", "decode_keeps", "decode_pattern", "encode", "encode_keeps", "encode_pattern"]

Mask = NDArray[np.bool_]
Bytes = NDArray[np.uint8]

# --- bits ------------------------------------------------------------------------------------------------------------


def pack(mask: Mask) -> bytes:
    """Bits, least significant first; what is left of the last byte is zero."""
    return np.packbits(mask, bitorder="little").tobytes()


def unpack(data: Bytes, count: int) -> Mask:
    """The reverse; refuses a wrong length and bits that are left and not zero."""
    if data.size != (count + 7) // 8:
        refuse(f"{data.size} bytes for {count} bits")
    if count % 8 and data[-1] >> (count % 8):
        refuse("bits behind the last element are not zero")
    return np.unpackbits(data, count=count, bitorder="little").view(np.bool_)


# --- arithmetic coding -----------------------------------------------------------------------------------------------

HALF_OCTAVES: Final = 24  #: classes of the density of what is left of a segment, either side of one half
COLUMN_CLASSES: Final = 12
NEIGHBOURS: Final = 8
CONFIDENCE: Final = 12  #: observations that the initial probability of a bit's context counts for
EXPONENTS: Final = 17  #: of a count plus one, which is at most 65536
MANTISSA_BITS: Final = 3  #: of a count that have contexts
RATE: Final = tuple((131072 // (2 * n + 3)) for n in range(256))
#: 2^24 / (1 + 2^(k / 2)) for k = 0 .. 24: the probability of a one if it is rarer than a zero
RARE: Final = (
    8388608, 6949350, 5592405, 4382274, 3355443, 2520292, 1864135, 1362483, 986895, 710074, 508400, 362713, 258111,
    183338, 130056, 92173, 65281, 46213, 32704, 23139, 16368, 11577, 8188, 5791, 4095,
)  # fmt: skip


class Encoder:
    """A binary arithmetic encoder: 32-bit range, probabilities of 16 bits."""

    def __init__(self) -> None:
        self.low = 0
        self.range = 0xFFFFFFFF
        self.data = bytearray()

    def code(self, bit: int, probability: int) -> int:
        bound = (self.range >> 16) * probability
        if bit:
            self.range = bound
        else:
            self.low += bound
            self.range -= bound
            if self.low >> 32:
                self.low &= 0xFFFFFFFF
                place = len(self.data) - 1
                while self.data[place] == 255:
                    self.data[place] = 0
                    place -= 1
                self.data[place] += 1
        while self.range < 1 << 24:
            self.data.append(self.low >> 24)
            self.low = self.low << 8 & 0xFFFFFFFF
            self.range <<= 8
        return bit

    def finish(self) -> bytes:
        self.data += self.low.to_bytes(4, "big")
        return bytes(self.data)


class Decoder:
    """The reverse. The bits given to :meth:`code` are ignored."""

    def __init__(self, data: Bytes) -> None:
        self.data = data
        self.next = 4
        self.range = 0xFFFFFFFF
        if data.size < 4:
            refuse("the arithmetic code string is cut")
        self.value = int.from_bytes(data[:4].tobytes(), "big")

    def code(self, bit: int, probability: int) -> int:
        bound = (self.range >> 16) * probability
        if self.value < bound:
            self.range = bound
            bit = 1
        else:
            self.value -= bound
            self.range -= bound
            bit = 0
        while self.range < 1 << 24:
            if self.next == self.data.size:
                refuse("the arithmetic code string is cut")
            self.value = (self.value << 8 | int(self.data[self.next])) & 0xFFFFFFFF
            self.next += 1
            self.range <<= 8
        return bit

    def finish(self) -> None:
        if self.value != 0 or self.next != self.data.size:
            refuse("the arithmetic code string does not end where it should")


Coder = Encoder | Decoder


class Context:
    """An adaptive probability of a one: 24 bits, and how many bits it has seen."""

    def __init__(self, probability: int = 1 << 23, seen: int = 0) -> None:
        self.probability = probability
        self.seen = seen

    def code(self, coder: Coder, bit: int) -> int:
        bit = coder.code(bit, self.probability >> 8 | 1)
        if bit:
            self.probability += ((1 << 24) - self.probability >> 8) * RATE[self.seen] >> 8
        else:
            self.probability -= (self.probability >> 8) * RATE[self.seen] >> 8
        self.seen = min(self.seen + 1, 255)
        return bit


class CountCoder:
    """Counts of segments: the exponent of count + 1 in unary, then its mantissa from the top."""

    def __init__(self) -> None:
        self.exponents = [Context() for _ in range(EXPONENTS)]
        self.mantissas = [[Context() for _ in range(1 << MANTISSA_BITS)] for _ in range(EXPONENTS)]

    def code(self, coder: Coder, count: int, width: int) -> int:
        largest = (width + 1).bit_length() - 1
        wanted = (count + 1).bit_length() - 1
        exponent = 0
        while exponent < largest and self.exponents[exponent].code(coder, int(wanted > exponent)):
            exponent += 1
        value = 1
        for place in range(exponent - 1, -1, -1):
            bit = count + 1 >> place & 1
            if value < 1 << MANTISSA_BITS:
                bit = self.mantissas[exponent][value].code(coder, bit)
            else:
                bit = coder.code(bit, 1 << 15)
            value = value << 1 | bit
        if value - 1 > width:
            refuse(f"{value - 1} of {width} elements exist")
        return value - 1


def half_octave(x: int) -> int:
    """Twice the logarithm of x > 0, roughly."""
    e = x.bit_length() - 1
    return 2 * e + (x >> e - 1 & 1 if e else 0)


def column_class(share: int) -> int:
    """Class 0 .. 11 of a column by the share of ones in it, of 65536."""
    odds = ((share >> 4) + 1).bit_length() - ((65535 - share >> 4) + 1).bit_length()
    return min(max(odds, -6), 5) + 6


def code_bits(coder: Coder, mask: Mask, columns: int) -> int:
    """Codes a mask, or decodes it in place; returns the number of ones.

    Args:
        coder: an encoder or a decoder.
        mask: flat.
        columns: elements of a row.
    """
    width = segment_width(columns)
    counts = CountCoder()
    contexts: dict[tuple[int, int, int], Context] = {}
    shares = None
    total = 0
    for start in range(0, mask.size, width):
        bits = mask[start : start + width]
        above = mask[start - width : start] if start else None
        ones = counts.code(coder, int(np.count_nonzero(bits)), bits.size)
        total += ones
        zeros = bits.size - ones
        if not ones or not zeros:
            bits[:] = bool(ones)
            continue
        if shares is None:
            shares = np.full(width, ones * 65535 // bits.size, np.int64)
        for j in range(bits.size):
            if not ones or not zeros:
                bits[j:] = bool(ones)
                break
            density = min(max(half_octave(ones) - half_octave(zeros), -HALF_OCTAVES), HALF_OCTAVES)
            near = (j > 0 and bits[j - 1]) + 2 * (j > 1 and bits[j - 2]) + 4 * (above is not None and above[j])
            key = (density, column_class(int(shares[j])), int(near))
            context = contexts.get(key)
            if context is None:
                rare = RARE[abs(density)]
                context = contexts[key] = Context(rare if density <= 0 else (1 << 24) - rare, CONFIDENCE)
            bit = context.code(coder, int(bits[j]))
            bits[j] = bit
            if bit:
                ones -= 1
            else:
                zeros -= 1
        shares[: bits.size] += np.where(bits, 65535, 0) - shares[: bits.size] >> 5
    return total


# --- one kind after the other ----------------------------------------------------------------------------------------


def _columns(shape: Sequence[int]) -> int:
    return matrix_shape(shape)[1]


def _encode_two_level(mask: Mask, coded: bool) -> bytes:
    words = np.zeros((-(-mask.size // WORD), WORD), np.bool_)
    words.reshape(-1)[: mask.size] = mask
    flags: Mask = np.any(words, axis=1, keepdims=True).reshape(-1)
    if not coded:
        return pack(flags) + pack(words[flags].reshape(-1))
    coder = Encoder()
    code_bits(coder, flags, flags.size)
    code_bits(coder, words[flags].reshape(-1), int(np.count_nonzero(flags)) * WORD)
    return coder.finish()


def _decode_two_level(data: Bytes, coded: bool, count: int) -> Mask:
    flags = np.zeros(-(-count // WORD), np.bool_)
    if coded:
        coder = Decoder(data)
        present = code_bits(coder, flags, flags.size)
        inside = np.zeros(present * WORD, np.bool_)
        code_bits(coder, inside, inside.size)
        coder.finish()
    else:
        size = (flags.size + 7) // 8
        flags = unpack(data[:size], flags.size)
        inside = unpack(data[size:], int(np.count_nonzero(flags)) * WORD)
    words = np.zeros((flags.size, WORD), np.bool_)
    words[flags] = inside.reshape(-1, WORD)
    if not words[flags].any(axis=1).all():
        refuse("a word that is said to have elements has none")
    mask = words.reshape(-1)
    if mask[count:].any():
        refuse("elements behind the last")
    return mask[:count]


def _gaps(mask: Mask) -> list[int]:
    places = np.flatnonzero(mask)
    return (np.diff(places, prepend=-1) - 1).tolist()  # type: ignore[no-any-return]


class RiceParameter:
    """k of the Rice codes: the least with 2^(k + 1) at least the mean gap so far."""

    def __init__(self) -> None:
        self.total = 4
        self.seen = 1

    def k(self) -> int:
        k = 0
        while self.seen << k + 1 < self.total:
            k += 1
        return k

    def update(self, gap: int) -> None:
        self.total += gap
        self.seen += 1
        if self.seen == 64:
            self.total >>= 1
            self.seen >>= 1


ESCAPE: Final = 24  #: ones in front of a gap in 48 plain bits


def _encode_gaps(mask: Mask, coded: bool) -> bytes:
    out = bytearray()
    if not coded:
        for gap in _gaps(mask):
            while gap > 127:
                out.append(gap & 127 | 128)
                gap >>= 7
            out.append(gap)
        return bytes(out)
    bits: list[int] = []
    rice = RiceParameter()
    for gap in _gaps(mask):
        k = rice.k()
        quotient = gap >> k
        if quotient < ESCAPE:
            bits += [1] * quotient + [0]
        else:
            bits += [1] * ESCAPE
            k = 48
        bits += [gap >> i & 1 for i in range(k)]
        rice.update(gap)
    bits += [1] * (-len(bits) % 8)
    return pack(np.array(bits, np.bool_))


def _decode_gaps(data: Bytes, coded: bool, count: int, value_count: int) -> Mask:
    mask = np.zeros(count, np.bool_)
    place = -1
    at = 0
    bits = np.unpackbits(data, bitorder="little").tolist() if coded else data.tolist()
    rice = RiceParameter()

    def take() -> int:
        nonlocal at
        if at == len(bits):
            refuse("the gaps are cut")
        at += 1
        return int(bits[at - 1])

    for _ in range(value_count):
        gap = 0
        if coded:
            k, quotient = rice.k(), 0
            while quotient < ESCAPE and take():
                quotient += 1
            if quotient == ESCAPE:
                k = 48
            gap = sum(take() << i for i in range(k))
            if quotient < ESCAPE:
                gap += quotient << k
            elif gap >> rice.k() < ESCAPE:
                refuse("a gap is longer than it needs to be")
            rice.update(gap)
        else:
            shift, byte = 0, 128
            while byte > 127:
                byte = take()
                gap |= (byte & 127) << shift
                shift += 7
                if shift > 49 or (byte == 0 and shift > 7):
                    refuse("a gap is longer than it needs to be")
        place += 1 + gap
        if place >= count:
            refuse("an element behind the last")
        mask[place] = True
    if coded:
        if len(bits) - at > 7 or not all(bits[at:]):
            refuse("bits behind the last gap")
    elif at != len(bits):
        refuse("bytes behind the last gap")
    return mask


def groups(mask: Mask, shape: Sequence[int], m: int, axis: int) -> Mask:
    """The groups of an N:M pattern, (groups, m): along the axis, for each place of the dimensions behind it, for each
    of those in front."""
    outer, size, inner = prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])
    return mask.reshape(outer, size // m, m, inner).transpose(0, 3, 1, 2).reshape(-1, m)


def ungroup(rows: Mask, shape: Sequence[int], m: int, axis: int) -> Mask:
    """The reverse of :func:`groups`."""
    outer, size, inner = prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])
    return rows.reshape(outer, inner, size // m, m).transpose(0, 2, 3, 1).reshape(-1)


def _pattern_count(pattern: Pattern) -> int:
    if pattern.exact:
        return comb(pattern.m, pattern.n)
    return sum(comb(pattern.m, k) for k in range(pattern.n + 1))


def pattern_bits(pattern: Pattern) -> int:
    """Bits of the index of a pattern in the raw form."""
    return (_pattern_count(pattern) - 1).bit_length()


def _rank(group: list[bool], pattern: Pattern) -> int:
    places = [i for i, bit in enumerate(group) if bit]
    first = 0 if pattern.exact else sum(comb(pattern.m, k) for k in range(len(places)))
    return first + sum(comb(place, k + 1) for k, place in enumerate(places))


def _unrank(index: int, pattern: Pattern) -> list[bool]:
    group = [False] * pattern.m
    k = pattern.n if pattern.exact else 0
    while not pattern.exact and k <= pattern.n and index >= comb(pattern.m, k):
        index -= comb(pattern.m, k)
        k += 1
    if k > pattern.n or index >= comb(pattern.m, k):
        refuse("no such pattern")
    for place in range(pattern.m - 1, -1, -1):
        if k and index >= comb(place, k):
            index -= comb(place, k)
            group[place] = True
            k -= 1
    return group


def encode_pattern(mask: Mask, shape: Sequence[int], pattern: Pattern, coded: bool) -> bytes:
    """Section of kind 4."""
    rows = groups(mask, shape, pattern.m, pattern.axis)
    head = bytes((int(coded), pattern.n, pattern.m, pattern.axis, int(pattern.exact)))
    if coded:
        coder = Encoder()
        _code_pattern(coder, rows, pattern)
        return head + coder.finish()
    width = pattern_bits(pattern)
    bits = [_rank(row, pattern) >> i & 1 for row in rows.tolist() for i in range(width)]
    return head + pack(np.array(bits, np.bool_))


def _code_pattern(coder: Coder, rows: Mask, pattern: Pattern) -> None:
    contexts = [[Context() for _ in range(pattern.n)] for _ in range(pattern.m)]
    for row in rows:
        ones = 0
        for place in range(pattern.m):
            if ones == pattern.n:
                bit = 0
            elif pattern.exact and pattern.n - ones == pattern.m - place:
                bit = 1
            else:
                bit = contexts[place][ones].code(coder, int(row[place]))
            row[place] = bit
            ones += bit


def decode_pattern(data: Bytes, shape: Sequence[int]) -> tuple[Mask, Pattern]:
    """The mask and the pattern of a section of kind 4."""
    if data.size < 5:
        refuse("the pattern is cut")
    form, n, m, axis, exact = data[:5].tolist()
    if form > CODED or exact > 1 or not 1 <= n < m <= MAX_PATTERN or axis >= len(shape) or shape[axis] % m:
        refuse(f"pattern {n}:{m} along dimension {axis}, form {form}, exact {exact}")
    pattern = Pattern(n, m, axis, bool(exact))
    count = prod(shape) // m
    rows = np.zeros((count, m), np.bool_)
    if form == CODED:
        coder = Decoder(data[5:])
        _code_pattern(coder, rows, pattern)
        coder.finish()
    else:
        width = pattern_bits(pattern)
        indices = unpack(data[5:], count * width).reshape(count, width)
        for row, bits in zip(rows, indices.tolist(), strict=True):
            row[:] = _unrank(sum(bit << i for i, bit in enumerate(bits)), pattern)
    return ungroup(rows, shape, m, axis), pattern


def encode_keeps(keeps: Sequence[Mask | None], coded: bool) -> bytes:
    """Section of kind 5: for each dimension what is kept, None for all."""
    out = bytes([int(coded)]) + pack(np.array([keep is not None for keep in keeps], np.bool_))
    masks = [keep for keep in keeps if keep is not None]
    if not coded:
        return out + b"".join(map(pack, masks))
    coder = Encoder()
    for mask in masks:
        code_bits(coder, mask, mask.size)
    return out + coder.finish()


def decode_keeps(data: Bytes, shape: Sequence[int]) -> list[Mask | None]:
    """What a section of kind 5 keeps along each dimension."""
    size = 1 + (len(shape) + 7) // 8
    if data.size < size or data[0] > CODED:
        refuse("no form of a structured map")
    flags = unpack(data[1:size], len(shape)).tolist()
    keeps: list[Mask | None] = [np.zeros(d, np.bool_) if flag else None for d, flag in zip(shape, flags, strict=True)]
    if data[0] == CODED:
        coder = Decoder(data[size:])
        for keep in keeps:
            if keep is not None:
                code_bits(coder, keep, keep.size)
        coder.finish()
        return keeps
    for i, keep in enumerate(keeps):
        if keep is not None:
            end = size + (keep.size + 7) // 8
            keeps[i] = unpack(data[size:end], keep.size)
            size = end
    if size != data.size:
        refuse("bytes behind the last dimension")
    return keeps


def keeps_mask(keeps: Sequence[Mask | None], shape: Sequence[int]) -> Mask:
    """The mask of a structured map: an element exists if its index is kept along every dimension."""
    mask = np.ones(tuple(shape), np.bool_)
    for axis, keep in enumerate(keeps):
        if keep is not None:
            mask &= keep.reshape((-1,) + (1,) * (len(shape) - 1 - axis))
    return mask.reshape(-1)


def encode(kind: MapKind, mask: Mask, shape: Sequence[int], coded: bool) -> bytes:
    """Section of kind 1, 2, 3 or 6.

    Args:
        kind: of the map.
        mask: flat, True where an element exists.
        shape: of the piece.
        coded: entropy coded, for kinds 2 and 3.
    """
    if kind == MapKind.BITMASK:
        return pack(mask)
    if kind == MapKind.CODED:
        coder = Encoder()
        code_bits(coder, mask.copy(), _columns(shape))
        return coder.finish()
    body = _encode_two_level if kind == MapKind.TWO_LEVEL else _encode_gaps
    return bytes([CODED if coded else RAW]) + body(mask, coded)


def decode(kind: int, payload: Any, shape: Sequence[int], value_count: int) -> Mask:
    """The mask of a section of any kind.

    Raises:
        NnbitsError: SPARSE_MAP.
    """
    data = np.frombuffer(payload, np.uint8)
    count = element_count(shape)
    if kind == MapKind.BITMASK:
        mask = unpack(data, count)
    elif kind == MapKind.CODED:
        mask = np.zeros(count, np.bool_)
        coder = Decoder(data)
        code_bits(coder, mask, _columns(shape))
        coder.finish()
    elif kind == MapKind.PATTERN:
        mask = decode_pattern(data, shape)[0]
    elif kind == MapKind.STRUCTURED:
        mask = keeps_mask(decode_keeps(data, shape), shape)
    elif kind in (MapKind.TWO_LEVEL, MapKind.GAPS):
        if not data.size or data[0] > CODED:
            refuse("no form of the map")
        coded = bool(data[0])
        if kind == MapKind.TWO_LEVEL:
            mask = _decode_two_level(data[1:], coded, count)
        else:
            mask = _decode_gaps(data[1:], coded, count, value_count)
    else:
        refuse(f"map kind {kind}")
    if np.count_nonzero(mask) != value_count:
        refuse(f"{np.count_nonzero(mask)} elements exist, not {value_count}")
    return mask

"""Sparse maps: each rule of docs/sparse-maps.md broken, and sections such as no writer chooses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final
from unittest.mock import patch

import numpy as np

from nnbits.codec.sparse import reference
from nnbits.codec.sparse.kinds import MapKind, Pattern
from nnbits.conformance.cases.building import Case
from nnbits.conformance.cases.pieces import AccessUnit, raw, stream

__all__ = ["cases"]

_FEATURES: Final = ("extended", "maps-of-tensors")
_BITS, _WORDS, _GAPS, _PATTERN, _STRUCTURED, _CODED = MapKind
#: The example of docs/sparse-maps.md.
_SHAPE: Final = (2, 8)
_EXAMPLE: Final = np.array([1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0], np.bool_)


def _mapped(kind: int, section: bytes, count: int = 4, shape: Sequence[int] = _SHAPE) -> bytes:
    """A stream of one tensor with a map."""
    one = raw(shape=shape, map_kind=kind, map_bytes=len(section), value_count=count, value_bytes=count)
    return stream(AccessUnit([one], section + bytes(k % 251 + 1 for k in range(count))))


def _masks(*masks: Any, rows: int | None = None, change: Callable[[Any], Any] | None = None) -> bytes:
    """An arithmetic code string of masks; ``change`` gets the encoder before it ends."""
    coder = reference.Encoder()
    for mask in masks:
        bits = np.array(mask, np.bool_)
        reference.code_bits(coder, bits, rows or bits.size)
    if change:
        change(coder)
    return coder.finish()


def _count(count: int, width: int) -> bytes:
    """A code string that begins with a count that a segment cannot have."""
    coder = reference.Encoder()
    with patch.object(reference, "refuse"):
        reference.CountCoder().code(coder, count, width)
    return coder.finish()


def _overcounted(ones: int, size: int) -> bytes:
    """A code string of a mask with a count that is 30 too large, coded as a decoder would read it that believed it."""
    code = reference.CountCoder.code
    coder = reference.Encoder()
    mask = np.arange(size) * 7 % size < ones
    with (
        patch.object(reference, "refuse"),
        patch.object(reference.CountCoder, "code", lambda self, to, count, width: code(self, to, count + 30, width)),
    ):
        reference.code_bits(coder, mask, size)
    return coder.finish()


def _words() -> Iterator[tuple[str, bytes, int, tuple[int, ...], str]]:
    word = b"\x09\x60" + bytes(6)
    long = (10, 64)
    yield "none", b"", 4, _SHAPE, "without map_form"
    yield "form", b"\2\1" + word, 4, _SHAPE, "map_form 2"
    yield "flags-cut", b"\0\1", 1, long, "10 flags in one byte"
    yield "flags-rest", b"\0\3" + word, 4, _SHAPE, "a flag of a word that there is not"
    yield "word-cut", b"\0\1" + word[:7], 4, _SHAPE, "a word of 7 bytes"
    yield "rest", b"\0\1" + word + b"\0", 4, _SHAPE, "a byte behind the last word"
    yield "empty", b"\0\1" + bytes(8), 0, _SHAPE, "a word without elements"
    yield "empty-beside", b"\0\3" + word + bytes(8), 4, (128,), "a word without elements beside one with four"
    yield "behind", b"\0\1" + b"\x09\x20\x01" + bytes(5), 4, _SHAPE, "an element behind the last"
    yield "count", b"\0\1" + word, 3, _SHAPE, "4 elements, of which value_count says 3"
    yield "coded-short", b"\1abc", 4, _SHAPE, "an arithmetic code string of 3 bytes"
    bits = [*_EXAMPLE, *([0] * 48)]
    good = _masks([1], bits)
    yield "coded-cut", b"\1" + good[:-1], 4, _SHAPE, "an arithmetic code string without its last byte"
    yield "coded-rest", b"\1" + good + b"\0", 4, _SHAPE, "a byte behind the arithmetic code string"
    yield "coded-value", b"\1" + good[:-1] + b"\1", 4, _SHAPE, "an arithmetic code string that ends in another value"
    yield "coded-count", b"\1" + good, 3, _SHAPE, "coded, with one element more than value_count says"
    yield "coded-few", b"\1" + good, 5, _SHAPE, "coded, with one element less than value_count says"
    empty = _masks([1], [0] * 64)
    yield "coded-empty", b"\1" + empty, 1, _SHAPE, "coded, a word without elements"
    beside = _masks([1, 1], [*bits, *([0] * 64)])
    yield "coded-empty-beside", b"\1" + beside, 4, (128,), "coded, a word without elements beside one with four"
    yield "coded-wide", b"\1" + _count(2, 2), 4, (128,), "a segment of 2 words of which 2 are there, and no more"
    yield (
        "coded-behind",
        b"\1" + _masks([1], [*_EXAMPLE, 1, *([0] * 47)]),
        5,
        _SHAPE,
        "coded, an element behind the last",
    )
    flags = [1, *([0] * 199)]
    yield "coded-flags", b"\1" + _masks([1] * 3 + flags[3:]), 2, (64 * 200,), "more words than elements that exist"


def _gaps() -> Iterator[tuple[str, bytes, int, tuple[int, ...], str]]:
    yield "none", b"", 4, _SHAPE, "without map_form"
    yield "form", b"\2\0\2\x09\0", 4, _SHAPE, "map_form 2"
    yield "cut", b"\0\0\2\x09", 4, _SHAPE, "three gaps of four"
    yield "byte-cut", b"\0\0\2\x09\x80", 4, _SHAPE, "a gap that ends inside"
    yield "long-zero", b"\0\0\2\x89\0\0", 4, _SHAPE, "a gap whose last byte is 0"
    yield "long", b"\0\0\2\x09" + b"\x80" * 7 + b"\1", 4, _SHAPE, "a gap of eight bytes"
    yield "beyond", b"\0\0\2\x09\2", 4, _SHAPE, "an element behind the last"
    yield "rest", b"\0\0\2\x09\0\0", 4, _SHAPE, "a byte behind the last gap"
    good = bytes.fromhex("ec3ffe")
    yield "coded-cut", b"\1" + good[:2], 4, _SHAPE, "coded, without the last byte"
    yield "coded-rest", b"\1" + good + b"\xff", 4, _SHAPE, "coded, a byte behind the last gap"
    yield "coded-ones", b"\1" + good[:2] + b"\x7e", 4, _SHAPE, "coded, a zero behind the last gap"
    yield "coded-beyond", b"\1" + _rice([0, 2, 9, 2]), 4, _SHAPE, "coded, an element behind the last"
    yield "coded-escape", b"\1" + _rice([30], escape=True), 1, (64,), "coded, a small gap in 48 bits"
    yield "coded-escape-cut", b"\1\xff\xff\xff\x40", 1, (2**20,), "coded, a gap of 48 bits of which 8 are there"


def _rice(gaps: Sequence[int], *, escape: bool = False) -> bytes:
    """Coded gaps, the first of them in 48 bits if that is asked for."""
    text = ""
    rice = reference.RiceParameter()
    for gap in gaps:
        k = rice.k()
        if escape:
            text += "1" * 24 + f"{gap:048b}"[::-1]
        else:
            text += "1" * (gap >> k) + "0" + (f"{gap & (1 << k) - 1:0{k}b}"[::-1] if k else "")
        rice.update(gap)
    text += "1" * (-len(text) % 8)
    return bytes(int(text[at : at + 8][::-1], 2) for at in range(0, len(text), 8))


def _patterns() -> Iterator[tuple[str, bytes, int, tuple[int, ...], str]]:
    head, body = bytes([0, 2, 4, 1, 0]), b"\x08\x70"
    yield "head", head[:4], 4, _SHAPE, "without exact"
    for label, at, value, text in (
        ("form", 0, 2, "map_form 2"),
        ("exact", 4, 2, "exact 2"),
        ("n-zero", 1, 0, "0 of 4"),
        ("n-all", 1, 4, "4 of 4"),
        ("m-large", 2, 33, "groups of 33"),
        ("m-divides", 2, 3, "groups of 3 along a dimension of 8"),
        ("axis", 3, 2, "dimension 2 of 2"),
    ):
        wrong = bytearray(head)
        wrong[at] = value
        yield label, bytes(wrong) + body, 4, _SHAPE, text
    yield "cut", head + body[:1], 4, _SHAPE, "one byte of two"
    yield "rest", head + body + b"\0", 4, _SHAPE, "a byte behind the last group"
    one = bytes([0, 2, 4, 0, 0])
    yield "bits", one + b"\x18", 2, (4,), "a bit behind the only group"
    yield "index", head + b"\x0b\x70", 4, _SHAPE, "pattern 11 of 11"
    yield "index-next", one + b"\x0b\0\0\0", 1, (32,), "pattern 11 of 11, before seven groups without elements"
    wide = bytes([0, 8, 16, 0, 1])
    yield "index-wide", wide + (12870).to_bytes(2, "little"), 8, (16,), "pattern 12,870 of 12,870, 8 of 16"
    most = bytes([0, 8, 16, 0, 0])
    yield "index-most", most + (39203).to_bytes(2, "little"), 8, (16,), "pattern 39,203 of 39,203, at most 8 of 16"
    good = reference.encode_pattern(_EXAMPLE, _SHAPE, Pattern(2, 4, 1, False), True)
    yield "coded-short", good[:8], 4, _SHAPE, "an arithmetic code string of 3 bytes"
    yield "coded-cut", good[:-1], 4, _SHAPE, "an arithmetic code string without its last byte"
    yield "coded-rest", good + b"\0", 4, _SHAPE, "a byte behind the arithmetic code string"
    many = np.random.default_rng(5).integers(0, 2, (64, 4)).astype(np.bool_)
    many[many.sum(1) > 2] = False
    long = reference.encode_pattern(many.reshape(-1), (256,), Pattern(2, 4, 0, False), True)
    yield "coded-half", long[: len(long) // 2], int(many.sum()), (256,), "half of an arithmetic code string"
    exact = reference.encode_pattern(_EXAMPLE, (16,), Pattern(2, 4, 0, False), False)
    yield "count", exact, 5, (16,), "4 elements, of which value_count says 5"


def _structures() -> Iterator[tuple[str, bytes, int, tuple[int, ...], str]]:
    yield "none", b"\0", 8, _SHAPE, "without the flags of the dimensions"
    yield "form", b"\2\2\x69", 8, _SHAPE, "map_form 2"
    yield "flags", b"\0\x06\x69", 8, _SHAPE, "a mask of a third dimension of two"
    yield "cut", b"\0\2", 8, _SHAPE, "without its mask"
    yield "bits", b"\0\1\7", 16, _SHAPE, "a bit behind the last index"
    yield "rest", b"\0\2\x69\0", 8, _SHAPE, "a byte behind the last mask"
    yield "count", b"\0\2\x69", 7, _SHAPE, "8 elements, of which value_count says 7"
    keep = [1, 0, 0, 1, 0, 1, 1, 0]
    good = _masks(keep)
    yield "coded-short", b"\1\2abc", 8, _SHAPE, "an arithmetic code string of 3 bytes"
    yield "coded-cut", b"\1\2" + good[:-1], 8, _SHAPE, "an arithmetic code string without its last byte"
    yield "coded-rest", b"\1\2" + good + b"\0", 8, _SHAPE, "a byte behind the arithmetic code string"
    yield "coded-wide", b"\1\2" + _count(9, 8), 8, _SHAPE, "9 of 8 indices"


def _bits() -> Iterator[tuple[str, bytes, int, tuple[int, ...], str]]:
    yield "none", b"", 4, _SHAPE, "no bytes"
    yield "cut", b"\x09", 4, _SHAPE, "one byte of two"
    yield "rest", b"\x09\x60\0", 4, _SHAPE, "three bytes for two"
    yield "behind", b"\x09\xe0", 4, (15,), "a bit behind the last element"
    yield "count", b"\x09\x60", 5, _SHAPE, "4 elements, of which value_count says 5"


def _coded() -> Iterator[tuple[str, bytes, int, tuple[int, ...], str]]:
    good = _masks(_EXAMPLE, rows=8)
    yield "short", good[:3], 4, _SHAPE, "three bytes"
    yield "cut", good[:-1], 4, _SHAPE, "without its last byte"
    yield "rest", good + b"\0", 4, _SHAPE, "a byte too many"
    yield "value", good[:-1] + b"\x7f", 4, _SHAPE, "an arithmetic code string that ends in another value"
    yield "few", good, 5, _SHAPE, "one element less than value_count says"
    yield "many", good, 3, _SHAPE, "one element more than value_count says"
    yield "wide", _count(100, 64), 60, (64,), "100 of 64 elements"
    yield "wide-whole", _overcounted(40, 64), 40, (64,), "70 of 64 elements, and the code string of 40 behind that"
    noise = np.random.default_rng(9).integers(0, 2, 4096)
    long = _masks(noise)
    yield "half", long[: len(long) // 2], int(noise.sum()), (4096,), "half of its bytes"


def _valid() -> Iterator[Case]:
    """Sections that are right, of every kind and form, for tensors whose values would not make a writer choose them."""
    generator = np.random.default_rng(3)
    wide = generator.random(130) < 0.3
    for kind in MapKind:
        if kind in (MapKind.PATTERN, MapKind.STRUCTURED):
            continue
        for coded in (False, True):
            if (kind, coded) in ((MapKind.BITMASK, True), (MapKind.CODED, False)):
                continue
            for label, mask, shape in (
                ("example", _EXAMPLE, _SHAPE),
                ("wide", wide, (130,)),
                ("all", wide | True, (5, 26)),
                ("none", wide & False, (130,)),
            ):
                section = reference.encode(kind, mask.copy(), shape, coded)
                yield Case(
                    f"map-{kind.name.lower()}-{int(coded)}-{label}",
                    _mapped(kind, section, int(mask.sum()), shape),
                    f"a map of kind {kind.name}, form {int(coded)}",
                    _FEATURES,
                    pick=True,
                )
    groups = generator.integers(0, 2, (12, 32, 3)).astype(np.bool_)
    for n, m, axis in ((1, 2, 1), (3, 32, 1), (2, 4, 0), (1, 3, 2), (31, 32, 1)):
        rows = reference.groups(groups.reshape(-1).copy(), groups.shape, m, axis).copy()
        for row in rows:
            row[np.flatnonzero(row)[n:]] = False
        mask = reference.ungroup(rows, groups.shape, m, axis).reshape(-1)
        for coded in (False, True):
            section = reference.encode_pattern(mask, groups.shape, Pattern(n, m, axis, False), coded)
            yield Case(f"map-pattern-{int(coded)}-{n}-{m}-{axis}",
                       _wide(_PATTERN, section, mask, groups.shape), f"at most {n} of {m} along dimension {axis}",
                       _FEATURES)  # fmt: skip
    exact = bytes([0, 8, 16, 0, 1]) + (12869).to_bytes(2, "little")
    yield Case("map-pattern-last", _mapped(_PATTERN, exact, 8, (16,)), "the last pattern of 8 of 16", _FEATURES)
    keeps = [generator.random(n) < 0.5 for n in (5, 3, 70)]
    for number, chosen in enumerate(([0], [1], [0, 1], [1, 2], [0, 1, 2], [])):
        some = [keep if axis in chosen else None for axis, keep in enumerate(keeps)]
        mask = reference.keeps_mask(some, (5, 3, 70)).reshape(-1)
        for coded in (False, True):
            section = reference.encode_keeps(some, coded)
            yield Case(f"map-structured-{int(coded)}-{number}", _wide(_STRUCTURED, section, mask, (5, 3, 70)),
                       f"masks of dimensions {chosen}", _FEATURES)  # fmt: skip


def _wide(kind: int, section: bytes, mask: Any, shape: Sequence[int]) -> bytes:
    count = int(mask.sum())
    one = raw(dtype="uint16", shape=shape, map_kind=kind, map_bytes=len(section), value_count=count,
              value_bytes=2 * count)  # fmt: skip
    return stream(AccessUnit([one], section + np.arange(1, count + 1, dtype="<u2").tobytes()))


def cases(seed: int) -> Iterator[Case]:
    """The streams."""
    del seed  # nothing is random
    yield from _valid()
    makers = ((_BITS, _bits), (_WORDS, _words), (_GAPS, _gaps), (_PATTERN, _patterns), (_STRUCTURED, _structures),
              (_CODED, _coded))  # fmt: skip
    for kind, maker in makers:
        for label, section, count, shape, text in maker():
            name = kind.name.lower().replace("_", "-")
            yield Case(f"map-{name}-{label}", _mapped(kind, section, count, shape),
                       f"a map of kind {kind.name}: {text}", _FEATURES, code="SPARSE_MAP")  # fmt: skip
    for number in (7, 15):
        yield Case(f"map-kind-{number}", _mapped(number, b"\x09\x60"), f"map_kind {number}", _FEATURES,
                   code="UNSUPPORTED_FEATURE")  # fmt: skip

"""The C core's sparse maps against the reference: the same bytes, the same masks, the same refusals."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.sparse import MapKind, Pattern, native, portable

Words = NDArray[np.uint8]
Section = tuple[int, bytes]

SHAPES = (
    (),
    (1,),
    (63,),
    (64,),
    (65,),
    (200,),
    (1200,),
    (3, 0),
    (1, 130),
    (130, 1),
    (40, 3),
    (6, 64),
    (5, 70),
    (4, 8, 3),
)


@st.composite
def masks(draw: st.DrawFn) -> tuple[NDArray[np.bool_], tuple[int, ...]]:
    shape = draw(st.sampled_from(SHAPES) | st.lists(st.integers(0, 7), max_size=6).map(tuple))
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    mask = random.random(shape) < draw(st.sampled_from([0.0, 0.01, 0.1, 0.5, 0.95, 1.0]))
    structure = draw(st.sampled_from(["none", "rows", "blocks", "columns"]))
    if shape and structure == "rows":
        mask &= (random.random(shape[0]) < 0.5).reshape((-1,) + (1,) * (len(shape) - 1))
    elif shape and structure == "columns":
        mask &= random.random(shape[-1]) < 0.5
    elif shape and structure == "blocks":
        mask = np.repeat(mask, 5, axis=-1)[..., : shape[-1]]
    return mask.reshape(-1), shape


def patterns(mask: NDArray[np.bool_], shape: tuple[int, ...], m: int, n: int) -> Iterator[tuple[Pattern, Words]]:
    """Patterns along each dimension that m divides, and the mask cut to them."""
    for axis, d in enumerate(shape):
        if d and d % m == 0 and axis < 255:
            for exact in (False, True):
                pattern = Pattern(n, m, axis, exact)
                rows = portable.reference.groups(mask, shape, m, axis)
                cut = portable.reference.ungroup(rows & (np.cumsum(rows, axis=1) <= n), shape, m, axis)
                filled = portable.fill_pattern(portable.to_words(cut), shape, pattern)
                assert filled is not None
                yield pattern, filled


def sections(mask: NDArray[np.bool_], shape: tuple[int, ...]) -> Iterator[tuple[Section, Words, int]]:
    """Sections of every kind and form with their masks and counts; made by both, equal."""
    words, ones = portable.to_words(mask), int(np.count_nonzero(mask))
    for kind, form in ((1, False), (2, False), (2, True), (3, False), (3, True), (6, True)):
        section = native.encode(MapKind(kind), words, shape, ones, form)
        assert section == portable.encode(MapKind(kind), words, shape, ones, form)
        yield (kind, section), words, ones
    for m, n in ((2, 1), (4, 2), (8, 3), (32, 20)):
        for pattern, filled in patterns(mask, shape, m, n):
            for form in (False, True):
                section = native.encode_pattern(filled, shape, pattern, form)
                assert section == portable.encode_pattern(filled, shape, pattern, form)
                yield (4, section), filled, int(np.unpackbits(filled).sum())
    dense = mask.reshape(shape)
    keeps = []
    for axis in range(len(shape)):
        keep = np.any(dense, axis=tuple(i for i in range(len(shape)) if i != axis), keepdims=True).reshape(-1)
        keeps.append(None if keep.all() else keep)
    kept = portable.keeps_words(keeps, shape)
    assert native.keeps_words(keeps, shape).tobytes() == kept.tobytes()
    for form in (False, True):
        section = native.encode_keeps(keeps, shape, form)
        assert section == portable.encode_keeps(keeps, shape, form)
        for a, b in zip(native.decode_keeps(section, shape), keeps, strict=True):
            assert (a is None) == (b is None)
            assert a is None or np.array_equal(a, b)
        yield (5, section), kept, int(np.unpackbits(kept).sum())


def outcome(module: Any, section: Section, shape: tuple[int, ...], count: int) -> bytes | ReasonCode:
    try:
        words: Words = module.decode(section[0], section[1], shape, count)
        return words.tobytes()
    except NnbitsError as error:
        return error.code


@settings(max_examples=25, deadline=None)
@given(masks())
def test_sections_are_the_same(case: tuple[NDArray[np.bool_], tuple[int, ...]]) -> None:
    mask, shape = case
    for section, words, count in sections(mask, shape):
        assert outcome(native, section, shape, count) == words.tobytes()
        assert outcome(portable, section, shape, count) == words.tobytes()
        for wrong in (count - 1, count + 1):
            if wrong >= 0:
                assert outcome(native, section, shape, wrong) == ReasonCode.SPARSE_MAP


@settings(max_examples=20, deadline=None)
@given(masks(), st.data())
def test_damage_gives_the_same_answer(case: tuple[NDArray[np.bool_], tuple[int, ...]], data: st.DataObject) -> None:
    mask, shape = case
    for (kind, section), words, count in sections(mask, shape):
        damaged = bytearray(section)
        if data.draw(st.booleans()) and damaged:
            place = data.draw(st.integers(0, len(damaged) - 1))
            damaged[place] ^= data.draw(st.integers(1, 255))
        elif data.draw(st.booleans()):
            del damaged[data.draw(st.integers(0, max(len(damaged) - 1, 0))) :]
        else:
            damaged += data.draw(st.binary(min_size=1, max_size=3))
        if bytes(damaged) == section:
            continue
        answer = outcome(native, (kind, bytes(damaged)), shape, count)
        assert answer == outcome(portable, (kind, bytes(damaged)), shape, count)
        # A map that is not refused has the right count; the access unit's checksum is what finds it.
        assert answer == ReasonCode.SPARSE_MAP or int(np.unpackbits(np.frombuffer(answer, np.uint8)).sum()) == count  # type: ignore[arg-type]
        assert len(damaged) == len(section) or answer in (ReasonCode.SPARSE_MAP, words.tobytes())


@pytest.mark.parametrize("shape", [(300,), (12, 64), (4, 8, 3)])
def test_every_truncation_is_refused(shape: tuple[int, ...]) -> None:
    mask = np.random.default_rng(3).random(prod(shape)) < 0.2
    for (kind, section), _, count in sections(mask, shape):
        for size in range(len(section)):
            assert outcome(native, (kind, section[:size]), shape, count) == ReasonCode.SPARSE_MAP
        assert outcome(native, (kind, section + b"\0"), shape, count) == ReasonCode.SPARSE_MAP


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([*MapKind]), st.binary(max_size=80), st.sampled_from(SHAPES), st.integers(0, 100))
def test_random_sections(kind: int, section: bytes, shape: tuple[int, ...], count: int) -> None:
    count = min(count, prod(shape))
    assert outcome(native, (kind, section), shape, count) == outcome(portable, (kind, section), shape, count)


@settings(max_examples=60, deadline=None)
@given(masks(), st.sampled_from(["u1", "<u2", "<f4", "<f8", "<c16"]), st.integers(0, 99))
def test_values_are_moved_the_same(case: tuple[NDArray[np.bool_], tuple[int, ...]], dtype: str, seed: int) -> None:
    mask, shape = case
    raw = np.random.default_rng(seed).integers(0, 256, (mask.size, np.dtype(dtype).itemsize), np.uint8)
    raw[~raw.any(axis=1)] = 1
    raw[~mask] = 0
    flat = raw.reshape(-1).view(dtype)
    words, ones = native.nonzero(flat)
    expected, count = portable.nonzero(flat)
    assert (words.tobytes(), ones) == (expected.tobytes(), count)
    assert words.tobytes() == portable.to_words(mask).tobytes()
    values = native.pack(words, flat.size, flat, ones)
    assert values.tobytes() == portable.pack(words, flat.size, flat, ones).tobytes()
    assert native.expand(words, flat.size, values, None).tobytes() == flat.tobytes()
    assert portable.expand(words, flat.size, values, None).tobytes() == flat.tobytes()
    rows, columns = portable.reference.matrix_shape(shape)
    assert np.array_equal(native.indptr(words, rows, columns), portable.indptr(words, rows, columns))
    for index in (np.int32, np.int64):
        for a, b in zip(
            native.csr(words, rows, columns, index), portable.csr(words, rows, columns, index), strict=True
        ):
            assert a.dtype == b.dtype == index
            assert np.array_equal(a, b)


def test_groups_and_short_groups() -> None:
    mask = np.random.default_rng(5).random(4 * 8 * 3) < 0.4
    words = portable.to_words(mask)
    for m, axis in ((2, 0), (4, 0), (2, 1), (8, 1), (3, 2)):
        most, fewest = portable.group_range(words, (4, 8, 3), m, axis, m)
        assert native.group_range(words, (4, 8, 3), m, axis, m) == (most, fewest)
        assert native.group_range(words, (4, 8, 3), m, axis, most - 1)[0] == most
        for exact in (False, True):
            for n in range(1, m):
                a = native.fill_pattern(words, (4, 8, 3), Pattern(n, m, axis, exact))
                b = portable.fill_pattern(words, (4, 8, 3), Pattern(n, m, axis, exact))
                assert (a is None) == (b is None) == (n < most)
                assert a is None or b is None or a.tobytes() == b.tobytes()


def test_a_count_that_does_not_fit_is_no_expansion() -> None:
    words = portable.to_words(np.array([True, False, True]))
    with pytest.raises(NnbitsError) as error:
        native.expand(words, 3, np.zeros(1, np.float32), None)
    assert error.value.code == ReasonCode.SPARSE_MAP


@pytest.mark.parametrize("kind", [*MapKind])
def test_a_huge_claim_needs_no_memory_but_the_mask(kind: int) -> None:
    """No time or memory beyond a bit an element is spent on a section that says little."""
    shape = (1 << 14, 1 << 10)
    assert outcome(native, (kind, bytes(16)), shape, 1 << 20) == ReasonCode.SPARSE_MAP
    with pytest.raises(NnbitsError) as error:
        native.decode(kind, bytes(16), (1 << 48, 2), 5)
    assert error.value.code == ReasonCode.LIMIT

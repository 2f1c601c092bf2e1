"""Sparse maps made and read: every kind, element size, shape and density gives the same bits back."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.sparse import MapKind, Pattern, decode_map, encode_map, join_csr, join_maps

DTYPES = ("u1", "?", "<i2", "<f2", "<f4", "<u4", "<f8", "<i8", "<c8", "<c16")
Array = NDArray[Any]


def random_mask(shape: tuple[int, ...], density: float, structure: str, seed: int) -> NDArray[np.bool_]:
    random = np.random.default_rng(seed)
    mask = random.random(shape) < density
    if structure == "rows" and shape:
        mask &= (random.random(shape[0]) < 0.5).reshape((-1,) + (1,) * (len(shape) - 1))
    elif structure == "block" and shape:
        mask = np.repeat(mask, 4, axis=-1)[..., : shape[-1]]
    elif structure == "pattern" and shape and shape[-1] % 4 == 0:
        groups = np.zeros((prod(shape) // 4, 4), np.bool_)
        for group in groups:
            group[random.choice(4, 2, replace=False)] = True
        mask = groups.reshape(shape)
    return mask


def elements(mask: NDArray[np.bool_], dtype: str, seed: int) -> Array:
    """Flat elements, some of them with only one bit set (as the sign of a zero)."""
    random = np.random.default_rng(seed + 1)
    itemsize = np.dtype(dtype).itemsize
    raw = random.integers(0, 256, (mask.size, itemsize), np.uint8)
    if dtype == "?":
        raw[:] = 1
    else:
        lone = random.random(mask.size) < 0.2
        raw[lone] = 0
        raw[lone, random.integers(0, itemsize)] = 128
        raw[~raw.any(axis=1), 0] = 1
    raw[~mask.reshape(-1)] = 0
    return raw.reshape(-1).view(dtype)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Array, tuple[int, ...]]:
    shape = draw(
        st.sampled_from([(), (0,), (1,), (7,), (64,), (300,), (1, 65), (65, 1), (3, 0), (0, 3), (5, 64), (9, 70)])
        | st.lists(st.integers(1, 9), min_size=2, max_size=5).map(tuple)
        | st.tuples(st.integers(1, 12), st.sampled_from([4, 8, 64, 100, 128]))
    )
    density = draw(st.sampled_from([0.0, 0.01, 0.05, 0.3, 0.5, 0.9, 1.0]))
    structure = draw(st.sampled_from(["none", "rows", "block", "pattern"]))
    seed = draw(st.integers(0, 2**16))
    return elements(random_mask(shape, density, structure, seed), draw(st.sampled_from(DTYPES)), seed), shape


def same(a: Array, b: Array) -> bool:
    return a.dtype == b.dtype and a.tobytes() == b.tobytes()


@settings(max_examples=60, deadline=None)
@given(cases(), st.sampled_from([None, *MapKind]), st.sampled_from([None, False, True]))
def test_every_kind_gives_the_same_bits(
    case: tuple[Array, tuple[int, ...]], kind: int | None, coded: bool | None
) -> None:
    stored, shape = case
    if (kind == MapKind.BITMASK and coded) or (kind == MapKind.CODED and coded is False):
        coded = None
    encoded = encode_map(stored, shape, kind=kind, coded=coded)
    if encoded is None:
        assert kind in (None, MapKind.PATTERN)
        return
    assert kind is None or encoded.kind == kind
    assert coded is None or encoded.coded == coded or kind is None
    if kind is None:
        assert len(encoded.payload) + encoded.values.nbytes < stored.nbytes
    decoded = decode_map(encoded.kind, memoryview(encoded.payload), shape, encoded.value_count)
    assert same(decoded.expand(encoded.values), stored)
    assert decoded.pattern == encoded.pattern
    assert decoded.is_structured == (encoded.kind == MapKind.STRUCTURED)
    out = np.full(stored.size, 1, stored.dtype)
    assert decoded.expand(encoded.values, out).ctypes.data == out.ctypes.data
    assert same(out, stored)
    mask = decoded.mask()
    assert mask.shape == shape
    assert np.count_nonzero(mask) == encoded.value_count
    assert np.array_equal(decoded.indices(), np.flatnonzero(mask))
    assert decoded.bitmask().tobytes() == np.packbits(mask.reshape(-1), bitorder="little").tobytes()
    rows = shape[0] if len(shape) > 1 else 1
    matrix = mask.reshape(rows, stored.size // rows if rows else 0)
    assert np.array_equal(decoded.row_counts(), np.count_nonzero(matrix, axis=1))
    data, indices, indptr = decoded.to_csr(encoded.values)
    assert same(data, encoded.values)
    for row in range(rows):
        assert np.array_equal(indices[indptr[row] : indptr[row + 1]], np.flatnonzero(matrix[row]))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 7), st.integers(0, 70), st.sampled_from([None, *MapKind]), st.integers(0, 9))
def test_packed_elements(bits: int, count: int, kind: int | None, seed: int) -> None:
    random = np.random.default_rng(seed)
    codes = random.integers(0, 1 << bits, count) * (random.random(count) < 0.2)
    planes = codes[:, None] >> np.arange(bits) & 1
    stored = np.packbits(planes.reshape(-1).astype(np.uint8), bitorder="little")
    encoded = encode_map(stored, (count,), kind=kind, bits=bits)
    if encoded is None:
        return
    decoded = decode_map(encoded.kind, memoryview(encoded.payload), (count,), encoded.value_count)
    assert encoded.values.size == (encoded.value_count * bits + 7) // 8
    assert same(decoded.expand(encoded.values, bits=bits), stored)
    assert same(decoded.expand(encoded.values, np.empty_like(stored), bits=bits), stored)


def test_signed_zeros_exist() -> None:
    stored = np.array([0.0, -0.0, 1.0, 0.0] * 16, np.float32)
    encoded = encode_map(stored, (64,))
    assert encoded is not None
    assert encoded.value_count == 32
    decoded = decode_map(encoded.kind, memoryview(encoded.payload), (64,), 32)
    assert same(decoded.expand(encoded.values), stored)


def pruned(structure: str, density: float = 0.1) -> Array:
    mask = random_mask((64, 256), density, structure, 3)
    return elements(mask, "<f4", 3)


def chosen(stored: Array, shape: tuple[int, ...] = (64, 256), **options: Any) -> MapKind:
    encoded = encode_map(stored, shape, **options)
    assert encoded is not None
    return encoded.kind


def test_the_smallest_kind_is_chosen() -> None:
    dense, thin = pruned("none", 0.5), pruned("none", 0.02)
    rows = (np.arange(64) % 3 == 0)[:, None]
    assert chosen(np.where(rows, dense.reshape(64, 256), thin.reshape(64, 256))) == MapKind.CODED
    assert chosen(pruned("none", 0.5), coded=False) == MapKind.BITMASK
    assert chosen(pruned("none", 0.004), coded=False) == MapKind.GAPS
    assert chosen(pruned("pattern")) == MapKind.PATTERN
    assert chosen(pruned("rows", 1.0)) == MapKind.STRUCTURED
    clustered = np.zeros((64, 256), np.float32)
    clustered[::2, 64:128] = pruned("none", 0.9).reshape(64, 256)[::2, 64:128]
    assert chosen(clustered, coded=False) == MapKind.TWO_LEVEL
    assert encode_map(pruned("none", 1.0), (64, 256)) is None
    assert encode_map(pruned("none", 0.999), (64, 256), coded=False) is None


def test_every_candidate_is_larger_than_the_choice() -> None:
    for structure in ("none", "rows", "block", "pattern"):
        stored = pruned(structure, 0.3)
        best = encode_map(stored, (64, 256))
        assert best is not None
        for kind in MapKind:
            other = encode_map(stored, (64, 256), kind=kind)
            if other is not None:
                size = len(other.payload) + other.values.nbytes
                assert len(best.payload) + best.values.nbytes <= size + size // 200


def test_patterns_along_another_dimension() -> None:
    mask = random_mask((6, 3, 3, 16), 0.0, "pattern", 5)
    stored = elements(np.moveaxis(mask, 3, 1), "<f2", 5)
    encoded = encode_map(stored, (6, 16, 3, 3), kind=MapKind.PATTERN)
    assert encoded is not None
    assert encoded.pattern == Pattern(2, 4, 1, exact=True)
    decoded = decode_map(encoded.kind, memoryview(encoded.payload), (6, 16, 3, 3), encoded.value_count)
    assert same(decoded.expand(encoded.values), stored)


def test_a_given_pattern() -> None:
    stored = pruned("pattern")
    encoded = encode_map(stored, (64, 256), kind=MapKind.PATTERN, pattern=Pattern(4, 8, 1, exact=True))
    assert encoded is not None
    assert encoded.pattern == Pattern(4, 8, 1, exact=True)
    assert encode_map(stored, (64, 256), kind=MapKind.PATTERN, pattern=Pattern(1, 4, 1, exact=True)) is None
    assert encode_map(stored, (64, 256), kind=MapKind.PATTERN, pattern=Pattern(1, 4, 7, exact=True)) is None


def test_exact_patterns_fill_short_groups() -> None:
    stored = pruned("pattern").copy()
    stored[:4] = 0
    encoded = encode_map(stored, (64, 256), kind=MapKind.PATTERN, pattern=Pattern(2, 4, 1, exact=True))
    assert encoded is not None
    assert encoded.value_count == stored.size // 2
    assert encoded.values[:2].tolist() == [0, 0]
    decoded = decode_map(encoded.kind, memoryview(encoded.payload), (64, 256), encoded.value_count)
    assert same(decoded.expand(encoded.values), stored)


def test_structured_values_are_a_dense_array() -> None:
    dense = np.arange(1, 121, dtype=np.float32).reshape(4, 5, 6)
    dense[1] = 0
    dense[:, :, 2:4] = 0
    encoded = encode_map(dense.reshape(-1), dense.shape, kind=MapKind.STRUCTURED)
    assert encoded is not None
    decoded = decode_map(encoded.kind, memoryview(encoded.payload), dense.shape, encoded.value_count)
    assert decoded.kept_shape == (3, 5, 4)
    assert np.array_equal(encoded.values.reshape(3, 5, 4), dense[[0, 2, 3]][:, :, [0, 1, 4, 5]])


def test_parts_are_joined() -> None:
    stored = pruned("none", 0.2)
    encoded = encode_map(stored, (64, 256), kind=1)
    assert encoded is not None
    whole = decode_map(1, memoryview(encoded.payload), (64, 256), encoded.value_count)
    parts, values = [], []
    for first, last in ((0, 10), (10, 11), (11, 64)):
        part = encode_map(stored[first * 256 : last * 256], (last - first, 256), kind=6)
        assert part is not None
        parts.append(decode_map(6, memoryview(part.payload), (last - first, 256), part.value_count))
        values.append(part.values)
    joined = join_csr([m.to_csr(v) for m, v in zip(parts, values, strict=True)])
    for a, b in zip(joined, whole.to_csr(encoded.values), strict=True):
        assert same(a, b)
    pieces = [encode_map(stored[a:b], (b - a,), kind=3) for a, b in ((0, 3), (3, 77), (77, 78), (78, stored.size))]
    maps = [
        decode_map(3, memoryview(p.payload), (n,), p.value_count)
        for p, n in zip(pieces, (3, 74, 1, stored.size - 78), strict=True)
        if p is not None
    ]
    flat = join_maps(maps, (64, 256))
    assert flat.value_count == whole.value_count
    assert same(flat.words, whole.words)
    with pytest.raises(NnbitsError) as error:
        join_maps(maps[:2], (64, 256))
    assert error.value.code == ReasonCode.SHAPE_MISMATCH


@pytest.mark.parametrize(
    "options",
    [
        {"kind": 0},
        {"kind": 7},
        {"kind": 1, "coded": True},
        {"kind": 6, "coded": False},
        {"pattern": Pattern(2, 4, 1, True)},
    ],
)
def test_wrong_options(options: dict[str, Any]) -> None:
    with pytest.raises(NnbitsError) as error:
        encode_map(pruned("none"), (64, 256), **options)
    assert error.value.code == ReasonCode.BAD_OPTION


def test_wrong_values_and_buffers() -> None:
    with pytest.raises(NnbitsError) as error:
        encode_map(np.zeros(5, np.float32), (4,))
    assert error.value.code == ReasonCode.BAD_TENSOR
    encoded = encode_map(pruned("none"), (64, 256))
    assert encoded is not None
    decoded = decode_map(encoded.kind, memoryview(encoded.payload), (64, 256), encoded.value_count)
    with pytest.raises(NnbitsError) as error:
        decoded.expand(encoded.values[1:])
    assert error.value.code == ReasonCode.BAD_TENSOR
    for out in (np.empty(5, np.float32), np.empty(64 * 256, np.float64), np.empty((64, 512), np.float32)[:, ::2]):
        with pytest.raises(NnbitsError) as error:
            decoded.expand(encoded.values, out)
        assert error.value.code == ReasonCode.BUFFER_SIZE


def test_unknown_kinds_and_counts() -> None:
    with pytest.raises(NnbitsError) as error:
        decode_map(7, memoryview(b""), (3,), 0)
    assert error.value.code == ReasonCode.UNSUPPORTED_FEATURE
    for count in (-1, 4, 1):
        with pytest.raises(NnbitsError) as error:
            decode_map(1, memoryview(b"\x03"), (3,), count)
        assert error.value.code == ReasonCode.SPARSE_MAP

"""Block rows decoded at once equal those decoded in order, whatever the entry points say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnbits.codec.entropy import native
from nnbits.codec.entropy.coding import DecodedLevels, EncodedPayload, EntryPoint, LevelCoding, LevelsToCode
from nnbits.codec.errors import NnbitsError, ReasonCode

NEXT_STATE = ((0, 2), (7, 5), (1, 3), (6, 4), (2, 0), (5, 7), (3, 1), (4, 6))


def tensor(
    rng: np.random.Generator, coding: LevelCoding, scale: float, *, skipped: float = 0.0, huge: float = 0.0
) -> LevelsToCode:
    """Random levels, with the parity that the states of the quantizer ask for."""
    height, width = coding.height, coding.width
    indices = np.rint(rng.laplace(0, scale, (height, width))).astype(np.int64)
    indices[rng.random((height, width)) < huge] = 100_000
    if skipped:
        indices[rng.random(height) < skipped] = 0
    if coding.dq:
        indices = expanded(indices, coding, skipped > 0)
    return LevelsToCode(
        coding,
        indices.astype(np.int32).reshape(-1),
        qp_value=-20,
        row_skipping=skipped > 0,
        initial_sets="cost",
    )


def expanded(indices: np.ndarray, coding: LevelCoding, skipping: bool) -> np.ndarray:  # type: ignore[type-arg]
    """nnc-entropy 8.2, in the order of section 7."""
    height, width = indices.shape
    block = coding.block or max(height, width)
    skip = ~indices.any(axis=1) & (skipping and coding.row_flags)
    levels = np.zeros_like(indices)
    state = 0
    for y0 in range(0, height, block):
        for x0 in range(0, width, block):
            for y in range(y0, min(y0 + block, height)):
                if skip[y]:
                    for _ in range(width % 4):
                        state = NEXT_STATE[state][0]
                    continue
                for x in range(x0, min(x0 + block, width)):
                    k = int(indices[y, x])
                    levels[y, x] = 2 * k - (k > 0) * (state & 1) + (k < 0) * (state & 1)
                    state = NEXT_STATE[state][k & 1]
    return levels


def outcome(
    data: bytes, coded: LevelsToCode, points: Sequence[EntryPoint] | None, threads: int
) -> DecodedLevels | ReasonCode:
    try:
        return native.decode_payload(data, [coded.coding], entry_points=[points], threads=threads)[0]
    except NnbitsError as error:
        return error.code


def check_same(data: bytes, coded: LevelsToCode, points: Sequence[EntryPoint]) -> DecodedLevels | ReasonCode:
    expected = outcome(data, coded, None, 1)
    for threads in (1, 2, 3):
        found = outcome(data, coded, points, threads)
        if isinstance(expected, ReasonCode) or isinstance(found, ReasonCode):
            assert found == expected
            continue
        assert np.array_equal(found.levels, expected.levels)
        assert np.array_equal(found.initial_sets, expected.initial_sets)
        assert found.qp_value == expected.qp_value
        if expected.row_skip_list is not None:
            assert found.row_skip_list is not None
            assert np.array_equal(found.row_skip_list, expected.row_skip_list)
    return expected


def encoded(coded: LevelsToCode) -> tuple[EncodedPayload, Sequence[EntryPoint]]:
    payload = native.encode_payload([coded])
    return payload, payload.entry_points[0]


@settings(deadline=None, max_examples=80)
@given(
    seed=st.integers(0, 2**32 - 1),
    scan_order=st.integers(0, 4),
    rows=st.integers(1, 5),
    more=st.sampled_from([-1, 0, 1]),
    width=st.integers(1, 140),
    dq=st.booleans(),
    unary_length=st.sampled_from([1, 2, 10, 16, 21, 32, 33]),
    profile=st.integers(0, 1),
    scale=st.sampled_from([0.1, 1.0, 6.0]),
    skipped=st.sampled_from([0.0, 0.3, 1.0]),
    huge=st.sampled_from([0.0, 0.02]),
)
def test_same_as_in_order(
    seed: int,
    scan_order: int,
    rows: int,
    more: int,
    width: int,
    dq: bool,
    unary_length: int,
    profile: int,
    scale: float,
    skipped: float,
    huge: float,
) -> None:
    height = max(rows * (4 << scan_order if scan_order else 16) + more, 1)
    coding = LevelCoding(height, width, profile, dq, unary_length, scan_order)
    coded = tensor(np.random.default_rng(seed), coding, scale, skipped=skipped if profile else 0.0, huge=huge)
    payload, points = encoded(coded)
    decoded = check_same(payload.data, coded, points)
    assert isinstance(decoded, DecodedLevels)
    assert np.array_equal(decoded.levels, coded.levels)


@pytest.fixture(scope="module", params=[False, True], ids=["uniform", "dependent"])
def large(request: pytest.FixtureRequest) -> LevelsToCode:
    """Several buffers of the lanes in each block row."""
    coding = LevelCoding(150, 250, dq=request.param, unary_length=12, scan_order=4 if request.param else 3)
    return tensor(np.random.default_rng(5), coding, 3.0, skipped=0.04, huge=0.001)


def test_large(large: LevelsToCode) -> None:
    payload, points = encoded(large)
    decoded = check_same(payload.data, large, points)
    assert isinstance(decoded, DecodedLevels)
    assert np.array_equal(decoded.levels, large.levels)


@pytest.mark.parametrize("field", ["bit_offset", "cabac_offset", "dq_state"])
@pytest.mark.parametrize("value", [-1, 0, 1, 7, 8, 100, 255, 256, 65536, 2**63, 2**64 - 1, 2**64, 2**70])
def test_wrong_entry_points(large: LevelsToCode, field: str, value: int) -> None:
    payload, points = encoded(large)
    for index, point in enumerate(points):
        wrong = list(points)
        wrong[index] = replace(point, **{field: value})
        assert isinstance(check_same(payload.data, large, wrong), DecodedLevels)
    for change in (-1, 1, 8):
        shifted = [replace(point, **{field: max(getattr(point, field) + change, 0)}) for point in points]
        assert isinstance(check_same(payload.data, large, shifted), DecodedLevels)
    assert isinstance(check_same(payload.data, large, [replace(p, **{field: value}) for p in points]), DecodedLevels)


def test_wrong_number_of_entry_points(large: LevelsToCode) -> None:
    payload, points = encoded(large)
    for wrong in (points[1:], [*points, points[-1]], []):
        assert isinstance(check_same(payload.data, large, wrong), DecodedLevels)


def test_truncated_and_damaged(large: LevelsToCode) -> None:
    payload, points = encoded(large)
    data = payload.data
    codes = {check_same(data[:size], large, points) for size in range(0, len(data), len(data) // 40) if size}
    assert codes == {ReasonCode.TRUNCATED}
    rng = np.random.default_rng(6)
    for _ in range(60):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
        check_same(bytes(damaged), large, points)


def test_next_tensor_of_the_unit(large: LevelsToCode) -> None:
    """The engine goes on from the last block row."""
    payload = native.encode_payload([large, large])
    for threads in (1, 2, 3):
        decoded = native.decode_payload(
            payload.data, [large.coding] * 2, entry_points=payload.entry_points, threads=threads
        )
        assert all(np.array_equal(d.levels, large.levels) for d in decoded)

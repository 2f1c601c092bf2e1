"""The C entropy coder and quantizers against pinned bytes and against the Python reference."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nnbits.codec.entropy import native, reference, tables
from nnbits.codec.entropy.coding import EntryPoint, LevelCoding, LevelsToCode
from nnbits.codec.entropy.scan import segments
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.quant import native as quant_native
from nnbits.codec.quant import reference as quant_reference
from nnbits.codec.quant import step as quant_step

CORE = Path(__file__).resolve().parents[2] / "codec" / "core"

# The worked example of nnc-entropy section 11.
EXAMPLE = bytes.fromhex("00d7a0118c4560")
EXAMPLE_CODING = LevelCoding(2, 2, unary_length=1)


def test_worked_example() -> None:
    decoded = native.decode_payload(EXAMPLE, [EXAMPLE_CODING])[0]
    assert decoded.levels.tolist() == [1, -2, 0, 5]
    assert decoded.qp_value == 0
    assert decoded.row_skip_list is not None
    assert not decoded.row_skip_list.any()
    assert not decoded.initial_sets.any()
    again = native.encode_payload([LevelsToCode(EXAMPLE_CODING, decoded.levels, row_skipping=True)])
    assert again.data == EXAMPLE
    assert again.entry_points == ((),)


def test_pinned_bytes() -> None:
    """A tensor with temporal contexts, history, row skipping and blocks."""
    coding = LevelCoding(20, 6, unary_length=2, scan_order=1, parent=True, temporal=True)
    levels = np.zeros(120, np.int32)
    levels[7::11] = 4
    levels[72:84] = 0
    tensor = LevelsToCode(
        coding,
        levels,
        -37,
        row_skipping=True,
        hist_dep_sig_prob_enabled_flag=True,
        base=np.arange(-60, 60, dtype=np.int32) // 20,
        history=np.arange(120) % 3 == 0,
        initial_sets="cost",
    )
    coded = native.encode_payload([tensor])
    assert coded == reference.encode_payload([tensor])
    assert coded.data.hex() == PINNED
    assert coded.entry_points == (PINNED_ENTRIES,)


PINNED = "db06210733399af9345ec002d2b11723bf98caaf80"
PINNED_ENTRIES = (EntryPoint(23, 132, 0), EntryPoint(25, 114, 0))


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", ReasonCode.TRUNCATED),
        (EXAMPLE[:1], ReasonCode.TRUNCATED),
        (EXAMPLE[:4], ReasonCode.TRUNCATED),
        (EXAMPLE[:-1], ReasonCode.TRUNCATED),
        (EXAMPLE + b"\0", ReasonCode.CABAC_END),
        (EXAMPLE[:-1] + b"\x61", ReasonCode.CABAC_END),
        (EXAMPLE[:-1] + b"\x70", ReasonCode.CABAC_END),
        (b"\xff" * 7, ReasonCode.CABAC_END),
    ],
)
def test_refuses_damage(payload: bytes, code: ReasonCode) -> None:
    with pytest.raises(NnbitsError) as caught:
        native.decode_payload(payload, [EXAMPLE_CODING])
    assert caught.value.code == code


def test_huge_tensor_of_few_bytes_ends_soon() -> None:
    with pytest.raises(NnbitsError) as caught:
        native.decode_payload(b"\0" * 64, [LevelCoding(1 << 24, 1)])
    assert caught.value.code == ReasonCode.TRUNCATED


DENSE = [
    # dq, unary length, scale: also remainders in many, in few and in no levels
    (False, 11, 3.0),
    (True, 11, 3.0),
    (True, 11, 30.0),
    (False, 1, 5.0),
    (True, 1, 5.0),
    (False, 16, 9.0),
    (True, 16, 3e5),
    (True, 17, 9.0),
]


def _dense(dq: bool, unary_length: int, scale: float, scan_order: int = 0) -> LevelsToCode:
    rng = np.random.default_rng(5)
    x = (rng.laplace(size=(96, 130)) * scale).astype(np.float32)
    x[30:50] *= rng.random((20, 130)) < 0.05
    coding = LevelCoding(96, 130, dq=dq, unary_length=unary_length, scan_order=scan_order)
    if dq:
        levels, _ = quant_native.quantize_dependent(x, 0, 2, height=96, width=130, scan_order=scan_order)
    else:
        levels, _ = quant_native.quantize_uniform(x, 0, 2)
    return LevelsToCode(coding, levels, initial_sets="cost")


@pytest.mark.parametrize("scan_order", [0, 2])
@pytest.mark.parametrize(("dq", "unary_length", "scale"), DENSE)
def test_dense_and_sparse_stretches(dq: bool, unary_length: int, scale: float, scan_order: int) -> None:
    """Tensors large enough for the decoder to change its method on the way."""
    item = _dense(dq, unary_length, scale, scan_order)
    coded = native.encode_payload([item])
    decoded = native.decode_payload(coded.data, [item.coding], entry_points=coded.entry_points, threads=2)
    np.testing.assert_array_equal(decoded[0].levels, item.levels)


@pytest.mark.parametrize(("dq", "unary_length", "scale"), DENSE[1:6:2])
def test_damaged_dense_tensor(dq: bool, unary_length: int, scale: float) -> None:
    item = _dense(dq, unary_length, scale)
    data = bytearray(native.encode_payload([item]).data)
    data[len(data) // 2] ^= 16
    codes = []
    for engine in (native, reference):
        with pytest.raises(NnbitsError) as caught:
            engine.decode_payload(bytes(data), [item.coding])
        codes.append(caught.value.code)
    assert codes[0] == codes[1]


def test_missing_base() -> None:
    coding = LevelCoding(4, 4, temporal=True)
    with pytest.raises(NnbitsError) as caught:
        native.encode_payload([LevelsToCode(coding, np.zeros(16, np.int32))])
    assert caught.value.code == ReasonCode.BASE_MISSING


def test_generated_tables_are_current() -> None:
    assert (CORE / "src" / "common" / "tables_gen.h").read_text() == tables.c_header()


def test_status_numbers_equal_reason_codes() -> None:
    header = (CORE / "include" / "nnb" / "nnb_status.h").read_text()
    found = {name: int(number) for name, number in re.findall(r"NNB_(\w+) = (\d+)", header)}
    assert found.pop("OK") == 0
    assert found == {code.name: int(code) for code in ReasonCode}


def _reachable(starts: set[int], after: Any) -> set[int]:
    found, todo = set(starts), list(starts)
    while todo:
        value = todo.pop()
        new = {after(value, bin_) for bin_ in (0, 1)} - found
        found |= new
        todo += new
    return found


@pytest.mark.parametrize("rates", sorted({(s.ra, s.rb) for s in tables.INITIAL_SETS}))
def test_estimates_stay_in_range(rates: tuple[int, int]) -> None:
    """nnc-entropy 3.3: nothing overflows, so that the C core's tables cover all there is."""
    sets = [s for s in tables.INITIAL_SETS if (s.ra, s.rb) == rates]

    def after(value: int, bin_: int, rate: int, shift: int) -> int:
        s = 1 if bin_ else -1
        index = 16 + ((s * value) >> shift)
        assert 0 <= index <= 31
        return value + s * (tables.STEPS[index] >> rate)

    a = _reachable({s.a for s in sets}, lambda value, bin_: after(value, bin_, rates[0], 3))
    b = _reachable({s.b for s in sets}, lambda value, bin_: after(value, bin_, rates[1], 7))
    assert max(map(abs, a)) <= 123
    assert max(map(abs, b)) <= 1923


# --- property tests: whatever the parameters, both implementations agree ---


def _state_after(state: int, k: int) -> int:
    return tables.NEXT[state][k & 1]


def _expanded(indices: NDArray[np.int32], coding: LevelCoding, skipped: NDArray[np.bool_] | None) -> NDArray[np.int32]:
    """The array L of level indices K given in row-major order (nnc-entropy 8.2)."""
    levels = indices.copy()
    state = 0
    for segment in segments(coding):
        if skipped is not None and skipped[segment.row]:
            for _ in range(coding.width):
                state = _state_after(state, 0)
            continue
        for at in range(segment.row * coding.width + segment.start, segment.row * coding.width + segment.stop):
            k = int(indices[at])
            levels[at] = 2 * k - ((k > 0) - (k < 0)) * (state & 1)
            state = _state_after(state, k)
    return levels


@st.composite
def tensors(draw: st.DrawFn) -> LevelsToCode:
    """Any tensor that can be coded."""
    profile = draw(st.integers(0, 1))
    codebook = profile == 1 and draw(st.booleans())
    cs = draw(st.sampled_from([1, 2, 3, 5, 9, 40, 300])) if codebook else 0
    cz = draw(st.integers(0, cs - 1)) if codebook else 0
    coding = LevelCoding(
        height=draw(st.integers(1, 40)),
        width=draw(st.sampled_from([1, 2, 3, 5, 8, 9, 21, 33])),
        profile=profile,
        dq=draw(st.booleans()),
        unary_length=draw(st.sampled_from([1, 2, 3, 11, 16, 17, 256])),
        scan_order=draw(st.integers(0, 4)),
        qp_bits=draw(st.sampled_from([0, 6, 8, 13])),
        parent=draw(st.booleans()),
        temporal=profile == 1 and draw(st.booleans()),
        codebook_size=cs,
        codebook_zero_offset=cz,
    )
    count = coding.height * coding.width
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale = draw(st.sampled_from([0.2, 1.0, 4.0, 30.0, 1e5, 4e8]))
    indices = np.rint(rng.laplace(size=count) * scale).clip(-(2**30), 2**30 - 1)
    if codebook:
        indices = indices.clip(-cz, cs - 1 - cz)
    k = indices.astype(np.int32)
    if draw(st.booleans()):
        k.reshape(coding.height, -1)[rng.random(coding.height) < 0.5] = 0
    row_skipping = draw(st.booleans())
    skipped = ~k.reshape(coding.height, -1).any(axis=1) if row_skipping and coding.row_flags else None
    levels = _expanded(k, coding, skipped) if coding.dq else k
    half = (1 << coding.qp_bits) >> 1
    sets: Any = draw(st.sampled_from([None, "cost", "peer", "random"]))
    if sets == "random":
        sets = rng.integers(0, 9, coding.context_count).astype(np.uint8)
    return LevelsToCode(
        coding,
        levels,
        qp_value=draw(st.integers(-half, half - 1)) if half else 0,
        row_skipping=row_skipping,
        hist_dep_sig_prob_enabled_flag=coding.parent and coding.row_flags and draw(st.booleans()),
        base=rng.integers(-3, 4, count).astype(np.int32) if coding.temporal else None,
        history=rng.random(count) < 0.5 if draw(st.booleans()) else None,
        initial_sets=sets,
    )


@settings(max_examples=150, deadline=None)
@given(st.lists(tensors(), min_size=1, max_size=3))
def test_round_trip_and_reference(items: list[LevelsToCode]) -> None:
    coded = native.encode_payload(items)
    expected = reference.encode_payload(items)
    assert coded.data == expected.data
    assert [tuple(e) for e in coded.entry_points] == [tuple(e) for e in expected.entry_points]
    codings = [item.coding for item in items]
    bases = [item.base for item in items]
    histories = [item.history for item in items]
    points = coded.entry_points
    for threads in (1, 3):
        decoded = native.decode_payload(
            coded.data, codings, bases=bases, histories=histories, entry_points=points, threads=threads
        )
        for item, result in zip(items, decoded, strict=True):
            np.testing.assert_array_equal(result.levels, item.levels)
            assert result.qp_value == item.qp_value
            assert result.hist_dep_sig_prob_enabled_flag == item.hist_dep_sig_prob_enabled_flag
            assert (result.row_skip_list is not None) == (item.row_skipping and item.coding.row_flags)
    first = items[0]
    rows = len(points[0]) + 1
    part = np.full(first.levels.size, 77, np.int32)
    start, stop = rows // 3, max(rows // 3 + 1, 2 * rows // 3)
    native.decode_block_rows(
        coded.data, first.coding, points[0], start, stop, part, base=first.base, history=first.history
    )
    block = first.coding.block or first.coding.height
    inside = slice(start * block * first.coding.width, stop * block * first.coding.width)
    np.testing.assert_array_equal(part[inside], first.levels[inside])
    assert (np.delete(part, np.arange(part.size)[inside]) == 77).all()


@settings(max_examples=300, deadline=None)
@given(item=tensors(), payload=st.binary(max_size=200), damage=st.booleans(), where=st.integers(0, 10**6))
def test_hostile_payloads_fare_alike(item: LevelsToCode, payload: bytes, damage: bool, where: int) -> None:
    """Arbitrary bytes, and coded ones with one bit changed: the same levels or the same verdict."""
    if damage:
        data = bytearray(native.encode_payload([item]).data)
        data[where % len(data)] ^= 1 << (where % 8)
        payload = bytes(data)

    def outcome(engine: Any) -> Any:
        try:
            result = engine.decode_payload(payload, [item.coding], bases=[item.base], histories=[item.history])[0]
        except NnbitsError as error:
            return error.code
        return result.levels.tolist(), result.qp_value, result.initial_sets.tolist()

    assert outcome(native) == outcome(reference)


@settings(max_examples=150, deadline=None)
@given(
    height=st.integers(1, 20),
    width=st.sampled_from([1, 2, 7, 8, 9, 33]),
    scan_order=st.integers(0, 4),
    density=st.integers(0, 7),
    octave=st.integers(-30, 30),
    fraction=st.integers(0, 127),
    scale=st.sampled_from([0.3, 2.0, 50.0, 1e9]),
    seed=st.integers(0, 2**32),
)
def test_quantizers_equal_the_reference(
    height: int, width: int, scan_order: int, density: int, octave: int, fraction: int, scale: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.laplace(size=(height, width)) * scale * 2.0**octave).astype(np.float32)
    x[rng.random(x.shape) < 0.2] = rng.choice(np.array([0.0, -0.0], np.float32))
    qp = (octave << density) + (fraction & ((1 << density) - 1))
    levels, used = quant_native.quantize_uniform(x, qp, density)
    expected, expected_qp = quant_reference.quantize_uniform(x, qp, density)
    np.testing.assert_array_equal(levels, expected)
    assert used == expected_qp
    np.testing.assert_array_equal(
        quant_native.dequantize(levels, used, density), quant_reference.dequantize(levels, used, density)
    )
    shape = {"height": height, "width": width, "scan_order": scan_order}
    levels, used = quant_native.quantize_dependent(x, qp, density, **shape)
    expected, expected_qp = quant_reference.quantize_dependent(x, qp, density, **shape)
    np.testing.assert_array_equal(levels, expected)
    assert used == expected_qp


@pytest.mark.parametrize("density", range(8))
def test_levels_that_would_overflow_raise_the_qp_alike(density: int) -> None:
    """The rule's QP, and one more where binary32 rounds the largest level up to 2^31."""
    low = quant_step.qp_range(density)[0]
    corrected = 0
    for octave in (-3, 0, 7, 20):
        for fraction in np.linspace(0.5, 1, 33)[1:]:
            peak = np.nextafter(np.float32(fraction * 2.0 ** (31 + octave)), np.float32(0))
            x = np.array([peak, -peak / 3], np.float32)
            levels, used = quant_native.quantize_uniform(x, min(low, (octave - 6) << density), density)
            expected, expected_qp = quant_reference.quantize_uniform(x, min(low, (octave - 6) << density), density)
            assert used == expected_qp
            np.testing.assert_array_equal(levels, expected)
            assert levels[0] > 2**29
            assert levels[1] < 0
            exact = float(peak) / (2**31 - 3)
            base = math.floor(math.log2(exact)) << density
            corrected += used != math.ceil(base + exact * 2.0 ** (density - (base >> density)) - 2**density)
    assert corrected or density < 2


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_infinite_values_are_not_quantized(value: float) -> None:
    x = np.array([1.0, value], np.float32)
    for quantize in (
        lambda: quant_native.quantize_uniform(x, 0, 2),
        lambda: quant_native.quantize_dependent(x, 0, 2, height=2, width=1),
    ):
        with pytest.raises(NnbitsError) as caught:
            quantize()
        assert caught.value.code == ReasonCode.BAD_TENSOR


def test_codebook_dequantization() -> None:
    codebook = np.array([-(2**31), -5, 0, 2**31 - 1], np.int32)
    levels = np.array([-2, -1, 0, 1], np.int32)
    values = quant_native.dequantize(levels, 1, 2, codebook=codebook, zero_offset=2)
    np.testing.assert_array_equal(values, (1.25 * codebook.astype(np.float64)).astype(np.float32))
    np.testing.assert_array_equal(
        quant_native.dequantize(levels.copy(), 1, 2, codebook=codebook, zero_offset=2, inplace=True), values
    )
    for outside in (-3, 2, 2**31 - 1):
        with pytest.raises(NnbitsError) as caught:
            quant_native.dequantize(np.array([outside], np.int32), 1, 2, codebook=codebook, zero_offset=2)
        assert caught.value.code == ReasonCode.LEVEL_RANGE

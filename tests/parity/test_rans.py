"""The rANS coder: every path of the C core against the reference, and against what it must refuse."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nnbits import NnbitsError, ReasonCode
from nnbits.codec.entropy import ans, ans_reference
from nnbits.codec.entropy.ans import Contexts, Path

PATHS = [path for path in Path if path is not Path.AUTO and ans.has_path(path)]
COUNTS = [0, 1, 3, 4, 31, 32, 33, 63, 64, 65, 1000]
ROUNDS = [2048, 4096, 8192, 16384, 65535, 65536, 65537, 70001]  # 8, 16, 32 and 64 states
Array = NDArray[np.uint8]


def sample(kind: str, count: int, seed: int) -> Array:
    """Symbols of one of the shapes that planes of weights have."""
    rng = np.random.default_rng(seed)
    if kind == "one":
        return np.full(count, seed % 256, np.uint8)
    if kind == "skewed":
        return np.where(rng.random(count) < 0.002, rng.integers(0, 256, count), 7).astype(np.uint8)
    if kind == "exponents":
        return (rng.normal(0, 0.03, count).astype(np.float32).view(np.uint32) >> 23 & 255).astype(np.uint8)
    if kind == "all":
        return np.append(rng.integers(0, 256, max(count - 256, 0)), np.arange(256))[:count].astype(np.uint8)
    if kind == "steep":  # frequencies from 1 to thousands
        return np.minimum(rng.geometric(0.5, count) - 1, 63).astype(np.uint8)
    return rng.integers(0, {"two": 2, "even": 32, "more": 64, "odd": 100}[kind], count).astype(np.uint8)


KINDS = ["one", "two", "even", "more", "odd", "all", "skewed", "exponents", "steep"]


def as_tables(frequencies: NDArray[np.uint16]) -> list[dict[int, int]]:
    return [{int(s): int(table[s]) for s in np.flatnonzero(table)} for table in frequencies]


def numbers(contexts: Contexts | None) -> list[int] | None:
    return None if contexts is None else [int(t) for t in contexts.table_of[contexts.values]]


def code_everywhere(symbols: Array, contexts: Contexts | None, table_count: int, *, reference: bool = True) -> bytes:
    """Codes and decodes with all paths; checks that all agree. Returns tables and code."""
    histograms = ans.histogram(symbols, contexts, table_count)
    frequencies = ans.normalize(histograms)
    assert (frequencies.sum(axis=1) == 4096).all()
    assert ((frequencies > 0) >= (histograms > 0)).all()
    tables = ans.write_tables(frequencies)
    code = ans.encode(symbols, frequencies, contexts, path=Path.SCALAR)
    if reference:
        assert ans_reference.write_tables(as_tables(frequencies)) == tables
        assert ans_reference.read_tables(tables, table_count) == (as_tables(frequencies), len(tables))
        assert ans_reference.encode(symbols.tobytes(), as_tables(frequencies), numbers(contexts)) == code
        assert ans_reference.decode(code, as_tables(frequencies), symbols.size, numbers(contexts)) == symbols.tobytes()
    read, used = ans.read_tables(tables + b"more", table_count)
    assert used == len(tables)
    assert np.array_equal(read, frequencies)
    for path in PATHS:
        assert ans.encode(symbols, frequencies, contexts, path=path) == code, path
        for scratch in (False, True):
            out = np.full(symbols.size, 99, np.uint8)
            ans.decode(tables, table_count, code, symbols.size, contexts, out=out, path=path, scratch=scratch)
            assert np.array_equal(out, symbols), (path, scratch)
    return tables + code


def test_paths() -> None:
    assert Path.SCALAR in PATHS
    assert ans.has_path(Path.AUTO)
    assert ans.best_path() == max(PATHS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", COUNTS + ROUNDS)
def test_shapes_and_sizes(kind: str, count: int) -> None:
    code_everywhere(sample(kind, count, count + 3), None, 1, reference=count <= 1000 or count == 65537)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400), st.integers(1, 300))
def test_any_bytes(data: bytes, repeat: int) -> None:
    code_everywhere(np.frombuffer(data * repeat, np.uint8), None, 1, reference=len(data) * repeat < 5000)


@st.composite
def histograms(draw: st.DrawFn) -> NDArray[np.uint32]:
    """Histograms of up to 256 symbols whose counts are of very different sizes."""
    symbols = draw(
        st.lists(st.integers(0, 255), min_size=1, max_size=draw(st.sampled_from([2, 16, 40, 256])), unique=True)
    )
    result = np.zeros(256, np.uint32)
    result[symbols] = [draw(st.integers(1, 1 << draw(st.integers(1, 16)))) for _ in symbols]
    return result


@settings(max_examples=60, deadline=None)
@given(histograms())
def test_normalization(histogram: NDArray[np.uint32]) -> None:
    expected = ans_reference.normalize({s: int(n) for s, n in enumerate(histogram)})
    assert as_tables(ans.normalize(histogram)) == [expected]


def test_normalization_of_nothing() -> None:
    assert as_tables(ans.normalize(np.zeros(256, np.uint32))) == [ans_reference.normalize({})] == [{0: 4096}]


@settings(max_examples=60, deadline=None)
@given(histograms(), st.integers(0, 2**32 - 1))
def test_any_histogram(histogram: NDArray[np.uint32], seed: int) -> None:
    symbols = np.repeat(np.arange(256, dtype=np.uint8), np.minimum(histogram, 4096))
    symbols = np.resize(np.random.default_rng(seed).permutation(symbols), 66000)
    code_everywhere(symbols, None, 1, reference=False)


@pytest.mark.parametrize("count", [0, 1, 65, 5137, 9000, 65600, 66000])
@pytest.mark.parametrize(
    ("alphabet", "table_count"),
    [(2, 2), (4, 8), (4, 16), (8, 3), (8, 16), (16, 16), (7, 12), (32, 8), (256, 2), (5, 64)],
)
def test_contexts(alphabet: int, table_count: int, count: int) -> None:
    rng = np.random.default_rng(alphabet * table_count + count)
    table_of = rng.integers(0, table_count, 256).astype(np.uint8)
    values = np.minimum(rng.geometric(0.1, count), 255).astype(np.uint8)
    spread = rng.integers(1, alphabet + 1, 256)[table_of[values]]
    symbols = (rng.integers(0, 256, count) % spread).astype(np.uint8)
    code_everywhere(symbols, Contexts(values, table_of), table_count, reference=count < 9000 or count == 65600)


@pytest.mark.parametrize("table_count", [2, 4, 8, 16, 17])
@pytest.mark.parametrize("kind", ["repeats", "stays"])
@pytest.mark.parametrize("count", [5137, 9007, 33000])
def test_maps_of_few_values(kind: str, table_count: int, count: int) -> None:
    rng = np.random.default_rng(table_count)
    table_of = (
        np.arange(256) % table_count if kind == "repeats" else np.minimum(np.arange(256), table_count - 1)
    ).astype(np.uint8)
    values = rng.integers(0, 256 if kind == "repeats" else 2 * table_count, count).astype(np.uint8)
    symbols = (rng.geometric(0.2, count) * (table_of[values] + 2) % 200).astype(np.uint8)
    code_everywhere(symbols, Contexts(values, table_of), table_count, reference=table_count == 4)


@pytest.mark.parametrize("alphabet", range(1, 67))
def test_every_small_alphabet(alphabet: int) -> None:
    rng = np.random.default_rng(alphabet)
    chances = rng.random(alphabet) ** 6 + 1e-4
    for count in (5137, 9007, 20000):
        symbols = rng.choice(rng.permutation(256)[:alphabet], count, p=chances / chances.sum()).astype(np.uint8)
        code_everywhere(symbols, None, 1, reference=False)


def test_size_is_near_the_entropy() -> None:
    symbols = sample("exponents", 1 << 18, 5)
    histogram = ans.histogram(symbols)[0]
    share = histogram[histogram > 0] / symbols.size
    entropy = float(-(share * np.log2(share)).sum()) * symbols.size
    frequencies = ans.normalize(histogram)
    tables = ans.write_tables(frequencies)
    size = len(ans.encode(symbols, frequencies))
    assert len(tables) < 40
    assert entropy <= ans.cost(histogram, frequencies) < 1.001 * entropy
    assert abs(8 * size - ans.cost(histogram, frequencies)) < 8 * 256
    assert 8 * (size + len(tables)) < 1.004 * entropy


@pytest.mark.parametrize("count", [0, 65535, 65536, 65600, 200_000, 200_100])
@pytest.mark.parametrize("table_count", [1, 5])
def test_sampled_histogram(count: int, table_count: int) -> None:
    rng = np.random.default_rng(count)
    symbols = sample("exponents", count, 6)
    symbols[rng.integers(0, max(count, 1), count // 20000)] = rng.integers(0, 256, count // 20000)
    symbols[-1:] = 255
    contexts = Contexts(rng.integers(0, 256, count).astype(np.uint8), (np.arange(256) % table_count).astype(np.uint8))
    result = ans.histogram(symbols, contexts, table_count, sample=True)
    tables = contexts.table_of[contexts.values]
    counted = (np.arange(count) % 1024 < 256) | (count < 65536)
    expected = np.zeros((table_count, 256), np.uint32)
    np.add.at(expected, (tables[counted], symbols[counted]), 1)
    if count >= 65536:
        expected[:, np.unique(symbols)] = np.maximum(expected[:, np.unique(symbols)], 1)
    assert np.array_equal(result, expected)
    if table_count == 1:
        assert np.array_equal(ans.histogram(symbols, sample=True), expected)
    ans.encode(symbols, ans.normalize(result), contexts)


def test_a_sample_is_enough() -> None:
    symbols = sample("exponents", 1 << 18, 7)
    exact = ans.histogram(symbols)
    sampled = ans.normalize(ans.histogram(symbols, sample=True))
    assert ans.cost(exact, sampled) < 1.0005 * ans.cost(exact, ans.normalize(exact))


def test_cost_without_a_frequency() -> None:
    histogram = np.zeros((1, 256), np.uint32)
    histogram[0, 3] = 1
    frequencies = np.zeros((1, 256), np.uint16)
    frequencies[0, 4] = 4096
    assert ans.cost(histogram, frequencies) == float("inf")
    assert ans.cost(np.roll(histogram, 1), frequencies) == 0


SENTENCE = b"to be or not to be, that is the question"
# Tables and code as docs/rans.md explains them.
PINNED = "40d20180d6dcb5e233479b329aa69cdcdcd2000f3665348cd0c6dcdd2ccf8b3c006fd20d007a6390efa86dffec570c857cc6ab2be5"


def test_pinned_bytes() -> None:
    symbols = np.frombuffer(SENTENCE, np.uint8)
    coded = code_everywhere(symbols, None, 1)
    assert coded.hex() == PINNED


def test_pinned_code_is_decoded() -> None:
    data = bytes.fromhex(PINNED)
    tables, used = ans.read_tables(data, 1)
    assert used > 0
    assert ans.decode(data, 1, data[used:], len(SENTENCE)).tobytes() == SENTENCE
    assert tables[0, ord(" ")] == 922  # 9 of 40 symbols


def refused(code: ReasonCode, function: object, *args: object, **options: object) -> None:
    assert callable(function)
    with pytest.raises(NnbitsError) as caught:
        function(*args, **options)
    assert caught.value.code == code


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("count", [100, 70000])
def test_cut_and_lengthened_codes_are_refused(path: Path, count: int) -> None:
    symbols = sample("exponents", count, 1)
    frequencies = ans.normalize(ans.histogram(symbols))
    tables = ans.write_tables(frequencies)
    code = ans.encode(symbols, frequencies)
    lengths = set(range(0, len(code), max(1, len(code) // 50))) | {len(code) - 1, len(code) - 2}
    for length in lengths:
        refused(ReasonCode.LOSSLESS_BLOCK, ans.decode, tables, 1, code[:length], count, path=path)
    for tail in (b"\0", b"\0\0", bytes(200)):
        refused(ReasonCode.LOSSLESS_BLOCK, ans.decode, tables, 1, code + tail, count, path=path)
    for wrong in (0, count - 1, count + 1, 2 * count):
        refused(ReasonCode.LOSSLESS_BLOCK, ans.decode, tables, 1, code, wrong, path=path)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damaged_codes_are_refused_alike(data: st.DataObject) -> None:
    """Every path says the same about damaged tables and codes."""
    kind = data.draw(st.sampled_from(KINDS))
    symbols = sample(kind, data.draw(st.sampled_from([100, 9000, 66000])), 2)
    frequencies = ans.normalize(ans.histogram(symbols))
    tables = bytearray(ans.write_tables(frequencies))
    code = bytearray(ans.encode(symbols, frequencies))
    target = data.draw(st.sampled_from([tables, code]))
    for _ in range(data.draw(st.integers(1, 3))):
        target[data.draw(st.integers(0, len(target) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    results: list[tuple[ReasonCode | None, bytes]] = []
    for path in PATHS:
        for scratch in (False, True):
            try:
                out = ans.decode(bytes(tables), 1, bytes(code), symbols.size, path=path, scratch=scratch)
                results.append((None, out.tobytes()))
            except NnbitsError as error:
                results.append((error.code, b""))
    assert results[0][0] in (None, ReasonCode.LOSSLESS_BLOCK)
    assert all(a == b for a, b in pairwise(results))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.integers(1, 3))
def test_any_bytes_as_tables(data: bytes, table_count: int) -> None:
    """The core and the reference accept the same tables, and what is accepted is written again as it was."""
    try:
        expected, used = ans_reference.read_tables(data, table_count)
    except NnbitsError:
        refused(ReasonCode.LOSSLESS_BLOCK, ans.read_tables, data, table_count)
        return
    frequencies, core_used = ans.read_tables(data, table_count)
    assert as_tables(frequencies) == expected
    assert core_used == used
    assert ans.write_tables(frequencies) == data[:used]


@settings(max_examples=100, deadline=None)
@given(histograms(), st.integers(0, 2000), st.integers(0, 7))
def test_flipped_tables(histogram: NDArray[np.uint32], at: int, bit: int) -> None:
    data = bytearray(ans.write_tables(ans.normalize(histogram)))
    data[at % len(data)] ^= 1 << bit
    test_any_bytes_as_tables.hypothesis.inner_test(bytes(data), 1)  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("count", [10, 70000])
@pytest.mark.parametrize("alphabet", [3, 50, 200])
def test_symbols_without_frequency_are_refused(path: Path, count: int, alphabet: int) -> None:
    symbols = np.resize(np.arange(alphabet, dtype=np.uint8), count)
    frequencies = np.zeros((1, 256), np.uint16)
    frequencies[0, :alphabet] = 1
    frequencies[0, 0] = 4097 - alphabet
    symbols[count // 2] = 255
    refused(ReasonCode.BAD_TENSOR, ans.encode, symbols, frequencies, path=path)
    symbols[count // 2] = 0
    assert ans.encode(symbols, frequencies, path=path)
    twice = np.concatenate([frequencies, np.roll(frequencies, 1, axis=1)])
    table_of = np.zeros(256, np.uint8)
    table_of[1] = 1
    contexts = Contexts((symbols != 0).astype(np.uint8), table_of)
    assert ans.encode(symbols, twice, contexts, path=path)
    contexts.values[symbols == 0] = 1
    refused(ReasonCode.BAD_TENSOR, ans.encode, symbols, twice, contexts, path=path)


def test_arguments_are_checked() -> None:
    symbols = np.zeros(10, np.uint8)
    frequencies = ans.normalize(ans.histogram(symbols))
    tables = ans.write_tables(frequencies)
    code = ans.encode(symbols, frequencies)
    bad = Contexts(symbols, np.full(256, 1, np.uint8))
    for call in (
        lambda: ans.histogram(symbols, bad, 1),
        lambda: ans.encode(symbols, frequencies, bad),
        lambda: ans.decode(tables, 1, code, 10, bad),
        lambda: ans.histogram(symbols, None, 0),
        lambda: ans.read_tables(tables, 0),
        lambda: ans.read_tables(tables, 257),
        lambda: ans.write_tables(frequencies + np.uint16(1)),
        lambda: ans.write_tables(frequencies[:0]),
        lambda: ans.encode(symbols, frequencies * np.uint16(0)),
        lambda: ans.encode(symbols, frequencies.astype(np.uint32)),  # type: ignore[arg-type]
    ):
        refused(ReasonCode.BAD_OPTION, call)
    refused(ReasonCode.BUFFER_SIZE, ans.decode, tables, 1, code, 10, out=np.empty(9, np.uint8))
    refused(ReasonCode.BAD_TENSOR, ans.encode, symbols.astype(np.int8), frequencies)
    refused(ReasonCode.SHAPE_MISMATCH, ans.encode, symbols, frequencies, Contexts(symbols[:9], bad.table_of))
    for path in set(Path) - set(PATHS) - {Path.AUTO}:
        refused(ReasonCode.UNSUPPORTED_FEATURE, ans.encode, symbols, frequencies, path=path)
        refused(ReasonCode.UNSUPPORTED_FEATURE, ans.decode, tables, 1, code, 10, path=path)

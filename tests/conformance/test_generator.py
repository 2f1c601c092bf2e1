"""The generator writes what it is asked for, the same every time, and sees what is covered."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from nnbits.codec.errors import NnbitsError
from nnbits.codec.syntax import ParameterSets, UnitType, parse_unit
from nnbits.codec.syntax.codes import Hidden
from nnbits.conformance import coverage
from nnbits.conformance import generate as generate_module
from nnbits.conformance.adapters import reference
from nnbits.conformance.cases import Case, framing, pieces
from nnbits.conformance.cases.building import Levels, StreamBuilder
from nnbits.conformance.generate import generate, stale
from nnbits.conformance.manifest import DEFAULT_FOLDER, Manifest
from nnbits.conformance.synthesis import (
    MAX,
    MIN,
    Chooser,
    Poison,
    Rejected,
    declared_codes,
    domain,
    poisons,
    synthesize_unit,
)


def test_the_same_seed_gives_the_same_streams() -> None:
    first = [(case.id, case.data) for case in framing.cases(3)]
    assert first == [(case.id, case.data) for case in framing.cases(3)]
    assert first != [(case.id, case.data) for case in framing.cases(4)]
    assert len({name for name, _ in first}) == len(first)


@pytest.mark.parametrize("kind", [UnitType.NNR_MPS, UnitType.NNR_LPS, UnitType.NNR_TPL, UnitType.NNR_QNT])
def test_random_units_are_valid(kind: UnitType) -> None:
    rng = random.Random(7)
    for _ in range(30):
        unit = synthesize_unit(kind, Chooser(rng), ParameterSets(rng.getrandbits(1)))
        assert unit
    parameters = ParameterSets(1)
    data = synthesize_unit(kind, Chooser(rng), parameters)
    if kind == UnitType.NNR_MPS:
        assert parse_unit(memoryview(data), index=1, offset=4, parameters=parameters).size == len(data)


def test_extremes_are_taken() -> None:
    rng = random.Random(1)
    for end, value in ((MIN, -4096), (MAX, 4095)):
        fixed = {"lps_quantization_method_flags": 1, "lps_quantization_parameter": end}
        data = synthesize_unit(UnitType.NNR_LPS, Chooser(rng, fixed), ParameterSets(1))
        body = parse_unit(memoryview(data), index=1, offset=0, parameters=ParameterSets(1)).body
        assert getattr(body, "lps_quantization_parameter") == value  # noqa: B009


def test_rules_reject() -> None:
    builder = StreamBuilder(random.Random(1))
    with pytest.raises(Rejected):
        builder.tensor("t", codebook_present_flag=1, codebook_size=2, codebook_centre_offset=5)


def test_every_element_has_a_domain_and_ways_to_be_wrong() -> None:
    codes = dict(declared_codes())
    assert len(codes) > 100
    ways = {path: set(poisons(code)) for path, code in codes.items()}
    assert ways["nnr_unit_header.nnr_compressed_data_unit_payload_type"] == {"cut", "unknown"}
    assert "above" in ways["nnr_unit_header.count_tensor_dimensions"]
    known = 0
    for code in codes.values():
        if isinstance(code, Hidden):
            continue
        with suppress(KeyError):  # widths and orders that other elements give
            low, high = domain(code, {})
            assert not low > high
            known += 1
    assert known > 100


def test_poison_is_found_by_the_reader() -> None:
    rng = random.Random(5)
    codes = dict(declared_codes())
    poison = Poison(codes["nnr_unit_header.nnr_decompressed_data_format"], "unknown")
    builder = StreamBuilder(rng)
    fixed = {"nnr_compressed_data_unit_payload_type": 1, "nnr_multiple_topology_elements_present_flag": 0,
             "nnr_decompressed_data_format_present_flag": 1, "codebook_present_flag": 0}  # fmt: skip
    unit = synthesize_unit(UnitType.NNR_NDU, Chooser(rng, fixed, poison), builder.parameters)
    assert poison.reached
    with pytest.raises(NnbitsError) as caught:
        reference([builder.data + unit], {})
    assert caught.value.code.name == "UNKNOWN_VALUE"


def test_coverage_sees_what_a_stream_does() -> None:
    rng = random.Random(2)
    plain, dependent = StreamBuilder(rng), StreamBuilder(rng)
    plain.tensor("t", (6, 6), Levels("small"))
    dependent.tensor("t", (6, 6), Levels("small", 0.5), dq_flag=1)
    seen = []
    for builder in (plain, dependent):
        with coverage.observed() as items:
            reference([builder.data], {})
        seen.append(set(items))
    flag = "nnr_unit_header.dq_flag"
    assert ("value", flag, "min") in seen[0]
    assert ("value", flag, "max") in seen[1]
    assert not any(item[0] == "transition" for item in seen[0])
    assert any(item[0] == "transition" for item in seen[1])
    assert any(item[0] == "skipped row" for item in seen[1])
    assert seen[0] <= {*coverage.declared_items(), *coverage.entropy_items()}
    names = coverage.greedy_cover({"a": seen[0], "b": seen[0] | seen[1]}, {"a": 1, "b": 1}, seen[0] | seen[1])
    assert names == ["b"]
    with coverage.observed() as items:
        pass
    assert not items


#: Modules of cases that are quickly made; `generate --check` compares all of them.
QUICK = ("framing", "pieces", "maps", "exact", "indexes")


def test_the_kept_streams_are_those_of_the_seed() -> None:
    assert stale(modules=QUICK) == []
    assert len(stale(modules=["framing"], seed=2)) > 10


def few(_seed: int) -> Iterator[Case]:
    """Cases of two modules, one of which fails if it is kept twice."""
    for module in (framing, pieces):
        yield from module.cases(1)


def test_the_same_suite_twice_and_a_smaller_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate_module, "all_cases", few)
    made = [generate(tmp_path / name, smallest=name == "small") for name in ("one", "two", "small")]
    files = [
        {path.name: path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file()}
        for name in ("one", "two")
    ]
    assert files[0] == files[1]
    assert "manifest.json" in files[0]
    assert "COVERAGE.md" in files[0]
    (whole, seen), _, (small, seen_by_few) = made
    assert seen_by_few == seen
    assert 0 < len(small) < len([entry for entry in whole if entry.valid])
    assert all(entry.valid for entry in small)
    assert {entry.id for entry in Manifest.load(tmp_path / "small")} < {entry.id for entry in whole}


def test_the_table_of_coverage_is_of_this_declaration_and_complete() -> None:
    text = (DEFAULT_FOLDER / "COVERAGE.md").read_text(encoding="utf-8")
    assert "OPEN" not in text.split("\n\n", 3)[3]
    totals = Counter(item[0] for item in coverage.declared_items() + coverage.entropy_items())
    rows = [line.strip("| ").split(" | ") for line in text.splitlines()]
    counts = {row[0]: [int(cell) for cell in row[1:]] for row in rows if len(row) == 5 and row[4].isdigit()}
    assert {group: row[3] for group, row in counts.items()} == totals
    assert all(row[0] + row[1] == row[3] and row[2] == 0 for row in counts.values())

"""The declaration as a whole: what it may use, that nothing is lost on the way to the dataclasses, generated files."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest

from nnbits.codec.errors import ReasonCode
from nnbits.codec.syntax import (
    AccessUnitData,
    AccessUnitHeader,
    AggregateUnit,
    AttachmentUnit,
    BitMask,
    CompressedDataUnit,
    DecompositionPerformanceMap,
    EndUnit,
    IndexUnit,
    IntegerCodebook,
    LayerParameterSet,
    MetadataUnit,
    ModelParameterSet,
    PruningPerformanceMap,
    PruningTopologyContainer,
    Quantization,
    SparsificationPerformanceMap,
    StartUnit,
    Topology,
    UnificationPerformanceMap,
    UnitHeader,
    compressed_data,
    export,
    extension,
    payload,
    units,
)
from nnbits.codec.syntax.codes import Hidden

SYNTAX = Path(export.__file__).resolve().parent

#: Every table with the dataclasses that together hold its elements.
TABLES = [
    ([units.start_unit_header], StartUnit),
    ([units.model_parameter_set_unit_header, payload.model_parameter_set_payload], ModelParameterSet),
    ([units.layer_parameter_set_unit_header, payload.layer_parameter_set_payload], LayerParameterSet),
    ([units.topology_unit_header, payload.topology_payload], Topology),
    ([units.quantization_unit_header, payload.quantization_payload], Quantization),
    ([compressed_data.compressed_data_unit_header], CompressedDataUnit),
    ([units.aggregate_unit_header], AggregateUnit),
    ([compressed_data.integer_codebook], IntegerCodebook),
    ([payload.sparsification_performance_map], SparsificationPerformanceMap),
    ([payload.pruning_performance_map], PruningPerformanceMap),
    ([payload.unification_performance_map], UnificationPerformanceMap),
    ([payload.decomposition_performance_map], DecompositionPerformanceMap),
    ([payload.pruning_topology_container], PruningTopologyContainer),
    ([payload.bit_mask], BitMask),
    ([extension.metadata_body], MetadataUnit),
    ([extension.access_unit_header], AccessUnitHeader),
    ([extension.access_unit_data], AccessUnitData),
    ([extension.index_body], IndexUnit),
    ([extension.end_body], EndUnit),
    ([extension.attachment_body], AttachmentUnit),
]

#: Derived while reading, of no use outside.
INTERNAL = {"numBlockRowsMinus1"}

#: In the dataclass, but not an element.
EXTRA = {"transmitted"}


@pytest.mark.parametrize(("tables", "view"), TABLES, ids=lambda value: getattr(value, "__name__", ""))
def test_dataclasses_have_every_element_and_nothing_else(tables: list[Any], view: type[Any]) -> None:
    elements = {
        name for table in tables for name, row in table.body.names() if not isinstance(row, Hidden) and name is not None
    }
    names = {field.name for field in fields(view)}
    assert all(hasattr(view, name) or name in names for name in elements - INTERNAL)
    assert names - EXTRA <= elements


def test_every_unit_is_covered() -> None:
    covered = {id(table) for tables, _ in TABLES for table in tables}
    declared = {*map(id, units.UNIT_HEADERS.values()), *map(id, units.UNIT_PAYLOADS.values())}
    declared.remove(id(extension.extension_unit_payload))  # which is made of the tables of the kinds
    declared.update(map(id, extension.EXTENSION_BODIES.values()))
    assert declared <= covered
    assert {name for name, _ in units.unit_header.body.names()} >= {field.name for field in fields(UnitHeader)}


@pytest.mark.parametrize("path", sorted(SYNTAX.glob("*.py")), ids=lambda path: path.name)
def test_hostile_constructs_are_not_used(path: Path) -> None:
    """VarInt and Enum accept anything, Padding checks nothing, GreedyRange has no bound (and so on)."""
    code = path.read_text(encoding="utf-8")
    imported = " ".join(re.findall(r"^from construct[\w.]* import \(?([^)\n]*(?:\n[^)]*)?)", code, re.MULTILINE))
    for name in ("VarInt", "ZigZag", "Enum", "FlagsEnum", "Padding", "Padded", "Aligned", "Greedy", "RepeatUntil"):
        assert not re.search(rf"\b{name}", imported), name
        assert f"construct.{name}" not in code
    assert not re.search(r"\b(VarInt|GreedyRange|GreedyBytes|Padding|FlagsEnum)\b", code)
    assert "import construct\n" not in code
    assert len(code.splitlines()) < 600


def test_views_are_frozen() -> None:
    unit = StartUnit(1)
    with pytest.raises(FrozenInstanceError):
        unit.general_profile_idc = 2  # type: ignore[misc]


# Generated files


def test_generated_files_are_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert export.main(["--check"]) == 0, capsys.readouterr().out


def test_check_finds_stale_files(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stale = {**export.GENERATED, "docs/fields.md": lambda: "something else"}
    monkeypatch.setattr(export, "GENERATED", stale)
    assert export.main(["--check"]) == 1
    assert capsys.readouterr().out.splitlines() == ["docs/fields.md"]


def test_status_header_has_every_code() -> None:
    found = dict(re.findall(r"^  NNB_(\w+) = (\d+),?(?: /\*.*\*/)?$", export.status_header(), re.MULTILINE))
    assert found == {"OK": "0"} | {code.name: str(int(code)) for code in ReasonCode}


def test_field_tables_say_what_the_specification_says() -> None:
    lines = export.markdown().splitlines()
    for line in (
        "| nnr_unit_type | u(6) |  |  |",
        "| device_id | ue(1) | general_profile_idc == 1 && node_id_present_flag |  |",
        "| codebook_delta_left\\[j] | ue(codebook_egk) | j < CbZeroOffset | empty |",
        "| bit_offset_delta2\\[i] | ie(7) | i < numBlockRowsMinus1 && i != 0 |  |",
        "| mps_quantization_parameter | i(13) | (mps_quantization_method_flags & 3) |  |",
        "| base_model_id | st(v) | general_profile_idc == 1 && base_model_id_present_flag |  |",
    ):
        assert line in lines

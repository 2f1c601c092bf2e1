"""The headers of every vector: read, written again, traced."""

from __future__ import annotations

from typing import Any

from nnbits.codec.syntax import CompressedDataUnit, ModelParameterSet, Trace


def test_units_rebuild_to_the_same_bytes(vector: Any, walk: Any, rebuild: Any, supplied_of: Any) -> None:
    supplied = supplied_of(vector)
    units = list(walk(vector.stream, supplied))
    assert b"".join(rebuild(*unit) for unit in units) == vector.stream
    assert units[0][1].body.general_profile_idc == vector.data["general_profile_idc"]


def test_traces_of_reading_and_writing_agree(vector: Any, walk: Any, rebuild: Any, supplied_of: Any) -> None:
    read, written = Trace(), Trace()
    for unit in walk(vector.stream, supplied_of(vector), read):
        rebuild(*unit, written)
    assert read.records == written.records
    assert list(read.lines()) == list(written.lines())


def test_trace_has_no_gaps(vector: Any, walk: Any, supplied_of: Any) -> None:
    trace = Trace()
    position = 0
    for _, unit, _ in walk(vector.stream, supplied_of(vector), trace):
        assert position == 8 * unit.offset
        for record in trace.records:
            assert record.position == position
            assert record.name.startswith(f"unit[{unit.index}].")
            position += record.width
        assert position == 8 * (unit.offset + unit.payload_offset)
        position = 8 * (unit.offset + unit.size)
        trace.records.clear()


def test_names_and_shapes(vector: Any, walk: Any, supplied_of: Any) -> None:
    shapes = {}
    names = set()
    for _, unit, _ in walk(vector.stream, supplied_of(vector)):
        if isinstance(unit.body, CompressedDataUnit):
            names |= set(unit.body.names)
            if unit.body.topology_elem_id is not None and not unit.body.compressed_parameter_types:
                shapes[unit.body.topology_elem_id] = list(unit.body.tensor_dimensions)
    decoded = vector.data["decoded"]
    assert names == set(decoded)
    assert all(decoded[name]["shape"] == shape for name, shape in shapes.items())


_MAPS = {
    "spm": ("sparsification_performance_map", "spm_count_thresholds", {}),
    "ppm": ("pruning_performance_map", "ppm_count_pruning_ratios", {}),
    "upm": (
        "unification_performance_map",
        "upm_count_thresholds",
        {
            "crtd": "count_reshaped_tensor_dimension",
            "rtd": "reshaped_tensor_dimensions",
            "csbd": "count_super_block_dimension",
            "sbd": "super_block_dimensions",
            "cbd": "count_block_dimension",
            "bd": "block_dimensions",
        },
    ),
    "dpm": ("decomposition_performance_map", "dpm_count_thresholds", {}),
}


def test_parameter_set_as_recorded(vector: Any, walk: Any, supplied_of: Any) -> None:
    expected = vector.data.get("parameter_set", {})
    (mps,) = (u.body for _, u, _ in walk(vector.stream, supplied_of(vector)) if isinstance(u.body, ModelParameterSet))
    for record in vector.data["decoded"].values():
        assert record.get("qp_density", mps.mps_qp_density) == mps.mps_qp_density
    seen = 0
    for key, value in expected.items():
        if key not in _MAPS:
            assert getattr(mps, key) == value
            seen += 1
            continue
        name, count, aliases = _MAPS[key]
        view = getattr(mps, name)
        assert getattr(view, count) == value["count"]
        assert len(value["entries"]) == value["count"] - 1
        for i, entry in enumerate(value["entries"]):
            for item, recorded in entry.items():
                full = aliases.get(item) or {
                    "count_classes": f"{key}_count_classes",
                    "class_bitmask": f"{key}_class_bitmask",
                    "class_accuracy": f"{key}_nn_class_accuracy",
                }.get(item, item)
                got = getattr(view, full)[i]
                assert (list(got) if isinstance(got, tuple) else got) == recorded, full
                seen += 1
    assert bool(seen) == bool(expected)

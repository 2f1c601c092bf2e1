"""Pruned tensors in access units: sparse maps are chosen where they pay, and can be taken as they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

import nnbits
from nnbits.codec import access_encoder
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.plan import MapChoice
from nnbits.codec.sparse import MapKind

Array = np.ndarray[Any, Any]


def pruned(kind: str, shape: tuple[int, ...] = (200, 320)) -> Array:
    rng = np.random.default_rng(3)
    values = rng.normal(size=shape).astype(np.float32)
    if kind == "2:4":
        groups = np.abs(values).reshape(-1, 4)
        values.reshape(-1, 4)[np.arange(len(groups))[:, None], np.argsort(groups, axis=1)[:, :2]] = 0
    elif kind == "rows":
        values[rng.random(shape[0]) < 0.6] = 0
    elif kind != "dense":
        values[np.abs(values) < np.quantile(np.abs(values), float(kind))] = 0
    return values


@pytest.mark.parametrize("kind", ["dense", "0.5", "0.9", "0.99", "2:4", "rows"])
@pytest.mark.parametrize("parts", [False, True])
def test_pruned_tensors(kind: str, parts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if parts:
        options = {"part_bytes": 1 << 15, "group_bytes": 1 << 10}
        monkeypatch.setattr(access_encoder.plan_units, "__kwdefaults__", options)
    array = pruned(kind)
    data = nnbits.encode({"w": array, "other": np.ones((3, 5), np.float32)})
    nonzero = np.count_nonzero(array)
    small = nnbits.EncodePlan({"w": nnbits.TensorPlan("lossless")}, profile="extended", speed="small")
    assert len(data) < array.nbytes * nonzero / array.size + array.size / 8 + 6000
    with nnbits.open(data) as file:
        assert file["w"].tobytes() == array.tobytes()
        assert file.read_rows("w", 17, 120).tobytes() == array[17:120].tobytes()
        sparse, values = file.read_sparse("w")
        assert sparse.shape == array.shape
        assert sparse.value_count == len(values) >= nonzero
        assert sparse.expand(values).tobytes() == array.tobytes()
        dense = np.zeros(array.shape, np.float32)
        numbers, columns, starts = sparse.to_csr(values)
        rows = np.repeat(np.arange(len(array)), np.diff(starts))
        dense[rows, columns] = numbers
        assert dense.tobytes() == array.tobytes()
        if kind not in ("dense", "0.5"):  # of parts with few more zeros than that, some take no map
            assert len(values) < 0.6 * array.size
        assert len(nnbits.encode({"w": array}, plan=small)) <= 1.005 * len(nnbits.encode({"w": array}))


@pytest.mark.parametrize("kind", ["0.5", "0.9", "2:4", "rows", "dense"])
@pytest.mark.parametrize("choice", get_args(MapChoice))
def test_a_map_can_be_asked_for(kind: str, choice: MapChoice) -> None:
    array = pruned(kind)
    arrays = {"w": array, "packed": np.eye(40, dtype=np.int8)}
    plan = nnbits.EncodePlan(
        {name: nnbits.TensorPlan("lossless") for name in arrays}, profile="extended", sparse_map=choice
    )
    assert nnbits.EncodePlan.from_dict(plan.to_dict()) == plan
    data = nnbits.encode(arrays, plan=plan)
    found = nnbits.decode(data)
    assert all(found[name].tobytes() == array.tobytes() for name, array in arrays.items())
    with nnbits.open(data) as file:
        assert file.extended is not None
        (piece,) = [p for u in file.extended.index.piece_au for p in file.extended.access_unit(int(u)).pieces][:1]
    fits = {"dense": False}.get(kind, {"pattern": kind == "2:4", "structured": kind == "rows"}.get(choice, True))
    if choice == "none" or (choice != "size" and not fits):
        assert piece.map_kind == 0
    elif choice == "raw":
        assert piece.map_kind not in (0, MapKind.CODED)
    elif choice != "size":
        assert piece.map_kind == MapKind[choice.upper()]


def test_choices_that_do_not_exist() -> None:
    with pytest.raises(NnbitsError) as caught:
        nnbits.EncodePlan(sparse_map="best")  # type: ignore[arg-type]
    assert caught.value.code is ReasonCode.BAD_OPTION


def test_negative_zeros_are_elements() -> None:
    array = np.zeros((64, 64), np.float32)
    array[3, 5], array[9, 1] = -0.0, np.uint32(0x7FC01234).view(np.float32)
    got = nnbits.decode(nnbits.encode({"x": array}))["x"]
    assert got.tobytes() == array.tobytes()


def test_standard_streams_have_no_maps() -> None:
    with (
        nnbits.open(nnbits.encode({"x": pruned("0.9")}, profile="standard")) as file,
        pytest.raises(NnbitsError) as caught,
    ):
        file.read_sparse("x")
    assert caught.value.code is ReasonCode.UNSUPPORTED_FEATURE


def test_prune_report(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from nnbits.codec.types import Model, from_numpy
    from nnbits.formats import safetensors
    from nnbits.tools.cli import main

    invoke: Callable[..., Any] = lambda *args: CliRunner().invoke(main, [str(a) for a in args])  # noqa: E731
    source = tmp_path / "m.safetensors"
    safetensors.write(source, Model([from_numpy("w", pruned("0.9")), from_numpy("d", pruned("dense"))]))
    result = invoke("pack", source, tmp_path / "m.nnc", "--prune-report")
    assert result.exit_code == 0, result.output
    (row,) = [line.split() for line in result.stdout.splitlines() if line.startswith("w ")]
    assert row[1:4] == ["64,000", "90.0", "%"]
    report = json.loads(invoke("pack", source, tmp_path / "m.nnc", "--force", "--json").stdout)
    first, second = (tensor["sparse"] for tensor in report["tensors"])
    assert first["nonzero"] == 6400
    assert first["maps"]
    assert first["saved_bytes"] > 0
    assert first["map_bytes"] < 5000
    assert (second["nonzero"], second["maps"], second["saved_bytes"]) == (64000, [], 0)

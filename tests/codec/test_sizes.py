"""Compressed sizes of real models as a table: tests/sizes.csv. A change is a visible diff, for better or worse."""

from __future__ import annotations

import csv
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest

import nnbits
from nnbits.codec.plan import EncodePlan, Profile
from nnbits.codec.types import Model
from nnbits.formats.registry import adapter_for_file

TABLE = Path(__file__).resolve().parents[1] / "sizes.csv"
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "cifar10"
MODELS = {
    "digits": Path(str(files("nnbits") / "examples" / "digits" / "digits.safetensors")),
    "resnet20": SHARED / "resnet20.safetensors",
    "resnet56": SHARED / "resnet56.safetensors",
}


def _plan(model: Model, setting: str) -> EncodePlan:
    words = setting.removeprefix("extended ").split()
    profile: Profile = "extended" if setting.startswith("extended") else "standard"
    if words[0] == "exact":
        plan = nnbits.plan_exact(model, profile=profile)
        return replace(plan, speed="small") if words[-1] == "small" else plan
    return nnbits.plan_quantized(model, qp=int(words[1]), dependent=words[0] == "dependent", profile=profile)


SETTINGS = [
    "exact",
    *(f"{kind} {qp}" for kind in ("dependent", "uniform") for qp in (-24, -32, -40)),
    "extended exact",
    "extended exact small",
    "extended dependent -32",
]


@pytest.mark.parametrize("name", MODELS)
def test_sizes_are_those_of_the_table(name: str, request: pytest.FixtureRequest) -> None:
    if not MODELS[name].exists():
        pytest.skip(f"the shared model {name} is not there")
    model = adapter_for_file(MODELS[name]).read(MODELS[name])
    measured = {(name, s): len(nnbits.encode(model, plan=_plan(model, s))) for s in SETTINGS}
    with TABLE.open(newline="") as file:
        table = {(row["model"], row["setting"]): int(row["bytes"]) for row in csv.DictReader(file)}
    if request.config.getoption("--update-sizes"):
        table.update(measured)
        with TABLE.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["model", "setting", "bytes"])
            writer.writerows((*key, size) for key, size in table.items())
        return
    assert measured == {key: size for key, size in table.items() if key[0] == name}

"""The options of pack that choose lossless tools: same quality, other bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

import nnbits

Run = Callable[..., Result]
STANDARD = ("--profile", "standard")
DIGITS = Path(str(files("nnbits") / "examples" / "digits" / "digits.safetensors"))


def test_search_is_smaller_at_the_same_error(run: Run, tmp_path: Path) -> None:
    plain, searched = tmp_path / "plain.nnc", tmp_path / "searched.nnc"
    assert run("pack", DIGITS, plain, "--qp", "-24").exit_code == 0
    assert run("pack", DIGITS, searched, "--qp", "-24", "--search").exit_code == 0
    assert searched.stat().st_size < plain.stat().st_size
    with nnbits.open(plain) as a, nnbits.open(searched) as b:
        assert all(np.abs(a[n].astype(float) - b[n].astype(float)).max(initial=0) < 0.1 for n in a)


def test_scan_order_applies_to_large_weights(run: Run, tmp_path: Path) -> None:
    source, target, plan = tmp_path / "m.nnc", tmp_path / "s.nnc", tmp_path / "plan.json"
    weights = np.random.default_rng(0).normal(0, 0.02, (600, 256)).astype(np.float32)
    nnbits.save({"large": weights, "small": weights[:40]}, source)
    model = tmp_path / "m.safetensors"
    assert run("unpack", source, model, "--to", "safetensors").exit_code == 0
    assert run("pack", model, target, "--qp", "-32", "--scan-order", "4", "--save-plan", plan, *STANDARD).exit_code == 0
    tensors = json.loads(plan.read_text())["tensors"]
    assert (tensors["large"]["scan_order"], tensors["small"]["scan_order"]) == (4, 0)
    with nnbits.open(target) as file:
        assert len(file.stream.entry_points(file.stream.data_unit("large"))[0]) == 9
        assert np.abs(file["large"] - weights).max() < 0.01


@pytest.mark.parametrize("how", [["--qp", "-24"], ["--qp", "-24", "--uniform"], ["--bits", "6"]])
def test_lambda_trades_error_for_size(run: Run, tmp_path: Path, how: list[str]) -> None:
    plain, weighed, plan = tmp_path / "plain.nnc", tmp_path / "weighed.nnc", tmp_path / "plan.json"
    assert run("pack", DIGITS, plain, *how).exit_code == 0
    assert run("pack", DIGITS, weighed, *how, "--lambda", "1.5", "--save-plan", plan).exit_code == 0
    tensors = json.loads(plan.read_text())["tensors"]
    with nnbits.open(plain) as a, nnbits.open(weighed) as b:
        assert weighed.stat().st_size < plain.stat().st_size
        for name in a:
            is_weight = a[name].ndim > 1 and a[name].dtype.kind == "f"
            assert tensors[name]["lambda_scale"] == (1.5 if is_weight else 0)
            assert is_weight or np.array_equal(a[name], b[name])
    again = tmp_path / "again.nnc"
    assert run("pack", DIGITS, again, "--plan", plan).exit_code == 0
    assert again.read_bytes() == weighed.read_bytes()


def test_lambda_and_search_together(run: Run, tmp_path: Path) -> None:
    weighed, searched = tmp_path / "weighed.nnc", tmp_path / "searched.nnc"
    assert run("pack", DIGITS, weighed, "--qp", "-24", "--lambda", "1").exit_code == 0
    assert run("pack", DIGITS, searched, "--qp", "-24", "--lambda", "1", "--search").exit_code == 0
    assert searched.stat().st_size < weighed.stat().st_size


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--compat", "nncodec"], 5),
        (["--scan-order", "4"], 2),
        (["--scan-order", "5"], 2),
        (["--lambda", "1"], 2),
        (["--lambda", "-1", "--qp", "-24"], 2),
        (["--lambda", "nan", "--qp", "-24"], 2),
        (["--lambda", "1e31", "--qp", "-24"], 2),
    ],
)
def test_refusals(run: Run, tmp_path: Path, options: list[str], code: int) -> None:
    target = tmp_path / "x.nnc"
    assert run("pack", DIGITS, target, *options).exit_code == code
    assert not target.exists()

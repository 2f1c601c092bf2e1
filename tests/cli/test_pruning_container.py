"""pack --pruning-container: smaller files of the standard profile that come back whole; info tells what was pruned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file


def test_pack_and_info(tmp_path: Path, run: Any) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(40, 30)).astype(np.float32)
    rows[rng.permutation(40)[:20]] = 0
    scattered = np.where(rng.random((50, 60)) < 0.9, 0, rng.normal(size=(50, 60))).astype(np.float16)
    arrays = {"rows": rows, "scattered": scattered, "steps": np.arange(5)}
    source, packed = tmp_path / "m.safetensors", tmp_path / "m.nnc"
    save_file(arrays, source)
    options = ("--profile", "standard", "--pruning-container")
    result = run("pack", source, packed, *options)
    assert result.exit_code == 0, result.output
    assert packed.stat().st_size < 0.5 * source.stat().st_size
    text = run("info", packed).stdout
    assert "neurons" in text
    assert "weights" in text
    assert run("unpack", packed, tmp_path / "back.safetensors").exit_code == 0
    back = load_file(tmp_path / "back.safetensors")
    assert all(back[name].tobytes() == array.tobytes() for name, array in arrays.items())
    assert run("verify", packed).exit_code == 0
    assert run("pack", source, tmp_path / "x.nnc", "--pruning-container").exit_code == 2
    assert not (tmp_path / "x.nnc").exists()

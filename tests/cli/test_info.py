"""info: the numbers add up, tables fit the terminal, names can do no harm."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from nnbits.tools.commands import info as command

Run = Callable[..., Result]
SaveModel = Callable[..., Path]
OnTerminal = Callable[..., str]

LONG_NAME = "encoder.layer.10.attention.output.LayerNorm.weight"


def rows(text: str) -> list[list[str]]:
    """The cells of the table lines: columns are two blanks or more apart."""
    return [re.split(r" {2,}", line.strip()) for line in text.splitlines()]


STANDARD = ("--profile", "standard")


@pytest.mark.parametrize("options", [(), ("--qp", -28), STANDARD, ("--qp", -28, *STANDARD)])
def test_totals_are_the_size_of_the_file(run: Run, digits: Path, tmp_path: Path, options: tuple[object, ...]) -> None:
    path = tmp_path / "d.nnc"
    assert run("pack", digits, path, *options).exit_code == 0
    size = path.stat().st_size
    report = json.loads(run("info", path, "--json").stdout)
    assert report["size"] == size
    assert sum(unit["size"] for unit in report["units"]) == size
    offset = 0
    for index, unit in enumerate(report["units"]):
        assert (unit["index"], unit["offset"]) == (index, offset)
        offset += unit["size"]
    holders = {unit["index"]: unit for unit in report["units"] if unit["tensors"]}
    assert report["profile"] == ("standard" if "standard" in options else "extended")
    if report["profile"] == "standard":
        assert sum(unit["size"] for unit in holders.values()) == sum(tensor["bytes"] for tensor in report["tensors"])
        assert report["digest"] is None
    else:
        assert {unit["type_name"] for unit in holders.values()} == {"AU header"}
        assert sum(tensor["bytes"] for tensor in report["tensors"]) > 0.9 * size
        assert report["digest"] in run("info", path).stdout
    assert report["elements"] == sum(tensor["elements"] for tensor in report["tensors"])
    assert report["bits_per_weight"] == pytest.approx(8 * size / report["elements"])

    table = rows(run("info", path).stdout)
    tensors = {tensor["name"]: tensor for tensor in report["tensors"]}
    printed = {cells[0]: cells for cells in table if cells[0] in tensors}
    assert printed.keys() == tensors.keys()
    for name, cells in printed.items():
        assert cells[-3] == f"{tensors[name]['bytes']:,}"
    footer = {cells[0]: cells for cells in table}
    total = sum(tensor["bytes"] for tensor in report["tensors"]) + int(footer["other units"][1].replace(",", ""))
    assert total == size
    assert footer["total"][1] == f"{size:,}"

    units = [cells for cells in rows(run("info", path, "--units").stdout) if re.match(r"\d+$", cells[0])]
    assert len(units) == len(report["units"])
    assert sum(int(cells[3].replace(",", "")) for cells in units) == size


def test_json_matches_the_python_call(run: Run, stream: Path) -> None:
    report = command.info(stream)
    assert json.loads(run("info", stream, "--json").stdout) == json.loads(json.dumps(command.report_dict(report)))
    weight = next(row for row in report.tensors if row.name == "first.weight")
    assert (weight.coding, weight.qp, weight.dtype, weight.shape) == ("dependent", -20, "float32", (24, 30))
    assert weight.step == pytest.approx(2**-5)
    assert weight.bits_per_weight == pytest.approx(8 * weight.bytes / 720)
    assert report.source_format == "safetensors"
    assert report.metadata == {"made by": "a test"}


def test_names_are_whole_when_piped(run: Run, save_model: SaveModel, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_model("long", {LONG_NAME * 3: np.ones((300, 400), np.float32)})
    assert run("pack", path).exit_code == 0
    monkeypatch.setenv("COLUMNS", "40")
    for options in ((), ("--units",)):
        assert LONG_NAME * 3 in run("info", path.with_suffix(".nnc"), *options).stdout


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_tables_fit_the_terminal(run: Run, on_terminal: OnTerminal, save_model: SaveModel, columns: int) -> None:
    model = {LONG_NAME: np.ones((1024, 512, 3, 3), np.float16), "empty": np.zeros((0, 4), np.float32)}
    path = save_model("long", model)
    assert run("pack", path, *STANDARD).exit_code == 0
    for options in ([], ["--units"]):
        text = on_terminal("info", path.with_suffix(".nnc"), *options, columns=columns)
        plain = re.sub(r"\x1b\[[0-9;]*m", "", text).replace("\r", "")
        assert all(len(line) <= columns for line in plain.splitlines()), plain
        assert "…" not in plain
        if columns == 120:
            assert LONG_NAME in plain
        if not options:
            assert "1024x512x3x3" in plain
            assert "18,874," in plain


def test_names_cannot_control_the_terminal(run: Run, save_model: SaveModel) -> None:
    name = "a\x1b[31mred\nnew line [bold]b[/bold] :smile: ä\u202e"
    path = save_model("evil", {name: np.ones(3, np.float32)}, {"k\x1b[2J": "v\x07"})
    assert run("pack", path).exit_code == 0
    for options in ((), ("--units",)):
        text = run("info", path.with_suffix(".nnc"), *options).stdout
        assert not {"\x1b", "\x07", "\u202e"} & set(text)
        assert r"a\x1b[31mred\nnew line [bold]b[/bold] :smile: ä\u202e" in text
    assert json.loads(run("info", path.with_suffix(".nnc"), "--json").stdout)["tensors"][0]["name"] == name


def test_what_is_recognised(run: Run, save_model: SaveModel) -> None:
    rng = np.random.default_rng(6)
    weight = rng.normal(size=(400, 300)).astype(np.float32)
    mask = (rng.random((400, 300)) < 0.25).astype(np.float32)
    pruned = save_model(
        "pruned",
        {"fc.weight_orig": np.where(mask > 0, weight, 0).astype(np.float32), "fc.weight_mask": mask, "other": weight},
    )
    codes = rng.integers(0, 2**31, (16, 32)).astype(np.int32)
    gptq = {
        "fc.qweight": codes,
        "fc.qzeros": np.zeros((1, 4), np.int32),
        "fc.scales": rng.normal(size=(1, 32)).astype(np.float16),
        "fc.g_idx": np.zeros(128, np.int32),
    }
    for path, text in (
        (pruned, "pruned by torch.nn.utils.prune: 1 modules"),
        (save_model("q", gptq), "by gptq or awq"),
    ):
        assert run("pack", path).exit_code == 0
        assert text in run("info", path.with_suffix(".nnc")).stdout
    report = command.info(pruned.with_suffix(".nnc"))
    rows = {row.name: row for row in report.tensors}
    assert rows["fc.weight_orig"].maps
    zeros = 120_000 - int(mask.sum())
    assert 0.5 * zeros < (rows["fc.weight_orig"].zeros or 0) <= zeros
    assert (rows["other"].maps, rows["other"].zeros) == ((), None)
    assert (
        f"{100 * (rows['fc.weight_orig'].zeros or 0) / 120_000:.1f} %" in run("info", pruned.with_suffix(".nnc")).stdout
    )


def test_nothing_is_recognised_in_a_plain_model(stream: Path) -> None:
    assert command.info(stream).recognised == ()

"""demo: it runs, keeps its files, and every number of its table follows from them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from nnbits.codec.api import open_file
from nnbits.formats import safetensors
from nnbits.tools._exits import ExitCode
from nnbits.tools.commands import demo as command
from nnbits.tools.methods.evaluate import digits_accuracy

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> command.DemoReport:
    steps: list[tuple[int, int]] = []
    report = command.demo(tmp_path_factory.mktemp("demo") / "new", progress=lambda *step: steps.append(step))
    assert steps[0] == (0, len(command.SETTINGS))
    return report


def test_numbers_follow_from_the_files(finished: command.DemoReport) -> None:
    with np.load(io.BytesIO((files("nnbits") / "examples/digits/digits-test.npz").read_bytes())) as arrays:
        images, labels = arrays["images"], arrays["labels"]

    def correct(params: dict[str, Any]) -> float:
        return digits_accuracy(params, images, labels, finished.backend) * len(labels)

    model_path = finished.folder / finished.model
    original = {tensor.info.name: tensor.read() for tensor in safetensors.read(model_path)}
    assert finished.model_bytes == model_path.stat().st_size
    assert finished.elements == sum(value.size for value in original.values())
    assert finished.images == len(labels) == 450
    assert correct(original) == pytest.approx(finished.correct)
    assert finished.correct == 447
    for row in finished.rows:
        path = finished.folder / row.file
        with open_file(path) as stream:
            decoded = {name: stream[name] for name in stream}
        size = path.stat().st_size
        assert row.bytes == size
        assert row.ratio == pytest.approx(finished.model_bytes / size)
        assert row.bits_per_weight == pytest.approx(8 * size / finished.elements)
        assert correct(decoded) == pytest.approx(row.correct)
        error = max(float(np.abs(decoded[name] - value).max()) for name, value in original.items())
        assert row.max_abs_error == pytest.approx(error)
        assert row.bit_exact == all(decoded[name].tobytes() == value.tobytes() for name, value in original.items())


def test_the_settings_show_a_curve(finished: command.DemoReport) -> None:
    rows = {row.setting: row for row in finished.rows}
    assert rows["exact"].bit_exact
    assert rows["exact"].correct == finished.correct
    assert not any(row.bit_exact for name, row in rows.items() if name != "exact")
    assert any(row.correct >= finished.correct - 1 and row.ratio > 4 for row in finished.rows)
    assert any(row.correct < 0.9 * finished.correct for row in finished.rows)


def test_results_file(finished: command.DemoReport) -> None:
    results = json.loads((finished.folder / command.RESULTS_NAME).read_text())
    assert results.pop("made_by") == "nnbits demo"
    assert results == json.loads(json.dumps(command.report_dict(finished)))
    assert set(results["files"]) == {path.name for path in finished.folder.iterdir()}


def test_options_do_the_same_on_the_command_line(finished: command.DemoReport, run: Run, tmp_path: Path) -> None:
    for number, row in enumerate(finished.rows):
        path = tmp_path / f"{number}.nnc"
        assert run("pack", finished.folder / finished.model, path, *row.options.split()).exit_code == 0
        assert path.read_bytes() == (finished.folder / row.file).read_bytes()


def test_command_and_second_run(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "SETTINGS", command.SETTINGS[:2])
    result = run("demo")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert "447/450" in result.stdout
    assert "nnbits-demo" in result.stdout
    kept = {path.name: path.read_bytes() for path in (tmp_path / command.DEFAULT_FOLDER).iterdir()}
    result = run("demo", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["folder"] == command.DEFAULT_FOLDER
    assert [row["setting"] for row in report["rows"]] == [setting.name for setting in command.SETTINGS]
    assert {path.name: path.read_bytes() for path in (tmp_path / command.DEFAULT_FOLDER).iterdir()} == kept


@pytest.mark.parametrize("name", [command.MODEL_NAME, command.RESULTS_NAME, command.SETTINGS[-1].file])
def test_files_of_others_are_left_alone(run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"precious")
    result = run("demo", "--out", tmp_path)
    assert result.exit_code == ExitCode.EXISTS
    assert name in result.stderr
    assert "--out" in result.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {name: b"precious"}


def test_folder_cannot_be_made(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    result = run("demo", "--out", tmp_path / "file")
    assert result.exit_code == ExitCode.IO
    assert "Traceback" not in result.stderr

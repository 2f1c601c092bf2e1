"""Where outputs go: by argument, by -o, to standard output; and what inputs of the wrong kind are told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

import nnbits
from nnbits.tools._exits import ExitCode
from nnbits.tools.cli import main

Run = Callable[..., Result]
RunProcess = Callable[..., "subprocess.CompletedProcess[str]"]


def test_output_by_option(run: Run, model: Path, tmp_path: Path) -> None:
    packed, back = tmp_path / "p.nnc", tmp_path / "b.safetensors"
    assert run("pack", model, "-o", packed).exit_code == 0
    assert run("unpack", packed, "--out", back).exit_code == 0
    assert back.read_bytes() == model.read_bytes()
    result = run("unpack", packed, tmp_path / "c.safetensors", "-o", tmp_path / "d.safetensors")
    assert result.exit_code == ExitCode.USAGE
    assert "twice" in result.stderr


def test_unpack_to_standard_output(stream: Path, model: Path, run: Run) -> None:
    result = CliRunner().invoke(main, ["unpack", str(stream), "-"])
    assert result.exit_code == 0
    assert "5 tensors" in result.stderr
    assert run("unpack", stream, "-o", stream.with_name("b.safetensors")).exit_code == 0
    assert result.stdout_bytes == stream.with_name("b.safetensors").read_bytes()
    piped = CliRunner().invoke(main, ["unpack", "-", "-", "--quiet"], input=stream.read_bytes())
    assert (piped.stdout_bytes, piped.stderr) == (result.stdout_bytes, "")
    assert CliRunner().invoke(main, ["unpack", str(stream), "-", "--to", "npz", "-q"]).stdout_bytes[:2] == b"PK"


def test_a_folder_does_not_fit_standard_output(run: Run, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder-v1.5"
    folder.mkdir()
    model.rename(folder / "m.safetensors")
    assert run("pack", folder, tmp_path / "f.nnc").exit_code == 0
    result = run("unpack", tmp_path / "f.nnc", "-")
    assert (result.exit_code, result.stdout) == (ExitCode.USAGE, "")
    assert run("unpack", tmp_path / "f.nnc", tmp_path / "back-v1.6").exit_code == 0
    assert [path.name for path in (tmp_path / "back-v1.6").iterdir()] == ["m.safetensors"]


def inputs_and_outputs(command: click.Command) -> list[str]:
    return [p.name or "" for p in command.params if isinstance(p.type, click.Path) and isinstance(p, click.Argument)]


@pytest.mark.parametrize("name", sorted(name for name, c in main.commands.items() if inputs_and_outputs(c)))
def test_standard_input_and_output_work_or_are_refused(run: Run, name: str) -> None:
    """No command takes - for the name of a file that is not there."""
    command = main.commands[name]
    arguments = ["-" for _ in inputs_and_outputs(command)]
    possible = {"pack": "target", "unpack": "source target", "info": "source"}.get(name, "")
    if set(inputs_and_outputs(command)) <= set(possible.split()):
        result = CliRunner().invoke(main, [name, *arguments], input=b"no stream")
        assert result.exit_code == ExitCode.DAMAGED
        return
    required = {"replace": ["a=b"], "sign": ["--key", "k"], "apply": ["-o", "x"], "extract": ["x"]}.get(name, [])
    result = run(name, *arguments, *required)
    assert result.exit_code == ExitCode.USAGE
    assert "not possible here" in result.stderr


@pytest.mark.parametrize("command", ["info", "verify", "unpack", "report"])
def test_a_model_file_in_place_of_a_stream(run: Run, model: Path, command: str) -> None:
    result = run(command, model)
    assert result.exit_code == ExitCode.DAMAGED
    assert f"pack it first, nnbits pack {model}" in result.output
    text = model.with_name("text.txt")
    text.write_text("no model")
    assert "pack it first" not in run(command, text).output


def test_replacing_checks_the_shape(run: Run, model: Path) -> None:
    stream, new = model.with_suffix(".nnc"), model.with_name("new.npy")
    assert run("pack", model).exit_code == 0
    before = stream.read_bytes()
    np.save(new, np.ones((2, 2), np.float32))
    result = run("replace", stream, f"first.weight={new}")
    assert result.exit_code == ExitCode.USAGE
    assert "float32 2x2" in result.stderr
    assert "float32 24x30" in result.stderr
    assert stream.read_bytes() == before
    assert run("replace", stream, f"first.weight={new}", "--any-shape").exit_code == 0
    with nnbits.open(stream) as file:
        assert file["first.weight"].shape == (2, 2)


def test_a_file_with_a_replaced_tensor_comes_back(run: Run, tmp_path: Path) -> None:
    source, new, back = tmp_path / "m.npz", tmp_path / "new.npy", tmp_path / "back.npz"
    np.savez(source, a=np.arange(100, dtype=np.float32), b=np.zeros(3))
    np.save(new, np.ones(100, np.float32))
    assert run("pack", source).exit_code == 0
    assert run("replace", source.with_suffix(".nnc"), f"a={new}").exit_code == 0
    assert run("unpack", source.with_suffix(".nnc"), back).exit_code == 0
    with np.load(back) as loaded:
        assert (loaded["a"] == 1).all()
        assert (loaded["b"] == 0).all()
    assert run("convert", source.with_suffix(".nnc"), back, "--force").exit_code == 0


def test_report_beside_the_stream(run: Run, stream: Path) -> None:
    assert run("report", stream).exit_code == 0
    assert stream.with_suffix(".html").read_text().startswith("<!doctype html>")


def test_interrupted_while_starting() -> None:
    """Control-C before anything of nnbits is loaded leaves no traceback."""
    code = (
        "import sys, builtins\n"
        "real = builtins.__import__\n"
        "def stop(name, *rest):\n"
        "    if name == 'click': raise KeyboardInterrupt\n"
        "    return real(name, *rest)\n"
        "builtins.__import__ = stop\n"
        "from nnbits.__main__ import main\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (ExitCode.INTERRUPTED, "nnbits: interrupted\n")

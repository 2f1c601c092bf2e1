"""Fixtures of the command line tests: models, streams, and two ways to run the command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from nnbits.codec.types import Model, from_numpy
from nnbits.formats import safetensors
from nnbits.tools.cli import main

MAIN = "from nnbits.tools.cli import main; main()"


@pytest.fixture
def run() -> Callable[..., Result]:
    """Run the command in this process; standard output is no terminal."""

    def invoke(*args: object) -> Result:
        return CliRunner().invoke(main, [str(arg) for arg in args])

    return invoke


@pytest.fixture
def run_process() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command in a process of its own; ``before`` is Python that runs in it first."""

    def invoke(*args: object, before: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", f"{before}\n{MAIN}", *(str(arg) for arg in args)]
        if not {"stdout", "stderr", "capture_output"} & set(options):
            options["capture_output"] = True
        return subprocess.run(command, text=True, timeout=120, check=False, **options)

    return invoke


@pytest.fixture
def on_terminal() -> Callable[..., str]:
    """What the command writes to a terminal of a given width."""
    if sys.platform == "win32":
        pytest.skip("needs pseudo-terminals")
    import fcntl
    import pty
    import struct
    import termios

    unset = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
    environment = {key: value for key, value in os.environ.items() if key not in unset}
    environment |= {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"}

    def invoke(*args: object, columns: int = 80) -> str:
        ours, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        command = [sys.executable, "-c", MAIN, *(str(arg) for arg in args)]
        process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment)
        os.close(terminal)
        text = b""
        with suppress(OSError):  # how Linux says that the other end is closed
            while part := os.read(ours, 65536):
                text += part
        os.close(ours)
        assert process.wait(timeout=60) == 0
        return text.decode()

    return invoke


@pytest.fixture
def save_model(tmp_path: Path) -> Callable[..., Path]:
    """Write arrays to ``NAME.safetensors`` in the test's folder."""

    def write(name: str, arrays: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> Path:
        path = tmp_path / f"{name}.safetensors"
        tensors = [from_numpy(key, np.asarray(value)) for key, value in arrays.items()]
        safetensors.write(path, Model(tensors, metadata or {}))
        return path

    return write


@pytest.fixture
def model(save_model: Callable[..., Path]) -> Path:
    """A small model of several element types."""
    rng = np.random.default_rng(1)
    return save_model(
        "model",
        {
            "first.weight": rng.normal(size=(24, 30)).astype(np.float32),
            "first.bias": rng.normal(size=24).astype(np.float16),
            "counts": np.arange(-5, 5, dtype=np.int16),
            "steps": np.int64(7),
            "mask": np.array([True, False, True]),
        },
        {"made by": "a test"},
    )


@pytest.fixture
def stream(model: Path, run: Callable[..., Result]) -> Path:
    """``model``, packed at QP -20."""
    path = model.with_name("stream.nnc")
    result = run("pack", model, path, "--qp", -20)
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture
def standard_stream(model: Path, run: Callable[..., Result]) -> Path:
    """``model``, packed at QP -20 in the standard profile."""
    path = model.with_name("stream.nnc")
    result = run("pack", model, path, "--qp", -20, "--profile", "standard")
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the digits model."""
    path = tmp_path_factory.mktemp("digits") / "digits.safetensors"
    with as_file(files("nnbits") / "examples" / "digits" / "digits.safetensors") as source:
        path.write_bytes(source.read_bytes())
    return path


@pytest.fixture
def names(tmp_path: Path) -> Callable[[], set[str]]:
    """Names of all files in the test's folder, hidden ones too."""
    return lambda: {path.name for path in tmp_path.iterdir()}

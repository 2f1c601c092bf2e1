"""Every failure has its exit code, says what is wrong and with which file, and leaves no file behind."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.tools._exits import EXIT_TEXTS, ExitCode, error_text, exit_code

Run = Callable[..., Result]
RunProcess = Callable[..., "subprocess.CompletedProcess[str]"]
SaveModel = Callable[..., Path]
Names = Callable[[], set[str]]

PARAMETERS_END = 12  #: of the start unit and the model parameter set of our streams, bytes
#: Set after the import, which may build the C core in a development installation.
OUTPUT_SIZE_LIMIT = "import nnbits.codec.api, resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"
NO_SPACE = f"import os\ndef full(fd): raise OSError({errno.ENOSPC}, 'No space left on device')\nos.fsync = full"


def signal_before_publishing(name: str) -> str:
    """Send a signal when the output is written completely, but does not have its name yet.

    What started the tests may have them ignore signals (``nohup``, a job in the background); the process does not.
    """
    default = "signal.default_int_handler" if name == "SIGINT" else "signal.SIG_DFL"
    return (
        "import os, signal, time\n"
        f"signal.signal(signal.{name}, {default})\n"
        "import nnbits.codec.atomic as atomic\n"
        "def stop(fd):\n"
        f"    os.kill(os.getpid(), signal.{name})\n"
        "    time.sleep(20)\n"
        "atomic._sync = stop\n"
    )


def reason(result: Result | subprocess.CompletedProcess[str]) -> str:
    return str(json.loads(result.stdout)["error"]["code"])


def test_every_reason_has_an_exit_code_and_every_exit_code_a_text(run: Run) -> None:
    for code in ReasonCode:
        assert exit_code(code) not in (ExitCode.OK, ExitCode.INTERRUPTED)
    help_text = run("--help").stdout
    for exit_, text in EXIT_TEXTS.items():
        assert f"{exit_.value:>3}  {text}" in help_text
    assert {exit_code(code) for code in ReasonCode} <= set(EXIT_TEXTS)


@pytest.mark.parametrize("command", ["pack", "unpack", "info"])
def test_missing_input(run: Run, tmp_path: Path, names: Names, command: str) -> None:
    result = run(command, tmp_path / "nothing.bin")
    assert result.exit_code == ExitCode.NOT_FOUND
    assert result.stderr.startswith("nnbits: error: ")
    assert "nothing.bin" in result.stderr
    assert result.stdout == ""
    assert reason(run(command, tmp_path / "nothing.bin", "--json")) == "FILE_NOT_FOUND"
    assert names() == set()


def test_missing_plan(run: Run, model: Path) -> None:
    result = run("pack", model, "--plan", model.with_name("plan.json"))
    assert result.exit_code == ExitCode.NOT_FOUND
    assert "plan.json" in result.stderr


@pytest.mark.parametrize(
    "content",
    [b"", b"hello, this is no model\n", b"\x89PNG\r\n\x1a\n" + bytes(50), bytes(100)],
    ids=["empty", "text", "image", "zeros"],
)
def test_pack_of_something_else(run: Run, tmp_path: Path, names: Names, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    result = run("pack", path)
    assert result.exit_code == ExitCode.DAMAGED
    assert "model.safetensors" in result.stderr
    assert reason(run("pack", path, "--json")) == "FILE_FORMAT"
    assert names() == {"model.safetensors"}


def test_pack_of_a_cut_model(run: Run, model: Path, names: Names) -> None:
    model.write_bytes(model.read_bytes()[:-1])
    result = run("pack", model)
    assert result.exit_code == ExitCode.DAMAGED
    assert "model.safetensors" in result.stderr
    assert names() == {"model.safetensors"}


def test_pack_of_a_stream(run: Run, stream: Path) -> None:
    result = run("pack", stream, stream.with_name("out.nnc"))
    assert result.exit_code == ExitCode.DAMAGED
    assert "already coded" in result.stderr


@pytest.mark.parametrize("command", ["unpack", "info"])
@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"hello, this is no stream\n", bytes(100)],
    ids=["empty", "one byte", "text", "zeros"],
)
def test_not_a_stream(run: Run, tmp_path: Path, names: Names, command: str, content: bytes) -> None:
    path = tmp_path / "model.nnc"
    path.write_bytes(content)
    result = run(command, path)
    assert result.exit_code == ExitCode.DAMAGED
    assert "model.nnc" in result.stderr
    reasons = ("NOT_NNC",) if content.startswith(b"hello") else ("NOT_NNC", "TRUNCATED", "UNIT_SIZE")
    assert reason(run(command, path, "--json")) in reasons
    assert names() == {"model.nnc"}


@pytest.mark.parametrize("command", ["pack", "unpack", "info"])
def test_folder_as_input(run: Run, tmp_path: Path, command: str) -> None:
    result = run(command, tmp_path)
    assert result.exit_code == ExitCode.DAMAGED
    assert "folder" in result.stderr


def test_messages_name_the_right_file(run: Run, stream: Path) -> None:
    target = stream.with_name("there.safetensors")
    target.write_bytes(b"")
    message = run("unpack", stream, target).stderr
    assert message.startswith(f"nnbits: error: {target} already exists\n")
    assert stream.name not in message


def test_contradictions_are_told_first(run: Run, model: Path, stream: Path) -> None:
    result = run("pack", model, stream, "--qp", -20, "--bits", 3)
    assert result.exit_code == ExitCode.USAGE
    assert "--qp and --bits exclude each other" in result.stderr
    result = run("pack", model, "--qp", 128)
    assert "--qp 128 lies outside -128..127" in result.stderr


def test_cut_stream(run: Run, stream: Path, names: Names) -> None:
    data = stream.read_bytes()
    cut = stream.with_name("cut.nnc")
    before = names() | {"cut.nnc"}
    for size in [*range(1, 40), len(data) // 2, len(data) - 1]:
        if size == PARAMETERS_END:
            continue  # the next test
        cut.write_bytes(data[:size])
        for command in ("unpack", "info"):
            result = run(command, cut, "--json")
            assert result.exit_code == ExitCode.DAMAGED, size
            assert reason(result) in ("TRUNCATED", "NOT_NNC"), size
    assert reason(run("unpack", cut, "--json")) == "TRUNCATED"
    message = run("unpack", cut).stderr
    assert "cut.nnc" in message
    assert "byte" in message
    assert names() == before


def test_damaged_stream(run: Run, standard_stream: Path, names: Names) -> None:
    """Whatever byte is wrong, it is no bug of ours, also where only decoding a payload finds it."""
    data = standard_stream.read_bytes()
    damaged, back = (standard_stream.with_name(name) for name in ("damaged.nnc", "back.safetensors"))
    before = names() | {damaged.name}
    codes = set()
    for position in range(0, len(data), 3):
        damaged.write_bytes(data[:position] + bytes([data[position] ^ 0x55]) + data[position + 1 :])
        result = run("unpack", damaged, back, "--json")
        assert result.exit_code in (ExitCode.OK, ExitCode.DAMAGED, ExitCode.UNSUPPORTED), (position, result.stdout)
        if result.exit_code == ExitCode.OK:
            back.unlink()
        else:
            codes.add(reason(result))
        assert names() == before
    assert "CABAC_END" in codes


def test_cut_behind_the_parameters(run: Run, standard_stream: Path) -> None:
    """What is left is whole units, but says that more follows: topology_carriage_flag is set."""
    data = standard_stream.read_bytes()
    assert data[PARAMETERS_END + 2] >> 2 == 3  # the topology unit begins there
    standard_stream.write_bytes(data[:PARAMETERS_END])
    result = run("info", standard_stream, "--json")
    assert result.exit_code == ExitCode.DAMAGED
    assert reason(result) == "TRUNCATED"


def test_unknown_element_type(run: Run, tmp_path: Path, names: Names) -> None:
    header = json.dumps({"w": {"dtype": "F3_E1M1", "shape": [8], "data_offsets": [0, 3]}}).encode()
    path = tmp_path / "three.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(3))
    result = run("pack", path)
    assert result.exit_code == ExitCode.DAMAGED
    assert "F3_E1M1" in result.stderr
    assert names() == {"three.safetensors"}


@pytest.mark.parametrize(
    ("dtype", "values"), [("float64", [0.1, 0.2]), ("int64", [2**40]), ("uint32", [2**32 - 1]), ("uint64", [2**63])]
)
def test_what_cannot_be_exact_is_refused(
    run: Run, save_model: SaveModel, names: Names, dtype: str, values: list[float]
) -> None:
    path = save_model("wide", {"fine": np.zeros(3, np.float32), "too wide": np.array(values, dtype)})
    result = run("pack", path, "--profile", "standard")
    assert result.exit_code == ExitCode.IMPOSSIBLE
    assert "'too wide'" in result.stderr
    assert dtype in result.stderr
    assert reason(run("pack", path, "--profile", "standard", "--json")) == "NOT_EXACT"
    assert names() == {"wide.safetensors"}


def test_existing_output(run: Run, model: Path, stream: Path) -> None:
    for command, source, name in (("pack", model, "out.nnc"), ("unpack", stream, "out.safetensors")):
        target = model.with_name(name)
        target.write_bytes(b"precious")
        result = run(command, source, target)
        assert result.exit_code == ExitCode.EXISTS
        assert name in result.stderr
        assert "--force" in result.stderr
        assert reason(run(command, source, target, "--json")) == "FILE_EXISTS"
        assert target.read_bytes() == b"precious"
        assert run(command, source, target, "--force").exit_code == ExitCode.OK
        assert target.read_bytes() != b"precious"


def test_existing_plan(run: Run, model: Path, names: Names) -> None:
    plan = model.with_name("plan.json")
    plan.write_text("precious")
    before = names()
    result = run("pack", model, model.with_name("out.nnc"), "--save-plan", plan)
    assert result.exit_code == ExitCode.EXISTS
    assert plan.read_text() == "precious"
    assert names() == before


def test_no_plan_without_a_stream(run: Run, save_model: SaveModel, names: Names) -> None:
    path = save_model("wide", {"w": np.array([0.1])})
    assert (
        run("pack", path, "--save-plan", path.with_name("plan.json"), "--profile", "standard").exit_code
        == ExitCode.IMPOSSIBLE
    )
    assert names() == {"wide.safetensors"}


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_output_is_the_input(run: Run, model: Path, stream: Path, force: tuple[str, ...]) -> None:
    for command, path in (("pack", model), ("unpack", stream)):
        before = path.read_bytes()
        to = ("--to", "safetensors") if command == "unpack" else ()
        result = run(command, path, path, *to, *force)
        assert result.exit_code == ExitCode.USAGE
        assert "is the input" in result.stderr
        assert path.read_bytes() == before


def test_output_in_a_missing_folder_or_in_place_of_one(run: Run, model: Path, tmp_path: Path, names: Names) -> None:
    before = names()
    for target, force in ((tmp_path / "no" / "such.nnc", ()), (tmp_path, ()), (tmp_path, ("--force",))):
        result = run("pack", model, target, *force)
        assert result.exit_code == ExitCode.IO
        assert str(target) in result.stderr
    assert names() == before


@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits there")
@pytest.mark.parametrize("before", [OUTPUT_SIZE_LIMIT, NO_SPACE], ids=["file size limit", "no space"])
@pytest.mark.parametrize("command", ["pack", "unpack"])
def test_disk_full(run_process: RunProcess, model: Path, stream: Path, names: Names, command: str, before: str) -> None:
    source = model if command == "pack" else stream
    files = names()
    result = run_process(command, source, model.with_name("out.safetensors"), before=before)
    assert result.returncode == ExitCode.IO, result.stderr
    assert "out.safetensors" in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) == 2
    result = run_process(command, source, model.with_name("out.safetensors"), "--json", before=before)
    assert result.returncode == ExitCode.IO
    assert reason(result) == "FILE_IO"
    assert names() == files


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_standard_output_full(run_process: RunProcess, stream: Path) -> None:
    with Path("/dev/full").open("w") as full:
        for options in ((), ("--json",), ("--units",)):
            result = run_process("info", stream, *options, stdout=full, stderr=subprocess.PIPE)
            assert result.returncode == ExitCode.IO, result.stderr
            assert "Traceback" not in result.stderr
            assert "Exception ignored" not in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals work differently there")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
@pytest.mark.parametrize("command", ["pack", "unpack"])
def test_interrupted(
    run_process: RunProcess, model: Path, stream: Path, names: Names, command: str, name: str, code: int
) -> None:
    source = model if command == "pack" else stream
    files = names()
    before = signal_before_publishing(name)
    result = run_process(command, source, model.with_name("out.safetensors"), "--json", before=before)
    assert result.returncode == code, result.stderr
    assert result.stderr.strip() == ("nnbits: interrupted" if name == "SIGINT" else "")
    assert names() == files


@pytest.mark.skipif(sys.platform == "win32", reason="pipes work differently there")
@pytest.mark.parametrize("args", [("--help",), ("info", "STREAM"), ("info", "STREAM", "--json"), ("info", "--help")])
def test_reader_of_a_pipe_is_gone(run_process: RunProcess, stream: Path, args: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [str(stream) if arg == "STREAM" else arg for arg in args]
        result = run_process(*command, stdout=writer, stderr=subprocess.PIPE)
    finally:
        os.close(writer)
    assert result.stderr == ""
    assert result.returncode == ExitCode.BROKEN_PIPE


@pytest.mark.parametrize(
    "args",
    [
        ("pack",),
        ("pack", "IN", "--no-such-option"),
        ("pack", "IN", "--qp", "-20", "--bits", "4"),
        ("pack", "IN", "--qp", "-20", "--plan", "plan.json"),
        ("pack", "IN", "--qp", "1000"),
        ("pack", "IN", "--qp", "x"),
        ("pack", "IN", "--nonweight-qp", "-20"),
        ("pack", "IN", "--nonweight-qp", "-20", "--bits", "4"),
        ("pack", "IN", "--uniform"),
        ("pack", "IN", "--density", "3"),
        ("pack", "IN", "--density", "8", "--qp", "-20"),
        ("pack", "IN", "--bits", "1"),
        ("pack", "IN", "--profile", "other"),
        ("pack", "IN", "--threads", "0"),
        ("unpack", "IN", "--to", "nonsense"),
        ("unpack", "IN", "out.nonsense"),
        ("nonsense",),
    ],
)
def test_wrong_usage(run: Run, model: Path, stream: Path, names: Names, args: tuple[str, ...]) -> None:
    source = stream if args[0] == "unpack" else model
    command = [str(source) if arg == "IN" else arg for arg in args]
    files = names()
    result = run(*command)
    assert result.exit_code == ExitCode.USAGE
    assert result.stdout == ""
    assert result.stderr
    result = run(*command, "--json")
    assert result.exit_code == ExitCode.USAGE
    error = json.loads(result.stdout)["error"]
    assert (error["code"], error["exit_code"]) == ("BAD_OPTION", 2)
    assert names() == files


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("no JSON", ExitCode.DAMAGED),
        ("[1, 2]", ExitCode.DAMAGED),
        ('{"tensors": 3}', ExitCode.USAGE),
        ('{"tensors": {"first.weight": 3}}', ExitCode.USAGE),
        ('{"tensors": {}}', ExitCode.USAGE),
        ('{"tensors": {"first.weight": {"coding": "nonsense"}}}', ExitCode.USAGE),
        ('{"nonsense": 1}', ExitCode.USAGE),
    ],
)
def test_wrong_plan(run: Run, model: Path, names: Names, content: str, code: ExitCode) -> None:
    plan = model.with_name("plan.json")
    plan.write_text(content)
    result = run("pack", model, "--plan", plan)
    assert result.exit_code == code, result.stderr
    assert result.stderr.startswith("nnbits: error: ")
    assert names() == {"model.safetensors", "plan.json"}


def test_a_bug_asks_for_a_report(run: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **options: object) -> None:
        raise RuntimeError("something impossible")

    monkeypatch.setattr("nnbits.tools.commands.pack.pack", broken)
    result = run("pack", model)
    assert result.exit_code == ExitCode.INTERNAL
    assert "RuntimeError: something impossible" in result.stderr
    assert "report" in result.stderr
    result = run("pack", model, "--json")
    assert result.exit_code == ExitCode.INTERNAL
    assert reason(result) == "INTERNAL"


@pytest.mark.parametrize(
    ("error", "code", "name"),
    [
        (MemoryError(), ExitCode.UNSUPPORTED, "MEMORY_BUDGET"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), ExitCode.IO, "FILE_IO"),
    ],
)
def test_errors_of_the_system(
    run: Run, model: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: ExitCode, name: str
) -> None:
    def broken(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("nnbits.tools.commands.pack.pack", broken)
    result = run("pack", model, "--json")
    assert result.exit_code == code
    assert reason(result) == name
    assert "Traceback" not in result.stderr


def test_error_text() -> None:
    error = NnbitsError(ReasonCode.TRUNCATED, "cut", path="unit[3]", offset=17, hint="Fetch it again")
    assert error_text(error) == "nnbits: error: cut (at unit[3], byte 17)\n  Fetch it again"
    error = NnbitsError(ReasonCode.FILE_EXISTS, "a.nnc is there", path="a.nnc")
    assert error_text(error) == "nnbits: error: a.nnc is there"

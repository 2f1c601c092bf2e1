"""The runner fails where it must: wrong tensors, accepted invalid streams, crashes, hangs, memory, no output."""

from __future__ import annotations

import faulthandler
import json
import os
import re
import resource
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.syntax import SuppliedParameters
from nnbits.conformance.adapters import core
from nnbits.conformance.manifest import Entry, Manifest
from nnbits.conformance.report import by_feature, to_html, to_json, to_junit
from nnbits.conformance.results import Outcome, Result, Verdict, judge, read_output
from nnbits.conformance.runner import CallableDecoder, CommandDecoder, Limits, run

Streams = Sequence[bytes]
Supplied = Mapping[str, SuppliedParameters]


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return Manifest.load()


@pytest.fixture(scope="module")
def few(manifest: Manifest) -> list[Entry]:
    """Valid streams with tensors, and invalid ones."""
    valid = [e for e in manifest if e.valid and e.tensors and e.size < 2000][:5]
    return valid + [e for e in manifest if not e.valid and e.size < 500][:5]


def run_function(function: Any, manifest: Manifest, entries: list[Entry], **limits: Any) -> list[Outcome]:
    decoder = CallableDecoder(function, limits=Limits(**{"seconds": 30, "memory": 4 << 30, **limits}))
    return run(decoder, manifest, entries=entries, strict=True)


def test_a_right_decoder_passes(manifest: Manifest, few: list[Entry]) -> None:
    outcomes = run_function(core, manifest, few)
    assert [o.status for o in outcomes] == ["pass"] * len(few)
    assert [o.entry for o in outcomes] == few
    assert all(o.result is not None and o.result.peak_kib > 0 for o in outcomes)


def failing(function: Any, manifest: Manifest, entries: list[Entry], **limits: Any) -> set[str]:
    outcomes = run_function(function, manifest, entries, **limits)
    assert all(o.status == "fail" for o in outcomes)
    return {o.reason for o in outcomes}


def test_a_wrong_bit_fails(manifest: Manifest, few: list[Entry]) -> None:
    def wrong(streams: Streams, supplied: Supplied) -> dict[str, Any]:
        tensors = core(streams, supplied)
        for array in tensors.values():
            if array.size:
                array.reshape(-1).view(np.uint8)[0] ^= 1
        return tensors

    entries = [e for e in few if e.valid and any(np.prod(t.shape) for t in e.tensors)]
    assert entries
    assert failing(wrong, manifest, entries) == {"wrong tensor"}


@pytest.mark.parametrize("change", ["missing", "more", "dtype", "shape", "sign of zero"])
def test_wrong_tensors_fail(manifest: Manifest, few: list[Entry], change: str) -> None:
    def wrong(streams: Streams, supplied: Supplied) -> dict[str, Any]:
        tensors = core(streams, supplied)
        first = next(iter(tensors))
        if change == "missing":
            del tensors[first]
        elif change == "more":
            tensors["one more"] = np.zeros(1, np.float32)
        elif change == "dtype":
            tensors[first] = tensors[first].view(np.dtype(f"u{tensors[first].dtype.itemsize}"))
        elif change == "shape":
            tensors[first] = tensors[first][None]
        else:
            tensors[first] = np.full(tensors[first].shape, -0.0, tensors[first].dtype)
        return tensors

    assert failing(wrong, manifest, [e for e in few if e.valid]) == {"wrong tensor"}


def test_a_decoder_that_accepts_everything_fails(manifest: Manifest, few: list[Entry]) -> None:
    assert failing(lambda *_: {}, manifest, [e for e in few if not e.valid]) == {"accepted"}


def test_a_decoder_that_refuses_everything_fails(manifest: Manifest, few: list[Entry]) -> None:
    def refuse(*_: Any) -> dict[str, Any]:
        raise NnbitsError(ReasonCode.TRUNCATED, "no", offset=0)

    assert failing(refuse, manifest, [e for e in few if e.valid]) == {"refused"}


def test_wrong_codes_and_places_fail_if_strict(manifest: Manifest) -> None:
    entry = next(e for e in manifest if e.code == "UNIT_ORDER")
    assert entry.unit_offset is not None
    right = Verdict("UNIT_ORDER", entry.unit_offset)
    for verdict, reason in (
        (right, ""),
        (replace(right, code="TRUNCATED"), "wrong code"),
        (replace(right, offset=entry.size + 1), "wrong offset"),
        (replace(right, code=None), "no verdict"),
    ):
        assert judge(entry, Result("refused", verdict=verdict), strict=True).reason == reason
        assert judge(entry, Result("refused", verdict=verdict)).status == "pass"


def test_crashes_fail(manifest: Manifest, few: list[Entry]) -> None:
    def raises(*_: Any) -> dict[str, Any]:
        raise KeyError("oops")

    def dies(*_: Any) -> dict[str, Any]:
        faulthandler.disable()
        os.kill(os.getpid(), signal.SIGSEGV)
        return {}

    def leaves(*_: Any) -> dict[str, Any]:
        os._exit(0)

    def bug(*_: Any) -> dict[str, Any]:
        raise NnbitsError(ReasonCode.INTERNAL, "a bug")

    for function in (raises, dies, leaves, bug):
        with pytest.MonkeyPatch.context():
            assert failing(function, manifest, few[:1] + few[-1:]) <= {"crashed"}


def test_a_decoder_that_never_ends_is_stopped(manifest: Manifest, few: list[Entry]) -> None:
    def hangs(*_: Any) -> dict[str, Any]:
        time.sleep(60)
        return {}

    start = time.monotonic()
    assert failing(hangs, manifest, few[:1], seconds=0.3) == {"timeout"}
    assert time.monotonic() - start < 20


def test_too_much_memory_fails(manifest: Manifest, few: list[Entry]) -> None:
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10  # a child's peak is no less

    def greedy(*_: Any) -> dict[str, Any]:
        block = bytearray(own + (300 << 20))
        raise NnbitsError(ReasonCode.TRUNCATED, str(len(block)))

    unbounded = {"memory": 200 << 20, "enforce_memory": False}
    assert failing(greedy, manifest, few[-1:], **unbounded) == {"memory"}


def test_no_stream_is_not_a_pass(manifest: Manifest) -> None:
    with pytest.raises(NnbitsError) as caught:
        run(CallableDecoder(core), manifest, entries=[])
    assert caught.value.code == ReasonCode.FILE_FORMAT


def test_a_stream_that_is_not_there(tmp_path: Path, manifest: Manifest, few: list[Entry]) -> None:
    """Missing, changed or unlisted files stop the run before anything passes."""
    suite = tmp_path / "suite"
    shutil.copytree(manifest.folder, suite, ignore=shutil.ignore_patterns("*.py", "*.md", "*.c"))
    path = suite / few[0].file
    whole = path.read_bytes()
    for change in (path.unlink, lambda: path.write_bytes(whole[:-1] + b"x")):
        change()
        with pytest.raises(NnbitsError) as caught:
            run(CallableDecoder(core), Manifest.load(suite), entries=few[:1])
        assert caught.value.code in (ReasonCode.FILE_NOT_FOUND, ReasonCode.FILE_FORMAT)
    path.write_bytes(whole)
    (suite / "streams" / "valid" / "new.nnc").write_bytes(whole)
    with pytest.raises(NnbitsError) as caught:
        Manifest.load(suite)
    assert caught.value.code == ReasonCode.FILE_FORMAT


def test_features_that_are_not_claimed_are_skipped(manifest: Manifest, few: list[Entry]) -> None:
    decoder = CallableDecoder(core, without={few[0].features[0]})
    assert run(decoder, manifest, entries=few[:1])[0].status == "skip"


# ---- commands

PROGRAM = """
import sys, pathlib
out = pathlib.Path(sys.argv[-1])
{body}
"""


def command(tmp_path: Path, body: str, *words: str) -> CommandDecoder:
    script = tmp_path / "decoder.py"
    script.write_text(PROGRAM.format(body=body))
    return CommandDecoder([sys.executable, str(script), *words, "{in}", "{out}"], limits=Limits(30, 2 << 30))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("sys.exit(0)", "misused"),
        ("(out / 'tensors.txt').write_text('')", "wrong tensor"),
        ("(out / 'tensors.txt').write_text('nonsense')", "misused"),
        ("(out / 'tensors.txt').write_text('=61 float32 3 ../../x')", "misused"),
        ("sys.exit(1)", "refused"),
        ("sys.exit(2)", "crashed"),
        ("raise KeyError('oops')", "crashed"),
        ("raise MemoryError", "crashed"),
        ("import os; os.abort()", "crashed"),
    ],
)
def test_commands_fail(tmp_path: Path, manifest: Manifest, few: list[Entry], body: str, reason: str) -> None:
    outcome = run(command(tmp_path, body), manifest, entries=few[:1])[0]
    assert (outcome.status, outcome.reason) == ("fail", reason)


@pytest.mark.parametrize("body", ["raise KeyError('oops')", "import os; os.abort()", "sys.exit(2)"])
def test_a_command_that_fails_has_not_refused(tmp_path: Path, manifest: Manifest, few: list[Entry], body: str) -> None:
    outcome = run(command(tmp_path, body), manifest, entries=few[-1:])[0]
    assert (few[-1].valid, outcome.status, outcome.reason) == (False, "fail", "crashed")


def test_a_command_that_hangs_is_stopped_with_its_children(
    tmp_path: Path, manifest: Manifest, few: list[Entry]
) -> None:
    mark = tmp_path / "child"
    body = f"""
import subprocess
child = subprocess.Popen(['sleep', '60'])
pathlib.Path({str(mark)!r}).write_text(str(child.pid))
child.wait()
"""
    decoder = command(tmp_path, body)
    decoder.limits = Limits(5, 2 << 30)
    assert run(decoder, manifest, entries=few[:1])[0].reason == "timeout"
    child = int(mark.read_text())
    until = time.monotonic() + 10
    while _runs(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _runs(child)


def _runs(process: int) -> bool:
    """Not gone, nor a zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_command_that_takes_too_much_memory(tmp_path: Path, manifest: Manifest, few: list[Entry]) -> None:
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10  # a child's peak is no less
    body = f"block = bytearray({own + (300 << 20)}); sys.exit(1)"
    for enforce, reason in ((True, "crashed"), (False, "memory")):
        decoder = command(tmp_path, body)
        decoder.limits = Limits(30, 200 << 20, enforce_memory=enforce)
        assert run(decoder, manifest, entries=few[-1:])[0].reason == reason


@pytest.mark.parametrize("form", ["txt", "npz"])
def test_a_command_passes(tmp_path: Path, manifest: Manifest, few: list[Entry], form: str) -> None:
    body = f"""
import numpy as np
from nnbits.conformance.adapters import core
from nnbits.codec.errors import NnbitsError
try:
    tensors = core([pathlib.Path(p).read_bytes() for p in sys.argv[1:-1]], {{}})
except NnbitsError as error:
    (out / 'verdict.txt').write_text(f'{{int(error.code)}} {{error.offset}}')
    sys.exit(1)
if {form!r} == 'npz':
    np.savez(out / 'tensors.npz', **tensors)
else:
    lines = []
    for k, (name, a) in enumerate(tensors.items()):
        (out / f'{{k}}.bin').write_bytes(a.tobytes())
        shape = 'x'.join(map(str, a.shape)) or 'scalar'
        lines.append(f'={{name.encode().hex()}} {{a.dtype.name}} {{shape}} {{k}}.bin')
    (out / 'tensors.txt').write_text('\\n'.join(lines))
"""
    outcomes = run(command(tmp_path, body), manifest, entries=few, strict=True)
    assert [(o.status, o.reason, o.detail) for o in outcomes] == [("pass", "", "")] * len(few)


def test_a_command_without_places_is_refused() -> None:
    for words in (["decode", "{in}"], ["decode", "{out}"]):
        with pytest.raises(NnbitsError) as caught:
            CommandDecoder(words)
        assert caught.value.code == ReasonCode.BAD_OPTION


def test_a_command_that_does_not_exist(manifest: Manifest, few: list[Entry]) -> None:
    with pytest.raises(NnbitsError) as caught:
        run(CommandDecoder(["/no/such/decoder", "{in}", "{out}"]), manifest, entries=few[:1])
    assert caught.value.code == ReasonCode.BAD_OPTION


def test_safetensors_output(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"a": np.arange(6, dtype=np.int16).reshape(2, 3)}, str(tmp_path / "tensors.safetensors"))
    found = read_output(tmp_path)["a"]
    assert (found.dtype, found.shape) == ("int16", (2, 3))
    np.savez(tmp_path / "tensors.npz", a=1)
    with pytest.raises(ValueError, match="holds"):
        read_output(tmp_path)


# ---- reports


def some_outcomes(manifest: Manifest, few: list[Entry]) -> list[Outcome]:
    """A pass, a skip, a wrong answer, and every way of giving none."""
    wrong = [
        Outcome(few[0], "fail", reason, "\x00 & <é>", Result("decoded")) for reason in ("wrong tensor", "accepted")
    ]
    none = [judge(few[0], Result(end, seconds=0.5)) for end in ("crashed", "timeout", "memory", "misused")]
    return [Outcome(few[0], "pass"), Outcome(few[1], "skip", "not claimed", "x"), *wrong, *none]


def test_reports(manifest: Manifest, few: list[Entry]) -> None:
    outcomes = some_outcomes(manifest, few)
    body = json.loads(json.dumps(to_json("x", outcomes)))
    assert [s["id"] for s in body["streams"]] == [o.entry.id for o in outcomes]
    assert [s["status"] for s in body["streams"]] == ["pass", "skip", *["fail"] * 6]
    page = to_html("<x>", outcomes)
    assert "&lt;x&gt;" in page
    assert page.count('class="fail"') == 6
    assert (by_feature(outcomes)[-1].failed, by_feature(outcomes)[-1].skipped) == (6, 1)


def test_junit_is_what_its_readers_want(manifest: Manifest, few: list[Entry]) -> None:
    """Elements, order and attributes that the schemas of Ant and Jenkins require."""
    root = ElementTree.fromstring(to_junit("cmd \x1b[1m <&", some_outcomes(manifest, few)))
    assert root.tag == "testsuite"
    assert set(root.attrib) == {
        "name", "timestamp", "hostname", "tests", "failures", "errors", "skipped", "time"
    }  # fmt: skip
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", root.attrib["timestamp"])
    assert float(root.attrib["time"]) == 2
    counts = {"tests": 8, "failures": 2, "errors": 4, "skipped": 1}
    assert {name: int(root.attrib[name]) for name in counts} == counts
    assert [child.tag for child in root] == ["properties", *["testcase"] * 8, "system-out", "system-err"]
    cases = root.findall("testcase")
    assert all(set(case.attrib) == {"name", "classname", "time"} and len(case) <= 1 for case in cases)
    assert [case[0].tag if len(case) else "" for case in cases] == ["", "skipped", *["failure"] * 2, *["error"] * 4]
    assert all(child.get("type") for case in cases for child in case if child.tag != "skipped")

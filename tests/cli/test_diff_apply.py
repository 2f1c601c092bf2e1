"""diff and apply: receivers arrive where the sender is, exact means exact, and nothing else gets through."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from nnbits.codec import chain as chain_module
from nnbits.codec.api import open_file, plan_quantized
from nnbits.codec.chain import UpdateChain, model_digest
from nnbits.codec.decode import Stream
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.types import Array, Model, from_numpy, to_numpy
from nnbits.formats import safetensors
from nnbits.tools.commands.apply import apply
from nnbits.tools.commands.diff import diff

Run = Callable[..., Result]
SaveModel = Callable[..., Path]
Names = Callable[[], set[str]]
OnTerminal = Callable[..., str]

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "updates.md"
QP = ("--qp", -24)
STANDARD = ("--profile", "standard")


def ok(result: Result) -> Result:
    assert result.exit_code == 0, result.output
    return result


def error_of(result: Result) -> dict[str, Any]:
    return dict(json.loads(result.stdout)["error"])


def arrays(path: Path) -> dict[str, Array]:
    return {t.info.name: to_numpy(t.info, t.read()) for t in safetensors.read(path)}


def same(a: dict[str, Array], b: dict[str, Array]) -> bool:
    return a.keys() == b.keys() and all(a[n].dtype == b[n].dtype and a[n].tobytes() == b[n].tobytes() for n in a)


def digest(path: Path) -> str:
    return "nnbits-sha256:" + model_digest((t.info, t.read()) for t in safetensors.read(path))


@dataclass(frozen=True)
class Versions:
    """The digits model and three versions of it that follow each other; where test outputs go."""

    base: Path
    new: tuple[Path, Path, Path]

    def updates(self, run: Run, *options: object) -> list[Path]:
        """The updates to the three versions."""
        made: list[Path] = []
        for number, version in enumerate(self.new, 1):
            update = self.base.with_name(f"update{number}.nnc")
            after = [word for path in made for word in ("--after", path)]
            ok(run("diff", self.base, version, update, *after, *options))
            made.append(update)
        return made


@pytest.fixture
def versions(digits: Path, save_model: SaveModel) -> Versions:
    """Some weights change each time, in the second step only those of convolutions, as training may leave them."""
    rng = np.random.default_rng(5)
    tensors = arrays(digits)
    base = save_model("base", tensors)
    steps = []
    for number in range(3):
        for name, array in list(tensors.items()):
            if array.dtype.kind == "i":
                tensors[name] = array + 10
            elif number != 1 or "conv" in name:
                changed = rng.random(array.shape) < 0.2
                tensors[name] = (array + changed * rng.normal(0, 0.02, array.shape)).astype(array.dtype)
        steps.append(save_model(f"v{number + 1}", tensors))
    return Versions(base, (steps[0], steps[1], steps[2]))


@pytest.mark.parametrize(
    "options",
    [
        QP,
        (*QP, "--full"),
        (*QP, "--uniform", "--density", 3, "--nonweight-qp", -60),
        ("--bits", 6),
        (*QP, "--no-temporal", "--no-history"),
        (),
        ("--full",),
        STANDARD,
    ],
)
def test_receivers_arrive_where_the_sender_is(
    run: Run, versions: Versions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[object, ...]
) -> None:
    sent: list[dict[str, Array]] = []

    def watch(original: Callable[..., bytes]) -> Callable[..., bytes]:
        def watched(self: UpdateChain, *args: Any, **kwargs: Any) -> bytes:
            stream = original(self, *args, **kwargs)
            sent.append({t.info.name: to_numpy(t.info, t.read().copy()) for t in self.model()})
            return stream

        return watched

    for name in ("encode", "encode_exact"):
        monkeypatch.setattr(chain_module.UpdateChain, name, watch(getattr(UpdateChain, name)))
    updates = versions.updates(run, *options)
    assert len(sent) == 3
    for number, state in enumerate(sent, 1):
        out = tmp_path / f"out{number}.safetensors"
        ok(run("apply", versions.base, *updates[:number], "-o", out))
        assert same(arrays(out), state)
        if "--qp" not in options and "--bits" not in options:
            assert out.read_bytes() == versions.new[number - 1].read_bytes()
        else:
            assert 0 < max(np.abs(state[n] - a).max() for n, a in arrays(versions.new[number - 1]).items()) < 0.1


def test_streams_as_base_as_new_model_and_as_result(run: Run, versions: Versions, tmp_path: Path) -> None:
    base, new = tmp_path / "base.nnc", tmp_path / "new.stream"
    ok(run("pack", versions.base, base))
    ok(run("pack", versions.new[0], new))
    ok(run("diff", base, new, tmp_path / "a.nnc", *QP, "--threads", 1))
    ok(run("diff", versions.base, versions.new[0], tmp_path / "b.nnc", *QP, "--threads", 3))
    assert (tmp_path / "a.nnc").read_bytes() == (tmp_path / "b.nnc").read_bytes()
    out = tmp_path / "out.safetensors"
    ok(run("apply", versions.base, tmp_path / "a.nnc", "-o", out, "--threads", 1))
    ok(run("apply", base, tmp_path / "a.nnc", "-o", tmp_path / "out.nnc"))
    ok(run("apply", base, tmp_path / "a.nnc", "-o", tmp_path / "out.bin", "--to", "nnc"))
    ok(run("apply", base, tmp_path / "a.nnc", "-o", tmp_path / "again", "--to", "safetensors"))
    assert (tmp_path / "out.nnc").read_bytes() == (tmp_path / "out.bin").read_bytes()
    assert (tmp_path / "again").read_bytes() == out.read_bytes()
    ok(run("unpack", tmp_path / "out.nnc", tmp_path / "unpacked.safetensors"))
    assert (tmp_path / "unpacked.safetensors").read_bytes() == out.read_bytes()


def test_tensors_and_metadata_come_and_go(run: Run, model: Path, save_model: SaveModel, tmp_path: Path) -> None:
    version = arrays(model)
    version["first.bias"] = version["first.bias"] + np.float16(0.5)
    version["counts"] = version["counts"] + np.int16(3)
    version["steps"] = np.array(8)
    del version["mask"]
    version["more"] = np.full((2, 3), 0.25, np.float16)
    new = save_model("new", version, {"made by": "another test", "more": "1"})
    report = json.loads(ok(run("diff", model, new, tmp_path / "u.nnc", "--json", *STANDARD)).stdout)
    changes = {tensor["name"]: tensor["change"] for tensor in report["tensors"]}
    assert changes == {"first.bias": "full", "counts": "difference", "steps": "full", "more": "new"}
    standard = tmp_path / "standard.safetensors"
    ok(run("apply", model, tmp_path / "u.nnc", "-o", standard))
    assert same(arrays(standard), dict(sorted(version.items())) | version)
    report = json.loads(ok(run("diff", model, new, tmp_path / "u.nnc", "--json", "--force")).stdout)
    changes = {tensor["name"]: tensor["change"] for tensor in report["tensors"]}
    assert set(changes) == {"first.bias", "counts", "steps", "more"}
    assert changes["more"] == "new"
    assert report["unchanged"] == ["first.weight"]
    assert report["removed"] == ["mask"]
    text = ok(run("diff", model, new, tmp_path / "u.nnc", "--force")).stdout
    assert "3 changed, 1 unchanged, 1 new, 1 removed" in text
    out = tmp_path / "out.safetensors"
    ok(run("apply", model, tmp_path / "u.nnc", "-o", out))
    assert out.read_bytes() == new.read_bytes()
    assert dict(safetensors.read(out).metadata) == {"made by": "another test", "more": "1"}


def test_nothing_changed(run: Run, versions: Versions, tmp_path: Path) -> None:
    report = json.loads(ok(run("diff", versions.base, versions.base, tmp_path / "u.nnc", "--json", *QP)).stdout)
    assert report["tensors"] == []
    assert report["exact"]
    assert report["max_abs_error"] == 0
    out = tmp_path / "out.safetensors"
    ok(run("apply", versions.base, tmp_path / "u.nnc", "-o", out))
    assert out.read_bytes() == versions.base.read_bytes()
    assert "an update" in ok(run("info", tmp_path / "u.nnc")).stdout
    assert run("unpack", tmp_path / "u.nnc", "--to", "safetensors").exit_code == 4


def test_numbers_of_diff(run: Run, save_model: SaveModel, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    old = {"w": rng.normal(0, 0.1, (40, 50)).astype(np.float32), "still": np.ones((4, 4), np.float32)}
    new = {"w": old["w"] + np.float32(0.1), "still": old["still"] + np.float32(1e-6)}
    update = tmp_path / "u.nnc"
    report = json.loads(
        ok(run("diff", save_model("old", old), save_model("new", new), update, "--json", "--compare", *QP)).stdout
    )
    assert report["too_small"] == ["still"]
    assert report["bytes"] == update.stat().st_size
    ok(run("pack", tmp_path / "new.safetensors", tmp_path / "whole.nnc", *QP))
    assert report["whole_bytes"] == (tmp_path / "whole.nnc").stat().st_size
    (sent,) = report["tensors"]
    assert (sent["name"], sent["change"], sent["coding"], sent["qp"]) == ("w", "difference", "dependent", -24)
    assert 0 < sent["bytes"] < report["bytes"]
    ok(run("apply", tmp_path / "old.safetensors", update, "-o", tmp_path / "out.safetensors"))
    got = arrays(tmp_path / "out.safetensors")
    assert report["max_abs_error"] == max(float(np.abs(got[n].astype(float) - a).max()) for n, a in new.items()) > 0
    assert report["base_model_id"] == digest(tmp_path / "old.safetensors")
    assert report["digest"] == digest(tmp_path / "out.safetensors")
    text = ok(run("diff", tmp_path / "old.safetensors", tmp_path / "new.safetensors", update, "--force", *QP)).stdout
    assert "1 changed, 0 unchanged, 1 too little changed to send" in text
    assert f"{report['bytes']:,} bytes" in text
    assert "packed whole" not in text


def test_bits_are_about_the_differences(run: Run, save_model: SaveModel, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    old = {"w": rng.normal(0, 1, (40, 50)).astype(np.float32)}
    new = {"w": (old["w"] + rng.uniform(-1e-3, 1e-3, (40, 50))).astype(np.float32)}
    args = save_model("old", old), save_model("new", new), tmp_path / "u.nnc", "--bits", 8, "--json"
    assert json.loads(ok(run("diff", *args)).stdout)["max_abs_error"] < 1e-4
    assert json.loads(ok(run("diff", *args, "--full", "--force")).stdout)["max_abs_error"] > 1e-3


def test_values_without_a_difference_are_sent_complete(run: Run, save_model: SaveModel, tmp_path: Path) -> None:
    top = np.finfo(np.float32).max
    old = {"a": np.full((3, 3), np.inf, np.float32), "b": np.full((3, 3), -top, np.float32), "c": np.ones((3, 3))}
    new = {"a": np.full((3, 3), 0.5, np.float32), "b": np.full((3, 3), top, np.float32), "c": np.full((3, 3), np.nan)}
    base, update, out = save_model("old", old), tmp_path / "u.nnc", tmp_path / "out.safetensors"
    report = json.loads(ok(run("diff", base, save_model("new", new), update, "--json", *QP)).stdout)
    assert report["exact"]
    ok(run("apply", base, update, "-o", out))
    assert out.read_bytes() == (tmp_path / "new.safetensors").read_bytes()


def test_json_of_apply(run: Run, versions: Versions, tmp_path: Path) -> None:
    updates = versions.updates(run, *QP)
    out = tmp_path / "out.safetensors"
    report = json.loads(ok(run("apply", versions.base, *updates, "-o", out, "--json")).stdout)
    assert report["updates"] == [str(path) for path in updates]
    assert report["update_bytes"] == sum(path.stat().st_size for path in updates)
    assert report["file_bytes"] == out.stat().st_size
    assert report["format"] == "safetensors"
    assert report["tensors"] == len(arrays(out))
    assert report["digest"] == digest(out)
    text = ok(run("apply", versions.base, *updates, "-o", out, "--force")).stdout
    assert "3 updates" in text
    assert report["digest"] in text


def test_quiet(run: Run, versions: Versions, tmp_path: Path) -> None:
    assert ok(run("diff", versions.base, versions.new[0], tmp_path / "u.nnc", "-q")).output == ""
    assert ok(run("apply", versions.base, tmp_path / "u.nnc", "-o", tmp_path / "out.nnc", "-q")).output == ""


def test_python_calls_report_progress(versions: Versions, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    diff(versions.base, versions.new[0], tmp_path / "u.nnc", qp=-24, progress=lambda *step: seen.append(step))
    assert seen[0][0] == 0
    assert seen[-1][0] == seen[-1][1] > 0
    for name in ("out.safetensors", "out.nnc"):
        seen.clear()
        apply(versions.base, [tmp_path / "u.nnc"], tmp_path / name, progress=lambda *step: seen.append(step))
        assert seen[0][0] == 0
        assert seen[-1][0] == seen[-1][1] > 0
    with pytest.raises(NnbitsError) as caught:
        apply(versions.base, [], tmp_path / "none.nnc")
    assert caught.value.code is ReasonCode.BAD_OPTION


def test_progress_on_a_terminal(on_terminal: OnTerminal, versions: Versions, tmp_path: Path) -> None:
    assert "Comparing" in on_terminal("diff", versions.base, versions.new[0], tmp_path / "u.nnc")
    assert "Applying" in on_terminal("apply", versions.base, tmp_path / "u.nnc", "-o", tmp_path / "out.nnc")


# ---- refusals: exit codes, messages, and no output left behind


@pytest.mark.parametrize("options", [QP, ()], ids=["quantized", "exact"])
def test_wrong_base_and_wrong_order(
    run: Run, versions: Versions, tmp_path: Path, names: Names, options: tuple[object, ...]
) -> None:
    first, second, third = versions.updates(run, *options)
    reached = tmp_path / "reached.safetensors"
    ok(run("apply", versions.base, first, "-o", reached))
    files = names()
    for base, updates, culprit, found, wanted in (
        (versions.base, [second], second, versions.base, reached),
        (versions.base, [first, first], first, reached, versions.base),
        (versions.base, [second, first], second, versions.base, reached),
        (reached, [first, second], first, reached, versions.base),
        (versions.base, [first, third], third, reached, None),
    ):
        args = ("apply", base, *updates, "-o", tmp_path / "out.safetensors")
        result = run(*args)
        assert result.exit_code == 4
        assert result.stdout == ""
        assert result.stderr.startswith(f"nnbits: error: {culprit}: ")
        assert digest(found) in result.stderr
        assert wanted is None or digest(wanted) in result.stderr
        assert "in order" in result.stderr
        assert error_of(run(*args, "--json"))["code"] == "BASE_MISMATCH"
        result = run("diff", base, versions.new[2], tmp_path / "u.nnc", *(w for u in updates for w in ("--after", u)))
        assert result.exit_code == 4
        assert str(culprit) in result.stderr
    assert names() == files


def test_missing_base_tensor(run: Run, versions: Versions, save_model: SaveModel, tmp_path: Path, names: Names) -> None:
    (first, *_) = versions.updates(run, *QP)
    fewer = arrays(versions.base)
    gone = next(name for name, array in fewer.items() if array.ndim > 1)
    del fewer[gone]
    base = save_model("fewer", fewer)
    files = names()
    args = ("apply", base, first, "-o", tmp_path / "out.safetensors", "--json")
    assert error_of(run(*args))["code"] == "BASE_MISMATCH"
    result = run(*args, "--no-check-base")
    assert result.exit_code == 4
    assert error_of(result)["code"] == "BASE_MISSING"
    assert gone in error_of(result)["message"]
    assert names() == files


def test_without_the_check_another_base_is_accepted(run: Run, versions: Versions, tmp_path: Path) -> None:
    (first, *_) = versions.updates(run, *QP)
    out = tmp_path / "out.safetensors"
    ok(run("apply", versions.new[1], first, "-o", out, "--no-check-base"))
    ok(run("apply", versions.base, first, "-o", tmp_path / "right.safetensors"))
    old, right, base = arrays(versions.new[1]), arrays(tmp_path / "right.safetensors"), arrays(versions.base)
    for name, array in arrays(out).items():
        if array.dtype.kind == "f":
            assert np.abs((array - old[name]) - (right[name] - base[name])).max() < 1e-6


def test_cut_and_damaged_updates(run: Run, versions: Versions, tmp_path: Path, names: Names) -> None:
    first, second, _ = versions.updates(run, *QP)
    data = second.read_bytes()
    files = names()
    for size in (0, 1, 11, 200, len(data) // 2, len(data) - 1):
        second.write_bytes(data[:size])
        for command in (
            ("apply", versions.base, first, second, "-o", tmp_path / "out.safetensors"),
            ("diff", versions.base, versions.new[2], tmp_path / "u.nnc", "--after", first, "--after", second),
        ):
            result = run(*command)
            assert result.exit_code == 4, size
            assert str(second) in result.stderr
    second.write_bytes(data[:-4] + bytes([b ^ 0x55 for b in data[-4:]]))
    assert run("apply", versions.base, first, second, "-o", tmp_path / "out.safetensors").exit_code == 4
    assert names() == files


def test_models_are_no_updates_and_updates_no_models(
    run: Run, versions: Versions, tmp_path: Path, names: Names
) -> None:
    exact, full, quantized = tmp_path / "e.nnc", tmp_path / "f.nnc", tmp_path / "q.nnc"
    ok(run("diff", versions.base, versions.new[0], exact))
    ok(run("diff", versions.base, versions.new[0], full, *QP, "--full"))
    ok(run("diff", versions.base, versions.new[0], quantized, *QP))
    ok(run("pack", versions.base, tmp_path / "packed.nnc"))
    files = names()
    out = tmp_path / "out.safetensors"
    for update in (exact, full, quantized):
        for command in (
            ("unpack", update, out),
            ("unpack", update),
            ("apply", update, quantized, "-o", out),
            ("diff", update, versions.base, out),
            ("diff", versions.base, update, out),
        ):
            result = run(*command)
            assert result.exit_code == 4
            assert "is an update, not a model" in result.stderr
            assert "nnbits apply BASE" in result.stderr
            assert digest(versions.base) in result.stderr
            assert error_of(run(*command, "--json"))["code"] == "BASE_MISSING"
    for options in ((), ("--no-check-base",)):
        result = run("apply", versions.base, tmp_path / "packed.nnc", "-o", out, *options)
        assert result.exit_code == 4
        assert "not an update" in result.stderr
    assert run("apply", versions.base, versions.new[0], "-o", out).exit_code == 4
    assert names() == files


@contextmanager
def foreign_streams() -> Iterator[None]:
    """Take from every stream what only nnbits writes into it, as if another encoder had made it."""
    original = Stream.__init__

    def init(self: Stream, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.source = replace(self.source, count=None, update=None, format=None, removed=(), metadata={})
        self.mps = replace(self.mps, base_model_id=None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stream, "__init__", init)
        yield


def test_updates_of_other_encoders(run: Run, save_model: SaveModel, tmp_path: Path) -> None:
    old = {"w": np.ones((4, 5), np.float32)}
    base, update, out = save_model("old", old), tmp_path / "u.nnc", tmp_path / "out.safetensors"
    ok(run("diff", base, save_model("new", {"w": old["w"] * 1.5}), update, *QP))
    ok(run("pack", base, tmp_path / "whole.nnc", "--profile", "standard", *QP))
    with foreign_streams():
        assert "presumably differences" in ok(run("info", update)).stdout
        ok(run("apply", base, update, "-o", out))
        assert np.abs(arrays(out)["w"] - 1.5).max() < 0.02
        whole = ("apply", base, tmp_path / "whole.nnc", "-o", out, "--force")
        result = run(*whole)
        assert result.exit_code == 4
        assert "--no-check-base" in result.stderr
        ok(run(*whole, "--no-check-base"))
        assert np.abs(arrays(out)["w"] - 2).max() < 0.02


def test_existing_outputs_and_outputs_that_are_inputs(run: Run, versions: Versions, tmp_path: Path) -> None:
    update, out = tmp_path / "u.nnc", tmp_path / "out.safetensors"
    for target, command in (
        (update, ("diff", versions.base, versions.new[0], update)),
        (out, ("apply", versions.base, update, "-o", out)),
    ):
        target.write_bytes(b"precious")
        result = run(*command)
        assert result.exit_code == 7
        assert "--force" in result.stderr
        assert target.read_bytes() == b"precious"
        ok(run(*command, "--force"))
        assert target.read_bytes() != b"precious"
    base = versions.base.read_bytes()
    for command in (
        ("diff", versions.base, versions.new[0], versions.base),
        ("diff", versions.base, versions.new[0], versions.new[0]),
        ("diff", versions.base, versions.new[1], update, "--after", update),
        ("apply", versions.base, update, "-o", versions.base),
        ("apply", versions.base, update, "-o", update),
    ):
        result = run(*command, "--force")
        assert result.exit_code == 2
        assert "is the input" in result.stderr
    assert versions.base.read_bytes() == base


def test_missing_files_and_wrong_options(run: Run, versions: Versions, tmp_path: Path, names: Names) -> None:
    update = tmp_path / "u.nnc"
    ok(run("diff", versions.base, versions.new[0], update))
    folder = tmp_path / "folder"
    folder.mkdir()
    files = names()
    missing, out = tmp_path / "missing", tmp_path / "out.safetensors"
    base, new = versions.base, versions.new[0]
    for command, code in (
        (("diff", missing, new, out), 3),
        (("diff", base, missing, out), 3),
        (("diff", base, new, out, "--after", missing), 3),
        (("apply", missing, update, "-o", out), 3),
        (("apply", base, update, missing, "-o", out), 3),
        (("diff", folder, new, out), 4),
        (("diff", base, new), 2),
        (("diff", base, new, out, "--qp", -20, "--bits", 4), 2),
        (("diff", missing, missing, out, "--uniform"), 2),
        (("apply", base, update), 2),
        (("apply", base, "-o", out), 2),
        (("apply", base, update, "-o", tmp_path / "out.xyz"), 2),
        (("apply", base, update, "-o", out, "--to", "xyz"), 2),
        (("apply", base, update, "-o", missing / "out.nnc"), 8),
    ):
        result = run(*command)
        assert result.exit_code == code, (command, result.output)
    assert names() == files


def test_what_is_neither_a_model_nor_a_stream(run: Run, versions: Versions, tmp_path: Path) -> None:
    for name, content, text in (
        ("text", b"hello, this is no model\n", "no model file"),
        ("text.nnc", b"hello, this is no stream\n", "start unit"),
        ("cut.nnc", b"\x00\x05", "cut.nnc"),
        ("empty", b"", "is empty"),
    ):
        (tmp_path / name).write_bytes(content)
        result = run("diff", tmp_path / name, versions.base, tmp_path / "u.nnc")
        assert result.exit_code == 4
        assert name in result.stderr
        assert text in result.stderr


def test_what_an_update_cannot_do(run: Run, save_model: SaveModel, tmp_path: Path) -> None:
    low, high = np.full(3, -(2**31), np.int32), np.full(3, 2**31 - 1, np.int32)
    old = save_model("old", {"a": np.ones((3, 4), np.float32), "n": low, "d": np.array([0.5, 0.25])})
    other = save_model("other", {"a": np.ones((4, 3), np.float32), "n": low, "d": np.array([0.5, 0.25])})
    far = save_model("far", {"a": np.ones((3, 4), np.float32), "n": high, "d": np.array([0.5, 0.25])})
    fine = save_model("fine", {"a": np.ones((3, 4), np.float32), "n": low, "d": np.array([0.1, 0.2])})
    update = tmp_path / "u.nnc"
    for options in (QP, STANDARD):
        result = run("diff", old, other, update, *options)
        assert result.exit_code == 4
        assert "pack the new model instead" in result.stderr
    ok(run("diff", old, far, update, *STANDARD))  # the differences overflow: sent complete
    update.unlink()
    assert run("diff", old, fine, update, *STANDARD).exit_code == 6
    assert run("diff", old, fine, update, *QP, "--profile", "extended").exit_code == 2
    assert not update.exists()
    for new in (other, far, fine):  # exact updates can
        ok(run("diff", old, new, update, "--force"))
        ok(run("apply", old, update, "-o", tmp_path / "out.safetensors", "--force"))
        assert (tmp_path / "out.safetensors").read_bytes() == new.read_bytes()
    assert json.loads(ok(run("diff", old, fine, update, "--json", "--force", *QP)).stdout)["max_abs_error"] < 0.01


def test_info_of_updates(run: Run, versions: Versions, tmp_path: Path) -> None:
    for options, mode, words in (
        (QP, "difference", "differences to the values"),
        ((*QP, "--full"), "full", "complete tensors"),
        (STANDARD, "difference", "differences to the values"),
        ((), "exact", "changed bits"),
    ):
        update = tmp_path / "u.nnc"
        ok(run("diff", versions.base, versions.new[0], update, "--force", *options))
        text = ok(run("info", update)).stdout
        assert "an update, not a model" in text
        assert words in text
        assert digest(versions.base) in text
        report = json.loads(ok(run("info", update, "--json")).stdout)
        assert (report["update"], report["base_model_id"], report["removed"]) == (mode, digest(versions.base), [])
    ok(run("pack", versions.base, tmp_path / "packed.nnc"))
    assert "an update" not in ok(run("info", tmp_path / "packed.nnc")).stdout
    report = json.loads(ok(run("info", tmp_path / "packed.nnc", "--json")).stdout)
    assert (report["update"], report["base_model_id"]) == (None, None)


def test_the_chain_of_the_library_reads_updates_of_the_command(run: Run, versions: Versions) -> None:
    updates = versions.updates(run, *QP)
    chain = UpdateChain(safetensors.read(versions.base))
    for update in updates:
        with open_file(update) as stream:
            chain.apply(stream.stream)
    new = Model([from_numpy(name, array) for name, array in arrays(versions.new[2]).items()])
    again = chain.encode(new, plan_quantized(new, qp=-24))
    assert len(Stream(memoryview(again)).tensors) < len(new.tensors)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_the_guide_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"```(python|sh)\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert [kind for kind, _ in blocks].count("sh") > 4
    main = "from nnbits.tools.cli import main; main()"
    prelude = f'set -eu\nnnbits() {{ "{sys.executable}" -c "{main}" "$@"; }}\n'
    output = ""
    for kind, text in blocks:
        command = [sys.executable, "-c", text] if kind == "python" else ["sh", "-c", prelude + text]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=dict(os.environ))
        assert done.returncode == 0, (text, done.stdout, done.stderr)
        output += done.stdout
    assert "an update, not a model" in output
    assert {"received.safetensors", "received.nnc", "v3-again.safetensors"} < set(os.listdir(tmp_path))
    assert "wrong.safetensors" not in os.listdir(tmp_path)

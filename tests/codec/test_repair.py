"""Streams changed by appending, cut streams, damaged streams: what is there stays readable, what is not is named."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnbits
from nnbits.codec import access_encoder
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.ranges import FileSource
from nnbits.codec.repair import Recovery, recover, replace_tensors
from nnbits.codec.types import Attachment, Model, from_numpy
from nnbits.codec.verify import verify

Array = np.ndarray[Any, Any]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"part_bytes": 1 << 12, "group_bytes": 1 << 10}
    monkeypatch.setattr(access_encoder.plan_units, "__kwdefaults__", options)


def arrays() -> dict[str, Array]:
    rng = np.random.default_rng(1)
    return {
        "a": rng.normal(size=(50, 60)).astype(np.float32),
        "a.bias": rng.normal(size=50).astype(np.float32),
        "ids": rng.integers(0, 9, 40),
        "b": rng.normal(size=(30, 90)).astype(np.float16),
        "scale": np.float32(3),
    }


def written(folder: Path) -> Path:
    path = folder / "m.nnc"
    model = Model(
        [from_numpy(name, array) for name, array in arrays().items()],
        {"made by": "a test"},
        attachments=[Attachment("notes", 5, lambda: b"notes")],
    )
    nnbits.save(model, path)
    return path


def changed(path: Path, **new: Array) -> bytes:
    tensors = [from_numpy(name, array) for name, array in new.items()]
    return replace_tensors(path, tensors, nnbits.plan_exact(Model(tensors)))


def check(found: dict[str, Array], expected: dict[str, Array]) -> None:
    assert {name: array.tobytes() for name, array in found.items()} == {
        name: array.tobytes() for name, array in expected.items()
    }


def problems(path: Path) -> list[tuple[ReasonCode, tuple[str, ...]]]:
    source = FileSource(path)
    try:
        return [(problem.error.code, problem.tensors) for problem in verify(source).problems]
    finally:
        source.close()


def test_tensors_are_replaced_by_appending(tmp_path: Path) -> None:
    path, expected = written(tmp_path), arrays()
    states = [path.read_bytes()]
    for new in (
        {"a.bias": np.ones(50, np.float32)},
        {"a": np.arange(7, dtype=np.int16), "scale": np.zeros((2, 3), np.complex64)},
        {"a.bias": np.full((3, 3), 7.0), "added": np.arange(5)},
    ):
        digest = changed(path, **new)
        expected |= new
        data = path.read_bytes()
        assert data.startswith(states[-1])
        states.append(data)
        with nnbits.open(path) as file:
            assert file.digest == digest.hex()
            assert list(file) == list(expected)
            assert file.metadata == {"made by": "a test"}
            assert [a.read() for a in file.attachments] == [b"notes"]
        check(nnbits.load(path), expected)
        check(dict(nnbits.stream(io.BytesIO(data))), expected)
        assert not problems(path)
    for number, state in enumerate(states):
        check(nnbits.decode(state), arrays() if number == 0 else nnbits.decode(states[number]))
    check(nnbits.decode(states[0]), arrays())


def test_what_cannot_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "standard.nnc"
    nnbits.save({"x": np.zeros(3, np.float32)}, path, profile="standard")
    before = path.read_bytes()
    for new, code in (({"x": np.ones(3)}, ReasonCode.FILE_FORMAT), ({"x\0": np.ones(3)}, ReasonCode.BAD_TENSOR)):
        with pytest.raises(NnbitsError) as caught:
            changed(path, **new)
        assert caught.value.code is code
    assert path.read_bytes() == before


def test_a_failed_write_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path)
    before = path.read_bytes()

    def full(file: Any) -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr("nnbits.codec.repair._flush", full)
    with pytest.raises(NnbitsError) as caught:
        changed(path, ids=np.zeros(3))
    assert caught.value.code is ReasonCode.FILE_IO
    assert path.read_bytes() == before


def test_a_killed_replacement_leaves_the_old_state(tmp_path: Path) -> None:
    """Killed before the end unit: who had the file open reads on, others recover the old state."""
    path, expected = written(tmp_path), arrays()
    before = path.read_bytes()
    script = """
import os, signal, sys
from pathlib import Path
import numpy as np
import nnbits
from nnbits.codec import repair
from nnbits.codec.types import Model, from_numpy

flush = repair._flush
def killed(file):
    flush(file)
    os.kill(os.getpid(), signal.SIGKILL)

repair._flush = killed
model = Model([from_numpy("ids", np.arange(99, dtype=np.uint8))])
repair.replace_tensors(Path(sys.argv[1]), list(model), nnbits.plan_exact(model))
"""
    with nnbits.open(path) as reader:
        done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
        data = path.read_bytes()
        assert data.startswith(before)
        assert len(data) > len(before)
        check({name: reader[name] for name in reader}, expected)
    with pytest.raises(NnbitsError) as caught:
        nnbits.open(path)
    assert caught.value.code is ReasonCode.TRUNCATED
    assert caught.value.hint is not None
    assert "nnbits recover" in caught.value.hint
    saved = tmp_path / "saved.nnc"
    assert recover(path, saved).state == "earlier"
    assert saved.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([path.name, "saved.nnc"])


def attempt(path: Path, target: Path) -> Recovery | NnbitsError:
    """What was saved, or why nothing was."""
    try:
        return recover(path, target, force=True)
    except NnbitsError as error:
        return error


def test_every_cut_is_recovered(tmp_path: Path) -> None:
    """As much as is there: the state before, or the tensors that are complete; never a wrong one."""
    path, expected = written(tmp_path), arrays()
    first = path.stat().st_size
    later = {**expected, "ids": np.arange(99, dtype=np.uint8)}
    changed(path, ids=later["ids"])
    data = path.read_bytes()
    cut, saved = tmp_path / "cut.nnc", tmp_path / "saved.nnc"
    found: set[tuple[str, int]] = set()
    for length in [*range(len(data), 0, -397), first - 1, first, first + 1]:
        cut.write_bytes(data[:length])
        result = attempt(cut, saved)
        if isinstance(result, NnbitsError):
            assert length < first, result
            found.add((result.code.name, 0))
            continue
        got = nnbits.load(saved)
        check(got, {name: (later if length == len(data) else expected)[name] for name in result.tensors})
        check(dict(nnbits.stream(io.BytesIO(saved.read_bytes()))), got)
        assert not problems(saved)
        assert set(result.tensors).isdisjoint(result.lost)
        assert result.state == (
            "complete" if length in (first, len(data)) else "earlier" if length > first else "partial"
        )
        found.add((result.state, len(result.tensors)))
    assert {("complete", 5), ("earlier", 5), ("partial", 5), ("partial", 3), ("ACCESS_UNIT", 0)} <= found


def test_damage_is_found_and_named(tmp_path: Path) -> None:
    path = written(tmp_path)
    data = path.read_bytes()
    with nnbits.open(path) as file:
        assert file.extended is not None
        index = file.extended.index
        offsets = {
            index.tensors[int(index.piece_tensor[p])].name: int(index.au_offset[int(index.piece_au[p])])
            for p in range(len(index.piece_au))
        }
    for name in ("a", "b", "ids"):
        at = offsets[name] + 40
        path.write_bytes(data[:at] + bytes([data[at] ^ 8]) + data[at + 1 :])
        ((code, tensors),) = problems(path)
        assert code in (ReasonCode.CHECKSUM, ReasonCode.ACCESS_UNIT, ReasonCode.VALUE_RANGE)
        assert name in tensors
        result = recover(path, tmp_path / "saved.nnc", force=True)
        assert name in result.lost
        check(nnbits.load(tmp_path / "saved.nnc"), {n: arrays()[n] for n in result.tensors})
        assert len(result.tensors) >= 2
    path.write_bytes(data[:20] + bytes([data[20] ^ 8]) + data[21:])
    assert (ReasonCode.INDEX, ()) in problems(path)
    path.write_bytes(data[:-1])
    assert [code for code, _ in problems(path)] == [ReasonCode.TRUNCATED]


def test_recovery_of_mixed_access_units_keeps_the_rest(tmp_path: Path) -> None:
    """An access unit of which one tensor was replaced is not lost with the other access units."""
    path = written(tmp_path)
    new = {"a.bias": np.arange(3.0)}
    changed(path, **new)
    data = bytearray(path.read_bytes())
    with nnbits.open(path) as file:
        assert file.extended is not None
        index = file.extended.index
        damaged = int(index.piece_au[next(iter(index.pieces_of(file.extended.tensor("b"))))])
        data[int(index.au_offset[damaged]) + 60] ^= 1
    path.write_bytes(bytes(data))
    result = recover(path, tmp_path / "saved.nnc")
    assert result.lost == ("b",)
    expected = {**arrays(), **new}
    check(nnbits.load(tmp_path / "saved.nnc"), {name: expected[name] for name in result.tensors})
    assert not problems(tmp_path / "saved.nnc")


def test_other_files_are_not_recovered(tmp_path: Path) -> None:
    standard = nnbits.encode({"x": np.zeros(3, np.float32)}, profile="standard")
    for content in (b"", b"hello", standard):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(NnbitsError) as caught:
            recover(tmp_path / "x", tmp_path / "y")
        assert caught.value.code in (ReasonCode.NOT_NNC, ReasonCode.FILE_FORMAT, ReasonCode.TRUNCATED)
        assert not (tmp_path / "y").exists()

"""Fuzzing in small: stored inputs through every target under sanitizers, mutated streams through both readers."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from nnbits.codec.errors import NnbitsError
from nnbits.conformance.fuzz import C_TARGETS, PYTHON_TARGETS, TARGETS, build_replayers, main, stored
from nnbits.conformance.fuzz_mutation import check_differential, check_rans, check_sparse, mutated, scratched
from nnbits.conformance.fuzz_python import CHECKS, check_format, check_index
from nnbits.conformance.fuzz_seeds import SEEDS
from nnbits.conformance.manifest import Manifest


@pytest.fixture(scope="module")
def replayers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    if shutil.which("clang") is None:
        pytest.skip("there is no clang")
    try:
        return build_replayers(C_TARGETS, tmp_path_factory.mktemp("replay"))
    except NnbitsError as error:
        if "clang_rt" in error.message or "libclang_rt" in error.message:
            pytest.skip("clang has no sanitizers here")
        raise


def inputs(target: str, folder: Path) -> list[Path]:
    """What a target starts from, and what is stored."""
    if target in SEEDS:
        files = []
        for number, data in enumerate(SEEDS[target]()):
            files.append(folder / f"{number}")
            files[-1].write_bytes(data)
    else:
        manifest = Manifest.load()
        files = [manifest.path(entry) for entry in manifest if entry.size < 20_000]
    return files + sorted(stored(target).glob("*"))


@pytest.mark.parametrize("target", C_TARGETS)
def test_stored_inputs(target: str, replayers: dict[str, Path], tmp_path: Path) -> None:
    files = inputs(target, tmp_path)
    assert len(files) > 50
    assert list(stored(target).glob("*"))
    done = subprocess.run([str(replayers[target]), *map(str, files)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == f"{len(files)} inputs\n"


@pytest.mark.parametrize("target", PYTHON_TARGETS)
def test_stored_inputs_of_python(target: str, tmp_path: Path) -> None:
    files = inputs(target, tmp_path) if target != "reader" else sorted(stored(target).glob("*"))
    assert list(stored(target).glob("*"))
    assert {path.name: problem for path in files if (problem := CHECKS[target](path.read_bytes()))} == {}


@pytest.mark.parametrize(("target", "check"), [("sparse", check_sparse), ("rans", check_rans)])
def test_stored_inputs_against_the_reference(target: str, check: object, tmp_path: Path) -> None:
    assert callable(check)
    assert {path.name: problem for path in inputs(target, tmp_path) if (problem := check(path.read_bytes()))} == {}


def test_differential() -> None:
    manifest = Manifest.load()
    seeds = [manifest.path(e).read_bytes() for e in manifest if e.size <= 300]
    rng = random.Random(9)
    different = 0
    for _ in range(150):
        data = mutated(rng.choice(seeds), rng, seeds)
        different += data not in seeds
        assert check_differential(data) is None, data.hex()
    assert different > 100
    for name, check in (("sparse", check_sparse), ("rans", check_rans)):
        pieces = list(SEEDS[name]())
        for _ in range(150):
            data = scratched(rng.choice(pieces), rng)
            assert check(data) is None, data.hex()


def test_the_checks_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each property is broken once, by a fault in what it watches."""
    index = next(SEEDS["index"]())
    model = next(SEEDS["formats"]())
    sparse = next(data for data in SEEDS["sparse"]() if data[1] == 2)
    rans = next(data for data in SEEDS["rans"]() if int.from_bytes(data[2:4], "little") == 700)
    manifest = Manifest.load()
    data = manifest.path(next(entry for entry in manifest if entry.id == "levels-036")).read_bytes()
    checks = ((check_index, index), (check_format, model), (check_sparse, sparse), (check_rans, rans),
              (check_differential, data))  # fmt: skip
    assert [check(given) for check, given in checks] == [None] * 5
    package = "nnbits.conformance."
    monkeypatch.setattr(package + "fuzz_python._written_again", lambda index: b"")
    monkeypatch.setattr(package + "fuzz_python._carried", lambda model: type(model)([], {}, model.source_format))
    monkeypatch.setattr(package + "fuzz_mutation.portable.decode", lambda *_: np.zeros(1))
    monkeypatch.setattr(package + "fuzz_mutation.ans_reference.decode", lambda *_: b"")
    monkeypatch.setattr(package + "fuzz_mutation.reference", lambda *_: {})
    assert all(check(given) for check, given in checks)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--minutes", "0.02", "--target", "differential", "--corpus", str(tmp_path)]) == 0
    assert "nothing found" in capsys.readouterr().out
    assert set(TARGETS) == {*C_TARGETS, "differential", *PYTHON_TARGETS}

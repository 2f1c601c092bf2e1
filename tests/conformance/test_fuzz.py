"""Fuzzing in small: stored inputs through every target under sanitizers, mutated streams through both readers."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from nnbits.codec.errors import NnbitsError
from nnbits.conformance.fuzz import CORPUS, build_replayers, check_differential, main, mutated
from nnbits.conformance.manifest import Manifest

TARGETS = ("units", "decode", "access", "lossless")


@pytest.fixture(scope="module")
def replayers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    if shutil.which("clang") is None:
        pytest.skip("there is no clang")
    try:
        return build_replayers(TARGETS, tmp_path_factory.mktemp("replay"))
    except NnbitsError as error:
        if "clang_rt" in error.message or "libclang_rt" in error.message:
            pytest.skip("clang has no sanitizers here")
        raise


@pytest.mark.parametrize("target", TARGETS)
def test_stored_inputs(target: str, replayers: dict[str, Path]) -> None:
    manifest = Manifest.load()
    files = [str(manifest.path(entry)) for entry in manifest if entry.size < 20_000]
    files += [str(path) for path in sorted((CORPUS / target).glob("*"))]
    assert len(files) > 400
    done = subprocess.run([str(replayers[target]), *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == f"{len(files)} inputs\n"


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


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--minutes", "0.02", "--target", "differential", "--corpus", str(tmp_path)]) == 0
    assert "nothing found" in capsys.readouterr().out

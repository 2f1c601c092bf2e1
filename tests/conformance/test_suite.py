"""Our decoders against the suite: all streams, all codes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nnbits.conformance.adapters import build_adapter
from nnbits.conformance.dump import dump
from nnbits.conformance.manifest import Manifest
from nnbits.conformance.runner import run

#: The reference takes its time; larger streams go through it when the suite is made.
REFERENCE_BYTES = 400


def check(name: str, tmp_path: Path, largest: int | None = None) -> None:
    manifest = Manifest.load()
    entries = [e for e in manifest if largest is None or e.size <= largest]
    outcomes = run(build_adapter(name, tmp_path), manifest, entries=entries, jobs=2, strict=True)
    assert [(o.entry.id, o.reason, o.detail) for o in outcomes if o.status == "fail"] == []
    assert sum(o.status == "pass" for o in outcomes) > 0.9 * len(outcomes)


def test_core(tmp_path: Path) -> None:
    check("core", tmp_path)


def test_reference(tmp_path: Path) -> None:
    check("reference", tmp_path, REFERENCE_BYTES)


@pytest.mark.parametrize("name", ["c", "c-portable"])
def test_c(tmp_path: Path, name: str) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc")
    check(name, tmp_path)


def test_dump_shows_every_byte() -> None:
    manifest = Manifest.load()
    for name in ("smallest", "qp-in-force", "payload-half", "extended-scalars", "au-name-long", "map-pattern-axis"):
        data = manifest.path(manifest[name]).read_bytes()
        lines = list(dump(data))
        assert lines[0].endswith("unit[0].nnr_unit_size_flag = 0")
        covered = set()
        for line in lines:
            offset, bit = line.split(" ")[0].split(".") if "." in line.split(" ")[0] else ("", "")
            if len(offset) == 8:
                width = int(line[10:].split()[0])
                first = 8 * int(offset, 16) + int(bit)
                covered |= set(range(first >> 3, (first + width + 7) >> 3))
        assert covered == set(range(len(data)))

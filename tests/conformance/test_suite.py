"""Our decoders against the suite: all streams, all codes."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from nnbits.conformance.adapters import build_adapter
from nnbits.conformance.dump import dump
from nnbits.conformance.manifest import Entry, Manifest
from nnbits.conformance.results import Outcome, Result, judge
from nnbits.conformance.runner import CallableDecoder, run, supplied_parameters

#: The reference takes its time; larger streams go through it when the suite is made.
REFERENCE_BYTES = 2000
#: Of streams that ask for more than a decoder may take.
BOUNDED = ("LIMIT", "MEMORY_BUDGET")


def check(outcomes: Sequence[Outcome]) -> None:
    assert [(o.entry.id, o.reason, o.detail) for o in outcomes if o.status == "fail"] == []
    assert sum(o.status == "pass" for o in outcomes) > 0.9 * len(outcomes)


def check_here(name: str, tmp_path: Path, entries: Sequence[Entry], manifest: Manifest) -> None:
    """In this process, since to fork one that is so large takes longer than decoding; what a bound is for apart."""
    decoder = build_adapter(name, tmp_path)
    assert isinstance(decoder, CallableDecoder)
    bounded = [e for e in entries if e.code in BOUNDED]
    assert bounded
    check(run(decoder, manifest, entries=bounded, jobs=2, strict=True))
    check([judge(e, called(decoder, e, manifest), strict=True) for e in entries if e.code not in BOUNDED])


def called(decoder: CallableDecoder, entry: Entry, manifest: Manifest) -> Result:
    streams = [path.read_bytes() for path in manifest.sequence(entry)]
    return decoder.call(streams, supplied_parameters(entry.supplied))


def test_core(tmp_path: Path) -> None:
    manifest = Manifest.load()
    check_here("core", tmp_path, list(manifest), manifest)


def test_reference(tmp_path: Path) -> None:
    manifest = Manifest.load()
    check_here("reference", tmp_path, [e for e in manifest if e.size <= REFERENCE_BYTES], manifest)


@pytest.mark.parametrize("name", ["c", "c-portable"])
def test_c(tmp_path: Path, name: str) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc")
    check(run(build_adapter(name, tmp_path), Manifest.load(), jobs=2, strict=True))


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

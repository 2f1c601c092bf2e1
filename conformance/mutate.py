"""Planted bugs: ``python -m nnbits.conformance.mutate [--side c|python] [--only N] [--jobs N] [--report FILE]``.

``mutations.json`` lists edits of the C decoder and of the Python reader: a wrong bound, a number that is off by one, an
entry of a table that is another, a check that is missing. Each is made in a copy, alone, and the suite must catch it:
with a wrong tensor, a wrong verdict, code or place, a crash, or a decoder that does not come to an end. A survivor
needs a stream or an explanation in the list. The exit status is 1 if one has neither, or is explained and caught.

The list and its results are ``MUTATIONS.md``, which ``--report`` writes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from nnbits.codec import _core
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.conformance.adapters import C_INCLUDES, C_SOURCES, NOT_IN_C, core_folder
from nnbits.conformance.manifest import DEFAULT_FOLDER, Entry, Manifest
from nnbits.conformance.results import Outcome
from nnbits.conformance.runner import CommandDecoder, Limits, run

__all__ = ["Mutation", "Result", "load", "main", "report", "try_all", "try_c", "try_python"]

_LIST: Final = Path(__file__).resolve().parent / "mutations.json"
_PATIENCE: Final = 3600
_FLAGS: Final = ("-std=c11", "-O1", "-ffp-contract=off")


@dataclass(frozen=True)
class Mutation:
    """One edit.

    Attributes:
        side: ``c`` or ``python``.
        file: relative to the codec.
        find: text that stands there exactly once.
        replace: what it becomes.
        survives: why no stream can tell, if so.
        first: streams that are tried before the others, since they are known to catch it.
    """

    side: str
    file: str
    find: str
    replace: str
    survives: str = ""
    first: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """What the suite made of a mutation: the first stream that caught it, or None."""

    mutation: Mutation
    caught_by: str | None
    reason: str = ""


def load(side: str | None = None) -> list[Mutation]:
    """The list, or one side of it."""
    items = json.loads(_LIST.read_text(encoding="utf-8"))
    return [
        Mutation(**{**item, "first": tuple(item.get("first", ()))}) for item in items if side in (None, item["side"])
    ]


def _edited(mutation: Mutation, text: str) -> str:
    """The text of a file with the bug.

    Raises:
        NnbitsError: BAD_OPTION if the place is not there exactly once: the list is out of date.
    """
    if text.count(mutation.find) != 1:
        raise NnbitsError(
            ReasonCode.BAD_OPTION,
            f"{mutation.find!r} stands {text.count(mutation.find)} times in {mutation.file}",
            path="mutations.json",
        )
    return text.replace(mutation.find, mutation.replace)


class _CBuild:
    """The C decoder in a copy, of which only what changed is compiled again."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.tree = work / "core"
        shutil.copytree(core_folder(), self.tree, ignore=shutil.ignore_patterns("fuzz", "tests", "bench", "enc"))
        self.objects: dict[Path, Path] = {}
        for source in C_SOURCES:
            name = f"{source.parent.name}-{source.stem}.o"
            self.objects[source] = self._compile(self._copy_of(source), work / name)

    def _copy_of(self, source: Path) -> Path:
        inside = source.is_relative_to(core_folder())
        return self.tree / source.relative_to(core_folder()) if inside else source

    def _compile(self, source: Path, target: Path) -> Path:
        includes = [f"-I{self.tree / 'include'}", f"-I{self.tree / 'src'}", f"-I{C_INCLUDES[-1]}"]
        subprocess.run(
            ["gcc", *_FLAGS, *includes, "-c", str(source), "-o", str(target)], check=True, capture_output=True
        )
        return target

    def program(self, mutation: Mutation) -> Path | None:
        """The decoder with the bug; None if it does not compile."""
        file = self.tree / Path(mutation.file).relative_to("core")
        before = file.read_text()
        file.write_text(_edited(mutation, before))
        try:
            objects = []
            for source, known in self.objects.items():
                changed = self._copy_of(source) == file or file.suffix == ".h"
                objects.append(
                    self._compile(self._copy_of(source), self.work / "new" / known.name) if changed else known
                )
            program = self.work / "decoder"
            subprocess.run(["gcc", *map(str, objects), "-o", str(program)], check=True, capture_output=True)
        except subprocess.CalledProcessError:
            return None
        finally:
            file.write_text(before)
        return program


def _first_failure(outcomes: Sequence[Outcome]) -> Outcome | None:
    return next((outcome for outcome in outcomes if outcome.status == "fail"), None)


def _ordered(manifest: Manifest, mutation: Mutation) -> list[Entry]:
    """Those that are known to catch it, then small streams first."""
    return sorted(manifest, key=lambda entry: (entry.id not in mutation.first, entry.size))


def try_c(mutations: Sequence[Mutation], manifest: Manifest, work: Path) -> Iterator[Result]:
    """Each bug of the C decoder, alone."""
    (work / "new").mkdir(parents=True)
    build = _CBuild(work)
    limits = Limits(seconds=5, memory=1 << 30)
    for mutation in mutations:
        program = build.program(mutation)
        if program is None:
            raise NnbitsError(ReasonCode.BAD_OPTION, f"does not compile: {mutation}", path="mutations.json")
        caught: Outcome | None = None
        decoder = CommandDecoder([str(program), "{in}", "{out}"], without=NOT_IN_C, limits=limits)
        entries = _ordered(manifest, mutation)
        known = len(mutation.first)
        for at, stop in pairwise((0, *range(known, len(entries), 64), len(entries))):
            if at == stop:
                continue
            caught = _first_failure(run(decoder, manifest, entries=entries[at:stop], jobs=1, strict=True))
            if caught:
                break
        yield Result(mutation, caught.entry.id if caught else None, caught.reason if caught else "")


_CHILD: Final = """
import json, signal, sys
sys.path[:0] = json.loads(sys.argv[1])
import nnbits
assert nnbits.__file__.startswith(sys.argv[3]), nnbits.__file__
from pathlib import Path
from nnbits.conformance.adapters import reference
from nnbits.conformance.manifest import Manifest
from nnbits.conformance.results import judge
from nnbits.conformance.runner import CallableDecoder, supplied_parameters

def late(*_):
    raise TimeoutError("too slow")

signal.signal(signal.SIGALRM, late)
manifest = Manifest.load(Path(sys.argv[2]))
decoder = CallableDecoder(reference)
known = sys.argv[4:]
for entry in sorted(manifest, key=lambda entry: (entry.id not in known, entry.size)):
    signal.alarm(120)
    streams = [path.read_bytes() for path in manifest.sequence(entry)]
    outcome = judge(entry, decoder.call(streams, supplied_parameters(entry.supplied)), strict=True)
    if outcome.status == "fail":
        print(json.dumps([entry.id, outcome.reason]))
        break
"""


def try_python(mutations: Sequence[Mutation], manifest: Manifest, work: Path) -> Iterator[Result]:
    """Each bug of the Python reader, alone, in a process of its own; the Python reference decodes."""
    package = work / "nnbits"
    ignored = shutil.ignore_patterns("core", "streams", "__pycache__", "fuzz")
    for part in ("codec", "conformance", "formats"):
        shutil.copytree(DEFAULT_FOLDER.parent / part, package / part, ignore=ignored)
    shutil.copy(DEFAULT_FOLDER.parent / "src" / "nnbits" / "__init__.py", package)
    shutil.copy(_core.__file__, package / "codec")
    # Without the hooks of an editable install, which would find the package in the checkout.
    paths = [str(work), sysconfig.get_path("purelib"), *(p for p in sys.path if p.endswith("site-packages"))]
    command = [sys.executable, "-S", "-B", "-c", _CHILD, json.dumps(paths), str(manifest.folder), str(work)]
    for mutation in mutations:
        file = package / "codec" / mutation.file
        before = file.read_text()
        file.write_text(_edited(mutation, before))
        try:
            done = subprocess.run(
                [*command, *mutation.first], capture_output=True, text=True, check=False, timeout=_PATIENCE
            )
        finally:
            file.write_text(before)
        if done.stdout.strip():
            name, reason = json.loads(done.stdout.strip().splitlines()[-1])
            yield Result(mutation, name, reason)
        elif done.returncode:
            yield Result(mutation, "import", (done.stderr.strip().splitlines() or ["?"])[-1][:80])
        else:
            yield Result(mutation, None)


def try_all(side: str, mutations: Sequence[Mutation], manifest: Manifest, work: Path, jobs: int) -> list[Result]:
    """All bugs of a side, in ``jobs`` copies at a time; prints each as it is done."""
    makers: Mapping[str, Callable[..., Iterator[Result]]] = {"c": try_c, "python": try_python}

    def share(number: int) -> list[Result]:
        results = []
        for result in makers[side](mutations[number::jobs], manifest, work / str(number)):
            results.append(result)
            outcome = f"{result.caught_by or 'SURVIVES'} {result.reason}"
            print(f"{side} {_short(result.mutation.replace)}: {outcome}", flush=True)
        return results

    with ThreadPoolExecutor(jobs) as pool:
        shares = list(pool.map(share, range(jobs)))
    return [shares[at % jobs][at // jobs] for at in range(len(mutations))]


_HEAD: Final = """# Planted bugs

`python -m nnbits.conformance.mutate` makes each edit of `mutations.json` in a copy, alone, and runs the suite with
codes and places compared until a stream catches it. A survivor has the reason why no stream can tell. This file is what
`--report` wrote.

"""


def report(results: Sequence[Result]) -> str:
    """Markdown: counts, then a row for each bug."""
    lines = ["| side | planted | caught | survive, explained | survive |", "|---|---|---|---|---|"]
    for side in sorted({result.mutation.side for result in results}):
        own = [result for result in results if result.mutation.side == side]
        alive = [result for result in own if result.caught_by is None]
        explained = sum(bool(result.mutation.survives) for result in alive)
        row = (side, len(own), len(own) - len(alive), explained, len(alive) - explained)
        lines.append("| " + " | ".join(map(str, row)) + " |")
    lines += ["", "| side | file | bug | caught by | how, or why not |", "|---|---|---|---|---|"]
    for r in results:
        m = r.mutation
        change = f"`{_short(m.find)}` -> `{_short(m.replace)}`".replace("|", "\\|")
        lines.append(f"| {m.side} | {m.file} | {change} | {r.caught_by or 'nothing'} | {r.reason or m.survives} |")
    return _HEAD + "\n".join(lines) + "\n"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 70 else line[:67] + "..."


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", choices=["c", "python"])
    parser.add_argument("--only", type=int, action="append", help="numbers in the list, from 0")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--report", type=Path)
    options = parser.parse_args(arguments)
    manifest = Manifest.load()
    results: list[Result] = []
    for side in [options.side] if options.side else ("c", "python"):
        chosen = [m for number, m in enumerate(load(side)) if not options.only or number in options.only]
        with tempfile.TemporaryDirectory(prefix="nnbits-mutate-") as work:
            results += try_all(side, chosen, manifest, Path(os.path.realpath(work)), options.jobs)
    survivors = [result for result in results if result.caught_by is None]
    print(f"{len(results) - len(survivors)} of {len(results)} caught, {len(survivors)} survive")
    if options.report:
        options.report.write_text(report(results), encoding="utf-8")
    wrong = [result for result in results if bool(result.mutation.survives) == (result.caught_by is not None)]
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())

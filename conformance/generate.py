"""Makes the suite: ``python -m nnbits.conformance.generate``.

The same seed gives the same streams. What valid streams decode to comes from the Python reference, and every stream
must give the same with the C core before it is written.

    --seed N          another suite (default 1, the one that is kept)
    --out DIR         where to (default: the package's own folder)
    --smallest        choose all streams by coverage, also those that have a name
    --coverage        print what the streams of the folder exercise, and write nothing
    --check           only compare: whether the seed gives the streams that are there
    --module NAME     with --check: only this one of cases/ (may be repeated)
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.syntax.enums import ExtensionKind
from nnbits.codec.syntax.native import NativeStream
from nnbits.conformance import coverage
from nnbits.conformance.adapters import core, reference
from nnbits.conformance.cases import MODULES, Case, all_cases
from nnbits.conformance.coverage import Item
from nnbits.conformance.manifest import DEFAULT_FOLDER, Entry, Manifest, describe_tensor, kind_of_code
from nnbits.conformance.runner import supplied_parameters

__all__ = ["DEFAULT_SEED", "coverage_report", "coverage_table", "generate", "main", "measure", "stale"]

DEFAULT_SEED: Final = 1
#: Unit header, signature and kind of the header of an access unit.
_ACCESS_UNIT: Final = b"\x82nnbX" + bytes([ExtensionKind.ACCESS_UNIT_HEADER])
_BEGIN, _END = "<!-- generated: streams -->", "<!-- end -->"


@dataclass(frozen=True)
class _Decoded:
    """A case with what came of it."""

    case: Case
    tensors: Mapping[str, Any]
    error: NnbitsError | None
    items: set[Item]


def _decode(case: Case, streams: Sequence[bytes]) -> _Decoded:
    """Both decoders, which must agree with each other and with the case.

    Raises:
        AssertionError: they do not: the case or a decoder is wrong.
    """
    supplied = supplied_parameters(case.supplied)
    tensors: Mapping[str, Any] = {}
    other: Mapping[str, Any] = {}
    error = other_error = None
    with coverage.observed() as items:
        try:
            tensors = reference(streams, supplied)
        except NnbitsError as caught:
            error = caught
    try:
        other = core(streams, supplied)
    except NnbitsError as caught:
        other_error = caught
    for found in (error, other_error):
        code = found.code.name if found else None
        if code != case.code and code not in case.also:
            raise AssertionError(f"{case.id}: expected {case.code}, found {found}")
    mine = [describe_tensor(name, array) for name, array in tensors.items()]
    if mine != [describe_tensor(name, array) for name, array in other.items()]:
        raise AssertionError(f"{case.id}: the two decoders differ")
    return _Decoded(case, tensors, error, set(items))


def _places(case: Case, error: NnbitsError) -> tuple[int, int]:
    """Where the fault lies: from the unit, where the C parser stops, to the element, which the Python reader names.

    Of an access unit, which is read as a whole, the C reader names the beginning.
    """
    if error.offset is None:
        return 0, len(case.data)
    element = error.offset
    unit = element
    try:
        for _ in NativeStream(case.data, supplied_parameters(case.supplied)):
            pass
    except NnbitsError as stopped:
        unit = element if stopped.offset is None else stopped.offset
    last = element if "extended" in case.features else max(unit, element)
    first = min(unit, element, _access_unit_of(case, element)) if case.begins is None else case.begins
    return min(first, element), last


def _access_unit_of(case: Case, element: int) -> int:
    """Where the access unit begins that a place lies in, or the place itself."""
    at, behind = 0, element
    while "extended" in case.features and at < len(case.data) - 20:
        size_bytes = 4 if case.data[at] & 0x80 else 2
        size = int.from_bytes(case.data[at : at + size_bytes], "big") & 0x7FFFFFFF
        start = at + size_bytes
        if case.data[start : start + 6] == _ACCESS_UNIT:
            whole = int.from_bytes(case.data[start + 11 : start + 16], "big")
            if at <= element < at + max(whole, size):
                return at
            behind = at if element == at + whole else behind  # it ends too early
        if size <= size_bytes:
            break
        at += size
    return behind


def _entry(decoded: _Decoded) -> Entry:
    case, error, data = decoded.case, decoded.error, decoded.case.data
    folder = "invalid" if case.code else "valid"
    idc = data[3] if len(data) > 3 and data[:2] == b"\0\4" else 1
    common: dict[str, Any] = {
        "id": case.id,
        "file": f"streams/{folder}/{case.id}.nnc",
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": len(data),
        "profile": "extended" if "extended" in case.features else "standard",
        "edition": 2 if idc == 1 else 1,
        "features": case.features,
        "exercises": case.exercises,
        "provenance": case.provenance,
        "after": case.after,
        "supplied": case.supplied,
    }
    if error is None:
        tensors = tuple(describe_tensor(name, array) for name, array in decoded.tensors.items())
        return Entry(**common, kind="valid", tensors=tensors)
    unit_offset, offset = _places(case, error)
    return Entry(
        **common,
        kind=kind_of_code(ReasonCode[case.code or ""]),
        code=case.code,
        also=case.also,
        unit_offset=unit_offset,
        offset=offset,
        path=error.path,
    )


def _chosen(decoded: Sequence[_Decoded], smallest: bool) -> list[_Decoded]:
    """The streams that are kept: by coverage, where a stream is one of many."""
    valid = [d for d in decoded if not d.case.code]
    kept = {} if smallest else {d.case.id: d for d in valid if not d.case.pick}
    done: set[Item] = set().union(*(d.items for d in kept.values()))
    open_ = {d.case.id: d for d in valid if d.case.id not in kept}
    needed = set().union(*(d.items for d in open_.values())) - done if open_ else set()
    names = coverage.greedy_cover(
        {name: d.items for name, d in open_.items()}, {name: len(d.case.data) for name, d in open_.items()}, needed
    )
    wanted = {*kept, *names}
    if smallest:
        for d in valid:
            if d.case.id in wanted:
                wanted.update(d.case.after)
        return [d for d in valid if d.case.id in wanted]
    return [d for d in decoded if d.case.code or d.case.id in wanted]


def generate(folder: Path, *, seed: int = DEFAULT_SEED, smallest: bool = False) -> tuple[Manifest, set[Item]]:
    """Write streams, manifest and the table of the README.

    Args:
        folder: receives them; streams that were there are removed.
        seed: of everything that is random.
        smallest: few streams with the same coverage; no invalid ones.

    Returns:
        The manifest, and what its valid streams exercise.

    Raises:
        AssertionError: the decoders disagree with a case.
    """
    data: dict[str, bytes] = {}
    decoded: list[_Decoded] = []
    for case in all_cases(seed):
        data[case.id] = case.data
        decoded.append(_decode(case, [*(data[name] for name in case.after), case.data]))
    kept = _chosen(decoded, smallest)
    for sub in ("valid", "invalid"):
        (folder / "streams" / sub).mkdir(parents=True, exist_ok=True)
        for old in (folder / "streams" / sub).glob("*.nnc"):
            old.unlink()
    manifest = Manifest(folder, tuple(_entry(d) for d in kept))
    for d, entry in zip(kept, manifest, strict=True):
        manifest.path(entry).write_bytes(d.case.data)
    manifest.save()
    _write_table(manifest)
    seen = set().union(*(d.items for d in kept if not d.case.code))
    (folder / "COVERAGE.md").write_text(coverage_report(seen), encoding="utf-8")
    return manifest, seen


def _write_table(manifest: Manifest) -> None:
    path = manifest.folder / "README.md"
    if not path.exists():
        return
    text = path.read_text(encoding="utf-8")
    head, rest = text.split(_BEGIN)
    tail = rest.split(_END)[1]
    path.write_text(head + _BEGIN + "\n" + stream_table(manifest) + _END + tail, encoding="utf-8")


def stream_table(manifest: Manifest) -> str:
    """Markdown: what each stream exercises."""
    counts = Counter(entry.kind for entry in manifest)
    size = sum(entry.size for entry in manifest)
    lines = [
        f"{len(manifest)} streams, {size:,} bytes: " + ", ".join(f"{n} {kind}" for kind, n in counts.items()) + ".",
        "",
        "| stream | bytes | features | verdict | what it exercises |",
        "|---|---|---|---|---|",
    ]
    for entry in manifest:
        verdict = f"{entry.kind}: {entry.code}" if entry.code else f"{len(entry.tensors)} tensors"
        text = entry.exercises.replace("|", "\\|")
        lines.append(f"| {entry.id} | {entry.size:,} | {', '.join(entry.features)} | {verdict} | {text} |")
    return "\n".join(lines) + "\n"


def stale(folder: Path = DEFAULT_FOLDER, *, seed: int = DEFAULT_SEED, modules: Sequence[str] = MODULES) -> list[str]:
    """What is not as the generator would make it: streams that differ, are missing, or come from no case.

    Args:
        folder: of the suite.
        seed: it was made from.
        modules: of ``cases/``; what comes from no case is seen only with all of them.
    """
    entries = {entry.id: entry for entry in Manifest.load(folder)}
    problems = []
    for name in modules:
        for case in importlib.import_module(f"nnbits.conformance.cases.{name}").cases(seed):
            entry = entries.pop(case.id, None)
            if entry is None:
                if case.code or not case.pick:
                    problems.append(f"{case.id} is missing")
            elif entry.sha256 != hashlib.sha256(case.data).hexdigest() or entry.exercises != case.exercises:
                problems.append(f"{case.id} differs")
    return problems + ([f"{name} comes from no case" for name in entries] if set(modules) == set(MODULES) else [])


def measure(manifest: Manifest, entries: Iterable[Entry] | None = None) -> set[Item]:
    """What the valid streams of a suite exercise."""
    seen: set[Item] = set()
    for entry in manifest if entries is None else entries:
        if entry.valid and "many-dimensions" not in entry.features:
            streams = [path.read_bytes() for path in manifest.sequence(entry)]
            with coverage.observed() as items:
                reference(streams, supplied_parameters(entry.supplied))
            seen |= items
    return seen


def coverage_table(seen: set[Item]) -> str:
    """Text: coverage by group, then what is not covered, with the reason where there is one."""
    lines = [f"{'items':16} {'seen':>6} {'of':>6} {'impossible':>11} {'open':>5}"]
    for group, covered, impossible, count in coverage.summary(seen):
        lines.append(f"{group:16} {covered:6} {count:6} {impossible:11} {count - covered - impossible:5}")
    for item in coverage.declared_items() + coverage.entropy_items():
        if item not in seen:
            lines.append(f"  {' | '.join(item)}: {coverage.unreachable(item) or 'OPEN'}")
    return "\n".join(lines)


_COVERAGE: Final = """# Coverage

What the valid streams of the suite exercise, measured while the Python reference reads them (`coverage.py`); written by
the generator. Items of the declaration: the least and the largest value of each element and one between (`value`; every
member of an enumeration), both ways of each condition (`branch`), each case of a choice (`case`), lists of no, one and
several entries (`count`). Items of arithmetic decoding: both bins of each context variable (`bin`), each cell of the
range table (`range`), each step of the two probability estimates at each rate (`step a`, `step b`), each initial set,
each transition of the trellis, skipped rows from each state and each width modulo 4, and each length of bypass bins.

What no stream exercises stands below with the reason. An item that is neither exercised nor explained would be OPEN.

"""


def coverage_report(seen: set[Item]) -> str:
    """Markdown: the table of coverage, and what is impossible."""
    lines = ["| items | exercised | impossible | open | all |", "|---|---|---|---|---|"]
    for group, covered, impossible, count in coverage.summary(seen):
        lines.append(f"| {group} | {covered} | {impossible} | {count - covered - impossible} | {count} |")
    lines += ["", "| items | place | which | why not |", "|---|---|---|---|"]
    for item in coverage.declared_items() + coverage.entropy_items():
        if item not in seen:
            place = f"`{item[1]}`".replace("|", "\\|") if item[1] else ""
            lines.append(f"| {item[0]} | {place} | {item[2]} | {coverage.unreachable(item) or 'OPEN'} |")
    return _COVERAGE + "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED)
    parser.add_argument("--out", type=Path, default=DEFAULT_FOLDER)
    parser.add_argument("--smallest", action="store_true")
    parser.add_argument("--coverage", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--module", action="append", choices=MODULES)
    options = parser.parse_args(arguments)
    if options.check:
        problems = stale(options.out, seed=options.seed, modules=options.module or MODULES)
        print("\n".join(problems) or "the streams are those of the seed")
        return int(bool(problems))
    if options.coverage:
        seen = measure(Manifest.load(options.out))
    else:
        manifest, seen = generate(options.out, seed=options.seed, smallest=options.smallest)
        print(f"{len(manifest)} streams, {sum(entry.size for entry in manifest):,} bytes", file=sys.stderr)
    print(coverage_table(seen))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

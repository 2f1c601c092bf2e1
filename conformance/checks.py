"""Every check in the readers, and the streams that fail it: ``python -m nnbits.conformance.checks``.

A check is a place in the source where a stream is refused: in Python a ``raise`` or a row ``Check`` of the
declaration, in C an error code that is returned or kept. The invalid streams are decoded with the Python reader and
with a copy of the C decoder that writes down which of these places it passes. Every check has a stream that fails it,
or a reason in ``checks.json`` why none can; the table is ``CHECKS.md``. The exit status is 1 if a check has neither,
or a reason is not needed any more.

    --update    write CHECKS.md
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from nnbits.codec import decode
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.limits import Limits as CodecLimits
from nnbits.codec.ranges import BytesSource
from nnbits.codec.reader import ExtendedStream
from nnbits.codec.syntax.tables import Check
from nnbits.conformance.adapters import BUDGET, C_INCLUDES, C_SOURCES, NOT_IN_C, core, core_folder, reference
from nnbits.conformance.manifest import DEFAULT_FOLDER, Entry, Manifest
from nnbits.conformance.runner import supplied_parameters

__all__ = ["Site", "c_sites", "main", "measure", "python_sites", "report"]

_CODEC: Final = Path(decode.__file__).resolve().parent
_LIST: Final = Path(__file__).resolve().parent / "checks.json"
_STREAM_CODES: Final = tuple(code.name for code in ReasonCode if code < ReasonCode.NOT_EXACT)

#: Modules that read streams. What is built on them (listings, verification, merging) has tests of its own.
_READERS: Final = (
    *("access.py", "decode.py", "forward.py", "head.py", "index.py", "integrity.py", "parts.py", "reader.py"),
    *("base.py", "exact_update.py", "pruning.py", "source.py", "stream.py", "values.py", "update.py"),
    *("entropy/native.py", "entropy/reference.py", "lossless/native.py", "lossless/payload.py"),
    *("sparse/kinds.py", "sparse/map.py", "sparse/native.py", "sparse/reference.py"),
    *("syntax/bits.py", "syntax/codes.py", "syntax/compressed_data.py", "syntax/extension.py"),
    *("syntax/payload.py", "syntax/tables.py", "syntax/unit_io.py", "syntax/units.py"),
)
#: Functions of these modules that write.
_WRITERS: Final = re.compile(r"_?(build|write|encode|put)|.*_(build|encode)$|to_json$")


@dataclass(frozen=True)
class Site:
    """A place where a stream is refused.

    Attributes:
        side: ``python`` or ``c``.
        file: relative to the codec.
        text: the statement, with its white space made single; with ``#2`` and so on behind it if it occurs again.
        line: first and last line; of the moment, not part of the identity.
        passes_on: it says where an error happened that another check has found.
    """

    side: str
    file: str
    text: str
    line: tuple[int, int] = field(compare=False)
    passes_on: bool = field(default=False, compare=False)

    @property
    def key(self) -> str:
        """Side, file and text."""
        return f"{self.side} {self.file}: {self.text}"


def _numbered(sites: Iterable[Site]) -> list[Site]:
    """Equal places told apart."""
    seen: dict[Site, int] = {}
    result = []
    for site in sites:
        seen[site] = number = seen.get(site, 0) + 1
        result.append(site if number == 1 else replace(site, text=f"{site.text} #{number}"))
    return result


# ---- Python


def _is_refusal(node: ast.AST, function: str) -> bool:
    if isinstance(node, ast.Raise):
        return isinstance(node.exc, ast.Call) and "TypeError" not in ast.dump(node.exc.func)
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return isinstance(node.value.func, ast.Name) and node.value.func.id in ("refuse", "_refuse")
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "problem":
        return isinstance(node.value, ast.Constant | ast.JoinedStr) and getattr(node.value, "value", "") is not None
    if isinstance(node, ast.Return) and "compare" in function:
        return isinstance(node.value, ast.Constant | ast.JoinedStr) and getattr(node.value, "value", "") is not None
    return False


def _walk(node: ast.AST, function: str = "") -> Iterator[tuple[ast.stmt, str]]:
    for child in ast.iter_child_nodes(node):
        inside = child.name if isinstance(child, ast.FunctionDef) else function
        if isinstance(child, ast.stmt):
            yield child, inside
        yield from _walk(child, inside)


def _passes_on(node: ast.stmt) -> bool:
    """Whether a statement raises what another has found: an error again with its place, or a problem with its text."""
    names = {name.id for name in ast.walk(node) if isinstance(name, ast.Name)} if isinstance(node, ast.Raise) else set()
    return bool(names & {"error", "problem", "message"}) or "self.message" in ast.unparse(node)


#: The same in C, and the look at a stream that tells its profile.
_PASSED_ON: Final = re.compile(
    r"\? NNB_OK : bad;|\(status != NNB_OK\) return bad;|status == NNB_UNSUPPORTED_FEATURE &&"
    r"|unit\.size == 0 \|\| unit\.nnr_unit_type == NNB_NNR_NDU"
)


def _about_the_caller(text: str) -> bool:
    """Whether a statement refuses what the caller asks for, or what a file is, not a stream."""
    codes = re.findall(r"ReasonCode\.([A-Z_]+)", text)
    return bool(codes) and not any(code in _STREAM_CODES for code in codes)


def python_sites() -> list[Site]:
    """The checks of the Python reader."""
    sites = []
    for name in _READERS:
        source = (_CODEC / name).read_text(encoding="utf-8")
        for node, function in _walk(ast.parse(source)):
            if not _is_refusal(node, function) or _WRITERS.match(function):
                continue
            text = " ".join((ast.get_source_segment(source, node) or "").split())
            if not _about_the_caller(text):
                lines = (node.lineno, node.end_lineno or node.lineno)
                sites.append(Site("python", name, text, lines, _passes_on(node)))
    rows = (Site("python", "syntax", f"Check: {row.message}", (0, 0)) for row in _rows())
    return _numbered((*sites, *rows))


@cache
def _rows() -> tuple[Check, ...]:
    """The rules of the declaration, in the order of their messages."""
    import gc

    return tuple(sorted((o for o in gc.get_objects() if type(o) is Check), key=lambda row: (row.message, id(row))))


@contextmanager
def _watched(seen: set[tuple[str, int]]) -> Iterator[None]:
    """Lines of the readers that are executed while the block runs; failing rows of the declaration as lines of ''."""
    package = Path(decode.__file__).parent
    files = {str(folder / name): name for name in _READERS for folder in (_CODEC, package)}

    def local(frame: Any, event: str, _argument: Any) -> Any:
        if event == "line":
            seen.add((files[frame.f_code.co_filename], frame.f_lineno))
        return local

    def enter(frame: Any, _event: str, _argument: Any) -> Any:
        return local if frame.f_code.co_filename in files else None

    rows = {id(row): number for number, row in enumerate(_rows())}
    original = Check.parse_into

    def parse_into(self: Check, *arguments: Any) -> None:
        try:
            original(self, *arguments)
        except NnbitsError:
            seen.add(("", rows[id(self)]))
            raise

    before = sys.gettrace()
    with patch.object(Check, "parse_into", parse_into):
        sys.settrace(enter)
        try:
            yield
        finally:
            sys.settrace(before)


def _by_index(streams: Sequence[bytes], _supplied: Any) -> None:
    """The library's other way into an extended stream: from its end, without what lies between."""
    stream = ExtendedStream.open(BytesSource(streams[-1]), limits=CodecLimits(max_tensor_bytes=BUDGET))
    if stream is None:
        return
    with suppress(NnbitsError):
        stream.check_base()
    for tensor in stream.model():
        with suppress(NnbitsError):
            tensor.read()
    for attachment in stream.attachments:
        with suppress(NnbitsError):
            attachment.read()


#: The checks that each reader of a side fails on a stream, by the stream's id.
Failures = dict[str, list[set[Site]]]


def _python_failures(manifest: Manifest, entries: Sequence[Entry]) -> Failures:
    sites = python_sites()
    rows = [site for site in sites if site.file == "syntax"]
    by_line = {(site.file, site.line[0]): site for site in sites if site.file != "syntax"}
    found: Failures = {}
    for entry in entries:
        streams = [path.read_bytes() for path in manifest.sequence(entry)]
        found[entry.id] = []
        decoders: tuple[Callable[..., Any], ...] = (reference, core, _by_index)
        for decoder in decoders:
            seen: set[tuple[str, int]] = set()
            with _watched(seen), suppress(NnbitsError):
                decoder(streams, supplied_parameters(entry.supplied))
            hits = [rows[line] if file == "" else by_line.get((file, line)) for file, line in seen]
            found[entry.id].append({hit for hit in hits if hit is not None})
    return found


# ---- C

_TOKEN: Final = re.compile(
    r"(?P<skip>//[^\n]*|/\*.*?\*/|\"(?:[^\"\\]|\\.)*\"|#\s*define[^\n]*"
    r"|(?:case|==|!=)\s*NNB_\w+|nnb_read_ue?_range\([^;]*;|!?in_range\([^;]*;|static const nnb_status bad[^;]*;)"
    rf"|(?P<code>\bNNB_(?:{'|'.join(_STREAM_CODES)})\b"
    r"|(?<=nnb_fail\(s, )above\b|(?<=return )bad\b|(?<=\? )bad\b|(?<=: )bad\b)",
    re.S,
)
_RECORD: Final = """#ifndef NNB_SITE_H
#define NNB_SITE_H
extern unsigned char nnb_sites[];
#define NNB_SITE(number, code) (nnb_sites[number] = 1, (code))
#endif
"""
_WRITE: Final = """#include <stdio.h>
#include <stdlib.h>
unsigned char nnb_sites[4096];
static void put(void) __attribute__((destructor));
static void put(void) {
  FILE *const file = fopen(getenv("NNB_SITES"), "w");
  if (file == NULL) return;
  for (unsigned i = 0; i < sizeof nnb_sites; i++) if (nnb_sites[i]) fprintf(file, "%u\\n", i);
  fclose(file);
}
"""


def _c_name(path: Path) -> str:
    return str(path.relative_to(core_folder().parent)) if path.is_relative_to(core_folder()) else path.name


def _statement(source: str, at: int) -> str:
    """The statement around a place, without comments."""
    plain = re.sub(r"/\*.*?\*/|^#[^\n]*", lambda match: " " * len(match[0]), source, flags=re.S | re.M)
    start = max(plain.rfind(mark, 0, at) for mark in ";{}") + 1
    return " ".join(plain[start : plain.find(";", at) + 1].split())


def _instrumented(path: Path, first: int) -> tuple[str, list[Site]]:
    """The source with its checks numbered, and the checks."""
    source = path.read_text(encoding="utf-8")
    sites: list[Site] = []

    def mark(match: re.Match[str]) -> str:
        if match["code"] is None:
            return match[0]
        line = source.count("\n", 0, match.start()) + 1
        text = _statement(source, match.start())
        sites.append(Site("c", _c_name(path), text, (line, line), bool(_PASSED_ON.search(text))))
        return f"NNB_SITE({first + len(sites) - 1}, {match[0]})"

    return _TOKEN.sub(mark, source), sites


def c_sites() -> list[Site]:
    """The checks of the C decoder, and of the program around it."""
    return _numbered(site for path in C_SOURCES for site in _instrumented(path, 0)[1])


def _c_program(work: Path) -> tuple[Path, list[Site]]:
    """A decoder that writes the numbers of the checks that failed to the file that NNB_SITES names."""
    (work / "site.h").write_text(_RECORD)
    (work / "site.c").write_text(_WRITE)
    sources = [work / "site.c"]
    sites: list[Site] = []
    for number, path in enumerate(C_SOURCES):
        text, own = _instrumented(path, len(sites))
        sites += own
        sources.append(work / f"{number}-{path.name}")
        sources[-1].write_text(text)
    program = work / "decoder"
    includes = (*(f"-I{folder}" for folder in C_INCLUDES), "-include", str(work / "site.h"))
    command = ["gcc", "-std=c11", "-O1", "-ffp-contract=off", *includes, *map(str, sources), "-o", str(program)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return program, _numbered(sites)


def _c_failures(manifest: Manifest, entries: Sequence[Entry]) -> Failures:
    found: Failures = {}
    with tempfile.TemporaryDirectory(prefix="nnbits-checks-") as folder:
        work = Path(folder)
        program, sites = _c_program(work)
        record = work / "failed"
        (work / "out").mkdir()
        for entry in entries:
            if set(entry.features) & {*NOT_IN_C, "out-of-band"}:
                continue
            record.unlink(missing_ok=True)
            subprocess.run(
                [str(program), *map(str, manifest.sequence(entry)), str(work / "out")],
                check=False,
                capture_output=True,
                env={**os.environ, "NNB_SITES": str(record)},
            )
            found[entry.id] = [{sites[int(number)] for number in record.read_text().split()}]
    return found


# ---- both


def measure(manifest: Manifest, sides: Sequence[str] = ("c", "python")) -> dict[Site, dict[str, int]]:
    """Every check, and the streams that fail it with how many others the same reader fails, fewest first.

    Checks that pass on what another has found do not count as others.

    Args:
        manifest: the suite; only its invalid streams are decoded.
        sides: ``c``, ``python`` or both.
    """
    entries = [entry for entry in manifest if not entry.valid]
    result: dict[Site, dict[str, int]] = {}
    makers: Mapping[str, tuple[Callable[[], list[Site]], Callable[..., Failures]]] = {
        "c": (c_sites, _c_failures),
        "python": (python_sites, _python_failures),
    }
    for side in sides:
        list_sites, failures = makers[side]
        by_stream = failures(manifest, entries)
        result |= {site: {} for site in list_sites()}
        for name, readers in by_stream.items():
            for hits in readers:
                for site in hits:
                    others = sum(not hit.passes_on for hit in hits - {site})
                    result[site][name] = max(result[site].get(name, 0), others)
    return {site: dict(sorted(streams.items(), key=lambda item: item[::-1])) for site, streams in result.items()}


def reasons() -> dict[str, str]:
    """Why a check has no stream, by its key."""
    data: dict[str, str] = json.loads(_LIST.read_text(encoding="utf-8"))
    return data


def open_checks(found: Mapping[Site, Mapping[str, int]]) -> list[str]:
    """What is wrong: checks without stream and reason, and reasons that are not needed or fit no check."""
    known = reasons()
    keys = {site.key: site for site in found}
    sides = {site.side for site in found}
    problems = [f"no stream and no reason: {key}" for key, site in keys.items() if not found[site] and key not in known]
    problems += [f"has a stream, and a reason why not: {key}" for key in known if key in keys and found[keys[key]]]
    problems += [f"no such check: {key}" for key in known if key not in keys and key.split(" ")[0] in sides]
    return problems


def report(found: Mapping[Site, Mapping[str, int]]) -> str:
    """Markdown: counts, and a table of every check with its stream or its reason."""
    known = reasons()
    lines = ["# Checks of the readers", "", *(__doc__ or "").split("\n\n")[1:2], ""]
    lines += ["| side | checks | with a stream | that fails no other | with a reason |", "|---|---|---|---|---|"]
    for side in sorted({site.side for site in found}):
        own = [site for site in found if site.side == side]
        with_stream = sum(bool(found[site]) for site in own)
        with_reason = sum(not found[site] and site.key in known for site in own)
        alone = sum(0 in found[site].values() for site in own)
        lines.append(f"| {side} | {len(own)} | {with_stream} | {alone} | {with_reason} |")
    lines += [
        "",
        "Others: how many other checks the same reader fails on that stream, without those that only pass on what",
        "another has found.",
        "",
        "| side | file | check | stream, or why there is none | others |",
        "|---|---|---|---|---|",
    ]
    for site, streams in found.items():
        text = site.text if len(site.text) <= 110 else site.text[:107] + "..."
        shown = text.replace("|", "\\|")
        name, others = next(iter(streams.items()), ("", 0))
        why = f"`{name}` | {others}" if streams else f"{known.get(site.key, '**open**')} | "
        lines.append(f"| {site.side} | {site.file} | `{shown}` | {why} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--side", choices=["c", "python"])
    options = parser.parse_args(arguments)
    found = measure(Manifest.load(), [options.side] if options.side else ("c", "python"))
    problems = open_checks(found)
    print("\n".join(problems))
    covered = sum(bool(streams) for streams in found.values())
    print(f"{len(found)} checks, {covered} with a stream, {len(problems)} open")
    if options.update:
        (DEFAULT_FOLDER / "CHECKS.md").write_text(report(found), encoding="utf-8")
    return int(bool(problems))


if __name__ == "__main__":
    raise SystemExit(main())

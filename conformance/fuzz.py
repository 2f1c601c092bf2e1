"""Fuzzing: ``python -m nnbits.conformance.fuzz --minutes 20 [--target NAME]...``.

Targets, one after the other:

    units         libFuzzer on the C parser and all that a parsed unit offers (codec/core/fuzz/fuzz_units.c)
    decode        libFuzzer on the C decoder, all its ways of decoding against each other (fuzz_decode.c)
    access        libFuzzer on access units, with checksums made right (fuzz_access.c)
    lossless      libFuzzer on blocks of exactly coded values, and on all paths of rANS (fuzz_lossless.c)
    differential  streams of the suite, mutated element by element: Python reader and C parser, reference and core must
                  give the same verdict, the same trace and the same tensors
    reader        atheris on the Python reader, if it is installed: nothing but NnbitsError comes out

Inputs that show something new are kept in --corpus, the minimised ones of the repository in codec/core/fuzz/corpus are
replayed by the tests. The exit status is 1 if anything was found; what was found is named.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.stream import read_units
from nnbits.codec.syntax import Trace
from nnbits.codec.syntax.native import parse_verdict, trace_stream
from nnbits.conformance.adapters import C_SOURCES, core, core_folder, reference
from nnbits.conformance.manifest import DEFAULT_FOLDER, Manifest, describe_tensor

__all__ = ["CORPUS", "TARGETS", "Findings", "build_replayers", "build_target", "check_differential", "main", "mutated"]

CORPUS: Final = core_folder() / "fuzz" / "corpus"
_FLAGS: Final = ("-std=c11", "-O1", "-fno-sanitize-recover=all")
_LARGEST: Final = 20_000


@dataclass(frozen=True)
class Findings:
    """What a target did.

    Attributes:
        target: its name.
        executions: inputs that were tried.
        seconds: time it took.
        coverage: what the fuzzer says of it.
        found: descriptions, or files, of inputs that broke the property.
    """

    target: str
    executions: int
    seconds: float
    coverage: str
    found: tuple[str, ...]

    def __str__(self) -> str:
        found = "; ".join(self.found) or "nothing found"
        return f"{self.target}: {self.executions:,} executions in {self.seconds:.0f} s, {self.coverage}, {found}"


def build_target(name: str, program: Path) -> Path:
    """Compile a libFuzzer target.

    Raises:
        NnbitsError: MISSING_PACKAGE without a compiler, INTERNAL if it fails.
    """
    sources = [core_folder() / "fuzz" / f"fuzz_{name}.c", *C_SOURCES[1:]]
    _clang(["-g", "-fsanitize=fuzzer,address,undefined", *map(str, sources), "-o", str(program)])
    return program


def build_replayers(names: Sequence[str], folder: Path) -> dict[str, Path]:
    """Compile the targets with a driver that replays files; the core is compiled once for all.

    Raises:
        NnbitsError: as :func:`build_target`.
    """
    objects = [folder / f"{number}.o" for number in range(len(C_SOURCES[1:]))]

    def compile_one(pair: tuple[Path, Path]) -> None:
        _clang(["-fsanitize=address,undefined", "-c", str(pair[0]), "-o", str(pair[1])])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compile_one, zip(C_SOURCES[1:], objects, strict=True)))
    driver = str(core_folder() / "fuzz" / "driver.c")
    programs = {name: folder / f"replay_{name}" for name in names}
    for name, program in programs.items():
        source = str(core_folder() / "fuzz" / f"fuzz_{name}.c")
        _clang(["-fsanitize=address,undefined", source, driver, *map(str, objects), "-o", str(program)])
    return programs


def _clang(words: Sequence[str]) -> None:
    if shutil.which("clang") is None:
        raise NnbitsError(ReasonCode.MISSING_PACKAGE, "there is no clang", path="target")
    includes = [f"-I{core_folder() / 'include'}", f"-I{core_folder() / 'src'}"]
    done = subprocess.run(["clang", *_FLAGS, *includes, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NnbitsError(ReasonCode.INTERNAL, f"clang: {done.stderr[-2000:]}", path="target")


def _seeds(folder: Path) -> Path:
    """The streams of the suite that are small enough, as a corpus."""
    seeds = folder / "seeds"
    seeds.mkdir()
    for entry in Manifest.load():
        if entry.size <= _LARGEST:
            shutil.copy(DEFAULT_FOLDER / entry.file, seeds / entry.id)
    return seeds


def _libfuzzer(name: str) -> Callable[[float, Path, int], Findings]:
    def run(minutes: float, corpus: Path, seed: int) -> Findings:
        with tempfile.TemporaryDirectory(prefix="nnbits-fuzz-") as work:
            program = build_target(name, Path(work) / f"fuzz_{name}")
            kept = corpus / name
            kept.mkdir(parents=True, exist_ok=True)
            artifacts = corpus / f"{name}-findings"
            artifacts.mkdir(exist_ok=True)
            options = [f"-max_total_time={int(60 * minutes)}", f"-seed={seed}", f"-max_len={_LARGEST}", "-timeout=20",
                       "-rss_limit_mb=2048", f"-artifact_prefix={artifacts}/", "-print_final_stats=1"]  # fmt: skip
            stored = [str(CORPUS / name)] if (CORPUS / name).is_dir() else []
            start = time.monotonic()
            done = subprocess.run(
                [str(program), *options, str(kept), *stored, str(_seeds(Path(work)))],
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
            seconds = time.monotonic() - start
        words = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", done.stderr)
        count = re.findall(r"number_of_executed_units: (\d+)", done.stderr) or re.findall(r"^#(\d+)", done.stderr, re.M)
        found = tuple(str(path) for path in sorted(artifacts.iterdir()))
        if done.returncode and not found:
            found = (done.stderr[-500:],)
        shown = "{} edges, {} features, {} inputs kept".format(*words[-1]) if words else "no coverage"
        return Findings(name, int(count[-1]) if count else 0, seconds, shown, found)

    return run


# ---- structure-aware mutation of streams


def mutated(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """A stream that is a little different: in elements, in its units, or in bytes; sizes of units stay right mostly."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = rng.choice((_element, _element, _element, _units, _bytes, _payload))(data, rng, others)
    return data


def _element(data: bytes, rng: random.Random, _others: Sequence[bytes]) -> bytes:
    """Other bits in one element of the declaration."""
    trace = Trace()
    try:
        for _ in read_units(memoryview(data), trace=trace):
            pass
    except NnbitsError:
        pass
    if not trace.records:
        return _bytes(data, rng, _others)
    record = rng.choice(trace.records)
    width = min(record.width, 64)
    if not width:
        return data
    value = rng.choice((0, (1 << width) - 1, rng.getrandbits(width), 1 << rng.randrange(width)))
    number = int.from_bytes(data, "big")
    shift = 8 * len(data) - record.position - width
    number = (
        number ^ (value << shift) if rng.random() < 0.5 else number & ~(((1 << width) - 1) << shift) | value << shift
    )
    return number.to_bytes(len(data), "big")


def _split(data: bytes) -> list[bytes]:
    """The units as far as sizes make sense."""
    units, at = [], 0
    while at + 2 <= len(data):
        size = int.from_bytes(data[at : at + 2], "big")
        if size & 0x8000:
            size = int.from_bytes(data[at : at + 4], "big") & 0x7FFFFFFF
        if size < 3 or at + size > len(data):
            break
        units.append(data[at : at + size])
        at += size
    return [*units, data[at:]] if data[at:] else units


def _units(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Units left out, doubled, moved, or taken from another stream."""
    units = _split(data)
    if not units:
        return data
    at = rng.randrange(len(units))
    choice = rng.randrange(4)
    if choice == 0:
        del units[at]
    elif choice == 1:
        units.insert(rng.randrange(len(units) + 1), units[at])
    elif choice == 2:
        units.insert(rng.randrange(len(units)), units.pop(at))
    else:
        units.insert(at, rng.choice(_split(rng.choice(others)) or [b""]))
    return b"".join(units)


def _payload(data: bytes, rng: random.Random, _others: Sequence[bytes]) -> bytes:
    """A unit that is shorter or longer, with its size."""
    units = _split(data)
    if not units:
        return data
    at = rng.randrange(len(units))
    unit = units[at]
    long = bool(unit[0] & 0x80)
    body = unit[4 if long else 2 :]
    cut = rng.randrange(len(body) + 1)
    body = body[:cut] if rng.random() < 0.6 else body[:cut] + rng.randbytes(rng.randrange(5)) + body[cut:]
    size = len(body) + (4 if long else 2)
    units[at] = ((size | 1 << 31).to_bytes(4, "big") if long else (size & 0x7FFF).to_bytes(2, "big")) + body
    return b"".join(units)


def _bytes(data: bytes, rng: random.Random, _others: Sequence[bytes]) -> bytes:
    """Any byte."""
    if not data:
        return rng.randbytes(4)
    out = bytearray(data)
    at = rng.randrange(len(out))
    out[at] ^= 1 << rng.randrange(8)
    return bytes(out[: rng.randrange(len(out))] if rng.random() < 0.1 else out)


def check_differential(data: bytes) -> str | None:
    """Whether all our readers agree on a stream; a description of the difference if not."""
    trace = Trace()
    verdict: ReasonCode | None = None
    try:
        for _ in read_units(memoryview(data), trace=trace):
            pass
    except NnbitsError as error:
        verdict = error.code
    if parse_verdict(data) != verdict:
        return f"the Python reader says {verdict}, the C parser {parse_verdict(data)}"
    if trace_stream(data) != list(trace.lines()):
        return "the traces differ"
    results: list[tuple[ReasonCode | None, dict[str, Any]]] = []
    for decode in (reference, core):
        try:
            results.append((None, {name: describe_tensor(name, a) for name, a in decode([data], {}).items()}))
        except NnbitsError as error:
            results.append((error.code, {}))
    if results[0] != results[1]:
        return f"the reference says {results[0][0]}, the core {results[1][0]}, or the tensors differ"
    if results[0][0] == ReasonCode.INTERNAL:
        return "INTERNAL"
    return None


#: The reference takes a microsecond a level; larger tensors would leave no time for other inputs.
_MOST_LEVELS: Final = 4000


def _affordable(data: bytes) -> bool:
    try:
        total = 0
        for unit, _ in read_units(memoryview(data)):
            total += int(np.prod([float(n) for n in getattr(unit.body, "tensor_dimensions", ())]))
    except NnbitsError:
        return True
    return total <= _MOST_LEVELS


def _differential(minutes: float, corpus: Path, seed: int) -> Findings:
    rng = random.Random(seed)
    manifest = Manifest.load()
    seeds = [manifest.path(e).read_bytes() for e in manifest if e.size <= 2000]
    found: list[str] = []
    verdicts: set[str] = set()
    count = 0
    start = time.monotonic()
    while time.monotonic() - start < 60 * minutes:
        data = mutated(rng.choice(seeds), rng, seeds)
        count += 1
        if not _affordable(data):
            continue
        try:
            problem = check_differential(data)
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        if problem:
            folder = corpus / "differential-findings"
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{count}.nnc"
            path.write_bytes(data)
            found.append(f"{path}: {problem}")
        verdicts.add(str(parse_verdict(data)))
    return Findings("differential", count, time.monotonic() - start, f"{len(verdicts)} verdicts", tuple(found))


_ATHERIS: Final = """
import sys
import atheris
with atheris.instrument_imports(include=["nnbits.codec"]):
    from nnbits.codec.errors import NnbitsError, ReasonCode
    from nnbits.codec import decode, stream, parts, source
    from nnbits.conformance.adapters import core
    from nnbits.conformance.fuzz import _affordable

def one(data):
    if not _affordable(data):
        return
    try:
        core([data], {})
    except NnbitsError as error:
        assert error.code != ReasonCode.INTERNAL, error

atheris.Setup(sys.argv, one)
atheris.Fuzz()
"""


def _reader(minutes: float, corpus: Path, seed: int) -> Findings:
    try:
        import atheris  # type: ignore[import-not-found,unused-ignore]  # noqa: F401
    except ImportError:
        return Findings("reader", 0, 0.0, "atheris is not installed", ())
    kept, artifacts = corpus / "reader", corpus / "reader-findings"
    kept.mkdir(parents=True, exist_ok=True)
    artifacts.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="nnbits-fuzz-") as work:
        script = Path(work) / "reader.py"
        script.write_text(_ATHERIS)
        start = time.monotonic()
        done = subprocess.run(
            [sys.executable, str(script), f"-max_total_time={int(60 * minutes)}", f"-seed={seed}", "-max_len=4000",
             f"-artifact_prefix={artifacts}/", "-print_final_stats=1", str(kept), str(_seeds(Path(work)))],
            capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip
        seconds = time.monotonic() - start
    words = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", done.stderr)
    count = re.findall(r"^#(\d+)", done.stderr, re.M)
    found = tuple(str(path) for path in sorted(artifacts.iterdir()))
    if done.returncode and not found:
        found = (done.stderr[-500:],)
    shown = "{} edges, {} features, {} inputs kept".format(*words[-1]) if words else "no coverage"
    return Findings("reader", int(count[-1]) if count else 0, seconds, shown, found)


TARGETS: Final[Mapping[str, Callable[[float, Path, int], Findings]]] = {
    "units": _libfuzzer("units"),
    "decode": _libfuzzer("decode"),
    "access": _libfuzzer("access"),
    "lossless": _libfuzzer("lossless"),
    "differential": _differential,
    "reader": _reader,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0, help="for each target")
    parser.add_argument("--target", action="append", choices=list(TARGETS))
    parser.add_argument("--corpus", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    options.corpus.mkdir(parents=True, exist_ok=True)
    failed = False
    for name in options.target or TARGETS:
        findings = TARGETS[name](options.minutes, options.corpus.resolve(), options.seed)
        print(findings, flush=True)
        failed |= bool(findings.found)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())

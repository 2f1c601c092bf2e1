"""Fuzzing: ``python -m nnbits.conformance.fuzz --minutes 20 [--target NAME]...``.

Targets, one after the other:

    units         libFuzzer on the C parser and all that a parsed unit offers (codec/core/fuzz/fuzz_units.c)
    decode        libFuzzer on the C decoder, all its ways of decoding against each other (fuzz_decode.c)
    access        libFuzzer on access units, with checksums made right (fuzz_access.c)
    lossless      libFuzzer on blocks of exactly coded values (fuzz_lossless.c)
    rans          libFuzzer on all paths of rANS (fuzz_rans.c)
    sparse        libFuzzer on sparse maps (fuzz_sparse.c)
    differential  streams of the suite, mutated element by element: Python reader and C parser, reference and core must
                  give the same verdict, the same trace and the same tensors; likewise sparse maps and rANS codes
    reader        atheris on the Python reader: nothing but NnbitsError comes out
    index         atheris on the index: refused, or written again it is the same bytes
    formats       atheris on the adapters for model files: refused with a reason, or restored byte for byte

Inputs that show something new are kept in --corpus; with --store a smallest set that has their coverage goes into the
repository, where the tests replay it. A target whose tool (clang, atheris) is missing is left out and says so, unless
it was asked for by name. The exit status is 1 if anything was found; what was found is named.
"""

from __future__ import annotations

import argparse
import atexit
import hashlib
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
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, Final

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.syntax.native import parse_verdict
from nnbits.conformance.adapters import CORE_SOURCES, core_folder
from nnbits.conformance.fuzz_mutation import check_differential, check_rans, check_sparse, mutated, scratched
from nnbits.conformance.fuzz_python import CHECKS, affordable
from nnbits.conformance.fuzz_seeds import SEEDS
from nnbits.conformance.manifest import DEFAULT_FOLDER, Manifest

__all__ = ["C_TARGETS", "PYTHON_TARGETS", "TARGETS", "Findings", "build_replayers", "main", "store", "stored"]

C_TARGETS: Final = ("units", "decode", "access", "lossless", "rans", "sparse")
PYTHON_TARGETS: Final = ("reader", "index", "formats")
_FLAGS: Final = ("-std=c11", "-O1", "-fno-sanitize-recover=all")
_LARGEST: Final = 20_000
#: Below the 256 MiB that a decoder may take for a tensor: a claim alone must not allocate.
_MALLOC_MIB: Final = 255
_RSS_MIB: Final = 512
#: How the names of inputs begin that once broke something (conformance/ERRATA.md): they stay.
_FOUND: Final = "found-"
#: For the Python targets, of which the interpreter and NumPy take a part.
_PYTHON_RSS_MIB: Final = 768


def stored(target: str) -> Path:
    """The inputs of a target that are kept in the repository."""
    parent = core_folder() / "fuzz" if target in C_TARGETS else Path(__file__).resolve().parent
    return parent / "corpus" / target


@dataclass(frozen=True)
class Findings:
    """What a target did.

    Attributes:
        target: its name.
        executions: inputs that were tried.
        seconds: time it took.
        coverage: what the fuzzer says of it.
        found: descriptions, or files, of inputs that broke the property.
        missing: the tool that is not there, if the target was left out.
        peak: MiB that it held, if the fuzzer says so.
    """

    target: str
    executions: int
    seconds: float
    coverage: str
    found: tuple[str, ...] = ()
    missing: str = ""
    peak: int | None = None

    def __str__(self) -> str:
        if self.missing:
            return f"{self.target}: left out, there is no {self.missing}"
        found = "; ".join(self.found) or "nothing found"
        peak = "" if self.peak is None else f"peak {self.peak} MiB, "
        done = f"{self.executions:,} executions in {self.seconds:.0f} s"
        return f"{self.target}: {done}, {self.coverage}, {peak}{found}"


def build_replayers(names: Sequence[str], folder: Path) -> dict[str, Path]:
    """Compile targets with a driver that replays files, for compilers without libFuzzer.

    Raises:
        NnbitsError: MISSING_PACKAGE without a compiler, INTERNAL if it fails.
    """
    sanitizers = "-fsanitize=address,undefined"
    objects = _core_objects(sanitizers, folder)
    driver = str(core_folder() / "fuzz" / "driver.c")
    programs = {name: folder / f"replay_{name}" for name in names}
    for name, program in programs.items():
        _clang([sanitizers, _source(name), driver, *objects, "-o", str(program)])
    return programs


@cache
def _build_target(name: str) -> Path:
    """Compile a libFuzzer target."""
    objects, folder = _fuzzed_core()
    program = folder / f"fuzz_{name}"
    _clang(["-g", "-fsanitize=fuzzer,address,undefined", _source(name), *objects, "-o", str(program)])
    return program


@cache
def _fuzzed_core() -> tuple[list[str], Path]:
    """The core, compiled once for all targets, and a folder that lasts as long as the program."""
    folder = Path(tempfile.mkdtemp(prefix="nnbits-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return _core_objects("-fsanitize=fuzzer-no-link,address,undefined", folder), folder


def _source(target: str) -> str:
    return str(core_folder() / "fuzz" / f"fuzz_{target}.c")


def _core_objects(sanitizers: str, folder: Path) -> list[str]:
    objects = [str(folder / f"{number}.o") for number in range(len(CORE_SOURCES))]

    def compile_one(pair: tuple[Path, str]) -> None:
        _clang(["-g", sanitizers, "-c", str(pair[0]), "-o", pair[1]])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compile_one, zip(CORE_SOURCES, objects, strict=True)))
    return objects


def _clang(words: Sequence[str]) -> None:
    if shutil.which("clang") is None:
        raise NnbitsError(ReasonCode.MISSING_PACKAGE, "there is no clang", path="target")
    includes = [f"-I{core_folder() / 'include'}", f"-I{core_folder() / 'src'}"]
    done = subprocess.run(["clang", *_FLAGS, *includes, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NnbitsError(ReasonCode.INTERNAL, f"clang: {done.stderr[-2000:]}", path="target")


def _seeds(target: str, folder: Path) -> Path:
    """What a target starts from: what our encoders make, or the streams of the suite that are small enough."""
    seeds = folder / f"seeds-{target}"
    seeds.mkdir()
    if target in SEEDS:
        for number, data in enumerate(SEEDS[target]()):
            (seeds / f"{number:05d}").write_bytes(data)
    else:
        for entry in Manifest.load():
            if entry.size <= _LARGEST:
                shutil.copy(DEFAULT_FOLDER / entry.file, seeds / entry.id)
    return seeds


def _program(target: str) -> list[str]:
    """The command of a target, which takes libFuzzer's arguments."""
    if target in C_TARGETS:
        limits = [f"-rss_limit_mb={_RSS_MIB}", f"-malloc_limit_mb={_MALLOC_MIB}"]
        return [str(_build_target(target)), *limits]
    return [sys.executable, "-c", _ATHERIS, target, f"-rss_limit_mb={_PYTHON_RSS_MIB}"]


#: Functions are instrumented one by one: the hook of atheris does not see through the loader of an editable install.
_ATHERIS: Final = """
import gc, sys, types
import atheris
from nnbits.conformance.fuzz_python import CHECKS

for function in gc.get_objects():
    module = getattr(function, "__module__", "") if isinstance(function, types.FunctionType) else ""
    if (module or "").startswith(("nnbits.codec", "nnbits.formats")):
        atheris.instrument_func(function)
check = CHECKS[sys.argv.pop(1)]

def one(data):
    problem = check(data)
    if problem:
        raise AssertionError(problem)

atheris.Setup(sys.argv, one)
atheris.Fuzz()
"""


def _libfuzzer(target: str) -> Callable[[float, Path, int], Findings]:
    def run(minutes: float, corpus: Path, seed: int) -> Findings:
        with tempfile.TemporaryDirectory(prefix="nnbits-fuzz-") as work:
            program = _program(target)
            kept, artifacts = corpus / target, corpus / f"{target}-findings"
            kept.mkdir(parents=True, exist_ok=True)
            artifacts.mkdir(exist_ok=True)
            options = [f"-max_total_time={max(1, int(60 * minutes))}", f"-seed={seed}", f"-max_len={_LARGEST}",
                       "-timeout=600", "-report_slow_units=600", f"-artifact_prefix={artifacts}/",
                       "-print_final_stats=1"]  # fmt: skip
            folders = [kept, *(f for f in (stored(target),) if f.is_dir()), _seeds(target, Path(work))]
            start = time.monotonic()
            done = _run([*program, *options, *map(str, folders)])
            seconds = time.monotonic() - start
        words = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", done.stderr)
        count = re.findall(r"number_of_executed_units: (\d+)", done.stderr) or re.findall(r"^#(\d+)", done.stderr, re.M)
        found = tuple(str(path) for path in sorted(artifacts.iterdir()))
        if done.returncode and not found:
            found = (done.stderr[-1000:],)
        shown = "{} edges, {} features, {} inputs kept".format(*words[-1]) if words else "no coverage"
        peak = re.findall(r"peak_rss_mb: *(\d+)", done.stderr)
        executions = int(count[-1]) if count else 0
        return Findings(target, executions, seconds, shown, found, peak=int(peak[-1]) if peak else None)

    return run


def _run(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    sanitizer = {"ASAN_OPTIONS": "quarantine_size_mb=16"}  # memory that was given back counts against the limit
    return subprocess.run(
        words, capture_output=True, text=True, errors="replace", check=False, env={**os.environ, **sanitizer}
    )


def store(target: str, corpus: Path) -> int:
    """Keep a smallest set of inputs that reach what the seeds do not, and past findings; returns their number.

    Raises:
        NnbitsError: MISSING_PACKAGE without a compiler, INTERNAL if it or the fuzzer fails.
    """
    folders = [f for f in (stored(target), corpus / target) if f.is_dir()]
    with tempfile.TemporaryDirectory(prefix="nnbits-fuzz-") as work:
        seeds = _seeds(target, Path(work))
        new = _merge(target, seeds, folders) if target in C_TARGETS else _smallest(CHECKS[target], seeds, folders)
        kept = Path(work) / "kept"
        kept.mkdir()
        for data in new:
            (kept / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
        for path in stored(target).glob(f"{_FOUND}*"):
            shutil.copy(path, kept)
        shutil.rmtree(stored(target), ignore_errors=True)
        shutil.copytree(kept, stored(target))
        return len(list(kept.iterdir()))


def _merge(target: str, seeds: Path, folders: Sequence[Path]) -> list[bytes]:
    """libFuzzer's choice, by edges only: how often each was taken would keep ten times as many."""
    before = {path.name for path in seeds.iterdir()}
    done = _run([*_program(target), "-merge=1", "-use_counters=0", str(seeds), *map(str, folders)])
    if done.returncode:
        raise NnbitsError(ReasonCode.INTERNAL, done.stderr[-1000:], path="target")
    return [path.read_bytes() for path in sorted(seeds.iterdir()) if path.name not in before]


def _smallest(check: Callable[[bytes], str | None], seeds: Path, folders: Sequence[Path]) -> list[bytes]:
    """The smallest inputs first, each if it reaches a line that none before it did."""
    lines: set[tuple[object, int]] = set()
    for path in seeds.iterdir():
        lines |= _lines(check, path.read_bytes())
    chosen = []
    for data in sorted({path.read_bytes() for folder in folders for path in folder.iterdir()}, key=len):
        found = _lines(check, data)
        if not found <= lines:
            lines |= found
            chosen.append(data)
    return chosen


def _lines(check: Callable[[bytes], str | None], data: bytes) -> set[tuple[object, int]]:
    lines: set[tuple[object, int]] = set()

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_globals.get("__name__", "").startswith(("nnbits.codec", "nnbits.formats")):
            return None
        lines.add((frame.f_code, frame.f_lineno))
        return trace

    sys.settrace(trace)
    try:
        check(data)
    finally:
        sys.settrace(None)
    return lines


def _differential(minutes: float, corpus: Path, seed: int) -> Findings:
    rng = random.Random(seed)
    manifest = Manifest.load()
    streams = [manifest.path(e).read_bytes() for e in manifest if e.size <= 2000]
    pieces = {check: list(SEEDS[name]()) for name, check in (("sparse", check_sparse), ("rans", check_rans))}
    found: list[str] = []
    verdicts: set[str] = set()
    count = 0
    start = time.monotonic()
    while time.monotonic() - start < 60 * minutes:
        count += 1
        check: Callable[[bytes], str | None] = rng.choice((check_differential, check_differential, *pieces))
        if check in pieces:
            data = scratched(rng.choice(pieces[check]), rng)
        else:
            data = mutated(rng.choice(streams), rng, streams)
            if not affordable(data):
                continue
            verdicts.add(str(parse_verdict(data)))
        try:
            problem = check(data)
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        if problem:
            folder = corpus / "differential-findings"
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{count}.nnc"
            path.write_bytes(data)
            found.append(f"{path}: {problem}")
    return Findings("differential", count, time.monotonic() - start, f"{len(verdicts)} verdicts", tuple(found))


TARGETS: Final[Mapping[str, Callable[[float, Path, int], Findings]]] = {
    **{target: _libfuzzer(target) for target in C_TARGETS},
    "differential": _differential,
    **{target: _libfuzzer(target) for target in PYTHON_TARGETS},
}


def _missing(target: str) -> str:
    if target in C_TARGETS and shutil.which("clang") is None:
        return "clang"
    return "atheris" if target in PYTHON_TARGETS and find_spec("atheris") is None else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0, help="for each target")
    parser.add_argument("--target", action="append", choices=list(TARGETS))
    parser.add_argument("--corpus", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", action="store_true", help="keep what was found to be new in the repository")
    options = parser.parse_args(arguments)
    options.corpus.mkdir(parents=True, exist_ok=True)
    failed = False
    for target in options.target or TARGETS:
        missing = _missing(target)
        if missing:
            findings = Findings(target, 0, 0.0, "", missing=missing)
            failed |= options.target is not None
        else:
            findings = TARGETS[target](options.minutes, options.corpus.resolve(), options.seed)
            failed |= bool(findings.found)
        print(findings, flush=True)
        if options.store and target != "differential" and not missing:
            print(f"{target}: {store(target, options.corpus.resolve())} inputs stored", flush=True)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())

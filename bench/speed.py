"""Shows size, time and memory of nnbits beside NNCodec, measured alternately in one run.

    .venv/bin/python bench/speed.py                                # MiniLM, QP -32, dependent quantization, 5 runs
    .venv/bin/python bench/speed.py --model resnet56 --runs 7 --uniform

Every measurement is a fresh process. Seconds are taken inside it, around encode or decode alone (arrays to bytes, bytes
to arrays: no import, no file). Peak memory is that of the whole process; "start-up peak" is that of a process that only
imports its libraries, to be subtracted for a comparison of the codecs themselves. Each round runs the peer, then nnbits
with each number of threads; the table gives medians over the rounds and peer / nnbits: above 1, nnbits is better.

Both encoders get the same QPs. Each side decodes its own stream; "decode peer's stream" is nnbits at the same bytes as
the peer. The last lines are the command `nnbits unpack` and its memory against the tensors' size.

Exit status: 0, or 1 if nnbits decodes the peer's stream differently, 2 if something needed is absent or failed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any, Final, TypeAlias

from _peer import (
    BenchError,
    Job,
    Side,
    add_options,
    find_model,
    machine,
    nnbits_args,
    open_sides,
    peer_args,
    print_table,
    require,
    run_process,
)

#: All values of a measure: samples[measure][who], who being "peer" or a number of threads of nnbits.
Samples: TypeAlias = dict[str, dict[str, list[float]]]

MIB: Final = float(1 << 20)
UNITS: Final = {
    "stream bytes": (1, ",.0f"),
    "encode s": (1, ".3f"),
    "decode s": (1, ".3f"),
    "decode peer's stream s": (1, ".3f"),
    "encode peak MiB": (MIB, ",.0f"),
    "decode peak MiB": (MIB, ",.0f"),
    "start-up peak MiB": (MIB, ",.0f"),
    "unpack s (whole process)": (1, ".3f"),
    "unpack peak MiB": (MIB, ",.0f"),
    "unpack peak / decoded size": (1, ".2f"),
}


class Bench:
    """Runs the rounds and keeps every value."""

    def __init__(self, peer: Side, ours: Side, folder: Path, options: argparse.Namespace) -> None:
        self.peer, self.ours, self.folder, self.options = peer, ours, folder, options
        self.samples: Samples = defaultdict(lambda: defaultdict(list))
        self.decoded_bytes = 0

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def round(self) -> None:
        """Everything once."""
        qp, dependent = self.options.qp, not self.options.uniform
        source, theirs, mine = self.path("source.npz"), self.path("peer.nnc"), self.path("nnbits.nnc")
        args = peer_args(qp, dependent)
        self._measure("encode", "peer", {"op": "encode", "in": source, "out": theirs, "args": args})
        for threads in self.options.threads:
            args = {**nnbits_args(qp, dependent, self.options.nnbits_args), "threads": threads}
            self._measure("encode", str(threads), {"op": "encode", "in": source, "out": mine, "args": args})
        self._measure("decode", "peer", {"op": "decode", "in": theirs, "out": self.path("peer.npz")})
        out = self.path("nnbits.npz")
        for threads in self.options.threads:
            self._measure("decode", str(threads), {"op": "decode", "in": mine, "out": out, "threads": threads})
        for threads in self.options.threads:
            job = {"op": "decode", "in": theirs, "out": self.path("peer-by-nnbits.npz"), "threads": threads}
            answer, _ = self.ours.run_one(job)
            self.samples["decode peer's stream s"][str(threads)].append(answer["seconds"])
        self._unpack(mine)

    def start_up(self) -> None:
        """Peak memory of processes that do nothing."""
        for _ in range(3):
            *_, usage = run_process([self.peer.python, self.peer.script, "--check"])
            self.samples["start-up peak MiB"]["peer"].append(usage.peak)
            _, usage = self.ours.run_one({"op": "idle"})
            for threads in self.options.threads:
                self.samples["start-up peak MiB"][str(threads)].append(usage.peak)

    def identical(self) -> dict[str, str | None]:
        """What is different (None: nothing) between the decoded tensors of the last round."""
        pairs = {"decode of the peer's stream": "peer-by-nnbits.npz", "values in the two streams": "nnbits.npz"}
        jobs = [{"op": "compare", "in": self.path(n), "reference": self.path("peer.npz")} for n in pairs.values()]
        answers, _ = self.ours.run(jobs)
        require(answers)
        return {name: answer["difference"] for name, answer in zip(pairs, answers, strict=True)}

    def _measure(self, what: str, who: str, job: Job) -> None:
        answer, usage = (self.peer if who == "peer" else self.ours).run_one(job)
        self.samples[f"{what} s"][who].append(answer["seconds"])
        self.samples[f"{what} peak MiB"][who].append(usage.peak)
        self.samples[f"{what} processor s (whole process)"][who].append(usage.cpu)
        if what == "encode":
            self.samples["stream bytes"][who].append(answer["bytes"])
        else:
            self.decoded_bytes = answer["bytes"]

    def _unpack(self, stream: str) -> None:
        script = self.ours.python.parent / "nnbits"
        main = [self.ours.python, "-c", "from nnbits.tools.cli import main; main()"]
        out = Path(self.path("unpacked.safetensors"))
        out.unlink(missing_ok=True)
        status, _, errors, usage = run_process([*([script] if script.exists() else main), "unpack", stream, out])
        if status or not out.exists():
            raise BenchError(f"nnbits unpack ended with status {status}: {errors.strip()[-500:]}")
        who = "default"
        self.samples["unpack s (whole process)"][who].append(usage.wall)
        self.samples["unpack peak MiB"][who].append(usage.peak)
        self.samples["unpack peak / decoded size"][who].append(usage.peak / self.decoded_bytes)


def print_results(samples: Samples, threads: list[int]) -> None:
    """The table of medians, and the lines of `nnbits unpack`."""
    ours = [str(n) for n in threads]
    rows: list[list[str]] = []
    for measure, (scale, form) in UNITS.items():
        medians = {who: statistics.median(values) / scale for who, values in samples[measure].items()}
        reference = medians.get("peer")
        if measure == "decode peer's stream s":
            reference = statistics.median(samples["decode s"]["peer"])
        if reference is None or not all(n in medians for n in ours):
            continue
        ratios = [f"{reference / medians[n]:.2f}" for n in ours]
        rows.append([measure, *[format(value, form) for value in (reference, *(medians[n] for n in ours))], *ratios])
    head = ["median of", "peer", *[f"nnbits t{n}" for n in ours], *[f"peer/nnbits t{n}" for n in ours]]
    print_table(head, rows, left=1)
    print()
    for measure, (scale, form) in UNITS.items():
        if measure.startswith("unpack"):
            print(f"nnbits {measure}: {statistics.median(samples[measure]['default']) / scale:{form}}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="minilm", help="minilm, resnet20, resnet56, or a .safetensors file")
    parser.add_argument("--qp", type=int, default=-32)
    parser.add_argument("--uniform", action="store_true", help="uniform instead of dependent quantization")
    parser.add_argument("--runs", type=int, default=5, help="rounds")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N", help="threads of nnbits")
    add_options(parser)
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    result: dict[str, Any] = {"machine": machine(), "model": options.model, "qp": options.qp, "runs": options.runs}
    result["mode"] = "uniform" if options.uniform else "dependent"
    try:
        model = find_model(options.model, options)
        peer, ours = open_sides(options)
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(peer, ours, Path(folder), options)
            answer, _ = ours.run_one({"op": "convert", "in": str(model), "out": bench.path("source.npz")})
            bench.start_up()
            for number in range(options.runs):
                print(f"round {number + 1} of {options.runs} ...", file=sys.stderr, flush=True)
                bench.round()
            differences = bench.identical()
    except BenchError as error:
        print(f"speed: {error}", file=sys.stderr)
        return 2
    result["load_after"] = machine()["load"]
    result |= {"source_bytes": answer["bytes"], "differences": differences, "samples": bench.samples}
    host = result["machine"]
    print(f"{host['cpu']}, {host['cores']} cores, load {host['load'][0]} before and {result['load_after'][0]} after")
    print(f"{options.model}, {answer['bytes']:,} bytes, QP {options.qp}, {result['mode']}, {options.runs} runs\n")
    print_results(bench.samples, options.threads)
    print()
    for name, difference in differences.items():
        print(f"{name}: {difference or 'identical'}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if differences["decode of the peer's stream"] else 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Shows that streams of NNCodec decode here, and ours there, to the same bits.

    .venv/bin/python bench/interop.py                              # all parts, less than 10 minutes on two cores
    .venv/bin/python bench/interop.py --full                       # every QP and tool on all of MiniLM
    .venv/bin/python bench/interop.py --only plain --models resnet20 --qp -32

For every case both programs encode the same tensors, and both decode both streams:

    peer -> nnbits    the peer encodes; nnbits.load gives bit for bit what the peer decodes
    nnbits -> peer    nnbits encodes; the peer decodes bit for bit what nnbits.load gives

Parts (--only):

    plain      dependent and uniform quantization with the simple calls of both programs, all models and QPs
    codebook   uniform quantization with an integer codebook, QP -20 (the peer is slow at lower QPs)
    scan       scan orders 1 to 4, with dependent quantization; without tensors of shape (1, N) or (N, 1), where the
               peer's encoder fails
    rows       row skipping, with half of the rows of all large tensors pruned
    updates    three updates, each relative to the ones before, with temporal contexts and history

Without --full, MiniLM is coded at QP -32 only, and by all parts but the first only in its first two layers (codebook:
in the attention of the first layer).

"weights" says how many tensors of two or more dimensions use the tool in that stream (of updates: temporal contexts +
history); a case in which none does is a failure, since it shows nothing. "same values" says, for information, whether
the two encoders also chose the same quantized values. A case that this build of nnbits cannot encode yet is named
"absent", which is not a failure.
Exit status: 0 if everything is identical, 1 on any difference or failure, 2 if something needed is absent.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from _peer import (
    NONWEIGHT_QP,
    Answer,
    BenchError,
    Job,
    Side,
    add_options,
    find_model,
    lowlevel_sides,
    machine,
    nnbits_args,
    peer_args,
    print_table,
    require,
)

MODELS: Final = ("resnet20", "resnet56", "minilm")
TOOL_MODELS: Final = ("resnet56", "minilm")
PARTS: Final = ("plain", "codebook", "scan", "rows", "updates")
MODES: Final = ("dependent", "uniform")
QPS: Final = (-24, -32, -40)
QP: Final = -32
#: The peer's time grows with the number of different values: a minute for ResNet-20 at QP -24.
CODEBOOK_QP: Final = -20
STEPS: Final = (1, 2, 3)
SCANS: Final = ("scan 1", "scan 2", "scan 3", "scan 4")
LARGE: Final = 20_000_000
#: What the parts with tools take of MiniLM: two layers, or for codebooks less.
MINILM_PART: Final = ("encoder.layer.0.", "encoder.layer.1.", "embeddings.position", "embeddings.LayerNorm")
MINILM_CODEBOOK_PART: Final = ("encoder.layer.0.attention.",)


@dataclass(frozen=True)
class Row:
    """The outcome of one stream: who made it, how large both encoders' streams are, what is different (or nothing)."""

    model: str
    qp: int
    mode: str
    direction: str
    peer_bytes: int | None
    nnbits_bytes: int | None
    difference: str | None
    same_values: bool | None
    tool_weights: int | None = None
    history_weights: int | None = None
    weights: int | None = None
    absent: str | None = None

    def cells(self) -> list[str]:
        sizes = [f"{size:,}" if size is not None else "-" for size in (self.peer_bytes, self.nnbits_bytes)]
        same = {True: "yes", False: "no", None: "-"}[self.same_values]
        history = "" if self.history_weights is None else f" + {self.history_weights}"
        used = "-" if self.weights is None else f"{self.tool_weights}{history} of {self.weights}"
        verdict = f"absent: {self.absent}" if self.absent else self.difference or "identical"
        return [self.model, str(self.qp), self.mode, self.direction, *sizes, used, same, verdict]


HEAD: Final = ["model", "qp", "mode", "direction", "peer bytes", "nnbits bytes", "weights", "same values", "verdict"]


@dataclass(frozen=True)
class Case:
    """One model, QP and mode; its files lie side by side in a folder.

    Attributes:
        source: the tensors.
        encode, save: the jobs with which the peer and nnbits encode, without file names.
        tool: the key that counts in the answer of ``check_tools``, None for uniform quantization.
    """

    model: str
    source: Path
    qp: int
    mode: str
    encode: Job
    save: Job
    tool: str | None = None

    def path(self, name: str) -> str:
        return str(self.source.with_name(f"{self.mode.replace(' ', '-')}{self.qp}-{name}"))

    @property
    def decode_op(self) -> str:
        """The peer's counterpart of what it encodes with."""
        return "decode" if self.encode["op"] == "encode" else "decompress"


def plain_case(model: str, source: Path, qp: int, mode: str, more: Answer) -> Case:
    """The simple calls of both programs."""
    dependent = mode == "dependent"
    encode = {"op": "encode", "args": peer_args(qp, dependent)}
    save = {"op": "save", "args": nnbits_args(qp, dependent, more)}
    return Case(model, source, qp, mode, encode, save, "dependent" if dependent else None)


def tool_case(model: str, source: Path, qp: int, mode: str) -> Case:
    """A case of the parts codebook, scan and rows."""
    peer: Answer = {"use_dq": True}
    ours: Answer = {"coding": "dependent"}
    tool = mode
    if mode == "codebook":
        peer, ours = {"use_dq": False, "codebook_mode": 1}, {"coding": "codebook"}
    elif mode == "row skipping":
        peer["row_skipping"], ours["row_skipping"], tool = True, True, "rows"
    else:
        order = int(mode.removeprefix("scan "))
        peer["scan_order"] = ours["scan_order"] = order
    encode = {"op": "compress", "args": {"qp": qp, "nonweight_qp": NONWEIGHT_QP, **peer}}
    save = {"op": "save_plan", "args": {"qp": qp, **ours}}
    return Case(model, source, qp, mode, encode, save, tool)


def compare(peer: Side, ours: Side, cases: list[Case]) -> list[Row]:
    """Both directions of all cases, with one process of the peer and two of nnbits (the peer starts slowly)."""
    numbered = dict(enumerate(cases))
    saved = _run(ours, {i: {**c.save, "in": str(c.source), "out": c.path("nnbits.nnc")} for i, c in numbered.items()})
    theirs: dict[Any, Job] = {}
    checks: dict[Any, Job] = {}
    for i, case in numbered.items():
        theirs["encode", i] = {**case.encode, "in": str(case.source), "out": case.path("peer.nnc")}
        made = ["peer"] if "unsupported" in saved[i] or not saved[i]["ok"] else ["peer", "nnbits"]
        for who in made:
            files = {"in": case.path(f"{who}.nnc"), "reference": case.path(f"{who}.npz"), "source": str(case.source)}
            theirs[who, i] = {"op": case.decode_op, "in": case.path(f"{who}.nnc"), "out": case.path(f"{who}.npz")}
            checks[who, i] = {"op": "check_tools", **files, "qp": case.qp}
        if len(made) > 1:
            checks["same", i] = {"op": "compare", "in": case.path("nnbits.npz"), "reference": case.path("peer.npz")}
    answered, checked = _run(peer, theirs), _run(ours, checks)
    rows: list[Row] = []
    for i, case in numbered.items():
        sizes = answered["encode", i].get("bytes"), saved[i].get("bytes")
        same = checked["same", i].get("difference", "failed") is None if ("same", i) in checked else None
        for who, other, encoded in (("peer", "nnbits", answered["encode", i]), ("nnbits", "peer", saved[i])):
            head = case.model, case.qp, case.mode, f"{who} -> {other}", *sizes
            if "unsupported" in encoded:
                rows.append(Row(*head, None, same, absent=encoded["unsupported"]))
                continue
            check = checked.get((who, i), {"ok": False, "error": "not reached"})
            difference = _failure(encoded, answered.get((who, i), check), check) or check["difference"]
            tools = check.get("tools", {})
            used = tools.get(case.tool) or 0 if case.tool else tools.get("weights", 0)
            if difference is None and not used:
                difference = "no weight uses the tool"
            rows.append(Row(*head, difference, same, used, None, tools.get("weights")))
    return rows


def _run(side: Side, jobs: dict[Any, Job]) -> dict[Any, Answer]:
    return dict(zip(jobs, side.run(list(jobs.values()))[0], strict=True))


def _failure(*answers: Answer) -> str | None:
    """The first failure in a chain: those after it follow from it."""
    for who, answer in zip(("encode", "peer's decode", "nnbits' decode"), answers, strict=True):
        if not answer["ok"]:
            return f"{who} failed: {answer['error']}"
    return None


def compare_updates(peer: Side, ours: Side, model: str, base: Path, qp: int) -> list[Row]:
    """Three updates in both directions; each has to use temporal contexts and history somewhere."""

    def paths(name: str) -> list[str]:
        return [str(base.with_name(f"update-{step}-{name}")) for step in STEPS]

    versions, meant = paths("version.npz"), paths("difference.npz")
    ours.run_one({"op": "versions", "in": str(base), "versions": versions, "differences": meant})
    args = {"qp": qp, "nonweight_qp": NONWEIGHT_QP, "tca": True, "row_skipping": True, "compress_differences": True}
    save = {"op": "chain", "in": str(base), "versions": versions, "out": paths("nnbits.nnc")}
    saved = ours.run([{**save, "args": {"qp": qp, "coding": "dependent"}}])[0][0]
    made = ["peer"] if "unsupported" in saved or not saved["ok"] else ["peer", "nnbits"]
    jobs: dict[Any, Job] = {}
    for step, (source, stream) in enumerate(zip(meant, paths("peer.nnc"), strict=True)):
        jobs["encode", step] = {"op": "compress", "in": source, "out": stream, "args": args, "store": "encoder"}
    for who in made:
        for step, (stream, out) in enumerate(zip(paths(f"{who}.nnc"), paths(f"{who}.npz"), strict=True)):
            jobs[who, step] = {"op": "decompress", "in": stream, "out": out, "store": f"decoder of {who}"}
    answered = _run(peer, jobs)
    checks: dict[Any, Job] = {}
    for who in made:
        # The differences that nnbits means are those to its own last state; that it arrives is checked by the chain.
        source_of = [*meant] if who == "peer" else [None] * len(STEPS)
        files = {"in": paths(f"{who}.nnc"), "reference": paths(f"{who}.npz"), "meant": source_of}
        checks[who] = {"op": "check_updates", **files, "qp": qp}
    checked = _run(ours, checks)
    rows: list[Row] = []
    for step, number in enumerate(STEPS):
        sizes = answered["encode", step].get("bytes"), saved["sizes"][step] if "sizes" in saved else None
        for who, other, encoded in (("peer", "nnbits", answered["encode", step]), ("nnbits", "peer", saved)):
            head = model, qp, f"update {number}", f"{who} -> {other}", *sizes
            if "unsupported" in encoded:
                rows.append(Row(*head, None, None, absent=encoded["unsupported"]))
                continue
            check = checked.get(who, {"ok": False, "error": "not reached"})
            found = check["steps"][step] if check["ok"] else {}
            difference = _failure(encoded, answered.get((who, step), check), check) or found["difference"]
            tools = found.get("tools", {})
            temporal, history = tools.get("temporal", 0), tools.get("history", 0)
            if difference is None and number == STEPS[-1]:
                difference = _unused(check["steps"])
            rows.append(Row(*head, difference, None, temporal, history, tools.get("weights")))
    return rows


def _unused(steps: list[Answer]) -> str | None:
    """The tool that a sequence never used; where it does not shorten the stream, an encoder may go without."""
    for tool, name in (("temporal", "temporal contexts"), ("history", "history")):
        if not any(step["tools"].get(tool) for step in steps):
            return f"no weight uses {name}"
    return None


def cases_of(options: argparse.Namespace) -> Iterator[tuple[str, str, list[int]]]:
    """Part, model and QPs of everything to do."""
    for part in options.only:
        wanted = MODELS if part == "plain" else TOOL_MODELS
        for model in options.models or wanted:
            usual = [CODEBOOK_QP if part == "codebook" else QP]
            if part == "plain" and (model != "minilm" or options.full):
                usual = list(QPS)
            yield part, model, options.qp or usual


def run_part(peer: Side, ours: Side, part: str, model: str, qps: list[int], options: argparse.Namespace) -> list[Row]:
    """All cases of a part and a model, in folders that are gone when it returns."""
    file = find_model(model, options)
    # Decoded tensors of a large model lie on the disk for one QP at a time; else one start of the peer is enough.
    groups = [qps] if file.stat().st_size < LARGE else [[qp] for qp in qps]
    rows: list[Row] = []
    for group in groups:
        print(f"{part}: {model} qp {', '.join(map(str, group))} ...", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "source.npz"
            jobs: list[Job] = [{"op": "convert", "in": str(file), "out": str(source)}]
            same = {"in": str(source), "out": str(source)}
            if part != "plain" and model == "minilm" and not options.full:
                prefixes = MINILM_CODEBOOK_PART if part == "codebook" else MINILM_PART
                jobs.append({"op": "select", **same, "prefixes": prefixes})
            if part == "scan":
                jobs.append({"op": "drop_flat", **same})
            if part == "rows":
                jobs.append({"op": "prune", **same, "fraction": 0.5})
            require(ours.run(jobs)[0])
            if part == "updates":
                for qp in group:
                    rows += compare_updates(peer, ours, model, source, qp)
            elif part == "plain":
                pairs = [(qp, mode) for qp in group for mode in options.modes]
                rows += compare(peer, ours, [plain_case(model, source, *pair, options.nnbits_args) for pair in pairs])
            else:
                modes = {"codebook": ("codebook",), "rows": ("row skipping",), "scan": SCANS}[part]
                pairs = [(qp, mode) for qp in group for mode in modes]
                rows += compare(peer, ours, [tool_case(model, source, *pair) for pair in pairs])
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--models", nargs="+", metavar="MODEL", help="names or .safetensors files")
    parser.add_argument("--qp", nargs="+", type=int)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES), help="of the part plain")
    parser.add_argument("--full", action="store_true", help="all QPs and parts on all of MiniLM, about an hour")
    add_options(parser)
    options = parser.parse_args()
    rows: list[Row] = []
    try:
        for _, name, _ in cases_of(options):
            find_model(name, options)
        peer, ours = lowlevel_sides(options)
        for part, model, qps in cases_of(options):
            rows += run_part(peer, ours, part, model, qps, options)
    except BenchError as error:
        print(f"interop: {error}", file=sys.stderr)
        return 2
    print_table(HEAD, [row.cells() for row in rows], left=4)
    absent = sum(row.absent is not None for row in rows)
    different = sum(row.difference is not None for row in rows)
    same = len(rows) - different - absent
    print(f"\n{len(rows)} streams, {same} identical, {different} different, {absent} absent")
    if options.json:
        options.json.write_text(
            json.dumps({"machine": machine(), "rows": [asdict(row) for row in rows]}, indent=1) + "\n"
        )
    return 1 if different else 0


if __name__ == "__main__":
    raise SystemExit(main())

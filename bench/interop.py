"""Shows that streams of NNCodec decode here, and ours there, to the same bits.

    .venv/bin/python bench/interop.py                              # all models, about 10 minutes on two cores
    .venv/bin/python bench/interop.py --models resnet20 --qp -32   # a few seconds

For every model, QP and kind of quantization both programs encode the same tensors, and both decode both streams:

    peer -> nnbits    the peer encodes; nnbits.load gives bit for bit what the peer decodes
    nnbits -> peer    nnbits.save encodes; the peer decodes bit for bit what nnbits.load gives

"same values" says, for information, whether the two encoders also chose the same quantized values.
Exit status: 0 if everything is identical, 1 on any difference or failure, 2 if something needed is absent.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from _peer import (
    Answer,
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
)

MODELS: Final = ("resnet20", "resnet56", "minilm")
MODES: Final = ("dependent", "uniform")


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
    same_values: bool

    def cells(self) -> list[str]:
        sizes = [f"{size:,}" if size is not None else "-" for size in (self.peer_bytes, self.nnbits_bytes)]
        same = "yes" if self.same_values else "no"
        return [self.model, str(self.qp), self.mode, self.direction, *sizes, same, self.difference or "identical"]


HEAD: Final = ["model", "qp", "mode", "direction", "peer bytes", "nnbits bytes", "same values", "verdict"]


@dataclass(frozen=True)
class Case:
    """One model, QP and mode; its files lie side by side in a folder."""

    model: str
    source: Path
    qp: int
    mode: str

    def path(self, name: str) -> str:
        return str(self.source.with_name(f"{self.mode}-{name}"))

    @property
    def dependent(self) -> bool:
        return self.mode == "dependent"


def compare(peer: Side, ours: Side, cases: list[Case], options: argparse.Namespace) -> list[Row]:
    """Both directions of all cases, with one process of the peer and two of nnbits (the peer starts slowly)."""
    saves: list[Job] = []
    theirs: list[Job] = []
    checks: list[Job] = []
    for case in cases:
        source = str(case.source)
        our_args = nnbits_args(case.qp, case.dependent, options.nnbits_args)
        saves += [{"op": "save", "in": source, "out": case.path("nnbits.nnc"), "args": our_args}]
        theirs += [
            {"op": "encode", "in": source, "out": case.path("peer.nnc"), "args": peer_args(case.qp, case.dependent)},
            {"op": "decode", "in": case.path("peer.nnc"), "out": case.path("peer.npz")},
            {"op": "decode", "in": case.path("nnbits.nnc"), "out": case.path("nnbits.npz")},
        ]
        checks += [
            _check(case, "peer"),
            _check(case, "nnbits"),
            {"op": "compare", "in": case.path("nnbits.npz"), "reference": case.path("peer.npz")},
        ]
    saved, _ = ours.run(saves)
    answered, _ = peer.run(theirs)
    checked, _ = ours.run(checks)
    rows: list[Row] = []
    for i, case in enumerate(cases):
        encode, *decodes = answered[3 * i : 3 * i + 3]
        *found, same = checked[3 * i : 3 * i + 3]
        for direction, made, decoded, check in (
            ("peer -> nnbits", encode, decodes[0], found[0]),
            ("nnbits -> peer", saved[i], decodes[1], found[1]),
        ):
            difference = _failure(made, decoded, check) or check["difference"]
            values = bool(same["ok"]) and same["difference"] is None
            sizes = encode.get("bytes"), saved[i].get("bytes")
            rows.append(Row(case.model, case.qp, case.mode, direction, *sizes, difference, values))
    return rows


def _check(case: Case, stream: str) -> Job:
    files = {"in": case.path(f"{stream}.nnc"), "reference": case.path(f"{stream}.npz"), "source": str(case.source)}
    return {"op": "check", **files, "qp": case.qp}


def _failure(*answers: Answer) -> str | None:
    """The first failure in a chain: those after it follow from it."""
    for who, answer in zip(("encode", "peer's decode", "nnbits.load"), answers, strict=True):
        if not answer["ok"]:
            return f"{who} failed: {answer['error']}"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--models", nargs="+", default=list(MODELS), metavar="MODEL", help="names or .safetensors files"
    )
    parser.add_argument("--qp", nargs="+", type=int, default=[-24, -32, -40])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    add_options(parser)
    options = parser.parse_args()
    rows: list[Row] = []
    try:
        paths = {name: find_model(name, options) for name in options.models}
        peer, ours = open_sides(options)
        with tempfile.TemporaryDirectory() as top:
            for name, path in paths.items():
                # One folder a model and QP keeps the decoded tensors of only two cases at a time.
                for qp in options.qp:
                    print(f"{name} qp {qp} ...", file=sys.stderr, flush=True)
                    with tempfile.TemporaryDirectory(dir=top) as folder:
                        source = Path(folder) / "source.npz"
                        ours.run_one({"op": "convert", "in": str(path), "out": str(source)})
                        cases = [Case(name, source, qp, mode) for mode in options.modes]
                        rows += compare(peer, ours, cases, options)
    except BenchError as error:
        print(f"interop: {error}", file=sys.stderr)
        return 2
    print_table(HEAD, [row.cells() for row in rows], left=4)
    different = sum(row.difference is not None for row in rows)
    print(f"\n{len(rows)} streams, {len(rows) - different} identical, {different} different")
    if options.json:
        options.json.write_text(
            json.dumps({"machine": machine(), "rows": [asdict(row) for row in rows]}, indent=1) + "\n"
        )
    return 1 if different else 0


if __name__ == "__main__":
    raise SystemExit(main())

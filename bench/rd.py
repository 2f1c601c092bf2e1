"""Shows size and error of both encoders at equal QP and equal weight of the rate.

    .venv/bin/python bench/rd.py                                   # about 5 minutes
    .venv/bin/python bench/rd.py --lambdas 0 1 --qp -32 --modes dependent

Both encoders get the same tensors (ResNet-20, ResNet-56, the first layer of MiniLM), QP and `lambda_scale`, which
weighs the bits against the squared error in the quantizer's decisions; 0 is least squared error. MSE is that of the
weights (tensors of two or more dimensions), from the streams decoded by nnbits, in units of the squared step of the QP.

Verdict: "not worse" if neither size nor MSE is larger than the peer's. Else the two points lie at different places of
the trade and are compared by the cost that both quantizers minimize, MSE + slope * bits a weight, with the slope of
this lambda_scale (of 1 if it is 0, the slope at high rates): "not worse at equal slope" or "worse". Column "cost" is
the difference of this cost expressed in size: -1 % is as good as a stream of the peer's MSE that is 1 % smaller. The
column "curve" compares with what the peer's other lambdas reach: our size against that at which lines through the
peer's points of the same QP have our MSE (beyond its last point: the line through its last two, which flatters it, as
such curves are convex).
A point that this build of nnbits cannot encode yet is named "absent".

Exit status: 0 if no point is worse, 1 if one is, 2 if something needed is absent or failed.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from _peer import (
    NONWEIGHT_QP,
    Answer,
    BenchError,
    Job,
    add_options,
    find_model,
    lowlevel_sides,
    machine,
    print_table,
    require,
)

MODELS: Final = ("resnet20", "resnet56", "minilm")
MODES: Final = ("dependent", "uniform")
#: "One layer" of MiniLM.
LAYER: Final = "encoder.layer.0."
#: Slope of lambda_scale 1 in squared steps a bit: of the MSE of a quantizer at high rates, D = c * 2^(-2R).
SLOPE: Final = {"uniform": math.log(2) / 6, "dependent": 4 * 0.7 * math.log(2) / 6}


@dataclass(frozen=True)
class Point:
    """A stream: its size, and its MSE in squared steps."""

    bytes: int
    mse: float
    seconds: float | None = None


@dataclass(frozen=True)
class Row:
    """Both encoders' points; nnbits' is None where it cannot, for the reason ``absent``."""

    model: str
    mode: str
    qp: int
    lambda_scale: float
    weights: int
    peer: Point
    nnbits: Point | None
    absent: str | None = None
    curve: float | None = None

    @property
    def cost(self) -> float:
        """Difference in cost as a part of the peer's size; negative is better."""
        if self.nnbits is None:
            return 0.0
        slope = SLOPE[self.mode] * (self.lambda_scale or 1)
        bits = 8 * (self.nnbits.bytes - self.peer.bytes) / self.weights
        return ((self.nnbits.mse - self.peer.mse) / slope + bits) / (8 * self.peer.bytes / self.weights)

    @property
    def verdict(self) -> str:
        if self.nnbits is None:
            return f"absent: {self.absent}"
        if self.nnbits.bytes <= self.peer.bytes and self.nnbits.mse <= self.peer.mse:
            return "not worse"
        return "not worse at equal slope" if self.cost <= 0 else "worse"

    def cells(self) -> list[str]:
        head = [self.model, self.mode, str(self.qp), f"{self.lambda_scale:g}", f"{self.peer.bytes:,}"]
        if self.nnbits is None:
            return [*head, "-", "-", f"{self.peer.mse:.5f}", "-", "-", self.verdict, "-", "-"]
        return [
            *head,
            f"{self.nnbits.bytes:,}",
            f"{100 * (self.nnbits.bytes / self.peer.bytes - 1):+.2f} %",
            f"{self.peer.mse:.5f}",
            f"{self.nnbits.mse:.5f}",
            f"{100 * (self.nnbits.mse / self.peer.mse - 1):+.2f} %",
            self.verdict,
            f"{100 * self.cost:+.2f} %",
            "-" if self.curve is None else f"{100 * self.curve:+.2f} %",
        ]


HEAD: Final = ["model", "mode", "qp", "lambda", "peer bytes", "nnbits bytes", "size", "peer MSE", "nnbits MSE", "MSE"]


def measure(model: str, folder: Path, options: argparse.Namespace) -> list[Row]:
    """All points of one model."""
    peer, ours = lowlevel_sides(options)
    source = str(folder / "source.npz")
    jobs: list[Job] = [{"op": "convert", "in": str(find_model(model, options)), "out": source}]
    if model == "minilm":
        jobs.append({"op": "select", "in": source, "out": source, "prefixes": [LAYER]})
    require(ours.run(jobs)[0])
    points = [(mode, qp, scale) for mode in options.modes for qp in options.qp for scale in options.lambdas]
    theirs: list[Job] = []
    mine: list[Job] = []
    checks: list[Job] = []
    for number, (mode, qp, scale) in enumerate(points):
        files = {who: str(folder / f"{number}-{who}.nnc") for who in ("peer", "nnbits")}
        args = {"qp": qp, "nonweight_qp": NONWEIGHT_QP, "use_dq": mode == "dependent", "lambda_scale": scale}
        theirs.append({"op": "compress", "in": source, "out": files["peer"], "args": args})
        plan = {"qp": qp, "coding": mode, "lambda_scale": scale}
        mine.append({"op": "save_plan", "in": source, "out": files["nnbits"], "args": plan})
        checks += [{"op": "distortion", "in": file, "source": source, "qp": qp} for file in files.values()]
    print(f"{model}: {len(points)} points ...", file=sys.stderr, flush=True)
    saved, encoded = ours.run(mine)[0], peer.run(theirs)[0]
    require([*saved, *encoded])
    found = iter(ours.run(checks)[0])
    rows: list[Row] = []
    for (mode, qp, scale), made, coded in zip(points, saved, encoded, strict=True):
        answer, own = next(found), next(found)
        require([answer])
        absent = made.get("unsupported")
        if absent is None:
            require([own])
        point = None if absent else _point(own, made)
        rows.append(Row(model, mode, qp, scale, answer["count"], _point(answer, coded), point, absent))
    return [
        replace(row, curve=on_curve(row, [r.peer for r in rows if (r.mode, r.qp) == (row.mode, row.qp)]))
        for row in rows
    ]


def on_curve(row: Row, peers: list[Point]) -> float | None:
    """Size of nnbits' point against the peer's curve at the same MSE, as a part of the latter; None without a curve."""
    points = sorted({(point.mse, point.bytes) for point in peers})
    if row.nnbits is None or len(points) < 2:
        return None
    mse = row.nnbits.mse
    at = next((i for i in range(1, len(points) - 1) if mse <= points[i][0]), len(points) - 1)
    (low, large), (high, small) = points[at - 1], points[at]
    size = large + (small - large) * (mse - low) / (high - low)
    return row.nnbits.bytes / size - 1


def _point(found: Answer, made: Answer) -> Point:
    return Point(found["bytes"], found["mse"] / found["step"] ** 2, made.get("seconds"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), metavar="MODEL", help="names or files")
    parser.add_argument("--qp", nargs="+", type=int, default=[-24, -32])
    parser.add_argument("--lambdas", nargs="+", type=float, default=[0.0, 0.5, 1.0, 2.0], metavar="SCALE")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    add_options(parser)
    options = parser.parse_args()
    rows: list[Row] = []
    try:
        for model in options.models:
            with tempfile.TemporaryDirectory() as folder:
                rows += measure(model, Path(folder), options)
    except BenchError as error:
        print(f"rd: {error}", file=sys.stderr)
        return 2
    print_table([*HEAD, "verdict", "cost", "curve"], [row.cells() for row in rows], left=2)
    worse = sum(row.verdict == "worse" for row in rows)
    absent = sum(row.absent is not None for row in rows)
    print(f"\n{len(rows)} points, {worse} worse, {absent} absent")
    if options.json:
        listed: list[dict[str, Any]] = [{**asdict(row), "verdict": row.verdict, "cost": row.cost} for row in rows]
        options.json.write_text(json.dumps({"machine": machine(), "rows": listed}, indent=1) + "\n")
    return 1 if worse else 0


if __name__ == "__main__":
    raise SystemExit(main())

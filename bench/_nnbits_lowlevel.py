"""Runs jobs of nnbits that its simple calls have no option for, and makes the tensors that they need.

    .venv/bin/python bench/_nnbits_lowlevel.py jobs.json

What a build does not have yet is answered with ``unsupported``, the reason, instead of being a failure.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from _peer import JOBS, NONWEIGHT_QP, Answer, Job, answer_jobs, first_difference, not_from, read_npz

if TYPE_CHECKING:
    from _peer import Tensors

    from nnbits.codec.decode import Stream
    from nnbits.codec.plan import EncodePlan
    from nnbits.codec.types import Model

# --- tensors ---------------------------------------------------------------------------------------------------------


def _select(job: Job) -> Answer:
    """The tensors of ``in`` whose names begin with one of ``prefixes``, to ``out``."""
    chosen = {n: t for n, t in read_npz(job["in"]).items() if n.startswith(tuple(job["prefixes"]))}
    return _write(job["out"], chosen)


def _drop_flat(job: Job) -> Answer:
    """``in`` to ``out`` without tensors of two or more dimensions that have one row or one column."""
    tensors = read_npz(job["in"])
    flat = [n for n, t in tensors.items() if t.ndim > 1 and 1 in (len(t), t.size // max(len(t), 1))]
    return _write(job["out"], {n: t for n, t in tensors.items() if n not in flat})


def _prune(job: Job) -> Answer:
    """``in`` to ``out`` with ``fraction`` of the rows of every large tensor set to zero."""
    import numpy as np

    tensors, random = read_npz(job["in"]), np.random.default_rng(1)
    for tensor in tensors.values():
        if tensor.ndim > 1 and tensor.size >= 4096 and tensor.dtype.kind == "f":
            rows = random.permutation(len(tensor))[: int(len(tensor) * job["fraction"])]
            tensor[rows] = 0
    return _write(job["out"], tensors)


def _versions(job: Job) -> Answer:
    """A model that is trained on: versions of ``in`` after each of three steps, and their differences.

    One of ten weights changes at every step, one of fifty at any step; all else, and the integers, stay.
    """
    import numpy as np

    before, random = read_npz(job["in"]), np.random.default_rng(2)
    always = {name: random.random(t.shape) < 0.1 for name, t in before.items()}
    for version, difference in zip(job["versions"], job["differences"], strict=True):
        after: Tensors = {}
        for name, t in before.items():
            after[name] = t
            if t.dtype.kind == "f":
                change = always[name] | (random.random(t.shape) < 0.02)
                size = 0.3 * float(t.std()) + 1e-4
                after[name] = t + np.where(change, size * random.standard_normal(t.shape), 0).astype(np.float32)
        _write(version, after)
        _write(difference, {name: after[name] - before[name] for name in after})
        before = after
    return {}


def _single(job: Job) -> Answer:
    """One tensor of ``in`` (its first ``rows``): ``dense`` as it is, ``pruned`` to a tenth of its weights, ``int8``."""
    import numpy as np

    tensor = read_npz(job["in"])[job["name"]][: job.get("rows")]
    if job["kind"] == "pruned":
        magnitude = np.abs(tensor)
        tensor = np.where(magnitude < np.quantile(magnitude, 0.9), np.float32(0), tensor)
    elif job["kind"] == "int8":
        scale = np.abs(tensor).max(axis=1, keepdims=True) / 127
        tensor = np.rint(tensor / np.where(scale == 0, 1, scale)).astype(np.int32)
    answer = _write(job["out"], {job["name"]: tensor})
    return {**answer, "weights": tensor.size, "zeros": int(tensor.size - np.count_nonzero(tensor))}


def _write(path: str, tensors: Mapping[str, Any]) -> Answer:
    import numpy as np

    np.savez(path, **tensors)
    return {"bytes": sum(int(t.nbytes) for t in tensors.values())}


# --- encoding --------------------------------------------------------------------------------------------------------


class _Unsupported(Exception):
    """This build of nnbits does not have something."""


def _plan(model: Model, job: Job) -> EncodePlan:
    """The plan that codes weights as the job's options say, within the limits of the peer where plans know them."""
    from nnbits.codec.api import plan_quantized
    from nnbits.codec.plan import Coding, EncodePlan, TensorPlan

    options = dict(job["args"])
    qp, coding = options.pop("qp"), options.pop("coding")
    known = {f.name for f in fields(TensorPlan)}
    if coding not in get_args(Coding):
        raise _Unsupported(f"no coding {coding!r} in plans")
    if unknown := [name for name, value in options.items() if value and name not in known]:
        raise _Unsupported(f"no {unknown[0]} in plans")
    options = {name: value for name, value in options.items() if name in known}
    nonweight = job.get("nonweight_qp", NONWEIGHT_QP)
    plan = plan_quantized(model, qp=qp, nonweight_qp=nonweight, dependent=coding == "dependent")
    shapes = {t.info.name: t.info.shape for t in model}
    tensors = {}
    for name, item in plan.tensors.items():
        is_weight = item.qp is not None and len(shapes[name]) > 1
        tensors[name] = replace(item, coding=coding, **options) if is_weight else item
    more: dict[str, Any] = {"compat": "nncodec"} if "compat" in {f.name for f in fields(EncodePlan)} else {}
    return replace(plan, tensors=tensors, **more)


def _save_plan(job: Job) -> Answer:
    import nnbits

    try:
        model = _model(job["in"])
        nnbits.save(model, job["out"], plan=_plan(model, job))
    except _Unsupported as error:
        return {"unsupported": str(error)}
    except nnbits.NnbitsError as error:
        if error.code.name == "UNSUPPORTED_FEATURE":
            return {"unsupported": error.message}
        raise
    return {"bytes": Path(job["out"]).stat().st_size}


def _chain(job: Job) -> Answer:
    """Updates ``out`` that lead from the model ``in`` to each of ``versions``."""
    try:
        from nnbits.codec.chain import UpdateChain
    except ImportError:
        return {"unsupported": "no update chains"}
    chain, sizes = UpdateChain(_model(job["in"])), []
    for version, out in zip(job["versions"], job["out"], strict=True):
        new = _model(version)
        stream = chain.encode(new, _plan(new, job))
        Path(out).write_bytes(stream)
        sizes.append(len(stream))
        reached = {t.info.name: t.read() for t in chain.model()}
        if problem := not_from(reached, read_npz(version), job["args"]["qp"]):
            raise ValueError(f"the chain does not reach {Path(version).name}: {problem}")
    return {"sizes": sizes}


def _model(path: str) -> Model:
    from nnbits.codec.types import Model, from_numpy

    return Model([from_numpy(name, array) for name, array in read_npz(path).items()], {})


# --- checks ----------------------------------------------------------------------------------------------------------


def _check_tools(job: Job) -> Answer:
    """As ``check``, and the coding tools found in the stream: ``tools`` counts tensors."""
    answer = JOBS["check"](job)
    stream = _open(job["in"])
    return {**answer, "tools": _tools(stream, None)}


def _check_updates(job: Job) -> Answer:
    """Decode a sequence of updates; compare each with what the peer decoded and with the difference meant, if given.

    A tensor that is left out of an update did not change.
    """
    import numpy as np

    from nnbits.codec.update import UpdateStore

    store = UpdateStore()
    steps: list[Answer] = []
    for path, reference, meant in zip(job["in"], job["reference"], job["meant"], strict=True):
        stream = _open(path)
        tools = _tools(stream, store)
        decoded = dict(stream.decode_all(store))
        difference = first_difference(decoded, read_npz(reference))
        if difference is None and meant is not None:
            source = read_npz(meant)
            absent = {n: np.zeros_like(t) for n, t in source.items() if n not in decoded}
            difference = not_from({**decoded, **absent}, source, job["qp"])
        steps.append({"difference": difference, "tools": tools})
    return {"steps": steps}


def _open(path: str) -> Stream:
    from nnbits.codec.decode import Stream

    return Stream(memoryview(Path(path).read_bytes()))


def _tools(stream: Stream, store: Any) -> Answer:
    """How many weights (tensors of two or more dimensions) use each coding tool; ``weights`` is the number of all."""
    count: Counter[str] = Counter()
    for unit in stream.data_units:
        coded = [part for part in unit.parts if part.coding]
        for part, decoded in zip(coded, stream.levels(unit, store) if coded else [], strict=True):
            if part.coding is None or len(part.shape) < 2 or not part.coding.qp_bits:
                continue
            scan = part.coding.scan_order if part.coding.block else 0
            found = {
                "dependent": part.coding.dq,
                "codebook": part.codebook is not None,
                f"scan {scan}": scan > 0,
                "rows": decoded.row_skip_list is not None and bool(decoded.row_skip_list.any()),
                "temporal": part.coding.temporal,
                "history": decoded.hist_dep_sig_prob_enabled_flag,
            }
            count.update(["weights", *(tool for tool, used in found.items() if used)])
    return dict(count)


def _distortion(job: Job) -> Answer:
    """Mean squared error of the weights of the stream ``in`` against ``source``, decoded here; the step of ``qp``."""
    import numpy as np

    import nnbits
    from nnbits.codec.quant.step import step_size

    decoded, source = nnbits.load(job["in"]), read_npz(job["source"])
    total, count = 0.0, 0
    for name, original in source.items():
        if original.ndim > 1 and original.dtype.kind == "f":
            total += float(np.square(decoded[name].astype(np.float64) - original).sum())
            count += original.size
    step = step_size(job["qp"], 2)
    return {"bytes": Path(job["in"]).stat().st_size, "mse": total / count, "count": count, "step": step}


# --- timing ----------------------------------------------------------------------------------------------------------


def _time_decode(job: Job) -> Answer:
    """Decode the only tensor of ``in`` once; seconds of the entropy decoder and, with ``whole``, of all decoding."""
    from nnbits.codec.entropy import native

    data = Path(job["in"]).read_bytes()
    threads = job.get("threads", 1)
    stream = _open(job["in"])
    (unit,) = stream.data_units
    payload, coding = stream.payload(unit), unit.parts[0].coding
    assert coding is not None  # noqa: S101 - no raw floats here
    if threads == 1:
        clock, start = time.perf_counter(), time.thread_time()
        levels = native.decode_payload(payload, [coding])[0].levels
    else:
        (points,) = stream.entry_points(unit)
        clock, start = time.perf_counter(), time.thread_time()
        levels = _decode_rows(payload, coding, points, threads)
    answer: Answer = {"wall": time.perf_counter() - clock, "core": time.thread_time() - start, "payload": len(payload)}
    if job.get("digest"):
        answer["digest"] = hashlib.sha256(levels.tobytes()).hexdigest()
    del levels
    if job.get("whole"):
        start = time.process_time()
        _whole(data)
        answer["whole"] = time.process_time() - start
    return answer


def _whole(data: bytes) -> Iterable[Any]:
    from nnbits.codec.decode import Stream

    return list(Stream(memoryview(data)).decode_all())


def _decode_rows(payload: memoryview, coding: Any, points: Any, threads: int) -> Any:
    """The levels, decoded by several threads from entry points."""
    import numpy as np

    from nnbits.codec.entropy import native

    if "threads" in inspect.signature(native.decode_payload).parameters:
        return native.decode_payload(payload, [coding], entry_points=[points], threads=threads)[0].levels
    rows = len(points) + 1
    levels = np.empty(coding.height * coding.width, np.int32)
    bounds = [rows * part // threads for part in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        parts = pairwise(bounds)
        jobs = [pool.submit(native.decode_block_rows, payload, coding, points, *part, levels) for part in parts]
        for job in jobs:
            job.result()
    return levels


if __name__ == "__main__":
    raise SystemExit(
        answer_jobs(
            {
                **JOBS,
                "select": _select,
                "drop_flat": _drop_flat,
                "prune": _prune,
                "versions": _versions,
                "single": _single,
                "save_plan": _save_plan,
                "chain": _chain,
                "check_tools": _check_tools,
                "check_updates": _check_updates,
                "distortion": _distortion,
                "time_decode": _time_decode,
            },
            sys.argv[1],
        )
    )

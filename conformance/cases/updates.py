"""Sequences of updates: temporal contexts, history, and the identifiers that tie them together."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from nnbits.conformance.cases.building import Case, Coded, Levels, StreamBuilder

__all__ = ["cases"]

_PARENT: Final = {"mps_parent_signalling_enabled_flag": 1}
_SHAPES: Final = ((9, 7), (40,), (10, 30))


def _node(depth: int, parameter: int, device: int = 3) -> dict[str, Any]:
    return {
        "node_id_present_flag": 1,
        "device_id": device,
        "parameter_id": parameter,
        "put_node_depth": depth,
    }


def _child(temporal: int) -> dict[str, Any]:
    return {
        "parent_node_id_present_flag": 1,
        "parent_node_id_type": 0,
        "temporal_context_modeling_flag": temporal,
        "parent_device_id": 3,
    }


class _Sequence:
    """Streams that build on each other."""

    def __init__(self, rng: random.Random, prefix: str, **options: Any) -> None:
        self.rng = rng
        self.prefix = prefix
        self.options = options
        self.base: dict[str, NDArray[np.int32]] = {}
        self.history: dict[str, NDArray[np.bool_]] = {}
        self.ids: list[str] = []

    def step(self, text: str, fill: Levels, *, temporal: int = 0, use_history: bool = False, **fixed: Any) -> Case:
        number = len(self.ids)
        builder = StreamBuilder(self.rng, mps=_PARENT)
        done: dict[str, NDArray[np.int32]] = {}
        for k, shape in enumerate(_SHAPES):
            name = f"t{k}"
            child = _child(temporal) if number else {}
            chosen = {**self.options, **_node(number + 1, k), **child, **fixed}
            coded = builder.tensor(
                name, shape, fill, base=self.base, history=self.history if use_history else {}, **chosen
            )
            done.update(coded.levels)
        for name, levels in done.items():
            before = self.history.get(name)
            self.history[name] = (levels != 0) if before is None else before | (levels != 0)
        self.base = done
        case = Case(f"{self.prefix}-{number}", builder.data, text, ("updates",), after=tuple(self.ids))
        self.ids.append(case.id)
        return case


def _sequences(rng: random.Random) -> Iterator[Case]:
    for dq in (0, 1):
        for unary in (1, 10, 255) if dq else (10,):
            options: dict[str, Any] = {"dq_flag": dq, "cabac_unary_length_minus1": unary}
            s = _Sequence(rng, f"update-dq{dq}-u{unary}", **options)
            tail = f"dq_flag {dq}, cabac_unary_length_minus1 {unary}"
            yield s.step(
                f"start of a sequence of updates, {tail}", Levels("unary" if unary == 255 else "dense", None, "random")
            )
            yield s.step(
                f"temporal contexts, {tail}", Levels("unary" if unary == 255 else "dense", 0.2, "random"), temporal=1
            )
            yield s.step(f"history, no temporal contexts, {tail}", Levels("small", 0.2, "random"), use_history=True)
            yield s.step(
                f"temporal contexts and history, in blocks, {tail}",
                Levels("small", None, "random"), temporal=1, use_history=True, scan_order=1,
            )  # fmt: skip
    for book, offset in ((9, 4), (6, 0), (6, 5), (2, 1), (1, 0), (30, 3)):
        fixed = {"codebook_present_flag": 1, "codebook_egk": 0, "codebook_size": book, "codebook_zero_value": -2,
                 "codebook_centre_offset": offset - (book >> 1), "codebook_delta_left": 0, "codebook_delta_right": 1,
                 "cabac_unary_length_minus1": 3}  # fmt: skip
        s = _Sequence(rng, f"update-codebook{book}-{offset}", **fixed)
        yield s.step(f"start of a sequence with codebooks of {book}", Levels("small", None, "random"))
        yield s.step(
            f"temporal contexts with a codebook of {book}, zero at {offset}", Levels("small", 0.2, 3), temporal=1
        )
        yield s.step("the same with history", Levels("small", None, "random"), temporal=1, use_history=True)


def _ladders(rng: random.Random) -> Iterator[Case]:
    """Every greater flag with a temporal reference below and above its number, in every state of the trellis."""
    for dq in (0, 1):
        options: dict[str, Any] = {"dq_flag": dq, "cabac_unary_length_minus1": 255}
        bases: list[NDArray[np.int32]] = []
        for number, style in enumerate(("signs", "unary", "small")):
            builder = StreamBuilder(rng, mps=_PARENT)
            child: dict[str, Any] = {**_node(2, 0), **_child(1)} if number else _node(1, 0)
            base = {"t": bases[0]} if number else {}
            coded = builder.tensor("t", (8, 260), Levels(style, None, "zero"), base=base, **options, **child)
            bases.append(coded.levels["t"])
            after = (f"ladder-dq{dq}-0",) if number else ()
            text = ("references of all magnitudes", "every greater flag with a temporal reference",
                    "zeros with references of all magnitudes")[number]  # fmt: skip
            yield Case(f"ladder-dq{dq}-{number}", builder.data, f"{text}, dq_flag {dq}", ("updates",), after=after)


def _wrong(rng: random.Random) -> Iterator[Case]:
    """Updates that do not fit what was before."""
    start = _Sequence(rng, "update-start", dq_flag=0)
    yield start.step("start for updates that do not fit", Levels("small"))

    def one(shape: tuple[int, ...] = _SHAPES[0], *, name: str = "t0", **fixed: Any) -> bytes:
        builder = StreamBuilder(rng, mps=_PARENT)
        chosen = {**_node(2, 0), **_child(1), **fixed}
        base = {name: start.base["t0"] if shape == _SHAPES[0] else np.zeros(int(np.prod(shape)), np.int32)}
        coded: Coded = builder.tensor(name, shape, Levels("small"), base=base, **chosen)
        assert coded.data  # noqa: S101 - a unit is never empty
        return builder.data

    rows: list[tuple[str, bytes, str, str]] = [
        ("depth", one(put_node_depth=3), "BASE_MISMATCH", "put_node_depth skips an update"),
        ("device", one(device_id=4), "BASE_MISMATCH", "another device_id than before"),
        ("parameter", one(parameter_id=5), "BASE_MISMATCH", "another parameter_id than before"),
        ("shape", one((7, 9, 2)), "SHAPE_MISMATCH", "another number of elements than the earlier version"),
        ("name", one(name="new"), "BASE_MISSING", "temporal contexts without an earlier version"),
    ]
    for label, data, code, text in rows:
        yield Case(f"update-wrong-{label}", data, text, ("updates",), code=code, after=("update-start-0",))
    yield Case(
        "update-alone", one(), "temporal contexts in a stream that follows none", ("updates",), code="BASE_MISSING"
    )
    builder = StreamBuilder(rng, mps=_PARENT)
    history: Mapping[str, Any] = {"t0": np.ones(63, np.bool_)}
    builder.tensor("t0", (9, 7), Levels("small"), history=history, **_node(2, 0), **_child(0))
    yield Case("update-history-alone", builder.data, "history in a stream that follows none", ("updates",),
               code="BASE_MISSING", also=("CABAC_END", "LEVEL_RANGE", "TRUNCATED"))  # fmt: skip
    for bits, kind in ((256, 1), (512, 2)):
        for number, first in enumerate(("BASE_MISSING", "BASE_MISMATCH")):
            builder = StreamBuilder(rng, mps=_PARENT)
            builder.tensor("t0" if number else "new", (9, 7), Levels("small"), parent_node_id_present_flag=1,
                           parent_node_id_type=kind, temporal_context_modeling_flag=0)  # fmt: skip
            text = f"SHA-{bits} of " + ("another payload" if number else "a payload that never came")
            features = ("updates", "update-digests")
            yield Case(
                f"update-sha{bits}-{number}", builder.data, text, features, code=first, after=("update-start-0",)
            )


def _far(rng: random.Random) -> Iterator[Case]:
    """Levels at the ends of int32, and remainders of all lengths, with a temporal reference."""
    for dq in (0, 1):
        s = _Sequence(rng, f"update-far-dq{dq}", dq_flag=dq)
        yield s.step(f"start of updates with large levels, dq_flag {dq}", Levels("small"))
        yield s.step(f"remainders of all lengths with a reference, dq_flag {dq}", Levels("powers"), temporal=1)
        yield s.step(f"levels at their ends with a reference, dq_flag {dq}", Levels("limits"), temporal=1)


def _changed(rng: random.Random) -> Iterator[Case]:
    """Updates without temporal contexts that belong to another device or parameter, and other odd ones."""
    start = _Sequence(rng, "update-other", dq_flag=0)
    yield start.step("start for updates of another origin", Levels("small"))
    for label, fixed, text in (("device", {"device_id": 4}, "another device_id"),
                               ("parameter", {"parameter_id": 5}, "another parameter_id")):  # fmt: skip
        builder = StreamBuilder(rng, mps=_PARENT)
        builder.tensor("t0", _SHAPES[0], Levels("small"), **{**_node(2, 0), **_child(0), **fixed})
        yield Case(f"update-other-{label}", builder.data, f"{text}, no temporal contexts", ("updates",),
                   code="BASE_MISMATCH", after=("update-other-0",))  # fmt: skip
    builder = StreamBuilder(rng, mps=_PARENT)
    child: dict[str, Any] = {
        "parent_node_id_present_flag": 1,
        "parent_node_id_type": 1,
        "temporal_context_modeling_flag": 1,
    }
    builder.tensor("t0", _SHAPES[0], Levels("small"), base=start.base, **child)
    yield Case(
        "update-other-digest",
        builder.data,
        "temporal contexts, and the SHA-256 of another payload",
        ("updates",),
        code="BASE_MISMATCH",
        also=("UNSUPPORTED_FEATURE",),
        after=("update-other-0",),
    )
    builder = StreamBuilder(rng, mps=_PARENT)
    none: Mapping[str, Any] = {"t0": np.zeros(63, np.bool_)}
    builder.tensor("t0", (9, 7), Levels("small"), history=none, **_node(2, 0), **_child(0))
    yield Case("update-history-empty", builder.data, "a history without any level, in a stream that follows none",
               ("updates",), code="BASE_MISSING")  # fmt: skip


def cases(seed: int) -> Iterator[Case]:
    """See the module."""
    rng = random.Random(f"updates {seed}")
    yield from _sequences(rng)
    yield from _ladders(rng)
    yield from _wrong(rng)
    yield from _far(rng)
    yield from _changed(rng)

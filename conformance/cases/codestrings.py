"""Arithmetic code strings that are wrong in one place: the ends, the block rows, and levels that no int32 holds."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Final
from unittest.mock import patch

import numpy as np

from nnbits.codec.entropy import reference
from nnbits.codec.entropy.coding import LevelCoding
from nnbits.codec.entropy.scan import estimated
from nnbits.codec.errors import NnbitsError
from nnbits.codec.parts import parts_of
from nnbits.codec.syntax import build_unit_prefix
from nnbits.conformance.cases.building import Case, Coded, Levels, StreamBuilder

__all__ = ["cases"]

_FEATURE: Final = ("payloads",)
_DECODER: Final = reference.ArithmeticDecoder
_PARENT: Final = {"mps_parent_signalling_enabled_flag": 1}


def _with_payload(builder: StreamBuilder, unit: Coded, payload: bytes) -> bytes:
    prefix = build_unit_prefix(unit.body, parameters=builder.parameters, payload_size=len(payload))
    return builder.data + prefix + payload


def _codings(builder: StreamBuilder, unit: Coded) -> list[LevelCoding]:
    return [part.coding for part in parts_of(unit.body, unit.body.names, builder.parameters) if part.coding]


def _fault(payload: bytes, codings: Sequence[LevelCoding], *without: str) -> tuple[str, str]:
    """Code and message of what the reference finds, with checks of its decoder left out."""
    with ExitStack() as stack:
        for name in without:
            stack.enter_context(patch.object(_DECODER, name, lambda _self: None))
        try:
            reference.decode_payload(payload, codings)
        except NnbitsError as error:
            return error.code.name, error.message
        except IndexError:
            return "", "beyond the payload"
    return "", ""


def _minus(payload: bytes, value: int) -> bytes:
    """The code string as a number, without its padding, less a value."""
    number = int.from_bytes(payload, "big")
    pad = (number & -number).bit_length() - 1
    return ((number >> pad) - value << pad).to_bytes(len(payload), "big")


def _ends(rng: random.Random) -> Iterator[Case]:
    """What only the last check of a code string can see."""
    for dq in (0, 1):
        builder = StreamBuilder(rng)
        unit = builder.tensor("t", (9, 11), Levels("dense"), dq_flag=dq, append=False)
        data = _with_payload(builder, unit, _minus(unit.payload, 2))
        yield Case(f"payload-terminating-{dq}", data, f"the terminating bin is 0, and all else right, dq_flag {dq}",
                   _FEATURE, code="CABAC_END")  # fmt: skip
    builder = StreamBuilder(rng)
    unit = builder.tensor("t", (700, 2), Levels("small", 0.5), append=False)
    yield Case(
        "payload-rows-cut",
        _with_payload(builder, unit, unit.payload[:30]),
        "cut inside row_skip_list",
        _FEATURE,
        code="TRUNCATED",
    )
    unit = builder.tensor("t", (3, 2), Levels("small", None, 5), cabac_unary_length_minus1=255, append=False)
    yield Case(
        "payload-sets-cut",
        _with_payload(builder, unit, unit.payload[:30]),
        "cut inside the initial sets",
        _FEATURE,
        code="TRUNCATED",
    )


def _search(test: Callable[[StreamBuilder, Coded, random.Random], bytes | None], **fixed: Any) -> Iterator[bytes]:
    """Streams that pass a test, of many random tensors in blocks."""
    for attempt in range(4000):
        rng = random.Random(f"codestrings {attempt}")
        builder = StreamBuilder(rng)
        unit = builder.tensor("t", (40, 12), Levels("dense"), append=False, **fixed)
        payload = test(builder, unit, rng)
        if payload is not None:
            yield _with_payload(builder, unit, payload)


def _block_rows() -> Iterator[Case]:
    def offset(builder: StreamBuilder, unit: Coded, rng: random.Random) -> bytes | None:
        """V is not below 256 at a block row, and the payload ends there: it is too short if nobody looks at V."""
        damaged = bytearray(unit.payload)
        damaged[len(damaged) // 3 + rng.randrange(20)] ^= 1 << rng.randrange(8)
        codings = _codings(builder, unit)
        if "impossible offset" not in _fault(bytes(damaged), codings)[1]:
            return None
        for size in range(len(damaged) // 3, len(damaged)):
            short = bytes(damaged[:size])
            if "impossible offset" in _fault(short, codings)[1]:
                return short if _fault(short, codings, "check_offset")[0] == "TRUNCATED" else None
        return None

    def cut(builder: StreamBuilder, unit: Coded, rng: random.Random) -> bytes | None:
        """Bits end inside a block row, and V is not below 256 at the next if nobody notices."""
        short = unit.payload[: rng.randrange(9, len(unit.payload) - 9)]
        codings = _codings(builder, unit)
        if _fault(short, codings)[0] != "TRUNCATED":
            return None
        return short if _fault(short, codings, "check_overrun")[0] == "CABAC_END" else None

    for number, data in zip(range(2), _search(offset, scan_order=1), strict=False):
        yield Case(f"payload-block-row-{number}", data, "an offset that is not below 256 at a block row", _FEATURE,
                   code="CABAC_END")  # fmt: skip
    for number, data in zip(range(2), _search(cut, scan_order=1), strict=False):
        yield Case(f"payload-block-cut-{number}", data, "cut inside a block row", _FEATURE, code="TRUNCATED")


def _begin(rng: random.Random) -> Iterator[Case]:
    """The first nine bits are 510 or 511, in a payload that is too short if nobody looks at them."""
    builder = StreamBuilder(rng)
    unit = builder.tensor("t", (80, 9), Levels("dense"), append=False)
    for label, payload in (("510", b"\xff\x00\x80"), ("511", b"\xff\x80\x80")):
        yield Case(f"payload-offset-{label}", _with_payload(builder, unit, payload), f"the first nine bits are {label}",
                   _FEATURE, code="CABAC_END")  # fmt: skip


def _levels(rng: random.Random) -> Iterator[Case]:
    """Levels outside of int32 with a temporal reference."""
    node: dict[str, Any] = {"node_id_present_flag": 1, "device_id": 3, "parameter_id": 0}
    for dq in (0, 1):
        builder = StreamBuilder(rng, mps=_PARENT)
        builder.tensor("t", (1,), Levels("zero"), dq_flag=dq, put_node_depth=1, **node)
        first = f"update-wild-dq{dq}"
        yield Case(first, builder.data, f"start for updates with levels out of range, dq_flag {dq}", ("updates",))
        for label, value, code in (("high", 2**31, "LEVEL_RANGE"), ("low", -(2**31) - 1, "LEVEL_RANGE"),
                                   ("highest", 2**31 - 1, None), ("lowest", -(2**31), None)):  # fmt: skip
            if dq and code is None:
                continue  # two of four levels are none of the quantizer's
            builder = StreamBuilder(rng, mps=_PARENT)
            child: dict[str, Any] = {
                "parent_node_id_present_flag": 1,
                "parent_node_id_type": 0,
                "temporal_context_modeling_flag": 1,
                "parent_device_id": 3,
            }
            unit = builder.tensor("t", (1,), Levels("zero"), base={"t": np.zeros(1, np.int32)}, dq_flag=dq,
                                  put_node_depth=2, append=False, **node, **child)  # fmt: skip
            data = _with_payload(builder, unit, _single(_codings(builder, unit)[0], value))
            yield Case(
                f"{first}-{label}",
                data,
                f"level {value} with a reference, dq_flag {dq}",
                ("updates",),
                code=code,
                after=(first,),
            )


def _single(coding: LevelCoding, value: int) -> bytes:
    """A code string of one level that need not fit in int32."""
    engine = reference.ArithmeticEncoder()
    contexts = [reference.Context() for _ in range(coding.context_count)]
    engine.bypass(0, coding.qp_bits)
    par = contexts[87 + 4 * coding.unary_length]
    for _ in estimated(coding, False):
        engine.context_bin(par, 0)
    k = -((abs(value) + 1) // 2) if coding.dq and value < 0 else (value + 1) // 2 if coding.dq else value
    choice = reference.ContextChoice(coding)
    reference.code_level(
        lambda c, b: engine.context_bin(contexts[c], b), engine.bypass, k, choice, coding, 0, 0, 0, False
    )
    shifts = engine.shifts
    code = engine.finish()
    pad = -(shifts + 9) % 8
    return (code << pad).to_bytes((shifts + 9 + pad) // 8, "big")


def _codebooks(rng: random.Random) -> Iterator[Case]:
    """Entries that binary32 cannot hold: the product with the step is rounded once."""
    builder = StreamBuilder(rng, mps={"mps_qp_density": 3})
    for number, (zero, gap) in enumerate(((2**24 + 1, 0), (2**30 + 3, 6), (-(2**31), 2**24 + 2), (-(2**27) - 5, 8))):
        book: dict[str, Any] = {
            "codebook_present_flag": 1,
            "codebook_egk": 3,
            "codebook_size": 40,
            "codebook_zero_value": zero,
            "codebook_centre_offset": -20,
            "codebook_delta_right": gap,
        }
        for qp in (0, 3, 5, -7):
            builder.tensor(f"t{number}.{qp}", (9, 9), Levels("small", qp_value=qp), **book)
    yield Case("codebook-large", builder.data, "codebooks with entries above 2^24, steps of several mantissas",
               ("tensors",))  # fmt: skip


def cases(seed: int) -> Iterator[Case]:
    """The streams."""
    rng = random.Random(f"codestrings {seed}")
    yield from _ends(rng)
    yield from _block_rows()
    yield from _begin(rng)
    yield from _levels(rng)
    yield from _codebooks(rng)

"""Streams that are wrong as sequences of units, and right ones that look unusual."""

from __future__ import annotations

import random
from collections.abc import Iterator

from nnbits.codec.syntax import UnitType
from nnbits.conformance.cases.building import Case, Levels, StreamBuilder, unit_bytes

__all__ = ["cases"]

_STR, _MPS, _LPS, _TPL, _QNT, _NDU, _AGG = range(7)


def _valid(rng: random.Random) -> Iterator[Case]:
    b = StreamBuilder(rng)
    yield Case("smallest", b.data, "a start unit and a parameter set, no tensor", ("framing",))
    for kind in (7, 31, 32, 63):
        b.append(unit_bytes(kind, rng.randbytes(5)))
    b.tensor("t")
    b.append(unit_bytes(40, rng.randbytes(9)))
    yield Case("unknown-units", b.data, "units of reserved and unspecified types, which are skipped", ("framing",))
    start = unit_bytes(_STR, b"\x01", long_size=True)
    b = StreamBuilder(rng)
    b.data = start + b.data[4:]
    b.tensor("t", nnr_unit_size_flag=1)
    yield Case("long-sizes", b.data, "sizes of four bytes where two would do, in the start unit, too", ("framing",))
    b = StreamBuilder(rng)
    b.data = unit_bytes(_STR, b"\x07\x01", flags=3) + b.data[4:]
    yield Case("start-with-counter", b.data, "a start unit with a partial_data_counter", ("framing",))
    b = StreamBuilder(rng)
    inner = unit_bytes(20, b"ab")
    b.tensor("first")
    ndu = StreamBuilder(rng)
    coded = ndu.tensor("inside", (4, 4), Levels("dense"), append=False)
    head = bytes([0, 0, 0, 0]) + bytes([0, 0])
    b.append(unit_bytes(_AGG, head + inner + coded.data))
    b.tensor("last")
    yield Case("aggregate-data", b.data, "a data unit inside an aggregate unit", ("aggregate",))


def _order(rng: random.Random) -> Iterator[Case]:
    b = StreamBuilder(rng)
    start, mps = b.data[:4], b.data[4:]
    tpl, lps = unit_bytes(_TPL, b"\0\0a\0"), unit_bytes(_LPS, b"\0" + b"\0\x80")
    qnt = unit_bytes(_QNT, b"\0\0a\0")
    data = b.tensor("t", append=False).data
    aggregate = unit_bytes(_AGG, bytes(6) + unit_bytes(9, b"") + unit_bytes(9, b""))
    nested = unit_bytes(_AGG, bytes(6) + aggregate + unit_bytes(9, b""))
    before: list[tuple[str, bytes, str]] = [
        ("lps-first", start + lps + mps, "a layer parameter set before the model parameter set"),
        ("topology-first", start + tpl + mps, "a topology unit before the model parameter set"),
        ("quantization-first", start + qnt + mps, "a quantization unit before the model parameter set"),
        ("data-first", start + data + mps, "a data unit before the model parameter set"),
        ("aggregate-first", start + aggregate + mps, "an aggregate unit before the model parameter set"),
        ("start-twice-at-once", start + start + mps, "two start units, one behind the other"),
        ("start-twice", start + mps + start, "a second start unit"),
        ("mps-twice", start + mps + mps, "a second model parameter set"),
        ("two-streams", start + mps + data + start + mps, "two streams one behind the other"),
        ("start-in-aggregate", start + mps + unit_bytes(_AGG, bytes(6) + start + tpl), "a start unit in an aggregate"),
        (
            "mps-in-aggregate",
            start + mps + unit_bytes(_AGG, bytes(6) + mps + tpl),
            "an MPS in an aggregate, the second",
        ),
        ("nested-aggregate", start + mps + nested, "an aggregate unit inside another"),
    ]
    for label, stream, text in before:
        yield Case(f"order-{label}", stream, text, ("order",), code="UNIT_ORDER")
    yield Case("order-no-mps", start, "a start unit and no more", ("order",), code="TRUNCATED")
    yield Case("order-no-mps-unknown", start + unit_bytes(50, b"x"), "no parameter set, but other units", ("order",),
               code="TRUNCATED")  # fmt: skip


def _starts() -> Iterator[Case]:
    texts = {
        "empty": b"",
        "one-byte": b"\xff",
        "garbage": b"GGUF\3\0\0\0",
        "zip": b"PK\3\4\x14\0\0\0",
        "mps": bytes.fromhex("0006060080"),
        "size-3": bytes.fromhex("000302"),
        "size-8": bytes.fromhex("0008020100000000"),
        "other-type": bytes.fromhex("00041601"),
    }
    for label, data in texts.items():
        yield Case(f"start-{label}", data, f"does not begin with a start unit: {label}", ("framing",), code="NOT_NNC")
    for cut in (1, 2, 3):
        also = ("TRUNCATED",) if cut == 3 else ()
        yield Case(f"start-cut-{cut}", bytes.fromhex("00040201")[:cut], f"{cut} bytes of a start unit", ("framing",),
                   code="TRUNCATED", also=also)  # fmt: skip
    yield Case("start-too-long", bytes.fromhex("0005020100") + bytes.fromhex("0006060080"),
               "a start unit with a byte too many",
               ("framing",), code="UNIT_SIZE")  # fmt: skip
    yield Case("start-long-cut", bytes.fromhex("80000006"), "a start unit with a long size, cut", ("framing",),
               code="NOT_NNC",
               also=("TRUNCATED",))  # fmt: skip


def _sizes(rng: random.Random) -> Iterator[Case]:
    b = StreamBuilder(rng)
    head = b.data
    bad: list[tuple[str, bytes, str, str]] = [
        ("zero", b"\0\0", "UNIT_SIZE", "nnr_unit_size 0"),
        ("two", b"\0\2", "UNIT_SIZE", "nnr_unit_size 2, a unit without a header"),
        ("long-four", b"\x80\0\0\4\x24", "UNIT_SIZE", "nnr_unit_size 4 in four bytes, a unit without a header"),
        ("one-byte-left", b"\0", "TRUNCATED", "one byte is left behind the last unit"),
        ("long-cut", b"\x80\0\0", "TRUNCATED", "a size of four bytes, cut"),
        ("beyond", b"\0\x09\xa2abc", "TRUNCATED", "a unit that goes on behind the end of the stream"),
        ("far-beyond", b"\xff\xff\xff\xff\xa2", "TRUNCATED", "a unit of 2^31 - 1 bytes in a stream of few"),
    ]
    for label, data, code, text in bad:
        yield Case(f"size-{label}", head + data, text, ("framing",), code=code)
    for kind, body in ((_LPS, b"\0\0\x80"), (_TPL, b"\0\0a\0"), (_QNT, b"\0\0a\0")):
        data = unit_bytes(kind, body + b"\0")
        text = f"a byte behind the last element of {UnitType(kind).name}"
        yield Case(f"rest-{UnitType(kind).name[4:].lower()}", head + data, text, ("framing",), code="UNIT_SIZE")
    mps = head[4:]
    longer = (len(mps) + 1).to_bytes(2, "big") + mps[2:] + b"\0"
    yield Case(
        "rest-mps", head[:4] + longer, "a byte behind the last element of NNR_MPS", ("framing",), code="UNIT_SIZE"
    )
    yield from _aggregates(head)


def _aggregates(head: bytes) -> Iterator[Case]:
    one, two = unit_bytes(9, b"a"), unit_bytes(33, b"bc")

    def aggregate(inner: bytes, count: int = 2, listed: tuple[tuple[int, int], ...] = ()) -> bytes:
        entries = b"".join((kind << 34 | place).to_bytes(5, "big") for kind, place in listed)
        flag = b"\x80" if listed else b"\0"
        return unit_bytes(_AGG, b"\0" + flag + (count - 2).to_bytes(2, "big") + entries + bytes(count) + inner)

    first = 2 + 1 + 4 + 10 + 2
    right = ((9, first), (33, first + len(one)))
    bad: list[tuple[str, bytes, str, str]] = [
        ("too-few", aggregate(one), "UNIT_SIZE", "an aggregate with fewer units than announced"),
        ("too-many", aggregate(one + two + one), "UNIT_SIZE", "an aggregate with more units than announced"),
        ("none", aggregate(b""), "UNIT_SIZE", "an aggregate without the units that it announces"),
        ("overrun", aggregate(one + b"\0\x09\x86x"), "TRUNCATED", "a unit that is larger than its aggregate"),
        (
            "overrun-inside",
            aggregate(one + b"\0\x09\x86x") + one + two,
            "TRUNCATED",
            "a unit that is larger than its aggregate, but not than the stream",
        ),
        ("one-byte", aggregate(one + two + b"\0"), "TRUNCATED", "a byte behind the units of an aggregate"),
        (
            "entry-type",
            aggregate(one + two, 2, ((8, first), right[1])),
            "ENTRY_POINT",
            "an entry point of another type",
        ),
        (
            "entry-place",
            aggregate(one + two, 2, (right[0], (33, first))),
            "ENTRY_POINT",
            "an entry point of another place",
        ),
        ("entry-far", aggregate(one + two, 2, (right[0], (33, 2**34 - 1))), "ENTRY_POINT", "an entry point far away"),
        ("entry-overlap", aggregate(one + two, 2, (right[1], right[1])), "ENTRY_POINT", "two entry points to one unit"),
    ]
    for label, data, code, text in bad:
        also = ("UNIT_SIZE",) if label == "one-byte" else ()
        yield Case(f"aggregate-{label}", head + data, text, ("aggregate",), code=code, also=also)
    yield Case(
        "aggregate-listed",
        head + aggregate(one + two, 2, right),
        "an aggregate with right entry points",
        ("aggregate",),
    )


def cases(seed: int) -> Iterator[Case]:
    """See the module."""
    rng = random.Random(f"framing {seed}")
    yield from _valid(rng)
    yield from _order(rng)
    yield from _starts()
    yield from _sizes(rng)

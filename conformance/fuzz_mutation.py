"""Streams that are a little different, and whether all our readers agree on them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnbits.codec.entropy import ans, ans_reference
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.sparse import native, portable
from nnbits.codec.stream import read_units
from nnbits.codec.syntax import Trace
from nnbits.codec.syntax.native import parse_verdict, trace_stream
from nnbits.conformance.adapters import core, reference
from nnbits.conformance.manifest import describe_tensor

__all__ = ["check_differential", "check_rans", "check_sparse", "mutated", "scratched"]


def mutated(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """A stream that is a little different: in elements, in its units, or in bytes; sizes of units stay right mostly."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = rng.choice((_element, _element, _element, _units, _bytes, _payload))(data, rng, others)
    return data


def _element(data: bytes, rng: random.Random, _others: Sequence[bytes]) -> bytes:
    """Other bits in one element of the declaration."""
    trace = Trace()
    try:
        for _ in read_units(memoryview(data), trace=trace):
            pass
    except NnbitsError:
        pass
    if not trace.records:
        return _bytes(data, rng, _others)
    record = rng.choice(trace.records)
    width = min(record.width, 64)
    if not width:
        return data
    value = rng.choice((0, (1 << width) - 1, rng.getrandbits(width), 1 << rng.randrange(width)))
    number = int.from_bytes(data, "big")
    shift = 8 * len(data) - record.position - width
    number = (
        number ^ (value << shift) if rng.random() < 0.5 else number & ~(((1 << width) - 1) << shift) | value << shift
    )
    return number.to_bytes(len(data), "big")


def _split(data: bytes) -> list[bytes]:
    """The units as far as sizes make sense."""
    units, at = [], 0
    while at + 2 <= len(data):
        size = int.from_bytes(data[at : at + 2], "big")
        if size & 0x8000:
            size = int.from_bytes(data[at : at + 4], "big") & 0x7FFFFFFF
        if size < 3 or at + size > len(data):
            break
        units.append(data[at : at + size])
        at += size
    return [*units, data[at:]] if data[at:] else units


def _units(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Units left out, doubled, moved, or taken from another stream."""
    units = _split(data)
    if not units:
        return data
    at = rng.randrange(len(units))
    choice = rng.randrange(4)
    if choice == 0:
        del units[at]
    elif choice == 1:
        units.insert(rng.randrange(len(units) + 1), units[at])
    elif choice == 2:
        units.insert(rng.randrange(len(units)), units.pop(at))
    else:
        units.insert(at, rng.choice(_split(rng.choice(others)) or [b""]))
    return b"".join(units)


def _payload(data: bytes, rng: random.Random, _others: Sequence[bytes]) -> bytes:
    """A unit that is shorter or longer, with its size."""
    units = _split(data)
    if not units:
        return data
    at = rng.randrange(len(units))
    unit = units[at]
    long = bool(unit[0] & 0x80)
    body = unit[4 if long else 2 :]
    cut = rng.randrange(len(body) + 1)
    body = body[:cut] if rng.random() < 0.6 else body[:cut] + rng.randbytes(rng.randrange(5)) + body[cut:]
    size = len(body) + (4 if long else 2)
    units[at] = ((size | 1 << 31).to_bytes(4, "big") if long else (size & 0x7FFF).to_bytes(2, "big")) + body
    return b"".join(units)


def _bytes(data: bytes, rng: random.Random, _others: Sequence[bytes]) -> bytes:
    """Any byte."""
    if not data:
        return rng.randbytes(4)
    out = bytearray(data)
    at = rng.randrange(len(out))
    out[at] ^= 1 << rng.randrange(8)
    return bytes(out[: rng.randrange(len(out))] if rng.random() < 0.1 else out)


def scratched(data: bytes, rng: random.Random) -> bytes:
    """Other bytes at some places, or a part left out, doubled or added."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(out) + 1)
        choice = rng.randrange(4)
        if choice == 0:
            del out[at : at + rng.randrange(1, 4)]
        elif choice == 1:
            out[at:at] = rng.randbytes(rng.randrange(1, 4))
        elif at < len(out):
            out[at] = out[at] ^ 1 << rng.randrange(8) if choice == 2 else rng.choice((0, 1, 127, 128, 255))
    return bytes(out)


def check_differential(data: bytes) -> str | None:
    """Whether all our readers agree on a stream; a description of the difference if not."""
    trace = Trace()
    verdict: ReasonCode | None = None
    try:
        for _ in read_units(memoryview(data), trace=trace):
            pass
    except NnbitsError as error:
        verdict = error.code
    if parse_verdict(data) != verdict:
        return f"the Python reader says {verdict}, the C parser {parse_verdict(data)}"
    if trace_stream(data) != list(trace.lines()):
        return "the traces differ"
    results: list[tuple[ReasonCode | None, dict[str, Any]]] = []
    for decode in (reference, core):
        try:
            results.append((None, {name: describe_tensor(name, a) for name, a in decode([data], {}).items()}))
        except NnbitsError as error:
            results.append((error.code, {}))
    if results[0] != results[1]:
        return f"the reference says {results[0][0]}, the core {results[1][0]}, or the tensors differ"
    if results[0][0] == ReasonCode.INTERNAL:
        return "INTERNAL"
    return None


# ---- pieces of streams, in the layouts of the C targets


def check_sparse(data: bytes) -> str | None:
    """Whether the Python reference of sparse maps says what the C core says of an input of fuzz_sparse.c."""
    if len(data) < 3 or len(data) < 5 + 2 * (data[1] % 5):
        return None
    kind, count = data[0] & 7, data[1] % 5
    shape = tuple(int(n) for n in np.frombuffer(data, "<u2", count, 3))
    value_count = int.from_bytes(data[3 + 2 * count : 5 + 2 * count], "little")
    if int(np.prod(np.array(shape, np.float64))) > _MOST_ELEMENTS or not 1 <= kind <= 6:
        return None
    results: list[bytes | ReasonCode] = []
    for decode in (native.decode, portable.decode):
        try:
            results.append(decode(kind, data[5 + 2 * count :], shape, value_count).tobytes())
        except NnbitsError as error:
            results.append(error.code)
    if results[0] != results[1]:
        said = [r.name if isinstance(r, ReasonCode) else "a map" for r in results]
        return f"sparse map of kind {kind}: the core says {said[0]}, the reference {said[1]}, or the maps differ"
    return None


def check_rans(data: bytes) -> str | None:
    """Whether the Python reference of rANS says what the C core says of an input of fuzz_rans.c."""
    if len(data) < 4:
        return None
    tables, step = 1 + data[0] % 16, data[1]
    count = int.from_bytes(data[2:4], "little") % 20481
    if count > _MOST_ELEMENTS:
        return None
    mixed = tables > 1 or bool(step & 1)
    values = (np.arange(count) * step >> 3 & 0xFF).astype(np.uint8)
    numbers = values % tables
    results: list[bytes | ReasonCode] = []
    try:
        _, used = ans.read_tables(data[4:], tables)
        contexts = ans.Contexts(values, (np.arange(256) % tables).astype(np.uint8)) if mixed else None
        results.append(ans.decode(data[4:], tables, data[4 + used :], count, contexts).tobytes())
    except NnbitsError as error:
        results.append(error.code)
    try:
        read, used = ans_reference.read_tables(data[4:], tables)
        results.append(ans_reference.decode(data[4 + used :], read, count, numbers.tolist() if mixed else None))
    except NnbitsError as error:
        results.append(error.code)
    return None if results[0] == results[1] else "rANS: core and reference differ"


#: References take some microseconds an element.
_MOST_ELEMENTS = 4096

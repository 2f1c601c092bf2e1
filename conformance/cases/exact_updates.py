"""Exact updates: what changed between two models, alone, after the right base, and after others."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from nnbits.codec.base import Base
from nnbits.codec.exact_update import write_update
from nnbits.codec.head import Metadata, UpdateOf, compress
from nnbits.codec.plan import EncodePlan, TensorPlan
from nnbits.codec.syntax import AccessUnitRelation, ExtensionKind
from nnbits.codec.types import DTYPES, Attachment, LazyTensor, Model, TensorInfo, shaped
from nnbits.codec.writer import write_extended
from nnbits.conformance.cases.building import Case, StreamBuilder, raw_unit
from nnbits.conformance.cases.indexes import _with_metadata
from nnbits.conformance.cases.pieces import AccessUnit, piece, raw, stream

__all__ = ["cases"]

#: ``update-metadata``: what only the metadata say, which are compressed.
_FEATURES: Final = ("extended", "exact-updates")
_METADATA: Final = (*_FEATURES, "update-metadata")
_XOR, _REPLACES, _ALONE = AccessUnitRelation.XOR, AccessUnitRelation.REPLACES, AccessUnitRelation.ALONE
#: A name of which JSON escapes parts, and leaves others.
_NAME: Final = 'q"\\\b\t\n\v\f\r\x1f\x7f/é😀'

Arrays = Mapping[str, Any]
Packed = tuple[str, tuple[int, ...], bytes]


def _model(arrays: Arrays, **fields: Any) -> Model:
    """Of NumPy arrays, and of others as (element type, shape, bytes)."""

    def tensor(name: str, value: Any) -> LazyTensor:
        if isinstance(value, tuple):
            dtype, shape, data = value
            info = TensorInfo(name, DTYPES[dtype], shape)
            stored = shaped(name, info.stored_shape, np.frombuffer(data, info.dtype.storage))
        else:
            info, stored = TensorInfo(name, DTYPES[value.dtype.name], value.shape), value
        return LazyTensor(info, lambda: stored)

    return Model([tensor(name, value) for name, value in arrays.items()], **fields)


def _whole(model: Model) -> bytes:
    chunks: list[bytes] = []
    plan = EncodePlan({t.info.name: TensorPlan("lossless") for t in model}, profile="extended")
    write_extended(model, plan, lambda data: chunks.append(bytes(data)), threads=1)
    return b"".join(chunks)


def _update(old: Arrays, new: Arrays | Model, **options: Any) -> bytes:
    chunks: list[bytes] = []
    model = new if isinstance(new, Model) else _model(new)
    write_update(Base(_model(old)), model, lambda data: chunks.append(bytes(data)), **options)
    return b"".join(chunks)


def _versions() -> list[dict[str, Any]]:
    """Four versions of a model."""
    generator = np.random.default_rng(17)
    wide = generator.normal(0, 0.02, (64, 96)).astype(np.float32)
    first: dict[str, Any] = {
        "wide": wide,
        "half": wide[:3].astype(np.float16),
        "count": np.arange(11),
        "flags": generator.random(9) < 0.5,
        "step": np.array(7.5),
        "none": np.zeros((0, 2), np.int8),
        "packed": ("uint3", (5,), b"\xac\x53"),
        "brain": ("bfloat16", (2, 2), bytes(range(8))),
        _NAME: np.array([1, -1], np.int16),
    }
    second = {**first, "wide": wide.copy(), "count": first["count"] * 2, "flags": ~first["flags"]}
    second["wide"][[1, 50], [4, 90]] *= -1
    second |= {"packed": ("uint3", (5,), b"\xac\x13"), "step": np.array(np.nan), _NAME: np.array([1, 300], np.int16)}
    third = {**second, "count": second["count"].astype(np.int32), "half": second["half"].reshape(8, 36), "new": wide[0]}
    fourth = {name: array for name, array in third.items() if name not in ("flags", "step")}
    return [first, second, third, fourth]


def _valid() -> Iterator[Case]:
    first, second, third, fourth = _versions()
    base = "exact-update-base"
    yield Case(base, _whole(_model(first)), "a model, the base of exact updates", _FEATURES)
    yield Case("exact-update-1", _update(first, second), "an exact update: a few elements, a sparse map, a NaN, packed "
               "elements, a name that JSON escapes", _FEATURES, after=(base,))  # fmt: skip
    yield Case("exact-update-2", _update(second, third), "the next one: another element type, another shape, "
               "a new tensor",
               _FEATURES, after=(base, "exact-update-1"))  # fmt: skip
    yield Case("exact-update-3", _update(third, fourth), "the one after that: two tensors are removed", _METADATA,
               after=(base, "exact-update-1", "exact-update-2"))  # fmt: skip
    yield Case("exact-update-full", _update(first, second, full=True), "changed tensors complete", _FEATURES,
               after=(base,))  # fmt: skip
    yield Case("exact-update-same", _update(first, first), "nothing has changed", _FEATURES, after=(base,))
    other = dict(reversed(second.items()))
    yield Case("exact-update-order", _update(first, other), "another order of the tensors", _FEATURES, after=(base,))
    notes = [Attachment("notes", 5, lambda: b"hello")]
    new = _model(second, metadata={"step": "2"}, source_format="safetensors", attachments=notes)
    yield Case("exact-update-notes", _update(first, new), "with metadata and an attachment", _FEATURES, after=(base,))
    empty = "exact-update-base-empty"
    yield Case(empty, _whole(_model({})), "a model without tensors, the base of exact updates", _FEATURES)
    yield Case("exact-update-of-nothing", _update({}, first), "all tensors are new", _FEATURES, after=(empty,))
    yield Case("exact-update-to-nothing", _update(first, {}), "all tensors are removed", _METADATA, after=(base,))


#: What the crafted updates change.
_SMALL: Final[Arrays] = {
    "a": np.arange(12, dtype=np.uint8),
    "b": np.array([True, False, True, False]),
    "c": np.arange(6, dtype=np.float32).reshape(2, 3),
    "p": ("uint4", (4,), b"\x21\x43"),
}
_RESULT: Final = "0" * 64


def _digest() -> bytes:
    return Base(_model(_SMALL)).digest


def _of(
    *units: AccessUnit,
    result: Arrays | None = None,
    digest: bytes | None = None,
    relation: AccessUnitRelation = _XOR,
    **update: Any,
) -> bytes:
    """An update of the small model whose access units carry its digest."""
    base = _digest()
    end = _RESULT if result is None else Base(_model(result)).digest.hex()
    given = [
        replace(unit, relation=unit.relation or relation, base_digest=unit.base_digest or digest or base)
        for unit in units
    ]
    return stream(*given, metadata=Metadata(update=UpdateOf(base.hex(), end, **update)))


def _crafted() -> Iterator[Case]:
    """Access units that the writer does not make, and that are right."""
    base = "exact-update-small"
    yield Case(base, _whole(_model(_SMALL)), "a small model, the base of exact updates", _FEATURES)
    part = raw("a", shape=(12,), first_element=0, element_count=5)
    rest = raw("a", shape=(12,), first_element=5, element_count=7)
    new = _SMALL["a"] ^ np.uint8(3)
    new[5:] = 9
    units = (AccessUnit([rest], bytes([9] * 7), relation=_REPLACES), AccessUnit([part], bytes([3] * 5)))
    yield Case("exact-update-parts", _of(*units, result={**_SMALL, "a": new}),
               "a part of a tensor to be XORed, the other complete", _FEATURES, after=(base,))  # fmt: skip
    yield Case("exact-update-parts-xor-first", _of(*units[::-1], result={**_SMALL, "a": new}),
               "a part of a tensor complete, after one that is to be XORed", _FEATURES, after=(base,))  # fmt: skip
    mapped = raw("a", shape=(12,), map_kind=1, map_bytes=2, value_count=2, value_bytes=2)
    new = _SMALL["a"].copy()
    new[[0, 10]] ^= np.array([255, 1], np.uint8)
    yield Case("exact-update-map", _of(AccessUnit([mapped], b"\x01\x04\xff\x01"), result={**_SMALL, "a": new}),
               "XOR with a bit mask", _FEATURES, after=(base,))  # fmt: skip
    packed = raw("p", "uint4", (4,), first_element=2, element_count=2)
    first = replace(packed, first_element=0, value_bytes=1)
    units = (AccessUnit([packed], b"\x77"), AccessUnit([first], b"\x10"))
    yield Case("exact-update-packed", _of(*units, result={**_SMALL, "p": ("uint4", (4,), b"\x31\x34")}),
               "parts of packed elements", _FEATURES, after=(base,))  # fmt: skip
    nothing = piece("c", "float32", (2, 3))
    yield Case("exact-update-zeros", _of(AccessUnit([nothing]), result=_SMALL), "XOR with nothing", _FEATURES,
               after=(base,))  # fmt: skip
    zeros = {**_SMALL, "c": np.zeros((2, 3), np.float32)}
    yield Case("exact-update-cleared", _of(AccessUnit([nothing], relation=_REPLACES), result=zeros),
               "a tensor is replaced by zeros", _FEATURES, after=(base,))  # fmt: skip
    flags = raw("b", "bool", (4,))
    yield Case("exact-update-bool", _of(AccessUnit([flags], b"\1\1\0\0"), result={**_SMALL, "b": np.array([0, 1, 1, 0],
               np.bool_)}), "bools are XORed", _FEATURES, after=(base,))  # fmt: skip


def _standard() -> Iterator[Case]:
    """The base may be a stream of the standard profile."""
    builder = StreamBuilder(random.Random("exact updates"))
    bits = np.arange(6, dtype=np.float32).view(np.uint32)
    builder.append(raw_unit(builder, "t", bits))
    yield Case("exact-update-standard-base", builder.data, "a base of the standard profile", ("tensors",))
    old = {"t": np.arange(6, dtype=np.float32)}
    features = (*_FEATURES, "standard-base")
    yield Case("exact-update-of-standard", _update(old, {"t": -old["t"]}), "an exact update of a stream of the "
               "standard profile", features, after=("exact-update-standard-base",))  # fmt: skip
    yield Case("exact-update-wrong-standard", _update(_SMALL, {**_SMALL, "a": _SMALL["a"] + np.uint8(1)}),
               "an exact update after a stream of the standard profile that is not its base", _FEATURES,
               code="BASE_MISMATCH", also=("UNSUPPORTED_FEATURE",), after=("exact-update-standard-base",))  # fmt: skip


def _wrong_bases() -> Iterator[Case]:
    first, second, third, _ = _versions()
    one, two = _update(first, second), _update(second, third)
    yield Case("exact-update-alone", one, "an exact update without its base", _FEATURES, code="BASE_MISSING")
    yield Case("exact-update-alone-full", _update(first, second, full=True), "complete tensors of an exact update, "
               "without its base", _FEATURES, code="BASE_MISSING", also=("BASE_MISMATCH",))  # fmt: skip
    yield Case("exact-update-alone-same", _update(first, first), "an exact update that changes nothing, without its "
               "base", _METADATA, code="BASE_MISSING")  # fmt: skip
    base = "exact-update-base"
    yield Case("exact-update-skipped", two, "the second exact update without the first", _FEATURES,
               code="BASE_MISMATCH", after=(base,))  # fmt: skip
    yield Case("exact-update-again", one, "an exact update twice", _FEATURES, code="BASE_MISMATCH",
               after=(base, "exact-update-1"))  # fmt: skip
    yield Case("exact-update-other-base", one, "an exact update of another model", _FEATURES, code="BASE_MISMATCH",
               after=("exact-update-small",))  # fmt: skip
    changes: dict[str, tuple[Arrays, str]] = {
        "value": ({**_SMALL, "c": _SMALL["c"] * np.float32(-1)}, "an element that the update does not touch"),
        "type": ({**_SMALL, "a": _SMALL["a"].view(np.int8)}, "an element type"),
        "shape": ({**_SMALL, "a": _SMALL["a"].reshape(3, 4)}, "a shape"),
        "less": ({name: array for name, array in _SMALL.items() if name != "c"}, "one tensor less"),
        "more": ({**_SMALL, "d": np.zeros(1, np.int8)}, "one tensor more"),
        "name": ({("A" if name == "a" else name): array for name, array in _SMALL.items()}, "a name"),
    }
    new = _of(AccessUnit([raw("b", "bool", (4,))], bytes(4)), result=_SMALL)
    for label, (arrays, text) in changes.items():
        yield Case(f"exact-update-base-{label}", _whole(_model(arrays)), f"a base that differs: {text}", _FEATURES)
        yield Case(f"exact-update-differs-{label}", new, f"an exact update of a base that differs: {text}", _FEATURES,
                   code="BASE_MISMATCH", after=(f"exact-update-base-{label}",))  # fmt: skip


def _broken() -> Iterator[tuple[str, bytes, str, tuple[str, ...], str]]:
    """Updates after their base that are wrong: label, stream, code, other codes, text."""
    a = raw("a", shape=(12,))
    twelve = bytes(12)
    yield ("digest", _of(AccessUnit([a], twelve), digest=bytes(32)), "BASE_MISMATCH", (),
           "an access unit with the digest of another base")  # fmt: skip
    yield ("digest-full", _of(AccessUnit([a], twelve, relation=_REPLACES), digest=bytes(32)), "BASE_MISMATCH", (),
           "a complete access unit with the digest of another base")  # fmt: skip
    good = AccessUnit([a], twelve)
    other = AccessUnit([raw("b", "bool", (4,))], bytes(4), base_digest=b"\1" * 32)
    yield "digest-second", _of(good, other), "BASE_MISMATCH", (), "a second access unit with the digest of another base"
    alone = replace(AccessUnit([raw("new")], bytes(4)), relation=_ALONE)
    yield ("relation", stream(alone, metadata=Metadata(update=UpdateOf(_digest().hex(), _RESULT))), "BASE_MISMATCH", (),
           "an access unit of relation 0 in an update")  # fmt: skip
    yield ("new", _of(AccessUnit([raw("new")], bytes(4))), "BASE_MISSING", (), "a tensor is to be XORed that the base "
           "does not have")  # fmt: skip
    yield ("type", _of(AccessUnit([raw("a", "int8", (12,))], twelve)), "SHAPE_MISMATCH", (), "a tensor is to be XORed "
           "that has another element type in the base")  # fmt: skip
    yield ("shape", _of(AccessUnit([raw("a", shape=(3, 4))], twelve)), "SHAPE_MISMATCH", (), "a tensor is to be XORed "
           "that has another shape in the base")  # fmt: skip
    yield ("dimensions", _of(AccessUnit([raw("a", shape=(12, 1))], twelve)), "SHAPE_MISMATCH", (), "a tensor is to be "
           "XORed that has a dimension less in the base")  # fmt: skip
    yield ("twice", _of(good, replace(good, covers=[])), "DUPLICATE_NAME", (), "a tensor is XORed twice")
    yield ("both", _of(good, replace(good, relation=_REPLACES, covers=[])), "DUPLICATE_NAME", (),
           "a tensor is XORed and replaced")  # fmt: skip
    part = raw("a", shape=(12,), first_element=0, element_count=5)
    yield "part", _of(AccessUnit([part], bytes(5))), "INDEX", (), "a part of a tensor is missing"
    yield (
        "bool",
        _of(AccessUnit([raw("b", "bool", (4,))], b"\0\2\0\0")),
        "VALUE_RANGE",
        (),
        "a bool is to be XORed with 2",
    )
    packed = raw("p", "uint3", (5,))
    yield (
        "packed",
        _of(AccessUnit([packed], b"\0\x80")),
        "RESERVED_BITS",
        ("SHAPE_MISMATCH",),
        "a bit behind the last element",
    )
    mapped = raw("a", shape=(12,), map_kind=1, map_bytes=2, value_count=2, value_bytes=2)
    yield ("map", _of(AccessUnit([mapped], b"\1\x10\1\1")), "SPARSE_MAP", (), "the map of an XOR names an element "
           "behind the last")  # fmt: skip
    exact = piece("a", "uint8", (12,), value_coding=2, value_bytes=9)
    yield "values", _of(AccessUnit([exact], bytes(9))), "LOSSLESS_BLOCK", (), "values of an XOR that cannot be decoded"
    data = bytearray(_of(good))
    data[data.index(b"nnbX" + bytes([ExtensionKind.ACCESS_UNIT_HEADER])) + 6] ^= 1
    yield "checksum", bytes(data), "CHECKSUM", (), "an access unit whose checksum is wrong"


def _broken_metadata() -> Iterator[tuple[str, bytes, str, str]]:
    """What only the metadata say: label, stream, code, text."""
    a = AccessUnit([raw("a", shape=(12,))], bytes(12))
    yield "result", _of(a), "DIGEST", "the update leads to another model than it says"
    yield "order", _of(a, result=_SMALL, order=("a", "b")), "METADATA", "the order leaves out tensors"
    yield "order-other", _of(a, result=_SMALL, order=("a", "b", "c", "x")), "METADATA", "the order names another tensor"
    yield (
        "order-twice",
        _of(a, result=_SMALL, order=("a", "b", "c", "c", "p")),
        "METADATA",
        "the order names a tensor twice",
    )
    base = _digest().hex()
    bodies: Sequence[tuple[str, Any]] = (
        ("list", [base]),
        ("key", {"base": base, "result": _RESULT, "colour": 1}),
        ("base", {"result": _RESULT}),
        ("short", {"base": base[1:], "result": _RESULT}),
        ("letters", {"base": base.upper().replace("0", "A"), "result": _RESULT}),
        ("removed", {"base": base, "result": _RESULT, "removed": "a"}),
        ("order-numbers", {"base": base, "result": _RESULT, "order": [1]}),
    )
    for label, body in bodies:
        text = json.dumps({"nnbits": 2, "update": body}).encode()
        yield (
            f"metadata-{label}",
            _with_metadata(compress(text), len(text)),
            "METADATA",
            f"metadata of an update: {label}",
        )


def cases(seed: int) -> Iterator[Case]:
    """The streams."""
    del seed  # nothing is random
    yield from _valid()
    yield from _crafted()
    yield from _standard()
    yield from _wrong_bases()
    for label, data, code, also, text in _broken():
        yield Case(f"exact-update-wrong-{label}", data, f"exact updates: {text}", _FEATURES, code=code, also=also,
                   after=("exact-update-small",))  # fmt: skip
    for label, data, code, text in _broken_metadata():
        features = (*_METADATA, "index") if label.startswith("metadata") else _METADATA
        yield Case(f"exact-update-wrong-{label}", data, f"exact updates: {text}", features, code=code,
                   after=("exact-update-small",))  # fmt: skip

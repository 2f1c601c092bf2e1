"""Access units that the writer makes only of large models: parts of tensors, many units, states, odd names."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np

from nnbits.codec import repair
from nnbits.codec.access_encoder import encode_unit, finish_header, plan_units
from nnbits.codec.encode import default_parameters
from nnbits.codec.head import Metadata, write_head
from nnbits.codec.index import IndexBuilder
from nnbits.codec.integrity import sha256
from nnbits.codec.plan import EncodePlan, TensorPlan
from nnbits.codec.repair import replace_tensors
from nnbits.codec.source import SourceDescription
from nnbits.codec.syntax import AccessUnitHeader, build_unit
from nnbits.codec.syntax.enums import AccessUnitRelation
from nnbits.codec.types import DTYPES, Attachment, LazyTensor, Model, TensorInfo
from nnbits.codec.writer import StateWriter, encoded_units
from nnbits.conformance.cases.building import Case

__all__ = ["cases"]

_FEATURES: Final = ("extended",)


def _plan(model: Model) -> EncodePlan:
    return EncodePlan({tensor.info.name: TensorPlan("lossless") for tensor in model}, profile="extended")


def _array(name: str, array: Any, dtype: str = "") -> LazyTensor:
    info = TensorInfo(name, DTYPES[dtype or array.dtype.name], array.shape)
    return LazyTensor(info, lambda: array)


def _write(
    model: Model,
    *,
    part_bytes: int = 1 << 22,
    group_bytes: int = 1 << 22,
    relation: AccessUnitRelation | None = None,
    number: Callable[[int], int] = int,
) -> bytes:
    """A stream whose tensors are split, and share access units, as it is asked for."""
    plan = _plan(model)
    parameters = default_parameters(plan)
    assert parameters.mps is not None  # noqa: S101 - the plan has one
    metadata = Metadata(model.source_format, model.metadata, model.source, ())
    head = write_head(parameters.mps, plan.general_profile_idc, SourceDescription(), metadata)
    chunks: list[bytes] = []
    builder = IndexBuilder(head.data, [tensor.info for tensor in model])
    writer = StateWriter(lambda data: chunks.append(bytes(data)), parameters, builder, 0)
    writer.put(head.data)
    for attachment in model.attachments:
        writer.attachment(attachment)
    units = plan_units(model, plan, part_bytes=part_bytes, group_bytes=group_bytes)
    for place, unit in enumerate(units):
        coded = encode_unit(unit, number(place), plan, parameters, base_digest=None if relation is None else bytes(32))
        if relation is not None:
            header, *body = coded.chunks
            changed = _with_relation(bytes(header), relation)
            data = b"".join([finish_header(changed, body), *body])
            coded = replace(coded, chunks=[data], digest=sha256(data))
        writer.access_unit(coded)
    writer.finish(0)
    return b"".join(chunks)


def _with_relation(header: bytes, relation: AccessUnitRelation) -> bytes:
    from nnbits.codec.syntax import ParameterSets, parse_unit

    body = parse_unit(memoryview(header), index=1, offset=0, parameters=ParameterSets(1)).body
    if not isinstance(body, AccessUnitHeader):
        raise TypeError("no access unit header")
    return build_unit(replace(body, au_relation=relation), parameters=ParameterSets(1))


def _replaced(data: bytes, *versions: list[LazyTensor]) -> bytes:
    """The stream with a state for each list of new tensors."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stream.nnc"
        path.write_bytes(data)
        for tensors in versions:
            replace_tensors(path, tensors, _plan(Model(tensors)))
        return path.read_bytes()


def cases(seed: int) -> Iterator[Case]:
    """The streams."""
    rng = random.Random(f"{seed} access units")
    generator = np.random.default_rng(seed)
    wide = generator.integers(-9, 9, (96, 50)).astype(np.float32) / 8
    sparse = wide * (generator.random(wide.shape) < 0.2)
    packed = np.frombuffer(rng.randbytes(600), np.uint8)
    parts = [
        _array("wide", wide),
        _array("sparse", sparse),
        LazyTensor(TensorInfo("packed", DTYPES["uint4"], (40, 30)), lambda: packed),
        _array("long", np.arange(3000, dtype=np.int16)),
    ]
    for size in (64, 1000, 4000):
        data = _write(Model(parts), part_bytes=size, group_bytes=size)
        yield Case(f"extended-parts-{size}", data, f"tensors in parts of about {size} bytes", _FEATURES)

    base = _write(Model(parts[:2]))
    other = _array("wide", wide[:7].astype(np.float16))
    data = _replaced(base, [other], [parts[3], _array("sparse", sparse * 2)], [_array("wide", wide * 3)])
    yield Case("extended-states", data, "four states: tensors replaced by others of other types, one added", _FEATURES)
    with patch.object(repair, "encoded_units", lambda *a, **k: encoded_units(*a, **{**k, "base_digest": bytes(32)})):
        data = _replaced(base, [_array("wide", wide + 1)])
    yield Case("extended-replaces-other", data, "a second state that names another one than the first", _FEATURES,
               code="BASE_MISMATCH")  # fmt: skip
    data = _replaced(_write(Model(parts[:1]), part_bytes=4000), [_array("wide", wide + 1)])
    yield Case("extended-states-parts", data, "a tensor in parts replaced as a whole", _FEATURES)
    data = _write(Model(parts[:1]), relation=AccessUnitRelation.XOR)
    yield Case("extended-xor", data, "an access unit that changes another model", _FEATURES, code="BASE_MISSING")
    data = _write(Model(parts[:1]), relation=AccessUnitRelation.REPLACES)
    yield Case("extended-replaces-nothing", data, "an access unit that replaces one of a state that is not there",
               _FEATURES, code="BASE_MISMATCH", also=("INDEX",))  # fmt: skip
    data = _write(Model(parts), part_bytes=4000, group_bytes=64, number=lambda n: n if n < 2 else n + 1)
    yield Case("extended-number", data, "the number of an access unit is left out", _FEATURES,
               code="ACCESS_UNIT", also=("INDEX",))  # fmt: skip

    small = np.arange(3, dtype=np.int8)
    stem = "s" * 300
    names = ["", "n" * 65535, stem + "a", stem + "b", "n" * 40]
    yield Case("extended-names", _write(Model([_array(name, small) for name in names])),
               "names of 65,535 bytes and of none, two that share 300 bytes", _FEATURES)  # fmt: skip
    shapes = ((2**48, 0), (0, 2**48), (1,) * 64, (0,) * 64, ())
    data = _write(Model([_array(f"t{k}", np.zeros(shape, np.float32)) for k, shape in enumerate(shapes)]))
    yield Case("extended-shapes", data, "dimensions at their ends, 64 of them, none", _FEATURES)
    long = bytes(2**24 + 7)
    files = [Attachment("", 0, lambda: b""), Attachment("a" * 65535, 1, lambda: b"x"), Attachment("l", len(long),
             lambda: long)]  # fmt: skip
    data = _write(Model(parts[:1], attachments=files))
    yield Case("extended-attachment-parts", data, "attachments of two parts, of 65,535 bytes of name and of none",
               _FEATURES)  # fmt: skip

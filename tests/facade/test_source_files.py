"""What ``nnbits.torch`` and ``nnbits.numpy`` load from packed model files: the tensors that the file has."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")

import nnbits.numpy  # noqa: E402
import nnbits.torch  # noqa: E402
from nnbits.codec.api import pack_model, plan_exact  # noqa: E402
from nnbits.codec.ranges import FileSource  # noqa: E402
from nnbits.formats import adapter_for_file  # noqa: E402

GENERATOR = np.random.default_rng(0)
Tensors = Mapping[str, Any]


def pack(path: Path) -> Path:
    model = adapter_for_file(path).read(path)
    target = path.with_name(path.name + ".nnc")
    pack_model(model, target, plan=plan_exact(model))
    return target


def random(dtype: Any, *shape: int) -> Any:
    raw = torch.from_numpy(GENERATOR.integers(0, 100, int(np.prod(shape)) * dtype.itemsize, np.uint8))
    return raw.view(dtype).reshape(shape)


def compressed_tensors(folder: Path) -> tuple[Path, Tensors]:
    tensors = {}
    for bits in (4, 8):
        tensors |= {
            f"b{bits}.weight_packed": random(torch.int32, 16, 64 * bits // 32),
            f"b{bits}.weight_scale": random(torch.bfloat16, 16, 2),
            f"b{bits}.weight_zero_point": random(torch.int32, 2, 2),
            f"b{bits}.weight_shape": torch.tensor([16, 64]),
            f"b{bits}.weight_g_idx": torch.arange(64, dtype=torch.int32),
        }
    return save(folder, tensors)


def gptq(folder: Path) -> tuple[Path, Tensors]:
    return save(
        folder,
        {
            "x.qweight": random(torch.int32, 8, 16),
            "x.qzeros": random(torch.int32, 2, 2),
            "x.scales": random(torch.float16, 2, 16),
            "x.g_idx": torch.zeros(64, dtype=torch.int32),
        },
    )


def bitsandbytes(folder: Path) -> tuple[Path, Tensors]:
    return save(
        folder,
        {
            "x.weight": random(torch.uint8, 128, 1),
            "x.weight.absmax": torch.ones(4),
            "x.weight.quant_map": torch.linspace(-1, 1, 16),
            "x.weight.quant_state.bitsandbytes__nf4": random(torch.uint8, 90),
        },
    )


def sparse_bitmask(folder: Path) -> tuple[Path, Tensors]:
    return save(folder, {"x.compressed": torch.ones(9), "x.bitmask": random(torch.uint8, 4, 2)})


def odd_header(folder: Path) -> tuple[Path, Tensors]:
    """With blanks, and another order of the entries than of the data."""
    path, tensors = save(folder, {"a": random(torch.float32, 3, 2), "b": torch.tensor([True, False, True])})
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(dict(reversed(json.loads(data[8 : 8 + size]).items())), indent=2).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + size :])
    return path, tensors


def save(folder: Path, tensors: Tensors) -> tuple[Path, Tensors]:
    path = folder / "model.safetensors"
    safetensors.save_file(dict(tensors), path, {"format": "pt"})
    return path, {name: tensor.clone() for name, tensor in safetensors.load_file(path).items()}


def shards(folder: Path) -> tuple[Path, Tensors]:
    inside = folder / "model"
    inside.mkdir()
    weights: dict[str, str] = {}
    tensors: dict[str, Any] = {}
    for number in (1, 2):
        part = {
            f"l{number}.weight_packed": random(torch.int32, 4, 8),
            f"l{number}.weight_scale": random(torch.float16, 4, 1),
            f"l{number}.weight_shape": torch.tensor([4, 64]),
        }
        safetensors.save_file(part, inside / f"model-{number}.safetensors")
        weights |= dict.fromkeys(part, f"model-{number}.safetensors")
        tensors |= part
    (inside / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    (inside / "config.json").write_text("{}")
    return inside, tensors


def pytorch(folder: Path, *, zipped: bool = True) -> tuple[Path, Tensors]:
    base, channels = random(torch.float32, 30, 20), random(torch.float16, 2, 3, 4, 5)
    tensors = {
        "weight": base,
        "tied": base,
        "turned": base.t(),
        "rows": base[3:7],
        "column": base[:, 2],
        "part": random(torch.float64, 100)[10:20],
        "channels.last": channels.to(memory_format=torch.channels_last),
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 3),
        "flags": torch.tensor([True, False]),
        "brain": random(torch.bfloat16, 5),
        "expanded": torch.tensor(2.0).expand(3),
    }
    torch.save(tensors, folder / "model.pt", _use_new_zipfile_serialization=zipped)
    return folder / "model.pt", tensors


def pytorch_legacy(folder: Path) -> tuple[Path, Tensors]:
    return pytorch(folder, zipped=False)


def npz(folder: Path, *, save: Callable[..., None] = np.savez) -> tuple[Path, Tensors]:
    arrays = {
        "c": GENERATOR.normal(size=(3, 4)),
        "fortran": np.asfortranarray(GENERATOR.normal(size=(3, 4)).astype("f4")),
        "big": np.arange(5, dtype=">i4"),
        "flags": np.array([True, False]),
        "scalar": np.float32(3),
    }
    save(folder / "model.npz", **arrays)
    with np.load(folder / "model.npz") as found:
        return folder / "model.npz", {name: native(found[name]) for name in arrays}


def npz_compressed(folder: Path) -> tuple[Path, Tensors]:
    return npz(folder, save=np.savez_compressed)


def npy(folder: Path) -> tuple[Path, Tensors]:
    array = GENERATOR.normal(size=(5, 3)).astype("f2")
    np.save(folder / "weights.npy", array)
    return folder / "weights.npy", {"weights": torch.from_numpy(array)}


def keras(folder: Path) -> tuple[Path, Tensors]:
    h5py = pytest.importorskip("h5py")
    arrays = {"layers/dense/vars/0": GENERATOR.normal(size=(4, 5)).astype("f4"), "big": np.arange(3, dtype=">f8")}
    with h5py.File(folder / "model.weights.h5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return folder / "model.weights.h5", {name: native(array) for name, array in arrays.items()}


def onnx(folder: Path) -> tuple[Path, Tensors]:
    library = pytest.importorskip("onnx")
    helper, kinds = library.helper, library.TensorProto
    tensors = [
        library.numpy_helper.from_array(GENERATOR.normal(size=(5, 7)).astype("f4"), "raw"),
        helper.make_tensor("halves", kinds.FLOAT16, [2], [1.5, -2]),
        helper.make_tensor("flags", kinds.BOOL, [3], [True, False, True]),
        helper.make_tensor("numbers", kinds.INT64, [3], [0, -1, 2**40]),
    ]
    outside = library.numpy_helper.from_array(np.arange(40, dtype="i2").reshape(8, 5), "outside")
    (folder / "weights.bin").write_bytes(bytes(64) + outside.raw_data)
    library.external_data_helper.set_external_data(outside, "weights.bin", offset=64, length=80)
    expected = {
        tensor.name: native(library.numpy_helper.to_array(tensor, str(folder))) for tensor in [*tensors, outside]
    }
    outside.ClearField("raw_data")
    graph = helper.make_graph([], "g", [], [], [*tensors, outside])
    (folder / "model.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    return folder / "model.onnx", expected


def gguf(folder: Path) -> tuple[Path, Tensors]:
    library = pytest.importorskip("gguf")
    writer = library.GGUFWriter(folder / "model.gguf", "llama")
    expected = {}
    for kind in ("Q4_0", "Q5_1", "Q8_0"):
        number = library.GGMLQuantizationType[kind]
        raw = library.quants.quantize(GENERATOR.normal(size=(4, 64)).astype("f4"), number)
        writer.add_tensor(kind, raw, raw_dtype=number)
        expected[kind] = torch.from_numpy(library.quants.dequantize(raw, number))
    writer.add_tensor("plain", np.arange(6, dtype="f2").reshape(2, 3))
    expected["plain"] = torch.arange(6, dtype=torch.float16).reshape(2, 3)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / "model.gguf", expected


def native(array: Any) -> Any:
    array = np.ascontiguousarray(array).reshape(np.shape(array))
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))


FILES = [
    compressed_tensors, gptq, bitsandbytes, sparse_bitmask, odd_header, shards, pytorch, pytorch_legacy, npz,
    npz_compressed, npy, keras, onnx, gguf,
]  # fmt: skip


def bits(tensor: Any) -> tuple[str, tuple[int, ...], bytes]:
    flat = tensor.contiguous().reshape(-1)
    raw = flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
    return str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), raw


@pytest.mark.parametrize("make", FILES, ids=lambda make: make.__name__)
def test_the_tensors_are_those_of_the_file(tmp_path: Path, make: Callable[[Path], tuple[Path, Tensors]]) -> None:
    source, expected = make(tmp_path)
    path = pack(source)
    loaded = nnbits.torch.load_file(path)
    assert loaded.keys() == expected.keys()
    assert {name: bits(t) for name, t in loaded.items()} == {name: bits(t) for name, t in expected.items()}
    assert {name: bits(t) for name, t in nnbits.torch.load(path.read_bytes()).items()} == {
        name: bits(t) for name, t in expected.items()
    }
    with nnbits.torch.safe_open(path) as file:
        assert sorted(file.keys()) == sorted(expected)
        for name, tensor in expected.items():
            assert bits(file.get_tensor(name)) == bits(tensor)
            assert file.get_slice(name).get_shape() == list(tensor.shape)
            if tensor.dim() and tensor.shape[0] > 1:
                assert bits(file.get_slice(name)[1:]) == bits(tensor[1:])
                assert bits(file.get_slice(name)[-1]) == bits(tensor[-1])
    arrays = nnbits.numpy.load_file(path)
    assert {name: (a.dtype.name, a.shape, a.tobytes()) for name, a in arrays.items()} == {
        name: bits(t) for name, t in expected.items()
    }


def test_tied_weights_of_a_file_are_one_tensor(tmp_path: Path) -> None:
    path = pack(pytorch(tmp_path)[0])
    loaded = nnbits.torch.load_file(path)
    assert loaded["weight"].data_ptr() == loaded["tied"].data_ptr()
    assert loaded["rows"].data_ptr() != loaded["weight"][3:].data_ptr()  # others are apart
    meta = nnbits.torch.load_file(path, device="meta")
    assert all(meta[name].shape == tensor.shape and meta[name].is_meta for name, tensor in loaded.items())


class Packed(torch.nn.Module):
    """What a quantized linear layer registers."""

    def __init__(self, tensors: Tensors) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, torch.zeros_like(tensor))


@pytest.mark.parametrize("meta", [False, True])
def test_packed_codes_go_into_a_module(tmp_path: Path, meta: bool) -> None:
    source, expected = compressed_tensors(tmp_path)
    net = torch.nn.ModuleDict(
        {b: Packed({n[3:]: t for n, t in expected.items() if n.startswith(b)}) for b in ("b4", "b8")}
    )
    if meta:
        net = net.to("meta")
    assert nnbits.torch.load_model(net, pack(source)) == ([], [])
    assert {name: bits(t) for name, t in net.state_dict().items()} == {name: bits(t) for name, t in expected.items()}


class Counting(FileSource):
    """Counts the bytes that are read."""

    count = 0

    def read_range(self, offset: int, size: int) -> bytearray:
        self.count += size
        return super().read_range(offset, size)


def test_rows_of_packed_codes_and_of_views_are_read_alone(tmp_path: Path) -> None:
    rows = 2**19
    codes = torch.from_numpy(GENERATOR.integers(-(2**31), 2**31, (rows, 8), np.int32))
    source, _ = save(
        tmp_path,
        {"x.weight_packed": codes, "x.weight_scale": torch.ones(rows, 1), "x.weight_shape": torch.tensor([rows, 64])},
    )
    base = torch.from_numpy(GENERATOR.integers(0, 2**63, 2**21, np.int64))
    torch.save({f"part.{i}": base[i * 2**18 :][: 2**18] for i in range(8)}, tmp_path / "views.pt")
    for file, name, expected in (
        (source, "x.weight_packed", codes[1000:1010]),
        (tmp_path / "views.pt", "part.5", base[5 * 2**18 :][1000:1010]),
    ):
        counting = Counting(pack(file))
        with nnbits.torch.safe_open(counting) as opened:  # type: ignore[arg-type]
            before = counting.count
            view = opened.get_slice(name)
            assert torch.equal(view[1000:1010], expected)
            assert 0 < counting.count - before < counting.size / 3

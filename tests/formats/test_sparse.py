"""Sparse tensors of SciPy and PyTorch made from maps equal the dense ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.sparse import SparseMap, decode_map, encode_map, pack_metadata, semi_structured, tile_metadata
from nnbits.codec.types import DTYPES
from nnbits.formats.sparse import to_scipy, to_torch_csr, to_torch_semi_structured

Array = NDArray[Any]


def pruned(shape: tuple[int, ...], dtype: str = "<f4", density: float = 0.1) -> Array:
    random = np.random.default_rng(7)
    return ((random.random(shape) < density) * random.integers(1, 100, shape)).astype(dtype)


def two_of_four(rows: int, columns: int, dtype: str) -> Array:
    random = np.random.default_rng(8)
    order = np.argsort(random.random((rows, columns // 4, 4)), axis=2)
    return np.where(order < 2, random.integers(1, 100, order.shape), 0).reshape(rows, columns).astype(dtype)


def mapped(dense: Array, kind: int | None = None) -> tuple[SparseMap, Array]:
    encoded = encode_map(dense.reshape(-1), dense.shape, kind=kind)
    assert encoded is not None
    return decode_map(encoded.kind, encoded.payload, dense.shape, encoded.value_count), encoded.values


@pytest.mark.parametrize("kind", [1, 2, 3, 5, 6])
@pytest.mark.parametrize("shape", [(30, 64), (8, 6, 5), (50,)])
def test_scipy(kind: int, shape: tuple[int, ...]) -> None:
    pytest.importorskip("scipy")
    dense = pruned(shape)
    matrix = dense.reshape(shape[0] if len(shape) > 1 else 1, -1)
    sparse = to_scipy(*mapped(dense, kind))
    sparse.check_format()
    assert sparse.shape == matrix.shape
    assert np.array_equal(sparse.toarray(), matrix)
    vector = np.arange(matrix.shape[1], dtype=np.float32)
    assert np.allclose(sparse @ vector, matrix @ vector)


def test_scipy_blocks() -> None:
    pytest.importorskip("scipy")
    dense = np.kron(pruned((8, 6)), np.ones((4, 8), np.float32))
    blocks = to_scipy(*mapped(dense), layout="bsr", blocksize=(4, 8))
    assert blocks.blocksize == (4, 8)
    assert blocks.nnz == np.count_nonzero(dense)
    assert np.array_equal(blocks.toarray(), dense)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state:UserWarning")
@pytest.mark.parametrize("name", ["float32", "float64", "float16", "bfloat16", "int8"])
def test_torch_csr(name: str) -> None:
    torch = pytest.importorskip("torch")
    dtype = DTYPES[name]
    dense = torch.from_numpy(pruned((30, 64))).to(getattr(torch, name))
    stored = dense.view(torch.int16).numpy().view(dtype.storage) if name == "bfloat16" else dense.numpy()
    sparse_map, values = mapped(stored)
    sparse = to_torch_csr(sparse_map, values, dtype)
    assert sparse.layout == torch.sparse_csr
    assert sparse.dtype == dense.dtype
    assert torch.equal(sparse.to_dense(), dense)


@pytest.mark.parametrize("dtype", ["<f2", "i1"])
@pytest.mark.parametrize(("rows", "columns"), [(64, 64), (128, 192), (64, 128)])
def test_semi_structured_is_what_torch_makes(dtype: str, rows: int, columns: int) -> None:
    torch = pytest.importorskip("torch")
    from torch.sparse import _semi_structured_conversions as peer

    dense = two_of_four(rows, columns, dtype)
    values, meta = to_torch_semi_structured(*mapped(dense))
    expected_values, expected_meta = peer.sparse_semi_structured_from_dense_cutlass(torch.from_numpy(dense))
    assert torch.equal(values, expected_values)
    assert meta.dtype == expected_meta.dtype
    assert torch.equal(meta, expected_meta)
    assert torch.equal(peer.sparse_semi_structured_to_dense_cutlass(values, meta), torch.from_numpy(dense))


def test_semi_structured_groups_with_fewer() -> None:
    dense = two_of_four(64, 64, "<f2")
    dense[:8] = 0
    dense[8:16, ::2] = 0
    sparse_map, values = mapped(dense, 1)
    halves, places = semi_structured(sparse_map, values)
    assert halves.shape == places.shape == (64, 32)
    assert (places[:, 0::2] < places[:, 1::2]).all()
    again = np.zeros((64, 16, 4), np.float16)
    np.put_along_axis(again, places.reshape(64, 16, 2).astype(np.int64), halves.reshape(64, 16, 2), axis=2)
    assert np.array_equal(again.reshape(64, 64), dense)
    packed = pack_metadata(places)
    assert packed.shape == (64, 8)
    assert packed[5, 3] == sum(int(places[5, 12 + i]) << 2 * i for i in range(4))


def test_what_is_not_semi_structured() -> None:
    for dense in (pruned((64, 64), density=0.9), pruned((64, 62))):
        with pytest.raises(NnbitsError) as error:
            semi_structured(*mapped(dense, 1))
        assert error.value.code == ReasonCode.BAD_OPTION
    _, places = semi_structured(*mapped(two_of_four(16, 64, "<f2")))
    for itemsize in (2, 4):
        with pytest.raises(NnbitsError) as error:
            tile_metadata(places, itemsize)
        assert error.value.code == ReasonCode.BAD_OPTION
    with pytest.raises(NnbitsError) as error:
        to_torch_csr(*mapped(pruned((4, 8), "u1")), DTYPES["complex32"])
    assert error.value.code in (ReasonCode.BAD_TENSOR, ReasonCode.MISSING_PACKAGE)

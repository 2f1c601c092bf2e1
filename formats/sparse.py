"""Sparse tensors of other libraries from maps and packed values, without a dense array in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.sparse import SparseMap, matrix_shape, semi_structured, tile_metadata
from nnbits.codec.types import DTYPES, DType

if TYPE_CHECKING:
    import torch

__all__ = ["to_scipy", "to_torch_csr", "to_torch_semi_structured"]

Array = NDArray[Any]


def _missing(package: str, extra: str) -> NnbitsError:
    return NnbitsError(
        ReasonCode.MISSING_PACKAGE, f"this needs {package}", path=package, hint=f"Install it: pip install {extra}"
    )


def to_scipy(
    sparse_map: SparseMap,
    values: Array,
    layout: Literal["csr", "bsr"] = "csr",
    blocksize: tuple[int, int] | None = None,
) -> Any:
    """A ``scipy.sparse.csr_array`` or ``bsr_array`` of the piece's matrix.

    Args:
        sparse_map: the matrix is the first dimension by the product of the others.
        values: packed, of a dtype that SciPy has. The CSR array shares their memory.
        layout: compressed rows of elements, or of blocks.
        blocksize: rows and columns of a block; None lets SciPy choose.

    Raises:
        NnbitsError: MISSING_PACKAGE without SciPy, BAD_TENSOR for the wrong number of values.
    """
    try:
        from scipy.sparse import csr_array
    except ImportError:
        raise _missing("SciPy", "scipy") from None
    matrix = csr_array(sparse_map.to_csr(values), shape=matrix_shape(sparse_map.shape))
    return matrix if layout == "csr" else matrix.tobsr(blocksize)


def _torch_values(values: Array, dtype: DType | None) -> torch.Tensor:
    try:
        import torch
    except ImportError:
        raise _missing("PyTorch", "torch") from None
    dtype = dtype or DTYPES[values.dtype.name]
    target = getattr(torch, dtype.name, None)
    if target is None or dtype.is_packed or values.dtype.newbyteorder("=") != dtype.storage.newbyteorder("="):
        raise NnbitsError(ReasonCode.BAD_TENSOR, f"no PyTorch tensor of {dtype.name} from {values.dtype}", path="dtype")
    if not values.flags.writeable:
        values = values.copy()
    stored = values if dtype.is_numpy else values.view(f"i{values.itemsize}")
    return torch.from_numpy(stored).view(target)


def to_torch_csr(sparse_map: SparseMap, values: Array, dtype: DType | None = None) -> torch.Tensor:
    """A ``torch.sparse_csr_tensor`` of the piece's matrix.

    Args:
        sparse_map: the matrix is the first dimension by the product of the others.
        values: packed, as stored.
        dtype: element type, if it is not NumPy's (bfloat16).

    Raises:
        NnbitsError: MISSING_PACKAGE without PyTorch, BAD_TENSOR for values or a type that do not fit.
    """
    data = _torch_values(values, dtype)
    import torch

    _, indices, indptr = sparse_map.to_csr(values)
    return torch.sparse_csr_tensor(
        torch.from_numpy(indptr),
        torch.from_numpy(indices),
        data,
        size=matrix_shape(sparse_map.shape),
        check_invariants=False,
    )


def to_torch_semi_structured(
    sparse_map: SparseMap, values: Array, dtype: DType | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Values and metadata of a 2:4 matrix as ``torch.sparse.SparseSemiStructuredTensorCUTLASS`` keeps them.

    Args:
        sparse_map: two elements at most in every four of a row.
        values: packed, as stored, of 1 or 2 bytes each.
        dtype: element type, if it is not NumPy's (bfloat16).

    Returns:
        Values ``[rows, columns / 2]``; metadata, int16 for elements of 2 bytes or int32 for those of 1.

    Raises:
        NnbitsError: MISSING_PACKAGE without PyTorch, BAD_OPTION if the map is not 2:4 or no whole tiles.
    """
    halves, places = semi_structured(sparse_map, np.asarray(values))
    meta = tile_metadata(places, halves.itemsize)
    data = _torch_values(halves, dtype)
    import torch

    return data, torch.from_numpy(meta)

"""PyTorch tensors as tensors of a model, and back, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.types import DTYPES, Array, DType, LazyTensor, TensorInfo

if TYPE_CHECKING:
    import torch

__all__ = ["bytes_of", "empty_bytes", "lazy_tensor", "shared_tensors", "torch_tensor", "torch_type"]

#: PyTorch's names where they differ; its float4 counts pairs.
_OUR_NAMES: Final = {"float4_e2m1fn_x2": "float4_e2m1fn"}
_PAIRED: Final = frozenset({"float4_e2m1fn"})


def _dtype_name(dtype: torch.dtype) -> str:
    name = str(dtype).removeprefix("torch.")
    return _OUR_NAMES.get(name, name)


def lazy_tensor(name: str, tensor: torch.Tensor) -> LazyTensor:
    """Wrap a dense tensor of any device and layout of memory; it is copied to the processor when it is read.

    Raises:
        NnbitsError: BAD_TENSOR if it is sparse, quantized by PyTorch's own quantizer, without data (meta), or of an
            element type that nnbits lacks.
    """
    import torch

    problem = None
    dtype = DTYPES.get(_dtype_name(tensor.dtype))
    if tensor.layout != torch.strided:
        problem = f"has the layout {tensor.layout}"
    elif tensor.is_quantized or dtype is None:
        problem = f"has dtype {tensor.dtype}"
    elif tensor.is_meta:
        problem = "has no data (device meta)"
    if problem is not None or dtype is None:
        raise NnbitsError(
            ReasonCode.BAD_TENSOR,
            f"tensor {name!r} {problem}, which is not stored",
            path=name,
            hint="Convert it to a dense tensor first (to_dense(), int_repr(), ...)",
        )
    shape = tuple(tensor.shape)
    if dtype.name in _PAIRED:
        if not shape:
            raise NnbitsError(ReasonCode.BAD_TENSOR, f"tensor {name!r}: a pair of elements has no shape", path=name)
        shape = (*shape[:-1], 2 * shape[-1])
    elif dtype.is_packed:
        raise NnbitsError(
            ReasonCode.BAD_TENSOR,
            f"tensor {name!r} has dtype {tensor.dtype}, whose data PyTorch does not give",
            path=name,
        )
    info = TensorInfo(name, dtype, shape)

    def read() -> Array:
        plain = tensor.detach().resolve_conj().resolve_neg().contiguous().cpu()
        return bytes_of(plain).view(dtype.storage).reshape(info.stored_shape)

    return LazyTensor(info, read)


def bytes_of(tensor: torch.Tensor) -> Array:
    """The memory of a contiguous tensor on the processor, without a copy."""
    import torch

    if tensor.numel() == 0:
        return np.empty(0, np.uint8)
    array: Array = tensor.reshape(-1).view(torch.uint8).numpy()
    return array


def empty_bytes(size: int) -> Array:
    """New memory of PyTorch.

    NumPy would ask for large pages, which are slow to get in some virtual machines when several threads do.
    """
    import torch

    array: Array = torch.empty(size, dtype=torch.uint8).numpy()
    return array


def torch_type(info: TensorInfo) -> tuple[torch.dtype, tuple[int, ...]]:
    """Element type and shape of such a tensor in PyTorch.

    Raises:
        NnbitsError: UNSUPPORTED_FEATURE if this version of PyTorch has no such element type.
    """
    dtype = _torch_dtype(info.dtype)
    if dtype is None:
        raise NnbitsError(
            ReasonCode.UNSUPPORTED_FEATURE,
            f"tensor {info.name!r} is {info.dtype.name}, which this version of PyTorch cannot hold",
            path=info.name,
            hint="Update PyTorch, or read it with nnbits.numpy",
        )
    shape = info.shape
    if info.dtype.name in _PAIRED:
        if not shape or shape[-1] % 2:
            raise NnbitsError(
                ReasonCode.UNSUPPORTED_FEATURE,
                f"tensor {info.name!r} has an odd last dimension, PyTorch holds pairs of {info.dtype.name}",
                path=info.name,
            )
        shape = (*shape[:-1], shape[-1] // 2)
    return dtype, shape


def torch_tensor(info: TensorInfo, stored: Array) -> torch.Tensor:
    """The tensor that shares memory with ``stored``, the elements or their bytes, to which nobody else writes.

    Raises:
        NnbitsError: as :func:`torch_type`.
    """
    import torch

    dtype, shape = torch_type(info)
    if info.size == 0:
        return torch.empty(shape, dtype=dtype)
    flat = np.ascontiguousarray(stored).reshape(-1)
    if not flat.flags.writeable:
        flat = flat.copy()
    return torch.from_numpy(flat.view(np.uint8)).view(dtype).reshape(shape)


def _torch_dtype(dtype: DType) -> torch.dtype | None:
    import torch

    name = next((theirs for theirs, ours in _OUR_NAMES.items() if ours == dtype.name), dtype.name)
    if dtype.is_packed and dtype.name not in _PAIRED:
        return None
    found = getattr(torch, name, None)
    return found if isinstance(found, torch.dtype) else None


def shared_tensors(tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Names of tensors that are the same memory, seen in the same way, as an earlier one, with that one's name."""
    first: dict[Any, str] = {}
    shared: dict[str, str] = {}
    for name, tensor in tensors.items():
        if tensor.is_meta or tensor.numel() == 0 or not _has_storage(tensor):
            continue
        key = (
            str(tensor.device),
            tensor.data_ptr(),
            tuple(tensor.shape),
            tensor.stride(),
            tensor.dtype,
            tensor.is_conj(),
            tensor.is_neg(),
        )
        if key in first:
            shared[name] = first[key]
        else:
            first[key] = name
    return shared


def _has_storage(tensor: torch.Tensor) -> bool:
    import torch

    return bool(tensor.layout == torch.strided)

"""What updates start from: the model whose bits they change, and the digest that names it whatever it was read from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cached_property
from typing import Final

import numpy as np

from .errors import NnbitsError, ReasonCode
from .types import Array, LazyTensor, Model, TensorInfo

__all__ = ["Base", "digest_text", "model_digest"]

_PREFIX: Final = "nnbits-sha256:"


def digest_text(digest: str) -> str:
    """A digest of :func:`model_digest` as ``base_model_id`` has it."""
    return _PREFIX + digest


def model_digest(tensors: Iterable[tuple[TensorInfo, Array]]) -> str:
    """SHA-256 over names, dtypes, shapes and little-endian elements in the order of names; hexadecimal."""
    total = hashlib.sha256()
    for info, stored in sorted(tensors, key=lambda item: item[0].name):
        _add(total, info, stored)
    return total.hexdigest()


def _add(total: hashlib._Hash, info: TensorInfo, stored: Array) -> None:
    head = json.dumps([info.name, info.dtype.name, list(info.shape)], ensure_ascii=False, separators=(",", ":"))
    total.update(head.encode() + b"\n")
    total.update(np.ascontiguousarray(stored).reshape(-1).view(np.uint8).data)


class Base:
    """The model that an update changes.

    Args:
        model: its tensors are read when they are needed; all of them once for the digest.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.tensors: dict[str, LazyTensor] = {tensor.info.name: tensor for tensor in model}

    @cached_property
    def digest(self) -> bytes:
        """That of :func:`model_digest`, 32 bytes; one tensor is in memory at a time."""
        total = hashlib.sha256()
        for name in sorted(self.tensors):
            _add(total, self.tensors[name].info, self.tensors[name].read())
        return total.digest()

    def read_range(self, info: TensorInfo, first: int, count: int) -> Array:
        """Elements of a tensor, as of :class:`~nnbits.codec.types.LazyTensor`.

        Raises:
            NnbitsError: BASE_MISSING if the model has no such tensor, SHAPE_MISMATCH if it has another type or shape.
        """
        tensor = self.tensors.get(info.name)
        if tensor is None:
            raise NnbitsError(
                ReasonCode.BASE_MISSING, f"the base has no tensor {info.name!r} to update", path=info.name
            )
        if tensor.info != info:
            raise NnbitsError(
                ReasonCode.SHAPE_MISMATCH,
                f"the update of tensor {info.name!r} is {info.dtype.name} {info.shape}, "
                f"the base {tensor.info.dtype.name} {tensor.info.shape}",
                path=info.name,
            )
        if tensor.read_range is not None:
            return tensor.read_range(first, count).reshape(-1)
        stored = tensor.read().reshape(-1)
        bits = info.dtype.bits if info.dtype.is_packed else 8
        return stored[first * bits // 8 : -(-(first + count) * bits // 8)]

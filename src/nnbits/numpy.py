"""``safetensors.numpy`` for ``.nnc`` files: the same calls, smaller files.

Element types that NumPy lacks come back as those of ml_dtypes (extra ``dtypes``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .codec.api import NncFile, encode, open_file
from .codec.api import save as _save
from .codec.errors import NnbitsError, ReasonCode
from .codec.types import Array, Model, from_numpy, to_numpy
from .formats._tensor_file import (
    Contents,
    OpenFile,
    OpenSlice,
    StrPath,
    read_part,
    with_aliases,
)

__all__ = ["load", "load_file", "safe_open", "save", "save_file"]


def _model(tensors: Mapping[str, Array], metadata: Mapping[str, str] | None) -> Model:
    for name, array in tensors.items():
        if not isinstance(name, str) or not isinstance(array, np.ndarray | np.generic):
            raise NnbitsError(
                ReasonCode.BAD_TENSOR, f"expected arrays by name, got {name!r}: {type(array).__name__}", path=str(name)
            )
    return Model(
        [from_numpy(name, np.asarray(array)) for name, array in tensors.items()],
        with_aliases(metadata, {}),
        "safetensors",
    )


def save(tensor_dict: Mapping[str, Array], metadata: Mapping[str, str] | None = None, **options: Any) -> bytes:
    """Encode arrays to a stream in memory.

    Args:
        tensor_dict: arrays by name, of any element type of nnbits, also those of ml_dtypes.
        metadata: strings to carry along.
        options: quality and others, see :func:`nnbits.encode`.

    Raises:
        NnbitsError: BAD_TENSOR, BAD_OPTION.
    """
    return encode(_model(tensor_dict, metadata), **options)


def save_file(
    tensor_dict: Mapping[str, Array], filename: StrPath, metadata: Mapping[str, str] | None = None, **options: Any
) -> None:
    """Like :func:`save`, to a file that appears only when it is complete; an existing file is replaced.

    Raises:
        NnbitsError: as :func:`save`, and FILE_IO.
    """
    _save(_model(tensor_dict, metadata), filename, **options)


def load(data: bytes) -> dict[str, Array]:
    """Decode a stream in memory.

    Raises:
        NnbitsError: codes 1xx..4xx with the unit and its byte offset; MISSING_PACKAGE.
    """
    with open_file(data) as file:
        return _load(file)


def load_file(filename: StrPath) -> dict[str, Array]:
    """Decode a file.

    Raises:
        NnbitsError: as :func:`load`, and FILE_NOT_FOUND, FILE_IO.
    """
    with open_file(filename) as file:
        return _load(file)


def _load(file: NncFile) -> dict[str, Array]:
    contents = Contents(file)
    found = contents.read_all(lambda size: np.empty(size, np.uint8))
    arrays = {}
    for name, item in contents.shown.items():
        info = item.tensor.info
        arrays[name] = to_numpy(info, found[name].view(info.dtype.storage).reshape(info.stored_shape))
    return arrays | {name: arrays[target] for name, target in contents.aliases.items()}


class safe_open(OpenFile):
    """An open file whose arrays, or rows of them, are decoded when asked for. Thread-safe.

    Raises:
        NnbitsError: BAD_OPTION for another framework than ``np``; what :func:`nnbits.open` raises.
    """

    def __init__(self, filename: StrPath, framework: str = "np") -> None:
        if framework not in ("np", "numpy"):
            raise NnbitsError(
                ReasonCode.BAD_OPTION,
                f"framework {framework!r} is not known here",
                path="framework",
                hint="Use 'np', or nnbits.torch.safe_open for PyTorch tensors",
            )
        super().__init__(filename)

    def get_tensor(self, name: str) -> Array:
        """Decode one tensor.

        Raises:
            NnbitsError: NO_SUCH_TENSOR, and what decoding raises.
        """
        source = self._lazy(name)
        return to_numpy(source.info, source.read())

    def get_tensors(self, names: list[str]) -> dict[str, Array]:
        """Decode some tensors."""
        return {name: self.get_tensor(name) for name in names}

    def get_slice(self, name: str) -> ArraySlice:
        """A tensor to be indexed; of a tensor in parts only the parts are decoded that hold its rows.

        Raises:
            NnbitsError: NO_SUCH_TENSOR.
        """
        return ArraySlice(self._lazy(name))


class ArraySlice(OpenSlice):
    """A tensor of a file, to be indexed."""

    def __getitem__(self, index: Any) -> Any:
        info, stored, left = read_part(self._tensor, index)
        return to_numpy(info, stored)[left]

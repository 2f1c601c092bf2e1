"""What ``nnbits.torch`` and ``nnbits.numpy`` share: names that are one tensor, slices, reading everything at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from math import prod
from os import PathLike
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from nnbits.codec.api import NncFile, open_file
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.parallel import default_threads, largest_first_map
from nnbits.codec.types import Array, LazyTensor, Model, TensorInfo

__all__ = [
    "ALIASES",
    "OpenFile",
    "OpenSlice",
    "StrPath",
    "aliases_of",
    "public_metadata",
    "read_all",
    "read_part",
    "tensors_by_name",
    "with_aliases",
]

StrPath = str | PathLike[str]

#: Key of the string metadata that names tensors stored once under another name: a JSON object.
ALIASES: Final = "nnbits.aliases"

_Value = TypeVar("_Value")


def with_aliases(metadata: Mapping[str, str] | None, aliases: Mapping[str, str]) -> dict[str, str]:
    """Metadata to write.

    Raises:
        NnbitsError: BAD_OPTION if the metadata are not strings, or use the key themselves.
    """
    given = dict(metadata or {})
    for key, value in given.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise NnbitsError(
                ReasonCode.BAD_OPTION, f"metadata must be strings, not {key!r}: {value!r}", path="metadata"
            )
    if ALIASES in given:
        raise NnbitsError(ReasonCode.BAD_OPTION, f"the metadata key {ALIASES!r} is used by nnbits", path="metadata")
    if aliases:
        given[ALIASES] = json.dumps(dict(aliases), ensure_ascii=False, separators=(",", ":"))
    return given


def aliases_of(file: NncFile) -> dict[str, str]:
    """Names that stand for another tensor of the file.

    Raises:
        NnbitsError: METADATA if they name tensors that are not there, or are not what is written.
    """
    text = file.metadata.get(ALIASES)
    if text is None:
        return {}
    try:
        aliases = json.loads(text)
    except (ValueError, RecursionError):
        aliases = None
    good = isinstance(aliases, dict) and all(
        isinstance(target, str) and target in file and name not in file for name, target in aliases.items()
    )
    if not good:
        raise NnbitsError(ReasonCode.METADATA, "the names of shared tensors do not fit the tensors", path=ALIASES)
    return dict(aliases or {})


def public_metadata(file: NncFile) -> dict[str, str]:
    """The metadata that the user gave."""
    return {key: value for key, value in file.metadata.items() if key != ALIASES}


def tensors_by_name(model: Model) -> dict[str, LazyTensor]:
    """The tensors of a model by name."""
    return {tensor.info.name: tensor for tensor in model.tensors}


class OpenFile:
    """What an open file offers in either module: names, metadata, and its tensors before they are converted."""

    def __init__(self, filename: StrPath) -> None:
        self._file = open_file(filename)
        try:
            self._tensors = tensors_by_name(self._file.model())
            self._aliases = aliases_of(self._file)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def keys(self) -> list[str]:
        """All names, in the order of the file."""
        return [*self._tensors, *self._aliases]

    def offset_keys(self) -> list[str]:
        """The same: the names in the order of the file."""
        return self.keys()

    def metadata(self) -> dict[str, str] | None:
        """String metadata, None if there is none."""
        return public_metadata(self._file) or None

    def _lazy(self, name: str) -> LazyTensor:
        found = self._tensors.get(self._aliases.get(name, name))
        if found is None:
            raise NnbitsError(ReasonCode.NO_SUCH_TENSOR, f"the file has no tensor {name!r}", path=name)
        return found


class OpenSlice:
    """A tensor of a file, to be indexed."""

    def __init__(self, tensor: LazyTensor) -> None:
        self._tensor = tensor

    def get_shape(self) -> list[int]:
        """Dimensions."""
        return list(self._tensor.info.shape)

    def get_dtype(self) -> str:
        """Element type, by its name in nnbits (``float32``)."""
        return self._tensor.info.dtype.name


def read_all(model: Model, convert: Callable[[TensorInfo, Array], _Value]) -> dict[str, _Value]:
    """Every tensor, decoded on all processors, in the order of the model."""
    values = largest_first_map(
        lambda tensor: convert(tensor.info, tensor.read()),
        list(model.tensors),
        threads=default_threads(),
        size=lambda tensor: tensor.info.nbytes,
    )
    return {tensor.info.name: value for tensor, value in zip(model.tensors, values, strict=True)}


def read_part(tensor: LazyTensor, index: Any) -> tuple[TensorInfo, Array, Any]:
    """The rows that an index touches, and the index that is left to be applied to them.

    Only a first index that is an integer or a slice with step 1 saves anything; else the whole tensor is read.

    Returns:
        Name, element type and shape of what was read; the stored array of that shape; the remaining index.
    """
    info = tensor.info
    parts = index if isinstance(index, tuple) else (index,)
    if tensor.read_range is None or not parts or not info.shape or info.dtype.is_packed:
        return info, tensor.read(), parts
    rows, width = info.shape[0], prod(info.shape[1:])
    first = parts[0]
    if isinstance(first, int) and not isinstance(first, bool) and -rows <= first < rows:
        start, stop, left = first % rows, first % rows + 1, (0, *parts[1:])
    elif isinstance(first, slice) and first.step in (None, 1):
        start, stop, _ = first.indices(rows)
        stop = max(start, stop)
        left = (slice(None), *parts[1:])
    else:
        return info, tensor.read(), parts
    shape = (stop - start, *info.shape[1:])
    stored = tensor.read_range(start * width, (stop - start) * width).reshape(shape)
    return TensorInfo(info.name, info.dtype, shape), stored, left

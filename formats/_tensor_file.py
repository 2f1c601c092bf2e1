"""What ``nnbits.torch`` and ``nnbits.numpy`` share: the tensors of a stream as its source file has them, names that are
one tensor, slices, reading everything at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from math import prod
from os import PathLike
from types import TracebackType
from typing import Any, Final, Self

import numpy as np

from nnbits.codec.api import NncFile, open_file
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.parallel import default_threads, largest_first_map
from nnbits.codec.types import Array, LazyTensor, TensorInfo

from ._input import Bytes
from ._plain import Shown, shown

__all__ = [
    "ALIASES",
    "Contents",
    "OpenFile",
    "OpenSlice",
    "StrPath",
    "read_part",
    "with_aliases",
]

StrPath = str | PathLike[str]

#: Key of the string metadata that names tensors stored once under another name: a JSON object.
ALIASES: Final = "nnbits.aliases"


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


class Contents:
    """The tensors of an open stream, with the names, element types and shapes that the source file's library shows.

    Attributes:
        file: the stream.
        shown: tensors by name.
        aliases: names that stand for another of them.

    Raises:
        NnbitsError: METADATA if what the stream says about its source does not fit its tensors.
    """

    def __init__(self, file: NncFile) -> None:
        self.file = file
        self.shown: dict[str, Shown] = {item.tensor.info.name: item for item in shown(file.model())}
        self.aliases = self._aliases()

    def _aliases(self) -> dict[str, str]:
        text = self.file.metadata.get(ALIASES)
        if text is None:
            return {}
        try:
            aliases = json.loads(text)
        except (ValueError, RecursionError):
            aliases = None
        good = isinstance(aliases, dict) and all(
            isinstance(target, str) and target in self.shown and name not in self.shown
            for name, target in aliases.items()
        )
        if not good:
            raise NnbitsError(ReasonCode.METADATA, "the names of shared tensors do not fit the tensors", path=ALIASES)
        return dict(aliases or {})

    @property
    def names(self) -> list[str]:
        """All names, in the order of the file."""
        return [*self.shown, *self.aliases]

    @property
    def metadata(self) -> dict[str, str]:
        """The string metadata that the user gave."""
        return {key: value for key, value in self.file.metadata.items() if key != ALIASES}

    def find(self, name: str) -> Shown:
        """A tensor by either of its names.

        Raises:
            NnbitsError: NO_SUCH_TENSOR.
        """
        found = self.shown.get(self.aliases.get(name, name))
        if found is None:
            raise NnbitsError(ReasonCode.NO_SUCH_TENSOR, f"the file has no tensor {name!r}", path=name)
        return found

    def key(self, name: str) -> str:
        """What is the same for names of tensors with the same bytes."""
        found = self.find(name)
        return f"stored {found.stored}" if found.stored is not None else f"made {found.tensor.info.name}"

    def is_direct(self, name: str) -> bool:
        """Whether :meth:`read_into` needs no other memory for the tensor."""
        return self.file.extended is not None and self.find(name).stored is not None

    def read_into(self, targets: Mapping[str, Bytes]) -> None:
        """Decode tensors on all processors.

        Args:
            targets: by name, no two with the same :meth:`key`: contiguous memory for the stored elements.

        Raises:
            NnbitsError: NO_SUCH_TENSOR, and what decoding raises.
        """
        direct: dict[str, Array] = {}
        others: list[str] = []
        for name, target in targets.items():
            stored = self.find(name).stored
            if self.file.extended is None or stored is None:
                others.append(name)
            else:
                direct[stored] = target.view(self.file.info(stored).dtype.storage)
        if self.file.extended is not None and direct:
            self.file.extended.read_into(direct, threads=default_threads())

        def copy(name: str) -> None:
            targets[name][:] = _bytes(self.find(name).tensor.read())

        largest_first_map(copy, others, threads=default_threads(), size=lambda name: targets[name].size)

    def read_all(self, empty: Callable[[int], Bytes]) -> dict[str, Bytes]:
        """The stored elements of every tensor, decoded on all processors; those with the same bytes are one array.

        Args:
            empty: makes an array of so many bytes.
        """
        arrays: dict[str, Bytes] = {}
        made: dict[str, LazyTensor] = {}
        targets: dict[str, Bytes] = {}
        for name, item in self.shown.items():
            key = self.key(name)
            if key in arrays or key in made:
                continue
            if self.is_direct(name):
                arrays[key] = targets[name] = empty(item.tensor.info.nbytes)
            else:
                made[key] = item.tensor
        self.read_into(targets)
        results = largest_first_map(
            _own_bytes, list(made.values()), threads=default_threads(), size=lambda tensor: tensor.info.nbytes
        )
        arrays.update(zip(made, results, strict=True))
        return {name: arrays[self.key(name)] for name in self.shown}


def _bytes(array: Array) -> Bytes:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _own_bytes(tensor: LazyTensor) -> Bytes:
    found = _bytes(tensor.read())
    return found if found.flags.writeable else found.copy()


class OpenFile:
    """What an open file offers in either module: names, metadata, and its tensors before they are converted."""

    def __init__(self, filename: StrPath) -> None:
        self._file = open_file(filename)
        try:
            self._contents = Contents(self._file)
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
        return self._contents.names

    def offset_keys(self) -> list[str]:
        """The same: the names in the order of the file."""
        return self.keys()

    def metadata(self) -> dict[str, str] | None:
        """String metadata, None if there is none."""
        return self._contents.metadata or None

    def _lazy(self, name: str) -> LazyTensor:
        return self._contents.find(name).tensor


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

"""Open streams of both profiles as mappings of tensor names to arrays."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final

from .base import Base, digest_text
from .decode import Stream, UnitRecord
from .describe import StoredTensor, describe
from .errors import NnbitsError, ReasonCode
from .exact_update import updated_model
from .head import parse_head
from .limits import DEFAULT_LIMITS, Limits
from .parallel import default_threads
from .plan import Profile
from .ranges import FileSource, RangeSource, open_source
from .reader import CUT_HINT, ExtendedStream, row_range
from .sparse import SparseMap
from .types import Array, Attachment, LazyTensor, Model, TensorInfo, from_numpy, shaped, to_numpy

__all__ = ["BaseTarget", "NncFile", "StreamTarget", "TensorSlice", "open_file", "open_standard"]

#: What a stream can be read from: a path, a URL, bytes, a file, or an object with range reads.
StreamTarget = str | PathLike[str] | bytes | bytearray | memoryview | BinaryIO | RangeSource
#: What an update can start from: a stream, arrays by name, or a model.
BaseTarget = StreamTarget | Mapping[str, Array] | Model


_WORTH_THREADS: Final = 1 << 23  # bytes of a tensor from which on several threads decode it


def open_standard(data: memoryview, *, limits: Limits = DEFAULT_LIMITS) -> Stream:
    """A stream of the standard profile, complete.

    Raises:
        NnbitsError: codes 1xx..4xx; TRUNCATED also for the beginning of an extended stream.
    """
    if parse_head(data) is not None:
        raise NnbitsError(
            ReasonCode.TRUNCATED,
            "the stream does not end in an end unit",
            path="end",
            offset=len(data),
            hint=CUT_HINT,
        )
    stream = Stream(data, limits=limits)
    stream.check_complete()
    return stream


class TensorSlice:
    """Rows of a tensor, decoded when asked for: ``file.get_slice(name)[10:20]``.

    Attributes:
        info: of the whole tensor.
    """

    def __init__(self, file: NncFile, name: str) -> None:
        self._file = file
        self.info = file.info(name)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole tensor."""
        return self.info.shape

    def __len__(self) -> int:
        return self.info.shape[0] if self.info.shape else 0

    def __getitem__(self, key: Any) -> Array:
        """Rows by an index or a slice along the first dimension; what follows in a tuple is left to NumPy."""
        first, rest = (key[0], key[1:]) if isinstance(key, tuple) and key else (key, ())
        if isinstance(first, slice) and self.info.shape:
            start, stop, step = first.indices(self.info.shape[0])
            if step == 1:
                rows = self._file.read_rows(self.info.name, start, max(start, stop))
                selected: Array = rows[(slice(None), *rest)]
                return selected
        elif isinstance(first, int) and self.info.shape:
            row = range(self.info.shape[0])[first]
            one: Array = self._file.read_rows(self.info.name, row, row + 1)[(0, *rest)]
            return one
        other: Array = self._file[self.info.name][key]
        return other


class NncFile(Mapping[str, Array]):
    """An open ``.nnc`` stream: a mapping of tensor names to arrays that are decoded when asked for.

    The tensors are the model's: weights that travel as factors or with a scaling vector are put together, and norms
    that were folded are there. :attr:`tensors` lists what the stream holds.

    Reading is thread-safe; close it, or use it in a ``with`` statement.

    Attributes:
        extended: the stream if it is of the extended profile, else None.
        standard: the stream if it is of the standard profile, else None.
    """

    def __init__(
        self, target: StreamTarget, *, limits: Limits = DEFAULT_LIMITS, base: BaseTarget | None = None
    ) -> None:
        self.standard: Stream | None = None
        self._base: NncFile | None = None
        self._map: mmap.mmap | None = None
        self._view = memoryview(b"")
        self.source = open_source(target)
        self.name = str(getattr(self.source, "name", "<stream>"))
        try:
            self.extended = ExtendedStream.open(self.source, limits=limits)
            if self.extended is None:
                self._map, self._view = _contents(self.source)
                self.standard = open_standard(self._view, limits=limits)
            self._updated = None if base is None else self._update(base, limits)
        except BaseException:
            # An error's traceback may hold slices of the map, so it is then left to the garbage collector to close it.
            _close(self.source)
            if self._base is not None:
                self._base.close()
            raise

    def _update(self, base: BaseTarget, limits: Limits) -> Model:
        if self.extended is None:
            raise NnbitsError(
                ReasonCode.UNSUPPORTED_FEATURE,
                "updates of the standard profile depend on those before them",
                path="base",
                hint="Apply them with nnbits apply or nnbits.UpdateChain",
            )
        if isinstance(base, Model):
            model = base
        elif isinstance(base, NncFile):
            model = base.model()
        elif isinstance(base, Mapping):
            model = Model([from_numpy(name, array) for name, array in base.items()])
        else:
            self._base = NncFile(base, limits=limits)
            model = self._base.model()
        self.extended.base = Base(model)
        return updated_model(self.extended)

    @property
    def path(self) -> Path:
        """The path, if it was opened by one."""
        return Path(self.name)

    def __enter__(self) -> NncFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the file; arrays already decoded stay valid."""
        with suppress(BufferError):
            self._view.release()
        if self._map is not None:
            # Slices may live on in another thread or in the traceback of an error: then the collector closes the map.
            with suppress(BufferError):
                self._map.close()
        _close(self.source)
        if self._base is not None:
            self._base.close()

    @property
    def stream(self) -> Stream:
        """The stream, which has to be of the standard profile.

        Raises:
            NnbitsError: UNSUPPORTED_FEATURE.
        """
        if self.standard is None:
            raise NnbitsError(ReasonCode.UNSUPPORTED_FEATURE, "the stream is not of the standard profile")
        return self.standard

    @property
    def profile(self) -> Profile:
        """``standard`` or ``extended``."""
        return "standard" if self.extended is None else "extended"

    @property
    def digest(self) -> str | None:
        """The model digest, hexadecimal; None in the standard profile."""
        return None if self.extended is None else self.extended.digest.hex()

    @cached_property
    def _tensors(self) -> dict[str, LazyTensor]:
        return {tensor.info.name: tensor for tensor in self.model()}

    @cached_property
    def _names(self) -> Mapping[str, Any]:
        if self._updated is not None:
            return self._tensors
        if self.extended is not None:
            return self.extended.index.tensor_of
        return self._tensors if self._is_composed else self.stream.tensors

    @property
    def _is_composed(self) -> bool:
        return self.standard is not None and self.standard.needs_composition and not self.standard.is_update

    def __getitem__(self, name: str) -> Array:
        if self.extended is not None and self._updated is None:
            info = self.info(name)
            threads = default_threads() if info.nbytes >= _WORTH_THREADS else 1
            return to_numpy(info, self.extended.read(name, threads=threads))
        info = self.info(name)
        return to_numpy(info, self._tensors[name].read())

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def info(self, name: str) -> TensorInfo:
        """Name, dtype and shape without decoding.

        Raises:
            NnbitsError: NO_SUCH_TENSOR.
        """
        if self.extended is not None and self._updated is None:
            return self.extended.tensors[self.extended.tensor(name)]
        if name not in self:
            raise NnbitsError(ReasonCode.NO_SUCH_TENSOR, f"the stream has no tensor {name!r}", path=name)
        return self._tensors[name].info

    def read_rows(self, name: str, start: int, stop: int) -> Array:
        """Rows ``start`` to ``stop`` (along the first dimension) without decoding the access units of other rows.

        Raises:
            NnbitsError: NO_SUCH_TENSOR; BAD_OPTION for rows that do not exist or a scalar; as for reading a tensor.
        """
        info = self.info(name)
        if not info.shape or not 0 <= start <= stop <= info.shape[0]:
            raise NnbitsError(
                ReasonCode.BAD_OPTION, f"rows {start} to {stop} of {name!r} of shape {info.shape}", path=name
            )
        part = TensorInfo(name, info.dtype, (stop - start, *info.shape[1:]))
        first, count = row_range(info, start, stop)
        bits = first * info.dtype.bits if info.dtype.is_packed else 0
        ends_whole = not (first + count) * info.dtype.bits % 8 or first + count == info.size
        whole_bytes = not info.dtype.is_packed or (not bits % 8 and ends_whole)
        if self.extended is not None and whole_bytes:
            read_range = self._tensors[name].read_range if self._updated else partial(self.extended.read_range, name)
            if read_range is not None:
                return to_numpy(part, shaped(name, part.stored_shape, read_range(first, count)))
        return self[name][start:stop]

    def read_sparse(self, name: str, *, threads: int = 1) -> tuple[SparseMap, Array]:
        """Which elements of a tensor exist, and their values, without making it dense (extended profile).

        Returns:
            ``(map, values)``: ``map.to_csr(values)``, ``map.bitmask()``, ``map.mask()``, ``map.expand(values)``.

        Raises:
            NnbitsError: NO_SUCH_TENSOR; UNSUPPORTED_FEATURE in the standard profile and for packed types; as for
                reading a tensor.
        """
        if self.extended is None:
            raise NnbitsError(
                ReasonCode.UNSUPPORTED_FEATURE, "streams of the standard profile have no sparse maps", path=name
            )
        if self._updated is not None:
            raise NnbitsError(ReasonCode.UNSUPPORTED_FEATURE, "a model under an update has no sparse maps", path=name)
        return self.extended.read_sparse(name, threads=threads)

    def get_slice(self, name: str) -> TensorSlice:
        """Rows of a tensor on request.

        Raises:
            NnbitsError: NO_SUCH_TENSOR.
        """
        return TensorSlice(self, name)

    @property
    def general_profile_idc(self) -> int:
        """Of the start unit: 0 for edition 1, 1 for edition 2."""
        return self.stream.general_profile_idc if self.extended is None else self.extended.head.general_profile_idc

    @property
    def metadata(self) -> Mapping[str, str]:
        """The source file's string metadata."""
        return self.stream.source.metadata if self.extended is None else self.extended.head.metadata.metadata

    @property
    def source_format(self) -> str | None:
        """Name of the adapter that read the source file, or None."""
        return self.stream.source.format if self.extended is None else self.extended.head.metadata.format

    @property
    def attachments(self) -> Sequence[Attachment]:
        """Files that travel along; none in the standard profile."""
        return () if self.extended is None else self.extended.attachments

    @property
    def size(self) -> int:
        """Bytes of the stream."""
        return int(self.source.size)

    @property
    def is_update(self) -> bool:
        """Whether the stream changes another model: it says so, or a unit names a parent. Not if its base is given."""
        if self.extended is not None:
            return self.extended.update is not None and self._updated is None
        return self.standard is not None and (self.standard.is_update or self.standard.source.update is not None)

    @property
    def update(self) -> str | None:
        """What an update carries: ``difference``, ``full``, or None if it does not say or is a model.

        Those of the extended profile are ``exact``.
        """
        if self.extended is not None:
            return None if self.extended.update is None else "exact"
        return None if self.standard is None else self.standard.source.update

    @property
    def base_model_id(self) -> str | None:
        """What the stream calls the model that it updates, or None."""
        if self.extended is not None:
            return None if self.extended.update is None else digest_text(self.extended.update.base)
        return None if self.standard is None else self.standard.mps.base_model_id

    @property
    def removed(self) -> tuple[str, ...]:
        """Names of the tensors that an update takes out of its base."""
        if self.extended is not None:
            return () if self.extended.update is None else tuple(self.extended.update.removed)
        return () if self.standard is None else self.standard.source.removed

    @cached_property
    def _described(self) -> tuple[tuple[UnitRecord, ...], Mapping[str, StoredTensor]]:
        return describe(self.stream if self.extended is None else self.extended)

    @property
    def units(self) -> tuple[UnitRecord, ...]:
        """All units in stream order."""
        return self._described[0]

    @property
    def tensors(self) -> Mapping[str, StoredTensor]:
        """How each tensor is stored, with factors and scaling vectors under names of their own in standard streams."""
        return self._described[1]

    def model(self) -> Model:
        """The stream (with its base, if that is given) as a model of lazy tensors, for an adapter's ``write``."""
        if self._updated is not None:
            return self._updated
        if self.extended is not None:
            return self.extended.model()
        if self._is_composed:
            composed = self.stream.composed()
            return Model(list(composed), self.metadata, self.source_format)
        return self.stream.model()


def _contents(source: Any) -> tuple[mmap.mmap | None, memoryview]:
    """The whole source: a file mapped into memory, anything else read."""
    if isinstance(source, FileSource) and source.size:
        try:
            with Path(source.name).open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise NnbitsError(ReasonCode.FILE_IO, f"cannot read {source.name}: {error}", path=source.name) from error
        return mapped, memoryview(mapped)
    return None, memoryview(source.read_range(0, source.size))


def _close(source: Any) -> None:
    if hasattr(source, "close"):
        source.close()


def open_file(target: StreamTarget, *, limits: Limits = DEFAULT_LIMITS, base: BaseTarget | None = None) -> NncFile:
    """Open a stream of either profile. Exported as ``nnbits.open``.

    Of an extended stream the end and the index are read, of a standard one all headers.

    Args:
        target: a path; a URL of fsspec; bytes; a file that can seek; or an object with ``size`` and
            ``read_range(offset, size)``.
        limits: bounds on what decoding may cost.
        base: for an exact update (extended profile): the model that it changes; a stream, arrays by name, or a model.
            The file then has the tensors that the update leads to. The base is read once as a whole, for its digest.

    Raises:
        NnbitsError: FILE_NOT_FOUND, FILE_IO, and codes 1xx..4xx with the unit and its byte offset; BASE_MISMATCH for
            another base than the update was made for, BAD_OPTION for a base of a stream that is no update.
    """
    return NncFile(target, limits=limits, base=base)

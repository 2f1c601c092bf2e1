"""Files written again byte for byte: what is not tensor travels as a template with holes that the tensors fill.

A model that was read through :func:`model_of` has the attachments ``nnbits:template`` (the bytes of its files outside
the tensors, in parts) and ``nnbits:layout`` (JSON: where the holes are, how tensors fill them, and the SHA-256 of the
files). Holes take the tensors of the model in their order. ``Model.source`` has ``template``: 1; whoever changes
values (a lossy plan) removes the key ``exact`` there, so that the digests are not checked.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final, NamedTuple, NoReturn

import numpy as np

from nnbits.codec.atomic import atomic_output
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.parallel import ordered_map
from nnbits.codec.types import DTYPES, Array, Attachment, DType, LazyTensor, Model, TensorInfo

from . import _fills
from ._blocks import plane_count
from ._fills import Fill
from ._input import InputFile
from .base import quote

__all__ = [
    "Check",
    "FilePart",
    "Layout",
    "LayoutFile",
    "Names",
    "Span",
    "View",
    "are_booleans",
    "c_strides",
    "check_count",
    "is_representable",
    "is_restorable",
    "layout_of",
    "model_of",
    "restore",
    "safe_relative",
    "span",
    "unusable",
]

TEMPLATE: Final = "nnbits:template"
LAYOUT: Final = "nnbits:layout"

_PART_BYTES: Final = 2**24  # of the template, in one attachment
_COPY_BYTES: Final = 2**20
_WINDOW_BYTES: Final = 2**26  # of tensors fetched ahead
_OVERHEAD_BYTES: Final = 4096
_NAME_BYTES: Final = 2**15
_MAX_SIZE: Final = 2**63
_NO_DIGEST: Final = "0" * 64
_NONE: Final = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Span:
    """Bytes of a file that tensors fill.

    Attributes:
        offset, size: in the file.
        tensors: what the bytes hold, at least one.
        fill: how; see :mod:`._fills`.
    """

    offset: int
    size: int
    tensors: tuple[TensorInfo, ...]
    fill: Fill = None


@dataclass(frozen=True)
class View:
    """A tensor that shares bytes of the file with another: tied weights, transposed or partial views.

    Attributes:
        name: of the view.
        dtype: its element type.
        file: index of the file.
        offset: of its first element, in the file.
        shape, strides: strides count elements.
    """

    name: str
    dtype: DType
    file: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Check(NamedTuple):
    """A CRC-32 (four bytes, little endian) of a range of the file, and where it stands; for files with other values."""

    offset: int
    size: int
    places: tuple[int, ...]


@dataclass(frozen=True)
class FilePart:
    """A file with its spans; ``path`` is relative to the model file's folder, None for the model file itself."""

    file: InputFile
    spans: Sequence[Span]
    path: str | None = None
    checks: Sequence[Check] = ()


class Names:
    """Names that files give tensors, made usable: proper Unicode, not too long, each only once."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def take(self, name: str) -> str:
        """``name``, or one like it that was not taken before."""
        name = name.replace("\0", "\ufffd").encode("utf-8", "replace")[:_NAME_BYTES].decode("utf-8", "ignore")
        while name in self._counts:
            self._counts[name] += 1
            name = f"{name}~{self._counts[name]}"
        self._counts[name] = 1
        return name


def span(name: str, dtype: DType, shape: Sequence[int], offset: int, size: int, fill: Fill = None) -> Span:
    """The span of one tensor; of ``size`` plain bytes if these are not the elements of such a tensor."""
    info = TensorInfo(name, dtype, tuple(int(n) for n in shape))
    fits = all(0 <= n < _MAX_SIZE for n in info.shape) and (
        (fill is not None and fill[0] in ("varint", "deflate")) or info.nbytes == size
    )
    if not fits or (dtype.is_packed and info.size * dtype.bits % 8) or not is_representable(info):
        info, fill = TensorInfo(name, DTYPES["uint8"], (size,)), None
    return Span(offset, size, (info,), fill)


def is_representable(info: TensorInfo) -> bool:
    """Whether NumPy can have such an array."""
    try:
        np.ndarray(info.shape, info.dtype.storage, np.empty(1, info.dtype.storage), strides=(0,) * len(info.shape))
    except (ValueError, OverflowError):
        return False
    return True


# --- reading ---------------------------------------------------------------------------------------------------------


def model_of(
    source_format: str,
    files: Sequence[FilePart],
    *,
    views: Iterable[View] = (),
    metadata: Mapping[str, str] | None = None,
    source: Mapping[str, Any] | None = None,
) -> Model:
    """The model of files whose tensors were found.

    Spans may be in any order; one that overlaps another is left out (its bytes are there all the same), and becomes a
    view if it is the same range. The digests of the files are computed when the layout is asked for.

    Raises:
        NnbitsError: FILE_FORMAT if a span lies beyond its file; FILE_IO.
    """
    tensors: list[LazyTensor] = []
    described: list[dict[str, Any]] = []
    gaps: list[tuple[InputFile, int, int]] = []
    places: list[tuple[int, Span]] = []  # file, span of each hole
    hidden: list[tuple[int, Span]] = []
    for number, part in enumerate(files):
        end = 0
        sizes: list[int] = []
        fills: list[Fill] = []
        for found in sorted(part.spans, key=lambda s: (s.offset, s.size)):
            if found.offset + found.size > part.file.size:
                part.file.refuse(f"{quote(found.tensors[0].name)} goes beyond its end", found.offset)
            if found.offset < end:
                hidden.append((number, found))
                continue
            found = _checked(part.file, found)
            gaps.append((part.file, end, found.offset - end))
            sizes.append(found.offset - end)
            fills.append(found.fill)
            places.append((number, found))
            tensors.extend(_lazy(part.file, found, index) for index in range(len(found.tensors)))
            end = found.offset + found.size
        gaps.append((part.file, end, part.file.size - end))
        described.append(
            {
                **({} if part.path is None else {"path": part.path}),
                "bytes": part.file.size,
                "sha256": _NO_DIGEST,
                "gaps": sizes,
                **({"fills": fills} if any(fill is not None for fill in fills) else {}),
                **({"checks": part.checks} if part.checks else {}),
            }
        )
    layout = {
        "version": 1,
        "tensors": _fingerprint(tensor.info for tensor in tensors),
        "files": described,
        "views": [*_tied(hidden, places), *_views(views, places)],
    }

    @cache
    def complete() -> bytes:
        for part, item in zip(files, described, strict=True):
            item["sha256"] = part.file.sha256()
        return _json(layout)

    attachments = [*_template_parts(gaps), Attachment(LAYOUT, len(_json(layout)), complete)]
    beside = [part.path for part in files if part.path is not None]
    return Model(
        tuple(tensors),
        dict(metadata or {}),
        source_format,
        tuple(attachments),
        {
            "template": 1,
            "exact": True,
            "suffix": files[0].file.path.suffix,
            **({"beside": beside} if beside else {}),
            **(source or {}),
        },
    )


def _json(layout: dict[str, Any]) -> bytes:
    return json.dumps(layout, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _checked(file: InputFile, found: Span) -> Span:
    """The span, of bytes instead of booleans if some are neither 0 nor 1."""
    info = found.tensors[0]
    if info.dtype.kind != "bool" or found.fill is not None or are_booleans(file, found.offset, found.size):
        return found
    return replace(found, tensors=(replace(info, dtype=DTYPES["uint8"]),))


def are_booleans(file: InputFile, offset: int, size: int) -> bool:
    """Whether all bytes of a range are 0 or 1."""
    return bool(file.read(offset, size).max(initial=0) <= 1)


def _lazy(file: InputFile, found: Span, index: int) -> LazyTensor:
    info = found.tensors[index]
    ranged = None
    if found.fill is None or found.fill[0] == "as":
        ranged = partial(_read_range, file, info, found.offset)
    return LazyTensor(info, partial(_read, file, found, index), ranged)


def _read(file: InputFile, found: Span, index: int) -> Array:
    return _fills.split(found.fill, file.read(found.offset, found.size), found.tensors, index)


def _read_range(file: InputFile, info: TensorInfo, offset: int, first: int, count: int) -> Array:
    bits = info.dtype.bits if info.dtype.is_packed else 8 * info.dtype.itemsize
    start, stop = first * bits // 8, ((first + count) * bits + 7) // 8
    return file.read(offset + start, stop - start).view(info.dtype.storage)


def _fingerprint(infos: Iterable[TensorInfo]) -> str:
    """Tells the tensors of a model, but for their values."""
    digest = hashlib.sha256()
    for info in infos:
        digest.update(json.dumps([info.name, info.dtype.name, list(info.shape)]).encode())
    return digest.hexdigest()[:32]


def _tied(hidden: Iterable[tuple[int, Span]], places: Iterable[tuple[int, Span]]) -> Iterator[list[Any]]:
    """Spans that another one hides, as views of it where they are the same bytes."""
    holes = {
        (file, found.offset, found.size): hole
        for hole, (file, found) in enumerate(places)
        if found.size and (found.fill is None or found.fill[0] == "as")
    }
    for file, found in hidden:
        hole = holes.get((file, found.offset, found.size))
        info = found.tensors[0]
        if hole is not None and len(found.tensors) == 1 and found.fill is None and not info.dtype.is_packed:
            yield [hole, info.name, info.dtype.name, 0, list(info.shape), c_strides(info.shape)]


def c_strides(shape: Sequence[int]) -> list[int]:
    """Strides of a tensor whose last dimension is the fastest, in elements."""
    return list(accumulate((shape[:0:-1]), lambda a, b: a * max(b, 1), initial=1))[::-1] if shape else []


def _views(views: Iterable[View], places: Sequence[tuple[int, Span]]) -> Iterator[list[Any]]:
    by_file: dict[int, list[tuple[int, int, int]]] = {}
    for hole, (file, found) in enumerate(places):
        by_file.setdefault(file, []).append((found.offset, found.size, hole))
    starts = {file: np.array([offset for offset, _, _ in holes]) for file, holes in by_file.items()}
    for view in views:
        index = int(np.searchsorted(starts.get(view.file, _NONE), view.offset, "right")) - 1
        if index < 0:
            continue
        offset, size, hole = by_file[view.file][index]
        if view.offset <= offset + size:
            yield [hole, view.name, view.dtype.name, view.offset - offset, list(view.shape), list(view.strides)]


def _template_parts(gaps: Sequence[tuple[InputFile, int, int]]) -> Iterator[Attachment]:
    gaps = [gap for gap in gaps if gap[2]]
    total = sum(size for _, _, size in gaps)
    for number in range(max(1, -(-total // _PART_BYTES))):
        start, stop = number * _PART_BYTES, min(total, (number + 1) * _PART_BYTES)
        name = TEMPLATE if number == 0 else f"{TEMPLATE}:{number}"
        yield Attachment(name, stop - start, partial(_template_bytes, _cut(gaps, start, stop)))


def _cut(gaps: Iterable[tuple[InputFile, int, int]], start: int, stop: int) -> list[tuple[InputFile, int, int]]:
    """The bytes ``start`` to ``stop`` of all gaps together."""
    result, position = [], 0
    for file, offset, size in gaps:
        low, high = max(start, position), min(stop, position + size)
        if low < high:
            result.append((file, offset + low - position, high - low))
        position += size
    return result


def _template_bytes(gaps: Sequence[tuple[InputFile, int, int]]) -> bytes:
    parts: list[bytes] = []
    for file, group in _by_file(gaps):
        with file.view() as view:
            parts.extend(bytes(view[offset : offset + size]) for offset, size in group)
    return b"".join(parts)


def _by_file(gaps: Iterable[tuple[InputFile, int, int]]) -> Iterator[tuple[InputFile, list[tuple[int, int]]]]:
    current: InputFile | None = None
    group: list[tuple[int, int]] = []
    for file, offset, size in gaps:
        if file is not current:
            if current is not None:
                yield current, group
            current, group = file, []
        group.append((offset, size))
    if current is not None:
        yield current, group


# --- the layout ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LayoutFile:
    """A file of a layout: path if it is not the model file, size and digest, template bytes before each hole."""

    path: str | None
    size: int
    sha256: str
    gaps: Sequence[int]
    fills: Sequence[Fill]
    checks: Sequence[Check]


@dataclass(frozen=True)
class Layout:
    """What the attachment says, checked; ``groups`` are the tensors of each hole."""

    tensors: str
    files: Sequence[LayoutFile]
    views: Sequence[Any]
    groups: Sequence[Sequence[LazyTensor]]


def unusable(message: str) -> NoReturn:
    """Raise METADATA."""
    raise NnbitsError(
        ReasonCode.METADATA,
        f"the description of the source file is unusable: {message}",
        path=LAYOUT,
        hint="Convert the tensors to another format instead: --to safetensors",
    )


def check_count(value: object) -> int:
    """A size from a description; METADATA if it is none."""
    if type(value) is not int or not 0 <= value < _MAX_SIZE:
        unusable("a size is no number from 0")
    return value


def _attachments(model: Model) -> dict[str, Attachment]:
    return {attachment.name: attachment for attachment in model.attachments}


def layout_of(model: Model) -> Layout | None:
    """The layout, if it is one of this model.

    Raises:
        NnbitsError: METADATA.
    """
    found = _attachments(model).get(LAYOUT)
    if model.source.get("template") != 1 or found is None:
        return None
    try:
        data = json.loads(found.read().decode("utf-8"))
    except (ValueError, RecursionError) as error:
        unusable(f"it is no JSON: {error}")
    if not isinstance(data, dict) or data.get("version") != 1 or not isinstance(data.get("files"), list):
        unusable("it is no layout of version 1")
    if data.get("tensors") != _fingerprint(tensor.info for tensor in model.tensors):
        return None
    files = [_file(item) for item in data["files"]]
    if not files or files[0].path is not None or any(file.path is None for file in files[1:]):
        unusable("the first file is the model's, and only it")
    paths = [file.path for file in files]
    if len(set(paths)) != len(paths):
        unusable("a file occurs twice")
    groups, position = [], 0
    for fill in (fill for file in files for fill in file.fills):
        count = _tensors_of(fill)
        groups.append(tuple(model.tensors[position : position + count]))
        position += count
    if position != len(model.tensors):
        unusable(f"the holes take {position} tensors, there are {len(model.tensors)}")
    views = data.get("views", [])
    return Layout(data["tensors"], files, views if isinstance(views, list) else unusable("views"), groups)


def _tensors_of(fill: Fill) -> int:
    return plane_count(fill[1]) if fill is not None and fill[0] == "blocks" else 1


def _file(item: object) -> LayoutFile:
    if not isinstance(item, dict):
        unusable("a file is no object")
    gaps = item.get("gaps")
    if not isinstance(gaps, list):
        unusable("gaps are no list")
    fills = item.get("fills", [None] * len(gaps))
    if not isinstance(fills, list) or len(fills) != len(gaps) or not all(_fills.check_fill(fill) for fill in fills):
        unusable("a way to fill a hole is not known")
    path, digest = item.get("path"), item.get("sha256")
    if not isinstance(digest, str) or not (path is None or isinstance(path, str)):
        unusable("a digest or a path is no text")
    if path is not None:
        safe_relative(path)
    size = check_count(item.get("bytes"))
    checks = [_check(check, size) for check in item.get("checks", ())]
    return LayoutFile(path, size, digest, [check_count(gap) for gap in gaps], fills, checks)


def _check(item: object, size: int) -> Check:
    if not (isinstance(item, list) and len(item) == 3 and isinstance(item[2], list)):
        unusable("a checksum is no list of three")
    offset, length, places = check_count(item[0]), check_count(item[1]), tuple(map(check_count, item[2]))
    if offset + length > size or any(place + 4 > size for place in places):
        unusable("a checksum lies beyond the end")
    return Check(offset, length, places)


def safe_relative(path: str) -> PurePosixPath:
    """A path that stays inside its folder on every system.

    Raises:
        NnbitsError: METADATA if it does not.
    """
    parts = path.split("/")
    if not path or any(part in ("", ".", "..") or set(part) & set('\\:*?"<>|\0') for part in parts):
        raise NnbitsError(
            ReasonCode.METADATA,
            f"{quote(path)} is not a path inside the model's folder",
            path=quote(path),
            hint="The file may have been made to do harm",
        )
    return PurePosixPath(*parts)


def is_restorable(model: Model, source_format: str) -> bool:
    """Whether :func:`restore` can write the files of this model: same format, template there, no tensor more or less.

    Compressed tensors with other values would have other sizes: these need a new file.

    Raises:
        NnbitsError: METADATA if the description is damaged.
    """
    layout = layout_of(model) if model.source_format == source_format else None
    return layout is not None and (model.source.get("exact") is True or not _has_compressed(layout))


def _has_compressed(layout: Layout) -> bool:
    return any(fill is not None and fill[0] == "deflate" for file in layout.files for fill in file.fills)


# --- writing ---------------------------------------------------------------------------------------------------------


def restore(
    path: Path,
    model: Model,
    *,
    force: bool = False,
    threads: int = 1,
    on_tensor: Callable[[TensorInfo], None] | None = None,
) -> None:
    """Write the source files again; other files than the first go where they were, relative to the folder of ``path``.

    Memory: about ``threads`` times the largest hole, or 64 MiB if that is more, and a part of the template.

    Raises:
        NnbitsError: METADATA if the description is damaged; DIGEST if the bytes are not those of the source (no file
            is there then); FILE_EXISTS; FILE_IO; what the ``read`` of a tensor raises.
    """
    layout = layout_of(model)
    if layout is None:
        raise NnbitsError(ReasonCode.METADATA, "the model does not come with a template", path=TEMPLATE)
    path = Path(path)
    targets = [path if file.path is None else path.parent / safe_relative(file.path) for file in layout.files]
    fills = [fill for file in layout.files for fill in file.fills]
    work = list(zip(fills, layout.groups, strict=True))
    window = max(_WINDOW_BYTES, threads * max((_weight(item) for item in work), default=1))
    exact = model.source.get("exact") is True
    with (
        ExitStack() as stack,
        closing(_Template(model)) as template,
        closing(ordered_map(_fetch, work, threads=threads, window=window, weight=_weight)) as filled,
    ):
        groups = iter(layout.groups)
        for file, target in zip(layout.files, targets, strict=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            output = _Output(stack.enter_context(atomic_output(target, force=force)), () if exact else file.checks)
            for gap in file.gaps:
                template.copy(gap, output)
                output.write(next(filled))
                for tensor in next(groups):
                    if on_tensor is not None:
                        on_tensor(tensor.info)
            if output.count > file.size:
                unusable("the holes take more than the file")
            template.copy(file.size - output.count, output)
            if exact and output.digest.hexdigest() != file.sha256:
                raise NnbitsError(
                    ReasonCode.DIGEST,
                    f"{target} would not be the file that was packed",
                    path=str(target),
                    hint=_digest_hint(file),
                )
            output.finish()
        template.check_end()


def _digest_hint(file: LayoutFile) -> str:
    if any(fill is not None and fill[0] == "deflate" for fill in file.fills):
        return "It holds compressed members, and zlib compresses otherwise on this system: use --to safetensors"
    return "The stream is damaged, or its tensors were changed: use --to safetensors"


class _Output:
    """Counts and digests what is written, and computes checksums of ranges anew."""

    def __init__(self, file: BinaryIO, checks: Iterable[Check]) -> None:
        self._file = file
        self._checks = sorted(checks, reverse=True)
        self._values: list[tuple[Check, int]] = []
        self._value = 0
        self.digest = hashlib.sha256()
        self.count = 0

    def write(self, data: Any) -> None:
        self._file.write(data)
        self.digest.update(data)
        start, self.count = self.count, self.count + len(data)
        while self._checks and self._checks[-1].offset < self.count:
            check = self._checks[-1]
            stop = check.offset + check.size
            part = data[max(0, check.offset - start) : max(0, stop - start)]
            self._value = zlib.crc32(part, self._value)
            if stop > self.count:
                break
            self._values.append((check, self._value))
            self._value = 0
            self._checks.pop()

    def finish(self) -> None:
        for check, value in self._values:
            for place in check.places:
                self._file.seek(place)
                self._file.write(value.to_bytes(4, "little"))


class _Template:
    """The parts of the template, one after the other."""

    def __init__(self, model: Model) -> None:
        self._parts = _attachments(model)
        self._number = 0
        self._data = memoryview(b"")

    def copy(self, count: int, output: _Output) -> None:
        while count:
            if not self._data:
                name = TEMPLATE if self._number == 0 else f"{TEMPLATE}:{self._number}"
                part = self._parts.get(name)
                if part is None or not part.size:
                    unusable("the template is too short")
                self._data = memoryview(part.read())
                self._number += 1
                continue
            step = min(count, len(self._data), _COPY_BYTES)
            output.write(self._data[:step])
            self._data = self._data[step:]
            count -= step

    def check_end(self) -> None:
        if self._data or (self._number and f"{TEMPLATE}:{self._number}" in self._parts):
            unusable("the template is too long")

    def close(self) -> None:
        self._data = memoryview(b"")


_Work = tuple[Fill, Sequence[LazyTensor]]


def _weight(item: _Work) -> int:
    return 2 * sum(tensor.info.nbytes for tensor in item[1]) + _OVERHEAD_BYTES


def _fetch(item: _Work) -> memoryview:
    fill, tensors = item
    infos = [tensor.info for tensor in tensors]
    arrays = []
    for tensor in tensors:
        array, info = tensor.read(), tensor.info
        if array.dtype != info.dtype.storage or array.size * array.itemsize != info.nbytes:
            raise NnbitsError(
                ReasonCode.BAD_TENSOR,
                f"tensor {quote(info.name)} is {array.dtype} {array.shape}, announced as {info.dtype.storage}"
                f" {info.stored_shape}",
                path=quote(info.name),
            )
        arrays.append(array)
    try:
        return _fills.merge(fill, arrays, infos).data
    except (ValueError, TypeError) as error:
        unusable(f"{quote(infos[0].name)} does not fill its place: {error}")

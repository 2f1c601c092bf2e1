"""What travels with the tensors of a file so that it can be written again, checked when it is read back.

The attachments are ``nnbits:template`` (the bytes of the files outside the tensors, in parts) and ``nnbits:layout``
(JSON: where the holes are, how tensors fill them, and the SHA-256 of the files). Holes take the tensors of the model in
their order. ``Model.source`` has ``template``: 1; whoever changes values (a lossy plan) removes its key ``exact``,
so that the digests are not checked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final, NoReturn

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.types import Attachment, LazyTensor, Model, TensorInfo

from . import _fills
from ._blocks import plane_count
from ._fills import Fill
from ._spans import MAX_SIZE, Check
from .base import quote

__all__ = [
    "LAYOUT",
    "TEMPLATE",
    "Layout",
    "LayoutFile",
    "attachments_of",
    "check_count",
    "fingerprint",
    "is_restorable",
    "layout_of",
    "safe_relative",
    "unusable",
]

TEMPLATE: Final = "nnbits:template"
LAYOUT: Final = "nnbits:layout"


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
    if type(value) is not int or not 0 <= value < MAX_SIZE:
        unusable("a size is no number from 0")
    return value


def layout_of(model: Model) -> Layout | None:
    """The layout, if it is one of this model.

    Raises:
        NnbitsError: METADATA.
    """
    found = attachments_of(model).get(LAYOUT)
    if model.source.get("template") != 1 or found is None:
        return None
    try:
        data = json.loads(found.read().decode("utf-8"))
    except (ValueError, RecursionError) as error:
        unusable(f"it is no JSON: {error}")
    if not isinstance(data, dict) or data.get("version") != 1 or not isinstance(data.get("files"), list):
        unusable("it is no layout of version 1")
    if data.get("tensors") != fingerprint(tensor.info for tensor in model.tensors):
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


def attachments_of(model: Model) -> dict[str, Attachment]:
    """Attachments by name."""
    return {attachment.name: attachment for attachment in model.attachments}


def fingerprint(infos: Iterable[TensorInfo]) -> str:
    """Tells the tensors of a model, but for their values."""
    digest = hashlib.sha256()
    for info in infos:
        digest.update(json.dumps([info.name, info.dtype.name, list(info.shape)]).encode())
    return digest.hexdigest()[:32]

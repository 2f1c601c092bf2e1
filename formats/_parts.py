"""A folder's model as the models of its files, and these as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from nnbits.codec.types import Attachment, LazyTensor, Model

from ._layout import check_count, safe_relative, unusable

__all__ = ["FOLDER", "Part", "join", "parts_of"]

FOLDER: Final = "folder"

_OWN: Final = "nnbits:"


@dataclass(frozen=True)
class Part:
    """A model file in a folder: path relative to it, what its tensors' names begin with in the whole, its model."""

    path: str
    prefix: str
    model: Model


def join(parts: Sequence[tuple[str, Model]], others: Sequence[Attachment], source: Mapping[str, Any]) -> Model:
    """One model of the models of files (path, model) and of other files.

    A file whose tensors' names occur in an earlier one gets its path as prefix of these names.
    """
    tensors: list[LazyTensor] = []
    attachments: list[Attachment] = []
    described: list[dict[str, Any]] = []
    metadata: dict[str, str] = {}
    taken: set[str] = set()
    for number, (path, model) in enumerate(parts):
        prefix = "" if taken.isdisjoint(t.info.name for t in model) else f"{path}:"
        renamed = [replace(t, info=replace(t.info, name=prefix + t.info.name)) for t in model]
        taken.update(t.info.name for t in renamed)
        tensors += renamed
        attachments += [replace(a, name=f"{_OWN}{number}:{a.name.removeprefix(_OWN)}") for a in model.attachments]
        metadata = {**model.metadata, **metadata}
        described.append(
            {
                "path": path,
                "format": model.source_format,
                "tensors": len(renamed),
                **({"prefix": prefix} if prefix else {}),
                **({"metadata": dict(model.metadata)} if model.metadata else {}),
                **({"source": dict(model.source)} if model.source else {}),
            }
        )
    return Model(tuple(tensors), metadata, FOLDER, (*attachments, *others), {**source, "files": described})


def parts_of(model: Model) -> list[Part]:
    """:func:`join` undone.

    Raises:
        NnbitsError: METADATA if the description is damaged.
    """
    own: dict[int, list[Attachment]] = {}
    for attachment in model.attachments:
        digits, _, rest = attachment.name.removeprefix(_OWN).partition(":")
        if attachment.name.startswith(_OWN) and digits.isascii() and digits.isdigit() and len(digits) < 10:
            own.setdefault(int(digits), []).append(replace(attachment, name=_OWN + rest))
    parts, position = [], 0
    for number, item in enumerate(_items(model.source.get("files"))):
        path, prefix, count = item.get("path"), item.get("prefix", ""), check_count(item.get("tensors"))
        metadata, source, name = item.get("metadata", {}), item.get("source", {}), item.get("format")
        if not (isinstance(path, str) and isinstance(prefix, str) and isinstance(name, str)):
            unusable("a file has no path or format")
        if not isinstance(source, dict) or not isinstance(metadata, dict):
            unusable("the source of a file is no object")
        safe_relative(path)
        tensors = model.tensors[position : position + count]
        if len(tensors) != count or not all(t.info.name.startswith(prefix) for t in tensors):
            unusable(f"the tensors of {path!r:.100} are not there")
        stripped = tuple(replace(t, info=replace(t.info, name=t.info.name[len(prefix) :])) for t in tensors)
        parts.append(Part(path, prefix, Model(stripped, metadata, name, own.get(number, []), source)))
        position += count
    if position != len(model.tensors):
        unusable("there are tensors that belong to no file")
    return parts


def _items(value: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(value, list):
        unusable("files are no list")
    for item in value:
        if not isinstance(item, dict):
            unusable("a file is no object")
        yield item

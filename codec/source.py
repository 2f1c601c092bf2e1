"""The source description: what a standard stream has no element for, as JSON in ``topology_data``.

NNC leaves the content of ``topology_data`` of storage format NNR_TPL_UNREC to the application; other decoders
ignore it. nnbits keeps there the metadata of the model file, and for each tensor whose element type or shape
the data unit cannot say (bfloat16, bool, unsigned integers, scalars), that element type or shape. The number
of tensors is there too, because a standard stream that is cut between two units looks complete.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast, get_args

from .errors import NnbitsError, ReasonCode
from .limits import MAX_DIMENSIONS
from .types import DTYPES

__all__ = ["SourceDescription", "UpdateMode"]

#: Whether an update carries differences or complete tensors.
UpdateMode = Literal["difference", "full"]

_KEY: Final = "nnbits"
_VERSION: Final = 1


@dataclass(frozen=True)
class SourceDescription:
    """What the source file said that the standard elements do not.

    Attributes:
        count: number of tensors in the stream, or None if it was not said.
        format: name of the adapter, or None.
        metadata: the file's string metadata.
        dtypes: element type by tensor name, only where it differs from what the data unit says.
        shapes: shape by tensor name, likewise.
        update: what the tensors with a parent are in an update stream, None in others.
        removed: names that the update takes out of the model.
    """

    count: int | None = None
    format: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    update: UpdateMode | None = None
    removed: tuple[str, ...] = ()

    def to_text(self) -> str:
        """Canonical JSON, or an empty string if there is nothing to say."""
        body: dict[str, Any] = {}
        if self.count is not None:
            body["count"] = self.count
        if self.format:
            body["format"] = self.format
        if self.metadata:
            body["metadata"] = dict(self.metadata)
        if self.dtypes:
            body["dtypes"] = dict(self.dtypes)
        if self.shapes:
            body["shapes"] = {name: list(shape) for name, shape in self.shapes.items()}
        if self.update:
            body["update"] = self.update
        if self.removed:
            body["removed"] = list(self.removed)
        if not body:
            return ""
        return json.dumps({_KEY: _VERSION, **body}, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> SourceDescription:
        """Inverse of :meth:`to_text`; text of another application gives an empty description.

        Raises:
            NnbitsError: METADATA if the text is ours but damaged.
        """
        if not text.startswith(f'{{"{_KEY}":'):
            return cls()
        try:
            body = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _bad(f"is not JSON: {error}") from None
        if not isinstance(body, dict) or body.pop(_KEY, None) != _VERSION:
            raise _bad(f"is not of version {_VERSION}")
        unknown = set(body) - {"count", "format", "metadata", "dtypes", "shapes", "update", "removed"}
        if unknown:
            raise _bad(f"has unknown keys {sorted(unknown)}")
        count = body.get("count")
        if count is not None and (type(count) is not int or count < 0):
            raise _bad("has an impossible count")
        return cls(
            count,
            _string(body.get("format")),
            _strings(body.get("metadata", {}), "metadata"),
            _dtypes(body.get("dtypes", {})),
            _shapes(body.get("shapes", {})),
            _update(body.get("update")),
            _names(body.get("removed", [])),
        )


def _bad(what: str) -> NnbitsError:
    return NnbitsError(ReasonCode.METADATA, f"the source description {what}", path="topology_data")


def _string(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise _bad("has a format that is not a string")
    return value


def _strings(value: object, key: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise _bad(f"has {key} that are not strings")
    return value


def _dtypes(value: object) -> dict[str, str]:
    names = _strings(value, "dtypes")
    for name, dtype in names.items():
        if dtype not in DTYPES:
            raise _bad(f"gives tensor {name!r} the unknown element type {dtype!r}")
    return names


def _update(value: object) -> UpdateMode | None:
    if value not in (None, *get_args(UpdateMode)):
        raise _bad(f"has the unknown update mode {value!r}")
    return cast("UpdateMode | None", value)


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise _bad("has removed names that are not strings")
    return tuple(value)


def _shapes(value: object) -> dict[str, tuple[int, ...]]:
    if not isinstance(value, dict):
        raise _bad("has shapes that are not an object")
    shapes = {}
    for name, shape in value.items():
        if (
            not isinstance(shape, list)
            or len(shape) > MAX_DIMENSIONS
            or not all(type(n) is int and n >= 0 for n in shape)
        ):
            raise _bad(f"gives tensor {name!r} an impossible shape")
        shapes[name] = tuple(shape)
    return shapes

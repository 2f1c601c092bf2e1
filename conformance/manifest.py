"""The list of streams and of what a decoder must make of each. Data only: any program can read the JSON file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from nnbits.codec.errors import NnbitsError, ReasonCode

__all__ = [
    "DEFAULT_FOLDER",
    "Entry",
    "ExpectedTensor",
    "Kind",
    "Manifest",
    "describe_tensor",
    "kind_of_code",
    "little_endian",
]

#: The folder of this package's own suite.
DEFAULT_FOLDER: Final = Path(__file__).resolve().parent

#: ``malformed``: cannot be parsed; ``invalid``: breaks a rule; ``unsupported``: correct, but outside of what a decoder
#: must know; ``limit``: would cost more than a decoder may be asked for.
Kind = Literal["valid", "malformed", "invalid", "unsupported", "limit"]

_KINDS: Final[Mapping[int, Kind]] = {1: "malformed", 2: "invalid", 3: "unsupported", 4: "limit"}
_FORMAT: Final = 1


def kind_of_code(code: ReasonCode) -> Kind:
    """What a stream is that is refused with a code.

    Raises:
        KeyError: for codes that no stream can have.
    """
    return _KINDS[code // 100]


@dataclass(frozen=True)
class ExpectedTensor:
    """A tensor that a valid stream decodes to.

    Attributes:
        name: its topology element id.
        dtype: element type.
        shape: dimensions.
        sha256: hexadecimal, of the elements in row-major order, little endian.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    sha256: str


@dataclass(frozen=True)
class Entry:
    """One stream of the suite.

    Attributes:
        id: unique; the file is named after it.
        file: relative to the manifest.
        sha256: of the file, hexadecimal.
        size: of the file, bytes.
        kind: see :data:`Kind`.
        profile: ``standard`` or ``extended``.
        edition: of ISO/IEC 15938-17: 1 for general_profile_idc 0, 2 for 1.
        features: what a decoder has to know to be judged by this stream.
        exercises: for people, what the stream is for.
        provenance: how it was made.
        tensors: what comes out of a valid stream, in coding order; of an exact update the model that it leads to.
        code: the first fault of any other stream, a name of :class:`~nnbits.codec.errors.ReasonCode`.
        also: other codes that are as good, where a decoder may look at one fault before the other.
        unit_offset: where the unit with the fault begins, or what stands in a unit's place, bytes.
        offset: the faulty element as far as it is known, not below ``unit_offset``; a decoder may name any place
            between.
        path: the faulty element.
        after: ids of the streams that a decoder must have decoded before, in order: the stream is an update of them.
        supplied: values from outside the bitstream by tensor name (nnc-bitstream 6.3).
    """

    id: str
    file: str
    sha256: str
    size: int
    kind: Kind
    profile: str
    edition: int
    features: tuple[str, ...]
    exercises: str
    provenance: str
    tensors: tuple[ExpectedTensor, ...] = ()
    code: str | None = None
    also: tuple[str, ...] = ()
    unit_offset: int | None = None
    offset: int | None = None
    path: str | None = None
    after: tuple[str, ...] = ()
    supplied: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def valid(self) -> bool:
        """Whether a decoder must accept it."""
        return self.kind == "valid"

    @property
    def codes(self) -> frozenset[str]:
        """Reason codes that are right."""
        return frozenset((self.code, *self.also)) if self.code else frozenset()

    def to_json(self) -> dict[str, Any]:
        """Plain data; what is empty is left out."""
        body = {key: value for key, value in asdict(self).items() if value not in (None, (), {})}
        if self.valid:
            body["tensors"] = [asdict(tensor) for tensor in self.tensors]
        return body

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Entry:
        """Inverse of :meth:`to_json`."""
        tensors = tuple(
            ExpectedTensor(t["name"], t["dtype"], tuple(t["shape"]), t["sha256"]) for t in body.get("tensors", ())
        )
        lists = {key: tuple(body.get(key, ())) for key in ("features", "also", "after")}
        return cls(**{**body, **lists, "tensors": tensors})


@dataclass(frozen=True)
class Manifest:
    """All streams of a suite, and the folder they lie in."""

    folder: Path
    entries: tuple[Entry, ...]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, key: str) -> Entry:
        return self._by_id()[key]

    def _by_id(self) -> dict[str, Entry]:
        return {entry.id: entry for entry in self.entries}

    def path(self, entry: Entry) -> Path:
        """The file of a stream."""
        return self.folder / entry.file

    def sequence(self, entry: Entry) -> list[Path]:
        """The files that must be decoded, in order, the stream's own last."""
        known = self._by_id()
        return [self.path(known[name]) for name in entry.after] + [self.path(entry)]

    def features(self) -> list[str]:
        """All features, sorted."""
        return sorted({feature for entry in self for feature in entry.features})

    def save(self) -> None:
        """Write ``manifest.json`` into the folder, one line a stream."""
        counts = {
            "valid": sum(entry.valid for entry in self),
            "invalid": sum(not entry.valid for entry in self),
        }
        lines = ",\n".join(json.dumps(entry.to_json(), ensure_ascii=False) for entry in self)
        text = f'{{"format": {_FORMAT}, "counts": {json.dumps(counts)}, "streams": [\n{lines}\n]}}\n'
        (self.folder / "manifest.json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path = DEFAULT_FOLDER) -> Manifest:
        """Read a manifest and check it against the files beside it.

        Raises:
            NnbitsError: FILE_NOT_FOUND without a manifest, FILE_FORMAT if it is damaged, empty, or does not say what
                lies in the folder: a stream that is missing, changed or not listed.
        """
        path = folder / "manifest.json"
        try:
            body = json.loads(path.read_text(encoding="utf-8"))
            if body["format"] != _FORMAT:
                raise _bad(f"format {body['format']} is not known", path)
            manifest = cls(folder, tuple(Entry.from_json(item) for item in body["streams"]))
            counts = body["counts"]
        except FileNotFoundError:
            raise NnbitsError(ReasonCode.FILE_NOT_FOUND, "there is no manifest.json", path=str(folder)) from None
        except (ValueError, TypeError, KeyError) as error:
            raise _bad(f"{type(error).__name__}: {error}", path) from None
        manifest._check(counts, path)
        return manifest

    def _check(self, counts: Mapping[str, int], path: Path) -> None:
        found = (sum(entry.valid for entry in self), sum(not entry.valid for entry in self))
        if not self.entries or found != (counts.get("valid"), counts.get("invalid")):
            raise _bad(
                f"{found[0]} valid and {found[1]} invalid streams are listed, {dict(counts)} are announced", path
            )
        if len(self._by_id()) != len(self.entries):
            raise _bad("two streams have the same id", path)
        for entry in self:
            unknown = set(entry.after) - self._by_id().keys()
            if unknown:
                raise _bad(f"{entry.id} follows unknown streams {sorted(unknown)}", path)
            file = self.path(entry)
            if not file.is_file():
                raise _bad(f"the stream {entry.file} is missing", path)
            if hashlib.sha256(file.read_bytes()).hexdigest() != entry.sha256:
                raise _bad(f"the stream {entry.file} was changed", path)
        listed = {self.path(entry).resolve() for entry in self}
        there = {file.resolve() for file in (self.folder / "streams").rglob("*") if file.is_file()}
        if there - listed:
            raise _bad(f"streams are not listed: {sorted(file.name for file in there - listed)[:5]}", path)


def _bad(message: str, path: Path) -> NnbitsError:
    return NnbitsError(
        ReasonCode.FILE_FORMAT, message, path=str(path), hint="Fetch the suite again, or make it with the generator"
    )


def little_endian(array: NDArray[Any]) -> bytes:
    """The elements in row-major order, little endian."""
    return np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def describe_tensor(name: str, array: NDArray[Any] | ExpectedTensor) -> ExpectedTensor:
    """What a manifest says of an array; a description is one already."""
    if isinstance(array, ExpectedTensor):
        return array
    return ExpectedTensor(name, array.dtype.name, array.shape, hashlib.sha256(little_endian(array)).hexdigest())

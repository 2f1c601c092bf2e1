"""Files written again byte for byte, from their template and the tensors that fill its holes."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from nnbits.codec.atomic import atomic_output
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.parallel import ordered_map
from nnbits.codec.types import LazyTensor, Model, TensorInfo

from . import _fills
from ._fills import Fill
from ._layout import TEMPLATE, LayoutFile, attachments_of, is_restorable, layout_of, safe_relative, unusable
from ._pieces import OVERHEAD_BYTES, WINDOW_BYTES, Piece, fetch, pieces_of
from ._spans import Check
from .base import WriteFunction, quote

__all__ = ["restore", "restorer"]

_COPY_BYTES: Final = 2**20


def restore(
    path: Path,
    model: Model,
    *,
    force: bool = False,
    threads: int = 1,
    on_tensor: Callable[[TensorInfo], None] | None = None,
) -> None:
    """Write the source files again; other files than the first go where they were, relative to the folder of ``path``.

    Memory: about ``threads`` times the largest hole that needs all of its tensors at once (one that holds just a tensor
    does not), or 64 MiB if that is more, and a part of the template.

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
    work = [item for fill, group in zip(fills, layout.groups, strict=True) for item in _work_for(fill, group)]
    window = max(WINDOW_BYTES, threads * max((_weight(item) for item in work), default=1))
    exact = model.source.get("exact") is True
    with (
        ExitStack() as stack,
        closing(_Template(model)) as template,
        closing(ordered_map(_fetch, work, threads=threads, window=window, weight=_weight)) as filled,
    ):
        items = iter(work)
        for file, target in zip(layout.files, targets, strict=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            output = _Output(stack.enter_context(atomic_output(target, force=force)), () if exact else file.checks)
            for gap in file.gaps:
                template.copy(gap, output)
                for item in items:
                    output.write(next(filled))
                    if item.is_last:
                        break
                for tensor in item.tensors:
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
        self._parts = attachments_of(model)
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


class _Work(NamedTuple):
    """What fills a hole, or a piece of the only tensor that does."""

    fill: Fill
    tensors: Sequence[LazyTensor]
    piece: Piece | None = None

    @property
    def is_last(self) -> bool:
        return self.piece is None or self.piece.is_last


def _work_for(fill: Fill, tensors: Sequence[LazyTensor]) -> list[_Work]:
    if fill is None or fill[0] == "as":
        return [_Work(fill, tensors, piece) for piece in pieces_of(tensors[0])]
    return [_Work(fill, tensors)]


def _weight(item: _Work) -> int:
    if item.piece is not None:
        return item.piece.nbytes + OVERHEAD_BYTES
    return 2 * sum(tensor.info.nbytes for tensor in item.tensors) + OVERHEAD_BYTES


def _fetch(item: _Work) -> memoryview:
    if item.piece is not None:
        return fetch(item.piece).data
    infos = [tensor.info for tensor in item.tensors]
    arrays = [fetch(Piece(tensor, 0, tensor.info.size)).view(tensor.info.dtype.storage) for tensor in item.tensors]
    try:
        return _fills.merge(item.fill, arrays, infos).data
    except (ValueError, TypeError) as error:
        unusable(f"{quote(infos[0].name)} does not fill its place: {error}")


def restorer(name: str) -> WriteFunction:
    """The ``write`` of a format: the files that the model was read from, byte for byte.

    It raises NnbitsError: UNSUPPORTED_FEATURE if the model does not come from such a file; those of
    :func:`restore`.
    """

    def write(
        path: Path,
        model: Model,
        /,
        *,
        force: bool = False,
        threads: int = 1,
        on_tensor: Callable[[TensorInfo], None] | None = None,
    ) -> None:
        if not is_restorable(model, name):
            raise NnbitsError(
                ReasonCode.UNSUPPORTED_FEATURE,
                f"a file of format {name} can only be written from the whole model of one",
                path=str(path),
                hint="Choose --to safetensors",
            )
        restore(path, model, force=force, threads=threads, on_tensor=on_tensor)

    return write

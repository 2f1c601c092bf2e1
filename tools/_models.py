"""Model files and streams as inputs and outputs of the commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.tools._console import Progress, count
from nnbits.tools._files import NNC_SUFFIX, file_named, open_stream, stream_model, tree_size

if TYPE_CHECKING:
    from nnbits.codec.api import NncFile
    from nnbits.codec.types import Model
    from nnbits.formats.base import Adapter

__all__ = ["NNC_FORMAT", "OpenModel", "counter", "open_model", "target_adapter", "what_is_lost", "write_model"]

NNC_FORMAT: Final = "nnc"

_MALFORMED: Final = range(100, 200)  # reason codes of bytes that do not parse
_SHOWN_NAMES: Final = 3
_MORE_THAN_TENSORS: Final = frozenset({"onnx", "gguf", "tflite", "h5", "keras"})
_KEEPS_METADATA: Final = frozenset({"safetensors", NNC_FORMAT})


@dataclass(frozen=True)
class OpenModel:
    """A model file or a stream whose tensors are read when they are asked for.

    Attributes:
        path: of the file.
        format: name of its format, ``nnc`` for a stream.
        model: as it was read; see :func:`nnbits.formats.plain` for what users see.
        stream: the stream, or None for a model file.
        size: of the file or folder, bytes.
    """

    path: Path
    format: str
    model: Model
    stream: NncFile | None
    size: int


@contextmanager
def open_model(path: Path) -> Iterator[OpenModel]:
    """A model file or a stream, told by its content, open for the block; errors in it are named after the file.

    Raises:
        NnbitsError: BASE_MISSING if it is an update; FILE_FORMAT if it is neither; the errors of the file.
    """
    from nnbits.formats.registry import adapter_for_file
    from nnbits.tools.commands.apply import check_is_model

    path = Path(path)
    try:
        adapter = adapter_for_file(path)
    except NnbitsError as error:
        if error.code is not ReasonCode.FILE_FORMAT or not path.is_file():
            raise
        opened = False
        try:
            with open_stream(path) as stream:
                check_is_model(stream)
                model = stream_model(stream)
                opened = True
                yield OpenModel(path, NNC_FORMAT, model, stream, stream.size)
        except NnbitsError as other:
            if not opened and other.code in _MALFORMED and path.suffix.lower() != NNC_SUFFIX:
                raise error from None
            raise
        return
    with file_named(path):
        yield OpenModel(path, adapter.name, adapter.read(path), None, tree_size(path))


def target_adapter(target: Path, to: str | None) -> Adapter | None:
    """The adapter of an output, None for a stream.

    Raises:
        NnbitsError: BAD_OPTION if neither ``to`` nor the suffix names a format.
    """
    from nnbits.formats.registry import ADAPTERS, adapter_by_name, adapter_for_output

    try:
        if to is None:
            return None if target.name.lower().endswith(NNC_SUFFIX) else adapter_for_output(target)
        return None if to == NNC_FORMAT else adapter_by_name(to)
    except NnbitsError as error:
        known = ", ".join([NNC_FORMAT, *(adapter.name for adapter in ADAPTERS)])
        error.hint = f"Choose a suffix that says the format, or one with --to: {known}"
        raise


def what_is_lost(model: Model, shown: Model, adapter: Adapter | None) -> list[str]:
    """What the output cannot keep, for a model that is not written as the very file it was read from.

    Args:
        model: as it was read.
        shown: the tensors that will be written.
        adapter: of the output, None for a stream.
    """
    name = NNC_FORMAT if adapter is None else adapter.name
    notes = []
    files = [a for a in model.attachments if not a.name.startswith("nnbits:")]
    if files:
        notes.append(f"{count(len(files), 'file')} beside the tensors not kept, e.g. {files[0].name}")
    if model.source_format in _MORE_THAN_TENSORS and model.source_format != name:
        notes.append(f"only tensors are kept: what else is in the {model.source_format} file is not")
    if model.metadata and name not in _KEEPS_METADATA:
        notes.append(f"metadata not kept: {_some(list(model.metadata))}")
    before = {tensor.info.name: tensor.info for tensor in model}
    changed = [t.info.name for t in shown if t.info.name not in before]
    changed += [t.info.name for t in shown if t.info.name in before and before[t.info.name].dtype != t.info.dtype]
    if changed:
        notes.append(f"{count(len(changed), 'tensor')} as numbers of the usual types: {_some(changed)}")
    foreign = [t.info.name for t in shown if not t.info.dtype.is_numpy]
    if name in ("npz", "npy") and foreign:
        notes.append(f"NumPy lacks the type of {count(len(foreign), 'tensor')}, kept as bits: {_some(foreign)}")
    return notes


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN_NAMES:,} more" if len(names) > _SHOWN_NAMES else ""
    return ", ".join(names[:_SHOWN_NAMES]) + more


def counter(model: Model, progress: Progress | None) -> Callable[[Any], None] | None:
    """What to call after each tensor, with its info."""
    if progress is None:
        return None
    total = sum(tensor.info.nbytes for tensor in model)
    done = 0
    progress(done, total)

    def on_tensor(info: Any) -> None:
        nonlocal done
        done += info.source_bytes if hasattr(info, "source_bytes") else info.nbytes
        progress(done, total)

    return on_tensor


def write_model(
    target: Path,
    model: Model,
    adapter: Adapter | None,
    *,
    threads: int | None,
    force: bool,
    progress: Progress | None = None,
) -> None:
    """Write a model file, or without an adapter an exact stream.

    Raises:
        NnbitsError: the errors of the adapter or of the encoder.
    """
    from nnbits.codec.api import pack_model, plan_exact
    from nnbits.codec.parallel import default_threads

    on_tensor = counter(model, progress)
    if adapter is None:
        pack_model(model, target, plan=plan_exact(model), threads=threads, force=force, on_tensor=on_tensor)
        return
    adapter.write(
        target,
        model,
        force=force,
        threads=default_threads() if threads is None else threads,
        on_tensor=on_tensor,
    )

"""``nnbits apply``: a base model and the updates that follow, to the model they lead to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nnbits.codec.base import digest_text
from nnbits.tools._console import Progress, count, printable
from nnbits.tools._files import NNC_SUFFIX, check_output, file_named, open_stream

if TYPE_CHECKING:
    from nnbits.codec.api import NncFile
    from nnbits.codec.types import Array, Model
    from nnbits.formats.base import Adapter

__all__ = [
    "ApplyReport",
    "apply",
    "check_is_model",
    "digest_text",
    "open_update",
    "read_model",
    "report_dict",
    "report_text",
]

NNC_FORMAT: Final = "nnc"

_MALFORMED: Final = range(100, 200)  # reason codes of bytes that do not parse


@dataclass(frozen=True)
class ApplyReport:
    """What was applied.

    Attributes:
        base: the model that the first update was applied to.
        updates: in order.
        target: the model file or stream.
        format: its format; ``nnc`` for a stream.
        tensors: number of tensors of the result.
        update_bytes: size of all updates.
        file_bytes: size of ``target``.
        digest: of the result, see :func:`nnbits.codec.chain.model_digest`.
    """

    base: Path
    updates: tuple[Path, ...]
    target: Path
    format: str
    tensors: int
    update_bytes: int
    file_bytes: int
    digest: str


def apply(
    base: Path,
    updates: Sequence[Path],
    target: Path,
    *,
    to: str | None = None,
    check_base: bool = True,
    threads: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> ApplyReport:
    """Apply updates in order and write the model they lead to.

    Args:
        base: a model file, or a stream; held in memory.
        updates: streams made by :func:`~nnbits.tools.commands.diff.diff`; those of other encoders are taken as
            differences.
        target: a model file, or a stream, which is packed exactly.
        to: its format, ``nnc`` for a stream; default: told by its suffix.
        check_base: refuse an update that was made for another model than the one it meets.
        threads: default: all processors.
        force: replace an existing file.
        progress: called after each update and each tensor written.

    Raises:
        NnbitsError: BASE_MISMATCH for a wrong base or order; BASE_MISSING for an update of a tensor that is not there;
            FILE_FORMAT if one of the updates is none; the errors of streams and files. No output is there then.
    """
    from nnbits.codec.chain import UpdateChain
    from nnbits.codec.errors import NnbitsError, ReasonCode

    base, target = Path(base), Path(target)
    updates = tuple(Path(update) for update in updates)
    if not updates:
        raise NnbitsError(ReasonCode.BAD_OPTION, "there is no update to apply", path="updates")
    adapter = _target_adapter(target, to)
    check_output(target, force=force, inputs=(base, *updates))
    work = 0
    update_bytes = 0
    for update in updates:  # tell of a missing or damaged file before any of them is applied
        with open_update(update, check_base=check_base) as stream:
            work += _decoded_bytes(stream)
            update_bytes += stream.size
    model = read_model(base, threads=threads)
    report = _Steps(progress, work + _model_bytes(model))
    chain = UpdateChain(model)
    metadata, source_format = model.metadata, model.source_format
    del model
    for update in updates:
        with open_update(update, check_base=check_base) as stream:
            chain.apply(stream.stream if stream.extended is None else stream.extended, check_base=check_base)
            if stream.update is not None:  # its source is then a model file, with metadata or without
                metadata = stream.metadata
                source_format = stream.source_format or source_format
            report.advance(_decoded_bytes(stream))
    result = replace(chain.model(), metadata=metadata, source_format=source_format)
    report.total = work + _model_bytes(result)
    _write(target, result, adapter, force=force, threads=threads, report=report)
    return ApplyReport(
        base,
        updates,
        target,
        NNC_FORMAT if adapter is None else adapter.name,
        len(result.tensors),
        update_bytes,
        target.stat().st_size,
        chain.digest,
    )


def _target_adapter(target: Path, to: str | None) -> Adapter | None:
    """None for a stream."""
    from nnbits.formats.registry import adapter_by_name, adapter_for_output

    if to is None:
        return None if target.name.lower().endswith(NNC_SUFFIX) else adapter_for_output(target)
    return None if to == NNC_FORMAT else adapter_by_name(to)


def _write(
    target: Path, model: Model, adapter: Adapter | None, *, force: bool, threads: int | None, report: _Steps
) -> None:
    from nnbits.codec.api import pack_model, plan_exact
    from nnbits.codec.parallel import default_threads

    if adapter is None:
        pack_model(
            model,
            target,
            plan=plan_exact(model),
            threads=threads,
            force=force,
            on_tensor=lambda tensor: report.advance(tensor.source_bytes),
        )
    else:
        adapter.write(
            target,
            model,
            force=force,
            threads=default_threads() if threads is None else threads,
            on_tensor=lambda info: report.advance(info.nbytes),
        )


@dataclass
class _Steps:
    """Work done so far, told to a progress display if there is one."""

    progress: Progress | None
    total: int
    done: int = 0

    def __post_init__(self) -> None:
        self.advance(0)

    def advance(self, amount: int) -> None:
        self.done += amount
        if self.progress is not None:
            self.progress(self.done, self.total)


def _decoded_bytes(stream: NncFile) -> int:
    return sum(stream.info(name).nbytes for name in stream)


def _model_bytes(model: Model) -> int:
    return sum(tensor.info.nbytes for tensor in model)


# ---- models and updates as inputs


def check_is_model(stream: NncFile) -> None:
    """Refuse an update where a model is needed.

    Raises:
        NnbitsError: BASE_MISSING.
    """
    from nnbits.codec.errors import NnbitsError, ReasonCode

    if stream.is_update:
        wanted = stream.base_model_id
        raise NnbitsError(
            ReasonCode.BASE_MISSING,
            "the stream is an update, not a model" + ("" if wanted is None else f"; it applies to {printable(wanted)}"),
            path="base_model_id",
            hint=f"Apply it to its base: nnbits apply BASE {stream.path} -o OUT",
        )


@contextmanager
def open_update(path: Path, *, check_base: bool = True) -> Iterator[NncFile]:
    """An update, open for the block; errors in the block are named after the file.

    Args:
        check_base: whether a stream of another encoder must say that it is an update. One of ours always must.

    Raises:
        NnbitsError: FILE_FORMAT if it is no update; the errors of the file and of the stream.
    """
    from nnbits.codec.errors import NnbitsError, ReasonCode

    with open_stream(path) as file:
        ours = file.extended is not None or file.stream.source.count is not None
        if not file.is_update and (ours or check_base):
            raise NnbitsError(
                ReasonCode.FILE_FORMAT,
                f"{path} is a model of its own, not an update",
                path=str(path),
                hint="Decode it with nnbits unpack"
                + ("" if ours else "; to add it to the base all the same, give --no-check-base"),
            )
        yield file


def read_model(path: Path, *, threads: int | None = None) -> Model:
    """A model file or a stream, told by its content, with all tensors in memory.

    Raises:
        NnbitsError: BASE_MISSING if it is an update; FILE_FORMAT if it is neither a model file nor a stream; the errors
            of the file and of the stream.
    """
    from nnbits.codec.errors import NnbitsError, ReasonCode
    from nnbits.formats.registry import adapter_for_file

    try:
        adapter = adapter_for_file(path)
    except NnbitsError as error:
        if error.code is not ReasonCode.FILE_FORMAT or not path.is_file():
            raise
        try:
            with open_stream(path) as stream:
                check_is_model(stream)
                return _in_memory(stream.model(), threads)
        except NnbitsError as other:
            if other.code in _MALFORMED and path.suffix.lower() != NNC_SUFFIX:
                raise error from None
            raise
    with file_named(path):
        return _in_memory(adapter.read(path), threads)


def _in_memory(model: Model, threads: int | None) -> Model:
    from nnbits.codec.parallel import default_threads, largest_first_map
    from nnbits.codec.types import LazyTensor

    arrays = largest_first_map(
        lambda tensor: tensor.read(),
        model.tensors,
        threads=default_threads() if threads is None else threads,
        size=lambda tensor: tensor.info.nbytes,
    )
    tensors = [LazyTensor(t.info, partial(_given, array)) for t, array in zip(model.tensors, arrays, strict=True)]
    return replace(model, tensors=tensors)


def _given(array: Array) -> Array:
    return array


# ---- reports


def report_dict(report: ApplyReport, seconds: float) -> dict[str, Any]:
    """The report for ``--json``."""
    return {
        **asdict(report),
        "base": str(report.base),
        "updates": [str(path) for path in report.updates],
        "target": str(report.target),
        "digest": digest_text(report.digest),
        "seconds": round(seconds, 3),
    }


def report_text(report: ApplyReport, seconds: float) -> str:
    """The report for people."""
    return (
        f"{printable(str(report.base))} + {count(len(report.updates), 'update')} -> {printable(str(report.target))}\n"
        f"  {report.update_bytes:,} bytes of updates; {count(report.tensors, 'tensor')}, "
        f"{report.file_bytes:,} bytes ({report.format}); {seconds:.2f} s\n"
        f"  model {digest_text(report.digest)}"
    )

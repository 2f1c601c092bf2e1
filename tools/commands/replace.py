"""``nnbits replace``: new versions of single tensors, appended to a stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnbits.tools._console import count, printable, shape_text
from nnbits.tools._files import file_named, open_stream

if TYPE_CHECKING:
    from nnbits.codec.types import LazyTensor, TensorInfo

__all__ = ["ReplaceReport", "replace", "report_dict", "report_text"]


@dataclass(frozen=True)
class ReplaceReport:
    """What was done: names, bytes that were appended, and the new model digest (hexadecimal)."""

    target: Path
    tensors: tuple[str, ...]
    appended_bytes: int
    digest: str


def replace(
    target: Path,
    changes: Sequence[tuple[str, Path]],
    *,
    qp: int | None = None,
    add: bool = False,
    any_shape: bool = False,
    threads: int | None = None,
) -> ReplaceReport:
    """Append new versions of tensors to a stream of the extended profile.

    Args:
        target: the stream.
        changes: names, and files with the new values: ``.npy``, or a model file with a tensor of that name.
        qp: quantize float tensors; by default they stay exact.
        add: allow names that the stream does not have yet.
        any_shape: allow another shape or element type than the tensor had.
        threads: default: all processors.

    Raises:
        NnbitsError: NO_SUCH_TENSOR, BAD_OPTION for a name that occurs twice, the errors of streams and files.
    """
    from nnbits.codec.api import plan_exact, plan_quantized
    from nnbits.codec.errors import NnbitsError, ReasonCode
    from nnbits.codec.parallel import default_threads
    from nnbits.codec.repair import replace_tensors
    from nnbits.codec.types import Model

    target = Path(target)
    names = [name for name, _ in changes]
    if len(set(names)) != len(names) or not names:
        raise NnbitsError(ReasonCode.BAD_OPTION, "each tensor can be named once, and one at least", path="changes")
    before_infos: dict[str, TensorInfo] = {}
    with open_stream(target) as stream:
        before = stream.size
        for name in names:
            if name not in stream and not add:
                raise NnbitsError(
                    ReasonCode.NO_SUCH_TENSOR,
                    f"the stream has no tensor {name!r}",
                    path=name,
                    hint="Give --add if it is a new one",
                )
            if name in stream:
                before_infos[name] = stream.info(name)
    tensors = [_tensor(name, Path(path)) for name, path in changes]
    if not any_shape:
        for tensor, (_, path) in zip(tensors, changes, strict=True):
            _check_same(tensor.info, before_infos.get(tensor.info.name), path)
    model = Model(tensors)
    plan = plan_exact(model) if qp is None else plan_quantized(model, qp=qp)
    with file_named(target):
        digest = replace_tensors(target, tensors, plan, threads=default_threads() if threads is None else threads)
    return ReplaceReport(target, tuple(names), target.stat().st_size - before, digest.hex())


def _check_same(new: TensorInfo, old: TensorInfo | None, path: Path) -> None:
    from nnbits.codec.errors import NnbitsError, ReasonCode

    if old is not None and (new.dtype, new.shape) != (old.dtype, old.shape):
        raise NnbitsError(
            ReasonCode.BAD_OPTION,
            f"{path} is {new.dtype.name} {shape_text(new.shape)}, "
            f"the tensor {new.name!r} is {old.dtype.name} {shape_text(old.shape)}",
            path=new.name,
            hint="Give --any-shape if that is meant",
        )


def _tensor(name: str, path: Path) -> LazyTensor:
    from nnbits.codec.errors import NnbitsError, ReasonCode
    from nnbits.codec.types import LazyTensor, TensorInfo, from_numpy
    from nnbits.formats.base import open_input
    from nnbits.formats.registry import adapter_for_file

    with open_input(path) as file:
        head = file.read(6)
    if head == b"\x93NUMPY":
        import numpy as np

        try:
            return from_numpy(name, np.load(path, allow_pickle=False))
        except ValueError as error:
            raise NnbitsError(
                ReasonCode.FILE_FORMAT, f"{path} is not a usable array file: {error}", path=str(path)
            ) from error
    tensors = list(adapter_for_file(path).read(path))
    for tensor in tensors:
        if tensor.info.name == name or len(tensors) == 1:
            info = TensorInfo(name, tensor.info.dtype, tensor.info.shape)
            return LazyTensor(info, tensor.read, tensor.read_range)
    raise NnbitsError(ReasonCode.NO_SUCH_TENSOR, f"{path} has no tensor {name!r}", path=name)


def report_dict(report: ReplaceReport, seconds: float) -> dict[str, Any]:
    """The report for ``--json``."""
    return {
        "target": str(report.target),
        "tensors": list(report.tensors),
        "appended_bytes": report.appended_bytes,
        "digest": report.digest,
        "seconds": round(seconds, 3),
    }


def report_text(report: ReplaceReport, seconds: float) -> str:
    """The report for people."""
    return (
        f"{printable(str(report.target))}: {count(len(report.tensors), 'tensor')} replaced, "
        f"{report.appended_bytes:,} bytes appended; {seconds:.2f} s\n  model digest {report.digest}"
    )

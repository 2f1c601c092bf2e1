"""``nnbits diff``: the update that leads from a base model, and the updates sent so far, to a new model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nnbits.tools._console import Progress, count, printable
from nnbits.tools._files import check_output, file_named
from nnbits.tools.commands.apply import digest_text, open_update, read_model

if TYPE_CHECKING:
    from nnbits.codec.errors import NnbitsError
    from nnbits.codec.file import NncFile
    from nnbits.codec.plan import EncodePlan, Profile
    from nnbits.codec.source import UpdateMode
    from nnbits.codec.types import Array, LazyTensor, Model

__all__ = ["DiffReport", "SentTensor", "diff", "report_dict", "report_text"]


@dataclass(frozen=True)
class SentTensor:
    """One tensor of an update.

    Attributes:
        change: ``difference`` or ``full`` for one that the receiver has, else ``new``.
        coding: see :class:`nnbits.codec.decode.StoredTensor`.
        qp: quantization parameter, or None if its values are exact.
        bytes: size of the unit.
    """

    name: str
    change: Literal["difference", "full", "new"]
    coding: str
    qp: int | None
    bytes: int


@dataclass(frozen=True)
class DiffReport:
    """An update that was made.

    Attributes:
        base: the model that the first update applies to.
        after: the updates before this one.
        new: the model to reach.
        target: the update.
        mode: whether it carries differences (exact floats go complete all the same) or complete tensors.
        tensors: what it carries, in stream order.
        unchanged: names of tensors that are the same, bit for bit.
        too_small: names of tensors whose differences all quantize to zero, so that nothing is sent.
        removed: names of tensors that ``new`` does not have.
        bytes: size of the update.
        whole_bytes: size of ``new`` packed whole at the same setting; None if that was not asked for.
        exact: whether receivers then hold the tensors of ``new``, bit for bit.
        max_abs_error: largest difference of a value between theirs and ``new``; None if one is infinite.
        base_model_id: what the update applies to.
        digest: of the model that receivers then hold, see :func:`nnbits.codec.chain.model_digest`.
    """

    base: Path
    after: tuple[Path, ...]
    new: Path
    target: Path
    mode: UpdateMode
    tensors: tuple[SentTensor, ...]
    unchanged: tuple[str, ...]
    too_small: tuple[str, ...]
    removed: tuple[str, ...]
    bytes: int
    whole_bytes: int | None
    exact: bool
    max_abs_error: float | None
    base_model_id: str
    digest: str

    @property
    def changed(self) -> int:
        """Number of sent tensors that the receiver has already."""
        return sum(tensor.change != "new" for tensor in self.tensors)

    @property
    def added(self) -> int:
        """Number of new tensors."""
        return len(self.tensors) - self.changed


def diff(
    base: Path,
    new: Path,
    target: Path,
    *,
    after: Sequence[Path] = (),
    qp: int | None = None,
    nonweight_qp: int | None = None,
    bits: int | None = None,
    uniform: bool = False,
    density: int | None = None,
    full: bool = False,
    temporal: bool = True,
    history: bool = True,
    compare: bool = False,
    profile: Profile | None = None,
    threads: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> DiffReport:
    """Make an update; without ``qp`` or ``bits`` whoever applies it gets the tensors of ``new`` exactly.

    Args:
        base: a model file, or a stream; held in memory, as is ``new``.
        new: likewise: the model to reach.
        target: the update.
        after: the updates already made for ``base``, in order; they are applied first.
        qp: see :func:`~nnbits.tools.commands.pack.pack`, as are ``nonweight_qp``, ``bits``, ``uniform`` and
            ``density``; they are about the differences, unless ``full``.
        full: send changed tensors complete in place of differences.
        temporal: let the levels of the last update be contexts where that is shorter.
        history: likewise the positions that changed before.
        compare: also pack ``new`` whole at the same setting, to know the size.
        profile: kind of stream; default: ``extended`` for exact updates, which need it for lossless coding and carry
            any types, shapes and attachments; ``standard`` for others, which have no extended form.
        threads: default: all processors.
        force: replace an existing file.
        progress: called after each update and each tensor.

    Raises:
        NnbitsError: BAD_OPTION; NOT_EXACT; SHAPE_MISMATCH if a tensor has another shape or element type now;
            BASE_MISMATCH for wrong ``after``; the errors of streams and files. No output is there then.
    """
    from nnbits.codec.atomic import atomic_output
    from nnbits.codec.chain import UpdateChain
    from nnbits.codec.errors import NnbitsError, ReasonCode
    from nnbits.codec.file import NncFile
    from nnbits.codec.types import Model
    from nnbits.tools.commands.pack import choose_plan

    base, new, target = Path(base), Path(new), Path(target)
    after = tuple(Path(update) for update in after)
    options: dict[str, Any] = {
        "qp": qp,
        "nonweight_qp": nonweight_qp,
        "bits": bits,
        "uniform": uniform,
        "density": density,
    }
    quantized = qp is not None or bits is not None
    if profile is None:
        profile = "standard" if quantized else "extended"
    elif profile == "extended" and quantized:
        raise NnbitsError(ReasonCode.BAD_OPTION, "updates of the extended profile are exact", path="profile")
    choose_plan(Model([]), **options)  # contradictions are told before anything is read
    check_output(target, force=force, inputs=(base, new, *after))
    for update in after:
        with open_update(update):
            pass
    chain = UpdateChain(read_model(base, threads=threads))
    wanted = read_model(new, threads=threads)
    for update in after:
        with open_update(update) as stream:
            chain.apply(stream.stream if stream.extended is None else stream.extended)
    before = {tensor.info.name: tensor for tensor in chain.model()}

    mode: UpdateMode = "full" if full else "difference"
    with file_named(new):
        whole_bytes = _packed_bytes(wanted, choose_plan(wanted, **options), threads) if compare else None
        try:
            if profile == "extended":
                data = chain.encode_exact(_watched(wanted, progress, 3), full=full, threads=threads)
            else:
                plan = choose_plan(wanted if full else _differences(before, wanted), **options)
                data = chain.encode(
                    _watched(wanted, progress), plan, mode=mode, temporal=temporal, history=history, threads=threads
                )
        except NnbitsError as error:
            _advise(error)
            raise
    if progress is not None:
        progress(1, 1)
    made = NncFile(data)
    sent = _sent_exactly if made.extended is not None else _sent
    unsent = [tensor for tensor in wanted if tensor.info.name not in made.tensors]
    unchanged = [t.info.name for t in unsent if _same_bits(t.read(), before[t.info.name].read())]
    exact, max_abs_error = _reached(chain.model(), wanted)
    with atomic_output(target, force=force) as file:
        file.write(data)
    return DiffReport(
        base,
        after,
        new,
        target,
        mode,
        tuple(sent(made, name, mode, known=name in before) for name in made),
        tuple(unchanged),
        tuple(t.info.name for t in unsent if t.info.name not in unchanged),
        made.removed,
        len(data),
        whole_bytes,
        exact,
        max_abs_error,
        made.base_model_id or "",
        chain.digest,
    )


def _differences(before: Mapping[str, LazyTensor], wanted: Model) -> Model:
    """What the quality options are about: differences of float tensors that the receiver has, other tensors whole."""
    from nnbits.codec.types import DTYPES, LazyTensor, TensorInfo

    def planned(tensor: LazyTensor) -> LazyTensor:
        info = tensor.info
        held = before.get(info.name)
        if info.dtype.kind != "float" or held is None or held.info != info:
            return tensor
        return LazyTensor(TensorInfo(info.name, DTYPES["float32"], info.shape), partial(_difference, held, tensor))

    return replace(wanted, tensors=[planned(tensor) for tensor in wanted])


def _difference(before: LazyTensor, wanted: LazyTensor) -> Array:
    """float32; infinite or NaN where the tensor must be sent complete."""
    import numpy as np

    from nnbits.codec.convert import to_float32

    dtype = wanted.info.dtype
    with np.errstate(over="ignore", invalid="ignore"):
        difference: Array = to_float32(dtype, wanted.read()) - to_float32(dtype, before.read())
    return difference


def _packed_bytes(model: Model, plan: EncodePlan, threads: int | None) -> int:
    from nnbits.codec.api import encode

    return len(encode(model, plan=plan, threads=threads))


def _watched(model: Model, progress: Progress | None, times: int = 1) -> Model:
    """The model, whose tensors the encoder reads in any order, each so many times or less often."""
    from threading import Lock

    from nnbits.codec.types import LazyTensor

    if progress is None:
        return model
    total = times * sum(tensor.info.nbytes for tensor in model)
    done = 0
    left = {tensor.info.name: times for tensor in model}
    progress(done, total)
    one_at_a_time = Lock()

    def read(tensor: LazyTensor) -> Array:
        nonlocal done
        with one_at_a_time:
            if left[tensor.info.name]:
                left[tensor.info.name] -= 1
                done += tensor.info.nbytes
                progress(done, total)
        return tensor.read()

    return replace(model, tensors=[LazyTensor(tensor.info, partial(read, tensor)) for tensor in model])


def _advise(error: NnbitsError) -> None:
    from nnbits.codec.errors import ReasonCode

    if error.hint is not None:
        return
    if error.code is ReasonCode.SHAPE_MISMATCH:
        error.hint = "Only exact updates of the extended profile can: leave --qp out, or pack the new model instead"
    elif error.code is ReasonCode.NOT_EXACT:
        error.hint = "Choose a quality (--qp) if it is a float tensor"


def _sent_exactly(made: NncFile, name: str, mode: UpdateMode, *, known: bool) -> SentTensor:
    from nnbits.codec.syntax import AccessUnitRelation

    tensor = made.tensors[name]
    change: Literal["difference", "full", "new"] = "new"
    if known and made.extended is not None:
        units = made.extended.units_of(made.extended.tensor(name))
        relations = {made.extended.access_unit(unit).header.au_relation for unit in units}
        change = "difference" if AccessUnitRelation.XOR in relations else "full"
    return SentTensor(name, change, tensor.coding, tensor.qp, tensor.unit_bytes)


def _sent(made: NncFile, name: str, mode: UpdateMode, *, known: bool) -> SentTensor:
    stream = made.stream
    tensor = stream.tensors[name]
    change: Literal["difference", "full", "new"] = "new"
    if known:
        parent = stream.data_unit(name).body.parent_node_id_present_flag
        change = "difference" if mode == "difference" and parent else "full"
    return SentTensor(name, change, tensor.coding, stream.qp(name), tensor.unit_bytes)


def _same_bits(a: Array, b: Array) -> bool:
    return a.tobytes() == b.tobytes()


def _reached(state: Model, wanted: Model) -> tuple[bool, float | None]:
    """Whether the tensors of ``state`` are those of ``wanted`` bit for bit; the largest absolute difference."""
    import numpy as np

    exact, largest = True, 0.0
    reached = {tensor.info.name: tensor for tensor in state}
    for tensor in wanted:
        got, goal = reached[tensor.info.name].read(), tensor.read()
        if not _same_bits(got, goal):
            exact = False
            error = np.abs(_wide(tensor, got) - _wide(tensor, goal))
            largest = max(largest, float(error.max(initial=0.0)))
    return exact, largest if isfinite(largest) else None


def _wide(tensor: LazyTensor, stored: Array) -> Array:
    import numpy as np

    from nnbits.codec.convert import to_float32

    if tensor.info.dtype.name == "bfloat16":
        stored = to_float32(tensor.info.dtype, stored)
    return stored.astype(np.float64)


def report_dict(report: DiffReport, seconds: float) -> dict[str, Any]:
    """The report for ``--json``."""
    return {
        **asdict(report),
        "base": str(report.base),
        "after": [str(path) for path in report.after],
        "new": str(report.new),
        "target": str(report.target),
        "digest": digest_text(report.digest),
        "seconds": round(seconds, 3),
    }


def report_text(report: DiffReport, seconds: float) -> str:
    """The report for people."""
    base = printable(str(report.base)) + (f" + {count(len(report.after), 'update')}" if report.after else "")
    same = f"{len(report.unchanged):,} unchanged"
    if report.too_small:
        same += f", {len(report.too_small):,} too little changed to send"
    lines = [
        f"{base} -> {printable(str(report.new))}: {printable(str(report.target))}",
        f"  {report.bytes:,} bytes; {seconds:.2f} s",
        f"  tensors: {report.changed:,} changed, {same}, {report.added:,} new, {len(report.removed):,} removed",
    ]
    if report.whole_bytes is not None:
        percent = 100 * report.bytes / report.whole_bytes
        lines.append(
            f"  the new model packed whole: {report.whole_bytes:,} bytes; the update is {percent:.1f} % of that"
        )
    if report.exact:
        lines.append("  exact: apply gives every value of the new model")
    elif report.max_abs_error is None:
        lines.append("  apply gives values of which one is infinite, unlike in the new model")
    else:
        lines.append(f"  apply gives values within {report.max_abs_error:.3g} of the new model")
    lines.append(f"  applies to {printable(report.base_model_id)}")
    return "\n".join(lines)

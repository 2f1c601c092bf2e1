"""``nnbits pack``: a model file to an NNC stream."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

from nnbits.tools._console import Progress, count, printable
from nnbits.tools._files import check_output, file_named, is_pipe, packed_path, tree_size
from nnbits.tools._models import counter

if TYPE_CHECKING:
    from nnbits.codec.api import PackReport
    from nnbits.codec.plan import EncodePlan, MapChoice, Profile, Speed
    from nnbits.codec.types import Model
    from nnbits.tools._restored import Restored

__all__ = [
    "choose_plan",
    "is_standard",
    "load_plan",
    "pack",
    "print_prune_report",
    "report_dict",
    "report_text",
    "spare",
]

_DEFAULT_DENSITY: Final = 2
_MAX_PLAN_BYTES: Final = 1 << 30
_SHOWN_NAMES: Final = 3


def pack(
    source: Path,
    target: Path | None = None,
    *,
    qp: int | None = None,
    nonweight_qp: int | None = None,
    bits: int | None = None,
    uniform: bool = False,
    density: int | None = None,
    scan_order: int = 0,
    lambda_scale: float = 0.0,
    search: bool = False,
    compat: Literal["nncodec"] | None = None,
    profile: Profile | None = None,
    speed: Speed | None = None,
    pruning_container: bool = False,
    sparse_map: MapChoice | None = None,
    plan: Path | None = None,
    save_plan: Path | None = None,
    threads: int | None = None,
    memory: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
    announce: Callable[[Restored], None] | None = None,
) -> PackReport:
    """Pack a model file; without ``qp``, ``bits`` or ``plan`` every value comes back exactly.

    Args:
        source: the model file.
        target: the stream, ``-`` for standard output; default: :func:`~nnbits.tools._files.packed_path` of ``source``.
        qp: quantization parameter of the weights (two or more dimensions): 4 less halve the step at density 2.
        nonweight_qp: that of the other float tensors; default: that of ``default_nonweight_qp``, very fine.
        bits: in place of ``qp``: bits of each quantized value.
        uniform: uniform instead of dependent (trellis) quantization.
        density: 0..7; 2^density QPs halve the step; default 2.
        scan_order: with ``qp``: 0..4, block scan of large weights, which several threads can decode together.
        lambda_scale: with ``qp`` or ``bits``: how bits count against the error of weights, e.g. 1; 0: not.
        search: code every tensor in several ways and keep the smallest of equal quality; slow.
        compat: refuse what this other decoder cannot read.
        profile: kind of stream; default: that of ``plan``, ``standard`` with ``compat``, else ``extended``.
        speed: what exact coding in the extended profile looks for, see :class:`~nnbits.codec.plan.EncodePlan`.
        sparse_map: in the extended profile, see :data:`~nnbits.codec.plan.MapChoice`; default: by size.
        pruning_container: with profile ``standard``, see :class:`~nnbits.codec.plan.EncodePlan`.
        plan: JSON file with the plan to execute; in place of all of the above.
        save_plan: where to write the plan that was executed.
        threads: default: all processors.
        memory: budget in the extended profile, bytes.
        force: replace existing outputs.
        progress: called after each tensor.
        announce: called before packing with what unpack will give back.

    Raises:
        NnbitsError: BAD_OPTION for contradictory options; NOT_EXACT; the errors of the files. No output is there then.
    """
    from nnbits.codec.api import pack_model
    from nnbits.formats import inexact, kept_exact, plain
    from nnbits.formats.registry import adapter_for_file

    _check_options(qp, nonweight_qp, bits, uniform, density, profile, plan)
    source = Path(source)
    target = packed_path(source) if target is None else Path(target)
    whole = model = adapter_for_file(source).read(source)
    if is_standard(profile, compat, plan):
        model = plain(model)
    for output in (target, save_plan):
        if output is not None:
            check_output(output, force=force, inputs=(source,) if plan is None else (source, plan))
    chosen = choose_plan(
        model,
        qp=qp,
        nonweight_qp=nonweight_qp,
        bits=bits,
        uniform=uniform,
        density=density,
        scan_order=scan_order,
        lambda_scale=lambda_scale,
        search=search,
        compat=compat,
        profile=profile,
        plan=plan,
        threads=threads,
    )
    if speed is not None:
        chosen = replace(chosen, speed=speed)
    if pruning_container:
        chosen = replace(chosen, pruning_container=True)
    if sparse_map is not None:
        chosen = replace(chosen, sparse_map=sparse_map)
    if plan is None:
        chosen = spare(chosen, model, kept_exact(whole))
    if announce is not None:
        from nnbits.tools._restored import restored

        announce(restored(whole, chosen))
    if any(tensor.qp is not None for tensor in chosen.tensors.values()):
        model = inexact(model)
    with _plan_output(save_plan, chosen, force=force):
        on_tensor = counter(model, progress)
        options: dict[str, Any] = {"threads": threads, "on_tensor": on_tensor}
        if memory is not None:
            options["memory"] = memory
        if is_pipe(target):
            return _pack_to_standard_output(model, chosen, options)
        return pack_model(model, target, plan=chosen, force=force, **options)


def _pack_to_standard_output(model: Model, plan: EncodePlan, options: dict[str, Any]) -> PackReport:
    import sys

    from nnbits.codec.api import encode_to
    from nnbits.codec.encode import check_exact

    check_exact(model, plan)
    report = encode_to(model, plan, sys.stdout.buffer, **options)
    sys.stdout.buffer.flush()
    return report


def is_standard(profile: Profile | None, compat: str | None, plan: Path | None) -> bool:
    """Whether the stream will be of the standard profile, which carries tensors and no template."""
    if profile is None and plan is not None and not compat:
        return load_plan(plan).profile == "standard"
    return profile == "standard" or (profile is None and compat is not None)


def spare(plan: EncodePlan, model: Model, names: Collection[str]) -> EncodePlan:
    """The plan with these tensors kept exact: what is quantized already."""
    from nnbits.codec.api import plan_exact

    if not any(plan.tensors[name].qp is not None for name in names if name in plan.tensors):
        return plan
    exact = plan_exact(replace(model, tensors=[t for t in model if t.info.name in names]), profile=plan.profile)
    return replace(plan, tensors={**plan.tensors, **exact.tensors})


def choose_plan(
    model: Model,
    *,
    qp: int | None = None,
    nonweight_qp: int | None = None,
    bits: int | None = None,
    uniform: bool = False,
    density: int | None = None,
    scan_order: int = 0,
    lambda_scale: float = 0.0,
    search: bool = False,
    compat: Literal["nncodec"] | None = None,
    profile: Profile | None = None,
    plan: Path | None = None,
    threads: int | None = None,
) -> EncodePlan:
    """The plan that the options of :func:`pack` ask for.

    Raises:
        NnbitsError: BAD_OPTION if they contradict each other; the errors of the plan file.
    """
    from nnbits.codec.api import with_profile

    _check_options(qp, nonweight_qp, bits, uniform, density, profile, plan)
    if scan_order and qp is None:
        _refuse("--scan-order needs --qp")
    if lambda_scale and qp is None and bits is None:
        _refuse("--lambda needs --qp or --bits")
    chosen = _base_plan(model, qp, nonweight_qp, bits, uniform, density, scan_order, plan)
    if lambda_scale:
        chosen = _weighed(model, chosen, lambda_scale)
    if search:
        from nnbits.tools.methods.search import plan_search

        chosen = plan_search(model, chosen, threads=threads)
    if compat:
        chosen = replace(chosen, compat=compat)
    if profile is None:
        profile = "standard" if compat else chosen.profile if plan is not None else "extended"
    if profile == "extended" and compat:
        _refuse(f"--compat {compat} needs --profile standard")
    return with_profile(chosen, profile)


def _base_plan(
    model: Model,
    qp: int | None,
    nonweight_qp: int | None,
    bits: int | None,
    uniform: bool,
    density: int | None,
    scan_order: int,
    plan: Path | None,
) -> EncodePlan:
    from nnbits.codec.api import plan_exact, plan_quantized

    # The methods know the codings of the standard profile; what is exact is adapted to the other one at the end.
    if density is None:
        density = _DEFAULT_DENSITY
    if plan is not None:
        return load_plan(plan)
    if bits is not None:
        from nnbits.tools.methods.quantize import plan_bits

        return plan_bits(model, bits, qp_density=density)
    if qp is None:
        return plan_exact(model, profile="standard")
    return plan_quantized(
        model,
        qp=qp,
        nonweight_qp=nonweight_qp,
        dependent=not uniform,
        qp_density=density,
        scan_order=scan_order,
        profile="standard",
    )


def _weighed(model: Model, plan: EncodePlan, lambda_scale: float) -> EncodePlan:
    """The plan with this weight of the rate for the weights; other tensors keep their least error."""
    from nnbits.codec.plan import QUANTIZED

    tensors = dict(plan.tensors)
    for tensor in model:
        how = tensors[tensor.info.name]
        if how.coding in QUANTIZED and len(tensor.info.shape) > 1:
            tensors[tensor.info.name] = replace(how, lambda_scale=lambda_scale)
    return replace(plan, tensors=tensors)


def _refuse(message: str, hint: str | None = None) -> NoReturn:
    from nnbits.codec.errors import NnbitsError, ReasonCode

    raise NnbitsError(ReasonCode.BAD_OPTION, message, hint=hint)


def _check_options(
    qp: int | None = None,
    nonweight_qp: int | None = None,
    bits: int | None = None,
    uniform: bool = False,
    density: int | None = None,
    profile: str | None = None,
    plan: Path | None = None,
) -> None:
    """Refuse options of :func:`pack` that contradict each other.

    Raises:
        NnbitsError: BAD_OPTION.
    """
    from nnbits.codec.quant.step import qp_range

    quality = [name for name, value in (("--qp", qp), ("--bits", bits), ("--plan", plan)) if value is not None]
    if len(quality) > 1:
        _refuse(f"{' and '.join(quality)} exclude each other")
    if nonweight_qp is not None and qp is None:
        _refuse("--nonweight-qp needs --qp")
    for name, given in (("--uniform", uniform), ("--density", density is not None)):
        if given and qp is None and bits is None:
            _refuse(f"{name} needs --qp or --bits")
    if density is not None and not 0 <= density <= 7:
        _refuse("--density must lie in 0..7")
    low, high = qp_range(_DEFAULT_DENSITY if density is None else density)
    for name, value in (("--qp", qp), ("--nonweight-qp", nonweight_qp)):
        if value is not None and not low <= value <= high:
            _refuse(f"{name} {value} lies outside {low}..{high}")
    if profile not in (None, "standard", "extended"):
        _refuse(f"there is no profile {profile!r}", "Known: standard, extended")


def load_plan(path: Path) -> EncodePlan:
    """Read a plan written by ``--save-plan``.

    Raises:
        NnbitsError: FILE_NOT_FOUND, FILE_IO, FILE_FORMAT if it is no JSON object; BAD_OPTION if it is no plan.
    """
    import json

    from nnbits.codec.errors import NnbitsError, ReasonCode
    from nnbits.codec.plan import EncodePlan
    from nnbits.formats.base import open_input

    with open_input(path) as file:
        raw = bytearray()
        while len(raw) <= _MAX_PLAN_BYTES and (part := file.read(1 << 20)):
            raw += part
    try:
        data = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise NnbitsError(ReasonCode.FILE_FORMAT, f"{path} is not JSON: {error}", path=str(path)) from None
    if not isinstance(data, dict):
        raise NnbitsError(ReasonCode.FILE_FORMAT, f"{path} is not a plan: no JSON object", path=str(path))
    with file_named(path):
        try:
            return EncodePlan.from_dict(data)
        except (TypeError, ValueError, AttributeError) as error:
            raise NnbitsError(ReasonCode.BAD_OPTION, f"not a plan: {error}", path="plan") from error


@contextmanager
def _plan_output(path: Path | None, plan: EncodePlan, *, force: bool) -> Iterator[None]:
    """Write the plan first, but let it appear only if the block succeeds."""
    if path is None:
        yield
        return
    import json

    from nnbits.codec.atomic import atomic_output

    with atomic_output(path, force=force) as file:
        file.write((json.dumps(plan.to_dict(), indent=1) + "\n").encode("utf-8"))
        file.flush()
        yield


def report_dict(
    report: PackReport, source: Path, target: Path, seconds: float, restores: Restored | None = None
) -> dict[str, Any]:
    """The report for ``--json``; ``source_bytes`` and ``ratio`` are about the files."""
    source_bytes = tree_size(source)
    return {
        "source": str(source),
        "target": str(target),
        "source_bytes": source_bytes,
        "tensor_bytes": report.source_bytes,
        "stream_bytes": report.stream_bytes,
        "ratio": source_bytes / report.stream_bytes,
        "bits_per_weight": _bits_per_weight(report),
        "seconds": round(seconds, 3),
        **({} if restores is None else {"restores": restores.to_dict()}),
        "tensors": [asdict(tensor) for tensor in report.tensors],
    }


def report_text(
    report: PackReport, source: Path, target: Path, seconds: float, restores: Restored | None = None
) -> str:
    """The report for people."""
    source_bytes = tree_size(source)
    bits = _bits_per_weight(report)
    numbers = [
        f"{100 * report.stream_bytes / source_bytes:.1f} %",
        f"ratio {source_bytes / report.stream_bytes:.2f}",
    ]
    if bits is not None:
        numbers.append(f"{bits:.2f} bits per weight")
    lines = [
        f"{printable(str(source))} -> {printable(str(target))}",
        f"  {source_bytes:,} -> {report.stream_bytes:,} bytes: {', '.join(numbers)}",
        f"  {count(len(report.tensors), 'tensor')}: {_codings(report)}; {seconds:.2f} s",
    ]
    if all(tensor.qp is None for tensor in report.tensors):
        same = restores is not None and restores.kind == "identical"
        what = f"the same {'folder' if source.is_dir() else 'file'}, byte for byte" if same else "every value"
        lines.append(f"  exact: unpack gives back {what}; for a smaller file choose a quality, e.g. --qp -32")
    if report.stream_bytes > source_bytes and any(
        tensor.coding == "raw" and tensor.dtype in ("float16", "bfloat16") for tensor in report.tensors
    ):
        lines.append("  note: larger than the original, because the standard profile keeps exact floats in 32 bits")
    return "\n".join(lines + _notes(report))


def print_prune_report(report: PackReport) -> None:
    """How sparse each tensor is, which map was chosen for it and what that saved, as a table on standard output."""
    from math import prod

    from nnbits.tools._console import new_table, output_console

    table = new_table(footer=True)
    saved = sum(tensor.sparse.saved_bytes for tensor in report.tensors if tensor.sparse)
    table.add_column("tensor", "total", overflow="fold")
    for name in ("elements", "zeros", "map", "map bytes", "bytes"):
        table.add_column(name, justify="left" if name == "map" else "right", no_wrap=True)
    table.add_column("saved", f"{saved:,}", justify="right", no_wrap=True)
    for tensor in report.tensors:
        elements, sparse = prod(tensor.shape), tensor.sparse
        zeros = "" if sparse is None or not elements else f"{100 * (1 - sparse.nonzero / elements):.1f} %"
        mapped = ("", "", "")
        if sparse is not None and sparse.maps:
            mapped = (", ".join(sparse.maps), f"{sparse.map_bytes:,}", f"{sparse.saved_bytes:,}")
        name, size = printable(tensor.name), f"{tensor.unit_bytes:,}"
        table.add_row(name, f"{elements:,}", zeros, *mapped[:2], size, mapped[2])
    output_console().print(table)


def _bits_per_weight(report: PackReport) -> float | None:
    from math import prod

    elements = sum(prod(tensor.shape) for tensor in report.tensors)
    return 8 * report.stream_bytes / elements if elements else None


def _codings(report: PackReport) -> str:
    """``12 dependent (QP -40 .. -32), 3 integer``."""
    groups: dict[str, list[int]] = {}
    numbers: dict[str, int] = {}
    for tensor in report.tensors:
        numbers[tensor.coding] = numbers.get(tensor.coding, 0) + 1
        if tensor.qp is not None:
            groups.setdefault(tensor.coding, []).append(tensor.qp)
    parts = []
    for coding, number in numbers.items():
        qps = sorted(set(groups.get(coding, [])))
        if not qps:
            parts.append(f"{number:,} {coding}")
        elif len(qps) <= 2:
            parts.append(f"{number:,} {coding} (QP {' and '.join(map(str, qps))})")
        else:
            parts.append(f"{number:,} {coding} (QP {qps[0]} to {qps[-1]})")
    return ", ".join(parts) or "none"


def _notes(report: PackReport) -> list[str]:
    names: dict[str, list[str]] = {}
    for tensor in report.tensors:
        if tensor.note:
            names.setdefault(tensor.note, []).append(printable(tensor.name))
    lines = []
    for note, tensors in names.items():
        shown = ", ".join(tensors[:_SHOWN_NAMES])
        more = f" and {len(tensors) - _SHOWN_NAMES:,} more" if len(tensors) > _SHOWN_NAMES else ""
        lines.append(f"  note: {printable(note)}: {shown}{more}")
    return lines

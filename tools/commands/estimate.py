"""``nnbits pack --estimate``: what packing would give, from a sample."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nnbits.tools._console import count, printable
from nnbits.tools._files import file_named, tree_size

if TYPE_CHECKING:
    from nnbits.codec.plan import EncodePlan
    from nnbits.codec.types import Model
    from nnbits.tools.methods.estimate import Estimate

__all__ = ["estimate_pack", "report_dict", "report_text"]

_OFF_AT_ZERO: Final = ("scan_order", "lambda_scale")


def estimate_pack(
    source: Path, *, threads: int | None = None, sample_bytes: int | None = None, **options: Any
) -> Estimate:
    """Predict what :func:`~nnbits.tools.commands.pack.pack` would give for a model file; nothing is written.

    Args:
        source: the model file.
        threads: default: all processors.
        sample_bytes: how much of the tensors is coded.
        options: of ``pack``. With any that asks for a quality or a kind of stream, this is predicted beside exact
            coding; else 8 and 4 bits are.

    Raises:
        NnbitsError: BAD_OPTION for contradictory options, and for a plan that cannot be executed on a sample; the
            errors of the file.
    """
    from nnbits.codec.types import Model
    from nnbits.formats import kept_exact, plain
    from nnbits.formats.registry import adapter_for_file
    from nnbits.tools.commands.pack import choose_plan, is_standard, spare
    from nnbits.tools.methods.estimate import DEFAULT_SAMPLE, estimate

    source = Path(source)
    given = {name: value for name, value in options.items() if value is not None and value is not False}
    given = {name: value for name, value in given.items() if value or name not in _OFF_AT_ZERO}
    speed = given.pop("speed", "balanced")
    sparse_map = given.pop("sparse_map", "size")
    choose_plan(Model(()), **given)  # refuses what contradicts itself, before anything is read
    model = adapter_for_file(source).read(source)
    spared = kept_exact(model)
    if is_standard(given.get("profile"), given.get("compat"), given.get("plan")):
        model = plain(model)

    def asked(part: Model) -> EncodePlan:
        plan = choose_plan(part, threads=threads, **given)
        if "plan" in given:
            return _on_sample(plan, part)
        return spare(replace(plan, speed=speed, sparse_map=sparse_map), part, spared)

    with file_named(source):
        sample = DEFAULT_SAMPLE if sample_bytes is None else sample_bytes
        return estimate(
            model,
            threads=threads,
            sample_bytes=sample,
            speed=speed,
            spared=sorted(spared),
            asked=asked if given or sparse_map != "size" else None,
        )


def _on_sample(plan: EncodePlan, part: Model) -> EncodePlan:
    from nnbits.codec.errors import NnbitsError, ReasonCode

    names = [tensor.info.name for tensor in part]
    if plan.blocks or any(how.zero_rows for how in plan.tensors.values()):
        raise NnbitsError(
            ReasonCode.BAD_OPTION,
            "--estimate cannot try a plan with blocks or zero rows on a sample",
            path="plan",
            hint="Pack with it to know the size",
        )
    missing = [name for name in names if name not in plan.tensors]
    if missing:
        raise NnbitsError(ReasonCode.BAD_OPTION, f"the plan has no tensor {missing[0]!r}", path="plan")
    return replace(plan, tensors={name: plan.tensors[name] for name in names})


def report_dict(found: Estimate, source: Path) -> dict[str, Any]:
    """The estimate for ``--json``."""
    return {"source": str(source), "source_bytes": tree_size(source), **asdict(found)}


def report_text(found: Estimate, source: Path) -> str:
    """The estimate for people."""
    width = max(len(row.name) for row in found.rows)
    lines = [
        f"{printable(str(source))}: {tree_size(source):,} bytes; predicted from {found.sample_bytes:,} bytes of "
        f"tensors, {count(found.threads, 'thread')}; nothing was written"
    ]
    for row in found.rows:
        lines.append(
            f"  {row.name:<{width}}  {row.stream_bytes:>15,} bytes  {100 * row.ratio:5.1f} %  "
            f"coding {row.pack_seconds:.1f} s, decoding {row.unpack_seconds:.1f} s"
        )
    return "\n".join([*lines, f"  {found.advice}"])

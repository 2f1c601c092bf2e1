"""Arguments of ``diff``, ``apply`` and ``replace``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from nnbits.tools._console import progress_bar

from ._common import FILE, FORCE, JSON, QUIET, THREADS, show

__all__ = ["apply", "diff", "replace"]


@click.command(name="diff", short_help="What changed in a model, as an update.")
@click.argument("base", metavar="BASE", type=FILE)
@click.argument("new", metavar="NEW", type=FILE)
@click.argument("target", metavar="OUT", type=FILE)
@click.option("--after", type=FILE, multiple=True, metavar="UPDATE", help="An update sent before; repeat it in order.")
@click.option("--qp", type=int, metavar="N", help="Quality of the weights, e.g. -32; 4 less halve the step size.")
@click.option("--nonweight-qp", type=int, metavar="N", help="QP of biases and the like.  [default: very fine]")
@click.option("--bits", type=click.IntRange(2, 32), metavar="N", help="Quality as bits for each value, 2 to 32.")
@click.option("--uniform", is_flag=True, help="With --qp: plain rounding in place of the trellis.")
@click.option("--density", type=click.IntRange(0, 7), metavar="N", help="2^N QPs halve the step size.  [default: 2]")
@click.option("--full", is_flag=True, help="Send changed tensors complete, not as differences.")
@click.option("--no-temporal", is_flag=True, help="Code without regard to the values of the last update.")
@click.option("--no-history", is_flag=True, help="Code without regard to what changed in earlier updates.")
@click.option("--compare", is_flag=True, help="Tell the size of NEW packed whole at the same quality.")
@click.option(
    "--profile", type=click.Choice(["standard", "extended"]), help="Kind of stream.  [default: extended if exact]"
)
@THREADS
@FORCE
@JSON
@QUIET
def diff(
    base: Path,
    new: Path,
    target: Path,
    no_temporal: bool,
    no_history: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Make the update OUT that turns the model BASE into the model NEW.

    BASE and NEW are model files or NNC streams. If updates of BASE were sent before, name them with --after, in order:
    OUT then continues from there. Without --qp or --bits the result is exact.

    \b
    nnbits diff model.safetensors tuned.safetensors update.nnc --qp -32
    nnbits diff model.safetensors tuned2.safetensors update2.nnc --qp -32 --after update.nnc
    """
    from nnbits.tools.commands import diff as command

    start = time.perf_counter()
    with progress_bar("Comparing", enabled=not (as_json or quiet)) as progress:
        report = command.diff(
            base, new, target, temporal=not no_temporal, history=not no_history, progress=progress, **options
        )
    show(command, report, time.perf_counter() - start, as_json, quiet)


@click.command(name="apply", short_help="Model and updates to the newer model.")
@click.argument("base", metavar="BASE", type=FILE)
@click.argument("updates", metavar="UPDATE...", type=FILE, nargs=-1, required=True)
@click.option("--out", "-o", "target", type=FILE, required=True, metavar="OUT", help="The model file, or .nnc stream.")
@click.option("--to", metavar="FORMAT", help="Format of OUT, nnc for a stream.  [default: by its suffix]")
@click.option("--no-check-base", is_flag=True, help="Apply the updates even if they were made for another model.")
@THREADS
@FORCE
@JSON
@QUIET
def apply(
    base: Path,
    updates: tuple[Path, ...],
    target: Path,
    no_check_base: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Apply the updates to the model BASE, in order, and write the model OUT.

    BASE is a model file or an NNC stream. An .nnc stream OUT holds the result exactly. An update that was made for
    another model, or comes too early or too late, is refused.

    \b
    nnbits apply model.safetensors update.nnc -o tuned.safetensors
    nnbits apply model.safetensors update.nnc update2.nnc -o tuned2.nnc
    """
    from nnbits.tools.commands import apply as command

    start = time.perf_counter()
    with progress_bar("Applying", enabled=not (as_json or quiet)) as progress:
        report = command.apply(base, updates, target, check_base=not no_check_base, progress=progress, **options)
    show(command, report, time.perf_counter() - start, as_json, quiet)


@click.command(name="replace", short_help="New versions of single tensors.")
@click.argument("target", metavar="FILE", type=FILE)
@click.argument("changes", metavar="NAME=ARRAYFILE...", nargs=-1, required=True)
@click.option("--qp", type=int, metavar="N", help="Quality of float tensors.  [default: exact]")
@click.option("--add", is_flag=True, help="Allow names that FILE does not have yet.")
@click.option("--any-shape", is_flag=True, help="Allow another shape or element type than the tensor has.")
@THREADS
@JSON
@QUIET
def replace(target: Path, changes: tuple[str, ...], as_json: bool, quiet: bool, **options: Any) -> None:
    """Append new versions of tensors to the NNC stream FILE.

    ARRAYFILE is a .npy file, or a model file with a tensor NAME. The rest of FILE is neither read nor written.

    \b
    nnbits replace model.nnc classifier.weight=new.npy
    nnbits replace model.nnc classifier.weight=tuned.safetensors classifier.bias=tuned.safetensors
    """
    from nnbits.tools.commands import replace as command

    pairs = []
    for change in changes:
        name, sign, path = change.rpartition("=")
        if not sign:
            raise click.UsageError(f"{change!r} is not NAME=ARRAYFILE")
        pairs.append((name, Path(path)))
    start = time.perf_counter()
    report = command.replace(target, pairs, **options)
    show(command, report, time.perf_counter() - start, as_json, quiet)

"""Arguments of ``pack``, ``unpack``, ``verify``, ``recover`` and ``sign``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from nnbits.tools._console import print_json, printable, progress_bar
from nnbits.tools._exits import ExitCode

from ._common import FILE, FORCE, JSON, OUT, PATH, QUIET, SIZE, THREADS, one_output, show

if TYPE_CHECKING:
    from nnbits.tools._restored import Restored

__all__ = ["pack", "recover", "sign", "unpack", "verify"]

_MAPS: Final = ("size", "none", "raw", "bitmask", "two_level", "gaps", "pattern", "structured", "coded")


@click.command(name="pack", short_help="Model file to NNC stream.")
@click.argument("source", metavar="IN", type=FILE)
@click.argument("target", metavar="[OUT]", type=PATH, required=False)
@click.option("--qp", type=int, metavar="N", help="Quality of the weights, e.g. -32; 4 less halve the step size.")
@click.option("--nonweight-qp", type=int, metavar="N", help="QP of biases and the like.  [default: very fine]")
@click.option("--bits", type=click.IntRange(2, 32), metavar="N", help="Quality as bits for each value, 2 to 32.")
@click.option("--uniform", is_flag=True, help="With --qp: plain rounding in place of the trellis.")
@click.option("--density", type=click.IntRange(0, 7), metavar="N", help="2^N QPs halve the step size.  [default: 2]")
@click.option(
    "--scan-order",
    type=click.IntRange(0, 4),
    metavar="N",
    default=0,
    help="With --qp: blocks in large weights, for parallel decoding of one tensor; 4 costs least.",
)
@click.option(
    "--lambda",
    "lambda_scale",
    type=click.FloatRange(min=0),
    metavar="X",
    default=0.0,
    help="With --qp or --bits: how much the size of weights counts against their error, e.g. 1; slower, smaller files.",
)
@click.option("--search", is_flag=True, help="Code every tensor in several ways, keep the smallest; slow.")
@click.option("--compat", type=click.Choice(["nncodec"]), help="Refuse what this other decoder cannot read.")
@click.option(
    "--profile",
    type=click.Choice(["extended", "standard"]),
    help="extended: random access, checksums; standard: for any NNC decoder.  [default: extended]",
)
@click.option("--memory", type=SIZE, metavar="SIZE", help="Budget for tensors in work, e.g. 128M.  [default: 256M]")
@click.option("--speed", type=click.Choice(["fast", "balanced", "small"]), help="Of exact coding.  [default: balanced]")
@click.option("--plan", type=FILE, metavar="FILE", help="Pack as this JSON plan says, tensor by tensor.")
@click.option("--save-plan", type=FILE, metavar="FILE", help="Write the plan that was used.")
@click.option(
    "--sparse-map", type=click.Choice(_MAPS), help="Of pruned tensors.  [default: size, whatever is smallest]"
)
@click.option("--pruning-container", is_flag=True, help="With --profile standard: leave out what is zero, say which.")
@click.option("--prune-report", is_flag=True, help="Show how sparse each tensor is, its map and what that saved.")
@click.option("--estimate", is_flag=True, help="Only predict sizes and times, from a sample; nothing is written.")
@OUT
@THREADS
@FORCE
@JSON
@QUIET
def pack(
    source: Path,
    target: Path | None,
    out: Path | None,
    prune_report: bool,
    estimate: bool,
    threads: int | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Pack the model file IN into the NNC stream OUT.

    IN is a model file of any usual format, or a folder with one. OUT is IN with the suffix .nnc if not given, standard
    output if it is -. Without --qp, --bits or --plan the result is exact: unpack gives back the same file. Where it
    cannot, a line says so, and why, before packing begins.

    \b
    nnbits pack model.safetensors
    nnbits pack model.gguf shipped.nnc --speed small
    nnbits pack model-folder/ small.nnc --qp -32
    nnbits pack model.onnx --bits 8 --estimate
    """
    from nnbits.tools._files import is_pipe, packed_path
    from nnbits.tools.commands import pack as command

    target = one_output(target, out)
    if estimate:
        _estimate(source, threads, as_json, quiet, prune_report, options)
        return
    told: list[Restored] = []

    def announce(found: Restored) -> None:
        told.append(found)
        if found.reasons and not (as_json or quiet):
            click.echo(f"nnbits: note: {found.sentence()}", err=True)

    start = time.perf_counter()
    with progress_bar("Packing", enabled=not (as_json or quiet)) as progress:
        report = command.pack(source, target, threads=threads, progress=progress, announce=announce, **options)
    seconds = time.perf_counter() - start
    shown = packed_path(source) if target is None else target
    if is_pipe(shown):
        if not quiet:
            click.echo(command.report_text(report, source, shown, seconds, told[0]), err=True)
    elif as_json:
        print_json(command.report_dict(report, source, shown, seconds, told[0]))
    elif not quiet:
        if prune_report:
            command.print_prune_report(report)
        click.echo(command.report_text(report, source, shown, seconds, told[0]))


def _estimate(
    source: Path, threads: int | None, as_json: bool, quiet: bool, prune_report: bool, options: dict[str, Any]
) -> None:
    from nnbits.tools.commands import estimate as command

    whole = {
        "--save-plan": options.pop("save_plan") is not None,
        "--prune-report": prune_report,
        "--pruning-container": options.pop("pruning_container"),
    }
    for name, given in whole.items():
        if given:
            raise click.UsageError(f"{name} needs a whole packing, --estimate tries a sample")
    for name in ("force", "memory"):  # no matter for sizes
        options.pop(name)
    found = command.estimate_pack(source, threads=threads, **options)
    if as_json:
        print_json(command.report_dict(found, source))
    elif not quiet:
        click.echo(command.report_text(found, source))


@click.command(name="unpack", short_help="NNC stream to model file.")
@click.argument("source", metavar="IN", type=PATH)
@click.argument("target", metavar="[OUT]", type=PATH, required=False)
@click.option("--to", metavar="FORMAT", help="Format of OUT.  [default: by its suffix, else the one that was packed]")
@OUT
@THREADS
@FORCE
@JSON
@QUIET
def unpack(source: Path, target: Path | None, out: Path | None, as_json: bool, quiet: bool, **options: Any) -> None:
    """Decode the NNC stream IN into the model file OUT.

    OUT is IN with the suffix of the format that was packed if not given, standard output if it is -. IN is standard
    input if it is -.

    \b
    nnbits unpack model.nnc
    nnbits unpack model.nnc back.safetensors
    nnbits unpack model.nnc --to npz
    curl -s https://models.example.org/model.nnc | nnbits unpack - model.safetensors
    """
    from nnbits.tools._files import is_pipe
    from nnbits.tools.commands import unpack as command

    target = one_output(target, out)
    start = time.perf_counter()
    with progress_bar("Unpacking", enabled=not (as_json or quiet)) as progress:
        report = command.unpack(source, target, progress=progress, **options)
    seconds = time.perf_counter() - start
    if not is_pipe(report.target):
        show(command, report, seconds, as_json, quiet)
    elif not quiet:
        click.echo(command.report_text(report, seconds), err=True)


@click.command(name="verify", short_help="Check a stream for damage.")
@click.argument("source", metavar="IN", type=FILE)
@click.option("--key", type=FILE, metavar="PEM", help="Public key: check the signature too.")
@click.option("--signature", type=FILE, metavar="FILE", help="The signature.  [default: IN.sig]")
@THREADS
@JSON
@QUIET
def verify(
    source: Path, key: Path | None, signature: Path | None, threads: int | None, as_json: bool, quiet: bool
) -> int:
    """Check the NNC stream IN: its structure, its checksums and digests, and that all values decode.

    Problems are listed with the tensors that they concern; the exit code is then 4.

    \b
    nnbits verify model.nnc
    nnbits verify model.nnc --key key.pub       the signature too
    """
    from nnbits.tools.commands import verify as command

    start = time.perf_counter()
    with progress_bar("Checking", enabled=not (as_json or quiet)) as progress:
        report = command.verify(source, key=key, signature=signature, threads=threads, progress=progress)
    seconds = time.perf_counter() - start
    if as_json:
        print_json(command.report_dict(report, seconds))
    elif not quiet or report.found.problems:
        click.echo(command.report_text(report, seconds))
    return ExitCode.DAMAGED if report.found.problems else ExitCode.OK


@click.command(name="recover", short_help="What is complete in a cut stream.")
@click.argument("source", metavar="IN", type=FILE)
@click.argument("target", metavar="OUT", type=FILE)
@FORCE
@JSON
@QUIET
def recover(source: Path, target: Path, force: bool, as_json: bool, quiet: bool) -> None:
    """Save what is complete in the cut or damaged NNC stream IN as the NNC stream OUT.

    That is the last complete state of IN if there is one, else all tensors that are there as a whole.

    \b
    nnbits recover cut.nnc rescued.nnc
    """
    from nnbits.tools.commands import recover as command

    start = time.perf_counter()
    report = command.recover(source, target, force=force)
    show(command, report, time.perf_counter() - start, as_json, quiet)


@click.command(name="sign", short_help="Sign a stream.")
@click.argument("source", metavar="IN", type=FILE)
@click.option("--key", type=FILE, required=True, metavar="PEM", help="Private key on an elliptic curve.")
@click.option("--signature", type=FILE, metavar="FILE", help="The output.  [default: IN.sig]")
@FORCE
@JSON
@QUIET
def sign(source: Path, key: Path, signature: Path | None, force: bool, as_json: bool, quiet: bool) -> None:
    """Sign the file IN as OpenSSF Model Signing does; needs the package model-signing.

    \b
    openssl ecparam -name prime256v1 -genkey -noout -out key.pem
    openssl ec -in key.pem -pubout -out key.pub
    nnbits sign model.nnc --key key.pem
    nnbits verify model.nnc --key key.pub
    """
    from nnbits.tools.commands import sign as command

    target = command.sign(source, key, signature, force=force)
    if as_json:
        print_json({"source": str(source), "signature": str(target)})
    elif not quiet:
        click.echo(f"{printable(str(source))}: signed in {printable(str(target))}")

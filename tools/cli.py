"""The ``nnbits`` command: arguments, exit codes, error messages. The work is in :mod:`nnbits.tools.commands`."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

import click

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.tools._console import print_json, printable, progress_bar
from nnbits.tools._exits import EXIT_TEXTS, ExitCode, error_text, exit_code

__all__ = ["main"]

_EXITS: Final = "\b\nExit codes:\n" + "\n".join(f"  {code.value:>3}  {text}" for code, text in EXIT_TEXTS.items())
_REPORT: Final = "This is a bug in nnbits: please report it with the lines above and, if you may, the file"

_PATH: Final = click.Path(path_type=Path)


class _Size(click.ParamType):  # type: ignore[type-arg]
    """A number of bytes: 1000, 64K, 256M, 2G."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value).strip().upper().removesuffix("B").removesuffix("I")
        factor = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 0)
        digits = text[:-1] if factor else text
        if not digits.isdecimal() or not int(digits):
            self.fail(f"{value!r} is not a size such as 256M", param, ctx)
        return int(digits) * (factor or 1)


_SIZE: Final = _Size()
_MAPS: Final = ("size", "none", "raw", "bitmask", "two_level", "gaps", "pattern", "structured", "coded")


class _ReaderGone(Exception):
    """Standard output is a pipe that nobody reads any more; not an OSError, which click would handle."""


@contextmanager
def _writing() -> Iterator[None]:
    """Write all output before the block ends, so that what goes wrong there is noticed."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError as error:
        raise _ReaderGone from error


class _Program(click.Group):
    """A click group that turns every outcome into one of our exit codes."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _writing():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with _writing():
            return super().invoke(ctx)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        if not kwargs.get("standalone_mode", True):
            return super().main(*args, **kwargs)
        given: Sequence[str] | None = args[0] if args else kwargs.get("args")
        as_json = "--json" in (sys.argv[1:] if given is None else given)
        kwargs = {**kwargs, "prog_name": "nnbits", "standalone_mode": False}
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError):
                stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        with _stopped_by_signals():
            sys.exit(self._run(as_json, args, kwargs))

    def _run(self, as_json: bool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        try:
            result = super().main(*args, **kwargs)
        except (click.exceptions.Abort, KeyboardInterrupt):
            click.echo("nnbits: interrupted", err=True)
            return ExitCode.INTERRUPTED
        except click.ClickException as error:
            return _usage(error, as_json)
        except NnbitsError as error:
            return _fail(error, as_json)
        except _ReaderGone:
            return _silence()
        except MemoryError:
            return _fail(NnbitsError(ReasonCode.MEMORY_BUDGET, "there is not enough memory"), as_json)
        except OSError as error:
            name = "" if error.filename is None else f"{error.filename}: "
            return _fail(NnbitsError(ReasonCode.FILE_IO, f"{name}{error.strerror or error}"), as_json)
        except Exception as error:
            import traceback

            traceback.print_exc()
            return _fail(NnbitsError(ReasonCode.INTERNAL, f"{type(error).__name__}: {error}", hint=_REPORT), as_json)
        return result if isinstance(result, int) else ExitCode.OK


def _usage(error: click.ClickException, as_json: bool) -> int:
    if as_json:
        _print_error(NnbitsError(ReasonCode.BAD_OPTION, error.format_message()), ExitCode.USAGE)
    else:
        error.show()
    return ExitCode.USAGE


def _fail(error: NnbitsError, as_json: bool) -> int:
    code = exit_code(error.code)
    if as_json:
        _print_error(error, code)
    else:
        click.echo(error_text(error), err=True)
    return code


def _print_error(error: NnbitsError, code: ExitCode) -> None:
    with suppress(OSError):
        print_json({"error": {**error.to_dict(), "exit_code": int(code)}})
        sys.stdout.flush()


def _silence() -> int:
    """The reader of standard output is gone: keep Python from complaining when it flushes at the end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.BROKEN_PIPE


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Leave in order, with unfinished outputs removed, when the process is asked to end."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    before = {}
    for name in ("SIGTERM", "SIGHUP"):
        with suppress(AttributeError, ValueError):  # not on this system; not in the main thread
            number = getattr(signal, name)
            if signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@click.group(cls=_Program, epilog=_EXITS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="nnbits", prog_name="nnbits")
def main() -> None:
    """Pack neural networks into NNC bitstreams (ISO/IEC 15938-17), and decode them.

    \b
    nnbits demo                          see it work on a small real network
    nnbits pack model.safetensors        exact: model.nnc
    nnbits pack model.safetensors small.nnc --qp -32
    nnbits info small.nnc
    nnbits unpack small.nnc decoded.safetensors
    nnbits diff model.safetensors tuned.safetensors update.nnc
    nnbits apply model.safetensors update.nnc -o tuned.safetensors
    """


_threads = click.option(
    "--threads", type=click.IntRange(min=1), metavar="N", help="Threads to use.  [default: all processors]"
)
_force = click.option("--force", is_flag=True, help="Replace an existing output.")
_json = click.option("--json", "as_json", is_flag=True, help="Print the result, or the error, as JSON.")
_quiet = click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")


@main.command(name="pack", short_help="Model file to NNC stream.")
@click.argument("source", metavar="IN", type=_PATH)
@click.argument("target", metavar="[OUT]", type=_PATH, required=False)
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
@click.option("--memory", type=_SIZE, metavar="SIZE", help="Budget for tensors in work, e.g. 128M.  [default: 256M]")
@click.option("--speed", type=click.Choice(["fast", "balanced", "small"]), help="Of exact coding.  [default: balanced]")
@click.option("--plan", type=_PATH, metavar="FILE", help="Pack as this JSON plan says, tensor by tensor.")
@click.option("--save-plan", type=_PATH, metavar="FILE", help="Write the plan that was used.")
@click.option(
    "--sparse-map", type=click.Choice(_MAPS), help="Of pruned tensors.  [default: size, whatever is smallest]"
)
@click.option("--pruning-container", is_flag=True, help="With --profile standard: leave out what is zero, say which.")
@click.option("--prune-report", is_flag=True, help="Show how sparse each tensor is, its map and what that saved.")
@click.option("--estimate", is_flag=True, help="Only predict sizes and times, from a sample; nothing is written.")
@_threads
@_force
@_json
@_quiet
def _pack(
    source: Path,
    target: Path | None,
    prune_report: bool,
    estimate: bool,
    threads: int | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Pack the model file IN into the NNC stream OUT.

    OUT is IN with the suffix .nnc if not given, standard output if it is -. Without --qp, --bits or --plan the result
    is exact: unpack gives back every value, bit for bit.
    """
    from nnbits.tools._files import is_pipe, packed_path
    from nnbits.tools.commands import pack as command

    if estimate:
        found = command.estimate_pack(source, threads=threads)
        if as_json:
            print_json(command.estimate_dict(found, source))
        elif not quiet:
            click.echo(command.estimate_text(found, source))
        return
    start = time.perf_counter()
    with progress_bar("Packing", enabled=not (as_json or quiet)) as progress:
        report = command.pack(source, target, threads=threads, progress=progress, **options)
    seconds = time.perf_counter() - start
    shown = packed_path(source) if target is None else target
    if is_pipe(shown):
        if not quiet:
            click.echo(command.report_text(report, source, shown, seconds), err=True)
    elif as_json:
        print_json(command.report_dict(report, source, shown, seconds))
    elif not quiet:
        if prune_report:
            command.print_prune_report(report)
        click.echo(command.report_text(report, source, shown, seconds))


@main.command(name="unpack", short_help="NNC stream to model file.")
@click.argument("source", metavar="IN", type=_PATH)
@click.argument("target", metavar="[OUT]", type=_PATH, required=False)
@click.option("--to", metavar="FORMAT", help="Format of OUT.  [default: by its suffix, else the one that was packed]")
@_threads
@_force
@_json
@_quiet
def _unpack(
    source: Path,
    target: Path | None,
    to: str | None,
    threads: int | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Decode the NNC stream IN into the model file OUT.

    OUT is IN with the suffix of the format that was packed if not given. IN is standard input if it is -.
    """
    from nnbits.tools.commands import unpack as command

    start = time.perf_counter()
    with progress_bar("Unpacking", enabled=not (as_json or quiet)) as progress:
        report = command.unpack(source, target, to=to, threads=threads, force=force, progress=progress)
    seconds = time.perf_counter() - start
    if as_json:
        print_json(command.report_dict(report, seconds))
    elif not quiet:
        click.echo(command.report_text(report, seconds))


@main.command(name="info", short_help="Show what is in an NNC stream.")
@click.argument("source", metavar="IN", type=_PATH)
@click.option("--units", is_flag=True, help="List the units of the stream in place of the tensors.")
@_json
def _info(source: Path, units: bool, as_json: bool) -> None:
    """Show what is in the NNC stream IN: tensors or units, and where the bytes go."""
    from nnbits.tools.commands import info as command

    report = command.info(source)
    if as_json:
        print_json(command.report_dict(report))
    else:
        command.print_report(report, units=units)


@main.command(name="verify", short_help="Check a stream for damage.")
@click.argument("source", metavar="IN", type=_PATH)
@click.option("--key", type=_PATH, metavar="PEM", help="Public key: check the signature too.")
@click.option("--signature", type=_PATH, metavar="FILE", help="The signature.  [default: IN.sig]")
@_threads
@_json
@_quiet
def _verify(
    source: Path, key: Path | None, signature: Path | None, threads: int | None, as_json: bool, quiet: bool
) -> int:
    """Check the NNC stream IN: its structure, its checksums and digests, and that all values decode.

    Problems are listed with the tensors that they concern; the exit code is then 4.
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


@main.command(name="recover", short_help="What is complete in a cut stream.")
@click.argument("source", metavar="IN", type=_PATH)
@click.argument("target", metavar="OUT", type=_PATH)
@_force
@_json
@_quiet
def _recover(source: Path, target: Path, force: bool, as_json: bool, quiet: bool) -> None:
    """Save what is complete in the cut or damaged NNC stream IN as the NNC stream OUT.

    That is the last complete state of IN if there is one, else all tensors that are there as a whole.
    """
    from nnbits.tools.commands import recover as command

    start = time.perf_counter()
    report = command.recover(source, target, force=force)
    seconds = time.perf_counter() - start
    if as_json:
        print_json(command.report_dict(report, seconds))
    elif not quiet:
        click.echo(command.report_text(report, seconds))


@main.command(name="replace", short_help="New versions of single tensors.")
@click.argument("target", metavar="FILE", type=_PATH)
@click.argument("changes", metavar="NAME=ARRAYFILE...", nargs=-1, required=True)
@click.option("--qp", type=int, metavar="N", help="Quality of float tensors.  [default: exact]")
@click.option("--add", is_flag=True, help="Allow names that FILE does not have yet.")
@_threads
@_json
@_quiet
def _replace(
    target: Path, changes: tuple[str, ...], qp: int | None, add: bool, threads: int | None, as_json: bool, quiet: bool
) -> None:
    """Append new versions of tensors to the NNC stream FILE.

    ARRAYFILE is a .npy file, or a model file with a tensor NAME. The rest of FILE is neither read nor written.
    """
    from nnbits.tools.commands import replace as command

    pairs = []
    for change in changes:
        name, sign, path = change.rpartition("=")
        if not sign:
            raise click.UsageError(f"{change!r} is not NAME=ARRAYFILE")
        pairs.append((name, Path(path)))
    start = time.perf_counter()
    report = command.replace(target, pairs, qp=qp, add=add, threads=threads)
    seconds = time.perf_counter() - start
    if as_json:
        print_json(command.report_dict(report, seconds))
    elif not quiet:
        click.echo(command.report_text(report, seconds))


@main.command(name="sign", short_help="Sign a stream.")
@click.argument("source", metavar="IN", type=_PATH)
@click.option("--key", type=_PATH, required=True, metavar="PEM", help="Private key on an elliptic curve.")
@click.option("--signature", type=_PATH, metavar="FILE", help="The output.  [default: IN.sig]")
@_force
@_json
@_quiet
def _sign(source: Path, key: Path, signature: Path | None, force: bool, as_json: bool, quiet: bool) -> None:
    """Sign the file IN as OpenSSF Model Signing does; needs the package model-signing.

    A key is made with openssl ecparam -name prime256v1 -genkey -noout -out key.pem, its public part with openssl ec
    -in key.pem -pubout -out key.pub.
    """
    from nnbits.tools.commands import sign as command

    target = command.sign(source, key, signature, force=force)
    if as_json:
        print_json({"source": str(source), "signature": str(target)})
    elif not quiet:
        click.echo(f"{printable(str(source))}: signed in {printable(str(target))}")


@main.command(name="diff", short_help="What changed in a model, as an update.")
@click.argument("base", metavar="BASE", type=_PATH)
@click.argument("new", metavar="NEW", type=_PATH)
@click.argument("target", metavar="OUT", type=_PATH)
@click.option("--after", type=_PATH, multiple=True, metavar="UPDATE", help="An update sent before; repeat it in order.")
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
@_threads
@_force
@_json
@_quiet
def _diff(
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
    """
    from nnbits.tools.commands import diff as command

    start = time.perf_counter()
    with progress_bar("Comparing", enabled=not (as_json or quiet)) as progress:
        report = command.diff(
            base, new, target, temporal=not no_temporal, history=not no_history, progress=progress, **options
        )
    seconds = time.perf_counter() - start
    if as_json:
        print_json(command.report_dict(report, seconds))
    elif not quiet:
        click.echo(command.report_text(report, seconds))


@main.command(name="apply", short_help="Model and updates to the newer model.")
@click.argument("base", metavar="BASE", type=_PATH)
@click.argument("updates", metavar="UPDATE...", type=_PATH, nargs=-1, required=True)
@click.option("--out", "-o", "target", type=_PATH, required=True, metavar="OUT", help="The model file, or .nnc stream.")
@click.option("--to", metavar="FORMAT", help="Format of OUT, nnc for a stream.  [default: by its suffix]")
@click.option("--no-check-base", is_flag=True, help="Apply the updates even if they were made for another model.")
@_threads
@_force
@_json
@_quiet
def _apply(
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
    """
    from nnbits.tools.commands import apply as command

    start = time.perf_counter()
    with progress_bar("Applying", enabled=not (as_json or quiet)) as progress:
        report = command.apply(base, updates, target, check_base=not no_check_base, progress=progress, **options)
    seconds = time.perf_counter() - start
    if as_json:
        print_json(command.report_dict(report, seconds))
    elif not quiet:
        click.echo(command.report_text(report, seconds))


_to = click.option("--to", metavar="FORMAT", help="Format of OUT, nnc for a stream.  [default: by its suffix]")


@main.command(name="convert", short_help="Model in another format.")
@click.argument("source", metavar="IN", type=_PATH)
@click.argument("target", metavar="OUT", type=_PATH)
@_to
@_threads
@_force
@_json
@_quiet
def _convert(source: Path, target: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Write the model IN, a model file or an NNC stream, as OUT in another format.

    An .nnc stream OUT is exact. What OUT cannot keep, such as metadata or the graph of an ONNX file, is told.

    \b
    nnbits convert model.pt model.safetensors
    nnbits convert small.nnc model.npz
    nnbits convert model.gguf weights --to safetensors
    """
    from nnbits.tools.commands import convert as command

    start = time.perf_counter()
    with progress_bar("Converting", enabled=not (as_json or quiet)) as progress:
        report = command.convert(source, target, progress=progress, **options)
    _show(command, report, time.perf_counter() - start, as_json, quiet)


@main.command(name="extract", short_help="Some tensors of a model.")
@click.argument("source", metavar="IN", type=_PATH)
@click.argument("target", metavar="OUT", type=_PATH)
@click.argument("patterns", metavar="NAME...", nargs=-1, required=True)
@_to
@_threads
@_force
@_json
@_quiet
def _extract(source: Path, target: Path, patterns: tuple[str, ...], as_json: bool, quiet: bool, **options: Any) -> None:
    """Write the tensors NAME of the model IN, a model file or an NNC stream, as OUT.

    NAME may be a pattern with *, ? and [...]. From stream to stream tensors are not decoded and stay as they are coded.

    \b
    nnbits extract model.nnc head.nnc 'classifier.*'
    nnbits extract model.nnc one.npy encoder.layer.0.attention.query.weight
    """
    from nnbits.tools.commands import extract as command

    start = time.perf_counter()
    with progress_bar("Extracting", enabled=not (as_json or quiet)) as progress:
        report = command.extract(source, target, patterns, progress=progress, **options)
    _show(command, report, time.perf_counter() - start, as_json, quiet)


@main.command(name="cat", short_help="Shards or streams into one.")
@click.argument("target", metavar="OUT", type=_PATH)
@click.argument("sources", metavar="IN...", type=_PATH, nargs=-1, required=True)
@_to
@_threads
@_force
@_json
@_quiet
def _cat(target: Path, sources: tuple[Path, ...], as_json: bool, quiet: bool, **options: Any) -> None:
    """Put the tensors of all IN, model files or NNC streams, together as OUT.

    No name may occur twice. In a stream OUT, tensors of streams stay as they are coded, others are coded exactly.

    \b
    nnbits cat model.nnc model-00001-of-00002.safetensors model-00002-of-00002.safetensors
    nnbits cat both.nnc encoder.nnc decoder.nnc
    """
    from nnbits.tools.commands import cat as command

    start = time.perf_counter()
    with progress_bar("Putting together", enabled=not (as_json or quiet)) as progress:
        report = command.cat(target, sources, progress=progress, **options)
    _show(command, report, time.perf_counter() - start, as_json, quiet)


@main.command(name="report", short_help="A page with plots about a stream.")
@click.argument("source", metavar="IN", type=_PATH)
@click.argument("target", metavar="OUT.html", type=_PATH)
@click.option("--original", type=_PATH, metavar="FILE", help="Model file or stream to compare the values with.")
@_force
@_json
@_quiet
def _report_page(source: Path, target: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Write one HTML page about the NNC stream IN: sizes by layer, values, zeros, codings, quality.

    The page needs nothing else and loads nothing.

    \b
    nnbits report small.nnc report.html
    nnbits report small.nnc report.html --original model.safetensors
    """
    from nnbits.tools.commands import report as command

    start = time.perf_counter()
    with progress_bar("Decoding", enabled=not (as_json or quiet)) as progress:
        report = command.report(source, target, progress=progress, **options)
    _show(command, report, time.perf_counter() - start, as_json, quiet)


def _show(command: Any, report: Any, seconds: float, as_json: bool, quiet: bool) -> None:
    """The report of a command as JSON or as text."""
    if as_json:
        print_json(command.report_dict(report, seconds))
    elif not quiet:
        click.echo(command.report_text(report, seconds))


@main.command(name="completion", short_help="Completion for a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def _completion(shell: str) -> None:
    """Print what makes the shell complete commands and options of nnbits.

    \b
    nnbits completion bash > ~/.local/share/bash-completion/completions/nnbits
    nnbits completion zsh > ~/.zfunc/_nnbits        with fpath+=~/.zfunc before compinit in ~/.zshrc
    nnbits completion fish > ~/.config/fish/completions/nnbits.fish
    """
    from nnbits.tools.commands import man as command

    click.echo(command.completion(main, shell))


@main.command(name="man", short_help="Write the manual pages.")
@click.argument("folder", metavar="[DIR]", type=_PATH, default=Path("."))
@_force
@_json
@_quiet
def _man(folder: Path, force: bool, as_json: bool, quiet: bool) -> None:
    """Write manual pages of all commands into DIR, the current folder if not given.

    \b
    nnbits man ~/.local/share/man/man1
    man nnbits-pack
    """
    from nnbits.tools.commands import man as command

    written = command.write_man_pages(main, folder, force=force)
    if as_json:
        print_json({"pages": list(map(str, written))})
    elif not quiet:
        click.echo(f"{printable(str(folder))}: {len(written)} pages")


@main.command(name="demo", short_help="Pack a small real network and measure it.")
@click.option("--out", type=_PATH, metavar="DIR", help="Folder for the files.  [default: nnbits-demo]")
@_threads
@_json
def _demo(out: Path | None, threads: int | None, as_json: bool) -> None:
    """Pack a small real network at several qualities and measure what it costs.

    The network reads handwritten digits. Each stream is decoded from its file and evaluated on 450 test images; the
    files stay for you to look at.
    """
    from nnbits.tools.commands import demo as command

    with progress_bar("Packing and measuring", enabled=not as_json, in_bytes=False) as progress:
        report = command.demo(Path(command.DEFAULT_FOLDER) if out is None else out, threads=threads, progress=progress)
    if as_json:
        print_json(command.report_dict(report))
    else:
        command.print_report(report)


@main.command(name="conform", short_help="Hold a decoder against the conformance suite.")
@click.option("--decoder", required=True, metavar="COMMAND", help="'mydecoder {in} {out}', or one of ours by name.")
@click.option("--suite", type=_PATH, metavar="DIR", help="Folder with manifest.json.  [default: our own suite]")
@click.option("--feature", "features", multiple=True, metavar="NAME", help="Only streams with it; repeatable.")
@click.option("--without", multiple=True, metavar="NAME", help="A feature that the decoder does not claim; repeatable.")
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="Processes at a time.  [default: all processors]")
@click.option("--timeout", "seconds", type=float, metavar="S", help="Seconds for a stream.")
@click.option("--memory", "memory_mib", type=click.IntRange(min=16), metavar="MIB", help="Memory for a stream.")
@click.option("--strict", is_flag=True, help="Refusals must give the reason code and the unit.")
@click.option("--junit", type=_PATH, metavar="FILE", help="Write JUnit XML.")
@click.option("--html", "page", type=_PATH, metavar="FILE", help="Write a page.")
@click.option("--json-file", type=_PATH, metavar="FILE", help="Write JSON.")
@_json
@_quiet
def _conform(as_json: bool, quiet: bool, **options: Any) -> int:
    """Hold a decoder against the conformance suite, stream by stream; exit code 4 if one fails.

    \b
    nnbits conform --decoder 'mydecoder {in} {out}'
    nnbits conform --decoder core
    """
    from nnbits.conformance.report import to_json
    from nnbits.tools.commands import conform as command

    with progress_bar("Decoding", enabled=not (as_json or quiet), in_bytes=False) as progress:
        report = command.conform(progress=progress, **options)
    if as_json:
        print_json(to_json(report.decoder, report.outcomes))
    elif not quiet:
        command.print_report(report)
    return ExitCode.OK if report.passed else ExitCode.DAMAGED

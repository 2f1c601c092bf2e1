"""Arguments of ``info``, ``report``, ``demo`` and ``conform``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from nnbits.tools._console import print_json, progress_bar
from nnbits.tools._exits import ExitCode

from ._common import FILE, FORCE, JSON, PATH, QUIET, THREADS, show

__all__ = ["conform", "demo", "info", "report"]


@click.command(name="info", short_help="Show what is in an NNC stream.")
@click.argument("source", metavar="IN", type=PATH)
@click.option("--units", is_flag=True, help="List the units of the stream in place of the tensors.")
@JSON
def info(source: Path, units: bool, as_json: bool) -> None:
    """Show what is in the NNC stream IN: tensors or units, and where the bytes go. Nothing is decoded.

    \b
    nnbits info model.nnc
    nnbits info model.nnc --json | jq '.tensors[].name'
    nnbits info model.nnc --units
    """
    from nnbits.tools.commands import info as command

    report = command.info(source)
    if as_json:
        print_json(command.report_dict(report))
    else:
        command.print_report(report, units=units)


@click.command(name="report", short_help="A page with plots about a stream.")
@click.argument("source", metavar="IN", type=FILE)
@click.argument("target", metavar="[OUT.html]", type=FILE, required=False)
@click.option("--original", type=FILE, metavar="FILE", help="Model file or stream to compare the values with.")
@FORCE
@JSON
@QUIET
def report(source: Path, target: Path | None, as_json: bool, quiet: bool, **options: Any) -> None:
    """Write one HTML page about the NNC stream IN: sizes by layer, values, zeros, codings, quality.

    The page needs nothing else and loads nothing. OUT.html is IN with the suffix .html if not given.

    \b
    nnbits report small.nnc
    nnbits report small.nnc report.html --original model.safetensors
    """
    from nnbits.tools.commands import report as command

    start = time.perf_counter()
    with progress_bar("Decoding", enabled=not (as_json or quiet)) as progress:
        found = command.report(source, target, progress=progress, **options)
    show(command, found, time.perf_counter() - start, as_json, quiet)


@click.command(name="demo", short_help="Pack a small real network and measure it.")
@click.option("--out", "-o", type=FILE, metavar="DIR", help="Folder for the files.  [default: nnbits-demo]")
@THREADS
@JSON
def demo(out: Path | None, threads: int | None, as_json: bool) -> None:
    """Pack a small real network at several qualities and measure what it costs.

    The network reads handwritten digits. Each stream is decoded from its file and evaluated on 450 test images; the
    files stay for you to look at.

    \b
    nnbits demo
    nnbits demo --out results --json
    """
    from nnbits.tools.commands import demo as command

    with progress_bar("Packing and measuring", enabled=not as_json, in_bytes=False) as progress:
        report = command.demo(Path(command.DEFAULT_FOLDER) if out is None else out, threads=threads, progress=progress)
    if as_json:
        print_json(command.report_dict(report))
    else:
        command.print_report(report)


@click.command(name="conform", short_help="Hold a decoder against the conformance suite.")
@click.option("--decoder", required=True, metavar="COMMAND", help="'mydecoder {in} {out}', or one of ours by name.")
@click.option("--suite", type=FILE, metavar="DIR", help="Folder with manifest.json.  [default: our own suite]")
@click.option("--feature", "features", multiple=True, metavar="NAME", help="Only streams with it; repeatable.")
@click.option("--without", multiple=True, metavar="NAME", help="A feature that the decoder does not claim; repeatable.")
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="Processes at a time.  [default: all processors]")
@click.option("--timeout", "seconds", type=float, metavar="S", help="Seconds for a stream.")
@click.option("--memory", "memory_mib", type=click.IntRange(min=16), metavar="MIB", help="Memory for a stream.")
@click.option("--strict", is_flag=True, help="Refusals must give the reason code and the unit.")
@click.option("--junit", type=FILE, metavar="FILE", help="Write JUnit XML.")
@click.option("--html", "page", type=FILE, metavar="FILE", help="Write a page.")
@click.option("--json-file", type=FILE, metavar="FILE", help="Write JSON.")
@JSON
@QUIET
def conform(as_json: bool, quiet: bool, **options: Any) -> int:
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

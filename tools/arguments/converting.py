"""Arguments of ``convert``, ``extract`` and ``cat``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from nnbits.tools._console import progress_bar

from ._common import FILE, FORCE, JSON, QUIET, THREADS, TO, show

__all__ = ["cat", "convert", "extract"]


@click.command(name="convert", short_help="Model in another format.")
@click.argument("source", metavar="IN", type=FILE)
@click.argument("target", metavar="OUT", type=FILE)
@TO
@THREADS
@FORCE
@JSON
@QUIET
def convert(source: Path, target: Path, as_json: bool, quiet: bool, **options: Any) -> None:
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
    show(command, report, time.perf_counter() - start, as_json, quiet)


@click.command(name="extract", short_help="Some tensors of a model.")
@click.argument("source", metavar="IN", type=FILE)
@click.argument("target", metavar="OUT", type=FILE)
@click.argument("patterns", metavar="NAME...", nargs=-1, required=True)
@TO
@THREADS
@FORCE
@JSON
@QUIET
def extract(source: Path, target: Path, patterns: tuple[str, ...], as_json: bool, quiet: bool, **options: Any) -> None:
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
    show(command, report, time.perf_counter() - start, as_json, quiet)


@click.command(name="cat", short_help="Shards or streams into one.")
@click.argument("target", metavar="OUT", type=FILE)
@click.argument("sources", metavar="IN...", type=FILE, nargs=-1, required=True)
@TO
@THREADS
@FORCE
@JSON
@QUIET
def cat(target: Path, sources: tuple[Path, ...], as_json: bool, quiet: bool, **options: Any) -> None:
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
    show(command, report, time.perf_counter() - start, as_json, quiet)

"""The ``nnbits`` command: its commands in groups. Their arguments are in :mod:`nnbits.tools.arguments`."""

from __future__ import annotations

from typing import Final

import click

from nnbits import __version__
from nnbits.tools._exits import EXIT_TEXTS
from nnbits.tools._program import Program
from nnbits.tools.arguments import changing, converting, helping, looking, packing

__all__ = ["main"]

_EXITS: Final = "\b\nExit codes:\n" + "\n".join(f"  {code.value:>3}  {text}" for code, text in EXIT_TEXTS.items())


@click.group(cls=Program, epilog=_EXITS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nnbits")
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


main.add_section("Pack and unpack", (packing.pack, packing.unpack, packing.verify, packing.recover, packing.sign))
main.add_section("Look inside", (looking.info, looking.report))
main.add_section("Other formats, parts", (converting.convert, converting.extract, converting.cat))
main.add_section("Updates", (changing.diff, changing.apply, changing.replace))
main.add_section("Try, test, set up", (looking.demo, looking.conform, helping.completion, helping.man))

"""Options that several commands share, and how their reports are shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from nnbits.tools._console import print_json

__all__ = ["FILE", "FORCE", "JSON", "OUT", "PATH", "QUIET", "SIZE", "THREADS", "TO", "one_output", "show"]


class _File(click.Path):
    """A path that cannot be ``-``, standard input or output."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value in ("-", Path("-")):
            self.fail("standard input and output (-) are not possible here: name a file, or ./-", param, ctx)
        return super().convert(value, param, ctx)


PATH: Final = click.Path(path_type=Path, allow_dash=True)
FILE: Final = _File(path_type=Path)

THREADS: Final = click.option(
    "--threads", type=click.IntRange(min=1), metavar="N", help="Threads to use.  [default: all processors]"
)
FORCE: Final = click.option("--force", is_flag=True, help="Replace an existing output.")
JSON: Final = click.option("--json", "as_json", is_flag=True, help="Print the result, or the error, as JSON.")
QUIET: Final = click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")
OUT: Final = click.option("--out", "-o", "out", type=PATH, metavar="OUT", help="The output, in place of the argument.")
TO: Final = click.option("--to", metavar="FORMAT", help="Format of OUT, nnc for a stream.  [default: by its suffix]")


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


SIZE: Final = _Size()


def one_output(target: Path | None, option: Path | None) -> Path | None:
    """The output, given as an argument or with ``-o``."""
    if target is not None and option is not None:
        raise click.UsageError("the output is given twice, as OUT and with -o")
    return option if target is None else target


def show(command: Any, report: Any, seconds: float, as_json: bool, quiet: bool) -> None:
    """The report of a command as JSON or as text."""
    if as_json:
        print_json(command.report_dict(report, seconds))
    elif not quiet:
        click.echo(command.report_text(report, seconds))

"""Terminal output: consoles, tables, numbers, progress bars."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = [
    "Progress",
    "count",
    "new_table",
    "output_console",
    "print_json",
    "printable",
    "progress_bar",
    "shape_text",
]

#: Called with the work done and the whole work, in bytes of tensors or in steps.
Progress: TypeAlias = Callable[[int, int], None]

_UNLIMITED_WIDTH: Final = 100_000


def printable(text: str) -> str:
    """Text of a file, such as a name, without anything that a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def count(number: int, noun: str) -> str:
    """``1 tensor``, ``1,234 tensors``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def shape_text(shape: tuple[int, ...]) -> str:
    """``64x3x3``."""
    return "x".join(map(str, shape)) if shape else "scalar"


def print_json(data: Mapping[str, Any]) -> None:
    """One JSON object on standard output."""
    print(json.dumps(data, indent=2, allow_nan=False))


def output_console() -> Console:
    """Standard output; as wide as its text if it is no terminal, so that nothing is folded or cut."""
    from rich.console import Console

    class Output(Console):  # whose default is to exit
        def on_broken_pipe(self) -> NoReturn:
            raise

    width = None if sys.stdout.isatty() else _UNLIMITED_WIDTH
    return Output(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)


def new_table(*, footer: bool = False) -> Table:
    """An empty table in the common style."""
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False, show_footer=footer)


@contextmanager
def progress_bar(label: str, *, enabled: bool, in_bytes: bool = True) -> Iterator[Progress | None]:
    """A progress bar on standard error while the block runs.

    Args:
        label: what is done.
        enabled: whether it is wanted.
        in_bytes: whether work is measured in bytes, or in steps.

    Yields:
        What to call after each step; None if there is no bar, which is so too if standard error is no terminal.
    """
    if not (enabled and sys.stderr.isatty()):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    amount = DownloadColumn() if in_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), amount, TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(label, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)

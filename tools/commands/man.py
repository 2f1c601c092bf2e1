"""``nnbits man`` and ``nnbits completion``: manual pages and shell completion, made of what the commands declare."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Final

import click

from nnbits.codec.errors import NnbitsError, ReasonCode

__all__ = ["COMPLETION_VARIABLE", "SHELLS", "completion", "man_pages", "write_man_pages"]

PROGRAM: Final = "nnbits"
COMPLETION_VARIABLE: Final = "_NNBITS_COMPLETE"
SHELLS: Final = ("bash", "zsh", "fish")


def completion(program: click.Command, shell: str) -> str:
    """The script that makes a shell complete the command.

    Args:
        program: the whole command.
        shell: ``bash``, ``zsh`` or ``fish``.

    Raises:
        NnbitsError: BAD_OPTION for another shell.
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell) if shell in SHELLS else None
    if found is None:
        raise NnbitsError(
            ReasonCode.BAD_OPTION, f"there is no completion for {shell!r}", hint=f"Known: {', '.join(SHELLS)}"
        )
    made = found(program, {}, PROGRAM, COMPLETION_VARIABLE)
    return made.source_template % made.source_vars()


def write_man_pages(program: click.Group, folder: Path, *, force: bool = False) -> list[Path]:
    """Write a page of section 1 for the command and one for each of its subcommands; the folder is made.

    Raises:
        NnbitsError: FILE_EXISTS, FILE_IO.
    """
    from nnbits.codec.atomic import atomic_output

    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NnbitsError(ReasonCode.FILE_IO, f"{folder} cannot be made: {error.strerror}", path=str(folder)) from error
    written = []
    for name, text in man_pages(program).items():
        with atomic_output(folder / name, force=force) as file:
            file.write(text.encode("utf-8"))
        written.append(folder / name)
    return written


def man_pages(program: click.Group) -> dict[str, str]:
    """Manual pages in roff by file name: ``nnbits.1``, ``nnbits-pack.1``, ..."""
    root = click.Context(program, info_name=PROGRAM)
    pages = {f"{PROGRAM}.1": _page(program, root, None)}
    for name in program.list_commands(root):
        command = program.get_command(root, name)
        if command is not None and not command.hidden:
            context = click.Context(command, info_name=name, parent=root)
            pages[f"{PROGRAM}-{name}.1"] = _page(command, context, program)
    return pages


def _page(command: click.Command, context: click.Context, program: click.Group | None) -> str:
    full = context.command_path
    title = full.replace(" ", "-")
    short = command.get_short_help_str(limit=200).rstrip(".")
    lines = [
        f'.TH "{_escape(title.upper())}" "1" "" "nnbits {_escape(version("nnbits"))}" "nnbits"',
        ".SH NAME",
        f"{_escape(title)} \\- {_escape(short)}",
        ".SH SYNOPSIS",
        f".B {_escape(full)}",
        _escape(" ".join(command.collect_usage_pieces(context))),
        ".SH DESCRIPTION",
        *_paragraphs(command.help or ""),
        ".SH OPTIONS",
    ]
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            lines += [".TP", f"\\fB{_escape(record[0])}\\fP", _escape(record[1])]
    if isinstance(command, click.Group):
        lines.append(".SH COMMANDS")
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None and not found.hidden:
                text = found.get_short_help_str(limit=200)
                lines += [".TP", f"\\fB{_escape(f'{title}-{name}')}\\fP(1)", _escape(text)]
    if command.epilog:
        lines += [".SH EXIT STATUS", *_paragraphs(command.epilog.replace("Exit codes:\n", ""))]
    if program is not None:
        lines += [".SH SEE ALSO", f"\\fB{PROGRAM}\\fP(1), which lists the exit codes"]
    return "\n".join(lines) + "\n"


def _paragraphs(text: str) -> Iterator[str]:
    """Help text: paragraphs, those after a backspace line by line as they are."""
    import inspect

    for number, block in enumerate(inspect.cleandoc(text).split("\n\n")):
        lines = block.split("\n")
        if number:
            yield ".PP"
        if lines[0] == "\b":
            yield from (".nf", *map(_escape, lines[1:]), ".fi")
        else:
            yield from map(_escape, lines)


def _escape(text: str) -> str:
    """Text that roff shows as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("\b", "")
    return f"\\&{text}" if text[:1] in (".", "'") else text

"""Arguments of ``completion`` and ``man``."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import click

from nnbits.tools._console import print_json, printable

from ._common import FILE, FORCE, JSON, QUIET

__all__ = ["completion", "man"]


@click.command(name="completion", short_help="Completion for a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes the shell complete commands, options and files of nnbits.

    \b
    nnbits completion bash > ~/.local/share/bash-completion/completions/nnbits
    nnbits completion zsh > ~/.zfunc/_nnbits        with fpath+=~/.zfunc before compinit in ~/.zshrc
    nnbits completion fish > ~/.config/fish/completions/nnbits.fish
    source <(nnbits completion bash)                for this shell only
    """
    from nnbits.tools.commands import man as command

    click.echo(command.completion(context.find_root().command, shell))


@click.command(name="man", short_help="Write the manual pages.")
@click.argument("folder", metavar="[DIR]", type=FILE, default=Path("."))
@FORCE
@JSON
@QUIET
@click.pass_context
def man(context: click.Context, folder: Path, force: bool, as_json: bool, quiet: bool) -> None:
    """Write manual pages of all commands into DIR, the current folder if not given.

    \b
    nnbits man ~/.local/share/man/man1
    man nnbits-pack
    """
    from nnbits.tools.commands import man as command

    written = command.write_man_pages(cast("click.Group", context.find_root().command), folder, force=force)
    if as_json:
        print_json({"pages": list(map(str, written))})
    elif not quiet:
        click.echo(f"{printable(str(folder))}: {len(written)} pages")

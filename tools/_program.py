"""The click group behind ``nnbits``: exit codes, error messages, signals, commands in sections."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final, NoReturn

import click

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.tools._console import print_json
from nnbits.tools._exits import ExitCode, error_text, exit_code

__all__ = ["Program"]

_REPORT: Final = "This is a bug in nnbits: please report it with the lines above and, if you may, the file"


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


class Program(click.Group):
    """A click group that turns every outcome into one of our exit codes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sections: dict[str, Sequence[click.Command]] = {}

    def add_section(self, title: str, commands: Sequence[click.Command]) -> None:
        """Add commands that the help lists together, in this order."""
        self._sections[title] = commands
        for command in commands:
            self.add_command(command)

    @property
    def sections(self) -> Mapping[str, Sequence[click.Command]]:
        """Commands by the title above them."""
        return self._sections

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by section."""
        for title, commands in self._sections.items():
            rows = [(command.name or "", command.get_short_help_str(limit=200)) for command in commands]
            with formatter.section(title):
                formatter.write_dl(rows, col_max=10)

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
    if isinstance(error, click.exceptions.NoArgsIsHelpError) and not as_json:
        error.show()
        return ExitCode.USAGE
    found = NnbitsError(ReasonCode.BAD_OPTION, error.format_message().rstrip("."))
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None and not isinstance(error, click.exceptions.NoArgsIsHelpError):
        pieces = " ".join([context.command_path, *context.command.collect_usage_pieces(context)])
        found.hint = f"Usage: {pieces}; see {context.command_path} --help"
    if as_json:
        _print_error(found, ExitCode.USAGE)
    else:
        click.echo(error_text(found), err=True)
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

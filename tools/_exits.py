"""Exit codes of the command line, and the reason code behind each."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, unique
from typing import Final

from nnbits.codec.errors import NnbitsError, ReasonCode

__all__ = ["EXIT_TEXTS", "ExitCode", "error_text", "exit_code"]


@unique
class ExitCode(IntEnum):
    """What the process returns."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    NOT_FOUND = 3
    DAMAGED = 4
    UNSUPPORTED = 5
    IMPOSSIBLE = 6
    EXISTS = 7
    IO = 8
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    TERMINATED = 143


EXIT_TEXTS: Final[Mapping[ExitCode, str]] = {
    ExitCode.OK: "done",
    ExitCode.INTERNAL: "a bug in nnbits: please report it",
    ExitCode.USAGE: "wrong usage: unknown, wrong or contradictory options",
    ExitCode.NOT_FOUND: "an input file does not exist",
    ExitCode.DAMAGED: "an input file is of another format, damaged or cut",
    ExitCode.UNSUPPORTED: "the input needs something not implemented, or exceeds a limit",
    ExitCode.IMPOSSIBLE: "cannot be done as asked, e.g. not exactly",
    ExitCode.EXISTS: "the output exists (--force replaces it)",
    ExitCode.IO: "reading or writing failed, e.g. disk full",
    ExitCode.INTERRUPTED: "interrupted; no output was left behind",
}

_SINGLE: Final[Mapping[ReasonCode, ExitCode]] = {
    ReasonCode.BAD_OPTION: ExitCode.USAGE,
    ReasonCode.FILE_NOT_FOUND: ExitCode.NOT_FOUND,
    ReasonCode.FILE_FORMAT: ExitCode.DAMAGED,
    ReasonCode.FILE_EXISTS: ExitCode.EXISTS,
    ReasonCode.FILE_IO: ExitCode.IO,
}
_HUNDREDS: Final[Mapping[int, ExitCode]] = {
    1: ExitCode.DAMAGED,
    2: ExitCode.DAMAGED,
    3: ExitCode.UNSUPPORTED,
    4: ExitCode.UNSUPPORTED,
    5: ExitCode.IMPOSSIBLE,
    9: ExitCode.INTERNAL,
}


def exit_code(reason: ReasonCode) -> ExitCode:
    """The exit code for an error."""
    return _SINGLE.get(reason) or _HUNDREDS[reason // 100]


def error_text(error: NnbitsError) -> str:
    """Message, place and hint of an error, one or two lines."""
    places = [] if error.path is None or error.path in error.message else [error.path]
    if error.offset is not None:
        places.append(f"byte {error.offset}")
    text = f"nnbits: error: {error.message}" + (f" (at {', '.join(places)})" if places else "")
    return f"{text}\n  {error.hint}" if error.hint else text

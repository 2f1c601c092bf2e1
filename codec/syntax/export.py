"""Writes the files that are generated from the Python declarations.

``python -m nnbits.codec.syntax.export`` writes them, ``--check`` only compares, prints the names of stale files and
exits with 1 if there are any.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Final

from .. import errors, limits
from ..errors import ReasonCode
from . import enums
from .fields import markdown

__all__ = ["GENERATED", "main", "status_header", "syntax_header"]

_STATUS_HEAD: Final = """\
/* Generated from codec/errors.py; do not edit. */
#ifndef NNB_STATUS_H
#define NNB_STATUS_H

/* Why something was refused. The numbers are the same in every language and are never reused. */
typedef enum nnb_status {
  NNB_OK = 0,
"""

_STATUS_TAIL: Final = """\
} nnb_status;

#endif
"""

_CODE: Final = re.compile(r"^    ([A-Z_]+) = \d+(?:\s*#: (.*))?$")
_GROUP: Final = re.compile(r"^    # (\dxx.*)$")


def status_header() -> str:
    """``nnb_status.h``: the reason codes with the comments that they have in ``errors.py``."""
    source = Path(errors.__file__).read_text(encoding="utf-8")
    parts = [_STATUS_HEAD]
    last = list(ReasonCode)[-1]
    for line in source.splitlines():
        if found := _GROUP.match(line):
            parts.append(f"\n  /* {found[1]} */\n")
        elif found := _CODE.match(line):
            comma = "" if ReasonCode[found[1]] is last else ","
            comment = f" /* {found[2]} */" if found[2] else ""
            parts.append(f"  NNB_{found[1]} = {int(ReasonCode[found[1]])}{comma}{comment}\n")
    return "".join(parts) + _STATUS_TAIL


_SYNTAX_HEAD: Final = """\
/* Generated from codec/limits.py and codec/syntax/enums.py; do not edit. */
#ifndef NNB_SYNTAX_GEN_H
#define NNB_SYNTAX_GEN_H

#include <stdint.h>

"""


def syntax_header() -> str:
    """``nnb_syntax_gen.h``: every bound of a reader and every enumeration."""
    parts = [_SYNTAX_HEAD]
    for name, value in vars(limits).items():
        if name.isupper() and isinstance(value, int):
            parts.append(f"#define NNB_{name} {_c_constant(value)}\n")
    parts.append(f"#define NNB_DEFAULT_MAX_UNITS {_c_constant(limits.DEFAULT_LIMITS.max_units)}\n")
    for name in enums.__all__:
        members: type[IntEnum] = getattr(enums, name)
        snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
        summary = (members.__doc__ or "").rstrip(".")
        parts.append(f"\n/* {summary} */\ntypedef enum nnb_{snake} {{\n")
        for member in members:
            full = member.name if member.name.startswith("NNR_") else f"{snake.upper()}_{member.name}"
            parts.append(f"  NNB_{full} = {int(member)},\n")
        parts.append(f"}} nnb_{snake};\n")
    return "".join(parts) + "\n#endif\n"


def _c_constant(value: int) -> str:
    if value < 0:
        return f"INT64_C({value})"
    return f"{value}u" if value < 2**32 else f"UINT64_C({value})"


def _tables_header() -> str:
    # By name: the tables lie in a layer above this one, and only this tool reaches up to them.
    header: str = importlib.import_module("nnbits.codec.entropy.tables").c_header()
    return header


def _checksum_header() -> str:
    header: str = importlib.import_module("nnbits.codec.integrity").c_header()
    return header


#: What is generated, by path from the root of the source tree.
GENERATED: Final[Mapping[str, Callable[[], str]]] = {
    "codec/core/include/nnb/nnb_status.h": status_header,
    "codec/core/include/nnb/nnb_syntax_gen.h": syntax_header,
    "codec/core/src/common/crc32c_gen.h": _checksum_header,
    "codec/core/src/common/tables_gen.h": _tables_header,
    "docs/fields.md": markdown,
}


def _source_tree() -> Path:
    # The resolved path leaves src/nnbits, whose folders are links; an installed package is run in a checkout.
    for root in (Path(__file__).resolve().parents[2], Path.cwd()):
        if (root / "codec" / "core" / "CMakeLists.txt").is_file():
            return root
    raise SystemExit("run this in a checkout of nnbits")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m nnbits.codec.syntax.export", description="Write generated files.")
    parser.add_argument("--check", action="store_true", help="compare only")
    check: bool = parser.parse_args(arguments).check
    root = _source_tree()
    stale = [
        name
        for name, generate in GENERATED.items()
        if not (root / name).is_file() or (root / name).read_text(encoding="utf-8") != generate()
    ]
    for name in stale:
        sys.stdout.write(f"{name}\n")
        if not check:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(GENERATED[name](), encoding="utf-8", newline="\n")
    return int(check and bool(stale))


if __name__ == "__main__":
    raise SystemExit(main())

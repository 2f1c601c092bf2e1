"""The API reference names everything that is public, and nothing else."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^::: (\S+)\n((?:    .*\n|\n(?=    ))*)", re.MULTILINE)


def documented() -> set[str]:
    """Dotted names in docs/api.md; a module without a list of members stands for all it exports."""
    names = set()
    for where, options in BLOCK.findall((ROOT / "docs" / "api.md").read_text()):
        members = re.search(r"members: \[(.*)\]", options)
        if members:
            names |= {f"{where}.{name.strip()}" for name in members[1].split(",")}
            continue
        names.add(where)
        if where.rpartition(".")[0] == "nnbits" and where.rpartition(".")[2].islower():
            found = getattr(importlib.import_module("nnbits"), where.rpartition(".")[2], None)
            if not callable(found):
                names |= {f"{where}.{name}" for name in pytest.importorskip(where).__all__}
    return names


@pytest.mark.parametrize("module", ["nnbits", "nnbits.torch", "nnbits.numpy", "nnbits.numcodecs"])
def test_every_public_name_is_in_the_reference(module: str) -> None:
    public = {f"{module}.{name}" for name in pytest.importorskip(module).__all__}
    assert len(public) > 0
    assert public <= documented()


def test_the_reference_names_nothing_else() -> None:
    for name in documented():
        parts = name.split(".")
        for length in range(len(parts), 0, -1):
            try:
                found = importlib.import_module(".".join(parts[:length]))
            except ImportError:
                continue
            for part in parts[length:]:
                found = getattr(found, part)
            break
        else:
            raise AssertionError(name)


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert listed == pages

"""Planted bugs: the list fits the sources."""

from __future__ import annotations

from pathlib import Path

from nnbits import codec
from nnbits.conformance.adapters import core_folder
from nnbits.conformance.mutate import Mutation, load


def source_of(mutation: Mutation) -> str:
    folder = core_folder().parent if mutation.side == "c" else Path(codec.__file__).parent
    return (folder / mutation.file).read_text(encoding="utf-8")


def test_every_place_is_there_once() -> None:
    """A bug whose place is gone would stop ``python -m nnbits.conformance.mutate``."""
    mutations = load()
    for side in ("c", "python"):
        assert sum(mutation.side == side for mutation in mutations) >= 40
    assert [(m.file, m.find) for m in mutations if source_of(m).count(m.find) != 1] == []

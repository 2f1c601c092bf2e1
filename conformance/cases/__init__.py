"""The streams of the suite, by subject: each module has ``cases(seed)``.

A new part of the format is a new module here.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Final

from nnbits.conformance.cases.building import Case

__all__ = ["MODULES", "Case", "all_cases"]

#: In the order of the manifest.
MODULES: Final = (
    "units",
    "tensors",
    "updates",
    "framing",
    "malformed",
    "invalid",
    "attacks",
    "extended",
    "access_units",
    "pieces",
    "maps",
    "exact",
    "exact_updates",
    "pruning",
    "indexes",
    "codestrings",
)


def all_cases(seed: int) -> Iterator[Case]:
    """Every case that is written by hand or made from the declaration, before streams are chosen for coverage."""
    for name in MODULES:
        yield from importlib.import_module(f"{__name__}.{name}").cases(seed)

"""What another decoder can read (nnc-bitstream section 9): refused before anything is written."""

from __future__ import annotations

from .plan import EncodePlan
from .types import Model

__all__ = ["check_compat"]


def check_compat(model: Model, plan: EncodePlan) -> None:
    """later"""

"""Writing formats whose files can only be written again: from the template, not from tensors alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.types import Model, TensorInfo

from ._template import is_restorable, restore
from .base import WriteFunction

__all__ = ["restorer"]


def restorer(name: str) -> WriteFunction:
    """The ``write`` of a format: the files that the model was read from, byte for byte.

    It raises NnbitsError: UNSUPPORTED_FEATURE if the model does not come from such a file; those of
    :func:`~._template.restore`.
    """

    def write(
        path: Path,
        model: Model,
        /,
        *,
        force: bool = False,
        threads: int = 1,
        on_tensor: Callable[[TensorInfo], None] | None = None,
    ) -> None:
        if not is_restorable(model, name):
            raise NnbitsError(
                ReasonCode.UNSUPPORTED_FEATURE,
                f"a file of format {name} can only be written from the whole model of one",
                path=str(path),
                hint="Choose --to safetensors",
            )
        restore(path, model, force=force, threads=threads, on_tensor=on_tensor)

    return write

"""What kind of model it is, in words: quantized how, pruned, with tied weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnbits.codec.types import Model

from ._layout import layout_of
from ._parts import FOLDER, parts_of
from ._quantized import recognise, schemes_of

__all__ = ["recognised"]


def recognised(model: Model) -> list[str]:
    """One line for each thing that adapters know about a model beyond its tensors; values are not read.

    Raises:
        NnbitsError: METADATA if the description in the model is damaged.
    """
    if model.source_format == FOLDER:
        return list(dict.fromkeys(line for part in parts_of(model) for line in recognised(part.model)))
    lines: list[str] = []
    found = model.source.get("quantization") or recognise(t.info.name for t in model)
    lines += map(_scheme, schemes_of(found))
    layout = layout_of(model)
    if layout is not None:
        blocks = sum(1 for file in layout.files for fill in file.fills if fill is not None and fill[0] == "blocks")
        if blocks:
            lines.append(f"block-quantized: {blocks:,} tensors, coded in planes of scales and codes")
        if layout.views:
            names = [str(view[1]) for view in layout.views[:3] if isinstance(view, list) and len(view) > 1]
            more = len(layout.views) - len(names)
            lines.append(
                f"tied or overlapping tensors, stored once: {', '.join(names)}"
                + (f" and {more:,} more" if more else "")
            )
    return lines


def _scheme(found: Mapping[str, Any]) -> str:
    scheme, modules, roles = found.get("scheme"), found.get("modules"), found.get("roles")
    pruned = scheme == "torch.nn.utils.prune"
    parts = ", ".join(f"{role} in {suffix}" for suffix, role in roles.items()) if isinstance(roles, Mapping) else ""
    return f"{'pruned' if pruned else 'quantized'} by {scheme}: {modules} modules" + (f" ({parts})" if parts else "")

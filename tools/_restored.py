"""What ``unpack`` will give back, known before packing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from nnbits.tools._console import count

if TYPE_CHECKING:
    from nnbits.codec.plan import EncodePlan
    from nnbits.codec.types import Model

__all__ = ["Restored", "restored"]

_WRITTEN_ANEW: Final = frozenset({"safetensors", "pytorch", "npy", "npz"})  # from tensors alone


@dataclass(frozen=True)
class Restored:
    """What comes back.

    Attributes:
        kind: ``identical``: the same bytes; ``equivalent``: a file of the same format with the same tensors;
            ``tensors``: only these, in a file of another format.
        reasons: why not the same bytes, or on what it depends.
    """

    kind: Literal["identical", "equivalent", "tensors"]
    reasons: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"kind": self.kind, "reasons": list(self.reasons)}

    def sentence(self) -> str | None:
        """What to tell before packing, None if there is nothing to tell."""
        if not self.reasons:
            return None
        what = {
            "identical": "unpack gives back the same file if",
            "equivalent": "unpack will give an equivalent file, not the same bytes",
            "tensors": "unpack cannot give back this file, only its tensors (--to safetensors)",
        }
        joint = " " if self.kind == "identical" else ": "
        return f"{what[self.kind]}{joint}{'; '.join(self.reasons)}"


def restored(model: Model, plan: EncodePlan) -> Restored:
    """What the stream of a model will restore.

    Args:
        model: as its adapter read it.
        plan: that will be executed.

    Raises:
        NnbitsError: FILE_IO if a compressed file cannot be read.
    """
    from nnbits.codec.plan import QUANTIZED

    name = model.source_format
    lossy = sum(how.coding in QUANTIZED for how in plan.tensors.values())
    reasons = []
    if plan.profile == "standard" and (model.source.get("template") or name not in _WRITTEN_ANEW):
        reasons.append(f"a standard stream carries the tensors and nothing else of the {name} {_kind(name)}")
    if lossy:
        reasons.append(f"{lossy:,} of {count(len(model.tensors), 'tensor')} will be quantized")
    if reasons:
        whole = plan.profile == "extended" or name in _WRITTEN_ANEW
        return Restored("equivalent" if whole else "tensors", tuple(reasons))
    if plan.profile == "extended" and _has_compressed(model):
        import zlib

        return Restored("identical", (f"zlib compresses there as it does here ({zlib.ZLIB_RUNTIME_VERSION})",))
    return Restored("identical")


def _kind(name: str | None) -> str:
    return "with its files" if name == "folder" else "file"


def _has_compressed(model: Model) -> bool:
    """Whether bytes of the file are compressed again when it is restored."""
    import json

    described = [model.source_format, *(item.get("format") for item in model.source.get("files", ()))]
    if "npz" not in described:
        return False
    layouts = [a for a in model.attachments if a.name.startswith("nnbits:") and a.name.endswith(":layout")]
    return any(_deflates(json.loads(layout.read())) for layout in layouts)


def _deflates(layout: Mapping[str, Any]) -> bool:
    return any(fill and fill[0] == "deflate" for file in layout["files"] for fill in file.get("fills", ()))

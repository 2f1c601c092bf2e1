"""Names of files that are no supported model file, for messages that help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["Foreign", "recognise"]


@dataclass(frozen=True)
class Foreign:
    """What a file looks like, and what to do."""

    what: str
    hint: str | None = None


_MAGIC: Final = (
    (
        b"version https://git-lfs.github.com/spec/",
        Foreign("a Git LFS pointer, not the model itself", "Fetch the model: git lfs pull"),
    ),
    (b"\x28\xb5\x2f\xfd", Foreign("a file compressed with zstd", "Decompress it first")),
    (b"\x1f\x8b", Foreign("a file compressed with gzip", "Decompress it first")),
    (b"\xfd7zXZ\x00", Foreign("a file compressed with xz", "Decompress it first")),
    (b"BZh", Foreign("a file compressed with bzip2", "Decompress it first")),
)
_PYTORCH: Final = "Load it with PyTorch and save the state dict with safetensors.torch.save_file"
_UNIT_MPS: Final = 1


def recognise(head: bytes) -> Foreign | None:
    """What a file that begins with ``head`` looks like, or None if nothing is recognised."""
    for magic, foreign in _MAGIC:
        if head.startswith(magic):
            return foreign
    if head[257:262] == b"ustar":
        return Foreign("a tar archive", "Unpack it first")
    if head.startswith(b"PK\x03\x04"):
        return Foreign("a zip archive", "Unpack it first")
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05") and not _is_nnc(head):
        return Foreign("a Python pickle, such as an old PyTorch file", _PYTORCH)
    if _is_nnc(head):
        return Foreign("an NNC stream, which is already coded", "Decode it instead of encoding it")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith((b"{", b"[")):
        return Foreign("a JSON file", "Name the file with the weights")
    if text[:15].lower().startswith((b"<!doctype html", b"<html")):
        return Foreign("a web page, perhaps in place of a download that failed", "Download the model again")
    return None


def _is_nnc(head: bytes) -> bool:
    """Whether it begins with a start unit followed by a model parameter set unit."""
    start = _unit(head, 0)
    if start is None or start[0] != 0 or not 4 <= start[1] <= 16:
        return False
    following = _unit(head, start[1])
    return following is not None and following[0] == _UNIT_MPS


def _unit(head: bytes, offset: int) -> tuple[int, int] | None:
    """nnr_unit_type and nnr_unit_size of the unit at ``offset``."""
    wide = head[offset : offset + 1] >= b"\x80"
    width = 4 if wide else 2
    if offset + width >= len(head):
        return None
    size = int.from_bytes(head[offset : offset + width], "big") & (2**31 - 1 if wide else 2**15 - 1)
    return head[offset + width] >> 2, size

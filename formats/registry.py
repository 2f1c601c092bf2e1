"""The supported file formats, and how to find the one that fits."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from nnbits.codec.errors import NnbitsError, ReasonCode

from . import folder, gguf, keras, npz, onnx, pytorch, safetensors, tflite
from ._foreign import recognise
from .base import HEAD_BYTES, Adapter, open_input, quote

__all__ = ["ADAPTERS", "adapter_by_name", "adapter_for_file", "adapter_for_output"]

#: In the order in which they are asked.
ADAPTERS: Final[tuple[Adapter, ...]] = (
    safetensors.ADAPTER,
    gguf.ADAPTER,
    pytorch.ADAPTER,
    onnx.ADAPTER,
    npz.NPY_ADAPTER,
    npz.NPZ_ADAPTER,
    tflite.ADAPTER,
    keras.H5_ADAPTER,
    keras.KERAS_ADAPTER,
    folder.ADAPTER,
)


def adapter_for_file(path: Path) -> Adapter:
    """The format of an existing file or folder, told by its content; the suffix does not matter.

    Raises:
        NnbitsError: FILE_NOT_FOUND; FILE_IO; FILE_FORMAT if no adapter knows the content, with what it looks like.
    """
    path = Path(path)
    if path.is_dir():
        return folder.ADAPTER
    head = b""
    with open_input(path) as file:
        while len(head) < HEAD_BYTES and (part := file.read(HEAD_BYTES - len(head))):
            head += part
    for adapter in ADAPTERS:
        if adapter.probe(head):
            return adapter
    raise _unknown(path, head)


def adapter_by_name(name: str) -> Adapter:
    """The adapter of that name.

    Raises:
        NnbitsError: BAD_OPTION if there is none.
    """
    for adapter in ADAPTERS:
        if adapter.name == name:
            return adapter
    raise NnbitsError(
        ReasonCode.BAD_OPTION, f"there is no file format {quote(name)}", path="format", hint=f"Known: {_supported()}"
    )


def adapter_for_output(path: Path) -> Adapter:
    """The format of a file to be written, told by its suffix.

    Raises:
        NnbitsError: BAD_OPTION if no adapter has the suffix.
    """
    path = Path(path)
    adapter = _by_suffix(path)
    if adapter is not None:
        return adapter
    ending = (
        f"the suffix {path.suffix!r} of {path} belongs to no model file format"
        if path.suffix
        else (f"{path} has no suffix that tells the file format")
    )
    raise NnbitsError(ReasonCode.BAD_OPTION, ending, path=str(path), hint=f"Supported: {_supported()}")


def _by_suffix(path: Path) -> Adapter | None:
    name = path.name.lower()
    return next((adapter for adapter in ADAPTERS if name.endswith(adapter.suffixes)), None)


def _unknown(path: Path, head: bytes) -> NnbitsError:
    foreign = recognise(head)
    named = _by_suffix(path)
    advice = None
    if not head:
        what = "is empty"
    elif foreign is not None:
        what, advice = f"looks like {foreign.what}", foreign.hint
    elif named is not None:
        what = f"is named as a {named.name} file, but does not begin like one"
    else:
        what = "is no model file that nnbits knows"
    hint = f"Supported: {_supported()}"
    return NnbitsError(
        ReasonCode.FILE_FORMAT, f"{path} {what}", path=str(path), hint=hint if advice is None else f"{advice}. {hint}"
    )


def _supported() -> str:
    return ", ".join(
        f"{adapter.name} ({', '.join(adapter.suffixes)})" if adapter.suffixes else adapter.name for adapter in ADAPTERS
    )

"""safetensors files that need a template: unusual headers, packed codes that appear as what they
are, booleans that are neither 0 nor 1."""

from __future__ import annotations

from pathlib import Path

from nnbits.codec.types import Model, TensorInfo

from ._input import InputFile
from ._quantized import packed_codes, recognise
from ._spans import FilePart, Span, are_booleans
from ._template import model_of

__all__ = ["described"]


def described(path: Path, model: Model, begin: int, canonical: bytes) -> Model:
    """The model of a safetensors file, with a template if writing it anew would give another file or type.

    Args:
        model: tensors in the order of their data, without gaps.
        begin: where the data begin.
        canonical: the header that would be written, with its length.
    """
    found = recognise(tensor.info.name for tensor in model)
    source = {"quantization": found} if found else {}
    by_name = {tensor.info.name: tensor for tensor in model}
    codes: dict[str, TensorInfo] = {}
    if found:
        codes = packed_codes((t.info for t in model), found, model.metadata, lambda name: by_name[name].read())
    file = InputFile.of(path, "a safetensors file")
    spans, offset, usual = [], begin, not codes and file.read(0, begin).tobytes() == canonical
    for tensor in model:
        info = tensor.info
        if info.name in codes:
            fill = ["as", info.dtype.name, list(info.shape)]
            spans.append(Span(offset, info.nbytes, (codes[info.name],), fill))
        else:
            spans.append(Span(offset, info.nbytes, (info,)))
        usual = usual and (info.dtype.kind != "bool" or are_booleans(file, offset, info.nbytes))
        offset += info.nbytes
    if usual:
        return Model(model.tensors, model.metadata, model.source_format, source=source)
    return model_of("safetensors", [FilePart(file, spans)], metadata=model.metadata, source=source)

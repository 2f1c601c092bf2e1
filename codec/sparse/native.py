"""The C core's sparse maps behind typed functions; the same signatures as ``portable``."""

from .portable import (
    csr,
    decode,
    decode_keeps,
    encode,
    encode_keeps,
    encode_pattern,
    expand,
    fill_pattern,
    group_range,
    indptr,
    keeps_words,
    nonzero,
    pack,
    read_pattern,
)

__all__ = [
    "csr",
    "decode",
    "decode_keeps",
    "encode",
    "encode_keeps",
    "encode_pattern",
    "expand",
    "fill_pattern",
    "group_range",
    "indptr",
    "keeps_words",
    "nonzero",
    "pack",
    "read_pattern",
]

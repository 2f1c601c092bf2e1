"""Exact coding of values: planes, tables, masks and scales under rANS (docs/lossless.md)."""

from __future__ import annotations

from .native import decode_range, decode_values, encode_values
from .payload import MAX_BLOCK_ITEMS, BlockLayout, Coding, Speed

__all__ = ["MAX_BLOCK_ITEMS", "BlockLayout", "Coding", "Speed", "decode_range", "decode_values", "encode_values"]

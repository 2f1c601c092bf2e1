"""Sparse maps: which elements of a pruned tensor exist (docs/sparse-maps.md)."""

from .encode import EncodedMap, encode_map
from .kinds import MapKind, Pattern, matrix_shape
from .map import SparseMap, decode_map, join_csr, join_maps
from .semi import pack_metadata, semi_structured, tile_metadata

__all__ = [
    "EncodedMap",
    "MapKind",
    "Pattern",
    "SparseMap",
    "decode_map",
    "encode_map",
    "join_csr",
    "join_maps",
    "matrix_shape",
    "pack_metadata",
    "semi_structured",
    "tile_metadata",
]

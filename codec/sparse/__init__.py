"""Sparse maps: which elements of a pruned tensor exist (docs/sparse-maps.md)."""

from .encode import EncodedMap, encode_map
from .kinds import MapKind, Pattern
from .map import SparseMap, decode_map, join_csr, join_maps

__all__ = ["EncodedMap", "MapKind", "Pattern", "SparseMap", "decode_map", "encode_map", "join_csr", "join_maps"]

"""Every bound that a reader enforces, in one place.

The ``MAX_`` constants bound single elements and are part of the syntax; :class:`Limits` is what a caller may set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["DEFAULT_LIMITS", "Limits"]

MAX_UNIT_BYTES: Final = 2**31 - 1  #: nnr_unit_size has 31 bits
MAX_NAME_BYTES: Final = 2**16 - 1  #: one tensor name, UTF-8, without the terminator
MAX_TOPOLOGY_BYTES: Final = 2**28  #: topology_data
MAX_DIMENSIONS: Final = 255  #: count_tensor_dimensions
MAX_DIMENSION: Final = 2**48  #: one dimension
MAX_ELEMENTS: Final = 2**48  #: elements of one tensor
MAX_TOPOLOGY_ELEMENTS: Final = 2**16  #: names in one id list
MAX_CODEBOOK_SIZE: Final = 2**20  #: codebook entries
MAX_ENTRY_POINTS: Final = 2**26  #: block rows with an entry point in one unit
MAX_SHARED_NAME_BYTES: Final = 2**8 - 1  #: bytes that a name in an access unit takes from the one before
MAX_PIECES: Final = 2**16  #: tensors and parts of tensors in one access unit
MAX_ACCESS_UNITS: Final = 2**40  #: au_number
MAX_METADATA_BYTES: Final = 2**28  #: the JSON of the metadata unit
MAX_INDEX_BYTES: Final = 2**32  #: content of the index
MAX_ATTACHMENT_BYTES: Final = 2**48  #: one attached file
MAX_ATTACHMENT_PART_BYTES: Final = 2**24  #: what one attachment unit holds of it
MAX_UE_BITS: Final = 64  #: value bits of any Exp-Golomb code

MIN_LEVEL: Final = -(2**31)
MAX_LEVEL: Final = 2**31 - 1


@dataclass(frozen=True)
class Limits:
    """What decoding may cost.

    Attributes:
        max_tensor_bytes: decoded size of one tensor, bytes; a larger claim is refused before allocating.
        max_units: units in one stream.
        max_access_unit_bytes: size of one access unit, bytes.
        max_index_bytes: size of the decompressed index, bytes.
    """

    max_tensor_bytes: int = 2**34
    max_units: int = 2**24
    max_access_unit_bytes: int = 2**31
    max_index_bytes: int = 2**30


DEFAULT_LIMITS: Final = Limits()

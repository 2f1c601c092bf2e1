"""What the entropy layer has to know of a tensor, shared by the Python reference and the C core.

Names follow nnc-entropy: U, cs and cz are ``unary_length``, ``codebook_size`` and ``codebook_zero_offset``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["DecodedLevels", "EntryPoint", "LevelCoding", "LevelsToCode", "SetRule"]

Levels = NDArray[np.int32]
SetRule = Literal["cost", "peer"]


@dataclass(frozen=True)
class LevelCoding:
    """Header values that steer tensor_data() (nnc-entropy section 1).

    Attributes:
        height: first dimension.
        width: product of the other dimensions, 1 for one dimension.
        profile: general_profile_idc.
        dq: dependent quantization; always False for payload INT.
        unary_length: cabac_unary_length_minus1 + 1, 1..256.
        scan_order: 0..4; an effective 0 for height or width 1 is derived, not stored.
        qp_bits: 6 + qp_density, or 0 if there is no qp_value (payload INT).
        parent: parent_node_id_present_flag.
        temporal: temporal_context_modeling_flag of a profile 1 stream.
        codebook_size: cs; 0 without a codebook and in profile 0.
        codebook_zero_offset: cz.
    """

    height: int
    width: int
    profile: int = 1
    dq: bool = False
    unary_length: int = 11
    scan_order: int = 0
    qp_bits: int = 8
    parent: bool = False
    temporal: bool = False
    codebook_size: int = 0
    codebook_zero_offset: int = 0

    @property
    def row_flags(self) -> bool:
        """Whether the row skipping flags are present."""
        return self.profile == 1 and self.width > 1 and self.height > 1 and self.codebook_size != 1

    @property
    def block(self) -> int:
        """Effective block size B of the scan, 0 for the plain row scan."""
        return 4 << self.scan_order if self.scan_order and self.height > 1 and self.width > 1 else 0

    @property
    def context_count(self) -> int:
        """Number of context variables (nnc-entropy section 4)."""
        return 90 + 4 * self.unary_length


@dataclass(frozen=True)
class EntryPoint:
    """State of the engine at the start of a block row (nnc-entropy section 7.3)."""

    bit_offset: int
    cabac_offset: int
    dq_state: int


@dataclass(frozen=True)
class DecodedLevels:
    """What tensor_data() delivers.

    Attributes:
        levels: int32, flat in row-major order: the array L of the specification.
        qp_value: 0 if not transmitted.
        hist_dep_sig_prob_enabled_flag: as transmitted.
        row_skip_list: bool per row, or None if row_skip_enabled_flag is 0.
        initial_sets: uint8 per context, number of the initial set.
    """

    levels: Levels
    qp_value: int
    hist_dep_sig_prob_enabled_flag: bool
    row_skip_list: NDArray[np.bool_] | None
    initial_sets: NDArray[np.uint8]


@dataclass(frozen=True)
class LevelsToCode:
    """One tensor for an encoder.

    Attributes:
        coding: header values.
        levels: int32, flat, row-major (the array L: for dq after the expansion of nnc-entropy 8.2).
        qp_value: signed, fits in ``coding.qp_bits``.
        row_skipping: True sets row_skip_enabled_flag and marks exactly the all-zero rows, an array (bool per row) marks
            those it names, which must be zero; ignored without row flags.
        hist_dep_sig_prob_enabled_flag: only with ``coding.parent``.
        base: int32 temporal reference, same size as levels; required with ``coding.temporal``.
        history: bool mask, same size; None is all False.
        initial_sets: uint8 per context to force sets, a rule to choose them, or None for set 0 everywhere.
    """

    coding: LevelCoding
    levels: Levels
    qp_value: int = 0
    row_skipping: bool | NDArray[np.bool_] = False
    hist_dep_sig_prob_enabled_flag: bool = False
    base: Levels | None = None
    history: NDArray[np.bool_] | None = None
    initial_sets: NDArray[np.uint8] | SetRule | None = None


@dataclass(frozen=True)
class EncodedPayload:
    """A finished cabac_data() and, per tensor, the entry points of its block rows but the first."""

    data: bytes
    entry_points: Sequence[Sequence[EntryPoint]] = field(default_factory=tuple)

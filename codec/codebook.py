"""Codebook mode: the distinct integers of a tensor, and indices into them (nnc-encoder-notes section 5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .errors import NnbitsError, ReasonCode
from .limits import MAX_CODEBOOK_SIZE
from .syntax import IntegerCodebook

__all__ = ["Codebook", "best_egk", "choose_codebook", "distinct_levels", "offset_bits", "zero_offsets"]

Levels = NDArray[np.int32]

#: A codebook and the levels of a tensor as indices relative to its zero offset, int32, flat.
Codebook = tuple[IntegerCodebook, Levels]

_ORDERS: Final = 16
_COUNTED_SPAN: Final = 1 << 22
_LARGEST_GAP: Final = 2**31 - 1
_LEAST_OFFSETS: Final = 4
_MOST_OFFSETS: Final = 64
_CODED_ELEMENTS: Final = 1 << 20
_PATIENCE: Final = 6


def distinct_levels(levels: Levels) -> tuple[NDArray[np.int64], NDArray[np.int64], Levels]:
    """Distinct values in increasing order, how often each occurs, and the position of every level among them.

    Raises:
        NnbitsError: BAD_TENSOR without levels, with more than MAX_CODEBOOK_SIZE values, or with a gap above 2^31 - 1,
            which NNCodec refuses (nnc-bitstream section 9).
    """
    if not levels.size:
        raise NnbitsError(ReasonCode.BAD_TENSOR, "a tensor without elements has no codebook")
    low = int(levels.min())
    span = int(levels.max()) - low + 1
    if span <= _COUNTED_SPAN:
        shifted = levels.reshape(-1).astype(np.int64) - low
        all_counts = np.bincount(shifted, minlength=span)
        present = np.flatnonzero(all_counts)
        places = np.zeros(span, np.int32)
        places[present] = np.arange(present.size, dtype=np.int32)
        values, counts, positions = present.astype(np.int64) + low, all_counts[present], places[shifted]
    else:
        found, inverse, number = np.unique(levels.reshape(-1), return_inverse=True, return_counts=True)
        values, counts, positions = found.astype(np.int64), number, inverse.reshape(-1).astype(np.int32)
    if values.size > MAX_CODEBOOK_SIZE or int(np.diff(values).max(initial=0)) > _LARGEST_GAP:
        raise NnbitsError(
            ReasonCode.BAD_TENSOR,
            f"{values.size} different levels in {values[0]}..{values[-1]} are too many or too far apart for a codebook",
            hint="Code the tensor uniformly",
        )
    return values, counts.astype(np.int64), positions


def best_egk(entries: NDArray[np.int64]) -> int:
    """The order of the codes of the gaps that takes the fewest bits; the smallest of several."""
    gaps = np.diff(entries) - 1
    best, fewest = 0, None
    for k in range(_ORDERS):
        # ue(k) of x: n zeros, a one, k + n bits, with n = floor(log2(x / 2^k + 1)); frexp is exact below 2^53.
        n = np.frexp(((gaps >> k) + 1).astype(np.float64))[1].astype(np.int64) - 1
        bits = int((2 * n + 1 + k).sum())
        if fewest is None or bits < fewest:
            best, fewest = k, bits
    return best


def zero_offsets(counts: Sequence[int] | NDArray[np.int64]) -> list[int]:
    """Entries that are worth trying as the one of index 0, where the peer tries all.

    The most frequent entry, the two ends, which save the signs, and the next frequent ones. Their number falls
    with the size of the tensor, from 64 to 4.
    """
    frequency = np.asarray(counts)
    number = min(max(_CODED_ELEMENTS // int(frequency.sum()), _LEAST_OFFSETS), _MOST_OFFSETS)
    frequent = np.argsort(-frequency, kind="stable")[:number].tolist()
    return list(dict.fromkeys([frequent[0], 0, frequency.size - 1, *frequent[1:]]))


def offset_bits(codebook: IntegerCodebook) -> int:
    """Bits of the elements of integer_codebook() that depend on the zero offset; its gaps do not."""
    return _ie_bits(codebook.codebook_centre_offset, 2) + _ie_bits(codebook.codebook_zero_value, 7)


def _ie_bits(value: int, k: int) -> int:
    mapped = 2 * value - 1 if value > 0 else -2 * value
    return 2 * (((mapped >> k) + 1).bit_length() - 1) + 1 + k


def choose_codebook(levels: Levels, payload_size: Callable[[Codebook], int]) -> Codebook:
    """The codebook of all levels with the zero offset that codes shortest, of those that :func:`zero_offsets` proposes.

    The first of equals is taken, and the search ends after some that are no better.

    Args:
        levels: int32.
        payload_size: size of the coded levels with a codebook, bytes.

    Raises:
        NnbitsError: as :func:`distinct_levels`, and what ``payload_size`` raises.
    """
    values, counts, positions = distinct_levels(levels)
    entries = tuple(values.tolist())
    order = best_egk(values)
    best: Codebook | None = None
    smallest = failures = 0
    offsets = zero_offsets(counts)
    for offset in offsets:
        candidate = IntegerCodebook.from_entries(entries, offset, order), positions - np.int32(offset)
        size = 8 * payload_size(candidate) + offset_bits(candidate[0]) if len(offsets) > 1 else 0
        failures += 1
        if best is None or size < smallest:
            best, smallest, failures = candidate, size, 0
        if failures == _PATIENCE:
            break
    assert best is not None  # noqa: S101 - there is at least one entry
    return best

"""Scan orders and estimation parameter order (nnc-entropy sections 3.4 and 7)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .coding import LevelCoding

__all__ = ["GTX", "PAR_OFFSET", "ROW_OFFSET", "SGN", "SGN_T", "SIG_H", "SIG_T", "Segment", "estimated", "segments"]

# First index of each group of context variables; those after GTX depend on U (nnc-entropy section 4).
SIG_T, SIG_H, SGN, SGN_T, GTX = 24, 40, 48, 51, 53
PAR_OFFSET, ROW_OFFSET = 87, 89


@dataclass(frozen=True)
class Segment:
    """A run of positions in one row of one block."""

    row: int
    start: int
    stop: int
    ends_block_row: bool


def segments(coding: LevelCoding) -> Iterator[Segment]:
    """Segments in coding order; ``ends_block_row`` is set where contexts and range are reset (never at the end)."""
    height, width, block = coding.height, coding.width, coding.block
    if not width:  # there may be 2^48 rows of nothing
        return
    if not block:
        for row in range(height):
            yield Segment(row, 0, width, False)
        return
    for y0 in range(0, height, block):
        y1 = min(y0 + block, height)
        for x0 in range(0, width, block):
            x1 = min(x0 + block, width)
            for row in range(y0, y1):
                yield Segment(row, x0, x1, x1 == width and row == y1 - 1 and y1 < height)


def estimated(coding: LevelCoding, hist: bool) -> Iterator[int]:
    """Context indices that estimation_parameters() assigns a set to, in order, absent ones left out."""
    dq, temporal, length = coding.dq, coding.temporal, coding.unary_length
    cs, cz = coding.codebook_size, coding.codebook_zero_offset
    if cs == 1:
        return
    largest = max(cz, cs - 1 - cz)
    yield from range(24 if dq else 3)
    if temporal:
        yield from range(SIG_T, 40 if dq else 26)
    if hist:
        yield from range(SIG_H, 48 if dq else 41)
    if cs == 0 or (cz != 0 and cz != cs - 1):
        yield from range(SGN, 53 if temporal else 51)
    # The limits of the next two loops differ although they serve the same purpose; so it is in NNCodec.
    yield from (GTX + i for i in range(2 * length) if cs == 0 or i < 2 * largest)
    if temporal:
        yield from (GTX + 2 * length + i for i in range(2 * length) if cs == 0 or i < 2 * (largest - 1))
    yield from (GTX + 4 * length + i for i in range(31) if cs == 0 or length - 2 + 2 ** (i + 1) < largest)

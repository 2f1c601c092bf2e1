"""Bits that levels will take, as the entropy coder's model estimates them (nnc-encoder-notes section 3)."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .coding import LevelCoding
from .reference import Context, ContextChoice, code_level
from .tables import est_bits

__all__ = ["RateModel"]

_EST_BITS: Final = est_bits()
_ONE_BIT: Final = 32768


class RateModel:
    """The contexts at one point of a tensor, under plain coding: no temporal reference, history or codebook.

    It does not change; :meth:`after` gives the model that follows a level.

    Args:
        coding: ``dq`` and the unary length count.
        contexts: by index.
        prev: the last level index.
    """

    def __init__(self, coding: LevelCoding, contexts: dict[int, Context], prev: int) -> None:
        self._coding = coding
        self._contexts = contexts
        self._prev = prev

    @classmethod
    def start(cls, coding: LevelCoding, initial_sets: NDArray[np.uint8] | None) -> RateModel:
        """At the start of a tensor or of a block row; without ``initial_sets`` all contexts are on set 0."""
        contexts = {index: Context() for index in range(coding.context_count)}
        if initial_sets is not None:
            for index, number in enumerate(initial_sets):
                contexts[index].assign(int(number))
        return cls(replace(coding, temporal=False, codebook_size=0), contexts, 0)

    def _bins(self, k: int, state: int) -> tuple[list[tuple[int, int]], int]:
        """Context bins and the number of bypass bins of a level index; no context occurs twice."""
        bins: list[tuple[int, int]] = []
        bypass: list[int] = []
        code_level(
            lambda index, bin_: bins.append((index, bin_)),
            lambda _value, count: bypass.append(count),
            k,
            ContextChoice(self._coding),
            self._coding,
            state,
            self._prev,
            0,
            False,
        )
        return bins, sum(bypass)

    def bits(self, k: int, state: int) -> int:
        """Estimated bits of level index ``k`` in ``state`` of the dependent quantizer (0 without), times 32768."""
        bins, bypass = self._bins(k, state)
        return sum(_EST_BITS[512 + (self._contexts[i].p >> 3)][b] for i, b in bins) + _ONE_BIT * bypass

    def after(self, k: int, state: int) -> RateModel:
        """The model after level index ``k``."""
        contexts = dict(self._contexts)
        for index, bin_ in self._bins(k, state)[0]:
            contexts[index] = copy(contexts[index])
            contexts[index].update(bin_)
        return RateModel(self._coding, contexts, k)

"""Constants of the probability model (nnc-entropy sections 3 and 8.1) and of the encoder's estimate.

They stand here once; :func:`c_header` renders them for the C core (``src/common/tables_gen.h``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

__all__ = [
    "INITIAL_SETS",
    "NEXT",
    "RLPS",
    "STEPS",
    "InitialSet",
    "c_header",
    "est_bits",
]


class InitialSet(NamedTuple):
    """Rates and start values of one initial set (section 3.4)."""

    ra: int
    rb: int
    a: int
    b: int


#: Range of the less probable bin, by row ``(R >> 5) & 7`` and ``q = abs(p >> 7)`` (section 3.2).
RLPS: Final[tuple[tuple[int, ...], ...]] = tuple(
    tuple(map(int, row.split()))
    for row in (
        "128 112 97 84 74 65 57 50 45 39 34 30 27 23 20 18 15 14 12 11 10 9 7 7 5 5 4 4 3 3 2 2",
        "142 125 108 93 82 72 63 56 50 43 38 33 30 26 22 20 17 16 13 12 11 10 8 8 6 6 5 5 3 3 2 2",
        "156 137 119 103 90 79 70 61 55 48 42 37 33 28 24 22 19 17 15 13 12 11 9 9 6 6 5 5 4 4 2 2",
        "171 150 130 112 99 87 76 67 60 52 46 40 36 31 27 24 21 19 16 15 13 12 10 10 7 7 6 6 4 4 3 3",
        "185 162 141 121 107 94 82 73 65 56 50 43 39 34 29 26 22 21 17 16 14 13 11 11 8 8 6 6 4 4 3 3",
        "199 175 152 131 115 101 89 78 70 61 54 47 42 36 31 28 24 22 19 17 15 14 12 12 8 8 7 7 5 5 3 3",
        "213 187 163 140 123 108 95 84 75 65 58 50 45 39 33 30 26 24 20 18 16 15 13 13 9 9 7 7 5 5 3 3",
        "228 200 174 150 132 116 102 90 80 70 62 54 48 42 36 32 28 26 22 20 18 16 14 14 10 10 8 8 6 6 4 4",
    )
)

#: The table D of section 3.3: increments of an estimate before the shift by its rate.
STEPS: Final[tuple[int, ...]] = (
    *(2512, 2288, 2064, 1840, 1616, 1392, 1168, 944, 720, 560, 464, 368, 272, 208, 144, 80),
    *(64,) * 15,
    0,
)

INITIAL_SETS: Final[tuple[InitialSet, ...]] = (
    InitialSet(5, 4, 0, 0),
    InitialSet(5, 4, -41, -654),
    InitialSet(5, 4, 95, 1519),
    InitialSet(4, 5, 0, 0),
    InitialSet(6, 6, 30, 482),
    InitialSet(6, 6, 95, 1519),
    InitialSet(6, 6, -21, -337),
    InitialSet(7, 5, 0, 0),
    InitialSet(7, 5, 30, 482),
)

#: State of the dependent quantizer after an even and an odd level index (section 8.1).
NEXT: Final[tuple[tuple[int, int], ...]] = ((0, 2), (7, 5), (1, 3), (6, 4), (2, 0), (5, 7), (3, 1), (4, 6))

_BIT: Final = 32768  # unit of the estimate: 1/32768 bit


def est_bits() -> tuple[tuple[int, int], ...]:
    """Estimated cost of bin 0 and bin 1 for ``512 + (p >> 3)``, in 1/32768 bit (nnc-encoder-notes section 4).

    Only the encoder's choice of initial sets reads it: floats may make it, since it is pinned as integers.
    """

    def pair(index: int) -> tuple[int, int]:
        step = index - 512
        distance = step if step >= 0 else min(511, -step)
        less = _BIT + 400.79895 * (distance + 0.5)
        costs = (round(less), round(-_BIT * math.log2(1 - 2 ** (-less / _BIT))))
        return costs if step >= 0 else (costs[1], costs[0])

    return tuple(pair(index) for index in range(1024))


def _rates() -> tuple[tuple[int, int], ...]:
    """The different (ra, rb) of the initial sets, in order of appearance."""
    return tuple(dict.fromkeys((entry.ra, entry.rb) for entry in INITIAL_SETS))


def _lines(values: Iterable[int | str], per_line: int) -> str:
    texts = [str(value) for value in values]
    return "".join(f"    {', '.join(texts[at : at + per_line])},\n" for at in range(0, len(texts), per_line))


def _array(declaration: str, values: Iterable[int | str], per_line: int) -> str:
    return f"{declaration} = {{\n{_lines(values, per_line)}}};\n"


def _flat(rows: Iterable[Sequence[int]]) -> list[int]:
    return [value for row in rows for value in row]


def _steps(name: str, shifts: Iterable[int]) -> str:
    """Macros ``name``_0 and ``name``_1: increments of an estimate after bin 0 and bin 1, by rate and estimate."""
    shifts = tuple(shifts)
    after_0 = [f"S({-(STEPS[31 - index] >> shift)})" for shift in shifts for index in range(32)]
    after_1 = [f"S({STEPS[index] >> shift})" for shift in shifts for index in range(32)]
    return "\n".join(_macro(f"{name}_{bin_}(S)", values, 8) for bin_, values in enumerate((after_0, after_1)))


def _macro(name: str, values: Iterable[str], per_line: int) -> str:
    return f"#define {name} \\\n" + _lines(values, per_line).rstrip(",\n").replace("\n", " \\\n") + "\n"


def _rlps_by_estimate() -> list[str]:
    """RLPS with the estimate first: by (p + 4096) >> 7, then by row."""
    return [f"R({RLPS[row][min(31, abs(p7))]})" for p7 in range(-32, 32) for row in range(8)]


def c_header() -> str:
    """Text of ``src/common/tables_gen.h``."""
    rates = _rates()
    rate_of_set = [rates.index((entry.ra, entry.rb)) for entry in INITIAL_SETS]
    parts = [
        "/* Generated from codec/entropy/tables.py; do not edit. */\n"
        "#ifndef NNB_TABLES_GEN_H\n#define NNB_TABLES_GEN_H\n\n#include <stdint.h>\n\n"
        f"enum {{ NNB_INITIAL_SET_COUNT = {len(INITIAL_SETS)}, NNB_RATE_COUNT = {len(rates)} }};\n",
        "/* RLPS of nnc-entropy 3.2: 64 times 8 values R(rl), by (p + 4096) >> 7, then by row. */\n"
        + _macro("NNB_RLPS_VALUES(R)", _rlps_by_estimate(), 8),
        "/*\n * Increments of update() in nnc-entropy 3.3, 32 for each pair of rates: S(increment) of a after bins\n"
        " * 0 and 1, by (a + 127) >> 3 and (a + 128) >> 3; of b by (b + 2047) >> 7 and (b + 2048) >> 7.\n */\n"
        + _steps("NNB_A_STEPS", (ra for ra, _ in rates)),
        _steps("NNB_B_STEPS", (rb for _, rb in rates)),
        "/* Initial sets: start values a + 128 and b + 2048, and number of the pair of rates. */\n"
        + _array("static const uint8_t nnb_set_a[NNB_INITIAL_SET_COUNT]", [e.a + 128 for e in INITIAL_SETS], 16),
        _array("static const uint16_t nnb_set_b[NNB_INITIAL_SET_COUNT]", [e.b + 2048 for e in INITIAL_SETS], 16),
        _array("static const uint8_t nnb_set_rate[NNB_INITIAL_SET_COUNT]", rate_of_set, 16),
        "/* NEXT[state][K & 1], one nibble each: index 2 * state + (K & 1). */\n"
        f"#define NNB_NEXT_STATES UINT64_C(0x{_nibbles(_flat(NEXT)):016X})\n",
        "/* Cost of bin 0 and bin 1 in 1/32768 bit, index 2 * ((p + 4096) >> 3) + bin; the encoder's only. */\n"
        "#ifdef NNB_WITH_EST_BITS\n"
        + _array("static const uint32_t nnb_est_bits[2048]", _flat(est_bits()), 12)
        + "#endif\n",
        "#endif\n",
    ]
    return "\n".join(parts)


def _nibbles(values: Sequence[int]) -> int:
    return sum(value << 4 * at for at, value in enumerate(values))

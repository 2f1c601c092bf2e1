"""Slow entropy coder in Python that mirrors the text of nnc-entropy; the C core's test and its reader's guide.

Same functions as :mod:`nnbits.codec.entropy.native`. Section numbers are those of nnc-entropy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..errors import NnbitsError, ReasonCode
from ..limits import MAX_LEVEL, MIN_LEVEL
from .coding import DecodedLevels, EncodedPayload, EntryPoint, LevelCoding, LevelsToCode, SetRule
from .scan import GTX, PAR_OFFSET, ROW_OFFSET, SGN, SGN_T, SIG_H, SIG_T, estimated, segments
from .tables import INITIAL_SETS, NEXT, RLPS, STEPS, est_bits

__all__ = [
    "Context",
    "ContextChoice",
    "choose_initial_sets",
    "code_level",
    "decode_payload",
    "encode_payload",
    "first_qp_value",
]

_EST_BITS: Final = est_bits()

#: The rule by cost looks at so many blocks of bins of a context, and then at every eighth, which counts for all.
_BLOCK_BINS: Final = 1024
_FULL_BLOCKS: Final = 64
_SAMPLING: Final = 8


class Context:
    """A context variable (section 3)."""

    __slots__ = ("a", "b", "number", "ra", "rb")

    def __init__(self) -> None:
        self.assign(0)

    def assign(self, number: int) -> None:
        """Start on an initial set and remember it (section 3.4)."""
        self.number = number
        self.reset()

    def reset(self) -> None:
        """Go back to the start values of the remembered set."""
        self.ra, self.rb, self.a, self.b = INITIAL_SETS[self.number]

    @property
    def p(self) -> int:
        """Estimate; not negative means that 1 is the more probable value."""
        return 16 * self.a + self.b

    def update(self, bin_: int) -> None:
        """Section 3.3."""
        s = 1 if bin_ else -1
        self.a += s * (STEPS[16 + ((s * self.a) >> 3)] >> self.ra)
        self.b += s * (STEPS[16 + ((s * self.b) >> 7)] >> self.rb)


class ArithmeticDecoder:
    """Section 2.1."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.position = 0
        self.range = 510
        self.offset = 0
        for _ in range(9):
            self.offset = 2 * self.offset + self.next_bit()
        self.check_overrun()
        self.check_offset()

    def check_offset(self) -> None:
        """V < R always holds in what an encoder wrote."""
        if self.offset >= self.range:
            raise NnbitsError(
                ReasonCode.CABAC_END, "the arithmetic code string holds an impossible offset", path="cabac_data"
            )

    def next_bit(self) -> int:
        at = self.position
        self.position += 1
        return self.payload[at >> 3] >> (7 - (at & 7)) & 1 if at < 8 * len(self.payload) else 0

    def check_overrun(self) -> None:
        """Bits that are not there read as 0; whoever has used one is at the end of a cut payload."""
        if self.position > 8 * len(self.payload):
            raise NnbitsError(ReasonCode.TRUNCATED, "the arithmetic code string ends too early", path="cabac_data")

    def renormalize(self) -> None:
        while self.range < 256:
            self.range *= 2
            self.offset = 2 * self.offset + self.next_bit()

    def context_bin(self, c: Context) -> int:
        rl = RLPS[(self.range >> 5) & 7][abs(c.p >> 7)]
        mps = int(c.p >= 0)
        self.range -= rl
        if self.offset < self.range:
            bin_ = mps
        else:
            self.offset -= self.range
            self.range = rl
            bin_ = 1 - mps
        self.renormalize()
        c.update(bin_)
        return bin_

    def bypass(self, count: int) -> int:
        """bp(count)."""
        value = 0
        for _ in range(count):
            self.offset = 2 * self.offset + self.next_bit()
            bin_ = int(self.offset >= self.range)
            self.offset -= bin_ * self.range
            value = 2 * value + bin_
        return value

    def finish(self) -> None:
        """The terminating bin, the stop bit and the length of the payload."""
        self.check_overrun()
        self.range -= 2
        used = self.position
        stop = self.payload[(used - 1) >> 3] << ((used - 1) & 7) & 0xFF
        if self.offset < self.range or stop != 0x80 or (used + 7) // 8 != len(self.payload):
            raise NnbitsError(
                ReasonCode.CABAC_END, "the arithmetic code string does not end with its tensors", path="cabac_data"
            )


class ArithmeticEncoder:
    """Section 2.2, with the unbounded integer ``low`` of the definition."""

    def __init__(self) -> None:
        self.low = 0
        self.range = 510
        self.shifts = 0

    def context_bin(self, c: Context, bin_: int) -> None:
        rl = RLPS[(self.range >> 5) & 7][abs(c.p >> 7)]
        self.range -= rl
        if bin_ != int(c.p >= 0):
            self.low += self.range
            self.range = rl
        while self.range < 256:
            self.range *= 2
            self.low *= 2
            self.shifts += 1
        c.update(bin_)

    def bypass(self, value: int, count: int) -> None:
        """bp(count)."""
        self.low = (self.low << count) + self.range * value
        self.shifts += count

    def finish(self) -> int:
        """Encode the terminating bin; returns the code string S as a number of ``shifts`` + 9 bits."""
        self.low += self.range - 2
        return self.low | 1


class ContextChoice:
    """Context choice of section 4 for one tensor."""

    def __init__(self, coding: LevelCoding) -> None:
        self.second = GTX + 2 * coding.unary_length
        self.remainder = GTX + 4 * coding.unary_length

    @staticmethod
    def sig(state: int, prev: int, base: int, hist: bool) -> int:
        if hist:
            return SIG_H + state
        if base:
            return SIG_T + 2 * state + (abs(base) > 1)
        return 3 * state + (0 if prev == 0 else 1 if prev < 0 else 2)

    @staticmethod
    def sign(prev: int, base: int) -> int:
        if base:
            return SGN_T + (base > 0)
        return SGN + (0 if prev == 0 else 1 if prev < 0 else 2)

    def greater(self, j: int, negative: bool, base: int) -> int:
        if base:
            return self.second + 2 * j + (abs(base) < j)
        return GTX + 2 * j + negative


def _signed_limit(cs: int, cz: int, negative: bool) -> int | None:
    return None if cs == 0 else cz if negative else cs - 1 - cz


def _decode_level(
    engine: ArithmeticDecoder,
    contexts: Sequence[Context],
    choice: ContextChoice,
    coding: LevelCoding,
    state: int,
    prev: int,
    base: int,
    hist: bool,
) -> int:
    """level() of section 5."""
    cs, cz, length = coding.codebook_size, coding.codebook_zero_offset, coding.unary_length
    if cs == 1 or not engine.context_bin(contexts[choice.sig(state, prev, base, hist)]):
        return 0
    if cs == 0 or (cz != 0 and cz != cs - 1):
        negative = bool(engine.context_bin(contexts[choice.sign(prev, base)]))
    else:
        negative = cz != 0
    limit = _signed_limit(cs, cz, negative)

    def magnitude() -> int:
        v = 1
        if limit is not None and limit <= 1:
            return v
        j = 0
        while True:
            g = engine.context_bin(contexts[choice.greater(j, negative, base)])
            v += g
            j += 1
            if g == 0 or j == length or v == limit:
                break
        if g == 0 or v == limit:
            return v
        r = 0
        while True:
            g = engine.context_bin(contexts[choice.remainder + r])
            if g:
                v += 1 << r
                r += 1
            if g == 0 or r == 31 or (limit is not None and limit < v + (1 << r)):
                break
        return v + engine.bypass(r)

    v = magnitude()
    if limit is not None and v > limit:
        engine.check_overrun()
        raise NnbitsError(ReasonCode.LEVEL_RANGE, f"level {v} is outside its codebook", path="cabac_data")
    return -v if negative else v


def _expand(k: int, state: int) -> int:
    """Section 8.2."""
    return 0 if k == 0 else 2 * k - (1 if k > 0 else -1) * (state & 1)


def _index(level: int, state: int) -> int:
    """Inverse of :func:`_expand`."""
    t = state & 1
    if level and (level + t) % 2:
        raise NnbitsError(ReasonCode.BAD_TENSOR, f"level {level} has the wrong parity for quantizer {t}")
    k = (abs(level) + t) // 2 if level else 0
    return -k if level < 0 else k


def _skip_row(state: int, width: int) -> int:
    for _ in range(width % 4):  # following even indices only, every state has a period that divides 4
        state = NEXT[state][0]
    return state


def _signed(value: int, bits: int) -> int:
    """iae(bits)."""
    return value - (1 << bits) if bits and value >> (bits - 1) else value


def first_qp_value(payload: bytes, qp_bits: int) -> int:
    """qp_value of the first tensor of a cabac_data(); its first eight bytes are enough."""
    return _signed(ArithmeticDecoder(payload).bypass(qp_bits), qp_bits)


def decode_payload(
    payload: bytes | memoryview,
    codings: Sequence[LevelCoding],
    *,
    bases: Sequence[NDArray[np.int32] | None] | None = None,
    histories: Sequence[NDArray[np.bool_] | None] | None = None,
) -> list[DecodedLevels]:
    """Decode a cabac_data() (section 1).

    Args:
        payload: the arithmetic code string, exactly.
        codings: one entry for each tensor of the unit, in coding order.
        bases: int32 temporal references, flat.
        histories: history masks, flat.

    Raises:
        NnbitsError: TRUNCATED, CABAC_END, LEVEL_RANGE.
    """
    engine = ArithmeticDecoder(bytes(payload))
    result = [
        _decode_tensor(engine, coding, bases[i] if bases else None, histories[i] if histories else None)
        for i, coding in enumerate(codings)
    ]
    engine.finish()
    return result


def _decode_tensor(
    engine: ArithmeticDecoder,
    coding: LevelCoding,
    base: NDArray[np.int32] | None,
    history: NDArray[np.bool_] | None,
) -> DecodedLevels:
    qp_value = _signed(engine.bypass(coding.qp_bits), coding.qp_bits)
    contexts = [Context() for _ in range(coding.context_count)]
    par = contexts[PAR_OFFSET + 4 * coding.unary_length]
    row = contexts[ROW_OFFSET + 4 * coding.unary_length]
    hist_enabled = False
    rows: NDArray[np.bool_] | None = None
    if coding.row_flags:
        if coding.parent:
            hist_enabled = bool(engine.bypass(1))
        if engine.bypass(1):
            rows = np.array([engine.context_bin(row) for _ in range(coding.height)], np.bool_)
    for c in estimated(coding, hist_enabled):
        if engine.context_bin(par):
            contexts[c].assign(1 + engine.bypass(3))
    levels = _decode_levels(engine, contexts, coding, rows, base, history if hist_enabled else None)
    sets = np.array([c.number for c in contexts], np.uint8)
    return DecodedLevels(levels, qp_value, hist_enabled, rows, sets)


def _decode_levels(
    engine: ArithmeticDecoder,
    contexts: Sequence[Context],
    coding: LevelCoding,
    rows: NDArray[np.bool_] | None,
    base: NDArray[np.int32] | None,
    history: NDArray[np.bool_] | None,
) -> NDArray[np.int32]:
    """level_data() of section 6."""
    width = coding.width
    levels = np.zeros(coding.height * width, np.int32)
    choice = ContextChoice(coding)
    state = prev = 0
    if coding.block and coding.height > coding.block:
        engine.check_overrun()
        engine.range = 256
        engine.check_offset()
    for segment in segments(coding):
        if rows is not None and rows[segment.row]:
            if coding.dq:
                state = _skip_row(state, width)
        else:
            for at in range(segment.row * width + segment.start, segment.row * width + segment.stop):
                b = int(base[at]) if coding.temporal and base is not None else 0
                h = bool(history[at]) if history is not None else False
                k = _decode_level(engine, contexts, choice, coding, state, prev, b, h)
                prev = k
                level = _expand(k, state) if coding.dq else k
                if not MIN_LEVEL <= level <= MAX_LEVEL:
                    engine.check_overrun()  # the cause, if the level was made of bits that are not there
                    raise NnbitsError(ReasonCode.LEVEL_RANGE, f"level {level} is not an int32", path="cabac_data")
                levels[at] = level
                if coding.dq:
                    state = NEXT[state][k & 1]
        engine.check_overrun()
        if segment.ends_block_row:
            for c in contexts:
                c.reset()
            prev = 0
            engine.range = 256
            engine.check_offset()
    return levels


def code_level(
    code: Callable[[int, int], None],
    bypass: Callable[[int, int], None],
    k: int,
    choice: ContextChoice,
    coding: LevelCoding,
    state: int,
    prev: int,
    base: int,
    hist: bool,
    limited: bool = True,
) -> None:
    """level() of section 5, encoder direction: calls ``code(context index, bin)`` and ``bypass(value, count)``."""
    cs = coding.codebook_size if limited else 0
    cz, length = coding.codebook_zero_offset, coding.unary_length
    if cs == 1:
        return
    code(choice.sig(state, prev, base, hist), int(k != 0))
    if k == 0:
        return
    negative = k < 0
    if cs == 0 or (cz != 0 and cz != cs - 1):
        code(choice.sign(prev, base), int(negative))
    limit = _signed_limit(cs, cz, negative)
    v = abs(k)
    if limit is not None and v > limit:
        raise NnbitsError(ReasonCode.BAD_TENSOR, f"level {k} is outside its codebook")
    if limit is not None and limit <= 1:
        return
    for j in range(length):
        greater = int(v > j + 1)
        code(choice.greater(j, negative, base), greater)
        if not greater or j + 2 == limit:
            return
    rest, group, r = v - 1 - length, 0, 0
    most = None if limit is None else limit - 1 - length
    while rest >= group + (1 << r) and (most is None or most >= group + (1 << r)):
        code(choice.remainder + r, 1)
        group += 1 << r
        r += 1
    if r < 31 and (most is None or most >= group + (1 << r)):
        code(choice.remainder + r, 0)
    bypass(rest - group, r)


def _walk(
    tensor: LevelsToCode,
    rows: NDArray[np.bool_] | None,
    level: Callable[[int, int, int, int, int, bool], None],
    block_row: Callable[[int], None],
) -> None:
    """Visit the levels in coding order: ``level(L, K, state, position, base, hist)``, ``block_row(state)``."""
    coding, width = tensor.coding, tensor.coding.width
    hist = tensor.hist_dep_sig_prob_enabled_flag and coding.row_flags and coding.parent
    state = 0
    for segment in segments(coding):
        if rows is not None and rows[segment.row]:
            if coding.dq:
                state = _skip_row(state, width)
        else:
            for at in range(segment.row * width + segment.start, segment.row * width + segment.stop):
                value = int(tensor.levels[at])
                b = int(tensor.base[at]) if coding.temporal and tensor.base is not None else 0
                h = bool(tensor.history[at]) if hist and tensor.history is not None else False
                k = _index(value, state) if coding.dq else value
                level(value, k, state, at, b, h)
                if coding.dq:
                    state = NEXT[state][k & 1]
        if segment.ends_block_row:
            block_row(state)


def _skipped_rows(tensor: LevelsToCode) -> NDArray[np.bool_] | None:
    coding = tensor.coding
    if not coding.row_flags or tensor.row_skipping is False:
        return None
    zero: NDArray[np.bool_] = np.logical_not(tensor.levels.reshape(coding.height, coding.width).any(axis=1))
    wanted = tensor.row_skipping
    if isinstance(wanted, bool):
        return zero
    if (wanted & ~zero).any():
        raise NnbitsError(ReasonCode.BAD_TENSOR, "a row to be skipped is not zero", path="row_skip_list")
    return wanted


def choose_initial_sets(tensor: LevelsToCode, rule: SetRule) -> NDArray[np.uint8]:
    """Choose the initial set of every context by estimated cost (nnc-encoder-notes section 4).

    Args:
        tensor: what will be coded; its ``initial_sets`` are ignored.
        rule: ``peer`` follows NNCodec exactly: under dq it binarizes the expanded level, ignores codebook limits, and
            does not reset ``prev`` at block rows. ``cost`` measures what is really coded, in large tensors by a
            sample of the bins.

    Returns:
        uint8 per context.
    """
    coding = tensor.coding
    peer = rule == "peer"
    choice = ContextChoice(coding)
    count = coding.context_count
    copies = [[Context() for _ in INITIAL_SETS] for _ in range(count)]
    for sets in copies:
        for i, c in enumerate(sets):
            c.assign(i)
    cost = np.zeros((count, len(INITIAL_SETS)), np.int64)
    seen = [0] * count
    prev = 0

    def code(index: int, bin_: int) -> None:
        block = seen[index] // _BLOCK_BINS
        seen[index] += 1
        late = not peer and block >= _FULL_BLOCKS
        if late and block % _SAMPLING:
            return
        weight = _SAMPLING if late else 1
        for i, c in enumerate(copies[index]):
            cost[index, i] += weight * _EST_BITS[512 + (c.p >> 3)][bin_]
            c.update(bin_)

    def level(value: int, k: int, state: int, at: int, base: int, hist: bool) -> None:
        nonlocal prev
        coded = value if peer else k
        code_level(code, lambda _v, _n: None, coded, choice, coding, state, prev, base, hist, limited=not peer)
        prev = coded

    def block_row(_state: int) -> None:
        nonlocal prev
        for sets in copies:
            for c in sets:
                c.reset()
        if not peer:
            prev = 0

    _walk(tensor, _skipped_rows(tensor), level, block_row)
    result = np.zeros(count, np.uint8)
    hist = tensor.hist_dep_sig_prob_enabled_flag and coding.row_flags and coding.parent
    for index in estimated(coding, hist):
        best, least = 0, cost[index, 0]
        for i in range(1, len(INITIAL_SETS)):
            if cost[index, i] + 3 * 32768 < least:
                best, least = i, cost[index, i] + 3 * 32768
        result[index] = best
    return result


def encode_payload(tensors: Sequence[LevelsToCode]) -> EncodedPayload:
    """Encode a cabac_data().

    Raises:
        NnbitsError: BAD_TENSOR for a level outside its codebook or of the wrong parity.
    """
    engine = ArithmeticEncoder()
    marks: list[list[tuple[int, int, int]]] = []
    for tensor in tensors:
        marks.append(_encode_tensor(engine, tensor))
    code = engine.finish()
    end = engine.shifts
    pad = -(end + 9) % 8
    entry_points = tuple(
        tuple(
            EntryPoint(here[0] - before[0], (code >> (end - here[0])) - here[1], here[2])
            for before, here in pairwise(tensor_marks)
        )
        for tensor_marks in marks
    )
    return EncodedPayload((code << pad).to_bytes((end + 9 + pad) // 8, "big"), entry_points)


def _encode_tensor(engine: ArithmeticEncoder, tensor: LevelsToCode) -> list[tuple[int, int, int]]:
    """tensor_data(); returns (shifts, low, state) at the start of each block row."""
    coding = tensor.coding
    engine.bypass(tensor.qp_value & ((1 << coding.qp_bits) - 1), coding.qp_bits)
    contexts = [Context() for _ in range(coding.context_count)]
    rows = _skipped_rows(tensor)
    hist = tensor.hist_dep_sig_prob_enabled_flag and coding.row_flags and coding.parent
    if coding.row_flags:
        if coding.parent:
            engine.bypass(int(hist), 1)
        engine.bypass(int(rows is not None), 1)
        if rows is not None:
            for skipped in rows:
                engine.context_bin(contexts[ROW_OFFSET + 4 * coding.unary_length], int(skipped))
    if tensor.initial_sets is None:
        sets = np.zeros(coding.context_count, np.uint8)
    elif isinstance(tensor.initial_sets, str):
        sets = choose_initial_sets(tensor, tensor.initial_sets)
    else:
        sets = tensor.initial_sets
    par = contexts[PAR_OFFSET + 4 * coding.unary_length]
    for c in estimated(coding, hist):
        number = int(sets[c])
        engine.context_bin(par, int(number != 0))
        if number:
            engine.bypass(number - 1, 3)
            contexts[c].assign(number)

    choice = ContextChoice(coding)
    blocked = bool(coding.block) and coding.height > coding.block
    marks: list[tuple[int, int, int]] = []
    prev = 0

    def level(_value: int, k: int, state: int, _at: int, base: int, hist: bool) -> None:
        nonlocal prev
        code_level(
            lambda c, bin_: engine.context_bin(contexts[c], bin_),
            engine.bypass,
            k,
            choice,
            coding,
            state,
            prev,
            base,
            hist,
        )
        prev = k

    def block_row(state: int) -> None:
        nonlocal prev
        for c in contexts:
            c.reset()
        prev = 0
        engine.range = 256
        marks.append((engine.shifts, engine.low, state))

    if blocked:
        engine.range = 256
        marks.append((engine.shifts, engine.low, 0))
    _walk(tensor, rows, level, block_row)
    return marks

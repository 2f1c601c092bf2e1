"""The two bit streams that the declaration reads from and writes to (nnc-bitstream section 2).

Both stand in for construct's byte stream. They know where in the whole stream the unit lies, so that errors carry
byte offsets and traces carry bit positions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import NnbitsError, ReasonCode
from ..limits import MAX_UE_BITS

if TYPE_CHECKING:
    from .trace import Trace, TraceValue

__all__ = ["BitReader", "BitWriter"]

_FLUSH_BITS: Final = 1024
_ST_CHUNK: Final = 256


class _BitStream:
    """What reader and writer share: the place of the unit and the trace."""

    __slots__ = ("offset", "position", "trace")

    def __init__(self, offset: int, trace: Trace | None) -> None:
        self.offset = offset  # byte offset of the unit in the stream
        self.position = 0  # in bits, from the start of the unit
        self.trace = trace

    def error(self, code: ReasonCode, message: str, path: str, position: int | None = None) -> NnbitsError:
        """The error to raise for the element ``path`` that starts at ``position`` (default: here)."""
        at = self.position if position is None else position
        return NnbitsError(code, message, path=path, offset=self.offset + (at >> 3))

    def note(self, path: str, position: int, value: TraceValue) -> None:
        """Trace an element that started at ``position`` and ends here."""
        if self.trace is not None:
            self.trace.add(path, 8 * self.offset + position, self.position - position, value)


class BitReader(_BitStream):
    """Reads elements of one unit, most significant bit first, without copying it.

    Args:
        data: the bytes of the unit.
        offset: byte offset of the unit in the stream.
        trace: receives every element read.
    """

    __slots__ = ("_data", "_end")

    def __init__(self, data: memoryview, *, offset: int = 0, trace: Trace | None = None) -> None:
        super().__init__(offset, trace)
        self._data = data
        self._end = 8 * len(data)

    @property
    def remaining(self) -> int:
        """Bits that are left."""
        return self._end - self.position

    def require(self, bits: int, path: str) -> None:
        """Raise TRUNCATED unless ``bits`` are left."""
        if bits > self._end - self.position:
            message = f"the element needs {bits} bits, the unit has {self.remaining} left"
            raise self.error(ReasonCode.TRUNCATED, message, path)

    def read(self, width: int, path: str) -> int:
        """The next ``width`` bits as an unsigned integer."""
        position = self.position
        end = position + width
        if end > self._end:
            self.require(width, path)
        last = (end + 7) >> 3
        self.position = end
        return (int.from_bytes(self._data[position >> 3 : last], "big") >> (8 * last - end)) & ((1 << width) - 1)

    def read_ue(self, order: int, path: str) -> int:
        """An Exp-Golomb code of order ``order`` (section 2.1) with less than MAX_UE_BITS bits behind its prefix."""
        position = self.position
        first = position >> 3
        window = self._data[first : first + 9]
        available = 8 * len(window) - (position & 7)
        bits = int.from_bytes(window, "big") & ((1 << available) - 1)
        zeros = available - bits.bit_length()
        suffix = order + zeros
        if suffix >= MAX_UE_BITS:
            raise self.error(ReasonCode.OVERLONG_CODE, f"the code has {MAX_UE_BITS} or more value bits", path)
        length = zeros + 1 + suffix
        if length > self._end - position:
            # Without the closing 1 the true length is unknown, but it is longer than what is left either way.
            self.require(max(length, self.remaining + 1), path)
        base = ((1 << zeros) - 1) << order
        if length <= available:
            self.position = position + length
            return base + ((bits >> (available - length)) & ((1 << suffix) - 1))
        self.position = position + zeros + 1
        return base + self.read(suffix, path)

    def read_raw(self, width: int, path: str) -> bytes:
        """The next ``width`` bits, left-justified in bytes, unused bits zero."""
        self.require(width, path)
        if self.position & 7 or width & 7:
            size = (width + 7) >> 3
            return (self.read(width, path) << (8 * size - width)).to_bytes(size, "big")
        first = self.position >> 3
        self.position += width
        return bytes(self._data[first : self.position >> 3])

    def read_st(self, limit: int, path: str) -> bytes:
        """The bytes of a string of at most ``limit`` bytes; its terminating zero byte is consumed."""
        start = self.position >> 3
        step = _ST_CHUNK
        at = start
        while True:
            chunk = bytes(self._data[at : at + step])
            found = chunk.find(0)
            length = at - start + (found if found >= 0 else len(chunk))
            if length > limit:
                raise self.error(ReasonCode.LIMIT, f"the string is longer than {limit} bytes", path)
            if found >= 0:
                self.position += 8 * (length + 1)
                return bytes(self._data[start : start + length])
            if len(chunk) < step:
                raise self.error(ReasonCode.BAD_STRING, "the string has no terminating zero byte", path)
            at += step
            step *= 2


class BitWriter(_BitStream):
    """Writes elements of one unit, most significant bit first."""

    __slots__ = ("_bits", "_data", "_pending")

    def __init__(self, *, offset: int = 0, trace: Trace | None = None) -> None:
        super().__init__(offset, trace)
        self._data = bytearray()
        self._bits = 0
        self._pending = 0

    def write(self, value: int, width: int) -> None:
        """Append ``value``, which fits, in ``width`` bits."""
        self._bits = (self._bits << width) | value
        self._pending += width
        self.position += width
        if self._pending >= _FLUSH_BITS:
            self._flush()

    def write_ue(self, value: int, order: int, path: str) -> None:
        """Append an Exp-Golomb code of order ``order``."""
        # With y = value + 2^order the code is y in binary, preceded by (bit length of y) - order - 1 zeros.
        shifted = value + (1 << order)
        length = shifted.bit_length()
        if length > MAX_UE_BITS:
            raise self.error(ReasonCode.VALUE_RANGE, f"{value} does not fit in an ue({order}) code", path)
        self.write(shifted, 2 * length - order - 1)

    def write_bytes(self, data: bytes | memoryview) -> None:
        """Append whole bytes."""
        size = len(data)
        if self._pending & 7:
            self.write(int.from_bytes(data, "big"), 8 * size)
            return
        self._flush()
        self._data += data
        self.position += 8 * size

    def getvalue(self) -> bytes:
        """What was written, which must be whole bytes."""
        self._flush()
        if self._pending:
            raise self.error(ReasonCode.INTERNAL, "the unit does not end on a byte boundary", "")
        return bytes(self._data)

    def _flush(self) -> None:
        rest = self._pending & 7
        self._data += (self._bits >> rest).to_bytes(self._pending >> 3, "big")
        self._bits &= (1 << rest) - 1
        self._pending = rest

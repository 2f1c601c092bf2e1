"""The descriptors of nnc-bitstream section 2 as constructs, and elements with fixed content.

``absent`` is the value that the parsed result holds when a condition leaves the element out. ``minimum`` and
``maximum`` are the range that the specification gives (VALUE_RANGE), ``limit`` is a bound of our own (LIMIT).
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from construct import Construct, Renamed

from ..errors import ReasonCode
from .bits import BitReader, BitWriter
from .expr import Number, evaluate, text
from .float32 import float32_bits, float32_value

if TYPE_CHECKING:
    AnyConstruct: TypeAlias = Construct[Any, Any]
    AnyRenamed: TypeAlias = Renamed[Any, Any]
else:  # generic for the type checker only
    AnyConstruct = Construct
    AnyRenamed = Renamed

__all__ = [
    "AnyConstruct",
    "Code",
    "Hidden",
    "byte_alignment",
    "enum",
    "flt",
    "i",
    "ie",
    "raw",
    "reserved",
    "rest",
    "st",
    "u",
    "ue",
]


class Code(AnyConstruct):
    """One syntax element.

    Attributes:
        descriptor: as the specification writes it.
        absent: value when the element is not in the stream.
        min_bits: the fewest bits it takes; bounds how many of them can follow.
    """

    def __init__(self, descriptor: str, *, absent: Any = None, min_bits: int = 1) -> None:
        super().__init__()
        self.descriptor = descriptor
        self.absent = absent
        self.min_bits = min_bits

    def range_text(self) -> str:
        """What else restricts the value, for the field tables."""
        return ""


class Hidden(Code):
    """An element with fixed content: checked when read, written from nothing, not in the result."""

    def __init__(self, descriptor: str, *, min_bits: int) -> None:
        super().__init__(descriptor, min_bits=min_bits)
        self.flagbuildnone = True


class _Integer(Code):
    """Range checks of all integer codes."""

    def __init__(
        self,
        descriptor: str,
        *,
        minimum: int | None,
        maximum: int | None,
        limit: int | None,
        absent: Any,
        min_bits: int,
    ) -> None:
        super().__init__(descriptor, absent=absent, min_bits=min_bits)
        self.minimum = minimum
        self.maximum = maximum
        self.limit = limit
        self._plain = minimum is None and maximum is None and limit is None

    def range_text(self) -> str:
        low = "" if self.minimum is None else str(self.minimum)
        high = "" if self.maximum is None else str(self.maximum)
        limit = "" if self.limit is None else f", limit {self.limit}"
        return (f", {low}..{high}" if low or high else "") + limit

    def _check(self, value: int, stream: BitReader | BitWriter, path: str, position: int) -> None:
        if self._plain:
            return
        if self.limit is not None and value > self.limit:
            raise stream.error(ReasonCode.LIMIT, f"{value} is above the limit of {self.limit}", path, position)
        low, high = self.minimum, self.maximum
        if (low is not None and value < low) or (high is not None and value > high):
            allowed = f"{'' if low is None else low}..{'' if high is None else high}"
            raise stream.error(ReasonCode.VALUE_RANGE, f"{value} is outside {allowed}", path, position)

    def _given(self, value: Any, stream: BitWriter, path: str) -> int:
        if not isinstance(value, int):
            raise stream.error(ReasonCode.BAD_OPTION, f"expected an integer, got {value!r}", path)
        self._check(value, stream, path, stream.position)
        return value


class _Fixed(_Integer):
    """u(n) and i(n)."""

    def __init__(self, letter: str, width: Number, signed: bool, **options: Any) -> None:
        bits = width if isinstance(width, int) else 1
        super().__init__(f"{letter}({text(width)})", min_bits=bits, **options)
        self.width = width
        self.signed = signed

    def _parse(self, stream: Any, context: Any, path: str) -> int:
        width = self.width if isinstance(self.width, int) else evaluate(self.width, context)
        position = stream.position
        value: int = stream.read(width, path)
        if self.signed and value >> (width - 1):
            value -= 1 << width
        self._check(value, stream, path, position)
        stream.note(path, position, value)
        return value

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        width = self.width if isinstance(self.width, int) else evaluate(self.width, context)
        value = self._given(obj, stream, path)
        low, high = (-(1 << (width - 1)), 1 << (width - 1)) if self.signed else (0, 1 << width)
        if not low <= value < high:
            raise stream.error(ReasonCode.VALUE_RANGE, f"{value} does not fit in {self.descriptor}", path)
        position = stream.position
        stream.write(value & ((1 << width) - 1), width)
        stream.note(path, position, value)
        return value


class _ExpGolomb(_Integer):
    """ue(k) and ie(k) (section 2.1)."""

    def __init__(self, letters: str, order: Number, signed: bool, **options: Any) -> None:
        bits = 1 + (order if isinstance(order, int) else 0)
        super().__init__(f"{letters}({text(order)})", min_bits=bits, **options)
        self.order = order
        self.signed = signed

    def _parse(self, stream: Any, context: Any, path: str) -> int:
        order = self.order if isinstance(self.order, int) else evaluate(self.order, context)
        position = stream.position
        value: int = stream.read_ue(order, path)
        if self.signed:
            value = (value + 1) >> 1 if value & 1 else -(value >> 1)
        self._check(value, stream, path, position)
        stream.note(path, position, value)
        return value

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        order = self.order if isinstance(self.order, int) else evaluate(self.order, context)
        value = self._given(obj, stream, path)
        code = value
        if self.signed:
            code = 2 * value - 1 if value > 0 else -2 * value
        elif value < 0:
            raise stream.error(ReasonCode.VALUE_RANGE, f"{value} does not fit in {self.descriptor}", path)
        position = stream.position
        stream.write_ue(code, order, path)
        stream.note(path, position, value)
        return value


class _Enumerated(Code):
    """u(n) whose values are the members of an enumeration; any other value is UNKNOWN_VALUE."""

    def __init__(self, width: int, members: type[IntEnum], *, absent: Any) -> None:
        super().__init__(f"u({width})", absent=absent, min_bits=width)
        self.width = width
        self.members = members
        self._known = {int(member): member for member in members}

    def range_text(self) -> str:
        return ": " + ", ".join(f"{int(member)} {member.name}" for member in self.members)

    def _parse(self, stream: Any, context: Any, path: str) -> IntEnum:
        position = stream.position
        value: int = stream.read(self.width, path)
        member = self._known.get(value)
        if member is None:
            raise stream.error(ReasonCode.UNKNOWN_VALUE, f"{value} is not defined", path, position)
        stream.note(path, position, value)
        return member

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        member = self._known.get(obj) if isinstance(obj, int) else None
        if member is None:
            raise stream.error(ReasonCode.UNKNOWN_VALUE, f"{obj!r} is not defined", path)
        position = stream.position
        stream.write(int(member), self.width)
        stream.note(path, position, int(member))
        return member


class _Float32(Code):
    """flt(32): four successive u(8), least significant first, at any bit position."""

    def __init__(self, absent: Any) -> None:
        super().__init__("flt(32)", absent=absent, min_bits=32)

    def _parse(self, stream: Any, context: Any, path: str) -> float:
        position = stream.position
        value = float32_value(int.from_bytes(stream.read_raw(32, path), "little"))
        stream.note(path, position, value)
        return value

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        if not isinstance(obj, int | float):
            raise stream.error(ReasonCode.BAD_OPTION, f"expected a number, got {obj!r}", path)
        try:
            bits = float32_bits(float(obj))
        except OverflowError:
            raise stream.error(ReasonCode.VALUE_RANGE, f"{obj!r} does not fit in binary32", path) from None
        position = stream.position
        stream.write_bytes(bits.to_bytes(4, "little"))
        value = float32_value(bits)
        stream.note(path, position, value)
        return value


class _String(Code):
    """st(v): UTF-8 and a zero byte, on a byte boundary."""

    def __init__(self, limit: int, absent: Any) -> None:
        super().__init__("st(v)", absent=absent, min_bits=8)
        self.limit = limit

    def _parse(self, stream: Any, context: Any, path: str) -> str:
        position = stream.position
        data: bytes = stream.read_st(self.limit, path)
        try:
            value = data.decode("utf-8")
        except UnicodeDecodeError as error:
            at = position + 8 * error.start
            raise stream.error(ReasonCode.BAD_STRING, "the string is not UTF-8", path, at) from None
        stream.note(path, position, value)
        return value

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        if not isinstance(obj, str):
            raise stream.error(ReasonCode.BAD_OPTION, f"expected a string, got {obj!r}", path)
        try:
            data = obj.encode("utf-8")
        except UnicodeEncodeError:
            raise stream.error(ReasonCode.BAD_STRING, "the string cannot be written as UTF-8", path) from None
        if b"\0" in data:
            raise stream.error(ReasonCode.BAD_STRING, "the string holds a zero character", path)
        if len(data) > self.limit:
            raise stream.error(ReasonCode.LIMIT, f"the string is longer than {self.limit} bytes", path)
        position = stream.position
        stream.write_bytes(data + b"\0")
        stream.note(path, position, obj)
        return obj


class _Raw(Code):
    """u(n) too wide for an integer: bytes, left-justified, unused bits zero."""

    def __init__(self, width: Number, absent: Any) -> None:
        bits = width if isinstance(width, int) else 0
        super().__init__(f"u({text(width)})", absent=absent, min_bits=bits)
        self.width = width

    def _parse(self, stream: Any, context: Any, path: str) -> bytes:
        position = stream.position
        value: bytes = stream.read_raw(evaluate(self.width, context), path)
        stream.note(path, position, value)
        return value

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        width: int = evaluate(self.width, context)
        size = (width + 7) >> 3
        if not isinstance(obj, bytes) or len(obj) != size:
            raise stream.error(ReasonCode.BAD_OPTION, f"expected {size} bytes", path)
        unused = 8 * size - width
        value = int.from_bytes(obj, "big")
        if value & ((1 << unused) - 1):
            raise stream.error(ReasonCode.VALUE_RANGE, f"a bit is set beyond the first {width}", path)
        position = stream.position
        if unused:
            stream.write(value >> unused, width)
        else:
            stream.write_bytes(obj)
        stream.note(path, position, obj)
        return obj


class _Rest(Code):
    """All bytes up to the end of the unit."""

    def __init__(self, limit: int, absent: Any) -> None:
        super().__init__("bytes to the end of the unit", absent=absent, min_bits=0)
        self.limit = limit

    def _parse(self, stream: Any, context: Any, path: str) -> bytes:
        position = stream.position
        if stream.remaining > 8 * self.limit:
            raise stream.error(ReasonCode.LIMIT, f"there are more than {self.limit} bytes", path)
        value: bytes = stream.read_raw(stream.remaining, path)
        stream.note(path, position, value)
        return value

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        if not isinstance(obj, bytes):
            raise stream.error(ReasonCode.BAD_OPTION, f"expected bytes, got {obj!r}", path)
        if len(obj) > self.limit:
            raise stream.error(ReasonCode.LIMIT, f"there are more than {self.limit} bytes", path)
        position = stream.position
        stream.write_bytes(obj)
        stream.note(path, position, obj)
        return obj


class _Reserved(Hidden):
    """Bits that are zero."""

    def __init__(self, width: int) -> None:
        super().__init__(f"u({width})", min_bits=width)
        self.width = width

    def _parse(self, stream: Any, context: Any, path: str) -> None:
        position = stream.position
        value = stream.read(self.width, path)
        if value:
            raise stream.error(ReasonCode.RESERVED_BITS, f"reserved bits are {value}, not 0", path, position)
        stream.note(path, position, 0)

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        position = stream.position
        stream.write(0, self.width)
        stream.note(path, position, 0)


class _ByteAlignment(Hidden):
    """A one, then zeros up to the byte boundary; a whole byte if the position is aligned (section 2.2)."""

    def __init__(self) -> None:
        super().__init__("", min_bits=1)

    def _parse(self, stream: Any, context: Any, path: str) -> None:
        position = stream.position
        width = 8 - (position & 7)
        value = stream.read(width, path)
        if value != 1 << (width - 1):
            raise stream.error(ReasonCode.BAD_ALIGNMENT, "expected a one and zeros", path, position)
        stream.note(path, position, value)

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        position = stream.position
        width = 8 - (position & 7)
        stream.write(1 << (width - 1), width)
        stream.note(path, position, 1 << (width - 1))


def u(
    width: Number,
    *,
    minimum: int | None = None,
    maximum: int | None = None,
    limit: int | None = None,
    absent: Any = None,
) -> Code:
    """u(n), unsigned."""
    return _Fixed("u", width, False, minimum=minimum, maximum=maximum, limit=limit, absent=absent)


def i(width: Number, *, absent: Any = None) -> Code:
    """i(n), two's complement."""
    return _Fixed("i", width, True, minimum=None, maximum=None, limit=None, absent=absent)


def ue(
    order: Number,
    *,
    minimum: int | None = None,
    maximum: int | None = None,
    limit: int | None = None,
    absent: Any = None,
) -> Code:
    """ue(k), unsigned Exp-Golomb."""
    return _ExpGolomb("ue", order, False, minimum=minimum, maximum=maximum, limit=limit, absent=absent)


def ie(order: Number, *, minimum: int | None = None, maximum: int | None = None, absent: Any = None) -> Code:
    """ie(k), signed Exp-Golomb."""
    return _ExpGolomb("ie", order, True, minimum=minimum, maximum=maximum, limit=None, absent=absent)


def flt(width: Literal[32], *, absent: Any = None) -> Code:
    """flt(32)."""
    return _Float32(absent)


def st(*, limit: int, absent: Any = None) -> Code:
    """st(v) of at most ``limit`` bytes without the terminator."""
    return _String(limit, absent)


def raw(width: Number, *, absent: Any = None) -> Code:
    """u(n) delivered as bytes."""
    return _Raw(width, absent)


def rest(*, limit: int, absent: Any = None) -> Code:
    """The bytes up to the end of the unit, at most ``limit``."""
    return _Rest(limit, absent)


def enum(width: int, members: type[IntEnum], *, absent: Any = None) -> Code:
    """u(n) restricted to an enumeration."""
    return _Enumerated(width, members, absent=absent)


def reserved(width: int) -> Code:
    """u(n) that must be zero."""
    return _Reserved(width)


def byte_alignment() -> AnyRenamed:
    """byte_alignment()."""
    return Renamed(_ByteAlignment(), "byte_alignment")

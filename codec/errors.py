"""The closed list of reason codes and the one exception that carries them.

The C core returns the same numbers (``nnb_status.h`` is generated from this file), so a code means the
same in every language. Numbers are never reused; the message is extra and may change.
"""

from __future__ import annotations

from enum import IntEnum, unique

__all__ = ["NnbitsError", "ReasonCode"]


@unique
class ReasonCode(IntEnum):
    """Why something was refused. The hundreds say whose fault it is."""

    # 1xx malformed: the bytes do not parse
    TRUNCATED = 101  #: the data ends before the element does
    NOT_NNC = 102  #: the first unit is not a start unit
    OVERLONG_CODE = 103  #: an Exp-Golomb code is longer than its value may be
    BAD_STRING = 104  #: a string is not UTF-8, or has no terminating zero byte
    RESERVED_BITS = 105  #: reserved bits are not zero
    BAD_ALIGNMENT = 106  #: byte_alignment() is not a one followed by zeros
    UNKNOWN_VALUE = 107  #: an enumerated element has a value that is not defined
    UNIT_SIZE = 108  #: the elements of a unit do not add up to nnr_unit_size

    # 2xx invalid: the elements parse, but break a rule
    UNIT_ORDER = 201  #: a unit stands where it must not
    DUPLICATE_NAME = 202  #: two data units carry the same tensor name
    SHAPE_MISSING = 203  #: the tensor's dimensions are neither in the stream nor supplied
    SHAPE_MISMATCH = 204  #: a shape disagrees with the data or with a reference
    CABAC_END = 205  #: terminating bin, stop bit or length of the arithmetic code string is wrong
    LEVEL_RANGE = 206  #: a decoded level lies outside int32 or outside its codebook
    QP_MISSING = 207  #: a quantized tensor without quantization parameters in force
    VALUE_RANGE = 208  #: an element's value is outside its range
    ENTRY_POINT = 209  #: an entry point disagrees with the data
    BASE_MISSING = 210  #: an update whose base is not there
    BASE_MISMATCH = 211  #: an update of another base
    METADATA = 212  #: the source description in the topology unit or the metadata unit is unusable
    CHECKSUM = 213  #: a CRC-32C disagrees with the bytes
    DIGEST = 214  #: a SHA-256 disagrees with the bytes
    INDEX = 215  #: the index disagrees with the access units, or with itself
    SPARSE_MAP = 216  #: a sparse map disagrees with its count or its shape
    LOSSLESS_BLOCK = 217  #: a block of exactly coded values is not what an encoder writes
    COMPRESSED_DATA = 218  #: deflated or zstd data do not decompress to their size
    ACCESS_UNIT = 219  #: an access unit is incomplete, or its parts do not fit together
    SIGNATURE = 220  #: a model signature does not verify

    # 3xx unsupported: correct, but not implemented here
    UNSUPPORTED_UNIT = 301  #: unit type
    UNSUPPORTED_FEATURE = 302  #: coding tool, format or combination

    # 4xx limits: refused to protect the caller
    LIMIT = 401  #: a count or size is above its limit
    MEMORY_BUDGET = 402  #: decoding would need more memory than allowed

    # 5xx the caller's arguments
    NOT_EXACT = 501  #: the chosen profile cannot carry the tensor exactly
    BAD_OPTION = 502  #: an option or plan is wrong or contradictory
    NO_SUCH_TENSOR = 503  #: no tensor of that name
    BAD_TENSOR = 504  #: dtype, shape, name or values that cannot be coded as asked
    BUFFER_SIZE = 505  #: a caller's buffer is too small
    MISSING_PACKAGE = 506  #: an optional package is needed

    # 6xx files
    FILE_NOT_FOUND = 601
    FILE_EXISTS = 602
    FILE_FORMAT = 603  #: not a model file that an adapter knows, or a damaged one
    FILE_IO = 604  #: reading or writing failed (disk full, permission, ...)

    # 9xx
    INTERNAL = 901  #: a bug in nnbits


class NnbitsError(Exception):
    """Root of all errors raised by nnbits.

    Args:
        code: the reason; tests and programs match this, never the text.
        message: what is wrong, in a sentence.
        path: the syntax element or argument concerned, e.g. ``"unit[3].header.tensor_dimensions[1]"``.
        offset: byte offset in the stream of the unit or element concerned.
        hint: what to do about it.
    """

    def __init__(
        self,
        code: ReasonCode,
        message: str,
        *,
        path: str | None = None,
        offset: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.path = path
        self.offset = offset
        self.hint = hint

    def __str__(self) -> str:
        place = ", ".join(
            part for part in (self.path, None if self.offset is None else f"byte {self.offset}") if part is not None
        )
        text = f"[{self.code.name}] {self.message}"
        if place:
            text += f" (at {place})"
        return f"{text}. {self.hint}" if self.hint else text

    def to_dict(self) -> dict[str, str | int | None]:
        """The error for ``--json`` output."""
        return {
            "code": self.code.name,
            "number": int(self.code),
            "message": self.message,
            "path": self.path,
            "offset": self.offset,
            "hint": self.hint,
        }

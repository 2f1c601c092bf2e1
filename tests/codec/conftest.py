"""The reference decoder of exactly coded values, beside the core."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.lossless import decode_values
from nnbits.codec.lossless.payload import items_of, read_frame
from nnbits.codec.lossless.reference import decode_block
from nnbits.codec.types import DType

ByReference = Callable[[bytes, DType, int], bytes]
Verdicts = Callable[[bytes, DType, int], tuple["bytes | ReasonCode", "bytes | ReasonCode"]]


def decode_by_reference(code: bytes, dtype: DType, count: int) -> bytes:
    items = items_of(dtype, count)
    layout, start = read_frame(code, items.count)
    parts = []
    for k, size in enumerate(layout.sizes):
        n = min(layout.block_items, items.count - k * layout.block_items)
        parts.append(decode_block(code[start : start + size], replace(items, count=n), layout.row_items).tobytes())
        start += size
    return b"".join(parts)


@pytest.fixture(scope="session")
def by_reference() -> ByReference:
    """What the reference makes of a payload without zstd."""
    return decode_by_reference


@pytest.fixture(scope="session")
def verdicts() -> Verdicts:
    """What the core and the reference make of a payload: bytes, or the code of their refusal."""

    def of(decode: Callable[[], bytes]) -> bytes | ReasonCode:
        try:
            return decode()
        except NnbitsError as error:
            return error.code

    def both(code: bytes, dtype: DType, count: int) -> tuple[bytes | ReasonCode, bytes | ReasonCode]:
        core = of(lambda: decode_values(code, dtype, count).tobytes())
        return core, of(lambda: decode_by_reference(code, dtype, count))

    return both

"""CRC-32C: the C core against its twin in Python and the published check value."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from nnbits.codec.integrity import crc32c, crc32c_reference


def test_check_value() -> None:
    assert crc32c(b"123456789") == crc32c_reference(b"123456789") == 0xE3069283
    assert crc32c(b"") == 0
    assert crc32c(bytes(32)) == 0x8A9136AA


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=64), st.integers(0, 9000), st.integers(0, 70))
def test_core_and_twin_agree(seed: bytes, size: int, cut: int) -> None:
    """Also above the length from which the core works in three lanes, at any alignment, and in two steps."""
    data = (seed + b"x") * (size // (len(seed) + 1) + 1)
    part = memoryview(data)[min(cut, len(data)) :]
    assert crc32c(part) == crc32c_reference(bytes(part))
    assert crc32c(part[size // 3 :], crc32c(part[: size // 3])) == crc32c(part)


def test_threads_share_the_work() -> None:
    data = bytes(range(256)) * 2**15 + b"and seven"
    for threads in (2, 3):
        assert crc32c(data, threads=threads) == crc32c(data)
        assert crc32c(data, 0x12345678, threads=threads) == crc32c(data, 0x12345678)
    assert crc32c(data[:1000], threads=2) == crc32c(data[:1000])

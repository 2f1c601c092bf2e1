"""Front-to-back reading of streams as other writers may put them together."""

from __future__ import annotations

import io

import pytest

import nnbits
from nnbits.codec.syntax import Piece
from nnbits.conformance.cases.pieces import AccessUnit, raw, stream


def part(first: int, count: int) -> Piece:
    return raw("a", shape=(6,), first_element=first, element_count=count)


@pytest.mark.parametrize("units", [((0, 2), (2, 1), (3, 3)), ((3, 3), (0, 2), (2, 1))])
@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_parts_in_one_access_unit_make_one_tensor(units: tuple[tuple[int, int], ...], cut: int) -> None:
    pieces = [(part(first, count), bytes(range(first, first + count))) for first, count in units]
    groups = [group for group in (pieces[:cut], pieces[cut:]) if group]
    data = stream(*(AccessUnit([p for p, _ in group], b"".join(b for _, b in group)) for group in groups))
    assert [(name, bytes(array)) for name, array in nnbits.stream(io.BytesIO(data))] == [("a", bytes(range(6)))]
    assert bytes(nnbits.decode(data)["a"]) == bytes(range(6))

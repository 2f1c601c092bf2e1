"""What was once accepted, refused or never finished wrongly (conformance/ERRATA.md)."""

from __future__ import annotations

import fnmatch
import random
import re
from pathlib import Path

import pytest

from nnbits.codec.entropy.coding import LevelCoding
from nnbits.codec.entropy.scan import segments
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.quant import reference
from nnbits.codec.quant.step import binary32_step_size, step_size
from nnbits.conformance.adapters import core
from nnbits.conformance.adapters import reference as decode_reference
from nnbits.conformance.cases.building import Levels, StreamBuilder
from nnbits.conformance.manifest import Manifest
from nnbits.conformance.synthesis import Rejected


def test_rows_of_nothing_take_no_time() -> None:
    assert list(segments(LevelCoding(2**48, 0))) == []
    assert list(segments(LevelCoding(0, 5))) == []


@pytest.mark.parametrize("decode", [core, decode_reference])
def test_more_dimensions_than_numpy_has(decode: object) -> None:
    builder = StreamBuilder(random.Random(1))
    for count in (64, 65, 255):
        builder.data = StreamBuilder(random.Random(1)).data
        builder.tensor("t", (1,) * count, Levels("small"))
        if count == 64:
            assert decode([builder.data], {})["t"].ndim == 64  # type: ignore[operator]
            continue
        with pytest.raises(NnbitsError) as caught:
            decode([builder.data], {})  # type: ignore[operator]
        assert caught.value.code == ReasonCode.UNSUPPORTED_FEATURE


def test_scan_orders_that_nobody_defines() -> None:
    builder = StreamBuilder(random.Random(1))
    with pytest.raises((NnbitsError, Rejected), match="scan_order"):
        builder.tensor("t", (4, 4), scan_order=5)


def test_steps_are_normal_numbers() -> None:
    import numpy as np

    for qp, density in ((-127, 0), (128, 0), (-1009, 3), (1024, 3)):
        with pytest.raises(NnbitsError) as caught:
            reference.dequantize(np.ones(1, np.int32), qp, density)
        assert caught.value.code == ReasonCode.VALUE_RANGE
    for qp, density in ((-126, 0), (127, 0), (-1008, 3), (1023, 3)):
        assert binary32_step_size(qp, density) == step_size(qp, density)


def _entries() -> list[list[str]]:
    lines = (Path(__file__).parents[2] / "conformance" / "ERRATA.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return rows[2:]


def test_every_entry_names_what_keeps_it_from_coming_back() -> None:
    """Streams of the suite, stored inputs, or tests; each exists."""
    root = Path(__file__).parents[2]
    streams = {entry.id for entry in Manifest.load()}
    rows = _entries()
    assert len(rows) > 10
    for row in rows:
        assert len(row) == 5, row
        named = re.findall(r"(?:(tests/\S+\.py): )?`([^`]+)`", row[4])
        assert named, row
        for file, name in named:
            if file:
                assert f"def {name}(" in (root / file).read_text(encoding="utf-8"), name
            elif "/" in name:
                assert (root / "conformance" / name).is_file(), name
            else:
                assert fnmatch.filter(streams, name), name

"""Blocks as large as they get, of weights of many kinds one within the other: what small arrays do not reach."""

from __future__ import annotations

import numpy as np
import pytest

from nnbits.codec.lossless import Speed, decode_values, encode_values
from nnbits.codec.types import DTYPES, Array

ITEMS = 400_000
NAMES = ("float32", "float32", "float16", "bfloat16", "float64", "int8", "int16", "int32")
SPEEDS: tuple[Speed, ...] = ("fast", "balanced", "small")


def weights(rng: np.random.Generator, rows: int, columns: int) -> Array:
    """float32 numbers, shape (rows, columns)."""
    x = rng.standard_normal((rows, columns)).astype(np.float32)
    kind = rng.choice(["plain", "sums", "scaled", "groups", "groups", "repeated"])
    if kind == "sums":
        return np.rint(x**3 * np.float32(2.0 ** rng.integers(8, 27))) * np.float32(2.0 ** -rng.integers(0, 40))
    if kind == "scaled":
        return x * np.exp2(rng.uniform(-4, 4, (rows, 1)), dtype=np.float32) * np.exp2(rng.uniform(-3, 3, columns))
    if kind == "groups":  # integers times scales, and these are such weights themselves
        run = int(rng.choice([run for run in (8, 16, 32, 64, columns) if columns % run == 0]))
        top = int(rng.choice([1, 3, 7, 127]))
        integers = np.clip(np.rint(x * top / 2.5), -top, top).reshape(rows, -1, run)
        scales = np.abs(weights(rng, rows, columns // run)).astype(np.float32) + np.float32(2.0**-20)
        return (integers * scales[:, :, None] + np.float32(0)).reshape(rows, columns)
    if kind == "repeated":
        entries = weights(rng, 1, int(rng.integers(2, 70000))).reshape(-1)
        return entries[rng.integers(0, entries.size, (rows, columns))]
    return x


def tensor(rng: np.random.Generator, name: str) -> tuple[Array, int]:
    """Stored elements and the length of a row."""
    columns = int(rng.choice([8, 50, 64, 384, 768, 1000, 4096]))
    x = weights(rng, max(1, int(rng.integers(1, ITEMS)) // columns), columns).astype(np.float32)
    if rng.random() < 0.3:
        x[rng.random(x.shape) < rng.random()] = 0
    if rng.random() < 0.3:
        narrow = rng.random(len(x)) < 0.3
        x[narrow] = x[narrow].astype(np.float16)
    if name == "bfloat16":
        values = (x.view(np.uint32) >> 16).astype(np.uint16)
    elif name.startswith("int"):
        values = np.clip(np.nan_to_num(x * 20), -120, 120).astype(name)
    else:
        values = x.astype(name)
    return values.reshape(-1).view(DTYPES[name].storage), columns


@pytest.mark.parametrize("seed", range(12))
def test_everything_comes_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for number in range(40):
        name, speed = str(rng.choice(NAMES)), SPEEDS[number % 3]
        with np.errstate(all="ignore"):
            values, row = tensor(rng, name)
        code = encode_values(values, DTYPES[name], row_length=row, speed=speed)
        back = decode_values(code, DTYPES[name], values.size)
        assert back.tobytes() == values.tobytes(), (number, name, speed, values.size, row)

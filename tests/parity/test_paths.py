"""Exact coding by the portable code and by the code for each kind of processor: the same bytes."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nnbits.codec.entropy import ans
from nnbits.codec.lossless import Coding

CORE = Path(__file__).resolve().parents[2] / "codec" / "core"
#: What the core is compiled with, and the best path that it then has.
BUILDS = {"portable": ["-DNNB_PORTABLE"], "avx2": ["-DNNB_NO_AVX512"], "all": []}
Array = NDArray[Any]


class Core:
    """A core of its own, with the calls that code a block."""

    def __init__(self, name: str, folder: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            pytest.skip("no C compiler")
        sources = [s for part in ("lossless", "rans") for s in (CORE / "src").glob(f"*/{part}*.c")]
        options = ["-O1", "-fPIC", "-std=c11", "-ffp-contract=off", f"-I{CORE / 'include'}", f"-I{CORE / 'src'}"]

        def compiled(source: Path) -> str:
            target = folder / f"{name}-{source.parent.name}-{source.stem}.o"
            subprocess.run([compiler, *options, *BUILDS[name], "-c", source, "-o", target], check=True)
            return str(target)

        with ThreadPoolExecutor() as pool:
            objects = list(pool.map(compiled, sources))
        library = folder / f"{name}.so"
        subprocess.run([compiler, "-shared", "-o", library, *objects], check=True)
        self.lib = ctypes.CDLL(str(library))
        for function in ("nnb_lossless_bound", "nnb_lossless_encode_work_size", "nnb_lossless_work_size"):
            getattr(self.lib, function).restype = ctypes.c_size_t

    def best_path(self) -> ans.Path:
        return ans.Path(self.lib.nnb_rans_best_path())

    def encode(self, items: bytes, choice: bytes, values: Array, row_items: int) -> bytes:
        count = values.nbytes // items[0]
        out = ctypes.create_string_buffer(self.lib.nnb_lossless_bound(items, ctypes.c_size_t(count)))
        work = ctypes.create_string_buffer(self.lib.nnb_lossless_encode_work_size(items, ctypes.c_size_t(count)))
        size = ctypes.c_size_t()
        sizes = [ctypes.c_size_t(n) for n in (row_items, count, len(work), len(out))]
        status = self.lib.nnb_lossless_encode_block(
            items, choice, values.tobytes(), *sizes[:2], work, sizes[2], out, sizes[3], ctypes.byref(size)
        )
        assert status == 0
        return out.raw[: size.value]

    def decode(self, items: bytes, code: bytes, row_items: int, count: int) -> bytes:
        out = ctypes.create_string_buffer(count * items[0])
        work = ctypes.create_string_buffer(self.lib.nnb_lossless_work_size(items, ctypes.c_size_t(count)))
        sizes = [ctypes.c_size_t(n) for n in (len(code), row_items, count, len(work))]
        assert self.lib.nnb_lossless_decode_block(items, code, *sizes[:2], out, sizes[2], work, sizes[3]) == 0
        return out.raw


def weights(kind: str, dtype: str, count: int, rng: np.random.Generator) -> Array:
    """Values of one of the shapes that each coding is for, as unsigned integers of the item's width."""
    x = rng.standard_normal(count) * 0.03
    rows = np.repeat(np.exp2(rng.uniform(-3, 3, count // 40 + 1)), 40)[:count]
    if kind == "rows":
        x *= rows
    elif kind == "zeros":
        x[rng.random(count) < 0.6] = 0
    elif kind == "few":
        x = x[rng.integers(0, min(count, 90), count)]
    elif kind == "repeated":
        x = x[rng.integers(0, min(count, 700), count)]
    elif kind == "multiples":
        x = np.float32(rng.integers(-100, 101, count)) * np.float32(rows * 1e-3)
    elif kind == "wide":
        x *= np.exp2(rng.uniform(-40, 4, count))
    elif kind == "narrow rows":
        half = np.arange(count) // 40 % 3 == 0
        x = np.where(half, x.astype(np.float16), x)
    elif kind == "equal":
        x[:] = 0.5
    elif kind == "sums":  # which keep their last places when they are small
        x = np.rint(x * 2.0**12) * 2.0**-12 if dtype == "float16" else np.rint(x * 2.0**29) * 2.0**-29
    if dtype == "bfloat16":
        return (x.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    if dtype.startswith("float"):
        return x.astype(dtype)
    if kind == "sorted":
        return np.sort(rng.integers(0, np.iinfo(dtype).max, count)).astype(dtype)
    if kind == "wide":
        return rng.integers(0, 256, count * np.dtype(dtype).itemsize, dtype=np.uint8).view(dtype)
    return np.rint(x * 900).astype(np.int64).astype(dtype)


#: Bytes, mantissa bits and packed bits of items.
ITEMS = {
    "int8": (1, 0, 0), "int16": (2, 0, 0), "int32": (4, 0, 0), "int64": (8, 0, 0), "float16": (2, 10, 0),
    "bfloat16": (2, 7, 0), "float32": (4, 23, 0), "float64": (8, 52, 0),
}  # fmt: skip
KINDS = ("plain", "rows", "zeros", "few", "repeated", "multiples", "wide", "narrow rows", "equal", "sorted", "sums")
COUNTS = (1, 63, 65, 1100, 5003, 66000)


def cases() -> Iterator[tuple[bytes, bytes, Array, int]]:
    rng = np.random.default_rng(3)
    for (name, item), kind, count in product(ITEMS.items(), KINDS, COUNTS):
        values = weights(kind, name, count, rng)
        for speed in range(3):
            yield bytes(item), bytes([speed, 0, 0]), values, 40
        yield bytes(item), bytes([1, 0, 1]), values, count
    for (name, item), kind, coding in product(ITEMS.items(), KINDS, Coding):
        if coding is not Coding.ZSTD:
            yield bytes(item), bytes([2, coding + 1, 0]), weights(kind, name, 2401, rng), 49
    for packed, count in product((3, 5, 6, 7), COUNTS):
        values = np.minimum(rng.integers(0, 256, count), rng.integers(0, 256, count)).astype(np.uint8)
        for speed in range(3):
            yield bytes([1, 0, packed]), bytes([speed, 0, 0]), values, 64


def test_blocks_are_the_same_on_every_path(tmp_path: Path) -> None:
    """One test, that the cores are compiled once."""
    cores = {name: Core(name, tmp_path) for name in BUILDS}
    assert cores["portable"].best_path() is ans.Path.SCALAR
    assert cores["avx2"].best_path() in (ans.Path.AVX2, ans.Path.NEON, ans.Path.SCALAR)
    assert cores["all"].best_path() is ans.best_path()
    seen, halved = set(), 0
    for items, choice, values, row_items in cases():
        codes = {name: core.encode(items, choice, values, row_items) for name, core in cores.items()}
        code = codes["portable"]
        assert set(codes.values()) == {code}, (items, choice, values.size, row_items)
        seen.add(code[0])
        halved += code[0] == Coding.FLOAT and bool(code[2] & 4)
        count = values.nbytes // items[0]
        for name, core in cores.items():
            assert core.decode(items, code, row_items, count) == values.tobytes(), (name, items, choice, count)
    assert seen == set(Coding) - {Coding.ZSTD}
    assert halved > 5

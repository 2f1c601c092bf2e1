"""formats.safetensors: peak memory of opening and copying, each measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

MEASURE = """
import sys
from pathlib import Path
from nnbits.formats import safetensors

def peak():
    # VmHWM begins anew with each program; ru_maxrss would include the peak of the parent.
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1]) // 1024

source, target, threads = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
safetensors.read(source)
before = peak()
if threads:
    safetensors.write(target, safetensors.read(source), threads=threads)
print(peak() - before, before)
"""

TENSOR_MIB = 64
COUNT = 6


@pytest.fixture(scope="module")
def large_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six tensors of 64 MiB; sparse where the file system can."""
    size = TENSOR_MIB * 2**20
    entries = ",".join(
        f'"t{index}":{{"dtype":"U8","shape":[{size}],"data_offsets":[{index * size},{(index + 1) * size}]}}'
        for index in range(COUNT)
    )
    header = f"{{{entries}}}".encode()
    header += b" " * (-len(header) % 8)
    path = tmp_path_factory.mktemp("large") / "a.safetensors"
    with open(path, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + COUNT * size)
    return path


def measure(source: Path, target: Path, threads: int) -> tuple[int, int]:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(source), str(target), str(threads)],
        capture_output=True,
        text=True,
        check=True,
    )
    more, before = done.stdout.split()
    return int(more), int(before)


@pytest.mark.parametrize(("threads", "tensors"), [(1, 1), (2, 2)])
def test_copying_keeps_few_tensors_in_memory(large_file: Path, tmp_path: Path, threads: int, tensors: int) -> None:
    target = tmp_path / "b.safetensors"
    more, _ = measure(large_file, target, threads)
    assert target.stat().st_size == large_file.stat().st_size
    assert more < TENSOR_MIB * tensors + 24


def test_opening_takes_no_memory(large_file: Path, tmp_path: Path) -> None:
    _, before = measure(large_file, tmp_path / "unused", 0)
    assert before < TENSOR_MIB * COUNT / 2

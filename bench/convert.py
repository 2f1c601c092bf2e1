"""Peak memory of convert, pack and unpack of files larger than memory should be, and whether the bytes come back.

    .venv/bin/python bench/convert.py [--gigabytes 1.2] [--folder DIR] [--random-share 0.02]

One safetensors file (half of it one tensor, many small ones) goes through every format that can be written of tensors
and back; an ONNX model with external data, one tensor of it above 2 GiB, is packed, unpacked and converted. Most of
both files is a hole, which takes no disk; what is written of them does. Needs onnx. Exits with 1 if a file comes back
differently or a peak is above 512 MB.
"""

from __future__ import annotations

import argparse
import filecmp
import tempfile
from pathlib import Path

import numpy as np
import onnx
from memory import LIMIT_MB, make, run

ROWS = 560_000  # of 1000 float32: 2.24 GB


def make_onnx(folder: Path) -> Path:
    """A model with three tensors in ``weights.bin``; the last one lies above 2 GiB."""
    rng = np.random.default_rng(0)
    tensors, offset = [], 0
    with (folder / "weights.bin").open("wb") as file:
        for name, rows in (("first", 500), ("big", ROWS), ("last", 300)):
            size = 4000 * rows
            if name == "big":
                file.seek(offset + size // 2)
            file.write(rng.normal(0, 0.02, 1000 * min(rows, 500)).astype("<f4").tobytes())
            file.seek(offset + size)
            tensor = onnx.TensorProto(name=name, data_type=onnx.TensorProto.FLOAT, dims=(rows, 1000))
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in (("location", "weights.bin"), ("offset", offset), ("length", size)):
                tensor.external_data.add(key=key, value=str(value))
            tensors.append(tensor)
            offset += size
        file.truncate(offset)
    model = onnx.helper.make_model(onnx.helper.make_graph([], "large", [], [], tensors))
    (folder / "large.onnx").write_bytes(model.SerializeToString())
    return folder / "large.onnx"


def main() -> int:
    """Run everything; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.2)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--random-share", type=float, default=0.02)
    arguments = parser.parse_args()
    peaks, same = [], True
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        source = folder / "a.safetensors"
        make(source, int(arguments.gigabytes * 1e9), arguments.random_share)
        for suffix in (".pt", ".npz", ".nnc"):
            other, back = folder / f"b{suffix}", folder / "back.safetensors"
            for start, end in ((source, other), (other, back)):
                print(f"{start.suffix:>12} -> {end.suffix:12} ", end="", flush=True)
                peaks.append(run("convert", start, end, "--force", "--quiet"))
            same &= filecmp.cmp(source, back, shallow=False)
            other.unlink()
            back.unlink()
        source.unlink()
        model = make_onnx(folder)
        (folder / "out").mkdir()
        print(f"{model.name}, {(folder / 'weights.bin').stat().st_size:,} bytes beside it")
        peaks.append(run("pack", model, folder / "a.nnc", "--quiet"))
        peaks.append(run("unpack", folder / "a.nnc", folder / "out" / model.name, "--quiet"))
        for file in (model, folder / "weights.bin"):
            same &= filecmp.cmp(file, folder / "out" / file.name, shallow=False)
        peaks.append(run("convert", model, folder / "c.safetensors", "--quiet"))
    print(f"largest peak {max(peaks)} MB, bytes {'identical' if same else 'DIFFERENT'}")
    return int(not same or max(peaks) > LIMIT_MB)


if __name__ == "__main__":
    raise SystemExit(main())

"""Load time and peak memory of a whole model in PyTorch: nnbits.torch beside safetensors and torch.load.

    .venv/bin/python bench/load.py MODEL.safetensors [--rounds 7]
    .venv/bin/python bench/load.py --gigabyte                # 1 GB of bfloat16 layers, made in a temporary folder

Every measurement is a fresh process, the four in turn; the files are in the page cache. "Module" fills an existing
nn.Module of that size; seconds are those of the call, peak memory is that of the process, PyTorch itself included.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

KINDS = ("torch.load", "safetensors", "nnbits", "safetensors module", "nnbits module")


def make_gigabyte(path: Path) -> None:
    """64 layers of 2048 x 4096 normally distributed weights."""
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    layers = {
        f"layers.{i}.weight": (torch.randn(2048, 4096, generator=generator) * 0.02).to(torch.bfloat16)
        for i in range(64)
    }
    save_file(layers, path)


def prepare(source: Path, folder: Path) -> None:
    """The model in all three formats."""
    import torch
    from safetensors.torch import load_file

    import nnbits.torch

    tensors = load_file(source)
    torch.save(tensors, folder / "model.pt")
    nnbits.torch.save_file(tensors, folder / "model.nnc")
    (folder / "model.safetensors").write_bytes(source.read_bytes())


def measure(kind: str, folder: Path) -> dict[str, float]:
    """One load, in this process."""
    import time

    import torch
    from safetensors.torch import load_file, load_model

    import nnbits.torch

    def module() -> Any:
        from safetensors import safe_open

        root = torch.nn.Module()
        with safe_open(folder / "model.safetensors", "pt") as file:
            for name in file.keys():  # noqa: SIM118 - no mapping
                view = file.get_slice(name)
                dtype = file.get_tensor(name).dtype
                holder = root
                *path, last = name.split(".")
                for part in path:
                    if part not in dict(holder.named_children()):
                        holder.add_module(part, torch.nn.Module())
                    holder = dict(holder.named_children())[part]
                holder.register_buffer(last, torch.zeros(view.get_shape(), dtype=dtype))
        return root

    target = module() if kind.endswith("module") else None
    nnbits.torch.load(nnbits.torch.save({"x": torch.zeros(4)}))  # imports and first use
    calls = {
        "torch.load": lambda: torch.load(folder / "model.pt", weights_only=True),
        "safetensors": lambda: load_file(folder / "model.safetensors"),
        "nnbits": lambda: nnbits.torch.load_file(folder / "model.nnc"),
        "safetensors module": lambda: load_model(target, folder / "model.safetensors"),
        "nnbits module": lambda: nnbits.torch.load_model(target, folder / "model.nnc"),
    }
    start = time.perf_counter()
    loaded = calls[kind]()
    if isinstance(loaded, dict):  # mapped tensors are read when they are used
        sum(float(tensor.view(torch.uint8).reshape(-1)[::4096].sum()) for tensor in loaded.values() if tensor.dim())
    seconds = time.perf_counter() - start
    status = Path("/proc/self/status").read_text(encoding="ascii")  # of this program only, unlike getrusage
    peak = int(status.split("VmHWM:")[1].split()[0])
    return {"seconds": seconds, "mb": peak / 1024}


def main() -> int:
    """Measure in turn and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--gigabyte", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure[0], Path(options.measure[1]))))
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = options.model
        if options.gigabyte:
            source = folder / "source.safetensors"
            make_gigabyte(source)
        if source is None:
            parser.error("name a model, or take --gigabyte")
        prepare(source, folder)
        found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
        for _ in range(options.rounds):
            for kind in KINDS:
                command = [sys.executable, __file__, "--measure", kind, name]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found[kind].append(json.loads(done.stdout.splitlines()[-1]))
        for file in ("model.pt", "model.safetensors", "model.nnc"):
            print(f"{file:20} {(folder / file).stat().st_size:>14,} bytes")
        for kind, runs in found.items():
            seconds = statistics.median(run["seconds"] for run in runs)
            print(f"{kind:20} {seconds:8.3f} s {statistics.median(run['mb'] for run in runs):8.0f} MB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

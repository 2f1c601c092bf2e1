"""Load time and peak memory of a whole model in PyTorch: nnbits.torch beside safetensors and torch.load.

    .venv/bin/python bench/load.py MODEL.safetensors [--rounds 7]
    .venv/bin/python bench/load.py --gigabyte                # 1 GB of bfloat16 layers
    .venv/bin/python bench/load.py ... --folder DIR          # keeps the files there, or takes them from there

Every measurement is a fresh process, all in turn; the files are in the page cache. "mapped" touches every page of the
tensors once, and reads no other byte; "copied" has them in memory of their own, as all but "mapped" do. "module" fills
an existing nn.Module of that size, "meta module" one without memory. Seconds are those of the call, peak memory is
that of the process, PyTorch and the module to be filled included (printed as "before").
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

KINDS = (
    "torch.load",
    "safetensors mapped",
    "safetensors copied",
    "nnbits",
    "safetensors module",
    "nnbits module",
    "nnbits meta module",
)


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


def memory() -> float:
    """Peak resident memory of this program only, unlike getrusage; MB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


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
    if target is not None:
        for tensor in target.state_dict().values():
            tensor.fill_(1)  # zeros may not be in memory yet
        target = target.to("meta") if "meta" in kind else target
    nnbits.torch.load(nnbits.torch.save({"x": torch.zeros(4)}))  # imports and first use
    calls = {
        "torch.load": lambda: torch.load(folder / "model.pt", weights_only=True),
        "safetensors mapped": lambda: load_file(folder / "model.safetensors"),
        "safetensors copied": lambda: {n: t.clone() for n, t in load_file(folder / "model.safetensors").items()},
        "nnbits": lambda: nnbits.torch.load_file(folder / "model.nnc"),
        "safetensors module": lambda: load_model(target, folder / "model.safetensors"),
        "nnbits module": lambda: nnbits.torch.load_model(target, folder / "model.nnc"),
        "nnbits meta module": lambda: nnbits.torch.load_model(target, folder / "model.nnc"),
    }
    before = memory()
    start, processor = time.perf_counter(), time.process_time()
    loaded = calls[kind]()
    if kind == "safetensors mapped":  # they are read when they are used
        sum(float(tensor.view(torch.uint8).reshape(-1)[::4096].sum()) for tensor in loaded.values() if tensor.dim())
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    return {"seconds": seconds, "processor": processor, "mb": memory(), "before": before}


def main() -> int:
    """Measure in turn and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--gigabyte", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure[0], Path(options.measure[1]))))
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        if not (folder / "model.nnc").exists():
            folder.mkdir(parents=True, exist_ok=True)
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
                command = [sys.executable, __file__, "--measure", kind, str(folder)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found[kind].append(json.loads(done.stdout.splitlines()[-1]))
        for file in ("model.pt", "model.safetensors", "model.nnc"):
            print(f"{file:20} {(folder / file).stat().st_size:>14,} bytes")
        print(f"{'median of':20} {'s':>8} {'fastest':>8} {'CPU s':>8} {'MB':>8} {'before':>8}")
        for kind, runs in found.items():

            def median(key: str, runs: list[dict[str, float]] = runs) -> float:
                return statistics.median(run[key] for run in runs)

            print(
                f"{kind:20} {median('seconds'):8.3f} {min(run['seconds'] for run in runs):8.3f}"
                f" {median('processor'):8.3f} {median('mb'):8.0f} {median('before'):8.0f}"
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

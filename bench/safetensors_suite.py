"""Runs safetensors' own Python tests against nnbits.torch and nnbits.numpy, changed in their imports only.

    .venv/bin/python bench/safetensors_suite.py safetensors-0.8.0.tar.gz

The argument is the source distribution of safetensors (its wheels have no tests). What fails is compared with the list
of known differences below, which docs/guides/pytorch.md explains. Exit status: 0 if exactly these fail.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Final

FILES: Final = ("test_simple", "test_pt_comparison", "test_pt_model", "test_multithreaded")
PRIVATE: Final = (
    "_end_ptr",
    "_find_shared_tensors",
    "_is_complete",
    "_remove_duplicate_names",
    "storage_ptr",
    "storage_size",
)

#: Why a test does not hold here -> which tests.
DIFFERENT: Final = {
    "compares the bytes of a safetensors file, or reads them": (
        "test_complex",
        "test_in_memory",
        "test_serialization",
        "test_deserialization",
        "TestCase::test_deserialization_metadata",
        "test_serialization_forces_alignment",
        "test_serialization_metadata",
        "test_serialization_no_big_endian",
        "test_serialization_order_invariant",
    ),
    "expects sharing or strides to be refused, or its own way of naming what is shared": (
        "test_cannot_serialize_a_non_contiguous_tensor",
        "test_cannot_serialize_shared",
        "test_difference_torch_odd",
        "test_difference_with_torch",
        "test_failure",
        "test_save",
        "test_workaround",
        "test_workaround_non_contiguous",
    ),
    "expects another class of exception, or its text": (
        "test_bogus",
        "test_meta_tensor",
        "test_sparse",
        "test_file_not_found",
        "test_exception",
        "test_numpy_slice",
        "test_get_correctly_dropped",
    ),
}

SHIM: Final = """
from safetensors import TensorSpec, serialize, serialize_file
from safetensors.torch import _end_ptr, _find_shared_tensors, _is_complete, _remove_duplicate_names
from safetensors.torch import storage_ptr, storage_size
import nnbits.numpy, nnbits.torch
from nnbits import NnbitsError as SafetensorError


def safe_open(filename, framework="pt", device="cpu", **options):
    if framework in ("np", "numpy"):
        return nnbits.numpy.safe_open(filename, framework)
    return nnbits.torch.safe_open(filename, framework, device)
"""


def adapted(text: str) -> str:
    """A test file with its imports exchanged."""

    def torch_import(match: re.Match[str]) -> str:
        names = [name.strip() for name in match[1].strip("()\n").replace("\n", " ").split(",") if name.strip()]
        private = [name for name in names if name.split()[0] in PRIVATE]
        public = [name for name in names if name not in private]
        lines = [f"from shim import {', '.join(private)}\n"] if private else []
        return "".join(lines + ([f"from nnbits.torch import {', '.join(public)}\n"] if public else []))

    text = text.replace("from safetensors import", "from shim import")
    text = text.replace("from safetensors.numpy import", "from nnbits.numpy import")
    return re.sub(r"from safetensors\.torch import (\([^)]*\)|[^\n]*)\n", torch_import, text)


def main(archive: str) -> int:
    """Run the tests and compare."""
    with tempfile.TemporaryDirectory() as name, tarfile.open(archive) as source:
        folder = Path(name)
        (folder / "tests" / "data").mkdir(parents=True)
        (folder / "shim.py").write_text(SHIM, encoding="utf-8")
        for member in source.getmembers():
            path = Path(member.name)
            if path.stem in FILES and path.parent.name == "tests" and (file := source.extractfile(member)):
                (folder / path.name).write_text(adapted(file.read().decode("utf-8")), encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=no", "-rf", "."]
        output = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout
    failed = re.findall(r"^FAILED (\S+)", output, re.MULTILINE)
    print(output.strip().splitlines()[-1])
    unexpected = []
    for test in failed:
        reason = next((why for why, tests in DIFFERENT.items() if test.endswith(tests)), None)
        print(f"  {test}: {reason or 'NOT EXPECTED'}")
        if reason is None:
            unexpected.append(test)
    return 1 if unexpected or not output.strip() else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))

"""NNCodec as a decoder of the suite; needs the peer's Python: ``python peer_decoder.py PEER_SCRIPT STREAM DIRECTORY``.

PEER_SCRIPT makes NNCodec importable without the packages that it does not need for decoding. NNCodec is a black box
here.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from pathlib import Path
from typing import Any


def load(path: str) -> Any:
    """The peer's script as a module."""
    spec = importlib.util.spec_from_file_location("peer", path)
    assert spec is not None  # noqa: S101 - the path names a Python file
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(script: str, stream: str, folder: str) -> int:
    """Exit status: 0 decoded, 1 refused."""
    import numpy as np

    peer = load(script)
    sys.meta_path.insert(0, peer._StubFinder())
    from nncodec.nnc import decompress  # type: ignore[import-not-found,unused-ignore]

    try:
        with contextlib.redirect_stdout(sys.stderr):
            tensors = decompress(bytearray(Path(stream).read_bytes()))
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    # With a codebook the results are float64: the exact products, which float32 rounds.
    named: dict[str, Any] = {name: np.asarray(value) for name, value in tensors.items()}
    single: dict[str, Any] = {n: a.astype(np.float32) if a.dtype == np.float64 else a for n, a in named.items()}
    np.savez(Path(folder) / "tensors.npz", **single)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))

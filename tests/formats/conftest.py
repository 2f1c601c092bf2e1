"""What the tests of all adapters share."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nnbits.codec.types import Attachment, LazyTensor, Model
from nnbits.formats import Adapter, adapter_for_file

Carried = Callable[[Model], Model]
Roundtrip = Callable[..., Model]


def carry(model: Model) -> Model:
    """The model as a stream gives it back: copies of arrays and attachments, the source after JSON."""

    def tensor(lazy: LazyTensor) -> LazyTensor:
        array = lazy.read()
        assert array.shape == lazy.info.stored_shape
        assert array.dtype == lazy.info.dtype.storage
        assert array.flags.c_contiguous
        if lazy.read_range is not None and lazy.info.size:
            step = 8
            first = min(step, lazy.info.size // 2 // step * step)
            part = lazy.read_range(first, lazy.info.size - first)
            skip = first * lazy.info.dtype.bits // 8 // lazy.info.dtype.itemsize if lazy.info.dtype.is_packed else first
            assert part.dtype == array.dtype
            assert part.tobytes() == array.reshape(-1)[skip:].tobytes()
        return LazyTensor(lazy.info, lambda: array)

    def attachment(found: Attachment) -> Attachment:
        data = found.read()
        assert len(data) == found.size
        return replace(found, read=lambda: data)

    return Model(
        [tensor(lazy) for lazy in model],
        dict(model.metadata),
        model.source_format,
        [attachment(found) for found in model.attachments],
        json.loads(json.dumps(dict(model.source))),
    )


@pytest.fixture
def carried() -> Carried:
    return carry


@pytest.fixture
def roundtrip(tmp_path: Path) -> Roundtrip:
    """Reads a file, writes it from what a stream carries, compares all bytes; returns what was carried."""

    def run(path: Path, adapter: Adapter | None = None, *, threads: int = 2) -> Model:
        adapter = adapter_for_file(path) if adapter is None else adapter
        model = carry(adapter.read(path))
        folder = tmp_path / "restored"
        folder.mkdir(exist_ok=True)
        seen = []
        target = folder / path.name
        adapter.write(target, model, force=True, threads=threads, on_tensor=seen.append)
        assert target.read_bytes() == path.read_bytes()
        assert sorted(info.name for info in seen) == sorted(tensor.info.name for tensor in model)
        return model

    return run


def packaged(package: str, pattern: str) -> Path:
    """A model that an installed package ships; the package is not imported."""
    found = importlib.util.find_spec(package)
    for folder in (found.submodule_search_locations or ()) if found else ():
        for path in sorted(Path(folder).glob(pattern)):
            return path
    pytest.skip(f"the package {package} is not installed")


@pytest.fixture
def shipped() -> Callable[[str, str], Path]:
    return packaged


@pytest.fixture
def values() -> Callable[[Model], dict[str, np.ndarray]]:
    return lambda model: {tensor.info.name: tensor.read() for tensor in model}

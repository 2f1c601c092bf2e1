"""Fixtures over the shared specification and models, which tests use where the folder is present."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
VECTORS = SHARED / "spec" / "vectors"


@dataclass(frozen=True)
class Vector:
    """A test vector of the specification (vectors/README.md)."""

    name: str

    @cached_property
    def data(self) -> dict[str, Any]:
        return json.loads((VECTORS / f"{self.name}.json").read_text())

    @cached_property
    def stream(self) -> bytes:
        bitstream = self.data["bitstream"]
        raw = (VECTORS / bitstream["file"]).read_bytes() if "file" in bitstream else bytes.fromhex(bitstream["hex"])
        assert hashlib.sha256(raw).hexdigest() == bitstream["sha256"]
        return raw

    @property
    def number(self) -> int:
        """The number in front of the name."""
        return int(self.name.split("_")[0])

    @property
    def decoder(self) -> dict[str, Any]:
        """What the decoder is told from outside."""
        return self.data.get("decoder", {})

    @property
    def previous(self) -> list[Vector]:
        """The vectors of the sequence before this one."""
        return [Vector(name) for name in self.decoder.get("sequence", {}).get("previous", [])]

    def input(self, name: str) -> np.ndarray:
        """The array that the peer was given."""
        item = self.data["inputs"][name]
        if "data_b64" in item:
            raw = np.frombuffer(base64.b64decode(item["data_b64"]), np.dtype(item["dtype"]).newbyteorder("<"))
            return raw.reshape(item["shape"])
        space: dict[str, Any] = {"np": np}
        exec(item["recipe"], space)  # statements of the shared vectors, not of a stream
        x = np.ascontiguousarray(space["x"])
        assert hashlib.sha256(x.tobytes()).hexdigest() == item["sha256"]
        return x


def _vector_names() -> list[str]:
    index = VECTORS / "index.json"
    return [v["name"] for v in json.loads(index.read_text())] if index.exists() else []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "vector" in metafunc.fixturenames:
        names = _vector_names()
        if names:
            metafunc.parametrize("vector", [pytest.param(Vector(n), id=n) for n in names])
        else:
            skip = pytest.mark.skip(reason="the shared specification vectors are not there")
            metafunc.parametrize("vector", [pytest.param(None, marks=skip)])


@pytest.fixture(scope="session")
def cifar_models() -> list[Path]:
    """The CIFAR-10 ResNets of the shared data."""
    paths = [SHARED / "data" / "cifar10" / f"resnet{n}.safetensors" for n in (20, 56)]
    if not all(p.exists() for p in paths):
        pytest.skip("the shared CIFAR-10 models are not there")
    return paths


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-sizes", action="store_true", help="write tests/sizes.csv instead of comparing")

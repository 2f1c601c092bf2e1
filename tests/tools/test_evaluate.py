"""The digits example is what its README and metadata say, and both ways of evaluating it agree."""

from __future__ import annotations

import importlib.resources
import io
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray

from nnbits.tools.methods import evaluate
from nnbits.tools.methods.evaluate import digits_accuracy, digits_input, digits_logits_numpy, digits_logits_torch

MAX_FILE_BYTES: Final = 600_000
DTYPES: Final = {"F32": "<f4", "I64": "<i8"}


@dataclass(frozen=True)
class Digits:
    file_bytes: int
    metadata: dict[str, str]
    params: dict[str, NDArray[Any]]
    images: NDArray[Any]
    labels: NDArray[Any]
    readme: str


@pytest.fixture(scope="module")
def digits() -> Digits:
    folder = importlib.resources.files("nnbits") / "examples" / "digits"
    data = (folder / "digits.safetensors").read_bytes()
    # Read by hand: this test depends neither on the safetensors package nor on our own adapter.
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    metadata = header.pop("__metadata__")
    params: dict[str, NDArray[Any]] = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        params[name] = np.frombuffer(data[start + begin : start + end], DTYPES[entry["dtype"]]).reshape(entry["shape"])
    with np.load(io.BytesIO((folder / "digits-test.npz").read_bytes())) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    return Digits(len(data), metadata, params, images, labels, (folder / "README.md").read_text(encoding="utf-8"))


@pytest.fixture
def torch_installed() -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: only the NumPy way is tested", exc_type=ImportError)


def test_files_are_what_the_readme_says(digits: Digits) -> None:
    assert digits.file_bytes <= MAX_FILE_BYTES
    assert digits.metadata["format"] == "pt"
    assert digits.images.dtype == digits.labels.dtype == np.uint8
    assert digits.images.shape == (450, 8, 8)
    assert digits.images.max() == 16
    assert digits.labels.shape == (450,)
    assert set(digits.labels.tolist()) == set(range(10))
    statistics = [value for name, value in digits.params.items() if ".running_" in name]
    scalars = [value for name, value in digits.params.items() if name.endswith(".num_batches_tracked")]
    assert [(value.dtype, value.shape) for value in scalars] == [(np.dtype("<i8"), ())] * 3
    assert sum(value.size for value in statistics) == 320
    assert sum(value.size for value in digits.params.values()) == 117_850 + 320 + 3
    assert "117,850 float32 parameters, 320 float32 running statistics" in digits.readme


def recorded_count(digits: Digits) -> int:
    stated = re.findall(r"(\d+) of (\d+) test images right \((\d+\.\d\d) %\)", digits.readme)
    correct, total = int(digits.metadata["test_correct"]), int(digits.metadata["test_images"])
    assert total == len(digits.labels)
    assert stated == [(str(correct), str(total), f"{100 * correct / total:.2f}")]
    return correct


def test_accuracy_is_the_recorded_one_with_numpy(digits: Digits) -> None:
    accuracy = digits_accuracy(digits.params, digits.images, digits.labels, backend="numpy")
    assert accuracy * len(digits.labels) == pytest.approx(recorded_count(digits), abs=1e-6)
    assert accuracy >= 0.985


@pytest.mark.usefixtures("torch_installed")
def test_accuracy_is_the_recorded_one_with_torch(digits: Digits) -> None:
    accuracy = digits_accuracy(digits.params, digits.images, digits.labels, backend="torch")
    assert accuracy * len(digits.labels) == pytest.approx(recorded_count(digits), abs=1e-6)


@pytest.mark.usefixtures("torch_installed")
def test_logits_of_numpy_and_torch_agree(digits: Digits) -> None:
    ours = digits_logits_numpy(digits.params, digits.images)
    theirs = digits_logits_torch(digits.params, digits.images)
    assert ours.dtype == theirs.dtype == np.float32
    assert ours.shape == theirs.shape == (450, 10)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3)


def fewer_channels(params: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Remove two output channels of conv2 and three features of fc1, consistently."""
    out = dict(params)
    for name in ("conv2.weight", "bn2.weight", "bn2.bias", "bn2.running_mean", "bn2.running_var"):
        out[name] = out[name][2:]
    out["conv3.weight"] = out["conv3.weight"][:, 2:]
    out["fc1.weight"], out["fc1.bias"] = out["fc1.weight"][3:], out["fc1.bias"][3:]
    out["fc2.weight"] = out["fc2.weight"][:, 3:]
    return out


@pytest.mark.usefixtures("torch_installed")
def test_a_narrower_network_is_evaluated_alike(digits: Digits) -> None:
    params = fewer_channels(digits.params)
    ours, theirs = (f(params, digits.images[:20]) for f in (digits_logits_numpy, digits_logits_torch))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3)


def test_a_narrower_network_ignores_what_was_removed(digits: Digits) -> None:
    """Removing channels must be the same as making what reads them zero."""
    zeroed = dict(digits.params)
    for name, axis, count in (("conv3.weight", 1, 2), ("fc2.weight", 1, 3)):
        zeroed[name] = zeroed[name].copy()
        zeroed[name].swapaxes(0, axis)[:count] = 0
    narrow = digits_logits_numpy(fewer_channels(digits.params), digits.images[:20])
    np.testing.assert_allclose(narrow, digits_logits_numpy(zeroed, digits.images[:20]), rtol=1e-4, atol=1e-3)


def test_auto_falls_back_to_numpy_without_torch(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert digits_accuracy(digits.params, digits.images, digits.labels) == recorded_count(digits) / 450
    with pytest.raises(ImportError):
        digits_accuracy(digits.params, digits.images, digits.labels, backend="torch")


def test_accuracy_notices_wrong_labels_and_broken_weights(digits: Digits) -> None:
    right = digits_accuracy(digits.params, digits.images, digits.labels, backend="numpy")
    wrong_labels = (digits.labels + 1) % 10
    assert digits_accuracy(digits.params, digits.images, wrong_labels, backend="numpy") <= 1 - right
    broken = {**digits.params, "conv2.weight": np.zeros_like(digits.params["conv2.weight"])}
    assert digits_accuracy(broken, digits.images, digits.labels, backend="numpy") < 0.2


def test_input_is_scaled(digits: Digits) -> None:
    x = digits_input(digits.images)
    assert x.dtype == np.float32
    assert x.shape == (450, 1, 8, 8)
    assert (x.min(), x.max()) == (0, 1)
    np.testing.assert_array_equal(x, digits_input(digits.images.astype(np.float64)))


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 64), np.uint8),
        np.zeros((2, 8, 9), np.uint8),
        np.full((1, 8, 8), 17, np.uint8),
        np.full((1, 8, 8), -1, np.int8),
        np.full((1, 8, 8), np.nan, np.float32),
    ],
    ids=["flat", "wide", "bright", "negative", "nan"],
)
def test_bad_images_are_refused(images: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="images"):
        digits_input(images)


def test_bad_labels_and_backend_are_refused(digits: Digits) -> None:
    for labels in (digits.labels[:-1], digits.labels[:, np.newaxis]):
        with pytest.raises(ValueError, match="labels"):
            digits_accuracy(digits.params, digits.images, labels)
    with pytest.raises(ValueError, match="labels"):
        digits_accuracy(digits.params, digits.images[:0], digits.labels[:0])
    with pytest.raises(ValueError, match="backend"):
        digits_accuracy(digits.params, digits.images, digits.labels, backend="jax")  # type: ignore[arg-type]


@pytest.mark.parametrize("logits", [digits_logits_numpy, digits_logits_torch])
def test_bad_parameters_are_refused(
    digits: Digits, logits: Callable[..., NDArray[np.float32]], request: pytest.FixtureRequest
) -> None:
    if logits is digits_logits_torch:
        request.getfixturevalue("torch_installed")
    needed = [name for name in digits.params if not name.endswith(".num_batches_tracked")]
    assert len(needed) == 19
    for name in needed:
        with pytest.raises(KeyError, match=re.escape(name)):
            logits({key: value for key, value in digits.params.items() if key != name}, digits.images[:1])
        with pytest.raises(ValueError, match="shape"):
            logits({**digits.params, name: digits.params[name][..., :-1]}, digits.images[:1])


def test_exported_names_exist() -> None:
    assert all(hasattr(evaluate, name) for name in evaluate.__all__)

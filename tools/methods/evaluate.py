"""Quality of a compressed model: inference and accuracy of the digits network in `examples/digits`.

The network is conv-BN-ReLU three times, a 2x2 max pooling after the second and third, and two linear layers. Every
width is read from the weights, so a network whose channels were removed consistently is evaluated as well.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

__all__ = ["digits_accuracy", "digits_input", "digits_logits_numpy", "digits_logits_torch"]

Float32Array: TypeAlias = NDArray[np.float32]

IMAGE_SIZE: Final = 8
MAX_PIXEL: Final = 16
BATCH_NORM_EPS: Final = 1e-5
CONV_STAGES: Final = (1, 2, 3)
POOLED_STAGES: Final = (2, 3)
LINEAR_LAYERS: Final = ("fc1", "fc2")


def digits_input(images: NDArray[Any]) -> Float32Array:
    """Return network input, float32 (n, 1, 8, 8) in 0..1, from images (n, 8, 8) of any real type with values 0..16.

    Raises ValueError where the shape or a value is outside of that.
    """
    if images.ndim != 3 or images.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE):
        raise ValueError(f"images: expected shape (n, {IMAGE_SIZE}, {IMAGE_SIZE}), got {images.shape}")
    if not np.all((images >= 0) & (images <= MAX_PIXEL)):
        raise ValueError(f"images: values outside 0..{MAX_PIXEL}")
    return (images.astype(np.float32) / np.float32(MAX_PIXEL))[:, np.newaxis]


def digits_logits_numpy(params: Mapping[str, NDArray[Any]], images: NDArray[Any]) -> Float32Array:
    """Return logits, float32 (n, classes), computed with NumPy alone.

    `params` is the state dict of the network, of any real type, computed with as float32; names that inference does not
    need (`num_batches_tracked`) are ignored. `images` is as for `digits_input`.

    Raises KeyError for a missing tensor, ValueError for images or tensors of unfitting shape.
    """
    p = _checked_parameters(params)
    x = digits_input(images)
    for stage in CONV_STAGES:
        x = _conv3x3(x, p[f"conv{stage}.weight"])
        scale = p[f"bn{stage}.weight"] / np.sqrt(p[f"bn{stage}.running_var"] + np.float32(BATCH_NORM_EPS))
        shift = p[f"bn{stage}.bias"] - p[f"bn{stage}.running_mean"] * scale
        x = np.maximum(x * scale[:, np.newaxis, np.newaxis] + shift[:, np.newaxis, np.newaxis], np.float32(0))
        if stage in POOLED_STAGES:
            n, channels, height, width = x.shape
            x = x.reshape(n, channels, height // 2, 2, width // 2, 2).max(axis=(3, 5))
    x = x.reshape(x.shape[0], p["fc1.weight"].shape[1])
    hidden = np.maximum(x @ p["fc1.weight"].T + p["fc1.bias"], np.float32(0))
    logits: Float32Array = hidden @ p["fc2.weight"].T + p["fc2.bias"]
    return logits


def digits_logits_torch(params: Mapping[str, NDArray[Any]], images: NDArray[Any]) -> Float32Array:
    """Return logits as `digits_logits_numpy` does, computed with PyTorch on the CPU; they agree but for rounding.

    Raises as `digits_logits_numpy`, and ImportError where PyTorch is not installed.
    """
    torch: Any = importlib.import_module("torch")
    functional: Any = torch.nn.functional
    # torch.tensor copies: NumPy arrays of a mapped file are read-only, which torch.from_numpy warns about.
    p = {name: torch.tensor(value) for name, value in _checked_parameters(params).items()}
    x = torch.tensor(digits_input(images))
    with torch.inference_mode():
        for stage in CONV_STAGES:
            bn = f"bn{stage}"
            x = functional.conv2d(x, p[f"conv{stage}.weight"], padding=1)
            x = functional.batch_norm(
                x,
                p[f"{bn}.running_mean"],
                p[f"{bn}.running_var"],
                p[f"{bn}.weight"],
                p[f"{bn}.bias"],
                training=False,
                eps=BATCH_NORM_EPS,
            )
            x = functional.relu(x)
            if stage in POOLED_STAGES:
                x = functional.max_pool2d(x, 2)
        x = functional.relu(functional.linear(x.flatten(1), p["fc1.weight"], p["fc1.bias"]))
        x = functional.linear(x, p["fc2.weight"], p["fc2.bias"])
    logits: Float32Array = x.numpy()
    return logits


def digits_accuracy(
    params: Mapping[str, NDArray[Any]],
    images: NDArray[Any],
    labels: NDArray[Any],
    backend: Literal["auto", "numpy", "torch"] = "auto",
) -> float:
    """Return the fraction, 0..1, of images whose greatest logit is that of their label.

    `params` and `images` are as for `digits_logits_numpy`, `labels` is integer (n,) with n > 0. "auto" takes PyTorch
    where it can be imported, else NumPy.

    Raises as the function of the backend, and ValueError for an unknown backend or labels that do not match the images.
    """
    if backend not in ("auto", "numpy", "torch"):
        raise ValueError(f"backend: {backend!r} is not one of 'auto', 'numpy', 'torch'")
    if labels.ndim != 1 or labels.shape[0] != images.shape[0] or labels.shape[0] == 0:
        raise ValueError(f"labels: shape {labels.shape} does not fit images of shape {images.shape}")
    use_torch = backend == "torch" or (backend == "auto" and _torch_can_be_imported())
    logits = digits_logits_torch(params, images) if use_torch else digits_logits_numpy(params, images)
    return float(np.mean(logits.argmax(axis=1) == labels))


def _torch_can_be_imported() -> bool:
    try:
        importlib.import_module("torch")
    except (ImportError, OSError):  # OSError: installed, but one of its shared libraries does not load
        return False
    return True


def _checked_parameters(params: Mapping[str, NDArray[Any]]) -> dict[str, Float32Array]:
    """Return the tensors that inference needs as float32, once all their shapes are known to fit each other."""
    checked: dict[str, Float32Array] = {}

    def take(name: str, shape: tuple[int | None, ...]) -> Float32Array:
        value = np.asarray(params[name])
        fits = value.ndim == len(shape) and all(
            want in (None, have) for want, have in zip(shape, value.shape, strict=True)
        )
        if not fits:
            raise ValueError(f"{name}: shape {value.shape} does not fit {shape} (None: any)")
        checked[name] = np.ascontiguousarray(value, dtype=np.float32)
        return checked[name]

    features = 1
    for stage in CONV_STAGES:
        features = take(f"conv{stage}.weight", (None, features, 3, 3)).shape[0]
        for part in ("weight", "bias", "running_mean", "running_var"):
            take(f"bn{stage}.{part}", (features,))
    features *= (IMAGE_SIZE >> len(POOLED_STAGES)) ** 2
    for layer in LINEAR_LAYERS:
        features = take(f"{layer}.weight", (None, features)).shape[0]
        take(f"{layer}.bias", (features,))
    return checked


def _conv3x3(x: Float32Array, weight: Float32Array) -> Float32Array:
    """Convolve x (n, c, h, w) with weight (o, c, 3, 3), zero padding of one pixel, into (n, o, h, w)."""
    n, channels, height, width = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = sliding_window_view(padded, (3, 3), axis=(2, 3))
    columns = windows.transpose(0, 2, 3, 1, 4, 5).reshape(n * height * width, channels * 9)
    flat: Float32Array = columns @ weight.reshape(weight.shape[0], -1).T
    return flat.reshape(n, height, width, weight.shape[0]).transpose(0, 3, 1, 2)

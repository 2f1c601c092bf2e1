"""Trains the digits network and writes digits.safetensors and digits-test.npz beside this file.

Needs nnbits, PyTorch, scikit-learn and safetensors. `--validate` keeps the test split out of sight: it trains on part
of the training split, prints the accuracy on the rest and writes nothing; the weight decay was chosen that way.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from nnbits.tools.methods.evaluate import BATCH_NORM_EPS, digits_accuracy, digits_input

SEED = 20
TEST_IMAGES = 450
VALIDATION_IMAGES = 300
EPOCHS = 120
BATCH = 64
LEARNING_RATE = 0.05
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-3


class DigitsNet(nn.Module):
    """What digits_logits_torch computes, as a module that can be trained: float32 (n, 1, 8, 8) -> (n, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32, eps=BATCH_NORM_EPS)
        self.conv2 = nn.Conv2d(32, 48, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(48, eps=BATCH_NORM_EPS)
        self.conv3 = nn.Conv2d(48, 80, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(80, eps=BATCH_NORM_EPS)
        self.fc1 = nn.Linear(80 * 2 * 2, 208)
        self.fc2 = nn.Linear(208, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = nn.functional.max_pool2d(torch.relu(self.bn2(self.conv2(x))), 2)
        x = nn.functional.max_pool2d(torch.relu(self.bn3(self.conv3(x))), 2)
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))


def shift_randomly(x: Tensor, generator: torch.Generator) -> Tensor:
    """Move each image of (n, 1, 8, 8) by -1, 0 or 1 pixel in both directions, with background moving in."""
    n, _, height, width = x.shape
    padded = nn.functional.pad(x, (1, 1, 1, 1))[:, 0]
    offset = torch.randint(0, 3, (2, n), generator=generator)
    rows = offset[0][:, None, None] + torch.arange(height)[None, :, None]
    columns = offset[1][:, None, None] + torch.arange(width)[None, None, :]
    return padded[torch.arange(n)[:, None, None], rows, columns][:, None]


def train(images: NDArray[np.uint8], labels: NDArray[np.uint8], seed: int) -> dict[str, NDArray[np.generic]]:
    """Return the state dict of a network trained on images (n, 8, 8) and labels (n,)."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.tensor(digits_input(images)), torch.tensor(labels.astype(np.int64))
    net = DigitsNet()
    matrices = [p for p in net.parameters() if p.ndim > 1]
    vectors = [p for p in net.parameters() if p.ndim == 1]
    optimizer = torch.optim.SGD(
        [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors}],
        lr=LEARNING_RATE,
        momentum=MOMENTUM,
        nesterov=True,
    )
    steps_per_epoch = len(x) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, EPOCHS * steps_per_epoch, pct_start=0.1, cycle_momentum=False
    )
    for _ in range(EPOCHS):
        order = torch.randperm(len(x), generator=generator)[: steps_per_epoch * BATCH]
        for batch in order.split(BATCH):
            loss = nn.functional.cross_entropy(net(shift_randomly(x[batch], generator)), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return {name: value.numpy() for name, value in net.state_dict().items()}


def write_safetensors(path: Path, params: dict[str, NDArray[np.generic]], metadata: dict[str, str]) -> None:
    """Write `path`, the same bytes for the same arguments."""
    data = safetensors.numpy.save(params, metadata)
    # The library writes the metadata in random order (safetensors/safetensors#584); only that is put in order here.
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header["__metadata__"] = metadata
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[start:])


def split(
    images: NDArray[np.uint8], labels: NDArray[np.uint8], held_out: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Return images and labels of the larger part, then of the held-out part, classes in equal proportion."""
    kept, held = train_test_split(np.arange(len(labels)), test_size=held_out, stratify=labels, random_state=SEED)
    return images[kept], labels[kept], images[held], labels[held]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--validate", type=int, metavar="SEED", help="try the settings with this seed; write nothing")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="folder of the two files")
    arguments = parser.parse_args()

    # One thread: sums are then always added in the same order.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)

    digits = load_digits()
    images, labels = digits.images.astype(np.uint8), digits.target.astype(np.uint8)
    images, labels, test_images, test_labels = split(images, labels, TEST_IMAGES)
    if arguments.validate is not None:
        images, labels, held_images, held_labels = split(images, labels, VALIDATION_IMAGES)
        params = train(images, labels, arguments.validate)
        print(f"accuracy on {len(held_labels)} images: {digits_accuracy(params, held_images, held_labels):.4f}")
        return

    params = train(images, labels, SEED)
    correct = round(digits_accuracy(params, test_images, test_labels) * len(test_labels))
    metadata = {
        "format": "pt",
        "model": "nnbits digits CNN",
        "trained_on": f"scikit-learn load_digits, {len(labels)} images",
        "test_images": str(len(test_labels)),
        "test_correct": str(correct),
    }
    write_safetensors(arguments.output / "digits.safetensors", params, metadata)
    np.savez_compressed(arguments.output / "digits-test.npz", images=test_images, labels=test_labels)
    print(f"{correct} of {len(test_labels)} test images right ({correct / len(test_labels):.2%})")


if __name__ == "__main__":
    main()

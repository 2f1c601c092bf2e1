"""``nnbits demo``: the digits network at several qualities, with its accuracy before and after."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from nnbits.tools._console import count, new_table, output_console, printable

if TYPE_CHECKING:
    from nnbits.codec.types import Array, Model

__all__ = ["DEFAULT_FOLDER", "MODEL_NAME", "RESULTS_NAME", "SETTINGS", "DemoReport", "DemoRow", "Setting", "demo"]

DEFAULT_FOLDER: Final = "nnbits-demo"
MODEL_NAME: Final = "digits.safetensors"
RESULTS_NAME: Final = "results.json"


@dataclass(frozen=True)
class Setting:
    """One way to pack the model.

    Attributes:
        name: for the table.
        file: name of the stream.
        options: of ``nnbits pack``, without the dashes; a flag is True.
    """

    name: str
    file: str
    options: Mapping[str, Any]

    @property
    def command_options(self) -> str:
        """The options as they are typed."""
        return " ".join(f"--{key}" if value is True else f"--{key} {value}" for key, value in self.options.items())

    @property
    def arguments(self) -> dict[str, Any]:
        """The options as :func:`~nnbits.tools.commands.pack.choose_plan` takes them."""
        return {key.replace("-", "_"): value for key, value in self.options.items()}


#: From everything kept to too little. A QP after the slash is that of biases, normalization and the like.
SETTINGS: Final = (
    Setting("exact", "digits-exact.nnc", {}),
    Setting("QP -40", "digits-qp-40.nnc", {"qp": -40}),
    Setting("QP -32", "digits-qp-32.nnc", {"qp": -32}),
    Setting("QP -28", "digits-qp-28.nnc", {"qp": -28}),
    Setting("QP -24", "digits-qp-24.nnc", {"qp": -24}),
    Setting("QP -24/-32", "digits-qp-24-32.nnc", {"qp": -24, "nonweight-qp": -32}),
    Setting("QP -24 uniform", "digits-qp-24-uniform.nnc", {"qp": -24, "uniform": True}),
    Setting("QP -20", "digits-qp-20.nnc", {"qp": -20}),
    Setting("6 bits", "digits-6bits.nnc", {"bits": 6}),
    Setting("4 bits", "digits-4bits.nnc", {"bits": 4}),
    Setting("3 bits", "digits-3bits.nnc", {"bits": 3}),
)


@dataclass(frozen=True)
class DemoRow:
    """One stream of the demo.

    Attributes:
        setting: how it was packed.
        options: the options of ``nnbits pack`` that do the same.
        file: the stream, in the folder of the demo.
        bytes: its size.
        ratio: size of the model file divided by ``bytes``.
        bits_per_weight: 8 * ``bytes`` / number of values.
        correct: test images that the decoded network reads right.
        max_abs_error: largest difference between a decoded float value and the original.
        bit_exact: whether all tensors came back bit for bit.
    """

    setting: str
    options: str
    file: str
    bytes: int
    ratio: float
    bits_per_weight: float
    correct: int
    max_abs_error: float
    bit_exact: bool


@dataclass(frozen=True)
class DemoReport:
    """The demo.

    Attributes:
        folder: where the files are.
        model: the model file in it.
        model_bytes: its size.
        elements: number of its values.
        images: number of test images.
        correct: those that the original network reads right.
        backend: what computed the network.
        rows: the streams.
    """

    folder: Path
    model: str
    model_bytes: int
    elements: int
    images: int
    correct: int
    backend: Literal["numpy", "torch"]
    rows: tuple[DemoRow, ...]


def demo(
    folder: Path = Path(DEFAULT_FOLDER),
    *,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DemoReport:
    """Pack the digits network at several qualities, decode each stream from its file, evaluate it on the test images.

    Args:
        folder: where the files go; made if missing. Files of an earlier demo in it are replaced, others never.
        threads: default: all processors.
        progress: called after each setting with the number done and the number of all.

    Raises:
        NnbitsError: FILE_EXISTS if a file of that name is not from a demo; FILE_IO; INTERNAL if a result is not what it
            must be.
    """
    import io
    from importlib.resources import files

    import numpy as np

    from nnbits.codec.api import pack_model
    from nnbits.formats.registry import adapter_for_file
    from nnbits.tools.commands.pack import choose_plan

    folder = Path(folder)
    digits = files("nnbits") / "examples" / "digits"
    _claim(folder)
    model_path = folder / MODEL_NAME
    _write(model_path, (digits / MODEL_NAME).read_bytes())
    model = adapter_for_file(model_path).read(model_path)
    original = _arrays(model)
    with np.load(io.BytesIO((digits / "digits-test.npz").read_bytes())) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    model_bytes = model_path.stat().st_size
    elements = sum(tensor.info.size for tensor in model)
    backend = _backend()

    rows = []
    for done, setting in enumerate(SETTINGS):
        if progress is not None:
            progress(done, len(SETTINGS))
        path = folder / setting.file
        pack_model(model, path, plan=choose_plan(model, **setting.arguments), threads=threads, force=True)
        decoded = _decode(path)
        row = DemoRow(
            setting.name,
            setting.command_options,
            setting.file,
            path.stat().st_size,
            model_bytes / path.stat().st_size,
            8 * path.stat().st_size / elements,
            _correct(decoded, images, labels, backend),
            _max_abs_error(original, decoded),
            _same_bits(original, decoded),
        )
        _verify(setting, row)
        rows.append(row)
    report = DemoReport(
        folder,
        MODEL_NAME,
        model_bytes,
        elements,
        len(labels),
        _correct(original, images, labels, backend),
        backend,
        tuple(rows),
    )
    _write_results(folder, report_dict(report))
    return report


def _claim(folder: Path) -> None:
    """Make the folder, refuse to replace files that no demo wrote, and mark the others as the demo's."""
    import os

    from nnbits.codec.errors import NnbitsError, ReasonCode

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NnbitsError(
            ReasonCode.FILE_IO,
            f"folder {folder} could not be made: {error.strerror or error}",
            path=str(folder),
            hint="Choose another folder with --out",
        ) from error
    names = [RESULTS_NAME, MODEL_NAME, *(setting.file for setting in SETTINGS)]
    ours = _files_of_earlier_demo(folder / RESULTS_NAME)
    for name in names:
        if name not in ours and os.path.lexists(folder / name):
            raise NnbitsError(
                ReasonCode.FILE_EXISTS,
                f"{folder / name} already exists and is not from an earlier demo",
                path=str(folder / name),
                hint="Choose another folder with --out",
            )
    _write_results(folder, {"files": sorted({*ours, *names})})


def _files_of_earlier_demo(results: Path) -> frozenset[str]:
    try:
        data = json.loads(results.read_text(encoding="utf-8"))
        return frozenset(data["files"]) if data["made_by"] == "nnbits demo" else frozenset()
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return frozenset()


def _write_results(folder: Path, data: Mapping[str, Any]) -> None:
    text = json.dumps({"made_by": "nnbits demo", **data}, indent=2, allow_nan=False)
    _write(folder / RESULTS_NAME, f"{text}\n".encode())


def _write(path: Path, data: bytes) -> None:
    from nnbits.codec.atomic import atomic_output

    with atomic_output(path, force=True) as file:
        file.write(data)


def _arrays(model: Model) -> dict[str, Array]:
    from nnbits.codec.types import to_numpy

    return {tensor.info.name: to_numpy(tensor.info, tensor.read()) for tensor in model}


def _decode(path: Path) -> dict[str, Array]:
    from nnbits.codec.api import open_file

    with open_file(path) as stream:
        return {name: stream[name] for name in stream.tensors}


def _backend() -> Literal["numpy", "torch"]:
    import importlib

    try:
        importlib.import_module("torch")
    except (ImportError, OSError):  # OSError: installed, but one of its shared libraries does not load
        return "numpy"
    return "torch"


def _correct(params: Mapping[str, Array], images: Array, labels: Array, backend: Literal["numpy", "torch"]) -> int:
    from nnbits.tools.methods.evaluate import digits_accuracy

    return round(digits_accuracy(params, images, labels, backend) * len(labels))


def _max_abs_error(original: Mapping[str, Array], decoded: Mapping[str, Array]) -> float:
    import numpy as np

    errors = (
        np.abs(decoded[name].astype(np.float64) - value.astype(np.float64)).max(initial=0.0)
        for name, value in original.items()
    )
    return float(max(errors, default=0.0))


def _same_bits(original: Mapping[str, Array], decoded: Mapping[str, Array]) -> bool:
    return list(original) == list(decoded) and all(
        value.dtype == decoded[name].dtype
        and value.shape == decoded[name].shape
        and value.tobytes() == decoded[name].tobytes()
        for name, value in original.items()
    )


def _verify(setting: Setting, row: DemoRow) -> None:
    from nnbits.codec.errors import NnbitsError, ReasonCode

    if not setting.options and not row.bit_exact:
        raise NnbitsError(ReasonCode.INTERNAL, f"{row.file} was packed exactly, but does not decode to the same bits")


def report_dict(report: DemoReport) -> dict[str, Any]:
    """The report for ``--json`` and for the results file."""
    names: Iterable[str] = (RESULTS_NAME, report.model, *(row.file for row in report.rows))
    return {**asdict(report), "folder": str(report.folder), "files": sorted(names)}


def print_report(report: DemoReport) -> None:
    """The report for people, on standard output."""
    console = output_console()
    before = f"{report.correct}/{report.images}"
    console.print(
        f"A network that reads handwritten digits: {report.elements:,} weights, {report.model_bytes:,} bytes.\n"
        f"As trained it reads {before} test images right. Packed, decoded and measured\n"
        f"(the network computed with {'PyTorch' if report.backend == 'torch' else 'NumPy'}):\n"
    )
    table = new_table()
    table.add_column("setting", no_wrap=True)
    for title in ("bytes", "ratio", "bits/w", "before", "after", "accuracy", "max error"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in report.rows:
        table.add_row(
            row.setting,
            f"{row.bytes:,}",
            f"{row.ratio:.2f}",
            f"{row.bits_per_weight:.2f}",
            before,
            f"{row.correct}/{report.images}",
            f"{100 * row.correct / report.images:.2f} %",
            "bit-exact" if row.bit_exact else f"{row.max_abs_error:.2g}",
        )
    console.print(table)
    best = min((row for row in report.rows if row.correct >= report.correct), key=lambda row: row.bytes)
    percent = 100 / report.images
    console.print(
        f"\nSmallest without a loss on these images: {best.setting}, {best.ratio:.1f} times smaller.\n"
        f"One image is {percent:.2f} %: do not read much into differences of a few.\n"
        "A QP after the slash (--nonweight-qp) is that of biases, normalization and the\n"
        "like: these are few but sensitive, and much finer by default."
    )
    folder = printable(str(report.folder))
    console.print(
        f"\nThe files are in {folder} ({count(len(report.rows) + 2, 'file')}). Look inside and make your own:\n"
        f"  nnbits info {folder}/{best.file}\n"
        f"  nnbits unpack {folder}/{best.file} {folder}/decoded.safetensors\n"
        f"  nnbits pack {folder}/{report.model} {folder}/mine.nnc --qp -26"
    )

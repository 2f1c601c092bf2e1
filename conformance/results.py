"""What a decoder made of a stream, and whether that is right."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from nnbits.codec.errors import ReasonCode
from nnbits.conformance.manifest import Entry, ExpectedTensor, describe_tensor

__all__ = ["Outcome", "Result", "Verdict", "judge", "read_output"]

#: How a run can end.
End = Literal["decoded", "refused", "crashed", "timeout", "memory", "misused"]


@dataclass(frozen=True)
class Verdict:
    """Why a decoder refused a stream, as far as it says so."""

    code: str | None = None
    offset: int | None = None


@dataclass(frozen=True)
class Result:
    """What happened.

    Attributes:
        end: how the run ended.
        tensors: what was decoded, by name.
        verdict: of a refusal.
        detail: for people: a signal, the last words of a program.
        seconds: time it took.
        peak_kib: most memory that it held, KiB.
    """

    end: End
    tensors: Mapping[str, ExpectedTensor] = field(default_factory=dict)
    verdict: Verdict = Verdict()
    detail: str = ""
    seconds: float = 0.0
    peak_kib: int = 0


@dataclass(frozen=True)
class Outcome:
    """The judgement on one stream.

    Attributes:
        entry: the stream.
        status: ``skip`` if the decoder does not claim a feature of the stream.
        reason: a short class: ``wrong tensor``, ``accepted``, ``refused``, ``crashed``, ...
        detail: for people.
        result: None if it was skipped.
    """

    entry: Entry
    status: Literal["pass", "fail", "skip"]
    reason: str = ""
    detail: str = ""
    result: Result | None = None


def judge(entry: Entry, result: Result, *, strict: bool = False) -> Outcome:
    """Compare what happened with what must happen. No tolerance.

    Args:
        entry: the stream.
        result: of the run.
        strict: a refusal must also name the reason code and the unit.
    """

    def outcome(reason: str, detail: str = "") -> Outcome:
        return Outcome(entry, "fail" if reason else "pass", reason, detail, result)

    if result.end in ("crashed", "timeout", "memory", "misused"):
        return outcome(result.end, result.detail)
    if entry.valid:
        if result.end == "refused":
            return outcome("refused", f"a valid stream was refused: {result.verdict.code or result.detail}")
        difference = _difference(entry, result.tensors)
        return outcome("wrong tensor" if difference else "", difference)
    if result.end == "decoded":
        return outcome("accepted", f"a stream with {entry.code} was accepted")
    return outcome(*_wrong_verdict(entry, result.verdict, strict))


def _difference(entry: Entry, found: Mapping[str, ExpectedTensor]) -> str:
    expected = {tensor.name: tensor for tensor in entry.tensors}
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            return f"tensor {name!r} is missing"
        if name not in expected:
            return f"there is no tensor {name!r}"
        a, b = expected[name], found[name]
        if (a.dtype, a.shape) != (b.dtype, b.shape):
            return f"{name!r} is {b.dtype}{list(b.shape)}, expected {a.dtype}{list(a.shape)}"
        if a.sha256 != b.sha256:
            return f"{name!r} has other values"
    return ""


def _wrong_verdict(entry: Entry, verdict: Verdict, strict: bool) -> tuple[str, str]:
    if verdict.code is None:
        return ("no verdict", "the reason code was not given") if strict else ("", "")
    if verdict.code not in entry.codes:
        detail = f"refused with {verdict.code}, expected {' or '.join(sorted(entry.codes))}"
        return ("wrong code", detail) if strict else ("", detail)
    if verdict.offset is None or entry.unit_offset is None or entry.offset is None:
        return "", ""
    if not entry.unit_offset <= verdict.offset <= entry.offset:
        detail = f"at byte {verdict.offset}, expected {entry.unit_offset}..{entry.offset}"
        return ("wrong offset", detail) if strict else ("", detail)
    return "", ""


# ---- what a program leaves in its output folder

_FILES: Final = ("tensors.txt", "tensors.npz", "tensors.safetensors")


def read_output(folder: Path) -> dict[str, ExpectedTensor]:
    """The tensors that a program wrote.

    One of three files: ``tensors.txt`` with a line ``=<name in hexadecimal> <dtype> <shape> <file>`` for each tensor
    (shape as ``3x4``, or ``scalar``) and the elements in those files, row-major, little endian; ``tensors.npz``; or
    ``tensors.safetensors``.

    Raises:
        ValueError: the output is not as described.
    """
    present = [name for name in _FILES if (folder / name).exists()]
    if len(present) != 1:
        raise ValueError(f"the output folder holds {present or 'none'} of {', '.join(_FILES)}")
    path = folder / present[0]
    if present[0] == "tensors.txt":
        return _read_text(path)
    if present[0] == "tensors.npz":
        with np.load(path) as file:
            return {name: describe_tensor(name, file[name]) for name in file.files}
    return _read_safetensors(path)


def _read_text(path: Path) -> dict[str, ExpectedTensor]:
    result = {}
    for line in path.read_text().splitlines():
        name, dtype, shape, file = line.split(" ")
        if not name.startswith("=") or "/" in file:
            raise ValueError(f"a line of tensors.txt is {line!r}")
        text = bytes.fromhex(name[1:]).decode("utf-8")
        dimensions = () if shape == "scalar" else tuple(map(int, shape.split("x")))
        if text in result:
            raise ValueError(f"tensor {text!r} is there twice")
        digest = hashlib.sha256((path.parent / file).read_bytes()).hexdigest()
        result[text] = ExpectedTensor(text, dtype, dimensions, digest)
    return result


_SAFETENSORS: Final = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
    "BOOL": "bool",
}


def _read_safetensors(path: Path) -> dict[str, ExpectedTensor]:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    result = {}
    for name, item in header.items():
        start, stop = item["data_offsets"]
        digest = hashlib.sha256(data[8 + length + start : 8 + length + stop]).hexdigest()
        result[name] = ExpectedTensor(name, _SAFETENSORS[item["dtype"]], tuple(item["shape"]), digest)
    return result


def read_verdict(folder: Path) -> Verdict:
    """``verdict.txt`` (``<number or name of the code> [<offset>]``) or ``verdict.json`` (``code``, ``offset``), if any.

    Raises:
        ValueError: the file is not as described.
    """
    offset: Any
    if (folder / "verdict.json").exists():
        body = json.loads((folder / "verdict.json").read_text())
        code, offset = body.get("code"), body.get("offset")
    elif (folder / "verdict.txt").exists():
        words = (folder / "verdict.txt").read_text().split()
        code, offset = words[0], int(words[1]) if len(words) > 1 else None
    else:
        return Verdict()
    if isinstance(code, int) or (isinstance(code, str) and code.isdigit()):
        code = ReasonCode(int(code)).name
    return Verdict(code, offset)

"""pack and unpack: round trips, the options, and what they print."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from nnbits.codec.api import open_file, pack_model, plan_exact
from nnbits.codec.plan import EncodePlan
from nnbits.codec.quant.step import default_nonweight_qp
from nnbits.codec.types import Model
from nnbits.formats import safetensors
from nnbits.tools._files import packed_path, unpacked_path
from nnbits.tools.commands.pack import pack
from nnbits.tools.commands.unpack import unpack

Run = Callable[..., Result]
RunProcess = Callable[..., "subprocess.CompletedProcess[str]"]
SaveModel = Callable[..., Path]
OnTerminal = Callable[..., str]


def ok(result: Result) -> Result:
    assert result.exit_code == 0, result.output
    return result


def codings(path: Path) -> dict[str, tuple[str, int | None]]:
    with open_file(path) as stream:
        return {name: (tensor.coding, tensor.qp) for name, tensor in stream.tensors.items()}


def test_exact_round_trip_gives_the_same_file(run: Run, digits: Path, tmp_path: Path) -> None:
    packed, back = tmp_path / "d.nnc", tmp_path / "back.safetensors"
    ok(run("pack", digits, packed))
    ok(run("unpack", packed, back))
    assert back.read_bytes() == digits.read_bytes()


def test_exact_round_trip_of_other_types(run: Run, model: Path) -> None:
    original = model.read_bytes()
    ok(run("pack", model))
    assert run("unpack", model.with_suffix(".nnc")).exit_code == 7
    model.unlink()
    ok(run("unpack", model.with_suffix(".nnc")))
    assert model.read_bytes() == original


@pytest.mark.parametrize("options", [(), ("--qp", -24), ("--qp", -24, "--uniform"), ("--bits", 5)])
def test_threads_do_not_change_the_bytes(run: Run, digits: Path, tmp_path: Path, options: tuple[object, ...]) -> None:
    for threads in (1, 3):
        ok(run("pack", digits, tmp_path / f"{threads}.nnc", *options, "--threads", threads))
        ok(run("unpack", tmp_path / f"{threads}.nnc", "--threads", threads))
    assert (tmp_path / "1.nnc").read_bytes() == (tmp_path / "3.nnc").read_bytes()
    assert (tmp_path / "1.safetensors").read_bytes() == (tmp_path / "3.safetensors").read_bytes()


def test_quality_options_choose_the_coding(run: Run, model: Path, tmp_path: Path) -> None:
    def packed(*options: object) -> dict[str, tuple[str, int | None]]:
        path = tmp_path / "out.nnc"
        ok(run("pack", model, path, "--force", *options))
        return codings(path)

    exact = packed()
    assert {coding for coding, _ in exact.values()} <= {"lossless", "raw"}
    standard = packed("--profile", "standard")
    assert standard["first.weight"] == standard["first.bias"] == ("raw", None)
    assert standard["counts"] == standard["steps"] == standard["mask"] == ("integer", None)
    assert packed("--qp", -24)["first.weight"] == ("dependent", -24)
    assert packed("--qp", -24)["first.bias"] == ("dependent", default_nonweight_qp(-24, 2))
    assert packed("--qp", -24)["counts"][0] in ("lossless", "raw")
    assert packed("--qp", -24, "--uniform")["first.weight"] == ("uniform", -24)
    assert packed("--qp", -24, "--nonweight-qp", -60)["first.bias"] == ("dependent", -60)
    assert packed("--bits", 4)["first.weight"][0] == "uniform"
    coarse, fine = packed("--bits", 4)["first.weight"][1], packed("--bits", 4, "--density", 3)["first.weight"][1]
    assert coarse is not None
    assert fine is not None
    assert abs(coarse - fine / 2) <= 1


def test_lower_qp_is_closer(run: Run, model: Path, tmp_path: Path) -> None:
    weight = {t.info.name: t.read() for t in safetensors.read(model)}["first.weight"]
    sizes, errors = [], []
    for qp in (-12, -20, -28):
        path = tmp_path / f"{qp}.nnc"
        ok(run("pack", model, path, "--qp", qp))
        sizes.append(path.stat().st_size)
        with open_file(path) as stream:
            errors.append(float(np.abs(stream["first.weight"] - weight).max()))
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)


def test_a_saved_plan_does_the_same_again(run: Run, model: Path, tmp_path: Path) -> None:
    for number, options in enumerate([(), ("--qp", -24), ("--bits", 4, "--density", 3)]):
        first, second, plan = (tmp_path / f"{number}{name}" for name in ("a.nnc", "b.nnc", ".json"))
        ok(run("pack", model, first, "--save-plan", plan, *options))
        assert EncodePlan.from_dict(json.loads(plan.read_text())).tensors.keys() == codings(first).keys()
        ok(run("pack", model, second, "--plan", plan))
        assert first.read_bytes() == second.read_bytes()


def test_summary(run: Run, model: Path) -> None:
    result = ok(run("pack", model, "--qp", -24))
    packed = model.with_suffix(".nnc")
    assert result.stderr == (
        "nnbits: note: unpack will give an equivalent file, not the same bytes: 2 of 5 tensors will be quantized\n"
    )
    text = " ".join(result.stdout.split())
    assert f"{model.stat().st_size:,} -> {packed.stat().st_size:,} bytes" in text
    assert "bits per weight" in text
    assert "3 lossless" in text
    assert f"2 dependent (QP {default_nonweight_qp(-24, 2)} and -24)" in text
    result = ok(run("unpack", packed, model.with_name("back.safetensors")))
    assert "5 tensors" in result.stdout


def test_json(run: Run, model: Path) -> None:
    report = json.loads(ok(run("pack", model, "--json", "--qp", -24)).stdout)
    packed = model.with_suffix(".nnc")
    assert report["stream_bytes"] == packed.stat().st_size
    assert report["source_bytes"] == model.stat().st_size
    assert report["ratio"] == pytest.approx(model.stat().st_size / packed.stat().st_size)
    elements = 24 * 30 + 24 + 10 + 1 + 3
    assert report["bits_per_weight"] == pytest.approx(8 * packed.stat().st_size / elements)
    assert [tensor["name"] for tensor in report["tensors"]] == list(codings(packed))
    back = model.with_name("back.safetensors")
    report = json.loads(ok(run("unpack", packed, back, "--json")).stdout)
    assert report["format"] == "safetensors"
    assert report["file_bytes"] == back.stat().st_size
    assert report["tensors"] == 5


def test_quiet(run: Run, model: Path) -> None:
    result = ok(run("pack", model, "-q"))
    assert result.output == ""
    assert ok(run("unpack", model.with_suffix(".nnc"), "--force", "--quiet")).output == ""


def test_python_calls(model: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = pack(model, qp=-24, progress=lambda done, total: seen.append((done, total)))
    target = model.with_suffix(".nnc")
    assert report.stream_bytes == target.stat().st_size
    assert seen[0][0] == 0
    assert seen[-1][0] == seen[-1][1] == report.source_bytes
    seen.clear()
    unpacked = unpack(target, model.with_name("back.safetensors"), progress=lambda *step: seen.append(step))
    assert unpacked.file_bytes == model.with_name("back.safetensors").stat().st_size
    assert seen[-1][0] == seen[-1][1]


def test_source_formats(run: Run, model: Path, tmp_path: Path) -> None:
    source = safetensors.read(model)
    for source_format, code in (("of the future", 5), (None, 0), ("safetensors", 0)):
        path = tmp_path / "stream.nnc"
        of_format = Model(source.tensors, source.metadata, source_format)
        pack_model(of_format, path, plan=plan_exact(of_format), force=True)
        result = run("unpack", path, "--force")
        assert result.exit_code == code
        assert (result.exit_code == 0) or "--to: safetensors" in result.stderr
        assert run("unpack", path, "--force", "--to", "safetensors").exit_code == 0
        assert (tmp_path / "stream.safetensors").read_bytes() == model.read_bytes()


def test_empty_model(run: Run, save_model: SaveModel) -> None:
    path = save_model("empty", {})
    original = path.read_bytes()
    ok(run("pack", path))
    ok(run("unpack", path.with_suffix(".nnc"), "--force"))
    assert path.read_bytes() == original


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("a.safetensors", "a.nnc"),
        ("b/a.SafeTensors", "b/a.nnc"),
        ("resnet-v1.5", "resnet-v1.5.nnc"),
        ("a.b.safetensors", "a.b.nnc"),
        (".safetensors", ".safetensors.nnc"),
    ],
)
def test_default_output(source: str, target: str) -> None:
    assert packed_path(Path(source)) == Path(target)


def test_default_output_of_unpack() -> None:
    assert unpacked_path(Path("a/m.nnc"), ".safetensors") == Path("a/m.safetensors")
    assert unpacked_path(Path("m.v2"), ".safetensors") == Path("m.v2.safetensors")


def test_progress_only_on_a_terminal(run_process: RunProcess, on_terminal: OnTerminal, model: Path) -> None:
    args = ["pack", str(model), "--force"]
    assert "Packing" in on_terminal(*args)
    assert on_terminal(*args, "--quiet") == ""
    assert "Packing" not in on_terminal(*args, "--json")
    done = run_process(*args)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "\x1b" not in done.stdout

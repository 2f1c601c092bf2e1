"""verify, recover, replace and sign, and streams through pipes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

import nnbits
from nnbits.tools._exits import ExitCode

Run = Callable[..., Result]
RunProcess = Callable[..., "subprocess.CompletedProcess[str]"]


def ok(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_good_stream_is_all_right(run: Run, stream: Path, model: Path) -> None:
    standard = model.with_name("standard.nnc")
    ok(run("pack", model, standard, "--profile", "standard"))
    for path in (stream, standard):
        assert "all right" in ok(run("verify", path))
    report = json.loads(ok(run("verify", stream, "--json")))
    assert report["ok"] is True
    assert report["problems"] == []
    assert run("verify", stream.with_name("none.nnc")).exit_code == ExitCode.NOT_FOUND
    assert ok(run("verify", stream, "--quiet")) == ""


def test_damage_is_reported_with_the_tensors(run: Run, model: Path) -> None:
    stream = model.with_suffix(".nnc")
    ok(run("pack", model))
    data = bytearray(stream.read_bytes())
    data[len(data) // 2] ^= 16
    stream.write_bytes(bytes(data))
    result = run("verify", stream)
    assert result.exit_code == ExitCode.DAMAGED
    assert "first.weight" in result.stdout
    report = json.loads(run("verify", stream, "--json").stdout)
    assert report["ok"] is False
    assert report["problems"][0]["code"] == "CHECKSUM"
    assert "first.weight" in report["problems"][0]["tensors"]
    unpacked = run("unpack", stream, stream.with_name("out.safetensors"))
    assert unpacked.exit_code == ExitCode.DAMAGED
    assert not stream.with_name("out.safetensors").exists()


def test_recover(run: Run, model: Path) -> None:
    stream, saved = model.with_suffix(".nnc"), model.with_name("saved.nnc")
    ok(run("pack", model))
    whole = stream.read_bytes()
    stream.write_bytes(whole[:-30])
    assert "nnbits recover" in run("unpack", stream, model.with_name("x.safetensors")).stderr
    assert "the tensors that are complete: 5 tensors" in ok(run("recover", stream, saved))
    assert run("recover", stream, saved).exit_code == ExitCode.EXISTS
    report = json.loads(ok(run("recover", stream, saved, "--force", "--json")))
    assert (report["state"], len(report["tensors"]), report["lost"]) == ("partial", 5, [])
    ok(run("unpack", saved, model.with_name("back.safetensors")))
    assert model.with_name("back.safetensors").read_bytes() == model.read_bytes()


def test_replace(run: Run, model: Path, tmp_path: Path) -> None:
    stream = model.with_suffix(".nnc")
    ok(run("pack", model))
    before = stream.read_bytes()
    new = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.save(tmp_path / "new.npy", new)
    report = json.loads(ok(run("replace", stream, f"first.weight={tmp_path / 'new.npy'}", "--any-shape", "--json")))
    assert report["appended_bytes"] == stream.stat().st_size - len(before)
    assert stream.read_bytes().startswith(before)
    assert nnbits.load(stream)["first.weight"].tobytes() == new.tobytes()
    assert report["digest"] in ok(run("info", stream))
    assert run("replace", stream, f"other={tmp_path / 'new.npy'}").exit_code == ExitCode.IMPOSSIBLE
    ok(run("replace", stream, f"other={tmp_path / 'new.npy'}", "--add"))
    ok(run("replace", stream, f"first.weight={model}", "--any-shape"))
    with nnbits.open(stream) as file:
        assert file["first.weight"].shape == (24, 30)
        assert "other" in file
    assert run("replace", stream, "first.weight").exit_code == ExitCode.USAGE
    assert run("replace", stream, "first.weight=nothing.npy").exit_code == ExitCode.NOT_FOUND


def test_pipes(run_process: RunProcess, model: Path, tmp_path: Path) -> None:
    packed = tmp_path / "piped.nnc"
    with packed.open("wb") as file:
        done = run_process("pack", model, "-", stdout=file, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    assert "lossless" in done.stderr
    back = tmp_path / "back.safetensors"
    with packed.open("rb") as file:
        done = run_process("unpack", "-", back, stdin=file)
    assert done.returncode == 0, done.stderr
    assert back.read_bytes() == model.read_bytes()
    with packed.open("rb") as file:
        assert run_process("unpack", "-", stdin=file).returncode == ExitCode.USAGE


def test_signatures(run: Run, stream: Path, tmp_path: Path) -> None:
    pytest.importorskip("model_signing")
    ec = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ec")
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    keys = []
    for name in ("ours", "theirs"):
        key = ec.generate_private_key(ec.SECP256R1())
        private, public = tmp_path / f"{name}.pem", tmp_path / f"{name}.pub"
        pem = serialization.Encoding.PEM
        private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
        keys.append((private, public))
    (private, public), (_, other) = keys
    ok(run("sign", stream, "--key", private))
    assert run("sign", stream, "--key", private).exit_code == ExitCode.EXISTS
    assert "signature" in ok(run("verify", stream, "--key", public))
    result = run("verify", stream, "--key", other, "--json")
    assert result.exit_code == ExitCode.DAMAGED
    assert json.loads(result.stdout)["error"]["code"] == "SIGNATURE"
    stream.write_bytes(stream.read_bytes() + bytes(1))
    assert run("verify", stream, "--key", public).exit_code == ExitCode.DAMAGED
    assert run("sign", stream, "--key", public, "--force").exit_code == ExitCode.USAGE

"""nnbits conform as users call it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nnbits.tools.cli import main


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["conform", *arguments])
    return int(stopped.value.code or 0)


def test_a_decoder_of_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {name: tmp_path / name for name in ("r.json", "r.xml", "r.html")}
    options = ["--json-file", str(files["r.json"]), "--junit", str(files["r.xml"]), "--html", str(files["r.html"])]
    assert call("--decoder", "core", "--feature", "order", "--strict", *options) == 0
    assert "order" in capsys.readouterr().out
    body = json.loads(files["r.json"].read_text())
    assert {s["status"] for s in body["streams"]} == {"pass"}
    assert all(path.stat().st_size for path in files.values())


def test_a_decoder_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--decoder", "false {in} {out}", "--feature", "blocks", "--json") == 4
    body = json.loads(capsys.readouterr().out)
    assert any(s["status"] == "fail" for s in body["streams"])


@pytest.mark.parametrize(
    "arguments",
    [
        ("--decoder", "no-places"),
        ("--decoder", "python:no.such.module:f"),
        ("--decoder", "core", "--feature", "no such feature"),
        ("--decoder", "/no/such/program {in} {out}", "--feature", "order"),
        (),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    assert call(*arguments) == 2


def test_all_skipped_is_not_a_pass() -> None:
    assert call("--decoder", "core", "--feature", "order", "--without", "order", "-q") == 4

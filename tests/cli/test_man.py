"""Manual pages and shell completion cover all commands and options."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import Result

import nnbits
from nnbits.tools._exits import ExitCode
from nnbits.tools.cli import main
from nnbits.tools.commands import man as command

Run = Callable[..., Result]
RunProcess = Callable[..., subprocess.CompletedProcess[str]]

PAGES = command.man_pages(main)


def test_there_is_a_page_for_every_command() -> None:
    assert PAGES.keys() == {"nnbits.1", *(f"nnbits-{name}.1" for name in main.commands)}


@pytest.mark.parametrize("name", sorted(PAGES))
def test_page_mentions_every_option(name: str) -> None:
    found = main if name == "nnbits.1" else main.commands[name.removeprefix("nnbits-").removesuffix(".1")]
    text = PAGES[name].replace("\\-", "-")
    for parameter in found.params:
        for word in parameter.opts if isinstance(parameter, click.Option) else [parameter.make_metavar(CONTEXT)]:
            assert word in text, word
    assert "\b" not in text
    if found is main:
        for other in main.commands:
            assert f"nnbits-{other}" in text
        assert "EXIT STATUS" in text


CONTEXT = click.Context(main, info_name="nnbits")


@pytest.mark.parametrize("name", sorted(PAGES))
def test_page_parses(name: str, tmp_path: Path) -> None:
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("groff is not installed")
    (tmp_path / name).write_text(PAGES[name], encoding="utf-8")
    arguments = [groff, "-man", "-ww", "-z", "-Tutf8", "-Kutf8", str(tmp_path / name)]
    result = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    if "preconv" in result.stderr:
        pytest.skip("groff is not complete")
    assert (result.returncode, result.stderr) == (0, "")


def test_written_once(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "man" / "man1"
    assert run("man", folder).exit_code == 0
    assert {path.name for path in folder.iterdir()} == PAGES.keys()
    assert run("man", folder).exit_code == ExitCode.EXISTS
    assert run("man", folder, "--force", "--quiet").output == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(run: Run, shell: str, tmp_path: Path) -> None:
    result = run("completion", shell)
    assert result.exit_code == 0
    assert f"_NNBITS_COMPLETE={shell}_complete" in result.output
    found = shutil.which(shell)
    if found is not None:
        (tmp_path / "script").write_text(result.output, encoding="utf-8")
        check = subprocess.run([found, "-n", str(tmp_path / "script")], capture_output=True, timeout=60, check=False)
        assert check.returncode == 0, check.stderr


def test_completion_answers(run_process: RunProcess) -> None:
    before = (
        "import os, sys; os.environ.update(_NNBITS_COMPLETE='bash_complete', COMP_WORDS='nnbits con', COMP_CWORD='1')"
    )
    result = run_process(before=before)
    assert set(re.findall(r"plain,(\S+)", result.stdout)) == {"conform", "convert"}


def test_unknown_shell(run: Run) -> None:
    assert run("completion", "tcsh").exit_code == ExitCode.USAGE


@pytest.mark.parametrize("name", sorted(main.commands))
def test_help_has_examples(run: Run, name: str) -> None:
    assert f"nnbits {name}" in run(name, "--help").output.split("Options:")[0].split("\n", 2)[2]


def test_help_lists_every_command_once(run: Run) -> None:
    listed = [command.name for commands in main.sections.values() for command in commands]
    assert sorted(filter(None, listed)) == sorted(main.commands)
    text = run("--help").output
    assert all(f"\n{title}:\n" in text for title in main.sections)
    assert all(re.search(rf"^  {name}  +\S", text, re.MULTILINE) for name in main.commands)


def test_version_is_that_of_the_package(run: Run) -> None:
    from importlib.metadata import version

    assert run("--version").output.split()[-1] == version("nnbits") == nnbits.__version__

"""The guides run as they stand, block by block, in an empty folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GUIDES = ROOT / "docs" / "guides"
NEEDS = {"pytorch": ("torch",), "distribution": ("model_signing",)}
TOOLS = {"distribution": ("openssl",), "device": ("gcc",)}


@pytest.mark.parametrize("guide", sorted(path.stem for path in GUIDES.glob("*.md")))
def test_guide_runs(guide: str, tmp_path: Path) -> None:
    for package in NEEDS.get(guide, ()):
        pytest.importorskip(package)
    for tool in TOOLS.get(guide, ()):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    text = (GUIDES / f"{guide}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(python|sh|c)\n(.*?)```", text, re.DOTALL)
    assert blocks
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "NNBITS": str(ROOT)}
    python = ""
    for language, code in blocks:
        if language == "c":
            (tmp_path / "main.c").write_text(code, encoding="utf-8")
            continue
        if language == "python":  # later blocks know the names of earlier ones
            python += code
            command = [sys.executable, "-c", python]
        else:
            command = ["bash", "-euo", "pipefail", "-c", code]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"

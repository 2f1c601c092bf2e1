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


@pytest.mark.parametrize("guide", sorted(path.stem for path in GUIDES.glob("*.md")))
def test_guide_runs(guide: str, tmp_path: Path) -> None:
    for package in NEEDS.get(guide, ()):
        pytest.importorskip(package)
    if guide == "distribution" and not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    text = (GUIDES / f"{guide}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(python|sh)\n(.*?)```", text, re.DOTALL)
    assert blocks
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    python = ""
    for language, code in blocks:
        if language == "python":  # later blocks know the names of earlier ones
            python += code
            command = [sys.executable, "-c", python]
        else:
            command = ["bash", "-euo", "pipefail", "-c", code]
        done = subprocess.run(
            command, cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"

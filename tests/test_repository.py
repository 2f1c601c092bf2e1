"""What readers of the repository see: exported names, the README's example, imports that make no second module."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import nnbits

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("codec", "formats", "tools", "conformance")


def test_exported_names_exist() -> None:
    assert nnbits.__all__ == sorted(nnbits.__all__)
    for name in nnbits.__all__:
        assert getattr(nnbits, name) is not None
    with pytest.raises(AttributeError):
        _ = nnbits.no_such_name


def test_readme_example_runs(tmp_path: Path) -> None:
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert examples
    for example in examples:
        subprocess.run([sys.executable, "-c", example], cwd=tmp_path, check=True)


def test_no_bare_imports() -> None:
    """``import codec`` in a checkout would load a file a second time, as another module."""
    bare = re.compile(rf"^\s*(?:from|import) (?:{'|'.join(FOLDERS)})\b", re.MULTILINE)
    sources = [p for folder in (*FOLDERS, "tests", "bench", "examples") for p in (ROOT / folder).rglob("*.py")]
    assert len(sources) > 30
    assert not [str(p) for p in sources if bare.search(p.read_text())]


def test_the_package_is_made_of_links() -> None:
    for folder in (*FOLDERS, "examples"):
        link = ROOT / "src" / "nnbits" / folder
        assert link.is_symlink()
        assert link.resolve() == ROOT / folder


def test_help_is_quick_to_import() -> None:
    """The command line answers --help without loading NumPy, construct or the core."""
    code = (
        "import sys, nnbits.tools.cli as c\n"
        "try: c.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('numpy', 'construct', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"

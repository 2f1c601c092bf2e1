"""Every check of the readers has a stream that fails it, or a reason why none can."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from nnbits.codec.errors import ReasonCode
from nnbits.conformance.checks import Site, c_sites, open_checks, python_sites, report
from nnbits.conformance.manifest import DEFAULT_FOLDER


def test_sites_are_found() -> None:
    """The two lists hold what they are for, and nothing of the caller's."""
    c, python = c_sites(), python_sites()
    assert len(c) > 200
    assert len(python) > 200
    for sites in (c, python):
        assert len({site.key for site in sites}) == len(sites)
    assert any("last != cabac->size - 1" in site.text and site.file.endswith("cabac.c") for site in c)
    assert any("the sizes of its blocks do not add up" in site.text for site in python)
    assert any(site.text == "Check: CbZeroOffset lies outside the codebook" for site in python)
    for code in (code.name for code in ReasonCode if code >= ReasonCode.NOT_EXACT):
        assert not any(f"ReasonCode.{code}," in site.text for site in python if "NnbitsError(" in site.text)


@pytest.mark.parametrize("side", ["c", "python"])
def test_every_check_has_a_stream(side: str) -> None:
    """In a process of its own: other tests declare checks, too."""
    if side == "c" and shutil.which("gcc") is None:
        pytest.skip("there is no gcc")
    command = [sys.executable, "-m", "nnbits.conformance.checks", "--side", side]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().endswith(" 0 open")


def test_a_new_check_is_noticed() -> None:
    new = Site("c", "core/src/dec/new.c", "if (wrong) return NNB_LIMIT;", (1, 1))
    found = {new: dict[str, int]()}
    assert f"no stream and no reason: {new.key}" in open_checks(found)
    assert "**open**" in report(found)
    assert open_checks({new: {"stream": 0}})[0].startswith("no such check: c ")


def test_reasons_are_sentences() -> None:
    reasons = json.loads((DEFAULT_FOLDER / "checks.json").read_text(encoding="utf-8"))
    assert all(len(reason) > 10 for reason in reasons.values())
    assert all(key.split(" ")[0] in ("c", "python") for key in reasons)

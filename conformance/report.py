"""Reports of a run: JSON, JUnit XML, HTML, and a table for people."""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

from nnbits.conformance.results import Outcome

__all__ = ["FeatureCount", "by_feature", "to_html", "to_json", "to_junit", "write_reports"]


@dataclass(frozen=True)
class FeatureCount:
    """How a decoder did on the streams of a feature; a stream counts for each of its features."""

    feature: str
    passed: int
    failed: int
    skipped: int


def by_feature(outcomes: Sequence[Outcome]) -> list[FeatureCount]:
    """Counts by feature, then those of all streams as ``all``."""
    features = sorted({feature for outcome in outcomes for feature in outcome.entry.features})
    groups = [(f, [o for o in outcomes if f in o.entry.features]) for f in features]
    result = []
    for name, members in [*groups, ("all", list(outcomes))]:
        count = Counter(outcome.status for outcome in members)
        result.append(FeatureCount(name, count["pass"], count["fail"], count["skip"]))
    return result


def to_json(decoder: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Plain data."""
    return {
        "decoder": decoder,
        "features": [vars(count) for count in by_feature(outcomes)],
        "peak_kib": max((o.result.peak_kib for o in outcomes if o.result), default=0),
        "streams": [_one(outcome) for outcome in outcomes],
    }


def _one(outcome: Outcome) -> dict[str, Any]:
    body: dict[str, Any] = {"id": outcome.entry.id, "kind": outcome.entry.kind, "status": outcome.status}
    if outcome.reason or outcome.detail:
        body |= {"reason": outcome.reason, "detail": outcome.detail}
    if outcome.result:
        result = outcome.result
        body |= {"end": result.end, "seconds": round(result.seconds, 3), "peak_kib": result.peak_kib}
        if result.verdict.code:
            body |= {"code": result.verdict.code, "offset": result.verdict.offset}
    return body


#: Failures without an answer: errors in JUnit's terms.
_ERRORS: Final = frozenset(("crashed", "timeout", "memory", "misused"))


def to_junit(decoder: str, outcomes: Sequence[Outcome]) -> str:
    """JUnit XML as Ant and Jenkins define it; a stream is a test case of its first feature.

    Wrong answers are failures; a decoder that crashed, hung, took too much or gave no proper answer is an error.
    """
    count = Counter(_junit_kind(outcome) for outcome in outcomes)
    times = [outcome.result.seconds if outcome.result else 0.0 for outcome in outcomes]
    root = ElementTree.Element(
        "testsuite",
        name=f"conformance: {_printable(decoder)}",
        timestamp=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
        hostname="localhost",
        tests=str(len(outcomes)),
        failures=str(count["failure"]),
        errors=str(count["error"]),
        skipped=str(count["skipped"]),
        time=f"{sum(times):.3f}",
    )
    properties = ElementTree.SubElement(root, "properties")
    ElementTree.SubElement(properties, "property", name="decoder", value=_printable(decoder))
    for outcome, seconds in zip(outcomes, times, strict=True):
        case = ElementTree.SubElement(
            root, "testcase", classname=outcome.entry.features[0], name=outcome.entry.id, time=f"{seconds:.3f}"
        )
        text, kind = _printable(outcome.detail), _junit_kind(outcome)
        if kind == "skipped":
            ElementTree.SubElement(case, kind, message=text)
        elif kind:
            ElementTree.SubElement(case, kind, type=outcome.reason, message=text)
    ElementTree.SubElement(root, "system-out")
    ElementTree.SubElement(root, "system-err")
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _junit_kind(outcome: Outcome) -> str:
    if outcome.status == "fail":
        return "error" if outcome.reason in _ERRORS else "failure"
    return "skipped" if outcome.status == "skip" else ""


def _printable(text: str) -> str:
    """Without characters that XML cannot hold."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


_STYLE = (
    "body{font:14px sans-serif;margin:2em}table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:2px 8px;"
    "text-align:left}.pass{color:#070}.fail{color:#b00;font-weight:bold}.skip{color:#777}"
)


def to_html(decoder: str, outcomes: Sequence[Outcome]) -> str:
    """One page: counts by feature, then every stream."""
    counts = [(c.feature, str(c.passed), str(c.failed), str(c.skipped)) for c in by_feature(outcomes)]
    rows = []
    for outcome in outcomes:
        verdict = outcome.entry.code or f"{len(outcome.entry.tensors)} tensors"
        detail = ": ".join(filter(None, (outcome.reason, outcome.detail)))
        text = (
            outcome.entry.id,
            ", ".join(outcome.entry.features),
            outcome.entry.kind,
            verdict,
            outcome.entry.exercises,
        )
        cells = "".join(f"<td>{html.escape(t)}</td>" for t in (*text, detail))
        rows.append(f'<tr><td class="{outcome.status}">{outcome.status}</td>{cells}</tr>')
    head = ("status", "stream", "features", "kind", "expected", "what it exercises", "found")
    return (
        f'<!doctype html><meta charset="utf-8"><title>Conformance: {html.escape(decoder)}</title>'
        f"<style>{_STYLE}</style>"
        f"<h1>{html.escape(decoder)}</h1>{_table(('feature', 'passed', 'failed', 'skipped'), counts)}"
        f"<h2>Streams</h2><table><tr>{''.join(f'<th>{h}</th>' for h in head)}</tr>{''.join(rows)}</table>\n"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{''.join(f'<th>{h}</th>' for h in head)}</tr>{body}</table>"


def write_reports(
    decoder: str, outcomes: Sequence[Outcome], *, json_file: Path | None, junit: Path | None, page: Path | None
) -> None:
    """Write the files that are wanted.

    Raises:
        OSError: a file cannot be written.
    """
    if json_file:
        json_file.write_text(json.dumps(to_json(decoder, outcomes), indent=1) + "\n", encoding="utf-8")
    if junit:
        junit.write_text(to_junit(decoder, outcomes), encoding="utf-8")
    if page:
        page.write_text(to_html(decoder, outcomes), encoding="utf-8")

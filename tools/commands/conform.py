"""``nnbits conform``: a decoder against the conformance suite."""

from __future__ import annotations

import importlib
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.conformance.adapters import ADAPTERS, build_adapter
from nnbits.conformance.manifest import DEFAULT_FOLDER, Manifest
from nnbits.conformance.report import by_feature, write_reports
from nnbits.conformance.results import Outcome
from nnbits.conformance.runner import CallableDecoder, CommandDecoder, Decoder, run
from nnbits.tools._console import Progress, output_console, printable

__all__ = ["ConformReport", "conform", "print_report"]


@dataclass(frozen=True)
class ConformReport:
    """A run: the decoder's name, and an outcome for each stream."""

    decoder: str
    outcomes: tuple[Outcome, ...]

    @property
    def passed(self) -> bool:
        """Whether no stream failed, and not all were skipped."""
        return all(o.status != "fail" for o in self.outcomes) and any(o.status == "pass" for o in self.outcomes)


def conform(
    decoder: str,
    *,
    suite: Path | None = None,
    features: Sequence[str] = (),
    without: Sequence[str] = (),
    jobs: int | None = None,
    seconds: float | None = None,
    memory_mib: int | None = None,
    strict: bool = False,
    json_file: Path | None = None,
    junit: Path | None = None,
    page: Path | None = None,
    progress: Progress | None = None,
) -> ConformReport:
    """Run a decoder on the streams of a suite and write reports.

    Args:
        decoder: a command with ``{in}`` and ``{out}``, ``python:MODULE:FUNCTION``, or the name of one of ours.
        suite: folder with ``manifest.json``; default: our own.
        features: only streams with one of them.
        without: features that the decoder does not claim.
        jobs: processes at a time.
        seconds, memory_mib: bounds for a stream.
        strict: refusals must give the reason code and the unit.
        json_file, junit, page: reports to write.
        progress: called with streams done and streams in all.

    Raises:
        NnbitsError: BAD_OPTION for a decoder that cannot be started, an unknown feature, or no stream at all;
            FILE_NOT_FOUND, FILE_FORMAT for a suite that is not complete; MISSING_PACKAGE.
    """
    manifest = Manifest.load(suite or DEFAULT_FOLDER)
    unknown = {*features, *without} - set(manifest.features())
    if unknown:
        raise NnbitsError(
            ReasonCode.BAD_OPTION,
            f"the suite has no feature {sorted(unknown)[0]!r}",
            path="feature",
            hint=f"It has: {', '.join(manifest.features())}",
        )
    entries = [e for e in manifest if not features or set(features) & set(e.features)]
    done: list[Outcome] = []

    def count(outcome: Outcome) -> None:
        done.append(outcome)
        if progress:
            progress(len(done), len(entries))

    with tempfile.TemporaryDirectory(prefix="nnbits-conform-") as work:
        subject = _decoder(decoder, Path(work))
        subject.without |= frozenset(without)
        limits = subject.limits
        subject.limits = replace(
            limits,
            seconds=limits.seconds if seconds is None else seconds,
            memory=limits.memory if memory_mib is None else memory_mib << 20,
        )
        outcomes = run(subject, manifest, entries=entries, jobs=jobs, strict=strict, on_outcome=count)
    write_reports(subject.name, outcomes, json_file=json_file, junit=junit, page=page)
    return ConformReport(subject.name, tuple(outcomes))


def _decoder(text: str, work: Path) -> Decoder:
    if text in ADAPTERS:
        return build_adapter(text, work)
    if text.startswith("python:"):
        module, _, function = text.removeprefix("python:").partition(":")
        try:
            return CallableDecoder(getattr(importlib.import_module(module), function), name=text)
        except (ImportError, AttributeError, ValueError) as error:
            raise NnbitsError(ReasonCode.BAD_OPTION, f"{text!r} cannot be imported: {error}", path="decoder") from error
    try:
        return CommandDecoder(shlex.split(text))
    except ValueError as error:
        raise NnbitsError(ReasonCode.BAD_OPTION, f"{text!r} is not a command: {error}", path="decoder") from error


def print_report(report: ConformReport) -> None:
    """Counts by feature, and every failure, on standard output."""
    from nnbits.tools._console import new_table

    table = new_table()
    for name in ("Feature", "passed", "failed", "skipped"):
        table.add_column(name, justify="left" if name == "Feature" else "right")
    for count in by_feature(report.outcomes):
        table.add_row(count.feature, str(count.passed), str(count.failed), str(count.skipped))
    console = output_console()
    console.print(table)
    for outcome in report.outcomes:
        if outcome.status == "fail":
            console.print(printable(f"{outcome.entry.id}: {outcome.reason}: {outcome.detail}"))

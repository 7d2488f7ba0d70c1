"""Running the suite: build, measure, write down, one probe after the other; to be interrupted and taken up again."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from anecompat.measure.probe.build import ProbeError, build
from anecompat.measure.probe.catalog import choose
from anecompat.measure.probe.question import Probe, describe
from anecompat.measure.session import measure as measure_model
from anecompat.measure.trace import Trace, TraceError, load_trace

BUNDLE_VERSION = "1.0"
Measure = Callable[[Path], Trace]


@dataclass(slots=True)
class Progress:
    """How far the suite is."""

    total: int
    measured: int = 0
    resumed: int = 0
    failed: int = 0

    @property
    def done(self) -> int:
        return self.measured + self.resumed + self.failed

    def bar(self, name: str, width: int = 30) -> str:
        filled = width * self.done // max(self.total, 1)
        counts = f"{self.done}/{self.total}" + (f", {self.failed} failed" if self.failed else "")
        return f"[{'#' * filled}{'.' * (width - filled)}] {counts}  {name}"


def run_suite(
    out: str | Path,
    *,
    operations: Sequence[str] | None = None,
    pause: float = 1.0,
    timeout: float = 300.0,
    compute_units: str = "cpu-and-ne",
    measure: Measure | None = None,
    stream: TextIO | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Path]:
    """Measure every chosen probe and write one bundle for each chip and system; the bundles' paths.

    ``out`` keeps ``traces/NAME.json`` and ``failures.json``: a second call goes on where the first ended, and tries
    failures again. ``pause`` seconds between probes keep the machine cool and Core ML's compiler service alive.
    UsageError where no probe fits; MeasureUnavailable where this machine cannot measure.
    """
    out = Path(out)
    chosen = choose(operations)
    traces = out / "traces"
    traces.mkdir(parents=True, exist_ok=True)
    stream = stream or sys.stderr
    ask = measure or (lambda path: measure_model(path, compute_units=compute_units, timeout=timeout))
    progress = Progress(len(chosen))
    failures: dict[str, str] = {}
    for probe in chosen:
        _show(stream, progress.bar(probe.name))
        file = traces / f"{probe.name}.json"
        if _is_trace(file):
            progress.resumed += 1
            continue
        if progress.measured or progress.failed:
            sleep(pause)
        try:
            trace = _measure(probe, out / "models", ask)
        except ProbeError as error:
            failures[probe.name] = str(error)
            progress.failed += 1
            continue
        _write(file, trace.to_json() + "\n")
        progress.measured += 1
    _show(stream, progress.bar("done"), last=True)
    _write(out / "failures.json", json.dumps(failures, indent=1) + "\n")
    return write_bundles(out, chosen)


def _measure(probe: Probe, folder: Path, ask: Measure) -> Trace:
    folder.mkdir(parents=True, exist_ok=True)
    path = build(probe, folder)
    try:
        return ask(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _is_trace(file: Path) -> bool:
    try:
        load_trace(file)
    except TraceError:
        return False
    return True


def _write(file: Path, text: str) -> None:
    """All or nothing, so that an interrupted run leaves no half a trace."""
    draft = file.with_name(file.name + ".part")
    draft.write_text(text, encoding="utf-8")
    draft.replace(file)


def _show(stream: TextIO, line: str, *, last: bool = False) -> None:
    """On a terminal one line that is written over; elsewhere the end only."""
    if stream.isatty():
        stream.write(f"\r\x1b[2K{line}" + ("\n" if last else ""))
    elif last:
        stream.write(line + "\n")
    stream.flush()


def write_bundles(out: Path, chosen: Sequence[Probe]) -> list[Path]:
    """Gather the traces into ``probe-CHIP-OS.jsonl``: a header, then a probe and its trace a line."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for probe in chosen:
        file = out / "traces" / f"{probe.name}.json"
        if not _is_trace(file):
            continue
        trace = load_trace(file)
        device = (trace.device.chip, trace.device.os, trace.device.os_build)
        line = {"probe": describe(probe), "trace": json.loads(trace.to_json(None))}
        groups.setdefault(device, []).append(json.dumps(line, ensure_ascii=False))
    written = []
    for (chip, system, build_number), lines in sorted(groups.items()):
        header = {"bundle_version": BUNDLE_VERSION, "chip": chip, "os": system, "os_build": build_number}
        name = "-".join(part.replace(" ", "-") for part in ("probe", chip or "unknown", system or "unknown"))
        path = out / f"{name}.jsonl"
        _write(path, "\n".join([json.dumps(header), *lines]) + "\n")
        written.append(path)
    return written

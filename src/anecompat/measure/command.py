"""What a measurement prints, in the words of ANECompat, and what it leaves in LOGDIR."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from anecompat.findings import Status
from anecompat.measure.trace import Trace, TraceRun, TraceSegment

_PLAIN = re.compile(r"[A-Za-z0-9]+")


def lines(trace: Trace) -> Iterator[str]:
    """The lines of ``anecompat measure``: inputs and outputs, one line an evaluation, the closing status line.

    Several runs (functions, shapes) come one after the other, each under a line that names it.
    """
    for run in trace.runs:
        if len(trace.runs) > 1:
            yield f"Run: {title(run)}"
        yield from run_lines(run)
        if len(trace.runs) > 1:
            yield f"Run ended with status: {Status(run.status)}"
    yield closing(trace.status)


def title(run: TraceRun) -> str:
    """The function and the shapes of a run: ``main, x 1x3x224x224``."""
    shapes = [f"{name} {'x'.join(map(str, shape))}" for name, shape in run.shapes.items()]
    return ", ".join([run.function or "default function", *shapes])


def run_lines(run: TraceRun) -> Iterator[str]:
    """One run as ANECompat printed it, with the reasons of its status."""
    if run.inputs or run.outputs:
        names = [[feature.name for feature in features] for features in (run.inputs, run.outputs)]
        yield f"Model inputs: {array(names[0])}, outputs: {array(names[1])}"
    for segment in run.segments:
        yield segment_line(segment)
        if not segment.succeeded:
            yield f"Evaluation failed: {segment.error or 'no reason given'}"
    for reason in run.reasons:
        yield f"  {reason}"


def segment_line(segment: TraceSegment) -> str:
    """``Intercepted evaluation of model with key: {...}``; where the key is unreadable, the names it was known by."""
    if segment.key is not None:
        shown = json.dumps(segment.key, separators=(",", ":"), ensure_ascii=False)
    elif segment.outputs:
        sides = [", ".join(tensor.name for tensor in side) for side in (segment.inputs, segment.outputs)]
        shown = f"(unreadable; {sides[0]} -> {sides[1]})"
    else:
        shown = "(unreadable)"
    return f"Intercepted evaluation of model with key: {shown}"


def closing(status: Status) -> str:
    return f"Completed with status: {status}"


def array(names: list[str]) -> str:
    """Names as NSLog prints an NSArray of strings: one a line, quoted unless they are letters and digits only."""
    if not names:
        return "(\n)"
    shown = [name if _PLAIN.fullmatch(name) else json.dumps(name, ensure_ascii=False) for name in names]
    return "(\n" + ",\n".join(f"    {name}" for name in shown) + "\n)"


def write_log(trace: Trace, logdir: str | Path) -> None:
    """Write ``anecompat.log`` and ``trace.json``; the measurement wrote the surfaces, in ``run_0`` and so on."""
    folder = Path(logdir)
    folder.mkdir(parents=True, exist_ok=True)
    described = []
    for number in range(len(trace.runs)):
        for file in sorted((folder / f"run_{number}").glob("segment_*.txt")):
            described.append(file.read_text(encoding="utf-8").rstrip())
    text = "\n".join([*lines(trace), *described, ""])
    (folder / "anecompat.log").write_text(text, encoding="utf-8")
    (folder / "trace.json").write_text(trace.to_json() + "\n", encoding="utf-8")

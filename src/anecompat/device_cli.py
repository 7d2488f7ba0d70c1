"""The commands that measure, replay, compare and probe. Nothing of the device half is imported before one is called."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anecompat.checking import Report, check_model
from anecompat.errors import AnecompatError, CompileError, InputError, PredictionError, ReadError, UsageError
from anecompat.findings import Status
from anecompat.ir import Model
from anecompat.targets import Target, parse_targets

if TYPE_CHECKING:
    from anecompat.measure.trace import Trace

Add = Callable[..., argparse.ArgumentParser]


def add_commands(add: Add) -> None:
    """Register measure, compare and probe."""
    measure = add(
        "measure",
        help="run a model once on this device and see what reaches the Neural Engine (Apple silicon)",
        description="Run a model once on this device, intercept what reaches the Neural Engine, ask Core ML what it "
        "planned and why, and set the prediction beside it.",
    )
    measure.add_argument("model", metavar="MODEL")
    measure.add_argument("logdir", nargs="?", metavar="LOGDIR", help="receives anecompat.log, trace.json and surfaces")
    measure.add_argument("--compute-units", default="all", metavar="UNITS", help="all (the default), cpu-and-ne, ...")
    measure.add_argument("--function", metavar="NAME", help="measure one of several functions only")
    measure.add_argument(
        "--shape", action="append", default=[], metavar="INPUT=1x3x640x640", help="fix an input's shape"
    )
    measure.add_argument(
        "--input", action="append", default=[], metavar="INPUT=FILE", help="feed a .npy, .png or .json"
    )
    measure.add_argument("--timeout", type=float, default=None, metavar="SECONDS", help="limit of each child process")
    measure.add_argument(
        "--format",
        default="text",
        choices=("text", "json", "trace"),
        help="text, json (the report, as check gives it) or trace (all that was seen, to be replayed elsewhere)",
    )

    compare = add(
        "compare",
        help="set the prediction beside a measurement",
        description="Predict a model for the chip and system of a trace and show where the two differ.",
    )
    compare.add_argument("model", metavar="MODEL")
    compare.add_argument("trace", metavar="TRACE", help="trace.json of a measurement, or an analytics.mil")
    compare.add_argument("--target", metavar="CHIP[@OS]", help="predict for this target instead of the trace's own")
    compare.add_argument("--format", default="text", choices=("text", "json"))

    probe = add(
        "probe",
        help="measure some 300 small models, the way to fill the tables for a new chip (Apple silicon)",
        description="Generate small models, one question each, measure every one and write one bundle a chip and "
        "system. Needs the extra: pip install 'anecompat[probe]'.",
    )
    probe.add_argument("--out", required=True, metavar="DIR")
    probe.add_argument("--ops", metavar="LIST", help="operations only, comma-separated: conv,max_pool")
    probe.add_argument("--pause", type=float, default=1.0, metavar="SECONDS", help="between two models (default 1)")
    probe.add_argument("--timeout", type=float, default=300.0, metavar="SECONDS", help="for one model (default 300)")


def named_files(texts: Sequence[str]) -> dict[str, str]:
    """INPUT=FILE arguments as a mapping."""
    named: dict[str, str] = {}
    for text in texts:
        name, equals, file = text.partition("=")
        if not equals or not name or not file:
            raise UsageError(f"--input {text}: INPUT=FILE was expected")
        named[name] = file
    return named


def measure(
    options: argparse.Namespace, shapes: dict[str, tuple[int, ...]], load: Callable[[str], Model], width: int
) -> int:
    """anecompat measure: ANECompat's lines, then prediction beside measurement, differences first."""
    from anecompat import measure as device
    from anecompat.compare import compare
    from anecompat.compare import to_text as compared
    from anecompat.measured import from_trace

    units = options.compute_units.lower().replace("_", "-")
    trace = device.measure(
        options.model,
        compute_units=units,
        function=options.function,
        shapes=shapes or None,
        inputs=named_files(options.input) or None,
        timeout=options.timeout or device.DEFAULT_TIMEOUT,
        logdir=options.logdir,
    )
    for warning in trace.warnings:
        print(f"anecompat: warning: {warning}", file=sys.stderr)
    if options.logdir:
        device.write_log(trace, options.logdir)
    if options.format != "text":
        text = (
            trace.to_json(indent=None) if options.format == "trace" else _report(trace, options.model, load).to_json()
        )
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
        return int(trace.status)
    lines = list(device.lines(trace))
    # The closing line stays the last one, as scripts expect it.
    sys.stdout.write("\n".join(lines[:-1]) + "\n\n")
    try:
        model = load(options.model)
        measured = from_trace(trace, model)
        predicted = check_model(model, targets_of(measured, None))
        sys.stdout.write(compared(compare(predicted, measured), width=width) + "\n\n")
    except AnecompatError as error:  # what was measured stands, whatever becomes of the prediction
        sys.stdout.write(f"No prediction to set beside it: {error}\n\n")
    sys.stdout.write(lines[-1] + "\n")
    sys.stdout.flush()
    return int(trace.status)


_ERRORS: dict[Status, type[AnecompatError]] = {
    Status.READ_ERROR: ReadError,
    Status.COMPILE_ERROR: CompileError,
    Status.INPUT_ERROR: InputError,
    Status.PREDICTION_ERROR: PredictionError,
}


def _report(trace: Trace, path: str, load: Callable[[str], Model]) -> Report:
    """A measurement as a report; where it failed, or our reader does, the error stands instead of targets."""
    from anecompat.measured import from_trace

    error: AnecompatError
    if trace.status in (Status.FULL, Status.PARTIAL, Status.NONE, Status.CANNOT_TELL):
        try:
            return from_trace(trace, load(path))
        except AnecompatError as failure:
            error = failure
    else:
        reasons = "; ".join(reason for run in trace.runs for reason in run.reasons) or trace.status.text
        error = _ERRORS.get(trace.status, AnecompatError)(reasons)
    return Report(path, None, None, (), True, error, basis="measured", compute_units=trace.compute_units)


def replay(path: str, model: Model | None, target: Target | None = None) -> Report:
    """A measured report from a trace.json or an analytics.mil."""
    from anecompat.measured import from_analytics, from_trace, is_analytics_file
    from anecompat.readers.analytics import read_analytics

    if is_analytics_file(path):
        return from_analytics(read_analytics(Path(path).read_text("utf-8"), path), str(Path(path).resolve()), target)
    from anecompat.measure.trace import load_trace

    assert model is not None
    return from_trace(load_trace(path), model)


def targets_of(report: Report, wanted: str | None) -> tuple[Target, ...]:
    """The target to predict for beside a measured report: the one asked for, else the one measured on."""
    if wanted is not None:
        return parse_targets([wanted])[:1]
    entry = report.targets[0]
    chip = entry.chip.split(" or ")[0].removeprefix("Apple ")
    system = entry.system.replace(" ", "").lower()
    return parse_targets([f"{chip}@{system}" if system[-1:].isdigit() else chip])[:1]


def compare_command(options: argparse.Namespace, load: Callable[[str], Model], width: int) -> int:
    """anecompat compare: differences first; 0 where all agrees, 1 where anything differs."""
    from anecompat.compare import agree, compare, to_dict, to_text

    model = load(options.model)
    measured = replay(options.trace, model)
    predicted = check_model(model, targets_of(measured, options.target))
    comparison = compare(predicted, measured)
    text = json.dumps(to_dict(comparison)) if options.format == "json" else to_text(comparison, width=width)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
    return 0 if agree(comparison) else 1


def probe(options: argparse.Namespace) -> int:
    """anecompat probe: resumable; prints the bundles written."""
    from anecompat import measure as device
    from anecompat.measure.probe import run_suite

    reason = device.available()
    if reason:
        raise device.MeasureUnavailable(reason)
    operations = None if not options.ops else [name.strip() for name in options.ops.split(",") if name.strip()]
    for bundle in run_suite(options.out, operations=operations, pause=options.pause, timeout=options.timeout):
        sys.stdout.write(f"{bundle}\n")
    return 0

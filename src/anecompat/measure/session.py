"""A whole measurement: the runs of a model, each in a child of its own, judged and put together as a trace."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anecompat
from anecompat import ir
from anecompat.errors import AnecompatError, ReadError, UsageError
from anecompat.findings import Status
from anecompat.measure import limits, parent, placements, verdict
from anecompat.measure.coreml import COMPUTE_UNITS
from anecompat.measure.device import available
from anecompat.measure.digest import model_digest, structure_digest
from anecompat.measure.parent import Outcome
from anecompat.measure.placements import decode_all
from anecompat.measure.text import without_paths
from anecompat.measure.trace import (
    SCHEMA_VERSION,
    Trace,
    TraceControl,
    TraceDevice,
    TraceFeature,
    TraceHook,
    TraceModel,
    TraceRun,
    TraceSegment,
    decode,
)

DEFAULT_TIMEOUT = 600.0
"""Seconds for one child. Compiling one small convolution for the engine has been seen to take 229 s."""

Shapes = Mapping[str, tuple[int, ...]]


class MeasureUnavailable(AnecompatError):
    """This machine cannot measure; the sentence says what it needs."""


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked of every run."""

    path: Path
    compute_units: str
    inputs: Mapping[str, str]
    timeout: float
    memory: int
    logdir: Path | None
    placements: bool
    cold: bool
    model: ir.Model | None


def measure(
    path: str | Path,
    *,
    compute_units: str = "all",
    function: str | None = None,
    shapes: Shapes | None = None,
    inputs: Mapping[str, str] | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    memory: int | None = None,
    logdir: str | Path | None = None,
    placements: bool = True,
    cold: bool = True,
) -> Trace:
    """Run the model on this device and see what reaches the Neural Engine.

    ``shapes`` fixes array inputs, ``inputs`` names files (.npy, .png, .json) to feed. Without ``function`` every
    function of the model is run, without ``shapes`` every enumerated shape of an input. ``timeout`` (seconds) and
    ``memory`` (bytes) limit each child process. ``placements=False`` leaves out Core ML's own answers. ``cold``
    gives every child a compile cache of its own, which is thrown away; else the user's is used.

    Whatever becomes of the model is a trace with a status; raised are only MeasureUnavailable, UsageError for a
    question that makes no sense, and ReadError where there is no such file.
    """
    reason = available()
    if reason:
        raise MeasureUnavailable(reason)
    if compute_units not in COMPUTE_UNITS:
        raise UsageError(f"there are no compute units {compute_units}; choose {', '.join(COMPUTE_UNITS)}")
    if timeout <= 0 or (memory is not None and memory <= 0):
        raise UsageError("a limit of time or memory must be more than nothing")
    path = Path(path)
    if not path.exists():
        raise ReadError("no such file or folder", place=str(path))
    model, warnings = _read(path)
    names = [f.name for _, leaf in model.walk_stages() for f in leaf.functions] if model and not model.stages else []
    if function is not None and names and function not in names:
        raise UsageError(f"the model has no function {function}; it has {', '.join(names)}")
    question = _Question(
        path.resolve(),
        compute_units,
        {name: str(Path(file).resolve()) for name, file in (inputs or {}).items()},
        timeout,
        memory or limits.default_limit(),
        Path(logdir) if logdir is not None else None,
        placements,
        cold,
        model,
    )
    runs: list[TraceRun] = []
    devices: list[TraceDevice] = []
    for chosen in [function] if function is not None or len(names) < 2 else names:
        for run, device in _runs(question, chosen, shapes, len(runs)):
            runs.append(run)
            devices += [device] if device else []
    return Trace(
        schema_version=SCHEMA_VERSION,
        anecompat=anecompat.__version__,
        device=devices[0] if devices else TraceDevice("", "", ""),
        compute_units=compute_units,
        model=_identity(path, model),
        runs=tuple(runs),
        warnings=warnings,
    )


def _read(path: Path) -> tuple[ir.Model | None, tuple[str, ...]]:
    """The model's file by our own readers; Core ML may read what they cannot."""
    from anecompat import readers

    try:
        model = readers.read(path)
    except AnecompatError as error:
        text = without_paths(str(error), str(path.resolve()), str(path))
        return None, (f"the file could not be read for matching operations: {text}",)
    return model, ()


def _identity(path: Path, model: ir.Model | None) -> TraceModel:
    if model is None:
        return TraceModel(path.suffix.lstrip("."), "unknown", 0, model_digest(path))
    return TraceModel(model.format, model.kind, model.spec_version, model_digest(path), structure_digest(model))


def _runs(
    question: _Question, function: str | None, shapes: Shapes | None, number: int
) -> Iterator[tuple[TraceRun, TraceDevice | None]]:
    """The run of a function, and one more for each further enumerated shape where none was chosen."""
    first, outcome = _run(question, function, shapes or {}, number, ask=question.placements)
    yield first, _device(outcome)
    interface = outcome.last("interface")
    if shapes or interface is None:
        return
    used = {feature.name: feature.shape for feature in first.inputs}
    for wish in other_choices(interface.get("choices", {}), used):
        number += 1
        further, outcome = _run(question, function, wish, number, ask=False)
        yield further, None


def other_choices(
    choices: Mapping[str, list[list[int]]], used: Mapping[str, tuple[int, ...] | None]
) -> Iterator[Shapes]:
    """Every enumerated shape but the one already used; inputs with equally many choices change together."""
    counts = {len(shapes) for shapes in choices.values()}
    if len(counts) != 1:
        return
    for position in range(counts.pop()):
        wish = {name: tuple(shapes[position]) for name, shapes in choices.items()}
        if any(used.get(name) != shape for name, shape in wish.items()):
            yield wish


def _not_run(interface: Mapping[str, Any]) -> set[str]:
    """Inputs with shapes that no run covers: ranges, and choices that do not go together."""
    choices = interface.get("choices", {})
    together = len({len(shapes) for shapes in choices.values()}) < 2
    return set(interface.get("ranged", ())) | (set() if together else set(choices))


def _device(outcome: Outcome) -> TraceDevice | None:
    event = outcome.last("device")
    return decode(TraceDevice, event, "device") if event else None


def _run(
    question: _Question, function: str | None, shapes: Shapes, number: int, *, ask: bool
) -> tuple[TraceRun, Outcome]:
    with tempfile.TemporaryDirectory(prefix="anecompat-", ignore_cleanup_errors=True) as folder:
        scratch = Path(folder)

        def child(name: str) -> Outcome:
            home = scratch / name.replace(" ", "-")
            home.mkdir()
            job: dict[str, Any] = {
                "job": name,
                "model": str(question.path),
                "kind": _kind(question.model),
                "compute_units": question.compute_units,
                "function": function,
                "shapes": {name: list(shape) for name, shape in shapes.items()},
                "inputs": dict(question.inputs),
                "scratch": str(home),
            }
            if name == "predict" and question.logdir is not None:
                job["log_folder"] = str((question.logdir / f"run_{number}").resolve())
            return parent.run(job, timeout=question.timeout, memory=question.memory, scratch=home, cold=question.cold)

        outcome = child("predict")
        answers = placements.Answers((), (), {})
        if ask and (outcome.status is None or outcome.last("interface")):
            answers = placements.gather(child, scratch / "predict", question.model, function or "")
    return _judge(question, function or "", shapes, outcome, answers), outcome


def _kind(model: ir.Model | None) -> str:
    """The kind of the engine's road: that of the first stage with layers."""
    if model is None:
        return "mlProgram"
    return next((leaf.kind for _, leaf in model.walk_stages() if leaf.functions), model.kind)


def _judge(
    question: _Question, function: str, shapes: Shapes, outcome: Outcome, answers: placements.Answers
) -> TraceRun:
    interface = outcome.last("interface") or {"inputs": [], "outputs": [], "states": []}
    given = (outcome.last("given") or {"inputs": None})["inputs"]
    inputs = tuple(_given(feature, given) for feature in decode_all(TraceFeature, interface["inputs"], "inputs"))
    outputs = decode_all(TraceFeature, interface["outputs"], "outputs")
    states = decode_all(TraceFeature, interface["states"], "states")
    segments = tuple(_clean(segment) for segment in decode_all(TraceSegment, outcome.all("evaluation"), "evaluation"))
    predicted = outcome.last("predicted")
    control_event = outcome.last("control")
    control = decode(TraceControl, control_event, "control") if control_event else None
    if control is None and predicted and not segments:
        control = TraceControl("", 0, False, outcome.message)
    if control:
        control = replace(control, error=without_paths(control.error, str(question.path)))
    judged = verdict.judge(
        segments,
        inputs,
        outputs,
        states=states,
        model=question.model,
        function=function,
        placements=answers.placements,
        control=control,
    )
    timings = {**outcome.timings, **answers.timings}
    for role, _, seconds in (predicted or {}).get("preparations", ()):
        timings[f"engine {role}"] = round(timings.get(f"engine {role}", 0.0) + seconds, 6)
    hooks = outcome.last("hooks")
    status, reasons = judged.status, judged.reasons
    if outcome.status is not None and predicted is None:
        status, reasons = Status(outcome.status), (outcome.message,)
    elif left := sorted(_not_run(interface) - set(shapes)):
        reasons = (*reasons, f"run with the default shape only: {', '.join(left)} can have others")
    return TraceRun(
        function=function,
        shapes=dict(shapes),
        status=int(status),
        reasons=tuple(without_paths(reason, str(question.path)) for reason in reasons),
        inputs=inputs,
        outputs=outputs,
        states=states,
        segments=judged.segments,
        placements=answers.placements,
        between=judged.between,
        control=control,
        hooks=decode_all(TraceHook, hooks["hooks"], "hooks") if hooks else (),
        providers=answers.providers,
        timings=timings,
        stages=judged.stages,
    )


def _given(feature: TraceFeature, given: Mapping[str, Any] | None) -> TraceFeature:
    if given is None:
        return feature
    if feature.name not in given:
        return replace(feature, value="left out")
    source, shape = given[feature.name]
    return replace(feature, value=source, shape=tuple(shape) or feature.shape)


def _clean(segment: TraceSegment) -> TraceSegment:
    return replace(segment, key=_scrubbed(segment.key), error=without_paths(segment.error))


def _scrubbed(data: Any) -> Any:
    if isinstance(data, dict):
        return {name: _scrubbed(value) for name, value in data.items()}
    if isinstance(data, list):
        return [_scrubbed(item) for item in data]
    return without_paths(data) if isinstance(data, str) else data


__all__ = ["DEFAULT_TIMEOUT", "MeasureUnavailable", "measure"]

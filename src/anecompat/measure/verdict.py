"""From what was seen on the engine to a status, and to the operations that ran there and those between.

Two answers that are never given on thin evidence: "fully compatible" needs every segment to start from model inputs or
outputs of earlier segments, every model output to be made on the engine, every operation of the file inside a segment
(where they can be matched) and no contradiction from Core ML's plan; "not compatible" needs a control model that made
the hook fire in the same process. Everything else is partial, or cannot be told.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from anecompat import ir
from anecompat.findings import Status
from anecompat.measure.trace import TraceControl, TraceFeature, TracePlacement, TraceSegment


@dataclass(frozen=True, slots=True)
class Verdict:
    """A status with its reasons, the segments with their operations, and the operations in no segment.

    ``between`` is None where the segments' names could not be matched to the model's values; so is ``stages`` empty.
    """

    status: Status
    reasons: tuple[str, ...]
    segments: tuple[TraceSegment, ...]
    between: tuple[int, ...] | None
    stages: dict[str, int]


@dataclass(slots=True)
class _Chain:
    """How far the segments follow from the model's inputs to its outputs."""

    gaps: list[tuple[TraceSegment, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def judge(
    segments: Sequence[TraceSegment],
    inputs: Iterable[TraceFeature],
    outputs: Iterable[TraceFeature],
    *,
    states: Iterable[TraceFeature] = (),
    model: ir.Model | None = None,
    function: str = "",
    placements: Sequence[TracePlacement] = (),
    control: TraceControl | None = None,
) -> Verdict:
    """The verdict on one prediction. ``inputs``, ``outputs``, ``states`` are the loaded model's, ``model`` its file."""
    ran = [segment for segment in segments if segment.succeeded]
    bodies = _bodies(model, function) if model else []
    matched = _match(segments, bodies)
    elsewhere = [p for p in placements if _belongs(p, function) and p.preferred not in (None, "ANE")]
    if not ran:
        status, reasons = _nothing_ran(segments, control, placements)
        between = _indexes(bodies) if status is Status.NONE and bodies else None
        return Verdict(status, reasons, tuple(segments), between, _stages(bodies, set(), between))
    complete = bool(bodies) and all(segment.operations is not None for segment in matched if segment.succeeded)
    covered = {index for segment in matched if segment.succeeded for index in segment.operations or ()}
    between = tuple(index for index in _indexes(bodies) if index not in covered) if complete else None
    stages = _stages(bodies, covered, between)
    if any(not segment.outputs for segment in ran):
        status, reasons = _nameless(elsewhere, len(ran))
        return Verdict(status, reasons, tuple(matched), None, {})
    chain = _follow(ran, inputs, outputs, states)
    reasons = _reasons(chain, bodies, model, between)
    if reasons:
        foreign = _foreign(ran, bodies)
        if foreign and not elsewhere and not _is_certain(chain, foreign, ran, model):
            why = f"the engine's segments name {_list(sorted(foreign))}, which the model's file does not have"
            return Verdict(Status.CANNOT_TELL, (why, *reasons), tuple(matched), None, {})
        return Verdict(Status.PARTIAL, reasons, tuple(matched), between, stages)
    if elsewhere:
        named = _list([placement.outputs[0] if placement.outputs else placement.type for placement in elsewhere])
        why = f"the segments' names leave nothing out, yet Core ML's plan puts {named} on another device"
        return Verdict(Status.CANNOT_TELL, (why,), tuple(matched), between, stages)
    good = f"{_count(len(ran), 'evaluation')} on the engine, from the model's inputs to its outputs"
    return Verdict(Status.FULL, (good,), tuple(matched), between, stages)


def _nothing_ran(
    segments: Sequence[TraceSegment], control: TraceControl | None, placements: Sequence[TracePlacement]
) -> tuple[Status, tuple[str, ...]]:
    if segments:
        errors = {segment.error for segment in segments if segment.error}
        why = f"{_count(len(segments), 'evaluation')} on the engine, every one failed"
        return Status.NONE, (f"{why}: {'; '.join(sorted(errors))}" if errors else why,)
    if control is None or not control.proves_hook:
        detail = f" ({control.error})" if control and control.error else ""
        return Status.CANNOT_TELL, (
            "no evaluation was seen, but neither was one of the control model that prefers the engine"
            f"{detail}: the hooks may not see this system's way to the engine",
        )
    planned = [placement for placement in placements if placement.preferred == "ANE"]
    if planned:
        return Status.CANNOT_TELL, (
            f"no evaluation was seen, yet Core ML's plan puts {_count(len(planned), 'operation')} on the engine",
        )
    return Status.NONE, ("no evaluation on the engine; the control model's was seen in the same process",)


def _nameless(elsewhere: Sequence[TracePlacement], count: int) -> tuple[Status, tuple[str, ...]]:
    seen = f"{_count(count, 'evaluation')} on the engine, but the model keys cannot be read"
    if elsewhere:
        named = _list([placement.outputs[0] if placement.outputs else placement.type for placement in elsewhere])
        return Status.PARTIAL, (f"{seen}; Core ML's plan puts {named} on another device",)
    return Status.CANNOT_TELL, (f"{seen}, so nobody can say whether they are the whole model",)


def _follow(
    ran: Sequence[TraceSegment],
    inputs: Iterable[TraceFeature],
    outputs: Iterable[TraceFeature],
    states: Iterable[TraceFeature],
) -> _Chain:
    chain = _Chain()
    there = {feature.name for feature in inputs} | {feature.name for feature in states}
    made: set[str] = set()
    for segment in sorted(ran, key=lambda segment: segment.sequence):
        chain.gaps += [(segment, tensor.name) for tensor in segment.inputs if tensor.name not in there]
        names = {tensor.name for tensor in segment.outputs}
        there |= names
        made |= names
    chain.missing = [feature.name for feature in outputs if feature.name not in made]
    return chain


def _reasons(
    chain: _Chain, bodies: list[_Body], model: ir.Model | None, between: tuple[int, ...] | None
) -> tuple[str, ...]:
    """Why the model did not run on the engine alone; empty if it did."""
    reasons = []
    for segment, name in chain.gaps:
        number = segment.sequence if segment.isegment is None else segment.isegment
        reasons.append(f"segment {number} takes {name}, which was made elsewhere")
    if chain.missing:
        reasons.append(f"{_list(chain.missing)} {'was' if len(chain.missing) == 1 else 'were'} made elsewhere")
    if between:
        operations = {operation.index: operation for body in bodies for operation in body.operations()}
        named = [f"{operations[index].type} ({_output(operations[index])})" for index in between]
        reasons.append(f"in no segment: {_list(named)}")
    host = [work for work in model.host_work if work.partial] if model else []
    reasons += [f"done outside every engine: {work.kind}: {work.detail}" for work in host]
    return tuple(reasons)


def _output(operation: ir.Operation) -> str:
    return operation.outputs[0].name if operation.outputs else operation.name


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _list(names: Sequence[str], most: int = 6) -> str:
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _belongs(placement: TracePlacement, function: str) -> bool:
    return not function or not placement.function or placement.function == function


# ---- Segments and the operations of the file ----


@dataclass(frozen=True, slots=True)
class _Body:
    """One function of one stage, with its values by name."""

    stage: str
    function: ir.Function
    values: dict[str, ir.Value]

    def operations(self) -> Iterable[ir.Operation]:
        return self.function.operations()


def _bodies(model: ir.Model, function: str) -> list[_Body]:
    bodies = []
    for stage, leaf in model.walk_stages():
        wanted = [f for f in leaf.functions if f.name == (function or leaf.default_function)] or list(
            leaf.functions[:1]
        )
        for chosen in wanted:
            named = {value.name: value for value in chosen.inputs}
            for operation in chosen.body.walk():
                named |= {value.name: value for value in operation.outputs}
            bodies.append(_Body(stage, chosen, named))
    return bodies


def _foreign(ran: Sequence[TraceSegment], bodies: list[_Body]) -> set[str]:
    """Names of the segments that no value of the file has; empty where there is no file to compare with."""
    known = {name for body in bodies for name in body.values}
    named = {tensor.name for segment in ran for tensor in (*segment.inputs, *segment.outputs)}
    return named - known if known else set()


def _is_certain(chain: _Chain, foreign: set[str], ran: Sequence[TraceSegment], model: ir.Model | None) -> bool:
    """Whether something ran elsewhere even if Core ML only renamed tensors."""
    renamed_outputs = any(tensor.name in foreign for segment in ran for tensor in segment.outputs)
    return (
        any(name not in foreign for _, name in chain.gaps)
        or (bool(chain.missing) and not renamed_outputs)
        or any(work.partial for work in (model.host_work if model else ()))
    )


def _indexes(bodies: list[_Body]) -> tuple[int, ...]:
    return tuple(operation.index for body in bodies for operation in body.operations())


def _match(segments: Sequence[TraceSegment], bodies: list[_Body]) -> list[TraceSegment]:
    return [replace(segment, operations=_operations(segment, bodies)) for segment in segments]


def _operations(segment: TraceSegment, bodies: list[_Body]) -> tuple[int, ...] | None:
    """Indexes of the operations between a segment's inputs and outputs; None where its names do not bound any."""
    outputs = [tensor.name for tensor in segment.outputs]
    inputs = {tensor.name for tensor in segment.inputs}
    for body in bodies:
        if outputs and all(name in body.values for name in outputs):
            found = _behind([body.values[name] for name in outputs], inputs)
            if found is not None:
                return tuple(sorted(found))
    return None


def _behind(outputs: Iterable[ir.Value], inputs: set[str]) -> set[int] | None:
    """The operations that make the outputs from the inputs; None where they need something from outside as well."""
    found: set[int] = set()
    todo, seen = list(outputs), set()
    while todo:
        value = todo.pop()
        if id(value) in seen or value.const is not None:
            continue
        seen.add(id(value))
        if value.name in inputs:
            continue
        operation = value.producer
        if operation is None:
            if isinstance(value.type, ir.StateType):
                continue
            return None
        if not operation.is_constexpr:
            found.add(operation.index)
            for block in operation.blocks:
                found |= {nested.index for nested in block.walk() if not nested.is_constexpr}
        todo += [used for bound in operation.inputs.values() for used in bound]
    return found


def _stages(bodies: list[_Body], covered: set[int], between: tuple[int, ...] | None) -> dict[str, int]:
    """The status of each stage of a pipeline."""
    if between is None or len(bodies) < 2:
        return {}
    stages: dict[str, int] = {}
    for body in bodies:
        indexes = {operation.index for operation in body.operations()}
        held = len(indexes & covered)
        status = Status.FULL if indexes and held == len(indexes) else Status.PARTIAL if held else Status.NONE
        stages[body.stage] = int(status)
    return stages

"""What Core ML or the engine themselves said of a model, as the same Report that a prediction gives.

Two sources: the notes that Core ML leaves in its compile cache (``analytics.mil``) and the trace of a measurement
(``trace.json``). Refusals come in Core ML's own words and are mapped to our rules, so that both kinds of report
compare.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from anecompat.checking import Report, Seen, TargetReport
from anecompat.findings import Certainty, Effect, Finding, Forecast, Segment, Status, Verdict
from anecompat.ir import Block, Function, Model, Operation, Value, number
from anecompat.judge import overall, part_status
from anecompat.measure.trace import Trace, TracePlacement, TraceSegment
from anecompat.outline import Outline, outline
from anecompat.place import ANE, CPU
from anecompat.readers.analytics import BORDER_OPERATIONS, Analytics, BackendNote
from anecompat.rules.registry import find
from anecompat.segment import segments
from anecompat.targets import Target, chips

# Core ML's words to the rule that says the same. The first that matches answers; what none knows keeps Core ML's words.
_RULE_OF = (
    (r"Output type .* is not supported|Unsupported tensor data type: u?int(?:32|64)", "ANE201"),
    (r"Unable to resolve operation input|Failed to extract constant value", "ANE201"),
    (r"Invalid (?:input|output) tensor format|Unsupported tensor format: fp32", "ANE202"),
    (r"'tile' operations.*same data type", "ANE204"),
    (r"Unsupported gather index type", "ANE211"),
    (r"only support UInt16", "ANE212"),
    (r"Failed to retrieve parameter|non-constant tensor shape", "ANE213"),
    (r"negative step", "ANE214"),
    (r"padding on the|padding mode", "ANE215"),
    (r"standalone slice_update", "ANE217"),
    (r"large kernel", "ANE301"),
    (r"not within supported range", "ANE302"),
    (r"rank > 5|blob rank", "ANE303"),
    (r"Invalid Pool kernel", "ANE304"),
    (r"can not fit the Kmem", "ANE305"),
    (r"number of groups", "ANE306"),
    (r"input rank >= 5|depth > 1 is not supported for MatMult", "ANE310"),
    (r"range shape flexibility|[Dd]ata-dependent shapes", "ANE902"),
    (r"Weight file size|bss limit", "ANE502"),
    (r"Unsupported MIL operation|not implemented|doesn't support Neuron|uANE targets|Invalid operation", "ANE101"),
)  # fmt: skip
_ENGINE = re.compile(r"\bH(\d\d)[A-Z]?\.bundle\b")
_UNNAMED = "ANE805"


def rule_of(message: str) -> str:
    """The id of the rule that says what Core ML's message says."""
    return next((id for pattern, id in _RULE_OF if re.search(pattern, message)), _UNNAMED)


def from_analytics(analytics: Analytics, path: str, target: Target | None = None) -> Report:
    """Core ML's own notes as a measured report: support, estimates, the backend it selected, and why others refused.

    The file does not name its chip; the folder of Core ML's cache names the engine (``H16G.bundle``). ``target``
    overrides both. The status speaks of what is supported, as a prediction's does; the selection stands as placement.
    """
    model, notes = _without_borders(analytics)
    laid_out = outline(model)
    eligible: list[bool | None] = []
    placed: list[str | None] = []
    words: dict[str, list[int]] = defaultdict(list)
    for operation in laid_out.operations:
        note = notes.get(id(operation))
        if note is None:
            eligible.append(None)
            placed.append(None)
            continue
        supported = "ane" in note.supported
        eligible.append(supported)
        placed.append(_device(note.selected))
        if not supported:
            for text in note.messages.get("ane", ()) or ("",):
                words[text].append(operation.index)
    return _report(model, laid_out, _seen(path, target), eligible, placed, words, None, "Core ML's own notes")


def _without_borders(analytics: Analytics) -> tuple[Model, dict[int, BackendNote]]:
    """The model without the buffer conversions that Core ML adds at its borders, and the notes by operation identity.

    What such a conversion made becomes an input again; what one took becomes an output.
    """
    operations = list(analytics.model.operations())
    notes = {id(each): analytics.notes[each.index] for each in operations if each.index in analytics.notes}
    functions: list[Function] = []
    for function in analytics.model.functions:
        taken: dict[int, Value] = {}
        kept: list[Operation] = []
        entering: list[Value] = []
        for operation in function.body.operations:
            if operation.type not in BORDER_OPERATIONS:
                kept.append(operation)
                continue
            source = operation.input("input")
            for value in operation.outputs:
                if operation.type == "tensor_buffer_to_tensor":
                    value.producer = None
                    entering.append(value)
                elif source is not None:
                    taken[id(value)] = source
        outputs = [taken.get(id(value), value) for value in function.outputs]
        functions.append(replace(function, body=Block(entering or function.inputs, kept, outputs)))
    model = analytics.model
    model.functions = tuple(functions)
    return number(model), notes


def from_trace(trace: Trace, model: Model) -> Report:
    """A measurement as a report: what ran on the engine, segment by segment, and what Core ML's plan says beside it."""
    laid_out = outline(model)
    ran = trace.ran_on_engine()
    by_index, by_name = _placements(trace)
    eligible: list[bool | None] = []
    placed: list[str | None] = []
    words: dict[str, list[int]] = defaultdict(list)
    for operation in laid_out.operations:
        placement = by_index.get(operation.index) or by_name.get(tuple(value.name for value in operation.outputs))
        supported = None if placement is None or placement.supported is None else "ANE" in placement.supported
        if ran.get(operation.index):
            supported = True
        eligible.append(supported)
        on_engine = ran.get(operation.index)
        placed.append(ANE if on_engine else placement.preferred if placement is not None else None)
        if on_engine is False and placed[-1] == ANE:
            placed[-1] = CPU
        if supported is False and placement is not None:
            for text in placement.messages.get("ane", ()) or ("",):
                words[text].append(operation.index)
    seen = Seen(trace.device.chip, trace.device.engine, trace.device.os)
    found = tuple(
        _segment(position, segment)
        for position, segment in enumerate(
            segment for run in trace.runs for segment in run.segments if segment.succeeded
        )
    )
    report = _report(model, laid_out, seen, eligible, placed, words, found, "the measurement", trace.status)
    return Report(
        report.path, model, laid_out, report.targets, True, basis="measured", compute_units=trace.compute_units
    )


def _placements(trace: Trace) -> tuple[dict[int, TracePlacement], dict[tuple[str, ...], TracePlacement]]:
    by_index = {entry.index: entry for entry in trace.placements if entry.index is not None}
    return by_index, {entry.outputs: entry for entry in trace.placements}


def _segment(position: int, segment: TraceSegment) -> Segment:
    def shapes(tensors: Iterable[object]) -> Mapping[str, tuple[int | None, ...]]:
        return {t.name: tuple(t.shape) if t.shape is not None else (None,) * 5 for t in tensors}  # type: ignore[attr-defined]

    return Segment(
        isegment=segment.isegment if segment.isegment is not None else position,
        device=ANE,
        inputs=shapes(segment.inputs),
        outputs=shapes(segment.outputs),
        operations=segment.operations or (),
        inferred_key=segment.key is None,
    )


def _device(backend: str) -> str | None:
    if not backend:
        return None
    return {"ane": ANE, "mps_graph": "GPU"}.get(backend, CPU)


def _seen(path: str, target: Target | None) -> Seen:
    if target is not None:
        return Seen(target.chip.name, target.engine, str(target.system))
    match = _ENGINE.search(path)
    engine = f"H{match[1]}" if match else ""
    named = [chip.name for chip in chips() if chip.engine == engine]
    return Seen(" or ".join(named) if named else "a chip the file does not name", engine, "its system")


def _report(
    model: Model,
    laid_out: Outline,
    seen: Seen,
    eligible: Sequence[bool | None],
    placed: Sequence[str | None],
    words: Mapping[str, Sequence[int]],
    found: tuple[Segment, ...] | None,
    source: str,
    status: Status | None = None,
) -> Report:
    findings = [_finding(laid_out, text, tuple(indexes)) for text, indexes in words.items()]
    findings.sort(key=lambda finding: -len(finding.operations))
    statuses = [
        (part.stage, part.function.name, part_status([eligible[index] for index in part.indexes]))
        for part in laid_out.parts
    ]
    by_operation: dict[int, tuple[str, ...]] = {}
    for finding in findings:
        for index in finding.operations:
            by_operation[index] = (*by_operation.get(index, ()), finding.rule)
    on_engine = sum(1 for device in placed if device == ANE)
    verdict = Verdict(
        status=overall([each for _, _, each in statuses], model) if status is None else status,
        eligible=tuple(eligible),
        findings=tuple(findings),
        segments=segments(laid_out, [device == ANE for device in placed]) if found is None else found,
        forecast=Forecast(
            tuple(placed), {}, source, sentence=f"Core ML put {on_engine} of {len(placed)} operations on the engine."
        ),
        parts=tuple(statuses),
        certainty=Certainty.MEASURED,
        by_operation=by_operation,
    )
    return Report(model.path, model, laid_out, (TargetReport(seen, verdict),), asked=True, basis="measured")


def _finding(laid_out: Outline, text: str, indexes: tuple[int, ...]) -> Finding:
    rule = find(rule_of(text))
    assert rule is not None
    operations: list[Operation] = [laid_out.operations[index] for index in indexes]
    message = text or "Core ML lists the engine for none of them and gives no reason"
    return Finding(
        rule=rule.id,
        name=rule.name,
        message=message if len(operations) > 1 or text else "Core ML does not list the engine and gives no reason",
        effect=Effect.REFUSED,
        operations=indexes,
        certainty=Certainty.MEASURED,
        sources=("core-ml-itself",),
        fix=rule.fix,
        core_ml_text=text,
    )


def is_analytics_file(path: str) -> bool:
    """Whether a path holds Core ML's own notes, by its first kilobytes."""
    from anecompat.readers.analytics import is_analytics

    place = Path(path)
    if not place.is_file():
        return False
    try:
        with open(place, "rb") as file:
            head = file.read(1 << 16)
    except OSError:
        return False
    return head.lstrip().startswith(b"program") and is_analytics(head.decode("utf-8", "replace"))

"""The report for people: a verdict a chip, segments with their keys, then causes, largest gain first.

Kept from ANECompat, letter for letter, because scripts look for them: ``Predicted segment with model key: {...}`` and
``Completed with status: Partial compatibility (1)``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from anecompat import __version__, knowledge
from anecompat.checking import Report, TargetReport
from anecompat.findings import Effect, Finding, Forecast, Segment, Status, Verdict
from anecompat.ir import Feature, Model
from anecompat.outline import Outline
from anecompat.report.words import count, listed, paint, ranges, shown, size, tally, wrapped

_COLOR_OF = {Status.FULL: "green", Status.PARTIAL: "yellow", Status.NONE: "red", Status.CANNOT_TELL: "cyan"}
_SEGMENTS_SHOWN = 12
_DECISIVE = (Effect.REFUSED, Effect.UNKNOWN, Effect.BLOCKS)


def to_text(report: Report, *, width: int = 100, color: bool = False, warnings: bool = True) -> str:
    """The report as text, ending in its closing line, without a line break at the end.

    ``warnings=False`` leaves out what the reader warned of, for callers that print it elsewhere.
    """
    return "\n".join(_lines(report, max(width, 40), color, warnings))


def closing_line(status: Status) -> str:
    """The last line that ANECompat prints."""
    return f"Completed with status: {status}"


def _lines(report: Report, width: int, color: bool, warnings: bool) -> Iterator[str]:
    if report.error is not None:
        yield wrapped(str(report.error), width)
        yield closing_line(report.status)
        return
    assert report.model is not None
    assert report.outline is not None
    yield from _header(report, report.model, report.outline, width, color)
    for warning in report.model.warnings if warnings else ():
        yield paint(wrapped(f"Warning: {shown(warning, 400)}", width, "", "  "), "yellow", color=color)
    yield ""
    yield from _table(report, width, color)
    for group in _detailed(report):
        yield ""
        yield from _details(report, group, width, color)
    yield ""
    names = "; ".join(str(entry.target) for entry in report.spoken_for[:4])
    if len(report.spoken_for) > 4:
        names += f" and {len(report.spoken_for) - 4} more"
    if report.basis == "measured":
        names = str(report.targets[0].target)
    said = "the reference target" if not report.asked else "the worst of the targets asked for"
    if report.asked and len(report.spoken_for) == 1:
        said = "the target asked for"
    yield wrapped(f"Closing line and exit status speak for {names}: {said}.", width)
    yield paint(closing_line(report.status), "bold", color=color)


def _header(report: Report, model: Model, outline: Outline, width: int, color: bool) -> Iterator[str]:
    yield paint(wrapped(shown(model.path, 200), width), "bold", color=color)
    facts = [f"{model.kind} in a {model.format}"]
    if model.spec_version:
        facts.append(f"specification {model.spec_version}")
    facts.append(count(len(outline.operations), "operation"))
    names = [function.name for _, leaf in model.walk_stages() for function in leaf.functions]
    if len(names) > 1 and not model.stages:
        facts.append(f"functions {listed([shown(name, 30) for name in names])}")
    if model.stages:
        facts.append(f"stages {listed([shown(stage, 30) for stage, _ in model.walk_stages()])}")
    yield wrapped(", ".join(facts), width)
    if model.bytes_there:
        yield wrapped(f"read {size(model.bytes_read)} of {size(model.bytes_there)}", width)
    units = "CPU and Neural Engine" if report.compute_units == "cpu-and-ne" else report.compute_units
    version = f"anecompat {__version__}, tables {knowledge.digest()}"
    yield paint(wrapped(f"{report.basis} for compute units {units}; {version}", width), "dim", color=color)
    for title, features in (("inputs", model.inputs), ("states", model.states), ("outputs", model.outputs)):
        if features:
            yield paint(f"Model {title}:", "bold", color=color)
            for feature in features:
                yield wrapped(_feature(feature, width), width, "  ", "    ")


def _feature(feature: Feature, width: int) -> str:
    parts = [shown(feature.name, min(60, width - 2)), feature.kind]
    if feature.dtype:
        parts.append(feature.dtype)
    if feature.color:
        parts.append(feature.color)
    if feature.shape is not None:
        parts.append(f"[{', '.join(map(str, feature.shape))}]")
    if len(feature.choices) > 1:
        parts.append(f"({len(feature.choices)} enumerated shapes)")
    elif feature.is_flexible:
        spans = ["{}..{}".format(low, "any" if high is None else high) for low, high in feature.ranges]
        parts.append(f"(range {' x '.join(spans)})")
    if feature.optional:
        parts.append("optional")
    return " ".join(parts)


def _groups(report: Report) -> list[list[TargetReport]]:
    """Targets whose verdicts say the same, in order of first appearance."""
    groups: dict[object, list[TargetReport]] = {}
    for entry in report.targets:
        verdict = entry.verdict
        said = tuple((f.rule, f.operations, f.message) for f in verdict.findings if f.effect in _DECISIVE)
        key = (verdict.status, verdict.eligible, said)
        groups.setdefault(key, []).append(entry)
    return list(groups.values())


def _detailed(report: Report) -> list[list[TargetReport]]:
    """The groups to tell in full: those the closing line speaks for."""
    spoken = {id(entry) for entry in report.spoken_for}
    return [group for group in _groups(report) if any(id(entry) in spoken for entry in group)]


def _table(report: Report, width: int, color: bool) -> Iterator[str]:
    groups = _groups(report)
    heading = "Verdict by chip" if report.asked else "Verdict by chip, each on its last system"
    yield paint("Verdict" if report.basis == "measured" else heading, "bold", color=color)
    label = max(len(_short(group[0].status)) for group in groups)
    for group in groups:
        entry = group[0]
        verdict = entry.verdict
        done, total = verdict.share
        share = f"{done}/{total}" if total else "-"
        segments = count(len(verdict.segments), "segment")
        status = paint(f"{_short(entry.status):<{label}}", _COLOR_OF.get(entry.status, "bold"), color=color)
        head = f"  {status}  {share:>11}  {segments:>12}  "
        plain = label + 2 + 2 + 11 + 2 + 12 + 2
        if plain + 40 > width:
            yield head.rstrip()
            yield wrapped(chips_text(group), width, "      ")
        else:
            text = wrapped(chips_text(group), width - plain)
            yield f"\n{' ' * plain}".join([head + text.split("\n")[0], *text.split("\n")[1:]])


def _short(status: Status) -> str:
    return f"{status.text} ({int(status)})"


def chips_text(group: Sequence[TargetReport]) -> str:
    """The chips of a group, families together: M1 (Pro, Max, Ultra) on macOS 27; A14 on iOS 27."""
    by_system: dict[str, list[str]] = {}
    for entry in group:
        by_system.setdefault(entry.system, []).append(entry.chip)
    return "; ".join(f"{', '.join(families(names))} on {system}" for system, names in by_system.items())


def families(names: Sequence[str]) -> list[str]:
    """M1, M1 Pro, M1 Max -> M1 (Pro, Max), where the base chip is among them."""
    result: list[tuple[str, list[str]]] = []
    for name in names:
        base, _, variant = name.partition(" ")
        if variant and result and result[-1][0] == base:
            result[-1][1].append(variant)
        else:
            result.append((name, []))
    return [f"{base} ({', '.join(variants)})" if variants else base for base, variants in result]


def _details(report: Report, group: Sequence[TargetReport], width: int, color: bool) -> Iterator[str]:
    assert report.outline is not None
    spoken = [entry for entry in group if entry in report.spoken_for]
    verdict = spoken[0].verdict
    yield paint(wrapped(chips_text(spoken), width), "bold", color=color)
    yield wrapped(_summary(verdict, report), width, "  ")
    if len(verdict.parts) > 1:
        for stage, function, status in verdict.parts:
            yield wrapped(f"{shown(stage or function)}: {status}", width, "  - ", "    ")
    yield from _segments(report.outline, verdict, report.basis, width)
    yield from _causes(report.outline, verdict, width, color)
    yield from _forecast(report, verdict, width, color)
    for advice in dict.fromkeys(sentence for entry in spoken for sentence in entry.advice):
        yield wrapped(advice, width, "    ")


def _summary(verdict: Verdict, report: Report) -> str:
    done, total = verdict.share
    if not total:
        return f"{verdict.status}: nothing in it could run on an engine."
    unknown = sum(1 for answer in verdict.eligible if answer is None)
    refused = total - done - unknown
    text = f"{verdict.status}: {done:,} of {count(total, 'operation')} ({100 * done // total} %) can run on the engine"
    if refused:
        text += f", {refused:,} cannot"
    if unknown:
        text += f", {unknown:,} unknown"
    text += f", in {count(len(verdict.segments), 'segment')}."
    if done and report.basis == "predicted":
        text += f" How well that is known: {verdict.certainty}."
    host = [f for f in verdict.findings if f.rule == "ANE801" and f.fix]
    if host and verdict.status is Status.PARTIAL and done == total:
        text += " Only the work outside the network keeps it from being fully compatible."
    return text


def _segments(outline: Outline, verdict: Verdict, basis: str, width: int) -> Iterator[str]:
    word = "Predicted segment" if basis == "predicted" else "Intercepted evaluation of model"
    link = "with model key" if basis == "predicted" else "with key"
    for segment in verdict.segments[:_SEGMENTS_SHOWN]:
        yield f"{word} {link}: {json.dumps(segment.key(), separators=(',', ':'))}"
        yield wrapped(_segment_words(outline, segment), width, "    ", "      ")
    if len(verdict.segments) > _SEGMENTS_SHOWN:
        more = count(len(verdict.segments) - _SEGMENTS_SHOWN, "more segment")
        yield wrapped(f"... and {more} (all of them with --format json)", width, "    ", "      ")


def _segment_words(outline: Outline, segment: Segment) -> str:
    types = tally([outline.operations[index].type for index in segment.operations], 4)
    text = f"operations {ranges(segment.operations)} ({types})"
    where = shown(segment.stage or (segment.function if segment.function != "main" else ""), 30)
    if where:
        text += f" in {where}"
    if segment.ended_by:
        ended = outline.operations[segment.ended_by[0]]
        name = shown(ended.outputs[0].name if ended.outputs else ended.name, 40)
        text += f"; ended by {ended.type} {name}"
        if len(segment.ended_by) > 1:
            text += f" and {len(segment.ended_by) - 1} more"
    if segment.inferred_key:
        text += "; key inferred"
    return text


_HEADINGS = (
    ((Effect.REFUSED,), "Why not, cause by cause"),
    ((Effect.UNKNOWN,), "What nobody knows"),
    ((Effect.BLOCKS,), "What may stop the whole"),
    ((Effect.RISK,), "Risks that depend on values or on the device (they change no status)"),
    ((Effect.NOTE,), "Also noted"),
)


def _causes(outline: Outline, verdict: Verdict, width: int, color: bool) -> Iterator[str]:
    for effects, heading in _HEADINGS:
        findings = [finding for finding in verdict.findings if finding.effect in effects]
        if not findings:
            continue
        if effects[0] in (Effect.REFUSED, Effect.UNKNOWN):
            findings.sort(key=_worth)
        yield paint(wrapped(f"{heading}:", width, "  "), "bold", color=color)
        brief = effects[0] in (Effect.RISK, Effect.NOTE)
        for finding in findings:
            yield from _finding(outline, finding, width, color, brief)


def _worth(finding: Finding) -> tuple[float, ...]:
    """Causes in the order of what removing them would win: status, operations, time, segments."""
    gain = finding.gain
    if gain is None:
        return (1.0, -float(len(finding.operations)))
    return (0.0, float(gain.status is not Status.FULL), -float(gain.operations), -(gain.milliseconds or 0.0))


def _finding(outline: Outline, finding: Finding, width: int, color: bool, brief: bool) -> Iterator[str]:
    head = paint(f"{finding.rule} {finding.name}", "cyan", color=color)
    yield wrapped(f"{finding.rule} {finding.name}: {shown(finding.message, 400)}", width, "  - ", "    ").replace(
        f"{finding.rule} {finding.name}", head, 1
    )
    inner = "      "
    if finding.operations and not brief:
        yield wrapped(_where(outline, finding), width, inner)
    if finding.core_ml_text and not brief:
        code = "" if finding.core_ml_code is None else f" (code {finding.core_ml_code})"
        yield wrapped(f"Core ML's words: {shown(finding.core_ml_text, 300)}{code}", width, inner, inner + "  ")
    if not brief:
        if finding.fix:
            yield wrapped(f"change: {finding.fix}", width, inner, inner + "  ")
        if finding.gain is not None:
            yield wrapped(_gain(finding), width, inner, inner + "  ")
        known = f"known: {finding.certainty}"
        if finding.sources:
            known += f", from {', '.join(finding.sources)}"
        yield paint(wrapped(known, width, inner, inner + "  "), "dim", color=color)
    elif finding.operations:
        yield wrapped(f"{count(len(finding.operations), 'operation')}, {finding.certainty}", width, inner)


def _where(outline: Outline, finding: Finding) -> str:
    operations = [outline.operations[index] for index in finding.operations]
    first = operations[0]
    name = shown(first.outputs[0].name if first.outputs else first.name, 50)
    text = f"{count(len(operations), 'operation')} ({tally([o.layer or o.type for o in operations])})"
    if len(operations) == 1:
        return f"operation {first.index}: {first.type} {name}" + (f", layer {first.layer}" if first.layer else "")
    return f"{text}: {ranges(finding.operations)}; first {first.type} {name}"


def _gain(finding: Finding) -> str:
    gain = finding.gain
    assert gain is not None
    if gain.operations == 0:
        return "fixing it alone wins nothing: the same operations have other causes too"
    parts = [f"{count(gain.operations, 'operation')} gained"]
    if gain.segments_saved > 0:
        parts.append(f"{count(gain.segments_saved, 'segment')} fewer")
    elif gain.segments_saved < 0:
        parts.append(f"{count(-gain.segments_saved, 'segment')} more")
    if gain.milliseconds is not None and gain.milliseconds > 1e-4:
        parts.append(f"{gain.milliseconds:.3g} ms of Core ML's own estimate saved")
    return f"fixing it alone: {', '.join(parts)}; status {gain.status}"


def _forecast(report: Report, verdict: Verdict, width: int, color: bool) -> Iterator[str]:
    forecast: Forecast | None = verdict.forecast
    if forecast is not None and forecast.sentence:
        measured = report.basis == "measured"
        estimated = "" if measured else "; Core ML's own estimates, not measured"
        basis = f" ({forecast.basis}{estimated})" if forecast.basis else ""
        heading = "Where Core ML put it:" if measured else "Where Core ML is expected to put it:"
        yield paint(f"  {heading}", "bold", color=color)
        yield wrapped(f"{forecast.sentence}{basis}", width, "    ")
    if verdict.latency is not None:
        low, high = verdict.latency.low, verdict.latency.high
        yield wrapped(
            f"On the engine, one prediction: roughly {low:.2g} to {high:.2g} ms "
            f"(a forecast, not measured; {verdict.latency.basis}).",
            width,
            "    ",
        )

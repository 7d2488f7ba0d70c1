"""The report as JSON: compact, one document a model, chips that share a verdict serialised once."""

from __future__ import annotations

import json
from typing import Any

from anecompat import __version__, knowledge
from anecompat.checking import Report, TargetReport
from anecompat.errors import AnecompatError
from anecompat.findings import Finding, Latency, Segment, Verdict
from anecompat.ir import Feature, HostWork, Model
from anecompat.outline import Outline

SCHEMA_VERSION = "1.0"


def to_dict(report: Report) -> dict[str, Any]:
    """The report as plain data."""
    document = _head(report)
    if report.error is not None:
        document["error"] = error_dict(report.error)
        return document
    shared: dict[int, dict[str, Any]] = {}
    document["targets"] = []
    for entry in report.targets:
        body = shared.get(id(entry.verdict))
        if body is None:
            body = shared[id(entry.verdict)] = _verdict(report, entry.verdict)
        document["targets"].append(_target(entry) | body)
    return document


def to_json(report: Report, *, indent: int | None = None) -> str:
    """The report as text. Verdicts that chips share are serialised once and repeated as text."""
    if indent is not None:
        return json.dumps(to_dict(report), indent=indent)
    if report.error is not None:
        return json.dumps(to_dict(report), separators=(",", ":"))
    head = json.dumps(_head(report), separators=(",", ":"))
    shared: dict[int, str] = {}
    rows: list[str] = []
    for entry in report.targets:
        body = shared.get(id(entry.verdict))
        if body is None:
            body = json.dumps(_verdict(report, entry.verdict), separators=(",", ":"))[1:]
            shared[id(entry.verdict)] = body
        first = json.dumps(_target(entry), separators=(",", ":"))[:-1]
        rows.append(f"{first},{body}")
    return f'{head[:-1]},"targets":[{",".join(rows)}]}}'


def error_dict(error: AnecompatError) -> dict[str, Any]:
    """An error as the schema has it."""
    return {"status": error.status, "message": str(error)}


def _head(report: Report) -> dict[str, Any]:
    head: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "anecompat": __version__,
        "knowledge": knowledge.digest(),
        "basis": report.basis,
        "compute_units": report.compute_units,
    }
    if report.error is None:
        head["status"] = int(report.status)
        head["status_text"] = report.status.text
        head["reference"] = not report.asked
    head["model"] = _model(report.model) if report.model is not None else {"path": report.path}
    return head


def _model(model: Model) -> dict[str, Any]:
    return {
        "path": model.path,
        "format": model.format,
        "kind": model.kind,
        "spec_version": model.spec_version,
        "functions": [function.name for _, leaf in model.walk_stages() for function in leaf.functions],
        "host_work": [_host_work(stage, work) for stage, work in _all_host_work(model)],
        "inputs": [_feature(feature) for feature in model.inputs],
        "outputs": [_feature(feature) for feature in model.outputs],
        "stages": [stage for stage, _ in model.walk_stages()] if model.stages else [],
        "warnings": list(model.warnings),
        "bytes_read": model.bytes_read,
        "bytes_there": model.bytes_there,
    }


def _all_host_work(model: Model) -> list[tuple[str, HostWork]]:
    found = [(model.name, work) for work in model.host_work]
    for stage in model.stages:
        found.extend(_all_host_work(stage))
    return found


def _host_work(stage: str, work: HostWork) -> dict[str, Any]:
    return {"kind": work.kind, "detail": work.detail, "partial": work.partial, "stage": work.stage or stage}


def _feature(feature: Feature) -> dict[str, Any]:
    row: dict[str, Any] = {"name": feature.name, "kind": feature.kind}
    if feature.dtype:
        row["dtype"] = feature.dtype
    if feature.shape is not None:
        row["shape"] = list(feature.shape)
    if feature.choices:
        row["enumerated_shapes"] = [list(choice) for choice in feature.choices]
    if feature.ranges:
        row["ranges"] = [list(pair) for pair in feature.ranges]
    if feature.color:
        row["color"] = feature.color
    return row


def _target(entry: TargetReport) -> dict[str, Any]:
    target, status = entry.target, entry.status
    return {
        "chip": entry.chip,
        "engine": target.engine,
        "os": entry.system,
        "status": int(status),
        "status_text": status.text,
        "advice": list(entry.advice),
    }


def _verdict(report: Report, verdict: Verdict) -> dict[str, Any]:
    assert report.outline is not None
    body: dict[str, Any] = {
        "certainty": str(verdict.certainty),
        "parts": [{"stage": s, "function": f, "status": int(status)} for s, f, status in verdict.parts],
        "operations": _operations(report.outline, verdict),
        "segments": [segment_dict(segment) for segment in verdict.segments],
        "findings": [_finding(finding) for finding in verdict.findings],
    }
    if verdict.forecast is not None and verdict.forecast.sentence:
        forecast = verdict.forecast
        body["forecast"] = {
            "sentence": forecast.sentence,
            "basis": forecast.basis,
            "chosen_ms": forecast.chosen_ms,
            "cpu_ms": forecast.cpu_ms,
            "engine_ms": forecast.engine_ms,
        }
    if verdict.latency is not None:
        body["latency"] = _latency(verdict.latency)
    return body


def _latency(latency: Latency) -> dict[str, Any]:
    return {"low_ms": round(latency.low, 4), "high_ms": round(latency.high, 4), "basis": latency.basis}


def _operations(outline: Outline, verdict: Verdict) -> list[dict[str, Any]]:
    placed = verdict.forecast.placed if verdict.forecast is not None else ()
    alternatives = verdict.forecast.alternatives if verdict.forecast is not None else {}
    rows: list[dict[str, Any]] = []
    for part in outline.parts:
        for index in part.indexes:
            operation = outline.operations[index]
            rows.append(
                {
                    "index": index,
                    "stage": part.stage,
                    "function": part.function.name,
                    "type": operation.type,
                    "layer": operation.layer,
                    "outputs": [value.name for value in operation.outputs],
                    "eligible": verdict.eligible[index],
                    "placed": placed[index] if placed else None,
                    "placed_alternatives": list(alternatives.get(index, ())),
                    "findings": list(verdict.by_operation.get(index, ())),
                }
            )
    return rows


def segment_dict(segment: Segment) -> dict[str, Any]:
    """A segment as the schema has it: its model key with what it holds."""
    key = segment.key()
    return {
        "isegment": segment.isegment,
        "device": segment.device,
        "inputs": key["inputs"],
        "outputs": key["outputs"],
        "operations": list(segment.operations),
        "inferred_key": segment.inferred_key,
        "stage": segment.stage,
        "function": segment.function,
        "ended_by": list(segment.ended_by),
    }


def _finding(finding: Finding) -> dict[str, Any]:
    row: dict[str, Any] = {
        "rule": finding.rule,
        "name": finding.name,
        "message": finding.message,
        "effect": finding.effect.value,
        "operations": list(finding.operations),
        "certainty": str(finding.certainty),
        "sources": list(finding.sources),
        "fix": finding.fix,
    }
    if finding.core_ml_text:
        row["core_ml"] = {"code": finding.core_ml_code, "text": finding.core_ml_text}
    if finding.also:
        row["core_ml_also"] = [
            {"code": words.code, "text": words.text, "operations": list(words.operations)} for words in finding.also
        ]
    if finding.root is not None:
        row["root"] = finding.root
    if finding.gain is not None:
        gain = finding.gain
        row["gain"] = {
            "operations": gain.operations,
            "segments_saved": gain.segments_saved,
            "milliseconds": gain.milliseconds,
            "status": int(gain.status),
        }
    return row

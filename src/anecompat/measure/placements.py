"""Core ML's own answers, gathered: the compute plan, the segmentation analytics, and their substitutes, as one list."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anecompat import ir
from anecompat.errors import AnecompatError
from anecompat.measure import analytics
from anecompat.measure.parent import Outcome
from anecompat.measure.text import without_paths
from anecompat.measure.trace import TracePlacement, TraceProvider, decode


@dataclass(frozen=True, slots=True)
class Answers:
    """Placements, who was asked for them, and how long it took."""

    placements: tuple[TracePlacement, ...]
    providers: tuple[TraceProvider, ...]
    timings: dict[str, float]


def gather(ask: Callable[[str], Outcome], cache_home: Path, model: ir.Model | None, function: str) -> Answers:
    """Ask every provider. ``ask`` runs a job in a child; ``cache_home`` is the home of an earlier prediction."""
    providers: list[TraceProvider] = []
    timings: dict[str, float] = {}
    planned = _ask(ask, "compute plan", providers, timings)
    if not planned and importlib.util.find_spec("coremltools") is not None:
        planned = _ask(ask, "coremltools", providers, timings)
    noted = _ask(ask, "analytics", providers, timings)
    if not noted:
        noted = _cached(cache_home, providers)
    merged = merge(planned, noted, function)
    return Answers(tuple(index(merged, model)), tuple(providers), timings)


def _ask(
    ask: Callable[[str], Outcome], name: str, providers: list[TraceProvider], timings: dict[str, float]
) -> list[TracePlacement]:
    outcome = ask(name)
    if outcome.timings:
        timings[name] = round(sum(outcome.timings.values()), 6)
    answer = outcome.last("placements")
    if outcome.status is None and answer:
        providers.append(TraceProvider(name, True))
        return [_clean(decode(TracePlacement, entry, name)) for entry in answer["placements"]]
    providers.append(TraceProvider(name, False, outcome.message))
    return []


def _clean(placement: TracePlacement) -> TracePlacement:
    messages = {backend: tuple(without_paths(text) for text in texts) for backend, texts in placement.messages.items()}
    return replace(placement, messages=messages)


def _cached(home: Path, providers: list[TraceProvider]) -> list[TracePlacement]:
    """The newest ``analytics.mil`` of the compile cache."""
    from anecompat.readers.analytics import read_analytics

    files = analytics.cached_files(home)
    if not files:
        providers.append(TraceProvider("analytics cache", False, "Core ML left no analytics.mil in its compile cache"))
        return []
    try:
        notes = read_analytics(files[-1].read_text(encoding="utf-8", errors="replace"), "analytics.mil")
    except (AnecompatError, OSError) as error:
        providers.append(TraceProvider("analytics cache", False, without_paths(str(error))))
        return []
    providers.append(TraceProvider("analytics cache", True))
    found = []
    for function in notes.model.functions:
        for operation in function.operations():
            note = notes.notes.get(operation.index)
            if note is not None:
                found.append(
                    TracePlacement(
                        outputs=tuple(value.name for value in operation.outputs),
                        type=operation.type,
                        function=function.name,
                        selected=note.selected or None,
                        estimates=dict(note.estimates),
                        messages={name: tuple(texts) for name, texts in note.messages.items()},
                        backends=tuple(sorted(note.supported)),
                    )
                )
    return [_clean(placement) for placement in found]


def merge(
    planned: Iterable[TracePlacement], noted: Iterable[TracePlacement], function: str = ""
) -> list[TracePlacement]:
    """The plan's operations with the analytics' reasons beside them; operations that only one knows are kept.

    Analytics carry the opset's or the model's own function name; they match by output name, within the function where
    both name one.
    """
    merged = [p for p in planned if not function or not p.function or p.function == function]
    places: dict[str, int] = {}
    for number, placement in enumerate(merged):
        for name in placement.outputs:
            places.setdefault(name, number)
    for note in noted:
        place: int | None = next((places[name] for name in note.outputs if name in places), None)
        if place is None:
            merged.append(note)
            continue
        merged[place] = replace(
            merged[place],
            selected=note.selected,
            estimates=note.estimates,
            messages=note.messages,
            backends=note.backends,
        )
    return merged


def index(placements: Iterable[TracePlacement], model: ir.Model | None) -> list[TracePlacement]:
    """The same placements with the index of the model's operation that makes their first output."""
    if model is None:
        return list(placements)
    known: dict[tuple[str, str, str], int] = {}
    for stage, leaf in model.walk_stages():
        for function in leaf.functions:
            for operation in function.operations():
                for value in operation.outputs:
                    known.setdefault((stage, function.name, value.name), operation.index)
                    known.setdefault(("", "", value.name), operation.index)
    return [replace(placement, index=_find(placement, known)) for placement in placements]


def _find(placement: TracePlacement, known: dict[tuple[str, str, str], int]) -> int | None:
    for name in placement.outputs:
        for place in ((placement.stage, placement.function, name), ("", "", name)):
            if place in known:
                return known[place]
    return None


def decode_all(kind: Any, entries: list[dict[str, Any]], place: str) -> tuple[Any, ...]:
    """A list of events' data as trace objects."""
    return tuple(decode(kind, entry, place) for entry in entries)

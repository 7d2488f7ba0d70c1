"""Core ML's segmentation analytics: why each operation may not run on a backend, what it estimates, what it chose.

Private (macOS 14 and later, static mlPrograms only). The first way asks the loaded model; the second reads the
``analytics.mil`` that Core ML leaves in its compile cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from anecompat.errors import AnecompatError
from anecompat.measure.objc import foundation
from anecompat.measure.objc.runtime import Runtime
from anecompat.measure.trace import TracePlacement

BACKEND_DEVICES = {"ane": "ANE", "mps_graph": "GPU", "classic_cpu": "CPU", "bnns": "CPU"}


class AnalyticsError(AnecompatError):
    """Core ML gives no segmentation analytics."""


def from_model(runtime: Runtime, model: int) -> list[TracePlacement]:
    """The analytics of a model loaded with profiling on. AnalyticsError where this system or this model has none."""
    with runtime.pool():
        step: int | None = model
        for selector in ("program", "programLibrary"):
            if not runtime.responds(step, selector):
                raise AnalyticsError(f"this system's {runtime.class_name(step or model)} has no {selector}")
            step = runtime.send(step, selector)
            if not step:
                raise AnalyticsError(f"this model has no {selector}; only mlPrograms of fixed shape have analytics")
        if not runtime.responds(step, "segmentationAnalyticsAndReturnError:"):
            raise AnalyticsError("this system's Core ML has no segmentation analytics")
        slot = foundation.ErrorSlot(runtime)
        answer = runtime.send(step, "segmentationAnalyticsAndReturnError:", slot.reference)
        if not answer:
            raise AnalyticsError(f"Core ML gives no segmentation analytics: {slot.found() or 'no reason given'}")
        return placements(foundation.plain(runtime, answer))


def placements(answer: Mapping[str, Any]) -> list[TracePlacement]:
    """Core ML's dictionary, an operation an entry, as placements in the order of the operations."""
    entries = [entry for entry in answer.values() if isinstance(entry, Mapping)]
    entries.sort(key=lambda entry: _number(entry.get("OpIndex")))
    return [_placement(entry) for entry in entries]


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0


def _placement(entry: Mapping[str, Any]) -> TracePlacement:
    support = entry.get("BackendSupport")
    estimates = entry.get("EstimatedRunTime")
    messages = entry.get("ValidationMessages")
    backends = tuple(sorted(name for name, held in support.items() if held)) if isinstance(support, Mapping) else None
    function, outputs = _path(entry.get("OpPath"))
    name = entry.get("DebugName")
    return TracePlacement(
        outputs=outputs or ((str(name),) if name else ()),
        type=str(entry.get("OpType", "")).rsplit(".", 1)[-1],
        function=function,
        selected=_text(entry.get("SelectedBackend")),
        estimates={str(k): float(v) for k, v in estimates.items() if isinstance(v, int | float)}
        if isinstance(estimates, Mapping)
        else {},
        messages={str(k): _texts(v) for k, v in messages.items() if _texts(v)} if isinstance(messages, Mapping) else {},
        backends=backends,
    )


def _text(value: Any) -> str | None:
    return str(value) if value else None


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, list):
        return tuple(str(item) for item in value if item)
    return (str(value),) if value else ()


def _path(path: Any) -> tuple[str, tuple[str, ...]]:
    """The function and the output names in an ``OpPath``: a list of {kind: name}, a dictionary, or one text."""
    steps = list(_steps(path))
    functions = [name for kind, name in steps if kind == "Function"]
    operations = [name for kind, name in steps if kind == "Operation"]
    return (functions[-1] if functions else "", tuple(operations[-1:]))


def _steps(path: Any) -> Iterator[tuple[str, str]]:
    if isinstance(path, Mapping):
        for kind, name in path.items():
            if isinstance(name, list | Mapping):
                yield from _steps(name)
            else:
                yield str(kind), str(name)
    elif isinstance(path, list):
        for item in path:
            yield from _steps(item)
    elif isinstance(path, str):
        for part in path.replace(">", "/").split("/"):
            kind, _, name = part.partition(":")
            if name:
                yield kind.strip(), name.strip()


def cached_files(home: Path) -> list[Path]:
    """The ``analytics.mil`` files under a home's compile cache, newest last."""
    found = (home / "Library" / "Caches").rglob("analytics.mil")
    return sorted(found, key=lambda file: (file.stat().st_mtime, str(file)))

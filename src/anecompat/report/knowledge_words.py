"""Scopes of the knowledge tables in words: engines as chips, releases as systems."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from anecompat import knowledge
from anecompat.knowledge import Release, Span
from anecompat.targets import ENGINES, chips, majors

NEWEST: Release = (max(majors("iOS")), 0)
"""The newest release, at which tables with one column an engine are read."""

SIGNS = {"yes": "+", "no": "-", "conditional": "c", "unknown": "?"}


@cache
def chips_of(engine: str) -> tuple[str, ...]:
    """The plainest chip of each series with this engine: ("A17 Pro", "M4") for H16."""
    first: dict[str, str] = {}
    for chip in chips():
        if chip.engine == engine:
            first.setdefault(chip.series, chip.name)
    return tuple(first.values())


def engines_text(span: Span) -> str:
    """The engines of a scope and their plainest chips: "H13 (A14 and M1)", "H13-H18 (A14 and M1 to A19 and M6)"."""
    first, last = f"H{span.first}", f"H{span.last}"
    if span.first == span.last:
        return f"{first} ({' and '.join(chips_of(first))})"
    return f"{first}-{last} ({' and '.join(chips_of(first))} to {' and '.join(chips_of(last))})"


def releases_text(span: Span) -> str:
    """The releases of a scope: "macOS 27 / iOS 27 and later", "macOS 12 to 13 / iOS 15 to 16", "every release"."""
    oldest, newest = min(majors("iOS")), NEWEST[0]
    last = None if span.until is None else span.until[0] - 1
    if span.since <= (oldest,) and (last is None or last >= newest):
        return "every release"
    first = span.since[0]
    if last is None:
        return f"{knowledge.release_text(span.since)} and later"
    if len(span.since) == 1 and first == last:
        return knowledge.release_text(span.since)
    mac = [_mac(major) for major in (first, last) if _mac(major) is not None]
    ios = f"iOS {'.'.join(map(str, span.since))} to {last}"
    if not mac:
        return ios
    return f"macOS {mac[0]} to {mac[-1]} / {ios}" if mac[0] != mac[-1] else f"macOS {mac[0]} / {ios}"


def _mac(ios: int) -> int | None:
    return next((major.number for major in majors("macOS").values() if major.ios == ios), None)


def scope_text(span: Span) -> str:
    """A scope whole: "H16 (A17 Pro and M4), macOS 27 / iOS 27 and later"."""
    return f"{engines_text(span)}, {releases_text(span)}"


def signs(answers: Iterable[knowledge.Support | None]) -> list[str]:
    """One sign an answer; where the layer's own parameters decide, "c"."""
    return ["c" if answer is None else SIGNS[answer.status] for answer in answers]


def row_of(operation: str) -> list[str]:
    """The signs of an operation, one an engine, on the newest release."""
    return signs(knowledge.support(operation, engine, NEWEST) for engine in ENGINES)


def row_of_layer(kind: str) -> list[str]:
    """The signs of an old layer, one an engine, on the newest release."""
    return signs(knowledge.layer(kind, engine, NEWEST) for engine in ENGINES)


def citation(key: str) -> str:
    """A source as one line: "key: title; where; date; licence"."""
    source = knowledge.source(key)
    return f"{key}: {source.title}; {source.where}; {source.date}; {source.licence}"

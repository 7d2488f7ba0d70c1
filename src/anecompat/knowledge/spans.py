"""Where a statement holds: engine generations and releases, as the tables write them ("H13-H16 15-26", "H16 27+")."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

Release = tuple[int, ...]

_TEXT = re.compile(r"H(\d+)(?:-H(\d+))? (\d+(?:\.\d+)?)(\+|-(\d+))?")


@dataclass(frozen=True, slots=True)
class Span:
    """Engine generations ``first`` to ``last`` and releases from ``since`` up to, and without, ``until``.

    Releases are counted as iOS counts them (macOS 14.5 is (17, 5)); ``until`` is None where no end is known.
    """

    first: int
    last: int
    since: Release
    until: Release | None
    text: str

    def holds(self, generation: int, release: Release) -> bool:
        return (
            self.first <= generation <= self.last
            and self.since <= release
            and (self.until is None or release < self.until)
        )

    def contains(self, other: Span) -> bool:
        """Whether everything in the other span is in this one."""
        return (
            self.first <= other.first
            and other.last <= self.last
            and self.since <= other.since
            and (self.until is None or (other.until is not None and other.until <= self.until))
        )

    def overlaps(self, other: Span) -> bool:
        return (
            self.first <= other.last
            and other.first <= self.last
            and (other.until is None or self.since < other.until)
            and (self.until is None or other.since < self.until)
        )

    def __str__(self) -> str:
        return self.text


def parse(text: str) -> Span:
    """A span from its text. Raises ValueError where it is not written as the tables write it."""
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text}' is no scope; write it as 'H13-H18 15+' or 'H16 27'")
    first, last = int(match[1]), int(match[2] or match[1])
    since = tuple(int(part) for part in match[3].split("."))
    until: Release | None = None
    if match[4] != "+":
        until = (int(match[5] or since[0]) + 1,)
    if last < first or (until is not None and until <= since):
        raise ValueError(f"the scope '{text}' is empty")
    return Span(first, last, since, until, text)


class Spanned(Protocol):
    @property
    def span(self) -> Span: ...


T = TypeVar("T", bound=Spanned)


def innermost(entries: Iterable[T], generation: int, release: Release) -> T | None:
    """The entry that holds there and lies inside every other one that does; None where none holds."""
    best: T | None = None
    for entry in entries:
        if entry.span.holds(generation, release) and (best is None or best.span.contains(entry.span)):
            best = entry
    return best

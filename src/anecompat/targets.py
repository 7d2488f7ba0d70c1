"""What a verdict is for: a chip and the system on it. The system holds Core ML's compiler, so neither is enough alone.

    parse_targets(["m1-pro@macos14", "A17 Pro"])  ->  (M1 Pro on macOS 14.8, A17 Pro on iOS 27)

The facts lie in ``knowledge/chips.toml`` and ``knowledge/systems.toml``, with the sources of each.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, total_ordering
from importlib.resources import files
from typing import Any, Literal

from anecompat.errors import UsageError

Platform = Literal["macOS", "iOS"]

ENGINES = ("H11", "H12", "H13", "H14", "H15", "H16", "H17", "H18")
"""Generations of the Neural Engine that Core ML can use, oldest first."""


def _load(name: str) -> dict[str, Any]:
    return tomllib.loads((files("anecompat") / "knowledge" / name).read_text(encoding="utf-8"))


def _version(text: str) -> tuple[int, ...]:
    """A version of at least two numbers, without needless zeros at the end: "14" -> (14, 0), "14.5.0" -> (14, 5)."""
    numbers = [int(part) for part in text.split(".")]
    while len(numbers) > 2 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers) if len(numbers) > 1 else (numbers[0], 0)


@dataclass(frozen=True, slots=True)
class Major:
    """A major version: the iOS that shares its Core ML, its last release known here, whether more may follow."""

    number: int
    ios: int
    last: tuple[int, ...]
    name: str = ""
    open: bool = False
    certainty: str = "documented"


@cache
def majors(platform: Platform) -> dict[int, Major]:
    """The major versions of a platform by number, oldest first (``knowledge/systems.toml``)."""
    table = next(entry for entry in _load("systems.toml")["system"] if entry["platform"] == platform)
    return {
        entry["major"]: Major(
            number=entry["major"],
            ios=entry["ios"],
            last=_version(entry["last"]),
            name=entry.get("name", ""),
            open=entry.get("open", False),
            certainty=entry.get("certainty", "documented"),
        )
        for entry in table["majors"]
    }


@total_ordering
@dataclass(frozen=True, slots=True)
class System:
    """An operating system release. ``version`` has at least two numbers: macOS 14.5 is ("macOS", (14, 5)).

    Systems are ordered by ``release``, so that macOS 14.5 equals iOS 17.5 in what Core ML knows and macOS 14.5 <
    iOS 18.0; at the same release iOS comes before macOS.
    """

    platform: Platform
    version: tuple[int, ...]

    @property
    def release(self) -> tuple[int, ...]:
        """The iOS release that shares this system's Core ML: macOS 14.5 -> (17, 5), iOS 17.5 -> (17, 5)."""
        major = majors(self.platform).get(self.version[0])
        return (major.ios if major else self.version[0], *self.version[1:])

    @property
    def is_last(self) -> bool:
        """Whether this is the last release of its major version known here."""
        major = majors(self.platform).get(self.version[0])
        return major is not None and major.last == self.version

    def __lt__(self, other: System) -> bool:
        return (self.release, self.platform.lower()) < (other.release, other.platform.lower())

    def __str__(self) -> str:
        if self.version[1:] == (0,) and self.is_last:  # "macOS 27" until 27.1 is known; "macOS 14.0" is not the last
            return f"{self.platform} {self.version[0]}"
        return f"{self.platform} {'.'.join(map(str, self.version))}"


@dataclass(frozen=True, slots=True)
class Range:
    """The systems of one platform that a chip runs: from ``first`` to the last release of major ``last_major``."""

    platform: Platform
    first: System
    last_major: int

    @property
    def last(self) -> System:
        return System(self.platform, majors(self.platform)[self.last_major].last)


@dataclass(frozen=True, slots=True)
class Chip:
    """A chip with a Neural Engine that Core ML can use.

    ``engine`` is the generation of its Neural Engine ("H13"), ``certainty`` how that is known (measured, reported or
    inferred) and ``evidence`` by what. ``series`` is "A" or "M", ``variant`` "", "X", "Z", "Pro", "Max" or "Ultra".
    ``ranges`` are the systems that any device with the chip runs, its home platform first. ``measured`` lists the
    systems for which Core ML's own per-operation answers on this chip are published. ``ane_cores`` is Apple's count.
    """

    name: str
    soc: str
    engine: str
    series: str
    variant: str
    devices: tuple[str, ...]
    ranges: tuple[Range, ...]
    ane_cores: int | None
    certainty: str
    evidence: str
    sources: tuple[str, ...]
    measured: tuple[System, ...] = ()
    note: str = ""
    conflict: str = ""

    @property
    def first_system(self) -> System:
        """The first release of its home platform (macOS for M, iOS for A) that the chip runs."""
        return self.ranges[0].first

    @property
    def last_system(self) -> System:
        """The last release of its home platform that any device with the chip runs."""
        return self.ranges[0].last

    def range(self, platform: Platform) -> Range | None:
        return next((known for known in self.ranges if known.platform == platform), None)

    def refusal(self, system: System) -> str | None:
        """Why no device with this chip runs the system, as a sentence; None where one does."""
        known = self.range(system.platform)
        if known is None:
            return f"{self.name} runs {self.ranges[0].platform}, not {system.platform}"
        if system.version < known.first.version:
            first = ".".join(map(str, known.first.version if known.first.version[1] else known.first.version[:1]))
            return f"{self.name} needs {system.platform} {first} or later, not {system}"
        if system.version[0] > known.last_major:
            note = f" ({self.note.rstrip('.')})" if self.note else ""
            return f"{self.name}'s last {system.platform} is {known.last_major}, not {system}{note}"
        return None

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Target:
    """A chip and a system on it: what one verdict is for."""

    chip: Chip
    system: System

    @property
    def engine(self) -> str:
        return self.chip.engine

    @property
    def key(self) -> tuple[str, System]:
        """Targets with the same key get the same verdict, so one judgement serves them all."""
        return self.chip.engine, self.system

    def __str__(self) -> str:
        return f"{self.chip.name}, {self.system}"


def parse_system(text: str) -> System:
    """A system from ``macos14``, ``iOS 17.2``, ``macOS 14.5``; a bare major means its last release known here.

    Raises UsageError for a platform or version that does not exist.
    """
    match = re.fullmatch(r"\s*(macos|mac\s*os\s*x|osx|ios|ipados)[\s_-]*v?(\d{1,3}(?:\.\d{1,3}){0,3})\s*", text, re.I)
    if match is None:
        raise UsageError(f"'{text.strip()}' is no system; write it as macos14, macos14.5, ios18 or ios17.2")
    platform: Platform = "iOS" if match[1].lower() in {"ios", "ipados"} else "macOS"
    known = majors(platform)
    version = _version(match[2])
    major = known.get(version[0])
    if major is None:
        raise UsageError(_no_such_major(platform, version[0]))
    if "." not in match[2]:
        return System(platform, major.last)
    if version[:2] > major.last[:2] and not major.open:
        last = ".".join(map(str, major.last))
        raise UsageError(f"there is no {platform} {match[2]}; the last {platform} {major.number} is {last}")
    return System(platform, version)


def _no_such_major(platform: Platform, number: int) -> str:
    known = list(majors(platform))
    if number < known[0]:
        what = "Mac" if platform == "macOS" else "device"
        first = f"{platform} {known[0]} was the first"
        return f"no {what} with a Neural Engine for Core ML runs {platform} {number}; {first}"
    if number > known[-1]:
        return f"{platform} {number} is not known here; the newest is {platform} {known[-1]}"
    before = max(major for major in known if major < number)
    after = min(major for major in known if major > number)
    return f"there is no {platform} {number}; {platform} {after} followed {platform} {before}"


@cache
def chips() -> tuple[Chip, ...]:
    """Every chip whose Neural Engine Core ML can use: A12 to A19 Pro, then M1 to M6."""
    return tuple(_chip(entry) for entry in _load("chips.toml")["chip"])


def _chip(entry: dict[str, Any]) -> Chip:
    name: str = entry["name"]
    match = re.fullmatch(r"([AM])\d+([XZ]?)(?: (Pro|Max|Ultra))?", name)
    assert match is not None, name
    order: tuple[Platform, ...] = ("macOS", "iOS") if match[1] == "M" else ("iOS", "macOS")
    ranges = tuple(
        Range(platform, System(platform, _version(first)), int(last))
        for platform in order
        if (bounds := entry.get(platform.lower()))
        for first, last in [bounds]
    )
    return Chip(
        name=name,
        soc=entry["soc"],
        engine=entry["engine"],
        series=match[1],
        variant=match[2] or match[3] or "",
        devices=tuple(entry["devices"]),
        ranges=ranges,
        ane_cores=entry.get("ane_cores"),
        certainty=entry["certainty"],
        evidence=entry["evidence"],
        sources=tuple(entry["sources"]),
        measured=tuple(parse_system(text) for text in entry.get("measured", ())),
        note=entry.get("note", ""),
        conflict=entry.get("conflict", ""),
    )


def _plain(text: str) -> str:
    """A chip's name as people spell it, reduced: "Apple M1-Pro" -> "m1pro", "A15 Bionic" -> "a15"."""
    plain = re.sub(r"[\s_.-]+", "", text.lower())
    return plain.removeprefix("apple").removesuffix("bionic")


def find_chips(text: str) -> tuple[Chip, ...]:
    """The chips a name stands for: one chip, all of an engine generation ("h13"), or every one ("all").

    Raises UsageError with the nearest spelling where nothing is called so.
    """
    plain = _plain(text)
    if plain == "all":
        return chips()
    found = tuple(chip for chip in chips() if plain in (_plain(chip.name), chip.engine.lower()))
    if found:
        return found
    names = {_plain(chip.name): chip.name for chip in chips()} | {engine.lower(): engine for engine in ENGINES}
    longer = [name for name in names if name.startswith(plain)]
    near = names[difflib.get_close_matches(plain, longer or names, n=1, cutoff=0.0)[0]]
    raise UsageError(f"no chip is called '{text.strip()}'; did you mean {near}? (anecompat chips lists them all)")


@dataclass(frozen=True, slots=True)
class _Wish:
    """One part of a target list: the chips named and the system asked for."""

    text: str
    chips: tuple[Chip, ...]
    system: System | None


def parse_targets(texts: Iterable[str]) -> tuple[Target, ...]:
    """Targets from ``CHIP[@SYSTEM]`` texts, each of which may be a comma-separated list; doubles are dropped.

    Without a system a chip gets its last one (macOS for M, iOS for A). A name that stands for several chips (``all``,
    ``h13``) keeps those that run the system asked for. Raises UsageError for an unknown chip or system, and for a
    pair no device has.
    """
    targets: dict[Target, None] = {}
    for wish in _wishes(texts):
        if wish.system is None:
            targets |= dict.fromkeys(Target(chip, chip.last_system) for chip in wish.chips)
            continue
        refusals = {chip: chip.refusal(wish.system) for chip in wish.chips}
        if len(wish.chips) == 1 and (refusal := refusals[wish.chips[0]]):
            raise UsageError(refusal)
        kept = [chip for chip, refusal in refusals.items() if refusal is None]
        if not kept:
            raise UsageError(f"'{wish.text}' leaves no chip: none of them runs {wish.system}")
        targets |= dict.fromkeys(Target(chip, wish.system) for chip in kept)
    return tuple(targets)


def _wishes(texts: Iterable[str]) -> Iterator[_Wish]:
    for part in (part.strip() for text in texts for part in text.split(",")):
        name, at, system = part.partition("@")
        if not name.strip():
            raise UsageError("a target is a chip, or a chip and a system: m1, 'A17 Pro', m1@macos14, a16@ios18, all")
        if at and not system.strip():
            raise UsageError(f"'{part}' names no system after the @; write it as {name.strip()}@macos14 or @ios18")
        yield _Wish(part, find_chips(name), parse_system(system) if at else None)


def default_targets() -> tuple[Target, ...]:
    """Every chip on its last system: what a report shows when no target is asked for."""
    return tuple(Target(chip, chip.last_system) for chip in chips())


def _reference() -> Target:
    measured = [(system, place, chip) for place, chip in enumerate(chips()) for system in chip.measured]
    system, _, chip = max(measured, key=lambda entry: (entry[0].release, entry[1]))
    return Target(chip, system)


REFERENCE: Target = _reference()
"""The newest system, and on it the newest chip, for which Core ML's own answers are published."""

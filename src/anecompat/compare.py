"""Two reports of one model side by side, differences first: a prediction and a measurement, or two systems."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from anecompat.checking import Report, TargetReport
from anecompat.errors import UsageError
from anecompat.findings import Status
from anecompat.ir import Operation
from anecompat.report.words import count, ranges, shown, tally, wrapped


@dataclass(frozen=True, slots=True)
class Difference:
    """One operation on which two reports differ. ``about`` is "eligible" or "placed"."""

    operation: Operation
    about: str
    first: bool | str | None
    second: bool | str | None
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Differences between two reports on the same operations, and how many were told by both."""

    first: TargetReport
    second: TargetReport
    eligible: tuple[Difference, ...]
    placed: tuple[Difference, ...]
    eligible_told: int
    placed_told: int

    @property
    def same_status(self) -> bool:
        return self.first.status is self.second.status


def compare(first: Report, second: Report) -> Comparison:
    """Compare the first targets of two reports. UsageError where they are not of the same graph."""
    if first.error is not None or second.error is not None or not first.targets or not second.targets:
        raise UsageError("there is nothing to compare: one of the reports has no answer")
    assert first.outline is not None
    assert second.outline is not None
    mine, theirs = first.outline.operations, second.outline.operations
    if [operation.type for operation in mine] != [operation.type for operation in theirs]:
        raise UsageError(
            f"the reports are of different graphs ({count(len(mine), 'operation')} and {len(theirs):,}); "
            "compare reports of the same model"
        )
    one, two = first.targets[0], second.targets[0]
    eligible: list[Difference] = []
    placed: list[Difference] = []
    eligible_told = placed_told = 0
    for index, operation in enumerate(mine):
        rules = one.verdict.by_operation.get(index, ())
        a, b = one.verdict.eligible[index], two.verdict.eligible[index]
        if a is not None and b is not None:
            eligible_told += 1
            if a is not b:
                eligible.append(Difference(operation, "eligible", a, b, rules))
        p, options = _placed(one, index)
        q, others = _placed(two, index)
        if p is not None and q is not None:
            placed_told += 1
            if p != q and q not in options and p not in others:
                placed.append(Difference(operation, "placed", p, q, rules))
    return Comparison(one, two, tuple(eligible), tuple(placed), eligible_told, placed_told)


def _placed(entry: TargetReport, index: int) -> tuple[str | None, tuple[str, ...]]:
    forecast = entry.verdict.forecast
    if forecast is None:
        return None, ()
    return forecast.placed[index], forecast.alternatives.get(index, ())


def to_text(comparison: Comparison, *, names: tuple[str, str] = ("predicted", "measured"), width: int = 100) -> str:
    """The comparison for people: differences first, then how much agrees."""
    return "\n".join(_lines(comparison, names, width))


def _lines(comparison: Comparison, names: tuple[str, str], width: int) -> Iterator[str]:
    first, second = names
    one, two = comparison.first, comparison.second
    yield wrapped(f"{first.capitalize()} for {one.target}, {second} on {two.target}", width)
    if comparison.same_status:
        yield wrapped(f"Both say {one.status}.", width)
    else:
        yield wrapped(f"Status differs: {first} {one.status}, {second} {two.status}.", width)
    for about, differences, told in (
        ("whether the engine takes an operation", comparison.eligible, comparison.eligible_told),
        ("where an operation runs", comparison.placed, comparison.placed_told),
    ):
        if not told:
            yield wrapped(f"Neither tells enough to compare {about}.", width)
            continue
        if not differences:
            yield wrapped(f"They agree on {about}: {count(told, 'operation')} told by both.", width)
            continue
        yield wrapped(f"They differ on {about} for {len(differences):,} of {count(told, 'operation')}:", width)
        yield from _differences(differences, names, width)
    mine, theirs = len(one.verdict.segments), len(two.verdict.segments)
    yield wrapped(f"Engine segments: {first} {mine}, {second} {theirs}.", width)


def _differences(differences: Sequence[Difference], names: tuple[str, str], width: int) -> Iterator[str]:
    """Equal differences told together, the rarest first: those are most likely to be about a rule."""
    groups: dict[tuple[str, str], list[Difference]] = {}
    for difference in differences:
        groups.setdefault((_word(difference.first), _word(difference.second)), []).append(difference)
    for (mine, theirs), found in sorted(groups.items(), key=lambda item: len(item[1])):
        said = f"{names[0]} {mine}, {names[1]} {theirs}"
        rules = sorted({rule for difference in found for rule in difference.rules if not rule.startswith("ANE6")})
        tail = f" ({', '.join(rules)})" if rules else ""
        first = found[0].operation
        if len(found) == 1:
            name = shown(first.outputs[0].name if first.outputs else first.name, 50)
            yield wrapped(f"{first.index} {first.type} {name}: {said}{tail}", width, "  - ", "    ")
        else:
            where = ranges([difference.operation.index for difference in found])
            types = tally(difference.operation.type for difference in found)
            yield wrapped(f"{count(len(found), 'operation')} {where} ({types}): {said}{tail}", width, "  - ", "    ")


def _word(value: bool | str | None) -> str:
    if isinstance(value, str):
        return value
    return {True: "eligible", False: "refused"}.get(bool(value), "unknown")


def to_dict(comparison: Comparison) -> dict[str, object]:
    """The comparison as plain data."""
    return {
        "first": {"target": str(comparison.first.target), "status": int(comparison.first.status)},
        "second": {"target": str(comparison.second.target), "status": int(comparison.second.status)},
        "eligible_told": comparison.eligible_told,
        "placed_told": comparison.placed_told,
        "differences": [
            {
                "index": difference.operation.index,
                "type": difference.operation.type,
                "outputs": [value.name for value in difference.operation.outputs],
                "about": difference.about,
                "first": difference.first,
                "second": difference.second,
                "findings": list(difference.rules),
            }
            for difference in (*comparison.eligible, *comparison.placed)
        ],
    }


def agree(comparison: Comparison) -> bool:
    """Whether status, eligibility and placement agree wherever both told."""
    return comparison.same_status and not comparison.eligible and not comparison.placed


def status_of(comparison: Comparison) -> Status:
    """The status that the closing line of a comparison names: that of the second report, the measured one."""
    return comparison.second.status

"""What removing one cause would give: the same prediction once more, without it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from anecompat.costs import CostTable, Estimate
from anecompat.findings import Effect, Finding, Gain
from anecompat.judge import whole_status
from anecompat.outline import Outline, Part
from anecompat.place import shortest
from anecompat.segment import count_segments

_MOST = 12
_CASCADE = "ANE901"  # what lies in a refused block goes free with its owner


def gains(
    outline: Outline,
    eligible: Sequence[bool | None],
    findings: Sequence[Finding],
    estimates: dict[int, list[Estimate]],
    table: CostTable,
    blocked: Collection[int] = (),
) -> dict[int, Gain]:
    """For each of the largest causes (by position in ``findings``), what fixing it alone would give.

    ``estimates`` holds, by position of the part, the estimates of its operations (absent where no cost is known);
    ``blocked`` the positions of parts that a known failure of the whole keeps from being fully compatible. An
    operation refused for two causes stays refused when one goes.
    """
    causes = [
        (position, finding)
        for position, finding in enumerate(findings)
        if finding.effect in (Effect.REFUSED, Effect.UNKNOWN) and finding.operations and finding.rule != _CASCADE
    ][:_MOST]
    reasons: dict[int, int] = {}
    for _, finding in causes:
        for index in finding.operations:
            reasons[index] = reasons.get(index, 0) + 1
    owners = {index: owner for part in outline.parts for index, owner in part.owners.items()}
    result: dict[int, Gain] = {}
    now = [_measure(outline, part, eligible, estimates.get(n), table) for n, part in enumerate(outline.parts)]
    for position, finding in causes:
        freed = {index for index in finding.operations if reasons[index] == 1 and eligible[index] is not True}
        freed |= {index for index, owner in owners.items() if owner in freed and index not in reasons}
        after = [True if index in freed else answer for index, answer in enumerate(eligible)]
        touched = {n for n, part in enumerate(outline.parts) if freed & set(part.indexes)}
        segments, saved, timed = 0, 0.0, False
        for n in touched:
            there = _measure(outline, outline.parts[n], after, estimates.get(n), table)
            segments += now[n][0] - there[0]
            if now[n][1] is not None and there[1] is not None:
                saved, timed = saved + now[n][1] - there[1], True  # type: ignore[operator]
        status, _ = whole_status(outline, after, blocked)
        result[position] = Gain(len(freed), segments, saved if timed else None, status)
    return result


def _measure(
    outline: Outline, part: Part, eligible: Sequence[bool | None], estimates: list[Estimate] | None, table: CostTable
) -> tuple[int, float | None]:
    operations = [outline.operations[index] for index in part.indexes]
    answers = [eligible[index] for index in part.indexes]
    cost = None
    if estimates is not None:
        cost = shortest(estimates, [answer is not False for answer in answers], table).cost
    return count_segments(operations, answers), cost

"""Where Core ML's segmenter would put each operation: a shortest path over operations and backends.

The path runs through the operations of a function in file order. Each pays its estimate on the backend chosen, every
pair of neighbours on different backends pays a switch, the first engine operation of the function pays the launch, and
an engine operation at the very end pays for leaving. Source of the rule, the prices and their evidence: the placement
study of 751K (M4, macOS 27.0.1), as cited in ``knowledge/costs.toml``. One pass forward and one backward: linear time.

The forecast stands beside eligibility and never changes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from anecompat.costs import EXACT, CostTable, Error, Estimate
from anecompat.findings import Forecast

ANE, CPU = "ANE", "CPU"
_INF = float("inf")
# States of the path: the two CPU backends before the engine was launched, the engine, the two CPU backends after.
_BNNS0, _CLASSIC0, _ENGINE, _BNNS1, _CLASSIC1 = range(5)
Row = tuple[float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class Path:
    """The cheapest way through one function. ``options`` holds, per operation, the devices of all cheapest ways."""

    labels: tuple[str, ...]
    options: tuple[frozenset[str], ...]
    cost: float
    cpu_cost: float
    engine_cost: float
    engine_saving: float
    engine_fees: float


_ONLY_ANE, _ONLY_CPU, _EITHER = frozenset([ANE]), frozenset([CPU]), frozenset([ANE, CPU])


def shortest(estimates: Sequence[Estimate], allowed: Sequence[bool], table: CostTable) -> Path:
    """The segmenter's choice for one function's operations in file order, given which the engine accepts."""
    count = len(estimates)
    if not count:
        return Path((), (), 0.0, 0.0, _INF, 0.0, 0.0)
    switch, launch, leave = table.switch_ms, table.launch_ms, table.leave_ms
    forward: list[Row] = []
    b0, c0, a, b1, c1 = 0.0, 0.0, _INF, _INF, _INF
    for i, cost in enumerate(estimates):
        if i:
            n_b0 = (b0 if b0 <= c0 + switch else c0 + switch) + cost.bnns
            n_c0 = (c0 if c0 <= b0 + switch else b0 + switch) + cost.classic
            n_a = min(a, b1 + switch, c1 + switch, b0 + switch + launch, c0 + switch + launch) + cost.ane
            n_b1 = min(b1, c1 + switch, a + switch) + cost.bnns
            n_c1 = min(c1, b1 + switch, a + switch) + cost.classic
        else:
            n_b0, n_c0, n_a, n_b1, n_c1 = cost.bnns, cost.classic, launch + cost.ane, _INF, _INF
        b0, c0, a, b1, c1 = n_b0, n_c0, (n_a if allowed[i] else _INF), n_b1, n_c1
        forward.append((b0, c0, a, b1, c1))
    backward = _backward(estimates, allowed, table)
    best = min(b0, c0, a + leave, b1, c1)
    limit = best + table.tie_ms
    options = []
    engine_best, engine_at = _INF, -1
    for i, (ahead, behind) in enumerate(zip(forward, backward, strict=True)):
        on_engine = ahead[2] + behind[2]
        if on_engine < engine_best:
            engine_best, engine_at = on_engine, i
        on_cpu = min(ahead[0] + behind[0], ahead[1] + behind[1], ahead[3] + behind[3], ahead[4] + behind[4])
        options.append(
            _EITHER if on_engine <= limit and on_cpu <= limit else _ONLY_ANE if on_engine <= limit else _ONLY_CPU
        )
    labels = _trace(forward, table)
    saving = fees = 0.0
    if engine_at >= 0 and engine_best < _INF:
        chosen = labels if ANE in labels else _trace_through(estimates, allowed, table, engine_at, forward, backward)
        saving, fees = _balance(estimates, chosen, table)
    return Path(tuple(labels), tuple(options), best, min(b0, c0), engine_best, saving, fees)


def _backward(estimates: Sequence[Estimate], allowed: Sequence[bool], table: CostTable) -> list[Row]:
    """What is still to pay after each operation, for each state it may be in."""
    switch, launch = table.switch_ms, table.launch_ms
    rows: list[Row] = []
    b0, c0, a, b1, c1 = 0.0, 0.0, table.leave_ms, 0.0, 0.0
    rows.append((b0, c0, a, b1, c1))
    for i in range(len(estimates) - 1, 0, -1):
        cost = estimates[i]
        to_b0, to_c0 = b0 + cost.bnns, c0 + cost.classic
        to_b1, to_c1 = b1 + cost.bnns, c1 + cost.classic
        to_a = a + cost.ane if allowed[i] else _INF
        b0, c0, a, b1, c1 = (
            min(to_b0, to_c0 + switch, to_a + switch + launch),
            min(to_c0, to_b0 + switch, to_a + switch + launch),
            min(to_a, to_b1 + switch, to_c1 + switch),
            min(to_b1, to_c1 + switch, to_a + switch),
            min(to_c1, to_b1 + switch, to_a + switch),
        )
        rows.append((b0, c0, a, b1, c1))
    rows.reverse()
    return rows


def _steps(state: int, before: Row, switch: float, launch: float) -> list[tuple[float, int]]:
    """The price of reaching a state from each possible one before it, the engine first among equals."""
    b0, c0, a, b1, c1 = before
    if state == _BNNS0:
        return [(b0, _BNNS0), (c0 + switch, _CLASSIC0)]
    if state == _CLASSIC0:
        return [(c0, _CLASSIC0), (b0 + switch, _BNNS0)]
    if state == _ENGINE:
        entered = [(b0 + switch + launch, _BNNS0), (c0 + switch + launch, _CLASSIC0)]
        return [(a, _ENGINE), (b1 + switch, _BNNS1), (c1 + switch, _CLASSIC1), *entered]
    if state == _BNNS1:
        return [(a + switch, _ENGINE), (b1, _BNNS1), (c1 + switch, _CLASSIC1)]
    return [(a + switch, _ENGINE), (c1, _CLASSIC1), (b1 + switch, _BNNS1)]


def _trace(forward: list[Row], table: CostTable, start: int | None = None, end: int | None = None) -> list[str]:
    last = len(forward) - 1 if end is None else end
    if start is None:
        final = forward[last]
        totals = [(final[2] + table.leave_ms, _ENGINE), *((final[s], s) for s in (0, 1, 3, 4))]
        start = min(totals, key=lambda pair: pair[0])[1]
    labels = [ANE if start == _ENGINE else CPU]
    state = start
    for i in range(last, 0, -1):
        state = min(_steps(state, forward[i - 1], table.switch_ms, table.launch_ms), key=lambda pair: pair[0])[1]
        labels.append(ANE if state == _ENGINE else CPU)
    labels.reverse()
    return labels


def _trace_through(
    estimates: Sequence[Estimate],
    allowed: Sequence[bool],
    table: CostTable,
    at: int,
    forward: list[Row],
    backward: list[Row],
) -> list[str]:
    """The cheapest way that uses the engine at operation ``at``."""
    labels = _trace(forward, table, _ENGINE, at)
    state = _ENGINE
    for i in range(at + 1, len(estimates)):
        cost, behind = estimates[i], backward[i]
        switch = table.switch_ms
        candidates = [
            (behind[2] + (cost.ane if allowed[i] else _INF) + (0.0 if state == _ENGINE else switch), _ENGINE),
            (behind[3] + cost.bnns + (0.0 if state == _BNNS1 else switch), _BNNS1),
            (behind[4] + cost.classic + (0.0 if state == _CLASSIC1 else switch), _CLASSIC1),
        ]
        state = min(candidates, key=lambda pair: pair[0])[1]
        labels.append(ANE if state == _ENGINE else CPU)
    return labels


def _balance(estimates: Sequence[Estimate], labels: Sequence[str], table: CostTable) -> tuple[float, float]:
    """What the operations on the engine save against the CPU, and what entering, switching and leaving cost."""
    saving = sum(cost.cpu - cost.ane for cost, label in zip(estimates, labels, strict=True) if label == ANE)
    fees = table.launch_ms + table.switch_ms * sum(1 for x, y in pairwise(labels) if x != y)
    return saving, fees + (table.leave_ms if labels[-1] == ANE else 0.0)


def forecast(
    estimates: Sequence[Estimate],
    eligible: Sequence[bool | None],
    table: CostTable,
    error: Error = EXACT,
    others: Mapping[int, Estimate] | None = None,
) -> Forecast:
    """Where Core ML is expected to put a function's operations (CPU and Neural Engine allowed).

    ``estimates`` and ``eligible`` follow the operations in file order. ``error`` bounds the factor by which the table's
    CPU estimates may be off; ``others`` holds second estimates by position where sources contradict each other. A
    label is None where the answer hangs on an unknown operation, on that factor or on such a second estimate.
    """
    basis = f"{table.chip}, {table.system}"
    if error != EXACT:
        basis = f"extrapolated from {basis}"
    count = len(estimates)
    if not count or not any(answer is not False for answer in eligible):
        return Forecast((CPU,) * count, {}, basis, sentence="Nothing in it can leave the CPU." if count else "")
    hopeful = [answer is not False for answer in eligible]
    nominal = shortest(estimates, hopeful, table)
    variants: list[Path] = []
    if None in eligible:
        variants.append(shortest(estimates, [answer is True for answer in eligible], table))
    if others:
        moved = [others.get(i, cost) for i, cost in enumerate(estimates)]
        variants.append(shortest(moved, hopeful, table))
    for scale in error:
        if scale != 1.0:
            moved = [Estimate(cost.ane, cost.bnns * scale, cost.classic * scale) for cost in estimates]
            variants.append(shortest(moved, hopeful, table))
    placed: list[str | None] = list(nominal.labels)
    alternatives: dict[int, tuple[str, ...]] = {}
    for i, options in enumerate(nominal.options):
        if len(options) > 1:
            alternatives[i] = (ANE, CPU)
        elif any(not options & path.options[i] for path in variants):
            placed[i] = None
    return Forecast(
        placed=tuple(placed),
        alternatives=alternatives,
        basis=basis,
        chosen_ms=nominal.cost,
        cpu_ms=nominal.cpu_cost,
        engine_ms=None if nominal.engine_cost == _INF else nominal.engine_cost,
        sentence=_sentence(placed, nominal, sum(hopeful), len(alternatives)),
    )


def _sentence(placed: Sequence[str | None], path: Path, can: int, tied: int) -> str:
    on_engine = sum(1 for label in placed if label == ANE)
    undecided = sum(1 for label in placed if label is None)
    if undecided == len(placed) or (undecided and undecided * 2 > len(placed)):
        return "Whether Core ML would choose the engine is too close to call with the known cost tables."
    if on_engine == 0:
        if can == 0:
            return "Nothing in it can leave the CPU."
        return (
            f"Core ML is expected to keep it on the CPU: on the engine it would save {_ms(path.engine_saving)}, "
            f"entering it costs {_ms(path.engine_fees)}{', which is a tie' if tied else ''}."
        )
    kept = len(placed) - on_engine - undecided
    tail = f" and to keep {kept} on the CPU" if kept else ""
    if tied:
        tail += f"; {tied} of them cost the same on either side" if tied > 1 else "; one costs the same on either side"
    unsure = f"; {undecided} {'is' if undecided == 1 else 'are'} too close to call" if undecided else ""
    return f"Core ML is expected to run {on_engine} of {len(placed)} operations on the engine{tail}{unsure}."


def _ms(value: float) -> str:
    if 0 < value < 0.00005:
        return "less than 0.0001 ms"
    return f"{value:.2f} ms" if value >= 0.005 else f"{value:.4f} ms"

"""Placement: the shortest path against every labeling there is, ties, and what stays undecided."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anecompat.costs import CostTable, Estimate, table_for
from anecompat.place import ANE, CPU, forecast, shortest

INF = float("inf")
M4, _ = table_for("H16", 27)
# Prices in powers of two, so that sums are exact and equal costs are equal.
TABLE = replace(M4, launch_ms=4.0, switch_ms=1.0, leave_ms=0.5, tie_ms=0.0)
BACKENDS = ("bnns", "classic", "ane")


@dataclass(frozen=True)
class Every:
    """What trying every labeling gives."""

    best: float
    cpu: float
    engine: float
    options: tuple[frozenset[str], ...]


def price(labeling: Sequence[str], estimates: Sequence[Estimate], table: CostTable) -> float:
    """A labeling's cost, written down from the rule: estimates, switches, one launch, leaving at the end."""
    total = sum(getattr(cost, label) for cost, label in zip(estimates, labeling, strict=True))
    total += table.switch_ms * sum(1 for a, b in pairwise(labeling) if a != b)
    if "ane" in labeling:
        total += table.launch_ms
    if labeling[-1] == "ane":
        total += table.leave_ms
    return float(total)


def brute(estimates: Sequence[Estimate], allowed: Sequence[bool], table: CostTable) -> Every:
    costs: dict[tuple[str, ...], float] = {}
    for labeling in itertools.product(BACKENDS, repeat=len(estimates)):
        if all(ok or label != "ane" for ok, label in zip(allowed, labeling, strict=True)):
            costs[labeling] = price(labeling, estimates, table)
    best = min(costs.values())
    near = [labeling for labeling, cost in costs.items() if cost <= best + table.tie_ms]
    device = {"ane": ANE, "bnns": CPU, "classic": CPU}
    return Every(
        best,
        min(cost for labeling, cost in costs.items() if "ane" not in labeling),
        min((cost for labeling, cost in costs.items() if "ane" in labeling), default=INF),
        tuple(frozenset(device[labeling[i]] for labeling in near) for i in range(len(estimates))),
    )


EIGHTHS = st.integers(0, 64).map(lambda n: n / 8)
ESTIMATES = st.builds(Estimate, EIGHTHS, EIGHTHS, EIGHTHS)


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[Estimate], list[bool], CostTable]:
    count = draw(st.integers(1, 6))
    estimates = draw(st.lists(ESTIMATES, min_size=count, max_size=count))
    allowed = draw(st.lists(st.sampled_from([True, True, True, False]), min_size=count, max_size=count))
    table = replace(
        TABLE,
        launch_ms=draw(st.sampled_from([0.0, 0.5, 4.0])),
        switch_ms=draw(st.sampled_from([0.0, 0.25, 1.0])),
        leave_ms=draw(st.sampled_from([0.0, 0.5])),
        tie_ms=draw(st.sampled_from([0.0, 0.125])),
    )
    return estimates, allowed, table


@given(problems())
@settings(max_examples=400, deadline=None)
def test_the_path_is_the_cheapest_of_all(problem: tuple[list[Estimate], list[bool], CostTable]) -> None:
    estimates, allowed, table = problem
    every, path = brute(estimates, allowed, table), shortest(estimates, allowed, table)
    assert path.cost == every.best
    assert path.cpu_cost == every.cpu
    assert path.engine_cost == every.engine
    assert path.options == every.options


@given(problems())
@settings(max_examples=200, deadline=None)
def test_the_labels_are_one_cheapest_way(problem: tuple[list[Estimate], list[bool], CostTable]) -> None:
    estimates, allowed, table = problem
    path = shortest(estimates, allowed, table)
    ways = [["ane"] if label == ANE else ["bnns", "classic"] for label in path.labels]
    assert min(price(way, estimates, table) for way in itertools.product(*ways)) == path.cost
    assert all(ok or label == CPU for ok, label in zip(allowed, path.labels, strict=True))


@given(problems())
@settings(max_examples=200, deadline=None)
def test_saving_less_fees_is_what_the_engine_changes(problem: tuple[list[Estimate], list[bool], CostTable]) -> None:
    """With one CPU backend the two parts of the balance add up exactly."""
    estimates, allowed, table = problem
    plain = [replace(cost, classic=cost.bnns) for cost in estimates]
    path = shortest(plain, allowed, table)
    if path.engine_cost == INF:
        assert (path.engine_saving, path.engine_fees) == (0.0, 0.0)
    else:
        assert path.engine_cost == path.cpu_cost - path.engine_saving + path.engine_fees


def cost(ane: float, bnns: float, classic: float | None = None) -> Estimate:
    return Estimate(ane, bnns, bnns if classic is None else classic)


def labels(estimates: Sequence[Estimate], allowed: str) -> str:
    path = shortest(estimates, [mark == "A" for mark in allowed], TABLE)
    return "".join("A" if label == ANE else "." for label in path.labels)


CASES = [
    # what it shows, estimates (engine, CPU), allowed, placement
    ("too little to win", [cost(1, 2)], "A", "."),
    ("worth the launch and leaving", [cost(1, 6)], "A", "A"),
    ("many small ones share one launch", [cost(0, 1)] * 5, "AAAAA", "AAAAA"),
    ("four of them do not pay it", [cost(0, 1)] * 4, "AAAA", "...."),
    ("a cheap hole is worth two switches", [cost(0, 9), cost(1, 1), cost(0, 9)], "A.A", "A.A"),
    ("staying is cheaper than switching twice", [cost(0, 9), cost(2, 1), cost(0, 9)], "AAA", "AAA"),
    ("leaving early", [cost(0, 9), cost(5, 1)], "AA", "A."),
    ("a late start", [cost(5, 1), cost(0, 9)], "AA", ".A"),
    ("a lone refused one empties the graph", [cost(0, 2.5), cost(0, 2.5), cost(0, 0.5)], "A.A", "..."),
    ("without it the graph fills", [cost(0, 2.5), cost(0, 2.5), cost(0, 0.5)], "AAA", "AAA"),
]


@pytest.mark.parametrize(("name", "estimates", "allowed", "expected"), CASES, ids=[case[0] for case in CASES])
def test_placements(name: str, estimates: list[Estimate], allowed: str, expected: str) -> None:
    assert labels(estimates, allowed) == expected


def test_two_cpu_backends_switch_as_well() -> None:
    estimates = [cost(9, 0, 5), cost(9, 5, 0)]
    assert shortest(estimates, [False, False], TABLE).cost == 1.0
    estimates = [cost(9, 0, 0.5), cost(9, 0.5, 0)]
    assert shortest(estimates, [False, False], TABLE).cost == 0.5


def test_the_launch_is_paid_once() -> None:
    estimates = [cost(0, 50), cost(9, 0), cost(0, 50), cost(9, 0)]
    path = shortest(estimates, [True, False, True, False], TABLE)
    assert path.labels == (ANE, CPU, ANE, CPU)
    assert path.cost == TABLE.launch_ms + 3 * TABLE.switch_ms
    assert (path.engine_saving, path.engine_fees) == (100.0, 7.0)


def test_nothing_to_place() -> None:
    path = shortest([], [], TABLE)
    assert (path.labels, path.options, path.cost, path.engine_cost) == ((), (), 0.0, INF)


# ---- the forecast ----


def test_both_labelings_of_a_tie_are_valid() -> None:
    found = forecast([cost(0, 4.5)], [True], TABLE)
    assert found.alternatives == {0: (ANE, CPU)}
    assert found.placed[0] in (ANE, CPU)
    assert found.chosen_ms == found.cpu_ms == found.engine_ms == 4.5


def test_a_tie_of_a_part_leaves_the_rest_decided() -> None:
    found = forecast([cost(0, 50), cost(1.5, 0)], [True, True], TABLE)
    assert found.alternatives == {}
    tied = forecast([cost(0, 50), cost(1.0, 0.5)], [True, True], TABLE)
    assert tied.alternatives == {1: (ANE, CPU)}
    assert tied.placed[0] == ANE


@pytest.mark.parametrize(
    ("estimates", "eligible", "expected"),
    [
        ([cost(0, 50), cost(0, 50)], [True, None], (ANE, None)),
        ([cost(0, 4), cost(0, 4)], [True, None], (None, None)),
        ([cost(0, 1), cost(0, 1)], [True, None], (CPU, CPU)),
        ([cost(0, 50), cost(0, 50)], [None, None], (None, None)),
        ([cost(0, 50), cost(0, 50)], [False, None], (CPU, None)),
        ([cost(0, 50), cost(0, 50)], [False, False], (CPU, CPU)),
        ([cost(0, 50), cost(0, 50)], [True, False], (ANE, CPU)),
    ],
)
def test_what_hangs_on_an_unknown_operation_is_null(
    estimates: list[Estimate], eligible: list[bool | None], expected: tuple[str | None, ...]
) -> None:
    assert forecast(estimates, eligible, TABLE).placed == expected


def test_what_hangs_on_the_tables_error_is_null() -> None:
    near, far = [cost(0, 6)], [cost(0, 50)]
    assert forecast(near, [True], TABLE).placed == (ANE,)
    assert forecast(near, [True], TABLE, (0.5, 2.0)).placed == (None,)
    assert forecast(far, [True], TABLE, (0.5, 2.0)).placed == (ANE,)
    assert forecast([cost(0, 1)], [True], TABLE, (0.5, 2.0)).placed == (CPU,)
    assert forecast(far, [True], TABLE).basis == f"{TABLE.chip}, {TABLE.system}"
    assert forecast(far, [True], TABLE, (0.5, 2.0)).basis == f"extrapolated from {TABLE.chip}, {TABLE.system}"


def test_what_hangs_on_a_second_estimate_is_null() -> None:
    estimates = [cost(0, 50), cost(0, 1)]
    assert forecast(estimates, [True, True], TABLE).placed == (ANE, ANE)
    assert forecast(estimates, [True, True], TABLE, others={1: cost(8, 1)}).placed == (ANE, None)
    assert forecast(estimates, [True, True], TABLE, others={1: cost(0, 8)}).placed == (ANE, ANE)


SENTENCES = [
    ([cost(0, 0.25)], [True],
     "Core ML is expected to keep it on the CPU: on the engine it would save 0.25 ms, entering it costs 4.50 ms."),
    ([cost(0, 50), cost(0, 0)], [True, False],
     "Core ML is expected to run 1 of 2 operations on the engine and to keep 1 on the CPU."),
    ([cost(0, 50)], [True], "Core ML is expected to run 1 of 1 operations on the engine."),
    ([cost(0, 50), cost(0, 9)], [True, None],
     "Core ML is expected to run 1 of 2 operations on the engine; 1 is too close to call."),
    ([cost(0, 50)], [None],
     "Whether Core ML would choose the engine is too close to call with the known cost tables."),
    ([cost(0, 50)], [False], "Nothing in it can leave the CPU."),
    ([], [], ""),
]  # fmt: skip


@pytest.mark.parametrize(("estimates", "eligible", "sentence"), SENTENCES)
def test_the_sentence(estimates: list[Estimate], eligible: list[bool | None], sentence: str) -> None:
    assert forecast(estimates, eligible, TABLE).sentence == sentence


def test_a_long_chain_is_linear() -> None:
    """100,000 operations: neither recursion nor a table of all pairs."""
    count = 100_000
    path = shortest([cost(1, 2)] * count, [True] * count, TABLE)
    assert path.cost == count * 1.0 + TABLE.launch_ms + TABLE.leave_ms
    assert set(path.labels) == {ANE}

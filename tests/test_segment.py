"""Segments: a partition that could run, the largest there is, with exact model keys."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anecompat.findings import Segment
from anecompat.ir import Block, Constant, Function, Model, Operation, OtherType, StateType, TensorType, Value, number
from anecompat.outline import outline
from anecompat.readers.mil_text import parse_model
from anecompat.segment import count_segments, key_shape, levels, segments

TENSOR = TensorType("fp16", (1, 8, 4, 4))


def graph(reads: Sequence[Sequence[int]], leaving: Sequence[int] | None = None) -> Model:
    """A program whose operation i reads the results of ``reads[i]``, or the input where it reads none."""
    x = Value("x", TENSOR)
    made: list[Operation] = []
    for index, sources in enumerate(reads):
        values = tuple(made[source].outputs[0] for source in sources) or (x,)
        made.append(Operation("concat", {"values": values}, [Value(f"v{index}", TENSOR)]))
    ends = [len(made) - 1] if leaving is None else leaving
    body = Block([x], made, [made[index].outputs[0] for index in ends])
    return number(Model("graph", "mil", "mlProgram", 9, functions=(Function("main", "ios18", body),)))


def partition(reads: Sequence[Sequence[int]], eligible: Sequence[bool | None]) -> tuple[Segment, ...]:
    return segments(outline(graph(reads)), eligible)


def members(found: Sequence[Segment]) -> list[tuple[int, ...]]:
    return [segment.operations for segment in found]


CASES: list[tuple[str, list[list[int]], str, list[tuple[int, ...]]]] = [
    # name, what each operation reads, where it may run (A engine, . CPU, ? unknown), the segments
    ("a chain", [[], [0], [1]], "AAA", [(0, 1, 2)]),
    ("nothing", [[], [0]], "..", []),
    ("a hole", [[], [0], [1]], "A.A", [(0,), (2,)]),
    ("an unknown ends a segment too", [[], [0], [1]], "A?A", [(0,), (2,)]),
    ("a prologue", [[], [0], [1]], ".AA", [(1, 2)]),
    ("a side branch on the CPU", [[], [0], [0], [1, 2]], "AA.A", [(0, 1), (3,)]),
    ("a side branch that nothing waits for", [[], [0], [0]], "A.A", [(0, 2)]),
    ("a prologue beside a branch that needs none", [[], [], [0, 1]], ".AA", [(1, 2)]),
    ("two branches, one cut", [[], [0], [0], [2], [1, 3]], "AA.AA", [(0, 1), (3, 4)]),
    ("file order interleaves", [[], [], [0], [1], [2, 3]], "A.A.A", [(0, 2, 4)]),
    ("both branches cut at the same depth", [[], [0], [0], [1], [2], [3, 4]], "A..AAA", [(0,), (3, 4, 5)]),
    ("three in a row", [[], [0], [1], [2], [3]], "A.A.A", [(0,), (2,), (4,)]),
]


@pytest.mark.parametrize(("name", "reads", "where", "expected"), CASES, ids=[case[0] for case in CASES])
def test_segments_of_small_graphs(
    name: str, reads: list[list[int]], where: str, expected: list[tuple[int, ...]]
) -> None:
    eligible = [{"A": True, ".": False, "?": None}[mark] for mark in where]
    found = partition(reads, eligible)
    assert members(found) == expected
    assert [segment.isegment for segment in found] == list(range(len(expected)))
    assert count_segments(graph(reads).functions[0].body.operations, eligible) == len(expected)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[list[int]], list[bool | None]]:
    count = draw(st.integers(1, 14))
    reads = [draw(st.lists(st.integers(0, i - 1), max_size=3, unique=True)) if i else [] for i in range(count)]
    eligible = draw(st.lists(st.sampled_from([True, True, False, None]), min_size=count, max_size=count))
    return reads, eligible


def merged(reads: Sequence[Sequence[int]], groups: Sequence[Sequence[int]]) -> dict[int, set[int]]:
    """The graph whose nodes are the groups and all operations in none: node -> the nodes it waits for."""
    node = {index: -1 - position for position, group in enumerate(groups) for index in group}
    waits: dict[int, set[int]] = {}
    for index, sources in enumerate(reads):
        here = node.get(index, index)
        waits.setdefault(here, set()).update(node.get(s, s) for s in sources if node.get(s, s) != here)
    return waits


def has_cycle(waits: dict[int, set[int]]) -> bool:
    left = {node: set(before) for node, before in waits.items()}
    while left:
        free = [node for node, before in left.items() if not before]
        if not free:
            return True
        for node in free:
            del left[node]
        for before in left.values():
            before.difference_update(free)
    return False


@given(graphs())
@settings(max_examples=300, deadline=None)
def test_any_partition_can_run_and_is_the_largest(case: tuple[list[list[int]], list[bool | None]]) -> None:
    reads, eligible = case
    found = members(partition(reads, eligible))
    assert sorted(index for group in found for index in group) == [i for i, answer in enumerate(eligible) if answer]
    assert all(list(group) == sorted(group) for group in found)
    assert [group[0] for group in found] == sorted(group[0] for group in found)
    assert not has_cycle(merged(reads, found))
    for one in range(len(found)):
        for other in range(one + 1, len(found)):
            joined = [group for place, group in enumerate(found) if place not in (one, other)]
            assert has_cycle(merged(reads, [*joined, (*found[one], *found[other])])), "these two could be one"


@given(graphs())
@settings(max_examples=200, deadline=None)
def test_a_level_counts_changes_of_device(case: tuple[list[list[int]], list[bool | None]]) -> None:
    reads, eligible = case
    found = levels(graph(reads).functions[0].body.operations, eligible)
    for index, sources in enumerate(reads):
        here = eligible[index] is True
        ways = [found[source] + ((eligible[source] is True) is not here) for source in sources]
        assert found[index] == max([int(here), *ways])


@given(graphs())
@settings(max_examples=200, deadline=None)
def test_keys_name_exactly_what_crosses_the_border(case: tuple[list[list[int]], list[bool | None]]) -> None:
    reads, eligible = case
    for segment in partition(reads, eligible):
        inside = set(segment.operations)
        taken = {f"v{s}" for i in inside for s in reads[i] if s not in inside}
        taken |= {"x" for i in inside if not reads[i]}
        given_away = {f"v{i}" for i in inside if i == len(reads) - 1}
        readers = [(i, s) for i, sources in enumerate(reads) for s in sources if s in inside and i not in inside]
        given_away |= {f"v{source}" for _, source in readers}
        assert set(segment.inputs) == taken
        assert set(segment.outputs) == given_away
        assert set(segment.ended_by) == {i for i, _ in readers if eligible[i] is not True}


# ---- model keys ----

# From the published keys and, for other ranks, the contract's reading: axes aligned to the right end of (N, C, H, W).
KEYS = [
    # type, layout, [width, height, depth, channels, batch], inferred
    (TensorType("fp16", (1, 3, 513, 416)), "blob", (416, 513, 1, 3, 1), False),
    (TensorType("fp16", (1, 10, 1, 1)), "blob", (1, 1, 1, 10, 1), False),
    (TensorType("fp16", (2, 3, 4, 5)), "blob", (5, 4, 1, 3, 2), True),
    (TensorType("fp16", (1, 720, 1280, 12)), "mil", (12, 1280, 1, 720, 1), False),
    (TensorType("fp16", (4, 3, 2, 8)), "mil", (8, 2, 1, 3, 4), True),
    (TensorType("fp16", ()), "mil", (1, 1, 1, 1, 1), True),
    (TensorType("fp16", (64,)), "mil", (64, 1, 1, 1, 1), True),
    (TensorType("fp16", (32, 64)), "mil", (64, 32, 1, 1, 1), True),
    (TensorType("fp16", (8, 32, 64)), "mil", (64, 32, 1, 8, 1), True),
    (TensorType("fp16", (1, 2, 3, 4, 5)), "mil", (5, 4, 3, 2, 1), True),
    (TensorType("fp16", (1, None, 4, 4)), "mil", (4, 4, 1, None, 1), False),
    (TensorType("fp16", (1, 2, 3, 4, 5, 6)), "mil", (None,) * 5, True),
    (TensorType("fp16", None), "mil", (None,) * 5, True),
    (OtherType("list<tensor<fp16, [1]>, 2>"), "mil", (None,) * 5, True),
]


@pytest.mark.parametrize(("type", "layout", "key", "inferred"), KEYS)
def test_a_shape_in_a_key(type: object, layout: str, key: tuple[int | None, ...], inferred: bool) -> None:
    assert key_shape(type, layout) == (key, inferred)


def test_a_whole_key() -> None:
    model = parse_model(
        """
func main<ios18>(tensor<fp16, [1, 3, 8, 4]> image, state<tensor<fp16, [1, 3, 8, 4]>> kept) {
    tensor<fp16, [3, 3, 1, 1]> w = const()[val = tensor<fp16, [3, 3, 1, 1]>(BLOBFILE(path = string("w"),
        offset = uint64(64)))];
    tensor<fp16, [1, 3, 8, 4]> was = read_state(input = kept);
    tensor<fp16, [1, 3, 8, 4]> sum = add(x = image, y = was);
    tensor<fp16, [1, 3, 8, 4]> out = conv(x = sum, weight = w);
} -> (sum, out);
"""
    )
    (segment,) = segments(outline(model), [True, True, True])
    shape = {"shape": [4, 8, 1, 3, 1]}
    assert segment.key() == {
        "isegment": 0,
        "inputs": {"kept": shape, "image": shape},
        "outputs": {"sum": shape, "out": shape},
    }
    assert (segment.device, segment.inferred_key, segment.function, segment.ended_by) == ("ANE", False, "main", ())


def test_weights_are_no_inputs_of_a_segment() -> None:
    weight = Value("w", TENSOR, const=Constant(TENSOR))
    packed = Operation("constexpr_lut_to_dense", {"lut": (weight,)}, [Value("unpacked", TENSOR)])
    x = Value("x", TENSOR)
    made = Operation("add", {"x": (x,), "y": (packed.outputs[0],)}, [Value("out", TENSOR)])
    function = Function("main", "ios18", Block([x], [packed, made], made.outputs))
    model = number(Model("m", "mil", "mlProgram", 9, functions=(function,)))
    (segment,) = segments(outline(model), [True])
    assert list(segment.inputs) == ["x"]
    assert list(segment.outputs) == ["out"]


def test_what_a_branch_returns_leaves_its_segment() -> None:
    model = parse_model(
        """
func main<ios18>(tensor<fp16, [1, 4]> x, tensor<bool, []> flag) {
    tensor<fp16, [1, 4]> out = cond(pred = flag) {
        tensor<fp16, [1, 4]> up = relu(x = x);
    } -> (up) {
        tensor<fp16, [1, 4]> down = exp(x = x);
    } -> (down);
} -> (out);
"""
    )
    (segment,) = segments(outline(model), [False, True, True])
    assert segment.operations == (1, 2)
    assert list(segment.outputs) == ["up", "down"]


def test_a_state_is_read_and_written_in_turn() -> None:
    model = parse_model(
        """
func main<ios18>(state<tensor<fp16, [1, 4]>> kept, tensor<fp16, [1, 4]> x) {
    tensor<fp16, [1, 4]> before = read_state(input = kept);
    tensor<fp16, [1, 4]> slow = atanh(x = before);
    write_state(data = slow, input = kept);
    tensor<fp16, [1, 4]> after = read_state(input = kept);
    tensor<fp16, [1, 4]> out = add(x = after, y = x);
    write_state(data = x, input = kept);
} -> (out);
"""
    )
    found = segments(outline(model), [True, False, True, True, True, True])
    assert members(found) == [(0,), (2, 3, 4, 5)]
    # Written on the CPU, without a value between: what reads it afterwards still waits.
    found = segments(outline(model), [True, True, False, True, True, True])
    assert members(found) == [(0, 1), (3, 4, 5)]
    # A write waits for the reads before it.
    found = segments(outline(model), [True, True, True, False, False, True])
    assert members(found) == [(0, 1, 2), (5,)]


CAPTURED = {
    "read inside": ("tensor<fp16, [1, 4]> up = relu(x = first);", "up", (2,)),
    "returned as it is": ("", "first", (1,)),
}


@pytest.mark.parametrize("case", CAPTURED)
def test_a_branch_waits_for_what_it_takes_from_outside(case: str) -> None:
    inside, returned, ended = CAPTURED[case]
    model = parse_model(
        f"""
func main<ios18>(tensor<fp16, [1, 4]> x, tensor<bool, []> flag) {{
    tensor<fp16, [1, 4]> first = relu(x = x);
    tensor<fp16, [1, 4]> chosen = cond(pred = flag) {{ {inside} }} -> ({returned}) {{ }} -> (x);
    tensor<fp16, [1, 4]> last = relu(x = chosen);
}} -> (last);
"""
    )
    laid_out = outline(model)
    names = [operation.outputs[0].name for operation in laid_out.operations]
    before, after = segments(laid_out, [name in ("first", "last") for name in names])
    assert (before.operations, list(before.inputs), list(before.outputs)) == ((0,), ["x"], ["first"])
    assert before.ended_by == ended
    assert (after.operations, list(after.inputs), list(after.outputs)) == ((len(names) - 1,), ["chosen"], ["last"])


def test_each_function_counts_from_zero() -> None:
    text = "".join(
        f"func {name}<ios18>(tensor<fp16, [1, 8, 4, 4]> x) {{\n"
        "    tensor<fp16, [1, 8, 4, 4]> out = relu(x = x);\n} -> (out);\n"
        for name in ("main", "other")
    )
    found = segments(outline(parse_model(text)), [True, True])
    assert [(s.function, s.isegment, s.operations) for s in found] == [("main", 0, (0,)), ("other", 0, (1,))]


def test_a_state_has_the_shape_of_its_tensor() -> None:
    state = Value("s", StateType(TensorType("fp16", (1, 2, 3, 4))))
    read = Operation("read_state", {"input": (state,)}, [Value("out", TensorType("fp16", (1, 2, 3, 4)))])
    function = Function("main", "ios18", Block([state], [read], read.outputs))
    (segment,) = segments(outline(number(Model("m", "mil", "mlProgram", 9, functions=(function,)))), [True])
    assert segment.inputs == {"s": (4, 3, 1, 2, 1)}

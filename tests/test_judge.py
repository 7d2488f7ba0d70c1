"""How answers become statuses and findings: the truth table, cascades, causes named once, functions and stages."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest

from anecompat import proto
from anecompat.checking import check_model
from anecompat.errors import CompileError, InputError, PredictionError, ReadError
from anecompat.findings import Certainty, CoreMLWords, Effect, Reason, Status, Verdict, worst
from anecompat.ir import Feature, HostWork, Model, number
from anecompat.judge import answer, overall, part_status
from anecompat.readers import read
from anecompat.readers.mil_text import parse_model
from anecompat.rules import all_rules
from anecompat.targets import parse_targets
from neural_networks import describe, network

FULL, PARTIAL, NONE, OPEN = Status.FULL, Status.PARTIAL, Status.NONE, Status.CANNOT_TELL


def verdict(model: Model, target: str = "M4@macos27") -> Verdict:
    return check_model(model, parse_targets([target])).targets[0].verdict


# ---- the truth table ----

TABLE = [
    # which answers occur, the status, the status under a known failure of the whole
    ({True}, FULL, OPEN),
    ({False}, NONE, NONE),
    ({None}, OPEN, OPEN),
    ({True, False}, PARTIAL, PARTIAL),
    ({True, None}, OPEN, OPEN),
    ({False, None}, OPEN, OPEN),
    ({True, False, None}, PARTIAL, PARTIAL),
]


@pytest.mark.parametrize(("answers", "status", "blocked"), TABLE)
def test_the_status_of_a_function(answers: set[bool | None], status: Status, blocked: Status) -> None:
    for count in range(len(answers), 5):
        for row in itertools.product(answers, repeat=count):
            if set(row) == answers:
                assert part_status(row) is status
                assert part_status(row, blocks=True) is blocked


def test_the_table_is_what_unknown_operations_decide() -> None:
    """From the contract: 8 exactly where putting answers for the unknown ones gives more than one status."""

    def known(row: Sequence[bool]) -> Status:
        return FULL if all(row) else PARTIAL if any(row) else NONE

    for count in range(1, 6):
        for row in itertools.product([True, False, None], repeat=count):
            possible = {
                known([next(filled) if a is None else a for a in row])
                for filling in itertools.product([True, False], repeat=row.count(None))
                for filled in [iter(filling)]
            }
            assert part_status(row) is (possible.pop() if len(possible) == 1 else OPEN)


def test_nothing_to_run_is_not_compatible() -> None:
    assert part_status([]) is NONE
    assert overall([], Model("empty", "mlmodel", "scaler", 1)) is NONE


def test_worst_first() -> None:
    order = [Status(code) for code in (7, 6, 5, 4, 3, 2, 8, 1, 0)]
    for first, second in itertools.combinations(order, 2):
        assert worst([second, first]) is worst([first, second]) is first
    assert worst(order) is Status.OTHER_ERROR


def test_names_and_numbers() -> None:
    assert [f"{status}" for status in Status] == [
        "Fully compatible (0)",
        "Partial compatibility (1)",
        "Not compatible (2)",
        "Read error (3)",
        "Compile error (4)",
        "Input error (5)",
        "Prediction error (6)",
        "Other error (7)",
        "Cannot tell (8)",
    ]
    kinds = (ReadError, CompileError, InputError, PredictionError)
    assert [kind("said").status for kind in kinds] == [3, 4, 5, 6]


LOOKUP = HostWork("classLabels", "looks a label up", True)
SCALE = HostWork("imageScale", "scales the image", False)

WITH_HOST_WORK = [
    ("relu", SCALE, FULL),
    ("relu", LOOKUP, PARTIAL),
    ("cumsum", LOOKUP, NONE),
    # Whatever the unknown operation turns out to be, the lookup beside an engine segment makes the model Partial.
    ("relu unheard", LOOKUP, PARTIAL),
    ("relu unheard", SCALE, OPEN),
    # Here the unknown one decides whether there is a segment at all.
    ("unheard", LOOKUP, OPEN),
    ("cumsum unheard", LOOKUP, OPEN),
    ("relu cumsum", LOOKUP, PARTIAL),
]
LINES = {
    "relu": "relu(x = {x})",
    "cumsum": "cumsum(x = {x}, axis = int32(1), exclusive = bool(false), reverse = bool(false))",
    "unheard": "unheard_of(x = {x})",
    "identity": "identity(x = {x})",
}


def function(operations: str, name: str = "main") -> str:
    """A function that applies these operations one after another."""
    body, x = "", "x"
    for place, operation in enumerate(operations.split()):
        body += f"    tensor<fp16, [1, 8, 4, 4]> v{place} = {LINES[operation].format(x=x)};\n"
        x = f"v{place}"
    return f"func {name}<ios18>(tensor<fp16, [1, 8, 4, 4]> x) {{\n{body}}} -> ({x});\n"


def program(*functions: str) -> Model:
    return parse_model("".join(functions), "program")


@pytest.mark.parametrize(("operations", "work", "status"), WITH_HOST_WORK)
def test_host_work(operations: str, work: HostWork, status: Status) -> None:
    model = program(function(operations))
    model.host_work = (work,)
    found = verdict(model)
    assert found.status is status
    (said,) = [f for f in found.findings if f.rule == "ANE801"]
    assert said.message == f"{work.kind}: {work.detail}"
    assert (said.fix is not None) is work.partial


def test_host_work_of_a_stage_counts_for_the_whole() -> None:
    network = program(function("relu"))
    network.name = "net"
    last = Model("", "mlmodel", "nonMaximumSuppression", 3, name="nms")
    last.host_work = (HostWork("nonMaximumSuppression", "", True),)
    model = number(Model("pipe", "mlmodel", "pipeline", 3, stages=(network, last)))
    found = verdict(model)
    assert found.status is PARTIAL
    assert found.parts == (("net", "main", FULL),)
    assert [f.message for f in found.findings] == ["nonMaximumSuppression (stage nms)"]


def test_several_functions_have_the_worst_of_their_statuses() -> None:
    model = program(function("relu"), function("relu cumsum", "half"), function("cumsum", "none"))
    found = verdict(model)
    assert found.status is NONE
    assert found.parts == (("", "main", FULL), ("", "half", PARTIAL), ("", "none", NONE))
    assert verdict(program(function("relu"), function("relu cumsum", "half"))).status is PARTIAL
    assert verdict(program(function("relu"), function("relu unheard", "open"))).status is OPEN


def test_enumerated_shapes_have_the_worst_of_their_statuses() -> None:
    text = """
func main<ios18>(tensor<fp16, [1, ?]> x) {
    tensor<fp16, [1, ?]> out = relu(x = x);
} -> (out);
"""
    model = parse_model(text)
    model.inputs = (Feature("x", "multiArray", "fp16", (1, 16), choices=((1, 16), (1, 65536), (1, 65537))),)
    found = verdict(model)
    assert found.status is NONE
    assert found.parts == (
        ("", "main (default shape)", FULL),
        ("", "main (x 1x65536)", FULL),
        ("", "main (x 1x65537)", NONE),
    )


def test_what_another_listed_shape_fails_by_is_told() -> None:
    text = """
func main<ios18>(tensor<fp16, [1, ?]> x) {
    tensor<fp16, [1, ?]> out = relu(x = x);
} -> (out);
"""
    model = parse_model(text)
    model.inputs = (Feature("x", "multiArray", "fp16", (1, 16), choices=((1, 16), (1, 65537), (1, 65538))),)
    found = verdict(model)
    assert found.eligible == (True,)
    causes = [finding for finding in found.findings if finding.rule == "ANE302"]
    assert [(finding.effect, finding.operations) for finding in causes] == [(Effect.BLOCKS, ())] * len(causes)
    assert [finding.message.partition(":")[0] for finding in causes] == ["at x 1x65537", "at x 1x65538"]
    model.inputs = (Feature("x", "multiArray", "fp16", (1, 16), choices=((1, 16), (1, 32))),)
    assert [finding.rule for finding in verdict(model).findings] == ["ANE903"]


def old_network(folder: Path, *widths: int) -> Path:
    """A saved network of one activation whose input lists shapes that differ in width."""
    description = describe({"x": (1, 8, 4, widths[0])}, ["y"])
    for width in widths:
        choices = description.input[0].type.multiArrayType.enumeratedShapes.shapes
        choices.add(shape=(1, 8, 4, width))
    message = proto.message_class("Model")(specificationVersion=4, description=description)
    message.neuralNetwork.CopyFrom(network("x -> y: activation { ReLU {} }"))
    path = folder / "old.mlmodel"
    path.write_bytes(message.SerializeToString())
    return path


def test_an_old_network_is_judged_at_every_listed_shape(tmp_path: Path) -> None:
    found = verdict(read(old_network(tmp_path, 16, 32, 65537)))
    assert found.status is NONE
    assert [status for *_, status in found.parts] == [FULL, FULL, NONE]
    assert [each.message.partition(":")[0] for each in found.findings if each.rule == "ANE302"] == ["at x 1x8x4x65537"]
    assert verdict(read(old_network(tmp_path, 16, 32))).status is FULL


def test_an_old_network_whose_file_is_gone_is_not_said_to_fit_at_shapes_nobody_judged(tmp_path: Path) -> None:
    path = old_network(tmp_path, 16, 65537)
    model = read(path)
    path.unlink()
    found = verdict(model)
    assert found.status is OPEN
    assert [(each.rule, each.effect) for each in found.findings] == [("ANE903", Effect.UNKNOWN)]
    assert "judged at the default one only" in found.findings[0].message


@pytest.mark.parametrize("dtype", ["int4", "uint4", "uint6", "uint3", "uint2", "uint1", "fp8e4m3fn", "fp8e5m2"])
@pytest.mark.parametrize("kind", ["relu", "transpose", "cast", "identity"])
def test_a_type_nobody_saw_flow_is_unknown(dtype: str, kind: str) -> None:
    found = verdict(
        parse_model(
            f"func main<ios18>(tensor<{dtype}, [1, 8]> x) {{ tensor<{dtype}, [1, 8]> out = {kind}(x = x); }} -> (out);"
        )
    )
    assert (found.status, found.eligible) == (OPEN, (None,))
    assert "ANE205" in found.by_operation[0]


def test_the_small_integers_that_were_measured_stay_eligible() -> None:
    for dtype in ("int8", "uint8", "int16", "uint16"):
        cast = f'cast(x = x, dtype = string("{dtype}"))'
        text = f"func main<ios18>(tensor<fp16, [1, 8]> x) {{ tensor<{dtype}, [1, 8]> out = {cast}; }} -> (out);"
        assert verdict(parse_model(text)).status is FULL


# ---- answers and reasons ----


def reasons(*effects: Effect) -> tuple[tuple[object, Reason], ...]:
    rule = all_rules()[0]
    return tuple((rule, Reason("said", Certainty.INFERRED, (), effect)) for effect in effects)


@pytest.mark.parametrize(
    ("effects", "expected"),
    [
        ((), True),
        ((Effect.NOTE, Effect.RISK, Effect.BLOCKS), True),
        ((Effect.UNKNOWN,), None),
        ((Effect.NOTE, Effect.UNKNOWN), None),
        ((Effect.UNKNOWN, Effect.REFUSED), False),
        ((Effect.REFUSED,), False),
    ],
)
def test_an_answer_from_reasons(effects: tuple[Effect, ...], expected: bool | None) -> None:
    assert answer(reasons(*effects)) is expected  # type: ignore[arg-type]


def test_equal_operations_are_one_finding() -> None:
    found = verdict(program(function("cumsum relu cumsum relu cumsum")))
    (said,) = found.findings
    assert (said.rule, said.operations) == ("ANE101", (0, 2, 4))
    assert found.eligible == (False, True, False, True, False)
    assert found.by_operation == {0: ("ANE101",), 2: ("ANE101",), 4: ("ANE101",)}


def test_a_refusal_silences_weaker_words() -> None:
    text = """
func main<ios18>(tensor<fp16, [1, ?, 4, 4]> x) {
    tensor<fp16, [1, ?, 4, 4]> out = cumsum(x = x, axis = int32(1), exclusive = bool(false), reverse = bool(false));
} -> (out);
"""
    assert [(f.rule, f.effect) for f in verdict(parse_model(text)).findings] == [("ANE101", Effect.REFUSED)]


def test_causes_come_in_order_of_weight() -> None:
    found = verdict(program(function("identity cumsum unheard unheard cumsum cumsum")))
    assert [(f.effect, f.operations) for f in found.findings] == [
        (Effect.REFUSED, (1, 4, 5)),
        (Effect.UNKNOWN, (2, 3)),
        (Effect.NOTE, (0,)),
    ]


CHAIN = """
func main<ios18>(tensor<int32, [1, 8]> ids, tensor<fp16, [1, 8]> x) {
    tensor<int32, [1, 8]> a = add(x = ids, y = int32(1));
    tensor<fp16, [1, 8]> free = relu(x = x);
    tensor<bool, [1, 8]> b = greater(x = a, y = int32(0));
    tensor<fp16, [1, 8]> c = cast(x = a, dtype = string("fp16"));
    tensor<int32, [1, 8]> d = cast(x = free, dtype = string("int32"));
    tensor<fp16, [1, 8]> e = cast(x = d, dtype = string("fp16"));
} -> (b, c, e);
"""


def test_a_chain_of_integers_is_one_cause_named_by_its_root() -> None:
    found = verdict(parse_model(CHAIN))
    assert [(f.rule, f.operations, f.message, f.root) for f in found.findings] == [
        ("ANE201", (0, 2, 3), "int32 flows from the input ids, through 3 operations", 0),
        ("ANE201", (4, 5), "int32 flows from cast d, through 2 operations", 4),
    ]
    first = found.findings[0]
    assert (first.core_ml_code, first.core_ml_text) == (120, "Unsupported tensor data type: int32")
    assert first.also == (CoreMLWords(300, 'Unable to resolve operation input "y".', (2,)),)
    assert found.eligible == (False, True, False, False, False, False)


def test_what_lies_in_a_refused_block_is_refused() -> None:
    text = """
func main<ios18>(tensor<fp16, [1, 4]> x, tensor<bool, []> flag) {
    tensor<fp16, [1, 4]> before = relu(x = x);
    tensor<fp16, [1, 4]> out = cond(pred = flag) {
        tensor<fp16, [1, 4]> up = relu(x = before);
        tensor<fp16, [1, 4]> deep = cond(pred = flag) {
            tensor<fp16, [1, 4]> one = exp(x = up);
        } -> (one) {
            tensor<fp16, [1, 4]> two = unheard_of(x = up);
        } -> (two);
    } -> (deep) {
        tensor<fp16, [1, 4]> down = cumsum(x = x, axis = int32(1), exclusive = bool(false), reverse = bool(false));
    } -> (down);
} -> (out);
"""
    found = verdict(parse_model(text))
    assert found.eligible == (True, False, False, False, False, False, False)
    assert sorted((f.rule, f.operations) for f in found.findings if f.effect is Effect.REFUSED) == [
        ("ANE101", (1, 3)),
        ("ANE101", (6,)),
        ("ANE901", (2, 4, 5)),
    ]
    (segment,) = found.segments
    assert segment.operations == (0,)


# ---- what a fix would win ----


def test_a_gain_frees_what_has_no_other_cause() -> None:
    found = verdict(program(function("relu cumsum relu")))
    (said,) = found.findings
    assert said.gain is not None
    assert (said.gain.operations, said.gain.segments_saved, said.gain.status) == (1, 1, FULL)


def test_a_gain_alone_does_not_end_what_blocks_the_whole() -> None:
    """Three states fail when run: freeing the refused operation does not make the model fully compatible."""
    states = "".join(f", state<tensor<fp16, [1, 8, 4, 64]>> s{n}" for n in range(3))
    reads = "".join(f"    tensor<fp16, [1, 8, 4, 64]> r{n} = read_state(input = s{n});\n" for n in range(3))
    text = function("relu cumsum").replace("x) {", f"x{states}) {{\n{reads}", 1)
    found = verdict(parse_model(text))
    assert found.status is PARTIAL
    gain = next(f.gain for f in found.findings if f.rule == "ANE101")
    assert gain is not None
    assert gain.status is OPEN


def test_certainty_is_the_weakest_of_what_is_eligible() -> None:
    model = program(function("relu"))
    assert verdict(model, "M4@macos27").certainty is Certainty.MEASURED
    assert verdict(model, "M3@macos15").certainty.rank > Certainty.MEASURED.rank

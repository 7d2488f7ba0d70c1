"""From segments to a status: every way to be full, partial, none or unknown; and which operations ran where."""

from __future__ import annotations

from typing import Any

import pytest

from anecompat import ir
from anecompat.findings import Status
from anecompat.measure.trace import (
    TraceControl,
    TraceFeature,
    TracePlacement,
    TraceSegment,
    TraceTensor,
)
from anecompat.measure.verdict import judge

FIRES = TraceControl("mlProgram", 1, True)
SILENT = TraceControl("mlProgram", 0, True)
BROKEN = TraceControl("mlProgram", 1, False, "the prediction failed")


def features(names: str) -> list[TraceFeature]:
    return [TraceFeature(name, "multiArray") for name in names.split()]


def segment(text: str, sequence: int = 1, **more: Any) -> TraceSegment:
    """``"x a -> y"``; nothing at all for a key that cannot be read."""
    inputs, _, outputs = text.partition("->")
    sides = [tuple(TraceTensor(name) for name in side.split()) for side in (inputs, outputs)]
    fields: dict[str, Any] = {
        "isegment": sequence - 1,
        "key": {} if text else None,
        "names_from": "key" if text else "",
        "methods": ("-[_ANEClient evaluate]",),
        "thread": 0,
        "qos": 33,
        "seconds": 0.001,
        "succeeded": True,
    }
    return TraceSegment(sequence=sequence, inputs=sides[0], outputs=sides[1], **{**fields, **more})


def segments(*texts: str) -> list[TraceSegment]:
    return [segment(text, number) for number, text in enumerate(texts, 1)]


def plan(**preferred: str) -> list[TracePlacement]:
    return [
        TracePlacement((name,), "conv", preferred=device, supported=("ANE", "CPU"))
        for name, device in preferred.items()
    ]


def chain(*names: str, states: bool = False) -> ir.Model:
    """x -> each name in turn, every one an operation."""
    image = ir.TensorType("fp16", (1, 3, 4, 4))
    x = ir.Value("x", image)
    weight = ir.Value("w", image, const=ir.Constant(image))
    made, before = [], x
    for name in names:
        value = ir.Value(name, image)
        bound = {"x": (before,), "weight": (weight,)}
        if states:
            bound["state"] = (ir.Value("memory", ir.StateType(image)),)
        made.append(ir.Operation("conv", bound, [value], name=name))
        before = value
    body = ir.Block([x], made, [before])
    return ir.number(ir.Model("", "mlpackage", "mlProgram", 7, functions=(ir.Function("main", "iOS16", body),)))


@pytest.mark.parametrize(
    ("ran", "given", "wanted", "more", "status", "reason"),
    [
        (["x -> y"], "x", "y", {}, 0, "1 evaluation on the engine"),
        (["x -> a", "a -> y"], "x", "y", {}, 0, "2 evaluations"),
        (["x z -> y"], "x z unused", "y", {}, 0, "from the model's inputs to its outputs"),
        (["x -> y dead"], "x", "y", {}, 0, ""),
        # ANECompat called this one full: a step between two segments
        (["x -> a", "a b -> y"], "x", "y", {}, 1, "segment 1 takes b, which was made elsewhere"),
        (["x -> a"], "x", "y", {}, 1, "y was made elsewhere"),
        (["x -> a"], "x", "y z", {}, 1, "y, z were made elsewhere"),
        (["b -> y"], "x", "y", {}, 1, "segment 0 takes b"),
        (["a -> y", "x -> a"], "x", "y", {}, 1, "segment 0 takes a"),  # in the wrong order: a was not the engine's
        # ANECompat called this one partial: no call, differently named inputs and outputs
        ([], "x", "y", {"control": FIRES}, 2, "the control model's was seen"),
        ([], "x", "x", {"control": FIRES}, 2, ""),
        ([], "x", "y", {"control": SILENT}, 8, "neither was one of the control model"),
        ([], "x", "y", {"control": BROKEN}, 8, "the prediction failed"),
        ([], "x", "y", {}, 8, "the hooks may not see"),
        ([], "x", "y", {"control": FIRES, "placements": plan(a="ANE", b="CPU")}, 8, "plan puts 1 operation on"),
        ([], "x", "y", {"control": FIRES, "placements": plan(a="CPU")}, 2, ""),
        ([""], "x", "y", {}, 8, "cannot be read"),
        (["", "x -> y"], "x", "y", {}, 8, "cannot be read"),
        ([""], "x", "y", {"placements": plan(a="ANE", b="CPU")}, 1, "plan puts b on another device"),
        ([""], "x", "y", {"placements": plan(a="ANE")}, 8, ""),
        (["x -> y"], "x", "y", {"placements": plan(a="ANE", b="GPU")}, 8, "yet Core ML's plan puts b"),
        (["x -> y"], "x", "y", {"placements": plan(a="ANE")}, 0, ""),
        (["x memory -> y"], "x", "y", {"states": features("memory")}, 0, ""),
    ],
)
def test_status(ran: list[str], given: str, wanted: str, more: dict[str, Any], status: int, reason: str) -> None:
    verdict = judge(segments(*ran), features(given), features(wanted), **more)
    assert verdict.status == status, verdict.reasons
    assert reason in " ".join(verdict.reasons)
    assert verdict.reasons, "a status always has a reason"


def test_an_evaluation_that_failed_did_not_run() -> None:
    failed = segment("x -> y", succeeded=False, error="no power")
    verdict = judge([failed], features("x"), features("y"), control=None)
    assert verdict.status is Status.NONE
    assert verdict.reasons == ("1 evaluation on the engine, every one failed: no power",)
    both = judge([segment("x -> a"), segment("a -> y", 2, succeeded=False)], features("x"), features("y"))
    assert both.status is Status.PARTIAL


def test_operations_are_found_behind_a_segments_names() -> None:
    model = chain("a", "b", "c", "y")
    verdict = judge(segments("x -> a", "b -> y"), features("x"), features("y"), model=model)
    assert [found.operations for found in verdict.segments] == [(0,), (2, 3)]
    assert verdict.between == (1,)
    assert verdict.status is Status.PARTIAL
    assert verdict.reasons == ("segment 1 takes b, which was made elsewhere", "in no segment: conv (b)")


def test_an_operation_in_no_segment_forbids_full_even_if_the_names_close() -> None:
    image = ir.TensorType("fp16", (1, 3, 4, 4))
    x, y, z = (ir.Value(name, image) for name in "xyz")
    body = ir.Block([x], [ir.Operation("conv", {"x": (x,)}, [y]), ir.Operation("sin", {"x": (x,)}, [z])], [y])
    model = ir.number(ir.Model("", "mil", "mlProgram", 7, functions=(ir.Function("main", "", body),)))
    verdict = judge(segments("x -> y"), features("x"), features("y"), model=model)
    assert (verdict.status, verdict.between) == (Status.PARTIAL, (1,))
    assert verdict.reasons == ("in no segment: sin (z)",)


def test_all_operations_on_the_engine_states_and_constants_included() -> None:
    verdict = judge(segments("x -> y"), features("x"), features("y"), model=chain("a", "y", states=True))
    assert (verdict.status, verdict.between) == (Status.FULL, ())
    assert verdict.segments[0].operations == (0, 1)


def test_no_evaluation_leaves_every_operation_outside() -> None:
    verdict = judge([], features("x"), features("y"), model=chain("a", "y"), control=FIRES)
    assert (verdict.status, verdict.between) == (Status.NONE, (0, 1))
    assert judge([], features("x"), features("y"), model=chain("a", "y"), control=SILENT).between is None


def test_symbols_that_the_file_does_not_know_decide_nothing() -> None:
    """Core ML may rename tensors: a start nobody knows could be the model's own input under another name."""
    verdict = judge(segments("x_renamed -> y"), features("x"), features("y"), model=chain("a", "y"))
    assert verdict.status is Status.CANNOT_TELL
    assert verdict.segments[0].operations is None
    assert verdict.between is None
    assert "name x_renamed, which the model's file does not have" in verdict.reasons[0]
    renamed = judge(segments("x -> y_renamed"), features("x"), features("y"), model=chain("a", "y"))
    assert renamed.status is Status.CANNOT_TELL
    certain = judge(segments("x -> y_renamed", "a -> z"), features("x"), features("y"), model=chain("a", "y"))
    assert certain.status is Status.PARTIAL, "a was not the engine's, whatever else is called"
    planned = judge(
        segments("x_renamed -> y"), features("x"), features("y"), model=chain("a", "y"), placements=plan(a="CPU")
    )
    assert planned.status is Status.PARTIAL


@pytest.mark.parametrize(("partial", "status"), [(True, Status.PARTIAL), (False, Status.FULL)])
def test_work_of_the_host(partial: bool, status: Status) -> None:
    model = chain("y")
    model.host_work = (ir.HostWork("classifier", "the label is looked up", partial),)
    assert judge(segments("x -> y"), features("x"), features("y"), model=model).status is status


def test_a_block_inside_an_operation_goes_with_it() -> None:
    image = ir.TensorType("fp16", (1, 4))
    x, inner, y = ir.Value("x", image), ir.Value("inner", image), ir.Value("y", image)
    branch = ir.Block([], [ir.Operation("sin", {"x": (x,)}, [inner])], [inner])
    body = ir.Block([x], [ir.Operation("cond", {"pred": (x,)}, [y], blocks=[branch])], [y])
    model = ir.number(ir.Model("", "mil", "mlProgram", 7, functions=(ir.Function("main", "", body),)))
    verdict = judge(segments("x -> y"), features("x"), features("y"), model=model)
    assert verdict.segments[0].operations == (0, 1)
    assert verdict.status is Status.FULL


def test_stages_of_a_pipeline_have_statuses_of_their_own() -> None:
    first, second = chain("a"), chain("y")
    first.name, second.name = "first", "second"
    second.functions[0].body.inputs[0].name = "a"
    model = ir.number(ir.Model("", "mlmodel", "pipeline", 4, stages=(first, second)))
    verdict = judge(segments("x -> a"), features("x"), features("y"), model=model)
    assert verdict.stages == {"first": 0, "second": 2}
    assert (verdict.status, verdict.between) == (Status.PARTIAL, (1,))


def test_only_the_function_that_ran_counts() -> None:
    one, two = chain("y").functions[0], chain("a", "b").functions[0]
    functions = (ir.Function("one", "", one.body), ir.Function("two", "", two.body))
    model = ir.number(ir.Model("", "mlpackage", "mlProgram", 9, functions=functions, default_function="two"))
    planned = [TracePlacement(("a",), "conv", function="two", preferred="CPU")]
    verdict = judge(segments("x -> y"), features("x"), features("y"), model=model, function="one", placements=planned)
    assert (verdict.status, verdict.between) == (Status.FULL, ())

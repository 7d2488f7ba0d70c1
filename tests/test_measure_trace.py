"""Traces: written, read again, checked against their schema, refused with a sentence; and nothing private in them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from anecompat import ir
from anecompat.findings import Status
from anecompat.measure import schema
from anecompat.measure.command import array, lines
from anecompat.measure.digest import model_digest, structure_digest
from anecompat.measure.text import without_paths
from anecompat.measure.trace import (
    Trace,
    TraceControl,
    TraceDevice,
    TraceError,
    TraceFeature,
    TraceHook,
    TraceModel,
    TracePlacement,
    TraceProvider,
    TraceRun,
    TraceSegment,
    TraceSurface,
    TraceTensor,
    load_trace,
)

KEY = {
    "isegment": 0,
    "inputs": {"input_1": {"shape": [12, 1280, 1, 720, 1]}},
    "outputs": {"Identity": {"shape": [3, 4, 1, 720, 1]}},
}
SEGMENT = TraceSegment(
    sequence=1,
    isegment=0,
    key=KEY,
    inputs=(TraceTensor("input_1", (12, 1280, 1, 720, 1)),),
    outputs=(TraceTensor("Identity", (3, 4, 1, None, 1)),),
    names_from="key",
    methods=("-[_ANEClient evaluateWithModel:options:request:qos:error:]",),
    thread=0,
    qos=33,
    seconds=0.0015,
    succeeded=True,
    input_surfaces=(TraceSurface("input_1", 12, 4, 2, 64, 256, ((12, 4, 64),)),),
    operations=(0,),
)
RUN = TraceRun(
    function="main",
    shapes={"input_1": (1, 720, 1280, 12)},
    status=1,
    reasons=("in no segment: sin (b)",),
    inputs=(TraceFeature("input_1", "multiArray", (1, 720, 1280, 12), "fp32", False, "dummy"),),
    outputs=(TraceFeature("Identity", "multiArray"),),
    segments=(SEGMENT,),
    placements=(
        TracePlacement(
            ("Identity",),
            "conv",
            "main",
            supported=("ANE", "CPU"),
            preferred="ANE",
            cost=0.5,
            index=0,
            selected="ane",
            estimates={"ane": 0.1},
            messages={"bnns": ("too wide",)},
            backends=("ane",),
        ),
    ),
    between=(1,),
    control=TraceControl("mlProgram", 1, True),
    hooks=(TraceHook("-[_ANEClient x]", "installed"),),
    providers=(TraceProvider("compute plan", True),),
    timings={"load": 0.5},
    stages={"first": 0},
)
TRACE = Trace(
    "1.0",
    "1.0.0",
    TraceDevice("M1", "macOS 14.5", "23F79", "MacBookAir10,1", "h13g"),
    "all",
    TraceModel("mlpackage", "mlProgram", 7, "sha256:00", "sha256:11"),
    (RUN, replace(RUN, function="other", status=0, between=(), segments=(replace(SEGMENT, operations=(5, 6)),))),
    ("a warning",),
)


def test_a_trace_comes_back_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    file.write_text(TRACE.to_json())
    assert load_trace(file) == TRACE
    assert Trace.from_json(TRACE.to_json(None)) == TRACE


def test_the_status_is_the_worst_of_the_runs() -> None:
    assert TRACE.status is Status.PARTIAL
    assert TRACE.with_runs((replace(RUN, status=8), replace(RUN, status=1))).status is Status.CANNOT_TELL
    assert TRACE.with_runs((replace(RUN, status=8), replace(RUN, status=2))).status is Status.NONE


def test_what_ran_on_the_engine_by_operation() -> None:
    assert TRACE.ran_on_engine() == {0: True, 1: False, 5: True, 6: True}
    assert TRACE.with_runs((replace(RUN, between=None),)).ran_on_engine() == {}


def test_the_schema_is_the_published_one_and_holds() -> None:
    assert schema.FILE.read_text(encoding="utf-8") == schema.text(), "run python -m anecompat.measure.schema"
    checker = jsonschema.Draft202012Validator(schema.schema())
    checker.check_schema(schema.schema())
    data = json.loads(TRACE.to_json())
    checker.validate(data)
    data["added_later"] = {"by": "a minor version"}
    checker.validate(data)
    for place, wrong in (("status", 9), ("status", "1"), ("reasons", "one"), ("segments", [{}])):
        broken = json.loads(TRACE.to_json())
        broken["runs"][0][place] = wrong
        assert not checker.is_valid(broken), place


def _with(*path: Any, value: Any) -> str:
    data = json.loads(TRACE.to_json())
    at = data
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "the trace is not JSON"),
        ("[]", "no trace: schema_version or runs is missing"),
        ('{"runs": []}', "schema_version or runs is missing"),
        (_with("schema_version", value="2.0"), "schema version 2.0, this anecompat reads 1.0; update it"),
        (_with("runs", value={}), "trace.runs: expected a list, found {}"),
        (_with("runs", 0, "status", value="0"), 'trace.runs[0].status: expected a whole number, found "0"'),
        (_with("runs", 1, "status", value=9), "trace.runs[1].status: 9 is no status"),
        (_with("runs", 0, "status", value=True), "expected a whole number, found true"),
        (_with("runs", 0, "segments", 0, "seconds", value="fast"), "segments[0].seconds: expected a number"),
        (_with("runs", 0, "segments", 0, "inputs", 0, value=3), "inputs[0]: expected an object, found 3"),
        (_with("runs", 0, "segments", 0, "input_surfaces", 0, "planes", value=[[1, 2]]), "planes[0]: expected 3 items"),
        (_with("device", value={"chip": "M1"}), "trace.device: 'os' and 'os_build' is missing"),
        (_with("runs", 0, "shapes", value=[]), "trace.runs[0].shapes: expected an object"),
    ],
)
def test_what_is_no_trace_is_refused_with_its_place(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(TraceError) as caught:
        Trace.from_json(text)
    assert sentence in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="cannot be read"):
        load_trace(tmp_path / "none.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TraceError, match="cannot be read"):
        load_trace(tmp_path / "binary.json")
    (tmp_path / "other.json").write_text("[", encoding="utf-8")
    with pytest.raises(TraceError, match=r"other\.json: the trace is not JSON"):
        load_trace(tmp_path / "other.json")


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Unable to read /Users/ann/My.mlpackage: gone", "Unable to read <path>: gone"),
        ("file:///private/var/folders/xy/T/a.mlmodelc is bad", "<path> is bad"),
        ("see /opt/a, /home/bob/b.", "see <path>, <path>"),
        ("tensor /model/layers.0/Conv_output_0 is too wide", "tensor /model/layers.0/Conv_output_0 is too wide"),
        ("logits/semantic/BiasAdd:0", "logits/semantic/BiasAdd:0"),
        ("1/2 of /Volumes", "1/2 of <path>"),
    ],
)
def test_texts_lose_paths_and_keep_names(text: str, clean: str) -> None:
    assert without_paths(text) == clean


def test_known_paths_are_found_with_their_blanks() -> None:
    assert without_paths("no /odd/My Models/x.mlmodel here", "/odd/My Models/x.mlmodel") == "no <path> here"


def test_the_printed_lines_are_anecompats() -> None:
    run = replace(RUN, status=0, reasons=())
    assert list(lines(TRACE.with_runs((run,)))) == [
        'Model inputs: (\n    "input_1"\n), outputs: (\n    Identity\n)',
        'Intercepted evaluation of model with key: {"isegment":0,"inputs":{"input_1":{"shape":[12,1280,1,720,1]}},'
        '"outputs":{"Identity":{"shape":[3,4,1,720,1]}}}',
        "Completed with status: Fully compatible (0)",
    ]
    assert array([]) == "(\n)"
    unreadable = replace(SEGMENT, key=None, inputs=(), outputs=(), succeeded=False, error="no power")
    printed = list(lines(TRACE.with_runs((replace(run, segments=(unreadable,)), RUN))))
    assert "Intercepted evaluation of model with key: (unreadable)" in printed
    assert "Evaluation failed: no power" in printed
    assert "Run: main, input_1 1x720x1280x12" in printed
    assert printed[-1] == "Completed with status: Partial compatibility (1)"


def test_the_model_digest_covers_every_byte_and_name(tmp_path: Path) -> None:
    package = tmp_path / "a.mlpackage"
    (package / "Data").mkdir(parents=True)
    (package / "Data" / "w.bin").write_bytes(b"12")
    first = model_digest(package)
    package.rename(tmp_path / "b.mlpackage")
    moved = tmp_path / "b.mlpackage"
    assert model_digest(moved) == first, "the model's own name and place do not count"
    (moved / "Data" / "w.bin").write_bytes(b"13")
    assert model_digest(moved) != first
    (moved / "Data" / "w.bin").write_bytes(b"12")
    (moved / "Data" / "w.bin").rename(moved / "Data" / "v.bin")
    assert model_digest(moved) != first
    file = tmp_path / "c.mlmodel"
    file.write_bytes(b"x")
    assert model_digest(file).startswith("sha256:")


def test_the_structure_digest_knows_the_graph_and_not_the_weights() -> None:
    def model(kind: str = "conv", value: float = 1.0, shape: tuple[int, ...] = (1, 3)) -> ir.Model:
        x, y = ir.Value("x", ir.TensorType("fp16", shape)), ir.Value("y", ir.TensorType("fp16", shape))
        weight = ir.Value(
            "w", ir.TensorType("fp16", (1,)), const=ir.Constant(ir.TensorType("fp16", (1,)), values=[value])
        )
        body = ir.Block([x], [ir.Operation(kind, {"x": (x,), "weight": (weight,)}, [y])], [y])
        return ir.number(ir.Model(f"{value}", "mil", "mlProgram", 7, functions=(ir.Function("main", "", body),)))

    first = structure_digest(model())
    assert structure_digest(model(value=2.0)) == first
    assert structure_digest(model(kind="linear")) != first
    assert structure_digest(model(shape=(1, 4))) != first

"""What a measurement hands to Core ML, what Core ML answers, what is left in LOGDIR, and the operations of a file."""

from __future__ import annotations

import json
import math
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from anecompat.errors import UsageError
from anecompat.findings import Status
from anecompat.measure import Trace, lines, measure, schema, write_log
from anecompat.measure.session import other_choices
from fake_apple.fixtures import (
    array,
    build_standins,  # noqa: F401
    key,
    scripted,
    standins,  # noqa: F401
    step,
)

pytestmark = pytest.mark.usefixtures("standins")
SIGSEGV = 11
RAISE = {"raise": {"name": "NSRangeException", "reason": "index 3 beyond bounds"}}


def run(folder: Path, *steps: dict[str, Any], **script: Any) -> Trace:
    return measure(scripted(folder, steps=list(steps), **script), placements=False)


def why(trace: Trace) -> str:
    return " / ".join(reason for each in trace.runs for reason in each.reasons)


# ---- Inputs as Core ML receives them ----


@pytest.fixture
def received(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    file = tmp_path / "received.jsonl"
    monkeypatch.setenv("STANDIN_RECEIVED", str(file))

    def read() -> dict[str, Any]:
        found: dict[str, Any] = {}
        for line in file.read_text().splitlines():
            found = json.loads(line) | found  # the control model comes after and has an x too
        return found

    return read


def test_every_kind_of_input_arrives(tmp_path: Path, received: Any) -> None:
    formats = ["BGRA", "RGBA", "L008", "L00h", "L00f", "RGhA", "420v", "\0\0\0 "]
    inputs: dict[str, Any] = {f"a_{d}": array(2, 3, dtype=d) for d in ("fp16", "fp32", "fp64", "int32", "int8")}
    inputs |= {f"p{n}": {"type": 4, "width": 70, "height": 5, "format": f} for n, f in enumerate(formats[:-1])}
    inputs |= {
        "i": {"type": 1},
        "d": {"type": 2},
        "s": {"type": 3},
        "di": {"type": 6, "keyType": 1},
        "ds": {"type": 6, "keyType": 3},
        "qi": {"type": 7, "element": {"type": 1}},
        "qs": {"type": 7, "element": {"type": 3}},
        "o": {"type": 2, "optional": True},
    }
    trace = run(tmp_path, step("x", "y"), inputs=inputs)
    assert trace.status is Status.PARTIAL, why(trace)
    got = received()
    assert got["a_fp16"]["shape"] == [2, 3]
    expected = [number / 12 for number in range(6)]
    for dtype, tolerance in (("fp16", 1e-3), ("fp32", 1e-6), ("fp64", 1e-12)):
        assert all(
            math.isclose(a, b, abs_tol=tolerance) for a, b in zip(got[f"a_{dtype}"]["first"], expected, strict=True)
        )
    assert got["a_int32"]["first"] == got["a_int8"]["first"] == [0] * 6
    assert {n: got[n]["value"] for n in ("i", "d", "s", "di", "ds", "qi", "qs")} == {
        "i": 0,
        "d": 0,
        "s": "hello world",
        "di": {"0": 1},
        "ds": {"a": 1},
        "qi": [0, 1],
        "qs": ["hello", "world"],
    }
    assert all(got[f"p{n}"]["not_zero"] > 300 for n in range(len(formats) - 1)), "every format is filled"
    assert "o" not in got
    values = {feature.name: feature.value for feature in trace.runs[0].inputs}
    assert values["o"] == "left out"
    assert values["a_fp16"] == "dummy"


def test_an_unknown_pixel_format_ends_in_status_5_with_its_name(tmp_path: Path) -> None:
    trace = run(tmp_path, inputs={"photo": {"type": 4, "width": 8, "height": 8, "format": "zzzz"}})
    assert trace.status is Status.INPUT_ERROR
    assert why(trace) == "the input photo: no 8 x 8 image of the format zzzz can be made (error -6680)"


def test_states_are_fresh(tmp_path: Path, received: Any) -> None:
    trace = run(tmp_path, step("x,memory", "y"), states={"memory": {"type": 8, "shape": [1, 4], "dataType": 65552}})
    assert trace.status is Status.FULL, why(trace)
    assert received()["(state)"] == {"state": "fresh"}
    assert [(s.name, s.kind, s.shape, s.dtype) for s in trace.runs[0].states] == [("memory", "state", (1, 4), "fp16")]


def test_files_of_the_user_arrive(tmp_path: Path, received: Any) -> None:
    (tmp_path / "x.json").write_text("[[1, 2, 3]]")
    (tmp_path / "o.json").write_text("2.5")
    header = struct.pack(">IIBBBBB", 2, 1, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" + bytes([10, 20, 30, 40, 50, 60]))
    parts = ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
    (tmp_path / "p.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(b)) + k + b + bytes(4) for k, b in parts)
    )
    script = {
        "inputs": {
            "x": array(1, 3),
            "o": {"type": 2, "optional": True},
            "p": {"type": 4, "width": 2, "height": 1, "format": "BGRA"},
            "g": {"type": 4, "width": 2, "height": 1, "format": "L008"},
        }
    }
    files = {"x": "x.json", "o": "o.json", "p": "p.png", "g": "p.png"}
    given = {name: str(tmp_path / file) for name, file in files.items()}
    trace = measure(scripted(tmp_path, steps=[], **script), inputs=given, placements=False)
    got = received()
    assert trace.status is Status.NONE, why(trace)
    assert got["x"]["first"] == [1, 2, 3]
    assert got["o"]["value"] == 2.5
    assert got["p"]["first"][:8] == [30, 20, 10, 255, 60, 50, 40, 255]
    assert got["g"]["first"][:2] == [(299 * 10 + 587 * 20 + 114 * 30) // 1000, (299 * 40 + 587 * 50 + 114 * 60) // 1000]
    assert {feature.value for feature in trace.runs[0].inputs} == {"given"}
    refused = measure(scripted(tmp_path, steps=[], **script), inputs={"nothing": "a.json"}, placements=False)
    assert refused.status is Status.INPUT_ERROR
    assert why(refused) == "the model has no input nothing; it has g, o, p, x"


def test_a_chosen_shape_arrives(tmp_path: Path, received: Any) -> None:
    ranged = array(1, 3, 4, 4, ranges=[[1, 1], [3, 3], [1, -1], [4, 8]])
    model = scripted(tmp_path, steps=[], inputs={"x": ranged})
    trace = measure(model, shapes={"x": (1, 3, 9, 8)}, placements=False)
    assert received()["x"]["shape"] == [1, 3, 9, 8]
    assert trace.runs[0].inputs[0].shape == (1, 3, 9, 8)
    assert "default shape" not in why(trace)
    assert "run with the default shape only: x can have others" in why(measure(model, placements=False))
    refused = measure(model, shapes={"x": (1, 3, 9, 9)}, placements=False)
    assert refused.status is Status.INPUT_ERROR
    assert "1..1 x 3..3 x 1..any x 4..8" in why(refused)


def test_every_enumerated_shape_is_a_run(tmp_path: Path) -> None:
    choices = [[1, 4], [1, 8], [2, 4]]
    trace = run(tmp_path, step("x", "y"), inputs={"x": array(1, 8, choices=choices)})
    assert [r.inputs[0].shape for r in trace.runs] == [(1, 8), (1, 4), (2, 4)]
    assert trace.status is Status.FULL
    assert [line for line in lines(trace) if line.startswith("Run:")][1] == "Run: default function, x 1x4"
    assert "default shape" not in why(trace)
    unequal = {"a": array(1, choices=[[1], [2]]), "b": array(1, choices=[[1], [2], [3]])}
    trace = run(tmp_path, inputs=unequal)
    assert len(trace.runs) == 1
    assert "run with the default shape only: a, b can have others" in why(trace)
    one = measure(
        scripted(tmp_path, inputs={"x": array(1, 8, choices=choices)}), shapes={"x": (2, 4)}, placements=False
    )
    assert len(one.runs) == 1


def test_enumerated_shapes_of_several_inputs_change_together() -> None:
    choices = {"a": [[1], [2]], "b": [[3], [4]]}
    assert list(other_choices(choices, {"a": (1,), "b": (3,)})) == [{"a": (2,), "b": (4,)}]
    assert list(other_choices({"a": [[1], [2]], "b": [[3]]}, {})) == []
    assert list(other_choices({}, {})) == []


# ---- Core ML's own answers ----

PLAN = {
    "functions": {
        "main": [
            {"op": "const", "outputs": ["w"]},
            {
                "op": "ios16.conv",
                "outputs": ["y"],
                "preferred": "ANE",
                "supported": ["CPU", "GPU", "ANE"],
                "cost": 0.75,
            },
            {
                "op": "ios17.cond",
                "outputs": ["z"],
                "preferred": "CPU",
                "supported": ["CPU"],
                "cost": 0.25,
                "blocks": [
                    [{"op": "sin", "outputs": ["inner"], "preferred": "CPU", "supported": ["CPU"], "cost": 0.0}]
                ],
            },
        ]
    }
}
NOTE = {
    "OpType": "ios17.cond",
    "OpIndex": 2,
    "DebugName": "z",
    "OpPath": [{"Program": "p"}, {"Function": "main"}, {"Operation": "z"}],
    "BackendSupport": {"ane": 0, "bnns": 1, "classic_cpu": 1, "mps_graph": 0},
    "EstimatedRunTime": {"bnns": 0.5, "classic_cpu": 0.7},
    "SelectedBackend": "bnns",
    "ValidationMessages": {"ane": ["Unsupported op."], "mps_graph": []},
}


def test_the_compute_plan_of_a_program(tmp_path: Path) -> None:
    trace = measure(scripted(tmp_path, steps=[step("x", "y")], plan=PLAN, analytics={"/a/analytics.mil:9:1": NOTE}))
    placements = trace.placements
    assert [(p.outputs, p.type, p.supported, p.preferred, p.cost) for p in placements] == [
        (("w",), "const", None, None, None),
        (("y",), "conv", ("ANE", "GPU", "CPU"), "ANE", 0.75),
        (("z",), "cond", ("CPU",), "CPU", 0.25),
        (("inner",), "sin", ("CPU",), "CPU", 0.0),
    ]
    z = placements[2]
    assert (z.selected, z.backends, z.estimates) == ("bnns", ("bnns", "classic_cpu"), {"bnns": 0.5, "classic_cpu": 0.7})
    assert z.messages == {"ane": ("Unsupported op.",)}
    assert {p.function for p in placements} == {"main"}
    answered = {p.name: p.answered for p in trace.runs[0].providers}
    assert answered == {"compute plan": True, "analytics": True}
    assert trace.status is Status.CANNOT_TELL, "the names close, but the plan puts an operation on the CPU"


def test_the_compute_plan_of_a_network_and_of_a_pipeline(tmp_path: Path) -> None:
    layer = {"name": "conv1", "type": "convolution", "outputs": ["y"], "preferred": "ANE", "supported": ["ANE", "CPU"]}
    trace = measure(scripted(tmp_path, steps=[step("x", "y")], plan={"layers": [layer]}))
    (placed,) = trace.placements
    assert (placed.layer, placed.type, placed.outputs, placed.preferred) == ("conv1", "convolution", ("y",), "ANE")
    stages = {"stages": [["first", {"layers": [layer]}], ["second", PLAN]]}
    trace = measure(scripted(tmp_path, steps=[step("x", "y")], plan=stages))
    assert [(p.stage, p.type) for p in trace.placements][:2] == [("first", "convolution"), ("second", "const")]


@pytest.mark.parametrize("trouble", [{"fail": "no plan"}, {"crash": SIGSEGV}, RAISE])
def test_a_plan_that_fails_or_crashes_leaves_the_measurement_whole(trouble: dict[str, Any], tmp_path: Path) -> None:
    trace = measure(scripted(tmp_path, steps=[step("x", "y")], plan=trouble))
    assert trace.status is Status.FULL
    plan = trace.runs[0].providers[0]
    assert (plan.name, plan.answered) == ("compute plan", False)
    assert plan.detail


def test_a_plan_that_never_ends_is_given_up(tmp_path: Path) -> None:
    trace = measure(scripted(tmp_path, steps=[step("x", "y")], plan={"hang": True}), timeout=5)
    assert trace.status is Status.FULL
    assert "the time limit was reached while making the compute plan" in trace.runs[0].providers[0].detail


MIL = """program(1.3)
{
    func main<ios17>(tensor<fp16, [1, 4]> x) {
        tensor<fp16, [1, 4]> y = sin(x = x)[name = string("y"), BackendSupport = dict<string, bool>({{"ane", false}, \
{"bnns", true}}), SelectedBackend = string("bnns"), \
ValidationMessages = dict<string, string>({{"ane", "Unsupported op in /Users/a/b"}})];
    } -> (y);
}
"""


def test_the_analytics_in_the_compile_cache_are_the_fallback(tmp_path: Path) -> None:
    trace = measure(scripted(tmp_path, steps=[step("x", "y")], analytics_mil=MIL))
    found = {p.name: (p.answered, p.detail) for p in trace.runs[0].providers}
    assert found["analytics"][0] is False
    assert found["analytics cache"] == (True, ""), found
    (placed,) = trace.placements
    assert (placed.outputs, placed.selected, placed.backends) == (("y",), "bnns", ("bnns",))
    assert placed.messages == {"ane": ("Unsupported op in <path>",)}
    broken = measure(scripted(tmp_path, steps=[step("x", "y")], analytics_mil="nonsense"))
    assert broken.runs[0].providers[-1].name == "analytics cache"
    assert broken.runs[0].providers[-1].answered is False


COREMLTOOLS = """
import types
class CPU: pass
class NeuralEngine: pass
def usage(best):
    both = [CPU(), NeuralEngine()]
    return types.SimpleNamespace(supported_compute_devices=both, preferred_compute_device=best)
class MLComputePlan:
    @classmethod
    def load_from_path(cls, path, compute_units):
        assert path.endswith(".mlmodelc") and compute_units == "units: ALL", (path, compute_units)
        return cls()
    @property
    def model_structure(self):
        output = types.SimpleNamespace(name="y")
        operation = types.SimpleNamespace(operator_name="ios16.conv", outputs=[output], blocks=[])
        function = types.SimpleNamespace(block=types.SimpleNamespace(operations=[operation]))
        program = types.SimpleNamespace(functions={"main": function})
        return types.SimpleNamespace(program=program, neuralnetwork=None, pipeline=None)
    def get_compute_device_usage_for_mlprogram_operation(self, operation): return usage(NeuralEngine())
    def get_estimated_cost_for_mlprogram_operation(self, operation): return types.SimpleNamespace(weight=1.0)
"""


def test_coremltools_is_the_second_provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = tmp_path / "lib" / "coremltools" / "models"
    models.mkdir(parents=True)
    (models.parent / "__init__.py").write_text(
        "class ComputeUnit:\n    def __class_getitem__(cls, name): return 'units: ' + name\n"
    )
    (models / "__init__.py").write_text("")
    (models / "compute_plan.py").write_text(COREMLTOOLS)
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "lib"))
    for name in [name for name in sys.modules if name.split(".")[0] == "coremltools"]:
        monkeypatch.delitem(sys.modules, name)
    trace = measure(scripted(tmp_path, steps=[step("x", "y")]))
    found = {p.name: (p.answered, p.detail) for p in trace.runs[0].providers}
    assert found["coremltools"] == (True, "")
    (placed,) = trace.placements
    assert (placed.outputs, placed.type, placed.preferred, placed.supported) == (("y",), "conv", "ANE", ("ANE", "CPU"))


# ---- LOGDIR, and a model that has a file ----


def test_logdir(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    shape = key({"x": [5, 3, 1, 2, 1]}, {"y": [5, 3, 1, 2, 1]})
    surface = {"width": 5, "height": 6, "element": 2, "row": 64, "fill": 60}
    odd = {"width": 7, "height": 1, "element": 3, "fill": 1}
    planes = {"width": 4, "height": 2, "element": 1, "planes": 2, "fill": 9}
    steps = [
        {"ane": shape, "surfaces_in": [surface], "surfaces_out": [surface]},
        {"ane": "other", "surfaces_in": [odd, planes], "surfaces_out": [{**surface, "element": 4, "row": 0}]},
    ]
    logdir = tmp_path / "log"
    trace = measure(scripted(tmp_path, steps=steps), logdir=logdir, placements=False)
    write_log(trace, logdir)
    log = (logdir / "anecompat.log").read_text()
    assert (
        log.splitlines()[: len(list(lines(trace)))] == "\n".join(lines(trace)).splitlines()[: len(list(lines(trace)))]
    )
    assert "Completed with status: Cannot tell (8)" in log
    assert "Input surface: segment_000_input_0_x IOSurface {" in log
    assert "\tbytesPerRow: 64" in log
    folder = logdir / "run_0"
    assert (folder / "segment_000_input_0_x.raw").read_bytes() == bytes([60]) * 384
    values = numpy.load(folder / "segment_000_output_0_y.npy")
    assert (values.shape, values.dtype) == ((1, 2, 3, 5), "float16")
    assert (values.view("u2") == 0x3C3C).all()
    assert numpy.load(folder / "segment_001_output_0.npy").shape == (6, 5)
    assert numpy.load(folder / "segment_001_input_1.npy").shape == (2, 2, 4)
    assert (folder / "segment_001_input_0.raw").read_bytes() == bytes([1]) * 21
    assert not (folder / "segment_001_input_0.npy").exists(), "elements of three bytes are no number"
    again = Trace.from_json((logdir / "trace.json").read_text())
    assert again == trace
    assert again.runs[0].segments[0].input_surfaces[0].name == "x"
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(json.loads((logdir / "trace.json").read_text()), schema.schema())


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A real .mlpackage of three operations (x -> a -> b -> y), made by coremltools."""
    tools = pytest.importorskip("coremltools")
    mb = pytest.importorskip("coremltools.converters.mil").Builder
    from coremltools.converters.mil.mil import types as mil_types

    @mb.program(input_specs=[mb.TensorSpec((1, 3, 4, 4), mil_types.fp16)], opset_version=tools.target.iOS16)  # type: ignore[untyped-decorator]
    def program(x: Any) -> Any:
        a = mb.relu(x=x, name="a")
        b = mb.sin(x=a, name="b")
        return mb.sqrt(x=b, name="y")

    model = tools.convert(program, minimum_deployment_target=tools.target.iOS16, skip_model_load=True)
    path = tmp_path / "real.mlpackage"
    model.save(str(path))
    return path


def script_beside(package: Path, **script: Any) -> Path:
    script = {"inputs": {"x": array(1, 3, 4, 4, dtype="fp16")}, "outputs": {"y": array(1, 3, 4, 4)}, **script}
    package.with_name(package.name + ".standin.json").write_text(json.dumps(script))
    return package


def test_segments_meet_the_operations_of_the_file(package: Path) -> None:
    trace = measure(script_beside(package, steps=[step("x", "a"), {"cpu": "b"}, step("b", "y", 1)]), placements=False)
    only = trace.runs[0]
    assert trace.status is Status.PARTIAL
    assert [s.operations for s in only.segments] == [(0,), (2,)]
    assert only.between == (1,)
    assert "in no segment: sin (b)" in why(trace)
    assert trace.ran_on_engine() == {0: True, 1: False, 2: True}
    assert trace.warnings == ()
    assert (trace.model.format, trace.model.kind) == ("mlpackage", "mlProgram")
    assert trace.model.structure.startswith("sha256:")


def test_placements_carry_the_index_of_their_operation(package: Path) -> None:
    operations = [
        {"op": "ios16.const", "outputs": ["other"]},
        {"op": "ios16.relu", "outputs": ["a"], "preferred": "ANE", "supported": ["ANE"], "cost": 0.5},
        {"op": "ios16.sin", "outputs": ["b"], "preferred": "CPU", "supported": ["CPU"], "cost": 0.5},
    ]
    steps = [step("x", "a"), step("b", "y", 1)]
    trace = measure(script_beside(package, steps=steps, plan={"functions": {"main": operations}}))
    assert [(p.outputs, p.index) for p in trace.placements] == [(("other",), None), (("a",), 0), (("b",), 1)]
    assert trace.status is Status.PARTIAL


def test_every_function_of_a_model_is_a_run(tmp_path: Path, package: Path) -> None:
    tools = pytest.importorskip("coremltools")
    both = tools.utils.MultiFunctionDescriptor()
    both.add_function(str(package), "main", "first")
    both.add_function(str(package), "main", "second")
    both.default_function_name = "first"
    path = tmp_path / "both.mlpackage"
    tools.utils.save_multifunction(both, str(path))
    one = {"inputs": {"x": array(1, 3, 4, 4)}, "outputs": {"y": array(1, 3, 4, 4)}}
    functions = {"first": {**one, "steps": [step("x", "y")]}, "second": {**one, "steps": []}}
    model = script_beside(path, functions=functions, default="first")
    trace = measure(model, placements=False)
    assert [(r.function, r.status) for r in trace.runs] == [("first", 0), ("second", 2)]
    assert trace.status is Status.NONE
    assert [r.function for r in measure(model, function="first", placements=False).runs] == ["first"]
    with pytest.raises(UsageError, match="no function third; it has first, second"):
        measure(model, function="third")

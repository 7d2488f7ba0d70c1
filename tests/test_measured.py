"""Measured reports: Core ML's own notes and traces, read as the same Report that a prediction gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from anecompat.checking import check_model
from anecompat.cli import main
from anecompat.compare import compare, to_text
from anecompat.findings import Status
from anecompat.ir import number
from anecompat.measure.trace import Trace, TraceDevice, TraceModel, TracePlacement, TraceRun, TraceSegment, TraceTensor
from anecompat.measured import from_trace, rule_of
from anecompat.readers.mil_text import parse_model
from anecompat.targets import parse_targets
from test_analytics import M4

NETWORK = """
func main<ios17>(tensor<fp16, [1, 8, 4, 4]> x) {
    tensor<fp16, [1, 8, 4, 4]> a = relu(x = x);
    tensor<fp16, [1, 8, 4, 4]> b = cumsum(x = a, axis = int32(1), exclusive = bool(false), reverse = bool(false));
    tensor<fp16, [1, 8, 4, 4]> y = tanh(x = b);
} -> (y);
"""


def analytics(folder: Path) -> Path:
    place = folder / "H16G.bundle" / "analytics.mil"
    place.parent.mkdir()
    place.write_text(M4)
    return place


def test_notes_as_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["check", str(analytics(tmp_path)), "--format", "json"])
    document = json.loads(capsys.readouterr().out)
    target = document["targets"][0]
    assert (status, document["basis"], target["engine"]) == (1, "measured", "H16")
    assert target["chip"].split(" or ")[:2] == ["A17 Pro", "M4"]
    rows = [(row["type"], row["eligible"], row["placed"], row["findings"]) for row in target["operations"]]
    assert rows == [("conv", True, "ANE", []), ("cosh", False, "CPU", ["ANE101"])]
    (finding,) = target["findings"]
    assert finding["core_ml"]["text"] == 'Unsupported MIL operation "cosh".'
    assert finding["certainty"] == "measured"
    (segment,) = target["segments"]
    assert segment["inputs"] == {"x0_4D454D": {"shape": [4, 4, 1, 8, 1]}}
    assert segment["outputs"] == {"conv_0": {"shape": [4, 4, 1, 8, 1]}}


def test_notes_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(analytics(tmp_path))]) == 1
    text = capsys.readouterr().out
    assert "Core ML put 1 of 2 operations on the engine. (Core ML's own notes)" in " ".join(text.split())
    assert text.endswith("Completed with status: Partial compatibility (1)\n")


@pytest.mark.parametrize(
    ("message", "rule"),
    [
        ("Unsupported tensor data type: int32", "ANE201"),
        ('Op "a__@cast" is connected to an invalid live-in "x1": Unsupported tensor data type: int32', "ANE201"),
        ('Unable to resolve operation input "y".', "ANE201"),
        ("Invalid output tensor format: fp32", "ANE202"),
        ("Unsupported gather index type", "ANE211"),
        ('type int32 for "box_indices" is not supported. only support UInt16.', "ANE212"),
        ("Failed to retrieve parameter start", "ANE213"),
        ("Error: conv with large kernel does not meet decomposition preconditions", "ANE301"),
        ("Tensor dimensions N1D1C1H1W65537 are not within supported range, N[1-65536]", "ANE302"),
        ("Invalid Pool kernel width (9), must be [1-8] or 32.", "ANE304"),
        ("Error: the output channel of input A (80000 kB) can not fit the Kmem (65536 kB)", "ANE305"),
        ("Error: invalid number of groups = 65537 for conv layer. It should be in [1, 65536]", "ANE306"),
        ('Unsupported MIL operation "lstm".', "ANE101"),
        ("MIL converter not implemented.", "ANE101"),
        ("words that nobody has seen yet", "ANE805"),
    ],
)
def test_core_ml_words_find_our_rule(message: str, rule: str) -> None:
    assert rule_of(message) == rule


def trace(status: int = 1) -> Trace:
    def placement(index: int, name: str, type: str, devices: tuple[str, ...], preferred: str) -> TracePlacement:
        return TracePlacement((name,), type, "main", index=index, supported=devices, preferred=preferred)

    def segment(n: int, source: str, result: str, index: int) -> TraceSegment:
        shape = (4, 4, 1, 8, 1)
        inputs, outputs = (TraceTensor(source, shape),), (TraceTensor(result, shape),)
        seen = ("_ANEClient",)
        return TraceSegment(
            n, n, {"isegment": n}, inputs, outputs, "key", seen, 0, 21, 0.001, True, operations=(index,)
        )

    segments = (segment(0, "x", "a", 0), segment(1, "b", "y", 2))
    both = ("CPU", "ANE")
    run = TraceRun(
        "main", {}, status, ("two evaluations",), segments=segments, between=(1,),
        placements=(placement(0, "a", "relu", both, "ANE"), placement(1, "b", "cumsum", both, "CPU"),
                    placement(2, "y", "tanh", both, "ANE")),
    )  # fmt: skip
    return Trace("1.0", "1.0", TraceDevice("M2", "macOS 26.5", "25F71", engine="H14"), "all",
                 TraceModel("mlpackage", "mlProgram", 8, "d"), (run,))  # fmt: skip


def test_a_trace_as_a_report() -> None:
    model = number(parse_model(NETWORK, "network"))
    report = from_trace(trace(), model)
    verdict = report.targets[0].verdict
    assert (report.status, report.basis, str(report.targets[0].target)) == (
        Status.PARTIAL,
        "measured",
        "M2, macOS 26.5",
    )
    assert verdict.forecast is not None
    assert verdict.forecast.placed == ("ANE", "CPU", "ANE")
    assert verdict.eligible == (True, True, True)
    assert [list(segment.outputs) for segment in verdict.segments] == [["a"], ["y"]]
    text = report.to_text()
    assert "Intercepted evaluation of model with key:" in text


def test_prediction_beside_measurement() -> None:
    model = number(parse_model(NETWORK, "network"))
    predicted = check_model(model, parse_targets(["M2@macos26.5"]))
    found = compare(predicted, from_trace(trace(), model))
    assert [(d.operation.type, d.first, d.second) for d in found.eligible] == [("cumsum", False, True)]
    assert [(d.operation.type, d.first, d.second) for d in found.placed] == [
        ("relu", "CPU", "ANE"),
        ("tanh", "CPU", "ANE"),
    ]
    assert "1 cumsum b: predicted refused, measured eligible (ANE101)" in " ".join(to_text(found).split())


def test_compare_and_replay_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "network.mil").write_text(NETWORK)
    (tmp_path / "trace.json").write_text(trace().to_json())
    model, measured = str(tmp_path / "network.mil"), str(tmp_path / "trace.json")
    assert main(["compare", model, measured]) == 1
    assert "They differ on whether the engine takes an operation for 1 of 3 operations" in capsys.readouterr().out
    assert main(["check", model, "--trace", measured]) == 1
    assert capsys.readouterr().out.endswith("Completed with status: Partial compatibility (1)\n")


def test_a_trace_of_another_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "network.mil").write_text(NETWORK)
    (tmp_path / "trace.json").write_text("{}")
    assert main(["compare", str(tmp_path / "network.mil"), str(tmp_path / "trace.json")]) == 7
    assert "no trace" in capsys.readouterr().err

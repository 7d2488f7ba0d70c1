"""Whole measurements on the stand-ins: every way a model can run, and every way it can end."""

from __future__ import annotations

import json
import os
import types
from pathlib import Path
from typing import Any

import pytest

from anecompat.errors import ReadError, UsageError
from anecompat.findings import Status
from anecompat.measure import MeasureUnavailable, Trace, available, lines, measure, selftest
from fake_apple.fixtures import (
    SILENT_CONTROL,
    Build,
    array,
    build_standins,  # noqa: F401
    scripted,
    standins,  # noqa: F401
    step,
    use,
)

pytestmark = pytest.mark.usefixtures("standins")
SIGSEGV, SIGKILL, SIGABRT = 11, 9, 6
RAISE = {"raise": {"name": "NSRangeException", "reason": "index 3 beyond bounds"}}


def run(folder: Path, *steps: dict[str, Any], limits: dict[str, Any] | None = None, **script: Any) -> Trace:
    return measure(scripted(folder, steps=list(steps), **script), placements=False, **(limits or {}))


def why(trace: Trace) -> str:
    return " / ".join(reason for each in trace.runs for reason in each.reasons)


# ---- Verdicts, the two wrong ones of the original among them ----


@pytest.mark.parametrize("thread", ["same", "foreign"])
def test_full(thread: str, tmp_path: Path) -> None:
    """On a thread of Core ML's own the hook needs the interpreter's lock while the prediction waits: no deadlock."""
    trace = run(tmp_path, step("x", "a", thread=thread), step("a", "y", 1, thread=thread))
    assert trace.status is Status.FULL
    (only,) = trace.runs
    assert [s.isegment for s in only.segments] == [0, 1]
    assert {s.thread for s in only.segments} == {0} if thread == "same" else len(only.segments) == 2
    assert only.control is None, "the control runs only where nothing was seen"
    assert (trace.device.chip, trace.device.os, trace.device.os_build) == ("M1", "macOS 14.5", "23F79")


def test_no_call_with_differently_named_inputs_and_outputs_is_not_partial(tmp_path: Path) -> None:
    trace = run(tmp_path, {"cpu": "everything"})
    assert trace.status is Status.NONE
    assert trace.runs[0].control is not None
    assert trace.runs[0].control.evaluations == 1


def test_a_cpu_step_between_two_segments_is_not_full(tmp_path: Path) -> None:
    trace = run(tmp_path, step("x", "a"), {"cpu": "b"}, step("a,b", "y", 1))
    assert trace.status is Status.PARTIAL
    assert why(trace) == "segment 1 takes b, which was made elsewhere"


def test_nothing_seen_of_the_control_either_cannot_be_told(
    tmp_path: Path,
    standins: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use(standins, monkeypatch, tmp_path, SILENT_CONTROL)
    assert run(tmp_path).status is Status.CANNOT_TELL
    use(standins, monkeypatch, tmp_path, {**SILENT_CONTROL, "load": {"fail": "no engine here"}})
    trace = run(tmp_path)
    assert trace.status is Status.CANNOT_TELL
    assert "no engine here" in why(trace)
    use(standins, monkeypatch, tmp_path, {**SILENT_CONTROL, "load": {"crash": SIGSEGV}})
    trace = run(tmp_path)
    assert trace.status is Status.CANNOT_TELL, "a control that crashes is no fault of the model's"
    assert "SIGSEGV" in why(trace)


def test_a_system_without_any_hooked_method_cannot_be_told(
    tmp_path: Path,
    build_standins: Build,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use(build_standins("STANDIN_EMPTY"), monkeypatch, tmp_path)
    trace = run(tmp_path, step("x", "y"))
    assert trace.status is Status.CANNOT_TELL
    assert {hook.state for hook in trace.runs[0].hooks} == {"absent"}
    use(build_standins("STANDIN_CHANGED"), monkeypatch, tmp_path)
    trace = run(tmp_path, step("x", "y"))
    assert trace.status is Status.FULL, "the client's methods are refused, the program's below them still tell"
    assert sorted({hook.state for hook in trace.runs[0].hooks}) == ["absent", "installed", "refused"]
    use(build_standins("STANDIN_OLD"), monkeypatch, tmp_path)
    assert run(tmp_path, step("x", "y")).status is Status.FULL


@pytest.mark.parametrize("text", ["ANE_model", "{broken", "[1]", '{"isegment": 0}', None])
def test_keys_that_tell_nothing(text: str | None, tmp_path: Path) -> None:
    trace = run(tmp_path, {"ane": text})
    assert trace.status is Status.CANNOT_TELL
    assert "model keys cannot be read" in why(trace)
    (segment,) = trace.runs[0].segments
    assert segment.outputs == ()
    assert segment.names_from == ""


def test_the_loaded_models_symbols_stand_in_for_an_unreadable_key(tmp_path: Path) -> None:
    symbols = {"kANEFModelInputSymbolsArrayKey": ["x"], "kANEFModelOutputSymbolsArrayKey": ["y@output"]}
    trace = run(tmp_path, {"ane": "ANE_model", "attributes": {"ANEFModelDescription": symbols}})
    assert trace.status is Status.FULL
    assert trace.runs[0].segments[0].names_from == "attributes"
    assert "Intercepted evaluation of model with key: (unreadable; x -> y)" in list(lines(trace))


def test_compute_units_without_the_engine(tmp_path: Path) -> None:
    trace = run(tmp_path, step("x", "y"), limits={"compute_units": "cpu-only"})
    assert trace.status is Status.NONE
    assert trace.compute_units == "cpu-only"


def test_times_of_the_steps_and_of_the_engines_loading(tmp_path: Path) -> None:
    timings = run(tmp_path, step("x", "y")).runs[0].timings
    assert {"bridge", "compile", "load", "describe", "inputs", "predict", "engine load"} <= set(timings)
    assert timings["engine load"] > 0


# ---- Ends: refusals, crashes, limits ----


@pytest.mark.parametrize(
    ("script", "status", "reason"),
    [
        ({"compile": {"fail": "bad operation"}}, 4, "Core ML refused to compile the model: bad operation"),
        ({"compile": RAISE}, 4, "the Objective-C exception NSRangeException (index 3 beyond bounds) ended the process"),
        ({"compile": {"crash": SIGSEGV}}, 4, "ended by SIGSEGV (signal 11) while compiling"),
        ({"compile": {"exit": 3}}, 4, "ended with code 3 and no answer while compiling"),
        ({"load": {"fail": "Error plan build: -1"}}, 3, "Core ML cannot load the model: Error plan build: -1"),
        ({"load": {"crash": SIGABRT}}, 4, "ended by SIGABRT (signal 6) while loading"),
        ({"inputs": {"x": {"type": 99}}}, 5, "the input x is of the kind unknown"),
        ({"inputs": {"x": {"type": 7, "element": {"type": 4}}}}, 5, "the input x is a sequence of image"),
        ({"inputs": {"x": array(1, dtype="fp32") | {"dataType": 1}}}, 5, "elements of the type type 1"),
        ({"steps": [{"cpu": 1, "fail": "out of range"}]}, 6, "the prediction failed: out of range"),
        (
            {"steps": [{"cpu": 1, **RAISE}]},
            6,
            "NSRangeException (index 3 beyond bounds) ended the process while predict",
        ),
        ({"steps": [step("x", "y", **RAISE)]}, 6, "(index 3 beyond bounds) left the evaluation while predicting"),
        ({"steps": [step("x", "y", thread="foreign", **RAISE)]}, 6, "left the evaluation while predicting"),
        ({"steps": [step("x", "y", caught=True, **RAISE)]}, 6, "left the evaluation while predicting"),
        ({"steps": [step("x", "y", crash=SIGSEGV)]}, 6, "ended by SIGSEGV (signal 11) while predicting"),
        (
            {"steps": [step("x", "a"), {"cpu": 1, "crash": SIGKILL}]},
            6,
            "SIGKILL (signal 9), as the system does when memory runs out, while predicting, after 1 evaluation",
        ),
    ],
)
def test_ends(script: dict[str, Any], status: int, reason: str, tmp_path: Path) -> None:
    trace = measure(scripted(tmp_path, **script), placements=False)
    assert trace.status == status
    assert reason in why(trace)
    assert len(trace.runs) == 1


def test_what_was_seen_before_a_crash_is_kept(tmp_path: Path) -> None:
    trace = run(tmp_path, step("x", "a"), step("a", "b", 1, crash=SIGSEGV))
    assert trace.status is Status.PREDICTION_ERROR
    assert [s.isegment for s in trace.runs[0].segments] == [0]


def test_an_exception_that_passed_one_hook_and_was_caught_below_another_is_not_believed(tmp_path: Path) -> None:
    """The inner hook's call never came back, so the interpreter is damaged although the prediction succeeds."""
    trace = run(tmp_path, step("x", "y", rescued=1, **RAISE))
    assert trace.status is Status.PREDICTION_ERROR
    assert "left the evaluation" in why(trace)


def test_an_exception_that_is_swallowed_inside_an_evaluation_harms_nothing(tmp_path: Path) -> None:
    assert run(tmp_path, step("x", "y", swallowed="ignored")).status is Status.FULL


@pytest.mark.parametrize(("where", "status"), [("compile", 4), ("load", 4), ("steps", 6)])
def test_hangs_end_at_the_time_limit(where: str, status: int, tmp_path: Path) -> None:
    script = {where: [{"cpu": 1, "hang": True}] if where == "steps" else {"hang": True}}
    trace = measure(scripted(tmp_path, **script), placements=False, timeout=5)
    assert trace.status == status
    assert "the time limit was reached" in why(trace)


def test_a_hang_inside_an_evaluation_ends_too(tmp_path: Path) -> None:
    trace = run(tmp_path, step("x", "y", hang=True, thread="foreign"), limits={"timeout": 5})
    assert trace.status is Status.PREDICTION_ERROR


def test_memory_has_a_limit(tmp_path: Path) -> None:
    trace = run(tmp_path, {"cpu": 1, "allocate": 400}, limits={"memory": 250 << 20, "timeout": 60})
    assert trace.status is Status.PREDICTION_ERROR
    assert "the memory limit was reached while predicting" in why(trace)


def test_a_failing_evaluation_is_told_with_its_error_and_without_paths(tmp_path: Path) -> None:
    trace = run(tmp_path, step("x", "y", fail="status=0x1d in /Users/ann/model.hwx"))
    assert trace.status is Status.PREDICTION_ERROR
    (segment,) = trace.runs[0].segments
    assert (segment.succeeded, segment.error) == (False, "status=0x1d in <path> (com.apple.appleneuralengine -14)")
    assert "/Users" not in trace.to_json()


def test_nothing_of_this_machine_is_in_a_trace(tmp_path: Path) -> None:
    script = {"steps": [], "compile": {"fail": f"cannot write {tmp_path}/model.mlpackage"}}
    text = measure(scripted(tmp_path, **script)).to_json()
    assert str(tmp_path) not in text
    assert str(Path.home()) + "/" not in text
    assert os.uname().nodename not in text


def test_questions_that_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="no such file"):
        measure(tmp_path / "none.mlpackage")
    model = scripted(tmp_path)
    with pytest.raises(UsageError, match="there are no compute units npu; choose cpu-only"):
        measure(model, compute_units="npu")
    with pytest.raises(UsageError, match="more than nothing"):
        measure(model, timeout=0)


def test_without_stand_ins_this_machine_says_what_it_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ANECOMPAT_FRAMEWORKS")
    monkeypatch.setattr("anecompat.measure.device.APPLE", False)
    said = available()
    assert said is not None
    assert said.startswith("Measuring needs Apple silicon with macOS 12 or later; this is ")
    with pytest.raises(MeasureUnavailable, match="Measuring needs Apple silicon"):
        measure(scripted(tmp_path))


@pytest.mark.parametrize(
    ("machine", "version", "sentence"),
    [("x86_64", "14.5", "a Python built for arm64; this one runs as x86_64"), ("arm64", "11.7", "this is macOS 11.7")],
)
def test_macs_that_cannot_measure(machine: str, version: str, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANECOMPAT_FRAMEWORKS")
    monkeypatch.setattr("anecompat.measure.device.APPLE", True)
    monkeypatch.setattr("anecompat.measure.device.sys", types.SimpleNamespace(platform="darwin"))
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("platform.mac_ver", lambda: (version, ("", "", ""), machine))
    assert sentence in (available() or "")


def test_the_self_test_tells_what_the_first_mac_should_send() -> None:
    report = selftest.run()
    assert {name for name in report if name.startswith("control ")} == {
        f"control {kind}, {cache} cache" for kind in ("mlProgram", "neuralNetwork") for cache in ("cold", "warm")
    }
    told = report["control mlProgram, cold cache"]
    assert told["status"] == "Fully compatible (0)"
    assert [evaluation["names from"] for evaluation in told["evaluations"]] == ["key"]
    assert report["chip"] == "M1"
    json.dumps(report)


def test_the_self_test_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANECOMPAT_FRAMEWORKS")
    monkeypatch.setattr("anecompat.measure.device.APPLE", False)
    assert "Apple silicon" in selftest.run()["unavailable"]

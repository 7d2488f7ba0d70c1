"""The probe suite: what it asks, that it builds, that it can be interrupted, and what becomes of a bundle."""

from __future__ import annotations

import csv
import io
import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anecompat.errors import UsageError
from anecompat.findings import Status
from anecompat.knowledge.spans import parse as parse_scope
from anecompat.measure import control, measure
from anecompat.measure.digest import model_digest
from anecompat.measure.probe import boundaries, choose, probes, read_bundle, run_suite, to_csv, to_toml
from anecompat.measure.probe.build import NAME, build
from anecompat.measure.probe.merge import COLUMNS, scope
from anecompat.measure.probe.question import Probe, describe
from anecompat.measure.trace import (
    Trace,
    TraceDevice,
    TraceError,
    TraceModel,
    TracePlacement,
    TraceRun,
)
from anecompat.readers import read
from fake_apple.fixtures import CONTROL, build_standins, standins  # noqa: F401

EVERY = probes()


def test_some_three_hundred_questions_each_with_a_name_of_its_own() -> None:
    assert len(EVERY) >= 300
    assert len({probe.name for probe in EVERY}) == len(EVERY)
    assert len({probe.op for probe in EVERY}) > 100
    assert {probe.context for probe in EVERY} == {"alone", "conv", "linear"}
    for probe in EVERY:
        json.dumps(describe(probe))
        assert (probe.sweep == "") == (probe.point is None)


def test_sweeps_walk_across_their_boundaries() -> None:
    sweeps: dict[str, list[float]] = {}
    for probe in EVERY:
        if probe.point is not None:
            sweeps.setdefault(probe.sweep, []).append(probe.point)
    assert {"conv kernel", "conv stride", "tensor width", "conv input channels"} <= set(sweeps)
    for points in sweeps.values():
        assert points == sorted(set(points))
        assert len(points) >= 3


def test_choosing_by_operation() -> None:
    assert {probe.op for probe in choose(["conv"])} == {"conv"}
    assert {probe.op for probe in choose(["pool", "linear"])} == {"max_pool", "avg_pool", "l2_pool", "linear"}
    assert choose(None) == choose([]) == EVERY
    with pytest.raises(UsageError, match="no probe asks about warp_drive; there are probes for abs, "):
        choose(["warp_drive"])


def _first_of_each() -> list[Probe]:
    """One probe of every operation and context."""
    found: dict[tuple[str, str], Probe] = {}
    for probe in EVERY:
        found.setdefault((probe.op, probe.context), probe)
    return list(found.values())


def test_every_operation_builds_and_is_read_again(tmp_path: Path) -> None:
    """One model of each operation and context; the probed operation is in it, under its name, untouched by passes."""
    pytest.importorskip("coremltools")
    for probe in _first_of_each():
        model = read(build(probe, tmp_path))
        found = [op for op in model.operations() if any(value.name.split("_")[0] == NAME for value in op.outputs)]
        assert found, probe.name
        assert found[0].type == probe.op, probe.name
        around = {op.type for op in model.operations()} - {probe.op}
        assert around <= {"cast", "conv", "linear"}, probe.name
        assert probe.context in ("alone", probe.op) or probe.context in around, probe.name


def trace(accepted: bool | None, chip: str = "M1", system: str = "macOS 14.5", message: str = "") -> Trace:
    supported = None if accepted is None else (("ANE", "CPU") if accepted else ("CPU",))
    placement = TracePlacement(
        (NAME,),
        "conv",
        "main",
        index=0,
        supported=supported,
        preferred=None if accepted is None else "CPU",
        cost=None if accepted is None else 1.0,
        messages={"ane": (message,)} if message else {},
    )
    run = TraceRun("", {}, 2, ("nothing ran",), placements=(placement,), between=(0,))
    device = TraceDevice(chip, system, "23F79")
    return Trace("1.0", "1.0.0", device, "cpu-and-ne", TraceModel("mlpackage", "mlProgram", 8, "sha256:0"), (run,))


class Measurer:
    """Stands in for a measurement: answers by the probe's name, and may be interrupted."""

    def __init__(
        self, accepts: Any = lambda name: True, stop_after: int | None = None, system: str = "macOS 14.5"
    ) -> None:
        self.accepts, self.stop_after, self.system = accepts, stop_after, system
        self.asked: list[str] = []

    def __call__(self, path: Path) -> Trace:
        assert path.is_dir()
        if self.stop_after is not None and len(self.asked) >= self.stop_after:
            raise KeyboardInterrupt
        self.asked.append(path.stem)
        return trace(self.accepts(path.stem), system=self.system)


def suite(out: Path, ask: Measurer, operations: tuple[str, ...] = ("l2_pool", "cumsum", "topk", "silu")) -> Any:
    pauses: list[float] = []
    stream = io.StringIO()
    paths = run_suite(out, operations=operations, measure=ask, sleep=pauses.append, pause=2.5, stream=stream)
    return paths, pauses, stream.getvalue()


def test_the_suite_can_be_interrupted_and_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("coremltools")
    first = Measurer(stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        suite(tmp_path, first)
    assert len(list((tmp_path / "traces").glob("*.json"))) == 2
    (tmp_path / "traces" / "topk.json").write_text("half a tra")
    second = Measurer()
    (bundle,), pauses, said = suite(tmp_path, second)
    assert sorted(first.asked + second.asked) == ["cumsum", "l2_pool", "silu", "silu__conv", "topk"]
    assert pauses == [2.5, 2.5], "a pause between measurements, none before the first"
    assert said == "[##############################] 5/5  done\n"
    assert bundle.name == "probe-M1-macOS-14.5.jsonl"
    assert [entry.probe["name"] for entry in read_bundle(bundle)] == ["silu", "silu__conv", "l2_pool", "cumsum", "topk"]
    third = Measurer()
    suite(tmp_path, third)
    assert third.asked == []
    assert not list((tmp_path / "models").glob("*")), "models are not kept"
    assert json.loads((tmp_path / "failures.json").read_text()) == {}


def test_the_bar_on_a_terminal(tmp_path: Path) -> None:
    pytest.importorskip("coremltools")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    run_suite(tmp_path, operations=["silu"], measure=Measurer(), sleep=lambda _: None, stream=terminal)
    written = terminal.getvalue().split("\r\x1b[2K")[1:]
    dots = "." * 15
    assert written == [
        f"[{dots}{dots}] 0/2  silu",
        f"[{'#' * 15}{dots}] 1/2  silu__conv",
        f"[{'#' * 30}] 2/2  done\n",
    ]


def test_a_probe_that_cannot_be_built_is_noted_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("coremltools")
    monkeypatch.setattr(
        "anecompat.measure.probe.run.choose", lambda names: [Probe("bad", "no_such_operation", {}), *choose(["cumsum"])]
    )
    (bundle,), pauses, said = suite(tmp_path, Measurer())
    failures = json.loads((tmp_path / "failures.json").read_text())
    assert failures["bad"].startswith("bad: coremltools refuses it: AttributeError")
    assert "2/2, 1 failed" in said
    assert len(read_bundle(bundle)) == 1
    assert pauses == [2.5]


def test_one_bundle_for_each_chip_and_system(tmp_path: Path) -> None:
    pytest.importorskip("coremltools")
    suite(tmp_path, Measurer(), ("cumsum",))
    paths, _, _ = suite(tmp_path, Measurer(system="macOS 15.1"), ("cumsum", "topk"))
    assert [path.name for path in paths] == ["probe-M1-macOS-14.5.jsonl", "probe-M1-macOS-15.1.jsonl"]
    header = json.loads(paths[1].read_text().splitlines()[0])
    assert header == {"bundle_version": "1.0", "chip": "M1", "os": "macOS 15.1", "os_build": "23F79"}


def test_a_bundle_becomes_rows_verdicts_and_boundaries(tmp_path: Path) -> None:
    pytest.importorskip("coremltools")
    ask = Measurer(lambda name: None if name == "topk" else name not in ("conv_transpose_k16_s16", "cumsum"))
    (bundle,), _, _ = suite(tmp_path, ask, ("conv_transpose", "cumsum", "topk"))
    entries = read_bundle(bundle)
    rows = list(csv.DictReader(io.StringIO(to_csv(entries))))
    assert tuple(rows[0]) == COLUMNS
    by_name = {row["model"]: row for row in rows}
    first = by_name["conv_transpose_k2_s2"]
    assert {
        k: first[k] for k in ("mode", "op_type", "op_name", "supported", "preferred", "cost_weight", "chip", "os")
    } == {
        "mode": "iso",
        "op_type": "conv",
        "op_name": "probed",
        "supported": "CPU|ANE",
        "preferred": "CPU",
        "cost_weight": "1.0000",
        "chip": "M1",
        "os": "macOS 14.5",
    }
    assert first["ran_on_engine"] == "false"
    assert by_name["topk"]["note"] == "no plan: nothing ran"
    groups = tomllib.loads(to_toml(entries, "probe-m1"))["group"]
    verdicts = {group["operations"]: group["verdicts"][0] for group in groups}
    assert set(verdicts) == {"conv_transpose", "cumsum"}, "who got no answer gets no verdict"
    assert verdicts["cumsum"] == {"scope": "H13 17", "status": "no", "certainty": "measured", "sources": "probe-m1"}
    assert verdicts["conv_transpose"]["status"] == "conditional"
    assert verdicts["conv_transpose"]["condition"].endswith("refused: conv_transpose_k16_s16")
    parse_scope(verdicts["cumsum"]["scope"])


def test_boundaries_of_a_sweep(tmp_path: Path) -> None:
    pytest.importorskip("coremltools")
    ask = Measurer(lambda name: not name.startswith("conv_k") or int(name[6:]) <= 16)
    (bundle,), _, _ = suite(tmp_path, ask, ("conv",))
    found = boundaries(read_bundle(bundle))
    assert found["conv kernel"] == (16, 17)
    assert found["conv stride"] == (16, None)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "no probe bundle"),
        ("{}\n", "no probe bundle"),
        ('{"bundle_version": "1.0"}\n{broken', "line 2"),
        (
            '{"bundle_version": "1.0"}\n{"probe": {}, "trace": {"schema_version": "9.0", "runs": []}}',
            "schema version 9.0",
        ),
    ],
)
def test_what_is_no_bundle(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text(text)
    with pytest.raises(TraceError, match=sentence):
        read_bundle(tmp_path / "b.jsonl")
    with pytest.raises(TraceError, match="cannot be read"):
        read_bundle(tmp_path / "none.jsonl")


def test_scopes_count_releases_as_ios_does() -> None:
    assert scope("M1", "macOS 14.5") == "H13 17"
    assert scope("A17 Pro", "iOS 18.1") == "H16 18"
    with pytest.raises(UsageError):
        scope("M99", "macOS 14.5")


def test_a_probe_through_the_whole_measurement(
    tmp_path: Path,
    standins: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("coremltools")
    operation = {"op": "ios16.cumsum", "outputs": [NAME], "preferred": "CPU", "supported": ["CPU"], "cost": 1.0}
    script = {**CONTROL, "plan": {"functions": {"main": [operation]}}}
    (tmp_path / "answers.json").write_text(json.dumps(script))
    monkeypatch.setenv("STANDIN_SCRIPT", str(tmp_path / "answers.json"))
    (bundle,) = run_suite(tmp_path / "out", operations=["cumsum"], pause=0, stream=io.StringIO())
    (entry,) = read_bundle(bundle)
    assert entry.accepted is False
    assert entry.probed is not None
    assert entry.probed.index == 0
    assert entry.trace.model.kind == "mlProgram"


# ---- The control models ----


@pytest.mark.parametrize("kind", ["mlProgram", "neuralNetwork"])
def test_the_controls_are_models(kind: str, tmp_path: Path) -> None:
    path = control.write(tmp_path, kind)
    model = read(path)
    assert model.kind == kind
    assert [op.type for op in model.operations()].count("conv") == control.LAYERS
    assert [feature.name for feature in model.inputs] == ["x"]
    assert model.warnings == ()
    first = model_digest(path)
    control.write(tmp_path, kind)
    assert model_digest(path) == first


@pytest.mark.parametrize("kind", ["mlProgram", "neuralNetwork"])
def test_the_controls_are_coremltools_models_too(kind: str, tmp_path: Path) -> None:
    tools = pytest.importorskip("coremltools")
    path = control.write(tmp_path, kind)
    model = tools.models.MLModel(str(path), skip_model_load=True)
    assert model.get_spec().WhichOneof("Type") == kind
    if kind == "mlProgram":
        from coremltools.converters.mil.frontend.milproto.load import load

        program = load(model.get_spec(), specification_version=6, file_weights_dir=str(tmp_path))
        operations = [op for op in program.functions["main"].operations if op.op_type != "const"]
        assert [op.op_type for op in operations] == ["cast", *["conv"] * control.LAYERS, "cast"]
        assert operations[-1].outputs[0].shape == (1, control.CHANNELS, control.SIZE, control.SIZE)


def test_the_control_itself_can_be_measured(tmp_path: Path, standins: Path) -> None:  # noqa: F811
    found = measure(control.write(tmp_path, "neuralNetwork"), compute_units="cpu-and-ne", placements=False)
    assert found.status is Status.FULL
    assert found.runs[0].between == ()
    assert replace(found, runs=()).status is Status.OTHER_ERROR

"""The four models whose runs on an M1 were published: their keys and statuses come out, with macOS 12 and with 13.

The keys are those of ANECompat's README (fredyshox/ANECompat, 2022): what the engine's evaluations were intercepted as.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import anecompat
import published_models as published
from anecompat.findings import Status

SYSTEMS = ("M1@macos12", "M1@macos13")
Ends = dict[str, list[int]]


@dataclass(frozen=True)
class Published:
    make: Callable[[], bytes]
    inputs: Ends
    outputs: Ends
    off: dict[str, set[str]]
    """What stays off the engine: operation type to rules; an empty one means that only host work keeps it from 0."""


MODELS = {
    "MNISTClassifier": Published(
        published.mnist_classifier, {"image": [28, 28, 1, 1, 1]}, {"labelProbabilities": [1, 1, 1, 10, 1]}, {}
    ),
    "DeepLabV3": Published(
        published.deeplab_v3,
        {"image": [513, 513, 1, 3, 1]},
        {"logits/semantic/BiasAdd:0": [65, 65, 1, 21, 1]},
        {"resize_bilinear": {"ANE311"}, "reduce_argmax": {"ANE104"}},
    ),
    "YOLOv3": Published(
        published.yolo_v3,
        {"image": [416, 416, 1, 3, 1]},
        {"raw_confidence": [1, 80, 1, 10647, 1], "raw_coordinates": [1, 4, 1, 10647, 1]},
        {},
    ),
}


def key(inputs: Ends, outputs: Ends) -> dict[str, Any]:
    return {
        "isegment": 0,
        "inputs": {name: {"shape": shape} for name, shape in inputs.items()},
        "outputs": {name: {"shape": shape} for name, shape in outputs.items()},
    }


@pytest.fixture(scope="module")
def old_networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, anecompat.Report]:
    folder = tmp_path_factory.mktemp("published")
    reports = {}
    for name, model in MODELS.items():
        path = folder / f"{name}.mlmodel"
        path.write_bytes(model.make())
        reports[name] = anecompat.check(anecompat.read(str(path)), list(SYSTEMS))
    return reports


@pytest.mark.parametrize("system", range(len(SYSTEMS)), ids=SYSTEMS)
@pytest.mark.parametrize("name", MODELS)
def test_key_and_status(name: str, system: int, old_networks: dict[str, anecompat.Report]) -> None:
    entry, model = old_networks[name].targets[system], MODELS[name]
    (segment,) = entry.verdict.segments
    assert segment.key() == key(model.inputs, model.outputs)
    assert not segment.inferred_key
    assert entry.status is Status.PARTIAL
    assert str(entry.status) == "Partial compatibility (1)"


@pytest.mark.parametrize("system", range(len(SYSTEMS)), ids=SYSTEMS)
@pytest.mark.parametrize("name", MODELS)
def test_what_stays_off(name: str, system: int, old_networks: dict[str, anecompat.Report]) -> None:
    report = old_networks[name]
    assert report.outline is not None
    verdict = report.targets[system].verdict
    off = {
        report.outline.operations[index].type: set(verdict.by_operation[index])
        for index, answer in enumerate(verdict.eligible)
        if answer is not True
    }
    assert off == MODELS[name].off
    assert None not in verdict.eligible


def test_only_work_outside_keeps_two_of_them_from_0(old_networks: dict[str, anecompat.Report]) -> None:
    work = {
        name: [w.kind for _, leaf in report.model.walk_stages() for w in leaf.host_work if w.partial]
        for name, report in old_networks.items()
        if report.model is not None
    }
    assert {name: bool(kinds) for name, kinds in work.items()} == {
        "MNISTClassifier": True,
        "DeepLabV3": False,
        "YOLOv3": True,
    }


def test_the_lines_that_eyes_and_scripts_look_for(old_networks: dict[str, anecompat.Report]) -> None:
    text = old_networks["YOLOv3"].to_text()
    (line,) = {line for line in text.splitlines() if line.startswith("Predicted segment with model key: ")}
    model = MODELS["YOLOv3"]
    assert json.loads(line.split(": ", 1)[1]) == key(model.inputs, model.outputs)
    assert text.splitlines()[-1] == "Completed with status: Partial compatibility (1)"


def test_newer_chips_may_extend_a_segment_but_never_lose_one(old_networks: dict[str, anecompat.Report]) -> None:
    for name, report in old_networks.items():
        assert report.model is not None
        newer = anecompat.check(report.model, ["M4"]).targets[0].verdict
        older = report.targets[0].verdict
        assert len(newer.segments) >= 1
        assert set(older.segments[0].operations) <= {i for s in newer.segments for i in s.operations}, name


@pytest.mark.parametrize("system", SYSTEMS)
def test_super_resolution(system: str, tmp_path: Path) -> None:
    pytest.importorskip("coremltools")
    report = anecompat.check(anecompat.read(str(published.super_resolution(tmp_path))), [system])
    (entry,) = report.targets
    assert entry.status is Status.FULL
    (segment,) = entry.verdict.segments
    assert segment.key() == key({"input_1": [12, 1280, 1, 720, 1]}, {"Identity": [3, 1280, 1, 720, 1]})
    assert not segment.inferred_key
    assert all(entry.verdict.eligible)

"""The published JSON Schema: what reports must have, and that it notices what is missing or wrong."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import anecompat
from anecompat.checking import Report
from anecompat.findings import Certainty, Effect, Status
from anecompat.report import schema

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.mlpackage"))

CONTRACT = {
    "": ["schema_version", "anecompat", "knowledge", "model"],
    "model": ["path", "format", "kind", "spec_version", "functions", "host_work"],
    "target": ["chip", "engine", "os", "status", "status_text", "operations", "segments", "findings"],
    "operation": [
        "index", "stage", "function", "type", "layer", "outputs", "eligible", "placed", "placed_alternatives",
        "findings",
    ],
    "segment": ["isegment", "device", "inputs", "outputs", "operations", "inferred_key"],
    "finding": ["rule", "name", "message", "operations", "certainty", "sources", "fix"],
    "error": ["status", "message"],
}  # fmt: skip


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    Draft202012Validator.check_schema(schema())
    return Draft202012Validator(schema())


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return anecompat.check(str(ROOT / "examples" / "TextEncoder.mlpackage"), ["M1@macos14.5", "M4"]).to_dict()


@pytest.mark.parametrize("place", CONTRACT)
def test_the_contracts_fields_are_required(place: str) -> None:
    found = schema()["$defs"][place] if place else schema()
    assert found["required"] == CONTRACT[place]
    assert set(found["required"]) <= set(found["properties"])
    assert found.get("additionalProperties", True) is True


def test_it_names_what_the_code_can_say() -> None:
    definitions = schema()["$defs"]
    assert definitions["certainty"]["enum"] == [str(certainty) for certainty in Certainty]
    assert definitions["finding"]["properties"]["effect"]["enum"] == [effect.value for effect in Effect]
    pairs = [pair["properties"] for pair in definitions["status_and_text"]["oneOf"]]
    assert [(pair["status"]["const"], pair["status_text"]["const"]) for pair in pairs] == [
        (int(status), status.text) for status in Status
    ]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_on_every_chip(path: Path, validator: Draft202012Validator) -> None:
    found = anecompat.check(str(path))
    validator.validate(json.loads(found.to_json()))
    assert json.loads(found.to_json()) == json.loads(found.to_json(indent=2)) == json.loads(json.dumps(found.to_dict()))
    assert "\n" not in found.to_json()


def test_an_error(validator: Draft202012Validator) -> None:
    error = anecompat.ReadError("nothing was found there", place="nowhere")
    document = Report("nowhere", None, None, (), False, error).to_dict()
    validator.validate(document)
    assert document["error"] == {"status": 3, "message": "nowhere: nothing was found there"}
    assert document["model"] == {"path": "nowhere"}
    assert "targets" not in document


def _drop(*path: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        at: Any = document
        for step in path[:-1]:
            at = at[step]
        del at[path[-1]]

    return change


def _put(value: Any, *path: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        at: Any = document
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = value

    return change


_FIRST: dict[str, tuple[Any, ...]] = {
    "": (),
    "model": ("model",),
    "target": ("targets", 1),
    "operation": ("targets", 0, "operations", 5),
    "segment": ("targets", 0, "segments", 0),
    "finding": ("targets", 0, "findings", 0),
}


@pytest.mark.parametrize(
    ("place", "field"), [(place, field) for place, fields in CONTRACT.items() if place != "error" for field in fields]
)
def test_a_missing_field_is_noticed(
    place: str, field: str, report: dict[str, Any], validator: Draft202012Validator
) -> None:
    document = copy.deepcopy(report)
    _drop(*_FIRST[place], field)(document)
    assert not validator.is_valid(document)


OPERATION, SEGMENT, FINDING = _FIRST["operation"], _FIRST["segment"], _FIRST["finding"]


@pytest.mark.parametrize(
    "change",
    [
        _put({"status": 3, "message": "both"}, "error"),
        _put([], "targets"),
        _drop("targets"),
        _put("2.0", "schema_version"),
        _put("tarball", "model", "format"),
        _put(9, "targets", 0, "status"),
        _put("Not compatible", "targets", 0, "status_text"),
        _put("Fully compatible", "status_text"),
        _put("yes", *OPERATION, "eligible"),
        _put("NPU", *OPERATION, "placed"),
        _put(["ANE", "ANE"], *OPERATION, "placed_alternatives"),
        _put(-1, *OPERATION, "index"),
        _put(["unnamed"], *OPERATION, "findings"),
        _put({"x": {"shape": [1, 2, 3, 4]}}, *SEGMENT, "inputs"),
        _put({"x": [1, 2, 3, 4, 5]}, *SEGMENT, "outputs"),
        _put({"x": {"shape": [1, 2, 3, 4, 0]}}, *SEGMENT, "outputs"),
        _put("probably", *FINDING, "certainty"),
        _put("A sentence", *FINDING, "name"),
        _put(7, *FINDING, "fix"),
    ],
)
def test_a_wrong_value_is_noticed(
    change: Callable[[dict[str, Any]], None], report: dict[str, Any], validator: Draft202012Validator
) -> None:
    document = copy.deepcopy(report)
    change(document)
    assert not validator.is_valid(document)


def test_what_may_be_null_and_what_may_be_added(report: dict[str, Any], validator: Draft202012Validator) -> None:
    document = copy.deepcopy(report)
    _put(None, *OPERATION, "eligible")(document)
    _put(None, *OPERATION, "placed")(document)
    _put(None, *FINDING, "fix")(document)
    _put({"x": {"shape": [None, 1, 1, None, 1]}}, *SEGMENT, "inputs")(document)
    for place in _FIRST.values():
        _put("tomorrow", *place, "a_new_field")(document)
    validator.validate(document)


def test_indexes_are_unique_and_in_order(report: dict[str, Any]) -> None:
    for target in report["targets"]:
        assert [operation["index"] for operation in target["operations"]] == list(range(53))
        held = [index for segment in target["segments"] for index in segment["operations"]]
        assert sorted(held) == [row["index"] for row in target["operations"] if row["eligible"]]
        for operation in target["operations"]:
            named = {f["rule"] for f in target["findings"] if operation["index"] in f["operations"]}
            assert set(operation["findings"]) == named

"""The real models beside the project: each is read, or ends in one clear error, and holds what its listing says."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from anecompat.errors import ReadError
from anecompat.ir import Model
from anecompat.readers import read

# Files of a repository whose symbolic links were checked out as text.
NO_MODELS = {"swiftbrain-food101", "swiftbrain-mnist"}


@pytest.fixture(scope="module")
def listed(shared: Path) -> list[dict[str, Any]]:
    lines = (shared / "models" / "INDEX.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def models(shared: Path, listed: list[dict[str, Any]]) -> dict[str, Model]:
    found = {}
    for row in listed:
        folder = shared / "models" / row["slug"]
        entries = list(folder.iterdir())
        path = entries[0] if len(entries) == 1 else folder
        if row["slug"] in NO_MODELS:
            with pytest.raises(ReadError, match="a symbolic link that was checked out as text"):
                read(path)
        else:
            found[row["slug"]] = read(path)
    return found


def test_all_are_there(models: dict[str, Model], listed: list[dict[str, Any]]) -> None:
    assert len(models) == len(listed) - len(NO_MODELS) == 97


def test_containers_kinds_and_versions(models: dict[str, Model], listed: list[dict[str, Any]]) -> None:
    for row in listed:
        model = models.get(row["slug"])
        if model is None:
            continue
        assert model.format == row["container"], row["slug"]
        if row["container"] in ("mlmodel", "mlpackage"):
            assert model.kind == row["kind"].split("(")[0], row["slug"]
            assert model.spec_version == row["spec_version"], row["slug"]


def test_program_histograms(models: dict[str, Model], listed: list[dict[str, Any]]) -> None:
    """Every operation of every mlProgram: nothing lost, nothing invented, constexpr_* included."""
    compared = 0
    for row in listed:
        model = models.get(row["slug"])
        kinds = {leaf.kind for _, leaf in model.walk_stages()} if model else set()
        if model is None or "mlProgram" not in kinds:
            continue
        expected = {k: n for k, n in row["histogram"].items() if k != "const" and not k.startswith("<")}
        assert model.histogram() == expected, row["slug"]
        compared += 1
    assert compared > 50


def test_layer_histograms(models: dict[str, Model], listed: list[dict[str, Any]]) -> None:
    """Every layer of the old networks keeps its kind; constants that are layers become values."""
    compared = 0
    for row in listed:
        model = models.get(row["slug"])
        if model is None or row["container"] != "mlmodel" or "mlProgram" in row["kind"]:
            continue
        constants = ("loadConstant", "loadConstantND")
        expected = {k: n for k, n in row["histogram"].items() if not k.startswith("<") and k not in constants}
        assert Counter(operation.layer for operation in model.operations()) == expected, row["slug"]
        compared += bool(expected)
    assert compared > 15


def test_stages_without_layers_are_host_work(models: dict[str, Model], listed: list[dict[str, Any]]) -> None:
    for row in listed:
        model = models.get(row["slug"])
        if model is None or row["container"] not in ("mlmodel", "mlpackage"):
            continue
        expected = Counter({k[1:-1]: n for k, n in row["histogram"].items() if k.startswith("<")})
        found = Counter(work.kind for _, leaf in model.walk_stages() for work in leaf.host_work if not leaf.functions)
        del found["image conversion"]
        assert found == expected, row["slug"]


def test_feature_names(models: dict[str, Model], listed: list[dict[str, Any]]) -> None:
    for row in listed:
        model = models.get(row["slug"])
        if model is None or row["container"] not in ("mlmodel", "mlpackage") or not row["inputs"]:
            continue
        for features, texts in ((model.inputs, row["inputs"]), (model.outputs, row["outputs"])):
            assert [feature.name for feature in features] == [text.rsplit(": ", 1)[0] for text in texts], row["slug"]


def test_several_functions(models: dict[str, Model]) -> None:
    model = models["anemll-multifunction-mlpackage"]
    assert sorted(function.name for function in model.functions) == ["add_one", "mul_two"]
    assert [operation.type for operation in model.operations()].count("cast") == 4


def test_indexes_are_unique_and_in_order(models: dict[str, Model]) -> None:
    for slug, model in models.items():
        indexes = [operation.index for operation in model.operations()]
        assert indexes == list(range(len(indexes))), slug


def test_only_the_structure_is_read(models: dict[str, Model]) -> None:
    heavy = [model for model in models.values() if model.format == "mlpackage" and model.bytes_there > 1_000_000]
    assert heavy
    for model in heavy:
        assert model.bytes_read < model.bytes_there, model.path


def test_missing_weights_are_named_and_judged_without(models: dict[str, Model], listed: list[dict[str, Any]]) -> None:
    for row in listed:
        model = models.get(row["slug"])
        if model is None or row["container"] != "mlpackage":
            continue
        missing = any("weight.bin is missing" in each for _, leaf in model.walk_stages() for each in leaf.warnings)
        assert missing == (row["weights"] == "absent (structure only)"), row["slug"]


def test_whole_weights_verify(shared: Path, listed: list[dict[str, Any]]) -> None:
    verified = 0
    for row in listed:
        if row["container"] == "mlpackage" and row["weights"] == "present":
            folder = next((shared / "models" / row["slug"]).iterdir())
            model = read(folder, verify_weights=True)
            assert [each for _, leaf in model.walk_stages() for each in leaf.warnings] == [], row["slug"]
            verified += 1
    assert verified > 10

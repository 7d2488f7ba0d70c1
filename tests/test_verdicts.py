"""The comparison with the committed answers: what it keeps, and that it notices and tells every change."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

import anecompat
from anecompat.readers.mil_text import parse_model

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def verdicts() -> ModuleType:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        return importlib.import_module("verdicts")
    finally:
        sys.path.remove(str(ROOT / "tools"))


GOLDEN = (ROOT / "tests" / "golden" / "verdicts.txt").read_text(encoding="utf-8")


def test_the_golden_file_is_what_would_be_written(verdicts: ModuleType) -> None:
    asked = verdicts.targets()
    found = verdicts.parse(GOLDEN)
    assert verdicts.text_of(found, asked) == GOLDEN
    assert {target for _, target in found} == set(asked)
    models = {model for model, _ in found}
    assert len(found) == len(models) * len(asked)
    assert {model.split("/")[0] for model in models} == {"examples", "evidence", "models"}


def test_every_model_at_hand_has_its_answers(verdicts: ModuleType) -> None:
    known = {model for model, _ in verdicts.parse(GOLDEN)}
    assert {name for name, _ in verdicts.corpus()} <= known


def test_targets_cover_every_chip_and_the_older_systems(verdicts: ModuleType) -> None:
    asked = verdicts.targets()
    from anecompat.targets import default_targets, parse_targets

    everything = {target for each in asked.values() for target in each}
    assert everything == {*default_targets(), *parse_targets(verdicts.OLDER)}
    assert all(len({target.engine for target in each}) == 1 for each in asked.values())
    assert "H16@27" in asked
    assert "H13@15.7" in asked


OLD = {("a/m", "H13@27"): "1 2/3 1 2 ANE101:1", ("a/m", "H16@27"): "1 2/3 1 2 ANE101:1", ("b/n", "H16@27"): "error 3"}


def test_no_change(verdicts: ModuleType) -> None:
    assert verdicts.differences(OLD, dict(OLD)) == []


def test_a_change_is_told_once_for_the_targets_it_concerns(verdicts: ModuleType) -> None:
    new = OLD | {("a/m", "H13@27"): "2 0/3 0 0 ANE101:3", ("a/m", "H16@27"): "2 0/3 0 0 ANE101:3"}
    assert verdicts.differences(OLD, new) == [
        "a/m on H13@27 H16@27",
        "  - 1 2/3 1 2 ANE101:1",
        "  + 2 0/3 0 0 ANE101:3",
    ]


def test_what_becomes_unknown_is_a_change(verdicts: ModuleType) -> None:
    said = [
        verdicts.words(anecompat.check(parse_model(text), ["M4"]).targets[0].verdict)
        for text in (
            "func main<ios17>(tensor<fp16, [8]> x) { tensor<fp16, [8]> y = relu(x = x); "
            f"tensor<fp16, [8]> out = {kind}(x = y); }} -> (out);"
            for kind in ("cumsum", "an_operation_of_the_future")
        )
    ]
    assert [each.split()[1] for each in said] == ["1/2", "1+1?/2"]


def test_a_new_full_verdict_comes_first_and_stands_out(verdicts: ModuleType) -> None:
    new = OLD | {("a/m", "H13@27"): "8 2/3 1 2 ANE102:1", ("b/n", "H16@27"): "0 5/5 1 5 -"}
    assert verdicts.differences(OLD, new)[:3] == [
        "b/n on H16@27  NOW FULLY COMPATIBLE",
        "  - error 3",
        "  + 0 5/5 1 5 -",
    ]


def test_models_that_come_and_go(verdicts: ModuleType) -> None:
    gone = {key: answer for key, answer in OLD.items() if key[0] != "b/n"}
    assert verdicts.differences(OLD, gone) == ["b/n on H16@27", "  - error 3", "  + nothing"]
    assert verdicts.differences(gone, OLD) == ["b/n on H16@27", "  - nothing", "  + error 3"]


def test_absent_material_is_left_out(verdicts: ModuleType) -> None:
    found = {("examples/x", "H16@27"): "0 1/1 1 0 -", ("models/y", "H16@27"): "2 0/1 0 0 ANE101:1"}
    assert verdicts.only(found, {"examples", "evidence"}) == {("examples/x", "H16@27"): "0 1/1 1 0 -"}


def run(verdicts: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["verdicts.py", *arguments])
    code: int = verdicts.main()
    return code


def test_the_whole_way(
    verdicts: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the examples alone, without the material beside the project."""
    golden = tmp_path / "golden" / "verdicts.txt"
    monkeypatch.setattr(verdicts, "GOLDEN", golden)
    monkeypatch.setattr(verdicts, "SHARED", tmp_path / "nowhere")
    assert run(verdicts, monkeypatch) == 1
    assert not golden.exists()
    assert run(verdicts, monkeypatch, "--accept") == 0
    capsys.readouterr()
    assert run(verdicts, monkeypatch) == 0
    said = capsys.readouterr().out
    assert "is absent" in said
    assert said.endswith("no answer changed\n")
    text = golden.read_text(encoding="utf-8")
    golden.write_text(text.replace("examples/VisionBody | 0 29/29", "examples/VisionBody | 1 28/29"), encoding="utf-8")
    assert run(verdicts, monkeypatch) == 1
    said = capsys.readouterr().out
    assert "examples/VisionBody on " in said
    assert "NOW FULLY COMPATIBLE" in said
    kept = "models/kept | 2 0/1 0 0 ANE101:1 | H16@27\n"
    golden.write_text(text + kept, encoding="utf-8")
    assert run(verdicts, monkeypatch) == 0
    assert run(verdicts, monkeypatch, "--accept") == 0
    assert golden.read_text(encoding="utf-8") == text + kept

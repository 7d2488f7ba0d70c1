"""The commands that measure, as a user of a Mac would type them, on the stand-ins."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import anecompat
from anecompat.cli import main
from anecompat.measure import load_trace
from anecompat.report import schema
from fake_apple.fixtures import array, build_standins, key, standins  # noqa: F401

pytestmark = pytest.mark.usefixtures("standins")
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The example text encoder, whose stand-in runs one segment from the embedding to the scores."""
    place = tmp_path / "TextEncoder.mlpackage"
    shutil.copytree(ROOT / "examples" / "TextEncoder.mlpackage", place)
    script: dict[str, Any] = {
        "inputs": {"input_ids": array(1, 32, dtype="int32")},
        "outputs": {"scores": array(1, 32, 500, dtype="fp16"), "best": array(1, 32, dtype="int32")},
        "steps": [
            {"ane": key({"embedded_cast_uint16_cast_uint16": [64, 32, 1, 1, 1]}, {"scores": [500, 32, 1, 1, 1]})}
        ],
    }
    (place / "standin.json").write_text(json.dumps(script))
    return place


def test_what_anecompat_printed_then_the_prediction(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["measure", str(model), str(tmp_path / "log")]) == 1
    printed = capsys.readouterr().out
    (line,) = [line for line in printed.splitlines() if line.startswith("Intercepted evaluation of model with key: ")]
    assert json.loads(line.removeprefix("Intercepted evaluation of model with key: "))["outputs"] == {
        "scores": {"shape": [500, 32, 1, 1, 1]}
    }
    assert "They agree on whether the engine takes an operation: 45 operations told by both." in printed
    assert printed.endswith("Completed with status: Partial compatibility (1)\n")
    assert {path.name for path in (tmp_path / "log").iterdir()} == {"anecompat.log", "trace.json", "run_0"}
    assert int(load_trace(tmp_path / "log" / "trace.json").status) == 1


def test_the_historic_form_measures_where_it_can(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(model)]) == 1
    assert "Intercepted evaluation of model with key:" in capsys.readouterr().out
    assert main([str(model), "--measure", "never"]) == 1
    assert "Predicted segment with model key:" in capsys.readouterr().out
    assert main([str(model), "--target", "M4"]) == 1
    assert "Predicted segment with model key:" in capsys.readouterr().out


def test_a_measured_report_as_json(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    assert main(["measure", str(model), "--format", "json"]) == 1
    document = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator(schema()).validate(document)
    (target,) = document["targets"]
    assert (document["basis"], target["status"]) == ("measured", 1)
    assert [row["placed"] for row in target["operations"]].count("ANE") == 45
    assert main(["measure", str(model), "--format", "trace"]) == 1
    assert json.loads(capsys.readouterr().out)["schema_version"] == "1.0"


@pytest.mark.parametrize(
    ("script", "status", "words"),
    [
        ({"steps": [{"cpu": 1, "fail": "out of range"}]}, 6, "the prediction failed: out of range"),
        ({"compile": {"fail": "bad operation"}}, 4, "Core ML refused to compile the model: bad operation"),
    ],
)
def test_a_measurement_that_fails_as_json(
    model: Path, capsys: pytest.CaptureFixture[str], script: dict[str, Any], status: int, words: str
) -> None:
    (model / "standin.json").write_text(json.dumps(json.loads((model / "standin.json").read_text()) | script))
    assert main(["measure", str(model), "--format", "json"]) == status
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["status"] == status
    assert words in error["message"]


def test_one_model_at_a_time(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--measure", "always", str(model), str(model)]) == 64
    assert "one model is measured at a time" in capsys.readouterr().err


def test_the_one_number_function_measures(model: Path, recwarn: pytest.WarningsRecorder) -> None:
    assert anecompat.test_ane_compatibility_coreml_model(str(model)) == 1
    assert [str(warning.message) for warning in recwarn] == []

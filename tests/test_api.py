"""The Python side: what the three functions return and raise, and how light the package is."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

import anecompat
from anecompat.findings import Verdict
from anecompat.measure import device
from anecompat.targets import REFERENCE, chips

ROOT = Path(__file__).resolve().parent.parent
FULL, PARTIAL = ROOT / "examples" / "VisionBody.mlpackage", ROOT / "examples" / "Vocoder.mlpackage"
RELU = "tensor<fp16, [1, 8, 4, 4]> out = relu(x = x);"
CUMSUM = (
    "tensor<fp16, [1, 8, 4, 4]> out = cumsum(x = x, axis = int32(1), exclusive = bool(false), reverse = bool(false));"
)
UNHEARD = "tensor<fp16, [1, 8, 4, 4]> out = unheard_of(x = x);"


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a Neural Engine, whatever this one is."""
    monkeypatch.setattr(device, "available", lambda: "there is none in this test")


def mil(folder: Path, body: str) -> Path:
    path = folder / "m.mil"
    path.write_text(f"func main<ios18>(tensor<fp16, [1, 8, 4, 4]> x) {{\n{body}\n}} -> (out);\n", encoding="utf-8")
    return path


# ---- check ----


def test_check_by_chip() -> None:
    report = anecompat.check(str(PARTIAL), targets=["M1", "A17 Pro"])
    assert [str(entry.target) for entry in report.targets] == ["M1, macOS 27", "A17 Pro, iOS 27"]
    assert report.asked
    assert report.status is anecompat.Status.PARTIAL
    assert [entry.chip for entry in report.spoken_for] == ["M1", "A17 Pro"]
    assert report.error is None


def test_check_of_every_chip() -> None:
    report = anecompat.check(PARTIAL)
    assert [entry.chip for entry in report.targets] == [chip.name for chip in chips()]
    assert not report.asked
    (reference,) = report.spoken_for
    assert reference.target == REFERENCE
    assert report.status is reference.status


def test_chips_of_one_engine_and_system_share_a_verdict() -> None:
    one, pro, other, older = anecompat.check(PARTIAL, ["M1", "M1 Pro", "M2", "M1@macos14"]).targets
    assert one.verdict is pro.verdict
    assert one.verdict is not other.verdict
    assert one.verdict is not older.verdict


def test_targets_in_one_text_or_several() -> None:
    by_text = anecompat.check(FULL, "m1, a17pro@ios18")
    by_list = anecompat.check(FULL, ["M1", "A17 Pro@ios18"])
    assert by_text.to_json() == by_list.to_json()


def test_progress_names_each_judged_target() -> None:
    told: list[str] = []
    anecompat.check(FULL, ["M1", "M1 Pro", "M4"], progress=told.append)
    assert len(told) == 2
    assert told[1] == "M4, macOS 27"


def test_the_same_report_in_three_forms() -> None:
    report = anecompat.check(PARTIAL, ["M4"])
    document = report.to_dict()
    assert json.loads(report.to_json()) == document
    assert document["status"] == int(report.status)
    text = report.to_text(width=80)
    assert text.splitlines()[-1] == f"Completed with status: {report.status}"
    assert "\x1b[" not in text
    assert "\x1b[" in report.to_text(color=True)


@pytest.mark.parametrize(
    ("wanted", "error", "expected"),
    [
        ({"targets": ["M99"]}, anecompat.UsageError, "M6"),
        ({"targets": ["M5@macos12"]}, anecompat.UsageError, "macOS 26"),
        ({"function": "nope"}, anecompat.UsageError, "main"),
        ({"shapes": {"nope": (1, 2)}}, anecompat.UsageError, "signal"),
    ],
)
def test_wrong_questions(wanted: dict[str, Any], error: type[Exception], expected: str) -> None:
    with pytest.raises(error, match=expected):
        anecompat.check(PARTIAL, **wanted)


@pytest.mark.parametrize("call", [anecompat.check, anecompat.read])
def test_what_cannot_be_read(call: Any) -> None:
    with pytest.raises(anecompat.ReadError, match=r"nowhere\.mlmodel: there is no such file") as caught:
        call("nowhere.mlmodel")
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, anecompat.AnecompatError)
    assert caught.value.status == 3


def test_an_object_that_is_no_model() -> None:
    with pytest.raises(anecompat.ReadError, match="a path, a Model or a coremltools MLModel was expected, not int"):
        anecompat.check(42)


# ---- read ----


def test_read_gives_a_typed_graph() -> None:
    model = anecompat.read(FULL)
    assert isinstance(model, anecompat.Model)
    assert (model.format, model.kind, [function.name for function in model.functions]) == (
        "mlpackage",
        "mlProgram",
        ["main"],
    )
    assert [operation.index for operation in model.operations()] == list(range(29))
    assert model.histogram()["conv"] == 13
    assert anecompat.check(model).to_json() == anecompat.check(str(FULL)).to_json()


def test_a_model_is_not_changed_by_judging() -> None:
    model = anecompat.read(PARTIAL)
    first = anecompat.check(model, ["M1"]).to_json()
    anecompat.check(model, ["M4", "A12"])
    assert anecompat.check(model, ["M1"]).to_json() == first


def test_a_package_and_its_zip_give_the_same_report(tmp_path: Path) -> None:
    path = tmp_path / "any.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(PARTIAL.rglob("*")):
            archive.write(file, f"{PARTIAL.name}/{file.relative_to(PARTIAL)}")
    plain, zipped = (anecompat.check(source).to_dict() for source in (PARTIAL, path))
    assert zipped["model"].pop("path") == str(path)
    assert plain["model"].pop("path") == str(PARTIAL)
    for document in (plain, zipped):
        for key in ("bytes_read", "bytes_there"):
            assert document["model"].pop(key) > 0
    assert zipped == plain


# ---- results are values ----


def test_results_are_frozen() -> None:
    report = anecompat.check(PARTIAL, ["M4"])
    entry = report.targets[0]
    verdict = entry.verdict
    for thing, name in (
        (report, "path"),
        (entry, "verdict"),
        (verdict, "status"),
        (verdict.findings[0], "message"),
        (verdict.segments[0], "operations"),
        (verdict.forecast, "sentence"),
        (REFERENCE, "chip"),
    ):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(thing, name, None)
    for field in dataclasses.fields(Verdict):
        assert not isinstance(getattr(verdict, field.name), list), field.name


# ---- the one-number function ----


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    ("body", "status"), [(RELU, 0), (CUMSUM, 2), (RELU.replace("out", "a") + CUMSUM.replace("= x", "= a"), 1)]
)
def test_one_number(body: str, status: int, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="predicted for M4, macOS 27"):
        answer = anecompat.test_ane_compatibility_coreml_model(mil(tmp_path, body))
    assert answer == status
    assert type(answer) is int


@pytest.mark.usefixtures("elsewhere")
def test_one_number_that_cannot_be_told(tmp_path: Path) -> None:
    path = mil(tmp_path, UNHEARD)
    with pytest.warns(UserWarning, match="predicted"), pytest.raises(anecompat.CannotTell) as caught:
        anecompat.test_ane_compatibility_coreml_model(path)
    assert isinstance(caught.value, ValueError)
    assert caught.value.status == 8
    with pytest.warns(UserWarning, match="predicted"), pytest.raises(ValueError, match="no such file"):
        anecompat.test_ane_compatibility_coreml_model("nowhere.mlmodel")


def test_pytest_does_not_collect_it() -> None:
    assert anecompat.test_ane_compatibility_coreml_model.__test__ is False


@pytest.mark.usefixtures("elsewhere")
def test_a_coremltools_model() -> None:
    ct = pytest.importorskip("coremltools")
    model = ct.models.MLModel(str(FULL), skip_model_load=True)
    assert anecompat.check(model, ["M4"]).status is anecompat.Status.FULL
    with pytest.warns(UserWarning, match="predicted"):
        assert anecompat.test_ane_compatibility_coreml_model(model) == 0


@pytest.mark.usefixtures("elsewhere")
def test_a_coremltools_model_that_lies_nowhere() -> None:
    """An old network made in memory has no package: its specification is read."""
    ct = pytest.importorskip("coremltools")
    builder = ct.models.neural_network.NeuralNetworkBuilder(
        [("x", ct.models.datatypes.Array(8, 4, 4))], [("y", ct.models.datatypes.Array(8, 4, 4))]
    )
    builder.add_activation("act", "RELU", "x", "y")
    model = ct.models.MLModel(builder.spec, skip_model_load=True)
    report = anecompat.check(model, ["M4"])
    assert report.model is not None
    assert [operation.layer for operation in report.model.operations()] == ["activation"]


@pytest.mark.parametrize(("targets", "words"), [([], "no target was given"), ([3], "a text like 'M1'.*not int")])
def test_targets_that_are_none(targets: Any, words: str) -> None:
    with pytest.raises(anecompat.UsageError, match=words):
        anecompat.check(FULL, targets)


@pytest.mark.parametrize("wish", [{"function": "other"}, {"shapes": {"x": (1, 2)}}, {"verify_weights": True}])
def test_a_model_already_read_takes_no_wishes(wish: dict[str, Any]) -> None:
    model = anecompat.read(FULL)
    with pytest.raises(anecompat.UsageError, match="this model is read already"):
        anecompat.check(model, ["M4"], **wish)
    assert anecompat.check(model, ["M4"]).status == anecompat.check(FULL, ["M4"]).status


def test_no_path_is_not_this_folder() -> None:
    with pytest.raises(anecompat.ReadError, match="the path is empty"):
        anecompat.check("")


# ---- how light it is ----

_MODULES = """
import sys
before = set(sys.modules)
{code}
found = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(*sorted(found - set(sys.stdlib_module_names) - {{"anecompat"}}))
"""


def third_party(code: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", _MODULES.format(code=code)], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout.split()


def test_importing_loads_nothing_of_others() -> None:
    assert third_party("import anecompat") == []
    assert third_party("import anecompat, anecompat.cli") == []
    assert third_party("import anecompat; anecompat.Status, anecompat.ReadError") == []


def test_a_check_loads_protobuf_and_nothing_else() -> None:
    code = f"import anecompat; report = anecompat.check({str(PARTIAL)!r}); report.to_text(); report.to_json()"
    assert third_party(code) == ["google"]


def test_public_names() -> None:
    for name in anecompat.__all__:
        assert getattr(anecompat, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        anecompat.nonsense  # noqa: B018
    for function in (anecompat.check, anecompat.read, anecompat.test_ane_compatibility_coreml_model):
        assert function.__doc__
        assert "ReadError" in function.__doc__

"""The command line as a user calls it: answers, exit codes, files, and one sentence for every wrong call."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

import anecompat
from anecompat import cli
from anecompat.report import schema

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.mlpackage"))
FULL, PARTIAL = str(ROOT / "examples" / "VisionBody.mlpackage"), str(ROOT / "examples" / "Vocoder.mlpackage")
TEXT = str(ROOT / "examples" / "TextEncoder.mlpackage")
CLOSING = re.compile(r"Completed with status: .+ \([0-8]\)")
KEY = "Predicted segment with model key: "

RELU = "tensor<fp16, [1, 8, 4, 4]> out = relu(x = x);"
CUMSUM = (
    "tensor<fp16, [1, 8, 4, 4]> out = cumsum(x = x, axis = int32(1), exclusive = bool(false), reverse = bool(false));"
)
UNHEARD = "tensor<fp16, [1, 8, 4, 4]> out = unheard_of(x = x);"


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Run = Callable[..., Answer]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Call the command line in an empty folder, without a terminal and without a Neural Engine."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("COLUMNS", "100")
    # The historic form measures where it can: here it must predict, on a Mac too.
    monkeypatch.setattr("anecompat.measure.device.available", lambda: "there is none in this test")

    def call(*arguments: object) -> Answer:
        code = cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    return call


def mil(path: Path, body: str = RELU, *, name: str = "main") -> Path:
    path.write_text(f"func {name}<ios18>(tensor<fp16, [1, 8, 4, 4]> x) {{\n{body}\n}} -> (out);\n", encoding="utf-8")
    return path


def process(*arguments: str, **more: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "anecompat", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **more)  # type: ignore[call-overload, no-any-return]


# ---- answers ----


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (RELU, 0, "Fully compatible (0)"),
        (RELU.replace("out =", "a =") + CUMSUM.replace("x = x", "x = a"), 1, "Partial compatibility (1)"),
        (CUMSUM, 2, "Not compatible (2)"),
        (UNHEARD, 8, "Cannot tell (8)"),
    ],
)
def test_the_exit_code_is_the_status(body: str, code: int, words: str, run: Run, tmp_path: Path) -> None:
    answer = run("check", mil(tmp_path / "m.mil", body), "--target", "m4")
    assert answer.code == code
    assert answer.lines[-1] == f"Completed with status: {words}"
    assert answer.err == ""


def test_the_closing_line_speaks_for_the_reference_target(run: Run) -> None:
    answer = run("check", FULL)
    assert answer.code == 0
    assert answer.lines[-2:] == [
        "Closing line and exit status speak for M4, macOS 27: the reference target.",
        "Completed with status: Fully compatible (0)",
    ]
    assert "Verdict by chip, each on its last system" in answer.lines
    for chip in ("A12", "A19", "M1", "M6"):
        assert re.search(rf"\b{chip}\b", answer.out), chip


def test_the_worst_target_asked_for_decides(run: Run, tmp_path: Path) -> None:
    cast = 'tensor<fp32, [1, 8, 4, 4]> out = cast(x = x, dtype = string("fp32"));'
    path = mil(tmp_path / "m.mil", cast)
    assert run("check", path, "--target", "m4").code == 0
    assert run("check", path, "--target", "m1@macos14").code == 2
    assert run("check", path, "--target", "m2@macos15").code == 8
    answer = run("check", path, "--target", "m4,m2@macos15", "--target", "m1@macos14")
    assert answer.code == 2
    speaks = next(line for line in answer.lines if line.startswith("Closing line"))
    assert speaks.startswith("Closing line and exit status speak for M4, macOS 27; M2, macOS 15")


def test_inputs_outputs_segment_and_key(run: Run) -> None:
    answer = run("check", FULL, "--target", "m4")
    assert "Model inputs:" in answer.lines
    assert "  image multiArray fp16 [1, 3, 224, 224]" in answer.lines
    assert "Model outputs:" in answer.lines
    (line,) = [line for line in answer.lines if line.startswith(KEY)]
    assert json.loads(line.removeprefix(KEY))["inputs"] == {"image": {"shape": [224, 224, 1, 3, 1]}}


def test_quiet(run: Run) -> None:
    answer = run("check", PARTIAL, FULL, "--quiet", "--compute-units", "all")
    assert answer.lines == [
        "Completed with status: Partial compatibility (1)",
        "Completed with status: Fully compatible (0)",
    ]
    assert answer.err == ""
    assert answer.code == 1


def test_several_models(run: Run) -> None:
    answer = run("check", PARTIAL, "missing.mlmodel", FULL, "--target", "m4")
    assert answer.code == 3
    assert [line for line in answer.lines if CLOSING.fullmatch(line)] == [
        "Completed with status: Partial compatibility (1)",
        "Completed with status: Read error (3)",
        "Completed with status: Fully compatible (0)",
    ]
    assert answer.err.splitlines() == [
        f"[1/3] {PARTIAL}",
        "[2/3] missing.mlmodel",
        "anecompat: missing.mlmodel: there is no such file or folder; check the spelling",
        f"[3/3] {FULL}",
    ]


def test_compute_units(run: Run) -> None:
    answer = run("check", FULL, "--compute-units", "ALL", "--target", "m4")
    assert answer.code == 0
    assert answer.err.startswith("predictions answer for CPU and Neural Engine")
    assert "predicted for compute units CPU and Neural Engine" in answer.out
    assert run("check", FULL, "--compute-units", "cpu_and_ne", "--target", "m4").err == ""
    assert run("check", FULL, "--compute-units", "cpu-and-gpu").code == 64


# ---- the historic form ----


def test_the_historic_form(run: Run) -> None:
    assert run(FULL) == run("check", FULL)
    assert run(PARTIAL).code == 1
    assert run(PARTIAL, "--target", "m1", "--quiet").out == "Completed with status: Partial compatibility (1)\n"


def test_what_a_log_folder_receives(run: Run) -> None:
    answer = run(PARTIAL, "deep/logs")
    assert answer.code == 1
    assert sorted(path.name for path in Path("deep/logs").iterdir()) == ["report.json", "report.txt"]
    document = json.loads(Path("deep/logs/report.json").read_text(encoding="utf-8"))
    Draft202012Validator(schema()).validate(document)
    assert document == json.loads(run("check", PARTIAL, "--format", "json").out)
    assert Path("deep/logs/report.txt").read_text(encoding="utf-8") == answer.out
    assert run(FULL, "deep/logs").code == 0
    assert Path("deep/logs/report.txt").read_text(encoding="utf-8").endswith("Fully compatible (0)\n")


def test_a_log_folder_for_each_of_several_models(run: Run, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        mil(tmp_path / folder / "m.mil")
    os.chdir(tmp_path / "one")
    run("check", "../one/m.mil", "../two/m.mil", "nowhere.mil", ".", "--log-dir", "logs", "--quiet")
    found = sorted(str(path.relative_to("logs")) for path in Path("logs").rglob("*") if path.is_file())
    assert found == [f"{name}/report.{kind}" for name in ("m-2", "m", "one") for kind in ("json", "txt")]
    assert sorted(path.name for path in Path().iterdir()) == ["logs", "m.mil"]


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ((PARTIAL, FULL), "anecompat check MODEL MODEL"),
        ((PARTIAL, "later.mlmodelc/"), "anecompat check MODEL MODEL"),
        ((PARTIAL, "logs", "more"), "anecompat check MODEL MODEL"),
        (("chekc", PARTIAL), "did you mean check?"),
        (("rules",), "did you mean rule?"),
        (("--quiet", PARTIAL), "options come after the model"),
    ],
)
def test_the_historic_form_refuses(arguments: tuple[str, ...], hint: str, run: Run) -> None:
    answer = run(*arguments)
    assert (answer.code, answer.out) == (64, "")
    assert hint in answer.err
    assert one_sentence(answer.err)
    assert list(Path().iterdir()) == []


def test_a_model_spelled_like_a_command(run: Run) -> None:
    mil(Path("check"))
    mil(Path("chips"), CUMSUM)
    assert run("./check", "--quiet").out == "Completed with status: Fully compatible (0)\n"
    assert run("check", "check", "chips", "--quiet").code == 2
    assert run("check").code == 64


# ---- targets ----


@pytest.mark.parametrize(
    ("spelled", "chips"),
    [
        ("M1", ["M1"]),
        ("m1-pro", ["M1 Pro"]),
        ("a17pro", ["A17 Pro"]),
        ("A17 Pro", ["A17 Pro"]),
        ("apple m4", ["M4"]),
        ("m1,m4", ["M1", "M4"]),
    ],
)
def test_spellings_of_chips(spelled: str, chips: list[str], run: Run) -> None:
    answer = run("check", FULL, "--target", spelled, "--format", "json")
    assert [target["chip"] for target in json.loads(answer.out)["targets"]] == chips


@pytest.mark.parametrize(
    ("spelled", "chip", "system"),
    [
        ("m1@macos14", "M1", "macOS 14"),
        ("m1@macOS14.5", "M1", "macOS 14.5"),
        ("a16@ios18", "A16", "iOS 18"),
        ("a17pro@ios17.2", "A17 Pro", "iOS 17.2"),
        ("m4", "M4", "macOS 27"),
    ],
)
def test_systems(spelled: str, chip: str, system: str, run: Run) -> None:
    (target,) = json.loads(run("check", FULL, "--target", spelled, "--format", "json").out)["targets"]
    assert target["chip"] == chip
    assert target["os"] == system or target["os"].startswith(f"{system}.")


def test_generations_and_all(run: Run) -> None:
    engines = {
        target["engine"]
        for target in json.loads(run("check", FULL, "--target", "h13", "--format", "json").out)["targets"]
    }
    assert engines == {"H13"}
    systems = [
        target["os"]
        for target in json.loads(run("check", FULL, "--target", "all@macos15", "--format", "json").out)["targets"]
    ]
    assert systems
    assert all(system.startswith("macOS 15") for system in systems)


@pytest.mark.parametrize(
    ("spelled", "expected"),
    [
        ("M11", "did you mean M1"),
        ("a17por", "did you mean A17 Pro?"),
        ("xyz", "did you mean"),
        ("m1@windows11", "macos14"),
        ("m1@macos99", "the newest is macOS 27"),
        ("m5@macos12", "M5 needs macOS 26 or later"),
        ("a12@ios27", "A12"),
        ("m1@ios", "write it as"),
        ("", "a target is a chip"),
    ],
)
def test_a_target_nobody_knows(spelled: str, expected: str, run: Run) -> None:
    answer = run("check", FULL, "--target", spelled, "--log-dir", "logs", "--output", "out.txt")
    assert (answer.code, answer.out) == (64, "")
    assert expected in answer.err
    assert one_sentence(answer.err)
    assert list(Path().iterdir()) == []


# ---- JSON ----


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_json_of_every_example(path: Path, run: Run) -> None:
    answer = run("check", path, "--format", "json")
    assert answer.out.count("\n") == 1
    assert ", " not in answer.out[:200].replace('", "', "")
    document = json.loads(answer.out)
    Draft202012Validator(schema()).validate(document)
    assert document["status"] == answer.code
    assert document["model"]["path"] == str(path)
    assert len(document["targets"]) > 20
    indented = run("check", path, "--format", "json", "--indent")
    assert indented.out.startswith('{\n  "schema_version"')
    assert json.loads(indented.out) == document


def test_several_models_print_json_lines(run: Run) -> None:
    answer = run("check", FULL, "missing.mlmodel", PARTIAL, "--format", "json", "--target", "m4")
    documents = [json.loads(line) for line in answer.lines]
    for document in documents:
        Draft202012Validator(schema()).validate(document)
    assert [document.get("status") for document in documents] == [0, None, 1]
    assert documents[1]["error"]["status"] == answer.code == 3
    assert documents[1]["error"]["message"] in answer.err


@pytest.mark.parametrize("form", ["text", "json"])
def test_output(form: str, run: Run) -> None:
    plain = run("check", FULL, PARTIAL, "--format", form, "--target", "m4")
    answer = run("check", FULL, PARTIAL, "--format", form, "--target", "m4", "--output", "answer")
    assert (answer.code, answer.out) == (1, "")
    assert Path("answer").read_text(encoding="utf-8") == plain.out


@pytest.mark.parametrize("place", ["nowhere/answer", "folder"])
def test_output_that_cannot_be_written(place: str, run: Run) -> None:
    Path("folder").mkdir()
    answer = run("check", FULL, "--output", place)
    assert (answer.code, answer.out) == (64, "")
    assert one_sentence(answer.err)
    assert place in answer.err


def test_a_log_folder_that_is_a_file(run: Run) -> None:
    Path("taken").write_text("mine", encoding="utf-8")
    answer = run(FULL, "taken")
    assert (answer.code, answer.out) == (64, "")
    assert "taken" in answer.err
    assert Path("taken").read_text(encoding="utf-8") == "mine"


def test_an_error_does_not_destroy_what_was_written_before(run: Run) -> None:
    Path("answer").write_text("precious", encoding="utf-8")
    assert run("check", "missing.mlmodel", "--output", "answer").code == 3
    assert run("check", FULL, "--function", "nope", "--output", "answer").code == 64
    assert Path("answer").read_text(encoding="utf-8") == "precious"


# ---- terminals ----


class _Terminal:
    """Makes standard output claim to be a terminal."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("NO_COLOR", "TERM"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)


def test_colour_on_a_terminal_only(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[" not in run("check", FULL, "--target", "m4").out
    _Terminal(monkeypatch)
    plain = run("check", FULL, "--target", "m4").out
    assert "\x1b[32m" in plain
    assert plain.splitlines()[-1] == "\x1b[1mCompleted with status: Fully compatible (0)\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in run("check", FULL, "--target", "m4").out
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b[" not in run("check", FULL, "--target", "m4").out


def test_no_colour_in_files_and_json(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    _Terminal(monkeypatch)
    run("check", FULL, "--target", "m4", "--output", "answer", "--log-dir", "logs")
    for path in ("answer", "logs/report.txt", "logs/report.json"):
        assert "\x1b" not in Path(path).read_text(encoding="utf-8"), path
    assert "\x1b" not in run("check", FULL, "--format", "json").out


def _too_wide(line: str, width: int) -> bool:
    """Longer than the terminal though it could have been broken: keys and single long words are kept whole."""
    if len(line) <= width or line.startswith(KEY):
        return False
    words = line.split()
    indent = len(line) - len(line.lstrip())
    return indent + max(len(word) for word in words) <= width


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_narrow_terminals(path: Path, width: int, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for targets in ((), ("--target", "m1,m4")):
        answer = run("check", path, *targets)
        assert [line for line in answer.lines if _too_wide(line, width)] == []
    for command in (("chips",), ("chips", "m4"), ("ops",), ("ops", "conv"), ("rule",), ("rule", "ANE301")):
        lines = run(*command).lines
        assert [line for line in lines if _too_wide(line, width) and "tensor<" not in line] == [], command


NASTY = "evil\x1b[31m\nname\u202e\x07"


def test_names_with_control_characters(run: Run) -> None:
    folder = Path("m.mlpackage")
    _package(folder, NASTY)
    for arguments in ((), ("--target", "m1,m4"), ("--format", "json"), ("--quiet",)):
        answer = run("check", folder, *arguments)
        assert answer.code == 1
        for text in (answer.out, answer.err):
            assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)
    assert "evil\\x1b[31m\\nname\\u202e\\x07" in run("check", folder, "--target", "m4").out
    (target,) = json.loads(run("check", folder, "--target", "m4", "--format", "json").out)["targets"]
    assert target["operations"][1]["outputs"] == [NASTY]
    errors = [run("check", folder, "--shape", "nope=1"), run("check", folder, "--function", NASTY)]
    for answer in errors:
        assert answer.code == 64
        assert one_sentence(answer.err)


def test_names_of_500_characters(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "n" * 500
    _package(Path("m.mlpackage"), name)
    monkeypatch.setenv("COLUMNS", "80")
    answer = run("check", "m.mlpackage", "--target", "m4")
    assert answer.code == 1
    assert max(len(line) for line in answer.lines if not line.startswith(KEY)) <= 120
    assert any("…" in line for line in answer.lines)
    keys = [json.loads(line.removeprefix(KEY)) for line in answer.lines if line.startswith(KEY)]
    assert list(keys[1]["inputs"]) == [name]


def _package(folder: Path, name: str) -> None:
    """An mlpackage in which an operation that the engine refuses writes ``name``."""
    from anecompat import proto

    model = proto.Model(specificationVersion=9)
    for features, each in ((model.description.input, "x"), (model.description.output, "out")):
        array = features.add(name=each).type.multiArrayType
        array.shape.extend([1, 8, 4, 4])
        array.dataType = 65552
    tensor = "tensorType { dataType: FLOAT16 rank: 4 " + "".join(
        f"dimensions {{ constant {{ size: {size} }} }} " for size in (1, 8, 4, 4)
    )
    tensor += "}"
    from google.protobuf import text_format

    function = model.mlProgram.functions["main"]
    function.opset = "CoreML8"
    text_format.Merge(f"inputs {{ name: 'x' type {{ {tensor} }} }}", function)
    block = function.block_specializations["CoreML8"]
    block.outputs.append("out")
    for kind, reads, writes in (("relu", "x", "mid"), ("cumsum", "mid", name), ("relu", name, "out")):
        operation = block.operations.add(type=kind)
        operation.inputs["x"].arguments.add(name=reads)
        output = operation.outputs.add(name=writes)
        text_format.Merge(f"type {{ {tensor} }}", output)
    model.mlProgram.version = 1
    inner = folder / "Data" / "com.apple.CoreML"
    inner.mkdir(parents=True)
    (inner / "model.mlmodel").write_bytes(model.SerializeToString())
    entry = {"author": "com.apple.CoreML", "name": "model.mlmodel", "path": "com.apple.CoreML/model.mlmodel"}
    manifest = {"fileFormatVersion": "1.0.0", "itemInfoEntries": {"A": entry}, "rootModelIdentifier": "A"}
    (folder / "Manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


# ---- bad input: one sentence, exit 3, nothing written ----


def one_sentence(err: str) -> bool:
    """One line that begins with the tool's name, and no traceback."""
    return err.startswith("anecompat: ") and err.count("\n") == 1 and "Traceback" not in err and len(err) < 600


def _zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def _folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    path.mkdir(exist_ok=True)
    return path


def _file(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


_SPEC = (Path(PARTIAL) / "Data/com.apple.CoreML/model.mlmodel").read_bytes()
_ENTRY = {"path": "com.apple.CoreML/model.mlmodel", "name": "model.mlmodel", "author": "com.apple.CoreML"}


def _manifest(path: str) -> bytes:
    return json.dumps({"rootModelIdentifier": "A", "itemInfoEntries": {"A": _ENTRY | {"path": path}}}).encode()


def _mlpackage(path: Path, **files: bytes) -> Path:
    whole = {"Manifest.json": _manifest("com.apple.CoreML/model.mlmodel"), "Data/com.apple.CoreML/model.mlmodel": _SPEC}
    return _folder(
        path, whole | {name.replace("__", "/").replace("_json", ".json"): data for name, data in files.items()}
    )


def _unknown_kind() -> bytes:
    return b"\x08\x09\x12\x00" + b"\xea\x7c\x00"  # specification 9, an empty description, field 1997 that nobody knows


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda at: at / "missing.mlpackage", "there is no such file or folder"),
    "empty file": (lambda at: _file(at / "m.mlmodel", b""), "empty"),
    "empty folder": (lambda at: _folder(at / "m.mlpackage", {}), ""),
    "foreign folder": (lambda at: _folder(at / "src", {"main.c": b"int main;", "README": b"hi"}), ""),
    "Git LFS pointer": (
        lambda at: _file(
            at / "m.mlmodel", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 123456789\n"
        ),
        "Git LFS",
    ),
    "truncated": (lambda at: _file(at / "m.mlmodel", _SPEC[: len(_SPEC) // 2]), ""),
    "corrupt": (lambda at: _file(at / "m.mlmodel", _SPEC[:40] + b"\xff" * 200 + _SPEC[240:]), ""),
    "noise": (lambda at: _file(at / "m.mlmodel", bytes(range(256)) * 8), ""),
    "manifest that is no JSON": (lambda at: _mlpackage(at / "m.mlpackage", Manifest_json=b"{no"), "Manifest.json"),
    "manifest that is a list": (lambda at: _mlpackage(at / "m.mlpackage", Manifest_json=b"[]"), "Manifest.json"),
    "manifest path that leaves": (
        lambda at: _mlpackage(at / "m.mlpackage", Manifest_json=_manifest("../../outside.mlmodel")), "leaves"
    ),
    "manifest path that is absolute": (
        lambda at: _mlpackage(at / "m.mlpackage", Manifest_json=_manifest("/etc/hostname")), "/etc/hostname"
    ),
    "manifest path to nothing": (
        lambda at: _mlpackage(at / "m.mlpackage", Manifest_json=_manifest("gone.mlmodel")), "gone.mlmodel"
    ),
    "unknown kind": (lambda at: _file(at / "m.mlmodel", _unknown_kind()), ""),
    "MIL with a syntax error": (
        lambda at: _file(at / "m.mil", b"func main<ios18>(tensor<fp16, [1]> x) {\n  oops oops;\n} -> (x);\n"), "2:"
    ),
    "MIL that ends early": (lambda at: _file(at / "m.mil", b"func main<ios18>(tensor<fp16, [1]> x) {\n"), "2:"),
    "zip bomb": (lambda at: _zip(at / "m.zip", {"m.mlmodel": bytes(300 << 20)}), ""),
    "zip of nothing": (lambda at: _zip(at / "m.zip", {}), ""),
    "zip that leaves": (lambda at: _zip(at / "m.zip", {"../../m.mlmodel": _SPEC}), ""),
    "zip cut short": (
        lambda at: _file(at / "cut.zip", _zip(at / "m.zip", {"m.mlmodel": _SPEC}).read_bytes()[:-40]), ""
    ),
    "PNG": (lambda at: _file(at / "m.mlmodel", b"\x89PNG\r\n\x1a\n" + bytes(100)), "PNG"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str, run: Run, tmp_path: Path) -> None:
    make, expected = BAD[name]
    place = tmp_path / "input"
    place.mkdir()
    path = make(place)
    before = sorted(place.rglob("*"))
    answer = run(path, "logs")
    assert answer.code == 3, answer
    assert answer.out == "Completed with status: Read error (3)\n"
    assert one_sentence(answer.err), answer.err
    assert str(path) in answer.err
    assert expected in answer.err
    assert list(Path().iterdir()) == []
    assert sorted(place.rglob("*")) == before
    document = json.loads(run("check", path, "--format", "json").out)
    Draft202012Validator(schema()).validate(document)
    assert f"anecompat: {document['error']['message']}\n" == answer.err


def test_an_encrypted_model_says_so(run: Run, tmp_path: Path) -> None:
    path = _folder(tmp_path / "m.mlmodelc", {"coremldata.bin": b"\x01" * 64, "model.mil.encrypted": b"x" * 64})
    answer = run(path)
    assert answer.code == 3
    assert one_sentence(answer.err)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("check",), "MODEL"),
        (("check", FULL, "--frobnicate"), "--frobnicate"),
        (("check", FULL, "--format", "yaml"), "yaml"),
        (("check", FULL, "--compute-units", "cpu"), "--compute-units"),
        (("check", FULL, "--function", "nope"), "main"),
        (("check", FULL, "--shape", "nope=1x2"), "image"),
        (("check", FULL, "--shape", "image"), "--shape image"),
        (("check", FULL, "--shape", "image=1x0x4"), "sizes from 1 up"),
        (("check", FULL, "--shape", "image=axb"), "axb"),
        (("check", FULL, "--shape", "image=1x3x448x448"), "1x3x224x224"),
        (("check", FULL, "--shape", "image=1x3"), "image"),
        (("chips", "M99"), "did you mean"),
        (("ops", "convv"), "did you mean conv?"),
        (("rule", "ANE3O1"), "did you mean ANE3"),
        (("rule", "oversized-kernels"), "did you mean oversized-kernel?"),
        (("rule", "a", "b"), "b"),
    ],
)
def test_a_wrong_call(arguments: tuple[str, ...], expected: str, run: Run) -> None:
    answer = run(*arguments)
    assert (answer.code, answer.out) == (64, "")
    assert expected in answer.err
    assert one_sentence(answer.err), answer.err
    assert list(Path().iterdir()) == []


def test_one_of_several_functions(run: Run) -> None:
    text = "".join(
        f"func {name}<ios18>(tensor<fp16, [1, 8, 4, 4]> x) {{\n{body}\n}} -> (out);\n"
        for name, body in (("main", RELU), ("slow", CUMSUM))
    )
    Path("two.mil").write_text(text, encoding="utf-8")
    assert run("check", "two.mil", "--quiet").code == 2
    assert run("check", "two.mil", "--quiet", "--function", "main").code == 0
    assert run("check", "two.mil", "--quiet", "--function", "slow").code == 2
    answer = run("check", "two.mil", "--function", "quick")
    assert answer.code == 64
    assert "main" in answer.err
    assert "slow" in answer.err


def test_a_flexible_input_can_be_pinned(run: Run) -> None:
    Path("flexible.mil").write_text(
        "func main<ios18>(tensor<fp16, [1, ?]> x) {\n tensor<fp16, [1, ?]> out = relu(x = x);\n} -> (out);\n",
        encoding="utf-8",
    )
    assert run("check", "flexible.mil", "--quiet", "--target", "m4").code == 8
    assert run("check", "flexible.mil", "--quiet", "--target", "m4", "--shape", "x=1x65536").code == 0
    assert run("check", "flexible.mil", "--quiet", "--target", "m4", "--shape", "x=1x65537").code == 2
    assert run("check", "flexible.mil", "--quiet", "--target", "m4", "--shape", "x=2x4").code == 64


# ---- knowledge ----


def test_chips_ops_and_rules(run: Run) -> None:
    chips = run("chips")
    assert chips.code == 0
    for name in ("A12", "M1 Ultra", "A19 Pro", "M6"):
        assert name in chips.out
    one = run("chips", "m4")
    assert one.code == 0
    assert "H16" in one.out
    operation = run("ops", "conv")
    assert operation.code == 0
    assert "ANE301" in operation.out or "conv_kernel_width" in operation.out or "Widest convolution" in operation.out
    rules = run("rule")
    listed = [line.split()[0] for line in rules.lines if line.startswith("ANE")]
    from anecompat.rules import all_rules

    assert listed == [rule.id for rule in all_rules()]
    page = run("rule", "ane301")
    assert page.lines[0] == "ANE301 oversized-kernel"
    assert "What to change" in page.lines
    assert page.out == run("rule", "Oversized-Kernel").out


def test_version_and_help(run: Run) -> None:
    assert run("--version") == Answer(0, f"anecompat {anecompat.__version__}\n", "")
    for arguments in (("--help",), ("help",), ("check", "--help")):
        answer = run(*arguments)
        assert (answer.code, answer.err) == (0, "")
        assert "MODEL" in answer.out
    nothing = run()
    assert (nothing.code, nothing.out) == (64, "")
    assert nothing.err.startswith("usage: anecompat")


# ---- faults of our own, interrupts, pipes ----


def test_a_bug_never_looks_like_a_clean_model(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("no such thing")

    monkeypatch.delenv("ANECOMPAT_DEBUG", raising=False)
    monkeypatch.setattr("anecompat.checking.load", broken)
    answer = run("check", FULL)
    assert answer.code == 7
    assert one_sentence(answer.err)
    assert "internal error" in answer.err
    monkeypatch.setenv("ANECOMPAT_DEBUG", "1")
    with pytest.raises(KeyError):
        run("check", FULL)


def test_an_interrupt(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("anecompat.checking.load", interrupted)
    assert run("check", FULL) == Answer(130, "", "anecompat: interrupted\n")


@pytest.mark.skipif(not hasattr(signal, "SIGINT") or sys.platform == "win32", reason="signals of a Unix")
def test_ctrl_c_ends_a_process_with_130() -> None:
    """It writes more than a pipe holds, so it waits for us: the signal finds it at work."""
    command = [sys.executable, "-m", "anecompat", "check", TEXT, "--format", "json", "--indent"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.read(1) == b"{"
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert err == b"anecompat: interrupted\n"


@pytest.mark.parametrize(
    "arguments", [("check", TEXT), ("check", TEXT, "--format", "json"), ("ops",), ("rule", "ANE301")]
)
def test_a_closed_pipe_is_no_error(arguments: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "anecompat", *arguments],
            stdout=closed, stderr=subprocess.PIPE, timeout=120, check=False,
        )  # fmt: skip
    assert done.stderr == b""
    assert done.returncode == 141


def test_head_gets_the_first_line() -> None:
    command = f"'{sys.executable}' -m anecompat check '{TEXT}' --format json --indent | head -1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.stderr) == ("{\n", "")


def test_as_a_process() -> None:
    done = process("check", FULL, "--target", "m4", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Completed with status: Fully compatible (0)\n", "")
    done = process("check", "nowhere.mlpackage")
    assert done.returncode == 3
    assert done.stdout == "Completed with status: Read error (3)\n"
    assert one_sentence(done.stderr)
    assert process().returncode == 64


def test_a_terminal_that_cannot_show_a_character(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = process("check", TEXT, "--target", "m4", env=environment)
    assert done.returncode == 1
    assert "\\xd7" in done.stdout
    done = process("check", os.fsdecode(b"no\xfftext.mlmodel"), env=environment)
    assert done.returncode == 3
    assert one_sentence(done.stderr)


@pytest.mark.skipif(sys.platform == "win32", reason="the shell of a Unix")
def test_closed_standard_output() -> None:
    command = f"'{sys.executable}' -m anecompat check '{FULL}' --target m4 >&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the device /dev/full is not there")
def test_a_full_disk_is_no_bug() -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-m", "anecompat", "check", FULL], stdout=full, stderr=subprocess.PIPE, text=True,
            timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == 7
    assert done.stderr.startswith("anecompat: the answer could not be written: ")
    assert "internal error" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_name_of_500_characters_at_60_columns(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "n" * 500
    (tmp_path / "long.mil").write_text(
        "program(1.0)\n{ func main<ios18>(tensor<fp16, [1, 8, 4, 4]> x) {\n"
        f"tensor<fp16, [1, 8, 4, 4]> {name} = relu(x = x);\n}} -> ({name}); }}\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("COLUMNS", "60")
    answer = run("check", str(tmp_path / "long.mil"))
    assert any("nnn…nnn" in line for line in answer.lines)
    assert [line for line in answer.lines if len(line) > 60 and not line.startswith((KEY, str(tmp_path)))] == []

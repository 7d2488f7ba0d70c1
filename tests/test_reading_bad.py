"""Input that is no model, or only half of one: one clear sentence that says where, what was found and what to do."""

from __future__ import annotations

import io
import json
import pickle
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anecompat.errors import ReadError
from anecompat.proto import Model as ModelMessage
from anecompat.readers import read

ROOT_ID = "11111111-2222-3333-4444-555555555555"
TEXT = """program(1.0)
{
  func main<ios16>(tensor<fp16, [1, 4]> x) {
    tensor<fp16, [1, 4]> y = relu(x = x)[name = tensor<string, []>("r")];
  } -> (y);
}
"""
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 123456789\n"


def network() -> bytes:
    model = ModelMessage(specificationVersion=3)
    for feature, name in ((model.description.input, "x"), (model.description.output, "y")):
        feature.add(name=name).type.multiArrayType.shape.extend([3, 8, 8])
    layer = model.neuralNetwork.layers.add(name="act", input=["x"], output=["y"])
    layer.activation.ReLU.SetInParent()
    return bytes(model.SerializeToString())


def manifest(path: str = "com.apple.CoreML/model.mlmodel") -> bytes:
    entry = {"author": "com.apple.CoreML", "name": "model.mlmodel", "path": path}
    return json.dumps({"itemInfoEntries": {ROOT_ID: entry}, "rootModelIdentifier": ROOT_ID}).encode()


def package(**changed: bytes | None) -> dict[str, bytes]:
    files: dict[str, bytes | None] = {
        "Manifest.json": manifest(),
        "Data/com.apple.CoreML/model.mlmodel": network(),
    }
    files.update({name.replace("__", "/"): data for name, data in changed.items()})
    return {name: data for name, data in files.items() if data is not None}


def write(root: Path, files: dict[str, bytes]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return root


def pack(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def sentence(path: Path) -> str:
    """What reading ends with: one line that names the path, and nothing but a ReadError."""
    with pytest.raises(ReadError) as caught:
        read(path)
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith(str(path))
    assert caught.value.status == 3
    return said.removeprefix(str(path)).removeprefix(": ")


# ---- what must work, whatever it is called and wherever it lies ----


@pytest.mark.parametrize(
    ("name", "files", "format"),
    [
        ("model.mlpackage", package(), "mlpackage"),
        ("no suffix", package(), "mlpackage"),
        ("a folder", {"sub/deep/M.mlpackage/" + name: data for name, data in package().items()}, "mlpackage"),
        ("a folder", {"README.md": b"hello", "M.mlmodel": network()}, "mlmodel"),
        ("a folder", {"M.bin": network()}, "mlmodel"),
        ("a folder", {"m.mil": TEXT.encode()}, "mil"),
        ("c.mlmodelc", {"model.mil": TEXT.encode()}, "mlmodelc"),
    ],
)
def test_folders_and_their_archives(name: str, files: dict[str, bytes], format: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "here" / name, files)
    assert read(folder).format == format
    noisy = {f"__MACOSX/{name}/._{n.replace('/', '_')}": b"\0\5\x16\7" for n in files} | {".DS_Store": b"\0\0\0\1Bud1"}
    archive = pack(tmp_path / "some.zip", {f"{name}/{n}": data for n, data in files.items()} | noisy)
    assert read(archive).format == format
    disguised = archive.rename(tmp_path / "some.mlmodel")
    model = read(disguised)
    assert [operation.type for operation in model.operations()] == ["relu"]
    assert model.path == str(disguised)


@pytest.mark.parametrize("name", ["m.mlmodel", "m.bin", "m"])
def test_a_file_is_told_by_its_content(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(network())
    assert read(path).format == "mlmodel"
    path.write_bytes(b"\xef\xbb\xbf// a comment\n" + TEXT.encode())
    assert read(path).format == "mil"


def test_the_manifest_decides_where_the_specification_lies(tmp_path: Path) -> None:
    moved = package(Data__com_apple=None)
    moved["Data/elsewhere/Dog.mlmodel"] = moved.pop("Data/com.apple.CoreML/model.mlmodel")
    moved["Manifest.json"] = b"\xef\xbb\xbf" + manifest("elsewhere/Dog.mlmodel")
    assert read(write(tmp_path / "m.mlpackage", moved)).kind == "neuralNetwork"


# ---- what is not there ----


def test_missing_and_empty(tmp_path: Path) -> None:
    assert sentence(tmp_path / "none.mlmodel") == "there is no such file or folder; check the spelling"
    (tmp_path / "empty").mkdir()
    assert sentence(tmp_path / "empty").startswith("the folder is empty")
    (tmp_path / "empty.mlmodel").write_bytes(b"")
    assert sentence(tmp_path / "empty.mlmodel") == "the file is empty; copy or download it again"
    assert sentence(tmp_path / "empty.mlmodel" / "below").startswith("there is no such file or folder")


def test_a_foreign_folder_says_what_it_holds(tmp_path: Path) -> None:
    folder = write(tmp_path / "f", {"a.txt": b"", "b/c.py": b"", "d.md": b""})
    assert "there is no Core ML model in it (it holds a.txt, b/, d.md)" in sentence(folder)
    write(folder, {"b/weights.safetensors": b""})
    assert "no Core ML model in it, but safetensors weights (b/weights.safetensors)" in sentence(folder)
    saved = write(tmp_path / "s", {"saved_model.pb": b"", "variables/v": b""})
    assert "but a TensorFlow SavedModel (saved_model.pb); convert it" in sentence(saved)
    half = write(tmp_path / "h.mlpackage", package(**{"Manifest.json": None}))
    assert sentence(half).startswith("this looks like a package without its Manifest.json")


def test_links_to_elsewhere_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "other", {"B.mlmodel": network()})
    folder = write(tmp_path / "f", {"A.mlmodel": network()})
    (folder / "link").symlink_to(tmp_path / "other")
    (folder / "loop").symlink_to(tmp_path)
    assert read(folder).format == "mlmodel"


def test_several_models_are_named(tmp_path: Path) -> None:
    files = {f"m{i}.mlmodel": network() for i in range(7)} | {"p.mlpackage/" + n: d for n, d in package().items()}
    folder = write(tmp_path / "f", files)
    said = sentence(folder)
    assert said.startswith("there are 8 models in it: m0.mlmodel, m1.mlmodel, m2.mlmodel, m3.mlmodel, m4.mlmodel and 3")
    assert "give the path of one" in said
    assert sentence(pack(tmp_path / "f.zip", files)).startswith("there are 8 models in it")


# ---- packages ----


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"Manifest.json": b"{ not json"}, "/Manifest.json: invalid JSON at line 1, column 3"),
        ({"Manifest.json": b"\xff\xfe{}"}, "/Manifest.json: invalid JSON ("),
        ({"Manifest.json": b"[" * 200_000}, "/Manifest.json: invalid JSON (it is nested too deeply)"),
        ({"Manifest.json": b'{"itemInfoEntries": 1' + b"0" * 5000 + b"}"}, "/Manifest.json: "),
        ({"Manifest.json": b"[]"}, "/Manifest.json: the manifest has no itemInfoEntries"),
        ({"Manifest.json": b""}, "/Manifest.json: the file is empty"),
        ({"Manifest.json": POINTER}, "/Manifest.json: this is a Git LFS pointer"),
        (
            {"Manifest.json": b'{"itemInfoEntries": {}, "rootModelIdentifier": "x"}'},
            "/Manifest.json: the root model 'x' is not among the manifest's 0 entries",
        ),
        (
            {"Manifest.json": b'{"itemInfoEntries": {"x": 5}, "rootModelIdentifier": "x"}'},
            "/Manifest.json: the entry of the root model has no path",
        ),
        ({"Manifest.json": manifest("../../secret")}, "/Manifest.json: the path '../../secret' leaves the model"),
        ({"Manifest.json": manifest("/etc/passwd")}, "/Manifest.json: the path '/etc/passwd' leaves the model"),
        (
            {"Manifest.json": manifest("gone.mlmodel")},
            "names Data/gone.mlmodel as the specification, which is not there",
        ),
        ({"Manifest.json": manifest("com.apple.CoreML")}, "a file was expected, this is a folder"),
        (
            {"Data/com.apple.CoreML/model.mlmodel": POINTER},
            "/Data/com.apple.CoreML/model.mlmodel: this is a Git LFS pointer, not the model"
            " (the model itself has 123,456,789 bytes); fetch it with: git lfs pull",
        ),
        ({"Data/com.apple.CoreML/model.mlmodel": b""}, "/Data/com.apple.CoreML/model.mlmodel: the file is empty"),
        ({"Data/com.apple.CoreML/model.mlmodel": network()[:-3]}, "/Data/com.apple.CoreML/model.mlmodel: byte "),
    ],
)
def test_damaged_packages(changed: dict[str, bytes], expected: str, tmp_path: Path) -> None:
    assert expected in sentence(write(tmp_path / "m.mlpackage", package(**changed)))


def test_a_huge_manifest(tmp_path: Path) -> None:
    folder = write(tmp_path / "m.mlpackage", package(**{"Manifest.json": b" " * (5 << 20)}))
    assert "/Manifest.json: the file holds 5,242,880 bytes, more than the 4,194,304" in sentence(folder)


def test_links_that_leave_a_package(tmp_path: Path) -> None:
    secret = tmp_path / "secret.mlmodel"
    secret.write_bytes(network())
    folder = write(tmp_path / "m.mlpackage", package(**{"Data/com.apple.CoreML/model.mlmodel": None}))
    (folder / "Data" / "com.apple.CoreML").mkdir(parents=True)
    (folder / "Data/com.apple.CoreML/model.mlmodel").symlink_to(secret)
    assert f"model.mlmodel: a symbolic link to {secret}, outside the model" in sentence(folder)
    secret.unlink()
    assert "is not there" in sentence(folder)


# ---- files of other kinds ----


def pytorch() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr("archive/data/0", b"")
    return out.getvalue()


FOREIGN: dict[str, tuple[bytes, str]] = {
    "lfs.mlmodel": (POINTER, "this is a Git LFS pointer, not the model (the model itself has 123,456,789 bytes)"),
    "page.mlmodel": (b"\n<!DOCTYPE html><html>", "this is an HTML page, not a model; the download went wrong"),
    "page2.mlmodel": (b"<html lang='en'>", "this is an HTML page"),
    "xml": (b"<?xml version='1.0'?>", "this is an XML document"),
    "m.gguf": (b"GGUF\3\0\0\0" + bytes(40), "this is a GGUF model (llama.cpp), not a Core ML model; convert it"),
    "m.tflite": (b"\x1c\0\0\0TFL3" + bytes(40), "this is a TensorFlow Lite model, not a Core ML model; convert it"),
    "m.pte": (b"\x1c\0\0\0ET12" + bytes(40), "this is an ExecuTorch program"),
    "m.h5": (b"\x89HDF\r\n\x1a\n" + bytes(40), "this is an HDF5 file, perhaps a Keras model"),
    "m.pt": (pytorch(), "there is no Core ML model in it, but a PyTorch file (archive/data.pkl); convert it"),
    "old.pth": (pickle.dumps({"weight": [1, 2]}, 4), "this is a Python pickle, perhaps a PyTorch checkpoint"),
    "old2.pth": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "this is a Python pickle"),
    "m.safetensors": (
        (40).to_bytes(8, "little") + b'{"w":{"dtype":"F16","shape":[1],"x":1}}' + bytes(50),
        "this is a safetensors file (weights alone), not a Core ML model; convert it",
    ),
    "m.tar": (b"x" * 257 + b"ustar\x0000" + bytes(200), "this is a tar archive"),
    "m.tgz": (b"\x1f\x8b\x08" + bytes(40), "this is a gzip archive"),
    "Manifest.json": (manifest(), "this is the manifest of a package, not the package; give the .mlpackage folder"),
    "model.espresso.net": (b'{"layers": []}', "this is JSON text, not a Core ML model; give the .mlpackage"),
    "weight.bin": (b"\1\0\0\0\2\0\0\0" + bytes(56) + b"\xef\xbe\xad\xde", "this is the weight file of a model"),
    "image.png": (b"\x89PNG\r\n\x1a\n", "this is a PNG image"),
    "notes.txt": (b"Dear reader,\nthis is no model.\n", "this is text that begins with 'Dear reader,'"),
    "link.mlmodel": (b"../Models/real.mlmodel", "holds only the path '../Models/real.mlmodel': a symbolic link"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_files(name: str, tmp_path: Path) -> None:
    data, expected = FOREIGN[name]
    path = tmp_path / name
    path.write_bytes(data)
    assert expected in sentence(path)


def test_onnx(tmp_path: Path) -> None:
    """ModelProto of ONNX: ir_version 1, producer_name 2, graph 7, opset_import 8."""
    path = tmp_path / "m.onnx"
    graph = b"\x0a\x06\x0a\x01x\x22\x01R\x12\x01g"
    path.write_bytes(b"\x08\x08\x12\x07pytorch\x3a" + bytes([len(graph)]) + graph + b"\x42\x02\x10\x11")
    assert "this looks like an ONNX model; convert it to Core ML first" in sentence(path)
    path.write_bytes(b"\x08\x08\x3a" + bytes([len(graph)]) + graph + b"\x42\x02\x10\x11")
    assert "this looks like an ONNX model" in sentence(path)


@pytest.mark.parametrize("size", [1, 7, 100, 5000])
def test_noise(size: int, tmp_path: Path) -> None:
    import random

    for seed in range(50):
        path = tmp_path / "noise.mlmodel"
        path.write_bytes(random.Random(seed).randbytes(size))
        assert sentence(path)


def test_a_file_that_does_not_begin_like_a_model(tmp_path: Path) -> None:
    path = tmp_path / "m.bin"
    path.write_bytes(bytes([0xFE, 0x01, 0x02, 0x03, 0x04, 0xFF]))
    assert (
        sentence(path)
        == "this is no Core ML model: it begins with the bytes fe 01 02 03, a model with 08 and its version"
    )
    path.write_bytes(b"\x0a\x06\x0a\x01a\x12\x01b")  # a TensorFlow GraphDef
    assert sentence(path).startswith("this is no Core ML model: it begins with the bytes 0a 06")


def test_truncated_at_every_byte(tmp_path: Path) -> None:
    whole = network()
    path = tmp_path / "cut.mlmodel"
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        assert sentence(path)


def test_a_syntax_error_says_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "m.mil"
    path.write_text(TEXT.replace("relu(x = x)", "relu(x == x)"))
    with pytest.raises(ReadError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}:4:")
    path.write_bytes(TEXT.encode().replace(b"main", b"ma\xffin"))
    assert "is no UTF-8 text" in sentence(path)


# ---- archives ----


def test_hostile_archives(tmp_path: Path) -> None:
    path = tmp_path / "m.zip"
    assert "leaves the model" in sentence(pack(path, {"../m.mlmodel": network()}))
    assert "leaves the model" in sentence(pack(path, {"/m.mlmodel": network()}))
    assert "the folder is empty" in sentence(pack(path, {}))
    assert "there is no Core ML model in it (it holds a.zip" in sentence(pack(path, {"a.zip": b"PK", "b.zip": b"PK"}))
    link = zipfile.ZipInfo("m.mlmodel")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    assert "m.mlmodel: a symbolic link inside an archive is not followed" in sentence(path)
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("m.mlmodel", "w") as entry,
    ):
        for _ in range(100):
            entry.write(bytes(1 << 20))
    assert "out of proportion (a compression bomb?); it is not read" in sentence(path)


def test_nothing_is_written(tmp_path: Path) -> None:
    write(tmp_path / "m.mlpackage", package())
    pack(tmp_path / "m.zip", package())
    before = sorted(tmp_path.rglob("*"))
    read(tmp_path / "m.mlpackage")
    read(tmp_path / "m.zip")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.fixture
def without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """A file whose opening the system refuses (root may open anything, so the refusal is made)."""
    import os

    from anecompat.readers import source

    def refuse(name: str) -> Path:
        path = tmp_path / name
        path.write_bytes(network())

        def deny(*_: Any) -> int:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(source.os, "open", deny)
        assert os.path.exists(path)
        return path

    return refuse


def test_a_file_that_may_not_be_opened(without_permission: Callable[[str], Path]) -> None:
    assert sentence(without_permission("m.mlmodel")) == "the file cannot be opened (Permission denied)"

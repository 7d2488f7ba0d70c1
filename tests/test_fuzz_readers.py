"""Broken files by the thousand, and each one that ever ended badly: a model or one clear error, nothing else.

``tools/fuzz.py`` (make fuzz) runs the same for as long as it is told, and looks for inputs that reach new lines.
"""

from __future__ import annotations

import importlib.util
import random
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from anecompat.errors import ReadError
from anecompat.readers import read, wire

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def fuzz() -> Iterator[ModuleType]:
    pytest.importorskip("resource", reason="the fuzzer bounds memory by resource limits, which Windows has not")
    spec = importlib.util.spec_from_file_location("fuzz", ROOT / "tools" / "fuzz.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz"] = module
    spec.loader.exec_module(module)
    whole = wire.WHOLE
    yield module
    wire.WHOLE = whole
    del sys.modules["fuzz"]


@pytest.mark.parametrize("seed", range(6))
def test_whatever_the_bytes(seed: int, fuzz: ModuleType, tmp_path: Path) -> None:
    chance = random.Random(seed)
    seeds = [files for files in fuzz.seeds() if sum(map(len, files.values())) < 100_000]
    assert len(seeds) > 8
    for _ in range(250):
        files = fuzz.damaged(chance.choice(seeds), chance, seeds)
        path = fuzz.store(files, tmp_path / "try")
        said = fuzz.attempt(path, sum(map(len, files.values())), prune=chance.random() < 0.5)
        assert not said, (files, said)


def test_the_seeds_themselves_are_models(fuzz: ModuleType, tmp_path: Path) -> None:
    for files in fuzz._made():
        model = read(fuzz.store(files, tmp_path / "try"))
        fuzz.use(model)
        assert list(model.operations())


def test_the_fuzzer_sees_a_fault(fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that is none of ours, an error of two lines, and a reader that never ends."""
    path = tmp_path / "x"
    path.write_bytes(b"")

    def fails(error: BaseException) -> Callable[..., None]:
        def fail(*_: object, **__: object) -> None:
            raise error

        return fail

    monkeypatch.setattr(fuzz.readers, "read", fails(KeyError("bug")))
    assert "KeyError: 'bug'" in fuzz.attempt(path, 0)
    monkeypatch.setattr(fuzz.readers, "read", fails(fuzz.AnecompatError("two\nlines")))
    assert "several lines" in fuzz.attempt(path, 0)
    monkeypatch.setattr(fuzz, "SECONDS_FREE", 0.05)

    def endless(*_: object, **__: object) -> None:
        while True:
            pass

    monkeypatch.setattr(fuzz.readers, "read", endless)
    assert "no end after" in fuzz.attempt(path, 0)


# ---- what the fuzzer found ----


def test_control_characters_in_names_are_escaped(fuzz: ModuleType, tmp_path: Path) -> None:
    message = fuzz._program()
    operations = message.mlProgram.functions["main"].block_specializations["CoreML6"].operations
    operations[0].outputs[0].name = "evil\nname\x1b[31m\u202e"
    operations[0].ClearField("attributes")
    path = tmp_path / "m.mlmodel"
    path.write_bytes(message.SerializeToString())
    with pytest.raises(ReadError) as caught:
        read(path)
    assert r"evil\nname\x1b[31m\u202e" in str(caught.value)
    assert str(caught.value).isprintable()


def test_an_archive_entry_without_a_name(tmp_path: Path) -> None:
    """zipfile's own ``is_dir`` fails on it."""
    path = tmp_path / "m.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", b"data")
    data = path.read_bytes()
    directory, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    entry = data[:26] + b"\0\0" + data[28:30] + data[31:directory]
    listed = data[directory : directory + 28] + b"\0\0" + data[directory + 30 : directory + 46]
    size_and_offset = struct.pack("<II", len(listed), len(entry))
    path.write_bytes(entry + listed + data[end : end + 12] + size_and_offset + data[end + 20 :])
    with pytest.raises(ReadError, match="the folder is empty"):
        read(path)

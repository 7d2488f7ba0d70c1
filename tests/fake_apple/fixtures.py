"""The stand-ins as fixtures, and the scripts of stand-in models. A test file imports what it uses from here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fake_apple import build as standins_build

DTYPES = {"fp16": 65552, "fp32": 65568, "fp64": 65600, "int32": 131104, "int8": 131080}
Build = Callable[..., Path]


@pytest.fixture(scope="session")
def build_standins(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Builds the stand-ins with the options given, once for each choice of options."""
    reason = standins_build.missing()
    if reason:
        pytest.skip(f"the stand-ins for Apple's frameworks cannot be built: {reason}")
    built: dict[tuple[str, ...], Path] = {}

    def build(*options: str) -> Path:
        if options not in built:
            built[options] = standins_build.build(tmp_path_factory.mktemp("standins"), *options)
        return built[options]

    return build


@pytest.fixture
def standins(build_standins: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The stand-ins, in use; the control model reaches the engine."""
    return use(build_standins(), monkeypatch, tmp_path)


def use(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, control: dict[str, Any] | None = None) -> Path:
    """Put the stand-ins in use. ``control`` is the script of models that have none of their own."""
    monkeypatch.setenv("ANECOMPAT_FRAMEWORKS", str(folder))
    script = tmp_path / "control.json"
    script.write_text(json.dumps(control or CONTROL))
    monkeypatch.setenv("STANDIN_SCRIPT", str(script))
    return folder


def array(*shape: int, dtype: str = "fp32", **more: Any) -> dict[str, Any]:
    return {"type": 5, "shape": list(shape), "dataType": DTYPES[dtype], **more}


def key(inputs: dict[str, list[int]], outputs: dict[str, list[int]], isegment: int = 0) -> dict[str, Any]:
    sides = ({name: {"shape": shape} for name, shape in side.items()} for side in (inputs, outputs))
    return {"isegment": isegment, **dict(zip(("inputs", "outputs"), sides, strict=True))}


def step(inputs: str, outputs: str, isegment: int = 0, **more: Any) -> dict[str, Any]:
    """A segment from and to tensors named in one word each, comma-separated."""
    shape = [4, 4, 1, 3, 1]
    names = [dict.fromkeys(side.split(","), shape) for side in (inputs, outputs)]
    return {"ane": key(names[0], names[1], isegment), **more}


CONTROL = {
    "inputs": {"x": array(1, 4)},
    "outputs": {"y": array(1, 4)},
    "steps": [{"ane": key({"x": [4, 1, 1, 1, 1]}, {"y": [4, 1, 1, 1, 1]})}],
}
SILENT_CONTROL = {"inputs": {"x": array(1, 4)}, "outputs": {"y": array(1, 4)}, "steps": []}


def scripted(folder: Path, name: str = "model.mlpackage", **script: Any) -> Path:
    """A model that exists only as a script: x (1, 3, 4, 4) to y, if nothing else is said."""
    model = folder / name
    model.mkdir(parents=True, exist_ok=True)
    script.setdefault("inputs", {"x": array(1, 3, 4, 4)})
    script.setdefault("outputs", {"y": array(1, 3, 4, 4)})
    (model / "standin.json").write_text(json.dumps(script))
    return model


def in_process(code: str, folder: Path, *arguments: str, timeout: float = 120) -> str:
    """Run Python code in a process of its own, with the stand-ins in use; its output."""
    environment = {**os.environ, "ANECOMPAT_FRAMEWORKS": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=timeout, env=environment
    )
    assert done.returncode == 0, f"ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout

"""Two fingerprints of a model: of its bytes, and of its graph without weights, names of files and places."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from anecompat import ir

_CHUNK = 1 << 20


def model_digest(path: str | Path) -> str:
    """SHA-256 over a model file, or over every file of a model folder with its name inside the folder."""
    root = Path(path)
    digest = hashlib.sha256()
    files = sorted(file for file in root.rglob("*") if file.is_file()) if root.is_dir() else [root]
    for file in files:
        if root.is_dir():
            digest.update(f"{file.relative_to(root).as_posix()}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


def structure_digest(model: ir.Model) -> str:
    """SHA-256 over the graph: operations, their arguments by name, the types; two trainings of one network agree."""
    digest = hashlib.sha256()
    for line in _lines(model):
        digest.update(line.encode("utf-8", "replace") + b"\n")
    return f"sha256:{digest.hexdigest()}"


def _lines(model: ir.Model) -> Iterator[str]:
    for stage, leaf in model.walk_stages():
        yield f"model {stage} {leaf.kind}"
        for function in leaf.functions:
            yield f"function {function.name} {function.opset}"
            yield from _block_lines(function.body)


def _block_lines(block: ir.Block) -> Iterator[str]:
    yield "inputs " + " ".join(f"{value.name}:{value.type}" for value in block.inputs)
    for operation in block.operations:
        arguments = " ".join(
            f"{name}=" + ",".join(f"{value.type}" if value.const else value.name for value in values)
            for name, values in sorted(operation.inputs.items())
        )
        results = " ".join(f"{value.name}:{value.type}" for value in operation.outputs)
        yield f"{operation.type} {arguments} -> {results}"
        for nested in operation.blocks:
            yield from _block_lines(nested)
    yield "outputs " + " ".join(value.name for value in block.outputs)

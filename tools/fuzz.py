"""Feed broken files: whatever the bytes, a report or one clear error, in bounded time and memory.

    python tools/fuzz.py --seconds 600 [--found FOLDER] [--seed N]

Inputs start from small models made here, from the examples, and from ../shared/models where it is. They are damaged at
random; those that reach new lines of the readers are kept as parents of further ones. An input that ends in anything
but a model or an AnecompatError, or takes longer than its bytes allow, is written to FOLDER and ends the run with 1.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from anecompat import readers
from anecompat.checking import check_model
from anecompat.errors import AnecompatError
from anecompat.ir import Model, Unknown
from anecompat.measured import from_analytics, is_analytics_file
from anecompat.proto import Model as ModelMessage
from anecompat.readers import wire
from anecompat.readers.analytics import read_analytics
from anecompat.targets import parse_targets

ROOT = Path(__file__).resolve().parent.parent
READERS = str(Path(readers.__file__).parent)
SECONDS_FREE, SECONDS_PER_BYTE = 3.0, 1e-4  # a noisy machine, and the walk's microseconds with room
MOST_MEMORY = 4 << 30
MOST_SEED = 400_000  # bytes: larger files are slow to damage and say no more
MOST_PARENTS = 3000

TARGETS = parse_targets(["M1@macos14", "M4"])

Files = dict[str, bytes]  # an input: one file named "", or a folder


class TooSlow(BaseException):
    """The time that an input's bytes allow has passed. No Exception, so that no reader swallows it."""


# ---- where inputs start ----


def seeds() -> list[Files]:
    """Inputs of every container and kind, smallest first."""
    made = [*_made(), *_from_folder(ROOT / "examples")]
    shared = Path(os.environ.get("ANECOMPAT_SHARED", ROOT.parent / "shared")) / "models"
    if shared.is_dir():
        for folder in sorted(shared.iterdir()):
            made += _from_folder(folder)
    made.sort(key=lambda files: sum(map(len, files.values())))
    return made


def _from_folder(folder: Path) -> Iterator[Files]:
    for entry in sorted(folder.iterdir()) if folder.is_dir() else []:
        if entry.is_file() and entry.stat().st_size <= MOST_SEED and entry.suffix in (".mlmodel", ".mil"):
            yield {"": entry.read_bytes()}
        elif entry.suffix in (".mlpackage", ".mlmodelc"):
            files = {
                str(path.relative_to(entry)): path.read_bytes()
                for path in sorted(entry.rglob("*"))
                if path.is_file() and path.stat().st_size <= MOST_SEED and path.suffix != ".bin"
            } | {
                str(path.relative_to(entry)): path.read_bytes()[:MOST_SEED]
                for path in sorted(entry.rglob("*.bin"))
                if path.is_file()
            }
            if any(name != "Manifest.json" for name in files):
                yield files


def _made() -> Iterator[Files]:
    network = _network()
    program = _program()
    pipeline = ModelMessage(specificationVersion=5)
    pipeline.pipeline.names.extend(["a", "b", "c"])
    for stage in (network, program):
        pipeline.pipeline.models.add().CopyFrom(stage)
    pipeline.pipeline.models.add().treeEnsembleRegressor.SetInParent()
    for message in (network, program, pipeline):
        yield {"": message.SerializeToString()}
    manifest = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": {
            "1": {"author": "com.apple.CoreML", "name": "model.mlmodel", "path": "com.apple.CoreML/model.mlmodel"},
            "2": {"author": "com.apple.CoreML", "name": "weights", "path": "com.apple.CoreML/weights"},
        },
        "rootModelIdentifier": "1",
    }
    package = {
        "Manifest.json": json.dumps(manifest).encode(),
        "Data/com.apple.CoreML/model.mlmodel": program.SerializeToString(),
        "Data/com.apple.CoreML/weights/weight.bin": _weights(),
    }
    yield package
    yield {"": ANALYTICS.encode()}
    yield {"": _packed(package, zipfile.ZIP_DEFLATED)}
    yield {"": _packed({"M.mlmodel": network.SerializeToString()}, zipfile.ZIP_STORED)}
    yield {"": TEXT.encode()}
    yield {"model.mil": TEXT.encode(), "metadata.json": b'[{"specificationVersion": 7, "outputSchema": []}]'}
    yield {
        "model.espresso.net": json.dumps(NETWORK).encode(),
        "model.espresso.shape": json.dumps({"layer_shapes": {"x": dict.fromkeys("nkhw", 4)}}).encode(),
    }


TEXT = """program(1.0)
[buildInfo = dict<tensor<string, []>, tensor<string, []>>({{"a", "b"}})]
{
    func main<ios16>(tensor<fp16, [1, ?, 4, 4]> x, state<tensor<fp16, [4]>> s) {
        tensor<int32, [2]> st = const()[name = tensor<string, []>("st"), val = tensor<int32, [2]>([1, 1])];
        tensor<fp16, [2, 3, 1, 1]> w = const()[val = tensor<fp16, [2, 3, 1, 1]>(BLOBFILE(path =
            tensor<string, []>("@model_path/weights/weight.bin"), offset = tensor<uint64, []>(64)))];
        tensor<fp16, [1, 2, 4, 4]> y = conv(x = x, weight = w, strides = st)[name = tensor<string, []>("y")];
        tensor<fp16, [1, 4, 4, 4]> z = concat(values = (y, y), axis = int32(1), interleave = bool(false));
        tensor<fp16, []> h = const()[val = tensor<fp16, []>(0x1.8p-3)];
    } -> (z);
}
"""
NETWORK = {
    "format_version": 200,
    "storage": "model.espresso.weights",
    "layers": [
        {"name": "c", "type": "convolution", "bottom": "x", "top": "c", "Nx": 3, "Ny": 3, "C": 4, "K": 4, "pad_t": 1},
        {"name": "r", "type": "activation", "bottom": "c", "top": "r", "mode": 0, "attributes": {"is_output": 1}},
        {"name": "p", "type": "pool", "bottom": "r", "top": "p", "size_x": 2, "size_y": 2, "stride_x": 2},
    ],
}


BACKENDS = 'BackendSupport = list<string, 3>(["bnns", "classic_cpu", "ane"])'
ANALYTICS = f"""program(1.3)
{{
    func main<ios18>(tensor_buffer<fp16, shape=[1, 8, 4, 4], strides=[128, 16, 4, 1]> x0)
        [Launch_ane_ms = fp64(0x1p-3)] {{
        tensor<fp16, [1, 8, 4, 4]> x1 = tensor_buffer_to_tensor<ios17>(input = x0)[{BACKENDS}];
        tensor<fp16, [1, 8, 4, 4]> y = cosh(x = x1)[{BACKENDS}, SelectedBackend = string("bnns"), EstimatedRuntime =
            dict<string, fp64>({{{{"bnns", 0.004}}}}), ValidationMessage = dict<string, string>({{{{"ane", "no"}}}})];
    }} -> (y);
}}
"""


def _network() -> Any:
    model = ModelMessage(specificationVersion=4)
    given = model.description.input.add(name="x").type.multiArrayType
    given.shape.extend([3, 8, 8])
    for least, most in ((3, 3), (8, 64), (8, -1)):
        given.shapeRange.sizeRanges.add(lowerBound=least, upperBound=most)
    model.description.output.add(name="y").type.multiArrayType.shape.append(4)
    layers = model.neuralNetwork.layers
    convolution = layers.add(name="c", input=["x"], output=["c"]).convolution
    convolution.outputChannels, convolution.kernelChannels = 4, 3
    convolution.kernelSize.extend([3, 3])
    convolution.same.SetInParent()
    convolution.weights.floatValue.extend([0.5] * 108)
    layers.add(name="p", input=["c"], output=["p"]).pooling.globalPooling = True
    layers.add(name="f", input=["p"], output=["f"]).flatten.SetInParent()
    layers.add(name="i", input=["f"], output=["i"]).innerProduct.outputChannels = 4
    layers.add(name="s", input=["i"], output=["y"]).softmax.SetInParent()
    return model


def _typed(message: Any, dtype: int, *dims: int) -> Any:
    message.tensorType.dataType = dtype
    message.tensorType.rank = len(dims)
    for dim in dims:
        message.tensorType.dimensions.add().constant.size = dim
    return message


def _program() -> Any:
    model = ModelMessage(specificationVersion=7)
    model.description.input.add(name="x").type.multiArrayType.shape.extend([1, 4])
    model.description.output.add(name="z").type.multiArrayType.shape.extend([1, 4])
    function = model.mlProgram.functions["main"]
    function.opset = "CoreML6"
    _typed(function.inputs.add(name="x").type, 10, 1, 4)
    block = function.block_specializations["CoreML6"]
    for name, dtype, dims in (("p", 1, ()), ("w", 10, (4, 4)), ("a", 23, (2,)), ("t", 2, ()), ("q", 25, (4,))):
        const = block.operations.add(type="const")
        _typed(const.outputs.add(name=name).type, dtype, *dims)
        value = const.attributes["val"]
        _typed(value.type, dtype, *dims)
        tensor = value.immediateValue.tensor
        if name == "w":
            value.blobFileValue.fileName, value.blobFileValue.offset = "@model_path/weights/weight.bin", 64
        elif name == "p":
            tensor.bools.values.append(True)
        elif name == "a":
            tensor.ints.values.extend([0, 1])
        elif name == "t":
            tensor.strings.values.append("same")
        else:
            tensor.bytes.values = b"\x12\x34"
    linear = block.operations.add(type="linear")
    linear.inputs["x"].arguments.add().name = "x"
    linear.inputs["weight"].arguments.add().name = "w"
    _typed(linear.outputs.add(name="y").type, 10, 1, 4)
    cond = block.operations.add(type="cond")
    cond.inputs["pred"].arguments.add().name = "p"
    for kind in ("relu", "exp"):
        inner = cond.blocks.add()
        operation = inner.operations.add(type=kind)
        operation.inputs["x"].arguments.add().name = "y"
        _typed(operation.outputs.add(name=f"{kind}_y").type, 10, 1, 4)
        inner.outputs.append(f"{kind}_y")
    _typed(cond.outputs.add(name="z").type, 10, 1, 4)
    block.outputs.append("z")
    return model


def _weights() -> bytes:
    record = (0xDEADBEEF).to_bytes(4, "little") + (1).to_bytes(4, "little") + (32).to_bytes(8, "little")
    header = (1).to_bytes(4, "little") + (2).to_bytes(4, "little")
    return header.ljust(64, b"\0") + (record + (128).to_bytes(8, "little")).ljust(64, b"\0") + bytes(32)


def _packed(files: Files, method: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), data, method)
    return out.getvalue()


# ---- how they are damaged ----

NUMBERS = (b"\xff" * 9 + b"\x01", b"\xff" * 10, b"\x80" * 12, b"\xff\xff\xff\xff\x07", b"\xff\xff\xff\xff\x0f", b"\x00")
WORDS = (
    b"-1",
    b"0",
    b"99999999999999999999",
    b"1e999",
    b"nan",
    b"-inf",
    b"0x1p-9999999",
    b'""',
    b"null",
    b"{}",
    b"[]",
    b'"\\ud800"',
    b"../../../etc/passwd",
    b"/etc/passwd",
    b"?",
    b"...",
    b"BLOBFILE",
    b"tensor<fp16, [1]>",
    b"\\",
    b"\xff\xfe",
)
NESTED = (b"[", b"(", b"{", b'{"a":', b"tensor<", b"list<", b"{{", b"cond(")


def damaged(files: Files, chance: random.Random, others: list[Files]) -> Files:
    """A copy with one to a few faults."""
    found = dict(files)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        name = chance.choice(sorted(found))
        if len(found) > 1 and chance.random() < 0.02:
            del found[name]
            continue
        data = bytearray(found[name])
        spoil = chance.choice((_bits, _bits, _bytes, _cut, _repeat, _number, _splice, _text, _text, _length))
        if spoil is _splice:
            other = chance.choice(others)
            _splice(data, chance, other[chance.choice(sorted(other))])
        else:
            spoil(data, chance)
        found[name] = bytes(data[: 4 * MOST_SEED])
    return found


def _at(data: bytearray, chance: random.Random) -> int:
    return chance.randrange(len(data) + 1)


def _bits(data: bytearray, chance: random.Random, _: bytes = b"") -> None:
    for _ in range(chance.choice((1, 1, 2, 8))):
        if data:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _bytes(data: bytearray, chance: random.Random, _: bytes = b"") -> None:
    at = _at(data, chance)
    data[at : at + chance.randrange(4)] = chance.randbytes(chance.randrange(5))


def _cut(data: bytearray, chance: random.Random, _: bytes = b"") -> None:
    at = _at(data, chance)
    if chance.random() < 0.4:
        del data[at:]
    else:
        del data[at : at + chance.randrange(1, 200)]


def _repeat(data: bytearray, chance: random.Random, _: bytes = b"") -> None:
    at = _at(data, chance)
    piece = bytes(data[at : at + chance.randrange(1, 300)])
    data[at:at] = piece * chance.choice((1, 2, 5, 300))


def _number(data: bytearray, chance: random.Random, _: bytes = b"") -> None:
    at = _at(data, chance)
    data[at : at + chance.randrange(3)] = chance.choice(NUMBERS)


def _length(data: bytearray, chance: random.Random, _: bytes = b"") -> None:
    """A byte a little larger or smaller: lengths that no longer fit."""
    if data:
        at = chance.randrange(len(data))
        data[at] = (data[at] + chance.choice((-3, -2, -1, 1, 2, 3, 64))) % 256


def _splice(data: bytearray, chance: random.Random, other: bytes = b"") -> None:
    if other:
        begin = chance.randrange(len(other))
        at = _at(data, chance)
        data[at : at + chance.choice((0, 0, 50))] = other[begin : begin + chance.randrange(1, 2000)]


def _text(data: bytearray, chance: random.Random, _: bytes = b"") -> None:
    """A word of the text replaced, or a thousand brackets opened."""
    if chance.random() < 0.1:
        at = _at(data, chance)
        data[at:at] = chance.choice(NESTED) * chance.choice((3, 150, 5000))
        return
    words = [found.span() for found in re.finditer(rb"[\w.]+|[^\w\s]", bytes(data[:100_000]))]
    if words:
        begin, end = chance.choice(words)
        other = chance.choice(words)
        data[begin:end] = chance.choice((*WORDS, bytes(data[other[0] : other[1]]), b""))


# ---- how they are tried ----


def store(files: Files, folder: Path) -> Path:
    """The input on disk, alone in ``folder``: a file, or a folder of files."""
    shutil.rmtree(folder, ignore_errors=True)
    if "" in files:
        folder.mkdir(parents=True)
        path = folder / "input"
        path.write_bytes(files[""])
        return path
    path = folder / "input"
    path.mkdir(parents=True)
    for name, data in files.items():
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return path


def use(model: Model) -> None:
    """Ask the model all that a rule might: nothing lazy may hide a fault."""
    model.histogram()
    for _, leaf in model.walk_stages():
        for function in leaf.functions:
            for operation in function.body.walk():
                repr(operation)
                for value in (*operation.outputs, *(each for bound in operation.inputs.values() for each in bound)):
                    str(value.type)
                    if value.const is not None:
                        with contextlib.suppress(Unknown):
                            value.const.values()


def attempt(path: Path, size: int, prune: bool = False) -> str:
    """ "" where reading ends as it should, else what went wrong."""
    allowed = SECONDS_FREE + size * SECONDS_PER_BYTE

    def ring(*_: object) -> None:
        raise TooSlow

    wire.WHOLE = -1 if prune else 1 << 20  # half of the inputs are walked as large files are
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, allowed)
    try:
        model = readers.read(path, verify_weights=True)
        use(model)
        check_model(model, TARGETS).to_json()
        if is_analytics_file(str(path)):
            from_analytics(read_analytics(path.read_text("utf-8", "replace"), str(path)), str(path)).to_json()
    except AnecompatError as error:
        return f"an error of several lines: {error!r}" if "\n" in str(error) or not str(error) else ""
    except TooSlow:
        return f"no end after {allowed:.1f} s for {size:,} bytes\n{traceback.format_exc()}"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return ""


class Lines:
    """Which lines of the readers have run: what steers the search."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, int, int]] = set()
        self.new = False
        self._last = 0

    def __call__(self, frame: FrameType, event: str, _: Any) -> Lines | None:
        if not frame.f_code.co_filename.startswith(READERS):
            return None
        step = (frame.f_code.co_filename, self._last, frame.f_lineno)
        self._last = frame.f_lineno
        if step not in self.seen:
            self.seen.add(step)
            self.new = True
        return self


def fuzz(seconds: float, found: Path, seed: int) -> int:
    """Try inputs for a time. Returns how many went wrong; they lie in ``found`` with what was said."""
    chance = random.Random(seed)
    parents = seeds()
    others = list(parents)
    lines = Lines()
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    end = time.monotonic() + seconds
    tried, wrong, known = 0, 0, set()
    with tempfile.TemporaryDirectory() as scratch:
        for index in range(sys.maxsize):
            if time.monotonic() > end:
                break
            if index < len(others):
                files = others[index]
            else:
                # Newer and smaller parents more often: they are where the search is.
                parent = parents[-1 - int(len(parents) * chance.random() ** 2)]
                files = damaged(parent, chance, others)
            size = sum(map(len, files.values()))
            path = store(files, Path(scratch) / "try")
            lines.new = False
            traced = size < 20_000
            if traced:
                sys.settrace(lines)
            said = attempt(path, size, chance.random() < 0.5)
            sys.settrace(None)
            tried += 1
            if traced and lines.new and index >= len(others) and len(parents) < MOST_PARENTS:
                parents.append(files)
            if said:
                last = said.strip().splitlines()
                where = "".join(line for line in last if line.startswith("  File"))[-300:]
                if (where, last[-1][:60]) in known:
                    continue
                known.add((where, last[-1][:60]))
                wrong += 1
                digest = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()[:12]
                kept = found / digest
                store(files, kept)
                (kept / "said.txt").write_text(said)
                print(f"{kept}: {last[-1][:200]}", file=sys.stderr)
    print(f"{tried:,} inputs, {len(parents) - len(others):,} of them new, {wrong} faults (seed {seed})")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--found", type=Path, default=ROOT / "build" / "fuzz")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    return 1 if fuzz(arguments.seconds, arguments.found, arguments.seed) else 0


if __name__ == "__main__":
    sys.exit(main())

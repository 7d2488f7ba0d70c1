"""Large models for the benchmark, written in seconds: their weights are holes in sparse files, their graphs are real.

    python tools/large_models.py FOLDER

Everything is made with our own declarations of the Core ML format, so nothing needs coremltools.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from anecompat.proto import Model

FP16, INT32, STRING, BOOL, FP32 = 10, 23, 2, 1, 11


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def length_delimited(field: int, payload: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(payload)) + payload


def legacy_network(path: Path, megabytes: int = 500, layers: int = 40) -> None:
    """A .mlmodel whose convolutions carry their weights as packed floats inside the protobuf: holes on disk."""
    channels = int((megabytes * 1_000_000 / layers / 4 / 9) ** 0.5)
    each = channels * channels * 9 * 4
    model = Model()
    model.specificationVersion = 1
    feature = model.description.input.add()
    feature.name = "image"
    feature.type.multiArrayType.shape.extend([channels, 28, 28])
    feature.type.multiArrayType.dataType = 65568
    result = model.description.output.add()
    result.name = f"c{layers - 1}"
    result.type.multiArrayType.dataType = 65568
    head = model.SerializeToString()
    bodies: list[bytes] = []
    for number in range(layers):
        empty = Model()
        layer = empty.neuralNetwork.layers.add()
        layer.name = f"c{number}"
        layer.input.append("image" if number == 0 else f"c{number - 1}")
        layer.output.append(f"c{number}")
        convolution = layer.convolution
        convolution.outputChannels = channels
        convolution.kernelChannels = channels
        convolution.nGroups = 1
        convolution.kernelSize.extend([3, 3])
        convolution.stride.extend([1, 1])
        convolution.dilationFactor.extend([1, 1])
        convolution.same.asymmetryMode = 0
        plain = layer.SerializeToString()
        inner = convolution.SerializeToString()
        start = plain.index(inner)
        # weights = field 90 of the convolution, floatValue = field 1 of the weights
        floats = varint(1 << 3 | 2) + varint(each)
        weights = varint(90 << 3 | 2) + varint(len(floats) + each) + floats
        grown = len(inner) + len(weights) + each
        tag = varint(layer.DESCRIPTOR.fields_by_name["convolution"].number << 3 | 2)
        before = plain[: start - len(varint(len(inner))) - len(tag)]
        assert plain[start + len(inner) :] == b""
        bodies.append(before + tag + varint(grown) + inner + weights)
    network_field = model.DESCRIPTOR.fields_by_name["neuralNetwork"].number
    layer_tag = varint(1 << 3 | 2)
    total = sum(len(layer_tag) + len(varint(len(front) + each)) + len(front) + each for front in bodies)
    with open(path, "wb") as file:
        file.write(head + varint(network_field << 3 | 2) + varint(total))
        for front in bodies:
            file.write(layer_tag + varint(len(front) + each) + front)
            file.seek(each, 1)
        file.truncate(file.tell())


def program(operations: int, *, weights: int = 0) -> tuple[Any, int]:
    """An mlProgram of convolution, relu, add, mul and softmax blocks; ``weights`` channels decide the blobs' size."""
    channels = weights or 64
    model = Model()
    model.specificationVersion = 8
    for described, name in ((model.description.input, "x"), (model.description.output, "out")):
        feature = described.add()
        feature.name = name
        feature.type.multiArrayType.shape.extend([1, channels, 32, 32])
        feature.type.multiArrayType.dataType = 65552
    function = model.mlProgram.functions["main"]
    model.mlProgram.version = 1
    function.opset = "CoreML7"
    _typed(function.inputs.add(), "x", FP16, (1, channels, 32, 32))
    block = function.block_specializations["CoreML7"]
    offset = 64
    previous = "x"
    for number in range(operations // 5):
        weight = f"w{number}"
        const = _operation(block, "const", weight, FP16, (channels, channels, 1, 1))
        blob = const.attributes["val"]
        _tensor_type(blob.type, FP16, (channels, channels, 1, 1))
        blob.blobFileValue.fileName = "@model_path/weights/weight.bin"
        blob.blobFileValue.offset = offset
        offset += 64 + 2 * channels * channels
        _string(block, f"pad{number}", "valid")
        conv = _operation(block, "conv", f"c{number}", FP16, (1, channels, 32, 32))
        _bind(conv, x=previous, weight=weight, pad_type=f"pad{number}")
        relu = _operation(block, "relu", f"r{number}", FP16, (1, channels, 32, 32))
        _bind(relu, x=f"c{number}")
        added = _operation(block, "add", f"a{number}", FP16, (1, channels, 32, 32))
        _bind(added, x=previous, y=f"r{number}")
        scale = _operation(block, "const", f"s{number}", FP16, ())
        _tensor_type(scale.attributes["val"].type, FP16, ())
        scale.attributes["val"].immediateValue.tensor.bytes.values = b"\x00\x3c"
        scaled = _operation(block, "mul", f"m{number}", FP16, (1, channels, 32, 32))
        _bind(scaled, x=f"a{number}", y=f"s{number}")
        axis = _operation(block, "const", f"x{number}", INT32, ())
        _tensor_type(axis.attributes["val"].type, INT32, ())
        axis.attributes["val"].immediateValue.tensor.ints.values.append(1)
        last = number == operations // 5 - 1
        soft = _operation(block, "softmax", "out" if last else f"o{number}", FP16, (1, channels, 32, 32))
        _bind(soft, x=f"m{number}", axis=f"x{number}")
        previous = f"o{number}"
    block.outputs.append("out")
    return model, offset


def _tensor_type(type: Any, dtype: int, shape: tuple[int, ...]) -> None:
    tensor = type.tensorType
    tensor.dataType = dtype
    tensor.rank = len(shape)
    for size in shape:
        tensor.dimensions.add().constant.size = size


def _typed(named: Any, name: str, dtype: int, shape: tuple[int, ...]) -> None:
    named.name = name
    _tensor_type(named.type, dtype, shape)


def _operation(block: Any, type: str, output: str, dtype: int, shape: tuple[int, ...]) -> Any:
    operation = block.operations.add()
    operation.type = type
    _typed(operation.outputs.add(), output, dtype, shape)
    name = operation.attributes["name"]
    _tensor_type(name.type, STRING, ())
    name.immediateValue.tensor.strings.values.append(output)
    return operation


def _string(block: Any, name: str, text: str) -> None:
    const = _operation(block, "const", name, STRING, ())
    value = const.attributes["val"]
    _tensor_type(value.type, STRING, ())
    value.immediateValue.tensor.strings.values.append(text)


def _bind(operation: Any, **names: str) -> None:
    for argument, name in names.items():
        operation.inputs[argument].arguments.add().name = name


def package(path: Path, operations: int, *, weights: int = 0) -> None:
    """A .mlpackage of such a program, its weight file a hole."""
    model, size = program(operations, weights=weights)
    place = path / "Data" / "com.apple.CoreML"
    (place / "weights").mkdir(parents=True, exist_ok=True)
    (place / "model.mlmodel").write_bytes(model.SerializeToString())
    with open(place / "weights" / "weight.bin", "wb") as file:
        file.truncate(size)
    entries = {
        "spec": {"author": "com.apple.CoreML", "name": "model.mlmodel", "path": "com.apple.CoreML/model.mlmodel"},
        "weights": {"author": "com.apple.CoreML", "name": "weights", "path": "com.apple.CoreML/weights"},
    }
    manifest = {"fileFormatVersion": "1.0.0", "itemInfoEntries": entries, "rootModelIdentifier": "spec"}
    (path / "Manifest.json").write_text(json.dumps(manifest))


def mil_text(operations: int) -> Iterator[str]:
    """The same program as MIL text, as Core ML's compiler writes it."""
    shape = "tensor<fp16, [1, 64, 32, 32]>"
    yield "program(1.0)\n[buildInfo = dict<tensor<string, []>, tensor<string, []>>("
    yield '{{"coremlc-component-MIL", "3500.14.1"}})]\n{\n'
    yield f"    func main<ios17>({shape} x) {{\n"
    previous, offset = "x", 64
    for n in range(operations // 5):
        name = (
            f'name = tensor<string, []>("encoder_layers_{n}_self_attention_output_dense_residual_normalization_layer")'
        )
        yield f'            tensor<string, []> pad_{n} = const()[{name}, val = tensor<string, []>("valid")];\n'
        yield (
            f"            tensor<fp16, [64, 64, 1, 1]> w_{n} = const()[{name}, "
            "val = tensor<fp16, [64, 64, 1, 1]>(BLOBFILE("
            f'path = tensor<string, []>("@model_path/weights/weight.bin"), offset = tensor<uint64, []>({offset})))];\n'
        )
        yield f"            {shape} c_{n} = conv(pad_type = pad_{n}, weight = w_{n}, x = {previous})[{name}];\n"
        yield f"            {shape} r_{n} = relu(x = c_{n})[{name}];\n"
        yield f"            {shape} a_{n} = add(x = {previous}, y = r_{n})[{name}];\n"
        yield f"            tensor<fp16, []> s_{n} = const()[{name}, val = tensor<fp16, []>(0x1p+0)];\n"
        yield f"            {shape} m_{n} = mul(x = a_{n}, y = s_{n})[{name}];\n"
        yield f"            tensor<int32, []> axis_{n} = const()[{name}, val = tensor<int32, []>(1)];\n"
        yield f"            {shape} o_{n} = softmax(axis = axis_{n}, x = m_{n})[{name}];\n"
        previous, offset = f"o_{n}", offset + 64 + 8192
    yield f"        }} -> ({previous});\n}}\n"


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    legacy_network(folder / "legacy500.mlmodel")
    legacy_network(folder / "legacy1.mlmodel", megabytes=1)
    package(folder / "weights1g.mlpackage", 160, weights=4096)
    for operations in (5000, 10000, 20000, 40000):
        package(folder / f"ops{operations}.mlpackage", operations)
    (folder / "ops20000.mil").write_text("".join(mil_text(20000)))


if __name__ == "__main__":
    main()

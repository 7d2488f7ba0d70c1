"""Control models: made here, known to be the engine's own ground, run to prove that the hook fires in this process.

Six 3 x 3 convolutions of 128 channels on 64 x 64 pixels: 7 GFLOP, which no segmenter leaves to the CPU when it may not
use the GPU (the published costs of an M4 give the engine a hundredfold lead there, against 0.25 ms to enter it). One
control for each road to the engine: mlPrograms and old neural networks are run by different parts of Core ML.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from anecompat import proto

CHANNELS, SIZE, LAYERS = 128, 64, 6
COMPUTE_UNITS = "cpu-and-ne"
_FP16, _FP32, _INT32, _STRING = 10, 11, 23, 2
_FLOAT32_ARRAY = 65568


def write(folder: Path, kind: str) -> Path:
    """Write the control for models of this kind ("mlProgram", else old networks) and return its path."""
    if kind == "mlProgram":
        package = folder / "control.mlpackage"
        content = package / "Data" / "com.apple.CoreML"
        content.mkdir(parents=True, exist_ok=True)
        (content / "model.mlmodel").write_bytes(program().SerializeToString(deterministic=True))
        item = "6E1F9E5C-7C5B-4E0B-9C43-0B5A7E0C0001"
        entry = {"author": "com.apple.CoreML", "description": "control", "name": "model.mlmodel"}
        manifest = {
            "fileFormatVersion": "1.0.0",
            "itemInfoEntries": {item: {**entry, "path": "com.apple.CoreML/model.mlmodel"}},
            "rootModelIdentifier": item,
        }
        (package / "Manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        return package
    path = folder / "control.mlmodel"
    path.write_bytes(network().SerializeToString(deterministic=True))
    return path


def _describe(model: Any, version: int) -> None:
    model.specificationVersion = version
    for features, name in ((model.description.input, "x"), (model.description.output, "y")):
        feature = features.add(name=name)
        feature.type.multiArrayType.shape.extend([1, CHANNELS, SIZE, SIZE] if version >= 6 else [CHANNELS, SIZE, SIZE])
        feature.type.multiArrayType.dataType = _FLOAT32_ARRAY


def network() -> Any:
    """The control as an old neural network (specification 4, macOS 10.15)."""
    model = proto.Model()
    _describe(model, 4)
    names = ["x", *(f"h{number}" for number in range(1, LAYERS)), "y"]
    for number in range(LAYERS):
        layer = model.neuralNetwork.layers.add(name=f"conv{number}", input=[names[number]], output=[names[number + 1]])
        layer.convolution.outputChannels = CHANNELS
        layer.convolution.kernelChannels = CHANNELS
        layer.convolution.nGroups = 1
        layer.convolution.kernelSize.extend([3, 3])
        layer.convolution.stride.extend([1, 1])
        layer.convolution.dilationFactor.extend([1, 1])
        layer.convolution.same.SetInParent()
        layer.convolution.weights.floatValue.extend([0.0009765625] * (CHANNELS * CHANNELS * 9))
    return model


def program() -> Any:
    """The control as an mlProgram (specification 6, macOS 12), weights inside."""
    model = proto.Model()
    _describe(model, 6)
    model.mlProgram.version = 1
    function = model.mlProgram.functions["main"]
    function.opset = "CoreML5"
    outside = function.inputs.add(name="x")
    image = (1, CHANNELS, SIZE, SIZE)
    _tensor(outside.type, _FP32, image)
    body = function.block_specializations["CoreML5"]
    _constant(body, "weight", _FP16, (CHANNELS, CHANNELS, 3, 3), b"\x00\x14" * (CHANNELS * CHANNELS * 9))
    _constant(body, "same", _STRING, (), "same")
    _constant(body, "ones", _INT32, (2,), [1, 1])
    _constant(body, "pad", _INT32, (4,), [0, 0, 0, 0])
    _constant(body, "groups", _INT32, (), [1])
    _constant(body, "half", _STRING, (), "fp16")
    _constant(body, "single", _STRING, (), "fp32")
    _operation(body, "cast", "h0", _FP16, image, {"x": "x", "dtype": "half"})
    for number in range(LAYERS):
        arguments = {
            "x": f"h{number}",
            "weight": "weight",
            "strides": "ones",
            "pad_type": "same",
            "pad": "pad",
            "dilations": "ones",
            "groups": "groups",
        }
        _operation(body, "conv", f"h{number + 1}", _FP16, image, arguments)
    _operation(body, "cast", "y", _FP32, image, {"x": f"h{LAYERS}", "dtype": "single"})
    body.outputs.append("y")
    return model


def _tensor(value_type: Any, dtype: int, shape: tuple[int, ...]) -> None:
    value_type.tensorType.dataType = dtype
    value_type.tensorType.rank = len(shape)
    for size in shape:
        value_type.tensorType.dimensions.add().constant.size = size


def _name(attributes: Any, name: str) -> None:
    value = attributes["name"]
    _tensor(value.type, _STRING, ())
    value.immediateValue.tensor.strings.values.append(name)


def _constant(body: Any, name: str, dtype: int, shape: tuple[int, ...], content: bytes | str | list[int]) -> None:
    operation = body.operations.add(type="const")
    _tensor(operation.outputs.add(name=name).type, dtype, shape)
    _name(operation.attributes, name)
    value = operation.attributes["val"]
    _tensor(value.type, dtype, shape)
    if isinstance(content, bytes):
        value.immediateValue.tensor.bytes.values = content
    elif isinstance(content, str):
        value.immediateValue.tensor.strings.values.append(content)
    else:
        value.immediateValue.tensor.ints.values.extend(content)


def _operation(
    body: Any, kind: str, output: str, dtype: int, shape: tuple[int, ...], arguments: dict[str, str]
) -> None:
    operation = body.operations.add(type=kind)
    for argument, name in arguments.items():
        operation.inputs[argument].arguments.add(name=name)
    _tensor(operation.outputs.add(name=output).type, dtype, shape)
    _name(operation.attributes, output)

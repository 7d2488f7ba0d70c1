"""Builds neural-network messages for tests from protobuf text: ``convolution { outputChannels: 8 ... }``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import text_format

from anecompat import proto
from anecompat.ir import Function, HostWork, Operation
from anecompat.readers.neural_network import lower

Dims = tuple[int, ...]
DOUBLE, FLOAT32 = 65600, 65568
RGB = 20


def describe(inputs: Mapping[str, Dims | str], outputs: Sequence[str] = (), *, images: Sequence[str] = ()) -> Any:
    """A ModelDescription. An input of ``images`` has the shape (height, width)."""
    description = proto.ModelDescription()
    for name, shape in inputs.items():
        feature = description.input.add(name=name)
        if name in images:
            feature.type.imageType.height, feature.type.imageType.width = shape
            feature.type.imageType.colorSpace = RGB
        else:
            feature.type.multiArrayType.shape.extend(shape)
            feature.type.multiArrayType.dataType = FLOAT32
    for name in outputs:
        description.output.add(name=name).type.multiArrayType.dataType = FLOAT32
    return description


def network(*layers: str, blob: bool = False, kind: str = "NeuralNetwork") -> Any:
    """A network of layers in text, each ``"in1 in2 -> out1 out2: convolution { ... }"``."""
    message = proto.message_class(kind)()
    message.arrayInputShapeMapping = 0 if blob else 1
    message.imageInputShapeMapping = 0 if blob else 1
    for index, line in enumerate(layers):
        message.layers.append(layer(line, f"l{index}"))
    return message


def layer(line: str, name: str) -> Any:
    wires, params = line.split(":", 1)
    reads, writes = wires.split("->")
    message = proto.message_class("NeuralNetworkLayer")(name=name, input=reads.split(), output=writes.split())
    return text_format.Parse(params, message)


def lowered(
    message: Any, description: Any, *, kind: str = "neuralNetwork", spec: int = 4
) -> tuple[Function, tuple[HostWork, ...], tuple[str, ...]]:
    return lower(message, description, kind, spec)


def lower_layer(
    params: str, inputs: Sequence[Dims], outputs: int = 1, *, blob: bool = False
) -> tuple[Operation, Function, tuple[str, ...]]:
    """One layer on inputs of these shapes. In a blob network a shape is C, (C, H, W) or (Seq, B, C, H, W)."""
    names = {f"x{index}": shape for index, shape in enumerate(inputs)}
    results = [f"y{index}" for index in range(outputs)]
    message = network(f"{' '.join(names)} -> {' '.join(results)}: {params}", blob=blob)
    function, _, warnings = lowered(message, describe(names, results))
    (operation,) = function.body.operations
    return operation, function, warnings


def shapes(operation: Operation) -> list[tuple[int | None, ...] | None]:
    return [value.tensor.shape for value in operation.outputs]

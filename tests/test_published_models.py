"""The rebuilt published models: Core ML's own format accepts them, and their shapes are the published ones."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import published_models as published
from anecompat import proto
from anecompat.ir import Function
from anecompat.readers.neural_network import lower


def read(data: bytes) -> tuple[Any, list[Function]]:
    model = proto.Model.FromString(data)
    stages = [model] if model.WhichOneof("Type") != "pipeline" else list(model.pipeline.models)
    functions = []
    for stage in stages:
        kind = stage.WhichOneof("Type")
        if kind.startswith("neuralNetwork"):
            function, _, warnings = lower(getattr(stage, kind), stage.description, kind, stage.specificationVersion)
            assert warnings == ()
            functions.append(function)
    return model, functions


def found(function: Function) -> dict[str, tuple[int | None, ...] | None]:
    values = [*function.inputs, *(value for operation in function.body.walk() for value in operation.outputs)]
    return {value.name: value.tensor.shape for value in values}


def layers(function: Function) -> Counter[str]:
    return Counter(operation.layer for operation in function.body.walk())


def test_mnist_classifier() -> None:
    _, (function,) = read(published.mnist_classifier())
    assert function.layout == "blob"
    shapes = found(function)
    assert (shapes["image"], shapes["labelProbabilities"]) == ((1, 1, 28, 28), (1, 10, 1, 1))
    assert [value.name for value in function.outputs] == ["labelProbabilities"]
    assert shapes["flatten"] == (1, 512, 1, 1)


def test_deeplab_v3() -> None:
    _, (function,) = read(published.deeplab_v3())
    shapes = found(function)
    assert shapes["image"] == (1, 3, 513, 513)
    assert shapes["MobilenetV2/Conv/Relu6:0"] == (1, 32, 257, 257)
    assert shapes["MobilenetV2/expanded_conv_2/add:0"] == (1, 24, 129, 129)
    assert shapes["MobilenetV2/expanded_conv_16/project/BatchNorm/FusedBatchNorm:0"] == (1, 320, 65, 65)
    assert shapes["AvgPool2D/AvgPool:0"] == (1, 320, 1, 1)
    assert shapes["concat:0"] == (1, 512, 65, 65)
    assert shapes["logits/semantic/BiasAdd:0"] == (1, 21, 65, 65)
    assert shapes["semanticPredictions"] == (1, 1, 513, 513)
    rates = {operation.params("dilations")[0] for operation in function.body.walk() if operation.type == "conv"}
    assert rates == {1, 2, 4}
    assert layers(function)["add"] == 10
    assert [operation.type for operation in function.body.operations[-3:]] == [
        "conv",
        "resize_bilinear",
        "reduce_argmax",
    ]


def test_yolo_v3() -> None:
    model, (function,) = read(published.yolo_v3())
    assert [stage.WhichOneof("Type") for stage in model.pipeline.models] == ["neuralNetwork", "nonMaximumSuppression"]
    shapes = found(function)
    assert shapes["image"] == (1, 3, 416, 416)
    assert [shapes[f"conv_out{grid}"] for grid in (13, 26, 52)] == [
        (1, 255, 13, 13), (1, 255, 26, 26), (1, 255, 52, 52),
    ]  # fmt: skip
    assert shapes["raw_confidence"] == (1, 10647, 80, 1)
    assert shapes["raw_coordinates"] == (1, 10647, 4, 1)
    assert [value.name for value in function.outputs] == ["raw_confidence", "raw_coordinates"]
    assert (layers(function)["convolution"], layers(function)["upsample"]) == (75, 2)


# What Core ML's compiler printed for a detector of two classes on a 13 x 13 grid with 15 anchors (Turi Create's
# add_yolo; the log is in the README of a public project): the same layers with other numbers.
COMPILER_LOG = {
    "anchors": (15, 7, 169), "fields": (7, 15, 169), "xy_raw": (2, 15, 169), "xy_cell": (2, 15, 169),
    "xy_flat": (2, 2535, 1), "cell_corners": (2, 2535, 1), "xy": (2, 2535, 1), "wh_raw": (2, 15, 169),
    "wh_ratio": (2, 15, 169), "wh_anchors": (30, 13, 13), "anchor_sizes": (30, 13, 13), "wh_sized": (30, 13, 13),
    "wh": (2, 2535, 1), "boxes_channels": (4, 2535, 1), "boxes": (2535, 4, 1), "boxes_scaled": (2535, 4, 1),
    "class_raw": (2, 15, 169), "object_raw": (1, 15, 169), "scores_flat": (2, 2535, 1), "scores_out": (2535, 2, 1),
}  # fmt: skip


def test_the_yolo_head_has_the_shapes_that_core_mls_compiler_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "CLASSES", 2)
    monkeypatch.setattr(published, "ANCHORS", 15)
    monkeypatch.setattr(published, "FIELDS", 7)
    network = proto.NeuralNetwork()
    published._decoded(published.Layers(network), "", "head", 13)
    description = proto.ModelDescription()
    description.input.add(name="head").type.multiArrayType.shape.extend([105, 13, 13])
    function, _, warnings = lower(network, description, "neuralNetwork", 3)
    constants = {value.name: value for op in function.body.walk() for bound in op.inputs.values() for value in bound}
    shapes = {name: value.tensor.shape for name, value in constants.items()} | found(function)
    assert {name: shapes[name] for name in COMPILER_LOG} == {name: (1, *shape) for name, shape in COMPILER_LOG.items()}
    assert warnings == ()


def test_super_resolution(tmp_path: Path) -> None:
    pytest.importorskip("coremltools")
    package = published.super_resolution(tmp_path)
    model = proto.Model.FromString((package / "Data/com.apple.CoreML/model.mlmodel").read_bytes())
    shapes = [
        tuple(feature.type.multiArrayType.shape) for feature in (*model.description.input, *model.description.output)
    ]
    assert shapes[0] == (1, 720, 1280, 12)
    assert [feature.name for feature in model.description.output] == ["Identity"]
    (block,) = model.mlProgram.functions["main"].block_specializations.values()
    kinds = [operation.type for operation in block.operations if operation.type != "const"]
    assert kinds[:3] == ["cast", "transpose", "conv"]
    assert kinds[-3:] == ["conv", "transpose", "cast"]


@pytest.mark.parametrize("make", [published.mnist_classifier, published.deeplab_v3, published.yolo_v3])
def test_coremltools_reads_the_same_layers(make: Any) -> None:
    """Nothing in them is unknown to Apple's declaration of the format."""
    messages = pytest.importorskip("coremltools.proto.Model_pb2")
    data = make()
    theirs = messages.Model.FromString(data)
    again = messages.Model.FromString(theirs.SerializeToString(deterministic=True))
    assert again == theirs
    theirs.DiscardUnknownFields()
    assert theirs == again
    if theirs.WhichOneof("Type") == "pipeline":
        stage = theirs.pipeline.models[1].nonMaximumSuppression
        assert (stage.confidenceInputFeatureName, stage.coordinatesOutputFeatureName) == (
            "raw_confidence",
            "coordinates",
        )
        assert (stage.iouThreshold, stage.confidenceThreshold) == (0.45, 0.25)

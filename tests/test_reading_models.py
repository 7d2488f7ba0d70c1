"""Every kind of model, pipelines, descriptions and host work; messages made with our own declarations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anecompat.errors import ReadError, UsageError
from anecompat.proto import Model as ModelMessage
from anecompat.proto import descriptor
from anecompat.readers import read
from anecompat.readers.features import feature
from anecompat.readers.spec import HOST_KINDS

KINDS = [field.name for field in descriptor("Model").oneofs_by_name["Type"].fields]
WITH_LAYERS = {
    "mlProgram",
    "neuralNetwork",
    "neuralNetworkClassifier",
    "neuralNetworkRegressor",
    "pipeline",
    "pipelineClassifier",
    "pipelineRegressor",
}
REFUSED = {"serializedModel", "linkedModel"}


@pytest.fixture
def save(tmp_path: Path) -> Callable[[Any], Path]:
    def save(model: Any) -> Path:
        path = tmp_path / "made.mlmodel"
        path.write_bytes(model.SerializeToString())
        return path

    return save


def array(message: Any, name: str, *shape: int, dtype: str = "FLOAT32") -> Any:
    made = message.add(name=name)
    made.type.multiArrayType.shape.extend(shape)
    made.type.multiArrayType.dataType = made.type.multiArrayType.ArrayDataType.Value(dtype)
    return made


def image(message: Any, name: str, color: str, width: int, height: int) -> Any:
    made = message.add(name=name)
    made.type.imageType.width, made.type.imageType.height = width, height
    made.type.imageType.colorSpace = made.type.imageType.ColorSpace.Value(color)
    return made


def network() -> Any:
    """x (3, 8, 8) -> relu -> y, in the mapping of 2017."""
    model = ModelMessage(specificationVersion=3)
    array(model.description.input, "x", 3, 8, 8)
    array(model.description.output, "y", 3, 8, 8)
    layer = model.neuralNetwork.layers.add(name="act", input=["x"], output=["y"])
    layer.activation.ReLU.SetInParent()
    return model


@pytest.mark.parametrize("kind", sorted(set(KINDS) - WITH_LAYERS - REFUSED - {"customModel"}))
def test_kinds_without_layers_are_host_work(kind: str, save: Callable[[Any], Path]) -> None:
    message = ModelMessage(specificationVersion=3)
    message.description.input.add(name="in").type.doubleType.SetInParent()
    getattr(message, kind).SetInParent()
    model = read(save(message))
    assert (model.kind, model.functions, model.stages) == (kind, (), ())
    (work,) = model.host_work
    assert (work.kind, work.partial) == (kind, True)
    where = (
        ", outside this file; where the system runs it is not published" if "Apple's" in work.detail else ", on the CPU"
    )
    assert work.detail == HOST_KINDS[kind] + where
    assert list(model.operations()) == []


def test_every_kind_is_handled() -> None:
    assert set(KINDS) == set(HOST_KINDS) | WITH_LAYERS | REFUSED | {"customModel"}
    assert len(KINDS) == 37


def test_a_custom_model_names_its_class(save: Callable[[Any], Path]) -> None:
    message = ModelMessage(specificationVersion=3)
    message.customModel.className = "MyModel"
    (work,) = read(save(message)).host_work
    assert (work.kind, work.detail, work.partial) == ("customModel", "the app's own class 'MyModel', on the CPU", True)


def test_a_sealed_model_is_refused(save: Callable[[Any], Path]) -> None:
    message = ModelMessage(specificationVersion=9)
    message.description.input.add(name="in")
    message.serializedModel.identifier = "com.apple.secret"
    with pytest.raises(ReadError, match=r"the model is sealed \(serialized model 'com.apple.secret'\)"):
        read(save(message))


def test_a_linked_model_names_the_other(save: Callable[[Any], Path]) -> None:
    message = ModelMessage(specificationVersion=4)
    message.linkedModel.linkedModelFile.linkedModelFileName.defaultValue = "Other.mlmodelc"
    with pytest.raises(ReadError, match=r"the model only names another one, 'Other.mlmodelc'; check that one"):
        read(save(message))


def test_a_kind_of_the_future(save: Callable[[Any], Path]) -> None:
    message = ModelMessage(specificationVersion=99)
    message.description.input.add(name="in")
    path = save(message)
    path.write_bytes(path.read_bytes() + b"\xca\xc1\x01\x02\x08\x01")  # field 3097
    with pytest.raises(ReadError, match=r"the kind of this model \(field 3097 of the format\) is not known"):
        read(path)


def test_a_description_alone(save: Callable[[Any], Path]) -> None:
    message = ModelMessage(specificationVersion=4)
    message.description.input.add(name="in")
    with pytest.raises(ReadError, match="the model has a description but nothing that computes"):
        read(save(message))


def test_a_network(save: Callable[[Any], Path]) -> None:
    model = read(save(network()))
    assert (model.format, model.kind, model.spec_version) == ("mlmodel", "neuralNetwork", 3)
    (function,) = model.functions
    assert function.layout == "blob"
    (relu,) = model.operations()
    assert (relu.type, relu.layer, relu.name, relu.index) == ("relu", "activation", "act", 0)
    assert relu.outputs[0].tensor.shape == (1, 3, 8, 8)


def test_a_damaged_network_says_where(save: Callable[[Any], Path]) -> None:
    message = network()
    message.neuralNetwork.layers[0].input[0] = "ghost"
    path = save(message)
    with pytest.raises(ReadError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "ghost" in str(caught.value)


def test_a_pinned_shape_runs_through_a_network(save: Callable[[Any], Path]) -> None:
    message = network()
    flexible = message.description.input[0].type.multiArrayType.shapeRange
    for least, most in ((3, 3), (8, 64), (8, -1)):
        flexible.sizeRanges.add(lowerBound=least, upperBound=most)
    path = save(message)
    assert next(read(path).operations()).outputs[0].tensor.shape == (1, 3, 8, 8)
    pinned = read(path, shapes={"x": (3, 16, 4096)})
    assert next(pinned.operations()).outputs[0].tensor.shape == (1, 3, 16, 4096)
    assert pinned.inputs[0].shape == (3, 16, 4096)
    with pytest.raises(UsageError, match="takes 8 to 64 where 3x65x8 has 65"):
        read(path, shapes={"x": (3, 65, 8)})


def test_a_pinned_image_runs_through_a_network(save: Callable[[Any], Path]) -> None:
    message = network()
    del message.description.input[:]
    sizes = image(message.description.input, "x", "BGR", 8, 8).type.imageType.enumeratedSizes.sizes
    for width, height in ((8, 8), (20, 10)):
        sizes.add(width=width, height=height)
    path = save(message)
    for shape in ((10, 20), (3, 10, 20), (1, 3, 10, 20)):
        pinned = read(path, shapes={"x": shape})
        assert next(pinned.operations()).outputs[0].tensor.shape == (1, 3, 10, 20)
    with pytest.raises(UsageError, match="the input 'x' does not take 3x11x20, only 3x8x8, 3x10x20"):
        read(path, shapes={"x": (11, 20)})


def pipeline(kind: str) -> Any:
    """A scaler, a network, and within a second pipeline a tree ensemble."""
    model = ModelMessage(specificationVersion=3)
    array(model.description.input, "x", 3, 8, 8)
    model.description.output.add(name="label").type.stringType.SetInParent()
    inner = model.pipeline if kind == "pipeline" else getattr(model, kind).pipeline
    inner.names.extend(["scale", "net"])
    scaler = inner.models.add()
    scaler.scaler.SetInParent()
    inner.models.add().CopyFrom(network())
    last = inner.models.add()
    last.pipeline.names.append("trees")
    last.pipeline.models.add().treeEnsembleClassifier.SetInParent()
    return model


@pytest.mark.parametrize("kind", ["pipeline", "pipelineClassifier", "pipelineRegressor"])
def test_pipelines_are_read_recursively(kind: str, save: Callable[[Any], Path]) -> None:
    model = read(save(pipeline(kind)))
    assert (model.kind, model.functions) == (kind, ())
    assert [(stage.name, stage.kind) for stage in model.stages] == [
        ("scale", "scaler"),
        ("net", "neuralNetwork"),
        ("model2", "pipeline"),
    ]
    leaves = [(leaf.name, leaf.kind, len(leaf.functions)) for _, leaf in model.walk_stages()]
    assert leaves == [("scale", "scaler", 0), ("net", "neuralNetwork", 1), ("trees", "treeEnsembleClassifier", 0)]
    assert [operation.type for operation in model.operations()] == ["relu"]
    assert [work.kind for _, leaf in model.walk_stages() for work in leaf.host_work] == [
        "scaler",
        "treeEnsembleClassifier",
    ]


def test_a_fault_in_a_stage_names_the_stage(save: Callable[[Any], Path]) -> None:
    message = pipeline("pipelineClassifier")
    message.pipelineClassifier.pipeline.models[2].pipeline.models[0].ClearField("treeEnsembleClassifier")
    with pytest.raises(ReadError, match="stage model2/trees: this stage of the pipeline is empty"):
        read(save(message))
    message = pipeline("pipeline")
    message.pipeline.models[1].neuralNetwork.layers[0].input[0] = "ghost"
    with pytest.raises(ReadError, match=r"stage net: .*ghost"):
        read(save(message))


def test_an_empty_pipeline(save: Callable[[Any], Path]) -> None:
    message = ModelMessage(specificationVersion=1)
    message.pipeline.SetInParent()
    with pytest.raises(ReadError, match="the pipeline has no stages"):
        read(save(message))


def test_a_classifier_looks_its_label_up_on_the_host(save: Callable[[Any], Path]) -> None:
    message = network()
    layers = message.neuralNetwork.layers[0]
    classifier = ModelMessage(specificationVersion=1)
    image(classifier.description.input, "x", "RGB", 8, 8)
    classifier.description.output.add(name="label").type.stringType.SetInParent()
    classifier.description.output.add(name="probs").type.dictionaryType.stringKeyType.SetInParent()
    classifier.description.predictedFeatureName = "label"
    classifier.description.predictedProbabilitiesName = "probs"
    network_ = classifier.neuralNetworkClassifier
    network_.layers.add().CopyFrom(layers)
    network_.preprocessing.add(featureName="x").scaler.channelScale = 0.5
    network_.stringClassLabels.vector.extend(["cat", "dog"])
    model = read(save(classifier))
    assert [(work.kind, work.partial) for work in model.host_work] == [
        ("image preprocessing", False),
        ("label lookup", True),
        ("image conversion", False),
    ]
    assert model.host_work[2].detail == "input 'x': RGB pixels, 8 x 8"
    assert [(each.name, each.kind, each.dtype) for each in model.outputs] == [
        ("label", "string", ""),
        ("probs", "dictionary", "string"),
    ]


def test_metadata(save: Callable[[Any], Path]) -> None:
    message = network()
    message.isUpdatable = True
    metadata = message.description.metadata
    metadata.author, metadata.shortDescription = "someone", "a relu"
    metadata.userDefined["com.example.key"] = "value"
    assert read(save(message)).metadata == {
        "author": "someone",
        "shortDescription": "a relu",
        "com.example.key": "value",
        "isUpdatable": "true",
    }


def described(fill: Callable[[Any], None]) -> Any:
    message = ModelMessage()
    each = message.description.input.add(name="f", shortDescription="what it is")
    fill(each.type)
    return feature(each)


def test_features() -> None:
    assert described(lambda t: t.int64Type.SetInParent()).kind == "int64"
    assert described(lambda t: t.doubleType.SetInParent()).kind == "double"
    assert described(lambda t: t.stringType.SetInParent()).kind == "string"
    unset = described(lambda t: None)
    assert (unset.kind, unset.description, unset.optional) == ("unknown", "what it is", False)

    def optional_sequence(type: Any) -> None:
        type.sequenceType.stringType.SetInParent()
        type.isOptional = True

    sequence = described(optional_sequence)
    assert (sequence.kind, sequence.dtype, sequence.optional) == ("sequence", "string", True)

    def choices(type: Any) -> None:
        type.multiArrayType.dataType = 65552
        for shape in ((1, 2), (3, 4)):
            type.multiArrayType.enumeratedShapes.shapes.add(shape=shape)

    enumerated = described(choices)
    assert (enumerated.dtype, enumerated.shape, enumerated.choices) == ("fp16", (1, 2), ((1, 2), (3, 4)))

    def sizes(type: Any) -> None:
        type.imageType.colorSpace = 40
        type.imageType.imageSizeRange.widthRange.lowerBound = 10
        type.imageType.imageSizeRange.widthRange.upperBound = -1
        type.imageType.imageSizeRange.heightRange.lowerBound = 20
        type.imageType.imageSizeRange.heightRange.upperBound = 40

    flexible = described(sizes)
    assert (flexible.kind, flexible.color, flexible.shape) == ("image", "GRAYSCALE_FLOAT16", None)
    assert flexible.ranges == ((1, 1), (20, 40), (10, None))
    assert flexible.is_flexible
    for number, dtype in ((65568, "fp32"), (65600, "fp64"), (131104, "int32"), (131080, "int8"), (0, "")):

        def kind(type: Any, number: int = number) -> None:
            type.multiArrayType.dataType = number

        assert described(kind).dtype == dtype


def test_only_arrays_and_images_can_be_pinned(save: Callable[[Any], Path]) -> None:
    message = ModelMessage(specificationVersion=1)
    message.description.input.add(name="in").type.stringType.SetInParent()
    message.textClassifier.SetInParent()
    with pytest.raises(UsageError, match="the input 'in' is a string; only arrays and images have a shape"):
        read(save(message), shapes={"in": (1,)})
    with pytest.raises(UsageError, match="the model has no function 'main'; it has none"):
        read(save(message), function="main")

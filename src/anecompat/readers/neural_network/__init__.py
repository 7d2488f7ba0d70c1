"""Core ML's neural networks of 2017 to 2020 (``neuralNetwork``, classifier, regressor) as MIL operations.

``lower`` turns each layer into one operation and infers every shape, because the format declares those of the inputs
only. Sources: NeuralNetwork.proto of the format; for the older layers also the shape checks of Core ML's published
validator (NeuralNetworkShapes.cpp), both in github.com/apple/coremltools.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from anecompat.errors import ReadError
from anecompat.ir import Block, Function, HostWork, TensorType, Value
from anecompat.readers.neural_network.layers import FLOAT, Edge
from anecompat.readers.neural_network.network import Network, Scope
from anecompat.shapes import Dim, Shape, Unshaped, checked

CLASSIFIER = "neuralNetworkClassifier"

__all__ = ["lower"]


def lower(
    network: Any, description: Any, kind: str, spec_version: int
) -> tuple[Function, tuple[HostWork, ...], tuple[str, ...]]:
    """The network as a function "main", the work that Core ML does beside it, and warnings.

    ``network`` is a NeuralNetwork, NeuralNetworkClassifier or NeuralNetworkRegressor message, ``description`` the
    model's ModelDescription, ``kind`` the field of the model it came from. Weight payloads may be missing.

    Where every input is mapped to rank 5 (all networks of specification 3 and older), the function's layout is "blob":
    values have the shape (N, C, H, W), N being sequence length times batch where one of the two is 1. Otherwise it is
    "mil" and shapes are as the network has them. Flexible inputs have their default shape. A shape that cannot be told
    is None, with one warning where it was lost. ReadError: a layer or output that refers to nothing, a tensor that is
    written twice.
    """
    mappings = [_is_rank5(feature, network) for feature in description.input]
    blob = all(mappings) if mappings else spec_version < 4
    output_names = list(_output_names(network, description, kind))
    lowering = Network(blob, output_names, network.layers)
    scope = Scope()
    inputs: list[Value] = []
    for feature, rank5 in zip(description.input, mappings, strict=True):
        edge = _input(feature, rank5, lowering)
        if feature.name in scope.edges:
            raise ReadError(
                f"two inputs are named '{feature.name}'; the model is damaged, export it again", place="description"
            )
        scope.edges[feature.name] = edge
        inputs.append(edge.value)
    operations = lowering.lower(network.layers, scope)
    outputs = [_output(name, scope).value for name in output_names]
    _fill_images(description, scope, lowering)
    function = Function("main", "", Block(inputs, operations, outputs), layout="blob" if blob else "mil")
    return function, tuple(_host_work(network, kind)), lowering.told()


def _is_rank5(feature: Any, network: Any) -> bool:
    if feature.type.WhichOneof("Type") == "imageType":
        return bool(network.imageInputShapeMapping == 0)
    return bool(network.arrayInputShapeMapping == 0)


def _input(feature: Any, rank5: bool, lowering: Network) -> Edge:
    try:
        shape: Shape | None = checked(_input_shape(feature, rank5))
    except Unshaped as why:
        shape = None
        lowering.warn(f"input '{feature.name}': its shape is unknown: {why}.")
    return lowering.edge(feature.name, shape)


def _input_shape(feature: Any, rank5: bool) -> Shape:
    kind = feature.type.WhichOneof("Type")
    if kind == "imageType":
        return ((1, 1) if rank5 else (1,)) + _image(feature.type.imageType)
    if kind != "multiArrayType":
        given = (kind or "a feature of no type").removesuffix("Type")
        raise Unshaped(f"a network takes arrays and images, not {given}")
    dims = _array(feature.type.multiArrayType)
    if not rank5:
        if not dims:
            raise Unshaped("the model declares none")
        return dims
    # NeuralNetworkMultiArrayShapeMapping.RANK5_ARRAY_MAPPING: C, (C, H, W), or all five.
    if len(dims) == 1:
        return (1, 1, dims[0], 1, 1)
    if len(dims) == 3:
        return (1, 1, *dims)
    if len(dims) == 5:
        return dims
    raise Unshaped(f"an array of rank {len(dims)} has no place among sequence, batch, channels, height and width")


def _array(array: Any) -> Shape:
    """The default shape; the first of the enumerated ones where the file gives no default."""
    dims = array.shape
    if not len(dims) and array.WhichOneof("ShapeFlexibility") == "enumeratedShapes" and array.enumeratedShapes.shapes:
        dims = array.enumeratedShapes.shapes[0].shape
    return tuple(_size(dim) for dim in dims)


def _image(image: Any) -> Shape:
    width, height = image.width, image.height
    sizes = image.enumeratedSizes.sizes
    if width < 1 and height < 1 and image.WhichOneof("SizeFlexibility") == "enumeratedSizes" and len(sizes):
        width, height = sizes[0].width, sizes[0].height
    # ColorSpace: 10 GRAYSCALE, 20 RGB, 30 BGR, 40 GRAYSCALE_FLOAT16
    channels: Dim = {10: 1, 20: 3, 30: 3, 40: 1}.get(image.colorSpace)
    return channels, _size(height), _size(width)


def _size(size: int) -> Dim:
    return int(size) if size > 0 else None


def _output_names(network: Any, description: Any, kind: str) -> Iterator[str]:
    """The tensors that leave the network. A classifier's label and dictionary are made of one: the probabilities."""
    if kind != CLASSIFIER:
        yield from dict.fromkeys(feature.name for feature in description.output)
        return
    written = {name: None for layer in network.layers for name in layer.output}
    made_on_host = {description.predictedFeatureName, description.predictedProbabilitiesName}
    probabilities = network.labelProbabilityLayerName or next(reversed(written), "")
    if not network.labelProbabilityLayerName and description.predictedProbabilitiesName in written:
        probabilities = description.predictedProbabilitiesName
    names = [feature.name for feature in description.output if feature.name not in made_on_host]
    yield from dict.fromkeys([probabilities, *names] if probabilities else names)


def _output(name: str, scope: Scope) -> Edge:
    edge = scope.find(name)
    if edge is None:
        raise ReadError(
            f"the output '{name}' is written by no layer; the network is damaged, export it again", place="description"
        )
    return edge


def _fill_images(description: Any, scope: Scope, lowering: Network) -> None:
    """An output whose shape is unknown has that of its image: Core ML makes the pixel buffer as it is described."""
    for feature in description.output:
        edge = scope.find(feature.name)
        if edge is None or edge.shape is not None or feature.type.WhichOneof("Type") != "imageType":
            continue
        image = _image(feature.type.imageType)
        if None not in image:
            edge.shape = (1, 1, *image) if lowering.blob else (1, *image)
            edge.value.type = TensorType(FLOAT, lowering.shown(edge.shape))


def _host_work(network: Any, kind: str) -> Iterator[HostWork]:
    for step in network.preprocessing:
        image = f"image '{step.featureName}'" if step.featureName else "the image"
        if step.WhichOneof("preprocessor") == "meanImage":
            yield HostWork("image preprocessing", f"{image}: a mean image is subtracted", partial=False)
        else:
            s = step.scaler
            bias = f"red {s.redBias:g}, green {s.greenBias:g}, blue {s.blueBias:g}, gray {s.grayBias:g}"
            yield HostWork("image preprocessing", f"{image}: scale {s.channelScale:g}, bias {bias}", partial=False)
    if kind == CLASSIFIER:
        labels = network.WhichOneof("ClassLabels")
        count = len(getattr(network, labels).vector) if labels else 0
        # Labels may have been left out while reading, which looks like none at all.
        detail = f"the most likely of {count} labels" if count else "the most likely label"
        yield HostWork("label lookup", f"{detail} is picked from the probabilities", partial=True)

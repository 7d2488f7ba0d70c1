"""The four models whose runs on an M1's Neural Engine were published, rebuilt from what is public about them.

Names of inputs and outputs, their shapes and the systems they need come from the Swift classes that Xcode generates for
them; the backbones are the published architectures: MobileNetV2 with DeepLab's head at output stride 8, Darknet-53 with
YOLO's three heads, in the layers that Turi Create's ``add_yolo`` writes. Weights are left out: nothing here reads them.
The inner layers of MNISTClassifier and of the super-resolution program are not public: they are stand-ins of the same
kind and size.

Each function returns the bytes of an ``.mlmodel``; ``super_resolution`` writes an ``.mlpackage``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from anecompat import proto

GRAYSCALE, RGB = "GRAYSCALE", "RGB"


class Layers:
    """Appends layers to a network; each is named after what it writes, as converters do."""

    def __init__(self, network: Any) -> None:
        self.network = network

    def add(self, name: str, reads: Sequence[str] | str, params: str) -> str:
        inputs = [reads] if isinstance(reads, str) else list(reads)
        layer = self.network.layers.add(name=name, input=inputs, output=[name])
        text_format.Merge(params, layer)
        return name

    def conv(self, name: str, x: str, channels: tuple[int, int], kernel: int, **more: Any) -> str:
        """A convolution with SAME padding; ``stride``, ``dilation``, ``groups``, ``bias``, ``padding`` as given."""
        groups, rate = more.get("groups", 1), more.get("dilation", 1)
        return self.add(
            name,
            x,
            f"convolution {{ outputChannels: {channels[1]} kernelChannels: {channels[0] // groups} nGroups: {groups}"
            f" kernelSize: [{kernel}, {kernel}] stride: [{more.get('stride', 1)}, {more.get('stride', 1)}]"
            f" dilationFactor: [{rate}, {rate}] {more.get('padding', 'same {}')} weights {{}}"
            f" {'hasBias: true bias {}' if more.get('bias') else ''} }}",
        )

    def batchnorm(self, name: str, x: str, channels: int) -> str:
        return self.add(name, x, f"batchnorm {{ channels: {channels} epsilon: 0.001 gamma {{}} beta {{}} }}")

    def relu(self, name: str, x: str) -> str:
        return self.add(name, x, "activation { ReLU {} }")

    def relu6(self, name: str, x: str) -> str:
        """min(max(x, 0), 6) in the four layers that tfcoreml writes, because the old format has no other minimum."""
        x = self.relu(f"relu_{name}", x)
        x = self.add(f"relu_{name}_neg", x, "activation { linear { alpha: -1 } }")
        x = self.add(f"relu_{name}_clip", x, "unary { type: THRESHOLD alpha: -6 scale: 1 }")
        return self.add(name, x, "activation { linear { alpha: -1 } }")


def _model(spec_version: int, kind: str) -> tuple[Any, Any]:
    model = proto.Model(specificationVersion=spec_version)
    inner = getattr(model, kind)
    inner.SetInParent()
    return model, inner


def _image(model: Any, height: int, width: int, color: str, text: str) -> None:
    feature = model.description.input.add(name="image", shortDescription=text)
    text_format.Merge(f"imageType {{ width: {width} height: {height} colorSpace: {color} }}", feature.type)


def _feature(features: Any, name: str, text: str) -> None:
    text_format.Merge(text, features.add(name=name).type)


def mnist_classifier() -> bytes:
    """MNISTClassifier of Apple's gallery (iOS 11): a gray image of 28 x 28, ``labelProbabilities`` of ten digits."""
    model, network = _model(1, "neuralNetworkClassifier")
    _image(model, 28, 28, GRAYSCALE, "Image of the digit drawing to be classified")
    _feature(model.description.output, "labelProbabilities", "dictionaryType { int64KeyType {} }")
    _feature(model.description.output, "classLabel", "int64Type {}")
    model.description.predictedFeatureName = "classLabel"
    model.description.predictedProbabilitiesName = "labelProbabilities"
    text_format.Merge("preprocessing { featureName: 'image' scaler { channelScale: 0.00392157 } }", network)
    network.int64ClassLabels.vector.extend(range(10))
    network.labelProbabilityLayerName = "labelProbabilities"
    layers = Layers(network)
    x = "image"
    for index, channels in enumerate(((1, 16), (16, 32))):
        x = layers.conv(f"conv{index}", x, channels, 5, padding="valid {}", bias=True)
        x = layers.relu(f"relu{index}", x)
        x = layers.add(f"pool{index}", x, "pooling { type: MAX kernelSize: [2, 2] stride: [2, 2] valid {} }")
    x = layers.add("flatten", x, "flatten { mode: CHANNEL_FIRST }")
    x = layers.add("dense0", x, "innerProduct { inputChannels: 512 outputChannels: 160 hasBias: true }")
    x = layers.relu("relu2", x)
    x = layers.add("dense1", x, "innerProduct { inputChannels: 160 outputChannels: 10 hasBias: true }")
    layers.add("labelProbabilities", x, "softmax {}")
    return bytes(model.SerializeToString())


# MobileNetV2 (arXiv:1801.04381, table 2): expansion, output channels, repeats, stride of the first.
MOBILENET_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def deeplab_v3() -> bytes:
    """DeepLabV3 of Apple's gallery (iOS 12): ``mobilenetv2_coco_voc_trainval`` at 513 x 513, output stride 8."""
    model, network = _model(3, "neuralNetwork")
    _image(model, 513, 513, RGB, "Input image to be segmented")
    _feature(model.description.output, "semanticPredictions", "multiArrayType { shape: [513, 513] dataType: INT32 }")
    text_format.Merge(
        "preprocessing { featureName: 'image' scaler { channelScale: 0.00784314 redBias: -1 greenBias: -1"
        " blueBias: -1 } }",
        network,
    )
    layers = Layers(network)

    def block(scope: str, x: str, channels: tuple[int, int], kernel: int, *, active: bool = True, **more: Any) -> str:
        kind = "depthwise" if more.get("groups", 1) > 1 else "Conv2D"
        x = layers.conv(f"{scope}/{kind}:0", x, channels, kernel, **more)
        x = layers.batchnorm(f"{scope}/BatchNorm/FusedBatchNorm:0", x, channels[1])
        return layers.relu6(f"{scope}/Relu6:0", x) if active else x

    x = block("MobilenetV2/Conv", "image", (3, 32), 3, stride=2)
    channels, index, stride, rate = 32, 0, 2, 1
    for expansion, wide, repeats, first in MOBILENET_V2:
        for repeat in range(repeats):
            scope = f"MobilenetV2/expanded_conv{f'_{index}' if index else ''}"
            step, grown = (first if repeat == 0 else 1), 1
            if step > 1 and stride == 8:
                step, grown = 1, first  # at the output stride the layers widen their rate instead of striding
            inner = channels * expansion
            y = block(f"{scope}/expand", x, (channels, inner), 1) if expansion > 1 else x
            y = block(f"{scope}/depthwise", y, (inner, inner), 3, stride=step, dilation=rate, groups=inner)
            y = block(f"{scope}/project", y, (inner, wide), 1, active=False)
            x = layers.add(f"{scope}/add:0", [y, x], "add {}") if step == 1 and channels == wide else y
            channels, index, stride, rate = wide, index + 1, stride * step, rate * grown

    pool = layers.add(
        "AvgPool2D/AvgPool:0", x, "pooling { type: AVERAGE kernelSize: [65, 65] stride: [65, 65] valid {} }"
    )
    pool = _conv_relu(layers, "image_pooling", pool, (320, 256))
    resize = "resizeBilinear {{ targetSize: [{0}, {0}] mode {{ samplingMethod: STRICT_ALIGN_ENDPOINTS_MODE }} }}"
    pool = layers.add("ResizeBilinear:0", pool, resize.format(65))
    x = layers.add("concat:0", [pool, _conv_relu(layers, "aspp0", x, (320, 256))], "concat {}")
    x = _conv_relu(layers, "concat_projection", x, (512, 256))
    x = layers.conv("logits/semantic/BiasAdd:0", x, (256, 21), 1, bias=True)
    x = layers.add("ResizeBilinear_1:0", x, resize.format(513))
    layers.add("semanticPredictions", x, "reduce { mode: ARGMAX axis: C }")
    return bytes(model.SerializeToString())


def _conv_relu(layers: Layers, scope: str, x: str, channels: tuple[int, int]) -> str:
    x = layers.conv(f"{scope}/Conv2D:0", x, channels, 1)
    return layers.relu(f"{scope}/Relu:0", layers.batchnorm(f"{scope}/BatchNorm/FusedBatchNorm:0", x, channels[1]))


CLASSES, ANCHORS, FIELDS = 80, 3, 85


def yolo_v3() -> bytes:
    """YOLOv3 of Apple's gallery (iOS 12): a pipeline of the network and a non-maximum suppression."""
    model, pipeline = _model(3, "pipeline")
    _image(model, 416, 416, RGB, "416x416 RGB image")
    for name in ("iouThreshold", "confidenceThreshold"):
        _feature(model.description.input, name, "doubleType {} isOptional: true")
    for name, width in (("confidence", CLASSES), ("coordinates", 4)):
        _feature(model.description.output, name, _boxes(width))
    pipeline.models.append(_yolo_network())
    pipeline.models.append(_suppression())
    pipeline.names.extend(["YOLOv3", "nonMaximumSuppression"])
    return bytes(model.SerializeToString())


def _boxes(width: int) -> str:
    ranges = f"sizeRanges {{ upperBound: -1 }} sizeRanges {{ lowerBound: {width} upperBound: {width} }}"
    return f"multiArrayType {{ dataType: DOUBLE shapeRange {{ {ranges} }} }}"


def _yolo_network() -> Any:
    model, network = _model(3, "neuralNetwork")
    _image(model, 416, 416, RGB, "416x416 RGB image")
    for name, width in (("raw_confidence", CLASSES), ("raw_coordinates", 4)):
        _feature(model.description.output, name, f"multiArrayType {{ shape: [10647, {width}] dataType: DOUBLE }}")
    text_format.Merge("preprocessing { featureName: 'image' scaler { channelScale: 0.00392157 } }", network)
    layers = Layers(network)
    count = 0

    def darknet(x: str, channels: tuple[int, int], kernel: int, stride: int = 1) -> str:
        nonlocal count
        count += 1
        # Darknet pads by one on every side before it strides; elsewhere that is SAME.
        border = "borderAmounts { startEdgeSize: 1 endEdgeSize: 1 }"
        padding = f"valid {{ paddingAmounts {{ {border} {border} }} }}" if stride == 2 else "same {}"
        x = layers.conv(f"conv{count}", x, channels, kernel, stride=stride, padding=padding)
        x = layers.batchnorm(f"batchnorm{count}", x, channels[1])
        return layers.add(f"leakyrelu{count}", x, "activation { leakyReLU { alpha: 0.1 } }")

    x = darknet("image", (3, 32), 3)
    routes: list[str] = []
    width = 32
    for repeats in (1, 2, 8, 8, 4):  # Darknet-53 (arXiv:1804.02767, table 1)
        x = darknet(x, (width, 2 * width), 3, stride=2)
        width *= 2
        for _ in range(repeats):
            y = darknet(darknet(x, (width, width // 2), 1), (width // 2, width), 3)
            x = layers.add(f"add{count}", [x, y], "add {}")
        routes.append(x)

    confidences: list[str] = []
    coordinates: list[str] = []
    given = width
    for grid, narrow, route in ((13, 512, None), (26, 256, routes[3]), (52, 128, routes[2])):
        if route is not None:
            x = darknet(x, (2 * narrow, narrow), 1)
            x = layers.add(f"upsample{grid}", x, "upsample { scalingFactor: [2, 2] }")
            x = layers.add(f"concat{grid}", [x, route], "concat {}")
            given = 3 * narrow
        for channels, kernel in (((given, narrow), 1), ((narrow, 2 * narrow), 3), ((2 * narrow, narrow), 1),
                                 ((narrow, 2 * narrow), 3), ((2 * narrow, narrow), 1)):  # fmt: skip
            x = darknet(x, channels, kernel)
        head = layers.conv(f"conv_out{grid}", darknet(x, (narrow, 2 * narrow), 3), (2 * narrow, ANCHORS * FIELDS), 1,
                           bias=True)  # fmt: skip
        boxes, scores = _decoded(layers, f"head{grid}_", head, grid)
        coordinates.append(boxes)
        confidences.append(scores)
    layers.add("raw_confidence", confidences, "concat {}")
    layers.add("raw_coordinates", coordinates, "concat {}")
    return model


def _decoded(layers: Layers, prefix: str, head: str, grid: int) -> tuple[str, str]:
    """Boxes (n, 4, 1) and scores (n, 80, 1) of one scale, n = anchors * cells."""
    cells, n = grid * grid, ANCHORS * grid * grid

    def add(name: str, reads: Sequence[str] | str, params: str) -> str:
        return layers.add(prefix + name, reads, params)

    def reshape(name: str, x: str, *shape: int) -> str:
        return add(name, x, f"reshape {{ targetShape: {list(shape)} mode: CHANNEL_FIRST }}")

    def channels(name: str, x: str, begin: int, end: int) -> str:
        return add(name, x, f"slice {{ startIndex: {begin} endIndex: {end} stride: 1 axis: CHANNEL_AXIS }}")

    def constant(name: str, *shape: int) -> str:
        layers.network.layers.add(name=prefix + name, output=[prefix + name]).loadConstant.shape.extend(shape)
        return prefix + name

    swap = "permute { axis: [0, 2, 1, 3] }"
    fields = add("fields", reshape("anchors", head, 1, ANCHORS, FIELDS, cells), swap)
    xy = add("xy_cell", channels("xy_raw", fields, 0, 2), "activation { sigmoid {} }")
    xy = add("xy", [constant("cell_corners", 2, n, 1), reshape("xy_flat", xy, 1, 2, n, 1)], "add {}")
    wh = add("wh_ratio", channels("wh_raw", fields, 2, 4), "unary { type: EXP scale: 1 }")
    wh = reshape("wh_anchors", wh, 1, 2 * ANCHORS, grid, grid)
    wh = add("wh_sized", [constant("anchor_sizes", 2 * ANCHORS, grid, grid), wh], "multiply {}")
    boxes = add("boxes", add("boxes_channels", [xy, reshape("wh", wh, 1, 2, n, 1)], "concat {}"), swap)
    boxes = add("boxes_scaled", boxes, f"scale {{ shapeScale: [{n}, 4, 1] scale {{}} }}")
    scores = add("class_scores", channels("class_raw", fields, 5, FIELDS), "activation { sigmoid {} }")
    objects = add("object_scores", channels("object_raw", fields, 4, 5), "activation { sigmoid {} }")
    scores = add("scores", [scores, objects], "multiply {}")
    return boxes, add("scores_out", reshape("scores_flat", scores, 1, CLASSES, n, 1), swap)


def _suppression() -> Any:
    model, stage = _model(3, "nonMaximumSuppression")
    for name, width in (("raw_confidence", CLASSES), ("raw_coordinates", 4)):
        _feature(model.description.input, name, f"multiArrayType {{ shape: [10647, {width}] dataType: DOUBLE }}")
    for name in ("iouThreshold", "confidenceThreshold"):
        _feature(model.description.input, name, "doubleType {} isOptional: true")
    for name, width in (("confidence", CLASSES), ("coordinates", 4)):
        _feature(model.description.output, name, _boxes(width))
    # Our declaration of the format leaves the fields of this kind out; as bytes they survive.
    names = {200: "raw_confidence", 201: "raw_coordinates", 202: "iouThreshold", 203: "confidenceThreshold",
             210: "confidence", 211: "coordinates"}  # fmt: skip
    data = b"".join(_varint(field << 3 | 2) + bytes([len(name)]) + name.encode() for field, name in names.items())
    data += b"".join(_varint(field << 3 | 1) + struct.pack("<d", value) for field, value in ((110, 0.45), (111, 0.25)))
    stage.MergeFromString(data)
    return model


def _varint(number: int) -> bytes:
    return bytes([number & 0x7F | 0x80, number >> 7]) if number > 0x7F else bytes([number])


def super_resolution(folder: Path, *, blocks: int = 4, width: int = 32) -> Path:
    """A super-resolution program as TensorFlow gives it (macOS 12): ``input_1`` (1, 720, 1280, 12), height and width
    first, to ``Identity`` (1, 720, 1280, 3). Its first and last operations move the channels. Needs coremltools."""
    import coremltools as ct
    import numpy as np
    from coremltools.converters.mil import Builder as mb

    rng = np.random.default_rng(0)

    def conv(x: Any, given: int, made: int) -> Any:
        weight = rng.standard_normal((made, given, 3, 3)).astype("float32") / 16
        return mb.conv(x=x, weight=weight, bias=np.zeros(made, "float32") + 0.5, pad_type="same")

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 720, 1280, 12))])  # type: ignore[misc]
    def program(input_1: Any) -> Any:
        x = mb.relu(x=conv(mb.transpose(x=input_1, perm=[0, 3, 1, 2]), 12, width))
        for _ in range(blocks):
            x = mb.add(x=x, y=conv(mb.relu(x=conv(x, width, width)), width, width))
        return mb.transpose(x=conv(x, width, 3), perm=[0, 2, 3, 1], name="Identity")

    model = ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=ct.target.macOS12,
        compute_precision=ct.precision.FLOAT16,
        skip_model_load=True,
    )
    path = folder / "superresolution.mlpackage"
    model.save(str(path))
    return path

"""Layers that pick by index, and layers that make tensors from nothing: gathers, scatters, fills, ranges, noise."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, isfinite
from typing import Any

from anecompat.readers.neural_network.arrange import shape_from
from anecompat.readers.neural_network.layers import Argument, Layer, Lowered, named
from anecompat.shapes import Dim, Shape, Unshaped, axis_of, need_rank, positive

SCATTER = ("update", "add", "sub", "mul", "div", "max", "min")  # ScatterMode in MIL's words


def gather(layer: Layer) -> Lowered:
    axis = int(layer.params.axis)

    def shapes() -> list[Shape]:
        data, indices = layer.shape(), layer.shape(1)
        at = axis_of(axis, len(data))
        return [(*data[:at], *indices, *data[at + 1 :])]

    return Lowered("gather", {"x": layer.edge(), "indices": layer.edge(1), "axis": axis}, shapes)


def gather_nd(layer: Layer) -> Lowered:
    def shapes() -> list[Shape]:
        data, indices = layer.shape(), layer.shape(1)
        depth = indices[-1]
        if depth is None or depth > len(data):
            raise Unshaped(f"its indices are vectors of {depth or 'unknown'} numbers into an input of rank {len(data)}")
        return [(*indices[:-1], *data[depth:]) or (1,)]

    return Lowered("gather_nd", {"x": layer.edge(), "indices": layer.edge(1)}, shapes)


def gather_along_axis(layer: Layer) -> Lowered:
    arguments: dict[str, Argument] = {"x": layer.edge(), "indices": layer.edge(1), "axis": int(layer.params.axis)}
    return Lowered("gather_along_axis", arguments, lambda: [layer.shape(1)])


def scatter(kind: str) -> Callable[[Layer], Lowered]:
    def lower(layer: Layer) -> Lowered:
        p = layer.params
        arguments: dict[str, Argument] = {"data": layer.edge(), "indices": layer.edge(1), "updates": layer.edge(2)}
        if kind != "scatter_nd":
            arguments["axis"] = int(p.axis)
        arguments["mode"] = named(SCATTER, p.mode)
        return Lowered(kind, arguments, layer.unchanged)

    return lower


def one_hot(layer: Layer) -> Lowered:
    p = layer.params
    size = layer.optional(1)

    def shapes() -> list[Shape]:
        shape = layer.shape()
        length: Dim = int(p.oneHotVectorSize)
        if size is not None:
            numbers = layer.numbers(1)
            length = numbers[0] if numbers is not None and len(numbers) == 1 else None
        at = axis_of(int(p.axis), len(shape) + 1)
        return [(*shape[:at], length, *shape[at:])]

    arguments: dict[str, Argument] = {
        "indices": layer.edge(),
        "one_hot_vector_size": size if size is not None else int(p.oneHotVectorSize),
        "axis": int(p.axis),
        "on_value": float(p.onValue),
        "off_value": float(p.offValue),
    }
    return Lowered("one_hot", arguments, shapes)


def non_zero(layer: Layer) -> Lowered:
    return Lowered("non_zero", {"x": layer.edge()}, lambda: [(None, len(layer.shape()))])


def non_maximum_suppression(layer: Layer) -> Lowered:
    p = layer.params
    arguments: dict[str, Argument] = {"boxes": layer.edge(), "scores": layer.edge(1)}
    written: dict[str, Argument] = {
        "iou_threshold": float(p.iouThreshold),
        "score_threshold": float(p.scoreThreshold),
        "max_boxes": int(p.maxBoxes),
    }
    for index, (name, value) in enumerate(written.items(), start=2):
        arguments[name] = layer.optional(index) or value
    arguments["per_class_suppression"] = p.perClassSuppression

    def shapes() -> list[Shape]:
        boxes, scores = need_rank(layer.shape(), 3, 3), need_rank(layer.shape(1), 3, 3)
        most: Dim = int(p.maxBoxes)
        if layer.optional(4) is not None:
            numbers = layer.numbers(4)
            most = numbers[0] if numbers is not None and len(numbers) == 1 else None
        batch = boxes[0]
        return [(batch, most, 4), (batch, most, scores[2]), (batch, most), (batch,)]

    return Lowered("non_maximum_suppression", arguments, shapes)


def fill(layer: Layer) -> Lowered:
    """fillLike, fillStatic, fillDynamic: the shape is another tensor's, the layer's own, or an input's numbers."""
    value = float(layer.params.value)
    if layer.kind == "fillLike":
        return Lowered("fill_like", {"ref_tensor": layer.edge(), "value": value}, layer.unchanged)
    shape, shapes = _made(layer, "targetShape")
    return Lowered("fill", {**shape, "value": value}, shapes)


def _made(layer: Layer, field: str) -> tuple[dict[str, Argument], Callable[[], list[Shape]]]:
    """The ``shape`` argument and the shape of what a layer makes: like its input, as written, or as its input says."""
    if layer.kind.endswith("Like"):
        return {"shape": layer.edge()}, layer.unchanged
    if layer.kind.endswith("Dynamic"):
        return {"shape": layer.edge()}, lambda: [shape_from(layer, 0)]
    target = [int(dim) for dim in getattr(layer.params, field)]
    return {"shape": target}, lambda: [tuple(target) or (1,)]


def random(kind: str, numbers: dict[str, str]) -> Callable[[Layer], Lowered]:
    """Noise of the shape of an input ("Like": bound to ``shape`` as it is), as written, or as an input says."""

    def lower(layer: Layer) -> Lowered:
        p = layer.params
        shape, shapes = _made(layer, "outputShape")
        values: dict[str, Argument] = {name: float(getattr(p, field)) for name, field in numbers.items()}
        return Lowered(kind, {**shape, **values, "seed": int(p.seed)}, shapes)

    return lower


def random_categorical(layer: Layer) -> Lowered:
    p = layer.params
    mode = "logits" if p.isLogits else "probs"
    arguments: dict[str, Argument] = {"x": layer.edge(), "mode": mode, "size": int(p.numSamples), "seed": int(p.seed)}
    return Lowered("random_categorical", arguments, lambda: [(*need_rank(layer.shape(), 1)[:-1], int(p.numSamples))])


def range_1d(layer: Layer) -> Lowered:
    """rangeStatic has three numbers; rangeDynamic has the end, then the start, then the step as inputs."""
    p = layer.params
    dynamic = layer.kind == "rangeDynamic"
    arguments: dict[str, Argument] = {}
    for index, (name, field) in enumerate((("end", "endValue"), ("start", "startValue"), ("step", "stepSizeValue"))):
        given = layer.optional(index) if dynamic else None
        if dynamic and index == 0:
            given = layer.edge()
        arguments[name] = given if given is not None else float(getattr(p, field))

    def number(index: int, field: str) -> float | None:
        if dynamic and index < len(layer.inputs):
            numbers = layer.edge(index).numbers
            return numbers[0] if numbers is not None and len(numbers) == 1 else None
        return float(getattr(p, field))

    def shapes() -> list[Shape]:
        end, start, step = number(0, "endValue"), number(1, "startValue"), number(2, "stepSizeValue")
        if end is None or start is None or step is None:
            return [(None,)]
        if step == 0 or not isfinite((end - start) / step):
            raise Unshaped(f"it counts from {start:g} to {end:g} by {step:g}")
        return [(positive(ceil((end - start) / step), "length"),)]

    return Lowered("range_1d", arguments, shapes)


NORMAL = {"mean": "mean", "stddev": "stdDev"}
UNIFORM = {"low": "minVal", "high": "maxVal"}
BERNOULLI = {"prob": "prob"}


def _noise() -> dict[str, Callable[[Layer], Lowered]]:
    families: dict[str, tuple[str, Any]] = {
        "randomNormal": ("random_normal", NORMAL),
        "randomUniform": ("random_uniform", UNIFORM),
        "randomBernoulli": ("random_bernoulli", BERNOULLI),
    }
    endings = ("Like", "Static", "Dynamic")
    return {name + ending: random(*family) for name, family in families.items() for ending in endings}


LOWERINGS: dict[str, Callable[[Layer], Lowered]] = {
    "gather": gather,
    "gatherND": gather_nd,
    "gatherAlongAxis": gather_along_axis,
    "scatter": scatter("scatter"),
    "scatterND": scatter("scatter_nd"),
    "scatterAlongAxis": scatter("scatter_along_axis"),
    "oneHot": one_hot,
    "whereNonZero": non_zero,
    "NonMaximumSuppression": non_maximum_suppression,
    "fillLike": fill,
    "fillStatic": fill,
    "fillDynamic": fill,
    **_noise(),
    "categoricalDistribution": random_categorical,
    "rangeStatic": range_1d,
    "rangeDynamic": range_1d,
}

"""Numbers that are known before the model runs, followed through the layers that compute shapes from shapes.

Networks converted with flexible inputs take a tensor's shape, pick, join and scale its numbers, and reshape by the
result. At the default shape of the inputs all of that is known.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence

from anecompat.readers.neural_network.layers import FEW, Layer
from anecompat.shapes import Shape, product

Numbers = tuple[float, ...]

# The elements in their order, in another shape.
SAME = {
    "copy",
    "squeeze",
    "expandDims",
    "flattenTo2D",
    "reshapeStatic",
    "rankPreservingReshape",
    "reshapeLike",
    "reshapeDynamic",
}
ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "add": operator.add,
    "addBroadcastable": operator.add,
    "subtractBroadcastable": operator.sub,
    "multiply": operator.mul,
    "multiplyBroadcastable": operator.mul,
    "divideBroadcastable": operator.truediv,
    "floorDivBroadcastable": operator.floordiv,
    "modBroadcastable": operator.mod,
    "maxBroadcastable": max,
    "minBroadcastable": min,
    "max": max,
    "min": min,
}
UNARY: dict[str, Callable[[float], float]] = {"ceil": math.ceil, "floor": math.floor}
REDUCTION: dict[str, Callable[[Sequence[float]], float]] = {
    "reduceProd": math.prod,
    "reduceSum": sum,
    "reduceMax": max,
    "reduceMin": min,
}


def fold(layer: Layer, shape: Shape) -> Numbers | None:
    """The numbers of the layer's only output, whose shape is ``shape``, or None where they are not known."""
    count = product(shape)
    if count is None or not 0 < count <= FEW:
        return None
    try:
        numbers = _fold(layer, count)
    except (ArithmeticError, ValueError, IndexError):
        return None
    return numbers if numbers is not None and len(numbers) == count else None


def _fold(layer: Layer, count: int) -> Numbers | None:
    kind, p = layer.kind, layer.params
    if kind == "getShape":
        dims = layer.shape()
        return tuple(float(dim) for dim in dims if dim is not None) if None not in dims else None
    if kind == "fillStatic":
        return (float(p.value),) * count
    if kind == "rangeStatic":
        return tuple(p.startValue + step * p.stepSizeValue for step in range(count))
    inputs: list[Numbers] = []
    for edge in layer.inputs:
        if edge.numbers is None:
            # A reshape needs only the elements of its first input, whatever tells the shape.
            if kind in SAME and inputs:
                break
            return None
        inputs.append(edge.numbers)
    if not inputs:
        return None
    first = inputs[0]
    if kind in SAME:
        return first
    if kind in UNARY:
        return tuple(float(UNARY[kind](number)) for number in first)
    if kind in ARITHMETIC:
        return _arithmetic(layer, inputs, count)
    if kind in REDUCTION and len(layer.shape()) == 1:
        return (float(REDUCTION[kind](first)),)
    return _picked(layer, inputs)


def _arithmetic(layer: Layer, inputs: list[Numbers], count: int) -> Numbers | None:
    """Only where each operand is one number or has all: a true broadcast is not worth following."""
    if len(inputs) == 1 and layer.kind in ("add", "multiply"):
        inputs = [inputs[0], (float(layer.params.alpha),)]
    if len(inputs) < 2 or any(len(numbers) not in (1, count) for numbers in inputs):
        return None
    function = ARITHMETIC[layer.kind]
    result = inputs[0] * count if len(inputs[0]) == 1 else inputs[0]
    for numbers in inputs[1:]:
        others = numbers * count if len(numbers) == 1 else numbers
        result = tuple(float(function(a, b)) for a, b in zip(result, others, strict=True))
    return result


def _picked(layer: Layer, inputs: list[Numbers]) -> Numbers | None:
    """Joining and picking of vectors."""
    kind, p, first = layer.kind, layer.params, inputs[0]
    ranks = {len(layer.shape(index)) for index in range(len(layer.inputs))}
    if kind == "concatND" and ranks == {1} and not p.interleave:
        return tuple(number for numbers in inputs for number in numbers)
    if kind == "stack" and ranks == {1} and all(len(numbers) == 1 for numbers in inputs):
        return tuple(numbers[0] for numbers in inputs)
    if kind == "gather" and len(layer.shape()) == 1:
        return tuple(first[int(index)] for index in inputs[1])
    if kind == "sliceStatic" and ranks == {1} and len(p.strides) == 1:
        if len(p.squeezeMasks) and p.squeezeMasks[0]:
            return (first[p.beginIds[0]],)
        begin = None if p.beginMasks[0] else p.beginIds[0]
        end = None if p.endMasks[0] else p.endIds[0]
        return first[begin : end : p.strides[0]]
    if kind == "slice" and ranks == {1} and p.axis == 2:
        return first[p.startIndex : p.endIndex or None : p.stride]
    return None

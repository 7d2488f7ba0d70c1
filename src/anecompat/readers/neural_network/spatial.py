"""Layers that slide a window over height and width (and depth): convolutions and poolings.

Formulas: NeuralNetwork.proto (ValidPadding, SamePadding, PoolingLayerParams and the layers' own comments).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from anecompat.readers.neural_network.layers import Argument, Edge, FromShapes, Layer, Lowered, Weight, named
from anecompat.shapes import (
    Dim,
    Shape,
    Unshaped,
    ceil_divide,
    need_rank,
    plus,
    positive,
    same_dim,
    times,
    told,
    window,
    window_to_last,
)

Edges2 = tuple[tuple[int, int], ...]  # (before, after) of each spatial axis


def pair(values: Any, default: int, what: str) -> tuple[int, int]:
    """Two numbers [H, W], or the default for both where the field is empty."""
    numbers = tuple(values)
    if not numbers:
        return default, default
    if len(numbers) != 2:
        raise Unshaped(f"its {what} is {told(numbers)}, not 2 numbers")
    return int(numbers[0]), int(numbers[1])


def _listed(values: Any, default: int) -> list[int]:
    return [int(value) for value in values] or [default, default]


def borders_of(amounts: Any) -> Edges2:
    borders = tuple((int(edge.startEdgeSize), int(edge.endEdgeSize)) for edge in amounts.borderAmounts)
    if len(borders) not in (0, 2):
        raise Unshaped(f"its border amounts are {told(borders)}, not 2 pairs")
    return borders or ((0, 0), (0, 0))


def flat_borders(amounts: Any) -> list[int]:
    return [int(size) for edge in amounts.borderAmounts for size in (edge.startEdgeSize, edge.endEdgeSize)] or [0] * 4


def _padding(params: Any, oneof: str) -> tuple[str, list[int]]:
    """MIL's pad_type and pad of a layer with ``valid`` or ``same`` padding."""
    chosen = params.WhichOneof(oneof)
    if chosen == "same":
        return "same_lower" if params.same.asymmetryMode else "same", [0] * 4
    if chosen == "includeLastPixel":
        top, left = _listed(params.includeLastPixel.paddingAmounts, 0)[:2]
        return "custom", [top, top, left, left]
    pad = flat_borders(params.valid.paddingAmounts)
    return "custom" if any(pad) else "valid", pad


def convolution(layer: Layer) -> Lowered:
    p = layer.params
    groups = int(p.nGroups) or 1
    kernel, stride = _listed(p.kernelSize, 3), _listed(p.stride, 1)
    dilation = _listed(p.dilationFactor, 1)
    outputs, inputs = int(p.outputChannels), int(p.kernelChannels)
    weight: Edge | Weight = Weight((inputs, outputs // groups, *kernel))
    if not p.isDeconvolution:
        weight = layer.optional(1) or Weight((outputs, inputs, *kernel))
    pad_type, pad = _padding(p, "ConvolutionPaddingType")
    arguments: dict[str, Argument] = {"x": layer.edge(), "weight": weight}
    if p.hasBias:
        arguments["bias"] = Weight((outputs,))
    arguments |= {"strides": stride, "pad_type": pad_type, "pad": pad, "dilations": dilation, "groups": groups}

    def shapes() -> list[Shape]:
        shape = need_rank(layer.shape(), 4)
        taken = inputs if p.isDeconvolution else inputs * groups
        if taken:
            same_dim(shape[-3], taken, "channels given and taken")
        leading = (*shape[:-3], positive(outputs, "number of output channels"))
        return [(*leading, *_convolved(p, shape[-2:]))]

    if p.isDeconvolution and len(p.outputShape):
        arguments["output_shape"] = FromShapes(lambda: layer.shown(shapes()[0]))
    return Lowered("conv_transpose" if p.isDeconvolution else "conv", arguments, shapes)


def _convolved(p: Any, sizes: Sequence[Dim]) -> tuple[Dim, ...]:
    kernel, stride = pair(p.kernelSize, 3, "kernel"), pair(p.stride, 1, "stride")
    dilation = pair(p.dilationFactor, 1, "dilation")
    kind = p.WhichOneof("ConvolutionPaddingType")
    if p.isDeconvolution:
        if len(p.outputShape):
            return pair(p.outputShape, 0, "output shape")
        if kind is None:
            raise Unshaped("its padding type is not set")
        borders = borders_of(p.valid.paddingAmounts) if kind == "valid" else None
        return _deconvolved(sizes, kernel, stride, dilation, borders)
    if kind is None:
        raise Unshaped("its padding type is not set")
    if kind == "same":
        return tuple(ceil_divide(size, positive(step, "stride")) for size, step in zip(sizes, stride, strict=True))
    return _windows(sizes, kernel, stride, borders_of(p.valid.paddingAmounts), dilation)


def _windows(
    sizes: Sequence[Dim], kernel: Sequence[int], stride: Sequence[int], borders: Edges2, dilation: Sequence[int]
) -> tuple[Dim, ...]:
    each = zip(sizes, kernel, stride, borders, dilation, strict=True)
    return tuple(window(size, k, s, before, after, d) for size, k, s, (before, after), d in each)


def _deconvolved(
    sizes: Sequence[Dim],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    borders: Edges2 | None,
) -> tuple[Dim, ...]:
    """Output sizes of a transposed convolution: size * stride for SAME, else (size - 1) * stride + kernel - borders."""
    if any(step != 1 for step in dilation):
        # The format's text says the dilation of a deconvolution is ignored, its validator widens the kernel by it.
        raise Unshaped("Core ML's own sources disagree on a dilated deconvolution without an output shape")
    result: list[Dim] = []
    for axis, size in enumerate(sizes):
        step, taps = positive(stride[axis], "stride"), positive(kernel[axis], "kernel")
        if borders is None:
            result.append(times(size, step))
        else:
            result.append(plus(times(plus(size, -1), step), taps - sum(borders[axis])))
    return tuple(result)


def convolution3d(layer: Layer) -> Lowered:
    p = layer.params
    groups = int(p.nGroups) or 1
    outputs, inputs = int(p.outputChannels), int(p.inputChannels)
    kernel = [p.kernelDepth, p.kernelHeight, p.kernelWidth]
    stride = [p.strideDepth, p.strideHeight, p.strideWidth]
    dilation = [p.dilationDepth, p.dilationHeight, p.dilationWidth]
    pad_type, borders = _custom_padding(p)
    channels = (inputs, outputs // groups) if p.isDeconvolution else (outputs, inputs // groups)
    arguments: dict[str, Argument] = {"x": layer.edge(), "weight": Weight((*channels, *kernel))}
    if p.hasBias:
        arguments["bias"] = Weight((outputs,))
    pad = [size for border in borders for size in border]
    arguments |= {"strides": stride, "pad_type": pad_type, "pad": pad, "dilations": dilation, "groups": groups}

    def shapes() -> list[Shape]:
        shape = _volume(layer)
        if inputs:
            same_dim(shape[1], inputs, "channels given and taken")
        sizes = shape[2:]
        if p.isDeconvolution and len(p.outputShape):
            if len(p.outputShape) != 3:
                raise Unshaped(f"its output shape is {told(p.outputShape)}, not 3 numbers")
            spatial: tuple[Dim, ...] = tuple(int(size) for size in p.outputShape)
        elif p.isDeconvolution:
            spatial = _deconvolved(sizes, kernel, stride, dilation, None if pad_type == "same" else borders)
        elif pad_type == "same":
            spatial = tuple(ceil_divide(size, positive(s, "stride")) for size, s in zip(sizes, stride, strict=True))
        else:
            spatial = _windows(sizes, kernel, stride, borders, dilation)
        return [(shape[0], positive(outputs, "number of output channels"), *spatial)]

    if p.isDeconvolution and len(p.outputShape):
        arguments["output_shape"] = FromShapes(lambda: shapes()[0])
    return Lowered("conv_transpose" if p.isDeconvolution else "conv", arguments, shapes)


def _volume(layer: Layer) -> Shape:
    if layer.blob:
        raise Unshaped("a three-dimensional layer needs inputs that keep their exact shape")
    return need_rank(layer.shape(), 5, 5)


def _custom_padding(p: Any) -> tuple[str, Edges2]:
    """pad_type and borders of a three-dimensional layer: CUSTOM, VALID or SAME (0, 1, 2)."""
    if p.paddingType != 0:
        return ("valid", "same")[p.paddingType == 2], ((0, 0),) * 3
    return "custom", (
        (p.customPaddingFront, p.customPaddingBack),
        (p.customPaddingTop, p.customPaddingBottom),
        (p.customPaddingLeft, p.customPaddingRight),
    )


def pooling(layer: Layer) -> Lowered:
    p = layer.params
    kind = named(("max_pool", "avg_pool", "l2_pool"), p.type)
    if p.globalPooling:
        # Kept a pooling whose kernel is the whole input, not a reduction: it is a pooling that the engine is given.
        return _global(layer, kind, lambda: need_rank(layer.shape(), 4), 2)
    pad_type, pad = _padding(p, "PoolingPaddingType")
    complete = p.WhichOneof("PoolingPaddingType") == "includeLastPixel"
    arguments: dict[str, Argument] = {
        "x": layer.edge(),
        "kernel_sizes": _listed(p.kernelSize, 3),
        "strides": _listed(p.stride, 1),
        "pad_type": pad_type,
        "pad": pad,
        "ceil_mode": complete,
    }
    if kind == "avg_pool":
        arguments["exclude_padding_from_average"] = p.avgPoolExcludePadding

    def shapes() -> list[Shape]:
        shape = need_rank(layer.shape(), 4)
        kernel, stride = pair(p.kernelSize, 3, "kernel"), pair(p.stride, 1, "stride")
        sizes = shape[-2:]
        chosen = p.WhichOneof("PoolingPaddingType")
        if chosen is None:
            raise Unshaped("its padding type is not set")
        if complete:
            amounts = pair(p.includeLastPixel.paddingAmounts, 0, "padding")
            each = zip(sizes, kernel, stride, amounts, strict=True)
            return [(*shape[:-2], *(window_to_last(size, k, s, a, any(amounts)) for size, k, s, a in each))]
        if chosen == "same":
            rounded = (ceil_divide(size, positive(s, "stride")) for size, s in zip(sizes, stride, strict=True))
            return [(*shape[:-2], *rounded)]
        return [(*shape[:-2], *_windows(sizes, kernel, stride, borders_of(p.valid.paddingAmounts), (1, 1)))]

    return Lowered(kind, arguments, shapes)


def _global(layer: Layer, kind: str, shape: Callable[[], Shape], spatial: int) -> Lowered:
    arguments: dict[str, Argument] = {
        "x": layer.edge(),
        "kernel_sizes": FromShapes(lambda: shape()[-spatial:]),
        "strides": [1] * spatial,
        "pad_type": "valid",
        "pad": [0] * (2 * spatial),
        "ceil_mode": False,
    }
    if kind == "avg_pool":
        arguments["exclude_padding_from_average"] = False
    return Lowered(kind, arguments, lambda: [(*shape()[:-spatial], *(1,) * spatial)])


def pooling3d(layer: Layer) -> Lowered:
    p = layer.params
    kind = "avg_pool" if p.type == 1 else "max_pool"
    kernel = [p.kernelDepth, p.kernelHeight, p.kernelWidth]
    stride = [p.strideDepth, p.strideHeight, p.strideWidth]
    pad_type, borders = _custom_padding(p)
    arguments: dict[str, Argument] = {
        "x": layer.edge(),
        "kernel_sizes": kernel,
        "strides": stride,
        "pad_type": pad_type,
        "pad": [size for border in borders for size in border],
        "ceil_mode": False,
    }
    if kind == "avg_pool":
        arguments["exclude_padding_from_average"] = p.countExcludePadding

    def shapes() -> list[Shape]:
        shape = _volume(layer)
        if pad_type == "same":
            each = zip(shape[2:], stride, strict=True)
            return [(*shape[:2], *(ceil_divide(size, positive(s, "stride")) for size, s in each))]
        return [(*shape[:2], *_windows(shape[2:], kernel, stride, borders, (1, 1, 1)))]

    return Lowered(kind, arguments, shapes)


def global_pooling3d(layer: Layer) -> Lowered:
    return _global(layer, "avg_pool" if layer.params.type == 1 else "max_pool", lambda: _volume(layer), 3)


LOWERINGS: dict[str, Callable[[Layer], Lowered]] = {
    "convolution": convolution,
    "convolution3d": convolution3d,
    "pooling": pooling,
    "pooling3d": pooling3d,
    "globalPooling3d": global_pooling3d,
}

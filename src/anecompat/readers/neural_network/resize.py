"""Layers that pad, crop, resize or regroup height and width.

Formulas: NeuralNetwork.proto (BorderAmounts, SamplingMode and the layers' own comments).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from anecompat.readers.neural_network.layers import Argument, FromShapes, Layer, Lowered, named
from anecompat.readers.neural_network.spatial import borders_of, flat_borders, pair
from anecompat.shapes import Dim, Shape, Unshaped, need_rank, plus, positive, scaled, times, told

SAMPLING = ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS")  # SamplingMode.Method in MIL's words
BOXES = ("CORNERS_HEIGHT_FIRST", "CORNERS_WIDTH_FIRST", "CENTER_SIZE_HEIGHT_FIRST", "CENTER_SIZE_WIDTH_FIRST")


def padding(layer: Layer) -> Lowered:
    p = layer.params
    mode = {"reflection": "reflect", "replication": "replicate"}.get(p.WhichOneof("PaddingType") or "", "constant")
    arguments: dict[str, Argument] = {"x": layer.edge(), "pad": flat_borders(p.paddingAmounts), "mode": mode}
    arguments["constant_val"] = float(p.constant.value)

    def shapes() -> list[Shape]:
        shape, borders = need_rank(layer.shape(), 2), borders_of(p.paddingAmounts)
        return [(*shape[:-2], *(plus(size, sum(border)) for size, border in zip(shape[-2:], borders, strict=True)))]

    return Lowered("pad", arguments, shapes)


def constant_pad(layer: Layer) -> Lowered:
    p = layer.params
    given = layer.optional(1)

    def amounts() -> list[tuple[int, int]]:
        shape = layer.shape()
        numbers = layer.numbers(1) if given is not None else tuple(int(amount) for amount in p.padAmounts)
        if numbers is None:
            raise Unshaped("its padding is computed by the model")
        if len(numbers) != 2 * len(shape):
            raise Unshaped(f"its padding amounts are {told(numbers)} for an input of rank {len(shape)}")
        pairs = [(numbers[2 * axis], numbers[2 * axis + 1]) for axis in range(len(shape))]
        if not p.padToGivenOutputSizeMode:
            return pairs
        # In this mode the one that is not zero is the size wanted, and tells the side the padding goes to.
        return [
            (max(first - (size or first), 0), max(second - (size or second), 0))
            for size, (first, second) in zip(shape, pairs, strict=True)
        ]

    def shapes() -> list[Shape]:
        return [tuple(plus(size, sum(border)) for size, border in zip(layer.shape(), amounts(), strict=True))]

    pad: Argument = given if given is not None else FromShapes(lambda: [size for pair in amounts() for size in pair])
    arguments: dict[str, Argument] = {"x": layer.edge(), "pad": pad, "mode": "constant", "constant_val": float(p.value)}
    return Lowered("pad", arguments, shapes)


def crop(layer: Layer) -> Lowered:
    p = layer.params
    reference = layer.optional(1)

    def borders() -> Sequence[tuple[Dim, Dim]]:
        if reference is None:
            return borders_of(p.cropAmounts)
        sizes, wanted = need_rank(layer.shape(), 2)[-2:], need_rank(layer.shape(1), 2)[-2:]
        result: list[tuple[Dim, Dim]] = []
        for size, want, offset in zip(sizes, wanted, pair(p.offset, 0, "offset"), strict=True):
            result.append((offset, None if size is None or want is None else size - offset - want))
        return result

    def shapes() -> list[Shape]:
        shape = need_rank(layer.shape(), 2)
        if reference is not None:
            rest = [after for _, after in borders() if after is not None]
            if min(rest, default=0) < 0:
                raise Unshaped("its reference, moved by its offset, does not lie within its input")
            return [(*shape[:-2], *layer.shape(1)[-2:])]
        return [(*shape[:-2], *(plus(s, -sum(b)) for s, b in zip(shape[-2:], borders_of(p.cropAmounts), strict=True)))]

    arguments: dict[str, Argument] = {
        "x": layer.edge(),
        "crop_height": FromShapes(lambda: borders()[0]),
        "crop_width": FromShapes(lambda: borders()[1]),
    }
    if reference is not None:
        arguments["reference"] = reference
    return Lowered("crop", arguments, shapes)


def upsample(layer: Layer) -> Lowered:
    p = layer.params
    fractional = len(p.fractionalScalingFactor) > 0
    factors = [float(f) for f in p.fractionalScalingFactor] if fractional else [int(f) or 1 for f in p.scalingFactor]
    height, width = [*factors, 1, 1][:2]
    bilinear = p.mode == 1
    arguments: dict[str, Argument] = {
        "x": layer.edge(),
        "scale_factor_height": height,
        "scale_factor_width": width,
    }
    if bilinear:
        arguments["align_corners"] = p.linearUpsampleMode == 1

    def shapes() -> list[Shape]:
        if len(factors) not in (0, 2):
            raise Unshaped(f"its scaling factors are {told(factors)}, not 2 numbers")
        shape = need_rank(layer.shape(), 2)
        return [(*shape[:-2], scaled(shape[-2], height), scaled(shape[-1], width))]

    return Lowered("upsample_bilinear" if bilinear else "upsample_nearest_neighbor", arguments, shapes)


def resize_bilinear(layer: Layer) -> Lowered:
    p = layer.params

    def target() -> tuple[int, int]:
        height, width = pair(p.targetSize, 1, "target size")
        return height or 1, width or 1

    arguments: dict[str, Argument] = {"x": layer.edge(), **_target_sizes("target_size_height", "target_size_width", p)}
    arguments["sampling_mode"] = named(SAMPLING, p.mode.samplingMethod)
    return Lowered("resize_bilinear", arguments, lambda: [(*need_rank(layer.shape(), 2)[:-2], *target())])


def _target_sizes(height: str, width: str, p: Any) -> dict[str, Argument]:
    sizes = ([int(size) for size in p.targetSize] + [1, 1])[:2]
    return {height: sizes[0] or 1, width: sizes[1] or 1}


def crop_resize(layer: Layer) -> Lowered:
    p = layer.params
    arguments: dict[str, Argument] = {
        "x": layer.edge(),
        "roi": layer.edge(1),
        **_target_sizes("target_height", "target_width", p),
        "normalized_coordinates": p.normalizedCoordinates,
        "spatial_scale": float(p.spatialScale),
        "box_coordinate_mode": named(BOXES, p.boxIndicesMode.boxMode),
        "sampling_mode": named(SAMPLING, p.mode.samplingMethod),
    }

    def shapes() -> list[Shape]:
        image, boxes = need_rank(layer.shape(), 5, 5), need_rank(layer.shape(1), 5, 5)
        height, width = pair(p.targetSize, 1, "target size")
        if boxes[2] not in (4, 5, None):
            raise Unshaped(f"its boxes have {boxes[2]} coordinates, not 4 or 5")
        batch = image[1] if boxes[2] == 4 or image[1] == 1 else 1 if boxes[2] == 5 else None
        return [(boxes[0], batch, image[2], height or 1, width or 1)]

    return Lowered("crop_resize", arguments, shapes)


def reorganize_data(layer: Layer) -> Lowered:
    p = layer.params
    block = int(p.blockSize)
    to_depth = p.mode == 0
    kind = named(("space_to_depth", "depth_to_space", "pixel_shuffle"), p.mode)

    def shapes() -> list[Shape]:
        shape = need_rank(layer.shape(), 3)
        channels, height, width = shape[-3:]
        positive(block, "block size")
        if to_depth:
            spatial = [_divided(size, block, "size") for size in (height, width)]
            return [(*shape[:-3], times(channels, block * block), *spatial)]
        return [(*shape[:-3], _divided(channels, block * block, "channels"), times(height, block), times(width, block))]

    factor = "upscale_factor" if kind == "pixel_shuffle" else "block_size"
    return Lowered(kind, {"x": layer.edge(), factor: block}, shapes)


def _divided(dim: Dim, by: int, what: str) -> Dim:
    if dim is not None and dim % by:
        raise Unshaped(f"its block does not divide its {what} of {dim}")
    return None if dim is None else dim // by


LOWERINGS: dict[str, Callable[[Layer], Lowered]] = {
    "padding": padding,
    "constantPad": constant_pad,
    "crop": crop,
    "upsample": upsample,
    "resizeBilinear": resize_bilinear,
    "cropResize": crop_resize,
    "reorganizeData": reorganize_data,
}

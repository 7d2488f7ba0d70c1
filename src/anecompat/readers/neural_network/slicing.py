"""Layers that take a part of a tensor: slices along one axis, static and dynamic slices, sliding windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from anecompat.readers.neural_network.layers import Argument, FromShapes, Layer, Lowered
from anecompat.shapes import (
    Dim,
    Shape,
    Unshaped,
    axis_of,
    indexed,
    need_rank,
    plus,
    positive,
    sliced,
)

SLICE_AXES = (-3, -2, -1)  # SliceLayerParams.SliceAxis: channel, height, width


def slice_one(layer: Layer) -> Lowered:
    """Slice along channel, height or width. An end of 0 is the end of the axis (Core ML's validator reads it so)."""
    p = layer.params
    axis = SLICE_AXES[p.axis] if 0 <= p.axis < 3 else None
    begin, end, step = int(p.startIndex), int(p.endIndex), int(p.stride)

    def shapes() -> list[Shape]:
        if axis is None:
            raise Unshaped("its axis is not one the format declares")
        shape = need_rank(layer.shape(), -axis)
        size, at = shape[axis], len(shape) + axis
        if size is not None and (end > size or begin < -size):
            raise Unshaped(f"it slices from {begin} to {end} of {size}")
        count = sliced(size, begin, end or None, positive(step, "stride"))
        return [(*shape[:at], count, *shape[at + 1 :])]

    def each(value: int, other: int) -> list[int]:
        rank = 4 if layer.blob else len(layer.shape())
        return [value if index - rank == axis else other for index in range(rank)]

    def mask(value: bool) -> Sequence[bool]:
        return [bool(flag) for flag in each(value, True)]

    arguments: dict[str, Argument] = {"x": layer.edge()}
    arguments |= {
        "begin": FromShapes(lambda: each(begin, 0)),
        "end": FromShapes(lambda: each(end, 0)),
        "stride": FromShapes(lambda: each(step, 1)),
    }
    if layer.edge().shape is not None:
        arguments |= {"begin_mask": mask(False), "end_mask": mask(end == 0)}
    return Lowered("slice_by_index", arguments, shapes)


def slice_static(layer: Layer) -> Lowered:
    p = layer.params
    begins, ends, steps = ([int(v) for v in values] for values in (p.beginIds, p.endIds, p.strides))
    arguments: dict[str, Argument] = {"x": layer.edge(), "begin": begins, "end": ends, "stride": steps}
    arguments |= {"begin_mask": list(p.beginMasks), "end_mask": list(p.endMasks)}
    if len(p.squeezeMasks):
        arguments["squeeze_mask"] = list(p.squeezeMasks)

    def shapes() -> list[Shape]:
        return [indexed(layer.shape(), begins, ends, steps, p.beginMasks, p.endMasks, p.squeezeMasks) or (1,)]

    return Lowered("slice_by_index", arguments, shapes)


def slice_dynamic(layer: Layer) -> Lowered:
    """begin is an input; end, stride and the masks are inputs or parameters (inputs 3 to 7)."""
    p = layer.params
    names = ("end", "stride", "begin_mask", "end_mask", "squeeze_mask")
    fields = (p.endIds, p.strides, p.beginMasks, p.endMasks, p.squeezeMasks)
    arguments: dict[str, Argument] = {"x": layer.edge(), "begin": layer.edge(1)}
    for index, (name, field) in enumerate(zip(names, fields, strict=True), start=2):
        given = layer.optional(index)
        if given is not None:
            arguments[name] = given
        elif len(field):
            arguments[name] = list(field)

    def numbers(index: int) -> tuple[int, ...] | None:
        if layer.optional(index) is not None:
            return layer.numbers(index)
        return tuple(int(value) for value in fields[index - 2])

    def shapes() -> list[Shape]:
        squeezed = numbers(6)
        if squeezed is None:
            raise Unshaped("which axes it squeezes is computed by the model")
        begins, ends, steps = layer.numbers(1), numbers(2), numbers(3)
        none = (0,) * len(layer.shape())
        begin_masks, end_masks = (None if flags is None else flags or none for flags in (numbers(4), numbers(5)))
        return [indexed(layer.shape(), begins, ends, steps, begin_masks, end_masks, squeezed) or (1,)]

    return Lowered("slice_by_index", arguments, shapes)


def slice_by_size(layer: Layer) -> Lowered:
    p = layer.params
    axis, size = int(p.axis), int(p.size)

    def sizes() -> Sequence[Dim]:
        shape = layer.shape()
        at = axis_of(axis, len(shape))
        whole = shape[at]
        if whole is not None and size > whole:
            raise Unshaped(f"it takes {size} of {whole}")
        return (*shape[:at], size, *shape[at + 1 :])

    arguments: dict[str, Argument] = {"x": layer.edge(), "begin": layer.edge(1), "size": FromShapes(sizes)}
    return Lowered("slice_by_size", arguments, lambda: [tuple(sizes())])


def sliding_windows(layer: Layer) -> Lowered:
    p = layer.params
    axis, size, step = int(p.axis), int(p.windowSize), int(p.step)

    def shapes() -> list[Shape]:
        shape = layer.shape()
        at = axis_of(axis, len(shape))
        count = plus(shape[at], -positive(size, "window"))
        if count is not None and count < 0:
            raise Unshaped(f"its window of {size} is larger than the axis of {shape[at]}")
        windows = None if count is None else count // positive(step, "step") + 1
        return [(*shape[:at], windows, size, *shape[at + 1 :])]

    return Lowered("sliding_windows", {"x": layer.edge(), "axis": axis, "size": size, "stride": step}, shapes)


LOWERINGS: dict[str, Callable[[Layer], Lowered]] = {
    "slice": slice_one,
    "sliceStatic": slice_static,
    "sliceDynamic": slice_dynamic,
    "sliceBySize": slice_by_size,
    "slidingWindows": sliding_windows,
}

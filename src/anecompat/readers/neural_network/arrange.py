"""Layers that move elements without computing: reshapes, transposes, concatenation, splitting, repetition."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from anecompat.readers.neural_network.layers import Argument, Edges, FromShapes, Layer, Lowered
from anecompat.shapes import (
    LARGEST_RANK,
    Dim,
    Shape,
    Unshaped,
    axis_of,
    need_rank,
    positive,
    product,
    reshaped,
    same_dim,
    times,
    told,
    without,
)


def _reshape(layer: Layer, shapes: Callable[[], list[Shape]]) -> Lowered:
    target = FromShapes(lambda: layer.shown(shapes()[0]))
    return Lowered("reshape", {"x": layer.edge(), "shape": target}, shapes)


def reshape(layer: Layer) -> Lowered:
    target = [int(dim) for dim in layer.params.targetShape]

    def shapes() -> list[Shape]:
        if len(target) not in (3, 4):
            raise Unshaped(f"its target shape is {told(target)}, not 3 or 4 numbers")
        shape = need_rank(layer.shape(), 5, 5)
        if len(target) == 3:
            return [(*shape[:2], *reshaped(shape[2:], target, keep_zero=False))]
        sequence, *rest = reshaped((shape[0], *shape[2:]), target, keep_zero=False)
        return [(sequence, shape[1], *rest)]

    return _reshape(layer, shapes)


def reshape_static(layer: Layer) -> Lowered:
    target = [int(dim) for dim in layer.params.targetShape]

    def shapes() -> list[Shape]:
        if all(dim > 0 for dim in target) and layer.edge().shape is None:
            return [tuple(target)]  # the only layer of this family whose result needs no input
        return [reshaped(layer.shape(), target, keep_zero=False)]

    return Lowered("reshape", {"x": layer.edge(), "shape": target}, shapes)


def rank_preserving_reshape(layer: Layer) -> Lowered:
    target = [int(dim) for dim in layer.params.targetShape]

    def shapes() -> list[Shape]:
        need_rank(layer.shape(), len(target), len(target))
        return [reshaped(layer.shape(), target, keep_zero=True)]

    return Lowered("reshape", {"x": layer.edge(), "shape": target}, shapes)


def reshape_like(layer: Layer) -> Lowered:
    def shapes() -> list[Shape]:
        shape, wanted = layer.edge().shape, layer.shape(1)
        if shape is not None and product(shape) != product(wanted) and None not in (*shape, *wanted):
            raise Unshaped(f"its inputs have {product(shape)} and {product(wanted)} elements")
        return [wanted]

    return Lowered("reshape_like", {"x": layer.edge(), "ref_tensors": layer.edge(1)}, shapes)


def shape_from(layer: Layer, index: int) -> Shape:
    """The shape that an input of the layer spells: its numbers, or as many unknown dimensions as it has elements."""
    numbers = layer.numbers(index)
    if numbers is not None:
        return numbers
    vector = layer.shape(index)
    count = vector[0] if len(vector) == 1 else None
    if count is None or count > LARGEST_RANK:
        raise Unshaped("its shape is computed by the model")
    return (None,) * count


def reshape_dynamic(layer: Layer) -> Lowered:
    def shapes() -> list[Shape]:
        target = shape_from(layer, 1)
        known = [dim for dim in target if dim is not None]
        return [reshaped(layer.shape(), known, keep_zero=False) if len(known) == len(target) else target]

    return Lowered("reshape", {"x": layer.edge(), "shape": layer.edge(1)}, shapes)


def flatten(layer: Layer) -> Lowered:
    def shapes() -> list[Shape]:
        shape = need_rank(layer.shape(), 3)
        return [(*shape[:-3], product(shape[-3:]), 1, 1)]

    return _reshape(layer, shapes)


def flatten_to_2d(layer: Layer) -> Lowered:
    axis = int(layer.params.axis)

    def shapes() -> list[Shape]:
        shape = layer.shape()
        cut = axis if axis == len(shape) else axis_of(axis, len(shape))
        return [(product(shape[:cut]), product(shape[cut:]))]

    return Lowered("flatten2d", {"x": layer.edge(), "axis": axis}, shapes)


def permute(layer: Layer) -> Lowered:
    order = [int(axis) for axis in layer.params.axis] or [0, 1, 2, 3]
    full = [0, 2, 3, 4]  # the axes are (Seq, C, H, W) of (Seq, B, C, H, W); B stays

    def shapes() -> list[Shape]:
        if sorted(order) != [0, 1, 2, 3]:
            raise Unshaped("its axes are no permutation of 0, 1, 2, 3")
        shape = need_rank(layer.shape(), 5, 5)
        first, *rest = (shape[full[axis]] for axis in order)
        return [(first, shape[1], *rest)]

    if layer.blob or sorted(order) != [0, 1, 2, 3]:
        perm = order
    else:
        perm = [full[order[0]], 1, *(full[axis] for axis in order[1:])]
    return Lowered("transpose", {"x": layer.edge(), "perm": perm}, shapes)


def transpose(layer: Layer) -> Lowered:
    axes = [int(axis) for axis in layer.params.axes]

    def shapes() -> list[Shape]:
        shape = layer.shape()
        if sorted(axes) != list(range(len(shape))):
            raise Unshaped(f"its axes are no permutation of the {len(shape)} axes of its input")
        return [tuple(shape[axis] for axis in axes)]

    return Lowered("transpose", {"x": layer.edge(), "perm": axes}, shapes)


def _concat(layer: Layer, axis: int) -> list[Shape]:
    shapes = layer.all_shapes()
    rank = len(shapes[0])
    at = axis_of(axis, rank)
    dims: list[Dim] = list(shapes[0])
    for shape in shapes[1:]:
        if len(shape) != rank:
            raise Unshaped(f"its inputs differ in rank: {rank} and {len(shape)}")
        for index, dim in enumerate(shape):
            mine = dims[index]
            if index != at:
                dims[index] = same_dim(mine, dim, f"axis {index}")
            else:
                dims[at] = None if mine is None or dim is None else mine + dim
    return [tuple(dims)]


def concat(layer: Layer) -> Lowered:
    axis = -5 if layer.params.sequenceConcat else -3
    arguments: dict[str, Argument] = {"values": Edges(layer.inputs), "axis": layer.shown_axis(axis)}
    return Lowered("concat", arguments, lambda: _concat(layer, axis))


def concat_nd(layer: Layer) -> Lowered:
    axis = int(layer.params.axis)
    arguments: dict[str, Argument] = {"values": Edges(layer.inputs), "axis": axis, "interleave": False}
    if hasattr(layer.params, "interleave"):
        arguments["interleave"] = layer.params.interleave
    return Lowered("concat", arguments, lambda: _concat(layer, axis))


def stack(layer: Layer) -> Lowered:
    axis = int(layer.params.axis)

    def shapes() -> list[Shape]:
        shapes = layer.all_shapes()
        dims = shapes[0]
        for shape in shapes[1:]:
            if len(shape) != len(dims):
                raise Unshaped(f"its inputs differ in rank: {len(dims)} and {len(shape)}")
            dims = tuple(same_dim(a, b, "shape") for a, b in zip(dims, shape, strict=True))
        at = axis_of(axis, len(dims) + 1)
        return [(*dims[:at], len(shapes), *dims[at:])]

    return Lowered("stack", {"values": Edges(layer.inputs), "axis": axis}, shapes)


def split(layer: Layer) -> Lowered:
    count = int(layer.params.nOutputs) or layer.output_count
    arguments: dict[str, Argument] = {"x": layer.edge(), "num_splits": count, "axis": -3}
    return Lowered("split", arguments, lambda: _split(layer, -3, count, ()))


def split_nd(layer: Layer) -> Lowered:
    p = layer.params
    axis, sizes = int(p.axis), [int(size) for size in p.splitSizes]
    count = len(sizes) or int(p.numSplits) or layer.output_count
    parts: dict[str, Argument] = {"split_sizes": sizes} if sizes else {"num_splits": count}
    return Lowered("split", {"x": layer.edge(), **parts, "axis": axis}, lambda: _split(layer, axis, count, sizes))


def _split(layer: Layer, axis: int, count: int, sizes: Sequence[int]) -> list[Shape]:
    shape = layer.shape()
    at = axis_of(axis, len(shape))
    size = shape[at]
    if count != layer.output_count:
        raise Unshaped(f"it splits into {count} and writes {layer.output_count}")
    if sizes:
        if size is not None and sum(sizes) != size:
            raise Unshaped(f"its parts add up to {sum(sizes)} of {size}")
        return [(*shape[:at], part, *shape[at + 1 :]) for part in sizes]
    if size is not None and size % positive(count, "number of outputs"):
        raise Unshaped(f"{size} does not split into {count} equal parts")
    part = None if size is None else size // count
    return [(*shape[:at], part, *shape[at + 1 :])] * count


def sequence_repeat(layer: Layer) -> Lowered:
    count = int(layer.params.nRepetitions) or 1

    def shapes() -> list[Shape]:
        shape = need_rank(layer.shape(), 5)
        return [(*shape[:-5], times(shape[-5], count), *shape[-4:])]

    reps = [count, 1, 1, 1] if layer.blob else [count, 1, 1, 1, 1]
    return Lowered("tile", {"x": layer.edge(), "reps": reps}, shapes)


def tile(layer: Layer) -> Lowered:
    given = layer.optional(1)

    def shapes() -> list[Shape]:
        shape = layer.shape()
        reps = layer.numbers(1) if given is not None else tuple(int(count) for count in layer.params.reps)
        if reps is None:
            return [(None,) * len(shape)]
        if not 0 < len(reps) <= len(shape):
            raise Unshaped(f"its repetitions are {told(reps)} for an input of rank {len(shape)}")
        reps = (1,) * (len(shape) - len(reps)) + reps
        return [tuple(times(dim, positive(count, "repetition")) for dim, count in zip(shape, reps, strict=True))]

    reps: Argument = given if given is not None else [int(count) for count in layer.params.reps]
    return Lowered("tile", {"x": layer.edge(), "reps": reps}, shapes)


def broadcast_to(layer: Layer) -> Lowered:
    """Broadcasting is repetition along the axes that are 1: MIL says it with ``tile``."""

    def target() -> Shape:
        if layer.kind == "broadcastToLike":
            return layer.shape(1)
        if layer.kind == "broadcastToStatic":
            return tuple(int(dim) for dim in layer.params.targetShape)
        return shape_from(layer, 1)

    def shapes() -> list[Shape]:
        wanted, shape = target(), layer.edge().shape
        if shape is not None:
            if len(shape) > len(wanted):
                raise Unshaped(f"rank {len(shape)} cannot be broadcast to rank {len(wanted)}")
            for dim, goal in zip(shape[::-1], wanted[::-1], strict=False):
                if dim not in (1, None):
                    same_dim(dim, goal, "a dimension to broadcast")
        return [wanted]

    def reps() -> list[Dim]:
        shape, wanted = layer.shape(), shapes()[0]
        padded = (1,) * (len(wanted) - len(shape)) + shape
        return [
            None if dim is None or goal is None else goal if dim == 1 else 1
            for dim, goal in zip(padded, wanted, strict=True)
        ]

    arguments: dict[str, Argument] = {"x": layer.edge(), "reps": FromShapes(reps)}
    if layer.kind != "broadcastToStatic":
        arguments["reference"] = layer.edge(1)
    return Lowered("tile", arguments, shapes)


def squeeze(layer: Layer) -> Lowered:
    p = layer.params
    axes = [int(axis) for axis in p.axes]

    def shapes() -> list[Shape]:
        shape = layer.shape()
        if p.squeezeAll:
            if None in shape:
                raise Unshaped("which of its axes are 1 depends on an unknown dimension")
            return [without(shape, [axis for axis, dim in enumerate(shape) if dim == 1]) or (1,)]
        gone = {axis_of(axis, len(shape)) for axis in axes}
        for axis in gone:
            if shape[axis] not in (1, None):
                raise Unshaped(f"axis {axis} is {shape[axis]} and cannot be squeezed")
        return [without(shape, gone) or (1,)]  # old networks have no scalars

    arguments: dict[str, Argument] = {"x": layer.edge()}
    if not p.squeezeAll:
        arguments["axes"] = axes
    return Lowered("squeeze", arguments, shapes)


def expand_dims(layer: Layer) -> Lowered:
    axes = [int(axis) for axis in layer.params.axes]

    def shapes() -> list[Shape]:
        shape = layer.shape()
        rank = len(shape) + len(axes)
        if rank > LARGEST_RANK:
            raise Unshaped(f"it would have {rank} axes")
        added = {axis_of(axis, rank) for axis in axes}
        if len(added) != len(axes):
            raise Unshaped("it adds one axis twice")
        dims = iter(shape)
        return [tuple(1 if axis in added else next(dims) for axis in range(rank))]

    return Lowered("expand_dims", {"x": layer.edge(), "axes": axes}, shapes)


LOWERINGS: dict[str, Callable[[Layer], Lowered]] = {
    "reshape": reshape,
    "reshapeStatic": reshape_static,
    "rankPreservingReshape": rank_preserving_reshape,
    "reshapeLike": reshape_like,
    "reshapeDynamic": reshape_dynamic,
    "flatten": flatten,
    "flattenTo2D": flatten_to_2d,
    "permute": permute,
    "transpose": transpose,
    "concat": concat,
    "concatND": concat_nd,
    "stack": stack,
    "split": split,
    "splitND": split_nd,
    "sequenceRepeat": sequence_repeat,
    "tile": tile,
    "broadcastToLike": broadcast_to,
    "broadcastToStatic": broadcast_to,
    "broadcastToDynamic": broadcast_to,
    "squeeze": squeeze,
    "expandDims": expand_dims,
}

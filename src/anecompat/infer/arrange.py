"""Shapes of operations that move, pick, resize or make tensors.

Source: the definitions of MIL's operations as coremltools 9.0 publishes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, isfinite

from anecompat.infer.call import Call, Rule, named
from anecompat.infer.compute import same
from anecompat.shapes import (
    LARGEST_RANK,
    Dim,
    Shape,
    Unshaped,
    axis_of,
    indexed,
    need_rank,
    plus,
    positive,
    product,
    reshaped,
    same_dim,
    scaled,
    times,
    window,
    without,
)


def _reshape(call: Call) -> list[Shape]:
    target = call.spelled("shape")
    known = [dim for dim in target if dim is not None]
    return [reshaped(call.shape(), known, keep_zero=True) if len(known) == len(target) else target]


def _transpose(call: Call) -> list[Shape]:
    shape, perm = call.shape(), call.ints("perm")
    axes = [axis_of(axis, len(shape)) for axis in perm]
    if sorted(axes) != list(range(len(shape))):
        raise Unshaped("its perm is no permutation of the axes of its input")
    return [tuple(shape[axis] for axis in axes)]


def _expand_dims(call: Call) -> list[Shape]:
    shape, axes = call.shape(), call.ints("axes")
    rank = len(shape) + len(axes)
    if rank > LARGEST_RANK:
        raise Unshaped(f"it would have {rank} axes")
    added = {axis_of(axis, rank) for axis in axes}
    dims = iter(shape)
    return [tuple(1 if axis in added else next(dims) for axis in range(rank))] if len(added) == len(axes) else []


def _squeeze(call: Call) -> list[Shape]:
    shape = call.shape()
    if call.has("axes"):
        return [without(shape, {axis_of(axis, len(shape)) for axis in call.ints("axes")})]
    if None in shape:
        raise Unshaped("which of its axes are 1 depends on an unknown dimension")
    return [without(shape, [axis for axis, dim in enumerate(shape) if dim == 1])]


def _concat(call: Call) -> list[Shape]:
    shapes = call.shapes("values")
    at = axis_of(call.integer("axis"), len(shapes[0]))
    dims: list[Dim] = list(shapes[0])
    for shape in shapes[1:]:
        need_rank(shape, len(dims), len(dims))
        for axis, dim in enumerate(shape):
            mine = dims[axis]
            if axis == at:
                dims[axis] = None if mine is None or dim is None else mine + dim
            else:
                dims[axis] = same_dim(mine, dim, f"axis {axis}")
    return [tuple(dims)]


def _stack(call: Call) -> list[Shape]:
    shapes = call.shapes("values")
    at = axis_of(call.integer("axis"), len(shapes[0]) + 1)
    dims = shapes[0]
    for shape in shapes[1:]:
        dims = tuple(same_dim(a, b, "shape") for a, b in zip(dims, need_rank(shape, len(dims), len(dims)), strict=True))
    return [(*dims[:at], len(shapes), *dims[at:])]


def _split(call: Call) -> list[Shape]:
    shape = call.shape()
    at = axis_of(call.integer("axis"), len(shape))
    count = len(call.operation.outputs)
    if call.has("split_sizes"):
        sizes: Sequence[Dim] = call.ints("split_sizes")
    else:
        size = shape[at]
        sizes = [None if size is None else size // count] * count
    return [(*shape[:at], part, *shape[at + 1 :]) for part in sizes]


def _slice_by_index(call: Call) -> list[Shape]:
    shape = call.shape()
    none = (0,) * len(shape)
    squeezed = call.ints("squeeze_mask", none)
    begins, ends = call.known_ints("begin"), call.known_ints("end")
    steps = call.known_ints("stride") if call.has("stride") else (1,) * len(shape)
    masks = [call.known_ints(mask) if call.has(mask) else none for mask in ("begin_mask", "end_mask")]
    return [indexed(shape, begins, ends, steps, masks[0], masks[1], squeezed)]


def _slice_by_size(call: Call) -> list[Shape]:
    shape, sizes, begins = call.shape(), call.spelled("size"), call.known_ints("begin")
    if len(sizes) != len(shape):
        raise Unshaped(f"it has {len(sizes)} sizes for an input of rank {len(shape)}")
    dims: list[Dim] = []
    for axis, size in enumerate(sizes):
        # -1 takes what is left of the axis
        dims.append(size if size != -1 else None if begins is None else plus(shape[axis], -begins[axis]))
    return [tuple(dims)]


def _tile(call: Call) -> list[Shape]:
    shape, reps = call.shape(), call.spelled("reps")
    if len(reps) != len(shape):
        raise Unshaped(f"it has {len(reps)} repetitions for an input of rank {len(shape)}")
    return [tuple(None if count is None else times(dim, count) for dim, count in zip(shape, reps, strict=True))]


def _pad(call: Call) -> list[Shape]:
    shape, pad = call.shape(), call.ints("pad")
    padded = len(pad) // 2
    if padded > len(shape) or len(pad) % 2:
        raise Unshaped(f"it pads {padded} axes of an input of rank {len(shape)}")
    kept = len(shape) - padded
    each = enumerate(shape[kept:])
    return [(*shape[:kept], *(plus(dim, pad[2 * axis] + pad[2 * axis + 1]) for axis, dim in each))]


def _gather(call: Call) -> list[Shape]:
    shape, indices, batch = call.shape(), call.shape("indices"), call.integer("batch_dims", 0)
    axis = axis_of(call.integer("axis", 0), len(shape))
    return [(*shape[:axis], *indices[batch:], *shape[axis + 1 :])]


def _gather_nd(call: Call) -> list[Shape]:
    shape, indices, batch = call.shape(), need_rank(call.shape("indices"), 1), call.integer("batch_dims", 0)
    if indices[-1] is None:
        raise Unshaped("how deep its indices reach is not known")
    return [(*indices[:-1], *shape[batch + indices[-1] :])]


def _upsample(call: Call) -> list[Shape]:
    shape = need_rank(call.shape(), 2)
    factors = [call.numbers(f"scale_factor_{side}") if call.has(f"scale_factor_{side}") else (1,)
               for side in ("height", "width")]  # fmt: skip
    if any(factor is None or len(factor) != 1 for factor in factors):
        raise Unshaped("its scale factor is not known")
    height, width = (factor[0] for factor in factors if factor is not None)
    return [(*shape[:-2], _times(shape[-2], height), _times(shape[-1], width))]


def _times(size: Dim, factor: float) -> Dim:
    return scaled(size, int(factor) if isfinite(factor) and float(factor).is_integer() else factor)


def _resize_to(call: Call) -> list[Shape]:
    shape = need_rank(call.shape(), 2)
    return [(*shape[:-2], call.integer("target_size_height"), call.integer("target_size_width"))]


def _resize(call: Call) -> list[Shape]:
    shape, wanted = call.shape(), call.spelled("shape")
    count = call.integer("resized_dims")
    if not 0 < count <= min(len(wanted), len(shape)):
        raise Unshaped(f"it resizes {count} axes of an input of rank {len(shape)}")
    kept = len(shape) - count
    return [(*shape[:kept], *(shape[kept + i] if dim == 0 else dim for i, dim in enumerate(wanted[-count:])))]


def _crop(call: Call) -> list[Shape]:
    shape = need_rank(call.shape(), 2)
    return [
        (*shape[:-2], plus(shape[-2], -sum(call.ints("crop_height"))), plus(shape[-1], -sum(call.ints("crop_width"))))
    ]


def _crop_resize(call: Call) -> list[Shape]:
    """Up to iOS 16, with ``roi``; later versions take ``boxes`` and keep the type the file declares."""
    boxes, image = need_rank(call.shape("roi"), 5, 5), need_rank(call.shape(), 4, 4)
    return [(boxes[0], image[0], image[1], call.integer("target_height", 1), call.integer("target_width", 1))]


def _to_space(argument: str) -> Rule:
    def rule(call: Call) -> list[Shape]:
        batch, channels, height, width = need_rank(call.shape(), 4, 4)
        block = positive(call.integer(argument), "block")
        left = None if channels is None else channels // block**2
        return [(batch, left, times(height, block), times(width, block))]

    return rule


def _to_depth(argument: str) -> Rule:
    def rule(call: Call) -> list[Shape]:
        batch, channels, height, width = need_rank(call.shape(), 4, 4)
        block = positive(call.integer(argument), "block")
        spatial = [None if dim is None else dim // block for dim in (height, width)]
        return [(batch, times(channels, block**2), *spatial)]

    return rule


def _to_batch(call: Call) -> list[Shape]:
    batch, channels, *sizes = need_rank(call.shape(), 3)
    blocks, paddings = call.ints("block_shape"), call.ints("paddings")
    spatial: list[Dim] = []
    for axis, (size, block) in enumerate(zip(sizes, blocks, strict=True)):
        padded = plus(size, sum(paddings[2 * axis : 2 * axis + 2]))
        spatial.append(None if padded is None else padded // positive(block, "block"))
        batch = times(batch, block)
    return [(batch, channels, *spatial)]


def _from_batch(call: Call) -> list[Shape]:
    batch, channels, *sizes = need_rank(call.shape(), 3)
    blocks, crops = call.ints("block_shape"), call.ints("crops")
    spatial: list[Dim] = []
    for axis, (size, block) in enumerate(zip(sizes, blocks, strict=True)):
        spatial.append(plus(times(size, block), -sum(crops[2 * axis : 2 * axis + 2])))
        batch = None if batch is None else batch // positive(block, "block")
    return [(batch, channels, *spatial)]


def _one_hot(call: Call) -> list[Shape]:
    shape = call.shape("indices")
    at = axis_of(call.integer("axis", -1), len(shape) + 1)
    length = call.known_ints("one_hot_vector_size")
    return [(*shape[:at], length[0] if length else None, *shape[at:])]


def _range(call: Call) -> list[Shape]:
    numbers = [call.numbers(argument) for argument in ("end", "start", "step")]
    if any(number is None or len(number) != 1 for number in numbers):
        return [(None,)]
    end, start, step = (number[0] for number in numbers if number is not None)
    if step == 0 or not isfinite((end - start) / step):
        raise Unshaped(f"it counts from {start:g} to {end:g} by {step:g}")
    return [(ceil((end - start) / step),)]


def _flatten2d(call: Call) -> list[Shape]:
    shape, axis = call.shape(), call.integer("axis", 1)
    cut = axis if axis == len(shape) else axis_of(axis, len(shape))
    return [(product(shape[:cut]), product(shape[cut:]))]


def _sliding_windows(call: Call) -> list[Shape]:
    shape, size = call.shape(), call.integer("size")
    at = axis_of(call.integer("axis"), len(shape))
    count = window(shape[at], size, call.integer("stride", 1), 0, 0)
    return [(*shape[:at], count, size, *shape[at + 1 :])]


def _suppressed(call: Call) -> list[Shape]:
    boxes, scores = need_rank(call.shape("boxes"), 3, 3), need_rank(call.shape("scores"), 3, 3)
    most = call.integer("max_boxes")
    return [(boxes[0], most, 4), (boxes[0], most, scores[2]), (boxes[0], most), (boxes[0],)]


RULES: dict[str, Rule] = {
    **named(same("data"), "scatter scatter_nd scatter_along_axis"),
    "gather_along_axis": same("indices"),
    "fill_like": same("ref_tensor"),
    "reshape": _reshape,
    "transpose": _transpose,
    "expand_dims": _expand_dims,
    "squeeze": _squeeze,
    "concat": _concat,
    "stack": _stack,
    "split": _split,
    "slice_by_index": _slice_by_index,
    "slice_by_size": _slice_by_size,
    "tile": _tile,
    "pad": _pad,
    "gather": _gather,
    "gather_nd": _gather_nd,
    **named(_upsample, "upsample_nearest_neighbor upsample_bilinear"),
    **named(_resize_to, "resize_bilinear resize_nearest_neighbor"),
    "resize": _resize,
    "crop": _crop,
    "crop_resize": _crop_resize,
    "depth_to_space": _to_space("block_size"),
    "pixel_shuffle": _to_space("upscale_factor"),
    "space_to_depth": _to_depth("block_size"),
    "pixel_unshuffle": _to_depth("downscale_factor"),
    "space_to_batch": _to_batch,
    "batch_to_space": _from_batch,
    "one_hot": _one_hot,
    "range_1d": _range,
    **named(lambda call: [call.spelled("shape")], "fill random_normal random_uniform random_bernoulli"),
    "shape": lambda call: [(len(call.shape()),)],
    "non_zero": lambda call: [(None, len(call.shape()))],
    "flatten2d": _flatten2d,
    "sliding_windows": _sliding_windows,
    "non_maximum_suppression": _suppressed,
}

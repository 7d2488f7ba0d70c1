"""Arithmetic on shapes that may have holes: what the rules of shape inference, for old networks and programs, build on.

A dimension is an int, or None where it is known to exist but not how large it is. A rule that cannot say raises
``Unshaped`` with the reason; ``Downstream`` is the reason that needs no telling, because an input had no shape already.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from math import floor, isfinite

Dim = int | None
Shape = tuple[Dim, ...]

# Core ML's tensors have ranks 0 to 5 (sliding windows make 6), so these are far beyond any real model;
# without them a few bytes of a hostile file could make shapes of a million axes or numbers of a million digits.
LARGEST_RANK = 16
LARGEST_DIMENSION = 1 << 40


class Unshaped(Exception):
    """The shape of an output cannot be told. The text completes the sentence "the shape ... is unknown: ..."."""


class Downstream(Unshaped):
    """An input has no shape, so neither has the output; what lost the shape was reported where it happened."""


def checked(shape: Iterable[Dim]) -> Shape:
    """The shape itself, or Unshaped where no tensor can have it."""
    dims = tuple(shape)
    if len(dims) > LARGEST_RANK:
        raise Unshaped(f"it would have {len(dims)} axes")
    for dim in dims:
        if dim is not None and not 0 < dim <= LARGEST_DIMENSION:
            raise Unshaped(f"a dimension would be {dim}" if abs(dim) <= LARGEST_DIMENSION else "a dimension overflows")
    return dims


def product(dims: Iterable[Dim]) -> Dim:
    """How many elements, or None where a dimension is unknown."""
    total = 1
    for dim in dims:
        if dim is None:
            return None
        total *= dim
    return total


def times(dim: Dim, factor: int) -> Dim:
    return None if dim is None else dim * factor


def plus(dim: Dim, more: int) -> Dim:
    return None if dim is None else dim + more


def ceil_divide(dim: Dim, by: int) -> Dim:
    return None if dim is None else -(-dim // by)


def axis_of(axis: int, rank: int) -> int:
    """The axis counted from the front; negative ones count from the back."""
    if not -rank <= axis < rank:
        raise Unshaped(f"axis {axis} does not exist in rank {rank}")
    return axis % rank


def need_rank(shape: Shape, least: int, most: int | None = None) -> Shape:
    if len(shape) < least or (most is not None and len(shape) > most):
        wanted = f"{least}" if most == least else f"{least} or more" if most is None else f"{least} to {most}"
        raise Unshaped(f"it takes an input of rank {wanted} and is given rank {len(shape)}")
    return shape


def same_dim(first: Dim, second: Dim, what: str) -> Dim:
    """Two dimensions that must agree, merged; Unshaped where they differ."""
    if first is not None and second is not None and first != second:
        raise Unshaped(f"its inputs differ in {what}: {first} and {second}")
    return second if first is None else first


def broadcast(shapes: Sequence[Shape]) -> Shape:
    """The common shape as numpy broadcasts: aligned at the right, a 1 stretches. An unknown dimension beside a known
    one other than 1 takes the known size, because nothing else could be broadcast with it."""
    rank = max((len(shape) for shape in shapes), default=0)
    if rank > LARGEST_RANK:
        raise Unshaped(f"it would have {rank} axes")
    result: list[Dim] = []
    for offset in range(rank, 0, -1):
        dims = {shape[-offset] for shape in shapes if len(shape) >= offset}
        sizes = {dim for dim in dims if dim is not None and dim != 1}
        if len(sizes) > 1:
            raise Unshaped(f"its inputs cannot be broadcast: {_texts(shapes)}")
        result.append(sizes.pop() if sizes else None if None in dims else 1)
    return tuple(result)


def window(size: Dim, kernel: int, stride: int, before: int, after: int, dilation: int = 1) -> Dim:
    """How often a window fits: floor((size + padding - extent) / stride) + 1."""
    positive(kernel, "kernel")
    positive(stride, "stride")
    positive(dilation, "dilation")
    if size is None:
        return None
    extent = (kernel - 1) * dilation + 1
    room = size + before + after - extent
    if room < 0:
        raise Unshaped(f"its kernel spans {extent} and its padded input has {size + before + after}")
    return room // stride + 1


def window_to_last(size: Dim, kernel: int, stride: int, padding: int, padded: bool) -> Dim:
    """As ``window`` with ``includeLastPixel``: rounded up, less one where the last window would start in the padding
    (NeuralNetwork.proto, PoolingLayerParams)."""
    positive(kernel, "kernel")
    positive(stride, "stride")
    if size is None:
        return None
    room = size + 2 * padding - kernel
    if room < 0:
        raise Unshaped(f"its kernel spans {kernel} and its padded input has {size + 2 * padding}")
    count = -(-room // stride) + 1
    return count - 1 if padded and (count - 1) * stride >= size + padding else count


def positive(value: int, what: str) -> int:
    if value <= 0:
        raise Unshaped(f"its {what} is {value}")
    return value


def told(values: Iterable[object]) -> str:
    """A list as a sentence shows it: a hostile file's may have a million elements."""
    texts = [str(value) for value in islice(values, 9)]
    return f"[{', '.join([*texts[:8], '...'] if len(texts) > 8 else texts)}]"


def sliced(size: Dim, begin: int | None, end: int | None, step: int) -> Dim:
    """How many elements ``[begin:end:step]`` takes of ``size``; None begins at the start and ends at the end."""
    if step == 0:
        raise Unshaped("its stride is 0")
    if size is None:
        return None
    count = len(range(*slice(begin, end, step).indices(size)))
    if count == 0:
        raise Unshaped(f"it takes no element of {size}")
    return count


def reshaped(shape: Shape, target: Sequence[int], *, keep_zero: bool) -> Shape:
    """The target with -1 worked out from the number of elements, and 0 (where ``keep_zero``) taken from the input."""
    if len(target) > LARGEST_RANK:
        raise Unshaped(f"it would have {len(target)} axes")
    dims: list[Dim] = []
    hole: int | None = None
    for axis, wanted in enumerate(target):
        if wanted == 0 and keep_zero and axis < len(shape):
            dims.append(shape[axis])
        elif wanted == -1 and hole is None:
            hole = axis
            dims.append(1)
        elif wanted < 1:
            raise Unshaped(f"its target shape ({', '.join(map(str, target))}) is not one")
        else:
            dims.append(wanted)
    total, others = product(shape), product(dims)
    if hole is not None:
        dims[hole] = None
        if total is not None and others is not None:
            if total % others:
                raise Unshaped(f"{total} elements do not fill its target shape ({', '.join(map(str, target))})")
            dims[hole] = total // others
    elif total is not None and others is not None and total != others:
        raise Unshaped(f"{total} elements do not fit its target shape ({', '.join(map(str, target))})")
    return checked(dims)


def scaled(size: Dim, factor: float) -> Dim:
    """floor(size * factor), unless the rounding of the 32-bit factor decides the result."""
    if size is None or isinstance(factor, int):
        return None if size is None else size * int(factor)
    if not isfinite(factor) or not 0 < factor < 1e6:
        raise Unshaped(f"its scaling factor is {factor:g}")
    count, rounded_up = floor(size * factor), floor(size * factor * (1 + 1e-6))
    if count != rounded_up:
        raise Unshaped(f"{size} scaled by {factor:g} is {count} or {rounded_up}, as the rounding of the factor goes")
    return count


def without(shape: Sequence[Dim], axes: Iterable[int]) -> Shape:
    """The shape less some axes."""
    gone = set(axes)
    return tuple(dim for axis, dim in enumerate(shape) if axis not in gone)


def indexed(
    shape: Shape,
    begins: Sequence[int] | None,
    ends: Sequence[int] | None,
    steps: Sequence[int] | None,
    begin_masks: Sequence[int] | None,
    end_masks: Sequence[int] | None,
    squeeze_masks: Sequence[int],
) -> Shape:
    """The shape of ``x[begin:end:step]``, squeezed axes left out; a list that is None is computed by the model."""
    for values in (begins, ends, steps, begin_masks, end_masks):
        if values is not None and len(values) != len(shape):
            raise Unshaped(f"its indices are {told(values)} for an input of rank {len(shape)}")
    dims: list[Dim] = []
    for axis, size in enumerate(shape):
        if axis < len(squeeze_masks) and squeeze_masks[axis]:
            continue
        whole_begin = begin_masks is not None and begin_masks[axis]
        whole_end = end_masks is not None and end_masks[axis]
        computed = (begins is None and not whole_begin) or (ends is None and not whole_end)
        if steps is None or begin_masks is None or end_masks is None or computed:
            dims.append(None)
        else:
            begin = None if whole_begin or begins is None else begins[axis]
            end = None if whole_end or ends is None else ends[axis]
            dims.append(sliced(size, begin, end, steps[axis]))
    return tuple(dims)


def _texts(shapes: Sequence[Shape]) -> str:
    texts = ["x".join("?" if dim is None else str(dim) for dim in shape) or "scalar" for shape in shapes[:4]]
    return " and ".join(texts) + (" and more" if len(shapes) > 4 else "")

"""Layers that normalize, reduce, sort or accumulate along axes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from anecompat.readers.neural_network.layers import Argument, Layer, Lowered, Weight, named
from anecompat.shapes import LARGEST_RANK, Dim, Shape, Unshaped, axis_of, need_rank, told, without

# ReduceLayerParams.ReduceOperation and ReduceAxis
REDUCTIONS = (
    "reduce_sum",
    "reduce_mean",
    "reduce_prod",
    "reduce_log_sum",
    "reduce_sum_square",
    "reduce_l1_norm",
    "reduce_l2_norm",
    "reduce_max",
    "reduce_min",
    "reduce_argmax",
)
REDUCE_AXES = ((-3, -2, -1), (-2, -1), (-3,), (-2,), (-1,))

REDUCE_ND = {
    "reduceL1": "reduce_l1_norm",
    "reduceL2": "reduce_l2_norm",
    "reduceMax": "reduce_max",
    "reduceMin": "reduce_min",
    "reduceSum": "reduce_sum",
    "reduceProd": "reduce_prod",
    "reduceMean": "reduce_mean",
    "reduceLogSum": "reduce_log_sum",
    "reduceSumSquare": "reduce_sum_square",
    "reduceLogSumExp": "reduce_log_sum_exp",
}


def batch_norm(layer: Layer) -> Lowered:
    p = layer.params
    channels = Weight((int(p.channels),))
    arguments: dict[str, Argument] = {"x": layer.edge()}
    instance = p.computeMeanVar and p.instanceNormalization
    if not p.computeMeanVar:
        # Statistics that the layer computes from the batch have no MIL equal: they show as arguments left out.
        arguments |= {"mean": channels, "variance": channels}
    arguments |= {"gamma": channels, "beta": channels, "epsilon": float(p.epsilon) or 1e-5}
    return Lowered("instance_norm" if instance else "batch_norm", arguments, layer.unchanged)


def mean_variance(layer: Layer) -> Lowered:
    p = layer.params
    arguments: dict[str, Argument] = {"x": layer.edge()}
    if p.acrossChannels:
        arguments["axes"] = [-3, -2, -1]
    arguments["epsilon"] = float(p.epsilon) or 1e-6
    return Lowered("layer_norm" if p.acrossChannels else "instance_norm", arguments, layer.unchanged)


def l2_norm(layer: Layer) -> Lowered:
    return Lowered("l2_norm", {"x": layer.edge(), "epsilon": float(layer.params.epsilon) or 1e-6}, layer.unchanged)


def local_response_norm(layer: Layer) -> Lowered:
    p = layer.params
    numbers: dict[str, Argument] = {"alpha": float(p.alpha), "beta": float(p.beta), "k": float(p.k) or 1.0}
    return Lowered("local_response_norm", {"x": layer.edge(), "size": int(p.localSize), **numbers}, layer.unchanged)


def layer_norm(layer: Layer) -> Lowered:
    p = layer.params
    normalized = tuple(int(dim) for dim in p.normalizedShape)
    arguments: dict[str, Argument] = {
        "x": layer.edge(),
        "axes": list(range(-len(normalized), 0)),
        "gamma": Weight(normalized),
        "beta": Weight(normalized),
        "epsilon": float(p.eps),
    }
    return Lowered("layer_norm", arguments, layer.unchanged)


def softmax(layer: Layer) -> Lowered:
    return Lowered("softmax", {"x": layer.edge(), "axis": -3}, layer.unchanged)


def softmax_nd(layer: Layer) -> Lowered:
    axis = int(layer.params.axis)
    return Lowered("softmax", {"x": layer.edge(), "axis": axis}, lambda: _along(layer, axis))


def _along(layer: Layer, axis: int) -> list[Shape]:
    axis_of(axis, len(layer.shape()))
    return layer.unchanged()


def reduce(layer: Layer) -> Lowered:
    p = layer.params
    kind = named(REDUCTIONS, p.mode)
    axes = REDUCE_AXES[p.axis] if 0 <= p.axis < len(REDUCE_AXES) else ()

    def shapes() -> list[Shape]:
        if not axes:
            raise Unshaped("its axis is not one the format declares")
        shape = need_rank(layer.shape(), -min(axes))
        return [tuple(1 if axis - len(shape) in axes else dim for axis, dim in enumerate(shape))]

    along: dict[str, Argument] = {"axes": list(axes)}
    if kind == "reduce_argmax":
        along = {"axis": axes[0] if len(axes) == 1 else list(axes)}
    return Lowered(kind, {"x": layer.edge(), **along, "keep_dims": True}, shapes)


def reduce_nd(kind: str) -> Callable[[Layer], Lowered]:
    def lower(layer: Layer) -> Lowered:
        p = layer.params
        arguments: dict[str, Argument] = {"x": layer.edge()}
        if not p.reduceAll:
            arguments["axes"] = [int(axis) for axis in p.axes]
        arguments["keep_dims"] = p.keepDims

        def shapes() -> list[Shape]:
            shape = layer.shape()
            axes = _axes(range(len(shape)) if p.reduceAll else p.axes, len(shape))
            if not axes:
                raise Unshaped("it names no axis to reduce")
            if p.keepDims:
                return [tuple(1 if axis in axes else dim for axis, dim in enumerate(shape))]
            return [without(shape, axes) or (1,)]  # old networks have no scalars

        return Lowered(kind, arguments, shapes)

    return lower


def _axes(axes: Iterable[int], rank: int) -> set[int]:
    return {axis_of(int(axis), rank) for axis in axes}


def arg_reduce(kind: str) -> Callable[[Layer], Lowered]:
    def lower(layer: Layer) -> Lowered:
        p = layer.params

        def shapes() -> list[Shape]:
            shape = layer.shape()
            axis = axis_of(int(p.axis), len(shape))
            if p.removeDim:
                return [without(shape, (axis,)) or (1,)]
            return [(*shape[:axis], 1, *shape[axis + 1 :])]

        arguments: dict[str, Argument] = {"x": layer.edge(), "axis": int(p.axis), "keep_dims": not p.removeDim}
        return Lowered(kind, arguments, shapes)

    return lower


def topk(layer: Layer) -> Lowered:
    p = layer.params
    count = layer.optional(1)

    def shapes() -> list[Shape]:
        shape = layer.shape()
        axis = axis_of(int(p.axis), len(shape))
        k: Dim = int(p.K)
        if count is not None:
            numbers = layer.numbers(1)
            k = numbers[0] if numbers is not None and len(numbers) == 1 else None
        size = shape[axis]
        if k is not None and size is not None and k > size:
            raise Unshaped(f"it takes the top {k} of {size}")
        chosen = (*shape[:axis], k, *shape[axis + 1 :])
        return [chosen, chosen]

    k: Argument = count if count is not None else int(p.K)
    arguments: dict[str, Argument] = {"x": layer.edge(), "k": k, "axis": int(p.axis), "ascending": p.useBottomK}
    return Lowered("topk", arguments, shapes)


def argsort(layer: Layer) -> Lowered:
    p = layer.params
    arguments: dict[str, Argument] = {"x": layer.edge(), "axis": int(p.axis), "ascending": not p.descending}
    return Lowered("argsort", arguments, lambda: _along(layer, int(p.axis)))


def cumsum(layer: Layer) -> Lowered:
    p = layer.params
    axis: Argument = layer.optional(1) or int(p.axis)
    arguments: dict[str, Argument] = {"x": layer.edge(), "axis": axis}
    arguments |= {"exclusive": p.excludeFinalSum, "reverse": p.reverse}
    return Lowered("cumsum", arguments, layer.unchanged)


def reverse(layer: Layer) -> Lowered:
    axes = [axis for axis, turned in enumerate(layer.params.reverseDim) if turned]

    def shapes() -> list[Shape]:
        if len(layer.params.reverseDim) != len(layer.shape()):
            raise Unshaped(f"its axes are {told(layer.params.reverseDim)} for an input of rank {len(layer.shape())}")
        return layer.unchanged()

    return Lowered("reverse", {"x": layer.edge(), "axes": axes[:LARGEST_RANK]}, shapes)


def reverse_sequence(layer: Layer) -> Lowered:
    p = layer.params
    arguments: dict[str, Argument] = {"x": layer.edge(), "lengths": layer.edge(1)}
    arguments |= {"seq_axis": int(p.sequenceAxis), "batch_axis": int(p.batchAxis)}
    return Lowered("reverse_sequence", arguments, lambda: _along(layer, int(p.sequenceAxis)))


def band_part(layer: Layer) -> Lowered:
    p = layer.params
    arguments: dict[str, Argument] = {"x": layer.edge(), "lower": int(p.numLower), "upper": int(p.numUpper)}
    return Lowered("band_part", arguments, layer.unchanged)


def triangular(lower_half: bool) -> Callable[[Layer], Lowered]:
    """A triangle is a band without limit at one side. A diagonal moved into the half that is kept (k < 0 for the lower
    triangle) cannot be said as a band, whose negative limits mean "all": the layer's own ``k`` is then the argument."""

    def lower(layer: Layer) -> Lowered:
        k = int(layer.params.k)
        beyond = k if lower_half else -k
        band: dict[str, Argument] = {"k": k}
        if beyond >= 0:
            band = {"lower": -1, "upper": beyond} if lower_half else {"lower": beyond, "upper": -1}
        return Lowered("band_part", {"x": layer.edge(), **band}, layer.unchanged)

    return lower


def dot(layer: Layer) -> Lowered:
    arguments: dict[str, Argument] = {"x": layer.edge(), "y": layer.edge(1)}
    arguments["cosine_similarity"] = layer.params.cosineSimilarity

    def shapes() -> list[Shape]:
        shape = need_rank(layer.shape(), 3)
        return [(*shape[:-3], 1, 1, 1)]

    return Lowered("dot", arguments, shapes)


def get_shape(layer: Layer) -> Lowered:
    return Lowered("shape", {"x": layer.edge()}, lambda: [(len(layer.shape()),)])


LOWERINGS: dict[str, Callable[[Layer], Lowered]] = {
    "batchnorm": batch_norm,
    "mvn": mean_variance,
    "l2normalize": l2_norm,
    "lrn": local_response_norm,
    "layerNormalization": layer_norm,
    "softmax": softmax,
    "softmaxND": softmax_nd,
    "reduce": reduce,
    **{layer: reduce_nd(kind) for layer, kind in REDUCE_ND.items()},
    "argMax": arg_reduce("reduce_argmax"),
    "argMin": arg_reduce("reduce_argmin"),
    "topK": topk,
    "argSort": argsort,
    "cumSum": cumsum,
    "reverse": reverse,
    "reverseSeq": reverse_sequence,
    "matrixBandPart": band_part,
    "lowerTriangular": triangular(True),
    "upperTriangular": triangular(False),
    "dot": dot,
    "getShape": get_shape,
}

"""Shapes of operations that compute: element by element, windows, matrices, recurrence, reductions.

Source: the definitions of MIL's operations as coremltools 9.0 publishes them.
"""

from __future__ import annotations

from collections.abc import Sequence

from anecompat.infer.call import Call, Rule, named
from anecompat.shapes import (
    Dim,
    Shape,
    Unshaped,
    axis_of,
    broadcast,
    ceil_divide,
    need_rank,
    plus,
    positive,
    same_dim,
    times,
    window,
    without,
)


def same(argument: str) -> Rule:
    return lambda call: [call.shape(argument)]


def _broadcast(*arguments: str) -> Rule:
    return lambda call: [broadcast([call.shape(argument) for argument in arguments])]


def _conv(call: Call) -> list[Shape]:
    x, weight = need_rank(call.shape(), 3), call.shape("weight")
    kernel = weight[2:]
    return [(x[0], weight[0], *_windows(call, x[2:], kernel, call.ints("dilations", (1,) * len(kernel))))]


def _pool(call: Call) -> list[Shape]:
    x, kernel = need_rank(call.shape(), 3), call.ints("kernel_sizes")
    return [(*x[:2], *_windows(call, x[2:], kernel, (1,) * len(kernel)))]


def _windows(call: Call, sizes: Shape, kernel: Shape, dilations: Sequence[int]) -> list[Dim]:
    strides = call.ints("strides", (1,) * len(sizes))
    kind, pad = call.text("pad_type", "valid"), call.ints("pad", (0,) * (2 * len(sizes)))
    if not len(sizes) == len(kernel) == len(strides) == len(dilations) == len(pad) / 2:
        raise Unshaped("its kernel, strides and padding do not have the axes of its input")
    if kind in ("same", "same_lower"):
        return [ceil_divide(size, positive(stride, "stride")) for size, stride in zip(sizes, strides, strict=True)]
    rounded_up = call.flag("ceil_mode", False)
    dims: list[Dim] = []
    for axis, size in enumerate(sizes):
        taps, stride = kernel[axis], positive(strides[axis], "stride")
        if taps is None:
            raise Unshaped("its kernel is not known")
        before, after = pad[2 * axis : 2 * axis + 2] if kind == "custom" else (0, 0)
        if not rounded_up or size is None:
            dims.append(window(size, taps, stride, before, after, dilations[axis]))
            continue
        count = window(size, taps, stride, before, after + stride - 1, dilations[axis])
        padded = before + after
        last = count is not None and padded > 0 and (count - 1) * stride >= size + padded / 2
        dims.append(plus(count, -1) if last else count)
    return dims


def _conv_transpose(call: Call) -> list[Shape]:
    if call.has("output_shape"):
        return [call.ints("output_shape")]
    x, weight = need_rank(call.shape(), 3), call.shape("weight")
    kernel = weight[2:]
    ones = (1,) * len(kernel)
    strides, dilations = call.ints("strides", ones), call.ints("dilations", ones)
    kind, pad = call.text("pad_type", "valid"), call.ints("pad", (0,) * (2 * len(kernel)))
    dims: list[Dim] = []
    for axis, (size, taps) in enumerate(zip(x[2:], kernel, strict=True)):
        if kind == "same":
            dims.append(times(size, strides[axis]))
        elif taps is None:
            raise Unshaped("its kernel is not known")
        else:
            border = sum(pad[2 * axis : 2 * axis + 2]) if kind == "custom" else 0
            dims.append(plus(times(plus(size, -1), strides[axis]), (taps - 1) * dilations[axis] + 1 - border))
    return [(x[0], times(weight[1], call.integer("groups", 1)), *dims)]


def _linear(call: Call) -> list[Shape]:
    x, weight = need_rank(call.shape(), 1), call.shape("weight")
    same_dim(x[-1], weight[-1], "the dimension to sum over")
    return [(*x[:-1], weight[0])]


def _matmul(call: Call) -> list[Shape]:
    x, y = call.shape(), call.shape("y")
    vector = len(x) == 1
    if vector:
        x = (1, *x)
    # A vector times a batch of matrices: coremltools types it otherwise than numpy would, so it is not told.
    need_rank(y, 2, 2 if vector else None)
    rows, left = (x[-1], x[-2]) if call.flag("transpose_x", False) else (x[-2], x[-1])
    right, columns = (y[-1], y[-2]) if call.flag("transpose_y", False) else (y[-2], y[-1])
    same_dim(left, right, "the dimension to sum over")
    batch = broadcast([x[:-2], y[:-2]])
    return [(*batch, columns) if vector else (*batch, rows, columns)]


def _einsum(call: Call) -> list[Shape]:
    given, _, made = call.text("equation", "").replace(" ", "").partition("->")
    labels: dict[str, Dim] = {}
    for names, shape in zip(given.split(","), call.shapes("values"), strict=True):
        for name, dim in zip(names, shape, strict=True):
            known = labels.get(name, 1)
            labels[name] = dim if known == 1 else known if dim == 1 else same_dim(known, dim, f"axis {name}")
    return [tuple(labels[name] for name in made)]


def _attention(call: Call) -> list[Shape]:
    query, value = need_rank(call.shape("query"), 2), need_rank(call.shape("value"), 2)
    return [(*broadcast([query[:-2], call.shape("key")[:-2], value[:-2]]), query[-2], value[-1])]


def _recurrent(states: int) -> Rule:
    def rule(call: Call) -> list[Shape]:
        x, hidden = need_rank(call.shape(), 3, 3), call.shape("weight_hh")[-1]
        both = call.text("direction", "forward") == "bidirectional"
        size = times(hidden, 2 if both else 1)
        first: Dim = x[0] if call.flag("output_sequence", False) else 1
        state: Shape = (x[1], size)
        return [(first, x[1], size), *[state] * states]

    return rule


def _reduce(call: Call) -> list[Shape]:
    shape = call.shape()
    axes = {axis_of(axis, len(shape)) for axis in call.ints("axes", range(len(shape)))}
    if call.flag("keep_dims", False):
        return [tuple(1 if axis in axes else dim for axis, dim in enumerate(shape))]
    return [without(shape, axes)]


def _reduce_arg(call: Call) -> list[Shape]:
    shape = call.shape()
    axis = axis_of(call.integer("axis", -1), len(shape))
    if call.flag("keep_dims", False):
        return [(*shape[:axis], 1, *shape[axis + 1 :])]
    return [without(shape, (axis,))]


def _topk(call: Call) -> list[Shape]:
    shape = call.shape()
    axis = axis_of(call.integer("axis", -1), len(shape))
    count = call.known_ints("k") if call.has("k") else (1,)
    k: Dim = count[0] if count is not None and len(count) == 1 else None
    chosen = (*shape[:axis], shape[axis] if k == -1 else k, *shape[axis + 1 :])
    return [chosen] * len(call.operation.outputs)


RULES: dict[str, Rule] = {
    **named(
        same("x"),
        """
        abs acos asin atan atanh cast ceil clip cos cosh erf exp exp2 floor inverse log logical_not round rsqrt sign sin
        sinh sqrt square tan tanh threshold clamped_relu elu gelu leaky_relu linear_activation prelu relu relu6
        scaled_tanh sigmoid sigmoid_hard silu softplus softplus_parametric softmax softsign thresholded_relu batch_norm
        instance_norm l2_norm layer_norm local_response_norm identity cumsum reverse reverse_sequence band_part argsort
        slice_update
        """,
    ),
    **named(same("input"), "quantize dequantize read_state"),
    **named(
        _broadcast("x", "y"),
        """
        add sub mul real_div floor_div mod pow maximum minimum equal not_equal less less_equal greater greater_equal
        logical_and logical_or logical_xor
        """,
    ),
    "select": _broadcast("cond", "a", "b"),
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    **named(_pool, "max_pool avg_pool l2_pool"),
    "linear": _linear,
    "matmul": _matmul,
    "einsum": _einsum,
    "scaled_dot_product_attention": _attention,
    "lstm": _recurrent(2),
    **named(_recurrent(1), "gru rnn"),
    **named(
        _reduce,
        """
        reduce_l1_norm reduce_l2_norm reduce_log_sum reduce_log_sum_exp reduce_max reduce_mean reduce_min reduce_prod
        reduce_sum reduce_sum_square
        """,
    ),
    **named(_reduce_arg, "reduce_argmax reduce_argmin"),
    "topk": _topk,
}

"""Layers that work element by element: activations, unary functions, arithmetic, comparison, scale and bias."""

from __future__ import annotations

from collections.abc import Callable

from anecompat.readers.neural_network.layers import Argument, Edge, Edges, Layer, Lowered, Weight, named
from anecompat.shapes import Shape, broadcast

# ActivationParams: MIL operation and the numbers it takes from the layer.
ACTIVATIONS = {
    "linear": ("linear_activation", ("alpha", "beta")),
    "ReLU": ("relu", ()),
    "leakyReLU": ("leaky_relu", ("alpha",)),
    "thresholdedReLU": ("thresholded_relu", ("alpha",)),
    "PReLU": ("prelu", ()),
    "tanh": ("tanh", ()),
    "scaledTanh": ("scaled_tanh", ("alpha", "beta")),
    "sigmoid": ("sigmoid", ()),
    "sigmoidHard": ("sigmoid_hard", ("alpha", "beta")),
    "ELU": ("elu", ("alpha",)),
    "softsign": ("softsign", ()),
    "softplus": ("softplus", ()),
    "parametricSoftplus": ("softplus_parametric", ()),
}
UNARY = ("sqrt", "rsqrt", "inverse", "pow", "exp", "log", "abs", "threshold")  # UnaryFunctionLayerParams.Operation
GELU = ("EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION")

# One input, same shape out, no parameters. asinh and acosh have no MIL operation and keep their own name.
PLAIN = {
    "copy": "identity",
    "ceil": "ceil",
    "floor": "floor",
    "sign": "sign",
    "round": "round",
    "exp2": "exp2",
    "sin": "sin",
    "cos": "cos",
    "tan": "tan",
    "asin": "asin",
    "acos": "acos",
    "atan": "atan",
    "sinh": "sinh",
    "cosh": "cosh",
    "tanh": "tanh",
    "asinh": "asinh",
    "acosh": "acosh",
    "atanh": "atanh",
    "erf": "erf",
    "logicalNot": "logical_not",
}

# Two inputs that broadcast; the comparisons take the number ``alpha`` where the second is missing.
BINARY = {
    "logicalOr": "logical_or",
    "logicalXor": "logical_xor",
    "logicalAnd": "logical_and",
    "modBroadcastable": "mod",
    "minBroadcastable": "minimum",
    "maxBroadcastable": "maximum",
    "addBroadcastable": "add",
    "powBroadcastable": "pow",
    "divideBroadcastable": "real_div",
    "floorDivBroadcastable": "floor_div",
    "multiplyBroadcastable": "mul",
    "subtractBroadcastable": "sub",
}
WITH_NUMBER = {
    "equal": "equal",
    "notEqual": "not_equal",
    "lessThan": "less",
    "lessEqual": "less_equal",
    "greaterThan": "greater",
    "greaterEqual": "greater_equal",
    "add": "add",
    "multiply": "mul",
}


def activation(layer: Layer) -> Lowered:
    chosen = layer.params.WhichOneof("NonlinearityType")
    if chosen is None:
        return Lowered("activation", {"x": layer.edge()}, layer.unchanged)
    kind, parameters = ACTIVATIONS[chosen]
    own = getattr(layer.params, chosen)
    arguments: dict[str, Argument] = {"x": layer.edge()}
    for name in parameters:
        arguments[name] = float(getattr(own, name))
    if chosen in ("PReLU", "parametricSoftplus"):
        # One number or one a channel: which of them lies in the weights; both mean an alpha of C numbers to MIL.
        shape = layer.edge().shape
        channels = Weight((shape[-3] if shape and len(shape) >= 3 else None,))
        arguments |= {"alpha": channels} if chosen == "PReLU" else {"alpha": channels, "beta": channels}
    return Lowered(kind, arguments, layer.unchanged)


def unary(layer: Layer) -> Lowered:
    p = layer.params
    kind = named(UNARY, p.type)
    arguments: dict[str, Argument] = {"x": layer.edge()}
    if kind in ("rsqrt", "inverse"):
        arguments["epsilon"] = float(p.epsilon) or 1e-6
    elif kind == "pow":
        arguments["y"] = float(p.alpha)
    elif kind == "threshold":
        arguments["alpha"] = float(p.alpha)
    # MIL's functions have no scale and shift of their own; the layer applies them first, and they belong to it.
    if p.scale not in (0.0, 1.0):
        arguments["scale"] = float(p.scale)
    if p.shift != 0.0:
        arguments["shift"] = float(p.shift)
    return Lowered(kind, arguments, layer.unchanged)


def plain(kind: str) -> Callable[[Layer], Lowered]:
    return lambda layer: Lowered(kind, {"x": layer.edge()}, layer.unchanged)


def _broadcast(layer: Layer) -> list[Shape]:
    return [broadcast(layer.all_shapes())]


def binary(kind: str) -> Callable[[Layer], Lowered]:
    return lambda layer: Lowered(kind, {"x": layer.edge(), "y": layer.edge(1)}, lambda: _broadcast(layer))


def with_number(kind: str) -> Callable[[Layer], Lowered]:
    """x and y, or x and the number ``alpha`` of the layer. ``add`` and ``multiply`` may take more than two: all but
    the first are then bound to y."""

    def lower(layer: Layer) -> Lowered:
        second: Argument = float(layer.params.alpha) if len(layer.inputs) == 1 else _rest(layer)
        return Lowered(kind, {"x": layer.edge(), "y": second}, lambda: _broadcast(layer))

    return lower


def _rest(layer: Layer) -> Edge | Edges:
    layer.edge(1)
    return layer.inputs[1] if len(layer.inputs) == 2 else Edges(layer.inputs[1:])


def several(kind: str) -> Callable[[Layer], Lowered]:
    """MIL's maximum and minimum take two; a layer with more binds all but the first to y."""

    def lower(layer: Layer) -> Lowered:
        second = {"y": _rest(layer)} if len(layer.inputs) > 1 else {}
        return Lowered(kind, {"x": layer.edge(), **second}, lambda: _broadcast(layer))

    return lower


def average(layer: Layer) -> Lowered:
    layer.edge()
    return Lowered("average", {"values": Edges(layer.inputs)}, lambda: _broadcast(layer))


def scale(layer: Layer) -> Lowered:
    p = layer.params
    arguments: dict[str, Argument] = {"x": layer.edge(), "y": Weight(_channel_shape(p.shapeScale))}
    if p.hasBias:
        arguments["bias"] = Weight(_channel_shape(p.shapeBias))
    return Lowered("mul", arguments, layer.unchanged)


def bias(layer: Layer) -> Lowered:
    return Lowered("add", {"x": layer.edge(), "y": Weight(_channel_shape(layer.params.shape))}, layer.unchanged)


def _channel_shape(dims: object) -> Shape:
    """[1], [C], [1, H, W] or [C, H, W], aligned with (C, H, W) as MIL would have it."""
    shape = tuple(int(dim) for dim in dims)  # type: ignore[attr-defined]
    return (*shape, 1, 1) if len(shape) == 1 else shape


def clip(layer: Layer) -> Lowered:
    numbers: dict[str, Argument] = {"alpha": float(layer.params.minVal), "beta": float(layer.params.maxVal)}
    return Lowered("clip", {"x": layer.edge(), **numbers}, layer.unchanged)


def clamped_relu(layer: Layer) -> Lowered:
    numbers: dict[str, Argument] = {"alpha": float(layer.params.alpha), "beta": float(layer.params.beta)}
    return Lowered("clamped_relu", {"x": layer.edge(), **numbers}, layer.unchanged)


def gelu(layer: Layer) -> Lowered:
    return Lowered("gelu", {"x": layer.edge(), "mode": named(GELU, layer.params.mode)}, layer.unchanged)


def select(layer: Layer) -> Lowered:
    arguments: dict[str, Argument] = {"cond": layer.edge(), "a": layer.edge(1), "b": layer.edge(2)}
    return Lowered("select", arguments, lambda: _broadcast(layer))


LOWERINGS: dict[str, Callable[[Layer], Lowered]] = {
    "activation": activation,
    "unary": unary,
    **{layer: plain(kind) for layer, kind in PLAIN.items()},
    **{layer: binary(kind) for layer, kind in BINARY.items()},
    **{layer: with_number(kind) for layer, kind in WITH_NUMBER.items()},
    "max": several("maximum"),
    "min": several("minimum"),
    "average": average,
    "scale": scale,
    "bias": bias,
    "clip": clip,
    "clampedReLU": clamped_relu,
    "gelu": gelu,
    "whereBroadcastable": select,
}

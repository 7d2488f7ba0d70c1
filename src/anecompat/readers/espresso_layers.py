"""Layers of a compiled neural network (``model.espresso.net``) as MIL operations.

Apple documents nothing of this format. What stands here was seen in published networks (the meaning of ``pad_mode``,
``top_shape_style``, strides, scaling factors and axes follows from the shapes in their ``espresso.shape`` files), or in
two public programs that run real ones: the NeuralHash network with its layer names (operation 2 is named "add" and has
one input and ``alpha`` 3, 119 "Relu6" with 0 and 6), and an executor that checks its layers field by field (dilation,
``mode`` 6, ``deconv_out_height``). A kind, a code or a field that none of them shows makes an operation of type
``espresso_<kind>``, which no rule knows: the answer about it is then "cannot tell".

The operations and their arguments are those that ``readers.neural_network`` makes of the same layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from anecompat.ir import Scalar, Value
from anecompat.readers.neural_network.layers import Weight

Dims = tuple[int | None, ...] | None
Argument = Value | tuple[Value, ...] | Weight | Scalar | Sequence[Scalar]

# Fields that change nothing of what a layer computes or of its shape: names, hints, where weights lie and how they are
# packed.
NEUTRAL = {"name", "type", "bottom", "top", "debug_info", "weights", "attributes", "version", "n_parallel", "nd_mode"}
NEUTRAL_STARTS = ("hint_", "quantization_", "blob_", "override_", "pad_fill_mode", "pad_value")

# Activation modes that real networks show: 0 "Relu", 2 with Keras's LeakyReLU, 3 "sigmoid", 6 alpha * x + beta.
ACTIVATIONS = {0: "relu", 2: "leaky_relu", 3: "sigmoid", 6: "linear_activation"}


class Unfamiliar(Exception):
    """A field or code of the layer that nothing public explains; the sentence names it."""


@dataclass(slots=True)
class Layer:
    """One layer: its fields as the file has them, its inputs as values, the shapes of its outputs from the file."""

    fields: Mapping[str, Any]
    inputs: tuple[Value, ...]
    shapes: tuple[Dims, ...]
    blob: bool
    known: set[str] = field(default_factory=set)

    @property
    def kind(self) -> str:
        return str(self.fields.get("type", ""))

    @property
    def x(self) -> Value:
        return self.input(0)

    def input(self, index: int) -> Value:
        if index >= len(self.inputs):
            raise Unfamiliar(f"it has {len(self.inputs)} inputs, not {index + 1}")
        return self.inputs[index]

    def shape(self, index: int = 0) -> Dims:
        """The shape of an input, None if unknown."""
        return self.input(index).tensor.shape

    def integer(self, name: str, default: int | None = None) -> int:
        self.known.add(name)
        value = self.fields.get(name, default)
        if isinstance(value, bool):
            return int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or not -(2**40) < value < 2**40:
            raise Unfamiliar(f"its {name} is {value!r}, not a number")
        return value

    def number(self, name: str, default: float) -> float:
        self.known.add(name)
        value = self.fields.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Unfamiliar(f"its {name} is {value!r}, not a number")
        return float(value)

    def passes_over(self, *names: str) -> None:
        """Fields that are understood and change nothing here."""
        self.known.update(names)

    def unknown_fields(self) -> list[str]:
        """Fields nobody explained, where they say anything (0, false, "" and empty are what is left out elsewhere)."""
        return sorted(
            name
            for name, value in self.fields.items()
            if value and name not in self.known and name not in NEUTRAL and not name.startswith(NEUTRAL_STARTS)
        )


@dataclass(slots=True)
class Lowered:
    """A MIL operation and what the layer has fused behind it, in order: ("relu", {}), ..."""

    type: str
    arguments: dict[str, Argument]
    layer: str
    fused: list[str] = field(default_factory=list)


def _fused(layer: Layer, names: Mapping[str, str]) -> list[str]:
    return [kind for name, kind in names.items() if layer.integer(name, 0)]


def _window(layer: Layer) -> dict[str, Argument]:
    """Strides and padding: ``pad_mode`` 0 gives the borders, 1 is SAME, 2 is VALID (from published shapes)."""
    strides = [layer.integer("stride_y", 1), layer.integer("stride_x", 1)]
    pad = [layer.integer(f"pad_{side}", 0) for side in ("t", "b", "l", "r")]
    mode = layer.integer("pad_mode", 0)
    if mode not in (0, 1, 2):
        raise Unfamiliar(f"its pad_mode is {mode}")
    if mode:
        return {"strides": strides, "pad_type": ("same", "valid")[mode - 1], "pad": [0, 0, 0, 0]}
    return {"strides": strides, "pad_type": "custom" if any(pad) else "valid", "pad": pad}


def convolution(layer: Layer) -> Lowered:
    outputs, inputs = layer.integer("C"), layer.integer("K")
    groups = layer.integer("n_groups", 1) or 1
    kernel = (layer.integer("Ny"), layer.integer("Nx"))
    transposed = layer.kind == "deconvolution"
    shape = (inputs, outputs // groups, *kernel) if transposed else (outputs, inputs // groups, *kernel)
    arguments: dict[str, Argument] = {"x": layer.x, "weight": Weight(shape)}
    if layer.integer("has_biases", 0):
        arguments["bias"] = Weight((outputs,))
    arguments |= _window(layer)
    arguments |= {"dilations": [layer.integer("dilation_y", 1), layer.integer("dilation_x", 1)], "groups": groups}
    if transposed and layer.integer("deconv_out_height", 0) and layer.integer("deconv_out_width", 0):
        size = layer.shapes[0]
        if size is not None and None not in size:
            arguments["output_shape"] = [dim for dim in size if dim is not None]
    fused = _fused(layer, {"has_batch_norm": "batch_norm", "fused_relu": "relu", "fused_tanh": "tanh"})
    return Lowered("conv_transpose" if transposed else "conv", arguments, "convolution", fused)


def pool(layer: Layer) -> Lowered:
    kind = "max_pool" if layer.integer("avg_or_max", 1) else "avg_pool"
    layer.passes_over("average_count_exclude_padding")
    window = _window(layer)
    sizes: list[int] = [layer.integer("size_y", 0), layer.integer("size_x", 0)]
    style = layer.integer("top_shape_style", 0)
    if layer.integer("is_global", 0):
        shape = layer.shape()
        known = [dim for dim in (shape or ())[-2:] if dim is not None]
        sizes = known if len(known) == 2 else sizes
        window = {"strides": [1, 1], "pad_type": "valid", "pad": [0, 0, 0, 0]}
        style = 0
    if style not in (0, 2) or not all(sizes):
        raise Unfamiliar(f"its top_shape_style is {style}, its window {sizes}")
    if style == 2:
        window["pad_type"] = "custom"
    arguments: dict[str, Argument] = {"x": layer.x, "kernel_sizes": sizes, **window, "ceil_mode": style == 2}
    if kind == "avg_pool":
        excluded = bool(layer.integer("average_count_exclude_padding", 0)) and not layer.integer("is_global", 0)
        arguments["exclude_padding_from_average"] = excluded
    return Lowered(kind, arguments, "pooling")


def inner_product(layer: Layer) -> Lowered:
    inputs, outputs = layer.integer("nB"), layer.integer("nC")
    bias: dict[str, Argument] = {"bias": Weight((outputs,))} if layer.integer("has_biases", 0) else {}
    if layer.integer("is_lookup", 0):
        layer.passes_over("has_relu", "has_tanh", "has_prelu")
        table: dict[str, Argument] = {"x": Weight((inputs, outputs)), "indices": layer.x, "axis": 0}
        return Lowered("gather", table | bias, "embedding")
    fused = _fused(layer, {"has_relu": "relu", "has_tanh": "tanh", "has_prelu": "prelu"})
    return Lowered("linear", {"x": layer.x, "weight": Weight((outputs, inputs)), **bias}, "innerProduct", fused)


def activation(layer: Layer) -> Lowered:
    mode = layer.integer("mode", 0)
    kind = ACTIVATIONS.get(mode)
    if kind is None:
        raise Unfamiliar(f"its activation mode is {mode}")
    arguments: dict[str, Argument] = {"x": layer.x}
    layer.passes_over("alpha", "beta")
    if kind == "leaky_relu":
        arguments["alpha"] = layer.number("alpha", 0.0)
    elif kind == "linear_activation":
        arguments |= {"alpha": layer.number("alpha", 1.0), "beta": layer.number("beta", 0.0)}
    return Lowered(kind, arguments, "activation")


def batch_norm(layer: Layer) -> Lowered:
    channels = Weight((layer.integer("C"),))
    layer.passes_over("training_momentum")
    training, instance = layer.integer("training", 0), layer.integer("training_instancenorm", 0)
    epsilon = layer.number("training_eps", 1e-5)
    arguments: dict[str, Argument] = {"x": layer.x}
    if not training:
        arguments |= {"mean": channels, "variance": channels}
    arguments |= {"gamma": channels, "beta": channels, "epsilon": epsilon}
    return Lowered("instance_norm" if training and instance else "batch_norm", arguments, "batchnorm")


def elementwise(layer: Layer) -> Lowered:
    """Operation codes: 0 adds and 1 multiplies two inputs, 2 and 3 do so with ``alpha``, 119 clips. Public lists of
    the other codes contradict each other and these."""
    code = layer.integer("operation", 0)
    alpha, beta = layer.number("alpha", 1.0), layer.number("beta", 0.0)
    fused = _fused(layer, {"fused_relu": "relu"})
    if code in (0, 1) and len(layer.inputs) > 1 and (alpha, beta) == (1.0, 0.0):
        second: Argument = layer.inputs[1] if len(layer.inputs) == 2 else layer.inputs[1:]
        return Lowered(("add", "mul")[code], {"x": layer.x, "y": second}, ("add", "multiply")[code], fused)
    if code in (2, 3) and len(layer.inputs) == 1:
        return Lowered(("add", "mul")[code - 2], {"x": layer.x, "y": alpha}, ("add", "multiply")[code - 2], fused)
    if code == 119 and len(layer.inputs) == 1:
        return Lowered("clip", {"x": layer.x, "alpha": alpha, "beta": beta}, "clip", fused)
    raise Unfamiliar(f"its operation code is {code}, with {len(layer.inputs)} inputs, alpha {alpha:g}, beta {beta:g}")


def concat(layer: Layer) -> Lowered:
    if layer.integer("axis", 1) != 1:
        raise Unfamiliar(f"its axis is {layer.fields['axis']!r}")
    layer.input(0)
    return Lowered("concat", {"values": layer.inputs, "axis": -3}, "concat")


def softmax(layer: Layer) -> Lowered:
    """``C`` is an axis counted from the width (0 w, 1 h, 2 channels); 2 where the file leaves it out."""
    return Lowered("softmax", {"x": layer.x, "axis": -1 - layer.integer("C", 2)}, "softmax")


def softmax_nd(layer: Layer) -> Lowered:
    return Lowered("softmax", {"x": layer.x, "axis": layer.integer("nd_axis")}, "softmaxND")


def flatten(layer: Layer) -> Lowered:
    layer.passes_over("mode")
    return Lowered("reshape", {"x": layer.x} | _target(layer), "flatten")


def reshape(layer: Layer) -> Lowered:
    layer.passes_over("mode", "dynamic_shape", "dst_nd_rank", *(f"dst_{axis}" for axis in ("n", "k", "h", "w", "seq")))
    return Lowered("reshape", {"x": layer.x} | _target(layer), "reshape" if layer.blob else "reshapeStatic")


def _target(layer: Layer) -> dict[str, Argument]:
    """The target shape, where the file's own shapes tell it; else the argument is left out, that is unknown."""
    shape = layer.shapes[0] if layer.shapes else None
    if shape is None or None in shape:
        return {}
    return {"shape": [dim for dim in shape if dim is not None]}


def transpose(layer: Layer) -> Lowered:
    """``axis_X`` names where the output's axis X comes from: 0 w, 1 h, 2 channels, 3 batch, 4 sequence."""
    sources = [layer.integer(f"axis_{name}", at) for name, at in (("seq", 4), ("n", 3), ("k", 2), ("h", 1), ("w", 0))]
    if sorted(sources) != [0, 1, 2, 3, 4]:
        raise Unfamiliar(f"its axes {sources} are no permutation")
    if layer.blob and sources[0] != 4:
        if sources[1] != 3:
            raise Unfamiliar("it moves the batch axis of a sequence")
        # Values are shown as (N, C, H, W), N being the sequence, which is what a permute layer of the format moves.
        perm = [{4: 0, 2: 1, 1: 2, 0: 3}[source] for source in (sources[0], *sources[2:])]
        return Lowered("transpose", {"x": layer.x, "perm": perm}, "permute")
    shape = layer.shape()
    rank = 4 if layer.blob else len(shape) if shape is not None else 0
    perm = [rank - 1 - source for source in sources[5 - rank :]]
    if not 0 < rank <= 5 or sorted(perm) != list(range(rank)):
        raise Unfamiliar(f"its axes {sources} do not fit its input of rank {rank}")
    return Lowered("transpose", {"x": layer.x, "perm": perm}, "permute" if layer.blob else "transpose")


def upsample(layer: Layer) -> Lowered:
    mode = layer.integer("mode", 0)
    fractional = layer.integer("use_fractional_scale_factors", 0)
    layer.passes_over("fractional_scaling_factor_x", "fractional_scaling_factor_y")
    if mode not in (0, 1) or layer.integer("is_legacy_mode", 0):
        raise Unfamiliar(f"its mode is {mode}, legacy {layer.fields.get('is_legacy_mode', 0)!r}")
    prefix = "fractional_scaling_factor_" if fractional else "scaling_factor_"
    factors: list[Scalar] = [
        layer.number(prefix + axis, 1.0) if fractional else layer.integer(prefix + axis, 1) for axis in ("y", "x")
    ]
    layer.passes_over("scaling_factor_x", "scaling_factor_y")
    arguments: dict[str, Argument] = {
        "x": layer.x,
        "scale_factor_height": factors[0],
        "scale_factor_width": factors[1],
    }
    corners = bool(layer.integer("align_corners", 0))
    if mode:
        arguments["align_corners"] = corners
    return Lowered("upsample_bilinear" if mode else "upsample_nearest_neighbor", arguments, "upsample")


def _axes(layer: Layer) -> list[int]:
    count = layer.integer("size_of_axes")
    if not 0 < count <= 5:
        raise Unfamiliar(f"it names {count} axes")
    layer.passes_over("nd_axis")
    return [layer.integer(f"axes_{index}") for index in range(count)]


def squeeze(layer: Layer) -> Lowered:
    return Lowered("squeeze", {"x": layer.x, "axes": _axes(layer)}, "squeeze")


def expand_dims(layer: Layer) -> Lowered:
    return Lowered("expand_dims", {"x": layer.x, "axes": _axes(layer)}, "expandDims")


def split_nd(layer: Layer) -> Lowered:
    """Equal parts, or the parts that the outputs' shapes tell. ``begin_0`` to ``begin_127`` are 0 wherever seen."""
    axis = layer.integer("nd_axis")
    sizes = [shape[axis] if shape is not None and -len(shape) <= axis < len(shape) else None for shape in layer.shapes]
    known = [size for size in sizes if size is not None]
    parts: dict[str, Argument] = {"num_splits": len(sizes)}
    if len(known) == len(sizes) and len(set(known)) > 1:
        parts = {"split_sizes": known}
    return Lowered("split", {"x": layer.x, **parts, "axis": axis}, "splitND")


# Fields of a recurrent layer with the values that LSTMs in real networks show: tanh is 0; the gates are 2 in a network
# from PyTorch (sigmoid) and 3 in one from Keras of 2018 (hard sigmoid was its default). Other values are unexplained.
_LSTM = {
    "arch": (1,),
    "mode": (0,),
    "coupled_input_forget": (0,),
    "forget_bias": (0,),
    "quantization_mode": (0,),
    "nonlinearity_type": (0,),
    "nonlinearity_bidir_type": (0,),
    "internal_nonlinearity_type": (2, 3),
    "internal_nonlinearity_bidir_type": (2, 3),
    "internal_nonlinearity_second_type": (0,),
    "internal_nonlinearity_second_bidir_type": (0,),
}


def recurrent(layer: Layer) -> Lowered:
    for name, seen in _LSTM.items():
        if layer.integer(name, seen[0]) not in seen:
            raise Unfamiliar(f"its {name} is {layer.fields[name]!r}")
    inputs, size = layer.integer("input_size"), layer.integer("hidden_size")
    weights = layer.fields.get("weights")
    both = isinstance(weights, Mapping) and any(str(name).endswith("_reverse") for name in weights)
    arguments: dict[str, Argument] = {"x": layer.x}
    states = ("initial_h", "initial_c", "initial_h_back", "initial_c_back")
    arguments |= dict(zip(states, layer.inputs[1:], strict=False))
    for suffix in ("", "_back")[: 1 + both]:
        arguments["weight_ih" + suffix] = Weight((4 * size, inputs))
        arguments["weight_hh" + suffix] = Weight((4 * size, size))
        if layer.integer("bias_vector_flag", 0):
            arguments["bias" + suffix] = Weight((4 * size,))
        if layer.integer("lstm_has_peepholes", 0):
            arguments["peephole" + suffix] = Weight((3 * size,))
    layer.known.update(name for name in layer.fields if "alpha" in name or "beta" in name)
    layer.passes_over("max_batch_size", "lstm_forget_bias", "encoder_bidirectional_mode")
    if "encoder_output_sequence" in layer.fields:
        arguments["output_sequence"] = bool(layer.integer("encoder_output_sequence"))
    arguments |= {
        "direction": "bidirectional" if both else "forward",
        "recurrent_activation": "sigmoid" if layer.integer("internal_nonlinearity_type", 2) == 2 else "sigmoid_hard",
        "cell_activation": "tanh",
        "activation": "tanh",
        "clip": layer.number("cell_clip_threshold", 50.0),
    }
    return Lowered("lstm", arguments, "biDirectionalLSTM" if both else "uniDirectionalLSTM")


LOWERINGS: dict[str, Callable[[Layer], Lowered]] = {
    "convolution": convolution,
    "deconvolution": convolution,
    "pool": pool,
    "inner_product": inner_product,
    "activation": activation,
    "batchnorm": batch_norm,
    "elementwise": elementwise,
    "concat": concat,
    "softmax": softmax,
    "softmax_nd": softmax_nd,
    "flatten": flatten,
    "reshape": reshape,
    "transpose": transpose,
    "upsample": upsample,
    "squeeze": squeeze,
    "expand_dims": expand_dims,
    "split_nd": split_nd,
    "rnn_arch": recurrent,
}


def lower(layer: Layer) -> Lowered:
    """The operation of a layer. Unfamiliar where its kind, a code or a field of it is not explained by anything."""
    lowering = LOWERINGS.get(layer.kind)
    if lowering is None:
        raise Unfamiliar("its kind")
    lowered = lowering(layer)
    unknown = layer.unknown_fields()
    if unknown:
        raise Unfamiliar(f"its field{'s' if len(unknown) > 1 else ''} {', '.join(unknown[:5])}")
    return lowered


def unfamiliar(layer: Layer) -> Lowered:
    """A layer that nothing public explains: an operation no rule knows, bound to what it reads."""
    arguments: dict[str, Argument] = {"x": layer.inputs} if layer.inputs else {}
    for name in ("mode", "operation", "arch"):
        code = layer.fields.get(name)
        if isinstance(code, int) and not isinstance(code, bool):
            arguments[name] = code
    return Lowered(f"espresso_{layer.kind or 'layer'}", arguments, layer.kind)

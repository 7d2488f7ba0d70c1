"""What the probe suite asks: some 300 micro-models, each about one operation with one choice of attributes and sizes.

A probe is pure data; ``build`` makes the model. Most are asked *alone* (what does Core ML support?) and, where an
operation keeps a float tensor, *between* two convolutions or two linear layers (what does it choose, when the engine is
entered anyway?). Sweeps walk across boundaries that sources report or dispute; their probes share a ``sweep`` and carry
the swept number as ``point``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from anecompat.errors import UsageError
from anecompat.measure.probe.question import Array, Probe, Shape


@dataclass(slots=True)
class _Catalog:
    probes: list[Probe] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def add(self, name: str, op: str, *, contexts: Iterable[str] = ("alone",), **rest: Any) -> None:
        """A probe in each context. ``arguments`` and the fields of Probe are passed on."""
        for context in contexts:
            full = name if context == "alone" else f"{name}__{context}"
            if full in self.names:
                raise ValueError(f"two probes are called {full}")
            self.names.add(full)
            self.probes.append(Probe(full, op, context=context, **rest))


def _x(*shape: int, dtype: str = "fp16") -> Array:
    return Array(shape, dtype, is_input=True)


def _weights(*shape: int, dtype: str = "fp16", fill: str = "wave") -> Array:
    return Array(shape, dtype, fill=fill)


def _typed(dtype: str, number: float) -> dict[str, float]:
    """A scalar that the builder takes in one type only."""
    return {dtype: number}


_IMAGE = (1, 64, 32, 32)
_ROWS = (1, 128, 256)
_BOTH = ("alone", "conv")
_TEXT = ("alone", "linear")

_UNARY = """
abs acos asin atan atanh ceil cos cosh erf exp exp2 floor inverse log logical_not round rsqrt sign sin
sinh sqrt square tan tanh relu relu6 sigmoid silu softsign softplus identity
""".split()  # noqa: SIM905  a list of names reads better as words
_BINARY = ["add", "sub", "mul", "real_div", "floor_div", "mod", "maximum", "minimum", "pow"]
_COMPARING = ["equal", "not_equal", "greater", "greater_equal", "less", "less_equal"]
_REDUCING = """
reduce_sum reduce_mean reduce_max reduce_min reduce_prod reduce_l1_norm reduce_l2_norm reduce_log_sum
reduce_log_sum_exp reduce_sum_square reduce_argmax reduce_argmin
""".split()  # noqa: SIM905  a list of names reads better as words


def _elementwise(c: _Catalog) -> None:
    for op in _UNARY:
        if op == "logical_not":
            c.add(op, op, arguments={"x": _x(*_IMAGE, dtype="bool")})
        else:
            more = {"epsilon": 1e-4} if op in ("inverse", "log", "rsqrt") else {}
            c.add(op, op, arguments={"x": _x(*_IMAGE), **more}, contexts=_BOTH)
    for op in _BINARY:
        c.add(f"{op}_same", op, arguments={"x": _x(*_IMAGE), "y": _x(*_IMAGE)})
        c.add(f"{op}_scalar", op, arguments={"x": _x(*_IMAGE), "y": 2.0}, contexts=_BOTH)
    for op in ("add", "mul"):
        for label, shape in (("channel", (1, 64, 1, 1)), ("row", (1, 1, 1, 32)), ("batch", (4, 64, 32, 32))):
            c.add(f"{op}_by_{label}", op, arguments={"x": _x(*_IMAGE), "y": _weights(*shape)})
        c.add(f"{op}_rank2", op, arguments={"x": _x(128, 256), "y": _x(128, 256)})
        c.add(f"{op}_rank5", op, arguments={"x": _x(1, 8, 4, 16, 16), "y": _x(1, 8, 4, 16, 16)})
        for dtype in ("fp32", "int32"):
            c.add(f"{op}_{dtype}", op, arguments={"x": _x(*_IMAGE, dtype=dtype), "y": _x(*_IMAGE, dtype=dtype)})
    for op in _COMPARING:
        c.add(op, op, arguments={"x": _x(*_IMAGE), "y": _x(*_IMAGE)})
    for op in ("logical_and", "logical_or", "logical_xor"):
        c.add(op, op, arguments={"x": _x(*_IMAGE, dtype="bool"), "y": _x(*_IMAGE, dtype="bool")})
    c.add("select", "select", arguments={"cond": _x(*_IMAGE, dtype="bool"), "a": _x(*_IMAGE), "b": _x(*_IMAGE)})
    c.add("clip", "clip", arguments={"x": _x(*_IMAGE), "alpha": 0.0, "beta": 6.0}, contexts=_BOTH)
    c.add("threshold", "threshold", arguments={"x": _x(*_IMAGE), "alpha": 0.1}, contexts=_BOTH)
    for dtype in ("fp32", "int32", "bool"):
        c.add(f"cast_{dtype}", "cast", arguments={"x": _x(*_IMAGE), "dtype": dtype})


def _activations(c: _Catalog) -> None:
    for mode in ("EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION"):
        c.add(f"gelu_{mode.split('_')[0].lower()}", "gelu", arguments={"x": _x(*_IMAGE), "mode": mode}, contexts=_BOTH)
    single = {"elu": {"alpha": 1.0}, "leaky_relu": {"alpha": 0.1}, "thresholded_relu": {"alpha": 0.5}}
    double = {"clamped_relu", "linear_activation", "scaled_tanh", "sigmoid_hard"}
    for op, more in (single | {op: {"alpha": 0.5, "beta": 0.5} for op in sorted(double)}).items():
        c.add(op, op, arguments={"x": _x(*_IMAGE), **more}, contexts=_BOTH)
    c.add("prelu", "prelu", arguments={"x": _x(*_IMAGE), "alpha": _weights(64)}, contexts=_BOTH)
    for axis in (-1, 1, 2):
        c.add(f"softmax_axis{axis % 4}", "softmax", arguments={"x": _x(*_IMAGE), "axis": axis}, contexts=_BOTH)
    c.add("softmax_rank3", "softmax", arguments={"x": _x(*_ROWS), "axis": -1}, contexts=_TEXT)


def _conv(c: _Catalog, name: str, size: Shape, kernel: Shape, *, outputs: int = 64, **more: Any) -> None:
    fields = {name: more.pop(name) for name in ("sweep", "point", "contexts") if name in more}
    dtype = more.pop("dtype", "fp16")
    arguments = {
        "x": _x(*size, dtype=dtype),
        "weight": _weights(outputs, size[1] // more.get("groups", 1), *kernel, dtype=dtype),
        "pad_type": "same",
        **more,
    }
    c.add(name, "conv", arguments=arguments, **fields)


def _convolutions(c: _Catalog) -> None:
    for size in (1, 2, 3, 5, 7, 9, 11, 13, 14, 15, 16, 17, 29, 30, 32, 33):
        _conv(c, f"conv_k{size}", (1, 16, 64, 64), (size, size), outputs=16, sweep="conv kernel", point=size)
    for stride in (2, 3, 4, 8, 9, 16):
        name = f"conv_stride{stride}"
        _conv(c, name, (1, 16, 64, 64), (3, 3), outputs=16, strides=[stride] * 2, sweep="conv stride", point=stride)
    for dilation in (2, 3, 4, 8, 15, 16):
        _conv(
            c,
            f"conv_dilation{dilation}",
            (1, 16, 64, 64),
            (3, 3),
            outputs=16,
            dilations=[dilation] * 2,
            sweep="conv dilation",
            point=dilation,
        )
    for groups in (2, 8, 64):
        _conv(c, f"conv_groups{groups}", _IMAGE, (3, 3), groups=groups, contexts=_BOTH)
    for channels in (1, 3, 2048, 16384, 32768, 65536, 65537):
        name = f"conv_channels{channels}"
        _conv(c, name, (1, channels, 4, 4), (1, 1), outputs=8, sweep="conv input channels", point=channels)
    for width in (4096, 16384, 16385, 32768, 65536, 65537):
        _conv(c, f"conv_width{width}", (1, 4, 1, width), (1, 1), outputs=4, sweep="tensor width", point=width)
    _conv(c, "conv_1d", (1, 64, 256), (3,))
    _conv(c, "conv_3d", (1, 8, 8, 16, 16), (3, 3, 3), outputs=8)
    _conv(c, "conv_batch8", (8, 64, 32, 32), (3, 3))
    _conv(c, "conv_fp32", _IMAGE, (3, 3), dtype="fp32")
    _conv(c, "conv_bias", _IMAGE, (3, 3), bias=_weights(64), contexts=_BOTH)
    _conv(c, "conv_wide_kernel", _IMAGE, (1, 31))
    _conv(c, "conv_tall_kernel", _IMAGE, (31, 1))
    for kernel, stride in ((2, 2), (3, 1), (4, 2), (4, 4), (8, 8), (16, 16)):
        arguments = {"x": _x(*_IMAGE), "weight": _weights(64, 32, kernel, kernel), "strides": [stride] * 2}
        c.add(f"conv_transpose_k{kernel}_s{stride}", "conv_transpose", arguments=arguments)
    grouped = {"x": _x(*_IMAGE), "weight": _weights(64, 1, 4, 4), "strides": [2, 2], "groups": 64}
    c.add("conv_transpose_groups64", "conv_transpose", arguments=grouped)
    c.add("conv_transpose_1d", "conv_transpose", arguments={"x": _x(1, 64, 64), "weight": _weights(64, 32, 4)})


def _pooling(c: _Catalog) -> None:
    for op in ("max_pool", "avg_pool"):
        for size in (2, 3, 8, 9, 13, 14, 17, 32):
            arguments: dict[str, Any] = {"x": _x(*_IMAGE), "kernel_sizes": [size] * 2, "pad_type": "valid"}
            if op == "avg_pool":
                arguments["exclude_padding_from_average"] = False
            sweep = f"{op} kernel"
            c.add(f"{op}_k{size}", op, arguments=arguments, sweep=sweep, point=size)
    for stride in (2, 3, 4):
        arguments = {"x": _x(*_IMAGE), "kernel_sizes": [3, 3], "strides": [stride] * 2, "pad_type": "same"}
        c.add(f"max_pool_stride{stride}", "max_pool", arguments=arguments, contexts=_BOTH)
    ceiling = {"x": _x(1, 64, 31, 31), "kernel_sizes": [2, 2], "strides": [2, 2], "pad_type": "valid"}
    c.add("max_pool_ceil", "max_pool", arguments={**ceiling, "ceil_mode": True})
    excluding = {"x": _x(*_IMAGE), "kernel_sizes": [3, 3], "pad_type": "same", "exclude_padding_from_average": True}
    c.add("avg_pool_exclude_padding", "avg_pool", arguments=excluding)
    c.add("l2_pool", "l2_pool", arguments={"x": _x(*_IMAGE), "kernel_sizes": [2, 2], "pad_type": "valid"})
    c.add("max_pool_1d", "max_pool", arguments={"x": _x(1, 64, 128), "kernel_sizes": [2], "pad_type": "valid"})


def _reductions(c: _Catalog) -> None:
    for op in _REDUCING:
        single = op.startswith("reduce_arg")
        for label, axes in (("channel", [1]), ("width", [-1]), ("image", [2, 3])):
            if single and len(axes) > 1:
                continue
            where: dict[str, Any] = {"axis": axes[0]} if single else {"axes": axes}
            c.add(f"{op}_{label}", op, arguments={"x": _x(*_IMAGE), **where, "keep_dims": True})
    c.add("reduce_mean_batch", "reduce_mean", arguments={"x": _x(8, 64, 8, 8), "axes": [0], "keep_dims": True})
    c.add("reduce_sum_all", "reduce_sum", arguments={"x": _x(*_IMAGE), "keep_dims": False})
    c.add("cumsum", "cumsum", arguments={"x": _x(*_ROWS), "axis": -1})
    c.add("topk", "topk", arguments={"x": _x(*_ROWS), "k": 5, "axis": -1})
    c.add("argsort", "argsort", arguments={"x": _x(*_ROWS), "axis": -1})


def _products(c: _Catalog) -> None:
    for size in (4, 64, 512, 2048):
        arguments: dict[str, Any] = {"x": _x(size, size), "y": _x(size, size)}
        c.add(f"matmul_{size}", "matmul", arguments=arguments, sweep="matmul size", point=size)
    c.add("matmul_rank4", "matmul", arguments={"x": _x(1, 8, 64, 64), "y": _x(1, 8, 64, 64)})
    c.add("matmul_batched", "matmul", arguments={"x": _x(4, 8, 64, 32), "y": _x(4, 8, 32, 64)})
    transposed = {"x": _x(1, 8, 64, 32), "y": _x(1, 8, 64, 32), "transpose_y": True}
    c.add("matmul_transposed", "matmul", arguments=transposed)
    c.add("matmul_int32", "matmul", arguments={"x": _x(64, 64, dtype="int32"), "y": _x(64, 64, dtype="int32")})
    for outputs, given in ((16, 64), (256, 256), (3072, 768), (768, 3072), (32768, 256)):
        arguments = {"x": _x(1, 128, given), "weight": _weights(outputs, given), "bias": _weights(outputs)}
        c.add(f"linear_{given}_{outputs}", "linear", arguments=arguments)
    query = _x(1, 8, 128, 64)
    attention = {"query": query, "key": query, "value": query}
    c.add("attention", "scaled_dot_product_attention", arguments=attention, opset="iOS18")
    masked = {**attention, "attn_mask": _x(1, 1, 128, 128)}
    c.add("attention_masked", "scaled_dot_product_attention", arguments=masked, opset="iOS18")
    einsum = {"values": [_x(1, 8, 32, 64), _x(1, 64, 32, 16)], "equation": "nchw,nwhu->nchu"}
    c.add("einsum", "einsum", arguments=einsum)


def _normalizations(c: _Catalog) -> None:
    per_channel = {name: _weights(64, fill="ones") for name in ("mean", "variance", "gamma", "beta")}
    c.add("batch_norm", "batch_norm", arguments={"x": _x(*_IMAGE), **per_channel}, contexts=_BOTH)
    affine = {name: _weights(64, fill="ones") for name in ("gamma", "beta")}
    c.add("instance_norm", "instance_norm", arguments={"x": _x(*_IMAGE), **affine}, contexts=_BOTH)
    c.add("layer_norm_last", "layer_norm", arguments={"x": _x(*_ROWS), "axes": [-1]}, contexts=_TEXT)
    c.add("layer_norm_channel", "layer_norm", arguments={"x": _x(*_IMAGE), "axes": [1]}, contexts=_BOTH)
    c.add("layer_norm_image", "layer_norm", arguments={"x": _x(*_IMAGE), "axes": [1, 2, 3]})
    c.add("l2_norm", "l2_norm", arguments={"x": _x(*_IMAGE), "epsilon": 1e-4}, contexts=_BOTH)
    c.add("local_response_norm", "local_response_norm", arguments={"x": _x(*_IMAGE), "size": 5})


def _layouts(c: _Catalog) -> None:
    for perm in ([0, 2, 3, 1], [0, 3, 1, 2], [0, 1, 3, 2], [1, 0, 2, 3], [0, 2, 1, 3]):
        name = f"transpose_{''.join(map(str, perm))}"
        c.add(name, "transpose", arguments={"x": _x(*_IMAGE), "perm": perm}, contexts=_BOTH)
    for label, shape in (("flat", [1, 65536]), ("rank3", [1, 64, 1024]), ("rank5", [1, 8, 8, 32, 32])):
        c.add(f"reshape_{label}", "reshape", arguments={"x": _x(*_IMAGE), "shape": shape})
    c.add("reshape_image", "reshape", arguments={"x": _x(*_IMAGE), "shape": [1, 256, 16, 16]}, contexts=_BOTH)
    c.add("expand_dims", "expand_dims", arguments={"x": _x(*_ROWS), "axes": [1]})
    c.add("squeeze", "squeeze", arguments={"x": _x(1, 1, 128, 256), "axes": [1]})
    for axis in (0, 1, 2, 3):
        c.add(f"concat_axis{axis}", "concat", arguments={"values": [_x(*_IMAGE), _x(*_IMAGE)], "axis": axis})
    c.add("stack", "stack", arguments={"values": [_x(64, 32), _x(64, 32)], "axis": 0})
    for label, splits in (("even", 2), ("many", 32)):
        c.add(f"split_{label}", "split", arguments={"x": _x(*_IMAGE), "num_splits": splits, "axis": 1})
    for label, stride in (("plain", 1), ("stride2", 2), ("stride3", 3)):
        arguments: dict[str, Any] = {"x": _x(*_IMAGE), "begin": [0, 0, 0, 0], "end": [1, 64, 32, 30]}
        c.add(f"slice_{label}", "slice_by_index", arguments={**arguments, "stride": [1, 1, 1, stride]})
    sized = {"x": _x(*_IMAGE), "begin": [0, 0, 4, 4], "size": [1, 64, 16, 16]}
    c.add("slice_by_size", "slice_by_size", arguments=sized, contexts=_BOTH)
    for label, reps in (("width", [1, 1, 1, 2]), ("channel", [1, 2, 1, 1]), ("batch", [2, 1, 1, 1])):
        c.add(f"tile_{label}", "tile", arguments={"x": _x(*_IMAGE), "reps": reps})
    for mode in ("constant", "reflect", "replicate"):
        padding = {"x": _x(*_IMAGE), "pad": [0, 0, 0, 0, 2, 2, 2, 2], "mode": mode, "constant_val": 0.0}
        if mode != "constant":
            padding["pad"] = [2, 2, 2, 2]
        c.add(f"pad_{mode}", "pad", arguments=padding, contexts=_BOTH)
    c.add("pad_channel", "pad", arguments={"x": _x(*_IMAGE), "pad": [0, 0, 2, 2, 0, 0, 0, 0], "mode": "constant"})
    c.add("reverse", "reverse", arguments={"x": _x(*_IMAGE), "axes": [-1]})
    for op, size in (("depth_to_space", 2), ("space_to_depth", 2)):
        c.add(op, op, arguments={"x": _x(*_IMAGE), "block_size": size}, contexts=_BOTH)
    c.add("pixel_shuffle", "pixel_shuffle", arguments={"x": _x(*_IMAGE), "upscale_factor": 2}, contexts=_BOTH)
    c.add("pixel_unshuffle", "pixel_unshuffle", arguments={"x": _x(*_IMAGE), "downscale_factor": _typed("uint32", 2)})
    blocks = {"x": _x(4, 16, 16, 16), "block_shape": [2, 2]}
    c.add("batch_to_space", "batch_to_space", arguments={**blocks, "crops": [[0, 0], [0, 0]]})
    c.add("space_to_batch", "space_to_batch", arguments={**blocks, "paddings": [[0, 0], [0, 0]]})
    c.add("band_part", "band_part", arguments={"x": _x(64, 64), "lower": -1, "upper": 0})
    c.add("sliding_windows", "sliding_windows", arguments={"x": _x(*_ROWS), "axis": 1, "size": 8, "stride": 4})


def _lookups(c: _Catalog) -> None:
    for rows in (64, 32768, 65537):
        arguments: dict[str, Any] = {"x": _weights(rows, 64), "axis": 0, "indices": _x(16, dtype="int32")}
        c.add(f"gather_rows{rows}", "gather", arguments=arguments, sweep="gather rows", point=rows)
    c.add("gather_channel", "gather", arguments={"x": _x(*_IMAGE), "indices": [0, 5, 9], "axis": 1})
    c.add("gather_nd", "gather_nd", arguments={"x": _x(64, 64), "indices": [[0, 1], [2, 3]]})
    along = {"x": _x(64, 64), "indices": _x(64, 64, dtype="int32"), "axis": 1}
    c.add("gather_along_axis", "gather_along_axis", arguments=along)
    updates = {"data": _x(64, 64), "indices": [1, 3], "updates": _weights(2, 64), "axis": 0}
    c.add("scatter", "scatter", arguments={**updates, "mode": "update"})
    c.add("one_hot", "one_hot", arguments={"indices": _x(16, dtype="int32"), "one_hot_vector_size": 32})
    c.add("non_zero", "non_zero", arguments={"x": _x(64, 64)})
    c.add("shape", "shape", arguments={"x": _x(*_IMAGE)})


def _resizing(c: _Catalog) -> None:
    for factor in (2, 3, 4, 8):
        scale = {"x": _x(*_IMAGE), "scale_factor_height": factor, "scale_factor_width": factor}
        c.add(f"upsample_nearest_{factor}", "upsample_nearest_neighbor", arguments=scale, contexts=_BOTH)
        whole = _typed("float32", factor)
        for corners in (True, False):
            floats = {**scale, "scale_factor_height": whole, "scale_factor_width": whole}
            name = f"upsample_bilinear_{factor}_{'corners' if corners else 'centers'}"
            c.add(name, "upsample_bilinear", arguments={**floats, "align_corners": corners})
    for mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "UNALIGN_CORNERS"):
        size = {"target_size_height": 48, "target_size_width": 48, "sampling_mode": mode}
        c.add(f"resize_bilinear_{mode.lower()}", "resize_bilinear", arguments={"x": _x(*_IMAGE), **size})
    nearest = {"target_size_height": 48, "target_size_width": 48}
    c.add("resize_nearest", "resize_nearest_neighbor", arguments={"x": _x(*_IMAGE), **nearest})
    c.add("crop", "crop", arguments={"x": _x(*_IMAGE), "crop_height": [2, 2], "crop_width": [2, 2]}, contexts=_BOTH)


def _recurrent(c: _Catalog) -> None:
    for op, gates in (("lstm", 4), ("gru", 3), ("rnn", 1)):
        state = {"initial_h": Array((1, 64), fill="zeros")} | (
            {"initial_c": Array((1, 64), fill="zeros")} if op == "lstm" else {}
        )
        weights = {"weight_ih": _weights(64 * gates, 64), "weight_hh": _weights(64 * gates, 64)}
        c.add(op, op, arguments={"x": _x(16, 1, 64), **state, **weights})


def _quantized(c: _Catalog) -> None:
    scales = {"scale": 0.1, "output_dtype": "int8"}
    c.add("quantize", "quantize", arguments={"input": _x(*_IMAGE), **scales})


_GROUPS = (
    _elementwise,
    _activations,
    _convolutions,
    _pooling,
    _reductions,
    _products,
    _normalizations,
    _layouts,
    _lookups,
    _resizing,
    _recurrent,
    _quantized,
)


def probes() -> list[Probe]:
    """Every probe, in the order in which they are run."""
    catalog = _Catalog()
    for group in _GROUPS:
        group(catalog)
    return catalog.probes


def choose(operations: Sequence[str] | None) -> list[Probe]:
    """The probes of some operations: ``conv`` exactly, ``pool`` all that hold it. UsageError where there is none."""
    every = probes()
    if not operations:
        return every
    known = {probe.op for probe in every}
    wanted: set[str] = set()
    for name in operations:
        found = {name} & known or {op for op in known if name in op}
        if not found:
            raise UsageError(f"no probe asks about {name}; there are probes for {', '.join(sorted(known))}")
        wanted |= found
    return [probe for probe in every if probe.op in wanted]

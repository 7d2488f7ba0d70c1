"""Takes compiled old networks (``model.espresso.net``) back to layers of the format, as far as the samples need it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from neural_networks import describe, network

Layer = Mapping[str, Any]
# The compiler numbers axes from the right: w, h, k, n, seq; a permutation counts Seq, C, H, W from the left.
PERMUTED = {4: 0, 2: 1, 1: 2, 0: 3}


def _padding(layer: Layer) -> str:
    if layer["pad_mode"] == 1:
        return "same {}"
    edges = " ".join(
        f"borderAmounts {{ startEdgeSize: {layer['pad_' + first]} endEdgeSize: {layer['pad_' + last]} }}"
        for first, last in ("tb", "lr")
    )
    return f"valid {{ paddingAmounts {{ {edges} }} }}"


def _convolution(layer: Layer) -> str:
    return (
        f"convolution {{ outputChannels: {layer['C']} kernelChannels: {layer['K'] // layer['n_groups']}"
        f" nGroups: {layer['n_groups']} kernelSize: [{layer['Ny']}, {layer['Nx']}]"
        f" stride: [{layer.get('stride_y', 1)}, {layer.get('stride_x', 1)}]"
        f" {'isDeconvolution: true' if layer['type'] == 'deconvolution' else ''} {_padding(layer)} }}"
    )


def _pool(layer: Layer) -> str:
    return (
        f"pooling {{ type: {('AVERAGE', 'MAX')[layer['avg_or_max']]} kernelSize: [{layer['size_y']}, {layer['size_x']}]"
        f" stride: [{layer['stride_y']}, {layer['stride_x']}] {_padding(layer)} }}"
    )


def _transpose(layer: Layer) -> str:
    assert layer["axis_n"] == 3
    axes = [PERMUTED[layer[f"axis_{axis}"]] for axis in ("seq", "k", "h", "w")]
    return f"permute {{ axis: {axes} }}"


def _reshape(layer: Layer) -> str:
    return f"reshape {{ targetShape: {[layer['dst_' + axis] for axis in ('seq', 'k', 'h', 'w')]} }}"


def _lstm(layer: Layer) -> str:
    return (
        f"biDirectionalLSTM {{ inputVectorSize: {layer['input_size']} outputVectorSize: {layer['hidden_size']}"
        f" params {{ sequenceOutput: {'true' if layer['encoder_output_sequence'] else 'false'} }} }}"
    )


BACK: dict[str, Callable[[Layer], str]] = {
    "convolution": _convolution,
    "deconvolution": _convolution,
    "pool": _pool,
    "batchnorm": lambda layer: f"batchnorm {{ channels: {layer['C']} }}",
    "inner_product": lambda layer: (
        f"innerProduct {{ inputChannels: {layer['nB']} outputChannels: {layer['nC']} }}"
    ),
    "activation": lambda layer: "activation { ReLU {} }",
    "upsample": lambda layer: (
        f"upsample {{ scalingFactor: [{layer['scaling_factor_y']}, {layer['scaling_factor_x']}] }}"
    ),
    "concat": lambda layer: "concat {}",
    "flatten": lambda layer: "flatten {}",
    "softmax": lambda layer: "softmax {}",
    "transpose": _transpose,
    "reshape": _reshape,
    "rnn_arch": _lstm,
}  # fmt: skip


def rebuilt(net: Mapping[str, Any], shapes: Mapping[str, Mapping[str, int]]) -> tuple[Any, Any]:
    """The network and a description of its inputs, whose shapes are the only ones that are taken over."""
    lines: list[str] = []
    inputs: dict[str, tuple[int, ...]] = {}
    made: set[str] = set()
    for layer in net["layers"]:
        reads, writes = layer["bottom"].split(","), layer["top"].split(",")
        for name in reads:
            if name not in made and name not in inputs:
                blob = shapes[name]
                inputs[name] = (blob["k"], blob["h"], blob["w"])
        made.update(writes)
        lines.append(f"{' '.join(reads)} -> {' '.join(writes)}: {BACK[layer['type']](layer)}")
    return network(*lines, blob=True), describe(inputs)

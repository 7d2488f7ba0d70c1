"""Compiled neural networks (``model.espresso.net``): layers, shapes, compression, and every way to be wrong."""

from __future__ import annotations

import importlib
import json
import math
import struct
import sys
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from anecompat.errors import ReadError
from anecompat.ir import Operation, Unknown
from anecompat.readers import espresso
from anecompat.readers.espresso import Network, read_network

Shapes = dict[str, tuple[int, ...]]


def compiled(layers: list[dict[str, Any]], shapes: Shapes | None = None, **more: Any) -> Network:
    """A network of layers, with the shapes (k, h, w) of its blobs; other fields of a shape in ``more`` by blob."""
    inputs, outputs = more.pop("inputs", ()), more.pop("outputs", ())
    net = {"format_version": 200, "storage": "model.espresso.weights", "layers": layers, **more.pop("net", {})}
    named = {name: {"n": 1, "k": k, "h": h, "w": w} | more.get(name, {}) for name, (k, h, w) in (shapes or {}).items()}
    shape = json.dumps({"layer_shapes": named}).encode() if shapes is not None else None
    return read_network(json.dumps(net).encode(), shape, inputs=inputs, outputs=outputs)


def layer(kind: str, bottom: str = "x", top: str = "y", **fields: Any) -> dict[str, Any]:
    return {"type": kind, "name": f"{kind}_1", "bottom": bottom, "top": top, "weights": {}, **fields}


def only(network: Network) -> Operation:
    (operation,) = network.function.operations()
    return operation


def known(operation: Operation) -> dict[str, object]:
    """Parameters with values, weights as their shape."""
    found: dict[str, object] = {}
    for name, bound in operation.inputs.items():
        const = bound[0].const
        if const is None:
            found[name] = [value.name for value in bound] if len(bound) > 1 else bound[0].name
            continue
        try:
            values = const.values()
        except Unknown:
            found[name] = str(const.type)
            continue
        found[name] = values[0] if str(const.type).endswith("[]") else list(values)
    return found


SAME = {"x": (4, 8, 8), "y": (4, 8, 8)}


def test_a_convolution_with_what_is_fused_behind_it() -> None:
    network = compiled(
        [
            layer("convolution", C=6, K=4, Nx=5, Ny=3, stride_x=2, dilation_y=2, n_groups=2, has_biases=1, pad_mode=0)
            | {"pad_t": 1, "pad_b": 2, "pad_l": 3, "pad_r": 4, "fused_relu": 1, "has_batch_norm": 1, "n_parallel": 1}
        ],
        {"x": (4, 8, 8), "y": (6, 7, 5)},
    )
    conv, norm, relu = network.function.operations()
    assert known(conv) == {
        "x": "x",
        "weight": "fp16[6,2,3,5]",
        "bias": "fp16[6]",
        "strides": [1, 2],
        "pad_type": "custom",
        "pad": [1, 2, 3, 4],
        "dilations": [2, 1],
        "groups": 2,
    }
    assert [(each.type, each.layer, each.name) for each in (conv, norm, relu)] == [
        ("conv", "convolution", "convolution_1"),
        ("batch_norm", "batchnorm", "convolution_1"),
        ("relu", "activation", "convolution_1"),
    ]
    assert relu.input("x") is norm.outputs[0]
    assert norm.input("x") is conv.outputs[0]
    assert (conv.outputs[0].name, relu.outputs[0].name) == ("convolution_1_before_batch_norm", "y")
    assert {str(each.outputs[0].type) for each in (conv, norm, relu)} == {"fp16[1,6,7,5]"}
    assert network.function.layout == "blob"
    assert network.warnings == ()


@pytest.mark.parametrize(
    ("fields", "shapes", "type", "parameters"),
    [
        (
            layer("deconvolution", C=3, K=8, Nx=4, Ny=4, stride_x=2, stride_y=2, pad_mode=0, deconv_out_height=16)
            | {"deconv_out_width": 16},
            {"x": (8, 8, 8), "y": (3, 16, 16)},
            "conv_transpose",
            {"weight": "fp16[8,3,4,4]", "strides": [2, 2], "pad_type": "valid", "output_shape": [1, 3, 16, 16]},
        ),
        (
            layer("pool", avg_or_max=1, size_x=2, size_y=3, stride_x=2, stride_y=1, pad_mode=1),
            SAME,
            "max_pool",
            {"kernel_sizes": [3, 2], "strides": [1, 2], "pad_type": "same", "ceil_mode": False},
        ),
        (
            layer("pool", avg_or_max=0, size_x=2, size_y=2, stride_x=2, stride_y=2, pad_mode=2)
            | {"average_count_exclude_padding": 1},
            SAME,
            "avg_pool",
            {"pad_type": "valid", "exclude_padding_from_average": True},
        ),
        (
            layer("pool", avg_or_max=1, size_x=2, size_y=2, stride_x=2, stride_y=2, pad_mode=0, top_shape_style=2),
            SAME,
            "max_pool",
            {"pad_type": "custom", "pad": [0, 0, 0, 0], "ceil_mode": True},
        ),
        (
            layer("pool", avg_or_max=0, is_global=1, size_x=0, size_y=0, average_count_exclude_padding=1),
            SAME,
            "avg_pool",
            {"kernel_sizes": [8, 8], "strides": [1, 1], "exclude_padding_from_average": False},
        ),
        (
            layer("inner_product", nB=16, nC=5, has_biases=1, has_relu=0, has_tanh=0, has_prelu=0),
            SAME,
            "linear",
            {"weight": "fp16[5,16]", "bias": "fp16[5]"},
        ),
        (
            layer("inner_product", nB=100, nC=5, is_lookup=1, quantization_mode=2),
            SAME,
            "gather",
            {"x": "fp16[100,5]", "indices": "x", "axis": 0},
        ),
        (layer("activation", mode=0, beta=0), SAME, "relu", {"x": "x"}),
        (layer("activation", mode=2, alpha=0.25), SAME, "leaky_relu", {"alpha": 0.25}),
        (layer("activation", mode=3), SAME, "sigmoid", {"x": "x"}),
        (layer("activation", mode=6, alpha=2, beta=1), SAME, "linear_activation", {"alpha": 2.0, "beta": 1.0}),
        (layer("batchnorm", C=4), SAME, "batch_norm", {"mean": "fp16[4]", "gamma": "fp16[4]"}),
        (
            layer("batchnorm", C=4, training=1, training_instancenorm=1, training_eps=1e-6, training_momentum=0.9),
            SAME,
            "instance_norm",
            {"gamma": "fp16[4]", "epsilon": 1e-6},
        ),
        (layer("elementwise", "x,x", operation=0, alpha=1, beta=0), SAME, "add", {"x": "x", "y": "x"}),
        (layer("elementwise", "x,x,x", operation=1, alpha=1, beta=0), SAME, "mul", {"x": "x", "y": ["x", "x"]}),
        (layer("elementwise", operation=2, alpha=3, beta=0), SAME, "add", {"x": "x", "y": 3.0}),
        (layer("elementwise", operation=3, alpha=0.5, beta=0), SAME, "mul", {"x": "x", "y": 0.5}),
        (layer("elementwise", operation=119, alpha=0, beta=6), SAME, "clip", {"alpha": 0.0, "beta": 6.0}),
        (layer("concat", "x,x"), SAME, "concat", {"values": ["x", "x"], "axis": -3}),
        (layer("softmax", C=2), SAME, "softmax", {"axis": -3}),
        (layer("flatten", mode=1), {"x": (4, 8, 8), "y": (256, 1, 1)}, "reshape", {"shape": [1, 256, 1, 1]}),
        (
            layer("reshape", mode=0, dst_n=0, dst_k=2, dst_h=8, dst_w=16),
            {"x": (4, 8, 8), "y": (2, 8, 16)},
            "reshape",
            {"shape": [1, 2, 8, 16]},
        ),
        (
            layer("transpose", axis_w=2, axis_h=0, axis_k=1, axis_n=3, axis_seq=4),
            {"x": (4, 8, 6), "y": (8, 6, 4)},
            "transpose",
            {"perm": [0, 2, 3, 1]},
        ),
        (
            layer("upsample", mode=0, scaling_factor_x=2, scaling_factor_y=3),
            {"x": (4, 8, 8), "y": (4, 24, 16)},
            "upsample_nearest_neighbor",
            {"scale_factor_height": 3, "scale_factor_width": 2},
        ),
        (
            layer("upsample", mode=1, scaling_factor_x=2, scaling_factor_y=2, align_corners=1),
            {"x": (4, 8, 8), "y": (4, 16, 16)},
            "upsample_bilinear",
            {"align_corners": True},
        ),
    ],
    ids=lambda value: f"{value['type']}{value.get('mode', value.get('operation', ''))}" if "type" in value else "",
)
def test_layer_kinds(fields: dict[str, Any], shapes: Shapes, type: str, parameters: dict[str, object]) -> None:
    network = compiled([fields], shapes)
    operation = only(network)
    assert operation.type == type
    found = known(operation)
    assert {name: found[name] for name in parameters} == parameters
    assert network.warnings == ()


def test_a_bidirectional_lstm_and_the_permutation_before_it() -> None:
    lstm = layer("rnn_arch", "s,h,c,h2,c2", "o,oh,oc,oh2,oc2", arch=1, input_size=6, hidden_size=5) | {
        "weights": {"W_x": 1, "W_h": 2, "W_x_reverse": 3, "W_h_reverse": 4},
        "bias_vector_flag": 1,
        "internal_nonlinearity_type": 3,
        "internal_nonlinearity_bidir_type": 3,
        "encoder_output_sequence": 1,
        "encoder_bidirectional_mode": 1,
        "cell_clip_threshold": 50000,
        "internal_nonlinearity_alpha": 1,
        "max_batch_size": 1,
    }
    network = compiled(
        [layer("transpose", "x", "s", axis_w=4, axis_h=1, axis_k=2, axis_n=3, axis_seq=0), lstm],
        {"x": (6, 1, 75), "s": (6, 1, 1), "h": (5, 1, 1), "o": (10, 1, 1), "oh": (5, 1, 1)},
        s={"seq": 75},
        o={"seq": 75},
    )
    transpose, recurrent = network.function.operations()
    assert transpose.params("perm") == (3, 1, 2, 0)
    assert str(transpose.outputs[0].type) == "fp16[75,6,1,1]"
    assert (recurrent.type, recurrent.layer) == ("lstm", "biDirectionalLSTM")
    found = known(recurrent)
    assert found["weight_ih_back"] == "fp16[20,6]"
    assert found["bias"] == "fp16[20]"
    assert (found["initial_h"], found["initial_c_back"]) == ("h", "c2")
    assert (found["direction"], found["output_sequence"], found["recurrent_activation"]) == (
        "bidirectional",
        True,
        "sigmoid_hard",
    )
    assert [str(value.type) for value in recurrent.outputs[:3]] == ["fp16[75,10,1,1]", "fp16[1,5,1,1]", "fp16[...]"]
    assert [value.name for value in network.function.inputs] == ["x", "h", "c", "h2", "c2"]


def test_ranks_of_their_own_keep_their_axes() -> None:
    """A network of 2019 or later: (1, 32, 20, 3) to channels first, flattened to (20, 96), split."""
    network = compiled(
        [
            layer("transpose", "x", "t", axis_w=1, axis_h=2, axis_k=0, axis_n=3, axis_seq=4),
            layer("reshape", "t", "f", dst_w=96, dst_h=-1, dst_nd_rank=2, dynamic_shape=False, version=1),
            layer("expand_dims", "f", "e", size_of_axes=2, axes_0=0, axes_1=3, nd_axis=0),
            layer("squeeze", "e", "q", size_of_axes=1, axes_0=0, nd_axis=0),
            layer("split_nd", "f", "a,b", nd_axis=1, begin_0=0, begin_1=0),
            layer("softmax_nd", "a", "p", nd_axis=-1, attributes={"is_output": 1}),
        ],
        {"x": (32, 20, 3), "t": (3, 32, 20), "f": (1, 20, 96), "a": (1, 20, 32), "b": (1, 20, 64), "p": (1, 20, 32)},
        x={"_rank": 4},
        t={"_rank": 4},
        f={"_rank": 2},
        a={"_rank": 2},
        b={"_rank": 2},
        p={"_rank": 2},
    )
    assert network.function.layout == "mil"
    found = {operation.type: operation for operation in network.function.operations()}
    assert str(network.function.inputs[0].type) == "fp16[1,32,20,3]"
    assert found["transpose"].params("perm") == (0, 3, 1, 2)
    assert found["reshape"].params("shape") == (20, 96)
    assert found["expand_dims"].params("axes") == (0, 3)
    assert found["squeeze"].params("axes") == (0,)
    assert (found["split"].params("split_sizes"), found["split"].param("axis")) == ((32, 64), 1)
    assert found["softmax"].param("axis") == -1
    assert [value.name for value in network.function.outputs] == ["p"]
    assert network.warnings == ()


@pytest.mark.parametrize(
    ("fields", "type", "reason"),
    [
        (layer("dynamic_quantize"), "espresso_dynamic_quantize", "its kind"),
        (layer(""), "espresso_layer", "its kind"),
        (layer("activation", mode=25), "espresso_activation", "its activation mode is 25"),
        (
            layer("elementwise", operation=24, alpha=1),
            "espresso_elementwise",
            "its operation code is 24, with 1 inputs",
        ),
        (layer("elementwise", "x,x", operation=0, alpha=2), "espresso_elementwise", "alpha 2"),
        (layer("convolution", K=4, Nx=1, Ny=1), "espresso_convolution", "its C is None"),
        (layer("convolution", C="4", K=4, Nx=1, Ny=1), "espresso_convolution", "its C is '4'"),
        (layer("convolution", C=4, K=4, Nx=1, Ny=1, Nz=3), "espresso_convolution", "its field Nz"),
        (layer("convolution", C=4, K=4, Nx=1, Ny=1, pad_mode=7), "espresso_convolution", "its pad_mode is 7"),
        (layer("pool", avg_or_max=1), "espresso_pool", "its window"),
        (layer("pool", avg_or_max=1, size_x=2, size_y=2, top_shape_style=1), "espresso_pool", "top_shape_style is 1"),
        (layer("concat", axis=3), "espresso_concat", "its axis is 3"),
        (layer("concat", ""), "espresso_concat", "it has 0 inputs"),
        (layer("transpose", axis_w=1), "espresso_transpose", "are no permutation"),
        (layer("transpose", axis_w=4, axis_seq=3, axis_n=0), "espresso_transpose", "moves the batch axis"),
        (layer("upsample", mode=1, is_legacy_mode=1), "espresso_upsample", "legacy 1"),
        (layer("rnn_arch", arch=2, input_size=1, hidden_size=1), "espresso_rnn_arch", "its arch is 2"),
        (layer("expand_dims", size_of_axes=9), "espresso_expand_dims", "it names 9 axes"),
    ],
)
def test_what_nothing_public_explains_is_not_guessed(fields: dict[str, Any], type: str, reason: str) -> None:
    network = compiled([fields], SAME)
    operation = only(network)
    assert operation.type == type
    assert operation.layer == fields["type"]
    assert str(operation.outputs[0].type) == "fp16[1,4,8,8]"
    (warning,) = network.warnings
    assert reason in warning
    assert "judged as unknown" in warning


def test_a_code_that_is_not_explained_stays_readable() -> None:
    operation = only(compiled([layer("elementwise", "x,x", operation=105, alpha=1)], SAME))
    assert operation.param("operation") == 105
    assert [value.name for value in operation.inputs["x"]] == ["x", "x"]


def test_inputs_and_outputs() -> None:
    layers = [layer("activation", "b", "c", mode=0), layer("elementwise", "a,b", "d", operation=0, alpha=1)]
    shapes = dict.fromkeys("abcd", (1, 2, 2))
    assert [value.name for value in compiled(layers, shapes).function.inputs] == ["b", "a"]
    assert [value.name for value in compiled(layers, shapes).function.outputs] == ["c", "d"]
    described = compiled(layers, shapes, inputs=("a", "b", "unused"), outputs=("d", "label"))
    assert [value.name for value in described.function.inputs] == ["a", "b", "unused"]
    assert [value.name for value in described.function.outputs] == ["d"]
    marked = [layers[0] | {"attributes": {"is_output": 1}}, layers[1]]
    assert [value.name for value in compiled(marked, shapes).function.outputs] == ["c"]


def test_constants_are_values() -> None:
    network = compiled(
        [layer("load_constant", "", "k", constant_blob=3, n=1, k=4), layer("elementwise", "x,k", operation=1, alpha=1)],
        {"x": (4, 8, 8), "k": (4, 1, 1), "y": (4, 8, 8)},
    )
    operation = only(network)
    factor = operation.input("y")
    assert factor is not None
    assert factor.const is not None
    assert str(factor.type) == "fp16[1,4,1,1]"
    with pytest.raises(Unknown):
        factor.const.values()
    assert [value.name for value in network.function.inputs] == ["x"]


def test_without_shapes_everything_else_is_told() -> None:
    network = compiled([layer("convolution", C=4, K=3, Nx=3, Ny=3, pad_mode=1), layer("flatten", "y", "f", mode=1)])
    conv, reshape = network.function.operations()
    assert str(conv.outputs[0].type) == "fp16[...]"
    assert conv.params("pad") == (0, 0, 0, 0)
    assert "shape" not in reshape.inputs
    assert network.warnings == ("model.espresso.shape is not beside the network: no shape is known.",)


def test_image_preprocessing_is_host_work_that_changes_nothing() -> None:
    transform = {"image": {"scale": 0.5, "bias_r": -1, "bias_g": 0, "bias_b": 2, "is_network_bgr": 0}}
    (work,) = compiled([layer("activation", "image", mode=0)], SAME, net={"transform_params": transform}).host_work
    assert (work.kind, work.detail, work.partial) == (
        "image preprocessing",
        "image 'image': scale 0.5, bias red -1, green 0, blue 2",
        False,
    )


def test_warnings_are_bounded() -> None:
    layers = [layer("mystery", "x" if at == 0 else f"y{at - 1}", f"y{at}") for at in range(50)]
    warnings = compiled(layers, SAME).warnings
    assert len(warnings) == espresso.MOST_WARNINGS + 1
    assert warnings[-1] == "30 more layers have something that is not explained."


def test_numbers_that_json_does_not_know() -> None:
    text = b'{"layers": [{"type": "activation", "name": "inf", "bottom": "x", "top": "y", "mode": 6, "beta": -inf}]}'
    operation = only(read_network(text, None))
    assert operation.param("beta") == -math.inf
    assert operation.name == "inf"


NET = json.dumps({"layers": [layer("activation", mode=0)]}).encode()


@pytest.mark.parametrize(
    ("net", "shape", "place", "sentence"),
    [
        (b"", None, "n.net:1:1", "this is not JSON: Expecting value"),
        (b'{"layers": [', None, "n.net:1:13", "this is not JSON"),
        (b"\xff\xfe\x00", None, "n.net", "this is no text"),
        (b"[" * 100_000, None, "n.net", "nested too deep"),
        (b'{"layers": [' + b"9" * 5000 + b"]}", None, "n.net", "a number beyond reason"),
        (b"[1]", None, "n.net", "an object was expected"),
        (b"{}", None, "n.net", "no list of layers"),
        (b'{"layers": {}}', None, "n.net", "no list of layers"),
        (b'{"layers": [1]}', None, "n.net", "layer 0 is no object"),
        (b'{"layers": [{"type": 1}]}', None, "n.net", "layer 0 is no object"),
        (NET, b"{", "n.shape:1:2", "this is not JSON"),
        (NET, b"[]", "n.shape", "no layer_shapes"),
        (NET, b'{"layer_shapes": 1}', "n.shape", "no layer_shapes"),
        (b"pbzq" + bytes(40), None, "n.net", "compressed in an unknown way"),
        (b"pbzz", None, "n.net", "ends in the middle"),
        (b"pbzz" + bytes(8) + b"\0" * 7, None, "n.net", "ends in the middle"),
        (b"pbzz" + bytes(8) + struct.pack(">QQ", 9, 100) + b"xx", None, "n.net", "ends in the middle"),
        (b"pbzz" + bytes(8) + struct.pack(">QQ", 1 << 60, 2) + b"xx", None, "n.net", "inflates to more than 64 MB"),
        (b"pbzz" + bytes(8) + struct.pack(">QQ", 9, 2) + b"xx", None, "n.net", "the compressed network is damaged"),
    ],
)
def test_bad_input(net: bytes, shape: bytes | None, place: str, sentence: str) -> None:
    with pytest.raises(ReadError, match=sentence) as caught:
        read_network(net, shape, place="n.net")
    assert caught.value.place == place


def test_layers_in_a_circle() -> None:
    with pytest.raises(ReadError, match="layer 0 reads 'b', which only a later layer writes"):
        compiled([layer("activation", "b", "a", mode=0), layer("activation", "a", "b", mode=0)])


@pytest.mark.parametrize("shape", [{"n": "1"}, {"n": 1, "k": -4, "h": True, "w": 1e9}, {"_rank": 99}, {"_rank": []}, 7])
def test_a_senseless_shape_is_an_unknown_one(shape: object) -> None:
    network = read_network(NET, json.dumps({"layer_shapes": {"x": shape, "y": shape}}).encode())
    tensor = only(network).outputs[0].tensor
    assert tensor.shape is None or None in tensor.shape or tensor.shape == (1, 1, 1, 1)


def boxed(text: bytes, method: bytes, blocks: int = 2) -> bytes:
    """Apple's "pbz" container: magic, block size, then each block's sizes and bytes."""
    compress = {b"z": zlib.compress, b"-": bytes}.get(method) or importlib.import_module("liblzfse").compress
    size = -(-len(text) // blocks)
    found = b"pbz" + method + struct.pack(">Q", size)
    for at in range(0, len(text), size):
        part = text[at : at + size]
        packed = compress(part)
        found += struct.pack(">QQ", len(part), len(packed)) + packed
    return found


@pytest.mark.parametrize("method", [b"z", b"-"])
def test_compressed_networks(method: bytes) -> None:
    assert only(read_network(boxed(NET, method), None)).type == "relu"


def test_lzfse_with_the_extra() -> None:
    pytest.importorskip("liblzfse", reason="the extra anecompat[lzfse] is not installed")
    long = json.dumps({"layers": [layer("activation", top=f"y{at}", mode=at % 4) for at in range(3000)]}).encode()
    for text, count in ((NET, 1), (long, 3000)):
        packed = boxed(text, b"e", 2)
        assert packed[:4] == b"pbze"
        assert sum(1 for _ in read_network(packed, None).function.operations()) == count
    assert b"bvx2" in packed
    assert len(packed) < len(long) / 10


@pytest.mark.parametrize(
    "block",
    [
        b"bvx2" + bytes(60),
        b"bvx-" + struct.pack("<I", 1 << 31) + b"xxxxbvx$",
        b"bvx1" + bytes(20),
        b"bvxn" + struct.pack("<II", 50, 1 << 30),
        b"bvx$" + bytes(20),
        bytes(20),
        b"",
    ],
)
def test_damaged_lzfse(block: bytes) -> None:
    pytest.importorskip("liblzfse", reason="the extra anecompat[lzfse] is not installed")
    with pytest.raises(ReadError, match="the compressed network is damaged"):
        read_network(b"pbze" + bytes(8) + struct.pack(">QQ", 50, len(block)) + block, None)


def test_lzfse_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "liblzfse", None)
    packed = b"pbze" + bytes(8) + struct.pack(">QQ", 50, 4) + b"bvx-"
    with pytest.raises(ReadError, match=r"install the extra that reads it: pip install 'anecompat\[lzfse\]'"):
        read_network(packed, None)


def real(shared: Path) -> list[Path]:
    return sorted((shared / "models").rglob("model.espresso.net"))


def loaded(path: Path) -> Network:
    return read_network(path.read_bytes(), path.with_suffix(".shape").read_bytes(), place=str(path))


def test_real_networks_hold_nothing_unfamiliar(shared: Path) -> None:
    found = real(shared)
    assert len(found) >= 8
    for path in found:
        network = loaded(path)
        assert network.warnings == (), path
        for operation in network.function.operations():
            for value in operation.outputs:
                assert value.tensor.is_fixed, (path, value)


def test_every_layer_of_a_real_network_is_one_operation_and_its_fused_ones(shared: Path) -> None:
    for path in real(shared):
        layers = json.loads(path.read_bytes())["layers"]
        fused = sum(each.get(name, 0) for each in layers for name in ("fused_relu", "has_relu", "has_tanh"))
        assert sum(1 for _ in loaded(path).function.operations()) == len(layers) + fused, path


def test_published_shapes_follow_from_the_parameters(shared: Path) -> None:
    """What pad_mode, top_shape_style, strides, n_groups and the factors mean: the shapes in the files say so."""
    checked: Counter[str] = Counter()
    for path in real(shared):
        for operation in loaded(path).function.operations():
            if operation.type in ("conv", "max_pool", "avg_pool", "conv_transpose", "upsample_nearest_neighbor"):
                x = operation.input("x")
                assert x is not None
                _, channels, *size = x.tensor.fixed()
                expected = [_size(operation, axis, length) for axis, length in enumerate(size)]
                assert list(operation.outputs[0].tensor.fixed()[2:]) == expected, (path, operation)
                checked[operation.type] += 1
                weight = operation.input("weight")
                if weight is not None:
                    axis = 0 if operation.type == "conv_transpose" else 1
                    assert weight.tensor.fixed()[axis] * int(operation.param("groups")) == channels or axis == 0
    assert checked.keys() == {"conv", "max_pool", "avg_pool", "conv_transpose", "upsample_nearest_neighbor"}
    assert checked["conv"] >= 130


def _size(operation: Operation, axis: int, length: int) -> int:
    if operation.type == "upsample_nearest_neighbor":
        return length * int(operation.param(("scale_factor_height", "scale_factor_width")[axis]))
    stride = int(operation.params("strides")[axis])
    before, after = (int(each) for each in operation.params("pad")[2 * axis : 2 * axis + 2])
    if operation.type.endswith("pool"):
        kernel = int(operation.params("kernel_sizes")[axis])
    else:
        weight = operation.input("weight")
        assert weight is not None
        kernel = weight.tensor.fixed()[2 + axis]
    if operation.type == "conv_transpose":
        return (length - 1) * stride + kernel - before - after
    if operation.param("pad_type") == "same":
        return -(-length // stride)
    return (length + before + after - kernel) // stride + 1

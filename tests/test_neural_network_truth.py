"""Inferred shapes against shapes that others worked out: coremltools' own for the programs it converts to old networks,
and those that Core ML's compiler wrote beside compiled ones (``model.espresso.shape``)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from anecompat import proto
from anecompat.ir import Function
from anecompat.readers.neural_network import lower
from espresso_networks import rebuilt

Dims = tuple[int, ...]
Build = Callable[..., Any]


def ops() -> Any:
    return pytest.importorskip("coremltools.converters.mil").Builder


def np() -> Any:
    return pytest.importorskip("numpy")


def noise(*shape: int) -> Any:
    return np().random.default_rng(0).standard_normal(shape).astype("float32")


def ids(*values: int) -> Any:
    return np().array(values, dtype="int32")


X = (2, 6, 8, 10)
V = (1, 3, 4, 6, 6)
S = (5, 2, 7)  # (sequence, batch, input size), as MIL's recurrent operations take it


def lstm(direction: str, sequence: bool) -> tuple[list[Dims], Build]:
    both = 2 if direction == "bidirectional" else 1

    def build(x: Any) -> Any:
        mb = ops()
        back = {"weight_ih_back": noise(16, 7), "weight_hh_back": noise(16, 4), "bias_back": noise(16)}
        state = noise(2, 4 * both)
        outputs = mb.lstm(x=x, initial_h=state, initial_c=state, weight_ih=noise(16, 7), weight_hh=noise(16, 4),
                          bias=noise(16), direction=direction, output_sequence=sequence,
                          **(back if both == 2 else {}))  # fmt: skip
        return [mb.relu(x=output) for output in outputs]

    return [S], build


def branch(p: Any, x: Any) -> Any:
    mb = ops()
    return mb.cond(
        pred=mb.cast(x=mb.squeeze(x=p), dtype="bool"),
        _true_fn=lambda: mb.max_pool(x=x, kernel_sizes=[2, 2], strides=[2, 2], pad_type="valid"),
        _false_fn=lambda: mb.avg_pool(x=x, kernel_sizes=[1, 1], strides=[2, 2], pad_type="valid"),
    )


def loop(x: Any) -> Any:
    mb = ops()
    results = mb.while_loop(
        _cond=lambda count, value: mb.less(x=mb.reduce_sum(x=count), y=10.0),
        _body=lambda count, value: (mb.add(x=count, y=1.0), mb.tanh(x=value)),
        loop_vars=(mb.fill(shape=[1], value=0.0), x),
    )
    return mb.sigmoid(x=results[1])


PROGRAMS: dict[str, tuple[list[Dims], Build]] = {
    "conv": ([X], lambda x: ops().conv(x=x, weight=noise(4, 3, 3, 5), groups=2, strides=[2, 1], dilations=[1, 2],
                                       pad_type="custom", pad=[1, 0, 2, 1])),
    "conv same": ([X], lambda x: ops().conv(x=x, weight=noise(4, 6, 3, 3), strides=[2, 3], pad_type="same")),
    "conv same_lower": ([X], lambda x: ops().conv(x=x, weight=noise(4, 6, 2, 2), strides=[3, 2],
                                                  pad_type="same_lower")),
    "conv 1d": ([(2, 6, 11)], lambda x: ops().conv(x=x, weight=noise(4, 6, 3), strides=[2], pad_type="valid")),
    "conv 3d": ([V], lambda x: ops().conv(x=x, weight=noise(2, 3, 2, 3, 3), strides=[1, 2, 2], pad_type="same")),
    "conv dynamic": ([X, (4, 6, 3, 3)], lambda x, w: ops().conv(x=x, weight=w, pad_type="valid")),
    "conv_transpose": ([X], lambda x: ops().conv_transpose(x=x, weight=noise(6, 4, 4, 3), strides=[2, 3],
                                                           pad_type="custom", pad=[1, 1, 0, 1])),
    "conv_transpose groups": ([X], lambda x: ops().conv_transpose(x=x, weight=noise(6, 2, 3, 3), groups=3,
                                                                  strides=[2, 2], pad_type="valid")),
    "conv_transpose 1d": ([(2, 6, 11)], lambda x: ops().conv_transpose(x=x, weight=noise(6, 4, 3), strides=[2],
                                                                       pad_type="valid")),
    "conv_transpose 3d": ([V], lambda x: ops().conv_transpose(x=x, weight=noise(3, 2, 2, 2, 2), strides=[2, 2, 2],
                                                              pad_type="valid")),
    "max_pool": ([X], lambda x: ops().max_pool(x=x, kernel_sizes=[3, 2], strides=[2, 3], pad_type="custom",
                                               pad=[1, 0, 1, 1])),
    "max_pool ceil": ([(1, 3, 112, 111)], lambda x: ops().max_pool(x=x, kernel_sizes=[3, 3], strides=[2, 2],
                                                                   pad_type="valid", ceil_mode=True)),
    "max_pool ceil padded": ([(1, 3, 9, 12)], lambda x: ops().max_pool(
        x=x, kernel_sizes=[2, 2], strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1], ceil_mode=True)),
    "avg_pool same": ([X], lambda x: ops().avg_pool(x=x, kernel_sizes=[3, 3], strides=[2, 2], pad_type="same")),
    "avg_pool 1d": ([(2, 6, 11)], lambda x: ops().avg_pool(x=x, kernel_sizes=[3], strides=[2], pad_type="valid")),
    "max_pool 3d": ([V], lambda x: ops().max_pool(x=x, kernel_sizes=[2, 2, 3], strides=[1, 2, 2], pad_type="same")),
    "l2_pool": ([X], lambda x: ops().l2_pool(x=x, kernel_sizes=[2, 2], strides=[1, 1], pad_type="valid")),
    "reduce_mean global": ([X], lambda x: ops().reduce_mean(x=x, axes=[2, 3], keep_dims=True)),
    "reduce_max": ([X], lambda x: ops().reduce_max(x=x, axes=[1, -1], keep_dims=False)),
    "reduce_sum all": ([X], lambda x: ops().reduce_sum(x=x, keep_dims=False)),
    "reduce_argmax": ([X], lambda x: ops().reduce_argmax(x=x, axis=1, keep_dims=False)),
    "linear": ([(4, 7, 5)], lambda x: ops().linear(x=x, weight=noise(3, 5), bias=noise(3))),
    "matmul": ([(4, 1, 5, 6), (3, 7, 6)], lambda x, y: ops().matmul(x=x, y=y, transpose_y=True)),
    "matmul weight": ([(4, 5, 6)], lambda x: ops().matmul(x=x, y=noise(6, 2))),
    "batch_norm": ([X], lambda x: ops().batch_norm(x=x, mean=noise(6), variance=abs(noise(6)))),
    "batch_norm 3d": ([V], lambda x: ops().batch_norm(x=x, mean=noise(3), variance=abs(noise(3)))),
    "instance_norm": ([X], lambda x: ops().instance_norm(x=x, gamma=noise(6), beta=noise(6))),
    "layer_norm": ([(2, 5, 6)], lambda x: ops().layer_norm(x=x, axes=[-1], gamma=noise(6), beta=noise(6))),
    "local_response_norm": ([X], lambda x: ops().local_response_norm(x=x, size=3)),
    "l2_norm": ([X], lambda x: ops().l2_norm(x=x, epsilon=1e-3)),
    "softmax": ([X], lambda x: ops().softmax(x=x, axis=-1)),
    "add": ([X, (6, 1, 1)], lambda x, y: ops().add(x=x, y=y)),
    "add 5": ([V, (1, 3, 1, 1, 1)], lambda x, y: ops().add(x=x, y=y)),
    "sub": ([X, (1, 6, 1, 1)], lambda x, y: ops().sub(x=x, y=y)),
    "mul scalar": ([X], lambda x: ops().mul(x=x, y=2.0)),
    "real_div": ([(4, 1, 5), (3, 1)], lambda x, y: ops().real_div(x=x, y=y)),
    "maximum": ([X, X], lambda x, y: ops().maximum(x=x, y=y)),
    "select": ([(3, 5), (3, 5), (3, 5)], lambda c, x, y: ops().select(cond=ops().cast(x=c, dtype="bool"), a=x,
                                                                         b=y)),
    "greater": ([X, X], lambda x, y: ops().cast(x=ops().greater(x=x, y=y), dtype="fp32")),
    "prelu": ([X], lambda x: ops().prelu(x=x, alpha=abs(noise(6)))),
    "pow, clip, gelu": ([X], lambda x: ops().gelu(x=ops().clip(x=ops().pow(x=x, y=2.0), alpha=0.0, beta=6.0))),
    "pad": ([X], lambda x: ops().pad(x=x, pad=[1, 2, 0, 3], mode="reflect")),
    "pad all": ([(2, 3, 4)], lambda x: ops().pad(x=x, pad=[1, 2, 0, 3, 2, 0])),
    "crop": ([X], lambda x: ops().crop(x=x, crop_height=[1, 2], crop_width=[0, 3])),
    "upsample nearest": ([X], lambda x: ops().upsample_nearest_neighbor(x=x, scale_factor_height=2,
                                                                        scale_factor_width=3)),
    "upsample fractional": ([X], lambda x: ops().upsample_nearest_neighbor(x=x, scale_factor_height=1.5,
                                                                           scale_factor_width=2.5)),
    "upsample bilinear": ([X], lambda x: ops().upsample_bilinear(x=x, scale_factor_height=2, scale_factor_width=2)),
    "resize_bilinear": ([X], lambda x: ops().resize_bilinear(x=x, target_size_height=13, target_size_width=7)),
    "resize nearest": ([X], lambda x: ops().resize_nearest_neighbor(x=x, target_size_height=16,
                                                                    target_size_width=20)),
    "depth_to_space": ([(1, 8, 3, 4)], lambda x: ops().depth_to_space(x=x, block_size=2)),
    "space_to_depth": ([(1, 3, 4, 6)], lambda x: ops().space_to_depth(x=x, block_size=2)),
    "pixel_shuffle": ([(1, 8, 3, 4)], lambda x: ops().pixel_shuffle(x=x, upscale_factor=2)),
    "reshape": ([X], lambda x: ops().reshape(x=x, shape=[2, -1, 5])),
    "reshape same rank": ([(4, 6)], lambda x: ops().reshape(x=x, shape=[-1, 8])),
    "flatten2d": ([X], lambda x: ops().flatten2d(x=x, axis=2)),
    "transpose": ([X], lambda x: ops().transpose(x=x, perm=[0, 2, 3, 1])),
    "concat": ([X, (2, 3, 8, 10)], lambda x, y: ops().concat(values=[x, y], axis=1)),
    "concat 2": ([(4, 5), (4, 6)], lambda x, y: ops().concat(values=[x, y], axis=-1)),
    "stack": ([(4, 5), (4, 5)], lambda x, y: ops().stack(values=[x, y], axis=1)),
    "split": ([X], lambda x: ops().split(x=x, num_splits=3, axis=1)),
    "split sizes": ([X], lambda x: ops().split(x=x, split_sizes=[3, 7], axis=-1)),
    "slice one": ([X], lambda x: ops().slice_by_index(x=x, begin=[0, 1, 0, 0], end=[2, 5, 8, 10], stride=[1, 2, 1, 1])),
    "slice": ([X], lambda x: ops().slice_by_index(x=x, begin=[0, 1, -3, 0], end=[2, 5, 8, 10],
                                                  squeeze_mask=[True, False, False, False])),
    "slice from the end": ([X], lambda x: ops().slice_by_index(x=x, begin=[0, 0, 0, -4], end=[2, 6, 8, -1])),
    "slice_by_size": ([X], lambda x: ops().slice_by_size(x=x, begin=[0, 1, 2, 3], size=[2, 4, -1, 5])),
    "expand_dims": ([(4, 5)], lambda x: ops().expand_dims(x=x, axes=[0, -1])),
    "squeeze": ([(1, 4, 1, 5)], lambda x: ops().squeeze(x=x, axes=[0, 2])),
    "squeeze all": ([(1, 4, 1, 5)], lambda x: ops().squeeze(x=x)),
    "tile": ([(2, 3)], lambda x: ops().tile(x=x, reps=[2, 4])),
    "reverse": ([X], lambda x: ops().reverse(x=x, axes=[1])),
    "sliding_windows": ([(2, 11, 5)], lambda x: ops().sliding_windows(x=x, axis=1, size=4, stride=3)),
    "gather": ([(2, 3, 5)], lambda x: ops().gather(x=x, indices=ids(1, 0, 2, 2), axis=1)),
    "gather_nd": ([(4, 3, 5)], lambda x: ops().gather_nd(x=x, indices=np().array([[1, 0], [3, 2]], dtype="int32"))),
    "gather_along_axis": ([(2, 3)], lambda x: ops().gather_along_axis(
        x=x, indices=np().array([[1, 0, 2, 1], [0, 0, 1, 1]], dtype="int32"), axis=1)),
    "scatter": ([(4, 3), (2, 3)], lambda x, u: ops().scatter(data=x, indices=ids(1, 3), updates=u, axis=0)),
    "embedding": ([(7,)], lambda x: ops().gather(x=noise(20, 4), indices=ops().cast(x=x, dtype="int32"), axis=0)),
    "one_hot": ([(7,)], lambda x: ops().one_hot(indices=ops().cast(x=x, dtype="int32"), one_hot_vector_size=9)),
    "topk": ([(4, 9)], lambda x: ops().topk(x=x, k=3, axis=1)[0]),
    "argsort": ([(4, 9)], lambda x: ops().cast(x=ops().argsort(x=x, axis=1), dtype="fp32")),
    "cumsum": ([(4, 9)], lambda x: ops().cumsum(x=x, axis=1)),
    "band_part": ([(4, 9)], lambda x: ops().band_part(x=x, lower=1, upper=-1)),
    "non_maximum_suppression": ([(1, 20, 4), (1, 20, 3)], lambda b, s: ops().non_maximum_suppression(
        boxes=b, scores=s, iou_threshold=0.5, score_threshold=0.1, max_boxes=6, per_class_suppression=False)[0]),
    "crop_resize": ([(2, 3, 20, 30), (9, 1, 4, 1, 1)], lambda x, roi: ops().crop_resize(
        x=x, roi=roi, target_height=7, target_width=8)),
    "silu, relu6": ([X], lambda x: ops().relu6(x=ops().silu(x=x))),
    "lstm": lstm("forward", sequence=True),
    "lstm last": lstm("reverse", sequence=False),
    "lstm both ways": lstm("bidirectional", sequence=True),
    "gru": ([S], lambda x: [ops().relu(x=y) for y in ops().gru(
        x=x, initial_h=noise(2, 4), weight_ih=noise(12, 7), weight_hh=noise(12, 4), output_sequence=True)]),
    "rnn": ([S], lambda x: [ops().relu(x=y) for y in ops().rnn(
        x=x, initial_h=noise(2, 4), weight_ih=noise(4, 7), weight_hh=noise(4, 4), output_sequence=True)]),
    "cond": ([(1,), X], branch),
    "while_loop": ([X], loop),
}  # fmt: skip


def read(spec: Any) -> tuple[Function, tuple[str, ...]]:
    """A specification of coremltools, read with our own descriptors."""
    model = proto.Model.FromString(spec.SerializeToString())
    kind = model.WhichOneof("Type")
    function, _, warnings = lower(getattr(model, kind), model.description, kind, model.specificationVersion)
    return function, warnings


def converted(
    monkeypatch: pytest.MonkeyPatch, shapes: list[Any], build: Build, **more: Any
) -> tuple[Any, dict[str, tuple[Any, ...]]]:
    """The old network that coremltools makes of a program, and the shapes of the program it made it of."""
    ct = pytest.importorskip("coremltools")
    load = pytest.importorskip("coremltools.converters.mil.backend.nn.load")
    truth: dict[str, tuple[Any, ...]] = {}
    original = load.convert_ops

    def record(context: Any, builder: Any, operations: Any, outputs: Any) -> Any:
        for operation in operations:
            for value in operation.outputs:
                truth[value.name] = tuple(value.shape) or (1,)  # old networks have no scalars
        return original(context, builder, operations, outputs)

    monkeypatch.setattr(load, "convert_ops", record)
    specs = [ops().TensorSpec(shape=shape) for shape in shapes]
    program = ops().program(input_specs=specs)(build)
    return ct.convert(program, convert_to="neuralnetwork", source="milinternal", **more).get_spec(), truth


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PROGRAMS)
def test_shapes_are_those_of_the_program_that_was_converted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, build = PROGRAMS[name]
    spec, truth = converted(monkeypatch, inputs, build)
    function, warnings = read(spec)
    assert warnings == ()
    assert function.layout == "mil"
    compared = 0
    for operation in function.body.walk():
        for value in operation.outputs:
            assert value.tensor.is_fixed, (operation.layer, value.name)
            if value.name in truth:
                assert value.tensor.shape == truth[value.name], (operation.layer, value.name)
                compared += 1
    assert compared
    assert {value.name for value in function.outputs} <= set(truth) | {value.name for value in function.inputs}


@pytest.mark.filterwarnings("ignore")
def test_a_flexible_network_has_the_shapes_of_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reshape by a computed shape: the network asks for shapes at run time, at the default they are known."""
    ct = pytest.importorskip("coremltools")
    symbols = pytest.importorskip("coremltools.converters.mil.mil")

    def program(a: Any) -> Any:
        mb = ops()
        shape = mb.shape(x=a)
        rows = mb.slice_by_index(x=shape, begin=[0], end=[1])
        columns = mb.slice_by_index(x=shape, begin=[1], end=[2])
        twice = mb.concat(values=[rows, ids(2), mb.floor_div(x=columns, y=ids(2))], axis=0)
        return mb.relu(x=mb.reshape(x=a, shape=twice))

    flexible = [ct.TensorType(name="a", shape=(ct.RangeDim(1, 64, default=10), ct.RangeDim(2, 64, default=12)))]
    unknown = [(symbols.get_new_symbol(), symbols.get_new_symbol())]
    spec, _ = converted(monkeypatch, unknown, program, inputs=flexible)
    assert {layer.WhichOneof("layer") for layer in spec.neuralNetwork.layers} >= {"getShape", "reshapeDynamic"}
    function, warnings = read(spec)
    assert [value.tensor.shape for value in function.inputs] == [(10, 12)]
    assert [value.tensor.shape for value in function.outputs] == [(10, 2, 6)]
    assert warnings == ()


# --- compiled by Core ML


def compiled(shared: Path) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    for path in sorted(shared.glob("models/*/*.mlmodelc/model.espresso.shape")):
        net = json.loads(path.with_name("model.espresso.net").read_text())
        yield path.parent.parent.name, net, json.loads(path.read_text())["layer_shapes"]


def test_shapes_are_those_that_core_mls_compiler_wrote(shared: Path) -> None:
    """Compiled networks, taken back to layers: n is the batch, seq the sequence, k channels, h height and w width."""
    compared = {}
    for slug, net, truth in compiled(shared):
        message, description = rebuilt(net, truth)
        function, _, warnings = lower(message, description, "neuralNetwork", 1)
        assert (slug, warnings) == (slug, ())
        for operation in function.body.walk():
            for value in operation.outputs:
                blob = truth[value.name]
                wanted = (blob["n"] * blob.get("seq", 1), blob["k"], blob["h"], blob["w"])
                assert value.tensor.shape == wanted, (slug, operation.layer, value.name)
                compared[slug] = compared.get(slug, 0) + 1
    assert len(compared) == 8
    assert sum(compared.values()) > 300


@pytest.mark.parametrize(
    ("slug", "unknown"), [("packtpublishing-faststyletransfervangoghstarrynight", {"ResCropBlockLambda"})]
)
def test_published_networks_with_custom_layers_say_what_hides_their_shapes(
    shared: Path, slug: str, unknown: set[str]
) -> None:
    (path,) = shared.glob(f"models/{slug}/*.mlmodel")
    function, warnings = read(proto.Model.FromString(path.read_bytes()))
    hidden = {op.param("class_name") for op in function.body.walk() if op.type == "custom" and not known(op)}
    assert hidden == unknown
    assert all("its code lies in the app" in warning for warning in warnings)


def known(operation: Any) -> bool:
    return all(value.tensor.is_fixed for value in operation.outputs)


def test_every_other_published_network_has_no_unknown_shape(shared: Path) -> None:
    networks = 0
    for path in sorted(shared.glob("models/*/**/*.mlmodel")):
        data = path.read_bytes()
        if not data.startswith(b"\x08"):
            continue  # a dangling link stored as a file: a model begins with its specification version
        for model in stages(proto.Model.FromString(data)):
            kind = model.WhichOneof("Type") or ""
            if not kind.startswith("neuralNetwork") or "custom" in kinds(getattr(model, kind)):
                continue
            function, _, warnings = lower(getattr(model, kind), model.description, kind, model.specificationVersion)
            assert (path.name, warnings) == (path.name, ())
            assert all(known(operation) for operation in function.body.walk())
            networks += 1
    assert networks >= 20


def kinds(network: Any) -> set[str]:
    return {layer.WhichOneof("layer") for layer in network.layers}


def stages(model: Any) -> Iterator[Any]:
    kind = model.WhichOneof("Type") or ""
    if not kind.startswith("pipeline"):
        yield model
        return
    pipeline = getattr(model, kind)
    for stage in (pipeline if kind == "pipeline" else pipeline.pipeline).models:
        yield from stages(stage)

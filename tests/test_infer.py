"""Shapes of programs: taken away and worked out again, and filled in where a flexible program leaves them open."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from anecompat.errors import ReadError, UsageError
from anecompat.infer import RULES, infer
from anecompat.ir import Block, Constant, Function, Operation, TensorType, Value
from anecompat.readers import read
from test_neural_network_truth import PROGRAMS, Dims, V, X, ids, noise, np, ops

Build = Callable[..., Any]

# What PROGRAMS, which old networks can hold, does not have.
NEWER: dict[str, tuple[list[Dims], Build, str]] = {
    "einsum": ([(2, 3, 4, 5), (2, 5, 4, 6)], lambda x, y: ops().einsum(
        values=(x, y), equation="bhwc,bcwu->bhwu"), "iOS16"),
    "batch_to_space": ([(4, 3, 5, 6)], lambda x: ops().batch_to_space(
        x=x, block_shape=[2, 2], crops=[[1, 0], [0, 2]]), "iOS16"),
    "space_to_batch": ([(1, 3, 5, 6)], lambda x: ops().space_to_batch(
        x=x, block_shape=[2, 2], paddings=[[1, 0], [0, 2]]), "iOS16"),
    "pixel_unshuffle": ([(1, 3, 4, 6)], lambda x: ops().pixel_unshuffle(x=x, downscale_factor=np().uint32(2)), "iOS16"),
    "gather batch_dims": ([(2, 3, 4, 5)], lambda x: ops().gather(
        x=x, indices=np().zeros((2, 6), "int32"), axis=1, batch_dims=1), "iOS16"),
    "gather_nd batch_dims": ([(2, 3, 4, 5)], lambda x: ops().gather_nd(
        x=x, indices=np().zeros((2, 6, 1), "int32"), batch_dims=1), "iOS16"),
    "fill_like": ([X], lambda x: ops().add(x=x, y=ops().fill_like(ref_tensor=x, value=2.0)), "iOS16"),
    "topk without indices": ([X], lambda x: ops().topk(x=x, k=3, axis=1, return_indices=False), "iOS16"),
    "resize": ([X], lambda x: ops().resize(x=x, shape=ids(0, 13), resized_dims=np().uint32(2)), "iOS17"),
    "attention": ([(1, 4, 8, 16), (1, 4, 9, 16), (1, 4, 9, 16)], lambda q, k, v: ops().scaled_dot_product_attention(
        query=q, key=k, value=v), "iOS18"),
    "slice_update": ([X, (2, 1, 8, 10)], lambda x, u: ops().slice_update(
        x=x, update=u, begin=[0, 2, 0, 0], end=[2, 3, 8, 10]), "iOS18"),
    "matmul vector": ([(6,), (6, 2)], lambda x, y: ops().matmul(x=x, y=y), "iOS16"),
    "conv 3d": ([V], lambda x: ops().conv(x=x, weight=noise(2, 3, 2, 3, 3), pad_type="valid"), "iOS16"),
    "scatter_nd": ([(4, 3), (2, 3)], lambda x, u: ops().scatter_nd(
        data=x, indices=np().array([[1], [3]], "int32"), updates=u), "iOS16"),
}  # fmt: skip


def converted(folder: Path, shapes: list[Any], build: Build, opset: str = "iOS16", **more: Any) -> Function:
    """The program as coremltools writes it, no pass applied, read by our reader."""
    ct = pytest.importorskip("coremltools")
    target = getattr(ct.target, opset)
    specs = [ops().TensorSpec(shape=shape) for shape in shapes]
    program = ops().program(input_specs=specs, opset_version=target)(build)
    model = ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=target,
        pass_pipeline=ct.PassPipeline.EMPTY,
        compute_precision=ct.precision.FLOAT32,
        skip_model_load=True,
        **more,
    )
    path = folder / "program.mlmodel"
    path.write_bytes(model.get_spec().SerializeToString())
    return read(path).functions[0]


def outputs(function: Function) -> Iterator[tuple[Operation, Value]]:
    for operation in function.operations():
        for value in operation.outputs:
            if isinstance(value.type, TensorType):
                yield operation, value


def forget(function: Function) -> list[TensorType]:
    """Take every operation's shapes away, nested blocks aside, and return what they were."""
    types = [value.tensor for _, value in outputs(function)]
    for operation, value in outputs(function):
        if operation.type not in ("while_loop", "cond"):
            value.type = TensorType(value.tensor.dtype, None)
    return types


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*PROGRAMS, *NEWER])
def test_shapes_taken_away_are_worked_out_again(name: str, tmp_path: Path) -> None:
    shapes, build, opset = NEWER[name] if name in NEWER else (*PROGRAMS[name], "iOS16")
    try:
        function = converted(tmp_path, shapes, build, opset)
    except ValueError as error:
        pytest.skip(f"coremltools does not build it for programs: {error}")
    truth = forget(function)
    found = infer(function)
    for (operation, value), wanted in zip(outputs(found), truth, strict=True):
        if operation.type in RULES:
            assert value.tensor == wanted, operation
    assert any(operation.type in RULES for operation, _ in outputs(found))


def test_every_rule_is_for_an_operation_of_mil() -> None:
    registry = pytest.importorskip("coremltools.converters.mil.mil.ops.registry").SSAOpRegistry
    assert set(RULES) <= set(registry.core_ops)


# --- flexible programs


def flexible(tmp_path: Path, build: Build, *ranges: tuple[int, int, int]) -> Function:
    ct = pytest.importorskip("coremltools")
    symbols = pytest.importorskip("coremltools.converters.mil.mil")
    dims = [ct.RangeDim(least, most, default=default) for least, most, default in ranges]
    unknown = tuple(symbols.get_new_symbol() for _ in ranges)
    return converted(tmp_path, [unknown], build, inputs=[ct.TensorType(name="x", shape=tuple(dims))])


def computed(x: Any) -> Any:
    """Heads split off by a computed shape, padded by a computed length, counted and filled."""
    mb = ops()
    shape = mb.shape(x=x)
    rows = mb.slice_by_index(x=shape, begin=[0], end=[1])
    columns = mb.slice_by_index(x=shape, begin=[-1], end=[0], end_mask=[True])
    heads = mb.reshape(x=x, shape=mb.concat(values=[rows, ids(-1), mb.floor_div(x=columns, y=ids(3))], axis=0))
    total = mb.reduce_prod(x=shape, axes=[0], keep_dims=False)
    counted = mb.range_1d(start=0, end=total, step=2)
    longest = mb.maximum(x=mb.gather(x=shape, indices=1, axis=0), y=20)
    filled = mb.fill(shape=mb.stack(values=[longest, mb.add(x=total, y=1)], axis=0), value=1.0)
    return [mb.relu(x=heads), mb.cast(x=counted, dtype="fp32"), mb.tile(x=filled, reps=mb.concat(
        values=[rows, ids(1)], axis=0))]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_what_a_flexible_program_computes_is_known_at_a_shape(tmp_path: Path) -> None:
    function = flexible(tmp_path, computed, (1, 64, 4), (2, 64, 12))
    assert [value.tensor.shape for value in function.outputs] == [(None, None, None), (None,), (None, None)]
    found = infer(function, {"x": (4, 12)})
    assert [value.tensor.shape for value in found.outputs] == [(4, 3, 4), (24,), (80, 49)]
    found = infer(function, {"x": (2, 30)})
    assert [value.tensor.shape for value in found.outputs] == [(2, 3, 10), (30,), (60, 61)]


@pytest.mark.filterwarnings("ignore")
def test_the_original_stays_as_it_was(tmp_path: Path) -> None:
    function = flexible(tmp_path, computed, (1, 64, 4), (2, 64, 12))
    before = [(operation.index, operation.type, str(value.type)) for operation, value in outputs(function)]
    found = infer(function, {"x": (4, 12)})
    assert [(operation.index, operation.type, str(value.type)) for operation, value in outputs(function)] == before
    assert [operation.index for operation in found.operations()] == [op.index for op in function.operations()]
    originals = {id(value) for _, value in outputs(function)}
    for operation in found.operations():
        assert all(value.producer is operation for value in operation.outputs)
        assert not originals & {id(value) for bound in operation.inputs.values() for value in bound}


@pytest.mark.filterwarnings("ignore")
def test_what_depends_on_values_stays_unknown(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        return ops().cast(x=ops().non_zero(x=x), dtype="fp32")

    found = infer(flexible(tmp_path, build, (1, 64, 4), (2, 64, 12)), {"x": (4, 12)})
    assert [value.tensor.shape for value in found.outputs] == [(None, 2)]


def loop(body: Build) -> Build:
    def build(x: Any) -> Any:
        mb = ops()
        results = mb.while_loop(
            _cond=lambda count, value: mb.less(x=mb.reduce_sum(x=count), y=10.0),
            _body=lambda count, value: (mb.add(x=count, y=1.0), body(value)),
            loop_vars=(mb.fill(shape=[1], value=0.0), x),
        )
        return mb.sigmoid(x=results[1])

    return build


@pytest.mark.filterwarnings("ignore")
def test_loop_variables_keep_the_shape_that_every_turn_keeps(tmp_path: Path) -> None:
    function = flexible(tmp_path, loop(lambda x: ops().tanh(x=x)), (1, 64, 4), (2, 64, 12))
    found = infer(function, {"x": (4, 12)})
    (operation,) = (operation for operation in found.operations() if operation.type == "while_loop")
    assert [value.tensor.shape for value in operation.outputs] == [(1,), (4, 12)]
    assert [value.tensor.shape for value in operation.blocks[1].outputs] == [(1,), (4, 12)]
    assert found.outputs[0].tensor.shape == (4, 12)


@pytest.mark.filterwarnings("ignore")
def test_a_loop_whose_variable_grows_is_not_told(tmp_path: Path) -> None:
    function = flexible(tmp_path, loop(lambda x: ops().concat(values=[x, x], axis=0)), (1, 64, 4), (2, 64, 12))
    found = infer(function, {"x": (4, 12)})
    assert found.outputs[0].tensor.shape is not None
    assert found.outputs[0].tensor.shape[0] is None


@pytest.mark.filterwarnings("ignore")
def test_shapes_that_the_function_does_not_take_are_refused(tmp_path: Path) -> None:
    function = flexible(tmp_path, computed, (1, 64, 4), (2, 64, 12))
    with pytest.raises(UsageError, match=r"function 'main' has no input 'y'; it has: x"):
        infer(function, {"y": (1, 2)})
    for shape in ((1, 2, 3), (), (0, 12), (4, -1)):
        with pytest.raises(UsageError, match=r"the input 'x' is fp32\[\?,\?\], not "):
            infer(function, {"x": shape})
    fixed = Function("main", "", infer(function, {"x": (4, 12)}).body)
    with pytest.raises(UsageError, match=r"the input 'x' is fp32\[4,12\], not 4x13"):
        infer(fixed, {"x": (4, 13)})


@pytest.mark.filterwarnings("ignore")
def test_a_function_with_nothing_unknown_is_itself(tmp_path: Path) -> None:
    function = converted(tmp_path, [X], lambda x: ops().relu(x=x))
    assert infer(function) is function


@pytest.mark.filterwarnings("ignore")
def test_an_image_may_leave_out_its_batch(tmp_path: Path) -> None:
    function = flexible(tmp_path, lambda x: ops().relu(x=x), (1, 1, 1), (3, 3, 3), (4, 9, 4), (4, 9, 4))
    assert infer(function, {"x": (3, 5, 6)}).outputs[0].tensor.shape == (1, 3, 5, 6)


def test_arguments_that_do_not_fit_one_another_leave_the_shape_unknown() -> None:
    for shape, arguments in [
        ((4, 5), {"perm": (0, 0)}),
        ((4, 5), {"perm": (0, 7)}),
        ((4, 5), {"perm": (0,)}),
        (None, {"perm": (1, 0)}),
    ]:
        x = Value("x", TensorType("fp16", shape))
        y = Value("y", TensorType("fp16", None))
        bound = {"x": (x,), **{name: (number_list(values),) for name, values in arguments.items()}}
        operation = Operation("transpose", bound, [y])
        found = infer(Function("main", "", Block([x], [operation], [y])))
        assert found.outputs[0].tensor.shape is None


def number_list(values: tuple[int, ...]) -> Value:
    kind = TensorType("int32", (len(values),))
    return Value("numbers", kind, const=Constant(kind, values=values))


# --- nonsense

NAMES = """
    x y values weight weight_hh strides pad_type pad dilations groups kernel_sizes ceil_mode output_shape axes axis
    shape keep_dims k perm begin end stride begin_mask squeeze_mask size reps indices batch_dims block_size crop_height
    crop_width target_size_height target_size_width resized_dims split_sizes equation value cond a b start step data roi
    one_hot_vector_size scale_factor_height scale_factor_width block_shape crops paddings boxes scores max_boxes query
    key input ref_tensor upscale_factor downscale_factor direction output_sequence
"""
NUMBERS: list[Any] = [*range(-3, 7), 2**40, -(2**63), 2**64, float("nan"), float("inf"), 0.7, True, "same", "ab,bc->ad"]
SIZES = [None, *range(8), 2**40, 2**64]


def nonsense(rng: random.Random, kind: str) -> Function:
    """The operation with arguments that mean nothing: tensors of any shape, lists and scalars of anything."""
    inputs: list[Value] = []
    bound: dict[str, tuple[Value, ...]] = {}
    for name in NAMES.split():
        choice = rng.choice(["tensor", "tensors", "number", "numbers", "missing"])
        if choice.startswith("tensor"):
            shapes = [
                rng.choice([None, tuple(rng.choices(SIZES, k=rng.randrange(7)))])
                for _ in range(3 if choice == "tensors" else 1)
            ]
            bound[name] = tuple(Value(name, TensorType("fp16", shape)) for shape in shapes)
            inputs.extend(bound[name])
        elif choice.startswith("number"):
            numbers = rng.choices(NUMBERS, k=rng.randrange(6) if choice == "numbers" else 1)
            kept = TensorType("int32", (len(numbers),) if choice == "numbers" else ())
            bound[name] = (Value(name, kept, const=Constant(kept, values=numbers)),)
    results = [Value(f"y{index}", TensorType("fp16", None)) for index in range(rng.randrange(4))]
    return Function("main", "", Block(inputs, [Operation(kind, bound, results)], results))


@pytest.mark.parametrize("kind", sorted(RULES))
def test_no_arguments_make_a_rule_fail(kind: str) -> None:
    rng = random.Random(kind)
    for _ in range(50):
        function = nonsense(rng, kind)
        found = infer(function)
        for value in found.outputs:
            shape = value.tensor.shape
            assert shape is None or all(dim is None or 0 < dim <= 2**40 for dim in shape)


# --- published models


def programs(shared: Path) -> Iterator[tuple[str, Any]]:
    for folder in sorted([*shared.glob("models/*/*"), *shared.glob("truth/fixtures/packages/*")]):
        if folder.suffix not in (".mlpackage", ".mlmodel", ".mlmodelc", ".mil"):
            continue
        try:
            model = read(folder)
        except ReadError:
            continue
        for _, leaf in model.walk_stages():
            for function in leaf.functions if leaf.kind == "mlProgram" else ():
                yield folder.name, (leaf, function)


def is_open(function: Function) -> bool:
    return any(not value.tensor.is_fixed for _, value in outputs(function))


def test_published_programs_have_the_shapes_their_compiler_wrote(shared: Path) -> None:
    compared = 0
    for name, (_, function) in programs(shared):
        if is_open(function):
            continue
        truth = forget(function)
        for (operation, value), wanted in zip(outputs(infer(function)), truth, strict=True):
            assert value.tensor == wanted, (name, operation)
            compared += 1
    assert compared > 9000


def test_published_flexible_programs_are_known_at_their_default(shared: Path) -> None:
    known, unknown = set(), set()
    for name, (leaf, function) in programs(shared):
        if is_open(function):
            found = infer(function, {feature.name: feature.shape for feature in leaf.inputs if feature.shape})
            (unknown if is_open(found) else known).add(name)
    assert len(known) >= 4
    # Loops over lists, and a recording whose default of one sample leaves nothing to slice.
    assert all(name.startswith("DTLN_AEC") or name == "parakeet_eou_preprocessor.mlmodelc" for name in unknown)

"""mlPrograms in their protobuf form: what coremltools converts, and messages made by hand to be wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anecompat.errors import ReadError, UsageError
from anecompat.ir import Model, OtherType, StateType, TensorType, Unknown
from anecompat.proto import Model as ModelMessage
from anecompat.readers import read

FP16, FP32, INT32, BOOL, STRING = 10, 11, 23, 1, 2
Save = Callable[[str, Any], Path]


@pytest.fixture(scope="module")
def ct() -> Any:
    return pytest.importorskip("coremltools")


@pytest.fixture(scope="module")
def convert(ct: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A pymil program as an .mlpackage on disk."""

    def convert(program: Any, target: str = "iOS17", **options: Any) -> Path:
        package = tmp_path_factory.mktemp("converted") / "m.mlpackage"
        made = ct.convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=getattr(ct.target, target),
            skip_model_load=True,
            compute_precision=ct.precision.FLOAT32,
            **options,
        )
        made.save(str(package))
        return package

    return convert


def types(model: Model) -> list[str]:
    return [operation.type for operation in model.operations()]


def test_a_small_network(ct: Any, convert: Callable[..., Path]) -> None:
    import numpy

    mb = ct.converters.mil.Builder

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 3, 16, 16))], opset_version=ct.target.iOS16)
    def program(x: Any) -> Any:
        weight = numpy.random.default_rng(0).random((8, 3, 3, 3), numpy.float32)
        y = mb.conv(x=x, weight=weight, pad_type="same", strides=[2, 2], name="first")
        return mb.concat(values=(y, mb.relu(x=y)), axis=1, name="both")

    package = convert(program, "iOS16")
    model = read(package)
    assert (model.format, model.kind, model.spec_version) == ("mlpackage", "mlProgram", 7)
    assert types(model) == ["conv", "relu", "concat"]
    assert [operation.index for operation in model.operations()] == [0, 1, 2]
    (function,) = model.functions
    assert (function.name, function.opset, function.layout) == ("main", "ios16", "mil")
    conv, relu, concat = model.operations()
    assert (conv.name, conv.opset) == ("first", "ios16")
    assert conv.params("strides") == (2, 2)
    assert conv.param("pad_type") == "same"
    assert conv.outputs[0].type == TensorType("fp32", (1, 8, 8, 8))
    weight = conv.input("weight")
    assert weight is not None
    assert weight.const is not None
    assert weight.const.blob is not None
    assert weight.const.blob.path == "@model_path/weights/weight.bin"
    assert len(weight.const.values()) == 216
    assert concat.inputs["values"] == (conv.outputs[0], relu.outputs[0])
    assert concat.outputs[0].producer is concat
    assert function.inputs[0].producer is None
    assert model.warnings == ()
    assert 0 < model.bytes_read < model.bytes_there


def test_branches_and_loops(ct: Any, convert: Callable[..., Path]) -> None:
    import numpy

    mb = ct.converters.mil.Builder

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 4))], opset_version=ct.target.iOS17)
    def program(x: Any) -> Any:
        mean = mb.reduce_mean(x=x, axes=[0, 1], keep_dims=False)
        picked = mb.cond(
            pred=mb.greater(x=mean, y=numpy.float32(0.5)),
            _true_fn=lambda: mb.add(x=x, y=numpy.float32(1)),
            _false_fn=lambda: mb.mul(x=x, y=numpy.float32(2)),
        )
        return mb.while_loop(
            _cond=lambda i, a: mb.less(x=i, y=numpy.int32(3)),
            _body=lambda i, a: (mb.add(x=i, y=numpy.int32(1)), mb.sub(x=a, y=x)),
            loop_vars=(numpy.int32(0), picked),
        )

    model = read(convert(program))
    assert types(model) == ["reduce_mean", "greater", "cond", "add", "mul", "while_loop", "less", "add", "sub"]
    cond = next(operation for operation in model.operations() if operation.type == "cond")
    assert [[inner.type for inner in block.operations] for block in cond.blocks] == [["add"], ["mul"]]
    add = cond.blocks[0].operations[0]
    assert add.input("x") is model.functions[0].inputs[0]
    loop = next(operation for operation in model.operations() if operation.type == "while_loop")
    condition, body = loop.blocks
    assert [value.type for value in body.inputs] == [TensorType("int32", ()), TensorType("fp32", (1, 4))]
    assert condition.outputs[0].type == TensorType("bool", ())
    assert body.operations[0].input("x") is body.inputs[0]
    assert loop.inputs["loop_vars"][1] is cond.outputs[0]


def test_states(ct: Any, convert: Callable[..., Path]) -> None:
    mb = ct.converters.mil.Builder
    fp16 = ct.converters.mil.mil.types.fp16

    @mb.program(
        input_specs=[mb.TensorSpec((1, 4), fp16), mb.StateTensorSpec((1, 4), fp16)], opset_version=ct.target.iOS18
    )
    def program(x: Any, kept: Any) -> Any:
        sum = mb.add(x=mb.read_state(input=kept), y=x)
        mb.coreml_update_state(state=kept, value=sum)
        return mb.relu(x=sum)

    model = read(convert(program, "iOS18"))
    state = next(value for value in model.functions[0].inputs if value.name == "kept")
    assert state.type == StateType(TensorType("fp16", (1, 4)))
    assert [(each.name, each.kind, each.dtype, each.shape) for each in model.states] == [
        ("kept", "state", "fp16", (1, 4))
    ]
    assert "write_state" in types(model)
    write = next(operation for operation in model.operations() if operation.type == "write_state")
    assert write.outputs == ()


def test_compressed_weights(ct: Any, convert: Callable[..., Path], tmp_path: Path) -> None:
    import numpy

    mb = ct.converters.mil.Builder

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 64))], opset_version=ct.target.iOS16)
    def program(x: Any) -> Any:
        weight = numpy.random.default_rng(0).integers(0, 4, (64, 64)).astype(numpy.float32)
        return mb.linear(x=x, weight=weight)

    optimize = ct.optimize.coreml
    loaded = ct.models.MLModel(str(convert(program, "iOS16")), skip_model_load=True)
    palettized = optimize.palettize_weights(
        loaded, optimize.OptimizationConfig(optimize.OpPalettizerConfig(mode="unique", weight_threshold=0))
    )
    package = tmp_path / "palettized.mlpackage"
    palettized.save(str(package))
    model = read(package, verify_weights=True)
    assert model.histogram() == {"constexpr_lut_to_dense": 1, "linear": 1}
    assert types(model) == ["linear"]
    linear = next(model.operations())
    weight = linear.input("weight")
    assert weight is not None
    made_by = weight.producer
    assert made_by is not None
    assert (made_by.type, made_by.index, made_by.is_constexpr) == ("constexpr_lut_to_dense", -1, True)
    assert set(made_by.inputs) == {"indices", "lut", "shape"}
    assert made_by.params("shape") == (64, 64)
    lut = made_by.input("lut")
    assert lut is not None
    assert lut.const is not None
    assert lut.const.values() == (0.0, 1.0, 2.0, 3.0)
    assert model.warnings == ()


def test_several_functions(ct: Any, convert: Callable[..., Path], tmp_path: Path) -> None:
    import numpy

    mb = ct.converters.mil.Builder

    def one(kind: str) -> Path:
        @mb.program(input_specs=[mb.TensorSpec(shape=(1, 4))], opset_version=ct.target.iOS18)
        def program(x: Any) -> Any:
            return getattr(mb, kind)(x=x, y=numpy.float32(2), name=f"{kind}ed")

        return convert(program, "iOS18")

    descriptor = ct.utils.MultiFunctionDescriptor()
    for kind in ("mul", "add"):
        descriptor.add_function(str(one(kind)), "main", f"with_{kind}")
    descriptor.default_function_name = "with_add"
    package = tmp_path / "several.mlpackage"
    ct.utils.save_multifunction(descriptor, str(package))
    model = read(package)
    assert sorted(function.name for function in model.functions) == ["with_add", "with_mul"]
    assert model.default_function == "with_add"
    assert sorted(operation.index for operation in model.operations()) == [0, 1]
    assert [feature.name for feature in model.outputs] == ["added"]
    only = read(package, function="with_mul")
    assert [function.name for function in only.functions] == ["with_mul"]
    assert only.default_function == "with_mul"
    assert types(only) == ["mul"]
    assert [feature.name for feature in only.outputs] == ["muled"]
    with pytest.raises(UsageError, match="the model has no function 'none'; it has: with_"):
        read(package, function="none")


def flexible(ct: Any, convert: Callable[..., Path], kind: str) -> Path:
    mb = ct.converters.mil.Builder
    symbol = ct.converters.mil.mil.get_new_symbol

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 3, symbol(), symbol()))], opset_version=ct.target.iOS17)
    def program(x: Any) -> Any:
        return mb.relu(x=x)

    if kind == "range":
        shape = ct.Shape((1, 3, ct.RangeDim(16, 512, default=32), ct.RangeDim(16, 1024, default=64)))
        given: Any = ct.TensorType(name="x", shape=shape)
    elif kind == "choices":
        shape = ct.EnumeratedShapes(shapes=[(1, 3, 16, 16), (1, 3, 32, 64)], default=(1, 3, 32, 64))
        given = ct.TensorType(name="x", shape=shape)
    else:
        shape = ct.Shape((1, 3, ct.RangeDim(16, 512, default=32), ct.RangeDim(16, 1024, default=64)))
        given = ct.ImageType(name="x", shape=shape, color_layout=ct.colorlayout.RGB)
    return convert(program, inputs=[given])


@pytest.mark.parametrize("kind", ["range", "choices", "image"])
def test_flexible_inputs(ct: Any, convert: Callable[..., Path], kind: str) -> None:
    package = flexible(ct, convert, kind)
    model = read(package)
    (given,) = model.inputs
    assert given.is_flexible
    assert given.shape == ((3, 32, 64) if kind == "image" else (1, 3, 32, 64))
    if kind == "range":
        assert given.ranges == ((1, 1), (3, 3), (16, 512), (16, 1024))
    elif kind == "choices":
        assert given.choices == ((1, 3, 32, 64), (1, 3, 16, 16))
    else:
        assert (given.kind, given.color) == ("image", "RGB")
        assert given.ranges == ((3, 3), (16, 512), (16, 1024))
        assert [(work.kind, work.partial) for work in model.host_work] == [("image conversion", False)]
    assert model.functions[0].inputs[0].type == TensorType("fp32", (1, 3, None, None))
    pinned = read(package, shapes={"x": (1, 3, 16, 16)})
    assert pinned.functions[0].inputs[0].type == TensorType("fp32", (1, 3, 16, 16))
    assert pinned.inputs[0].shape == ((3, 16, 16) if kind == "image" else (1, 3, 16, 16))
    assert not pinned.inputs[0].is_flexible


@pytest.mark.parametrize(
    ("kind", "shapes", "sentence"),
    [
        ("range", {"x": (1, 3, 15, 16)}, "takes 16 to 512 where 1x3x15x16 has 15"),
        ("range", {"x": (1, 3, 16, 15)}, "takes 16 to 1024 where 1x3x16x15 has 15"),
        ("range", {"x": (3, 16, 16)}, "has 4 dimensions, 3x16x16 has 3"),
        ("range", {"y": (1,)}, "the model has no input 'y'; it has: x"),
        ("range", {"x": (1, 3, 16, -16)}, "has a dimension below 1"),
        ("choices", {"x": (1, 3, 17, 16)}, "does not take 1x3x17x16, only 1x3x32x64, 1x3x16x16"),
        ("image", {"x": (1, 3, 8, 16)}, "takes 16 to 512 where 3x8x16 has 8"),
    ],
)
def test_shapes_that_the_model_does_not_take(
    ct: Any, convert: Callable[..., Path], kind: str, shapes: dict[str, tuple[int, ...]], sentence: str
) -> None:
    package = flexible(ct, convert, kind)
    with pytest.raises(UsageError, match=sentence):
        read(package, shapes=shapes)


def test_a_fixed_shape_stays(ct: Any, convert: Callable[..., Path]) -> None:
    mb = ct.converters.mil.Builder

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 4))], opset_version=ct.target.iOS17)
    def program(x: Any) -> Any:
        return mb.relu(x=x)

    package = convert(program)
    assert read(package, shapes={"x": (1, 4)}).inputs[0].shape == (1, 4)
    with pytest.raises(UsageError, match="the input 'x' has the fixed shape 1x4"):
        read(package, shapes={"x": (2, 4)})


def test_a_classifier(ct: Any, convert: Callable[..., Path]) -> None:
    mb = ct.converters.mil.Builder

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 3))], opset_version=ct.target.iOS17)
    def program(x: Any) -> Any:
        return mb.softmax(x=x, axis=-1)

    model = read(convert(program, classifier_config=ct.ClassifierConfig(["a", "b", "c"])))
    assert types(model) == ["softmax", "classify"]
    classify = list(model.operations())[1]
    assert classify.outputs[0].type == TensorType("string", ())
    assert isinstance(classify.outputs[1].type, OtherType)
    assert str(classify.outputs[1].type) == "dict<tensor<string, []>, tensor<fp64, []>>"
    with pytest.raises(Unknown, match="not a tensor"):
        _ = classify.outputs[1].tensor
    labels = classify.input("classes")
    assert labels is not None
    assert labels.const is not None
    assert labels.const.values() == ("a", "b", "c")
    assert model.host_work == ()  # the operation itself is what keeps it from the engine
    assert [feature.kind for feature in model.outputs] == ["string", "dictionary"]


@pytest.mark.parametrize(
    ("target", "opset", "version"),
    [
        ("iOS15", "ios15", 6),
        ("iOS16", "ios16", 7),
        ("iOS17", "ios17", 8),
        ("iOS18", "ios18", 9),
        ("iOS26", "ios26", 10),
    ],
)
def test_opsets(ct: Any, convert: Callable[..., Path], target: str, opset: str, version: int) -> None:
    mb = ct.converters.mil.Builder

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 4))], opset_version=getattr(ct.target, target))
    def program(x: Any) -> Any:
        return mb.relu(x=x)

    model = read(convert(program, target))
    assert (model.functions[0].opset, model.spec_version) == (opset, version)


# ---- messages made by hand ----


def typed(message: Any, dtype: int, *dims: int) -> Any:
    message.tensorType.dataType = dtype
    message.tensorType.rank = len(dims)
    for dim in dims:
        message.tensorType.dimensions.add().constant.size = dim
    return message


def small_model() -> Any:
    """x -> relu -> y with one const that nobody uses."""
    model = ModelMessage(specificationVersion=7)
    model.description.input.add(name="x").type.multiArrayType.shape.append(4)
    model.description.output.add(name="y").type.multiArrayType.shape.append(4)
    function = model.mlProgram.functions["main"]
    function.opset = "CoreML6"
    typed(function.inputs.add(name="x").type, FP16, 4)
    block = function.block_specializations["CoreML6"]
    const = block.operations.add(type="const")
    typed(const.outputs.add(name="c").type, INT32)
    typed(const.attributes["val"].type, INT32)
    const.attributes["val"].immediateValue.tensor.ints.values.append(7)
    relu = block.operations.add(type="relu")
    relu.inputs["x"].arguments.add().name = "x"
    typed(relu.outputs.add(name="y").type, FP16, 4)
    block.outputs.append("y")
    return model


def block_of(model: Any) -> Any:
    return model.mlProgram.functions["main"].block_specializations["CoreML6"]


@pytest.fixture
def save(tmp_path: Path) -> Callable[[Any], Path]:
    def save(model: Any) -> Path:
        path = tmp_path / "made.mlmodel"
        path.write_bytes(model.SerializeToString())
        return path

    return save


def test_the_small_model_itself(save: Callable[[Any], Path]) -> None:
    model = read(save(small_model()))
    assert (model.format, model.kind, types(model)) == ("mlmodel", "mlProgram", ["relu"])


def test_a_value_given_in_place(save: Callable[[Any], Path]) -> None:
    message = small_model()
    binding = block_of(message).operations[1].inputs["alpha"].arguments.add().value
    typed(binding.type, FP32)
    binding.immediateValue.tensor.floats.values.append(0.5)
    (relu,) = read(save(message)).operations()
    assert relu.param("alpha") == 0.5


def test_a_name_of_an_outer_block_may_be_used_again(save: Callable[[Any], Path]) -> None:
    message = small_model()
    cond = block_of(message).operations.add(type="cond")
    cond.inputs["pred"].arguments.add().name = "c"
    typed(cond.outputs.add(name="z").type, FP16, 4)
    for kind in ("exp", "sin"):
        inner = cond.blocks.add()
        operation = inner.operations.add(type=kind)
        operation.inputs["x"].arguments.add().name = "y"
        typed(operation.outputs.add(name="y").type, FP16, 4)
        inner.outputs.append("y")
    after = block_of(message).operations.add(type="tanh")
    after.inputs["x"].arguments.add().name = "y"
    typed(after.outputs.add(name="t").type, FP16, 4)
    relu, cond_, exp, sin, tanh = read(save(message)).operations()
    assert exp.input("x") is relu.outputs[0]
    assert sin.input("x") is relu.outputs[0]
    assert cond_.blocks[0].outputs == exp.outputs
    assert tanh.input("x") is relu.outputs[0]


def no_functions(model: Any) -> None:
    model.mlProgram.functions.clear()


def other_opset(model: Any) -> None:
    function = model.mlProgram.functions["main"]
    function.opset = "CoreML7"
    function.block_specializations["CoreML8"].SetInParent()


def nothing_makes(model: Any) -> None:
    block_of(model).operations[1].inputs["x"].arguments[0].name = "ghost"


def itself(model: Any) -> None:
    block_of(model).operations[1].inputs["x"].arguments[0].name = "y"


def later(model: Any) -> None:
    block = block_of(model)
    block.operations[1].inputs["x"].arguments[0].name = "z"
    more = block.operations.add(type="exp")
    more.inputs["x"].arguments.add().name = "y"
    typed(more.outputs.add(name="z").type, FP16, 4)


def twice(model: Any) -> None:
    block_of(model).operations[1].outputs[0].name = "c"


def twice_inputs(model: Any) -> None:
    typed(model.mlProgram.functions["main"].inputs.add(name="x").type, FP16, 4)


def no_result(model: Any) -> None:
    block_of(model).outputs[0] = "ghost"


def const_without_value(model: Any) -> None:
    block_of(model).operations[0].attributes.clear()


def const_of_two(model: Any) -> None:
    block_of(model).operations[0].outputs.add(name="d")


def without_type(model: Any) -> None:
    block_of(model).operations[1].type = ""


def value_without_type(model: Any) -> None:
    block_of(model).operations[1].outputs[0].ClearField("type")


def wrong_rank(model: Any) -> None:
    block_of(model).operations[1].outputs[0].type.tensorType.rank = 9


def wrong_default(model: Any) -> None:
    model.description.defaultFunctionName = "other"


WRONG = {
    no_functions: "the program has no function",
    other_opset: "function main: its opset is 'CoreML7', but it holds CoreML6, CoreML8",
    nothing_makes: "function main: x of relu '' is 'ghost', which nothing makes",
    itself: "x of relu '' is 'y', which is made only later or from itself; the graph has a cycle",
    later: "x of relu '' is 'z', which is made only later",
    twice: "two values are named 'c'",
    twice_inputs: "two values are named 'x'",
    no_result: "the block's result is 'ghost', which nothing makes",
    const_without_value: "the const 'c' has no value",
    const_of_two: "a const has 2 results",
    without_type: "an operation has no type",
    value_without_type: "y: a value has no type",
    wrong_rank: "y: a tensor of rank 9 has 1 dimensions",
    wrong_default: "the default function 'other' is not there; there are: main",
}


@pytest.mark.parametrize("spoil", WRONG)
def test_a_program_that_makes_no_sense(spoil: Callable[[Any], None], save: Callable[[Any], Path]) -> None:
    message = small_model()
    spoil(message)
    path = save(message)
    with pytest.raises(ReadError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert WRONG[spoil] in str(caught.value)


def test_a_value_left_out_of_a_large_file_is_fetched(save: Callable[[Any], Path]) -> None:
    message = small_model()
    value = block_of(message).operations[0].attributes["val"]
    value.type.ClearField("type")
    typed(value.type, INT32, 400_000)
    value.immediateValue.tensor.ints.values[:] = [7] * 400_000
    gather = block_of(message).operations[1].inputs["indices"].arguments.add()
    gather.name = "c"
    small = block_of(message).operations.add(type="const")
    typed(small.outputs.add(name="k").type, INT32, 3000)
    typed(small.attributes["val"].type, INT32, 3000)
    small.attributes["val"].immediateValue.tensor.ints.values.extend(range(3000))
    for part in range(300):  # past the size that is parsed whole
        filler = block_of(message).operations.add(type="const")
        typed(filler.outputs.add(name=f"f{part}").type, FP32, 1000)
        typed(filler.attributes["val"].type, FP32, 1000)
        filler.attributes["val"].immediateValue.tensor.floats.values.extend([0.5] * 1000)
    user = block_of(message).operations.add(type="exp")
    user.inputs["x"].arguments.add().name = "k"
    typed(user.outputs.add(name="e").type, FP16, 4)
    path = save(message)
    model = read(path)
    assert path.stat().st_size > 1 << 20
    assert model.bytes_read < path.stat().st_size
    assert next(model.operations()).params("indices") == (7,) * 400_000
    exp = list(model.operations())[1]
    assert exp.params("x") == tuple(range(3000))


def test_a_thousand_branches_cost_no_more_than_themselves(save: Callable[[Any], Path]) -> None:
    """Each branch opens a scope; none of them may copy the names of all others."""
    message = small_model()
    block = block_of(message)
    for index in range(1000):
        cond = block.operations.add(type="cond")
        cond.inputs["pred"].arguments.add().name = "c"
        for _ in range(2):
            inner = cond.blocks.add()
            inner.outputs.append("y")
        typed(cond.outputs.add(name=f"z{index}").type, FP16, 4)
    assert types(read(save(message))).count("cond") == 1000

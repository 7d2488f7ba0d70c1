"""MIL text: every form of the grammar, Core ML's own operation counts as oracle, and every way to be wrong."""

from __future__ import annotations

import gc
import json
import math
from pathlib import Path

import pytest

from anecompat.errors import ReadError
from anecompat.ir import Blob, Model, OtherType, StateType, TensorType, Unknown
from anecompat.readers.mil_text import parse, parse_model, parse_program


def body(statements: str, inputs: str = "tensor<fp16, [1, 4, 8, 8]> x", output: str = "y") -> str:
    return f"func main<ios17>({inputs}) {{\n{statements}\n}} -> ({output});"


def constant(spelled: str) -> tuple[object, ...]:
    """The values of one typed literal, written as an argument."""
    (function,) = parse(body(f"tensor<fp16, [1, 4, 8, 8]> y = made_up(x = x, p = {spelled});"))
    (operation,) = function.operations()
    return operation.params("p")


def test_a_statement_as_the_compiler_prints_it() -> None:
    text = """program(1.0)
[buildInfo = dict<tensor<string, []>, tensor<string, []>>({{"coremlc-component-MIL", "3500.14.1"}, {"n", ""}})]
{
    func main<ios16>(tensor<fp32, [1, 4, 8, 8]> image) {
            tensor<int32, [2]> s = const()[name = tensor<string, []>("strides_0"), val = tensor<int32, [2]>([2, 1])];
            tensor<fp16, [8, 4, 3, 3]> w = const()[name = tensor<string, []>("w"), val = tensor<fp16, [8, 4, 3, 3]>(\
BLOBFILE(path = tensor<string, []>("@model_path/weights/weight.bin"), offset = tensor<uint64, []>(64)))];
            tensor<fp16, [1, 8, 4, 8]> y = conv(strides = s, weight = w, x = image)[name = tensor<string, []>("c_1")];
            tensor<fp16, [1, 4, 4, 8]> a, tensor<fp16, [1, 4, 4, 8]> b = split(x = y);
            tensor<fp16, [1, 8, ?, 8]> z = concat(values = (b, a));
        } -> (z);
}
"""
    program = parse_program(text)
    assert program.version == "1.0"
    assert program.attributes == {"buildInfo": {"coremlc-component-MIL": "3500.14.1", "n": ""}}
    (main,) = program.functions
    assert (main.name, main.opset, main.layout) == ("main", "ios16", "mil")
    assert [(value.name, value.type) for value in main.inputs] == [("image", TensorType("fp32", (1, 4, 8, 8)))]
    conv, split, concat = main.body.operations
    assert (conv.type, conv.name, conv.opset, conv.layer) == ("conv", "c_1", "ios16", "")
    assert conv.params("strides") == (2, 1)
    assert conv.input("x") is main.inputs[0]
    weight = conv.input("weight")
    assert weight is not None
    assert weight.const is not None
    assert weight.const.blob == Blob("@model_path/weights/weight.bin", 64)
    with pytest.raises(Unknown, match="weights, which are not read"):
        weight.const.values()
    assert split.name == ""
    assert [value.producer for value in split.outputs] == [split, split]
    assert concat.inputs["values"] == (split.outputs[1], split.outputs[0])
    assert concat.outputs[0].tensor.shape == (1, 8, None, 8)
    assert main.outputs == concat.outputs


def test_blanks_and_line_breaks_change_nothing() -> None:
    regular = body(
        'tensor<int32, [1]> a = const()[name = string("n"), val = tensor<int32, [1]>([3])];\n'
        'tensor<fp16, [1]> y = reduce_sum(axes = a, x = x)[name = string("r")];'
    )
    irregular = body(
        'tensor<int32,[1]> a=const()[name=string("n"),val=tensor<int32,[1]>([3])];'
        'tensor < fp16 ,\n [ 1 ] >  y\n=\nreduce_sum ( axes=a ,x = x ) [ name = string ( "r" ) ] ;'
    )
    for text in (regular, irregular):
        (operation,) = parse(text)[0].operations()
        assert (operation.type, operation.name, operation.params("axes")) == ("reduce_sum", "r", (3,))
        assert operation.outputs[0].type == TensorType("fp16", (1,))


def test_comments_and_bare_literals_keep_snippets_short() -> None:
    (function,) = parse(
        """
        # a whole-line comment
        func main<ios18>(tensor<fp16, [1, 4, 8, 8]> x) {
            // another; with a { brace
            tensor<fp16, [1, 4, 8, 8]> y = conv(x = x, strides = [1, 2], groups = -1, pad_type = "same", t = true,
                                                masks = [true, false], empty = [], e = fp16(0x1p-3)); # at the end
        } -> (y)"""
    )
    (operation,) = function.operations()
    assert operation.params("strides") == (1, 2)
    assert operation.param("groups") == -1
    assert operation.param("pad_type") == "same"
    assert operation.param("t") is True
    assert operation.params("masks") == (True, False)
    assert operation.param("e") == 0.125
    types = {name: str(bound[0].type) for name, bound in operation.inputs.items()}
    assert types == {
        "x": "fp16[1,4,8,8]",
        "strides": "int32[2]",
        "groups": "int32[]",
        "pad_type": "string[]",
        "t": "bool[]",
        "masks": "bool[2]",
        "empty": "int32[0]",
        "e": "fp16[]",
    }
    strides = operation.input("strides")
    assert strides is not None
    assert (strides.name, strides.producer) == ("y_strides", None)


@pytest.mark.parametrize(
    ("spelled", "values"),
    [
        ("int32(-7)", (-7,)),
        ("bool(false)", (False,)),
        ("tensor<bool, [1, 2]>([[true, false]])", (True, False)),
        ("fp16(0x1.f0a3d8p-1)", (float.fromhex("0x1.f0a3d8p-1"),)),
        ("fp32(-0x1.48p-1)", (-0.640625,)),
        ("fp32(0x1.388p+13)", (10000.0,)),
        ("fp32(-inf)", (-math.inf,)),
        ("fp64(0.0046742807655237523)", (0.0046742807655237523,)),
        ("tensor<fp32, [2, 2]>([[1, 2.5], [1e-3, .5]])", (1.0, 2.5, 0.001, 0.5)),
        ("tensor<int4, [3]>([-8, 7, 0])", (-8, 7, 0)),
        ("tensor<uint1, [2]>([0, 1])", (0, 1)),
        ("tensor<uint6, [1]>([63])", (63,)),
        ("tensor<bf16, [1]>([1])", (1.0,)),
        ("fp8e4m3fn(2)", (2.0,)),
        ("tensor<fp8e5m2, [0]>([])", ()),
        ("uint64(18446744073709551615)", (2**64 - 1,)),
        ('tensor<string, [2]>(["a, b", "[c]"])', ("a, b", "[c]")),
        (r'string("quote \" back \\ line \n tab \t \x41\u00e9 \q")', ('quote " back \\ line \n tab \t Aé q',)),
        ('string("not // a comment # here")', ("not // a comment # here",)),
        ("tensor<int32, [?]>([1, 2, 3])", (1, 2, 3)),
    ],
)
def test_literals(spelled: str, values: tuple[object, ...]) -> None:
    assert constant(spelled) == values


def test_not_a_number_is_a_number_literal() -> None:
    (value,) = constant("fp32(nan)")
    assert isinstance(value, float)
    assert math.isnan(value)


@pytest.mark.parametrize(
    ("spelled", "sentence"),
    [
        ("tensor<int32, [3]>([1, 2])", r"has 2 elements, its type int32\[3\] holds 3"),
        ("int32(1.5)", r"'1.5' is not of the type int32\[\]"),
        ("int32(true)", r"'true' is not of the type int32\[\]"),
        ('int32("x")', "is not of the type"),
        ("bool(7)", r"is not of the type bool\[\]"),
        ("fp32(0x1p99999)", "is not of the type"),
        ("list<int32, 2>([1, 2])", "a value of type list<int32, 2> is not a tensor"),
    ],
)
def test_a_literal_that_contradicts_its_type_is_unknown_not_wrong(spelled: str, sentence: str) -> None:
    with pytest.raises(Unknown, match=sentence):
        constant(spelled)


@pytest.mark.parametrize(
    ("spelled", "expected"),
    [
        ("tensor<fp16, []>", TensorType("fp16", ())),
        ("fp16", TensorType("fp16", ())),
        ("tensor<fp16, [1, ?, 3]>", TensorType("fp16", (1, None, 3))),
        ("tensor<fp16, ?>", TensorType("fp16", None)),
        ("state<tensor<fp16, [1, 2]>>", StateType(TensorType("fp16", (1, 2)))),
        (
            "tensor_buffer<fp16, shape=[1, 8], strides=[8, 1], interleave_factors=[1, 1]>",
            TensorType("fp16", (1, 8)),
        ),
        ("list<tensor<int32, [2]>, ?>", OtherType("list<tensor<int32, [2]>, ?>")),
        ("dict<string,\n int64>", OtherType("dict<string, int64>")),
        ("tuple<tensor<string, []>, dict<string, fp32>>", OtherType("tuple<tensor<string, []>, dict<string, fp32>>")),
    ],
)
def test_types(spelled: str, expected: object) -> None:
    function = parse(f"func main<ios18>({spelled} x, {spelled} other) {{ }} -> (x)")[0]
    assert function.inputs[0].type == expected
    assert function.inputs[0].type is function.inputs[1].type


def test_nested_blocks_of_a_loop_and_a_branch() -> None:
    function = parse(
        """
        func main<ios17>(tensor<int32, [1]> i, tensor<fp16, [1, 4]> x, bool p) {
            tensor<int32, [1]> n, tensor<fp16, [1, 4]> y = while_loop(loop_vars = (i, x))[name = string("loop")]
                condition(a, b) { bool more = less(x = a, y = int32(5)); } -> (more)
                body(tensor<int32, [1]> a, tensor<fp16, [1, 4]> b) {
                    tensor<int32, [1]> next = add(x = a, y = int32(1));
                    tensor<fp16, [1, 4]> x = relu(x = b);
                    tensor<fp16, [1, 4]> z = cond(pred = p) { } -> (x) { tensor<fp16, [1, 4]> t = sin(x = x); } -> (t);
                } -> (next, z);
            tensor<fp16, [1, 4]> last = mul(x = x, y = y);
        } -> (last)"""
    )[0]
    types = [operation.type for operation in function.operations()]
    assert types == ["while_loop", "less", "add", "relu", "cond", "sin", "mul"]
    loop, last = function.body.operations
    condition, loop_body = loop.blocks
    assert loop.name == "loop"
    assert [str(value.type) for value in condition.inputs] == ["int32[1]", "fp16[1,4]"]
    assert condition.outputs[0].producer is condition.operations[0]
    assert loop_body.operations[1].input("x") is loop_body.inputs[1]
    branch = loop_body.operations[2]
    assert branch.blocks[0].outputs == loop_body.operations[1].outputs  # the x of the loop's body, not the function's
    assert branch.input("pred") is function.inputs[2]
    assert last.input("x") is function.inputs[1]  # what the block hid is visible again


def test_names_of_a_block_end_with_it() -> None:
    with pytest.raises(ReadError, match="'t' is used but not defined"):
        parse(
            body(
                "tensor<fp16, [1]> y = cond(pred = true) { tensor<fp16, [1]> t = sin(x = x); } -> (t) { } -> (x)\n"
                "tensor<fp16, [1]> q = sin(x = t);"
            )
        )


def test_states_and_statements_without_a_result() -> None:
    model = parse_model(
        body(
            "tensor<fp16, [1, 4]> old = read_state(input = kv);\n"
            "tensor<fp16, [1, 4]> y = add(x = old, y = x);\n"
            'write_state(data = y, input = kv)[name = string("w")];',
            "tensor<fp16, [1, 4]> x, state<tensor<fp16, [1, 4]>> kv",
        )
    )
    assert [operation.type for operation in model.operations()] == ["read_state", "add", "write_state"]
    write = list(model.operations())[2]
    assert (write.outputs, write.name) == ((), "w")
    assert [(state.name, state.kind, state.dtype, state.shape) for state in model.states] == [
        ("kv", "state", "fp16", (1, 4))
    ]
    assert [feature.name for feature in model.inputs] == ["x"]


def test_constexpr_in_both_forms() -> None:
    blob = 'BLOBFILE(path = string("@model_path/w.bin"), offset = uint64({}))'
    model = parse_model(
        body(
            "tensor<fp16, [4, 4]> a = constexpr_lut_to_dense()[indices = tensor<uint8, [4]>("
            + blob.format(64)
            + '), lut = tensor<fp16, [4]>([0, 1, 2, 3]), name = string("a"), shape = tensor<uint32, [2]>([4, 4])];\n'
            "tensor<fp16, [4, 4]> b = constexpr_blockwise_shift_scale(data = tensor<int4, [4, 4]>("
            + blob.format(128)
            + '), scale = tensor<fp16, [4, 1]>([1, 1, 1, 1]))[name = string("b")];\n'
            "tensor<fp16, [4, 4]> y = matmul(x = a, y = b);"
        )
    )
    old, new, matmul = model.functions[0].body.operations
    assert (old.name, new.name) == ("a", "b")
    assert list(old.inputs) == ["indices", "lut", "shape"]
    assert old.params("lut") == (0, 1, 2, 3)
    assert old.params("shape") == (4, 4)
    data = new.input("data")
    assert data is not None
    assert data.const is not None
    assert (str(data.type), data.const.blob) == ("int4[4,4]", Blob("@model_path/w.bin", 128))
    assert (old.index, new.index, matmul.index) == (-1, -1, 0)
    assert model.histogram() == {"constexpr_lut_to_dense": 1, "constexpr_blockwise_shift_scale": 1, "matmul": 1}


def test_an_operation_may_name_its_own_opset() -> None:
    function = parse(body("tensor<fp16, [1, 4, 8, 8]> y = tensor_buffer_to_tensor<ios18>(input = x);"))[0]
    assert next(function.operations()).opset == "ios18"


@pytest.mark.parametrize(
    ("written", "opset", "spec"), [("CoreML8", "ios18", 9), ("ios15", "ios15", 6), ("new1", "new1", 0)]
)
def test_opset_and_specification_version(written: str, opset: str, spec: int) -> None:
    model = parse_model(f"program(1) {{ func main<{written}>(fp16 x) {{ }} -> (x) }}", "loose.mil")
    assert model.functions[0].opset == opset
    assert (model.path, model.format, model.kind, model.spec_version) == ("loose.mil", "mil", "mlProgram", spec)


def test_several_functions_have_their_own_names() -> None:
    model = parse_model(
        """program(1.3) {
            func prefill<ios18>(tensor<fp16, [1, 64]> x) { tensor<fp16, [1, 64]> y = relu(x = x); } -> (y);
            func main<ios18>(tensor<fp16, [1, 1]> x) { tensor<fp16, [1, 1]> y = relu(x = x); } -> (y);
        }"""
    )
    assert [function.name for function in model.functions] == ["prefill", "main"]
    assert model.default_function == "main"
    assert model.inputs[0].shape == (1, 1)
    assert [operation.index for operation in model.operations()] == [0, 1]


def test_flexible_shapes_become_features() -> None:
    model = parse_model(
        """func main<ios17>(tensor<fp32, [?, ?]> sound, tensor<fp32, [1, ?]> steps)
        [FlexibleShapeInformation = tuple<tuple<string, dict<string, tensor<int32, [?]>>>, tuple<string, dict<string,
        list<tensor<int32, [2]>, ?>>>>((("DefaultShapes", {{"sound", [1, 16]}, {"steps", [1, 2]}}),
        ("RangeDims", {{"sound", [[1, 1], [1, -1]]}}), ("EnumeratedShapes", {{"steps", [[1, 2], [1, 4]]}})))]
        { } -> (sound)"""
    )
    sound, steps = model.inputs
    assert (sound.shape, sound.ranges, sound.choices) == ((1, 16), ((1, 1), (1, None)), ())
    assert (steps.shape, steps.ranges, steps.choices) == ((1, 2), (), ((1, 2), (1, 4)))
    assert sound.is_flexible
    assert steps.is_flexible
    assert model.outputs[0].shape is None


def test_operation_attributes_are_kept_when_asked() -> None:
    text = body('tensor<fp16, [1]> y = relu(x = x)[Cost = dict<string, fp64>({{"ane", 0.5}}), name = string("r")];')
    (pair,) = parse_program(text, keep_attributes=True).operation_attributes
    assert pair[0].name == "r"
    assert pair[1] == {"Cost": {"ane": 0.5}, "name": "r"}
    assert parse_program(text).operation_attributes == ()


GOOD = "tensor<fp16, [1]> y = relu(x = x);"


@pytest.mark.parametrize(
    ("text", "place", "sentence"),
    [
        ("", "1:1", "expected 'program' or 'func', found the end of the text"),
        ("# only a comment", "1:17", "expected 'program' or 'func', found the end of the text"),
        ("version https://git-lfs", "1:1", "expected 'program' or 'func', found 'version'"),
        ("\x00\x01", "1:1", r"expected 'program' or 'func', found '\\x00'"),
        ("program(x)", "1:9", "expected the program's version"),
        ("program(1.3) { }", "1:17", "the program has no function"),
        ("program(1.3) { func main<ios18>() { } -> () } more", "1:47", "expected the end of the text .*found 'more'"),
        ("program(1.3) { func main<ios18>() { } -> ()", "1:44", "expected 'func', found the end of the text"),
        ("func main(fp16 x) { } -> (x)", "1:10", "expected '<' and the opset, found '\\('"),
        ("func main<ios18>(fp16 x { } -> (x)", "1:25", "expected ',' or '\\)', found '{'"),
        ("func main<ios18>(x) { } -> (x)", "1:18", "expected a type, found 'x'"),
        ("func main<ios18>(fp61 x) { } -> (x)", "1:18", "expected a type, found 'fp61'"),
        ("func main<ios18>(tensor<fp61, [1]> x) { } -> (x)", "1:25", "expected an element type .*found 'fp61'"),
        ("func main<ios18>(tensor<fp16, [1 2]> x) { } -> (x)", "1:34", r"expected ',' or '\]', found '2'"),
        ("func main<ios18>(tensor<fp16, [-1]> x) { } -> (x)", "1:32", "expected a dimension .*found '-1'"),
        (f"func main<ios18>(tensor<fp16, [{'9' * 5000}]> x) {{ }} -> (x)", "1:32", "expected a dimension"),
        (
            "func main<ios18>(state<string> x, state<list<fp16, 1>> y) { } -> (x)",
            "1:35",
            "expected a tensor in a state",
        ),
        ("func main<ios18>(fp16 x, fp16 x) { } -> (x)", "1:31", "the name 'x' is defined twice"),
        ("func main<ios18>(fp16 x) { } -> (y)", "1:34", "the name 'y' is used but not defined"),
        ("func main<ios18>(fp16 x) { } (x)", "1:30", "expected '->'"),
        ("func a<ios18>() { } -> () func a<ios18>() { } -> ()", "1:27", "the function 'a' is defined twice"),
        (body(GOOD[:-1]), "3:1", "expected ';' or a block after the statement, found '}'"),
        (
            body(GOOD).removesuffix(" -> (y);"),
            "3:2",
            "expected '->' and the block's outputs, found the end of the text",
        ),
        (body(GOOD).removesuffix("\n} -> (y);"), "2:35", "expected a statement or '}', found the end of the text"),
        (body("tensor<fp16, [1]> y = relu(x = x"), "3:1", r"expected ',' or '\)', found '}'"),
        (body("tensor<fp16, [1]> y = relu(x = z);"), "2:32", "the name 'z' is used but not defined"),
        (body("tensor<fp16, [1]> y = relu(x = y);"), "2:32", "the name 'y' is used but not defined"),
        (body(GOOD + GOOD), "2:53", "the name 'y' is defined twice"),
        (body("tensor<fp16, [1]> y, tensor<fp16, [1]> y = split(x = x);"), "2:40", "the name 'y' is defined twice"),
        (body("tensor<fp16, [1]> y = relu(x = x, x = x);"), "2:35", "the argument 'x' is given twice"),
        (body("tensor<fp16, [1]> y = relu(x = x)[a = int32(1), a = int32(1)];"), "2:49", "'a' is given twice"),
        (body("tensor<fp16, [1]> y = relu(x = fp16(1);"), "2:39", r"expected ',' or '\)', found ';'"),
        (body("tensor<fp16, [1]> y = relu(x = fp16([1, 2));"), "2:42", r"expected ',' or '\]', found '\)'"),
        (body("tensor<fp16, [1]> y = relu(x = fp16([1]]));"), "2:40", r"expected '\)' after the literal, found '\]'"),
        (body("tensor<fp16, [1]> y = relu(x = fp16());"), "2:37", r"expected a literal, found '\)'"),
        (body("tensor<fp16, [1]> y = relu(x = fp16([1,, 2]));"), "2:40", "expected a literal, found ','"),
        (
            body('tensor<fp16, [1]> y = relu(x = string("open));'),
            "2:39",
            "expected a literal, found a string that does",
        ),
        (body("tensor<fp16, [1]> y = relu(x = 0.5);"), "2:32", r"needs its type, as in fp16\(0.5\)"),
        (body('tensor<fp16, [1]> y = relu(x = fp16(BLOBFILE(path = string("w"))));'), "2:37", "expected BLOBFILE"),
        (
            body('tensor<fp16, [1]> y = const()[name = string("y")];'),
            "2:50",
            "a const has one result and the attribute",
        ),
        (body("tensor<fp16, [1]> y = ;"), "2:23", "expected an operation, found ';'"),
        (body("= relu(x = x);"), "2:1", "expected a type, found '='"),
        (body("%y = relu(x = x);"), "2:1", "expected a type, found '%'"),
        (
            body("bool y = while_loop(loop_vars = (x)) a(p, q) { } -> (p) b(p, q) { } -> (p, q);"),
            "2:43",
            "the block's input 'q' has no type",
        ),
    ],
)
def test_errors_say_where_and_what_was_expected(text: str, place: str, sentence: str) -> None:
    with pytest.raises(ReadError, match=sentence) as caught:
        parse(text, path="some.mil")
    assert caught.value.place == f"some.mil:{place}"


@pytest.mark.parametrize(
    "nested",
    [
        "tensor<fp16, [1]> y = relu(x = fp16(" + "[" * 5000 + "));",
        "tensor<fp16, [1]> y = relu(x = fp16(" + "{(" * 5000 + "));",
        "list<" * 5000 + " y = relu(x = x);",
        "state<" * 5000 + " y = relu(x = x);",
        "tensor<fp16, [1]> y = relu(x = " + "int32(" * 5000 + ");",
        "bool y = cond(pred = x) { " * 5000,
    ],
)
def test_depth_is_bounded(nested: str) -> None:
    with pytest.raises(ReadError):
        parse(body(nested))


def test_nesting_too_deep_says_so() -> None:
    with pytest.raises(ReadError, match="blocks are nested more than 60 deep"):
        parse(body("bool y = cond(pred = x) { " * 100))


def test_garbage_collection_is_on_again_after_an_error() -> None:
    assert gc.isenabled()
    with pytest.raises(ReadError):
        parse("func")
    assert gc.isenabled()


def snake(histogram_key: str) -> str:
    """ "Ios16.reduceArgmax" as the text spells it, without underscores: their places are lost ("range1d")."""
    return histogram_key.split(".")[-1].lower()


def flat(model: Model) -> dict[str, int]:
    return {kind.replace("_", ""): count for kind, count in model.histogram().items()}


def texts(shared: Path) -> list[Path]:
    return sorted((shared / "models").rglob("*.mil"))


def test_every_real_text_is_read(shared: Path) -> None:
    found = texts(shared)
    assert len(found) >= 20
    for path in found:
        model = parse_model(path.read_text(encoding="utf-8"), str(path))
        operations = list(model.operations())
        assert operations
        for operation in operations:
            for bound in operation.inputs.values():
                for value in bound:
                    if value.const is not None and value.const.blob is None:
                        value.const.values()  # no literal contradicts its type


def test_core_ml_counts_the_same_operations(shared: Path) -> None:
    """``mlProgramOperationTypeHistogram`` is Core ML's own count, const excluded."""
    checked = 0
    for path in texts(shared):
        metadata = path.with_name("metadata.json")
        if not metadata.is_file():
            continue
        expected = json.loads(metadata.read_text(encoding="utf-8"))[0]["mlProgramOperationTypeHistogram"]
        model = parse_model(path.read_text(encoding="utf-8"), str(path))
        assert flat(model) == {snake(key): count for key, count in expected.items()}, path
        checked += 1
    assert checked >= 9


def test_the_fast_path_and_the_full_parser_agree(shared: Path) -> None:
    """A comment before every statement keeps the regular expressions out; the graph must be the same."""

    def described(text: str) -> list[object]:
        return [
            (
                operation.type,
                operation.name,
                [(value.name, str(value.type)) for value in operation.outputs],
                [
                    (argument, [(value.name, str(value.type), known(value.const)) for value in bound])
                    for argument, bound in operation.inputs.items()
                ],
            )
            for function in parse(text)
            for operation in function.body.walk()
        ]

    def known(const: object) -> object:
        blob = getattr(const, "blob", None)
        return None if const is None else blob or const.values()  # type: ignore[attr-defined]

    for path in texts(shared)[::3]:
        text = path.read_text(encoding="utf-8")
        slow = text.replace(";\n", ";\n// a comment\n").replace(" = ", "\t= ")
        assert described(slow) == described(text), path

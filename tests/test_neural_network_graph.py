"""Whole networks: inputs and layouts, constants and the numbers followed through them, branches and loops, outputs,
host work - and files that are damaged."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import text_format

from anecompat import proto
from anecompat.ir import Operation, Unknown
from neural_networks import RGB, Dims, describe, lower_layer, lowered, network, shapes


def run(*layers: str, inputs: dict[str, Dims], outputs: tuple[str, ...] = (), blob: bool = False) -> list[Operation]:
    function, _, warnings = lowered(network(*layers, blob=blob), describe(inputs, outputs))
    assert warnings == ()
    return list(function.body.operations)


# --- layouts


@pytest.mark.parametrize(
    ("declared", "shown"),
    [
        ((7,), (1, 7, 1, 1)),
        ((3, 20, 30), (1, 3, 20, 30)),
        ((5, 1, 3, 20, 30), (5, 3, 20, 30)),
        ((1, 4, 3, 20, 30), (4, 3, 20, 30)),
        ((5, 4, 3, 20, 30), (None, 3, 20, 30)),
    ],
)
def test_rank5_mapping_shows_blobs(declared: Dims, shown: Dims) -> None:
    _, function, warnings = lower_layer("activation { ReLU {} }", [declared], blob=True)
    assert function.layout == "blob"
    assert (function.inputs[0].tensor.shape, function.outputs[0].tensor.shape) == (shown, shown)
    assert warnings == ()


@pytest.mark.parametrize("declared", [(2, 3), (1, 2, 3, 4), ()])
def test_a_rank_that_the_mapping_has_no_place_for_is_unknown(declared: Dims) -> None:
    operation, _, warnings = lower_layer("activation { ReLU {} }", [declared], blob=True)
    assert shapes(operation) == [None]
    assert warnings == (
        f"input 'x0': its shape is unknown: an array of rank {len(declared)} has no place among sequence, batch, "
        "channels, height and width.",
    )


def test_exact_mapping_keeps_every_axis() -> None:
    operation, function, _ = lower_layer("activation { ReLU {} }", [(2, 3, 4, 5, 6)])
    assert function.layout == "mil"
    assert shapes(operation) == [(2, 3, 4, 5, 6)]
    assert (function.name, function.opset) == ("main", "")


@pytest.mark.parametrize(
    ("array", "image", "layout", "shown"),
    [
        (0, 0, "blob", (1, 3, 40, 50)),
        (1, 0, "blob", (1, 3, 40, 50)),  # no array among the inputs: their mapping says nothing
        (1, 1, "mil", (1, 3, 40, 50)),
    ],
)
def test_images_have_a_mapping_of_their_own(array: int, image: int, layout: str, shown: Dims) -> None:
    message = network("x -> y: activation { ReLU {} }")
    message.arrayInputShapeMapping, message.imageInputShapeMapping = array, image
    function, _, _ = lowered(message, describe({"x": (40, 50)}, ["y"], images=["x"]))
    assert (function.layout, function.outputs[0].tensor.shape) == (layout, shown)


def test_an_image_of_rank5_beside_an_exact_array_has_five_axes() -> None:
    message = network("x -> y: activation { ReLU {} }", "a -> b: activation { ReLU {} }")
    message.imageInputShapeMapping = 0
    function, _, _ = lowered(message, describe({"x": (40, 50), "a": (2, 3)}, ["y", "b"], images=["x"]))
    assert function.layout == "mil"
    assert [value.tensor.shape for value in function.outputs] == [(1, 1, 3, 40, 50), (2, 3)]


@pytest.mark.parametrize(("color", "channels"), [(10, 1), (20, 3), (30, 3), (40, 1), (0, None)])
def test_channels_of_an_image_follow_its_color_space(color: int, channels: int | None) -> None:
    description = describe({"x": (4, 5)}, ["y"], images=["x"])
    description.input[0].type.imageType.colorSpace = color
    function, _, _ = lowered(network("x -> y: activation { ReLU {} }", blob=True), description)
    assert function.outputs[0].tensor.shape == (1, channels, 4, 5)


def test_flexible_inputs_have_their_default_shape() -> None:
    array = "type { multiArrayType { shape: [1, 3, 8, 8] enumeratedShapes { shapes { shape: [1, 3, 4, 4] } } } }"
    first = (
        "type { multiArrayType { enumeratedShapes { shapes { shape: [1, 3, 4, 4] } shapes { shape: [1, 3, 6, 6] } } } }"
    )
    ranged = "type { multiArrayType { shapeRange { sizeRanges { lowerBound: 1 upperBound: -1 } } } }"
    image = "type { imageType { width: 6 height: 5 colorSpace: RGB imageSizeRange { widthRange { upperBound: -1 } } } }"
    sizes = "type { imageType { colorSpace: RGB enumeratedSizes { sizes { width: 6 height: 5 } } } }"
    found = []
    for text in (array, first, ranged, image, sizes):
        description = proto.ModelDescription()
        text_format.Parse(f"name: 'x' {text}", description.input.add())
        function, _, _ = lowered(network("x -> y: copy {}"), description)
        found.append(function.body.operations[0].outputs[0].tensor.shape)
    assert found == [(1, 3, 8, 8), (1, 3, 4, 4), None, (1, 3, 5, 6), (1, 3, 5, 6)]


def test_sequences_in_blobs() -> None:
    """A sequence of 75 points through convolutions and both directions of time, as gesture recognizers have it."""
    operations = run(
        "x -> a: reshape { targetShape: [75, 3, 1, 1] }",
        "a -> b: permute { axis: [3, 1, 2, 0] }",
        "b -> c: convolution { outputChannels: 8 kernelChannels: 3 kernelSize: [1, 5] same {} }",
        "c -> d: permute { axis: [3, 1, 2, 0] }",
        "d h c0 hb cb -> e h1 c1 h2 c2: biDirectionalLSTM { inputVectorSize: 8 outputVectorSize: 4 params {"
        " sequenceOutput: true } }",
        "e -> f: sequenceRepeat { nRepetitions: 2 }",
        "e f -> g: concat { sequenceConcat: true }",
        inputs={"x": (225,), "h": (4,), "c0": (4,), "hb": (4,), "cb": (4,)},
        blob=True,
    )
    assert [shapes(operation)[0] for operation in operations] == [
        (75, 3, 1, 1), (1, 3, 1, 75), (1, 8, 1, 75), (75, 8, 1, 1), (75, 8, 1, 1), (150, 8, 1, 1), (225, 8, 1, 1),
    ]  # fmt: skip
    assert shapes(operations[4])[1:] == [(1, 4, 1, 1)] * 4
    assert operations[1].params("perm") == (3, 1, 2, 0)
    assert operations[5].params("reps") == (2, 1, 1, 1)
    assert operations[6].param("axis") == 0
    assert operations[0].params("shape") == (75, 3, 1, 1)


# --- constants and numbers


def constant(name: str, dims: str, values: str = "") -> str:
    return f"-> {name}: loadConstantND {{ shape: {dims} data {{ {values} }} }}"


def test_a_constant_is_a_value_and_no_operation() -> None:
    operations = run(
        "-> w: loadConstant { shape: [3, 1, 1] }", "x w -> y: multiply {}", inputs={"x": (3, 5, 6)}, blob=True
    )
    (operation,) = operations
    bound = operation.input("y")
    assert bound is not None
    assert (bound.name, bound.tensor.shape, bound.producer) == ("w", (1, 3, 1, 1), None)
    assert bound.const is not None
    with pytest.raises(Unknown):
        bound.const.values()


def test_small_constants_keep_their_numbers() -> None:
    for values in ("floatValue: [2, 3]", "float16Value: '\\x00\\x40\\x00\\x42'"):
        (operation,) = run(constant("w", "2", values), "x w -> y: addBroadcastable {}", inputs={"x": (2,)})
        bound = operation.input("y")
        assert bound is not None
        assert bound.const is not None
        assert bound.const.values() == (2.0, 3.0)


def test_a_payload_left_out_is_not_zero() -> None:
    """Reading drops large payloads: a constant with fewer numbers than its shape has none that can be used."""
    operations = run(constant("s", "[2]", "floatValue: 2"), "x s -> y: reshapeDynamic {}", inputs={"x": (6,)})
    assert shapes(operations[0]) == [(None, None)]


def test_shapes_computed_from_shapes_are_known() -> None:
    """What coremltools makes of ``x.view(x.shape[0], -1, 2 * heads)``."""
    operations = run(
        "x -> s: getShape {}",
        "s -> batch: sliceStatic { beginIds: 0 endIds: 1 beginMasks: false endMasks: false strides: 1 }",
        constant("heads", "[1]", "floatValue: 3"),
        "heads -> twice: multiply { alpha: 2 }",
        constant("minus", "[1]", "floatValue: -1"),
        "batch minus twice -> target: concatND { axis: 0 }",
        "x target -> y: reshapeDynamic {}",
        "s -> count: reduceProd { axes: 0 }",
        constant("at", "[2]", "floatValue: [2, 0]"),
        "s at -> picked: gather { axis: 0 }",
        "picked -> z: fillDynamic { value: 1 }",
        "count -> r: rangeDynamic { stepSizeValue: 1 }",
        "s minus -> ceiling: maxBroadcastable {}",
        "ceiling -> t: randomUniformDynamic {}",
        inputs={"x": (2, 4, 9)},
    )
    found = {operation.outputs[0].name: shapes(operation)[0] for operation in operations}
    assert found["y"] == (2, 6, 6)
    assert found["z"] == (9, 2)
    assert found["r"] == (72,)
    assert found["t"] == (2, 4, 9)


@pytest.mark.parametrize(
    ("params", "inputs", "expected"),
    [
        ("tile {}", (2, 3), (4, 9)),
        ("topK { axis: 1 }", (5, 9), None),
        ("broadcastToDynamic {}", (1, 1), (2, 3)),
        ("constantPad {}", (5,), (10,)),
        ("sliceDynamic { endIds: [4, 4] strides: [1, 1] }", (5, 6), (2, 1)),
    ],
)
def test_numbers_of_constants_decide_shapes(params: str, inputs: Dims, expected: Dims | None) -> None:
    message = network(constant("n", "[2]", "floatValue: [2, 3]"), f"x n -> y: {params}")
    function, _, _ = lowered(message, describe({"x": inputs}))
    assert shapes(function.body.operations[0])[0] == (expected or (5, None))


# --- control flow


def nested(*lines: str) -> str:
    return " ".join(f"layers {{ {text_format.MessageToString(layer)} }}" for layer in network(*lines).layers)


def test_a_branch_is_a_cond_with_two_blocks() -> None:
    inner = nested("x -> a: pooling { type: AVERAGE globalPooling: true }", "a -> y: copy {}")
    other = nested("x -> b: activation { ReLU {} }", "b -> y: copy {}", "b -> unused: copy {}")
    operations = run(
        "x -> p: reduceSum { reduceAll: true }",
        f"p -> : branch {{ ifBranch {{ {inner} }} elseBranch {{ {other} }} }}",
        "y -> z: activation { sigmoid {} }",
        inputs={"x": (2, 3, 4, 5)},
        outputs=("z",),
    )
    cond = operations[1]
    assert (cond.type, cond.layer) == ("cond", "branch")
    assert [value.name for value in cond.outputs] == ["y"]
    assert shapes(cond) == [(2, 3, None, None)]  # (2, 3, 1, 1) or (2, 3, 4, 5)
    assert cond.inputs["pred"] == operations[0].outputs
    assert [[op.type for op in block.operations] for block in cond.blocks] == [
        ["avg_pool", "identity"], ["relu", "identity", "identity"],
    ]  # fmt: skip
    assert [block.outputs for block in cond.blocks] == [
        cond.blocks[0].operations[1].outputs, cond.blocks[1].operations[1].outputs,
    ]  # fmt: skip
    assert operations[2].input("x") is cond.outputs[0]
    assert shapes(operations[2]) == [(2, 3, None, None)]


def test_a_branch_without_else_keeps_what_was_there() -> None:
    inner = nested("x -> a: activation { ReLU {} }", "a -> y: copy {}")
    operations = run(
        "x -> y: activation { tanh {} }",
        f"x -> : branch {{ ifBranch {{ {inner} }} }}",
        "y -> z: copy {}",
        inputs={"x": (3,)},
    )
    cond = operations[1]
    assert shapes(cond) == [(3,)]
    assert cond.blocks[1].operations == ()
    assert cond.blocks[1].outputs == operations[0].outputs
    assert operations[2].input("x") is cond.outputs[0]


COUNT = nested("i -> c: lessThan { alpha: 10 }")
STEP = nested(
    "i -> next: add { alpha: 1 }", "next -> i: copy {}", "s -> s2: activation { ReLU {} }", "s2 -> s: copy {}"
)


def test_a_loop_is_a_while_loop_over_what_it_writes_again() -> None:
    operations = run(
        "a -> i: copy {}",
        "b -> s: copy {}",
        f"-> : loop {{ conditionVar: 'c' conditionNetwork {{ {COUNT} }} bodyNetwork {{ {STEP} }} }}",
        "s -> y: activation { tanh {} }",
        inputs={"a": (1,), "b": (4, 5)},
        outputs=("y",),
    )
    loop = operations[2]
    assert (loop.type, loop.layer) == ("while_loop", "loop")
    assert loop.inputs["loop_vars"] == (*operations[0].outputs, *operations[1].outputs)
    assert [value.name for value in loop.outputs] == ["i", "s"]
    assert shapes(loop) == [(1,), (4, 5)]
    condition, body = loop.blocks
    assert [op.type for op in condition.operations] == ["less"]
    assert [value.name for value in condition.outputs] == ["c"]
    assert condition.operations[0].input("x") is condition.inputs[0]
    assert body.operations[2].input("x") is body.inputs[1]
    assert body.outputs == (body.operations[1].outputs[0], body.operations[3].outputs[0])
    assert operations[3].input("x") is loop.outputs[1]
    assert shapes(operations[3]) == [(4, 5)]


def test_a_shape_that_grows_from_turn_to_turn_is_unknown() -> None:
    body = nested("s x -> longer: concatND { axis: 0 }", "longer -> s: copy {}")
    operations = run(
        "x -> s: copy {}",
        f"-> : loop {{ maxLoopIterations: 5 bodyNetwork {{ {body} }} }}",
        "s -> y: copy {}",
        inputs={"x": (1, 7)},
    )
    loop = operations[1]
    assert loop.param("max_iterations") == 5
    assert loop.blocks[0].operations == ()
    assert shapes(loop) == [None]
    assert shapes(operations[2]) == [None]


def test_a_loop_may_take_its_count_and_be_left() -> None:
    body = nested("-> : loopContinue {}", "-> : loopBreak {}")
    operations = run("n -> : loop { bodyNetwork { " + body + " } }", inputs={"n": (1,)})
    assert [op.type for op in operations[0].blocks[1].operations] == ["loop_continue", "loop_break"]
    assert operations[0].inputs["max_iterations"][0].name == "n"


def test_what_a_branch_changes_reaches_the_next_turn() -> None:
    change = nested("s -> t: add { alpha: 1 }", "t -> s: copy {}")
    body = nested(f"s -> : branch {{ ifBranch {{ {change} }} }}")
    operations = run(
        "x -> s: copy {}", f"-> : loop {{ maxLoopIterations: 5 bodyNetwork {{ {body} }} }}", inputs={"x": (3,)}
    )
    loop = operations[1]
    (cond,) = loop.blocks[1].operations
    assert [value.name for value in cond.outputs] == ["s"]
    assert loop.blocks[1].outputs == cond.outputs
    assert loop.inputs["loop_vars"] == operations[0].outputs


def test_deeply_nested_loops_take_no_more_than_their_size() -> None:
    """Each loop changes a shape, so each would be lowered twice, and the innermost 2 ** 20 times."""
    body = nested("s s -> t: concatND { axis: 0 }", "t -> s: copy {}")
    for _ in range(20):
        loop = f"-> : loop {{ maxLoopIterations: 5 bodyNetwork {{ {body} }} }}"
        body = nested(loop, "s s -> t: concatND { axis: 0 }", "t -> s: copy {}")
    message = network("x -> s: copy {}", *[f"-> : loop {{ bodyNetwork {{ {body} }} }}"], "s -> y: copy {}")
    function, _, _ = lowered(message, describe({"x": (3, 4)}, ["y"]))
    assert function.outputs[0].tensor.shape is None
    assert len(list(function.body.walk())) == 65


# --- outputs and host work


def classifier(text: str = "", *outputs: str) -> tuple[Any, Any]:
    message = network("x -> a: innerProduct { inputChannels: 4 outputChannels: 3 }", "a -> p: softmax {}",
                      blob=True, kind="NeuralNetworkClassifier")  # fmt: skip
    text_format.Merge(text, message)
    description = describe({"x": (4,)}, outputs)
    description.predictedFeatureName = "label"
    description.predictedProbabilitiesName = "probabilities"
    return message, description


@pytest.mark.parametrize(
    ("text", "outputs", "expected"),
    [
        ("labelProbabilityLayerName: 'p'", ("probabilities", "label"), ["p"]),
        ("labelProbabilityLayerName: 'a'", ("label", "probabilities"), ["a"]),
        ("", ("probabilities", "label"), ["p"]),  # the last layer's, where the file names none
        ("labelProbabilityLayerName: 'p'", ("probabilities", "label", "a"), ["p", "a"]),
    ],
)
def test_a_classifiers_outputs_are_the_probabilities_it_is_made_of(
    text: str, outputs: tuple[str, ...], expected: list[str]
) -> None:
    function, _, _ = lowered(*classifier(text, *outputs), kind="neuralNetworkClassifier")
    assert [value.name for value in function.outputs] == expected


def test_the_label_lookup_is_host_work_that_makes_a_model_partial() -> None:
    for text, detail in [
        (
            "stringClassLabels { vector: ['a', 'b', 'c'] }",
            "the most likely of 3 labels is picked from the probabilities",
        ),
        ("int64ClassLabels { vector: [0, 1] }", "the most likely of 2 labels is picked from the probabilities"),
        ("", "the most likely label is picked from the probabilities"),
    ]:
        _, work, _ = lowered(*classifier(text, "probabilities", "label"), kind="neuralNetworkClassifier")
        assert [(item.kind, item.detail, item.partial) for item in work] == [("label lookup", detail, True)]


def test_a_regressor_has_no_host_work() -> None:
    message = network("x -> y: innerProduct { inputChannels: 4 outputChannels: 1 }", kind="NeuralNetworkRegressor")
    function, work, _ = lowered(message, describe({"x": (4,)}, ["y"]), kind="neuralNetworkRegressor")
    assert work == ()
    assert function.outputs[0].tensor.shape == (1,)


def test_image_preprocessing_is_host_work_that_changes_nothing() -> None:
    message = network("x -> y: activation { ReLU {} }", blob=True)
    text_format.Merge(
        "preprocessing { featureName: 'x' scaler { channelScale: 0.5 redBias: -1 } } preprocessing { meanImage {} }",
        message,
    )
    _, work, _ = lowered(message, describe({"x": (4, 5)}, ["y"], images=["x"]))
    assert [(item.kind, item.detail, item.partial) for item in work] == [
        ("image preprocessing", "image 'x': scale 0.5, bias red -1, green 0, blue 0, gray 0", False),
        ("image preprocessing", "the image: a mean image is subtracted", False),
    ]


def test_an_image_output_tells_the_shape_that_a_custom_layer_hides() -> None:
    message = network("x -> a: custom { className: 'Mine' }", "a -> y: custom { className: 'Mine' }", blob=True)
    description = describe({"x": (4, 5)}, ["y"], images=["x"])
    image = description.output[0].type.imageType
    image.width, image.height, image.colorSpace = 7, 6, RGB
    function, _, warnings = lowered(message, description)
    assert [shapes(operation) for operation in function.body.operations] == [[None], [(1, 3, 6, 7)]]
    assert len(warnings) == 2


def test_shapes_that_the_file_declares_fill_what_no_rule_tells() -> None:
    message = network("x -> a: custom { className: 'Mine' }", "a -> y: activation { ReLU {} }")
    message.layers[0].outputTensor.add(rank=3, dimValue=[4, -1, 6])
    function, _, warnings = lowered(message, describe({"x": (4, 5)}, ["y"]))
    assert [shapes(operation) for operation in function.body.operations] == [[(4, None, 6)], [(4, None, 6)]]
    assert len(warnings) == 1


def test_a_declared_shape_that_contradicts_the_rule_is_told() -> None:
    message = network("x -> y: activation { ReLU {} }")
    message.layers[0].outputTensor.add(rank=2, dimValue=[4, 7])
    function, _, warnings = lowered(message, describe({"x": (4, 5)}, ["y"]))
    assert function.outputs[0].tensor.shape == (4, 5)
    assert warnings == ("layer 0 'l0' (activation): the file declares an output of (4, 7), its kind gives (4, 5).",)

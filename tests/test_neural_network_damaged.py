"""Networks that no converter writes: each ends in one clear error, or in an unknown shape with its reason."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import DecodeError, EncodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anecompat import proto
from anecompat.errors import ReadError
from anecompat.shapes import LARGEST_DIMENSION, LARGEST_RANK
from neural_networks import Dims, describe, lower_layer, lowered, network, shapes
from test_neural_network_layers import CASES, COMPUTED

X = (2, 6, 8, 10)
CONV = "convolution { outputChannels: 4 kernelChannels: 6"
HUGE = 1 << 62
AGAIN = "; the network is damaged, export it again"
NOTHING = "which is neither an input of the model nor the output of an earlier layer" + AGAIN
TWICE = "which an earlier layer or an input of the model has written already" + AGAIN


@pytest.mark.parametrize(
    ("lines", "outputs", "message"),
    [
        (["q -> y: copy {}"], ["y"],
         "layer 0 'l0' (copy): it reads 'q', " + NOTHING),
        (["y -> z: copy {}", "x -> y: copy {}"], ["z"],
         "layer 0 'l0' (copy): it reads 'y', " + NOTHING),
        (["a -> b: exp2 {}", "b -> a: exp2 {}"], ["a"],
         "layer 0 'l0' (exp2): it reads 'a', " + NOTHING),
        (["x -> y: exp2 {}", "x -> y: ceil {}"], ["y"],
         "layer 1 'l1' (ceil): it writes 'y', " + TWICE),
        (["x -> x: ceil {}"], ["x"],
         "layer 0 'l0' (ceil): it writes 'x', " + TWICE),
        (["x -> y: copy {}"], ["y", "z"],
         "description: the output 'z' is written by no layer; the network is damaged, export it again"),
        (["-> y: ceil {}"], ["y"],
         "layer 0 'l0' (ceil): its input 1 is missing; the network is damaged, export it again"),
        (["x -> y: gather {}"], ["y"],
         "layer 0 'l0' (gather): its input 2 is missing; the network is damaged, export it again"),
    ],
)  # fmt: skip
def test_references_to_nothing_and_writing_twice_are_errors(lines: list[str], outputs: list[str], message: str) -> None:
    with pytest.raises(ReadError) as error:
        lowered(network(*lines), describe({"x": X}, outputs))
    assert str(error.value) == message


def test_two_inputs_of_one_name_are_an_error() -> None:
    description = describe({"x": X}, ["y"])
    description.input.append(description.input[0])
    with pytest.raises(ReadError, match="two inputs are named 'x'"):
        lowered(network("x -> y: copy {}"), description)


def test_a_layer_of_no_known_kind_is_named() -> None:
    message = network("x -> y: copy {}", "y -> z: ceil {}")
    message.layers[0].ClearField("copy")
    function, _, warnings = lowered(message, describe({"x": X}, ["z"]))
    operation = function.body.operations[0]
    assert (operation.type, operation.layer) == ("unknown_layer", "")
    assert [shapes(op) for op in function.body.operations] == [[None], [None]]
    assert warnings == (
        "layer 0 'l0' (of an unknown kind): the shape of its output is unknown: its kind is not one of the format's "
        "158.",
    )


# parameters | inputs | the reason told
UNSHAPED: list[tuple[str, list[Dims], str]] = [
    (f"{CONV} stride: [0, 1] valid {{}} }}", [X], "its stride is 0"),
    (f"{CONV} stride: [0, 1] same {{}} }}", [X], "its stride is 0"),
    (f"{CONV} kernelSize: [0, 3] valid {{}} }}", [X], "its kernel is 0"),
    (f"{CONV} kernelSize: [9, 3] valid {{}} }}", [X], "its kernel spans 9 and its padded input has 8"),
    (f"{CONV} kernelSize: [3, 3] dilationFactor: [4, 1] valid {{}} }}", [X],
     "its kernel spans 9 and its padded input has 8"),
    (f"{CONV} kernelSize: 3 valid {{}} }}", [X], "its kernel is [3], not 2 numbers"),
    (f"{CONV} }}", [X], "its padding type is not set"),
    (f"{CONV} valid {{}} }}", [(6, 8, 10)], "it takes an input of rank 4 or more and is given rank 3"),
    (f"{CONV} valid {{}} }}", [(2, 5, 8, 10)], "its inputs differ in channels given and taken: 5 and 6"),
    ("convolution { kernelChannels: 6 valid {} }", [X], "its number of output channels is 0"),
    (f"{CONV} dilationFactor: [2, 2] isDeconvolution: true valid {{}} }}", [X],
     "Core ML's own sources disagree on a dilated deconvolution without an output shape"),
    (f"{CONV} isDeconvolution: true valid {{ paddingAmounts {{ borderAmounts {{ startEdgeSize: 12 }}"
     " borderAmounts {} } } }", [X], "a dimension would be -2"),
    (f"{CONV} valid {{ paddingAmounts {{ borderAmounts {{ startEdgeSize: 1 }} }} }} }}", [X],
     "its border amounts are [(1, 0)], not 2 pairs"),
    (f"{CONV} valid {{ paddingAmounts {{ borderAmounts {{ startEdgeSize: {HUGE} }} borderAmounts {{}} }} }} }}", [X],
     "a dimension overflows"),
    ("convolution3d { outputChannels: 2 }", [(1, 3, 4, 5, 6)], "its kernel is 0"),
    ("pooling { }", [X], "its padding type is not set"),
    ("pooling { stride: [1, 0] includeLastPixel {} }", [X], "its stride is 0"),
    ("pooling3d { }", [(1, 3, 4, 5, 6)], "its kernel is 0"),
    ("pooling3d { }", [X], "it takes an input of rank 5 and is given rank 4"),
    ("crop { cropAmounts { borderAmounts { startEdgeSize: 8 } borderAmounts {} } }", [X], "a dimension would be 0"),
    ("crop { offset: [7, 0] }", [X, (2, 1, 5, 6)],
     "its reference, moved by its offset, does not lie within its input"),
    ("upsample { scalingFactor: [2, 2, 2] }", [X], "its scaling factors are [2, 2, 2], not 2 numbers"),
    ("upsample { fractionalScalingFactor: [0.7, 1] }", [(1, 10, 10)],
     "10 scaled by 0.7 is 6 or 7, as the rounding of the factor goes"),
    ("upsample { fractionalScalingFactor: [inf, 1] }", [X], "its scaling factor is inf"),
    ("upsample { fractionalScalingFactor: [nan, 1] }", [X], "its scaling factor is nan"),
    ("cropResize { }", [(1, 2, 3, 4, 5), (9, 1, 3, 1, 1)], "its boxes have 3 coordinates, not 4 or 5"),
    ("reorganizeData { blockSize: 3 }", [X], "its block does not divide its size of 8"),
    ("reorganizeData { }", [X], "its block size is 0"),
    ("constantPad { padAmounts: [1, 2] }", [(3, 4)], "its padding amounts are [1, 2] for an input of rank 2"),
    ("add {}", [(2, 3), (2, 4)], "its inputs cannot be broadcast: 2x3 and 2x4"),
    ("innerProduct { inputChannels: 5 outputChannels: 3 }", [(4, 6)],
     "its inputs differ in channels given and taken: 6 and 5"),
    ("batchedMatmul {}", [(4, 5), (6, 7)], "its inputs differ in the dimension to sum over: 5 and 6"),
    ("batchedMatmul { transposeA: true }", [(5,), (5, 7)], "it transposes a vector"),
    ("embedding { inputDim: 9 outputChannels: 3 }", [(7, 2, 1, 1)],
     "its inputs differ in the last three axes of the indices, which must be 1: 2 and 1"),
    ("gru { inputVectorSize: 5 outputVectorSize: 4 }", [(9, 5)], "it takes an input of rank 5 and is given rank 2"),
    ("gru { inputVectorSize: 6 outputVectorSize: 4 }", [(9, 2, 5, 1, 1)],
     "its inputs differ in vector sizes given and taken: 5 and 6"),
    ("softmaxND { axis: 4 }", [X], "axis 4 does not exist in rank 4"),
    ("reduceMax { }", [X], "it names no axis to reduce"),
    ("reduceMax { axes: -5 }", [X], "axis -5 does not exist in rank 4"),
    ("reduce { axis: HW }", [(5,)], "it takes an input of rank 2 or more and is given rank 1"),
    ("topK { K: 11 axis: -1 }", [X], "it takes the top 11 of 10"),
    ("topK { axis: -1 }", [X], "a dimension would be 0"),
    ("reshape { targetShape: [6, 2, 5] }", [(1, 1, 61, 1, 1)], "61 elements do not fit its target shape (6, 2, 5)"),
    ("reshape { targetShape: [6, 2] }", [(1, 1, 12, 1, 1)], "its target shape is [6, 2], not 3 or 4 numbers"),
    ("reshapeStatic { targetShape: [4, -1] }", [(5, 5)], "25 elements do not fill its target shape (4, -1)"),
    ("reshapeStatic { targetShape: [-1, -1] }", [(5, 5)], "its target shape (-1, -1) is not one"),
    ("reshapeStatic { targetShape: [0, 25] }", [(5, 5)], "its target shape (0, 25) is not one"),
    (f"reshapeStatic {{ targetShape: [{HUGE}, 1] }}", [(5, 5)],
     f"25 elements do not fit its target shape ({HUGE}, 1)"),
    ("reshapeLike {}", [(5, 5), (4, 6)], "its inputs have 25 and 24 elements"),
    ("permute { axis: [0, 1, 2, 2] }", [(1, 1, 3, 4, 5)], "its axes are no permutation of 0, 1, 2, 3"),
    ("transpose { axes: [0, 1] }", [X], "its axes are no permutation of the 4 axes of its input"),
    ("concat {}", [X, (2, 6, 8, 9)], "its inputs differ in axis 3: 10 and 9"),
    ("concatND {}", [(3, 4), (3,)], "its inputs differ in rank: 2 and 1"),
    ("stack {}", [(3, 4), (3, 5)], "its inputs differ in shape: 4 and 5"),
    ("splitND { axis: 0 splitSizes: [3, 3] }", [(5, 3, 4)], "it splits into 2 and writes 1"),
    ("split { nOutputs: 1000000000 }", [X], "it splits into 1000000000 and writes 1"),
    ("tile { reps: [2, 0] }", [(3, 4)], "its repetition is 0"),
    (f"tile {{ reps: [{HUGE}, 1] }}", [(3, 4)], "a dimension overflows"),
    ("tile { reps: [1, 1, 1] }", [(3, 4)], "its repetitions are [1, 1, 1] for an input of rank 2"),
    ("broadcastToStatic { targetShape: [4] }", [(1, 4)], "rank 2 cannot be broadcast to rank 1"),
    ("broadcastToStatic { targetShape: [4, 5] }", [(1, 4)], "its inputs differ in a dimension to broadcast: 4 and 5"),
    ("squeeze { axes: 0 }", [(3, 4)], "axis 0 is 3 and cannot be squeezed"),
    ("expandDims { axes: [0, -3] }", [(3,)], "it adds one axis twice"),
    (f"expandDims {{ axes: [{', '.join(map(str, range(LARGEST_RANK)))}] }}", [(3,)], "it would have 17 axes"),
    ("slice { startIndex: 2 endIndex: 2 stride: 1 axis: WIDTH_AXIS }", [X], "it takes no element of 10"),
    ("slice { startIndex: 2 endIndex: 12 stride: 1 axis: WIDTH_AXIS }", [X], "it slices from 2 to 12 of 10"),
    ("slice { endIndex: 2 axis: WIDTH_AXIS }", [X], "its stride is 0"),
    ("sliceStatic { beginIds: 0 endIds: 1 beginMasks: true endMasks: true strides: 0 }", [(3,)], "its stride is 0"),
    ("sliceStatic { beginIds: 0 endIds: 1 beginMasks: true endMasks: true strides: 1 }", [(3, 4)],
     "its indices are [0] for an input of rank 2"),
    ("sliceBySize { size: 9 axis: 0 }", [(3, 4), (1,)], "it takes 9 of 3"),
    ("sliceBySize { size: -1 axis: 0 }", [(3, 4), (1,)], "a dimension would be -1"),
    ("slidingWindows { windowSize: 9 step: 1 }", [(3, 4)], "its window of 9 is larger than the axis of 3"),
    ("slidingWindows { windowSize: 2 }", [(3, 4)], "its step is 0"),
    ("gatherND {}", [(3, 4), (7, 3)], "its indices are vectors of 3 numbers into an input of rank 2"),
    ("rangeStatic { endValue: 3 }", [], "it counts from 0 to 3 by 0"),
    ("rangeStatic { endValue: inf stepSizeValue: 1 }", [], "it counts from 0 to inf by 1"),
    ("rangeStatic { endValue: -3 stepSizeValue: 1 }", [], "its length is -3"),
    ("categoricalDistribution { numSamples: -7 }", [(2, 3)], "a dimension would be -7"),
    (f"fillStatic {{ targetShape: {LARGEST_DIMENSION + 1} }}", [], "a dimension overflows"),
    (f"fillStatic {{ targetShape: [{', '.join('1' * (LARGEST_RANK + 1))}] }}", [], "it would have 17 axes"),
    ("reverse { reverseDim: [true] }", [(3, 4)], "its axes are [True] for an input of rank 2"),
    (f"reshape {{ targetShape: {[1] * 5000} }}", [(1, 1, 12, 1, 1)],
     "its target shape is [1, 1, 1, 1, 1, 1, 1, 1, ...], not 3 or 4 numbers"),
    ("activation { ReLU {} }", [(3, 4)], ""),
]  # fmt: skip


@pytest.mark.parametrize(("params", "inputs", "reason"), UNSHAPED)
def test_what_cannot_be_told_is_unknown_with_its_reason(params: str, inputs: list[Dims], reason: str) -> None:
    kind = params.split()[0]
    operation, _, warnings = lower_layer(params, inputs)
    if not reason:
        assert shapes(operation) == [inputs[0]]
        return
    assert shapes(operation) == [None]
    assert warnings == (f"layer 0 'l0' ({kind}): the shape of its output is unknown: {reason}.",)


def test_an_unknown_shape_costs_only_what_is_downstream_and_is_told_once() -> None:
    message = network(
        "x -> a: custom { className: 'Mine' }",
        "a -> b: activation { ReLU {} }",
        "x -> c: activation { ReLU {} }",
        "b c -> d: addBroadcastable {}",
        "d -> e: reshapeStatic { targetShape: [6, 20] }",
        "e -> f: softmaxND { axis: -1 }",
    )
    function, _, warnings = lowered(message, describe({"x": (5, 24)}, ["f"]))
    found = {op.outputs[0].name: op.outputs[0].tensor.shape for op in function.body.operations}
    assert found == {"a": None, "b": None, "c": (5, 24), "d": None, "e": (6, 20), "f": (6, 20)}
    assert len(warnings) == 1


def test_more_warnings_than_anybody_reads_are_counted() -> None:
    lines = [f"x -> y{index}: custom {{ className: 'Mine' }}" for index in range(30)]
    _, _, warnings = lowered(network(*lines), describe({"x": (5,)}, ["y0"]))
    assert len(warnings) == 21
    assert warnings[-1] == "10 more layers have an unknown shape for a reason of their own."


def test_numbers_and_axes_do_not_grow_without_limit() -> None:
    """Each layer squares a number or doubles a rank: 200 of them would make numbers of 2 ** 200 digits."""
    lines = ["-> n0: loadConstantND { shape: 1 data { floatValue: 9 } }"]
    lines += [f"n{i} n{i} -> n{i + 1}: multiplyBroadcastable {{}}" for i in range(200)]
    lines += ["n200 -> made: fillDynamic { value: 1 }"]
    lines += ["x -> s0: copy {}", *[f"s{i} s{i} -> s{i + 1}: gather {{}}" for i in range(200)]]
    lines += ["x -> t0: copy {}", *[f"t{i} -> t{i + 1}: tile {{ reps: 4294967295 }}" for i in range(200)]]
    function, _, _ = lowered(network(*lines), describe({"x": (2, 3, 4)}, ["made", "s200", "t200"]))
    assert [value.tensor.shape for value in function.outputs] == [(None,), None, None]


def mutated(data: bytes, edits: list[tuple[int, int]]) -> bytes:
    copy = bytearray(data)
    for place, value in edits:
        copy[place % len(copy)] = value
    return bytes(copy)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(
    case=st.sampled_from([(c[0], c[1], len(c[3])) for c in [*CASES, *COMPUTED]]),
    edits=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4),
    dims=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=7),
    blob=st.booleans(),
)
def test_any_bytes_give_a_network_or_a_read_error(
    case: tuple[str, list[Dims], int], edits: list[tuple[int, int]], dims: list[int], blob: bool
) -> None:
    params, inputs, outputs = case
    names = {f"x{index}": shape for index, shape in enumerate(inputs)}
    results = [f"y{index}" for index in range(outputs)]
    message: Any = network(f"{' '.join(names)} -> {' '.join(results)}: {params}", blob=blob)
    description = describe(names, results[:1])
    if description.input and dims:
        shape = description.input[0].type.multiArrayType.shape
        del shape[:]
        shape.extend(dims)
    try:
        message = proto.NeuralNetwork.FromString(mutated(message.SerializeToString(), edits))
    except (DecodeError, EncodeError):
        return
    try:
        function, _, warnings = lowered(message, description)
    except ReadError:
        return
    for value in (value for operation in function.body.walk() for value in operation.outputs):
        shape = value.tensor.shape
        assert shape is None or all(dim is None or 0 < dim <= LARGEST_DIMENSION**2 for dim in shape)
    assert all(warning.endswith(".") for warning in warnings)

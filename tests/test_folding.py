"""Operations that change nothing go where their neighbours go."""

from __future__ import annotations

import pytest

from anecompat.checking import check_model
from anecompat.findings import Status
from anecompat.ir import number
from anecompat.readers.mil_text import parse_model
from anecompat.targets import parse_targets

BETWEEN = """
func main<ios17>(tensor<fp16, [1, 8, 4, 4]> x) {
    tensor<fp16, [1, 8, 4, 4]> first = identity(x = x);
    tensor<fp16, [1, 8, 4, 4]> a = OPERATION;
    tensor<fp16, [1, 8, 4, 4]> second = identity(x = a);
    tensor<fp16, [1, 8, 4, 4]> same = reshape(x = second, shape = tensor<int32, [4]>([1, 8, 4, 4]));
    tensor<fp16, [1, 8, 4, 4]> y = relu(x = same);
} -> (y);
"""
CUMSUM = "cumsum(x = first, axis = int32(1), exclusive = bool(false), reverse = bool(false))"


@pytest.mark.parametrize(
    ("operation", "target", "eligible", "status"),
    [
        ("tanh(x = first)", "M4", [True] * 5, Status.FULL),
        (CUMSUM, "M4", [False, False, False, False, True], Status.PARTIAL),
        ("tanh(x = first)", "A12", [None] * 5, Status.CANNOT_TELL),
        ("an_operation_of_the_future(x = first)", "M4", [None, None, None, None, True], Status.CANNOT_TELL),
    ],
)
def test_folded_operations(operation: str, target: str, eligible: list[bool | None], status: Status) -> None:
    model = number(parse_model(BETWEEN.replace("OPERATION", operation), "folding"))
    verdict = check_model(model, parse_targets([target])).targets[0].verdict
    assert list(verdict.eligible) == eligible
    assert verdict.status is status
    assert [index for index, rules in verdict.by_operation.items() if "ANE110" in rules] == [0, 2, 3]


COMPRESSED = """
func main<ios17>(tensor<fp16, [1, 4, 768]> x) {
    tensor<fp16, [50257, 768]> head = constexpr_lut_to_dense()[indices = tensor<uint8, [19298688]>(BLOBFILE(
        path = string("@model_path/weights/weight.bin"), offset = uint64(64))), lut = tensor<fp16, [16]>(BLOBFILE(
        path = string("@model_path/weights/weight.bin"), offset = uint64(128))),
        shape = tensor<uint32, [2]>([50257, 768])];
    tensor<fp16, [1, 4, 50257]> y = linear(x = x, weight = head);
} -> (y);
"""


@pytest.mark.parametrize(("target", "messages"), [
    ("M4", []),
    ("M1@macos14", ["its output is 50,257 long along width; 16,384 is the limit"]),
])  # fmt: skip
def test_unpacked_weights_are_constants(target: str, messages: list[str]) -> None:
    model = number(parse_model(COMPRESSED, "compressed"))
    verdict = check_model(model, parse_targets([target])).targets[0].verdict
    assert len(verdict.eligible) == 1  # what unpacks weights gets no device
    assert [f.message for f in verdict.findings if f.rule == "ANE302"] == messages


CONSTANTS = """
func main<ios17>(tensor<fp16, [1, 8]> x) {
    tensor<fp16, [1, 8]> c = cumsum(x = tensor<fp16, [1, 8]>([1, 1, 1, 1, 1, 1, 1, 1]), axis = int32(1));
    tensor<fp16, [1, 8]> y = add(x = x, y = c);
    tensor<fp16, [1, 8]> alone = relu(x = tensor<fp16, [1, 8]>([1, 1, 1, 1, 1, 1, 1, 1]));
} -> (RESULTS);
"""


@pytest.mark.parametrize(
    ("results", "eligible", "status"),
    [("y", [True, True, None], Status.CANNOT_TELL), ("y, alone", [True, True, None], Status.CANNOT_TELL)],
)
def test_work_on_constants_is_done_beforehand(results: str, eligible: list[bool | None], status: Status) -> None:
    model = number(parse_model(CONSTANTS.replace("RESULTS", results), "constants"))
    verdict = check_model(model, parse_targets(["M4"])).targets[0].verdict
    assert list(verdict.eligible) == eligible
    assert verdict.status is status

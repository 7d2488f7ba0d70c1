"""Core ML's own notes about a compiled model (``analytics.mil``)."""

from __future__ import annotations

import pytest

from anecompat.errors import ReadError
from anecompat.readers.analytics import BORDER_OPERATIONS, BackendNote, is_analytics, read_analytics

BUFFER = "tensor_buffer<fp16, shape=[1, 8, 4, 4], strides=[128, 16, 4, 1], interleave_factors=[1, 1, 1, 1]>"
ALL = 'BackendSupport = list<string, 5>(["unsupported", "unsupported", "bnns", "classic_cpu", "ane"])'
CPU = 'BackendSupport = list<string, 5>(["unsupported", "unsupported", "bnns", "classic_cpu", "unsupported"])'

# The syntax of an M4's cache on macOS 27 (coremlc 3600): one statement a line, parameters given in place.
M4 = f"""program(1.3)
[buildInfo = dict<string, string>({{{{"coremlc-component-MIL", "3600.16.1"}}, {{"coremltools-version", "9.0"}}}})]
{{
    func main<ios18>({BUFFER} x0) [Launch_ane_ms = fp64(0x1p-3), Launch_classic_cpu_ms = fp64(0x0p+0), \
Src_ane_Dest_bnns_ms = fp64(0x1p-3), Src_classic_cpu_Dest_e5_minimal_cpu_ms = fp64(0x1.8p-3)] {{
            tensor<fp16, [1, 8, 4, 4]> x0_4D454D = tensor_buffer_to_tensor<ios17>(input = x0)[{ALL}, \
EstimatedRuntime = dict<string, fp64>({{{{"ane", 0}}, {{"bnns", 0}}, {{"classic_cpu", 0}}}}), \
SelectedBackend = string("bnns"), milId = uint64(0)];
            tensor<fp16, [1, 8, 4, 4]> conv_0 = conv(dilations = tensor<int32, [2]>([1, 1]), groups = int32(1), \
pad = tensor<int32, [4]>([0, 0, 0, 0]), pad_type = string("same"), strides = tensor<int32, [2]>([1, 1]), \
weight = tensor<fp16, [8, 8, 3, 3]>(BLOBFILE(path = string("@model_path/weights/weights.bin"), offset = uint64(64))), \
x = x0_4D454D)[{ALL}, EstimatedRuntime = dict<string, fp64>({{{{"ane", 0.0046742807655237523}}, \
{{"bnns", 0.10006388175261005}}, {{"classic_cpu", 0.11509533067856016}}}}), SelectedBackend = string("ane"), \
milId = uint64(1), name = string("conv_0")];
            tensor<fp16, [1, 8, 4, 4]> cosh_0 = cosh(x = conv_0)[{CPU}, EstimatedRuntime = dict<string, fp64>(\
{{{{"bnns", 0.004}}, {{"classic_cpu", 0.005}}}}), SelectedBackend = string("bnns"), ValidationMessage = \
dict<string, string>({{{{"ane", "Unsupported MIL operation \\"cosh\\"."}}}}), \
milId = uint64(2), name = string("cosh_0")];
            {BUFFER} y = tensor_to_tensor_buffer<ios17>(input = cosh_0, interleave_factors = tensor<uint8, [4]>([1, 1, \
1, 1]), strides = tensor<int64, [4]>([128, 16, 4, 1]))[BackendSupport = list<string, 5>(["unsupported", "unsupported", \
"unsupported", "unsupported", "unsupported"]), SelectedBackend = string("bnns"), milId = uint64(3)];
        }} -> (y);
}}
"""


def test_notes_of_every_operation() -> None:
    found = read_analytics(M4, "analytics.mil")
    operations = list(found.model.operations())
    assert [operation.type for operation in operations] == [
        "tensor_buffer_to_tensor",
        "conv",
        "cosh",
        "tensor_to_tensor_buffer",
    ]
    assert [operation.type in BORDER_OPERATIONS for operation in operations] == [True, False, False, True]
    assert set(found.notes) == {0, 1, 2, 3}
    assert found.notes[1] == BackendNote(
        frozenset({"ane", "bnns", "classic_cpu"}),
        {"ane": 0.0046742807655237523, "bnns": 0.10006388175261005, "classic_cpu": 0.11509533067856016},
        "ane",
        {},
    )
    assert found.notes[2] == BackendNote(
        frozenset({"bnns", "classic_cpu"}),
        {"bnns": 0.004, "classic_cpu": 0.005},
        "bnns",
        {"ane": ('Unsupported MIL operation "cosh".',)},
    )
    assert found.notes[3] == BackendNote(frozenset(), {}, "bnns", {})


def test_prices_of_the_segmenter() -> None:
    found = read_analytics(M4)
    assert found.launches == {"ane": 0.125, "classic_cpu": 0.0}
    assert found.switches == {("ane", "bnns"): 0.125, ("classic_cpu", "e5_minimal_cpu"): 0.1875}


def test_the_program_is_an_ordinary_model() -> None:
    model = read_analytics(M4, "analytics.mil").model
    assert (model.path, model.spec_version, model.metadata["coremltools-version"]) == ("analytics.mil", 9, "9.0")
    assert (model.inputs[0].name, model.inputs[0].dtype, model.inputs[0].shape) == ("x0", "fp16", (1, 8, 4, 4))
    conv = list(model.operations())[1]
    assert conv.params("strides") == (1, 1)
    assert (conv.name, conv.opset, next(model.operations()).opset) == ("conv_0", "ios18", "ios17")


def test_the_spelling_of_macos_14() -> None:
    text = """func main<ios17>(tensor<fp32, [1]> x) {
        tensor<fp16, [1]> y = cast(dtype = string("fp16"), x = x)[
            BackendSupport = dict<string, int32>({{"ane", 0}, {"bnns", 1}, {"mps_graph", 0}}),
            EstimatedRunTime = dict<string, fp64>({{"bnns", 0x1p-4}}), SelectedBackend = string("bnns"),
            ValidationMessages = dict<string, list<string, 2>>({{"ane", ["Unsupported tensor format: fp32.", "two"]}})];
        } -> (y)"""
    (note,) = read_analytics(text).notes.values()
    assert note == BackendNote(
        frozenset({"bnns"}), {"bnns": 0.0625}, "bnns", {"ane": ("Unsupported tensor format: fp32.", "two")}
    )


def test_it_is_told_from_a_plain_program_by_its_head() -> None:
    plain = (
        'program(1.3) { func main<ios18>(fp16 x) { fp16 y = relu(x = x)[name = string("BackendSupport")]; } -> (y) }'
    )
    assert is_analytics(M4[:700])
    assert is_analytics(M4[900:])
    assert not is_analytics(plain)
    assert not is_analytics("")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "<text>:1:1: expected 'program' or 'func'"),
        ("func main<ios18>(fp16 x) { fp16 y = relu(x = x); } -> (y)", "no operation carries Core ML's notes"),
        (M4[: len(M4) // 2], "<text>:6:.* found the end of the text"),
        (M4.replace("SelectedBackend = string(", "SelectedBackend = ("), "expected a type"),
    ],
)
def test_bad_input(text: str, sentence: str) -> None:
    with pytest.raises(ReadError, match=sentence):
        read_analytics(text)


def test_notes_of_a_form_never_seen_are_passed_over() -> None:
    text = """func main<ios18>(fp16 x) { fp16 y = relu(x = x)[BackendSupport = string("all"), EstimatedRuntime =
        dict<string, string>({{"ane", "fast"}}), SelectedBackend = int32(3)]; } -> (y)"""
    assert read_analytics(text).notes == {0: BackendNote()}

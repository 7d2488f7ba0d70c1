"""Immediate values and weight blobs of every element type, against what coremltools writes."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anecompat.errors import ReadError
from anecompat.ir import Blob, Constant, OtherType, StateType, TensorType, Unknown
from anecompat.proto import enum_names, message_class
from anecompat.readers.immediate import BITS, DTYPES, Values, type_of, unpacked
from anecompat.readers.source import open_source
from anecompat.readers.weights import Weights

Value = message_class("Value")
ValueType = message_class("ValueType")
NUMBERS = {name: number for number, name in enum_names("DataType").items()}


def tensor(dtype: str, *dims: int | None, rank: int | None = None) -> Any:
    message = ValueType()
    message.tensorType.dataType = NUMBERS[dtype]
    message.tensorType.rank = len(dims) if rank is None else rank
    for dim in dims:
        if dim is None:
            message.tensorType.dimensions.add().unknown.variadic = False
        else:
            message.tensorType.dimensions.add().constant.size = dim
    return message


@pytest.fixture
def values(tmp_path: Path) -> Values:
    path = tmp_path / "m"
    path.write_bytes(b"")
    source = open_source(path)
    return Values(source, "m", Weights(source, "m").elements)


def test_every_element_type_is_spelled_as_mil_does() -> None:
    assert DTYPES == {
        0: "unknown",
        1: "bool",
        2: "string",
        10: "fp16",
        11: "fp32",
        12: "fp64",
        13: "bf16",
        21: "int8",
        22: "int16",
        23: "int32",
        24: "int64",
        25: "int4",
        31: "uint8",
        32: "uint16",
        33: "uint32",
        34: "uint64",
        35: "uint4",
        36: "uint2",
        37: "uint1",
        38: "uint6",
        39: "uint3",
        40: "fp8e4m3fn",
        41: "fp8e5m2",
    }
    assert set(DTYPES.values()) - {"unknown", "string"} <= set(BITS)


def test_types() -> None:
    assert type_of(tensor("FLOAT16", 1, None, 3)) == TensorType("fp16", (1, None, 3))
    assert type_of(tensor("INT4")) == TensorType("int4", ())
    assert type_of(tensor("FLOAT32", rank=-1)) == TensorType("fp32", None)
    future = tensor("FLOAT32", 2)
    future.tensorType.dataType = 99
    assert type_of(future) == TensorType("unknown(99)", (2,))
    variadic = tensor("FLOAT32", 2)
    variadic.tensorType.dimensions[0].unknown.variadic = True
    assert type_of(variadic) == TensorType("fp32", None)
    state = ValueType()
    state.stateType.wrappedType.CopyFrom(tensor("FLOAT16", 1, 8))
    assert type_of(state) == StateType(TensorType("fp16", (1, 8)))
    with pytest.raises(ReadError, match="a tensor of rank 3 has 1 dimensions"):
        type_of(tensor("FLOAT32", 2, rank=3))
    with pytest.raises(ReadError, match="a value has no type"):
        type_of(ValueType())
    bad_state = ValueType()
    bad_state.stateType.wrappedType.listType.type.CopyFrom(tensor("BOOL"))
    bad_state.stateType.wrappedType.listType.length.constant.size = 1
    with pytest.raises(ReadError, match=r"a state holds a list<tensor<bool, \[\]>, 1>"):
        type_of(bad_state)


def test_lists_tuples_and_dictionaries_are_spelled() -> None:
    message = ValueType()
    message.listType.type.CopyFrom(tensor("FLOAT32", 1, None))
    message.listType.length.unknown.variadic = False
    assert type_of(message) == OtherType("list<tensor<fp32, [1, ?]>, ?>")
    outer = ValueType()
    outer.tupleType.types.add().CopyFrom(message)
    outer.tupleType.types.add().dictionaryType.keyType.CopyFrom(tensor("STRING"))
    outer.tupleType.types[1].dictionaryType.valueType.CopyFrom(tensor("FLOAT64"))
    assert type_of(outer) == OtherType(
        "tuple<list<tensor<fp32, [1, ?]>, ?>, dict<tensor<string, []>, tensor<fp64, []>>>"
    )


CASES: dict[str, list[float]] = {
    "float16": [0.5, -2.0, 65504.0],
    "float32": [0.1, -3.0, 1e30],
    "float64": [0.1, 1e300, -2.0],
    "int8": [-128, 0, 127],
    "uint8": [0, 200, 255],
    "int16": [-32768, 5, 32767],
    "uint16": [0, 7, 65535],
    "int32": [-(2**31), 0, 2**31 - 1],
    "bool": [True, False, True],
}


@pytest.fixture(scope="module")
def written() -> Callable[[str, list[float]], Any]:
    """What coremltools writes for an array, as our Value."""
    pytest.importorskip("coremltools")
    import numpy
    from coremltools.converters.mil.backend.mil import helper

    def write(dtype: str, numbers: list[float]) -> Any:
        array = numpy.array(numbers, dtype=dtype)
        return Value.FromString(helper.create_tensor_value(array).SerializeToString())

    return write


@pytest.mark.parametrize("dtype", CASES)
def test_what_coremltools_writes(dtype: str, written: Callable[[str, list[float]], Any], values: Values) -> None:
    constant = values.constant(written(dtype, CASES[dtype]))
    assert isinstance(constant.type, TensorType)
    assert constant.type.shape == (3,)
    assert constant.type.dtype.replace("fp", "float") == dtype
    expected = CASES[dtype]
    if dtype == "float32":
        expected = list(struct.unpack("<3f", struct.pack("<3f", *expected)))
    assert list(constant.values()) == expected


def test_strings_and_scalars(written: Callable[[str, list[float]], Any], values: Values) -> None:
    pytest.importorskip("coremltools")
    from coremltools.converters.mil.backend.mil import helper

    constant = values.constant(Value.FromString(helper.create_scalar_value("same").SerializeToString()))
    assert (constant.type, constant.item()) == (TensorType("string", ()), "same")
    listed = Value.FromString(helper.create_list_scalarvalue(["a", "b"], str).SerializeToString())
    constant = values.constant(listed)
    assert str(constant.type) == "list<tensor<string, []>, 2>"
    assert constant.values() == ("a", "b")


@pytest.mark.parametrize(
    ("dtype", "numbers"),
    [
        ("int4", [-8, 7, -1, 0, 3]),
        ("uint4", [0, 15, 9, 1, 2]),
        ("uint1", [1, 0, 0, 1, 1, 0, 1, 0, 1]),
        ("uint2", [3, 0, 1, 2, 3]),
        ("uint3", [7, 0, 5, 1, 2, 6]),
        ("uint6", [63, 0, 33, 12, 7]),
    ],
)
def test_sub_byte_elements(dtype: str, numbers: list[int]) -> None:
    """Packed by coremltools' own function, as it writes immediate values and weight files."""
    pytest.importorskip("coremltools")
    import numpy
    from coremltools.optimize import _utils as packing

    bits = BITS[dtype]
    array = numpy.array(numbers, dtype=numpy.int8 if dtype == "int4" else numpy.uint8)
    data = packing.pack_elements_into_bits(array, bits).tobytes()
    assert list(unpacked(data, TensorType(dtype, (len(numbers),)))) == numbers


def test_short_floats() -> None:
    assert list(unpacked(b"\x80\x3f\x00\xc0", TensorType("bf16", (2,)))) == [1.0, -2.0]
    e4m3 = list(unpacked(bytes([0x38, 0xB8, 0x7E, 0x01, 0x80]), TensorType("fp8e4m3fn", (5,))))
    assert e4m3 == [1.0, -1.0, 448.0, 2.0**-9, 0.0]
    e5m2 = list(unpacked(bytes([0x3C, 0x7B, 0x7C, 0xFC, 0x01]), TensorType("fp8e5m2", (5,))))
    assert e5m2 == [1.0, 57344.0, math.inf, -math.inf, 2.0**-16]
    assert math.isnan(unpacked(b"\x7f", TensorType("fp8e4m3fn", (1,)))[0])
    assert math.isnan(unpacked(b"\x7d", TensorType("fp8e5m2", (1,)))[0])


def test_values_that_contradict_their_type(values: Values) -> None:
    message = Value()
    message.type.CopyFrom(tensor("INT32", 4))
    message.immediateValue.tensor.ints.values.extend([1, 2, 3])
    with pytest.raises(Unknown, match=r"a value of type int32\[4\] holds 3 elements"):
        values.constant(message).values()
    message.immediateValue.tensor.bytes.values = b"123"
    with pytest.raises(Unknown, match=r"a value of type int32\[4\] holds 3 bytes"):
        values.constant(message).values()
    message.immediateValue.ClearField("tensor")
    with pytest.raises(Unknown, match="not in the file"):
        values.constant(message).values()
    huge = tensor("FLOAT16", 2**62, 2**62)
    with pytest.raises(Unknown, match="holds 4 bytes"):
        unpacked(b"1234", type_of(huge))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    """A weight file that coremltools wrote, and the offsets of its blobs."""
    storage = pytest.importorskip("coremltools.libmilstoragepython")
    import numpy

    folder = tmp_path_factory.mktemp("weights")
    path = folder / "weights" / "weight.bin"
    path.parent.mkdir()
    writer = storage._BlobStorageWriter(str(path))
    offsets = {
        "fp16": writer.write_fp16_data(numpy.array([0.5, 1.5, -2.0], numpy.float16).view(numpy.uint16)),
        "fp32": writer.write_float_data(numpy.array([1.0, 2.0], numpy.float32)),
        "int8": writer.write_int8_data(numpy.arange(100, dtype=numpy.int8)),
        "uint4": writer.write_uint4_data(numpy.array([1, 15, 7], numpy.uint8)),
    }
    del writer
    return folder, offsets


def weights_in(folder: Path) -> Weights:
    return Weights(open_source(folder), "model.mlmodel")


PATH = "@model_path/weights/weight.bin"


def test_small_blobs_are_read_when_asked(package: tuple[Path, dict[str, int]]) -> None:
    folder, offsets = package
    weights = weights_in(folder)
    assert list(weights.elements(PATH, offsets["fp16"], TensorType("fp16", (3,)))) == [0.5, 1.5, -2.0]
    assert list(weights.elements(PATH, offsets["fp32"], TensorType("fp32", (2, 1)))) == [1.0, 2.0]
    assert list(weights.elements(PATH, offsets["int8"], TensorType("int8", (10, 10)))) == list(range(100))
    assert list(weights.elements(PATH, offsets["uint4"], TensorType("uint4", (3,)))) == [1, 15, 7]


@pytest.mark.parametrize(
    ("offset", "kind", "sentence"),
    [
        (128, TensorType("fp16", (3,)), "no 0xDEADBEEF there"),
        (1 << 40, TensorType("fp16", (3,)), "there is no blob at offset 1,099,511,627,776, the file has"),
        (64, TensorType("fp16", (300,)), "holds 6 bytes, 600 are needed"),
        (64, TensorType("fp16", (40_000,)), "too large to be read"),
        (64, TensorType("fp16", (None,)), "too large to be read"),
    ],
)
def test_blobs_that_are_not_there(
    package: tuple[Path, dict[str, int]], offset: int, kind: TensorType, sentence: str
) -> None:
    with pytest.raises(Unknown, match=sentence):
        weights_in(package[0]).elements(PATH, offset, kind)


def test_a_blob_path_that_leaves_the_package(package: tuple[Path, dict[str, int]]) -> None:
    with pytest.raises(Unknown, match="leaves the model"):
        weights_in(package[0]).elements("@model_path/../../etc/passwd", 64, TensorType("fp16", (3,)))


def stored(offset: int, kind: TensorType) -> Constant:
    return Constant(kind, blob=Blob(PATH, offset))


def test_verified_weights(package: tuple[Path, dict[str, int]], tmp_path: Path) -> None:
    folder, offsets = package
    good = [
        ("a", stored(offsets["fp16"], TensorType("fp16", (3,)))),
        ("b", stored(offsets["uint4"], TensorType("uint4", (3,)))),
    ]
    assert weights_in(folder).warnings(good, verify=True) == []
    wrong = [
        *good,
        ("c", stored(offsets["int8"], TensorType("int8", (99,)))),
        ("d", stored(70, TensorType("int8", ()))),
    ]
    (sentence,) = weights_in(folder).warnings(wrong, verify=True)
    assert "weights/weight.bin does not hold what the model says: c: the blob at offset" in sentence
    assert "holds 100 bytes, int8[99] takes 99 (and 1 more)" in sentence
    assert weights_in(folder).warnings(wrong, verify=False) == []
    cut = tmp_path / "weights" / "weight.bin"
    cut.parent.mkdir()
    whole = (folder / "weights" / "weight.bin").read_bytes()
    cut.write_bytes(whole[: offsets["uint4"] + 20])
    (sentence,) = weights_in(tmp_path).warnings(good, verify=False)
    assert f"weights/weight.bin is too short: b at offset {offsets['uint4']} needs" in sentence
    cut.write_bytes(b"\x01\0\0\0\x07\0\0\0" + whole[8:])
    (sentence,) = weights_in(tmp_path).warnings(good, verify=True)
    assert "is no MIL blob storage of version 2 (it begins with 1, 7)" in sentence
    cut.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")
    (sentence,) = weights_in(tmp_path).warnings(good, verify=False)
    assert sentence.startswith("weights/weight.bin is a Git LFS pointer, not the weights (2 constants lie in it)")
    cut.unlink()
    (sentence,) = weights_in(tmp_path).warnings(good, verify=True)
    assert sentence.startswith("weights/weight.bin is missing (2 constants lie in it)")

"""Structure without payloads: what is kept, what is marked and fetched again, and where a fault is found."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from anecompat.errors import ReadError
from anecompat.ir import Unknown
from anecompat.proto import Model, message_class
from anecompat.readers import wire
from anecompat.readers.source import Source, open_source


class Bytes:
    """A source of one name in memory, which also counts how often it is asked."""

    alone = "m"
    label = "m"

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.bytes_read = 0
        self.calls = 0

    def place(self, name: str = "") -> str:
        return "m"

    def size(self, name: str) -> int:
        return len(self.data)

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        self.calls += 1
        data = self.data[offset : offset + length]
        self.bytes_read += len(data)
        return data

    def read(self, name: str, limit: int) -> bytes:
        return self.data


def source_of(data: bytes) -> Any:
    return Bytes(data)


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number: int, body: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(body)) + body


@pytest.fixture
def always_pruned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "WHOLE", -1)


def network(layers: int, weights: int) -> Any:
    model = Model(specificationVersion=4)
    model.description.input.add(name="x")
    for index in range(layers):
        layer = model.neuralNetwork.layers.add(name=f"layer{index}", input=["x"], output=["y"])
        layer.convolution.kernelSize.extend([3, 3])
        layer.convolution.weights.float16Value = bytes([index % 250]) * weights
        layer.convolution.bias.floatValue.extend([0.5, index])
    return model


def test_payloads_are_skipped_and_marked(always_pruned: None) -> None:
    full = network(20, 100_000)
    data = full.SerializeToString()
    source = source_of(data)
    model = wire.parse(source, "m")
    assert source.bytes_read < 200_000 < len(data)
    assert [layer.name for layer in model.neuralNetwork.layers] == [f"layer{i}" for i in range(20)]
    for index, layer in enumerate(model.neuralNetwork.layers):
        weights = layer.convolution.weights
        assert weights.float16Value == b""
        (mark,) = weights.dropped
        assert (mark.field, mark.length, mark.tagged) == (2, 100_000, False)
        assert data[mark.offset : mark.offset + mark.length] == bytes([index]) * 100_000
        assert wire.payload(source, "m", weights, "float16Value") == bytes([index]) * 100_000
        assert list(layer.convolution.bias.floatValue) == [0.5, index]
        assert not layer.convolution.bias.dropped


def test_nothing_but_payloads_is_lost(always_pruned: None) -> None:
    full = network(20, 3000)
    full.description.metadata.userDefined["labels"] = "x" * 5000
    full.description.metadata.license = "y" * 70_000
    model = wire.parse(source_of(full.SerializeToString()), "m")
    for layer, ours in zip(full.neuralNetwork.layers, model.neuralNetwork.layers, strict=True):
        layer.convolution.weights.ClearField("float16Value")
        ours.convolution.weights.ClearField("dropped")
    full.description.metadata.license = ""  # prose above 64 KB decides nothing
    assert model.SerializeToString(deterministic=True) == full.SerializeToString(deterministic=True)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("count", [100, 5_000, 200_000])
def test_numbers_packed_or_each_with_its_tag(always_pruned: None, packed: bool, count: int) -> None:
    numbers = [float(n % 1000) for n in range(count)]
    if packed:
        weights = field(1, struct.pack(f"<{count}f", *numbers))
    else:
        weights = b"".join(b"\x0d" + struct.pack("<f", n) for n in numbers)
    weights += varint(50 << 3) + b"\x01"  # isUpdatable, behind the payload
    data = field(500, field(1, field(1, b"name") + field(100, field(90, weights) + b"\x08\x07")))
    source = source_of(data)
    model = wire.parse(source, "m")
    layer = model.neuralNetwork.layers[0]
    assert layer.name == "name"
    assert layer.convolution.outputChannels == 7
    held = layer.convolution.weights
    assert held.isUpdatable
    if count == 100:
        assert list(held.floatValue) == numbers
        return
    assert not held.floatValue
    (mark,) = held.dropped
    assert mark.tagged is not packed
    assert mark.length == count * (4 if packed else 5)
    assert list(wire.payload(source, "m", held, "floatValue")) == numbers


def test_a_value_of_a_file_that_is_gone(always_pruned: None, tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(field(1, bytes(4000)))
    source = open_source(path)
    held = wire.parse(source, "m", "TensorValue.RepeatedFloats")
    source.close()
    path.unlink()
    with pytest.raises(Unknown, match=r"the value cannot be read any more: .*there is no such file"):
        wire.payload(source, "m", held, "values")


def test_a_value_of_a_megabyte_is_not_fetched(always_pruned: None) -> None:
    source = source_of(field(1, bytes(wire.MOST_FETCHED + 4)))
    held = wire.parse(source, "m", "TensorValue.RepeatedFloats")
    with pytest.raises(Unknown, match="1,048,580 bytes long"):
        wire.payload(source, "m", held, "values")


def test_varints_that_each_have_their_tag(always_pruned: None) -> None:
    ints = message_class("TensorValue.RepeatedInts")
    numbers = [n * 31 - 7 for n in range(3000)]
    data = b"".join(b"\x08" + varint(n & (1 << 64) - 1) for n in numbers)
    source = source_of(data)
    held = wire.parse(source, "m", "TensorValue.RepeatedInts")
    assert list(ints.FromString(data).values) == numbers
    assert list(wire.payload(source, "m", held, "values")) == numbers


def test_a_payload_in_two_pieces_is_not_guessed(always_pruned: None) -> None:
    piece = field(1, bytes(4000))
    source = source_of(piece + field(1, bytes(4000)))
    held = wire.parse(source, "m", "TensorValue.RepeatedFloats")
    with pytest.raises(Unknown, match="several pieces"):
        wire.payload(source, "m", held, "values")


def test_unknown_fields_and_parameters_of_trees_are_left_out(always_pruned: None) -> None:
    data = field(402, field(1, b"x" * 500_000)) + field(7777, b"z" * 300_000) + varint(7778 << 3) + b"\x05"
    data = b"\x08\x01" + data
    source = source_of(data)
    pruned = wire.prune(source, "m")
    assert len(pruned) < 10
    assert source.bytes_read < 20_000
    assert wire.parse(source, "m").WhichOneof("Type") == "treeEnsembleClassifier"


def test_nested_pipelines(always_pruned: None) -> None:
    inner = network(2, 5000)
    outer = Model()
    outer.pipeline.models.add().pipeline.models.append(inner)
    model = wire.parse(source_of(outer.SerializeToString()), "m")
    assert len(model.pipeline.models[0].pipeline.models[0].neuralNetwork.layers[1].convolution.weights.dropped) == 1


def nested(depth: int) -> bytes:
    data = b"\x08\x01"
    for _ in range(depth):
        data = field(202, field(1, data))
    return data


DAMAGE = {
    "a varint of 11 bytes": (b"\x08" + b"\xff" * 10 + b"\x01", "byte 1: a number is longer than 10 bytes"),
    "cut inside a varint": (b"\x08\x01\x08\xff", "byte 3: the file ends inside a number; it is cut short"),
    "cut inside a string": (
        field(2, field(1, b"\x0a\x64abc")),
        "byte 4: FeatureDescription.name claims 100 bytes where only 3 are left. The file looks cut short",
    ),
    "longer than its parent": (
        field(2, field(1, b"\x0a\x64abc")) + b"\x08\x01" * 100,
        "byte 4: FeatureDescription.name claims 100 bytes where only 3 are left.",
    ),
    "a group": (b"\x0b", "byte 0: wire type 3 has no place in a Core ML file"),
    "wire type 7": (b"\x08\x01\x0f", "byte 2: wire type 7 has no place"),
    "field number 0": (b"\x00\x01", "byte 0: field number 0 does not exist"),
    "no UTF-8": (field(2, field(1, field(1, b"ab\xff\xfe"))), "byte 8: FeatureDescription.name is no UTF-8 text"),
    "floats that end in the middle": (
        field(500, field(1, field(100, field(90, field(1, b"12345"))))),
        "ends inside a number",
    ),
    "fixed number cut": (field(500, field(1, field(100, field(90, b"\x0d\x01\x02")))), "claims 5 bytes where only 3"),
    "too deep": (nested(120), "messages lie in each other more than 100 deep"),
}


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_placed(name: str, whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not whole:
        monkeypatch.setattr(wire, "WHOLE", -1)
    data, sentence = DAMAGE[name]
    with pytest.raises(ReadError) as caught:
        wire.parse(source_of(data), "m")
    assert str(caught.value).startswith("m: byte ")
    assert sentence in str(caught.value)


def test_an_endless_name_is_refused(always_pruned: None) -> None:
    data = field(2, field(1, field(1, b"n" * 70_000)))
    with pytest.raises(ReadError, match=r"byte 8: FeatureDescription\.name of 70,000 bytes is no name"):
        wire.parse(source_of(data), "m")


def test_too_much_structure(always_pruned: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MOST_STRUCTURE", 1 << 20)
    data = field(500, field(1, field(1, b"n")) * 300_000)
    with pytest.raises(ReadError, match="the structure alone takes more than 1 MB"):
        wire.parse(source_of(data), "m")


def test_too_many_messages(always_pruned: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MOST_MESSAGES", 10_000)
    data = field(500, field(1, b"") * 10_001)
    with pytest.raises(ReadError, match="there are more than 10,000 messages"):
        wire.parse(source_of(data), "m")


@settings(max_examples=400, deadline=None)
@given(seed=st.integers(0, 2**32), small=st.sampled_from([0, 8, 200]), cut=st.integers(0, 3))
def test_whatever_protobuf_accepts_is_read_alike(seed: int, small: int, cut: int) -> None:
    """Random bytes around a real structure: a ReadError exactly where protobuf refuses, else the same structure."""
    chance = random.Random(seed)
    data = bytearray(network(chance.randrange(4), chance.choice([0, 10, 5000])).SerializeToString())
    for _ in range(cut):
        at = chance.randrange(len(data))
        data[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(4))
    try:
        expected = Model.FromString(bytes(data))
    except DecodeError:
        expected = None
    before = wire.SMALL, wire.WHOLE
    wire.WHOLE = -1
    found, refusal = None, ""
    try:
        wire.SMALL = small
        found = wire.parse(source_of(bytes(data)), "m")
    except ReadError as error:
        refusal = str(error)
    finally:
        wire.SMALL, wire.WHOLE = before
    if expected is None:
        return  # protobuf also refuses damage in what we leave out
    if found is None:
        assert "wire type 3" in refusal  # a group that nobody asks for
        return
    assert found.specificationVersion == expected.specificationVersion
    assert found.WhichOneof("Type") == expected.WhichOneof("Type")
    layers = [(layer.name, list(layer.input), layer.WhichOneof("layer")) for layer in found.neuralNetwork.layers]
    assert layers == [(each.name, list(each.input), each.WhichOneof("layer")) for each in expected.neuralNetwork.layers]


def test_a_file_on_disk_is_read_in_few_pieces(tmp_path: Path) -> None:
    path = tmp_path / "m.mlmodel"
    path.write_bytes(network(3, 2_000_000).SerializeToString())
    source: Source = open_source(path)
    model = wire.parse(source, source.alone)
    assert len(model.neuralNetwork.layers) == 3
    assert source.bytes_read < 100_000
    assert wire.field_numbers(source, source.alone) == [1, 2, 500]

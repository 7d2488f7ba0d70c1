"""Our declaration of the Core ML format against the descriptors that Apple publishes in coremltools."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anecompat import proto

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def apple() -> dict[str, Any]:
    """Apple's messages and enums by name without their package (no two packages of the format share a name)."""
    model_pb2 = pytest.importorskip("coremltools.proto.Model_pb2")
    files: dict[str, Any] = {}

    def visit(file: Any) -> None:
        if file.name not in files:
            files[file.name] = file
            for dependency in file.dependencies:
                visit(dependency)

    visit(model_pb2.DESCRIPTOR)
    found: dict[str, Any] = {}
    for file in files.values():
        for declared in [*file.message_types_by_name.values(), *file.enum_types_by_name.values()]:
            assert declared.name not in found
            found[declared.name] = declared
    return found


def our_file() -> Any:
    return proto.descriptor("Model").file


OURS = {"Dropped", "dropped"}  # a message and the fields of that type


def our_messages() -> list[Any]:
    return [m for m in our_file().message_types_by_name.values() if m.name not in OURS]


def our_fields(message: Any) -> list[Any]:
    return [f for f in message.fields if f.name not in OURS]


def messages(declared: Any) -> Iterator[Any]:
    yield declared
    for nested in declared.nested_types:
        yield from messages(nested)


def short(declared: Any) -> str:
    """A name without its package: the outer message's name first."""
    names = []
    while declared is not None:
        names.insert(0, declared.name)
        declared = declared.containing_type
    return ".".join(names)


def find(apple: dict[str, Any], name: str) -> Any:
    top, *nested = name.split(".")
    declared = apple[top]
    for step in nested:
        declared = declared.nested_types_by_name.get(step) or declared.enum_types_by_name[step]
    return declared


def facts(field: Any) -> tuple[object, ...]:
    kind = field.message_type or field.enum_type
    oneof = field.containing_oneof
    return (
        field.name,
        field.number,
        field.type,
        field.is_repeated,
        field.is_packed,
        field.has_presence,
        short(kind) if kind is not None else "",
        oneof.name if oneof is not None else "",
    )


def test_every_declared_field_is_apples(apple: dict[str, Any]) -> None:
    count = 0
    for top in our_messages():
        for message in messages(top):
            theirs = find(apple, short(message)).fields_by_name
            for field in our_fields(message):
                assert facts(field) == facts(theirs[field.name]), short(message)
                count += 1
    assert count > 800


def test_every_declared_oneof_is_complete(apple: dict[str, Any]) -> None:
    """A missing member would make another kind read as unset."""
    for top in our_messages():
        for message in messages(top):
            for oneof in message.oneofs:
                theirs = find(apple, short(message)).oneofs_by_name[oneof.name]
                assert [f.name for f in oneof.fields] == [f.name for f in theirs.fields], short(message)


def test_every_enum_is_apples(apple: dict[str, Any]) -> None:
    ours = list(our_file().enum_types_by_name.values())
    for top in our_messages():
        for message in messages(top):
            ours += message.enum_types
    for enum in ours:
        theirs = find(apple, short(enum))
        assert {v.name: v.number for v in enum.values} == {v.name: v.number for v in theirs.values}, short(enum)
    assert {enum.name for enum in ours} >= {"DataType", "ColorSpace", "ArrayDataType"}


def test_our_own_field_is_far_from_apples(apple: dict[str, Any]) -> None:
    holders = [m for top in our_messages() for m in messages(top) if "dropped" in m.fields_by_name]
    assert {short(m) for m in holders} >= {"WeightParams", "TensorValue.RepeatedFloats"}
    for message in holders:
        assert message.fields_by_name["dropped"].number > 1000 * max(
            f.number for f in find(apple, short(message)).fields
        )


def test_every_kind_of_model_and_of_layer_is_declared(apple: dict[str, Any]) -> None:
    kinds = {f.name: f.number for f in proto.descriptor("Model").oneofs_by_name["Type"].fields}
    assert kinds == {f.name: f.number for f in apple["Model"].oneofs_by_name["Type"].fields}
    assert len(kinds) == 37
    layers = {f.name: f.number for f in proto.descriptor("NeuralNetworkLayer").oneofs_by_name["layer"].fields}
    assert layers == {f.name: f.number for f in apple["NeuralNetworkLayer"].oneofs_by_name["layer"].fields}
    assert len(layers) == 158


def test_layers_are_declared_whole(apple: dict[str, Any]) -> None:
    """Every field of every layer: lowering may need any of them."""
    for field in proto.descriptor("NeuralNetworkLayer").oneofs_by_name["layer"].fields:
        for message in messages(field.message_type):
            theirs = find(apple, short(message))
            assert {f.name for f in our_fields(message)} == {f.name for f in theirs.fields}, short(message)


def test_lives_beside_coremltools_in_one_process() -> None:
    """Both read the same bytes, ours imported first; then the other way round."""
    pytest.importorskip("coremltools")
    for order in (
        ("anecompat.proto", "coremltools.proto.Model_pb2"),
        ("coremltools.proto.Model_pb2", "anecompat.proto"),
    ):
        script = (
            f"import importlib\nfirst, second = [importlib.import_module(n) for n in {order}]\n"
            "data = first.Model(specificationVersion=7).SerializeToString()\n"
            "print(second.Model.FromString(data).specificationVersion)\n"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "7"


def test_compiled_descriptors_are_what_the_proto_says() -> None:
    pytest.importorskip("grpc_tools")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "make_proto.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

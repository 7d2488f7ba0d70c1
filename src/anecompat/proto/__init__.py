"""The messages of the Core ML format, as declared in ``coreml.proto`` beside this file.

The descriptors live in a pool of their own: coremltools registers the same format in protobuf's default pool, and a
program may use both. Message classes are made at run time, so they are typed ``Any``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

DESCRIPTORS = Path(__file__).with_name("coreml.binpb")
PACKAGE = "anecompat.coreml"


def _load() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


_pool = _load()


def descriptor(name: str) -> Any:
    """The descriptor of a message, by its name in the format (``"NeuralNetwork"``). KeyError if it is not declared."""
    return _pool.FindMessageTypeByName(f"{PACKAGE}.{name}")


def message_class(name: str) -> Any:
    """The message class by its name in the format, nested ones with a dot. KeyError if undeclared."""
    return message_factory.GetMessageClass(descriptor(name))


def enum_names(name: str) -> dict[int, str]:
    """The numbers of an enum with their names: ``enum_names("DataType")[10] == "FLOAT16"``."""
    return {value.number: value.name for value in _pool.FindEnumTypeByName(f"{PACKAGE}.{name}").values}


Model: Any = message_class("Model")
ModelDescription: Any = message_class("ModelDescription")
NeuralNetwork: Any = message_class("NeuralNetwork")
Program: Any = message_class("Program")

__all__ = ["Model", "ModelDescription", "NeuralNetwork", "Program", "descriptor", "enum_names", "message_class"]

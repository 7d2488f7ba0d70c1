"""Values of MIL's protobuf form: types, their spelling, and the elements of immediate tensors and of weight blobs.

Sources: MIL.proto of the format; for the packing of bytes coremltools 9.0 (converters/mil/mil/types: little endian,
sub-byte elements from the lowest bit up).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from anecompat.errors import ReadError
from anecompat.ir import Blob, Constant, OtherType, Scalar, StateType, TensorType, Unknown, ValueType
from anecompat.proto import enum_names
from anecompat.readers.source import Source
from anecompat.readers.wire import payload

_SPELLED = {"FLOAT16": "fp16", "FLOAT32": "fp32", "FLOAT64": "fp64", "BFLOAT16": "bf16", "UNUSED_TYPE": "unknown"}


def _spelled(name: str) -> str:
    return _SPELLED.get(name) or name.lower().replace("float8", "fp8")


DTYPES = {number: _spelled(name) for number, name in enum_names("DataType").items()}
BITS = {"bool": 8, "bf16": 16, "fp8e4m3fn": 8, "fp8e5m2": 8} | {
    kind + str(bits): bits for kind in ("fp", "int", "uint") for bits in (1, 2, 3, 4, 6, 8, 16, 32, 64)
}
_STRUCT = {
    "fp16": "e",
    "fp32": "f",
    "fp64": "d",
    "int8": "b",
    "uint8": "B",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "bool": "?",
}


def dtype(number: int) -> str:
    """MIL's spelling of an element type; "unknown" with its number for one that nobody told us of."""
    return DTYPES.get(number) or f"unknown({number})"


def type_of(message: Any) -> ValueType:
    """The type in a ValueType message. ReadError (without a place) where it has none."""
    kind = message.WhichOneof("type")
    if kind == "tensorType":
        return _tensor(message.tensorType)
    if kind == "stateType":
        inner = type_of(message.stateType.wrappedType)
        if not isinstance(inner, TensorType):
            raise ReadError(f"a state holds a {inner}, and only tensors can be kept")
        return StateType(inner)
    if kind is None:
        raise ReadError("a value has no type; the file is damaged, export the model again")
    return OtherType(spelling(message))


def _tensor(tensor: Any) -> TensorType:
    element = dtype(tensor.dataType)
    if tensor.rank < 0:
        return TensorType(element, None)
    shape: list[int | None] = []
    for dimension in tensor.dimensions:
        known = dimension.WhichOneof("dimension") == "constant"
        if not known and dimension.unknown.variadic:
            return TensorType(element, None)
        shape.append(dimension.constant.size if known else None)
    if len(shape) != tensor.rank:
        raise ReadError(f"a tensor of rank {tensor.rank} has {len(shape)} dimensions; the file is damaged")
    return TensorType(element, tuple(shape))


def spelling(message: Any) -> str:
    """A type as MIL text spells it: ``list<tensor<fp32, [1, ?]>, 4>``."""
    kind = message.WhichOneof("type")
    if kind == "tensorType":
        tensor = _tensor(message.tensorType)
        dims = "..." if tensor.shape is None else ", ".join("?" if d is None else str(d) for d in tensor.shape)
        return f"tensor<{tensor.dtype}, [{dims}]>"
    if kind == "listType":
        length = message.listType.length
        known = length.WhichOneof("dimension") == "constant"
        return f"list<{spelling(message.listType.type)}, {length.constant.size if known else '?'}>"
    if kind == "tupleType":
        return f"tuple<{', '.join(spelling(each) for each in message.tupleType.types)}>"
    if kind == "dictionaryType":
        entry = message.dictionaryType
        return f"dict<{spelling(entry.keyType)}, {spelling(entry.valueType)}>"
    if kind == "stateType":
        return f"state<{spelling(message.stateType.wrappedType)}>"
    raise ReadError("a value has no type; the file is damaged, export the model again")


class Values:
    """Makes constants of Value messages. ``source`` and ``name`` say which file left-out payloads lie in."""

    def __init__(self, source: Source, name: str, weights: Callable[[str, int, TensorType], Sequence[Scalar]]) -> None:
        self._source = source
        self._name = name
        self._weights = weights
        self._types: dict[bytes, ValueType] = {}

    def type(self, message: Any) -> ValueType:
        """``type_of``, each distinct type made once."""
        key = message.SerializeToString()
        found = self._types.get(key)
        if found is None:
            found = self._types[key] = type_of(message)
        return found

    def constant(self, value: Any) -> Constant:
        """The constant of a Value message; its elements are decoded when asked for."""
        kind = self.type(value.type)
        if value.WhichOneof("value") == "blobFileValue":
            file = value.blobFileValue
            blob = Blob(file.fileName, file.offset)
            load = None
            if isinstance(kind, TensorType):
                load = partial(self._weights, blob.path, blob.offset, kind)
            return Constant(kind, load, blob=blob)
        return Constant(kind, partial(self.elements, value, kind))

    def elements(self, value: Any, kind: ValueType) -> Sequence[Scalar]:
        """The elements of an immediate value, row-major. Unknown where they are too many or contradict the type."""
        immediate = value.immediateValue
        which = immediate.WhichOneof("value")
        if which == "tensor":
            if not isinstance(kind, TensorType):
                raise Unknown(f"a tensor is given where the type says {kind}")
            return self._tensor(immediate.tensor, kind)
        if which in ("list", "tuple"):
            items = getattr(immediate, which).values
            return [each for item in items for each in self.elements(item, type_of(item.type))]
        raise Unknown(f"the value of a {kind} is not in the file")

    def text(self, value: Any) -> str:
        """The string in a Value message, "" if it holds none."""
        strings = value.immediateValue.tensor.strings.values
        return strings[0] if strings else ""

    def _tensor(self, tensor: Any, kind: TensorType) -> Sequence[Scalar]:
        field = tensor.WhichOneof("value")
        if field is None:
            raise Unknown("the value is not in the file")
        found = payload(self._source, self._name, getattr(tensor, field), "values")
        if field == "bytes":
            return unpacked(found, kind)
        return _counted(list(found), kind)


def _counted(elements: list[Scalar], kind: TensorType) -> Sequence[Scalar]:
    if kind.is_fixed and len(elements) != math.prod(kind.fixed()):
        raise Unknown(f"a value of type {kind} holds {len(elements)} elements")
    return elements


def unpacked(data: bytes, kind: TensorType) -> Sequence[Scalar]:
    """The elements in packed bytes, little endian. Unknown where the bytes are too few for the type."""
    code = _STRUCT.get(kind.dtype)
    bits = BITS.get(kind.dtype)
    if bits is None:
        raise Unknown(f"elements of type {kind.dtype} cannot be decoded")
    count = math.prod(kind.fixed()) if kind.is_fixed else len(data) * 8 // bits
    if count * bits > len(data) * 8:
        raise Unknown(f"a value of type {kind} holds {len(data)} bytes")
    if code is not None:
        return struct.unpack_from(f"<{count}{code}", data)
    if kind.dtype == "bf16":
        words = struct.unpack_from(f"<{count}H", data)
        return struct.unpack(f"<{count}f", struct.pack(f"<{count}I", *(word << 16 for word in words)))
    if kind.dtype.startswith("fp8"):
        return [_fp8(byte, kind.dtype) for byte in data[:count]]
    packed = int.from_bytes(data[: (count * bits + 7) // 8], "little") if count <= 4096 else None
    if packed is None:
        raise Unknown(f"a value of type {kind} is too long to be unpacked")
    found = [packed >> index * bits & ((1 << bits) - 1) for index in range(count)]
    if kind.dtype.startswith("uint"):
        return found
    return [each - (1 << bits) if each >> (bits - 1) else each for each in found]


def _fp8(byte: int, kind: str) -> float:
    """The number in an 8-bit float (OCP 8-bit floating point specification, E4M3 and E5M2)."""
    sign = -1.0 if byte & 0x80 else 1.0
    mantissa_bits, bias = (3, 7) if kind == "fp8e4m3fn" else (2, 15)
    exponent = byte >> mantissa_bits & (0x7F >> mantissa_bits)
    mantissa = byte & ((1 << mantissa_bits) - 1)
    if kind == "fp8e4m3fn":
        if byte & 0x7F == 0x7F:
            return math.nan
    elif exponent == 31:
        return sign * math.inf if mantissa == 0 else math.nan
    if exponent == 0:
        return float(sign * math.ldexp(mantissa, 1 - bias - mantissa_bits))
    return float(sign * math.ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits))

"""``coremldata.bin``: what a compiled model says of itself.

Apple documents nothing of it. The layout below holds for all 24 files of published models (2017 to 2025): little
endian, the number of the model's kind (as in the format's Model message), three numbers of eight bytes, a text with
its length in front that tells how the model is stored, the specification version, three more numbers, then

    storage "generic..."   a length and a ModelDescription message, then for networks their outputs or class labels
    storage "spec"         a whole Model message, up to the end of the file

The text of a pipeline goes on with its stages: "generic.model0v5.0.0generic.model1v1.0.0spec".
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from anecompat.errors import ReadError
from anecompat.proto import Model as ModelMessage
from anecompat.readers.source import Source

NAME = "coremldata.bin"
MOST_DESCRIPTION = 16 << 20  # bytes of a ModelDescription; those seen have 2 KB
MOST_STORAGE = 1 << 16
SCANNED = 4096
_STAGE = re.compile(rb"\.(model\d{1,4})v")
_STRING_LABELS, _INTEGER_LABELS = 100, 101  # fields of NeuralNetworkClassifier, which the file uses as numbers

KINDS: dict[int, str] = {field.number: field.name for field in ModelMessage.DESCRIPTOR.oneofs_by_name["Type"].fields}


@dataclass(frozen=True, slots=True)
class Described:
    """A compiled model's own words: its kind as the format spells it ("" if the number is unknown), the version, a
    Model message that holds the description alone, the names of its stages' folders, and how many class labels it has
    (0 for none or unknown)."""

    kind: str
    spec_version: int
    message: Any
    stages: tuple[str, ...] = ()
    labels: int = 0


def describe(source: Source, name: str = NAME) -> Described:
    """The description in a ``coremldata.bin``. ReadError where none is found."""
    size = source.size(name)
    head = source.read_at(name, 0, SCANNED)
    found = _laid_out(source, name, head, size) or _scanned(source, name, head, size)
    if found is None:
        raise ReadError("no model description was found in it; the file is damaged", place=source.place(name))
    return found


def _laid_out(source: Source, name: str, head: bytes, size: int) -> Described | None:
    if len(head) < 36:
        return None
    number, length = struct.unpack_from("<I24xQ", head)
    kind = KINDS.get(number, "")
    if length > MOST_STORAGE:
        return None
    rest = source.read_at(name, 36, length + 40)
    storage = rest[:length]
    if len(rest) < length + 40:
        return None
    (spec_version,) = struct.unpack_from("<Q", rest, length)
    at = 36 + length + 32
    message = ModelMessage()
    if storage == b"spec":
        description = _field(source, name, at, size)
        after = size
    elif storage.startswith(b"generic"):
        (held,) = struct.unpack_from("<Q", rest, length + 32)
        description = source.read_at(name, at + 8, held) if held <= min(size, MOST_DESCRIPTION) else None
        after = at + 8 + held
    else:
        return None
    if description is None or not _parsed(message, description):
        return None
    message.specificationVersion = min(spec_version, 1000)
    stages = tuple(match.decode() for match in _STAGE.findall(storage))
    return Described(kind, int(message.specificationVersion), message, stages, _labels(source, name, after))


def _parsed(message: Any, description: bytes) -> bool:
    try:
        message.description.ParseFromString(description)
    except DecodeError:
        return False
    return len(message.description.input) + len(message.description.output) > 0


def _field(source: Source, name: str, at: int, size: int) -> bytes | None:
    """The description (field 2) of the Model message that lies from ``at`` to the end; the rest stays unread."""
    for _ in range(100):
        if at >= size:
            return None
        head = source.read_at(name, at, 20)
        tag, begin = _varint(head, 0)
        value, begin = _varint(head, begin)
        if tag == 2 << 3 | 2:
            length_fits = value <= min(size - at, MOST_DESCRIPTION)
            return source.read_at(name, at + begin, value) if length_fits else None
        if tag & 7 not in (0, 2) or begin > len(head):
            return None
        at += begin + (value if tag & 7 == 2 else 0)
    return None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value, at + shift + 1
    return 0, len(data) + 1


def _labels(source: Source, name: str, at: int) -> int:
    behind = source.read_at(name, at, 24)
    if len(behind) < 24:
        return 0
    _, kind, count = struct.unpack("<QQQ", behind)
    return int(count) if kind in (_STRING_LABELS, _INTEGER_LABELS) and count < 1 << 24 else 0


def _scanned(source: Source, name: str, head: bytes, size: int) -> Described | None:
    """A preamble of another form: the first length whose bytes are a ModelDescription with inputs and outputs."""
    number = int.from_bytes(head[:4], "little")
    for at in range(len(head) - 8):
        length = int.from_bytes(head[at : at + 8], "little")
        if not 4 <= length <= min(size - at - 8, MOST_DESCRIPTION):
            continue
        message = ModelMessage()
        if _parsed(message, source.read_at(name, at + 8, length)):
            description = message.description
            if all(each.name and each.type.WhichOneof("Type") for each in (*description.input, *description.output)):
                return Described(KINDS.get(number, ""), 0, message)
    return None

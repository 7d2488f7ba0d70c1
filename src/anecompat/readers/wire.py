"""Protobuf files read for their structure: payloads are skipped on the wire and only the rest is parsed.

A Core ML file may hold a gigabyte of weights inside its message. ``parse`` walks the wire format with small positioned
reads, guided by the descriptors, and gives protobuf the few kilobytes that are left. What was left out is not empty:
the message that held it carries a mark (``Dropped`` in coreml.proto) with offset and length, and ``payload`` fetches
those bytes when a verdict needs them.

The bytes are untrusted. Every rule of the format that is broken ends in a ReadError naming the byte offset; time is
bounded per byte and memory by ``MOST_STRUCTURE``. Format: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError

from anecompat.errors import ReadError
from anecompat.ir import Unknown
from anecompat.proto import descriptor, message_class
from anecompat.readers.source import Source

WHOLE = 1 << 20  # a file up to this size is parsed as it is: reading it costs less than walking it
SMALL = 2048  # a message up to this size is kept without a look inside; a payload above it is dropped
LONG = 1 << 16  # a string or list above this size is no name and no parameter
MOST_STRUCTURE = 32 << 20  # bytes left after dropping: 100,000 operations; protobuf takes up to 40 times of it
MOST_MESSAGES = 1_000_000  # layers, operations, features
MOST_DEPTH = 100  # protobuf's own limit
MOST_FETCHED = 1 << 20  # bytes of one dropped payload that are fetched
MARK = 500000001  # the field ``dropped`` of coreml.proto
FIRST_READ, MOST_READ = 1 << 12, 1 << 18

PROSE = frozenset(  # messages whose long strings decide nothing
    ("Metadata", "UserDefinedEntry", "StringVector", "CustomModel", "CustomLayerParamValue", "SerializedModel")
)
_MESSAGE, _TEXT, _NUMBERS, _NUMBER = range(4)
_WIRE = {1: 1, 2: 5, 6: 1, 7: 5, 15: 5, 16: 1, 9: 2, 11: 2, 12: 2}  # by FieldDescriptor.type; all others are varints


@dataclass(slots=True)
class _Field:
    name: str
    number: int
    kind: int
    wire: int
    message: Any  # the descriptor of a message field
    text: bool  # a string, which has to be UTF-8


@dataclass(slots=True)
class _Schema:
    name: str
    fields: dict[int, _Field]
    marked: bool  # has the field ``dropped``
    prose: bool


_schemas: dict[str, _Schema] = {}


def _schema(message: Any) -> _Schema:
    found = _schemas.get(message.full_name)
    if found is None:
        fields = {}
        for field in message.fields:
            if field.number == MARK:
                continue
            wire = _WIRE.get(field.type, 0)
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                kind = _MESSAGE
            elif wire == 2:
                kind = _TEXT
            else:
                kind = _NUMBERS if _repeated(field) else _NUMBER
            text = field.type == FieldDescriptor.TYPE_STRING
            fields[field.number] = _Field(field.name, field.number, kind, wire, field.message_type, text)
        found = _Schema(message.name, fields, MARK in message.fields_by_number, message.name in PROSE)
        _schemas[message.full_name] = found
    return found


def _repeated(field: Any) -> bool:
    """protobuf 6.31 added ``is_repeated``; later versions are to drop ``label``."""
    if hasattr(field, "is_repeated"):
        return bool(field.is_repeated)
    return bool(field.label == FieldDescriptor.LABEL_REPEATED)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_runs: dict[tuple[int, int], re.Pattern[bytes]] = {}


def _run(number: int, wire: int) -> re.Pattern[bytes]:
    """Numbers of one field, each with its own tag, as many as follow each other."""
    found = _runs.get((number, wire))
    if found is None:
        value = {0: rb"[\x80-\xff]{0,9}+[\x00-\x7f]", 1: rb".{8}", 5: rb".{4}"}[wire]
        found = re.compile(b"(?:" + re.escape(_varint(number << 3 | wire)) + value + b")++", re.DOTALL)
        _runs[number, wire] = found
    return found


class _Walk:
    """One pass over one message of a file. ``strict`` looks into everything, to find what protobuf refused."""

    def __init__(self, source: Source, name: str, strict: bool) -> None:
        self.source = source
        self.name = name
        self.strict = strict
        self.small = 0 if strict else SMALL
        self.size = source.size(name)
        self.data = b""
        self.base = 0
        self.step = FIRST_READ
        self.parts: list[bytes] = []
        self.written = 0
        self.messages = 0
        self.kept = 0  # from here on bytes are kept but not yet in ``parts``

    def error(self, offset: int, what: str) -> ReadError:
        return ReadError(f"byte {offset:,}: {what}", place=self.source.place(self.name))

    def write(self, part: bytes) -> None:
        self.parts.append(part)
        self.written += len(part)
        if self.written > MOST_STRUCTURE:
            raise self.error(
                self.kept, f"the structure alone takes more than {MOST_STRUCTURE >> 20} MB; this is no model to be read"
            )

    def keep_until(self, offset: int) -> None:
        """Write the kept bytes up to ``offset`` (those beyond the window are read now)."""
        end = self.base + len(self.data)
        if self.kept < offset:
            if self.kept < end:
                self.write(self.data[self.kept - self.base : min(offset, end) - self.base])
            at = max(self.kept, end)
            while at < offset:
                part = self.source.read_at(self.name, at, min(MOST_READ, offset - at))
                if not part:
                    raise self.error(at, "the file ended while it was read")
                self.write(part)
                at += len(part)
        self.kept = offset

    def load(self, offset: int) -> None:
        """Move the window to ``offset``; a walk without jumps reads ever more at once."""
        end = self.base + len(self.data)
        if self.kept < offset:
            self.keep_until(offset)
        self.step = min(self.step * 2, MOST_READ) if offset <= end else FIRST_READ
        self.base, self.data = offset, self.source.read_at(self.name, offset, self.step)

    def message(self, schema: _Schema, pos: int, end: int, depth: int) -> None:
        """Walk the message in [pos, end). ``parts`` and ``kept`` then hold what is kept of it."""
        if depth > MOST_DEPTH:
            raise self.error(pos, f"messages lie in each other more than {MOST_DEPTH} deep; the file is damaged")
        if not schema.fields:
            self.keep_until(pos)
            self.kept = end
            return
        fields = schema.fields
        while pos < end:
            at = pos - self.base
            if at < 0 or at + 20 > len(self.data):
                if self.base + len(self.data) < self.size or at < 0:
                    self.load(pos)
                    at = 0
                if at >= len(self.data):
                    raise self.error(pos, "the file ended while it was read")
            data = self.data
            tag = data[at]
            start = pos
            if tag < 0x80:
                at += 1
            else:
                tag, at = self.varint(at)
            wire = tag & 7
            field = fields.get(tag >> 3)
            if wire == 2:
                if at < len(data) and data[at] < 0x80:
                    length = data[at]
                    at += 1
                else:
                    length, at = self.varint(at)
                pos = self.base + at
                stop = pos + length
                if stop > end:
                    self.too_long(schema, field, tag, start, length, end - pos)
                if field is None or (field.wire != 2 and field.kind != _NUMBERS):
                    self.drop(start, stop)
                elif field.kind == _MESSAGE:
                    self.messages += 1
                    if length > self.small:
                        self.inside(field, start, pos, stop, depth)
                elif length > self.small:
                    self.large(schema, field, start, pos, stop)
                pos = stop
                continue
            if wire == 0:
                if at < len(data) and data[at] < 0x80:
                    at += 1
                else:
                    _, at = self.varint(at)
            elif wire == 5:
                at += 4
            elif wire == 1:
                at += 8
            else:
                raise self.error(start, f"wire type {wire} has no place in a Core ML file; the file is damaged")
            pos = self.base + at
            if pos > end:
                self.too_long(schema, field, tag, start, pos - start, end - start)
            if tag >> 3 == 0:
                raise self.error(start, "field number 0 does not exist; the file is damaged")
            if field is None or field.wire != wire:
                self.drop(start, pos)
            elif field.kind == _NUMBERS:
                pos = self.run(schema, field, start, pos, end)
        if self.messages > MOST_MESSAGES and not self.strict:
            raise self.error(end, f"there are more than {MOST_MESSAGES:,} messages; this is no model to be read")
        if pos > end:
            raise self.error(end, f"{schema.name} is longer than what holds it; the file is damaged")

    def varint(self, at: int) -> tuple[int, int]:
        value = shift = 0
        data = self.data
        for here in range(at, min(at + 10, len(data))):
            byte = data[here]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, here + 1
            shift += 7
        if at + 10 <= len(data):
            raise self.error(self.base + at, "a number is longer than 10 bytes; the file is damaged")
        raise self.error(self.base + at, "the file ends inside a number; it is cut short")

    def too_long(self, schema: _Schema, field: _Field | None, tag: int, start: int, length: int, room: int) -> None:
        name = f"{schema.name}.{field.name}" if field else f"field {tag >> 3} of {schema.name}"
        cut = " The file looks cut short: copy or download it again." if start + length > self.size else ""
        raise self.error(start, f"{name} claims {length:,} bytes where only {max(room, 0):,} are left.{cut}")

    def drop(self, start: int, stop: int) -> None:
        self.keep_until(start)
        self.kept = stop

    def mark(self, field: _Field, offset: int, length: int, tagged: bool) -> None:
        body = b"\x08" + _varint(field.number) + b"\x10" + _varint(offset) + b"\x18" + _varint(length)
        if tagged:
            body += b"\x20\x01"
        self.write(_varint(MARK << 3 | 2) + _varint(len(body)) + body)

    def inside(self, field: _Field, start: int, pos: int, stop: int, depth: int) -> None:
        """A message field: walk it, then write its head with the length of what was kept."""
        self.keep_until(start)
        self.kept = pos
        slot = len(self.parts)
        self.parts.append(b"")
        before = self.written
        self.message(_schema(field.message), pos, stop, depth + 1)
        self.keep_until(stop)
        head = _varint(field.number << 3 | 2) + _varint(self.written - before)
        self.parts[slot] = head
        self.written += len(head)

    def large(self, schema: _Schema, field: _Field, start: int, pos: int, stop: int) -> None:
        """A payload, string or list of more than SMALL bytes: drop or keep."""
        length = stop - pos
        if schema.marked and length > SMALL:
            self.drop(start, stop)
            self.mark(field, pos, length, tagged=False)
        elif length > LONG:
            if not (schema.prose or schema.name == "Int64Vector"):
                raise self.error(start, f"{schema.name}.{field.name} of {length:,} bytes is no name and no parameter")
            self.drop(start, stop)
        elif self.strict and field.kind == _NUMBERS and length % {1: 8, 5: 4}.get(field.wire, 1):
            raise self.error(start, f"{schema.name}.{field.name} ends inside a number; the file is damaged")
        elif self.strict and field.text:
            try:
                self.source.read_at(self.name, pos, length).decode()
            except UnicodeDecodeError as error:
                raise self.error(pos + error.start, f"{schema.name}.{field.name} is no UTF-8 text") from None

    def run(self, schema: _Schema, field: _Field, start: int, pos: int, end: int) -> int:
        """Numbers that each have their own tag: pass them all at once. Returns where they end."""
        pattern = _run(field.number, field.wire)
        self.keep_until(start)
        while True:
            window = self.base + len(self.data)
            if pos < end and window < min(end + 20, self.size) and window - pos < 20:
                if pos - start <= SMALL:
                    pos = start  # look at all of it in one window
                elif schema.marked:
                    self.kept = pos
                self.load(pos)
            found = pattern.match(self.data, pos - self.base, min(len(self.data), end - self.base))
            if found is None:
                break
            pos = self.base + found.end()
        length = pos - start
        if length > SMALL and schema.marked:
            self.kept = pos
            self.mark(field, start, length, tagged=True)
        elif length > LONG:
            raise self.error(start, f"{schema.name}.{field.name} of {length:,} bytes is no parameter")
        return pos


def prune(source: Source, name: str, message: str = "Model", *, strict: bool = False) -> bytes:
    """The message in a file without its payloads, each replaced by a mark. ReadError with the byte offset of a fault.

    ``strict`` also looks into what is small enough to be kept as it is.
    """
    walk = _Walk(source, name, strict)
    walk.message(_schema(descriptor(message)), 0, walk.size, 0)
    walk.keep_until(walk.size)
    return b"".join(walk.parts)


def parse(source: Source, name: str, message: str = "Model") -> Any:
    """The message in a file, payloads of more than SMALL bytes left out and marked where the file is large.

    ReadError says the byte offset where the file is damaged or cut short.
    """
    made = message_class(message)
    if source.size(name) <= WHOLE:
        try:
            return made.FromString(source.read(name, WHOLE))
        except DecodeError:
            prune(source, name, message, strict=True)  # finds the place, or shows that no field we use is damaged
    try:
        return made.FromString(prune(source, name, message))
    except DecodeError:
        prune(source, name, message, strict=True)
        raise ReadError(
            f"the protobuf message cannot be parsed as a Core ML {message}; the file is damaged",
            place=source.place(name),
        ) from None


def payload(source: Source, name: str, holder: Any, field: str) -> Any:
    """The value of a field that may have been left out: of ``holder`` itself, or fetched from the file.

    Unknown where it is larger than MOST_FETCHED bytes, or cannot be told (kept and left out in parts).
    """
    kept = getattr(holder, field)
    wanted = holder.DESCRIPTOR.fields_by_name[field]
    marks = [mark for mark in holder.dropped if mark.field == wanted.number]
    if not marks:
        return kept
    total = sum(mark.length for mark in marks)
    if total > MOST_FETCHED:
        raise Unknown(f"the value is {total:,} bytes long, and so much is not read of a value")
    if len(kept) or len(marks) > 1:
        raise Unknown("the value lies in several pieces of the file")
    try:
        data = source.read_at(name, marks[0].offset, marks[0].length)
    except ReadError as error:  # the file may be gone by now
        raise Unknown(f"the value cannot be read any more: {error}") from None
    if len(data) < marks[0].length:
        raise Unknown("the value lies beyond the end of the file")
    if not marks[0].tagged:
        data = _varint(wanted.number << 3 | 2) + _varint(len(data)) + data
    try:
        return getattr(type(holder).FromString(data), field)
    except DecodeError:
        raise Unknown("the value is damaged in the file") from None


def field_numbers(source: Source, name: str) -> list[int]:
    """The numbers of the outermost fields, as far as they can be read: what tells an unknown kind of model."""
    found: list[int] = []
    pos, size = 0, source.size(name)
    while pos < size and len(found) < 100:
        head = source.read_at(name, pos, 20)
        tag, at = _short_varint(head, 0)
        length, behind = _short_varint(head, at)
        pos += {0: behind, 1: at + 8, 2: behind + length, 5: at + 4}.get(tag & 7, size)
        found.append(tag >> 3)
    return found


def _short_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, at + index + 1
    return 0, len(data)

"""A place in MIL text: tokens, types and values, and errors that say line and column.

Facts: ``tensor_buffer`` and its ``shape=`` form come from the ``analytics.mil`` files that Core ML leaves in its
compile cache (751K/Apple-Neural-Engine-Microarchitecture-Study-M6, data/03_compile/opdispatch/ana).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

from anecompat.errors import ReadError
from anecompat.ir import Blob, Constant, OtherType, Scalar, StateType, TensorType, ValueType
from anecompat.readers.mil_values import DTYPE, ELEMENT, NESTED_NUMBERS, NUMBER, lazy_constant, structured

NEST_DEPTH = 60  # nested types, literals and blocks; models in the wild have five or so. Bounds Python's recursion.

WORD = r"[A-Za-z_][\w.$@]*+"
_SKIP = re.compile(r"(?:\s++|//[^\n]*+|#[^\n]*+)*+")
_TOKEN = re.compile(
    rf'(?P<number>{NUMBER})|(?P<word>{WORD})|(?P<string>"(?:[^"\\]|\\.)*+")|(?P<mark>->|[][(){{}}<>,;=?])',
    re.DOTALL,
)
# The compiler's spelling of a type, of a string, of numbers and of a payload elsewhere, for regular expressions.
SPELLING = r"(?:tensor<\w++, *+\[[\d, ?]*+\]>|\w++)"
TEXT = r'(?:tensor<string, *+\[\]>|string)\("([^"\\]*+)"\)'
NUMBERS = rf"\[*+{ELEMENT}(?:\]*+, *+\[*+{ELEMENT})*+\]*+"
BLOBFILE = rf"BLOBFILE\(path *+= *+{TEXT}, *+offset *+= *+(?:tensor<uint64, *+\[\]>|uint64)\((\d{{1,18}}+)\)\)"

_SPELLED = re.compile(SPELLING)
_REGULAR_VALUE = re.compile(rf"({SPELLING})\((?:({NUMBERS})|(\"[^\"\\]*+\")|{BLOBFILE})\)")
_DIMENSION = re.compile(r"\d{1,18}(?!\d)")


def balanced(numbers: str | None) -> bool:
    """Whether a list of numbers closes as many brackets as it opens."""
    return numbers is None or numbers.count("[") == numbers.count("]")


# Fetches the elements of a payload elsewhere: its path, its offset, its type. Unknown where they cannot be had cheaply.
Elements = Callable[[str, int, TensorType], Sequence[Scalar]]


def stored(type: ValueType, blob: Blob, elements: Elements | None) -> Constant:
    """A constant in a weight file."""
    if elements is None or not isinstance(type, TensorType):
        return Constant(type, blob=blob)
    return Constant(type, partial(elements, blob.path, blob.offset, type), blob=blob)


@dataclass(frozen=True, slots=True)
class Literal:
    """A typed value as written: its literal's text, or where its payload lies."""

    type: ValueType
    text: str
    blob: Blob | None = None

    def constant(self, elements: Elements | None = None) -> Constant:
        """The value as a constant, decoded when asked; ``elements`` fetches what lies in a weight file."""
        if self.blob is not None:
            return stored(self.type, self.blob, elements)
        return lazy_constant(self.text, self.type)

    def decoded(self) -> object:
        """The value as nested lists and dictionaries of plain values; None for a payload elsewhere."""
        return None if self.blob is not None else structured(self.text)


class Cursor:
    """Walks a text. Every method leaves ``at`` behind what it read, or raises ReadError with line and column."""

    def __init__(self, text: str, path: str) -> None:
        self.text = text
        self.path = path
        self.at = 0
        self.spellings: dict[str, ValueType] = {}
        self._depth = 0

    def fail(self, message: str, at: int | None = None) -> NoReturn:
        where = self.at if at is None else at
        line = self.text.count("\n", 0, where) + 1
        column = where - self.text.rfind("\n", 0, where)
        raise ReadError(message, place=f"{self.path}:{line}:{column}")

    def expected(self, what: str) -> NoReturn:
        self.skip()
        match = _TOKEN.match(self.text, self.at)
        if match:
            found = repr(match[0] if len(match[0]) <= 40 else match[0][:37] + "...")
        elif self.at >= len(self.text):
            found = "the end of the text"
        elif self.text[self.at] == '"':
            found = "a string that does not end"
        else:
            found = repr(self.text[self.at])
        self.fail(f"expected {what}, found {found}")

    def skip(self) -> int:
        """Step over white space and comments; returns the place reached."""
        match = _SKIP.match(self.text, self.at)
        if match:
            self.at = match.end()
        return self.at

    def peek(self, mark: str) -> bool:
        self.skip()
        return self.text.startswith(mark, self.at)

    def take(self, mark: str) -> bool:
        if self.peek(mark):
            self.at += len(mark)
            return True
        return False

    def eat(self, mark: str, why: str = "") -> None:
        if not self.take(mark):
            self.expected(f"{mark!r}{why}")

    def word(self, what: str) -> str:
        self.skip()
        match = _TOKEN.match(self.text, self.at)
        if match is None or match.lastgroup != "word":
            self.expected(what)
        self.at = match.end()
        return match[0]

    def deeper(self, what: str) -> None:
        self._depth += 1
        if self._depth > NEST_DEPTH:
            self.fail(f"{what} are nested more than {NEST_DEPTH} deep; no model needs that")

    def shallower(self) -> None:
        self._depth -= 1

    def type(self) -> ValueType:
        """A type, interned: the same spelling gives the same object."""
        start = self.skip()
        match = _SPELLED.match(self.text, start)
        if match is not None and (known := self.spellings.get(match[0])) is not None:
            self.at = match.end()
            return known
        name = self.word("a type")
        if not self.take("<"):
            if not DTYPE.fullmatch(name):
                self.fail(f"expected a type, found {name!r}", start)
            return self.spellings.setdefault(name, TensorType(name, ()))
        self.deeper("types")
        found: ValueType
        if name == "tensor":
            dtype = self._dtype()
            self.eat(",")
            found = TensorType(dtype, None if self.take("?") else self._dimensions())
        elif name == "tensor_buffer":
            found = TensorType(self._dtype(), self._buffer_shape())
        elif name == "state":
            inner = self.type()
            if not isinstance(inner, TensorType):
                self.fail(f"expected a tensor in a state, found {inner}", start)
            found = StateType(inner)
        else:
            self._walk_parameters()
            found = OtherType(re.sub(r"\s+", " ", self.text[start : self.at].strip()) + ">")
        self.eat(">")
        self.shallower()
        return self.spellings.setdefault(self.text[start : self.at], found)

    def spelled(self, spelling: str) -> ValueType | None:
        """The type of a spelling met for the first time; None where it is none (``type`` says why)."""
        cursor = Cursor(spelling, "")
        try:
            found = cursor.type()
        except ReadError:
            return None
        return self.spellings.setdefault(spelling, found)

    def _dtype(self) -> str:
        name = self.word("an element type")
        if not DTYPE.fullmatch(name):
            self.fail(f"expected an element type such as fp16 or int32, found {name!r}", self.at - len(name))
        return name

    def _dimensions(self) -> tuple[int | None, ...]:
        self.eat("[")
        dimensions: list[int | None] = []
        while not self.take("]"):
            if dimensions:
                self.eat(",", " or ']'")
            if self.take("?"):
                dimensions.append(None)
                continue
            match = _DIMENSION.match(self.text, self.skip())
            if match is None:
                self.expected("a dimension (a number or '?')")
            self.at = match.end()
            dimensions.append(int(match[0]))
        return tuple(dimensions)

    def _buffer_shape(self) -> tuple[int | None, ...] | None:
        shape: tuple[int | None, ...] | None = None
        while self.take(","):
            key = self.word("shape, strides or interleave_factors")
            self.eat("=")
            dimensions = self._dimensions()
            if key == "shape":
                shape = dimensions
        return shape

    def _walk_parameters(self) -> None:
        """The parameters of a list, tuple or dictionary type: balanced, otherwise of no interest."""
        while not self.peek(">"):
            match = _TOKEN.match(self.text, self.at)
            if match is None or match[0] in ("(", ")", "{", "}", ";"):
                self.expected("a type or '>'")
            self.at = match.end()
            if match[0] == "<":
                self.deeper("types")
                self._walk_parameters()
                self.eat(">")
                self.shallower()

    def value(self) -> Literal:
        """``TYPE(literal)``."""
        match = _REGULAR_VALUE.match(self.text, self.skip())
        if match is not None:
            spelled, numbers, string, path, offset = match.groups()
            known = self.spellings.get(spelled) or self.spelled(spelled)
            if known is not None and balanced(numbers):
                self.at = match.end()
                blob = None if path is None else Blob(path, int(offset))
                return Literal(known, numbers or string or "", blob)
        self.deeper("values")
        type = self.type()
        self.eat("(")
        if self.peek("BLOBFILE"):
            found = Literal(type, "", self._blob())
        else:
            found = Literal(type, self.literal())
        self.eat(")", " after the literal")
        self.shallower()
        return found

    def attributes(self, opening: str = "[", closing: str = "]") -> dict[str, Literal]:
        """``[name = value, ...]``, or nothing."""
        found: dict[str, Literal] = {}
        if not self.take(opening):
            return found
        while not self.take(closing):
            if found:
                self.eat(",", f" or {closing!r}")
            start = self.skip()
            name = self.word("the name of an attribute")
            if name in found:
                self.fail(f"{name!r} is given twice", start)
            self.eat("=")
            found[name] = self.value()
        return found

    def _blob(self) -> Blob:
        start = self.at
        self.word("BLOBFILE")
        fields = self.attributes("(", ")")
        path = fields["path"].decoded() if "path" in fields else None
        offset = fields["offset"].decoded() if "offset" in fields else None
        if not isinstance(path, str) or not isinstance(offset, int) or offset < 0:
            self.fail("expected BLOBFILE(path = string(...), offset = uint64(...))", start)
        return Blob(path, offset)

    def literal(self) -> str:
        """The text of a number, string, list, tuple or dictionary, checked to be well formed."""
        start = self.skip()
        match = NESTED_NUMBERS.match(self.text, start)
        if match and match.end() > start and self.text.startswith(")", match.end()):
            found = match[0].rstrip()
            if balanced(found):
                self.at = match.end()
                return found
        self._walk_literal()
        return self.text[start : self.at]

    def _walk_literal(self) -> None:
        for opening, closing in (("[", "]"), ("(", ")"), ("{", "}")):
            if self.take(opening):
                self.deeper("literals")
                if not self.take(closing):
                    self._walk_literal()
                    while not self.take(closing):
                        self.eat(",", f" or {closing!r}")
                        self._walk_literal()
                self.shallower()
                return
        match = _TOKEN.match(self.text, self.skip())
        if match is None or match.lastgroup == "mark":
            self.expected("a literal")
        if match.lastgroup == "word" and match[0] not in ("true", "false"):
            self.value()
        else:
            self.at = match.end()

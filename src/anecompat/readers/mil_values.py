"""Literals of MIL text: how they are spelled, and how one is decoded when somebody asks.

Facts: spellings are those of Core ML's compiler (``coremlc``) in published ``model.mil`` files, programs 1.0 and 1.3.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import partial

from anecompat.ir import Constant, Scalar, TensorType, Unknown, ValueType

# Element types of MIL's protobuf form (MIL.proto, DataType), in the spelling of the text form.
DTYPE = re.compile(r"u?int[1-9]\d?|fp(?:8\w*|16|32|64)|bf16|bool|string")

# Possessive quantifiers: a literal of a million numbers is walked once, never backtracked.
NUMBER = (
    r"[-+]?+(?:0[xX][0-9a-fA-F]++\.?+[0-9a-fA-F]*+(?:[pP][-+]?+\d++)?+|\d++\.?+\d*+(?:[eE][-+]?+\d++)?+"
    r"|\.\d++(?:[eE][-+]?+\d++)?+|inf\b|nan\b)"
)
ELEMENT = rf"(?:true\b|false\b|{NUMBER})"
NESTED_NUMBERS = re.compile(rf"[\[\s]*+(?:{ELEMENT}[\]\s]*+(?:,[\[\s]*+{ELEMENT}[\]\s]*+)*+)?+[\]\s]*+")

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_STRING = r'"((?:[^"\\]|\\.)*+)"'
_STRINGS = re.compile(_STRING, re.DOTALL)
_PIECES = re.compile(rf"{_STRING}|({ELEMENT})|([][(){{}}])", re.DOTALL)


def unescape(body: str) -> str:
    """The text between the quotes with its escapes resolved."""
    if "\\" not in body:
        return body

    def replace(match: re.Match[str]) -> str:
        code = match[1] or match[2]
        return chr(int(code, 16)) if code else _ESCAPES.get(match[3], match[3])

    return _ESCAPE.sub(replace, body)


def _boolean(word: str) -> bool:
    if word not in ("true", "false", "1", "0"):
        raise ValueError(word)
    return word in ("true", "1")


def _integer(word: str) -> int:
    try:
        return int(word)
    except ValueError:
        number = _float(word)
        if not number.is_integer():
            raise
        return int(number)


def _float(word: str) -> float:
    return float.fromhex(word) if "x" in word or "X" in word else float(word)


def _decoder(dtype: str) -> Callable[[str], Scalar]:
    if dtype == "bool":
        return _boolean
    return _integer if "int" in dtype else _float


def decode(literal: str, type: ValueType) -> Sequence[Scalar]:
    """The elements of a literal, flattened row-major; Unknown where it does not hold what its type says."""
    if not isinstance(type, TensorType):
        raise Unknown(f"a value of type {type} is not a tensor")
    elements: Sequence[Scalar]
    if type.dtype == "string":
        elements = [unescape(body) for body in _STRINGS.findall(literal)]
    else:
        words = literal.replace("[", " ").replace("]", " ").replace(",", " ").split()
        try:
            elements = list(map(_decoder(type.dtype), words))
        except (ValueError, OverflowError):
            raise Unknown(f"the literal {literal[:40]!r} is not of the type {type}") from None
    if type.is_fixed and len(elements) != (needed := math.prod(type.fixed())):
        raise Unknown(f"the literal {literal[:40]!r} has {len(elements)} elements, its type {type} holds {needed}")
    return elements


def lazy_constant(literal: str, type: ValueType) -> Constant:
    """A constant that keeps its text and decodes it when asked."""
    return Constant(type, partial(decode, literal, type))


def structured(literal: str) -> object:
    """A checked literal as nested lists (lists and tuples) and dictionaries of plain values.

    Types inside are passed over; ``{{k, v}, {k, v}}`` is a dictionary, as the compiler prints one. A bare number
    without point or exponent is an int.
    """
    stack: list[list[object]] = [[]]
    for match in _PIECES.finditer(literal):
        text, element, mark = match.groups()
        if text is not None:
            stack[-1].append(unescape(text))
        elif element is not None:
            stack[-1].append(_plain(element))
        elif mark in "[({":
            stack.append([])
        elif len(stack) > 1:
            inner = stack.pop()
            stack[-1].append(_dictionary(inner) if mark == "}" else inner)
    whole = stack[0]
    return whole[0] if len(whole) == 1 else whole


class _Pair(list[object]):
    """What one inner ``{key, value}`` of a dictionary held."""


def _dictionary(inner: list[object]) -> object:
    if all(isinstance(each, _Pair) and len(each) == 2 for each in inner):
        return {str(key): value for key, value in inner}  # type: ignore[misc, has-type]
    return _Pair(inner)


def _plain(word: str) -> Scalar:
    if word in ("true", "false"):
        return word == "true"
    try:
        return int(word)
    except ValueError:
        try:
            return _float(word)
        except (ValueError, OverflowError):
            return math.inf

"""Type encodings of the Objective-C runtime: ``B52@0:8@16@24@32I40^@44`` is a bool method of four objects and more.

Offsets differ between compilers and machines and qualifiers say nothing about the calling convention, so both are
dropped; what is left can be compared and turned into ctypes types.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

_QUALIFIERS = "rnNoORVAj+"
_CLOSING = {"{": "}", "(": ")", "[": "]"}


class Range(ctypes.Structure):
    """NSRange: two words, which every 64-bit calling convention returns in registers."""

    _fields_ = [("location", ctypes.c_ulonglong), ("length", ctypes.c_ulonglong)]


_TYPES: dict[str, Any] = {
    "{_NSRange=QQ}": Range,
    "v": None,
    "B": ctypes.c_bool,
    "c": ctypes.c_byte,
    "C": ctypes.c_ubyte,
    "s": ctypes.c_short,
    "S": ctypes.c_ushort,
    "i": ctypes.c_int,
    "I": ctypes.c_uint,
    "q": ctypes.c_longlong,
    "Q": ctypes.c_ulonglong,
    "f": ctypes.c_float,
    "d": ctypes.c_double,
    "*": ctypes.c_char_p,
    "@": ctypes.c_void_p,
    "#": ctypes.c_void_p,
    ":": ctypes.c_void_p,
}
_BOOLEANS = frozenset("BcC")
"""How compilers spell BOOL: a C bool on arm64, a signed char on Intel Macs, an unsigned one in GNUstep."""


class EncodingError(ValueError):
    """A type encoding that cannot be read, or a type that cannot be passed through the bridge."""


@cache
def parse(encoding: str) -> tuple[str, ...]:
    """The types of a method: result, receiver, selector, arguments; without offsets, qualifiers and class names.

    Longs are spelled as long longs, which they are on every machine with a Neural Engine.
    """
    types: list[str] = []
    position = 0
    while position < len(encoding):
        start = position
        position = _skip_type(encoding, position)
        types.append(_plain(encoding[start:position]))
        if position < len(encoding) and encoding[position] in "+-":
            position += 1
        while position < len(encoding) and encoding[position].isdigit():
            position += 1
    if not types:
        raise EncodingError("an empty type encoding")
    return tuple(types)


def _skip_type(text: str, position: int) -> int:
    while position < len(text) and text[position] in _QUALIFIERS:
        position += 1
    if position >= len(text):
        raise EncodingError(f"the type encoding {text!r} ends inside a type")
    code = text[position]
    if code == "^":
        return _skip_type(text, position + 1)
    if code in _CLOSING:
        return _skip_bracket(text, position)
    position += 1
    if code == "@" and text[position : position + 1] == "?":
        position += 1
        if text[position : position + 1] == "<":
            return _skip_block_signature(text, position)
        return position
    if code == "@" and text[position : position + 1] == '"':
        end = text.find('"', position + 1)
        if end < 0:
            raise EncodingError(f"the type encoding {text!r} ends inside a class name")
        return end + 1
    if code == "b":
        while position < len(text) and text[position].isdigit():
            position += 1
        return position
    if code not in _TYPES and code not in "lLD?tT":
        raise EncodingError(f"the type encoding {text!r} has {code!r}, which is no type")
    return position


def _skip_bracket(text: str, position: int) -> int:
    stack = [_CLOSING[text[position]]]
    position += 1
    while stack:
        if position >= len(text):
            raise EncodingError(f"the type encoding {text!r} has an open bracket")
        code = text[position]
        if code == '"':
            position = text.find('"', position + 1)
            if position < 0:
                raise EncodingError(f"the type encoding {text!r} ends inside a name")
        elif code in _CLOSING:
            stack.append(_CLOSING[code])
        elif code in "})]" and code != stack.pop():
            raise EncodingError(f"the type encoding {text!r} closes the wrong bracket")
        position += 1
    return position


def _skip_block_signature(text: str, position: int) -> int:
    depth = 0
    for index in range(position, len(text)):
        depth += {"<": 1, ">": -1}.get(text[index], 0)
        if depth == 0:
            return index + 1
    raise EncodingError(f"the type encoding {text!r} ends inside a block's signature")


def _plain(kind: str) -> str:
    kind = kind.lstrip(_QUALIFIERS)
    if kind.startswith("^"):
        return "^" + _plain(kind[1:])
    if kind.startswith("@"):
        return "@"
    return {"l": "q", "L": "Q"}.get(kind, kind)


def matches(found: str, expected: str) -> bool:
    """Whether a method can be called as declared: the same number and kinds of types, however BOOL is spelled.

    Every pointer is alike to the caller, a block and a class are objects; a struct by value must be the very same.
    """
    try:
        left, right = parse(found), parse(expected)
    except EncodingError:
        return False
    return len(left) == len(right) and all(_alike(a, b) for a, b in zip(left, right, strict=True))


def _alike(found: str, expected: str) -> bool:
    if found == expected:
        return True
    if expected == "B":
        return found in _BOOLEANS
    if expected.startswith("^"):
        return found.startswith("^") or found == "*"
    return {found, expected} == {"@", "#"}


def ctypes_type(kind: str) -> Any:
    """The ctypes type of one parsed type. EncodingError for what cannot be passed, above all a struct by value."""
    if kind.startswith("^") or kind == "?":
        return ctypes.c_void_p
    if kind in _TYPES:
        return _TYPES[kind]
    raise EncodingError(f"a {kind} by value cannot be passed through the bridge")


@cache
def prototype(encoding: str) -> Any:
    """The ctypes function type of a method with this encoding; it releases the interpreter's lock while it runs."""
    result, *arguments = parse(encoding)
    return ctypes.CFUNCTYPE(ctypes_type(result), *(ctypes_type(kind) for kind in arguments))

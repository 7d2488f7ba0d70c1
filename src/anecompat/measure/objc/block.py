"""A Python function as an Objective-C block, laid out by hand as the block ABI has it.

The block is a global one, which nobody copies or frees; so the number of blocks made must stay small.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from anecompat.measure.objc.encoding import ctypes_type, parse

_IS_GLOBAL = 1 << 28
_HAS_SIGNATURE = 1 << 30


class _Descriptor(ctypes.Structure):
    _fields_ = [("reserved", ctypes.c_ulong), ("size", ctypes.c_ulong), ("signature", ctypes.c_char_p)]


class _Literal(ctypes.Structure):
    _fields_ = [
        ("isa", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("reserved", ctypes.c_int),
        ("invoke", ctypes.c_void_p),
        ("descriptor", ctypes.c_void_p),
    ]


_alive: list[Any] = []


def block(function: Callable[..., Any], encoding: str) -> int:
    """The address of a block that calls ``function``; ``encoding`` is the block's, ``v@?@@`` for two objects.

    ``function`` is called on any thread and must not raise.
    """
    result, _, *arguments = parse(encoding)
    kind = ctypes.CFUNCTYPE(ctypes_type(result), ctypes.c_void_p, *(ctypes_type(argument) for argument in arguments))
    invoke = kind(lambda _block, *given: function(*given))
    try:
        isa = ctypes.addressof((ctypes.c_void_p * 32).in_dll(ctypes.CDLL(None), "_NSConcreteGlobalBlock"))
    except ValueError:
        isa = 0  # GCC has no blocks and so nobody there looks at the class
    descriptor = _Descriptor(0, ctypes.sizeof(_Literal), encoding.encode())
    literal = _Literal(
        isa,
        _IS_GLOBAL | _HAS_SIGNATURE,
        0,
        ctypes.cast(invoke, ctypes.c_void_p).value,
        ctypes.addressof(descriptor),
    )
    _alive.append((invoke, descriptor, literal))
    return ctypes.addressof(literal)

"""Objective-C exceptions, heard at the moment they are thrown.

ctypes can neither catch nor stop them. But whoever throws asks a preprocessor first (Apple's ``objc_exception_throw``),
so the name and the reason can be told to somebody outside before the process may come to harm.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from anecompat.measure.objc import foundation
from anecompat.measure.objc.runtime import BridgeError, Runtime

_alive: list[Any] = []


def listen(runtime: Runtime, heard: Callable[[str, str], None]) -> bool:
    """Call ``heard(name, reason)`` for every exception thrown from now on, on the thread that throws it.

    False where this system offers no way; exceptions are then crashes without a reason.
    """
    try:
        install = runtime.function("objc", "objc_setExceptionPreprocessor")
    except BridgeError:
        return False
    kind = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
    previous: Any = None

    def preprocess(exception: int | None) -> int | None:
        try:
            with runtime.pool():
                heard(*_describe(runtime, exception))
        except BaseException as error:  # nothing may be raised into the thrower
            heard("", f"an exception that could not be read: {error!r}")
        return previous(exception) if previous else exception

    function = kind(preprocess)
    before = install(ctypes.cast(function, ctypes.c_void_p))
    previous = kind(before) if before else None
    _alive.append((function, previous))
    return True


def _describe(runtime: Runtime, exception: int | None) -> tuple[str, str]:
    if not foundation.is_kind(runtime, exception, "NSException"):
        return ("an object that is no NSException", runtime.class_name(exception) if exception else "")
    return (
        foundation.text(runtime, runtime.send(exception, "name")),
        foundation.text(runtime, runtime.send(exception, "reason")),
    )

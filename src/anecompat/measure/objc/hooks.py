"""A Python observer around an existing Objective-C method.

One thunk per method is made once and kept for ever, because a call may be inside it at any time. Observers come and go
as one immutable tuple, which a call reads once: a call in flight is seen whole by those that were there at its start.
Nothing an observer raises reaches the caller, and the original is called exactly once.

An Objective-C exception that passes through the thunk destroys the interpreter's state (seen on two runtimes), and
nothing in ctypes can catch it: hook only in a process that may be lost, and listen to ``exceptions``.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any, Protocol

from anecompat.measure.objc.encoding import matches, parse, prototype
from anecompat.measure.objc.runtime import BridgeError, Runtime


class Observer(Protocol):
    """What listens to a hooked method. ``arguments`` are receiver, selector and the rest, as ints or None."""

    def before(self, hook: Hook, arguments: tuple[Any, ...]) -> Any:
        """Called before the original; what it returns is handed to ``after``."""

    def after(self, hook: Hook, arguments: tuple[Any, ...], token: Any, result: Any) -> None:
        """Called after the original returned."""

    def failed(self, hook: Hook, error: BaseException) -> None:
        """Called with whatever ``before`` or ``after`` raised."""


class _Depth(threading.local):
    value = 0


_depth = _Depth()
_lock = threading.Lock()
_hooks: dict[int, Hook] = {}


def depth() -> int:
    """How many hooked methods this thread is inside of."""
    return _depth.value


class Hook:
    """One hooked method. Made by ``hook``; ``add`` and ``remove`` put observers on and take them off."""

    def __init__(self, runtime: Runtime, method: int, label: str, encoding: str) -> None:
        self.runtime = runtime
        self.method = method
        self.label = label
        kind = prototype(encoding)
        if parse(encoding)[0] not in ("B", "v", "@", "q", "Q", "I", "i", "d", "#"):
            raise BridgeError(f"{label}: a hooked method cannot return {parse(encoding)[0]}")
        self._observers: tuple[Observer, ...] = ()
        self._original_address = runtime.implementation(method)
        self._original = kind(self._original_address)
        self._thunk = kind(self._call)
        self._thunk_address = ctypes.cast(self._thunk, ctypes.c_void_p).value or 0

    def _call(self, *arguments: Any) -> Any:
        tokens = []
        for observer in self._observers:
            try:
                tokens.append((observer, observer.before(self, arguments)))
            except BaseException as error:
                observer.failed(self, error)
        _depth.value += 1
        result = self._original(*arguments)
        _depth.value -= 1
        for observer, token in reversed(tokens):
            try:
                observer.after(self, arguments, token, result)
            except BaseException as error:
                observer.failed(self, error)
        return result

    @property
    def is_installed(self) -> bool:
        return self.runtime.implementation(self.method) == self._thunk_address

    def add(self, observer: Observer) -> None:
        with _lock:
            self._observers = (*self._observers, observer)
            if not self.is_installed and len(self._observers) == 1:
                # somebody may have replaced the method since; the thunk then goes on top of theirs
                current = self.runtime.implementation(self.method)
                if current != self._original_address:
                    raise BridgeError(f"{self.label} was replaced by somebody else while no observer was there")
                self.runtime.set_implementation(self.method, self._thunk_address)

    def remove(self, observer: Observer) -> bool:
        """Take an observer off. False where the thunk has to stay, because somebody hooked the method on top of it."""
        with _lock:
            remaining = list(self._observers)
            if observer in remaining:
                remaining.remove(observer)
            self._observers = tuple(remaining)
            if self._observers:
                return True
            if self.is_installed:
                self.runtime.set_implementation(self.method, self._original_address)
                return True
            return self.runtime.implementation(self.method) == self._original_address


def hook(runtime: Runtime, class_name: str, selector: str, encoding: str) -> Hook | None:
    """The hook of an instance method, or None where this system has no such method.

    BridgeError where the method's types are not the expected ones: such a method is left alone.
    """
    method = runtime.instance_method(class_name, selector)
    if method is None:
        return None
    label = f"-[{class_name} {selector}]"
    found = runtime.method_encoding(method)
    if not matches(found, encoding):
        raise BridgeError(f"{label} has the types {found}, expected {encoding}")
    with _lock:
        if method not in _hooks:
            _hooks[method] = Hook(runtime, method, label, encoding)
        return _hooks[method]

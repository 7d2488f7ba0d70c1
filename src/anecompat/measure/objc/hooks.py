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
    """How deep this thread is in hooked methods, and where exceptions were thrown that are not yet survived."""

    def __init__(self) -> None:
        self.value = 0
        self.thrown: list[int] = []
        self.lost = False

    def leave(self, level: int) -> None:
        """A hooked call returned. An exception thrown in it, and not in one below that is gone, did no harm."""
        if self.value != level or any(depth > level for depth in self.thrown):
            self.lost = True
        self.thrown = [depth for depth in self.thrown if depth != level]
        self.value = level - 1


_depth = _Depth()
_lock = threading.Lock()
_hooks: dict[int, Hook] = {}


def thrown() -> bool:
    """Note that this thread is throwing an exception. Whether it is inside a hooked method."""
    if _depth.value:
        _depth.thrown.append(_depth.value)
    return bool(_depth.value)


def lost() -> bool:
    """Whether a hooked call of this thread threw and has not come back: an exception went through it and did damage."""
    return _depth.lost or bool(_depth.thrown)


class Hook:
    """One hooked method. Made by ``hook``; ``add`` and ``remove`` put observers on and take them off."""

    def __init__(self, runtime: Runtime, method: int, label: str, encoding: str) -> None:
        self.runtime = runtime
        self.method = method
        self.label = label
        self._kind = prototype(encoding)
        if parse(encoding)[0] not in ("B", "v", "@", "q", "Q", "I", "i", "d", "#"):
            raise BridgeError(f"{label}: a hooked method cannot return {parse(encoding)[0]}")
        self._observers: tuple[Observer, ...] = ()
        self._is_buried = False
        self._original_address = runtime.implementation(method)
        self._original = self._kind(self._original_address)
        self._thunk = self._kind(self._call)
        self._thunk_address = ctypes.cast(self._thunk, ctypes.c_void_p).value or 0

    def _call(self, *arguments: Any) -> Any:
        tokens = []
        for observer in self._observers:
            try:
                tokens.append((observer, observer.before(self, arguments)))
            except BaseException as error:
                observer.failed(self, error)
        level = _depth.value + 1
        _depth.value = level
        result = self._original(*arguments)
        _depth.leave(level)
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
            if len(self._observers) > 1 or self._is_buried or self.is_installed:
                return
            current = self.runtime.implementation(self.method)
            if current != self._original_address:
                # somebody replaced the method while nobody listened: theirs is the original now
                self._original_address, self._original = current, self._kind(current)
            self.runtime.set_implementation(self.method, self._thunk_address)

    def remove(self, observer: Observer) -> None:
        """Take an observer off. Where somebody hooked the method on top of the thunk, the thunk stays and passes on."""
        with _lock:
            self._observers = tuple(other for other in self._observers if other is not observer)
            if self._observers:
                return
            if self.is_installed:
                self.runtime.set_implementation(self.method, self._original_address)
                self._is_buried = False
            else:
                self._is_buried = True


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

"""Messages to Objective-C objects through ctypes, the same on Apple's runtime, GNUstep's libobjc2 and GCC's libobjc.

Only this file knows which runtime it is. On a machine without Apple's frameworks the folder named by the environment
variable ``ANECOMPAT_FRAMEWORKS`` may hold stand-ins (``libCoreML.so``...): that is how the tests run this code.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from anecompat.measure.objc import declarations
from anecompat.measure.objc.encoding import EncodingError, ctypes_type, parse, prototype

FRAMEWORKS_VARIABLE = "ANECOMPAT_FRAMEWORKS"
APPLE = sys.platform in ("darwin", "ios")


class BridgeError(Exception):
    """A class, selector or function that is not there, or cannot be called."""


class Flavour(StrEnum):
    APPLE = "Apple"
    LIBOBJC2 = "libobjc2"
    GCC = "GCC"


def stand_ins() -> Path | None:
    """The folder of stand-in frameworks, or None. The only place that reads the variable."""
    folder = os.environ.get(FRAMEWORKS_VARIABLE)
    return Path(folder) if folder else None


def _open(framework: str) -> ctypes.CDLL:
    folder = stand_ins()
    path = declarations.FRAMEWORKS[framework] if folder is None else str(folder / f"lib{framework}.so")
    try:
        return ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise BridgeError(f"the framework {framework} cannot be loaded: {error}") from error


class Runtime:
    """The Objective-C runtime of this process and the frameworks loaded so far. One instance: ``runtime()``."""

    def __init__(self) -> None:
        if not APPLE and stand_ins() is None:
            raise BridgeError(f"Apple's frameworks exist on Apple's systems only; this is {sys.platform}")
        self._frameworks: dict[str, ctypes.CDLL] = {}
        self._selectors: dict[str, int] = {}
        self._functions: dict[str, Any] = {}
        self.framework("objc")
        self.framework("Foundation")
        self._objc = ctypes.CDLL(declarations.FRAMEWORKS["objc"]) if APPLE else ctypes.CDLL(None)
        self.flavour = self._find_flavour()
        self._get_class = self._c("objc_getClass", "^v*")
        self._register = self._c("sel_registerName", "^v*")
        self._instance_method = self._c("class_getInstanceMethod", "^v^v^v")
        self._class_method = self._c("class_getClassMethod", "^v^v^v")
        self._class_name = self._c("class_getName", "*^v")
        self._responds = self._c("class_respondsToSelector", "B^v^v")
        self._method_encoding = self._c("method_getTypeEncoding", "*^v")
        self._get_implementation = self._c("method_getImplementation", "^v^v")
        self._set_implementation = self._c("method_setImplementation", "^v^v^v")
        if self.flavour is Flavour.GCC:
            self._lookup = self._c("objc_msg_lookup", "^v^v^v")
        else:
            self._message_address = ctypes.cast(self._objc.objc_msgSend, ctypes.c_void_p).value
            self._object_class = self._c("object_getClass", "^v^v")
            self._pool_push = self._c("objc_autoreleasePoolPush", "^v")
            self._pool_pop = self._c("objc_autoreleasePoolPop", "v^v")

    def _find_flavour(self) -> Flavour:
        if APPLE:
            return Flavour.APPLE
        return Flavour.LIBOBJC2 if hasattr(self._objc, "objc_msgSend") else Flavour.GCC

    def _c(self, name: str, encoding: str, library: ctypes.CDLL | None = None) -> Any:
        try:
            function = getattr(library or self._objc, name)
        except AttributeError as error:
            raise BridgeError(f"the function {name} is not in this system's libraries") from error
        result, *arguments = parse(encoding)
        function.restype = ctypes_type(result)
        function.argtypes = [ctypes_type(kind) for kind in arguments]
        return function

    # ---- Frameworks, classes, methods ----

    def framework(self, name: str) -> ctypes.CDLL:
        """Load a framework of ``declarations.FRAMEWORKS``. BridgeError where this system has none."""
        if name not in self._frameworks:
            self._frameworks[name] = _open(name)
        return self._frameworks[name]

    def function(self, framework: str, name: str) -> Any:
        """A declared C function. BridgeError where this system has none."""
        if name not in self._functions:
            library = self.framework(framework)
            self._functions[name] = self._c(name, declarations.C_FUNCTIONS[framework][name], library)
        return self._functions[name]

    def find_class(self, name: str) -> int | None:
        found: int | None = self._get_class(name.encode())
        return found

    def class_named(self, name: str) -> int:
        found = self.find_class(name)
        if not found:
            raise BridgeError(f"the class {name} is not in this system's frameworks")
        return found

    def class_of(self, instance: int) -> int:
        if self.flavour is Flavour.GCC:
            # object_getClass is an inline function there; the class is the object's first word
            return ctypes.c_size_t.from_address(instance).value
        found: int = self._object_class(instance)
        return found

    def class_name(self, instance: int) -> str:
        name: bytes = self._class_name(self.class_of(instance))
        return name.decode("utf-8", "replace")

    def selector(self, name: str) -> int:
        found = self._selectors.get(name)
        if found is None:
            found = self._selectors[name] = self._register(name.encode())
        return found

    def responds(self, receiver: int | None, selector: str) -> bool:
        """Whether an object (or a class, as the receiver of class methods) has a method of this name."""
        return bool(receiver) and bool(self._responds(self.class_of(receiver or 0), self.selector(selector)))

    def instance_method(self, class_name: str, selector: str) -> int | None:
        found = self.find_class(class_name)
        return self._instance_method(found, self.selector(selector)) if found else None

    def class_method(self, class_name: str, selector: str) -> int | None:
        found = self.find_class(class_name)
        return self._class_method(found, self.selector(selector)) if found else None

    def method_encoding(self, method: int) -> str:
        encoding: bytes | None = self._method_encoding(method)
        return (encoding or b"").decode("utf-8", "replace")

    def implementation(self, method: int) -> int:
        found: int = self._get_implementation(method)
        return found

    def set_implementation(self, method: int, implementation: int) -> int:
        previous: int = self._set_implementation(method, implementation)
        return previous

    # ---- Messages ----

    def send(self, receiver: int | None, selector: str, *arguments: Any, encoding: str = "") -> Any:
        """Send a declared message. An object is an int, nil is None; a message to nil gives None.

        The receiver must have the method: ask ``responds`` first where it may not, for nothing here can catch the
        Objective-C exception that would follow.
        """
        if not receiver:
            return None
        encoding = encoding or declarations.SELECTORS[selector]
        name = self.selector(selector)
        if self.flavour is Flavour.GCC:
            address = self._lookup(receiver, name)
        else:
            address = self._message_address
        try:
            return prototype(encoding)(address)(receiver, name, *arguments)
        except EncodingError as error:
            raise BridgeError(f"{selector}: {error}") from error

    def new(self, class_name: str) -> int:
        created: int = self.send(self.send(self.class_named(class_name), "alloc"), "init")
        return created

    @contextmanager
    def pool(self) -> Iterator[None]:
        """An autorelease pool. Objects that shall outlive it must be retained."""
        if self.flavour is Flavour.GCC:
            pool = self.new("NSAutoreleasePool")
            try:
                yield
            finally:
                self.send(pool, "drain")
        else:
            token = self._pool_push()
            try:
                yield
            finally:
                self._pool_pop(token)


@cache
def runtime() -> Runtime:
    """The runtime of this process. BridgeError on a system without one."""
    return Runtime()

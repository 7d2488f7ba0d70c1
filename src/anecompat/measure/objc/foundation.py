"""Foundation's strings, lists, dictionaries, numbers and errors, to Python and back."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from anecompat.measure.objc.runtime import Runtime


@dataclass(frozen=True, slots=True)
class NSErrorText:
    """What an NSError says."""

    domain: str
    code: int
    text: str

    def __str__(self) -> str:
        return f"{self.text} ({self.domain} {self.code})"


class ErrorSlot:
    """An ``NSError **`` argument: pass ``reference``, then ask ``found``."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._pointer = ctypes.c_void_p()

    @property
    def reference(self) -> Any:
        return ctypes.byref(self._pointer)

    def found(self) -> NSErrorText | None:
        return error_text(self._runtime, self._pointer.value)


def string(runtime: Runtime, text: str) -> int:
    """An autoreleased NSString. What UTF-8 cannot hold (a broken file name) is replaced."""
    made: int = runtime.send(runtime.class_named("NSString"), "stringWithUTF8String:", text.encode("utf-8", "replace"))
    return made


def text(runtime: Runtime, instance: int | None) -> str:
    """The text of an NSString, "" for nil."""
    found: bytes | None = runtime.send(instance, "UTF8String")
    return found.decode("utf-8", "replace") if found else ""


def is_kind(runtime: Runtime, instance: int | None, class_name: str) -> bool:
    if not instance or not runtime.responds(instance, "isKindOfClass:"):
        return False
    return bool(runtime.send(instance, "isKindOfClass:", runtime.class_named(class_name)))


def items(runtime: Runtime, array: int | None) -> list[int]:
    """The objects of an NSArray."""
    count: int = runtime.send(array, "count") or 0
    return [runtime.send(array, "objectAtIndex:", index) for index in range(count)]


def entries(runtime: Runtime, dictionary: int | None) -> dict[str, int]:
    """The objects of an NSDictionary with string keys."""
    keys = items(runtime, runtime.send(dictionary, "allKeys"))
    return {text(runtime, key): runtime.send(dictionary, "objectForKey:", key) for key in keys}


def integers(runtime: Runtime, array: int | None) -> tuple[int, ...]:
    """The numbers of an NSArray of NSNumber."""
    return tuple(runtime.send(item, "longLongValue") for item in items(runtime, array))


def array(runtime: Runtime, objects: Iterable[int]) -> int:
    made: int = runtime.send(runtime.class_named("NSMutableArray"), "array")
    for item in objects:
        runtime.send(made, "addObject:", item)
    return made


def integer_array(runtime: Runtime, numbers: Iterable[int]) -> int:
    return array(runtime, (integer(runtime, number) for number in numbers))


def dictionary(runtime: Runtime, content: Mapping[int, int]) -> int:
    """An NSDictionary from objects to objects."""
    made: int = runtime.send(runtime.class_named("NSMutableDictionary"), "dictionary")
    for key, value in content.items():
        runtime.send(made, "setObject:forKey:", value, key)
    return made


def integer(runtime: Runtime, number: int) -> int:
    made: int = runtime.send(runtime.class_named("NSNumber"), "numberWithLongLong:", number)
    return made


def real(runtime: Runtime, number: float) -> int:
    made: int = runtime.send(runtime.class_named("NSNumber"), "numberWithDouble:", number)
    return made


def file_url(runtime: Runtime, path: str) -> int:
    made: int = runtime.send(runtime.class_named("NSURL"), "fileURLWithPath:", string(runtime, path))
    return made


def error_text(runtime: Runtime, error: int | None) -> NSErrorText | None:
    if not error:
        return None
    return NSErrorText(
        text(runtime, runtime.send(error, "domain")),
        runtime.send(error, "code"),
        text(runtime, runtime.send(error, "localizedDescription")),
    )


def plain(runtime: Runtime, instance: int | None, depth: int = 8) -> Any:
    """A property list (strings, numbers, lists, dictionaries) as Python data; anything else as its description."""
    if not instance or depth == 0:
        return None
    if is_kind(runtime, instance, "NSString"):
        return text(runtime, instance)
    if is_kind(runtime, instance, "NSNumber"):
        number: float = runtime.send(instance, "doubleValue")
        return int(number) if number.is_integer() else number
    if is_kind(runtime, instance, "NSArray"):
        return [plain(runtime, item, depth - 1) for item in items(runtime, instance)]
    if is_kind(runtime, instance, "NSDictionary"):
        keys = items(runtime, runtime.send(instance, "allKeys"))
        return {
            str(plain(runtime, key, 1)): plain(runtime, runtime.send(instance, "objectForKey:", key), depth - 1)
            for key in keys
        }
    return text(runtime, runtime.send(instance, "description"))

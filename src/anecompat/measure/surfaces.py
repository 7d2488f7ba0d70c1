"""IOSurfaces: what the engine reads and writes. Described always, copied only where somebody wants the bytes."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from anecompat.measure.objc.runtime import BridgeError, Runtime

_READ_ONLY = 1


@dataclass(frozen=True, slots=True)
class Plane:
    """A plane: elements in a row, rows, bytes of an element, bytes from row to row."""

    width: int
    height: int
    bytes_per_element: int
    bytes_per_row: int


@dataclass(frozen=True, slots=True)
class Surface:
    """A surface as its getters describe it. A surface without planes is its own only plane."""

    identifier: int
    width: int
    height: int
    bytes_per_element: int
    bytes_per_row: int
    bytes: int
    pixel_format: int
    planes: tuple[Plane, ...]

    def lines(self) -> list[str]:
        """The description, in the words of ANECompat's log."""
        described = [
            f"\tid: {self.identifier}",
            f"\tplaneCount: {len(self.planes)}",
            f"\theight: {self.height}",
            f"\twidth: {self.width}",
            f"\tbytesPerElement: {self.bytes_per_element}",
            f"\tbytesPerRow: {self.bytes_per_row}",
            f"\tallocSize: {self.bytes}",
        ]
        for number, plane in enumerate(self.planes):
            described += [
                f"\tplane_{number}:",
                f"\t\theight: {plane.height}",
                f"\t\twidth: {plane.width}",
                f"\t\tbytesPerElement: {plane.bytes_per_element}",
                f"\t\tbytesPerRow: {plane.bytes_per_row}",
            ]
        return ["IOSurface {", *described, "}"]


def describe(runtime: Runtime, pointer: int) -> Surface:
    """What the surface's getters say. ``pointer`` is an IOSurfaceRef."""

    def ask(name: str, *arguments: int) -> int:
        answer: int = runtime.function("IOSurface", f"IOSurfaceGet{name}")(pointer, *arguments)
        return answer

    planes = tuple(
        Plane(
            ask("WidthOfPlane", number),
            ask("HeightOfPlane", number),
            ask("BytesPerElementOfPlane", number),
            ask("BytesPerRowOfPlane", number),
        )
        for number in range(ask("PlaneCount"))
    )
    return Surface(
        ask("ID"),
        ask("Width"),
        ask("Height"),
        ask("BytesPerElement"),
        ask("BytesPerRow"),
        ask("AllocSize"),
        ask("PixelFormat"),
        planes,
    )


def copy(runtime: Runtime, pointer: int, surface: Surface) -> bytes:
    """Every byte of the surface. BridgeError where it cannot be locked."""
    seed = ctypes.c_uint32()
    if runtime.function("IOSurface", "IOSurfaceLock")(pointer, _READ_ONLY, ctypes.byref(seed)) != 0:
        raise BridgeError(f"the surface {surface.identifier} cannot be locked for reading")
    try:
        address = runtime.function("IOSurface", "IOSurfaceGetBaseAddress")(pointer)
        return ctypes.string_at(address, surface.bytes) if address else b""
    finally:
        runtime.function("IOSurface", "IOSurfaceUnlock")(pointer, _READ_ONLY, ctypes.byref(seed))

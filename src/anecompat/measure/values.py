"""Core ML's feature values from fillings, and feature descriptions from a loaded model."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable

from anecompat.errors import InputError
from anecompat.measure import png
from anecompat.measure.inputs import DTYPES, KINDS, Description, Filling
from anecompat.measure.objc import foundation
from anecompat.measure.objc.runtime import BridgeError, Runtime

_NO_LIMIT = (1 << 62) - 1
"""Apple writes an open end of a range as NSIntegerMax or a little less."""

_DTYPE_NUMBERS = {name: number for number, name in DTYPES.items()}


def describe(runtime: Runtime, name: str, feature: int) -> Description:
    """What an MLFeatureDescription says."""
    kind = KINDS.get(runtime.send(feature, "type"), "unknown")
    optional = bool(runtime.send(feature, "isOptional"))
    if kind == "multiArray":
        constraint = runtime.send(feature, "multiArrayConstraint")
        shape_constraint = runtime.send(constraint, "shapeConstraint")
        choices, ranges = _flexibility(runtime, shape_constraint)
        number = runtime.send(constraint, "dataType") or 0
        shape = foundation.integers(runtime, runtime.send(constraint, "shape"))
        dtype = DTYPES.get(number, f"type {number}")
        return Description(name, kind, optional, shape, dtype, choices, ranges)
    if kind == "state":
        constraint = runtime.send(feature, "stateConstraint")
        shape = foundation.integers(runtime, runtime.send(constraint, "bufferShape"))
        return Description(name, kind, optional, shape, DTYPES.get(runtime.send(constraint, "dataType") or 0, ""))
    if kind == "image":
        constraint = runtime.send(feature, "imageConstraint")
        return Description(
            name,
            kind,
            optional,
            width=runtime.send(constraint, "pixelsWide") or 0,
            height=runtime.send(constraint, "pixelsHigh") or 0,
            pixel_format=four_characters(runtime.send(constraint, "pixelFormatType") or 0),
        )
    element = ""
    if kind == "dictionary":
        element = KINDS.get(runtime.send(runtime.send(feature, "dictionaryConstraint"), "keyType") or 0, "unknown")
    elif kind == "sequence":
        of = runtime.send(runtime.send(feature, "sequenceConstraint"), "valueDescription")
        element = KINDS.get(runtime.send(of, "type") or 0, "unknown")
    return Description(name, kind, optional, element=element)


def four_characters(code: int) -> str:
    """A pixel format as text: 0x42475241 is "BGRA". The numbered ones (32 is ARGB) stay numbers."""
    text = struct.pack(">I", code).decode("latin-1")
    return text if text.isprintable() and text.strip() else str(code)


def _pixel_format_code(text: str) -> int:
    return int(text) if text.isdigit() and len(text) < 4 else int(struct.unpack(">I", text.encode("latin-1"))[0])


def _flexibility(
    runtime: Runtime, constraint: int | None
) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, int | None], ...]]:
    if not constraint:
        return (), ()
    choices = tuple(
        foundation.integers(runtime, shape)
        for shape in foundation.items(runtime, runtime.send(constraint, "enumeratedShapes"))
    )
    ranges: list[tuple[int, int | None]] = []
    for value in foundation.items(runtime, runtime.send(constraint, "sizeRangeForDimension")):
        found = runtime.send(value, "rangeValue")
        location, length = int(found.location), int(found.length)
        ranges.append(
            (location, None if length >= _NO_LIMIT or location + length >= _NO_LIMIT else location + length - 1)
        )
    if len(choices) == 1 and not ranges:
        choices = ()
    if all(least == most for least, most in ranges):
        ranges = []
    return choices, tuple(ranges)


def make(runtime: Runtime, filling: Filling) -> int:
    """An MLFeatureValue. InputError with the input's name where Core ML refuses."""
    kind, content = filling.description.kind, filling.content
    name = filling.description.name
    feature_value = runtime.class_named("MLFeatureValue")
    slot = foundation.ErrorSlot(runtime)
    made: int | None = None
    if kind == "multiArray":
        made = runtime.send(feature_value, "featureValueWithMultiArray:", _array(runtime, filling))
    elif kind == "image":
        buffer = _pixel_buffer(runtime, filling)
        made = runtime.send(feature_value, "featureValueWithPixelBuffer:", buffer)
        runtime.function("CoreVideo", "CVPixelBufferRelease")(buffer)
    elif kind == "int64":
        made = runtime.send(feature_value, "featureValueWithInt64:", content)
    elif kind == "double":
        made = runtime.send(feature_value, "featureValueWithDouble:", float(content))
    elif kind == "string":
        made = runtime.send(feature_value, "featureValueWithString:", foundation.string(runtime, content))
    elif kind == "dictionary":
        mapping = foundation.dictionary(
            runtime,
            {_key(runtime, key): foundation.real(runtime, float(value)) for key, value in content.items()},
        )
        made = runtime.send(feature_value, "featureValueWithDictionary:error:", mapping, slot.reference)
    elif kind == "sequence":
        made = runtime.send(feature_value, "featureValueWithSequence:", _sequence(runtime, filling))
    if not made:
        raise InputError(
            f"the input {name}: Core ML refuses the {kind} made for it ({slot.found() or 'no reason given'})"
        )
    return made


def _key(runtime: Runtime, key: int | str) -> int:
    return foundation.integer(runtime, key) if isinstance(key, int) else foundation.string(runtime, key)


def _sequence(runtime: Runtime, filling: Filling) -> int:
    if filling.description.element == "int64":
        selector, content = "sequenceWithInt64Array:", foundation.integer_array(runtime, filling.content)
    else:
        texts = (foundation.string(runtime, item) for item in filling.content)
        selector, content = "sequenceWithStringArray:", foundation.array(runtime, texts)
    sequence: int = runtime.send(runtime.class_named("MLSequence"), selector, content)
    return sequence


def _array(runtime: Runtime, filling: Filling) -> int:
    name, shape = filling.description.name, filling.shape
    slot = foundation.ErrorSlot(runtime)
    blank = runtime.send(runtime.class_named("MLMultiArray"), "alloc")
    number = _DTYPE_NUMBERS[filling.description.dtype]
    sizes = foundation.integer_array(runtime, shape)
    array: int | None = runtime.send(blank, "initWithShape:dataType:error:", sizes, number, slot.reference)
    if not array:
        raise InputError(f"the input {name}: Core ML cannot make an array of {list(shape)} ({slot.found()})")
    strides = foundation.integers(runtime, runtime.send(array, "strides"))
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size > 1 and stride != expected:
            raise InputError(f"the input {name}: Core ML made an array with gaps (strides {list(strides)})")
        expected *= size
    ctypes.memmove(runtime.send(array, "dataPointer"), filling.content, len(filling.content))
    return array


# ---- Images ----

_Encoder = Callable[[int, int, int, int], bytes]
_PIXELS: dict[str, tuple[int, _Encoder]] = {
    "BGRA": (4, lambda red, green, blue, alpha: bytes((blue, green, red, alpha))),
    "RGBA": (4, lambda red, green, blue, alpha: bytes((red, green, blue, alpha))),
    "32": (4, lambda red, green, blue, alpha: bytes((alpha, red, green, blue))),
    "L008": (1, lambda red, green, blue, alpha: bytes((_luma(red, green, blue),))),
    "L00h": (2, lambda red, green, blue, alpha: struct.pack("<e", _luma(red, green, blue) / 255)),
    "L00f": (4, lambda red, green, blue, alpha: struct.pack("<f", _luma(red, green, blue) / 255)),
    "RGhA": (
        8,
        lambda red, green, blue, alpha: struct.pack("<4e", *(part / 255 for part in (red, green, blue, alpha))),
    ),
}
"""Pixel formats with one plane: bytes of a pixel, and a pixel of 8-bit color. The code of 32ARGB is the number 32."""


def _luma(red: int, green: int, blue: int) -> int:
    """ITU-R BT.601, in whole numbers."""
    return (299 * red + 587 * green + 114 * blue) // 1000


def _pixel_buffer(runtime: Runtime, filling: Filling) -> int:
    """A filled CVPixelBuffer, to be released by the caller."""
    described, image = filling.description, filling.content
    name, pixel_format = described.name, described.pixel_format
    if image is not None and pixel_format not in _PIXELS:
        raise InputError(f"the input {name} has the pixel format {pixel_format}, which a PNG file cannot be given in")
    out = ctypes.c_void_p()
    code = _pixel_format_code(pixel_format)
    create = runtime.function("CoreVideo", "CVPixelBufferCreate")
    failed = create(None, described.width, described.height, code, None, ctypes.byref(out))
    if failed or not out.value:
        size = f"{described.width} x {described.height}"
        raise InputError(f"the input {name}: no {size} image of the format {pixel_format} can be made (error {failed})")
    buffer = out.value
    if runtime.function("CoreVideo", "CVPixelBufferLockBaseAddress")(buffer, 0):
        raise BridgeError(f"the input {name}: the image cannot be locked")
    try:
        planes = runtime.function("CoreVideo", "CVPixelBufferGetPlaneCount")(buffer)
        if planes:
            for plane in range(planes):
                _fill_plane(runtime, buffer, plane)
        else:
            _fill_rows(runtime, buffer, described, image)
    finally:
        runtime.function("CoreVideo", "CVPixelBufferUnlockBaseAddress")(buffer, 0)
    return buffer


def _fill_plane(runtime: Runtime, buffer: int, plane: int) -> None:
    address = runtime.function("CoreVideo", "CVPixelBufferGetBaseAddressOfPlane")(buffer, plane)
    row = runtime.function("CoreVideo", "CVPixelBufferGetBytesPerRowOfPlane")(buffer, plane)
    height = runtime.function("CoreVideo", "CVPixelBufferGetHeightOfPlane")(buffer, plane)
    ctypes.memmove(address, _ramp(row * height), row * height)


def _ramp(count: int) -> bytes:
    """Bytes that any 8-bit format takes for a picture, 16 to 235, the range of video."""
    cycle = bytes(range(16, 236))
    return (cycle * (count // len(cycle) + 1))[:count]


def _shade(encode: _Encoder, step: int) -> bytes:
    """A pixel of a dummy picture: three shades that move with the place, inside the range of video."""
    red, green, blue = ((step + shade) % 220 + 16 for shade in (0, 40, 80))
    return encode(red, green, blue, 255)


def _fill_rows(runtime: Runtime, buffer: int, described: Description, image: png.Image | None) -> None:
    address = runtime.function("CoreVideo", "CVPixelBufferGetBaseAddress")(buffer)
    row = runtime.function("CoreVideo", "CVPixelBufferGetBytesPerRow")(buffer)
    if described.pixel_format not in _PIXELS:
        # an unknown format: bytes of any value may be a NaN in it, zero never is
        ctypes.memset(address, 0, row * described.height)
        return
    size, encode = _PIXELS[described.pixel_format]
    for y in range(described.height):
        if image is None:
            cycle = b"".join(_shade(encode, x * 7 + y * 13) for x in range(64))
            line = (cycle * (described.width // 64 + 1))[: described.width * size]
        else:
            line = b"".join(encode(*image.pixel(x, y)) for x in range(described.width))
        ctypes.memmove(address + y * row, line, len(line))

"""What a model asks for, and what it is given: dummy values, or the user's. Pure data; ``values`` makes it Core ML's.

Dummy numbers are deterministic: floats cycle through twelve values in [0, 1), because constants could be folded away;
whole numbers are 0, which every lookup table and position accepts.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anecompat.errors import InputError
from anecompat.measure import npy, png

KINDS = {
    1: "int64",
    2: "double",
    3: "string",
    4: "image",
    5: "multiArray",
    6: "dictionary",
    7: "sequence",
    8: "state",
}
"""MLFeatureType (CoreML/MLFeatureType.h)."""

DTYPES = {65552: "fp16", 65568: "fp32", 65600: "fp64", 131104: "int32", 131080: "int8"}
"""MLMultiArrayDataType (CoreML/MLMultiArray.h); Int8 since macOS 26."""

_PACK = {"fp16": "e", "fp32": "f", "fp64": "d", "int32": "i", "int8": "b"}
_CYCLE = tuple(number / 12 for number in range(12))
_MOST_BYTES = 1 << 33


@dataclass(frozen=True, slots=True)
class Description:
    """A feature as the loaded model describes it."""

    name: str
    kind: str
    optional: bool = False
    shape: tuple[int, ...] | None = None
    dtype: str = ""
    choices: tuple[tuple[int, ...], ...] = ()
    ranges: tuple[tuple[int, int | None], ...] = ()
    width: int = 0
    height: int = 0
    pixel_format: str = ""
    element: str = ""
    """The kind of a sequence's elements or of a dictionary's keys."""


@dataclass(frozen=True, slots=True)
class Filling:
    """What one input is given. ``content`` depends on the kind: packed bytes of a multi-array, a number, a text,
    a list, a dictionary, an image (None: a dummy pattern)."""

    description: Description
    content: Any
    shape: tuple[int, ...] = ()
    source: str = "dummy"


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user asked for: shapes of multi-arrays and files, by input name."""

    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


def fill(descriptions: Sequence[Description], wish: Wish) -> list[Filling]:
    """Content for every input; optional ones that the user does not give are left out: Core ML's defaults serve.

    InputError names the input that nothing can be made for.
    """
    names = {description.name for description in descriptions}
    for name in (*wish.shapes, *wish.files):
        if name not in names:
            listed = ", ".join(sorted(names)) or "none"
            raise InputError(f"the model has no input {name}; it has {listed}")
    filled = []
    for description in descriptions:
        name = description.name
        given = wish.files.get(name)
        if given is not None:
            filled.append(_given(description, given, wish.shapes.get(name)))
        elif not description.optional or name in wish.shapes:
            filled.append(_dummy(description, wish.shapes.get(name)))
    return filled


def _dummy(description: Description, shape: tuple[int, ...] | None) -> Filling:
    kind, name = description.kind, description.name
    if shape is not None and kind != "multiArray":
        raise InputError(f"the input {name} is a {kind}, which has no shape to choose")
    if kind == "multiArray":
        chosen = _choose(description, shape)
        return Filling(description, pack(description, _cycle(description.dtype), math.prod(chosen)), chosen)
    content: Any
    match kind:
        case "int64":
            content = 0
        case "double":
            content = 0.0
        case "string":
            content = "hello world"
        case "image":
            content = None
        case "dictionary":
            content = {0: 1.0} if description.element == "int64" else {"a": 1.0}
        case "sequence" if description.element == "int64":
            content = [0, 1]
        case "sequence" if description.element == "string":
            content = ["hello", "world"]
        case "sequence":
            raise InputError(f"the input {name} is a sequence of {description.element}; nothing like it can be made")
        case _:
            raise InputError(f"the input {name} is of the kind {kind}; no dummy value can be made for it")
    return Filling(description, content)


def _choose(description: Description, wanted: tuple[int, ...] | None) -> tuple[int, ...]:
    """The shape to use: the one wished for if the model allows it, else the model's default."""
    name, default = description.name, description.shape
    if wanted is None:
        if not default or any(size <= 0 for size in default):
            if description.choices:
                return description.choices[0]
            raise InputError(f"the input {name} has no default shape; give one with --shape {name}=1,3,224,224")
        return default
    if any(size <= 0 for size in wanted):
        raise InputError(f"the input {name} cannot have the shape {list(wanted)}; every dimension is at least 1")
    if description.choices:
        if wanted not in description.choices:
            allowed = ", ".join(str(list(choice)) for choice in description.choices)
            raise InputError(f"the input {name} cannot have the shape {list(wanted)}; it can have {allowed}")
    elif description.ranges:
        fits = len(wanted) == len(description.ranges) and all(
            least <= size and (most is None or size <= most)
            for size, (least, most) in zip(wanted, description.ranges, strict=True)
        )
        if not fits:
            allowed = " x ".join(f"{least}..{'any' if most is None else most}" for least, most in description.ranges)
            raise InputError(f"the input {name} cannot have the shape {list(wanted)}; it can have {allowed}")
    elif default and wanted != default:
        raise InputError(f"the input {name} cannot have the shape {list(wanted)}; it always has {list(default)}")
    return wanted


def _cycle(dtype: str) -> Sequence[float]:
    return (0,) if dtype.startswith("int") else _CYCLE


def pack(description: Description, values: Sequence[float], count: int) -> bytes:
    """``count`` elements in the input's element type, cycling through ``values``."""
    name, dtype = description.name, description.dtype
    if dtype not in _PACK:
        raise InputError(f"the input {name} has elements of the type {dtype or 'unknown'}; nothing like it can be made")
    code = _PACK[dtype]
    size = struct.calcsize(code)
    if count * size > _MOST_BYTES:
        raise InputError(f"the input {name} would need {count * size:,} bytes; give a smaller --shape")
    if dtype.startswith("int"):
        values = [int(value) for value in values]
    try:
        cycle = struct.pack(f"<{len(values)}{code}", *values)
    except (struct.error, OverflowError) as error:
        raise InputError(f"the input {name}: a value does not fit into {dtype} ({error})") from error
    return (cycle * -(-count * size // len(cycle)))[: count * size] if cycle else b""


def _given(description: Description, file: str, shape: tuple[int, ...] | None) -> Filling:
    kind, name = description.kind, description.name
    suffix = Path(file).suffix.lower()
    try:
        if kind == "image":
            content: Any = _image(description, file, suffix)
            return Filling(description, content, (), "given")
        if kind == "multiArray":
            return _given_array(description, file, suffix, shape)
        if kind in ("state", "unknown"):
            raise InputError(f"the input {name} is of the kind {kind}, which no file can give")
        return Filling(description, _given_plain(description, _json(file, suffix)), (), "given")
    except (npy.NpyError, png.PngError) as error:
        raise InputError(f"the input {name}: {error}") from error


def _json(file: str, suffix: str) -> Any:
    if suffix != ".json":
        raise npy.NpyError(f"{file} cannot be used here; a .json file can")
    try:
        return json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise npy.NpyError(f"{file} cannot be read as JSON: {error}") from error


def _given_array(description: Description, file: str, suffix: str, shape: tuple[int, ...] | None) -> Filling:
    if suffix == ".npy":
        array = npy.read(file)
    elif suffix == ".json":
        array = _nested(description.name, _json(file, suffix))
    else:
        raise npy.NpyError(f"{file} cannot be used for an array; a .npy or .json file can")
    chosen = _choose(description, shape or array.shape)
    if math.prod(chosen) != len(array.values):
        raise npy.NpyError(
            f"{file} holds {len(array.values)} numbers, the shape {list(chosen)} needs {math.prod(chosen)}"
        )
    return Filling(description, pack(description, array.values, len(array.values)), chosen, "given")


def _nested(name: str, data: Any) -> npy.Array:
    """Nested lists of numbers as an array."""
    shape: list[int] = []
    level = data
    while isinstance(level, list):
        shape.append(len(level))
        level = level[0] if level else None
    flat = [data] if not shape else data
    for size in shape[1:]:
        if any(not isinstance(row, list) or len(row) != size for row in flat):
            raise InputError(f"the input {name}: the lists of the JSON file do not form an array")
        flat = [item for row in flat for item in row]
    if any(isinstance(item, bool | str | list | dict) or item is None for item in flat):
        raise InputError(f"the input {name}: the JSON file must hold numbers only")
    return npy.Array(tuple(shape), flat)


def _given_plain(description: Description, data: Any) -> Any:
    kind, name = description.kind, description.name
    wanted: dict[str, tuple[type, ...]] = {"int64": (int,), "double": (int, float), "string": (str,)}
    if kind in wanted:
        if not isinstance(data, wanted[kind]) or isinstance(data, bool):
            raise InputError(f"the input {name} is a {kind}, the JSON file holds {json.dumps(data)[:40]}")
        return data
    if kind == "sequence":
        if not isinstance(data, list) or any(not isinstance(item, wanted[description.element]) for item in data):
            raise InputError(
                f"the input {name} is a sequence of {description.element}; the JSON file holds another thing"
            )
        return data
    if not isinstance(data, dict) or any(not isinstance(value, int | float) for value in data.values()):
        raise InputError(f"the input {name} is a dictionary of numbers; the JSON file holds another thing")
    if description.element != "int64":
        return data
    try:
        return {int(key): value for key, value in data.items()}
    except ValueError as error:
        raise InputError(f"the input {name} has whole numbers as keys; {error}") from error


def _image(description: Description, file: str, suffix: str) -> png.Image:
    if suffix != ".png":
        raise png.PngError(f"{file} cannot be used for an image; a .png file can")
    image = png.read(file)
    if (image.width, image.height) != (description.width, description.height):
        raise png.PngError(
            f"{file} has {image.width} x {image.height} pixels, the model takes"
            f" {description.width} x {description.height}; resize it"
        )
    return image

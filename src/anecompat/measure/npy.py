"""NumPy's ``.npy`` files without NumPy: what a user hands in as an input, and what surfaces are dumped as."""

from __future__ import annotations

import ast
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_MAGIC = b"\x93NUMPY"
_FORMATS = {
    "f2": "e",
    "f4": "f",
    "f8": "d",
    "i1": "b",
    "i2": "h",
    "i4": "i",
    "i8": "q",
    "u1": "B",
    "u2": "H",
    "u4": "I",
    "u8": "Q",
    "b1": "?",
}


class NpyError(ValueError):
    """A file that is no array, or one of a kind that cannot be used."""


@dataclass(frozen=True, slots=True)
class Array:
    """A shape and the elements in row-major order."""

    shape: tuple[int, ...]
    values: Sequence[float]


def read(path: str | Path) -> Array:
    """The array of a .npy file. NpyError says what is wrong with it."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise NpyError(f"{path} cannot be read: {error.strerror}") from error
    if data[:6] != _MAGIC or len(data) < 10:
        raise NpyError(f"{path} is no .npy file")
    wide = data[6] >= 2
    length = int.from_bytes(data[8:12] if wide else data[8:10], "little")
    start = 12 if wide else 10
    try:
        header = ast.literal_eval(data[start : start + length].decode("latin-1"))
        kind, shape, column_major = header["descr"], tuple(header["shape"]), header["fortran_order"]
    except (ValueError, SyntaxError, KeyError, TypeError) as error:
        raise NpyError(f"{path}: the header cannot be read") from error
    if not isinstance(kind, str) or kind[1:] not in _FORMATS or kind[0] not in "<>|=":
        raise NpyError(f"{path}: elements of the type {kind} cannot be used; save numbers or truth values")
    if column_major and len(shape) > 1:
        raise NpyError(f"{path}: the array is stored column by column; save numpy.ascontiguousarray(array)")
    count = math.prod(shape)
    order = ">" if kind[0] == ">" else "<"
    size = struct.calcsize(order + _FORMATS[kind[1:]])
    body = data[start + length :]
    if len(body) < count * size:
        raise NpyError(f"{path}: the array needs {count * size:,} bytes, the file has {len(body):,}")
    return Array(shape, struct.unpack(f"{order}{count}{_FORMATS[kind[1:]]}", body[: count * size]))


def write(path: Path, kind: str, shape: tuple[int, ...], body: bytes) -> None:
    """Write row-major bytes as an array. ``kind`` is NumPy's name of the element type ("<f2")."""
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape!r}, }}"
    padding = -(len(_MAGIC) + 4 + len(header) + 1) % 64
    text = header + " " * padding + "\n"
    path.write_bytes(_MAGIC + b"\x01\x00" + struct.pack("<H", len(text)) + text.encode("latin-1") + body)

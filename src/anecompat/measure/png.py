"""PNG images without an image library: what ``--input image=file.png`` needs, and no more."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_MOST_PIXELS = 1 << 28


class PngError(ValueError):
    """A file that is no PNG, or one of a kind that is not read."""


@dataclass(frozen=True, slots=True)
class Image:
    """8-bit RGBA pixels, row by row from the top."""

    width: int
    height: int
    rgba: bytes

    def pixel(self, x: int, y: int) -> tuple[int, int, int, int]:
        at = (y * self.width + x) * 4
        red, green, blue, alpha = self.rgba[at : at + 4]
        return red, green, blue, alpha


def read(path: str | Path) -> Image:
    """The image of a PNG file of 8 or 16 bits a channel. PngError says what is wrong with it."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise PngError(f"{path} cannot be read: {error.strerror}") from error
    if data[:8] != _SIGNATURE:
        raise PngError(f"{path} is no PNG file")
    chunks: dict[bytes, bytes] = {}
    position = 8
    while position + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        chunks[kind] = chunks.get(kind, b"") + data[position + 8 : position + 8 + length]
        position += 12 + length
    if len(chunks.get(b"IHDR", b"")) != 13:
        raise PngError(f"{path}: the header is missing; the file looks truncated")
    width, height, depth, kind_of_color, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    if kind_of_color not in _CHANNELS or depth not in (8, 16) or interlaced:
        what = "interlaced" if interlaced else f"of {depth} bits, color type {kind_of_color}"
        raise PngError(f"{path} is {what}; save it as an 8-bit PNG without interlacing")
    if width * height > _MOST_PIXELS or not width or not height:
        raise PngError(f"{path} has {width} x {height} pixels, which cannot be meant")
    try:
        raw = zlib.decompress(chunks.get(b"IDAT", b""))
    except zlib.error as error:
        raise PngError(f"{path}: the pixels cannot be unpacked; the file looks truncated") from error
    channels = _CHANNELS[kind_of_color]
    rows = _unfilter(raw, width, height, channels * depth // 8, path)
    if depth == 16:
        rows = rows[::2]  # the high byte of each sample
    return Image(width, height, _rgba(rows, kind_of_color, chunks, path))


def _unfilter(raw: bytes, width: int, height: int, size: int, path: str | Path) -> bytes:
    length = width * size
    if len(raw) < (length + 1) * height:
        raise PngError(f"{path}: pixels are missing; the file looks truncated")
    previous = bytearray(length)
    out = bytearray()
    for row in range(height):
        start = row * (length + 1)
        kind, line = raw[start], bytearray(raw[start + 1 : start + 1 + length])
        if kind > 4:
            raise PngError(f"{path}: row {row} has the filter {kind}, which is none")
        for i in range(length if kind else 0):
            left = line[i - size] if i >= size else 0
            above = previous[i]
            corner = previous[i - size] if i >= size else 0
            line[i] = (line[i] + (left, above, (left + above) // 2, _paeth(left, above, corner))[kind - 1]) & 255
        out += line
        previous = line
    return bytes(out)


def _paeth(left: int, above: int, corner: int) -> int:
    estimate = left + above - corner
    return min((abs(estimate - left), 0, left), (abs(estimate - above), 1, above), (abs(estimate - corner), 2, corner))[
        2
    ]


def _rgba(rows: bytes, kind: int, chunks: dict[bytes, bytes], path: str | Path) -> bytes:
    if kind == 6:
        return rows
    if kind == 2:
        return b"".join(rows[i : i + 3] + b"\xff" for i in range(0, len(rows), 3))
    if kind == 4:
        return b"".join(rows[i : i + 1] * 3 + rows[i + 1 : i + 2] for i in range(0, len(rows), 2))
    if kind == 0:
        return b"".join(bytes((value, value, value, 255)) for value in rows)
    palette = chunks.get(b"PLTE", b"")
    if not rows or max(rows) * 3 + 3 > len(palette):
        raise PngError(f"{path}: a pixel has a color that is not in the palette")
    return b"".join(palette[value * 3 : value * 3 + 3] + b"\xff" for value in rows)

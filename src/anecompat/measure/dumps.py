"""What a measurement leaves in LOGDIR: each segment's surfaces as raw bytes, as ``.npy`` and described in words."""

from __future__ import annotations

import math
import re
from pathlib import Path

from anecompat.measure import npy
from anecompat.measure.intercept import Evaluation, SeenSurface
from anecompat.measure.surfaces import Plane, Surface
from anecompat.measure.trace import TraceSegment, TraceSurface, TraceTensor

_KINDS = {1: "|u1", 2: "<f2", 4: "<f4"}
"""The element type that an element's size stands for: the engine computes in fp16; 4 bytes are taken for fp32."""


class Folder:
    """The folder of one run's dumps, made when it is asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def write(self, number: int, evaluation: Evaluation, segment: TraceSegment) -> None:
        """The surfaces of one evaluation, and ``segment_000.txt`` that describes them."""
        lines: list[str] = []
        sides = (
            ("input", evaluation.inputs, segment.input_surfaces, segment.inputs),
            ("output", evaluation.outputs, segment.output_surfaces, segment.outputs),
        )
        for side, seen, described, tensors in sides:
            shapes = {tensor.name: tensor for tensor in tensors}
            for index, (item, surface) in enumerate(zip(seen, described, strict=True)):
                stem = f"segment_{number:03}_{side}_{index}{_suffix(surface.name)}"
                lines.append(f"{side.capitalize()} surface: {stem} " + "\n".join(item.surface.lines()))
                if item.content is not None:
                    (self.path / f"{stem}.raw").write_bytes(item.content)
                    self._write_array(stem, item, surface, shapes.get(surface.name or ""))
        (self.path / f"segment_{number:03}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _write_array(self, stem: str, item: SeenSurface, surface: TraceSurface, tensor: TraceTensor | None) -> None:
        packed = rows(item.surface, item.content or b"")
        kind = _KINDS.get(surface.bytes_per_element)
        if packed is None or kind is None:
            return
        shape = array_shape(item.surface, tensor)
        npy.write(self.path / f"{stem}.npy", kind, shape, packed)


def _suffix(name: str | None) -> str:
    return "_" + re.sub(r"[^A-Za-z0-9.-]+", "-", name)[:60] if name else ""


def _planes(surface: Surface) -> tuple[Plane, ...]:
    own = Plane(surface.width, surface.height, surface.bytes_per_element, surface.bytes_per_row)
    return surface.planes or (own,)


def rows(surface: Surface, content: bytes) -> bytes | None:
    """The elements without the padding of rows; None where the surface says something that does not add up."""
    out = bytearray()
    start = 0
    for plane in _planes(surface):
        width = plane.width * plane.bytes_per_element
        if plane.bytes_per_row < width or len(content) < start + plane.bytes_per_row * plane.height:
            return None
        for row in range(plane.height):
            at = start + row * plane.bytes_per_row
            out += content[at : at + width]
        start += plane.bytes_per_row * plane.height
    return bytes(out)


def array_shape(surface: Surface, tensor: TraceTensor | None) -> tuple[int, ...]:
    """(batch, channels, [depth,] height, width) where the key's shape fills the surface exactly, else as it lies."""
    planes = _planes(surface)
    count = sum(plane.width * plane.height for plane in planes)
    shape = tensor.shape if tensor else None
    if shape and len(shape) == 5 and None not in shape:
        width, height, depth, channels, batch = (size or 0 for size in shape)
        if math.prod((width, height, depth, channels, batch)) == count and width == surface.width:
            return (batch, channels, height, width) if depth == 1 else (batch, channels, depth, height, width)
    same = len({(plane.width, plane.height) for plane in planes}) == 1
    if not same:
        return (count,)
    plane = planes[0]
    return (plane.height, plane.width) if len(planes) == 1 else (len(planes), plane.height, plane.width)

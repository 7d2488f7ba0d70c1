"""What the interceptor saw, as a trace tells it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from anecompat.measure.dumps import Folder
from anecompat.measure.inputs import Description
from anecompat.measure.intercept import Evaluation, SeenSurface
from anecompat.measure.trace import TraceFeature, TraceSegment, TraceSurface, TraceTensor


def feature(description: Description) -> TraceFeature:
    shape = description.shape
    if description.kind == "image":
        shape = (description.height, description.width)
    return TraceFeature(
        description.name,
        description.kind,
        shape,
        description.dtype or description.pixel_format or description.element,
        description.optional,
    )


class Recorder:
    """Turns evaluations into segments, counting threads, and dumps them where there is a folder."""

    def __init__(self, folder: Folder | None) -> None:
        self._folder = folder
        self._threads: dict[int, int] = {}
        self.is_open = False
        self.count = 0

    def segment(self, evaluation: Evaluation) -> TraceSegment:
        self.count += 1
        key = parse_key(evaluation.key)
        inputs, outputs = key_tensors(key, "inputs"), key_tensors(key, "outputs")
        names_from = "key" if outputs else ""
        if not outputs and evaluation.output_symbols:
            inputs = tuple(TraceTensor(plain_symbol(name)) for name in evaluation.input_symbols)
            outputs = tuple(TraceTensor(plain_symbol(name)) for name in evaluation.output_symbols)
            names_from = "attributes"
        segment = TraceSegment(
            sequence=evaluation.sequence,
            isegment=_whole(key.get("isegment")) if key else None,
            key=key,
            inputs=inputs,
            outputs=outputs,
            names_from=names_from,
            methods=tuple(evaluation.methods),
            thread=self._threads.setdefault(evaluation.thread, len(self._threads)),
            qos=evaluation.qos,
            seconds=evaluation.seconds,
            succeeded=bool(evaluation.succeeded),
            error=str(evaluation.error) if evaluation.error else "",
            asynchronous=evaluation.asynchronous,
            input_surfaces=_surfaces(evaluation.inputs, evaluation.input_symbols, inputs),
            output_surfaces=_surfaces(evaluation.outputs, evaluation.output_symbols, outputs),
        )
        if self._folder:
            self._folder.write(self.count - 1, evaluation, segment)
        return segment


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def parse_key(text: str | None) -> dict[str, Any] | None:
    """A model key as its JSON object; None for anything else, which newer systems may well use."""
    if not text:
        return None
    try:
        key = json.loads(text)
    except ValueError:
        return None
    return key if isinstance(key, dict) else None


def key_tensors(key: Mapping[str, Any] | None, side: str) -> tuple[TraceTensor, ...]:
    """The inputs or outputs that a key names."""
    named = key.get(side) if key else None
    if not isinstance(named, Mapping):
        return ()
    return tuple(TraceTensor(str(name), _shape(entry)) for name, entry in named.items())


def _shape(entry: Any) -> tuple[int | None, ...] | None:
    shape = entry.get("shape") if isinstance(entry, Mapping) else None
    return tuple(_whole(size) for size in shape) if isinstance(shape, list) else None


def plain_symbol(symbol: str) -> str:
    """The loaded model's symbols carry a suffix: "output_tensor@output"."""
    return symbol.split("@", 1)[0]


def _surfaces(
    seen: list[SeenSurface], symbols: tuple[str, ...], tensors: tuple[TraceTensor, ...]
) -> tuple[TraceSurface, ...]:
    return tuple(
        TraceSurface(
            _surface_name(item, len(seen), symbols, tensors),
            item.surface.width,
            item.surface.height,
            item.surface.bytes_per_element,
            item.surface.bytes_per_row,
            item.surface.bytes,
            tuple((plane.width, plane.height, plane.bytes_per_row) for plane in item.surface.planes),
        )
        for item in seen
    )


def _surface_name(
    item: SeenSurface, count: int, symbols: tuple[str, ...], tensors: tuple[TraceTensor, ...]
) -> str | None:
    """By the symbol's index where the loaded model lists its symbols; else only where one name meets one surface."""
    if symbols and item.symbol is not None and item.symbol < len(symbols):
        return plain_symbol(symbols[item.symbol])
    return tensors[0].name if count == 1 and len(tensors) == 1 else None

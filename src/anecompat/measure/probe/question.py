"""One question to Core ML: a micro-model about one operation, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Array:
    """An array argument: an input of the model, or weights. ``fill`` is "wave" (small varied numbers), "zeros", "ones"
    or "count" (0, 1, 2...); ``values`` are the elements themselves."""

    shape: Shape
    dtype: str = "fp16"
    is_input: bool = False
    fill: str = "wave"
    values: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """One micro-model. ``arguments`` are those of the operation in coremltools' builder."""

    name: str
    op: str
    arguments: Mapping[str, Any]
    context: str = "alone"
    opset: str = "iOS17"
    sweep: str = ""
    point: float | None = None

    @property
    def inputs(self) -> dict[str, Array]:
        """The model's inputs by name, in order."""
        found: dict[str, Array] = {}
        for name, value in self.arguments.items():
            for number, item in enumerate(value if isinstance(value, list | tuple) else [value]):
                if isinstance(item, Array) and item.is_input:
                    found[name if len(found) or name != "values" else f"{name}{number}"] = item
        return found


def describe(probe: Probe) -> dict[str, Any]:
    """The probe as plain data, for a bundle."""
    return {
        "name": probe.name,
        "op": probe.op,
        "context": probe.context,
        "opset": probe.opset,
        "sweep": probe.sweep,
        "point": probe.point,
        "arguments": {name: _plain(value) for name, value in probe.arguments.items()},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Array):
        return {"shape": list(value.shape), "dtype": value.dtype, "input": value.is_input}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value

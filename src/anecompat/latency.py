"""A forecast of the engine's time for one prediction: a floor a segment plus a roofline, as a range. Never measured."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from math import prod
from typing import Any

from anecompat.costs import bytes_of, elements
from anecompat.findings import Latency
from anecompat.ir import Operation, Unknown
from anecompat.outline import Outline
from anecompat.segment import count_segments
from anecompat.targets import Target


@cache
def _figures() -> dict[str, dict[str, Any]]:
    text = files("anecompat.knowledge").joinpath("latency.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def operation_flops(operation: Operation) -> float:
    """Floating-point operations of one operation, multiply and add counted apart; element-wise work counts outputs."""
    if not operation.outputs:
        return 0.0
    outputs = float(elements(operation.outputs[0].type))
    try:
        if operation.type in ("conv", "conv_transpose", "linear"):
            weight = operation.input("weight")
            shape = weight.tensor.fixed() if weight is not None else ()
            if operation.type == "conv":
                return 2.0 * outputs * prod(shape[1:])
            if operation.type == "linear":
                return 2.0 * outputs * shape[-1]
            x = operation.input("x")
            return 2.0 * elements(x.type) * prod(shape[1:]) if x is not None else 0.0
        if operation.type == "matmul":
            x = operation.input("x")
            dims = x.tensor.fixed() if x is not None else ()
            inner = dims[-2] if operation.param("transpose_x", False) and len(dims) > 1 else dims[-1]
            return 2.0 * outputs * inner
        if operation.type == "scaled_dot_product_attention":
            query, keys = operation.input("query"), operation.input("key")
            if query is not None and keys is not None:
                return 4.0 * elements(query.type) * keys.tensor.fixed()[-2]
    except (Unknown, IndexError):
        return 0.0
    return outputs


def latency(outline: Outline, eligible: Sequence[bool | None], target: Target) -> Latency | None:
    """The engine's share of one prediction in milliseconds; None where nothing runs there or no figures exist."""
    figures = _figures().get(target.engine)
    if figures is None or not any(eligible):
        return None
    flops, traffic, segments = _work(outline, tuple(eligible))
    floor, peak, bandwidth = figures["floor_ms"], figures["peak"], figures["bandwidth"]
    low = segments * floor[0] + max(flops / (peak[1] * 1e12), traffic / (bandwidth[1] * 1e9)) * 1e3
    high = segments * floor[1] + (flops / (peak[0] * 1e12) + traffic / (bandwidth[0] * 1e9)) * 1e3
    return Latency(low, high, f"roofline of {target.engine}, {figures['certainty']}; engine part only")


def _work(outline: Outline, eligible: tuple[bool | None, ...]) -> tuple[float, float, int]:
    """Operations, bytes of weights and segments on the engine. Weights used twice count once."""
    flops = traffic = 0.0
    seen: set[int] = set()
    for operation, answer in zip(outline.operations, eligible, strict=True):
        if not answer:
            continue
        flops += operation_flops(operation)
        for bound in operation.inputs.values():
            for value in bound:
                if value.is_constant and id(value) not in seen:
                    seen.add(id(value))
                    traffic += bytes_of(value)
    segments = 0
    for part in outline.parts:
        operations = [outline.operations[index] for index in part.indexes]
        segments += count_segments(operations, [eligible[index] for index in part.indexes])
    return flops, traffic, segments

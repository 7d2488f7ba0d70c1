"""Core ML's own run-time estimates, as its segmenter makes them: per operation and backend, from counts and rates.

These are the numbers by which Core ML *chooses*, not times that anybody measured. The counting rules and the rates are
those published for M4 and macOS 27 (``knowledge/costs.toml`` names the source of each); M1 to M4 Pro share the counting
rules and the byte rates.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import prod

from anecompat.ir import Operation, TensorType, Unknown, Value

_BITS = {
    "fp64": 64, "int64": 64, "uint64": 64, "fp32": 32, "int32": 32, "uint32": 32, "fp16": 16, "bf16": 16,
    "int16": 16, "uint16": 16, "int8": 8, "uint8": 8, "bool": 8, "fp8e4m3fn": 8, "fp8e5m2": 8,
    "int4": 4, "uint4": 4, "uint6": 6, "uint3": 3, "uint2": 2, "uint1": 1, "string": 0,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Estimate:
    """Core ML's estimates in milliseconds for the engine and its two CPU backends; inf where a backend has none."""

    ane: float
    bnns: float
    classic: float

    @property
    def cpu(self) -> float:
        return min(self.bnns, self.classic)


@dataclass(frozen=True, slots=True)
class Leaf:
    """One row of the table: the conditions under which its rates hold. A None condition always holds."""

    operations: tuple[str, ...]
    count: str
    ane: float | None
    bnns: float
    classic: float
    intensity_below: float | None = None
    count_below: float | None = None
    outputs_from: float | None = None
    spatial_axes: tuple[int, ...] | None = None
    moves_axis_0: bool | None = None


@dataclass(frozen=True, slots=True)
class CostTable:
    """The prices of one chip and system."""

    chip: str
    system: str
    launch_ms: float
    switch_ms: float
    leave_ms: float
    tie_ms: float
    engine_bytes: float
    cpu_bytes: float
    classic_flops: float
    bnns_over_classic: float
    leaves: dict[str, tuple[Leaf, ...]]
    sources: tuple[str, ...]


Error = tuple[float, float]
EXACT: Error = (1.0, 1.0)


@cache
def _tables() -> tuple[dict[str, CostTable], dict[str, Error]]:
    text = files("anecompat.knowledge").joinpath("costs.toml").read_text(encoding="utf-8")
    data = tomllib.loads(text)
    errors = {engine: (entry["low"], entry["high"]) for entry in data.pop("error") for engine in entry["engines"]}
    tables = {}
    for name, entry in data.items():
        ratio = entry["bnns_over_classic"]
        by_operation: dict[str, list[Leaf]] = {}
        for row in entry["leaf"]:
            leaf = Leaf(
                operations=tuple(row["operations"]),
                count=row["count"],
                ane=row.get("ane"),
                bnns=row["bnns"],
                classic=row.get("classic", row["bnns"] * ratio),
                intensity_below=row.get("intensity_below"),
                count_below=row.get("count_below"),
                outputs_from=row.get("outputs_from"),
                spatial_axes=tuple(row["spatial_axes"]) if "spatial_axes" in row else None,
                moves_axis_0=row.get("moves_axis_0"),
            )
            for operation in leaf.operations:
                by_operation.setdefault(operation, []).append(leaf)
        tables[name] = CostTable(
            chip=entry["chip"],
            system=entry["system"],
            launch_ms=entry["launch_ms"],
            switch_ms=entry["switch_ms"],
            leave_ms=entry["leave_ms"],
            tie_ms=entry["tie_ms"],
            engine_bytes=entry["engine_bytes"],
            cpu_bytes=entry["engine_bytes"] / entry["cpu_slowdown"],
            classic_flops=entry["classic_flops"],
            bnns_over_classic=ratio,
            leaves={operation: tuple(rows) for operation, rows in by_operation.items()},
            sources=tuple(entry["sources"]),
        )
    return tables, errors


def table_for(engine: str, release: int) -> tuple[CostTable, Error]:
    """The nearest known table, and between which factors its CPU estimates may be off; EXACT where it was read.

    ``release`` is the major release as iOS counts it (macOS 27 is 27).
    """
    tables, errors = _tables()
    return tables["M4"], EXACT if engine == "H16" and release >= 27 else errors[engine]


def elements(type: object) -> int:
    """How many elements; a dimension that is not known counts 1, as the estimates count it."""
    if not isinstance(type, TensorType) or type.shape is None:
        return 1
    return prod(1 if dim is None else dim for dim in type.shape)


def bytes_of(value: Value) -> float:
    """How many bytes a value has, weights and inline constants alike; a string counts nothing."""
    dtype = value.type.dtype if isinstance(value.type, TensorType) else "fp16"
    return elements(value.type) * _BITS.get(dtype, 16) / 8


def _operands(operation: Operation) -> list[Value]:
    return [value for bound in operation.inputs.values() for value in bound]


def _shape(operation: Operation, argument: str) -> tuple[int, ...]:
    value = operation.input(argument)
    if value is None:
        raise Unknown(f"{argument} is not in the file")
    return value.tensor.fixed()


def _conv_flops(operation: Operation) -> float:
    """2 x output elements x (channels in / groups) x kernel / dilations, plus one for each output with a bias."""
    weight = _shape(operation, "weight")
    outputs = elements(operation.outputs[0].type)
    dilation = max(prod(operation.integers("dilations", [1])), 1)
    flops = 2.0 * outputs * prod(weight[1:]) / dilation
    return flops + outputs if operation.input("bias") is not None else flops


def _conv_transpose_flops(operation: Operation) -> float:
    """2 x output elements x channels in x kernel, not divided by the stride."""
    weight = _shape(operation, "weight")
    return 2.0 * elements(operation.outputs[0].type) * weight[0] * prod(weight[2:])


def _linear_flops(operation: Operation) -> float:
    """2 x rows x K x K, plus the outputs with a bias: K counts twice and N not at all, as Core ML counts it."""
    n, k = _shape(operation, "weight")
    x = operation.input("x")
    rows = elements(x.type) // max(k, 1) if x is not None else 1
    return 2.0 * rows * k * k + (n if operation.input("bias") is not None else 0)


def _input_elements(operation: Operation) -> float:
    return float(sum(elements(v.type) for v in _operands(operation) if _dtype(v) != "string"))


def _tensor_elements(operation: Operation) -> float:
    return float(sum(elements(v.type) for v in operation.inputs.get("values", ())))


_COUNTS = {
    "conv_flops": _conv_flops,
    "conv_transpose_flops": _conv_transpose_flops,
    "linear_flops": _linear_flops,
    "input_elements": _input_elements,
    "tensor_elements": _tensor_elements,
}


def _dtype(value: Value) -> str:
    return value.type.dtype if isinstance(value.type, TensorType) else ""


def _holds(leaf: Leaf, operation: Operation, count: float) -> bool:
    if leaf.intensity_below is not None:
        traffic = sum(bytes_of(v) for name in ("x", "weight") for v in operation.inputs.get(name, ()))
        if count / max(traffic + bytes_of(operation.outputs[0]), 1.0) >= leaf.intensity_below:
            return False
    if leaf.count_below is not None and count >= leaf.count_below:
        return False
    if leaf.outputs_from is not None and elements(operation.outputs[0].type) < leaf.outputs_from:
        return False
    if leaf.spatial_axes is not None and len(_shape(operation, "weight")) - 2 not in leaf.spatial_axes:
        return False
    if leaf.moves_axis_0 is None:
        return True
    order = operation.integers("perm")
    return bool(order) and order[0] not in (0, -len(order))


def _traffic(operation: Operation) -> float:
    """The bytes of rule 1: all operands and parameters and the first output, with Core ML's exceptions."""
    out = bytes_of(operation.outputs[0]) if operation.outputs else 0.0
    type = operation.type
    if type == "layer_norm":
        x = operation.input("x")
        return out + (bytes_of(x) if x is not None else 0.0)
    if type == "stack":
        values = operation.inputs.get("values", ())
        return out + (bytes_of(values[0]) if values else 0.0)
    if type in ("max_pool", "avg_pool", "l2_pool"):
        x, kernel = operation.input("x"), operation.input("kernel_sizes")
        return out + (bytes_of(x) if x else 0.0) + (4.0 * elements(kernel.type) if kernel else 0.0)
    if type == "matmul":
        return out + sum(bytes_of(v) for name in ("x", "y") for v in operation.inputs.get(name, ()))
    return out + sum(bytes_of(v) for v in _operands(operation))


def _rule_two_flops(operation: Operation) -> float:
    out = elements(operation.outputs[0].type)
    if operation.type == "matmul":
        x = _shape(operation, "x")
        k = x[-2] if operation.param("transpose_x", False) and len(x) > 1 else x[-1]
        return 2.0 * out * k
    if operation.type in ("max_pool", "avg_pool"):
        return float(out * prod(operation.integers("kernel_sizes")))
    return 0.0


def estimate(operation: Operation, table: CostTable) -> Estimate:
    """Core ML's estimate of one operation on each backend, in milliseconds, whether or not a backend accepts it."""
    if not operation.outputs:
        return Estimate(0.0, 0.0, 0.0)
    try:
        for leaf in table.leaves.get(operation.type, ()):
            count = _COUNTS[leaf.count](operation)
            if _holds(leaf, operation, count):
                ane = count / leaf.ane if leaf.ane else _traffic(operation) / table.engine_bytes
                return Estimate(ane * 1e3, count / leaf.bnns * 1e3, count / leaf.classic * 1e3)
        flops = _rule_two_flops(operation)
    except (Unknown, ValueError, IndexError):
        flops = 0.0
    traffic = _traffic(operation)
    on_cpu = traffic / table.cpu_bytes
    classic = max(on_cpu, flops / table.classic_flops)
    bnns = max(on_cpu, flops / table.classic_flops * table.bnns_over_classic)
    return Estimate(traffic / table.engine_bytes * 1e3, bnns * 1e3, classic * 1e3)


# Up to here published placements of a lone fused attention agree with its byte count: 1x8x512x64.
_ATTENTION_KNOWN = 8 * 512 * 512


def other_estimate(operation: Operation, table: CostTable) -> Estimate | None:
    """A second estimate where published placements contradict the first, else None.

    Fused attention by its bytes would stay on the CPU at 1x16x2048x64; it was published on the engine of an M4.
    Counting the scores as bytes fits that, but contradicts the one estimate published. Both stay possible above
    1x8x512x64.
    """
    if operation.type != "scaled_dot_product_attention":
        return None
    try:
        query, keys = _shape(operation, "query"), _shape(operation, "key")
    except Unknown:
        return None
    scores = prod(query[:-1]) * keys[-2]
    if scores <= _ATTENTION_KNOWN:
        return None
    traffic = _traffic(operation) + 2.0 * scores
    on_cpu = traffic / table.cpu_bytes * 1e3
    return Estimate(traffic / table.engine_bytes * 1e3, on_cpu, on_cpu)

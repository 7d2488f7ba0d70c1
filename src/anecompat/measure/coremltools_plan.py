"""The compute plan through coremltools (version 8 or later, macOS 14.4): the second provider, where it is installed."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from anecompat.measure.plan import PlanError
from anecompat.measure.trace import TracePlacement

_UNITS = {"cpu-only": "CPU_ONLY", "cpu-and-gpu": "CPU_AND_GPU", "all": "ALL", "cpu-and-ne": "CPU_AND_NE"}
_DEVICES = (("NeuralEngine", "ANE"), ("GPU", "GPU"), ("CPU", "CPU"))


def compute_plan(compiled: str, compute_units: str) -> list[TracePlacement]:
    """coremltools' compute plan of a compiled model. PlanError where it is not installed or gives none."""
    try:
        plans = importlib.import_module("coremltools.models.compute_plan")
        units = importlib.import_module("coremltools").ComputeUnit[_UNITS[compute_units]]
    except ImportError as error:
        raise PlanError(f"coremltools is not installed ({error})") from error
    try:
        plan = plans.MLComputePlan.load_from_path(path=compiled, compute_units=units)
        if plan is None:
            raise PlanError("coremltools gives no compute plan here")
        return list(_structure(plan, plan.model_structure, ""))
    except PlanError:
        raise
    except Exception as error:  # whatever another package raises
        raise PlanError(f"coremltools gives no compute plan: {error}") from error


def _structure(plan: Any, structure: Any, stage: str) -> Iterator[TracePlacement]:
    if structure.program is not None:
        for name, function in structure.program.functions.items():
            yield from _block(plan, function.block, name, stage)
    elif structure.neuralnetwork is not None:
        for layer in structure.neuralnetwork.layers:
            usage = plan.get_compute_device_usage_for_neuralnetwork_layer(layer)
            supported, preferred = _usage(usage)
            yield TracePlacement(
                tuple(layer.output_names), layer.type, "", stage, layer.name, None, supported, preferred
            )
    elif structure.pipeline is not None:
        for name, part in zip(structure.pipeline.sub_model_names, structure.pipeline.sub_models, strict=True):
            yield from _structure(plan, part, f"{stage}/{name}" if stage else name)


def _block(plan: Any, block: Any, function: str, stage: str) -> Iterator[TracePlacement]:
    for operation in block.operations:
        supported, preferred = _usage(plan.get_compute_device_usage_for_mlprogram_operation(operation))
        cost = plan.get_estimated_cost_for_mlprogram_operation(operation)
        yield TracePlacement(
            outputs=tuple(output.name for output in operation.outputs),
            type=operation.operator_name.rsplit(".", 1)[-1],
            function=function,
            stage=stage,
            supported=supported,
            preferred=preferred,
            cost=None if cost is None else float(cost.weight),
        )
        for nested in operation.blocks:
            yield from _block(plan, nested, function, stage)


def _usage(usage: Any) -> tuple[tuple[str, ...] | None, str | None]:
    if usage is None:
        return None, None
    named = {_device(device) for device in usage.supported_compute_devices}
    supported = tuple(name for name in ("ANE", "GPU", "CPU") if name in named)
    return supported, _device(usage.preferred_compute_device)


def _device(device: Any) -> str:
    name = type(device).__name__
    return next((short for part, short in _DEVICES if part in name), name)

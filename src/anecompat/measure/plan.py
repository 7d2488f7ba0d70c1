"""MLComputePlan (macOS 14.4): for each operation the supported and the preferred device, and its share of the cost."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from anecompat.errors import AnecompatError
from anecompat.measure.objc import declarations, foundation
from anecompat.measure.objc.block import block
from anecompat.measure.objc.runtime import Runtime
from anecompat.measure.trace import TracePlacement

_DEVICES = (("NeuralEngine", "ANE"), ("GPU", "GPU"), ("CPU", "CPU"))


class PlanError(AnecompatError):
    """Core ML gives no compute plan."""


def compute_plan(runtime: Runtime, compiled: str, settings: int) -> list[TracePlacement]:
    """Core ML's plan of a compiled model, in the order of its structure. PlanError where there is none.

    Blocks until Core ML answers, which may take minutes: it runs the engine's compiler.
    """
    plan_class = runtime.find_class("MLComputePlan")
    if not plan_class:
        raise PlanError("MLComputePlan came with macOS 14.4; this system has none")
    answered = threading.Event()
    answer: dict[str, int] = {}
    refusal: list[str] = []

    def complete(plan: int | None, error: int | None) -> None:
        try:
            with runtime.pool():
                if plan:
                    answer["plan"] = runtime.send(plan, "retain")
                else:
                    refusal.append(str(foundation.error_text(runtime, error) or "no reason given"))
        finally:
            answered.set()

    handler = block(complete, "v@?@@")
    url = foundation.file_url(runtime, compiled)
    runtime.send(plan_class, "loadContentsOfURL:configuration:completionHandler:", url, settings, handler)
    answered.wait()
    if "plan" not in answer:
        raise PlanError(f"Core ML gives no compute plan: {' '.join(refusal)}")
    with runtime.pool():
        structure = runtime.send(answer["plan"], "modelStructure")
        return list(_structure(runtime, answer["plan"], structure, ""))


def _structure(runtime: Runtime, plan: int, structure: int, stage: str) -> Iterator[TracePlacement]:
    program = runtime.send(structure, "program")
    network = runtime.send(structure, "neuralNetwork")
    pipeline = runtime.send(structure, "pipeline")
    if program:
        for name, function in foundation.entries(runtime, runtime.send(program, "functions")).items():
            yield from _block(runtime, plan, runtime.send(function, "block"), name, stage)
    elif network:
        for layer in foundation.items(runtime, runtime.send(network, "layers")):
            yield _layer(runtime, plan, layer, stage)
    elif pipeline:
        names = [
            foundation.text(runtime, n) for n in foundation.items(runtime, runtime.send(pipeline, "subModelNames"))
        ]
        parts = foundation.items(runtime, runtime.send(pipeline, "subModels"))
        for name, part in zip(names, parts, strict=True):
            yield from _structure(runtime, plan, part, f"{stage}/{name}" if stage else name)


def _block(runtime: Runtime, plan: int, body: int | None, function: str, stage: str) -> Iterator[TracePlacement]:
    for operation in foundation.items(runtime, runtime.send(body, "operations")):
        usage = runtime.send(plan, "computeDeviceUsageForMLProgramOperation:", operation)
        cost = runtime.send(plan, "estimatedCostOfMLProgramOperation:", operation)
        kind = foundation.text(runtime, runtime.send(operation, "operatorName"))
        outputs = foundation.items(runtime, runtime.send(operation, "outputs"))
        yield TracePlacement(
            outputs=tuple(foundation.text(runtime, runtime.send(output, "name")) for output in outputs),
            type=kind.rsplit(".", 1)[-1],
            function=function,
            stage=stage,
            supported=_supported(runtime, usage),
            preferred=_device(runtime, runtime.send(usage, "preferredComputeDevice")),
            cost=runtime.send(cost, "weight"),
        )
        if runtime.responds(operation, "blocks"):
            for nested in foundation.items(runtime, runtime.send(operation, "blocks")):
                yield from _block(runtime, plan, nested, function, stage)


def _layer(runtime: Runtime, plan: int, layer: int, stage: str) -> TracePlacement:
    usage = runtime.send(plan, "computeDeviceUsageForNeuralNetworkLayer:", layer)
    outputs = foundation.items(runtime, runtime.send(layer, "outputNames"))
    return TracePlacement(
        outputs=tuple(foundation.text(runtime, output) for output in outputs),
        type=foundation.text(runtime, runtime.send(layer, "type", encoding=declarations.LAYER_TYPE)),
        stage=stage,
        layer=foundation.text(runtime, runtime.send(layer, "name")),
        supported=_supported(runtime, usage),
        preferred=_device(runtime, runtime.send(usage, "preferredComputeDevice")),
    )


def _supported(runtime: Runtime, usage: int | None) -> tuple[str, ...] | None:
    if not usage:
        return None
    devices = foundation.items(runtime, runtime.send(usage, "supportedComputeDevices"))
    named = {_device(runtime, device) for device in devices}
    return tuple(name for name in ("ANE", "GPU", "CPU") if name in named)


def _device(runtime: Runtime, device: int | None) -> str | None:
    """The device by its class; its integer values changed in macOS 26."""
    if not device:
        return None
    name = runtime.class_name(device)
    return next((short for part, short in _DEVICES if part in name), name)

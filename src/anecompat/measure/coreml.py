"""Core ML's public steps: compile, load, describe, predict. Objects are retained where they outlive the call."""

from __future__ import annotations

from dataclasses import dataclass

from anecompat.errors import AnecompatError, CompileError, PredictionError, ReadError
from anecompat.measure import values
from anecompat.measure.inputs import Description, Filling
from anecompat.measure.objc import foundation
from anecompat.measure.objc.runtime import Runtime

COMPUTE_UNITS = {"cpu-only": 0, "cpu-and-gpu": 1, "all": 2, "cpu-and-ne": 3}
"""MLComputeUnits (CoreML/MLModelConfiguration.h)."""


class FunctionError(AnecompatError):
    """The function asked for cannot be chosen here."""


@dataclass(frozen=True, slots=True)
class Interface:
    """What a loaded model takes, gives and keeps, in the order of their names."""

    inputs: tuple[Description, ...]
    outputs: tuple[Description, ...]
    states: tuple[Description, ...]


def compile_model(runtime: Runtime, path: str) -> str:
    """The path of the compiled model; a .mlmodelc is its own. CompileError where Core ML refuses."""
    if path.rstrip("/").endswith(".mlmodelc"):
        return path
    with runtime.pool():
        slot = foundation.ErrorSlot(runtime)
        url = foundation.file_url(runtime, path)
        compiled = runtime.send(runtime.class_named("MLModel"), "compileModelAtURL:error:", url, slot.reference)
        if not compiled:
            raise CompileError(f"Core ML refused to compile the model: {slot.found() or 'no reason given'}")
        return foundation.text(runtime, runtime.send(compiled, "path"))


def configuration(runtime: Runtime, compute_units: str, function: str | None, *, profiling: bool = False) -> int:
    """A retained MLModelConfiguration."""
    made = runtime.new("MLModelConfiguration")
    runtime.send(made, "setComputeUnits:", COMPUTE_UNITS[compute_units])
    if function:
        if not runtime.responds(made, "setFunctionName:"):
            raise FunctionError(f"the function {function} cannot be chosen; that needs macOS 15 or later")
        runtime.send(made, "setFunctionName:", foundation.string(runtime, function))
    if profiling and runtime.responds(made, "setProfilingOptions:"):
        runtime.send(made, "setProfilingOptions:", 1)
    return made


def load(runtime: Runtime, compiled: str, settings: int) -> int:
    """A retained MLModel. ReadError where Core ML cannot load it (ANECompat's status for it)."""
    with runtime.pool():
        slot = foundation.ErrorSlot(runtime)
        url = foundation.file_url(runtime, compiled)
        model = runtime.send(
            runtime.class_named("MLModel"), "modelWithContentsOfURL:configuration:error:", url, settings, slot.reference
        )
        if not model:
            raise ReadError(f"Core ML cannot load the model: {slot.found() or 'no reason given'}")
        retained: int = runtime.send(model, "retain")
        return retained


def interface(runtime: Runtime, model: int) -> Interface:
    with runtime.pool():
        description = runtime.send(model, "modelDescription")

        def part(selector: str) -> tuple[Description, ...]:
            if not runtime.responds(description, selector):
                return ()  # states came with macOS 15
            found = foundation.entries(runtime, runtime.send(description, selector))
            return tuple(values.describe(runtime, name, found[name]) for name in sorted(found))

        return Interface(
            part("inputDescriptionsByName"), part("outputDescriptionsByName"), part("stateDescriptionsByName")
        )


def features(runtime: Runtime, fillings: list[Filling]) -> int:
    """A retained feature provider. InputError where a value cannot be made."""
    with runtime.pool():
        slot = foundation.ErrorSlot(runtime)
        content = {
            foundation.string(runtime, filling.description.name): values.make(runtime, filling) for filling in fillings
        }
        blank = runtime.send(runtime.class_named("MLDictionaryFeatureProvider"), "alloc")
        mapping = foundation.dictionary(runtime, content)
        provider: int | None = runtime.send(blank, "initWithDictionary:error:", mapping, slot.reference)
        if not provider:
            raise PredictionError(f"Core ML refused the inputs: {slot.found() or 'no reason given'}")
        return provider


def predict(runtime: Runtime, model: int, provider: int, *, with_state: bool) -> None:
    """One prediction, with a fresh MLState where the model keeps one. PredictionError where it fails.

    Every call goes through ctypes function types that release the interpreter's lock: a hook may run on another thread
    while this one waits, and would wait for ever if the lock were held (coremltools' own ``predict`` holds it).
    """
    with runtime.pool():
        slot = foundation.ErrorSlot(runtime)
        options = runtime.new("MLPredictionOptions")
        if with_state:
            state = runtime.send(model, "newState")
            result = runtime.send(
                model, "predictionFromFeatures:usingState:options:error:", provider, state, options, slot.reference
            )
        else:
            result = runtime.send(model, "predictionFromFeatures:options:error:", provider, options, slot.reference)
        if not result:
            raise PredictionError(f"the prediction failed: {slot.found() or 'no reason given'}")

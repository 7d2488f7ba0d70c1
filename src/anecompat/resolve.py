"""Flexible models at fixed shapes: the default one first, then every other that the model lists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from anecompat.errors import UsageError
from anecompat.infer import infer
from anecompat.ir import Feature, Function, Model, TensorType, number

Shapes = dict[str, tuple[int, ...]]


def resolved(model: Model, shapes: Shapes | None = None) -> Model:
    """The model with every shape that follows from its inputs'. Without ``shapes`` the inputs take their default.

    Only programs are worked out here: the shapes of old networks were inferred when they were read. A model with
    nothing open is returned as it is.
    """
    if not _is_open(model):
        return model
    return number(_resolved(model, shapes or {}))


def _resolved(model: Model, shapes: Shapes) -> Model:
    if model.stages:
        return replace(model, stages=tuple(_resolved(stage, shapes) for stage in model.stages))
    if model.kind.startswith("neuralNetwork"):
        return model
    wanted = {feature.name: feature.shape for feature in model.inputs if feature.shape is not None} | shapes
    return replace(model, functions=tuple(_function(function, wanted) for function in model.functions))


def _function(function: Function, wanted: Shapes) -> Function:
    open_inputs = {
        value.name: wanted[value.name]
        for value in function.inputs
        if value.name in wanted and isinstance(value.type, TensorType) and not value.type.is_fixed
    }
    try:
        return infer(function, open_inputs)
    except UsageError:  # the described default contradicts the program: leave it open, the rules say so
        return function


def _is_open(model: Model) -> bool:
    return any(
        isinstance(value.type, TensorType) and not value.type.is_fixed
        for _, leaf in model.walk_stages()
        for function in leaf.functions
        for operation in function.body.walk()
        for value in (*function.inputs, *operation.outputs)
    )


def enumerated(model: Model) -> Iterator[tuple[str, Shapes]]:
    """The listed shapes other than the default, as (words, shapes).

    Inputs that list equally many are taken together, the first with the first; others keep their default.
    """
    lists = [(feature, feature.choices) for feature in _inputs(model) if len(feature.choices) > 1]
    if not lists:
        return
    longest = max(len(choices) for _, choices in lists)
    for number_of in range(longest):
        shapes = {feature.name: choices[number_of] for feature, choices in lists if len(choices) == longest}
        if any(feature.shape != shapes[feature.name] for feature, _ in lists if feature.name in shapes):
            words = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes.items())
            yield words, shapes


def _inputs(model: Model) -> tuple[Feature, ...]:
    return (*model.inputs, *(feature for stage in model.stages for feature in _inputs(stage)))

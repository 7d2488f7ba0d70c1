"""A model laid out for judging: its operations in a row, equal ones grouped, so that each kind is judged once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from anecompat.ir import Block, Constant, Function, Model, Operation, Unknown, Value

_SMALL = 16


@dataclass(slots=True)
class Part:
    """One function of one stage: the unit that Core ML plans, and that gets a status of its own."""

    stage: str
    function: Function
    model: Model
    indexes: list[int]
    owners: dict[int, int]

    @property
    def legacy(self) -> bool:
        """Whether this is an old neural network, which Core ML hands to the engine by another path."""
        return self.model.kind.startswith("neuralNetwork")


@dataclass(slots=True)
class Outline:
    """The whole model in a row.

    ``kinds[i]`` is the class of operation i; ``examples`` holds one operation (and whether it is an old layer) a class.
    Two operations share a class when their type, parameters and tensor types are the same, so that no rule can tell
    them apart.
    """

    model: Model
    operations: list[Operation] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)
    examples: list[tuple[Operation, bool]] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)


def outline(model: Model) -> Outline:
    """Lay a numbered model out. Linear in its size."""
    result = Outline(model)
    classes: dict[object, int] = {}
    for stage, leaf in model.walk_stages():
        for function in leaf.functions:
            part = Part(stage, function, leaf, [], {})
            result.parts.append(part)
            legacy = part.legacy
            for operation, owner in _with_owners(function.body, -1):
                if operation.is_constexpr:
                    continue
                signature = (legacy, *_signature(operation))
                kind = classes.get(signature)
                if kind is None:
                    kind = classes[signature] = len(result.examples)
                    result.examples.append((operation, legacy))
                part.indexes.append(operation.index)
                if owner >= 0:
                    part.owners[operation.index] = owner
                result.operations.append(operation)
                result.kinds.append(kind)
    return result


def _with_owners(block: Block, owner: int) -> list[tuple[Operation, int]]:
    rows: list[tuple[Operation, int]] = []
    for operation in block.operations:
        rows.append((operation, owner))
        for inner in operation.blocks:
            rows.extend(_with_owners(inner, operation.index))
    return rows


def _signature(operation: Operation) -> tuple[object, ...]:
    bound = tuple(
        (argument, tuple(_value(value) for value in values)) for argument, values in sorted(operation.inputs.items())
    )
    return (operation.type, operation.layer, bound, tuple(value.type for value in operation.outputs))


def _value(value: Value) -> object:
    constant = value.const
    if constant is None:
        return value.type
    return value.type, _content(constant)


def _content(constant: Constant) -> object:
    if constant.blob is not None:
        return "weights"
    shape = getattr(constant.type, "shape", None)
    if shape is not None and _count(shape) > _SMALL:
        return "constant"
    try:
        return constant.values()
    except Unknown:
        return "unknown"


def _count(shape: Sequence[int | None]) -> int:
    total = 1
    for dim in shape:
        total *= dim or 1
    return total

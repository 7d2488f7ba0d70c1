"""An operation as the rules of inference see it: the shapes and the known numbers of its arguments, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite

from anecompat.ir import Operation, TensorType, Value
from anecompat.shapes import LARGEST_RANK, Downstream, Shape, Unshaped

FEW = 64  # as many elements as a tensor may have for its numbers to be followed

Numbers = tuple[float, ...]


class Call:
    """An operation as its rule sees it: shapes and numbers by argument name. ``numbers_of`` knows computed numbers."""

    def __init__(self, operation: Operation, numbers_of: Callable[[Value], Numbers | None]) -> None:
        self.operation = operation
        self._numbers_of = numbers_of

    def has(self, argument: str) -> bool:
        return bool(self.operation.inputs.get(argument))

    def shape(self, argument: str = "x") -> Shape:
        """The shape of an argument. Downstream where it has none."""
        bound = self.operation.inputs.get(argument)
        if not bound or not isinstance(bound[0].type, TensorType) or bound[0].type.shape is None:
            raise Downstream
        return bound[0].type.shape

    def shapes(self, argument: str) -> list[Shape]:
        found = []
        for value in self.operation.inputs.get(argument, ()):
            if not isinstance(value.type, TensorType) or value.type.shape is None:
                raise Downstream
            found.append(value.type.shape)
        if not found:
            raise Downstream
        return found

    def numbers(self, argument: str) -> Numbers | None:
        """The elements of an argument where they are known before the model runs."""
        bound = self.operation.inputs.get(argument)
        return self._numbers_of(bound[0]) if bound else None

    def numbers_of_each(self, argument: str) -> list[Numbers | None]:
        return [self._numbers_of(value) for value in self.operation.inputs.get(argument, ())]

    def ints(self, argument: str, default: Sequence[int] | None = None) -> tuple[int, ...]:
        if not self.has(argument) and default is not None:
            return tuple(default)
        numbers = self.numbers(argument)
        if numbers is None or not all(isfinite(number) and float(number).is_integer() for number in numbers):
            raise Unshaped(f"its {argument} is not known")
        return tuple(int(number) for number in numbers)

    def known_ints(self, argument: str) -> tuple[int, ...] | None:
        try:
            return self.ints(argument)
        except Unshaped:
            return None

    def integer(self, argument: str, default: int | None = None) -> int:
        numbers = self.ints(argument, None if default is None else (default,))
        if len(numbers) != 1:
            raise Unshaped(f"its {argument} is not one number")
        return numbers[0]

    def flag(self, argument: str, default: bool) -> bool:
        return bool(self.integer(argument, int(default)))

    def text(self, argument: str, default: str) -> str:
        return str(self.operation.param(argument, default))

    def spelled(self, argument: str) -> Shape:
        """The shape that an argument spells: its numbers, or as many unknown dimensions as it has elements."""
        numbers = self.known_ints(argument)
        if numbers is not None:
            return numbers
        vector = self.shape(argument)
        if len(vector) != 1 or vector[0] is None or vector[0] > LARGEST_RANK:
            raise Unshaped(f"its {argument} is computed by the model")
        return (None,) * vector[0]


Rule = Callable[[Call], Sequence[Shape]]


def named(rule: Rule, names: str) -> dict[str, Rule]:
    """One rule for several operations."""
    return dict.fromkeys(names.split(), rule)

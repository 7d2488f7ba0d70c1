"""What the lowering of one layer is given (``Layer``) and what it returns (``Lowered``).

A lowering names the MIL operation, binds its arguments, and leaves the shapes to a function that is called apart, so
that a shape that cannot be told costs the shape only.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from anecompat.errors import ReadError
from anecompat.ir import Constant, Scalar, TensorType, Unknown, Value
from anecompat.shapes import Dim, Downstream, Shape, Unshaped, product

FLOAT = "fp16"  # old networks declare no element types; the engine computes them all in fp16
FEW = 64  # as many elements as a tensor may have for its numbers to be followed (shapes, axes, counts)


@dataclass(slots=True)
class Edge:
    """A named tensor of the network as layers see it: ``shape`` has every axis, whatever layout ``value`` shows.

    ``numbers`` are the elements where they are known before the model runs: what shapes are computed from. They are
    floats, as in the network itself, so that no chain of products can make endless integers.
    """

    value: Value
    shape: Shape | None
    numbers: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Weight:
    """A parameter whose numbers lie in the weights: only its shape is known."""

    shape: Shape


@dataclass(frozen=True, slots=True)
class FromShapes:
    """An integer list that follows from shapes, such as the kernel of a global pooling."""

    values: Callable[[], Sequence[Dim]]


@dataclass(frozen=True, slots=True)
class Edges:
    """Several tensors bound to one argument (``concat(values=(a, b))``)."""

    edges: tuple[Edge, ...]


Argument = Edge | Edges | Weight | FromShapes | Scalar | Sequence[Scalar]


@dataclass(slots=True)
class Lowered:
    """A MIL operation: its type, its arguments, and how to work out the shape of each output."""

    type: str
    arguments: dict[str, Argument]
    shapes: Callable[[], Sequence[Shape]]


@dataclass(slots=True)
class Layer:
    """One layer: its kind and parameters as the format spells them, its inputs, and which layout values are shown in.

    ``blob``: values are shown as (N, C, H, W), while ``Edge.shape`` is (Seq, B, C, H, W).
    """

    name: str
    index: int
    kind: str
    params: Any
    inputs: tuple[Edge, ...]
    output_count: int
    blob: bool

    @property
    def place(self) -> str:
        return f"layer {self.index} '{self.name}' ({self.kind or 'of an unknown kind'})"

    def edge(self, index: int = 0) -> Edge:
        """An input of the layer. ReadError where the file binds fewer."""
        if index >= len(self.inputs):
            raise ReadError(
                f"its input {index + 1} is missing; the network is damaged, export it again",
                place=self.place,
            )
        return self.inputs[index]

    def optional(self, index: int) -> Edge | None:
        return self.inputs[index] if index < len(self.inputs) else None

    def shape(self, index: int = 0) -> Shape:
        """The shape of an input, or Downstream."""
        shape = self.edge(index).shape
        if shape is None:
            raise Downstream
        return shape

    def all_shapes(self) -> list[Shape]:
        self.edge()
        return [self.shape(index) for index in range(len(self.inputs))]

    def numbers(self, index: int) -> tuple[int, ...] | None:
        """The elements of an integer input where they are known before the model runs."""
        numbers = self.edge(index).numbers
        if numbers is None or not all(isfinite(number) and number.is_integer() for number in numbers):
            return None
        return tuple(int(number) for number in numbers)

    def shown(self, shape: Shape) -> Shape:
        return shown(shape) if self.blob else shape

    def unchanged(self) -> list[Shape]:
        return [self.shape()]

    def shown_axis(self, axis: int) -> int:
        """A channel axis as the shown value counts it: -3 stays, the sequence axis -5 is axis 0 of a blob."""
        return 0 if self.blob and axis == -5 else axis


def named(names: Sequence[str], number: int) -> str:
    """The name of an enum's value. A value that the format does not declare is spelled as its number."""
    return names[number] if 0 <= number < len(names) else f"unknown_{number}"


def shown(shape: Shape) -> Shape:
    """(Seq, B, C, H, W) as (N, C, H, W). The two leading axes fold into one only where one of them is 1."""
    if len(shape) != 5:
        return shape
    sequence, batch = shape[:2]
    leading = batch if sequence == 1 else sequence if batch == 1 else None
    return (leading, *shape[2:])


def constant(name: str, argument: Weight | FromShapes | Scalar | Sequence[Scalar]) -> Value:
    """A constant value: of a parameter written in the layer, of weights, or worked out from shapes."""
    if isinstance(argument, Weight):
        kind = TensorType(FLOAT, argument.shape)
        return Value(name, kind, const=Constant(kind))
    if isinstance(argument, FromShapes):
        return _from_shapes(name, argument)
    if isinstance(argument, (bool, int, float, str)):
        kind = TensorType(_dtype(argument), ())
        return Value(name, kind, const=Constant(kind, values=(argument,)))
    values = tuple(argument)
    kind = TensorType(_dtype(values[0]) if values else "int32", (len(values),))
    return Value(name, kind, const=Constant(kind, values=values))


def _from_shapes(name: str, argument: FromShapes) -> Value:
    try:
        dims = tuple(argument.values())
    except Unshaped:
        dims = ()
    if dims and None not in dims:
        return constant(name, [dim for dim in dims if dim is not None])
    kind = TensorType("int32", (len(dims),) if dims else None)
    return Value(name, kind, const=Constant(kind, _unknown))


def _unknown() -> Sequence[Scalar]:
    raise Unknown("it follows from a shape that is not known")


def _dtype(value: Scalar) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int32"
    return FLOAT if isinstance(value, float) else "string"


def weight_numbers(weights: Any, shape: Shape) -> tuple[float, ...] | None:
    """The elements of a small constant, if the file's payload is there as a whole.

    Large payloads are dropped while reading, which leaves a field empty: only the exact count of elements counts.
    """
    count = product(shape)
    if count is None or not 0 < count <= FEW:
        return None
    if len(weights.floatValue) == count:
        return tuple(weights.floatValue)
    if len(weights.float16Value) == 2 * count:
        return struct.unpack(f"<{count}e", weights.float16Value)
    return None

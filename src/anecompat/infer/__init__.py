"""Fills in the shapes that a program leaves open, once the shapes of its inputs are fixed.

Programs with flexible inputs declare ``?`` for every dimension that depends on them, and compute the shapes of reshapes
and fills as they run. At the default shape of the inputs, or one that is asked for, nearly all of that is known: shapes
are carried from operation to operation, and so are the small tensors of numbers that shapes are computed from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from anecompat.errors import UsageError
from anecompat.infer import arrange, compute
from anecompat.infer.call import FEW, Call, Numbers
from anecompat.infer.numbers import FOLDS
from anecompat.ir import Block, Function, Operation, TensorType, Unknown, Value
from anecompat.shapes import Shape, Unshaped, checked, product

RULES = {**compute.RULES, **arrange.RULES}

# What rules raise on arguments that do not fit one another. Core ML would refuse to load such a program; here it costs
# the shape, and no rule needs checks of its own.
MISFITS = (ValueError, LookupError, ArithmeticError)

__all__ = ["infer"]


def infer(function: Function, shapes: Mapping[str, Sequence[int]] | None = None) -> Function:
    """A copy of the function in which every shape that follows from its inputs' shapes is known.

    A function that has nothing unknown is returned as it is.
    ``shapes`` fixes inputs by name, with all their dimensions (an image may leave out its batch of 1); inputs that are
    not named keep the shape they have. Dimensions that the file knows are never changed, and what cannot be told stays
    unknown. Operations keep their index. UsageError: no such input, or a shape that contradicts the file's.
    """
    wanted = dict(shapes or {})
    names = [value.name for value in function.inputs]
    for name in wanted:
        if name not in names:
            raise UsageError(f"function {function.name!r} has no input {name!r}; it has: {', '.join(names) or 'none'}")
    if not wanted and not _is_open(function):
        return function
    inference = _Inference(4 * sum(1 for _ in function.body.walk()) + 1000)
    inputs = [inference.input(value, wanted.get(value.name)) for value in function.inputs]
    body = inference.block(function.body, inputs)
    return Function(function.name, function.opset, body, function.layout)


def _is_open(function: Function) -> bool:
    inputs = function.inputs
    outputs = (value for operation in function.body.walk() for value in operation.outputs)
    values = (value for part in (inputs, outputs) for value in part)
    return any(isinstance(value.type, TensorType) and not value.type.is_fixed for value in values)


def _refined(declared: TensorType, shape: Shape) -> TensorType:
    """The declared type with its holes filled. A shape that contradicts it is not believed."""
    if declared.shape is None:
        return TensorType(declared.dtype, shape)
    if len(declared.shape) != len(shape):
        return declared
    pairs = list(zip(declared.shape, shape, strict=True))
    if any(a is not None and b is not None and a != b for a, b in pairs):
        return declared
    return TensorType(declared.dtype, tuple(b if a is None else a for a, b in pairs))


class _Inference:
    """Copies blocks and works out their shapes. ``copies`` maps values of the original to those of the copy."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.copies: dict[Value, Value] = {}
        self.known: dict[Value, Numbers] = {}

    def input(self, value: Value, wanted: Sequence[int] | None) -> Value:
        if wanted is None or not isinstance(value.type, TensorType):
            return self.copy(value)
        shape, declared = tuple(wanted), value.type.shape
        if declared is not None and len(declared) == len(shape) + 1 and declared[0] in (1, None):
            shape = (1, *shape)  # an image: the batch is the program's own
        fitting = declared is None or (
            len(declared) == len(shape) and all(a in (None, b) for a, b in zip(declared, shape, strict=True))
        )
        if not fitting or any(dim < 1 for dim in shape):
            raise UsageError(f"the input {value.name!r} is {value.type}, not {'x'.join(map(str, wanted))}")
        return self.copy(value, TensorType(value.type.dtype, shape))

    def copy(self, value: Value, type: TensorType | None = None) -> Value:
        made = Value(value.name, type or value.type, const=value.const)
        self.copies[value] = made
        return made

    def of(self, value: Value) -> Value:
        """The copy of a value. Constants stand for themselves."""
        return self.copies.get(value, value)

    def block(self, block: Block, inputs: Sequence[Value]) -> Block:
        operations = [self.operation(operation) for operation in block.operations]
        return Block(inputs, operations, [self.of(value) for value in block.outputs])

    def operation(self, original: Operation) -> Operation:
        inputs = {name: tuple(self.of(value) for value in bound) for name, bound in original.inputs.items()}
        outputs = [self.copy(value) for value in original.outputs]
        loops = original.type == "while_loop"
        blocks = self._turns(original, inputs) if loops else [self._nested(block) for block in original.blocks]
        made = Operation(
            original.type,
            inputs,
            outputs,
            name=original.name,
            opset=original.opset,
            layer=original.layer,
            blocks=blocks,
        )
        made.index = original.index
        if made.type == "cond":
            self._join(made)
        elif loops:
            self._leave(made)
        else:
            self._apply(made)
        return made

    def _nested(self, block: Block) -> Block:
        return self.block(block, [self.copy(value) for value in block.inputs])

    def _turns(self, loop: Operation, inputs: Mapping[str, tuple[Value, ...]]) -> list[Block]:
        """The blocks of a loop with the shapes its variables begin with, if a turn keeps them; else as declared.

        Nested loops would be worked out twice at every depth: a common budget of operations ends that.
        """
        begin = inputs.get("loop_vars", ())
        fitting = all(len(block.inputs) == len(begin) for block in loop.blocks)
        size = sum(1 for block in loop.blocks for _ in block.walk())
        if loop.blocks and fitting and self.budget >= size:
            self.budget -= size
            blocks = [self.block(block, [self._begun(*pair) for pair in zip(block.inputs, begin, strict=True)])
                      for block in loop.blocks]  # fmt: skip
            body = blocks[-1]
            if all(a.type == b.type for a, b in zip(body.inputs, body.outputs, strict=False)):
                return blocks
        return [self._nested(block) for block in loop.blocks]

    def _begun(self, variable: Value, begin: Value) -> Value:
        made = self.copy(variable)
        if isinstance(begin.type, TensorType) and begin.type.shape is not None:
            self._refine(made, begin.type.shape)
        return made

    def _leave(self, loop: Operation) -> None:
        """Loop variables leave with the shape that every turn keeps."""
        if not loop.blocks:
            return
        body = loop.blocks[-1]
        for value, begin, end in zip(loop.outputs, body.inputs, body.outputs, strict=False):
            if begin.type == end.type and isinstance(end.type, TensorType) and end.type.shape is not None:
                self._refine(value, end.type.shape)

    def _join(self, cond: Operation) -> None:
        """What both branches give, where they give the same."""
        for value, *ends in zip(cond.outputs, *(block.outputs for block in cond.blocks), strict=False):
            types = [end.type for end in ends]
            first = types[0] if types else None
            if isinstance(first, TensorType) and all(type == first for type in types) and first.shape is not None:
                self._refine(value, first.shape)

    def _apply(self, made: Operation) -> None:
        rule = RULES.get(made.type)
        if rule is None:
            return
        try:
            shapes = [checked(shape) for shape in rule(Call(made, self.numbers))]
        except (Unshaped, Unknown, *MISFITS):
            return
        for value, shape in zip(made.outputs, shapes, strict=False):
            self._refine(value, shape)
        if len(made.outputs) == 1:
            numbers = self._fold(made)
            if numbers is not None:
                self.known[made.outputs[0]] = numbers

    def _refine(self, value: Value, shape: Shape) -> None:
        if isinstance(value.type, TensorType):
            value.type = _refined(value.type, shape)

    def numbers(self, value: Value) -> Numbers | None:
        """The elements of a small tensor of numbers that is known before the model runs."""
        if value.const is None:
            return self.known.get(value)
        if value.const.blob is not None or _count(value) is None:
            return None
        try:
            values = value.const.values()
        except Unknown:
            return None
        return tuple(float(v) for v in values) if all(isinstance(v, (bool, int, float)) for v in values) else None

    def _fold(self, made: Operation) -> Numbers | None:
        count = _count(made.outputs[0])
        if count is None:
            return None
        fold = FOLDS.get(made.type)
        if fold is None:
            return None
        try:
            numbers = fold(Call(made, self.numbers), count)
        except (Unshaped, Unknown, *MISFITS):
            return None
        return numbers if numbers is not None and len(numbers) == count else None


def _count(value: Value) -> int | None:
    """How many elements a tensor has, if they are few."""
    if not isinstance(value.type, TensorType) or value.type.shape is None:
        return None
    count = product(value.type.shape)
    return count if count is not None and 0 < count <= FEW else None

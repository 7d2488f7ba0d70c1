"""An mlProgram's protobuf form as functions of the graph.

Every function is read with the one block that Core ML runs: the specialization named by the function's opset.
``const`` becomes a value with a lazy constant; a ``constexpr_*`` stays an operation whose attributes are inputs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from anecompat.errors import ReadError
from anecompat.ir import Block, Constant, Function, Operation, Value
from anecompat.readers.immediate import Values

# coremltools 9.0, coremltools/__init__.py: _OPSET, keyed by the specification version of each iOS release.
OPSETS = {"CoreML5": "ios15", "CoreML6": "ios16", "CoreML7": "ios17", "CoreML8": "ios18", "CoreML9": "ios26"}

Shadowed = dict[str, Value | None]  # names of a block, with what they hide


class ProgramReader:
    """Builds the functions of one Program message and collects the constants that lie in weight files."""

    def __init__(self, values: Values, place: str) -> None:
        self._values = values
        self._place = place
        self._opset = ""
        self._function = ""
        self._names: dict[str, Value] = {}
        self.stored: list[tuple[str, Constant]] = []

    def functions(self, program: Any, order: Iterable[str] = ()) -> tuple[Function, ...]:
        """The functions, those named in ``order`` first (a protobuf map has no order), the others by name."""
        known = program.functions
        if not known:
            raise self._error("the program has no function; the model is empty or damaged, export it again")
        names = [name for name in dict.fromkeys(order) if name in known]
        names += sorted(set(known) - set(names))
        return tuple(self._one(name, known[name]) for name in names)

    def _error(self, what: str) -> ReadError:
        where = f"function {self._function}: " if self._function else ""
        return ReadError(where + what, place=self._place)

    def _one(self, name: str, function: Any) -> Function:
        self._function = name
        self._opset = OPSETS.get(function.opset, function.opset)
        blocks = function.block_specializations
        if function.opset in blocks:
            block = blocks[function.opset]
        elif len(blocks) == 1:
            block = next(iter(blocks.values()))
        else:
            held = ", ".join(sorted(blocks)) or "no block"
            raise self._error(f"its opset is {function.opset!r}, but it holds {held}; export the model again")
        self._names.clear()
        try:
            body = self._block(block, function.inputs)
        except ReadError as error:
            if error.place:
                raise
            raise self._error(error.message) from None
        return Function(name, self._opset, body)

    def _type(self, declared: Any) -> Any:
        try:
            return self._values.type(declared.type)
        except ReadError as error:
            raise self._error(f"{declared.name}: {error.message}") from None

    def _define(self, value: Value, shadowed: Shadowed) -> None:
        """A name of this block; an outer one of the same name is hidden until the block ends."""
        name = value.name
        if name in shadowed:
            raise self._error(f"two values are named {name!r}; the model is damaged, export it again")
        shadowed[name] = self._names.get(name)
        self._names[name] = value

    def _block(self, block: Any, declared: Any) -> Block:
        shadowed: Shadowed = {}
        inputs = [Value(each.name, self._type(each)) for each in declared]
        for value in inputs:
            self._define(value, shadowed)
        operations = []
        for message in block.operations:
            if message.type == "const":
                self._const(message, shadowed)
            else:
                operations.append(self._operation(message, shadowed, block))
        outputs = [self._find(name, block, "the block's result") for name in block.outputs]
        for name, outer in shadowed.items():
            if outer is None:
                del self._names[name]
            else:
                self._names[name] = outer
        return Block(inputs, operations, outputs)

    def _const(self, message: Any, shadowed: Shadowed) -> None:
        if len(message.outputs) != 1:
            raise self._error(f"a const has {len(message.outputs)} results; the file is damaged")
        declared = message.outputs[0]
        name = declared.name
        if "val" not in message.attributes:
            raise self._error(f"the const {name!r} has no value; the file is damaged")
        self._define(self._constant(name, message.attributes["val"]), shadowed)

    def _constant(self, name: str, value: Any) -> Value:
        try:
            constant = self._values.constant(value)
        except ReadError as error:
            raise self._error(f"{name}: {error.message}") from None
        if constant.blob is not None:
            self.stored.append((name, constant))
        return Value(name, constant.type, const=constant)

    def _operation(self, message: Any, shadowed: Shadowed, block: Any) -> Operation:
        kind = message.type
        if not kind:
            raise self._error("an operation has no type; the file is damaged")
        attributes = message.attributes
        name = self._values.text(attributes["name"]) if "name" in attributes else ""
        inputs: dict[str, tuple[Value, ...]] = {}
        bound = message.inputs
        for argument in sorted(bound):
            inputs[argument] = tuple(
                self._find(binding.name, block, f"{argument} of {kind} {name!r}")
                if binding.WhichOneof("binding") == "name"
                else self._constant(f"{name}_{argument}", binding.value)
                for binding in bound[argument].arguments
            )
        if kind.startswith("constexpr_"):
            for argument in sorted(attributes):
                if argument != "name" and argument not in inputs:
                    inputs[argument] = (self._constant(f"{name}_{argument}", attributes[argument]),)
        blocks = [self._block(nested, nested.inputs) for nested in message.blocks]
        outputs = [Value(declared.name, self._type(declared)) for declared in message.outputs]
        operation = Operation(kind, inputs, outputs, name=name, opset=self._opset, blocks=blocks)
        for value in outputs:
            self._define(value, shadowed)
        return operation

    def _find(self, name: str, block: Any, what: str) -> Value:
        found = self._names.get(name)
        if found is not None:
            return found
        later = any(name == declared.name for message in block.operations for declared in message.outputs)
        if later:
            raise self._error(f"{what} is {name!r}, which is made only later or from itself; the graph has a cycle")
        raise self._error(f"{what} is {name!r}, which nothing makes; the file is damaged, export the model again")

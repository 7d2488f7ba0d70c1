"""The parser of MIL text; its grammar stands in ``mil_text``.

Regular one-line statements, as Core ML's compiler prints them, are read with one regular expression each; everything
else, errors included, goes through the full parser, which starts again at that statement.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from anecompat.ir import Blob, Block, Constant, Function, Operation, TensorType, Value, ValueType
from anecompat.readers.mil_cursor import (
    BLOBFILE,
    NUMBERS,
    SPELLING,
    TEXT,
    WORD,
    Cursor,
    Elements,
    Literal,
    balanced,
    stored,
)
from anecompat.readers.mil_values import ELEMENT, decode, unescape

# The protobuf form's opset names, met in hand-written text (coremltools: _OPSET in its __init__).
_OPSETS = {"CoreML5": "ios15", "CoreML6": "ios16", "CoreML7": "ios17", "CoreML8": "ios18", "CoreML9": "ios26"}

# The compiler's own forms. Hand-written text differs in its blanks, allowed where nothing else could stand.
_CONST = re.compile(
    rf"\s*+({SPELLING}) ++({WORD}) *+= *+const\(\)\[(?:name *+= *+{TEXT}, *+)?+val *+= *+(?:({SPELLING})\("
    rf"(?:({NUMBERS})|{BLOBFILE})\)|{TEXT})\];"
)
_BINDINGS = rf"{WORD} *+= *+(?:{WORD}|\({WORD}(?:, *+{WORD})*+\))"
_OPERATION = re.compile(
    rf"\s*+({SPELLING} ++{WORD}(?:, *+{SPELLING} ++{WORD})*+) *+= *+({WORD})\(({_BINDINGS}(?:, *+{_BINDINGS})*+)\)"
    rf"(?:\[name *+= *+{TEXT}\])?+;"
)
_RESULT = re.compile(rf"({SPELLING}) ++({WORD})")
_BINDING = re.compile(rf"({WORD})=(?:({WORD})|\(([^)]*+)\))")
_NO_RESULT = re.compile(rf"{WORD}(?:\s*+<\s*+\w++\s*+>)?+\s*+\(")
_BLOCK = re.compile(rf"(?:{WORD})?+\s*+(?:\([^(){{}};]*+\))?+\s*+\{{")
_BARE = re.compile(rf"\[\s*+(?:{ELEMENT}(?:\s*+,\s*+{ELEMENT})*+)?+\s*+\]|{ELEMENT}(?![\w.$@])")
_BARE_STRING = re.compile(r'"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_INTEGER = re.compile(r"[-+]?+\d++")
_TYPED = re.compile(r"\w++\s*+[<(]")
_UNTYPED = re.compile(rf"({WORD})\s*+[,)]")
_STRING = TensorType("string", ())
_INT32 = TensorType("int32", ())
_BOOL = TensorType("bool", ())


@dataclass(frozen=True, slots=True)
class Program:
    """A whole text as read.

    Attributes are decoded to nested lists and dictionaries of plain values. ``operation_attributes`` (kept only when
    asked for) holds what each operation's bracket held.
    """

    version: str
    attributes: Mapping[str, object]
    functions: tuple[Function, ...]
    function_attributes: Mapping[str, Mapping[str, object]]
    operation_attributes: tuple[tuple[Operation, Mapping[str, object]], ...] = ()


class Parser:
    """Reads one text into a Program; made for a single use."""

    def __init__(self, text: str, path: str, keep_attributes: bool, elements: Elements | None) -> None:
        self.cursor = Cursor(text, path)
        self.elements = elements
        self.keep_attributes = keep_attributes
        self.kept: list[tuple[Operation, Mapping[str, object]]] = []
        self.scope: dict[str, Value] = {}
        self.local: dict[str, Value | None] = {}  # names of the innermost block, with what they hid outside it
        self.opset = ""

    def program(self) -> Program:
        cursor = self.cursor
        version = ""
        attributes: dict[str, Literal] = {}
        functions: dict[str, Function] = {}
        function_attributes: dict[str, Mapping[str, object]] = {}
        headed = not cursor.peek("func")
        if headed:
            start = cursor.skip()
            if cursor.word("'program' or 'func'") != "program":
                cursor.at = start
                cursor.expected("'program' or 'func'")
            cursor.eat("(")
            version = self.version()
            cursor.eat(")")
            attributes = cursor.attributes()
            cursor.eat("{", " before the functions")
        while not (cursor.take("}") if headed else cursor.skip() == len(cursor.text)):
            start = cursor.skip()
            function, own = self.function()
            if function.name in functions:
                cursor.fail(f"the function {function.name!r} is defined twice", start)
            functions[function.name] = function
            function_attributes[function.name] = {name: value.decoded() for name, value in own.items()}
        if not functions:
            cursor.fail("the program has no function")
        if cursor.skip() != len(cursor.text):
            cursor.expected("the end of the text after the program")
        return Program(
            version,
            {name: value.decoded() for name, value in attributes.items()},
            tuple(functions.values()),
            function_attributes,
            tuple(self.kept),
        )

    def version(self) -> str:
        cursor = self.cursor
        match = re.compile(r"\d{1,9}(?:\.\d{1,9})?").match(cursor.text, cursor.skip())
        if match is None:
            cursor.expected("the program's version, such as 1.3")
        cursor.at = match.end()
        return match[0]

    def function(self) -> tuple[Function, dict[str, Literal]]:
        cursor = self.cursor
        start = cursor.skip()
        if cursor.word("'func'") != "func":
            cursor.at = start
            cursor.expected("'func'")
        name = cursor.word("the function's name")
        cursor.eat("<", " and the opset")
        opset = cursor.word("an opset such as ios17")
        cursor.eat(">")
        self.opset = _OPSETS.get(opset, opset)
        self.scope, self.local = {}, {}
        cursor.eat("(")
        inputs: list[Value] = []
        while not cursor.take(")"):
            if inputs:
                cursor.eat(",", " or ')'")
            type = cursor.type()
            at = cursor.skip()
            inputs.append(self.define(cursor.word("the name of an input"), type, at))
        attributes = cursor.attributes()
        body = self.body(inputs)
        cursor.take(";")
        return Function(name, self.opset, body), attributes

    def body(self, inputs: list[Value]) -> Block:
        """``{ statements } -> (names)``; the caller owns the scope."""
        cursor = self.cursor
        cursor.eat("{")
        operations = self.statements()
        cursor.eat("->", " and the block's outputs")
        cursor.eat("(")
        outputs: list[Value] = []
        while not cursor.take(")"):
            if outputs:
                cursor.eat(",", " or ')'")
            outputs.append(self.resolve())
        return Block(inputs, operations, outputs)

    def statements(self) -> list[Operation]:
        """Every statement up to the closing brace: the compiler's regular ones by expression, the others by token."""
        cursor, scope, local, spellings = self.cursor, self.scope, self.local, self.cursor.spellings
        text = cursor.text
        const, operation = _CONST.match, _OPERATION.match
        operations: list[Operation] = []
        while True:
            match = const(text, cursor.at)
            if match is not None:
                spelled, name, _, literal_type, numbers, path, offset, string = match.groups()
                type = spellings.get(spelled) or cursor.spelled(spelled)
                own = type
                if literal_type is not None and literal_type != spelled:
                    own = spellings.get(literal_type) or cursor.spelled(literal_type)
                if type is not None and own is not None and name not in local and balanced(numbers):
                    if numbers is not None:
                        constant = Constant(own, partial(decode, numbers, own))
                    elif string is not None:
                        constant = Constant(_STRING, values=(string,))
                    else:
                        constant = stored(own, Blob(path, int(offset)), self.elements)
                    local[name] = scope.get(name)
                    scope[name] = Value(name, type, None, constant)
                    cursor.at = match.end()
                    continue
            else:
                match = operation(text, cursor.at)
                found = None if match is None else self.regular(match)
                if match is not None and found is not None:
                    operations.append(found)
                    cursor.at = match.end()
                    continue
            if cursor.take("}"):
                return operations
            if cursor.at == len(text):
                cursor.expected("a statement or '}'")
            irregular = self.statement()
            if irregular is not None:
                operations.append(irregular)

    def regular(self, match: re.Match[str]) -> Operation | None:
        """A statement in the compiler's own form; None where a name is unknown or taken (the full parser says so)."""
        cursor, scope, local = self.cursor, self.scope, self.local
        results, kind, bindings, name = match.groups()
        if kind == "const":
            return None
        bindings = bindings.replace(" ", "")
        inputs: dict[str, tuple[Value, ...]] = {}
        try:
            if "(" not in bindings:
                for binding in bindings.split(","):
                    argument, _, bound = binding.partition("=")
                    inputs[argument] = (scope[bound],)
            else:
                for argument, bound, several in _BINDING.findall(bindings):
                    inputs[argument] = (scope[bound],) if bound else tuple(map(scope.__getitem__, several.split(",")))
        except KeyError:
            return None
        outputs: list[Value] = []
        for spelled, output in _RESULT.findall(results):
            type = cursor.spellings.get(spelled) or cursor.spelled(spelled)
            if type is None or output in local:
                return None
            outputs.append(Value(output, type))
        if len(inputs) != bindings.count("=") or len({value.name for value in outputs}) != len(outputs):
            return None
        for value in outputs:
            local[value.name] = scope.get(value.name)
            scope[value.name] = value
        return Operation(kind, inputs, outputs, name=name or "", opset=self.opset)

    # The full parser: one statement of any form.

    def statement(self) -> Operation | None:
        """One statement; None for a const, which is a value and no operation."""
        cursor = self.cursor
        results: list[tuple[str, ValueType, int]] = []
        if _NO_RESULT.match(cursor.text, cursor.skip()) is None:
            results = self.results()
            cursor.eat("=")
        kind = cursor.word("an operation")
        opset = self.opset
        if cursor.take("<"):
            opset = cursor.word("an opset such as ios17")
            opset = _OPSETS.get(opset, opset)
            cursor.eat(">")
        prefix = results[0][0] if results else kind
        inputs = self.arguments(prefix)
        attributes = cursor.attributes()
        if kind == "const":
            self.const(results, attributes)
            cursor.eat(";", " after the statement")
            return None
        blocks: list[Block] = []
        while _BLOCK.match(cursor.text, cursor.skip()):
            blocks.append(self.block(inputs.get("loop_vars", ())))
            cursor.take(",")
        if blocks and not attributes:
            attributes = cursor.attributes()
        if not cursor.take(";") and not blocks:
            cursor.expected("';' or a block after the statement")
        named = attributes.get("name")
        if kind.startswith("constexpr_"):
            for argument, literal in attributes.items():
                if argument != "name":
                    inputs[argument] = (self.literal_value(f"{prefix}_{argument}", literal),)
        outputs = [self.define(name, type, at) for name, type, at in results]
        name = named.decoded() if named else ""
        operation = Operation(
            kind, inputs, outputs, name=name if isinstance(name, str) else "", opset=opset, blocks=blocks
        )
        if self.keep_attributes:
            self.kept.append((operation, {key: value.decoded() for key, value in attributes.items()}))
        return operation

    def results(self) -> list[tuple[str, ValueType, int]]:
        """``TYPE name, ...``, in parentheses or not, each with its place."""
        cursor = self.cursor
        enclosed = cursor.take("(")
        found: list[tuple[str, ValueType, int]] = []
        while not found or cursor.take(","):
            type = cursor.type()
            at = cursor.skip()
            found.append((cursor.word("the name of a result"), type, at))
        if enclosed:
            cursor.eat(")")
        return found

    def const(self, results: list[tuple[str, ValueType, int]], attributes: dict[str, Literal]) -> None:
        if len(results) != 1 or "val" not in attributes:
            self.cursor.fail("a const has one result and the attribute val")
        name, type, at = results[0]
        self.define(name, type, at, attributes["val"].constant(self.elements))

    def define(self, name: str, type: ValueType, at: int, constant: Constant | None = None) -> Value:
        if name in self.local:
            self.cursor.fail(f"the name {name!r} is defined twice in this block", at)
        value = Value(name, type, None, constant)
        self.local[name] = self.scope.get(name)
        self.scope[name] = value
        return value

    def resolve(self) -> Value:
        cursor = self.cursor
        at = cursor.skip()
        name = cursor.word("the name of a value")
        value = self.scope.get(name)
        if value is None:
            cursor.fail(f"the name {name!r} is used but not defined before this place", at)
        return value

    def block(self, carried: tuple[Value, ...]) -> Block:
        """A nested block; ``carried`` lends untyped inputs their types, by position."""
        cursor = self.cursor
        cursor.deeper("blocks")
        outer, self.local = self.local, {}
        if not cursor.peek("(") and not cursor.peek("{"):
            cursor.word("the block's name")
        inputs: list[Value] = []
        if cursor.take("("):
            while not cursor.take(")"):
                if inputs:
                    cursor.eat(",", " or ')'")
                inputs.append(self.block_input(carried[len(inputs)] if len(inputs) < len(carried) else None))
        body = self.body(inputs)
        for name, hidden in self.local.items():
            if hidden is None:
                del self.scope[name]
            else:
                self.scope[name] = hidden
        self.local = outer
        cursor.shallower()
        return body

    def block_input(self, carried: Value | None) -> Value:
        cursor = self.cursor
        at = cursor.skip()
        untyped = _UNTYPED.match(cursor.text, at)
        if untyped is None:
            type = cursor.type()
            at = cursor.skip()
        elif carried is None:
            cursor.fail(f"the block's input {untyped[1]!r} has no type, and no loop variable lends it one", at)
        else:
            type = carried.type
        return self.define(cursor.word("the name of a block's input"), type, at)

    def arguments(self, prefix: str) -> dict[str, tuple[Value, ...]]:
        cursor = self.cursor
        cursor.eat("(")
        inputs: dict[str, tuple[Value, ...]] = {}
        while not cursor.take(")"):
            if inputs:
                cursor.eat(",", " or ')'")
            at = cursor.skip()
            name = cursor.word("the name of an argument")
            if name in inputs:
                cursor.fail(f"the argument {name!r} is given twice", at)
            cursor.eat("=")
            inputs[name] = self.argument(f"{prefix}_{name}")
        return inputs

    def argument(self, name: str) -> tuple[Value, ...]:
        cursor = self.cursor
        if not cursor.take("("):
            return (self.bound(name),)
        found: list[Value] = []
        while not cursor.take(")"):
            if found:
                cursor.eat(",", " or ')'")
            found.append(self.bound(f"{name}_{len(found)}"))
        return tuple(found)

    def bound(self, name: str) -> Value:
        """One argument: the name of a value, a typed value, or a bare literal; ``name`` is for the last two."""
        cursor = self.cursor
        at = cursor.skip()
        string = _BARE_STRING.match(cursor.text, at)
        if string is not None:
            cursor.at = string.end()
            return Value(name, _STRING, None, Constant(_STRING, values=(unescape(string[1]),)))
        bare = _BARE.match(cursor.text, at)
        if bare is not None:
            return self.bare(name, bare)
        if _TYPED.match(cursor.text, at):
            return self.literal_value(name, cursor.value())
        return self.resolve()

    def bare(self, name: str, match: re.Match[str]) -> Value:
        words = match[0].replace("[", " ").replace("]", " ").replace(",", " ").split()
        if all(_INTEGER.fullmatch(word) for word in words):
            scalar = _INT32
        elif all(word in ("true", "false") for word in words):
            scalar = _BOOL
        else:
            self.cursor.fail(f"a floating point literal needs its type, as in fp16({words[0]})", match.start())
        self.cursor.at = match.end()
        type = TensorType(scalar.dtype, (len(words),)) if match[0].startswith("[") else scalar
        return Value(name, type, None, Constant(type, partial(decode, match[0], type)))

    def literal_value(self, name: str, literal: Literal) -> Value:
        return Value(name, literal.type, None, literal.constant(self.elements))

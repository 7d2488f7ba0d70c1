"""MIL text: the ``model.mil`` of a compiled model, and the language of this project's tests and examples.

Grammar, as Core ML's compiler prints it (programs 1.0 and 1.3), with what hand-written text may do besides:

    program    = "program" "(" VERSION ")" [attributes] "{" function... "}"        (or bare functions: for snippets)
    function   = "func" NAME "<" OPSET ">" "(" [TYPE NAME, ...] ")" [attributes] body [";"]
    body       = "{" statement... "}" "->" "(" [NAME, ...] ")"
    statement  = [results "="] OPERATION ["<" OPSET ">"] "(" [NAME "=" argument, ...] ")" [attributes] block... ";"
    results    = TYPE NAME, ...                                     (also in parentheses)
    block      = [NAME] ["(" [[TYPE] NAME, ...] ")"] body [","]     (after blocks the ";" may be left out)
    argument   = NAME | "(" [argument, ...] ")" | value | bare
    attributes = "[" [NAME "=" value, ...] "]"
    value      = TYPE "(" literal ")"
    bare       = integer | "true" | "false" | STRING | "[" integers or booleans "]"      (int32, bool, string)

Comments run from ``//`` or ``#`` to the end of the line. No published text shows the blocks of ``cond`` and
``while_loop``; the form above follows the block of the protobuf form (inputs, operations, outputs). A while_loop's
blocks are its condition and its body, whose untyped inputs take the types of ``loop_vars``; a cond's are the branch
taken and the other. Names of an outer block are visible inside and may be redefined there.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from anecompat.ir import Feature, Function, Model, StateType, TensorType, Value, number
from anecompat.readers.mil_cursor import Elements
from anecompat.readers.mil_parser import Parser, Program

# Core ML's specification version that introduced an opset (coremltools: _SPECIFICATION_VERSION_IOS_*).
SPEC_VERSIONS = {"ios15": 6, "ios16": 7, "ios17": 8, "ios18": 9, "ios26": 10}


def parse(text: str, *, path: str = "<text>") -> tuple[Function, ...]:
    """The functions of a MIL text. ReadError with line, column and what was expected where it is not MIL."""
    return parse_program(text, path=path).functions


def parse_program(
    text: str, *, path: str = "<text>", keep_attributes: bool = False, elements: Elements | None = None
) -> Program:
    """The whole program, attributes included; those of operations only with ``keep_attributes``. ReadError as above.

    ``elements`` fetches small values out of the weight files beside the text (path, offset, type).
    """
    with _collection_paused():
        return Parser(text, path, keep_attributes, elements).program()


def parse_model(text: str, path: str = "<text>") -> Model:
    """A loose MIL text as a model of format "mil". ReadError with line and column where it is not MIL."""
    return model_of(parse_program(text, path=path), path)


@contextmanager
def _collection_paused() -> Iterator[None]:
    """Cyclic garbage collection out of the way: tens of thousands of live objects and no garbage among them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def model_of(program: Program, path: str) -> Model:
    """The model a loose text holds; ``main``, or else the first function, speaks for its inputs and outputs."""
    default = next((f for f in program.functions if f.name == "main"), program.functions[0])
    shapes = program.function_attributes[default.name].get("FlexibleShapeInformation")
    flexible = shape_information(shapes)
    build = program.attributes.get("buildInfo")
    return number(
        Model(
            path,
            "mil",
            "mlProgram",
            max(SPEC_VERSIONS.get(function.opset, 0) for function in program.functions),
            inputs=tuple(feature(v, flexible) for v in default.inputs if not isinstance(v.type, StateType)),
            outputs=tuple(feature(value, {}) for value in default.outputs),
            states=tuple(feature(v, flexible) for v in default.inputs if isinstance(v.type, StateType)),
            functions=program.functions,
            default_function=default.name,
            metadata={str(key): str(value) for key, value in build.items()} if isinstance(build, dict) else {},
        )
    )


def shape_information(attribute: object) -> dict[str, dict[str, object]]:
    """FlexibleShapeInformation, a tuple of (topic, {input: shapes}), as topic -> input -> nested lists.

    Topics seen: DefaultShapes and RangeDims (Core ML compiler 3500); EnumeratedShapes is the third that the
    specification's shape flexibility would need.
    """
    found: dict[str, dict[str, object]] = {}
    if isinstance(attribute, list):
        for entry in attribute:
            if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], dict):
                found[str(entry[0])] = entry[1]
    return found


def feature(value: Value, flexible: Mapping[str, Mapping[str, object]]) -> Feature:
    """How an app would see a function's input or output. A shape with an unknown dimension takes the default one."""
    if not isinstance(value.type, TensorType | StateType):
        kind = "dictionary" if str(value.type).startswith("dict") else "unknown"
        return Feature(value.name, kind)
    tensor = value.tensor
    shape = tensor.fixed() if tensor.is_fixed else _dimensions(_of(flexible, "DefaultShapes", value.name))
    choices = _of(flexible, "EnumeratedShapes", value.name)
    ranges = _of(flexible, "RangeDims", value.name)
    return Feature(
        value.name,
        "state" if isinstance(value.type, StateType) else "multiArray",
        tensor.dtype,
        shape,
        tuple(d for each in choices if (d := _dimensions(each)) is not None) if isinstance(choices, list) else (),
        tuple(_range(each) for each in ranges) if isinstance(ranges, list) else (),
    )


def _of(flexible: Mapping[str, Mapping[str, object]], topic: str, name: str) -> object:
    return flexible.get(topic, {}).get(name)


def _dimensions(found: object) -> tuple[int, ...] | None:
    if isinstance(found, list) and all(isinstance(each, int) for each in found):
        return tuple(found)
    return None


def _range(found: object) -> tuple[int, int | None]:
    """(least, most); a negative or huge most means that there is none."""
    match found:
        case [int(least), int(most)]:
            return least, most if 0 <= most < 2**31 - 1 else None
    return 1, None

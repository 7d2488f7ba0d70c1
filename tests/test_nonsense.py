"""Graphs that make no sense, from every operation and parameter the tables know: an answer, never a crash."""

from __future__ import annotations

import json
import random

import pytest

from anecompat import knowledge
from anecompat.checking import check_model
from anecompat.ir import (
    Blob,
    Block,
    Constant,
    Function,
    Model,
    Operation,
    OtherType,
    StateType,
    TensorType,
    Value,
    ValueType,
    number,
)
from anecompat.targets import parse_targets

DTYPES = ("fp16", "fp32", "int32", "bool", "int8", "uint16", "int16", "string", "int64")
ARGUMENTS = [
    "x",
    "y",
    "weight",
    "bias",
    "strides",
    "pad",
    "pad_type",
    "dilations",
    "groups",
    "kernel_sizes",
    "axis",
    "axes",
    "perm",
    "begin",
    "end",
    "stride",
    "size",
    "shape",
    "values",
    "indices",
    "reps",
    "mode",
    "keep_dims",
    "transpose_x",
    "transpose_y",
    "k",
    "query",
    "key",
    "value",
    "attn_mask",
    "data",
    "updates",
    "input",
    "cond",
    "a",
    "b",
    "dtype",
    "output_dtype",
    "box_indices",
    "upscale_factor",
    "block_size",
    "alpha",
]


def some_type(chance: random.Random) -> ValueType:
    kind = chance.random()
    if kind < 0.05:
        return TensorType(chance.choice(DTYPES), None)
    if kind < 0.08:
        return OtherType("list<fp16>")
    if kind < 0.1:
        return StateType(TensorType("fp16", (1, 2)))
    sizes = (0, 1, 2, 3, 5, 16, 31, 64, 70000, None, 2**40)
    return TensorType(chance.choice(DTYPES), tuple(chance.choice(sizes) for _ in range(chance.randint(0, 7))))


def some_constant(chance: random.Random) -> Value:
    type = some_type(chance)
    if chance.random() < 0.2:
        return Value("c", type, None, Constant(type, blob=Blob("weight.bin", 64)))
    if chance.random() < 0.1:
        return Value("c", type, None, Constant(type))
    values = [chance.choice((0, 1, -1, 2, 5, 1.5, True, "same", 10**30)) for _ in range(chance.randint(0, 6))]
    return Value("c", type, None, Constant(type, values=values))


def some_model(chance: random.Random) -> Model:
    values = [Value(f"i{n}", some_type(chance)) for n in range(3)]
    inputs, operations = values[:3], []
    for n in range(6):
        bound = {
            argument: tuple(
                chance.choice(values) if chance.random() < 0.5 else some_constant(chance)
                for _ in range(chance.choice((0, 1, 1, 1, 2)))
            )
            for argument in chance.sample(ARGUMENTS, chance.randint(0, 9))
        }
        results = [Value(f"o{n}_{m}", some_type(chance)) for m in range(chance.choice((0, 1, 1, 1, 2)))]
        layer = chance.choice(("", "", "convolution", "reduce", "no_such_layer"))
        operations.append(Operation(chance.choice(knowledge.operations()), bound, results, layer=layer))
        values += results
    kind, layout = chance.choice((("mlProgram", "mil"), ("neuralNetwork", "blob")))
    function = Function("main", "ios18", Block(inputs, operations, values[-2:]), layout)
    return number(Model("nonsense", "mil", kind, 8, functions=(function,)))


@pytest.mark.parametrize("seed", range(200))
def test_every_graph_gets_a_report(seed: int) -> None:
    chance = random.Random(seed)
    model = some_model(chance)
    report = check_model(model, parse_targets(["M1@macos14", "M4", "A12", "A15"]))
    document = json.loads(report.to_json())
    assert [len(target["operations"]) for target in document["targets"]] == [len(list(model.operations()))] * 4
    assert report.to_text(width=60).endswith(f"Completed with status: {report.status}")

"""Eligible operations into segments with model keys, consistent with the data flow.

A segment is a set of operations that could run as one Neural Engine program: nothing it needs waits for anything that
waits for it. Each operation gets a level, the number of times the data changes device on the longest way to it from
the CPU, where every prediction begins; operations of the same device and level form one segment. No two such segments
could be one: between them lies an operation that waits for the first and that the second waits for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from anecompat.findings import Segment
from anecompat.ir import Operation, StateType, TensorType, Value
from anecompat.outline import Outline, Part

Key = tuple[int | None, int | None, int | None, int | None, int | None]


def key_shape(type: object, layout: str) -> tuple[Key, bool]:
    """A value's shape as [width, height, depth, channels, batch], and whether no published key proves its form.

    Published keys cover blobs and vectors of old networks, and rank 4 of mlPrograms (ANECompat's README). Other ranks
    are aligned to the right end of (N, C, H, W); rank 5 is read as (N, C, D, H, W). Unknown dimensions are None.
    """
    shape = type.shape if isinstance(type, TensorType) else None
    if shape is None or len(shape) > 5:
        return (None, None, None, None, None), True
    if len(shape) == 5:
        n, c, d, h, w = shape
        return (w, h, d, c, n), True
    n, c, h, w = (1,) * (4 - len(shape)) + shape
    inferred = (layout != "blob" and len(shape) != 4) or n != 1
    return (w, h, 1, c, n), inferred


def levels(operations: Sequence[Operation], eligible: Sequence[bool | None]) -> list[int]:
    """How often the data has changed device, beginning on the CPU, when it reaches each operation."""
    position = {id(operation): i for i, operation in enumerate(operations)}
    result = [0] * len(operations)
    touched: dict[int, list[int]] = {}
    for i, operation in enumerate(operations):
        here = eligible[i] is True
        level = int(here)
        for value in _needed(operation):
            producer = value.producer
            if producer is not None:
                earlier: Sequence[int] = (position.get(id(producer), -1),)
            elif isinstance(value.type, StateType):
                earlier = _in_turn(touched.setdefault(id(value), [-1]), i, operation)
            else:
                continue
            for at in earlier:
                if 0 <= at < i:
                    reached = result[at] + ((eligible[at] is True) is not here)
                    if reached > level:
                        level = reached
        result[i] = level
    return result


def _in_turn(touched: list[int], index: int, operation: Operation) -> Sequence[int]:
    """What an operation on a state waits for: a read for the last write, a write also for the reads since.

    ``touched`` holds the last write, -1 for none, then the reads since, and is brought up to date.
    """
    if operation.type == "read_state":
        touched.append(index)
        return touched[:1]
    earlier = touched[:]
    touched[:] = [index]
    return earlier


def _needed(operation: Operation) -> Iterator[Value]:
    """Everything an operation waits for: a branch or loop also for what its blocks take from outside."""
    for bound in operation.inputs.values():
        yield from bound
    for block in operation.blocks:
        yield from block.outputs
        for inner in block.operations:
            yield from _needed(inner)


def count_segments(operations: Sequence[Operation], eligible: Sequence[bool | None]) -> int:
    """How many engine segments there would be."""
    return len({level for level, ok in zip(levels(operations, eligible), eligible, strict=True) if ok})


def segments(outline: Outline, eligible: Sequence[bool | None]) -> tuple[Segment, ...]:
    """The engine segments of every function, numbered in file order within each."""
    found: list[Segment] = []
    for part in outline.parts:
        found.extend(_of_part(outline, part, eligible))
    return tuple(found)


def _of_part(outline: Outline, part: Part, eligible: Sequence[bool | None]) -> list[Segment]:
    operations = [outline.operations[index] for index in part.indexes]
    answers = [eligible[index] for index in part.indexes]
    groups: dict[int, list[Operation]] = defaultdict(list)
    level_of: dict[int, int] = {}
    for operation, level, answer in zip(operations, levels(operations, answers), answers, strict=True):
        if answer is True:
            groups[level].append(operation)
            level_of[id(operation)] = level
    users: dict[int, list[Operation]] = defaultdict(list)
    for operation in operations:
        for bound in operation.inputs.values():
            for value in bound:
                if value.producer is not None:
                    users[id(value)].append(operation)
        for block in operation.blocks:
            for value in block.outputs:
                users[id(value)].append(operation)
    leaving = {id(value) for value in part.function.outputs}
    ordered = sorted(groups.items(), key=lambda item: item[1][0].index)
    return [
        _segment(number, level, members, part, users, leaving, level_of)
        for number, (level, members) in enumerate(ordered)
    ]


def _segment(
    number: int,
    level: int,
    members: list[Operation],
    part: Part,
    users: dict[int, list[Operation]],
    leaving: set[int],
    level_of: dict[int, int],
) -> Segment:
    inputs: dict[str, Value] = {}
    outputs: dict[str, Value] = {}
    ended: set[int] = set()
    for operation in members:
        for bound in operation.inputs.values():
            for value in bound:
                if value.const is not None:
                    continue
                producer = value.producer
                if producer is None or (level_of.get(id(producer)) != level and not producer.is_constexpr):
                    inputs.setdefault(value.name, value)
        for value in operation.outputs:
            outside = [user for user in users.get(id(value), ()) if level_of.get(id(user)) != level]
            ended.update(user.index for user in outside if id(user) not in level_of)
            if outside or id(value) in leaving:
                outputs.setdefault(value.name, value)
    layout, inferred = part.function.layout, False
    shapes: list[dict[str, Key]] = []
    for values in (inputs, outputs):
        row: dict[str, Key] = {}
        for name, value in values.items():
            kind = getattr(value.type, "tensor", value.type)
            row[name], doubtful = key_shape(kind, layout)
            inferred = inferred or doubtful
        shapes.append(row)
    return Segment(
        isegment=number,
        device="ANE",
        inputs=shapes[0],
        outputs=shapes[1],
        operations=tuple(operation.index for operation in members),
        inferred_key=inferred,
        stage=part.stage,
        function=part.function.name,
        ended_by=tuple(sorted(ended)),
    )

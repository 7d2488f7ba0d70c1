"""Numbers that are known before the model runs: what programs compute shapes from, operation by operation."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence

from anecompat.infer.call import Call, Numbers

Fold = Callable[[Call, int], Numbers | None]


def _elements(call: Call, count: int) -> Numbers | None:
    return call.numbers("x")


def _integer_cast(call: Call, count: int) -> Numbers | None:
    numbers = call.numbers("x")
    if numbers is None or not call.text("dtype", "").startswith(("int", "uint")):
        return numbers
    return tuple(float(int(number)) for number in numbers)


def _arithmetic(function: Callable[[float, float], float]) -> Fold:
    """Where each operand is one number or has all: a true broadcast is not worth following."""

    def fold(call: Call, count: int) -> Numbers | None:
        x, y = call.numbers("x"), call.numbers("y")
        if x is None or y is None or len(x) not in (1, count) or len(y) not in (1, count):
            return None
        first, second = (x * count if len(x) == 1 else x), (y * count if len(y) == 1 else y)
        return tuple(float(function(a, b)) for a, b in zip(first, second, strict=True))

    return fold


def _quotient(call: Call, count: int) -> Numbers | None:
    """Integers are divided with the remainder cut off, by a kernel that is not published: only exact ones are told."""
    numbers = _arithmetic(operator.truediv)(call, count)
    return numbers if numbers is not None and all(number.is_integer() for number in numbers) else None


def _reduction(function: Callable[[Sequence[float]], float]) -> Fold:
    def fold(call: Call, count: int) -> Numbers | None:
        numbers = call.numbers("x")
        return (float(function(numbers)),) if numbers is not None and count == 1 else None

    return fold


def _shape(call: Call, count: int) -> Numbers | None:
    dims = call.shape()
    return None if None in dims else tuple(float(dim) for dim in dims if dim is not None)


def _joined(call: Call, count: int) -> Numbers | None:
    """``concat`` of vectors and ``stack`` of scalars: the elements one after another."""
    if any(len(shape) > 1 for shape in call.shapes("values")):
        return None
    each = call.numbers_of_each("values")
    if any(numbers is None for numbers in each):
        return None
    return tuple(number for numbers in each if numbers is not None for number in numbers)


def _gathered(call: Call, count: int) -> Numbers | None:
    numbers, indices = call.numbers("x"), call.known_ints("indices")
    if numbers is None or indices is None or len(call.shape()) != 1:
        return None
    return tuple(numbers[index] for index in indices)


def _sliced(call: Call, count: int) -> Numbers | None:
    numbers = call.numbers("x")
    if numbers is None or len(call.shape()) != 1:
        return None
    if call.ints("squeeze_mask", (0,))[0]:
        return (numbers[call.ints("begin")[0]],)
    begin = None if call.ints("begin_mask", (0,))[0] else call.ints("begin")[0]
    end = None if call.ints("end_mask", (0,))[0] else call.ints("end")[0]
    return numbers[begin : end : call.ints("stride", (1,))[0]]


def _sized(call: Call, count: int) -> Numbers | None:
    numbers = call.numbers("x")
    if numbers is None or len(call.shape()) != 1:
        return None
    begin = call.integer("begin")
    return numbers[begin : begin + count]


def _filled(call: Call, count: int) -> Numbers | None:
    value = call.numbers("value")
    return value * count if value is not None and len(value) == 1 else None


def _counted(call: Call, count: int) -> Numbers | None:
    start, step = call.numbers("start"), call.numbers("step")
    if start is None or step is None:
        return None
    return tuple(start[0] + index * step[0] for index in range(count))


def _chosen(call: Call, count: int) -> Numbers | None:
    which = call.numbers("cond")
    if which is None or len(which) != 1:
        return None
    numbers = call.numbers("a" if which[0] else "b")
    return numbers * count if numbers is not None and len(numbers) == 1 else numbers


FOLDS: dict[str, Fold] = {
    "shape": _shape,
    "cast": _integer_cast,
    **dict.fromkeys(("identity", "squeeze", "expand_dims", "reshape"), _elements),
    "add": _arithmetic(operator.add),
    "sub": _arithmetic(operator.sub),
    "mul": _arithmetic(operator.mul),
    "floor_div": _arithmetic(operator.floordiv),
    "mod": _arithmetic(operator.mod),
    "maximum": _arithmetic(max),
    "minimum": _arithmetic(min),
    "equal": _arithmetic(operator.eq),
    "not_equal": _arithmetic(operator.ne),
    "less": _arithmetic(operator.lt),
    "less_equal": _arithmetic(operator.le),
    "greater": _arithmetic(operator.gt),
    "greater_equal": _arithmetic(operator.ge),
    "real_div": _quotient,
    "reduce_prod": _reduction(math.prod),
    "reduce_sum": _reduction(sum),
    "reduce_max": _reduction(max),
    "reduce_min": _reduction(min),
    "concat": _joined,
    "stack": _joined,
    "gather": _gathered,
    "slice_by_index": _sliced,
    "slice_by_size": _sized,
    "fill": _filled,
    "range_1d": _counted,
    "select": _chosen,
}

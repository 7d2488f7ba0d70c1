"""Rules on values, not placement: where fp16 on the engine gives other numbers than fp32 on the CPU.

None of these changes a status: they depend on the values that flow, which a file does not tell.
"""

from __future__ import annotations

from collections.abc import Iterator

from anecompat.findings import Certainty, Effect, Reason
from anecompat.ir import Operation, Unknown
from anecompat.rules.registry import rule
from anecompat.rules.scope import Scope

RISK = Effect.RISK


@rule("ANE601", "product-saturation", operations=("matmul", "linear", "conv", "conv_transpose"))
def product_saturation(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """A result above 32,752 becomes infinite, half of what fp16 could hold.

    ## Why it matters
    Measured on every chip that anyone tried (M1 to M6) for matrix products and for convolutions with more than one tap.

    ## What to change
    Scale activations or weights down before large sums, and up again after a norm.
    """
    if operation.type in ("conv", "conv_transpose"):
        weight = operation.input("weight")
        shape = weight.tensor.shape if weight is not None else None
        if shape is not None and all(dim == 1 for dim in shape[2:]):
            return
    yield Reason("results above 32,752 become infinite", Certainty.MEASURED, ("aneforge-rooflines",), effect=RISK)


@rule("ANE602", "slice-clamp", operations=("slice_by_index", "slice_by_size"))
def slice_clamp(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """A slice of the last axis that does not begin at 0 makes values above 4,094 infinite.

    ## Why it matters
    Measured on M1, M1 Max and M2 Pro; exact on M4 and later; M3 was not measured. Joining several such slices gave
    wrong elements on M2.

    ## What to change
    Slice another axis (transpose first), or use ``split``.
    """
    if scope.generation >= 16:
        return
    begin = operation.integers("begin")
    if begin and begin[-1] != 0:
        certainty = Certainty.MEASURED if scope.generation in (13, 14) else Certainty.INFERRED
        yield Reason(
            "values above 4,094 become infinite: it cuts the last axis away from 0",
            certainty,
            ("aneforge-rooflines",),
            effect=RISK,
        )


@rule("ANE603", "exponential-overflow", operations=("exp",))
def exponential_overflow(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """An exponential of more than 11.09 overflows fp16.

    ## Why it matters
    The engine computes in fp16, whose largest number is 65,504.

    ## What to change
    Subtract the maximum first, or use ``softmax``, which does.
    """
    yield Reason("inputs above 11.09 overflow", Certainty.MEASURED, ("ane-guide",), effect=RISK)


@rule("ANE604", "inexact-index", operations=("topk", "reduce_argmax", "reduce_argmin", "argsort"))
def inexact_index(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """An index above 2,048 may be off by one or more.

    ## Why it matters
    The engine writes indices as fp16, which is exact up to 2,048.

    ## What to change
    Search in chunks of at most 2,048, or return the scores.
    """
    x = operation.input("x")
    if x is None:
        return
    shape = x.tensor.fixed()
    axis = operation.integer("axis", -1)
    if not -len(shape) <= axis < len(shape):
        raise Unknown("the axis lies outside the tensor")
    if shape[axis] > 2048:
        yield Reason(
            f"it searches {shape[axis]:,} positions; indices are exact up to 2,048",
            Certainty.MEASURED,
            ("ane-guide",),
            effect=RISK,
        )


@rule("ANE605", "softplus-cliff", operations=("softplus", "reduce_log_sum_exp"))
def softplus_cliff(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """A softplus or log-sum-exp goes wrong for large inputs on the engine.

    ## Why it matters
    Softplus was reported to drop to 0 above 10.4, and log-softmax to give minus infinity.

    ## What to change
    Write softplus as relu(x) + log(1 + exp(-|x|)); take the softmax and the logarithm of a clipped value.
    """
    issue = "coremltools-2687" if operation.type == "softplus" else "coremltools-2728"
    yield Reason("wrong results for large inputs were reported", Certainty.REPORTED, (issue,), effect=RISK)

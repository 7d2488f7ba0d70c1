"""Rules on what flows into and out of an operation: element types, ranks, sizes, shapes known too late."""

from __future__ import annotations

from collections.abc import Iterator

from anecompat.findings import Certainty, Effect, Reason
from anecompat.ir import Operation, OtherType, TensorType, Unknown, Value
from anecompat.rules.operations import rewrite
from anecompat.rules.registry import rule
from anecompat.rules.scope import Scope

MEASURED, REPORTED, INFERRED = Certainty.MEASURED, Certainty.REPORTED, Certainty.INFERRED

# Arguments that are data even when they are constants. Everything else that is constant is a parameter (axes, strides,
# a scalar epsilon), and parameters may be int32 or fp32: Core ML accepted them in every measured operation.
_DATA = {"x", "y", "a", "b", "data", "updates", "input", "query", "key", "value", "values", "attn_mask"}


def data_inputs(operation: Operation) -> Iterator[tuple[str, Value]]:
    """The values an operation computes on: computed ones always, constants where the argument means data."""
    for argument, bound in operation.inputs.items():
        for value in bound:
            if not value.is_constant or (argument in _DATA and isinstance(value.type, TensorType) and value.type.rank):
                yield argument, value


def _tensors(operation: Operation) -> Iterator[tuple[str, TensorType]]:
    for argument, value in data_inputs(operation):
        if isinstance(value.type, TensorType):
            yield f"its input {argument}", value.type
    for value in operation.outputs:
        if isinstance(value.type, TensorType):
            yield "its output", value.type


_COMPARISONS = {"greater", "greater_equal", "less", "less_equal", "equal", "not_equal"}
_WIDE = ("int32", "uint32", "int64", "uint64")


@rule("ANE201", "integer-tensor")
def integer_tensor(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """A 32-bit or 64-bit integer tensor flows through the operation; the engine holds none.

    ## Why it matters
    The engine computes in fp16 and has no 32-bit integers. Core ML refuses every operation that reads or writes such a
    tensor, and the casts at its ends too. Integer constants that are parameters (axes, shapes) are not meant.

    ## What to change
    Keep index arithmetic outside the model, or feed ready indices as uint16; take fp16 inputs for masks and positions;
    return scores instead of an argmax. An integer prologue in front of the network costs little; one in the middle
    splits it.

    ## Example
    ```mil
    func main<ios17>(tensor<int32, [1, 64]> ids) {
        tensor<int32, [1, 64]> moved = add(x = ids, y = int32(1));
        tensor<fp16, [1, 64]> out = cast(x = moved, dtype = string("fp16"));
    } -> (out);
    ```
    """
    if operation.type in ("cond", "while_loop"):
        return
    found = next((t.dtype for _, t in _tensors(operation) if t.dtype in _WIDE), None)
    if found is None:
        return
    output = any(t.dtype in _WIDE for where, t in _tensors(operation) if where == "its output")
    inputs = any(t.dtype in _WIDE for where, t in _tensors(operation) if where != "its output")
    if output and not inputs and operation.type in ("reduce_argmax", "reduce_argmin"):
        yield Reason(
            f"its result has the type {found}",
            MEASURED if scope.generation == 16 else INFERRED,
            ("751k-messages",),
            core_ml_code=220,
            core_ml_text=f"Output type {found} is not supported.",
            fix=rewrite(operation.type),
        )
        return
    y = operation.input("y")
    compared = operation.type in _COMPARISONS and y is not None and y.is_constant
    yield Reason(
        f"a tensor of type {found} flows through it",
        MEASURED if scope.generation >= 14 and scope.major >= 26 else INFERRED,
        ("751k-messages", "coreml-compute-placement", "mobius"),
        core_ml_code=300 if compared else 120,
        core_ml_text='Unable to resolve operation input "y".' if compared else f"Unsupported tensor data type: {found}",
    )


@rule("ANE202", "fp32-tensor")
def fp32_tensor(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """A 32-bit floating-point tensor flows through an operation other than a cast.

    ## Why it matters
    The engine's data path is fp16. In a program typed fp32 Core ML keeps every operation off the engine; the weights'
    own precision does not help.

    ## What to change
    Convert with ``compute_precision=FLOAT16`` (the default of coremltools for mlPrograms), and look for single
    operations that a pass or a Python float literal left in fp32.

    ## Example
    ```mil
    func main<ios17>(tensor<fp32, [1, 8, 4, 4]> x) {
        tensor<fp32, [1, 8, 4, 4]> out = relu(x = x);
    } -> (out);
    ```
    """
    if operation.type == "cast" or scope.legacy:
        return
    # Core ML names the output first where both are fp32.
    for where, tensor in sorted(_tensors(operation), key=lambda pair: pair[0] != "its output"):
        if tensor.dtype in ("fp32", "fp64"):
            kind = "output" if where == "its output" else "input"
            yield Reason(
                f"a tensor of type {tensor.dtype} flows through it",
                MEASURED,
                ("freedomtan-profiling", "mobius", "apple-typed-execution"),
                core_ml_code=220 if kind == "output" else 120,
                core_ml_text=f"Invalid {kind} tensor format: {tensor.dtype}",
            )
            return


@rule("ANE203", "fp32-border-cast", operations=("cast",))
def fp32_border_cast(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """A cast between fp32 and fp16 stands at the border of the program on a system that may not take it.

    ## Why it matters
    Models with fp32 inputs and outputs begin and end with such casts. Core ML refused them on an M1 with macOS 14.5 and
    accepted them on M2, M4, M4 Pro and M5 Max with macOS 26 and 27. No published run separates the chip from the
    system, so what lies between is unknown. In programs typed fp32 everything with an fp32 side was refused on M2,
    casts from other types included.

    ## What to change
    Declare fp16 inputs and outputs (coremltools: ``ct.TensorType(dtype=np.float16)``, iOS 16 and later).

    ## Example
    ```mil
    func main<ios17>(tensor<fp32, [1, 8, 4, 4]> x) {
        tensor<fp16, [1, 8, 4, 4]> half = cast(x = x, dtype = string("fp16"));
        tensor<fp16, [1, 8, 4, 4]> out = relu(x = half);
    } -> (out);
    ```
    """
    types = [t.dtype for _, t in _tensors(operation)]
    if not {"fp32", "fp64"} & set(types) or set(types) & set(_WIDE):
        return
    other = "input" if types and types[0] in ("fp32", "fp64") else "output"
    if not set(types) <= {"fp32", "fp64", "fp16"}:
        yield Reason(
            f"it casts between {types[0]} and {types[-1]}; only casts between fp32 and fp16 were seen accepted",
            REPORTED,
            ("mobius-supertonic",),
            core_ml_code=220 if other == "output" else 120,
            core_ml_text=f"Invalid {other} tensor format: fp32",
        )
        return
    if scope.major <= 16:
        return  # M1, macOS 12-13: the published super-resolution segment reaches from fp32 input to fp32 output
    if scope.major >= 26 and scope.generation >= 14:
        return  # accepted: M2 (macOS 26.5), M4 Pro (26.5), M5 Max (26.6), M4 (27)
    if scope.generation <= 13 and scope.major == 17:
        yield Reason(
            "a cast between fp32 and fp16 stands at the border",
            MEASURED,
            ("freedomtan-profiling",),
            core_ml_code=220 if other == "output" else 120,
            core_ml_text=f"Invalid {other} tensor format: fp32",
        )
        return
    yield Reason(
        "a cast between fp32 and fp16 stands at the border; it was refused on M1 with macOS 14.5, accepted on M2 and "
        "later with macOS 26 and later, and no run separates chip from system",
        REPORTED,
        ("freedomtan-profiling", "coreml-compute-placement", "mobius"),
        effect=Effect.UNKNOWN,
    )


_BOOL_MEASURED = {
    "cast", "select", "greater", "greater_equal", "less", "less_equal", "equal", "not_equal", "identity",
    "logical_and",
}  # fmt: skip


@rule("ANE204", "boolean-tensor")
def boolean_tensor(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """A boolean tensor flows through an operation that is not known to take one.

    ## Why it matters
    Comparisons, ``select`` and casts of booleans ran through Core ML's checks on M4. A boolean ``tile`` is refused and
    made a whole plan fail to compile on M2. Moving booleans about with other operations was not measured.

    ## What to change
    Make the mask fp16 before it is moved, tiled or combined: multiply masks instead of ``logical_and``.

    ## Example
    ```mil
    func main<ios17>(tensor<fp16, [1, 8, 4, 4]> x) {
        tensor<bool, [1, 8, 4, 4]> mask = greater(x = x, y = fp16(0));
        tensor<bool, [1, 16, 4, 4]> wide = tile(x = mask, reps = tensor<int32, [4]>([1, 2, 1, 1]));
        tensor<fp16, [1, 16, 4, 4]> out = cast(x = wide, dtype = string("fp16"));
    } -> (out);
    ```
    """
    if operation.type in _BOOL_MEASURED or operation.type in ("cond", "while_loop"):
        return
    if not any(t.dtype == "bool" for _, t in _tensors(operation)):
        return
    if operation.type == "tile":
        yield Reason(
            "it tiles a boolean tensor",
            MEASURED if scope.generation == 14 else INFERRED,
            ("mobius-supertonic",),
            core_ml_text=(
                "In 'tile' operations, tensors parameter x[0], and output at index 0 must have the same data type."
            ),
        )
    else:
        yield Reason(
            "a boolean tensor flows through it, which nobody measured for this operation",
            INFERRED,
            ("751k-dispatch",),
            effect=Effect.UNKNOWN,
        )


# Small integers: what was seen accepted, by operation. Moving them about was seen for squeeze (int16) only.
_SMALL = ("int8", "uint8", "int16", "uint16")
# Types that another rule, or none, has a word on. Any other (fp8, fewer than 8 bits, a type newer than this table) was
# never seen to flow through a program.
_JUDGED = {"fp16", "fp32", "bool", "string", "bf16", "fp64", "complex64", *_WIDE}
_SMALL_MEASURED = {
    "quantize", "dequantize", "cast", "gather", "gather_nd", "gather_along_axis", "squeeze", "expand_dims", "reshape",
    "topk", "identity", "transpose", "slice_by_index",
}  # fmt: skip


@rule("ANE205", "small-integer-tensor")
def small_integer_tensor(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """An 8-bit or 16-bit integer tensor flows through an operation that nobody measured with one.

    ## Why it matters
    The engine holds int8, uint8, int16 and uint16 tensors, but computes in fp16. Quantising, casting and gathering
    with them were accepted by Core ML on M4; arithmetic on them was not tried by any published run.

    ## What to change
    Cast to fp16 before computing.

    ## Example
    ```mil
    func main<ios17>(tensor<fp16, [1, 64]> x) {
        tensor<uint16, [1, 64]> whole = cast(x = x, dtype = string("uint16"));
        tensor<uint16, [1, 64]> out = add(x = whole, y = whole);
    } -> (out);
    ```
    """
    if operation.type in ("cond", "while_loop"):
        return
    measured = operation.type in _SMALL_MEASURED
    found = next(
        (t.dtype for _, t in _tensors(operation) if t.dtype not in _JUDGED and not (measured and t.dtype in _SMALL)),
        None,
    )
    if found is not None:
        yield Reason(
            f"a tensor of type {found} flows through it, which nobody measured for this operation",
            INFERRED,
            ("751k-dispatch",),
            effect=Effect.UNKNOWN,
        )


@rule("ANE206", "foreign-type")
def foreign_type(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """A string, list, dictionary or other type that no engine holds flows through the operation.

    ## Why it matters
    The engine works on tensors alone.

    ## What to change
    Unroll lists; keep strings and dictionaries in the app.
    """
    if operation.type in ("cond", "while_loop"):
        return
    for value in [value for _, value in data_inputs(operation)] + list(operation.outputs):
        if isinstance(value.type, OtherType):
            yield Reason(f"a value of type {value.type.text[:60]} flows through it", INFERRED, ("ane-guide",))
            return
        if isinstance(value.type, TensorType) and value.type.dtype in ("string", "bf16", "fp64", "complex64"):
            yield Reason(f"a tensor of type {value.type.dtype} flows through it", INFERRED, ("ane-guide",))
            return


def axes_of(shape: tuple[int | None, ...]) -> tuple[tuple[str, int | None], ...]:
    """The engine's axes of a shape: aligned to the right end of N, C, H, W, or of N, C, D, H, W at rank 5."""
    names = (
        ("batch", "channels", "height", "width")
        if len(shape) < 5
        else ("batch", "channels", "depth", "height", "width")
    )
    return tuple(zip(names[-len(shape) :], shape, strict=True)) if shape else ()


@rule("ANE302", "oversized-dimension")
def oversized_dimension(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """A tensor is longer along one axis than the engine accepts.

    ## Why it matters
    Each axis of a tensor has a limit that depends on the generation: 16,384 for width and height up to A16 and M3,
    65,536 from A17 Pro and M4. Vocabulary heads, raw audio and flattened images run into it.

    ## What to change
    Split the axis (a vocabulary head into parts of at most 16,384, joined at the end), or fold it into two axes:
    (1, 1, 1, 65536) holds as (1, 1, 256, 256).

    ## Example
    ```mil
    func main<ios17>(tensor<fp16, [1, 1, 1, 70000]> x) {
        tensor<fp16, [1, 1, 1, 70000]> out = relu(x = x);
    } -> (out);
    ```
    """
    if operation.type in ("const", "cond", "while_loop", "shape", "read_state", "write_state"):
        return
    for where, tensor in _tensors(operation):
        if tensor.shape is None or len(tensor.shape) > 5 or not tensor.shape:
            continue
        if 0 in tensor.shape:
            yield Reason("a tensor with a dimension of 0 flows through it", REPORTED, ("ane-guide",))
            return
        if max((dim or 0) for dim in tensor.shape) <= 4096:
            continue
        for axis, dim in axes_of(tensor.shape):
            if dim is None or dim <= 4096:
                continue
            limit = scope.limit(f"tensor_{axis}")
            if dim <= limit.value:
                continue
            if operation.type == "conv" and axis == "channels" and where == "its output" and scope.generation >= 16:
                # 262,144 channels of a 1x1 convolution stayed there; the element-wise operations behind it left.
                yield Reason(
                    f"{where} is {dim:,} long along {axis}; {limit.value:,} is the limit, but a wider convolution was "
                    "reported on the engine of an A19 Pro",
                    REPORTED,
                    ("coreml-llm", *limit.sources),
                    effect=Effect.UNKNOWN,
                )
                return
            yield Reason(
                f"{where} is {dim:,} long along {axis}; {limit.value:,} is the limit",
                limit.certainty,
                limit.sources,
                core_ml_code=320,
                core_ml_text=_range_text(tensor.shape, scope),
            )
            return


def _range_text(shape: tuple[int | None, ...], scope: Scope) -> str:
    found: dict[str, int | None] = dict(axes_of(shape))
    numbers, ranges = "", ""
    for letter, axis in (("N", "batch"), ("D", "depth"), ("C", "channels"), ("H", "height"), ("W", "width")):
        numbers += f"{letter}{found.get(axis, 1)}"
        try:
            ranges += f"{letter}[1-{scope.limit(f'tensor_{axis}').value}]"
        except Unknown:
            ranges += f"{letter}[?]"
    return f"Tensor dimensions {numbers} are not within supported range, {ranges}."


@rule("ANE303", "rank-above-five")
def rank_above_five(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """A tensor has more than five axes.

    ## Why it matters
    The engine addresses batch, channels, depth, height and width, and nothing beyond. Window partitions and
    patch embeddings written as one big reshape and transpose are the usual cause.

    ## What to change
    Do it in two steps of at most five axes, or use ``pixel_unshuffle``, ``space_to_depth`` or a strided convolution.

    ## Example
    ```mil
    func main<ios17>(tensor<fp16, [1, 8, 4, 4]> x) {
        tensor<fp16, [1, 2, 4, 2, 2, 4]> six = reshape(x = x, shape = tensor<int32, [6]>([1, 2, 4, 2, 2, 4]));
        tensor<fp16, [1, 8, 4, 4]> out = reshape(x = six, shape = tensor<int32, [4]>([1, 8, 4, 4]));
    } -> (out);
    ```
    """
    limit = 5
    for _, tensor in _tensors(operation):
        if tensor.rank is not None and tensor.rank > limit:
            yield Reason(
                f"a tensor of {tensor.rank} axes flows through it; {limit} is the limit",
                REPORTED,
                ("ane-guide", "apple-coreai-rules"),
                core_ml_text="Cannot reshape a tensor of rank > 5" if operation.type == "reshape" else "",
            )
            return


@rule("ANE401", "shape-known-late")
def shape_known_late(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """The shape of a tensor is not known before the model runs.

    ## Why it matters
    The engine runs programs compiled for fixed shapes. With a range of shapes Core ML may compile for one, for some, or
    keep the operation off the engine: reports disagree by chip, system and network. Shapes that depend on data
    (``non_zero``) never reach it.

    ## What to change
    Fix the input shape, or list the shapes you need (``EnumeratedShapes``, or one function a shape). To ask about one
    shape, run ``anecompat check --shape input=1x3x640x640``.

    ## Example
    ```mil
    func main<ios17>(tensor<fp16, [1, ?, 64]> x) {
        tensor<fp16, [1, ?, 64]> out = relu(x = x);
    } -> (out);
    ```
    """
    if operation.type in ("cond", "while_loop"):
        return
    if all(tensor.is_fixed for _, tensor in _tensors(operation)):
        return
    if scope.legacy:
        yield Reason("a shape could not be inferred from the file", INFERRED, (), effect=Effect.UNKNOWN)
    else:
        yield Reason(
            "a shape is not known before the model runs",
            REPORTED,
            ("coremltools-flexible", "mobius-supertonic", "coremltools-2370"),
            effect=Effect.UNKNOWN,
            core_ml_code=110,
            core_ml_text="ANECompiler does not support range shape flexibility",
        )

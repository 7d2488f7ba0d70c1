"""Rules on the kind of operation: what the engine has no path for, and what nobody knows of."""

from __future__ import annotations

from collections.abc import Iterator

from anecompat import knowledge
from anecompat.findings import Certainty, Effect, Reason
from anecompat.ir import Operation, TensorType
from anecompat.rules.registry import graph_rule, rule
from anecompat.rules.scope import Scope


@rule("ANE101", "unsupported-operation")
def unsupported_operation(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """The Neural Engine has no path for this operation on this generation and system.

    ## Why it matters
    Core ML runs it on the CPU (or the GPU) and cuts the network there: the result leaves the engine and comes back.

    ## What to change
    Express it by operations that the engine has; ``anecompat ops`` lists them, and the entry of an operation names a
    rewrite where one is known.

    ## Example
    ```mil
    func main<ios17>(tensor<fp16, [1, 8, 4, 4]> x) {
        tensor<fp16, [1, 8, 4, 4]> out = cumsum(x = x, axis = int32(1), exclusive = bool(false), reverse = bool(false));
    } -> (out);
    ```
    """
    if folds(operation) or runs_code_of_the_app(operation):
        return
    support = scope.entry(operation)
    what = f"the old layer {operation.layer}" if operation.layer else operation.type
    if support.status != "no":
        return
    condition = f": {support.condition}" if support.condition else ""
    words = "" if operation.layer else core_ml_words(operation.type)
    yield Reason(
        f"{what} has no path on the engine{condition}",
        Certainty(support.certainty),
        support.sources,
        core_ml_code=400 if words else None,
        core_ml_text=words,
        fix=rewrite(operation.type),
    )


def rewrite(type: str) -> str:
    """A known rewrite of an operation as advice; "" where none is known."""
    found = knowledge.rewrite(type)
    return "" if found is None else f"rewrite {type} as: {found}"


def core_ml_words(type: str) -> str:
    """Core ML's own words for an operation that its engine path does not know; "" where nobody published them.

    The pattern is Core ML's, and was seen on M4 for operations that no generation has. What only older generations lack
    is refused in other words.
    """
    special = {
        "scatter": "scatter MIL op is currently only supported on uANE targets (u1-u4)",
        "sliding_windows": "MIL converter not implemented.",
        "sin": "This platform doesn't support Neuron ZinIrNeuronType::kSin (aka ZinIrNonLinearSin)",
    }
    if type in special:
        return special[type]
    everywhere = knowledge.support(type, "H16", (27, 0)).status == "no"
    return f'Unsupported MIL operation "{type}".' if everywhere else ""


@rule("ANE102", "unproven-operation")
def unproven_operation(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """Nobody has published whether the engine takes this operation on this generation and system.

    ## Why it matters
    An answer would be a guess. If every other operation is eligible, this one decides, and the status is
    "Cannot tell".

    ## What to change
    Measure it on a device (``anecompat measure``), or replace it by an operation that is known
    (``anecompat ops``).

    ## Example
    ```mil
    func main<ios17>(tensor<fp16, [1, 8, 4, 4]> x) {
        tensor<fp16, [1, 8, 4, 4]> out = an_operation_of_the_future(x = x);
    } -> (out);
    ```
    """
    if folds(operation):
        return
    support = scope.entry(operation)
    what = f"the old layer {operation.layer}" if operation.layer else operation.type
    if support.status != "unknown":
        return
    reason = support.condition or support.conflict or "no published measurement or table covers it"
    yield Reason(f"{what}: {reason}", Certainty(support.certainty), support.sources, effect=Effect.UNKNOWN)


# What gives another result each time, though all its inputs are constants.
_RANDOM = ("random_normal", "random_uniform", "random_bernoulli", "random_categorical")


def is_constant_only(operation: Operation) -> bool:
    """Whether the operation computes on constants alone, so that Core ML's compiler can do its work beforehand."""
    if operation.type in _RANDOM or operation.blocks or not operation.inputs:
        return False
    if not all(isinstance(value.type, TensorType) for value in operation.outputs):
        return False
    return all(value.is_constant for bound in operation.inputs.values() for value in bound)


def folds(operation: Operation) -> bool:
    """Whether the operation changes nothing: an identity, or a resize, pad or crop to the size it already has."""
    if operation.type == "identity":
        return True
    if operation.type not in _SAME_SIZE_FOLDS or not operation.outputs:
        return False
    x, out = operation.input("x"), operation.outputs[0].type
    if x is None or not isinstance(out, TensorType) or not isinstance(x.type, TensorType):
        return False
    return out.is_fixed and x.type == out


_SAME_SIZE_FOLDS = {
    "resize", "resize_bilinear", "resize_nearest_neighbor", "upsample_bilinear", "upsample_nearest_neighbor", "reshape",
}  # fmt: skip


_TWO = (
    "add sub mul real_div floor_div mod pow maximum minimum matmul greater greater_equal less less_equal equal "
    "not_equal logical_and logical_or logical_xor"
)
_REQUIRED = {
    **dict.fromkeys(_TWO.split(), ("x", "y")),
    **dict.fromkeys(("conv", "conv_transpose", "linear"), ("x", "weight")),
    **dict.fromkeys(("gather", "gather_nd", "gather_along_axis"), ("x", "indices")),
    "select": ("cond", "a", "b"),
    "scaled_dot_product_attention": ("query", "key", "value"),
    "reshape": ("x", "shape"),
    "transpose": ("x", "perm"),
    "cast": ("x", "dtype"),
    "concat": ("values",),
    "stack": ("values",),
    "fill": ("shape",),
    "range_1d": ("start", "end", "step"),
    "write_state": ("input", "data"),
    "read_state": ("input",),
}


@rule("ANE105", "incomplete-operation")
def incomplete_operation(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """The operation lacks an argument without which it means nothing.

    ## Why it matters
    Core ML does not load such a program. What a complete one would do cannot be told from it.

    ## What to change
    Export the model again.

    ## Example
    ```mil
    func main<ios17>(tensor<fp16, [1, 8, 4, 4]> x) {
        tensor<fp16, [1, 8, 4, 4]> out = add(x = x);
    } -> (out);
    ```
    """
    if operation.layer or operation.type.startswith(("espresso_", "custom")):
        return
    missing = [name for name in _REQUIRED.get(operation.type, ()) if not operation.inputs.get(name)]
    if not missing and not operation.inputs and not operation.blocks and operation.type not in _RANDOM:
        missing = ["x"]
    if missing:
        yield Reason(
            f"its argument {missing[0]} is missing", Certainty.DOCUMENTED, ("core-ml-format",), effect=Effect.UNKNOWN
        )


@rule("ANE110", "folded-operation")
def folded_operation(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """The operation changes nothing.

    ## Why it matters
    Core ML's compiler removes it, or runs it wherever its neighbours run.

    ## What to change
    Nothing.
    """
    if folds(operation):
        what = "it changes nothing" if operation.type == "identity" else "its result has the size of its input"
        yield Reason(f"{what}: folded away", Certainty.REPORTED, ("751k-dispatch",), effect=Effect.NOTE)


@rule("ANE104", "argmax-of-old-network", operations=("reduce_argmax", "reduce_argmin"))
def argmax_of_old_network(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """A position search in an old neural network.

    ## Why it matters
    The one that closes DeepLabV3 stayed off an M1's engine with macOS 12 and 13. In programs the engine refuses the
    int32 result, which old networks do not have; later systems were not tried.

    ## What to change
    Return the scores and search in the app.
    """
    if not scope.legacy:
        return
    if scope.generation <= 13 and scope.major <= 16:
        yield Reason("it searches a position", Certainty.REPORTED, ("anecompat",))
    else:
        yield Reason(
            "it searches a position; only M1 with macOS 12 and 13 was tried, and refused",
            Certainty.INFERRED,
            ("anecompat", "751k-messages"),
            effect=Effect.UNKNOWN,
        )


@rule("ANE103", "custom-operation")
def custom_operation(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """The model calls code of its app: a custom layer or operation.

    ## Why it matters
    Custom code runs on the CPU or the GPU, never on the engine.

    ## What to change
    Replace the layer by ordinary operations, or split the model there.
    """
    if runs_code_of_the_app(operation):
        yield Reason("it runs code of the app", Certainty.DOCUMENTED, ("coremltools-1278",))


def runs_code_of_the_app(operation: Operation) -> bool:
    """Whether it is a custom layer or operation."""
    return operation.type == "custom" or operation.type.startswith("custom_")


@graph_rule("ANE901", "inside-refused-block")
def inside_refused_block() -> None:
    """The operation lies in a branch or loop that does not run on the engine.

    ## Why it matters
    The engine has no control flow: Core ML runs ``cond`` and ``while_loop`` on the CPU, and their bodies with them.

    ## What to change
    Unroll the loop; compute both branches and ``select``; or make each branch a function or model of its own.

    ## Example
    ```mil
    func main<ios17>(tensor<fp16, [1, 4]> x, tensor<bool, []> flag) {
        tensor<fp16, [1, 4]> out = cond(pred = flag) {
            tensor<fp16, [1, 4]> up = relu(x = x);
        } -> (up) {
            tensor<fp16, [1, 4]> same = identity(x = x);
        } -> (same);
    } -> (out);
    ```
    """


@graph_rule("ANE902", "range-of-shapes")
def range_of_shapes() -> None:
    """The model takes a range of input shapes.

    ## Why it matters
    The engine runs programs compiled for fixed shapes. With a range (``RangeDim``) published runs disagree: a
    convolutional vocoder stayed on the engine whole, others left it whole. No rule separates them.

    ## What to change
    Fix the shape, enumerate the shapes you need, or convert one function a shape. To judge one shape, run
    ``anecompat check --shape input=1x3x640x640``.
    """


@graph_rule("ANE903", "enumerated-shapes")
def enumerated_shapes() -> None:
    """The model lists several input shapes.

    ## Why it matters
    Apple writes that such a model may run on the engine. Reports say that only the default shape did, on macOS 15.

    ## What to change
    Make the shape you use most the default, or convert one function a shape (iOS 18).
    """


@graph_rule("ANE501", "several-states")
def several_states() -> None:
    """The program keeps more than one state.

    ## Why it matters
    Programs with three states were planned wholly on the engine and then failed at the first prediction, on a Mac and
    on an iPhone 17 Pro. One state that holds all layers works.

    ## What to change
    Concatenate the states into one tensor and slice it, or pass the caches as inputs and outputs.
    """


@graph_rule("ANE502", "oversized-weights")
def oversized_weights() -> None:
    """The weights of one program are larger than what was seen to load on the engine.

    ## Why it matters
    About 3 GB of fp16 weights stayed off an M1's engine; Apple advises chunks below 1 GB on iPhones; around 2 GB is
    reported as the limit of one engine program.

    ## What to change
    Compress the weights (6 bits and less), or split the model into chunks.
    """


@graph_rule("ANE504", "system-too-old")
def system_too_old() -> None:
    """The model's format or operations are newer than the system asked about.

    ## Why it matters
    Core ML of that system cannot load the model at all. What is said of its operations holds for the engine, and for
    the same network converted for that system.

    ## What to change
    Convert with a lower ``minimum_deployment_target``, or ask about a newer system.
    """


@graph_rule("ANE801", "host-work")
def host_work() -> None:
    """Core ML does part of the work outside every engine.

    ## Why it matters
    Image conversion, scale and bias change nothing for the network. A classifier's label lookup and non-neural stages
    (trees, vectorizers, non-maximum suppression) run on the CPU, so the model as a whole is Partial.

    ## What to change
    Nothing, if the network itself is on the engine; return the probabilities and look labels up in the app to be whole.
    """


@graph_rule("ANE805", "refused-without-known-cause")
def refused_without_known_cause() -> None:
    """Core ML does not list the engine for the operation, and its words (if any) fit none of our rules.

    ## Why it matters
    Only a measured report says this: the refusal is certain, its cause is not.

    ## What to change
    Search for the message, and send us the notes: they may become a rule.
    """


@graph_rule("ANE802", "no-operations")
def no_operations() -> None:
    """The model has no operation that any engine could run.

    ## Why it matters
    Trees, linear models, vectorizers and empty graphs run on the CPU.

    ## What to change
    Nothing; such models are small and fast there.
    """


@graph_rule("ANE804", "undescribed-network")
def undescribed_network() -> None:
    """The compiled network lacks the file that describes it to apps (``coremldata.bin``).

    ## Why it matters
    Without it nobody can tell whether the model is a classifier, whose label lookup runs on the CPU. The network itself
    was judged.

    ## What to change
    Copy the whole .mlmodelc folder again.
    """

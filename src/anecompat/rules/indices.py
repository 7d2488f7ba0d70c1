"""Rules on choosing and moving elements: gather, slice, scatter, pad, tile, crop."""

from __future__ import annotations

from collections.abc import Iterator

from anecompat.findings import Certainty, Effect, Reason
from anecompat.ir import Operation, TensorType
from anecompat.rules.registry import rule
from anecompat.rules.scope import Scope
from anecompat.rules.windows import smooth

MEASURED, REPORTED, INFERRED = Certainty.MEASURED, Certainty.REPORTED, Certainty.INFERRED


@rule("ANE211", "gather-index-type", operations=("gather",))
def gather_index_type(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """The indices of a gather have a type that the engine's gather does not take.

    ## Why it matters
    The engine gathers by uint16. Converters make the indices of an embedding int16 and prepare them in int32, and Core
    ML keeps the whole lookup on the CPU. As a first step of a network that is cheap; in its middle it cuts the network.

    ## What to change
    Feed indices as uint16, computed in fp16 and cast to uint16; make constant indices uint16 or use slices; or do the
    lookup outside the model and feed the embeddings.

    ## Example
    ```mil
    func main<ios17>(tensor<fp16, [1000, 64]> table, tensor<int16, [1, 8]> ids) {
        tensor<fp16, [1, 8, 64]> out = gather(x = table, indices = ids, axis = int32(0));
    } -> (out);
    ```
    """
    indices = operation.input("indices")
    if scope.legacy or indices is None or not isinstance(indices.type, TensorType):
        return
    dtype = indices.type.dtype
    if dtype in ("uint16", "uint8"):
        return
    if dtype in ("int16", "int8"):
        yield Reason(
            f"its indices have the type {dtype}",
            MEASURED if scope.major >= 26 else REPORTED,
            ("751k-messages", "coreml-compute-placement", "anemll"),
            core_ml_code=120,
            core_ml_text="Unsupported gather index type",
        )
    elif indices.is_constant:
        yield Reason(
            f"its constant indices have the type {dtype}; only uint16 ones were measured",
            INFERRED,
            ("751k-dispatch",),
            effect=Effect.UNKNOWN,
        )


@rule("ANE212", "box-index-type", operations=("crop_resize",))
def box_index_type(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """The box indices of a crop_resize are not uint16, or nobody has seen it run with such.

    ## Why it matters
    Core ML says so in as many words: only uint16 box indices are supported. No published run tried them.

    ## What to change
    Make the box indices a uint16 constant and measure; or crop with fixed slices and resize.
    """
    indices = operation.input("box_indices")
    if indices is None or not isinstance(indices.type, TensorType) or indices.type.dtype == "uint16":
        yield Reason(
            "Core ML says that it takes uint16 box indices; no published run tried them",
            INFERRED,
            ("751k-messages",),
            effect=Effect.UNKNOWN,
        )
    else:
        yield Reason(
            f"its box indices have the type {indices.type.dtype}",
            MEASURED if scope.generation == 16 else INFERRED,
            ("751k-messages",),
            core_ml_code=120,
            core_ml_text=f'type {indices.type.dtype} for "box_indices" is not supported. only support UInt16.',
        )


@rule("ANE218", "small-topk", operations=("topk",))
def small_topk(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """A topk of 3 or 4, which the engine's own compiler rejects.

    ## Why it matters
    A reverse-engineering guide and a sweep on an M5 Pro, both outside Core ML, found no path for k of 3 and 4. Core ML
    accepted k = 4 on M4 with macOS 27; nobody tried elsewhere.

    ## What to change
    Ask for 5 and drop the last, or measure.

    ## Example
    ```mil
    func main<ios17>(tensor<fp16, [1, 64]> x) {
        tensor<fp16, [1, 4]> out, tensor<uint16, [1, 4]> at = topk(x = x, k = int32(4), axis = int32(-1),
            ascending = bool(false), sort = bool(true), return_indices = bool(true),
            output_indices_dtype = string("uint16"));
    } -> (out);
    ```
    """
    if (scope.generation == 16 and scope.major >= 27) or operation.integer("k", 1) not in (3, 4):
        return
    yield Reason(
        f"its k is {operation.integer('k', 1)}; 3 and 4 failed outside Core ML, and Core ML was asked on M4 alone",
        REPORTED,
        ("ane-guide", "aneforge-sweep"),
        effect=Effect.UNKNOWN,
    )


@rule("ANE213", "computed-parameter")
def computed_parameter(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """A parameter that shapes the operation (a slice's begin, a reshape's shape, axes) is computed by the model.

    ## Why it matters
    The engine's programs are fixed: where to cut and how to reshape must be known when Core ML compiles.

    ## What to change
    Make it a constant: fix the input shape so that shape arithmetic folds away, or choose among fixed slices with a
    mask.

    ## Example
    ```mil
    func main<ios17>(tensor<fp16, [1, 8, 4, 4]> x, tensor<int32, [4]> begin) {
        tensor<fp16, [1, 4, 2, 2]> out = slice_by_size(x = x, begin = begin, size = tensor<int32, [4]>([1, 4, 2, 2]));
    } -> (out);
    ```
    """
    for argument in _SHAPING.get(operation.type, ()):
        value = operation.input(argument)
        if value is not None and not value.is_constant:
            # A range with any computed bound is reported for its start, whichever bound it is.
            named = "start" if operation.type == "range_1d" else argument
            yield Reason(
                f"its parameter {argument} is computed by the model",
                MEASURED if operation.type in ("slice_by_size", "range_1d") and scope.generation == 16 else INFERRED,
                ("751k-messages", "core-ml-patterns"),
                core_ml_code=340,
                core_ml_text=f"Failed to retrieve parameter {named}",
            )
            return


_SHAPING = {
    "slice_by_size": ("begin", "size"),
    "slice_by_index": ("begin", "end", "stride"),
    "slice_update": ("begin", "end", "stride"),
    "reshape": ("shape",),
    "transpose": ("perm",),
    "tile": ("reps",),
    "pad": ("pad",),
    "expand_dims": ("axes",),
    "squeeze": ("axes",),
    "concat": ("axis",),
    "split": ("axis", "num_splits", "split_sizes"),
    "resize": ("shape",),
    "upsample_bilinear": ("scale_factor_height", "scale_factor_width"),
    "upsample_nearest_neighbor": ("scale_factor_height", "scale_factor_width"),
    "topk": ("k",),
    "fill": ("shape",),
    "range_1d": ("start", "end", "step"),
}


@rule("ANE217", "standalone-slice-update", operations=("slice_update",))
def standalone_slice_update(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """A slice is written into a tensor that is not a state.

    ## Why it matters
    Core ML's own words for it: a standalone slice_update is not supported. Between ``read_state`` and ``write_state``
    it is accepted, which is how caches of language models work.

    ## What to change
    Keep the tensor as a state (iOS 18), or blend with a mask: data * (1 - mask) + update * mask.

    ## Example
    ```mil
    func main<ios18>(tensor<fp16, [1, 8, 4, 4]> x, tensor<fp16, [1, 8, 1, 4]> row) {
        tensor<fp16, [1, 8, 4, 4]> out = slice_update(x = x, update = row,
            begin = tensor<int32, [4]>([0, 0, 1, 0]), end = tensor<int32, [4]>([1, 8, 2, 4]));
    } -> (out);
    ```
    """
    x = operation.input("x")
    producer = x.producer if x is not None else None
    if producer is None or producer.type not in ("read_state", "slice_update", "coreml_update_state"):
        yield Reason(
            "the tensor it writes into is not a state",
            REPORTED,
            ("core-ml-patterns", "aneforge-sweep"),
            core_ml_text="Cannot support standalone slice_update",
        )


@rule("ANE214", "negative-slice-step", operations=("slice_by_index",))
def negative_slice_step(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """A slice steps backwards.

    ## Why it matters
    Core ML's list of refusals names it: the step of a slice must be positive.

    ## What to change
    Use ``reverse``, which the engine has, and slice forwards.

    ## Example
    ```mil
    func main<ios17>(tensor<fp16, [1, 8, 4, 4]> x) {
        tensor<fp16, [1, 8, 4, 4]> out = slice_by_index(x = x, begin = tensor<int32, [4]>([0, 0, 0, -1]),
            end = tensor<int32, [4]>([1, 8, 4, -5]), stride = tensor<int32, [4]>([1, 1, 1, -1]));
    } -> (out);
    ```
    """
    steps = operation.integers("stride", [1])
    if min(steps, default=1) < 0:
        yield Reason(
            f"it steps by {min(steps)}",
            Certainty.DOCUMENTED,
            ("core-ml-patterns",),
            core_ml_code=310,
            core_ml_text=f"invalid negative step on slice {min(steps)}",
        )


@rule("ANE215", "unproven-padding", operations=("pad",))
def unproven_padding(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """A padding that is not with zeros, or one over channels, where nobody measured it.

    ## Why it matters
    Reflecting, replicating and padding channels were accepted on M4 with macOS 27. Compiler tables give reflection to
    A15 and M2 and later, and compiler strings call replication, channels and constants other than 0 not supported,
    without saying where. A constant other than 0 was tried by no published run.

    ## What to change
    Pad with zeros, or build the border from slices and ``concat``. Before a max pool that follows a ``relu``, zeros do
    what minus infinity does.

    ## Example
    ```mil
    func main<ios17>(tensor<fp16, [1, 8, 4, 4]> x) {
        tensor<fp16, [1, 8, 6, 6]> out = pad(x = x, pad = tensor<int32, [4]>([1, 1, 1, 1]),
            mode = string("reflect"), constant_val = fp16(0));
    } -> (out);
    ```
    """
    mode = str(operation.param("mode", "constant"))
    if mode == "constant":
        filling = operation.param("constant_val", 0)
        if filling:
            yield Reason(
                f"it pads with {filling}; only zeros were measured",
                REPORTED,
                ("ane-strings", "751k-dispatch"),
                effect=Effect.UNKNOWN,
            )
            return
    elif scope.generation < 14 or (mode == "replicate" and scope.generation < 16 and scope.major < 27):
        yield Reason(
            f"it pads by {mode}, which was measured on M4 only",
            REPORTED,
            ("ane-guide", "ane-strings", "751k-dispatch"),
            effect=Effect.UNKNOWN,
            core_ml_text="Architecture does not support padding mode.",
        )
        return
    if scope.generation >= 16:
        return
    amounts = operation.integers("pad")
    x = operation.input("x")
    rank = x.tensor.rank if x is not None else None
    if rank is not None and len(amounts) // 2 >= rank - 1 and rank >= 3:
        channel = amounts[-6:-4] if rank == 4 and len(amounts) >= 6 else amounts[-4:-2] if rank == 3 else ()
        if any(channel):
            yield Reason(
                "it pads channels, which was measured on M4 only",
                REPORTED,
                ("ane-guide", "751k-dispatch"),
                effect=Effect.UNKNOWN,
                core_ml_code=330,
                core_ml_text="padding on the channel dimension is not supported",
            )


_SHUFFLES = {
    "pixel_shuffle": "upscale_factor", "pixel_unshuffle": "downscale_factor", "depth_to_space": "block_size",
    "space_to_depth": "block_size", "space_to_batch": "block_shape", "batch_to_space": "block_shape",
}  # fmt: skip


@rule("ANE216", "shuffle-factor", operations=_SHUFFLES)
def shuffle_factor(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """The factor of a shuffle is no product of 2, 3, 4 and 8 on a generation where nobody measured it.

    ## Why it matters
    Compiler tables list the factors 2, 3, 4 and 8 for these operations. Factors of 2 were measured on M4; a published
    run repeated by other factors without harm.

    ## What to change
    Shuffle in two steps of such factors.
    """
    argument = _SHUFFLES[operation.type]
    sizes = operation.integers(argument) if argument == "block_shape" else (operation.integer(argument),)
    factor = next((size for size in sizes if not smooth(size)), 1)
    if factor != 1:
        yield Reason(
            f"its factor is {factor}, which is no product of 2, 3, 4 and 8",
            REPORTED,
            ("ane-guide",),
            effect=Effect.UNKNOWN,
        )

"""Rules on convolutions, pooling, products and resizing: what slides, multiplies or scales."""

from __future__ import annotations

from collections.abc import Iterator

from anecompat.findings import Certainty, Effect, Reason
from anecompat.ir import Operation, Unknown
from anecompat.rules.operations import folds
from anecompat.rules.registry import rule
from anecompat.rules.scope import Scope

MEASURED, REPORTED, INFERRED = Certainty.MEASURED, Certainty.REPORTED, Certainty.INFERRED


def _shape(operation: Operation, argument: str) -> tuple[int, ...]:
    value = operation.input(argument)
    if value is None:
        raise Unknown(f"{argument} is not in the file")
    return value.tensor.fixed()


def kernel(operation: Operation) -> tuple[int, int, int]:
    """(depth, height, width) of a convolution's kernel; what an axis does not have is 1."""
    weight = _shape(operation, "weight")
    if not 3 <= len(weight) <= 5:
        raise Unknown(f"a kernel of {len(weight)} axes is none")
    depth, height, width = (1, 1, 1, *weight[2:])[-3:]
    return depth, height, width


def _per_axis(operation: Operation, argument: str) -> tuple[int, int, int]:
    """(depth, height, width) of strides, dilations or a window; what an axis does not have is 1."""
    depth, height, width = (1, 1, 1, *operation.integers(argument, [1]))[-3:]
    if min(depth, height, width) < 1:
        raise Unknown(f"the parameter {argument} holds a number below 1")
    return depth, height, width


_FACTORS = (2, 3, 4, 8)


def factors(number: int) -> bool:
    """Whether a dilation is one of the engine's step factors or a product of two of them."""
    return number == 1 or number in _FACTORS or any(number % f == 0 and number // f in _FACTORS for f in _FACTORS)


def smooth(number: int) -> bool:
    """Whether a number has no prime factors but 2 and 3: whether it is a product of step factors, however many."""
    for prime in (2, 3):
        while number > 1 and number % prime == 0:
            number //= prime
    return number == 1


@rule("ANE301", "oversized-kernel", operations=("conv", "conv_transpose"))
def oversized_kernel(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """The kernel is wider or taller than the engine's convolution accepts.

    ## Why it matters
    Core ML accepted kernels of up to 15 columns and 31 rows on M4; a wider one must be decomposed, for which both sides
    have to be multiples of a step and the strides equal. A 16x16 kernel passed the check there, but compiling it took
    minutes and gigabytes; 1x16, 17x17 and 32x1 were refused.

    ## What to change
    Swap the axes when only the width is too large, chain smaller kernels (k1 + k2 - 1 gives the same reach), or fold
    rows into channels (``pixel_unshuffle``) before a smaller kernel.

    ## Example
    ```mil
    func main<ios17>(tensor<fp16, [1, 8, 32, 32]> x) {
        tensor<fp16, [8, 8, 1, 31]> w = const()[val =
            tensor<fp16, [8, 8, 1, 31]>(BLOBFILE(path = string("@model_path/weights/weight.bin"),
            offset = uint64(64)))];
        tensor<fp16, [1, 8, 32, 32]> out = conv(x = x, weight = w, pad_type = string("same"));
    } -> (out);
    ```
    """
    _, height, width = kernel(operation)
    wide, tall = scope.limit("conv_kernel_width"), scope.limit("conv_kernel_height")
    if operation.type == "conv_transpose":
        # A stride of s makes s smaller kernels of it: 16 wide with stride 8 was accepted on M2, macOS 26.5.
        _, sy, sx = _per_axis(operation, "strides")
        if -(-width // sx) > wide.value or -(-height // sy) > tall.value:
            yield Reason(
                f"the transposed kernel is {height}x{width} with stride {sy}x{sx}, which nobody measured",
                INFERRED,
                ("mobius-nanocodec",),
                effect=Effect.UNKNOWN,
            )
        return
    if width <= wide.value and height <= tall.value:
        return
    text = "Error: conv with large kernel does not meet decomposition preconditions"
    steps = scope.limit("conv_large_kernel_multiple").value
    _, dy, dx = _per_axis(operation, "dilations")
    stride = _per_axis(operation, "strides")
    grouped = operation.integer("groups", 1) != 1
    found = f"the kernel is {height}x{width} (height x width); {tall.value}x{wide.value} is the largest accepted"
    if height % steps or width % steps or dy != 1 or dx != 1 or grouped or stride[1] != stride[2]:
        if scope.generation < 16 and width <= 16 and height <= 32:
            yield Reason(found + ", and sources disagree about this generation", REPORTED, wide.sources, Effect.UNKNOWN)
        else:
            yield Reason(found, wide.certainty, wide.sources, core_ml_code=320, core_ml_text=text)
    elif (height, width) == (16, 16) and scope.generation >= 16:
        yield Reason(
            "the kernel is 16x16: accepted, but compiling it took minutes and up to 12 GB on M4"
            + ("; nobody tried it on an iPhone or iPad" if scope.handheld else ""),
            REPORTED,
            ("751k-dispatch",),
            effect=Effect.UNKNOWN if scope.handheld else Effect.RISK,
        )
    else:
        yield Reason(
            found + "; whether Core ML can decompose it here is not known", REPORTED, wide.sources, Effect.UNKNOWN
        )


@rule("ANE307", "dilation-without-factors", operations=("conv",))
def dilation_without_factors(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """A dilated kernel reaches further than a plain one may, by a dilation that has no factors 2 or 3.

    ## Why it matters
    On M2 two of the 18 dilated convolutions of a HiFi-GAN layer left the engine. The published counts fit the kernels
    whose dilated width passes the limit of a plain kernel while the dilation (5) is no product of the engine's step
    factors 2, 3, 4 and 8; dilations of 3 with the same reach stayed. The refused layers were not named, so this is
    inferred, and on other generations it is not known. Nor is it known whether more than two factors may be chained
    (18 = 2 x 3 x 3, a rate of DeepLab).

    ## What to change
    Use dilations 2, 3, 4, 6 or 8, or a smaller kernel at this dilation.

    ## Example
    ```mil
    func main<ios17>(tensor<fp16, [1, 16, 1024]> x) {
        tensor<fp16, [16, 16, 11]> w = const()[val =
            tensor<fp16, [16, 16, 11]>(BLOBFILE(path = string("@model_path/weights/weight.bin"),
            offset = uint64(64)))];
        tensor<fp16, [1, 16, 1024]> out = conv(x = x, weight = w, pad_type = string("same"),
            dilations = tensor<int32, [1]>([5]));
    } -> (out);
    ```
    """
    dilations = _per_axis(operation, "dilations")
    if dilations == (1, 1, 1):
        return
    _, height, width = kernel(operation)
    _, dy, dx = dilations
    wide, tall = scope.limit("conv_kernel_width"), scope.limit("conv_kernel_height")
    unproven = ""
    for name, size, dilation, limit in (("wide", width, dx, wide), ("tall", height, dy, tall)):
        reach = (size - 1) * dilation + 1
        if size == 1 or reach <= limit.value or factors(dilation):
            continue
        found = f"a kernel of {size} with dilation {dilation} is {reach} {name}, and {dilation} "
        if not smooth(dilation):
            found += "has no factors the engine steps by"
            if scope.generation == 14:
                yield Reason(found, INFERRED, ("mobius-nanocodec",))
                return
            unproven = unproven or found + "; only an M2 was seen to refuse such"
        else:
            unproven = unproven or (
                found + "takes more than two of the factors the engine steps by, which nobody measured"
            )
    if unproven:
        yield Reason(unproven, INFERRED, ("mobius-nanocodec", "ane-guide"), effect=Effect.UNKNOWN)


@rule("ANE306", "too-many-groups", operations=("conv", "conv_transpose"))
def too_many_groups(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """The convolution has more groups than the engine accepts.

    ## Why it matters
    Core ML refuses more than 65,536 groups.

    ## What to change
    Split the channels into several convolutions.
    """
    groups, limit = operation.integer("groups", 1), scope.limit("conv_groups")
    if groups > limit.value:
        yield Reason(
            f"it has {groups:,} groups; {limit.value:,} is the limit",
            limit.certainty,
            limit.sources,
            core_ml_code=320,
            core_ml_text=f"Error: invalid number of groups = {groups} for conv layer. It should be in [1, 65536]",
        )


@rule("ANE308", "depthwise-single-position", operations=("conv",))
def depthwise_single_position(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """A one-row depthwise convolution yields a single position.

    ## Why it matters
    In one published run (LFM2, a Mac with macOS 26) ten such convolutions, 1x3 over an input three wide with 1,024
    groups, were refused while everything around them ran on the engine. Why is not known.

    ## What to change
    Write it as slices, multiplications and additions: one product for each column of the kernel.
    """
    groups = operation.integer("groups", 1)
    weight = _shape(operation, "weight")
    _, height, width = kernel(operation)
    outputs = operation.outputs[0].tensor.shape if operation.outputs else None
    depthwise = groups > 1 and weight[0] == groups and weight[1] == 1
    if depthwise and height == 1 and width > 1 and outputs is not None and all(dim == 1 for dim in outputs[2:]):
        yield Reason(
            "a one-row depthwise kernel that yields one position was reported off the engine once, unexplained",
            REPORTED,
            ("coreml-llm",),
            effect=Effect.UNKNOWN,
        )


@rule("ANE309", "unproven-transposed-convolution", operations=("conv_transpose",))
def unproven_transposed_convolution(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """A transposed convolution has a stride or dilation that nobody measured.

    ## Why it matters
    Strides of 2 were accepted on M4, strides up to 8 ran on an M2. Strings of the engine's compiler speak of stride 2
    as the main case and of dilation as not supported, without saying where.

    ## What to change
    Use strides 2 and 4 in a row instead of 8 or 16, or upsample by nearest neighbours and convolve.
    """
    strides, dilations = _per_axis(operation, "strides"), _per_axis(operation, "dilations")
    if max(dilations) > 1:
        yield Reason(f"its dilation is {max(dilations)}", REPORTED, ("ane-strings",), Effect.UNKNOWN)
    elif max(strides) > 8:
        yield Reason(f"its stride is {max(strides)}; up to 8 was seen", REPORTED, ("mobius-nanocodec",), Effect.UNKNOWN)


@rule("ANE304", "oversized-pool", operations=("max_pool", "avg_pool", "l2_pool"))
def oversized_pool(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """The pooling window is wider than the engine accepts.

    ## Why it matters
    On M4 a max pool may be 1 to 8 columns wide, or exactly 32; 9 rows were accepted, more were not tried. Average pools
    of 14 columns were accepted, and one as large as its input is a mean.

    ## What to change
    Chain smaller max pools with stride 1: 5 after 5 after 5 pools as 13 does, with the same result. Write a global pool
    as ``reduce_mean`` or ``reduce_max``.

    ## Example
    ```mil
    func main<ios17>(tensor<fp16, [1, 8, 32, 32]> x) {
        tensor<fp16, [1, 8, 32, 32]> out = max_pool(x = x, kernel_sizes = tensor<int32, [2]>([13, 13]),
            strides = tensor<int32, [2]>([1, 1]), pad_type = string("same"), pad = tensor<int32, [4]>([0, 0, 0, 0]));
    } -> (out);
    ```
    """
    sizes = _per_axis(operation, "kernel_sizes")
    width, height = sizes[2], sizes[1]
    x = operation.input("x")
    whole = False
    if x is not None and x.tensor.shape is not None:
        spatial = (1, 1, 1, *x.tensor.shape[2:])[-3:]
        whole = sizes[1:] == tuple(spatial[1:])
    if operation.type == "max_pool":
        limit, also, tall = (scope.limit(f"max_pool_{name}") for name in ("width", "width_also", "height"))
        if width <= limit.value or width == also.value:
            if height > tall.value:
                yield Reason(
                    f"the window is {height} tall; up to {tall.value} was seen accepted",
                    tall.certainty,
                    tall.sources,
                    effect=Effect.UNKNOWN,
                )
            return
        if whole:
            yield Reason(
                f"the window is {width} wide, as wide as its input; no published run says whether Core ML takes that",
                INFERRED,
                limit.sources,
                effect=Effect.UNKNOWN,
            )
            return
        text = f"Invalid Pool kernel width ({width}), must be [1-{limit.value}] or {also.value}."
        if scope.generation >= 16:
            yield Reason(
                f"the window is {width} wide; 1 to {limit.value}, or {also.value}, is accepted",
                limit.certainty,
                limit.sources,
                core_ml_code=320,
                core_ml_text=text,
            )
        else:
            yield Reason(
                f"the window is {width} wide; M4 takes 1 to {limit.value} or {also.value}, older ones are unmeasured",
                REPORTED,
                limit.sources,
                effect=Effect.UNKNOWN,
            )
    elif not whole and max(width, height) > (limit := scope.limit("avg_pool_window")).value:
        yield Reason(
            f"the window is {height}x{width}; up to {limit.value} was seen accepted",
            limit.certainty,
            limit.sources,
            effect=Effect.UNKNOWN,
        )


_VOLUMES_MEASURED = {"conv", "conv_transpose", "avg_pool"}


@rule("ANE312", "volume-window", operations=("conv", "conv_transpose", "max_pool", "avg_pool", "l2_pool"))
def volume_window(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """A convolution or pooling slides over three axes (video, scans), where nobody measured it.

    ## Why it matters
    Core ML listed the engine for 3-D convolutions, transposed ones and average pools on M4 with macOS 27. Outside Core
    ML an M1's compiler never took a 3-D convolution, though its tables name a kernel depth.

    ## What to change
    Fold the depth into the batch or the channels and add up 2-D convolutions, one for each slice of the kernel.

    ## Example
    ```mil
    func main<ios17>(tensor<fp16, [1, 8, 4, 16, 16]> x) {
        tensor<fp16, [8, 8, 3, 3, 3]> w = const()[val =
            tensor<fp16, [8, 8, 3, 3, 3]>(BLOBFILE(path = string("@model_path/weights/weight.bin"),
            offset = uint64(64)))];
        tensor<fp16, [1, 8, 4, 16, 16]> out = conv(x = x, weight = w, pad_type = string("same"));
    } -> (out);
    ```
    """
    if scope.generation >= 16 and scope.major >= 27 and operation.type in _VOLUMES_MEASURED:
        return
    value = operation.input("weight" if operation.type.startswith("conv") else "x")
    if value is not None and value.tensor.rank == 5:
        yield Reason(
            "it slides over three axes; measured were convolutions and average pools on M4 with macOS 27 only",
            REPORTED,
            ("ane-guide", "751k-dispatch"),
            effect=Effect.UNKNOWN,
        )


@rule("ANE305", "long-inner-product", operations=("matmul", "linear"))
def long_inner_product(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """The contracted dimension of a matrix product does not fit the engine's kernel memory.

    ## Why it matters
    Core ML refuses a ``matmul`` whose rows take more than 65,536 bytes, that is more than 32,768 fp16 values.

    ## What to change
    Split the dimension and add the partial products.

    ## Example
    ```mil
    func main<ios17>(tensor<fp16, [1, 16, 40000]> x, tensor<fp16, [1, 40000, 16]> y) {
        tensor<fp16, [1, 16, 16]> out = matmul(x = x, y = y, transpose_x = bool(false), transpose_y = bool(false));
    } -> (out);
    ```
    """
    shape = _shape(operation, "x")
    if not shape:
        raise Unknown("a product of a scalar is none")
    inner = shape[-2] if operation.param("transpose_x", False) and len(shape) > 1 else shape[-1]
    limit = scope.limit("matmul_inner")
    if inner <= limit.value:
        return
    if operation.type == "linear":
        yield Reason(
            f"it contracts {inner:,} values; {limit.value:,} is the limit of matmul, unmeasured for linear",
            INFERRED,
            limit.sources,
            effect=Effect.UNKNOWN,
        )
        return
    yield Reason(
        f"it contracts {inner:,} values; {limit.value:,} is the limit",
        limit.certainty,
        limit.sources,
        core_ml_code=320,
        core_ml_text=f"Error: the output channel of input A ({2 * inner} kB) can not fit the Kmem (65536 kB)",
    )


@rule("ANE310", "deep-matrix-product", operations=("matmul", "linear"))
def deep_matrix_product(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """A matrix product has five axes.

    ## Why it matters
    The engine's matrix product has no depth: its compiler says so, it was seen on an M1, and a rank-5 ``matmul`` of a
    published run stayed on the CPU while the same product at rank 3 ran on the engine.

    ## What to change
    Merge the batch axes by a reshape before, and split them after.

    ## Example
    ```mil
    func main<ios17>(tensor<fp16, [1, 4, 2, 64, 64]> x, tensor<fp16, [1, 4, 2, 64, 64]> y) {
        tensor<fp16, [1, 4, 2, 64, 64]> out = matmul(x = x, y = y, transpose_x = bool(false),
            transpose_y = bool(false));
    } -> (out);
    ```
    """
    for argument in ("x", "y") if operation.type == "matmul" else ("x",):
        value = operation.input(argument)
        rank = value.tensor.rank if value is not None else None
        if rank is not None and rank >= 5:
            text = (
                "depth > 1 is not supported for MatMult"
                if operation.type == "matmul"
                else ("ANE cannot support Linear with input rank >= 5")
            )
            yield Reason(
                f"its input {argument} has {rank} axes", REPORTED, ("ane-guide", "coreml-llm"), core_ml_text=text
            )
            return


@rule("ANE311", "resize-without-sampler", operations=("resize_bilinear", "resize", "resize_nearest_neighbor"))
def resize_without_sampler(operation: Operation, scope: Scope) -> Iterator[Reason]:
    """A resize by a factor that is no whole number, on an engine without a texture sampler.

    ## Why it matters
    The engines of A14 and M1 have no sampler. DeepLabV3's last resize, from 65 to 513, stayed off an M1's engine;
    spreading a single pixel over 65 stayed on it. M4 took a resize from 32 to 48 and one from 32 to 20.

    ## What to change
    Resize by whole factors with ``upsample_bilinear`` or ``upsample_nearest_neighbor``, or do the last resize in the
    app.
    """
    if scope.generation >= 14 or folds(operation):
        return
    x = operation.input("x")
    before = x.tensor.fixed() if x is not None else ()
    after = operation.outputs[0].tensor.fixed() if operation.outputs else ()
    if len(before) < 2 or len(after) < 2:
        raise Unknown("the sizes of the resize are not in the file")
    pairs = list(zip(before[-2:], after[-2:], strict=True))
    if all(old == 1 or old == new for old, new in pairs):
        return
    whole = all(old > 0 and new % old == 0 for old, new in pairs)
    sizes = f"from {before[-2]}x{before[-1]} to {after[-2]}x{after[-1]}"
    if scope.legacy and scope.major <= 16 and not whole:
        yield Reason(f"it resizes {sizes}", REPORTED, ("anecompat", "ane-guide"))
    else:
        yield Reason(f"it resizes {sizes} without a sampler", INFERRED, ("anecompat", "ane-guide"), Effect.UNKNOWN)

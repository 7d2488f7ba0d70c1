"""A Core ML model as a typed graph: what every reader produces and every rule reads.

Nothing here knows a file format, a rule or a chip, and nothing is imported but the standard library. Names are MIL's:
an *operation* has named inputs bound to *values*; a value has a *type* and comes from an operation, from the outside,
or from a *constant*. Layers of old neural networks are lowered to the same vocabulary by their reader and keep their
own kind in ``Operation.layer``.

``const`` operations do not become operations: they are values with a constant. ``constexpr_*`` operations are kept
(they appear in Core ML's own histogram) but get no index, because they get no device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

Scalar = bool | int | float | str


class Unknown(Exception):
    """A fact that an answer needs is not in the file. The sentence names the fact; the judge reports it."""


@dataclass(frozen=True, slots=True)
class TensorType:
    """A tensor: its element type in MIL's spelling (``fp16``, ``int32``, ``bool``...) and its shape.

    ``shape`` is None where not even the rank is known; a None dimension is known to exist but not its size.
    """

    dtype: str
    shape: tuple[int | None, ...] | None

    @property
    def rank(self) -> int | None:
        return None if self.shape is None else len(self.shape)

    @property
    def is_fixed(self) -> bool:
        return self.shape is not None and None not in self.shape

    def fixed(self) -> tuple[int, ...]:
        """The shape with every dimension known, or Unknown."""
        if self.shape is None:
            raise Unknown("the shape is not in the file")
        dims = tuple(d for d in self.shape if d is not None)
        if len(dims) != len(self.shape):
            raise Unknown(f"the shape {self} has a dimension that is not in the file")
        return dims

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.dtype}[...]"
        return f"{self.dtype}[{','.join('?' if d is None else str(d) for d in self.shape)}]"


@dataclass(frozen=True, slots=True)
class StateType:
    """A state (``state<tensor<...>>``): a buffer that outlives a prediction."""

    tensor: TensorType

    def __str__(self) -> str:
        return f"state<{self.tensor}>"


@dataclass(frozen=True, slots=True)
class OtherType:
    """A list, tuple or dictionary: nothing the Neural Engine could hold. ``text`` is MIL's spelling."""

    text: str

    def __str__(self) -> str:
        return self.text


ValueType = TensorType | StateType | OtherType


@dataclass(frozen=True, slots=True)
class Blob:
    """Where a payload lies that was not read: the file as the model names it, the byte offset, and its length if known.

    For a ``weight.bin`` the offset is that of the blob's metadata record, as MIL writes it.
    """

    path: str
    offset: int
    length: int | None = None


class Constant:
    """A value known before the model runs. Decoded when asked, never before.

    ``load`` returns the elements flattened in row-major order, or raises Unknown where they cannot be had cheaply.
    ``blob`` says where the payload lies when it is not in the structure itself; such a constant is ``load``-ed only
    where a verdict depends on it.
    """

    __slots__ = ("_load", "_values", "blob", "type")

    def __init__(
        self,
        type: ValueType,
        load: Callable[[], Sequence[Scalar]] | None = None,
        *,
        values: Sequence[Scalar] | None = None,
        blob: Blob | None = None,
    ) -> None:
        self.type = type
        self.blob = blob
        self._load = load
        self._values: tuple[Scalar, ...] | None = None if values is None else tuple(values)

    def values(self) -> tuple[Scalar, ...]:
        """The elements, flattened row-major. Raises Unknown where the file does not hold them."""
        if self._values is None:
            if self._load is None:
                raise Unknown("the constant's value lies in the weights, which are not read")
            self._values = tuple(self._load())
            self._load = None
        return self._values

    def item(self) -> Scalar:
        """The value of a scalar or one-element constant."""
        values = self.values()
        if len(values) != 1:
            raise Unknown(f"one value was expected, the constant holds {len(values)}")
        return values[0]


class Value:
    """One edge of the graph. ``producer`` is None for an outside input and for a constant."""

    __slots__ = ("const", "name", "producer", "type")

    def __init__(
        self, name: str, type: ValueType, producer: Operation | None = None, const: Constant | None = None
    ) -> None:
        self.name = name
        self.type = type
        self.producer = producer
        self.const = const

    @property
    def is_constant(self) -> bool:
        """Whether it is known before the model runs: a constant, or weights that a ``constexpr_*`` unpacks."""
        return self.const is not None or (self.producer is not None and self.producer.is_constexpr)

    @property
    def tensor(self) -> TensorType:
        """The tensor this value carries (a state's own tensor); Unknown for lists and dictionaries."""
        if isinstance(self.type, TensorType):
            return self.type
        if isinstance(self.type, StateType):
            return self.type.tensor
        raise Unknown(f"{self.name} is a {self.type}, not a tensor")

    def __repr__(self) -> str:
        return f"Value({self.name!r}, {self.type})"


class Block:
    """The body of a function, or of a branch or loop: operations in file order."""

    __slots__ = ("inputs", "operations", "outputs")

    def __init__(self, inputs: Sequence[Value], operations: Sequence[Operation], outputs: Sequence[Value]) -> None:
        self.inputs = tuple(inputs)
        self.operations = tuple(operations)
        self.outputs = tuple(outputs)

    def walk(self) -> Iterator[Operation]:
        """Every operation, nested blocks depth first after their owner."""
        for operation in self.operations:
            yield operation
            for block in operation.blocks:
                yield from block.walk()


class Operation:
    """One operation. ``index`` counts across the whole model and is -1 for ``constexpr_*``, which get no device.

    ``inputs`` binds argument names to values (a tuple, because ``values=(a, b)`` is legal for ``concat``); parameters
    such as ``axes`` are inputs too, as MIL has it, mostly with a constant. ``opset`` is the opset this *version* of the
    operation belongs to where the file tells ("ios17"), else "". ``layer`` is the kind of the old neural-network layer
    this was lowered from ("" otherwise). ``name`` is the source name (the ``name`` attribute or the layer's name).
    """

    __slots__ = ("blocks", "index", "inputs", "layer", "name", "opset", "outputs", "type")

    def __init__(
        self,
        type: str,
        inputs: Mapping[str, tuple[Value, ...]],
        outputs: Sequence[Value],
        *,
        name: str = "",
        opset: str = "",
        layer: str = "",
        blocks: Sequence[Block] = (),
    ) -> None:
        self.index = -1
        self.type = type
        self.inputs: dict[str, tuple[Value, ...]] = dict(inputs)
        self.outputs = tuple(outputs)
        self.name = name
        self.opset = opset
        self.layer = layer
        self.blocks = tuple(blocks)
        for value in self.outputs:
            value.producer = self

    @property
    def is_constexpr(self) -> bool:
        return self.type.startswith("constexpr_")

    def input(self, argument: str) -> Value | None:
        """The value bound to an argument, or None where the file leaves it out."""
        bound = self.inputs.get(argument)
        return bound[0] if bound else None

    def param(self, argument: str, default: Scalar | None = None) -> Scalar:
        """A scalar parameter. Unknown where it is not a constant; ``default`` (or Unknown) where it is left out."""
        value = self.input(argument)
        if value is None:
            if default is None:
                raise Unknown(f"the parameter {argument} is not in the file")
            return default
        if value.const is None:
            raise Unknown(f"the parameter {argument} is computed by the model")
        return value.const.item()

    def params(self, argument: str, default: Sequence[int] | None = None) -> tuple[Scalar, ...]:
        """A list parameter such as ``strides``; as ``param`` otherwise."""
        value = self.input(argument)
        if value is None:
            if default is None:
                raise Unknown(f"the parameter {argument} is not in the file")
            return tuple(default)
        if value.const is None:
            raise Unknown(f"the parameter {argument} is computed by the model")
        return value.const.values()

    def integer(self, argument: str, default: int | None = None) -> int:
        """As ``param``, for a whole number; Unknown where it is none."""
        value = self.param(argument, default)
        if not isinstance(value, int):
            raise Unknown(f"the parameter {argument} is no whole number")
        return int(value)

    def integers(self, argument: str, default: Sequence[int] | None = None) -> tuple[int, ...]:
        """As ``params``, for whole numbers; Unknown where one is none."""
        values = self.params(argument, default)
        if not all(isinstance(value, int) for value in values):
            raise Unknown(f"the parameter {argument} holds something else than whole numbers")
        return tuple(int(value) for value in values)

    def __repr__(self) -> str:
        return f"Operation({self.index}, {self.type!r} -> {', '.join(v.name for v in self.outputs)})"


@dataclass(frozen=True, slots=True)
class Function:
    """A named entry point. ``layout`` is "blob" for old networks whose values are (N, C, H, W) blobs, else "mil"."""

    name: str
    opset: str
    body: Block
    layout: str = "mil"

    @property
    def inputs(self) -> tuple[Value, ...]:
        return self.body.inputs

    @property
    def outputs(self) -> tuple[Value, ...]:
        return self.body.outputs

    def operations(self) -> Iterator[Operation]:
        """Every operation that gets a device, nested blocks depth first after their owner."""
        return (operation for operation in self.body.walk() if not operation.is_constexpr)


@dataclass(frozen=True, slots=True)
class Feature:
    """An input or output as the model describes it to an app.

    ``kind`` is "multiArray", "image", "int64", "double", "string", "dictionary", "sequence", "state" or "unknown".
    ``shape`` is the default shape of an array (for an image: (channels, height, width)). ``choices`` lists enumerated
    shapes, ``ranges`` the (least, most) of each dimension where most is None for "no limit". ``color`` names an
    image's pixel layout ("RGB", "BGR", "GRAYSCALE", "GRAYSCALE_FLOAT16").
    """

    name: str
    kind: str
    dtype: str = ""
    shape: tuple[int, ...] | None = None
    choices: tuple[tuple[int, ...], ...] = ()
    ranges: tuple[tuple[int, int | None], ...] = ()
    color: str = ""
    optional: bool = False
    description: str = ""

    @property
    def is_flexible(self) -> bool:
        return len(self.choices) > 1 or any(least != most for least, most in self.ranges)


@dataclass(frozen=True, slots=True)
class HostWork:
    """Work that Core ML does outside every engine. ``partial`` says whether it keeps a model from status 0.

    Image conversion, scale and bias change nothing; a classifier's label lookup or a tree ensemble makes it Partial.
    """

    kind: str
    detail: str
    partial: bool
    stage: str = ""


UNDESCRIBED = "anecompat.undescribed"
"""Set in a model's metadata where the file that describes it to apps is missing: it may be a classifier."""


@dataclass(slots=True)
class Model:
    """A model as read. A pipeline has ``stages`` and no functions of its own.

    ``format`` is the container ("mlpackage", "mlmodel", "mlmodelc", "mil"); ``kind`` is "mlProgram", "neuralNetwork",
    "neuralNetworkClassifier", "neuralNetworkRegressor", "pipeline", "pipelineClassifier", "pipelineRegressor", or the
    name of the non-neural kind as Core ML's format spells it ("treeEnsembleClassifier"). ``warnings`` are sentences.
    """

    path: str
    format: str
    kind: str
    spec_version: int
    inputs: tuple[Feature, ...] = ()
    outputs: tuple[Feature, ...] = ()
    states: tuple[Feature, ...] = ()
    functions: tuple[Function, ...] = ()
    stages: tuple[Model, ...] = ()
    name: str = ""
    host_work: tuple[HostWork, ...] = ()
    warnings: tuple[str, ...] = ()
    default_function: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    bytes_read: int = 0
    bytes_there: int = 0

    def walk_stages(self) -> Iterator[tuple[str, Model]]:
        """Every model that has no stages of its own, with its path of stage names ("" for a plain model)."""
        if not self.stages:
            yield self.name, self
        for stage in self.stages:
            for path, leaf in stage.walk_stages():
                yield (f"{stage.name}/{path}" if stage.stages and stage.name else path), leaf

    def operations(self) -> Iterator[Operation]:
        """Every operation that gets a device, across stages and functions, in file order."""
        for _, leaf in self.walk_stages():
            for function in leaf.functions:
                yield from function.operations()

    def histogram(self) -> dict[str, int]:
        """How often each operation type occurs: everything but ``const``; ``constexpr_*`` included."""
        counts: dict[str, int] = {}
        for _, leaf in self.walk_stages():
            for function in leaf.functions:
                for operation in function.body.walk():
                    counts[operation.type] = counts.get(operation.type, 0) + 1
        return counts


def number(model: Model) -> Model:
    """Give every operation that gets a device its index, unique across the model. Returns the same model."""
    for index, operation in enumerate(model.operations()):
        operation.index = index
    return model

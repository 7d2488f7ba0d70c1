"""A network of layers as a block of MIL operations, with the nested networks of branches and loops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from anecompat.errors import ReadError
from anecompat.ir import Block, Constant, Operation, TensorType, Value
from anecompat.readers.neural_network import arrange, dense, elementwise, gather, normalize, resize, slicing, spatial
from anecompat.readers.neural_network.fold import fold
from anecompat.readers.neural_network.layers import (
    FLOAT,
    Argument,
    Edge,
    Edges,
    Layer,
    Lowered,
    constant,
    shown,
    weight_numbers,
)
from anecompat.shapes import Dim, Shape, Unshaped, checked, told

LOWERINGS = {
    **spatial.LOWERINGS,
    **resize.LOWERINGS,
    **elementwise.LOWERINGS,
    **normalize.LOWERINGS,
    **dense.LOWERINGS,
    **arrange.LOWERINGS,
    **slicing.LOWERINGS,
    **gather.LOWERINGS,
}
# Kinds this module lowers itself: constants become values, control flow has blocks, the code of a custom layer is
# in the app.
OWN = ("loadConstant", "loadConstantND", "branch", "loop", "loopBreak", "loopContinue", "custom")

MOST_WARNINGS = 20


class Scope:
    """The tensors that a layer may name: those of its own network, and of the networks around it."""

    def __init__(self, outer: Scope | None = None) -> None:
        self.outer = outer
        self.edges: dict[str, Edge] = {}
        self.escaped: set[str] = set()  # written within a branch or loop; a layer may write such a name once more

    def find(self, name: str) -> Edge | None:
        scope: Scope | None = self
        while scope is not None:
            edge = scope.edges.get(name)
            if edge is not None:
                return edge
            scope = scope.outer
        return None


@dataclass(slots=True)
class Turn:
    """One pass over a loop: the operations of its condition and body, their scopes, and the loop variables' values."""

    operations: list[list[Operation]]
    condition: Scope
    body: Scope
    starts: list[Value]

    def end(self, name: str) -> Edge:
        """What a name stands for at the end of the turn. Only for names that the loop writes or was entered with."""
        edge = self.body.find(name)
        if edge is None:
            raise KeyError(name)
        return edge


class Network:
    """Lowers layers one after another. ``blob`` tells that values are shown as (N, C, H, W)."""

    def __init__(self, blob: bool, wanted: Iterable[str], layers: Any) -> None:
        self.blob = blob
        self.warnings: list[str] = []
        self.untold = 0
        # Who reads a name decides which results of a branch or loop come out of it.
        self.reads: Counter[str] = Counter(wanted)
        self.reads.update(_reads(layers))
        # Loops are lowered twice where the first pass shows that a shape changes from turn to turn; nested loops
        # would double that at every depth, so the second passes have a common budget.
        self.budget = 4 * _count(layers) + 1000

    def warn(self, sentence: str) -> None:
        if len(self.warnings) < MOST_WARNINGS:
            self.warnings.append(sentence)
        else:
            self.untold += 1

    def told(self) -> tuple[str, ...]:
        more = (f"{self.untold} more layers have an unknown shape for a reason of their own.",) if self.untold else ()
        return (*self.warnings, *more)

    def edge(self, name: str, shape: Shape | None, numbers: tuple[float, ...] | None = None) -> Edge:
        return Edge(Value(name, TensorType(FLOAT, self.shown(shape))), shape, numbers)

    def shown(self, shape: Shape | None) -> Shape | None:
        return shown(shape) if self.blob and shape is not None else shape

    def lower(self, layers: Any, scope: Scope) -> list[Operation]:
        """The operations of a network's layers. ReadError where a layer reads or writes what it may not."""
        operations: list[Operation] = []
        for index, layer in enumerate(layers):
            self.budget -= 1
            operation = self.lower_one(layer, index, scope)
            if operation is not None:
                operations.append(operation)
        return operations

    def lower_one(self, message: Any, index: int, scope: Scope) -> Operation | None:
        kind = message.WhichOneof("layer") or ""
        layer = Layer(
            name=message.name,
            index=index,
            kind=kind,
            params=getattr(message, kind) if kind else None,
            inputs=(),
            output_count=len(message.output),
            blob=self.blob,
        )
        layer.inputs = tuple(self._input(message, layer, scope))
        if kind in ("loadConstant", "loadConstantND"):
            self._constants(layer, message, scope)
            return None
        if kind == "branch":
            return self._branch(layer, scope)
        if kind == "loop":
            return self._loop(layer, scope)
        lowered = self._lowered(layer)
        shapes = self._shapes(layer, lowered, message)
        outputs = [self.edge(output, shape) for output, shape in zip(message.output, shapes, strict=True)]
        if len(outputs) == 1 and shapes[0] is not None:
            outputs[0].numbers = fold(layer, shapes[0])
        operation = self._operation(layer, lowered, [edge.value for edge in outputs])
        for output, edge in zip(message.output, outputs, strict=True):
            self._define(output, edge, layer, scope)
        return operation

    def _input(self, message: Any, layer: Layer, scope: Scope) -> Iterator[Edge]:
        for read in message.input:
            edge = scope.find(read)
            if edge is None:
                raise ReadError(
                    f"it reads '{read}', which is neither an input of the model nor the output of an earlier layer; "
                    "the network is damaged, export it again",
                    place=layer.place,
                )
            yield edge

    def _define(self, name: str, edge: Edge, layer: Layer, scope: Scope) -> None:
        if name in scope.edges and name not in scope.escaped and layer.kind != "copy":
            raise ReadError(
                f"it writes '{name}', which an earlier layer or an input of the model has written already; "
                "the network is damaged, export it again",
                place=layer.place,
            )
        scope.escaped.discard(name)
        scope.edges[name] = edge

    def _lowered(self, layer: Layer) -> Lowered:
        lowering = LOWERINGS.get(layer.kind)
        if lowering is not None:
            return lowering(layer)
        arguments: dict[str, Argument] = {"x": Edges(layer.inputs)} if layer.inputs else {}
        if layer.kind == "loopBreak":
            return Lowered("loop_break", {}, list)
        if layer.kind == "loopContinue":
            return Lowered("loop_continue", {}, list)
        if layer.kind == "custom":
            return Lowered("custom", {**arguments, "class_name": layer.params.className}, _app_code)
        return Lowered("unknown_layer", arguments, _unknown_kind)

    def _shapes(self, layer: Layer, lowered: Lowered, message: Any) -> list[Shape | None]:
        """The shape of every output: by the layer's rule, else as the file declares it, else unknown with a reason."""
        count = layer.output_count
        declared = [_declared(message, index) for index in range(count)]
        shapes: list[Shape | None] = []
        reason = ""
        try:
            shapes += [checked(shape) for shape in lowered.shapes()][:count]
            if len(shapes) < count:
                reason = f"it writes {count} tensors where its kind makes {len(shapes)}"
        except Unshaped as why:
            reason = str(why)  # empty for Downstream
        shapes += [None] * (count - len(shapes))
        for index, (shape, given) in enumerate(zip(shapes, declared, strict=True)):
            if shape is None:
                shapes[index] = given
            elif given is not None and _contradict(shape, given):
                self.warn(f"{layer.place}: the file declares an output of {given}, its kind gives {shape}.")
        if reason and any(shape is None or None in shape for shape in shapes):
            self.warn(f"{layer.place}: the shape of its output is unknown: {reason}.")
        return shapes

    def _operation(self, layer: Layer, lowered: Lowered, outputs: list[Value]) -> Operation:
        inputs = {name: self._bound(f"{layer.name}_{name}", argument) for name, argument in lowered.arguments.items()}
        return Operation(lowered.type, inputs, outputs, name=layer.name, layer=layer.kind)

    def _bound(self, name: str, argument: Argument) -> tuple[Value, ...]:
        if isinstance(argument, Edge):
            return (argument.value,)
        if isinstance(argument, Edges):
            return tuple(edge.value for edge in argument.edges)
        return (constant(name, argument),)

    def _constants(self, layer: Layer, message: Any, scope: Scope) -> None:
        """A constant is a value, not an operation: it gets no device (the contract counts no ``const``)."""
        dims = tuple(int(dim) for dim in layer.params.shape)
        shape: Shape | None = (1, 1, *dims) if layer.kind == "loadConstant" else dims
        try:
            shape = checked(shape or (1,))
            if layer.kind == "loadConstant" and len(dims) != 3:
                raise Unshaped(f"its shape is {told(dims)}, not 3 numbers")
        except Unshaped as why:
            shape = None
            self.warn(f"{layer.place}: the shape of its output is unknown: {why}.")
        numbers = weight_numbers(layer.params.data, shape) if shape is not None else None
        for output in message.output:
            edge = self.edge(output, shape, numbers)
            edge.value.const = Constant(edge.value.type, values=numbers)
            self._define(output, edge, layer, scope)

    def _branch(self, layer: Layer, scope: Scope) -> Operation:
        """``cond`` with the blocks of both branches. What either writes is visible afterwards."""
        params = layer.params
        networks = [params.ifBranch, params.elseBranch]
        scopes = [Scope(scope), Scope(scope)]
        bodies = [self.lower(network.layers, inner) for network, inner in zip(networks, scopes, strict=True)]
        names = self._leaving(scope, scopes, _reads_of(networks))
        outputs: list[Edge] = []
        returned: list[list[Value]] = [[], []]
        for name in names:
            ends = [inner.find(name) for inner in scopes]
            edge = self.edge(name, _merged([end.shape for end in ends if end is not None]))
            for written, end in zip(returned, ends, strict=True):
                # A branch that does not write a name leaves it undefined, which MIL cannot say: a value of its own.
                written.append(end.value if end is not None else Value(name, edge.value.type))
            outputs.append(edge)
        blocks = [Block((), body, values) for body, values in zip(bodies, returned, strict=True)]
        predicate = (layer.edge().value,)
        values = [edge.value for edge in outputs]
        operation = Operation("cond", {"pred": predicate}, values, name=layer.name, layer="branch", blocks=blocks)
        self._leave(scope, names, outputs)
        return operation

    def _loop(self, layer: Layer, scope: Scope) -> Operation:
        """``while_loop`` whose loop variables are the tensors that its networks write again (by ``copy`` layers)."""
        params = layer.params
        networks = [params.conditionNetwork, params.bodyNetwork]
        entering = {name: edge for name in _writes(networks) if (edge := scope.find(name)) is not None}
        trusted = self.budget > 0
        told = len(self.warnings), self.untold
        turn = self._turn(networks, scope, entering, keep_shapes=trusted)
        if trusted and any(turn.end(name).shape != edge.shape for name, edge in entering.items()):
            # A shape changes from turn to turn: no turn's shape holds for all of them.
            del self.warnings[told[0] :]
            self.untold = told[1]
            turn = self._turn(networks, scope, entering, keep_shapes=False)
        inside = _reads_of(networks)
        inside[params.conditionVar] += 1
        leaving = self._leaving(scope, [turn.condition, turn.body], inside)
        names = list(dict.fromkeys([*entering, *leaving]))
        ends = [turn.end(name) for name in names]
        outputs = [
            self.edge(name, _merged([end.shape, entering[name].shape] if name in entering else [end.shape]))
            for name, end in zip(names, ends, strict=True)
        ]
        asked = turn.condition.find(params.conditionVar)
        blocks = (
            Block(turn.starts, turn.operations[0], (asked.value,) if asked is not None else ()),
            Block(turn.starts, turn.operations[1], [end.value for end in ends]),
        )
        inputs = {"loop_vars": tuple(edge.value for edge in entering.values())}
        if layer.inputs:
            inputs["max_iterations"] = (layer.edge().value,)
        elif params.maxLoopIterations:
            inputs["max_iterations"] = (constant(f"{layer.name}_max_iterations", int(params.maxLoopIterations)),)
        values = [edge.value for edge in outputs]
        operation = Operation("while_loop", inputs, values, name=layer.name, layer="loop", blocks=blocks)
        self._leave(scope, names, outputs)
        return operation

    def _turn(self, networks: list[Any], scope: Scope, entering: dict[str, Edge], *, keep_shapes: bool) -> Turn:
        """One pass over the condition and the body, which sees what the condition made."""
        around = Scope(scope)
        for name, edge in entering.items():
            around.edges[name] = self.edge(name, edge.shape if keep_shapes else None)
        condition = Scope(around)
        body = Scope(condition)
        operations = [self.lower(n.layers, s) for n, s in zip(networks, (condition, body), strict=True)]
        return Turn(operations, condition, body, [edge.value for edge in around.edges.values()])

    def _leaving(self, scope: Scope, inner: list[Scope], inside: Counter[str]) -> list[str]:
        """Names written inside that are read outside, or that change a tensor which was there before."""
        written = dict.fromkeys(name for one in inner for name in one.edges)
        return [name for name in written if self.reads[name] > inside[name] or scope.find(name) is not None]

    def _leave(self, scope: Scope, names: list[str], edges: list[Edge]) -> None:
        for name, edge in zip(names, edges, strict=True):
            if name not in scope.edges:
                scope.escaped.add(name)
            scope.edges[name] = edge


def _app_code() -> list[Shape]:
    raise Unshaped("its code lies in the app, not in the model")


def _unknown_kind() -> list[Shape]:
    raise Unshaped("its kind is not one of the format's 158")


def _declared(message: Any, index: int) -> Shape | None:
    """The shape that the file declares for an output (``outputTensor``), where it declares one that can be."""
    if index >= len(message.outputTensor):
        return None
    tensor = message.outputTensor[index]
    dims: list[Dim] = [int(dim) if dim > 0 else None for dim in tensor.dimValue]
    if not dims or len(dims) != tensor.rank:
        return None
    try:
        return checked(dims)
    except Unshaped:
        return None


def _contradict(first: Shape, second: Shape) -> bool:
    if len(first) != len(second):
        return True
    return any(a is not None and b is not None and a != b for a, b in zip(first, second, strict=True))


def _merged(shapes: list[Shape | None]) -> Shape | None:
    """What holds for all of the shapes."""
    known = [shape for shape in shapes if shape is not None]
    if not known or len(known) < len(shapes) or len({len(shape) for shape in known}) > 1:
        return None
    return tuple(dims[0] if len(set(dims)) == 1 else None for dims in zip(*known, strict=True))


def _nested(layer: Any) -> list[Any]:
    kind = layer.WhichOneof("layer")
    if kind == "branch":
        return [layer.branch.ifBranch, layer.branch.elseBranch]
    if kind == "loop":
        return [layer.loop.conditionNetwork, layer.loop.bodyNetwork]
    return []


def _reads(layers: Any) -> Iterator[str]:
    """Every name that layers read, nested networks included."""
    for layer in layers:
        yield from layer.input
        if layer.WhichOneof("layer") == "loop":
            yield layer.loop.conditionVar
        for network in _nested(layer):
            yield from _reads(network.layers)


def _reads_of(networks: list[Any]) -> Counter[str]:
    return Counter(name for network in networks for name in _reads(network.layers))


def _writes(networks: list[Any]) -> list[str]:
    """Every name that networks write, nested networks included, in order and once."""
    names: dict[str, None] = {}
    for network in networks:
        for layer in network.layers:
            names.update(dict.fromkeys(layer.output))
            names.update(dict.fromkeys(_writes(_nested(layer))))
    return list(names)


def _count(layers: Any) -> int:
    return sum(1 + sum(_count(network.layers) for network in _nested(layer)) for layer in layers)

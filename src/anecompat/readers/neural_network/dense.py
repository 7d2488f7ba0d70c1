"""Layers that multiply by matrices: inner products, matrix products, embeddings and the recurrent layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anecompat.readers.neural_network.layers import Argument, Edge, Layer, Lowered, Weight
from anecompat.shapes import (
    Shape,
    Unshaped,
    broadcast,
    need_rank,
    positive,
    product,
    same_dim,
)


def inner_product(layer: Layer) -> Lowered:
    p = layer.params
    inputs, outputs = int(p.inputChannels), int(p.outputChannels)
    arguments: dict[str, Argument] = {"x": layer.edge(), "weight": Weight((outputs, inputs))}
    if p.hasBias:
        arguments["bias"] = Weight((outputs,))

    def shapes() -> list[Shape]:
        shape = need_rank(layer.shape(), 1, 5)
        positive(outputs, "number of output channels")
        folded = 3 if len(shape) > 3 else 1
        if inputs:
            same_dim(product(shape[-folded:]), inputs, "channels given and taken")
        return [(*shape[:-folded], outputs, *(1,) * (folded - 1))]

    return Lowered("linear", arguments, shapes)


def batched_matmul(layer: Layer) -> Lowered:
    p = layer.params
    arguments: dict[str, Argument] = {"x": layer.edge()}
    if len(layer.inputs) > 1:
        arguments |= {"y": layer.edge(1), "transpose_x": p.transposeA, "transpose_y": p.transposeB}
        return Lowered("matmul", arguments, lambda: [_product(layer)])
    rows, columns = int(p.weightMatrixFirstDimension), int(p.weightMatrixSecondDimension)
    arguments |= {"y": Weight((rows, columns)), "transpose_x": False, "transpose_y": False}
    if p.hasBias:
        arguments["bias"] = Weight((columns,))

    def shapes() -> list[Shape]:
        shape = layer.shape()
        if rows:
            same_dim(shape[-1], rows, "columns given and rows taken")
        return [(*shape[:-1], positive(columns, "number of columns"))]

    return Lowered("matmul", arguments, shapes)


def _product(layer: Layer) -> Shape:
    """numpy's matmul, but a vector stays the matrix it is made (BatchedMatMulLayerParams)."""
    first, second = layer.shape(0), layer.shape(1)
    p = layer.params
    if (len(first) == 1 and p.transposeA) or (len(second) == 1 and p.transposeB):
        raise Unshaped("it transposes a vector")
    if len(first) == 1:
        first = (1, *first)
    if len(second) == 1:
        second = (*second, 1)
    rows, left = (first[-1], first[-2]) if p.transposeA else (first[-2], first[-1])
    right, columns = (second[-1], second[-2]) if p.transposeB else (second[-2], second[-1])
    same_dim(left, right, "the dimension to sum over")
    return (*broadcast([first[:-2], second[:-2]]), rows, columns)


def embedding(layer: Layer) -> Lowered:
    p = layer.params
    size = int(p.outputChannels)

    def shapes() -> list[Shape]:
        shape = need_rank(layer.shape(), 4, 5)
        for dim in shape[-3:]:
            same_dim(dim, 1, "the last three axes of the indices, which must be 1")
        return [(*shape[:-3], positive(size, "size"), 1, 1)]

    return Lowered("gather", _embedding(layer, int(p.inputDim), size), shapes)


def embedding_nd(layer: Layer) -> Lowered:
    p = layer.params
    size = int(p.embeddingSize)

    def shapes() -> list[Shape]:
        shape = need_rank(layer.shape(), 2)
        same_dim(shape[-1], 1, "the last axis of the indices, which must be 1")
        return [(*shape[:-1], positive(size, "size"))]

    return Lowered("gather", _embedding(layer, int(p.vocabSize), size), shapes)


def _embedding(layer: Layer, rows: int, size: int) -> dict[str, Argument]:
    arguments: dict[str, Argument] = {"x": Weight((rows, size)), "indices": layer.edge(), "axis": 0}
    if layer.params.hasBias:
        arguments["bias"] = Weight((size,))
    return arguments


def _activation(activations: Any, index: int) -> str:
    """The name of a recurrent layer's activation in MIL's words; the usual ones where the file names none."""
    if index >= len(activations):
        return ("sigmoid", "tanh", "tanh")[index]
    chosen = activations[index].WhichOneof("NonlinearityType") or "linear"
    return {"ReLU": "relu", "scaledTanh": "scaled_tanh", "sigmoidHard": "sigmoid_hard"}.get(chosen, chosen)


def _recurrent_shapes(layer: Layer, size: int, sequence: bool, directions: int = 1) -> list[Shape]:
    """(Seq or 1, B, size, 1, 1), then the states, (1, B, size, 1, 1) each: LSTM has h and c in each direction."""
    p = layer.params
    shape = need_rank(layer.shape(), 5, 5)
    positive(size, "output size")
    if p.inputVectorSize:
        same_dim(shape[2], int(p.inputVectorSize), "vector sizes given and taken")
    for dim in shape[3:]:
        same_dim(dim, 1, "the last two axes, which must be 1")
    state: Shape = (1, shape[1], size, 1, 1)
    output: Shape = (shape[0] if sequence else 1, shape[1], directions * size, 1, 1)
    return [output] + [state] * (2 * directions)


def _states(layer: Layer, *arguments: str) -> dict[str, Argument]:
    bound: dict[str, Argument] = {}
    for index, argument in enumerate(arguments, start=1):
        edge: Edge | None = layer.optional(index)
        if edge is not None:
            bound[argument] = edge
    return bound


def simple_recurrent(layer: Layer) -> Lowered:
    p = layer.params
    inputs, size = int(p.inputVectorSize), int(p.outputVectorSize)
    arguments: dict[str, Argument] = {"x": layer.edge(), **_states(layer, "initial_h")}
    arguments |= {"weight_ih": Weight((size, inputs)), "weight_hh": Weight((size, size))}
    if p.hasBiasVector:
        arguments["bias"] = Weight((size,))
    arguments |= {"direction": "reverse" if p.reverseInput else "forward", "output_sequence": p.sequenceOutput}
    arguments["activation"] = _activation([p.activation], 0)
    return Lowered("rnn", arguments, lambda: _recurrent_shapes(layer, size, p.sequenceOutput))


def gru(layer: Layer) -> Lowered:
    p = layer.params
    inputs, size = int(p.inputVectorSize), int(p.outputVectorSize)
    arguments: dict[str, Argument] = {"x": layer.edge(), **_states(layer, "initial_h")}
    arguments |= {"weight_ih": Weight((3 * size, inputs)), "weight_hh": Weight((3 * size, size))}
    if p.hasBiasVectors:
        arguments["bias"] = Weight((3 * size,))
    arguments |= {"direction": "reverse" if p.reverseInput else "forward", "output_sequence": p.sequenceOutput}
    arguments |= {
        "recurrent_activation": _activation(p.activations, 0),
        "activation": _activation(p.activations, 1),
    }
    return Lowered("gru", arguments, lambda: _recurrent_shapes(layer, size, p.sequenceOutput))


def _lstm(layer: Layer, activations: Any, directions: int, direction: str, states: dict[str, Argument]) -> Lowered:
    p = layer.params
    inputs, size = int(p.inputVectorSize), int(p.outputVectorSize)
    arguments: dict[str, Argument] = {"x": layer.edge(), **states}
    for suffix in ("", "_back")[:directions]:
        arguments["weight_ih" + suffix] = Weight((4 * size, inputs))
        arguments["weight_hh" + suffix] = Weight((4 * size, size))
        if p.params.hasBiasVectors:
            arguments["bias" + suffix] = Weight((4 * size,))
        if p.params.hasPeepholeVectors:
            arguments["peephole" + suffix] = Weight((3 * size,))
    arguments |= {
        "direction": direction,
        "output_sequence": p.params.sequenceOutput,
        "recurrent_activation": _activation(activations, 0),
        "cell_activation": _activation(activations, 1),
        "activation": _activation(activations, 2),
        "clip": float(p.params.cellClipThreshold) or 50.0,
    }
    return Lowered("lstm", arguments, lambda: _recurrent_shapes(layer, size, p.params.sequenceOutput, directions))


def lstm(layer: Layer) -> Lowered:
    p = layer.params
    direction = "reverse" if p.reverseInput else "forward"
    return _lstm(layer, p.activations, 1, direction, _states(layer, "initial_h", "initial_c"))


def lstm_both_ways(layer: Layer) -> Lowered:
    """MIL has one initial state for both directions where the layer has two: the backward ones get their own names."""
    states = _states(layer, "initial_h", "initial_c", "initial_h_back", "initial_c_back")
    return _lstm(layer, layer.params.activationsForwardLSTM, 2, "bidirectional", states)


LOWERINGS: dict[str, Callable[[Layer], Lowered]] = {
    "innerProduct": inner_product,
    "batchedMatmul": batched_matmul,
    "embedding": embedding,
    "embeddingND": embedding_nd,
    "simpleRecurrent": simple_recurrent,
    "gru": gru,
    "uniDirectionalLSTM": lstm,
    "biDirectionalLSTM": lstm_both_ways,
}

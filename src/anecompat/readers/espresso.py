"""A compiled neural network: ``model.espresso.net`` with its shapes in ``model.espresso.shape``.

Both are JSON; the network may be compressed ("pbze": blocks of LZFSE, as Apple's own networks are). Its layers name
their inputs (``bottom``) and outputs (``top``); the shape file holds the shape of every blob as n, k (channels), h, w,
seq and ``_rank``. Weights are never read.
"""

from __future__ import annotations

import importlib
import json
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from anecompat.errors import ReadError
from anecompat.ir import Block, Constant, Function, HostWork, Operation, TensorType, Value
from anecompat.readers.espresso_layers import Argument, Dims, Layer, Lowered, Unfamiliar, lower, unfamiliar
from anecompat.readers.neural_network.layers import FLOAT, Weight, constant

MOST_JSON = 64 << 20  # bytes of a network's JSON, inflated; the largest seen holds less than 1 MB
MOST_WARNINGS = 20
MOST_LAYERS = 200_000

# Some of Apple's networks hold numbers that JSON does not know (freedomtan/coreml_to_ane_hwx, espresso/parse_net.py).
_NOT_JSON = re.compile(r'("(?:[^"\\]|\\.)*+")|(-?+)\b(inf|nan)\b')


@dataclass(frozen=True, slots=True)
class Network:
    """A network as read: its function, the work done outside it, and sentences about what could not be told."""

    function: Function
    host_work: tuple[HostWork, ...]
    warnings: tuple[str, ...]


def read_network(
    net: bytes,
    shape: bytes | None,
    *,
    inputs: tuple[str, ...] = (),
    outputs: tuple[str, ...] = (),
    place: str = "model.espresso.net",
) -> Network:
    """The network of the two files' bytes. ``inputs`` and ``outputs`` are those the model describes, where it does.

    ReadError: not JSON, compressed without the extra that inflates it, no layers, layers that form a circle. Without
    the shape file every shape is unknown, with a warning.
    """
    document = _document(net, place)
    layers = document.get("layers")
    if not isinstance(layers, list):
        raise ReadError("the network has no list of layers; it is damaged or no network of Core ML", place=place)
    if len(layers) > MOST_LAYERS:
        raise ReadError(f"the network has {len(layers):,} layers, more than the {MOST_LAYERS:,} read", place=place)
    building = _Building(place, _shapes(shape, place), tuple(_layer(each, at, place) for at, each in enumerate(layers)))
    if shape is None:
        building.warn("model.espresso.shape is not beside the network: no shape is known.")
    function = building.function(inputs, outputs)
    return Network(function, tuple(_host_work(document)), building.told())


def _document(data: bytes, place: str) -> dict[str, Any]:
    if data[:3] == b"pbz":
        data = _inflated(data, place)
    found = parse_json(data, place)
    if not isinstance(found, dict):
        raise ReadError("an object was expected in this JSON; it is damaged or no network of Core ML", place=place)
    return found


def parse_json(data: bytes, place: str) -> object:
    """JSON as Core ML's compiler writes it; ReadError with line and column where it is none."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ReadError(f"this is no text (byte {error.start}); the file is damaged", place=place) from None
    try:
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            return json.loads(_NOT_JSON.sub(_number, text))
    except json.JSONDecodeError as error:
        where = f"{place}:{error.lineno}:{error.colno}"
        raise ReadError(f"this is not JSON: {error.msg}; the file is damaged", place=where) from None
    except (RecursionError, ValueError):
        raise ReadError("this JSON is nested too deep or holds a number beyond reason", place=place) from None


def _number(match: re.Match[str]) -> str:
    return match[1] or ("NaN" if match[3] == "nan" else f"{match[2]}Infinity")


def _inflated(data: bytes, place: str) -> bytes:
    """The blocks of Apple's "pbz" container: its magic, the block size, then each block's two sizes and bytes."""
    method = data[3:4]
    if method not in b"ez-" or len(method) != 1:
        raise ReadError(f"the network is compressed in an unknown way ({data[:4]!r})", place=place)
    parts: list[bytes] = []
    total, at = 0, 12
    while at < len(data) or not parts:
        if len(data) - at < 16:
            raise ReadError("the compressed network ends in the middle; copy it again", place=place)
        size, packed = struct.unpack_from(">QQ", data, at)
        at += 16
        total += size
        if total > MOST_JSON:
            raise ReadError(f"the network inflates to more than {MOST_JSON >> 20} MB; it is not read", place=place)
        if packed > len(data) - at:
            raise ReadError("the compressed network ends in the middle; copy it again", place=place)
        block = data[at : at + packed]
        parts.append(block if packed == size or method == b"-" else _block(block, size, method, place))
        at += packed
    return b"".join(parts)


def _block(block: bytes, size: int, method: bytes, place: str) -> bytes:
    if method == b"z":
        try:
            inflated = zlib.decompressobj().decompress(block, size)
        except zlib.error:
            inflated = b""
    else:
        try:
            liblzfse = importlib.import_module("liblzfse")
        except ImportError:
            raise ReadError(
                "the network is compressed with LZFSE; install the extra that reads it: pip install 'anecompat[lzfse]'",
                place=place,
            ) from None
        try:
            inflated = liblzfse.decompress(block) if _lzfse_size(block) == size else b""
        except liblzfse.error:
            inflated = b""
    if len(inflated) != size:
        raise ReadError("the compressed network is damaged; copy it again", place=place)
    return inflated


def _lzfse_size(block: bytes) -> int | None:
    """The bytes that LZFSE data inflates to, as its own blocks say, or None: the library would make what they say, and
    a few bytes can say gigabytes. Layouts: lzfse_internal.h of github.com/lzfse/lzfse."""
    total, at = 0, 0
    while block[at : at + 4] != b"bvx$":
        head = block[at : at + 32]
        if len(head) < 12 or total > MOST_JSON:
            return None
        magic, raw, payload = struct.unpack_from("<4sII", head)
        if magic == b"bvx-":
            at += 8 + raw
        elif magic == b"bvxn":
            at += 12 + payload
        elif magic == b"bvx2" and len(head) == 32:
            literals, matches, size = struct.unpack_from("<QQQ", head, 8)
            at += max(32, size & 0xFFFFFFFF) + (literals >> 20 & 0xFFFFF) + (matches >> 40 & 0xFFFFF)
        else:
            return None
        total += raw
    return total


def _layer(found: object, index: int, place: str) -> Mapping[str, Any]:
    if not isinstance(found, dict) or not all(isinstance(found.get(key, ""), str) for key in ("type", "bottom", "top")):
        raise ReadError(f"layer {index} is no object with a type, a bottom and a top; the file is damaged", place=place)
    return found


def _shapes(data: bytes | None, place: str) -> Mapping[str, Mapping[str, Any]]:
    if data is None:
        return {}
    beside = place.removesuffix(".net") + ".shape"
    document = parse_json(data, beside)
    shapes = document.get("layer_shapes") if isinstance(document, dict) else None
    if not isinstance(shapes, dict):
        raise ReadError("there are no layer_shapes in it; the file is damaged", place=beside)
    return {name: shape for name, shape in shapes.items() if isinstance(shape, dict)}


def _host_work(document: Mapping[str, Any]) -> Iterator[HostWork]:
    transforms = document.get("transform_params")
    for name, given in transforms.items() if isinstance(transforms, dict) else ():
        if isinstance(given, dict):
            red, green, blue = (given.get(f"bias_{color}", 0) for color in "rgb")
            detail = f"image '{name}': scale {given.get('scale', 1)}, bias red {red}, green {green}, blue {blue}"
            yield HostWork("image preprocessing", detail, partial=False)


def _names(field: object) -> list[str]:
    return [name.strip() for name in str(field or "").split(",") if name.strip()]


class _Building:
    """Makes a function of the layers, one after another."""

    def __init__(
        self, place: str, shapes: Mapping[str, Mapping[str, Any]], layers: tuple[Mapping[str, Any], ...]
    ) -> None:
        self.place = place
        self.layers = layers
        self.raw_shapes = shapes
        # Blobs of the old kind are (n, k, h, w), with a sequence beside; a rank of its own marks the kind of 2019.
        self.blob = all(shape.get("_rank", 4) == 4 for shape in shapes.values())
        self.values: dict[str, Value] = {}
        self.inputs: list[Value] = []
        self.warnings: list[str] = []
        self.untold = 0

    def warn(self, sentence: str) -> None:
        if len(self.warnings) < MOST_WARNINGS:
            self.warnings.append(sentence)
        else:
            self.untold += 1

    def told(self) -> tuple[str, ...]:
        more = (f"{self.untold} more layers have something that is not explained.",) if self.untold else ()
        return (*self.warnings, *more)

    def function(self, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Function:
        written = {top: None for layer in self.layers for top in _names(layer.get("top"))}
        for name in inputs:
            if name not in written and name not in self.values:
                self._enter(name)
        operations = [
            each for index, layer in enumerate(self.layers) for each in self._operations(layer, index, written)
        ]
        left = [self.values[name] for name in self._leaving(written, outputs)]
        return Function("main", "", Block(self.inputs, operations, left), layout="blob" if self.blob else "mil")

    def _leaving(self, written: Mapping[str, None], outputs: tuple[str, ...]) -> list[str]:
        marked = [
            top
            for layer in self.layers
            if isinstance(attributes := layer.get("attributes"), dict) and attributes.get("is_output")
            for top in _names(layer.get("top"))
        ]
        described = [name for name in outputs if name in self.values]
        read = {name for layer in self.layers for name in _names(layer.get("bottom"))}
        return list(dict.fromkeys([*marked, *described])) or [name for name in written if name not in read]

    def _enter(self, name: str) -> Value:
        value = Value(name, self._type(name))
        self.values[name] = value
        self.inputs.append(value)
        return value

    def _type(self, name: str) -> TensorType:
        return TensorType(FLOAT, self._shape(name))

    def _shape(self, name: str) -> Dims:
        """(N, C, H, W) of a blob, N being sequence or batch where one of them is 1; else the last axes of its rank."""
        raw = self.raw_shapes.get(name)
        if raw is None:
            return None
        sequence, n, k, h, w = (_dimension(raw.get(axis, 1)) for axis in ("seq", "n", "k", "h", "w"))
        if self.blob:
            return (n if sequence == 1 else sequence if n == 1 else None, k, h, w)
        rank = raw.get("_rank", 4)
        if not isinstance(rank, int) or not 0 <= rank <= 5:
            return None
        return (sequence, n, k, h, w)[5 - rank :]

    def _operations(self, fields: Mapping[str, Any], index: int, written: Mapping[str, None]) -> Iterator[Operation]:
        tops = _names(fields.get("top"))
        bottoms = [self._read(name, fields, index, written) for name in _names(fields.get("bottom"))]
        if fields.get("type") == "load_constant":
            for top in tops:
                type = self._type(top)
                self.values[top] = Value(top, type, const=Constant(type))
            return
        layer = Layer(fields, tuple(bottoms), tuple(self._shape(top) for top in tops), self.blob)
        name = str(fields.get("name") or (tops[0] if tops else f"layer {index}"))
        try:
            lowered = lower(layer)
        except Unfamiliar as why:
            self.warn(f"layer {index} '{name}' ({layer.kind}) is not understood: {why}. It is judged as unknown.")
            lowered = unfamiliar(layer)
        yield from self._chain(lowered, name, tops)

    def _read(self, name: str, fields: Mapping[str, Any], index: int, written: Mapping[str, None]) -> Value:
        value = self.values.get(name)
        if value is not None:
            return value
        if name in written and name not in _names(fields.get("top")):
            raise ReadError(
                f"layer {index} reads '{name}', which only a later layer writes; the network is damaged",
                place=self.place,
            )
        return self._enter(name)

    def _chain(self, lowered: Lowered, name: str, tops: list[str]) -> Iterator[Operation]:
        """The operation and what the layer has fused behind it, which the compiler took from layers of their own."""
        steps = [(lowered.type, lowered.arguments, lowered.layer)]
        steps += [(kind, {}, "batchnorm" if kind == "batch_norm" else "activation") for kind in lowered.fused]
        before: Value | None = None
        for step, (kind, arguments, layer) in enumerate(steps):
            last = step == len(steps) - 1
            names = tops if last else [f"{name}_before_{steps[step + 1][0]}"]
            outputs = [Value(top, self._type(top if last else tops[0] if tops else "")) for top in names]
            if before is not None:
                arguments = {"x": before} | (_normalization(before) if kind == "batch_norm" else {})
            inputs = {argument: _bound(f"{name}_{argument}", given) for argument, given in arguments.items()}
            yield Operation(kind, inputs, outputs, name=name, layer=layer)
            before = outputs[0] if outputs else None
            if last:
                self.values.update(zip(names, outputs, strict=True))


def _normalization(x: Value) -> dict[str, Argument]:
    shape = x.tensor.shape
    channels = Weight((shape[-3] if shape is not None and len(shape) >= 3 else None,))
    return {"mean": channels, "variance": channels, "gamma": channels, "beta": channels, "epsilon": 1e-5}


def _bound(name: str, argument: Argument) -> tuple[Value, ...]:
    if isinstance(argument, Value):
        return (argument,)
    if isinstance(argument, tuple) and argument and all(isinstance(each, Value) for each in argument):
        return tuple(each for each in argument if isinstance(each, Value))
    return (constant(name, argument),)  # type: ignore[arg-type]


def _dimension(found: object) -> int | None:
    return found if isinstance(found, int) and not isinstance(found, bool) and 0 < found < 2**31 else None

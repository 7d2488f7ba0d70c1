"""A measurement as data: portable, without user data and without paths, readable on any machine.

``schema_version`` is "major.minor". A minor step adds fields, which older readers skip; they refuse a major step.
The JSON Schema is published beside this file (``trace.schema.json``).
"""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from anecompat.errors import AnecompatError
from anecompat.findings import Status, worst

SCHEMA_VERSION = "1.0"


class TraceError(AnecompatError):
    """A file that should be a trace and is not."""


@dataclass(frozen=True, slots=True)
class TraceTensor:
    """A tensor of a model key. ``shape`` is [width, height, depth, channels, batch], None where the key has none."""

    name: str
    shape: tuple[int | None, ...] | None = None


@dataclass(frozen=True, slots=True)
class TraceSurface:
    """An IOSurface handed to the engine. ``name`` is None where nothing names it; sizes are elements and bytes."""

    name: str | None
    width: int
    height: int
    bytes_per_element: int
    bytes_per_row: int
    bytes: int
    planes: tuple[tuple[int, int, int], ...] = ()
    """(width, height, bytes per row) of each plane."""


@dataclass(frozen=True, slots=True)
class TraceSegment:
    """One evaluation on the Neural Engine.

    ``methods`` are the hooked methods that saw it, outermost first. ``thread`` counts threads in order of appearance.
    ``key`` is the model key as parsed; ``inputs`` and ``outputs`` come from the key or, where it is none, from the
    attributes of the loaded model (``names_from`` says which: "key", "attributes" or ""). ``operations`` are indexes of
    the operations that ran in it, None where they could not be matched.
    """

    sequence: int
    isegment: int | None
    key: dict[str, Any] | None
    inputs: tuple[TraceTensor, ...]
    outputs: tuple[TraceTensor, ...]
    names_from: str
    methods: tuple[str, ...]
    thread: int
    qos: int | None
    seconds: float
    succeeded: bool
    error: str = ""
    asynchronous: bool = False
    input_surfaces: tuple[TraceSurface, ...] = ()
    output_surfaces: tuple[TraceSurface, ...] = ()
    operations: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class TracePlacement:
    """What Core ML itself says of one operation. Devices are "ANE", "GPU" and "CPU".

    ``outputs`` names it; ``index`` is the operation's index in the model, None where it could not be matched.
    ``supported`` is None where Core ML says nothing (a ``const``). ``cost`` is its share of the whole (0 to 1).
    ``selected``, ``estimates`` (milliseconds) and ``messages`` are per backend, from the segmentation analytics.
    """

    outputs: tuple[str, ...]
    type: str
    function: str = ""
    stage: str = ""
    layer: str = ""
    index: int | None = None
    supported: tuple[str, ...] | None = None
    preferred: str | None = None
    cost: float | None = None
    selected: str | None = None
    estimates: dict[str, float] = field(default_factory=dict)
    messages: dict[str, tuple[str, ...]] = field(default_factory=dict)
    backends: tuple[str, ...] | None = None
    """The backends that the analytics call possible; None where there are none."""


@dataclass(frozen=True, slots=True)
class TraceFeature:
    """An input, output or state as the loaded model describes it; ``value`` says what it was given."""

    name: str
    kind: str
    shape: tuple[int, ...] | None = None
    dtype: str = ""
    optional: bool = False
    value: str = ""
    """"dummy", "given", "left out" or "" for outputs."""


@dataclass(frozen=True, slots=True)
class TraceControl:
    """The control model: known to prefer the engine, run in the same process to prove that the hook fires."""

    kind: str
    evaluations: int
    succeeded: bool
    error: str = ""

    @property
    def proves_hook(self) -> bool:
        return self.succeeded and self.evaluations > 0


@dataclass(frozen=True, slots=True)
class TraceHook:
    """A method of the hook table: "installed", "absent" or "refused" (its types are not the expected ones)."""

    method: str
    state: str
    found: str = ""


@dataclass(frozen=True, slots=True)
class TraceProvider:
    """Who was asked for placements ("compute plan", "analytics", "analytics cache", "coremltools") and how it went."""

    name: str
    answered: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class TraceRun:
    """One prediction: a function and a choice of shapes. ``reasons`` are the sentences behind the status."""

    function: str
    shapes: dict[str, tuple[int, ...]]
    status: int
    reasons: tuple[str, ...]
    inputs: tuple[TraceFeature, ...] = ()
    outputs: tuple[TraceFeature, ...] = ()
    states: tuple[TraceFeature, ...] = ()
    segments: tuple[TraceSegment, ...] = ()
    placements: tuple[TracePlacement, ...] = ()
    between: tuple[int, ...] | None = None
    """Indexes of the operations that no segment holds; None where segments and operations could not be matched."""
    control: TraceControl | None = None
    hooks: tuple[TraceHook, ...] = ()
    providers: tuple[TraceProvider, ...] = ()
    timings: dict[str, float] = field(default_factory=dict)
    """Seconds of each step of the child process: compile, load, inputs, predict..."""
    stages: dict[str, int] = field(default_factory=dict)
    """Status of each stage of a pipeline, where segments could be matched."""


@dataclass(frozen=True, slots=True)
class TraceModel:
    """Which model it was. ``digest`` covers every byte, ``structure`` the graph without weights."""

    format: str
    kind: str
    spec_version: int
    digest: str
    structure: str = ""


@dataclass(frozen=True, slots=True)
class TraceDevice:
    """Where it ran."""

    chip: str
    os: str
    os_build: str
    hardware: str = ""
    engine: str = ""


@dataclass(frozen=True, slots=True)
class Trace:
    """A whole measurement. Its status is the worst of its runs."""

    schema_version: str
    anecompat: str
    device: TraceDevice
    compute_units: str
    model: TraceModel
    runs: tuple[TraceRun, ...]
    warnings: tuple[str, ...] = ()

    @property
    def status(self) -> Status:
        return worst([Status(run.status) for run in self.runs]) if self.runs else Status.OTHER_ERROR

    @property
    def placements(self) -> tuple[TracePlacement, ...]:
        return tuple(placement for run in self.runs for placement in run.placements)

    def ran_on_engine(self) -> dict[int, bool]:
        """For each operation that could be matched: whether an intercepted segment held it, in any run."""
        ran: dict[int, bool] = {}
        for run in self.runs:
            if run.between is None:
                continue
            for index in run.between:
                ran.setdefault(index, False)
            for segment in run.segments:
                for index in segment.operations or ():
                    ran[index] = True
        return ran

    def to_json(self, indent: int | None = 1) -> str:
        return json.dumps(asdict(self), indent=indent, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Trace:
        """A trace from its JSON. TraceError says what is wrong with it."""
        try:
            data = json.loads(text)
        except ValueError as error:
            raise TraceError(f"the trace is not JSON ({error}); copy the file again") from error
        if not isinstance(data, dict) or "schema_version" not in data or "runs" not in data:
            raise TraceError("the file is JSON, but no trace: schema_version or runs is missing")
        version = str(data["schema_version"])
        if version.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
            raise TraceError(
                f"the trace has schema version {version}, this anecompat reads {SCHEMA_VERSION}; update it"
            )
        trace: Trace = decode(cls, data, "trace")
        for number, run in enumerate(trace.runs):
            if run.status not in {int(status) for status in Status}:
                raise TraceError(f"trace.runs[{number}].status: {run.status} is no status")
        return trace

    def with_runs(self, runs: tuple[TraceRun, ...]) -> Trace:
        return replace(self, runs=runs)


def load_trace(path: str | Path) -> Trace:
    """Read a trace.json. TraceError where it cannot be read."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise TraceError(f"{path}: the trace cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise TraceError(f"{path}: the trace cannot be read: it is not text; a trace.json was expected") from error
    try:
        return Trace.from_json(text)
    except TraceError as error:
        raise TraceError(f"{path}: {error}") from error


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def decode(kind: Any, data: Any, place: str) -> Any:
    """Data of the declared type, or TraceError naming the place."""
    if kind is Any:
        return data
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if data is None and type(None) in arguments:
            return None
        return decode(next(choice for choice in arguments if choice is not type(None)), data, place)
    if is_dataclass(kind):
        return _decode_object(kind, data, place)
    if origin is tuple:
        return _decode_tuple(arguments, data, place)
    if origin is dict:
        _expect(isinstance(data, Mapping), place, "an object", data)
        return {str(name): decode(arguments[1], value, f"{place}.{name}") for name, value in data.items()}
    if kind is float:
        _expect(isinstance(data, int | float) and not isinstance(data, bool), place, "a number", data)
        return float(data)
    if kind is int:
        _expect(isinstance(data, int) and not isinstance(data, bool), place, "a whole number", data)
        return data
    _expect(isinstance(data, kind), place, {str: "a text", bool: "true or false"}.get(kind, str(kind)), data)
    return data


def _decode_tuple(arguments: tuple[Any, ...], data: Any, place: str) -> tuple[Any, ...]:
    _expect(isinstance(data, list), place, "a list", data)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(decode(arguments[0], item, f"{place}[{number}]") for number, item in enumerate(data))
    _expect(len(data) == len(arguments), place, f"{len(arguments)} items", data)
    return tuple(decode(kind, item, place) for kind, item in zip(arguments, data, strict=True))


def _decode_object(kind: Any, data: Any, place: str) -> Any:
    _expect(isinstance(data, Mapping), place, "an object", data)
    hints = _hints(kind)
    given = {}
    for name in (entry.name for entry in fields(kind)):
        if name in data:
            given[name] = decode(hints[name], data[name], f"{place}.{name}")
    try:
        return kind(**given)
    except TypeError as error:
        missing = str(error).rsplit(":", 1)[-1].strip()
        raise TraceError(f"{place}: {missing} is missing") from error


def _expect(holds: bool, place: str, expected: str, found: Any) -> None:
    if not holds:
        shown = json.dumps(found)[:60]
        raise TraceError(f"{place}: expected {expected}, found {shown}")

"""Core ML's own notes: the ``analytics.mil`` it leaves in its compile cache.

It is MIL text in which every operation carries what Core ML's segmenter knew of it: which backends support it, what it
expects the operation to cost on each, which one it chose, and why a backend refused. The function carries the prices of
entering a backend and of changing from one to another.

Syntax and names: 939 such files of an M4 with macOS 27 (751K/Apple-Neural-Engine-Microarchitecture-Study-M6,
data/03_compile/opdispatch/ana), where support is a list of names with "unsupported" in the place of the others, the
times are ``EstimatedRuntime`` and the reasons ``ValidationMessage``. The same notes as Core ML's private API gives them
on macOS 14 (freedomtan/coreml_modelc_profling) are spelled ``EstimatedRunTime``, ``ValidationMessages`` and have 0 or 1
for each backend; both spellings are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from anecompat.errors import ReadError
from anecompat.ir import Model
from anecompat.readers.mil_text import model_of, parse_program

# What Core ML itself adds at the borders of the model: it has notes, but no operation of the model stands behind it.
BORDER_OPERATIONS = frozenset({"tensor_buffer_to_tensor", "tensor_to_tensor_buffer"})

_HEAD = re.compile(r"\b(?:BackendSupport|SelectedBackend|EstimatedRun[Tt]ime|Launch_\w+?_ms)\s*=")
_LAUNCH = re.compile(r"Launch_(\w+)_ms")
_SWITCH = re.compile(r"Src_(\w+)_Dest_(\w+)_ms")


@dataclass(frozen=True, slots=True)
class BackendNote:
    """What Core ML noted about one operation. Backends are named as it names them: "ane", "bnns", "classic_cpu"...

    ``supported`` lists the backends that could run it, ``estimates`` Core ML's guess in milliseconds for each (a guess,
    not a measurement), ``selected`` the one that will run it ("" where none is noted), ``messages`` why others refused.
    """

    supported: frozenset[str] = frozenset()
    estimates: Mapping[str, float] = field(default_factory=dict)
    selected: str = ""
    messages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Analytics:
    """An ``analytics.mil`` as read: the model, a note for each operation index, and the segmenter's prices in ms.

    ``launches`` is the price of entering a backend, ``switches`` that of going from one to another. Both are those of
    the first function that has any.
    """

    model: Model
    notes: Mapping[int, BackendNote]
    launches: Mapping[str, float]
    switches: Mapping[tuple[str, str], float]


def is_analytics(text: str) -> bool:
    """Whether MIL text, or the first kilobytes of it, is such a file and not a plain program."""
    return _HEAD.search(text) is not None


def read_analytics(text: str, path: str = "<text>") -> Analytics:
    """The notes in the text of an ``analytics.mil``. ReadError where it is no MIL, or holds no notes."""
    program = parse_program(text, path=path, keep_attributes=True)
    model = model_of(program, path)
    notes = {
        operation.index: note
        for operation, attributes in program.operation_attributes
        if (note := _note(attributes)) is not None and not operation.is_constexpr
    }
    if not notes:
        raise ReadError(
            "no operation carries Core ML's notes (BackendSupport, SelectedBackend); this is a plain program: check it "
            "as a model, or give the analytics.mil from Core ML's cache",
            place=path,
        )
    prices = next((each for each in program.function_attributes.values() if any(map(_LAUNCH.fullmatch, each))), {})
    return Analytics(
        model,
        notes,
        {match[1]: cost for match, cost in _priced(prices, _LAUNCH)},
        {(match[1], match[2]): cost for match, cost in _priced(prices, _SWITCH)},
    )


def _note(attributes: Mapping[str, object]) -> BackendNote | None:
    support = attributes.get("BackendSupport")
    estimates = attributes.get("EstimatedRuntime", attributes.get("EstimatedRunTime"))
    selected = attributes.get("SelectedBackend")
    messages = attributes.get("ValidationMessage", attributes.get("ValidationMessages"))
    if support is None and estimates is None and selected is None and messages is None:
        return None
    return BackendNote(
        frozenset(_supported(support)),
        dict(_numbers(estimates)),
        selected if isinstance(selected, str) else "",
        dict(_sentences(messages)),
    )


def _supported(support: object) -> Iterator[str]:
    if isinstance(support, list):
        yield from (str(name) for name in support if name != "unsupported")
    elif isinstance(support, dict):
        yield from (str(name) for name, able in support.items() if able)


def _numbers(estimates: object) -> Iterator[tuple[str, float]]:
    for name, cost in estimates.items() if isinstance(estimates, dict) else ():
        if isinstance(cost, int | float):
            yield str(name), float(cost)


def _sentences(messages: object) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, said in messages.items() if isinstance(messages, dict) else ():
        yield str(name), tuple(map(str, said)) if isinstance(said, list) else (str(said),)


def _priced(attributes: Mapping[str, object], pattern: re.Pattern[str]) -> Iterator[tuple[re.Match[str], float]]:
    for name, cost in attributes.items():
        match = pattern.fullmatch(name)
        if match and isinstance(cost, int | float):
            yield match, float(cost)

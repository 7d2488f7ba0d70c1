"""What is said about a model: reasons, findings, placements, segments, verdicts. Plain data, no judgement here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum, StrEnum


class Status(IntEnum):
    """How a model fares, as a number that scripts use as exit status (0 to 7 are ANECompat's own)."""

    FULL = 0
    PARTIAL = 1
    NONE = 2
    READ_ERROR = 3
    COMPILE_ERROR = 4
    INPUT_ERROR = 5
    PREDICTION_ERROR = 6
    OTHER_ERROR = 7
    CANNOT_TELL = 8

    @property
    def text(self) -> str:
        return _STATUS_TEXT[self]

    def __str__(self) -> str:
        return f"{self.text} ({int(self)})"


_STATUS_TEXT = {
    Status.FULL: "Fully compatible",
    Status.PARTIAL: "Partial compatibility",
    Status.NONE: "Not compatible",
    Status.READ_ERROR: "Read error",
    Status.COMPILE_ERROR: "Compile error",
    Status.INPUT_ERROR: "Input error",
    Status.PREDICTION_ERROR: "Prediction error",
    Status.OTHER_ERROR: "Other error",
    Status.CANNOT_TELL: "Cannot tell",
}

# Worst first: how the statuses of several targets, functions or stages become one.
_SEVERITY = (
    Status.OTHER_ERROR,
    Status.PREDICTION_ERROR,
    Status.INPUT_ERROR,
    Status.COMPILE_ERROR,
    Status.READ_ERROR,
    Status.NONE,
    Status.CANNOT_TELL,
    Status.PARTIAL,
    Status.FULL,
)


def worst(statuses: list[Status]) -> Status:
    """The worst of several statuses, in the order 7 6 5 4 3 2 8 1 0."""
    return min(statuses, key=_SEVERITY.index)


class Certainty(StrEnum):
    """How a fact is known. Stronger first: Core ML answered; Apple wrote it; somebody reported it; we concluded."""

    MEASURED = "measured"
    DOCUMENTED = "documented"
    REPORTED = "reported"
    INFERRED = "inferred"

    @property
    def rank(self) -> int:
        return list(Certainty).index(self)


class Effect(Enum):
    """What a reason does to the verdict."""

    REFUSED = "refused"  # the operation is not eligible
    UNKNOWN = "unknown"  # nobody knows whether it is
    BLOCKS = "blocks"  # a known failure of the whole segment or plan: forbids status 0
    RISK = "risk"  # may go wrong at run time, depending on values; changes no status
    NOTE = "note"  # worth knowing; changes nothing


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a rule speaks of one operation. ``message`` carries the offending value but never the operation's name,
    so that reasons of equal operations are equal and group into one finding."""

    message: str
    certainty: Certainty
    sources: tuple[str, ...]
    effect: Effect = Effect.REFUSED
    core_ml_code: int | None = None
    core_ml_text: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class CoreMLWords:
    """What Core ML is known to say of the followers of a cause, where it differs from what it says of the cause."""

    code: int | None
    text: str
    operations: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """One cause and every operation it concerns (indexes; empty for the model as a whole).

    ``gain`` tells what removing this cause alone would give; None where nobody counted.
    """

    rule: str
    name: str
    message: str
    effect: Effect
    operations: tuple[int, ...]
    certainty: Certainty
    sources: tuple[str, ...]
    fix: str | None
    core_ml_code: int | None = None
    core_ml_text: str = ""
    gain: Gain | None = None
    root: int | None = None
    also: tuple[CoreMLWords, ...] = ()


@dataclass(frozen=True, slots=True)
class Gain:
    """What removing one cause alone would give, by the same prediction run again without it."""

    operations: int
    segments_saved: int
    milliseconds: float | None
    status: Status


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of operations on one device with its model key: names to [width, height, depth, channels, batch]."""

    isegment: int
    device: str
    inputs: Mapping[str, tuple[int | None, ...]]
    outputs: Mapping[str, tuple[int | None, ...]]
    operations: tuple[int, ...]
    inferred_key: bool
    stage: str = ""
    function: str = ""
    ended_by: tuple[int, ...] = ()

    def key(self) -> dict[str, object]:
        """The model key as the private framework writes it, ready for ``json.dumps``."""
        return {
            "isegment": self.isegment,
            "inputs": {name: {"shape": list(shape)} for name, shape in self.inputs.items()},
            "outputs": {name: {"shape": list(shape)} for name, shape in self.outputs.items()},
        }


@dataclass(frozen=True, slots=True)
class Forecast:
    """Where Core ML's segmenter is expected to put operations, and by what margin; estimates are Core ML's own kind,
    not measured times. ``placed`` follows the operations' indexes; None means the tables cannot tell."""

    placed: tuple[str | None, ...]
    alternatives: Mapping[int, tuple[str, ...]]
    basis: str
    chosen_ms: float | None = None
    cpu_ms: float | None = None
    engine_ms: float | None = None
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class Latency:
    """A forecast of one prediction's time in milliseconds, from ``low`` to ``high``. Never measured."""

    low: float
    high: float
    basis: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer for one engine generation and system, shared by every chip that has them.

    ``eligible`` follows the operations' indexes: True, False, or None for "cannot tell".
    """

    status: Status
    eligible: tuple[bool | None, ...]
    findings: tuple[Finding, ...]
    segments: tuple[Segment, ...]
    forecast: Forecast | None
    parts: tuple[tuple[str, str, Status], ...] = ()
    certainty: Certainty = Certainty.INFERRED
    latency: Latency | None = None
    by_operation: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    @property
    def share(self) -> tuple[int, int]:
        """Eligible operations, and all of them."""
        return sum(1 for answer in self.eligible if answer), len(self.eligible)

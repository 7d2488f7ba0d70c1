"""The whole way in one call: read, lay out, judge, place, segment, explain."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anecompat.costs import CostTable, Estimate, estimate, other_estimate, table_for
from anecompat.errors import AnecompatError, ReadError, UsageError
from anecompat.explain import gains
from anecompat.findings import Effect, Finding, Forecast, Status, Verdict, worst
from anecompat.ir import Model
from anecompat.judge import judge
from anecompat.latency import latency
from anecompat.outline import Outline, Part, outline
from anecompat.place import forecast
from anecompat.readers import read
from anecompat.resolve import enumerated, resolved
from anecompat.segment import segments
from anecompat.targets import REFERENCE, Target, default_targets, parse_targets

_DECISIVE = (Effect.REFUSED, Effect.UNKNOWN, Effect.BLOCKS)

# Explaining what each fix would win means predicting once more a cause: done where few verdicts are asked for.
_EXPLAIN_UP_TO = 4


@dataclass(frozen=True, slots=True)
class Seen:
    """Where a measurement was made, in its own words."""

    chip: str
    engine: str
    system: str

    def __str__(self) -> str:
        return f"{self.chip}, {self.system}"


# Source of both: erwinzhang7/coreml-compute-placement, DistilBERT and ResNet-50 at batch 16, compute units ALL.
_LARGE_GPU = (
    "With the GPU allowed (compute units all), Core ML gave an M5 Max's GPU the whole of two published models that its "
    "engine could have run nearly whole: measure both before you rewrite for the engine."
)
_MIDDLE_GPU = (
    "With the GPU allowed (compute units all), Core ML gave an M4 Pro's GPU a third of a published transformer and a "
    "few additions of a convolutional network that its engine could have run."
)


@dataclass(frozen=True, slots=True)
class TargetReport:
    """The answer for one chip and system. Chips of the same engine and system share one verdict."""

    target: Target | Seen
    verdict: Verdict

    @property
    def chip(self) -> str:
        return self.target.chip if isinstance(self.target, Seen) else self.target.chip.name

    @property
    def system(self) -> str:
        return str(self.target.system)

    @property
    def advice(self) -> tuple[str, ...]:
        """Whether the engine is the right place at all, where published measurements speak of such a chip."""
        if isinstance(self.target, Seen) or not any(self.verdict.eligible):
            return ()
        if self.target.chip.name.endswith(("Max", "Ultra")):
            return (_LARGE_GPU,)
        return (_MIDDLE_GPU,) if self.target.chip.name.endswith("Pro") and self.target.chip.name[0] == "M" else ()

    @property
    def status(self) -> Status:
        return self.verdict.status


@dataclass(frozen=True, slots=True)
class Report:
    """What is known of one model. ``error`` stands instead of targets where there is no answer.

    ``asked`` says whether the targets were named by the user; without that, ``status`` speaks for the reference target
    alone. ``basis`` is "predicted" or "measured".
    """

    path: str
    model: Model | None
    outline: Outline | None
    targets: tuple[TargetReport, ...]
    asked: bool
    error: AnecompatError | None = None
    basis: str = "predicted"
    compute_units: str = "cpu-and-ne"

    @property
    def spoken_for(self) -> tuple[TargetReport, ...]:
        """The targets that the closing line and the exit status speak for."""
        if self.asked:
            return self.targets
        return tuple(entry for entry in self.targets if entry.target == REFERENCE) or self.targets

    @property
    def status(self) -> Status:
        """The status the closing line names: the worst of the targets asked for, or the reference target's."""
        if self.error is not None:
            return Status(self.error.status)
        return worst([entry.status for entry in self.spoken_for])

    def to_dict(self) -> dict[str, Any]:
        """The report as the published JSON Schema describes it."""
        from anecompat.report.json_report import to_dict

        return to_dict(self)

    def to_json(self, *, indent: int | None = None) -> str:
        """The report as JSON text, without a line break at its end."""
        from anecompat.report.json_report import to_json

        return to_json(self, indent=indent)

    def to_text(self, *, width: int = 100, color: bool = False) -> str:
        """The report as the terminal shows it."""
        from anecompat.report.text_report import to_text

        return to_text(self, width=width, color=color)


def check(
    model: str | Path | Model | Any,
    targets: Iterable[str] | str | None = None,
    *,
    function: str | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    verify_weights: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Predict, operation by operation, what of a Core ML model runs on the Neural Engine, where not, and why.

    ``model`` is a path or URL of a .mlpackage, .mlmodel, .mlmodelc, .mil or a zip of one, a model from
    ``anecompat.read``, or coremltools' ``MLModel``. ``targets`` takes chips and systems in the spellings of the command
    line (``["M1", "A17 Pro@ios18"]``); without it every chip is judged on its last system. ``function`` selects one of
    several functions; ``shapes`` fixes flexible inputs, ``{"image": (1, 3, 640, 640)}``.

    Returns a Report; nothing is printed. Raises ReadError where the file cannot be read as a Core ML model, UsageError
    for a chip or system nobody knows. Example::

        report = anecompat.check("model.mlpackage", targets=["M1", "A17 Pro"])
        for entry in report.targets:
            print(entry.target, entry.status)
            for finding in entry.verdict.findings:
                print(" ", finding.message)
    """
    wanted = None if targets is None else _parsed([targets] if isinstance(targets, str) else list(targets))
    loaded = load(model, function=function, shapes=shapes, verify_weights=verify_weights)
    return check_model(loaded, wanted, progress=progress)


def _parsed(texts: Sequence[Any]) -> tuple[Target, ...]:
    for text in texts:
        if not isinstance(text, str):
            raise UsageError(f"a target is a text like 'M1' or 'A17 Pro@ios18', not {type(text).__name__}")
    if not texts:
        raise UsageError("no target was given; name one, like 'M1', or leave targets out for every chip")
    return parse_targets(texts)


def load(
    model: Any,
    *,
    function: str | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    verify_weights: bool = False,
) -> Model:
    """A model from whatever a caller holds: see ``check``."""
    if isinstance(model, Model):
        if function is not None or shapes or verify_weights:
            raise UsageError(
                "this model is read already; give function, shapes and verify_weights to anecompat.read, or give "
                "anecompat.check the path"
            )
        return model
    pinned = None if shapes is None else {name: tuple(int(dim) for dim in shape) for name, shape in shapes.items()}
    if isinstance(model, (str, Path)):
        return read(str(model), function=function, shapes=pinned, verify_weights=verify_weights)
    package = getattr(model, "package_path", None)
    if isinstance(package, str) and Path(package).exists():
        return read(package, function=function, shapes=pinned, verify_weights=verify_weights)
    if hasattr(model, "get_spec"):
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.mlmodel"
            path.write_bytes(model.get_spec().SerializeToString())
            return read(str(path), function=function, shapes=pinned)
    raise ReadError(f"a path, a Model or a coremltools MLModel was expected, not {type(model).__name__}")


def check_model(
    model: Model, targets: Sequence[Target] | None = None, *, progress: Callable[[str], None] | None = None
) -> Report:
    """As ``check``, for a model already read and targets already parsed."""
    wanted = tuple(default_targets() if targets is None else targets)
    others = [(words, _at_shapes(model, shapes)) for words, shapes in enumerated(model)]
    model = resolved(model)
    laid_out = outline(model)
    distinct = {(target.engine, target.system.release): target for target in wanted}
    explain = len(distinct) <= _EXPLAIN_UP_TO
    known_estimates: dict[int, list[Estimate]] = {}
    known_places: dict[object, tuple[Forecast, ...]] = {}
    verdicts: dict[object, Verdict] = {}
    reference = (REFERENCE.engine, REFERENCE.system.release)
    for key, target in distinct.items():
        if progress is not None:
            progress(str(target))
        verdict = _verdict(laid_out, target, known_estimates, known_places, explain or key == reference)
        verdicts[key] = _with_other_shapes(verdict, others, target)
    entries = tuple(TargetReport(t, verdicts[t.engine, t.system.release]) for t in wanted)
    return Report(model.path, model, laid_out, entries, asked=targets is not None)


def _at_shapes(model: Model, shapes: dict[str, tuple[int, ...]]) -> Outline | None:
    """The model laid out at other listed shapes. Old networks get their shapes while they are read, so their file is
    read once more; None where that cannot be: compiled networks, models from an address, files that are gone."""
    if not any(leaf.kind.startswith("neuralNetwork") for _, leaf in model.walk_stages()):
        return outline(resolved(model, shapes))
    if "://" in model.path:
        return None
    fixed = {each.name: each.shape for each in model.inputs if each.shape and not each.is_flexible}
    try:
        return outline(resolved(read(model.path, shapes=fixed | shapes), shapes))
    except AnecompatError:
        return None


def _with_other_shapes(verdict: Verdict, others: Sequence[tuple[str, Outline | None]], target: Target) -> Verdict:
    """The worst over all listed shapes; what is told in full is the default one."""
    if not others:
        return verdict
    parts = [(stage, f"{function} (default shape)", status) for stage, function, status in verdict.parts]
    statuses = [verdict.status]
    told = {(finding.rule, finding.message) for finding in verdict.findings}
    causes: dict[tuple[str, str], tuple[Finding, list[str]]] = {}
    for words, laid_out in others:
        if laid_out is None:
            statuses.append(Status.CANNOT_TELL)
            continue
        judgement = judge(laid_out, target)
        statuses.append(judgement.status)
        if judgement.status is not verdict.status:
            for finding in judgement.findings:
                said = (finding.rule, finding.message)
                if finding.effect in _DECISIVE and said not in told:
                    where = causes.setdefault(said, (finding, []))[1]
                    if words not in where:
                        where.append(words)
        parts.extend((stage, f"{function} ({words})", status) for stage, function, status in judgement.parts)
    unread = any(laid_out is None for _, laid_out in others)
    known = (_unread(finding) if unread else finding for finding in verdict.findings)
    elsewhere = (_at(finding, shapes) for finding, shapes in causes.values())
    return replace(verdict, status=worst(statuses), parts=tuple(parts), findings=(*known, *elsewhere))


def _unread(finding: Finding) -> Finding:
    """That a model takes several shapes is more than a risk where only the default one could be judged."""
    if finding.rule != "ANE903":
        return finding
    message = f"{finding.message}; judged at the default one only, for others give the .mlmodel and --shape"
    return replace(finding, message=message, effect=Effect.UNKNOWN)


def _at(finding: Finding, shapes: Sequence[str]) -> Finding:
    """A cause that another listed shape has and the default one has not: it names the shape, and no operations, because
    operations are told at the default shape."""
    where = shapes[0] if len(shapes) == 1 else f"{shapes[0]} and {len(shapes) - 1} more of the listed shapes"
    return replace(finding, message=f"at {where}: {finding.message}", effect=Effect.BLOCKS, operations=(), root=None,
                   also=())  # fmt: skip


def _verdict(
    laid_out: Outline,
    target: Target,
    estimates: dict[int, list[Estimate]],
    places: dict[object, tuple[Forecast, ...]],
    explain: bool,
) -> Verdict:
    judgement = judge(laid_out, target)
    table, error = table_for(target.engine, target.system.release[0])
    if not estimates:
        for number, part in enumerate(laid_out.parts):
            if not part.legacy:
                estimates[number] = [estimate(laid_out.operations[index], table) for index in part.indexes]
    key = (judgement.eligible, error)
    forecasts = places.get(key)
    if forecasts is None:
        forecasts = tuple(
            forecast(
                estimates[number],
                [judgement.eligible[i] for i in part.indexes],
                table,
                error,
                _second_estimates(laid_out, part, table),
            )
            if number in estimates
            else Forecast((None,) * len(part.indexes), {}, "", sentence=_LEGACY)
            for number, part in enumerate(laid_out.parts)
        )
        places[key] = forecasts
    joined = _joined(laid_out, forecasts)
    findings = judgement.findings
    if explain and laid_out.parts:
        won = gains(laid_out, judgement.eligible, findings, estimates, table, judgement.blocked)
        findings = tuple(
            replace(finding, gain=won[position]) if position in won else finding
            for position, finding in enumerate(findings)
        )
    by_operation: dict[int, list[str]] = {}
    for finding in findings:
        for index in finding.operations:
            rules = by_operation.setdefault(index, [])
            if finding.rule not in rules:
                rules.append(finding.rule)
    return Verdict(
        status=judgement.status,
        eligible=judgement.eligible,
        findings=findings,
        segments=segments(laid_out, judgement.eligible),
        forecast=joined,
        parts=judgement.parts,
        certainty=judgement.certainty,
        latency=latency(laid_out, judgement.eligible, target),
        by_operation={index: tuple(rules) for index, rules in by_operation.items()},
    )


def _second_estimates(laid_out: Outline, part: Part, table: CostTable) -> dict[int, Estimate]:
    found = ((n, other_estimate(laid_out.operations[index], table)) for n, index in enumerate(part.indexes))
    return {position: other for position, other in found if other is not None}


_LEGACY = "Core ML places old neural networks by other rules; no published costs tell where."


def _joined(laid_out: Outline, forecasts: Sequence[Forecast]) -> Forecast | None:
    """One forecast for the whole report, by operation index."""
    if not forecasts:
        return None
    if len(forecasts) == 1:
        return forecasts[0]
    placed: list[str | None] = [None] * len(laid_out.operations)
    alternatives: dict[int, tuple[str, ...]] = {}
    for part, found in zip(laid_out.parts, forecasts, strict=True):
        for position, index in enumerate(part.indexes):
            placed[index] = found.placed[position]
            if position in found.alternatives:
                alternatives[index] = found.alternatives[position]
    sentences = [
        f"{part.stage or part.function.name}: {found.sentence}"
        for part, found in zip(laid_out.parts, forecasts, strict=True)
        if found.sentence
    ]
    basis = next((found.basis for found in forecasts if found.basis), "")
    return Forecast(tuple(placed), alternatives, basis, sentence=" ".join(sentences))

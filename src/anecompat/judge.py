"""Rules times operations times target: what is eligible for the Neural Engine, what is not and why, what nobody knows.

Eligibility only: whether Core ML would list the engine among an operation's supported devices. What it then chooses is
``place``'s question.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from anecompat.findings import Certainty, CoreMLWords, Effect, Finding, Reason, Status, worst
from anecompat.ir import Model, Operation, TensorType, Unknown, Value
from anecompat.outline import Outline, Part
from anecompat.rules.operations import is_constant_only
from anecompat.rules.program import program_reasons
from anecompat.rules.registry import Rule, apply, find, rules_for
from anecompat.rules.scope import Scope
from anecompat.targets import Target

Reasons = tuple[tuple[Rule, Reason], ...]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is eligible on one target, with findings. ``parts`` lists (stage, function, status); ``blocked`` the
    positions of the parts that a known failure keeps from being fully compatible."""

    status: Status
    eligible: tuple[bool | None, ...]
    findings: tuple[Finding, ...]
    parts: tuple[tuple[str, str, Status], ...]
    certainty: Certainty
    blocked: frozenset[int]


def judge(outline: Outline, target: Target) -> Judgement:
    """Judge every operation of a model for one target. Equal operations are judged once."""
    scopes = {legacy: Scope.of(target, legacy=legacy) for legacy in (False, True)}
    by_class = [reasons_for(operation, scopes[legacy]) for operation, legacy in outline.examples]
    answers = [answer(reasons) for reasons in by_class]
    eligible: list[bool | None] = [answers[kind] for kind in outline.kinds]
    _fold(outline, eligible, {kind for kind, said in enumerate(by_class) if any(r.id == "ANE110" for r, _ in said)})
    grouped: dict[tuple[str, Reason], list[int]] = defaultdict(list)
    rules: dict[str, Rule] = {}
    for index, kind in enumerate(outline.kinds):
        for rule, reason in by_class[kind]:
            rules[rule.id] = rule
            grouped[rule.id, reason].append(index)
    for part in outline.parts:
        _spread_from_owners(part, eligible, grouped, rules)
    blocked: set[int] = set()
    for number, part in enumerate(outline.parts):
        for rule_id, reason, operations in program_reasons(part, scopes[part.legacy], eligible):
            rules[rule_id] = _rule(rule_id)
            grouped[rule_id, reason].extend(operations)
            if reason.effect is Effect.UNKNOWN:
                for index in operations:
                    eligible[index] = None if eligible[index] else eligible[index]
            if reason.effect is Effect.BLOCKS:
                blocked.add(number)
    findings = list(_findings(outline, grouped, rules))
    status, statuses = whole_status(outline, eligible, blocked)
    findings.extend(_host_findings(outline.model))
    return Judgement(
        status=status,
        eligible=tuple(eligible),
        findings=tuple(findings),
        parts=tuple((p.stage, p.function.name, each) for p, each in zip(outline.parts, statuses, strict=True)),
        certainty=_certainty(outline, scopes, answers),
        blocked=frozenset(blocked),
    )


def whole_status(
    outline: Outline, eligible: Sequence[bool | None], blocked: Collection[int]
) -> tuple[Status, list[Status]]:
    """The status of the whole and of each part; ``blocked`` as in ``Judgement``."""
    statuses: list[Status] = []
    runs = True
    for number, part in enumerate(outline.parts):
        answers = [eligible[index] for index in part.indexes]
        statuses.append(part_status(answers, blocks=number in blocked))
        if statuses[-1] is Status.CANNOT_TELL:
            runs = runs and True in answers and number not in blocked
    return overall(statuses, outline.model, runs=runs), statuses


def _fold(outline: Outline, eligible: list[bool | None], folded: set[int]) -> None:
    """What changes nothing goes where its input comes from, or, behind a model input, where its result goes."""
    if not folded:
        return
    users: dict[int, int] = {}
    for index in reversed(range(len(outline.operations))):
        for bound in outline.operations[index].inputs.values():
            for value in bound:
                users[id(value)] = index
    order = range(len(outline.operations))
    # Forwards first; then backwards, for chains that begin at an input.
    for index in (*order, *reversed(order)):
        if outline.kinds[index] not in folded or eligible[index] is False:
            continue
        operation = outline.operations[index]
        x = operation.input("x")
        producer = x.producer if x is not None else None
        if producer is not None and not producer.is_constexpr:
            eligible[index] = eligible[producer.index]
        elif is_constant_only(operation):
            # Nothing runs: its result is a constant of whoever takes it. As a result of the model, nobody knows.
            user = min((users[id(value)] for value in operation.outputs if id(value) in users), default=None)
            eligible[index] = None if user is None else eligible[user]
        else:
            user = min((users[id(value)] for value in operation.outputs if id(value) in users), default=None)
            eligible[index] = eligible[index] if user is None else eligible[user]


def reasons_for(operation: Operation, scope: Scope) -> Reasons:
    """Everything the rules say of an operation, weaker words left out where stronger ones were said.

    A rule that meets something unknown says so; its Unknown becomes a reason of its own.
    """
    if is_constant_only(operation):
        reason = Reason(
            "all its inputs are constants: folded away", Certainty.INFERRED, ("751k-dispatch",), effect=Effect.NOTE
        )
        return ((_rule("ANE110"), reason),)
    said: list[tuple[Rule, Reason]] = []
    for rule in rules_for(operation.type):
        try:
            said.extend((rule, reason) for reason in apply(rule, operation, scope))
        except Unknown as unknown:
            if rule.decides:
                said.append((rule, Reason(str(unknown), Certainty.INFERRED, (), effect=Effect.UNKNOWN)))
    if any(reason.effect is Effect.REFUSED for _, reason in said):
        return tuple(pair for pair in said if pair[1].effect is Effect.REFUSED)
    return tuple(said)


def answer(reasons: Reasons) -> bool | None:
    """True (eligible), False (refused) or None (cannot tell)."""
    effects = {reason.effect for _, reason in reasons}
    if Effect.REFUSED in effects:
        return False
    return None if Effect.UNKNOWN in effects else True


def part_status(eligible: Sequence[bool | None], *, blocks: bool = False) -> Status:
    """The status of one function: unknown operations count only where they decide."""
    some, none, unknown = True in eligible, False in eligible, None in eligible
    if some and none:
        return Status.PARTIAL
    if unknown:
        return Status.CANNOT_TELL
    if not some:
        return Status.NONE
    return Status.CANNOT_TELL if blocks else Status.FULL


def overall(statuses: Sequence[Status], model: Model, *, runs: bool = False) -> Status:
    """The worst of the parts; host work beside an engine segment makes a whole model Partial.

    ``runs`` says that every part nobody can tell of has an engine segment for certain: host work beside it decides,
    whatever its unknown operations turn out to be.
    """
    if not statuses:
        return Status.NONE
    status = worst(list(statuses))
    outside = any(work.partial for _, leaf in _all_models(model) for work in leaf.host_work)
    if outside and (status is Status.FULL or (runs and status is Status.CANNOT_TELL)):
        return Status.PARTIAL
    return status


def _all_models(model: Model) -> Iterator[tuple[str, Model]]:
    yield model.name, model
    for stage in model.stages:
        yield from _all_models(stage)


def _spread_from_owners(
    part: Part, eligible: list[bool | None], grouped: dict[tuple[str, Reason], list[int]], rules: dict[str, Rule]
) -> None:
    """What lies in a branch or loop goes where its owner goes."""
    for index, owner in part.owners.items():
        if eligible[owner] is not True and eligible[index] is not False:
            refused = eligible[owner] is False
            reason = Reason(
                "it lies in a branch or loop that the engine does not run",
                Certainty.REPORTED,
                ("smpanaro",),
                effect=Effect.REFUSED if refused else Effect.UNKNOWN,
            )
            eligible[index] = False if refused else None
            rules["ANE901"] = _rule("ANE901")
            grouped["ANE901", reason].append(index)


def _rule(id: str) -> Rule:
    rule = find(id)
    assert rule is not None, id
    return rule


_ORDER = {effect: rank for rank, effect in enumerate(Effect)}
_CHAINED = "ANE201"


@dataclass(slots=True)
class _Cause:
    """A cause while its operations are being gathered."""

    rule: Rule
    reason: Reason
    members: list[int]
    root: int | None = None
    also: list[CoreMLWords] = field(default_factory=list)


def _findings(
    outline: Outline, grouped: dict[tuple[str, Reason], list[int]], rules: dict[str, Rule]
) -> Iterator[Finding]:
    """One finding a cause; a chain of integer tensors is one cause, named by where the integers enter."""
    causes: dict[tuple[str, Reason], _Cause] = {}
    chained: dict[int, Reason] = {}
    for (id, reason), indexes in grouped.items():
        if id == _CHAINED:
            chained.update(dict.fromkeys(indexes, reason))
        else:
            causes[id, reason] = _Cause(rules[id], reason, sorted(set(indexes)))
    for root, members in _chains(outline, sorted(chained)):
        reason = _rooted(outline, chained[root], root, len(members))
        cause = causes.setdefault((_CHAINED, reason), _Cause(rules[_CHAINED], reason, [], root))
        cause.members.extend(members)
        words: dict[tuple[int | None, str], list[int]] = defaultdict(list)
        for index in members:
            other = chained[index]
            if other.core_ml_text != reason.core_ml_text:
                words[other.core_ml_code, other.core_ml_text].append(index)
        cause.also.extend(CoreMLWords(code, text, tuple(found)) for (code, text), found in words.items())
    for cause in sorted(
        causes.values(), key=lambda cause: (_ORDER[cause.reason.effect], -len(cause.members), cause.rule.id)
    ):
        reason = cause.reason
        yield Finding(
            rule=cause.rule.id,
            name=cause.rule.name,
            message=reason.message,
            effect=reason.effect,
            operations=tuple(sorted(cause.members)),
            certainty=reason.certainty,
            sources=reason.sources,
            fix=(reason.fix or cause.rule.fix) if reason.effect is not Effect.NOTE else None,
            core_ml_code=reason.core_ml_code,
            core_ml_text=reason.core_ml_text,
            root=cause.root,
            also=tuple(cause.also),
        )


def _is_integer(value: Value) -> bool:
    return not value.is_constant and isinstance(value.type, TensorType) and value.type.dtype in _WHOLE


_WHOLE = {"int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool"}


def _chains(outline: Outline, members: list[int]) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Operations joined by integer values, as (first operation in file order, all of them)."""
    inside = set(members)
    leader = {index: index for index in members}

    def top(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    entry: dict[str, int] = {}
    for index in members:
        for bound in outline.operations[index].inputs.values():
            for value in bound:
                if not _is_integer(value):
                    continue
                producer = value.producer
                before = producer.index if producer is not None and producer.index in inside else None
                if producer is None:
                    before = entry.setdefault(value.name, index)
                if before is not None:
                    a, b = top(before), top(index)
                    leader[max(a, b)] = min(a, b)
    chains: dict[int, list[int]] = defaultdict(list)
    for index in members:
        chains[top(index)].append(index)
    for root, chain in sorted(chains.items()):
        yield root, tuple(chain)


def _rooted(outline: Outline, reason: Reason, root: int, length: int) -> Reason:
    operation = outline.operations[root]
    outside = [
        value.name
        for bound in operation.inputs.values()
        for value in bound
        if _is_integer(value) and value.producer is None
    ]
    kind = next(
        (
            v.type.dtype
            for v in (*_bound(operation), *operation.outputs)
            if isinstance(v.type, TensorType) and v.type.dtype in ("int32", "uint32", "int64", "uint64")
        ),
        "int32",
    )
    if operation.layer or reason.core_ml_code == 220:
        return reason
    where = f"from the input {outside[0]}" if outside else f"from {operation.type} {_name(operation)}"
    through = "" if length == 1 else f", through {length} operations"
    return Reason(
        f"{kind} flows {where}{through}",
        reason.certainty, reason.sources, reason.effect, reason.core_ml_code, reason.core_ml_text, reason.fix,
    )  # fmt: skip


def _name(operation: Operation) -> str:
    return operation.outputs[0].name if operation.outputs else operation.name


def _bound(operation: Operation) -> Iterable[Value]:
    return (value for values in operation.inputs.values() for value in values if not value.is_constant)


def _host_findings(model: Model) -> Iterator[Finding]:
    rule = _rule("ANE801")
    for stage, leaf in _all_models(model):
        for work in leaf.host_work:
            place = f" (stage {work.stage or stage})" if (work.stage or stage) else ""
            yield Finding(
                rule=rule.id,
                name=rule.name,
                message=f"{work.kind}: {work.detail}{place}" if work.detail else f"{work.kind}{place}",
                effect=Effect.NOTE,
                operations=(),
                certainty=Certainty.DOCUMENTED,
                sources=("core-ml-format",),
                fix=rule.fix if work.partial else None,
            )
    if not any(leaf.functions for _, leaf in model.walk_stages()):
        empty = _rule("ANE802")
        yield Finding(
            rule=empty.id,
            name=empty.name,
            message=f"{model.kind}: it has no operation for any engine",
            effect=Effect.NOTE,
            operations=(),
            certainty=Certainty.DOCUMENTED,
            sources=("core-ml-format",),
            fix=None,
        )


def _certainty(outline: Outline, scopes: dict[bool, Scope], answers: Sequence[bool | None]) -> Certainty:
    """How well the eligible operations are known: the weakest of their entries."""
    weakest = Certainty.MEASURED
    seen: set[tuple[bool, str, str]] = set()
    for (operation, legacy), eligible in zip(outline.examples, answers, strict=True):
        key = (legacy, operation.type, operation.layer)
        if not eligible or key in seen:
            continue
        seen.add(key)
        scope = scopes[legacy]
        support = scope.entry(operation)
        certainty = Certainty(support.certainty)
        if certainty.rank > weakest.rank:
            weakest = certainty
    return weakest

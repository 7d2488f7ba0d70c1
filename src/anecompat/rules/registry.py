"""The register of rules. A rule is one function; its docstring is its page and its message's explanation.

The first paragraph of the docstring says what is wrong (never the advice). Then follow fixed headings, in this order:
``## Why it matters``, ``## What to change`` and, where one helps, ``## Example`` with a MIL snippet that a test judges.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from anecompat.findings import Reason
from anecompat.ir import Operation
from anecompat.rules.scope import Scope

Check = Callable[[Operation, Scope], Iterable[Reason]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as registered. ``operations`` empty means every operation is shown to it."""

    id: str
    name: str
    operations: tuple[str, ...]
    check: Check | None
    title: str
    sections: dict[str, str] = field(default_factory=dict)

    @property
    def decides(self) -> bool:
        """Whether it speaks of placement. The rules on values (ANE6xx) never change an answer."""
        return not self.id.startswith("ANE6")

    @property
    def fix(self) -> str | None:
        """What to change, as one line for reports."""
        text = self.sections.get("What to change")
        return None if text is None else " ".join(text.split("\n\n")[0].split()).replace("``", "`")


_RULES: dict[str, Rule] = {}
_BY_OPERATION: dict[str, tuple[Rule, ...]] = {}
_HEADINGS = ("Why it matters", "What to change", "Example")


def _page(function: Callable[..., object]) -> tuple[str, dict[str, str]]:
    text = inspect.cleandoc(function.__doc__ or "")
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    sections = {heading.strip(): body.strip() for heading, body in zip(parts[1::2], parts[2::2], strict=True)}
    return " ".join(parts[0].split()), sections


def rule(id: str, name: str, *, operations: Iterable[str] = ()) -> Callable[[Check], Check]:
    """Register a function as a rule for the operation types named (all types where none is)."""

    def register(check: Check) -> Check:
        title, sections = _page(check)
        _add(Rule(id, name, tuple(operations), check, title, sections))
        return check

    return register


def graph_rule(id: str, name: str) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """Register the page of a rule that the judge applies to the whole graph, not to one operation."""

    def register(function: Callable[..., object]) -> Callable[..., object]:
        title, sections = _page(function)
        _add(Rule(id, name, (), None, title, sections))
        return function

    return register


def _add(new: Rule) -> None:
    if new.id in _RULES:
        raise ValueError(f"two rules have the id {new.id}")
    if not new.title or any(heading not in _HEADINGS for heading in new.sections):
        raise ValueError(f"{new.id}: the docstring has no title or an unknown heading")
    _RULES[new.id] = new
    _BY_OPERATION.clear()


def all_rules() -> tuple[Rule, ...]:
    """Every rule, in the order of ids."""
    return tuple(_RULES[id] for id in sorted(_RULES))


def find(text: str) -> Rule | None:
    """A rule by its id or its name, whatever the case."""
    wanted = text.lower()
    return next((rule for rule in all_rules() if wanted in (rule.id.lower(), rule.name)), None)


def rules_for(type: str) -> tuple[Rule, ...]:
    """The rules that look at operations of this type, in the order of ids."""
    found = _BY_OPERATION.get(type)
    if found is None:
        found = tuple(r for r in all_rules() if r.check is not None and (not r.operations or type in r.operations))
        _BY_OPERATION[type] = found
    return found


def apply(rule: Rule, operation: Operation, scope: Scope) -> Iterator[Reason]:
    """What a rule says of an operation."""
    assert rule.check is not None
    yield from rule.check(operation, scope)

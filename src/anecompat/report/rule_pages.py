"""The pages of rules, from their docstrings."""

from __future__ import annotations

import difflib

from anecompat.errors import UsageError
from anecompat.report.words import wrapped
from anecompat.rules import Rule, all_rules, find


def rules_page(id: str | None, width: int = 100) -> str:
    """All rules, a line each; or one rule's page by id or name. An unknown one suggests the nearest."""
    if id is None:
        rows = [wrapped(f"{r.id}  {r.name}: {r.title}", width, "", "        ") for r in all_rules()]
        return "\n".join(["The rules; `anecompat rule ID` shows one whole.", "", *rows])
    rule = find(id)
    if rule is None:
        known = [name for r in all_rules() for name in (r.id, r.name)]
        near = difflib.get_close_matches(id.upper(), known, 1, 0.4) or difflib.get_close_matches(
            id.lower(), known, 1, 0.4
        )
        hint = f"; did you mean {near[0]}?" if near else "; `anecompat rule` lists them"
        raise UsageError(f"{id}: no such rule{hint}")
    return "\n".join(_page(rule, width))


def _page(rule: Rule, width: int) -> list[str]:
    lines = [f"{rule.id} {rule.name}", "", wrapped(rule.title, width)]
    if rule.operations:
        lines += ["", wrapped(f"Looks at: {', '.join(rule.operations)}.", width)]
    for heading, body in rule.sections.items():
        lines += ["", heading, ""]
        if heading == "Example":
            lines += [line for line in body.splitlines() if not line.startswith("```")]
        else:
            lines += "\n\n".join(wrapped(" ".join(p.split()), width) for p in body.split("\n\n")).splitlines()
    return lines


def markdown(rule: Rule) -> str:
    """One rule's page for the documentation."""
    parts = [f"## {rule.id} {rule.name}", rule.title]
    if rule.operations:
        parts.append(f"Looks at: {', '.join(f'`{name}`' for name in rule.operations)}.")
    parts += [f"### {heading}\n\n{body}" for heading, body in rule.sections.items()]
    return "\n\n".join(parts)

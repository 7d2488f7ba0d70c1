"""What ``anecompat chips`` and ``anecompat ops`` print: the tables, with sources, as plain text."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from anecompat import knowledge
from anecompat.errors import UsageError
from anecompat.ir import Unknown
from anecompat.knowledge import Limit, Support
from anecompat.report.knowledge_words import NEWEST, chips_of, citation, row_of, row_of_layer, scope_text
from anecompat.report.words import wrapped
from anecompat.targets import ENGINES, Chip, chips, find_chips

LEGEND = "+ accepted  - refused  c depends on its form  ? unknown"


def chips_page(name: str | None, width: int = 100) -> str:
    """Every chip, a line each; or the page of one chip, or of an engine generation ("h16").

    Raises UsageError, with the nearest spelling, for a name no chip has.
    """
    if name is not None:
        found = find_chips(name)
        if len(found) == 1:
            return "\n".join(_chip(found[0], width))
    else:
        found = chips()
    lines = [wrapped("Chips whose Neural Engine Core ML can use; `anecompat chips CHIP` shows one whole.", width), ""]
    lines += _columns([("chip", "engine", "cores", "macOS", "iOS", "known by"), *(_row(chip) for chip in found)])
    lines += [
        "",
        wrapped("engine: the generation decides what is accepted; chips with the same one share their answers.", width),
        wrapped("known by: how a chip's generation is known; measured is by Core ML on such a machine.", width),
    ]
    return "\n".join(lines)


def _row(chip: Chip) -> tuple[str, ...]:
    cores = str(chip.ane_cores) if chip.ane_cores else "?"
    return (chip.name, chip.engine, cores, _range(chip, "macOS"), _range(chip, "iOS"), chip.certainty)


def _range(chip: Chip, platform: str) -> str:
    known = next((known for known in chip.ranges if known.platform == platform), None)
    if known is None:
        return ""
    first = ".".join(map(str, known.first.version if known.first.version[1] else known.first.version[:1]))
    return first if first == str(known.last_major) else f"{first} - {known.last_major}"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip() for row in rows]


def _chip(chip: Chip, width: int) -> list[str]:
    soc = f" ({chip.soc})" if chip.soc else ""
    lines = [f"{chip.name}{soc}: Neural Engine {chip.engine}", ""]

    def field(label: str, text: str) -> None:
        if text:
            lines.append(wrapped(f"{label:<12}{text}", width, hanging=" " * 12))

    family = [other.name for other in chips() if other.engine == chip.engine and other is not chip]
    field("engine", f"{chip.engine}, {chip.certainty}: {chip.evidence}")
    field("conflict", chip.conflict)
    field("same as", ", ".join(family))
    field("cores", str(chip.ane_cores) if chip.ane_cores else "not published")
    field("devices", ", ".join(chip.devices))
    for known in chip.ranges:
        field(known.platform, f"{_range(chip, known.platform)}{' (so far)' if known.last_major == NEWEST[0] else ''}")
    field("note", chip.note)
    measured = ", ".join(map(str, chip.measured))
    field("measured", measured or "no answer of Core ML, operation by operation, is published for this chip")
    release = chip.last_system.release
    lines += ["", f"What {chip.engine} takes on {chip.last_system}"]
    counts = [
        f"{sum(knowledge.support(name, chip.engine, release).status == status for name in _judged())} {words}"
        for status, words in (
            ("yes", "accepted"), ("conditional", "depend on their form"), ("no", "refused"), ("unknown", "unknown"),
        )
    ]  # fmt: skip
    lines.append(wrapped(f"Of {len(_judged())} operations: {', '.join(counts)}.", width, "  "))
    answers = [answer for answer in (_limit(name, chip) for name in knowledge.limits()) if answer is not None]
    lines += ["", f"Limits of {chip.engine} on {chip.last_system}"]
    for answer in answers:
        text = f"{answer}: {answer.title[0].lower()}{answer.title[1:]} [{answer.certainty}]"
        lines.append(wrapped(text, width, "  ", "    "))
    return [*lines, *_sources([*chip.sources, *(key for answer in answers for key in answer.sources)], width)]


def _judged() -> list[str]:
    return [name for name in knowledge.operations() if not name.startswith("constexpr_") and "const" not in name]


def _limit(name: str, chip: Chip) -> Limit | None:
    try:
        return knowledge.limit(name, chip.engine, chip.last_system.release)
    except Unknown:
        return None


def _sources(keys: Iterable[str], width: int) -> list[str]:
    cited = list(dict.fromkeys(keys))
    return ["", "Sources", *(wrapped(citation(key), width, "  ", "    ") for key in cited)] if cited else []


def operations_page(name: str | None, width: int = 100) -> str:
    """Every operation with a sign an engine; or all that is known of one operation or old layer, with sources.

    Raises UsageError, with the nearest spelling, for a name that is neither.
    """
    if name is None:
        return "\n".join(_overview(width))
    wanted = name.strip()
    names = {other.lower(): other for other in (*knowledge.layers(), *knowledge.operations())}
    operation = wanted.split(".")[-1] if wanted.lower() not in names else wanted
    found = names.get(operation.lower())
    if found is None:
        near = difflib.get_close_matches(operation.lower(), names, 1, 0.0)
        raise UsageError(f"{wanted}: no such operation; did you mean {names[near[0]]}? (anecompat ops lists them all)")
    lines: list[str] = []
    both = [other for other in (*knowledge.operations(), *knowledge.layers()) if other.lower() == found.lower()]
    exact = [other for other in both if other == operation] or both[:1]
    if exact[0] in knowledge.operations():
        lines = _operation(exact[0], width)
        if exact[0] in knowledge.layers():
            lines += ["", *_layer(exact[0], width)]
    else:
        lines = _layer(exact[0], width)
    return "\n".join(lines)


def _overview(width: int) -> list[str]:
    release = knowledge.release_text(NEWEST[:1])
    lines = [
        wrapped(f"MIL operations on each generation of the Neural Engine, {release}.", width),
        wrapped("`anecompat ops OP` shows one with its systems, limits and sources; it takes old layers too.", width),
        "",
        LEGEND,
        "",
    ]
    header = ["operation", *(engine[1:] for engine in ENGINES)]
    lines += _columns([header, *([name, *row_of(name)] for name in _judged())])
    engines = "; ".join(f"{engine[1:]} is {' and '.join(chips_of(engine))}" for engine in ENGINES)
    return [*lines, "", wrapped(f"{engines}. Constants (const, constexpr_*) get no device.", width)]


def _operation(name: str, width: int) -> list[str]:
    lines = [name, "", *_table(row_of(name)), ""]
    entries = knowledge.verdicts(name)
    lines += _statements(entries, width)
    limits = [knowledge.limit_verdicts(limit) for limit in knowledge.limits()]
    mine = [entry for verdicts in limits for entry in verdicts if name in entry.operations]
    if mine:
        lines += ["", "Limits"]
        for title in dict.fromkeys(entry.title for entry in mine):
            told = [entry for entry in mine if entry.title == title]
            lines.append(wrapped(title, width, "  "))
            lines += [_limit_line(entry, width) for entry in told]
            lines += [wrapped(f"but: {told[0].conflict}", width, "      ")] if told[0].conflict else []
    layers = [kind for kind in knowledge.layers() if name in knowledge.carriers(kind)]
    if layers:
        lines += ["", wrapped(f"Old layers answered by it: {', '.join(layers)}.", width)]
    cited = [key for entry in entries for key in entry.sources] + [key for entry in mine for key in entry.sources]
    return [*lines, *_sources(cited, width)]


def _limit_line(entry: Limit, width: int) -> str:
    text = f"{entry}: {scope_text(entry.span)} [{entry.certainty}: {', '.join(entry.sources)}]"
    return wrapped(text, width, "    ", "      ")


def _table(signs: Sequence[str]) -> list[str]:
    return [*_columns([ENGINES, signs]), f"on {knowledge.release_text(NEWEST[:1])}", LEGEND]


def _layer(kind: str, width: int) -> list[str]:
    entries = knowledge.layer_verdicts(kind)
    carriers = knowledge.carriers(kind)
    lines = [f"{kind} (layer of old neural networks)", "", *_table(row_of_layer(kind)), ""]
    lines += _statements(entries, width)
    if carriers:
        lead = "Elsewhere the answer is" if entries else "Nothing is published of the layer itself: the answer is"
        which = f"that of {carriers[0]}" if len(carriers) == 1 else f"that of one of {', '.join(carriers)}"
        lines.append(wrapped(f"{lead} {which}, from A14 and M1 on, never better than inferred.", width))
    return [*lines, *_sources([key for entry in entries for key in entry.sources], width)]


def _statements(entries: Sequence[Support], width: int) -> list[str]:
    lines: list[str] = []
    for entry in sorted(entries, key=lambda entry: (entry.certainty.rank, -entry.span.since[0], entry.span.first)):
        where = f"{scope_text(entry.span)}: {entry.status} [{entry.certainty}: {', '.join(entry.sources)}]"
        lines.append(wrapped(where, width, "", "    "))
        if entry.condition:
            lines.append(wrapped(entry.condition, width, "    "))
        if entry.conflict:
            lines.append(wrapped(f"but: {entry.conflict}", width, "    "))
    if len(entries) > 1:
        lines.append(wrapped("Where lines overlap, the narrower one is the answer.", width))
    return lines

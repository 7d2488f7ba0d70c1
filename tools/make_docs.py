"""Write the generated pages of docs/reference: from the knowledge tables, the rules and the command line.

python tools/make_docs.py            writes what changed
python tools/make_docs.py --check    writes nothing; exit status 1 where a page is out of date
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from anecompat import cli, knowledge
from anecompat.knowledge import Group, Support
from anecompat.report import rule_pages
from anecompat.report.knowledge_words import chips_of, row_of, row_of_layer, scope_text
from anecompat.rules import Rule, all_rules
from anecompat.targets import ENGINES, Range, chips, majors

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"
NOTE = "<!-- Written by tools/make_docs.py from src/anecompat/knowledge; edit the tables, not this page. -->"
RULES_NOTE = (
    "<!-- Written by tools/make_docs.py from the docstrings in src/anecompat/rules; edit those, not this page. -->"
)
PARSER_NOTE = "<!-- Written by tools/make_docs.py from src/anecompat/cli.py; edit the parser, not this page. -->"
CERTAINTY = """\
How well a statement is known: **measured** (Core ML itself answered so on that engine and release), **documented** (the
maker wrote it), **reported** (somebody ran it and said what happened), **inferred** (concluded from other engines or
releases, or read from the compiler's tables). Where scopes overlap, the narrower one is the answer. Sources that lost
against better ones stay visible behind *but*."""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines]


def cited(keys: Iterable[str]) -> list[str]:
    """The sources of a page, whole."""
    lines = ["", "## Sources", ""]
    return lines + [cite(key) for key in sorted(set(keys))]


def cite(key: str) -> str:
    source = knowledge.source(key)
    note = f" *{source.note[0].upper()}{source.note[1:]}.*" if source.note else ""
    return f"- **{key}**: {source.title}. {source.where}. {source.date}. Licence: {source.licence}.{note}"


def statement(entry: Support) -> str:
    words = [f"**{entry.status}** ({entry.certainty}: {', '.join(entry.sources)})"]
    words += [entry.condition] if entry.condition else []
    words += [f"*but* {entry.conflict}"] if entry.conflict else []
    return f"- {scope_text(entry.span)}: {'; '.join(words)}"


def engines() -> list[str]:
    return [f"{engine} {', '.join(chips_of(engine))}" for engine in ENGINES]


def told(group: Group) -> list[str]:
    names = ", ".join(f"`{name}`" for name in group.names)
    return ["", f"### {group.title}", "", names, "", *(statement(entry) for entry in group.verdicts)]


def known() -> list[str]:
    """How many kinds of operation are known how well, for each engine on its newest system and where Core ML spoke."""
    newest = (max(majors("iOS")), 0)
    scopes = {(engine, newest): "" for engine in ENGINES}
    scopes |= {(chip.engine, system.release): f"{chip.name}, {system}" for chip in chips() for system in chip.measured}
    rows = []
    for (engine, release), place in scopes.items():
        entries = [knowledge.support(name, engine, release) for name in knowledge.operations() if "const" not in name]
        words = ["unknown" if entry.status == "unknown" else str(entry.certainty) for entry in entries]
        counts = [str(words.count(word)) for word in ("measured", "documented", "reported", "inferred", "unknown")]
        rows.append([engine, place or knowledge.release_text(release[:1]), *counts])
    return table(["engine", "on", "measured", "documented", "reported", "inferred", "unknown"], rows)


def operations_page() -> list[str]:
    newest = knowledge.release_text((max(majors("iOS")),))
    rows = [[f"`{name}`", *row_of(name)] for name in knowledge.operations() if "const" not in name]
    lines = ["# Operations", "", NOTE, "", "Which MIL operations the Neural Engine takes, as far as the kind goes."]
    lines += ["Types, sizes and parameters are judged by rules on top.", "", CERTAINTY, ""]
    lines += [f"## On {newest}", "", "`+` accepted, `-` refused, `c` depends on its form, `?` unknown.", ""]
    lines += [*table(["operation", *engines()], rows), "", "## How well it is known", ""]
    lines += [
        "Kinds of operation, counted by how the answer is known: for each engine on the newest system, then where"
    ]
    lines += ["Core ML's own answers are published.", "", *known(), "", "## Statements"]
    groups = knowledge.groups("operations")
    lines += [line for group in groups for line in told(group)]
    return lines + cited(key for group in groups for entry in group.verdicts for key in entry.sources)


def layers_page() -> list[str]:
    newest = knowledge.release_text((max(majors("iOS")),))
    lines = ["# Layers of old neural networks", "", NOTE, ""]
    lines += ["How the Neural Engine takes the layers of `.mlmodel` networks (specifications 1 to 4). Little has been"]
    lines += ["published per layer; where nothing has, the MIL operation it amounts to answers, as *inferred*."]
    lines += ["", CERTAINTY, "", f"## On {newest}", ""]
    lines += ["`+` accepted, `-` refused, `c` depends on its form or parameters, `?` unknown.", ""]
    rows = [
        [f"`{kind}`", ", ".join(f"`{name}`" for name in knowledge.carriers(kind)) or "-", *row_of_layer(kind)]
        for kind in knowledge.layers()
    ]
    lines += [*table(["layer", "answered by", *engines()], rows), "", "## Published for the layer itself"]
    groups = knowledge.groups("layers")
    lines += [line for group in groups for line in told(group)]
    return lines + cited(key for group in groups for entry in group.verdicts for key in entry.sources)


def _bounds(ranges: Sequence[Range], platform: str) -> str:
    known = next((known for known in ranges if known.platform == platform), None)
    if known is None:
        return ""
    first = ".".join(map(str, known.first.version))
    return f"{first.removesuffix('.0')} to {known.last_major}"


def chips_page() -> list[str]:
    lines = ["# Chips and systems", "", NOTE, "", "Every chip whose Neural Engine Core ML can use. A verdict is for a"]
    lines += ["generation of the engine and a release of the system, because the system holds the compiler.", ""]
    rows = [
        [
            chip.name,
            chip.soc or "?",
            chip.engine,
            chip.certainty,
            str(chip.ane_cores or "?"),
            _bounds(chip.ranges, "macOS"),
            _bounds(chip.ranges, "iOS"),
            ", ".join(map(str, chip.measured)),
            ", ".join(chip.devices),
        ]
        for chip in chips()
    ]
    header = ["chip", "part", "engine", "known by", "cores", "macOS", "iOS, iPadOS", "Core ML's answers", "devices"]
    lines += [*table(header, rows), "", "## How each generation is known", ""]
    for chip in chips():
        conflict = f" *But* {chip.conflict}." if chip.conflict else ""
        note = f" {chip.note}" if chip.note else ""
        lines.append(f"- {chip.name}: {chip.evidence} ({', '.join(chip.sources)}).{conflict}{note}")
    lines += ["", "## Systems", "", "Releases that share a Core ML, and the last one known of each major version.", ""]
    mac = {major.ios: major for major in majors("macOS").values()}
    systems = []
    for ios in majors("iOS").values():
        twin = mac.get(ios.number)
        last = ".".join(map(str, twin.last)) if twin else ""
        shown = f"macOS {twin.number} {twin.name}" if twin else ""
        systems.append([f"iOS {ios.number}", ".".join(map(str, ios.last)), shown, last, ios.certainty])
    lines += table(["iOS", "last", "macOS", "last", "known by"], systems)
    return lines + cited(key for chip in chips() for key in chip.sources)


def limits_page() -> list[str]:
    lines = ["# Limits, element types, messages", "", NOTE, "", CERTAINTY, "", "## Limits"]
    keys: list[str] = []
    for name in knowledge.limits():
        entries = knowledge.limit_verdicts(name)
        of = f" Operations: {', '.join(f'`{o}`' for o in entries[0].operations)}." if entries[0].operations else ""
        lines += ["", f"### {entries[0].title}", "", f"`{name}`.{of}", ""]
        for entry in entries:
            lines.append(f"- {scope_text(entry.span)}: **{entry}** ({entry.certainty}: {', '.join(entry.sources)})")
        lines += ["", f"*But* {entries[0].conflict}."] if entries[0].conflict else []
        keys += [key for entry in entries for key in entry.sources]
    lines += ["", "## Element types"]
    for dtype in knowledge.dtypes():
        lines += ["", f"### {dtype.name}, {dtype.role}", "", *(statement(entry) for entry in dtype.verdicts)]
        keys += [key for entry in dtype.verdicts for key in entry.sources]
    lines += ["", "## Core ML's own words", "", "Refusals as Core ML words them, with the state it files them under;"]
    lines += ["-1 stands for none. Parameters are written `<..>`.", ""]
    words = sorted(knowledge.messages(), key=lambda message: (message.code < 0, message.code))
    rows = [
        [str(said.code), f"`{said.text}`", said.about, said.seen or "only in Core ML's table", ", ".join(said.sources)]
        for said in words
    ]
    lines += table(["state", "text", "meaning", "seen", "sources"], rows)
    return lines + cited([*keys, *(key for message in words for key in message.sources)])


KINDS = {
    "measured": "Core ML's own answers, published",
    "executed": "Run on the engine, outside Core ML or known by the outcome alone",
    "maker": "Written by Apple",
    "tables": "Read from Apple's binaries by third parties",
    "notes": "Somebody's experience",
}


def sources_page() -> list[str]:
    lines = ["# Sources", "", NOTE, "", "Where every fact of the tables comes from, strongest kind first. Reports name"]
    lines += ["sources by these keys. Facts are restated; no text, code or model of a source is part of anecompat."]
    for kind, title in KINDS.items():
        keys = [key for key, source in knowledge.sources().items() if source.kind == kind]
        lines += ["", f"## {title}", "", *(cite(key) for key in sorted(keys))]
    return lines


# What the first digit of a rule's id says.
FAMILIES = {
    "1": "The kind of operation",
    "2": "Types and parameters",
    "3": "Sizes",
    "4": "Shapes nobody knows",
    "5": "The program as a whole",
    "6": "Values: numerical risks, which change no status",
    "8": "Around the network",
    "9": "Blocks and flexible shapes",
}


def rules_reference() -> list[str]:
    lines = ["# Rules", "", RULES_NOTE, "", "Every finding of a report names one of these. `anecompat rule ID` shows a"]
    lines += ["page in the terminal. Ids stay; a rule that goes takes its id with it.", ""]
    for digit, title in FAMILIES.items():
        lines += [f"- {title}: " + ", ".join(f"[{r.id}](#{r.id.lower()}-{r.name})" for r in family(digit))]
    for rule in all_rules():
        lines += ["", *re.sub(r"(?<!`)``(?!`)", "`", rule_pages.markdown(rule)).splitlines()]
    return lines


def family(digit: str) -> list[Rule]:
    return [rule for rule in all_rules() if rule.id[3] == digit]


EXITS = [
    ("0", "Fully compatible", "every operation can run (predicted) or ran (measured) on the engine"),
    ("1", "Partial compatibility", "some can"),
    ("2", "Not compatible", "none can"),
    ("3", "Read error", "the file cannot be read as a Core ML model"),
    ("4", "Compile error", "Core ML refused to compile it; on a device only"),
    ("5", "Input error", "no input could be made for it; on a device only"),
    ("6", "Prediction error", "the prediction failed, crashed or timed out; on a device only"),
    ("7", "Other error", "anything else, a mistake of anecompat's own included"),
    ("8", "Cannot tell", "operations that nobody has measured could change the status"),
    ("64", "usage error", "an unknown option, chip or system"),
    ("130", "interrupt", "Ctrl-C"),
    ("141", "closed pipe", "the reader of the answer went away"),
]


# Arguments whose name says enough in a terminal.
MEANINGS = {
    "MODEL": "the model file or folder",
    "TRACE": "the measurement",
    "DIR": "the folder that receives the bundle",
    "CHIP": "one chip, with everything known of it",
    "OP": "one MIL operation or old layer, with every statement and source",
    "ID": "one rule by id or name",
}


def command_line_page() -> list[str]:
    root = cli.parser()
    lines = ["# Command line", "", PARSER_NOTE, "", *usage(root, "COMMAND ..."), "", shown(root.description), ""]
    commands = next(a for a in root._actions if isinstance(a, argparse._SubParsersAction))
    words = {choice.dest: choice.help or "" for choice in commands._choices_actions}
    lines += table(["command", "what it does"], [[f"[`{n}`](#anecompat-{n})", words[n]] for n in commands.choices])
    lines += ["", shown(root.epilog)]
    for name, parser in commands.choices.items():
        lines += ["", f"## anecompat {name}", "", *usage(parser), "", shown(parser.description)]
        rows = [
            [signature(a), shown(a.help or MEANINGS.get(str(a.metavar)))] for a in parser._actions if a.dest != "help"
        ]
        lines += ["", *table(["argument", "meaning"], rows)] if rows else []
    lines += ["", "## Exit codes", "", "Several models or targets end with the worst: 7 6 5 4 3 2 8 1 0.", ""]
    lines += table(["code", "name", "meaning"], EXITS)
    lines += ["", "## Environment", ""]
    lines += table(
        ["variable", "effect"],
        [
            ["`NO_COLOR`", "no colours, as outside a terminal"],
            ["`COLUMNS`", "the width of the text report, 40 to 120"],
            ["`ANECOMPAT_DEBUG`", "an internal error shows where it happened"],
        ],
    )
    return lines


def shown(text: str | None) -> str:
    return " ".join((text or "").split())


def signature(action: argparse.Action) -> str:
    value = action.metavar or ("|".join(map(str, action.choices)) if action.choices else action.dest.upper())
    if not action.option_strings:
        return f"`{value}`"
    return f"`{action.option_strings[-1]}`" if action.nargs == 0 else f"`{action.option_strings[-1]} {value}`"


def usage(parser: argparse.ArgumentParser, rest: str = "") -> list[str]:
    words = (
        [parser.prog, "[OPTIONS]"]
        if any(a.option_strings and a.dest != "help" for a in parser._actions)
        else [parser.prog]
    )
    for action in parser._actions:
        if action.option_strings or isinstance(action, argparse._SubParsersAction):
            continue
        name = str(action.metavar or action.dest.upper())
        words.append({"?": f"[{name}]", "+": f"{name} [{name} ...]"}.get(str(action.nargs), name))
    return ["```", " ".join([*words, rest]).strip(), "```"]


PAGES: dict[str, Callable[[], list[str]]] = {
    "operations.md": operations_page,
    "layers.md": layers_page,
    "chips.md": chips_page,
    "limits.md": limits_page,
    "sources.md": sources_page,
    "rules.md": rules_reference,
    "command-line.md": command_line_page,
}


def main(arguments: Sequence[str] | None = None, folder: Path = FOLDER) -> int:
    parser = argparse.ArgumentParser(description="Write the generated pages of docs/reference.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a page is out of date")
    check = parser.parse_args(arguments).check
    stale = []
    for name, page in PAGES.items():
        text = "\n".join(page()) + "\n"
        path = folder / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not check:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if stale and check:
        print(f"out of date: {', '.join(stale)}; run python tools/make_docs.py", file=sys.stderr)
    return 1 if stale and check else 0


if __name__ == "__main__":
    sys.exit(main())

"""Write docs/reference/{operations,layers,chips,limits}.md from the knowledge tables; ``--check`` only compares.

    python tools/make_docs.py            writes what changed
    python tools/make_docs.py --check    exit status 1 where a page is not what the tables say
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from anecompat import knowledge
from anecompat.knowledge import Group, Support
from anecompat.report.knowledge_words import chips_of, row_of, row_of_layer, scope_text
from anecompat.targets import ENGINES, Range, chips, majors

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"
NOTE = "<!-- Written by tools/make_docs.py from src/anecompat/knowledge; edit the tables, not this page. -->"
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
    for key in sorted(set(keys)):
        source = knowledge.source(key)
        note = f" *{source.note[0].upper()}{source.note[1:]}.*" if source.note else ""
        lines.append(f"- **{key}**: {source.title}. {source.where}. {source.date}. Licence: {source.licence}.{note}")
    return lines


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


def operations_page() -> list[str]:
    newest = knowledge.release_text((max(majors("iOS")),))
    rows = [[f"`{name}`", *row_of(name)] for name in knowledge.operations() if "const" not in name]
    lines = ["# Operations", "", NOTE, "", "Which MIL operations the Neural Engine takes, as far as the kind goes."]
    lines += ["Types, sizes and parameters are judged by rules on top.", "", CERTAINTY, ""]
    lines += [f"## On {newest}", "", "`+` accepted, `-` refused, `c` depends on its form, `?` unknown.", ""]
    lines += [*table(["operation", *engines()], rows), "", "## Statements"]
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


PAGES: dict[str, Callable[[], list[str]]] = {
    "operations.md": operations_page,
    "layers.md": layers_page,
    "chips.md": chips_page,
    "limits.md": limits_page,
}


def main(arguments: Sequence[str] | None = None, folder: Path = FOLDER) -> int:
    parser = argparse.ArgumentParser(description="Write the reference pages from the knowledge tables.")
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

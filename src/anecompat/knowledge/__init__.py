"""What is known of the Neural Engine, as tables, and the one loader that reads them.

Every statement carries its scope (engine generations and releases), its certainty and its sources; the folder's TOML
files say how to read and extend them. Nothing is read before it is asked for, and prose (sources, messages) only for
documentation and the knowledge commands.

    support("sin", "H14", (26, 5)).status      ->  "no"
    limit("tensor_width", "H16", (27, 0)).value  ->  65536
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, Literal

from anecompat.findings import Certainty
from anecompat.ir import Unknown
from anecompat.knowledge.spans import Release, Span, innermost, parse

Status = Literal["yes", "no", "conditional", "unknown"]

__all__ = [
    "Dtype",
    "Group",
    "Limit",
    "Message",
    "Release",
    "Source",
    "Span",
    "Status",
    "Support",
    "carriers",
    "digest",
    "dtype",
    "dtypes",
    "groups",
    "layer",
    "layer_verdicts",
    "layers",
    "limit",
    "limit_verdicts",
    "limits",
    "messages",
    "operations",
    "release_text",
    "source",
    "sources",
    "support",
    "verdicts",
]


@dataclass(frozen=True, slots=True)
class Support:
    """Whether the engine takes a kind of operation, in one scope.

    ``condition`` says in which form (or why not), ``conflict`` what sources that lost say. ``span`` is the scope of the
    entry that answers, ``title`` the heading it stands under; a carried-over answer keeps those of its origin.
    """

    status: Status
    condition: str
    certainty: Certainty
    sources: tuple[str, ...]
    conflict: str
    span: Span
    title: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """A group of names about which the table says the same: one heading of operations.toml or layers.toml."""

    title: str
    names: tuple[str, ...]
    verdicts: tuple[Support, ...]


@dataclass(frozen=True, slots=True)
class Limit:
    """A number that decides, in one scope, in ``unit``.

    ``operations`` are those it speaks of; empty where it is one of all tensors or of the whole program.
    """

    name: str
    title: str
    value: int | float
    unit: str
    certainty: Certainty
    sources: tuple[str, ...]
    conflict: str
    span: Span
    operations: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.unit == "value":
            return f"{self.value:,}"
        return f"{self.value:,} {self.unit.removesuffix('s') if self.value == 1 else self.unit}"


@dataclass(frozen=True, slots=True)
class Dtype:
    """What the engine does with an element type in a role ("compute", "border" or "weights")."""

    name: str
    role: str
    verdicts: tuple[Support, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a fact comes from. ``kind`` is measured, executed, maker, tables or notes (see sources.toml)."""

    key: str
    kind: str
    title: str
    where: str
    date: str
    licence: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """A refusal in Core ML's own words, parameters as <..>. ``code`` is its support state, -1 where it has none.

    ``seen`` says where the text was seen in a log; it is empty where only Core ML's table of patterns has it.
    """

    code: int
    text: str
    about: str
    seen: str
    sources: tuple[str, ...]


_EVERYWHERE = parse("H11-H18 12+")


@cache
def _table(name: str) -> dict[str, Any]:
    return tomllib.loads((files("anecompat") / "knowledge" / f"{name}.toml").read_text(encoding="utf-8"))


def _support(entry: Mapping[str, Any], title: str) -> Support:
    return Support(
        status=entry["status"],
        condition=entry.get("condition", ""),
        certainty=Certainty(entry["certainty"]),
        sources=tuple(entry["sources"].split()),
        conflict=entry.get("conflict", ""),
        span=parse(entry["scope"]),
        title=title,
    )


@cache
def groups(table: Literal["operations", "layers"]) -> tuple[Group, ...]:
    """The groups of operations.toml or layers.toml, in the order of the file. A name may stand in several."""
    return tuple(
        Group(
            group["title"],
            tuple(group[table].split()),
            tuple(_support(entry, group["title"]) for entry in group["verdicts"]),
        )
        for group in _table(table)["group"]
    )


@cache
def _verdicts(table: Literal["operations", "layers"]) -> dict[str, tuple[Support, ...]]:
    """Every entry of operations.toml or layers.toml by name, in the order of the file."""
    found: dict[str, tuple[Support, ...]] = {}
    for group in groups(table):
        for name in group.names:
            found[name] = found.get(name, ()) + group.verdicts
    return found


def _fallback(table: str, engine: str) -> Support:
    entry = _table(table)["fallback"]
    condition = entry["old"] if _generation(engine) < 13 else entry["new"]
    return Support(
        entry["status"], condition, Certainty(entry["certainty"]), tuple(entry["sources"].split()), "", _EVERYWHERE
    )


def _generation(engine: str) -> int:
    return int(engine[1:])


def operations() -> tuple[str, ...]:
    """Every operation with an entry: all that coremltools registers, and those of Core ML's own that were seen."""
    return tuple(sorted(_verdicts("operations")))


def verdicts(operation: str) -> tuple[Support, ...]:
    """Everything the table says of an operation, scope by scope; empty for an unknown name."""
    return _verdicts("operations").get(operation, ())


@lru_cache(maxsize=4096)
def support(operation: str, engine: str, release: Release) -> Support:
    """What is known of a MIL operation on an engine generation ("H16") and release ((27, 0); macOS 14.5 is (17, 5)).

    The innermost scope answers. Where nothing covers the question the status is "unknown"; this never raises.
    """
    found = innermost(verdicts(operation), _generation(engine), release)
    return found if found is not None else _fallback("operations", engine)


def layers() -> tuple[str, ...]:
    """Every kind of old neural-network layer with an entry."""
    return tuple(sorted({*_verdicts("layers"), *_table("layers")["carried"]}, key=str.lower))


def layer_verdicts(kind: str) -> tuple[Support, ...]:
    """What is published of a layer itself, scope by scope; what is carried over is not in it."""
    return _verdicts("layers").get(kind, ())


def carriers(kind: str) -> tuple[str, ...]:
    """The MIL operations that carry the answer for a layer where nothing is published of the layer itself."""
    return tuple(_table("layers")["carried"].get(kind, "").split())


@lru_cache(maxsize=4096)
def layer(kind: str, engine: str, release: Release, operation: str = "") -> Support | None:
    """What is known of an old neural-network layer.

    ``operation`` is the MIL operation it was lowered to; a layer that may become several (``reduce``, ``unary``) is
    answered by that one, and without it by None where they disagree. None also stands for an unknown kind. An answer
    carried over from a MIL operation is never better than inferred.
    """
    found = innermost(layer_verdicts(kind), _generation(engine), release)
    if found is not None:
        return found
    names = carriers(kind)
    if not names and not layer_verdicts(kind):
        return None
    if operation in names:
        names = (operation,)
    # Old networks ran on the engine before programs existed; the entries of operations begin with release 15.
    answers = [support(name, engine, max(release, (15,))) for name in names]
    refused = [answer for answer in answers if answer.status == "no"]
    if answers and len(refused) == len(answers):
        return replace(refused[0], certainty=Certainty.INFERRED)
    if not answers or _generation(engine) < 13:
        return _fallback("layers", engine)
    if len({answer.status for answer in answers}) > 1:
        return None
    return replace(answers[0], certainty=Certainty.INFERRED)


@cache
def _limits() -> dict[str, tuple[Limit, ...]]:
    return {
        entry["name"]: tuple(
            Limit(
                name=entry["name"],
                title=entry["title"],
                value=verdict["value"],
                unit=entry["unit"],
                certainty=Certainty(verdict["certainty"]),
                sources=tuple(verdict["sources"].split()),
                conflict=verdict.get("conflict", entry.get("conflict", "")),
                span=parse(verdict["scope"]),
                operations=tuple(entry.get("operations", "").split()),
            )
            for verdict in entry["verdicts"]
        )
        for entry in _table("limits")["limit"]
    }


def limits() -> tuple[str, ...]:
    """The names of all limits, in the order of the table."""
    return tuple(_limits())


def limit_verdicts(name: str) -> tuple[Limit, ...]:
    """Everything the table says of a limit, scope by scope. Raises KeyError for a name that it does not have."""
    return _limits()[name]


@lru_cache(maxsize=1024)
def limit(name: str, engine: str, release: Release) -> Limit:
    """A limit on an engine generation and release.

    Raises ir.Unknown where no source gives one there, KeyError for a name that the table does not have.
    """
    found = innermost(limit_verdicts(name), _generation(engine), release)
    if found is None:
        title = limit_verdicts(name)[0].title
        raise Unknown(f"no source gives this limit for {engine} on {release_text(release)}: {title.lower()}")
    return found


@cache
def dtypes() -> tuple[Dtype, ...]:
    """Every element type with an entry, by role; types that share one are listed one by one."""
    return tuple(
        Dtype(name, entry["role"], tuple(_support(verdict, "") for verdict in entry["verdicts"]))
        for entry in _table("dtypes")["dtype"]
        for name in (entry["name"].split() if entry["role"] != "weights" else [entry["name"]])
    )


@lru_cache(maxsize=1024)
def dtype(name: str, role: str, engine: str, release: Release) -> Support:
    """What is known of an element type in a role ("compute", "border", "weights"); "unknown" where nothing is."""
    entries = next((entry.verdicts for entry in dtypes() if (entry.name, entry.role) == (name, role)), ())
    found = innermost(entries, _generation(engine), release)
    return found if found is not None else _fallback("operations", engine)


@cache
def sources() -> dict[str, Source]:
    """Every source by its key."""
    return {key: Source(key, **entry) for key, entry in _table("sources").items()}


def source(key: str) -> Source:
    """A source by its key. Raises KeyError where there is none."""
    return sources()[key]


@cache
def messages() -> tuple[Message, ...]:
    """Core ML's refusals in its own words."""
    return tuple(
        Message(
            code=entry["code"],
            text=entry["text"],
            about=entry["about"],
            seen=entry.get("seen", ""),
            sources=tuple(entry.get("sources", "core-ml-patterns").split()),
        )
        for entry in _table("messages")["message"]
    )


def rewrite(operation: str) -> str | None:
    """How to express an operation that the engine lacks, or None where no rewrite is known (``rewrites.toml``)."""
    entry = _table("rewrites")["rewrite"].get(operation)
    if entry is None:
        return None
    return f"{entry['text']}{'' if entry['exact'] else ' (approximate)'}"


def release_text(release: Release) -> str:
    """A release in words a reader of either platform knows: (17, 5) is "macOS 14.5 / iOS 17.5"."""
    ios = ".".join(map(str, release))
    if release[0] >= 26:
        return f"macOS {ios} / iOS {ios}"
    if release[0] < 14:
        return f"iOS {ios}"
    return f"macOS {'.'.join(map(str, (release[0] - 3, *release[1:])))} / iOS {ios}"


@cache
def digest() -> str:
    """A short digest of all tables: two reports with the same one were judged by the same knowledge."""
    folder = files("anecompat") / "knowledge"
    read = {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.name.endswith(".toml")}
    return hashlib.sha256(b"".join(name.encode() + b"\0" + read[name] for name in sorted(read))).hexdigest()[:12]

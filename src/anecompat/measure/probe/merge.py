"""Bundles to the tables' formats: the rows of published plans, and verdicts for ``knowledge/operations.toml``.

The text is for a person to look at before it goes into the tables; nothing is changed here.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anecompat.measure.probe.build import NAME
from anecompat.measure.trace import Trace, TraceError, TracePlacement
from anecompat.targets import parse_targets

COLUMNS = (
    "mode",
    "model",
    "op_index",
    "op_type",
    "op_name",
    "supported",
    "preferred",
    "cost_weight",
    "chip",
    "os",
    "compute_units",
    "note",
    "ran_on_engine",
    "message",
)
"""Those of the published M4 table, then two of our own."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a bundle."""

    probe: dict[str, Any]
    trace: Trace

    @property
    def probed(self) -> TracePlacement | None:
        """What Core ML said of the operation that the probe is about."""
        found = [p for p in self.trace.placements if p.outputs and p.outputs[0].split("_", 1)[0] == NAME]
        return found[0] if found else None

    @property
    def accepted(self) -> bool | None:
        """Whether the engine is supported for it; None where nobody said."""
        placement = self.probed
        if placement is None or (placement.supported is None and placement.backends is None):
            return None
        if placement.supported is not None:
            return "ANE" in placement.supported
        return "ane" in (placement.backends or ())


def read_bundle(path: str | Path) -> list[Entry]:
    """The entries of a bundle. TraceError says which line is wrong."""
    entries = []
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TraceError(f"{path}: the bundle cannot be read: {error}") from error
    if not lines or "bundle_version" not in lines[0]:
        raise TraceError(f"{path}: this is no probe bundle; its first line names no bundle_version")
    for number, line in enumerate(lines[1:], 2):
        try:
            data = json.loads(line)
            entries.append(Entry(data["probe"], Trace.from_json(json.dumps(data["trace"]))))
        except (ValueError, KeyError, TypeError, TraceError) as error:
            raise TraceError(f"{path}, line {number}: {error}") from error
    return entries


def rows(entries: Iterable[Entry]) -> Iterator[dict[str, str]]:
    """A row for each operation that Core ML's plan speaks of; a note where a probe has none."""
    for entry in entries:
        trace = entry.trace
        ran = trace.ran_on_engine()
        common = {
            "mode": "iso" if entry.probe["context"] == "alone" else "ctx",
            "model": entry.probe["name"],
            "chip": trace.device.chip,
            "os": trace.device.os,
            "compute_units": trace.compute_units,
        }
        placed = [placement for placement in trace.placements if placement.supported is not None]
        if not placed:
            reasons = "; ".join(reason for run in trace.runs for reason in run.reasons)
            yield {**dict.fromkeys(COLUMNS, ""), **common, "note": f"no plan: {reasons}"}
        for number, placement in enumerate(placed):
            known = ran.get(placement.index) if placement.index is not None else None
            yield {
                **dict.fromkeys(COLUMNS, ""),
                **common,
                "op_index": str(number),
                "op_type": placement.type,
                "op_name": placement.outputs[0] if placement.outputs else "",
                # the published tables list CPU first
                "supported": "|".join(d for d in ("CPU", "GPU", "ANE") if d in (placement.supported or ())),
                "preferred": placement.preferred or "",
                "cost_weight": "" if placement.cost is None else f"{placement.cost:.4f}",
                "ran_on_engine": "" if known is None else str(known).lower(),
                "message": " | ".join(placement.messages.get("ane", ())),
            }


def to_csv(entries: Iterable[Entry]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows(entries))
    return text.getvalue()


def to_toml(entries: Iterable[Entry], source: str) -> str:
    """Groups for ``operations.toml``, one an operation and device: yes, no, or conditional with what decided.

    ``source`` is the key of the bundle in ``sources.toml``. Operations that nobody spoke of are left out.
    """
    answers: dict[tuple[str, str, str], list[Entry]] = {}
    for entry in entries:
        if entry.accepted is not None:
            device = (entry.trace.device.chip, entry.trace.device.os)
            answers.setdefault((*device, entry.probe["op"]), []).append(entry)
    blocks = []
    for (chip, system, operation), found in sorted(answers.items()):
        accepted = [entry.probe["name"] for entry in found if entry.accepted]
        refused = [entry.probe["name"] for entry in found if not entry.accepted]
        status = "yes" if not refused else "no" if not accepted else "conditional"
        verdict = {"scope": scope(chip, system), "status": status, "certainty": "measured", "sources": source}
        if status == "conditional":
            verdict["condition"] = f"accepted: {', '.join(accepted)}; refused: {', '.join(refused)}"
        inside = ", ".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in verdict.items())
        title = f"Probed on {chip} with {system}: {len(accepted)} of {len(found)} accepted"
        blocks.append(
            "\n".join(
                [
                    "[[group]]",
                    f"title = {json.dumps(title)}",
                    f"operations = {json.dumps(operation)}",
                    "verdicts = [",
                    f"  {{ {inside} }},",
                    "]",
                ]
            )
        )
    return "\n\n".join(blocks) + "\n"


def scope(chip: str, system: str) -> str:
    """The scope of the tables for a device: ``H13 17`` is M1 with macOS 14. UsageError where the chip is unknown."""
    name, _, version = system.partition(" ")
    target = parse_targets([f"{chip}@{name.lower()}{version}"])[0]
    return f"{target.chip.engine} {target.system.release[0]}"


def boundaries(entries: Iterable[Entry]) -> dict[str, tuple[float | None, float | None]]:
    """For each sweep the greatest point accepted and the least refused above it."""
    sweeps: dict[str, list[tuple[float, bool]]] = {}
    for entry in entries:
        if entry.probe["sweep"] and entry.accepted is not None:
            sweeps.setdefault(entry.probe["sweep"], []).append((entry.probe["point"], entry.accepted))
    found: dict[str, tuple[float | None, float | None]] = {}
    for sweep, points in sorted(sweeps.items()):
        greatest = max((point for point, accepted in points if accepted), default=None)
        refused = [p for p, accepted in points if not accepted and (greatest is None or p > greatest)]
        found[sweep] = (greatest, min(refused, default=None))
    return found

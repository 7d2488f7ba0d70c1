"""Score the predictor against published measurements and write docs/score.md.

    python tools/score.py [--check]
    python tools/score.py --traces FOLDER [--models FOLDER]

Runs over ``../shared/truth`` (or $ANECOMPAT_SHARED/truth) where it is present, and over the evidence the repository
carries in ``tests/evidence``. The measures are kept apart: refusals (eligibility), placement, verdict, reason, unknown.
Nothing is pooled over runs. With --check nothing is written; the exit status says whether the targets are met.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import tempfile
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from anecompat.checking import check_model
from anecompat.costs import estimate, table_for
from anecompat.errors import AnecompatError
from anecompat.findings import Status, Verdict
from anecompat.ir import Model, number
from anecompat.measure.digest import structure_digest
from anecompat.measure.probe import probes, read_bundle
from anecompat.measure.probe.build import build
from anecompat.measure.trace import Trace, TraceError, load_trace
from anecompat.measured import from_trace
from anecompat.readers import read
from anecompat.readers.mil_text import parse_model
from anecompat.targets import parse_targets

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("ANECOMPAT_SHARED", ROOT.parent / "shared"))
TRUTH = SHARED / "truth"
PAGE = ROOT / "docs" / "score.md"


@dataclass
class Truth:
    """What was published of one model in one run: per operation, None where nothing was said."""

    name: str
    package: Path | Model
    target: str
    supported: list[bool | None]
    placed: list[str | None]
    reasons: dict[int, str] = field(default_factory=dict)
    all_units: bool = False


@dataclass
class Tally:
    """The measures of one run."""

    models: int = 0
    operations: int = 0
    unknown: int = 0
    right: int = 0
    refused_both: int = 0
    refused_ours: int = 0
    refused_theirs: int = 0
    placed_models: int = 0
    placed_right: int = 0
    placed_unknown: int = 0
    verdicts: int = 0
    verdicts_right: int = 0
    verdicts_unknown: int = 0
    false_full: int = 0
    reasons: int = 0
    reasons_right: int = 0
    misses: list[str] = field(default_factory=list)


def derived_status(supported: Iterable[bool]) -> Status:
    answers = list(supported)
    if all(answers):
        return Status.FULL
    return Status.PARTIAL if any(answers) else Status.NONE


def score(truths: Iterable[Truth]) -> Tally:
    """Predict every model of a run and count."""
    tally = Tally()
    for truth in truths:
        model = truth.package if isinstance(truth.package, Model) else read(str(truth.package))
        verdict = check_model(model, parse_targets([truth.target])).targets[0].verdict
        tally.models += 1
        if len(verdict.eligible) != len(truth.placed):
            tally.misses.append(f"{truth.name}: {len(verdict.eligible)} operations, {len(truth.placed)} published")
            continue
        _eligibility(truth, verdict, model, tally)
        _placement(truth, verdict, tally)
    return tally


def _eligibility(truth: Truth, verdict: Verdict, model: Model, tally: Tally) -> None:
    told = [(i, answer) for i, answer in enumerate(truth.supported) if answer is not None]
    operations = list(model.operations())
    for index, supported in told:
        ours = verdict.eligible[index]
        tally.operations += 1
        tally.unknown += ours is None
        tally.right += ours is supported
        tally.refused_ours += ours is False
        tally.refused_theirs += not supported
        tally.refused_both += ours is False and not supported
        if ours is not None and ours is not supported:
            tally.misses.append(
                f"{truth.name}: operation {index} {operations[index].type} is "
                f"{'accepted' if supported else 'refused'}, predicted otherwise"
            )
    if told and len(told) == len(truth.supported):
        expected = derived_status(answer for _, answer in told)
        tally.verdicts += 1
        tally.verdicts_right += verdict.status is expected
        tally.verdicts_unknown += verdict.status is Status.CANNOT_TELL
        if verdict.status is Status.FULL and expected is not Status.FULL:
            tally.false_full += 1
            tally.misses.append(f"{truth.name}: FALSE FULLY COMPATIBLE")
    for index, text in truth.reasons.items():
        tally.reasons += 1
        ours_text = [w.text for f in verdict.findings for w in f.also if index in w.operations]
        ours_text = ours_text or [f.core_ml_text for f in verdict.findings if index in f.operations]
        same = any(_same(text, candidate) for candidate in ours_text)
        tally.reasons_right += same
        if not same:
            tally.misses.append(f"{truth.name}: operation {index}: Core ML says {text!r}, ours {ours_text!r}")


def _same(theirs: str, ours: str) -> bool:
    """Whether two wordings name the same cause: equal, or the same int32 cause in another sentence."""
    if theirs.strip(". ") == ours.strip(". "):
        return True
    whole = "Unsupported tensor data type: int32"
    return ours == whole and (whole in theirs or "Failed to extract constant value" in theirs)


def _placement(truth: Truth, verdict: Verdict, tally: Tally) -> None:
    if any(device is None for device in truth.placed) or truth.all_units or verdict.forecast is None:
        return
    tally.placed_models += 1
    wrong, unknown = [], 0
    for index, device in enumerate(truth.placed):
        ours = verdict.forecast.placed[index]
        theirs = "ANE" if device == "ANE" else "CPU"
        if ours == theirs or theirs in verdict.forecast.alternatives.get(index, ()):
            continue
        if ours is None:
            unknown += 1
        else:
            wrong.append(index)
    if wrong:
        tally.misses.append(
            f"{truth.name}: placement differs at operations {wrong[:8]}{'...' if len(wrong) > 8 else ''}"
        )
    tally.placed_right += not wrong and not unknown
    tally.placed_unknown += not wrong and unknown > 0


# ---- M4 dispatch -----------------------------------------------------------------------------------------------------


def m4_truths() -> Iterator[Truth]:
    folder = TRUTH / "m4_dispatch"
    rows: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    with open(folder / "truth.csv", newline="") as file:
        for row in csv.DictReader(file):
            if row["op_type"] and row["compute_units"] == "cpuAndNE":
                rows[row["mode"], row["model"]].append(row)
    texts = _m4_messages(folder)
    for (mode, name), entries in rows.items():
        costed = entries[0]["cost_weight"] != "-"
        yield Truth(
            f"{mode}/{name}",
            folder / "packages" / mode / f"{name}.mlpackage",
            "M4@macos27",
            [("ANE" in row["supported"]) if row["supported"] != "-" else None for row in entries],
            [row["preferred"] if costed else None for row in entries],
            texts.get((mode, name), {}) if costed else {},
        )


def _m4_messages(folder: Path) -> dict[tuple[str, str], dict[int, str]]:
    texts: dict[tuple[str, str], dict[int, str]] = defaultdict(dict)
    with open(folder / "estimates.csv", newline="") as file:
        for row in csv.DictReader(file):
            if row["ane_validation_message"]:
                texts[row["mode"], row["model"]][int(row["op_index"])] = row["ane_validation_message"]
    return texts


def m4_estimates() -> tuple[int, int, list[str]]:
    """How many published estimates come out within 1 %, of how many; and the others."""
    folder = TRUTH / "m4_dispatch"
    table, _ = table_for("H16", 27)
    right = total = 0
    others: list[str] = []
    with open(folder / "estimates.csv", newline="") as file:
        for row in csv.DictReader(file):
            model = read(str(folder / "packages" / row["mode"] / f"{row['model']}.mlpackage"))
            ours = estimate(list(model.operations())[int(row["op_index"])], table)
            good = True
            for column, value in (
                ("est_ane_ms", ours.ane),
                ("est_bnns_ms", ours.bnns),
                ("est_classic_cpu_ms", ours.classic),
            ):
                if row[column] not in ("", "-"):
                    published = float(row[column])
                    good = good and abs(value - published) <= 0.01 * published
            total += 1
            right += good
            if not good:
                others.append(f"{row['mode']}/{row['model']}: {row['op_type']}")
    return right, total, others


# ---- Real models -----------------------------------------------------------------------------------------------------

_RUNS = {
    "M4 Pro (Mac16,11)": "M4 Pro@macos26.5",
    "M5 Max": "M5 Max@macos26.6",
    "M1 (H13G)": "M1@macos14.5",
    "M5": "M5@macos26",
}


def _package(folder: Path, name: str) -> Path:
    if name.startswith("../models/"):
        return next((SHARED / "models" / name.removeprefix("../models/")).iterdir())
    return folder / name


def real_truths() -> Iterator[tuple[str, list[Truth]]]:
    folder = TRUTH / "real_models"
    rows: dict[tuple[str, str, str, str], list[dict[str, str]]] = defaultdict(list)
    with open(folder / "truth.csv", newline="") as file:
        for row in csv.DictReader(file):
            if row["package"] and not row["package_op"].startswith("("):
                rows[row["chip"], row["os"], row["compute_units"], row["model"]].append(row)
    for (chip, system, units, name), entries in rows.items():
        target = next((text for prefix, text in _RUNS.items() if chip.startswith(prefix)), None)
        if target is None:
            continue
        target = f"{target.split('@')[0]}@{system.split(' (')[0].replace(' ', '').lower().removesuffix('.x')}"
        # "unstated" units on M1 kept everything eligible on the engine, as CPU and Neural Engine do.
        everything = units == "ALL"
        yield (
            f"{name}, {chip}, {system}, {units}",
            [
                Truth(
                    name,
                    _package(folder, entries[0]["package"]),
                    target,
                    [("ANE" in row["supported"]) if row["supported"] else None for row in entries],
                    [row["preferred"] or None for row in entries],
                    {
                        i: row["reason"]
                        for i, row in enumerate(entries)
                        if row["reason"] and row["supported"] and "ANE" not in row["supported"]
                    },
                    all_units=everything,
                )
            ],
        )


# ---- Observations ----------------------------------------------------------------------------------------------------


@dataclass
class Observed:
    """One published observation that can be rebuilt, and how the prediction compares."""

    id: str
    chip: str
    outcome: str
    ours: str
    right: bool | None
    note: str = ""


def observations() -> list[Observed]:
    """The observations whose model is among the fixtures, with the outcome (all, part or none on the engine)."""
    results: list[Observed] = []
    with open(TRUTH / "observations.jsonl", encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            package = TRUTH / "fixtures" / "packages" / f"{record['model'].get('name')}.mlpackage"
            if record["model"].get("kind") == "fixture" and package.exists():
                results.append(_observed(record, package))
    return results


def _target_of(record: dict[str, str]) -> tuple[str, str]:
    chip = record["chip"].split(" (")[0]
    note = ""
    if chip.startswith("unstated"):
        chip, note = "M1 Max", "chip not stated, M1 Max taken"
    system = record["os"].split(" (")[0]
    words = system.split()
    if len(words) == 2 and words[1][0].isdigit():
        return f"{chip}@{words[0].lower()}{words[1]}", note
    return chip, (note + "; " if note else "") + "system not stated, the last one taken"


def _observed(record: dict, package: Path) -> Observed:
    target, note = _target_of(record)
    verdict = check_model(read(str(package)), parse_targets([target])).targets[0].verdict
    assert verdict.forecast is not None
    devices = [
        None if d is None and i not in verdict.forecast.alternatives else (d or "ANE")
        for i, d in enumerate(verdict.forecast.placed)
    ]
    seen = record["observed"]
    total = seen.get("total_ops", len(devices))
    on_engine = seen.get("ane_ops")
    if on_engine is None:
        preferred = [op.get("preferred") for op in seen.get("ops", [])]
        on_engine = total if preferred and all(p == "ane" for p in preferred) else 0 if preferred else None
        if seen.get("status", "").startswith("on ANE"):
            on_engine = total
    ours = sum(1 for device in devices if device == "ANE")
    undecided = sum(1 for device in devices if device is None)
    ties = len(verdict.forecast.alternatives)

    def word(count: int) -> str:
        return "all" if count == total else "none" if count == 0 else f"{count} of {total}"

    if undecided:
        return Observed(record["id"], target, word(on_engine), f"cannot tell ({undecided} open)", None, note)
    right = ours == on_engine or (on_engine in range(ours - ties, ours + ties + 1))
    return Observed(record["id"], target, word(on_engine), word(ours), right, note)


# ---- The repository's own evidence -----------------------------------------------------------------------------------


def evidence() -> Iterator[tuple[str, list[Truth]]]:
    """Models of our own with published answers as cited facts: tests/evidence/*.toml."""
    for path in sorted((ROOT / "tests" / "evidence").glob("*.toml")):
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        yield f"{path.stem} ({data['source']})", [evidence_case(data["target"], case) for case in data["case"]]


def evidence_case(target: str, case: dict) -> Truth:
    """One case of an evidence file: a function body in MIL text with its published answers ("?" where none was)."""
    inputs = case.get("inputs", "tensor<fp16, [1, 64, 32, 32]> x")
    text = f"func main<{case.get('opset', 'ios18')}>({inputs}) {{\n{case['body']}}} -> (out);\n"
    model = number(parse_model(text, case["name"]))
    supported = [None if answer == "?" else bool(answer) for answer in case["supported"]]
    reasons = {int(index): reason for index, reason in case.get("reasons", {}).items()}
    return Truth(case["name"], model, target, supported, list(case.get("placed", [None] * len(supported))), reasons)


# ---- Traces that volunteers send ----


def traces(folder: Path, models: Path) -> Iterator[tuple[str, list[Truth]]]:
    """Measurements of our own kind: trace.json files and probe bundles (*.jsonl), each scored as a run.

    A trace names its model by a digest of the graph; the model is looked for under ``models``. The models of a bundle
    are built again, which needs coremltools.
    """
    known: dict[str, Model] = {}
    for path in sorted(folder.rglob("*.json")):
        try:
            trace = load_trace(path)
        except TraceError as error:
            print(f"{path.name}: {error}", file=sys.stderr)
            continue
        if not known:
            known = _by_structure(models)
        model = known.get(trace.model.structure)
        if model is None:
            print(f"{path.name}: no model under {models} has its graph", file=sys.stderr)
        else:
            yield _trace_name(path, trace), [_trace_truth(path.stem, trace, model)]
    for path in sorted(folder.rglob("*.jsonl")):
        with tempfile.TemporaryDirectory() as scratch:
            names = {probe.name: probe for probe in probes()}
            entries = [entry for entry in read_bundle(path) if entry.probe["name"] in names]
            found = [
                _trace_truth(
                    entry.probe["name"], entry.trace, read(str(build(names[entry.probe["name"]], Path(scratch))))
                )
                for entry in entries
            ]
        if found:
            yield _trace_name(path, entries[0].trace), found


def _by_structure(models: Path) -> dict[str, Model]:
    known: dict[str, Model] = {}
    suffixes = (".mlpackage", ".mlmodel", ".mlmodelc", ".mil")
    for path in sorted(each for each in models.rglob("*") if each.suffix in suffixes):
        if any(parent.suffix in suffixes for parent in path.relative_to(models).parents):
            continue
        try:
            model = read(str(path))
        except AnecompatError:
            continue
        known[structure_digest(model)] = model
    return known


def _trace_name(path: Path, trace: Trace) -> str:
    return f"{path.name}: {trace.device.chip}, {trace.device.os}, {trace.compute_units}"


def _trace_truth(name: str, trace: Trace, model: Model) -> Truth:
    seen = from_trace(trace, model).targets[0].verdict
    assert seen.forecast is not None
    target = f"{trace.device.chip.removeprefix('Apple ')}@{trace.device.os.replace(' ', '').lower()}"
    everything = trace.compute_units != "cpu-and-ne"
    reasons = {i: f.core_ml_text for f in seen.findings if f.core_ml_text for i in f.operations}
    return Truth(name, model, target, list(seen.eligible), list(seen.forecast.placed), reasons, everything)


# ---- The page --------------------------------------------------------------------------------------------------------


def percent(part: int, whole: int) -> str:
    return "-" if not whole else f"{100 * part / whole:.1f} %"


def row(name: str, tally: Tally) -> str:
    precision = percent(tally.refused_both, tally.refused_ours)
    recall = percent(tally.refused_both, tally.refused_theirs)
    return (
        f"| {name} | {tally.models} | {tally.operations} | {percent(tally.right, tally.operations)} | {precision} | "
        f"{recall} | {percent(tally.unknown, tally.operations)} | {percent(tally.placed_right, tally.placed_models)} | "
        f"{percent(tally.verdicts_right, tally.verdicts)} | {tally.false_full} | "
        f"{percent(tally.reasons_right, tally.reasons)} |"
    )


HEAD = (
    "| run | models | operations | eligibility right | refusal precision | recall | unknown | placement right | "
    "verdict right | false full | reason right |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--check", action="store_true", help="write nothing")
    options.add_argument(
        "--traces", type=Path, help="score these measurements instead: trace.json files, probe bundles"
    )
    options.add_argument("--models", type=Path, default=SHARED / "models", help="where the models of traces lie")
    chosen = options.parse_args()
    if chosen.traces is not None:
        print(HEAD)
        failed = False
        for name, truths in traces(chosen.traces, chosen.models):
            tally = score(truths)
            failed = failed or tally.false_full > 0
            print(row(name, tally), *(f"\n  {miss}" for miss in tally.misses), sep="")
        return 1 if failed else 0
    lines = [
        "# The score",
        "",
        "Written by `make score`. Predictions against published measurements, run by run; nothing is pooled.",
        "",
    ]
    misses: list[str] = []
    lines += ["## Evidence the repository carries", "", HEAD]
    for name, truths in evidence():
        tally = score(truths)
        lines.append(row(name, tally))
        misses += tally.misses
    if TRUTH.is_dir():
        lines += ["", "## Published measurements", "", HEAD]
        tally = score(m4_truths())
        lines.append(row("M4 dispatch, macOS 27.0.1, CPU and Neural Engine", tally))
        misses += tally.misses
        for name, truths in real_truths():
            tally = score(truths)
            lines.append(row(name, tally))
            misses += tally.misses
        right, total, others = m4_estimates()
        lines += ["", f"M4 estimates within 1 % of the published ones: {right} of {total} ({percent(right, total)})."]
        if others:
            lines.append(f"The others: {', '.join(sorted(set(others)))} (one shape each was published).")
        seen = observations()
        decided = [entry for entry in seen if entry.right is not None]
        good = sum(1 for entry in decided if entry.right)
        open_ones = len(seen) - len(decided)
        lines += ["", "## Observations that can be rebuilt", ""]
        lines += [
            f'{good} of {len(seen)} come out ({percent(good, len(seen))}); {open_ones} are answered "cannot tell".'
        ]
        lines += ["", "| observation | predicted for | published on the engine | predicted | right | note |"]
        lines += ["|---|---|---|---|---|---|"]
        for entry in seen:
            verdict = "-" if entry.right is None else "yes" if entry.right else "**no**"
            lines.append(f"| {entry.id} | {entry.chip} | {entry.outcome} | {entry.ours} | {verdict} | {entry.note} |")
    else:
        print(
            "the material beside the project (../shared/truth) is absent: only the repository's own evidence is scored"
        )
    lines += ["", "## What does not come out", ""]
    lines += [f"- {miss}" for miss in misses] or ["Nothing."]
    page = "\n".join(lines) + "\n"
    print(page)
    if not chosen.check and TRUTH.is_dir():
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

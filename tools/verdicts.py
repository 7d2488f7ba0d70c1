"""Compare every answer on the corpus with the committed ones, so that a changed answer shows in review.

    python tools/verdicts.py [--accept]

The corpus: the examples, the models of tests/evidence and, where it is present, ``../shared/models`` (or
$ANECOMPAT_SHARED/models). Without that only the lines of the first two are compared. Prints what changed and exits with
1 where anything did; ``--accept`` rewrites tests/golden/verdicts.txt instead.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from anecompat.checking import Report, check_model
from anecompat.errors import AnecompatError
from anecompat.findings import Effect, Status, Verdict
from anecompat.ir import Model
from anecompat.readers import read
from anecompat.targets import Target, default_targets, parse_targets
from score import ROOT, SHARED, evidence

GOLDEN = ROOT / "tests" / "golden" / "verdicts.txt"
OLDER = ("M1@macos12", "M1@macos14", "M2@macos26", "M4@macos15", "A17 Pro@ios17")
"""Systems asked about beside each chip's last one: the places where published answers change."""

Answers = dict[tuple[str, str], str]
"""(model, target) -> the answer. A target is an engine and a release as iOS counts it: H16@27."""

HEAD = """\
# The answers of `make verdicts`: model | status, eligible/all, segments, on the engine by forecast, causes | targets
# A cause is a rule with the number of operations it stops. "+3?" after the eligible ones: 3 are
# unknown; after the forecast: 3 cannot be placed.
# A target is an engine and a release as iOS counts:
"""


def name_of(target: Target) -> str:
    major, minor = (*target.system.release, 0)[:2]
    return f"{target.engine}@{major}" + (f".{minor}" if minor else "")


def targets() -> dict[str, list[Target]]:
    """Every engine and release to ask about, with the chips that have them."""
    found: dict[str, list[Target]] = defaultdict(list)
    for target in (*default_targets(), *parse_targets(OLDER)):
        found[name_of(target)].append(target)
    return dict(sorted(found.items(), key=lambda item: (item[1][0].engine, item[1][0].system.release)))


def words(verdict: Verdict) -> str:
    """One answer as text."""
    done, total = verdict.share
    placed = verdict.forecast.placed if verdict.forecast is not None else ()
    causes: dict[str, int] = defaultdict(int)
    for finding in verdict.findings:
        if finding.effect in (Effect.REFUSED, Effect.UNKNOWN, Effect.BLOCKS):
            causes[finding.rule] += len(finding.operations)
    named = " ".join(f"{rule}:{count}" if count else rule for rule, count in sorted(causes.items()))
    eligible = f"{done}{_open(verdict.eligible.count(None))}/{total}"
    forecast = f"{placed.count('ANE')}{_open(placed.count(None))}"
    return f"{int(verdict.status)} {eligible} {len(verdict.segments)} {forecast} {named or '-'}"


def _open(count: int) -> str:
    return f"+{count}?" if count else ""


def corpus() -> Iterator[tuple[str, Path | Model]]:
    """Every model, as (name, where it is)."""
    for path in sorted((ROOT / "examples").glob("*.mlpackage")):
        yield f"examples/{path.stem}", path
    for run, truths in evidence():
        for truth in truths:
            yield f"evidence/{run.split()[0]}/{truth.name}", truth.package
    index = SHARED / "models" / "INDEX.jsonl"
    if index.is_file():
        with open(index, encoding="utf-8") as file:
            for slug in sorted(json.loads(line)["slug"] for line in file):
                yield f"models/{slug}", SHARED / "models" / slug


def answers(asked: Mapping[str, list[Target]]) -> Answers:
    found: Answers = {}
    for name, source in corpus():
        try:
            model = source if isinstance(source, Model) else read(str(source))
            report: Report = check_model(model, [each[0] for each in asked.values()])
        except AnecompatError as error:
            found.update({(name, target): f"error {error.status}" for target in asked})
            continue
        for target, entry in zip(asked, report.targets, strict=True):
            found[name, target] = words(entry.verdict)
    return found


def text_of(found: Answers, asked: Mapping[str, list[Target]]) -> str:
    """The golden file: a line for each model and distinct answer, targets that agree together."""
    lines = HEAD
    for name, each in asked.items():
        lines += f"#   {name}: {'; '.join(str(target) for target in each)}\n"
    by_model: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for (model, target), answer in found.items():
        by_model[model][answer].append(target)
    for model, by_answer in by_model.items():
        for answer, agreeing in by_answer.items():
            lines += f"{model} | {answer} | {' '.join(agreeing)}\n"
    return lines


def parse(text: str) -> Answers:
    found: Answers = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            model, answer, agreeing = line.split(" | ")
            found.update({(model, target): answer for target in agreeing.split()})
    return found


def differences(old: Answers, new: Answers) -> list[str]:
    """What changed, model by model, targets that changed alike together; new full verdicts first."""
    changes: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for model, target in {**old, **new}:
        before, after = old.get((model, target), "nothing"), new.get((model, target), "nothing")
        if before != after:
            changes[model, before, after].append(target)
    full = str(int(Status.FULL))

    def weight(change: tuple[str, str, str]) -> tuple[bool, str]:
        _, before, after = change
        return (not (after.split()[0] == full != before.split()[0]), change[0])

    lines = []
    for model, before, after in sorted(changes, key=weight):
        mark = "  NOW FULLY COMPATIBLE" if not weight((model, before, after))[0] else ""
        lines += [f"{model} on {' '.join(changes[model, before, after])}{mark}", f"  - {before}", f"  + {after}"]
    return lines


def only(found: Answers, present: Iterable[str]) -> Answers:
    """The answers of the parts of the corpus that are present here."""
    kept = tuple(f"{part}/" for part in present)
    return {key: answer for key, answer in found.items() if key[0].startswith(kept)}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--accept", action="store_true", help="rewrite the committed answers")
    chosen = options.parse_args()
    asked = targets()
    new = answers(asked)
    old = parse(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.is_file() else {}
    parts = {"examples", "evidence"} | {model.split("/")[0] for model, _ in new}
    if "models" not in parts:
        print("the material beside the project (../shared/models) is absent: examples and evidence alone are compared")
    changed = differences(only(old, parts), new)
    print("\n".join(changed) if changed else f"{len({model for model, _ in new})} models: no answer changed")
    if chosen.accept:
        absent = {key: answer for key, answer in old.items() if key not in only(old, parts)}
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text_of(new | absent, asked), encoding="utf-8")
        return 0
    if changed:
        print("\nIf these answers are better, accept them: python tools/verdicts.py --accept, and commit the file.")
    return int(bool(changed))


if __name__ == "__main__":
    sys.exit(main())

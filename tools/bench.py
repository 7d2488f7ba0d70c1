"""The benchmark: times as ratios within one run, coremltools in an environment without torch as the peer.

    python tools/bench.py [--runs 3] [--quick]

Every figure is the median of several fresh processes; memory is the largest resident size of such a process. Writes
docs/benchmark.md. The models are made by tools/large_models.py in a temporary folder; the 99 real models and the
prototype parser are used where ../shared is present.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("ANECOMPAT_SHARED", ROOT.parent / "shared"))
PAGE = ROOT / "docs" / "benchmark.md"


@dataclass(frozen=True)
class Figure:
    """Median seconds and megabytes over the runs."""

    seconds: float
    megabytes: float


def measured(code: str, *arguments: str, runs: int = 3) -> Figure:
    """Run Python code in fresh processes. It may print the seconds it took itself; else the whole process counts."""
    seconds: list[float] = []
    memory: list[float] = []
    for _ in range(runs):
        start = time.perf_counter()
        child = subprocess.run(
            [sys.executable, "-c", _REPORT + code, *arguments], capture_output=True, text=True, check=False
        )
        wall = time.perf_counter() - start
        if child.returncode != 0:
            sys.exit(f"the benchmark's child failed:\n{child.stderr[-2000:]}")
        told = [line for line in child.stdout.splitlines() if line.startswith("TOOK ")]
        seconds.append(float(told[-1].split()[1]) if told else wall)
        memory.append(float(child.stderr.strip().splitlines()[-1].split()[-1]) / 1024)
    return Figure(statistics.median(seconds), statistics.median(memory))


_REPORT = """
import atexit, resource, sys, time
atexit.register(lambda: print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr))
"""
_CHECK = """
from anecompat.cli import main
import contextlib, io
with contextlib.redirect_stdout(io.StringIO()): main(["check", *sys.argv[1:], "--format", "json"])
"""
_READ = """
from anecompat.readers import read
read(sys.argv[2])  # imports count elsewhere, as they do for the peer
start = time.perf_counter(); read(sys.argv[1]); print("TOOK", time.perf_counter() - start)
"""
_LOAD_SPEC = """
import logging; logging.disable(50)
import coremltools
start = time.perf_counter(); coremltools.utils.load_spec(sys.argv[1]); print("TOOK", time.perf_counter() - start)
"""
_MLMODEL = """
import logging; logging.disable(50)
import coremltools
start = time.perf_counter(); coremltools.models.MLModel(sys.argv[1], skip_model_load=True)
print("TOOK", time.perf_counter() - start)
"""
_UPB = """
from anecompat.proto import Model
data = open(sys.argv[1], "rb").read()
start = time.perf_counter(); Model.FromString(data); print("TOOK", time.perf_counter() - start)
"""
_MIL = """
from anecompat.readers.mil_text import parse_program
text = open(sys.argv[1]).read()
start = time.perf_counter(); parse_program(text); print("TOOK", time.perf_counter() - start)
"""
_PROTOTYPE = """
import importlib.util
found = importlib.util.spec_from_file_location("prototype", sys.argv[2])
module = importlib.util.module_from_spec(found); found.loader.exec_module(module)
text = open(sys.argv[1]).read()
start = time.perf_counter(); module.parse(text); print("TOOK", time.perf_counter() - start)
"""
_CORPUS = """
import contextlib, io, json, pathlib
from anecompat.cli import main
folder = pathlib.Path(sys.argv[1])
models = [str(p) for row in open(folder / "INDEX.jsonl") for p in sorted((folder / json.loads(row)["slug"]).iterdir())]
sink = io.StringIO()
with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(io.StringIO()):
    main(["check", *models, "--format", "json", "--quiet"])
"""
_MODULES = """
import sys
before = set(sys.modules)
import anecompat
third = {m.split(".")[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names) - {"anecompat"}
assert not {t for t in third if t not in ("google",)}, third
"""


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--check", action="store_true", help="exit 1 where a goal is missed; write nothing")
    chosen = options.parse_args()
    if importlib.util.find_spec("torch"):
        print("torch is installed here: the peer would import it too; use an environment without it", file=sys.stderr)
        return 2
    runs = chosen.runs
    rows: list[tuple[str, str, str, str, bool]] = []

    def row(work: str, ours: str, peer: str, goal: str, met: bool) -> None:
        rows.append((work, ours, peer, goal, met))
        print(f"{'ok  ' if met else 'MISS'} {work}: {ours}; {peer}; goal {goal}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        subprocess.run([sys.executable, str(ROOT / "tools" / "large_models.py"), folder], check=True)
        legacy, package = str(made / "legacy500.mlmodel"), str(made / "weights1g.mlpackage")
        nothing = measured("", runs=runs)
        peer = measured("import logging; logging.disable(50)\nimport coremltools", runs=runs)
        ours = measured(_MODULES, runs=runs)
        ratio = max(ours.seconds - nothing.seconds, 0) / (peer.seconds - nothing.seconds)
        row(
            "import anecompat",
            f"{1e3 * (ours.seconds - nothing.seconds):.0f} ms beyond the interpreter",
            f"import coremltools {1e3 * (peer.seconds - nothing.seconds):.0f} ms",
            "at most 1/5, no third party but protobuf",
            ratio <= 0.2,
        )
        fast = measured(_READ, legacy, str(made / "legacy1.mlmodel"), runs=runs)
        slow = measured(_LOAD_SPEC, legacy, runs=runs)
        slower = measured(_MLMODEL, legacy, runs=runs)
        row(
            "read a 500 MB .mlmodel, in process",
            f"{1e3 * fast.seconds:.1f} ms, {fast.megabytes:.0f} MB",
            f"load_spec {1e3 * slow.seconds:.0f} ms, {slow.megabytes:.0f} MB; MLModel {1e3 * slower.seconds:.0f} ms",
            "50 times faster, under 40 MB",
            slow.seconds >= 50 * fast.seconds and fast.megabytes < 40,
        )
        for work, path in (
            ("check the same file, all chips, JSON", legacy),
            ("check 1 GB of weights, all chips, JSON", package),
        ):
            whole = measured(_CHECK, path, runs=runs)
            row(
                f"whole command: {work}",
                f"{whole.seconds:.2f} s, {whole.megabytes:.0f} MB",
                f"import coremltools {peer.seconds:.2f} s",
                "faster",
                whole.seconds < peer.seconds,
            )
        upb = measured(_UPB, str(made / "ops20000.mlpackage/Data/com.apple.CoreML/model.mlmodel"), runs=runs)
        large = measured(_CHECK, str(made / "ops20000.mlpackage"), "--target", "M4", runs=runs)
        row(
            "20,000 operations, read to JSON, one chip",
            f"{large.seconds:.2f} s, {large.megabytes:.0f} MB",
            f"bare parse {1e3 * upb.seconds:.0f} ms",
            "3 bare parses plus 2 s, under 400 MB",
            large.seconds <= 3 * upb.seconds + 2 and large.megabytes < 400,
        )
        text = made / "ops20000.mil"
        parsed = measured(_MIL, str(text), runs=runs)
        prototype = SHARED / "feasibility" / "prototypes" / "reading" / "milparse.py"
        size = text.stat().st_size / 1e6
        if prototype.exists():
            old = measured(_PROTOTYPE, str(text), str(prototype), runs=runs)
            row(
                f"{size:.0f} MB of MIL text, 20,000 operations",
                f"{parsed.seconds:.2f} s, {parsed.megabytes:.0f} MB",
                f"prototype {old.seconds:.2f} s",
                "under 2 times",
                parsed.seconds < 2 * old.seconds,
            )
        if (SHARED / "models" / "INDEX.jsonl").exists():
            corpus = measured(_CORPUS, str(SHARED / "models"), runs=runs)
            count = len((SHARED / "models" / "INDEX.jsonl").read_text(encoding="utf-8").splitlines())
            row(
                f"{count} real models, all chips, one process, JSON",
                f"{corpus.seconds:.2f} s, {corpus.megabytes:.0f} MB",
                f"import coremltools {peer.seconds:.2f} s",
                "under 6 times",
                corpus.seconds < 6 * peer.seconds,
            )
        growth = {
            n: measured(_CHECK, str(made / f"ops{n}.mlpackage"), "--target", "M4", runs=runs)
            for n in (5000, 10000, 20000, 40000)
        }
        base = measured(_CHECK, str(ROOT / "examples" / "VisionBody.mlpackage"), "--target", "M4", runs=runs).seconds
        per = {n: (figure.seconds - base) / n * 1e6 for n, figure in growth.items()}
        row(
            "5k, 10k, 20k, 40k operations",
            ", ".join(f"{figure.seconds:.2f} s" for figure in growth.values()),
            ", ".join(f"{value:.0f} µs an operation" for value in per.values()),
            "linear (within 1.6 times an operation)",
            per[40000] <= 1.6 * per[5000],
        )
    page = [
        "# The benchmark",
        "",
        "Written by `make bench`: medians of fresh processes in one run; coremltools 9.0 without torch is the peer.",
        "",
        "| work | anecompat | beside it | goal | met |",
        "|---|---|---|---|---|",
    ]
    page += [
        f"| {work} | {ours_} | {peer_} | {goal} | {'yes' if met else '**no**'} |"
        for work, ours_, peer_, goal, met in rows
    ]
    if not chosen.check:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text("\n".join(page) + "\n", encoding="utf-8")
    return 0 if all(met for *_, met in rows) else 1


if __name__ == "__main__":
    sys.exit(main())

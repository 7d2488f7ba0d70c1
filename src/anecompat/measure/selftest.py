"""``python -m anecompat.measure.selftest``: what the first person with a Mac runs, and sends us.

It compares every declaration with the system's own, runs both control models through the whole measurement, and prints
JSON: chip, system, differences, which hooks exist and fired, how each control ended. It needs no model of yours, and
names no file, no user and no serial number.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import anecompat
from anecompat.measure import control, device
from anecompat.measure.objc import declarations
from anecompat.measure.objc.encoding import matches
from anecompat.measure.objc.runtime import BridgeError, Runtime, runtime
from anecompat.measure.session import measure
from anecompat.measure.text import without_paths
from anecompat.measure.trace import Trace


def differences(bridge: Runtime) -> list[str]:
    """Every declared class or selector that this system lacks or types otherwise."""
    found = []
    for framework in ("CoreVideo", "IOSurface", "CoreML", "AppleNeuralEngine"):
        try:
            bridge.framework(framework)
            for name in declarations.C_FUNCTIONS.get(framework, ()):
                bridge.function(framework, name)
        except BridgeError as error:
            found.append(str(error))
    for class_name, selectors in declarations.CLASSES.items():
        if not bridge.find_class(class_name):
            found.append(f"{class_name}: no such class")
            continue
        for written in selectors.split():
            selector = written.removeprefix("+")
            find = bridge.class_method if written.startswith("+") else bridge.instance_method
            method = find(class_name, selector)
            if method is None:
                found.append(f"{class_name} {written}: no such method")
                continue
            there, expected = bridge.method_encoding(method), declarations.SELECTORS[selector]
            if not matches(there, expected):
                found.append(f"{class_name} {written}: has {there}, expected {expected}")
    return found


def compare() -> dict[str, Any]:
    """The comparison, in this process."""
    bridge = runtime()
    unlike = differences(bridge)
    about = device.describe(bridge)
    return {
        "flavour": str(bridge.flavour),
        "chip": about.chip,
        "os": about.os,
        "os_build": about.os_build,
        "engine": about.engine,
        "differences": unlike,
    }


def told(trace: Trace) -> dict[str, Any]:
    """What matters of a control's trace."""
    (run,) = trace.runs
    return {
        "status": str(trace.status),
        "reasons": run.reasons,
        "evaluations": [{"methods": s.methods, "key": s.key, "names from": s.names_from} for s in run.segments],
        "hooks": {hook.method: f"{hook.state} {hook.found}".strip() for hook in run.hooks},
        "providers": {p.name: "answered" if p.answered else p.detail for p in run.providers},
        "preferred": [placement.preferred for placement in run.placements],
        "timings": run.timings,
        "warnings": trace.warnings,
    }


def run() -> dict[str, Any]:
    """The whole self-test. The comparison runs in a child, for a wrong declaration may crash it."""
    report: dict[str, Any] = {"anecompat": anecompat.__version__, "python": sys.version.split()[0]}
    reason = device.available()
    if reason:
        return {**report, "unavailable": reason}
    child = [sys.executable, "-m", "anecompat.measure.selftest", "--compare"]
    done = subprocess.run(child, capture_output=True, text=True, timeout=120, check=False)
    try:
        report |= json.loads(done.stdout)
    except ValueError:
        report["comparison"] = without_paths(f"ended with {done.returncode}: {done.stderr[-500:]}")
    with tempfile.TemporaryDirectory(prefix="anecompat-") as folder:
        for kind in ("mlProgram", "neuralNetwork"):
            path = control.write(Path(folder), kind)
            for cache, cold in (("cold", True), ("warm", False)):
                trace = measure(path, compute_units=control.COMPUTE_UNITS, timeout=300, cold=cold)
                report[f"control {kind}, {cache} cache"] = told(trace)
    return report


if __name__ == "__main__":
    print(json.dumps(compare() if "--compare" in sys.argv else run(), indent=1))

"""The process that touches Core ML: ``python -m anecompat.measure.child FD`` reads a job and tells what happens.

It may crash, hang or be killed at any moment, so it says each thing as soon as it knows it: one JSON object a line on
the file descriptor FD. The job is one line of JSON on standard input, which stays open. What Core ML prints goes to
standard error.

    {"event": "phase", "name": "load"}            what it is about to do, with the seconds since the start
    {"event": "exception", ...}                   an Objective-C exception is being thrown
    {"event": "survived"}                         an evaluation that had thrown came back nevertheless
    {"event": "evaluation", ...}                  one evaluation on the engine ended
    {"event": "failed", "status": 6, ...}         the end: a refusal of Core ML, or of ours
    {"event": "done"}                             the end
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from anecompat.errors import AnecompatError
from anecompat.measure import analytics, control, coreml, device, dumps, inputs, plan
from anecompat.measure.intercept import Evaluation, Interceptor
from anecompat.measure.objc import exceptions, hooks
from anecompat.measure.objc.declarations import Role
from anecompat.measure.objc.encoding import EncodingError
from anecompat.measure.objc.runtime import BridgeError, Runtime, runtime
from anecompat.measure.record import Recorder, feature
from anecompat.measure.trace import TracePlacement

_MOST_EXCEPTIONS = 50
Emit = Callable[[dict[str, Any]], None]


class Teller:
    """Writes events as whole lines, from any thread."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._started = time.monotonic()

    def __call__(self, event: dict[str, Any]) -> None:
        event.setdefault("at", time.monotonic() - self._started)
        line = memoryview(json.dumps(event).encode() + b"\n")
        with self._lock:
            while line:
                line = line[os.write(self._descriptor, line) :]


def _phase(emit: Emit, name: str) -> None:
    emit({"event": "phase", "name": name})


def _listen(bridge: Runtime, emit: Emit) -> None:
    heard = 0

    def tell(name: str, reason: str) -> None:
        nonlocal heard
        heard += 1
        inside = hooks.thrown()
        if inside or heard <= _MOST_EXCEPTIONS:
            emit({"event": "exception", "name": name, "reason": reason, "inside": inside, "thread": _thread()})

    if not exceptions.listen(bridge, tell):
        emit({"event": "warning", "text": "exceptions cannot be heard on this system; one would be a bare crash"})


def _thread() -> int:
    return threading.get_native_id()


def predict(job: dict[str, Any], emit: Emit) -> None:
    """Compile, load, predict under the interceptor; then, if nothing reached the engine, run the control model."""
    bridge = _open(emit)
    recorder = Recorder(dumps.Folder(Path(job["log_folder"])) if job.get("log_folder") else None)

    recording = threading.Lock()

    def finished(evaluation: Evaluation) -> None:
        if not hooks.lost():
            emit({"event": "survived", "thread": evaluation.thread})
        if recorder.is_open and evaluation.role is Role.EVALUATE:
            with recording:
                segment = recorder.segment(evaluation)
            emit({"event": "evaluation", **asdict(segment)})

    _phase(emit, "compile")
    compiled = coreml.compile_model(bridge, job["model"])
    settings = coreml.configuration(bridge, job["compute_units"], job.get("function"))
    with Interceptor(bridge, finished=finished, copy_surfaces=bool(job.get("log_folder"))) as interceptor:
        emit({"event": "hooks", "hooks": [asdict(hook) for hook in interceptor.hooks]})
        _phase(emit, "load")
        model = coreml.load(bridge, compiled, settings)
        _phase(emit, "describe")
        interface = coreml.interface(bridge, model)
        emit(
            {
                "event": "interface",
                "inputs": [asdict(feature(item)) for item in interface.inputs],
                "outputs": [asdict(feature(item)) for item in interface.outputs],
                "states": [asdict(feature(item)) for item in interface.states],
                "choices": {item.name: item.choices for item in interface.inputs if item.choices},
                "ranged": [item.name for item in interface.inputs if item.ranges],
            }
        )
        _phase(emit, "inputs")
        shapes = {name: tuple(shape) for name, shape in job.get("shapes", {}).items()}
        fillings = inputs.fill(interface.inputs, inputs.Wish(shapes, job.get("inputs", {})))
        provider = coreml.features(bridge, fillings)
        emit({"event": "given", "inputs": {f.description.name: [f.source, list(f.shape)] for f in fillings}})
        _phase(emit, "predict")
        recorder.is_open = True
        coreml.predict(bridge, model, provider, with_state=bool(interface.states))
        recorder.is_open = False
        emit(
            {
                "event": "predicted",
                "preparations": [[e.role, e.methods[0], e.seconds] for e in interceptor.preparations],
                "warnings": interceptor.faults,
            }
        )
        if not recorder.count:
            _control(bridge, job, emit, interceptor)
    _phase(emit, "end")


def _control(bridge: Runtime, job: dict[str, Any], emit: Emit, interceptor: Interceptor) -> None:
    _phase(emit, "control")
    before = len(interceptor.evaluations)
    kind = "mlProgram" if job.get("kind", "mlProgram") == "mlProgram" else "neuralNetwork"
    error = ""
    try:
        path = control.write(Path(job["scratch"]), kind)
        settings = coreml.configuration(bridge, control.COMPUTE_UNITS, None)
        model = coreml.load(bridge, coreml.compile_model(bridge, str(path)), settings)
        interface = coreml.interface(bridge, model)
        provider = coreml.features(bridge, inputs.fill(interface.inputs, inputs.Wish()))
        coreml.predict(bridge, model, provider, with_state=False)
    except (AnecompatError, BridgeError, OSError) as failure:
        error = str(failure)
    seen = [e for e in interceptor.evaluations[before:] if e.succeeded]
    emit({"event": "control", "kind": kind, "evaluations": len(seen), "succeeded": not error, "error": error})


def compute_plan(job: dict[str, Any], emit: Emit) -> None:
    """Ask MLComputePlan."""
    bridge = _open(emit)
    _phase(emit, "compile")
    compiled = coreml.compile_model(bridge, job["model"])
    _phase(emit, "plan")
    settings = coreml.configuration(bridge, job["compute_units"], job.get("function"))
    _tell_placements(emit, plan.compute_plan(bridge, compiled, settings))


def segmentation(job: dict[str, Any], emit: Emit) -> None:
    """Ask for the segmentation analytics."""
    bridge = _open(emit)
    _phase(emit, "compile")
    compiled = coreml.compile_model(bridge, job["model"])
    _phase(emit, "load")
    settings = coreml.configuration(bridge, job["compute_units"], job.get("function"), profiling=True)
    model = coreml.load(bridge, compiled, settings)
    _phase(emit, "analytics")
    _tell_placements(emit, analytics.from_model(bridge, model))


def coremltools_plan(job: dict[str, Any], emit: Emit) -> None:
    """Ask coremltools for the compute plan, where it is installed."""
    from anecompat.measure import coremltools_plan as second

    _phase(emit, "compile")
    compiled = coreml.compile_model(_open(emit), job["model"])
    _phase(emit, "plan")
    _tell_placements(emit, second.compute_plan(compiled, job["compute_units"]))


def _tell_placements(emit: Emit, placements: list[TracePlacement]) -> None:
    emit({"event": "placements", "placements": [asdict(placement) for placement in placements]})


def _open(emit: Emit) -> Runtime:
    _phase(emit, "bridge")
    bridge = runtime()
    for framework in ("CoreVideo", "IOSurface", "AppleNeuralEngine", "CoreML"):
        try:
            bridge.framework(framework)
        except BridgeError as error:
            if framework == "CoreML":
                raise
            emit({"event": "warning", "text": str(error)})
    emit({"event": "device", **asdict(device.describe(bridge))})
    _listen(bridge, emit)
    return bridge


JOBS: dict[str, Callable[[dict[str, Any], Emit], None]] = {
    "predict": predict,
    "compute plan": compute_plan,
    "analytics": segmentation,
    "coremltools": coremltools_plan,
}


def run(job: dict[str, Any], emit: Emit) -> None:
    """Do the job and tell how it ended. Raises nothing."""
    try:
        JOBS[job["job"]](job, emit)
        emit({"event": "done"})
    except AnecompatError as error:
        emit({"event": "failed", "status": error.status, "message": str(error)})
    except (BridgeError, EncodingError) as error:
        emit({"event": "failed", "status": 7, "message": str(error)})
    except MemoryError:
        emit({"event": "failed", "status": 7, "message": "interception is unavailable: no executable memory for it"})
    except Exception as error:
        emit({"event": "failed", "status": 7, "message": f"{type(error).__name__}: {error}"})


def _follow_parent() -> None:
    """Standard input stays open as long as the parent lives; a hanging child must not outlive it."""
    sys.stdin.read()
    os._exit(1)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_follow_parent, daemon=True).start()
    run(job, Teller(int(sys.argv[1])))
    # Core ML's threads may still be inside a hook: leave without tearing the interpreter down under them
    os._exit(0)


if __name__ == "__main__":
    main()

"""Runs the child and turns whatever becomes of it into an outcome: its events, and if it did not end well, why.

The parent is the one that cannot crash. It trusts the child's events up to the moment an Objective-C exception passed
through a hook: after that the child's interpreter may be damaged, and what it says is not believed.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anecompat.measure import limits
from anecompat.measure.text import without_paths

_PACKAGE_ROOT = Path(__file__).resolve().parents[2]
_POLL_SECONDS = 0.05
_GRACE_SECONDS = 5.0
"""How long a child may go on after an exception passed through a hook: it either survives at once or never."""

_PHASES = {
    "start": (7, "starting"),
    "bridge": (7, "loading Apple's frameworks"),
    "compile": (4, "compiling the model"),
    "load": (4, "loading the model, where Core ML compiles it for this device"),
    "describe": (7, "describing the model"),
    "inputs": (5, "making the inputs"),
    "predict": (6, "predicting"),
    "control": (7, "running the control model"),
    "plan": (7, "making the compute plan"),
    "analytics": (7, "reading the segmentation analytics"),
    "end": (7, "ending"),
}


@dataclass(slots=True)
class Outcome:
    """What a child said, and how it ended. ``status`` is None where it ended well, else 3 to 7 with ``message``."""

    events: list[dict[str, Any]] = field(default_factory=list)
    status: int | None = None
    message: str = ""
    phase: str = "start"
    timings: dict[str, float] = field(default_factory=dict)

    def all(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event.get("event") == name]

    def last(self, name: str) -> dict[str, Any] | None:
        found = self.all(name)
        return found[-1] if found else None


def run(job: dict[str, Any], *, timeout: float, memory: int, scratch: Path, cold: bool = True) -> Outcome:
    """Run one job in a child of its own. ``timeout`` in seconds, ``memory`` in bytes; ``scratch`` takes its files.

    If ``cold``, ``scratch`` is its home too, so that Core ML's compile cache is a fresh one. Raises nothing that the
    child caused.
    """
    read_end, write_end = os.pipe()
    errors = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115  closed below, after the child's end
    command = [sys.executable, "-m", "anecompat.measure.child", str(write_end)]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=errors,
            stderr=errors,
            pass_fds=(write_end,),
            env=_environment(scratch, cold),
            start_new_session=True,
        )
    except OSError as error:
        os.close(read_end)
        os.close(write_end)
        errors.close()
        return Outcome(status=7, message=f"the measuring process cannot be started: {error}")
    os.close(write_end)
    try:
        stopped, events = _follow(process, job, read_end, timeout, memory)
    finally:
        _end(process)
        os.close(read_end)
    errors.seek(0)
    said = errors.read().decode("utf-8", "replace")
    errors.close()
    return _outcome(events, process.returncode, stopped, said, str(job.get("model", "")), str(scratch))


def _environment(scratch: Path, cold: bool) -> dict[str, str]:
    # Core Foundation's home: caches go there, while Python keeps the user's own
    home = {"CFFIXED_USER_HOME": str(scratch)} if cold else {}
    return {
        **os.environ,
        **home,
        "TMPDIR": str(scratch),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(_PACKAGE_ROOT), os.environ.get("PYTHONPATH", "")))),
        "PYTHONIOENCODING": "utf-8",
    }


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the child and what it started; it is the leader of its own session."""
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            process.kill()
    process.wait()
    if process.stdin:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def _follow(
    process: subprocess.Popen[bytes], job: dict[str, Any], read_end: int, timeout: float, memory: int
) -> tuple[str, list[dict[str, Any]]]:
    """Feed the job, gather the events; why the child had to be stopped ("" if it ended by itself)."""
    assert process.stdin is not None
    try:
        # left open: its end tells the child that the parent is gone
        process.stdin.write(json.dumps(job).encode() + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        pass  # it died before it read; its end tells why
    os.set_blocking(read_end, False)
    events: list[dict[str, Any]] = []
    buffer = b""
    deadline = time.monotonic() + timeout
    doubtful_since: float | None = None
    with selectors.DefaultSelector() as selector:
        selector.register(read_end, selectors.EVENT_READ)
        while True:
            now = time.monotonic()
            if now > deadline:
                return "time", events
            if doubtful_since is not None and now > doubtful_since + _GRACE_SECONDS:
                return "exception", events
            if limits.memory_of(process.pid) > memory:
                return "memory", events
            if not selector.select(min(_POLL_SECONDS, max(deadline - now, 0))):
                if process.poll() is None:
                    continue
                return "", events
            chunk = os.read(read_end, 1 << 16)
            if not chunk:
                process.wait(max(deadline - time.monotonic(), 1))
                return "", events
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in lines:
                _add(events, line)
            doubtful_since = (doubtful_since or now) if doubtful(events) else None


def _add(events: list[dict[str, Any]], line: bytes) -> None:
    try:
        event = json.loads(line)
    except ValueError:
        return  # half a line of a process that is being torn down
    if isinstance(event, dict):
        events.append(event)


def doubtful(events: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The exception that left a hooked method and has not been survived, if any."""
    thrown: dict[int, dict[str, Any]] = {}
    for event in events:
        if event.get("event") == "exception" and event.get("inside"):
            thrown.setdefault(event["thread"], event)
        elif event.get("event") == "survived":
            thrown.pop(event["thread"], None)
    return next(iter(thrown.values()), None)


def _outcome(events: list[dict[str, Any]], code: int, stopped: str, said: str, model: str, scratch: str) -> Outcome:
    exception = doubtful(events)
    if exception:
        # what a damaged interpreter says is not evidence
        events = events[: events.index(exception) + 1]
    outcome = Outcome(events)
    phases = outcome.all("phase")
    outcome.phase = phases[-1]["name"] if phases else "start"
    outcome.timings = _timings(events)
    failed = outcome.last("failed")
    if exception is None and not stopped and code == 0 and outcome.last("done"):
        return outcome
    if exception is None and not stopped and failed is not None:
        outcome.status, outcome.message = failed["status"], failed["message"]
    else:
        outcome.status, doing = _PHASES.get(outcome.phase, (7, outcome.phase))
        outcome.message = f"{_why(events, code, stopped, exception)} while {doing}"
        if seen := len(outcome.all("evaluation")):
            outcome.message += f", after {seen} evaluation{'' if seen == 1 else 's'} on the engine"
        last = said.strip().splitlines()[-1:]
        if last and not exception:
            outcome.message += f"; its last words: {last[0][:300]}"
    outcome.message = without_paths(outcome.message, model, scratch, str(Path.home()))
    return outcome


def _why(events: list[dict[str, Any]], code: int, stopped: str, exception: dict[str, Any] | None) -> str:
    if exception:
        return f"the Objective-C exception {exception['name']} ({exception['reason']}) left the evaluation"
    if stopped == "time":
        return "the time limit was reached"
    if stopped == "memory":
        return "the memory limit was reached"
    thrown = [event for event in events if event.get("event") == "exception"]
    if thrown and code != 0:
        return f"the Objective-C exception {thrown[-1]['name']} ({thrown[-1]['reason']}) ended the process"
    if code < 0:
        name = signal.Signals(-code).name if -code in {int(s) for s in signal.Signals} else "a signal"
        hint = ", as the system does when memory runs out," if -code == signal.SIGKILL else ""
        return f"the process was ended by {name} (signal {-code}){hint}"
    return f"the process ended with code {code} and no answer"


def _timings(events: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds spent in each phase."""
    timings: dict[str, float] = {}
    marks = [event for event in events if event.get("event") == "phase"]
    end = events[-1].get("at", 0.0) if events else 0.0
    for number, mark in enumerate(marks):
        until = marks[number + 1]["at"] if number + 1 < len(marks) else end
        timings[mark["name"]] = round(max(until - mark["at"], 0.0), 6)
    timings.pop("end", None)
    return timings

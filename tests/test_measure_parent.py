"""The parent: whom it believes, and that nobody outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from anecompat.measure import limits, parent
from fake_apple.fixtures import build_standins, scripted, standins  # noqa: F401


def thrown(thread: int = 1, inside: bool = True) -> dict[str, Any]:
    return {"event": "exception", "name": "N", "reason": "R", "inside": inside, "thread": thread}


def survived(thread: int = 1) -> dict[str, Any]:
    return {"event": "survived", "thread": thread}


@pytest.mark.parametrize(
    ("events", "is_doubtful"),
    [
        ([], False),
        ([thrown()], True),
        ([thrown(), survived()], False),
        ([thrown(), survived(2)], True),
        ([thrown(1), thrown(2), survived(1)], True),
        ([thrown(inside=False)], False),
        ([survived(), thrown()], True),
    ],
)
def test_whom_an_exception_makes_doubtful(events: list[dict[str, Any]], is_doubtful: bool) -> None:
    assert bool(parent.doubtful(events)) is is_doubtful


def test_a_child_that_cannot_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    outcome = parent.run({"job": "predict"}, timeout=5, memory=1 << 40, scratch=tmp_path)
    assert outcome.status == 7
    assert outcome.message.startswith("the measuring process cannot be started: ")


def test_a_child_that_dies_before_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    false = tmp_path / "python"
    false.write_text("#!/bin/sh\necho 'no module named that' >&2\nexit 1\n")
    false.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(false))
    outcome = parent.run({"job": "predict"}, timeout=5, memory=1 << 40, scratch=tmp_path)
    assert outcome.status == 7
    assert outcome.message == (
        "the process ended with code 1 and no answer while starting; its last words: no module named that"
    )


def test_a_child_that_says_half_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = b'{"event": "phase", "name": "predict", "at": 0.5}\n{broken\n[1]\n{"event": "pha'
    babbler = tmp_path / "python"
    program = f"import os, sys\nos.write(int(sys.argv[3]), {said!r})\nos.kill(os.getpid(), {int(signal.SIGSEGV)})\n"
    babbler.write_text(f"#!{sys.executable}\n{program}")
    babbler.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(babbler))
    outcome = parent.run({"job": "predict"}, timeout=5, memory=1 << 40, scratch=tmp_path)
    assert outcome.events == [{"event": "phase", "name": "predict", "at": 0.5}]
    assert outcome.status == 6
    assert "SIGSEGV" in outcome.message


def test_memory_of_a_process() -> None:
    assert limits.memory_of(os.getpid()) > 1 << 20
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert limits.memory_of(gone.pid) == 0
    assert limits.default_limit() > 1 << 30


def _children(process: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []


def _is_gone(process: int) -> bool:
    """Whether it ended; an orphan may stay behind as a zombie until somebody reaps it."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for children in /proc")
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.usefixtures("standins")
def test_nobody_outlives_the_parent(ending: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    received = tmp_path / "received.jsonl"
    monkeypatch.setenv("STANDIN_RECEIVED", str(received))
    model = scripted(tmp_path, steps=[{"cpu": 1, "hang": True}])
    code = "import sys; from anecompat.measure import measure; measure(sys.argv[1], placements=False)"
    process = subprocess.Popen([sys.executable, "-c", code, str(model)], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not received.exists():  # written when the prediction has begun, just before it hangs
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (child,) = _children(process.pid)
    process.send_signal(ending)
    _, said = process.communicate(timeout=60)
    assert process.returncode == -ending
    assert (b"KeyboardInterrupt" in said) == (ending == signal.SIGINT)
    while not _is_gone(child):
        assert time.monotonic() < deadline, "the child lives on"
        time.sleep(0.01)

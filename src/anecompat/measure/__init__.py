"""On the device: run a model once, see what reaches the Neural Engine, ask Core ML what it planned and why.

    available()                  None where this machine can measure, else the sentence that says what it needs
    trace = measure("m.mlpackage")
    trace.status                 as ANECompat's, with reasons in each run
    trace.to_json()              portable: replay it anywhere with load_trace

Never yet run on Apple hardware: see docs/measuring.md.
"""

from __future__ import annotations

from anecompat.measure.command import lines, write_log
from anecompat.measure.device import available
from anecompat.measure.session import DEFAULT_TIMEOUT, MeasureUnavailable, measure
from anecompat.measure.trace import (
    SCHEMA_VERSION,
    Trace,
    TraceError,
    TracePlacement,
    TraceRun,
    TraceSegment,
    load_trace,
)

__all__ = [
    "DEFAULT_TIMEOUT",
    "SCHEMA_VERSION",
    "MeasureUnavailable",
    "Trace",
    "TraceError",
    "TracePlacement",
    "TraceRun",
    "TraceSegment",
    "available",
    "lines",
    "load_trace",
    "measure",
    "write_log",
]

"""The probe suite: small models that ask one question each, for every chip and system that somebody has.

run_suite("out", operations=["conv"])     builds, measures, writes out/probe-M1-macOS-14.5.jsonl
to_csv(read_bundle(path))                 the rows of a published table
"""

from __future__ import annotations

from anecompat.measure.probe.catalog import choose, probes
from anecompat.measure.probe.merge import boundaries, read_bundle, to_csv, to_toml
from anecompat.measure.probe.question import Probe
from anecompat.measure.probe.run import run_suite

__all__ = ["Probe", "boundaries", "choose", "probes", "read_bundle", "run_suite", "to_csv", "to_toml"]

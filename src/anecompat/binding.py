"""ANECompat's Python function, kept by its name."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anecompat.checking import check
from anecompat.errors import AnecompatError, CannotTell, CompileError, InputError, PredictionError, ReadError
from anecompat.findings import Status
from anecompat.targets import REFERENCE

_ERRORS: dict[Status, type[AnecompatError]] = {
    Status.READ_ERROR: ReadError,
    Status.COMPILE_ERROR: CompileError,
    Status.INPUT_ERROR: InputError,
    Status.PREDICTION_ERROR: PredictionError,
    Status.CANNOT_TELL: CannotTell,
}


def test_ane_compatibility_coreml_model(model: Any) -> int:
    """Whether a Core ML model runs on the Neural Engine: 0 fully, 1 partially, 2 not.

    ``model`` is a path or coremltools' ``MLModel``. On Apple silicon the model is run once and measured; elsewhere the
    answer is predicted for the reference target, and a warning says so. Raises ValueError, as ANECompat's binding did,
    for every other outcome: ReadError (3), CompileError (4), InputError (5), PredictionError (6), AnecompatError (7),
    and CannotTell (8) where unknown operations decide.
    """
    from anecompat.measure.device import available

    if available() is None:
        with _path_of(model) as path:
            return _measured(path)
    warnings.warn(
        f"no Neural Engine to measure on: this answer is predicted for {REFERENCE}", UserWarning, stacklevel=2
    )
    report = check(model, [f"{REFERENCE.chip}@{REFERENCE.system}".replace(" ", "")])
    if report.status is Status.CANNOT_TELL:
        raise CannotTell("the operations that nobody has measured decide; anecompat.check names them")
    return int(report.status)


test_ane_compatibility_coreml_model.__test__ = False  # type: ignore[attr-defined]


def _measured(path: Path) -> int:
    from anecompat.measure import measure

    trace = measure(path)
    if trace.status in (Status.FULL, Status.PARTIAL, Status.NONE):
        return int(trace.status)
    reasons = "; ".join(reason for run in trace.runs for reason in run.reasons) or str(trace.status)
    raise _ERRORS.get(trace.status, AnecompatError)(reasons)


@contextmanager
def _path_of(model: Any) -> Iterator[Path]:
    """The model as a path: its own, or a copy of an MLModel that has none."""
    if isinstance(model, (str, Path)):
        yield Path(model)
        return
    package = getattr(model, "package_path", None)
    if isinstance(package, str) and Path(package).exists():
        yield Path(package)
        return
    if not hasattr(model, "save") or not hasattr(model, "get_spec"):
        raise ReadError(f"a path or a coremltools MLModel was expected, not {type(model).__name__}")
    with tempfile.TemporaryDirectory() as folder:
        program = model.get_spec().WhichOneof("Type") == "mlProgram"
        path = Path(folder) / ("model.mlpackage" if program else "model.mlmodel")
        model.save(str(path))
        yield path

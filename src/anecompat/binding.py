"""ANECompat's Python function, kept by its name."""

from __future__ import annotations

import warnings
from typing import Any

from anecompat.checking import check
from anecompat.errors import CannotTell
from anecompat.findings import Status
from anecompat.targets import REFERENCE


def test_ane_compatibility_coreml_model(model: Any) -> int:
    """Whether a Core ML model runs on the Neural Engine: 0 fully, 1 partially, 2 not.

    ``model`` is a path or coremltools' ``MLModel``. On Apple silicon the model is measured; elsewhere the answer is
    predicted for the reference target, and a warning says so. Raises ValueError, as ANECompat's binding did, for every
    other outcome: ReadError (3), CompileError (4), InputError (5), PredictionError (6), and CannotTell (8) where
    unknown operations decide.
    """
    warnings.warn(
        f"no Neural Engine to measure on: this answer is predicted for {REFERENCE}", UserWarning, stacklevel=2
    )
    report = check(model, [str(REFERENCE.chip)])
    if report.status is Status.CANNOT_TELL:
        raise CannotTell("the operations that nobody has measured decide; anecompat.check names them")
    return int(report.status)


test_ane_compatibility_coreml_model.__test__ = False  # type: ignore[attr-defined]

"""anecompat: does a Core ML model run on the Apple Neural Engine?

    import anecompat

    report = anecompat.check("model.mlpackage", targets=["M1", "A17 Pro"])   # -> Report
    model = anecompat.read("model.mlpackage")                                # -> Model, a typed graph
    status = anecompat.test_ane_compatibility_coreml_model("model.mlpackage")  # -> 0, 1 or 2

Importing this loads no third-party module but protobuf, and that only when a model is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anecompat.errors import (
    AnecompatError,
    CannotTell,
    CompileError,
    InputError,
    PredictionError,
    ReadError,
    UsageError,
)

if TYPE_CHECKING:
    from anecompat.binding import test_ane_compatibility_coreml_model
    from anecompat.checking import Report, check
    from anecompat.findings import Status
    from anecompat.ir import Model
    from anecompat.readers import read

__version__ = "0.9.0"

__all__ = [
    "AnecompatError",
    "CannotTell",
    "CompileError",
    "InputError",
    "Model",
    "PredictionError",
    "ReadError",
    "Report",
    "Status",
    "UsageError",
    "__version__",
    "check",
    "read",
    "test_ane_compatibility_coreml_model",
]

_HOMES = {
    "Model": "anecompat.ir",
    "Report": "anecompat.checking",
    "Status": "anecompat.findings",
    "check": "anecompat.checking",
    "read": "anecompat.readers",
    "test_ane_compatibility_coreml_model": "anecompat.binding",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


def __getattr__(name: str) -> Any:
    """Load a public name where it is used, so that importing the package stays light."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'anecompat' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home), name)
    globals()[name] = value
    return value

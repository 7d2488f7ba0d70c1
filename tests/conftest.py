"""Shared fixtures. Material beside the project (``../shared``) is optional: tests that want it skip and say so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def shared_folder() -> Path | None:
    """The folder of real models and published measurements, or None: beside the checkout, or $ANECOMPAT_SHARED."""
    folder = Path(os.environ.get("ANECOMPAT_SHARED", ROOT.parent / "shared"))
    return folder if (folder / "models" / "INDEX.jsonl").is_file() else None


@pytest.fixture(scope="session")
def shared() -> Path:
    folder = shared_folder()
    if folder is None:
        pytest.skip("the material beside the project (../shared) is absent")
    return folder

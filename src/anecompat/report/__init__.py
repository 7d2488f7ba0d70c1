"""The same answer in two forms, text for people and JSON for scripts, and the pages about rules and tables."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of ``--format json``, of reports and of errors alike.

    Within one major schema version fields are added, never renamed or removed, so the schema lets unknown ones pass.
    """
    text = files("anecompat.report").joinpath("schema.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found

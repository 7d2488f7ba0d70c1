"""The JSON Schema of a trace, made from its dataclasses: ``python -m anecompat.measure.schema [--check]``.

Written to ``trace.schema.json`` beside this file, which is published with the package. Fields may be added to a trace
by a later minor version, so additional properties are allowed everywhere.
"""

from __future__ import annotations

import json
import sys
import types
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from anecompat.findings import Status
from anecompat.measure.trace import SCHEMA_VERSION, Trace, TraceRun

FILE = Path(__file__).with_name("trace.schema.json")
_SIMPLE = {str: "string", int: "integer", float: "number", bool: "boolean"}


def schema() -> dict[str, Any]:
    """The schema as data."""
    definitions: dict[str, Any] = {}
    reference = _of(Trace, definitions)
    run = definitions[TraceRun.__name__]["properties"]
    run["status"] = {"enum": [int(status) for status in Status]}
    major = SCHEMA_VERSION.split(".")[0]
    definitions[Trace.__name__]["properties"]["schema_version"] = {"type": "string", "pattern": rf"^{major}\.\d+$"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"anecompat trace {SCHEMA_VERSION}",
        **reference,
        "$defs": definitions,
    }


def _of(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if kind is Any:
        return {}
    if kind in _SIMPLE:
        return {"type": _SIMPLE[kind]}
    if is_dataclass(kind) and isinstance(kind, type):
        if kind.__name__ not in definitions:
            definitions[kind.__name__] = {}
            definitions[kind.__name__].update(_object(kind, definitions))
        return {"$ref": f"#/$defs/{kind.__name__}"}
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return {"anyOf": [{"type": "null"} if part is type(None) else _of(part, definitions) for part in arguments]}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of(arguments[1], definitions)}
    if arguments[-1] is Ellipsis:
        return {"type": "array", "items": _of(arguments[0], definitions)}
    parts = [_of(part, definitions) for part in arguments]
    return {"type": "array", "prefixItems": parts, "minItems": len(parts), "maxItems": len(parts)}


def _object(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    entries = fields(kind)
    required = [entry.name for entry in entries if entry.default is MISSING and entry.default_factory is MISSING]
    return {
        "type": "object",
        "description": (kind.__doc__ or "").split("\n")[0],
        "properties": {entry.name: _of(hints[entry.name], definitions) for entry in entries},
        "required": required,
    }


def text() -> str:
    return json.dumps(schema(), indent=1) + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(
            None if FILE.read_text(encoding="utf-8") == text() else f"{FILE.name} is old; run this without --check"
        )
    FILE.write_text(text(), encoding="utf-8")

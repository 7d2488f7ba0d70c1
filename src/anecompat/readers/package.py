"""A ``.mlpackage`` folder: its manifest says where the specification lies."""

from __future__ import annotations

import json
from typing import Any

from anecompat.errors import ReadError
from anecompat.ir import Model
from anecompat.readers.foreign import refuse_foreign
from anecompat.readers.options import Options
from anecompat.readers.source import Source, checked
from anecompat.readers.spec import SpecificationReader

MANIFEST = "Manifest.json"
DATA = "Data"  # paths in the manifest are relative to this folder
MOST_MANIFEST = 4 << 20


def read_package(source: Source, path: str, options: Options) -> Model:
    """The model in a package. ReadError where the manifest or the specification is missing, damaged or elsewhere."""
    name = specification(source)
    if not source.has(name):
        raise ReadError(
            f"the manifest names {name} as the specification, which is not there;"
            " the package is incomplete, copy it again with its folder",
            place=source.place(),
        )
    head = source.read_at(name, 0, 4096)
    refuse_foreign(head, source.place(name), source.size(name))
    return SpecificationReader(source, name, path, "mlpackage", options).read()


def specification(source: Source) -> str:
    """The name of the specification inside the package, as the manifest has it."""
    place = source.place(MANIFEST)
    data = source.read(MANIFEST, MOST_MANIFEST)
    refuse_foreign(data[:4096], place, len(data), json=True)
    try:
        manifest = json.loads(data.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ReadError(
            f"invalid JSON at line {error.lineno}, column {error.colno} ({error.msg}); copy the package again",
            place=place,
        ) from None
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ReadError(f"invalid JSON ({reason}); copy the package again", place=place) from None
    entry = _root_entry(manifest, place)
    inside = entry.get("path") if isinstance(entry, dict) else None
    if not isinstance(inside, str) or not inside:
        raise ReadError("the entry of the root model has no path; export the package again", place=place)
    return f"{DATA}/{checked(inside, place)}"


def _root_entry(manifest: Any, place: str) -> Any:
    entries = manifest.get("itemInfoEntries") if isinstance(manifest, dict) else None
    root = manifest.get("rootModelIdentifier") if isinstance(manifest, dict) else None
    if not isinstance(entries, dict) or not isinstance(root, str):
        raise ReadError(
            "the manifest has no itemInfoEntries or no rootModelIdentifier; this is no manifest of a Core ML package",
            place=place,
        )
    if root not in entries:
        raise ReadError(
            f"the root model {root!r} is not among the manifest's {len(entries)} entries; export the package again",
            place=place,
        )
    return entries[root]

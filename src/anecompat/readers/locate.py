"""Which model lies in a source, and which reader reads it: told by content, not by the file's name."""

from __future__ import annotations

import re

from anecompat.errors import ReadError
from anecompat.ir import Model
from anecompat.readers.foreign import recognize_name, recognize_text, refuse_foreign
from anecompat.readers.options import Options
from anecompat.readers.package import MANIFEST, read_package
from anecompat.readers.source import HEAD, Source
from anecompat.readers.spec import SpecificationReader

MOST_TEXT = 256 << 20  # bytes of MIL text
COMPILED = ("coremldata.bin", "model.mil", "model.espresso.net", "model0/", "model0.mlmodelc/", "metadata.json")
NOISE = ("__MACOSX/", ".git/", ".DS_Store")
MOST_DEPTH = 4
MOST_FOLDERS = 1000
_MIL = re.compile(rb"\A(?:\xef\xbb\xbf)?(?:\s|//[^\n]*\n|#[^\n]*\n)*(?:program\s*\(|program\s*\[|func\s)")


def read_source(source: Source, path: str, options: Options) -> Model:
    """The one model in a source. ReadError where there is none, or several."""
    folder, name = ("", source.alone) if source.alone else _only_model(source)
    inside = source.at(folder) if folder else source
    if name:
        model = _file(inside, name, path, options)
        model.bytes_there = inside.size(name)
    else:
        packaged = MANIFEST in inside.children()
        model = read_package(inside, path, options) if packaged else _compiled(inside, path, options)
        model.bytes_there = inside.total_size()
    return model


def _only_model(source: Source) -> tuple[str, str]:
    """The folder and file of the one model; the file is "" where the folder is the model."""
    if set(source.children()) - set(NOISE) == {"Data/"}:
        raise ReadError(
            f"this looks like a package without its {MANIFEST}; copy it again with all files", place=source.place()
        )
    found, others = _survey(source)
    if len(found) == 1:
        return found[0]
    if not found and len(others) == 1 and recognize_name(others[0][1]) is None:
        return others[0]  # a lone file of any name is told by its content
    raise ReadError(_several(found) if found else _nothing(source, source.children()), place=source.place())


def is_compiled(children: tuple[str, ...]) -> bool:
    """Whether a folder's children are those of a compiled model."""
    return any(name in children for name in COMPILED[:-1])


def _survey(source: Source) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(folder, file) of every model below a folder, the file "" where the folder is the model; and all other files."""
    models: list[tuple[str, str]] = []
    others: list[tuple[str, str]] = []
    queue = [("", 0)]
    for folder, depth in queue:  # grows while it is walked
        try:
            children = source.children(folder)
        except ReadError:
            if not folder:
                raise
            continue  # a folder that may not be listed, or a link that leaves
        if MANIFEST in children or is_compiled(children):
            models.append((folder, ""))
            continue
        for child in children:
            if child in NOISE or child.startswith("._"):
                continue
            if child.endswith("/"):
                if depth < MOST_DEPTH and len(queue) < MOST_FOLDERS:
                    queue.append((folder + child, depth + 1))
            elif child.lower().endswith((".mlmodel", ".mil")):
                models.append((folder, child))
            else:
                others.append((folder, child))
    return models, others


def _several(found: list[tuple[str, str]]) -> str:
    names = [(folder + name).rstrip("/") for folder, name in found]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"there are {len(names)} models in it: {', '.join(names[:5])}{more}; give the path of one"


def _nothing(source: Source, children: tuple[str, ...]) -> str:
    held = [name for name in children if name not in NOISE]
    if not held:
        return "the folder is empty; give a .mlpackage, .mlmodelc, .mlmodel or .mil"
    for name in [*held, *(f"{folder}{name}" for folder in held[:20] for name in source.children(folder))]:
        what = recognize_name(name.rstrip("/").split("/")[-1])
        if what is not None:
            return f"there is no Core ML model in it, but {what} ({name}); convert it to Core ML first"
    more = f" and {len(held) - 5} more" if len(held) > 5 else ""
    return f"there is no Core ML model in it (it holds {', '.join(held[:5])}{more}); give the model itself"


def _compiled(source: Source, path: str, options: Options) -> Model:
    from anecompat.readers.compiled import read_compiled

    model = read_compiled(source, options)
    model.path = path
    return model


def _file(source: Source, name: str, path: str, options: Options) -> Model:
    size = source.size(name)
    place = source.place(name)
    head = source.read_at(name, 0, HEAD)
    if _MIL.match(head):
        from anecompat.readers.mil_text import parse_model

        text = source.read(name, MOST_TEXT)
        try:
            return parse_model(text.decode("utf-8-sig"), path)
        except UnicodeDecodeError as error:
            raise ReadError(f"byte {error.start:,} is no UTF-8 text; the file is damaged", place=place) from None
    refuse_foreign(head, place, size)
    what = recognize_text(head, size)
    if what is not None:
        raise ReadError(what, place=place)
    return SpecificationReader(source, name, path, "mlmodel", options).read()

"""Free text of Core ML made fit to be shared: messages name files of the user, and a trace names none."""

from __future__ import annotations

import re

_PATH = re.compile(
    r"(?:file://|(?<![\w./-]))/"
    r"(?:Users|private|var|tmp|home|Volumes|Library|System|Applications|opt|usr)"
    r"(?:/[^\s\"'<>|:;,()\[\]{}]*)?"
)


def without_paths(text: str, *known: str) -> str:
    """The text with every path replaced by ``<path>``; ``known`` are paths to look for literally (blanks and all)."""
    for path in sorted((path for path in known if len(path) > 1), key=len, reverse=True):
        text = text.replace(path, "<path>")
    return _PATH.sub("<path>", text)

"""Small pieces of text that every report uses: escaped names, wrapped lines, lists, colours."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterable, Sequence

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def paint(text: str, style: str, *, color: bool) -> str:
    """The text in a terminal style ("bold", "red"...), or as it is."""
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if color and text else text


def shown(name: str, limit: int = 60) -> str:
    """A name from a file, safe to print: control and direction characters escaped, long ones cut in the middle."""
    safe = "".join(
        character if character.isprintable() and unicodedata.category(character) != "Cf" else escaped(character)
        for character in name
    )
    if len(safe) > limit:
        head = (limit - 1) * 2 // 3
        safe = f"{safe[:head]}…{safe[len(safe) - (limit - 1 - head) :]}"
    return safe


def escaped(character: str) -> str:
    """A character as Python would write it in a string: \\n, \\x1b, \\u202e."""
    return character.encode("unicode_escape").decode("ascii")


def wrapped(text: str, width: int, indent: str = "", hanging: str | None = None) -> str:
    """A paragraph within a width; what cannot be broken stays whole."""
    return textwrap.fill(
        text,
        max(width, 40),
        initial_indent=indent,
        subsequent_indent=indent if hanging is None else hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )


def count(number: int, noun: str) -> str:
    """1 operation, 2 operations."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def size(bytes: int) -> str:
    """A number of bytes in the unit that suits it: 812 bytes, 48.5 kB, 1.1 GB."""
    if bytes < 1000:
        return count(bytes, "byte")
    number, units = float(bytes), iter(("kB", "MB", "GB", "TB"))
    unit = "kB"
    while number >= 1000 and (following := next(units, None)) is not None:
        number, unit = number / 1000, following
    return f"{number:.1f} {unit}"


def listed(items: Sequence[str], most: int = 4) -> str:
    """a, b, c and 5 more."""
    if len(items) <= most:
        return ", ".join(items)
    return f"{', '.join(items[:most])} and {len(items) - most:,} more"


def tally(types: Iterable[str], most: int = 6) -> str:
    """How often each occurs, the most frequent first: cast x3, add."""
    counts: dict[str, int] = {}
    for type in types:
        counts[type] = counts.get(type, 0) + 1
    rows = sorted(counts.items(), key=lambda item: -item[1])
    return listed([name if number == 1 else f"{name} ×{number}" for name, number in rows], most)


def ranges(numbers: Sequence[int], most: int = 5) -> str:
    """0-6, 9, 12-40."""
    runs: list[str] = []
    start = last = None
    for number in [*numbers, None]:
        if start is not None and number != (last or 0) + 1:
            runs.append(f"{start}" if start == last else f"{start}-{last}")
            start = None
        if start is None:
            start = number
        last = number
    return listed(runs, most)

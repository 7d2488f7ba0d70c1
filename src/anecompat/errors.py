"""The exceptions anecompat raises, as a tree.

    AnecompatError                 everything a caller may want to catch at once
      ReadError            (3)     the file cannot be read as a Core ML model
      CompileError         (4)     Core ML refused to compile the model; device only
      InputError           (5)     no dummy input could be made; device only
      PredictionError      (6)     the prediction failed, crashed or timed out; device only
      CannotTell           (8)     the operations nobody has measured decide; the one-number function only
      UsageError                   the question makes no sense: a chip nobody knows, an impossible pair

The number is the status that ``anecompat check`` ends with (see the contract of statuses in the README).
"""

from __future__ import annotations


class AnecompatError(ValueError):
    """The base of every error that anecompat raises on purpose; a ValueError, as ANECompat's binding raised."""

    status: int = 7


def _one_line(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)


class ReadError(AnecompatError):
    """The file cannot be read as a Core ML model.

    The sentence says where (``place``), what was found, and what to do. It is one line: control characters of names
    that come from the file are escaped.
    """

    status = 3

    def __init__(self, message: str, *, place: str = "") -> None:
        self.place = place = _one_line(place)
        self.message = message = _one_line(message)
        super().__init__(f"{place}: {message}" if place else message)


class CompileError(AnecompatError):
    """Core ML refused to compile the model (device only)."""

    status = 4


class InputError(AnecompatError):
    """No dummy input could be made for the model (device only)."""

    status = 5


class PredictionError(AnecompatError):
    """The prediction failed, crashed or timed out (device only)."""

    status = 6


class UsageError(AnecompatError):
    """The caller asked for something that does not exist; exit status 64."""


class CannotTell(AnecompatError):
    """Unknown operations decide the status, and the caller asked for one number."""

    status = 8

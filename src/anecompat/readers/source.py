"""Where a model's bytes come from: a folder, a file or a zip archive, behind one small protocol.

Nothing is ever written or unpacked to disk, and nothing outside the model is read: a symbolic link that leaves the
folder is refused, and so is an archive whose entries name places outside it. Names are POSIX paths relative to the
source's root; a lone file is a source that holds exactly one name.

    source = open_source("model.mlpackage.zip")
    for name in source.children():        # "model.mlpackage/"
        package = source.at(name)
    package.read("Manifest.json", limit=1 << 20)
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from anecompat.errors import ReadError

HEAD = 4096  # bytes that tell what a file is
MOST_FILES = 10_000  # a walk stops here: the path may be somebody's whole home folder


class Source(Protocol):
    """A tree of named byte strings. Every method raises ReadError with the place where something is wrong."""

    @property
    def label(self) -> str:
        """The path as the user gave it, for messages."""

    @property
    def alone(self) -> str:
        """The one name of a source that is a lone file; "" for a tree."""

    @property
    def bytes_read(self) -> int:
        """How many bytes were read so far, by this source and all that came from it by ``at``."""

    def place(self, name: str = "") -> str:
        """Where ``name`` lies, as messages should say it."""

    def has(self, name: str) -> bool:
        """Whether a file or folder of that name is there."""

    def children(self, folder: str = "") -> tuple[str, ...]:
        """What lies directly in a folder, sorted; folders end with "/". Empty for what is not a folder."""

    def size(self, name: str) -> int:
        """The size of a file in bytes, without reading it."""

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``; fewer only where the file ends."""

    def read(self, name: str, limit: int) -> bytes:
        """A whole file of at most ``limit`` bytes; ReadError if it is longer."""

    def at(self, folder: str) -> Source:
        """The same source seen from one of its folders."""

    def total_size(self) -> int:
        """The bytes that all files hold (the first MOST_FILES of them, where there are more); of an archive its own."""

    def close(self) -> None:
        """Let go of open files. The source stays usable: it opens them again when asked."""


def joined(folder: str, name: str) -> str:
    """A name relative to the root, from one relative to ``folder`` ("" or ending with "/")."""
    return (folder + name).rstrip("/") if name else folder.rstrip("/")


def checked(name: str, place: str) -> str:
    """A relative name that stays inside its source, normalised; ReadError where it leaves."""
    steps: list[str] = []
    for step in name.replace("\\", "/").split("/"):
        if step == ".." or (not steps and step[1:] == ":"):
            raise ReadError(
                f"the path {name!r} leaves the model; the model may be malicious and is not read", place=place
            )
        if step not in ("", "."):
            steps.append(step)
    if name.startswith(("/", "\\")) or "\0" in name:
        raise ReadError(f"the path {name!r} leaves the model; the model may be malicious and is not read", place=place)
    return "/".join(steps)


class Count:
    """Bytes read, shared by all views of one source."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0


class Labelled:
    """What every source of its own place has: how it is called, its only name if it is a lone file, the bytes read."""

    def __init__(self, label: str, only: str, count: Count) -> None:
        self._label = label
        self._only = only
        self._count = count

    @property
    def label(self) -> str:
        return self._label

    @property
    def alone(self) -> str:
        return self._only

    @property
    def bytes_read(self) -> int:
        return self._count.bytes

    def place(self, name: str = "") -> str:
        return self._label if self._only or not name else f"{self._label.rstrip('/')}/{name.rstrip('/')}"


class FolderSource(Labelled):
    """A folder on disk, or a lone file as a source of one name."""

    def __init__(self, root: Path, label: str, *, only: str = "", count: Count | None = None) -> None:
        self._root = root
        self._real = os.path.realpath(root)
        super().__init__(label, only, count or Count())
        self._open: dict[str, tuple[int, os.stat_result]] = {}
        self._seen: dict[str, tuple[int, int]] = {}
        self._head: tuple[str, bytes] = ("", b"")

    def has(self, name: str) -> bool:
        if self._only:
            return name == self._only
        return os.path.exists(self._root / checked(name, self.place()))

    def children(self, folder: str = "") -> tuple[str, ...]:
        if self._only:
            return () if folder else (self._only,)
        inside = checked(folder, self.place())
        self._stay_inside(inside)
        try:
            with os.scandir(self._root / inside) as entries:
                return tuple(sorted(entry.name + ("/" if entry.is_dir() else "") for entry in entries))
        except (FileNotFoundError, NotADirectoryError):
            return ()
        except OSError as error:
            raise ReadError(f"the folder cannot be listed ({error.strerror})", place=self.place(folder)) from None

    def size(self, name: str) -> int:
        return self._handle(name)[1].st_size

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        handle, status = self._handle(name)
        known = self._head[1][:length] if offset == 0 and self._head[0] == name else b""
        if len(known) == length:
            return known
        try:
            data = read_all(handle, offset + len(known), min(length, status.st_size - offset) - len(known))
        except OSError as error:
            raise ReadError(f"reading failed ({error.strerror})", place=self.place(name)) from None
        self._count.bytes += len(data)
        data = known + data
        if offset == 0 and length <= HEAD:
            self._head = (name, data)  # what a file begins with is looked at before it is read
        return data

    def read(self, name: str, limit: int) -> bytes:
        return read_within(self, name, limit)

    def at(self, folder: str) -> FolderSource:
        inside = checked(folder, self.place())
        self._stay_inside(inside)
        return FolderSource(self._root / inside, self.place(folder), count=self._count)

    def total_size(self) -> int:
        if self._only:
            return self.size(self._only)
        total = 0
        for _, entry in zip(range(MOST_FILES), self._files(), strict=False):
            total += entry
        return total

    def close(self) -> None:
        for handle, _ in self._open.values():
            os.close(handle)
        self._open.clear()

    def __del__(self) -> None:
        self.close()

    def _files(self) -> Iterator[int]:
        for folder, _, names in os.walk(self._root):
            for name in names:
                try:
                    yield os.stat(os.path.join(folder, name)).st_size
                except OSError:
                    yield 0

    def _handle(self, name: str) -> tuple[int, os.stat_result]:
        found = self._open.get(name)
        if found is not None:
            return found
        inside = checked(name, self.place())
        if self._only and inside != self._only:
            raise ReadError(f"there is no {name} beside a lone file", place=self._label)
        path = os.fspath(self._root / inside)
        self._stay_inside(inside)
        try:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):
                kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
                raise ReadError(f"a file was expected, this is {kind}", place=self.place(name))
            handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except FileNotFoundError:
            raise ReadError("there is no such file", place=self.place(name)) from None
        except OSError as error:
            raise ReadError(f"the file cannot be opened ({error.strerror})", place=self.place(name)) from None
        mark = (status.st_size, status.st_mtime_ns)
        if self._seen.setdefault(name, mark) != mark:
            os.close(handle)
            raise ReadError("the file changed while it was read; read it again", place=self.place(name))
        self._open[name] = (handle, status)
        return self._open[name]

    def _stay_inside(self, inside: str) -> None:
        """Refuse a symbolic link that leaves the folder, and name one that leads nowhere."""
        path = os.path.join(self._root, inside)
        real = os.path.realpath(path)
        if self._only or real == os.path.join(self._real, *inside.split("/")):
            return
        if not os.path.exists(real):
            if os.path.lexists(path):
                raise ReadError(f"a symbolic link to {real}, which does not exist", place=self.place(inside))
            return
        if not any(real == root or real.startswith(root.rstrip(os.sep) + os.sep) for root in self._roots()):
            raise ReadError(
                f"a symbolic link to {real}, outside the model; put the file itself there to read it",
                place=self.place(inside),
            )

    def _roots(self) -> Iterator[str]:
        """The folder, and the store that a Hugging Face cache links its snapshots to (models--X/blobs)."""
        yield self._real
        steps = self._real.split(os.sep)
        for index, step in enumerate(steps):
            if step == "snapshots" and index and steps[index - 1].startswith(("models--", "datasets--")):
                yield os.sep.join([*steps[:index], "blobs"])


def read_all(handle: int, offset: int, length: int) -> bytes:
    """Positioned read of an open file; short only at its end. OSError as the system reports it."""
    if offset < 0 or length <= 0:
        return b""
    parts = []
    while length > 0:
        if hasattr(os, "pread"):
            part = os.pread(handle, length, offset)
        else:  # Windows
            os.lseek(handle, offset, os.SEEK_SET)
            part = os.read(handle, length)
        if not part:
            break
        parts.append(part)
        offset += len(part)
        length -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def read_within(source: Source, name: str, limit: int) -> bytes:
    """A whole file of at most ``limit`` bytes."""
    size = source.size(name)
    if size > limit:
        raise ReadError(
            f"the file holds {size:,} bytes, more than the {limit:,} that are read of such a file",
            place=source.place(name),
        )
    data = source.read_at(name, 0, size)
    if len(data) != size:
        raise ReadError(f"the file ended after {len(data):,} of {size:,} bytes", place=source.place(name))
    return data


def open_source(path: str | os.PathLike[str]) -> Source:
    """The source at a path or address: a folder as it is, a zip archive (by content) as a tree, any other file alone.

    Raises ReadError for a path that does not exist, cannot be opened, or is no file or folder.
    """
    label = os.fspath(path)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", label):
        from anecompat.readers.remote import open_remote

        return open_remote(label)
    root = Path(path)
    try:
        status = os.stat(root)
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(root):
            raise ReadError(f"a symbolic link to {os.readlink(root)}, which does not exist", place=label) from None
        raise ReadError("there is no such file or folder; check the spelling", place=label) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ReadError(f"the path cannot be opened ({reason})", place=label) from None
    if stat.S_ISDIR(status.st_mode):
        return FolderSource(root, label)
    if not stat.S_ISREG(status.st_mode):
        raise ReadError("this is neither a file nor a folder; copy the model to a file first", place=label)
    file = FolderSource(root.parent, label, only=root.name)
    if file.read_at(root.name, 0, 4) in (b"PK\x03\x04", b"PK\x05\x06"):
        from anecompat.readers.archive import ZipSource

        return ZipSource(file, root.name)
    return file

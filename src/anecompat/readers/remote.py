"""Models at an address: web servers and the Hugging Face hub by ranges, everything else that fsspec can open.

http(s) and hf:// need nothing but Python. Other schemes (s3://, gs://, ...) need the extra "remote" and the package
that fsspec names for the scheme.
"""

from __future__ import annotations

import re
import threading
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from anecompat.errors import ReadError
from anecompat.readers.ranges import LEAST_FETCH, WebSource
from anecompat.readers.source import MOST_FILES, Count, Labelled, Source, checked, joined, read_within

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
HUB = "https://huggingface.co"
FOLDERS = (".mlpackage", ".mlmodelc")
PATIENCE = 60.0  # seconds that one call of a file system may take


def open_remote(address: str) -> Source:
    """The source at an address, a zip archive as the tree it holds. ReadError where it cannot be reached or read."""
    scheme = address.split("://", 1)[0].lower()
    if scheme in ("http", "https", "hf"):
        source = _web(address, scheme)
    else:
        source = _through_fsspec(address, scheme)
    name = source.alone
    if name and source.read_at(name, 0, 4) in (b"PK\x03\x04", b"PK\x05\x06"):
        from anecompat.readers.archive import ZipSource

        return ZipSource(source, name)
    return source


def _web(address: str, scheme: str) -> Source:
    try:
        url = urlsplit(_hub(address) if scheme == "hf" else address)
        _ = url.port
    except ValueError as error:
        raise ReadError(f"this is no address of a file ({error})", place=address) from None
    if not url.hostname:
        raise ReadError("the address names no server", place=address)
    if re.search(r"[\x00-\x20\x7f]", url.geturl()):
        url = url._replace(path=quote(unquote(url.path)), query=quote(url.query, safe="=&%+"))
    url = url._replace(fragment="")
    last = unquote(url.path.rstrip("/").rsplit("/", 1)[-1])
    if url.path.endswith("/") or last.lower().endswith(FOLDERS):
        return WebSource(url.geturl(), address.rstrip("/"))
    file = WebSource(url.geturl(), address, only=last or "model")
    try:
        file.size(file.alone)
    except ReadError:
        folder = WebSource(url.geturl(), address)
        if folder.has("Manifest.json"):
            return folder
        raise
    return file


def _hub(address: str) -> str:
    """hf://[datasets/|spaces/]owner/name[@revision]/path as the address of the file itself."""
    steps = [step for step in address.split("://", 1)[1].split("/") if step]
    kind = steps.pop(0) + "/" if steps and steps[0] in ("datasets", "spaces") else ""
    if steps and steps[0] == "models":
        steps.pop(0)
    if len(steps) < 3:
        raise ValueError("hf://owner/name/path/Model.mlpackage was expected")
    owner, name, *path = steps
    name, _, revision = name.partition("@")
    inside = "/".join(quote(step) for step in path)
    return f"{HUB}/{kind}{quote(owner)}/{quote(name)}/resolve/{quote(revision or 'main', safe='')}/{inside}"


def _through_fsspec(address: str, scheme: str) -> Source:
    try:
        import fsspec  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        raise ReadError(
            f"reading {scheme}:// needs fsspec: pip install 'anecompat[remote]'; or download the model first",
            place=address,
        ) from None
    try:
        files, path = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise ReadError(f"fsspec cannot open {scheme}:// ({_line(error)})", place=address) from None
    except Exception as error:
        raise ReadError(f"the address cannot be opened ({_line(error)})", place=address) from None
    return FileSystemSource(files, path, address)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


class FileSystemSource(Labelled):
    """A file or folder of an fsspec file system, as a source (see ``Source``)."""

    def __init__(self, files: Any, path: str, label: str, *, count: Count | None = None) -> None:
        super().__init__(label, "", count or Count())
        self._files = files
        self._path = path.rstrip("/")
        self._sizes: dict[str, int] = {}
        self._pieces: dict[str, tuple[int, bytes]] = {}
        kind, size = self._info("")
        self._only = self._path.rsplit("/", 1)[-1] if kind == "file" else ""
        if self._only:
            self._sizes[self._only] = size

    def _call(self, name: str, method: str, *arguments: Any, **options: Any) -> Any:
        """One call of the file system, given up after PATIENCE: its own time limits are not ours to set."""
        outcome: list[Any] = []

        def work() -> None:
            try:
                outcome.append((True, getattr(self._files, method)(*arguments, **options)))
            except Exception as error:
                outcome.append((False, error))

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(PATIENCE)
        if not outcome:
            raise ReadError(f"no answer within {PATIENCE:.0f} seconds", place=self.place(name))
        good, result = outcome[0]
        if good:
            return result
        if isinstance(result, FileNotFoundError):
            raise ReadError("there is no such file; check the address", place=self.place(name))
        raise ReadError(f"reading failed ({_line(result)})", place=self.place(name))

    def _full(self, name: str) -> str:
        if self._only:
            return self._path
        inside = checked(name, self._label)
        return f"{self._path}/{inside}" if inside else self._path

    def _info(self, name: str) -> tuple[str, int]:
        found = self._call(name, "info", self._full(name))
        return found.get("type", "file"), int(found.get("size") or 0)

    def has(self, name: str) -> bool:
        return name == self._only if self._only else bool(self._call(name, "exists", self._full(name)))

    def children(self, folder: str = "") -> tuple[str, ...]:
        if self._only:
            return () if folder else (self._only,)
        if not self.has(folder):
            return ()
        entries = self._call(folder, "ls", self._full(folder), detail=True)
        names = []
        for entry in entries[:MOST_FILES]:
            name = entry["name"].rstrip("/").rsplit("/", 1)[-1]
            names.append(name + "/" if entry.get("type") == "directory" else name)
            if entry.get("type") == "file" and entry.get("size") is not None:
                self._sizes[joined(folder.rstrip("/") + "/" if folder else "", name)] = int(entry["size"])
        return tuple(sorted(names))

    def size(self, name: str) -> int:
        if name not in self._sizes:
            kind, size = self._info(name)
            if kind != "file":
                raise ReadError("a file was expected, this is a folder", place=self.place(name))
            self._sizes[name] = size
        return self._sizes[name]

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        length = min(length, self.size(name) - offset)
        if offset < 0 or length <= 0:
            return b""
        start, piece = self._pieces.get(name, (0, b""))
        if not (start <= offset and offset + length <= start + len(piece)):
            end = min(offset + max(length, LEAST_FETCH), self.size(name))
            start, piece = offset, self._call(name, "cat_file", self._full(name), start=offset, end=end)
            if len(piece) > end - offset:
                raise ReadError("the store cannot serve parts of a file; download it first", place=self.place(name))
            self._count.bytes += len(piece)
            self._pieces[name] = (start, piece)
        return piece[offset - start : offset - start + length]

    def read(self, name: str, limit: int) -> bytes:
        return read_within(self, name, limit)

    def at(self, folder: str) -> FileSystemSource:
        return FileSystemSource(self._files, self._full(folder), self.place(folder), count=self._count)

    def total_size(self) -> int:
        if self._only:
            return self.size(self._only)
        found = self._call("", "find", self._path, detail=True)
        return sum(int(entry.get("size") or 0) for entry in found.values())

    def close(self) -> None:
        """Nothing is held open."""

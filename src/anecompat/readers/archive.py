"""A zip archive as a source: entries are read where they lie, nothing is unpacked to disk.

Stored entries are read by position. Deflated ones are inflated as a stream that keeps a window, forward at no extra
cost; going back starts over, within a budget. An archive that would inflate out of proportion is refused.
"""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable

from anecompat.errors import ReadError
from anecompat.readers.source import Source, checked, joined, read_within

MOST_DIRECTORY = 8 << 20  # bytes of the archive's directory: about 100,000 entries
MOST_RATIO = 200  # weights barely compress; deflate itself ends at about 1,030
FREE = 1 << 30  # bytes that an archive may inflate to whatever the ratio: a model of zeros is small
WINDOW = 1 << 20  # inflated bytes kept for a step back
PIECE = 1 << 16


class _Positioned(io.RawIOBase):
    """What zipfile wants to see: the archive as a seekable file over a source."""

    def __init__(self, source: Source, name: str) -> None:
        self._source = source
        self._name = name
        self._at = 0
        self._size = source.size(name)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise OSError("before the start of the archive")
        self._at = start + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        wanted = self._size - self._at if size is None or size < 0 else size
        if wanted > MOST_DIRECTORY:
            raise zipfile.BadZipFile("its directory is too large")
        data = self._source.read_at(self._name, self._at, wanted)
        self._at += len(data)
        return data


class _Inflated:
    """One deflated entry as a stream with a window."""

    def __init__(self, fetch: Callable[[int, int], bytes], packed: int, size: int, place: str) -> None:
        self._fetch = fetch
        self._packed = packed
        self._size = size
        self._place = place
        self._budget = 8 * size + (64 << 20)
        self._restart()

    def _restart(self) -> None:
        self._engine = zlib.decompressobj(-15)
        self._window = bytearray()
        self._start = 0  # offset in the entry where the window begins
        self._next = 0  # offset in the archive's data of the next packed bytes
        self._rest = b""

    def read_at(self, offset: int, length: int) -> bytes:
        length = min(length, self._size - offset)
        if offset < 0 or length <= 0:
            return b""
        if offset < self._start:
            self._restart()
        while self._start + len(self._window) < offset + length:
            spare = len(self._window) - WINDOW
            drop = min(spare, offset - self._start) if spare >= WINDOW else 0
            if drop > 0:
                del self._window[:drop]
                self._start += drop
            if not self._more():
                raise ReadError(
                    f"the entry ends after {self._start + len(self._window):,} of {self._size:,} bytes;"
                    " the archive is damaged",
                    place=self._place,
                )
        begin = offset - self._start
        return bytes(self._window[begin : begin + length])

    def _more(self) -> bool:
        if not self._rest and self._next < self._packed:
            self._rest = self._fetch(self._next, min(PIECE, self._packed - self._next))
            self._next += len(self._rest)
        if not self._rest or self._engine.eof:
            return False
        try:
            made = self._engine.decompress(self._rest, WINDOW)
        except zlib.error as error:
            raise ReadError(f"the compressed data is damaged ({error})", place=self._place) from None
        self._rest = self._engine.unconsumed_tail
        self._window += made
        self._budget -= len(made)
        if self._start + len(self._window) > self._size:
            raise ReadError("the entry holds more than the archive's directory says", place=self._place)
        if self._budget < 0:
            raise ReadError("reading this entry takes too long; unpack the archive first", place=self._place)
        return True


class ZipSource:
    """A zip archive as a tree of names (see ``Source``)."""

    def __init__(self, source: Source, name: str) -> None:
        self._source = source
        self._name = name
        self._folder = ""
        self._entries = self._directory()
        self._folders: dict[str, set[str]] = {"": set()}
        self._starts: dict[str, int] = {}
        self._streams: dict[str, _Inflated] = {}
        for entry in self._entries:
            parent = ""
            for step in entry.split("/")[:-1]:
                self._folders[parent].add(step + "/")
                parent += step + "/"
                self._folders.setdefault(parent, set())
            self._folders[parent].add(entry[len(parent) :])

    def _directory(self) -> dict[str, zipfile.ZipInfo]:
        try:
            with zipfile.ZipFile(_Positioned(self._source, self._name)) as archive:
                infos = archive.infolist()
        except ReadError:
            raise
        except Exception as error:
            raise ReadError(f"the zip archive is damaged or cut short ({error})", place=self._source.label) from None
        entries: dict[str, zipfile.ZipInfo] = {}
        total = 0
        for info in infos:
            name = checked(info.filename, self._source.label)
            if not name or info.filename.endswith(("/", "\\")):
                continue
            if name in entries:
                raise ReadError(f"the archive holds {name} twice; pack it again", place=self._source.label)
            entries[name] = info
            total += info.file_size
        if total > MOST_RATIO * self._source.size(self._name) + FREE:
            raise ReadError(
                f"the archive of {self._source.size(self._name):,} bytes claims to hold {total:,}: out of proportion"
                " (a compression bomb?); it is not read",
                place=self._source.label,
            )
        for name in entries:
            steps = name.split("/")
            for count in range(1, len(steps)):
                if "/".join(steps[:count]) in entries:
                    raise ReadError(f"the archive uses {name} as a file and as a folder", place=self._source.label)
        return entries

    @property
    def label(self) -> str:
        return f"{self._source.label}/{self._folder}".rstrip("/")

    @property
    def alone(self) -> str:
        return ""

    @property
    def bytes_read(self) -> int:
        return self._source.bytes_read

    def place(self, name: str = "") -> str:
        return f"{self._source.label}/{joined(self._folder, name)}".rstrip("/")

    def _inside(self, name: str) -> str:
        inside = checked(name, self.label)
        return self._folder + inside

    def has(self, name: str) -> bool:
        inside = self._inside(name)
        return inside in self._entries or inside.rstrip("/") + "/" in self._folders or not inside

    def children(self, folder: str = "") -> tuple[str, ...]:
        inside = self._inside(folder)
        return tuple(sorted(self._folders.get(inside.rstrip("/") + "/" if inside else "", ())))

    def size(self, name: str) -> int:
        return self._entry(name).file_size

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        info = self._entry(name)
        if info.compress_type == zipfile.ZIP_STORED:
            return self._stored(info, offset, min(length, info.file_size - offset))
        stream = self._streams.get(info.filename)
        if stream is None:
            self._streams.clear()  # one window at a time
            stream = self._streams[info.filename] = _Inflated(
                lambda offset, length: self._stored(info, offset, length),
                info.compress_size,
                info.file_size,
                self.place(name),
            )
        return stream.read_at(offset, length)

    def read(self, name: str, limit: int) -> bytes:
        return read_within(self, name, limit)

    def at(self, folder: str) -> ZipSource:
        view = object.__new__(ZipSource)
        view.__dict__.update(self.__dict__)
        inside = self._inside(folder).rstrip("/")
        view._folder = inside + "/" if inside else ""
        return view

    def total_size(self) -> int:
        return self._source.size(self._name)

    def close(self) -> None:
        self._streams.clear()
        self._source.close()

    def _entry(self, name: str) -> zipfile.ZipInfo:
        info = self._entries.get(self._inside(name))
        place = self.place(name)
        if info is None:
            raise ReadError("there is no such file in the archive", place=place)
        if stat.S_ISLNK(info.external_attr >> 16):
            raise ReadError("a symbolic link inside an archive is not followed; pack the file itself", place=place)
        if info.flag_bits & 1:
            raise ReadError("the entry is encrypted with a password; unpack the archive first", place=place)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ReadError(
                f"the entry is packed by method {info.compress_type}, which is not read (stored and deflated are);"
                " unpack the archive first",
                place=place,
            )
        if info.file_size > MOST_RATIO * info.compress_size + (64 << 20):
            raise ReadError(
                f"{info.compress_size:,} packed bytes claim to hold {info.file_size:,}: out of proportion"
                " (a compression bomb?); it is not read",
                place=place,
            )
        if info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size:
            raise ReadError("the archive's directory contradicts itself about the entry's size", place=place)
        return info

    def _stored(self, info: zipfile.ZipInfo, offset: int, length: int) -> bytes:
        """Bytes of the entry's data as they lie in the archive."""
        start = self._starts.get(info.filename)
        place = f"{self._source.label}/{info.filename}"
        if start is None:
            header = self._source.read_at(self._name, info.header_offset, 30)
            if len(header) < 30 or header[:4] != b"PK\x03\x04":
                raise ReadError("the archive has no entry where its directory says", place=place)
            name_length, extra_length = struct.unpack("<HH", header[26:30])
            start = self._starts[info.filename] = info.header_offset + 30 + name_length + extra_length
        if offset < 0 or length <= 0:
            return b""
        data = self._source.read_at(self._name, start + offset, length)
        if len(data) < length:
            raise ReadError("the archive is cut short", place=place)
        return data

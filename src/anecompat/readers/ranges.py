"""Models on a web server: only the byte ranges that the structure needs are fetched.

One connection is kept open for each host. Everything is bounded: redirects, time for an answer, time for a body, and
the size of what is taken from a server that cannot serve ranges.
"""

from __future__ import annotations

import http.client
import re
import ssl
import time
import urllib.request
from collections import OrderedDict
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from anecompat.errors import ReadError
from anecompat.readers.source import Count, Labelled, checked, read_within

LEAST_FETCH = 1 << 14  # a round trip costs more than these bytes
MOST_KEPT = 32  # fetched pieces held for a second look
MOST_WHOLE = 16 << 20  # a file up to this size is taken whole from a server that cannot serve ranges
MOST_REDIRECTS = 5
MOST_STAGES = 100  # of a compiled pipeline
SILENCE = 15.0  # seconds without a byte
SLOWEST = 20_000  # bytes a second
AGENT = "anecompat (reads Core ML models by ranges)"

# What may lie in a model's folder: a web server has no listing, so names are tried.
KNOWN = (
    "Manifest.json",
    "coremldata.bin",
    "metadata.json",
    "model.mil",
    "model.espresso.net",
    "model.espresso.shape",
    "model.espresso.weights",
)


class _Connections:
    """Open connections by host, through the proxies of the environment."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], http.client.HTTPConnection] = {}

    def has(self, url: SplitResult) -> bool:
        """Whether a connection to the host is open: the server may have closed it meanwhile."""
        return (url.scheme, url.netloc) in self._open

    def get(self, url: SplitResult) -> tuple[http.client.HTTPConnection, str]:
        """A connection for a URL, and the target to ask it for."""
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        host = url.hostname or ""
        proxy = urllib.request.getproxies().get(url.scheme)
        if proxy and urllib.request.proxy_bypass(url.netloc):
            proxy = None
        found = self._open.get((url.scheme, url.netloc))
        if found is None:
            found = self._connect(url, host, urlsplit(proxy) if proxy else None)
            self._open[url.scheme, url.netloc] = found
        return found, url.geturl() if proxy and url.scheme == "http" else target

    def _connect(self, url: SplitResult, host: str, proxy: SplitResult | None) -> http.client.HTTPConnection:
        through = proxy or url
        port = through.port or (443 if through.scheme == "https" and proxy is None else None)
        name = through.hostname or host
        if url.scheme == "http":
            return http.client.HTTPConnection(name, port, timeout=SILENCE)
        made = http.client.HTTPSConnection(name, port, timeout=SILENCE, context=ssl.create_default_context())
        if proxy is not None:
            made.set_tunnel(host, url.port or 443)
        return made

    def drop(self, url: SplitResult) -> None:
        found = self._open.pop((url.scheme, url.netloc), None)
        if found is not None:
            found.close()

    def close(self) -> None:
        for connection in self._open.values():
            connection.close()
        self._open.clear()


class _Shared:
    """What all views of one address share."""

    def __init__(self) -> None:
        self.count = Count()
        self.connections = _Connections()
        self.sizes: dict[str, int | None] = {}  # by URL; None for what is not there
        self.moved: dict[str, str] = {}
        self.pieces: OrderedDict[tuple[str, int], bytes] = OrderedDict()


class WebSource(Labelled):
    """A file or folder at an http(s) address, as a source (see ``Source``)."""

    def __init__(self, url: str, label: str, *, only: str = "", shared: _Shared | None = None) -> None:
        self._url = url
        self._shared = shared or _Shared()
        super().__init__(label, only, self._shared.count)

    def has(self, name: str) -> bool:
        if self._only:
            return name == self._only
        return self._length(name) is not None

    def children(self, folder: str = "") -> tuple[str, ...]:
        if self._only:
            return () if folder else (self._only,)
        prefix = folder.rstrip("/") + "/" if folder else ""
        found = [name for name in KNOWN if self.has(prefix + name)]
        if not {"Manifest.json", "model.mil", "model.espresso.net"}.intersection(found):  # perhaps a compiled pipeline
            for stage in range(MOST_STAGES):
                name = f"model{stage}"
                if not self.has(f"{prefix}{name}/coremldata.bin"):
                    break
                found.append(name + "/")
        return tuple(sorted(found))

    def size(self, name: str) -> int:
        size = self._length(name)
        if size is None:
            raise ReadError("the server has no such file (404); check the address", place=self.place(name))
        return size

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        url = self._address(name)
        known = self._shared.sizes.get(url)
        if known is not None:
            length = min(length, known - offset)
        if offset < 0 or length <= 0:
            return b""
        for (address, start), piece in self._shared.pieces.items():
            if address == url and start <= offset and offset + length <= start + len(piece):
                return piece[offset - start : offset - start + length]
        piece = self._fetch(url, offset, max(length, LEAST_FETCH), self.place(name))
        return piece[:length]

    def read(self, name: str, limit: int) -> bytes:
        return read_within(self, name, limit)

    def at(self, folder: str) -> WebSource:
        inside = checked(folder, self._label)
        return WebSource(self._address(inside), self.place(folder), shared=self._shared)

    def total_size(self) -> int:
        return sum(size for size in self._shared.sizes.values() if size is not None)

    def close(self) -> None:
        self._shared.connections.close()

    def _address(self, name: str) -> str:
        if self._only:
            return self._url
        url = urlsplit(self._url)
        path = url.path.rstrip("/") + "/" + quote(checked(name, self._label))
        return url._replace(path=path.rstrip("/") if name else url.path).geturl()

    def _length(self, name: str) -> int | None:
        url = self._address(name)
        if url not in self._shared.sizes:
            self._fetch(url, 0, 1, self.place(name), missing=True)
        return self._shared.sizes[url]

    def _fetch(self, url: str, offset: int, length: int, place: str, *, missing: bool = False) -> bytes:
        """Bytes from ``offset``, kept for a second look. ``missing`` allows that there is no such file."""
        known = self._shared.sizes.get(url)
        last = offset + length - 1 if known is None else min(offset + length, known) - 1
        answer = _Request(self._shared, url, place).send(offset, last)
        if answer is None:
            if not missing:
                raise ReadError("the server has no such file (404); check the address", place=place)
            self._shared.sizes[url] = None
            return b""
        start, data, total = answer
        if known is not None and known != total:
            raise ReadError("the file changed on the server while it was read; try again", place=place)
        self._shared.sizes[url] = total
        self._shared.pieces[url, start] = data
        if len(self._shared.pieces) > MOST_KEPT:
            self._shared.pieces.popitem(last=False)
        return data[offset - start :]


class _Request:
    """One range of one file: redirects followed, faults turned into sentences."""

    def __init__(self, shared: _Shared, url: str, place: str) -> None:
        self._shared = shared
        self._url = url
        self._place = place

    def error(self, what: str) -> ReadError:
        return ReadError(what, place=self._place)

    def send(self, first: int, last: int) -> tuple[int, bytes, int] | None:
        """(offset, bytes, size of the file), or None where the server has no such file."""
        address = self._shared.moved.get(self._url, self._url)
        for _ in range(MOST_REDIRECTS + 1):
            url = urlsplit(address)
            if url.scheme not in ("http", "https") or not url.hostname:
                raise self.error(f"the server sends us on to {address!r}, which is no web address")
            answer = self._answer(url, first, last)
            status, location = answer.status, answer.getheader("Location")
            if status in (301, 302, 303, 307, 308) and location:
                self._shared.connections.drop(url)
                address = urljoin(address, location)
                continue
            if status in (401, 403, 410) and address != self._url:
                self._shared.connections.drop(url)  # a signed address that has run out
                self._shared.moved.pop(self._url, None)
                if self._url in self._shared.sizes:
                    address = self._url
                    continue
            if address != self._url:
                self._shared.moved[self._url] = address
            try:
                return self._body(answer, first, last)
            finally:
                if answer.length == 0:
                    answer.close()  # all of it was taken: the connection may serve the next range
                else:
                    self._shared.connections.drop(url)
        raise self.error(f"the server sends us on more than {MOST_REDIRECTS} times (a redirect loop?)")

    def _answer(self, url: SplitResult, first: int, last: int) -> http.client.HTTPResponse:
        headers = {"Range": f"bytes={first}-{last}", "Accept-Encoding": "identity", "User-Agent": AGENT}
        for attempt in (1, 2):
            reused = self._shared.connections.has(url)
            connection, target = self._shared.connections.get(url)
            try:
                connection.request("GET", target, headers=headers)
                return connection.getresponse()
            except TimeoutError:
                self._shared.connections.drop(url)
                raise self.error(f"the server {url.netloc} gave no answer within {SILENCE:.0f} seconds") from None
            except (OSError, http.client.HTTPException, ValueError) as error:
                self._shared.connections.drop(url)
                if reused and attempt == 1:
                    continue  # a kept connection may have been closed in between
                raise self.error(_reason(url, error)) from None
        raise AssertionError("the second attempt returns or raises")

    def _body(self, answer: http.client.HTTPResponse, first: int, last: int) -> tuple[int, bytes, int] | None:
        status = answer.status
        if status == 404:
            self._discard(answer)
            return None
        if status == 416:
            self._discard(answer)
            found = re.fullmatch(r"bytes \*/(\d{1,18})", answer.getheader("Content-Range") or "")
            if found and int(found[1]) <= first:
                return first, b"", int(found[1])
            raise self.error("the server refuses the range that was asked for (416); download the file first")
        if status == 206:
            found = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", answer.getheader("Content-Range") or "")
            if found is None or int(found[1]) != first or int(found[2]) > last:
                raise self.error("the server answers with another range than was asked for; download the file first")
            wanted = int(found[2]) - first + 1
            data = self._take(answer, wanted)
            if len(data) < wanted:
                raise self.error(f"the connection ended after {len(data):,} of {wanted:,} bytes; try again")
            return first, data, int(found[3])
        if status == 200:
            return self._whole(answer)
        if status in (401, 403):
            raise self.error(f"the server wants a login or refuses ({status}); download the file and give its path")
        raise self.error(f"the server answers {status} {answer.reason}; try again later or download the file")

    def _whole(self, answer: http.client.HTTPResponse) -> tuple[int, bytes, int]:
        length = answer.getheader("Content-Length") or ""
        size = int(length) if re.fullmatch(r"\d{1,18}", length) else None
        if size is None or size <= MOST_WHOLE:
            data = self._take(answer, MOST_WHOLE + 1)
            if size is not None and len(data) < size:
                raise self.error(f"the connection ended after {len(data):,} of {size:,} bytes; try again")
            if len(data) <= MOST_WHOLE:
                return 0, data, len(data)
        much = f"all {size:,} bytes" if size is not None else "the whole file"
        raise self.error(
            f"the server cannot serve parts of a file, and {much} would have to be loaded;"
            " download it and give its path"
        )

    def _discard(self, answer: http.client.HTTPResponse) -> None:
        self._take(answer, 1 << 16)

    def _take(self, answer: http.client.HTTPResponse, most: int) -> bytes:
        """Up to ``most`` bytes of the body, in a time that grows with them."""
        deadline = time.monotonic() + SILENCE + most / SLOWEST
        parts = []
        left = most
        try:
            while left > 0:
                part = answer.read1(min(left, 1 << 16))
                if not part:
                    break
                parts.append(part)
                left -= len(part)
                self._shared.count.bytes += len(part)
                if time.monotonic() > deadline:
                    raise self.error(f"the server is too slow (below {SLOWEST:,} bytes a second); download the file")
        except TimeoutError:
            raise self.error(f"the server fell silent for {SILENCE:.0f} seconds") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self.error(f"the connection broke ({error}); try again") from None
        return b"".join(parts)


def _reason(url: SplitResult, error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of {url.netloc} is not trusted ({error.verify_message})"
    if isinstance(error, OSError):
        return f"the server {url.netloc} cannot be reached ({error.strerror or error})"
    return f"the server {url.netloc} does not speak HTTP as expected ({type(error).__name__})"

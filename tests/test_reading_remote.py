"""Models at an address: a local server that counts what it serves, and every way in which one can fail."""

from __future__ import annotations

import re
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from anecompat.errors import ReadError
from anecompat.proto import Model as ModelMessage
from anecompat.readers import ranges, read, remote

MANIFEST = (
    b'{"itemInfoEntries": {"1": {"path": "com.apple.CoreML/model.mlmodel"}, "2": {"path": "com.apple.CoreML/weights"}},'
    b' "rootModelIdentifier": "1"}'
)


def heavy(megabytes: int = 8, layers: int = 8) -> bytes:
    """A network with its weights inside."""
    model = ModelMessage(specificationVersion=4)
    for feature, name in ((model.description.input, "x"), (model.description.output, "y")):
        feature.add(name=name).type.multiArrayType.shape.extend([3, 8, 8])
    for index in range(layers):
        layer = model.neuralNetwork.layers.add(name=f"c{index}")
        layer.input.append(f"t{index}" if index else "x")
        layer.output.append(f"t{index + 1}" if index < layers - 1 else "y")
        convolution = layer.convolution
        convolution.outputChannels = convolution.kernelChannels = 3
        convolution.kernelSize.extend([3, 3])
        convolution.same.SetInParent()
        convolution.weights.float16Value = bytes(range(256)) * (megabytes * 4096 // layers)
    return bytes(model.SerializeToString())


class Server(ThreadingHTTPServer):
    """Serves ``files`` by path; ``modes`` says how it misbehaves on a path."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up in the middle is what some tests are about."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.modes: dict[str, str] = {}
        self.served = 0
        self.requests: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    server: Server

    def log_message(self, *_: object) -> None: ...

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.server.served += len(body)

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        self.server.requests.append(path)
        mode = self.server.modes.get(path, "")
        data = self.server.files.get(path)
        if mode.startswith("to "):
            self.reply(302, Location=mode[3:])
        elif mode == "hang":
            time.sleep(5)
        elif mode == "garbage":
            self.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")
            self.close_connection = True
        elif mode.isdigit():
            self.reply(int(mode), b"sorry")
        elif data is None:
            self.reply(404, b"nothing here")
        elif mode == "no ranges":
            self.reply(200, data)
        elif mode == "endless":
            self.send_response(200)
            self.end_headers()
            self.close_connection = True
            try:
                for _ in range(300):
                    self.wfile.write(bytes(1 << 20))
                    self.server.served += 1 << 20
            except OSError:
                pass
        else:
            self.part(mode, data)

    def part(self, mode: str, data: bytes) -> None:
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"])
        assert found
        first, last = int(found[1]), min(int(found[2]), len(data) - 1)
        if first >= len(data):
            self.reply(416, Content_Range=f"bytes */{len(data)}")
            return
        piece = data[first : last + 1]
        if mode == "other range":
            self.reply(206, piece, Content_Range=f"bytes {first + 1}-{last + 1}/{len(data)}")
        elif mode == "breaks off":
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
            self.send_header("Content-Length", str(len(piece)))
            self.end_headers()
            self.wfile.write(piece[:-1])
            self.close_connection = True
        elif mode == "silent":
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
            self.send_header("Content-Length", str(len(piece)))
            self.end_headers()
            self.wfile.write(piece[:-1])
            self.wfile.flush()
            time.sleep(5)
        elif mode == "closes":
            self.close_connection = True
            self.reply(206, piece, Content_Range=f"bytes {first}-{last}/{len(data)}")
        else:
            self.reply(206, piece, Content_Range=f"bytes {first}-{last}/{len(data)}")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    made = Server()
    thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def refusal(address: str) -> str:
    with pytest.raises(ReadError) as caught:
        read(address)
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith(address)
    return said.removeprefix(address)


def kinds(address: str) -> list[str]:
    return [operation.type for operation in read(address).operations()]


def test_a_model_file_with_weights_inside(server: Server) -> None:
    server.files["/m.mlmodel"] = heavy()
    model = read(f"{server.url}/m.mlmodel?download=true#there")
    assert [operation.type for operation in model.operations()] == ["conv"] * 8
    assert model.bytes_there == len(server.files["/m.mlmodel"])
    assert model.bytes_read == server.served < 400_000 < 8_000_000 < model.bytes_there


def test_a_package(server: Server) -> None:
    server.files["/a/M.mlpackage/Manifest.json"] = MANIFEST
    server.files["/a/M.mlpackage/Data/com.apple.CoreML/model.mlmodel"] = heavy()
    for address in (f"{server.url}/a/M.mlpackage", f"{server.url}/a/M.mlpackage/"):
        server.served = 0
        model = read(address)
        assert (model.format, len(list(model.operations()))) == ("mlpackage", 8)
        assert server.served < 400_000


def test_a_package_under_another_name(server: Server) -> None:
    server.files["/a b/Manifest.json"] = MANIFEST
    server.files["/a b/Data/com.apple.CoreML/model.mlmodel"] = heavy()
    server.files = {name.replace(" ", "%20"): data for name, data in server.files.items()}
    assert kinds(f"{server.url}/a b") == ["conv"] * 8
    assert kinds(f"{server.url}/a%20b") == ["conv"] * 8


def test_an_archive(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "m.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("M.mlpackage/Manifest.json", MANIFEST)
        archive.writestr("M.mlpackage/Data/com.apple.CoreML/model.mlmodel", heavy())
        archive.writestr("M.mlpackage/Data/com.apple.CoreML/weights/weight.bin", bytes(4 << 20))
    server.files["/m.mlpackage.zip"] = path.read_bytes()
    model = read(f"{server.url}/m.mlpackage.zip")
    assert (model.format, len(list(model.operations()))) == ("mlpackage", 8)
    assert server.served < 600_000
    assert model.bytes_there == path.stat().st_size


def test_a_compiled_model(server: Server) -> None:
    text = "program(1.0) { func main<ios16>(tensor<fp16, [1, 4]> x) { tensor<fp16, [1, 4]> y = relu(x = x); } -> (y); }"
    server.files["/c.mlmodelc/model.mil"] = text.encode()
    model = read(f"{server.url}/c.mlmodelc")
    assert (model.format, [operation.type for operation in model.operations()]) == ("mlmodelc", ["relu"])


def test_one_connection_serves_all_ranges(server: Server) -> None:
    server.files["/m.mlmodel"] = heavy()
    connections: set[int] = set()
    process = server.process_request

    def count(request: object, address: tuple[str, int]) -> None:
        connections.add(address[1])
        process(request, address)  # type: ignore[arg-type]

    server.process_request = count  # type: ignore[method-assign, assignment]
    assert kinds(f"{server.url}/m.mlmodel") == ["conv"] * 8
    assert len(server.requests) > 5
    assert len(connections) == 1


def test_a_server_that_closes_after_each_answer(server: Server) -> None:
    server.files["/m.mlmodel"] = heavy()
    server.modes["/m.mlmodel"] = "closes"
    assert kinds(f"{server.url}/m.mlmodel") == ["conv"] * 8


def test_redirects_are_followed_and_remembered(server: Server) -> None:
    server.files["/real"] = heavy()
    server.modes |= {"/m.mlmodel": "to /two", "/two": f"to {server.url}/real"}
    assert kinds(f"{server.url}/m.mlmodel") == ["conv"] * 8
    assert server.requests[:3] == ["/m.mlmodel", "/two", "/real"]
    assert set(server.requests[3:]) == {"/real"}


def test_a_redirect_loop(server: Server) -> None:
    server.modes["/m.mlmodel"] = "to /m.mlmodel"
    assert refusal(f"{server.url}/m.mlmodel") == ": the server sends us on more than 5 times (a redirect loop?)"
    assert len(server.requests) < 20


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_a_redirect_to_no_web_address(server: Server, target: str) -> None:
    server.modes["/m.mlmodel"] = f"to {target}"
    said = refusal(f"{server.url}/m.mlmodel")
    assert "which is no web address" in said


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("404", ": the server has no such file (404); check the address"),
        ("401", ": the server wants a login or refuses (401); download the file and give its path"),
        ("403", ": the server wants a login or refuses (403)"),
        ("500", ": the server answers 500 Internal Server Error; try again later"),
        ("garbage", " does not speak HTTP as expected (BadStatusLine)"),
        ("other range", ": the server answers with another range than was asked for"),
        ("breaks off", ": the connection ended after"),
        ("hang", " gave no answer within 0 seconds"),
        ("silent", ": the server fell silent for 0 seconds"),
        ("endless", ": the server cannot serve parts of a file, and the whole file would have to be loaded"),
    ],
)
def test_servers_that_fail(server: Server, mode: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "SILENCE", 0.3)
    server.files["/m.mlmodel"] = heavy()
    server.modes["/m.mlmodel"] = mode
    said = refusal(f"{server.url}/m.mlmodel")
    assert expected in said


def test_no_ranges(server: Server) -> None:
    """A small file is taken whole; a large one is refused before its body is loaded."""
    server.files["/small.mlmodel"] = heavy(1)
    server.files["/large.mlmodel"] = heavy(40)
    server.modes |= {"/small.mlmodel": "no ranges", "/large.mlmodel": "no ranges"}
    assert kinds(f"{server.url}/small.mlmodel") == ["conv"] * 8
    assert server.requests.count("/small.mlmodel") == 1
    size = f"{len(server.files['/large.mlmodel']):,}"
    assert f"the server cannot serve parts of a file, and all {size} bytes would" in refusal(
        f"{server.url}/large.mlmodel"
    )


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/m.mlmodel"
        assert "cannot be reached (Connection refused)" in refusal(address)


def test_a_file_that_changes_on_the_server(server: Server) -> None:
    server.files["/m.mlmodel"] = heavy()
    source = remote.open_remote(f"{server.url}/m.mlmodel")
    assert source.size("m.mlmodel")
    server.files["/m.mlmodel"] += b"x"
    with pytest.raises(ReadError, match="the file changed on the server while it was read"):
        source.read_at("m.mlmodel", 2_000_000, 4)


def test_missing_weights_are_a_warning(server: Server) -> None:
    model = ModelMessage(specificationVersion=7)
    model.description.input.add(name="x")
    function = model.mlProgram.functions["main"]
    function.opset = "CoreML6"
    block = function.block_specializations["CoreML6"]
    const = block.operations.add(type="const")
    for message in (const.outputs.add(name="w").type, const.attributes["val"].type):
        message.tensorType.dataType = 10
    const.attributes["val"].blobFileValue.fileName = "@model_path/weights/weight.bin"
    const.attributes["val"].blobFileValue.offset = 64
    block.outputs.append("w")
    server.files["/M.mlpackage/Manifest.json"] = MANIFEST
    server.files["/M.mlpackage/Data/com.apple.CoreML/model.mlmodel"] = model.SerializeToString()
    (warning,) = read(f"{server.url}/M.mlpackage").warnings
    assert "weights/weight.bin is missing" in warning
    server.files["/M.mlpackage/Data/com.apple.CoreML/weights/weight.bin"] = bytes(10 << 20)
    server.served = 0
    assert read(f"{server.url}/M.mlpackage").warnings == ()
    assert server.served < 1000


@pytest.mark.parametrize("address", ["http://", "https:///path", "http://[::1/x", "http://host:port/x"])
def test_no_address(address: str) -> None:
    with pytest.raises(ReadError, match=r"names no server|no address of a file"):
        read(address)


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("hf://org/repo/sub dir/M.mlmodel", "/org/repo/resolve/main/sub%20dir/M.mlmodel"),
        ("hf://org/repo@v1/M.mlmodel", "/org/repo/resolve/v1/M.mlmodel"),
        ("hf://datasets/org/repo/M.mlmodel", "/datasets/org/repo/resolve/main/M.mlmodel"),
    ],
)
def test_the_hub(server: Server, monkeypatch: pytest.MonkeyPatch, address: str, path: str) -> None:
    monkeypatch.setattr(remote, "HUB", server.url)
    server.files["/blob"] = heavy()
    server.modes[path] = "to /blob"
    assert kinds(address) == ["conv"] * 8


def test_a_hub_address_that_is_too_short() -> None:
    assert "hf://owner/name/path/Model.mlpackage was expected" in refusal("hf://org/repo")


def test_other_schemes_without_fsspec(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "fsspec", None)
    said = refusal("s3://bucket/m.mlmodel")
    assert said == ": reading s3:// needs fsspec: pip install 'anecompat[remote]'; or download the model first"


def test_a_scheme_that_nobody_knows() -> None:
    pytest.importorskip("fsspec")
    assert "fsspec cannot open nosuch://" in refusal("nosuch://bucket/m.mlmodel")


def test_any_file_system_of_fsspec(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    files.pipe("/here/M.mlpackage/Manifest.json", MANIFEST)
    files.pipe("/here/M.mlpackage/Data/com.apple.CoreML/model.mlmodel", heavy())
    files.pipe("/here/alone.mlmodel", heavy())
    path = tmp_path / "m.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("M.mlmodel", heavy(1))
    files.pipe("/here/m.zip", path.read_bytes())
    try:
        model = read("memory://here/M.mlpackage")
        assert (model.format, len(list(model.operations()))) == ("mlpackage", 8)
        assert model.bytes_read < 400_000 < model.bytes_there
        assert read("memory://here/alone.mlmodel").bytes_read < 400_000
        assert kinds("memory://here/m.zip") == ["conv"] * 8
        assert refusal("memory://here/none.mlmodel") == ": there is no such file; check the address"
    finally:
        files.rm("/here", recursive=True)

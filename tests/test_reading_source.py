"""Folders, lone files and zip archives behind one protocol: what is read, what is refused, and how it is said."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from anecompat.errors import ReadError
from anecompat.readers.source import Source, open_source


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return root


def pack(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


FILES = {"a.txt": b"alpha", "deep/b.bin": bytes(range(256)) * 20, "deep/er/c": b""}


@pytest.fixture(params=["folder", "stored", "deflated"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    if request.param == "folder":
        return open_source(write(tmp_path / "model", FILES))
    method = zipfile.ZIP_STORED if request.param == "stored" else zipfile.ZIP_DEFLATED
    return open_source(pack(tmp_path / "model.zip", FILES, method))


def test_the_same_tree_from_a_folder_and_from_archives(source: Source) -> None:
    assert source.children() == ("a.txt", "deep/")
    assert source.children("deep") == ("b.bin", "er/")
    assert source.children("nowhere") == ()
    assert source.has("deep/b.bin")
    assert source.has("deep")
    assert not source.has("b.bin")
    assert source.size("deep/b.bin") == 5120
    assert source.read("a.txt", 100) == b"alpha"
    assert source.read("deep/er/c", 100) == b""
    deep = source.at("deep")
    assert deep.children() == ("b.bin", "er/")
    assert deep.read_at("b.bin", 5118, 10) == bytes([254, 255])
    assert deep.read_at("b.bin", 3, 2) == bytes([3, 4])
    assert deep.read_at("b.bin", 6000, 2) == b""
    assert deep.at("er").read("c", 1) == b""


def test_a_step_back_in_a_deflated_entry(tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    source = open_source(pack(tmp_path / "m.zip", {"big": data}))
    for offset in (0, 2 << 20, 5, (3 << 20) - 4, 1 << 20):
        assert source.read_at("big", offset, 1000) == data[offset : offset + 1000]


def test_a_closed_source_opens_again(source: Source) -> None:
    assert source.read("a.txt", 9) == b"alpha"
    source.close()
    assert source.read("a.txt", 9) == b"alpha"


def test_total_size(tmp_path: Path) -> None:
    source = open_source(write(tmp_path / "m", FILES))
    assert source.total_size() == 5125
    assert source.at("deep").total_size() == 5120
    archive = pack(tmp_path / "m.zip", FILES)
    assert open_source(archive).at("deep").total_size() == archive.stat().st_size


def test_the_head_of_a_file_is_read_once(tmp_path: Path) -> None:
    source = open_source(write(tmp_path / "m", {"w": bytes(range(250)) * 40}))
    assert source.read_at("w", 0, 4) == bytes(range(4))
    assert source.read_at("w", 0, 4096) == (bytes(range(250)) * 40)[:4096]
    assert source.read("w", 20_000) == bytes(range(250)) * 40
    assert source.read_at("w", 0, 9) == bytes(range(9))
    assert source.bytes_read == 10_000


def test_counts_the_bytes_it_reads(tmp_path: Path) -> None:
    source = open_source(write(tmp_path / "m", {"w": bytes(10_000)}))
    source.read_at("w", 100, 50)
    source.at("").read_at("w", 9_990, 50)
    assert source.bytes_read == 60


def refused(source: Source | Path, name: str = "") -> str:
    """The sentence that reading ``name`` ends with; of a path, the one that opening ends with."""
    with pytest.raises(ReadError) as caught:
        open_source(source) if isinstance(source, Path) else source.read(name, 1 << 20)
    return str(caught.value)


def test_limit(source: Source) -> None:
    with pytest.raises(ReadError, match=r"deep/b\.bin: the file holds 5,120 bytes, more than the 5,119 that are read"):
        source.read("deep/b.bin", 5119)


def test_what_is_not_there(source: Source, tmp_path: Path) -> None:
    assert "there is no such file" in refused(source, "deep/none")
    assert refused(tmp_path / "none").endswith("none: there is no such file or folder; check the spelling")


@pytest.mark.parametrize("name", ["../x", "deep/../../x", "/etc/passwd", "C:/x", "a\0b", "..\\x"])
def test_a_name_that_leaves(source: Source, name: str) -> None:
    assert "leaves the model" in refused(source, name)


def test_links(tmp_path: Path) -> None:
    outside = tmp_path / "secret"
    outside.write_bytes(b"secret")
    folder = write(tmp_path / "m", {"here/a": b"a"})
    (folder / "inner").symlink_to("here/a")
    (folder / "leaves").symlink_to(outside)
    (folder / "up").symlink_to(tmp_path)
    (folder / "dangling").symlink_to("gone")
    source = open_source(folder)
    assert source.read("inner", 9) == b"a"
    assert f"m/leaves: a symbolic link to {outside}, outside the model" in refused(source, "leaves")
    assert "outside the model" in refused(source, "up/secret")
    assert f"m/dangling: a symbolic link to {folder / 'gone'}, which does not exist" in refused(source, "dangling")
    with pytest.raises(ReadError, match="outside the model"):
        source.at("up")
    with pytest.raises(ReadError, match="outside the model"):
        source.children("up")
    assert source.children("here") == ("a",)
    link = tmp_path / "link.mlpackage"
    link.symlink_to(folder)
    assert open_source(link).read("inner", 9) == b"a"
    lost = tmp_path / "lost"
    lost.symlink_to("nothing")
    assert refused(lost).endswith("lost: a symbolic link to nothing, which does not exist")


def test_a_hugging_face_snapshot_links_to_its_own_store(tmp_path: Path) -> None:
    store = tmp_path / "models--org--name"
    write(store, {"blobs/0a1b": b"weights", "secret": b"no"})
    package = store / "snapshots" / "c0ffee" / "M.mlpackage"
    package.mkdir(parents=True)
    (package / "weight.bin").symlink_to("../../../blobs/0a1b")
    (package / "other").symlink_to("../../../secret")
    source = open_source(package)
    assert source.read("weight.bin", 99) == b"weights"
    assert "outside the model" in refused(source, "other")


def test_what_is_neither_file_nor_folder(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "this is neither a file nor a folder" in refused(tmp_path / "pipe")
    folder = tmp_path / "m"
    folder.mkdir()
    os.mkfifo(folder / "model.mlmodel")
    assert "a file was expected, this is a pipe or a device" in refused(open_source(folder), "model.mlmodel")
    assert "a file was expected, this is a folder" in refused(open_source(tmp_path), "m")


def test_a_file_that_changes_between_reads(tmp_path: Path) -> None:
    source = open_source(write(tmp_path / "m", {"w": b"before"}))
    assert source.read("w", 9) == b"before"
    source.close()
    (tmp_path / "m" / "w").write_bytes(b"afterwards")
    assert "the file changed while it was read" in refused(source, "w")


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "..\\evil", "C:\\evil"])
def test_an_archive_with_a_hostile_name(tmp_path: Path, name: str) -> None:
    path = pack(tmp_path / "m.zip", {"good": b"", name: b"x"})
    assert "leaves the model" in refused(path)


def test_an_archive_with_a_name_twice(tmp_path: Path) -> None:
    path = tmp_path / "m.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.mlmodel", b"one")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("model.mlmodel", b"two")
    assert "the archive holds model.mlmodel twice" in refused(path)


def test_a_name_as_file_and_folder(tmp_path: Path) -> None:
    assert "as a file and as a folder" in refused(pack(tmp_path / "m.zip", {"a": b"", "a/b": b""}))


def test_a_link_inside_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "m.zip"
    info = zipfile.ZipInfo("model.mlmodel")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, "/etc/passwd")
    assert "m.zip/model.mlmodel: a symbolic link inside an archive is not followed" in refused(
        open_source(path), "model.mlmodel"
    )


def test_compression_bombs(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("model.mlmodel", "w") as entry,
    ):
        for _ in range(100):
            entry.write(bytes(1 << 20))
    assert "out of proportion (a compression bomb?)" in refused(open_source(path), "model.mlmodel")
    lie = bytearray(path.read_bytes())
    at = lie.rindex(b"PK\x01\x02") + 24
    lie[at : at + 4] = struct.pack("<I", 0xF0000000)
    path.write_bytes(lie)
    assert "claims to hold 4,026,531,840: out of proportion" in refused(path)
    lie[at : at + 4] = struct.pack("<I", 1000)
    path.write_bytes(lie)
    assert "holds more than the archive's directory says" in refused(open_source(path), "model.mlmodel")


def test_an_entry_that_ends_early(tmp_path: Path) -> None:
    path = pack(tmp_path / "m.zip", {"model.mlmodel": b"x" * 100})
    lie = bytearray(path.read_bytes())
    at = lie.rindex(b"PK\x01\x02") + 24
    lie[at : at + 4] = struct.pack("<I", 200)
    path.write_bytes(lie)
    assert "the entry ends after 100 of 200 bytes" in refused(open_source(path), "model.mlmodel")


def test_damaged_archives(tmp_path: Path) -> None:
    whole = pack(tmp_path / "m.zip", {"model.mlmodel": os.urandom(5000)}).read_bytes()
    path = tmp_path / "cut.zip"
    for cut in (4, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert "the zip archive is damaged or cut short" in refused(path)
    path.write_bytes(whole[:43] + b"\xff" + whole[44:])  # the first deflate block is of a kind that does not exist
    assert "the compressed data is damaged" in refused(open_source(path), "model.mlmodel")
    path.write_bytes(b"PK\x03\x05" + whole[4:])
    assert open_source(path).children() == ("cut.zip",)
    path.write_bytes(whole[:2] + b"\x05\x06" + whole[4:])
    assert "no entry where its directory says" in refused(open_source(path), "model.mlmodel")


def test_entries_that_cannot_be_read(tmp_path: Path) -> None:
    path = pack(tmp_path / "m.zip", {"model.mlmodel": b"x" * 1000}, zipfile.ZIP_LZMA)
    assert "packed by method 14, which is not read" in refused(open_source(path), "model.mlmodel")
    locked = bytearray(pack(tmp_path / "l.zip", {"model.mlmodel": b"x"}).read_bytes())
    locked[locked.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(locked)
    assert "encrypted with a password" in refused(open_source(path), "model.mlmodel")


def test_nothing_is_written(tmp_path: Path) -> None:
    path = pack(tmp_path / "m.zip", FILES)
    open_source(path).read("deep/b.bin", 1 << 20)
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.zip"]

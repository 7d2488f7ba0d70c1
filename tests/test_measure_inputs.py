"""Inputs: what a model is given, and every file that cannot be given to it."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

from anecompat.errors import InputError
from anecompat.measure import npy, png
from anecompat.measure.inputs import Description, Filling, Wish, fill

numpy = pytest.importorskip("numpy")


def array(shape: tuple[int, ...] | None = (2, 3), dtype: str = "fp32", **more: Any) -> Description:
    return Description("x", "multiArray", shape=shape, dtype=dtype, **more)


def only(description: Description, **wish: Any) -> Filling:
    (filling,) = fill([description], Wish(**wish))
    return filling


@pytest.mark.parametrize(
    ("dtype", "code"), [("fp16", "e"), ("fp32", "f"), ("fp64", "d"), ("int32", "i"), ("int8", "b")]
)
def test_dummy_arrays_vary_where_they_may_and_index_nothing_out_of_range(dtype: str, code: str) -> None:
    filling = only(array((5, 7), dtype))
    values = struct.unpack(f"<35{code}", filling.content)
    assert filling.shape == (5, 7)
    if dtype.startswith("int"):
        assert set(values) == {0}
    else:
        assert len(set(values)) == 12
        assert min(values) == 0
        assert max(values) < 1


def test_dummy_values_of_the_other_kinds() -> None:
    given = [
        Description("i", "int64"),
        Description("d", "double"),
        Description("s", "string"),
        Description("p", "image", width=2, height=2, pixel_format="BGRA"),
        Description("di", "dictionary", element="int64"),
        Description("ds", "dictionary", element="string"),
        Description("qi", "sequence", element="int64"),
        Description("qs", "sequence", element="string"),
        Description("o", "double", optional=True),
    ]
    made = {filling.description.name: filling.content for filling in fill(given, Wish())}
    assert made == {
        "i": 0,
        "d": 0.0,
        "s": "hello world",
        "p": None,
        "di": {0: 1.0},
        "ds": {"a": 1.0},
        "qi": [0, 1],
        "qs": ["hello", "world"],
    }, "an optional input is left to Core ML's default"


@pytest.mark.parametrize(
    ("description", "shape", "used"),
    [
        (array((1, 3, 8, 8), ranges=((1, 4), (3, 3), (1, None), (1, None))), None, (1, 3, 8, 8)),
        (array((1, 3, 8, 8), ranges=((1, 4), (3, 3), (1, None), (1, None))), (4, 3, 999, 1), (4, 3, 999, 1)),
        (array((1, 2), choices=((1, 2), (1, 4))), (1, 4), (1, 4)),
        (array(None, choices=((1, 2), (1, 4))), None, (1, 2)),
        (array((2, 3)), (2, 3), (2, 3)),
        (array(None), (7,), (7,)),
        (array((2, 3), optional=True), (2, 3), (2, 3)),
    ],
)
def test_shapes(description: Description, shape: tuple[int, ...] | None, used: tuple[int, ...]) -> None:
    assert only(description, shapes={"x": shape} if shape else {}).shape == used


@pytest.mark.parametrize(
    ("description", "wish", "sentence"),
    [
        (array((2, 3)), {"shapes": {"x": (3, 2)}}, "cannot have the shape [3, 2]; it always has [2, 3]"),
        (array((2, 3)), {"shapes": {"y": (3, 2)}}, "the model has no input y; it has x"),
        (array((2, 3)), {"files": {"y": "a.npy"}}, "the model has no input y; it has x"),
        (array((1, 2), choices=((1, 2), (1, 4))), {"shapes": {"x": (1, 3)}}, "it can have [1, 2], [1, 4]"),
        (array((1, 2), ranges=((1, 4), (2, None))), {"shapes": {"x": (5, 2)}}, "it can have 1..4 x 2..any"),
        (array((1, 2), ranges=((1, 4), (2, None))), {"shapes": {"x": (1,)}}, "it can have 1..4 x 2..any"),
        (array((1, 2)), {"shapes": {"x": (0, 2)}}, "every dimension is at least 1"),
        (array(None), {}, "the input x has no default shape; give one with --shape x="),
        (array((0, 3)), {}, "has no default shape"),
        (array((2,), dtype="type 7"), {}, "elements of the type type 7"),
        (array((1 << 20, 1 << 20)), {}, "would need 4,398,046,511,104 bytes; give a smaller --shape"),
        (Description("x", "string"), {"shapes": {"x": (1,)}}, "is a string, which has no shape"),
        (Description("x", "unknown"), {}, "the input x is of the kind unknown; no dummy value can be made"),
        (Description("x", "state"), {}, "the input x is of the kind state"),
        (Description("x", "sequence", element="image"), {}, "the input x is a sequence of image"),
        (Description("x", "state"), {"files": {"x": "a.json"}}, "which no file can give"),
    ],
)
def test_what_cannot_be_made_is_named(description: Description, wish: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        only(description, **wish)
    assert sentence in str(caught.value)
    assert caught.value.status == 5


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "i4", "i8", "u1", "u2", ">f4", "?"])
def test_npy_files_as_numpy_writes_them(dtype: str, tmp_path: Path) -> None:
    values = numpy.arange(6).reshape(2, 3).astype(dtype)
    numpy.save(tmp_path / "a.npy", values)
    read = npy.read(tmp_path / "a.npy")
    assert read.shape == (2, 3)
    assert list(read.values) == values.ravel().tolist()
    filling = only(array((2, 3), "fp16"), files={"x": str(tmp_path / "a.npy")})
    assert filling.source == "given"
    assert filling.content == values.astype("f2").tobytes()


def test_npy_files_of_ours_as_numpy_reads_them(tmp_path: Path) -> None:
    values = numpy.arange(24, dtype="f2").reshape(2, 3, 4)
    npy.write(tmp_path / "a.npy", "<f2", (2, 3, 4), values.tobytes())
    assert numpy.array_equal(numpy.load(tmp_path / "a.npy"), values)
    npy.write(tmp_path / "b.npy", "|u1", (5,), bytes(range(5)))
    assert numpy.load(tmp_path / "b.npy").tolist() == [0, 1, 2, 3, 4]


def _npy(tmp_path: Path, name: str, values: Any) -> str:
    numpy.save(tmp_path / name, values)
    return str(tmp_path / name)


def test_arrays_from_json(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[[1, 2, 3], [4, 5, 6.5]]")
    filling = only(array((2, 3)), files={"x": str(tmp_path / "a.json")})
    assert struct.unpack("<6f", filling.content) == (1, 2, 3, 4, 5, 6.5)
    (tmp_path / "flat.json").write_text("[1, 2, 3, 4, 5, 6]")
    shaped = only(array((2, 3)), files={"x": str(tmp_path / "flat.json")}, shapes={"x": (2, 3)})
    assert shaped.shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.npy", b"no", "is no .npy file"),
        ("a.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': broken", "the header cannot be read"),
        (
            "a.npy",
            b"\x93NUMPY\x01\x00\x3c\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } \n",
            "needs 24 bytes",
        ),
        (
            "a.npy",
            b"\x93NUMPY\x01\x00\x3c\x00{'descr': '<U4', 'fortran_order': False, 'shape': (2, 3), } \n",
            "type <U4",
        ),
        ("a.npy", b"\x93NUMPY\x01\x00\x3b\x00{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), } \n", "column"),
        ("a.npy", None, "cannot be read"),
        ("a.json", b"{", "cannot be read as JSON"),
        ("a.json", b"[[1, 2], [3]]", "do not form an array"),
        ("a.json", b'[["a", 1, 2], [3, 4, 5]]', "must hold numbers only"),
        ("a.json", b"[[1, 2, 3]]", "cannot have the shape [1, 3]"),
        ("a.csv", b"1,2", "a .npy or .json file can"),
        ("a.png", b"1,2", "a .npy or .json file can"),
    ],
)
def test_files_that_are_no_array(name: str, content: bytes | None, sentence: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        only(array((2, 3)), files={"x": str(tmp_path / name)})
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("the input x")


def test_numbers_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not fit into int8"):
        only(array((1,), "int8"), files={"x": _npy(tmp_path, "a.npy", [300])})
    with pytest.raises(InputError, match="cannot have the shape"):
        only(array((2, 3)), files={"x": _npy(tmp_path, "b.npy", numpy.zeros((3, 3)))})
    with pytest.raises(InputError, match=r"holds 4 numbers, the shape \[2, 3\] needs 6"):
        only(array((2, 3)), files={"x": _npy(tmp_path, "c.npy", numpy.zeros(4))}, shapes={"x": (2, 3)})


@pytest.mark.parametrize(
    ("description", "content", "made"),
    [
        (Description("x", "int64"), 7, 7),
        (Description("x", "double"), 7, 7),
        (Description("x", "string"), "hé", "hé"),
        (Description("x", "sequence", element="int64"), [1, 2], [1, 2]),
        (Description("x", "sequence", element="string"), [], []),
        (Description("x", "dictionary", element="string"), {"a": 1}, {"a": 1}),
        (Description("x", "dictionary", element="int64"), {"4": 1.5}, {4: 1.5}),
        (Description("x", "int64"), 7.5, None),
        (Description("x", "int64"), True, None),
        (Description("x", "string"), 7, None),
        (Description("x", "sequence", element="int64"), ["a"], None),
        (Description("x", "sequence", element="int64"), 3, None),
        (Description("x", "dictionary", element="string"), {"a": "b"}, None),
        (Description("x", "dictionary", element="string"), [1], None),
        (Description("x", "dictionary", element="int64"), {"a": 1}, None),
    ],
)
def test_plain_values_from_json(description: Description, content: Any, made: Any, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(content))
    if made is not None:
        assert only(description, files={"x": str(file)}).content == made
        return
    with pytest.raises(InputError, match=r"^the input x "):
        only(description, files={"x": str(file)})


def _png(
    width: int, height: int, kind: int, depth: int, rows: bytes, *, interlaced: int = 0, palette: bytes = b""
) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced)
    parts = [(b"IHDR", header), (b"PLTE", palette), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, body) for name, body in parts if body or name == b"IEND")


@pytest.mark.parametrize(
    ("data", "pixels"),
    [
        (_png(2, 1, 2, 8, b"\0" + bytes([1, 2, 3, 4, 5, 6])), [(1, 2, 3, 255), (4, 5, 6, 255)]),
        (_png(2, 1, 6, 8, b"\0" + bytes([1, 2, 3, 9, 4, 5, 6, 8])), [(1, 2, 3, 9), (4, 5, 6, 8)]),
        (_png(2, 1, 0, 8, b"\0" + bytes([7, 9])), [(7, 7, 7, 255), (9, 9, 9, 255)]),
        (_png(1, 1, 4, 8, b"\0" + bytes([7, 9])), [(7, 7, 7, 9)]),
        (_png(1, 1, 0, 16, b"\0" + bytes([7, 200])), [(7, 7, 7, 255)]),
        (_png(2, 1, 3, 8, b"\0" + bytes([1, 0]), palette=bytes([1, 2, 3, 4, 5, 6])), [(4, 5, 6, 255), (1, 2, 3, 255)]),
        # the filters: left, above, mean, Paeth
        (_png(2, 1, 0, 8, b"\1" + bytes([7, 2])), [(7, 7, 7, 255), (9, 9, 9, 255)]),
        (_png(1, 2, 0, 8, b"\0\7" + b"\2\2"), [(7, 7, 7, 255), (9, 9, 9, 255)]),
        (
            _png(2, 2, 0, 8, b"\0\4\6" + b"\3\1\1"),
            [(4,) * 3 + (255,), (6,) * 3 + (255,), (3,) * 3 + (255,), (5,) * 3 + (255,)],
        ),
        (
            _png(2, 2, 0, 8, b"\0\4\6" + b"\4\1\1"),
            [(4,) * 3 + (255,), (6,) * 3 + (255,), (5,) * 3 + (255,), (7,) * 3 + (255,)],
        ),
    ],
)
def test_png_files(data: bytes, pixels: list[tuple[int, ...]], tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(data)
    image = png.read(tmp_path / "a.png")
    assert [image.pixel(i % image.width, i // image.width) for i in range(image.width * image.height)] == pixels


def test_png_files_of_a_real_encoder(tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    values = (numpy.arange(16 * 9 * 3).reshape(9, 16, 3) * 37 % 256).astype("u1")
    pillow.fromarray(values).save(tmp_path / "a.png")
    image = png.read(tmp_path / "a.png")
    assert image.rgba == numpy.dstack([values, numpy.full((9, 16), 255, "u1")]).tobytes()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"GIF89a", "is no PNG file"),
        (b"\x89PNG\r\n\x1a\n", "the header is missing"),
        (_png(2, 1, 0, 1, b"\0\0"), "of 1 bits, color type 0; save it as an 8-bit PNG"),
        (_png(2, 1, 0, 8, b"\0\7\7", interlaced=1), "is interlaced"),
        (_png(2, 2, 0, 8, b"\0\7\7"), "pixels are missing"),
        (_png(2, 1, 0, 8, b"\x09\7\7"), "the filter 9, which is none"),
        (_png(1, 1, 3, 8, b"\0\5", palette=bytes(3)), "not in the palette"),
        (_png(60000, 60000, 0, 8, b"\0"), "60000 x 60000 pixels, which cannot be meant"),
        (_png(3, 1, 0, 8, b"\0\7\7\7"), "has 3 x 1 pixels, the model takes 2 x 1; resize it"),
        (_png(2, 1, 0, 8, b"\0\7\7")[:-20], "the file looks truncated"),
    ],
)
def test_images_that_cannot_be_given(data: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(data)
    image = Description("x", "image", width=2, height=1, pixel_format="BGRA")
    with pytest.raises(InputError) as caught:
        only(image, files={"x": str(tmp_path / "a.png")})
    assert sentence in str(caught.value)
    with pytest.raises(InputError, match=r"a \.png file can"):
        only(image, files={"x": "a.jpg"})
    with pytest.raises(InputError, match="cannot be read"):
        only(image, files={"x": str(tmp_path / "none.png")})

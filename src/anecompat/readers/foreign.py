"""Files that are no Core ML model, known by their first bytes and named kindly, with what to do."""

from __future__ import annotations

import re

from anecompat.errors import ReadError

POINTER = b"version https://git-lfs.github.com/spec/"
CONVERT = "convert it to Core ML first (coremltools.convert)"
UNPACK = "unpack it and check what is inside"

# (offset, bytes, what it is, what to do)
SIGNATURES = (
    (0, b"GGUF", "a GGUF model (llama.cpp)", CONVERT),
    (4, b"TFL3", "a TensorFlow Lite model", CONVERT),
    (4, b"ET12", "an ExecuTorch program", "extract the Core ML model it was made of and check that"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, perhaps a Keras model or its weights", CONVERT),
    (0, b"PK\x03\x04", "a zip archive inside another file", UNPACK),
    (0, b"\x1f\x8b", "a gzip archive", UNPACK),
    (0, b"BZh", "a bzip2 archive", UNPACK),
    (0, b"\xfd7zXZ\0", "an xz archive", UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive", UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", UNPACK),
    (0, b"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (257, b"ustar", "a tar archive", UNPACK),
    (0, b"bplist00", "a binary property list", "give the model itself"),
    (0, b"\x89PNG", "a PNG image", "give the model itself"),
    (0, b"\xff\xd8\xff", "a JPEG image", "give the model itself"),
    (0, b"%PDF", "a PDF document", "give the model itself"),
    (0, b"\x7fELF", "a program for Linux", "give the model itself"),
    (0, b"\xcf\xfa\xed\xfe", "a program for macOS", "give the model itself"),
    (0, b"\xca\xfe\xba\xbe", "a program for macOS", "give the model itself"),
    (64, b"\xef\xbe\xad\xde", "the weight file of a model", "give the .mlpackage or .mlmodelc folder it belongs to"),
)
_PICKLE = re.compile(rb"\x80[\x02-\x05](?:\x95|c|}|ccollections|\x8a|\(|\])")


def refuse_foreign(head: bytes, place: str, size: int, *, json: bool = False) -> None:
    """ReadError for what the first bytes show to be no Core ML model; JSON text only where none is expected."""
    found = recognize(head, size, json=json)
    if found is not None:
        raise ReadError(found, place=place)


def recognize(head: bytes, size: int, *, json: bool = False) -> str | None:
    """What a foreign file is and what to do, as a sentence; None for what may be a model."""
    if size == 0:
        return "the file is empty; copy or download it again"
    if head.startswith(POINTER):
        found = re.search(rb"\nsize (\d{1,15})\n", head)
        real = f" (the model itself has {int(found[1]):,} bytes)" if found else ""
        return f"this is a Git LFS pointer, not the model{real}; fetch it with: git lfs pull"
    for offset, signature, what, todo in SIGNATURES:
        if head[offset : offset + len(signature)] == signature:
            return f"this is {what}, not a Core ML model; {todo}"
    if _PICKLE.match(head):
        return f"this is a Python pickle, perhaps a PyTorch checkpoint, not a Core ML model; {CONVERT}"
    length = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and 1 < length <= size - 8 and b'"' in head[8:64]:
        return f"this is a safetensors file (weights alone), not a Core ML model; {CONVERT}"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if re.match(rb"<(?:!doctype html|html|head|body)", text[:20], re.IGNORECASE):
        return (
            "this is an HTML page, not a model; the download went wrong: it needs a login, or the link to the raw file"
        )
    if text.startswith((b"<?xml", b"<!--")):
        return "this is an XML document, not a Core ML model; give the model itself"
    if text.startswith((b"{", b"[")) and not json and _is_text(head):
        if b"rootModelIdentifier" in head:
            return "this is the manifest of a package, not the package; give the .mlpackage folder itself"
        return "this is JSON text, not a Core ML model; give the .mlpackage, .mlmodelc or .mlmodel itself"
    return None


def recognize_text(head: bytes, size: int) -> str | None:
    """A sentence for plain text that is no MIL; None for what holds binary data."""
    if not _is_text(head):
        return None
    line = head.decode("utf-8", "replace").strip().split("\n", 1)[0]
    if size == len(head) and size < 1024 and "\n" not in head.decode("utf-8", "replace").strip() and "/" in line:
        return (
            f"the file holds only the path {line!r}: a symbolic link that was checked out as text;"
            " give the file it points to"
        )
    begin = line if len(line) <= 60 else line[:60] + "..."
    return f"this is text that begins with {begin!r}, neither MIL nor a Core ML model; give the model itself"


def _is_text(head: bytes) -> bool:
    """Whether all is printable; a character cut in two at the end does not count."""
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4 or len(head) < 64:
            return False
        text = head[: error.start].decode()
    return all(character.isprintable() or character in "\t\r\n" for character in text)


FOREIGN_NAMES = (  # in a folder or archive that holds no Core ML model
    ("saved_model.pb", "a TensorFlow SavedModel"),
    ("data.pkl", "a PyTorch file"),
    ("constants.pkl", "a TorchScript file"),
    ("model.weights.h5", "a Keras model"),
    ("pytorch_model.bin", "a PyTorch checkpoint"),
)
FOREIGN_SUFFIXES = (
    (".onnx", "an ONNX model"),
    (".safetensors", "safetensors weights"),
    (".gguf", "a GGUF model"),
    (".tflite", "a TensorFlow Lite model"),
    (".pth", "a PyTorch checkpoint"),
    (".pt", "a PyTorch file"),
    (".keras", "a Keras model"),
    (".h5", "an HDF5 file"),
)


def recognize_name(name: str) -> str | None:
    """What a foreign file in a folder is, by its name."""
    for known, what in FOREIGN_NAMES:
        if name == known:
            return what
    for suffix, what in FOREIGN_SUFFIXES:
        if name.lower().endswith(suffix):
            return what
    return None

"""The weight file of an mlProgram (``weight.bin``, MIL blob storage version 2): bounds, and small values on demand.

Layout (coremltools, mlmodel/src/MILBlob/Blob/StorageFormat.hpp): a header of 64 bytes (count of blobs, version 2),
then for each blob a record of 64 bytes at a multiple of 64 - the number 0xDEADBEEF, the element type, the size in bytes
and the offset of the data - and the data. A model names the offset of the record.
"""

from __future__ import annotations

import math
import posixpath
import struct
from collections.abc import Iterable, Sequence

from anecompat.errors import ReadError
from anecompat.ir import Constant, Scalar, TensorType, Unknown
from anecompat.readers.immediate import BITS, unpacked
from anecompat.readers.source import Source, checked

HEADER = RECORD = 64
SENTINEL = 0xDEADBEEF
MOST_READ = 1 << 16  # bytes of one blob that are read for its values
POINTER = b"version https://git-lfs.github.com/spec/"
MODEL_PATH = "@model_path/"


class Weights:
    """The weight files that lie beside a specification, opened only when a value or a check asks for them."""

    def __init__(self, source: Source, specification: str) -> None:
        self._source = source
        self._folder = posixpath.dirname(specification)

    def name(self, path: str) -> str:
        """Where a path as the model writes it (``@model_path/weights/weight.bin``) lies. ReadError if it leaves."""
        inside = checked(path.removeprefix(MODEL_PATH), self._source.place())
        return f"{self._folder}/{inside}" if self._folder else inside

    def elements(self, path: str, offset: int, kind: TensorType) -> Sequence[Scalar]:
        """The elements of a small blob. Unknown where there is no such file or they are many."""
        try:
            name = self.name(path)
            if not self._source.has(name):
                raise Unknown(f"the value lies in {path}, which is not there")
            needed = _bytes_of(kind)
            if needed is None or needed > MOST_READ:
                raise Unknown("the value lies in the weights, and is too large to be read")
            at, size = self._record(name, offset)
            if size < needed:
                raise Unknown(f"the blob at offset {offset} of {path} holds {size} bytes, {needed} are needed")
            return unpacked(self._source.read_at(name, at, needed), kind)
        except ReadError as error:
            raise Unknown(f"the weights cannot be read: {error}") from None

    def _record(self, name: str, offset: int) -> tuple[int, int]:
        """Offset and size of a blob's data. Unknown where the record is none."""
        record = self._source.read_at(name, offset, RECORD)
        if len(record) < RECORD:
            raise Unknown(f"there is no blob at offset {offset:,}, the file has {self._source.size(name):,} bytes")
        sentinel, _, size, at = struct.unpack_from("<IIQQ", record)
        if sentinel != SENTINEL:
            raise Unknown(f"there is no blob at offset {offset:,} (no 0xDEADBEEF there)")
        if at + size > self._source.size(name):
            raise Unknown(
                f"the blob at offset {offset:,} ends past the file"
                f" (it needs {at + size:,} bytes, the file has {self._source.size(name):,})"
            )
        return at, size

    def warnings(self, constants: Iterable[tuple[str, Constant]], verify: bool) -> list[str]:
        """What is wrong with the weight files that the constants (with their names) lie in, one sentence a file.

        Without ``verify`` no byte is read but the first of a tiny file: it may be a Git LFS pointer.
        """
        by_path: dict[str, list[tuple[str, Constant]]] = {}
        for name, constant in constants:
            if constant.blob is not None:
                by_path.setdefault(constant.blob.path, []).append((name, constant))
        return [sentence for path, used in by_path.items() for sentence in self._check(path, used, verify)]

    def _check(self, path: str, used: list[tuple[str, Constant]], verify: bool) -> list[str]:
        name = self.name(path)
        many = f"{len(used)} constants lie in it" if len(used) > 1 else "one constant lies in it"
        if not self._source.has(name):
            return [f"{name} is missing ({many}); the answer rests on the structure alone."]
        size = self._source.size(name)
        if size < 1024 and self._source.read_at(name, 0, len(POINTER)) == POINTER:
            return [f"{name} is a Git LFS pointer, not the weights ({many}); fetch them with: git lfs pull"]
        last = max(used, key=lambda each: each[1].blob.offset if each[1].blob else 0)
        end = last[1].blob.offset + RECORD + (_bytes_of(last[1].type) or 0) if last[1].blob else 0
        if end > size:
            return [
                f"{name} is too short: {last[0]} at offset {end - RECORD - (_bytes_of(last[1].type) or 0):,} needs"
                f" {end:,} bytes, the file has {size:,}. It looks truncated; copy the package again with its folder."
            ]
        return self._verify(name, used) if verify else []

    def _verify(self, name: str, used: list[tuple[str, Constant]]) -> list[str]:
        count, version = struct.unpack("<II", self._source.read_at(name, 0, 8).ljust(8, b"\0"))
        if version != 2:
            return [f"{name} is no MIL blob storage of version 2 (it begins with {count}, {version}); export it again."]
        faults = []
        for constant_name, constant in used:
            assert constant.blob is not None
            try:
                _, size = self._record(name, constant.blob.offset)
                needed = _bytes_of(constant.type)
                if needed is not None and size != needed:
                    raise Unknown(
                        f"the blob at offset {constant.blob.offset:,} holds {size:,} bytes,"
                        f" {constant.type} takes {needed:,}"
                    )
            except Unknown as fault:
                faults.append(f"{constant_name}: {fault}")
        if not faults:
            return []
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        return [f"{name} does not hold what the model says: {faults[0]}{more}. Copy or export the package again."]


def _bytes_of(kind: object) -> int | None:
    if not isinstance(kind, TensorType) or not kind.is_fixed or kind.dtype not in BITS:
        return None
    return (math.prod(kind.fixed()) * BITS[kind.dtype] + 7) // 8

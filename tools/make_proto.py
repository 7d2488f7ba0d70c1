"""Compile src/anecompat/proto/coreml.proto into coreml.binpb, the serialized descriptors that the package loads.

    python tools/make_proto.py            write it
    python tools/make_proto.py --check    exit 1 where the committed file is not what the .proto says

Needs grpcio-tools (it brings protoc as a module).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

PROTO = Path(__file__).resolve().parent.parent / "src" / "anecompat" / "proto" / "coreml.proto"
COMPILED = PROTO.with_suffix(".binpb")


def compiled() -> bytes:
    """The FileDescriptorSet of coreml.proto, serialized."""
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / COMPILED.name
        status = protoc.main(["protoc", f"--proto_path={PROTO.parent}", f"--descriptor_set_out={target}", PROTO.name])
        if status:
            raise SystemExit(f"{PROTO.name}: protoc ended with {status}")
        return target.read_bytes()


def main(arguments: list[str]) -> int:
    made = compiled()
    if arguments == ["--check"]:
        if not COMPILED.is_file() or COMPILED.read_bytes() != made:
            print(f"{COMPILED.name} is not what {PROTO.name} says: run tools/make_proto.py", file=sys.stderr)
            return 1
        return 0
    if arguments:
        print(__doc__, file=sys.stderr)
        return 64
    COMPILED.write_bytes(made)
    print(f"{COMPILED.name}: {len(made):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Build the stand-ins: ``python build.py FOLDER [STANDIN_OLD|STANDIN_CHANGED|STANDIN_EMPTY]``."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGES = "gobjc and libgnustep-base-dev"


def missing() -> str | None:
    """Why the stand-ins cannot be built here, or None."""
    if shutil.which("gnustep-config") is None:
        return f"gnustep-config is not installed (Debian's {PACKAGES})"
    if shutil.which(_compiler()) is None:
        return f"{_compiler()} is not installed (Debian's {PACKAGES})"
    probe = subprocess.run(
        [_compiler(), *_flags("--objc-flags"), "-fsyntax-only", "-x", "objective-c", "-"],
        input="#import <Foundation/Foundation.h>\n",
        text=True,
        capture_output=True,
    )
    return None if probe.returncode == 0 else f"Objective-C cannot be compiled here (Debian's {PACKAGES})"


def _compiler() -> str:
    """The compiler that GNUstep was built with: GCC for GCC's runtime, clang for libobjc2."""
    said = subprocess.run(["gnustep-config", "--variable=CC"], capture_output=True, text=True).stdout.split()
    return said[0] if said else "gcc"


def _flags(kind: str) -> list[str]:
    given = subprocess.run(["gnustep-config", kind], capture_output=True, text=True, check=True).stdout.split()
    return [flag for flag in given if flag not in ("-MMD", "-MP")]


def build(folder: Path, *options: str) -> Path:
    """Compile every stand-in into the folder. CalledProcessError where the compiler refuses."""
    folder.mkdir(parents=True, exist_ok=True)
    objc, base = _flags("--objc-flags"), _flags("--base-libs")
    defines = [f"-D{option}" for option in options]

    def shared(name: str, sources: list[str], *flags: str) -> None:
        paths = [str(HERE / source) for source in sources]
        command = [_compiler(), "-shared", "-fPIC", "-g", "-O1", "-o", str(folder / f"lib{name}.so"), *paths, *flags]
        subprocess.run(command, check=True, capture_output=True, text=True)

    empty = folder / "empty.c"
    empty.write_text("int standin_foundation = 1;\n")
    shared("objc", ["Throw.c"], "-Wl,--no-as-needed", "-lobjc", "-ldl")
    shared("System", ["System.c"])
    shared("Foundation", [str(empty)], "-Wl,--no-as-needed", *base)
    shared("IOSurface", ["IOSurface.c"])
    shared("CoreVideo", ["CoreVideo.c"])
    near = ["-Wl,-rpath,$ORIGIN", *base]
    engine = [str(folder / "libIOSurface.so"), *near]
    shared("AppleNeuralEngine", ["AppleNeuralEngine.m"], *objc, *defines, *engine)
    core = [str(folder / "libAppleNeuralEngine.so"), str(folder / "libCoreVideo.so"), str(folder / "libIOSurface.so")]
    shared("CoreML", ["CoreML.m", "Values.m", "Plan.m"], *objc, "-Wno-undeclared-selector", *defines, *core, *near)
    return folder


if __name__ == "__main__":
    reason = missing()
    if reason:
        sys.exit(reason)
    print(build(Path(sys.argv[1]), *sys.argv[2:]))

"""Which machine this is: chip, system, build; and whether it can measure at all."""

from __future__ import annotations

import ctypes
import platform
import sys

from anecompat.measure.objc.runtime import APPLE, FRAMEWORKS_VARIABLE, BridgeError, Runtime, stand_ins
from anecompat.measure.trace import TraceDevice

_NEEDS = "Measuring needs Apple silicon with macOS 12 or later"


def available() -> str | None:
    """None where a measurement is possible, else the sentence that says what it needs."""
    if stand_ins() is not None:
        return None
    if not APPLE:
        here = f"{platform.system()} on {platform.machine()}"
        return f"{_NEEDS}; this is {here}. `anecompat check` predicts here."
    if sys.platform == "darwin":
        version = platform.mac_ver()[0]
        if platform.machine() != "arm64":
            return f"{_NEEDS} and a Python built for arm64; this one runs as {platform.machine()}."
        if version and int(version.split(".")[0]) < 12:
            return f"{_NEEDS}; this is macOS {version}."
    return None


def describe(runtime: Runtime) -> TraceDevice:
    """The device as sysctl names it; "" for what it does not tell."""
    brand = _sysctl(runtime, "machdep.cpu.brand_string")
    version = _sysctl(runtime, "kern.osproductversion")
    system = "iOS" if sys.platform == "ios" else "macOS"
    return TraceDevice(
        chip=brand.removeprefix("Apple ").strip(),
        os=f"{system} {version}".strip(),
        os_build=_sysctl(runtime, "kern.osversion"),
        hardware=_sysctl(runtime, "hw.model"),
        engine=_engine(runtime),
    )


def _sysctl(runtime: Runtime, name: str) -> str:
    size = ctypes.c_ulonglong(256)
    buffer = ctypes.create_string_buffer(256)
    try:
        failed = runtime.function("System", "sysctlbyname")(
            name.encode(), ctypes.addressof(buffer), ctypes.addressof(size), None, 0
        )
    except BridgeError:
        return ""
    return "" if failed else buffer.value.decode("utf-8", "replace")


def _engine(runtime: Runtime) -> str:
    """The engine's generation by AppleNeuralEngine's own account ("h13g"), "" where it gives none."""
    from anecompat.measure.objc import foundation

    found = runtime.find_class("_ANEDeviceInfo")
    if not runtime.responds(found, "aneArchitectureType"):
        return ""
    with runtime.pool():
        kind = runtime.send(found, "aneArchitectureType", encoding="@@:")
        return foundation.text(runtime, kind) if foundation.is_kind(runtime, kind, "NSString") else ""


__all__ = ["FRAMEWORKS_VARIABLE", "available", "describe"]

"""The bridge: encodings, messages, blocks, exceptions; on the stand-ins where a runtime is needed."""

from __future__ import annotations

import ctypes
import json

import pytest

from anecompat.measure.objc import declarations
from anecompat.measure.objc.encoding import EncodingError, ctypes_type, matches, parse
from fake_apple.fixtures import Build, build_standins, in_process  # noqa: F401


@pytest.mark.parametrize(
    ("encoding", "types"),
    [
        ("B52@0:8@16@24@32I40^@44", ("B", "@", ":", "@", "@", "@", "I", "^@")),
        ("@16@0:8", ("@", "@", ":")),
        ("v24@?0@8@16", ("v", "@", "@", "@")),
        ('@"NSString"16@0:8', ("@", "@", ":")),
        ("{CGRect={CGPoint=dd}{CGSize=dd}}16@0:8", ("{CGRect={CGPoint=dd}{CGSize=dd}}", "@", ":")),
        ("r*16@0:8", ("*", "@", ":")),
        ("Vv16@0:8", ("v", "@", ":")),
        ("^{__IOSurface=}16@0:8", ("^{__IOSurface=}", "@", ":")),
        ("v20@0:8l16", ("v", "@", ":", "q")),
        ("v24@0:8@?<v@?@>16", ("v", "@", ":", "@")),
        ("v24@0:8[12i]16", ("v", "@", ":", "[12i]")),
        ("i-4@0:8", ("i", "@", ":")),
        ("v@:b3", ("v", "@", ":", "b3")),
        ('{x="a"@"b"(u=ic)}@:', ('{x="a"@"b"(u=ic)}', "@", ":")),
    ],
)
def test_encodings_lose_offsets_qualifiers_and_names(encoding: str, types: tuple[str, ...]) -> None:
    assert parse(encoding) == types


@pytest.mark.parametrize("encoding", ["", "^", "{CGRect=dd", "@0:8w16", '@"NSString', "v@:{a=(}", "v@?<v@:", "r"])
def test_a_broken_encoding_is_an_error(encoding: str) -> None:
    with pytest.raises(EncodingError):
        parse(encoding)


@pytest.mark.parametrize(
    ("found", "expected", "alike"),
    [
        ("c52@0:8@16@24@32I40^@44", "B@:@@@I^@", True),  # BOOL on Intel Macs
        ("C16@0:8", "B@:", True),  # BOOL in GNUstep
        ("B52@0:8@16@24@32d40^@44", "B@:@@@I^@", False),  # a double where a whole number is expected
        ("B44@0:8@16@24I32^@36", "B@:@@@I^@", False),  # an argument less
        ("v16@0:8", "B@:", False),
        ("@24@0:8^{x=}16", "@@:^v", True),
        ("q16@0:8", "Q@:", False),
        ("#16@0:8", "@@:", True),
        ("broken{", "B@:", False),
    ],
)
def test_methods_are_compared_by_what_the_caller_passes(found: str, expected: str, alike: bool) -> None:
    assert matches(found, expected) is alike


def test_a_struct_by_value_cannot_be_passed() -> None:
    with pytest.raises(EncodingError, match="by value"):
        ctypes_type("{CGSize=dd}")
    assert ctypes_type("^{_NSRange=QQ}") is ctypes.c_void_p


def test_every_declared_encoding_can_be_read() -> None:
    for selector, encoding in declarations.SELECTORS.items():
        assert len(parse(encoding)) == 3 + selector.count(":"), selector
    for method in declarations.HOOKED_METHODS:
        types = parse(method.encoding)
        assert len(types) == 3 + method.selector.count(":")
        # an argument index counts receiver and selector, the types have the result in front
        for index, kind in ((method.model, "@"), (method.request, "@"), (method.qos, "I"), (method.error, "^@")):
            assert index is None or types[index + 1] == kind, method.label
    for selectors in declarations.CLASSES.values():
        for selector in selectors.split():
            assert selector.removeprefix("+") in declarations.SELECTORS


BRIDGE = """
import json, threading
from anecompat.measure.objc import foundation as f, exceptions, runtime as r
from anecompat.measure.objc.block import block
from anecompat.measure.objc.runtime import BridgeError, runtime
rt = runtime()
out = {"flavour": str(rt.flavour)}
with rt.pool():
    out["text"] = f.text(rt, f.string(rt, "Größe 日本 \\U0001f600"))
    out["surrogate"] = f.text(rt, f.string(rt, "a\\ud800b"))
    out["nil"] = [rt.send(None, "count"), f.text(rt, None), f.items(rt, None), f.entries(rt, None)]
    out["numbers"] = f.integers(rt, f.integer_array(rt, [0, -7, 1 << 40]))
    content = {f.string(rt, "k"): f.array(rt, [f.real(rt, 0.5), f.integer(rt, 3), f.string(rt, "s")])}
    out["plain"] = f.plain(rt, f.dictionary(rt, content))
    out["is"] = [f.is_kind(rt, f.string(rt, "a"), "NSString"), f.is_kind(rt, f.string(rt, "a"), "NSArray")]
    out["responds"] = [rt.responds(f.string(rt, "a"), "UTF8String"), rt.responds(f.string(rt, "a"), "nonsense")]
    try:
        rt.class_named("NoSuchClass")
    except BridgeError as error:
        out["class"] = str(error)
    try:
        rt.function("System", "sysctlbyname"), rt.send(f.string(rt, "a"), "sizeValue", encoding="{CGSize=dd}@:")
    except BridgeError as error:
        out["struct"] = str(error)
    rt.framework("CoreML")
    slot = f.ErrorSlot(rt)
    model = rt.class_named("MLModel")
    compiled = rt.send(model, "compileModelAtURL:error:", f.file_url(rt, "/nowhere/x.mlmodel"), slot.reference)
    error = slot.found()
    out["error"] = [compiled, error.domain, error.code, error.text, str(error)]
    out["no error"] = f.ErrorSlot(rt).found()
done = threading.Event()
seen = []
def complete(plan, error):
    with rt.pool():
        seen.append([plan, f.error_text(rt, error).text, threading.current_thread() is threading.main_thread()])
    done.set()
with rt.pool():
    url = f.file_url(rt, "/nowhere/x.mlmodelc")
    handler, plans = block(complete, "v@?@@"), rt.class_named("MLComputePlan")
    rt.send(plans, "loadContentsOfURL:configuration:completionHandler:", url, None, handler)
    out["answered"] = done.wait(10)
    out["block"] = seen
print(json.dumps(out))
"""


def test_the_bridge_on_a_real_runtime(build_standins: Build) -> None:  # noqa: F811
    out = json.loads(in_process(BRIDGE, build_standins()))
    assert out["flavour"] in ("GCC", "libobjc2")
    assert out["text"] == "Größe 日本 \U0001f600"
    assert out["surrogate"] == "a?b"
    assert out["nil"] == [None, "", [], {}]
    assert out["numbers"] == [0, -7, 1 << 40]
    assert out["plain"] == {"k": [0.5, 3, "s"]}
    assert out["is"] == [True, False]
    assert out["responds"] == [True, False]
    assert out["class"] == "the class NoSuchClass is not in this system's frameworks"
    assert out["struct"] == "sizeValue: a {CGSize=dd} by value cannot be passed through the bridge"
    text = "Unable to read the model at /nowhere/x.mlmodel"
    assert out["error"] == [None, "com.apple.appleneuralengine", 3, text, f"{text} (com.apple.appleneuralengine 3)"]
    assert out["no error"] is None
    assert out["answered"] is True
    assert out["block"] == [[None, "no plan for this model", False]], "the block is called on a thread of Core ML's"


EXCEPTION = """
import json, sys
from anecompat.measure.objc import exceptions, foundation as f
from anecompat.measure.objc.runtime import runtime
rt = runtime()
rt.framework("AppleNeuralEngine")
heard = []
assert exceptions.listen(rt, lambda name, reason: heard.append([name, reason]))
with rt.pool():
    step = f.dictionary(rt, {f.string(rt, "ane"): f.string(rt, "{}"), f.string(rt, "swallowed"): f.string(rt, "why")})
    client = rt.send(rt.class_named("_ANEClient"), "sharedConnection", encoding="@@:")
    done = rt.send(client, "evaluateStep:error:", step, None, encoding="B@:@^@")
print(json.dumps([done, heard]))
"""


def test_an_exception_is_heard_when_it_is_thrown_though_it_is_caught(build_standins: Build) -> None:  # noqa: F811
    assert json.loads(in_process(EXCEPTION, build_standins())) == [True, [["StandinSwallowed", "why"]]]


def test_the_declarations_hold_for_the_stand_ins(build_standins: Build) -> None:  # noqa: F811
    code = "import json; from anecompat.measure.selftest import compare; print(json.dumps(compare()))"
    report = json.loads(in_process(code, build_standins()))
    assert (report["chip"], report["os"], report["os_build"]) == ("M1", "macOS 14.5", "23F79")
    # the stand-ins' descriptions are their own constraints; all else must be there and typed as declared
    assert all(line.startswith("ML") and line.endswith("Constraint: no such class") for line in report["differences"])
    changed = json.loads(in_process(code, build_standins("STANDIN_EMPTY")))
    assert changed["differences"] == report["differences"]


def test_a_missing_framework_is_a_sentence(tmp_path: object, build_standins: Build) -> None:  # noqa: F811
    code = """
from anecompat.measure.objc.runtime import BridgeError, runtime
try:
    runtime().framework("AppleNeuralEngine")
except BridgeError as error:
    print(error)
"""
    folder = build_standins("STANDIN_OLD")
    library = folder / "libAppleNeuralEngine.so"
    hidden = folder / "hidden"
    library.rename(hidden)
    try:
        said = in_process(code, folder)
    finally:
        hidden.rename(library)
    assert said.startswith("the framework AppleNeuralEngine cannot be loaded: ")

"""The interceptor, on the stand-ins: once each, on any thread, whatever the methods look like, and gone afterwards."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fake_apple.fixtures import Build, build_standins, in_process  # noqa: F401

PRELUDE = """
import gc, json, sys, threading
from anecompat.measure.intercept import Interceptor
from anecompat.measure.objc import declarations, foundation as f
from anecompat.measure.objc.hooks import hook
from anecompat.measure.objc.runtime import BridgeError, runtime
rt = runtime()
for name in ("IOSurface", "AppleNeuralEngine"):
    rt.framework(name)
CLIENT = rt.send(rt.class_named("_ANEClient"), "sharedConnection", encoding="@@:")

def ns(value):
    if isinstance(value, dict):
        return f.dictionary(rt, {f.string(rt, k): ns(v) for k, v in value.items()})
    if isinstance(value, list):
        return f.array(rt, [ns(v) for v in value])
    if isinstance(value, str):
        return f.string(rt, value)
    return f.integer(rt, value)

def evaluate(**step):
    with rt.pool():
        slot = f.ErrorSlot(rt)
        done = rt.send(CLIENT, "evaluateStep:error:", ns({"ane": "{}", **step}), slot.reference, encoding="B@:@^@")
        return done, str(slot.found())

def methods():
    table = {}
    for declared in declarations.HOOKED_METHODS:
        method = rt.instance_method(declared.class_name, declared.selector)
        if method:
            table[declared.label] = rt.implementation(method)
    return table

def show(evaluation):
    short = [m.split(" ")[1].split(":")[0].rstrip("]") for m in evaluation.methods]
    return {"methods": short, "key": evaluation.key, "qos": evaluation.qos, "ok": evaluation.succeeded,
            "error": str(evaluation.error), "here": evaluation.thread == threading.get_native_id()}
"""


def observe(folder: Any, code: str) -> Any:
    return json.loads(in_process(PRELUDE + code, folder))


def test_each_door_to_the_engine_is_one_evaluation(build_standins: Build) -> None:  # noqa: F811
    out = observe(
        build_standins(),
        """
before = methods()
with Interceptor(rt) as seen:
    during = methods()
    for via in ("evaluate", "direct", "realtime", "program", "virtual", "unseen"):
        assert evaluate(via=via, ane=json.dumps({"via": via})) == (True, "None")
evaluate(ane="afterwards")
print(json.dumps({"seen": [show(e) for e in seen.evaluations], "faults": seen.faults, "before": before == methods(),
                  "changed": sum(before[name] != during[name] for name in before), "all": len(before)}))
""",
    )
    seen = out["seen"]
    layers = ["doEvaluateDirectWithModel", "processRequest"]
    assert [(item["methods"], item["qos"]) for item in seen] == [
        (["evaluateWithModel", *layers], 33),
        (layers, 33),
        (["evaluateRealTimeWithModel", *layers], None),
        (["processRequest"], 21),
        (["evaluateWithModel"], 9),
    ]
    assert [json.loads(item["key"])["via"] for item in seen] == ["evaluate", "direct", "realtime", "program", "virtual"]
    assert all(item["ok"] and item["here"] for item in seen)
    assert out["faults"] == []
    assert out["before"] is True, "every method is as it was"
    assert out["changed"] == out["all"]


def test_failures_and_their_errors_pass_through_unchanged(build_standins: Build) -> None:  # noqa: F811
    out = observe(
        build_standins(),
        """
with Interceptor(rt) as seen:
    result = evaluate(fail="no power")
print(json.dumps([result, [show(e) for e in seen.evaluations]]))
""",
    )
    text = "no power (com.apple.appleneuralengine -14)"
    assert out[0] == [False, text]
    assert [(item["ok"], item["error"]) for item in out[1]] == [(False, text)]


def test_surfaces_are_described_and_named_by_the_loaded_models_symbols(build_standins: Build) -> None:  # noqa: F811
    out = observe(
        build_standins(),
        """
surface = {"width": 5, "height": 3, "element": 2, "row": 64, "fill": 7}
attributes = {"ANEFModelDescription": {"kANEFModelInputSymbolsArrayKey": ["b", "x"],
                                       "kANEFModelOutputSymbolsArrayKey": ["y@output"]}}
with Interceptor(rt, copy_surfaces=True) as seen:
    both = [{**surface, "symbol": 1}, {**surface, "symbol": 0}]
    evaluate(surfaces_in=both, surfaces_out=[surface], attributes=attributes)
(one,) = seen.evaluations
print(json.dumps({"in": [[s.symbol, s.surface.width, s.surface.height, s.surface.bytes_per_row, s.surface.bytes,
                          list(set(s.content))] for s in one.inputs],
                  "out": len(one.outputs), "symbols": [one.input_symbols, one.output_symbols], "faults": seen.faults}))
""",
    )
    assert out["in"] == [[1, 5, 3, 64, 192, [7]], [0, 5, 3, 64, 192, [7]]]
    assert out["out"] == 1
    assert out["symbols"] == [["b", "x"], ["y@output"]]
    assert out["faults"] == []


@pytest.mark.parametrize(
    ("option", "states", "seen"),
    [
        ("STANDIN_OLD", {"installed": 3, "absent": 8}, [["doEvaluateDirectWithModel"]]),
        ("STANDIN_CHANGED", {"installed": 5, "refused": 2, "absent": 4}, [["processRequest"]]),
        ("STANDIN_EMPTY", {"absent": 11}, []),
    ],
)
def test_other_systems(option: str, states: dict[str, int], seen: list[Any], build_standins: Build) -> None:  # noqa: F811
    out = observe(
        build_standins(option),
        """
with Interceptor(rt) as seen:
    assert evaluate() == (True, "None")
hooks = seen.hooks
print(json.dumps([[h.state for h in hooks], [show(e)["methods"] for e in seen.evaluations],
                  [h.found for h in hooks if h.state == "refused"]]))
""",
    )
    found = {state: out[0].count(state) for state in set(out[0])}
    assert found == states
    assert out[1] == seen
    for sentence in out[2]:
        assert "expected B@:@@@I^@" in sentence
        assert "d40" in sentence, "the sentence shows the types that were found"


def test_an_evaluation_that_goes_on_elsewhere_is_still_one(build_standins: Build) -> None:  # noqa: F811
    """The same request on another thread, inside the outer call or after an asynchronous one returned."""
    out = observe(
        build_standins(),
        """
DIRECT = "doEvaluateDirectWithModel:options:request:qos:error:"
PROCESS = "processRequest:model:qos:qIndex:modelStringID:options:returnValue:error:"
def program(model, request):
    with rt.pool():
        rt.send(rt.new("_ANEProgramForEvaluation"), PROCESS, request, model, 1, 0, 0, None, None, None,
                encoding="B@:@@IQQ@^I^@")
class Outer:
    # plays a client that hands its request to another thread
    def before(self, hook, arguments):
        worker = threading.Thread(target=program, args=(arguments[2], arguments[4]))
        worker.start(); worker.join()
    def after(self, *given): pass
    def failed(self, hook, error): raise error
with rt.pool():
    model = rt.send(rt.class_named("_ANEModel"), "modelAtURL:key:", None, f.string(rt, "k"), encoding="@@:@@")
    request = rt.send(rt.class_named("_ANERequest"), "requestWithStep:", ns({}), encoding="@@:@")
    later = rt.send(rt.class_named("_ANERequest"), "requestWithStep:", ns({"asynchronous": 1}), encoding="@@:@")
    with Interceptor(rt) as seen:
        other = hook(rt, "_ANEClient", DIRECT, "B@:@@@I^@")
        observer = Outer()
        other.add(observer)
        rt.send(CLIENT, DIRECT, model, None, request, 5, None, encoding="B@:@@@I^@")
        other.remove(observer)
        first = len(seen.evaluations)
    table = tuple(m for m in declarations.HOOKED_METHODS if "evaluateRealTime" in m.selector or "process" in m.selector)
    REAL = "evaluateRealTimeWithModel:options:request:error:"
    with Interceptor(rt) as seen_later:
        pass
    with Interceptor(rt) as asynchronous:
        rt.send(CLIENT, REAL, model, None, later, None, encoding="B@:@@@^@")
        one = asynchronous.evaluations[0]
print(json.dumps([first, show(seen.evaluations[0])["methods"], one.asynchronous, len(seen_later.evaluations)]))
""",
    )
    assert out[0] == 1
    assert out[1] == ["doEvaluateDirectWithModel", "processRequest", "processRequest"]
    assert out[2] is True
    assert out[3] == 0


def test_whatever_an_observer_does_the_call_goes_through_once(build_standins: Build) -> None:  # noqa: F811
    out = observe(
        build_standins(),
        """
import ctypes
count = ctypes.CDLL(None).standin_evaluations
count.restype = ctypes.c_ulong
class Bad:
    errors = []
    def before(self, hook, arguments): raise KeyError("before")
    def after(self, *given): raise KeyError("after")
    def failed(self, hook, error): self.errors.append(repr(error))
class Late(Bad):
    def before(self, hook, arguments): pass
lowest = declarations.HOOKED_METHODS[5]
wrong = hook(rt, lowest.class_name, lowest.selector, lowest.encoding)
bad, late = Bad(), Late()
wrong.add(bad); wrong.add(late)
results = [evaluate(), evaluate(fail="x")]
wrong.remove(late); wrong.remove(bad)
try:
    hook(rt, "_ANEModel", "key", "B@:@@@I^@")
except BridgeError as error:
    refused = str(error)
print(json.dumps([results, count(), Bad.errors, wrong.is_installed, refused, hook(rt, "_ANEModel", "nothing", "v@:")]))
""",
    )
    results, calls, errors, installed, refused, absent = out
    assert results == [[True, "None"], [False, "x (com.apple.appleneuralengine -14)"]]
    assert calls == 2
    assert errors == ["KeyError('before')", "KeyError('after')"] * 2
    assert installed is False
    assert refused == "-[_ANEModel key] has the types @16@0:8, expected B@:@@@I^@"
    assert absent is None


def test_two_interceptors_in_any_order_and_a_stranger_on_top(build_standins: Build) -> None:  # noqa: F811
    out = observe(
        build_standins(),
        """
before = methods()
first, second = Interceptor(rt), Interceptor(rt)
first.__enter__(); second.__enter__()
evaluate(ane="both")
first.__exit__(None, None, None)
evaluate(ane="second")
second.__exit__(None, None, None)
evaluate(ane="none")
same = before == methods()
# somebody else hooks on top of ours and stays: our thunk must stay below theirs and pass calls on
import ctypes
declared = declarations.HOOKED_METHODS[0]
method = rt.instance_method(declared.class_name, declared.selector)
from anecompat.measure.objc.encoding import prototype
kind = prototype(declared.encoding)
third = Interceptor(rt)
third.__enter__()
below = kind(rt.implementation(method))
stranger = kind(lambda *arguments: below(*arguments))
rt.set_implementation(method, ctypes.cast(stranger, ctypes.c_void_p).value)
third.__exit__(None, None, None)
still = evaluate(ane="after")
with Interceptor(rt) as fourth:
    evaluate(ane="again")
keys = [[e.key for e in i.evaluations] for i in (first, second, third, fourth)]
refusals = [h.found for h in fourth.hooks if h.state == "refused"]
print(json.dumps([keys, same, still, refusals]))
""",
    )
    keys, same, still, refusals = out
    assert keys == [["both"], ["both", "second"], [], ["again"]]
    assert same is True
    assert still == [True, "None"]
    assert refusals == [], "a thunk that is still below the stranger's serves again"


STRESS = """
import ctypes, random, time
count = ctypes.CDLL(None).standin_evaluations
count.restype = ctypes.c_ulong
THREADS, CALLS = 8, 12_500
DIRECT = "evaluateWithModel:options:request:qos:error:"
times = [[] for _ in range(THREADS)]
wrong = []
def work(number):
    with rt.pool():
        request = rt.send(rt.class_named("_ANERequest"), "requestWithStep:", ns({}), encoding="@@:@")
        rt.send(request, "retain")
    for call in range(CALLS):
        with rt.pool():
            key = f"{number}:{call}"
            model = rt.send(rt.class_named("_ANEModel"), "modelAtURL:key:", None, f.string(rt, key), encoding="@@:@@")
            started = time.monotonic()
            if rt.send(CLIENT, DIRECT, model, None, request, number, None, encoding="B@:@@@I^@") is not True:
                wrong.append(key)
            times[number].append((key, started, time.monotonic()))
workers = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
for worker in workers:
    worker.start()
windows, recorded, faults, mismatched = [], [], [], []
while any(worker.is_alive() for worker in workers):
    with Interceptor(rt, read_surfaces=False) as seen:
        opened = time.monotonic()
        time.sleep(random.random() / 50)
        closed = time.monotonic()
    # a call in flight ends after the window; wait for it before reading
    time.sleep(0.002)
    windows.append((opened, closed))
    everything = seen.evaluations
    recorded.append(everything)
    faults += seen.faults
for worker in workers:
    worker.join()
evaluations = [e for window in recorded for e in window]
keys = [e.key for e in evaluations]
mismatched = [e.key for e in evaluations if e.key.split(":")[0] != str(e.qos) or not e.succeeded or len(e.methods) > 3]
inside = [key for calls in times for key, started, ended in calls
          if any(opened < started and ended < closed for opened, closed in windows)]
print(json.dumps({"calls": count(), "wrong": wrong, "recorded": len(keys), "distinct": len(set(keys)),
                  "inside": len(inside), "lost": sorted(set(inside) - set(keys)), "cycles": len(windows),
                  "mismatched": mismatched[:5], "faults": faults,
                  "clean": not hook(rt, "_ANEClient", DIRECT, "B@:@@@I^@").is_installed}))
"""


def test_stress_eight_threads_while_hooks_come_and_go(build_standins: Build) -> None:  # noqa: F811
    """100,000 calls: each passes, none is recorded twice, none that lies inside a window is lost."""
    out = json.loads(in_process(PRELUDE + STRESS, build_standins(), timeout=300))
    assert out["calls"] == 100_000
    assert out["wrong"] == []
    assert out["recorded"] == out["distinct"]
    assert out["lost"] == []
    assert out["mismatched"] == []
    assert out["faults"] == []
    assert out["clean"] is True
    assert out["inside"] > 1000, "the test would prove nothing if hardly a call had been inside a window"
    assert out["recorded"] < 100_000, "nor if the hooks had never been gone"
    assert out["cycles"] > 10

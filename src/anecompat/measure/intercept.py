"""The interceptor: which evaluations reach the Neural Engine while it is open.

    with Interceptor(runtime) as interceptor:
        ...predict...
    interceptor.evaluations

One evaluation passes several hooked methods (client, direct, program). It is recorded once: calls nested in it on the
same thread, or made for the same request on another thread, are layers of it. Everything read is best effort; what
fails is noted in ``faults`` and never raised into Core ML. Observers run inside a pool of their own, the original
outside of it, because the NSError it hands back is autoreleased.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from anecompat.measure import surfaces
from anecompat.measure.objc import foundation
from anecompat.measure.objc.declarations import HOOKED_METHODS, HookedMethod, Role
from anecompat.measure.objc.hooks import Hook, hook
from anecompat.measure.objc.runtime import BridgeError, Runtime
from anecompat.measure.trace import TraceHook

_MODEL_DESCRIPTION = "ANEFModelDescription"
_INPUT_SYMBOLS = "kANEFModelInputSymbolsArrayKey"
_OUTPUT_SYMBOLS = "kANEFModelOutputSymbolsArrayKey"
_MOST_FAULTS = 100


@dataclass(slots=True)
class SeenSurface:
    """A surface of a request. ``symbol`` is its index in the loaded model's list of symbols, where the request says."""

    surface: surfaces.Surface
    symbol: int | None = None
    content: bytes | None = None


@dataclass(slots=True)
class Evaluation:
    """One evaluation (or load or compilation), as it was seen. ``model`` and ``request`` are addresses."""

    sequence: int
    role: Role
    methods: list[str]
    thread: int
    model: int | None
    request: int | None
    key: str | None = None
    input_symbols: tuple[str, ...] = ()
    output_symbols: tuple[str, ...] = ()
    qos: int | None = None
    started: float = 0.0
    seconds: float = 0.0
    succeeded: bool | None = None
    error: foundation.NSErrorText | None = None
    asynchronous: bool = False
    inputs: list[SeenSurface] = field(default_factory=list)
    outputs: list[SeenSurface] = field(default_factory=list)


class _Stack(threading.local):
    def __init__(self) -> None:
        self.open: list[Evaluation] = []


class Interceptor:
    """A context manager. ``table`` says what to hook; ``finished`` is called for each evaluation as it ends.

    With ``copy_surfaces`` the content of each surface is kept: inputs before, outputs after the evaluation.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        table: tuple[HookedMethod, ...] = HOOKED_METHODS,
        finished: Callable[[Evaluation], None] | None = None,
        read_surfaces: bool = True,
        copy_surfaces: bool = False,
    ) -> None:
        self._runtime = runtime
        self._table = table
        self._finished = finished
        self._read_surfaces = read_surfaces
        self._copy_surfaces = copy_surfaces
        self._lock = threading.Lock()
        self._stack = _Stack()
        self._declared: dict[int, HookedMethod] = {}
        self._open_requests: dict[int, Evaluation] = {}
        self._returned_early: dict[int, Evaluation] = {}
        self._installed: list[Hook] = []
        self._sequence = 0
        self.hooks: list[TraceHook] = []
        self.faults: list[str] = []
        self._records: list[Evaluation] = []

    @property
    def evaluations(self) -> list[Evaluation]:
        """Evaluations on the engine, in the order in which they began."""
        with self._lock:
            return sorted((e for e in self._records if e.role is Role.EVALUATE), key=lambda e: e.sequence)

    @property
    def preparations(self) -> list[Evaluation]:
        """Loads and compilations, for their times."""
        with self._lock:
            return sorted((e for e in self._records if e.role is not Role.EVALUATE), key=lambda e: e.sequence)

    def __enter__(self) -> Interceptor:
        try:
            for declared in self._table:
                self._install(declared)
        except BaseException:
            self._remove_all()
            raise
        return self

    def _install(self, declared: HookedMethod) -> None:
        try:
            found = hook(self._runtime, declared.class_name, declared.selector, declared.encoding)
            if found is None:
                self.hooks.append(TraceHook(declared.label, "absent"))
                return
            if found.method in self._declared:
                return
            self._declared[found.method] = declared
            found.add(self)
        except BridgeError as error:
            self.hooks.append(TraceHook(declared.label, "refused", str(error)))
            return
        self._installed.append(found)
        self.hooks.append(TraceHook(declared.label, "installed"))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._remove_all()

    def _remove_all(self) -> None:
        while self._installed:
            self._installed.pop().remove(self)

    # ---- Observer ----

    def before(self, hook: Hook, arguments: tuple[Any, ...]) -> tuple[Evaluation, bool]:
        """The evaluation that this call belongs to, and whether the call is its outermost one."""
        declared = self._declared[hook.method]
        model = _argument(arguments, declared.model)
        request = _argument(arguments, declared.request)
        outer = self._outer(declared, model, request)
        if outer is not None:
            self._stack.open.append(outer)
            return outer, False
        with self._lock:
            self._sequence += 1
            new = Evaluation(self._sequence, declared.role, [declared.label], threading.get_native_id(), model, request)
            if request:
                self._open_requests[request] = new
        self._stack.open.append(new)
        try:
            with self._runtime.pool():
                self._read_before(new, declared, arguments)
        except Exception as error:
            self.failed(hook, error)
        new.started = time.perf_counter()
        return new, True

    def _outer(self, declared: HookedMethod, model: int | None, request: int | None) -> Evaluation | None:
        """The evaluation that this call is a layer of, if any."""
        top = self._stack.open[-1] if self._stack.open else None
        if top is not None and (top.role is not declared.role or (request and top.request and request != top.request)):
            top = None
        with self._lock:
            if top is None and request:
                top = self._open_requests.get(request) or self._returned_early.pop(request, None)
            if top is None or top.role is not declared.role:
                return None
            top.methods.append(declared.label)
            return top

    def after(self, hook: Hook, arguments: tuple[Any, ...], token: Any, result: Any) -> None:
        evaluation: Evaluation
        evaluation, is_outermost = token
        ended = time.perf_counter()
        declared = self._declared[hook.method]
        if self._stack.open and self._stack.open[-1] is evaluation:
            self._stack.open.pop()
        if not is_outermost:
            return
        with self._lock:
            evaluation.seconds = ended - evaluation.started
            evaluation.succeeded = bool(result)
            if evaluation.request and self._open_requests.get(evaluation.request) is evaluation:
                del self._open_requests[evaluation.request]
                if evaluation.asynchronous and len(evaluation.methods) == 1:
                    self._returned_early[evaluation.request] = evaluation
            self._records.append(evaluation)
        try:
            with self._runtime.pool():
                self._read_after(evaluation, declared, arguments)
        except Exception as error:
            self.failed(hook, error)
        if self._finished:
            self._finished(evaluation)

    def failed(self, hook: Hook, error: BaseException) -> None:
        if len(self.faults) < _MOST_FAULTS:
            self.faults.append(f"{hook.label}: {type(error).__name__}: {error}")

    # ---- Reading ----

    def _read_before(self, evaluation: Evaluation, declared: HookedMethod, arguments: tuple[Any, ...]) -> None:
        runtime, model, request = self._runtime, evaluation.model, evaluation.request
        if declared.qos is not None:
            evaluation.qos = arguments[declared.qos]
        if runtime.responds(model, "key"):
            key = runtime.send(model, "key")
            if foundation.is_kind(runtime, key, "NSString"):
                evaluation.key = foundation.text(runtime, key)
        if request is None or not self._read_surfaces:
            return
        if runtime.responds(model, "modelAttributes"):
            evaluation.input_symbols, evaluation.output_symbols = self._symbols(model)
        if runtime.responds(request, "completionHandler"):
            evaluation.asynchronous = bool(runtime.send(request, "completionHandler"))
        evaluation.inputs = self._surfaces(request, "input")

    def _read_after(self, evaluation: Evaluation, declared: HookedMethod, arguments: tuple[Any, ...]) -> None:
        slot = _argument(arguments, declared.error)
        if slot and not evaluation.succeeded:
            # on success Cocoa leaves the slot as the caller made it, which may be rubbish
            evaluation.error = foundation.error_text(self._runtime, ctypes.c_void_p.from_address(slot).value)
        if evaluation.request and self._read_surfaces and not evaluation.asynchronous:
            evaluation.outputs = self._surfaces(evaluation.request, "output")

    def _symbols(self, model: int | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
        attributes = self._runtime.send(model, "modelAttributes")
        if not foundation.is_kind(self._runtime, attributes, "NSDictionary"):
            return (), ()
        description = foundation.entries(self._runtime, attributes).get(_MODEL_DESCRIPTION)
        if not foundation.is_kind(self._runtime, description, "NSDictionary"):
            return (), ()
        content = foundation.plain(self._runtime, description, 3)
        return tuple(map(str, content.get(_INPUT_SYMBOLS) or ())), tuple(map(str, content.get(_OUTPUT_SYMBOLS) or ()))

    def _surfaces(self, request: int, side: str) -> list[SeenSurface]:
        runtime = self._runtime
        if not runtime.responds(request, f"{side}Array"):
            return []
        objects = foundation.items(runtime, runtime.send(request, f"{side}Array"))
        symbols: tuple[int, ...] = ()
        if runtime.responds(request, f"{side}IndexArray"):
            symbols = foundation.integers(runtime, runtime.send(request, f"{side}IndexArray"))
        seen = []
        for number, item in enumerate(objects):
            pointer = runtime.send(item, "ioSurface") if runtime.responds(item, "ioSurface") else None
            if not pointer:
                continue
            described = surfaces.describe(runtime, pointer)
            content = surfaces.copy(runtime, pointer, described) if self._copy_surfaces else None
            seen.append(SeenSurface(described, symbols[number] if number < len(symbols) else None, content))
        return seen


def _argument(arguments: tuple[Any, ...], index: int | None) -> int | None:
    return None if index is None else arguments[index]

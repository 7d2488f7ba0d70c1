"""Probes to models, with coremltools (the extra ``anecompat[probe]``)."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
from pathlib import Path
from typing import Any

from anecompat.errors import AnecompatError
from anecompat.measure.probe.question import Array, Probe

NAME = "probed"
"""The name of the operation that the model is about, and of its first output."""

_CONTEXT_CHANNELS = 64


class ProbeError(AnecompatError):
    """A probe's model cannot be built here."""


def build(probe: Probe, folder: Path) -> Path:
    """Write the probe's .mlpackage into the folder; its path. ProbeError says why not."""
    path = folder / f"{probe.name}.mlpackage"
    chatter = logging.getLogger("coremltools")
    level = chatter.level
    chatter.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bars would write over ours
            tools = importlib.import_module("coremltools")
            maker = importlib.import_module("coremltools.converters.mil").Builder
            numpy = importlib.import_module("numpy")
            _save(tools, _Builder(tools, maker, numpy).program(probe), probe.opset, path)
    except ProbeError:
        raise
    except ImportError as error:
        raise ProbeError(f"probes are built with coremltools: pip install 'anecompat[probe]' ({error})") from error
    except Exception as error:  # coremltools raises what it likes
        raise ProbeError(f"{probe.name}: coremltools refuses it: {type(error).__name__}: {error}") from error
    finally:
        chatter.setLevel(level)
    return path


def _save(tools: Any, program: Any, opset: str, path: Path) -> None:
    model = tools.convert(
        program,
        convert_to="mlprogram",
        compute_units=tools.ComputeUnit.CPU_ONLY,
        compute_precision=tools.precision.FLOAT32,  # keeps each tensor's type as the probe has it
        minimum_deployment_target=getattr(tools.target, opset),
        pass_pipeline=tools.PassPipeline.EMPTY,  # nothing may be folded, fused or thrown out
        skip_model_load=True,
    )
    model.save(str(path))


class _Builder:
    def __init__(self, tools: Any, maker: Any, numpy: Any) -> None:
        self._tools = tools
        self._mb = maker
        self._np = numpy

    def program(self, probe: Probe) -> Any:
        """The MIL program: inputs, perhaps a layer before, the probed operation, perhaps a layer behind."""
        inputs: dict[str, Array] = {}
        bound: dict[str, Any] = {}
        for name, value in probe.arguments.items():
            if isinstance(value, list) and any(isinstance(item, Array) for item in value):
                bound[name] = [f"{name}_{number}" for number in range(len(value))]
                inputs |= dict(zip(bound[name], value, strict=True))
            elif isinstance(value, Array) and value.is_input:
                inputs[f"in_{name}"] = value
        types = self._mb_types()
        # a truth value cannot enter a model, so it comes in as int32 and is cast
        kinds = {"fp16": types.fp16, "fp32": types.fp32, "int32": types.int32, "bool": types.int32}
        specs = [self._mb.TensorSpec(shape=array.shape, dtype=kinds[array.dtype]) for array in inputs.values()]

        def body(*values: Any) -> Any:
            given = dict(zip(inputs, values, strict=True))
            for name, array in inputs.items():
                if array.dtype == "bool":
                    given[name] = self._mb.cast(x=given[name], dtype="bool")
            return self._body(probe, given, bound)

        # the builder reads the names of the function's arguments
        names = ", ".join(inputs)
        scope: dict[str, Any] = {"body": body}
        exec(f"def named({names}):\n    return body({names})", scope)  # names are our own identifiers
        opset = getattr(self._tools.target, probe.opset)
        return self._mb.program(input_specs=specs, opset_version=opset)(scope["named"])

    def _body(self, probe: Probe, given: dict[str, Any], bound: dict[str, Any]) -> Any:
        arguments: dict[str, Any] = {}
        for name, value in probe.arguments.items():
            if name in bound:
                arguments[name] = [given[part] for part in bound[name]]
            elif isinstance(value, Array):
                arguments[name] = given[f"in_{name}"] if value.is_input else self._array(value)
            else:
                arguments[name] = self._plain(value, self._dtype(probe))
        if probe.context != "alone":
            arguments["x"] = self._layer(probe.context, arguments["x"], "before")
        result = getattr(self._mb, probe.op)(**arguments, name=NAME)
        first = result[0] if isinstance(result, list | tuple) else result
        if probe.context != "alone":
            return self._layer(probe.context, first, "behind")
        results = result if isinstance(result, list | tuple) else [result]
        given_out = [self._outward(item, number) for number, item in enumerate(results)]
        return given_out[0] if len(given_out) == 1 else tuple(given_out)

    def _outward(self, value: Any, number: int) -> Any:
        """A value of a type that a model may give out: truth values and small whole numbers are cast."""
        kind = self._mb_types().builtin_to_string(value.dtype)
        if kind in ("fp16", "fp32", "int32"):
            return value
        return self._mb.cast(x=value, dtype="int32", name=f"outward{number}")

    def _mb_types(self) -> Any:
        return importlib.import_module("coremltools.converters.mil.mil.types")

    def _dtype(self, probe: Probe) -> str:
        return next((array.dtype for array in probe.inputs.values()), "fp16")

    def _plain(self, value: Any, dtype: str) -> Any:
        if isinstance(value, dict):
            ((kind, number),) = value.items()
            return getattr(self._np, kind)(number)
        if isinstance(value, float):
            return (self._np.float32 if dtype == "fp32" else self._np.float16)(value)
        if isinstance(value, list):
            return self._np.array(value, dtype=self._np.int32)
        return value

    def _array(self, array: Array) -> Any:
        kinds = {"fp16": self._np.float16, "fp32": self._np.float32, "int32": self._np.int32}
        count = int(self._np.prod(array.shape))
        if array.fill in ("zeros", "ones"):
            flat = getattr(self._np, array.fill)(count)
        else:
            flat = ((self._np.arange(count) * 7919) % 1009 / 1009 - 0.5) / 8  # small, varied, the same every time
        return flat.astype(kinds[array.dtype]).reshape(array.shape)

    def _layer(self, context: str, x: Any, where: str) -> Any:
        """A layer that the engine is known to take, of the channels that x has."""
        if context == "conv":
            if len(x.shape) != 4:
                raise ProbeError(f"a convolution {where} needs rank 4, the operation has {len(x.shape)}")
            weight = self._array(Array((x.shape[1], x.shape[1], 3, 3)))
            return self._mb.conv(x=x, weight=weight, pad_type="same", name=f"conv_{where}")
        weight = self._array(Array((x.shape[-1], x.shape[-1])))
        return self._mb.linear(x=x, weight=weight, name=f"linear_{where}")

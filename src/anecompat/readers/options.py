"""What a caller may ask of a reading: one function, fixed shapes for flexible inputs, a check of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from anecompat.errors import UsageError
from anecompat.ir import Feature, Function, Model, TensorType, number

Shape = tuple[int, ...]


class Pins:
    """Shapes that the caller fixes, by input name. UsageError where the model does not allow one."""

    def __init__(self, shapes: Mapping[str, Shape] | None = None) -> None:
        self._shapes = dict(shapes or {})

    def __bool__(self) -> bool:
        return bool(self._shapes)

    def shape(self, feature: Feature) -> Shape | None:
        """The shape fixed for a feature, as the feature has it; None where the caller fixed none."""
        wanted = self._shapes.get(feature.name)
        if wanted is None:
            return None
        if feature.kind not in ("multiArray", "image"):
            raise UsageError(f"the input {feature.name!r} is a {feature.kind}; only arrays and images have a shape")
        if any(dim < 1 for dim in wanted):
            raise UsageError(f"the shape {_text(wanted)} of {feature.name!r} has a dimension below 1")
        if feature.kind == "image":
            wanted = self._image(wanted, feature)
        self._allowed(wanted, feature)
        return wanted

    def _image(self, wanted: Shape, feature: Feature) -> Shape:
        """(height, width), (channels, height, width) or (1, channels, height, width) as the feature's second form."""
        channels = feature.shape[0] if feature.shape else 3
        if len(wanted) == 2:
            return (channels, *wanted)
        return wanted[1:] if len(wanted) == 4 and wanted[0] == 1 else wanted

    def _allowed(self, wanted: Shape, feature: Feature) -> None:
        rank = len(feature.ranges) or (len(feature.shape) if feature.shape is not None else len(wanted))
        if len(wanted) != rank:
            raise UsageError(f"the input {feature.name!r} has {rank} dimensions, {_text(wanted)} has {len(wanted)}")
        if feature.choices:
            if wanted not in feature.choices and wanted != feature.shape:
                choices = ", ".join(_text(choice) for choice in feature.choices[:8])
                more = ", ..." if len(feature.choices) > 8 else ""
                raise UsageError(f"the input {feature.name!r} does not take {_text(wanted)}, only {choices}{more}")
        elif feature.ranges:
            for dim, (least, most) in zip(wanted, feature.ranges, strict=True):
                if dim < least or (most is not None and dim > most):
                    limits = f"{least} to {most}" if most is not None else f"{least} or more"
                    raise UsageError(f"the input {feature.name!r} takes {limits} where {_text(wanted)} has {dim}")
        elif feature.shape is not None and wanted != feature.shape:
            raise UsageError(f"the input {feature.name!r} has the fixed shape {_text(feature.shape)}")

    def describe(self, description: Any, feature: Feature) -> None:
        """Fix the default shape in a FeatureDescription message, which old networks infer all others from."""
        wanted = self.shape(feature)
        if wanted is None:
            return
        if feature.kind == "image":
            description.type.imageType.height, description.type.imageType.width = wanted[1:]
        else:
            description.type.multiArrayType.shape[:] = wanted

    def apply(self, model: Model) -> None:
        """Fix the shapes of a model's inputs and of its functions', in every stage that has an input of the name."""
        if not self._shapes:
            return
        known = _inputs(model)
        for name in self._shapes:
            if name not in known:
                raise UsageError(f"the model has no input {name!r}; it has: {', '.join(sorted(known)) or 'none'}")
        self._stage(model)

    def _stage(self, model: Model) -> None:
        fixed: dict[str, Shape] = {}
        features = []
        for feature in model.inputs:
            wanted = self.shape(feature)
            if wanted is not None:
                fixed[feature.name] = wanted
                feature = replace(feature, shape=wanted, choices=(), ranges=())
            features.append(feature)
        model.inputs = tuple(features)
        if not model.kind.startswith("neuralNetwork"):  # its reader inferred from the fixed shapes already
            for function in model.functions:
                _fix(function, fixed)
        for stage in model.stages:
            self._stage(stage)


def _fix(function: Function, fixed: Mapping[str, Shape]) -> None:
    for value in function.inputs:
        wanted = fixed.get(value.name)
        if wanted is None or not isinstance(value.type, TensorType):
            continue
        declared = value.type.shape
        if declared is not None and len(declared) == len(wanted) + 1 and declared[0] in (1, None):
            wanted = (1, *wanted)  # an image: the batch is the program's own
        if declared is not None and (
            len(declared) != len(wanted)
            or any(has not in (None, dim) for has, dim in zip(declared, wanted, strict=True))
        ):
            raise UsageError(f"{value.name!r} of function {function.name!r} is {value.type}, not {_text(wanted)}")
        value.type = TensorType(value.type.dtype, wanted)


def _inputs(model: Model) -> set[str]:
    return {feature.name for feature in model.inputs}.union(*(_inputs(stage) for stage in model.stages))


def _text(shape: Shape) -> str:
    return "x".join(str(dim) for dim in shape)


@dataclass(frozen=True, slots=True)
class Options:
    """``function`` selects one of several; ``pins`` fixes shapes; ``verify_weights`` checks every blob's bounds."""

    function: str | None = None
    pins: Pins = field(default_factory=Pins)
    verify_weights: bool = False

    def finish(self, model: Model) -> Model:
        """Select and fix, then count the operations. UsageError for a function or input that is not there."""
        if self.function is not None:
            self._select(model)
        self.pins.apply(model)
        return number(model)

    def _select(self, model: Model) -> None:
        leaves = [leaf for _, leaf in model.walk_stages() if leaf.functions]
        names = dict.fromkeys(function.name for leaf in leaves for function in leaf.functions)
        if self.function not in names:
            held = f"it has: {', '.join(names)}" if names else "it has none"
            raise UsageError(f"the model has no function {self.function!r}; {held}")
        for leaf in leaves:
            chosen = tuple(function for function in leaf.functions if function.name == self.function)
            if chosen:
                leaf.functions = chosen
                leaf.default_function = chosen[0].name

"""A compiled model (``.mlmodelc``): its program's text or its network's layers, with the description beside them.

coremldata.bin            the model's kind, inputs, outputs; of a non-neural model, all there is
metadata.json             the same for people; since 2019
model.mil                 an mlProgram
model.espresso.net        a neural network, with model.espresso.shape and model.espresso.weights
model0/, model1/, ...     the stages of a pipeline, each a compiled model
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from anecompat.errors import ReadError, UsageError
from anecompat.ir import UNDESCRIBED, Constant, Function, HostWork, Model, Operation
from anecompat.readers import coremldata
from anecompat.readers.coremldata import Described
from anecompat.readers.espresso import parse_json, read_network
from anecompat.readers.features import features
from anecompat.readers.foreign import recognize, refuse_foreign
from anecompat.readers.mil_text import feature, model_of, parse_program
from anecompat.readers.options import Options
from anecompat.readers.source import Source
from anecompat.readers.spec import HOST_KINDS, PIPELINES, conversions, has_classify, host_detail, metadata_of
from anecompat.readers.weights import Weights

PROGRAM, NETWORK, METADATA = "model.mil", "model.espresso.net", "metadata.json"
NETWORK_SHAPES, NETWORK_WEIGHTS = "model.espresso.shape", "model.espresso.weights"
CLASSIFIER = "neuralNetworkClassifier"
MOST_TEXT = 256 << 20  # bytes of a program's text or a network's JSON
MOST_METADATA = 16 << 20
MOST_DEPTH = 8  # pipelines within pipelines
_STAGE = re.compile(r"(model(\d{1,4}))(?:\.mlmodelc)?/")


def read_compiled(source: Source, options: Options | None = None) -> Model:
    """The model in a compiled model's folder. ReadError where it is incomplete or damaged.

    A description, metadata or weights that are missing or damaged cost a warning: the structure is judged without them.
    """
    return _Compiled(source, options or Options(), "", 0).read()


class _Compiled:
    def __init__(self, source: Source, options: Options, name: str, depth: int) -> None:
        self.source = source
        self.options = options
        self.depth = depth
        self.warnings: list[str] = []
        self.described = self._describe()
        self.metadata = self._metadata()
        self.model = Model(source.label, "mlmodelc", self._kind(), self._spec_version(), name=name)

    def read(self) -> Model:
        model, source = self.model, self.source
        stages = self._stages()
        if self.described is not None:
            description = self.described.message.description
            model.inputs = features(description.input)
            model.outputs = features(description.output)
            model.states = features(description.state)
            model.metadata = metadata_of(self.described.message)
        model.metadata = self._words() | model.metadata
        if source.has(PROGRAM):
            self._program()
        elif source.has(NETWORK):
            self._network()
        elif stages or model.kind in PIPELINES:
            self._pipeline(stages)
        else:
            self._host_kind()
        if not model.stages:
            model.host_work += tuple(conversions(model))
        model.warnings = (*self.warnings, *model.warnings)
        return model

    def _describe(self) -> Described | None:
        """The description, or None with a warning."""
        source, name = self.source, coremldata.NAME
        if not source.has(name):
            if source.has(PROGRAM) or source.has(NETWORK):
                self.warnings.append(f"{name} is missing: inputs and outputs are those of the network itself.")
            return None
        pointer = recognize(source.read_at(name, 0, 4096), source.size(name))
        if pointer is not None and "Git LFS" in pointer:
            self.warnings.append(f"{name}: {pointer}. Inputs and outputs are those of the network itself.")
            return None
        try:
            return coremldata.describe(source)
        except ReadError as error:
            if not (source.has(PROGRAM) or source.has(NETWORK)):
                raise
            self.warnings.append(f"{name}: {error.message}. Inputs and outputs are those of the network itself.")
            return None

    def _metadata(self) -> dict[str, Any]:
        """The one object that metadata.json lists; empty where it is absent, with a warning where it is damaged."""
        source = self.source
        if not source.has(METADATA):
            return {}
        try:
            found = parse_json(source.read(METADATA, MOST_METADATA), METADATA)
        except ReadError as error:
            self.warnings.append(f"{error}.")
            return {}
        first = found[0] if isinstance(found, list) and found else None
        return first if isinstance(first, dict) else {}

    def _kind(self) -> str:
        if self.described is not None and self.described.kind:
            return self.described.kind
        told = self.metadata.get("modelType")
        kind = str(told.get("name", "")).removeprefix("MLModelType_") if isinstance(told, dict) else ""
        if kind in coremldata.KINDS.values():
            return kind
        if self.source.has(PROGRAM):
            return "mlProgram"
        if self.source.has(NETWORK):
            return "neuralNetwork"
        return "pipeline" if self._stages() else ""

    def _spec_version(self) -> int:
        if self.described is not None and self.described.spec_version:
            return self.described.spec_version
        version = self.metadata.get("specificationVersion")
        return version if isinstance(version, int) and not isinstance(version, bool) and 0 < version < 1000 else 0

    def _words(self) -> dict[str, str]:
        """What the author wrote, as metadata.json repeats it."""
        words = {
            name: value
            for name, key in (
                ("shortDescription",) * 2,
                ("author",) * 2,
                ("license",) * 2,
                ("versionString", "version"),
            )
            if isinstance(value := self.metadata.get(key), str) and value
        }
        own = self.metadata.get("userDefinedMetadata")
        return words | ({str(key): str(value) for key, value in own.items()} if isinstance(own, dict) else {})

    def _text(self, name: str) -> bytes:
        data = self.source.read(name, MOST_TEXT)
        refuse_foreign(data[:4096], self.source.place(name), len(data), json=True)
        return data

    def _program(self) -> None:
        model, source = self.model, self.source
        place = source.place(PROGRAM)
        try:
            text = self._text(PROGRAM).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ReadError(f"byte {error.start:,} is no UTF-8 text; the file is damaged", place=place) from None
        weights = Weights(source, PROGRAM)
        read = model_of(parse_program(text, path=place, elements=weights.elements), place)
        model.functions = read.functions
        model.default_function = read.default_function
        model.spec_version = model.spec_version or read.spec_version
        model.warnings += tuple(weights.warnings(_stored(read.functions), self.options.verify_weights))
        if self.described is None:
            model.inputs, model.outputs, model.states = read.inputs, read.outputs, read.states
            return
        description = self.described.message.description
        names = [function.name for function in read.functions]
        if description.defaultFunctionName in names:
            model.default_function = description.defaultFunctionName
        shown = self.options.function if self.options.function in names else model.default_function
        for each in description.functions:
            if each.name == shown:
                model.inputs, model.outputs = features(each.input), features(each.output)
                model.states = features(each.state)
        if description.predictedFeatureName and not has_classify(read.functions):
            label = f"the label {description.predictedFeatureName!r} is picked from the probabilities"
            model.host_work += (HostWork("label lookup", label, partial=True),)

    def _network(self) -> None:
        model, source = self.model, self.source
        if any(self.options.pins.shape(each) not in (None, each.shape) for each in model.inputs):
            raise UsageError(
                "a compiled neural network holds the shapes of its default input alone; "
                "fix a shape in the .mlmodel it was compiled from"
            )
        shape = self._text(NETWORK_SHAPES) if source.has(NETWORK_SHAPES) else None
        network = read_network(
            self._text(NETWORK),
            shape,
            inputs=tuple(each.name for each in model.inputs),
            outputs=self._network_outputs(),
            place=source.place(NETWORK),
        )
        if self.described is None:
            model.inputs = tuple(feature(value, {}) for value in network.function.inputs)
            model.outputs = tuple(feature(value, {}) for value in network.function.outputs)
            self.warnings.append("Whether it looks up a class label is not known either; that would be work outside.")
            model.metadata[UNDESCRIBED] = "yes"
        model.functions = (network.function,)
        model.default_function = network.function.name
        model.host_work += network.host_work
        model.warnings += network.warnings
        weights = f"{NETWORK_WEIGHTS} is missing; the answer rests on the structure alone."
        if not source.has(NETWORK_WEIGHTS):
            model.warnings += (weights,)
        elif recognize(source.read_at(NETWORK_WEIGHTS, 0, 64), source.size(NETWORK_WEIGHTS)):
            model.warnings += (weights.replace("missing", "a Git LFS pointer or empty"),)
        if model.kind == CLASSIFIER and self.described is not None:
            count = self.described.labels
            detail = f"the most likely of {count} labels" if count else "the most likely label"
            work = HostWork("label lookup", f"{detail} is picked from the probabilities", partial=True)
            model.host_work += (work,)

    def _network_outputs(self) -> tuple[str, ...]:
        """The described outputs; a classifier's label is made of its probabilities, which come first."""
        if self.described is None:
            return ()
        description = self.described.message.description
        names = [each.name for each in self.model.outputs]
        probabilities = description.predictedProbabilitiesName
        return tuple(dict.fromkeys([probabilities, *names] if probabilities in names else names))

    def _stages(self) -> list[tuple[str, str]]:
        """(name, folder) of the stages, in their order."""
        found = [
            (int(match[2]), match[1], child) for child in self.source.children() if (match := _STAGE.fullmatch(child))
        ]
        return [(name, folder) for _, name, folder in sorted(found)]

    def _pipeline(self, stages: list[tuple[str, str]]) -> None:
        named = self.described.stages if self.described is not None else ()
        missing = [name for name in named if name not in dict(stages)]
        place = self.source.place()
        if missing or not stages:
            what = ", ".join(missing) or "model0"
            raise ReadError(f"the stage {what} of the pipeline is missing; copy the model again, whole", place=place)
        if self.depth >= MOST_DEPTH:
            raise ReadError(f"pipelines lie in each other more than {MOST_DEPTH} deep", place=place)
        self.model.stages = tuple(
            _Compiled(self.source.at(folder), self.options, name, self.depth + 1).read() for name, folder in stages
        )

    def _host_kind(self) -> None:
        """A model without operations: its kind tells the work of the processor."""
        model = self.model
        kind, place = model.kind, self.source.place()
        if self.described is None or not kind:
            raise ReadError(
                f"neither {PROGRAM}, {NETWORK} nor a {coremldata.NAME} that names the model's kind is in it;"
                " compile the model again",
                place=place,
            )
        if kind == "mlProgram" or kind.startswith("neuralNetwork"):
            needed = PROGRAM if kind == "mlProgram" else NETWORK
            raise ReadError(f"{needed} is missing; copy the model again, whole", place=place)
        if kind == "serializedModel":
            raise ReadError("the model is sealed: only Core ML itself can open it", place=place)
        detail = HOST_KINDS.get(kind, "the app's own code" if kind == "customModel" else "a model without layers")
        model.host_work = (HostWork(kind, host_detail(kind, detail), partial=True),)


def _stored(functions: Iterable[Function]) -> Iterator[tuple[str, Constant]]:
    """Every constant that lies in a weight file, with its name, once."""
    seen: set[int] = set()
    for function in functions:
        for operation in function.body.walk():
            yield from _stored_in(operation, seen)


def _stored_in(operation: Operation, seen: set[int]) -> Iterator[tuple[str, Constant]]:
    for bound in operation.inputs.values():
        for value in bound:
            if value.const is not None and value.const.blob is not None and id(value.const) not in seen:
                seen.add(id(value.const))
                yield value.name, value.const

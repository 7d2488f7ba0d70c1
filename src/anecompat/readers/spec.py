"""A Model message, of any of the 37 kinds, as a model of the graph."""

from __future__ import annotations

from typing import Any

from anecompat.errors import ReadError
from anecompat.ir import Feature, Function, HostWork, Model
from anecompat.readers.features import features
from anecompat.readers.immediate import Values
from anecompat.readers.options import Options
from anecompat.readers.program import ProgramReader
from anecompat.readers.source import Source
from anecompat.readers.weights import Weights
from anecompat.readers.wire import field_numbers, parse

PIPELINES = ("pipeline", "pipelineClassifier", "pipelineRegressor")
NETWORKS = ("neuralNetwork", "neuralNetworkClassifier", "neuralNetworkRegressor")

# What the kinds without layers do; none of it is for the Neural Engine.
HOST_KINDS = {
    "treeEnsembleClassifier": "decision trees",
    "treeEnsembleRegressor": "decision trees",
    "glmClassifier": "a generalized linear model",
    "glmRegressor": "a generalized linear model",
    "supportVectorClassifier": "a support vector machine",
    "supportVectorRegressor": "a support vector machine",
    "bayesianProbitRegressor": "a Bayesian probit regression",
    "kNearestNeighborsClassifier": "a nearest-neighbour search",
    "itemSimilarityRecommender": "a recommender by item similarity",
    "classConfidenceThresholding": "thresholds on class confidences",
    "oneHotEncoder": "one-hot encoding",
    "imputer": "filling in missing values",
    "featureVectorizer": "joining features to a vector",
    "dictVectorizer": "turning a dictionary into a vector",
    "scaler": "scaling features",
    "categoricalMapping": "mapping categories",
    "normalizer": "normalizing features",
    "arrayFeatureExtractor": "picking elements of an array",
    "nonMaximumSuppression": "non-maximum suppression of boxes",
    "identity": "passing its input on",
    "textClassifier": "Apple's text classifier",
    "wordTagger": "Apple's word tagger",
    "visionFeaturePrint": "Apple's image feature extractor, built into the system",
    "soundAnalysisPreprocessing": "Apple's sound preprocessing",
    "gazetteer": "Apple's gazetteer",
    "wordEmbedding": "Apple's word embedding",
    "audioFeaturePrint": "Apple's audio feature extractor, built into the system",
}

# Networks that come with the system: what they run on is the system's affair and not published.
_OF_THE_SYSTEM = {
    "textClassifier", "wordTagger", "visionFeaturePrint", "soundAnalysisPreprocessing", "gazetteer", "wordEmbedding",
    "audioFeaturePrint",
}  # fmt: skip


def host_detail(kind: str, what: str) -> str:
    """What a kind without layers does, and where: on the CPU, or wherever the system runs its own networks."""
    if kind in _OF_THE_SYSTEM:
        return f"{what}, outside this file; where the system runs it is not published"
    return f"{what}, on the CPU"


class SpecificationReader:
    """Reads the Model message of one file. ``path`` and ``format`` are those of the container."""

    def __init__(self, source: Source, name: str, path: str, format: str, options: Options) -> None:
        self._source = source
        self._name = name
        self._path = path
        self._format = format
        self._pins = options.pins
        self._function = options.function
        self._verify = options.verify_weights
        self._weights = Weights(source, name)
        self._values = Values(source, name, self._weights.elements)

    def read(self) -> Model:
        """The model. ReadError where it is damaged, encrypted, or of a kind nobody knows."""
        try:
            message = parse(self._source, self._name)
        except ReadError as error:
            raise self._foreign() or error from None
        if not message.WhichOneof("Type"):
            self._refuse(message)
        return self._model(message, "")

    def _error(self, what: str, stage: str = "") -> ReadError:
        place = self._source.place(self._name)
        return ReadError(what, place=f"{place}, stage {stage}" if stage else place)

    def _refuse(self, message: Any) -> None:
        numbers = field_numbers(self._source, self._name)
        kinds = [number for number in numbers if number >= 200]
        if kinds:
            raise self._error(
                f"the kind of this model (field {kinds[0]} of the format) is not known to this version;"
                " update anecompat, or export the model as an mlProgram"
            )
        foreign = self._foreign()
        if foreign is not None:
            raise foreign
        if not message.HasField("description"):
            raise self._error("this is not a Core ML model: it has neither a description nor a kind")
        raise self._error("the model has a description but nothing that computes; export it again")

    def _foreign(self) -> ReadError | None:
        """An error that says what a file is instead of a Core ML model, if its outermost fields show it."""
        numbers = field_numbers(self._source, self._name)
        if 7 in numbers and max(numbers) < 200:  # the graph of an ONNX ModelProto; a Core ML model has no such field
            return self._error("this looks like an ONNX model; convert it to Core ML first, for instance from PyTorch")
        head = self._source.read_at(self._name, 0, 4)
        if head[:1] not in (b"\x08", b"\x12"):  # the specification version or the description
            return self._error(
                f"this is no Core ML model: it begins with the bytes {head.hex(' ')}, a model with 08 and its version"
            )
        return None

    def _model(self, message: Any, name: str, stage: str = "") -> Model:
        kind = message.WhichOneof("Type")
        description = message.description
        model = Model(
            self._path,
            self._format,
            kind or "",
            message.specificationVersion,
            name=name,
            metadata=metadata_of(message),
            inputs=features(description.input),
            outputs=features(description.output),
            states=features(description.state),
        )
        if kind is None:
            raise self._error("this stage of the pipeline is empty, or of a kind not known to this version", stage)
        if kind in PIPELINES:
            self._pipeline(getattr(message, kind), kind, model, stage)
        elif kind in NETWORKS:
            self._network(getattr(message, kind), message, model, stage)
        elif kind == "mlProgram":
            self._program(message, model, stage)
        else:
            self._host_kind(message, kind, model, stage)
        model.host_work += tuple(conversions(model)) if kind not in PIPELINES else ()
        return model

    def _pipeline(self, pipeline: Any, kind: str, model: Model, stage: str) -> None:
        if kind != "pipeline":
            pipeline = pipeline.pipeline
        if not pipeline.models:
            raise self._error("the pipeline has no stages; export the model again", stage)
        stages = []
        for index, message in enumerate(pipeline.models):
            name = pipeline.names[index] if index < len(pipeline.names) else f"model{index}"
            stages.append(self._model(message, name, f"{stage}/{name}" if stage else name))
        model.stages = tuple(stages)

    def _network(self, network: Any, message: Any, model: Model, stage: str) -> None:
        from anecompat.readers.neural_network import lower

        for described, each in zip(message.description.input, model.inputs, strict=True):
            self._pins.describe(described, each)
        try:
            function, host_work, warnings = lower(
                network, message.description, model.kind, message.specificationVersion
            )
        except ReadError as error:
            raise self._error(f"{error.place}: {error.message}" if error.place else error.message, stage) from None
        model.functions = (function,)
        model.default_function = function.name
        model.host_work = host_work
        model.warnings = warnings

    def _program(self, message: Any, model: Model, stage: str) -> None:
        description = message.description
        place = self._source.place(self._name) + (f", stage {stage}" if stage else "")
        reader = ProgramReader(self._values, place)
        model.functions = reader.functions(message.mlProgram, (each.name for each in description.functions))
        names = [function.name for function in model.functions]
        default = description.defaultFunctionName or ("main" if "main" in names else names[0])
        if default not in names:
            raise self._error(f"the default function {default!r} is not there; there are: {', '.join(names)}", stage)
        model.default_function = default
        shown = self._function if self._function in names else default
        for described in description.functions:
            if described.name == shown:
                model.inputs = features(described.input)
                model.outputs = features(described.output)
                model.states = features(described.state)
        model.warnings = tuple(self._weights.warnings(reader.stored, self._verify))
        if description.predictedFeatureName and not has_classify(model.functions):
            label = f"the label {description.predictedFeatureName!r} is picked from the probabilities"
            model.host_work = (HostWork("label lookup", label, partial=True),)

    def _host_kind(self, message: Any, kind: str, model: Model, stage: str) -> None:
        if kind == "serializedModel":
            identifier = message.serializedModel.identifier
            raise self._error(
                f"the model is sealed (serialized model {identifier!r}): only Core ML itself can open it;"
                " ask its author for the model it was made of",
                stage,
            )
        if kind == "linkedModel":
            file = message.linkedModel.linkedModelFile
            raise self._error(
                f"the model only names another one, {file.linkedModelFileName.defaultValue!r}; check that one", stage
            )
        if kind == "customModel":
            detail = f"the app's own class {message.customModel.className!r}"
        else:
            detail = HOST_KINDS.get(kind, "a model without layers")
        model.host_work = (HostWork(kind, host_detail(kind, detail), partial=True),)


def metadata_of(message: Any) -> dict[str, str]:
    """What the author wrote of the model: a Model message's metadata."""
    found = {}
    metadata = message.description.metadata
    for field in ("shortDescription", "versionString", "author", "license"):
        if getattr(metadata, field):
            found[field] = getattr(metadata, field)
    found.update((key, metadata.userDefined[key]) for key in sorted(metadata.userDefined))
    if message.isUpdatable:
        found["isUpdatable"] = "true"
    return found


def conversions(model: Model) -> list[HostWork]:
    """Pixels become numbers, and numbers pixels, outside of every engine."""
    found = []
    for way, all_features in (("input", model.inputs), ("output", model.outputs)):
        for image in all_features:
            if image.kind == "image":
                found.append(HostWork("image conversion", f"{way} {image.name!r}: {_pixels(image)}", partial=False))
    return found


def _pixels(image: Feature) -> str:
    if image.shape is None:
        return f"{image.color or 'unknown'} pixels"
    return f"{image.color or 'unknown'} pixels, {image.shape[2]} x {image.shape[1]}"


def has_classify(functions: tuple[Function, ...]) -> bool:
    """Whether the program itself looks up the label."""
    return any(operation.type == "classify" for function in functions for operation in function.operations())

"""Compiled models (``.mlmodelc``): every form, the same model in its other container, and every way to be wrong."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anecompat.errors import ReadError, UsageError
from anecompat.ir import Blob, HostWork, Model, Operation, Unknown, Value
from anecompat.proto import Model as ModelMessage
from anecompat.readers import read
from anecompat.readers.coremldata import KINDS, describe
from anecompat.readers.source import open_source

NUMBERS = {name: number for number, name in KINDS.items()}
ARRAY, DOUBLE, STRING = "array", "double", "string"


def description(inputs: dict[str, object], outputs: dict[str, object], **fields: str) -> Any:
    """A ModelDescription: features by name, each a shape (array), [width, height] (image), or a kind."""
    message = ModelMessage().description
    for features, given in ((message.input, inputs), (message.output, outputs)):
        for name, kind in given.items():
            feature = features.add(name=name)
            if isinstance(kind, tuple):
                feature.type.multiArrayType.shape[:] = kind
                feature.type.multiArrayType.dataType = 65568
            elif isinstance(kind, list):
                feature.type.imageType.width, feature.type.imageType.height = kind
                feature.type.imageType.colorSpace = 20
            elif kind == STRING:
                feature.type.stringType.SetInParent()
            else:
                feature.type.doubleType.SetInParent()
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def header(kind: str | int, storage: str, spec: int) -> bytes:
    number = NUMBERS[kind] if isinstance(kind, str) else kind
    return struct.pack(f"<IQQQQ{len(storage)}sQQQQ", number, 5, 0, 0, len(storage), storage.encode(), spec, 0, 0, 0)


def generic(kind: str | int, described: Any, *, spec: int = 7, storage: str = "generic", behind: bytes = b"") -> bytes:
    data = described.SerializeToString()
    return header(kind, storage, spec) + struct.pack("<Q", len(data)) + bytes(data) + (behind or bytes(16))


def whole(kind: str, described: Any, spec: int = 1) -> bytes:
    """A model stored as its specification, with a payload behind the description that nobody needs."""
    message = ModelMessage(specificationVersion=spec)
    message.description.CopyFrom(described)
    getattr(message, kind).SetInParent()
    return header(kind, "spec", spec) + bytes(message.SerializeToString())


def labels(*names: str) -> bytes:
    found = struct.pack("<QQQ", NUMBERS["neuralNetworkClassifier"], 100, len(names))
    return found + b"".join(struct.pack("<Q", len(name)) + name.encode() for name in names)


PROGRAM = """program(1.0)
[buildInfo = dict<tensor<string, []>, tensor<string, []>>({{"coremlc-version", "3500.32.1"}})]
{
    func main<ios16>(tensor<fp32, [1, 4, 8, 8]> x) {
            tensor<fp16, [4, 4, 1, 1]> w = const()[name = tensor<string, []>("w"), val = tensor<fp16, [4, 4, 1, 1]>(\
BLOBFILE(path = tensor<string, []>("@model_path/weights/weight.bin"), offset = tensor<uint64, []>(64)))];
            tensor<fp32, [1, 4, 8, 8]> y = conv(weight = w, x = x)[name = tensor<string, []>("c")];
        } -> (y);
}"""
NET = {
    "format_version": 200,
    "layers": [
        {"type": "convolution", "name": "c", "bottom": "image", "top": "c_out", "C": 4, "K": 3, "Nx": 3, "Ny": 3}
        | {"pad_mode": 1, "fused_relu": 1},
        {"type": "softmax", "name": "s", "bottom": "c_out", "top": "probabilities", "C": 2},
    ],
}
SHAPES = {"layer_shapes": {name: {"n": 1, "k": k, "h": 8, "w": 8} for name, k in (("image", 3), ("c_out", 4))}}
SHAPES["layer_shapes"]["probabilities"] = {"n": 1, "k": 4, "h": 8, "w": 8}
BOTH = description({"x": (1, 4, 8, 8)}, {"y": (1, 4, 8, 8)})
Files = dict[str, bytes | str | dict[str, Any] | list[Any]]


def made(folder: Path, files: Files) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(data, dict | list):
            data = json.dumps(data)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    return folder


def weights(*tensors: bytes) -> bytes:
    """MIL blob storage, version 2."""
    records, at = b"", 64 + 64 * len(tensors)
    payload = b""
    for data in tensors:
        records += struct.pack("<IIQQ", 0xDEADBEEF, 1, len(data), at + len(payload)).ljust(64, b"\0")
        payload += data
    return struct.pack("<II", len(tensors), 2).ljust(64, b"\0") + records + payload


def program(tmp_path: Path, **files: Any) -> Path:
    """A compiled program; ``weights`` and ``coremldata`` replace or (None) leave out a file."""
    given: Files = {
        "model.mil": files.get("text", PROGRAM),
        "coremldata.bin": files.get("coremldata", generic("mlProgram", BOTH)),
        "weights/weight.bin": files.get("weights", weights(struct.pack("<16e", *range(16)))),
    }
    return made(tmp_path / "m.mlmodelc", {name: data for name, data in given.items() if data is not None})


def network(tmp_path: Path, **files: Any) -> Path:
    described = description({"image": [8, 8]}, {"probabilities": (4, 8, 8)})
    given: Files = {
        "model.espresso.net": files.get("net", NET),
        "model.espresso.shape": files.get("shape", SHAPES),
        "model.espresso.weights": files.get("weights", b"weights"),
        "coremldata.bin": files.get("coremldata", generic("neuralNetwork", described, spec=1)),
    }
    return made(tmp_path / "m.mlmodelc", {name: data for name, data in given.items() if data is not None})


def types(model: Model) -> list[str]:
    return [operation.type for operation in model.operations()]


def test_a_compiled_program(tmp_path: Path) -> None:
    model = read(program(tmp_path))
    assert (model.format, model.kind, model.spec_version, model.default_function) == (
        "mlmodelc",
        "mlProgram",
        7,
        "main",
    )
    assert model.path == str(tmp_path / "m.mlmodelc")
    assert [(each.name, each.kind, each.dtype, each.shape) for each in model.inputs] == [
        ("x", "multiArray", "fp32", (1, 4, 8, 8))
    ]
    assert types(model) == ["conv"]
    weight = next(model.operations()).input("weight")
    assert weight is not None
    assert weight.const is not None
    assert weight.const.blob == Blob("@model_path/weights/weight.bin", 64)
    assert weight.const.values() == tuple(range(16))  # small, so it is fetched when asked for
    assert (model.warnings, model.host_work) == ((), ())


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (None, "weights/weight.bin is missing (one constant lies in it); the answer rests on the structure alone."),
        (
            weights(bytes(32))[:100],
            "weights/weight.bin is too short: w at offset 64 needs 160 bytes, the file has 100.",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\noid",
            "weights/weight.bin is a Git LFS pointer, not the weights",
        ),
    ],
)
def test_weights_that_are_not_there_cost_a_warning(tmp_path: Path, data: bytes | None, sentence: str) -> None:
    model = read(program(tmp_path, weights=data))
    assert types(model) == ["conv"]
    (warning,) = model.warnings
    assert sentence in warning
    weight = next(model.operations()).input("weight")
    assert weight is not None
    assert weight.const is not None
    with pytest.raises(Unknown):
        weight.const.values()


def test_weights_are_verified_when_asked(tmp_path: Path) -> None:
    path = program(tmp_path, weights=weights(bytes(16)) + bytes(64))
    assert read(path).warnings == ()
    (warning,) = read(path, verify_weights=True).warnings
    assert "holds 16 bytes, fp16[4,4,1,1] takes 32" in warning


def test_the_label_of_a_program_is_looked_up_outside(tmp_path: Path) -> None:
    described = description({"x": (1, 4, 8, 8)}, {"y": (1, 4, 8, 8)}, predictedFeatureName="label")
    model = read(program(tmp_path, coremldata=generic("mlProgram", described)))
    assert model.host_work == (
        HostWork("label lookup", "the label 'label' is picked from the probabilities", partial=True),
    )


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (None, "coremldata.bin is missing"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 345\n", "this is a Git LFS pointer"),
        (b"", "no model description was found"),
        (b"\0" * 64, "no model description was found"),
        (generic("mlProgram", BOTH)[:90], "no model description was found"),
        (bytes(range(256)) * 40, "no model description was found"),
    ],
)
def test_without_a_description_the_program_speaks_for_itself(tmp_path: Path, data: bytes | None, sentence: str) -> None:
    model = read(program(tmp_path, coremldata=data))
    assert (model.kind, model.spec_version) == ("mlProgram", 7)  # ios16
    assert [each.name for each in (*model.inputs, *model.outputs)] == ["x", "y"]
    (warning,) = model.warnings
    assert sentence in warning


def test_metadata_json_says_what_coremldata_does_not(tmp_path: Path) -> None:
    metadata = [
        {
            "specificationVersion": 8,
            "modelType": {"name": "MLModelType_mlProgram"},
            "author": "A. Person",
            "version": "2.0",
            "userDefinedMetadata": {"com.github.apple.coremltools.version": "9.0"},
        }
    ]
    path = program(tmp_path, coremldata=None)
    made(path, {"metadata.json": metadata})
    model = read(path)
    assert (model.kind, model.spec_version) == ("mlProgram", 8)
    assert model.metadata == {
        "author": "A. Person",
        "versionString": "2.0",
        "com.github.apple.coremltools.version": "9.0",
    }


@pytest.mark.parametrize("metadata", ["", "{", "[]", "[1]", '[{"specificationVersion": "x", "modelType": 4}]'])
def test_metadata_json_that_says_nothing(tmp_path: Path, metadata: str) -> None:
    path = program(tmp_path, coremldata=None)
    made(path, {"metadata.json": metadata})
    model = read(path)
    assert (model.kind, model.spec_version, model.metadata) == ("mlProgram", 7, {})
    assert len(model.warnings) == (2 if metadata in ("", "{") else 1)


def test_several_functions_have_their_own_features(tmp_path: Path) -> None:
    text = """program(1.3) {
        func small<ios18>(tensor<fp16, [1, 4]> x) { tensor<fp16, [1, 4]> y = relu(x = x); } -> (y);
        func large<ios18>(tensor<fp16, [1, 64]> x) { tensor<fp16, [1, 64]> y = relu(x = x); } -> (y);
    }"""
    described = ModelMessage().description
    for name, size in (("small", 4), ("large", 64)):
        function = described.functions.add(name=name)
        function.input.extend(description({"x": (1, size)}, {}).input)
        function.output.extend(description({}, {"y": (1, size)}).output)
    described.defaultFunctionName = "large"
    described.input.extend(description({"x": (1, 64)}, {}).input)
    path = program(tmp_path, text=text, coremldata=generic("mlProgram", described, spec=9))
    model = read(path)
    assert (model.default_function, [each.name for each in model.functions]) == ("large", ["small", "large"])
    assert model.inputs[0].shape == (1, 64)
    small = read(path, function="small")
    assert ([each.name for each in small.functions], small.inputs[0].shape) == (["small"], (1, 4))


def test_a_compiled_network(tmp_path: Path) -> None:
    model = read(network(tmp_path))
    assert (model.kind, model.spec_version, model.functions[0].layout) == ("neuralNetwork", 1, "blob")
    assert types(model) == ["conv", "relu", "softmax"]
    assert [(value.name, str(value.type)) for value in model.functions[0].inputs] == [("image", "fp16[1,3,8,8]")]
    assert model.host_work == (HostWork("image conversion", "input 'image': RGB pixels, 8 x 8", partial=False),)
    assert model.warnings == ()


def test_a_classifier_looks_its_label_up_outside(tmp_path: Path) -> None:
    described = description(
        {"image": [8, 8]}, {"label": STRING, "probabilities": DOUBLE}, predictedFeatureName="label",
        predictedProbabilitiesName="probabilities",
    )  # fmt: skip
    data = generic("neuralNetworkClassifier", described, spec=1, behind=labels("cat", "dog", "bird"))
    model = read(network(tmp_path, coremldata=data))
    assert model.kind == "neuralNetworkClassifier"
    assert [value.name for value in model.functions[0].outputs] == ["probabilities"]
    assert (
        HostWork("label lookup", "the most likely of 3 labels is picked from the probabilities", True)
        in model.host_work
    )
    bare = read(network(tmp_path, coremldata=generic("neuralNetworkClassifier", described, spec=1)))
    assert "the most likely label is picked" in next(work.detail for work in bare.host_work if work.partial)


def test_a_network_without_its_other_files(tmp_path: Path) -> None:
    model = read(network(tmp_path, shape=None, weights=None, coremldata=None))
    assert types(model) == ["conv", "relu", "softmax"]
    assert [(each.name, each.shape) for each in (*model.inputs, *model.outputs)] == [
        ("image", None),
        ("probabilities", None),
    ]
    assert [warning.split(":")[0].split(";")[0] for warning in model.warnings] == [
        "coremldata.bin is missing",
        "Whether it looks up a class label is not known either",
        "model.espresso.shape is not beside the network",
        "model.espresso.weights is missing",
    ]


def test_shapes_of_a_compiled_network_cannot_be_changed(tmp_path: Path) -> None:
    described = description({"image": [8, 8]}, {"probabilities": (4, 8, 8)})
    sizes = described.input[0].type.imageType.imageSizeRange
    sizes.widthRange.lowerBound = sizes.heightRange.lowerBound = 8
    sizes.widthRange.upperBound = sizes.heightRange.upperBound = -1
    path = network(tmp_path, coremldata=generic("neuralNetwork", described, spec=3))
    assert types(read(path, shapes={"image": (8, 8)})) == ["conv", "relu", "softmax"]
    with pytest.raises(UsageError, match=r"fix a shape in the \.mlmodel it was compiled from"):
        read(path, shapes={"image": (16, 16)})


def test_a_pipeline_and_its_stages(tmp_path: Path) -> None:
    storage = "generic.model0v5.0.0generic.model1v1.0.0spec"
    path = made(
        tmp_path / "p.mlmodelc",
        {"coremldata.bin": generic("pipeline", description({"x": (1, 4, 8, 8)}, {"b": (1,)}), storage=storage)},
    )
    made(path / "model0", {"model.mil": PROGRAM, "coremldata.bin": generic("mlProgram", BOTH)})
    boxes = description({"y": (1, 4, 8, 8)}, {"b": (1,)})
    made(path / "model1", {"coremldata.bin": whole("nonMaximumSuppression", boxes, 5)})
    model = read(path)
    assert (model.kind, model.functions, [stage.name for stage in model.stages]) == (
        "pipeline",
        (),
        ["model0", "model1"],
    )
    assert [(stage.kind, stage.spec_version) for stage in model.stages] == [
        ("mlProgram", 7),
        ("nonMaximumSuppression", 5),
    ]
    assert types(model) == ["conv"]
    assert model.stages[1].host_work == (
        HostWork("nonMaximumSuppression", "non-maximum suppression of boxes, on the CPU", partial=True),
    )
    assert [each.name for each in model.stages[1].inputs] == ["y"]


def test_stages_count_beyond_nine(tmp_path: Path) -> None:
    path = made(tmp_path / "p.mlmodelc", {"coremldata.bin": generic("pipeline", BOTH)})
    for index in range(12):
        made(path / f"model{index}", {"coremldata.bin": whole("identity", BOTH)})
    assert [stage.name for stage in read(path).stages] == [f"model{index}" for index in range(12)]


@pytest.mark.parametrize(
    ("kind", "detail"),
    [
        ("treeEnsembleRegressor", "decision trees, on the CPU"),
        ("textClassifier", "Apple's text classifier, outside this file; where the system runs it is not published"),
        (
            "soundAnalysisPreprocessing",
            "Apple's sound preprocessing, outside this file; where the system runs it is not published",
        ),
        ("customModel", "the app's own code, on the CPU"),
    ],
)
def test_models_of_a_description_alone_are_named(tmp_path: Path, kind: str, detail: str) -> None:
    described = description({"x": DOUBLE}, {"y": DOUBLE})
    for data in (generic(kind, described, spec=2), whole(kind, described, 2)):
        model = read(made(tmp_path / "m.mlmodelc", {"coremldata.bin": data}))
        assert (model.kind, model.spec_version, model.functions) == (kind, 2, ())
        assert model.host_work == (HostWork(kind, detail, partial=True),)
        assert [(each.name, each.kind) for each in model.inputs] == [("x", "double")]


def test_a_description_behind_another_preamble_is_found(tmp_path: Path) -> None:
    data = generic("glmRegressor", description({"x": DOUBLE}, {"y": DOUBLE}))
    path = made(tmp_path / "m", {"coremldata.bin": data[:4] + b"something newer" + data[36:]})
    found = describe(open_source(path))
    assert (found.kind, found.spec_version, found.message.description.input[0].name) == ("glmRegressor", 0, "x")


def test_what_lies_behind_the_description_is_not_read(tmp_path: Path) -> None:
    described = description({"x": DOUBLE}, {"y": DOUBLE})
    message = ModelMessage(specificationVersion=3)
    message.description.CopyFrom(described)
    data = header("textClassifier", "spec", 3) + bytes(message.SerializeToString()) + b"\x82\x7d" + b"\xff" * 3
    path = made(tmp_path / "m.mlmodelc", {"coremldata.bin": data + bytes(4 << 20)})
    source = open_source(path)
    assert describe(source).kind == "textClassifier"
    assert source.bytes_read < 10_000


def test_a_zip_of_a_compiled_model(tmp_path: Path) -> None:
    folder = program(tmp_path)
    archive = tmp_path / "m.mlmodelc.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made_of:
        for file in sorted(folder.rglob("*")):
            made_of.write(file, file.relative_to(tmp_path))
    model = read(archive)
    assert (types(model), model.format, model.warnings) == (["conv"], "mlmodelc", ())


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"model.mil": ""}, "the file is empty"),
        ({"model.mil": "version https://git-lfs.github.com/spec/v1\n"}, "this is a Git LFS pointer"),
        ({"model.mil": b"\xff\xfeprogram"}, "byte 0 is no UTF-8 text"),
        ({"model.mil": PROGRAM[:300]}, r"model.mil:5:\d+: expected"),
        ({"model.espresso.net": ""}, "the file is empty"),
        ({"model.espresso.net": "{"}, r"model.espresso.net:1:2: this is not JSON"),
        ({"model.espresso.net": NET, "model.espresso.shape": "{"}, r"model.espresso.shape:1:2: this is not JSON"),
        ({"coremldata.bin": b""}, "no model description was found in it"),
        ({"coremldata.bin": bytes(200)}, "no model description was found in it"),
        ({"coremldata.bin": generic("mlProgram", BOTH)}, "model.mil is missing; copy the model again, whole"),
        ({"coremldata.bin": generic("neuralNetwork", BOTH)}, "model.espresso.net is missing"),
        ({"coremldata.bin": generic(31337, BOTH)}, "nor a coremldata.bin that names the model's kind"),
        ({"coremldata.bin": generic("pipeline", BOTH)}, "the stage model0 of the pipeline is missing"),
        (
            {
                "coremldata.bin": generic("pipeline", BOTH, storage="generic.model0v1.0.0spec.model1v1.0.0spec"),
                "model0/coremldata.bin": whole("identity", BOTH),
            },
            "the stage model1 of the pipeline is missing",
        ),
        ({"coremldata.bin": generic("serializedModel", BOTH)}, "only Core ML itself can open it"),
    ],
)
def test_bad_input(tmp_path: Path, files: Files, sentence: str) -> None:
    with pytest.raises(ReadError, match=sentence):
        read(made(tmp_path / "m.mlmodelc", files))


def test_pipelines_within_pipelines_have_an_end(tmp_path: Path) -> None:
    folder = tmp_path / "m.mlmodelc"
    for _ in range(40):
        made(folder, {"coremldata.bin": generic("pipeline", BOTH)})
        folder = folder / "model0"
    with pytest.raises(ReadError, match="pipelines lie in each other more than 8 deep"):
        read(tmp_path / "m.mlmodelc")


@pytest.mark.parametrize("cut", range(0, 90, 7))
def test_a_description_cut_anywhere(tmp_path: Path, cut: int) -> None:
    data = whole("treeEnsembleRegressor", description({"x": DOUBLE}, {"y": DOUBLE}))[:cut]
    path = made(tmp_path / "m.mlmodelc", {"coremldata.bin": data})
    with pytest.raises(ReadError, match="no model description was found in it"):
        read(path)


def index(shared: Path) -> Iterator[dict[str, Any]]:
    for line in (shared / "models" / "INDEX.jsonl").read_text(encoding="utf-8").splitlines():
        yield json.loads(line)


def opened(shared: Path, slug: str) -> Model:
    (path,) = (shared / "models" / slug).iterdir()
    return read(path)


def test_every_real_compiled_model_is_read(shared: Path) -> None:
    count = 0
    for row in index(shared):
        if row["container"] == "mlmodelc":
            model = opened(shared, row["slug"])
            assert model.format == "mlmodelc"
            assert list(model.operations()) or [work for _, leaf in model.walk_stages() for work in leaf.host_work]
            count += 1
    assert count >= 20


def test_every_real_description_is_laid_out_as_we_think(shared: Path) -> None:
    count = 0
    for path in sorted((shared / "models").rglob("*.mlmodelc/**/coremldata.bin")):
        if path.parent.name in ("model", "analytics", "neural_network_optionals"):
            continue
        found = describe(open_source(path.parent))
        assert found.kind, path
        assert 1 <= found.spec_version <= 10, path
        count += 1
    assert count >= 20


def described(operation: Operation) -> tuple[object, ...]:
    def known(value: Value) -> object:
        if value.const is None:
            return value.name
        if value.const.blob is not None:
            return str(value.type)
        return (str(value.type), value.const.values())

    return (
        operation.type,
        operation.name,
        operation.opset,
        [(value.name, str(value.type)) for value in operation.outputs],
        {argument: [known(value) for value in bound] for argument, bound in operation.inputs.items()},
    )


def test_both_containers_of_a_model_give_the_same_operations(shared: Path) -> None:
    """Core ML's compiler folds nothing here: pairs of one source commit agree operation by operation, in order."""
    rows = {row["slug"]: row for row in index(shared)}
    pairs = [
        (slug, other)
        for slug, row in rows.items()
        if row["container"] == "mlmodelc"
        for other in row.get("pair_of") or ()
        if rows[other]["source"]["commit"] == row["source"]["commit"]
    ]
    assert len(pairs) >= 8
    for slug, other in pairs:
        ours, theirs = opened(shared, slug), opened(shared, other)
        assert ours.histogram() == theirs.histogram(), slug
        assert ours.inputs == theirs.inputs, slug
        assert ours.outputs == theirs.outputs, slug
        for mine, original in zip(ours.operations(), theirs.operations(), strict=True):
            assert described(mine) == described(original), slug

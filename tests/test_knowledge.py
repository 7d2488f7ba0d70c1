"""The knowledge tables: whole, unambiguous, sourced, and never against what Core ML itself answered."""

from __future__ import annotations

import ast
import csv
from collections import defaultdict
from itertools import combinations
from pathlib import Path

import pytest

from anecompat import knowledge
from anecompat.findings import Certainty
from anecompat.ir import Unknown
from anecompat.knowledge import spans
from anecompat.targets import chips, default_targets, parse_targets

ALL_ENGINES = [f"H{number}" for number in range(11, 19)]
RELEASES = [(15, 8), (16, 7), (17, 5), (18, 7), (26, 6), (27, 0)]


# --- Whole ------------------------------------------------------------------------------------------------------------


def test_every_operation_of_coremltools_has_an_entry() -> None:
    registry = pytest.importorskip("coremltools.converters.mil.mil.ops.registry").SSAOpRegistry
    registered = set(registry.core_ops)
    assert len(registered) == 168
    assert registered - set(knowledge.operations()) == set()


def test_every_layer_kind_of_the_format_has_an_entry() -> None:
    proto = pytest.importorskip("coremltools.proto.NeuralNetwork_pb2")
    kinds = {field.name for field in proto.NeuralNetworkLayer.DESCRIPTOR.oneofs_by_name["layer"].fields}
    assert len(kinds) == 158
    assert set(knowledge.layers()) == kinds


@pytest.mark.parametrize("kind", knowledge.layers())
def test_every_layer_is_answered_on_every_engine(kind: str) -> None:
    """Answered, or handed to the operation that its parameters make of it."""
    for engine in ALL_ENGINES:
        for release in [(12, 5), (14, 8), *RELEASES]:
            if knowledge.layer(kind, engine, release) is None:
                parts = [knowledge.layer(kind, engine, release, name) for name in knowledge.carriers(kind)]
                assert len(parts) > 1
                assert None not in parts


def test_carriers_are_operations_of_the_table() -> None:
    named = {name for kind in knowledge.layers() for name in knowledge.carriers(kind)}
    assert named <= set(knowledge.operations())


# --- Unambiguous and sourced ------------------------------------------------------------------------------------------


def _all_entries() -> list[tuple[str, tuple[knowledge.Support, ...] | tuple[knowledge.Limit, ...]]]:
    entries: list[tuple[str, tuple[knowledge.Support, ...] | tuple[knowledge.Limit, ...]]] = []
    entries += [(f"operation {name}", knowledge.verdicts(name)) for name in knowledge.operations()]
    entries += [(f"layer {kind}", knowledge.layer_verdicts(kind)) for kind in knowledge.layers()]
    entries += [(f"limit {name}", knowledge.limit_verdicts(name)) for name in knowledge.limits()]
    entries += [(f"type {entry.name} ({entry.role})", entry.verdicts) for entry in knowledge.dtypes()]
    return entries


def test_overlapping_scopes_lie_one_inside_the_other() -> None:
    ambiguous = [
        f"{name}: {one.span} and {other.span}"
        for name, entries in _all_entries()
        for one, other in combinations(entries, 2)
        if one.span.overlaps(other.span) and one.span.contains(other.span) == other.span.contains(one.span)
    ]
    assert ambiguous == []


def test_every_source_resolves_and_every_one_is_used() -> None:
    cited = {key for _, entries in _all_entries() for entry in entries for key in entry.sources}
    cited |= {key for message in knowledge.messages() for key in message.sources}
    cited |= {key for chip in chips() for key in chip.sources}
    assert cited - set(knowledge.sources()) == set()
    rules = "".join(path.read_text() for path in Path(knowledge.__file__).parents[1].rglob("*.py"))
    costs = (Path(knowledge.__file__).parent / "costs.toml").read_text()
    unused = {key for key in set(knowledge.sources()) - cited if f'"{key}"' not in rules + costs}
    assert unused == set()


def test_every_source_that_a_rule_cites_exists() -> None:
    cited = set()
    for path in (Path(knowledge.__file__).parents[1] / "rules").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Reason":
                named = [*node.args[2:3], *(word.value for word in node.keywords if word.arg == "sources")]
                parts = [part for argument in named for part in ast.walk(argument)]
                cited |= {part.value for part in parts if isinstance(part, ast.Constant) and part.value != ""}
    assert len(cited) > 10
    assert cited - set(knowledge.sources()) == set()


def test_every_entry_is_sourced_and_speaks() -> None:
    for name, entries in _all_entries():
        for entry in entries:
            assert entry.sources, name
            assert isinstance(entry.certainty, Certainty), name
            if isinstance(entry, knowledge.Support):
                assert entry.status in ("yes", "no", "conditional", "unknown"), name
                assert entry.status != "conditional" or entry.condition, f"{name}: a condition without words"
                assert len(entry.condition) <= 120, f"{name}: {entry.condition}"
                assert len(entry.conflict) <= 120, f"{name}: {entry.conflict}"
                assert not entry.condition.endswith("."), name


def test_measured_entries_stand_for_what_was_measured() -> None:
    """ "Measured" is kept for one or two engines and one major release on, never for a sweep of generations."""
    for name, entries in _all_entries():
        for entry in entries:
            if entry.certainty is Certainty.MEASURED and isinstance(entry, knowledge.Support):
                kinds = {knowledge.source(key).kind for key in entry.sources}
                assert "measured" in kinds, f"{name}: {entry.sources}"
                assert entry.span.last - entry.span.first <= 1, f"{name}: {entry.span}"


def test_sources_say_who_when_and_under_what_licence() -> None:
    for source in knowledge.sources().values():
        assert source.kind in ("measured", "executed", "maker", "tables", "notes"), source.key
        assert source.title, source.key
        assert source.where, source.key
        assert source.date, source.key
        assert source.licence, source.key


# --- What it says -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "engine", "release", "status", "certainty"),
    [
        ("conv", "H16", (27, 0), "yes", "measured"),
        ("conv", "H16", (27, 0, 1), "yes", "measured"),
        ("conv", "H13", (17, 5), "yes", "measured"),
        ("conv", "H15", (18, 7), "yes", "inferred"),
        ("conv", "H12", (18, 7), "unknown", "inferred"),
        ("cumsum", "H16", (27, 0), "no", "measured"),
        ("cumsum", "H13", (16, 7), "no", "reported"),
        ("cumsum", "H12", (18, 7), "no", "inferred"),
        ("sin", "H14", (26, 5), "no", "measured"),
        ("sin", "H13", (17, 5), "no", "inferred"),
        ("sin", "H16", (27, 0), "yes", "measured"),
        ("sin", "H15", (26, 6), "yes", "inferred"),
        ("logical_and", "H16", (26, 3), "no", "reported"),
        ("logical_and", "H16", (27, 0), "yes", "measured"),
        ("logical_or", "H16", (27, 0), "unknown", "inferred"),
        ("resample", "H14", (17, 6), "yes", "reported"),
        ("resample", "H14", (18, 0), "unknown", "reported"),
        ("resample", "H13", (27, 0), "no", "inferred"),
        ("gather", "H13", (17, 5), "no", "reported"),
        ("gather", "H13", (27, 0), "unknown", "inferred"),
        ("gather", "H16", (27, 0), "conditional", "measured"),
        ("reduce_argmax", "H16", (27, 0), "conditional", "measured"),
        ("floor", "H13", (16, 7), "unknown", "reported"),
        ("floor", "H13", (17, 5), "yes", "inferred"),
        ("lstm", "H18", (26, 1), "no", "documented"),
        ("while_loop", "H18", (27, 0), "no", "reported"),
        ("read_state", "H15", (26, 1), "yes", "reported"),
        ("read_state", "H13", (18, 7), "unknown", "inferred"),
        ("nobody_knows_this", "H16", (27, 0), "unknown", "inferred"),
    ],
)
def test_support(operation: str, engine: str, release: tuple[int, ...], status: str, certainty: str) -> None:
    answer = knowledge.support(operation, engine, release)
    assert (answer.status, answer.certainty) == (status, certainty)


@pytest.mark.parametrize(
    ("kind", "operation", "engine", "release", "status", "certainty"),
    [
        ("convolution", "conv", "H11", (12, 5), "yes", "reported"),
        ("convolution", "conv", "H13", (16, 7), "yes", "reported"),
        ("convolution", "conv", "H13", (14, 7), "yes", "inferred"),
        ("convolution", "conv", "H16", (27, 0), "yes", "inferred"),
        ("floor", "floor", "H13", (15, 7), "no", "reported"),
        ("floor", "floor", "H13", (27, 0), "unknown", "inferred"),
        ("floor", "floor", "H16", (27, 0), "yes", "inferred"),
        ("split", "split", "H13", (16, 7), "no", "reported"),
        ("addBroadcastable", "add", "H12", (13, 7), "no", "reported"),
        ("addBroadcastable", "add", "H13", (16, 7), "yes", "reported"),
        ("gru", "gru", "H12", (13, 7), "no", "documented"),
        ("custom", "custom", "H18", (27, 0), "no", "documented"),
        ("reduce", "reduce_sum", "H14", (18, 0), "yes", "inferred"),
        ("reduce", "reduce_prod", "H14", (18, 0), "no", "inferred"),
        ("activation", "relu", "H17", (26, 0), "yes", "inferred"),
        ("cumSum", "cumsum", "H14", (26, 0), "no", "inferred"),
        ("argMax", "reduce_argmax", "H13", (16, 7), "no", "reported"),
        ("sin", "sin", "H14", (26, 0), "no", "inferred"),
    ],
)
def test_layer(kind: str, operation: str, engine: str, release: tuple[int, ...], status: str, certainty: str) -> None:
    answer = knowledge.layer(kind, engine, release, operation)
    assert answer is not None
    assert (answer.status, answer.certainty) == (status, certainty)


def test_an_unknown_layer_has_no_answer() -> None:
    assert knowledge.layer("layerOfTheFuture", "H16", (27, 0)) is None


def test_a_layer_with_several_meanings_waits_for_its_operation() -> None:
    assert knowledge.layer("reduce", "H16", (27, 0)) is None


@pytest.mark.parametrize(
    ("name", "engine", "release", "value", "certainty"),
    [
        ("tensor_width", "H16", (27, 0), 65536, "measured"),
        ("tensor_width", "H17", (26, 6), 65536, "inferred"),
        ("tensor_width", "H13", (17, 5), 16384, "reported"),
        ("tensor_width", "H15", (27, 0), 16384, "inferred"),
        ("tensor_channels", "H14", (18, 0), 65536, "reported"),
        ("tensor_batch", "H12", (18, 0), 4096, "inferred"),
        ("conv_kernel_width", "H16", (27, 0), 15, "measured"),
        ("conv_kernel_width", "H13", (17, 5), 13, "reported"),
        ("max_pool_width", "H16", (27, 0), 8, "measured"),
        ("matmul_inner", "H16", (27, 0), 32768, "measured"),
        ("slice_overflow", "H13", (17, 5), 4094, "measured"),
    ],
)
def test_limit(name: str, engine: str, release: tuple[int, ...], value: int, certainty: str) -> None:
    limit = knowledge.limit(name, engine, release)
    assert (limit.value, limit.certainty) == (value, certainty)


def test_a_limit_nobody_gives_is_unknown() -> None:
    with pytest.raises(Unknown, match=r"^no source gives this limit for H16 on macOS 27\.0 / iOS 27\.0: values above"):
        knowledge.limit("slice_overflow", "H16", (27, 0))


def test_a_limit_that_does_not_exist_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(KeyError):
        knowledge.limit("tensor_colour", "H16", (27, 0))


@pytest.mark.parametrize(
    ("name", "role", "engine", "release", "status"),
    [
        ("fp32", "border", "H13", (17, 5), "no"),
        ("fp32", "border", "H14", (26, 5), "yes"),
        ("fp32", "border", "H14", (17, 5), "unknown"),
        ("int32", "compute", "H16", (27, 0), "no"),
        ("fp16", "compute", "H11", (13, 0), "yes"),
        ("complex64", "compute", "H16", (27, 0), "unknown"),
    ],
)
def test_dtype(name: str, role: str, engine: str, release: tuple[int, ...], status: str) -> None:
    assert knowledge.dtype(name, role, engine, release).status == status


def test_releases_in_words() -> None:
    assert knowledge.release_text((17, 5)) == "macOS 14.5 / iOS 17.5"
    assert knowledge.release_text((26, 6)) == "macOS 26.6 / iOS 26.6"
    assert knowledge.release_text((12, 5)) == "iOS 12.5"


def test_the_digest_names_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = knowledge.digest()
    folder = tmp_path / "knowledge"
    folder.mkdir()
    for table in Path(knowledge.__file__).parent.glob("*.toml"):
        (folder / table.name).write_bytes(table.read_bytes())
    monkeypatch.setattr(knowledge, "files", lambda package: tmp_path)
    knowledge.digest.cache_clear()
    same = knowledge.digest()
    (folder / "limits.toml").write_text("# changed\n")
    knowledge.digest.cache_clear()
    changed = knowledge.digest()
    knowledge.digest.cache_clear()
    assert before == same
    assert same != changed


def test_messages_have_states_and_words() -> None:
    by_text = {message.text: message for message in knowledge.messages()}
    assert by_text['Unsupported MIL operation "<operation>".'].code == 400
    assert by_text["Output type <type> is not supported."].code == 220
    assert by_text["Unsupported gather index type"].code == -1
    assert len(by_text) == len(knowledge.messages())
    assert all(message.seen for message in knowledge.messages() if message.code == -1)


# --- Scopes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "H16", "27+", "H16 27-", "H18-H13 15+", "H16 27-26", "M1 15+", "H16 27 +"])
def test_a_scope_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="scope"):
        spans.parse(text)


@pytest.mark.parametrize(
    ("text", "engine", "release", "holds"),
    [
        ("H16 27", 16, (27, 0, 1), True),
        ("H16 27", 16, (28, 0), False),
        ("H16 27+", 16, (28, 0), True),
        ("H16 27+", 16, (26, 9), False),
        ("H13-H14 15-16", 14, (16, 7), True),
        ("H13-H14 15-16", 14, (17, 0), False),
        ("H13-H14 15-16", 15, (16, 7), False),
        ("H13 17.5-17", 13, (17, 4), False),
        ("H13 17.5-17", 13, (17, 5), True),
    ],
)
def test_where_a_scope_holds(text: str, engine: int, release: tuple[int, ...], holds: bool) -> None:
    assert spans.parse(text).holds(engine, release) is holds


# --- Against what Core ML answered ------------------------------------------------------------------------------------


def test_the_m4_study_is_never_contradicted(shared: Path) -> None:
    """An operation every row refuses is "no" or "conditional"; one every row accepts is never "no"."""
    accepted: dict[str, set[bool]] = defaultdict(set)
    with (shared / "truth" / "m4_dispatch" / "truth.csv").open() as rows:
        for row in csv.DictReader(rows):
            if row["op_type"] and row["compute_units"] == "cpuAndNE":
                accepted[row["op_type"].split(".")[-1]].add("ANE" in row["supported"])
    assert len(accepted) > 120
    target = parse_targets(["m4@macos27.0.1"])[0]
    statuses = {name: knowledge.support(name, target.engine, target.system.release).status for name in accepted}
    wrong = [
        (name, status, accepted[name])
        for name, status in statuses.items()
        if status not in {True: ("yes", "conditional"), False: ("no", "conditional")}[max(accepted[name])]
    ]
    assert wrong == []


def test_real_models_are_never_contradicted(shared: Path) -> None:
    """What Core ML listed for the engine on M1, M4 Pro and M5 Max is not called refused or unknown."""
    systems = {
        "M1 (H13G)": "m1@macos14.5",
        "M4 Pro (Mac16,11)": "m4pro@macos26.5.1",
        "M5 Max (Mac17,7)": "m5max@macos26.6",
    }
    answers: dict[tuple[str, str], str] = {}
    with (shared / "truth" / "real_models" / "truth.csv").open() as rows:
        for row in csv.DictReader(rows):
            if row["chip"] in systems and "ANE" in row["supported"]:
                target = parse_targets([systems[row["chip"]]])[0]
                name = (row["operator"] or row["package_type"]).split(".")[-1]
                answers[row["chip"], name] = knowledge.support(name, target.engine, target.system.release).status
    assert len(answers) > 30
    assert {key: status for key, status in answers.items() if status not in ("yes", "conditional")} == {}


def test_default_targets_are_answered() -> None:
    """Every chip from H13 on can be told about the plain operations of an image network."""
    for target in default_targets():
        if target.engine not in ("H11", "H12"):
            for name in ("conv", "relu", "add", "concat", "softmax", "matmul", "reshape", "transpose"):
                assert knowledge.support(name, target.engine, target.system.release).status == "yes", (target, name)

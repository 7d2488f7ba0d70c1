"""Every rule: its page, the example on its page, and its border, with exactly the findings said there, no more.

A case is a program in MIL text and, for each target, the findings as ``"RULE effect operations"``. Each rule has a case
on both sides of its border.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import anecompat.rules
from anecompat import knowledge
from anecompat.checking import check_model
from anecompat.findings import Certainty, Effect, Status, Verdict
from anecompat.ir import UNDESCRIBED, Feature, HostWork, Model, number
from anecompat.readers.mil_text import parse_model
from anecompat.rules import Rule, all_rules, find
from anecompat.targets import parse_targets
from neural_networks import describe, lowered, network

IDS = [rule.id for rule in all_rules()]
EXAMPLES = [rule for rule in all_rules() if "Example" in rule.sections]
SHAPES = "tensor<fp16, [1, 8, 4, 4]> x"


def verdict(model: Model, target: str) -> Verdict:
    return check_model(model, parse_targets([target])).targets[0].verdict


def said(found: Verdict) -> set[str]:
    """The findings as the tables below write them."""
    rows = [f"{f.rule} {f.effect.value} {','.join(map(str, f.operations))}".rstrip() for f in found.findings]
    assert len(rows) == len(set(rows)), rows
    return set(rows)


def too_old(model: Model, target: str) -> set[str]:
    """Said of every program whose opset came after the target's system: the tables below leave it out."""
    (asked,) = parse_targets([target])
    needed = int(model.functions[0].opset.removeprefix("ios"))
    return {"ANE504 blocks"} if needed > asked.system.release[0] else set()


def program(inputs: str, body: str, opset: str = "ios18") -> str:
    return f"func main<{opset}>({inputs}) {{\n{body}\n}} -> (out);\n"


def blob(name: str, type: str) -> str:
    return (
        f'{type} {name} = const()[val = {type}(BLOBFILE(path = string("@model_path/weights/weight.bin"), '
        "offset = uint64(64)))];\n"
    )


def integers(*values: int) -> str:
    return f"tensor<int32, [{len(values)}]>([{', '.join(map(str, values))}])"


# ---- the pages ----


@pytest.mark.parametrize("id", IDS)
def test_the_page_of_a_rule(id: str) -> None:
    rule = find(id)
    assert isinstance(rule, Rule)
    assert re.fullmatch(r"ANE\d{3}", rule.id)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", rule.name)
    assert rule.title.endswith((".", ";")) and rule.title[0].isupper()  # noqa: PT018
    headings = [heading for heading in ("Why it matters", "What to change", "Example") if heading in rule.sections]
    assert list(rule.sections) == headings
    assert headings[:2] == ["Why it matters", "What to change"]
    assert all(len(rule.sections[heading]) >= len("Nothing.") for heading in headings)
    assert rule.fix
    assert "``" in rule.fix or rule.fix[0].isupper()


def test_ids_and_names_are_unique_and_found_in_any_case() -> None:
    assert len({rule.name for rule in all_rules()}) == len(all_rules())
    for rule in all_rules():
        assert find(rule.id.lower()) is rule
        assert find(rule.name.upper()) is rule
    assert find("ANE000") is None


def test_rules_look_at_operations_that_exist() -> None:
    known = set(knowledge.operations())
    for rule in all_rules():
        assert set(rule.operations) <= known, rule.id


def _named_sources() -> Iterator[tuple[str, str]]:
    """Every name in a tuple of names that a rule hands to a Reason, with the file it stands in."""
    for path in sorted(Path(anecompat.rules.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Reason":
                for argument in [*node.args[2:3], *(word.value for word in node.keywords if word.arg == "sources")]:
                    for name in ast.walk(argument):
                        if isinstance(name, ast.Constant) and isinstance(name.value, str):
                            yield path.name, name.value


def test_the_sources_of_reasons_resolve() -> None:
    named = list(_named_sources())
    assert len(named) > 50
    for file, name in named:
        assert name in knowledge.sources(), f"{file} cites {name}"


# ---- the examples on the pages ----

# What each page's example gives: everything said of it, by target.
ON_EVERY_TARGET = ("M1@macos12", "M1@macos14.5", "M2@macos26", "M4@macos27", "A17 Pro@ios18")
EXAMPLE_FINDINGS: dict[str, dict[str, set[str]]] = {
    "ANE101": {"*": {"ANE101 refused 0"}},
    "ANE102": {"*": {"ANE102 unknown 0"}},
    "ANE105": {"*": {"ANE105 unknown 0"}},
    "ANE201": {"*": {"ANE201 refused 0,1"}},
    "ANE202": {"*": {"ANE202 refused 0"}},
    "ANE203": {
        "M1@macos12": set(),
        "M1@macos13": set(),
        "M1@macos14.5": {"ANE203 refused 0"},
        "A14@ios17": {"ANE203 refused 0"},
        "A15@ios17": {"ANE203 unknown 0"},
        "M1@macos15": {"ANE203 unknown 0"},
        "M1@macos26": {"ANE203 unknown 0"},
        "M2@macos15": {"ANE203 unknown 0"},
        "M2@macos26": set(),
        "M4@macos15": {"ANE203 unknown 0"},
        "M4@macos27": set(),
        "M5@macos26": set(),
    },
    "ANE204": {"*": {"ANE204 refused 1"}},
    "ANE205": {"*": {"ANE205 unknown 1"}},
    "ANE211": {
        "M1@macos14.5": {"ANE101 refused 0", "ANE211 refused 0"},
        "M2@macos26": {"ANE211 refused 0"},
        "M4@macos27": {"ANE211 refused 0"},
    },
    "ANE213": {"*": {"ANE201 refused 0", "ANE213 refused 0"}},
    "ANE214": {"*": {"ANE214 refused 0"}},
    "ANE215": {
        "M1@macos14.5": {"ANE215 unknown 0"},
        "M2@macos26": set(),
        "M4@macos27": set(),
    },
    "ANE217": {"*": {"ANE217 refused 0"}},
    "ANE301": {"M1@macos14.5": {"ANE301 refused 0"}, "M4@macos27": {"ANE301 refused 0"}},
    "ANE302": {"*": {"ANE302 refused 0"}},
    "ANE303": {"*": {"ANE303 refused 0,1"}},
    "ANE304": {"M1@macos14.5": {"ANE304 unknown 0"}, "M4@macos27": {"ANE304 refused 0"}},
    "ANE305": {
        "M1@macos14.5": {"ANE302 refused 0", "ANE305 refused 0"},
        "M4@macos27": {"ANE305 refused 0"},
    },
    "ANE218": {
        "M4@macos27": set(),
        "M4@macos26": {"ANE218 unknown 0"},
        "M5@macos27": {"ANE218 unknown 0"},
    },
    "ANE307": {
        "M2@macos26": {"ANE307 refused 0"},
        "M1@macos14.5": {"ANE307 unknown 0", "ANE601 risk 0"},
        "M4@macos27": {"ANE307 unknown 0", "ANE601 risk 0"},
    },
    "ANE310": {"*": {"ANE310 refused 0"}},
    "ANE312": {
        "M1@macos14.5": {"ANE312 unknown 0", "ANE601 risk 0"},
        "M1@macos27": {"ANE312 unknown 0", "ANE601 risk 0"},
        "M4@macos26": {"ANE312 unknown 0", "ANE601 risk 0"},
        "M4@macos27": {"ANE601 risk 0"},
    },
    "ANE401": {"*": {"ANE401 unknown 0"}},
    "ANE901": {"*": {"ANE901 refused 1,2", "ANE101 refused 0", "ANE110 note 2"}},
}


def example(rule: Rule) -> Model:
    (text,) = re.findall(r"```mil\n(.*?)```", rule.sections["Example"], re.DOTALL)
    return parse_model(text, rule.id)


def test_every_example_is_judged() -> None:
    assert set(EXAMPLE_FINDINGS) == {rule.id for rule in EXAMPLES}


def _example_rows() -> Iterator[tuple[str, str, set[str]]]:
    for id, by_target in EXAMPLE_FINDINGS.items():
        for target, findings in by_target.items():
            for each in ON_EVERY_TARGET if target == "*" else (target,):
                yield id, each, findings


@pytest.mark.parametrize(("id", "target", "findings"), [*_example_rows()])
def test_an_example_yields_its_finding(id: str, target: str, findings: set[str]) -> None:
    rule = find(id)
    assert rule is not None
    model = example(rule)
    assert said(verdict(model, target)) == findings | too_old(model, target)


# ---- the borders ----


@dataclass(frozen=True)
class Case:
    name: str
    text: str
    findings: dict[str, set[str]]


M4, M1, M2, M3 = "M4@macos27", "M1@macos14.5", "M2@macos26", "M3@macos26"
PRODUCT = "ANE601 risk 0"  # said of every product of more than one tap


def conv(height: int, width: int, **more: object) -> str:
    """A convolution over (1, 16, 64, 64) with SAME padding, or over another ``x``."""
    groups, made = int(str(more.get("groups", 1))), int(str(more.get("made", 16)))
    x = more.get("x", "1, 16, 64, 64")
    taken = int(str(x).split(",")[1]) // groups
    out = more.get("out", f"1, {made}, {', '.join(str(x).split(', ')[2:])}")
    kernel = f"{height}, {width}" if str(x).count(",") == 3 else str(width)
    rest = "".join(f", {name} = {more[name]}" for name in ("strides", "dilations") if name in more)
    return program(
        f"tensor<fp16, [{x}]> x",
        blob("w", f"tensor<fp16, [{made}, {taken}, {kernel}]>")
        + f'tensor<fp16, [{out}]> out = conv(x = x, weight = w, pad_type = string("same"), '
        f"groups = int32({groups}){rest});",
    )


def conv_transpose(height: int, width: int, stride: int, dilation: int = 1) -> str:
    return program(
        "tensor<fp16, [1, 16, 32, 32]> x",
        blob("w", f"tensor<fp16, [16, 16, {height}, {width}]>")
        + f"tensor<fp16, [1, 16, {32 * stride}, {32 * stride}]> out = conv_transpose(x = x, weight = w, "
        f'pad_type = string("same"), strides = {integers(stride, stride)}, '
        f"dilations = {integers(dilation, dilation)});",
    )


def pool(kind: str, height: int, width: int, x: str = "1, 8, 64, 64", out: str = "1, 8, 64, 64") -> str:
    more = ", exclude_padding_from_average = bool(false)" if kind == "avg_pool" else ""
    return program(
        f"tensor<fp16, [{x}]> x",
        f"tensor<fp16, [{out}]> out = {kind}(x = x, kernel_sizes = {integers(height, width)}, "
        f'strides = {integers(1, 1)}, pad_type = string("same"), pad = {integers(0, 0, 0, 0)}{more});',
    )


def relu(shape: str, type: str = "fp16") -> str:
    return program(f"tensor<{type}, [{shape}]> x", f"tensor<{type}, [{shape}]> out = relu(x = x);")


def matmul(inner: int, *, transposed: bool = False) -> str:
    x = f"1, {inner}, 16" if transposed else f"1, 16, {inner}"
    return program(
        f"tensor<fp16, [{x}]> x, tensor<fp16, [1, {inner}, 16]> y",
        f"tensor<fp16, [1, 16, 16]> out = matmul(x = x, y = y, transpose_x = bool({str(transposed).lower()}), "
        "transpose_y = bool(false));",
    )


def linear(shape: str, out: str, inner: int, made: int) -> str:
    return program(
        f"tensor<fp16, [{shape}]> x",
        blob("w", f"tensor<fp16, [{made}, {inner}]>") + f"tensor<fp16, [{out}]> out = linear(x = x, weight = w);",
    )


def unary(inputs: str, line: str, opset: str = "ios18") -> str:
    return program(inputs, line, opset)


def gather(type: str) -> str:
    return unary(
        f"tensor<fp16, [1000, 64]> table, tensor<{type}, [1, 8]> ids",
        "tensor<fp16, [1, 8, 64]> out = gather(x = table, indices = ids, axis = int32(0));",
    )


def gather_constant(type: str) -> str:
    return unary(
        "tensor<fp16, [1000, 64]> table",
        f"tensor<fp16, [2, 64]> out = gather(x = table, indices = tensor<{type}, [2]>([1, 2]), axis = int32(0));",
    )


def cast(source: str, target: str) -> str:
    return unary(
        f"tensor<{source}, [1, 8, 4, 4]> x",
        f'tensor<{target}, [1, 8, 4, 4]> out = cast(x = x, dtype = string("{target}"));',
    )


def to_batch(down: int, across: int) -> str:
    return program(
        "tensor<fp16, [1, 8, 30, 30]> x",
        f"tensor<fp16, [{down * across}, 8, {30 // down}, {30 // across}]> out = space_to_batch(x = x, block_shape = "
        f"{integers(down, across)}, paddings = tensor<int32, [2, 2]>([[0, 0], [0, 0]]));",
    )


def shuffle(factor: int) -> str:
    side = 4 * factor
    return unary(
        f"tensor<fp16, [1, {8 * factor * factor}, 4, 4]> x",
        f"tensor<fp16, [1, 8, {side}, {side}]> out = pixel_shuffle(x = x, upscale_factor = int32({factor}));",
    )


def padded(mode: str, *amounts: int, value: str = "0") -> str:
    out = [1, 8, 4, 4]
    for place, amount in enumerate(amounts):
        out[len(out) - len(amounts) // 2 + place // 2] += amount
    return unary(
        SHAPES,
        f"tensor<fp16, {out}> out = pad(x = x, pad = {integers(*amounts)}, mode = "
        f'string("{mode}"), constant_val = fp16({value}));',
    )


def sliced(begin: tuple[int, ...], end: tuple[int, ...], stride: tuple[int, ...], out: str) -> str:
    return unary(
        SHAPES,
        f"tensor<fp16, [{out}]> out = slice_by_index(x = x, begin = {integers(*begin)}, end = {integers(*end)}, "
        f"stride = {integers(*stride)});",
    )


def masked(operation: str) -> str:
    return program(
        SHAPES,
        "tensor<bool, [1, 8, 4, 4]> a = greater(x = x, y = fp16(0));\n"
        f"tensor<bool, [1, 8, 4, 4]> b = {operation};\n"
        'tensor<fp16, [1, 8, 4, 4]> out = cast(x = b, dtype = string("fp16"));',
    )


def states(*widths: int) -> str:
    inputs = "".join(f", state<tensor<fp16, [1, 8, 4, {width}]>> s{n}" for n, width in enumerate(widths))
    body = "".join(
        f"tensor<fp16, [1, 8, 4, {width}]> r{n} = read_state(input = s{n});\n" for n, width in enumerate(widths)
    )
    return program(SHAPES + inputs, body + "tensor<fp16, [1, 8, 4, 4]> out = relu(x = x);")


def updated(base: str) -> str:
    """A row written into an input or into what was read from a state."""
    read = "tensor<fp16, [1, 8, 4, 32]> x = read_state(input = s);\n" if base == "state" else ""
    source = "state<tensor<fp16, [1, 8, 4, 32]>> s" if base == "state" else "tensor<fp16, [1, 8, 4, 32]> x"
    return program(
        f"{source}, tensor<fp16, [1, 8, 1, 32]> row",
        f"{read}tensor<fp16, [1, 8, 4, 32]> out = slice_update(x = x, update = row, begin = {integers(0, 0, 1, 0)}, "
        f"end = {integers(1, 8, 2, 32)});",
    )


def cut_by(size: str) -> str:
    extra = ", tensor<int32, [4]> begin" if size == "computed" else ""
    begin = "begin" if size == "computed" else integers(0, 0, 0, 0)
    return unary(
        f"tensor<fp16, [1, 8, 4, 4]> x{extra}",
        f"tensor<fp16, [1, 4, 2, 2]> out = slice_by_size(x = x, begin = {begin}, size = {integers(1, 4, 2, 2)});",
    )


def crop_resize(type: str) -> str:
    boxes = f"{type}(0)"
    return unary(
        "tensor<fp16, [1, 8, 32, 32]> x, tensor<fp16, [1, 4]> boxes",
        f"tensor<fp16, [1, 8, 8, 8]> out = crop_resize(x = x, boxes = boxes, box_indices = tensor<{type}, [1]>([0]), "
        f"target_height = int32(8), target_width = int32(8), spatial_scale = fp16(1));",
    ).replace(boxes, boxes)


def resized(before: int, after: int) -> str:
    return unary(
        f"tensor<fp16, [1, 8, {before}, {before}]> x",
        f"tensor<fp16, [1, 8, {after}, {after}]> out = resize_bilinear(x = x, target_size_height = int32({after}), "
        f'target_size_width = int32({after}), sampling_mode = string("STRICT_ALIGN_CORNERS"));',
    )


def topk(length: int) -> str:
    return program(
        f"tensor<fp16, [1, {length}]> x",
        "tensor<fp16, [1, 4]> out, tensor<uint16, [1, 4]> at = topk(x = x, k = int32(4), axis = int32(-1), "
        "ascending = bool(false), sort = bool(true), return_indices = bool(true), output_indices_dtype = "
        'string("uint16"));',
    )


def nowhere(*targets: str) -> dict[str, set[str]]:
    return {target: set() for target in targets or (M4, M2, M1)}


def only(*findings: str, targets: tuple[str, ...] = (M4, M2, M1)) -> dict[str, set[str]]:
    return {target: set(findings) for target in targets}


# Only on M2 was a dilation without the engine's step factors seen to leave the engine.
DILATED = {M2: {"ANE307 refused 0"}, **only(PRODUCT, "ANE307 unknown 0", targets=(M4, M1))}

CASES = [
    # ANE301: 15 columns and 31 rows are the largest accepted on M4; older engines are told apart by less.
    Case("kernel 31x15", conv(31, 15), {M4: {PRODUCT}, M2: {PRODUCT, "ANE301 unknown 0"}}),
    Case("kernel 13 wide", conv(1, 13), only(PRODUCT)),
    Case("kernel 14 wide", conv(1, 14), {M4: {PRODUCT}, M2: {"ANE301 unknown 0", PRODUCT}}),
    Case("kernel 1x16", conv(1, 16), {M4: {"ANE301 refused 0"}, M1: {PRODUCT, "ANE301 unknown 0"}}),
    Case("kernel 31x1", conv(31, 1), {M4: {PRODUCT}, M2: {PRODUCT}, M1: {PRODUCT, "ANE301 unknown 0"}}),
    Case("kernel 32x1", conv(32, 1), {M4: {"ANE301 refused 0"}, M2: {"ANE301 unknown 0", PRODUCT}}),
    Case("kernel 33x1", conv(33, 1), only("ANE301 refused 0")),
    Case("kernel 16x16", conv(16, 16), {M4: {"ANE301 risk 0", PRODUCT}, M1: {"ANE301 unknown 0", PRODUCT},
                                        "A18@ios27": {"ANE301 unknown 0", PRODUCT}}),
    Case("kernel 17x17", conv(17, 17), only("ANE301 refused 0")),
    Case("kernel 24x24", conv(24, 24), {M4: {"ANE301 unknown 0", PRODUCT}}),
    Case("kernel 16x16, grouped", conv(16, 16, groups=16), {M4: {"ANE301 refused 0"}}),
    Case("kernel 16x16, strides apart", conv(16, 16, strides=integers(2, 1), out="1, 16, 32, 64"),
         {M4: {"ANE301 refused 0"}}),
    Case("kernel 1x1", conv(1, 1), nowhere()),
    Case("transposed 15x15", conv_transpose(15, 15, 2), {M4: {PRODUCT}}),
    Case("transposed 16x16, stride 8", conv_transpose(16, 16, 8), {M4: {PRODUCT}, M2: {PRODUCT}}),
    Case("transposed 16 wide, stride 1", conv_transpose(1, 16, 1), {M4: {PRODUCT, "ANE301 unknown 0"}}),
    # ANE309: strides up to 8 were seen, dilation never.
    Case("transposed, stride 9", conv_transpose(3, 3, 9), {M4: {PRODUCT, "ANE309 unknown 0"}}),
    Case("transposed, dilation 2", conv_transpose(3, 3, 2, 2), {M4: {PRODUCT, "ANE309 unknown 0"}}),
    # ANE307: a dilation without the factors 2, 3, 4, 8 whose reach passes the kernel's limit.
    Case("dilation 3, reach 31", conv(1, 11, x="1, 16, 1024", dilations=integers(3)), only(PRODUCT)),
    Case("dilation 5, reach 51", conv(1, 11, x="1, 16, 1024", dilations=integers(5)), DILATED),
    Case("dilation 5, reach 11", conv(1, 3, x="1, 16, 1024", dilations=integers(5)), only(PRODUCT)),
    Case("dilation 7, reach 15", conv(1, 3, x="1, 16, 1024", dilations=integers(7)),
         {M4: {PRODUCT}, M2: {"ANE307 refused 0"}, M1: {PRODUCT, "ANE307 unknown 0"}}),
    Case("dilation 6 = 2x3", conv(1, 11, x="1, 16, 1024", dilations=integers(6)), only(PRODUCT)),
    Case("dilation 64 = 8x8", conv(1, 11, x="1, 16, 1024", dilations=integers(64)), only(PRODUCT)),
    Case("dilation 18 = 2x3x3", conv(1, 11, x="1, 16, 1024", dilations=integers(18)),
         only(PRODUCT, "ANE307 unknown 0")),
    Case("dilation 128 = 2x8x8", conv(1, 11, x="1, 16, 1024", dilations=integers(128)),
         only(PRODUCT, "ANE307 unknown 0")),
    Case("dilations 5 tall, 18 wide", conv(9, 3, x="1, 16, 128, 128", dilations=integers(5, 18)), DILATED),
    Case("dilation 10 = 2x5", conv(1, 11, x="1, 16, 1024", dilations=integers(10)), DILATED),
    # ANE306: 65,536 groups.
    Case("65,536 groups", conv(1, 3, x="1, 65536, 1, 4", groups=65536, made=65536), {M4: {PRODUCT}}),
    Case("65,537 groups", conv(1, 3, x="1, 65537, 1, 4", groups=65537, made=65537),
         {M4: {"ANE302 refused 0", "ANE306 refused 0"}}),
    # ANE308: a one-row depthwise kernel that leaves one position.
    Case("depthwise to one position", conv(1, 3, x="1, 64, 1, 3", groups=64, made=64, out="1, 64, 1, 1"),
         only(PRODUCT, "ANE308 unknown 0")),
    Case("depthwise to two positions", conv(1, 3, x="1, 64, 1, 4", groups=64, made=64, out="1, 64, 1, 2"),
         only(PRODUCT)),
    Case("one position, not depthwise", conv(1, 3, x="1, 64, 1, 3", made=64, out="1, 64, 1, 1"), only(PRODUCT)),
    # ANE304: max pools of 1 to 8 columns or 32 on M4; average pools up to 14.
    Case("max pool 8", pool("max_pool", 3, 8), nowhere()),
    Case("max pool 9", pool("max_pool", 3, 9), {M4: {"ANE304 refused 0"}, M1: {"ANE304 unknown 0"}}),
    Case("max pool 31", pool("max_pool", 3, 31), {M4: {"ANE304 refused 0"}}),
    Case("max pool 32", pool("max_pool", 3, 32), nowhere()),
    Case("max pool 33", pool("max_pool", 3, 33), {M4: {"ANE304 refused 0"}, M1: {"ANE304 unknown 0"}}),
    Case("max pool 9 tall", pool("max_pool", 9, 1), nowhere()),
    Case("max pool 10 tall", pool("max_pool", 10, 1), only("ANE304 unknown 0")),
    Case("global max pool", pool("max_pool", 64, 64, out="1, 8, 1, 1"), only("ANE304 unknown 0")),
    Case("global max pool of 7", pool("max_pool", 7, 7, x="1, 8, 7, 7", out="1, 8, 1, 1"), nowhere()),
    Case("average pool 14", pool("avg_pool", 14, 14), nowhere()),
    Case("average pool 15", pool("avg_pool", 14, 15), only("ANE304 unknown 0")),
    Case("global average pool", pool("avg_pool", 64, 64, out="1, 8, 1, 1"), nowhere()),
    # ANE305: 32,768 fp16 values are 65,536 bytes.
    Case("matmul over 32,768", matmul(32768), {M4: {PRODUCT}}),
    Case("matmul over 32,769", matmul(32769), {M4: {"ANE305 refused 0"}}),
    Case("matmul over 32,769 rows", matmul(32769, transposed=True), {M4: {"ANE305 refused 0"}}),
    Case("linear over 32,768", linear("1, 32768", "1, 16", 32768, 16), {M4: {PRODUCT}}),
    Case("linear over 32,769", linear("1, 32769", "1, 16", 32769, 16), {M4: {PRODUCT, "ANE305 unknown 0"}}),
    # ANE310: no depth in products.
    Case("linear of rank 4", linear("1, 2, 3, 64", "1, 2, 3, 16", 64, 16), only(PRODUCT)),
    Case("linear of rank 5", linear("1, 2, 2, 3, 64", "1, 2, 2, 3, 16", 64, 16), only("ANE310 refused 0")),
    # ANE302: width and height 16,384 up to A16 and M3, 65,536 from A17 Pro and M4.
    Case("width 16,384", relu("1, 1, 1, 16384"), nowhere(M1, M2, M3, M4)),
    Case("width 16,385", relu("1, 1, 1, 16385"), only("ANE302 refused 0", targets=(M1, M2, M3)) | {M4: set()}),
    Case("height 16,385", relu("1, 1, 16385, 1"), {M1: {"ANE302 refused 0"}, "A16@ios18": {"ANE302 refused 0"},
                                                   "A17 Pro@ios18": set(), M4: set()}),
    Case("channels 65,536", relu("1, 65536, 1, 1"), nowhere(M1, M2, M4)),
    Case("channels 65,537", relu("1, 65537, 1, 1"), only("ANE302 refused 0")),
    Case("width 65,536", relu("1, 1, 1, 65536"), nowhere(M4)),
    Case("width 65,537", relu("1, 1, 1, 65537"), only("ANE302 refused 0")),
    Case("a vector of 16,385", relu("16385"), {M1: {"ANE302 refused 0"}, M4: set()}),
    Case("no element", relu("1, 0, 4, 4"), only("ANE302 refused 0")),
    Case("a wide convolution's output", conv(1, 1, x="1, 16, 1, 1", made=65537),
         {M4: {"ANE302 unknown 0"}, M2: {"ANE302 refused 0"}, M1: {"ANE302 refused 0"}}),
    # ANE303: five axes.
    Case("rank 5", relu("1, 2, 4, 4, 4"), nowhere()),
    Case("rank 6", relu("1, 2, 4, 2, 2, 4"), only("ANE303 refused 0")),
    # ANE201, ANE205, ANE211: integers.
    Case("gather by uint16", gather("uint16"), nowhere(M4)),
    Case("gather by int16", gather("int16"), {M4: {"ANE211 refused 0"}}),
    Case("gather by int8", gather("int8"), {M4: {"ANE211 refused 0"}}),
    Case("gather by int32", gather("int32"), {M4: {"ANE201 refused 0"}}),
    Case("gather by constant uint16", gather_constant("uint16"), nowhere(M4)),
    Case("gather by constant int16", gather_constant("int16"), {M4: {"ANE211 refused 0"}}),
    Case("gather by constant int32", gather_constant("int32"), {M4: {"ANE211 unknown 0"}}),
    Case("box indices uint16", crop_resize("uint16"), {M4: {"ANE212 unknown 0"}}),
    Case("box indices int32", crop_resize("int32"), {M4: {"ANE212 refused 0"}}),
    # A quantised language model failed to compile on an iPhone 17 Pro (CoreML-LLM); M4 with macOS 27 lists both.
    Case("quantised activations", unary("tensor<fp16, [1, 8]> x",
         'tensor<int8, [1, 8]> q = quantize(input = x, scale = fp16(0.1), output_dtype = string("int8"));\n'
         "tensor<fp16, [1, 8]> out = dequantize(input = q, scale = fp16(0.1));"),
         {M4: set(), "A19Pro@ios26": {"ANE102 unknown 0", "ANE102 unknown 1"}}),
    Case("cast to int32", cast("fp16", "int32"), only("ANE201 refused 0")),
    Case("cast to int16", cast("fp16", "int16"), nowhere(M4)),
    Case("axes may be int32", unary(SHAPES, f"tensor<fp16, [1, 8]> out = reduce_sum(x = x, axes = {integers(2, 3)}, "
                                    "keep_dims = bool(false));"), nowhere()),
    Case("argmax", unary("tensor<fp16, [1, 64]> x", "tensor<int32, [1]> out = reduce_argmax(x = x, axis = int32(1), "
                         "keep_dims = bool(false));"), {M4: {"ANE201 refused 0"}}),
    Case("uint16 relu", relu("1, 64", "uint16"), only("ANE205 unknown 0")),
    Case("uint16 transpose", unary("tensor<uint16, [4, 8]> x",
                                   f"tensor<uint16, [8, 4]> out = transpose(x = x, perm = {integers(1, 0)});"),
         nowhere(M4)),
    # ANE202, ANE203: fp32.
    Case("fp16 relu", relu("1, 8, 4, 4"), nowhere()),
    Case("fp32 relu", relu("1, 8, 4, 4", "fp32"), only("ANE202 refused 0")),
    Case("fp32 to fp16", cast("fp32", "fp16"), {M4: set(), M2: set(), M1: {"ANE203 refused 0"},
                                                "M1@macos13": set(), "M2@macos15": {"ANE203 unknown 0"}}),
    Case("fp16 to fp32", cast("fp16", "fp32"), {M4: set(), M1: {"ANE203 refused 0"}}),
    Case("fp32 to bool", cast("fp32", "bool"), only("ANE203 refused 0")),
    Case("fp32 to int32", cast("fp32", "int32"), only("ANE201 refused 0")),
    # ANE204: booleans.
    Case("bool to fp16", masked("logical_and(x = a, y = a)"), {M4: set(), M2: {"ANE101 refused 1"}}),
    Case("bool or", masked("logical_or(x = a, y = a)"), {M4: {"ANE102 unknown 1", "ANE204 unknown 1"}}),
    # ANE206: what no engine holds.
    Case("bf16", relu("1, 8, 4, 4", "bf16"), only("ANE206 refused 0")),
    # ANE213, ANE217: parameters and writes.
    Case("slice by constants", cut_by("constant"), nowhere(M4)),
    Case("slice by a computed begin", cut_by("computed"), {M4: {"ANE201 refused 0", "ANE213 refused 0"}}),
    Case("a state is updated", updated("state"), nowhere(M4)),
    Case("an input is updated", updated("input"), {M4: {"ANE217 refused 0"}}),
    # ANE214, ANE602: slices.
    Case("a slice forwards", sliced((0, 0, 0, 0), (1, 8, 4, 4), (1, 1, 1, 2), "1, 8, 4, 2"), nowhere(M4, M1)),
    Case("a slice backwards", sliced((0, 0, 0, -1), (1, 8, 4, -5), (1, 1, 1, -1), "1, 8, 4, 4"),
         only("ANE214 refused 0")),
    Case("a slice off the last axis's start", sliced((0, 0, 0, 1), (1, 8, 4, 4), (1, 1, 1, 1), "1, 8, 4, 3"),
         {M4: set(), M2: {"ANE602 risk 0"}, M1: {"ANE602 risk 0"}}),
    Case("a slice off another start", sliced((0, 1, 1, 0), (1, 8, 4, 4), (1, 1, 1, 1), "1, 7, 3, 4"),
         nowhere(M4, M1)),
    # ANE215: padding.
    Case("constant padding", padded("constant", 1, 1, 1, 1), nowhere()),
    Case("reflected padding", padded("reflect", 1, 1, 1, 1),
         {M4: set(), M2: set(), M1: {"ANE215 unknown 0"}}),
    Case("replicated padding", padded("replicate", 1, 1, 1, 1),
         {M4: set(), "M2@macos27": set(), M2: {"ANE215 unknown 0"}, M1: {"ANE215 unknown 0"}}),
    Case("padding with a number", padded("constant", 1, 1, 1, 1, value="1.5"), only("ANE215 unknown 0")),
    Case("padded channels", padded("constant", 0, 0, 1, 1, 0, 0, 0, 0),
         {M4: set(), M2: {"ANE215 unknown 0"}}),
    # ANE216: products of 2, 3, 4 and 8.
    Case("shuffle by 2", shuffle(2), nowhere(M4)),
    Case("shuffle by 5", shuffle(5), {M4: {"ANE216 unknown 0"}}),
    Case("shuffle by 6", shuffle(6), nowhere(M4)),
    Case("shuffle by 7", shuffle(7), {M4: {"ANE216 unknown 0"}}),
    Case("space to batch by 2x3", to_batch(2, 3), nowhere(M4)),
    Case("space to batch by 2x5", to_batch(2, 5), {M4: {"ANE216 unknown 0"}}),
    # ANE311: resizing without a sampler (A14, M1).
    Case("resize by 2", resized(8, 16), {M4: set(), M1: {"ANE102 unknown 0", "ANE311 unknown 0"}}),
    Case("resize by 1.5", resized(8, 12), {M4: set(), M2: set(), M1: {"ANE102 unknown 0", "ANE311 unknown 0"}}),
    Case("resize of one pixel", resized(1, 65), {M4: set(), M2: set(), M1: {"ANE102 unknown 0"}}),
    Case("resize to its own size", resized(8, 8), only("ANE110 note 0")),
    # ANE103, ANE110: code of the app; what changes nothing.
    Case("custom operation", unary(SHAPES, "tensor<fp16, [1, 8, 4, 4]> out = custom_swish(x = x);"),
         {M4: {"ANE103 refused 0"}}),
    Case("identity", unary(SHAPES, "tensor<fp16, [1, 8, 4, 4]> out = identity(x = x);"), only("ANE110 note 0")),
    # ANE401: shapes.
    Case("an unknown dimension", relu("1, ?, 64"), only("ANE401 unknown 0")),
    # ANE501: states.
    Case("one state", states(64), nowhere(M4)),
    Case("two states", states(64, 64), {M4: {"ANE501 risk"}}),
    Case("three states", states(64, 64, 64), {M4: {"ANE501 blocks"}}),
    Case("a state 48 wide", states(48), {M4: {"ANE501 risk"}}),
    # ANE502: 2 GiB of weights.
    Case("2 GiB", linear("1, 32768", "1, 32768", 32768, 32768), {M4: {PRODUCT}}),
    Case("1 GiB on an iPhone", linear("1, 32768", "1, 16384", 32768, 16384),
         {"A19 Pro@ios26": {PRODUCT}, "M6@macos27": {PRODUCT}}),
    Case("above 1 GiB on an iPhone", linear("1, 32768", "1, 16385", 32768, 16385),
         {"A19 Pro@ios26": {PRODUCT, "ANE502 blocks"}, "M6@macos27": {PRODUCT}}),
    Case("above 2 GiB", linear("1, 32768", "1, 32769", 32768, 32769), {M4: {PRODUCT, "ANE502 blocks"}}),
    # ANE601 to ANE605: values.
    Case("exp", unary(SHAPES, "tensor<fp16, [1, 8, 4, 4]> out = exp(x = x);"), {M4: {"ANE603 risk 0"}}),
    Case("topk of 2,048", topk(2048), nowhere(M4)),
    Case("topk of 2,049", topk(2049), {M4: {"ANE604 risk 0"}}),
    Case("softplus", unary(SHAPES, "tensor<fp16, [1, 8, 4, 4]> out = softplus(x = x);"), {M4: {"ANE605 risk 0"}}),
]  # fmt: skip


def _case_rows() -> Iterator[object]:
    for case in CASES:
        for target, findings in case.findings.items():
            yield pytest.param(case, target, findings, id=f"{case.name} on {target}")


@pytest.mark.parametrize(("case", "target", "findings"), [*_case_rows()])
def test_a_border(case: Case, target: str, findings: set[str]) -> None:
    model = parse_model(case.text, case.name)
    assert said(verdict(model, target)) == findings | too_old(model, target)


# ---- old networks, flexible shapes, work outside: what a loose text cannot say ----


def old_network(layers: list[str], shape: tuple[int, ...]) -> Model:
    message = network(*layers, blob=True)
    function, _, _ = lowered(message, describe({"x": shape}, ["out"]))
    return number(Model("old", "mlmodel", "neuralNetwork", 4, functions=(function,)))


RESIZE = "resizeBilinear {{ targetSize: [{0}, {0}] mode {{ samplingMethod: STRICT_ALIGN_ENDPOINTS_MODE }} }}"
OLD_NETWORKS = [
    ("argmax", "reduce { mode: ARGMAX axis: C }", (8, 4, 4), "M1@macos13", {"ANE104 refused 0"}),
    ("argmax", "reduce { mode: ARGMAX axis: C }", (8, 4, 4), "M1@macos14", {"ANE104 unknown 0"}),
    ("argmax", "reduce { mode: ARGMAX axis: C }", (8, 4, 4), "M2@macos13", {"ANE104 unknown 0"}),
    ("sum", "reduce { mode: SUM axis: C }", (8, 4, 4), "M1@macos13", set()),
    ("resize 65 to 513", RESIZE.format(513), (8, 65, 65), "M1@macos13", {"ANE311 refused 0"}),
    ("resize 65 to 513", RESIZE.format(513), (8, 65, 65), "M1@macos14", {"ANE311 unknown 0"}),
    ("resize 65 to 513", RESIZE.format(513), (8, 65, 65), "M2@macos13", set()),
    ("resize 65 to 130", RESIZE.format(130), (8, 65, 65), "M1@macos13", {"ANE311 unknown 0"}),
    ("resize 1 to 65", RESIZE.format(65), (8, 1, 1), "M1@macos13", set()),
    ("custom", "custom { className: 'Swish' }", (8, 4, 4), "M4", {"ANE103 refused 0"}),
]


@pytest.mark.parametrize(("name", "layer", "shape", "target", "findings"), OLD_NETWORKS)
def test_old_layers(name: str, layer: str, shape: tuple[int, ...], target: str, findings: set[str]) -> None:
    found = verdict(old_network([f"x -> out: {layer}"], shape), target)
    assert said(found) == findings


def described(**more: object) -> Model:
    """A program of one operation behind a description."""
    return replace(parse_model(relu("1, 8, 4, 4"), "described"), **more)  # type: ignore[arg-type]


def flexible(*choices: tuple[int, ...], ranges: tuple[tuple[int, int | None], ...] = ()) -> Model:
    return described(inputs=(Feature("x", "multiArray", "fp16", (1, 8, 4, 4), choices=choices, ranges=ranges),))


def working(kind: str, *, partial: bool) -> Model:
    return described(host_work=(HostWork(kind, "of the test", partial),))


GRAPHS = [
    ("one shape", flexible((1, 8, 4, 4)), set(), Status.FULL),
    ("a range of one", flexible(ranges=((1, 1), (8, 8), (4, 4), (4, 4))), set(), Status.FULL),
    ("two shapes", flexible((1, 8, 4, 4), (1, 8, 8, 8)), {"ANE903 risk"}, Status.FULL),
    ("a range", flexible(ranges=((1, 1), (8, 8), (4, 9), (4, 4))), {"ANE902 unknown 0"}, Status.CANNOT_TELL),
    ("no upper bound", flexible(ranges=((1, None),)), {"ANE902 unknown 0"}, Status.CANNOT_TELL),
    ("undescribed", described(metadata={UNDESCRIBED: "yes"}), {"ANE804 blocks"}, Status.CANNOT_TELL),
    ("image scaling", working("imageScale", partial=False), {"ANE801 note"}, Status.FULL),
    ("label lookup", working("classLabels", partial=True), {"ANE801 note"}, Status.PARTIAL),
    ("a tree", Model("tree", "mlmodel", "treeEnsembleClassifier", 1), {"ANE802 note"}, Status.NONE),
]


@pytest.mark.parametrize(("name", "model", "findings", "status"), GRAPHS, ids=[row[0] for row in GRAPHS])
def test_what_concerns_the_whole(name: str, model: Model, findings: set[str], status: Status) -> None:
    found = verdict(model, M4)
    assert said(found) == findings
    assert found.status is status


@pytest.mark.parametrize(
    ("opset", "target", "status"),
    [
        ("ios15", "M1@macos12", Status.FULL),
        ("ios16", "M1@macos13", Status.FULL),
        ("ios16", "M1@macos12", Status.CANNOT_TELL),
        ("ios17", "M1@macos14", Status.FULL),
        ("ios17", "M1@macos13", Status.CANNOT_TELL),
        ("ios18", "A17 Pro@ios18", Status.FULL),
        ("ios18", "A17 Pro@ios17", Status.CANNOT_TELL),
    ],
)
def test_a_system_too_old_for_the_program(opset: str, target: str, status: Status) -> None:
    found = verdict(parse_model(program(SHAPES, "tensor<fp16, [1, 8, 4, 4]> out = relu(x = x);", opset)), target)
    assert found.status is status
    assert said(found) == ({"ANE504 blocks"} if status is Status.CANNOT_TELL else set())


def test_weights_by_chip() -> None:
    """About 3 GB stayed off an M1; the words follow the chip."""
    model = parse_model(linear("1, 16384", "1, 98305", 16384, 98305), "3 GiB")
    words = {target: [f.message for f in verdict(model, target).findings if f.rule == "ANE502"] for target in (M1, M4)}
    assert words == {
        M1: ["its weights take 3.0 GiB; about 3 stayed off an M1's engine"],
        M4: ["its weights take 3.0 GiB; around 2 is reported as the limit of one engine program"],
    }


# No prediction says these: one speaks of a weight file, which the reader warns of, one of measured refusals.
UNSAID = {"ANE805"}


def test_every_rule_has_a_case_that_yields_it() -> None:
    rows = [findings for case in CASES for findings in case.findings.values()]
    rows += [findings for by_target in EXAMPLE_FINDINGS.values() for findings in by_target.values()]
    rows += [findings for *_, findings in OLD_NETWORKS] + [findings for _, _, findings, _ in GRAPHS]
    yielded = {row.split()[0] for findings in rows for row in findings} | {"ANE504"}
    assert set(IDS) - yielded == UNSAID


# ---- what a finding says ----


def test_a_finding_carries_value_limit_words_and_change() -> None:
    (found,) = verdict(parse_model(pool("max_pool", 3, 9), "pool"), M4).findings
    assert found.name == "oversized-pool"
    assert found.message == "the window is 9 wide; 1 to 8, or 32, is accepted"
    assert (found.core_ml_code, found.core_ml_text) == (320, "Invalid Pool kernel width (9), must be [1-8] or 32.")
    assert found.certainty is Certainty.MEASURED
    assert found.sources == ("751k-messages",)
    assert found.fix is not None
    assert found.fix.startswith("Chain smaller max pools with stride 1")
    assert found.effect is Effect.REFUSED


def test_dimensions_in_core_mls_own_words() -> None:
    (found,) = verdict(parse_model(relu("1, 8, 1, 70000"), "wide"), M4).findings
    assert found.core_ml_text == (
        "Tensor dimensions N1D1C8H1W70000 are not within supported range, "
        "N[1-65536]D[1-65536]C[1-65536]H[1-65536]W[1-65536]."
    )


def test_sources_certainty_and_fix_of_every_case() -> None:
    for case in CASES:
        for target in case.findings:
            for found in verdict(parse_model(case.text, case.name), target).findings:
                assert found.rule in IDS
                assert set(found.sources) <= set(knowledge.sources()), case.name
                assert found.sources, f"{case.name}: {found.rule}"
                assert found.message == found.message.strip()
                assert not found.message.endswith(".")
                assert (found.fix is None) is (found.effect is Effect.NOTE), case.name

"""The knowledge commands' text: what it says, that it fits, and what a wrong name gets."""

from __future__ import annotations

import pytest

from anecompat import knowledge
from anecompat.errors import UsageError
from anecompat.knowledge import spans
from anecompat.report.knowledge_pages import chips_page, operations_page
from anecompat.report.knowledge_words import engines_text, releases_text
from anecompat.targets import chips


def squeezed(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("width", [60, 80, 120])
def test_every_page_fits(width: int) -> None:
    pages = [chips_page(None, width), operations_page(None, width)]
    pages += [chips_page(chip.name, width) for chip in chips()]
    pages += [operations_page(name, width) for name in knowledge.operations()]
    pages += [operations_page(kind, width) for kind in knowledge.layers()]
    long = [line for page in pages for line in page.splitlines() if len(line) > width and len(line.split()) > 1]
    assert long == []


def test_the_list_of_chips_names_each_with_its_engine() -> None:
    rows = {line.split("  ")[0]: line.split() for line in chips_page(None).splitlines()}
    for chip in chips():
        assert chip.engine in rows[chip.name]


def test_an_engine_lists_its_chips() -> None:
    page = chips_page("h16")
    assert [name for name in ("A17 Pro", "M4 ", "M4 Pro", "M4 Max") if name not in page] == []
    assert "M1" not in page


def test_the_page_of_a_chip() -> None:
    page = squeezed(chips_page("m4"))
    assert "M4 (T8132): Neural Engine H16" in page
    assert "measured: Core ML's cache names H16G" in page
    assert "same as A17 Pro, M4 Pro, M4 Max" in page
    assert "measured macOS 27" in page
    assert "65,536 elements: longest tensor axis: width [measured]" in page
    assert "751k-dispatch: Apple Neural Engine Microarchitecture Study" in page


def test_the_page_of_a_chip_says_what_is_not_known() -> None:
    page = squeezed(chips_page("m6"))
    assert "cores not published" in page
    assert "conflict the note that lists this firmware takes it for M5's" in page
    assert "no answer of Core ML, operation by operation, is published for this chip" in page


def test_the_page_of_an_operation() -> None:
    page = squeezed(operations_page("sin"))
    assert "? ? - - + + + + on macOS 27" in page
    assert "H14 (A15 and M2), macOS 26 / iOS 26: no [measured: mobius]" in page
    assert "mobius: Compute plans with validation messages" in page


def test_the_page_of_an_operation_names_limits_conflicts_and_layers() -> None:
    page = squeezed(operations_page("conv"))
    assert "15 columns: H16 (A17 Pro and M4), macOS 27 / iOS 27 and later [measured:" in page
    assert "but: tables read from the compiler give 13 to H13 and 16 from H14 on" in page
    assert "Old layers answered by it: convolution, convolution3d." in page


def test_opsets_and_case_do_not_matter() -> None:
    assert operations_page("ios17.conv") == operations_page("conv")
    assert operations_page("CONV") == operations_page("conv")
    assert operations_page("addbroadcastable").startswith("addBroadcastable (layer of old neural networks)")


def test_a_name_that_is_operation_and_layer_shows_both() -> None:
    page = operations_page("gru")
    assert page.startswith("gru\n")
    assert "\ngru (layer of old neural networks)\n" in page


def test_a_layer_says_what_carries_it() -> None:
    page = squeezed(operations_page("clampedReLU"))
    assert "Nothing is published of the layer itself: the answer is that of clamped_relu" in page


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("cnov", "cnov: no such operation; did you mean conv? (anecompat ops lists them all)"),
        ("layernorm", "layernorm: no such operation; did you mean layer_norm? (anecompat ops lists them all)"),
        ("addBroad", "addBroad: no such operation; did you mean addBroadcastable? (anecompat ops lists them all)"),
    ],
)
def test_an_unknown_operation_suggests_the_nearest(name: str, sentence: str) -> None:
    with pytest.raises(UsageError) as error:
        operations_page(name)
    assert str(error.value) == sentence


def test_an_unknown_chip_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean M4 Pro"):
        chips_page("m4 por")


@pytest.mark.parametrize(
    ("scope", "engines", "releases"),
    [
        ("H16 27+", "H16 (A17 Pro and M4)", "macOS 27 / iOS 27 and later"),
        ("H13-H18 15+", "H13-H18 (A14 and M1 to A19 and M6)", "macOS 12 / iOS 15 and later"),
        ("H11-H12 12+", "H11-H12 (A12 to A13)", "every release"),
        ("H13 15-16", "H13 (A14 and M1)", "macOS 12 to 13 / iOS 15 to 16"),
        ("H14 26", "H14 (A15 and M2)", "macOS 26 / iOS 26"),
        ("H13 17.5-17", "H13 (A14 and M1)", "macOS 14 / iOS 17.5 to 17"),
        ("H13 12-14", "H13 (A14 and M1)", "macOS 11 / iOS 12 to 14"),
    ],
)
def test_scopes_in_words(scope: str, engines: str, releases: str) -> None:
    span = spans.parse(scope)
    assert (engines_text(span), releases_text(span)) == (engines, releases)

"""Targets: every spelling people use, the pairs that no device has, and the reference."""

from __future__ import annotations

import pytest

from anecompat import targets
from anecompat.errors import UsageError
from anecompat.targets import ENGINES, REFERENCE, System, chips, parse_system, parse_targets


def spelled(*texts: str) -> list[str]:
    return [str(target) for target in parse_targets(texts)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("M1", ["M1, macOS 27"]),
        ("m1", ["M1, macOS 27"]),
        ("m1-pro", ["M1 Pro, macOS 27"]),
        ("m1pro", ["M1 Pro, macOS 27"]),
        ("M1 Pro", ["M1 Pro, macOS 27"]),
        ("M1_PRO", ["M1 Pro, macOS 27"]),
        ("Apple M2 Ultra", ["M2 Ultra, macOS 27"]),
        ("a17pro", ["A17 Pro, iOS 27"]),
        ("A17 Pro", ["A17 Pro, iOS 27"]),
        ("A15 Bionic", ["A15, iOS 27"]),
        ("a12", ["A12, iOS 26.6"]),
        ("m1@macos14", ["M1, macOS 14.8"]),
        ("m1@macos14.5", ["M1, macOS 14.5"]),
        ("m1@macOS 14.5", ["M1, macOS 14.5"]),
        ("m1@macos14.0", ["M1, macOS 14.0"]),
        ("A16@iOS 17.2", ["A16, iOS 17.2"]),
        ("a16@ios18", ["A16, iOS 18.7"]),
        ("m1@ipados18", ["M1, iOS 18.7"]),
        ("A18 Pro@macos26", ["A18 Pro, macOS 26.6"]),
        ("m4@macos27.0.1", ["M4, macOS 27.0.1"]),
        ("m1, a15@ios16", ["M1, macOS 27", "A15, iOS 16.7"]),
        ("h18", ["A19, iOS 27", "A19 Pro, iOS 27", "M6, macOS 27"]),
        ("H14@ios17", ["A15, iOS 17.7", "M2, iOS 17.7"]),
        ("all@macos12", [f"{chip}, macOS 12.7" for chip in ("M1", "M1 Pro", "M1 Max", "M1 Ultra", "M2")]),
    ],
)
def test_spellings(text: str, expected: list[str]) -> None:
    assert spelled(text) == expected


def test_lists_repeat_and_drop_doubles() -> None:
    expected = ["M1, macOS 27", "M1 Pro, macOS 27", "M2, macOS 14.8"]
    assert spelled("m1,m1-pro", "M1", "m2@macos14, M2@macOS 14.8") == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a15@macos15", "A15 runs iOS, not macOS"),
        ("m1pro@ios18", "M1 Pro runs macOS, not iOS"),
        ("m3@macos13", "M3 needs macOS 14 or later, not macOS 13.7"),
        ("m1ultra@macos12.2", "M1 Ultra needs macOS 12.3 or later, not macOS 12.2"),
        (
            "a12@ios27",
            "A12's last iOS is 26, not iOS 27 "
            "(iPadOS 26 is the last for its iPads; the iPhones XS, XS Max and XR stopped at iOS 18)",
        ),
        ("a12x@ios27", "A12X's last iOS is 26, not iOS 27"),
        ("h11@macos14", "'h11@macos14' leaves no chip: none of them runs macOS 14.8"),
        ("m1@macos20", "there is no macOS 20; macOS 26 followed macOS 15"),
        ("a15@ios19", "there is no iOS 19; iOS 26 followed iOS 18"),
        ("m4@macos99", "macOS 99 is not known here; the newest is macOS 27"),
        ("all@macos10", "no Mac with a Neural Engine for Core ML runs macOS 10; macOS 11 was the first"),
        ("m1@macos14.9", "there is no macOS 14.9; the last macOS 14 is 14.8"),
        ("m1@windows", "'windows' is no system; write it as macos14, macos14.5, ios18 or ios17.2"),
        ("m1@14", "'14' is no system; write it as macos14, macos14.5, ios18 or ios17.2"),
        ("m1@", "'m1@' names no system after the @; write it as m1@macos14 or @ios18"),
        ("m7", "no chip is called 'm7'; did you mean M6? (anecompat chips lists them all)"),
        ("a17", "no chip is called 'a17'; did you mean A17 Pro? (anecompat chips lists them all)"),
        ("m2prp", "no chip is called 'm2prp'; did you mean M2 Pro? (anecompat chips lists them all)"),
        ("h19", "no chip is called 'h19'; did you mean H18? (anecompat chips lists them all)"),
    ],
)
def test_refusals_say_why(text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_targets([text])
    assert str(error.value) == sentence


@pytest.mark.parametrize("text", ["", " ", ",", "@ios18", "m1,,m2"])
def test_a_missing_chip_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^a target is a chip, or a chip and a system"):
        parse_targets([text])


def test_a_newer_minor_of_a_living_release_is_taken() -> None:
    """The tables are older than the next point release; refusing it would send people away for nothing."""
    assert spelled("m4@macos27.3") == ["M4, macOS 27.3"]


def test_releases_line_up_across_platforms() -> None:
    assert System("macOS", (14, 5)).release == (17, 5)
    assert System("iOS", (17, 5)).release == (17, 5)
    assert parse_system("macos11").release == (14, 7)
    assert parse_system("macos26.1").release == (26, 1)
    systems = [parse_system(text) for text in ("macos27", "ios17.2", "macos14.5", "ios26.1", "macos14.0", "ios12")]
    assert [str(system) for system in sorted(systems)] == [
        "iOS 12.5", "macOS 14.0", "iOS 17.2", "macOS 14.5", "iOS 26.1", "macOS 27",
    ]  # fmt: skip


@pytest.mark.parametrize("target", targets.default_targets(), ids=str)
def test_what_is_printed_can_be_typed(target: targets.Target) -> None:
    assert parse_targets([f"{target.chip}@{target.system}"]) == (target,)


def test_the_reference_is_the_newest_measured_pair() -> None:
    assert str(REFERENCE) == "M4, macOS 27"
    assert REFERENCE.engine == "H16"


def test_default_targets_are_every_chip_on_its_last_system() -> None:
    assert [target.chip for target in targets.default_targets()] == list(chips())
    assert {target.system.platform for target in targets.default_targets() if target.chip.series == "M"} == {"macOS"}
    assert {target.system.platform for target in targets.default_targets() if target.chip.series == "A"} == {"iOS"}


def test_engine_names_follow_the_series() -> None:
    """A(n) has engine H(n-1) and M(n) has H(n+12): the trap of decompiled tables, whose "A13" is M1's engine."""
    for chip in chips():
        generation = int("".join(c for c in chip.name.split()[0] if c.isdigit()))
        assert chip.engine == f"H{generation - 1 if chip.series == 'A' else generation + 12}", chip.name
        assert chip.engine in ENGINES


def test_every_chip_the_contract_names_is_there() -> None:
    names = {chip.name for chip in chips()}
    assert {"A12", "A12X", "A12Z", *(f"A{n}" for n in (13, 14, 15, 16, 18, 19))} <= names
    assert {"A17 Pro", "A18 Pro", "A19 Pro"} <= names
    assert {f"M{n}{v}" for n in range(1, 5) for v in ("", " Pro", " Max")} <= names
    assert {"M1 Ultra", "M2 Ultra", "M3 Ultra", "M5", "M5 Pro", "M5 Max", "M6"} <= names
    assert "M6 Pro" not in names, "no evidence yet"


def test_chips_that_share_an_engine_and_a_system_share_a_verdict() -> None:
    first, second = parse_targets(["m1@macos14", "m1max@macos14.8"])
    assert first.key == second.key
    assert parse_targets(["m1@macos15"])[0].key != first.key

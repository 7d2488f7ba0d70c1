"""The written pages: what they show comes out, what they name exists, where they point there is something."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from anecompat import cli, knowledge
from anecompat.findings import Status
from anecompat.rules import all_rules

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
WRITTEN = [page for page in PAGES if "<!-- Written by tools/" not in page.read_text(encoding="utf-8")]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def blocks(page: str, language: str = "") -> list[str]:
    return [body for found, body in FENCE.findall((ROOT / page).read_text(encoding="utf-8")) if found == language]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def answer(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    cli.main(command.split()[1:])
    return capsys.readouterr().out


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "100")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        if not place.exists() or (anchor and anchor not in anchors(place)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_rules_that_are_named_exist(page: Path) -> None:
    ids = {rule.id for rule in all_rules()}
    assert sorted(set(re.findall(r"\bANE\d{3}\b", page.read_text(encoding="utf-8"))) - ids) == []


def test_sources_in_brackets_exist() -> None:
    cited = re.findall(r"\[([a-z0-9, -]+)\](?!\()", prose(ROOT / "docs" / "how-the-engine-decides.md"))
    keys = {key for group in cited for key in group.split(", ")}
    assert len(keys) > 8
    assert sorted(keys - set(knowledge.sources())) == []


def test_the_readmes_statuses() -> None:
    rows = re.findall(r"^\| (\d) \| ([^|]+) \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert [(int(code), text) for code, text in rows] == [(int(status), status.text) for status in Status]


@pytest.mark.usefixtures("here")
def test_the_readmes_screen(capsys: pytest.CaptureFixture[str]) -> None:
    (screen,) = [block for block in blocks("README.md") if block.startswith("$ ")]
    command, *shown = screen.splitlines()
    lines = iter(answer(command.removeprefix("$ "), capsys).splitlines())
    # `in` consumes the lines, so that their order counts too; after the first that is missing all others are.
    assert [line for line in shown if line != "..." and line not in lines][:1] == []


@pytest.mark.usefixtures("here")
def test_the_tutorials_screens(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = blocks("docs/tutorial.md")
    commands = [line for block in page for line in block.splitlines() if line.startswith("anecompat check")]
    said = [answer(command.partition(";")[0], capsys) for command in commands]
    (wide,) = [block for block in page if block.startswith("func main")]
    tall = wide.replace("1, 31]", "31, 1]").replace("1, 1024]", "1024, 1]")
    (tmp_path / "wide.mil").write_text(wide)
    (tmp_path / "tall.mil").write_text(tall)
    monkeypatch.chdir(tmp_path)
    said += [answer(f"anecompat check {file}.mil --target {targets}", capsys)
             for file, targets in (("wide", "M4"), ("tall", "M4"), ("tall", "M1,M2,M3,M4"))]  # fmt: skip
    assert len(commands) == 4
    assert "Partial compatibility (1)" in said[-3]
    lines = {line for text in said for line in text.splitlines()}
    screens = [b for b in page if not re.match(r"make|anecompat|func", b)]
    shown = [line for block in screens for line in block.splitlines() if line not in ("...", "1")]
    assert [line for line in shown if line not in lines] == []


@pytest.mark.usefixtures("here")
def test_the_python_pages_code_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for block in blocks("docs/reference/python.md", "python"):
        exec(block, names)
    for block in blocks("ARCHITECTURE.md", "python")[:1]:
        exec(block, names)
    printed = capsys.readouterr().out
    assert "int16[1,32] (500, 64)" in printed
    assert "M1, macOS 27 Partial compatibility (1)" in printed
    assert "ANE301 the kernel is 1x31" in printed


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("allowed", "code"), [("wide dilated running", 0), ("running", 1)])
def test_the_how_tos_comparison(
    allowed: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["check", "examples/Vocoder.mlpackage", "--target", "M4", "--format", "json", "--output",
              str(tmp_path / "now.json")])  # fmt: skip
    (tmp_path / "allowed.txt").write_text(allowed.replace(" ", "\n"))
    monkeypatch.chdir(tmp_path)
    (script,) = [block for block in blocks("docs/how-to.md", "python") if block.startswith("# compare.py")]
    with pytest.raises(SystemExit) as end:
        exec(script, {})
    assert end.value.code == bool(code)
    expected = "dilated, wide" if code else "none"
    assert capsys.readouterr().out == f"off the engine and not in allowed.txt: {expected}\n"

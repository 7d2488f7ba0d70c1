"""The reference pages: what they hold, and that --check notices a page that is not what the tables say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from anecompat import knowledge
from anecompat.targets import chips

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def make_docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_docs", ROOT / "tools" / "make_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_pages_are_what_the_tables_say(make_docs: ModuleType) -> None:
    assert make_docs.main(["--check"]) == 0


def test_check_notices_and_writes_nothing(
    make_docs: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make_docs.main(["--check"], tmp_path) == 1
    assert list(tmp_path.iterdir()) == []
    assert "out of date: operations.md, layers.md, chips.md, limits.md" in capsys.readouterr().err
    assert make_docs.main([], tmp_path) == 0
    assert make_docs.main(["--check"], tmp_path) == 0
    (tmp_path / "chips.md").write_text("# something else\n")
    assert make_docs.main(["--check"], tmp_path) == 1
    assert "out of date: chips.md;" in capsys.readouterr().err


def test_every_entry_is_on_its_page(make_docs: ModuleType, tmp_path: Path) -> None:
    make_docs.main([], tmp_path)
    pages = {page.name: page.read_text() for page in tmp_path.iterdir()}
    assert [name for name in knowledge.operations() if f"`{name}`" not in pages["operations.md"]] == []
    assert [kind for kind in knowledge.layers() if f"| `{kind}` |" not in pages["layers.md"]] == []
    assert [name for name in knowledge.limits() if f"`{name}`." not in pages["limits.md"]] == []
    assert [chip.name for chip in chips() if f"| {chip.name} |" not in pages["chips.md"]] == []
    assert "| `sin` | ? | ? | - | - | + | + | + | + |" in pages["operations.md"]
    assert "| A12X | T8027 | H11 | inferred | 8 |  | 12.1 to 26 |" in pages["chips.md"]

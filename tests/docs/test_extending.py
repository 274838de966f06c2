"""The code in docs/extending.md runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^## (.*?)$.*?^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def test_there_is_an_example_of_each() -> None:
    titles = ["A filter", "A source", "A benchmark", "A task", "A step", "A kind of block"]
    assert [title for title, _ in BLOCKS] == titles


@pytest.mark.parametrize(("title", "code"), BLOCKS, ids=[title for title, _ in BLOCKS])
def test_the_example_runs(title: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, f"docs/extending.md: {title}", "exec"), {"__name__": "example"})

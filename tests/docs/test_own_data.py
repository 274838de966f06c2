"""The commands of docs/own-data.md run, and print what the page says."""

from __future__ import annotations

from pathlib import Path

from tests.docs.pages import run_page


def test_every_command_prints_what_the_page_says(tmp_path: Path) -> None:
    assert run_page(Path(__file__).parents[2] / "docs" / "own-data.md", tmp_path) > 5

"""The tutorial's commands run, in order, and print what it says they print."""

from __future__ import annotations

from pathlib import Path

from tests.docs.pages import run_page


def test_every_command_prints_what_the_tutorial_says(tmp_path: Path) -> None:
    assert run_page(Path(__file__).parents[2] / "docs" / "tutorial.md", tmp_path) > 10

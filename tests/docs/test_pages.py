"""The commands of the documentation's pages run, in order, and print what the pages say they print."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import run_page

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md") if "```console" in path.read_text(encoding="utf-8"))


def test_every_task_has_a_page_that_is_run() -> None:
    tasks = {"audit.md", "cluster.md", "contamination.md", "duplicates.md", "own-data.md", "train.md", "tutorial.md"}
    assert tasks <= set(PAGES)


@pytest.mark.timeout(1500)  # the tutorial builds, trains twice and fine-tunes: five minutes on a machine of its own
@pytest.mark.parametrize("page", PAGES)
def test_every_command_prints_what_the_page_says(page: str, tmp_path: Path) -> None:
    assert run_page(DOCS / page, tmp_path) > 2

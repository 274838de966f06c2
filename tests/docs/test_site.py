"""The documentation is a site: mkdocs builds it without a warning, and its lists of pages are complete."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(ROOT / "mkdocs.yml"), "-d", str(tmp_path)],
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "index.html").is_file()
    # The pages load nothing from other hosts.
    assert "https://fonts" not in (tmp_path / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("folder", ["decisions", "benchmarks"])
def test_every_page_of_a_folder_is_in_its_list(folder: str) -> None:
    pages = ROOT / "docs" / folder
    listed = (pages / "index.md").read_text(encoding="utf-8")
    assert [page.name for page in pages.glob("*.md") if page.name != "index.md" and page.name not in listed] == []

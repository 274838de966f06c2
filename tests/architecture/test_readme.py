"""What the front page names is there, and what is promised to stay out of the tree stays out."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def tree() -> list[str]:
    """Every path of the annotated tree, files below the room they are listed under."""
    found, room = [], ""
    for line in README.split("## The tree")[1].splitlines():
        if match := re.match(r"    (\w+/) ", line):
            room = match.group(1)
            found.append(room)
        elif line.startswith("      "):
            found += [
                name if (ROOT / name).exists() else room + name
                for name in re.findall(r"([\w/]+(?:\.py|/))(?:\s|:|$)", line)
            ]
    return found


@pytest.mark.parametrize("path", tree())
def test_every_path_of_the_annotated_tree_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_the_tree_names_every_room() -> None:
    assert {"dedup/", "filters/", "pipelines/", "training/", "flows/", "tests/", "docs/"} <= set(tree())


PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_link_of_a_page_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert page.name != "README.md" or links
    assert all((page.parent / link).exists() for link in links if "://" not in link)


def test_every_make_target_that_the_docs_name_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    pages = [README, *((path).read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md"))]
    named = {target for page in pages for target in re.findall(r"(?:`|^    )make ([a-z-]+)", page, re.MULTILINE)}
    assert {"demo", "test"} <= named <= targets


def test_no_kernel_room_reads_a_file_of_the_corpus() -> None:
    """Files are `pipelines.ledger.storage`'s: dedup and filters take arrays (files of models aside)."""
    for room in ("dedup", "filters"):
        for path in (ROOT / room).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            if path.name not in ("language.py", "linear.py", "blend.py", "kernel.py"):
                assert not re.search(r"\bopen\(|read_text|read_bytes|read_parquet|fsspec", text), path


def test_rooms_import_to_the_right_only() -> None:
    subprocess.run([Path(sys.executable).parent / "lint-imports"], cwd=ROOT, check=True, capture_output=True)

"""The page of `winnow analyze`: readable on any screen, and its numbers are those of the answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from flows.analyze import AnalysisAnswer, analyze
from pipelines.audit.analysis_page import page as page_of
from tests.browser.conftest import HOSTILE
from tests.chromium import DESKTOP, PHONE, open_page, overflow, violations

RECIPE = """
name: hostile
sources: [{name: a-source-with-a-name-that-is-longer-than-a-phone-is-wide, path: rows.jsonl,
  columns: {instruction: q, response: a}, condition: direct}]
stages: [{kind: strip_thinking}, {kind: length, max_chars: 300}, {kind: urls}, {kind: gopher_repetition}]
"""


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> AnalysisAnswer:
    folder = tmp_path_factory.mktemp("analysis")
    rows = [{"q": f"Question {n}? {HOSTILE}", "a": "word " * (n % 90) + str(n)} for n in range(300)]
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (folder / "recipe.yaml").write_text(RECIPE)
    return analyze(str(folder / "recipe.yaml"), str(folder / "root"), "local", 1)


@pytest.mark.parametrize(("width", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_the_page_is_accessible_nothing_overflows_and_no_text_executes(
    browser: Browser, answer: AnalysisAnswer, tmp_path: Path, width: int, scheme: str
) -> None:
    path = tmp_path / "analysis.html"
    path.write_text(page_of(answer, HOSTILE, "winnow analyze recipe.yaml"), encoding="utf-8")
    page = open_page(browser, path, width, color_scheme=scheme)
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    assert overflow(page) <= 0
    assert violations(page) == []
    assert page.evaluate("window.executed") is None and page.errors == []  # type: ignore[attr-defined]


def test_every_limit_of_the_answer_is_on_the_page_with_its_rows(
    browser: Browser, answer: AnalysisAnswer, tmp_path: Path
) -> None:
    path = tmp_path / "analysis.html"
    path.write_text(page_of(answer, HOSTILE, "winnow analyze recipe.yaml"), encoding="utf-8")
    page = open_page(browser, path)
    tables = page.evaluate(
        "[...document.querySelectorAll('table')].map(one => [...one.rows].map(row => [...row.cells].map("
        "cell => cell.innerText.trim())))"
    )
    shown = sorted(
        int(row[1].replace(",", "")) for table in tables for row in table[1:] if table[0][-1] == "of sources"
    )
    limits = [limit for one in answer.measures for limit in (one.today, *one.others) if limit is not None]
    assert shown == sorted(limit.rows for limit in limits)
    assert sum(one.rows for one in limits) > 0

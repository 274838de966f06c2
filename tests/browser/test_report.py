"""The report: readable by anybody, on any screen, with and without a script, and no text of a row executes."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Browser, Page, expect

from pipelines.ledger.runs import RecordedRun
from tests.browser.conftest import HOSTILE
from tests.chromium import DESKTOP, PHONE, open_page, overflow, violations


@pytest.fixture(scope="module")
def page(browser: Browser, report: Path) -> Page:
    """The report on a desktop, with its search ready."""
    opened = open_page(browser, report)
    opened.wait_for_selector("#results .row")
    return opened


@pytest.mark.parametrize(("width", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_the_report_is_accessible_and_nothing_overflows(
    browser: Browser, report: Path, width: int, scheme: str
) -> None:
    page = open_page(browser, report, width, color_scheme=scheme)
    page.wait_for_selector("#results .row")
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    assert overflow(page) <= 0
    assert violations(page) == []
    assert page.errors == []  # type: ignore[attr-defined]


def test_no_text_of_a_row_executes(page: Page) -> None:
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    page.get_by_label("Text or row id").fill("window.executed")
    expect(page.locator("#found")).to_contain_text(" of ")
    assert page.evaluate("window.executed") is None
    assert page.evaluate("document.querySelectorAll('img, [onerror], [onload], a[href^=javascript]').length") == 0
    assert page.evaluate("[...document.scripts].filter(one => one.type === '').length") == 1
    assert "{{ 7 * 7 }}" in page.inner_text("#results")
    assert page.errors == []  # type: ignore[attr-defined]


@pytest.mark.fault("HTML and scripts in rows, in the report", "shown as text, nothing executes")
def test_the_policy_of_the_page_stops_a_script_that_got_in(browser: Browser, report: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    broken.write_text(report.read_text(encoding="utf-8").replace("<main", f"{HOSTILE}<main"), encoding="utf-8")
    page = open_page(browser, broken)
    page.wait_for_selector("#results .row")
    assert page.evaluate("window.executed") is None and page.errors  # type: ignore[attr-defined]


def test_the_report_needs_nothing_but_its_file(browser: Browser, report: Path) -> None:
    context = browser.new_context(offline=True)
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    page.wait_for_selector("#results .row")
    assert asked == [report.as_uri()]
    assert report.stat().st_size < 3_000_000


def test_every_section_can_be_read_without_a_script(browser: Browser, report: Path) -> None:
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(report.as_uri())
    names = page.locator("nav.contents a").all_inner_texts()
    assert "Why rows were dropped" in names and "Test questions in the data" in names and len(names) >= 12
    text = page.content()
    for anchor in re.findall(r'<li><a href="#([a-z]+)">', text):
        assert f'<h2 id="{anchor}">' in text
    details = page.locator("details", has=page.locator("summary", has_text="loop/")).first
    assert "no no no no" in (details.text_content() or "")
    assert not page.locator("form.search").is_visible() and page.locator("noscript").count() == 1


def test_rows_are_found_by_text_reason_and_source(page: Page) -> None:
    page.evaluate("document.getElementById('finder').reset()")
    page.get_by_label("Text or row id").fill("mine/rows/17")
    expect(page.locator("#results .row")).to_have_count(1)
    expect(page.locator("#results")).to_contain_text("https://a.example")
    page.get_by_label("Text or row id").fill("")
    page.get_by_label("Reason").select_option("exact_duplicate/exact_duplicate")
    expect(page.locator("#results")).to_contain_text("stayed: a-source-with")
    page.get_by_label("Text or row id").fill("no text has these words")
    expect(page.locator("#found")).to_have_text("No row matches.")


def test_all_of_it_can_be_reached_by_keyboard(browser: Browser, report: Path) -> None:
    page = open_page(browser, report)
    page.wait_for_selector("#results .row")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    closed = page.locator("#main details:not([open]) > summary").first
    closed.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.parentElement.open") is True
    reached = page.evaluate(
        "[...document.querySelectorAll('.scroll, #results, summary, input, select')].every(one => one.tabIndex >= 0)"
    )
    assert reached


def test_paper_is_light_and_has_no_controls(browser: Browser, report: Path, tmp_path: Path) -> None:
    page = open_page(browser, report, color_scheme="dark")
    page.wait_for_selector("#results .row")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("form.search").is_visible() and not page.locator("nav.contents").is_visible()
    assert page.locator(".verdicts").is_visible() and page.locator("figure svg").first.is_visible()
    assert page.pdf(path=str(tmp_path / "report.pdf")).startswith(b"%PDF")


def test_the_rows_of_the_search_are_those_of_the_ledger(hostile_run: RecordedRun, report: Path) -> None:
    packed = re.search(r'id="packed">([^<]*)<', report.read_text(encoding="utf-8"))
    assert packed
    rows = json.loads(gzip.decompress(base64.b64decode(packed[1])))
    dropped = {}
    for step in hostile_run.steps:
        for file in step.dropped:
            for row in pq.read_table(file.path).to_pylist():
                dropped[row["id"], f"{row['stage']}/{row['reason']}"] = row
    found = {(row["id"], row["reason"]): row for row in rows if row["reason"] != "kept"}
    assert found.keys() == dropped.keys(), "few rows: all of them are in the page"
    for key, row in found.items():
        whole = dropped[key]["instruction"]
        assert row["instruction"] == whole or whole.startswith(row["instruction"].removesuffix(" […]"))
    assert any(row["twin"] and row["twin"]["instruction"] for row in found.values())


def test_the_links_to_parquet_files_lead_to_the_dropped_rows(hostile_run: RecordedRun, report: Path) -> None:
    links = set(re.findall(r'href="([^"]+\.parquet)"', report.read_text(encoding="utf-8")))
    paths = {urlsplit(urljoin(report.as_uri(), link)).path for link in links}
    assert paths == {file.path for step in hostile_run.steps for file in step.dropped}

"""Pages of the base: legible in light and dark, on a phone, without a script, and for a screen reader."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from pipelines.audit import charts, page
from pipelines.audit.charts import Limit, Series
from tests.chromium import DESKTOP, PHONE, open_page, overflow, violations

TEMPLATE = """
{% extends "page.html.jinja" %}{% import "macros.html.jinja" as macros %}
{% block main %}<h1>{{ title }}</h1>
<h2 id="charts">Charts</h2>{% for chart in charts %}{{ macros.figure(chart) }}{% endfor %}{% endblock %}
"""


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with a chart of each kind, whose names hold markup."""
    hostile = "</svg><script>document.title='executed'</script><img src=x onerror=document.title='executed'>"
    parts = [Series("kept", "kept", [1000, 400]), Series("dropped", "gone", [10, 400])]
    drawn = [
        charts.bars("Rows by source", f"Bars of {hostile}", ["a_rather_long_name_of_a_source", hostile], parts, "rows"),
        charts.histogram("Lengths", "A histogram.", [1, 10, 100], parts, "characters", log=True),
        charts.histogram("Values", "Parts.", [0, 0.5, 1], parts, "share", [Limit(0.3, "limit")], stacked=True),
        charts.lines("Loss", "A line.", [1, 2], parts, "step", "nats", width=charts.WIDE),
    ]
    values = {"title": hostile, "contents": [("charts", "Charts")], "charts": drawn}
    path = tmp_path_factory.mktemp("pages") / "sample.html"
    template = page.environment().from_string(TEMPLATE)
    path.write_text(template.render(**values, script="", policy=page.policy()), encoding="utf-8")
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_a_page_is_accessible_and_does_not_overflow(browser: Browser, sample: Path, width: int, scheme: str) -> None:
    page = open_page(browser, sample, width, color_scheme=scheme)
    assert overflow(page) <= 0
    assert violations(page) == []
    assert page.errors == []


def test_no_name_in_a_chart_executes(browser: Browser, sample: Path) -> None:
    page = open_page(browser, sample)
    assert page.title().startswith("</svg>") and page.evaluate("document.querySelectorAll('script, img').length") == 0


def test_each_chart_is_an_image_with_a_text_and_its_numbers(browser: Browser, sample: Path) -> None:
    page = open_page(browser, sample)
    for figure in page.locator("figure").all():
        assert figure.locator("svg[role=img][aria-label]").count() >= 1
        assert figure.locator("table tbody tr").count() >= 1


def test_the_colours_of_a_chart_follow_the_scheme(browser: Browser, sample: Path) -> None:
    colours = {
        scheme: open_page(browser, sample, color_scheme=scheme).evaluate(
            "getComputedStyle(document.querySelector('figure svg path[fill=\"var(--kept)\"]')).fill"
        )
        for scheme in ("light", "dark")
    }
    assert colours["light"] != colours["dark"]

"""Where did every row of a run go, and why? One HTML file for people, written from the files of the run.

    facts.py           the numbers: rows by step, reason and source
    verdicts.py        a sentence for each area
    flow.py            rows from sources through steps to tokens
    samples.py         rows of a step, spread over its files
    distributions.py   lengths, tokens and languages, before and after
    thresholds.py      measured values against the limits of filters
    rows.py            dropped and kept rows to look at
    thinking.py duplicates.py contamination.py coverage.py costs.py training.py origins.py
                       a section each
    page.py            the sections in order

Everything on the page is read from the run's files, so it can be written again at any time. What is read of a large run
is bounded: counts come from manifests, columns are read alone, and texts of a sample of the files.
"""

from __future__ import annotations

from pipelines.audit.report.facts import empty_sources, facts
from pipelines.audit.report.thinking import thinking_by_source
from pipelines.ledger.runs import RecordedRun

__all__ = ["empty_sources", "facts", "render", "thinking_by_source", "write_report"]


def write_report(run: RecordedRun) -> str:
    """Write `report.html` into the run's folder; returns its path."""
    from pipelines.audit.report import page  # it takes a while to load, and most of a command's life needs no report

    return page.write_report(run)


def render(run: RecordedRun) -> str:
    """The page of a run."""
    from pipelines.audit.report import page

    return page.render(run)

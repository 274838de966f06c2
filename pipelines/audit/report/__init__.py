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
from pipelines.audit.report.page import render, write_report
from pipelines.audit.report.thinking import thinking_by_source

__all__ = ["empty_sources", "facts", "render", "thinking_by_source", "write_report"]

"""The report's sections in order, and how they become one page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from pipelines.audit import page
from pipelines.audit.report.costs import cost_chart, costs, stage_costs
from pipelines.audit.report.coverage import coverage_charts, mix
from pipelines.audit.report.distributions import distribution_charts, language_chart, samples
from pipelines.audit.report.duplicates import duplicates
from pipelines.audit.report.facts import facts
from pipelines.audit.report.flow import flow_chart
from pipelines.audit.report.origins import inputs, licences, recipe_text
from pipelines.audit.report.reasons import reason_sections, source_chart
from pipelines.audit.report.rows import dropped_rows, kept_rows, packed, read_evidence, shown_rows
from pipelines.audit.report.scores import score_charts
from pipelines.audit.report.thresholds import measure, threshold_charts
from pipelines.audit.report.training import loss_chart, trainings
from pipelines.audit.report.verdicts import verdicts
from pipelines.ledger.runs import RecordedRun, record_report
from pipelines.steps.products import RECORDS

SECTIONS = (
    ("flow", "Where the rows went"),
    ("dropped", "Why rows were dropped"),
    ("search", "Look at rows"),
    ("distributions", "Before and after"),
    ("thresholds", "Filters and their thresholds"),
    ("quality", "Quality scores"),
    ("calibration", "Agreement with people"),
    ("duplicates", "Duplicates"),
    ("thinking", "Thinking"),
    ("leaks", "Test questions in the data"),
    ("coverage", "What training reads"),
    ("training", "Training and scores"),
    ("costs", "Time, memory and disk"),
    ("sources", "Sources and licences"),
    ("reproduce", "How to make this again"),
)
"""Anchor and title of each section; one that has nothing to show is left out."""


MEASURED_FROM = 1_000
"""Rows kept from which on the values of rows that stayed are measured. To load the compiled filters takes 0.6 s, which
is more than a small build should spend on its report."""


def write_report(run: RecordedRun) -> str:
    """Write `report.html` into the run's folder; returns its path."""
    return record_report(run, render(run))


def render(run: RecordedRun) -> str:
    """The page."""
    known = facts(run)
    records = [step for step in run.steps if step.kept == RECORDS]
    evidence = {step.step: read_evidence(step) for step in run.steps if step.kept}
    rows = samples(run)
    lines = [line for step in run.steps if step.kept for line in dropped_rows(run, step, evidence[step.step])]
    values: dict[str, Any] = {
        **known,
        "verdicts": verdicts(known),
        "flow": flow_chart(known, [step.step for step in records]),
        "source_chart": source_chart(known["sources"]),
        "reason_lines": reason_sections(run, known["reasons"], shown_rows(lines)),
        "distributions": [*(distribution_charts(run, rows) if rows else []), *_languages(run, rows)],
        "sample_note": rows.note if rows else "",
        **_thresholds(run, rows, evidence, known),
        "score_charts": score_charts(known["quality"]),
        "clusters": duplicates(run),
        "coverage_charts": coverage_charts(known["coverage"], mix(run, known["coverage"])),
        "trainings": (trained := trainings(run)),
        "loss": loss_chart(trained),
        "costs": (taken := costs(run)),
        "stage_costs": stage_costs(run),
        "cost_chart": cost_chart(taken),
        "licences": licences(known["sources"], known["coverage"]),
        "inputs": inputs(run),
        "recipe_text": recipe_text(run),
        "environment": run.info.get("environment") or {},
    }
    lines += kept_rows(rows.after) if rows else []
    values["packed"] = packed(lines) if lines else ""
    values["packed_rows"] = len({(line["reason"], line["id"]) for line in lines})
    shown = _shown(values)
    values["contents"] = [section for section in SECTIONS if shown[section[0]]]
    values["shown"] = shown
    values["title"] = run.id
    return page.render("report/report.html.jinja", values, page.asset("report/search.js"))


def _shown(values: dict[str, Any]) -> dict[str, bool]:
    """Section -> whether it has anything to show."""
    thinking = values["thinking"]
    return {
        "flow": values["flow"] is not None,
        "dropped": bool(values["funnel"]),
        "search": bool(values["packed"]),
        "distributions": bool(values["distributions"]),
        "thresholds": bool(values["measured"]),
        "quality": bool(values["quality"]),
        "calibration": bool(values["calibration"]),
        "duplicates": values["clusters"] is not None,
        "thinking": any(thinking.values()),
        "leaks": bool(values["contamination"]),
        "coverage": bool(values["coverage"]),
        "training": bool(values["loss"] or values["results"]),
        "costs": bool(values["costs"]),
        "sources": bool(values["sources"]),
        "reproduce": True,
    }


def _languages(run: RecordedRun, rows: Any) -> Sequence[Any]:
    """The chart of languages, of a recipe that judges them: the model is loaded only then."""
    judged = any(stage["kind"] == "language" for stage in run.info["settings"]["stages"])
    chart = language_chart(rows) if rows and judged else None
    return [chart] if chart else []


def _thresholds(
    run: RecordedRun, rows: Any, evidence: dict[str, pl.DataFrame], known: dict[str, Any]
) -> dict[str, Any]:
    if rows is None:
        return {"measured": [], "threshold_charts": []}
    stayed = rows.after if rows.after_rows >= MEASURED_FROM else None
    dropped = pl.concat([*evidence.values()])
    reasons = {reason["name"]: reason["rows"] for reason in known["reasons"]}
    measured = measure(run.info["settings"]["stages"], stayed, dropped, reasons)
    return {"measured": measured, "threshold_charts": threshold_charts(measured, rows.after_rows)}

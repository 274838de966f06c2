"""What did each step take? Time, work, memory and disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.audit.charts import Chart, Series, bars
from pipelines.audit.page import duration
from pipelines.ledger.runs import RecordedRun


def costs(run: RecordedRun) -> list[dict[str, Any]]:
    """Per step: seconds, core_seconds and memory (bytes of the largest process; None where they were not measured),
    rows per second (None for a step without rows), files and bytes."""
    info = {step["key"]: step for step in run.info["steps"]}
    lines = []
    for step in run.steps:
        measured = info.get(step.key, {})
        seconds = measured.get("seconds", 0.0)
        lines.append(
            {
                "step": step.step,
                "seconds": seconds,
                "core_seconds": measured.get("core_seconds"),
                "memory": measured.get("memory"),
                "rate": (step.rows_in or 0) / seconds if step.kept and seconds > 0.05 else None,
                "files": len(step.all_files),
                "bytes": sum(file.bytes for file in step.all_files),
            }
        )
    return lines


def stage_costs(run: RecordedRun) -> list[dict[str, Any]]:
    """Per stage of each step whose stages were measured, the dearest of a step first: its CPU seconds, their share of
    the step's, and the rows that the step took per CPU second of the stage (None if it took next to none)."""
    info = {step["key"]: step for step in run.info["steps"]}
    lines = []
    for step in run.steps:
        measured = info.get(step.key, {})
        parts = measured.get("parts", {})
        for name, seconds in sorted(parts.items(), key=lambda part: -part[1]):
            lines.append(
                {
                    "step": step.step,
                    "stage": name,
                    "core_seconds": seconds,
                    "share": seconds / max(measured["core_seconds"], 1e-9),
                    "rate": (step.rows_in or 0) / seconds if seconds > 0.005 else None,
                }
            )
    return lines


def cost_chart(lines: Sequence[dict[str, Any]]) -> Chart | None:
    """Seconds of each step; None if no time was measured."""
    timed = [line for line in lines if line["seconds"] > 0]
    if not timed:
        return None
    total, longest = sum(line["seconds"] for line in timed), max(timed, key=lambda line: line["seconds"])
    return bars(
        "Time of each step",
        f"Bars for {len(timed)} steps, {duration(total)} in all; the longest is {longest['step']} with "
        f"{duration(longest['seconds'])}.",
        [line["step"] for line in timed],
        [Series("seconds", "c1", [round(line["seconds"], 2) for line in timed])],
        "seconds",
        wide=False,
        note=f"{duration(total)} in all. A step that a later build reuses keeps the time of when it was made.",
    )

"""What does training see? Rows and tokens that the epochs draw of each source, and the mix that they make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from pipelines.audit.charts import Chart, Series, bars
from pipelines.ledger.runs import RecordedRun
from pipelines.sources import SOURCES
from pipelines.sources.source import EPOCH_SHARES
from pipelines.steps.pack import PACK

SHOWN = 20
"""Sources in the chart; the table has all."""


def coverage(run: RecordedRun) -> list[dict[str, Any]]:
    """Per source, and for all together (first): the rows and tokens there are, and what the epochs draw of them."""
    step = run.step(PACK.name)
    sources: dict[str, dict[str, Any]] = {}
    total: Counter[str] = Counter()
    for name, value in step.counts.items() if step else ():
        if name.startswith("coverage/"):
            source, what = name.removeprefix("coverage/").rsplit("/", 1)
            sources.setdefault(source, {"source": source})[what] = value
            total[what] += value
    if not sources:
        return []
    return [{"source": "all sources", **total}, *sorted(sources.values(), key=lambda line: -int(line["drawn_tokens"]))]


def mix(run: RecordedRun, lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per part of HRM-Text's corpus: its share of the tokens drawn, and of those of HRM-Text's own epochs.

    Empty if no source belongs to a part. Sources that belong to none are the part `other`.
    """
    parts = {
        spec["name"]: getattr(SOURCES.get(spec["adapter"] or ""), "part", None)
        for spec in run.info["settings"]["sources"]
    }
    if not lines or not any(part in EPOCH_SHARES for part in parts.values()):
        return []
    drawn: Counter[str] = Counter()
    for line in lines[1:]:
        part = parts.get(line["source"])
        drawn[part if part in EPOCH_SHARES else "other"] += line["drawn_tokens"]
    total = max(sum(drawn.values()), 1)
    return [
        {"part": part, "drawn": drawn[part] / total, "target": EPOCH_SHARES.get(part, 0.0)}
        for part in (*EPOCH_SHARES, "other")
        if drawn[part] or part in EPOCH_SHARES
    ]


def coverage_charts(lines: Sequence[dict[str, Any]], parts: Sequence[dict[str, Any]]) -> list[Chart]:
    """Each source's share of the tokens in the corpus and in training; and the mix of parts against HRM-Text's."""
    if not lines:
        return []
    total, *sources = lines
    shown = sources[:SHOWN]
    have, drawn = ([100 * line[what] / max(total[what], 1) for line in shown] for what in ("tokens", "drawn_tokens"))
    most = shown[0]
    charts = [
        bars(
            "Share of each source: in the corpus, and in what training reads",
            f"Bars for {len(shown)} sources. {most['source']} has {drawn[0]:.1f} % of the tokens that training reads "
            f"and {have[0]:.1f} % of those in the corpus.",
            [line["source"] for line in shown],
            [Series("in the corpus", "before", have), Series("in training", "c1", drawn)],
            "% of tokens",
            grouped=True,
        )
    ]
    if parts:
        charts.append(
            bars(
                "The mix of this training against HRM-Text's",
                "Bars for the parts of HRM-Text's corpus: "
                + ", ".join(
                    f"{one['part']} {100 * one['drawn']:.1f} %, HRM-Text {100 * one['target']:.1f} %" for one in parts
                ),
                [one["part"] for one in parts],
                [
                    Series("HRM-Text", "before", [100 * one["target"] for one in parts]),
                    Series("this run", "c1", [100 * one["drawn"] for one in parts]),
                ],
                "% of the tokens of an epoch",
                grouped=True,
                note="HRM-Text's shares are those of its own four epochs, by part of its corpus (arXiv 2605.20613).",
            )
        )
    return charts

"""Which tables does Prefect show of a run? Rows by step, items of evaluation sets found, thinking, scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flows.console import count
from pipelines.audit.report import thinking_by_source
from pipelines.ledger import storage
from pipelines.ledger.run import StepResult
from pipelines.ledger.runs import RecordedRun
from pipelines.steps.decontaminate import CONTAMINATION
from pipelines.steps.products import CLEAN_IDS
from pipelines.steps.training_overlap import TRAINING_OVERLAP, read_trained_items
from training.evaluation.scores import Score, Scores

Table = list[dict[str, Any]]


def funnel(results: Sequence[StepResult]) -> Table:
    """One line per step that takes rows: rows in, kept and dropped, the most frequent reason, seconds.

    Steps that conserve no rows, such as the tokenizer and packs, have no line. Their files are in the report.
    """
    table = []
    for result in results:
        manifest = result.manifest
        if manifest.rows_in is None:
            continue
        reason, dropped = max(manifest.reasons.items(), key=lambda pair: pair[1], default=("", 0))
        table.append(
            {
                "step": manifest.step,
                "rows in": manifest.rows_in,
                "kept": manifest.rows_kept,
                "dropped": manifest.rows_dropped,
                "most frequent reason": f"{reason} ({count(dropped)})" if dropped else "",
                "seconds": "reused" if result.reused else f"{result.seconds:.1f}",
            }
        )
    return table


def contamination(run: RecordedRun) -> Table:
    """One line per benchmark: items, those found in any row, still in the corpus, and in rows drawn for training."""
    step, drawn = run.step(CONTAMINATION.name), run.step(TRAINING_OVERLAP.name)
    table = []
    for file in step.files(CLEAN_IDS) if step else ():
        value = storage.read_json(file.path)
        name, items = value["benchmark"], value["items"]
        trained = read_trained_items(drawn, name) if drawn else None
        table.append(
            {
                "benchmark": name,
                "items": items,
                "found": len(value["contaminated"]),
                "share": f"{len(value['contaminated']) / max(items, 1):.1%}",
                "still in the corpus": len(value["remaining"]),
                "in rows drawn": len(trained["found"]) if trained else "",
            }
        )
    return table


FINDINGS = {
    "removed": "thinking in what was read",
    "left": "marks left",
    "suspected": "suspected family",
    "retagged": "retagged as direct",
    "bare_answer": "bare answer under cot",
}


def thinking(run: RecordedRun) -> Table:
    """One line per finding, source and family of tags: rows, and their share of the source's rows."""
    return [
        {
            "finding": words,
            "source": line["source"],
            "family": line["name"],
            "rows": line["rows"],
            "share": f"{line['share']:.1%}",
        }
        for finding, words in FINDINGS.items()
        for line in thinking_by_source(run)[finding]
    ]


def scores(result: Scores) -> Table:
    """One line each for all items, those not found and found in training rows, then for the splits: score and interval
    in percent."""
    named: dict[str, Score | None] = {
        "all": result.all,
        "not found": result.not_found,
        "found": result.found,
        **(result.splits if len(result.splits) > 1 else {}),
        **{f"all, {name}": score for name, score in result.scorers.items() if name != result.scorer},
    }
    return [
        {
            "items": name,
            "n": score.n,
            "correct": score.correct,
            "invalid": score.invalid,
            "score": f"{score.score:.1%}",
            "95 % interval": f"{score.low:.1%} to {score.high:.1%}",
        }
        for name, score in named.items()
        if score is not None and score.score is not None
    ]

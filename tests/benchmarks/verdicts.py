"""Verdicts: precision and recall of each filter on the labelled set, and what the gold sources lose.

The set is in tests/filters/labelled. Measured on its test half, of which nothing was used for tuning. A gold row that a
filter drops counts against its precision, in both halves. Intervals: Wilson, 95 %.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.stage import Transform, apply
from pipelines import recipe as recipes
from tests.filters.labelled import gold
from tests.filters.labelled.rows import KINDS, Share, dropped, labelled, score, stage

CUT_SOURCES, CUT_ROWS, MIN_CUT = ("gpteacher", "math", "flan_cot"), 1000, 100
"""Sources whose answers of at least MIN_CUT characters are cut, and answers of each."""
RECIPE = Path(__file__).parents[2] / "pipelines" / "recipes" / "hrm_text_mini.yaml"


def bench(data: Path | None) -> dict[str, list[dict[str, object]]]:
    """Tables by filter, by gold source, of real answers that are cut at random, and by category."""
    wrong_gold: Counter[str] = Counter()
    sources: list[dict[str, object]] = []
    cuts: list[dict[str, object]] = []
    if data is not None:
        # As the transforms of the recipe leave them: unrepaired mojibake and addresses are no false alarms.
        stages = recipes.load(str(RECIPE)).stages
        records = apply([stage for stage in stages if isinstance(stage, Transform)], gold.records(data)).kept
        cuts = [_cut_at_random(records, source) for source in CUT_SOURCES]
        for kind in KINDS:
            wrong_gold[kind] = int(np.asarray(stage(kind).judge(records).is_valid()).sum())
        outcome = apply(stages, records)
        lost = Counter(outcome.dropped["source"].to_pylist())
        for source, rows in sorted(Counter(records["source"].to_pylist()).items()):
            sources.append({"gold source": source, "rows": rows, "dropped": lost[source]})
        total, gone = records.num_rows, outcome.dropped.num_rows
        sources.append({"gold source": "all", "rows": total, "dropped": gone, "dropped %": 100 * gone / total})
    filters: list[dict[str, object]] = []
    categories: list[dict[str, object]] = []
    for kind in KINDS:
        result = score(kind, data, True, wrong_gold[kind])
        filters.append(
            {
                "filter": kind,
                "precision": str(result.precision),
                "recall": str(result.recall),
                "gold rows dropped": wrong_gold[kind] if data else "",
            }
        )
        judge = stage(kind)
        for label, rows in zip(("keep", "drop"), labelled(kind, data, True), strict=True):
            counts = Counter(row.category for row in rows)
            found = Counter(row.category for row, hit in zip(rows, dropped(judge, rows), strict=True) if hit)
            categories += [
                {"filter": kind, "must": label, "category": category, "rows": total, "dropped": found[category]}
                for category, total in counts.items()
            ]
    return {
        "By filter": filters,
        "By gold source, all filters of the mini recipe": sources,
        "Real answers, each cut at a random word": cuts,
        "By category": categories,
    }


def _cut_at_random(records: pa.Table, source: str) -> dict[str, object]:
    """How many of a source's answers `truncated` finds, if each ends behind a random word.

    Cuts behind a mark, a bracket or a formula are left out, as are those at the end of a line: what is left of them may
    be whole. Nothing tells the cut of a short answer or of a line of a program, so the bar of 90 % does not hold here.
    """
    rng = random.Random(source)
    chosen = records.filter(
        pc.and_(pc.equal(records["source"], source), pc.greater_equal(pc.utf8_length(records["response"]), MIN_CUT))
    )
    chosen = chosen.take(rng.sample(range(chosen.num_rows), min(CUT_ROWS, chosen.num_rows)))
    rows, responses = [], []
    for row, response in enumerate(chosen["response"].to_pylist()):
        begin = response.find(" ", int(len(response) * rng.uniform(0.4, 0.9)))
        if begin > 0 and response[begin - 1].isalnum() and not response[begin:].lstrip(" ").startswith("\n"):
            rows.append(row)
            responses.append(response[:begin])
    cut = chosen.take(rows)
    cut = cut.set_column(cut.schema.get_field_index("response"), "response", pa.array(responses, pa.string()))
    found = int(np.asarray(stage("truncated").judge(cut).is_valid()).sum())
    return {"source": source, "found": str(Share(found, len(rows)))}

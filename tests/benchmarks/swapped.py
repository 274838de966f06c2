"""How many planted wrong pairs does the perplexity ratio of an n-gram model find?

One response in ten of a source is exchanged for that of another such row of the source. The model is trained on all
rows, the planted ones too, as it would be in a recipe. The limit of each source is chosen on one planting, and measured
on another.
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from statsmodels.stats.proportion import proportion_confint

from filters.scores.holdout import auc
from filters.scores.perplexity import Perplexity
from tests.benchmarks.__main__ import Row
from tests.benchmarks.perplexity import Pairs, load

SHARE = 10
"""One row in so many gets the response of another."""
MOST = 4000
"""Rows of a source."""

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


def bench(data: Path | None) -> dict[str, list[Row]]:
    """The tables. Without real data there is nothing to measure."""
    if data is None:
        return {}
    sources = {name: rows[:MOST] for name, rows in load(data / "sources").items()}
    chosen, measured = (_measure(sources, seed) for seed in (1, 2))
    table: list[Row] = []
    for name, (values, planted) in measured.items():
        limit = _limit(*chosen[name])
        table.append(_line(name, limit, values, planted) | {"without labels": _found(values > 1, planted)})
    return {"Responses of other rows, found by `perplexity_ifd`": table}


def plant(rows: Pairs, seed: int) -> tuple[Pairs, Bools]:
    """The rows with planted ones, and which these are. Their responses move on by one among them."""
    places = sorted(random.Random(seed).sample(range(len(rows)), len(rows) // SHARE))
    moved = list(rows)
    for place, other in zip(places, [*places[1:], places[0]], strict=True):
        moved[place] = (rows[place][0], rows[other][1])
    planted = np.array([before[1] != after[1] for before, after in zip(rows, moved, strict=True)], np.bool_)
    return moved, planted


def _measure(sources: dict[str, Pairs], seed: int) -> dict[str, tuple[Floats, Bools]]:
    """Of each source the ratios and which rows are planted; rows without a ratio are left out."""
    made = {name: plant(rows, seed) for name, rows in sources.items()}
    everything = [row for rows, _ in made.values() for row in rows]
    random.Random(seed).shuffle(everything)
    score = Perplexity.model_validate({"name": "perplexity", "rows": ["all"]})
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        model = str(Path(folder, "model"))
        score.train(_records(everything), model)
        for name, (rows, planted) in made.items():
            values = np.asarray(score.measure(_records(rows), model)["score_perplexity_ifd"].to_numpy(), np.float64)
            known = ~np.isnan(values)
            found[name] = values[known], planted[known]
    return found


def _records(rows: Pairs) -> pa.Table:
    return pa.table({"instruction": [row[0] for row in rows], "response": [row[1] for row in rows]})


def _limit(values: Floats, planted: Bools) -> float:
    """The lowest limit above which at least 93 % of the rows are planted."""
    order = np.argsort(-values)
    precision = np.cumsum(planted[order]) / np.arange(1, len(order) + 1)
    good = np.flatnonzero(precision >= 0.93)
    return float(values[order[good[-1]]]) if len(good) else float("inf")


def _line(name: str, limit: float, values: Floats, planted: Bools) -> Row:
    flagged = values >= limit
    hits, flags, total = int((flagged & planted).sum()), int(flagged.sum()), int(planted.sum())
    return {
        "source": name,
        "rows": len(values),
        "planted": total,
        "AUC": round(auc(planted, values), 3),
        "limit": round(limit, 3),
        "recall": _share(hits, total),
        "precision": _share(hits, flags),
    }


def _found(flagged: Bools, planted: Bools) -> str:
    hits = int((flagged & planted).sum())
    return f"recall {hits / max(planted.sum(), 1):.2f}, precision {hits / max(flagged.sum(), 1):.2f}"


def _share(hits: int, total: int) -> str:
    if not total:
        return "-"
    low, high = proportion_confint(hits, total, method="wilson")
    return f"{hits / total:.2f} ({low:.2f} to {high:.2f})"

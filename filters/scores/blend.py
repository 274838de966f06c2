"""Several scores as one, weighted by the rows that a recipe wants and those that it does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from filters.cut import column_of, measured
from filters.scores.holdout import auc, auc_within, check_rows, held_out
from filters.scores.score import Choices, Names, Rows, TrainedScore
from filters.text import TextField

POSITIVE, NEGATIVE = "positive", "negative"

PENALTY = 1e-3
"""Of the squared weights, per row."""

CLIPPED = (0.01, 0.99)
"""Values beyond these quantiles of the training rows count as these."""

Floats = npt.NDArray[np.float64]


class Blend(TrainedScore):
    """Log-odds that a row is one of the positives and not of the negatives, from its values of earlier scores.

    0 is even odds where both labels are equally frequent; high is good. Each score counts with its value, its square,
    and whether it is missing, so a score that is best in the middle is of use too. A row that no score has measured is
    null.

    of: names of scores that are listed before. positives, negatives: choices of rows; best of a user's own ratings.
    """

    VERSION: ClassVar[int] = 1

    kind: Literal["blend"] = "blend"
    of: Names = Field(min_length=1)
    positives: Choices
    negatives: Choices

    @property
    def needs(self) -> tuple[str, ...]:
        """The scores that are blended."""
        return self.of

    @property
    def training(self) -> dict[str, tuple[Rows, ...]]:
        """The rows of `positive` and `negative`."""
        return {POSITIVE: self.positives, NEGATIVE: self.negatives}

    @property
    def reads(self) -> tuple[TextField, ...]:
        """None but those of the scores that are blended."""
        return ()

    def held_out(self, rows: pa.Table) -> npt.NDArray[np.bool_]:
        """One row in five."""
        return held_out(rows)

    def train(self, rows: pa.Table, path: str) -> dict[str, float]:
        """Fit on four rows in five. Measured on the fifth: `auc`; `auc_<score>` of each score alone, in the direction
        that is better; `auc_length`, `auc_source` and `auc_within_source` as of a classifier; and the rows.

        Raises: ValueError: if a label has too few rows; the message names it.
        """
        labels = np.array(rows["label"].to_pylist(), np.str_)
        held = held_out(rows)
        check_rows(labels, (POSITIVE, NEGATIVE), held)
        positive, values = labels == POSITIVE, _values(rows, self.of)
        scaling = _scaling(values[~held])
        weights = _fit(_features(values[~held], scaling), positive[~held])
        Path(path).write_text(json.dumps({"scaling": scaling.tolist(), "weights": weights.tolist()}), encoding="utf-8")
        output = _features(values, scaling) @ weights
        source = np.array(rows["source"].to_pylist(), np.str_)
        shares = {name: positive[~held & (source == name)] for name in np.unique(source)}
        of_source = np.array([shares[name].mean() if len(shares[name]) else 0.5 for name in source])
        length = np.asarray(pc.utf8_length(rows["response"]), np.float64)
        filled = np.where(np.isnan(values), scaling[2], values)
        alone = dict(zip(self.of, filled.T, strict=True))
        measures = {
            "auc": auc(positive[held], output[held]),
            **{f"auc_{name}": _best_auc(positive[held], column[held]) for name, column in alone.items()},
            "auc_length": _best_auc(positive[held], length[held]),
            "auc_source": auc(positive[held], of_source[held]),
            "auc_within_source": auc_within(positive[held], output[held], source[held]),
            f"rows_{POSITIVE}": float(positive.sum()),
            f"rows_{NEGATIVE}": float((~positive).sum()),
            "rows_held_out": float(held.sum()),
        }
        return {name: round(float(value), 4) for name, value in measures.items() if not np.isnan(value)}

    def measure(self, records: pa.Table, model: str | None = None) -> pa.Table:
        """The column `score_<name>` [rows], float32. records: with the columns of the scores that are blended."""
        assert model is not None
        trained = json.loads(Path(model).read_text(encoding="utf-8"))
        values = _values(records, self.of)
        output = _features(values, np.array(trained["scaling"])) @ np.array(trained["weights"])
        output[np.isnan(values).all(axis=1)] = np.nan
        return pa.table([pa.array(output.astype(np.float32), from_pandas=True)], schema=pa.schema(self.columns))


def _best_auc(positive: npt.NDArray[np.bool_], values: Floats) -> float:
    found = auc(positive, values)
    return max(found, 1 - found)


def _values(records: pa.Table, names: tuple[str, ...]) -> Floats:
    """The scores [rows, scores], NaN where there is none."""
    columns = [column_of(name, tuple(records.column_names)) for name in names]
    assert None not in columns, "checked before the build"
    values = np.stack([measured(records[column]) for column in columns], axis=1).astype(np.float64)
    values[~np.isfinite(values)] = np.nan
    return values


def _scaling(values: Floats) -> Floats:
    """Lower and upper limit, mean and standard deviation of each score [4, scores]."""
    filled = np.where(np.isnan(values).all(axis=0), 0.0, values)
    low, high = np.nanquantile(filled, CLIPPED, axis=0)
    clipped = np.clip(filled, low, high)
    spread = np.nanstd(clipped, axis=0)
    return np.stack([low, high, np.nanmean(clipped, axis=0), np.where(spread > 0, spread, 1.0)])


def _features(values: Floats, scaling: Floats) -> Floats:
    """Each score scaled, its square, whether it is missing; and 1: [rows, 3 scores + 1]. A missing one is the mean."""
    low, high, mean, spread = scaling
    missing = np.isnan(values)
    scaled = np.where(missing, 0.0, (np.clip(values, low, high) - mean) / spread)
    return np.concatenate([scaled, scaled**2, missing.astype(np.float64), np.ones((len(values), 1))], axis=1)


def _fit(features: Floats, positive: npt.NDArray[np.bool_]) -> Floats:
    """The weights of a logistic regression in which both labels weigh the same, by Newton's method."""
    weights = 0.5 / np.where(positive, positive.sum(), (~positive).sum())
    penalty = PENALTY * np.eye(features.shape[1])
    penalty[-1, -1] = 1e-9
    fitted = np.zeros(features.shape[1])
    for _ in range(100):
        odds = 1 / (1 + np.exp(-np.clip(features @ fitted, -30, 30)))
        gradient = features.T @ (weights * (odds - positive)) + penalty @ fitted
        curvature = (features.T * (weights * odds * (1 - odds))) @ features + penalty
        step = np.linalg.solve(curvature, gradient)
        fitted -= step
        if np.abs(step).max() < 1e-9:
            break
    return fitted

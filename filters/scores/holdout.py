"""What is measured of a trained score: on rows that it was not trained on, beside length alone and source alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

SHARE = 5
"""One row in so many is held out."""

MIN_ROWS = 50
"""Rows that a label needs."""


def held_out(rows: pa.Table) -> npt.NDArray[np.bool_]:
    """Which rows are held out: bool [rows], by the hash of the instruction, so rows with the same one stay together."""
    texts = rows["instruction"].to_pylist()
    return np.array(
        [hashlib.blake2b(text.encode(), digest_size=2).digest()[0] % SHARE == 0 for text in texts], np.bool_
    )


def unseen(texts: Sequence[pa.Array], held: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which rows are held out and have another text than all rows that are trained on: bool [rows]. The others say how
    well texts are remembered.

    texts: strings [rows] of each field, as the model reads them.
    """
    joined = pc.binary_join_element_wise(*texts, pa.scalar("\0", texts[0].type))
    trained = joined.filter(pa.array(~held))
    return held & ~np.asarray(pc.is_in(joined, value_set=trained).to_numpy(zero_copy_only=False), np.bool_)


def check_rows(labels: npt.NDArray[np.str_], wanted: tuple[str, ...], held: npt.NDArray[np.bool_]) -> None:
    """Raises: ValueError: if a label has fewer than MIN_ROWS rows, or none that is held out or trained on."""
    for label in wanted:
        mine = labels == label
        count, out = int(mine.sum()), int((mine & held).sum())
        if count < MIN_ROWS:
            raise ValueError(
                f"the label {label!r} has {count} rows, it needs {MIN_ROWS}; choose more rows "
                "for it, or relax its `min` or `max`"
            )
        if out in (0, count):
            raise ValueError(
                f"all {count} rows of the label {label!r} have the same few instructions, so "
                "none can be held out; choose rows with different instructions"
            )


def auc(positive: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64]) -> float:
    """The share of pairs of a positive and a negative row in which the positive one has the higher score; ties count
    half. NaN without pairs."""
    count, others = int(positive.sum()), int((~positive).sum())
    if not count or not others:
        return float("nan")
    return float((ranks(scores)[positive].sum() - count * (count + 1) / 2) / (count * others))


def auc_within(positive: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64], groups: npt.NDArray[np.str_]) -> float:
    """As `auc`, over the pairs within a group. NaN if no group has both labels."""
    total, pairs = 0.0, 0
    for group in np.unique(groups):
        mine = groups == group
        count = int(positive[mine].sum()) * int((~positive[mine]).sum())
        if count:
            total += count * auc(positive[mine], scores[mine])
            pairs += count
    return total / pairs if pairs else float("nan")


def ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Ranks from 1, equal values at their mean rank: float64 [rows]."""
    result: npt.NDArray[np.float64] = pl.Series(values).rank("average").to_numpy()
    return result


def spearman(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """Spearman's rank correlation; 0 if one of them is constant."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def match_lengths(texts: pa.Array, positive: npt.NDArray[np.bool_]) -> pa.Array:
    """The texts, cut so that both labels have the same distribution of lengths.

    A text at some quantile of the lengths of its label is cut to the length at this quantile of the other label, if it
    is longer. A model that is trained on the cut texts cannot learn that long ones, or short ones, are good.

    texts: tokens, each with a space after it (`features.tokens`) [rows].
    """
    strings = texts.to_pylist()
    lengths = np.array([len(text) for text in strings], np.int64)
    limits = np.zeros(len(strings), np.int64)
    for label in (True, False):
        mine, others = positive == label, np.sort(lengths[positive != label])
        quantiles = (ranks(lengths[mine].astype(np.float64)) - 0.5) / mine.sum()
        limits[mine] = others[(quantiles * len(others)).astype(np.int64)]
    cut = [
        text if len(text) <= limit else text[: text.rfind(" ", 0, limit) + 1]
        for text, limit in zip(strings, limits.tolist(), strict=True)
    ]
    return pa.array(cut, pa.large_string())


def calibrate(positive: npt.NDArray[np.bool_], outputs: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Platt's scale and shift, with which `scale * output + shift` is the log-odds of a positive row where both labels
    are equally frequent. Source: Platt 1999, with his smoothed targets.
    """
    counts = np.where(positive, positive.sum(), (~positive).sum()).astype(np.float64)
    weights = 0.5 / counts
    targets = np.where(positive, (counts + 1) / (counts + 2), 1 / (counts + 2))
    centre, spread = float(outputs.mean()), float(outputs.std()) or 1.0
    inputs = np.stack([(outputs - centre) / spread, np.ones(len(outputs))], axis=1)
    fitted = np.zeros(2)
    for _ in range(100):  # Newton's method, with a small penalty that keeps it defined
        odds = 1 / (1 + np.exp(-np.clip(inputs @ fitted, -30, 30)))
        gradient = inputs.T @ (weights * (odds - targets)) + 1e-6 * fitted
        curvature = (inputs.T * (weights * odds * (1 - odds))) @ inputs + 1e-6 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        fitted -= step
        if np.abs(step).max() < 1e-9:
            break
    scale = max(float(fitted[0]), 1e-3) / spread  # high is good, also where the model has learned nothing
    return scale, float(fitted[1]) - scale * centre

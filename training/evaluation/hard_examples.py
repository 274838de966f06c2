"""Which rows are easy, hard, or wrongly paired? From their losses early and late in training.

**Noise** is a response that does not belong to its instruction. A high loss does not show it: most rows with a high
loss are hard, long or rare. What shows it is that the instruction does not help: the response is no more likely after
its own instruction than after those of other rows of its source. The losses after other instructions are also examples
of mispaired rows, so no labels are needed. In each source, a logistic regression learns to tell own instructions from
others, and gives each row the probability that its own one is another row's.

How good that is depends on the model, and is estimated without labels. Recall is the share of mispairings that a limit
catches. The share of noise in the source is at most that by which rows at the far end are explained, which gives the
precision. Where the estimate is poor, no row is called noise: a model that has not learned a source cannot judge it.

Among the other rows, quarters of the loss within source and length are **easy** and **hard**; a hard row is one whose
loss also fell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from training.evaluation.losses import OTHERS

Floats = npt.NDArray[np.float64]

NAMES = ("easy", "usual", "hard", "noise")
"""The classes. The number of a class is its place."""

MIN_GROUP = 100
"""Measured rows of a source that is judged by itself. Smaller ones are judged together."""

MIN_F1, MAX_SHARE = 0.5, 0.3
"""Rows are called noise where the F1 of the estimated precision and recall is at least this, and at most this share of
the source seems to be noise. Where more does, the model cannot tell instructions apart at all."""

QUARTER = 0.25
"""Share of the rows of a band with the lowest loss that is easy, and with the highest that is hard if it fell."""

BANDS = 3
"""Bands of length, equal in rows, within which losses are compared."""

RIDGE = 1.0
NEWTON_STEPS = 25


class NoiseFit(BaseModel):
    """How well noise can be told from other rows in a source, estimated without labels.

    rows: measured. limit: of the probability. share: of noise among the rows, estimated. recall, precision: of the rows
    at the limit, estimated. called: rows that are called noise; 0 where precision and recall are too low.
    """

    model_config = ConfigDict(frozen=True)

    rows: int
    limit: float
    share: float
    recall: float
    precision: float
    called: int


class Classes(NamedTuple):
    """Of rows [rows]. noise: float32, the probability of a wrong pairing. number: float32, place in NAMES. name:
    string. All are null for rows that were not measured. fits: source -> how well its noise can be told."""

    noise: pa.Array
    number: pa.Array
    name: pa.Array
    counts: dict[str, int]
    fits: dict[str, NoiseFit]


def classify(losses: pa.Table, first: pa.Table | None = None) -> Classes:
    """The class of each row [rows].

    losses: of the last model, by `row_losses` with `others`. first: those of the first model; without them no row is
    hard.
    """
    own, alone = _numbers(losses["loss"]), _numbers(losses["alone"])
    others = np.stack([_numbers(losses[name]) for name in OTHERS], 1)
    fall = np.full(len(own), np.nan) if first is None else _numbers(first["loss"]) - own
    tokens = _numbers(losses["tokens"])
    measured = ~np.isnan(own)
    paired = measured & ~np.isnan(others).any(1)
    noise, number = np.full(len(own), np.nan), np.full(len(own), float(NAMES.index("usual")))
    fits = {}
    for group, rows in _groups(losses["source"], paired).items():
        probability, fit = _noise(own[rows], alone[rows], others[rows], tokens[rows])
        noise[rows], fits[group] = probability, fit
        if fit.called:
            number[rows[probability >= fit.limit]] = NAMES.index("noise")
    for rows in _groups(losses["source"], measured).values():
        rest = rows[number[rows] != NAMES.index("noise")]
        for band in np.array_split(rest[np.argsort(tokens[rest], kind="stable")], BANDS):
            number[band] = _quarters(own[band], fall[band])
    number[~measured] = np.nan
    names = pa.array(NAMES, pa.string()).take(pa.array(np.nan_to_num(number).astype(np.int32), mask=~measured))
    counts = {name: int((number == place).sum()) for place, name in enumerate(NAMES)}
    return Classes(_floats(noise), _floats(number), names, counts, fits)


def _numbers(column: pa.ChunkedArray) -> Floats:
    return np.asarray(pc.fill_null(column.cast(pa.float64()), np.nan).to_numpy(), np.float64)


def _floats(values: Floats) -> pa.Array:
    return pa.array(values.astype(np.float32), mask=np.isnan(values))


def _groups(source: pa.ChunkedArray, chosen: npt.NDArray[np.bool_]) -> dict[str, npt.NDArray[np.int64]]:
    """Source -> the chosen rows. Sources with fewer than MIN_GROUP are together, under the empty name."""
    names = np.asarray(source.to_pylist(), object)
    groups: dict[str, npt.NDArray[np.int64]] = {}
    few = []
    for name in sorted(set(names[chosen])):
        rows = np.flatnonzero(chosen & (names == name))
        if len(rows) < MIN_GROUP:
            few.append(rows)
        else:
            groups[str(name)] = rows
    return groups | ({"": np.concatenate(few)} if few else {})


def _features(loss: Floats, alone: Floats, references: Floats, tokens: Floats) -> Floats:
    """What is known of a pairing [rows, 6]: its loss, and by how much it is above those without and with other
    instructions, per token and for the whole response."""
    gain, reference = loss - alone, loss - references.mean(1)
    size = np.sqrt(tokens)
    return np.stack([loss, alone, gain, reference, gain * size, reference * size], 1)


def _noise(own: Floats, alone: Floats, others: Floats, tokens: Floats) -> tuple[Floats, NoiseFit]:
    """The probability that an instruction is another row's, for rows [rows] of a source, and how good it is."""
    # The last of the other instructions is the example of a wrong pairing; the rest are references for it and for the
    # row's own instruction.
    references, wrong = others[:, :-1], others[:, -1]
    right = _features(own, alone, references, tokens)
    wrongly = _features(wrong, alone, references, tokens)
    both = np.concatenate([right, wrongly])
    weights = _logistic(both, np.repeat([0.0, 1.0], len(own)))
    probability, null = np.split(weights(both), 2)
    limits = np.quantile(null, np.arange(0.02, 1, 0.02))
    recall = np.array([(null >= limit).mean() for limit in limits])
    flagged = np.array([(probability >= limit).mean() for limit in limits])
    # Right pairings above a limit only add to the rows there, so no more than this share is noise. A standard error
    # is added to the rows, because the least of many ratios is too low by chance.
    bound = (flagged + np.sqrt(flagged / len(own))) / recall
    share = float(np.min(bound[(recall >= 0.2) & (recall <= 0.9)]))
    precision = np.minimum(share * recall / np.maximum(flagged, 1e-12), 1.0)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(np.argmax(f1))
    is_good = 0 < share <= MAX_SHARE and f1[best] >= MIN_F1
    called = int((probability >= limits[best]).sum()) if is_good else 0
    fit = NoiseFit(
        rows=len(own), limit=float(limits[best]), share=share, recall=float(recall[best]),
        precision=float(precision[best]), called=called,
    )  # fmt: skip
    return probability, fit


def _logistic(features: Floats, labels: Floats) -> Callable[[Floats], Floats]:
    """Features [rows, n] -> the probability of label 1, fitted with a ridge penalty by Newton's method."""
    mean, scale = features.mean(0), features.std(0) + 1e-9

    def design(values: Floats) -> Floats:
        return np.concatenate([np.ones((len(values), 1)), (values - mean) / scale], 1)

    x = design(features)
    weights = np.zeros(x.shape[1])
    penalty = RIDGE * np.diag([0.0, *np.ones(features.shape[1])])
    for _ in range(NEWTON_STEPS):
        p = _sigmoid(x @ weights)
        slope = x.T @ (p - labels) + penalty @ weights
        curvature = (x * (p * (1 - p))[:, None]).T @ x + penalty + 1e-9 * np.eye(len(weights))
        weights = weights - np.linalg.solve(curvature, slope)
    return lambda values: _sigmoid(design(values) @ weights)


def _sigmoid(values: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -40, 40))), np.float64)


def _quarters(own: Floats, fall: Floats) -> Floats:
    """Places in NAMES of the rows of a band [rows]: the lowest losses are easy, the highest are hard if they fell."""
    if not len(own):
        return own
    low, high = np.quantile(own, [QUARTER, 1 - QUARTER])
    places = np.full(len(own), float(NAMES.index("usual")))
    with np.errstate(invalid="ignore"):
        places[(own >= high) & (fall > 0)] = NAMES.index("hard")
    places[own <= low] = NAMES.index("easy")
    return places

"""Which rows are easy, hard, or wrongly paired? From their losses early and late in training.

**Noise** is a response that does not belong to its instruction. A high loss does not show it: most rows with a high
loss are hard, long or rare. What shows it is that the instruction does not help: the response is no more likely after
its own instruction than after those of other rows of its source; and that the model is sure of something else. The
losses after other instructions are also examples of mispaired rows, so no labels are needed. In each source, a logistic
regression learns to tell own instructions from others, and gives each row the log-odds that its own one is another
row's.

How good that is depends on the model, and is estimated without labels. The log-odds of a source's rows are a mixture.
The part that is noise has the distribution of the mispairings, or one a little lower, since the model was trained on
the noise and on no mispairing: what fits best. The rest is two Gaussians, which lie where most rows lie. The fit gives
the share of the noise, and for any limit how much of it lies above, and how much of what lies above is noise. Where
either is too low, no row is called noise: a model that has not learned a source cannot judge it.

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

MIN_ESTIMATE, MAX_SHARE = 0.85, 0.3
"""Rows are called noise where the estimated precision and recall are at least this, and at most this share of the
source seems to be noise. Where more does, the model cannot tell instructions apart at all."""

FEW = 5
"""Rows of noise, estimated. With fewer a precision cannot be estimated, and none is called."""

QUARTER = 0.25
"""Share of the rows of a band with the lowest loss that is easy, and with the highest that is hard if it fell."""

BANDS = 3
"""Bands of length, equal in rows, within which losses are compared."""

RIDGE = 1.0
NEWTON_STEPS = 25

EDGES = np.arange(-12, 8.25, 0.25)
"""Of the bins of log-odds. What lies beyond counts for the outermost ones."""

BINS = (EDGES[1:] + EDGES[:-1]) / 2

SMOOTHING, MIN_SPREAD = 0.4, 0.3
"""Standard deviation of the kernel of the mispairings, and the least one of a Gaussian, in log-odds."""

READ = (0.0, 0.25, 0.5)
"""By how much the log-odds of noise that the model was trained on may be below those of mispairings."""

EM_STEPS = 60


class NoiseFit(BaseModel):
    """How well noise can be told from other rows in a source, estimated without labels.

    rows: measured. limit: of the probability. share: of noise among the rows, estimated. recall, precision: of the rows
    at the limit, estimated. judged: whether the model can tell noise here, so that rows are called noise. called: rows
    that are called noise.
    """

    model_config = ConfigDict(frozen=True)

    rows: int
    limit: float
    share: float
    recall: float
    precision: float
    judged: bool
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
    margins = np.stack([_numbers(losses[name]) for name in ("margin", "worst", "other_margin", "other_worst")], 1)
    fall = np.full(len(own), np.nan) if first is None else _numbers(first["loss"]) - own
    tokens = _numbers(losses["tokens"])
    measured = ~np.isnan(own)
    paired = measured & ~np.isnan(others).any(1)
    noise, number = np.full(len(own), np.nan), np.full(len(own), float(NAMES.index("usual")))
    fits = {}
    for group, rows in _groups(losses["source"], paired).items():
        probability, fit = _noise(own[rows], alone[rows], others[rows], margins[rows], tokens[rows])
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


def _features(loss: Floats, alone: Floats, references: Floats, margins: Floats, tokens: Floats) -> Floats:
    """What is known of a pairing [rows, 9]: its loss, and by how much it is above those without and with other
    instructions, per token and for the whole response; by how much the model finds other tokens likelier, per token,
    for the whole response and at most.

    references: losses after other instructions [rows, n]. margins: per token, and of the worst token [rows, 2].
    """
    gain, reference = loss - alone, loss - references.mean(1)
    size = np.sqrt(tokens)
    margin, worst = margins.T
    return np.stack([loss, alone, gain, reference, gain * size, reference * size, margin, margin * tokens, worst], 1)


def _noise(own: Floats, alone: Floats, others: Floats, margins: Floats, tokens: Floats) -> tuple[Floats, NoiseFit]:
    """The probability that an instruction is another's, for rows [rows] of a source, and how good it is."""
    # The last of the other instructions is the example of a wrong pairing; the rest are references for it and for the
    # row's own instruction.
    references, wrong = others[:, :-1], others[:, -1]
    right = _features(own, alone, references, margins[:, :2], tokens)
    wrongly = _features(wrong, alone, references, margins[:, 2:], tokens)
    both = np.concatenate([right, wrongly])
    odds, null = np.split(_logistic(both, np.repeat([0.0, 1.0], len(own)))(both), 2)
    mixture = _mixture(odds, null)
    best = int(np.argmax(np.minimum(mixture.recall, mixture.precision)))
    recall, precision = float(mixture.recall[best]), float(mixture.precision[best])
    probability, limit = _sigmoid(odds), float(_sigmoid(EDGES[best]))
    is_enough = FEW <= mixture.share * len(own) <= MAX_SHARE * len(own)
    judged = is_enough and min(recall, precision) >= MIN_ESTIMATE
    fit = NoiseFit(
        rows=len(own), limit=limit, share=mixture.share, recall=recall, precision=precision, judged=judged,
        called=int((probability >= limit).sum()) if judged else 0,
    )  # fmt: skip
    return probability, fit


class Mixture(NamedTuple):
    """share: of noise among the rows. recall, precision: of the rows from each of EDGES on but the last [bins].
    likelihood: the logarithm."""

    share: float
    recall: Floats
    precision: Floats
    likelihood: float


def _mixture(odds: Floats, null: Floats) -> Mixture:
    """Rows with these log-odds as a mixture of noise and others: of those with one of READ, the likeliest.

    null: log-odds of mispairings.
    """
    return max((_fitted(odds, null - below) for below in READ), key=lambda mixture: mixture.likelihood)


def _fitted(odds: Floats, null: Floats) -> Mixture:
    """The mixture of noise, with the distribution of `null`, and of others, which are two Gaussians, by
    expectation-maximisation."""
    rows, noise = _histogram(odds), _smooth(_histogram(null))
    total, below = rows.sum(), np.cumsum(rows)
    # Most rows are no noise, so the Gaussians lie among these. Free, one of them would take the place of the noise.
    middle, highest = (BINS[np.searchsorted(below, share * total)] for share in (0.5, 1 - MAX_SHARE))
    means, spreads = np.minimum([middle - 1, middle + 0.3], highest), np.full(2, 1.2)
    shares = np.array([0.1, 0.45, 0.45])
    posterior, likelihood = np.zeros((3, len(BINS))), 0.0
    for _ in range(EM_STEPS):
        gaussians = np.exp(-0.5 * ((BINS - means[:, None]) / spreads[:, None]) ** 2) / spreads[:, None]
        gaussians = gaussians / gaussians.sum(1, keepdims=True) + 1e-9
        parts = shares[:, None] * np.concatenate([noise[None], gaussians])
        posterior, likelihood = parts / parts.sum(0), float(rows @ np.log(parts.sum(0)))
        each = posterior * rows
        shares = each.sum(1) / total
        weights = np.maximum(each[1:].sum(1), 1e-9)
        means = np.minimum((each[1:] * BINS).sum(1) / weights, highest)
        variances = (each[1:] * (BINS - means[:, None]) ** 2).sum(1) / weights
        spreads = np.maximum(np.sqrt(variances), MIN_SPREAD)
    above, hits, recall = (np.cumsum(values[::-1])[::-1] for values in (rows, rows * posterior[0], noise))
    return Mixture(float(shares[0]), recall, hits / np.maximum(above, 1e-12), likelihood)


def _histogram(odds: Floats) -> Floats:
    """Rows in each bin."""
    return np.histogram(np.clip(odds, BINS[0], BINS[-1]), EDGES)[0].astype(np.float64)


def _smooth(rows: Floats) -> Floats:
    """Rows in bins as a distribution that is nowhere 0."""
    distance = np.arange(-8, 9) * (EDGES[1] - EDGES[0])
    kernel = np.exp(-0.5 * (distance / SMOOTHING) ** 2)
    smooth = np.convolve(rows, kernel / kernel.sum(), "same") + 1e-3
    return np.asarray(smooth / smooth.sum(), np.float64)


def _logistic(features: Floats, labels: Floats) -> Callable[[Floats], Floats]:
    """Features [rows, n] -> the log-odds of label 1, fitted with a ridge penalty by Newton's method."""
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
    return lambda values: np.asarray(design(values) @ weights, np.float64)


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

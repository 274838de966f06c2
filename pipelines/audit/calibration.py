"""Do scores agree with people's ratings, within each subject, and better than length alone or the source alone?

Two kinds of ratings. Absolute ones are numbers. Preferences compare two responses: 1 for the first, -1 for the second,
0 for a tie; the score, and the length, of such a pair is that of the first minus that of the second.

Measures of agreement, both with a percentile interval of a bootstrap over clusters (questions). A bootstrap of a share
that is near 0 or 1, or of few rows, has too narrow an interval, and none where all rows agree. Where its interval
reaches 0 or 1, or fewer than FEW clusters have good (or other) rows, it is widened to that of a score test, with as
many rows as there are clusters: Wilson's for a share, Newcombe's for an AUC.

- `spearman`: the rank correlation with the mean rating. Of pairs, that of differences with the mean preference, where
  each pair counts in both orders.
- `auc`: the share of (good, other) rows in which the good one has the higher score, ties half. Of pairs, the
  accuracy: the share of pairs with a preference in which the preferred response has the higher score, ties half.

The two baselines are measured on the same rows. Length is the number of characters of the response, in the direction
that agrees best within the group. The source is the rank of the row's source among all by mean rating, over the other
folds of the questions, so that no row predicts itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

RESAMPLES = 1_000
"""Of the bootstrap. With the fixed seed the ends of an interval are stable to about a tenth of its width."""

ISOTONIC_RESAMPLES = 200
CONFIDENCE = 0.95
Z = 1.959964
"""The quantile of the normal distribution for this confidence."""
SEED = 0
FOLDS = 10
MIN_RATINGS = 200
"""Of a subject whose numbers are taken as a result; those of smaller ones are shown and marked."""

FEW = 30
"""Clusters with good rows, or with others, below which a bootstrap's interval of the AUC is not enough."""

KEPT_SHARES = (0.95, 0.9, 0.8)
"""Shares of the good rows that thresholds keep."""

BINS = 10
CURVE_POINTS = 41
CURVE_SUBJECTS = 5
"""Subjects with a curve of their own, the largest."""

ALL = "all"
"""The name of the group of all rows."""

Floats = npt.NDArray[np.float64]
Names = npt.NDArray[np.str_]

TINY = 1e-9
"""Differences that are rounding errors."""

MIN_ROWS = 10
"""Rows in a group of which anything is computed."""


class Ratings(NamedTuple):
    """Ratings of n rows by r people; of n pairs of rows if `pairs`.

    values: [n, r], NaN where a person did not rate. subject, cluster: [n]; rows of one cluster (question) are not
    independent. length: [n] characters of the response. source: [n, 1], of pairs [n, 2]; empty where unknown. cut: a
    row is good from this mean rating on; None for the lowest rating above the middle of the scale.
    """

    values: Floats
    pairs: bool
    subject: Names
    cluster: Names
    length: Floats
    source: Names
    cut: float | None = None

    @property
    def mean(self) -> Floats:
        """Over the people who rated a row; [n]."""
        return np.asarray(np.nanmean(self.values, axis=1), np.float64)

    def of(self, mask: npt.NDArray[np.bool_]) -> Ratings:
        """The ratings of some rows."""
        return self._replace(
            values=self.values[mask],
            subject=self.subject[mask],
            cluster=self.cluster[mask],
            length=self.length[mask],
            source=self.source[mask],
        )


class Estimate(BaseModel):
    """A value and its 95 % interval."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float
    high: float


class Measures(BaseModel):
    """Agreement of one series of numbers with the ratings. None where it has no value: all numbers are equal."""

    model_config = ConfigDict(frozen=True)

    spearman: Estimate | None
    auc: Estimate | None


class Group(BaseModel):
    """Agreement within one subject, or over all rows.

    ratings: rows with a score. clusters: questions. missing: rows without a score. small: fewer than MIN_RATINGS.
    source: None if the rows have one source or none is known. over_length, over_source: the score's main measure
    (Spearman; accuracy for pairs) less that of the baseline, by a paired bootstrap.
    """

    model_config = ConfigDict(frozen=True)

    subject: str
    ratings: int
    clusters: int
    missing: int
    small: bool
    score: Measures
    length: Measures
    source: Measures | None
    over_length: Estimate | None
    over_source: Estimate | None

    @property
    def beats_length(self) -> bool:
        """Whether the interval of the difference is above 0."""
        return self.over_length is not None and self.over_length.low > TINY

    @property
    def beats_source(self) -> bool:
        """The same; true where there is no second source."""
        return self.source is None or (self.over_source is not None and self.over_source.low > TINY)


class Curve(BaseModel):
    """What a score says about the rating, within one subject.

    x: values of the score (of pairs: differences). fit, low, high: the isotonic fit of the mean rating (of pairs: of
    the share that prefers the first), and its 95 % bootstrap interval. bin_x, bin_mean, bin_low, bin_high, bin_rows:
    of tenths of the rows in order of the score.
    """

    model_config = ConfigDict(frozen=True)

    subject: str
    x: tuple[float, ...]
    fit: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    bin_x: tuple[float, ...]
    bin_mean: tuple[float, ...]
    bin_low: tuple[float, ...]
    bin_high: tuple[float, ...]
    bin_rows: tuple[int, ...]


class Threshold(BaseModel):
    """A cut of a score that keeps a share of the good rows.

    subject: within which it is meant. cut: `min` or `max`. value: of the cut. kept: the share of good rows that was
    asked for. kept_good: the share kept, dropped_poor: the share of poor rows dropped; both on rows that the cut was
    not chosen by. dropped: the share of all rows dropped.
    """

    model_config = ConfigDict(frozen=True)

    subject: str
    cut: str
    value: float
    kept: float
    kept_good: Estimate
    dropped_poor: Estimate
    dropped: float


class Calibration(BaseModel):
    """How one score agrees with the ratings.

    higher_is_better: the sign of the agreement over all rows. Scores for which lower is better (perplexity) keep their
    sign in `groups`. agrees: whether the interval over all rows excludes chance; if not, the sign means nothing. scale:
    the lowest and highest rating. good, poor: the ratings from which on, and up to which, rows are good and poor; None
    for pairs. thresholds: of groups in which the score agrees and tells good rows from others, by more than chance.
    """

    model_config = ConfigDict(frozen=True)

    score: str
    pairs: bool
    higher_is_better: bool
    agrees: bool
    scale: tuple[float, float]
    good: float | None
    poor: float | None
    groups: tuple[Group, ...]
    curves: tuple[Curve, ...]
    thresholds: tuple[Threshold, ...]
    warnings: tuple[str, ...]


class Raters(BaseModel):
    """Agreement of the people with each other.

    raters: columns of ratings. rated_twice: rows with two ratings or more. alpha: Krippendorff's, for a scale of
    `level`. ceiling: one person against the mean of the others, by the measure `ceiling_measure`: what a score could
    reach that is as good as a person.
    """

    model_config = ConfigDict(frozen=True)

    raters: int
    rated_twice: int
    level: str
    alpha: float | None
    ceiling: float | None
    ceiling_measure: str


# ------------------------------------------------------------------------------------------------------------- measures


class _Series(NamedTuple):
    """Numbers of a group's rows, prepared to be measured under any weights of the rows."""

    spearman: Callable[[Floats], float]
    auc: Callable[[Floats], float]


def _codes(values: Floats) -> npt.NDArray[np.int64]:
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _prepare(values: Floats, rating: Floats, pairs: bool, good: float) -> _Series:
    # Imported here, so that the report of a build loads no kernels that it does not run.
    from pipelines.audit.ranks import accuracy, auc, spearman

    if pairs:
        both, preferences = _codes(np.concatenate([values, -values])), _codes(np.concatenate([rating, -rating]))
        return _Series(
            lambda weights: spearman(both, preferences, np.concatenate([weights, weights])),
            lambda weights: accuracy(values, rating, weights),
        )
    x, y, positive = _codes(values), _codes(rating), rating >= good
    return _Series(lambda weights: spearman(x, y, weights), lambda weights: auc(x, positive, weights))


def source_ranks(ratings: Ratings) -> Floats | None:
    """What the source alone says: [n]. None where all rows have the same source.

    The rows are divided into FOLDS by cluster. A row gets the rank of its source among the sources, from -0.5 to 0.5,
    by their mean ratings in the other folds; 0 for a source that the other folds lack. Ranks, because means differ a
    little from fold to fold, always against the rows held out. For pairs, the rank of the first less that of the
    second, where a source's rating is how often it was preferred.
    """
    names, codes = np.unique(ratings.source, return_inverse=True)
    codes = codes.reshape(ratings.source.shape)
    if len(names) < 2:
        return None
    fold = folds(ratings.cluster)
    signs = np.asarray([1.0, -1.0] if ratings.pairs else [1.0])
    rating = ratings.mean[:, None] * signs
    ranks = np.zeros(len(fold))
    for number in np.unique(fold):
        train, test = fold != number, fold == number
        rows = np.bincount(codes[train].ravel(), minlength=len(names))
        seen = rows > 0
        total = np.bincount(codes[train].ravel(), rating[train].ravel(), len(names))
        mean = total[seen] / rows[seen]
        rank = np.zeros(len(names))
        if len(mean) > 1:
            below = (mean[:, None] > mean[None, :]).mean(axis=1)
            above = (mean[:, None] < mean[None, :]).mean(axis=1)
            rank[seen] = (below - above) / 2
        ranks[test] = rank[codes[test]] @ signs
    return ranks


def folds(cluster: Names) -> npt.NDArray[np.int64]:
    """A fold for each row, the same for the rows of a cluster: 0 to FOLDS - 1."""
    names, code = np.unique(cluster, return_inverse=True)
    return np.asarray((np.random.default_rng(SEED).permutation(len(names)) % FOLDS)[code], np.int64)


# --------------------------------------------------------------------------------------------------------------- groups


def good_from(ratings: Ratings) -> tuple[float, float]:
    """The ratings from which on a row is good, and up to which it is poor.

    By default the levels next to the middle of the scale: 4 and 2 of 1 to 5, 1 and 0 of right and wrong. With a cut,
    rows below it are not good, and poor ones are not above the middle either.
    """
    levels = np.unique(ratings.values[~np.isnan(ratings.values)])
    middle = (levels[0] + levels[-1]) / 2
    above, below = levels[levels > middle], levels[levels < middle]
    cut = float(above[0]) if ratings.cut is None else ratings.cut
    poor = below[-1] if ratings.cut is None else min(levels[levels < cut].max(initial=levels[0]), below[-1])
    return cut, float(poor)


def measure_group(scores: Floats, ratings: Ratings, subject: str, good: float, higher: bool) -> Group | None:
    """Agreement of a score within a group of rows; None if too few of them have a score.

    scores: [n], NaN where there is none. higher: whether higher scores are better.
    """
    there = ~np.isnan(scores)
    rows, values = ratings.of(there), scores[there]
    if len(values) < MIN_ROWS:
        return None
    rating = rows.mean
    ranks = source_ranks(rows)
    series = {"score": values, "length": rows.length} | ({} if ranks is None else {"source": ranks})
    prepared = {name: _prepare(one, rating, rows.pairs, good) for name, one in series.items()}
    ones = np.ones(len(values))
    names = [(name, kind) for name in prepared for kind in ("spearman", "auc")]
    point = {(name, kind): getattr(prepared[name], kind)(ones) for name, kind in names}
    samples = {key: np.full(RESAMPLES, np.nan) for key in names}
    _, code = np.unique(rows.cluster, return_inverse=True)
    clusters = int(code.max()) + 1
    rng = np.random.default_rng(SEED)
    for number in range(RESAMPLES if clusters > 1 else 0):
        drawn = np.bincount(rng.integers(0, clusters, clusters), minlength=clusters)
        weights = drawn[code].astype(np.float64)
        for name, kind in names:
            samples[name, kind][number] = getattr(prepared[name], kind)(weights)

    positive = rating > 0 if rows.pairs else rating >= good
    negative = rating < 0 if rows.pairs else ~positive
    counts = tuple(len(np.unique(code[mask])) for mask in (positive, negative))
    preferred = len(np.unique(code[positive | negative]))

    def measures(name: str) -> Measures:
        found = {kind: _estimate(point[name, kind], samples[name, kind]) for kind in ("spearman", "auc")}
        share = found["auc"]
        if share is not None:
            value = share.value
            ends = wilson(value, preferred) if rows.pairs else newcombe(value, *counts)
            found["auc"] = _widened(share, ends, min(counts) < FEW)
        return Measures(**found)

    main = "auc" if rows.pairs else "spearman"
    middle = 0.5 if rows.pairs else 0.0

    def less(baseline: str) -> Estimate | None:
        """The score's main measure less that of a baseline; a baseline without a value agrees as chance does."""
        if baseline not in prepared or math.isnan(point["score", main]):
            return None
        sign = 1.0 if higher else -1.0
        # Length counts in its best direction, the source as it predicts.
        side = -1.0 if baseline == "length" and point[baseline, main] < middle else 1.0
        value = sign * (point["score", main] - middle) - side * _or(point[baseline, main] - middle)
        sample = sign * (samples["score", main] - middle) - side * _or(samples[baseline, main] - middle)
        return _estimate(value, sample)

    return Group(
        subject=subject,
        ratings=len(values),
        clusters=clusters,
        missing=int((~there).sum()),
        small=len(values) < MIN_RATINGS,
        score=measures("score"),
        length=measures("length"),
        source=measures("source") if "source" in prepared else None,
        over_length=less("length"),
        over_source=less("source"),
    )


def _or(value: Any) -> Any:
    """The value, or 0 where there is none."""
    return np.nan_to_num(value, nan=0.0)


def _estimate(value: float, samples: Floats) -> Estimate | None:
    known = samples[~np.isnan(samples)]
    if math.isnan(value) or not len(known):
        return None
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    low, high, value = (0.0 if abs(one) < TINY else float(one) for one in (low, high, value))
    return Estimate(value=value, low=low, high=high)


def _widened(estimate: Estimate, ends: tuple[float, float], few: bool = False) -> Estimate:
    """The estimate of a share; if its interval reaches 0 or 1, or is of few rows, with an interval that has these ends
    in it."""
    if estimate.low > TINY and estimate.high < 1 - TINY and not few:
        return estimate
    return estimate.model_copy(update={"low": min(estimate.low, ends[0]), "high": max(estimate.high, ends[1])})


def wilson(share: float, rows: int) -> tuple[float, float]:
    """The interval of a share of so many independent rows. Source: Wilson 1927."""
    centre, spread = share + Z * Z / (2 * rows), Z * math.sqrt(share * (1 - share) / rows + (Z / (2 * rows)) ** 2)
    return max(0.0, (centre - spread) / (1 + Z * Z / rows)), min(1.0, (centre + spread) / (1 + Z * Z / rows))


def newcombe(auc: float, positive: int, negative: int) -> tuple[float, float]:
    """The interval of an AUC of so many independent rows of both kinds: all values that differ from the AUC by no more
    than Z standard errors, which are those of Hanley and McNeil 1982 at that value. Source: Newcombe 2006, method 5."""
    half = (positive + negative) / 2 - 1

    def excess(value: float) -> float:
        spread = value * (1 - value) * (1 + half * (1 - value) / (2 - value) + half * value / (1 + value))
        return abs(auc - value) - Z * math.sqrt(spread / (positive * negative))

    ends = []
    for border in (0.0, 1.0):
        inside, outside = auc, border
        for _ in range(60):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if excess(middle) > 0 else (middle, outside)
        ends.append(inside)
    return ends[0], ends[1]


# ----------------------------------------------------------------------------------------------------------- one score


def calibrate(name: str, scores: Floats, ratings: Ratings, min_ratings: int = MIN_RATINGS) -> Calibration:
    """Everything about one score.

    Args:
        name: of the score.
        scores: [n], NaN where a row has none; of pairs the difference, NaN unless both have one.
        ratings: of the same rows. At least two levels of the ratings occur.
        min_ratings: of a subject to be taken as a result.

    Returns:
        Agreement over all rows, then by subject, the largest first; curves, thresholds and warnings.
    """
    good, poor = good_from(ratings)
    there = ~np.isnan(scores)
    rows = ratings.of(there)
    overall = _prepare(scores[there], rows.mean, rows.pairs, good).spearman(np.ones(there.sum())) if there.any() else 0
    higher = not overall < 0
    subjects, counts = np.unique(ratings.subject[ratings.subject != ""], return_counts=True)
    order = [str(subjects[place]) for place in np.argsort(-counts, kind="stable")]
    masks = {ALL: np.ones(len(scores), np.bool_)} | {one: ratings.subject == one for one in order if len(order) > 1}
    found = {one: measure_group(scores[mask], ratings.of(mask), one, good, higher) for one, mask in masks.items()}
    groups = [
        group.model_copy(update={"small": group.ratings < min_ratings}) for group in found.values() if group is not None
    ]
    large = [ALL, *(group.subject for group in groups[1:] if not group.small)]
    shown = [one for one in large if one in found and found[one] is not None]
    curves = [curve(scores[masks[one]], ratings.of(masks[one]), one, higher) for one in shown[: CURVE_SUBJECTS + 1]]
    # A cut at a score that does not tell good rows from others is a cut at chance; at one that agrees the other way
    # round within this group, worse than chance.
    cuts = [
        cut
        for one in shown
        if not ratings.pairs and _tells(found[one], higher)
        for cut in thresholds(scores[masks[one]], ratings.of(masks[one]), one, good, poor, higher)
    ]
    return Calibration(
        score=name,
        pairs=ratings.pairs,
        higher_is_better=higher,
        agrees=_agrees(found[ALL], ratings.pairs),
        scale=(float(np.nanmin(ratings.values)), float(np.nanmax(ratings.values))),
        good=None if ratings.pairs else good,
        poor=None if ratings.pairs else poor,
        groups=tuple(groups),
        curves=tuple(one for one in curves if one is not None),
        thresholds=tuple(cuts),
        warnings=(
            *_few_warnings(rows, good),
            *_warnings(name, groups, ratings.pairs, min_ratings, higher, good),
        ),
    )


def _agrees(group: Group | None, pairs: bool) -> bool:
    """Whether the interval of a group's main measure excludes chance."""
    main = None if group is None else _main(group.score, pairs)
    middle = 0.5 if pairs else 0.0
    return main is not None and _side(main, middle, True) != 0


def _side(estimate: Estimate, middle: float, higher: bool) -> int:
    """1 if the interval is on the side of `middle` that agrees, -1 on the other side, 0 if `middle` is within it."""
    if estimate.low <= middle <= estimate.high:
        return 0
    return 1 if (estimate.value > middle) == higher else -1


def _tells(group: Group | None, higher: bool) -> bool:
    """Whether a score agrees with the ratings of a group, and tells its good rows from the others."""
    if group is None or group.score.spearman is None or group.score.auc is None:
        return False
    return _side(group.score.spearman, 0.0, higher) == _side(group.score.auc, 0.5, higher) == 1


def _few_warnings(rows: Ratings, good: float) -> list[str]:
    """What to know of a measure of few good rows, or of few others."""
    is_good = rows.mean >= good
    words = {f"rated {good:g} or more": int(is_good.sum()), f"rated less than {good:g}": int((~is_good).sum())}
    return [
        f"{count} of {len(is_good)} rows with this score {'is' if count == 1 else 'are'} {what}: too few for a cut and "
        "for the AUC; --cut says from which rating on a row is good"
        for what, count in words.items()
        if count < MIN_ROWS and not rows.pairs
    ]


def _warnings(
    name: str, groups: Sequence[Group], pairs: bool, min_ratings: int, higher: bool, good: float
) -> list[str]:
    measure, middle = ("accuracy", 0.5) if pairs else ("Spearman", 0.0)
    found = []
    for group in groups:
        where = "" if group.subject == ALL else f"within {group.subject}: "
        if group.small:
            found.append(f"{where}{group.ratings} ratings, fewer than {min_ratings}: too few to rely on")
            if group.subject != ALL:
                continue
        main = _main(group.score, pairs)
        if main is None:
            found.append(f"{where}the score has the same value for all rows")
            continue
        side = _side(main, middle, higher)
        if side == 0:
            found.append(
                f"{where}the score does not agree with the ratings by more than chance "
                f"({measure} {main.value:.2f}, 95 % interval {main.low:.2f} to {main.high:.2f})"
            )
        elif side < 0:
            found.append(
                f"{where}the score agrees the other way round than over all rows ({measure} {main.value:.2f}, 95 % "
                f"interval {main.low:.2f} to {main.high:.2f}); a cut would drop the better rows"
            )
            continue
        elif not pairs and (auc := group.score.auc) is not None and _side(auc, 0.5, higher) < 1:
            found.append(
                f"{where}rows rated {good:g} or more are not told from the others by more than chance "
                f"(AUC {auc.value:.2f}, 95 % interval {auc.low:.2f} to {auc.high:.2f}): no cut is proposed"
            )
        for baseline, what, difference in (
            (group.source, "source", group.over_source),
            (group.length, "length", group.over_length),
        ):
            if baseline is None or difference is None or difference.low > TINY:
                continue
            other = _main(baseline, pairs)
            if other is None:  # the same for all rows, or not known
                continue
            if what == "length" and other.value < middle:
                other = other.model_copy(update={"value": 2 * middle - other.value})  # its best direction
            if difference.low == difference.high == 0:
                found.append(f"{where}the score orders the rows as {what} alone does")
                continue
            if name == what:  # a length in other units
                continue
            own = main.value if higher else 2 * middle - main.value
            found.append(
                f"{where}{what} alone {'agrees better' if difference.high < -TINY else 'agrees as well'} "
                f"({measure} {other.value:.2f} against {own:.2f}; "
                f"difference {difference.value:+.2f}, 95 % interval {difference.low:+.2f} to {difference.high:+.2f})"
            )
    return found


def _main(measures: Measures, pairs: bool) -> Estimate | None:
    return measures.auc if pairs else measures.spearman


# ---------------------------------------------------------------------------------------------------- curves and cuts


def curve(scores: Floats, ratings: Ratings, subject: str, higher: bool) -> Curve | None:
    """The isotonic fit of the rating on the score; None if fewer than two values occur."""
    # Imported here because it takes a second to load.
    from sklearn.isotonic import IsotonicRegression

    there = ~np.isnan(scores)
    rows, x = ratings.of(there), scores[there]
    y, cluster = rows.mean, rows.cluster
    if rows.pairs:  # each pair in both orders, and the share that prefers the first
        x, y = np.concatenate([x, -x]), np.concatenate([(y + 1) / 2, (1 - y) / 2])
        cluster = np.concatenate([cluster, cluster])
    if len(np.unique(x)) < 2:
        return None
    at = np.unique(np.quantile(x, np.linspace(0.01, 0.99, CURVE_POINTS)))
    _, code = np.unique(cluster, return_inverse=True)
    clusters = int(code.max()) + 1
    order = np.argsort(x, kind="stable")
    bins = [part for part in np.array_split(order, BINS) if len(part)]

    def fit(weights: Floats) -> Floats:
        used = weights > 0
        model = IsotonicRegression(increasing=higher, out_of_bounds="clip").fit(x[used], y[used], weights[used])
        return np.asarray(model.predict(at), np.float64)

    fits, means = [], []
    rng = np.random.default_rng(SEED)
    for _ in range(ISOTONIC_RESAMPLES):
        weights = np.bincount(rng.integers(0, clusters, clusters), minlength=clusters)[code].astype(np.float64)
        fits.append(fit(weights))
        means.append([_mean(y[part], weights[part]) for part in bins])
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.stack(fits), [tail, 1 - tail], axis=0)
    bin_low, bin_high = np.nanquantile(np.asarray(means), [tail, 1 - tail], axis=0)
    return Curve(
        subject=subject,
        x=_tuple(at),
        fit=_tuple(fit(np.ones(len(x)))),
        low=_tuple(low),
        high=_tuple(high),
        bin_x=_tuple(np.asarray([x[part].mean() for part in bins])),
        bin_mean=_tuple(np.asarray([y[part].mean() for part in bins])),
        bin_low=_tuple(bin_low),
        bin_high=_tuple(bin_high),
        bin_rows=tuple(len(part) for part in bins),
    )


def _mean(values: Floats, weights: Floats) -> float:
    total = weights.sum()
    return float(values @ weights / total) if total else math.nan


def _tuple(values: Floats) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values)


def thresholds(
    scores: Floats, ratings: Ratings, subject: str, good: float, poor: float, higher: bool
) -> list[Threshold]:
    """Cuts that keep KEPT_SHARES of the good rows; none without good or poor rows.

    The shares are those of the rows outside a resample by whose rows the cut was chosen.
    """
    there = ~np.isnan(scores)
    rows, x = ratings.of(there), scores[there] if higher else -scores[there]
    rating = rows.mean
    is_good, is_poor = rating >= good, rating <= poor
    if min(is_good.sum(), is_poor.sum()) < MIN_ROWS:
        return []
    _, code = np.unique(rows.cluster, return_inverse=True)
    clusters = int(code.max()) + 1
    rng = np.random.default_rng(SEED)
    shares: dict[float, list[tuple[float, float]]] = {kept: [] for kept in KEPT_SHARES}
    for _ in range(ISOTONIC_RESAMPLES):
        drawn = np.bincount(rng.integers(0, clusters, clusters), minlength=clusters)[code]
        chosen = np.repeat(x[is_good], drawn[is_good])
        good_out, poor_out = x[is_good & (drawn == 0)], x[is_poor & (drawn == 0)]
        if not (len(chosen) and len(good_out) and len(poor_out)):
            continue
        for kept, found in shares.items():
            value = _lowest_kept(chosen, kept)
            found.append((float((good_out >= value).mean()), float((poor_out < value).mean())))
    result: list[Threshold] = []
    for kept, found in shares.items():
        value = _rounded_down(_lowest_kept(x[is_good], kept))
        if not found or any(abs(one.value) == abs(value) for one in result):  # a score of few values has few cuts
            continue
        kept_good, dropped_poor = np.asarray(found).T
        result.append(
            Threshold(
                subject=subject,
                cut="min" if higher else "max",
                value=value if higher else -value,
                kept=kept,
                kept_good=_shares(kept_good, len(np.unique(code[is_good]))),
                dropped_poor=_shares(dropped_poor, len(np.unique(code[is_poor]))),
                dropped=float((x < value).mean()),
            )
        )
    return result


def _lowest_kept(values: Floats, kept: float) -> float:
    """The highest cut that keeps at least this share of the values."""
    ordered = np.sort(values)
    return float(ordered[math.floor(len(ordered) * (1 - kept) + 1e-9)])


def _rounded_down(value: float) -> float:
    """To four digits, never above the value: what is printed keeps the rows that the exact cut keeps."""
    if value == 0 or not math.isfinite(value):
        return value
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - 3)
    return float(f"{math.floor(value / unit) * unit:.4g}")


def _shares(samples: Floats, clusters: int) -> Estimate:
    low, high = np.quantile(samples, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    value = float(samples.mean())
    return _widened(Estimate(value=value, low=float(low), high=float(high)), wilson(value, clusters))


def threshold_words(one: Threshold, calibration: Calibration) -> str:
    """`min: 0.31 keeps 95 % of the rows that people rate 4 or more, and drops 40 % of those rated 2 or less`."""
    assert calibration.good is not None and calibration.poor is not None
    lowest, highest = calibration.scale
    good = f"{calibration.good:g}" + (" or more" if calibration.good < highest else "")
    poor = f"{calibration.poor:g}" + (" or less" if calibration.poor > lowest else "")
    share = one.dropped_poor
    return (
        f"{one.cut}: {one.value:.4g} keeps {100 * one.kept_good.value:.0f} % of the rows that people rate {good}, and "
        f"drops {100 * share.value:.0f} % of those rated {poor} "
        f"(95 % interval {100 * share.low:.0f} to {100 * share.high:.0f} %)"
    )


# --------------------------------------------------------------------------------------------------------------- raters


def rater_agreement(ratings: Ratings) -> Raters:
    """How well do several raters agree with each other?"""
    # Imported here because it takes half a second to load.
    import krippendorff

    from pipelines.audit.ranks import accuracy, spearman

    values = ratings.values
    given = ~np.isnan(values)
    twice = given.sum(axis=1) >= 2
    levels = np.unique(values[given])
    level: Literal["nominal", "ordinal", "interval"]
    level = "nominal" if len(levels) <= 2 else "ordinal" if len(levels) <= 20 else "interval"
    measure = "accuracy" if ratings.pairs else "Spearman"
    alpha = ceiling = None
    if twice.sum() >= 2 and len(np.unique(values[twice][given[twice]])) > 1:
        alpha = float(krippendorff.alpha(reliability_data=values[twice].T, level_of_measurement=level))
        ones = []
        for rater in range(values.shape[1]):
            rows = twice & given[:, rater]
            others = np.delete(values[rows], rater, axis=1)
            mean = np.nanmean(others, axis=1) if rows.any() else np.zeros(0)
            weights = np.ones(int(rows.sum()))
            one = (
                accuracy(values[rows, rater], mean, weights)
                if ratings.pairs
                else spearman(_codes(values[rows, rater]), _codes(mean), weights)
            )
            if rows.sum() >= MIN_ROWS and not math.isnan(one):
                ones.append(one)
        ceiling = float(np.mean(ones)) if ones else None
    return Raters(
        raters=values.shape[1],
        rated_twice=int(twice.sum()),
        level=level,
        alpha=alpha,
        ceiling=ceiling,
        ceiling_measure=measure,
    )

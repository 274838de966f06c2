"""Agreement of scores with ratings: against scipy, scikit-learn and krippendorff, and the baselines."""

from __future__ import annotations

import krippendorff
import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from pipelines.audit import calibration
from pipelines.audit.calibration import (
    ALL,
    Calibration,
    Group,
    Ratings,
    calibrate,
    newcombe,
    rater_agreement,
    source_ranks,
    threshold_words,
    wilson,
)
from pipelines.audit.calibration_picture import picture
from pipelines.audit.ranks import accuracy, auc, spearman


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "RESAMPLES", 200)
    monkeypatch.setattr(calibration, "ISOTONIC_RESAMPLES", 40)


def ratings_of(
    rating: npt.ArrayLike,
    subject: npt.ArrayLike | None = None,
    length: npt.ArrayLike | None = None,
    source: npt.ArrayLike | None = None,
    cluster: npt.ArrayLike | None = None,
    pairs: bool = False,
    cut: float | None = None,
) -> Ratings:
    values = np.asarray(rating, np.float64)
    values = values if values.ndim == 2 else values[:, None]
    n = len(values)
    sources = np.full((n, 1 + pairs), "") if source is None else np.asarray(source, np.str_).reshape(n, 1 + pairs)
    return Ratings(
        values,
        pairs,
        np.full(n, "") if subject is None else np.asarray(subject, np.str_),
        np.arange(n).astype(np.str_) if cluster is None else np.asarray(cluster, np.str_),
        np.random.default_rng(9).normal(size=n) if length is None else np.asarray(length, np.float64),
        sources,
        cut,
    )


def codes(values: npt.ArrayLike) -> npt.NDArray[np.int64]:
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def group(result: Calibration, subject: str = ALL) -> Group:
    return next(one for one in result.groups if one.subject == subject)


def test_measures_with_weights_are_those_of_scipy_and_sklearn_on_repeated_rows() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = rng.integers(0, 9, 60), rng.integers(0, 4, 60)  # many ties
        weights = rng.integers(0, 4, 60)
        many_x, many_y = np.repeat(x, weights), np.repeat(y, weights)
        assert spearman(codes(x), codes(y), weights.astype(float)) == pytest.approx(spearmanr(many_x, many_y).statistic)
        assert auc(codes(x), y >= 2, weights.astype(float)) == pytest.approx(roc_auc_score(many_y >= 2, many_x))


def test_accuracy_of_pairs_counts_equal_scores_half_and_leaves_ties_of_people_out() -> None:
    difference, preference = np.array([1.0, -2, 0, 3, 1]), np.array([1.0, 1, -1, 0, 1])
    assert accuracy(difference, preference, np.ones(5)) == pytest.approx((1 + 0 + 0.5 + 1) / 4)


def test_the_agreement_of_pairs_does_not_depend_on_which_response_is_first() -> None:
    rng = np.random.default_rng(1)
    preference = rng.choice([-1.0, 0, 1], 300)
    score = preference + rng.normal(size=300)
    turned = rng.choice([-1.0, 1], 300)
    one = calibrate("s", score, ratings_of(preference, pairs=True))
    other = calibrate("s", score * turned, ratings_of(preference * turned, pairs=True))
    assert group(one).score.spearman is not None and one.curves
    for name in ("spearman", "auc"):
        a, b = getattr(group(one).score, name), getattr(group(other).score, name)
        assert a.value == pytest.approx(b.value)


def test_the_interval_covers_the_true_correlation_in_most_samples() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(20):
        x = rng.normal(size=120)
        y = 0.6 * x + 0.8 * rng.normal(size=120)
        estimate = group(calibrate("s", x, ratings_of(y))).score.spearman
        assert estimate is not None
        covered += estimate.low <= 0.583 <= estimate.high  # Spearman's of a normal pair with correlation 0.6
    assert covered >= 16


@pytest.mark.parametrize(
    ("right", "rows", "ends"), [(81, 263, (0.2553, 0.3662)), (0, 20, (0, 0.1611)), (20, 20, (0.8389, 1))]
)
def test_the_interval_of_a_share_is_wilson_s(right: int, rows: int, ends: tuple[float, float]) -> None:
    assert wilson(right / rows, rows) == pytest.approx(ends, abs=1e-4)


def test_the_ends_of_the_interval_of_an_auc_are_as_many_standard_errors_away_by_hanley_and_mcneil() -> None:
    for value in (0.2, 0.5, 0.9, 1.0):
        for rows in (10, 40, 300):
            ends = newcombe(value, rows, rows)
            assert ends[0] < value <= ends[1] <= 1
            for end in ends:
                q1, q2 = end / (2 - end), 2 * end**2 / (1 + end)
                spread = end * (1 - end) + (rows - 1) * (q1 - end**2 + q2 - end**2)
                assert abs(value - end) == pytest.approx(1.959964 * np.sqrt(max(spread, 0)) / rows, abs=1e-6)


def test_an_interval_of_rows_that_all_agree_has_a_width_that_shrinks_with_their_number() -> None:
    widths = []
    for rows in (30, 120, 480):
        rating = np.repeat([1.0, 5.0], rows)
        result = calibrate("s", rating + 0.01 * np.arange(2 * rows) / rows, ratings_of(rating))
        share, cut = group(result).score.auc, result.thresholds[0]
        assert share is not None and (share.value, share.high) == (1, 1)
        assert cut.dropped_poor.value == cut.dropped_poor.high == 1
        assert cut.dropped_poor.low == pytest.approx(wilson(1, rows)[0])
        pairs = group(calibrate("s", rating - 3, ratings_of(np.sign(rating - 3), pairs=True))).score.auc
        assert pairs is not None and pairs.low == pytest.approx(wilson(1, 2 * rows)[0])
        widths.append((1 - share.low, 1 - cut.dropped_poor.low, 1 - pairs.low))
    assert all(a > b > c > 0 for a, b, c in zip(*widths, strict=True))
    # Rows of one question are one: ten ratings of each say no more.
    many = np.repeat(np.repeat([1.0, 5.0], 30), 10)
    same = calibrate("s", many, ratings_of(many, cluster=np.repeat(np.arange(60), 10)))
    share = group(same).score.auc
    assert share is not None and 1 - share.low == pytest.approx(widths[0][0])


def test_an_interval_near_the_border_covers_the_true_auc() -> None:
    rng = np.random.default_rng(14)
    covered = 0
    for _ in range(40):
        rating = np.repeat([0.0, 1.0], 25)
        share = group(calibrate("s", rng.normal(size=50) + 2.77 * rating, ratings_of(rating))).score.auc
        assert share is not None
        covered += share.low <= 0.975 <= share.high  # the normal distribution at 2.77 / sqrt(2)
    assert covered >= 36


def test_rows_of_one_question_widen_the_interval() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=60), rng.normal(size=60)
    y += x
    same = np.repeat(np.arange(60), 8)
    widths = []
    for cluster in (None, same):
        estimate = group(calibrate("s", x[same], ratings_of(y[same], cluster=cluster))).score.spearman
        assert estimate is not None
        widths.append(estimate.high - estimate.low)
    assert widths[1] > 2 * widths[0]


def by_source(rng: np.random.Generator, n: int = 600) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Ratings 1 to 5 that depend on the source and on chance, and the source."""
    source = rng.integers(0, 4, n)
    return np.clip(np.round(1 + source + rng.normal(size=n)), 1, 5), source


def test_a_score_that_is_a_function_of_the_source_warns() -> None:
    rng = np.random.default_rng(4)
    rating, source = by_source(rng)
    result = calibrate("s", source + 0.0, ratings_of(rating, source=source))
    assert group(result).score.spearman is not None and group(result).score.spearman.value > 0.7
    assert not group(result).beats_source
    assert any("orders the rows as source alone does" in warning for warning in result.warnings)
    better = calibrate("s", rating + rng.normal(size=600), ratings_of(rating, source=source))
    assert group(better).beats_source and not better.warnings


def test_a_score_that_is_the_length_warns_in_either_direction() -> None:
    rng = np.random.default_rng(5)
    length = rng.integers(10, 500, 400).astype(float)
    rating = np.clip(np.round(length / 120 + rng.normal(size=400)), 1, 5)
    for score in (length, -length):
        result = calibrate("s", score, ratings_of(rating, length=length))
        assert any("orders the rows as length alone does" in warning for warning in result.warnings)
        assert result.higher_is_better == (score is length)
        assert not group(result).beats_length


def test_the_source_of_a_row_does_not_know_the_row_s_own_rating() -> None:
    rng = np.random.default_rng(6)
    rating = rng.integers(1, 6, 500).astype(float)
    every_row_its_source = ratings_of(rating, source=np.arange(500))
    assert (source_ranks(every_row_its_source) == 0).all()
    few = ratings_of(rating, source=np.arange(500) % 50)  # says nothing, and must not seem to
    ranks = source_ranks(few)
    assert ranks is not None and abs(spearmanr(ranks, rating).statistic) < 0.15
    assert source_ranks(ratings_of(rating)) is None


def test_a_score_that_sorts_sources_is_useless_within_subjects_and_the_table_shows_it() -> None:
    rng = np.random.default_rng(7)
    subject = np.repeat(["maths", "code", "rare"], [300, 300, 40])
    base = np.repeat([1.0, 4.0, 2.0], [300, 300, 40])
    rating = np.clip(np.round(base + rng.normal(size=640)), 1, 5)
    result = calibrate("s", base + 0.3 * rng.normal(size=640), ratings_of(rating, subject=subject))
    overall, maths, rare = (group(result, one).score.spearman for one in (ALL, "maths", "rare"))
    assert overall is not None and maths is not None and rare is not None
    assert overall.value > 0.6 and abs(maths.value) < 0.2
    assert any("within maths: the score does not agree" in warning for warning in result.warnings)
    assert group(result, "rare").small and any("within rare: 40 ratings" in warning for warning in result.warnings)
    assert [curve.subject for curve in result.curves] == [ALL, "code", "maths"] or len(result.curves) == 3


def test_a_threshold_keeps_the_share_of_good_rows_and_is_said_in_words() -> None:
    rng = np.random.default_rng(8)
    rating = rng.integers(1, 6, 800).astype(float)
    score = rating + rng.normal(size=800)
    result = calibrate("s", score, ratings_of(rating))
    cut = result.thresholds[0]
    assert (result.good, result.poor, cut.cut, cut.kept) == (4.0, 2.0, "min", 0.95)
    good = score[rating >= 4]
    assert 0.95 <= (good >= cut.value).mean() < 0.96
    assert cut.dropped_poor.low <= (score[rating <= 2] < cut.value).mean() <= cut.dropped_poor.high
    words = threshold_words(cut, result)
    assert (
        words.startswith(f"min: {cut.value:.4g} keeps 9") and "rate 4 or more" in words and "rated 2 or less" in words
    )
    lower = calibrate("s", -score, ratings_of(rating)).thresholds[0]
    assert lower.cut == "max" and lower.value == pytest.approx(-cut.value, rel=1e-3)
    assert calibrate("s", score, ratings_of(rating, cut=5)).good == 5


def test_a_score_that_agrees_the_other_way_round_within_a_subject_has_no_cut_there() -> None:
    rng = np.random.default_rng(12)
    subject = np.repeat(["prose", "maths"], [600, 300])
    rating = rng.integers(1, 6, 900).astype(float)
    score = np.where(subject == "prose", rating, -rating) + rng.normal(size=900)
    result = calibrate("s", score, ratings_of(rating, subject=subject))
    assert {cut.subject for cut in result.thresholds} == {ALL, "prose"}
    assert any("within maths: the score agrees the other way round" in warning for warning in result.warnings)
    other = calibrate("s", -score, ratings_of(rating, subject=subject))
    assert not other.higher_is_better and {cut.subject for cut in other.thresholds} == {ALL, "prose"}


def test_a_score_that_does_not_tell_good_rows_from_others_has_no_cut() -> None:
    rating = np.tile([1.0, 2.0, 3.0, 4.0, 5.0], 200)
    score = np.tile([0.0, 3.0, 5.0, 1.6, 3.7], 200) + np.random.default_rng(13).normal(size=1000)
    result = calibrate("s", score, ratings_of(rating))
    assert result.agrees and not result.thresholds
    assert any("rated 4 or more are not told from the others" in warning for warning in result.warnings)


def test_an_interval_of_few_good_rows_is_wide_and_says_so() -> None:
    rng = np.random.default_rng(14)
    rating = rng.integers(1, 4, 300).astype(float)
    rating[17] = 55
    result = calibrate("s", rng.normal(size=300), ratings_of(rating))
    assert any("1 of 300 rows with this score is rated 55 or more" in warning for warning in result.warnings)
    measured = group(result).score.auc
    assert measured is not None and measured.high - measured.low > 0.5


def test_missing_scores_are_counted_and_left_out() -> None:
    rng = np.random.default_rng(10)
    rating = rng.integers(0, 2, 300).astype(float)
    score = rating + rng.normal(size=300)
    score[::3] = np.nan
    there = ~np.isnan(score)
    result = group(calibrate("s", score, ratings_of(rating)))
    assert (result.ratings, result.missing) == (200, 100)
    assert result.score.auc is not None
    assert result.score.auc.value == pytest.approx(roc_auc_score(rating[there], score[there]))


def test_a_constant_score_has_no_agreement_and_says_so() -> None:
    result = calibrate("s", np.ones(300), ratings_of(np.arange(300) % 5))
    assert group(result).score.spearman is None and not result.curves
    assert any("same value" in warning for warning in result.warnings)


def test_the_isotonic_fit_is_monotonic_and_within_its_band() -> None:
    rng = np.random.default_rng(11)
    score = rng.normal(size=500)
    rating = np.clip(np.round(3 + score + rng.normal(size=500)), 1, 5)
    curve = calibrate("s", score, ratings_of(rating)).curves[0]
    assert (np.diff(curve.fit) >= 0).all() and sum(curve.bin_rows) == 500
    inside = [low - 0.2 <= fit <= high + 0.2 for low, fit, high in zip(curve.low, curve.fit, curve.high, strict=True)]
    assert np.mean(inside) > 0.9


def test_agreement_of_raters_is_krippendorff_s_and_the_ceiling_is_one_against_the_others() -> None:
    rng = np.random.default_rng(12)
    truth = rng.integers(1, 6, 200)
    values = np.clip(truth[:, None] + rng.integers(-1, 2, (200, 3)), 1, 5).astype(float)
    values[::4, 2] = np.nan
    raters = rater_agreement(ratings_of(values))
    assert raters.level == "ordinal" and raters.rated_twice == 200
    assert raters.alpha == pytest.approx(krippendorff.alpha(values.T, level_of_measurement="ordinal"))
    expected = []
    for one in range(3):
        rows = ~np.isnan(values[:, one])
        others = np.nanmean(np.delete(values[rows], one, axis=1), axis=1)
        expected.append(spearmanr(values[rows, one], others).statistic)
    assert raters.ceiling == pytest.approx(np.mean(expected))
    assert rater_agreement(ratings_of(np.sign(values - 3), pairs=True)).ceiling_measure == "accuracy"


def test_the_picture_has_a_panel_for_each_curve() -> None:
    rng = np.random.default_rng(13)
    rating = rng.integers(1, 6, 500).astype(float)
    result = calibrate("s", rating + rng.normal(size=500), ratings_of(rating, subject=np.arange(500) % 2))
    assert len(result.curves) == 3 and picture(result).startswith(b"\x89PNG")

"""Which weights of a recipe's sampling groups give a better model? A search over mixtures, by regression.

Mixtures are drawn around the present one. A small model is trained on each, and a regression predicts its loss from the
weights (as RegMix, arXiv 2407.01492, and CLIMB, arXiv 2504.13161, do for pretraining data). The proposal is the mean of
the mixtures with the best predictions. Whether the regression predicts anything is told by cross-validation; whether
the proposal is better, by an ablation against the present weights with other seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from pipelines.errors import WinnowError
from pipelines.recipe import Group
from pipelines.steps.sampling import Pool, matches, rows_per_epoch

CONCENTRATION, UNIFORM_SHARE = 4.0, 0.2
"""Of the Dirichlet distribution: pseudo-counts per group, and how far its mean is drawn to equal weights."""

CANDIDATES, BEST_SHARE = 20_000, 0.01
"""Mixtures whose loss is predicted, and the share of the best whose mean is proposed."""

MIN_WEIGHT = 0.002
FOLDS, REPEATS = 5, 3

_Floats = npt.NDArray[np.float64]


class GroupRows(NamedTuple):
    """The files of a group: usable rows of each, and the mean number of tokens of a row."""

    group: Group
    rows: tuple[int, ...]
    tokens_per_row: float


class Fit(BaseModel):
    """A regression. r2: share of the variance of losses that it predicts in cross-validation; below 0, nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    r2: float


class Search(BaseModel):
    """A search. groups: prefixes. current, proposal: weights, shares of an epoch's tokens; proposal is null if no
    regression predicts better than the mean. mixtures, losses: what was trained. fits: the regressions, best first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    groups: tuple[str, ...]
    current: tuple[float, ...]
    mixtures: tuple[tuple[float, ...], ...]
    losses: tuple[float, ...]
    fits: tuple[Fit, ...]
    proposal: tuple[float, ...] | None
    predicted: tuple[float, float] | None


def groups_of(pool: Pool, groups: Sequence[Group]) -> list[GroupRows]:
    """The groups of a recipe that have rows. Raises: WinnowError: with fewer than two, or files of no group."""
    members: dict[int, list[int]] = {}
    for number, name in enumerate(pool.files):
        index = next((i for i, group in enumerate(groups) if matches(name, group)), None)
        if index is None:
            raise WinnowError(
                f"--search: {name} is in no group of `sampling.groups`; add one with a prefix of its name"
            )
        if pool.counts[number]:
            members.setdefault(index, []).append(number)
    if len(members) < 2:
        raise WinnowError("--search needs at least two groups in `sampling.groups` that have rows")
    starts = np.concatenate([[0], np.cumsum(pool.counts)])
    tokens = pool.instruction.astype(np.int64) + pool.response
    found = []
    for index, files in sorted(members.items()):
        own = np.concatenate([tokens[starts[file] : starts[file + 1]] for file in files])
        found.append(GroupRows(groups[index], tuple(pool.counts[file] for file in files), float(own.mean())))
    return found


def weights_of(found: Sequence[GroupRows], rules: Sequence[Group]) -> tuple[_Floats, float]:
    """The share of each group in an epoch's tokens, and the tokens, about. rules: of the groups."""
    tokens = np.array(
        [sum(rows_per_epoch(rule, n) for n in one.rows) * one.tokens_per_row
         for one, rule in zip(found, rules, strict=True)]
    )  # fmt: skip
    return tokens / tokens.sum(), float(tokens.sum())


def rules_for(found: Sequence[GroupRows], weights: Sequence[float], tokens: float) -> list[Group]:
    """Rules whose epoch has about these weights and tokens: each group's cap and repeat."""
    rules = []
    for one, weight in zip(found, weights, strict=True):
        wanted = max(1.0, weight * tokens / one.tokens_per_row)
        repeat = max(1, math.ceil(wanted / sum(one.rows) - 1e-9))
        cap = min(
            _caps(one.rows, wanted / repeat),
            key=lambda cap: abs(repeat * sum(min(cap, n) for n in one.rows) - wanted),
        )
        rules.append(one.group.model_copy(update={"max_per_file": cap, "repeat": repeat}))
    return rules


def _caps(rows: Sequence[int], wanted: float) -> tuple[int, int]:
    """The two caps per file between which a draw of `wanted` rows lies."""
    low, high = 1, max(rows)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if sum(min(middle, n) for n in rows) >= wanted else (middle + 1, high)
    return max(1, low - 1), low


def draw_mixtures(current: _Floats, count: int, seed: int = 0) -> _Floats:
    """Mixtures around the present one [count, groups]."""
    groups = len(current)
    centre = (1 - UNIFORM_SHARE) * current + UNIFORM_SHARE / groups
    drawn = np.random.default_rng(seed).dirichlet(CONCENTRATION * groups * centre, count)
    drawn = np.maximum(drawn, MIN_WEIGHT)
    return np.asarray(drawn / drawn.sum(axis=1, keepdims=True), np.float64)


def search(groups: Sequence[str], current: _Floats, mixtures: _Floats, losses: _Floats) -> Search:
    """Fit the regressions, and propose. mixtures [n, groups], losses [n]; the first is the present mixture.

    Raises: WinnowError: if scikit-learn is not installed.
    """
    features, fits = np.log(mixtures), []
    for name, model in _regressions().items():
        fits.append((Fit(name=name, r2=_cross_validated(model, features, losses)), model))
    fits.sort(key=lambda pair: -pair[0].r2)
    best, model = fits[0]
    proposal = predicted = None
    if best.r2 > 0:
        fitted = model.fit(features, losses)
        candidates = draw_mixtures(current, CANDIDATES, seed=1)
        expected = fitted.predict(np.log(candidates))
        chosen = candidates[np.argsort(expected)[: int(CANDIDATES * BEST_SHARE)]].mean(axis=0)
        proposal = tuple(float(one) for one in chosen / chosen.sum())
        two = fitted.predict(np.log(np.stack([current, np.asarray(proposal)])))
        predicted = (float(two[0]), float(two[1]))
    return Search(
        groups=tuple(groups),
        current=tuple(current.tolist()),
        mixtures=tuple(map(tuple, mixtures.tolist())),
        losses=tuple(losses.tolist()),
        fits=tuple(fit for fit, _ in fits),
        proposal=proposal,
        predicted=predicted,
    )


def _regressions() -> dict[str, Any]:
    try:
        from sklearn.ensemble import GradientBoostingRegressor
        from sklearn.linear_model import RidgeCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError:
        raise WinnowError("--search needs scikit-learn: pip install 'winnow-corpus[quality]'") from None
    return {
        "ridge": make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 3, 11))),
        "gradient boosting": GradientBoostingRegressor(n_estimators=60, max_depth=2, subsample=0.8, random_state=0),
    }


def _cross_validated(model: Any, features: _Floats, losses: _Floats) -> float:
    """1 - the squared error of predictions of rows left out, divided by that of the mean of the others."""
    from sklearn.base import clone
    from sklearn.model_selection import RepeatedKFold

    error = baseline = 0.0
    for fit, test in RepeatedKFold(n_splits=FOLDS, n_repeats=REPEATS, random_state=0).split(features):
        predicted = clone(model).fit(features[fit], losses[fit]).predict(features[test])
        error += float(((losses[test] - predicted) ** 2).sum())
        baseline += float(((losses[test] - losses[fit].mean()) ** 2).sum())
    return 1 - error / baseline if baseline > 0 else 0.0

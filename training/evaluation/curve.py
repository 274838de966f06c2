"""Accuracy against generated tokens: is a strategy better than spending the same tokens on votes?

A strategy that generates more is expected to be right more often, so accuracy alone says little. Each strategy is
compared with self-consistency at equal tokens: with as many samples as generate the nearest number of tokens over all
items. The comparison is paired by item.

Self-consistency with fewer samples needs no calls of its own: a run has its samples in the traces, and the first of
them are those that a smaller number would have drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from training.evaluation.statistics import PairedDifference, make_sample, mean_interval, paired_difference
from training.evaluation.store import answers_of
from training.evaluation.task import Answer, Item, Task
from training.inference.language_model import Completion
from training.inference.strategies import parse
from training.inference.strategies.greedy import Greedy
from training.inference.strategies.self_consistency import SelfConsistency, vote


class StrategyRun(NamedTuple):
    """The answers of a strategy, in the order of the items.

    strategy: its canonical form. scores: of the answers by the task's first scorer; None if they are not judged yet.
    """

    strategy: str
    answers: Sequence[Answer]
    scores: Sequence[float] | None = None


class Point(BaseModel):
    """A strategy's score and cost.

    tokens: generated per item, in all calls. prompt_tokens: of the prompts of these calls; null if not known. score,
    low, high: mean over the items, or over subsets where the task says so, and its 95 % interval. against_greedy: the
    strategy minus greedy decoding. equal_tokens: the self-consistency whose tokens are nearest; null without a run of
    it, and for greedy decoding. against_equal_tokens: the strategy minus that one. In both, `improved` are the flips
    from wrong to right, `worsened` those from right to wrong.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: str
    tokens: float
    prompt_tokens: float | None
    score: float
    low: float | None
    high: float | None
    against_greedy: PairedDifference | None
    equal_tokens: str | None
    equal_tokens_tokens: float | None
    against_equal_tokens: PairedDifference | None


class Curve(BaseModel):
    """Strategies on one benchmark. votes: self-consistency by its number of samples, 1, 2, 4, ... of the run's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    benchmark: str
    model: str
    items: int
    points: list[Point]
    votes: list[Point]


class _Scored(NamedTuple):
    strategy: str
    tokens: list[int]
    prompt_tokens: list[int | None]
    scores: list[float]

    @property
    def total(self) -> int:
        return sum(self.tokens)


def make_curve(task: Task, items: Sequence[Item], runs: Sequence[StrategyRun], model: str) -> Curve:
    """Score the answers of several strategies to the same items with the task's first scorer, and compare them."""
    assert items and all(len(run.answers) == len(items) for run in runs)
    clusters = [task.cluster(item) for item in items] if task.cluster else None
    subsets = [task.subset(item) for item in items] if task.macro else None
    scored = [_score(task, items, run) for run in runs]
    greedy = next((each for each in scored if isinstance(parse(each.strategy), Greedy)), None)
    votes: dict[int, _Scored] = {}
    longest = max((run for run in runs if _samples(run) > 1), key=_samples, default=None)
    if longest is not None:
        votes = {
            n: _score(task, items, first_samples(task, items, longest, n)) for n in range(1, _samples(longest) + 1)
        }

    def point(each: _Scored, is_plain: bool) -> Point:
        interval = mean_interval(each.scores, clusters, subsets)
        nearest = None if is_plain else min(votes.values(), key=lambda vote: abs(vote.total - each.total), default=None)
        prompts = [tokens for tokens in each.prompt_tokens if tokens is not None]
        return Point(
            strategy=each.strategy,
            tokens=each.total / len(items),
            prompt_tokens=sum(prompts) / len(items) if len(prompts) == len(items) else None,
            score=make_sample(each.scores, None, subsets).mean,
            low=interval.low if interval else None,
            high=interval.high if interval else None,
            against_greedy=paired_difference(greedy.scores, each.scores, clusters, subsets)
            if greedy is not None and greedy is not each
            else None,
            equal_tokens=nearest.strategy if nearest else None,
            equal_tokens_tokens=nearest.total / len(items) if nearest else None,
            against_equal_tokens=paired_difference(nearest.scores, each.scores, clusters, subsets) if nearest else None,
        )

    return Curve(
        benchmark=task.name,
        model=model,
        items=len(items),
        points=[point(each, isinstance(parse(each.strategy), Greedy | SelfConsistency)) for each in scored],
        votes=[point(each, True) for n, each in votes.items() if n & (n - 1) == 0 or n == max(votes)],
    )


def samples_for_equal_tokens(runs: Sequence[StrategyRun], most: int = 64) -> int:
    """The samples of self-consistency that generate as many tokens as the most expensive of these runs; `most` at most.

    A sample is taken to be as long as a greedy answer. The result is 0 if no run calls the model more than once.
    """
    totals = [sum(answer.tokens for answer in run.answers) for run in runs if not _samples(run)]
    single = [sum(answer.tokens for answer in run.answers) for run in runs if isinstance(parse(run.strategy), Greedy)]
    if not single or not totals or max(totals) <= single[0]:
        return 0
    return min(most, -(-max(totals) // max(single[0], 1)) + 1)


def most_samples(runs: Sequence[StrategyRun]) -> int:
    """The largest number of samples of self-consistency among runs; 0 if there is none."""
    return max(map(_samples, runs), default=0)


def first_samples(task: Task, items: Sequence[Item], run: StrategyRun, n: int) -> StrategyRun:
    """The answers that self-consistency gives with the first `n` samples of a run with more."""
    strategy = parse(run.strategy)
    assert isinstance(strategy, SelfConsistency) and n <= strategy.n
    answers = []
    for item, answer in zip(items, run.answers, strict=True):
        calls = [call for call in answer.trace if call.role == "sample"][:n]
        if not calls:  # one sample has no trace
            answers.append(answer)
            continue
        samples = [Completion(call.text, call.tokens, call.log_prob, "stop") for call in calls]
        chosen = samples[vote(samples, [task.extract(sample.text, item) for sample in samples], strategy.tie)]
        tokens = sum(call.tokens for call in calls)
        answers.append(Answer(chosen.text, tokens, "stop", chosen.log_prob, prompt_tokens=answer.prompt_tokens))
    return StrategyRun(str(strategy.model_copy(update={"n": n})), answers)


def read_run(strategy: str, judged: pa.Table, scorer: str) -> StrategyRun:
    """The answers in the judged items of an evaluation, with the scores of a scorer."""
    return StrategyRun(strategy, answers_of(judged), judged[f"score_{scorer}"].to_pylist())


def _samples(run: StrategyRun) -> int:
    """The samples of a run of self-consistency; 0 for another strategy."""
    strategy = parse(run.strategy)
    return strategy.n if isinstance(strategy, SelfConsistency) else 0


def _score(task: Task, items: Sequence[Item], run: StrategyRun) -> _Scored:
    scores = run.scores
    if scores is None:
        scores = [judgement.score for judgement in task.scorers[0].judge(run.answers, items)]
    return _Scored(
        run.strategy,
        [answer.tokens for answer in run.answers],
        [answer.prompt_tokens for answer in run.answers],
        list(scores),
    )


def curve_lines(curve: Curve) -> list[str]:
    """The curve as lines of text: per strategy its score, tokens and flips."""
    lines = [f"{curve.benchmark}: {curve.items:,} items; generated tokens are per item, all calls together"]
    for point in curve.points:
        low, high = (f"{value:.1%}" if value is not None else "?" for value in (point.low, point.high))
        lines.append(f"  {point.strategy}")
        lines.append(f"    score {point.score:.1%} ({low} to {high}), {point.tokens:,.1f} tokens")
        if point.against_greedy is not None:
            lines.append(f"    against greedy: {_difference(point.against_greedy)}")
        if point.against_equal_tokens is not None:
            lines.append(
                f"    against {point.equal_tokens} ({point.equal_tokens_tokens:,.1f} tokens): "
                f"{_difference(point.against_equal_tokens)}"
            )
    return lines


def _difference(paired: PairedDifference) -> str:
    interval = paired.clustered or paired.interval
    return (
        f"{paired.difference:+.1%} ({interval.low:+.1%} to {interval.high:+.1%}, p {paired.p_value:.2g}); "
        f"flips: {paired.improved:,} wrong to right, {paired.worsened:,} right to wrong"
    )


def draw(curve: Curve, path: str) -> None:
    """Draw the curve as a PNG: score against generated tokens per item, with 95 % intervals."""
    # Imported here because they take half a second to load.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    from pipelines.ledger import storage

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    if curve.votes:
        tokens = [point.tokens for point in curve.votes]
        axes.plot(
            tokens, [100 * point.score for point in curve.votes], "o-", color="tab:gray", label="self-consistency"
        )
        low = [100 * (point.low or 0) for point in curve.votes]
        high = [100 * (point.high or 0) for point in curve.votes]
        axes.fill_between(tokens, low, high, color="tab:gray", alpha=0.15)
    others = [p for p in curve.points if not (curve.votes and isinstance(parse(p.strategy), SelfConsistency))]
    for number, point in enumerate(others):
        below, above = (
            abs(100 * (point.score - (point.score if end is None else end))) for end in (point.low, point.high)
        )
        label = parse(point.strategy).name
        axes.errorbar(
            point.tokens, 100 * point.score, [[below], [above]], fmt="sD^v<>P*"[number % 8], capsize=3, label=label
        )
    axes.set_xscale("log")
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_major_formatter(plain)
    axes.xaxis.set_minor_formatter(plain)
    axes.set_xlabel("generated tokens per item, all calls")
    axes.set_ylabel("score, %")
    axes.set_title(f"{curve.benchmark}, {curve.items:,} items (95 % intervals)")
    axes.grid(alpha=0.3)
    axes.legend()
    with storage.write_file(path) as file:
        FigureCanvasAgg(figure).print_png(file)

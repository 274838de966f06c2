"""Which lines does a reader see of comparisons and perplexities? `flows.cli.answer` prints them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from flows.cli.answer import Columns, Line
from flows.cli.render import shorten
from flows.console import count, quantity
from flows.styled import bold, styled

if TYPE_CHECKING:
    from flows.compare import CompareAnswer
    from flows.oracle import OracleAnswer
    from flows.perplexity import PerplexityAnswer
    from flows.score import ScoreAnswer
    from training.evaluation.compare import Compared, Comparison, Flip
    from training.evaluation.hard_examples import NoiseFit
    from training.evaluation.perplexity import Rate
    from training.evaluation.statistics import PairedDifference


def compare_lines(answer: CompareAnswer) -> Iterator[Line]:
    """The comparisons, those with the same B together."""
    names = None
    for comparison in answer.comparisons:
        if comparison.names != names:
            names = comparison.names
            yield f"\nA  {names[0]}"
            yield f"B  {names[1]}"
        yield from _comparison_lines(comparison, len(answer.comparisons))
    if answer.picture:
        yield f"\n  picture  {answer.picture}"


def _comparison_lines(comparison: Comparison, comparisons: int) -> Iterator[Line]:
    difference = comparison.all.difference
    version = f"{comparison.scorer} {comparison.version}"
    yield styled("\n", bold(comparison.benchmark), f"  {comparison.verdict}")
    items = quantity(comparison.all.n, "item")
    if any(comparison.left_out):
        items += f" in common ({count(comparison.left_out[0])} only in A, {count(comparison.left_out[1])} only in B)"
    clustered = difference.clustered
    yield (
        f"  items        {items}"
        + (f" in {count(clustered.clusters or 0)} clusters" if clustered else "")
        + f", scorer {version}"
        + (", mean over subsets" if comparison.macro else "")
    )
    for name, (one, other) in comparison.settings.items():
        yield f"  {name:<11}  A {one}, B {other}"
    for name, score, interval in zip("AB", comparison.all.scores, comparison.all.intervals, strict=True):
        yield f"  {name}            {score:6.1%}   95 % interval {interval.low:.1%} to {interval.high:.1%}"
    yield f"  B - A        {_difference(difference)}"
    if clustered:
        plain = difference.interval
        yield f"               as if items were independent: {100 * plain.low:+.1f} to {100 * plain.high:+.1f}"
    if difference.bootstrap_low is not None and difference.bootstrap_high is not None:
        yield (
            f"               paired bootstrap: {100 * difference.bootstrap_low:+.1f} to "
            f"{100 * difference.bootstrap_high:+.1f}"
        )
    test = (
        "McNemar, exact"
        if difference.p_value == difference.mcnemar
        else "signs of clusters flipped"
        if clustered
        else "signs flipped"
    )
    yield (
        f"  p-value      {_p(difference.p_value)} ({test})"
        + (f"; McNemar {_p(difference.mcnemar)}" if difference.mcnemar not in (None, difference.p_value) else "")
        + (
            f"; {_p(comparison.adjusted_p_value)} adjusted for {comparisons} comparisons (Holm)"
            if comparisons > 1
            else ""
        )
    )
    words = ("wrong to right", "right to wrong") if difference.mcnemar is not None else ("higher in B", "lower in B")
    yield f"  flips        {count(difference.improved)} {words[0]}, {count(difference.worsened)} {words[1]}"
    if difference.minimum_detectable is None:
        yield "  detectable   no difference, with so few items"
    else:
        yield f"  detectable   from {100 * difference.minimum_detectable:.1f} points on, with a power of 80 %"
    for name, part in comparison.classes.items():
        yield f"  {name.replace('_', ' '):<11}  {_class(part)}"
    for flip in comparison.rows:
        yield from _flip_lines(flip)


def _difference(difference: PairedDifference) -> str:
    interval = difference.best_interval
    points = [f"{100 * value:+.1f}" for value in (difference.difference, interval.low, interval.high)]
    return f"{points[0]} points, 95 % interval {points[1]} to {points[2]}"


def _class(part: Compared) -> str:
    return (
        f"{quantity(part.n, 'item')}, A {part.scores[0]:.1%}, B {part.scores[1]:.1%}, "
        f"B - A {_difference(part.difference)}, p {_p(part.difference.p_value)}"
    )


def _flip_lines(flip: Flip) -> Iterator[Line]:
    yield f"\n  {flip.id}  A {flip.scores[0]:g}, B {flip.scores[1]:g}, expected {shorten(flip.expected, 200)}"
    yield f"    {shorten(flip.prompt, 1000)}"
    yield Columns(*((name, text or "(empty)") for name, text in zip("AB", flip.answers, strict=True)))


def _p(value: float | None) -> str:
    return "" if value is None else "< 0.0001" if value < 1e-4 else f"{value:.4f}" if value < 0.1 else f"{value:.2f}"


def perplexity_lines(answer: PerplexityAnswer) -> Iterator[Line]:
    """What was read, and the perplexity of all of it."""
    result = answer.result
    yield styled("\n", bold(answer.checkpoint))
    for path, columns in answer.columns.items():
        read = ", ".join(f"{role} is {name}" for role, name in columns.items()) or "plain text"
        yield f"  {path}: {read}"
    sizes = [quantity(number, noun) for number, noun in ((result.rows, "row"), (result.tokens, "token"))]
    yield f"  texts           {', '.join([*sizes, quantity(result.bytes, 'byte')])}"
    if result.windowed:
        longer = f"longer than the context of {count(answer.context)} tokens"
        yield f"  windows         {quantity(result.windowed, 'row')} {longer}"
    for reason, rows in result.skipped.items():
        yield f"  not measured    {quantity(rows, 'row')}: {reason}"
    yield f"  nats per token  {_rate(result.nats_per_token, 4)}"
    yield f"  perplexity      {_rate(result.perplexity, 3)}"
    if result.bits_per_byte is not None:
        yield f"  bits per byte   {_rate(result.bits_per_byte, 4)}"
    if answer.rows_file:
        yield f"  rows            {answer.rows_file}"


def score_lines(answer: ScoreAnswer) -> Iterator[Line]:
    """Where the table of losses is, the mean losses under each model, and the classes."""
    yield styled("\n", bold(answer.path), "  (was there)" if answer.reused else "")
    yield f"  rows            {count(answer.rows)} of {answer.run}, step {answer.records}"
    for reason, rows in answer.skipped.items():
        yield f"  not measured    {quantity(rows, 'row')}: {reason}"
    for model in answer.models:
        yield f"  {model.model}"
        if model.loss is not None and model.alone is not None:
            yield f"    loss          {model.loss:.4f} nats per token; without the instruction {model.alone:.4f}"
    yield "  classes         " + ", ".join(f"{name} {count(rows)}" for name, rows in answer.classes.items())
    for source, fit in answer.noise.items():
        yield f"  noise           {source or 'small sources'}: {_noise(fit)}"
    if answer.noise:
        rows = sum(fit.rows for fit in answer.noise.values())
        judged = sum(fit.rows for fit in answer.noise.values() if fit.judged)
        yield f"  noise is judged in {judged / rows:.0%} of the rows"
    yield f"  columns         {', '.join(answer.columns)}"
    if not answer.reused:
        yield f"  speed           {count(answer.tokens / answer.seconds)} response tokens per second"


def _noise(fit: NoiseFit) -> str:
    """How well noise is told in a source, or that it is not."""
    if fit.judged:
        return (
            f"{quantity(fit.called, 'row')}; estimated: {fit.recall:.0%} of all noise is found, and "
            f"{fit.precision:.0%} of the rows that are called noise are"
        )
    return (
        f"not judged: this model would find {fit.recall:.0%} of the noise, estimated at {fit.share:.1%} of the rows, "
        f"and {fit.precision:.0%} of what it called noise would be"
    )


def oracle_lines(answer: OracleAnswer) -> Iterator[Line]:
    """Where the table of labels is, how they are distributed, and what they cost."""
    from training.inference.rubric import PROBLEMS

    yield styled("\n", bold(answer.path), "  (was there)" if answer.reused else "")
    yield f"  rows            {count(answer.rows)} of {answer.run}, step {answer.records}"
    for value, rows in answer.values.items():
        yield f"  score {value:<10}{quantity(rows, 'row')}  ({rows / answer.rows:.1%})"
    for problem, rows in answer.problems.items():
        yield f"  no label        {quantity(rows, 'row')}: {PROBLEMS[problem]}"
    width = max(14, *map(len, answer.sources)) if answer.sources else 14
    for source, (rows, mean) in answer.sources.items():
        said = "no label" if mean is None else f"mean {mean:.2f}"
        yield f"  {source:<{width}}  {quantity(rows, 'row')}, {said}"
    yield f"  columns         {', '.join(answer.columns)}"
    yield f"  spent           {quantity(answer.requests, 'request')}, {count(answer.tokens)} tokens"
    yield f"  asked now       {quantity(answer.asked, 'request')}"
    name = answer.columns[0].removeprefix("score_")
    yield f"  in a recipe     {{kind: table, name: {name}, path: {answer.path}}}"


def _rate(rate: Rate, digits: int) -> str:
    text = f"{rate.value:.{digits}f}"
    if rate.low is not None and rate.high is not None:
        text += f"   95 % interval {rate.low:.{digits}f} to {rate.high:.{digits}f}"
    return text

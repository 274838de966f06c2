"""The command `winnow score train`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.answer import print_answer
from flows.cli.options import ROOT, Engine, Json, Settings, Workers, WrittenRoot, check_choice
from flows.cli.session import announce, flow_session
from flows.console import count
from flows.styled import Styled, bold, styled, yellow

CLOSE = 0.01
"""Two AUC that differ by less are as good."""

if TYPE_CHECKING:
    from flows.train_scores import ScoreAnswer, ScoresAnswer


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe with `scores`.")],
    root: WrittenRoot = ROOT,
    engine: Engine = "local",
    workers: Workers = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Train the models of a recipe's scores and measure its rows, without any cut: to choose limits, or to calibrate.

    `winnow build` reuses these steps.

    Example: `winnow score train rated.yaml --set scores.0.max_rows=10000`
    """
    announce(as_json, f"training the scores of {recipe} in {root}, engine {engine}")
    check_choice("--engine", engine, ("ray", "local"))
    from pipelines.check import load_checked
    from pipelines.curate import SCORE_STEPS

    load_checked(recipe, tuple(settings or ()), root, SCORE_STEPS)
    with flow_session(as_json, False, engine) as session:
        from flows.train_scores import train_scores

        run: Callable[..., ScoresAnswer] = train_scores
        answer = session.run(
            run,
            recipe=recipe,
            root=root,
            engine=engine,
            workers=workers,
            settings=tuple(settings or ()),
        )
    print_answer(answer, lines(answer, root), as_json)


def lines(answer: ScoresAnswer, root: str) -> Iterator[str | Styled]:
    """The scores: how they were trained, and how their values are distributed."""

    yield styled("\n", bold(answer.run), f": {count(answer.rows)} rows measured")
    for score in answer.scores:
        yield styled("\n", bold(score.name), f" {score.kind}")
        yield from _score_lines(score, answer)
    yield ""
    yield f"  report   {answer.report}"
    yield f"  next     winnow calibrate {answer.run} --ratings FILE --root {root}"


def _chance(measures: Mapping[str, float]) -> float:
    """The AUC up to which a score without any use comes in 39 of 40 trainings; 0 if the rows held out are not known.

    By the normal approximation of Mann and Whitney's U, with as many of each label held out as the labels' shares say.
    """
    from pipelines.audit.calibration import Z

    held = measures.get("rows_held_out", 0.0)
    positive, negative = (measures.get(f"rows_{label}", 0.0) for label in ("positive", "negative"))
    if not (held and positive and negative):
        return 0.0
    first, second = (held * rows / (positive + negative) for rows in (positive, negative))
    return 0.5 + Z * math.sqrt((held + 1) / (12 * first * second))


def _score_lines(score: ScoreAnswer, answer: ScoresAnswer) -> Iterator[str | Styled]:

    if score.trained:
        rows = ", ".join(f"{count(rows)} {label}" for label, rows in score.trained.items())
        yield f"  trained on {rows} rows"
    if score.measures:
        measures = (
            f"{name} {value:,.0f}" if value.is_integer() else f"{name} {value:.4g}"
            for name, value in score.measures.items()
        )
        yield f"  held out   {', '.join(measures)}"
        auc = score.measures.get("auc", 1.0)
        chance = _chance(score.measures)
        if auc <= chance:
            text = f"no better than chance on the rows held out (AUC {auc:.2f}; up to {chance:.2f} is chance)"
            yield styled("  ", yellow(f"! {text}"))
        for name, what in (("auc_source", "source"), ("auc_length", "length")):
            if auc > chance and score.measures.get(name, 0.0) >= auc - CLOSE:
                text = (
                    f"the {what} alone does as well (AUC {score.measures[name]:.2f}): a cut at this score sorts {what}s"
                )
                yield styled("  ", yellow(f"! {text}"))
    for column, values in score.quantiles.items():
        shares = ", ".join(
            f"{100 * share:.0f} % {value:.4g}" for share, value in zip(answer.shares, values, strict=True)
        )
        yield f"  {column}: quantiles {shares}"
    if score.groups:
        yield f"  rows       {', '.join(f'{name} {count(rows)}' for name, rows in score.groups.items())}"
    if score.measured < answer.rows:
        yield styled("  ", yellow(f"! {count(answer.rows - score.measured)} rows could not be measured"))

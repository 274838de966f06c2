"""Which lines does a reader see of a calibration? `flows.cli.answer` prints them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from flows.cli.answer import Line
from flows.console import count, quantity
from flows.styled import bold, styled, yellow
from pipelines.audit.calibration import threshold_words

if TYPE_CHECKING:
    from flows.calibrate import CalibrateAnswer
    from pipelines.audit.calibration import Calibration, Estimate, Raters


def calibrate_lines(answer: CalibrateAnswer) -> Iterator[Line]:
    """What was read, how the raters agree, and each score with its groups, cuts and warnings."""
    for path, columns in answer.columns.items():
        yield f"  {path}: {', '.join(f'{role} is {name}' for role, name in columns.items())}"
    yield (
        f"  ratings   {quantity(answer.ratings, 'pair' if answer.pairs else 'row')}"
        + (f", subject from {answer.subject}" if answer.subject else ", no subject (--subject names a column)")
    )
    if answer.raters and answer.raters.rated_twice:
        yield f"  raters    {raters_words(answer.raters)}"
    for one in answer.calibrations:
        yield from _score_lines(one)
    for path in answer.pictures:
        yield f"  picture   {path}"
    if answer.recorded:
        yield f"  recorded  {answer.recorded}"


def raters_words(raters: Raters) -> str:
    """How the people agree with each other, in one line."""
    text = f"{raters.raters}, {count(raters.rated_twice)} rated by two or more"
    if raters.alpha is not None:
        text += f"; Krippendorff's alpha {raters.alpha:.2f} ({raters.level})"
    if raters.ceiling is not None:
        text += f"; one rater against the mean of the others: {raters.ceiling_measure} {raters.ceiling:.2f}"
    return text


def _score_lines(one: Calibration) -> Iterator[Line]:
    way = "" if one.higher_is_better or not one.agrees else "  lower is better"
    yield styled("\n", bold(one.score), way)
    share = "accuracy" if one.pairs else f"AUC >= {one.good:g}"
    both = f"Spearman, {share.partition(' ')[0]}"
    width = max(len("subject"), *(len(group.subject) for group in one.groups), 0) if one.groups else 7
    yield f"  {'subject':<{width}}  {'ratings':>7}  {'Spearman':<24}{share:<22}{'length alone':<20}{'source alone':<20}"
    yield f"  {'':<{width}}  {'':>7}  {'(95 % interval)':<24}{'(95 % interval)':<22}{both:<20}{both:<20}"
    for group in one.groups:
        baselines = [
            f"{_value(measures.spearman)}, {_value(measures.auc)}" if measures else "one source"
            for measures in (group.length, group.source)
        ]
        marks = [mark for mark, wins in zip("ls", (group.beats_length, group.beats_source), strict=True) if not wins]
        yield (
            f"  {group.subject:<{width}}  {count(group.ratings):>7}  {_estimate(group.score.spearman):<24}"
            f"{_estimate(group.score.auc):<22}{baselines[0]:<20}{baselines[1]:<20}"
            + ("few " if group.small else "")
            + (" ".join({"l": "not above length", "s": "not above source"}[mark] for mark in marks))
        )
    missing = one.groups[0].missing if one.groups else 0
    if missing:
        yield f"  without this score: {quantity(missing, 'rating')}"
    for cut in one.thresholds:
        if cut.subject != "all" and cut.kept != one.thresholds[0].kept:
            continue  # they are in the JSON answer and in the report
        where = "" if cut.subject == "all" else f"within {cut.subject}, "
        yield f"  {where}{threshold_words(cut, one)}"
    for warning in one.warnings:
        yield styled("  ", yellow("warning"), f": {warning}")


def _estimate(one: Estimate | None) -> str:
    return "-" if one is None else f"{one.value:.2f} ({one.low:.2f} to {one.high:.2f})"


def _value(one: Estimate | None) -> str:
    return "-" if one is None else f"{one.value:.2f}"

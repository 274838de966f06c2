"""Do scores agree with people? calibrate."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli.answer import print_answer
from flows.cli.options import ROOT, Json, Root
from flows.cli.session import announce, console_session


def calibrate(
    run: Annotated[
        str | None,
        typer.Argument(help="A run's id, a unique prefix of it, or `latest`. Not needed with --scores."),
    ] = None,
    ratings: Annotated[
        list[str] | None,
        typer.Option("--ratings", help="File of ratings: CSV, TSV, JSON, JSON Lines or Parquet. Repeatable."),
    ] = None,
    score: Annotated[
        list[str] | None, typer.Option("--score", help="Compare only this score. Repeatable. Default: all of the run.")
    ] = None,
    scores: Annotated[
        list[str] | None,
        typer.Option(
            "--scores", help="File with `id` and columns of scores, or the folder of a score table. Repeatable."
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            help="The columns of the ratings: `id=row,rating=stars`; `rating=ann+bob` for two raters; `rating=-fault` "
            "where less is better; `response_a=left,response_b=right,preference=winner`. Default: guessed."
        ),
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option(help="Column of the ratings or of the run that names the subject. Default: `subject` of either."),
    ] = None,
    cut: Annotated[
        float | None,
        typer.Option(help="A row is good from this rating on. Default: the first rating above the middle."),
    ] = None,
    min_ratings: Annotated[
        int, typer.Option(min=10, help="Ratings of a subject from which its numbers count as a result.")
    ] = 200,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="Folder for pictures, the joined table and the answer as JSON.")
    ] = None,
    remove: Annotated[
        bool,
        typer.Option("--withdraw", help="Remove what was recorded in the run: of this --score and --ratings, or all."),
    ] = False,
    root: Root = ROOT,
    as_json: Json = False,
) -> None:
    """Compare the scores of a run with people's ratings: overall, and within each subject.

    A score that sorts sources, or lengths, looks good over all rows and is useless within a subject. So each score is
    shown beside two baselines, the length alone and the source alone, and a warning says where they agree as well.

    Ratings are numbers (`id` or `instruction` and `response`, and `rating`), or preferences between two responses
    (`instruction`, `response_a`, `response_b`, and `preference`: a, b, tie; or 1, 2, 0). Rows that are given by their
    texts are measured by the scores of the run. The result is recorded in the run, and shown in its report.

    Example: `winnow calibrate latest --ratings stars.csv`

    Example: `winnow calibrate latest --ratings pairs.jsonl --columns preference=winner --score liked --out agreement`

    Example: `winnow calibrate --ratings stars.csv --scores scores.parquet`

    Example: `winnow calibrate latest --withdraw --ratings stars.csv`
    """
    named = [name.removeprefix("score_") for name in score or ()]
    if remove:
        return _withdraw(run or "latest", named, ratings or [], root, as_json)
    announce(as_json, f"agreement of {run or 'scores'} with {' '.join(ratings or ['--ratings'])}")
    from flows.calibrate import calibrate_scores
    from flows.cli.render_calibration import calibrate_lines
    from pipelines.errors import WinnowError
    from pipelines.formats.roles import parse_columns

    if not ratings:
        raise WinnowError("name a file of ratings: --ratings FILE")
    with console_session(as_json) as console:
        answer = calibrate_scores(
            run,
            ratings,
            root,
            scores or (),
            named,
            parse_columns(columns) if columns else None,
            subject,
            cut,
            min_ratings,
            out,
        )
        for note in answer.notes:
            console.print(note)
    print_answer(answer, calibrate_lines(answer), as_json)


def _withdraw(run: str, scores: list[str], ratings: list[str], root: str, as_json: bool) -> None:
    from flows.calibrate import withdraw

    answer = withdraw(run, scores, ratings, root)
    lines = [f"withdrawn from run {answer.run}: {score} by {', '.join(files)}" for score, files in answer.withdrawn]
    print_answer(answer, lines, as_json)

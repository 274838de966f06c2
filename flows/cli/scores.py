"""Which commands compare models? compare, perplexity."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli.answer import print_answer
from flows.cli.options import ROOT, Json, Root
from flows.cli.session import console_session


def compare(
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="A B ...",
            help="Evaluation folders; or checkpoints, training folders or `latest`, with all their evaluations.",
        ),
    ],
    benchmark: Annotated[
        list[str] | None, typer.Option(help="Compare only this benchmark. Repeatable. Default: all that both have.")
    ] = None,
    scorer: Annotated[
        str | None, typer.Option(help="Whose scores to compare. Default: the first, which is the published one.")
    ] = None,
    common: Annotated[
        bool, typer.Option("--common", help="Compare the common items of evaluations with different items.")
    ] = False,
    rows: Annotated[int, typer.Option(min=0, help="Items to show whose scores differ, with both answers.")] = 0,
    out: Annotated[str | None, typer.Option("--out", "-o", help="Draw the differences to this PNG file.")] = None,
    root: Root = ROOT,
    as_json: Json = False,
) -> None:
    """Compare evaluations item by item: do B, and any further ones, differ from A by more than chance?

    For each benchmark: the difference with its 95 % interval, a paired test (McNemar's; with passages or subjects a
    test that flips the signs of whole clusters), the p-value adjusted for all benchmarks (Holm), how many items were
    gained and lost, and the smallest difference that this number of items would have shown. No model is run.

    Example: `winnow compare checkpoints/step-00001000 latest --benchmark gsm8k`
    """
    from flows.cli.render_scores import compare_lines
    from flows.compare import compare_evaluations

    with console_session(as_json) as console:
        answer = compare_evaluations(targets, benchmark or (), root, scorer, common, rows, out)
        for note in answer.notes:
            console.rich.print(note, markup=False, highlight=False, soft_wrap=True)
    print_answer(answer, compare_lines(answer), as_json)

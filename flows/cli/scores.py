"""Which commands compare models? compare, perplexity."""

from __future__ import annotations

from typing import Annotated, cast

import typer

from flows.cli.answer import print_answer
from flows.cli.options import ROOT, Checkpoint, Columns, Device, Json, Root, check_choice
from flows.cli.session import announce, console_session


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
            console.print(note)
    print_answer(answer, compare_lines(answer), as_json)


def perplexity(
    checkpoint: Checkpoint,
    files: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files, folders, globs or URLs: rows as `winnow build` reads them; any other file is one plain text."
        ),
    ] = None,
    text: Annotated[str | None, typer.Option(help="Measure this text.")] = None,
    columns: Columns = None,
    condition: Annotated[
        str, typer.Option(help="Condition tags of rows that have none: `direct`, `synth,cot` ...")
    ] = "direct",
    limit: Annotated[int | None, typer.Option(min=1, help="Measure only this many rows, the first ones.")] = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="Write the likelihood of each row to this Parquet file.")
    ] = None,
    device: Device = "auto",
    precision: Annotated[str, typer.Option(help="`fp32`, or `bf16`, which is faster.")] = "fp32",
    root: Root = ROOT,
    as_json: Json = False,
) -> None:
    """Measure how likely a checkpoint finds texts: nats per token, perplexity and bits per byte, with 95 % intervals.

    Of rows with instruction and response, the response and its end are measured given the instruction, as in training.
    Plain text is measured without an instruction. A text longer than the context is measured in windows that overlap by
    half. Only bits per byte can be compared between models with different tokenizers.

    Example: `winnow perplexity latest data.jsonl --limit 1000`
    """
    announce(as_json, f"perplexity of {' '.join(files or ['--text'])} by {checkpoint}")
    from flows.cli.render_scores import perplexity_lines
    from pipelines.errors import WinnowError
    from pipelines.formats.roles import parse_columns
    from training.folders import find_checkpoint

    if not files and text is None:
        raise WinnowError("name files, or give a text: --text 'Water boils at 100 degrees.'")
    named = parse_columns(columns) if columns else None
    find_checkpoint(checkpoint, root)
    from flows.perplexity import perplexity as measure
    from training.configs import Precision

    check_choice("--precision", precision, ("fp32", "bf16"))
    with console_session(as_json):
        answer = measure(
            checkpoint, files or (), text, named, condition, limit, out, root, device, cast(Precision, precision)
        )
    print_answer(answer, perplexity_lines(answer), as_json)

"""Which commands remove rows and bytes? forget, gc."""

from __future__ import annotations

from typing import Annotated, cast

import typer

from flows.cli.answer import print_answer
from flows.cli.options import ROOT, Json, RunOption, Workers, WrittenRoot, check_choice
from flows.cli.session import console_session


def forget(
    ids: Annotated[list[str] | None, typer.Option("--id", help="The id of a row of the run. Repeatable.")] = None,
    sources: Annotated[list[str] | None, typer.Option("--source", help="A source, with all rows. Repeatable.")] = None,
    texts: Annotated[
        list[str] | None, typer.Option("--text", help="All rows that contain this text, in any run. Repeatable.")
    ] = None,
    file: Annotated[str | None, typer.Option("--file", help="A file with an id of the run on each line.")] = None,
    run: RunOption = "latest",
    apply: Annotated[
        bool, typer.Option("--apply", help="Make new runs without these rows. Without it, they are only listed.")
    ] = False,
    engine: Annotated[str, typer.Option("--engine", help="For the new runs: `local` or `ray`.")] = "local",
    workers: Workers = None,
    root: WrittenRoot = ROOT,
    as_json: Json = False,
) -> None:
    """List every file, training and checkpoint that holds or saw rows; with --apply, build new runs without them.

    With --apply, the new runs are compared with the former ones, a receipt is written, and a tombstone makes every
    later build below the root drop these rows. Rows with the same text go too. Nothing is removed: `winnow gc` does it.

    Example: `winnow forget --id gsm8k_train/gsm8k_train/17`, `winnow forget --source web --apply`
    """
    from flows.cli import render_forget
    from flows.execute import EngineName
    from flows.forget import forget as forget_rows
    from flows.similar import read_text
    from pipelines.audit.forget import Selection
    from pipelines.errors import WinnowError

    check_choice("--engine", engine, ("ray", "local"))
    listed = [line.strip() for line in read_text(file).splitlines() if line.strip()] if file is not None else []
    selection = Selection(tuple(dict.fromkeys([*(ids or ()), *listed])), tuple(texts or ()), tuple(sources or ()))
    if not any(selection):
        raise WinnowError("say what to forget: --id ID, --source NAME, --text TEXT or --file ids.txt")
    with console_session(as_json):
        answer = forget_rows(selection, run, root, apply, cast(EngineName, engine), workers)
    print_answer(answer, render_forget.forget_lines(answer), as_json)


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be removed.")] = False,
    min_age: Annotated[
        float,
        typer.Option(
            min=0,
            help="Hours from which on a step that no run refers to is removed: a build that was stopped may use it.",
        ),
    ] = 24.0,
    root: WrittenRoot = ROOT,
    as_json: Json = False,
) -> None:
    """Remove what nothing below the root refers to: runs that `winnow forget` replaced, and steps of no run.

    Trainings, evaluations and completions are never removed. Nothing is removed while a build is going on.

    Example: `winnow gc --dry-run`
    """
    from flows.cli import render_forget
    from flows.gc import gc as collect

    with console_session(as_json):
        answer = collect(root, dry_run, min_age)
    print_answer(answer, render_forget.gc_lines(answer), as_json)

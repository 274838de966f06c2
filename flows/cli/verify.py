"""Which command checks that nothing below a root was changed or lost? verify."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli.answer import print_answer
from flows.cli.options import ROOT, Json, Root, Run
from flows.cli.session import console_session


def verify(
    run: Run = "latest",
    everything: Annotated[
        bool, typer.Option("--all", help="Verify all runs, trainings, evaluations and everything else below the root.")
    ] = False,
    deep: Annotated[
        bool,
        typer.Option(
            "--deep",
            help="Also look for duplicates and leaks that should be gone, and make random shards again. Takes about as "
            "long as a build.",
        ),
    ] = False,
    root: Root = ROOT,
    as_json: Json = False,
) -> None:
    """Check a run and what was made from it: the digest of every file, rows and ids of every step, the packs, and the
    checkpoints trained on them.

    Example: `winnow verify latest --deep`
    """
    from flows.cli import render
    from flows.verify import verify as verify_run

    with console_session(as_json):
        answer = verify_run(run, root, deep, everything)
    print_answer(answer, render.verify_lines(answer), as_json)

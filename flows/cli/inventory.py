"""Which commands list what there is, or prepare this machine? stages, runs, warm."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from flows.cli.answer import print_answer
from flows.cli.options import ROOT, Json, Root
from flows.cli.session import console_session


def complete_stage(incomplete: str) -> list[str]:
    """The kinds of stages that begin like this, for the shell's completion."""
    from filters.describe import entries

    return [entry.kind for entry in entries() if entry.kind.startswith(incomplete)]


def stages(
    name: Annotated[
        str | None,
        typer.Argument(help="A stage's kind, to show it in full.", autocompletion=complete_stage),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the stages and scores that a recipe can use, with parameters and reasons; or show one in full.

    Example: `winnow stages language`
    """
    from filters import describe
    from flows.cli import render
    from pipelines.errors import WinnowError, nearest

    entries = [entry for entry in describe.entries() if name in (None, entry.kind)]
    if not entries:
        raise WinnowError(
            f"{name}: no such stage; {nearest(str(name), dict.fromkeys(one.kind for one in describe.entries()))}"
        )
    lines = (
        render.stage_lines(entries)
        if name is None
        else [line for one in entries for line in render.full_stage_lines(one)]
    )
    print_answer({"stages": [entry.model_dump(mode="json") for entry in entries]}, lines, as_json)


def runs(root: Root = ROOT, as_json: Json = False) -> None:
    """List the runs below a root, the newest first: status, rows, tokens, size, and whether the packs are still there.

    A run that failed, was stopped or was killed is listed with the step that it was at and its error. `winnow report`,
    `why`, `clusters` and `diff` take it by its id. It leaves the list when the same recipe is built with success.

    Example: `winnow runs`
    """
    from flows.cli import render
    from pipelines.audit.runs import runs as find_runs

    answer = find_runs(root)
    print_answer(answer, render.run_lines(answer), as_json)


def warm(as_json: Json = False) -> None:
    """Compile all kernels now, which takes about a minute, so that no later command waits for it.

    Example: `winnow warm`
    """
    started = time.monotonic()
    with console_session(as_json) as console:
        console.print("compiling the kernels of a build (1 of 2) ...")
        from pipelines.compile import main as compile_pipelines

        compile_pipelines()
        console.print("compiling the kernels of text generation (2 of 2) ...")
        from training.compile import main as compile_training

        compile_training()
    seconds = round(time.monotonic() - started, 1)
    print_answer({"seconds": seconds}, [f"all kernels are compiled ({seconds} s)"], as_json)

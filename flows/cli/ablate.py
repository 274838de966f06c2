"""Which command shows whether a change of a recipe helps? ablate."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.answer import print_answer
from flows.cli.options import ROOT, Engine, Json, WrittenRoot
from flows.cli.session import announce, console_session

if TYPE_CHECKING:
    from flows.ablate import Cost
    from flows.console import Console


def ablate(
    recipes: Annotated[
        list[str],
        typer.Argument(metavar="A.yaml B.yaml ...", help="Recipes. Each further one is compared with the first."),
    ],
    random: Annotated[
        bool, typer.Option("--random", help="Also train on as many tokens of the first corpus, chosen at random.")
    ] = False,
    length: Annotated[
        bool, typer.Option("--length", help="Also train on as many tokens of the first corpus, its longest rows.")
    ] = False,
    search: Annotated[
        bool, typer.Option("--search", help="Of one recipe: search better weights of its `sampling.groups`.")
    ] = False,
    mixtures: Annotated[int, typer.Option(min=1, help="With --search: mixtures that are trained.")] = 24,
    seeds: Annotated[int, typer.Option(min=2, help="Trainings of each arm.")] = 3,
    tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of each training. Default: the steps of the configuration.")
    ] = None,
    config: Annotated[str, typer.Option(help="A configuration of training/configs.py: tiny, b, l ...")] = "tiny",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override one key of the configuration: `model.hidden=64`. Repeatable."),
    ] = None,
    share: Annotated[float, typer.Option("--held-out", help="Share of the instructions that is held out.")] = 0.05,
    rows: Annotated[int, typer.Option(min=20, help="Held-out rows that are measured.")] = 1500,
    benchmark: Annotated[
        list[str] | None, typer.Option(help="Also measure right answers to this benchmark, and accuracy. Repeatable.")
    ] = None,
    path: Annotated[
        list[str] | None, typer.Option(help="Files of the benchmark, if the first recipe does not name them.")
    ] = None,
    limit: Annotated[int, typer.Option(min=20, help="Ask only this many items of a benchmark, the first ones.")] = 300,
    out: Annotated[str | None, typer.Option("--out", "-o", help="Write the tables to this Markdown file.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before the trainings start.")] = False,
    engine: Engine = "local",
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Trainings at a time, a thread each. Default: one per CPU.")
    ] = None,
    root: WrittenRoot = ROOT,
    as_json: Json = False,
) -> None:
    """Train small models on the corpora of several recipes, and compare them on held-out rows: does a change help?

    All arms have the tokenizer of the first recipe and train on the same number of tokens, with several seeds. Rows are
    held out by a hash of their instruction, so no arm has trained on them. The first metric is bits per byte of the
    held-out responses that all recipes keep. A recipe is "shown to help" if it is better than the first one and than
    its controls, "shown to hurt", or "not shown to help". Each comparison has its 95 % interval over items and
    trainings, and the smallest difference that it could have found.

    The cost is printed before the trainings start. The same command carries on after it was stopped, and trainings are
    shared between ablations.

    With `--search` and one recipe: models are trained on mixtures around the weights of `sampling.groups`, a
    regression proposes weights, and the proposal is compared with the present ones.

    Example: `winnow ablate base.yaml filtered.yaml --random --length`
    """
    announce(as_json, f"comparing {' '.join(recipes)} in {root}")
    from typing import cast

    from pipelines.errors import WinnowError, nearest
    from training.names import check_config

    check_config(config)
    if engine not in ("ray", "local"):
        raise WinnowError(f"--engine {engine!r}: {nearest(engine, ('ray', 'local'))}")
    from flows.ablate import Design
    from flows.ablate import ablate as run
    from flows.execute import EngineName

    if engine == "ray":
        from flows.reach import check_ray

        check_ray()
    design = Design(
        config=config,
        settings=tuple(settings or ()),
        tokens=tokens,
        seeds=seeds,
        share=share,
        rows=rows,
        benchmarks=tuple(benchmark or ()),
        paths=tuple(path or ()),
        limit=limit,
    )
    if search:
        if len(recipes) != 1 or random or length:
            raise WinnowError("--search takes one recipe, without --random and --length")
        from flows.ablate import search_mixture
        from flows.ablation_report import search_lines

        with console_session(as_json) as console:
            found = search_mixture(
                recipes[0],
                mixtures,
                root=root,
                design=design,
                engine=cast(EngineName, engine),
                workers=workers,
                confirm=lambda cost: _confirm(cost, console, yes or as_json),
                out=out,
            )
        return print_answer(found, search_lines(found), as_json)
    with console_session(as_json) as console:
        answer = run(
            recipes,
            random=random,
            length=length,
            root=root,
            design=design,
            engine=cast(EngineName, engine),
            workers=workers,
            confirm=lambda cost: _confirm(cost, console, yes or as_json),
            out=out,
        )
    from flows.ablation_report import lines

    print_answer(answer, lines(answer), as_json)


def _confirm(cost: Cost, console: Console, yes: bool) -> bool:
    """Print the cost; ask if there is a terminal to ask on."""
    from flows.ablate import cost_lines

    for line in cost_lines(cost):
        console.print(f" {line}")
    if yes or cost.seconds is None or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    return typer.confirm("Start?", default=True, err=True)

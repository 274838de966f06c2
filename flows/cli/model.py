"""Which commands train a model and use it? train, evaluate, generate."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli.answer import print_answer
from flows.cli.options import ROOT, Checkpoint, Device, Json, Root
from flows.cli.session import announce, flow_session


def train(
    run: Annotated[
        str, typer.Argument(help="A run's id, `latest`, or a folder of pack shards with their tokenizer.json.")
    ] = "latest",
    config: Annotated[str, typer.Option(help="A configuration of training/configs.py: tiny, b, l, xl ...")] = "tiny",
    out: Annotated[
        str | None, typer.Option("--out", help="Folder for the checkpoints. Default: below the root.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Ray Train workers. Default: one per GPU, or two on CPUs.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Stop after this many steps.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override one key of the configuration: `lr=2e-4`, `model.norm=pre`. Repeatable."),
    ] = None,
    root: Root = ROOT,
    as_json: Json = False,
) -> None:
    """Train HRM-Text on the packs of a run with Ray Train. Resumes from the latest checkpoint.

    Writes checkpoints, metrics.jsonl, TensorBoard event files and loss.png. With `--set start=FOLDER` the training
    starts from the weights of a checkpoint or of a transformers model; the packs must have the same tokenizer.

    Example: `winnow train latest --config tiny --set checkpoint_minutes=5`
    """
    from training.names import check_config

    check_config(config)
    announce(as_json, f"training {config} on {run} in {root}")
    from pathlib import Path

    from pipelines.ledger.runs import open_run

    # Mistakes are found before a server is started: a wrong run before torch is imported, a wrong key after it.
    if not Path(run).is_dir():
        open_run(root, run)
    from flows.cli import render
    from flows.configure import configure
    from flows.reach import check_ray
    from training.provenance import find_packs

    check_ray()
    configure(config, find_packs(run, root).shards, steps, settings or ())
    with flow_session(as_json, engine="ray") as session:
        from flows.prefect.train import train_flow

        answer = session.run(
            train_flow,
            run=run,
            config=config,
            root=root,
            out=out,
            workers=workers,
            steps=steps,
            settings=tuple(settings or ()),
        )
    print_answer(answer, render.train_lines(answer, root), as_json)


def evaluate(
    checkpoint: Checkpoint = "latest",
    benchmark: Annotated[
        list[str] | None,
        typer.Option(help="Repeatable. Default: all that the corpus was checked against and that can be scored."),
    ] = None,
    path: Annotated[
        list[str] | None, typer.Option(help="Files of the benchmark, if the run's recipe does not name them.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Ask only this many items, the first ones.")] = None,
    device: Device = "auto",
    root: Root = ROOT,
    as_json: Json = False,
) -> None:
    """Score a checkpoint on all items of a benchmark, and on those found and not found in its training rows.

    Each score has its 95 % interval. The difference between items not found and found is taken within the subsets of
    the benchmark. Below it is HRM-Text's test of whether contamination raises the score: an item is clean if less than
    20 % of its tokens are in n-grams of the training rows, and dirty from 80 % on. The effect is significant if all
    four subsets deviate from the overall mean by more than two standard errors. With few dirty items this may be
    impossible at any outcome; the test then cannot be decided.

    Example: `winnow evaluate latest --benchmark gsm8k --limit 200`
    """
    announce(as_json, f"evaluating {checkpoint} in {root}")
    from flows.cli import render
    from training.folders import find_checkpoint

    folder = find_checkpoint(checkpoint, root)
    # Mistakes are found before a server is started.
    from flows.benchmarks import benchmarks_to_score
    from training.provenance import run_of

    benchmarks_to_score(tuple(benchmark or ()), folder, run_of(folder, root), tuple(path or ()))
    with flow_session(as_json) as session:
        from flows.prefect.evaluate import evaluate_flow

        answer = session.run(
            evaluate_flow,
            checkpoint=folder,
            benchmarks=tuple(benchmark or ()),
            root=root,
            paths=tuple(path or ()),
            limit=limit,
            device=device,
        )
    print_answer(answer, render.evaluate_lines(answer, checkpoint, root), as_json)


def generate(
    checkpoint: Checkpoint,
    instruction: Annotated[str, typer.Argument(help="The instruction to answer.")],
    condition: Annotated[
        str, typer.Option(help="Condition tags as in the corpus: `direct`, `cot`, `synth,cot` ...")
    ] = "direct",
    max_tokens: Annotated[int, typer.Option(min=1, help="The longest response, in tokens.")] = 256,
    device: Device = "auto",
    root: Root = ROOT,
    as_json: Json = False,
) -> None:
    """Generate a checkpoint's response to one instruction.

    Example: `winnow generate latest 'What is 7 + 5?'`
    """
    from rich.markup import escape

    from flows.generate import generate as generate_response

    answer = generate_response(checkpoint, instruction, condition, max_tokens, root, device)
    print_answer(answer, [escape(answer.response)], as_json)

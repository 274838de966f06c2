"""Which commands train a model and use it? train, evaluate, rescore, generate."""

from __future__ import annotations

from typing import Annotated, Any, cast

import typer

from flows.cli.answer import print_answer
from flows.cli.options import (
    ROOT,
    Checkpoint,
    Device,
    Engine,
    Json,
    Precision,
    Raw,
    Root,
    Start,
    WrittenRoot,
    check_choice,
)
from flows.cli.session import announce, flow_session


def train(
    run: Annotated[
        str, typer.Argument(help="A run's id, `latest`, or a folder of pack shards with their tokenizer.json.")
    ] = "latest",
    config: Annotated[
        str, typer.Option(help="A configuration of training/configs.py: tiny, b, l, xl ..., or `sft` for fine-tuning.")
    ] = "tiny",
    start: Start = None,
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
    root: WrittenRoot = ROOT,
    as_json: Json = False,
) -> None:
    """Train HRM-Text on the packs of a run with Ray Train. Resumes from the latest checkpoint.

    Writes checkpoints, metrics.jsonl, TensorBoard event files and loss.png. With `--from` the training starts from the
    averaged weights of a checkpoint, or from those of a transformers model. The packs must have its tokenizer.
    `--config sft` fine-tunes: it has the shape of that model, and the settings with which HRM-Text is fine-tuned.

    Example: `winnow train latest --config tiny --set checkpoint_minutes=5`, `winnow train mine --from latest --config
    sft`
    """
    from training.names import check_training

    check_training(config, start)
    announce(as_json, f"training {config} on {run} in {root}")
    from pathlib import Path

    from pipelines.ledger.runs import open_run
    from training.folders import find_checkpoint

    # Mistakes are found before a server is started: a wrong run before torch is imported, a wrong key after it.
    if not Path(run).is_dir():
        open_run(root, run)
    if start is not None:
        find_checkpoint(start, root)
    from flows.cli import render
    from flows.configure import configure_training
    from flows.reach import check_ray

    check_ray()
    configure_training(run, config, root, out, steps, settings or (), start)
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
            start=start,
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
    shots_path: Annotated[
        list[str] | None, typer.Option(help="Files of the examples in its prompts. Default: their published address.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Ask only this many items, the first ones.")] = None,
    shots: Annotated[int | None, typer.Option(min=0, help="Examples in a prompt. Default: as published.")] = None,
    method: Annotated[
        str,
        typer.Option(
            help="`generate` an answer, or, of multiple choice, take the most likely `letter`, or the choice with the "
            "highest `likelihood`."
        ),
    ] = "generate",
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            help="How an answer is found: `greedy`, `self-consistency:n=8`, `adaptive-consistency`, `self-refine`, "
            "`spiral`. Repeatable."
        ),
    ] = None,
    condition: Annotated[str | None, typer.Option(help="Condition tags of the prompts. Default: as published.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="The longest answer, in tokens.")] = None,
    temperature: Annotated[float, typer.Option(min=0, help="0 for greedy decoding.")] = 0.0,
    seed: Annotated[list[int] | None, typer.Option(min=0, help="Of sampling. Repeatable. Default: 0.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Largest number of questions answered together.")] = 32,
    device: Device = "auto",
    precision: Precision = "fp32",
    weights: Annotated[str, typer.Option(help="Of a checkpoint: `ema`, the moving average, or `model`.")] = "ema",
    model: Annotated[str | None, typer.Option(help="The name of an endpoint's model, if CHECKPOINT is a URL.")] = None,
    engine: Engine = "local",
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="With `--engine ray`: actors. Default: one per GPU, or per node."),
    ] = None,
    root: WrittenRoot = ROOT,
    as_json: Json = False,
) -> None:
    """Score a checkpoint on all items of a benchmark, and on those found and not found in its training rows.

    Each score has its 95 % interval. The difference between items not found and found is taken within the subsets of
    the benchmark. Below it is HRM-Text's test of whether contamination raises the score: an item is clean if less than
    20 % of its tokens are in n-grams of the training rows, and dirty from 80 % on. The effect is significant if all
    four subsets deviate from the overall mean by more than two standard errors. With few dirty items this may be
    impossible at any outcome; the test then cannot be decided.

    Answers are stored in ROOT/evaluations as they come. The same command carries on after it was stopped.

    With `--strategy`, accuracy is printed against all tokens generated, and drawn. One greedy answer, and votes over as
    many samples as generate as many tokens, are asked as well. Strategies are compared with both, item by item.

    Example: `winnow evaluate latest --benchmark gsm8k --limit 200`
    """
    announce(as_json, f"evaluating {checkpoint} in {root}")
    check_choice("--method", method, ("generate", "letter", "likelihood"))
    check_choice("--precision", precision, ("fp32", "bf16"))
    check_choice("--weights", weights, ("ema", "model"))
    check_choice("--engine", engine, ("ray", "local"))
    from flows.cli import render
    from training.folders import find_checkpoint

    folder = checkpoint if checkpoint.startswith(("http://", "https://")) else find_checkpoint(checkpoint, root)
    # Mistakes are found before a server or a model is started.
    from flows.benchmarks import benchmarks_to_score
    from flows.evaluate import run_of_model
    from flows.prefect.ephemeral import configured
    from training.evaluation.evaluate import How

    strategies: list[str | None] = [*(strategy or [])] or [None]
    hows = tuple(
        How.model_validate(
            {
                "method": method,
                "condition": condition,
                "shots": shots,
                "strategy": one,
                "max_tokens": max_tokens,
                "temperature": temperature,
                "seed": number,
            }
        )
        for one in strategies
        for number in seed or [0]
    )
    paths, shots_paths = tuple(path or ()), tuple(shots_path or ())
    recorded = run_of_model(folder, root)
    for how in hows:
        benchmarks_to_score(tuple(benchmark or ()), folder, recorded, how, paths, shots_paths)
    with flow_session(as_json, configured(), engine) as session:
        from flows.evaluate import evaluate as run
        from training.evaluation.evaluate import ModelSpec

        arguments: dict[str, Any] = {
            "benchmarks": tuple(benchmark or ()),
            "hows": hows,
            "root": root,
            "paths": paths,
            "shots": shots_paths,
            "limit": limit,
            "engine": engine,
            "workers": workers,
        }
        spec: dict[str, Any] = {
            "average": weights == "ema",
            "device": device,
            "precision": precision,
            "batch": batch,
        }
        if session.tracked:
            from flows.prefect.evaluate import evaluate_flow

            answer = session.run(cast(Any, evaluate_flow), folder, model=model, **spec, **arguments)
        else:
            answer = run(ModelSpec(folder, name=model, **spec), **arguments)
    print_answer(answer, render.evaluate_lines(answer, checkpoint, root), as_json)


def rescore(
    evaluation: Annotated[
        list[str] | None,
        typer.Argument(help="Folders below ROOT/evaluations, or names of benchmarks. Default: all."),
    ] = None,
    root: Root = ROOT,
    as_json: Json = False,
) -> None:
    """Judge the stored answers of evaluations again, with the scorers of this version. No model is run.

    Each score is printed beside the former one, with the versions of the scorers.

    Example: `winnow rescore`, `winnow rescore gsm8k math`
    """
    announce(as_json, f"scoring stored answers in {root}")
    from flows.cli import render
    from flows.cli.session import console_session

    with console_session(as_json):
        from flows.rescore import rescore as run

        answer = run(tuple(evaluation or ()), root)
    print_answer(answer, render.rescore_lines(answer), as_json)


def generate(
    checkpoint: Checkpoint,
    instruction: Annotated[str, typer.Argument(help="The instruction to answer.")],
    condition: Annotated[
        str, typer.Option(help="Condition tags as in the corpus: `direct`, `cot`, `synth,cot` ...")
    ] = "direct",
    max_tokens: Annotated[int, typer.Option(min=1, help="The longest response, in tokens.")] = 256,
    device: Device = "auto",
    root: Root = ROOT,
    raw: Raw = False,
    as_json: Json = False,
) -> None:
    """Generate a checkpoint's response to one instruction.

    Example: `winnow generate latest 'What is 7 + 5?'`
    """

    from flows.generate import generate as generate_response

    answer = generate_response(checkpoint, instruction, condition, max_tokens, root, device)
    print_answer(answer, [answer.response], as_json, raw=raw)

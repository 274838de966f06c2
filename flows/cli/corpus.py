"""Which commands make a corpus, check one, or hand it on? build, scan, plan, sources, export."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.answer import print_answer
from flows.cli.options import (
    ROOT,
    Columns,
    Engine,
    Json,
    Memory,
    Root,
    Settings,
    Start,
    Workers,
    WrittenRoot,
    check_choice,
)
from flows.cli.session import announce, flow_session, needs_prefect

if TYPE_CHECKING:
    from pydantic import BaseModel

    from pipelines.recipe import Recipe


def build(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RECIPE|FILES...",
            help="A recipe, or files of your own: then as `winnow init` writes.",
            show_default=False,
        ),
    ] = None,
    manifest: Annotated[
        str | None,
        typer.Option(help="Rebuild the packs of this manifest (`winnow export --format manifest`) from its sources."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="With --manifest: the folder of the sources' files. Default: that of the manifest."),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(help="With --manifest: the place of one source, `NAME=PATH` (file, folder, glob). Repeatable."),
    ] = None,
    root: WrittenRoot = ROOT,
    engine: Engine = "ray",
    workers: Workers = None,
    memory: Memory = None,
    settings: Settings = None,
    columns: Columns = None,
    from_step: Annotated[
        str | None,
        typer.Option(help="Make this step and those after it again, though they are finished: `near-duplicates` ..."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Build a corpus, from sources to packed tokens. Finished steps are reused.

    Without a recipe, files are built with the recipe that `winnow init` would write. With --manifest the packs of that
    corpus are rebuilt, byte for byte, or the command says which rows of which source changed.

    Example: `winnow build pipelines/recipes/demo.yaml --set near_duplicates.response=0.7`, `winnow build data.csv`,
    `winnow build --manifest corpus/manifest.arrow --data /data`
    """
    inputs, placed = _build_inputs(inputs or [], manifest, data, source or [])
    settings = [*placed, *(settings or ())]
    announce(as_json, f"building {' '.join(inputs[:3])}{' ...' if len(inputs) > 3 else ''} in {root}, engine {engine}")
    from flows.cli import render
    from flows.cli.session import console_session
    from flows.cli.start import recipe_of
    from flows.execute import steps_from
    from pipelines.check import load_checked

    check_choice("--engine", engine, ("ray", "local"))
    # Mistakes are found before a server is started.
    with console_session(as_json) as console:
        recipe = recipe_of(inputs, columns, root, console)
    loaded = load_checked(recipe, tuple(settings or ()), root)
    _check_models(loaded)
    steps_from(loaded, from_step)
    with flow_session(as_json, needs_prefect(engine, loaded, root, again=bool(from_step)), engine) as session:
        from flows.build import BuildAnswer, build

        run: Callable[..., BuildAnswer] = build
        if session.tracked:
            from flows.prefect.curate import curate_flow as run
        answer = session.run(
            run,
            recipe=recipe,
            root=root,
            engine=engine,
            workers=workers,
            settings=tuple(settings or ()),
            from_step=from_step,
            memory=memory,
        )
    print_answer(answer, render.build_lines(answer, root), as_json)


def _build_inputs(
    inputs: list[str], manifest: str | None, data: str | None, sources: list[str]
) -> tuple[list[str], list[str]]:
    """What to build, and the settings that give the places of a manifest's sources.

    Raises: WinnowError: if a recipe and a manifest are given, neither, or options of a manifest without one.
    """
    from pipelines.errors import WinnowError

    if manifest is None:
        if data is not None or sources:
            raise WinnowError(f"{'--data' if data is not None else '--source'}: only with --manifest")
        if not inputs:
            raise WinnowError("nothing to build: give a recipe, files of your own, or --manifest")
        return inputs, []
    if inputs:
        raise WinnowError(f"--manifest has a recipe of its own; build it without {inputs[0]}")
    from pipelines.ledger.corpus_manifest import CorpusManifest

    opened = CorpusManifest(manifest)
    return [opened.path], opened.settings(data, sources)


def scan(
    corpus: Annotated[list[str], typer.Argument(help="Files, folders, globs, or hf:// and s3:// URLs.")],
    benchmarks: Annotated[
        list[str],
        typer.Option(
            "--benchmarks",
            "-b",
            help="An evaluation set as `name=path`, or a file or folder in which sets are searched. Repeatable.",
        ),
    ],
    columns: Columns = None,
    rule: Annotated[
        str, typer.Option(help="The rule by which an item counts as found: `ngram13`, `gpt3`, `palm`, `tulu3` ...")
    ] = "ngram13",
    semantic: Annotated[
        bool,
        typer.Option(
            "--semantic",
            help="Also search for paraphrased items, by sentence vectors. Slow on a CPU. Finds 94 % of MMLU's "
            "rephrased items, and 9.7 % of GSM8K's training problems wrongly near a test item.",
        ),
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with code 1 if a test item is found.")] = False,
    root: WrittenRoot = ROOT,
    engine: Engine = "ray",
    workers: Workers = None,
    memory: Memory = None,
    as_json: Json = False,
) -> None:
    """Check any corpus against evaluation sets: which items it contains, in which rows, on what evidence.

    The rows without leaks, the flagged rows with their evidence, and all hits are written below the root as Parquet
    files. A scan that was stopped resumes, and a finished one is reused.

    Example: `winnow scan data/*.parquet --benchmarks gsm8k=gsm8k_test.jsonl --columns instruction=q,response=a`
    """
    announce(as_json, f"scanning {' '.join(corpus[:3])}{' ...' if len(corpus) > 3 else ''} in {root}, engine {engine}")
    from flows.cli import render
    from pipelines.check import check as check_recipe
    from pipelines.curate import SCAN_STEPS
    from pipelines.errors import CheckFailed
    from pipelines.formats.read import column_names
    from pipelines.formats.roles import parse_columns
    from pipelines.recipe import Contamination
    from pipelines.scan import find_benchmarks, scan_recipe
    from pipelines.steps.benchmark_index import check_contamination

    check_choice("--engine", engine, ("ray", "local"))
    # Mistakes are found before a server is started.
    mapped = parse_columns(columns) if columns else None
    sets = find_benchmarks(benchmarks)
    settings = Contamination(benchmarks=sets.specs, rule=rule, semantic=semantic)
    check_contamination(settings)
    recipe = scan_recipe(corpus, mapped, settings)
    check_recipe(recipe, root, SCAN_STEPS)
    _check_models(recipe)
    with flow_session(as_json, needs_prefect(engine, recipe, root, SCAN_STEPS), engine) as session:
        from flows.scan import ScanAnswer, scan

        run: Callable[..., ScanAnswer] = scan
        if session.tracked:
            from flows.prefect.scan import scan_flow as run
        (source,) = recipe.sources
        for line in render.column_lines(source.columns or {}, column_names(source.paths[0]), sets.others):
            session.console.print(line)
        answer = session.run(
            run,
            corpus=tuple(corpus),
            benchmarks=tuple(benchmarks),
            columns=mapped,
            rule=rule,
            semantic=semantic,
            root=root,
            engine=engine,
            workers=workers,
            memory=memory,
        )
    print_answer(answer, render.scan_lines(answer, root), as_json)
    if check and answer.flagged:
        raise CheckFailed(f"rows that contain items of evaluation sets: {sum(answer.flagged.values()):,}")


def plan(
    recipe: Annotated[str | None, typer.Argument(help="Path of the recipe's YAML file. Optional with --train.")] = None,
    settings: Settings = None,
    train: Annotated[
        str | None,
        typer.Option(
            help="Also estimate the training of this configuration: tiny, b, l, xl ..., or `sft` with --from."
        ),
    ] = None,
    start: Start = None,
    train_settings: Annotated[
        list[str] | None,
        typer.Option("--train-set", help="Override one key of that configuration: `lora_rank=16`. Repeatable."),
    ] = None,
    root: Root = ROOT,
    tokens: Annotated[
        float | None,
        typer.Option(
            min=1, help="Tokens to train on. Default: all epochs of the recipe; without a recipe, HRM-Text's."
        ),
    ] = None,
    gpus: Annotated[int, typer.Option(min=1, help="GPUs to train on.")] = 1,
    price: Annotated[float, typer.Option(min=0, help="Dollars per GPU-hour.")] = 2.0,
    mfu: Annotated[
        float | None,
        typer.Option(min=0.01, max=1, help="Share of the GPU's peak that is used. Default: 0.40, as HRM-Text reached."),
    ] = None,
    peak: Annotated[
        float | None, typer.Option(min=1e-3, help="Dense bf16 TFLOP/s of the GPU. Default: 989, an H100.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Estimate what a build reads and costs, and what a training on it costs. Nothing is run.

    Example: `winnow plan pipelines/recipes/hrm_text_mini.yaml`, `winnow plan --train xl --gpus 16 --price 2`
    """

    from flows.cli import render
    from pipelines.check import check
    from pipelines.errors import WinnowError
    from pipelines.plan import plan as make_plan
    from pipelines.recipe import load

    if recipe is None and train is None:
        raise WinnowError("nothing to plan: give a recipe, or --train and the name of a configuration")
    if train is not None:
        from training.names import check_training

        check_training(train, start, "--train")
        if start is not None:
            from training.folders import find_checkpoint

            start = find_checkpoint(start, root)
    loaded = load(recipe, tuple(settings or ())) if recipe else None
    if loaded:
        check(loaded, files=False)  # a plan tells which files are missing
    build = make_plan(loaded) if loaded else None
    answer: BaseModel | None = build
    lines = [*render.input_lines(build.inputs), "", *render.plan_lines(build)] if build else []
    if train is not None:
        from flows.cost import BuildPlan, TrainingPlan, training_config, training_cost

        cost = training_cost(
            train,
            loaded,
            build.drawn_tokens_per_epoch if build else None,
            tokens,
            gpus,
            price,
            mfu,
            peak,
            start,
            train_settings or (),
        )
        lines += render.training_cost_lines(training_config(train, loaded, start, train_settings or ()), cost)
        answer = BuildPlan(**build.model_dump(), training=cost) if build else TrainingPlan(training=cost)
    assert answer is not None
    print_answer(answer, lines, as_json)


def check(
    recipe: Annotated[str, typer.Argument(help="Path of the recipe's YAML file.")],
    root: Root = ROOT,
    settings: Settings = None,
) -> None:
    """Check a recipe and the files that it names, as a build does before it starts. Nothing is built.

    Example: `winnow check recipe.yaml`
    """
    from pipelines.check import load_checked

    loaded = load_checked(recipe, tuple(settings or ()), root)
    _check_models(loaded)
    print_answer({"recipe": recipe}, [f"{recipe}: nothing wrong; `winnow build {recipe}` builds it"], as_json=False)


def sources(as_json: Json = False) -> None:
    """List the data sets that a recipe can name: rows, licence, revision, conditions, evaluation sets in them.

    Example: `winnow sources`
    """

    from flows.cli import render
    from pipelines.sources.catalogue import catalogue

    answer = catalogue()
    print_answer(answer, render.source_lines(answer), as_json)


def export(
    run: Annotated[
        str,
        typer.Argument(
            help="A run's id, a unique prefix of it, or `latest`. For the format of a checkpoint: one, or `latest`."
        ),
    ],
    out: Annotated[str, typer.Option("--out", help="A new folder for the export.")],
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="For a corpus `hf`, `jsonl`, `messages`, `prompt-completion`, `megatron`, `hrm-text`, "
            "`manifest`, `card`, `spdx`, `eu-summary` or `openlineage`; for a checkpoint `transformers`, or in four "
            "bits `int4` or `int4-linear`.",
        ),
    ] = "hf",
    root: Root = ROOT,
    as_json: Json = False,
) -> None:
    """Write a corpus in the format of another tool, or a checkpoint as a transformers model.

    Text: `hf` (Parquet for Hugging Face's datasets, with a card and a Croissant description), `jsonl`, `messages` and
    `prompt-completion` (JSONL for TRL and Axolotl). Tokens: `megatron` (Megatron-LM's indexed dataset) and `hrm-text`
    (HRM-Text's own trainer). Documents: `manifest` (ids, digests and order of all rows, without text, for
    `winnow build --manifest`), `card`, `spdx`, `eu-summary` (of the EU AI Act) and `openlineage`.
    Checkpoints: `transformers`; `int4`, an eighth of the size, for Winnow's own commands; `int4-linear`, whose
    embedding is in bf16, for transformers with compressed-tensors.

    Example: `winnow export latest --format messages --out corpus`,
    `winnow export latest --format transformers --out hf`
    """
    from flows.cli import render
    from flows.export import export as write_export

    answer = write_export(run, form, out, root)
    print_answer(answer, [render.export_line(answer)], as_json)


def _check_models(recipe: Recipe) -> None:
    """Raises: WinnowError: if the recipe needs a sentence model or a package that is not installed, or names a strategy
    that there is not."""
    from flows.execute import rewriter_of

    rewriter_of(recipe)
    if recipe.contamination and recipe.contamination.semantic:
        from training.embedding import check_installed

        check_installed()

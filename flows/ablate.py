"""Does a change of a recipe help? Recipes are built, small models trained on each and compared on held-out items."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import yaml
from pydantic import BaseModel, ConfigDict

from flows.benchmarks import Scorable, benchmark_to_score, read_items
from flows.configure import configure
from flows.console import Console, count, current_console, polled
from flows.execute import EngineName, absolute, execute_recipe, make_engine, recipe_text
from flows.tracker import Tracker
from pipelines.curate import STEPS
from pipelines.errors import RunError, WinnowError
from pipelines.ledger import storage
from pipelines.ledger.checksums import write_checksums
from pipelines.ledger.engine import Engine, cpus
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.run import Run
from pipelines.ledger.runs import RecordedRun
from pipelines.ledger.step import Resources
from pipelines.recipe import Group, Recipe, Sampling, Subset, TokenizerSpec, load
from pipelines.steps.pack import PACK, measure_shard, pack, pack_files
from pipelines.steps.products import TOKENIZER_JSON
from pipelines.steps.sampling import pool
from pipelines.steps.token_rows import TokenShard, read_lengths
from pipelines.steps.tokenize import TOKENS
from pipelines.steps.train_tokenizer import TOKENIZER
from pipelines.steps.training_overlap import TRAINING_OVERLAP
from training.ablation import MIN_ITEMS, Arm, Conclusion, Effect, Kind, Metric, changes, conclude, effects, mean_weights
from training.configs import TrainConfig
from training.evaluation.evaluate import How, make_asks, task_of
from training.evaluation.perplexity import Passage
from training.evaluation.task import Task
from training.folders import ABLATIONS
from training.held_out import Corpus, held_out
from training.mixtures import Search, draw_mixtures, groups_of, rules_for, search, weights_of
from training.proxies import Measured, Proxy, Questions, Texts, is_measured, measure_proxy, passages_table, proxy_key

SHARE, ROWS, ITEMS, SEEDS = 0.05, 1500, 300, 3
"""Defaults: share of the instructions held out, rows measured, items of a benchmark, and trainings of an arm."""

MIXTURES, MIN_MIXTURES = 24, 8
"""Of a search: mixtures trained by default, and the fewest."""

KEPT = "held-out rows kept by every recipe, bits per byte"
NOT_KEPT = "held-out rows dropped by a recipe, bits per byte"

BUILD_STEPS = tuple(step for step in STEPS if step not in (PACK, TRAINING_OVERLAP))
"""An arm is packed for each seed, with as many epochs as its training reads."""

PROBE_STEPS, PROBE_ROWS = 6, 48
"""Of the training and the measurement from which the cost is estimated."""

POLL_SECONDS = 1.0


class Cost(BaseModel):
    """What an ablation will take. seconds: None if nothing is left to do. finished: trainings that are there."""

    model_config = ConfigDict(frozen=True)

    arms: int
    seeds: int
    steps: int
    tokens: int
    finished: int
    workers: int
    seconds_per_step: float | None
    seconds: float | None


class AblateAnswer(BaseModel):
    """An ablation. `winnow ablate --json` prints it.

    folder: with ablation.json and report.html. tokenizer: with which all arms are encoded. tokens: that each training
    reads, in `steps` steps. held_out_rows: rows measured, and how many of them all recipes keep. trained_on: held-out
    rows left out because an arm was trained on their instruction. means: metric -> arm -> a value for each seed.
    conclusions: by the first metric. notes: what could not be measured.
    """

    model_config = ConfigDict(frozen=True)

    key: str
    folder: str
    report: str
    config: str
    seeds: int
    steps: int
    tokens: int
    tokenizer: str
    held_out_share: float
    held_out_rows: tuple[int, int]
    trained_on: int
    arms: tuple[Arm, ...]
    means: dict[str, dict[str, tuple[float, ...]]]
    effects: tuple[Effect, ...]
    conclusions: tuple[Conclusion, ...]
    notes: tuple[str, ...] = ()
    seconds: float


class SearchAnswer(BaseModel):
    """A search over mixtures. `winnow ablate --search --json` prints it.

    recipe: path of a file with the proposed `sampling.groups`; null without a proposal. verification: the proposal
    against the present weights, with seeds that the search did not use; null without a proposal.
    """

    model_config = ConfigDict(frozen=True)

    folder: str
    search: Search
    recipe: str | None
    verification: AblateAnswer | None


class Design(NamedTuple):
    """How arms are trained and measured. settings: of the configuration. share: of the instructions that is held out.
    rows: held-out rows measured. benchmarks: names. paths: files of a benchmark. limit: its items."""

    config: str = "tiny"
    settings: tuple[str, ...] = ()
    tokens: int | None = None
    seeds: int = SEEDS
    share: float = SHARE
    rows: int = ROWS
    benchmarks: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    limit: int = ITEMS


class Built(NamedTuple):
    """An arm whose corpus is built, but not packed."""

    name: str
    kind: Kind
    of: str | None
    path: str | None
    recipe: Recipe
    run: RecordedRun

    def step(self, name: str) -> Manifest:
        """A step of its run."""
        step = self.run.step(name)
        assert step is not None, f"a build has {name}"
        return step


class Packed(NamedTuple):
    """An arm with its packs for each seed, and the epochs that a training reads."""

    built: Built
    packs: tuple[Manifest, ...]
    epochs: float


def ablate(
    recipes: Sequence[str],
    random: bool = False,
    length: bool = False,
    root: str = "./winnow-data",
    design: Design = Design(),  # noqa: B008  (frozen)
    engine: EngineName = "local",
    workers: int | None = None,
    confirm: Callable[[Cost], bool] | None = None,
    out: str | None = None,
) -> AblateAnswer:
    """Compare each further recipe with the first.

    Args:
        recipes: paths of recipes, or names of installed ones; two at least.
        random, length: for each further recipe, also train on as many tokens of the first one's corpus, chosen at
            random, or the longest rows.
        workers: trainings at a time, each with one thread; by default one per CPU.
        confirm: asked before the trainings start; False ends with a RunError.
        out: path of a Markdown file for the tables.

    Raises:
        WinnowError: for a mistake in the recipes, if they cannot be compared, or if the cost is not confirmed.
    """
    if len(recipes) < 2:
        raise WinnowError("name at least two recipes to compare, such as `winnow ablate with.yaml without.yaml`")
    _check(design)
    loaded = [load(path) for path in recipes]
    _check_comparable(loaded, recipes)
    root, workers = absolute(root), workers or cpus()
    if not storage.is_local(root):
        raise RunError(f"{root}: training maps its files, so --root must be a folder of a file system")
    started = time.monotonic()
    names = _names(loaded, recipes)
    built = build_recipes(loaded, names, recipes, root, design, engine, workers)
    for arm in tuple(built[1:]):
        for kind, wanted in (("random", random), ("longest", length)):
            if wanted:
                built.append(_build_control(built[0], arm, kind, root, design, engine, workers))  # type: ignore[arg-type]
    answer = compare_arms(built, root, design, engine, workers, confirm, started)
    return _write(answer, out)


def compare_arms(
    built: Sequence[Built],
    root: str,
    design: Design,
    engine: EngineName,
    workers: int,
    confirm: Callable[[Cost], bool] | None,
    started: float,
    first_seed: int = 0,
) -> AblateAnswer:
    """Pack, train and measure arms that are built, and compare them. first_seed: of the trainings."""
    seeds = range(first_seed, first_seed + design.seeds)
    config, steps = configuration(built[0], root, design)
    with make_engine(engine, workers, root) as running, current_console() as console:
        packed = [pack_arm(arm, root, running, config, seeds, console) for arm in built]
        texts, rows, trained_on = _held_out_texts(packed, root, design)
        gold, questions = _benchmarks(built[0].run, root, design)
        proxies = [
            _proxy(arm, packs, config, seed, root, (texts, *gold), questions)
            for arm in packed
            for seed, packs in zip(seeds, arm.packs, strict=True)
        ]
        cost = estimate(proxies, len(built), design.seeds, steps, config, workers)
        if confirm is not None and not confirm(cost):
            raise RunError("not started; the corpora are built, and the same command carries on")
        measured = run_proxies(proxies, running, console)
    arms = [_arm(arm, packed[0], index) for index, arm in enumerate(packed)]
    shape = (len(packed), design.seeds)
    metrics = [*_held_out_metrics(texts, measured, shape), *_benchmark_metrics(gold, questions, measured, shape)]
    found = [effects(metric, arms) for metric in metrics]
    names = {metric.name for metric in metrics}
    notes = [
        f"{name}: left out, because fewer than {MIN_ITEMS} items fit into the context"
        for one in questions
        for name in (_gold_name(one.name), _accuracy_name(one.name))
        if name not in names
    ]
    key = hashlib.blake2b(
        json.dumps([[proxy.folder.rpartition("/")[2] for proxy in proxies], texts.digest, [one.digest for one in gold],
                    [one.items for one in questions]]).encode(),
        digest_size=8,
    ).hexdigest()  # fmt: skip
    folder = storage.join(root, ABLATIONS, key)
    return AblateAnswer(
        key=key,
        folder=folder,
        report=storage.join(folder, "report.html"),
        config=config.name,
        seeds=design.seeds,
        steps=steps,
        tokens=steps * tokens_per_step(config),
        tokenizer=built[0].step(TOKENIZER.name).file(TOKENIZER_JSON).path,
        held_out_share=design.share,
        held_out_rows=rows,
        trained_on=trained_on,
        arms=tuple(arms),
        means={
            metric.name: {arm.name: tuple(values) for arm, values in zip(arms, metric.means.tolist(), strict=True)}
            for metric in metrics
        },
        effects=tuple(one for part in found for one in part),
        conclusions=tuple(conclude(found[0], arms)),
        notes=tuple(notes),
        seconds=round(time.monotonic() - started, 1),
    )


def search_mixture(
    recipe: str,
    mixtures: int = MIXTURES,
    root: str = "./winnow-data",
    design: Design = Design(),  # noqa: B008  (frozen)
    engine: EngineName = "local",
    workers: int | None = None,
    confirm: Callable[[Cost], bool] | None = None,
    out: str | None = None,
) -> SearchAnswer:
    """Search better weights of a recipe's `sampling.groups`, and compare the proposal with the present ones.

    mixtures: how many are trained, the present one among them, each once. The other arguments are those of `ablate`.

    Raises: WinnowError: for a mistake in the arguments, or if the cost is not confirmed.
    """
    _check(design)
    if mixtures < MIN_MIXTURES:
        raise WinnowError(f"--mixtures {mixtures}: a regression needs at least {MIN_MIXTURES}")
    loaded = load(recipe)
    root, workers, started = absolute(root), workers or cpus(), time.monotonic()
    (current,) = build_recipes([loaded], [loaded.name], [recipe], root, design, engine, workers)
    settings = current.recipe.sampling
    pairs = zip(current.step(TOKENS.name).shards, current.run.records.shards, strict=True)
    shards = itertools.starmap(TokenShard, pairs)
    measures = [measure_shard(one, read_lengths(one.tokens), settings, current.recipe.seed)[0] for one in shards]
    found = groups_of(pool(measures, settings), settings.groups)
    weights, tokens = weights_of(found, [one.group for one in found])
    asked = np.concatenate([weights[None], draw_mixtures(weights, mixtures - 1)])
    rules = [[one.group for one in found], *(rules_for(found, one, tokens) for one in asked[1:])]
    made = np.stack([weights_of(found, one)[0] for one in rules])
    arms = [_with_groups(current, one, f"mixture {number}") for number, one in enumerate(rules)]
    config, steps = configuration(current, root, design)
    with make_engine(engine, workers, root) as running, current_console() as console:
        packed = [pack_arm(arm, root, running, config, [0], console) for arm in arms]
        texts, _, _ = _held_out_texts(packed, root, design)
        proxies = [_proxy(arm, arm.packs[0], config, 0, root, (texts,), ()) for arm in packed]
        cost = estimate(proxies, mixtures, 1, steps, config, workers)
        if confirm is not None and not confirm(cost):
            raise RunError("not started; the corpora are built, and the same command carries on")
        measured = run_proxies(proxies, running, console)
    losses = _held_out_metrics(texts, measured, (mixtures, 1))[0].means[:, 0]
    result = search([one.group.prefix for one in found], weights, made, losses)
    key = hashlib.blake2b(json.dumps([proxy.folder for proxy in proxies]).encode(), digest_size=8).hexdigest()
    folder = storage.join(root, ABLATIONS, f"search-{key}")
    verification = path = None
    if result.proposal is not None:
        proposed = rules_for(found, result.proposal, tokens)
        fragment = {"sampling": {"groups": [one.model_dump(exclude_defaults=True) for one in proposed]}}
        path = storage.join(folder, "proposal.yaml")
        storage.write_bytes(path, yaml.safe_dump(fragment, sort_keys=False).encode())
        pair = [current, _with_groups(current, proposed, "proposal")]
        # Seed 0 chose the proposal; other seeds judge it.
        verification = compare_arms(pair, root, design, engine, workers, confirm, started, first_seed=1)
        verification = _write(verification, out)
    answer = SearchAnswer(folder=folder, search=result, recipe=path, verification=verification)
    storage.write_json(storage.join(folder, "search.json"), answer.model_dump(mode="json"))
    write_checksums(folder)
    return answer


def _with_groups(arm: Built, groups: Sequence[Group], name: str) -> Built:
    """An arm of the same corpus with other rules of sampling."""
    sampling = arm.recipe.sampling.model_copy(update={"groups": tuple(groups)})
    return arm._replace(name=name, recipe=arm.recipe.model_copy(update={"sampling": sampling}))


def _write(answer: AblateAnswer, out: str | None) -> AblateAnswer:
    from flows.ablation_report import html, markdown

    storage.write_json(storage.join(answer.folder, "ablation.json"), answer.model_dump(mode="json"))
    storage.write_bytes(answer.report, html(answer).encode())
    write_checksums(answer.folder)
    if out is not None:
        storage.write_bytes(out, markdown(answer).encode())
    return answer


# -------------------------------------------------------------------------------------------------------------- arms


def _check(design: Design) -> None:
    if design.seeds < 2:
        raise WinnowError(f"--seeds {design.seeds}: the noise of trainings needs at least 2; use 3 or more")
    if not 0 < design.share <= 0.5:
        raise WinnowError(f"--held-out {design.share}: a share above 0 and up to 0.5")


def _check_comparable(recipes: Sequence[Recipe], paths: Sequence[str]) -> None:
    """Raises: WinnowError: if the arms could not be trained alike."""
    first = recipes[0]
    for recipe, path in zip(recipes[1:], paths[1:], strict=True):
        if recipe.sampling.context != first.sampling.context:
            raise WinnowError(
                f"{path}: its sampling.context is {recipe.sampling.context}, that of {paths[0]} is "
                f"{first.sampling.context}; models of different contexts do not compare, so set one in both"
            )
        if recipe.tokenizer.path is not None and recipe.tokenizer.path != first.tokenizer.path:
            raise WinnowError(
                f"{path}: its tokenizer.path is not that of {paths[0]}; all arms are encoded with the tokenizer of the "
                "first recipe, so name the same in both, or remove it from this one"
            )
    values = [recipe.model_copy(update={"name": "", "tokenizer": first.tokenizer}) for recipe in recipes]
    for index, value in enumerate(values):
        if value in values[:index]:
            same = paths[values.index(value)]
            raise WinnowError(f"{paths[index]}: the same recipe as {same}, but for its name; nothing to compare")


def _names(recipes: Sequence[Recipe], paths: Sequence[str]) -> list[str]:
    """Names of arms: of the recipes, or of their files where two recipes have one name."""
    names = [recipe.name for recipe in recipes]
    if len(set(names)) < len(names):
        names = [Path(path).stem for path in paths]
    return [name if names.index(name) == index else f"{name} ({index + 1})" for index, name in enumerate(names)]


def build_recipes(
    recipes: Sequence[Recipe],
    names: Sequence[str],
    paths: Sequence[str],
    root: str,
    design: Design,
    engine: EngineName,
    workers: int,
) -> list[Built]:
    """Build the recipes up to their tokens, all with the tokenizer of the first."""
    built: list[Built] = []
    for recipe, name, path in zip(recipes, names, paths, strict=True):
        changed: dict[str, object] = {"sampling": recipe.sampling.model_copy(update={"validation": design.share})}
        if built:
            changed["tokenizer"] = TokenizerSpec(path=built[0].step(TOKENIZER.name).file(TOKENIZER_JSON).path)
        arm = recipe.model_copy(update=changed)
        run = _execute(arm, name, root, engine, workers)
        built.append(Built(name, "recipe", None, path, arm, run))
    return built


def _build_control(
    first: Built, arm: Built, kind: Kind, root: str, design: Design, engine: EngineName, workers: int
) -> Built:
    """As many tokens of the first arm's corpus as the other has."""
    words = {"random": "random", "longest": "longest"}
    name = f"{arm.name}: {words[kind]}"
    tokens, available = corpus_tokens(arm), corpus_tokens(first)
    if tokens > available:
        raise WinnowError(
            f"{arm.path}: its corpus has {tokens:,} tokens, that of {first.path} has {available:,}; a control is a "
            "part of the first corpus, so name the recipe with the larger corpus first, or leave out --random and "
            "--length"
        )
    recipe = first.recipe.model_copy(
        update={
            "name": f"{first.recipe.name}-{kind}",
            "subset": Subset(tokens=tokens, keep=kind),
            "tokenizer": TokenizerSpec(path=first.step(TOKENIZER.name).file(TOKENIZER_JSON).path),
        }
    )
    return Built(name, kind, arm.name, None, recipe, _execute(recipe, name, root, engine, workers))


def _execute(recipe: Recipe, name: str, root: str, engine: EngineName, workers: int) -> RecordedRun:
    current_console().print(f" arm {name}")
    return execute_recipe(recipe, recipe_text(recipe), root, engine, workers, BUILD_STEPS, Tracker(), is_arm=True).run


def corpus_tokens(arm: Built) -> int:
    """Tokens of an arm's corpus, of each row as many as the context holds."""
    return int(_lengths(arm).sum())


def _lengths(arm: Built) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    parts = [np.empty(0, np.int64)]
    for shard in arm.step(TOKENS.name).shards:
        table = read_lengths(shard)
        both = [table[name].to_numpy().astype(np.int64) for name in ("instruction", "response")]
        parts.append(np.minimum(both[0] + both[1], arm.recipe.sampling.context))
    return np.concatenate(parts)


def configuration(first: Built, root: str, design: Design) -> tuple[TrainConfig, int]:
    """The configuration of all trainings, and their steps."""
    manifest = _pack(first, root, None, 1, 0)
    config = configure(design.config, [file.path for file in pack_files(manifest)], None, design.settings)
    steps = config.steps
    if design.tokens is not None:
        steps = max(1, math.ceil(design.tokens / tokens_per_step(config)))
    if steps is None:
        raise WinnowError(f"--config {design.config}: it has no number of steps; give --tokens, or --set steps=500")
    # A proxy is judged by its last weights. Validation packs are the rows that judge it, measured at the end.
    fixed = {"steps": steps, "keep": 1, "validation_steps": steps, "validation_packs": 1}
    return config.model_copy(update={**fixed, "checkpoint_steps": min(config.checkpoint_steps, steps)}), steps


def tokens_per_step(config: TrainConfig) -> int:
    """Token slots of a batch; packs fill nearly all of them."""
    return config.batch_packs * config.model.max_positions


def _pack(arm: Built, root: str, engine: Engine | None, epochs: int, seed: int) -> Manifest:
    from pipelines.ledger.engine import LocalEngine

    run = Run(root, engine or LocalEngine())
    settings: Sampling = arm.recipe.sampling.model_copy(update={"epochs": epochs})
    return pack(run, arm.run.records, arm.step(TOKENS.name), arm.step(TOKENIZER.name), settings, seed)


def pack_arm(
    arm: Built, root: str, engine: Engine, config: TrainConfig, seeds: Sequence[int], console: Console
) -> Packed:
    """Pack an arm's corpus for each seed, with enough epochs for a training."""
    assert config.steps is not None
    needed = config.steps * config.batch_packs
    epochs = 1
    packs: list[Manifest] = []
    for index, seed in enumerate(seeds):
        console.move_bar(f"pack: {arm.name}"[:18], index, len(seeds))
        manifest = _pack(arm, root, engine, epochs, seed)
        while manifest.counts["packs"] < needed:
            # Epochs differ by a pack or two, so one more than by the mean of those packed is enough.
            epochs = max(epochs + 1, math.ceil(needed * epochs / max(1, manifest.counts["packs"] - 1)))
            manifest = _pack(arm, root, engine, epochs, seed)
        packs.append(manifest)
    return Packed(arm, tuple(packs), needed * epochs / packs[0].counts["packs"])


def _arm(packed: Packed, first: Packed, index: int) -> Arm:
    arm = packed.built
    dumps = [one.built.recipe.model_dump(mode="json") for one in (first, packed)]
    return Arm(
        name=arm.name,
        kind=arm.kind,
        of=arm.of,
        recipe=arm.path,
        changes=changes(*dumps) if index and arm.kind == "recipe" else (),
        run=arm.run.id,
        rows=arm.run.records.rows_kept or 0,
        tokens=corpus_tokens(arm),
        epochs=round(packed.epochs, 2),
    )


# ------------------------------------------------------------------------------------------------------------ proxies


def _proxy(
    arm: Packed,
    packs: Manifest,
    config: TrainConfig,
    seed: int,
    root: str,
    texts: Sequence[Texts],
    questions: Sequence[Questions],
) -> Proxy:
    own = config.model_copy(update={"seed": seed})
    return Proxy(
        shards=tuple(file.path for file in pack_files(packs)),
        tokenizer=arm.built.step(TOKENIZER.name).file(TOKENIZER_JSON).path,
        packs=packs.key,
        config=own,
        folder=storage.join(root, ABLATIONS, "proxies", proxy_key(packs.key, own)),
        texts=tuple(texts),
        questions=tuple(questions),
    )


def estimate(proxies: Sequence[Proxy], arms: int, seeds: int, steps: int, config: TrainConfig, workers: int) -> Cost:
    """The cost of what is not finished, from a few steps of a training and a few rows measured."""
    todo = [proxy for proxy in proxies if not is_measured(proxy)]
    per_step = seconds = None
    if todo:
        per_step, per_row = _probe(todo[0])
        rows = sum(storage.read_parquet(texts.path, ["id"]).num_rows for texts in todo[0].texts)
        parallel = min(workers, len(todo))
        seconds = math.ceil(len(todo) / parallel) * (per_step * steps + per_row * rows)
    return Cost(
        arms=arms,
        seeds=seeds,
        steps=steps,
        tokens=steps * tokens_per_step(config),
        finished=len(proxies) - len(todo),
        workers=workers,
        seconds_per_step=per_step,
        seconds=seconds,
    )


def _probe(proxy: Proxy) -> tuple[float, float]:
    """Seconds of a step, and of a row measured."""
    from training.journal import read_metrics

    with tempfile.TemporaryDirectory() as folder:
        steps = min(PROBE_STEPS, proxy.steps)
        config = proxy.config.model_copy(update={"steps": steps, "checkpoint_steps": steps, "validation_steps": steps})
        few = storage.read_parquet(proxy.texts[0].path).slice(0, PROBE_ROWS)
        path = str(Path(folder, "few.parquet"))
        storage.write_parquet(path, few)
        probe = proxy._replace(config=config, folder=str(Path(folder, "probe")), texts=(), questions=())
        measure_proxy(probe._replace(texts=(Texts(path, "warm"),)))
        started = time.monotonic()
        measure_proxy(probe._replace(texts=(Texts(path, "timed"),)))
        per_row = (time.monotonic() - started) / max(1, len(few))
        taken = sorted(line["seconds"] for line in read_metrics(probe.folder))
    return taken[len(taken) // 2], per_row


def run_proxies(proxies: Sequence[Proxy], engine: Engine, console: Console) -> list[Measured]:
    """Train and measure every proxy that is not finished. Returns the files of all, in order."""
    import torch

    gpus = min(torch.cuda.device_count(), 1)
    threads = None if gpus else 1
    items = [proxy._replace(threads=threads) for proxy in proxies]
    with _progress(items, console):
        return list(engine.map(measure_proxy, items, Resources(gpus=gpus)))


@contextmanager
def _progress(proxies: Sequence[Proxy], console: Console) -> Iterator[None]:
    """Show the steps of all trainings together, during the block."""
    from training.journal import last_metrics

    total = sum(proxy.steps for proxy in proxies)
    begun, before = time.monotonic(), None

    def show() -> None:
        nonlocal before
        done = finished = 0
        for proxy in proxies:
            complete = is_measured(proxy)
            finished += complete
            line = None if complete else last_metrics(proxy.folder)
            done += proxy.steps if complete else line["step"] if line else 0
        before = done if before is None else before
        rate = (done - before) / max(time.monotonic() - begun, 1e-6)
        text = f"{finished} of {len(proxies)} trainings finished, {rate:.1f} steps/s"
        console.move_bar("ablate", done, total, text)

    with polled(show, POLL_SECONDS):
        yield


# -------------------------------------------------------------------------------------------------------------- items


def _held_out_texts(packed: Sequence[Packed], root: str, design: Design) -> tuple[Texts, tuple[int, int], int]:
    """The held-out rows, how many there are and how many all recipes keep, and how many were left out."""
    corpora = [Corpus(arm.built.name, arm.built.run.records, arm.built.step(TOKENS.name), arm.packs) for arm in packed]
    recipes = [corpus for corpus, arm in zip(corpora, packed, strict=True) if arm.built.kind == "recipe"]
    chosen = held_out(recipes, design.rows)
    kept = int(np.asarray(chosen.table["kept"]).sum())
    if kept < MIN_ITEMS:
        names = " and ".join(corpus.name for corpus in recipes)
        mend = (  # the others are in some of the corpora alone
            f"raise --rows, of which {len(chosen.table) - kept} went to rows that not all recipes keep"
            if len(chosen.table) >= design.rows
            else "raise --held-out"
        )
        raise WinnowError(
            f"{names}: of {len(chosen.table)} held-out rows {kept} are in the corpora of all recipes, and {MIN_ITEMS} "
            f"are needed to compare them; {mend}, or compare recipes that share sources"
        )
    return _write_texts(chosen.table, root), (len(chosen.table), kept), chosen.trained_on


def _write_texts(table: pa.Table, root: str) -> Texts:
    """Write a table below ROOT/ablations/texts, under the digest of its content."""
    content = hashlib.blake2b(digest_size=8)
    content.update(json.dumps(table.to_pylist(), ensure_ascii=False).encode())
    digest = content.hexdigest()
    path = storage.join(root, ABLATIONS, "texts", f"{digest}.parquet")
    if not storage.exists(path):
        storage.write_parquet(path, table)
    return Texts(path, digest)


def _benchmarks(run: RecordedRun, root: str, design: Design) -> tuple[list[Texts], list[Questions]]:
    """The gold answers of benchmarks as texts, and their items as questions."""
    gold, questions = [], []
    if len(design.benchmarks) > 1 and design.paths:
        raise WinnowError("--path is for one benchmark; name it with --benchmark")
    for name in design.benchmarks:
        scorable = benchmark_to_score(name, run, How(), design.paths)
        items, candidates = read_items(scorable)
        gold.append(_write_texts(_gold(scorable, items, candidates, design.limit), root))
        files = [_write_texts(table, root).path for table in (items, candidates) if table is not None]
        questions.append(Questions(name, scorable.task, files[0], files[1] if len(files) > 1 else None, design.limit))
    return gold, questions


def _gold(scorable: Scorable, items: pa.Table, candidates: pa.Table | None, limit: int) -> pa.Table:
    """The right answer to each item, given its prompt."""
    from training.evaluation.choices import right_choice

    task: Task = task_of(scorable.task, How())
    by_choice = task.credit
    if by_choice:
        task = task_of(scorable.task, How(method="likelihood"))
    asks = make_asks(task, items.to_pylist(), candidates.to_pylist() if candidates else (), limit)
    texts = [ask.continuations[right_choice(ask.item)] if by_choice else str(ask.item["answer"]) for ask in asks]
    passages = [
        Passage(ask.item["id"], ask.condition, ask.instruction, text, not by_choice)
        for ask, text in zip(asks, texts, strict=True)
    ]
    clusters = [task.cluster(ask.item) if task.cluster else ask.item["id"] for ask in asks]
    more = {
        "group": pa.array([task.subset(ask.item) for ask in asks], pa.string()),
        "cluster": pa.array(clusters, pa.string()),
        "name": pa.array([scorable.spec.name] * len(asks), pa.string()),
    }
    return passages_table(passages, more)


# ------------------------------------------------------------------------------------------------------------ metrics


def _held_out_metrics(texts: Texts, measured: Sequence[Measured], shape: tuple[int, int]) -> list[Metric]:
    table = storage.read_parquet(texts.path)
    kept = np.asarray(table["kept"])
    metrics = []
    for name, chosen in ((KEPT, kept), (NOT_KEPT, ~kept)):
        metric = _bits_per_byte(name, table, chosen, [one.likelihoods[0] for one in measured], shape, by_group=True)
        if metric is not None:
            metrics.append(metric)
    if not metrics or metrics[0].name != KEPT:
        raise RunError(f"fewer than {MIN_ITEMS} held-out rows fit into the context; raise --held-out")
    return metrics


def _bits_per_byte(
    name: str,
    table: pa.Table,
    chosen: np.ndarray[tuple[int], np.dtype[np.bool_]],
    files: Sequence[str],
    shape: tuple[int, int],
    by_group: bool,
) -> Metric | None:
    """The metric of some rows of a table of texts; None for fewer than MIN_ITEMS."""
    read = [storage.read_parquet(path) for path in files]
    sizes = read[0]["bytes"].to_numpy(zero_copy_only=False).astype(np.float64)  # NaN where not measured
    used = chosen & (np.nan_to_num(sizes) > 0)
    if used.sum() < MIN_ITEMS:
        return None
    bits = np.stack([one["bits"].to_numpy(zero_copy_only=False).astype(np.float64)[used] for one in read])
    rows = table.filter(pa.array(used))
    groups = tuple(rows["group"].to_pylist())
    return Metric(
        name=name,
        lower=True,
        values=(bits / sizes[used]).reshape(*shape, -1),
        weights=mean_weights(sizes[used], groups if by_group else ("",) * len(groups)),
        clusters=tuple(rows["cluster"].to_pylist()),
        groups=groups,
    )


def _gold_name(benchmark: str) -> str:
    return f"{benchmark}: right answers, bits per byte"


def _accuracy_name(benchmark: str) -> str:
    return f"{benchmark}: accuracy"


def _benchmark_metrics(
    gold: Sequence[Texts], questions: Sequence[Questions], measured: Sequence[Measured], shape: tuple[int, int]
) -> list[Metric]:
    metrics = []
    for index, texts in enumerate(gold):
        table = storage.read_parquet(texts.path)
        name = _gold_name(questions[index].name)
        every = np.ones(len(table), np.bool_)
        files = [one.likelihoods[1 + index] for one in measured]
        metric = _bits_per_byte(name, table, every, files, shape, by_group=False)
        metrics += [metric] if metric else []
    for index, one in enumerate(questions):
        read = [storage.read_parquet(answered.items[index]) for answered in measured]
        scores = np.stack([np.asarray(table["score"]) for table in read]).reshape(*shape, -1)
        items = scores.shape[2]
        if items >= MIN_ITEMS:
            weights, clusters = np.full(items, 1 / items), tuple(read[0]["cluster"].to_pylist())
            metrics.append(Metric(_accuracy_name(one.name), False, scores, weights, clusters, ("",) * items))
    return metrics


def cost_lines(cost: Cost) -> list[str]:
    """The cost in words."""
    trainings = cost.arms * cost.seeds
    text = (
        f"{cost.arms} arms x {cost.seeds} seeds = {trainings} trainings of {cost.steps:,} steps, "
        f"{count(cost.tokens)} tokens each"
    )
    lines = [text]
    if cost.finished:
        lines.append(f"{cost.finished} of them are finished")
    if cost.seconds is not None and cost.seconds_per_step is not None:
        lines.append(
            f"{1000 * cost.seconds_per_step:.0f} ms per step, {min(cost.workers, trainings)} at a time: "
            f"about {_duration(cost.seconds)}"
        )
    return lines


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

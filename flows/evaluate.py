"""How well does a model answer benchmarks? Scores on all items, and on those found and not found in its training rows.

A checkpoint has the key of the packs it was trained on. The run that made them is found by that key, and with it the
benchmarks that the corpus was checked against and which of their items the packs hold. Of a model that was fine-tuned,
the rows of what it started from are training rows too.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from flows.benchmarks import Scorable, benchmarks_to_score, checked_against, read_items
from flows.console import current_console, show_waiting
from pipelines.audit.report import write_report
from pipelines.ledger import storage
from pipelines.ledger.runs import RecordedRun, open_run, record_scores
from pipelines.steps.contamination_report import read_clean_ids
from pipelines.steps.decontaminate import CONTAMINATION
from pipelines.steps.training_overlap import TRAINING_OVERLAP, read_trained_items
from training.evaluation import evaluate as evaluation
from training.evaluation import store
from training.evaluation.curve import (
    Curve,
    StrategyRun,
    draw,
    make_curve,
    most_samples,
    read_run,
    samples_for_equal_tokens,
)
from training.evaluation.evaluate import How, ModelSpec, Overlap, RunChunks, run_here, task_of
from training.evaluation.scores import Scores
from training.evaluation.statistics import detectable_line
from training.inference.models import is_endpoint
from training.inference.strategies import Strategy
from training.provenance import earlier_of, run_of

EngineName = Literal["ray", "local"]


class DrawnCurve(BaseModel):
    """Accuracy against generated tokens, and its picture, a PNG."""

    model_config = ConfigDict(frozen=True)

    curve: Curve
    picture: str


class EvaluateAnswer(BaseModel):
    """An evaluation. `winnow evaluate --json` prints it.

    checkpoint: folder. scores: of each benchmark. report: path of the run's report with these scores, None if the run
    is not below the root. curves: of strategies, accuracy against generated tokens.
    """

    model_config = ConfigDict(frozen=True)

    checkpoint: str
    scores: tuple[Scores, ...]
    report: str | None
    curves: tuple[DrawnCurve, ...] = ()


def run_of_model(target: str, root: str) -> RecordedRun | None:
    """The run below `root` that made the packs of a checkpoint; None for another model, or if it is not there."""
    return None if is_endpoint(target) else run_of(target, root)


def training_overlap(run: RecordedRun, benchmark: str) -> Overlap | None:
    """What the training rows of a run hold of a benchmark's items; None if they were not checked against it.

    The step `training-overlap` measures the rows drawn. A run that was built without it has what the contamination step
    found in all rows that it was given.
    """
    drawn, checked = run.step(TRAINING_OVERLAP.name), run.step(CONTAMINATION.name)
    if drawn is not None and (value := read_trained_items(drawn, benchmark)):
        return Overlap(frozenset(value["found"]), value["overlap"], "drawn_rows")
    if checked is not None and (value := read_clean_ids(checked, benchmark)):
        return Overlap(frozenset(value["contaminated"]), value["overlap"], "checked_rows")
    return None


def _overlap_of_all(runs: Sequence[RecordedRun | None], benchmark: str) -> Overlap | None:
    """What the rows of several runs hold of a benchmark's items; None if one is unknown or was not checked against it.

    An item is found if one of them holds it, and has the largest of their shares.
    """
    found = [
        training_overlap(run, benchmark) if run is not None and benchmark in checked_against(run) else None
        for run in runs
    ]
    known = [one for one in found if one is not None]
    if len(known) < len(found):
        return None
    shares: dict[str, dict[str, float]] = {}
    for length, of_items in (pair for one in known for pair in one.overlap.items()):
        merged = shares.setdefault(length, {})
        for item, share in of_items.items():
            merged[item] = max(share, merged.get(item, 0.0))
    drawn = all(one.measured_on == "drawn_rows" for one in known)
    return Overlap(frozenset().union(*(one.found for one in known)), shares, "drawn_rows" if drawn else "checked_rows")


def evaluate(
    model: ModelSpec,
    benchmarks: Sequence[str] = (),
    hows: Sequence[How] = (How(),),
    root: str = "./winnow-data",
    run: str | None = None,
    paths: tuple[str, ...] = (),
    shots: tuple[str, ...] = (),
    limit: int | None = None,
    engine: EngineName = "local",
    workers: int | None = None,
    on_scores: Callable[[Scores], None] | None = None,
) -> EvaluateAnswer:
    """Score a model on benchmarks, and write the scores into the report of its run.

    Answers are stored below `root`/evaluations as they come. Those that are there already are not asked again.

    Strategies that are named are compared with one answer and with votes at equal tokens, which are asked as well.

    Args:
        model: a checkpoint's folder, or another model, and how it is run.
        benchmarks: names that the recipe of the run gives to benchmarks, or names in `TASKS`. By default all that the
            corpus was checked against and that can be scored.
        hows: how they are asked; each benchmark is asked in each way.
        run: the run that built the corpus; by default it is looked up below `root`.
        paths, shots: files of one benchmark, and of the examples in its prompts, if the recipe does not name them.
        limit: ask only the first items.
        engine: `ray` runs `workers` actors that each load the model.
        on_scores: called with the scores of each benchmark.

    Raises:
        WinnowError: if the run, a benchmark or its files cannot be found, or the model cannot be loaded.
    """
    recorded = open_run(root, run) if run else run_of_model(model.target, root)
    todo = [
        (how, benchmark)
        for how in hows
        for benchmark in benchmarks_to_score(tuple(benchmarks), model.target, recorded, how, paths, shots, limit)
    ]
    folder, step = _checkpoint(model.target)
    earlier = [] if is_endpoint(model.target) else earlier_of(model.target, root)
    found: list[Scores] = []
    curves: list[DrawnCurve] = []
    with current_console() as console:

        def ask(how: How, benchmark: Scorable) -> Scores:
            items, candidates = read_items(benchmark)
            name = benchmark.spec.name
            checked = recorded is not None and name in checked_against(recorded) and not paths
            overlap = _overlap_of_all([recorded, *(one.run for one in earlier)], name) if checked else None
            if checked and earlier and overlap is None:
                console.print(f" {name}: not known which items the model had read that this one was fine-tuned from")
            scores = evaluation.evaluate(
                model,
                benchmark.task,
                items,
                how,
                candidates=candidates,
                overlap=overlap,
                limit=limit,
                root=root,
                name=name,
                display=folder,
                step=step,
                run_chunks=_run_chunks(model, benchmark, how, engine, workers),
                on_start=lambda asked, clusters: console.print(f" {name}: {detectable_line(asked, clusters)}"),
                on_progress=lambda *progress: console.move_bar(f"evaluate: {name}", *progress),
                on_judged=lambda *progress: console.move_bar(f"score: {name}", *progress),
                on_wait=functools.partial(show_waiting, f"evaluate {name}"),
            )
            found.append(scores)
            if on_scores:
                on_scores(scores)
            return scores

        compared: dict[tuple[str, str], tuple[How, Scorable, list[Scores]]] = {}
        for how, benchmark in todo:
            scores = ask(how, benchmark)
            if how.strategy is not None and how.method == "generate":
                alike = how.model_copy(update={"strategy": None}).model_dump_json()
                compared.setdefault((benchmark.spec.name, alike), (how, benchmark, []))[2].append(scores)
        for how, benchmark, of_strategies in compared.values():
            if any(not scores.strategy.startswith("greedy ") for scores in of_strategies):
                curves.append(_compare(how, benchmark, of_strategies, ask))
    report = None
    if recorded is not None:
        record_scores(recorded, [{**scores.model_dump(mode="json"), "how": scores.how} for scores in found])
        report = write_report(recorded)
    return EvaluateAnswer(checkpoint=folder, scores=tuple(found), report=report, curves=tuple(curves))


def _compare(
    how: How, benchmark: Scorable, of_strategies: list[Scores], ask: Callable[[How, Scorable], Scores]
) -> DrawnCurve:
    """The curve of strategies on one benchmark. A greedy answer, and votes at equal tokens, are asked if missing."""
    task = task_of(benchmark.task, how)

    def run_of_scores(scores: Scores) -> StrategyRun:
        assert scores.evaluation is not None
        strategy = Strategy.without_version(scores.strategy)
        return read_run(strategy, store.read_items(scores.evaluation), task.scorers[0].name)

    greedy = next((scores for scores in of_strategies if scores.strategy.startswith("greedy ")), None)
    greedy = greedy or ask(how.model_copy(update={"strategy": "greedy"}), benchmark)
    others = [scores for scores in of_strategies if not scores.strategy.startswith("greedy ")]
    runs = [run_of_scores(scores) for scores in (greedy, *others)]
    samples = samples_for_equal_tokens(runs)
    if samples > most_samples(runs):
        votes = ask(how.model_copy(update={"strategy": f"self-consistency:n={samples}"}), benchmark)
        runs.append(run_of_scores(votes))
    assert greedy.evaluation is not None
    items = [json.loads(item) for item in store.read_items(greedy.evaluation)["item"].to_pylist()]
    curve = make_curve(task, items, runs, greedy.checkpoint)
    picture = storage.join(greedy.evaluation, "curve.png")
    storage.write_json(storage.join(greedy.evaluation, "curve.json"), curve.model_dump(mode="json"))
    draw(curve, picture)
    store.AnswerStore(greedy.evaluation).seal()
    return DrawnCurve(curve=curve, picture=picture)


def _run_chunks(model: ModelSpec, benchmark: Scorable, how: How, engine: EngineName, workers: int | None) -> RunChunks:
    if engine == "local":
        return run_here(model, benchmark.task, how)
    from flows.ray.evaluate import run_on_actors

    return run_on_actors(model, benchmark.task, how, workers)


def _checkpoint(target: str) -> tuple[str, int]:
    """The folder of a model, which for a training folder is its latest checkpoint, and the step of a checkpoint."""
    from training import checkpoint
    from training.export import is_transformers

    if is_endpoint(target) or is_transformers(target):
        return target, 0
    found = checkpoint.read(target)
    return found.folder, found.state.step

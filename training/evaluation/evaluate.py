"""Ask a model the items of a benchmark, judge its answers, count the scores.

    items -> asks -> chunks -> answers -> judged items -> scores
                       |          |
                    workers     store

A worker has the model and answers chunks. There is one in this process, or one per actor on a cluster. Answers do not
depend on how items are divided into chunks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from pipelines.errors import WinnowError, nearest
from pipelines.ledger import storage
from pipelines.ledger.lease import Holder, hold
from training.configs import Precision
from training.evaluation.choices import by_letter, by_likelihood
from training.evaluation.scores import MeasuredOn, Scores, scores_of
from training.evaluation.store import ANSWERED, Answered, AnswerStore, Settings, add_judgements, answers_of, folder_of
from training.evaluation.task import Answer, Item, Task, scorer_version
from training.evaluation.tasks import TASKS
from training.inference.language_model import BATCH, LanguageModel, Request
from training.inference.models import identity_of, open_model
from training.inference.strategies import Question, Sampling, Strategy, parse

CHUNK_BATCHES = 4
"""A chunk has the items of this many batches. The end of a chunk leaves rows of the batch idle; a killed evaluation
loses one chunk."""

JUDGED_AT_ONCE = 512
"""Answers judged between two reports of progress."""

Method = Literal["generate", "letter", "likelihood"]


class How(BaseModel):
    """How a benchmark is asked. None: as the task says.

    method: `generate` an answer, or, of multiple choice, take the most likely `letter`, or the choice whose text has
    the highest `likelihood`. condition: tags of the prompt. shots: examples in the prompt. strategy: how an answer is
    found, such as `self-consistency:n=8`. max_tokens: of one completion. temperature, seed: of sampling.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method = "generate"
    condition: str | None = None
    shots: int | None = None
    strategy: str | None = None
    max_tokens: int | None = None
    temperature: float = 0.0
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """A model that is not loaded: the arguments of `open_model`. name: of an endpoint's model."""

    target: str
    average: bool = True
    device: str = "auto"
    precision: Precision = "fp32"
    batch: int = BATCH
    name: str | None = None

    def load(self) -> LanguageModel:
        """Load the model. Raises: WinnowError: if there is none."""
        return open_model(self.target, self.device, self.precision, self.batch, self.name, self.average)

    def identity(self) -> str:
        """What determines its completions: see `LanguageModel`. A folder's model is not loaded for it."""
        return identity_of(self.target, self.name, self.average)


class Ask(NamedTuple):
    """An item as it is asked. continuations: by likelihood. key: digest of what is asked."""

    item: Item
    condition: str
    instruction: str
    continuations: tuple[str, ...]
    key: str


class Overlap(NamedTuple):
    """Which items of a benchmark the training rows hold.

    found: ids of the items that the recipe's rule finds. overlap: n-gram length -> item id -> share of the item's
    tokens within n-grams of the rows; 0 for items that are missing. measured_on: see `MeasuredOn`.
    """

    found: frozenset[str]
    overlap: Mapping[str, Mapping[str, float]]
    measured_on: MeasuredOn


# ------------------------------------------------------------------------------------------------------- what is asked


def task_of(name: str, how: How) -> Task:
    """The task of that name as it is asked.

    Raises:
        WinnowError: if it is unknown, or cannot be asked in that way.
    """
    if name not in TASKS:
        raise WinnowError(f"benchmark {name}: {nearest(name, TASKS)}")
    task = TASKS[name]
    if how.method != "generate":
        task = by_letter(task) if how.method == "letter" else by_likelihood(task)
    return task._replace(
        condition=task.condition if how.condition is None else how.condition,
        shots=task.shots if how.shots is None else how.shots,
        max_tokens=task.max_tokens if how.max_tokens is None else how.max_tokens,
        strategy=task.strategy if how.strategy is None else how.strategy,
    )


def make_asks(
    task: Task, items: Sequence[Item], candidates: Sequence[Item] = (), limit: int | None = None
) -> list[Ask]:
    """The items of a benchmark as they are asked, in order.

    Args:
        items: rows of its files.
        candidates: items that may be shots; by default `items`.
        limit: ask only the first items.

    Raises:
        WinnowError: if there is no item, or the prompt has shots and there are none for an item.
    """
    asked = [item for item in items if task.asked(item)][:limit]
    if not asked:
        raise WinnowError(f"benchmark {task.name} has no items to ask")
    asks = []
    for item in asked:
        shots: Sequence[Item] = ()
        if task.shots:
            chosen = task.choose_shots(item, candidates or items)
            shots = chosen[: task.shots]
            if not shots:
                raise WinnowError(
                    f"benchmark {task.name}: no examples for item {item['id']}; its prompt has {task.shots}: name the "
                    "files that have them with --shots-path, or ask without: --shots 0"
                )
        instruction = task.prompt(item, shots)
        continuations = tuple(task.continuations(item)) if task.continuations else ()
        value = json.dumps([task.condition, instruction, *continuations])
        key = hashlib.sha256(value.encode()).hexdigest()[:32]
        asks.append(Ask(item, task.condition, instruction, continuations, key))
    return asks


def settings_of(
    benchmark: str, name: str, task: Task, how: How, model: ModelSpec, identity: str, display: str, step: int
) -> Settings:
    """The settings of an evaluation.

    Args:
        benchmark: name in the recipe. name: of the task.
        identity: of the model. display: its name for people. step: of a checkpoint.

    Raises:
        WinnowError: if the strategy is unknown, or a library that judges is not installed.
    """
    return Settings(
        benchmark=benchmark,
        task=name,
        method=how.method,
        model=display,
        identity=identity,
        step=step,
        weights="ema" if model.average else "model",
        device=model.device,
        precision=model.precision,
        condition=task.condition,
        shots=task.shots,
        strategy=parse(task.strategy).identity,
        temperature=how.temperature,
        max_tokens=task.max_tokens,
        context=task.context,
        stop=task.stop,
        seed=how.seed,
        scorers={scorer.name: scorer_version(scorer) for scorer in task.scorers},
    )


# ------------------------------------------------------------------------------------------------------------- answers


class Worker:
    """A loaded model that answers chunks of one evaluation. Its arguments can be sent to another process."""

    def __init__(self, model: ModelSpec, name: str, how: How) -> None:
        self.task = task_of(name, how)
        self.strategy: Strategy = parse(self.task.strategy)
        self.sampling = Sampling(self.task.max_tokens, self.task.context, self.task.stop, how.temperature, how.seed)
        self.model = model.load()

    def answer(self, chunk: Sequence[Ask], on_done: Callable[[int], None] | None = None) -> list[Answered]:
        """The answers to a chunk, in order. on_done: called with the number of finished items."""
        start = time.perf_counter()
        if self.task.continuations:
            answers = self._by_likelihood(chunk)
        else:
            questions = [
                Question(ask.condition, ask.instruction, functools.partial(_extract, self.task, ask.item))
                for ask in chunk
            ]
            answers = self.strategy.run(questions, self.model, self.sampling, on_done)
        seconds = time.perf_counter() - start
        total = sum(answer.tokens for answer in answers)
        shares = [answer.tokens / total if total else 1 / len(answers) for answer in answers]
        return [Answered(answer, seconds * share) for answer, share in zip(answers, shares, strict=True)]

    def _by_likelihood(self, chunk: Sequence[Ask]) -> list[Answer]:
        pairs = [
            (Request(ask.condition, ask.instruction), continuation)
            for ask in chunk
            for continuation in ask.continuations
        ]
        found = iter(self.model.log_likelihoods(pairs))
        answers = []
        for ask in chunk:
            likelihoods = [next(found) for _ in ask.continuations]
            log_probs = tuple(one.log_prob for one in likelihoods if one)
            # A continuation without room in the context has no likelihood, and then the item has no answer.
            fits = len(log_probs) == len(likelihoods)
            answers.append(Answer("", 0, "stop" if fits else "none", log_probs=log_probs if fits else ()))
        return answers


def _extract(task: Task, item: Item, text: str) -> str | None:
    return task.extract(text, item)


Progress = Callable[[int, int, str], None]
"""Called with items done, items, and a text on the rate."""

RunChunks = Callable[[Sequence[Sequence[Ask]], Callable[[int], None]], Iterable[tuple[int, list[Answered]]]]
"""Answers chunks: (chunks, called with the number of items done in chunks that are not finished) -> number of a chunk
and its answers, in any order."""


def run_here(model: ModelSpec, name: str, how: How) -> RunChunks:
    """Answer chunks in this process, one after the other. The model is loaded when there is a chunk."""

    def run(chunks: Sequence[Sequence[Ask]], on_done: Callable[[int], None]) -> Iterator[tuple[int, list[Answered]]]:
        if not chunks:
            return
        worker = Worker(model, name, how)
        for number, chunk in enumerate(chunks):
            yield number, worker.answer(chunk, on_done)

    return run


def find_answers(
    asks: Sequence[Ask],
    strategy: Strategy,
    batch: int,
    run_chunks: RunChunks,
    store: AnswerStore | None = None,
    on_progress: Progress | None = None,
) -> list[Answered]:
    """The answers to all items: those that are stored, and others from a model, which are stored as they come."""
    known = store.read() if store else {}
    waiting = list({ask.key: ask for ask in asks if ask.key not in known}.values())
    size = max(1, CHUNK_BATCHES * batch // getattr(strategy, "n", 1))
    chunks = [waiting[at : at + size] for at in range(0, len(waiting), size)]
    before = done = len(asks) - len(waiting)
    start, tokens = time.perf_counter(), 0

    def report(more: int = 0) -> None:
        if on_progress:
            seconds = time.perf_counter() - start
            rate = f"{(done + more - before) / seconds:.1f} items/s" if seconds > 1 and done + more > before else ""
            on_progress(done + more, len(asks), rate + (f", {tokens / seconds:,.0f} tokens/s" if tokens else ""))

    report()
    for number, answered in run_chunks(chunks, report):
        new = {ask.key: one for ask, one in zip(chunks[number], answered, strict=True)}
        if store:
            store.add(new)
        known |= new
        done += len(new)
        tokens += sum(one.answer.tokens for one in answered)
        report()
    return [known[ask.key] for ask in asks]


# ------------------------------------------------------------------------------------------------------ judged items


def answered_table(
    task: Task, asks: Sequence[Ask], answered: Sequence[Answered], overlap: Overlap | None = None
) -> pa.Table:
    """The items with their answers: a table of the ANSWERED schema."""
    rows = []
    for ask, (answer, seconds) in zip(asks, answered, strict=True):
        item = ask.item
        row: dict[str, Any] = {
            "id": item["id"],
            "split": item["split"],
            "subset": task.subset(item),
            "cluster": task.cluster(item) if task.cluster else item["id"],
            "key": ask.key,
            "condition": ask.condition,
            "prompt": ask.instruction,
            "answer": answer.text,
            "expected": item["answer"],
            "tokens": answer.tokens,
            "prompt_tokens": answer.prompt_tokens,
            "seconds": seconds,
            "finish": answer.finish,
            "log_prob": answer.log_prob,
            "log_probs": answer.log_probs,
            "class": "unknown" if overlap is None else "found" if item["id"] in overlap.found else "not_found",
            "overlap_13": None,
            "overlap_20": None,
            "trace": [call._asdict() for call in answer.trace],
            "item": json.dumps(item, ensure_ascii=False),
        }
        for length, shares in overlap.overlap.items() if overlap else ():
            row[f"overlap_{length}"] = shares.get(item["id"], 0.0)
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=ANSWERED)


def judge_items(items: pa.Table, task: Task, on_progress: Progress | None = None) -> pa.Table:
    """The items with the columns of the task's scorers, in place of former ones."""
    originals = [json.loads(item) for item in items["item"].to_pylist()]
    answers = answers_of(items)
    total = len(task.scorers) * len(answers)
    for number, scorer in enumerate(task.scorers):
        judgements = []
        for at in range(0, len(answers), JUDGED_AT_ONCE):
            some = slice(at, at + JUDGED_AT_ONCE)
            judgements += scorer.judge(answers[some], originals[some])
            if on_progress:
                on_progress(number * len(answers) + len(judgements), total, "")
        items = add_judgements(
            items,
            scorer.name,
            [
                pa.array([one.score for one in judgements], pa.float64()),
                pa.array([one.valid for one in judgements], pa.bool_()),
                pa.array([one.extracted for one in judgements], pa.string()),
            ],
        )
    return items


def evaluate(
    model: ModelSpec,
    benchmark: str,
    items: pa.Table,
    how: How = How(),  # noqa: B008  (frozen)
    *,
    candidates: pa.Table | None = None,
    overlap: Overlap | None = None,
    limit: int | None = None,
    root: str | None = None,
    name: str | None = None,
    display: str | None = None,
    step: int = 0,
    run_chunks: RunChunks | None = None,
    on_start: Callable[[int, int | None], None] | None = None,
    on_progress: Progress | None = None,
    on_judged: Progress | None = None,
    on_wait: Callable[[Holder, float], None] | None = None,
) -> Scores:
    """Ask a model the items of a benchmark and score its answers.

    A question that leaves no room in the context gets an empty answer.

    Args:
        benchmark: a name in `TASKS`.
        items: a table of the ITEM schema.
        candidates: items that may be examples in prompts.
        overlap: which items the training rows hold.
        limit: ask only the first items.
        root: where the answers are stored, below `evaluations`; None to store none.
        name: of the benchmark in the recipe.
        display: name of the model; by default its target. step: of a checkpoint.
        run_chunks: who answers; by default this process.
        on_start: called with the number of items, and of their clusters, None if they are independent.
        on_progress, on_judged: called while items are answered, and judged.
        on_wait: called while another process makes the same evaluation; its answers are used then.

    Raises:
        WinnowError: if the benchmark, the strategy or the device is unknown, or there are no items.
        CheckpointError: if there is no checkpoint.
    """
    task = task_of(benchmark, how)
    asks = make_asks(task, items.to_pylist(), candidates.to_pylist() if candidates else (), limit)
    if on_start:
        on_start(len(asks), len({task.cluster(ask.item) for ask in asks}) if task.cluster else None)
    settings = settings_of(
        name or benchmark, benchmark, task, how, model, model.identity(), display or model.target, step
    )
    folder = folder_of(root, settings) if root else None
    store = AnswerStore(folder) if folder else None
    with hold(storage.join(folder, ".lease"), "an evaluation", on_wait) if folder else contextlib.nullcontext():
        if store:
            store.write_settings(settings)
        run_chunks = run_chunks or run_here(model, benchmark, how)
        answered = find_answers(asks, parse(task.strategy), model.batch, run_chunks, store, on_progress)
        judged = judge_items(answered_table(task, asks, answered, overlap), task, on_judged)
        scores = scores_of(judged, settings, task, overlap.measured_on if overlap else None, folder)
        if store:
            store.finish(judged, scores.model_dump(mode="json"))
            store.seal()
    return scores

"""What does the driver of a build cost, apart from the work? Steps of 1,000, 10,000 and 100,000 shards of no rows.

The steps, their phases and manifests are real. An engine in this process pickles the work and every
item, as Ray does, and in place of each phase's work writes empty files of its products. The time of that work is not
counted: on a cluster it is the workers'. The steps are those of a build with duplicates and contamination, without the
two tasks that read all files at once (the tokenizer's training and the plan of the packs).

Then, the same over a Ray on this machine, with tasks that do nothing: what Ray's own part of the driver adds.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import posixpath
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from filters.contamination.grams import GRAM_COUNTS
from flows.console import Console
from flows.ray.engine import RayEngine
from pipelines.audit.report import write_report
from pipelines.audit.verify import step_problems
from pipelines.ledger import storage
from pipelines.ledger.engine import ONE_CPU, Engine
from pipelines.ledger.manifest import Manifest, Part
from pipelines.ledger.run import Cost, Perform, Run, StepContext, StepResult, Target
from pipelines.ledger.runs import open_run, record
from pipelines.ledger.step import Resources, Step
from pipelines.ledger.storage import TableRef
from pipelines.recipe import Recipe
from pipelines.records import record_schema
from pipelines.steps.benchmark_index import benchmark_index
from pipelines.steps.decontaminate import drop_contaminated
from pipelines.steps.duplicates.exact import drop_exact_duplicates
from pipelines.steps.duplicates.near import drop_near_duplicates
from pipelines.steps.ingest import INGEST, Work
from pipelines.steps.pack import PACK
from pipelines.steps.products import ROW_FATES
from pipelines.steps.refine import REFINE
from pipelines.steps.source_files import Input
from pipelines.steps.step import RecipeStep
from pipelines.steps.tokenize import TOKENS
from pipelines.steps.training_overlap import training_overlap

Item = TypeVar("Item")
Result = TypeVar("Result")

SHARDS = (1_000, 10_000, 100_000)
RAY_SHARDS = (1_000, 10_000)
MEMORY = "/dev/shm"
"""Where files are written, if there is such a folder: what is measured is the driver, not a disk."""
ROWS = 1_000
"""Rows that every shard claims to have, so that phases over ranges have as many tasks as for so large a corpus."""

PRODUCTS = {
    "digests": ("keys", "rows"),
    "repeats": ("decisions",),
    "frequencies": ("frequencies",),
    "boilerplate": ("boilerplate",),
    "signatures": ("keys", "rows"),
    "buckets": ("buckets",),
    "compare": ("pairs", "buckets"),
    "forests": ("forest",),
    "components": ("pairs",),
    "decide": ("decisions",),
    "affected": ("pairs", "components"),
    "scan": ("hits", "grams", "code"),
    "grams": ("grams",),
    "items": ("items",),
    "tally": ("tally",),
    "texts": ("texts",),
    "measure": ("lengths",),
}
"""Phase -> the products of one of its tasks; the files of a step itself are its main product."""

MAIN_PRODUCTS = {TOKENS.name: "tokens", PACK.name: ROW_FATES}
"""Step -> the product of its tasks, where it is not `records`."""


def _empty_files() -> dict[str, bytes]:
    """Product -> a file without rows, for the files that the driver or an audit reads."""
    contents = {}
    for product, schema in (("grams", GRAM_COUNTS), ("items", pa.schema([("item", pa.int32())]))):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, schema):
            pass
        contents[product] = sink.getvalue().to_pybytes()
    records = pa.BufferOutputStream()
    pq.write_table(record_schema(()).empty_table(), records)
    contents["records"] = records.getvalue().to_pybytes()
    return contents


EMPTY_FILES = _empty_files()
DIGESTS = {product: xxhash.xxh3_128(data).hexdigest() for product, data in EMPTY_FILES.items()}
DIGEST_OF_NOTHING = xxhash.xxh3_128(b"").hexdigest()


def no_work(phase: str, item: object, target: Target) -> Part:
    """Empty files of a phase's products, each said to hold ROWS rows."""
    products = PRODUCTS.get(phase.partition("-")[0])
    product_of_step = MAIN_PRODUCTS.get(posixpath.basename(target.folder).rpartition("-")[0], "records")
    kept = None if products or product_of_step == ROW_FATES else product_of_step
    files = {}
    for product in products or (product_of_step,):
        data = EMPTY_FILES.get(product, b"")
        path = target.path(product if products else "shards", ".arrow" if products else ".parquet")
        if target.index == 0:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
        os.write(descriptor, data)
        os.close(descriptor)
        rows = 0 if phase == "compare-1" else ROWS
        digest = DIGESTS.get(product, DIGEST_OF_NOTHING)
        files[product] = (TableRef(path=path, bytes=len(data), digest=digest, rows=rows),)
    counts = {} if kept else {"pairs": 0 if phase == "compare-1" else 1, "members": ROWS, "shingles": ROWS, "rows": 0}
    return Part(files=files, rows_in=ROWS if kept else None, counts=counts)


class EmptyEngine:
    """Runs `no_work` in this process for every item, and measures it, so that it can be subtracted."""

    workers = 2

    def __init__(self) -> None:
        self.work_seconds = 0.0
        self.tasks = 0

    def map(
        self, work: Callable[[Item], Result], items: Iterable[Item], resources: Resources = ONE_CPU
    ) -> Iterator[Result]:
        """Yield the parts of `no_work`; the step `benchmark-index` is made for real."""
        task: Any = pickle.loads(pickle.dumps(work))
        if work is storage.remove:
            began = time.thread_time()
            yield from map(task, items)
            self.work_seconds += time.thread_time() - began
            return
        receipts = task.args[-1]
        real = "/benchmark-index-" in receipts
        phase = posixpath.basename(receipts)
        for item in items:
            self.tasks += 1
            sent = pickle.dumps(item)
            began = time.thread_time()
            result = pickle.dumps(task(item) if real else (no_work(phase, *pickle.loads(sent)), Cost(0.0, 0, {})))
            self.work_seconds += time.thread_time() - began
            yield pickle.loads(result)


RECIPE = Recipe.model_validate(
    {
        "name": "empty",
        "sources": [{"name": "a", "path": "a.jsonl", "columns": {"instruction": "q", "response": "a"}}],
        "exact_duplicates": {},
        "near_duplicates": {},
        "contamination": {"benchmarks": [{"name": "generated", "rows": 10}]},
    }
)


def _build(root: str, shards: int, engine: Engine, perform: Perform) -> Run:
    """The steps of a build, over so many shards."""
    run = Run(root, engine, perform, Console(quiet=True).watch)
    assert RECIPE.exact_duplicates and RECIPE.near_duplicates and RECIPE.contamination
    files = [
        Work(RECIPE.sources[0], (Input("a", f"/data/{n:06d}.jsonl", f"{n:06d}", 1),), 0, "drop", ())
        for n in range(shards)
    ]

    def mapped(step: RecipeStep, parent: Manifest | None, *phases: str) -> Manifest:
        def work(context: StepContext) -> list[Part]:
            items = parent.shards if parent else files
            for phase in phases:
                context.map(no_work, items, phase)
            return context.map(no_work, items)

        files_of_key = [[f"{n:06d}", ".jsonl", "0" * 32] for n in range(shards)]
        parameters = {"sources": [{"name": "a", "items": shards, "files": files_of_key, "unread": []}]}
        parents = (parent.key,) if parent else ()
        checked = parent if step.kept else None
        return run.do(step.step({} if parent else parameters, parents), work, checked)

    records = mapped(REFINE, mapped(INGEST, None))
    records = drop_exact_duplicates(run, records, RECIPE.exact_duplicates, {})
    records = drop_near_duplicates(run, records, RECIPE.near_duplicates, {})
    index = benchmark_index(run, RECIPE.contamination)
    records = drop_contaminated(run, records, RECIPE.contamination, index)
    tokens = mapped(TOKENS, records, "tally", "texts")
    packs = mapped(PACK, tokens, "measure")
    training_overlap(run, records, tokens, packs, index, RECIPE.contamination)
    return run


def _measured(shards: int) -> tuple[list[dict[str, object]], dict[str, object]]:
    """CPU seconds of each step's driver, and the totals; in a process of its own."""
    with tempfile.TemporaryDirectory(dir=MEMORY if Path(MEMORY).is_dir() else None) as root:
        engine = EmptyEngine()
        steps: list[dict[str, object]] = []

        def perform(step: Step, work: Callable[[], StepResult]) -> StepResult:
            began, before, tasks = time.process_time(), engine.work_seconds, engine.tasks
            result = work()
            seconds = time.process_time() - began - (engine.work_seconds - before)
            steps.append({"step": step.name, "tasks": engine.tasks - tasks, "driver, CPU s": seconds})
            return result

        total: dict[str, object] = {"shards": shards}
        began = time.process_time()
        run = _build(root, shards, engine, perform)
        total |= {"tasks": engine.tasks, "build, CPU s": time.process_time() - began - engine.work_seconds}
        last = run.results[-1].manifest
        corpus = next(result.manifest for result in run.results if result.manifest.step == "contamination")
        began = time.process_time()
        settings = RECIPE.model_dump(mode="json")
        # The events of a build are told while it goes on; here the files have no schemas to tell of.
        recorded = record(root, "empty", "", settings, {"corpus": corpus}, run.results, lines="{}\n")
        total["record, CPU s"] = time.process_time() - began
        total["peak memory, GB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        del recorded, run, last, corpus

        def timed(name: str, action: Callable[[], object]) -> None:
            began = time.process_time()
            action()
            total[f"{name}, CPU s"] = time.process_time() - began

        timed("same build again", lambda: _build(root, shards, engine, lambda step, work: work()))
        timed("open the run", lambda: open_run(root, "latest"))
        run_of = open_run(root, "latest")
        timed("report", lambda: write_report(run_of))
        timed(
            "verify files", lambda: [problem for step in run_of.steps for problem in step_problems(root, step, "", [])]
        )
    return steps, total


def _on_ray(shards: int) -> dict[str, object]:
    """CPU seconds of the driver for one phase of tasks that do nothing, over a Ray on this machine."""
    with tempfile.TemporaryDirectory() as root, RayEngine(2) as engine:
        step = REFINE.step({"shards": shards})
        items = [TableRef(path=f"{root}/{n:06d}.parquet", bytes=0, digest="0" * 32, rows=0) for n in range(shards)]
        list(engine.map(abs, [1]))  # Ray has started
        began, wall = time.process_time(), time.monotonic()
        StepContext(root, step, engine, Console(quiet=True).watch).map(_nothing, items, "empty")
        seconds, wall = time.process_time() - began, time.monotonic() - wall
    return {"tasks": shards, "driver, CPU s": seconds, "CPU ms a task": 1000 * seconds / shards, "wall s": wall}


def _nothing(item: TableRef, target: Target) -> Part:
    return Part(files={"records": (item,)}, rows_in=0)


def bench(data: Path | None) -> dict[str, list[dict[str, object]]]:
    """The curve over shards, the steps at the last of them, and Ray."""
    context = multiprocessing.get_context("spawn")
    totals, steps = [], []
    for shards in SHARDS:
        with context.Pool(1) as pool:
            steps, total = pool.apply(_measured, (shards,))
        totals.append(total)
        print(json.dumps(total), file=sys.stderr)
    with context.Pool(1) as pool:
        on_ray = [pool.apply(_on_ray, (shards,)) for shards in RAY_SHARDS]
    return {"A build of empty shards": totals, f"Its steps, {SHARDS[-1]:,} shards": steps, "One phase on Ray": on_ray}

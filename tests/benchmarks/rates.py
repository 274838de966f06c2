"""What a build costs per byte of text, step by step: `pipelines/rates.json`, from which `winnow plan` counts.

The mini recipe where real data is at hand, and the steps that the quality recipe has beside; the demo's otherwise. All
in this process: CPU time is that of one core, whatever the machine does besides, and memory is what one worker holds.
The rates are written where the package lies, so that a plan is about the code that was measured.
"""

from __future__ import annotations

import datetime
import json
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.curate import STEPS, curate, last_of_records, wanted
from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine, one_core
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.run import Run, StepResult, Target
from pipelines.ledger.step import Step
from pipelines.plan import RATES_FILE
from pipelines.recipe import Recipe, load
from pipelines.steps.ingest import INGEST, SHARD_BYTES, SHARD_ROWS, by_source, ingest
from pipelines.steps.pack import PACK, packing_work
from pipelines.steps.products import RECORDS
from pipelines.steps.source_files import plan_inputs
from pipelines.steps.stages import STAGE_STEPS
from pipelines.steps.step import Build, RecipeStep, Steps, always
from pipelines.steps.train_tokenizer import SAMPLING, tally_sample
from tests.benchmarks.__main__ import hardware
from tests.steps import keep, plain_step

RECIPES = Path(__file__).parents[2] / "pipelines" / "recipes"


def bench(data: Path | None) -> list[dict[str, object]]:
    """Measure, write the file, and return its rows."""
    one_core()  # as a worker has it: with threads, polars takes a fifth more
    name = "hrm_text_mini" if data else "demo"
    recipe = load(str(RECIPES / f"{name}.yaml"))
    rows = _rows(recipe)
    _build(_less(recipe, rows, 0.001))  # kernels and libraries are loaded: they do not belong to any step
    smaller, cut = _less(recipe, rows, SMALL), (INGEST, RECUT, *STEPS[1:])
    built = [(_build(smaller, cut), _build(recipe, cut), _build(recipe)) for _ in range(ROUNDS)]
    small, _, large = built[-1]
    every = {step: _rate(step, built) for step in large.text}
    steps = {step: rate for step, rate in every.items() if "/" not in step}
    parts = {step: rate for step, rate in every.items() if "/" in step}
    parts[SAMPLING] = _rate_of_sampling([large for _, large, _ in built])
    if data:
        steps |= rates_of_scores()
    growth, tokens = large.growth, large.tokens / large.text["tokens"]
    rates = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "hardware": hardware(),
        "recipe": name,
        "text_mb": round(large.text["ingest"] / 1e6, 1),
        "text_bytes_per_row": _round(large.text["ingest"] / large.rows),
        "tokens_per_byte": _round(tokens),
        "text_bytes_per_file_byte": growth,
        "steps": steps,
        "parts": parts,
    }
    RATES_FILE.write_text(json.dumps(rates, indent=2) + "\n", encoding="utf-8")
    of_files: list[dict[str, object]] = [
        {"what": f"text per byte of {suffix}", "value": ratio} for suffix, ratio in growth.items()
    ]
    return [
        *({"what": step, **values} for step, values in (steps | parts).items()),
        {"what": "text", "value": rates["text_mb"], "unit": "MB"},
        {"what": "text of the smaller build", "value": round(small.text["ingest"] / 1e6, 1), "unit": "MB"},
        {"what": "tokens per byte", "value": rates["tokens_per_byte"]},
        {"what": "bytes per row", "value": rates["text_bytes_per_row"]},
        *of_files,
    ]


def rates_of_scores() -> dict[str, dict[str, Any]]:
    """The rates of the steps that the quality recipe has and the mini recipe has not: models, scores, and cuts."""
    recipe, steps = load(str(RECIPES / "hrm_text_quality.yaml")), (INGEST, STAGE_STEPS)
    rows = _rows(recipe)
    small, large = _build(_less(recipe, rows, SMALL), steps), _build(recipe, steps)
    further = [step for step in wanted(recipe, steps) if step.name not in ("ingest", "refine")]
    return {step.rate or step.name: _rate(step.name, [(small, large, large)]) for step in further}


ROUNDS = 3
"""Builds of each kind."""


def _cut(tables: Sequence[pa.Table]) -> Iterator[pa.Table]:
    """The rows in shards as ingest cuts them from large files."""
    whole = pa.concat_tables(tables).combine_chunks()
    size = _bytes(whole.select(["instruction", "response"])) / max(whole.num_rows, 1)
    step = min(SHARD_ROWS, max(1, int(SHARD_BYTES / size)))
    return (whole.slice(start, step) for start in range(0, whole.num_rows, step))


def _make_recut(build: Build) -> Manifest:
    tables = [storage.read_parquet(file.path) for file in build.records.shards]
    step = plain_step(RECUT.name, parents=(build.records.key,))
    return build.run.do(step, lambda context: context.map(keep, list(_cut(tables))), build.records)


RECUT = RecipeStep(name="recut", products={RECORDS: "made for a bench"}, kept=RECORDS, wanted=always, make=_make_recut)
"""The mini recipe reads many small files. A large corpus has full shards: what each costs by itself would look like a
cost of its text."""

SMALL = 0.5
"""Share of each source in the smaller of two builds, which has the same mixture. The two tell what a step costs before
it sees any text, and what it writes for any."""


class Built(NamedTuple):
    """What was measured of one build, by step."""

    seconds: dict[str, float]
    memory: dict[str, int]
    disk: dict[str, int]
    text: dict[str, int]
    shards: dict[str, int]
    rows: int
    tokens: int
    growth: dict[str, float]
    sampling: float
    driver: dict[str, float]


def _rows(recipe: Recipe) -> dict[str, int]:
    """Source -> rows that it gives."""
    with tempfile.TemporaryDirectory() as root:
        return {name: rows for name, (rows, _) in by_source(ingest(Run(root, LocalEngine(1)), recipe)).items()}


def _less(recipe: Recipe, rows: dict[str, int], share: float) -> Recipe:
    specs = [spec.model_copy(update={"rows": max(1, int(share * rows[spec.name]))}) for spec in recipe.sources]
    return recipe.model_copy(update={"sources": tuple(specs)})


def _build(recipe: Recipe, steps: Steps = STEPS) -> Built:
    with tempfile.TemporaryDirectory() as root:
        watch = Watch()
        run = Run(root, LocalEngine(1), watch.perform)
        corpus = curate(run, recipe, steps=steps)
        disk = {done.step.name: sum(file.bytes for file in done.manifest.all_files) for done in run.results}
        last = last_of_records(wanted(recipe, steps))
        if last != INGEST.name:  # a plan adds the text to the last step of its own recipe
            disk[last] -= sum(shard.bytes for shard in corpus.records.shards)
        text, shards, rows = _text_in(run.results)
        growth = _growth(recipe, run.results[0].manifest)
        if corpus.tokens and corpus.packs:
            counts = corpus.packs.counts
            packed = counts["slots_used"] + counts["sequences"]
            text[PACK.name] = int(packing_work(text[PACK.name], text[PACK.name] * packed / _tokens(corpus.tokens)))
        return Built(
            watch.seconds,
            watch.memory,
            disk,
            text,
            shards,
            rows,
            _tokens(corpus.tokens) if corpus.tokens else 0,
            growth,
            _sampling(corpus.records, root),
            watch.driver,
        )


def _sampling(records: Manifest, root: str) -> float:
    """Seconds in which a tokenizer's sample is chosen: all text is read twice."""
    begun = time.process_time()
    for _ in range(2):
        for index, shard in enumerate(records.shards):
            tally_sample(shard, Target(f"{root}/sample", index))
    return time.process_time() - begun


def _rate_of_sampling(built: Sequence[Built]) -> dict[str, Any]:
    text = built[-1].text["tokenizer"] / 1e6
    slowest, median, fastest = (text / sorted(one.sampling for one in built)[at] for at in (-1, len(built) // 2, 0))
    named = {"mb_per_core_second": median, "slowest": slowest, "fastest": fastest, "memory_gb": 0.0}
    return {"core_seconds_before": 0.0, "core_seconds_per_shard": 0.0} | {k: _round(v) for k, v in named.items()}


def _rate(step: str, built: Sequence[tuple[Built, Built, Built]]) -> dict[str, Any]:
    """A step's cost from three builds, made several times: half of the text and all of it in full shards, and all of it
    in many small ones. They give what a shard costs, what the text costs, and what comes before.

    Other programs only ever add to CPU seconds, so each build counts with the least that it took; the rate is then
    brought to the median of the second, and its range is that of the second.

    What the driver does between tasks is no cost of text: of the check against benchmarks it is a fifth here, for the
    items of the benchmarks, however large the corpus is. Nor are files that a step writes for any text.
    """
    small, large, many = built[-1]
    took = [sorted(one[side].seconds[step] for one in built) for side in range(3)]
    least = [times[0] for times in took]
    more_shards = many.shards[step] - large.shards[step]
    shard = max(0.0, (least[2] - least[1]) / more_shards) if more_shards else 0.0
    driven = [min(one[side].driver.get(step, 0.0) for one in built) for side in range(2)]
    driver = [max(0.0, took - shard * one.shards[step]) for took, one in zip(driven, (small, large), strict=True)]
    text = [
        seconds - before - shard * one.shards[step]
        for seconds, before, one in zip(least[:2], driver, (small, large), strict=True)
    ]
    slope = (text[1] - text[0]) / (large.text[step] - small.text[step])
    whole = max(text[1], 0.1 * least[1]) / large.text[step]
    more = min(slope, whole) if slope > 0 else whole  # noise larger than the step; or a line that begins below zero
    median, most = took[1][len(built) // 2] / least[1], took[1][-1] / least[1]
    rate = {
        "core_seconds_before": _round(driver[1] + max(0.0, text[1] - more * large.text[step])),
        "core_seconds_per_shard": _round(shard),
        "mb_per_core_second": _round(1e-6 / more / median),
        "slowest": _round(1e-6 / more / most),
        "fastest": _round(1e-6 / more),
        "memory_gb": _round(large.memory.get(step, 0) / 1e9),
    }
    if step == "pack":  # what the sampling draws is a matter of the recipe: its bytes are counted from tokens
        return rate
    disk = large.disk.get(step, 0)
    slope = (disk - small.disk.get(step, 0)) / (large.text[step] - small.text[step])
    return rate | {"disk_bytes_per_byte": _round(max(0.0, min(slope, disk / large.text[step])))}


class Watch:
    """Looks on while steps are made: their CPU seconds, those of them outside tasks, and the most memory that this
    process held meanwhile.

    What a step names as parts of its work (`spend`) is not in its seconds, but beside it, as `step/part`.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.memory: dict[str, int] = {}
        self.driver: dict[str, float] = {}

    def perform(self, step: Step, work: Callable[[], StepResult]) -> StepResult:
        """A `Perform` that measures."""
        done, most = threading.Event(), [0]

        def look() -> None:
            process = psutil.Process()
            while not done.wait(0.02):
                most[0] = max(most[0], process.memory_info().rss)

        looker = threading.Thread(target=look, daemon=True)
        looker.start()
        began = time.process_time()
        performed = work()
        stages = {
            f"{step.name}/{name}": took for name, took in (performed.cost.parts if performed.cost else {}).items()
        }
        whole = time.process_time() - began
        self.driver[step.name] = whole - performed.cost.core_seconds if performed.cost else 0.0
        self.seconds |= {step.name: whole - sum(stages.values())} | stages
        done.set()
        looker.join()
        self.memory[step.name] = most[0]
        return performed


def _text_in(performed: list[StepResult]) -> tuple[dict[str, int], dict[str, int], int]:
    """Bytes of text and shards that each step was given (ingest: that it gave), and the rows that ingest gave.

    A step without parents but ingest, the index of the benchmarks, sees no text of the corpus and is left out: it
    takes seconds, once, for a corpus of any size.
    """
    text, shards, last, last_shards = {}, {}, 0, 0
    for done in performed:
        if done.step.name != "ingest" and not done.step.parents:
            continue
        records = done.manifest.kept == RECORDS
        given = _text(done.manifest) if records else last
        shards_given = len(done.manifest.shards) if records else last_shards
        first = done.step.name == "ingest"
        text[done.step.name] = given if first else last
        shards[done.step.name] = shards_given if first else last_shards
        for name in done.cost.parts if done.cost else ():
            text[f"{done.step.name}/{name}"], shards[f"{done.step.name}/{name}"] = last, last_shards
        last, last_shards = given, shards_given
    return text, shards, performed[0].manifest.rows_kept


def _text(manifest: Manifest) -> int:
    return sum(_bytes(storage.read_parquet(ref.path, ["instruction", "response"])) for ref in manifest.shards)


def _bytes(table: pa.Table) -> int:
    return sum(pc.sum(pc.binary_length(column)).as_py() or 0 for column in table.columns)


def _tokens(manifest: Manifest) -> int:
    total = 0
    for ref in manifest.shards:
        table = storage.map_arrow(ref.path)
        total += sum(pc.sum(pc.list_value_length(table[name])).as_py() or 0 for name in ("instruction", "response"))
    return total


def _growth(recipe: Recipe, ingested: Manifest) -> dict[str, float]:
    """Bytes of text of records per byte of file, by suffix (of the compression, where there is one)."""
    suffix_of: dict[str, set[str]] = defaultdict(set)
    files: dict[str, int] = defaultdict(int)
    for one in plan_inputs(recipe):
        if one.path:
            suffix_of[one.source].add(Path(one.path).suffix.lower())
            files[Path(one.path).suffix.lower()] += one.bytes
    text: dict[str, int] = defaultdict(int)
    for ref in ingested.shards:
        table = storage.read_parquet(ref.path, ["source", "instruction", "response"])
        for source in pc.unique(table["source"]).to_pylist():
            for suffix in suffix_of.get(source, ()):  # no source here has files of two kinds
                text[suffix] += _bytes(table.filter(pc.equal(table["source"], source)).drop_columns(["source"]))
    return {suffix: _round(text[suffix] / size) for suffix, size in sorted(files.items())}


def _round(value: float) -> Any:
    return float(f"{value:.3g}")

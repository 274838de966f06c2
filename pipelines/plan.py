"""What would a recipe read and cost? Estimated from its inputs and from measured rates; nothing is run.

Inputs that are present are measured. For missing ones the published numbers are used: the rows and bytes of a source
(`pipelines/sources`), and the tokens of the parts of HRM-Text's corpus, if the recipe has all sources of a part.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from dedup.probability import Banding, curve, strictness
from dedup.shingles import Unit
from filters.rewrite import RequestBudget, Rewrite
from pipelines.curate import STEPS, last_of_records, wanted
from pipelines.errors import InputError
from pipelines.ledger import input_files, storage
from pipelines.recipe import NearDuplicates, Recipe
from pipelines.sources import SOURCES
from pipelines.sources.source import EPOCH_SHARES, EPOCH_TOKENS, PARTS, RAW_ROWS, RAW_TOKENS
from pipelines.steps.duplicates.near import banding_of
from pipelines.steps.ingest import GENERATED_SHARD_ROWS, GROUP_FILES, INGEST, SHARD_BYTES
from pipelines.steps.sampling import rows_per_epoch, rule_of
from pipelines.steps.source_files import Input, plan_inputs, raw_rows, unread_text
from pipelines.steps.step import Rate, Steps, Workload

RATES_FILE = Path(__file__).with_name("rates.json")
"""The measured rates, with date and hardware. `python -m tests.benchmarks rates` measures them again."""

MAX_COUNTED_BYTES = 4 << 20
"""The rows of a source with at most so many bytes of files are counted; of others they are estimated."""

GENERATED_ROW_BYTES = 150
"""Text of a generated row, about: the mean over the generators."""


class PlannedInput(BaseModel):
    """One input of a recipe.

    file: path or URL, `computed` for a generated source. bytes: file size, None if the file is missing or computed.
    rows: of a generated source. why: the reason if it is missing. published_rows, published_bytes: size of the data set
    as its publisher gives it, for a missing input of a known source.
    """

    model_config = ConfigDict(frozen=True)

    source: str
    file: str
    bytes: int | None
    rows: int | None
    missing: bool
    why: str
    published_rows: int | None
    published_bytes: int | None


class StepCost(BaseModel):
    """The cost of one step, as if no step before it dropped anything. None where no rate is measured for the step.

    core_hours_range: at the fastest and the slowest of the builds that were measured. memory_gb: of its largest worker.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    core_hours: float | None
    core_hours_range: tuple[float, float] | None
    memory_gb: float | None
    disk_bytes: int | None


class Measurement(BaseModel):
    """The measurement that the rates come from. text_mb: megabytes of text that were processed."""

    model_config = ConfigDict(frozen=True)

    date: str
    hardware: str
    recipe: str
    text_mb: float


class CurvePoint(BaseModel):
    """A point of the S-curve: the shares of pairs with this Jaccard that the search finds and misses."""

    model_config = ConfigDict(frozen=True)

    jaccard: float
    found: float
    missed: float


class Strictness(BaseModel):
    """A banding by name, and the Jaccard at which it finds half of the pairs."""

    model_config = ConfigDict(frozen=True)

    name: str
    half_found_at: float


class Recall(BaseModel):
    """What share of near duplicates the recipe's banding finds.

    thresholds: the least Jaccard of each compared field. threshold: the lowest of them. loosest_first: this recipe
    among the published presets.
    """

    model_config = ConfigDict(frozen=True)

    bands: int
    rows: int
    ngram: int
    unit: Unit
    threshold: float
    thresholds: dict[str, float]
    curve: tuple[CurvePoint, ...]
    loosest_first: tuple[Strictness, ...]

    @property
    def banding(self) -> Banding:
        """The banding alone."""
        return Banding(self.bands, self.rows, self.ngram, self.unit)


class Asked(BaseModel):
    """What a model behind an endpoint is asked. rows: about how many, if no stage before dropped any."""

    model_config = ConfigDict(frozen=True)

    model: str
    endpoint: str
    strategy: str
    rows: int
    budget: RequestBudget


class Plan(BaseModel):
    """What a build would read and cost.

    missing, missing_benchmarks: names of sources and benchmarks without files. unpriced: missing sources of unknown
    size, which are in no number here. rows, text_bytes, tokens: of all inputs, estimated. steps: core-hours, memory and
    disk of each. memory_gb: of the largest worker of all steps. overlaps: source -> splits of evaluation sets that it
    contains by construction. unread_columns: source without adapter -> columns with text that the recipe does not name.
    semantic: whether sentence vectors are computed, whose cost is in no number here. weighted: columns whose weights
    change what an epoch draws, which is in no number here either: how many rows have each value is not known. asked:
    what models behind endpoints are asked, for each stage `rewrite`; their time and price are in no number here.
    """

    model_config = ConfigDict(frozen=True)

    recipe: str
    inputs: tuple[PlannedInput, ...]
    missing: tuple[str, ...]
    missing_benchmarks: tuple[str, ...]
    unpriced: tuple[str, ...]
    rows: int
    text_bytes: int
    tokens: int
    drawn_tokens_per_epoch: int
    steps: tuple[StepCost, ...]
    core_hours: float
    core_hours_range: tuple[float, float]
    memory_gb: float
    disk_bytes: int
    rates: Measurement
    overlaps: dict[str, tuple[str, ...]]
    unread_columns: dict[str, tuple[str, ...]]
    semantic: bool
    weighted: tuple[str, ...] = Field(default=(), exclude_if=lambda value: not value)
    asked: tuple[Asked, ...] = Field(default=(), exclude_if=lambda value: not value)
    near_duplicates: Recall | None = Field(default=None, exclude_if=lambda value: value is None)


def plan(recipe: Recipe, pipeline: Steps = STEPS) -> Plan:
    """Estimate what a build of the recipe would read and cost. Reads the sizes of its inputs, and the first rows
    of sources whose columns the recipe names.

    pipeline: the steps to price, of which the recipe may have some.

    Raises: RecipeError: naming source and key, if a source cannot be read as the recipe describes it.
    """
    rates = json.loads(RATES_FILE.read_bytes())
    inputs = plan_inputs(recipe)
    present = _text_present(recipe, inputs, rates)
    parts, unpriced = _parts_missing(recipe, inputs, present, rates)
    text = sum(present.values()) + sum(parts.values()) / rates["tokens_per_byte"]
    tokens = sum(present.values()) * rates["tokens_per_byte"] + sum(parts.values())
    counted = _rows_counted(recipe, inputs)
    by_source = {name: counted.get(name, size / rates["text_bytes_per_row"]) for name, size in present.items()}
    rows = sum(by_source.values())
    rows += sum(parts.values()) * RAW_ROWS / RAW_TOKENS
    drawn = _drawn_present(recipe, inputs, rates) + _drawn_missing(recipe, parts)
    workload = Workload(
        recipe, text, rows, rows * drawn / max(tokens, 1), drawn, _shards(recipe, inputs, present, text)
    )
    steps = _steps(workload, _rates(rates), pipeline)
    return Plan(
        recipe=recipe.name,
        inputs=tuple(_input(recipe, entry) for entry in inputs),
        missing=tuple(sorted({entry.source for entry in inputs if entry.missing})),
        missing_benchmarks=_benchmarks_missing(recipe),
        unpriced=unpriced,
        rows=int(rows),
        text_bytes=int(text),
        tokens=int(tokens),
        drawn_tokens_per_epoch=int(drawn),
        steps=steps,
        core_hours=round(sum(step.core_hours or 0 for step in steps), 4),
        core_hours_range=_sum(step.core_hours_range for step in steps),
        memory_gb=max(step.memory_gb or 0 for step in steps),
        disk_bytes=sum(step.disk_bytes or 0 for step in steps),
        rates=Measurement(**{key: rates[key] for key in Measurement.model_fields}),
        overlaps=_overlaps(recipe),
        unread_columns=_unread_columns(recipe, inputs),
        semantic=bool(recipe.contamination and recipe.contamination.semantic),
        weighted=tuple(recipe.sampling.weights),
        asked=tuple(_asked(stage, by_source) for stage in recipe.stages if isinstance(stage, Rewrite)),
        near_duplicates=_recall(recipe.near_duplicates) if recipe.near_duplicates else None,
    )


def _asked(stage: Rewrite, rows: Mapping[str, float]) -> Asked:
    asked = sum(number for source, number in rows.items() if not stage.source or source in stage.source)
    fields = {name: getattr(stage, name) for name in ("model", "endpoint", "strategy", "budget")}
    return Asked(rows=int(asked), **fields)


def disk_needed(recipe: Recipe, inputs: Sequence[Input], pipeline: Steps = STEPS) -> int:
    """Bytes that a build writes, estimated from its inputs, as if no step dropped anything."""
    rates = json.loads(RATES_FILE.read_bytes())
    present = _text_present(recipe, inputs, rates)
    text = sum(present.values())
    drawn = _drawn_present(recipe, inputs, rates)
    tokens = max(text * rates["tokens_per_byte"], 1)
    rows = text / rates["text_bytes_per_row"]
    workload = Workload(recipe, text, rows, rows * drawn / tokens, drawn, _shards(recipe, inputs, present, text))
    steps = _steps(workload, _rates(rates), pipeline)
    return sum(step.disk_bytes or 0 for step in steps)


def _input(recipe: Recipe, entry: Input) -> PlannedInput:
    spec = next(spec for spec in recipe.sources if spec.name == entry.source)
    published = SOURCES.get(spec.adapter or "") if entry.missing else None
    return PlannedInput(
        source=entry.source,
        file=entry.path or "computed",
        bytes=None if entry.missing or not entry.path else entry.bytes,
        rows=None if entry.path else spec.rows,
        missing=entry.missing,
        why=entry.why,
        published_rows=published.rows if published else None,
        published_bytes=published.bytes if published else None,
    )


def _benchmarks_missing(recipe: Recipe) -> tuple[str, ...]:
    missing = []
    for spec in recipe.contamination.benchmarks if recipe.contamination else ():
        try:
            for pattern in spec.paths:
                input_files.expand(pattern)
        except InputError:
            missing.append(spec.name)
    return tuple(missing)


def _text_present(recipe: Recipe, inputs: Sequence[Input], rates: Mapping[str, Any]) -> dict[str, float]:
    """Source -> bytes of text in its inputs that are present; of a source with `rows`, in so many average rows."""
    text = {spec.name: 0.0 if spec.paths else float(GENERATED_ROW_BYTES * (spec.rows or 0)) for spec in recipe.sources}
    growth = rates["text_bytes_per_file_byte"]
    for entry in inputs:
        if entry.path and not entry.missing:
            text[entry.source] += entry.bytes * growth.get(Path(entry.path).suffix.lower(), 1.0)
    for spec in recipe.sources:
        if spec.paths and spec.rows is not None:
            text[spec.name] = min(text[spec.name], spec.rows * rates["text_bytes_per_row"])
    return text


def _shards(recipe: Recipe, inputs: Sequence[Input], present: Mapping[str, float], text: float) -> float:
    """About how many shards ingest cuts: one for each file, for each group of files where a source has many, and more
    for large ones. present: source -> bytes of text that is there; text: with what is missing."""
    files = Counter(entry.source for entry in inputs if entry.path and not entry.missing)
    shards = max(0.0, text - sum(present.values())) / SHARD_BYTES
    for spec in recipe.sources:
        least = files[spec.name] / (GROUP_FILES if files[spec.name] > GROUP_FILES else 1)
        if not spec.paths:
            least = (spec.rows or 0) / GENERATED_SHARD_ROWS
        shards += max(least, present[spec.name] / SHARD_BYTES)
    return shards


def _rows_counted(recipe: Recipe, inputs: Sequence[Input]) -> dict[str, int]:
    """Source -> its rows, where they are known: a computed source, and files that are small enough to be read."""
    counted = {}
    for spec in recipe.sources:
        files = [entry for entry in inputs if entry.source == spec.name]
        if not spec.paths:
            counted[spec.name] = spec.rows or 0
        elif all(not entry.missing and storage.is_local(entry.path) for entry in files) and (
            sum(entry.bytes for entry in files) <= MAX_COUNTED_BYTES
        ):
            with contextlib.suppress(InputError):  # `check` tells what is wrong with a file
                rows = sum(table.num_rows for entry in files for table in raw_rows(spec, entry.path))
                counted[spec.name] = min(rows, spec.rows or rows)
    return counted


def _parts_missing(
    recipe: Recipe, inputs: Sequence[Input], present: Mapping[str, float], rates: Mapping[str, Any]
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Part of HRM-Text's corpus -> tokens missing of it; and the missing sources of unknown size."""
    adapter = {spec.name: spec.adapter or "" for spec in recipe.sources}
    missing = {entry.source for entry in inputs if entry.missing}
    parts = {}
    for part, tokens in PARTS.items():
        members = {source.name for source in SOURCES.values() if source.part == part}
        names = [name for name in adapter if adapter[name] in members]
        if members <= {adapter[name] for name in names} and missing & set(names):
            parts[part] = max(0.0, tokens - sum(present[name] for name in names) * rates["tokens_per_byte"])
    unpriced = [name for name in missing if adapter[name] not in SOURCES or SOURCES[adapter[name]].part not in parts]
    return parts, tuple(sorted(unpriced))


def _drawn_present(recipe: Recipe, inputs: Sequence[Input], rates: Mapping[str, Any]) -> float:
    """Tokens that an epoch draws from the inputs that are present, by the recipe's sampling rules.

    A rule caps the rows of a file. FLAN's files hold several tasks, each with a cap of its own, so their draw is
    underestimated.
    """
    groups, drawn = recipe.sampling.groups, 0.0
    left = {spec.name: spec.rows * rates["text_bytes_per_row"] for spec in recipe.sources if spec.rows is not None}
    for entry in inputs:
        if entry.path and not entry.missing:
            text = entry.bytes * rates["text_bytes_per_file_byte"].get(Path(entry.path).suffix.lower(), 1.0)
            if entry.source in left:  # files are read in order, up to `rows`
                text = min(text, left[entry.source])
                left[entry.source] -= text
            rows = text / rates["text_bytes_per_row"]
            wanted = rows_per_epoch(rule_of(f"{entry.source}/{entry.file}", groups), max(1, round(rows)))
            drawn += text * rates["tokens_per_byte"] * wanted / max(1, round(rows))
    for spec in recipe.sources:
        if not spec.paths:
            wanted = rows_per_epoch(rule_of(spec.name, groups), spec.rows or 0)
            drawn += GENERATED_ROW_BYTES * wanted * rates["tokens_per_byte"]
    return drawn


def _drawn_missing(recipe: Recipe, parts: Mapping[str, float]) -> float:
    """Tokens that an epoch draws from the missing parts: with sampling rules, what HRM-Text's draw."""
    if not recipe.sampling.groups:
        return sum(parts.values())
    return sum(EPOCH_TOKENS * EPOCH_SHARES[part] * tokens / PARTS[part] for part, tokens in parts.items())


def _rates(measured: Mapping[str, Any]) -> dict[str, Rate]:
    """The rates of steps, and of parts of steps that recipes differ in."""
    return {name: Rate(**rate) for name, rate in (measured["steps"] | measured["parts"]).items()}


def _steps(workload: Workload, rates: Mapping[str, Rate], pipeline: Steps) -> tuple[StepCost, ...]:
    """The cost of each step. A step whose cost does not grow with the corpus is left out."""
    costs: list[StepCost] = []
    chosen = wanted(workload.recipe, pipeline)
    corpus = last_of_records(chosen)
    extremes = [
        {name: one._replace(mb_per_core_second=getattr(one, end)) for name, one in rates.items()}
        for end in ("fastest", "slowest")
    ]
    for step in chosen:
        if step.estimate is None:
            continue
        rate = step.rate or step.name
        if rate not in rates:
            costs.append(
                StepCost(name=step.name, core_hours=None, core_hours_range=None, memory_gb=None, disk_bytes=None)
            )
            continue
        estimate = step.estimate(rate, workload, rates)
        if estimate is None:
            continue
        seconds, memory, disk = estimate
        if step.name == corpus != INGEST.name and "corpus" in workload.recipe.store:
            disk += workload.text_bytes * rates[INGEST.name].disk_bytes_per_byte  # rates are without the corpus's text
        fast, slow = (step.estimate(rate, workload, one) for one in extremes)
        assert fast is not None and slow is not None
        costs.append(
            StepCost(
                name=step.name,
                core_hours=_hours(seconds),
                core_hours_range=(_hours(fast.core_seconds), _hours(slow.core_seconds)),
                memory_gb=round(memory, 2),
                disk_bytes=int(disk),
            )
        )
    return tuple(costs)


def _hours(seconds: float) -> float:
    return round(seconds / 3600, 4)


def _sum(ranges: Iterable[tuple[float, float] | None]) -> tuple[float, float]:
    """The least and the most of all steps together."""
    known = [one for one in ranges if one is not None]
    return round(sum(low for low, _ in known), 4), round(sum(high for _, high in known), 4)


def _overlaps(recipe: Recipe) -> dict[str, tuple[str, ...]]:
    known = {spec.name: SOURCES[spec.adapter] for spec in recipe.sources if spec.adapter and spec.adapter in SOURCES}
    return {name: tuple(source.overlaps) for name, source in known.items() if source.overlaps}


def _unread_columns(recipe: Recipe, inputs: Sequence[Input]) -> dict[str, tuple[str, ...]]:
    columns = {}
    for spec in recipe.sources:
        try:
            columns[spec.name] = unread_text(spec, inputs)
        except InputError:  # a plan is no check: a build tells what is wrong with the file
            continue
    return {name: names for name, names in columns.items() if names}


def _recall(settings: NearDuplicates) -> Recall:
    banding = banding_of(settings)
    return Recall(
        **banding._asdict(),
        threshold=settings.lowest_threshold,
        thresholds=dict(settings.thresholds),
        curve=tuple(CurvePoint(**point) for point in curve(banding)),
        loosest_first=tuple(Strictness(name=name, half_found_at=round(at, 4)) for name, at in strictness(banding)),
    )

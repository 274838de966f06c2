"""Is what a run should have removed gone, and do its steps make the same files again? Computed anew from the texts.

The duplicates and leaks are looked for in the corpus itself, by the recipe's rules. Then every step is made again as
far as its shards, and some random shards to the end; their bytes are compared with those of the run. What such a step
computes over all rows (signatures of duplicates, the scan for items, the tokenizer) is computed in full.

Scratch files lie in a temporary folder of this machine, and a pool of local processes does the work.
"""

from __future__ import annotations

import contextlib
import random
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import polars as pl

from dedup import exact
from dedup.columns import as_array
from filters.stage import RenamedKeyWarning
from pipelines.curate import STEPS, last_of_records, wanted
from pipelines.errors import WinnowError
from pipelines.ledger import manifest as manifests
from pipelines.ledger import storage
from pipelines.ledger.arrow_file import ids_of
from pipelines.ledger.engine import Engine, LocalEngine, cpus
from pipelines.ledger.manifest import Manifest, Part
from pipelines.ledger.run import OUTPUT, WORK, Item, Run, StepContext, StepResult, Watch, Work, with_code
from pipelines.ledger.runs import RecordedRun
from pipelines.ledger.step import Resources, Step, StepType
from pipelines.recipe import Recipe
from pipelines.steps.benchmark_index import BENCHMARK_INDEX
from pipelines.steps.decontaminate import CONTAMINATION, find_leaks
from pipelines.steps.duplicates.criteria import PREFERENCES, Criteria, read_records, recipe_priorities, source_hashes
from pipelines.steps.duplicates.exact import EXACT_DUPLICATES
from pipelines.steps.duplicates.near import NEAR_DUPLICATES, find_near_duplicates
from pipelines.steps.item_vectors import ITEM_VECTORS
from pipelines.steps.step import Build

SHARDS = 2
"""Random shards of each step that are made again."""

POOL_BYTES = 1 << 22
"""Bytes of a corpus from which on a pool of processes is started."""

NAMED = 3
"""Rows or pairs that a message names."""


def deep_problems(run: RecordedRun, said: list[str], watch: Watch) -> Iterator[str]:
    """Look for duplicates and leaks that should be gone, and make random shards again.

    said: a line for each check that was made, and for what could not be checked. watch: progress.

    Raises: WinnowError: if the run's settings are not those of a recipe of this version.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RenamedKeyWarning)  # a run of an earlier version has the former keys
        recipe = Recipe.model_validate(run.info["settings"])
    # The first step holds text; the corpus may be selections of it, which are small.
    workers = cpus() if sum(shard.bytes for shard in run.steps[0].shards) > POOL_BYTES else 1
    with tempfile.TemporaryDirectory() as scratch, LocalEngine(workers) as engine:
        checks: list[Callable[[], Iterator[str]]] = [
            lambda: _exact_duplicates(run, recipe, said),
            lambda: _near_duplicates(run, recipe, said, _context(scratch, "near-duplicates-left", engine, watch)),
            lambda: _leaks(run, recipe, said, _context(scratch, "leaks-left", engine, watch)),
            lambda: _made_again(run, recipe, said, scratch, engine, watch),
        ]
        for check in checks:
            yield from check()


def _context(scratch: str, name: str, engine: Engine, watch: Watch) -> StepContext:
    return StepContext(scratch, StepType(name=name, products={"left": ""}).step({})._replace(code={}), engine, watch)


def _exact_duplicates(run: RecordedRun, recipe: Recipe, said: list[str]) -> Iterator[str]:
    """Rows of the corpus with equal texts. 24 bytes a row are held."""
    settings, step = recipe.exact_duplicates, run.step(EXACT_DUPLICATES.name)
    if not settings or step is None:
        return
    criteria = Criteria(PREFERENCES, {}, settings.fields, settings.scope)
    earlier = [manifests.load(run.root, f"{EXACT_DUPLICATES.name}-{key}") for key in step.parents[1:]]
    pieces, own = [np.empty((0, 2), np.uint64)], 0
    for manifest in (*earlier, run.records):
        for shard in manifest.shards if manifest else ():
            records = read_records(criteria, shard)
            texts = [exact.exact_text(as_array(records[field])) for field in criteria.fields]
            halves = exact.halves(exact.digest128(*texts))
            halves[:, 0] ^= source_hashes(records, criteria)
            pieces.append(halves)
            own += len(halves) if manifest is run.records else 0
    digests = np.concatenate(pieces)
    order = np.lexsort((digests[:, 1], digests[:, 0]))
    equal = (digests[order][1:] == digests[order][:-1]).all(axis=1)
    pairs = np.stack([order[:-1][equal], order[1:][equal]], axis=1)
    pairs = pairs[(pairs >= len(digests) - own).any(axis=1)] - (len(digests) - own)
    said.append(f"exact duplicates: {own:,} rows of the corpus compared, {len(pairs):,} left")
    if len(pairs):
        ids = _ids(run.records)
        named = "; ".join(
            " and ".join(ids[row] if row >= 0 else "an earlier run's" for row in pair) for pair in pairs[:NAMED]
        )
        yield f"run {run.id}: {len(pairs)} exact duplicates are left in the corpus: {named}; build it again"


def _near_duplicates(run: RecordedRun, recipe: Recipe, said: list[str], context: StepContext) -> Iterator[str]:
    """Near-duplicates among the rows of the corpus, with the boilerplate of the rows that the step was given."""
    settings, step = recipe.near_duplicates, run.step(NEAR_DUPLICATES.name)
    if not settings or step is None:
        return
    given = [shard for key in (*step.parents[1:], step.parents[0]) for shard in _parent(run, key).shards]
    _, decisions = find_near_duplicates(context, run.records.shards, given, settings, recipe_priorities(recipe))
    tables = [pl.DataFrame(storage.map_arrow(file.path).select(["row", "duplicate_of"])) for file in decisions]
    left = (
        pl.concat(tables).unique("row", keep="last").filter(pl.col("duplicate_of") >= 0) if tables else pl.DataFrame()
    )
    said.append(f"near duplicates: {run.records.rows_kept:,} rows of the corpus compared, {len(left):,} left")
    if len(left):
        ids = _ids(run.records)
        named = "; ".join(f"{ids[row]} and {ids[other]}" for row, other in left.head(NAMED).iter_rows())
        yield f"run {run.id}: {len(left)} near-duplicates are left in the corpus: {named}; build it again"


def _leaks(run: RecordedRun, recipe: Recipe, said: list[str], context: StepContext) -> Iterator[str]:
    """Rows of the corpus that hold benchmark items."""
    step, index = run.step(CONTAMINATION.name), run.step(BENCHMARK_INDEX.name)
    if not recipe.contamination or step is None or index is None:
        return
    given = _parent(run, step.parents[0]).shards
    rows = find_leaks(context, index, run.records.shards, given, recipe.contamination)
    said.append(f"leaks: {run.records.rows_kept:,} rows of the corpus scanned, {len(rows):,} left")
    if rows:
        named = ", ".join(rows[:NAMED])
        yield f"run {run.id}: {len(rows)} rows of the corpus hold benchmark items: {named}; build it again"


def _parent(run: RecordedRun, key: str) -> Manifest:
    """The step of the run with this key; of an earlier run, by its key."""
    own = next((step for step in run.steps if step.key == key), None)
    if own is not None:
        return own
    folders = [name for name in storage.folders(storage.join(run.root, "steps")) if name.endswith(f"-{key}")]
    found = manifests.load(run.root, folders[0]) if folders else None
    if found is None:
        raise WinnowError(f"step {key}, which an earlier run made, is not below {run.root} any more")
    return found


def _ids(records: Manifest) -> list[str]:
    return [name for shard in records.shards for name in ids_of(shard).to_pylist()]


# -------------------------------------------------------------------------------------------------- shards made again


class _EnoughMade(Exception):
    """The shards that were chosen are made."""


class _SampledContext(StepContext):
    """A context in which the last phase makes only some random shards. chosen: their numbers."""

    chosen: Sequence[int] = ()

    def map(
        self, work: Work[Item], items: Sequence[Item], phase: str = OUTPUT, resources: Resources | None = None
    ) -> list[Part]:
        if phase != OUTPUT:
            return super().map(work, items, phase, resources)
        self.chosen = sorted(random.sample(range(len(items)), min(SHARDS, len(items))))
        blank = [item if index in self.chosen else None for index, item in enumerate(items)]
        super().map(_Chosen(work), blank, phase, resources)
        raise _EnoughMade


class _Chosen:
    """Work on an item that is chosen; the others are None."""

    def __init__(self, work: Callable[..., Part]) -> None:
        self.work = work

    def __call__(self, item: object, target: object) -> Part:
        return Part() if item is None else self.work(item, target)


class _Again(Run):
    """A run whose steps are those recorded; each is made again in a scratch folder and compared."""

    def __init__(self, run: RecordedRun, scratch: str, engine: Engine, watch: Watch) -> None:
        super().__init__(run.root, engine, watch=watch)
        self.recorded = {step.folder: step for step in run.steps}
        self.scratch = scratch
        self.problems: list[str] = []
        self.compared = self.files = 0

    def do(
        self,
        step: Step,
        work: Callable[[StepContext], Sequence[Part]],
        parent: Manifest | None = None,
        uses: Iterable[object] = (),
    ) -> Manifest:
        """The recorded step, after a comparison. Raises: WinnowError: if the run has no step with this key."""
        step = with_code(step, work, uses)
        recorded = self.recorded.get(step.folder)
        if recorded is None:
            raise WinnowError("this version, or other input files, make it with another key")
        context = _SampledContext(self.scratch, step, self.engine, self.watch)
        with contextlib.suppress(_EnoughMade):
            work(context)
        digests = {
            file.path.removeprefix(f"{storage.join(self.root, 'steps', step.folder)}/"): file.digest
            for file in recorded.all_files
        }
        made = [name for name in storage.files_below(context.folder) if not name.startswith(f"{WORK}/")]
        for name in made:
            if storage.digest(storage.join(context.folder, name)) != digests.get(name):
                self.problems.append(
                    f"{storage.join(self.root, 'steps', step.folder, name)}: made again it has other bytes; "
                    "build it again, or report this as a defect"
                )
        storage.remove(context.folder)
        self.compared += bool(made)
        self.files += len(made)
        self.results.append(StepResult(step, recorded, True, 0.0))
        return recorded


def _made_again(
    run: RecordedRun, recipe: Recipe, said: list[str], scratch: str, engine: Engine, watch: Watch
) -> Iterator[str]:
    """Make every step again as far as some random shards. A step that cannot be made again is told of."""
    again = _Again(run, scratch, engine, watch)
    chosen = wanted(recipe, STEPS)
    build = Build(again, recipe, last_of_records(chosen))
    semantic = bool(recipe.contamination and recipe.contamination.semantic)
    for step in chosen:
        recorded = run.step(step.name)
        if recorded is None:
            continue
        why = ""
        if step.name.endswith("-answers"):
            why = "its answers come from a model behind an endpoint"
        elif semantic and step.name in (ITEM_VECTORS.name, CONTAMINATION.name):
            why = "it needs the sentence model"
        else:
            try:
                step.make(build)
            except (WinnowError, OSError) as error:
                why = str(error)
        if why:
            said.append(f"{step.name}: not made again: {why}")
        build.made[step.name] = recorded
    said.append(f"made again: {again.files:,} random files of {again.compared} steps")
    yield from again.problems

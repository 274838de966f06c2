"""Steps and runs made for tests: any tables as the records of a finished step, and a corpus recorded as a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from filters.contamination.paraphrase import SentenceModel
from pipelines.curate import Corpus
from pipelines.ledger import runs, storage
from pipelines.ledger.manifest import Manifest, Part
from pipelines.ledger.run import Run, Target
from pipelines.ledger.runs import RecordedRun
from pipelines.ledger.step import DROPPED_ROWS, Step, StepType
from pipelines.recipe import Contamination, Recipe
from pipelines.steps.benchmark_index import benchmark_index
from pipelines.steps.decontaminate import drop_contaminated
from pipelines.steps.item_vectors import item_vectors
from pipelines.steps.products import RECORDS


def plain_step(
    name: str = "given",
    parameters: Mapping[str, Any] | None = None,
    parents: Sequence[str] = (),
    kept: str = RECORDS,
    code: str = "1",
) -> Step:
    """A step whose products are `kept` and the rows dropped. code: stands for the digest of what its work runs, so that
    its key is known before it is made."""
    products = {kept: "made for a test", DROPPED_ROWS: "made for a test"}
    step = StepType(name=name, products=products, kept=kept).step(parameters or {}, parents)
    return step._replace(code={"tests.steps": code})


def keep(table: pa.Table, target: Target) -> Part:
    """A part that keeps all rows of a table."""
    return Part(rows_in=table.num_rows, files={RECORDS: (storage.write_parquet(target.path(), table),)})


def records_of(run: Run, tables: Sequence[pa.Table], name: str = "given", **parameters: Any) -> Manifest:
    """A finished step whose shards are `tables`."""
    return run.do(plain_step(name, parameters), lambda context: context.map(keep, tables))


def record_run(run: Run, recipe: Recipe, corpus: Corpus, text: str = "") -> RecordedRun:
    """Record what `curate` made, as the flows do."""
    settings = recipe.model_dump(mode="json")
    return runs.record(run.root, recipe.name, text, settings, corpus.products, run.results)


def decontaminate(run: Run, records: Manifest, settings: Contamination, model: SentenceModel | None = None) -> Manifest:
    """The contamination step of any records, with the steps that it reads."""
    vectors = item_vectors(run, settings, model) if model else None
    return drop_contaminated(run, records, settings, benchmark_index(run, settings), vectors, model)

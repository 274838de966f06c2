"""The curation flow: a recipe's rows from sources to packed tokens, scheduled by Prefect."""

from __future__ import annotations

from pathlib import Path

from prefect import flow
from prefect.runtime import flow_run
from pydantic import BaseModel, ConfigDict

from flows.prefect.execute import EngineName, Execution, StepAnswer, execute_recipe, step_answers
from pipelines.ledger import storage
from pipelines.recipe import load
from pipelines.steps.pack import PACK, pack_files


class BuildAnswer(BaseModel):
    """A build. `winnow build --json` prints it.

    root: absolute path or URL. rows_in: rows of all sources. rows_kept: rows of the corpus. dropped: `stage/reason` ->
    rows. steps: in order. corpus: paths of the Parquet files of the final text records. tokens: paths of the Arrow
    files of packs. report: path of the HTML report.
    """

    model_config = ConfigDict(frozen=True)

    run: str
    root: str
    rows_in: int
    rows_kept: int
    dropped: dict[str, int]
    steps: tuple[StepAnswer, ...]
    corpus: tuple[str, ...]
    tokens: tuple[str, ...]
    report: str


def _run_name() -> str:
    """The name of a flow run: that of the recipe's file."""
    return Path(flow_run.parameters["recipe"]).stem


@flow(name="curate", flow_run_name=_run_name, validate_parameters=True)
def curate_flow(
    recipe: str,
    root: str = "./winnow-data",
    engine: EngineName = "ray",
    workers: int | None = None,
    settings: tuple[str, ...] = (),
) -> BuildAnswer:
    """Build a corpus from a recipe.

    recipe: path of the YAML file. root: folder or object-store URL. workers: shards processed at a time, by default one
    per CPU. settings: overrides, `path.to.key=value`.

    Raises: WinnowError: for a mistake in the recipe or its inputs. CheckFailed: if a step fails.
    """
    loaded = load(recipe, settings)
    text = storage.read_bytes(recipe).decode()
    return _answer(execute_recipe(loaded, text, root, engine, workers))


def _answer(execution: Execution) -> BuildAnswer:
    run, packs = execution.run, execution.run.step(PACK.name)
    assert packs is not None, "a build ends with packs"
    dropped: dict[str, int] = {}
    for step in run.steps:
        for reason, rows in step.reasons.items():
            dropped[reason] = dropped.get(reason, 0) + rows
    return BuildAnswer(
        run=run.id,
        root=run.root,
        rows_in=run.steps[0].rows_in or 0,
        rows_kept=run.records.rows_kept or 0,
        dropped=dropped,
        steps=step_answers(execution.results),
        corpus=tuple(shard.path for shard in run.records.shards),
        tokens=tuple(file.path for file in pack_files(packs)),
        report=execution.report,
    )

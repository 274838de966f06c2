"""How is a corpus built? A recipe's rows from sources to packed tokens, without a scheduler."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from flows.execute import EngineName, Execution, StepAnswer, execute_recipe, load_with_text, step_answers
from flows.tracker import Tracker
from pipelines.audit.same_packs import SamePacks, compare_packs
from pipelines.ledger import storage
from pipelines.ledger.corpus_manifest import CorpusManifest
from pipelines.ledger.storage import TableRef
from pipelines.recipe import Recipe
from pipelines.steps.pack import PACK, pack_files


class BuildAnswer(BaseModel):
    """A build. `winnow build --json` prints it.

    root: absolute path or URL. rows_in: rows of all sources. rows_kept: rows of the corpus. dropped: `stage/reason` ->
    rows. steps: in order. corpus: paths of the Parquet files of the final text records, none where the recipe does not
    store them. tokens: paths of the Arrow files of packs. report: path of the HTML report. manifest: of a build of a
    manifest, what was compared with it.
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
    manifest: SamePacks | None = Field(default=None, exclude_if=lambda value: value is None)


def build(
    recipe: str | Recipe,
    root: str = "./winnow-data",
    engine: EngineName = "ray",
    workers: int | None = None,
    settings: tuple[str, ...] = (),
    tracker: Tracker | None = None,
    from_step: str | None = None,
    memory: int | None = None,
) -> BuildAnswer:
    """Build a corpus from a recipe. Finished steps are reused.

    recipe: path of the YAML file, its name if it is installed with Winnow (`demo`), or a recipe. root: folder or
    object-store URL. workers: shards processed at a time, by default one per CPU. settings: overrides of the file's
    keys, `path.to.key=value`. tracker: what shows the progress, by default the console. from_step: make this step and
    those after it again, though they are finished. memory: bytes that each worker may hold.

    Raises: WinnowError: for a mistake in the recipe or its inputs. CheckFailed: if a step fails, or the packs are not
    those of the manifest that the recipe names.
    """
    loaded, text = load_with_text(recipe, settings)
    execution = execute_recipe(loaded, text, root, engine, workers, tracker=tracker, from_step=from_step, memory=memory)
    same = compare_packs(execution.run, CorpusManifest(loaded.manifest)) if loaded.manifest is not None else None
    return _answer(execution, loaded, same)


def _is_selected(shards: Sequence[TableRef], recipe: Recipe) -> bool:
    """Whether a file of the corpus has no text of its own. Some last steps always write text."""
    return "corpus" not in recipe.store and any(map(storage.is_selection, shards))


def _answer(execution: Execution, recipe: Recipe, manifest: SamePacks | None) -> BuildAnswer:
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
        corpus=() if _is_selected(run.records.shards, recipe) else tuple(shard.path for shard in run.records.shards),
        tokens=tuple(file.path for file in pack_files(packs)),
        report=execution.report,
        manifest=manifest,
    )

"""What happens to a recipe's rows, in order? Every step that the recipe asks for, each reading what was made before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from filters.contamination.paraphrase import SentenceModel
from pipelines.errors import Damaged, NothingNew
from pipelines.ledger import manifest as manifests
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.run import Run, StepResult
from pipelines.ledger.step import Step
from pipelines.recipe import Recipe
from pipelines.steps.benchmark_index import BENCHMARK_INDEX
from pipelines.steps.decontaminate import CONTAMINATION
from pipelines.steps.duplicates.exact import EXACT_DUPLICATES
from pipelines.steps.duplicates.near import NEAR_DUPLICATES
from pipelines.steps.ingest import INGEST
from pipelines.steps.item_vectors import ITEM_VECTORS
from pipelines.steps.manifest_rows import MANIFEST_ROWS
from pipelines.steps.pack import PACK
from pipelines.steps.products import RECORDS
from pipelines.steps.stages import STAGE_STEPS, STEPS_TO_SCORES
from pipelines.steps.step import Build, MakeRewriter, RecipeStep, Steps
from pipelines.steps.subset import SUBSET
from pipelines.steps.tokenize import TOKENS
from pipelines.steps.train_tokenizer import TOKENIZER
from pipelines.steps.training_overlap import TRAINING_OVERLAP

STEPS: Steps = (
    INGEST,
    STAGE_STEPS,
    EXACT_DUPLICATES,
    NEAR_DUPLICATES,
    ITEM_VECTORS,
    BENCHMARK_INDEX,
    CONTAMINATION,
    SUBSET,
    MANIFEST_ROWS,
    TOKENIZER,
    TOKENS,
    PACK,
    TRAINING_OVERLAP,
)
"""The steps of a build, in order. Adding one is one file and one line here."""

SCAN_STEPS: Steps = (INGEST, ITEM_VECTORS, BENCHMARK_INDEX, CONTAMINATION)
"""The steps of a contamination check by itself."""

SCORE_STEPS: Steps = (INGEST, STEPS_TO_SCORES)
"""The steps that measure a recipe's scores, without its cuts: to choose thresholds, and to compare with ratings."""


class Corpus(NamedTuple):
    """What a recipe made: the final text records, their tokens, and the packs that training reads.

    steps: step name -> manifest, in order. A run that ends with text (`winnow scan`) has `records` alone.
    """

    steps: Mapping[str, Manifest]
    records: Manifest
    tokenizer: Manifest | None = None
    tokens: Manifest | None = None
    packs: Manifest | None = None

    @property
    def products(self) -> dict[str, Manifest]:
        """Product -> the step that holds it, as `run.json` names them."""
        return products_of(self.steps)


def products_of(made: Mapping[str, Manifest]) -> dict[str, Manifest]:
    """Product -> the step that holds it, of the steps made so far. made: step name -> manifest, in order."""
    records = next((manifest for manifest in reversed([*made.values()]) if manifest.kept == RECORDS), None)
    steps = {"tokenizer": TOKENIZER.name, "tokens": TOKENS.name, "packs": PACK.name}
    named = {"corpus": records, **{product: made.get(step) for product, step in steps.items()}}
    return {product: manifest for product, manifest in named.items() if manifest is not None}


def curate(
    run: Run,
    recipe: Recipe,
    model: SentenceModel | None = None,
    steps: Steps = STEPS,
    rewriter: MakeRewriter | None = None,
) -> Corpus:
    """Make, or find, every step of a recipe.

    model: for `contamination: {semantic: true}`. rewriter: for the stage `rewrite`.

    Raises: NothingNew: if no row is left of those that are not in the runs of `against`.
    """
    chosen = wanted(recipe, steps)
    build = Build(run, recipe, last_of_records(chosen), model, rewriter)
    for step in chosen:
        build.made[step.name] = made_step = step.make(build)
        duplicates = step.name in (EXACT_DUPLICATES.name, NEAR_DUPLICATES.name)
        if recipe.against and duplicates and made_step.rows_in and not made_step.rows_kept:
            raise NothingNew(
                f"nothing new: all {made_step.rows_in:,} rows that reached {step.name} are in the earlier runs "
                f"{', '.join(recipe.against)}"
            )
    made = build.made
    return Corpus(made, build.records, made.get(TOKENIZER.name), made.get(TOKENS.name), made.get(PACK.name))


def last_of_records(steps: Sequence[RecipeStep]) -> str:
    """The name of the last step that keeps text records: the corpus."""
    return [step.name for step in steps if step.kept == RECORDS][-1]


def wanted(recipe: Recipe, steps: Steps = STEPS) -> list[RecipeStep]:
    """The steps that a recipe asks for, in order."""
    return [step for entry in steps for step in entry.of(recipe)]


class _Unfinished(Exception):
    """A step has no manifest."""


def is_finished(
    root: str,
    recipe: Recipe,
    model: SentenceModel | None = None,
    steps: Steps = STEPS,
    rewriter: MakeRewriter | None = None,
) -> bool:
    """Whether every step of a recipe is finished, so that `curate` makes none. The arguments are those of `curate`."""

    def perform(step: Step, work: Callable[[], StepResult]) -> StepResult:
        try:
            made = manifests.load(root, step.folder)
        except Damaged:
            made = None
        if made is None or manifests.problem(made):
            raise _Unfinished
        return work()

    try:
        curate(Run(root, LocalEngine(), perform), recipe, model, steps, rewriter)
    except _Unfinished:
        return False
    return True

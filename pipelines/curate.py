"""The whole pipeline on one page: what happens to a recipe's rows, in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from filters.contamination.paraphrase import Embed
from pipelines.errors import CheckFailed
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.run import Performed, Run
from pipelines.recipe import Recipe
from pipelines.steps.decontaminate import drop_contaminated
from pipelines.steps.deduplicate import drop_exact_duplicates, drop_near_duplicates, earlier
from pipelines.steps.ingest import ingest
from pipelines.steps.pack import pack
from pipelines.steps.refine import refine
from pipelines.steps.tokenization import tokenize, train_tokenizer


class Corpus(NamedTuple):
    """What a recipe makes: the final text records, their tokens, and the packs that training reads.

    A run that ends with text (`winnow scan`) has records alone.
    """

    records: Manifest
    tokenizer: Manifest | None = None
    tokens: Manifest | None = None
    packs: Manifest | None = None


def curate(run: Run, recipe: Recipe, embed: Embed | None = None) -> Corpus:
    """Make (or find) every step of a recipe. embed: sentence vectors, for `contamination: {semantic: true}`."""
    priorities = {source.name: source.priority for source in recipe.sources}

    records = ingest(run, recipe)
    records = refine(run, records, recipe.stages)
    if recipe.exact_duplicates:
        against = earlier(run.root, recipe.against, "exact-duplicates")
        records = drop_exact_duplicates(run, records, recipe.exact_duplicates, priorities, against)
    if recipe.near_duplicates:
        against = earlier(run.root, recipe.against, "near-duplicates")
        records = drop_near_duplicates(run, records, recipe.near_duplicates, priorities, against)
    if recipe.contamination:
        records = drop_contaminated(run, records, recipe.contamination, embed)
    if not records.rows_kept:
        raise CheckFailed(_nothing_left(run.performed))
    tokenizer = train_tokenizer(run, records, recipe.tokenizer)
    tokens = tokenize(run, records, tokenizer)
    packs = pack(run, tokens, tokenizer, recipe.sampling, recipe.seed)
    return Corpus(records, tokenizer, tokens, packs)


def _nothing_left(performed: Sequence[Performed]) -> str:
    """Where all rows went, for a recipe that leaves none to train on."""
    manifests = [entry.manifest for entry in performed]
    reasons = {
        reason: rows for manifest in manifests if manifest.rows_dropped for reason, rows in manifest.counts.items()
    }
    most = sorted(reasons.items(), key=lambda pair: -pair[1])[:3]
    told = ", ".join(f"{reason} {rows:,}" for reason, rows in most) or "the sources hold none"
    return f"no row is left of {manifests[0].rows_in or 0:,}: {told}"

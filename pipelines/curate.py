"""The whole pipeline on one page: what happens to a recipe's rows, in order."""

from __future__ import annotations

from typing import NamedTuple

from pipelines.decontaminate import drop_contaminated
from pipelines.deduplicate import drop_exact_duplicates, drop_near_duplicates
from pipelines.ingest import ingest
from pipelines.manifest import Manifest
from pipelines.pack import pack
from pipelines.recipe import Recipe
from pipelines.refine import refine
from pipelines.run import Run
from pipelines.tokenization import tokenize, train_tokenizer


class Corpus(NamedTuple):
    """What a recipe makes: the final text records, their tokens, and the packs that training reads."""

    records: Manifest
    tokenizer: Manifest
    tokens: Manifest
    packs: Manifest


def curate(run: Run, recipe: Recipe) -> Corpus:
    """Make (or find) every step of a recipe."""
    priorities = {source.name: source.priority for source in recipe.sources}

    records = ingest(run, recipe)
    records = refine(run, records, recipe.stages)
    if recipe.exact_duplicates:
        records = drop_exact_duplicates(run, records, recipe.exact_duplicates, priorities)
    if recipe.near_duplicates:
        records = drop_near_duplicates(run, records, recipe.near_duplicates, priorities)
    if recipe.contamination:
        records = drop_contaminated(run, records, recipe.contamination)
    tokenizer = train_tokenizer(run, records, recipe.tokenizer)
    tokens = tokenize(run, records, tokenizer)
    packs = pack(run, tokens, tokenizer, recipe.sampling, recipe.seed)
    return Corpus(records, tokenizer, tokens, packs)

"""Which steps carry a recipe's rows from sources to packs? One file each, and this list."""

from __future__ import annotations

from pipelines.steps.benchmark_index import BENCHMARK_INDEX
from pipelines.steps.decontaminate import CONTAMINATION
from pipelines.steps.duplicates.exact import EXACT_DUPLICATES
from pipelines.steps.duplicates.near import NEAR_DUPLICATES
from pipelines.steps.ingest import INGEST
from pipelines.steps.item_vectors import ITEM_VECTORS
from pipelines.steps.pack import PACK
from pipelines.steps.refine import REFINE
from pipelines.steps.step import RecipeStep
from pipelines.steps.tokenize import TOKENS
from pipelines.steps.train_tokenizer import TOKENIZER

STEPS: tuple[RecipeStep, ...] = (
    INGEST,
    REFINE,
    EXACT_DUPLICATES,
    NEAR_DUPLICATES,
    ITEM_VECTORS,
    BENCHMARK_INDEX,
    CONTAMINATION,
    TOKENIZER,
    TOKENS,
    PACK,
)
"""The steps of a build, in order. Adding one is one file and one line here."""

SCAN_STEPS: tuple[RecipeStep, ...] = (INGEST, ITEM_VECTORS, BENCHMARK_INDEX, CONTAMINATION)
"""The steps of a contamination check by itself."""

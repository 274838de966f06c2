"""Which records are kept of a corpus that is cut to a number of tokens? A random set of them, or the longest.

A smaller corpus is the control of a filter (`winnow ablate`): a filter that keeps the better rows must do more than
keep fewer. Rows are ordered by a hash of their ids, or by their tokens, and kept from the start until the next one
would not fit. So the tokens are exact within one row, and which rows are kept does not depend on the order of rows or
shards.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from dedup.exact import digest128, halves
from filters.stage import Outcome, mark_verdicts
from filters.verdict import Check, first_failure
from pipelines.ledger import input_files, storage
from pipelines.ledger.manifest import Manifest, Part, part
from pipelines.ledger.run import StepContext, Target, commit
from pipelines.ledger.step import DROPPED_ROWS
from pipelines.ledger.storage import TableRef
from pipelines.recipe import Subset
from pipelines.steps.encoding import Encoder, encoder
from pipelines.steps.products import RECORDS
from pipelines.steps.step import DROPPED_RECORDS, Build, RecipeStep

ENVELOPE_TOKENS = 3
"""Of a row, besides text and condition tags: before and after the instruction, and after the response."""

Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]


class Given(NamedTuple):
    """A tokenizer.json and what identifies its content."""

    path: str
    identity: str


def make(build: Build) -> Manifest:
    """Cut the records made so far to the tokens that the recipe's `subset` names."""
    settings, recipe = build.recipe.subset, build.recipe
    assert settings is not None and recipe.tokenizer.path is not None, "checked before the build"
    records = build.records
    tokenizer = Given(recipe.tokenizer.path, input_files.identity(recipe.tokenizer.path))
    values = {**settings.model_dump(mode="json"), "context": recipe.sampling.context, "tokenizer": tokenizer.identity}
    step = SUBSET.step(values, (records.key,))

    def work(context: StepContext) -> Sequence[Part]:
        measuring = functools.partial(_measure, tokenizer, settings, recipe.sampling.context)
        measures = [one.file("order").path for one in context.map(measuring, records.shards, phase="measure")]
        (limit,) = context.map(functools.partial(_limit, settings.tokens), [measures], phase="limit")
        items = list(zip(records.shards, measures, strict=True))
        return context.map(functools.partial(_keep, settings, limit.file("limit").path), items)

    return build.run.do(step, work, records)


SUBSET = RecipeStep(
    name="subset",
    products={RECORDS: "the records of a subset of the corpus", DROPPED_ROWS: DROPPED_RECORDS},
    kept=RECORDS,
    wanted=lambda recipe: recipe.subset is not None,
    make=make,
    estimate=None,
)


@functools.lru_cache(maxsize=1)
def _encoder(tokenizer: Given) -> Encoder:
    return encoder(storage.read_bytes(tokenizer.path), tokenizer.path)


def _measure(tokenizer: Given, settings: Subset, context: int, shard: TableRef, target: Target) -> Part:
    """Of each record: first and second (uint64), by which records are ordered, and tokens (int64)."""
    records = storage.read_parquet(shard.path, ["id", "condition", "instruction", "response"])
    tokens = count_tokens(tokenizer, records, context)
    first, second = order(records, tokens, settings)
    table = pa.table({"first": first, "second": second, "tokens": tokens})
    return part(order=storage.write_arrow(target.path(suffix=".arrow"), table))


def count_tokens(tokenizer: Given, records: pa.Table, context: int) -> Ints:
    """The tokens of each record with its envelope that a context holds: int64 [rows].

    0 for a record whose response has no token: the step `tokens` drops it.
    """
    bpe = _encoder(tokenizer)
    lengths = [bpe.encode_column(as_array(records[name]))[1] for name in ("instruction", "response")]
    tags = np.asarray(pc.count_substring(as_array(records["condition"]), ",")).astype(np.int64) + 1
    total: Ints = np.minimum(lengths[0] + lengths[1] + tags + ENVELOPE_TOKENS, context)
    return np.where(lengths[1] == 0, 0, total)


def order(records: pa.Table, tokens: Ints, settings: Subset) -> tuple[Hashes, Hashes]:
    """Two numbers of each record; records are kept in their order, smallest first: uint64 [rows] each."""
    seed = pa.repeat(str(settings.seed), len(records))
    hashes = halves(digest128(as_array(records["id"]), seed))[:, 0]
    if settings.keep == "random":
        return hashes, np.zeros(len(hashes), np.uint64)
    return np.uint64(2**62) - tokens.astype(np.uint64), hashes


def _limit(budget: int, paths: Sequence[str], target: Target) -> Part:
    """The place in the order of the first record that does not fit: a row of `first` and `second`; none if all fit."""
    table = pa.concat_tables([storage.map_arrow(path) for path in paths])
    first, second, tokens = (table[name].to_numpy() for name in ("first", "second", "tokens"))
    places = np.lexsort((second, first))
    beyond = np.flatnonzero(np.cumsum(tokens[places]) > budget)[:1]
    rows = places[beyond]
    limit = pa.table({"first": first[rows], "second": second[rows]})
    return part(limit=storage.write_arrow(target.path(suffix=".arrow"), limit))


def _keep(settings: Subset, limit: str, item: tuple[TableRef, str], target: Target) -> Part:
    shard, measured = item
    records, table = storage.read_parquet(shard.path).combine_chunks(), storage.map_arrow(measured)
    first, second, tokens = (table[name].to_numpy() for name in ("first", "second", "tokens"))
    ends = storage.map_arrow(limit).to_pylist()
    beyond = np.zeros(len(first), np.bool_)
    for end in ends:
        beyond = (first > end["first"]) | ((first == end["first"]) & (second >= end["second"]))
    check = Check("not_in_subset", beyond, tokens, settings.tokens)
    mask = pa.array(beyond)
    verdicts = first_failure([check]).filter(mask)
    dropped = mark_verdicts(records.filter(mask), "subset", verdicts)
    return commit(Outcome(records.filter(pc.invert(mask)), dropped), records, target)

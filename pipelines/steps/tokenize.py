"""Which ids does each record become? The sequence that the model is trained on, with its envelope.

    <|im_start|> condition-token... instruction-BPE <|im_end|>   |   response-BPE <|box_end|>

The envelope is put together from ids, never from text: a record that spells `<|im_end|>` is encoded as ordinary text.
"""

from __future__ import annotations

import functools

import pyarrow as pa

from filters.stage import mark_verdicts
from filters.verdict import Check, first_failure
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest, Part
from pipelines.ledger.run import Run, Target
from pipelines.ledger.step import DROPPED_ROWS
from pipelines.ledger.storage import FileRef, TableRef
from pipelines.steps.encoding import load
from pipelines.steps.products import TOKEN_ROWS, TOKENIZER_JSON
from pipelines.steps.step import DROPPED_RECORDS, Estimate, Rates, RecipeStep, Workload, always, by_text
from pipelines.steps.token_rows import encode_records, lengths_of
from pipelines.steps.train_tokenizer import TOKENIZER


def tokenize(run: Run, records: Manifest, tokenizer: Manifest, store: bool = True) -> Manifest:
    """Encode every record: one file per shard of records, in the same order.

    store: write the ids. An Arrow file has columns id string; instruction list<uint16>, with envelope and condition
    tokens; response list<uint16>, with its end token (uint32 where the vocabulary is larger than 65,536). If not, a
    Parquet file has `token_rows.LENGTHS`, some 10 bytes a row. A record whose response is empty is dropped.
    """
    step = TOKENS.step({} if store else {"form": "lengths"}, (records.key, tokenizer.key))
    work = functools.partial(_tokenize_shard, tokenizer.file(TOKENIZER_JSON), store)
    return run.do(step, lambda context: context.map(work, records.shards), records)


LENGTHS_BYTES_PER_ROW = 12
"""Of LENGTHS in Parquet: eight are the hash, which nothing compresses."""


def _estimate(step: str, workload: Workload, rates: Rates) -> Estimate:
    estimate = by_text(step, workload, rates)
    if "tokens" in workload.recipe.store:
        return estimate
    return estimate._replace(disk_bytes=LENGTHS_BYTES_PER_ROW * workload.rows)


TOKENS = RecipeStep(
    name="tokens",
    products={
        TOKEN_ROWS: "of each record: id, and instruction and response as token ids, or how many these are",
        DROPPED_ROWS: DROPPED_RECORDS,
    },
    kept=TOKEN_ROWS,
    wanted=always,
    make=lambda build: tokenize(
        build.run, build.records, build.made[TOKENIZER.name], store="tokens" in build.recipe.store
    ),
    estimate=_estimate,
)


def _tokenize_shard(tokenizer: FileRef, store: bool, shard: TableRef, target: Target) -> Part:
    bpe = load(tokenizer)
    records = storage.read_parquet(shard.path)
    rows, lengths = encode_records(bpe, records)
    if store:
        tokens = storage.write_arrow(target.path(suffix=".arrow"), rows)
    else:
        tokens = storage.write_parquet(target.path(), lengths_of(rows, bpe.special.values()))
    empty = lengths == 0
    if not empty.any():
        return Part(rows_in=shard.rows, files={TOKEN_ROWS: (tokens,)})
    # The end token alone is 1 token; 2 are needed.
    check = Check("empty_response", empty, lengths + 1, 2)
    dropped = mark_verdicts(records.filter(pa.array(empty)), "tokens", first_failure([check]).filter(pa.array(empty)))
    file = storage.write_parquet(target.path("dropped"), dropped)
    files = {TOKEN_ROWS: (tokens,), DROPPED_ROWS: (file,)}
    return Part(rows_in=shard.rows, files=files, counts={"tokens/empty_response": dropped.num_rows})

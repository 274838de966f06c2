"""Which ids does each record become? The sequence that the model is trained on, with its envelope.

    <|im_start|> condition-token... instruction-BPE <|im_end|>   |   response-BPE <|box_end|>

The envelope is put together from ids, never from text: a record that spells `<|im_end|>` is encoded as ordinary text.
"""

from __future__ import annotations

import functools

import numpy as np
import pyarrow as pa

from filters.stage import mark_verdicts
from filters.verdict import Check, first_failure
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest, Part
from pipelines.ledger.run import Run, Target
from pipelines.ledger.step import DROPPED_ROWS
from pipelines.ledger.storage import FileRef, TableRef
from pipelines.records import CONDITIONS
from pipelines.steps.encoding import Encoder, Ints, Tokens, load
from pipelines.steps.products import TOKEN_ROWS, TOKENIZER_JSON
from pipelines.steps.step import DROPPED_RECORDS, RecipeStep, always
from pipelines.steps.train_tokenizer import TOKENIZER


def tokenize(run: Run, records: Manifest, tokenizer: Manifest) -> Manifest:
    """Write every record as ids: one Arrow file per shard of records, in the same order.

    Columns: id string; instruction list<uint16>, with envelope and condition tokens; response list<uint16>, with its
    end token (uint32 where the vocabulary is larger than 65,536). A record whose response is empty is dropped.
    """
    step = TOKENS.step({}, (records.key, tokenizer.key))
    work = functools.partial(_tokenize_shard, tokenizer.file(TOKENIZER_JSON))
    return run.do(step, lambda context: context.map(work, records.shards), records)


TOKENS = RecipeStep(
    name="tokens",
    products={
        TOKEN_ROWS: "id, instruction and response as token ids, one Arrow file a shard",
        DROPPED_ROWS: DROPPED_RECORDS,
    },
    kept=TOKEN_ROWS,
    wanted=always,
    make=lambda build: tokenize(build.run, build.records, build.made[TOKENIZER.name]),
)


def _tokenize_shard(tokenizer: FileRef, shard: TableRef, target: Target) -> Part:
    bpe = load(tokenizer)
    records = storage.read_parquet(shard.path)
    responses, lengths = bpe.encode_column(records["response"].combine_chunks())
    # A response without tokens cannot be trained on: the loss needs the end token and one before it.
    empty = lengths == 0
    kept = records.filter(pa.array(~empty, pa.bool_()))
    columns = [kept["id"], _instructions(bpe, kept), _with_last(responses, lengths[~empty], bpe.special["eoa"])]
    tokens = storage.write_arrow(target.path(suffix=".arrow"), pa.table(columns, ["id", "instruction", "response"]))
    if not empty.any():
        return Part(rows_in=shard.rows, files={TOKEN_ROWS: (tokens,)})
    # The end token alone is 1 token; 2 are needed.
    check = Check("empty_response", empty, lengths + 1, 2)
    dropped = mark_verdicts(records.filter(pa.array(empty)), "tokens", first_failure([check]).filter(pa.array(empty)))
    file = storage.write_parquet(target.path("dropped"), dropped)
    files = {TOKEN_ROWS: (tokens,), DROPPED_ROWS: (file,)}
    return Part(rows_in=shard.rows, files=files, counts={"tokens/empty_response": dropped.num_rows})


def _instructions(bpe: Encoder, records: pa.Table) -> pa.ListArray:
    """boq, one condition token per tag in the order written, the instruction, eoq."""
    values, lengths = bpe.encode_column(records["instruction"].combine_chunks())
    conditions = records["condition"].combine_chunks().dictionary_encode()
    tags = [condition.split(",") for condition in conditions.dictionary.to_pylist()]
    assert all(tag in CONDITIONS for row in tags for tag in row), "`conform` drops other conditions"
    openings = [[bpe.special["boq"], *(bpe.special[tag] for tag in row)] for row in tags]
    which = conditions.indices.to_numpy()
    opening = np.array([len(ids) for ids in openings], np.int64)[which]
    offsets = _offsets(opening + lengths + 1)
    tokens = np.empty(offsets[-1], values.dtype)
    is_text = np.ones(offsets[-1], np.bool_)
    for place in range(max(map(len, openings), default=0)):
        rows = opening > place
        at = offsets[:-1][rows] + place
        tokens[at] = np.array([ids[place] if place < len(ids) else 0 for ids in openings], values.dtype)[which[rows]]
        is_text[at] = False
    tokens[offsets[1:] - 1] = bpe.special["eoq"]
    is_text[offsets[1:] - 1] = False
    tokens[is_text] = values
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(tokens))


def _with_last(values: Tokens, lengths: Ints, last: int) -> pa.ListArray:
    """Each row's ids with `last` after them."""
    offsets = _offsets(lengths + 1)
    tokens = np.empty(offsets[-1], values.dtype)
    is_text = np.ones(offsets[-1], np.bool_)
    tokens[offsets[1:] - 1] = last
    is_text[offsets[1:] - 1] = False
    tokens[is_text] = values
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(tokens))


def _offsets(lengths: Ints) -> Ints:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])

"""How are the tokens of a corpus kept and read? As ids, or as how many there are, from which the text gives them again.

A recipe whose `store` names `tokens` has an Arrow file of ids for each shard of records. Without it, a Parquet file has
how many ids each row has, and the rows that are packed or exported are encoded again. What reads tokens reads them by
these functions, and need not know which it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from dedup.hashing import FNV_BASIS, fmix64, fnv1a
from dedup.kernel import kernel
from pipelines.errors import CheckFailed
from pipelines.ledger import storage
from pipelines.ledger.storage import FileRef, TableRef
from pipelines.records import CONDITIONS
from pipelines.steps.encoding import Encoder, Ints, Tokens, load

LENGTHS = pa.schema(
    [("id", pa.string()), ("instruction", pa.int32()), ("response", pa.int32()), ("question", pa.uint64())]
)
"""What is known of a row of tokens without its ids: how many of instruction and response, with envelope and end token,
and a hash of the instruction's ids without those of the envelope."""


class TokenShard(NamedTuple):
    """A shard of tokens, and the shard of records that it was encoded from."""

    tokens: TableRef
    records: TableRef


class Encoded(NamedTuple):
    """Records as ids. tokens: id, instruction and response (lists), of the rows that have a response. response: how
    many ids each record's response has, without end token, int64 [records]."""

    tokens: pa.Table
    response: Ints


def encode_records(bpe: Encoder, records: pa.Table) -> Encoded:
    """The sequences of records, with envelope and end token.

    A response without tokens cannot be trained on, since the loss needs the end token and one before it: such a record
    has no row of tokens.
    """
    responses, lengths = bpe.encode_column(records["response"].combine_chunks())
    full = lengths > 0
    kept = records.filter(pa.array(full, pa.bool_()))
    columns = [kept["id"], _instructions(bpe, kept), _with_last(responses, lengths[full], bpe.special["eoa"])]
    return Encoded(pa.table(columns, ["id", "instruction", "response"]), lengths)


def lengths_of(tokens: pa.Table, control: Iterable[int]) -> pa.Table:
    """LENGTHS of rows of ids. control: the ids of the envelope, which the hash leaves out."""
    ids = list(control)
    passed = np.zeros(max(ids, default=-1) + 1, np.bool_)
    passed[ids] = True
    lists = [as_array(tokens[name]) for name in ("instruction", "response")]
    hashes = _hashes(lists[0].offsets.to_numpy(), lists[0].values.to_numpy(), passed)
    columns = [as_array(tokens["id"]), *map(pc.list_value_length, lists), pa.array(hashes)]
    return pa.table(columns, schema=LENGTHS)


def has_ids(file: TableRef) -> bool:
    """Whether a file of token rows holds their ids."""
    return file.path.endswith(".arrow")


def read_lengths(file: TableRef, control: Iterable[int] = ()) -> pa.Table:
    """LENGTHS of a file of token rows. control: as of `lengths_of`; the same for every file of a corpus."""
    return lengths_of(storage.map_arrow(file.path), control) if has_ids(file) else storage.read_parquet(file.path)


def read_tokens(shard: TokenShard, tokenizer: FileRef, wanted: npt.NDArray[np.bool_] | None = None) -> pa.Table:
    """The rows of ids of a shard: columns id, instruction, response.

    wanted: bool [rows]. Other rows keep their place, but may have neither id nor tokens.

    Raises: CheckFailed: if the records do not give as many ids as the file says, so are not those that it was made of.
    """
    if has_ids(shard.tokens):
        return storage.map_arrow(shard.tokens.path)
    known = storage.read_parquet(shard.tokens.path)
    ids = known["id"].combine_chunks()
    mask = np.ones(len(ids), np.bool_) if wanted is None else wanted
    records = storage.read_parquet(shard.records.path, ["id", "condition", "instruction", "response"])
    places = pc.index_in(ids.filter(pa.array(mask)), value_set=records["id"])
    some = encode_records(load(tokenizer), records.take(places)).tokens
    columns = [pc.if_else(pa.array(mask), ids, "")]
    for name in ("instruction", "response"):
        lists = as_array(some[name])
        sizes = np.diff(lists.offsets.to_numpy())
        if not np.array_equal(sizes, known[name].to_numpy()[mask]):
            raise CheckFailed(
                f"{shard.records.path}: its texts do not have as many tokens as {shard.tokens.path} says; a file or "
                "the encoder changed since: build the recipe again"
            )
        lengths = np.zeros(len(ids), np.int64)
        lengths[mask] = sizes
        columns.append(pa.ListArray.from_arrays(pa.array(_offsets(lengths), pa.int32()), lists.values))
    return pa.table(columns, some.column_names)


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


@kernel
def _hashes(
    offsets: npt.NDArray[np.int32], values: npt.NDArray[np.uint16 | np.uint32], control: npt.NDArray[np.bool_]
) -> npt.NDArray[np.uint64]:
    """FNV-1a of each list, token by token, then MurmurHash3's finalizer: uint64 [rows]."""
    hashes = np.empty(len(offsets) - 1, np.uint64)
    for row in range(len(hashes)):
        state = FNV_BASIS
        for place in range(offsets[row], offsets[row + 1]):
            if values[place] >= len(control) or not control[values[place]]:
                state = fnv1a(state, np.uint64(values[place]))
        hashes[row] = fmix64(state)
    return hashes

"""Which rows judge the arms of an ablation? Rows of their corpora that no arm was trained on.

A hash of the instruction decides which rows are held out (`pipelines.steps.sampling.held_out`), so the choice is made
before any recipe selects rows, and it is the same in all corpora that have one tokenizer. A row whose instruction some
arm was trained on after all, because a transform changed the instruction in one corpus and not in another, is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from dedup.exact import digest128, exact_text, halves
from pipelines.ledger import storage
from pipelines.ledger.arrow_file import ids_of
from pipelines.ledger.manifest import Manifest
from pipelines.steps.products import ROW_FATES

SUBJECT = "subject"
"""The column of records by which rows are grouped, if all corpora have it; else the source is."""


class Corpus(NamedTuple):
    """What an arm is trained on. packs: one step for each seed."""

    name: str
    records: Manifest
    tokens: Manifest
    packs: tuple[Manifest, ...]


class HeldOut(NamedTuple):
    """Rows that judge. table: PASSAGE with `group`, `cluster` and `kept` (bool: in the corpora of all recipes).

    trained_on: rows left out because some arm was trained on their instruction.
    """

    table: pa.Table
    trained_on: int


def held_out(corpora: Sequence[Corpus], rows: int) -> HeldOut:
    """At most `rows` rows that are held out in some of the corpora, spread evenly over groups.

    Which rows of a group are taken depends on their ids alone. A row that recipes write differently is taken as the
    first has it.
    """
    read = [_read(corpus) for corpus in corpora]
    named = SUBJECT if all(SUBJECT in table.column_names for table, _ in read) else "source"
    columns = ["id", "condition", "instruction", "response", named]
    ids = [table["id"] for table, _ in read]
    kept = ids[0].filter(
        pa.array(np.logical_and.reduce([np.asarray(pc.is_in(ids[0], value_set=one)) for one in ids]), pa.bool_())
    )
    parts: list[pa.Table] = []
    for table, _ in read:
        seen = pa.concat_arrays([as_array(part["id"]) for part in parts]) if parts else pa.array([], pa.string())
        parts.append(table.select(columns).filter(pc.invert(pc.is_in(table["id"], value_set=seen))))
    union = pa.concat_tables(parts).combine_chunks()
    trained = np.unique(np.concatenate([digests for _, digests in read]))
    digests = _digests(union)
    clean = ~np.isin(digests, trained)
    union = union.append_column("kept", pc.is_in(union["id"], value_set=kept))
    union = union.append_column("cluster", pa.array([f"{one:016x}" for one in digests.tolist()], pa.string()))
    union = union.filter(pa.array(clean, pa.bool_()))
    taken = union.take(pa.array(_spread(union, named, rows), pa.int64())).sort_by("id")
    table = pa.table(
        {
            "id": taken["id"],
            "condition": taken["condition"],
            "instruction": taken["instruction"],
            "text": taken["response"],
            "ends": pa.array(np.ones(len(taken), np.bool_)),
            "group": taken[named],
            "cluster": taken["cluster"],
            "kept": taken["kept"],
        }
    )
    return HeldOut(table, int((~clean).sum()))


def fates(corpus: Corpus) -> pa.Table:
    """id, held_out and drawn (bool) of each row of the tokens; drawn: by a training with any seed."""
    tables = []
    for number, shard in enumerate(corpus.tokens.shards):
        of_seeds = [storage.read_parquet(packs.tables(ROW_FATES)[number].path) for packs in corpus.packs]
        usable = np.asarray(pc.equal(of_seeds[0]["reason"], ""))
        drawn = np.logical_or.reduce([np.asarray(one["draws"]) > 0 for one in of_seeds])
        held = usable & np.asarray(of_seeds[0]["held_out"])
        tables.append(pa.table({"id": ids_of(shard), "held_out": pa.array(held), "drawn": pa.array(drawn)}))
    return pa.concat_tables(tables)


def _read(corpus: Corpus) -> tuple[pa.Table, npt.NDArray[np.uint64]]:
    """The records that are held out, and the digests of the instructions of those drawn."""
    table = fates(corpus)
    held, drawn = (as_array(table["id"].filter(table[name])) for name in ("held_out", "drawn"))
    records, digests = [], [np.empty(0, np.uint64)]
    for shard in corpus.records.shards:
        part = storage.read_parquet(shard.path)
        records.append(part.filter(pc.is_in(part["id"], value_set=held)))
        digests.append(_digests(part.filter(pc.is_in(part["id"], value_set=drawn))))
    return pa.concat_tables(records).combine_chunks(), np.concatenate(digests)


def _digests(records: pa.Table) -> npt.NDArray[np.uint64]:
    return halves(digest128(exact_text(as_array(records["instruction"]))))[:, 0]


def _spread(table: pa.Table, group: str, rows: int) -> list[int]:
    """Indices of at most `rows` rows: of each group, and of rows that all recipes keep or not, as many as there are up
    to a limit."""
    if not len(table):
        return []
    order = halves(digest128(as_array(table["id"])))[:, 0].argsort(kind="stable")
    groups = np.asarray(table[group].to_pylist(), np.str_)
    kept = np.asarray(table["kept"])
    strata: dict[tuple[str, bool], list[int]] = {}
    for index in order.tolist():
        strata.setdefault((str(groups[index]), bool(kept[index])), []).append(index)
    sizes = np.array([len(part) for part in strata.values()])
    limit = next((cap for cap in range(int(sizes.max()), 0, -1) if np.minimum(sizes, cap).sum() <= rows), 1)
    return [index for part in strata.values() for index in part[:limit]]

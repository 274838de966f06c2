"""Do the tables of a step hold what its manifest and the step before it say? Rows, columns, order, ids and packs.

Digests show that a file is what was written. These checks show that what was written adds up: they find a step whose
manifest was written anew over changed files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from dedup.exact import halves
from filters.stage import DROP_FIELDS
from pipelines.ledger import storage
from pipelines.ledger.arrow_file import ArrowFile, ids_of
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.step import DROPPED_ROWS
from pipelines.ledger.storage import TableRef
from pipelines.records import RECORD
from pipelines.steps.manifest_rows import MANIFEST_ROWS
from pipelines.steps.products import PACKS, RECORDS, ROW_FATES, TOKEN_ROWS, VALIDATION_PACKS

COLUMNS = {
    RECORDS: RECORD.names,
    DROPPED_ROWS: [*RECORD.names, *(field.name for field in DROP_FIELDS)],
    TOKEN_ROWS: ["id", "instruction", "response"],  # ids, or how many
    PACKS: ["tokens", "instruction_lengths", "response_lengths", "ids"],
    VALIDATION_PACKS: ["tokens", "instruction_lengths", "response_lengths", "ids"],
    ROW_FATES: ["reason", "held_out", "truncated", "draws"],
}
"""Product -> columns that each of its files has."""

MOST_DRAWS = np.iinfo(np.uint16).max
"""A row that is drawn so often may be drawn more often: `row_fates` counts no further."""

Hashes = npt.NDArray[np.uint64]


def content_problems(step: Manifest, parent: Manifest | None, mend: str) -> Iterator[str]:
    """What is wrong with the tables of a step: their rows and columns; nulls in a record; and whether the rows kept and
    dropped are those that `parent` kept, each once, the kept ones in its order.

    parent: the step whose rows this one took; None where there is none, or it has problems itself.
    """
    schemas: dict[str, pa.Schema] = {}
    for part in step.parts:
        for product, files in part.files.items():
            for file in files:
                if not isinstance(file, TableRef):
                    continue
                schema, rows = _shape(file)
                if rows != file.rows:
                    yield f"{file.path}: has {rows} rows, but the manifest says {file.rows}; {mend}"
                missing = [name for name in COLUMNS.get(product, ()) if name not in schema.names]
                if missing:
                    yield f"{file.path}: has no column {', '.join(missing)}; {mend}"
                former = schemas.setdefault(product, schema)
                if product in COLUMNS and not schema.equals(former):
                    yield f"{file.path}: its columns are not those of the other files of {product}; {mend}"
    if parent is not None and step.kept and parent.kept:
        # A manifest gives order and ids; it may list rows of other shards and of renamed files.
        problems = _text_problems if step.step == MANIFEST_ROWS.name else _order_problems
        yield from problems(step, parent, mend)


def _shape(file: TableRef) -> tuple[pa.Schema, int]:
    """Schema and rows of a table, without its data."""
    if file.path.endswith(".parquet"):
        schema, rows = storage.shape(file.path)
        return schema.remove_metadata(), rows
    arrow = ArrowFile(file.path, file.bytes)
    return arrow.schema.remove_metadata(), arrow.rows


def _text_problems(step: Manifest, parent: Manifest, mend: str) -> Iterator[str]:
    """Whether a step has the texts that its parent kept, whatever their order and ids: the sums of their digests."""
    total = {"taken": _digest_sum(parent.shards), "kept and dropped": _digest_sum((*step.shards, *step.dropped))}
    if len({*total.values()}) > 1:
        yield f"step {step.step}: its rows are not those that step {parent.step} kept; {mend}"


def _digest_sum(files: Sequence[TableRef]) -> tuple[int, int]:
    sums = np.zeros(2, np.uint64)
    for file in files:
        digests = storage.read_parquet(file.path, ["digest"])["digest"].combine_chunks()
        if len(digests):
            sums += halves(digests).sum(axis=0, dtype=np.uint64)
    return int(sums[0]), int(sums[1])


def _order_problems(step: Manifest, parent: Manifest, mend: str) -> Iterator[str]:
    """Whether each part holds the next rows of the parent: kept rows in the same order, the others dropped."""
    shards = iter(parent.shards)
    waiting = pa.array([], pa.string())
    for index, part in enumerate(step.parts):
        pieces = [waiting]
        while sum(map(len, pieces)) < (part.rows_in or 0) and (shard := next(shards, None)) is not None:
            pieces.append(ids_of(shard))
        given = pa.concat_arrays(pieces)
        given, waiting = given[: part.rows_in or 0], given[part.rows_in or 0 :]
        kept, dropped = (
            _joined([file for file in part.files.get(product, ()) if isinstance(file, TableRef)])
            for product in (step.kept or "", DROPPED_ROWS)
        )
        places = pc.index_in(kept, value_set=given)
        where = f"step {step.step}, part {index}"
        if places.null_count:
            name = kept.filter(pc.is_null(places))[0].as_py()
            yield f"{where}: row {name} is not among the rows that step {parent.step} kept for it; {mend}"
            continue
        order = np.asarray(places.to_numpy(zero_copy_only=False))
        if (np.diff(order.astype(np.int64)) <= 0).any():
            yield f"{where}: its rows are not in the order of step {parent.step}, or one stands twice; {mend}"
            continue
        others = given.filter(pc.invert(pc.is_in(given, value_set=kept)))
        if not _same(others, dropped):
            yield f"{where}: the rows dropped are not those that step {parent.step} kept and this one did not; {mend}"


def _joined(files: Sequence[TableRef]) -> pa.Array:
    return pa.concat_arrays([pa.array([], pa.string()), *(ids_of(file) for file in files)])


def _same(left: pa.Array, right: pa.Array) -> bool:
    """Whether two arrays of strings have the same values, each as often."""
    return len(left) == len(right) and bool(left.take(pc.sort_indices(left)).equals(right.take(pc.sort_indices(right))))


def hashes(ids: pa.Array) -> Hashes:
    """A hash of each string, the same within this process."""
    return np.asarray(pl.Series(ids, dtype=pl.String).hash().to_numpy(), np.uint64)


def duplicate_ids(records: Manifest) -> int:
    """How many ids of a step's kept rows stand more than once. Eight bytes a row are held."""
    hashed = np.concatenate([np.empty(0, np.uint64), *(hashes(ids_of(shard)) for shard in records.shards)])
    if len(np.unique(hashed)) == len(hashed):
        return 0
    ids = _joined(records.shards)  # two ids may have the same hash
    return len(ids) - pl.Series(ids, dtype=pl.String).n_unique()


def pack_problems(tokens: Manifest, packs: Manifest, mend: str) -> Iterator[str]:
    """Whether packs hold the rows that `row_fates` says, as often as it says.

    Compared are sums of hashes of ids, so the rows may be any number.
    """
    fates = packs.tables(ROW_FATES)
    if len(fates) != len(tokens.shards):
        yield f"step {packs.step}: {len(fates)} files of {ROW_FATES}, but {len(tokens.shards)} of tokens; {mend}"
        return
    expected, times, capped = 0, 0, False
    held_out = [np.empty(0, np.uint64)]
    for shard, file in zip(tokens.shards, fates, strict=True):
        table, hashed = storage.read_parquet(file.path), hashes(ids_of(shard))
        draws = table["draws"].to_numpy().astype(np.uint64)
        if len(draws) != len(hashed):
            yield f"{file.path}: {len(draws)} rows, but its token shard has {len(hashed)}; {mend}"
            return
        expected += int((hashed * draws).sum(dtype=np.uint64))
        times += int(draws.sum())
        capped |= bool((draws == MOST_DRAWS).any())
        held_out.append(hashed[table["held_out"].to_numpy(zero_copy_only=False)])
    present, sequences = 0, 0
    allowed = np.concatenate(held_out)
    for product in (PACKS, VALIDATION_PACKS):
        for file in packs.tables(product):
            table = ArrowFile(file.path, file.bytes).read()
            yield from _pack_file_problems(file, table, mend)
            hashed = hashes(table["ids"].combine_chunks().flatten())
            if product == VALIDATION_PACKS:
                if not np.isin(hashed, allowed).all():
                    yield f"{file.path}: has rows that are not held out; {mend}"
            else:
                present += int(hashed.sum(dtype=np.uint64))
                sequences += len(hashed)
    if not capped and (sequences != times or (present - expected) % (1 << 64)):
        yield (
            f"step {packs.step}: the packs have {sequences} sequences, but {ROW_FATES} says {times}, or they are of "
            f"other rows; {mend}"
        )


def _pack_file_problems(file: TableRef, table: pa.Table, mend: str) -> Iterator[str]:
    """Whether the lengths of a pack's sequences add up to its tokens."""
    lengths = [table[name].combine_chunks() for name in ("instruction_lengths", "response_lengths")]
    counts = [np.diff(column.offsets.to_numpy()) for column in (*lengths, table["ids"].combine_chunks())]
    if any((count != counts[0]).any() for count in counts[1:]):
        yield f"{file.path}: a pack has not as many lengths as ids; {mend}"
        return
    sums = sum(
        np.add.reduceat(np.append(column.flatten().to_numpy().astype(np.int64), 0), _starts(counts[0]))
        for column in lengths
    )
    sizes = np.diff(table["tokens"].combine_chunks().offsets.to_numpy())
    if (np.asarray(sums) != sizes).any() or (counts[0] == 0).any():
        yield f"{file.path}: the lengths of a pack's sequences do not add up to its tokens; {mend}"


def _starts(counts: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)[:-1]])

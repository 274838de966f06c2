"""Where do the rows of a run lie, and which rows have a given text? Three indexes answer, each a step made once.

`row-index` says which files of the first step can have an id. Ids have a number (`<source>/<file>/<number>`), and the
rows of a file are read in order, so a range of numbers for each file of rows leads to one or two files. Every later
step has one part for each shard of the first, in the same order. So the number of the shard leads through all of them,
and only the ids of that shard are read.

`pack-index` and `text-index` are tables of 64-bit hashes, sorted, with the place of each. Hashes are uniform, so the
place of one in its table is known to within a few thousand rows, and only these are read: from a mapped file, or by a
range request. A hash may belong to another row, so each match is compared with the row itself.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import math
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from dedup.columns import as_array
from pipelines.errors import CheckFailed, RunError, edits, near, nearest
from pipelines.ledger import storage
from pipelines.ledger.arrow_file import ArrowFile, ids_of
from pipelines.ledger.manifest import Manifest, Part
from pipelines.ledger.run import Run, StepContext, Target
from pipelines.ledger.runs import RecordedRun
from pipelines.ledger.step import DROPPED_ROWS, StepType
from pipelines.ledger.storage import TableRef
from pipelines.steps.products import PACKS, RECORDS, TOKEN_ROWS, VALIDATION_PACKS

Hashes = npt.NDArray[np.uint64]
Item = TypeVar("Item")

RANGES, PLACES, TEXT_PLACES, DIGEST_PLACES = "ranges", "places", "texts", "digests"

ROW_INDEX = StepType(
    name="row-index",
    products={RANGES: "for each file of rows the ranges of numbers in its ids, Arrow, sorted by prefix"},
)

PACK_INDEX = StepType(name="pack-index", products={PLACES: "hashes of ids and the pack of each, Arrow, sorted by hash"})

TEXT_INDEX = StepType(
    name="text-index",
    products={
        TEXT_PLACES: "hashes of instructions and responses and the row of each, Arrow, sorted by hash",
        DIGEST_PLACES: "first halves of digests and the row of each, Arrow, sorted by it",
    },
)

FILES_PER_ITEM = 16
"""Files of rows, or of packs, that one task indexes."""

ID = r"(?s)^(?P<prefix>.*/)(?P<number>0|[1-9][0-9]{0,17})(?P<suffix>(?:/.*)?)$"
"""An id as prefix, number and suffix. The number is the last component that is one: `<source>/<file>/` `17` `/answer1`,
and of a source that is sampled by task `<source>/<task>/` `17` `/<file>`."""

_ID = re.compile(ID)

REWRITING = ("refine", "rewrite")
"""How the names of steps begin that change texts. All others keep or drop rows as they are."""

NAMES_COMPARED = 50
"""Names of files whose edits to a wrong one are counted, those with the most equal letters."""

MANY = 64
"""Hashes from which on a table is searched as a whole."""


class Location(NamedTuple):
    """Where a row lies: a product of a step, one of its files, and a row of the file. A row of packs is a pack."""

    product: str
    file: TableRef
    row: int


class Match(NamedTuple):
    """A row with a text that was searched. step: that holds the row with this text, the first of the run that does."""

    id: str
    step: str
    location: Location


class Matches(NamedTuple):
    """Rows with a text. rows: how many places have it, by their hashes. first: the first of them, each compared with
    the text; a row is named once."""

    rows: int
    first: tuple[Match, ...]


class RowIndex:
    """The rows of one recorded run, by id and by text. An index that the answer needs is made if there is none."""

    def __init__(self, run: RecordedRun, maker: Run) -> None:
        """maker: makes the indexes, below its root.

        Raises: RunError: if the run has no rows: it failed before it read any.
        """
        self.run, self.maker = run, maker
        self.record_steps = tuple(step for step in run.steps if step.kept == RECORDS)
        if not self.record_steps:
            raise RunError(f"run {run.id} failed before any of its rows was read; `winnow runs` says why")
        self.first = self.record_steps[0]
        self._files = (*self.first.shards, *self.first.dropped)
        self._starts: dict[str, tuple[int, int]] = {}

    def locate(self, step: Manifest, ids: Sequence[str]) -> list[tuple[Location, ...]]:
        """Where each of `ids` lies in a step that keeps records or tokens, or in the packs. Empty for an id that the
        step does not have: a row that never was, or that an earlier step dropped.

        Raises: CheckFailed: if the parts of the step do not follow the shards of the first. AssertionError: for a step
        of another kind.
        """
        if step.files(PACKS):
            return self._in_packs(step, ids)
        assert step.kept in (RECORDS, TOKEN_ROWS), f"step {step.step} has no rows that are found by id"
        wanted: dict[int, list[str]] = {}
        starts = self._start(ids)
        if step.key == self.first.key:
            return [self._first_location(starts[id]) if id in starts else () for id in ids]
        for id in ids:
            if id in starts and starts[id][0] < len(self.first.shards):
                wanted.setdefault(starts[id][0], []).append(id)
        found: dict[str, list[Location]] = {}
        for shard, own in wanted.items():
            if shard >= len(step.parts):
                raise CheckFailed(f"step {step.step}: has no part {shard}; build the recipe again")
            for product in (step.kept, DROPPED_ROWS):
                for file in step.parts[shard].files.get(product, ()):
                    assert isinstance(file, TableRef)
                    for id, index in indices_of(ids_of(file), own):
                        found.setdefault(id, []).append(Location(product, file, index))
        return [tuple(found.get(id, ())) for id in ids]

    def shard_of(self, id: str) -> int | None:
        """The number of the shard of the first step that keeps a row: also of the part of every later step that has
        the row. None for a row that the first step dropped, or that never was."""
        start = self._start([id]).get(id)
        return start[0] if start is not None and start[0] < len(self.first.shards) else None

    def with_text(self, text: str, limit: int) -> Matches:
        """The rows whose instruction or response is `text`, apart from white space: at the source, or as a step rewrote
        them. limit: of the rows that are read."""
        hashed, plain = text_hash(text), without_spaces(text)

        def is_equal(row: dict[str, Any]) -> bool:
            return plain in (without_spaces(row["instruction"]), without_spaces(row["response"]))

        return self._matches(TEXT_PLACES, hashed, ["id", "instruction", "response"], is_equal, limit)

    def with_digest(self, digest: bytes, limit: int) -> Matches:
        """The same for the digest of a record, 16 bytes."""
        return self._matches(DIGEST_PLACES, _half(digest), ["id", "digest"], lambda row: row["digest"] == digest, limit)

    @functools.cached_property
    def ranges(self) -> pa.Table:
        """The index of ids: prefix, suffix string; first, last int64, the lowest and highest number; rows int64; file
        uint32, a shard of the first step, or from its last shard on a file of dropped rows. Sorted by prefix."""
        files = self._files

        def work(context: StepContext) -> Sequence[Part]:
            made = context.map(_ranges_of, _groups(enumerate(files)), "ranges")
            tables = [storage.map_arrow(one.file(RANGES).path) for one in made]
            table = pa.concat_tables([_RANGE.empty_table(), *tables]).combine_chunks()
            table = table.sort_by([("prefix", "ascending"), ("suffix", "ascending"), ("file", "ascending")])
            path = storage.join(context.folder, RANGES, "ranges.arrow")
            return [Part(files={RANGES: (storage.write_arrow(path, table),)})]

        index = self.maker.do(ROW_INDEX.step({}, (self.first.key,)), work)
        return storage.map_arrow(index.file(RANGES).path)

    def describe_unknown(self, id: str) -> str:
        """What is wrong with an id that no row has, and which row has the nearest."""
        sources = [entry["name"] for entry in self.run.info["settings"]["sources"]]
        source, slash, rest = id.partition("/")
        if source not in sources:
            meant = near(source, sources)
            if meant is None or not slash:
                return f"an id is <source>/<file>/<row>; source {source!r}: {nearest(source, sources)}"
            id = f"{meant}/{rest}"
            return f"did you mean {id}?" if id in self._start([id]) else self.describe_unknown(id)
        ranges = self.ranges
        prefix, number, suffix = split_id(id)
        own = _of_name(ranges, prefix, suffix)
        if own.num_rows:
            low, high, rows = (pc.min(own["first"]).as_py(), pc.max(own["last"]).as_py(), pc.sum(own["rows"]).as_py())
            closest = f"{prefix}{self._nearest_number(own, number, prefix, suffix)}{suffix}"
            file = prefix.rstrip("/")
            return (
                f"{file} has {rows:,} row{'' if rows == 1 else 's'}, from {prefix}{low}{suffix} to "
                f"{prefix}{high}{suffix}; the nearest is {closest}"
            )
        ranges = ranges.filter(pc.starts_with(ranges["prefix"], f"{source}/"))
        if not ranges.num_rows:
            return f"source {source!r} has no rows in this run"
        name = _nearest_name(prefix, suffix, ranges)
        return f"did you mean {name[0]}{self._nearest_number(_of_name(ranges, *name), number, *name)}{name[1]}?"

    # ---- ids

    def _nearest_number(self, ranges: pa.Table, number: int, prefix: str, suffix: str) -> int:
        """The number nearest to `number` that a row of these ranges has."""
        distances = [(max(row["first"] - number, number - row["last"], 0), row["file"]) for row in ranges.to_pylist()]
        numbers = [
            named[1]
            for _, file in heapq.nsmallest(2, distances)
            for named in map(split_id, ids_of(self._files[file]).to_pylist())
            if named[::2] == (prefix, suffix)
        ]
        return min(numbers, key=lambda one: (abs(one - number), one))

    def _start(self, ids: Sequence[str]) -> Mapping[str, tuple[int, int]]:
        """Id -> number of the file of the first step that has it, and the row in it."""
        missing = list(dict.fromkeys(id for id in ids if id not in self._starts))
        if missing:
            for number, own in self._candidates(missing).items():
                for id, index in indices_of(ids_of(self._files[number]), own):
                    self._starts[id] = number, index
        return self._starts

    def _candidates(self, ids: Sequence[str]) -> dict[int, list[str]]:
        """Number of a file of the first step -> those of `ids` that it can have."""
        by_name: dict[tuple[str, str], list[tuple[int, str]]] = {}
        for id in ids:
            prefix, number, suffix = split_id(id)
            by_name.setdefault((prefix, suffix), []).append((number, id))
        ranges = self.ranges
        ranges = ranges.filter(pc.is_in(ranges["prefix"], value_set=_strings([name for name, _ in by_name])))
        numbers = {name: np.array([number for number, _ in rows]) for name, rows in by_name.items()}
        candidates: dict[int, list[str]] = {}
        for row in ranges.to_pylist():
            name = (row["prefix"], row["suffix"])
            if name in by_name:
                within = (numbers[name] >= row["first"]) & (numbers[name] <= row["last"])
                chosen = [by_name[name][at][1] for at in np.flatnonzero(within).tolist()]
                if chosen:
                    candidates.setdefault(row["file"], []).extend(chosen)
        return candidates

    def _first_location(self, start: tuple[int, int]) -> tuple[Location, ...]:
        number, index = start
        product = RECORDS if number < len(self.first.shards) else DROPPED_ROWS
        return (Location(product, self._files[number], index),)

    # ---- packs

    def _in_packs(self, packs: Manifest, ids: Sequence[str]) -> list[tuple[Location, ...]]:
        files = [(product, file) for product in (PACKS, VALIDATION_PACKS) for file in packs.tables(product)]
        groups = _groups(enumerate(file for _, file in files))
        step = PACK_INDEX.step({}, (packs.key,))
        index = self.maker.do(step, lambda context: context.map(_places_in_packs, groups))
        by_hash: dict[int, list[str]] = {}
        for id in dict.fromkeys(ids):
            by_hash.setdefault(id_hash(id), []).append(id)
        found: dict[str, list[Location]] = {}
        opened: dict[int, ArrowFile] = {}
        places = sorted({place[1:] + place[:1] for place in _look_up(index.tables(PLACES), list(by_hash))})
        for number, pack, hashed in places:
            product, file = files[number]
            if number not in opened:
                opened[number] = ArrowFile(file.path, file.bytes)
            held = opened[number].read(pack, pack + 1, ["ids"])["ids"].to_pylist()[0]
            for id in by_hash[hashed]:
                found.setdefault(id, []).extend([Location(product, file, pack)] * held.count(id))
        return [tuple(found.get(id, ())) for id in ids]

    # ---- texts

    def _matches(
        self, product: str, hashed: int, columns: list[str], is_equal: Callable[[dict[str, Any]], bool], limit: int
    ) -> Matches:
        rows = 0
        matches: dict[str, Match] = {}
        for step, index in self._text_indexes():
            files = _record_files(step)
            places = sorted(place[1:] for place in _look_up(index.tables(product), [hashed]))
            rows += len(places)
            for number, row in places:
                if len(matches) == limit:
                    break
                name, file = files[number]
                record = storage.read_row(file.path, row, columns)
                if is_equal(record) and record["id"] not in matches:
                    location = Location(name, file, row)
                    matches[record["id"]] = Match(record["id"], step.step, location)
        return Matches(rows, tuple(matches.values()))

    def _text_indexes(self) -> Iterator[tuple[Manifest, Manifest]]:
        """The steps that have texts of their own, each with its index: the first step, and those that rewrite."""
        before: Manifest | None = None
        for step in self.record_steps:
            if before is None or step.step.startswith(REWRITING):
                yield step, self._text_index(step, before)
            before = step

    def _text_index(self, step: Manifest, before: Manifest | None) -> Manifest:
        files = [file for _, file in _record_files(step)]
        if before is None:
            items = [_Texts(number, file, None) for number, file in enumerate(files)]
        else:
            items = []
            number_of = {file.path: number for number, file in enumerate(files)}
            for shard, own in zip(before.shards, step.parts, strict=False):
                for product in (RECORDS, DROPPED_ROWS):
                    for file in own.files.get(product, ()):
                        assert isinstance(file, TableRef)
                        items.append(_Texts(number_of[file.path], file, shard))
        groups = _groups(items)
        made = TEXT_INDEX.step({}, (step.key,))
        return self.maker.do(made, lambda context: context.map(_places_of_texts, groups))


def split_id(id: str) -> tuple[str, int, str]:
    """Prefix, number and suffix of an id (see `ID`). An id without a number has the number 0 after its whole text."""
    match = _ID.match(id)
    return (match["prefix"], int(match["number"]), match["suffix"]) if match else (id, 0, "")


def indices_of(column: pa.StringArray, ids: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Those of `ids` that a column has, each with its index; ascending."""
    if len(ids) == 1:
        equal = pc.equal(column, _scalar(ids[0]))
        yield from ((ids[0], index) for index in pc.indices_nonzero(equal).to_pylist())
        return
    mask = pc.is_in(column, value_set=_strings(ids))
    indices = pc.indices_nonzero(mask)
    yield from zip(column.take(indices).to_pylist(), indices.to_pylist(), strict=True)


def id_hash(id: str) -> int:
    """The hash of an id in `pack-index`."""
    return xxhash.xxh3_64_intdigest(id.encode())


def without_spaces(text: str) -> str:
    """A text with runs of white space as one space, and none at its ends: what is compared when a text is searched."""
    return " ".join(text.split())


def text_hash(text: str) -> int:
    """The hash of a text in `text-index`."""
    return xxhash.xxh3_64_intdigest(without_spaces(text).encode())


def _half(digest: bytes) -> int:
    return int(struct.unpack_from("<Q", digest)[0])


def _values(column: pa.ChunkedArray, dtype: type[np.uint64]) -> Hashes:
    """A column of numbers. `to_numpy` of Arrow imports pandas (0.4 s)."""
    array = as_array(column)
    buffer = array.buffers()[1]
    return np.frombuffer(buffer, dtype, len(array), array.offset * np.dtype(dtype).itemsize)


def _strings(values: Sequence[str]) -> pa.StringArray:
    """A string array. `pa.array` of Python values imports pandas (0.4 s)."""
    encoded = [value.encode() for value in values]
    offsets = np.concatenate([[0], np.cumsum([len(value) for value in encoded])]).astype(np.int32)
    return pa.StringArray.from_buffers(len(encoded), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded)))


def _of_name(ranges: pa.Table, prefix: str, suffix: str) -> pa.Table:
    own = pc.and_(pc.equal(ranges["prefix"], _scalar(prefix)), pc.equal(ranges["suffix"], _scalar(suffix)))
    return ranges.filter(own)


def _nearest_name(prefix: str, suffix: str, ranges: pa.Table) -> tuple[str, str]:
    """The prefix and suffix of ids with the fewest edits to these."""
    names = dict.fromkeys(zip(ranges["prefix"].to_pylist(), ranges["suffix"].to_pylist(), strict=True))
    letters = Counter(prefix + suffix)

    def at_least(name: tuple[str, str]) -> int:
        """A lower bound of the edits, much faster than they are."""
        own = Counter("".join(name))
        return max((letters - own).total(), (own - letters).total())

    likely = heapq.nsmallest(NAMES_COMPARED, names, at_least)
    return min(likely, key=lambda name: edits("".join(name), prefix + suffix))


def _scalar(value: str) -> pa.StringScalar:
    return cast(pa.StringScalar, _strings([value])[0])


def _groups(items: Iterable[Item]) -> list[tuple[Item, ...]]:
    iterator = iter(items)
    return list(iter(lambda: tuple(itertools.islice(iterator, FILES_PER_ITEM)), ()))


def _record_files(step: Manifest) -> list[tuple[str, TableRef]]:
    """The files of a step's records, kept ones first, each with its product."""
    return [*((RECORDS, file) for file in step.shards), *((DROPPED_ROWS, file) for file in step.dropped)]


# ---- making the indexes

_RANGE = pa.schema(
    [
        pa.field("prefix", pa.string()),
        pa.field("suffix", pa.string()),
        pa.field("first", pa.int64()),
        pa.field("last", pa.int64()),
        pa.field("rows", pa.int64()),
        pa.field("file", pa.uint32()),
    ]
)


def _ranges_of(files: Sequence[tuple[int, TableRef]], target: Target) -> Part:
    tables = [_RANGE.empty_table()]
    for number, file in files:
        ids = ids_of(file)
        parts = pc.extract_regex(ids, ID)
        numbered = parts.is_valid()
        table = pa.table(
            {
                "prefix": pc.if_else(numbered, pc.struct_field(parts, "prefix"), ids),
                "suffix": pc.fill_null(pc.struct_field(parts, "suffix"), ""),
                "number": pc.fill_null(pc.struct_field(parts, "number"), "0").cast(pa.int64()),
            }
        )
        grouped = table.group_by(["prefix", "suffix"], use_threads=False).aggregate(
            [("number", "min"), ("number", "max"), ("number", "count")]
        )
        columns = [grouped[name] for name in ("prefix", "suffix", "number_min", "number_max", "number_count")]
        columns.append(pa.array(np.full(grouped.num_rows, number, np.uint32)))
        tables.append(pa.table(columns, schema=_RANGE))
    return Part(files={RANGES: (storage.write_arrow(target.path(suffix=".arrow"), pa.concat_tables(tables)),)})


def _places_in_packs(files: Sequence[tuple[int, TableRef]], target: Target) -> Part:
    tables = [_places([], 0, np.zeros(0, np.uint32))]
    for number, file in files:
        ids = ArrowFile(file.path, file.bytes).read(columns=["ids"])["ids"].combine_chunks()
        hashes = [id_hash(id) for id in ids.flatten().to_pylist()]
        tables.append(_places(hashes, number, pc.list_parent_indices(ids).to_numpy().astype(np.uint32)))
    return Part(files={PLACES: (_write_places(target.path(suffix=".arrow"), tables),)})


class _Texts(NamedTuple):
    """A file of records and its number among those of its step. before: the shard of records that it was made from,
    whose texts are indexed already; None for the first step."""

    number: int
    file: TableRef
    before: TableRef | None


def _places_of_texts(items: Sequence[_Texts], target: Target) -> Part:
    none = _places([], 0, np.zeros(0, np.uint32))
    texts, digests = [none], [none]
    for item in items:
        digest = as_array(storage.read_parquet(item.file.path, ["digest"])["digest"])
        rows = np.arange(len(digest), dtype=np.uint32)
        if item.before is not None:
            known = storage.read_parquet(item.before.path, ["digest"])["digest"]
            rows = rows[~np.asarray(pc.is_in(digest, value_set=known).to_numpy(zero_copy_only=False), np.bool_)]
        if not len(rows):
            continue
        taken = digest.take(pa.array(rows))
        halves = np.frombuffer(taken.buffers()[1], np.uint64, 2 * len(taken), 16 * taken.offset)[::2]
        digests.append(_places(halves, item.number, rows))
        for name in ("instruction", "response"):
            column = storage.read_parquet(item.file.path, [name], pa.array(rows))[name]
            texts.append(_places([text_hash(text) for text in column.to_pylist()], item.number, rows))
    files = {
        TEXT_PLACES: _write_places(target.path(TEXT_PLACES, ".arrow"), texts),
        DIGEST_PLACES: _write_places(target.path(DIGEST_PLACES, ".arrow"), digests),
    }
    return Part(files={product: (file,) for product, file in files.items()})


def _places(hashes: Sequence[int] | Hashes, file: int, rows: npt.NDArray[np.uint32]) -> pa.Table:
    """hash uint64; file uint32, its number; row uint32, in the file."""
    files = np.full(len(rows), file, np.uint32)
    return pa.table({"hash": pa.array(np.asarray(hashes, np.uint64)), "file": pa.array(files), "row": pa.array(rows)})


def _write_places(path: str, tables: Sequence[pa.Table]) -> TableRef:
    table = pa.concat_tables(tables).combine_chunks()
    order = np.argsort(table["hash"].to_numpy(), kind="stable")
    return storage.write_arrow(path, table.take(pa.array(order)))


# ---- searching them


def _look_up(tables: Sequence[TableRef], hashes: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Hash, file and row of each place of `hashes`."""
    wanted = np.array(sorted(set(hashes)), np.uint64)  # `np.unique` imports masked arrays
    for ref in tables:
        if not ref.rows:
            continue
        table = ArrowFile(ref.path, ref.bytes)
        if len(wanted) >= MANY:
            yield from _equal(table.read(), wanted)
            continue
        for one in wanted:
            yield from _equal(_around(table, int(one)), one.reshape(1))


def _around(table: ArrowFile, hashed: int) -> pa.Table:
    """The rows of a table near those of a hash, and all that have it."""
    expected, margin = hashed * table.rows >> 64, 4 * math.isqrt(table.rows) + 64
    while True:
        start, stop = max(expected - margin, 0), min(expected + margin, table.rows)
        rows = table.read(start, stop)
        first, last = int(rows["hash"][0].as_py()), int(rows["hash"][-1].as_py())
        if (start == 0 or first < hashed) and (stop == table.rows or last > hashed):
            return rows
        margin *= 4


def _equal(rows: pa.Table, hashes: Hashes) -> Iterator[tuple[int, int, int]]:
    column = _values(rows["hash"], np.uint64)
    starts, stops = (np.searchsorted(column, hashes, side) for side in ("left", "right"))
    for one, start, stop in zip(hashes.tolist(), starts.tolist(), stops.tolist(), strict=True):
        if stop > start:
            found = rows.slice(start, stop - start)
            yield from (
                (one, *place) for place in zip(found["file"].to_pylist(), found["row"].to_pylist(), strict=True)
            )

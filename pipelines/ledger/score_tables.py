"""Scores made outside a build, by row id: written as they come, read for the ids of a shard.

    ROOT/scores/<name>-<key>/chunks/<chunk>.parquet    scores as they come; removed when the parts have them
                             part-00000.parquet ...    id and the columns of scores, sorted by id, 65,536 rows each
                             scores.json               settings, columns, rows, each part with its ids and digest
                             checksums.json            last: digest of each file above

The key is a digest of the settings, which say what determines the scores. A chunk is complete or absent, so a command
that was killed carries on with the chunks that are missing, and ends with the same bytes.
"""

from __future__ import annotations

import bisect
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines.errors import CheckFailed, RunError
from pipelines.ledger import storage
from pipelines.ledger.checksums import write_checksums
from pipelines.ledger.lease import Holder, hold

SCORES = "scores"
MANIFEST = "scores.json"
CHUNKS = "chunks"

PART_ROWS = 65_536

TYPES = {"string": pa.string(), "float": pa.float32(), "double": pa.float64(), "int32": pa.int32(), "int64": pa.int64()}
"""Name of a column's type -> the type."""


class ScorePart(BaseModel):
    """A file of scores: its name, its first and last id, and the digest (xxh3-128, hex) of its bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    rows: int
    first: str
    last: str
    bytes: int
    digest: str


class _Manifest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    settings: dict[str, Any]
    facts: dict[str, Any]
    columns: tuple[tuple[str, str], ...]
    rows: int
    files: tuple[ScorePart, ...]


class ScoreTable(NamedTuple):
    """A finished table of scores.

    columns: of the scores, without `id`. digest: of the content of all files. settings: what determines the scores.
    facts: what else was found out about them, such as thresholds.
    """

    path: str
    name: str
    columns: pa.Schema
    digest: str
    rows: int
    files: tuple[ScorePart, ...]
    settings: dict[str, Any]
    facts: dict[str, Any]

    def lookup(self, ids: pa.Array) -> pa.Table:
        """The scores of `ids` (string [rows]) in their order: a table [rows] of `columns`, null where an id is absent.

        Only the parts in whose range an id falls are read.

        Raises: CheckFailed: if a part was changed or lost.
        """
        ids = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
        wanted = pc.unique(ids).to_pylist()
        firsts = [part.first for part in self.files]
        numbers = {bisect.bisect_right(firsts, one) - 1 for one in wanted if one is not None}
        parts = [self._read(self.files[number]) for number in sorted(numbers) if number >= 0]
        if not parts:
            return pa.table([pa.nulls(len(ids), field.type) for field in self.columns], schema=self.columns)
        table = pa.concat_tables(parts).combine_chunks()
        places = pc.index_in(ids, value_set=table["id"].combine_chunks())
        return table.drop_columns(["id"]).take(places).combine_chunks()

    def read(self) -> pa.Table:
        """All scores: `id` and `columns`, sorted by id. Raises: CheckFailed: as `lookup`."""
        schema = pa.schema([pa.field("id", pa.string()), *self.columns])
        return pa.concat_tables([schema.empty_table(), *(self._read(part) for part in self.files)]).combine_chunks()

    def _read(self, part: ScorePart) -> pa.Table:
        path = storage.join(self.path, part.name)
        if storage.size(path) != part.bytes or storage.digest(path) != part.digest:
            raise CheckFailed(
                f"{path}: changed or lost since {MANIFEST} was written; remove the folder and score again"
            )
        return storage.read_parquet(path, ["id", *self.columns.names])


def open_scores(path: str) -> ScoreTable:
    """The table in a folder.

    Raises: RunError: if the folder holds no finished table.
    """
    path = path.rstrip("/")
    file = storage.join(path, MANIFEST)
    if not storage.exists(file):
        started = storage.exists(storage.join(path, CHUNKS))
        problem = "is not finished; the command that makes it carries on" if started else f"has no {MANIFEST}"
        raise RunError(f"{path}: a table of scores {problem}" if started else f"{path}: no table of scores ({problem})")
    try:
        manifest = _Manifest.model_validate(storage.read_json(file))
        columns = pa.schema([pa.field(name, TYPES[kind]) for name, kind in manifest.columns])
    except (ValidationError, KeyError) as error:
        raise RunError(f"{file}: not readable ({error}); remove the folder and score again") from None
    digest = xxhash.xxh3_128_hexdigest(
        json.dumps([manifest.columns, [part.digest for part in manifest.files]]).encode()
    )
    return ScoreTable(
        path, manifest.name, columns, digest, manifest.rows, manifest.files, manifest.settings, manifest.facts
    )


class ScoreWriter:
    """Writes a table of scores chunk by chunk.

    settings: what determines the scores, as JSON values: the digest of the corpus, that of the model. outside: further
    settings, that do not, such as a path or a device.
    """

    def __init__(
        self, root: str, name: str, settings: Mapping[str, Any], outside: Mapping[str, Any] | None = None
    ) -> None:
        self.name, self.settings, self.outside = name, dict(settings), dict(outside or {})
        self.key = hashlib.blake2b(
            json.dumps(self.settings, sort_keys=True, ensure_ascii=False).encode(), digest_size=8
        ).hexdigest()
        self.folder = storage.join(root, SCORES, f"{name}-{self.key}")

    @property
    def finished(self) -> ScoreTable | None:
        """The table, if it is finished."""
        return open_scores(self.folder) if storage.exists(storage.join(self.folder, MANIFEST)) else None

    def made_once(
        self, make: Callable[[], ScoreTable], on_wait: Callable[[Holder, float], None]
    ) -> tuple[ScoreTable, bool]:
        """The table, and whether it was finished: else it is made while this process holds its lease.

        make: writes and finishes the table. on_wait: as in `pipelines.ledger.lease.hold`.
        """
        if (table := self.finished) is None:
            with hold(storage.join(self.folder, ".lease"), f"scores {self.name}", on_wait):
                if (table := self.finished) is None:  # it may have been made while this process waited
                    return make(), False
        return table, True

    def chunks(self) -> set[str]:
        """The names of the chunks that are written."""
        storage.sweep(self.folder)
        return {name.removesuffix(".parquet") for name in storage.files(storage.join(self.folder, CHUNKS))}

    def append(self, chunk: str, table: pa.Table) -> None:
        """Write a chunk, complete or not at all."""
        storage.write_parquet(self._path(chunk), table)

    def read(self, chunk: str) -> pa.Table:
        """A chunk that is written."""
        return storage.read_parquet(self._path(chunk))

    def finish(self, table: pa.Table, facts: Mapping[str, Any] | None = None) -> ScoreTable:
        """Write the parts and `scores.json`, and remove the chunks.

        table: `id` (string, each once) and the columns of scores. facts: JSON values, kept in `scores.json`.
        """
        table = table.take(pc.sort_indices(table["id"])).combine_chunks()
        if pc.count_distinct(table["id"]).as_py() != table.num_rows:
            raise CheckFailed(f"{self.folder}: an id occurs twice, so its scores cannot be looked up")
        files = []
        for number, start in enumerate(range(0, table.num_rows, PART_ROWS)):
            part = table.slice(start, PART_ROWS)
            name = f"part-{number:05d}.parquet"
            written = storage.write_parquet(storage.join(self.folder, name), part)
            first, last = part["id"][0].as_py(), part["id"][-1].as_py()
            files.append(
                ScorePart(
                    name=name, rows=part.num_rows, first=first, last=last, bytes=written.bytes, digest=written.digest
                )
            )
        manifest = _Manifest(
            name=self.name,
            settings={**self.settings, **self.outside},
            facts=dict(facts or {}),
            columns=tuple((field.name, str(field.type)) for field in table.schema if field.name != "id"),
            rows=table.num_rows,
            files=tuple(files),
        )
        storage.write_json(storage.join(self.folder, MANIFEST), manifest.model_dump(mode="json"))
        storage.remove(storage.join(self.folder, CHUNKS))
        write_checksums(self.folder)
        return open_scores(self.folder)

    def _path(self, chunk: str) -> str:
        return storage.join(self.folder, CHUNKS, f"{chunk}.parquet")

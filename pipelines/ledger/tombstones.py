"""Which rows and sources were forgotten? Digests below a root, by which `ingest` drops them whenever it reads them.

    ROOT/forgotten/<id>/tombstone.json   digests of texts, of names of sources, and identities of their files; no text
                        receipt.json     what `winnow forget --apply` did
                        checksums.json   digest of each file above

A row is known by the digest of its instruction and response in the exact reading (`dedup.exact.exact_text`), whatever
its id, source and condition. A source is known by its name, and by what its files contain. The id of a tombstone is the
digest of its content, so forgetting the same again changes nothing.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from dedup.exact import digest128, exact_text
from filters.stage import DROP_FIELDS, Outcome, mark, with_column
from pipelines.errors import CheckFailed
from pipelines.ledger import storage

FOLDER = "forgotten"
TOMBSTONE = "tombstone.json"
RECEIPT = "receipt.json"

STAGE = REASON = "forgotten"
"""Of a row that is dropped for a tombstone. Of such a row the id, the source, the condition and a digest are kept."""


class Tombstones(NamedTuple):
    """What was forgotten. rows: digests of texts, 16 bytes each. sources: digests of names. files: identities."""

    rows: frozenset[bytes] = frozenset()
    sources: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()

    @property
    def digest(self) -> str:
        """32 hex digits that change with any digest, whatever files they are in; empty if there is none."""
        if not any(self):
            return ""
        content = [sorted(digest.hex() for digest in self.rows), sorted(self.sources), sorted(self.files)]
        return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()


def text_digests(records: pa.Table) -> pa.Array:
    """The digest of each row's texts in the exact reading: binary(16) [rows]."""
    return digest128(*(exact_text(as_array(records[name])) for name in ("instruction", "response")))


def name_digest(source: str) -> str:
    """The digest of a source's name, 32 hex digits."""
    return hashlib.blake2b(source.encode(), digest_size=16).hexdigest()


def write(root: str, stones: Tombstones) -> str:
    """Write a tombstone below a root, completely or not at all; returns its id, the name of its folder."""
    value = {
        "format": 1,
        "rows": sorted(digest.hex() for digest in stones.rows),
        "sources": sorted(stones.sources),
        "files": sorted(stones.files),
    }
    path = storage.join(root, FOLDER, stones.digest[:16], TOMBSTONE)
    if not storage.exists(path):
        storage.write_json(path, value)
    return stones.digest[:16]


def paths(root: str) -> tuple[str, ...]:
    """The files of all tombstones below a root."""
    folder = storage.join(root, FOLDER)
    candidates = (storage.join(folder, name, TOMBSTONE) for name in storage.folders(folder))
    return tuple(path for path in candidates if storage.exists(path))


@functools.lru_cache(maxsize=2)
def read(files: tuple[str, ...]) -> Tombstones:
    """What these files say, together.

    Raises: CheckFailed: naming a file that is damaged. Nothing is ingested then: a forgotten row could come back.
    """
    rows: set[bytes] = set()
    sources: set[str] = set()
    identities: set[str] = set()
    for path in files:
        value = storage.read_json(path)
        try:
            own = frozenset(map(bytes.fromhex, value["rows"])), frozenset(value["sources"]), frozenset(value["files"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckFailed(f"{path}: damaged since it was written ({error!r}); restore it from a backup") from None
        if Tombstones(*own).digest[:16] != path.split("/")[-2]:
            raise CheckFailed(f"{path}: changed since it was written; restore it from a backup")
        rows |= own[0]
        sources |= own[1]
        identities |= own[2]
    return Tombstones(frozenset(rows), frozenset(sources), frozenset(identities))


def are_forgotten(records: pa.Table, digests: Collection[bytes]) -> npt.NDArray[np.bool_]:
    """Which records have one of these texts: bool [rows]."""
    if not digests or not records.num_rows:
        return np.zeros(records.num_rows, np.bool_)
    return np.asarray(pc.is_in(text_digests(records), value_set=_values(tuple(digests))).to_numpy(zero_copy_only=False))


@functools.lru_cache(maxsize=2)
def _values(digests: Sequence[bytes]) -> pa.Array:
    return pa.array(digests, pa.binary(16))


def drop_forgotten(outcome: Outcome, stones: Tombstones, everything: bool) -> Outcome:
    """Drop the forgotten ones of records that were just read, and blank them: also those dropped before for another
    reason, whose text would stay in the file of dropped rows.

    everything: all of them, since their source or file is forgotten.
    """
    kept, dropped = outcome
    masks = [
        np.ones(table.num_rows, np.bool_) if everything else are_forgotten(table, stones.rows)
        for table in (kept, dropped)
    ]
    if not any(mask.any() for mask in masks):
        return outcome
    names = {field.name for field in DROP_FIELDS}
    columns = [name for name in dropped.column_names if name not in names]
    gone = [
        mark(_blank(table.filter(pa.array(mask)).select(columns)), STAGE, REASON, ["{}"] * int(mask.sum()))
        for table, mask in zip((kept, dropped), masks, strict=True)
    ]
    others = [table.filter(pa.array(~mask)) for table, mask in zip((kept, dropped), masks, strict=True)]
    return Outcome(others[0], pa.concat_tables([others[1], *gone]))


def _blank(records: pa.Table) -> pa.Table:
    """Records without their texts. `digest` becomes that of a tombstone: by it the row is known when it is forgotten
    again."""
    digests = text_digests(records)
    for field in records.schema:
        if field.name == "digest":
            records = with_column(records, field, digests)
        elif field.name not in ("id", "source", "condition"):
            records = with_column(records, field, pa.array([""] * records.num_rows, field.type))
    return records

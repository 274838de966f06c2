"""What a step left behind: its shards, where its rows went, and the key that names it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from pipelines.errors import CheckFailed
from pipelines.ledger import storage
from pipelines.ledger.storage import ShardRef


class Step(NamedTuple):
    """A step before it is made. Its `key` is the hash of everything that its output depends on.

    parameters: JSON-able. parents: keys of the steps it reads. Bump `version` when the code changes its output.
    """

    name: str
    version: int
    parameters: dict[str, Any]
    parents: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """16 hex digits: the step's address in storage."""
        canonical = json.dumps([self.name, self.version, self.parameters, self.parents], sort_keys=True)
        return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()

    @property
    def folder(self) -> str:
        """Below `ROOT/steps`."""
        return f"{self.name}-{self.key}"


class Part(BaseModel):
    """What one work item gave.

    rows_in: the records it took, or None where its output is not records (an index, a tokenizer, packs), in which
    case nothing is conserved. counts: `stage/reason` -> dropped rows, or any other whole numbers worth keeping.
    side: files that say something about the records and are none (hits, lists of ids); nothing of them is conserved.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows_in: int | None = None
    shards: tuple[ShardRef, ...] = ()
    dropped: tuple[ShardRef, ...] = ()
    counts: dict[str, int] = {}
    side: tuple[ShardRef, ...] = ()

    @property
    def rows_kept(self) -> int:
        """Rows in the kept shards."""
        return sum(shard.rows for shard in self.shards)

    @property
    def rows_dropped(self) -> int:
        """Rows in the dropped shards."""
        return sum(shard.rows for shard in self.dropped)

    def check(self, where: str) -> None:
        """Errors: CheckFailed where a row is lost or doubled, or a dropped row has no reason."""
        if self.rows_in is None:
            return
        if self.rows_in != self.rows_kept + self.rows_dropped:
            raise CheckFailed(
                f"{where}: {self.rows_in} rows in, but {self.rows_kept} kept + {self.rows_dropped} dropped"
            )
        if sum(self.counts.values()) != self.rows_dropped:
            raise CheckFailed(
                f"{where}: {self.rows_dropped} rows dropped, but the reasons count {sum(self.counts.values())}"
            )


class Manifest(BaseModel):
    """A finished step. It is written last, so that a manifest means done; its bytes depend on the inputs alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: str
    key: str
    version: int
    parameters: dict[str, Any]
    parents: tuple[str, ...]
    parts: tuple[Part, ...]

    @property
    def shards(self) -> tuple[ShardRef, ...]:
        """The kept shards, in order."""
        return tuple(shard for part in self.parts for shard in part.shards)

    @property
    def dropped(self) -> tuple[ShardRef, ...]:
        """The shards of dropped records, in order."""
        return tuple(shard for part in self.parts for shard in part.dropped)

    @property
    def side(self) -> tuple[ShardRef, ...]:
        """The files beside the records, in order."""
        return tuple(file for part in self.parts for file in part.side)

    @property
    def rows_in(self) -> int | None:
        """Records taken, or None for a step whose output is not records."""
        counts = [part.rows_in for part in self.parts if part.rows_in is not None]
        return sum(counts) if counts else None

    @property
    def rows_kept(self) -> int:
        """Rows in the kept shards."""
        return sum(part.rows_kept for part in self.parts)

    @property
    def rows_dropped(self) -> int:
        """Rows in the dropped shards."""
        return sum(part.rows_dropped for part in self.parts)

    @property
    def counts(self) -> dict[str, int]:
        """The parts' counts, added up."""
        total: Counter[str] = Counter()
        for part in self.parts:
            total.update(part.counts)
        return dict(sorted(total.items()))


def save(root: str, step: Step, parts: Sequence[Part], of: Manifest | None) -> Manifest:
    """Check conservation part by part and against the parent `of`, then write the manifest, last of all."""
    for index, part in enumerate(parts):
        part.check(f"step {step.name}, part {index}")
    manifest = Manifest(
        step=step.name,
        key=step.key,
        version=step.version,
        parameters=step.parameters,
        parents=step.parents,
        parts=tuple(parts),
    )
    if of is not None and (manifest.rows_in or 0) != of.rows_kept:
        raise CheckFailed(f"step {step.name}: took {manifest.rows_in} rows, but {of.step} kept {of.rows_kept}")
    storage.write_json(
        storage.join(root, "steps", step.folder, "manifest.json"), _move(manifest.model_dump(mode="json"), root, "")
    )
    return manifest


def load(root: str, folder: str) -> Manifest | None:
    """The manifest of a finished step (`<step>-<key>`), or None where it is not finished."""
    path = storage.join(root, "steps", folder, "manifest.json")
    if not storage.exists(path):
        return None
    return Manifest.model_validate(_move(storage.read_json(path), "", root))


def _move(value: Any, old: str, new: str) -> Any:
    """Take the paths of all shards from one root to another: on disk they are relative, so that a root can be moved."""
    if isinstance(value, dict):
        if value.keys() == ShardRef.model_fields.keys():
            path = value["path"].removeprefix(old).lstrip("/") if old else value["path"]
            return {**value, "path": storage.join(new, path) if new else path}
        return {key: _move(item, old, new) for key, item in value.items()}
    return [_move(item, old, new) for item in value] if isinstance(value, list | tuple) else value


def dump_part(part: Part, root: str) -> Any:
    """A part as JSON with paths relative to `root`."""
    return _move(part.model_dump(mode="json"), root, "")


def load_part(value: Any, root: str) -> Part:
    """The way back."""
    return Part.model_validate(_move(value, "", root))

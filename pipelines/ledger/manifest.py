"""What did a step leave behind? Its files by product, and what became of its rows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, model_serializer

from pipelines.errors import RESUME, CheckFailed, RunError
from pipelines.ledger import storage
from pipelines.ledger.step import DROPPED_ROWS, Step
from pipelines.ledger.storage import FileRef, TableRef

FORMAT = 2
"""Of manifests. A step whose manifest has another format is made again."""

UNSEEN_SECONDS = 3.0
"""How long a file that was written is looked for before a manifest names it."""

AnyFile = TableRef | FileRef


class Part(BaseModel):
    """The result of one work item.

    files: product -> its files. rows_in: the records that the item took, None where the step conserves no rows.
    counts: `stage/reason` -> dropped rows; of a step that conserves no rows, any whole numbers worth keeping.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: dict[str, tuple[AnyFile, ...]] = {}
    rows_in: int | None = None
    counts: dict[str, int] = {}

    def file(self, product: str) -> FileRef:
        """The one file of a product."""
        (file,) = self.files[product]
        return file

    def table(self, product: str) -> TableRef:
        """The one file of a product, which holds a table."""
        file = self.file(product)
        assert isinstance(file, TableRef)
        return file

    def rows(self, product: str) -> int:
        """Rows in the files of a product, 0 where the part has none."""
        return sum(file.rows for file in self.files.get(product, ()) if isinstance(file, TableRef))

    def check(self, kept: str | None, where: str) -> None:
        """Check conservation. kept: the product that holds the rows kept, None where nothing is conserved.

        Raises: CheckFailed: if a row is lost or doubled, or a dropped row has no reason.
        """
        if kept is None:
            return
        rows_kept, rows_dropped = self.rows(kept), self.rows(DROPPED_ROWS)
        if self.rows_in is None or self.rows_in != rows_kept + rows_dropped:
            raise CheckFailed(f"{where}: {self.rows_in} rows in, but {rows_kept} kept + {rows_dropped} dropped")
        if sum(self.counts.values()) != rows_dropped:
            raise CheckFailed(
                f"{where}: {rows_dropped} rows dropped, but the reasons count {sum(self.counts.values())}"
            )

    @model_serializer
    def _without_empty_fields(self) -> dict[str, Any]:
        files = {name: [file.model_dump() for file in files] for name, files in self.files.items()}
        named = {"files": files, "rows_in": self.rows_in, "counts": self.counts}
        return {name: value for name, value in named.items() if value not in (None, {})}


def part(rows_in: int | None = None, counts: Mapping[str, int] | None = None, **files: FileRef) -> Part:
    """A part with one file for each product named."""
    return Part(files={name: (file,) for name, file in files.items()}, rows_in=rows_in, counts=dict(counts or {}))


class Manifest(BaseModel):
    """A finished step. It is written last, so that a manifest means done; its bytes depend on the inputs alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    step: str
    key: str
    version: int
    parameters: dict[str, Any]
    parents: tuple[str, ...]
    kept: str | None
    parts: tuple[Part, ...]

    @property
    def folder(self) -> str:
        """Its folder below `ROOT/steps`."""
        return f"{self.step}-{self.key}"

    def files(self, product: str) -> tuple[FileRef, ...]:
        """The files of a product, in order; none where the step left none."""
        return tuple(file for part in self.parts for file in part.files.get(product, ()))

    def tables(self, product: str) -> tuple[TableRef, ...]:
        """The files of a product that holds tables, in order."""
        files = self.files(product)
        assert all(isinstance(file, TableRef) for file in files)
        return cast(tuple[TableRef, ...], files)

    def file(self, product: str) -> FileRef:
        """The one file of a product."""
        (file,) = self.files(product)
        return file

    @property
    def all_files(self) -> tuple[AnyFile, ...]:
        """The files of all products, in order."""
        return tuple(file for part in self.parts for files in part.files.values() for file in files)

    @property
    def shards(self) -> tuple[TableRef, ...]:
        """The files of the rows that the step kept, in order."""
        return self.tables(self.kept) if self.kept else ()

    @property
    def dropped(self) -> tuple[TableRef, ...]:
        """The files of the rows that the step dropped, in order."""
        return self.tables(DROPPED_ROWS) if self.kept else ()

    @property
    def rows_in(self) -> int | None:
        """Rows taken; None for a step that conserves no rows."""
        return None if self.kept is None else sum(part.rows_in or 0 for part in self.parts)

    @property
    def rows_kept(self) -> int | None:
        """Rows kept; None for a step that conserves no rows."""
        return None if self.kept is None else sum(part.rows(self.kept) for part in self.parts)

    @property
    def rows_dropped(self) -> int | None:
        """Rows dropped; None for a step that conserves no rows."""
        return None if self.kept is None else sum(part.rows(DROPPED_ROWS) for part in self.parts)

    @property
    def counts(self) -> dict[str, int]:
        """The parts' counts, added up."""
        total: Counter[str] = Counter()
        for part in self.parts:
            total.update(part.counts)
        return dict(sorted(total.items()))

    @property
    def reasons(self) -> dict[str, int]:
        """`stage/reason` -> rows dropped; empty for a step that conserves no rows."""
        return self.counts if self.kept else {}


def save(root: str, step: Step, parts: Sequence[Part], parent: Manifest | None) -> Manifest:
    """Check every part, the rows taken against those that `parent` kept, and that every file is there; then write the
    manifest.

    Raises: CheckFailed: if rows are not accounted for, or a file is not seen from here.
    """
    kept = step.type.kept
    for index, one in enumerate(parts):
        one.check(kept, f"step {step.name}, part {index}")
        unknown = one.files.keys() - step.type.products.keys()
        assert not unknown, f"step {step.name} has no product {', '.join(sorted(unknown))}"
    manifest = Manifest(
        step=step.name,
        key=step.key,
        version=step.type.version,
        parameters=step.parameters,
        parents=step.parents,
        kept=kept,
        parts=tuple(parts),
    )
    if parent is not None and manifest.rows_in != parent.rows_kept:
        raise CheckFailed(
            f"step {step.name}: took {manifest.rows_in} rows, but step {parent.step} kept {parent.rows_kept}"
        )
    _check_files(root, manifest)
    storage.write_json(path_of(root, step.folder), _with_paths(manifest.model_dump(mode="json"), root, ""))
    return manifest


def _check_files(root: str, manifest: Manifest) -> None:
    """Check that this process sees each file of a step with its size: workers wrote them, maybe on other nodes.

    The folders are listed. A file that a listing lacks is looked up by its name for a while: a network file system may
    list a folder as it was some seconds ago.
    """
    own = storage.join(root, "steps", manifest.folder) + "/"
    files = [file for file in manifest.all_files if file.path.startswith(own)]
    listed = {
        storage.join(folder, name): size
        for folder in sorted({file.path.rpartition("/")[0] for file in files})
        for name, size in storage.sizes(folder).items()
    }
    unseen = [file for file in files if listed.get(file.path) != file.bytes]
    deadline = time.monotonic() + UNSEEN_SECONDS
    while unseen := [file for file in unseen if storage.size(file.path) != file.bytes]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.2)
    if unseen:
        size = storage.size(unseen[0].path)
        problem = "is not there" if size < 0 else f"has {size} bytes, not {unseen[0].bytes}"
        raise CheckFailed(
            f"step {manifest.step}: {unseen[0].path} {problem}, though a worker wrote it ({len(unseen)} of "
            f"{len(files)} files are missing or cut short); all nodes must reach {root} under this path, on a shared "
            f"file system or an object store; {RESUME}"
        )


def load(root: str, folder: str) -> Manifest | None:
    """The manifest of a finished step (`<step>-<key>`); None where it is not finished or of another format."""
    path = path_of(root, folder)
    if not storage.exists(path):
        return None
    value = storage.read_json(path)
    if value.get("format") != FORMAT:
        return None
    return Manifest.model_validate(_with_paths(value, "", root))


def forget(root: str, folder: str) -> None:
    """Remove the manifest of a step, so that the step is made again. Its files stay: equal ones will replace them."""
    storage.remove(path_of(root, folder))


def is_finished(root: str, folder: str) -> bool:
    """Whether a step has a manifest. False where the root cannot be reached."""
    try:
        return storage.exists(path_of(root, folder))
    except OSError:
        return False


def require(root: str, folder: str, run: str) -> Manifest:
    """The manifest of a step that a recorded run names.

    Raises: CheckFailed: if there is no manifest. RunError: if it was written by another version of Winnow.
    """
    manifest = load(root, folder)
    if manifest is None:
        path = path_of(root, folder)
        if not storage.exists(path):
            raise CheckFailed(f"run {run}: {path}: missing; build the recipe again")
        raise RunError(f"run {run}: step {folder} was written by another version of Winnow; build the recipe again")
    return manifest


def path_of(root: str, folder: str) -> str:
    """The path of a step's manifest."""
    return storage.join(root, "steps", folder, "manifest.json")


def _with_paths(value: Any, old: str, new: str) -> Any:
    """Move the paths of all files from one root to another. On disk they are relative, so a root can be moved."""
    if isinstance(value, dict):
        if {"path", "bytes", "digest"} <= value.keys():
            path = value["path"].removeprefix(old).lstrip("/") if old else value["path"]
            return {**value, "path": storage.join(new, path) if new else path}
        return {key: _with_paths(item, old, new) for key, item in value.items()}
    return [_with_paths(item, old, new) for item in value] if isinstance(value, list | tuple) else value


def dump_part(part: Part, root: str) -> Any:
    """A part as JSON, with paths relative to `root`."""
    return _with_paths(part.model_dump(mode="json"), root, "")


def load_part(value: Any, root: str) -> Part:
    """A part from what `dump_part` wrote."""
    return Part.model_validate(_with_paths(value, "", root))

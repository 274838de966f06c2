"""What did a step leave behind? Its files by product, and what became of its rows."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, cast

from pydantic import BaseModel, ConfigDict, TypeAdapter

from pipelines.errors import RESUME, CheckFailed, RunError
from pipelines.ledger import storage
from pipelines.ledger.step import DROPPED_ROWS, Step, key_of
from pipelines.ledger.storage import FileRef, TableRef

FORMAT = 3
"""Of manifests. A step whose manifest has another format is made again."""

UNSEEN_SECONDS = 3.0
"""How long a file that was written is looked for before a manifest names it."""

AnyFile = TableRef | FileRef


@dataclass(frozen=True, slots=True)
class Part:
    """The result of one work item.

    files: product -> its files. rows_in: the records that the item took, None where the step conserves no rows.
    counts: `stage/reason` -> dropped rows; of a step that conserves no rows, any whole numbers worth keeping.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    files: Mapping[str, tuple[AnyFile, ...]] = field(default_factory=dict)
    rows_in: int | None = None
    counts: dict[str, int] = field(default_factory=dict)

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

    def with_file(self, product: str, file: FileRef) -> Part:
        """This part with one more product, which is one file."""
        return replace(self, files={**self.files, product: (file,)})

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

    def __reduce__(self) -> tuple[type[Part], tuple[Any, ...]]:
        return Part, (self.files, self.rows_in, self.counts)


def part(rows_in: int | None = None, counts: Mapping[str, int] | None = None, **files: FileRef) -> Part:
    """A part with one file for each product named."""
    return Part(files={name: (file,) for name, file in files.items()}, rows_in=rows_in, counts=dict(counts or {}))


class Manifest(BaseModel):
    """A finished step. It is written last, so that a manifest means done; its bytes depend on the inputs alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    step: str
    key: str
    code: dict[str, str]
    parameters: dict[str, Any]
    parents: tuple[str, ...]
    kept: str | None
    parts: tuple[Part, ...]

    @property
    def folder(self) -> str:
        """Its folder below `ROOT/steps`."""
        return f"{self.step}-{self.key}"

    @property
    def code_digest(self) -> str:
        """16 hex digits that change when code or a library of the step's work changes: the digest of `code`."""
        return key_of([self.code])

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
        code=step.code or {},
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
    storage.write_bytes(path_of(root, step.folder), _manifest_text(manifest, root).encode())
    return manifest


def _check_files(root: str, manifest: Manifest) -> None:
    """Check that this process sees each file of a step with its size: workers wrote them, maybe on other nodes.

    The folders are listed. A file that a listing lacks is looked up by its name for a while: a network file system may
    list a folder as it was some seconds ago.
    """
    own = storage.join(root, "steps", manifest.folder) + "/"
    files = [file for file in manifest.all_files if file.path.startswith(own)]
    listed = storage.sizes_of(file.path for file in files)
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


def problem(manifest: Manifest) -> str:
    """What is wrong with a step that is to be reused; "" if nothing is.

    Its key is the hash of what it depends on, all rows are accounted for, and each file is there with its size: one
    listing of each folder, not a request for each file.
    """
    if not has_own_key(manifest):
        return f"the manifest of {manifest.folder}: its parameters are not those of its key"
    try:
        for index, one in enumerate(manifest.parts):
            one.check(manifest.kept, f"the manifest of {manifest.folder}, part {index}")
    except CheckFailed as error:
        return str(error)
    files = manifest.all_files
    sizes = storage.sizes_of(file.path for file in files)
    for file in files:
        if sizes.get(file.path) != file.bytes:
            size = sizes.get(file.path)
            return f"{file.path}: {'missing' if size is None else f'{size} bytes, not {file.bytes}'}"
    return ""


def load(root: str, folder: str, digest: str | None = None) -> Manifest | None:
    """The manifest of a finished step (`<step>-<key>`); None where it is not finished or of another format.

    digest: that it must have, if it is known.

    Raises: Damaged: if the manifest is damaged. RunError: if it was written by a newer Winnow.
    """
    path = path_of(root, folder)
    if not storage.exists(path):
        return None
    mend = "remove its folder and build again"
    value = storage.read_json(path, mend, digest)
    if not isinstance(value, dict) or not isinstance(value.get("format"), int):
        if isinstance(value, dict) and "step" in value and "format" not in value:
            return None  # of the first layout
        raise storage.damaged(path, "no object with a format", mend)
    if value["format"] > FORMAT:
        raise RunError(
            f"{path}: written by a newer Winnow (format {value['format']}); update Winnow, or use another root"
        )
    if value["format"] < FORMAT:
        if "step" not in value:
            raise storage.damaged(path, "no step", mend)
        return None
    try:
        _set_root(value["parts"], root)
    except (AttributeError, KeyError, TypeError) as error:
        raise storage.damaged(path, f"parts: {type(error).__name__} {error}", mend) from error
    return storage.read_document(path, Manifest, mend, value)


def forget(root: str, folder: str) -> None:
    """Remove the manifest of a step, so that the step is made again. Its files stay: equal ones will replace them."""
    storage.remove(path_of(root, folder))


def has_own_key(manifest: Manifest) -> bool:
    """Whether the key is the hash of what the manifest says that the step depends on."""
    depends_on = [manifest.step, manifest.parameters, list(manifest.parents), manifest.code]
    return key_of(depends_on) == manifest.key


def is_finished(root: str, folder: str) -> bool:
    """Whether a step has a manifest. False where the root cannot be reached."""
    try:
        return storage.exists(path_of(root, folder))
    except OSError:
        return False


def require(root: str, folder: str, run: str, digest: str | None = None) -> Manifest:
    """The manifest of a step that a recorded run names. digest: as of `load`.

    Raises: CheckFailed: if there is no manifest. Damaged: as `load`. RunError: if it was written by another version of
        Winnow.
    """
    manifest = load(root, folder, digest)
    if manifest is None:
        path = path_of(root, folder)
        if not storage.exists(path):
            raise CheckFailed(f"run {run}: {path}: missing; build the recipe again")
        raise RunError(f"run {run}: {path}: written by another version of Winnow; build the recipe again")
    return manifest


def path_of(root: str, folder: str) -> str:
    """The path of a step's manifest."""
    return storage.join(root, "steps", folder, "manifest.json")


def part_text(part: Part, root: str, indent: str = "") -> str:
    """A part as canonical JSON (see `storage.write_json`) with paths relative to `root`.

    Written here, since `json` takes ten times as long to indent, and a manifest may have 100,000 parts. indent: of the
    lines after the first.
    """
    fields = []
    if part.counts:
        lines = (f"{_quoted(name)}: {part.counts[name]}" for name in sorted(part.counts))
        fields.append(f'"counts": {_block("{}", lines, indent + "  ")}')
    if part.files:
        lines = (
            f"{_quoted(name)}: "
            + _block("[]", (_file_text(file, root, indent + "      ") for file in part.files[name]), indent + "    ")
            for name in sorted(part.files)
        )
        fields.append(f'"files": {_block("{}", lines, indent + "  ")}')
    if part.rows_in is not None:
        fields.append(f'"rows_in": {part.rows_in}')
    return _block("{}", fields, indent)


def _file_text(file: AnyFile, root: str, indent: str) -> str:
    path = _quoted(file.path.removeprefix(root).lstrip("/"))
    rows = f',\n{indent}  "rows": {file.rows}' if isinstance(file, TableRef) else ""
    return (
        f'{{\n{indent}  "bytes": {file.bytes},\n{indent}  "digest": "{file.digest}",\n{indent}  "path": {path}{rows}'
        f"\n{indent}}}"
    )


def _block(brackets: str, lines: Iterable[str], indent: str) -> str:
    """An object or array with one entry a line."""
    text = f",\n{indent}  ".join(lines)
    return f"{brackets[0]}\n{indent}  {text}\n{indent}{brackets[1]}" if text else brackets


_quoted = json.JSONEncoder(ensure_ascii=False).encode


def _manifest_text(manifest: Manifest, root: str) -> str:
    """A manifest as canonical JSON with paths relative to `root`."""
    head = manifest.model_dump(mode="json", exclude={"parts"}) | {"parts": []}
    text = storage.json_text(head)
    # Text within values has no line breaks, and only keys of the manifest itself are indented by two spaces.
    before, empty, after = text.partition('\n  "parts": []')
    assert empty
    return (
        f'{before}\n  "parts": {_block("[]", (part_text(part, root, "    ") for part in manifest.parts), "  ")}{after}'
    )


def load_part(value: Any, root: str) -> Part:
    """A part from the JSON value that `part_text` wrote."""
    _set_root([value], root)
    return _PART.validate_python(value)


_PART = TypeAdapter(Part)


def _set_root(parts: list[Any], root: str) -> None:
    """Put `root` before the paths of all files. On disk they are relative, so that a root can be moved."""
    for part in parts:
        for files in part.get("files", {}).values():
            for file in files:
                file["path"] = storage.join(root, file["path"])

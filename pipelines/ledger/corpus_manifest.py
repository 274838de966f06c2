"""What does a manifest of a corpus hold? The identity and order of its rows, without their text.

One Arrow IPC file, compressed. A record batch for each shard of the corpus, in order, and a row for each record:

    id          string
    digest      fixed_size_binary(16), of condition, instruction and response (`dedup.exact.digest128`)
    epoch_<k>   list<uint32>: the places of the record among the sequences of epoch k, in the order of its packs. Empty
                where the epoch does not draw it, several where it draws it several times
    validation  list<uint32>: the same of the packs of rows held out

The schema's metadata has under `winnow.manifest` a JSON object, the head: see `Head`. It has a digest of the rows:
`CorpusManifest.check` tells a file that was cut or edited.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import xxhash
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from pipelines.errors import InputError, WinnowError, nearest
from pipelines.ledger import storage

FORMAT = 2
"""Of the file. A reader refuses a newer one."""

NAME = "manifest.arrow"
"""The file in the folder of an export."""

_KEY = b"winnow.manifest"

VALIDATION = "validation"


class ListedFile(BaseModel):
    """A file of a source: its name in ids, its suffix, and what identifies its content (`input_files.identity`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    suffix: str
    identity: str


class ListedSource(BaseModel):
    """A source of the corpus.

    adapter, title, licence, home, revision: None where the recipe names files without an adapter. files: empty for a
    source that is computed. rows: of the corpus. mix: what the epochs draw of it (`sampling.coverage`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    adapter: str | None
    title: str | None
    licence: str | None
    home: str | None
    revision: str | None
    files: tuple[ListedFile, ...]
    rows: int
    mix: dict[str, int]


class ListedPacks(BaseModel):
    """A file of packs. split: `train` or `validation`. digest: of its bytes, xxh3-128."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: str
    epoch: int
    packs: int
    bytes: int
    digest: str


class ListedStep(BaseModel):
    """A step of the run: its name, the digest of its code and libraries (`Manifest.code_digest`), and its key.

    Manifests of format 1 have a number under `version` in place of the digest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    name: str
    code: str = Field(validation_alias=AliasChoices("code", "version"))
    key: str


class Head(BaseModel):
    """Everything of a manifest but its rows.

    winnow: version that wrote it. run: its id. recipe: the recipe that rebuilds the packs from the sources; paths on a
    local disk are relative to the common folder of all. rows: of the corpus. steps: of the run, in order. tokenizer:
    digest of `tokenizer.json`. epochs: sequences of each epoch. packs: the files, in order. content: digest of the rows
    (`content_digest`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    winnow: str
    run: str
    recipe: dict[str, Any]
    rows: int
    sources: tuple[ListedSource, ...]
    steps: tuple[ListedStep, ...]
    tokenizer: str
    epochs: tuple[int, ...]
    packs: tuple[ListedPacks, ...]
    content: str


def schema(head: Head) -> pa.Schema:
    """The schema of the file, with the head as metadata."""
    places = pa.list_(pa.field("item", pa.uint32(), False))
    names = [*(f"epoch_{epoch}" for epoch in range(len(head.epochs))), VALIDATION]
    fields = [pa.field("id", pa.string(), False), pa.field("digest", pa.binary(16), False)]
    text = json.dumps(head.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)
    return pa.schema([*fields, *(pa.field(name, places, False) for name in names)], {_KEY: text.encode()})


def content_digest(batches: Iterable[Sequence[pa.Array]]) -> str:
    """xxh3-128 of the rows, as 32 hex digits: of each shard its number of rows, then of each column the lengths of its
    values where they vary (uint32), and the values one after another. batches: the columns of each shard."""
    state = xxhash.xxh3_128()
    for columns in batches:
        state.update(len(columns[0]).to_bytes(8, "little"))
        for column in columns:
            values = column
            if pa.types.is_list(column.type):
                state.update(_lengths(column))
                values = column.flatten()
            elif pa.types.is_string(column.type):
                state.update(_lengths(column))
            state.update(_bytes(values))
    return state.hexdigest()


def _lengths(column: pa.Array) -> bytes:
    offsets = np.frombuffer(column.buffers()[1] or bytes(4), "<i4")[column.offset :][: len(column) + 1]
    return np.diff(offsets).astype("<u4").tobytes()


def _bytes(values: pa.Array) -> memoryview:
    """The bytes of the values of a column of strings or of values of one width."""
    data = memoryview(values.buffers()[-1] or b"").cast("B")
    if pa.types.is_string(values.type):
        offsets = np.frombuffer(values.buffers()[1] or bytes(4), "<i4")
        return data[int(offsets[values.offset]) : int(offsets[values.offset + len(values)])]
    width = values.type.bit_width // 8
    return data[values.offset * width : (values.offset + len(values)) * width]


def write(file: BinaryIO, head: Head, batches: Iterator[Sequence[pa.Array]]) -> None:
    """Write a manifest. batches: the columns of each shard, in the order of `schema`."""
    form = schema(head)
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(pa.PythonFile(file, mode="w"), form, options=options) as writer:
        for columns in batches:
            writer.write_batch(pa.record_batch(list(columns), schema=form))


class CorpusManifest:
    """A manifest, open for reading.

    path: of the file. head: everything but the rows. shards: rows of each shard of the corpus.
    """

    def __init__(self, path: str) -> None:
        """Open a manifest. path: of the file, or of the folder of the export.

        Raises: InputError: naming the file, if it is missing, no manifest, damaged, or of a newer Winnow.
        """
        self.path = path = file_of(path)
        self._reader = _open(path)
        text = (self._reader.schema.metadata or {}).get(_KEY)
        if text is None:
            raise InputError(
                f"{path}: an Arrow file, but no manifest; `winnow export RUN --format manifest` writes one"
            )
        try:
            value = json.loads(text)
            newer = isinstance(value, dict) and isinstance(value.get("format"), int) and value["format"] > FORMAT
            if newer:
                raise InputError(f"{path}: written by a newer Winnow ({value.get('winnow')}); update Winnow to read it")
            self.head = Head.model_validate(value)
        except (ValidationError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise InputError(
                f"{path}: the manifest is damaged ({str(error).splitlines()[0]}); fetch it again"
            ) from None
        if not self._reader.schema.equals(schema(self.head)):
            raise InputError(f"{path}: the manifest is damaged (its columns are not those of its head); fetch it again")

    def check(self) -> None:
        """Compare the rows with the head: their number, their places in each order, and their digest.

        Reads the whole file, a shard at a time, and takes 1 byte of memory for each sequence of the epochs.

        Raises: InputError: naming the file and what is wrong, if it was cut or edited.
        """
        rows = sum(batch.num_rows for batch in self)
        if rows != self.head.rows:
            raise self._edited(f"{rows:,} rows, its head says {self.head.rows:,}")
        for name in self._reader.schema.names:
            if any(batch[name].null_count for batch in self):
                raise self._edited(f"column {name} has rows without a value")
        for epoch, sequences in enumerate(self.head.epochs):
            self._check_places(f"epoch_{epoch}", sequences)
        self._check_places(VALIDATION, sum(len(batch[VALIDATION].flatten()) for batch in self))
        if content_digest(batch.columns for batch in self) != self.head.content:
            raise self._edited("the digest of its rows is not the one in its head")

    def _check_places(self, name: str, sequences: int) -> None:
        """Raises: InputError: if the places of an order are not 0 to `sequences` - 1, each once."""
        seen, number = np.zeros(sequences, np.bool_), 0
        for batch in self:
            places = batch[name].flatten().to_numpy(zero_copy_only=False)
            if len(places) and places.max() >= sequences:
                raise self._edited(f"{name} has place {places.max():,} of {sequences:,}")
            seen[places] = True
            number += len(places)
        if number != sequences or not seen.all():
            raise self._edited(f"{name} has {number:,} places, {seen.sum():,} of them different, of {sequences:,}")

    def _edited(self, problem: str) -> InputError:
        return InputError(f"{self.path}: the manifest was cut or edited: {problem}; fetch it again")

    def settings(self, data: str | None, sources: Sequence[str]) -> list[str]:
        """The settings of a recipe (`path.to.key=value`) for sources that lie elsewhere than the manifest says.

        data: the folder of all files on a local disk. sources: `NAME=PATH` each; they win over `data`.

        Raises: WinnowError: for a name that is no source, or one whose rows are computed.
        """
        specs: list[dict[str, Any]] = self.head.recipe["sources"]
        given: dict[str, str] = {}
        for text in sources:
            name, equals, path = text.partition("=")
            if not equals or not path:
                raise WinnowError(f"--source {text}: write NAME=PATH")
            if name not in (spec["name"] for spec in specs):
                raise WinnowError(
                    f"--source {text}: run {self.head.run} has no source {name!r}; "
                    f"{nearest(name, [str(spec['name']) for spec in specs])}"
                )
            given[name] = path
        computed = {source.name for source in self.head.sources if not source.files}
        if wrong := sorted(given.keys() & computed):
            raise WinnowError(f"--source {wrong[0]}: its rows are computed; it has no files")
        placed = []
        for number, spec in enumerate(specs):
            if spec["name"] in given:
                placed.append(_setting(f"sources.{number}.path", storage.absolute(given[spec["name"]])))
            elif data is not None and (found := _in_folder(spec, data)):
                placed.append(_setting(f"sources.{number}.path", found))
        if data is not None and (found := _in_folder(self.head.recipe["tokenizer"], data)):
            placed.append(_setting("tokenizer.path", found))
        return placed

    @property
    def shards(self) -> int:
        """How many shards the corpus has."""
        return int(self._reader.num_record_batches)

    def shard(self, index: int, columns: Sequence[str] | None = None) -> pa.RecordBatch:
        """The rows of a shard, with some columns or all.

        Raises: InputError: naming the file, if it is damaged.
        """
        try:
            batch = self._reader.get_batch(index)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{self.path}: the manifest is damaged ({error}); fetch it again") from error
        return batch if columns is None else batch.select(list(columns))

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for index in range(self.shards):
            yield self.shard(index)


def _setting(key: str, value: str | list[str]) -> str:
    return f"{key}={json.dumps(value)}"


def _in_folder(section: dict[str, Any], folder: str) -> str | list[str] | None:
    """The path of a section below a folder; None if it has no path, or only URLs."""
    path = section.get("path")
    paths = [] if path is None else [path] if isinstance(path, str) else path
    if not any(storage.is_local(one) for one in paths):
        return None
    found = [storage.join(storage.absolute(folder), one) if storage.is_local(one) else one for one in paths]
    return found[0] if isinstance(path, str) else found


def _open(path: str) -> pa.ipc.RecordBatchFileReader:
    if storage.size(path) < 0:
        raise InputError(f"{path}: no such manifest; `winnow export RUN --format manifest` writes one")
    local = storage.is_local(path)
    source = pa.memory_map(path.removeprefix("file://")) if local else pa.BufferReader(storage.read_bytes(path))
    try:
        return pa.ipc.open_file(source)
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: no manifest, or cut short ({error}); fetch it again") from None


class Selection(NamedTuple):
    """The run whose corpus a manifest lists, and the names of its steps. run: empty if the manifest cannot be read."""

    run: str
    steps: frozenset[str]


def selection(settings: Mapping[str, Any]) -> Selection | None:
    """What chose the rows of a run with these settings; None if its own steps did."""
    path = settings.get("manifest")
    if not path:
        return None
    try:
        head = CorpusManifest(str(path)).head
    except (InputError, OSError):
        return Selection("", frozenset())
    return Selection(head.run, frozenset(step.name for step in head.steps))


def file_of(path: str) -> str:
    """The file of a manifest that is given as a file or as the folder of its export."""
    return storage.join(path, NAME) if storage.is_folder(path) else path


def is_manifest(path: str) -> bool:
    """Whether there is a manifest of a corpus at this path: a file, or the folder of an export."""
    file = file_of(path)
    if not file.endswith(".arrow") or storage.size(file) < 0:
        return False
    try:
        return _KEY in (_open(file).schema.metadata or {})
    except InputError:
        return False

"""What a sample of a source is: a small file in the schema of the data set, and the records that it gives."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.records import RAW, TASK
from pipelines.sources import SOURCES


class Sample(NamedTuple):
    """A file of a source without bad rows. records: (row, variant, condition, instruction, response)."""

    source: str
    file: str
    rows: Any
    records: list[tuple[Any, ...]]


class RuledSample(NamedTuple):
    """A file of a source that leaves out rows. The ids are of source `s` and file `f`.

    kept: id -> (condition, instruction, response). dropped: id -> `<stage>/<reason>`.
    """

    source: str
    file: str
    rows: Any
    kept: dict[str, tuple[str, str, str]]
    dropped: dict[str, str]


def write(path: Path, rows: Any) -> Path:
    """Write rows in the format that the name of the file says; an archive from a dictionary of its members."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith(".tar.gz"):
        with tarfile.open(path, "w:gz") as archive:
            for name, content in rows.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text(rows)
    return path


def read(name: str, path: Path) -> list[dict[str, Any]]:
    """The RAW rows of a file of a source."""
    source = SOURCES[name]
    assert source.read is not None
    tables = list(source.read(str(path)))
    assert all(table.schema.equals(RAW) or table.schema.equals(RAW.append(TASK)) for table in tables)
    return [row for table in tables for row in table.to_pylist()]

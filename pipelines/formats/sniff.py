"""What is in a file whose name does not tell? For messages: the mend of a file with the wrong suffix."""

from __future__ import annotations

import contextlib
import json
import posixpath

from pipelines.formats.faults import DAMAGE
from pipelines.ledger import storage

HEAD_BYTES = 64 << 10

_MAGIC = (
    (b"PAR1", "a Parquet file", ".parquet"),
    (b"ARROW1", "an Arrow file", ".arrow"),
    (b"\xff\xff\xff\xff", "an Arrow stream", ".arrow"),
    (b"\x1f\x8b", "compressed with gzip", ".gz"),
    (b"(\xb5/\xfd", "compressed with Zstandard", ".zst"),
    (b"BZh", "compressed with bzip2", ".bz2"),
)
"""First bytes, what a file with them is, and its suffix."""

_OTHER_MAGIC = (
    (b"PK\x03\x04", "a zip archive or a spreadsheet; unpack it, or save the sheet as CSV"),
    (b"\xd0\xcf\x11\xe0", "a document of an office program; save it as CSV"),
    (b"%PDF", "a PDF; write its pairs to a JSONL or CSV file"),
    (b"SQLite format 3", "a database; write a table to a CSV or Parquet file"),
    (b"\x89HDF", "an HDF5 file; write its rows to a Parquet file"),
)


def container(path: str) -> str:
    """The same by the magic number of a file that is not text; an empty string if its suffix fits."""
    head, suffix = _head(path), _suffix(path)
    for magic, what, known in _MAGIC:
        if head.startswith(magic):
            return "" if suffix == known else _rename(path, what, f"{path}{known}" if known in _COMPRESSED else known)
    for magic, what in _OTHER_MAGIC:
        if head.startswith(magic):
            return f"it is {what}"
    return ""


def _suffix(path: str) -> str:
    return posixpath.splitext(path)[1].lower()


def mend(path: str) -> str:
    """What a file is by its first bytes, and what to do with it. An empty string if the bytes do not tell."""
    if known := container(path):
        return known
    head = _head(path)
    suffix = _suffix(path)
    if b"\0" in head:
        return "it is not text; write its pairs to a JSONL, CSV or Parquet file"
    text = head.decode(errors="replace").lstrip("\ufeff").strip()
    if not text:
        return "it is empty"
    lines = [line for line in text.splitlines() if line.strip()]
    if text[0] in "[{":
        what, known = ("JSON lines", ".jsonl") if _is_object(lines[0]) else ("JSON", ".json")
        return "" if suffix in (".json", ".jsonl", ".ndjson") else _rename(path, what, known)
    if suffix in (".csv", ".tsv"):
        return ""
    for delimiter, known in (("\t", ".tsv"), (",", ".csv"), (";", ".csv")):
        if delimiter in lines[0] and len(lines) > 1 and len(lines[0]) < len("instruction") * 10:
            return _rename(path, "a table", known)
    return "it is plain text; Winnow reads pairs of instruction and response: write them to a JSONL or CSV file"


_COMPRESSED = (".gz", ".zst", ".bz2")


def _head(path: str) -> bytes:
    with contextlib.suppress(*DAMAGE):
        fs, name = storage.file_system(path)
        if storage.is_local(path) and fs.info(name)["type"] == "other":
            return b""  # opening a pipe would wait for its writer
        with fs.open(name, "rb") as file:
            return bytes(file.read(HEAD_BYTES))
    return b""


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _rename(path: str, what: str, known: str) -> str:
    name = known if known.startswith(path) else posixpath.splitext(path)[0] + known
    return f"it is {what}: rename it to {posixpath.basename(name)}"

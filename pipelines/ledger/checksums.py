"""Is a finished folder what was written? Its `checksums.json` has the digest of every other file below it.

Evaluations, tables of scores, failed runs, the record of a training and the receipts of forgotten rows have one. Steps
do not: their manifest names their files. The file is written last, so a folder without one is not finished.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from pipelines.ledger import storage

CHECKSUMS = "checksums.json"


def write_checksums(folder: str, names: list[str] | None = None) -> None:
    """Write the digests of files of a folder.

    names: relative to the folder. Default: all files below it but hidden ones, such as leases.
    """
    chosen = _files(folder) if names is None else names
    storage.write_json(
        storage.join(folder, CHECKSUMS), {name: storage.digest(storage.join(folder, name)) for name in sorted(chosen)}
    )


def remove_checksums(folder: str) -> None:
    """Mark a folder as not finished, before files of it are changed."""
    storage.remove(storage.join(folder, CHECKSUMS))


def checksum_problems(folder: str, mend: str, complete: bool = True) -> Iterator[str]:
    """What is wrong with the files of a folder that has a `checksums.json`; nothing for one that has none.

    mend: what to do about it, the end of each message. complete: whether a file that is not listed is wrong.
    """
    path = storage.join(folder, CHECKSUMS)
    if not storage.exists(path):
        return
    try:
        digests = json.loads(storage.read_bytes(path))
        assert isinstance(digests, dict)
    except (ValueError, AssertionError):
        yield f"{path}: damaged; {mend}"
        return
    present = _files(folder)
    for name in sorted(digests.keys() | (set(present) if complete else set())):
        file = storage.join(folder, name)
        if name not in digests:
            yield f"{file}: {CHECKSUMS} does not list it; {mend}"
        elif name not in present:
            yield f"{file}: missing; {mend}"
        elif storage.digest(file) != digests[name]:
            yield f"{file}: changed since it was written; {mend}"


def _files(folder: str) -> list[str]:
    """The files below a folder, without this one, hidden ones and those in hidden folders."""
    return [
        name
        for name in storage.files_below(folder)
        if name != CHECKSUMS and not any(part.startswith(".") for part in name.split("/"))
    ]

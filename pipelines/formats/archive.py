"""Read the files inside a tar archive, plain or compressed, in one pass from front to back."""

from __future__ import annotations

import contextlib
import tarfile
from collections.abc import Iterator
from typing import BinaryIO, cast

from pipelines.errors import InputError
from pipelines.formats.faults import DAMAGE
from pipelines.ledger import input_files


def read_members(path: str, suffix: str) -> Iterator[tuple[str, BinaryIO]]:
    """Yield (name, file) of each file in the archive whose name ends in `suffix`, in the archive's order.

    Read a file before advancing: the archive is not read a second time.

    Raises: InputError: if the archive is missing, truncated or damaged.
    """
    with _open(path) as archive:
        for member in archive:
            if member.isfile() and member.name.endswith(suffix):
                yield member.name, cast(BinaryIO, archive.extractfile(member))


def read_small_members(path: str, suffix: str) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of each file in the archive whose name ends in `suffix`.

    Raises: InputError: as `read_members`.
    """
    with _open(path) as archive:
        for member in archive:
            if member.isfile() and member.name.endswith(suffix):
                yield member.name, cast(BinaryIO, archive.extractfile(member)).read()


@contextlib.contextmanager
def _open(path: str) -> Iterator[tarfile.TarFile]:
    try:
        with input_files.open_input(path) as file, tarfile.open(fileobj=file, mode="r|") as archive:
            yield archive
    except DAMAGE as error:
        cause = f"{type(error).__name__}: {error}"
        raise InputError(f"{path}: truncated or damaged, or no tar archive ({cause}); fetch it again") from error

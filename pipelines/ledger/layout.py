"""Of which version is a root? `ROOT/layout.json` says so; a root without it is older than this file.

The version counts what all commands must agree on: where things lie below a root, and what documents of runs say.
Manifests of steps have a format of their own, by which a single step is made again.
"""

from __future__ import annotations

import contextlib

from pipelines.errors import Damaged, RunError
from pipelines.ledger import storage

LAYOUT_FILE = "layout.json"

LAYOUT = 2
"""Of roots that this version writes and reads. Roots without a file are of layout 1."""

REBUILD = (
    "build your recipes again with this root: their steps are made beside the former ones, which `winnow gc` then "
    "removes; or read it with the Winnow that made it"
)


def check_layout(root: str) -> None:
    """Check that this version can read a root. A root with nothing in it passes.

    Raises: RunError: for a newer or an older root. Damaged: if its `layout.json` is damaged.
    """
    version = _version(root)
    if version is None and not any(storage.is_folder(storage.join(root, name)) for name in ("runs", "steps")):
        return
    _refuse_newer(root, version)
    if version != LAYOUT:
        what = "without layout.json" if version is None else f"layout {version}"
        raise RunError(f"{root}: a root of an older Winnow ({what}); {REBUILD}")


def check_not_newer(root: str) -> None:
    """Check that this version may write into a root. Raises: RunError: for a newer root. Damaged: as `check_layout`."""
    _refuse_newer(root, _version(root))


def write_layout(root: str) -> None:
    """Mark a root as one of this version. Runs of an older one stay, and are refused one by one.

    Raises: as `check_not_newer`.
    """
    version = _version(root)
    _refuse_newer(root, version)
    if version != LAYOUT:
        storage.write_json(storage.join(root, LAYOUT_FILE), {"layout": LAYOUT})


def _version(root: str) -> int | None:
    path = storage.join(root, LAYOUT_FILE)
    mend = f'write {{"layout": {LAYOUT}}} into it if this version of Winnow made the root'
    with contextlib.suppress(FileNotFoundError):
        value = storage.read_json(path, mend)
        version = value.get("layout") if isinstance(value, dict) else None
        if not isinstance(version, int) or isinstance(version, bool):
            raise Damaged(f"{path}: damaged since it was written (no number under `layout`); {mend}")
        return version
    return None


def _refuse_newer(root: str, version: int | None) -> None:
    if version is not None and version > LAYOUT:
        raise RunError(
            f"{root}: a root of a newer Winnow (layout {version}; this version knows {LAYOUT}); update Winnow, or name "
            "another root"
        )

"""A checkout of an earlier commit, for benchmarks that measure it and this one in turn."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def checkout(commit: str, folder: Path) -> Iterator[Path]:
    """The commit below a folder, with the language model that `make install` loads. It is removed at the end."""
    place = folder / "before"
    subprocess.run(["git", "worktree", "add", "--detach", place, commit], cwd=ROOT, check=True, capture_output=True)
    model = Path("filters/models/lid.176.ftz")
    (place / model).write_bytes((ROOT / model).read_bytes())
    try:
        yield place
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", place], cwd=ROOT, check=True)

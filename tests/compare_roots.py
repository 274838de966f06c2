"""`python -m tests.compare_roots BEFORE AFTER`: are the files of two folders equal, byte for byte?

A change that must not change a corpus is checked like this: build, train and export with the code before and after it
into two roots, and compare them. Files that hold times, paths or formats of their own are left out: manifests,
run.json, checksums, identities of inputs, reports, lineage, evaluations, metrics, curves, and the records of runs that
failed. The keys of steps in paths do not count: a change of code changes them. Exit code 1 if a file of BEFORE is
missing or different.
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

LEFT_OUT = {
    "manifest.json",
    "run.json",
    "checksums.json",
    "report.html",
    "lineage.jsonl",
    "evaluations.json",
    "metrics.jsonl",
    "loss.png",
    "inputs.json",
    "layout.json",
}

SHOWN = 20
"""Paths that are printed of each kind."""


def digests(folder: Path) -> dict[str, str]:
    """Path below the folder, without keys of steps -> sha256 of the file."""
    return {
        re.sub("-[0-9a-f]{16}/", "/", path.relative_to(folder).as_posix()): hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in LEFT_OUT and not path.name.startswith("events.out")
        if path.relative_to(folder).parts[0] != "failed"
    }


def main(before: str, after: str) -> int:
    """Print what differs; return the exit code."""
    old, new = digests(Path(before)), digests(Path(after))
    different = [path for path in old if path in new and old[path] != new[path]]
    missing, added = [path for path in old if path not in new], [path for path in new if path not in old]
    print(f"{len(old)} files before, {len(new)} after, {len(old) - len(different) - len(missing)} equal")
    for kind, paths in (("different", different), ("missing", missing), ("added", added)):
        for path in paths[:SHOWN]:
            print(f"  {kind}: {path}")
        if len(paths) > SHOWN:
            print(f"  {kind}: {len(paths) - SHOWN} more")
    return 1 if different or missing else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

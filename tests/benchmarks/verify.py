"""Is one flipped byte found in a file of every kind below a root? `python -m tests.benchmarks verify`

A root with a file of every kind is made, and verified with one bit of one byte flipped, at PLACES places of each file.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from flows.verify import verify
from pipelines.errors import CheckFailed, WinnowError
from tests.every_kind import every_kind, flipped, make_root

PLACES = 12


def bench(data: Path | None) -> list[dict[str, object]]:
    """A row for each kind of file: flips, and how many `winnow verify --all` found, naming the file."""
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "root")
        make_root(root)
        begun = time.monotonic()
        answer = verify("latest", str(root), everything=True)
        seconds = time.monotonic() - begun
        for kind, path in every_kind(root):
            before = path.read_bytes()
            places = sorted({(len(before) - 1) * number // (PLACES - 1) for number in range(PLACES)})
            found = named = 0
            for place in places:
                path.write_bytes(flipped(path, place))
                try:
                    verify("latest", str(root), everything=True)
                except (CheckFailed, WinnowError) as error:
                    found += 1
                    named += path.name in str(error)
                path.write_bytes(before)
            rows.append({"file": kind, "bytes": len(before), "flips": len(places), "found": found, "named": named})
    total = {"file": f"all ({answer.files} files, verified in {seconds:.2f} s)"}
    totals = {name: sum(int(str(row[name])) for row in rows) for name in ("bytes", "flips", "found", "named")}
    return [*rows, {**total, **totals}]

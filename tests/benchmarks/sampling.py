"""The draw: rows per second, and the bytes that a row costs while a corpus is drawn, packed and exported.

A corpus of upstream's shape is made of lengths alone: most rows in files that a cap thins out, some in files taken
whole, so that an epoch draws 11 % of the rows and four epochs 31 % of them (upstream: 594 M rows, 11 % and 29 %). The
real plan of the pack step, and the real export, run over it in a process of their own, small and large; the difference
in peak memory is what a row costs. Memory is what the process itself holds; pages of mapped files are beside it, and
the kernel takes them back when it needs them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipelines.bpe.train import count_words
from pipelines.export.hrm_text import export_tokens
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest, Part
from pipelines.ledger.run import Target
from pipelines.recipe import Group, Sampling
from pipelines.steps.pack import FILE_SLOTS, _plan, group_shards
from pipelines.steps.sampling import draw
from pipelines.steps.train_tokenizer import TOKENIZER, _fit
from tests.steps import plain_step

UPSTREAM_ROWS = 594_000_000
SETTINGS = Sampling(epochs=4, context=4097, groups=(Group(prefix="capped", max_per_file=10_000),))
FILE_ROWS = 140_000
WHOLE = 25  # every so many files, one that is taken whole
PLANS, EXPORTS = (16, 64), (2, 8)  # millions of rows


def bench(data: Path | None) -> list[dict[str, object]]:
    """Per measure: what, how much, and what it means for upstream's corpus."""
    files = [200_000] * 40 + [2_000_000] * 2
    rules = [Group(prefix="", max_per_file=5000)] * 40 + [Group(prefix="")] * 2
    start = time.process_time()
    drawn = sum(len(epoch) for epoch in draw(files, rules, 0, 4))
    speed = drawn / (time.process_time() - start) / 1e6
    rows: list[dict[str, object]] = [
        {"what": "draw", "value": speed, "unit": "M rows/s", "note": f"4 epochs of {sum(files):,} rows"}
    ]
    for what, sizes in (("plan", PLANS), ("export", EXPORTS)):
        small, large = (_measured(what, millions * 1_000_000) for millions in sizes)
        a_row = (large["peak"] - small["peak"]) / (large["rows"] - small["rows"])
        all_of_it = (large["base"] + a_row * UPSTREAM_ROWS) / (1 << 30)
        name = "plan of the packs" if what == "plan" else "export --format hrm-text"
        rows += [
            {
                "what": f"{name}, {large['rows'] / 1e6:.0f} M rows",
                "value": large["peak"] / (1 << 30),
                "unit": "GiB",
                "note": f"{large['drawn']:,} rows drawn in {SETTINGS.epochs} epochs, {large['unique'] * 100:.0f} % "
                f"of the rows; {large['seconds']:.0f} CPU seconds",
            },
            {"what": "  a row", "value": a_row, "unit": "bytes", "note": f"from {sizes[0]} M to {sizes[1]} M rows"},
            {"what": "  594 M rows, extrapolated", "value": all_of_it, "unit": "GiB", "note": "the limit is 24"},
        ]
    return rows


def _measured(what: str, rows: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.benchmarks.sampling", what, str(rows), folder]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


class _Peak:
    """The most anonymous memory of this process while the block runs, looked at a hundred times a second."""

    def __enter__(self) -> _Peak:
        self.base = self.peak = self._now()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.over.wait(0.01):
            self.peak = max(self.peak, self._now())

    @staticmethod
    def _now() -> int:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon:")))


def _names(rows: int) -> list[str]:
    count = rows // FILE_ROWS
    return [f"{'whole' if file % WHOLE == 0 else 'capped'}/file-{file:05d}" for file in range(count)]


def _lengths(file: int, longest: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(file)
    return tuple(rng.integers(2, longest, FILE_ROWS).astype(np.int32) for _ in range(2))  # type: ignore[return-value]


def _plan_of(rows: int, folder: str) -> dict[str, float]:
    paths = []
    for file, name in enumerate(_names(rows)):
        columns = [pa.RunEndEncodedArray.from_arrays(pa.array([FILE_ROWS], pa.int32()), pa.array([name]))]
        columns += [*_lengths(file, 240), pa.array(np.zeros(FILE_ROWS, np.bool_))]
        table = pa.table(columns, ["file", "instruction", "response", "held_out"])
        paths.append(storage.write_arrow(f"{folder}/measure-{file:05d}.arrow", table).path)
    groups = group_shards([FILE_ROWS] * len(paths))
    _plan(SETTINGS, 0, FILE_SLOTS, ((0, 1),), folder, paths[:1], Target(f"{folder}/first", 0))  # compiles the kernels
    start = time.process_time()
    with _Peak() as memory:
        part = _plan(SETTINGS, 0, FILE_SLOTS, groups, folder, paths, Target(f"{folder}/plan", 0))
    counts = {
        what: sum(value for name, value in part.counts.items() if name.endswith(f"/{what}"))
        for what in ("rows", "unique_rows", "drawn_rows")
    }
    return _said(memory, start, counts["rows"], counts["drawn_rows"], counts["unique_rows"] / counts["rows"])


def _export_of(rows: int, folder: str) -> dict[str, float]:
    parts = []
    for file, name in enumerate(_names(rows)):
        ids = pa.array([f"{name}/{row}" for row in range(FILE_ROWS)])
        lists = []
        for lengths in _lengths(file, 5):
            offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
            lists.append(pa.ListArray.from_arrays(offsets, pa.array(np.zeros(offsets[-1], np.uint16))))
        table = pa.table([ids, *lists], ["id", "instruction", "response"])
        written = storage.write_arrow(f"{folder}/tokens-{file:05d}.arrow", table)
        parts.append(Part(rows_in=FILE_ROWS, files={"tokens": (written,)}))
    words = storage.write_arrow(f"{folder}/words.arrow", count_words(pa.array(["a b", "c"])))
    trained = TOKENIZER.step({}), [_fit(512, (words.path,), Target(f"{folder}/tokenizer", 0))]
    tokens, tokenizer = (
        Manifest(
            step=step.name, key="0" * 16, code={}, parameters={}, parents=(), kept=step.type.kept, parts=tuple(made)
        )
        for step, made in ((plain_step("tokens", {}, kept="tokens"), parts), trained)
    )
    start = time.process_time()
    with _Peak() as memory:
        done = export_tokens(tokens, tokens, tokenizer, SETTINGS, 0, f"{folder}/out")
    stored = len(np.load(f"{folder}/out/tokens.npy", mmap_mode="r"))
    return _said(memory, start, FILE_ROWS * len(parts), done.rows, stored / (FILE_ROWS * len(parts) * 6))


def _said(memory: _Peak, start: float, rows: int, drawn: int, unique: float) -> dict[str, float]:
    numbers = {"peak": memory.peak, "base": memory.base, "rows": rows, "drawn": drawn, "unique": unique}
    return numbers | {"seconds": time.process_time() - start}


if __name__ == "__main__":
    made = (_plan_of if sys.argv[1] == "plan" else _export_of)(int(sys.argv[2]), sys.argv[3])
    print(json.dumps(made))

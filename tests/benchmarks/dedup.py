"""Duplicates: MB of text per second of CPU, and the ratios that matter, all on the same rows in one run.

The text is T0/P3 (prompts and completions, 60 MB) where it is at hand, else generated words. Peers run on a part of the
rows, so that each takes some seconds: datasketch 2.0 as its own documentation uses it (word 5-grams into
`update_batch`), and rensa, if it is installed (`pip install rensa`; for this bench only).
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj
from datasketch import MinHash

from dedup.buckets import Buckets
from dedup.exact import digest128
from dedup.minhash import band_keys, signatures
from dedup.pairs import compare_once
from dedup.probability import recall
from dedup.shingles import Shingles, shingle_hashes
from dedup.similarity import Sets, shingle_sets
from dedup.tokens import normalise, tokenize
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.manifest import Part
from pipelines.ledger.run import Run, Target
from pipelines.recipe import ExactDuplicates, NearDuplicates
from pipelines.records import RECORD
from pipelines.steps.duplicates.exact import drop_exact_duplicates
from pipelines.steps.duplicates.near import drop_near_duplicates
from tests.dedup.test_probability import every_pair
from tests.steps import keep, plain_step

PERMUTATIONS, NGRAM, REPEATS = 128, 5, 5
BUCKET = 100_000


def bench(data: Path | None) -> list[dict[str, object]]:
    """Rows of what was measured, its value and unit, and how many times the thing named in `ratio to` it is."""
    instruction, response = texts(data)
    text = pc.binary_join_element_wise(instruction, response, "\n")
    size = int(pc.sum(pc.binary_length(text)).as_py()) / 1e6
    shingles = shingle_hashes(text, NGRAM)
    signed = signatures(shingles, PERMUTATIONS)

    split = size / _seconds(lambda: tokenize(text))
    signing = size / _seconds(lambda: signatures(shingle_hashes(text, NGRAM), PERMUTATIONS))
    part = text.slice(0, max(1, len(text) // 20))
    ours = _megabytes(part) / _seconds(lambda: signatures(shingle_hashes(part, NGRAM), PERMUTATIONS))
    sketch = _megabytes(part) / _seconds(functools.partial(_datasketch, part.to_pylist()), 1)
    rows = [
        _row("digest128 of the text", size / _seconds(lambda: digest128(text))),
        _row("normalise", size / _seconds(lambda: normalise(text))),
        _row("split into words and hash them", split),
        _row(f"text to {PERMUTATIONS} permutations", signing, "split and hash", signing / split),
        _row(f"text to {PERMUTATIONS} permutations, datasketch's rows", ours, "datasketch", ours / sketch),
        _row("datasketch 2.0", sketch),
    ]
    if importlib.util.find_spec("rensa"):
        rensa = _megabytes(part) / _seconds(functools.partial(_rensa, part.to_pylist()), 3)
        rows.append(_row("rensa", rensa))
        rows.append(_row(f"text to {PERMUTATIONS} permutations, rensa's rows", ours, "rensa", ours / rensa))
    rows += [
        _row("band keys, 14 x 8", size / _seconds(lambda: band_keys(signed.values, 14, 8))),
        _row("shingle sets", size / _seconds(lambda: shingle_sets(shingles))),
        *(_bucket(slot) for slot in (4, 10, 20)),
        *_steps(instruction, response, size),
    ]
    if importlib.util.find_spec("rensa"):
        few = text.slice(0, len(text) // 4)
        deduplicated = _megabytes(few) / _seconds(functools.partial(_rensa_deduplicator, few.to_pylist()), 1)
        whole = float(str(rows[-1]["value"]))
        rows.append(_row("rensa's deduplicator, a quarter of the rows", deduplicated))
        rows.append(_row("both steps, verified, disk to disk", whole, "rensa's deduplicator", whole / deduplicated))
    return [*rows, *_recall(text)]


def _row(what: str, value: float, ratio_to: str = "", ratio: float | str = "", unit: str = "MB/s") -> dict[str, object]:
    return {"what": what, "value": value, "unit": unit, "ratio": ratio, "ratio to": ratio_to}


def _seconds(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """The median CPU time of `work`, after a first call that compiles; once and without it for repeats = 1."""
    times = []
    for turn in range(repeats + (repeats > 1)):
        started = time.process_time()
        work()
        if turn or repeats == 1:
            times.append(time.process_time() - started)
    return statistics.median(times)


def _megabytes(text: pa.StringArray) -> float:
    return float(pc.sum(pc.binary_length(text)).as_py()) / 1e6


def texts(data: Path | None) -> tuple[pa.StringArray, pa.StringArray]:
    if data is not None:
        table = pj.read_json(data / "sources/t0_p3_50k.jsonl.gz")
        prompt, completion = (table[name].combine_chunks() for name in ("prompt", "completion"))
        return prompt, completion
    rng = np.random.default_rng(0)
    words = np.array([f"{'abcdefghijklmnopqrstuvwxyz'[n % 26]}{n:x}" for n in range(30_000)])
    lengths = rng.integers(20, 300, 20_000)
    picked = words[(rng.pareto(1.1, lengths.sum()) * 20).astype(np.int64) % len(words)]
    rows = [" ".join(row) for row in np.split(picked, np.cumsum(lengths)[:-1])]
    return pa.array(rows), pa.array([f"answer {n % 50}" for n in range(len(rows))])


def _grams(text: str) -> list[str]:
    words = text.lower().split()
    return [" ".join(words[i : i + NGRAM]) for i in range(len(words) - NGRAM + 1)]


def _datasketch(texts: Sequence[str]) -> None:
    first = MinHash(PERMUTATIONS)
    for text in texts:
        sketch = first.copy()
        sketch.update_batch([gram.encode() for gram in _grams(text)])


def _rensa(texts: Sequence[str]) -> None:
    made = importlib.import_module("rensa").RMinHash
    for text in texts:
        made(num_perm=PERMUTATIONS, seed=1).update(_grams(text))


def _rensa_deduplicator(texts: Sequence[str]) -> None:
    """As rensa's documentation uses it: in memory, on signatures alone."""
    rensa = importlib.import_module("rensa")
    keeper = rensa.RMinHashDeduplicator(threshold=0.8, num_perm=PERMUTATIONS, use_lsh=True, num_bands=16, seed=42)
    for number, text in enumerate(texts):
        sketch = rensa.RMinHash(num_perm=PERMUTATIONS, seed=42)
        sketch.update(_grams(text))
        keeper.add(str(number), sketch)


def _recall(text: pa.StringArray) -> list[dict[str, object]]:
    """Of all pairs of 20,000 rows, by brute force: how many of each Jaccard meet in a band, and the curve's word.

    The mean of eight seeds: pairs of one template share their fate under one.
    """
    chosen = np.random.default_rng(0).choice(len(text), min(len(text), 20_000), replace=False)
    sets = shingle_sets(shingle_hashes(text.take(pa.array(chosen)), NGRAM))
    pairs, values = every_pair(sets, 0.7)
    met = np.zeros(len(pairs))
    for seed in range(1, 9):
        keys = band_keys(signatures(Shingles(sets.hash, sets.offsets), 112, seed).values, 14, 8)
        met += (keys[pairs[:, 0]] == keys[pairs[:, 1]]).any(axis=1) / 8
    expected = np.array([recall(value, 14, 8) for value in values.tolist()])
    rows = []
    for low, high in ((0.7, 0.75), (0.75, 0.8), (0.8, 0.85), (0.85, 0.9), (0.9, 0.95), (0.95, 1.01), (0.7, 1.01)):
        within = (values >= low) & (values < high)
        if within.any():
            name = f"recall of 14 x 8, Jaccard {low:.2f} to {min(high, 1):.2f}, {within.sum():,} pairs"
            rows.append(_row(name, float(met[within].mean()), "S-curve", float(expected[within].mean()), "share"))
    return rows


def _bucket(slot: int) -> dict[str, object]:
    """One bucket of 100,000 rows of a template of 100 shingles, `slot` of them each row's own."""
    core = np.arange(100 - slot, dtype=np.uint32)
    own = 1000 + np.arange(BUCKET * slot, dtype=np.uint32).reshape(BUCKET, slot)
    values = np.concatenate([np.broadcast_to(core, (BUCKET, len(core))), own], axis=1)
    sets = Sets(values.reshape(-1), np.arange(BUCKET + 1, dtype=np.int64) * 100)
    groups = Buckets(np.arange(BUCKET), np.array([0, BUCKET]))
    compare_once(Buckets(np.arange(100), np.array([0, 100])), sets, (0.8,))
    started = time.process_time()
    _, compared = compare_once(groups, sets, (0.8,))
    seconds = time.process_time() - started
    return _row(
        f"a bucket of 100,000, {slot}% of each row its own", seconds, "pairs compared per row", compared / BUCKET, "s"
    )


def _write(table: pa.Table, target: Target) -> Part:
    return keep(table, target)


def _steps(instruction: pa.StringArray, response: pa.StringArray, size: float) -> list[dict[str, object]]:
    """Both steps of the pipeline in one process, Parquet to selections, as recipes run them."""
    count = len(instruction)
    fixed = [pa.array([value] * count) for value in ("t0", "direct")]
    ids = pa.array([f"t0/p3/{n}" for n in range(count)])
    columns = [ids, *fixed, instruction, response, digest128(instruction, response)]
    table = pa.table(columns, schema=RECORD)
    seconds: list[tuple[float, float]] = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as root:
            run = Run(root, LocalEngine(1))
            halves = [table.slice(0, count // 2), table.slice(count // 2)]
            records = run.do(plain_step("given", {}), lambda context, pieces=halves: context.map(_write, pieces))
            started = time.process_time()
            unique = drop_exact_duplicates(run, records, ExactDuplicates(), {}, as_text=False)
            between = time.process_time()
            made = drop_near_duplicates(run, unique, NearDuplicates(preset="fineweb"), {}, as_text=False)
            seconds.append((between - started, time.process_time() - between))
    exact, near = (statistics.median(times) for times in zip(*seconds, strict=True))
    dropped = json.dumps({**unique.counts, **made.counts})
    return [
        _row("step: exact duplicates", size / exact),
        _row("step: near duplicates, fineweb at 0.8", size / near),
        _row("both steps", size / (exact + near), "dropped", dropped),
    ]

"""Winnow beside what people use: the same rows, the same run, CPU seconds of one process.

Duplicates: our two steps, Parquet to Parquet with every pair verified, beside rensa's deduplicator and the four stages
of datatrove (14 x 8, word 5-grams; spaCy's English words, as it ships), both of which get their texts as Python strings
in memory and write no corpus. Contamination: our scan beside datatrove's n-gram filter at 13 words, on the same rows
and evaluation sets; its index is written here, by its own normalisation and hashes, since its indexer wants lighteval.
Its hashes are sha1, its other choice: the calls to xxhash that it ships with fail under xxhash 4, which Winnow uses.

What is not installed is left out, and the table says so: pip install -c constraints.txt -e '.[bench]'.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup.exact import digest128
from filters.contamination.index import build_index
from filters.contamination.rules import classify_hits
from filters.contamination.scan import scan_texts
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.manifest import Part
from pipelines.ledger.run import Run, Target
from pipelines.recipe import BenchmarkSpec, ExactDuplicates, NearDuplicates
from pipelines.records import RECORD
from pipelines.steps.benchmark_index import benchmark_items
from pipelines.steps.duplicates.exact import drop_exact_duplicates
from pipelines.steps.duplicates.near import drop_near_duplicates
from tests.benchmarks.dedup import texts as corpus
from tests.steps import keep, plain_step

Row = dict[str, object]
PERMUTATIONS, NGRAM, THRESHOLD = 128, 5, 0.8
SETS = {"gsm8k": "gsm8k_test.jsonl", "arc_challenge": "arc_challenge_test.json", "math": "math_test.parquet"}
DATATROVE_ROWS = 6_000
"""Rows that datatrove gets, spread over the corpus: some 6 MB, 20 s of its time twice; ours is timed on these too."""
PLANTED = 300


def bench(data: Path | None) -> list[Row]:
    """Rows of what was measured, its value and unit, and how many times the thing named in `ratio to` it is."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    instruction, response = corpus(data)
    step = max(1, len(instruction) // DATATROVE_ROWS)
    some = pa.array(np.arange(0, len(instruction), step))
    few = (instruction.take(some), response.take(some))
    rows = [*_rensa(instruction, response), *_datatrove_minhash(*few)]
    benchmarks = (
        [
            (name, benchmark_items(BenchmarkSpec(name=name, path=f"{data}/benchmarks/{file}")))
            for name, file in SETS.items()
        ]
        if data is not None
        else [("generated", benchmark_items(BenchmarkSpec(name="generated", rows=2000)))]
    )
    return [*rows, *_datatrove_ngrams(benchmarks, *few)]


def _row(what: str, value: float | str, unit: str = "MB/s", ratio: float | str = "", ratio_to: str = "") -> Row:
    return {"what": what, "value": value, "unit": unit, "ratio": ratio, "ratio to": ratio_to}


def _missing(name: str) -> list[Row]:
    return [_row(name, "not installed", "", "", "pip install -c constraints.txt -e '.[bench]'")]


def _installed(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) is not None for module in modules)


def _seconds(work: Callable[[], object], repeats: int = 1) -> float:
    times = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return statistics.median(times)


def _joined(instruction: pa.StringArray, response: pa.StringArray) -> list[str]:
    joined: list[str] = pc.binary_join_element_wise(instruction, response, "\n").to_pylist()
    return joined


# Duplicates


def _ours(instruction: pa.StringArray, response: pa.StringArray, repeats: int) -> tuple[float, int]:
    """Seconds of both steps, Parquet to Parquet in one process, and the rows dropped."""
    count = len(instruction)
    fixed = [pa.array([value] * count) for value in ("t0", "direct")]
    ids = pa.array([f"t0/p3/{n}" for n in range(count)])
    table = pa.table([ids, *fixed, instruction, response, digest128(instruction, response)], schema=RECORD)
    times, dropped = [], 0
    for _ in range(repeats + 1):  # the first compiles
        with tempfile.TemporaryDirectory() as root:
            run = Run(root, LocalEngine(1))
            records = run.do(plain_step("given", {}), lambda context: context.map(_write, [table]))
            started = time.process_time()
            unique = drop_exact_duplicates(run, records, ExactDuplicates(), {})
            made = drop_near_duplicates(
                run, unique, NearDuplicates(preset="fineweb", instruction=THRESHOLD, response=THRESHOLD), {}
            )
            times.append(time.process_time() - started)
            dropped = unique.rows_dropped + made.rows_dropped
    return statistics.median(times[1:]), dropped


def _write(table: pa.Table, target: Target) -> Part:
    return keep(table, target)


def _rensa(instruction: pa.StringArray, response: pa.StringArray) -> list[Row]:
    if not _installed("rensa"):
        return _missing("rensa's deduplicator")
    from rensa import RMinHashDeduplicator

    texts = _joined(instruction, response)
    size = sum(len(text.encode()) for text in texts) / 1e6
    kept = 0

    def work() -> None:
        nonlocal kept
        found = RMinHashDeduplicator(threshold=THRESHOLD, num_perm=PERMUTATIONS, use_lsh=True)
        kept = sum(found.add_pairs((str(number), _grams(text)) for number, text in enumerate(texts)))

    theirs = _seconds(work, 2)
    ours, dropped = _ours(instruction, response, 2)
    return [
        _row(f"rensa's deduplicator, {len(texts):,} rows ({len(texts) - kept:,} dropped)", size / theirs),
        _row(f"both steps of ours, the same rows ({dropped:,} dropped)", size / ours, "MB/s", theirs / ours, "rensa"),
    ]


def _grams(text: str) -> list[str]:
    words = text.lower().split()
    return [" ".join(words[i : i + NGRAM]) for i in range(max(1, len(words) - NGRAM + 1))]


def _documents(texts: Sequence[str]) -> Iterator[Any]:
    from datatrove.data import Document

    return (Document(text=text, id=str(number)) for number, text in enumerate(texts))


def _datatrove_minhash(instruction: pa.StringArray, response: pa.StringArray) -> list[Row]:
    if not _installed("datatrove", "spacy"):
        return _missing("datatrove's MinHash")
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.utils.hashing import HashConfig
    from datatrove.utils.logging import logger

    logger.remove()
    texts = _joined(instruction, response)
    size = sum(len(text.encode()) for text in texts) / 1e6
    hashing = HashConfig(hash_fc="sha1")
    config = MinhashConfig(n_grams=NGRAM, num_buckets=14, hashes_per_bucket=8, hash_config=hashing)
    times: dict[str, float] = {}
    kept = 0
    with tempfile.TemporaryDirectory() as folder:

        def buckets() -> None:
            for bucket in range(config.num_buckets):
                finder = MinhashDedupBuckets(f"{folder}/signatures", f"{folder}/pairs", config=config)
                finder.run(None, bucket, config.num_buckets)

        def removal() -> None:
            nonlocal kept
            kept = sum(1 for _ in MinhashDedupFilter(f"{folder}/removals").run(_documents(texts), 0, 1))

        signing = MinhashDedupSignature(f"{folder}/signatures", config=config)
        signing.run(_documents(texts[:5]), 0, 1)  # loads its words
        times["signatures"] = _seconds(lambda: signing.run(_documents(texts), 0, 1))
        times["buckets"] = _seconds(buckets)
        times["clusters"] = _seconds(
            lambda: MinhashDedupCluster(f"{folder}/pairs", f"{folder}/removals", config=config).run(None, 0, 1)
        )
        times["filter"] = _seconds(removal)
    theirs = sum(times.values())
    ours, dropped = _ours(instruction, response, 3)
    stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in times.items())
    return [
        _row(f"datatrove's four stages, {len(texts):,} rows ({len(texts) - kept:,} dropped; {stages})", size / theirs),
        _row(
            f"both steps of ours, the same rows ({dropped:,} dropped)", size / ours, "MB/s", theirs / ours, "datatrove"
        ),
    ]


# Contamination


def _datatrove_ngrams(
    benchmarks: Sequence[tuple[str, pa.Table]], instruction: pa.StringArray, response: pa.StringArray
) -> list[Row]:
    if not _installed("datatrove", "spacy"):
        return _missing("datatrove's n-gram decontamination")
    from datatrove.pipeline.decont import NGramsDecontConfig, NGramsDecontFilter
    from datatrove.utils.hashing import HashConfig, create_hash_func
    from datatrove.utils.logging import logger
    from datatrove.utils.text import ngrams, simplify_text
    from datatrove.utils.word_tokenizers import load_word_tokenizer

    logger.remove()
    config = NGramsDecontConfig(n_grams=13, find_query_ngrams=True, hash_config=HashConfig(hash_fc="sha1"))
    words, hashed = load_word_tokenizer("en"), create_hash_func(config.hash_config)
    texts = _joined(instruction, response)
    size = sum(len(text.encode()) for text in texts) / 1e6
    questions = [question for _, table in benchmarks for question in table["question"].to_pylist()]
    with tempfile.TemporaryDirectory() as folder:

        def write_index() -> None:
            for name, table in benchmarks:
                grams = {
                    hashed(" ".join(gram))
                    for question in table["question"].to_pylist()
                    for gram in ngrams(words.word_tokenize(simplify_text(question, config.norm_config)), config.n_grams)
                }
                np.array(list(grams), config.hash_config.np_descr).tofile(f"{folder}/{name}.index.hashes")

        their_index = _seconds(write_index)
        peer = NGramsDecontFilter(folder, config)
        planted = _planted(questions)
        found = sum(peer.filter(document) is not True for document in _documents(planted))  # loads its index
        theirs = _seconds(lambda: [peer.filter(document) for document in _documents(texts)])
    index = build_index(benchmarks)
    our_index = _seconds(lambda: build_index(benchmarks))
    none = np.empty(0, np.uint64)

    def ours(asked: pa.StringArray, answered: pa.StringArray) -> pa.Table:
        return classify_hits(index, scan_texts(index, asked, answered).hits, "ngram13", none)

    ours(instruction, response)
    seconds = _seconds(lambda: ours(instruction, response), 3)
    hits = ours(pa.array(planted), pa.array([""] * len(planted)))
    rows_found = len(set(hits.filter(pc.equal(hits["class"], "test_leak"))["row"].to_pylist()))
    return [
        _row(f"datatrove's index of {len(questions):,} items", their_index, "s"),
        _row("our index of the same", our_index, "s", their_index / our_index, "datatrove, less time"),
        _row(f"datatrove's n-gram filter, {len(texts):,} rows", size / theirs),
        _row("our scan and rules, the same rows", size / seconds, "MB/s", theirs / seconds, "datatrove"),
        _row(f"datatrove: {len(planted)} items planted verbatim in prose, found", found / len(planted), "share"),
        _row("ours: the same", rows_found / len(planted), "share"),
    ]


def _planted(questions: Sequence[str]) -> list[str]:
    """Texts of prose with one question each in the middle, of every length."""
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(questions), min(PLANTED, len(questions)), replace=False)
    before = "The keeper of the archive wrote this down on a winter evening, and nobody asked her why. "
    after = " Then she closed the book and went to see whether the ferry had come in."
    return [f"{before}{questions[number]}{after}" for number in chosen]


if __name__ == "__main__":
    folder = Path("../shared/data")
    print(json.dumps(bench(folder if folder.is_dir() else None), indent=1))

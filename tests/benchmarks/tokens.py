"""Tokens: encoding against Hugging Face's library with ids compared, the draw, and how full packs are."""

from __future__ import annotations

import functools
import gzip
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from pipelines import storage
from pipelines.engine import LocalEngine
from pipelines.manifest import Manifest, Part, Step
from pipelines.pack import pack
from pipelines.recipe import Sampling, TokenizerSpec
from pipelines.records import RAW, conform
from pipelines.run import Run, Target
from pipelines.tokenization import load, tokenize, train_tokenizer

Result = TypeVar("Result")

ROWS_PER_SHARD = 20_000
REFERENCE_BYTES = 6_000_000  # Hugging Face's library is slow enough for this to be a fair sample


def bench(data: Path | None) -> list[dict[str, object]]:
    """Per measure: what, how much per CPU second of one core, and what it is compared with."""
    pairs = _real(data / "sources") if data is not None else _made(60_000)
    with tempfile.TemporaryDirectory() as root:
        return _encoding(Run(root, LocalEngine(1)), pairs)


def _encoding(run: Run, pairs: list[tuple[str, str]]) -> list[dict[str, object]]:
    starts = range(0, len(pairs), ROWS_PER_SHARD)
    tables = [_records(index, pairs[start : start + ROWS_PER_SHARD]) for index, start in enumerate(starts)]
    records = run.do(Step("records", 1, {}), lambda desk: desk.map(_write, tables))
    size = sum(len(text.encode()) for text in itertools.chain.from_iterable(pairs))
    tokenizer, training = _timed(lambda: train_tokenizer(run, records, TokenizerSpec(vocab_size=65536)))
    bpe = load(tokenizer.shards[0])

    reference = Tokenizer.from_file(tokenizer.shards[0].path)
    reference.encode_special_tokens = True
    texts = list(itertools.chain.from_iterable(pairs))
    np.random.default_rng(0).shuffle(texts)
    sample = texts[: REFERENCE_BYTES * len(texts) // size]
    sampled = sum(len(text.encode()) for text in sample)
    theirs, ours, same = [], [], 0
    for _ in range(3):  # by turns, so that what else runs on the machine slows both
        want, seconds = _timed(
            lambda: [one.ids for one in reference.encode_batch_fast(sample, add_special_tokens=False)]
        )
        theirs.append(sampled / seconds)
        got, seconds = _timed(lambda: [bpe.encode(text) for text in sample])
        ours.append(sampled / seconds)
        same = sum(one == other for one, other in zip(want, got, strict=True))
    tokens, step = _timed(lambda: tokenize(run, records, tokenizer))
    fast, slow = statistics.median(ours), statistics.median(theirs)
    rows: list[dict[str, object]] = [
        {
            "what": "train, 65,536 ids",
            "per core": size / training / 1e6,
            "unit": "MB/s",
            "note": f"{size / 1e6:.0f} MB, {bpe.vocab_size} ids",
        },
        {"what": "encode, tokenizers", "per core": slow / 1e6, "unit": "MB/s", "note": f"{len(sample)} texts"},
        {
            "what": "encode, winnow (tiktoken)",
            "per core": fast / 1e6,
            "unit": "MB/s",
            "note": f"{fast / slow:.1f} times; {same} of {len(sample)} texts with equal ids",
        },
        {
            "what": "tokens step, whole",
            "per core": size / step / 1e6,
            "unit": "MB/s",
            "note": f"{tokens.rows_kept} rows, reading and writing included",
        },
    ]
    return [*rows, *_packing(run, tokens, tokenizer)]


def _packing(run: Run, tokens: Manifest, tokenizer: Manifest) -> list[dict[str, object]]:
    rows = []
    pack(run, tokens, tokenizer, Sampling(epochs=1, context=300), 0)  # compiles the kernels
    for context in (513, 4097):
        packs, seconds = _timed(functools.partial(pack, run, tokens, tokenizer, Sampling(epochs=4, context=context), 0))
        counts = packs.counts
        full = counts["slots_used"] / counts["slots"]
        note = f"{full:.2%} of slots used, {counts['sequences']} sequences, {counts['packs']} packs"
        rows.append(
            {
                "what": f"pack, context {context}",
                "per core": counts["slots_used"] / seconds / 1e6,
                "unit": "M tokens/s",
                "note": note,
            }
        )
    return rows


def _timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """What `work` returns, and the CPU seconds of all its threads."""
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def _write(table: pa.Table, target: Target) -> Part:
    return Part(rows_in=table.num_rows, shards=(storage.write_parquet(target.path(), table),))


def _records(index: int, pairs: list[tuple[str, str]]) -> pa.Table:
    count = len(pairs)
    columns = [
        range(count),
        [""] * count,
        ["direct"] * count,
        [one for one, _ in pairs],
        [two for _, two in pairs],
        [None] * count,
    ]
    raw = pa.table([pa.array(list(column), field.type) for column, field in zip(columns, RAW, strict=True)], schema=RAW)
    return conform(raw, "bench", f"part-{index}").kept


def _real(sources: Path) -> list[tuple[str, str]]:
    with (sources / "gsm8k_train.jsonl").open(encoding="utf-8") as lines:
        pairs = [(row["question"], row["answer"]) for row in map(json.loads, lines)]
    with gzip.open(sources / "t0_p3_50k.jsonl.gz", "rt", encoding="utf-8") as lines:
        return pairs + [(row["prompt"], row["completion"]) for row in map(json.loads, lines)]


def _made(rows: int) -> list[tuple[str, str]]:
    """Sentences of invented words, their frequencies falling as words' do."""
    rng = np.random.default_rng(0)
    syllables = np.array(["ka", "to", "mi", "ren", "sol", "du", "pex", "an", "or", "ith", "ve", "lu"])
    words = ["".join(rng.choice(syllables, rng.integers(1, 5))) for _ in range(20_000)]
    chance = 1 / np.arange(1, len(words) + 1)
    drawn = iter(rng.choice(len(words), rows * 80, p=chance / chance.sum()).tolist())
    return [
        (" ".join(words[next(drawn)] for _ in range(60)), " ".join(words[next(drawn)] for _ in range(20)))
        for _ in range(rows)
    ]

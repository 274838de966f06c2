"""Tokens: every row of the real sources encoded by Winnow and by Hugging Face's library, ids compared; how full packs
are."""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.manifest import Manifest, Part
from pipelines.ledger.run import Run, Target
from pipelines.recipe import Sampling, TokenizerSpec
from pipelines.recipe import load as load_recipe
from pipelines.records import RAW, conform
from pipelines.steps.encoding import CHUNK_ROWS, load
from pipelines.steps.ingest import ingest
from pipelines.steps.pack import pack
from pipelines.steps.tokenize import tokenize
from pipelines.steps.train_tokenizer import train_tokenizer
from tests.steps import keep, plain_step

Result = TypeVar("Result")

ROWS_PER_SHARD = 20_000
RECIPE = Path(__file__).parents[2] / "pipelines" / "recipes" / "hrm_text_mini.yaml"
"""It reads every real source."""


def bench(data: Path | None) -> list[dict[str, object]]:
    """Per measure: what, how much per CPU second of one core, and what it is compared with."""
    with tempfile.TemporaryDirectory() as root:
        run = Run(root, LocalEngine(1))
        records = _made(run) if data is None else _real(run, data)
        size = sum(_bytes(table) for table in _tables(records))
        tokenizer, training = _timed(lambda: train_tokenizer(run, records, TokenizerSpec(vocab_size=65536)))
        found = load(tokenizer.file("tokenizer")).vocab_size
        note = f"{size / 1e6:.0f} MB, {found} ids; what it reads of a source is bounded"
        rows = [_row("train, 65,536 ids", size / training / 1e6, "MB/s", note)]
        rows += _encoding(records, tokenizer, size)
        tokens, step = _timed(lambda: tokenize(run, records, tokenizer))
        note = f"{tokens.rows_kept} rows, reading and writing included"
        rows.append(_row("tokens step, whole", size / step / 1e6, "MB/s", note))
        return [*rows, *_packing(run, tokens, tokenizer)]


def _encoding(records: Manifest, tokenizer: Manifest, size: int) -> list[dict[str, object]]:
    """Every text of every row by both libraries, by turns, so that what else runs on the machine slows both."""
    bpe = load(tokenizer.file("tokenizer"))
    reference = Tokenizer.from_file(tokenizer.file("tokenizer").path)
    reference.encode_special_tokens = True
    texts = theirs = ours = same = 0.0
    for table in _tables(records):
        for batch in table.to_batches(CHUNK_ROWS):
            part = [text for column in batch.columns for text in column.to_pylist()]
            encode = functools.partial(reference.encode_batch_fast, part, add_special_tokens=False)
            want, seconds = _timed(lambda encode=encode: [one.ids for one in encode()])  # type: ignore[misc]
            theirs += seconds
            got, seconds = _timed(lambda part=part: [bpe.encode(text) for text in part])  # type: ignore[misc]
            ours += seconds
            texts += len(part)
            same += sum(one == other for one, other in zip(want, got, strict=True))
    fast, slow = size / ours, size / theirs
    note = f"{fast / slow:.1f} times; {same:.0f} of {texts:.0f} texts with equal ids"
    return [
        _row("encode, tokenizers", slow / 1e6, "MB/s", f"{texts:.0f} texts, every one of {records.rows_kept} rows"),
        _row("encode, winnow (tiktoken)", fast / 1e6, "MB/s", note),
    ]


def _row(what: str, speed: float, unit: str, note: str) -> dict[str, object]:
    return {"what": what, "per core": speed, "unit": unit, "note": note}


def _packing(run: Run, tokens: Manifest, tokenizer: Manifest) -> list[dict[str, object]]:
    rows = []
    pack(run, tokens, tokens, tokenizer, Sampling(epochs=1, context=300), 0)  # compiles the kernels
    for context in (513, 4097):
        packs, seconds = _timed(
            functools.partial(pack, run, tokens, tokens, tokenizer, Sampling(epochs=4, context=context), 0)
        )
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


def _tables(records: Manifest) -> Iterator[pa.Table]:
    """The texts, shard by shard."""
    for shard in records.shards:
        yield storage.read_parquet(shard.path, ["instruction", "response"])


def _bytes(table: pa.Table) -> int:
    return sum(int(pc.sum(pc.binary_length(column)).as_py() or 0) for column in table.columns)


def _real(run: Run, data: Path) -> Manifest:
    """The records of every source that lies in the folder of real data."""
    with tempfile.TemporaryDirectory() as folder:
        text = RECIPE.read_text(encoding="utf-8").replace("../../../shared/data", str(data))
        recipe = Path(folder, "all.yaml")
        recipe.write_text(text, encoding="utf-8")
        return ingest(run, load_recipe(str(recipe)))


def _write(table: pa.Table, target: Target) -> Part:
    return keep(table, target)


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


def _made(run: Run) -> Manifest:
    """Sentences of invented words, their frequencies falling as words' do."""
    rows, rng = 60_000, np.random.default_rng(0)
    syllables = np.array(["ka", "to", "mi", "ren", "sol", "du", "pex", "an", "or", "ith", "ve", "lu"])
    words = ["".join(rng.choice(syllables, rng.integers(1, 5))) for _ in range(20_000)]
    chance = 1 / np.arange(1, len(words) + 1)
    drawn = iter(rng.choice(len(words), rows * 80, p=chance / chance.sum()).tolist())
    pairs = [
        (" ".join(words[next(drawn)] for _ in range(60)), " ".join(words[next(drawn)] for _ in range(20)))
        for _ in range(rows)
    ]
    starts = range(0, len(pairs), ROWS_PER_SHARD)
    tables = [_records(index, pairs[start : start + ROWS_PER_SHARD]) for index, start in enumerate(starts)]
    return run.do(plain_step("records", {}), lambda context: context.map(_write, tables))

"""Tokens: every row of the real sources encoded by Winnow, by tiktoken and by Hugging Face's library, ids compared; a
tokenizer trained by Winnow and by Hugging Face's trainer, files compared; how full packs are."""

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
from tokenizers import Tokenizer, normalizers

from dedup.columns import as_array
from pipelines.bpe.train import add_counts, count_words
from pipelines.bpe.words import normalized
from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.manifest import Manifest, Part
from pipelines.ledger.run import Run, Target
from pipelines.recipe import Sampling, TokenizerSpec
from pipelines.recipe import load as load_recipe
from pipelines.records import RAW, conform
from pipelines.steps.encoding import CHUNK_ROWS, encoder, load, token_type
from pipelines.steps.ingest import ingest
from pipelines.steps.pack import pack
from pipelines.steps.products import TOKENIZER_JSON
from pipelines.steps.tokenize import tokenize
from pipelines.steps.train_tokenizer import tokenizer_json, train_tokenizer
from tests.library_bpe import library_trained
from tests.steps import keep, plain_step

Result = TypeVar("Result")

ROWS_PER_SHARD = 20_000
VOCABULARY = 65_536
RECIPE = Path(__file__).parents[2] / "pipelines" / "recipes" / "hrm_text_mini.yaml"
"""It reads every real source."""


def bench(data: Path | None) -> list[dict[str, object]]:
    """Per measure: what, how much per CPU second of one core, and what it is compared with."""
    with tempfile.TemporaryDirectory() as root:
        run = Run(root, LocalEngine(1))
        records = _made(run) if data is None else _real(run, data)
        size = sum(_bytes(table) for table in _tables(records))
        count_words(normalized(pa.array(["e\u0301"]), str))  # loads the kernels, or compiles them
        tokenizer_json(add_counts(count_words(pa.array(["a a"]))), 512)
        rows, tokenizer = _training(run, records, size)
        rows += [*_start_up(tokenizer), *_encoding(records, tokenizer, size)]
        tokens, step = _timed(lambda: tokenize(run, records, tokenizer))
        note = f"{tokens.rows_kept} rows, reading and writing included"
        rows.append(_row("tokens step, whole", size / step / 1e6, "MB/s", note))
        return [*rows, *_packing(run, tokens, tokenizer)]


def _training(run: Run, records: Manifest, size: int) -> tuple[list[dict[str, object]], Manifest]:
    """Both trainers on every text of every row, and the step, which takes a sample of each source."""
    theirs, slow = _timed(lambda: library_trained(_texts(records), VOCABULARY))
    normalize = normalizers.NFC().normalize_str
    columns = [as_array(column) for table in _tables(records) for column in table.columns]
    parts, counting = _timed(lambda: [count_words(normalized(column, normalize)) for column in columns])
    counted, adding = _timed(lambda: add_counts(pa.concat_tables(parts)))
    ours, learning = _timed(lambda: tokenizer_json(counted, VOCABULARY))
    fast = counting + adding + learning
    same = "the same file" if ours == theirs else "ANOTHER FILE"
    spent = f"counting {counting:.2f} s, which shards do in parallel; adding {adding:.2f} s; merging {learning:.2f} s"
    words = f"{int(pc.sum(counted['count']).as_py()):,} words, {counted.num_rows:,} distinct"
    tokenizer, step = _timed(lambda: train_tokenizer(run, records, TokenizerSpec(vocab_size=VOCABULARY)))
    return [
        _row("train, tokenizers", size / slow / 1e6, "MB/s", f"{VOCABULARY:,} ids, {size / 1e6:.0f} MB: {slow:.1f} s"),
        _row("train, winnow", size / fast / 1e6, "MB/s", f"{slow / fast:.1f} times; {same}; {words}; {spent}"),
        _row("tokenizer step, whole", size / step / 1e6, "MB/s", f"{step:.1f} s, with reading and checks; of a sample"),
    ], tokenizer


def _texts(records: Manifest) -> Iterator[str]:
    for table in _tables(records):
        for column in table.columns:
            yield from column.to_pylist()


def _start_up(tokenizer: Manifest) -> list[dict[str, object]]:
    file = tokenizer.file(TOKENIZER_JSON)
    data = storage.read_bytes(file.path)
    encoder(data, file.path)
    _, again = _timed(lambda: encoder(data, file.path))
    _, theirs = _timed(lambda: Tokenizer.from_str(data.decode()))
    fresh = encoder(data, file.path)
    _, first = _timed(lambda: fresh.encode("a"))
    note = f"once a worker; {theirs:.2f} s of it as Hugging Face's library takes; first text {first * 1000:.0f} ms"
    return [_row("load the encoder", again, "s", note)]


def _encoding(records: Manifest, tokenizer: Manifest, size: int) -> list[dict[str, object]]:
    """Every text of every row by three encoders, by turns, so that what else runs on the machine slows all."""
    bpe = load(tokenizer.file(TOKENIZER_JSON))
    reference = Tokenizer.from_file(tokenizer.file(TOKENIZER_JSON).path)
    reference.encode_special_tokens = True
    bpe.other.encode("a")  # builds what it needs on its first text
    seconds = dict.fromkeys(("tokenizers", "tiktoken", "winnow"), 0.0)
    same = dict.fromkeys(("tiktoken", "winnow"), 0)
    texts = 0
    for table in _tables(records):
        for batch in table.to_batches(CHUNK_ROWS):
            for column in batch.columns:
                part = column.to_pylist()
                encode = functools.partial(reference.encode_batch_fast, part, add_special_tokens=False)
                want, spent = _timed(lambda encode=encode: [one.ids for one in encode()])  # type: ignore[misc]
                seconds["tokenizers"] += spent
                kind = token_type(bpe.vocab_size)
                for name, work in (
                    ("tiktoken", functools.partial(bpe.other.encode_column, column, kind)),
                    ("winnow", functools.partial(bpe.encode_column, column)),
                ):
                    (ids, lengths), spent = _timed(work)
                    seconds[name] += spent
                    got = np.split(ids, np.cumsum(lengths)[:-1])
                    same[name] += sum(one == other.tolist() for one, other in zip(want, got, strict=True))
                texts += len(part)
    speed = {name: size / spent / 1e6 for name, spent in seconds.items()}
    notes = {
        name: f"{speed[name] / speed['tokenizers']:.1f} times; {same[name]} of {texts} texts with equal ids"
        for name in same
    }
    notes["tokenizers"] = f"{texts} texts, every one of {records.rows_kept} rows"
    notes["winnow"] += f"; {speed['winnow'] / speed['tiktoken']:.1f} times tiktoken"
    return [_row(f"encode, {name}", speed[name], "MB/s", notes[name]) for name in speed]


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

"""Taking a corpus elsewhere: text for Hugging Face's `datasets` or as JSON lines, tokens for upstream's trainer.

An export is a folder that is complete or absent: it is written beside its place and renamed.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import datasets
import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from pipelines.errors import CheckFailed, InputError
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest
from pipelines.recipe import Sampling
from pipelines.records import CONDITIONS
from pipelines.steps.encoding import ENVELOPE, load, token_type
from pipelines.steps.pack import gather
from pipelines.steps.sampling import draw, held_out, measure, pool
from pipelines.steps.train_tokenizer import TOKENIZER_JSON


class Exported(NamedTuple):
    """An export that is done: its folder, the files in it (relative, sorted), and its rows (of text, or drawn)."""

    folder: str
    files: tuple[str, ...]
    rows: int


def export_corpus(records: Manifest, form: Literal["hf", "jsonl"], out: str) -> Exported:
    """Write the records of a step as a folder that others can read, one file per shard.

    hf: `data/train-00000-of-00012.parquet` ..., which `datasets.load_dataset(out)` loads or streams. jsonl:
    `train-00000-of-00012.jsonl` ..., one object a line with `condition`, `instruction` and `response` as upstream reads
    them. Both hold all columns but the digest. What is held at once is one shard.

    Errors: InputError where `out` is in use or is no local folder; CheckFailed where there is no record.
    """
    shards = [shard for shard in records.shards if shard.rows]
    if not shards:
        raise CheckFailed("there is no record to export")
    with _aside(out) as folder, _quiet():
        for index, shard in enumerate(shards):
            table = storage.read_parquet(shard.path).drop_columns(["digest"])
            dataset = datasets.Dataset(datasets.table.InMemoryTable(table))
            name = f"train-{index:05d}-of-{len(shards):05d}"
            if form == "hf":
                (folder / "data").mkdir(exist_ok=True)
                dataset.to_parquet(folder / "data" / f"{name}.parquet")
            else:
                dataset.to_json(folder / f"{name}.jsonl", lines=True, force_ascii=False)
    return _done(out, sum(shard.rows for shard in shards))


def export_hrm_text(tokens: Manifest, tokenizer: Manifest, settings: Sampling, seed: int, out: str) -> Exported:
    """Write the layout that upstream's trainer loads (HRM-Text's `dataset_new`): tokens, and where epochs' rows lie.

    tokens.npy: uint16 (uint32 from 65,537 ids on), the rows that some epoch trains on and no others; those held out for
    validation are not here. epoch_<k>/inst_start, inst_len, resp_start, resp_len .npy: int64 [rows trained on], in
    training order. metadata.json: tokenizer_info, vocab_size null (upstream derives it), max_seq_len = the context,
    total_length = mean tokens per epoch. tokenizer_info.json: the same again. tokenizer/: what `AutoTokenizer` loads;
    its absolute path stands in tokenizer_info, so an export that is moved needs that line changed. Held at once: some
    30 bytes per row of the corpus, 17 GiB for HRM-Text's 594 M (`docs/benchmarks`, sampling).

    Errors: InputError where `out` is in use or is no local folder; CheckFailed where there is no row to draw.
    """
    rows = pool([measure(storage.map_arrow(shard.path)) for shard in tokens.shards], settings)
    pa.default_memory_pool().release_unused()  # of the lengths, 8 bytes a row
    if not len(rows.row):
        raise CheckFailed("there is no row to export: none fits the context")
    control = load(tokenizer.file(TOKENIZER_JSON)).special.values()
    held = np.concatenate(
        [held_out(storage.map_arrow(shard.path), settings.validation, control) for shard in tokens.shards]
    )[rows.row]
    used = np.zeros(len(rows.row), np.bool_)
    for drawn in draw(rows.counts, rows.rules, seed, settings.epochs):
        used[drawn] = True
    used &= ~held
    # The rows used, in the order they lie in: each shard is read once, from front to back.
    order = np.flatnonzero(used)[np.argsort(rows.row[used], kind="stable")]
    lying = rows.row[order]
    sizes = rows.instruction[order].astype(np.int64) + rows.response[order]
    total = int(sizes.sum())
    number = np.cumsum(used, dtype=np.uint32 if len(used) < 1 << 32 else np.uint64)  # of a used row among them, from 1
    starts = np.empty(len(order), np.int64)
    starts[number[order] - 1] = np.cumsum(sizes) - sizes
    del used, sizes
    with _aside(out) as folder:
        vocab_size = load(tokenizer.file(TOKENIZER_JSON)).vocab_size
        written = np.lib.format.open_memmap(
            folder / "tokens.npy", mode="w+", dtype=token_type(vocab_size), shape=(total,)
        )
        base = place = 0
        for shard in tokens.shards:
            first, stop = np.searchsorted(lying, [base, base + shard.rows])
            here = order[first:stop]
            local = lying[first:stop].astype(np.int64) - base
            heads, tails = (column[here].astype(np.int64) for column in (rows.instruction, rows.response))
            part, _ = gather([shard.path], [shard.rows], local, heads, tails, vocab_size)
            written[place : place + len(part)] = part
            base, place = base + shard.rows, place + len(part)
        written.flush()
        del written
        del order, lying
        count = length = 0
        for epoch, drawn in enumerate(draw(rows.counts, rows.rules, seed, settings.epochs)):
            drawn = drawn[~held[drawn]]
            (folder / f"epoch_{epoch}").mkdir()
            start = starts[number[drawn] - 1]
            for name, column in (("inst", rows.instruction), ("resp", rows.response)):
                lengths = column[drawn].astype(np.int64)
                np.save(folder / f"epoch_{epoch}" / f"{name}_start.npy", start)
                np.save(folder / f"epoch_{epoch}" / f"{name}_len.npy", lengths)
                start += lengths  # a response lies behind its instruction
                length += int(lengths.sum())
            count += len(drawn)
        about = _write_tokenizer(tokenizer, settings, folder, _place(out) / "tokenizer")
        metadata = {
            "tokenizer_info": about,
            "vocab_size": None,
            "max_seq_len": settings.context,
            "total_length": round(length / settings.epochs),
        }
        (folder / "tokenizer_info.json").write_text(json.dumps(about, indent=2) + "\n")
        (folder / "metadata.json").write_text(json.dumps(metadata, indent=2) + "\n")
    return _done(out, count)


def _write_tokenizer(tokenizer: Manifest, settings: Sampling, folder: Path, final: Path) -> dict[str, object]:
    """The tokenizer as a folder, and what upstream wants to know of it; `final` is where the folder will lie."""
    bpe, data = load(tokenizer.file(TOKENIZER_JSON)), storage.read_bytes(tokenizer.file(TOKENIZER_JSON).path)
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "tokenizer.json").write_bytes(data)
    settings_of_it = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": ENVELOPE["boq"],
        "eos_token": ENVELOPE["eoa"],
        "pad_token": Tokenizer.from_str(data.decode()).id_to_token(bpe.special["pad"]),
        "model_max_length": settings.context - 1,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(settings_of_it, indent=2) + "\n")
    return {
        "tokenizer_path": str(final),
        **{name: ENVELOPE[name] for name in ("boq", "eoq", "eoa")},
        "condition_mapping": {name: ENVELOPE[name] for name in CONDITIONS},
        "vocab_size": bpe.vocab_size,
    }


@contextlib.contextmanager
def _aside(out: str) -> Iterator[Path]:
    """A new folder beside `out` that takes its place when the block ends well, and is gone when it does not."""
    if not storage.is_local(out):
        raise InputError(f"{out}: an export goes to a local folder; copy it from there")
    place = _place(out)
    if place.is_file() or (place.is_dir() and any(place.iterdir())):
        raise InputError(f"{out}: there is something here already; name another folder, or remove this one")
    folder = place.parent / f".{place.name}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        folder.mkdir(parents=True)
        yield folder
        folder.replace(place)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error})") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without a progress bar per file, which `datasets` would draw over the caller's own."""
    before = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            datasets.enable_progress_bars()


def _place(out: str) -> Path:
    return Path(out.removeprefix("file://")).resolve()


def _done(out: str, rows: int) -> Exported:
    place = _place(out)
    files = sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())
    return Exported(str(place), tuple(files), rows)

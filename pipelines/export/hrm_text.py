"""The layout that the trainer of HRM-Text loads (`dataset_new`): all tokens in one array, and the rows of each epoch.

    tokens.npy              uint16, or uint32 from 65,537 ids on: the rows that some epoch trains on, and no others;
                            rows held out for validation are left out
    epoch_<k>/inst_start    .npy, int64 [rows of the epoch], in training order: where a row's instruction starts in
              inst_len      tokens.npy and how many tokens it has; the same of its response
              resp_start
              resp_len
    metadata.json           tokenizer_info, vocab_size null (HRM-Text computes it), max_seq_len = the context,
                            total_length = mean tokens per epoch
    tokenizer_info.json     the same tokenizer_info
    tokenizer/              loaded by transformers' AutoTokenizer

tokenizer_info contains the absolute path of `tokenizer/`: change it when the export is moved.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from pipelines.errors import CheckFailed, WinnowError
from pipelines.export.export import Exported, exported, folder_of, new_folder
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.runs import RecordedRun
from pipelines.recipe import Sampling
from pipelines.records import CONDITIONS
from pipelines.steps.encoding import ENVELOPE, load, token_type
from pipelines.steps.pack import gather, measure_shard
from pipelines.steps.products import TOKENIZER_JSON
from pipelines.steps.sampling import draw, held_out, pool
from pipelines.steps.token_rows import TokenShard, read_lengths, read_tokens
from pipelines.steps.tokenize import TOKENS
from pipelines.steps.train_tokenizer import TOKENIZER


def export(run: RecordedRun, out: str) -> Exported:
    """Write the tokens of a run and its epochs. Raises: as `export.Export`."""
    tokens, tokenizer = run.step(TOKENS.name), run.step(TOKENIZER.name)
    if tokens is None or tokenizer is None:
        raise WinnowError(f"run {run.id} has no tokens: a scan ends with text; export it as hf or jsonl")
    settings = run.info["settings"]
    sampling = Sampling.model_validate(settings["sampling"])
    return export_tokens(run.records, tokens, tokenizer, sampling, settings["seed"], out)


def export_tokens(
    records: Manifest, tokens: Manifest, tokenizer: Manifest, settings: Sampling, seed: int, out: str
) -> Exported:
    """Write the layout from the corpus, its tokens step, its tokenizer step and the sampling of a recipe.

    Takes about 30 bytes of memory per row of the corpus: 17 GiB for the 594 M rows of HRM-Text (`docs/benchmarks`,
    sampling).

    Raises: as `export.Export`.
    """
    file = tokenizer.file(TOKENIZER_JSON)
    bpe = load(file)
    shards = [*itertools.starmap(TokenShard, zip(tokens.shards, records.shards, strict=True))]
    measured, held = [], []
    for shard in shards:
        lengths = read_lengths(shard.tokens, bpe.special.values())
        measured.append(measure_shard(shard, lengths, settings, seed)[0])
        held.append(held_out(lengths, settings.validation))
    rows = pool(measured, settings)
    del measured
    pa.default_memory_pool().release_unused()  # memory of the measured lengths, 8 bytes per row
    if not len(rows.row):
        raise CheckFailed("there is no row to export: none fits the context")
    validation = np.concatenate(held)[rows.row]
    used = np.zeros(len(rows.row), np.bool_)
    for drawn in draw(rows.counts, rows.rules, seed, settings.epochs):
        used[drawn] = True
    used &= ~validation
    # The used rows in the order of the shards, so that each shard is read once, from front to back.
    order = np.flatnonzero(used)[np.argsort(rows.row[used], kind="stable")]
    corpus_row = rows.row[order]
    sizes = rows.instruction[order].astype(np.int64) + rows.response[order]
    total = int(sizes.sum())
    # The number of each used row among them, from 1; and by this number, where the row starts in tokens.npy.
    number = np.cumsum(used, dtype=np.uint32 if len(used) < 1 << 32 else np.uint64)
    starts = np.empty(len(order), np.int64)
    starts[number[order] - 1] = np.cumsum(sizes) - sizes
    del used, sizes
    with new_folder(out) as folder:
        stored = np.lib.format.open_memmap(
            folder / "tokens.npy", mode="w+", dtype=token_type(bpe.vocab_size), shape=(total,)
        )
        first_row = first_token = 0
        for shard in shards:
            begin, end = np.searchsorted(corpus_row, [first_row, first_row + shard.tokens.rows])
            in_shard = order[begin:end]
            shard_row = corpus_row[begin:end].astype(np.int64) - first_row
            instruction, response = (column[in_shard].astype(np.int64) for column in (rows.instruction, rows.response))
            wanted = np.zeros(shard.tokens.rows, np.bool_)
            wanted[shard_row] = True
            with storage.verified(shard):
                table = read_tokens(shard, file, wanted)
            part, _ = gather([table].__getitem__, [len(table)], shard_row, instruction, response, bpe.vocab_size)
            stored[first_token : first_token + len(part)] = part
            first_row, first_token = first_row + len(table), first_token + len(part)
        stored.flush()
        del stored, order, corpus_row
        count = length = 0
        for epoch, drawn in enumerate(draw(rows.counts, rows.rules, seed, settings.epochs)):
            drawn = drawn[~validation[drawn]]
            (folder / f"epoch_{epoch}").mkdir()
            start = starts[number[drawn] - 1]
            for name, column in (("inst", rows.instruction), ("resp", rows.response)):
                lengths = column[drawn].astype(np.int64)
                np.save(folder / f"epoch_{epoch}" / f"{name}_start.npy", start)
                np.save(folder / f"epoch_{epoch}" / f"{name}_len.npy", lengths)
                start += lengths  # a response follows its instruction
                length += int(lengths.sum())
            count += len(drawn)
        info = _write_tokenizer(tokenizer, settings, folder, folder_of(out) / "tokenizer")
        metadata = {
            "tokenizer_info": info,
            "vocab_size": None,
            "max_seq_len": settings.context,
            "total_length": round(length / settings.epochs),
        }
        (folder / "tokenizer_info.json").write_text(json.dumps(info, indent=2) + "\n")
        (folder / "metadata.json").write_text(json.dumps(metadata, indent=2) + "\n")
    return exported(out, count)


def _write_tokenizer(tokenizer: Manifest, settings: Sampling, folder: Path, final: Path) -> dict[str, object]:
    """Write `tokenizer/` and return tokenizer_info. final: the path of `tokenizer/` once the export is finished."""
    bpe, data = load(tokenizer.file(TOKENIZER_JSON)), storage.read_bytes(tokenizer.file(TOKENIZER_JSON).path)
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "tokenizer.json").write_bytes(data)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": ENVELOPE["boq"],
        "eos_token": ENVELOPE["eoa"],
        "pad_token": Tokenizer.from_str(data.decode()).id_to_token(bpe.special["pad"]),
        "model_max_length": settings.context - 1,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    return {
        "tokenizer_path": str(final),
        **{name: ENVELOPE[name] for name in ("boq", "eoq", "eoa")},
        "condition_mapping": {name: ENVELOPE[name] for name in CONDITIONS},
        "vocab_size": bpe.vocab_size,
    }

"""Megatron-LM's indexed dataset: the tokens of a run, one document per row.

    train.bin             token ids of all rows, each instruction followed by its response: uint16, or int32 where the
                          vocabulary is larger than 65,536
    train.idx             9 bytes `MMIDIDX\\0\\0`; version 1, uint64; dtype code, uint8 (8 is uint16, 4 is int32);
                          sequences n, uint64; document indices n + 1, uint64; tokens of each sequence, int32 [n];
                          where it starts in the .bin, in bytes, int64 [n]; document indices 0 ... n, int64 [n + 1]
    validation.bin, .idx  the rows held out for validation, if there are any
    tokenizer.json        the tokenizer, for the `tokenizers` library

All numbers are little-endian. Pass the path without suffix as `--train-data-path`, `--valid-data-path`.
"""

from __future__ import annotations

import itertools
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.errors import CheckFailed, WinnowError
from pipelines.export.export import Exported, exported, new_folder
from pipelines.ledger import storage
from pipelines.ledger.runs import RecordedRun
from pipelines.recipe import Sampling
from pipelines.steps.encoding import load
from pipelines.steps.pack import gather
from pipelines.steps.products import TOKENIZER_JSON
from pipelines.steps.sampling import held_out
from pipelines.steps.token_rows import TokenShard, read_lengths, read_tokens
from pipelines.steps.tokenize import TOKENS
from pipelines.steps.train_tokenizer import TOKENIZER

MAGIC = b"MMIDIDX\x00\x00"
CODES = {"uint16": 8, "int32": 4}
"""Megatron's codes of the token types that are written."""


def export(run: RecordedRun, out: str) -> Exported:
    """Write the tokens of a run, shard by shard. One shard is in memory at a time. Raises: as `export.Export`."""
    tokens, tokenizer = run.step(TOKENS.name), run.step(TOKENIZER.name)
    if tokens is None or tokenizer is None:
        raise WinnowError(f"run {run.id} has no tokens: a scan ends with text; export it as hf or jsonl")
    if not tokens.rows_kept:
        raise CheckFailed("there is no row to export")
    validation = Sampling.model_validate(run.info["settings"]["sampling"]).validation
    file = tokenizer.file(TOKENIZER_JSON)
    bpe = load(file)
    dtype = np.dtype("<u2" if bpe.vocab_size <= 1 << 16 else "<i4")
    lengths: dict[str, list[npt.NDArray[np.int64]]] = {"train": [], "validation": []}
    with new_folder(out) as folder:
        for shard in itertools.starmap(TokenShard, zip(tokens.shards, run.records.shards, strict=True)):
            with storage.verified(shard):
                table, known = read_tokens(shard, file), read_lengths(shard.tokens, bpe.special.values())
            sizes = [known[name].to_numpy().astype(np.int64) for name in ("instruction", "response")]
            held = held_out(known, validation)
            for split, rows in (("train", np.flatnonzero(~held)), ("validation", np.flatnonzero(held))):
                if len(rows):
                    instruction, response = (size[rows] for size in sizes)
                    part, _ = gather([table].__getitem__, [len(table)], rows, instruction, response, bpe.vocab_size)
                    with (folder / f"{split}.bin").open("ab") as binary:
                        binary.write(part.astype(dtype, copy=False).tobytes())
                    lengths[split].append(instruction + response)
        for split, parts in lengths.items():
            if parts:
                _write_index(folder / f"{split}.idx", np.concatenate(parts), dtype)
        (folder / "tokenizer.json").write_bytes(storage.read_bytes(tokenizer.file(TOKENIZER_JSON).path))
    return exported(out, tokens.rows_kept)


def _write_index(path: Path, lengths: npt.NDArray[np.int64], dtype: np.dtype[Any]) -> None:
    starts = (np.cumsum(lengths) - lengths) * dtype.itemsize
    with path.open("wb") as file:
        file.write(MAGIC + struct.pack("<QBQQ", 1, CODES[dtype.name], len(lengths), len(lengths) + 1))
        file.write(lengths.astype("<i4").tobytes())
        file.write(starts.astype("<i8").tobytes())
        file.write(np.arange(len(lengths) + 1, dtype="<i8").tobytes())

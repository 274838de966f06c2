"""A small tokenizer, and pack shards of arithmetic in the format of the pack step."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

torch.set_num_threads(1)  # small matrices are slower with several threads

CONTROL = {"pad": "<|PAD|>", "direct": "<|direct|>", "cot": "<|cot|>", "noisy": "<|noisy|>", "synth": "<|synth|>",
           "boq": "<|im_start|>", "eoq": "<|im_end|>", "eoa": "<|box_end|>"}  # fmt: skip

Rows = list[tuple[list[int], list[int]]]


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tokenizer.json of a byte-level BPE with single digits, with the control tokens first."""
    made = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    made.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=list(CONTROL.values()),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator(["What is the sum of 3 and 4? The answer is"] * 50, trainer)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    made.save(str(path))
    return path


@pytest.fixture(scope="session")
def special(tokenizer: Path) -> dict[str, int]:
    made = Tokenizer.from_file(str(tokenizer))
    return {name: made.token_to_id(token) for name, token in CONTROL.items()}


@pytest.fixture(scope="session")
def sums(tokenizer: Path, special: dict[str, int]) -> Rows:
    """Instruction and response ids of 600 small sums, answered with one or two digits."""
    made = Tokenizer.from_file(str(tokenizer))
    rng = np.random.default_rng(0)
    rows: Rows = []
    for a, b in rng.integers(0, 10, (600, 2)).tolist():
        question = made.encode(f"What is the sum of {a} and {b}?").ids
        reply = made.encode(str(a + b)).ids
        rows.append(([special["boq"], special["direct"], *question, special["eoq"]], [*reply, special["eoa"]]))
    return rows


WritePacks = Callable[..., list[str]]


@pytest.fixture(scope="session")
def write_packs(special: dict[str, int]) -> WritePacks:
    """write_packs(folder, rows, context=65, vocab_size=320, packs_per_shard=40) -> paths. Packs are filled in order."""

    def write(
        folder: Path,
        rows: Rows,
        context: int = 65,
        vocab_size: int = 320,
        packs_per_shard: int = 40,
        epochs: int = 1,
        split: str = "train",
    ) -> list[str]:
        folder.mkdir(parents=True, exist_ok=True)
        paths: list[str] = []
        for epoch in range(epochs):
            packs: list[list[int]] = [[]]
            used = 0
            for index, (i, o) in enumerate(rows):
                if packs[-1] and used + len(i) + len(o) - 1 > context - 1:
                    packs.append([])
                    used = 0
                packs[-1].append(index)
                used += len(i) + len(o) - 1
            for start in range(0, len(packs), packs_per_shard):
                chosen = packs[start : start + packs_per_shard]
                columns = {
                    "tokens": [[t for r in pack for part in rows[r] for t in part] for pack in chosen],
                    "instruction_lengths": [[len(rows[r][0]) for r in pack] for pack in chosen],
                    "response_lengths": [[len(rows[r][1]) for r in pack] for pack in chosen],
                    "ids": [[f"sums/train/{r}" for r in pack] for pack in chosen],
                }
                said = {"context": context, "capacity": context - 1, "vocab_size": vocab_size, "epoch": epoch,
                        "epochs": epochs, "special": special, "split": split}  # fmt: skip
                schema = pa.schema(
                    [("tokens", pa.list_(pa.uint16())), ("instruction_lengths", pa.list_(pa.int32())),
                     ("response_lengths", pa.list_(pa.int32())), ("ids", pa.list_(pa.string()))],
                    metadata={"winnow": json.dumps(said)},
                )  # fmt: skip
                paths.append(str(folder / f"part-{len(paths):05d}.arrow"))
                with pa.OSFile(paths[-1], "wb") as file, pa.ipc.new_file(file, schema) as writer:
                    writer.write_table(pa.table(columns, schema=schema), max_chunksize=16)
        return paths

    return write


@pytest.fixture(scope="session")
def shards(write_packs: WritePacks, sums: Rows, tmp_path_factory: pytest.TempPathFactory) -> Sequence[str]:
    return write_packs(tmp_path_factory.mktemp("packs"), sums)

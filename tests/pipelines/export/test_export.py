"""Exports are read back by those they are made for, and are there whole or not at all."""

from __future__ import annotations

import functools
import json
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
from transformers import AutoTokenizer

from pipelines.errors import CheckFailed, InputError
from pipelines.export.corpus import export_corpus, export_hrm_text
from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.manifest import Manifest, Part
from pipelines.ledger.run import Run, Target
from pipelines.recipe import Group, Sampling, TokenizerSpec
from pipelines.records import RAW, conform
from pipelines.steps.pack import pack, pack_files
from pipelines.steps.tokenize import tokenize
from pipelines.steps.train_tokenizer import train_tokenizer
from tests.steps import keep, plain_step

SAMPLING = Sampling(
    epochs=3, context=33, validation=0.1, groups=(Group(prefix="long", max_per_file=20), Group(prefix="few", repeat=5))
)


def write(table: pa.Table, target: Target) -> Part:
    return keep(table, target)


def table(source: str, rows: int, longest: int, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    word = functools.partial(rng.choice, ["one", "two", "drei", "кот", "<|im_end|>", "42", "\n"])
    texts = [[" ".join(word(rng.integers(1, longest))) for _ in range(rows)] for _ in range(2)]
    raw = {
        "row": list(range(rows)),
        "variant": [""] * rows,
        "condition": ["synth,cot"] * rows,
        "instruction": texts[0],
        "response": texts[1],
        "fault": [None] * rows,
    }
    return conform(pa.table(raw, schema=RAW), source, "f.jsonl").kept.append_column(
        "score_a", pa.array(rng.random(rows), pa.float32())
    )


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Manifest, Manifest]:
    """Records in four shards (one empty), their tokenizer and their tokens."""
    run = Run(str(tmp_path_factory.mktemp("corpus")), LocalEngine(1))
    tables = [table("long", 120, 12, 0), table("long", 0, 12, 1), table("few", 30, 6, 2), table("all", 80, 40, 3)]
    records = run.do(plain_step("records", {}), lambda context: context.map(write, tables))
    tokenizer = train_tokenizer(run, records, TokenizerSpec(vocab_size=512))
    return records, tokenizer, tokenize(run, records, tokenizer)


def all_rows(records: Manifest) -> pa.Table:
    return pa.concat_tables(storage.read_parquet(shard.path) for shard in records.shards).drop_columns(["digest"])


def test_datasets_loads_and_streams_the_export(tmp_path: Path, steps: tuple[Manifest, Manifest, Manifest]) -> None:
    done = export_corpus(steps[0], "hf", str(tmp_path / "out"))
    assert done.rows == 230 and done.files == tuple(f"data/train-{index:05d}-of-00003.parquet" for index in range(3))
    loaded = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    want = all_rows(steps[0])
    assert loaded.column_names == ["id", "source", "condition", "instruction", "response", "score_a"]
    assert loaded.to_list() == want.to_pylist()
    stream = datasets.load_dataset(
        str(tmp_path / "out"), split="train", streaming=True, cache_dir=str(tmp_path / "cache")
    )
    assert [row["id"] for row in stream] == want["id"].to_pylist()


def test_json_lines_are_upstreams_rows(
    tmp_path: Path, steps: tuple[Manifest, Manifest, Manifest], capfd: pytest.CaptureFixture[str]
) -> None:
    done = export_corpus(steps[0], "jsonl", str(tmp_path / "out"))
    assert capfd.readouterr() == ("", "")
    rows = [
        json.loads(line)
        for name in done.files
        for line in (tmp_path / "out" / name).read_text(encoding="utf-8").split("\n")
        if line
    ]
    want = all_rows(steps[0]).to_pylist()
    keys = ("id", "source", "condition", "instruction", "response")
    assert [[row[key] for key in keys] for row in rows] == [[row[key] for key in keys] for row in want]
    assert "кот" in (tmp_path / "out" / done.files[0]).read_text(encoding="utf-8"), (
        "text is written as text, not as escapes"
    )


def epochs_of(folder: Path) -> list[list[tuple[tuple[int, ...], tuple[int, ...]]]]:
    """Instruction and response of every row of every epoch, as upstream's loader slices them."""
    tokens = np.load(folder / "tokens.npy", mmap_mode="r")
    epochs = []
    for epoch in sorted(folder.glob("epoch_*")):
        index = {name: np.load(epoch / f"{name}.npy") for name in ("inst_start", "inst_len", "resp_start", "resp_len")}
        assert {array.dtype for array in index.values()} == {np.dtype(np.int64)}
        rows = []
        for start, length, then, more in zip(*index.values(), strict=True):
            rows.append((tuple(tokens[start : start + length].tolist()), tuple(tokens[then : then + more].tolist())))
        epochs.append(rows)
    return epochs


def test_upstreams_layout_holds_the_rows_that_the_packs_hold(
    tmp_path: Path, steps: tuple[Manifest, Manifest, Manifest]
) -> None:
    _, tokenizer, tokens = steps
    done = export_hrm_text(tokens, tokenizer, SAMPLING, 7, str(tmp_path / "out"))
    epochs = epochs_of(tmp_path / "out")
    packs = pack(Run(str(tmp_path / "root"), LocalEngine(1)), tokens, tokenizer, SAMPLING, 7)
    held: list[Counter[tuple[tuple[int, ...], tuple[int, ...]]]] = [Counter(), Counter(), Counter()]
    for shard in pack_files(packs):
        rows = storage.map_arrow(shard.path)
        said = json.loads(rows.schema.metadata[b"winnow"])
        if said["split"] == "validation":
            continue
        epoch = said["epoch"]
        for row in rows.to_pylist():
            place = 0
            for head, tail in zip(row["instruction_lengths"], row["response_lengths"], strict=True):
                text = tuple(row["tokens"][place : place + head + tail])
                held[epoch][text[:head], text[head:]] += 1
                place += head + tail
    assert [Counter(epoch) for epoch in epochs] == held
    assert packs.counts["validation_sequences"] > 0
    assert done.rows == sum(map(len, epochs))
    metadata = json.loads((tmp_path / "out" / "metadata.json").read_text())
    total = sum(len(head) + len(tail) for epoch in epochs for head, tail in epoch)
    assert (
        metadata["total_length"] == round(total / 3)
        and metadata["max_seq_len"] == 33
        and metadata["vocab_size"] is None
    )
    lengths = [len(head) + len(tail) for epoch in epochs for head, tail in epoch]
    assert max(lengths) == 33 and min(len(tail) for epoch in epochs for _, tail in epoch) >= 2


def drawn_by_hand(
    tokens: Manifest, sampling: Sampling, seed: int
) -> list[list[tuple[tuple[int, ...], tuple[int, ...]]]]:
    """Upstream's procedure, step by step: one Philox generator; folders by name; in each epoch every folder walks its
    permutation, which goes on over the epochs; then the epoch is shuffled."""
    folders: dict[str, list[tuple[tuple[int, ...], tuple[int, ...]]]] = {}
    for shard in tokens.shards:
        for row in storage.map_arrow(shard.path).to_pylist():
            name = "__".join(row["id"].split("/")[:-1])
            room = sampling.context - len(row["instruction"])
            if room >= 2 and len(row["response"]) >= 2:
                folders.setdefault(name, []).append((tuple(row["instruction"]), tuple(row["response"][:room])))
    generator = np.random.Generator(np.random.Philox(seed))
    walks: dict[str, list[int]] = {}
    epochs = []
    for _ in range(sampling.epochs):
        epoch = []
        for name in sorted(folders):
            group = next((one for one in sampling.groups if name.startswith(one.prefix)), Group(prefix=""))
            rows = folders[name]
            for _ in range(min(group.max_per_file or len(rows), len(rows)) * group.repeat):
                if not walks.get(name):
                    walks[name] = generator.permutation(len(rows)).tolist()
                epoch.append(rows[walks[name].pop(0)])
        epochs.append([epoch[place] for place in generator.permutation(len(epoch))])
    return epochs


def test_every_epoch_is_upstreams_row_for_row(tmp_path: Path, steps: tuple[Manifest, Manifest, Manifest]) -> None:
    _, tokenizer, tokens = steps
    whole = SAMPLING.model_copy(update={"validation": 0.0})
    export_hrm_text(tokens, tokenizer, whole, 3, str(tmp_path / "out"))
    assert epochs_of(tmp_path / "out") == drawn_by_hand(tokens, whole, 3)


def test_only_drawn_rows_are_stored_in_sixteen_bits(tmp_path: Path, steps: tuple[Manifest, Manifest, Manifest]) -> None:
    _, tokenizer, tokens = steps
    once = SAMPLING.model_copy(update={"epochs": 1})
    export_hrm_text(tokens, tokenizer, once, 0, str(tmp_path / "out"))
    stored = np.load(tmp_path / "out" / "tokens.npy")
    index = {
        name: np.load(tmp_path / "out" / "epoch_0" / f"{name}.npy") for name in ("inst_start", "inst_len", "resp_len")
    }
    rows = {(start, head, tail) for start, head, tail in zip(*index.values(), strict=True)}
    assert stored.dtype == np.uint16
    assert len(stored) == sum(head + tail for _, head, tail in rows), "every stored token belongs to a drawn row"
    assert len(rows) < tokens.rows_kept, "the cap leaves some rows out"


def test_the_order_is_the_samplers_and_seeds_matter(tmp_path: Path, steps: tuple[Manifest, Manifest, Manifest]) -> None:
    _, tokenizer, tokens = steps
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        export_hrm_text(tokens, tokenizer, SAMPLING, seed, str(tmp_path / name))
    a, b, c = (epochs_of(tmp_path / name) for name in "abc")
    assert a == b != c and Counter(a[0]) != Counter(c[0])


def test_upstream_finds_its_tokenizer(tmp_path: Path, steps: tuple[Manifest, Manifest, Manifest]) -> None:
    _, tokenizer, tokens = steps
    export_hrm_text(tokens, tokenizer, SAMPLING, 0, str(tmp_path / "out"))
    info = json.loads((tmp_path / "out" / "tokenizer_info.json").read_text())
    assert info == json.loads((tmp_path / "out" / "metadata.json").read_text())["tokenizer_info"]
    loaded = AutoTokenizer.from_pretrained(info["tokenizer_path"])
    assert len(loaded) == info["vocab_size"] and (loaded.pad_token_id, loaded.eos_token_id) == (0, 11)
    # What upstream's inference writes before a prompt is what its rows begin with.
    opening = info["boq"] + "".join(info["condition_mapping"][tag] for tag in ("synth", "cot"))
    first = epochs_of(tmp_path / "out")[0][0][0]
    assert loaded(opening)["input_ids"] == list(first[:3]) and loaded(info["eoq"])["input_ids"] == [first[-1]]


@pytest.mark.parametrize("form", ["hf", "jsonl", "hrm-text"])
def test_an_export_never_overwrites_and_leaves_nothing_behind(
    tmp_path: Path, steps: tuple[Manifest, Manifest, Manifest], form: str
) -> None:
    records, tokenizer, tokens = steps

    def export(out: Path, shards: Manifest | None = None) -> None:
        if form == "hrm-text":
            export_hrm_text(shards or tokens, tokenizer, SAMPLING, 0, str(out))
        else:
            export_corpus(shards or records, form, str(out))  # type: ignore[arg-type]

    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="there is something here already"):
        export(tmp_path / "taken")
    (tmp_path / "free").mkdir()
    export(tmp_path / "free")
    # A shard that is lost while the export is written: no folder, and nothing beside it.
    origin = tokens if form == "hrm-text" else records
    gone = origin.shards[-1].model_copy(update={"path": str(tmp_path / "gone")})
    broken = origin.model_copy(
        update={"parts": (*origin.parts[:-1], Part(rows_in=gone.rows, files={str(origin.kept): (gone,)}))}
    )
    with pytest.raises((InputError, OSError)):
        export(tmp_path / "broken", broken)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["free", "taken"]
    assert (tmp_path / "taken" / "mine.txt").read_text() == "keep"


def test_nothing_to_export_is_said(tmp_path: Path, steps: tuple[Manifest, Manifest, Manifest]) -> None:
    records, tokenizer, tokens = steps
    empty = records.model_copy(update={"parts": records.parts[1:2]})
    with pytest.raises(CheckFailed, match="no record to export"):
        export_corpus(empty, "hf", str(tmp_path / "out"))
    with pytest.raises(CheckFailed, match="no row to export"):
        export_hrm_text(
            tokens.model_copy(update={"parts": tokens.parts[1:2]}), tokenizer, SAMPLING, 0, str(tmp_path / "out")
        )
    assert not list(tmp_path.iterdir())

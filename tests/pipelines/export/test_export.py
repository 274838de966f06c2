"""Each export is read back by the library it is for, and is complete or absent."""

from __future__ import annotations

import dataclasses
import functools
import json
import struct
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
from transformers import AutoTokenizer

from pipelines.errors import CheckFailed, InputError, WinnowError
from pipelines.export import DOCUMENTS, EXPORTS
from pipelines.export.export import new_folder
from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.manifest import Manifest, Part
from pipelines.ledger.run import Run, Target
from pipelines.ledger.runs import RecordedRun
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
    word = functools.partial(rng.choice, ["one", "two", "drei", "кот", "<|im_end|>", "42", "\n", "\u2028"])
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
    sources = [
        {"name": name, "adapter": None, "items": items, "files": [], "unread": []}
        for name, items in (("long", 2), ("few", 1), ("all", 1))
    ]
    records = run.do(plain_step("ingest", {"sources": sources}), lambda context: context.map(write, tables))
    tokenizer = train_tokenizer(run, records, TokenizerSpec(vocab_size=512))
    return records, tokenizer, tokenize(run, records, tokenizer)


DATA = [form for form in EXPORTS if form not in DOCUMENTS]
"""The formats that need no more than records and tokens."""


def run_of(steps: tuple[Manifest, Manifest, Manifest], sampling: Sampling = SAMPLING, seed: int = 0) -> RecordedRun:
    """The recorded run of these steps."""
    settings = {"sampling": sampling.model_dump(mode="json"), "seed": seed, "sources": [], "stages": []}
    info = {"corpus": steps[0].key, "settings": settings, "recipe": "test", "finished": "2026-01-01T00:00:00+00:00"}
    return RecordedRun("", "run", info, steps)


def all_rows(records: Manifest) -> pa.Table:
    return pa.concat_tables(storage.read_parquet(shard.path) for shard in records.shards).drop_columns(["digest"])


def test_the_jsonl_export_has_the_rows_of_the_corpus(
    tmp_path: Path, steps: tuple[Manifest, Manifest, Manifest], capfd: pytest.CaptureFixture[str]
) -> None:
    done = EXPORTS["jsonl"](run_of(steps), str(tmp_path / "out"))
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
    assert "кот" in (tmp_path / "out" / done.files[0]).read_text(encoding="utf-8"), "text is not escaped"


@pytest.mark.parametrize("form", ["messages", "prompt-completion"])
def test_a_chat_export_loads_offline_with_the_columns_that_trainers_read(
    tmp_path: Path, steps: tuple[Manifest, Manifest, Manifest], form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    done = EXPORTS[form](run_of(steps), str(tmp_path / "out"))
    files = [str(tmp_path / "out" / name) for name in done.files]
    loaded = datasets.load_dataset("json", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    want = [(row["id"], row["instruction"], row["response"]) for row in all_rows(steps[0]).to_pylist()]
    if form == "messages":
        assert loaded.column_names == ["id", "messages"]
        assert all([turn["role"] for turn in row["messages"]] == ["user", "assistant"] for row in loaded)
        assert [(row["id"], *(turn["content"] for turn in row["messages"])) for row in loaded] == want
    else:
        assert loaded.column_names == ["id", "prompt", "completion"]
        assert [(row["id"], row["prompt"], row["completion"]) for row in loaded] == want


@pytest.mark.parametrize("form", ["jsonl", "messages", "prompt-completion"])
def test_an_id_can_be_found_in_json_lines_as_it_is_printed(
    tmp_path: Path, steps: tuple[Manifest, Manifest, Manifest], form: str
) -> None:
    done = EXPORTS[form](run_of(steps), str(tmp_path / "out"))
    lines = "".join((tmp_path / "out" / name).read_text(encoding="utf-8") for name in done.files)
    assert '"long/f.jsonl/0"' in lines and "кот" in lines
    assert len(lines.splitlines()) == done.rows  # no character of a text ends a line


def read_megatron(prefix: Path) -> list[list[int]]:
    """The documents of an indexed dataset, read as the format is published."""
    index = prefix.with_suffix(".idx").read_bytes()
    assert index[:9] == b"MMIDIDX\x00\x00"
    version, code, sequences, documents = struct.unpack_from("<QBQQ", index, 9)
    assert (version, code) == (1, 8) and documents == sequences + 1
    at = 9 + struct.calcsize("<QBQQ")
    lengths = struct.unpack_from(f"<{sequences}i", index, at)
    pointers = struct.unpack_from(f"<{sequences}q", index, at + 4 * sequences)
    bounds = struct.unpack_from(f"<{documents}q", index, at + 12 * sequences)
    assert len(index) == at + 12 * sequences + 8 * documents and bounds == tuple(range(documents))
    data = prefix.with_suffix(".bin").read_bytes()
    assert len(data) == 2 * sum(lengths)
    return [list(struct.unpack_from(f"<{n}H", data, start)) for start, n in zip(pointers, lengths, strict=True)]


def test_a_reader_of_megatrons_format_finds_every_row_of_tokens(
    tmp_path: Path, steps: tuple[Manifest, Manifest, Manifest]
) -> None:
    tokens = steps[2]
    done = EXPORTS["megatron"](run_of(steps), str(tmp_path / "out"))
    assert done.files == ("tokenizer.json", "train.bin", "train.idx", "validation.bin", "validation.idx")
    rows = [row for shard in tokens.shards for row in storage.map_arrow(shard.path).to_pylist()]
    want = sorted(row["instruction"] + row["response"] for row in rows)
    train, validation = (read_megatron(tmp_path / "out" / split) for split in ("train", "validation"))
    assert sorted(train + validation) == want and done.rows == len(want)
    assert 0 < len(validation) < len(train)


def epochs_of(folder: Path) -> list[list[tuple[tuple[int, ...], tuple[int, ...]]]]:
    """Instruction and response of every row of every epoch, as the loader of HRM-Text slices them."""
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


def test_the_hrm_text_export_has_the_rows_of_the_packs(
    tmp_path: Path, steps: tuple[Manifest, Manifest, Manifest]
) -> None:
    records, tokenizer, tokens = steps
    done = EXPORTS["hrm-text"](run_of(steps, seed=7), str(tmp_path / "out"))
    epochs = epochs_of(tmp_path / "out")
    packs = pack(Run(str(tmp_path / "root"), LocalEngine(1)), records, tokens, tokenizer, SAMPLING, 7)
    held: list[Counter[tuple[tuple[int, ...], tuple[int, ...]]]] = [Counter(), Counter(), Counter()]
    for shard in pack_files(packs):
        rows = storage.map_arrow(shard.path)
        info = json.loads(rows.schema.metadata[b"winnow"])
        if info["split"] == "validation":
            continue
        epoch = info["epoch"]
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
    """The procedure of HRM-Text, step by step.

    One Philox generator. In each epoch every folder, by name, continues its permutation, which spans the epochs; then
    the epoch is shuffled.
    """
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


def test_every_epoch_of_the_hrm_text_export_is_the_one_that_its_sampler_draws(
    tmp_path: Path, steps: tuple[Manifest, Manifest, Manifest]
) -> None:
    _, _, tokens = steps
    whole = SAMPLING.model_copy(update={"validation": 0.0})
    EXPORTS["hrm-text"](run_of(steps, whole, 3), str(tmp_path / "out"))
    assert epochs_of(tmp_path / "out") == drawn_by_hand(tokens, whole, 3)


def test_only_drawn_rows_are_stored_and_in_sixteen_bits(
    tmp_path: Path, steps: tuple[Manifest, Manifest, Manifest]
) -> None:
    _, _, tokens = steps
    once = SAMPLING.model_copy(update={"epochs": 1})
    EXPORTS["hrm-text"](run_of(steps, once), str(tmp_path / "out"))
    stored = np.load(tmp_path / "out" / "tokens.npy")
    index = {
        name: np.load(tmp_path / "out" / "epoch_0" / f"{name}.npy") for name in ("inst_start", "inst_len", "resp_len")
    }
    rows = {(start, head, tail) for start, head, tail in zip(*index.values(), strict=True)}
    assert stored.dtype == np.uint16
    assert len(stored) == sum(head + tail for _, head, tail in rows), "every stored token belongs to a drawn row"
    assert len(rows) < tokens.rows_kept, "the cap leaves some rows out"


def test_the_order_depends_on_the_seed_alone(tmp_path: Path, steps: tuple[Manifest, Manifest, Manifest]) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        EXPORTS["hrm-text"](run_of(steps, seed=seed), str(tmp_path / name))
    a, b, c = (epochs_of(tmp_path / name) for name in "abc")
    assert a == b != c and Counter(a[0]) != Counter(c[0])


def test_the_hrm_text_export_has_a_tokenizer_that_transformers_loads(
    tmp_path: Path, steps: tuple[Manifest, Manifest, Manifest]
) -> None:
    EXPORTS["hrm-text"](run_of(steps), str(tmp_path / "out"))
    info = json.loads((tmp_path / "out" / "tokenizer_info.json").read_text())
    assert info == json.loads((tmp_path / "out" / "metadata.json").read_text())["tokenizer_info"]
    loaded = AutoTokenizer.from_pretrained(info["tokenizer_path"])
    assert len(loaded) == info["vocab_size"] and (loaded.pad_token_id, loaded.eos_token_id) == (0, 11)
    # The inference of HRM-Text puts these tokens before a prompt: rows must begin with them.
    opening = info["boq"] + "".join(info["condition_mapping"][tag] for tag in ("synth", "cot"))
    first = epochs_of(tmp_path / "out")[0][0][0]
    assert loaded(opening)["input_ids"] == list(first[:3]) and loaded(info["eoq"])["input_ids"] == [first[-1]]


@pytest.mark.parametrize("form", DATA)
def test_an_export_never_overwrites_and_a_failed_one_leaves_nothing(
    tmp_path: Path, steps: tuple[Manifest, Manifest, Manifest], form: str
) -> None:
    records, _, tokens = steps
    export = EXPORTS[form]
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="there is something here already"):
        export(run_of(steps), str(tmp_path / "taken"))
    (tmp_path / "free").mkdir()
    export(run_of(steps), str(tmp_path / "free"))
    # A shard is lost while the export is written: no folder is left, and no temporary one beside it.
    origin = tokens if form in ("hrm-text", "megatron") else records
    lost = dataclasses.replace(origin.shards[-1], path=str(tmp_path / "gone"))
    broken = origin.model_copy(
        update={"parts": (*origin.parts[:-1], Part(rows_in=lost.rows, files={str(origin.kept): (lost,)}))}
    )
    with pytest.raises((InputError, OSError)):
        export(run_of(tuple(broken if step is origin else step for step in steps)), str(tmp_path / "broken"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["free", "taken"]
    assert (tmp_path / "taken" / "mine.txt").read_text() == "keep"


@pytest.mark.parametrize("form", DATA)
def test_a_remote_folder_is_an_error(tmp_path: Path, steps: tuple[Manifest, Manifest, Manifest], form: str) -> None:
    with pytest.raises(InputError, match="memory://out: an export is written to a local folder"):
        EXPORTS[form](run_of(steps), "memory://out")


@pytest.mark.parametrize("form", DATA)
def test_an_export_without_rows_is_an_error(
    tmp_path: Path, steps: tuple[Manifest, Manifest, Manifest], form: str
) -> None:
    records, tokenizer, tokens = steps
    empty = (
        records.model_copy(update={"parts": records.parts[1:2]}),
        tokenizer,
        tokens.model_copy(update={"parts": tokens.parts[1:2]}),
    )
    with pytest.raises(CheckFailed, match=r"there is no (record|row) to export"):
        EXPORTS[form](run_of(empty), str(tmp_path / "out"))
    assert not list(tmp_path.iterdir())


def test_a_run_without_tokens_has_no_export_for_hrm_text(
    tmp_path: Path, steps: tuple[Manifest, Manifest, Manifest]
) -> None:
    run = run_of(steps)._replace(steps=steps[:1])
    with pytest.raises(WinnowError, match="run run has no tokens"):
        EXPORTS["hrm-text"](run, str(tmp_path / "out"))


def test_of_two_exports_into_one_folder_at_once_the_first_to_end_stays(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    with pytest.raises(InputError, match="there is something here already"), new_folder(out) as late:
        (late / "late.txt").write_text("late")
        with new_folder(out) as early:
            (early / "early.txt").write_text("early")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["early.txt"]

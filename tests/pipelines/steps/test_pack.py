"""Packs hold exactly what was drawn, no pack is over full, and few slots are empty."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import CheckFailed
from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.manifest import Manifest, Part
from pipelines.ledger.run import Run, Target
from pipelines.recipe import Group, Sampling, TokenizerSpec
from pipelines.records import RAW, conform
from pipelines.steps import pack as pack_module
from pipelines.steps.encoding import load
from pipelines.steps.pack import PACK, best_fit, group_shards, lay, lay_and_write, pack, pack_files
from pipelines.steps.products import RECORDS, TOKEN_ROWS
from pipelines.steps.sampling import draw, held_out, measure, pool
from pipelines.steps.token_rows import TokenShard, lengths_of, read_lengths
from pipelines.steps.train_tokenizer import train_tokenizer
from tests.steps import keep, plain_step

CONTEXT = 65
SAMPLING = Sampling(
    epochs=3,
    context=CONTEXT,
    validation=0.1,
    groups=(Group(prefix="big", max_per_file=100), Group(prefix="small", repeat=4)),
)


def write(table: pa.Table, target: Target, arrow: bool = True) -> Part:
    if arrow:
        file = storage.write_arrow(target.path(suffix=".arrow"), table)
        return Part(rows_in=table.num_rows, files={"tokens": (file,)})
    return keep(table, target)


def step(root: Path, name: str, tables: list[pa.Table], arrow: bool = True) -> Manifest:
    run = Run(str(root), LocalEngine(1))
    plain = plain_step(name, kept=TOKEN_ROWS if arrow else RECORDS)
    return run.do(plain, lambda context: context.map(functools.partial(write, arrow=arrow), tables))


def tokens(rows: int, source: str, longest: int, seed: int, vocab: int) -> pa.Table:
    """A token shard; each token tells its row and place, so that a mix-up cannot go unseen."""
    rng = np.random.default_rng(seed)
    columns = []
    for _ in range(2):
        lengths = rng.integers(1, longest, rows)
        values = rng.integers(31, vocab, lengths.sum()).astype(np.uint16)
        columns.append(
            pa.ListArray.from_arrays(pa.array(np.append(0, np.cumsum(lengths)), pa.int32()), pa.array(values))
        )
    ids = pa.array([f"{source}/f{row % 3}/{row}" for row in range(rows)], pa.string())
    return pa.table([ids, *columns], ["id", "instruction", "response"])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Manifest]:
    """Four token shards (one empty) and a tokenizer."""
    root = tmp_path_factory.mktemp("tokens")
    raw = {
        "row": [0],
        "variant": [""],
        "condition": ["cot"],
        "instruction": ["a b a b"],
        "response": ["c"],
        "fault": [None],
    }
    records = step(root, "records", [conform(pa.table(raw, schema=RAW), "s", "f").kept], arrow=False)
    tokenizer = train_tokenizer(Run(str(root), LocalEngine(1)), records, TokenizerSpec(vocab_size=512))
    shards = [
        tokens(700, "big", 20, 1, 280),
        tokens(90, "small", 50, 2, 280),
        tokens(0, "none", 9, 3, 280),
        tokens(700, "more", 90, 4, 280),
    ]
    return step(root, "tokens", shards), tokenizer


def packed(
    root: Path, made: tuple[Manifest, Manifest], workers: int = 1, seed: int = 0, file_slots: int = 1 << 12
) -> Manifest:
    """Packs in files small enough that an epoch has several."""
    work = functools.partial(
        lay_and_write,
        shards=[TokenShard(shard, shard) for shard in made[0].shards],
        tokenizer=made[1].file("tokenizer"),
        settings=SAMPLING,
        seed=seed,
        file_slots=file_slots,
    )
    with LocalEngine(workers) as engine:
        return Run(str(root), engine).do(PACK.step({"seed": seed}), work)


Sequence = tuple[str, tuple[int, ...], tuple[int, ...]]
"""id, instruction tokens, response tokens."""


def sequences(table: pa.Table) -> Iterator[list[Sequence]]:
    """Pack by pack, its sequences, read back by the layout that the packs' contract gives."""
    for row in table.to_pylist():
        place, found = 0, []
        for name, head, tail in zip(row["ids"], row["instruction_lengths"], row["response_lengths"], strict=True):
            text = tuple(row["tokens"][place : place + head + tail])
            found.append((name, text[:head], text[head:]))
            place += head + tail
        assert place == len(row["tokens"])
        yield found


VALIDATION = -1
"""The key of the rows held out, which are in no epoch."""


def by_epoch(manifest: Manifest) -> dict[int, list[list[Sequence]]]:
    epochs: dict[int, list[list[Sequence]]] = {}
    for shard in pack_files(manifest):
        table = storage.map_arrow(shard.path)
        said = json.loads(table.schema.metadata[b"winnow"])
        epochs.setdefault(said["epoch"] if said["split"] == "train" else VALIDATION, []).extend(sequences(table))
    return epochs


def trained(manifest: Manifest) -> list[list[Sequence]]:
    return [pack for epoch, packs in by_epoch(manifest).items() if epoch != VALIDATION for pack in packs]


def is_held_out(instruction: tuple[int, ...], control: set[int], share: float) -> bool:
    """The rule, token by token."""
    h, low = 0xCBF29CE484222325, 2**64 - 1
    for token in instruction:
        if token not in control:
            h = (h ^ token) * 0x100000001B3 & low
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        h = (h ^ h >> 33) * factor & low
    return h ^ h >> 33 < share * 2**64


def planned(manifest: Manifest, seed: int, control: set[int]) -> dict[int, Counter[Sequence]]:
    """What each epoch must hold: the sampler's rows, cut as it says, without those held out, which the first names."""
    whole = pa.concat_tables(storage.map_arrow(shard.path) for shard in manifest.shards)
    ids, heads, tails = (whole[name].to_pylist() for name in ("id", "instruction", "response"))
    rows = pool([measure(read_lengths(shard)) for shard in manifest.shards], SAMPLING)
    drawn = draw(rows.counts, rows.rules, seed, SAMPLING.epochs)
    epochs: dict[int, Counter[Sequence]] = {VALIDATION: Counter()}
    for epoch, one in enumerate(drawn):
        epochs[epoch] = Counter()
        for row, kept in zip(rows.row[one].tolist(), rows.response[one].tolist(), strict=True):
            found = ids[row], tuple(heads[row]), tuple(tails[row][:kept])
            if not is_held_out(found[1], control, SAMPLING.validation):
                epochs[epoch][found] += 1
            elif epoch == 0:
                epochs[VALIDATION][found] += 1
    return epochs


def test_an_epochs_packs_hold_exactly_what_was_drawn(tmp_path: Path, made: tuple[Manifest, Manifest]) -> None:
    manifest = packed(tmp_path, made)
    epochs = by_epoch(manifest)
    assert list(epochs) == [0, 1, 2, VALIDATION]
    control = set(load(made[1].file("tokenizer")).special.values())
    for epoch, want in planned(made[0], 0, control).items():
        assert Counter(one for pack in epochs[epoch] for one in pack) == want
    assert len(pack_files(manifest)) > 2 * 3, "several files an epoch, or the test shows little"
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("least, most", [(1, 1), (1, 64), (800, 2)])
def test_packs_do_not_depend_on_how_shards_are_grouped(
    tmp_path: Path, made: tuple[Manifest, Manifest], monkeypatch: pytest.MonkeyPatch, least: int, most: int
) -> None:
    whole = packed(tmp_path / "whole", made)
    monkeypatch.setattr(pack_module, "GROUP_ROWS", least)
    monkeypatch.setattr(pack_module, "MAX_GROUP_SHARDS", most)
    parted = packed(tmp_path / "parted", made)
    assert [file.digest for file in pack_files(parted)] == [file.digest for file in pack_files(whole)]


@given(st.lists(st.integers(0, 70_000), max_size=3_000))
@settings(deadline=None)
def test_groups_of_shards_are_neighbours_and_neither_many_nor_large(rows: list[int]) -> None:
    groups = group_shards(rows)
    assert [number for first, last in groups for number in range(first, last)] == list(range(len(rows)))
    assert all(0 < last - first <= 64 for first, last in groups)
    full = [sum(rows[first:last]) >= 1 << 16 or last - first == 64 for first, last in groups[:-1]]
    assert all(full) and len(groups) <= 1 + len(rows) / max(1, len(rows) // 512)


def test_no_pack_is_over_full_and_the_counts_are_true(tmp_path: Path, made: tuple[Manifest, Manifest]) -> None:
    manifest = packed(tmp_path, made)
    packs = trained(manifest)
    used = [sum(len(head) + len(tail) - 1 for _, head, tail in pack) for pack in packs]
    assert max(used) <= CONTEXT - 1 and min(used) > 0
    counts = manifest.counts
    assert (counts["packs"], counts["slots"], counts["slots_used"]) == (
        len(packs),
        len(packs) * (CONTEXT - 1),
        sum(used),
    )
    assert counts["sequences"] == sum(map(len, packs))
    assert counts["validation_sequences"] == sum(map(len, by_epoch(manifest)[VALIDATION])) > 30
    usable = sum(counts[f"coverage/{group}/rows"] for group in ("big", "small", "more"))
    assert usable + sum(rows for key, rows in counts.items() if key.startswith("unused/")) == made[0].rows_kept


def test_no_row_that_is_held_out_is_trained_on_whatever_the_seed(
    tmp_path: Path, made: tuple[Manifest, Manifest]
) -> None:
    first, second = (by_epoch(packed(tmp_path, made, seed=seed)) for seed in (0, 1))
    trained_on = {
        head for epochs in (first, second) for key in (0, 1, 2) for pack in epochs[key] for _, head, _ in pack
    }
    held = {head for epochs in (first, second) for pack in epochs[VALIDATION] for _, head, _ in pack}
    assert len(held) > 30 and not held & trained_on


def test_an_instruction_is_held_out_under_all_its_conditions() -> None:
    control = [0, 6, 7, 8, 9]
    texts = np.random.default_rng(0).integers(20, 300, (4000, 5)).tolist()

    def known(head: list[int]) -> pa.Table:
        lists = pa.array([head + text for text in texts], pa.list_(pa.uint16()))
        return lengths_of(pa.table({"id": [""] * len(texts), "instruction": lists, "response": lists}), control)

    sides = [held_out(known(head), 0.1) for head in ([6, 8], [6, 9], [6, 8, 9])]
    assert (sides[0] == sides[1]).all() and (sides[0] == sides[2]).all()
    assert 0.08 < sides[0].mean() < 0.12
    assert not held_out(known([]), 0.0).any()


def test_a_corpus_that_is_all_held_out_is_said(tmp_path: Path, made: tuple[Manifest, Manifest]) -> None:
    same = pa.table({"id": ["s/f/0"], "instruction": [[1, 2]], "response": [[3, 4]]})
    for value in range(40, 90):
        lists = [pa.array([[value]], pa.list_(pa.uint16())), pa.array([[3, 4]], pa.list_(pa.uint16()))]
        same = pa.table([pa.array(["s/f/0"]), *lists], ["id", "instruction", "response"])
        if held_out(lengths_of(same, [0]), 0.5).all():
            break
    lone = step(tmp_path, "tokens", [same])
    with pytest.raises(CheckFailed, match="1 rows drawn, all held out"):
        pack(Run(str(tmp_path), LocalEngine(1)), lone, lone, made[1], Sampling(context=16, validation=0.5), 0)


def test_long_responses_are_cut_and_lose_their_end(tmp_path: Path, made: tuple[Manifest, Manifest]) -> None:
    whole = pa.concat_tables(storage.map_arrow(shard.path) for shard in made[0].shards)
    full = dict(zip(whole["id"].to_pylist(), whole["response"].to_pylist(), strict=True))
    manifest = packed(tmp_path, made)
    found = [one for epoch in by_epoch(manifest).values() for pack in epoch for one in pack]
    cut = {name: (head, tail) for name, head, tail in found if len(tail) < len(full[name])}
    assert 50 < len(cut) <= manifest.counts["truncated"]
    for name, (head, tail) in cut.items():
        assert len(head) + len(tail) == CONTEXT and list(tail) == full[name][: len(tail)]
    assert min(len(tail) for _, _, tail in found) == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_bytes_do_not_depend_on_workers_or_on_where_tokens_lie(
    tmp_path: Path, made: tuple[Manifest, Manifest], workers: int
) -> None:
    first = packed(tmp_path / "first", made)
    whole = [storage.map_arrow(shard.path) for shard in made[0].shards]
    cut = [piece for table in whole for piece in (table.slice(0, 33), table.slice(33))]
    other = step(tmp_path / "cut", "tokens", cut)
    again = packed(tmp_path / "again", (other, made[1]), workers)
    assert [shard.digest for shard in pack_files(first)] == [shard.digest for shard in pack_files(again)]
    assert first.counts == again.counts


def test_seeds_matter(tmp_path: Path, made: tuple[Manifest, Manifest]) -> None:
    one, two = packed(tmp_path, made, seed=0), packed(tmp_path, made, seed=1)
    assert pack_files(one)[0].digest != pack_files(two)[0].digest
    first, second = by_epoch(one)[0], by_epoch(two)[0]
    assert {name for pack in first for name, _, _ in pack} != {name for pack in second for name, _, _ in pack}


def test_the_schema_says_what_training_needs(tmp_path: Path, made: tuple[Manifest, Manifest]) -> None:
    run = Run(str(tmp_path), LocalEngine(1))
    manifest = pack(run, made[0], *made, SAMPLING, 0)
    table = storage.map_arrow(pack_files(manifest)[0].path)
    bpe = load(made[1].file("tokenizer"))
    assert json.loads(table.schema.metadata[b"winnow"]) == {
        "context": CONTEXT,
        "capacity": CONTEXT - 1,
        "vocab_size": bpe.vocab_size,
        "epoch": 0,
        "epochs": 3,
        "split": "train",
        "special": {"boq": 6, "eoq": 7, "eoa": 11, "pad": 0, "direct": 8, "cot": 9, "noisy": 12, "synth": 13},
    }
    types = {
        "tokens": pa.uint16(),
        "instruction_lengths": pa.int32(),
        "response_lengths": pa.int32(),
        "ids": pa.string(),
    }
    assert {name: table.schema.field(name).type.value_type for name in table.column_names} == types
    assert [Path(shard.path).name for shard in pack_files(manifest)] == [
        f"part-{index:05d}.arrow" for index in range(4)
    ]
    last = storage.map_arrow(pack_files(manifest)[-1].path)
    assert json.loads(last.schema.metadata[b"winnow"])["split"] == "validation"
    assert pack(run, made[0], *made, SAMPLING, 0) == manifest and run.results[-1].reused


def test_nothing_to_pack_is_said(tmp_path: Path, made: tuple[Manifest, Manifest]) -> None:
    long = step(tmp_path, "tokens", [tokens(20, "s", 900, 1, 280).slice(0, 3), tokens(0, "s", 9, 1, 280)])
    with pytest.raises(CheckFailed, match=r"nothing to pack: \d instruction_fills_context"):
        pack(Run(str(tmp_path), LocalEngine(1)), long, long, made[1], Sampling(context=16), 0)


# ---- the kernel


def naive_best_fit(slots: list[int], order: list[int], capacity: int) -> list[int]:
    """Room for room, the last pack touched among those with the least room that fits."""
    room: list[int] = []
    touched: list[int] = []
    placed = [-1] * len(slots)
    for now, item in enumerate(order):
        fitting = [(room[one], -touched[one], one) for one in range(len(room)) if room[one] >= slots[item]]
        chosen = min(fitting)[2] if fitting else len(room)
        if not fitting:
            room.append(capacity)
            touched.append(0)
        room[chosen] -= slots[item]
        touched[chosen] = now
        placed[item] = chosen
    return placed


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 300).flatmap(
        lambda capacity: st.tuples(st.just(capacity), st.lists(st.integers(1, capacity), min_size=1, max_size=60))
    )
)
def test_best_fit_is_best_fit(case: tuple[int, list[int]]) -> None:
    capacity, slots = case
    order = np.argsort(-np.array(slots, np.int64), kind="stable")
    placed, packs = best_fit(np.array(slots, np.int64), order, capacity)
    assert placed.tolist() == naive_best_fit(slots, order.tolist(), capacity)
    filled = np.bincount(placed, slots, packs)
    assert filled.max() <= capacity and (filled > 0).all()


def one_epoch(
    lengths: npt.NDArray[np.int64], context: int, window: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """slots of each sequence in written order, and how far each was moved, of a drawn order 0, 1, 2 ..."""
    lists = [
        pa.ListArray.from_arrays(
            pa.array(np.append(0, np.cumsum(one)), pa.int32()), pa.array(np.zeros(one.sum(), np.uint16))
        )
        for one in (lengths // 2, lengths - lengths // 2)
    ]
    ids = pa.array([f"s/f/{row}" for row in range(len(lengths))], pa.string())
    known = lengths_of(pa.table([ids, *lists], ["id", "instruction", "response"]), ())
    rows = pool([measure(known)], Sampling(context=context))
    drawn = np.arange(len(rows.row), dtype=np.uint32)
    layout = lay(drawn, rows, context - 1, np.random.Generator(np.random.Philox(0)), window)
    assert sorted(layout.position.tolist()) == drawn.tolist() and (np.diff(layout.pack) >= 0).all()
    slots = rows.instruction.astype(np.int64) + rows.response - 1
    return np.bincount(layout.pack, slots[layout.position]).astype(np.int64), np.abs(
        layout.position.astype(np.int64) - drawn
    )


def test_99_of_100_slots_are_used_where_rows_are_small_against_the_capacity() -> None:
    lengths = np.clip(np.random.default_rng(0).lognormal(5.3, 0.9, 60_000), 4, 4097).astype(np.int64)
    used, _ = one_epoch(lengths, 4097, 1 << 22)
    assert used.sum() / (len(used) * 4096) > 0.995


def test_rows_stay_within_their_window_and_packs_are_not_in_order_of_length() -> None:
    lengths = np.random.default_rng(0).integers(4, 200, 20_000)
    used, moved = one_epoch(lengths, 513, 1 << 16)
    assert moved.max() < 1.5 * (1 << 16) / lengths.mean() < len(lengths) / 4
    assert used.sum() / (len(used) * 512) > 0.985
    longest_first = np.diff(used)
    assert (longest_first > 0).any() and (longest_first < 0).any()

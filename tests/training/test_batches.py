"""Batches are a function of the step, hold every token once, and say what is wrong with a bad shard."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from pipelines.errors import WinnowError
from training.batches import Packs, ShardError, batch_of_step, batches


def test_a_pack_comes_back_as_it_was_written(shards, sums) -> None:
    packs = Packs(shards)
    back = []
    for pack in packs:
        at = 0
        for n, m, name in zip(pack.instruction_lengths, pack.response_lengths, pack.ids, strict=True):
            back.append((pack.tokens[at : at + n].tolist(), pack.tokens[at + n : at + n + m].tolist()))
            assert name == f"sums/train/{len(back) - 1}"
            at += n + m
    assert back == sums
    assert len(shards) > 1


def test_labels_are_the_response_and_nothing_else(shards, sums) -> None:
    packs = Packs(shards)
    batch = batch_of_step(packs, 2, 3)
    rows = [int(name.split("/")[-1]) for name in batch.ids]
    inputs = [token for r in rows for token in (sums[r][0] + sums[r][1])[:-1]]
    labels = [token for r in rows for token in sums[r][1]]
    following = [t for r in rows for t in [-100] * (len(sums[r][0]) - 1) + sums[r][1]]
    assert batch.tokens_N.tolist() == inputs
    assert batch.labels_M.tolist() == labels
    spread = torch.full_like(batch.tokens_N, -100)
    spread[batch.rows_M] = batch.labels_M
    assert spread.tolist() == following
    assert batch.positions_N.tolist() == [p for r in rows for p in range(len(sums[r][0]) + len(sums[r][1]) - 1)]
    assert batch.plan.prefix_lengths == tuple(len(sums[r][0]) for r in rows)
    assert batch.plan.suffix_lengths == tuple(len(sums[r][1]) - 1 for r in rows)
    assert batch.labelled == len(labels) and batch.inputs == len(inputs) and batch.sequences == len(rows)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_workers_share_the_same_global_batches(shards, world: int) -> None:
    packs = Packs(shards)
    alone = batch_of_step(packs, 3, 4)
    shares = [batch_of_step(packs, 3, 4, rank, world) for rank in range(world)]
    assert sorted(name for share in shares for name in share.ids) == sorted(alone.ids)
    assert {(s.digest, s.labelled, s.inputs, s.sequences) for s in shares} == {
        (alone.digest, alone.labelled, alone.inputs, alone.sequences)
    }


def test_starting_late_gives_the_same_batches(shards) -> None:
    packs = Packs(shards)
    whole = [batch.digest for batch in batches(packs, range(1, 9), 2)]
    assert [batch.digest for batch in batches(packs, range(5, 9), 2)] == whole[4:]
    assert len(set(whole)) == 8


def test_uneven_shares_are_refused(shards) -> None:
    with pytest.raises(WinnowError, match="multiple"):
        next(batches(Packs(shards), range(1, 2), 4, 0, 3))


def test_epochs_follow_one_another(write_packs, sums, tmp_path: Path) -> None:
    packs = Packs(write_packs(tmp_path, sums[:100], epochs=2))
    half = len(packs) // 2
    assert [packs.epoch(i) for i in range(len(packs))] == [0] * half + [1] * half


class TestBadShards:
    def test_none(self) -> None:
        with pytest.raises(ShardError, match="no pack shards"):
            Packs([])

    def test_absent(self, tmp_path: Path) -> None:
        with pytest.raises(ShardError, match=r"gone\.arrow: no such"):
            Packs([str(tmp_path / "gone.arrow")])

    def test_truncated(self, shards: Sequence[str], tmp_path: Path) -> None:
        path = tmp_path / "cut.arrow"
        path.write_bytes(Path(shards[0]).read_bytes()[:-200])
        with pytest.raises(ShardError, match=r"cut\.arrow: not a whole Arrow file"):
            Packs([str(path)])

    def test_without_packs(self, write_packs, tmp_path: Path) -> None:
        path = write_packs(tmp_path, [([1], [2, 3])])[0]
        schema = pa.ipc.open_file(path).schema
        with pa.OSFile(path, "wb") as file, pa.ipc.new_file(file, schema):
            pass
        with pytest.raises(ShardError, match="hold no packs"):
            Packs([path])

    def test_foreign(self, tmp_path: Path) -> None:
        table = pa.table({"text": ["a"]})
        path = tmp_path / "text.arrow"
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        with pytest.raises(ShardError, match="lacks the columns tokens"):
            Packs([str(path)])

    def test_without_metadata(self, shards: Sequence[str], tmp_path: Path) -> None:
        table = pa.ipc.open_file(shards[0]).read_all().replace_schema_metadata(None)
        path = tmp_path / "bare.arrow"
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        with pytest.raises(ShardError, match="metadata"):
            Packs([str(path)])

    def test_two_kinds(self, shards: Sequence[str], write_packs, sums, tmp_path: Path) -> None:
        other = write_packs(tmp_path, sums, context=33)
        with pytest.raises(ShardError, match="packed differently"):
            Packs([*shards, *other])

    def test_token_outside_the_vocabulary(self, write_packs, tmp_path: Path) -> None:
        packs = Packs(write_packs(tmp_path, [([1, 2], [3, 4]), ([5], [400, 6])]))
        with pytest.raises(ShardError, match="pack 0: token 400 is outside the vocabulary of 320"):
            packs[0]


def test_shards_are_read_where_they_lie(shards, tmp_path: Path) -> None:
    copies = [shutil.copy(path, tmp_path) for path in shards]
    assert Packs([str(path) for path in copies]).fingerprint() == Packs(shards).fingerprint()
    before = pa.total_allocated_bytes()
    packs = Packs(shards)
    assert sum(len(pack.tokens) for pack in packs) > 5000
    assert pa.total_allocated_bytes() - before < 1000  # views of the file's pages, no copies

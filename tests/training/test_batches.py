"""Batches are a function of the step, contain every token once, and a bad shard is an error that names it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipelines.errors import WinnowError
from training.batches import Layout, Packs, ShardError, batch_of_step, batches, share_of_step


def test_a_pack_is_read_as_it_was_written(shards, sums) -> None:
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
    whole = [batch.digest for (batch,) in batches(packs, range(1, 9), Layout(2))]
    assert [batch.digest for (batch,) in batches(packs, range(5, 9), Layout(2))] == whole[4:]
    assert len(set(whole)) == 8


def test_every_tensor_of_a_batch_is_moved_to_the_device(shards) -> None:
    def tensors(value: object) -> list[torch.Tensor]:
        if isinstance(value, tuple):
            return [found for part in value for found in tensors(part)]
        return [value] if isinstance(value, torch.Tensor) else []

    packs = Packs(shards)
    here, there = (batch_of_step(packs, 2, 3, device=torch.device(device)) for device in ("cpu", "meta"))
    assert type(there.plan) is type(here.plan) and there.ids == here.ids and there.digest == here.digest
    assert len(tensors(here)) == len(tensors(there)) > 6
    for one, other in zip(tensors(here), tensors(there), strict=True):
        assert other.device.type == "meta" and (one.shape, one.dtype) == (other.shape, other.dtype)


@pytest.mark.parametrize("world", [1, 3, 5, 7])
@pytest.mark.parametrize("micro_packs", [None, 1, 2, 50])
def test_packs_are_dealt_unevenly_and_in_micro_batches(shards, world: int, micro_packs: int | None) -> None:
    packs = Packs(shards)
    alone = batch_of_step(packs, 2, 7)
    shares = [share_of_step(packs, 2, Layout(7, rank, world, micro_packs)) for rank in range(world)]
    micro = [batch for share in shares for batch in share]
    assert sorted(name for batch in micro for name in batch.ids) == sorted(alone.ids)
    assert sum(len(batch.labels_M) for batch in micro) == alone.labelled
    sizes = [sum(len(batch.tokens_N) for batch in share) for share in shares]
    assert all(sizes) and max(len(share) for share in shares) - min(len(share) for share in shares) <= 1
    assert {(b.digest, b.labelled, b.inputs, b.sequences, b.step, b.epoch) for b in micro} == {
        (alone.digest, alone.labelled, alone.inputs, alone.sequences, 2, 0)
    }


def test_batches_of_a_compiled_kernel_have_one_shape(shards) -> None:
    packs = Packs(shards)
    made = [share_of_step(packs, step, Layout(4, kernel="flex")) for step in range(1, 5)]
    assert {len(batch.tokens_N) for (batch,) in made} == {4 * packs.info.capacity}
    for step, (batch,) in enumerate(made, 1):
        plain = batch_of_step(packs, step, 4)
        used = len(plain.tokens_N)
        assert torch.equal(batch.tokens_N[:used], plain.tokens_N) and not batch.tokens_N[used:].any()
        assert torch.equal(batch.rows_M, plain.rows_M) and torch.equal(batch.labels_M, plain.labels_M)


def test_more_workers_than_packs_are_refused(shards) -> None:
    with pytest.raises(WinnowError, match=r"5 workers cannot share batches of 4 packs.*at most 4 workers"):
        next(batches(Packs(shards), range(1, 2), Layout(4, 0, 5)))


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
        with pytest.raises(ShardError, match=r"cut\.arrow: not a complete Arrow file"):
            Packs([str(path)])

    def test_without_packs(self, write_packs, tmp_path: Path) -> None:
        path = write_packs(tmp_path, [([1], [2, 3])])[0]
        schema = pa.ipc.open_file(path).schema
        with pa.OSFile(path, "wb") as file, pa.ipc.new_file(file, schema):
            pass
        with pytest.raises(ShardError, match="contain no training packs"):
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


def test_shards_are_mapped_and_not_copied(shards, tmp_path: Path) -> None:
    copies = [shutil.copy(path, tmp_path) for path in shards]
    assert Packs([str(path) for path in copies]).fingerprint() == Packs(shards).fingerprint()
    before = pa.total_allocated_bytes()
    packs = Packs(shards)
    assert sum(len(pack.tokens) for pack in packs) > 5000
    assert pa.total_allocated_bytes() - before < 1000  # views of the mapped file, no copies


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory by kind is read from Linux's /proc")
def test_a_large_corpus_takes_no_private_memory(tmp_path: Path) -> None:
    """150 MB of packs, all read as batches. The pages belong to the file, so the system may drop them at any time."""
    packs, slots = 1000, 75_000
    lists = pa.ListArray.from_arrays(np.arange(packs + 1, dtype=np.int32) * slots, np.ones(packs * slots, np.uint16))
    ones = pa.ListArray.from_arrays(np.arange(packs + 1, dtype=np.int32), pa.array(np.full(packs, 10, np.int32)))
    rest = pa.ListArray.from_arrays(
        np.arange(packs + 1, dtype=np.int32), pa.array(np.full(packs, slots - 10, np.int32))
    )
    ids = pa.ListArray.from_arrays(np.arange(packs + 1, dtype=np.int32), pa.array([f"s/f/{i}" for i in range(packs)]))
    said = {"context": slots, "capacity": slots - 1, "vocab_size": 9, "epoch": 0, "epochs": 1, "special": {}}
    table = pa.table(
        [lists, ones, rest, ids], ["tokens", "instruction_lengths", "response_lengths", "ids"]
    ).replace_schema_metadata({"winnow": json.dumps(said)})
    path = tmp_path / "large.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    assert path.stat().st_size > 145e6
    script = textwrap.dedent("""
        import re, sys
        from pathlib import Path
        from training.batches import Packs

        def held(kind):
            return int(re.search(rf"{kind}:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

        packs = Packs([sys.argv[1]])
        packs[0].tokens.sum()  # memory that libraries allocate on first use does not count
        anonymous, filed = held("RssAnon"), held("RssFile")
        seen = sum(int(pack.tokens.sum()) for pack in packs)
        print(seen, held("RssAnon") - anonymous, held("RssFile") - filed)
    """)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], env=environment, capture_output=True, text=True, check=True
    )
    seen, own, filed = map(int, done.stdout.split())
    assert seen == packs * slots
    assert own < 20e6 < 100e6 < filed

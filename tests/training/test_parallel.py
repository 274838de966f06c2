"""Replicated or sharded, any number of workers compute what one worker computes, and write the same checkpoints.

Real processes over gloo. With the same mode and number of workers a run is reproducible bit for bit; otherwise only the
order of additions differs.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from tests.distributed import together
from training import checkpoint, journal, loop, parallel
from training.batches import Layout, Packs, batch_of_step, share_of_step
from training.configs import TrainConfig
from training.model import ModelConfig, build
from training.optimizer import AdamAtan2

SMALL = TrainConfig(
    name="small",
    model=ModelConfig(vocab_size=512, hidden=32, heads=2, feed_forward=64, blocks=1, max_positions=64),
    batch_packs=4, steps=6, lr=3e-3, warmup_steps=5, ema_decay=0.9, bp_warmup=0.5, precision="fp32",
    checkpoint_steps=3, validation_steps=3,
)  # fmt: skip
REPLICATED = SMALL.model_copy(update={"sharded": False})


def lines(out: Path) -> list[journal.Metrics]:
    return [journal.without_measured(line) for line in journal.read_metrics(str(out))]


def _train(shards: list[str], tokenizer: str, alone: str, out: str) -> None:
    """Everything that the tests need from several workers, in one start of the processes."""
    for config, name in ((SMALL, "sharded"), (REPLICATED, "whole")):
        loop.train(shards, tokenizer, config, f"{out}/{name}")
    if dist.get_rank() == 0:
        shutil.copytree(f"{out}/sharded", f"{out}/again")
        shutil.rmtree(f"{out}/again/step-00000006")
        shutil.copytree(alone, f"{out}/from-one")
        shutil.rmtree(f"{out}/from-one/step-00000006")
    dist.barrier()
    for name in ("again", "from-one"):
        loop.train(shards, tokenizer, SMALL, f"{out}/{name}")
    _half_precision(shards, f"{out}/bf16")


def _half_precision(shards: list[str], out: str) -> None:
    """One sharded step in bf16: its metrics and full gradients."""
    model = build(SMALL.model, 0)
    parallel.apply_fsdp(model, torch.bfloat16)
    weights = parallel.local_shards(model)
    batch = batch_of_step(Packs(shards), 1, 4, *parallel.rank_and_world(), torch.bfloat16)
    optimizer = AdamAtan2([shard.local for shard in weights.values()], 1e-3, (0.9, 0.95), 0.1, 0.9)
    sums = loop._step(model, weights, optimizer, [batch], 1e-3, 5, torch.bfloat16, None, False)
    metrics = {"loss": sums[0].item()}
    assert all(shard.local.dtype == shard.local.grad.dtype == torch.float32 for shard in weights.values())
    full = {name: parallel.gather_full(shard.local.grad, shard.parameter) for name, shard in weights.items()}
    if dist.get_rank() == 0:
        torch.save((metrics, full), out)


@pytest.fixture(scope="module")
def held_shards(write_packs, sums, shards, tmp_path_factory) -> list[str]:
    """Training packs, and a validation shard of one batch and a few more packs."""
    held = write_packs(tmp_path_factory.mktemp("held"), sums[:22], split="validation")
    assert 4 < len(Packs(held, "validation")) < 8
    return [*shards, *held]


@pytest.fixture(scope="module")
def alone(held_shards, tokenizer, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("alone")
    loop.train(held_shards, str(tokenizer), SMALL, str(out))
    return out


@pytest.fixture(scope="module", params=[2, 4])
def many(request, alone, held_shards, tokenizer, tmp_path_factory) -> Path:
    """Training folders `sharded` and `whole` (replicated); `again` and `from-one`, resumed sharded from step 3 of
    `sharded` and of a run with one worker. And the file `bf16`."""
    out = tmp_path_factory.mktemp(f"{request.param}-workers")
    together(request.param, _train, held_shards, str(tokenizer), str(alone), str(out))
    return out


@pytest.mark.parametrize("layout", ["sharded", "whole"])
def test_many_workers_compute_the_losses_of_one(many: Path, alone: Path, layout: str) -> None:
    for some, one in zip(lines(many / layout), lines(alone), strict=True):
        assert some["digest"] == one["digest"] and some["labels"] == one["labels"]
        # a gradient summed wrongly over workers would be two or four times as large
        assert some["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)
        assert some["loss"] == pytest.approx(one["loss"], rel=1e-5)
        if "validation_loss" in one:
            assert some["validation_loss"] == pytest.approx(one["validation_loss"], rel=1e-5)
    theirs, ours = (
        load_file(Path(checkpoint.read(str(out)).folder, "model.safetensors")) for out in (many / layout, alone)
    )
    assert {name: tensor.shape for name, tensor in theirs.items()} == {name: t.shape for name, t in ours.items()}
    for name, tensor in ours.items():
        # Adam-atan2's step does not shrink with the gradient, so near 0 the sign of the gradient is rounding error
        assert (theirs[name] - tensor).float().norm() <= 1e-3 * tensor.float().norm(), name


def test_a_sharded_run_resumes_bit_for_bit(many: Path) -> None:
    assert lines(many / "again") == lines(many / "sharded")
    for name in ("model", "ema", "optimizer"):
        files = [many / out / "step-00000006" / f"{name}.safetensors" for out in ("again", "sharded")]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_one_worker_resumes_a_run_of_many(many: Path, alone: Path, held_shards, tokenizer, tmp_path) -> None:
    out = tmp_path / "run"
    shutil.copytree(many / "sharded", out)
    shutil.rmtree(out / "step-00000006")
    assert loop.train(held_shards, str(tokenizer), SMALL, str(out))["resumed_from"] == 3
    assert [line["digest"] for line in lines(out)] == [line["digest"] for line in lines(alone)]
    for one, other in zip(lines(out), lines(alone), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)


def test_many_workers_resume_a_run_of_one(many: Path, alone: Path) -> None:
    for one, other in zip(lines(many / "from-one"), lines(alone), strict=True):
        assert one["digest"] == other["digest"]
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)


def test_bf16_weights_are_gathered_over_fp32_ones(many: Path, shards) -> None:
    metrics, gradients = torch.load(many / "bf16")
    model = build(SMALL.model, 0)
    loss_M, _ = loop.losses(model, batch_of_step(Packs(shards), 1, 4, dtype=torch.bfloat16), 5, torch.bfloat16)
    loss_M.mean().backward()
    assert metrics["loss"] == pytest.approx(loss_M.mean().item(), rel=1e-3)
    for name, parameter in model.named_parameters():
        gap = (gradients[name] - parameter.grad).norm() / parameter.grad.norm()
        assert gap < 0.02, name  # rounded to bf16 once for the whole batch, or once per worker


def _uneven(shards: list[str], tokenizer: str, out: str) -> None:
    """Three workers share four packs, one pack at a time: two micro-batches on the first, one on the others."""
    config = SMALL.model_copy(update={"micro_packs": 1, "recompute": True})
    loop.train(shards, tokenizer, config, f"{out}/sharded")
    loop.train(shards, tokenizer, config.model_copy(update={"sharded": False}), f"{out}/whole")
    model = build(SMALL.model, 0)
    parallel.apply_fsdp(model, torch.float32)
    weights = parallel.local_shards(model)
    optimizer = AdamAtan2([shard.local for shard in weights.values()], 1e-3, (0.9, 0.95), 0.1, 0.9)
    batches = share_of_step(Packs(shards), 1, Layout(4, *parallel.rank_and_world(), micro_packs=1))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        loop._step(model, weights, optimizer, batches, 1e-3, 5, torch.float32, None, False)
    if dist.get_rank() == 0:
        names = [event.name for event in profiler.events() if event.name.startswith("c10d::")]
        torch.save([sum(kind in name for name in names) for kind in ("allgather", "reduce_scatter")], f"{out}/counts")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_uneven_shares_in_micro_batches_gather_and_reduce_each_block_once(
    alone: Path, held_shards, tokenizer, tmp_path: Path
) -> None:
    together(3, _uneven, held_shards, str(tokenizer), str(tmp_path))
    for layout in ("sharded", "whole"):
        test_many_workers_compute_the_losses_of_one(tmp_path, alone, layout)
    units = 3  # a block of H, a block of L, and the root, in a step that calls each module several times
    assert torch.load(tmp_path / "counts") == [units, units]


@pytest.mark.filterwarnings("ignore")  # the compiler warns about its own code
def test_compiled_blocks_compute_the_same_in_a_few_graphs_for_all_blocks_and_lengths(shards) -> None:
    config = SMALL.model.model_copy(update={"blocks": 2})
    batches = [batch_of_step(Packs(shards), step, 2) for step in range(1, 6)]
    assert len({len(batch.tokens_N) for batch in batches}) > 2
    plain, compiled = build(config, 0), build(config, 0)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    parallel.compile_blocks(compiled, backend="aot_eager")
    graphs = []
    for depth, batch in zip((2, 3, 5, 5, 5), batches, strict=True):
        for model in (plain, compiled):
            model.zero_grad()
            loop.losses(model, batch, depth, torch.float32)[0].mean().backward()
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
        for one, other in zip(plain.parameters(), compiled.parameters(), strict=True):
            assert (one.grad is None) == (other.grad is None)
            if one.grad is not None:
                assert torch.allclose(one.grad, other.grad, rtol=1e-4, atol=1e-6)
    # graphs before and after the attention call, each without gradient, with gradient, and from the input on
    assert graphs == [graphs[0]] * 5 and graphs[0] <= 4 * 3, graphs

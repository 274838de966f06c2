"""Trainings at size: steps that are not finite, memory, micro-batches, locks, damaged files and full disks."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipelines.errors import CheckFailed, RunError, WinnowError
from training import checkpoint, journal, loop, parallel
from training.batches import Layout, Packs, check_share, share_of_step
from training.checkpoint import CheckpointError
from training.configs import CONFIGS, TrainConfig
from training.cost import memory
from training.losses import linear_cross_entropy
from training.memory import USABLE
from training.model import ModelConfig, build
from training.optimizer import AdamAtan2

SMALL = TrainConfig(
    name="small",
    model=ModelConfig(vocab_size=512, hidden=32, heads=2, feed_forward=64, blocks=1, max_positions=64),
    batch_packs=5, steps=4, lr=3e-3, warmup_steps=2, ema_decay=0.9, bp_warmup=0.5, precision="fp32",
    checkpoint_steps=1, keep=9,
)  # fmt: skip


def finished(config: TrainConfig, shards, tokenizer: Path, out: Path) -> tuple[list[journal.Metrics], dict]:
    loop.train(shards, str(tokenizer), config, str(out))
    return journal.read_metrics(str(out)), load_file(Path(checkpoint.read(str(out)).folder, "model.safetensors"))


@pytest.fixture(scope="module")
def plain(shards, tokenizer, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("plain")
    loop.train(shards, str(tokenizer), SMALL, str(out))
    return out


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_micro_batches_and_recomputed_blocks_give_the_step_of_the_whole_batch(
    precision: str, shards, tokenizer, tmp_path: Path
) -> None:
    config = SMALL.model_copy(update={"precision": precision})
    rel = 1e-5 if precision == "fp32" else 2e-3
    whole, weights = finished(config, shards, tokenizer, tmp_path / "whole")
    for number, update in enumerate(({"micro_packs": 2}, {"recompute": True}, {"micro_packs": 1, "recompute": True})):
        lines, made = finished(config.model_copy(update=update), shards, tokenizer, tmp_path / str(number))
        for one, other in zip(lines, whole, strict=True):
            assert one["digest"] == other["digest"]
            assert one["loss"] == pytest.approx(other["loss"], rel=rel)
            assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=10 * rel)
        if precision == "fp32":
            for name, tensor in weights.items():
                assert (made[name] - tensor).float().norm() <= 1e-3 * tensor.float().norm(), name
        if update == {"recompute": True}:
            assert [line["loss"] for line in lines] == [line["loss"] for line in whole]  # bit for bit


def test_a_run_may_go_on_with_other_micro_batches(plain: Path, shards, tokenizer, tmp_path: Path) -> None:
    loop.train(shards, str(tokenizer), SMALL, str(tmp_path))
    for folder in tmp_path.glob("step-0000000[34]"):
        checkpoint.storage.remove(str(folder))
    config = SMALL.model_copy(update={"micro_packs": 2, "recompute": True})
    assert loop.train(shards, str(tokenizer), config, str(tmp_path))["resumed_from"] == 2


class TestStepsThatAreNotFinite:
    def test_they_are_skipped_and_logged_and_a_limit_ends_the_run(self, shards, tokenizer, tmp_path: Path) -> None:
        config = SMALL.model_copy(update={"lr": 1e30, "warmup_steps": 0, "skip_limit": 3, "steps": 20})
        for attempt in range(2):  # a second try resumes, and fails in the same way
            with pytest.raises(CheckFailed, match=r"in 3 steps in a row.*last good checkpoint is .*lr below 1e\+30"):
                loop.train(shards, str(tokenizer), config, str(tmp_path))
            lines = journal.read_metrics(str(tmp_path))
            assert [line.get("skipped", False) for line in lines[-3:]] == [True] * 3, attempt
            assert all(line["loss"] is None and line["grad_norm"] is None for line in lines[-3:])
            assert not lines[0].get("skipped")
        assert "NaN" not in (tmp_path / journal.METRICS).read_text()
        for folder in tmp_path.glob("step-*"):
            for file in ("model", "ema", "optimizer"):
                assert all(torch.isfinite(t).all() for t in load_file(folder / f"{file}.safetensors").values())
        steps = {folder.name: checkpoint.read(str(folder)) for folder in tmp_path.glob("step-*")}
        applied = {max(saved.state.optimizer_steps.values()) for saved in steps.values()}
        assert applied == {sum(not line.get("skipped") for line in lines)}  # a skipped step is no step of the optimiser

    def test_weights_that_overflow_reach_no_checkpoint(self, shards, tokenizer, tmp_path: Path) -> None:
        config = SMALL.model_copy(update={"lr": 1e300, "warmup_steps": 0})
        with pytest.raises(CheckFailed, match="not finite"):
            loop.train(shards, str(tokenizer), config, str(tmp_path))
        assert not list(tmp_path.glob("*step-*"))

    def test_clipping_bounds_the_gradient(self, shards) -> None:
        model = build(SMALL.model, 0)
        weights = parallel.local_shards(model)
        optimizer = AdamAtan2(list(model.parameters()), 1e-3, (0.9, 0.95), 0.1, 0.9)
        batches = share_of_step(Packs(shards), 1, Layout(5, micro_packs=2))
        norms = []
        for clip in (None, 0.01, 1e6):
            sums = loop._step(model, weights, optimizer, batches, 0.0, 5, torch.float32, clip, False)
            norms.append((sums[3].sqrt().item(), parallel.norm_squared(parallel.gradients(weights)).sqrt().item()))
        assert norms[0][0] == pytest.approx(norms[0][1])
        assert norms[1] == pytest.approx((norms[0][0], 0.01), rel=1e-5)
        assert norms[2] == pytest.approx(norms[0], rel=1e-5)

    @pytest.mark.parametrize("lr", [float("inf"), float("nan")])
    def test_a_learning_rate_is_a_number(self, lr: float) -> None:
        with pytest.raises(ValueError, match="finite"):
            TrainConfig.model_validate(SMALL.model_dump() | {"lr": lr})


class TestFiles:
    def test_one_training_at_a_time_writes_to_a_folder(
        self, shards, tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(checkpoint, "LOCK_SECONDS", 0.1)
        with checkpoint.locked(str(tmp_path)):
            with pytest.raises(RunError, match=r"a training \(process \d+ on .* is writing there"):
                loop.train(shards, str(tokenizer), SMALL, str(tmp_path))
            assert [path.name for path in tmp_path.iterdir()] == [checkpoint.LEASE]
        assert not list(tmp_path.iterdir())
        assert loop.train(shards, str(tokenizer), SMALL, str(tmp_path))["steps"] == 4

    @pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "tokenizer.json"])
    def test_a_changed_byte_is_found_before_training_goes_on(
        self, plain: Path, shards, tokenizer, tmp_path: Path, file: str
    ) -> None:
        loop.train(shards, str(tokenizer), SMALL.model_copy(update={"keep": 2}), str(tmp_path))
        folder = tmp_path / "step-00000004"
        content = bytearray((folder / file).read_bytes())
        content[-1] ^= 1
        (folder / file).write_bytes(content)
        (tmp_path / journal.METRICS).write_text("")
        with pytest.raises(CheckpointError, match=f"step-00000004/{file} is missing or damaged.*earlier checkpoint"):
            loop.train(shards, str(tokenizer), SMALL.model_copy(update={"keep": 2}), str(tmp_path))

    def test_a_changed_byte_is_found_before_a_model_is_used(self, plain: Path, tmp_path: Path) -> None:
        import shutil

        shutil.copytree(plain, tmp_path / "copy")
        ema = tmp_path / "copy/step-00000004/ema.safetensors"
        content = bytearray(ema.read_bytes())
        content[-1] ^= 1
        ema.write_bytes(content)
        with pytest.raises(CheckpointError, match="its bytes changed"):
            checkpoint.read_model(checkpoint.read(str(tmp_path / "copy")))

    def test_a_full_disk_leaves_nothing_half_written(self, shards, tokenizer, tmp_path: Path) -> None:
        config = SMALL.model_copy(update={"checkpoint_steps": 2})
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))  # as a full disk: writing a large file fails
        try:
            with pytest.raises(RunError, match=r"cannot be written to \(.*too large.*\); free some space.*no earlier"):
                loop.train(shards, str(tokenizer), config, str(tmp_path))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert not list(tmp_path.glob("*step-*"))
        assert loop.train(shards, str(tokenizer), config, str(tmp_path))["steps"] == 4


class TestMemory:
    def test_what_does_not_fit_is_refused_before_the_model_is_made(self, shards, tokenizer, tmp_path: Path) -> None:
        model = SMALL.model.model_copy(update={"hidden": 1 << 17, "heads": 1024, "feed_forward": 1 << 19, "blocks": 64})
        config = SMALL.model_copy(update={"model": model, "name": "vast"})
        with pytest.raises(WinnowError, match=r"vast needs about [\d,.]+ GB of memory, and this .* use .*smaller"):
            loop.train(shards, str(tokenizer), config, str(tmp_path))

    @pytest.mark.parametrize("workers", [1, 2, 4, 8, 16, 32])
    @pytest.mark.parametrize("name", ["b", "l", "xl", "xxl", "xxl_wide"])
    def test_every_published_size_starts_on_gpus_of_80_gb(self, name: str, workers: int) -> None:
        config = CONFIGS[name](65_536, 4097)
        check_share(config.batch_packs, workers)
        fits = [
            sum(memory(config.model_copy(update={"recompute": recompute}), workers, 1, gpu=True)) < USABLE * 85e9
            for recompute in (False, True)
        ]
        assert fits[1]
        assert fits[0] or name.startswith("xxl")  # 3 B parameters need activation checkpointing on few GPUs


def test_the_fused_head_has_the_loss_and_gradients_of_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.losses.CHUNK_ROWS", 7)
    z = torch.randn(30, 16, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(50, 16, dtype=torch.float64, requires_grad=True)
    labels, gradient = torch.randint(0, 50, (30,)), torch.rand(30)
    made = []
    logits = z @ weight.T
    wanted = torch.nn.functional.cross_entropy(logits, labels, reduction="none"), logits.argmax(-1) == labels
    for loss_M, correct_M in (linear_cross_entropy(z, weight, labels), wanted):
        made.append((loss_M.float(), correct_M, *torch.autograd.grad(loss_M, (z, weight), gradient.to(loss_M))))
    for one, other in zip(*made, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(linear_cross_entropy(z, weight, labels)[0], made[0][0])

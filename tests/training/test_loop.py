"""Training learns, is reproducible bit for bit, and resumes exactly where it was stopped."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from training import checkpoint, journal, loop
from training.batches import Packs, ShardError, batch_of_step
from training.checkpoint import CheckpointError
from training.configs import CONFIGS, TrainConfig, bp_steps, learning_rate
from training.model import ModelConfig, build

SMALL = TrainConfig(
    name="small",
    model=ModelConfig(vocab_size=512, hidden=32, heads=2, feed_forward=64, blocks=1, max_positions=64),
    batch_packs=4, steps=24, lr=3e-3, warmup_steps=5, ema_decay=0.9, precision="fp32", checkpoint_steps=8, keep=2,
)  # fmt: skip


def lines(out: Path) -> list[dict]:
    return [journal.without_measured(line) for line in journal.read_metrics(str(out))]


@pytest.fixture(scope="module")
def finished(shards, tokenizer, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("run")
    loop.train(shards, str(tokenizer), SMALL, str(out))
    return out


def test_it_learns(finished: Path) -> None:
    losses = [line["loss"] for line in lines(finished)]
    assert len(losses) == 24
    assert losses[0] > 5 and sum(losses[-4:]) / 4 < 3


def test_metrics_record_the_schedule(finished: Path) -> None:
    said = lines(finished)
    assert [line["lr"] for line in said] == [learning_rate(SMALL, step, 24) for step in range(1, 25)]
    assert [line["bp_steps"] for line in said] == [2, 3, 3, 4] + [5] * 20
    assert said[0]["lr"] == pytest.approx(3e-3 / 5) and said[-1]["lr"] == 3e-3


def test_after_the_warm_up_the_learning_rate_is_constant_or_falls_as_a_cosine() -> None:
    config = SMALL.model_copy(update={"lr": 2.0, "warmup_steps": 4})
    constant = [learning_rate(config, step, 24) for step in range(1, 25)]
    assert constant == [0.5, 1.0, 1.5] + [2.0] * 21
    falling = [learning_rate(config.model_copy(update={"lr_min_ratio": 0.1}), step, 24) for step in range(1, 25)]
    assert falling[:4] == constant[:4] and falling[-1] == pytest.approx(0.2)
    assert falling[13] == pytest.approx(1.1) and falling[3:] == sorted(falling[3:], reverse=True)  # half at the middle


def test_the_first_loss_is_the_mean_over_labels(finished: Path, shards) -> None:
    batch = batch_of_step(Packs(shards), 1, SMALL.batch_packs)
    model = build(SMALL.model, SMALL.seed)
    loss_M, right_M = loop.losses(model, batch, 2, torch.float32)
    first = lines(finished)[0]
    assert first["loss"] == pytest.approx(loss_M.mean().item(), rel=1e-6)
    assert first["token_accuracy"] == pytest.approx(right_M.float().mean().item())
    assert first["digest"] == batch.digest and first["labels"] == len(loss_M)


def test_a_run_is_reproducible_bit_for_bit(finished: Path, shards, tokenizer, tmp_path: Path) -> None:
    loop.train(shards, str(tokenizer), SMALL, str(tmp_path))
    assert lines(tmp_path) == lines(finished)
    one, two = (Path(checkpoint.read(str(out)).folder) for out in (finished, tmp_path))
    for name in ("model", "ema", "optimizer"):
        assert (one / f"{name}.safetensors").read_bytes() == (two / f"{name}.safetensors").read_bytes()


@pytest.mark.parametrize("stop", [8, 13, 16])
def test_a_stopped_run_resumes_exactly(finished: Path, shards, tokenizer, tmp_path: Path, stop: int) -> None:
    class Stop(Exception):
        pass

    def interrupt(metrics: journal.Metrics) -> None:
        if metrics["step"] == stop:
            raise Stop

    with pytest.raises(Stop):
        loop.train(shards, str(tokenizer), SMALL, str(tmp_path), on_step=interrupt)
    torch.manual_seed(1)
    done = loop.train(shards, str(tokenizer), SMALL, str(tmp_path))
    assert done["resumed_from"] == stop // 8 * 8
    assert lines(tmp_path) == lines(finished)
    one, two = (load_file(Path(checkpoint.read(str(out)).folder, "model.safetensors")) for out in (finished, tmp_path))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.fault("kill -9 of a training", "carries on to the same weights")
def test_the_run_of_a_killed_process_resumes(finished: Path, shards, tokenizer, tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import json, sys
        from training import loop
        from training.configs import TrainConfig
        shards, tokenizer, config, out = json.loads(sys.argv[1])
        loop.train(shards, tokenizer, TrainConfig.model_validate_json(config), out)
    """)
    arguments = json.dumps([list(shards), str(tokenizer), SMALL.model_dump_json(), str(tmp_path)])
    environment = {**os.environ, "PYTHONPATH": str(Path(loop.__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-c", script, arguments], env=environment)
    deadline = time.monotonic() + 120
    stop = random.randint(9, 22)  # the result must not depend on it
    while len(journal.read_metrics(str(tmp_path))) < stop and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = loop.train(shards, str(tokenizer), SMALL, str(tmp_path))
    assert done["resumed_from"] in (0, 8, 16, 24)  # a kill while a checkpoint is written leaves none
    assert lines(tmp_path) == lines(finished)
    assert not list(tmp_path.glob(".step-*"))


def test_a_finished_run_is_not_run_again(finished: Path, shards, tokenizer) -> None:
    before = (finished / journal.METRICS).read_bytes()
    done = loop.train(shards, str(tokenizer), SMALL, str(finished), on_step=lambda metrics: pytest.fail("a step ran"))
    assert done["resumed_from"] == done["steps"] == 24
    assert (finished / journal.METRICS).read_bytes() == before


def test_bf16_is_close_to_fp32(shards) -> None:
    model = build(SMALL.model, 0)
    values = {}
    for dtype in (torch.float32, torch.bfloat16):
        model.zero_grad()
        loss_M, _ = loop.losses(model, batch_of_step(Packs(shards), 1, 4, dtype=dtype), 5, dtype)
        loss_M.mean().backward()
        values[dtype] = (loss_M.mean().item(), model.lm_head.weight.grad.clone())
    assert values[torch.bfloat16][0] == pytest.approx(values[torch.float32][0], rel=0.02)
    cosine = torch.nn.functional.cosine_similarity(*(value[1].flatten() for value in values.values()), dim=0)
    assert cosine > 0.99 and values[torch.bfloat16][1].dtype == torch.float32


class TestRefusals:
    def test_another_runs_folder(self, finished: Path, shards, tokenizer) -> None:
        with pytest.raises(CheckpointError, match="other data"):
            loop.train(shards, str(tokenizer), SMALL, str(finished), run_key="another")

    def test_another_configuration(self, finished: Path, shards, tokenizer) -> None:
        with pytest.raises(CheckpointError, match=r"lr 0\.003 -> 0\.1"):
            loop.train(shards, str(tokenizer), SMALL.model_copy(update={"lr": 0.1}), str(finished))

    def test_vocabulary_that_does_not_fit(self, shards, tokenizer, tmp_path: Path) -> None:
        config = SMALL.model_copy(update={"model": SMALL.model.model_copy(update={"vocab_size": 256})})
        with pytest.raises(ShardError, match="vocabulary of 320"):
            loop.train(shards, str(tokenizer), config, str(tmp_path))

    def test_context_that_does_not_fit(self, shards, tokenizer, tmp_path: Path) -> None:
        config = SMALL.model_copy(update={"model": SMALL.model.model_copy(update={"max_positions": 32})})
        with pytest.raises(ShardError, match="context of 65"):
            loop.train(shards, str(tokenizer), config, str(tmp_path))

    def test_too_little_data(self, write_packs, sums, tokenizer, tmp_path: Path) -> None:
        shards = write_packs(tmp_path / "packs", sums[:3])
        with pytest.raises(ShardError, match="do not fill one batch of 4"):
            loop.train(shards, str(tokenizer), SMALL, str(tmp_path))

    def test_a_damaged_checkpoint(self, finished: Path, shards, tokenizer, tmp_path: Path) -> None:
        out = tmp_path / "run"
        shutil.copytree(finished, out)
        weights = Path(checkpoint.read(str(out)).folder, "model.safetensors")
        weights.write_bytes(weights.read_bytes()[:100])
        with pytest.raises(CheckpointError, match=r"model\.safetensors is missing or damaged"):
            loop.train(shards, str(tokenizer), SMALL, str(out))


class TestCheckpoints:
    def test_the_configured_number_is_kept(self, finished: Path) -> None:
        assert [path.name for path in sorted(finished.glob("step-*"))] == ["step-00000016", "step-00000024"]

    def test_an_incomplete_one_is_ignored(self, finished: Path, tmp_path: Path) -> None:
        out = tmp_path / "run"
        shutil.copytree(finished, out)
        (out / "step-00000024/checkpoint.json").unlink()
        assert checkpoint.read(str(out)).state.step == 16

    def test_a_folder_without_one_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="no checkpoint there"):
            checkpoint.read(str(tmp_path))

    def test_the_average_lags_behind_the_weights(self, finished: Path) -> None:
        last = checkpoint.read(str(finished))
        start = build(SMALL.model, SMALL.seed).state_dict()["lm_head.weight"]
        average, weights = (checkpoint.read_model(last, average=a).lm_head.weight for a in (True, False))
        assert 0 < (average - start).norm() < (weights - start).norm()


@pytest.mark.parametrize("name", CONFIGS)
def test_every_configuration_is_complete(name: str) -> None:
    config = CONFIGS[name](65_536, 4097)
    assert config.name == name and config.model.max_positions == 4096
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config
    steps = [bp_steps(config, step, 1000) for step in (1, 66, 67, 133, 134, 200, 1000)]
    assert steps == ([5] * 7 if config.bp_warmup == 0 else [2, 2, 3, 3, 4, 5, 5])


def test_the_smallest_configuration_differentiates_all_recurrent_calls_from_the_first_step() -> None:
    assert {name for name in CONFIGS if CONFIGS[name](65_536, 4097).bp_warmup == 0} == {"tiny"}

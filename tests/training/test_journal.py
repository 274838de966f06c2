"""The record of a run: metrics that continue after a resume, TensorBoard events, a loss curve."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
from tensorboardX.proto.event_pb2 import Event

from training import journal, loop
from training.batches import Packs, batch_of_step
from training.checkpoint import read, read_model
from training.configs import TrainConfig
from training.model import ModelConfig

SMALL = TrainConfig(
    name="small",
    model=ModelConfig(vocab_size=512, hidden=32, heads=2, feed_forward=64, blocks=1, max_positions=64),
    batch_packs=4, steps=14, lr=3e-3, warmup_steps=5, ema_decay=0.9, precision="fp32", checkpoint_steps=4, keep=9,
    validation_steps=5, validation_packs=6,
)  # fmt: skip


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def run(write_packs, sums, shards, tokenizer, tmp_path_factory) -> tuple[list[str], Path]:
    """A run that was stopped after step 10 and resumed from step 8."""
    held = write_packs(tmp_path_factory.mktemp("held"), sums[:40], split="validation")
    out = tmp_path_factory.mktemp("run")

    def stop(metrics: journal.Metrics) -> None:
        if metrics["step"] == 10:
            raise Stop

    with pytest.raises(Stop):
        loop.train([*shards, *held], str(tokenizer), SMALL, str(out), on_step=stop)
    assert journal.read_metrics(str(out))[-1]["step"] == 10
    loop.train([*shards, *held], str(tokenizer), SMALL, str(out))
    return [*shards, *held], out


def events(folder: Path) -> list[tuple[int, str, float]]:
    """(step, name, value) of all scalars, files in the order of their creation, parsed by the record framing."""
    found = []
    for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        data = path.read_bytes()
        while data:
            size = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + size])
            found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
            data = data[16 + size :]
    return found


def test_each_step_is_recorded_once_with_all_values(run: tuple[list[str], Path]) -> None:
    lines = journal.read_metrics(str(run[1]))
    assert [line["step"] for line in lines] == list(range(1, 15))
    for line in lines:
        assert set(journal.MEASURED) <= line.keys()
        assert 0 <= line["input_wait"] <= 1 and line["mfu"] > 0 and line["memory"] > 50e6
    assert journal.last_metrics(str(run[1])) == lines[-1]


def test_a_last_line_cut_short_is_not_read(run: tuple[list[str], Path], tmp_path: Path) -> None:
    whole = (run[1] / journal.METRICS).read_text()
    (tmp_path / journal.METRICS).write_text(whole[:-20])
    last = journal.last_metrics(str(tmp_path))
    assert last == journal.read_metrics(str(tmp_path))[-1] and last["step"] == 13
    assert journal.last_metrics(str(tmp_path / "nowhere")) is None


def test_the_validation_loss_is_that_of_the_weights_at_that_step(run: tuple[list[str], Path]) -> None:
    shards, out = run
    said = {
        line["step"]: line["validation_loss"] for line in journal.read_metrics(str(out)) if "validation_loss" in line
    }
    assert list(said) == [5, 10, 14]
    model = read_model(read(str(out)), average=False)
    batch = batch_of_step(Packs(shards, "validation"), 1, 4)  # six packs make one batch of four
    with torch.no_grad():
        loss_M, _ = loop.losses(model, batch, 5, torch.float32)
    assert said[14] == pytest.approx(loss_M.mean().item(), rel=1e-6)


def test_validation_rows_are_in_no_batch(run: tuple[list[str], Path]) -> None:
    packs = Packs(run[0])
    assert len(packs) == len(Packs(run[0][:-1]))


def test_tensorboard_shows_the_recorded_values(run: tuple[list[str], Path]) -> None:
    shown = {(step, name): value for step, name, value in events(run[1] / journal.EVENTS)}
    for line in journal.read_metrics(str(run[1])):
        for name in ("loss", "grad_norm", "token_accuracy", "sequence_accuracy", "mfu", "memory", "tokens_per_second"):
            assert shown[line["step"], name] == pytest.approx(line[name], rel=1e-6)
    assert (14, "validation_loss") in shown and (13, "validation_loss") not in shown


def test_the_summary_averages_the_train_loss_over_the_last_steps(run: tuple[list[str], Path]) -> None:
    lines = journal.read_metrics(str(run[1]))
    labels = sum(line["labels"] for line in lines)
    expected = sum(line["loss"] * line["labels"] for line in lines) / labels  # fewer than 50 steps: all of them
    assert loop.summary(str(run[1]))["mean_train_loss"] == pytest.approx(expected)
    assert journal.mean_loss(lines[-2:]) == pytest.approx(
        np.average([line["loss"] for line in lines[-2:]], weights=[line["labels"] for line in lines[-2:]])
    )


def test_the_curve_is_drawn(run: tuple[list[str], Path]) -> None:
    image = matplotlib.image.imread(run[1] / journal.CURVE)
    assert image.shape[0] > 300 and image.shape[1] > 600
    coloured = image[..., :3].max(-1) - image[..., :3].min(-1) > 0.3
    assert coloured.sum() > 500  # coloured lines, not only grey axes
    assert not list(run[1].glob(f".{journal.CURVE}"))


def test_the_running_mean_is_a_weighted_mean_of_the_last_values() -> None:
    values, weights = np.random.default_rng(0).random((2, 50))
    parts = [slice(max(0, at - 6), at + 1) for at in range(50)]
    want = np.array([np.average(values[part], weights=weights[part]) for part in parts])
    assert journal.running_mean(values, weights, 7) == pytest.approx(want)


def test_checkpoints_are_also_written_by_time(shards, tokenizer, tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"steps": 9, "checkpoint_steps": 1000, "checkpoint_minutes": 1e-9})
    loop.train(shards, str(tokenizer), config, str(tmp_path))
    assert [path.name for path in sorted(tmp_path.glob("step-*"))] == [f"step-{step:08d}" for step in range(1, 10)]

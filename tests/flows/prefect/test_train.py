"""Ray Train: a killed worker and a killed job do not change the losses; wrong arguments fail before Ray starts."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray

from flows.configure import configure
from flows.ray.train import train_on_ray
from pipelines.errors import CheckFailed, RunError, WinnowError
from tests.distributed import together
from training import journal, loop
from training.batches import ShardError
from training.checkpoint import CheckpointError
from training.configs import TrainConfig
from training.model import ModelConfig
from training.provenance import PackFiles, find_packs

SMALL = TrainConfig(
    name="small",
    model=ModelConfig(vocab_size=256, hidden=32, heads=2, feed_forward=64, blocks=1, max_positions=64),
    batch_packs=2, steps=130, validation_steps=50,
    lr=3e-3, warmup_steps=5, ema_decay=0.9, precision="fp32", checkpoint_steps=6, keep=2,
)  # fmt: skip

SPECIAL = {"pad": 0, "direct": 1, "cot": 2, "noisy": 3, "synth": 4, "boq": 5, "eoq": 6, "eoa": 7}


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two shards of packs (repeat the last tokens of the instruction) and a tokenizer.json."""
    folder = tmp_path_factory.mktemp("packs")
    rng = np.random.default_rng(0)
    said = {"context": 65, "capacity": 64, "vocab_size": 200, "epoch": 0, "epochs": 1, "special": SPECIAL}
    schema = pa.schema(
        [("tokens", pa.list_(pa.uint16())), ("instruction_lengths", pa.list_(pa.int32())),
         ("response_lengths", pa.list_(pa.int32())), ("ids", pa.list_(pa.string()))],
        metadata={"winnow": json.dumps(said)},
    )  # fmt: skip
    for part in range(2):
        columns: dict[str, list] = {name: [] for name in schema.names}
        for pack in range(130):
            words = rng.integers(8, 200, (4, 8)).tolist()
            columns["tokens"].append([t for w in words for t in [5, 1, *w, 6, *w[-2:], 7]])
            columns["instruction_lengths"].append([11] * 4)
            columns["response_lengths"].append([3] * 4)
            columns["ids"].append([f"made/{part}/{pack * 4 + i}" for i in range(4)])
        with pa.OSFile(str(folder / f"part-{part:05d}.arrow"), "wb") as file, pa.ipc.new_file(file, schema) as writer:
            writer.write_table(pa.table(columns, schema=schema))
    (folder / "tokenizer.json").write_text("{}")
    return folder


def numbers(out: Path) -> list[dict]:
    return [journal.without_measured(line) for line in journal.read_metrics(str(out))]


def _alone(shards: list[str], tokenizer: str, out: str) -> None:
    loop.train(shards, tokenizer, SMALL, out)


def drive(found: PackFiles, out: Path, then: str = "") -> int:
    """Train on Ray in a new process, executing `then` with each step's `metrics`; returns the exit code."""
    script = textwrap.dedent("""
        import json, os, signal, sys
        import psutil
        from flows.ray.train import train_on_ray
        from training.configs import TrainConfig

        shards, tokenizer, config, out, then = json.loads(sys.argv[1])
        seen = []

        def look(metrics):
            if then:
                exec(then, globals(), {"metrics": metrics})

        def kill_a_worker():
            tree = psutil.Process().children(recursive=True)
            seen.append([p for p in tree if "RayTrainWorker" in "".join(p.cmdline())][-1])
            seen[0].kill()

        print(json.dumps(train_on_ray(shards, tokenizer, TrainConfig.model_validate_json(config), out, 2, look)))
    """)
    arguments = json.dumps([found.shards, found.tokenizer, SMALL.model_dump_json(), str(out), then])
    process = subprocess.Popen([sys.executable, "-c", script, arguments], start_new_session=True)
    return process.wait(timeout=200)


@pytest.mark.fault("kill -9 of a training worker and of the job", "no loss changes")
def test_a_killed_worker_and_a_killed_job_change_no_loss(packs: Path, tmp_path: Path) -> None:
    """Kill a worker, so that Ray Train restarts all; kill the job and run it again; compare with an undisturbed run."""
    found = find_packs(str(packs), "unused")
    out, quiet = tmp_path / "killed", tmp_path / "quiet"
    first, second = random.randint(7, 20), random.randint(27, 40)
    kill = f"""
if metrics["step"] >= {first} and not seen:
    kill_a_worker()
elif seen and metrics["step"] >= {second} and not seen[0].is_running():
    os.killpg(0, signal.SIGKILL)
"""
    assert drive(found, out, kill) == -signal.SIGKILL
    assert second <= numbers(out)[-1]["step"] < SMALL.steps
    assert drive(found, out) == 0
    together(2, _alone, found.shards, found.tokenizer, str(quiet))
    assert numbers(out) == numbers(quiet)
    assert len(numbers(out)) == SMALL.steps
    assert not (out / ".ray").exists()


@pytest.mark.filterwarnings("ignore")  # Ray warns about itself
def test_a_training_that_diverges_is_not_started_again(packs: Path, tmp_path: Path) -> None:
    found = find_packs(str(packs), "unused")
    config = SMALL.model_copy(update={"lr": 1e30, "warmup_steps": 0, "skip_limit": 2})
    with pytest.raises(CheckFailed, match=r"^step \d+: .* in 2 steps in a row"):
        train_on_ray(found.shards, found.tokenizer, config, str(tmp_path / "out"), 2)
    assert [line.get("skipped", False) for line in numbers(tmp_path / "out")][-2:] == [True, True]


class TestRefusalsBeforeRayIsStarted:
    def test_unknown_configuration(self, packs: Path) -> None:
        with pytest.raises(WinnowError, match="did you mean 'tiny'"):
            configure("tinny", find_packs(str(packs), "").shards)

    def test_folder_without_shards(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match=r"must hold \*\.arrow pack shards"):
            find_packs(str(tmp_path), "")

    def test_workers_that_cannot_share(self, packs: Path, tmp_path: Path) -> None:
        found = find_packs(str(packs), "")
        with pytest.raises(WinnowError, match="3 workers cannot share"):
            train_on_ray(found.shards, found.tokenizer, SMALL, str(tmp_path), 3)

    def test_too_little_data(self, packs: Path, tmp_path: Path) -> None:
        found = find_packs(str(packs), "")
        with pytest.raises(ShardError, match="do not fill one batch"):
            train_on_ray(found.shards, found.tokenizer, SMALL.model_copy(update={"batch_packs": 1000}), str(tmp_path))

    def test_another_runs_folder(self, packs: Path, tmp_path: Path) -> None:
        found = find_packs(str(packs), "")
        loop.train(found.shards, found.tokenizer, SMALL.model_copy(update={"steps": 2}), str(tmp_path))
        with pytest.raises(CheckpointError, match="steps 2 -> 130"):
            train_on_ray(found.shards, found.tokenizer, SMALL, str(tmp_path))

    def test_a_finished_run_needs_no_ray(self, packs: Path, tmp_path: Path) -> None:
        found, config = find_packs(str(packs), ""), SMALL.model_copy(update={"steps": 3})
        first = loop.train(found.shards, found.tokenizer, config, str(tmp_path))
        again = train_on_ray(found.shards, found.tokenizer, config, str(tmp_path))
        assert again == {**first, "resumed_from": 3}
        assert not ray.is_initialized()

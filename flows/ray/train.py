"""HRM-Text under Ray Train.

Each worker maps the pack shards itself: Ray moves paths, never rows. (With `datasets=` Ray Data would want processors
of its own, and on a machine whose every processor has a worker the job hangs.) What a worker does is training/loop.py;
when one dies, Ray Train starts the group again and the loop carries on from its latest checkpoint, bit for bit.

Metrics reach the driver through the run folder's metrics.jsonl, which on a cluster lies on storage that all share, as
the checkpoints do. Ray Train is told at checkpoints only: a report waits for the controller to poll.

This module is what a worker imports, so it knows nothing of Prefect, which takes seconds to load.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from flows.ray.engine import ray_session
from pipelines.errors import CheckFailed, WinnowError
from training import checkpoint, loop
from training.batches import Packs, even_share
from training.configs import TrainConfig
from training.journal import METRICS, Metrics, last_metrics

RESTARTS = 3
"""How often the group of workers is started again after one has died."""

CPU_WORKERS = 2
"""Workers where there is no GPU: each takes a processor."""

POLL_SECONDS = 0.5

QUIET = {
    "RAY_TRAIN_METRICS_ENABLED": "0",  # nobody scrapes them, and without a dashboard they warn every second
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # the end of a run, and the death of a worker, is seen at such a poll
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


def train_on_ray(
    shards: Sequence[str],
    tokenizer: str,
    config: TrainConfig,
    out: str,
    workers: int | None = None,
    on_progress: Callable[[Metrics], None] | None = None,
    run_key: str | None = None,
) -> Metrics:
    """Train with Ray Train's TorchTrainer, and return what `loop.train` returns.

    workers: each has a GPU of its own (NCCL) where Ray has any, else a processor (gloo). By default one for each GPU of
    this machine, or CPU_WORKERS. on_progress: called in this process, from another thread, with the latest step's
    metrics. Starts a Ray of its own, or joins that of RAY_ADDRESS; one that is up already is used and left up. Carries
    on from the latest checkpoint below `out`; a finished run is not run again and starts no Ray.

    Raises, before any Ray is started, the errors of `loop.train` that the arguments explain; CheckFailed when workers
    died more than RESTARTS times.
    """
    shards = [str(Path(path).resolve()) for path in shards]
    tokenizer, folder = str(Path(tokenizer).resolve()), Path(out).resolve()
    packs = Packs(shards)
    key = run_key or packs.fingerprint()
    workers = workers or torch.cuda.device_count() or CPU_WORKERS
    total_steps = loop.steps_of(config, packs)
    even_share(config.batch_packs, workers)
    last = checkpoint.latest(folder)
    done = 0
    if last:
        loop.same_run(last, config, key, total_steps)
        done = last.progress.step
    if done < total_steps:
        folder.mkdir(parents=True, exist_ok=True)
        with ray_session(workers), _told(folder, on_progress):
            _fit(shards, tokenizer, config, folder, workers, key)
    return loop.summary(folder, done)


def _fit(shards: list[str], tokenizer: str, config: TrainConfig, out: Path, workers: int, key: str) -> None:
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    # Imported here: they take seconds, and not every run needs them.
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError

    logging.getLogger("ray.train").setLevel(logging.ERROR)
    gpus = ray.cluster_resources().get("GPU", 0) > 0
    notes = out / ".ray"  # Ray Train's own notes; ours are the checkpoints
    shutil.rmtree(notes, ignore_errors=True)
    trainer = TorchTrainer(
        partial(_work, shards, tokenizer, config, str(out), key),
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpus, resources_per_worker={"CPU": 1}),
        run_config=RunConfig(
            name="train", storage_path=str(notes), failure_config=FailureConfig(max_failures=RESTARTS)
        ),
    )
    try:
        with _signals_kept():
            trainer.fit()
    except WorkerGroupError as error:
        for cause in error.worker_failures.values():
            told = getattr(cause, "cause", cause)
            if isinstance(told, WinnowError | CheckFailed):
                raise told from None
        raise CheckFailed(f"training gave up after {RESTARTS} restarts of its workers: {error}") from None
    except TrainingFailedError as error:
        raise CheckFailed(f"Ray Train gave up: {error}") from None
    finally:
        shutil.rmtree(notes, ignore_errors=True)


def _work(shards: list[str], tokenizer: str, config: TrainConfig, out: str, key: str, _: dict[str, Any]) -> None:
    """What each worker runs."""
    import ray.train

    def report(metrics: Metrics) -> None:
        if metrics["step"] % config.checkpoint_steps == 0 or metrics["step"] == metrics["total_steps"]:
            ray.train.report(metrics)

    loop.train(shards, tokenizer, config, out, key, report)


@contextlib.contextmanager
def _told(out: Path, on_progress: Callable[[Metrics], None] | None) -> Iterator[None]:
    """Tell `on_progress` of the steps that appear in the run folder, while the block runs and once at its end."""
    if on_progress is None:
        yield
        return
    stop = threading.Event()
    path = out / METRICS

    def look() -> None:
        seen = 0
        while True:
            last = stop.wait(POLL_SECONDS)
            size = path.stat().st_size if path.exists() else 0
            if size != seen and (metrics := last_metrics(out)):
                seen = size
                on_progress(metrics)
            if last:
                return

    thread = threading.Thread(target=look, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Put back the SIGINT handler that Ray Train replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

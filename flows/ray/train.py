"""Train HRM-Text with Ray Train.

Each worker maps the pack shards itself; Ray transfers paths, not rows. (`datasets=` is not used: Ray Data reserves CPUs
of its own, and the job hangs if every CPU has a worker.) The workers run training/loop.py. When one dies, all of them
are started again, and the loop resumes from its latest checkpoint, bit for bit.

The driver reads metrics from metrics.jsonl in the training folder. On a cluster that folder is on shared storage. An
object store gets metrics.jsonl with each checkpoint, so progress is shown at that rate. Workers report to Ray Train at
checkpoints only, because a report blocks until the controller polls.

Workers import this module, so it does not import Prefect, which takes seconds to load.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch

from flows.console import polled
from flows.ray.engine import gpus, joins_cluster, ray_session
from flows.ray.roots import check_shared
from pipelines.errors import CheckFailed, WinnowError
from pipelines.ledger import storage
from training import checkpoint, loop
from training.batches import Packs, check_share
from training.configs import TrainConfig
from training.journal import Metrics, last_metrics
from training.memory import fitting_micro_packs
from training.parallel import this_device

MAX_RESTARTS = 3
"""How often the workers are restarted after one has died. More deaths point to a fault that a restart does not mend."""

CPU_WORKERS = 2
"""Default number of workers on a machine without GPUs. Each uses one CPU."""

POLL_SECONDS = 0.5
"""Interval at which the driver reads metrics.jsonl from a local folder: a console line twice a second."""

REMOTE_POLL_SECONDS = 10.0
"""The same for an object store, where every read is a request and the file changes only with a checkpoint."""

DRIVER_LEASE = ".driver"
"""The folder in a training folder for the lease of this driver: Ray Train's files there are of one driver."""

QUIET = {
    "RAY_TRAIN_METRICS_ENABLED": "0",  # they are not collected, and without a dashboard they warn every second
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # interval at which dead workers are noticed
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
    """Train with Ray Train's TorchTrainer; returns what `loop.train` returns.

    Uses a running Ray if there is one, else joins that of RAY_ADDRESS or starts its own. Resumes from the latest
    checkpoint below `out`. A finished run is not trained again and starts no Ray.

    Args:
        workers: number of workers. Each has its own GPU (NCCL) if Ray has GPUs, else a CPU (gloo). Default: one per GPU
            of the cluster, or of this machine without one; CPU_WORKERS where there are none.
        on_progress: called with the latest step's metrics, in this process, from another thread.

    The other arguments are those of `loop.train`.

    Raises:
        The errors of `loop.train`: those that follow from the arguments before Ray is started.
        InputError: if a node of the cluster does not share `out`.
        CheckFailed: if workers died more than MAX_RESTARTS times, or failed twice at the same step in the same way.
    """
    shards = [storage.absolute(path) for path in shards]
    tokenizer, out = storage.absolute(tokenizer), storage.absolute(out)
    packs = Packs(shards)
    key = run_key or packs.fingerprint()
    total_steps = loop.steps_of(config, packs)
    if not joins_cluster():  # the machines of a cluster are not known here; its workers check their own memory
        workers = workers or torch.cuda.device_count() or CPU_WORKERS
        fitting_micro_packs(config, workers, this_device())
    if workers:
        check_share(config.batch_packs, workers)
    last = checkpoint.latest(out)
    steps_done = 0
    if last:
        loop.check_same_run(last, config, key, total_steps)
        steps_done = last.state.step
    if steps_done < total_steps:
        started = ray_session(workers or CPU_WORKERS)
        with checkpoint.locked(out, DRIVER_LEASE), started, _progress_reported(out, on_progress):
            check_shared(out)
            workers = workers or gpus() or CPU_WORKERS
            check_share(config.batch_packs, workers)
            _fit(shards, tokenizer, config, out, workers, key)
    return loop.summary(out, steps_done)


def _fit(shards: list[str], tokenizer: str, config: TrainConfig, out: str, workers: int, key: str) -> None:
    """Train; restart the workers after a death, and after an exception unless it is the last one at the same step.

    An error of the user's or of the training itself would repeat, so it ends the training at once.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    ray_files = storage.join(out, ".ray")  # Ray Train's own state, not used: the loop resumes from its checkpoints
    last: tuple[int, str] | None = None
    for restarts in range(MAX_RESTARTS + 1):
        storage.remove(ray_files)
        try:
            failure = _fit_once(partial(_train_worker, shards, tokenizer, config, out, key), ray_files, workers)
        finally:
            storage.remove(ray_files)
        if failure is None:
            return
        for error in failure.errors:
            if isinstance(error, WinnowError | CheckFailed):
                raise error from None
        metrics = last_metrics(out)
        at = (metrics["step"] if metrics else 0, failure.text)
        if at == last and not failure.died:
            raise CheckFailed(f"the workers failed twice after step {at[0]} with the same error: {failure.text}")
        if restarts == MAX_RESTARTS:
            raise CheckFailed(f"training stopped after {MAX_RESTARTS} restarts of its workers: {failure.text}")
        last = at


class _Failure(NamedTuple):
    """Why a group of workers ended. died: whether the process of one did, rather than all with exceptions."""

    errors: list[BaseException]
    died: bool
    text: str


def _fit_once(work: Callable[[dict[str, Any]], None], ray_files: str, workers: int) -> _Failure | None:
    # Imported here because they take seconds to load; a finished run does not need them.
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError

    on_gpus = gpus() > 0
    trainer = TorchTrainer(
        work,
        torch_config=TorchConfig(backend="nccl" if on_gpus else "gloo"),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=on_gpus, resources_per_worker={"CPU": 1}),
        run_config=RunConfig(name="train", storage_path=ray_files, failure_config=FailureConfig(max_failures=0)),
    )
    try:
        with _sigint_handler_kept():
            trainer.fit()
    except WorkerGroupError as error:
        failures = list(error.worker_failures.values())
        # Ray wraps what a worker raised in a private class; it has no public way to it. A death is not wrapped.
        raised = [getattr(failure, "_base_exc", None) for failure in failures]
        errors = [cause or failure for cause, failure in zip(raised, failures, strict=True)]
        text = "; ".join(sorted({f"{type(cause).__name__}: {cause}" for cause in errors}))
        return _Failure(errors, None in raised, text)
    except TrainingFailedError as error:
        raise CheckFailed(f"Ray Train failed: {error}") from None
    return None


def _train_worker(
    shards: list[str], tokenizer: str, config: TrainConfig, out: str, key: str, _: dict[str, Any]
) -> None:
    """The function that each worker runs."""
    import ray.train

    def report(metrics: Metrics) -> None:
        if metrics["step"] % config.checkpoint_steps == 0 or metrics["step"] == metrics["total_steps"]:
            ray.train.report(metrics)

    loop.train(shards, tokenizer, config, out, key, report)


@contextlib.contextmanager
def _progress_reported(out: str, on_progress: Callable[[Metrics], None] | None) -> Iterator[None]:
    """Call `on_progress` with new lines of the training folder's metrics.jsonl, during the block and at its end."""
    if on_progress is None:
        yield
        return
    last: Metrics | None = None

    def look() -> None:
        nonlocal last
        metrics = last_metrics(out)
        if metrics and metrics != last:
            last = metrics
            on_progress(metrics)

    with polled(look, POLL_SECONDS if storage.is_local(out) else REMOTE_POLL_SECONDS):
        yield


@contextlib.contextmanager
def _sigint_handler_kept() -> Iterator[None]:
    """Restore the SIGINT handler, which Ray Train replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

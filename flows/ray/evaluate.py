"""How does Ray answer the chunks of an evaluation? Actors load the model once each, and take chunks from a queue."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from flows.ray.engine import MAX_RETRIES, ray_session
from pipelines.errors import CheckFailed
from pipelines.ledger.engine import cpus
from training.evaluation.evaluate import Ask, How, ModelSpec, RunChunks, Worker
from training.evaluation.store import Answered


class _Actor:
    """A worker in a process of Ray."""

    def __init__(self, model: ModelSpec, name: str, how: How, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._worker = Worker(model, name, how)

    def answer(self, number: int, chunk: Sequence[Ask]) -> tuple[int, list[Answered]]:
        return number, self._worker.answer(chunk)


def run_on_actors(model: ModelSpec, name: str, how: How, workers: int | None = None) -> RunChunks:
    """Answer chunks on actors. workers: how many; by default one per GPU of the cluster, or one per node without GPUs.

    The actors share the CPUs of the cluster. An actor that dies is started again, and its chunk with it.
    """

    def run(chunks: Sequence[Sequence[Ask]], on_done: Callable[[int], None]) -> Iterator[tuple[int, list[Answered]]]:
        if not chunks:
            return
        import ray
        from ray.exceptions import RayError, RayTaskError
        from ray.util import ActorPool

        with ray_session(cpus()):
            available = ray.cluster_resources()
            gpus = int(available.get("GPU", 0)) if model.device != "cpu" else 0
            actors = min(workers or gpus or len(ray.nodes()), len(chunks))
            threads = max(1, int(available.get("CPU", 1)) // actors)
            kind: Any = ray.remote(
                num_cpus=threads,
                num_gpus=min(1.0, gpus / actors),
                max_restarts=MAX_RETRIES,
                max_task_retries=MAX_RETRIES,
            )(_Actor)
            pool = ActorPool([kind.remote(model, name, how, threads) for _ in range(actors)])
            try:
                yield from pool.map_unordered(lambda actor, part: actor.answer.remote(*part), list(enumerate(chunks)))
            except RayTaskError as error:
                raise error.cause from None
            except RayError as error:
                raise CheckFailed(
                    f"Ray gave up on an actor after {MAX_RETRIES} restarts: {error}; run the same command again, "
                    "stored answers are not asked again"
                ) from error

    return run

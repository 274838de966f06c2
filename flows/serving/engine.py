"""One thread generates for all requests: it steps a Scheduler as long as there is something to generate."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Literal

from training.inference.generate import TextGenerator
from training.inference.prompt import instruction_prompt
from training.inference.scheduler import Generation, Scheduler

Notify = Callable[[Generation, int, "Literal['stop', 'length', 'none', 'error'] | None"], None]
"""Called in the engine's thread when a sequence has a token more: (sequence, its number of ids, why it ended or None).
`error`: generation failed."""


class QueueFullError(Exception):
    """More sequences than the queue holds."""


class Engine:
    """Generates sequences in `slots` rows of one cache. At most `max_queue` more sequences wait."""

    def __init__(self, generator: TextGenerator, slots: int, max_queue: int) -> None:
        self.generator, self.slots, self.max_queue = generator, slots, max_queue
        self._condition = threading.Condition()
        self._incoming: list[Generation] = []
        self._cancelled: list[Generation] = []
        self._notify: dict[Generation, Notify] = {}  # of the sequences that have not ended
        self._running = True
        self._scheduler = self._new_scheduler()
        self._warm_up()
        self._thread = threading.Thread(target=self._run, name="winnow-engine", daemon=True)
        self._thread.start()

    @property
    def active(self) -> int:
        """Sequences that are being generated."""
        return len(self._scheduler.active)

    @property
    def unfinished(self) -> int:
        """Sequences that are being generated or wait."""
        return len(self._notify)

    @property
    def cache_bytes(self) -> int:
        """Bytes of the keys and values of all slots."""
        cache = self._scheduler.cache
        return sum(tensor.numel() * tensor.element_size() for tensor in (cache.keys, cache.values))

    def submit(self, generations: Sequence[Generation], notify: Notify) -> None:
        """Generate all of these sequences.

        Raises:
            QueueFullError: if they are more than can wait. None of them is generated.
        """
        with self._condition:
            if self.unfinished + len(generations) > self.slots + self.max_queue:
                raise QueueFullError
            self._notify |= dict.fromkeys(generations, notify)
            self._incoming += generations
            self._condition.notify()

    def cancel(self, generations: Sequence[Generation]) -> None:
        """Stop those of the sequences that have not ended. Their slots are free after the step in progress."""
        with self._condition:
            cancelled = [generation for generation in generations if self._notify.pop(generation, None)]
            self._cancelled += cancelled
            self._condition.notify()

    def close(self) -> None:
        """End the thread after the step in progress."""
        with self._condition:
            self._running = False
            self._condition.notify()
        self._thread.join()

    def _new_scheduler(self) -> Scheduler:
        generator = self.generator
        return Scheduler(generator.runner, self.slots, generator.context, generator.special["eoa"])

    def _warm_up(self) -> None:
        """Load the kernels, so that the first request does not wait for them."""
        self._scheduler.submit(Generation(instruction_prompt([self.generator.special["boq"]]), 2))
        while self._scheduler.busy:
            self._scheduler.step()

    def _run(self) -> None:
        while True:
            with self._condition:
                while self._running and not (self._incoming or self._cancelled or self._scheduler.busy):
                    self._condition.wait()
                if not self._running:
                    return
                for generation in self._incoming:
                    self._scheduler.submit(generation)
                for generation in self._cancelled:
                    self._scheduler.cancel(generation)
                self._incoming, self._cancelled = [], []
            try:
                progressed = self._scheduler.step()
            except Exception:  # out of memory, for example: the requests fail, the server goes on
                traceback.print_exc()
                self._fail_all()
                continue
            for generation in progressed:
                notify = self._notify.get(generation)
                if notify:
                    notify(generation, len(generation.ids), generation.finish)
                if generation.finish:
                    self._notify.pop(generation, None)

    def _fail_all(self) -> None:
        with self._condition:
            failed = [*self._scheduler.active.values(), *self._scheduler.waiting]
            self._scheduler = self._new_scheduler()
            for generation in failed:
                if notify := self._notify.pop(generation, None):
                    notify(generation, len(generation.ids), "error")

"""What a person sees while a training goes on."""

from __future__ import annotations

from flows.console import Console

METRICS = {
    "step": 400, "total_steps": 500, "loss": 1.2345, "token_accuracy": 0.61, "sequence_accuracy": 0.25,
    "grad_norm": 0.875, "tokens_per_second": 5120.0, "mfu": 0.37, "input_wait": 0.004, "memory": 1_250_000_000,
}  # fmt: skip


def test_the_bar_tells_all_that_was_measured() -> None:
    console = Console(quiet=True)
    console.trained(METRICS)
    (task,) = console.bars.tasks
    for word in (
        "loss 1.234",
        "61% of tokens",
        "25% of answers",
        "gradient 0.88",
        "5,120 tokens/s",
        "MFU 37%",
        "1.2 GB",
    ):
        assert word in task.fields["words"]
    assert (task.completed, task.total) == (400, 500)


def test_steps_that_an_earlier_start_did_do_not_count_as_speed() -> None:
    console = Console(quiet=True)
    console.trained(METRICS)
    console.trained(METRICS | {"step": 401})
    (task,) = console.bars.tasks
    assert task.completed == 401
    assert sum(sample.completed for sample in task._progress) == 1  # what the remaining time is reckoned from

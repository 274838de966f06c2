"""HRM against a Transformer at equal training FLOPs, on the generated benchmark.

The published comparison (arXiv 2605.20613, table 3: 1 B parameters, 1e21 FLOPs) in small: the shape of `tiny`, the demo
recipe's corpus with more epochs, and as many steps for each as the operations of 500 steps of HRM buy
(training/cost.py). Both have the same parameters; the Transformer runs through them once and HRM four times, so it sees
2.5 times as many tokens.

Both are tuned alike. Each is trained with every learning rate of the budget and the same seeds; the warm-up and the
span of the moving average are the same share of the steps. The rate with the lowest mean loss on rows held out is
taken. Scores are of 300 items, greedy, from the moving average; the mean over seeds, and the lowest and highest.

It takes about forty minutes of one core, so `make bench` leaves it out. What has been trained stays in
winnow-data/benchmarks and is not trained again.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from pipelines.curate import Corpus, curate
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from pipelines.recipe import BenchmarkSpec, load
from pipelines.steps.benchmark_index import benchmark_items
from pipelines.steps.pack import pack_files
from training import loop
from training.batches import Packs
from training.configs import Objective, TrainConfig, tiny
from training.cost import mean_flops_per_token
from training.evaluation.evaluate import ModelSpec, evaluate
from training.journal import read_metrics
from training.model import Architecture

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "winnow-data" / "benchmarks"
ITEMS = 300
ARCHITECTURES: tuple[Architecture, ...] = ("hrm", "transformer")
OBJECTIVES: dict[Objective, str] = {
    "prefix_lm": "P(a given q), PrefixLM",
    "causal": "P(a given q), causal",
    "causal_all": "P(x), causal",
}
WARMUP_SHARE, AVERAGE_SHARE = 0.06, 0.1
"""Shares of the steps: of the warm-up, and of the steps that the moving average spans. Those of `tiny`."""


class Budget(NamedTuple):
    """What is trained with the operations of so many steps of HRM. rates: tried with the first objective."""

    steps: int
    rates: tuple[float, ...]
    seeds: tuple[int, ...]
    objectives: tuple[Objective, ...]


BUDGETS = (Budget(500, (5e-4, 1e-3, 2e-3), (0, 1, 2), ("prefix_lm", "causal", "causal_all")),)


class Result(NamedTuple):
    """A trained model: its share of right answers, held-out loss (nats per label), steps, tokens and operations."""

    right: float
    loss: float
    steps: int
    tokens: int
    flops: float
    parameters: int


def bench(data: Path | None) -> dict[str, list[dict[str, object]]]:
    """Two tables: the rates tried, and the models with the best of them; `data` is not used."""
    torch.set_num_threads(1)
    made = corpus()
    tried: list[dict[str, object]] = []
    best: list[dict[str, object]] = []
    for budget in BUDGETS:
        for architecture in ARCHITECTURES:
            first = budget.objectives[0]
            losses = {}
            for rate in budget.rates:
                results = [one(made, architecture, first, seed, budget.steps, rate) for seed in budget.seeds]
                losses[rate] = statistics.mean(result.loss for result in results)
                tried.append(_row(architecture, first, rate, results))
            rate = min(losses, key=losses.__getitem__)
            for objective in budget.objectives:
                results = [one(made, architecture, objective, seed, budget.steps, rate) for seed in budget.seeds]
                best.append(_row(architecture, objective, rate, results))
    return {"Learning rates": tried, "With the best rate of each": best}


def _row(architecture: Architecture, objective: Objective, rate: float, results: Sequence[Result]) -> dict[str, object]:
    right = [100 * result.right for result in results]
    row: dict[str, object] = {
        "model": architecture,
        "objective": OBJECTIVES[objective],
        "rate": f"{rate:g}",
        "parameters": results[0].parameters,
        "steps": results[0].steps,
        "tokens": results[0].tokens,
        "FLOPs": f"{results[0].flops:.2e}",
        "held-out loss": f"{statistics.mean(result.loss for result in results):.3f}",
        "right, %": statistics.mean(right),
        "lowest": min(right),
        "highest": max(right),
        "seeds": len(right),
    }
    print(f"  {row}", file=sys.stderr, flush=True)
    return row


def corpus() -> Corpus:
    """The demo recipe's corpus with epochs enough for the Transformer, made or found."""
    recipe = load(str(ROOT / "pipelines" / "recipes" / "demo.yaml"), ("sampling.epochs=24",))
    return curate(Run(str(FOLDER), LocalEngine()), recipe)


def configure(
    packs: Packs, architecture: Architecture, objective: Objective, seed: int, hrm_steps: int, rate: float
) -> TrainConfig:
    """`tiny` with that architecture, objective, seed and rate, and as many steps as the operations of `hrm_steps` of
    HRM buy."""
    hrm = tiny(packs.info.vocab_size, packs.info.context)
    chosen = hrm.model_copy(update={"model": hrm.model.model_copy(update={"architecture": architecture})})
    steps = round(hrm_steps * mean_flops_per_token(hrm) / mean_flops_per_token(chosen))
    return chosen.model_copy(
        update={
            "steps": steps,
            "warmup_steps": round(WARMUP_SHARE * steps),
            "ema_decay": 1 - 1 / (AVERAGE_SHARE * steps),
            "seed": seed,
            "objective": objective,
            "lr": rate,
            "checkpoint_steps": 10_000,
            "validation_steps": 10_000,
            "keep": 1,
        }
    )


def one(
    made: Corpus, architecture: Architecture, objective: Objective, seed: int, hrm_steps: int, rate: float
) -> Result:
    """Train (or find) one model and score it."""
    assert made.packs is not None and made.tokenizer is not None
    shards = [shard.path for shard in pack_files(made.packs)]
    config = configure(Packs(shards), architecture, objective, seed, hrm_steps, rate)
    folder = str(FOLDER / "comparison" / f"{architecture}-{objective}-{rate:g}-{config.steps}-{seed}")
    done = loop.train(shards, made.tokenizer.file("tokenizer").path, config, folder)
    assert done["steps"] == config.steps, "the corpus has too few epochs"
    items = benchmark_items(BenchmarkSpec(name="generated", rows=ITEMS))
    score = evaluate(ModelSpec(folder), "generated", items).all
    return Result(
        right=score.correct / score.n,
        loss=read_metrics(folder)[-1]["validation_loss"],
        steps=done["steps"],
        tokens=done["tokens"],
        flops=done["tokens"] * mean_flops_per_token(config),
        parameters=sum(p.numel() for p in loop.build(config.model, 0).parameters()),
    )
